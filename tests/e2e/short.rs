//! Connections of a moment, many a second: what a first packet meets.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use forebay_tests::netlab::client::request;
use forebay_tests::netlab::{Arms, Lab, address};
use nix::sys::signal::Signal;

use crate::scene::{Scene, frontend};
use crate::under_load::OnDrop;

/// Connections a second, over both families together.
pub(crate) const A_SECOND: u32 = 500;
/// Who make them, for each family.
const CALLERS: u16 = 2;
/// A SYN that is lost is sent again after a second.
const RESENT: Duration = Duration::from_millis(950);

/// One of them: a request and its answer.
pub(crate) struct Short {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) server: IpAddr,
}

/// Makes them all the time while something happens. All have to succeed.
pub(crate) fn meanwhile<T>(lab: &Lab, work: impl FnOnce() -> T) -> (T, Vec<Short>) {
    let over = AtomicBool::new(false);
    let is_over = || over.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (frontend(80).into_iter())
            .flat_map(|to| (0..CALLERS).map(move |caller| (to, caller)))
            .map(|(to, caller)| scope.spawn(move || call(lab, to, caller, is_over)))
            .collect();
        let ends = OnDrop(&over);
        let done = work();
        drop(ends);
        let made = (callers.into_iter()).flat_map(|one| one.join().unwrap().unwrap());
        (done, made.collect())
    })
}

/// Makes them at a steady pace, each from a port of its own, until it is over.
fn call(
    lab: &Lab,
    to: SocketAddr,
    caller: u16,
    is_over: impl Fn() -> bool + Send,
) -> Result<Vec<Short>> {
    let each = Duration::from_secs(2 * u64::from(CALLERS)) / A_SECOND;
    lab.client.enter(move || {
        let (begin, mut made) = (Instant::now(), Vec::new());
        while !is_over() {
            let number = made.len() as u16;
            let host = 2 + (number % 8) as u8;
            let source = match to {
                SocketAddr::V4(_) => IpAddr::from(address::client_v4(host)),
                SocketAddr::V6(_) => IpAddr::from(address::client_v6(host)),
            };
            let source = SocketAddr::new(source, 10_000 * (caller + 1) + number / 8);
            let from = Instant::now();
            let answer = request(Some(source), to).with_context(|| {
                format!(
                    "connection {number} of {source}, {:?} after it began",
                    from.elapsed()
                )
            })?;
            made.push(Short {
                from,
                to: Instant::now(),
                server: answer.server,
            });
            let next = each * u32::from(number) + each;
            std::thread::sleep(next.saturating_sub(begin.elapsed()));
        }
        Ok(made)
    })
}

/// How long they took, the shortest first.
pub(crate) fn times(short: &[Short]) -> Vec<Duration> {
    let mut times: Vec<Duration> = short.iter().map(|one| one.to - one.from).collect();
    times.sort();
    times
}

/// The time that this part of them stayed below.
pub(crate) fn percent(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() - 1) * percent / 100]
}

/// While a daemon starts, packets meet programs of the former one and of its own.
#[test]
fn a_daemon_that_is_started_anew_costs_no_first_packet() {
    let Some(mut scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let Scene { lab, forebay, .. } = &mut scene;
    let ((), short) = meanwhile(lab, || {
        for end in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGKILL] {
            forebay.stop(end).unwrap();
            std::thread::sleep(Duration::from_millis(200));
            forebay.start().unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
    });
    let times = times(&short);
    let resent = times.iter().filter(|time| **time > RESENT).count();
    println!(
        "{} connections over three starts, the longest {:?}",
        times.len(),
        percent(&times, 100)
    );
    assert!(times.len() > 100, "too few to tell: {}", times.len());
    assert_eq!(resent, 0, "so many had to send their first packet again");
}
