//! What a packet costs on its way through a router between two hosts, in one closed loop on one CPU.

mod nft;
mod router;
mod sample;
mod setup;
mod topology;

use anyhow::{Context, Result};
use forebay_common::family::{V4, V6};
use router::Router;
use sample::{Flows, LeftOver, Trial};
use setup::Setup;

use crate::Arguments;
use crate::interrupt;
use crate::report::path::{Headline, PathReport, Row};
use crate::scene::Net;
use crate::stats::Summary;

/// Kinds of traffic, and their names.
const TRAFFIC: [(Flows, &str); 3] = [
    (Flows::Known(1), "1 flow"),
    (Flows::Known(8192), "8192 flows"),
    (Flows::New, "each a new flow"),
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
    series.retain(|one| {
        let is_compared_with = matches!(one.router, Router::Floor | Router::NftFull);
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
        for (flows, traffic) in TRAFFIC {
            let routers = Router::ALL.into_iter();
            for router in routers.filter(|router| with_nft || !router.is_nft()) {
                all.push(Series {
                    router,
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
        let nft = net(Router::NftFull);
        for one in group {
            let own = net(one.router).filter(|_| one.router != Router::Floor);
            rows.push(Row {
                name: one.name(),
                total: Summary::of(&one.samples),
                net: own,
                nft_over_this: nft.zip(own).map(|(nft, own)| nft / own),
            });
        }
        let is_new = group.iter().any(|one| one.flows == Flows::New);
        let mut goals = vec![(Router::Native, if is_new { 4.5 } else { 8.0 })];
        if !is_new {
            goals.push((Router::Generic, 2.5));
        }
        for (router, at_least) in goals {
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
