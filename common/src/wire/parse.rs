//! Frame to facts: which addresses, protocol and ports a packet has, or why it has none for us.

use super::headers::{
    Ethernet, Icmp, Ipv4Header, Ipv6Header, Ports, Short, TCP, Tcp, UDP, Udp, VlanTag,
};
use super::upper::{self, Upper};
use super::{Field16, Frame, IpHeader, checksum};
use crate::family::{Family, V4, V6};
use crate::flow::FlowKey;
use crate::reason::Reason;

/// Bytes of an Ethernet header.
const ETHERNET: usize = size_of::<Ethernet>();
/// Bytes of a VLAN tag.
const TAG: usize = size_of::<VlanTag>();
/// IEEE 802.1Q and 802.1ad tag types, host byte order.
const TAG_TYPES: [u16; 2] = [0x8100, 0x88a8];

/// What lies around the payload of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLayer {
    /// Type of the payload, host byte order.
    pub ethertype: u16,
    /// Where the payload begins, bytes from the start of the frame.
    pub offset: usize,
}

impl LinkLayer {
    /// Whether the frame carries VLAN tags.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        self.offset != ETHERNET
    }
}

/// Tags of a frame, outer first, raw: type and tag control information; 0: none.
///
/// VERIFIER: read from the frame again, because a look at where its payload begins would have all that
/// follows verified for each number of tags.
#[inline(always)]
pub fn tags<F: Frame>(frame: &F) -> [u32; 2] {
    let at = |number: usize| {
        let word = frame.word(ETHERNET - size_of::<Field16>() + number * TAG);
        word.filter(|word| is_tag((u32::from_be(*word) >> 16) as u16))
    };
    match at(0) {
        Some(outer) => [outer, at(1).unwrap_or(0)],
        None => [0; 2],
    }
}

#[inline(always)]
fn is_tag(ethertype: u16) -> bool {
    ethertype == TAG_TYPES[0] || ethertype == TAG_TYPES[1]
}

/// Reads the Ethernet header and up to two VLAN tags.
#[inline(always)]
pub fn link_layer<F: Frame>(frame: &F) -> Result<LinkLayer, Reason> {
    let ethernet = frame.at::<Ethernet>(0).ok_or(Reason::Runt)?;
    let mut ethertype = ethernet.ethertype.host();
    let mut offset = frame.blurred(ETHERNET);
    if is_tag(ethertype) {
        ethertype = frame
            .at::<VlanTag>(ETHERNET)
            .ok_or(Reason::Runt)?
            .ethertype
            .host();
        offset = frame.blurred(ETHERNET + TAG);
        if is_tag(ethertype) {
            ethertype = frame
                .at::<VlanTag>(ETHERNET + TAG)
                .ok_or(Reason::Runt)?
                .ethertype
                .host();
            offset = frame.blurred(ETHERNET + 2 * TAG);
        }
    }
    Ok(LinkLayer { ethertype, offset })
}

