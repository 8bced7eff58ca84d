//! What the packet path may ask of the world.

use crate::abi::{
    Backend, Bound, FragmentKey, Fragments, Interface, Owner, PortKey, Position, PublicIp, Reverse,
    Rule, Settings, SnatRange, Trial, VlanKey, Way, WayKey,
};
use crate::family::Family;
use crate::flow::{Direction, Flow, FlowKey, FlowRef, Hop, SetRef, Untrusted};
use crate::pipeline::{self, News};
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
    /// Out of the interface with this number, to a neighbour that is not resolved yet.
    NoNeighbor(u32),
    /// Somewhere the kernel must see to: an interface that is not attached, a tunnel.
    Kernel,
    /// Out of an interface or route with this smaller MTU, bytes.
    TooBig(u32),
    /// Nowhere.
    None,
}

/// Kinds of answers, each limited by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum AnswerKind {
    /// Echo replies.
    Echo,
    /// ICMP errors.
    Error,
    /// TCP RSTs.
    Reset,
}

/// Answers to one group of askers in the running second.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// When it began, jiffies.
    pub since: u64,
    /// Answers given in it.
    pub given: u64,
}

/// Groups of askers; a power of two.
pub const ASKERS: u32 = 256;

/// What each CPU remembers by itself.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerCpu {
    /// The [`Reason`] that the sender of the packet at hand is to be told.
    pub complaint: u32,
    /// MTU that goes with it, bytes.
    pub mtu: u32,
    /// The reason that the packet at hand is counted under once it has its tags.
    pub leaves: u32,
    /// Slot of the interface that it leaves by.
    pub slot: u32,
    /// Where the first fragment at hand lies in its packet, as in [`crate::abi::Fragments::stretches`]; 0: it
    /// is none.
    pub first: u32,
    /// Identification of that packet, raw.
    pub identification: u32,
    /// Where the header above IP of the packet at hand begins, bytes from the start of the frame; 0: it has
    /// none, being a later fragment.
    pub transport: u32,
    /// How many ring slots were tried in vain for it.
    pub attempt: u32,
    /// How often it has begun anew because another CPU was at its reply key.
    pub waits: u32,
    /// Flags of its TCP header, and above them whether an outsider sends to a port that instances go out by.
    pub flags: u32,
    /// Answers, by kind and asker.
    pub windows: [Window; 3 * ASKERS as usize],
}

impl Default for PerCpu {
    fn default() -> Self {
        Self {
            complaint: 0,
            mtu: 0,
            leaves: 0,
            slot: 0,
            first: 0,
            identification: 0,
            transport: 0,
            attempt: 0,
            waits: 0,
            flags: 0,
            windows: [Window::default(); 3 * ASKERS as usize],
        }
    }
}

/// Tables without addresses in them.
pub trait Shared {
    /// The settings; `None` until the daemon has written them.
    fn settings(&self) -> Option<&Settings>;
    /// The time, jiffies.
    fn now(&self) -> u64;
    /// What a single port of a frontend address is bound to.
    fn port(&self, key: &PortKey) -> Option<&Bound>;
    /// What the smallest range with a port of a frontend address is bound to.
    fn port_range(&self, key: &PortKey) -> Option<&Bound>;
    /// A binding, active or not.
    fn binding(&self, id: u32) -> Option<&Rule>;
    /// What a ring slot holds; 0 or `None`: nobody.
    fn ring_slot(&self, ring: u32, slot: u32) -> Option<u32>;
    /// Who has a place of a spread; 0 or `None`: nobody.
    fn spread_place(&self, spread: u32, place: u32) -> Option<u32>;
    /// An attached interface.
    fn interface(&self, slot: u32) -> Option<&Interface>;
    /// Slot of an attached interface.
    fn interface_slot(&self, ifindex: u32) -> Option<u32>;
    /// Slot of the VLAN device that takes such frames.
    fn vlan_slot(&self, key: &VlanKey) -> Option<u32>;
    /// Looks at what this CPU remembers.
    fn per_cpu<R>(&self, look: impl FnOnce(&mut PerCpu) -> R) -> Option<R>;
    /// When a source may next open a flow, as [`crate::pipeline`] writes it, in one of
    /// [`crate::abi::SOURCES`] places.
    fn source(&self, place: u32) -> Option<u64>;
    /// Writes it.
    fn set_source(&self, place: u32, word: u64);
    /// Takes one of [`crate::abi::LOCKS`] locks; false when another CPU holds it for too long.
    fn lock(&self, number: u32) -> bool;
    /// Gives it back.
    fn unlock(&self, number: u32);
    /// A random word; in tests it follows from the time.
    fn random(&self) -> u32;
    /// Where a search for a free port stands, in one of [`crate::abi::POSITIONS`] places.
    fn position(&self, place: u32) -> Option<Position>;
    /// Writes it.
    fn set_position(&self, place: u32, position: Position);
    /// What a trial of the node's own is known by, in one of [`crate::abi::TRIALS`] places.
    fn trial(&self, place: u32) -> Option<&Trial>;
    /// Writes what became of its SYN: [`Trial::verdict`].
    fn note_trial(&self, place: u32, verdict: u32);
    /// Writes how it was answered: [`Trial::answer`].
    fn note_trial_answer(&self, place: u32, answer: u32);
    /// A word of the [`crate::balance::filter`].
    fn address_filter(&self, word: u32) -> u64;
    /// Runs something with the former flow table in the place of the flow table, where one program does both.
    fn in_former<R>(&self, run: impl FnOnce() -> R) -> R {
        run()
    }
    /// Counts a packet under a reason.
    fn count(&self, reason: Reason);
    /// Counts a packet of a rule.
    fn count_rule(&self, rule: u32, direction: Direction, bytes: u32);
    /// Counts a new flow of a rule.
    fn count_new_flow(&self, rule: u32);
}

