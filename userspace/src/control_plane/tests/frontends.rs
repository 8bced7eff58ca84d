//! What frontends' addresses are to the node, event by event.

use super::*;

fn parsed(text: &str) -> Arc<Config> {
    Arc::new(config::parse_all("test.toml", text).unwrap().config)
}

fn owner(control_plane: &ControlPlane, address: &str) -> Owner {
    match address.parse().unwrap() {
        IpAddr::V4(address) => control_plane.applied().v4.addresses[&address.into()],
        IpAddr::V6(address) => control_plane.applied().v6.addresses[&address.into()],
    }
}

const WEB: &str = "203.0.113.10";
const WEB6: &str = "2001:db8:1::10";

fn with(text: &str) -> ControlPlane {
    let mut control_plane = control_plane();
    control_plane.handle(Event::Config(parsed(text))).unwrap();
    control_plane
}

fn advertising(mode: &str) -> String {
    SAMPLE.replace("[node]\n", &format!("[node]\nadvertise = \"{mode}\"\n"))
}

fn shared() -> String {
    SAMPLE.replace(
        "name = \"web\"\nipv4",
        "name = \"web\"\nshared = true\nipv4",
    )
}

fn restarted(former: &ControlPlane, text: &str) -> ControlPlane {
    let mut next = ControlPlane::new(TickRate(250), SIZES, [1, 2], left_behind(former));
    next.handle(Event::Host(host())).unwrap();
    next.handle(Event::Config(parsed(text))).unwrap();
    next
}

#[test]
fn a_standby_node_claims_nothing_until_it_is_told_to() {
    let mut control_plane = with(&advertising("standby"));
    assert_eq!(owner(&control_plane, WEB).on_link, 0);
    assert!(!control_plane.advertises() && control_plane.claims().is_empty());
    let changes = control_plane.handle(Event::Advertise(true)).unwrap();
    assert!(
        changes
            .iter()
            .any(|c| matches!(c, Change::V4(FamilyChange::Address(..))))
    );
    assert_ne!(owner(&control_plane, WEB).on_link, 0);
    let claims = control_plane.claims();
    let claim = claims.first().unwrap();
    assert_eq!(
        (claim.address.to_string().as_str(), claim.interface.as_str()),
        (WEB, "c0")
    );
    assert_eq!((claims.len(), claim.mac), (1, [2, 0, 0, 0, 0, 7]));
    control_plane.handle(Event::Advertise(false)).unwrap();
    assert!(control_plane.claims().is_empty());
}

#[test]
fn a_new_daemon_goes_on_claiming_as_the_former_one_was_told() {
    let standby = advertising("standby");
    let mut first = with(&standby);
    assert!(!restarted(&first, &standby).advertises());
    first.handle(Event::Advertise(true)).unwrap();
    let second = restarted(&first, &standby);
    assert!(second.advertises());
    assert_eq!(second.claims(), first.claims());
    let mut second = second;
    second.handle(Event::Advertise(false)).unwrap();
    assert!(!restarted(&second, &standby).advertises());
    // Fresh tables: a reboot.
    assert!(!with(&standby).advertises());
}

#[test]
fn a_node_that_was_told_to_be_silent_claims_again_after_a_restart_by_its_file() {
    let mut first = with(SAMPLE);
    assert_eq!(first.claims().len(), 1);
    first.handle(Event::Advertise(false)).unwrap();
    assert!(first.claims().is_empty());
    first.handle(Event::Config(parsed(SAMPLE))).unwrap();
    assert!(first.claims().is_empty(), "a reload is no restart");
    assert!(restarted(&first, SAMPLE).advertises());
}

#[test]
fn a_node_whose_addresses_are_routed_to_it_never_claims() {
    let mut control_plane = with(&advertising("none"));
    control_plane.handle(Event::Advertise(true)).unwrap();
    assert!(control_plane.claims().is_empty());
    control_plane
        .handle(Event::Config(parsed(&advertising("none"))))
        .unwrap();
    control_plane
        .handle(Event::Config(parsed(&advertising("standby"))))
        .unwrap();
    assert!(
        control_plane.claims().is_empty(),
        "what was said before does not count"
    );
}

