//! What happens to a node in years, in seconds: random sequences of reloads, changes of the host, daemon deaths,
//! resizes, sweeps, flushes, floods and honest connections, over the pure control plane and the model of the data
//! plane. After each step the invariants hold.
//!
//! A change is judged by the same sequences each time. `FOREBAY_LONG=1` plays a hundred times as many, from a seed of
//! its own; `SEED=n` begins with the sequence of that seed, as a failure prints it, `FOREBAY_SEQUENCES=n` plays that
//! many; `FOREBAY_TOLD=n` tells more of what came before a failure.

mod answers;
mod before;
mod files;
mod honest;
mod look;
mod node;
mod outgoing;
mod outside;
mod packets;
mod play;
mod snat;
mod strangers;
mod tables;
mod ways;

use forebay_tests::chance::{is_long, number, seed};

use crate::play::{Census, sequence};

/// Steps of a sequence; the next begins with a fresh node.
const STEPS: u64 = 400;
const SEQUENCES: u64 = 20;
/// Seed of the first one, where nobody says otherwise.
const FIRST: u64 = 1;

/// What a run has met, or it proves little.
const EXPECTED: [&str; 18] = [
    "reloads",
    "starts",
    "deaths between writes",
    "packets between writes",
    "comparisons with a fresh node",
    "moves",
    "pieces of moves",
    "floods",
    "connections that became trusted",
    "packets of trusted flows",
    "outgoing flows",
    "packets of outgoing flows",
    "answers to outgoing flows",
    "packets by public IPs",
    "refused for lack of a port",
    "resets of lost flows",
    "stale answers",
    "strangers that were let in",
];

#[test]
fn a_node_keeps_its_promises_whatever_happens() {
    let first = match number("SEED") {
        None if !is_long() => FIRST,
        _ => seed(),
    };
    let sequences = number("FOREBAY_SEQUENCES");
    let sequences = sequences.unwrap_or(if is_long() {
        100 * SEQUENCES
    } else {
        SEQUENCES
    });
    println!("SEED={first}");
    let mut census = Census::new();
    for seed in (first..).take(sequences as usize) {
        match sequence(seed, STEPS) {
            Ok(found) => {
                for (what, count) in found {
                    *census.entry(what).or_default() += count;
                }
            }
            Err(wrong) => panic!("SEED={seed} FOREBAY_SEQUENCES=1 fails\n{wrong}"),
        }
    }
    for (what, count) in &census {
        println!("{count:>9} {what}");
    }
    let missing: Vec<&str> = EXPECTED
        .into_iter()
        .filter(|what| !census.contains_key(what))
        .collect();
    assert!(
        sequences < SEQUENCES || missing.is_empty(),
        "never met: {missing:?}"
    );
}
