//! The program in the kernel, run one frame at a time.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;

use anyhow::{Context, Result};
use aya::maps::{MapData, ProgramArray};
use aya::programs::xdp::XdpMode;
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use forebay_common::abi::{RETIRE_BATCH, RuleCounters, Trial, names};
use forebay_common::model::UNTRUSTED_SETS;
use forebay_common::reason::Reason;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::maps::{Maps, NewTables};
use super::{Action, Engine, Keys, Outcome, Retire, object_path};
use crate::network::namespace::{Namespace, PERCH};
use crate::network::plan::Link;
use crate::world::{CAPACITY, Flows, World};

/// The shortest frame that the kernel runs a program on.
pub const SHORTEST: usize = 14;

/// Bytes by which the program may lengthen a frame.
const GROWTH: usize = 64;

/// The program, loaded for tests: it tells the time from its settings.
pub struct Live {
    ebpf: Ebpf,
    maps: Maps,
    /// Where flows move to, if they do.
    new_tables: Option<NewTables>,
    /// The kernel empties a table of programs that nobody holds.
    _stages: ProgramArray<MapData>,
    namespace: Namespace,
    /// Where frames run one at a time: what is bounded for each CPU is bounded for all of them then.
    cpu: usize,
    reasons: BTreeMap<Reason, u64>,
}

impl Live {
    /// Makes the planned network and loads the program into it. The calling thread is in its
    /// namespace afterwards.
    ///
    /// # Errors
    /// No object, no privilege, or the kernel refuses the program.
    pub fn start() -> Result<Self> {
        Self::start_with(false)
    }

    /// The same while flows move from tables of another size: what worlds have is in these, which are the ones
    /// that are read, and the new ones are empty.
    ///
    /// # Errors
    /// As before.
    pub fn start_moving() -> Result<Self> {
        Self::start_with(true)
    }

    fn start_with(moving: bool) -> Result<Self> {
        let path = object_path()?;
        let namespace = Namespace::create()?;
        let families: u32 = if moving { 0b11 } else { 0 };
        let mut ebpf = EbpfLoader::new()
            .override_global(names::DETERMINISTIC, &1_u32, true)
            .map_max_entries(names::FLOWS4, CAPACITY)
            .map_max_entries(names::FLOWS6, CAPACITY)
            .map_max_entries(names::FORMER_FLOWS4, CAPACITY)
            .map_max_entries(names::FORMER_FLOWS6, CAPACITY)
            .override_global(names::FORMER, &families, true)
            .map_max_entries(names::UNTRUSTED4, UNTRUSTED_SETS)
            .map_max_entries(names::UNTRUSTED6, UNTRUSTED_SETS)
            .load_file(&path)
            .with_context(|| format!("load {}", path.display()))?;
        for name in [names::CLOCKS_PROGRAM]
            .into_iter()
            .chain(names::RETIRE_PROGRAMS)
        {
            xdp(&mut ebpf, name)?
                .load()
                .with_context(|| refused(name))?;
        }
        let stages = connect_stages(&mut ebpf)?;
        // A program that is attached nowhere may make a test run wait for all CPUs.
        xdp(&mut ebpf, names::PROGRAM)?
            .attach(PERCH, XdpMode::Skb)
            .context("attach the program")?;
        let maps = Maps::take(&mut ebpf, moving)?;
        let new_tables = moving.then(|| NewTables::take(&mut ebpf)).transpose()?;
        let mut live = Self {
            ebpf,
            maps,
            new_tables,
            _stages: stages,
            namespace,
            cpu: nix::sched::sched_getcpu().context("which CPU is this?")?,
            reasons: BTreeMap::new(),
        };
        live.load(&World::unconfigured());
        Ok(live)
    }

    /// Puts the calling thread into the network and on one CPU; needed once in a thread, before anything
    /// else.
    ///
    /// # Errors
    /// No privilege.
    pub fn enter(&self) -> Result<()> {
        pin(self.cpu).context("stay on one CPU")?;
        self.namespace.enter()
    }

