//! One measurement: so many packets from end to end, and the CPU time they took.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use forebay_common::flow::{Direction, FlowKind};

use super::router::Router;
use super::setup::{Setup, to_server};
use super::topology::{CLIENT_MAC, ROUTER_CLIENT_MAC};
use crate::bpf;
use crate::product::outbound::QUIET;
use crate::scene::{Course, Net, clients};

/// Flows of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flows {
    /// So many, known beforehand, from both sides.
    Known(u64),
    /// One that nobody answers.
    Unanswered,
    /// Every packet opens one.
    New,
}

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From clients to the frontend.
    In,
    /// From an instance to the outside.
    Out,
}

/// Numbers of new flows come from among these; more than any measurement sends.
const NUMBERS: u64 = 1 << 22;
/// Tries before a measurement with losses counts as failed.
const TRIES: usize = 3;

/// CPU time of the thread that does the soft interrupts of one CPU which are left over.
pub(super) struct LeftOver {
    schedstat: String,
}

impl LeftOver {
    /// Finds the thread.
    pub(super) fn of(cpu: usize) -> Result<Self> {
        let name = format!("ksoftirqd/{cpu}");
        for entry in fs::read_dir("/proc")?.flatten() {
            let folder = entry.path();
            let comm = fs::read_to_string(folder.join("comm")).unwrap_or_default();
            if comm.trim() == name {
                let schedstat = folder.join("schedstat").to_string_lossy().into_owned();
                return Ok(Self { schedstat });
            }
        }
        bail!("there is no thread {name}")
    }

    fn time(&self) -> Result<Duration> {
        let text = fs::read_to_string(&self.schedstat)?;
        let first = text.split(' ').next().unwrap_or_default();
        Ok(Duration::from_nanos(first.parse()?))
    }
}

/// What is measured: a router under flows, with so many packets.
pub(super) struct Trial<'a> {
    pub(super) router: Router,
    pub(super) way: Way,
    pub(super) flows: Flows,
    pub(super) packets: u32,
    pub(super) left_over: &'a LeftOver,
}

impl Trial<'_> {
    /// Nanoseconds a packet.
    pub(super) fn sample<A: Net>(&self, setup: &mut Setup) -> Result<f64> {
        let is_new = self.flows == Flows::New;
        if self.router.is_product() {
            self.make_known::<A>(setup)?;
        }
        let standing = self.router.start::<A>(setup, is_new)?;
        let outcome = self.try_often::<A>(setup);
        setup.stop(standing)?;
        setup.product.clear::<A>()?;
        setup.yardstick.clear::<A>()?;
        outcome.with_context(|| {
            let Self {
                router, flows, way, ..
            } = self;
            format!("{} with {flows:?}, {way:?}", router.label())
        })
    }

    /// Nobody answers here, so flows from clients would never be trusted. What an instance opens is from the start.
    fn make_known<A: Net>(&self, setup: &mut Setup) -> Result<()> {
        if self.way == Way::Out || !matches!(self.flows, Flows::Known(_)) {
            return Ok(());
        }
        let course = self.course::<A>();
        let kind = FlowKind::Rule.byte(Direction::ToInstance, false);
        setup
            .product
            .fill([course, course.replies()], kind, to_server())
    }

    fn try_often<A: Net>(&self, setup: &mut Setup) -> Result<f64> {
        let mut outcome = self.take::<A>(setup);
        for _ in 1..TRIES {
            match &outcome {
                Err(error) if error.is::<Lost>() => {
                    eprintln!("\nagain: {}: {error:#}", self.router.label());
                    outcome = self.take::<A>(setup);
                }
                _ => break,
            }
        }
        outcome
    }

    fn course<A: Net>(&self) -> Course<A> {
        let flows = match self.flows {
            Flows::Known(flows) => flows,
            Flows::Unanswered => 1,
            Flows::New => NUMBERS,
        };
        let course = match self.way {
            Way::In => Course::known(flows),
            Way::Out => Course::outbound(QUIET.index, flows),
        };
        let first_client = match (self.flows, self.way) {
            (Flows::New, Way::In) => clients::NEW,
            (Flows::New, Way::Out) => clients::NEW_OUTSIDE,
            _ => course.first_client,
        };
        Course {
            first_client,
            to: ROUTER_CLIENT_MAC,
            from: CLIENT_MAC,
            ..course.udp()
        }
    }

    fn take<A: Net>(&self, setup: &mut Setup) -> Result<f64> {
        let course = self.course::<A>();
        let frame = course.headers(0).build();
        setup.yardstick.set_plan(&course.plan())?;
        setup.yardstick.expect(&match self.way {
            Way::In => self.router.expects::<A>(),
            Way::Out => self.router.expects_outside::<A>(),
        })?;
        // Every known flow once or twice; and page pools and caches have something in them.
        let warm_up = match self.flows {
            Flows::Known(flows) => (2 * flows as u32).max(4096),
            Flows::Unanswered => 4096,
            Flows::New => 2048,
        };
        send::<A>(setup, &frame, warm_up)?;
        let before = self.left_over.time()?;
        let time = send::<A>(setup, &frame, self.packets)?;
        let time = time + self.left_over.time()?.saturating_sub(before);
        Ok(time.as_nanos() as f64 / f64::from(self.packets))
    }
}

/// Packets did not arrive, or not where they should.
#[derive(Debug)]
struct Lost {
    sent: u32,
    arrived: u64,
    elsewhere: u64,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            sent,
            arrived,
            elsewhere,
        } = self;
        write!(
            f,
            "{arrived} of {sent} packets arrived as they should, {elsewhere} otherwise"
        )
    }
}

impl std::error::Error for Lost {}

/// Sends packets of the plan, waits until all have arrived, and says what it took.
fn send<A: Net>(setup: &mut Setup, frame: &[u8], packets: u32) -> Result<Duration> {
    let before = setup.yardstick.arrivals()?;
    let generator = setup.yardstick.program(A::BENCH.generate)?;
    let client = &setup.topology.client;
    let run = client.enter(|| bpf::run_live(generator, frame, packets))?;
    let start = Instant::now();
    loop {
        let arrivals = setup.yardstick.arrivals()?;
        let arrived = arrivals.expected - before.expected;
        let elsewhere = arrivals.others - before.others;
        if arrived == u64::from(packets) && elsewhere == 0 {
            return Ok(run.time);
        }
        if elsewhere > 0 || start.elapsed() > Duration::from_millis(500) {
            return Err(Lost {
                sent: packets,
                arrived,
                elsewhere,
            }
            .into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
