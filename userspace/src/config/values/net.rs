//! Addresses, prefixes and socket addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use toml_edit::Value;

use super::{Mismatch, Parsed, string};
use crate::config::model::Selector;
use crate::config::suggest::closest;

const IPV4: &str = "an IPv4 address such as \"10.0.1.11\"";
const IPV6: &str = "an IPv6 address such as \"fd00:1::11\"";
const IPV4_NET: &str = "an IPv4 address such as \"203.0.113.10\", or a prefix for outbound";
const IPV6_NET: &str = "an IPv6 address such as \"2001:db8:1::10\", or a prefix for outbound";
const PREFIX: &str = "a prefix such as \"10.0.0.0/8\" or \"fd00::/8\"";
const SOCKET: &str = "an address with a port, such as \"127.0.0.1:9470\" or \"[::1]:9470\"";
const SELECTOR: &str =
    "an address, a prefix, \"VirtualNetwork\", \"LoadBalancer\", \"Internet\" or \"*\"";

/// Ranges that no machine behind or in front of the node can have, and why.
const UNUSABLE: [(&str, &str); 10] = [
    ("0.0.0.0/8", "this means \"no address\""),
    ("127.0.0.0/8", "this is a loopback address"),
    ("169.254.0.0/16", "link-local addresses are never forwarded"),
    ("224.0.0.0/4", "this is a multicast address"),
    ("255.255.255.255/32", "this is the broadcast address"),
    ("::/128", "this means \"no address\""),
    ("::1/128", "this is the loopback address"),
    (
        "::ffff:0:0/96",
        "this is an IPv4 address in disguise; write it as one",
    ),
    ("fe80::/10", "link-local addresses are never forwarded"),
    ("ff00::/8", "this is a multicast address"),
];

/// A prefix of a frontend has at most this many addresses, because each is one of the node's.
const MOST_ADDRESSES_BITS: u8 = 8;

/// The IPv4 address of a machine.
pub(in crate::config) fn ipv4(value: &Value) -> Parsed<Ipv4Addr> {
    let text = string(value, IPV4)?;
    let address = text
        .parse()
        .map_err(|_| Mismatch::new(IPV4, no_address(text, IpAddr::is_ipv6, "IPv4")))?;
    usable(Ipv4Net::from(address).into(), IPV4)?;
    Ok(address)
}

/// The IPv6 address of a machine.
pub(in crate::config) fn ipv6(value: &Value) -> Parsed<Ipv6Addr> {
    let text = string(value, IPV6)?;
    let address = text
        .parse()
        .map_err(|_| Mismatch::new(IPV6, no_address(text, IpAddr::is_ipv4, "IPv6")))?;
    usable(Ipv6Net::from(address).into(), IPV6)?;
    Ok(address)
}

/// The IPv4 address or prefix of a frontend.
pub(in crate::config) fn frontend_ipv4(value: &Value) -> Parsed<Ipv4Net> {
    let text = string(value, IPV4_NET)?;
    let net = net(text, IPV4_NET, "IPv4", IpAddr::is_ipv6)?;
    match net {
        IpNet::V4(net) => Ok(net),
        IpNet::V6(_) => Err(Mismatch::new(IPV4_NET, other_family("IPv6"))),
    }
}

/// The IPv6 address or prefix of a frontend.
pub(in crate::config) fn frontend_ipv6(value: &Value) -> Parsed<Ipv6Net> {
    let text = string(value, IPV6_NET)?;
    let net = net(text, IPV6_NET, "IPv6", IpAddr::is_ipv4)?;
    match net {
        IpNet::V6(net) => Ok(net),
        IpNet::V4(_) => Err(Mismatch::new(IPV6_NET, other_family("IPv4"))),
    }
}

/// An element of `virtual_network`.
pub(in crate::config) fn prefix(value: &Value) -> Parsed<IpNet> {
    let text = string(value, PREFIX)?;
    address_or_prefix(text).map_err(|message| Mismatch::new(PREFIX, message))
}

/// A listen or server address.
pub(in crate::config) fn socket_address(value: &Value) -> Parsed<SocketAddr> {
    let text = string(value, SOCKET)?;
    let socket: SocketAddr = text.parse().map_err(|_| {
        let message = match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => format!("add the port, as in \"{address}:9470\""),
            Ok(IpAddr::V6(address)) => format!("add the port, as in \"[{address}]:9470\""),
            Err(_) => format!("\"{}\" is no address with a port", text.escape_debug()),
        };
        Mismatch::new(SOCKET, message)
    })?;
    if socket.port() == 0 {
        return Err(Mismatch::new(SOCKET, "port 0 cannot be reached"));
    }
    Ok(socket)
}

