//! A network namespace with a name that `ip netns` knows.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};

use super::process::{feed, run};

/// A namespace that is deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    handle: NamespaceHandle,
}

/// A way into a namespace; keeps it alive, but not its name.
#[derive(Debug, Clone)]
pub struct NamespaceHandle(Arc<File>);

/// `ip netns add` prepares `/run/netns` on its first use, which two at once would race for.
static CREATION: Mutex<()> = Mutex::new(());

/// What every namespace starts with: addresses usable at once, nothing learnt from routers, and
/// no forwarding, because the daemon has to switch that on where it needs it.
const SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/router_solicitations", "0"),
    ("net/ipv6/conf/all/accept_redirects", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
];

impl Namespace {
    /// Makes a namespace with loopback up.
    pub fn create(name: &str) -> Result<Self> {
        let path = PathBuf::from("/run/netns").join(name);
        {
            let _only_one = CREATION.lock().unwrap_or_else(PoisonError::into_inner);
            run(Command::new("ip").args(["netns", "add", name]))?;
        }
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let handle = NamespaceHandle(Arc::new(file));
        let namespace = Self {
            name: name.to_owned(),
            handle,
        };
        for (key, value) in SYSCTLS {
            namespace.sysctl(key, value)?;
        }
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name that `ip netns` shows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A way in that may outlive the name.
    pub fn handle(&self) -> &NamespaceHandle {
        &self.handle
    }

    /// A command that will run inside; see [`NamespaceHandle::command`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.handle.command(program)
    }

    /// Runs a program inside to its end and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        run(self.command(program).args(arguments)).with_context(|| format!("in {}", self.name))
    }

    /// Runs `ip` commands inside, one a line, without the word `ip`.
    pub fn ip(&self, lines: &str) -> Result<()> {
        feed(
            Command::new("ip").args(["-netns", &self.name, "-batch", "-"]),
            lines,
        )?;
        Ok(())
    }

    /// Sets a sysctl, given as a path below `/proc/sys`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.handle
            .enter(|| std::fs::write(PathBuf::from("/proc/sys").join(key), value))
            .with_context(|| format!("set {key} to {value} in {}", self.name))
    }

    /// The value of a sysctl, given as a path below `/proc/sys`.
    pub fn read_sysctl(&self, key: &str) -> Result<String> {
        let value = self
            .handle
            .enter(|| std::fs::read_to_string(PathBuf::from("/proc/sys").join(key)))
            .with_context(|| format!("read {key} in {}", self.name))?;
        Ok(value.trim().to_owned())
    }

    /// Runs a closure inside; see [`NamespaceHandle::enter`].
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.handle.enter(work)
    }

    /// What `ip -json link show dev DEVICE` says, as one object.
    pub fn link(&self, device: &str) -> Result<serde_json::Value> {
        let text = self.run("ip", &["-json", "-details", "link", "show", "dev", device])?;
        let mut links: serde_json::Value = serde_json::from_str(&text)?;
        Ok(links[0].take())
    }
}

impl NamespaceHandle {
    /// A command that will run inside. Only the network changes: unlike under `ip netns exec`,
    /// `/sys` and the bpffs mounts stay visible.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let file = Arc::clone(&self.0);
        let mut command = Command::new(program);
        // SAFETY: setns is async-signal-safe and the closure owns the descriptor it uses.
        unsafe {
            command.pre_exec(move || {
                setns(&*file, CloneFlags::CLONE_NEWNET).map_err(std::io::Error::from)
            });
        }
        command
    }

    /// Runs a closure on a thread inside; sockets it opens stay in the namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&*self.0, CloneFlags::CLONE_NEWNET).expect("namespace file is open");
                work()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = run(Command::new("ip").args(["netns", "delete", &self.name])) {
            eprintln!("netlab: {error:#}");
        }
    }
}
