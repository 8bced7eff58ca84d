//! What the daemon computes when much is configured: time from a file to the writes that it makes.
//!
//! Pure work of one thread: reading and checking the file, the desired state, the difference. Writing costs about
//! a microsecond for each write besides, and a ring what the micro bench says.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use forebay::clock::TickRate;
use forebay::config::{self, model::Config};
use forebay::control_plane::{ControlPlane, Event, HostInterface, Sizes, TableState};

/// Rules, each for one port over one of the pools.
const RULES: usize = 10_000;
/// Members of all pools together.
const MEMBERS: usize = 10_000;
const POOLS: usize = 100;
const RULES_OF_FRONTEND: usize = 500;

/// Measures, and prints a table.
pub(crate) fn run(quick: bool) -> Result<()> {
    let scale = if quick { 10 } else { 1 };
    let (rules, members) = (RULES / scale, MEMBERS / scale);
    println!("\ndaemon: {rules} rules, {members} members in {POOLS} pools, both families");
    println!("{:<34} {:>10} {:>10}", "what", "ms", "writes");
    let file = file(rules, members, 0);
    let (config, took) = timed(|| parse(&file))?;
    row("read and check the file", took, None);
    let mut control_plane = ControlPlane::new(
        TickRate(250),
        Sizes {
            entries: 1 << 20,
            untrusted_sets: 1 << 13,
        },
        [1, 2],
        TableState::default(),
    );
    control_plane.handle(Event::Host(host()))?;
    let mut step = |what: &str, event: Event| -> Result<()> {
        let (changes, took) = timed(|| Ok(control_plane.handle(event)?))?;
        row(what, took, Some(changes.len()));
        Ok(())
    };
    step("first start", Event::Config(Arc::clone(&config)))?;
    step("reload, nothing changed", Event::Config(config))?;
    let other = parse(&self::file(rules, members, 1))?;
    step("reload, one rule changed", Event::Config(other))?;
    let fewer = parse(&self::file(rules, members - 1, 1))?;
    step("reload, one member less", Event::Config(fewer))?;
    step("routes changed", Event::HopsInvalid(1))
}

fn row(what: &str, took: Duration, writes: Option<usize>) {
    let writes = writes.map_or_else(String::new, |writes| writes.to_string());
    println!("{what:<34} {:>10.2} {writes:>10}", took.as_secs_f64() * 1e3);
}

fn timed<R>(work: impl FnOnce() -> Result<R>) -> Result<(R, Duration)> {
    let begun = Instant::now();
    let result = work()?;
    Ok((result, begun.elapsed()))
}

fn parse(text: &str) -> Result<Arc<Config>> {
    match config::parse("bench.toml", text) {
        Ok(loaded) => Ok(Arc::new(loaded.config)),
        Err(errors) => Err(anyhow!(
            "the configuration of this bench is refused: {errors}"
        )),
    }
}

fn host() -> Vec<HostInterface> {
    let interface = |(ifindex, name): (u32, &str)| HostInterface {
        name: name.to_owned(),
        ifindex,
        mtu: 1500,
        ..HostInterface::default()
    };
    [(7, "c0"), (8, "i0")].map(interface).to_vec()
}

/// A file; `version` is about the timeout of one rule.
fn file(rules: usize, members: usize, version: usize) -> String {
    let mut text = String::from("[node]\nname = \"lb1\"\ninterfaces = [\"c0\", \"i0\"]\n");
    let mut add = |line: std::fmt::Arguments<'_>| {
        text.write_fmt(line).expect("a string takes any text");
    };
    for n in 0..rules.div_ceil(RULES_OF_FRONTEND) {
        add(format_args!(
            "[[frontend]]\nname = \"f{n}\"\nipv4 = \"203.0.113.{}\"\nipv6 = \"2001:db8:1::{:x}\"\n",
            n + 10,
            n + 16
        ));
    }
    for n in 0..members {
        add(format_args!(
            "[[instance]]\nname = \"i{n}\"\nipv4 = \"10.1.{}.{}\"\nipv6 = \"fd00:1::{:x}\"\n",
            n / 250,
            n % 250 + 1,
            n + 1
        ));
    }
    for pool in 0..POOLS {
        let of_pool: Vec<String> = (pool..members)
            .step_by(POOLS)
            .map(|n| format!("\"i{n}\""))
            .collect();
        add(format_args!(
            "[[pool]]\nname = \"p{pool}\"\nmembers = [{}]\n",
            of_pool.join(", ")
        ));
    }
    for n in 0..rules {
        let changed = usize::from(n == 0) * version;
        add(format_args!(
            "[[rule]]\nname = \"r{n}\"\nfrontend = \"f{}\"\nprotocol = \"tcp\"\nport = {}\n\
             pool = \"p{}\"\nbackend_port = {}\nidle_timeout = \"{}s\"\n",
            n / RULES_OF_FRONTEND,
            n % RULES_OF_FRONTEND + 1,
            n % POOLS,
            10_000 + n,
            240 + changed,
        ));
    }
    text
}
