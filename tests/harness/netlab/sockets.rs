//! What becomes of TCP connections at their ends.

use std::time::Duration;

use anyhow::Result;

use super::namespace::Namespace;
use super::wire::Wire;

/// States of the TCP sockets of a host that talk to or from a port, as `ss` calls them.
pub fn tcp_states(namespace: &Namespace, port: u16) -> Result<Vec<String>> {
    let about = format!("( sport = :{port} or dport = :{port} )");
    let text = namespace.run("ss", &["-Htan", &about])?;
    let state = |line: &str| line.split_whitespace().next().map(str::to_owned);
    Ok(text.lines().filter_map(state).collect())
}

/// Counts the RSTs that come in by a device.
#[derive(Debug)]
pub struct Resets(Wire);

impl Resets {
    /// Begins to count.
    pub fn watch(namespace: &Namespace, device: &str) -> Result<Self> {
        Wire::open(namespace, device).map(Self)
    }

    /// How many came for or from a port so far.
    pub fn count(&self, port: u16) -> usize {
        let mut count = 0;
        while self
            .0
            .receive(Duration::from_millis(120), |frame| is_reset(frame, port))
            .is_some()
        {
            count += 1;
        }
        count
    }
}

/// Whether a frame without VLAN tags and without options before its TCP header is a RST for or from a port.
fn is_reset(frame: &[u8], port: u16) -> bool {
    let tcp = match frame.get(12..14) {
        Some([0x08, 0x00]) if frame.get(23) == Some(&6) => frame.get(34..),
        Some([0x86, 0xdd]) if frame.get(20) == Some(&6) => frame.get(54..),
        _ => None,
    };
    let Some(&[a, b, c, d, _, _, _, _, _, _, _, _, _, flags, ..]) = tcp else {
        return false;
    };
    let ports = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    flags & 0x04 != 0 && ports.contains(&port)
}
