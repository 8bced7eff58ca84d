//! What can be known without measuring time often: sizes, memory, the host's part.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use anyhow::{Context, Result};
use aya::programs::Xdp;
use forebay_common::abi::names;
use forebay_common::balance::{RingMember, build_ring};
use serde::{Deserialize, Serialize};

use crate::bpf;
use crate::product::Product;
use crate::shared::TABLE_ENTRIES;
use crate::yardstick::Yardstick;

/// A loaded program.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProgramFacts {
    pub(crate) name: String,
    /// Instructions that the verifier looked at.
    pub(crate) verified: u32,
    /// Bytes of machine code.
    pub(crate) machine_code: u32,
    /// Bytes of translated instructions.
    pub(crate) translated: u32,
}

/// Something that has a limit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    pub(crate) limit: f64,
}

impl Fact {
    pub(crate) fn is_reached(&self) -> bool {
        self.value <= self.limit
    }
}

/// All of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) programs: Vec<ProgramFacts>,
    pub(crate) limits: Vec<Fact>,
}

/// Reads the facts of loaded objects.
pub(crate) fn read(product: &mut Product, yardstick: &mut Yardstick) -> Result<Facts> {
    let mut programs = vec![program(names::PROGRAM, product.program()?)?];
    for name in ["minimal4", "minimal6"] {
        programs.push(program(name, yardstick.program(name)?)?);
    }
    Ok(Facts {
        programs,
        limits: vec![
            memory(
                product,
                names::FLOWS4,
                "v4 memory of a flow, both directions",
                320.0,
            )?,
            memory(
                product,
                names::FLOWS6,
                "v6 memory of a flow, both directions",
                416.0,
            )?,
            ring(),
        ],
    })
}

fn program(name: &str, program: &Xdp) -> Result<ProgramFacts> {
    let info = program.info()?;
    Ok(ProgramFacts {
        name: name.to_owned(),
        verified: info.verified_instruction_count().unwrap_or(0),
        machine_code: info.size_jitted(),
        translated: info.size_translated().unwrap_or(0),
    })
}

fn memory(product: &Product, map: &str, name: &str, limit: f64) -> Result<Fact> {
    let descriptor = bpf::map_fd(product.ebpf(), map)?.as_fd().as_raw_fd();
    let path = format!("/proc/thread-self/fdinfo/{descriptor}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let locked = text
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .with_context(|| format!("{path} does not tell the memory of a map"))?;
    let bytes: f64 = locked.trim().parse()?;
    Ok(Fact {
        name: name.to_owned(),
        value: 2.0 * bytes / f64::from(TABLE_ENTRIES),
        unit: "B".to_owned(),
        limit,
    })
}

/// Time to build the ring of a large pool: the best of a few.
fn ring() -> Fact {
    let members: Vec<RingMember> = (1..=1000)
        .map(|backend: u32| RingMember {
            identity: backend.to_be_bytes().to_vec(),
            weight: 1,
            backend,
        })
        .collect();
    let times = (0..5).map(|_| {
        let start = Instant::now();
        std::hint::black_box(build_ring(std::hint::black_box(&members)));
        start.elapsed().as_secs_f64() * 1e3
    });
    Fact {
        name: "ring of 65537 slots for 1000 members".to_owned(),
        value: times.fold(f64::INFINITY, f64::min),
        unit: "ms".to_owned(),
        limit: 5.0,
    }
}
