//! Who is refused new flows, told from counters that only grow.

use std::collections::BTreeMap;
use std::time::Duration;

/// Without a refusal for so long, it is over.
pub(super) const CALM: Duration = Duration::from_secs(60);

/// What was read of each counter, and when it last grew.
#[derive(Debug)]
pub struct Refusals<K> {
    /// `None`: nothing was read yet.
    last: Option<BTreeMap<K, u64>>,
    refusing: BTreeMap<K, Duration>,
}

impl<K> Default for Refusals<K> {
    fn default() -> Self {
        Self {
            last: None,
            refusing: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Refusals<K> {
    /// Takes what the counters show now; returns those that have grown. What they showed at first was there before
    /// anybody looked.
    pub fn look(&mut self, uptime: Duration, counts: BTreeMap<K, u64>) -> Vec<K> {
        let mut grown = Vec::new();
        if let Some(last) = &self.last {
            for (key, count) in &counts {
                let before = last.get(key).copied().unwrap_or(0);
                // One that was made anew began at zero.
                if *count > before || (*count < before && *count > 0) {
                    grown.push(key.clone());
                }
            }
        }
        for key in &grown {
            self.refusing.insert(key.clone(), uptime);
        }
        self.last = Some(counts);
        grown
    }

    /// Those that have refused nobody for a minute; each is returned once.
    pub fn calmed(&mut self, uptime: Duration) -> Vec<K> {
        let over = |since: &Duration| uptime.saturating_sub(*since) >= CALM;
        let calmed: Vec<K> = (self.refusing.iter())
            .filter(|(_, since)| over(since))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &calmed {
            self.refusing.remove(key);
        }
        calmed
    }

    /// Whether anybody was refused a short while ago.
    pub fn is_refusing(&self) -> bool {
        !self.refusing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn counts<const N: usize>(counts: [(&'static str, u64); N]) -> BTreeMap<&'static str, u64> {
        BTreeMap::from(counts)
    }

    #[test]
    fn what_was_there_at_first_is_not_news() {
        let mut refusals = Refusals::default();
        assert!(refusals.look(at(0), counts([("a", 5)])).is_empty());
        assert!(refusals.look(at(1), counts([("a", 5)])).is_empty());
        assert_eq!(
            refusals.look(at(2), counts([("a", 6), ("b", 1)])),
            ["a", "b"]
        );
        assert!(refusals.is_refusing());
    }

    #[test]
    fn a_counter_that_was_made_anew_began_at_zero() {
        let mut refusals = Refusals::default();
        refusals.look(at(0), counts([("a", 5)]));
        assert!(refusals.look(at(1), counts([("a", 0)])).is_empty());
        refusals.look(at(2), counts([("a", 9)]));
        assert_eq!(refusals.look(at(3), counts([("a", 2)])), ["a"]);
    }

    #[test]
    fn a_minute_without_a_refusal_ends_it_once() {
        let mut refusals = Refusals::default();
        refusals.look(at(0), counts([]));
        refusals.look(at(1), counts([("a", 1)]));
        refusals.look(at(30), counts([("a", 2)]));
        assert!(refusals.calmed(at(89)).is_empty());
        assert_eq!(refusals.calmed(at(90)), ["a"]);
        assert!(refusals.calmed(at(200)).is_empty() && !refusals.is_refusing());
    }
}
