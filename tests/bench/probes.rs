//! What it costs the daemon to probe many members: CPU time of its probes and of what is made of their outcomes.
//!
//! Members answer on the loopback interface, in threads of this process whose time is not counted. What the kernel
//! does for both ends of a connection is done by whoever sends, so a part of the members' work is in the figures.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, ensure};
use forebay::config::{self, model::Config};
use forebay::events::Moment;
use forebay::health::{Health, Verdict};
use forebay::probes::{Found, Prober};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout_at};

const MEMBERS: u16 = 2000;
const INTERVAL: Duration = Duration::from_secs(1);
/// Goal: part of one CPU.
const GOAL: f64 = 0.20;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// Measures, and prints a table.
pub(crate) fn run(quick: bool) -> Result<()> {
    let (members, seconds) = if quick { (200, 2) } else { (MEMBERS, 15) };
    println!("\nprobes: {members} members, each every {INTERVAL:?}, for {seconds} s");
    println!(
        "{:<34} {:>10} {:>10} {:>10}",
        "what", "% of a CPU", "us a probe", "goal"
    );
    for protocol in ["tcp", "http"] {
        let (cost, probes) = measure(members, protocol, Duration::from_secs(seconds))?;
        let (part, each) = (
            cost.div_duration_f64(Duration::from_secs(seconds)),
            cost / probes,
        );
        let goal = match part {
            _ if quick => "",
            part if part < GOAL => "reached",
            _ => "missed",
        };
        println!(
            "{protocol:<34} {:>10.1} {:>10.1} {goal:>10}",
            part * 100.0,
            each.as_secs_f64() * 1e6
        );
    }
    Ok(())
}

/// CPU time that so many members cost in this time, and how often they were probed.
fn measure(members: u16, protocol: &str, time: Duration) -> Result<(Duration, u32)> {
    let served = Members::start(members)?;
    let config = configuration(&served.addresses, protocol)?;
    let runtime = as_the_daemon()?;
    let measured = runtime.block_on(async {
        let mut health = Health::new();
        let moment = Clock::start();
        health.configure(&config, moment.now());
        let (mut prober, mut found) = Prober::new()?;
        prober.configure(&health.targets().probed);
        let mut judge = |found: Found| health.record(&found.by, found.outcome, moment.now());
        // Until all have begun, and keep to their place in the interval.
        until(Instant::now() + INTERVAL * 3, &mut found, &mut judge).await;
        let before = served.cost_of_others()?;
        let probes = until(Instant::now() + time, &mut found, &mut judge).await;
        let cost = served.cost_of_others()?.saturating_sub(before);
        let rows = health.rows(moment.now());
        let up = |row: &&forebay::health::Row| row.standing.verdict == Verdict::Up;
        ensure!(
            rows.iter().filter(up).count() == usize::from(members),
            "some members are not up"
        );
        Ok((cost, probes))
    })?;
    let expected = u32::from(members) * time.as_secs() as u32;
    ensure!(
        measured.1 > expected * 9 / 10,
        "only {} probes of {expected}",
        measured.1
    );
    Ok(measured)
}

/// Takes outcomes until then; says how many.
async fn until<R>(
    end: Instant,
    found: &mut tokio::sync::mpsc::Receiver<Found>,
    judge: &mut impl FnMut(Found) -> R,
) -> u32 {
    let mut taken = 0;
    while let Ok(Some(found)) = timeout_at(end, found.recv()).await {
        judge(found);
        taken += 1;
    }
    taken
}

struct Clock(std::time::Instant);

impl Clock {
    fn start() -> Self {
        Self(std::time::Instant::now())
    }

    fn now(&self) -> Moment {
        Moment {
            wall: SystemTime::now(),
            uptime: self.0.elapsed(),
        }
    }
}

/// The runtime that the daemon has.
fn as_the_daemon() -> Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    runtime.context("start a runtime")
}

