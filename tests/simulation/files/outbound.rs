//! The part of a random configuration that says how instances reach the outside.

use std::fmt::Write as _;

use forebay_tests::chance::Chance;
use forebay_tests::network::Host;

/// A frontend of four IPv4 addresses and one of IPv6, which no rule uses.
pub(super) const NAT: &str =
    "[[frontend]]\nname = \"nat\"\nipv4 = \"203.0.113.64/30\"\nipv6 = \"2001:db8:1::64\"\n";

/// Public IPs that files may have.
const PUBLIC_IPS: [(&str, Host); 2] = [
    (
        "alice",
        Host::new([203, 0, 113, 50], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x50]),
    ),
    (
        "bob",
        Host::new([203, 0, 113, 51], [0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x51]),
    ),
];

/// Instances that may have a public IP: those of both families.
const CANDIDATES: u64 = 4;

/// Who has which public IP, by number of the instance.
pub(super) fn public_ips(chance: &mut Chance, text: &mut String) -> Vec<(usize, &'static str)> {
    let mut held: Vec<(usize, &str)> = Vec::new();
    for (name, host) in PUBLIC_IPS {
        if !chance.one_in(3) {
            continue;
        }
        let _ = writeln!(
            text,
            "[[public_ip]]\nname = \"{name}\"\nipv4 = \"{}\"",
            host.v4
        );
        if chance.one_in(2) {
            let _ = writeln!(text, "ipv6 = \"{}\"", host.v6);
        }
        let owner = chance.below(CANDIDATES) as usize;
        if held.iter().all(|(other, _)| *other != owner) {
            held.push((owner, name));
        }
    }
    held
}

/// Some of `frontends`, each once.
fn some(chance: &mut Chance, frontends: &[&str]) -> String {
    let first = chance.below(frontends.len() as u64) as usize;
    let many = chance.within(1, frontends.len() as u64) as usize;
    let chosen = frontends.iter().cycle().skip(first).take(many);
    let chosen: Vec<String> = chosen.map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", chosen.join(", "))
}

const PORTS: [&str; 6] = ["8", "8", "16", "1024", "\"auto\"", "\"auto\""];
const MAPPINGS: [&str; 2] = ["per-destination", "endpoint-independent"];

/// An outbound rule.
pub(super) fn rule(chance: &mut Chance, number: usize, frontends: &[&str]) -> String {
    let mappings = [*chance.pick(&MAPPINGS), *chance.pick(&MAPPINGS)];
    let mut body = format!(
        "[[outbound_rule]]\nname = \"o{number}\"\npool = \"p{}\"\nfrontends = {}\nprotocol = \"{}\"\n\
         ports_per_instance = {}\nburst = {}\nmapping = {{ tcp = \"{}\", udp = \"{}\" }}\n\
         frontend_selection = \"{}\"\nport_selection = \"{}\"\non_exhaustion = \"{}\"\n",
        chance.below(4),
        some(chance, frontends),
        chance.pick(&["all", "all", "tcp", "udp"]),
        chance.pick(&PORTS),
        chance.one_in(2),
        mappings[0],
        mappings[1],
        chance.pick(&["spread", "fill", "random"]),
        chance.pick(&["random", "lowest"]),
        chance.pick(&["reject", "drop"]),
    );
    if mappings.contains(&MAPPINGS[1]) {
        let filterings = [
            "endpoint-independent",
            "address-dependent",
            "address-and-port-dependent",
        ];
        let _ = writeln!(body, "filtering = \"{}\"", chance.pick(&filterings));
    }
    if chance.one_in(3) {
        let _ = writeln!(body, "idle_timeout = \"{}s\"", chance.pick(&[4, 30, 120]));
    }
    body
}

/// The way out of whoever has no other.
pub(super) fn default(chance: &mut Chance, frontends: &[&str]) -> String {
    format!(
        "[default_outbound]\nfrontends = {}\nports_per_instance = {}\n",
        some(chance, frontends),
        chance.pick(&PORTS),
    )
}
