//! Random tables, and random changes of them.

use std::sync::{Arc, LazyLock};

use crate::chance::Chance;
use crate::frame::{TCP, UDP};
use crate::network::plan::{
    CLIENT, CLIENT_2, FRONTEND, FRONTEND_2, INSTANCES, LOCAL_CLIENT, ONE_ARM_CLIENT,
};
use crate::network::{Host, IpVersion};
use crate::world::{
    BACKENDS, CAPACITY, Half, Outward, Pair, World, next_generation, ring_of, set_idle,
    weighted_ring,
};
use forebay_common::abi::{Interface, Owner, Rule, Settings, Trial, Way};
use forebay_common::family::V6;
use forebay_common::flow::{FlowKind, Seen, Timeouts, marks};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_common::wire::Mac;

/// A few rings, under the ids after [`FIRST_RING`]. Filling one in the kernel takes longer than a sequence, and
/// putting one in its place waits for all CPUs, so most sequences change which rule has which.
static RINGS: LazyLock<Vec<Arc<[u32]>>> = LazyLock::new(|| {
    let mut rings: Vec<_> = BACKENDS.iter().map(|(id, _)| ring_of(*id)).collect();
    rings.extend([
        weighted_ring(&[(1, 1), (2, 1), (3, 1), (4, 1)]),
        weighted_ring(&[(1, 1), (2, 1)]),
        weighted_ring(&[(1, 1), (2, 3), (12, 2)]),
        weighted_ring(&[(1, 1), (0, 1), (3, 1)]),
        weighted_ring(&[(1, 2), (11, 1), (14, 1), (15, 1), (18, 1), (60_000, 1)]),
        weighted_ring(&[]),
    ]);
    rings
});

/// The ring over the first four instances.
const GOOD_RING: u32 = FIRST_RING + BACKENDS.len() as u32;
/// Ids of other rings are below.
const FIRST_RING: u32 = 200;

/// The source of the node's own trials.
pub(super) const TRIALS: Host = Host::new([192, 0, 0, 8], [0x100, 0, 0, 0, 0, 0, 0, 8]);
/// The MAC address that they come from.
pub(super) const TRIAL_MAC: [u8; 6] = [2, 7, 1, 8, 2, 8];
/// Their ports.
pub(super) const TRIAL_PORTS: std::ops::Range<u16> = 60_000..60_003;

fn any_ring(chance: &mut Chance) -> u32 {
    FIRST_RING + chance.below(RINGS.len() as u64) as u32
}

/// Tables to begin a sequence with.
pub fn scene(chance: &mut Chance) -> World {
    if chance.one_in(60) {
        return World::unconfigured();
    }
    let mut world = World::default();
    let settings = world.settings_mut();
    // Short, so that a sequence sees flows end.
    settings.timeouts = Timeouts {
        tcp_half_open: chance.within(1, 150) as u32,
        tcp_fin: chance.within(1, 100) as u32,
        tcp_rst: chance.within(1, 60) as u32,
        udp_unreplied: chance.within(1, 150) as u32,
        icmp_idle: 60,
    };
    settings.untrusted_mask = *chance.pick(&[0, 7, UNTRUSTED_SETS - 1]);
    if chance.one_in(4) {
        settings.new_flow_cost = settings.second * Settings::COSTS / chance.within(1, 6) as u32;
    }
    settings.grace = *chance.pick(&[0, 1, 10]);
    settings.hop_lifetime = *chance.pick(&[0, 10, 1_000]);
    let idle = *chance.pick(&[3, 100, 2_000]);
    world.each_rule(|rule| set_idle(rule, idle));
    if chance.one_in(2) {
        world.add_forms();
    }
    world.rings = (FIRST_RING..).zip(RINGS.iter().map(Arc::clone)).collect();
    // Often good members, so that most packets get through.
    let good = GOOD_RING * u32::from(chance.one_in(2));
    let rings = (world.rules.values_mut()).chain(world.ranges.values_mut());
    for rule in rings.filter(|rule| rule.way == Rule::RING) {
        let ring = any_ring(chance);
        rule.targets = [if good == 0 { ring } else { good }; 2];
    }
    answer(&mut world, chance);
    for _ in 0..chance.below(4) {
        disturb(&mut world, chance);
    }
    for _ in 0..chance.below(12) {
        let pair = flow(chance, world.now());
        world.add(&pair);
        if chance.one_in(6) {
            halve(&mut world, chance);
        }
    }
    if chance.one_in(5) {
        crowd(&mut world, chance);
    }
    world
}

/// The same, where instances may have ways out, and the node tries its rules.
pub fn scene_with_ways(chance: &mut Chance) -> World {
    let mut world = scene(chance);
    let mac = Mac::from_octets(TRIAL_MAC);
    for port in TRIAL_PORTS {
        let trial = Trial {
            port: port.into(),
            mac_head: mac.head,
            mac_tail: mac.tail.into(),
            acknowledged: 1_000,
            ..Trial::default()
        };
        world.trials.insert(Trial::place(port), trial);
    }
    if world.settings.is_some() && !chance.one_in(4) {
        go_out(&mut world, chance);
    }
    world
}

