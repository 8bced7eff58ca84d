//! Few samples, honestly summarised.

use serde::{Deserialize, Serialize};

/// Order statistics of some samples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) p75: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Sums samples up; there is at least one.
    pub(crate) fn of(samples: &[f64]) -> Self {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Self {
            min: sorted[0],
            median: quantile(&sorted, 0.5),
            p75: quantile(&sorted, 0.75),
            max: sorted[sorted.len() - 1],
        }
    }
}

/// A quantile of sorted samples, interpolated between neighbours.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (low, high) = (position.floor() as usize, position.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * position.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_ordered_before_they_are_summed_up() {
        let summary = Summary::of(&[5.0, 1.0, 4.0, 2.0, 3.0]);
        let expected = Summary {
            min: 1.0,
            median: 3.0,
            p75: 4.0,
            max: 5.0,
        };
        assert_eq!(summary, expected);
    }

    #[test]
    fn quantiles_between_samples_are_interpolated() {
        let summary = Summary::of(&[1.0, 2.0]);
        assert_eq!(summary.median, 1.5);
        assert_eq!(summary.p75, 1.75);
        assert_eq!(Summary::of(&[7.0]).p75, 7.0);
    }
}
