//! When a flow is over. The kernel asks on every hit, the daemon's sweep in between.

use super::state::FlowState;
use crate::wire::{TCP, UDP};

/// Timeouts that every flow shares, jiffies, rounded up.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// TCP until the handshake is complete.
    pub tcp_half_open: u32,
    /// TCP after FIN from both sides.
    pub tcp_fin: u32,
    /// TCP after RST.
    pub tcp_rst: u32,
    /// UDP without an answer.
    pub udp_unreplied: u32,
    /// ICMP echo.
    pub icmp_idle: u32,
}

/// How long a flow in `state` lives after its last packet (or, once it has ended, after its end);
/// jiffies. `idle` is the flow's own idle timeout.
#[inline(always)]
pub fn lifetime(timeouts: &Timeouts, protocol: u32, state: FlowState, idle: u32) -> u32 {
    match state {
        FlowState::Established => idle,
        FlowState::Closing => timeouts.tcp_fin,
        FlowState::Closed => timeouts.tcp_rst,
        FlowState::Opening if protocol == TCP as u32 => timeouts.tcp_half_open,
        FlowState::Opening if protocol == UDP as u32 => {
            if timeouts.udp_unreplied < idle {
                timeouts.udp_unreplied
            } else {
                idle
            }
        }
        FlowState::Opening => timeouts.icmp_idle,
    }
}

/// Whether `lifetime` has passed since `last_seen`. Never early: a jiffy that has begun does not count.
#[inline(always)]
pub fn is_over(now: u64, last_seen: u64, lifetime: u32) -> bool {
    now > last_seen.wrapping_add(u64::from(lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: Timeouts = Timeouts {
        tcp_half_open: 1,
        tcp_fin: 2,
        tcp_rst: 3,
        udp_unreplied: 40,
        icmp_idle: 5,
    };

    #[test]
    fn each_state_has_its_lifetime() {
        let (tcp, udp, icmp) = (u32::from(TCP), u32::from(UDP), 1);
        for (protocol, state, idle, expected) in [
            (tcp, FlowState::Opening, 100, 1),
            (tcp, FlowState::Established, 100, 100),
            (tcp, FlowState::Closing, 100, 2),
            (tcp, FlowState::Closed, 100, 3),
            (udp, FlowState::Opening, 100, 40),
            (udp, FlowState::Opening, 10, 10),
            (udp, FlowState::Established, 100, 100),
            (icmp, FlowState::Opening, 100, 5),
        ] {
            assert_eq!(
                lifetime(&TIMEOUTS, protocol, state, idle),
                expected,
                "{protocol} {state:?}"
            );
        }
    }

    #[test]
    fn a_flow_is_over_after_its_lifetime_and_not_before() {
        assert!(!is_over(100, 100, 0));
        assert!(!is_over(110, 100, 10));
        assert!(is_over(111, 100, 10));
        assert!(
            !is_over(5, 10, 0),
            "a clock that lags behind another CPU's is not an end"
        );
    }
}
