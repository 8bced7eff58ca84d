//! Instances reach the outside.

mod addresses;
mod any_protocol;
mod busy_names;
mod discovery;
mod exhaustion;
mod ftp;
mod hairpin;
mod icmp;
mod narrow;
mod neighbours;
mod ports;
mod precedence;
mod public_ip;
mod release;
mod shadow;
mod strays;
mod thousands;
mod translate;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use forebay_tests::netlab::mirror::Mirror;
use forebay_tests::netlab::{Arms, Config, Instance, Lab, address};

use crate::scene::{Scene, both};

/// A frontend without rules.
const NAT: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 20),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x20),
);
/// A public IP.
const PUBLIC: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 50),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x50),
);
/// Another one.
const PUBLIC_2: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 51),
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x51),
);
/// Ports of the mirror.
const PORTS: [u16; 3] = [7000, 7001, 53];

/// A node whose instances go out as `more` says, and a mirror in the outside world.
struct Outside {
    scene: Scene,
    _mirror: Mirror,
}

impl Outside {
    /// `None` after saying why not.
    fn run(arms: Arms, more: &str) -> Option<Self> {
        Self::run_with(arms, more, |_| {})
    }

    fn run_with(arms: Arms, more: &str, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let scene = Scene::run(arms, |config| {
            config.more.push_str(more);
            change(config);
        })?;
        let hosts = [2, 3];
        let at: Vec<SocketAddr> = hosts
            .into_iter()
            .flat_map(|host| PORTS.map(|port| mirror(host, port)))
            .flatten()
            .collect();
        let mirror = Mirror::start(&scene.lab.client, &at).unwrap();
        Some(Self {
            scene,
            _mirror: mirror,
        })
    }

    fn lab(&self) -> &Lab {
        &self.scene.lab
    }

    /// Writes the configuration with other tables in the place of `more`, and reloads.
    fn reload(&mut self, more: &str, change: impl FnOnce(&mut Config)) {
        self.scene.config.more = more.to_owned();
        change(&mut self.scene.config);
        let text = self.scene.config.to_string();
        self.scene.forebay.write_config(&text).unwrap();
        self.scene.forebay.text(&["reload"]).unwrap();
    }
}

/// A port of the mirror, in both families; `host` is the last part of its address.
fn mirror(host: u8, port: u16) -> [SocketAddr; 2] {
    both(address::client_v4(host), address::client_v6(host), port)
}

/// The address of a pair in the family of `to`.
fn of_family(pair: (Ipv4Addr, Ipv6Addr), to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(_) => pair.0.into(),
        SocketAddr::V6(_) => pair.1.into(),
    }
}

/// The private address of an instance in the family of `to`.
fn private(instance: &Instance, to: SocketAddr) -> IpAddr {
    of_family((instance.ipv4, instance.ipv6), to)
}

/// Any port of an instance's private address.
fn from_any(instance: &Instance, to: SocketAddr) -> SocketAddr {
    SocketAddr::new(private(instance, to), 0)
}

/// A frontend, as the file has it.
fn frontend_table(name: &str, (ipv4, ipv6): (Ipv4Addr, Ipv6Addr)) -> String {
    format!("\n[[frontend]]\nname = {name:?}\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\"\n")
}

/// An outbound rule of the pool `web` by the frontend `nat`, as the file has it.
fn outbound_rule(more: &str) -> String {
    let table = "\n[[outbound_rule]]\nname = \"web-out\"\npool = \"web\"\nfrontends = [\"nat\"]\n";
    format!("{}{table}{more}\n", frontend_table("nat", NAT))
}