    /// The entries that the flow tables have under some keys.
    pub fn look_up(&self, keys: &Keys) -> Flows {
        Flows {
            v4: self.maps.v4.look_up(&keys.v4).expect("flows can be read"),
            v6: self.maps.v6.look_up(&keys.v6).expect("flows can be read"),
            ..Flows::default()
        }
        .with_untrusted(
            self.maps
                .v4
                .look_up_untrusted(&self.maps.settings(), &keys.v4)
                .expect("untrusted flows can be read"),
            self.maps
                .v6
                .look_up_untrusted(&self.maps.settings(), &keys.v6)
                .expect("untrusted flows can be read"),
        )
    }

    /// What flows have moved to so far, and new ones that went there.
    ///
    /// # Panics
    /// When no flows move.
    pub fn new_flows(&self) -> Flows {
        let tables = self.new_tables.as_ref().expect("flows move");
        tables.read().expect("flows can be read")
    }

    /// Says whether new flows go to the new tables.
    ///
    /// # Panics
    /// When no flows move.
    pub fn set_moving(&mut self, moving: bool) {
        let tables = self.new_tables.as_mut().expect("flows move");
        tables.set_moving(moving).expect("a word can be written");
    }

    /// Entries that the program has counted in the flow tables.
    pub fn occupied(&self) -> [u64; 2] {
        self.maps.occupied().expect("counters can be read")
    }

    /// The clocks of the kernel as its programs read them: jiffies, and nanoseconds since boot.
    pub fn clocks(&mut self) -> [u64; 2] {
        self.run_bare(names::CLOCKS_PROGRAM);
        self.maps.clocks().expect("clocks can be read")
    }

    /// Runs each list of frames on a CPU of its own, all at once; says where each frame went. What was
    /// counted is not told: nobody knows which frame it was.
    ///
    /// # Panics
    /// When there are fewer CPUs than lists.
    pub fn race(&mut self, lists: &[Vec<(Vec<u8>, &Link)>]) -> Vec<Vec<Action>> {
        let raced = self.race_frames(lists).into_iter();
        raced
            .map(|list| list.into_iter().map(|(action, _)| action).collect())
            .collect()
    }

    /// The same, with what became of each frame's bytes.
    ///
    /// # Panics
    /// As above.
    pub fn race_frames(&mut self, lists: &[Vec<(Vec<u8>, &Link)>]) -> Vec<Vec<(Action, Vec<u8>)>> {
        let program = xdp(&mut self.ebpf, names::PROGRAM).expect("the program is loaded");
        let (program, namespace) = (&*program, &self.namespace);
        let start = Barrier::new(lists.len());
        let on_cpu = |cpu: usize, list: &[(Vec<u8>, &Link)]| {
            pin(cpu).expect("the thread may run there");
            namespace.enter().expect("the namespace is there");
            start.wait();
            let frames = list.iter();
            frames
                .map(|(frame, ingress)| test_run(program, frame, ingress))
                .collect()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = lists
                .iter()
                .enumerate()
                .map(|(cpu, list)| scope.spawn(move || on_cpu(cpu, list)))
                .collect();
            let join = |thread: ScopedJoinHandle<'_, Vec<(Action, Vec<u8>)>>| {
                thread.join().unwrap_or_else(|panic| resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        })
    }

    /// Runs a program that looks at no frame.
    fn run_bare(&mut self, name: &str) {
        let program = xdp(&mut self.ebpf, name).expect("the program is loaded");
        program
            .test_run(TestRunOptions {
                data_in: Some(&[0; 64]),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("test run of {name}: {error:?}"));
    }

    /// What was counted since it was last asked for.
    pub fn counted(&mut self) -> Vec<(Reason, u64)> {
        let totals = self.maps.reasons().expect("counters can be read");
        let changed = totals
            .iter()
            .map(|(reason, total)| {
                let before = self.reasons.get(reason).copied().unwrap_or(0);
                (*reason, total.wrapping_sub(before))
            })
            .filter(|(_, more)| *more != 0)
            .collect();
        self.reasons = totals;
        changed
    }
}

/// Keeps the calling thread on a CPU.
fn pin(cpu: usize) -> nix::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &cpus)
}

