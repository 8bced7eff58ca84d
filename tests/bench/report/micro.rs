//! Results of the micro benchmark.

use serde::{Deserialize, Serialize};

use super::Report;
use super::table::{Table, figure, verdict};
use crate::facts::Facts;
use crate::stats::Summary;

/// A case that was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// Nanoseconds a packet, driver and loop included.
    pub(crate) total: Summary,
    /// Median without driver and loop.
    pub(crate) net: Option<f64>,
    pub(crate) compared_with: Option<String>,
    /// Net over the net of what it is compared with.
    pub(crate) ratio: Option<f64>,
    pub(crate) goal: Option<String>,
    pub(crate) reached: Option<bool>,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MicroReport {
    pub(crate) rounds: usize,
    pub(crate) loads: usize,
    pub(crate) cases: Vec<Measured>,
    pub(crate) facts: Facts,
}

impl MicroReport {
    fn case(&self, name: &str) -> Option<&Measured> {
        self.cases.iter().find(|case| case.name == name)
    }
}

impl Report for MicroReport {
    fn print(&self, last: Option<&Self>) {
        println!(
            "\nmicro: ns a packet of one program, {} rounds over {} loads; net: without driver and loop",
            self.rounds, self.loads
        );
        let mut table = Table::new(&[
            "case", "min", "median", "p75", "net", "ratio", "was", "target", "",
        ]);
        for case in &self.cases {
            let was = last.and_then(|last| last.case(&case.name));
            let was = if case.ratio.is_some() {
                was.and_then(|was| was.ratio)
            } else {
                was.and_then(|was| was.net)
            };
            table.row(vec![
                case.name.clone(),
                figure(Some(case.total.min), 1),
                figure(Some(case.total.median), 1),
                figure(Some(case.total.p75), 1),
                figure(case.net, 1),
                figure(case.ratio, 2),
                figure(was, if case.ratio.is_some() { 2 } else { 1 }),
                case.goal.clone().unwrap_or_default(),
                verdict(case.reached),
            ]);
        }
        print!("{}", table.render());
        println!(
            "ratio: net over net of the minimal translator or of the lookup for the same packets"
        );
        print_facts(&self.facts);
    }

    fn missed(&self) -> (Vec<String>, usize) {
        let mut missed = Vec::new();
        let mut all = 0;
        for case in &self.cases {
            let (Some(goal), Some(reached)) = (&case.goal, case.reached) else {
                continue;
            };
            all += 1;
            if !reached {
                let (net, ratio) = (figure(case.net, 1), figure(case.ratio, 2));
                missed.push(format!("{}: {net} ns net, {ratio} x; {goal}", case.name));
            }
        }
        for fact in &self.facts.limits {
            all += 1;
            if !fact.is_reached() {
                let (value, unit) = (fact.value, &fact.unit);
                missed.push(format!(
                    "{}: {value:.1} {unit}; <= {}",
                    fact.name, fact.limit
                ));
            }
        }
        (missed, all)
    }
}

fn print_facts(facts: &Facts) {
    println!();
    let mut table = Table::new(&["program", "verified", "translated B", "machine code B"]);
    for program in &facts.programs {
        table.row(vec![
            program.name.clone(),
            program.verified.to_string(),
            program.translated.to_string(),
            program.machine_code.to_string(),
        ]);
    }
    println!("{}", table.render());
    let mut table = Table::new(&["", "", "target", ""]);
    for fact in &facts.limits {
        table.row(vec![
            fact.name.clone(),
            format!("{:.1} {}", fact.value, fact.unit),
            format!("<= {} {}", fact.limit, fact.unit),
            verdict(Some(fact.is_reached())),
        ]);
    }
    print!("{}", table.render());
}
