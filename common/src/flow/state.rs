//! What a flow has been through.
//!
//! Each direction keeps a set of events that only grows. The state is a function of the two sets, so
//! packets of both directions may be handled on two CPUs at once: each writes its own byte.

use crate::wire::{TCP, tcp_flags};

/// Which way a packet goes, seen from the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Towards the instance.
    ToInstance,
    /// From the instance.
    FromInstance,
}

/// What made a flow; the word of `forebay show flows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowKind {
    /// A load-balancing rule.
    Rule = 1,
    /// An inbound NAT rule.
    InboundNat = 2,
    /// An outbound rule.
    OutboundRule = 3,
    /// The way out that a load-balancing rule implies.
    RuleImplied = 4,
    /// Default outbound.
    DefaultOutbound = 5,
    /// From an instance to a frontend or a public IP.
    Hairpin = 6,
    /// No flow, but a port that an instance's port has towards everybody, or, with a remote address, whoever
    /// was contacted from there. Sessions hang on it.
    Mapping = 7,
}

impl FlowKind {
    const DIRECTION_BIT: u8 = 0x80;
    const RESET_BIT: u8 = 0x40;
    /// The flow hangs on a mapping.
    pub const MAPPED_BIT: u8 = 0x20;
    /// The flow keeps its remote address among those contacted.
    pub const CONTACT_BIT: u8 = 0x10;

    /// The entry's `kind` byte.
    #[inline(always)]
    pub const fn byte(self, direction: Direction, tcp_reset: bool) -> u8 {
        let direction = match direction {
            Direction::ToInstance => 0,
            Direction::FromInstance => Self::DIRECTION_BIT,
        };
        self as u8 | direction | if tcp_reset { Self::RESET_BIT } else { 0 }
    }

    /// Direction of the packets that meet an entry with this `kind` byte.
    #[inline(always)]
    pub const fn direction(byte: u8) -> Direction {
        if byte & Self::DIRECTION_BIT == 0 {
            Direction::ToInstance
        } else {
            Direction::FromInstance
        }
    }

    /// The `kind` byte of the entry of the other direction.
    #[inline(always)]
    pub const fn other_way(byte: u8) -> u8 {
        byte ^ Self::DIRECTION_BIT
    }

    /// Whether both sides get a RST when the established flow idles out.
    pub const fn tcp_reset(byte: u8) -> bool {
        byte & Self::RESET_BIT != 0
    }

    /// The kind of an entry with this `kind` byte; `None` when a newer program wrote it.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte & 0x0f {
            1 => Some(Self::Rule),
            2 => Some(Self::InboundNat),
            3 => Some(Self::OutboundRule),
            4 => Some(Self::RuleImplied),
            5 => Some(Self::DefaultOutbound),
            6 => Some(Self::Hairpin),
            7 => Some(Self::Mapping),
            _ => None,
        }
    }

    /// Its name in output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::InboundNat => "inbound-nat",
            Self::OutboundRule => "outbound-rule",
            Self::RuleImplied => "rule-implied",
            Self::DefaultOutbound => "default-outbound",
            Self::Hairpin => "hairpin",
            Self::Mapping => "mapping",
        }
    }
}

/// Bits of an entry's `marks`.
pub mod marks {
    /// The flow has ended and is about to be deleted: readers take it for a miss and never revive it.
    pub const RETIRING: u8 = 0x01;
}

/// Events of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen(pub u8);

impl Seen {
    /// Any packet of a protocol without connections.
    pub const PACKET: Self = Self(0x01);
    /// TCP SYN.
    pub const SYN: Self = Self(0x02);
    /// TCP packet with an acknowledgement but no SYN.
    pub const ACK: Self = Self(0x04);
    /// TCP FIN.
    pub const FIN: Self = Self(0x08);
    /// TCP RST that its receiver can accept.
    pub const RST: Self = Self(0x10);

    /// Whether any of `events` is in this set.
    #[inline(always)]
    pub const fn any(self, events: Self) -> bool {
        self.0 & events.0 != 0
    }

    /// Both sets together.
    #[inline(always)]
    pub const fn with(self, events: Self) -> Self {
        Self(self.0 | events.0)
    }

