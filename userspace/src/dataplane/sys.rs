//! The few `bpf(2)` commands that aya does not wrap: batches, and running a program by descriptor.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use forebay_common::abi::{
    Backend, Bound, Owner, PortKey, PortPrefix, PublicIp, RetireBatch, Reverse, ReverseKey, Rule,
    RuleCounters, Settings, SnatRange, Trial, Way, WayCounters, WayKey,
};
use forebay_common::family::{Family, V4, V6};
use forebay_common::flow::{Flow, FlowKey, UntrustedSet};

const MAP_TYPE_ARRAY: u32 = 2;

const MAP_CREATE: libc::c_long = 0;
const PROG_TEST_RUN: libc::c_long = 10;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;

/// Marks types that may be copied to and from the kernel byte by byte.
///
/// # Safety
/// No padding, no pointers, every bit pattern valid.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),* $(,)?) => {
        // SAFETY: `repr(C)` integers without padding; their crate asserts the sizes.
        $(unsafe impl Plain for $type {})*
    };
}

plain!(
    u32,
    u64,
    [u64; 2],
    V4,
    V6,
    FlowKey<V4>,
    FlowKey<V6>,
    Flow<V4>,
    Flow<V6>,
    Settings,
    Owner,
    PortKey,
    PortPrefix,
    Bound,
    Rule
);
plain!(
    RuleCounters,
    forebay_common::abi::VlanKey,
    forebay_common::abi::Interface,
    Way,
    Trial
);
plain!(RetireBatch<V4>, RetireBatch<V6>);
plain!(UntrustedSet<V4>, UntrustedSet<V6>);

macro_rules! plain_of_family {
    ($($type:ident),* $(,)?) => {
        // SAFETY: as above, for both families: there are no others.
        $(unsafe impl<A: Family + Plain> Plain for $type<A> {})*
    };
}

plain_of_family!(
    Backend,
    ReverseKey,
    Reverse,
    WayKey,
    WayCounters,
    SnatRange,
    PublicIp
);

/// A [`Plain`] value as aya wants it.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Pod<T>(pub T);

// SAFETY: `Plain` promises what `Pod` asks for.
unsafe impl<T: Plain> aya::Pod for Pod<T> {}

#[repr(C)]
#[derive(Default)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ElementAttributes {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttributes {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the attributes are a live `repr(C)` struct of the size given, and the pointers in it are
    // valid for the sizes that the callers below state.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}

/// Where a batched read of a hash stands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    position: u32,
    begun: bool,
    /// Every element was visited.
    pub finished: bool,
}

/// Reads the next elements of a hash into `keys` and `values` (which grow when a bucket does not fit)
/// and returns how many. Elements that come and go meanwhile may be met or not.
pub(super) fn lookup_batch<K: Plain + Default, V: Plain + Default>(
    map: BorrowedFd<'_>,
    cursor: &mut Cursor,
    keys: &mut Vec<K>,
    values: &mut Vec<V>,
) -> io::Result<usize> {
    loop {
        let mut next = 0_u32;
        let mut attributes = BatchAttributes {
            in_batch: if cursor.begun {
                &raw const cursor.position as u64
            } else {
                0
            },
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: keys.len().min(values.len()) as u32,
            map_fd: map.as_raw_fd() as u32,
            ..BatchAttributes::default()
        };
        let result = bpf(MAP_LOOKUP_BATCH, &mut attributes);
        match result {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => cursor.finished = true,
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                let larger = keys.len() * 2;
                keys.resize_with(larger, K::default);
                values.resize_with(larger, V::default);
                continue;
            }
            Err(error) => return Err(error),
        }
        cursor.begun = true;
        cursor.position = next;
        return Ok(attributes.count as usize);
    }
}

/// Reads a whole array, `page` elements at a time.
pub(super) fn read_array<V: Plain + Default>(
    map: BorrowedFd<'_>,
    page: usize,
) -> io::Result<Vec<(u32, V)>> {
    let mut cursor = Cursor::default();
    let (mut indices, mut values) = (vec![0_u32; page], vec![V::default(); page]);
    let mut found = Vec::new();
    while !cursor.finished {
        let count = lookup_batch(map, &mut cursor, &mut indices, &mut values)?;
        found.extend(
            indices
                .iter()
                .copied()
                .zip(values.iter().copied())
                .take(count),
        );
    }
    Ok(found)
}

