//! Operations on maps by descriptor, for plain-word keys and values, and timed test runs.

use std::ffi::c_long;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aya::maps::Map;
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, maps::MapData};
use nix::time::{ClockId, clock_gettime};

const MAP_CREATE: c_long = 0;
const MAP_LOOKUP: c_long = 1;
const MAP_UPDATE: c_long = 2;
const MAP_LOOKUP_AND_DELETE_BATCH: c_long = 25;
const MAP_UPDATE_BATCH: c_long = 26;
const MAP_DELETE_BATCH: c_long = 27;
const MAP_TYPE_ARRAY: u32 = 2;

/// Elements handed over in one system call.
const BATCH: usize = 8192;

#[repr(C)]
#[derive(Default)]
struct CreateAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

#[repr(C)]
#[derive(Default)]
struct ElementAttributes {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

fn bpf<T>(command: c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the structs above are heads of `union bpf_attr`, passed with their own size, and what
    // they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes as *mut T, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

fn number(map: BorrowedFd<'_>) -> u32 {
    map.as_raw_fd().cast_unsigned()
}

/// Makes an array of words.
pub(crate) fn create_array(entries: u32) -> Result<OwnedFd> {
    let mut attributes = CreateAttributes {
        map_type: MAP_TYPE_ARRAY,
        key_size: 4,
        value_size: 4,
        max_entries: entries,
    };
    let descriptor = bpf(MAP_CREATE, &mut attributes).context("make an array map")?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts a value into a map.
pub(crate) fn put<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> Result<()> {
    let mut attributes = ElementAttributes {
        map: number(map),
        key: key as *const K as u64,
        value: value as *const V as u64,
        ..Default::default()
    };
    bpf(MAP_UPDATE, &mut attributes).context("write a map entry")?;
    Ok(())
}

/// Reads words from a map: one value, or one a CPU.
fn read<V: Copy + Default>(map: BorrowedFd<'_>, key: u32, values: usize) -> Result<Vec<V>> {
    let mut found = vec![V::default(); values];
    let mut attributes = ElementAttributes {
        map: number(map),
        key: &raw const key as u64,
        value: found.as_mut_ptr() as u64,
        ..Default::default()
    };
    bpf(MAP_LOOKUP, &mut attributes).context("read a map entry")?;
    Ok(found)
}

/// Reads the value under a key, if there is one.
pub(crate) fn find<K: Copy, V: Copy + Default>(map: BorrowedFd<'_>, key: &K) -> Result<Option<V>> {
    let mut found = V::default();
    let mut attributes = ElementAttributes {
        map: number(map),
        key: key as *const K as u64,
        value: &raw mut found as u64,
        ..Default::default()
    };
    match bpf(MAP_LOOKUP, &mut attributes) {
        Ok(_) => Ok(Some(found)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error).context("read a map entry"),
    }
}

/// Reads a value of an array.
pub(crate) fn get<V: Copy + Default>(map: BorrowedFd<'_>, key: u32) -> Result<V> {
    Ok(read(map, key, 1)?.swap_remove(0))
}

/// Reads a value of a per-CPU array, of every CPU. The kernel keeps values at multiples of eight bytes.
pub(crate) fn get_per_cpu<V: Copy + Default>(map: BorrowedFd<'_>, key: u32) -> Result<Vec<V>> {
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    read(map, key, aya::util::nr_cpus().map_err(|(_, error)| error)?)
}

/// Fills a value of a per-CPU array with zeros, for every CPU.
pub(crate) fn clear_per_cpu<V>(map: BorrowedFd<'_>, key: u32) -> Result<()> {
    const { assert!(size_of::<V>().is_multiple_of(8)) };
    let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
    let zeros = vec![0_u64; size_of::<V>() / 8 * cpus];
    let mut attributes = ElementAttributes {
        map: number(map),
        key: &raw const key as u64,
        value: zeros.as_ptr() as u64,
        ..Default::default()
    };
    bpf(MAP_UPDATE, &mut attributes).context("write a map entry")?;
    Ok(())
}

/// Puts many entries into a map, in this order.
pub(crate) fn put_all<K: Copy, V: Copy>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<()> {
    assert_eq!(keys.len(), values.len());
    for (keys, values) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
        let mut attributes = BatchAttributes {
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: keys.len() as u32,
            map: number(map),
            ..Default::default()
        };
        bpf(MAP_UPDATE_BATCH, &mut attributes).context("write many map entries")?;
    }
    Ok(())
}

/// Removes entries; every one must be there.
pub(crate) fn remove_all<K: Copy>(map: BorrowedFd<'_>, keys: &[K]) -> Result<()> {
    for keys in keys.chunks(BATCH) {
        let mut attributes = BatchAttributes {
            keys: keys.as_ptr() as u64,
            count: keys.len() as u32,
            map: number(map),
            ..Default::default()
        };
        let outcome = bpf(MAP_DELETE_BATCH, &mut attributes);
        outcome.with_context(|| {
            let (done, of) = (attributes.count, keys.len());
            format!("remove many map entries (done: {done} of {of})")
        })?;
    }
    Ok(())
}

/// Removes every entry of a hash map; says how many there were.
pub(crate) fn clear<K: Copy, V: Copy>(map: BorrowedFd<'_>) -> Result<usize> {
    let mut keys: Vec<MaybeUninit<K>> = Vec::with_capacity(BATCH);
    let mut values: Vec<MaybeUninit<V>> = Vec::with_capacity(BATCH);
    let (mut position, mut next) = (0_u32, 0_u32);
    let (mut started, mut removed) = (false, 0);
    loop {
        let mut attributes = BatchAttributes {
            in_batch: if started {
                &raw const position as u64
            } else {
                0
            },
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH as u32,
            map: number(map),
            ..Default::default()
        };
        let outcome = bpf(MAP_LOOKUP_AND_DELETE_BATCH, &mut attributes);
        removed += attributes.count as usize;
        match outcome {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(removed),
            Err(error) => return Err(error).context("empty a map"),
        }
        (position, started) = (next, true);
    }
}

/// A map of a loaded object.
pub(crate) fn map<'e>(ebpf: &'e Ebpf, name: &str) -> Result<&'e MapData> {
    match ebpf.map(name) {
        Some(
            Map::Array(data)
            | Map::ArrayOfMaps(data)
            | Map::DevMap(data)
            | Map::HashMap(data)
            | Map::PerCpuArray(data)
            | Map::ProgramArray(data),
        ) => Ok(data),
        Some(_) => bail!("map {name} is of a kind that the bench does not know"),
        None => bail!("the object has no map {name}"),
    }
}

