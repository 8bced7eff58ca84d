//! The node makes known which addresses it has, when it is to, and on one link only.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use forebay_tests::netlab::client::{Conversation, connect_within, curl};
use forebay_tests::netlab::config::Frontend;
use forebay_tests::netlab::{Arms, Lab, Sniffer, address};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::{Scene, both, eventually, frontend};

/// All announcements have been made, and more.
const LAST: Duration = Duration::from_secs(5);

fn frontends() -> [IpAddr; 2] {
    frontend(80).map(|endpoint| endpoint.ip())
}

/// The configuration of the scene with `node.advertise`.
fn advertising(scene: &Scene, mode: &str) -> String {
    let text = scene.config.to_string();
    text.replacen("[node]\n", &format!("[node]\nadvertise = \"{mode}\"\n"), 1)
}

fn standby() -> Option<Scene> {
    let mut scene = Scene::install(Arms::Two, |_| {})?;
    scene
        .forebay
        .write_config(&advertising(&scene, "standby"))
        .unwrap();
    scene.forebay.start().unwrap();
    Some(scene)
}

fn mac_of(lab: &Lab, device: &str) -> [u8; 6] {
    let text = lab.node.link(device).unwrap()["address"]
        .as_str()
        .unwrap()
        .to_owned();
    let octets = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap());
    octets.collect::<Vec<_>>().try_into().unwrap()
}

/// Waits until both frontends were announced with the MAC address of a NIC.
fn hears_both(sniffer: &Sniffer, lab: &Lab, device: &str) {
    let mac = mac_of(lab, device);
    for address in frontends() {
        eventually(&format!("{address} is announced"), LAST, || {
            sniffer
                .announcements(address)
                .iter()
                .any(|one| one.mac == mac)
        });
    }
}

fn reaches(lab: &Lab, forgetful: bool) -> Vec<bool> {
    if forgetful {
        lab.client.ip("neighbour flush dev eth0").unwrap();
    }
    let patience = Duration::from_millis(700);
    frontend(80)
        .map(|to| connect_within(&lab.client, None, to, patience).is_ok())
        .into()
}