/// Room for what packets without a trusted flow need: too large for the kernel's stack. The program of one daemon hands
/// it to stages of the next, so its layout is among those of [`crate::abi::LAYOUT_VERSION`].
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Scratch<A> {
    /// Key of the packet at hand.
    pub key: FlowKey<A>,
    /// Another key.
    pub other: FlowKey<A>,
    /// And another one.
    pub third: FlowKey<A>,
    /// The packet's direction of its untrusted flow.
    pub own: Untrusted<A>,
    /// The other direction.
    pub pair: Untrusted<A>,
    /// What an instance's new flow goes out as.
    pub search: Search<A>,
}

/// The search for the public address and port of an instance's new flow.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Search<A> {
    /// The way out.
    pub way: Way,
    /// Whose way it is, raw.
    pub source: A,
    /// Where the flow goes, raw: the destination or, for a frontend or public IP, who is behind it.
    pub destination: A,
    /// The public address at hand, raw.
    pub address: A,
    /// Port where the flow goes, host byte order.
    pub destination_port: u32,
    /// The port at hand, host byte order.
    pub port: u32,
    /// Kind of the flow, without its direction.
    pub kind: u32,
    /// Number of the port where the lap began, in the own ranges or in the shared ones.
    pub start: u32,
    /// Ports tried in this lap.
    pub tried: u32,
    /// Number of the range at hand.
    pub range: u32,
    /// Whether the lap has come to the shared ranges.
    pub in_burst: u32,
    /// Whether a port is sought for a mapping, else for a flow.
    pub for_mapping: u32,
    /// Who may send to the mapping that the flow goes to, as the bits of its kind; 0: it goes to none.
    pub door: u32,
    /// How it ended.
    pub found: u32,
    /// What is like random about source and destination.
    pub spread: u32,
    /// Ports of the ranges before the one where the lap began, which it goes over first.
    pub home_before: u32,
    /// Ports of that range.
    pub home_count: u32,
}

/// Pairs of addresses that each CPU remembers.
pub const RECENT_PAIRS: u32 = 1 << 12;

/// What a packet between two addresses, one of which is or has a public IP, becomes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RecentPair<A> {
    /// What it becomes; ports are those of the packet at hand.
    pub flow: Flow<A>,
    /// Its source, raw.
    pub source: A,
    /// Its destination, raw.
    pub destination: A,
    /// Number of the interface that it came in by.
    pub device: u32,
    /// [`crate::abi::Settings::generation`] of the tables that said so.
    pub generation: u32,
}

