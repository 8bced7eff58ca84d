//! Who takes new flows of a rule, and whose flows are to go elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::ids::Ids;
use crate::config::model::{AdminState, Config, Member};

/// Whose flows are meant: rule ids with members' addresses.
pub type Whose = BTreeSet<(u32, IpAddr)>;

/// Whether a member takes new flows.
pub fn takes_new_flows(member: &Member) -> bool {
    member.admin_state != AdminState::Down
}

/// The members of rules that take no new flows: their datagrams go to others, their connections stay.
pub fn to_move(config: &Config, ids: &Ids) -> Whose {
    members(config, ids, |member| !takes_new_flows(member))
}

/// The members of rules whom the operator has not taken out.
pub fn to_stay(config: &Config, ids: &Ids) -> Whose {
    members(config, ids, |member| member.admin_state != AdminState::Down)
}

fn members(config: &Config, ids: &Ids, is_meant: impl Fn(&Member) -> bool) -> Whose {
    let pools: HashMap<&str, _> = (config.pools.iter().map(|p| (p.name.as_str(), p))).collect();
    let mut addresses: HashMap<(&str, &str), Vec<IpAddr>> = HashMap::new();
    for instance in &config.instances {
        for one in &instance.ip_configs {
            let name = (instance.name.as_str(), one.name.as_str());
            addresses.insert(name, one.addresses().collect());
        }
    }
    let mut whose = Whose::new();
    for rule in &config.rules {
        let (Some(id), Some(pool)) = (ids.rules.get(&rule.name), pools.get(rule.pool.as_str()))
        else {
            continue;
        };
        for member in pool.members.iter().filter(|member| is_meant(member)) {
            let name = (
                member.target.instance.as_str(),
                member.target.ip_config.as_str(),
            );
            let known = addresses.get(&name).into_iter().flatten();
            whose.extend(known.map(|address| (id, *address)));
        }
    }
    whose
}

/// Members that were taken out, and when what is left of their flows is ended.
#[derive(Debug, Clone, Default)]
pub struct Drains(BTreeMap<(u32, IpAddr), Instant>);

impl Drains {
    /// Follows a change of who stays. Who leaves has `drain` from `now` on, or as long as it takes (`None`); who
    /// comes back is left alone.
    pub fn follow(&mut self, before: &Whose, after: &Whose, drain: Option<Duration>, now: Instant) {
        self.0.retain(|whose, _| !after.contains(whose));
        let Some(due) = drain.and_then(|drain| now.checked_add(drain)) else {
            return;
        };
        for whose in before.difference(after) {
            self.0.entry(*whose).or_insert(due);
        }
    }

    /// Ends what is left of these at another time.
    pub fn end_at(&mut self, whose: impl IntoIterator<Item = (u32, IpAddr)>, due: Instant) {
        self.0.extend(whose.into_iter().map(|whose| (whose, due)));
    }

    /// Those whose time has come; they are forgotten.
    pub fn take_due(&mut self, now: Instant) -> Whose {
        let is_due = |_: &(u32, IpAddr), due: &mut Instant| *due <= now;
        self.0
            .extract_if(.., is_due)
            .map(|(whose, _)| whose)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn whose(hosts: &[u8]) -> Whose {
        let of = |host: &u8| (7, IpAddr::from([10, 0, 1, *host]));
        hosts.iter().map(of).collect()
    }

    #[test]
    fn who_leaves_is_due_after_the_drain_and_once() {
        let (mut drains, start) = (Drains::default(), Instant::now());
        drains.follow(&whose(&[1, 2]), &whose(&[2]), Some(SECOND), start);
        assert_eq!(drains.take_due(start), Whose::new());
        assert_eq!(drains.take_due(start + SECOND), whose(&[1]));
        assert_eq!(drains.take_due(start + SECOND), Whose::new());
    }

    #[test]
    fn who_comes_back_in_time_keeps_its_flows() {
        let (mut drains, start) = (Drains::default(), Instant::now());
        drains.follow(&whose(&[1]), &Whose::new(), Some(SECOND), start);
        drains.follow(&Whose::new(), &whose(&[1]), Some(SECOND), start);
        assert_eq!(drains.take_due(start + SECOND * 2), Whose::new());
    }

    #[test]
    fn another_reload_does_not_put_the_end_off() {
        let (mut drains, start) = (Drains::default(), Instant::now());
        drains.follow(&whose(&[1]), &Whose::new(), Some(SECOND), start);
        drains.follow(
            &Whose::new(),
            &Whose::new(),
            Some(SECOND),
            start + SECOND / 2,
        );
        assert_eq!(drains.take_due(start + SECOND), whose(&[1]));
    }

    #[test]
    fn without_a_drain_flows_end_by_themselves_unless_a_command_says_when() {
        let (mut drains, start) = (Drains::default(), Instant::now());
        drains.follow(&whose(&[1]), &Whose::new(), None, start);
        assert_eq!(drains.take_due(start + SECOND * 1_000), Whose::new());
        drains.end_at(whose(&[1]), start + SECOND);
        assert_eq!(drains.take_due(start + SECOND), whose(&[1]));
    }
}
