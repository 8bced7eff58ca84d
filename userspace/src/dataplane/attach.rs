//! Putting the program on interfaces, by links that outlive the daemon.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode as Kernel};

use super::sys;
use crate::config::model::XdpMode;

/// How the program came to an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// It took the place of a former daemon's program without a gap.
    Replaced,
    /// It was put there.
    New,
    /// It was put there in generic mode, because native mode was refused for this reason.
    Fallback(String),
}

/// Attaches the program to an interface, or lets it take over the pinned link of a former daemon.
pub(super) fn attach(
    program: &mut Xdp,
    interface: &str,
    ifindex: u32,
    mode: XdpMode,
    pin: &Path,
) -> Result<Attached> {
    reclaim(ifindex, pin)?;
    if pin.exists() {
        match adopt(program, ifindex, pin) {
            Ok(()) => return Ok(Attached::Replaced),
            Err(error) => {
                // The interface was removed and made again: its link is dead.
                log::info!(
                    "the former link of {interface} is of no use any more ({error:#}); attaching anew"
                );
                std::fs::remove_file(pin).with_context(|| format!("remove {}", pin.display()))?;
            }
        }
    }
    let (link, attached) = match mode {
        XdpMode::Native => (
            link(program, interface, ifindex, Kernel::Driver)?,
            Attached::New,
        ),
        XdpMode::Generic => (
            link(program, interface, ifindex, Kernel::Skb)?,
            Attached::New,
        ),
        XdpMode::Auto => match link(program, interface, ifindex, Kernel::Driver) {
            Ok(link) => (link, Attached::New),
            Err(error) if is_busy(&error) => return Err(error),
            Err(error) => (
                link(program, interface, ifindex, Kernel::Skb)?,
                Attached::Fallback(format!("{error:#}")),
            ),
        },
    };
    link.pin(pin)
        .with_context(|| format!("pin the link of {interface} at {}", pin.display()))?;
    Ok(attached)
}

/// Gives a link that is pinned under another name its interface's: interfaces may have changed names.
fn reclaim(ifindex: u32, pin: &Path) -> Result<()> {
    let folder = pin.parent().unwrap_or(pin);
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let found = entry.path();
        if found != pin && sys::xdp_link_ifindex(&found).is_ok_and(|linked| linked == ifindex) {
            log::info!("the link at {} is this interface's now", found.display());
            return std::fs::rename(&found, pin)
                .with_context(|| format!("rename {}", found.display()));
        }
    }
    Ok(())
}

/// Puts the program in the place of that of a pinned link, wherever it is.
pub(super) fn replace(program: &mut Xdp, pin: &Path) -> Result<()> {
    let ifindex =
        sys::xdp_link_ifindex(pin).with_context(|| format!("open the link {}", pin.display()))?;
    adopt(program, ifindex, pin)
}

fn adopt(program: &mut Xdp, ifindex: u32, pin: &Path) -> Result<()> {
    match sys::xdp_link_ifindex(pin).with_context(|| format!("open the link {}", pin.display()))? {
        linked if linked == ifindex => {}
        0 => bail!("its interface is gone"),
        // Two interfaces have changed names: each needs a link of its own.
        other => bail!("it belongs to interface {other} now"),
    }
    let link =
        PinnedLink::from_pin(pin).with_context(|| format!("open the link {}", pin.display()))?;
    let id = program.attach_to_link(XdpLink::try_from(FdLink::from(link))?)?;
    // The pin holds the link; what this process holds of it may go.
    drop(program.take_link(id)?);
    Ok(())
}

fn is_busy(error: &anyhow::Error) -> bool {
    error.to_string().contains("another XDP program")
}

fn link(program: &mut Xdp, interface: &str, ifindex: u32, mode: Kernel) -> Result<FdLink> {
    let id = program
        .attach_to_if_index(ifindex, mode)
        .map_err(|error| explain(error, interface, mode))?;
    match FdLink::try_from(program.take_link(id)?) {
        Ok(link) => Ok(link),
        Err(_) => bail!(
            "{interface}: this kernel attaches XDP without links, which would end with the daemon"
        ),
    }
}

fn explain(error: ProgramError, interface: &str, mode: Kernel) -> anyhow::Error {
    let code = match &error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::EBUSY) => anyhow!(
            "{interface} has another XDP program already: stop the program that owns it (`bpftool net show dev {interface}` and `bpftool link show` name it; `bpftool link detach` removes a link that nobody owns)"
        ),
        Some(libc::EOPNOTSUPP) if matches!(mode, Kernel::Driver) => anyhow!(
            "the driver of {interface} has no native XDP: set [node].xdp_mode to \"generic\" or \"auto\""
        ),
        Some(libc::EPERM) => anyhow!(
            "no privilege to attach to {interface}: run as root, or with CAP_NET_ADMIN and CAP_BPF"
        ),
        _ => anyhow::Error::from(error).context(format!("attach to {interface}")),
    }
}
