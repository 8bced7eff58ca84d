//! What the packet path may ask of the world.

use crate::abi::{Backend, Interface, Owner, Rule, RuleKey, Settings};
use crate::family::Family;
use crate::flow::{Direction, Flow, FlowKey, FlowRef, Hop};
use crate::reason::Reason;

/// Why an entry was not inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InsertError {
    /// The key is in the table already.
    Taken,
    /// No room.
    Full,
}

/// Answer of the host's routing to "where does this packet go?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Out of an attached interface, to a known neighbour.
    Hop(Hop),
    /// To the host itself.
    Local,
    /// Somewhere the kernel must see to: unknown neighbour, interface that is not attached, tunnel.
    Kernel,
    /// Out of an interface or route with a smaller MTU.
    TooBig,
    /// Nowhere.
    None,
}

/// Tables without addresses in them.
pub trait Shared {
    /// The settings; `None` until the daemon has written them.
    fn settings(&self) -> Option<&Settings>;
    /// The time, jiffies.
    fn now(&self) -> u64;
    /// The rule on a port of a frontend address.
    fn rule(&self, key: &RuleKey) -> Option<&Rule>;
    /// What a ring slot holds; 0 or `None`: nobody.
    fn ring_slot(&self, ring: u32, slot: u32) -> Option<u32>;
    /// An attached interface.
    fn interface(&self, slot: u32) -> Option<&Interface>;
    /// Slot of an attached interface.
    fn interface_slot(&self, ifindex: u32) -> Option<u32>;
    /// A word of the [`crate::balance::filter`].
    fn address_filter(&self, word: u32) -> u64;
    /// Counts a packet under a reason.
    fn count(&self, reason: Reason);
    /// Counts a packet of a rule.
    fn count_rule(&self, rule: u32, direction: Direction, bytes: u32);
    /// Counts a new flow of a rule.
    fn count_new_flow(&self, rule: u32);
}

/// Room for what a first packet builds: too large for the kernel's stack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Scratch<A> {
    /// Key of the answers.
    pub reply: FlowKey<A>,
    /// Key of the other direction of a flow that was met.
    pub other: FlowKey<A>,
    /// Entry to be inserted.
    pub flow: Flow<A>,
}

/// Tables of one family.
pub trait Tables<A: Family>: Shared {
    /// The entry under a key.
    fn flow(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>>;
    /// Inserts an entry only if the key is free; this is what makes a tuple ours.
    ///
    /// # Errors
    /// The key is taken, or the table is full.
    fn insert(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError>;
    /// Removes an entry if it is there.
    fn remove(&self, key: &FlowKey<A>);
    /// What an address is to this node.
    fn owner(&self, address: A) -> Option<&Owner>;
    /// A member's address.
    fn backend(&self, id: u32) -> Option<&Backend<A>>;
    /// Whether an address is in the virtual network.
    fn in_virtual_network(&self, address: A) -> bool;
    /// This CPU's scratch space.
    ///
    /// # Safety
    /// The reference is exclusive: it is taken once in the handling of a packet.
    #[expect(
        clippy::mut_from_ref,
        reason = "per-CPU memory, exclusive by the contract above"
    )]
    unsafe fn scratch(&self) -> Option<&mut Scratch<A>>;
    /// The host's route for a packet with this (translated) key.
    fn route(&self, key: &FlowKey<A>, length: u32, ingress_ifindex: u32) -> Route;
}
