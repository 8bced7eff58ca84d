//! Where maps and links outlive the daemon, and who may touch them.
//!
//! ```text
//! <bpf_fs>/v<layout>/maps/<NAME>      one for each table
//! <bpf_fs>/v<layout>/maps/NEXT_<NAME> a flow table that takes the place of another, until all flows are there
//! <bpf_fs>/v<layout>/links/<NIC>      one for each attached interface
//! ```

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use forebay_common::abi::{LAYOUT_VERSION, names};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::layouts;

/// Flow tables, IPv4 and IPv6.
pub(super) const FLOW_TABLES: [&str; 2] = [names::FLOWS4, names::FLOWS6];

/// Names of folders in that of a layout.
pub(super) const MAPS: &str = "maps";
pub(super) const LINKS: &str = "links";

/// Name of the pin of a table that takes the place of a flow table.
pub(super) fn next_name(table: &str) -> String {
    format!("NEXT_{table}")
}

/// Where the flows of a family are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FlowPins {
    /// Pin of the flow table.
    pub(super) table: PathBuf,
    /// Pin of the table that flows still move from.
    pub(super) former: Option<PathBuf>,
}

/// The folder of the pins, locked for this process.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// Folders of older layouts, whose program may still be on links.
    older: Vec<PathBuf>,
    _lock: Flock<File>,
}

impl Pins {
    /// Takes the folder, making it if need be, and takes over flows and links of older layouts.
    ///
    /// # Errors
    /// It is not on a BPF file system, another daemon holds it, or it has flows of a layout that this version
    /// cannot use.
    pub fn lock(root: &Path) -> Result<Self> {
        require_bpf_fs(root)?;
        make_folder(root)?;
        let mut pins = Self {
            root: root.to_owned(),
            older: Vec::new(),
            _lock: take_lock(root)?,
        };
        pins.older = layouts::older(root, &pins.layout())?;
        for folder in [pins.maps(), pins.links()] {
            make_folder(&folder)?;
        }
        layouts::take_over(&pins.older, &pins.layout())?;
        Ok(pins)
    }

    fn layout(&self) -> PathBuf {
        self.root.join(format!("v{LAYOUT_VERSION}"))
    }

    /// Folder of the map pins.
    pub fn maps(&self) -> PathBuf {
        self.layout().join(MAPS)
    }

    fn next(&self, table: &str) -> PathBuf {
        self.maps().join(next_name(table))
    }

    /// Whether flows of any family move from one table to another.
    pub(super) fn is_moving(&self) -> bool {
        FLOW_TABLES.iter().any(|table| self.next(table).exists())
    }

    /// Where flows are now.
    pub(super) fn flows(&self) -> [FlowPins; 2] {
        FLOW_TABLES.map(|table| {
            let (current, next) = (self.maps().join(table), self.next(table));
            if next.exists() {
                FlowPins {
                    table: next,
                    former: Some(current),
                }
            } else {
                FlowPins {
                    table: current,
                    former: None,
                }
            }
        })
    }

    /// Where they are when they move into new tables, which are yet to be made.
    pub(super) fn flows_to_move(&self) -> [FlowPins; 2] {
        FLOW_TABLES.map(|table| FlowPins {
            table: self.next(table),
            former: Some(self.maps().join(table)),
        })
    }

    /// Where they are when nothing is left in the former tables.
    pub(super) fn flows_moved(&self) -> [FlowPins; 2] {
        self.flows().map(|pins| FlowPins {
            former: None,
            ..pins
        })
    }

    /// Forgets tables that nothing was moved into.
    pub(super) fn abandon_move(&self) {
        for table in FLOW_TABLES {
            let _ = fs::remove_file(self.next(table));
        }
    }

    /// Puts the new tables in the place of the former ones, which are empty.
    pub(super) fn finish_move(&self) -> Result<()> {
        for table in FLOW_TABLES {
            let next = self.next(table);
            if next.exists() {
                fs::rename(&next, self.maps().join(table))
                    .with_context(|| format!("rename {}", next.display()))?;
            }
        }
        Ok(())
    }

    /// Folder of the link pins.
    pub fn links(&self) -> PathBuf {
        self.layout().join(LINKS)
    }

    /// The link pin of an interface.
    pub fn link(&self, interface: &str) -> PathBuf {
        self.links().join(pin_name(interface))
    }

