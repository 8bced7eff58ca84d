//! Addresses that are the host's own: only a shared frontend may have one.

use ipnet::IpNet;

use super::Check;
use crate::config::host::Host;
use crate::config::model::{Frontend, Ports, PublicIp};
use crate::config::place::{Place, Placed};

pub(super) fn check(check: &Check<'_>, host: &Host) {
    if !host.is_node(&check.draft.node.value.interfaces) {
        return;
    }
    for frontend in &check.draft.frontends {
        own_address(check, host, frontend);
    }
    for public_ip in &check.draft.public_ips {
        public_ip_is_free(check, host, public_ip);
    }
    for rule in &check.draft.rules {
        local_port(
            check,
            host,
            &rule.value.frontend,
            &rule.value.port,
            &rule.place,
        );
    }
    for rule in &check.draft.inbound_nat_rules {
        local_port(
            check,
            host,
            &rule.value.frontend,
            &rule.value.port,
            &rule.place,
        );
    }
}

fn own_address(check: &Check<'_>, host: &Host, frontend: &Placed<Frontend>) {
    let Placed { value, place, .. } = frontend;
    let nets = [
        ("ipv4", value.ipv4.map(IpNet::V4)),
        ("ipv6", value.ipv6.map(IpNet::V6)),
    ];
    for (key, net) in nets {
        let Some(net) = net else { continue };
        match (host.own(net), value.shared) {
            (Some((address, interface)), false) => {
                let message = format!(
                    "{address} is on {interface}, and the host would lose what else it uses the address for; set shared = true, or take it off {interface}"
                );
                let expected = "an address that is not the host's own, or shared = true";
                check.source.error(place.at(key), expected, message);
            }
            (None, true) => {
                let message = "the frontend is shared, and no interface has the address: nobody answers ARP, NDP and ping for it; give it to an interface, or remove shared";
                check
                    .source
                    .warning(place.at(key), "an address of the host", message);
            }
            _ => {}
        }
    }
}

fn public_ip_is_free(check: &Check<'_>, host: &Host, public_ip: &Placed<PublicIp>) {
    let Placed { value, place, .. } = public_ip;
    let nets = [
        (
            "ipv4",
            value
                .ipv4
                .map(|address| IpNet::from(std::net::IpAddr::from(address))),
        ),
        (
            "ipv6",
            value
                .ipv6
                .map(|address| IpNet::from(std::net::IpAddr::from(address))),
        ),
    ];
    for (key, net) in nets {
        if let Some((address, interface)) = net.and_then(|net| host.own(net)) {
            let message = format!(
                "{address} is on {interface}, and all of its packets would go to the instance; take it off {interface}"
            );
            let expected = "an address that is not the host's own";
            check.source.error(place.at(key), expected, message);
        }
    }
}

fn local_port(check: &Check<'_>, host: &Host, frontend: &str, ports: &Ports, place: &Place) {
    let frontend = check.frontends.get(frontend);
    if !frontend.is_some_and(|frontend| frontend.value.shared) {
        return;
    }
    let (Some(port), Some(local)) = (host.local_port(ports.range()), &host.local_ports) else {
        return;
    };
    let expected = format!(
        "a port outside ip_local_port_range ({}-{})",
        local.start(),
        local.end()
    );
    let message = format!(
        "the frontend is shared: a connection of the host that is given port {port} loses its answers to the rule; add the rule's ports to net.ipv4.ip_local_reserved_ports"
    );
    check.source.warning(place.at("port"), expected, message);
}
