//! A frame in host memory.

use std::cell::Cell;

use super::{Frame, Header};

/// Bytes in front of a frame, as the kernel gives (`XDP_PACKET_HEADROOM`).
const HEADROOM: usize = 256;

/// A frame in host memory.
pub struct HostFrame {
    // Headroom, then the frame.
    bytes: Vec<Cell<u8>>,
    start: usize,
    ingress_ifindex: u32,
}

impl HostFrame {
    /// A copy of `bytes`, which changes as the packet path rewrites it.
    pub fn new(bytes: &[u8], ingress_ifindex: u32) -> Self {
        let room = std::iter::repeat_n(0, HEADROOM);
        Self {
            bytes: room.chain(bytes.iter().copied()).map(Cell::new).collect(),
            start: HEADROOM,
            ingress_ifindex,
        }
    }

    /// The frame as it is now.
    pub fn to_vec(&self) -> Vec<u8> {
        self.frame().iter().map(Cell::get).collect()
    }

    fn frame(&self) -> &[Cell<u8>] {
        &self.bytes[self.start..]
    }
}

impl Frame for HostFrame {
    fn at<H: Header>(&self, offset: usize) -> Option<&H> {
        let window = self
            .frame()
            .get(offset..offset.checked_add(size_of::<H>())?)?;
        // SAFETY: `Header` promises alignment 1 and that every bit pattern is valid; the window has its
        // size, and both sides have interior mutability.
        Some(unsafe { &*window.as_ptr().cast::<H>() })
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }

    fn extend_front(&mut self, by: i32) -> bool {
        let start = self.start as i64 - i64::from(by);
        let fits = start >= 0 && start <= self.bytes.len() as i64;
        if fits {
            self.start = start as usize;
        }
        fits
    }

    fn extend_back(&mut self, by: i32) -> bool {
        let end = self.bytes.len() as i64 + i64::from(by);
        let fits = end >= self.start as i64;
        if fits {
            self.bytes.resize(end as usize, Cell::new(0));
        }
        fits
    }

    fn length(&self) -> u32 {
        self.frame().len() as u32
    }
}
