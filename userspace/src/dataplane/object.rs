//! The embedded object and how it gets into the kernel.

use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use aya::maps::{Map, ProgramArray};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use forebay_common::abi::names;

use super::log;
use super::pins::{FLOW_TABLES, FlowPins, Pins};
use crate::control_plane::Sizes;

/// The eBPF object, as built with this binary.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/forebay-xdp"));

/// Oldest kernel that is supported: its series has every feature that the program and the daemon use.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

/// Programs that are verified at a time.
const WORKERS: usize = 4;

/// Tables that outlive the daemon, beside those of flows: everything but what one program alone writes and reads. While a new
/// program takes the place of an old one, stages of one meet notes of the other: scratch space too.
const PINNED: [&str; 43] = [
    names::SETTINGS,
    names::MOVING,
    names::UNTRUSTED4,
    names::UNTRUSTED6,
    names::OCCUPIED,
    names::SOURCES,
    names::LOCKS,
    names::REVERSE4,
    names::REVERSE6,
    names::WAYS4,
    names::WAYS6,
    names::WAY_COUNTERS4,
    names::WAY_COUNTERS6,
    names::SNAT_RANGES4,
    names::SNAT_RANGES6,
    names::PUBLIC_IPS4,
    names::PUBLIC_IPS6,
    names::POSITIONS,
    names::ADDRESSES4,
    names::ADDRESSES6,
    names::ADDRESS_FILTER,
    names::PORTS,
    names::PORT_RANGES,
    names::BINDINGS,
    names::RINGS,
    names::SPREADS,
    names::BACKENDS4,
    names::BACKENDS6,
    names::VIRTUAL_NETWORK4,
    names::VIRTUAL_NETWORK6,
    names::INTERFACES,
    names::INTERFACE_SLOTS,
    names::VLANS,
    names::STAGES,
    names::PER_CPU,
    names::SCRATCH4,
    names::SCRATCH6,
    names::FRAGMENTS4,
    names::FRAGMENTS6,
    names::TRIALS,
    names::TX_PORTS,
    names::REASONS,
    names::RULE_COUNTERS,
];

/// Tables that flows move from, IPv4 and IPv6.
const FORMER_TABLES: [&str; 2] = [names::FORMER_FLOWS4, names::FORMER_FLOWS6];

/// Loads the object over the pinned tables, making those that are missing; `sizes` are those of new tables.
pub(super) fn load(pins: &Pins, flows: &[FlowPins; 2], sizes: Sizes) -> Result<Ebpf> {
    require_kernel()?;
    if OBJECT.is_empty() {
        bail!(
            "this binary was built without its eBPF program (FOREBAY_SKIP_EBPF was set); build it again without"
        );
    }
    let maps = pins.maps();
    let mut loader = EbpfLoader::new();
    let mut with_former: u32 = 0;
    for (family, pins) in flows.iter().enumerate() {
        loader
            .map_max_entries(FLOW_TABLES[family], sizes.entries)
            .map_pin_path(FLOW_TABLES[family], &pins.table);
        match &pins.former {
            Some(former) => {
                with_former |= 1 << family;
                loader.map_pin_path(FORMER_TABLES[family], former);
            }
            None => {
                loader.map_max_entries(FORMER_TABLES[family], 1);
            }
        }
    }
    loader.override_global(names::FORMER, &with_former, true);
    loader
        .map_max_entries(names::UNTRUSTED4, sizes.untrusted_sets)
        .map_max_entries(names::UNTRUSTED6, sizes.untrusted_sets);
    for name in PINNED {
        loader.map_pin_path(name, maps.join(name));
    }
    log::set_level(&mut loader);
    let mut object = loader.load(OBJECT).map_err(explain)?;
    load_programs(&mut object).map_err(|error| explain(EbpfError::from(error)))?;
    connect_stages(&mut object)?;
    Ok(object)
}

/// Has the kernel verify the programs, several at a time: all of it takes a second of one CPU.
fn load_programs(object: &mut Ebpf) -> Result<(), ProgramError> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let programs = Mutex::new(object.programs_mut());
    let next = || {
        let mut programs = programs.lock().unwrap_or_else(PoisonError::into_inner);
        programs.next()
    };
    let load_some = || {
        while let Some((_, program)) = next() {
            <&mut Xdp>::try_from(program)?.load()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers.min(WORKERS))
            .map(|_| scope.spawn(load_some))
            .collect();
        let own = load_some();
        let others = others
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        others.chain([own]).collect()
    })
}

/// Puts the programs of the stages where the first one looks for them. Those of a former daemon are
/// replaced one by one; each is complete, so a packet in between is handled by an old or a new one.
fn connect_stages(object: &mut Ebpf) -> Result<()> {
    let mut stages = ProgramArray::try_from(map(object, names::STAGES)?)?;
    for (index, name) in names::STAGE_PROGRAMS.into_iter().enumerate() {
        let fd = program(object, name)?.fd()?.try_clone()?;
        stages
            .set(index as u32, &fd, 0)
            .with_context(|| format!("put program {name} in place"))?;
    }
    Ok(())
}

/// A program of the object.
pub(super) fn program<'o>(object: &'o mut Ebpf, name: &str) -> Result<&'o mut Xdp> {
    let program = object
        .program_mut(name)
        .ok_or_else(|| anyhow!("the object has no program {name}"))?;
    program
        .try_into()
        .with_context(|| format!("program {name}"))
}

/// A map of the object, to be kept.
pub(super) fn map(object: &mut Ebpf, name: &str) -> Result<Map> {
    object
        .take_map(name)
        .ok_or_else(|| anyhow!("the object has no map {name}"))
}

fn require_kernel() -> Result<()> {
    let release = nix::sys::utsname::uname().context("ask for the kernel's version")?;
    let release = release.release().to_string_lossy().into_owned();
    match version(&release) {
        Some(found) if found < OLDEST_KERNEL => {
            let (major, minor) = OLDEST_KERNEL;
            bail!("kernel {release} is too old: Forebay needs Linux {major}.{minor} or later")
        }
        _ => Ok(()),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn explain(error: EbpfError) -> anyhow::Error {
    let mut source: Option<&dyn std::error::Error> = Some(&error);
    while let Some(cause) = source {
        let code = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error);
        match code {
            Some(libc::EPERM | libc::EACCES) if !nix::unistd::geteuid().is_root() => {
                return anyhow!(
                    "no privilege to load the eBPF program: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
                );
            }
            Some(libc::ENOMEM) => {
                return anyhow!(
                    "not enough memory for the tables: lower [limits].flows (see `forebay check` for the sizes)"
                );
            }
            _ => source = cause.source(),
        }
    }
    anyhow::Error::from(error).context("load the eBPF program")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_understood() {
        assert_eq!(version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert!(version("5.10.9").unwrap() < OLDEST_KERNEL);
        assert_eq!(version("what"), None);
    }
}
