//! What probes say of members, and what the operator says, as the rings have it.

use super::*;
use crate::control_plane::{Whose, lacking, taking, to_move};
use crate::health::{Target, Verdict, View, targets};

const TEXT: &str = r#"
[node]
name = "lb1"
interfaces = ["c0", "i0"]
[[frontend]]
name = "web"
ipv4 = "203.0.113.10"
[[instance]]
name = "a"
ipv4 = "10.0.1.1"
[[instance]]
name = "b"
ipv4 = "10.0.1.2"
[[instance]]
name = "c"
ipv4 = "10.0.1.3"
[[probe]]
name = "alive"
protocol = "tcp"
[[pool]]
name = "web"
members = ["a", "b", "c"]
[[rule]]
name = "http"
frontend = "web"
port = 80
pool = "web"
"#;

fn probed(more: &str) -> String {
    format!("{TEXT}probe = \"alive\"\n{more}")
}

/// These verdicts on the members, in order.
fn view(verdicts: [Verdict; 3]) -> View {
    let target = |host: usize| Target {
        probe: "alive".to_owned(),
        address: IpAddr::from([10, 0, 1, host as u8 + 1]),
        port: 80,
    };
    View::of((0..3).map(|host| (target(host), verdicts[host])))
}

fn hear(plane: &mut ControlPlane, verdicts: [Verdict; 3]) -> Vec<Change> {
    plane.handle(Event::Health(view(verdicts))).unwrap()
}

/// Last part of the addresses that get new flows.
fn in_ring(plane: &ControlPlane) -> Vec<u8> {
    hosts(&taking(plane.applied()))
}

fn hosts(whose: &Whose) -> Vec<u8> {
    let last = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => panic!("{address}"),
    };
    whose.iter().map(|(_, address)| last(address)).collect()
}

fn configured(text: &str, verdicts: [Verdict; 3]) -> ControlPlane {
    let mut plane = control_plane();
    plane.set_health(view(verdicts));
    plane.handle(Event::Config(parsed(text))).unwrap();
    plane
}

use Verdict::{Down, Unknown, Up};

#[test]
fn who_is_down_leaves_the_ring_and_nothing_else_changes() {
    let mut plane = configured(&probed(""), [Up; 3]);
    assert_eq!(in_ring(&plane), [1, 2, 3]);
    let changes = hear(&mut plane, [Up, Down, Up]);
    assert_eq!(in_ring(&plane), [1, 3]);
    let others = changes
        .iter()
        .filter(|change| !matches!(change, Change::Ring(..)));
    assert_eq!(others.count(), 0, "{changes:?}");
    assert_eq!(hear(&mut plane, [Up, Down, Up]), []);
    hear(&mut plane, [Up; 3]);
    assert_eq!(in_ring(&plane), [1, 2, 3]);
}

#[test]
fn a_new_member_is_let_in_by_its_first_success() {
    let two = probed("").replace("\"a\", \"b\", \"c\"", "\"a\", \"b\"");
    let mut plane = configured(&two, [Up; 3]);
    plane.set_health(view([Up, Up, Unknown]));
    plane.handle(Event::Config(parsed(&probed("")))).unwrap();
    assert_eq!(in_ring(&plane), [1, 2]);
    hear(&mut plane, [Up; 3]);
    assert_eq!(in_ring(&plane), [1, 2, 3]);
}

#[test]
fn a_probe_that_a_rule_gets_takes_nobody_out_before_it_has_failed() {
    let mut plane = configured(TEXT, [Unknown; 3]);
    plane.handle(Event::Config(parsed(&probed("")))).unwrap();
    assert_eq!(in_ring(&plane), [1, 2, 3]);
    hear(&mut plane, [Up, Unknown, Down]);
    assert_eq!(in_ring(&plane), [1, 2]);
    hear(&mut plane, [Up, Down, Down]);
    assert_eq!(in_ring(&plane), [1]);
}

#[test]
fn rules_with_other_probes_or_none_have_rings_of_their_own() {
    let other = "[[rule]]\nname = \"ssh\"\nfrontend = \"web\"\nport = 22\npool = \"web\"\n";
    let mut plane = configured(&probed(other), [Up; 3]);
    hear(&mut plane, [Down, Up, Up]);
    let ids = plane.ids();
    let of = |name: &str| {
        let id = ids.rules.get(&name.to_owned()).unwrap();
        let all = taking(plane.applied()).into_iter();
        hosts(&all.filter(|(rule, _)| *rule == id).collect())
    };
    assert_eq!((of("http"), of("ssh")), (vec![2, 3], vec![1, 2, 3]));
}

#[test]
fn the_operators_word_comes_before_that_of_probes() {
    for (state, verdict, is_in, moves) in [
        ("up", Up, true, false),
        ("up", Down, true, false),
        ("down", Up, false, true),
        ("down", Down, false, true),
        ("none", Up, true, false),
        ("none", Down, false, true),
        ("none", Unknown, false, false),
    ] {
        let member = format!("{{ instance = \"a\", admin_state = \"{state}\" }}");
        let text = probed("").replace("\"a\", \"b\"", &format!("{member}, \"b\""));
        let plane = configured(&text, [verdict, Up, Up]);
        let case = format!("{state} {verdict:?}");
        assert_eq!(in_ring(&plane).contains(&1), is_in, "{case}");
        let config = plane.config().unwrap();
        let moving = to_move(config, plane.ids(), plane.health());
        assert_eq!(hosts(&moving).contains(&1), moves, "{case}");
    }
}

#[test]
fn when_all_are_down_the_rule_says_who_takes_new_flows() {
    for (policy, expected, moving) in [
        ("down", vec![], vec![1, 2, 3]),
        ("up", vec![1, 2, 3], vec![]),
    ] {
        let text = probed(&format!("no_healthy_backends = \"{policy}\"\n"));
        let mut plane = configured(&text, [Up; 3]);
        hear(&mut plane, [Down, Down, Up]);
        assert_eq!(in_ring(&plane), [3]);
        let lacks = |plane: &ControlPlane| {
            let config = plane.config().unwrap();
            lacking(config, plane.ids(), plane.health()).len()
        };
        assert_eq!(lacks(&plane), 0);
        hear(&mut plane, [Down; 3]);
        assert_eq!(in_ring(&plane), expected, "{policy}");
        assert_eq!(lacks(&plane), 1, "it is told in any case");
        let config = plane.config().unwrap();
        let to_others = to_move(config, plane.ids(), plane.health());
        assert_eq!(hosts(&to_others), moving, "{policy}");
    }
}

#[test]
fn who_is_taken_out_by_hand_stays_out_when_all_take_new_flows() {
    let member = "{ instance = \"a\", admin_state = \"down\" }, \"b\"";
    let text = probed("no_healthy_backends = \"up\"\n").replace("\"a\", \"b\"", member);
    let plane = configured(&text, [Up, Down, Down]);
    assert_eq!(in_ring(&plane), [2, 3]);
}

#[test]
fn probes_do_not_touch_ways_out() {
    let mut plane = configured(&probed(""), [Up; 3]);
    let before = plane.applied().v4.ways.clone();
    assert!(!before.is_empty());
    hear(&mut plane, [Down; 3]);
    assert_eq!(plane.applied().v4.ways, before);
}

#[test]
fn what_rings_ask_is_what_is_probed() {
    let config = parsed(&probed(""));
    let judged = targets(&config).judged;
    let asked: Vec<&Target> = judged.keys().collect();
    let all_up = view([Up; 3]);
    assert_eq!(asked, all_up.up().collect::<Vec<_>>());
}
