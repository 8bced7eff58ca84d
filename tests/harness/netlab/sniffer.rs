//! Who says on a link which MAC address an address has: ARP and neighbour advertisements as heard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::namespace::Namespace;

/// One claim, as a neighbour hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The address that is claimed.
    pub address: IpAddr,
    /// With which MAC address.
    pub mac: [u8; 6],
    /// To everybody, unasked; else it is an answer.
    pub is_announcement: bool,
    /// When it was heard.
    pub at: Instant,
}

/// Listens on all interfaces of a namespace until dropped.
#[derive(Debug)]
pub struct Sniffer {
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sniffer {
    /// Begins to listen.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        let descriptor = namespace.enter(|| {
            socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::EthAll,
            )
        });
        let descriptor = descriptor.context("open a packet socket")?;
        setsockopt(
            &descriptor,
            sockopt::ReceiveTimeout,
            &TimeVal::milliseconds(50),
        )?;
        let (heard, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (heard_too, stop_too) = (Arc::clone(&heard), Arc::clone(&stop));
        let thread = std::thread::spawn(move || listen(&descriptor, &heard_too, &stop_too));
        Ok(Self {
            heard,
            stop,
            thread: Some(thread),
        })
    }

    /// Everything heard about an address so far, in order.
    pub fn about(&self, address: IpAddr) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard
            .iter()
            .filter(|one| one.address == address)
            .copied()
            .collect()
    }

    /// The announcements among them.
    pub fn announcements(&self, address: IpAddr) -> Vec<Heard> {
        let mut heard = self.about(address);
        heard.retain(|one| one.is_announcement);
        heard
    }

    /// Forgets what was heard.
    pub fn clear(&self) {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(descriptor: &OwnedFd, heard: &Mutex<Vec<Heard>>, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // Errors are time-outs, or a link that went down: there is more to come.
        let Ok(length) = recv(descriptor.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
            continue;
        };
        if let Some(one) = understand(&buffer[..length]) {
            heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(one);
        }
    }
}

fn understand(frame: &[u8]) -> Option<Heard> {
    let one = |address, mac: &[u8], is_announcement| {
        Some(Heard {
            address,
            mac: mac.try_into().ok()?,
            is_announcement,
            at: Instant::now(),
        })
    };
    match frame.get(12..14)? {
        [0x08, 0x06] => {
            let sender = Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(28..32)?).ok()?);
            let is_announcement = frame.get(38..42)? == sender.octets();
            let is_reply = frame.get(20..22)? == [0, 2];
            (is_announcement || is_reply).then_some(())?;
            one(sender.into(), frame.get(22..28)?, is_announcement)
        }
        // A neighbour advertisement with the MAC address of its target.
        [0x86, 0xdd] if *frame.get(20)? == 58 && *frame.get(54)? == 136 => {
            (frame.get(78..80)? == [2, 1]).then_some(())?;
            let target = Ipv6Addr::from(<[u8; 16]>::try_from(frame.get(62..78)?).ok()?);
            let is_solicited = frame.get(58)? & 0x40 != 0;
            one(target.into(), frame.get(80..86)?, !is_solicited)
        }
        _ => None,
    }
}
