//! The interfaces of the node: attaching, and following what becomes of them.

use anyhow::Result;

use super::Daemon;
use crate::config::model::{Config, XdpMode};
use crate::control_plane::{Event, HostInterface, VlanDevice, XdpState, needs_kernel};
use crate::dataplane::Attached;
use crate::host::{NeighborTerms, Offloads, Sysctls, addresses};

impl Daemon {
    /// Tells the control plane what interfaces there are now, and attaches those that are there without
    /// the program: new, made anew, or back from elsewhere.
    pub(super) async fn follow_interfaces(&mut self) -> Result<()> {
        let Some(config) = self.control_plane.config().cloned() else {
            return Ok(());
        };
        let found = self.netlink.interfaces(&config.node.interfaces).await?;
        self.warn_of_taken_addresses(&config);
        let known = self.control_plane.host().to_vec();
        for gone in known.iter().filter(|old| old.is_attached()) {
            if !found.iter().any(|new| new.name == gone.name) {
                let name = &gone.name;
                log::warn!("{name} is gone; it is attached again when it comes back");
            }
        }
        self.handle(Event::Host(found.clone()))?;
        self.tell_vlans(&known, &found);
        self.tell_reach(&found);
        self.keep_neighbors();
        // How an interface is attached shows after it was.
        let is_same = |new: &HostInterface| {
            let mut old = known.iter().filter(|old| old.ifindex == new.ifindex);
            is_known(&known, new) && old.any(|old| old.xdp == new.xdp && old.feeders == new.feeders)
        };
        if !found.iter().all(is_same) {
            // Without it forwarding may be worse; without the program packets would leave untranslated.
            if let Err(error) = self.prepare_host(&config, &found) {
                log::error!("prepare the host for its interfaces: {error:#}");
            }
        }
        for interface in found.iter().filter(|new| new.is_attached()) {
            if is_known(&known, interface) && interface.xdp != XdpState::None {
                continue;
            }
            let HostInterface { name, ifindex, .. } = interface;
            log::info!("{name} is back (interface {ifindex})");
            // One that cannot be attached is no reason to leave the others alone.
            if let Err(error) = self.attach(name, *ifindex) {
                log::error!("{name}: {error:#}");
            }
        }
        Ok(())
    }

    /// Says once when an address of a frontend has been put on the host: it refuses a file with that.
    fn warn_of_taken_addresses(&mut self, config: &Config) {
        let taken = addresses().taken(config);
        for (address, interface) in taken.difference(&self.taken) {
            log::warn!(
                "{address} is a frontend's and on {interface} now: what the host itself uses it for is cut off, and the next start or reload is refused; take it off {interface}, or set shared = true"
            );
        }
        self.taken = taken;
    }

    /// Sets on the host what forwarding over these interfaces needs, if that is wanted.
    pub(super) fn prepare_host(&self, config: &Config, host: &[HostInterface]) -> Result<()> {
        if !config.node.manage_host {
            return Ok(());
        }
        // First, because forwarding makes the kernel switch LRO off, unseen.
        Offloads::open(&config.node.state_dir).prepare(host)?;
        let names: Vec<String> = host.iter().map(|one| one.name.clone()).collect();
        let mut sysctls = Sysctls::open(&config.node.state_dir);
        if config.frontends.iter().any(|frontend| frontend.shared) {
            sysctls.accept_own_sources(&names)?;
        }
        sysctls.prepare(&names)
    }

    /// Says which neighbours are to be kept resolved.
    pub(super) fn keep_neighbors(&self) {
        let Some(config) = self.control_plane.config() else {
            return;
        };
        let ip_configs = config.instances.iter().flat_map(|one| &one.ip_configs);
        let interfaces = self.control_plane.host().iter();
        self.neighbors.follow(NeighborTerms {
            instances: ip_configs.flat_map(|one| one.addresses()).collect(),
            interfaces: interfaces
                .map(|one| (one.ifindex, one.name.clone()))
                .collect(),
            asks_again: config.node.manage_host,
        });
    }

    /// Puts the program on an interface.
    pub(super) fn attach(&mut self, name: &str, ifindex: u32) -> Result<()> {
        let mode = self
            .control_plane
            .config()
            .map_or(XdpMode::Auto, |config| config.node.xdp_mode);
        match self.dataplane.attach(name, ifindex, mode)? {
            Attached::Replaced => {
                log::info!("{name}: took over from the former daemon without a gap");
            }
            Attached::New => log::info!("{name}: attached"),
            Attached::Fallback(reason) => log::warn!(
                "{name}: attached in generic mode, which is several times slower, because native mode failed: {reason}"
            ),
        }
        Ok(())
    }

    /// Warns, once, of interfaces that redirected frames do not reach.
    fn tell_reach(&mut self, host: &[HostInterface]) {
        let attached = host.iter().filter(|one| one.is_attached());
        let (by_kernel, by_redirect): (Vec<_>, Vec<_>) =
            attached.partition(|one| one.xdp != XdpState::None && needs_kernel(one, host));
        for HostInterface { name, .. } in by_redirect {
            if self.reached_by_kernel.remove(name) {
                log::info!("{name}: takes redirected frames now");
            }
        }
        for HostInterface { name, .. } in by_kernel {
            if self.reached_by_kernel.insert(name.clone()) {
                log::warn!(
                    "{name}: takes no frames that are redirected from a NIC in native mode; the kernel forwards packets towards it, several times slower"
                );
            }
        }
    }

    /// Logs the VLAN devices that came and went.
    pub(super) fn tell_vlans(&self, before: &[HostInterface], now: &[HostInterface]) {
        for gone in before.iter().filter(|old| !old.is_attached()) {
            if !now.iter().any(|new| new.name == gone.name) {
                log::info!("{}: VLAN device is gone, or down", gone.name);
            }
        }
        for new in now.iter().filter(|new| !is_known(before, new)) {
            let Some(vlan) = new.vlan else { continue };
            let name = &new.name;
            if self.control_plane.ids().slots.get(name).is_some() {
                log::info!("{name}: {}", describe(vlan, now));
            } else {
                log::warn!(
                    "{name}: there is no room for another interface; the kernel forwards its traffic, several times slower"
                );
            }
        }
    }
}

fn is_known(known: &[HostInterface], interface: &HostInterface) -> bool {
    known.iter().any(|old| {
        old.name == interface.name && old.ifindex == interface.ifindex && old.vlan == interface.vlan
    })
}

fn describe(vlan: VlanDevice, host: &[HostInterface]) -> String {
    let key = vlan.key();
    let nic = host.iter().find(|one| one.ifindex == key.nic);
    let nic = nic.map_or("?", |nic| nic.name.as_str());
    match key.inner {
        0 => format!("VLAN {} of {nic}", key.outer),
        inner => format!("VLAN {inner} within VLAN {} of {nic}", key.outer),
    }
}