    /// Interfaces with a link pin.
    pub fn linked(&self) -> Vec<String> {
        let entries = fs::read_dir(self.links()).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| interface_name(&entry.file_name().into_string().ok()?))
            .collect()
    }

    /// Whether a former daemon has left its tables.
    pub fn has_maps(&self) -> bool {
        fs::read_dir(self.maps()).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes what is left of older layouts, whose program is on no link any more.
    pub(super) fn forget_older(&mut self) -> Result<()> {
        for folder in std::mem::take(&mut self.older) {
            layouts::remove(&folder)?;
        }
        Ok(())
    }
}

/// What a pin may not hold (a dot, which names of VLAN devices often have) is written as `%` and two
/// hexadecimal digits, and so is `%`: no two interfaces share a pin.
fn pin_name(interface: &str) -> String {
    let escaped = |c: char| match c {
        '.' => "%2e".to_owned(),
        '%' => "%25".to_owned(),
        other => other.to_string(),
    };
    interface.chars().map(escaped).collect()
}

/// The interface that a pin is named after; `None`: no name that [`pin_name`] makes.
fn interface_name(pin: &str) -> Option<String> {
    let name = pin.replace("%2e", ".").replace("%25", "%");
    (pin_name(&name) == pin).then_some(name)
}

/// Removes every pin under `root`, whatever its layout; says what was removed.
///
/// # Errors
/// A daemon is running on them, or the file system refuses.
pub(super) fn remove_all(root: &Path) -> Result<Vec<String>> {
    if !root.exists() {
        return Ok(Vec::new());
    }
    let _lock = take_lock(root)?;
    let mut removed = Vec::new();
    // Links first: traffic stops before the tables it needs go.
    for layout in fs::read_dir(root)
        .with_context(|| format!("read {}", root.display()))?
        .flatten()
    {
        for folder in [LINKS, MAPS] {
            let folder = layout.path().join(folder);
            let Ok(entries) = fs::read_dir(&folder) else {
                continue;
            };
            for entry in entries.flatten() {
                fs::remove_file(entry.path())
                    .with_context(|| format!("remove {}", entry.path().display()))?;
                removed.push(entry.path().display().to_string());
            }
        }
        fs::remove_dir_all(layout.path())
            .with_context(|| format!("remove {}", layout.path().display()))?;
    }
    fs::remove_dir(root).with_context(|| format!("remove {}", root.display()))?;
    Ok(removed)
}

/// Makes a folder that nobody else may enter, or makes sure that one which exists is ours.
fn make_folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.with_context(|| format!("create {}", path.display()))?;
    let owner = fs::metadata(path)
        .with_context(|| format!("examine {}", path.display()))?
        .uid();
    if owner != nix::unistd::geteuid().as_raw() {
        bail!(
            "{} belongs to user {owner}: remove it, or point [node].bpf_fs elsewhere",
            path.display()
        );
    }
    Ok(())
}

fn take_lock(root: &Path) -> Result<Flock<File>> {
    let folder = File::open(root).with_context(|| format!("open {}", root.display()))?;
    Flock::lock(folder, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::Error::EWOULDBLOCK => anyhow::anyhow!(
            "another forebay daemon runs on the pins in {}; stop it first, or give this node its own [node].bpf_fs",
            root.display()
        ),
        other => anyhow::anyhow!("lock {}: {other}", root.display()),
    })
}

fn require_bpf_fs(root: &Path) -> Result<()> {
    let existing = root
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let folder = File::open(existing).with_context(|| format!("open {}", existing.display()))?;
    let kind = nix::sys::statfs::fstatfs(folder.as_fd()).or_else(|_| statfs(existing));
    let kind = kind
        .with_context(|| format!("examine {}", existing.display()))?
        .filesystem_type();
    if kind == BPF_FS_MAGIC {
        return Ok(());
    }
    bail!(
        "{} is not on a BPF file system (the nearest folder that exists is {}); mount one: `mount -t bpf bpf /sys/fs/bpf`, or point [node].bpf_fs at one",
        root.display(),
        existing.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_with_similar_names_have_pins_of_their_own() {
        let names = ["eth0", "eth0.5", "eth0_5", "eth0%2e5", "a.b.c", "100%"];
        let pins = names.map(pin_name);
        for (name, pin) in names.iter().zip(&pins) {
            assert!(!pin.contains('.'), "{pin}");
            assert_eq!(interface_name(pin).as_deref(), Some(*name));
            assert_eq!(pins.iter().filter(|other| *other == pin).count(), 1);
        }
    }

    #[test]
    fn a_folder_on_another_file_system_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let error = Pins::lock(&folder.path().join("forebay")).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("mount -t bpf"), "{text}");
        assert!(
            !folder.path().join("forebay").exists(),
            "nothing is made there"
        );
    }
}