/// The proxy-neighbour entries of the node.
fn proxies(lab: &Lab) -> BTreeSet<String> {
    let arguments = ["-json", "-6", "neighbour", "show", "proxy"];
    let text = lab.node.run("ip", &arguments).unwrap();
    let entries: Value = serde_json::from_str(text.trim()).unwrap_or(Value::Null);
    let entries = entries.as_array().cloned().unwrap_or_default();
    entries
        .iter()
        .map(|entry| {
            format!(
                "{} {}",
                entry["dst"].as_str().unwrap(),
                entry["dev"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
fn addresses_are_announced_at_start_a_few_times_and_when_they_are_added() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let sniffer = Sniffer::start(&scene.lab.client).unwrap();
    scene.forebay.start().unwrap();
    hears_both(&sniffer, &scene.lab, "client0");
    std::thread::sleep(LAST);
    for address in frontends() {
        let times: Vec<_> = sniffer
            .announcements(address)
            .iter()
            .map(|one| one.at)
            .collect();
        assert_eq!(times.len(), 3, "{address}");
        let span = times[2].duration_since(times[0]);
        assert!(
            span > Duration::from_secs(2) && span < Duration::from_secs(4),
            "{span:?}"
        );
    }
    sniffer.clear();
    scene.config.frontends.push(Frontend {
        name: "more",
        ipv4: "203.0.113.20".parse().unwrap(),
        ipv6: "2001:db8:1::20".parse().unwrap(),
    });
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    scene.forebay.text(&["reload"]).unwrap();
    for added in ["203.0.113.20", "2001:db8:1::20"].map(|text| text.parse().unwrap()) {
        eventually("what was added is announced", LAST, || {
            !sniffer.announcements(added).is_empty()
        });
    }
    for address in frontends() {
        assert!(
            sniffer.announcements(address).is_empty(),
            "{address} is known already"
        );
    }
}

#[test]
fn addresses_are_announced_when_their_link_comes_up_again() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, .. } = &scene;
    std::thread::sleep(LAST);
    let sniffer = Sniffer::start(&lab.client).unwrap();
    lab.node.ip("link set client0 down").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    lab.node
        .ip("link set client0 up\naddress replace 2001:db8:1::1/64 dev client0 nodad")
        .unwrap();
    hears_both(&sniffer, lab, "client0");
    eventually("the proxy entry is back", LAST, || {
        proxies(lab).contains(&format!("{} client0", address::FRONTEND_V6))
    });
}

#[test]
fn a_standby_node_is_silent_until_it_is_told_to_claim() {
    let Some(mut scene) = standby() else {
        return;
    };
    let sniffer = Sniffer::start(&scene.lab.client).unwrap();
    assert_eq!(reaches(&scene.lab, true), [false, false]);
    assert_eq!(proxies(&scene.lab), BTreeSet::new());
    let shown = scene.forebay.list(&["show", "frontends"]).unwrap();
    assert_eq!(shown[0]["advertised"], false);

    let said = scene.forebay.text(&["advertise", "on"]).unwrap();
    assert!(said.contains("2 addresses claimed"), "{said}");
    hears_both(&sniffer, &scene.lab, "client0");
    assert_eq!(reaches(&scene.lab, true), [true, true]);
    assert_eq!(proxies(&scene.lab).len(), 1);
    let shown = scene.forebay.list(&["show", "frontends"]).unwrap();
    assert_eq!(shown[0]["advertised"], true);

    // The next daemon goes on as this one was told.
    scene.forebay.stop(Signal::SIGKILL).unwrap();
    assert_eq!(reaches(&scene.lab, true), [true, true]);
    scene.forebay.start().unwrap();
    assert_eq!(reaches(&scene.lab, true), [true, true]);
    assert_eq!(
        scene.forebay.json(&["status"]).unwrap()["advertise"]["on"],
        true
    );

    scene.forebay.stop(Signal::SIGTERM).unwrap();
    scene.forebay.text(&["detach"]).unwrap();
    scene.forebay.start().unwrap();
    assert_eq!(
        reaches(&scene.lab, true),
        [false, false],
        "nobody has told this one"
    );
}

#[test]
fn a_node_that_stops_claiming_goes_on_forwarding() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &scene;
    let mut long: Vec<_> = frontend(80)
        .map(|to| Conversation::open(&lab.client, None, to).unwrap().0)
        .into();
    eventually("the proxy entry is made", LAST, || proxies(lab).len() == 1);
    let said = forebay.text(&["advertise", "off"]).unwrap();
    assert!(said.contains("advertising off"), "{said}");
    assert_eq!(proxies(lab), BTreeSet::new());
    let sniffer = Sniffer::start(&lab.client).unwrap();
    for conversation in &mut long {
        conversation.ask().unwrap();
    }
    forebay.text(&["reload"]).unwrap();
    std::thread::sleep(Duration::from_secs(4));
    for address in frontends() {
        assert_eq!(sniffer.about(address), [], "nobody claims it");
    }
    for conversation in &mut long {
        conversation.ask().unwrap();
    }
    drop(long);
    assert_eq!(reaches(lab, true), [false, false]);
    forebay.text(&["advertise", "on"]).unwrap();
    hears_both(&sniffer, lab, "client0");
    assert_eq!(reaches(lab, true), [true, true]);
}

#[test]
fn of_two_nics_on_one_network_exactly_one_answers() {
    let Some(mut scene) = Scene::install(Arms::One, |config| {
        config.interfaces.push("net1".to_owned());
    }) else {
        return;
    };
    let lab = &scene.lab;
    lab.node
        .ip(&format!(
            "link add net1 type veth peer node1 netns {}",
            lab.switch.name()
        ))
        .unwrap();
    lab.switch.ip("link set node1 master br0 up").unwrap();
    lab.node
        .ip("link set net1 up\n\
             address add 203.0.113.201/24 dev net1\n\
             address add 2001:db8:1::201/64 dev net1 nodad")
        .unwrap();
    let sniffer = Sniffer::start(&lab.client).unwrap();
    scene.forebay.start().unwrap();
    let lab = &scene.lab;
    for _ in 0..5 {
        lab.client.ip("neighbour flush dev eth0").unwrap();
        for to in frontend(80) {
            curl(&lab.client, to, 1).unwrap();
        }
    }
    let claimed_with = |address: IpAddr| -> BTreeSet<[u8; 6]> {
        sniffer.about(address).iter().map(|one| one.mac).collect()
    };
    for address in frontends() {
        assert_eq!(claimed_with(address), BTreeSet::from([mac_of(lab, "net0")]));
    }
    // The other one takes over when the first has no link any more.
    sniffer.clear();
    lab.switch.ip("link set node0 down").unwrap();
    hears_both(&sniffer, lab, "net1");
}

#[test]
fn proxy_entries_go_with_detach_and_those_of_others_stay() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let foreign = "2001:db8:1::77";
    let lab = &scene.lab;
    lab.node
        .ip(&format!("neighbour add proxy {foreign} dev client0"))
        .unwrap();
    scene.forebay.start().unwrap();
    let ours = format!("{} client0", address::FRONTEND_V6);
    let foreign = format!("{foreign} client0");
    eventually("the entry is made", LAST, || {
        proxies(&scene.lab) == BTreeSet::from([ours.clone(), foreign.clone()])
    });
    scene.forebay.stop(Signal::SIGTERM).unwrap();
    assert!(
        proxies(&scene.lab).contains(&ours),
        "the data plane goes on"
    );
    let said = scene.forebay.text(&["detach"]).unwrap();
    assert!(said.contains("proxy neighbour"), "{said}");
    assert_eq!(proxies(&scene.lab), BTreeSet::from([foreign]));
}

#[test]
fn a_node_whose_addresses_are_routed_to_it_refuses_to_claim_them() {
    let Some(mut scene) = Scene::install(Arms::Two, |config| {
        config.frontends[0].ipv4 = address::ROUTED_FRONTEND_V4;
        config.frontends[0].ipv6 = address::ROUTED_FRONTEND_V6;
    }) else {
        return;
    };
    let sniffer = Sniffer::start(&scene.lab.client).unwrap();
    scene
        .forebay
        .write_config(&advertising(&scene, "none"))
        .unwrap();
    scene.forebay.start().unwrap();
    let refused = scene.forebay.cli(&["advertise", "on"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("\"standby\""), "{refused:?}");
    assert_eq!(scene.forebay.cli(&["advertise", "off"]).unwrap().code, 0);
    let routed = both(address::ROUTED_FRONTEND_V4, address::ROUTED_FRONTEND_V6, 80);
    for to in routed {
        curl(&scene.lab.client, to, 2).unwrap();
        assert_eq!(sniffer.about(to.ip()), []);
    }
}
