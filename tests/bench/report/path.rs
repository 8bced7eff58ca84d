//! Results of the path benchmark.

use serde::{Deserialize, Serialize};

use super::Report;
use super::table::{Table, figure, verdict};
use crate::stats::Summary;

/// A router under some traffic.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// Nanoseconds of CPU time a packet, end to end.
    pub(crate) total: Summary,
    /// Median without generator and first veth.
    pub(crate) net: Option<f64>,
    /// Net of nftables (destination and source; outbound the source alone) over this net.
    pub(crate) nft_over_this: Option<f64>,
}

/// What this benchmark is for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Headline {
    pub(crate) name: String,
    pub(crate) times_faster: f64,
    pub(crate) at_least: f64,
}

impl Headline {
    fn is_reached(&self) -> bool {
        self.times_faster >= self.at_least
    }
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PathReport {
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) headlines: Vec<Headline>,
}

impl Report for PathReport {
    fn print(&self, last: Option<&Self>) {
        println!(
            "\npath: ns of CPU time a packet through the router, {} rounds; net: without generator \
             and first veth",
            self.rounds
        );
        let mut table = Table::new(&[
            "router",
            "min",
            "median",
            "p75",
            "max",
            "net",
            "nft / this",
            "was",
        ]);
        for row in &self.rows {
            let was = last.and_then(|last| last.rows.iter().find(|was| was.name == row.name));
            table.row(vec![
                row.name.clone(),
                figure(Some(row.total.min), 0),
                figure(Some(row.total.median), 0),
                figure(Some(row.total.p75), 0),
                figure(Some(row.total.max), 0),
                figure(row.net, 0),
                figure(row.nft_over_this, 2),
                figure(was.and_then(|was| was.nft_over_this), 2),
            ]);
        }
        print!("{}", table.render());
        println!(
            "nftables changes the source too (masquerade; for new flows a pool of 254 addresses, one \
             has too few ports); Forebay's rules keep it. Outbound both change the source alone\n"
        );
        let mut table = Table::new(&["times faster than nftables", "", "target", ""]);
        for line in &self.headlines {
            table.row(vec![
                line.name.clone(),
                format!("{:.1} x", line.times_faster),
                format!(">= {} x", line.at_least),
                verdict(Some(line.is_reached())),
            ]);
        }
        print!("{}", table.render());
    }

    fn missed(&self) -> (Vec<String>, usize) {
        let missed = self.headlines.iter().filter(|line| !line.is_reached());
        let missed = missed.map(|line| {
            format!(
                "{}: {:.1} x; >= {} x",
                line.name, line.times_faster, line.at_least
            )
        });
        (missed.collect(), self.headlines.len())
    }
}