/// An element of `source` or `destination`; `None` is `"*"`.
pub(in crate::config) fn selector(value: &Value) -> Parsed<Option<Selector>> {
    const TAGS: [(&str, Selector); 3] = [
        ("VirtualNetwork", Selector::VirtualNetwork),
        ("LoadBalancer", Selector::LoadBalancer),
        ("Internet", Selector::Internet),
    ];
    let text = string(value, SELECTOR)?;
    if text == "*" {
        return Ok(None);
    }
    if let Some((_, tag)) = TAGS.iter().find(|(name, _)| *name == text) {
        return Ok(Some(*tag));
    }
    let slip = closest(text, TAGS.iter().map(|(name, _)| *name));
    address_or_prefix(text)
        .map(|net| Some(Selector::Net(net)))
        .map_err(|message| {
            let message = match slip {
                Some(tag) => format!("did you mean \"{tag}\"?"),
                None => message,
            };
            Mismatch::new(SELECTOR, message)
        })
}

fn net(text: &str, expected: &str, family: &str, is_other: fn(&IpAddr) -> bool) -> Parsed<IpNet> {
    let net = if text.contains('/') {
        address_or_prefix(text).map_err(|message| Mismatch::new(expected, message))?
    } else {
        let address: Option<IpAddr> = text.parse().ok().filter(|address| !is_other(address));
        let address =
            address.ok_or_else(|| Mismatch::new(expected, no_address(text, is_other, family)))?;
        IpNet::from(address)
    };
    usable(net, expected)?;
    if net.max_prefix_len() - net.prefix_len() > MOST_ADDRESSES_BITS {
        let longest = net.max_prefix_len() - MOST_ADDRESSES_BITS;
        let message = format!("every address of it is used: /{longest} is the largest allowed");
        return Err(Mismatch::new(expected, message));
    }
    Ok(net)
}

fn address_or_prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("\"{}\" is no address or prefix", text.escape_debug()))?;
    let truncated = net.trunc();
    if truncated == net {
        return Ok(net);
    }
    Err(format!(
        "the address has bits set beyond the prefix length; write \"{truncated}\" or \"{}\"",
        net.addr()
    ))
}

fn usable(net: IpNet, expected: &str) -> Parsed<()> {
    for (range, why) in UNUSABLE {
        let range: IpNet = range.parse().expect("a prefix of our own list");
        if range.contains(&net) || net.contains(&range) {
            return Err(Mismatch::new(expected, why));
        }
    }
    Ok(())
}

fn no_address(text: &str, is_other: fn(&IpAddr) -> bool, family: &str) -> String {
    if text.parse().is_ok_and(|address| is_other(&address)) {
        return other_family(if family == "IPv4" { "IPv6" } else { "IPv4" });
    }
    if let Some((address, _)) = text.split_once('/')
        && address.parse::<IpAddr>().is_ok()
    {
        return "one address, without a prefix length".to_owned();
    }
    if let Some((address, _)) = text.split_once('%') {
        return format!("leave the zone out: \"{}\"", address.escape_debug());
    }
    format!("\"{}\" is no {family} address", text.escape_debug())
}

