//! The bench's own object: drivers, floors and the minimal translator.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use aya::programs::ProgramFd;
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader};
use forebay_common::flow::FlowKey;

use crate::bpf;
use crate::scene::{BACKEND_PORT, Course, Net, PORT, backends};
use crate::shared::{
    Arrivals, Expectation, NextHop, Plan, Service, TABLE_ENTRIES, Translation, backend_of,
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forebay-bench-xdp"));

/// The object in the kernel.
pub(crate) struct Yardstick {
    ebpf: Ebpf,
}

/// Where translated packets leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ways {
    pub(crate) to_backends: NextHop,
    pub(crate) to_clients: NextHop,
}

impl Yardstick {
    /// Loads the object and all its programs.
    pub(crate) fn load() -> Result<Self> {
        if OBJECT.is_empty() {
            bail!("forebay-bench was built without its eBPF programs (FOREBAY_SKIP_EBPF is set)");
        }
        let mut ebpf = EbpfLoader::new()
            .load(OBJECT)
            .context("load the bench's programs")?;
        for (name, program) in ebpf.programs_mut() {
            let xdp: &mut Xdp = program.try_into()?;
            xdp.load().with_context(|| format!("load {name}"))?;
        }
        Ok(Self { ebpf })
    }

    /// One of the programs.
    pub(crate) fn program(&mut self, name: &str) -> Result<&mut Xdp> {
        bpf::program(&mut self.ebpf, name)
    }

    fn map(&self, name: &str) -> Result<BorrowedFd<'_>> {
        bpf::map_fd(&self.ebpf, name)
    }

    /// Tells drivers and generators what to write.
    pub(crate) fn set_plan(&self, plan: &Plan) -> Result<()> {
        bpf::put(self.map("PLAN")?, &0_u32, plan)
    }

    /// Makes a program the one that drivers call.
    pub(crate) fn set_target(&self, program: &ProgramFd) -> Result<()> {
        let descriptor = program.as_fd().as_raw_fd();
        bpf::put(self.map("TARGET")?, &0_u32, &descriptor).context("make it the driver's target")
    }

    /// Makes one of the own programs the one that drivers call.
    pub(crate) fn set_own_target(&mut self, name: &str) -> Result<()> {
        let program = self.program(name)?.fd()?.try_clone()?;
        self.set_target(&program)
    }

    /// Makes a device a target of redirects. The calling thread is in its namespace.
    pub(crate) fn set_device(&self, slot: u32, ifindex: u32) -> Result<()> {
        bpf::put(self.map("TX_PORTS")?, &slot, &[ifindex, 0])
            .with_context(|| format!("make interface {ifindex} a target of redirects"))
    }

    /// Gives the minimal translator its rule.
    pub(crate) fn configure<A: Net>(&self, ways: &Ways) -> Result<()> {
        let service = Service {
            frontend: A::FRONTEND,
            backends: backends::<A>(),
            port: PORT.to_be(),
            backend_port: BACKEND_PORT.to_be(),
            to_backends: ways.to_backends,
            to_clients: ways.to_clients,
            padding: 0,
        };
        bpf::put(self.map(A::BENCH.service)?, &0_u32, &service)
    }

    /// Puts both directions of a course's flows into the minimal translator's table, in their order.
    pub(crate) fn fill<A: Net>(&self, course: &Course<A>, ways: &Ways) -> Result<()> {
        let replies = course.replies();
        let entry = |becomes: FlowKey<A>, hop| Translation {
            source: becomes.source,
            destination: becomes.destination,
            ports: becomes.ports,
            hop,
            padding: 0,
        };
        let (mut keys, mut translations) = (Vec::new(), Vec::new());
        for flow in 0..course.flows {
            let (there, back) = (course.key(flow), replies.key(flow));
            keys.extend([there, back]);
            translations.push(entry(back.reversed(), ways.to_backends));
            translations.push(entry(there.reversed(), ways.to_clients));
        }
        assert!(keys.len() < TABLE_ENTRIES as usize);
        bpf::put_all(self.map(A::BENCH.translations)?, &keys, &translations)
            .context("fill the minimal translator's table")
    }

    /// Removes the flows that a course opened.
    pub(crate) fn remove<A: Net>(
        &self,
        course: &Course<A>,
        flows: impl Iterator<Item = u64>,
    ) -> Result<()> {
        let mut keys = Vec::new();
        for flow in flows {
            let key = course.key(flow);
            let replies = Course {
                peer: A::backend(backend_of(key.source.low_word(), key.ports)),
                ..course.replies()
            };
            keys.extend([key, replies.key(flow)]);
        }
        bpf::remove_all(self.map(A::BENCH.translations)?, &keys)
    }

    /// Empties the minimal translator's table; says how many entries there were.
    pub(crate) fn clear<A: Net>(&self) -> Result<usize> {
        bpf::clear::<FlowKey<A>, Translation<A>>(self.map(A::BENCH.translations)?)
    }

    /// Packets of the minimal translator, all CPUs.
    pub(crate) fn packets(&self) -> Result<u64> {
        Ok(bpf::get_per_cpu::<u64>(self.map("PACKETS")?, 0)?
            .iter()
            .sum())
    }

    /// Tells the far end what to expect.
    pub(crate) fn expect(&self, expectation: &Expectation) -> Result<()> {
        bpf::put(self.map("EXPECTATION")?, &0_u32, expectation)
    }

    /// What the far end has counted, all CPUs.
    pub(crate) fn arrivals(&self) -> Result<Arrivals> {
        let counted: Vec<Arrivals> = bpf::get_per_cpu(self.map("ARRIVALS")?, 0)?;
        Ok(counted
            .iter()
            .fold(Arrivals::default(), |sum, cpu| Arrivals {
                expected: sum.expected + cpu.expected,
                others: sum.others + cpu.others,
            }))
    }
}
