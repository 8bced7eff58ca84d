//! Where things are: the workspace, its build output, the eBPF object.

use std::path::{Path, PathBuf};

/// Names the eBPF object to use instead of the one built here.
pub(crate) const OBJECT_VARIABLE: &str = "FOREBAY_BPF_OBJECT";

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent()
        .expect("the crate lies in the workspace")
        .into()
}

/// The folder cargo builds into.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// The eBPF object: the one named by the environment, else the built one.
pub(crate) fn bpf_object() -> PathBuf {
    match std::env::var_os(OBJECT_VARIABLE) {
        Some(path) => path.into(),
        None => target().join("bpf/forebay-xdp"),
    }
}
