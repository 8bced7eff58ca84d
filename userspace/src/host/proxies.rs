//! Proxy-neighbour entries of the kernel for claimed IPv6 addresses. The packet path answers before the
//! kernel could; what counts is that an entry makes the NIC listen to the solicited-node group of its
//! address (RFC 4291 section 2.7.1).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage,
};
use serde::{Deserialize, Serialize};

use super::Netlink;
use crate::control_plane::Claim;

/// One entry: number of the interface, address.
type Entry = (u32, Ipv6Addr);

/// Entries that are named one by one.
const NAMED: usize = 8;

/// The entries that this node made.
#[derive(Debug)]
pub struct ProxyEntries {
    netlink: Netlink,
    store: PathBuf,
    ours: BTreeSet<Entry>,
}

/// What is kept in the state folder.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    /// Entries do not survive a reboot, and what has their name afterwards is somebody else's.
    boot_id: String,
    entries: BTreeSet<Entry>,
}

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    add: Vec<Entry>,
    remove: Vec<Entry>,
    /// Entries of ours that are left alone.
    keep: BTreeSet<Entry>,
}

fn plan(wanted: &BTreeSet<Entry>, existing: &BTreeSet<Entry>, ours: &BTreeSet<Entry>) -> Plan {
    // One of ours that is gone went with its link; should it be back, somebody else made it.
    let left: BTreeSet<Entry> = ours.intersection(existing).copied().collect();
    Plan {
        add: wanted.difference(existing).copied().collect(),
        remove: left.difference(wanted).copied().collect(),
        keep: left.intersection(wanted).copied().collect(),
    }
}

impl ProxyEntries {
    /// Reads what a former daemon made.
    pub fn open(netlink: Netlink, state_dir: &Path) -> Self {
        let store = store(state_dir);
        let ours = read(&store);
        Self {
            netlink,
            store,
            ours,
        }
    }

    /// Makes entries for the claims and removes those of ours that are not claimed any more. Entries of
    /// others are never touched. What cannot be done is a warning: most NICs hear the solicitations anyway.
    pub async fn follow(&mut self, claims: &[Claim]) {
        let wanted = claims.iter().filter_map(|claim| match claim.address {
            IpAddr::V6(address) => Some((claim.ifindex, address)),
            IpAddr::V4(_) => None,
        });
        let wanted: BTreeSet<Entry> = wanted.collect();
        if wanted.is_empty() && self.ours.is_empty() {
            return;
        }
        if let Err(error) = self.reach(&wanted).await {
            log::warn!(
                "proxy-neighbour entries: {error:#}; NICs that filter multicast may not hear solicitations for IPv6 frontends"
            );
        }
    }

    async fn reach(&mut self, wanted: &BTreeSet<Entry>) -> Result<()> {
        let plan = plan(wanted, &self.netlink.proxies().await?, &self.ours);
        let mut ours = plan.keep;
        // Noted before it is done: better an entry too many in the note than one too few.
        let noted = ours.iter().chain(&plan.add).chain(&plan.remove);
        self.note(noted.copied().collect())?;
        let mut failed = None;
        for entry in plan.remove {
            if let Err(error) = self.netlink.remove_proxy(entry).await {
                failed = Some(error);
                ours.insert(entry);
            }
        }
        for entry in plan.add {
            match self.netlink.add_proxy(entry).await {
                Ok(()) => drop(ours.insert(entry)),
                Err(error) => failed = Some(error),
            }
        }
        self.note(ours)?;
        failed.map_or(Ok(()), Err)
    }

    fn note(&mut self, entries: BTreeSet<Entry>) -> Result<()> {
        if self.ours == entries {
            return Ok(());
        }
        self.ours.clone_from(&entries);
        let record = Record {
            boot_id: boot_id(),
            entries,
        };
        let text = serde_json::to_vec_pretty(&record).context("write proxy entries")?;
        super::write_file(&self.store, &text)
    }