/// Changes something, ways out among it; says what.
pub fn disturb_ways(world: &mut World, chance: &mut Chance) -> String {
    if world.settings.is_none() || !chance.one_in(7) {
        return disturb(world, chance);
    }
    world.settings_mut().generation = next_generation();
    if chance.one_in(2) {
        world.v4.ways.clear();
        world.v6.ways.clear();
    } else {
        go_out(world, chance);
    }
    "change of ways ".to_owned()
}

/// What the frontends are to those that ping them, and to the host.
fn answer(world: &mut World, chance: &mut Chance) {
    for host in [FRONTEND, FRONTEND_2] {
        let roles = *chance.pick(&[
            0,
            Owner::ECHO,
            Owner::ECHO,
            Owner::ECHO_UNREACHABLE,
            Owner::SHARED | Owner::ECHO,
        ]);
        world.each_owner(host, |owner| owner.roles = Owner::FRONTEND | roles);
    }
}

/// Who has a way out, and which: few ports, so that they run out.
fn go_out(world: &mut World, chance: &mut Chance) {
    let flags = [
        0,
        Way::TCP_RESET,
        Way::ENDPOINT_INDEPENDENT,
        Way::ENDPOINT_INDEPENDENT | Way::OPEN_TO_ALL,
        Way::ENDPOINT_INDEPENDENT | Way::OPEN_TO_CONTACTED,
        Way::LOWEST,
        Way::FILL,
        Way::RANDOM,
    ];
    if !chance.one_in(4) {
        // Else most of what instances send stays inside.
        world.v4.virtual_network.clear();
        world.v6.virtual_network.clear();
    }
    for instance in &INSTANCES[..chance.within(1, 4) as usize] {
        let first = *chance.pick(&[2_000, 2_000, 2_004, 60_000]);
        let last = first + *chance.pick(&[0, 0, 1, 7, 200]);
        let mut outward = Outward::by(*chance.pick(&[FRONTEND, FRONTEND_2]), first..=last)
            .flagged(*chance.pick(&flags) | *chance.pick(&flags));
        if chance.one_in(3) {
            outward.own.push((FRONTEND_2, 3_000..=3_003));
        }
        if chance.one_in(2) {
            outward = outward.and_burst(FRONTEND, 50_000..=50_000 + chance.below(4) as u16);
        }
        if chance.one_in(2) {
            outward.flags &= !Way::REJECT;
        }
        outward.kind = *chance.pick(&[
            FlowKind::OutboundRule,
            FlowKind::RuleImplied,
            FlowKind::DefaultOutbound,
        ]);
        world.add_way(instance.host, &outward);
    }
    let shared = Outward {
        kind: FlowKind::Hairpin,
        rule: 0,
        ..Outward::by(FRONTEND, 55_000..=55_003)
    };
    if chance.one_in(2) {
        world.add_way(FRONTEND, &shared);
    }
    if chance.one_in(2) {
        world.add_public_ip(INSTANCES[0].host, PUBLIC_IP);
        if chance.one_in(2) {
            world.add_way(PUBLIC_IP, &shared);
        }
    }
    if chance.one_in(4) {
        world.settings_mut().flags |= Settings::DEFAULT_OUTBOUND;
        let nobody = Host::new([0; 4], [0; 8]);
        world.add_way(nobody, &Outward::by(FRONTEND_2, 4_000..=4_003));
        world.each_owner(nobody, |owner| owner.roles = 0);
    }
}

/// A public IP.
pub(super) const PUBLIC_IP: Host =
    Host::new([203, 0, 113, 12], [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x12]);

/// Changes something; says what.
pub fn disturb(world: &mut World, chance: &mut Chance) -> String {
    if world.settings.is_none() {
        return String::new();
    }
    let now = world.now();
    world.settings_mut().generation = next_generation();
    let what = chance.below(13);
    match what {
        0 if chance.one_in(8) => {
            let id = any_ring(chance);
            world.rings.insert(id, Arc::clone(chance.pick(&RINGS)));
        }
        0 | 1 => change_rule(world, chance),
        2 => {
            let ahead = chance.within(0, 3);
            world.settings_mut().hops_valid_from = (now + ahead).wrapping_sub(1) as u32;
        }
        3 => world.settings_mut().flags ^= Settings::ALLOW_DIRECT,
        4 => change_rule(world, chance),
        5 => {
            // Away, or back again with another MTU.
            let good = World::default().interfaces;
            let slot = *chance.pick(&[1, 2, 3, 4, 8, 9, 10]);
            if world.interfaces.remove(&slot).is_none() || chance.one_in(2) {
                let mut interface = good[&slot];
                interface.mtu = *chance.pick(&[interface.mtu, interface.mtu, 600, 9_000]);
                world.interfaces.insert(slot, interface);
            }
        }
        6 => {
            let id = chance.pick(&BACKENDS).0;
            let gone = world.v4.backends.remove(&id).is_some();
            world.v6.backends.remove(&id);
            if !gone {
                let good = World::default();
                world.v4.backends = good.v4.backends;
                world.v6.backends = good.v6.backends;
            }
        }
        7 => {
            let links = chance.bits();
            let host = *chance.pick(&[FRONTEND, FRONTEND_2, INSTANCES[0].host]);
            world.each_owner(host, |owner| owner.on_link = links);
        }
        8 => {
            let roles = chance.below(4) as u32;
            let host = *chance.pick(&[FRONTEND_2, CLIENT_2, LOCAL_CLIENT.host, INSTANCES[1].host]);
            world.each_owner(host, |owner| owner.roles = roles);
        }
        9 => {
            let length = chance.within(0, 32) as u32;
            let network = (CLIENT.raw(), length);
            if !world.v4.virtual_network.remove(&network) {
                world.v4.virtual_network.insert(network);
            }
            let network = (CLIENT.raw(), length * 4);
            if !world.v6.virtual_network.remove(&network) {
                world.v6.virtual_network.insert(network);
            }
        }
        10 => answer(world, chance),
        11 => {
            let slot = *chance.pick(&[1, 2, 3, 8, 9, 10]);
            if let Some(interface) = world.interfaces.get_mut(&slot) {
                match chance.below(2) {
                    0 => interface.flags ^= Interface::NO_REDIRECT,
                    _ => interface.address6 = V6::default(),
                }
            }
        }
        _ => world.settings_mut().hash_key[0] = chance.bits(),
    }
    format!("change {what} ")
}

