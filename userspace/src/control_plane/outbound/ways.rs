//! What a way says besides its ports.

use std::time::Duration;

use forebay_common::abi::Way;
use forebay_common::flow::FlowKind;
use forebay_common::wire::{TCP, UDP};

use super::groups::{Method, rule_key};
use crate::config::model::{
    Filtering, FrontendSelection, Mapping, OnExhaustion, OutboundRule, PortSelection,
};
use crate::control_plane::desired::Inputs;

impl Method<'_> {
    /// Whether a port is one source port's for all destinations. Echo requests are like UDP.
    pub(super) fn is_independent(self, protocol: u8) -> bool {
        let mapping = match (self, protocol) {
            (Self::Rule(rule), TCP) => rule.tcp_mapping,
            (Self::Rule(rule), _) => rule.udp_mapping,
            (Self::Implied | Self::Default, TCP) => Mapping::PerDestination,
            (Self::Implied | Self::Default, _) => Mapping::EndpointIndependent,
        };
        mapping == Mapping::EndpointIndependent
    }

    fn kind(self) -> FlowKind {
        match self {
            Self::Rule(_) => FlowKind::OutboundRule,
            Self::Implied => FlowKind::RuleImplied,
            Self::Default => FlowKind::DefaultOutbound,
        }
    }

    fn flags(self, protocol: u8) -> u32 {
        let mut flags = kind(self.kind());
        if self.is_independent(protocol) {
            flags |= Way::ENDPOINT_INDEPENDENT;
        }
        let (reset, more) = match self {
            Self::Rule(rule) => (rule.tcp_reset, rule_flags(rule, flags)),
            Self::Implied | Self::Default => (true, Way::REJECT),
        };
        if reset && protocol == TCP {
            flags |= Way::TCP_RESET;
        }
        flags | more
    }
}

fn kind(kind: FlowKind) -> u32 {
    u32::from(kind as u8) << Way::KIND_SHIFT
}

/// What an outbound rule chooses.
fn rule_flags(rule: &OutboundRule, flags: u32) -> u32 {
    let mut more = match rule.filtering {
        _ if flags & Way::ENDPOINT_INDEPENDENT == 0 => 0,
        Filtering::EndpointIndependent => Way::OPEN_TO_ALL,
        Filtering::AddressDependent => Way::OPEN_TO_CONTACTED,
        Filtering::AddressAndPortDependent => 0,
    };
    more |= match rule.frontend_selection {
        FrontendSelection::Spread => 0,
        FrontendSelection::Fill => Way::FILL,
        FrontendSelection::Random => Way::RANDOM,
    };
    more |= match rule.port_selection {
        PortSelection::Random => 0,
        PortSelection::Lowest => Way::LOWEST,
    };
    more | match rule.on_exhaustion {
        OnExhaustion::Reject => Way::REJECT,
        OnExhaustion::Drop => 0,
    }
}

impl Inputs<'_> {
    /// A way without its ports.
    pub(super) fn way(&self, method: Method<'_>, protocol: u8) -> Way {
        let (rule, idle) = match method {
            Method::Rule(rule) => {
                let id = self.ids.rules.get(&rule_key(&rule.name));
                (id.unwrap_or(0), rule.idle_timeout)
            }
            Method::Implied | Method::Default => (0, None),
        };
        Way {
            rule,
            flags: method.flags(protocol),
            ..self.timed(protocol, idle)
        }
    }

    /// The way of whoever has none, towards an address of this node.
    pub(super) fn hairpin(&self, protocol: u8) -> Way {
        Way {
            flags: kind(FlowKind::Hairpin) | Way::REJECT,
            ..self.timed(protocol, None)
        }
    }

    /// A way that only says when flows end.
    fn timed(&self, protocol: u8, idle: Option<Duration>) -> Way {
        let timeouts = &self.config.timeouts;
        let (idle, dns) = match protocol {
            TCP => {
                let idle = idle.unwrap_or(timeouts.tcp_idle);
                (idle, idle)
            }
            UDP => {
                let dns = timeouts.udp_dns;
                let dns = idle.map_or(dns, |idle| idle.min(dns));
                (idle.unwrap_or(timeouts.udp_idle), dns)
            }
            _ => (timeouts.icmp_idle, timeouts.icmp_idle),
        };
        Way {
            idle: self.rate.ticks(idle),
            idle_dns: self.rate.ticks(dns),
            ..Way::default()
        }
    }
}