/// The header above IP of a packet that can belong to a flow.
pub enum Transport<'f> {
    /// TCP
    Tcp(&'f Tcp),
    /// UDP
    Udp(&'f Udp),
    /// A later fragment, which has none.
    ///
    /// VERIFIER: with any header at all, so that there is a pointer in every case: an undefined one would be
    /// moved around, which the verifier refuses.
    Later(&'f Ports),
    /// ICMP echo over IPv4: its identifier is its port.
    Echo(&'f Icmp),
    /// The same over IPv6, where the checksum is over the addresses too.
    Echo6(&'f Icmp),
    /// Any header, of which nothing but the checksum (here) depends on the addresses.
    Sum(&'f Short),
}

impl Transport<'_> {
    /// TCP flags; zero for others.
    #[inline(always)]
    pub fn tcp_flags(&self) -> u8 {
        match self {
            Self::Tcp(tcp) => tcp.flags.get(),
            _ => 0,
        }
    }

    /// Replaces the ports and repairs the checksum; `changed` is the one's complement difference of
    /// the addresses.
    #[inline(always)]
    pub fn set_ports(&self, ports: u32, changed: u64) {
        match self {
            Self::Tcp(tcp) => {
                let changed = changed + u64::from(!tcp.ports.get()) + u64::from(ports);
                tcp.ports.set(ports);
                tcp.checksum
                    .set(checksum::update(tcp.checksum.get(), changed));
            }
            Self::Udp(udp) => {
                let changed = changed + u64::from(!udp.ports.get()) + u64::from(ports);
                udp.ports.set(ports);
                udp.checksum
                    .set(checksum::update_udp(udp.checksum.get(), changed));
            }
            Self::Echo(echo) => set_identifier(echo, ports, 0),
            Self::Echo6(echo) => set_identifier(echo, ports, changed),
            Self::Sum(sum) => {
                let before = sum.value.get();
                sum.value.set(checksum::update(before, changed));
            }
            Self::Later(_) => {}
        }
    }
}

/// Replaces the identifier of an echo by the port of two that is not zero, and repairs the checksum.
#[inline(always)]
fn set_identifier(echo: &Icmp, ports: u32, changed: u64) {
    let halves = ports.to_ne_bytes();
    let identifier = u16::from_ne_bytes([halves[0] | halves[2], halves[1] | halves[3]]);
    let rest = echo.rest.get().to_ne_bytes();
    let before = u16::from_ne_bytes([rest[0], rest[1]]);
    let [a, b] = identifier.to_ne_bytes();
    let changed = changed + u64::from(!before) + u64::from(identifier);
    echo.rest.set(u32::from_ne_bytes([a, b, rest[2], rest[3]]));
    echo.checksum
        .set(checksum::update(echo.checksum.get(), changed));
}

/// A packet that can belong to a flow, as views into its frame.
pub struct Packet<'f, A: Family> {
    /// IP header.
    pub ip: &'f A::Header,
    /// Header above it.
    pub transport: Transport<'f>,
    /// Length of IP header and payload in bytes, as the header says.
    pub length: u32,
    /// Where the header above IP begins, bytes from the start of the frame; 0 for a later fragment.
    pub start: usize,
}

/// How a family finds the header above IP.
pub trait Network: Family {
    /// Checks the IP header at `offset` and says where the transport header begins, if that is right
    /// behind it and the packet is whole.
    ///
    /// # Errors
    /// The header contradicts itself.
    fn transport_offset(ip: &Self::Header, offset: usize) -> Result<Option<usize>, Reason>;

    /// [`upper::upper`] for this family.
    ///
    /// # Errors
    /// As there.
    fn upper<F: Frame>(frame: &F, ip: &Self::Header, offset: usize) -> Result<Upper, Reason>;
}

/// Length of an IPv4 header that is what it says, bytes.
#[inline(always)]
fn ipv4_header_length(ip: &Ipv4Header) -> Result<usize, Reason> {
    let version_ihl = ip.version_ihl.get();
    let length = usize::from(version_ihl & 0x0f) << 2;
    if version_ihl >> 4 != 4 || length < size_of::<Ipv4Header>() {
        return Err(Reason::BadIpHeader);
    }
    if usize::from(ip.total_length.host()) < length {
        return Err(Reason::BadLength);
    }
    Ok(length)
}

impl Network for V4 {
    #[inline(always)]
    fn transport_offset(ip: &Ipv4Header, offset: usize) -> Result<Option<usize>, Reason> {
        let length = ipv4_header_length(ip)?;
        // More-fragments flag or an offset.
        let is_part = ip.fragment.get() & 0x3fff_u16.to_be() != 0;
        Ok((!is_part).then_some(offset + length))
    }

    #[inline(always)]
    fn upper<F: Frame>(_: &F, ip: &Ipv4Header, offset: usize) -> Result<Upper, Reason> {
        let length = ipv4_header_length(ip)?;
        Ok(Upper {
            protocol: ip.protocol.get(),
            start: offset + length,
            content: offset + length,
            piece: upper::piece_of_ipv4(ip.identification.get(), ip.fragment.host()),
        })
    }
}

#[inline(always)]
fn is_ipv6(ip: &Ipv6Header) -> Result<(), Reason> {
    if ip.version.get() & 0xf000_0000_u32.to_be() != 0x6000_0000_u32.to_be() {
        return Err(Reason::BadIpHeader);
    }
    Ok(())
}

impl Network for V6 {
    #[inline(always)]
    fn transport_offset(ip: &Ipv6Header, offset: usize) -> Result<Option<usize>, Reason> {
        is_ipv6(ip)?;
        let is_extension = matches!(ip.next_header.get(), 0 | 43 | 44 | 51 | 60);
        Ok((!is_extension).then_some(offset + size_of::<Ipv6Header>()))
    }

    #[inline(always)]
    fn upper<F: Frame>(frame: &F, ip: &Ipv6Header, offset: usize) -> Result<Upper, Reason> {
        is_ipv6(ip)?;
        let behind = offset + size_of::<Ipv6Header>();
        let end = upper::end_of::<Self>(ip, offset);
        upper::behind_extensions(frame, ip.next_header.get(), behind, end)
    }
}

/// Reads what lies above an IP header that starts at `offset`, and puts the ports into `key`. `None` for
/// fragments and behind extension headers, where [`upper::upper`] finds it.
///
/// # Errors
/// The reason why the packet cannot belong to a flow.
#[inline(always)]
pub fn network<'f, A: Network, F: Frame>(
    frame: &'f F,
    ip: &'f A::Header,
    offset: usize,
    key: &mut FlowKey<A>,
) -> Result<Option<Packet<'f, A>>, Reason> {
    match A::transport_offset(ip, offset)? {
        Some(start) => transport(frame, ip, offset, start, key).map(Some),
        None => Ok(None),
    }
}

/// Reads the header at `start` of a packet whose IP header starts at `offset`, and puts the ports into
/// `key`, which has the protocol already.
///
/// # Errors
/// The reason why the packet cannot belong to a flow.
#[inline(always)]
pub fn transport<'f, A: Network, F: Frame>(
    frame: &'f F,
    ip: &'f A::Header,
    offset: usize,
    start: usize,
    key: &mut FlowKey<A>,
) -> Result<Packet<'f, A>, Reason> {
    let length = ip.length();
    let payload = length.wrapping_sub((start - offset) as u32);
    let (transport, needed) = if key.protocol == u32::from(TCP) {
        let tcp = frame.at::<Tcp>(start).ok_or(Reason::Truncated)?;
        key.ports = tcp.ports.get();
        (Transport::Tcp(tcp), size_of::<Tcp>() as u32)
    } else if key.protocol == u32::from(UDP) {
        let udp = frame.at::<Udp>(start).ok_or(Reason::Truncated)?;
        key.ports = udp.ports.get();
        (Transport::Udp(udp), size_of::<Udp>() as u32)
    } else {
        return Err(Reason::Protocol);
    };
    if payload < needed {
        return Err(Reason::BadLength);
    }
    Ok(Packet {
        ip,
        transport,
        length,
        start,
    })
}
