//! A two-instruction XDP program that lets everything through.
//!
//! A veth hands on frames that its peer sent with `XDP_TX` only when it has an XDP program of its
//! own; real NICs do not need this.

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use super::namespace::Namespace;

const BPF_PROG_LOAD: c_long = 5;
const BPF_LINK_CREATE: c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// Frames may be longer than a page.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_PASS: u8 = 2;

/// `r0 = XDP_PASS; exit`
const INSTRUCTIONS: [[u8; 8]; 2] = [
    [0xb7, 0, 0, 0, XDP_PASS, 0, 0, 0],
    [0x95, 0, 0, 0, 0, 0, 0, 0],
];

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel takes what is missing as zero.
#[repr(C)]
#[derive(Default)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log: [u64; 2],
    kernel_version: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// The program on one device; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct PassProgram {
    _link: OwnedFd,
}

impl PassProgram {
    /// Attaches the program to a device in native mode.
    pub(crate) fn attach(namespace: &Namespace, device: &str) -> Result<Self> {
        let link = namespace
            .enter(|| load().and_then(|program| link(&program, device)))
            .with_context(|| {
                format!("attach a pass program to {device} in {}", namespace.name())
            })?;
        Ok(Self { _link: link })
    }
}

fn load() -> io::Result<OwnedFd> {
    let attributes = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: 2,
        instructions: INSTRUCTIONS.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        flags: BPF_F_XDP_HAS_FRAGS,
        ..ProgramLoad::default()
    };
    bpf(BPF_PROG_LOAD, &attributes)
}

fn link(program: &OwnedFd, device: &str) -> io::Result<OwnedFd> {
    let attributes = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        interface: nix::net::if_::if_nametoindex(device)?,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    bpf(BPF_LINK_CREATE, &attributes)
}

fn bpf<T>(command: c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: both attribute structs are the head of `union bpf_attr`, passed with their own
    // size, and what they point to outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attributes, std::mem::size_of::<T>()) };
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
