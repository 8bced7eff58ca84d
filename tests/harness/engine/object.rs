//! Where the built program is.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Names the object, for whoever runs the suites from elsewhere.
pub const OBJECT_VARIABLE: &str = "FOREBAY_BPF_OBJECT";

/// The object: what [`OBJECT_VARIABLE`] says, else `bpf/forebay-xdp` in the target folder that this
/// program was built into.
///
/// # Errors
/// There is none.
pub fn object_path() -> Result<PathBuf> {
    let path = match std::env::var_os(OBJECT_VARIABLE) {
        Some(path) => PathBuf::from(path),
        None => {
            let here = std::env::current_exe().context("where is this program?")?;
            let is_there = |folder: &&std::path::Path| folder.join("bpf/forebay-xdp").is_file();
            match here.ancestors().skip(1).find(is_there) {
                Some(target) => target.join("bpf/forebay-xdp"),
                None => bail!("the eBPF program is not built: run `cargo xtask build`"),
            }
        }
    };
    let length = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
    if length == 0 {
        bail!(
            "{} is missing or empty: run `cargo xtask build`",
            path.display()
        );
    }
    Ok(path)
}
