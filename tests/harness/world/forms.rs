//! Every way of writing a rule, for worlds that want them: what the daemon makes of them.

use forebay_common::abi::Rule;
use forebay_common::balance::Distribution;

use super::{RINGS_OF_ONE, World, frontend_id, rule};
use crate::frame::{TCP, UDP};
use crate::network::IpVersion;

/// TCP and UDP on every port (port 0), the same backend port; the fourth instance.
pub const RULE_EVERY: u32 = 21;
/// TCP ports 8000-8007 to 9000-9007; the second instance.
pub const RULE_RANGE: u32 = 22;
/// TCP and UDP port 8005, the same backend port; the first instance.
pub const RULE_SINGLE_ALL: u32 = 23;
/// Inbound NAT rule: TCP port 8003 to port 22 of the third instance.
pub const RULE_NAT: u32 = 24;
/// Inbound NAT rule over a pool: TCP ports 2200-2207 to port 22; 2200 is the first instance's, 2202 the second's,
/// 2203 the third's.
pub const RULE_NAT_POOL: u32 = 25;
/// The same without a backend port, UDP.
pub const RULE_NAT_RANGE: u32 = 26;

/// Spread of the last two.
const SPREAD: u32 = 3;

impl World {
    /// Adds rules and inbound NAT rules of every form to the first frontend.
    pub fn add_forms(&mut self) {
        let ring = |id, instance, offset| {
            rule(id, RINGS_OF_ONE + instance, offset, Distribution::FiveTuple)
        };
        let nat = |id, way, target| Rule {
            way,
            port_offset: 22,
            flags: Rule::ACTIVE | Rule::TCP_RESET | Rule::INBOUND_NAT | Rule::FIXED_PORT,
            ..rule(id, target, 0, Distribution::FiveTuple)
        };
        let spread = Rule {
            first_port: 2_200,
            ..nat(RULE_NAT_POOL, Rule::SPREAD, SPREAD)
        };
        let kept_port = Rule {
            id: RULE_NAT_RANGE,
            port_offset: 0,
            flags: spread.flags & !Rule::FIXED_PORT,
            ..spread
        };
        // Shorter than the range: the places after it are nobody's.
        self.spreads.insert(SPREAD, vec![1, 0, 2, 3]);
        for version in IpVersion::BOTH {
            let id = frontend_id(version, 1);
            for protocol in [TCP, UDP] {
                self.add_range(id, protocol, (0, 0), ring(RULE_EVERY, 4, 0));
                self.add_rule(id, protocol, 8_005, ring(RULE_SINGLE_ALL, 1, 0));
            }
            self.add_range(id, TCP, (8_000, 13), ring(RULE_RANGE, 2, 1_000));
            self.add_rule(id, TCP, 8_003, nat(RULE_NAT, Rule::BACKEND, 3));
            self.add_range(id, TCP, (2_200, 13), spread);
            self.add_range(id, UDP, (2_200, 13), kept_port);
        }
    }
}