/// Tables of one family.
pub trait Tables<A: Family>: Shared {
    /// [`pipeline::settle`], which a verifier may be made to follow once and by itself, as the next ones.
    fn settle(&self, news: &News, pair_is_at_hand: bool)
    where
        Self: Sized,
    {
        pipeline::settle(self, news, pair_is_at_hand);
    }
    /// [`pipeline::record`].
    fn record(&self, flow: FlowRef<'_, A>, protocol_events: u32, sequence: u32)
    where
        Self: Sized,
    {
        pipeline::record(self, flow, protocol_events, sequence);
    }
    /// [`pipeline::touch`].
    fn touch(&self, flow: FlowRef<'_, A>, protocol: u32)
    where
        Self: Sized,
    {
        pipeline::touch(self, flow, protocol);
    }
    /// [`pipeline::range_of`].
    fn range_of(&self, first: u32, ranges: u32, ordinal: u32) -> u32
    where
        Self: Sized,
    {
        pipeline::range_of(self, first, ranges, ordinal)
    }
    /// The entry under a key.
    fn flow(&self, key: &FlowKey<A>) -> Option<FlowRef<'_, A>>;
    /// Inserts an entry only if the key is free, in the former flow table too; this is what makes a tuple
    /// ours.
    ///
    /// # Errors
    /// The key is taken, or the table is full.
    fn insert(&self, key: &FlowKey<A>, flow: &Flow<A>) -> Result<(), InsertError>;
    /// Removes an entry if it is there.
    fn remove(&self, key: &FlowKey<A>);
    /// Whether the former flow table has taken the place of the flow table.
    fn is_former(&self) -> bool {
        false
    }
    /// The entry under a key of the former flow table, from which flows still move.
    fn former(&self, _key: &FlowKey<A>) -> Option<FlowRef<'_, A>> {
        None
    }
    /// Copies an entry of the former flow table into the flow table.
    ///
    /// # Errors
    /// The key is taken there, or the table is full.
    fn carry(&self, _key: &FlowKey<A>) -> Result<(), InsertError> {
        Err(InsertError::Taken)
    }
    /// Removes an entry of the former flow table if it is there.
    fn remove_former(&self, _key: &FlowKey<A>) {}
    /// Entries in the flow table.
    fn occupied(&self) -> u64;
    /// A set of the table of untrusted flows.
    fn untrusted_set(&self, number: u32) -> Option<SetRef<'_, A>>;
    /// The frontend and port that alone have their flows with a port of an instance (host byte order), over
    /// TCP.
    fn reverse(&self, instance: A, port: u16) -> Option<&Reverse<A>>;
    /// How a source goes out.
    fn way(&self, key: &WayKey<A>) -> Option<&Way>;
    /// A range of SNAT ports.
    fn snat_range(&self, number: u32) -> Option<&SnatRange<A>>;
    /// Counts a flow that got a port.
    fn count_opened(&self, key: &WayKey<A>);
    /// Counts a packet to `destination` and its port (host byte order) for which `address` had none.
    fn count_refused(&self, key: &WayKey<A>, destination: A, port: u16, address: A);
    /// The other address of a public IP or of an instance that has one.
    fn public_ip(&self, address: A) -> Option<&PublicIp<A>>;
    /// Keeps the next hop towards the instance of a public IP.
    fn keep_public_hop(&self, address: A, hop: u64, stamp: u64);
    /// Tries candidates for a free port, as [`crate::pipeline::candidate`] does, until one says that it was the
    /// last.
    fn search(&self, times: u32);
    /// What an address is to this node.
    fn owner(&self, address: A) -> Option<&Owner>;
    /// A member's address.
    fn backend(&self, id: u32) -> Option<&Backend<A>>;
    /// Looks at what is known of the packet that a fragment belongs to.
    fn fragments<R>(
        &self,
        key: &FragmentKey<A>,
        look: impl FnOnce(&mut Fragments) -> R,
    ) -> Option<R>;
    /// Remembers a packet that comes in fragments; the one that was met longest ago may be forgotten.
    fn remember_fragments(&self, key: &FragmentKey<A>, fragments: &Fragments);
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
    /// What this CPU remembers in one of [`RECENT_PAIRS`] places.
    ///
    /// # Safety
    /// The reference is exclusive: while it or what was made of it lives, the place is not asked for again.
    #[expect(
        clippy::mut_from_ref,
        reason = "per-CPU memory, exclusive by the contract above"
    )]
    unsafe fn recent_pair(&self, place: u32) -> Option<&mut RecentPair<A>>;
    /// The host's route for a packet with this (translated) key.
    fn route(&self, key: &FlowKey<A>, length: u32, ingress_ifindex: u32) -> Route;
}
