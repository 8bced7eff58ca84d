//! Hosts and MAC addresses of a lab, for frames that are built byte by byte.

use forebay_tests::frame::Frame;
use forebay_tests::netlab::{Instance, Lab, Namespace, Wire, address};
use forebay_tests::network::{Host, IpVersion};

pub(crate) const CLIENT: Host = host(address::CLIENT_V4.octets(), address::CLIENT_V6.segments());
pub(crate) const FRONTEND: Host = host(
    address::FRONTEND_V4.octets(),
    address::FRONTEND_V6.segments(),
);
/// What a rule of the sample sends to the same port of an instance, which answers.
pub(crate) const UDP_PORT: u16 = 5000;

const fn host(v4: [u8; 4], v6: [u16; 8]) -> Host {
    Host::new(v4, v6)
}

/// An instance as a host.
pub(crate) fn host_of(instance: &Instance) -> Host {
    host(instance.ipv4.octets(), instance.ipv6.segments())
}

/// A device's MAC address.
pub(crate) fn mac(namespace: &Namespace, device: &str) -> [u8; 6] {
    let link = namespace.link(device).unwrap();
    let text = link["address"].as_str().unwrap();
    let octets: Vec<u8> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

/// The client's device, and a datagram of the client to the frontend as it would be sent from there.
pub(crate) fn client_wire(lab: &Lab) -> (Wire, Frame) {
    let datagram = Frame {
        macs: [mac(&lab.client, "eth0"), mac(&lab.node, lab.interfaces[0])],
        source: CLIENT,
        destination: FRONTEND,
        destination_port: UDP_PORT,
        ..Frame::datagram(IpVersion::V4)
    };
    (Wire::open(&lab.client, "eth0").unwrap(), datagram)
}

/// The same frame as an instance receives it from the node.
pub(crate) fn as_received(frame: &Frame, lab: &Lab, instance: &Instance) -> Frame {
    let towards_instances = lab.interfaces[lab.interfaces.len() - 1];
    Frame {
        macs: [
            mac(&lab.node, towards_instances),
            mac(&instance.namespace, "eth0"),
        ],
        destination: host_of(instance),
        hops: frame.hops - 1,
        ..frame.clone()
    }
}
