//! When which claim is announced. Pure: time is what has passed since some beginning.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::control_plane::Claim;

/// After a claim is made; frames get lost, and switches may not forward at once.
const TIMES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// What is claimed, and what its neighbours have still to be told.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    claimed: BTreeSet<Claim>,
    pending: BTreeSet<(Duration, Claim)>,
}

/// How what is claimed has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Claimed from now on.
    pub(super) new: Vec<Claim>,
    /// Claimed no more, or on another link.
    pub(super) gone: Vec<Claim>,
}

impl Schedule {
    /// Takes what is claimed from now on: what is new is announced, and all of it if `again`.
    pub(super) fn claim(
        &mut self,
        now: Duration,
        claims: BTreeSet<Claim>,
        again: bool,
    ) -> Difference {
        let difference = Difference {
            new: claims.difference(&self.claimed).cloned().collect(),
            gone: self.claimed.difference(&claims).cloned().collect(),
        };
        self.claimed = claims;
        let claimed = &self.claimed;
        (self.pending).retain(|(_, claim)| !again && claimed.contains(claim));
        let announced: Vec<&Claim> = if again {
            claimed.iter().collect()
        } else {
            difference.new.iter().collect()
        };
        for time in TIMES {
            let due = announced.iter().map(|claim| (now + time, (*claim).clone()));
            self.pending.extend(due);
        }
        difference
    }

    /// Takes up to `at_most` announcements that are due.
    pub(super) fn take_due(&mut self, now: Duration, at_most: usize) -> Vec<Claim> {
        let mut due = Vec::new();
        while due.len() < at_most && self.next().is_some_and(|time| time <= now) {
            due.extend(self.pending.pop_first().map(|(_, claim)| claim));
        }
        due
    }

    /// When the next announcement is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.pending.first().map(|(time, _)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(address: &str, link_ups: u32) -> Claim {
        Claim {
            address: address.parse().unwrap(),
            interface: "eth0".to_owned(),
            ifindex: 7,
            mac: [2, 0, 0, 0, 0, 7],
            link_ups,
        }
    }

    fn set<const N: usize>(claims: [Claim; N]) -> BTreeSet<Claim> {
        BTreeSet::from(claims)
    }

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Everything that is announced up to a time, with when.
    fn announced(schedule: &mut Schedule) -> Vec<(u128, String)> {
        let mut announced = Vec::new();
        while let Some(time) = schedule.next() {
            for claim in schedule.take_due(time, 1) {
                announced.push((time.as_millis(), claim.address.to_string()));
            }
        }
        announced
    }

    #[test]
    fn a_new_claim_is_announced_three_times() {
        let mut schedule = Schedule::default();
        let new = schedule.claim(at(500), set([claim("203.0.113.1", 1)]), false);
        assert_eq!((new.new.len(), new.gone.len()), (1, 0));
        let times: Vec<u128> = announced(&mut schedule).iter().map(|a| a.0).collect();
        assert_eq!(times, [500, 1500, 3500]);
    }

    #[test]
    fn what_is_claimed_already_is_announced_again_only_on_demand() {
        let mut schedule = Schedule::default();
        let claims = set([claim("203.0.113.1", 1)]);
        schedule.claim(at(0), claims.clone(), false);
        announced(&mut schedule);
        assert_eq!(
            schedule.claim(at(9000), claims.clone(), false),
            Difference::default()
        );
        assert_eq!(schedule.next(), None);
        schedule.claim(at(9000), claims, true);
        assert_eq!(announced(&mut schedule).len(), 3);
    }

    #[test]
    fn said_twice_in_a_row_it_is_announced_three_times_from_the_last() {
        let mut schedule = Schedule::default();
        let claims = set([claim("203.0.113.1", 1)]);
        schedule.claim(at(0), claims.clone(), true);
        schedule.claim(at(100), claims, true);
        let times: Vec<u128> = announced(&mut schedule).iter().map(|a| a.0).collect();
        assert_eq!(times, [100, 1100, 3100]);
    }

    #[test]
    fn what_is_withdrawn_is_not_announced_any_more() {
        let mut schedule = Schedule::default();
        schedule.claim(
            at(0),
            set([claim("203.0.113.1", 1), claim("203.0.113.2", 1)]),
            false,
        );
        schedule.take_due(at(0), 10);
        let change = schedule.claim(at(10), set([claim("203.0.113.2", 1)]), false);
        assert_eq!(change.gone, [claim("203.0.113.1", 1)]);
        assert!(
            announced(&mut schedule)
                .iter()
                .all(|(_, address)| address == "203.0.113.2")
        );
    }

    #[test]
    fn a_link_that_came_up_again_is_told_anew_and_others_are_not() {
        let mut schedule = Schedule::default();
        schedule.claim(
            at(0),
            set([claim("203.0.113.1", 1), claim("203.0.113.2", 1)]),
            false,
        );
        announced(&mut schedule);
        schedule.claim(
            at(9000),
            set([claim("203.0.113.1", 2), claim("203.0.113.2", 1)]),
            false,
        );
        let again = announced(&mut schedule);
        assert_eq!(again.len(), 3);
        assert!(again.iter().all(|(_, address)| address == "203.0.113.1"));
    }

    #[test]
    fn no_more_are_due_at_once_than_asked_for() {
        let mut schedule = Schedule::default();
        let many = (1..=250).map(|host| claim(&format!("203.0.113.{host}"), 1));
        schedule.claim(at(0), many.collect(), false);
        assert_eq!(schedule.take_due(at(0), 100).len(), 100);
        assert_eq!(schedule.take_due(at(0), 100).len(), 100);
        assert_eq!(schedule.take_due(at(0), 100).len(), 50);
        assert_eq!(
            schedule.take_due(at(0), 100).len(),
            0,
            "not before its time"
        );
        assert_eq!(schedule.next(), Some(at(1000)));
    }
}