    /// Events of a packet.
    #[inline(always)]
    pub const fn of(protocol: u32, flags: u8) -> Self {
        if protocol != TCP as u32 {
            return Self::PACKET;
        }
        // SYN, FIN and RST have the same order of bits as here; ACK counts without SYN only.
        let mut events = 0;
        if flags & tcp_flags::SYN != 0 {
            events |= Self::SYN.0;
        } else if flags & tcp_flags::ACK != 0 {
            events |= Self::ACK.0;
        }
        if flags & tcp_flags::FIN != 0 {
            events |= Self::FIN.0;
        }
        if flags & tcp_flags::RST != 0 {
            events |= Self::RST.0;
        }
        Self(events)
    }
}

/// Where a flow stands; the words of `forebay show flows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// Handshake not complete, or not answered yet.
    Opening,
    /// Both sides talk.
    Established,
    /// FIN from both sides.
    Closing,
    /// Reset.
    Closed,
}

impl FlowState {
    /// Its name in output.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// Whether the flow has ended and only waits for its time to run out.
    #[inline(always)]
    pub const fn has_ended(self) -> bool {
        matches!(self, Self::Closing | Self::Closed)
    }
}

/// State of a flow, from what its two directions have seen.
///
/// TCP is established when both sides have acknowledged something of the other: the third packet of
/// a handshake, or, for a connection that was met in its middle, the first answer. A FIN of one side
/// changes nothing (half-closed connections may live long).
#[inline(always)]
pub const fn state_of(protocol: u32, to_instance: Seen, from_instance: Seen) -> FlowState {
    if protocol != TCP as u32 {
        return if to_instance.any(Seen::PACKET) && from_instance.any(Seen::PACKET) {
            FlowState::Established
        } else {
            FlowState::Opening
        };
    }
    let either = to_instance.with(from_instance);
    if either.any(Seen::RST) {
        return FlowState::Closed;
    }
    if to_instance.any(Seen::FIN) && from_instance.any(Seen::FIN) {
        return FlowState::Closing;
    }
    let spoke = Seen::SYN.with(Seen::ACK);
    let both_spoke = to_instance.any(spoke) && from_instance.any(spoke);
    if both_spoke && either.any(Seen::ACK) {
        FlowState::Established
    } else {
        FlowState::Opening
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::UDP;

    const S: Seen = Seen::SYN;
    const A: Seen = Seen::ACK;
    const F: Seen = Seen::FIN;
    const R: Seen = Seen::RST;

    #[test]
    fn tcp_states_follow_what_was_seen() {
        let none = Seen::default();
        for (to, from, expected) in [
            (S, none, FlowState::Opening),
            (S, S, FlowState::Opening),
            (S.with(A), S, FlowState::Established),
            (A, none, FlowState::Opening),
            (A, A, FlowState::Established),
            (S.with(A).with(F), S.with(A), FlowState::Established),
            (S.with(A), S.with(A).with(F), FlowState::Established),
            (S.with(A).with(F), S.with(A).with(F), FlowState::Closing),
            (
                S.with(A).with(F),
                S.with(A).with(F).with(R),
                FlowState::Closed,
            ),
            (S, R, FlowState::Closed),
        ] {
            assert_eq!(
                state_of(u32::from(TCP), to, from),
                expected,
                "{to:?} {from:?}"
            );
        }
    }

    #[test]
    fn udp_is_established_by_an_answer() {
        let udp = u32::from(UDP);
        assert_eq!(
            state_of(udp, Seen::PACKET, Seen::default()),
            FlowState::Opening
        );
        assert_eq!(
            state_of(udp, Seen::PACKET, Seen::PACKET),
            FlowState::Established
        );
    }

    #[test]
    fn packets_tell_their_events() {
        let tcp = u32::from(TCP);
        for (flags, expected) in [
            (0x02, S),
            (0x12, S),
            (0x10, A),
            (0x18, A),
            (0x11, A.with(F)),
            (0x04, R),
            (0x14, A.with(R)),
            (0x00, Seen::default()),
        ] {
            assert_eq!(Seen::of(tcp, flags), expected, "{flags:#x}");
        }
        assert_eq!(Seen::of(u32::from(UDP), 0), Seen::PACKET);
    }

    #[test]
    fn kind_byte_keeps_its_parts() {
        for direction in [Direction::ToInstance, Direction::FromInstance] {
            for reset in [false, true] {
                let byte = FlowKind::Rule.byte(direction, reset);
                assert_eq!(FlowKind::direction(byte), direction);
                assert_eq!(FlowKind::tcp_reset(byte), reset);
                assert_eq!(FlowKind::from_byte(byte), Some(FlowKind::Rule));
            }
        }
        assert_eq!(FlowKind::from_byte(0), None);
    }
}