fn change_rule(world: &mut World, chance: &mut Chance) {
    let count = (world.rules.len() + world.ranges.len()) as u64;
    let mut rules = world.rules.values_mut().chain(world.ranges.values_mut());
    let Some(rule) = rules.nth(chance.below(count.max(1)) as usize) else {
        return;
    };
    match chance.below(7) {
        0 if chance.one_in(4) => rule.targets = [*chance.pick(&[0, 77, u32::MAX]); 2],
        0 => rule.targets = [any_ring(chance); 2],
        1 => rule.distribution = chance.below(3) as u8,
        2 => set_idle(rule, chance.within(1, 2_000) as u32),
        3 => rule.flags ^= Rule::TCP_RESET,
        4 => rule.flags ^= 1 << chance.below(4),
        5 => {
            rule.way = chance.below(4) as u8;
            rule.targets = [*chance.pick(&[0, 1, 2, 3, 14, 77, GOOD_RING, u32::MAX]); 2];
            rule.first_port = *chance.pick(&[2_200, 2_203, 0, 443]);
        }
        _ => rule.port_offset = chance.bits() as u16,
    }
}

/// A flow in any state.
fn flow(chance: &mut Chance, now: u64) -> Pair {
    let version = *chance.pick(&IpVersion::BOTH);
    let base = if chance.one_in(2) {
        Pair::tcp(version)
    } else {
        Pair::udp(version)
    };
    let ago = |chance: &mut Chance| now - chance.below(300);
    let half = |half: Half, chance: &mut Chance| Half {
        last_seen: ago(chance),
        hop: match half.hop {
            Some((way, _)) if chance.one_in(2) => Some((way, ago(chance))),
            _ => None,
        },
        last_ack: *chance.pick(&[0, 5_000, 0xffff_fff0]),
        ..half
    };
    let host = chance.pick(&BACKENDS).1;
    Pair {
        client: (
            *chance.pick(&[CLIENT, CLIENT_2, ONE_ARM_CLIENT.host]),
            40_000 + chance.below(4) as u16,
        ),
        frontend: (*chance.pick(&[FRONTEND, FRONTEND_2]), base.frontend.1),
        backend: (host, base.backend.1),
        idle_timeout: chance.within(1, 400) as u32,
        seen_to: Seen(chance.bits() as u8 & 0x1f),
        seen_from: Seen(chance.bits() as u8 & 0x1f),
        marks: if chance.one_in(8) { marks::RETIRING } else { 0 },
        to: half(base.to, chance),
        from: half(base.from, chance),
        ..base
    }
}

/// Loses one direction of some flow, as a daemon that died in the middle would.
fn halve(world: &mut World, chance: &mut Chance) {
    let keys: Vec<_> = world.v4.flows.keys().copied().collect();
    if !keys.is_empty() {
        world.v4.flows.remove(chance.pick(&keys));
    }
    let keys: Vec<_> = world.v6.flows.keys().copied().collect();
    if !keys.is_empty() {
        world.v6.flows.remove(chance.pick(&keys));
    }
}

/// Fills the tables but for a few entries.
fn crowd(world: &mut World, chance: &mut Chance) {
    let free = chance.below(12) as usize;
    for version in IpVersion::BOTH {
        let protocol = *chance.pick(&[TCP, UDP]);
        for number in 0.. {
            let used = match version {
                IpVersion::V4 => world.v4.flows.len(),
                IpVersion::V6 => world.v6.flows.len(),
            };
            if used + 2 + free > CAPACITY as usize {
                break;
            }
            let base = Pair::tcp(version).last_used(world.now() - chance.below(50));
            world.add(&Pair {
                protocol,
                client: (LOCAL_CLIENT.host, 20_000 + number),
                ..base
            });
        }
    }
}