fn configuration(members: &[SocketAddr], protocol: &str) -> Result<Config> {
    let mut text = String::from(
        "[node]\nname = \"lb1\"\ninterfaces = [\"c0\"]\n[[frontend]]\nname = \"f\"\nipv4 = \"203.0.113.10\"\n",
    );
    let mut names = Vec::new();
    for n in 0..members.len() {
        let [high, low] = (n as u16 + 1).to_be_bytes();
        write!(
            text,
            "[[instance]]\nname = \"i{n}\"\nipv4 = \"10.77.{high}.{low}\"\n"
        )?;
        names.push(format!("\"i{n}\""));
    }
    let port = members.first().context("no members")?.port();
    write!(
        text,
        "[[pool]]\nname = \"p\"\nmembers = [{}]\n\
         [[probe]]\nname = \"q\"\nprotocol = \"{protocol}\"\nport = {port}\ninterval = \"{}ms\"\n\
         [[rule]]\nname = \"r\"\nfrontend = \"f\"\nport = 80\npool = \"p\"\nprobe = \"q\"\n",
        names.join(", "),
        INTERVAL.as_millis()
    )?;
    let loaded = config::parse_all("bench.toml", &text);
    let loaded =
        loaded.map_err(|errors| anyhow!("the configuration of this bench is refused: {errors}"))?;
    let mut config = loaded.config;
    // No file may say so, and no other address is there to be probed.
    for (instance, member) in config.instances.iter_mut().zip(members) {
        if let (Some(ip_config), IpAddr::V4(address)) =
            (instance.ip_configs.first_mut(), member.ip())
        {
            ip_config.ipv4 = Some(address);
        }
    }
    Ok(config)
}

/// Members, in a thread of their own; they go with it.
struct Members {
    addresses: Vec<SocketAddr>,
    clock: ClockId,
    /// Dropped: the thread ends.
    _end: tokio::sync::oneshot::Sender<()>,
}

impl Members {
    fn start(members: u16) -> Result<Self> {
        let (tell, started) = mpsc::channel();
        let (end, ended) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("members".to_owned())
            .spawn(move || serve(members, &tell, ended))?;
        let (addresses, clock) = started.recv().context("the members have not started")??;
        Ok(Self {
            addresses,
            clock,
            _end: end,
        })
    }

    /// CPU time of this process so far, without that of the members.
    fn cost_of_others(&self) -> Result<Duration> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let all = duration(usage.user_time()) + duration(usage.system_time());
        let theirs = Duration::from(clock_gettime(self.clock)?);
        Ok(all.saturating_sub(theirs))
    }
}

fn duration(time: TimeVal) -> Duration {
    Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
}

type Started = Result<(Vec<SocketAddr>, ClockId)>;

fn serve(members: u16, tell: &mpsc::Sender<Started>, end: tokio::sync::oneshot::Receiver<()>) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(error.into()))),
    };
    runtime.block_on(async {
        let started = listen(members).await.and_then(|addresses| {
            // SAFETY: this thread exists.
            let thread = unsafe { libc::pthread_self() };
            let mut clock = 0;
            // SAFETY: `clock` is writable, and the thread exists.
            let result = unsafe { libc::pthread_getcpuclockid(thread, &mut clock) };
            ensure!(result == 0, "the thread has no clock");
            Ok((addresses, ClockId::from_raw(clock)))
        });
        if tell.send(started).is_ok() {
            let _ = end.await;
        }
    });
}

/// Has members answer on addresses of the loopback interface, all on one port.
async fn listen(members: u16) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    let mut port = 0;
    for n in 0..members {
        let [high, low] = n.to_be_bytes();
        let listener = TcpListener::bind(SocketAddr::from(([127, 77, high, low], port))).await?;
        let address = listener.local_addr()?;
        port = address.port();
        addresses.push(address);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream));
            }
        });
    }
    Ok(addresses)
}

async fn answer(mut stream: TcpStream) {
    let mut request = [0; 1024];
    // A probe of tcp sends nothing.
    if stream
        .read(&mut request)
        .await
        .is_ok_and(|length| length > 0)
    {
        let _ = stream.write_all(ANSWER).await;
    }
}
