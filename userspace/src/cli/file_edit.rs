//! Commands that change the file: the daemon runs what is then written there, or nothing has changed.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};

use super::ask::{ask, print_reload};
use super::{Common, Failure};
use crate::api::{self, Request};
use crate::config;
use crate::host::{facts, replace_file};

/// Changes the text of the file that the daemon runs, and has it read again.
pub(super) fn edit_file(
    common: &Common,
    edit: impl Fn(&str) -> Result<String>,
) -> Result<(), Failure> {
    let path = file_in_force(common)?;
    let _lock = lock(&path)?;
    let before = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let text = std::str::from_utf8(&before)
        .with_context(|| format!("{} is not text in UTF-8", path.display()))?;
    let after = edit(text)?;
    if let Err(errors) = config::parse_for(&path.display().to_string(), &after, facts()) {
        let refused = format!("nothing is changed, for the file would be invalid:\n{errors}");
        return Err(Failure::Refused(refused));
    }
    replace_file(&path, after.as_bytes())?;
    let answer = ask(common, &Request::Reload).and_then(|answer| {
        serde_json::from_value::<api::Report>(answer).context("understand the answer")
    });
    let printed = match answer {
        Ok(report) => print_reload(&report),
        Err(error) => Err(Failure::Failed(error)),
    };
    if printed.is_err() {
        // Whoever wrote to the file in between has not asked for the lock, and wins.
        let is_ours = std::fs::read(&path).is_ok_and(|now| now == after.as_bytes());
        if is_ours {
            replace_file(&path, &before)?;
        }
    }
    printed
}

/// The daemon says which file it runs; commands and the daemon may have been given others.
fn file_in_force(common: &Common) -> Result<PathBuf> {
    let status: api::Status =
        serde_json::from_value(ask(common, &Request::Status)?).context("understand the answer")?;
    let path = PathBuf::from(status.config.path);
    // A relative one is relative to the folder that the daemon was started in.
    let path = if path.is_absolute() {
        path
    } else {
        common.config.clone()
    };
    // A link stays a link.
    path.canonicalize()
        .with_context(|| format!("find {}", path.display()))
}

/// Waits until nobody else edits the file by a command.
fn lock(path: &Path) -> Result<Flock<File>> {
    loop {
        let open = || File::open(path).with_context(|| format!("read {}", path.display()));
        let locked = Flock::lock(open()?, FlockArg::LockExclusive)
            .map_err(|(_, error)| anyhow!("lock {}: {error}", path.display()))?;
        // Who held it has put another file in its place.
        let (ours, there) = (locked.metadata()?, open()?.metadata()?);
        if (ours.dev(), ours.ino()) == (there.dev(), there.ino()) {
            return Ok(locked);
        }
    }
}
