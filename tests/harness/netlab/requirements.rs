//! What a machine must have before a lab can be made.

use std::path::Path;

/// Programs that every lab uses.
const ALWAYS: &[&str] = &["ip", "ethtool", "nginx", "curl", "ping"];

/// Why no lab can be made here, or `None`. `more` names programs that this use needs besides the
/// usual ones.
pub fn missing_requirement(more: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("network namespaces and XDP need root".to_owned());
    }
    let missing: Vec<&str> = ALWAYS
        .iter()
        .chain(more)
        .copied()
        .filter(|program| !is_installed(program))
        .collect();
    if missing.is_empty() {
        return None;
    }
    Some(format!("not installed: {}", missing.join(", ")))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| Path::new(&folder).join(program).is_file())
}
