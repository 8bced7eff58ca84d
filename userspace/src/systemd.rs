//! What systemd is told, if it started us: sd_notify(3), with the watchdog.
//!
//! Messages are sent by whoever calls, so that a loop that hangs is silent; sending itself never waits.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, as far as the environment names one.
#[derive(Debug, Default)]
pub struct Systemd {
    manager: Option<SocketAddr>,
    watchdog: Option<Duration>,
    status: String,
}

impl Systemd {
    /// The one that `NOTIFY_SOCKET` names, and the watchdog if it is meant for this process.
    pub fn from_environment() -> Self {
        let socket = std::env::var_os("NOTIFY_SOCKET");
        Self {
            manager: socket.as_deref().and_then(address),
            watchdog: sd_notify::watchdog_enabled().filter(|time| !time.is_zero()),
            status: String::new(),
        }
    }

    /// How often the watchdog wants to hear that all is well: twice in the time that it waits.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.manager
            .as_ref()
            .and(self.watchdog)
            .map(|time| time / 2)
    }

    /// The start, or a reload, is over; `status` is one line for people.
    pub fn ready(&mut self, status: &str) {
        status.clone_into(&mut self.status);
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload begins. [`Self::ready`] ends it, however it went.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            // Without the time it would be a mistake for systemd 253 and later.
            Err(error) => log::warn!("tell systemd of a reload: read the clock: {error}"),
        }
    }

    /// The daemon ends from here on.
    pub fn stopping(&self) {
        let status = NotifyState::Status("stopping");
        self.tell(&[NotifyState::Stopping, status]);
    }

    /// Says how things are, when that is news.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            status.clone_into(&mut self.status);
            self.tell(&[NotifyState::Status(status)]);
        }
    }

    /// The main loop turns.
    pub fn alive(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let Some(manager) = &self.manager else { return };
        let lines = states.iter().map(|state| format!("{state}\n"));
        if let Err(error) = send(manager, &lines.collect::<String>()) {
            log::warn!("tell systemd {states:?}: {error}");
        }
    }
}

/// A path, or a name in the abstract space after an `@`.
fn address(socket: &OsStr) -> Option<SocketAddr> {
    match socket.as_bytes() {
        [] => None,
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        _ => SocketAddr::from_pathname(socket).ok(),
    }
}

fn send(manager: &SocketAddr, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(message.as_bytes(), manager).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> (Systemd, UnixDatagram, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(1)))
            .unwrap();
        let systemd = Systemd {
            manager: address(path.as_os_str()),
            watchdog: Some(Duration::from_secs(3)),
            status: String::new(),
        };
        (systemd, socket, folder)
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn each_message_is_one_datagram() {
        let (mut systemd, socket, _folder) = manager();
        systemd.ready("3 rules");
        assert_eq!(heard(&socket), "READY=1\nSTATUS=3 rules\n");
        systemd.reloading();
        let reloading = heard(&socket);
        let time = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap();
        assert!(time.trim_end().parse::<u64>().unwrap() > 0);
        systemd.status("3 rules");
        systemd.status("4 rules");
        assert_eq!(heard(&socket), "STATUS=4 rules\n", "only news are told");
        systemd.alive();
        assert_eq!(heard(&socket), "WATCHDOG=1\n");
        systemd.stopping();
        assert_eq!(heard(&socket), "STOPPING=1\nSTATUS=stopping\n");
        assert_eq!(
            systemd.watchdog_interval(),
            Some(Duration::from_millis(1500))
        );
    }

    #[test]
    fn a_manager_that_does_not_listen_holds_nobody_up() {
        let (systemd, socket, _folder) = manager();
        for _ in 0..2000 {
            systemd.alive();
        }
        assert_eq!(heard(&socket), "WATCHDOG=1\n");
    }

    #[test]
    fn without_a_manager_there_is_no_watchdog() {
        let systemd = Systemd {
            watchdog: Some(Duration::from_secs(1)),
            ..Systemd::default()
        };
        assert_eq!(systemd.watchdog_interval(), None);
        assert!(address(OsStr::new("")).is_none());
        let abstract_one = address(OsStr::new("@forebay")).unwrap();
        assert_eq!(abstract_one.as_abstract_name(), Some(&b"forebay"[..]));
    }
}
