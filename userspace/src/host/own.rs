//! What the configuration is held against: the host's own addresses and ports.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use crate::config::{Host, Sockets};

/// Facts of this host, as far as it tells them.
pub fn facts() -> Host {
    Host {
        local_ports: local_ports(&read("ip_local_port_range")),
        reserved_ports: reserved_ports(&read("ip_local_reserved_ports")),
        bound: Sockets::Ask(bound),
        ..addresses()
    }
}

/// Interfaces and addresses alone.
pub fn addresses() -> Host {
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
    host
}

/// Where programs of the network namespace that we are in wait for connections and datagrams.
fn bound() -> BTreeSet<SocketAddr> {
    let mut bound = BTreeSet::new();
    for (table, listens) in [
        ("tcp", true),
        ("tcp6", true),
        ("udp", false),
        ("udp6", false),
    ] {
        let path = format!("/proc/thread-self/net/{table}");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        bound.extend(sockets(&text, listens));
    }
    bound
}

/// The local sides of a table of sockets; of those that listen alone if asked so.
fn sockets(text: &str, only_listening: bool) -> impl Iterator<Item = SocketAddr> {
    const LISTENS: &str = "0A";
    text.lines().skip(1).filter_map(move |line| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        if only_listening && state != LISTENS {
            return None;
        }
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        Some(SocketAddr::new(ip(address)?.to_canonical(), port))
    })
}

/// An address as words of 32 bits in the byte order of the host, in hexadecimal.
fn ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (at, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
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
    fn sockets_are_read_as_the_kernel_lists_them() {
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n   \
            0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n   \
            1: 0A7100CB:C350 076433C6:01BB 01 00000000:00000000 00:00000000 00000000     0\n";
        let expected: Vec<SocketAddr> = vec!["127.0.0.1:8000".parse().unwrap()];
        assert_eq!(sockets(tcp, true).collect::<Vec<_>>(), expected);
        let both: Vec<SocketAddr> = vec![expected[0], "203.0.113.10:50000".parse().unwrap()];
        assert_eq!(sockets(tcp, false).collect::<Vec<_>>(), both);
        let six = "  sl  local_address remote_address st\n   \
            0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A\n   \
            1: B80D0120010000000000000010000000:0035 00000000000000000000000000000000:0000 0A\n   \
            2: 0000000000000000FFFF00000A7100CB:0050 00000000000000000000000000000000:0000 0A\n   \
            3: damaged\n";
        let expected = ["[::]:22", "[2001:db8:0:1::10]:53", "203.0.113.10:80"];
        let expected = expected.map(|socket| socket.parse::<SocketAddr>().unwrap());
        // The kernel writes words in the byte order of the host; the lines above are of a little-endian one.
        if cfg!(target_endian = "little") {
            assert_eq!(sockets(six, true).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_socket_that_listens_is_found_and_a_connected_one_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let there = listener.local_addr().unwrap();
        let connected = std::net::TcpStream::connect(there).unwrap();
        let datagrams = std::net::UdpSocket::bind("[::1]:0").unwrap();
        let bound = bound();
        assert!(bound.contains(&there));
        assert!(bound.contains(&datagrams.local_addr().unwrap()));
        assert!(!bound.contains(&connected.local_addr().unwrap()));
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
