//! What commands show of pools and of the health of their members. Pure.

use std::net::IpAddr;

use super::views::{View, admin_state};
use crate::api;
use crate::config::model::{AdminState, NatTarget, Pool, Rule};
use crate::health::{Row, Target, probed_port};

impl View<'_> {
    /// `show pools`
    pub(super) fn pools(&self) -> Vec<api::Pool> {
        self.config
            .pools
            .iter()
            .map(|pool| self.pool(pool))
            .collect()
    }

    fn pool(&self, pool: &Pool) -> api::Pool {
        let rules: Vec<&Rule> = self
            .config
            .rules
            .iter()
            .filter(|rule| rule.pool == pool.name)
            .collect();
        let nat_rules = self.config.inbound_nat_rules.iter();
        let over_it = NatTarget::Pool(pool.name.clone());
        let nat_rules = nat_rules.filter(|rule| rule.target == over_it);
        let names = rules.iter().map(|rule| &rule.name);
        let names = names.chain(nat_rules.map(|rule| &rule.name));
        let ids: Vec<u32> = names.filter_map(|name| self.ids.rules.get(name)).collect();
        let flows_of = |address: IpAddr| -> u64 {
            ids.iter()
                .filter_map(|id| self.census.members.get(&(*id, address)))
                .sum()
        };
        let members = pool.members.iter().map(|member| {
            let addresses: Vec<IpAddr> = self
                .config
                .ip_config(&member.target)
                .into_iter()
                .flat_map(|c| c.addresses())
                .collect();
            api::Member {
                instance: member.target.instance.clone(),
                ip_config: member.target.ip_config.clone(),
                weight: member.weight,
                admin_state: admin_state(member.admin_state).to_owned(),
                addresses: addresses
                    .iter()
                    .map(|address| self.member_address(*address, &rules, member.admin_state))
                    .collect(),
                active_flows: addresses.iter().map(|address| flows_of(*address)).sum(),
                draining: member.admin_state == AdminState::Down,
            }
        });
        api::Pool {
            name: pool.name.clone(),
            members: members.collect(),
        }
    }

    fn member_address(
        &self,
        address: IpAddr,
        rules: &[&Rule],
        state: AdminState,
    ) -> api::MemberAddress {
        let same_family = |rule: &&&Rule| {
            let frontend = self.config.frontend(&rule.frontend);
            frontend.is_some_and(|f| {
                f.addresses()
                    .any(|known| known.is_ipv6() == address.is_ipv6())
            })
        };
        let used: Vec<&Rule> = rules.iter().filter(same_family).copied().collect();
        let probes: Vec<api::MemberProbe> = used
            .iter()
            .filter_map(|rule| self.member_probe(rule, address))
            .collect();
        // The worst of them, and why.
        let rank = |probe: &&api::MemberProbe| match probe.health.as_str() {
            "down" => 0,
            "unknown" => 1,
            _ => 2,
        };
        let worst = probes.iter().min_by_key(rank);
        let (health, reason) = match (state, worst) {
            _ if used.is_empty() => ("unknown", "no rule uses it"),
            (AdminState::Up, _) => ("up", "admin state"),
            (AdminState::Down, _) => ("down", "admin state"),
            (AdminState::None, None) => ("up", "no probe: every member is up"),
            (AdminState::None, Some(worst)) => (worst.health.as_str(), worst.reason.as_str()),
        };
        let takes = |rule: &&Rule| {
            let id = self.ids.rules.get(&rule.name);
            id.is_some_and(|id| self.taking.contains(&(id, address)))
        };
        api::MemberAddress {
            address: address.to_string(),
            health: health.to_owned(),
            reason: reason.to_owned(),
            accepts_new_flows: used.iter().any(takes),
            probes,
        }
    }

    fn member_probe(&self, rule: &Rule, address: IpAddr) -> Option<api::MemberProbe> {
        let name = rule.probe.as_ref()?;
        let probe = self
            .config
            .probes
            .iter()
            .find(|probe| probe.name == *name)?;
        let port = probed_port(rule, probe)?;
        let target = Target {
            probe: name.clone(),
            address,
            port,
        };
        let standing = self.health.standing(&target, self.now)?;
        Some(api::MemberProbe {
            rule: rule.name.clone(),
            probe: name.clone(),
            port,
            health: standing.verdict.label().to_owned(),
            reason: standing.reason.to_owned(),
        })
    }

    /// `show probes`
    pub(super) fn probes(&self) -> Vec<api::Probe> {
        self.health.rows(self.now).into_iter().map(row).collect()
    }
}

fn row(row: Row) -> api::Probe {
    let standing = row.standing;
    let last = standing.last;
    api::Probe {
        probe: row.target.probe,
        instance: row.member.instance,
        ip_config: row.member.ip_config,
        address: row.target.address.to_string(),
        port: row.target.port,
        health: standing.verdict.label().to_owned(),
        reason: standing.reason.to_owned(),
        last_result: last.map(|last| match last.result {
            Ok(()) => "ok".to_owned(),
            Err(failure) => failure.to_string(),
        }),
        last_duration_seconds: last.map(|last| last.duration.as_secs_f64()),
        consecutive: standing.consecutive,
        changed_at: humantime::format_rfc3339_seconds(standing.changed_at).to_string(),
        held_for_seconds: standing.held_for.map(|held| held.as_secs_f64()),
        probed_address: (row.by.address != row.target.address).then(|| row.by.address.to_string()),
    }
}
