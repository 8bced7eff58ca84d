//! Where a lab keeps its files, and how leftovers of killed labs are found again.
//!
//! Everything a lab makes outside its own process carries `<pid>-<n>` in its name: namespaces
//! `fb-<pid>-<n>-<role>` and the folder `/run/forebay-lab/<pid>-<n>`. What belongs to a process
//! that is gone can therefore be removed without asking.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::process::run;

const ROOT: &str = "/run/forebay-lab";
const NAMESPACES: &str = "/run/netns";

/// A folder of one lab; removed when dropped, together with the bpffs mounts inside.
#[derive(Debug)]
pub struct Workdir {
    tag: String,
    path: PathBuf,
}

impl Workdir {
    /// Makes a new folder with a tag that no other living lab has.
    pub fn create() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let tag = format!("{}-{number}", std::process::id());
        let path = Path::new(ROOT).join(&tag);
        // Once more, because a lab that ends removes the empty parent.
        fs::create_dir_all(&path)
            .or_else(|_| fs::create_dir_all(&path))
            .with_context(|| format!("create {}", path.display()))?;
        Ok(Self { tag, path })
    }

    /// `<pid>-<n>`
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Mounts a private bpffs in a new folder of this name and returns its path.
    pub fn mount_bpffs(&self, name: &str) -> Result<PathBuf> {
        let target = self.path.join(name);
        fs::create_dir_all(&target)?;
        mount(
            Some("bpf"),
            &target,
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("mount bpffs on {}", target.display()))?;
        Ok(target)
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        remove_folder(&self.path);
    }
}

/// Removes the namespaces, mounts and folders of labs whose process is gone.
pub fn sweep() {
    for name in names_in(NAMESPACES) {
        if name.strip_prefix("fb-").is_some_and(belongs_to_the_dead) {
            let _ = run(Command::new("ip").args(["netns", "delete", &name]));
        }
    }
    for name in names_in(ROOT) {
        if belongs_to_the_dead(&name) {
            remove_folder(&Path::new(ROOT).join(name));
        }
    }
}

fn names_in(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

fn belongs_to_the_dead(tag: &str) -> bool {
    let pid = tag
        .split('-')
        .next()
        .and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

fn remove_folder(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            let _ = umount2(&entry.path(), MntFlags::MNT_DETACH);
        }
    }
    let _ = fs::remove_dir_all(path);
    // Succeeds only for the last lab on the machine.
    let _ = fs::remove_dir(ROOT);
}
