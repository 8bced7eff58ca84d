//! Members that were taken out, and when what is left of their flows is ended.
//!
//! Times are those of the boot clock: flows outlive the daemon, but no boot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::eligible::Whose;

/// Who stays, who was taken out, and until when the latter have time.
#[derive(Debug, Clone, Default)]
pub struct Drains {
    due: BTreeMap<(u32, IpAddr), Duration>,
    /// Who stayed last; `None`: not known.
    staying: Option<Whose>,
    /// Whether who leaves is ended some time.
    ends: bool,
}

/// What a new daemon takes over with the tables, so that what was promised is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedDrains {
    /// Rule, address, and when it is due, in milliseconds since the machine was started.
    due: Vec<(u32, IpAddr, u64)>,
    /// Kept where who leaves while no daemon runs has to be known.
    staying: Option<Whose>,
}

impl Drains {
    /// Those that another daemon has begun over the same tables.
    pub fn restore(saved: SavedDrains) -> Self {
        let one = |(rule, address, due)| ((rule, address), Duration::from_millis(due));
        Self {
            due: saved.due.into_iter().map(one).collect(),
            staying: saved.staying,
            ends: false,
        }
    }

    /// What a new daemon takes over.
    pub fn save(&self) -> SavedDrains {
        let milliseconds = |due: &Duration| due.as_nanos().div_ceil(1_000_000) as u64;
        let one = |(whose, due): (&(u32, IpAddr), &Duration)| (whose.0, whose.1, milliseconds(due));
        SavedDrains {
            due: self.due.iter().map(one).collect(),
            staying: self.staying.clone().filter(|_| self.ends),
        }
    }

    /// Follows a change of who stays. Who leaves has `drain` from `now` on, or as long as it takes (`None`); who
    /// comes back is left alone. Where nobody knows who was there before, that is `first`.
    pub fn follow(
        &mut self,
        staying: Whose,
        first: impl FnOnce() -> Whose,
        drain: Option<Duration>,
        now: Duration,
    ) {
        let before = self.staying.take().unwrap_or_else(first);
        self.ends = drain.is_some();
        self.due.retain(|whose, _| !staying.contains(whose));
        if let Some(due) = drain.and_then(|drain| now.checked_add(drain)) {
            for whose in before.difference(&staying) {
                self.due.entry(*whose).or_insert(due);
            }
        }
        self.staying = Some(staying);
    }

    /// Ends what is left of these at another time.
    pub fn end_at(&mut self, whose: impl IntoIterator<Item = (u32, IpAddr)>, due: Duration) {
        self.due.extend(whose.into_iter().map(|whose| (whose, due)));
    }

    /// Those whose time has come; they are forgotten.
    pub fn take_due(&mut self, now: Duration) -> Whose {
        let is_due = |_: &(u32, IpAddr), due: &mut Duration| *due <= now;
        self.due
            .extract_if(.., is_due)
            .map(|(whose, _)| whose)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Duration = Duration::from_secs(1_000);

    fn whose(hosts: &[u8]) -> Whose {
        let of = |host: &u8| (7, IpAddr::from([10, 0, 1, *host]));
        hosts.iter().map(of).collect()
    }

    /// Those of whom these stayed.
    fn begun(hosts: &[u8]) -> Drains {
        Drains {
            staying: Some(whose(hosts)),
            ..Drains::default()
        }
    }

    /// Now these stay.
    fn follow(drains: &mut Drains, hosts: &[u8], drain: Option<Duration>, now: Duration) {
        let known = || panic!("it is known who stayed");
        drains.follow(whose(hosts), known, drain, now);
    }

    /// As a new daemon has them, by way of the file.
    fn restarted(drains: &Drains) -> Drains {
        let text = serde_json::to_string(&drains.save()).unwrap();
        Drains::restore(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn who_leaves_is_due_after_the_drain_and_once() {
        let mut drains = begun(&[1, 2]);
        follow(&mut drains, &[2], Some(SECOND), START);
        assert_eq!(drains.take_due(START), Whose::new());
        assert_eq!(drains.take_due(START + SECOND), whose(&[1]));
        assert_eq!(drains.take_due(START + SECOND), Whose::new());
    }

    #[test]
    fn who_comes_back_in_time_keeps_its_flows() {
        let mut drains = begun(&[1]);
        follow(&mut drains, &[], Some(SECOND), START);
        follow(&mut drains, &[1], Some(SECOND), START);
        assert_eq!(drains.take_due(START + SECOND * 2), Whose::new());
    }

    #[test]
    fn another_reload_does_not_put_the_end_off() {
        let mut drains = begun(&[1]);
        follow(&mut drains, &[], Some(SECOND), START);
        follow(&mut drains, &[], Some(SECOND), START + SECOND / 2);
        assert_eq!(drains.take_due(START + SECOND), whose(&[1]));
    }

    #[test]
    fn without_a_drain_flows_end_by_themselves_unless_a_command_says_when() {
        let mut drains = begun(&[1]);
        follow(&mut drains, &[], None, START);
        assert_eq!(drains.take_due(START + SECOND * 1_000), Whose::new());
        drains.end_at(whose(&[1]), START + SECOND);
        assert_eq!(drains.take_due(START + SECOND), whose(&[1]));
    }

    #[test]
    fn a_new_daemon_ends_flows_when_the_former_one_has_promised() {
        let mut drains = begun(&[1, 2, 3]);
        follow(&mut drains, &[2, 3], Some(SECOND), START);
        drains.end_at(whose(&[3]), START + SECOND * 3);
        let mut drains = restarted(&drains);
        follow(&mut drains, &[2], Some(SECOND * 9), START + SECOND / 2);
        assert_eq!(drains.take_due(START + SECOND / 2), Whose::new());
        assert_eq!(drains.take_due(START + SECOND), whose(&[1]));
        assert_eq!(drains.take_due(START + SECOND * 3), whose(&[3]));
        assert_eq!(drains.save().due, []);
    }

    #[test]
    fn who_leaves_or_comes_back_while_no_daemon_runs_is_noticed_by_the_next() {
        let mut drains = begun(&[1, 2, 3]);
        follow(&mut drains, &[2, 3], Some(SECOND), START);
        let mut drains = restarted(&drains);
        follow(&mut drains, &[1, 2], Some(SECOND), START + SECOND);
        assert_eq!(drains.take_due(START + SECOND * 2), whose(&[3]));
    }

    #[test]
    fn where_nobody_knows_who_stayed_it_may_be_all_that_could_have() {
        let mut drains = restarted(&{
            let mut drains = begun(&[1, 2]);
            follow(&mut drains, &[2], None, START);
            drains
        });
        drains.follow(whose(&[2]), || whose(&[1, 2]), Some(SECOND), START);
        assert_eq!(drains.take_due(START + SECOND), whose(&[1]));
    }
}