fn other_family(family: &str) -> String {
    format!("this is of {family}: use the key {}", family.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{refusal, value};
    use super::*;

    fn quoted(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn machines_have_one_unicast_address_of_the_right_family() {
        assert_eq!(ipv4(&quoted("10.0.1.11")), Ok(Ipv4Addr::new(10, 0, 1, 11)));
        assert_eq!(
            ipv6(&quoted("fd00:1::11")),
            Ok("fd00:1::11".parse().unwrap())
        );
        for (text, message) in [
            ("10.0.1", "\"10.0.1\" is no IPv4 address"),
            ("10.0.1.256", "\"10.0.1.256\" is no IPv4 address"),
            ("10.0.1.011", "\"10.0.1.011\" is no IPv4 address"),
            ("", "\"\" is no IPv4 address"),
            ("fd00::1", "this is of IPv6: use the key ipv6"),
            ("10.0.1.11/24", "one address, without a prefix length"),
            ("0.0.0.0", "this means \"no address\""),
            ("127.0.0.1", "this is a loopback address"),
            ("169.254.1.1", "link-local addresses are never forwarded"),
            ("224.0.0.1", "this is a multicast address"),
            ("255.255.255.255", "this is the broadcast address"),
        ] {
            assert_eq!(refusal(ipv4(&quoted(text))), message, "{text}");
        }
        for (text, message) in [
            ("fd00::g", "\"fd00::g\" is no IPv6 address"),
            ("10.0.0.1", "this is of IPv4: use the key ipv4"),
            ("::", "this means \"no address\""),
            ("::1", "this is the loopback address"),
            (
                "::ffff:10.0.0.1",
                "this is an IPv4 address in disguise; write it as one",
            ),
            ("fe80::1", "link-local addresses are never forwarded"),
            ("ff02::1", "this is a multicast address"),
            ("fe80::1%eth0", "leave the zone out: \"fe80::1\""),
        ] {
            assert_eq!(refusal(ipv6(&quoted(text))), message, "{text}");
        }
        assert_eq!(refusal(ipv4(&value("10"))), "write it as text, in quotes");
    }

    #[test]
    fn frontends_have_an_address_or_a_small_prefix() {
        assert_eq!(
            frontend_ipv4(&quoted("203.0.113.10")),
            Ok("203.0.113.10/32".parse().unwrap())
        );
        assert_eq!(
            frontend_ipv4(&quoted("203.0.113.0/24")),
            Ok("203.0.113.0/24".parse().unwrap())
        );
        assert_eq!(
            frontend_ipv6(&quoted("2001:db8::/120")),
            Ok("2001:db8::/120".parse().unwrap())
        );
        for (text, message) in [
            (
                "203.0.113.65/30",
                "the address has bits set beyond the prefix length; write \"203.0.113.64/30\" or \"203.0.113.65\"",
            ),
            (
                "203.0.0.0/23",
                "every address of it is used: /24 is the largest allowed",
            ),
            ("0.0.0.0/0", "this means \"no address\""),
            (
                "203.0.113.0/33",
                "\"203.0.113.0/33\" is no address or prefix",
            ),
            ("2001:db8::1", "this is of IPv6: use the key ipv6"),
            ("2001:db8::/126", "this is of IPv6: use the key ipv6"),
            ("239.0.0.0/28", "this is a multicast address"),
            ("web", "\"web\" is no IPv4 address"),
        ] {
            assert_eq!(refusal(frontend_ipv4(&quoted(text))), message, "{text}");
        }
        for (text, message) in [
            (
                "2001:db8::/64",
                "every address of it is used: /120 is the largest allowed",
            ),
            ("203.0.113.1", "this is of IPv4: use the key ipv4"),
            ("203.0.113.0/30", "this is of IPv4: use the key ipv4"),
            ("ff00::/124", "this is a multicast address"),
        ] {
            assert_eq!(refusal(frontend_ipv6(&quoted(text))), message, "{text}");
        }
    }

    #[test]
    fn prefixes_have_no_host_bits() {
        assert_eq!(
            prefix(&quoted("10.0.0.0/8")),
            Ok("10.0.0.0/8".parse().unwrap())
        );
        assert_eq!(
            prefix(&quoted("fe80::/10")),
            Ok("fe80::/10".parse().unwrap())
        );
        assert_eq!(
            prefix(&quoted("10.1.2.3")),
            Ok("10.1.2.3/32".parse().unwrap())
        );
        assert!(
            refusal(prefix(&quoted("10.0.0.1/8"))).contains("write \"10.0.0.0/8\" or \"10.0.0.1\"")
        );
        assert_eq!(
            refusal(prefix(&quoted("10/8"))),
            "\"10/8\" is no address or prefix"
        );
    }

    #[test]
    fn sockets_have_an_address_and_a_port() {
        assert!(socket_address(&quoted("127.0.0.1:9470")).is_ok());
        assert!(socket_address(&quoted("[::1]:9470")).is_ok());
        for (text, message) in [
            ("127.0.0.1", "add the port, as in \"127.0.0.1:9470\""),
            ("::1", "add the port, as in \"[::1]:9470\""),
            (":9470", "\":9470\" is no address with a port"),
            (
                "localhost:9470",
                "\"localhost:9470\" is no address with a port",
            ),
            ("127.0.0.1:0", "port 0 cannot be reached"),
        ] {
            assert_eq!(refusal(socket_address(&quoted(text))), message, "{text}");
        }
    }

    #[test]
    fn selectors_are_addresses_prefixes_tags_or_a_star() {
        assert_eq!(selector(&quoted("*")), Ok(None));
        assert_eq!(selector(&quoted("Internet")), Ok(Some(Selector::Internet)));
        assert_eq!(
            selector(&quoted("LoadBalancer")),
            Ok(Some(Selector::LoadBalancer))
        );
        assert_eq!(
            selector(&quoted("VirtualNetwork")),
            Ok(Some(Selector::VirtualNetwork))
        );
        assert_eq!(
            selector(&quoted("10.0.0.1")),
            Ok(Some(Selector::Net("10.0.0.1/32".parse().unwrap())))
        );
        for (text, message) in [
            ("internet", "did you mean \"Internet\"?"),
            ("AzureLoadBalancer", "did you mean \"LoadBalancer\"?"),
            ("Virtual_Network", "did you mean \"VirtualNetwork\"?"),
            ("any", "\"any\" is no address or prefix"),
        ] {
            assert_eq!(refusal(selector(&quoted(text))), message, "{text}");
        }
    }
}