/// Loads the programs of the stages and puts them where the first one looks for them, for as long as the
/// table is held.
///
/// # Errors
/// The kernel refuses one.
pub fn connect_stages(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>> {
    let map = ebpf.take_map(names::STAGES);
    let mut stages = ProgramArray::try_from(map.context("the object has no table of stages")?)?;
    for (index, name) in names::STAGE_PROGRAMS.into_iter().enumerate() {
        let program = xdp(ebpf, name)?;
        program.load().with_context(|| refused(name))?;
        let fd = program.fd()?.try_clone()?;
        stages.set(index as u32, &fd, 0)?;
    }
    Ok(stages)
}

fn refused(name: &str) -> String {
    format!("the kernel refuses the program {name}")
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf
        .program_mut(name)
        .with_context(|| format!("the object has no program {name}"))?;
    Ok(program.try_into()?)
}

/// `struct xdp_md` of a frame.
fn context(length: usize, ingress: u32) -> [u8; 24] {
    let words = [0, length as u32, 0, ingress, 0, 0];
    let mut bytes = [0; 24];
    for (field, word) in bytes.chunks_exact_mut(4).zip(words) {
        field.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

/// Runs the program on a frame: where it goes, and its bytes.
fn test_run(program: &Xdp, frame: &[u8], ingress: &Link) -> (Action, Vec<u8>) {
    assert!(frame.len() >= SHORTEST, "the kernel runs no such frame");
    let mut bytes = vec![0; frame.len() + GROWTH];
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ctx_in: Some(&context(frame.len(), ingress.ifindex)),
            ..TestRunOptions::default()
        })
        .unwrap_or_else(|error| panic!("test run of {} bytes: {error:?}", frame.len()));
    bytes.truncate(result.data_size_out as usize);
    let action = match result.return_value {
        1 => Action::Drop,
        2 => Action::Pass,
        3 => Action::Transmit,
        4 => Action::Redirect,
        _ => Action::Aborted,
    };
    (action, bytes)
}

impl Engine for Live {
    fn name(&self) -> &'static str {
        "the kernel"
    }

    fn load(&mut self, world: &World) {
        self.maps.load(world).expect("the maps take a world");
        self.reasons = self.maps.reasons().expect("counters can be read");
    }

    fn configure(&mut self, world: &World) {
        self.maps.configure(world).expect("the maps take a world");
    }

    fn set_now(&mut self, now: u64) {
        self.maps.set_now(now).expect("settings can be written");
    }

    fn run(&mut self, frame: &[u8], ingress: &Link) -> Outcome {
        let program = xdp(&mut self.ebpf, names::PROGRAM).expect("the program is loaded");
        let (action, frame) = test_run(program, frame, ingress);
        Outcome {
            action,
            counted: self.counted(),
            frame,
        }
    }

    fn flows(&self) -> Flows {
        let settings = self.maps.settings();
        Flows {
            v4: self.maps.v4.read().expect("flows can be read"),
            v6: self.maps.v6.read().expect("flows can be read"),
            ..Flows::default()
        }
        .with_untrusted(
            self.maps
                .v4
                .untrusted(&settings)
                .expect("flows can be read"),
            self.maps
                .v6
                .untrusted(&settings)
                .expect("flows can be read"),
        )
    }

    fn retire(&mut self, step: Retire, keys: &Keys) -> Vec<bool> {
        let [v4, v6] = names::RETIRE_PROGRAMS;
        let mut done = Vec::new();
        for batch in keys.v4.chunks(RETIRE_BATCH) {
            self.maps
                .v4
                .put_batch(step, batch)
                .expect("batches can be written");
            self.run_bare(v4);
            done.extend(self.maps.v4.batch_done().expect("batches can be read"));
        }
        for batch in keys.v6.chunks(RETIRE_BATCH) {
            self.maps
                .v6
                .put_batch(step, batch)
                .expect("batches can be written");
            self.run_bare(v6);
            done.extend(self.maps.v6.batch_done().expect("batches can be read"));
        }
        done
    }

    fn rule_counters(&self) -> BTreeMap<u32, RuleCounters> {
        self.maps.rule_counters().expect("counters can be read")
    }

    fn trials(&self) -> BTreeMap<u32, Trial> {
        self.maps.trials().expect("trials can be read")
    }
}
