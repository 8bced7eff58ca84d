//! What a packet costs on its way through a router between two hosts, in one closed loop on one CPU.

mod nft;
mod router;
mod sample;
mod setup;
mod topology;

use anyhow::{Context, Result};
use forebay_common::family::{V4, V6};
use router::Router;
use sample::{Flows, LeftOver, Trial, Way};
use setup::Setup;

use crate::Arguments;
use crate::interrupt;
use crate::report::path::{Headline, PathReport, Row};
use crate::scene::Net;
use crate::stats::Summary;

/// Kinds of traffic, and their names.
const TRAFFIC: [(Way, Flows, &str); 7] = [
    (Way::In, Flows::Known(1), "1 flow"),
    (Way::In, Flows::Known(8192), "8192 flows"),
    (Way::In, Flows::Unanswered, "1 flow without answers"),
    (Way::In, Flows::New, "each a new flow"),
    (Way::Out, Flows::Known(1), "outbound, 1 flow"),
    (Way::Out, Flows::Known(8192), "outbound, 8192 flows"),
    (Way::Out, Flows::New, "outbound, each a new flow"),
];

/// Packets of a sample: known flows, new flows. The latter must fit the kernel's connection table.
fn packets(quick: bool) -> (u32, u32) {
    if quick {
        (50_000, 20_000)
    } else {
        (400_000, 200_000)
    }
}

/// One row of the report, its samples still coming in.
struct Series {
    router: Router,
    way: Way,
    flows: Flows,
    traffic: &'static str,
    family: &'static str,
    samples: Vec<f64>,
}

impl Series {
    fn name(&self) -> String {
        format!("{} {}: {}", self.family, self.traffic, self.router.label())
    }
}

/// Measures everything, and reports.
pub(crate) fn run(arguments: &Arguments, cpu: usize) -> Result<PathReport> {
    let mut setup = Setup::create().context("set the path benchmark up")?;
    let left_over = LeftOver::of(cpu)?;
    let with_nft = nft::is_installed(&setup.topology.router);
    if !with_nft {
        eprintln!(
            "!!! nftables is not installed: nothing is compared with it (`cargo xtask setup` installs it)"
        );
    }
    let mut series = all_series(with_nft);
    let wanted: Vec<(&str, &str)> = series
        .iter()
        .filter(|one| arguments.wants(&one.name()))
        .map(|one| (one.family, one.traffic))
        .collect();
    series.retain(|one| {
        let is_compared_with =
            one.router.is_yardstick() && wanted.contains(&(one.family, one.traffic));
        is_compared_with || arguments.wants(&one.name())
    });
    let usual = if arguments.quick { 2 } else { 5 };
    let rounds = arguments.rounds.unwrap_or(usual);
    let (known, new) = packets(arguments.quick);
    for _ in 0..rounds {
        for one in &mut series {
            interrupt::check()?;
            let trial = Trial {
                router: one.router,
                way: one.way,
                flows: one.flows,
                packets: if one.flows == Flows::New { new } else { known },
                left_over: &left_over,
            };
            let sample = if one.family == V4::LABEL {
                trial.sample::<V4>(&mut setup)
            } else {
                trial.sample::<V6>(&mut setup)
            };
            one.samples.push(sample?);
        }
        eprint!(".");
    }
    eprintln!();
    Ok(evaluate(&series, rounds.into()))
}

fn all_series(with_nft: bool) -> Vec<Series> {
    let mut all = Vec::new();
    for family in [V4::LABEL, V6::LABEL] {
        for (way, flows, traffic) in TRAFFIC {
            let routers: &[Router] = match way {
                Way::In => &Router::INBOUND,
                Way::Out => &Router::OUTBOUND,
            };
            let routers = routers.iter().copied();
            for router in routers.filter(|router| with_nft || !router.is_nft()) {
                all.push(Series {
                    router,
                    way,
                    flows,
                    traffic,
                    family,
                    samples: Vec::new(),
                });
            }
        }
    }
    all
}

/// How many times faster than nftables routers are to be.
fn goals(way: Way, flows: Flows) -> Vec<(Router, f64)> {
    match (way, flows) {
        (_, Flows::New) => vec![(Router::Native, 4.5)],
        (Way::In, Flows::Known(_)) => vec![(Router::Native, 8.0), (Router::Generic, 2.5)],
        // Masquerade alone is less than what the others are compared with.
        (Way::Out, _) | (_, Flows::Unanswered) => Vec::new(),
    }
}

fn evaluate(series: &[Series], rounds: usize) -> PathReport {
    let mut rows = Vec::new();
    let mut headlines = Vec::new();
    for group in series.chunk_by(|a, b| (a.family, a.traffic) == (b.family, b.traffic)) {
        let median = |router: Router| {
            let one = group.iter().find(|one| one.router == router)?;
            Some(Summary::of(&one.samples).median)
        };
        let floor = median(Router::Floor).unwrap_or(0.0);
        let net = |router: Router| median(router).map(|median| median - floor);
        let nft = net(Router::NftFull).or(net(Router::NftMasquerade));
        for one in group {
            let own = net(one.router).filter(|_| one.router != Router::Floor);
            rows.push(Row {
                name: one.name(),
                total: Summary::of(&one.samples),
                net: own,
                nft_over_this: nft.zip(own).map(|(nft, own)| nft / own),
            });
        }
        for (router, at_least) in goals(group[0].way, group[0].flows) {
            if let Some((nft, own)) = nft.zip(net(router)) {
                headlines.push(Headline {
                    name: format!(
                        "{} {}: {}",
                        group[0].family,
                        group[0].traffic,
                        router.label()
                    ),
                    times_faster: nft / own,
                    at_least,
                });
            }
        }
    }
    PathReport {
        rounds,
        rows,
        headlines,
    }
}