#[test]
fn an_address_is_claimed_on_one_of_two_interfaces_and_follows_the_link() {
    let mut control_plane = with(SAMPLE);
    let mut twins = host();
    twins[1].networks = twins[0].networks.clone();
    let claimed_on = |control_plane: &ControlPlane| -> Vec<String> {
        control_plane
            .claims()
            .into_iter()
            .map(|claim| claim.interface)
            .collect()
    };
    control_plane.handle(Event::Host(twins.clone())).unwrap();
    assert_eq!(owner(&control_plane, WEB).on_link.count_ones(), 1);
    assert_eq!(claimed_on(&control_plane), ["c0"]);
    let before = control_plane.claims();
    twins[0].link_ups = None;
    control_plane.handle(Event::Host(twins.clone())).unwrap();
    assert_eq!(claimed_on(&control_plane), ["i0"]);
    twins[0].link_ups = Some(2);
    control_plane.handle(Event::Host(twins)).unwrap();
    assert_eq!(claimed_on(&control_plane), ["c0"]);
    assert_ne!(
        control_plane.claims(),
        before,
        "the neighbours have to be told again"
    );
}

#[test]
fn what_is_only_kept_for_its_last_flows_is_not_claimed() {
    let mut control_plane = with(SAMPLE);
    let moved = SAMPLE.replace(WEB, "203.0.113.11");
    control_plane.handle(Event::Config(parsed(&moved))).unwrap();
    assert_ne!(owner(&control_plane, WEB).on_link, 0, "its flows go on");
    assert_eq!(
        owner(&control_plane, WEB).roles,
        Owner::FRONTEND,
        "and nothing else"
    );
    let claimed: Vec<IpAddr> = control_plane
        .claims()
        .into_iter()
        .map(|c| c.address)
        .collect();
    assert_eq!(claimed, ["203.0.113.11".parse::<IpAddr>().unwrap()]);
}

#[test]
fn the_hosts_own_address_is_left_to_the_kernel() {
    let control_plane = with(&shared());
    for address in [WEB, WEB6] {
        let owner = owner(&control_plane, address);
        assert_eq!(owner.roles, Owner::FRONTEND | Owner::SHARED | Owner::SNAT);
        assert_eq!(owner.on_link, 0);
    }
    assert!(control_plane.claims().is_empty());
}

#[test]
fn a_host_keeps_its_own_address_when_its_frontend_is_removed() {
    let without = SAMPLE.replace(WEB, "203.0.113.11");
    let mut running = with(&shared());
    running.handle(Event::Config(parsed(&without))).unwrap();
    let removed = owner(&running, WEB);
    assert_eq!(removed.roles, Owner::FRONTEND | Owner::SHARED);
    assert_eq!(removed.on_link, 0);
    // Also when another daemon finds it in the tables.
    let next = restarted(&with(&shared()), &without);
    assert_eq!(owner(&next, WEB), removed);
}

#[test]
fn pings_are_answered_as_the_rules_of_each_family_have_members() {
    let others = Owner::FRONTEND | Owner::SNAT;
    let echo = |text: &str, address: &str| owner(&with(text), address).roles & !others;
    assert_eq!(echo(SAMPLE, WEB), Owner::ECHO);
    assert_eq!(echo(SAMPLE, WEB6), Owner::ECHO);
    let silent = SAMPLE.replace("name = \"web\"\nipv4", "name = \"web\"\nping = false\nipv4");
    assert_eq!((echo(&silent, WEB), echo(&silent, WEB6)), (0, 0));
    let only_ipv4 = SAMPLE.replace("members = [\"one\", ", "members = [");
    assert_eq!(echo(&only_ipv4, WEB), Owner::ECHO);
    assert_eq!(echo(&only_ipv4, WEB6), Owner::ECHO_UNREACHABLE);
    let empty = "members = [\"one\", { instance = \"two\", weight = 3 }]";
    let empty = SAMPLE.replace(empty, "members = []");
    assert_eq!(echo(&empty, WEB), Owner::ECHO_UNREACHABLE);
    let one_of_two = empty.replace(
        "[[rule]]\nname = \"dns\"",
        "[[pool]]\nname = \"more\"\nmembers = [\"one\"]\n[[rule]]\nname = \"dns\"",
    );
    let one_of_two =
        one_of_two.replacen("port = 53\npool = \"web\"", "port = 53\npool = \"more\"", 1);
    assert_eq!(echo(&one_of_two, WEB), Owner::ECHO);
    let no_rules = &SAMPLE[..SAMPLE.find("[[rule]]").unwrap()];
    assert_eq!(echo(no_rules, WEB), 0);
}