/// The descriptor of a map of a loaded object.
pub(crate) fn map_fd<'e>(ebpf: &'e Ebpf, name: &str) -> Result<BorrowedFd<'e>> {
    Ok(map(ebpf, name)?.fd().as_fd())
}

/// A program of a loaded object.
pub(crate) fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    let program = ebpf.program_mut(name);
    let program = program.with_context(|| format!("the object has no program {name}"))?;
    program
        .try_into()
        .with_context(|| format!("{name} is not an XDP program"))
}

/// How a test run ended.
pub(crate) struct Run {
    /// What the program returned last.
    pub(crate) returned: u32,
    /// CPU time of the call, soft interrupts on it included.
    pub(crate) time: Duration,
}

/// A frame and the interface that it comes in by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arriving<'f> {
    pub(crate) frame: &'f [u8],
    /// Number of the interface.
    pub(crate) ingress: u32,
}

impl Arriving<'_> {
    /// `struct xdp_md`.
    fn context(&self) -> [u8; 24] {
        let words = [0, self.frame.len() as u32, 0, self.ingress, 0, 0];
        let mut bytes = [0; 24];
        for (field, word) in bytes.chunks_exact_mut(4).zip(words) {
            field.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

/// Runs a program `repeat` times over a frame.
pub(crate) fn run(program: &Xdp, arriving: Arriving<'_>, repeat: u32) -> Result<Run> {
    let context = arriving.context();
    timed(
        program,
        TestRunOptions {
            data_in: Some(arriving.frame),
            ctx_in: Some(&context),
            repeat,
            ..TestRunOptions::new()
        },
    )
}

/// Runs a program that looks at no frame.
pub(crate) fn run_bare(program: &Xdp) -> Result<()> {
    let frame = [0; 64];
    program.test_run(TestRunOptions {
        data_in: Some(&frame),
        ..TestRunOptions::new()
    })?;
    Ok(())
}

/// Sends `repeat` frames that the program redirects, in batches of 64.
pub(crate) fn run_live(program: &Xdp, frame: &[u8], repeat: u32) -> Result<Run> {
    timed(
        program,
        TestRunOptions {
            data_in: Some(frame),
            repeat,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        },
    )
}

fn timed(program: &Xdp, options: TestRunOptions<'_>) -> Result<Run> {
    let start = thread_time()?;
    let result = program.test_run(options)?;
    Ok(Run {
        returned: result.return_value,
        time: thread_time()?.saturating_sub(start),
    })
}

/// Runs a program once and returns what became of the frame.
pub(crate) fn run_once(program: &Xdp, arriving: Arriving<'_>) -> Result<(u32, Vec<u8>)> {
    let mut out = vec![0; arriving.frame.len()];
    let context = arriving.context();
    let options = TestRunOptions {
        data_in: Some(arriving.frame),
        ctx_in: Some(&context),
        data_out: Some(&mut out),
        ..TestRunOptions::new()
    };
    let result = program.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value, out))
}

fn thread_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