    /// Removes the entries that a daemon with this state folder made; says which, or how many.
    pub async fn remove_all(netlink: &Netlink, state_dir: &Path) -> Vec<String> {
        let store = store(state_dir);
        let mut removed = Vec::new();
        for entry in read(&store) {
            match netlink.remove_proxy(entry).await {
                Ok(()) => removed.push(format!("proxy neighbour {}", entry.1)),
                Err(error) => log::debug!("{error:#}"),
            }
        }
        let _ = std::fs::remove_file(store);
        if removed.len() > NAMED {
            return vec![format!("{} proxy neighbours", removed.len())];
        }
        removed
    }
}

fn store(state_dir: &Path) -> PathBuf {
    state_dir.join("proxy_neighbors.json")
}

fn read(store: &Path) -> BTreeSet<Entry> {
    let record: Option<Record> =
        (std::fs::read(store).ok()).and_then(|text| serde_json::from_slice(&text).ok());
    let record = record.filter(|record| record.boot_id == boot_id());
    record.unwrap_or_default().entries
}

fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

impl Netlink {
    /// All proxy entries for IPv6, whoever made them.
    async fn proxies(&self) -> Result<BTreeSet<Entry>> {
        let request = self.handle.neighbours().get().proxies();
        let request = request.set_address_family(AddressFamily::Inet6);
        let messages: Vec<NeighbourMessage> =
            (request.execute().try_collect().await).context("list proxy neighbours")?;
        let entries = messages.iter().filter_map(|message| {
            let address = message
                .attributes
                .iter()
                .find_map(|attribute| match attribute {
                    NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => {
                        Some(*address)
                    }
                    _ => None,
                })?;
            Some((message.header.ifindex, address))
        });
        Ok(entries.collect())
    }

    async fn add_proxy(&self, (ifindex, address): Entry) -> Result<()> {
        let request = self.handle.neighbours().add(ifindex, address.into());
        let added = request.flags(NeighbourFlags::Proxy).execute().await;
        added.with_context(|| format!("add one for {address}"))
    }

    async fn remove_proxy(&self, (ifindex, address): Entry) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.ifindex = ifindex;
        message.header.flags = NeighbourFlags::Proxy;
        let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet6(address));
        message.attributes.push(destination);
        match self.handle.neighbours().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(error) => Err(anyhow!(error)).context(format!("remove the one for {address}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hosts: &[u16]) -> BTreeSet<Entry> {
        hosts
            .iter()
            .map(|host| (7, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, *host)))
            .collect()
    }

    fn entries(hosts: &[u16]) -> Vec<Entry> {
        set(hosts).into_iter().collect()
    }

    #[test]
    fn what_is_missing_is_added_and_what_is_not_wanted_goes() {
        let made = plan(&set(&[1, 2]), &set(&[2, 3]), &set(&[2, 3]));
        assert_eq!(made.add, entries(&[1]));
        assert_eq!(made.remove, entries(&[3]));
        assert_eq!(made.keep, set(&[2]));
    }

    #[test]
    fn entries_of_others_are_neither_removed_nor_taken_over() {
        let made = plan(&set(&[1]), &set(&[1, 2]), &set(&[]));
        assert_eq!((made.add, made.remove), (vec![], vec![]));
        assert_eq!(made.keep, set(&[]));
    }

    #[test]
    fn what_went_with_its_link_is_made_again() {
        let made = plan(&set(&[1]), &set(&[]), &set(&[1]));
        assert_eq!((made.add, made.remove), (entries(&[1]), vec![]));
    }

    #[test]
    fn a_note_from_before_the_last_boot_is_void() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut record = Record {
            boot_id: boot_id(),
            entries: set(&[1]),
        };
        std::fs::write(&store, serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(read(&store), set(&[1]));
        record.boot_id = "another".to_owned();
        std::fs::write(&store, serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(read(&store), set(&[]));
    }
}
