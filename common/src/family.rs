//! IPv4 and IPv6 as one type parameter: code is written once for `A: Family`.

use core::fmt::Debug;

use crate::abi::Interface;
use crate::wire::{IpHeader, Ipv4Header, Ipv6Header};

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An IPv4 address, raw: the bytes of the word in memory are the octets on the wire.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct V4(pub u32);

/// An IPv6 address, raw: the bytes of the words in memory are the octets on the wire.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct V6(pub [u64; 2]);

/// An address family, named by its address type.
pub trait Family: Copy + Eq + Debug + Default + sealed::Sealed + 'static {
    /// The header that carries such addresses.
    type Header: IpHeader<Self>;
    /// Ethernet type, host byte order.
    const ETHERTYPE: u16;
    /// Address family number of Linux (`AF_INET`, `AF_INET6`).
    const AF: u8;
    /// Protocol number of this family's ICMP.
    const ICMP: u8;
    /// Whether the header has a checksum over its addresses.
    const HEADER_CHECKSUM: bool;
    /// Types of an echo request and its reply.
    const ECHO: [u8; 2];
    /// Type and code of ICMP errors: TTL or hop limit is used up, too big, host unreachable.
    const TIME_EXCEEDED: u16;
    /// See [`Self::TIME_EXCEEDED`].
    const TOO_BIG: u16;
    /// See [`Self::TIME_EXCEEDED`].
    const HOST_UNREACHABLE: u16;
    /// The same for "administratively prohibited" (RFC 5508 section 6).
    const PROHIBITED: u16;
    /// Longest packet that an ICMP error may be, bytes (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4).
    const LONGEST_ERROR: u32;
    /// The source of the node's own trials, which no packet from a network has (RFC 7600 section 4.5.1; of the
    /// discard prefix of RFC 6666).
    const TRIALS: Self;

    /// Sum of the address as 32-bit words, for one's complement arithmetic (RFC 1071).
    fn sum(self) -> u64;
    /// Sum of the complemented words: adding it takes the address out of a checksum (RFC 1624).
    fn sum_complement(self) -> u64;
    /// Writes the address, word by word.
    ///
    /// VERIFIER: zeroing two words at once, or copying them from where they may overlap, is a call of a function that
    /// goes byte by byte, and that is followed through its loop at each place that calls it.
    fn write(self, to: &mut Self);
    /// The address as one or two words, for hashing.
    fn words(self) -> (u64, Option<u64>);
    /// False for multicast, broadcast, link-local, loopback and unspecified addresses.
    fn is_global_unicast(self) -> bool;
    /// Whether a message of this ICMP type reports an error and quotes the packet that met it, and is
    /// one that routers pass on (RFC 792, RFC 4443).
    fn is_icmp_error(kind: u8) -> bool;
    /// The node's own address on an interface; all zero: none.
    fn of_interface(interface: &Interface) -> Self;
}

#[inline(always)]
fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

impl Family for V4 {
    type Header = Ipv4Header;
    const ETHERTYPE: u16 = 0x0800;
    const AF: u8 = 2;
    const ICMP: u8 = 1;
    const HEADER_CHECKSUM: bool = true;
    const ECHO: [u8; 2] = [8, 0];
    const TIME_EXCEEDED: u16 = 11 << 8;
    const TOO_BIG: u16 = 3 << 8 | 4;
    const HOST_UNREACHABLE: u16 = 3 << 8 | 1;
    const PROHIBITED: u16 = 3 << 8 | 13;
    const LONGEST_ERROR: u32 = 576;
    const TRIALS: Self = Self(u32::from_ne_bytes([192, 0, 0, 8]));

    #[inline(always)]
    fn sum(self) -> u64 {
        u64::from(self.0)
    }

    #[inline(always)]
    fn sum_complement(self) -> u64 {
        u64::from(!self.0)
    }

    #[inline(always)]
    fn write(self, to: &mut Self) {
        *to = self;
    }

    #[inline(always)]
    fn words(self) -> (u64, Option<u64>) {
        (u64::from(self.0), None)
    }

    #[inline(always)]
    fn is_global_unicast(self) -> bool {
        let address = u32::from_be(self.0);
        let first = address >> 24;
        first != 0 && first != 127 && first < 224 && address >> 16 != 0xa9fe
    }

    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 3 | 11 | 12)
    }

    #[inline(always)]
    fn of_interface(interface: &Interface) -> Self {
        interface.address4
    }
}

