//! Endpoints and protocols as they are typed.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, anyhow, bail};
use forebay_common::wire::{TCP, UDP};

use crate::api::Question;

/// The packet that `forebay explain` is asked about.
pub(super) fn question(
    protocol: &str,
    source: &str,
    destination: &str,
    inbound_interface: Option<String>,
) -> Result<Question> {
    let (source, source_port) = endpoint(source).context("source")?;
    let (destination, destination_port) = endpoint(destination).context("destination")?;
    if source.is_ipv4() != destination.is_ipv4() {
        bail!("source {source} and destination {destination} are of different families");
    }
    let protocol = number(protocol, source.is_ipv6())?;
    let has_ports = protocol == TCP || protocol == UDP;
    if has_ports && destination_port.is_none() {
        bail!(
            "destination {destination} needs a port: write it as {}",
            SocketAddr::new(destination, 80)
        );
    }
    Ok(Question {
        protocol,
        source,
        // An ephemeral port, when the one who asks does not care.
        source_port: source_port.unwrap_or(if has_ports { 40_000 } else { 0 }),
        destination,
        destination_port: destination_port.unwrap_or(0),
        inbound_interface,
    })
}

fn number(protocol: &str, ipv6: bool) -> Result<u8> {
    match protocol {
        "tcp" => Ok(TCP),
        "udp" => Ok(UDP),
        "icmp" | "icmpv6" => Ok(if ipv6 { 58 } else { 1 }),
        other => other.parse().map_err(|_| {
            anyhow!("protocol {other:?} is none of tcp, udp, icmp and a number up to 255")
        }),
    }
}

fn endpoint(text: &str) -> Result<(IpAddr, Option<u16>)> {
    if let Ok(address) = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>()
    {
        return Ok((address, None));
    }
    let socket: SocketAddr = text
        .parse()
        .map_err(|_| anyhow!("{text:?} is not ADDRESS or ADDRESS:PORT (IPv6: [ADDRESS]:PORT)"))?;
    Ok((socket.ip(), Some(socket.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_in_both_families() {
        for (text, address, port) in [
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:443", "2001:db8::1", Some(443)),
        ] {
            assert_eq!(
                endpoint(text).unwrap(),
                (address.parse().unwrap(), port),
                "{text}"
            );
        }
        assert!(endpoint("web:80").is_err());
    }

    #[test]
    fn mistakes_are_told() {
        let asked = |p: &str, s: &str, d: &str| question(p, s, d, None).unwrap_err().to_string();
        assert!(asked("tcp", "192.0.2.1", "192.0.2.2").contains("needs a port"));
        assert!(asked("tcp", "192.0.2.1", "[2001:db8::1]:80").contains("different families"));
        assert!(asked("sctp", "192.0.2.1", "192.0.2.2").contains("none of tcp"));
        assert_eq!(
            question("icmp", "2001:db8::1", "2001:db8::2", None)
                .unwrap()
                .protocol,
            58
        );
    }
}