/// Writes `values` into the first elements of an array.
pub(super) fn update_array(map: BorrowedFd<'_>, values: &[u32]) -> io::Result<()> {
    let keys: Vec<u32> = (0..values.len() as u32).collect();
    let mut attributes = BatchAttributes {
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count: values.len() as u32,
        map_fd: map.as_raw_fd() as u32,
        ..BatchAttributes::default()
    };
    bpf(MAP_UPDATE_BATCH, &mut attributes).map(drop)
}

/// Reads one element.
pub(super) fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = std::mem::MaybeUninit::<V>::uninit();
    let mut attributes = ElementAttributes {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const *key as u64,
        value: value.as_mut_ptr() as u64,
        ..ElementAttributes::default()
    };
    match bpf(MAP_LOOKUP_ELEM, &mut attributes) {
        // SAFETY: the kernel filled the value in, and every bit pattern is valid.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes one element.
pub(super) fn update<K: Plain, V: Plain>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    let mut attributes = ElementAttributes {
        map_fd: map.as_raw_fd() as u32,
        key: &raw const *key as u64,
        value: &raw const *value as u64,
        ..ElementAttributes::default()
    };
    bpf(MAP_UPDATE_ELEM, &mut attributes).map(drop)
}

/// Runs an XDP program once, on an empty frame.
pub(super) fn run_program(program: BorrowedFd<'_>) -> io::Result<()> {
    let frame = [0_u8; 64];
    let mut attributes = TestRunAttributes {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        ..TestRunAttributes::default()
    };
    bpf(PROG_TEST_RUN, &mut attributes).map(drop)
}

/// `BPF_F_TEST_XDP_LIVE_FRAMES`
const LIVE_FRAMES: u32 = 1 << 1;

/// `struct xdp_md`
#[repr(C)]
#[derive(Default)]
struct FrameContext {
    data: u32,
    data_end: u32,
    data_meta: u32,
    ingress_ifindex: u32,
    rx_queue_index: u32,
    egress_ifindex: u32,
}

/// Runs an XDP program on a frame as if it had come in on an interface; what the program does with it really
/// happens.
pub(super) fn run_live(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32) -> io::Result<()> {
    let context = FrameContext {
        data_end: frame.len() as u32,
        ingress_ifindex: ifindex,
        ..FrameContext::default()
    };
    let mut attributes = TestRunAttributes {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        ctx_size_in: size_of::<FrameContext>() as u32,
        ctx_in: &raw const context as u64,
        repeat: 1,
        batch_size: 1,
        flags: LIVE_FRAMES,
        ..TestRunAttributes::default()
    };
    bpf(PROG_TEST_RUN, &mut attributes).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct PinAttributes {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttributes {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The head of `struct bpf_link_info` for a link of an XDP program.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    ifindex: u32,
    more: u32,
}

/// Number of the interface that a pinned link is on; 0: that interface is gone.
pub(super) fn xdp_link_ifindex(pin: &Path) -> io::Result<u32> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attributes = PinAttributes {
        pathname: path.as_ptr() as u64,
        ..PinAttributes::default()
    };
    let descriptor = bpf(OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    let link = unsafe { OwnedFd::from_raw_fd(descriptor) };
    let mut info = LinkInfo::default();
    let mut attributes = InfoAttributes {
        bpf_fd: link.as_raw_fd() as u32,
        info_len: size_of::<LinkInfo>() as u32,
        info: &raw mut info as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info.ifindex)
}

#[repr(C)]
#[derive(Default)]
struct CreateAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// `BPF_F_INNER_MAP`
const ANY_LENGTH: u32 = 0x1000;

/// Makes an array of words.
pub(super) fn create_array(entries: u32) -> io::Result<OwnedFd> {
    create_words(entries, 0)
}

/// Makes an array of words for an array of maps that may have different lengths.
pub(super) fn create_array_of_any_length(entries: u32) -> io::Result<OwnedFd> {
    create_words(entries, ANY_LENGTH)
}

fn create_words(entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let word = size_of::<u32>() as u32;
    let mut attributes = CreateAttributes {
        map_type: MAP_TYPE_ARRAY,
        key_size: word,
        value_size: word,
        max_entries: entries,
        flags,
    };
    let descriptor = bpf(MAP_CREATE, &mut attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
