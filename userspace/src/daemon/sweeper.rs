//! The sweep: a thread that goes through the flow tables, again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use forebay_common::abi::Settings;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
use crate::control_plane::{Census, HOP_LIFETIME, Reset, SLOT_PATIENCE};
use crate::dataplane::{Cursor, Flows, Slice, Sweep};
use crate::host::ResetSocket;

/// Between the ends and the beginnings of passes: timers below ten seconds may be a second late, of
/// which a pass over a large table takes its part.
const REST: Duration = Duration::from_millis(400);
// The first census of a slot that retires may come at once.
const _: () = assert!(REST.as_millis() * (SLOT_PATIENCE as u128 - 1) > HOP_LIFETIME.as_millis());
/// Between two slices of a large table, so that a pass is no burst.
const PAUSE: Duration = Duration::from_millis(1);
/// Bytes of untrusted flows that may be read in a pass, on average.
const BYTES_PER_PASS: usize = 32 << 20;
/// Between the last slice and removal: longer than the grace of the settings at any tick rate.
const GRACE: Duration = Duration::from_millis(80);

/// What a pass of the sweep met.
#[derive(Debug)]
pub(super) struct Swept {
    /// All flows, counted.
    pub census: Census,
    /// Flows were to be moved from former tables, and all have been.
    pub has_moved_all: bool,
}

/// What the sweep goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Settings as applied.
    pub settings: Settings,
    /// The clock.
    pub clock: Clock,
}

/// Sweeps until nobody takes the counts any more.
pub(super) fn run(
    flows: &watch::Receiver<Arc<Flows>>,
    terms: &watch::Receiver<Option<Terms>>,
    sweeps: &mpsc::Sender<Swept>,
    resets: Option<&ResetSocket>,
) {
    let mut untrusted = Untrusted::default();
    loop {
        std::thread::sleep(REST);
        if sweeps.is_closed() {
            return;
        }
        if terms.borrow().is_none() {
            continue;
        }
        let flows = flows.borrow().clone();
        let swept = carry(&flows).and_then(|has_moved_all| {
            let mut census = pass(&flows, terms, resets)?;
            untrusted.add_to(&mut census, &flows, terms)?;
            Ok(Swept {
                census,
                has_moved_all,
            })
        });
        match swept {
            Ok(swept) => {
                if sweeps.blocking_send(swept).is_err() {
                    return;
                }
            }
            Err(error) => log::warn!("sweep: {error:#}"),
        }
    }
}

/// The count of untrusted flows: nothing of them is swept, so a large table is not read in every pass.
#[derive(Default)]
struct Untrusted {
    last: Census,
    age: usize,
}

impl Untrusted {
    fn add_to(
        &mut self,
        census: &mut Census,
        flows: &Flows,
        terms: &watch::Receiver<Option<Terms>>,
    ) -> Result<()> {
        let is_due = self.age >= flows.untrusted_bytes() / BYTES_PER_PASS;
        let current = *terms.borrow();
        let Some(terms) = current.filter(|_| is_due) else {
            self.age += 1;
            census.add_former_untrusted(&self.last);
            return Ok(());
        };
        self.age = 0;
        self.last = flows.census_of_untrusted(&terms.settings, terms.clock.now())?;
        census.add_former_untrusted(&self.last);
        census.is_complete = true;
        Ok(())
    }
}

/// Moves flows from former tables, if there are any. Says whether these are empty: what was moved by this
/// pass, the next one finds gone.
fn carry(flows: &Flows) -> Result<bool> {
    if !flows.is_moving() {
        return Ok(false);
    }
    let begun = Instant::now();
    let (mut v4, mut v6) = (Cursor::default(), Cursor::default());
    let mut met = 0;
    while !v4.finished {
        met += flows.v4.carry_page(&mut v4)?;
        std::thread::sleep(PAUSE);
    }
    while !v6.finished {
        met += flows.v6.carry_page(&mut v6)?;
        std::thread::sleep(PAUSE);
    }
    log::debug!("moved {met} entries of flows in {:?}", begun.elapsed());
    Ok(met == 0)
}

fn pass(
    flows: &Flows,
    terms: &watch::Receiver<Option<Terms>>,
    socket: Option<&ResetSocket>,
) -> Result<Census> {
    let begun = Instant::now();
    let mut census = Census::default();
    let mut sweep4 = Sweep::default();
    let mut sweep6 = Sweep::default();
    let slices = |slice: &mut dyn FnMut(&Terms, &mut Census) -> Result<Slice>,
                  census: &mut Census|
     -> Result<()> {
        loop {
            let Some(current) = *terms.borrow() else {
                return Ok(());
            };
            let slice = slice(&current, census)?;
            send(socket, &slice.resets);
            if slice.is_last {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    };
    slices(
        &mut |t, c| {
            flows
                .v4
                .sweep_slice(&mut sweep4, &t.settings, t.clock.now(), c)
        },
        &mut census,
    )?;
    slices(
        &mut |t, c| {
            flows
                .v6
                .sweep_slice(&mut sweep6, &t.settings, t.clock.now(), c)
        },
        &mut census,
    )?;
    if sweep4.has_marked() || sweep6.has_marked() {
        std::thread::sleep(GRACE);
    }
    let untold = sweep4.untold() + sweep6.untold();
    if untold > 0 {
        log::warn!("{untold} flows idled out without a RST: too many at once");
    }
    let ended = flows.v4.finish_sweep(sweep4)? + flows.v6.finish_sweep(sweep6)?;
    log::trace!(
        "sweep: {:?} entries, {ended} flows ended, {:?}",
        census.entries,
        begun.elapsed()
    );
    Ok(census)
}

/// Has sides of connections say what they expect.
pub(super) fn ask(socket: Option<&ResetSocket>, resets: &[Reset]) {
    for reset in resets {
        // Who is not asked is told what is known.
        let _ = socket.map(|socket| socket.ask(reset));
    }
}

/// Sends RSTs. Who cannot be reached now finds out by itself.
pub(super) fn send(socket: Option<&ResetSocket>, resets: &[Reset]) {
    let Some(socket) = socket else { return };
    for reset in resets {
        if let Err(error) = socket.send(reset) {
            log::debug!(
                "RST from {} to {}: {error}",
                reset.source,
                reset.destination
            );
        }
    }
}
