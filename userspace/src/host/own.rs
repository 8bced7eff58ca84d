//! What the configuration is held against: the host's own addresses and ports.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::config::Host;

/// Facts of this host, as far as it tells them.
pub fn facts() -> Host {
    let mut host = Host::default();
    // No list of addresses, no objections: the packet path works the same.
    for one in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        host.interfaces.insert(one.interface_name.clone());
        let Some(address) = one.address else { continue };
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
        if let Some(address) = v4.or(v6) {
            host.addresses.entry(address).or_insert(one.interface_name);
        }
    }
    host.local_ports = local_ports(&read("ip_local_port_range"));
    host.reserved_ports = reserved_ports(&read("ip_local_reserved_ports"));
    host
}

/// A value of the network namespace that we are in.
fn read(key: &str) -> String {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{key}")).unwrap_or_default()
}

/// Two numbers and a tab between them.
fn local_ports(text: &str) -> Option<RangeInclusive<u16>> {
    let mut words = text.split_whitespace().map(str::parse);
    Some(words.next()?.ok()?..=words.next()?.ok()?)
}

/// `8080,9000-9100`
fn reserved_ports(text: &str) -> Vec<RangeInclusive<u16>> {
    let range = |item: &str| {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_read_as_the_kernel_writes_them() {
        assert_eq!(local_ports("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(local_ports(""), None);
        assert_eq!(
            reserved_ports("8080,9000-9100\n"),
            [8080..=8080, 9000..=9100]
        );
        assert_eq!(reserved_ports("\n"), []);
    }

    #[test]
    fn the_loopback_address_is_the_hosts_own() {
        let host = facts();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(
            host.addresses.get(&loopback).map(String::as_str),
            Some("lo")
        );
        assert!(host.interfaces.contains("lo"));
    }
}