impl Family for V6 {
    type Header = Ipv6Header;
    const ETHERTYPE: u16 = 0x86dd;
    const AF: u8 = 10;
    const ICMP: u8 = 58;
    const HEADER_CHECKSUM: bool = false;
    const ECHO: [u8; 2] = [128, 129];
    const TIME_EXCEEDED: u16 = 3 << 8;
    const TOO_BIG: u16 = 2 << 8;
    const HOST_UNREACHABLE: u16 = 1 << 8 | 3;
    const PROHIBITED: u16 = 1 << 8 | 1;
    const LONGEST_ERROR: u32 = 1280;
    const TRIALS: Self = Self([
        u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]),
        u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, 8]),
    ]);

    #[inline(always)]
    fn sum(self) -> u64 {
        halves(self.0[0]) + halves(self.0[1])
    }

    #[inline(always)]
    fn sum_complement(self) -> u64 {
        halves(!self.0[0]) + halves(!self.0[1])
    }

    #[inline(always)]
    fn write(self, to: &mut Self) {
        let [first, second] = &mut to.0;
        // SAFETY: words that are borrowed for this.
        unsafe {
            (&raw mut *first).write_volatile(self.0[0]);
            (&raw mut *second).write_volatile(self.0[1]);
        }
    }

    #[inline(always)]
    fn words(self) -> (u64, Option<u64>) {
        (self.0[0], Some(self.0[1]))
    }

    #[inline(always)]
    fn is_global_unicast(self) -> bool {
        let high = u64::from_be(self.0[0]);
        let multicast = high >> 56 == 0xff;
        let link_local = high >> 54 == 0xfe80 >> 6;
        let unspecified_or_loopback = high == 0 && u64::from_be(self.0[1]) <= 1;
        !(multicast || link_local || unspecified_or_loopback)
    }

    #[inline(always)]
    fn is_icmp_error(kind: u8) -> bool {
        matches!(kind, 1..=4)
    }

    #[inline(always)]
    fn of_interface(interface: &Interface) -> Self {
        interface.address6
    }
}

#[cfg(feature = "user")]
mod host {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::{V4, V6};

    impl From<Ipv4Addr> for V4 {
        fn from(address: Ipv4Addr) -> Self {
            Self(u32::from_ne_bytes(address.octets()))
        }
    }

    impl From<V4> for Ipv4Addr {
        fn from(address: V4) -> Self {
            Self::from(address.0.to_ne_bytes())
        }
    }

    impl From<V4> for IpAddr {
        fn from(address: V4) -> Self {
            Self::V4(address.into())
        }
    }

    impl From<Ipv6Addr> for V6 {
        fn from(address: Ipv6Addr) -> Self {
            let bits = address.to_bits();
            Self([((bits >> 64) as u64).to_be(), (bits as u64).to_be()])
        }
    }

    impl From<V6> for Ipv6Addr {
        fn from(address: V6) -> Self {
            let high = u128::from(u64::from_be(address.0[0]));
            let low = u128::from(u64::from_be(address.0[1]));
            Self::from_bits(high << 64 | low)
        }
    }

    impl From<V6> for IpAddr {
        fn from(address: V6) -> Self {
            Self::V6(address.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn addresses_keep_their_octets_in_memory() {
        let v4 = V4::from(Ipv4Addr::new(192, 0, 2, 1));
        assert_eq!(v4.0.to_ne_bytes(), [192, 0, 2, 1]);
        assert_eq!(Ipv4Addr::from(v4), Ipv4Addr::new(192, 0, 2, 1));
        let text: Ipv6Addr = "2001:db8::42".parse().unwrap();
        let v6 = V6::from(text);
        assert_eq!(v6.0[0].to_ne_bytes()[..4], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(v6.0[1].to_ne_bytes()[7], 0x42);
        assert_eq!(Ipv6Addr::from(v6), text);
    }

    #[test]
    fn only_global_unicast_can_be_fenced() {
        for (text, expected) in [
            ("8.8.8.8", true),
            ("10.0.0.1", true),
            ("0.1.2.3", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("224.0.0.5", false),
            ("255.255.255.255", false),
        ] {
            let address: Ipv4Addr = text.parse().unwrap();
            assert_eq!(V4::from(address).is_global_unicast(), expected, "{text}");
        }
        for (text, expected) in [
            ("2001:db8::1", true),
            ("fd00::1", true),
            ("::", false),
            ("::1", false),
            ("::2", true),
            ("fe80::1", false),
            ("febf::1", false),
            ("fec0::1", true),
            ("ff02::1", false),
        ] {
            let address: Ipv6Addr = text.parse().unwrap();
            assert_eq!(V6::from(address).is_global_unicast(), expected, "{text}");
        }
    }
}
