//! What frontends' addresses are to the node: whose ARP, NDP and echo it answers, and what is the
//! host's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use forebay_common::abi::Owner;

use super::advertise::link_of;
use super::desired::Inputs;
use super::ids::Bits;
use super::outbound::snat_addresses;
use super::state::TableState;

/// What decides over echo requests, by id of the frontend's address.
pub(super) type Services = BTreeMap<u32, Service>;

/// What decides over echo requests to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// No rule.
    None,
    /// Rules, and none of them has a member.
    Down,
    /// A rule with a member.
    Up,
}

/// Roles of a frontend's address.
fn roles(shared: bool, ping: bool, service: Service) -> u32 {
    let more = match (shared, ping, service) {
        // The kernel answers for its own addresses.
        (true, _, _) => Owner::SHARED,
        (false, true, Service::Up) => Owner::ECHO,
        (false, true, Service::Down) => Owner::ECHO_UNREACHABLE,
        (false, false, _) | (false, true, Service::None) => 0,
    };
    Owner::FRONTEND | more
}

impl Inputs<'_> {
    /// Configured frontends, and retired ones, whose last flows still need their address. Their rules
    /// decide what pings are told.
    pub(super) fn add_frontends(&self, state: &mut TableState, services: &Services) {
        let mut configured = BTreeSet::new();
        let snat = snat_addresses(self.config);
        for frontend in &self.config.frontends {
            for address in frontend.every_address() {
                configured.insert(address);
                let more = if snat.contains(&address) {
                    Owner::SNAT
                } else {
                    0
                };
                self.add_frontend(state, address, frontend.shared, |id| {
                    let service = services.get(&id).copied().unwrap_or(Service::None);
                    roles(frontend.shared, frontend.ping, service) | more
                });
            }
        }
        let retired = self.ids.frontends.retired();
        for address in retired.filter(|address| !configured.contains(*address)) {
            if is_public_ip(state, *address) {
                continue;
            }
            // A host never loses its own address to what was once configured.
            let shared = self.was_shared(*address);
            self.add_frontend(state, *address, shared, |_| {
                roles(shared, false, Service::None)
            });
        }
    }

    fn add_frontend(
        &self,
        state: &mut TableState,
        address: IpAddr,
        shared: bool,
        roles: impl Fn(u32) -> u32,
    ) {
        let Some(id) = self.ids.frontends.get(&address) else {
            return;
        };
        let owner = match Bits::from(address) {
            Bits::V4(address) => state.v4.addresses.entry(address).or_default(),
            Bits::V6(address) => state.v6.addresses.entry(address).or_default(),
        };
        owner.roles |= roles(id);
        owner.id = id;
        owner.on_link = if shared { 0 } else { self.on_link(address) };
    }

    /// The interface on whose link an address is answered for, as a set of slots.
    pub(super) fn on_link(&self, address: IpAddr) -> u64 {
        if !self.advertises {
            return 0;
        }
        let link = link_of(address, self.host);
        let slot = link.and_then(|interface| self.ids.slots.get(&interface.name));
        slot.map_or(0, |slot| 1 << slot)
    }

    fn was_shared(&self, address: IpAddr) -> bool {
        let owner = match Bits::from(address) {
            Bits::V4(address) => self.applied.v4.addresses.get(&address),
            Bits::V6(address) => self.applied.v6.addresses.get(&address),
        };
        owner.is_some_and(|owner| owner.roles & Owner::SHARED != 0)
    }
}

/// Whether an address is that of a public IP now, whatever it was before.
fn is_public_ip(state: &TableState, address: IpAddr) -> bool {
    let owner = match Bits::from(address) {
        Bits::V4(address) => state.v4.addresses.get(&address),
        Bits::V6(address) => state.v6.addresses.get(&address),
    };
    owner.is_some_and(|owner| owner.roles & Owner::PUBLIC_IP != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echo_is_answered_as_the_members_are() {
        let echo = |ping, service| roles(false, ping, service) & !Owner::FRONTEND;
        assert_eq!(echo(true, Service::Up), Owner::ECHO);
        assert_eq!(echo(true, Service::Down), Owner::ECHO_UNREACHABLE);
        assert_eq!(echo(true, Service::None), 0);
        for service in [Service::Up, Service::Down, Service::None] {
            assert_eq!(echo(false, service), 0);
        }
    }

    #[test]
    fn the_kernel_answers_for_a_shared_address() {
        for ping in [true, false] {
            for service in [Service::Up, Service::Down, Service::None] {
                assert_eq!(roles(true, ping, service), Owner::FRONTEND | Owner::SHARED);
            }
        }
    }
}
