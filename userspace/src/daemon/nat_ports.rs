//! The ports of inbound NAT rules that members have, kept in the state folder: a member keeps its port as
//! long as it is one, whatever becomes of daemon and tables.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::config::model::MemberRef;
use crate::control_plane::NatPorts;

/// File in the state folder.
const FILE: &str = "nat_ports.json";

#[derive(Serialize, Deserialize)]
struct Kept {
    rule: String,
    instance: String,
    ip_config: String,
    port: u16,
}

/// What a former daemon has kept; nothing when there was none.
pub(super) fn read(state_dir: &Path) -> Result<NatPorts> {
    let path = state_dir.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(NatPorts::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    let kept: Vec<Kept> = serde_json::from_slice(&text).with_context(|| {
        format!(
            "{} is not what this daemon wrote: remove it (inbound NAT rules over pools then give out their ports anew, in file order)",
            path.display()
        )
    })?;
    let mut ports = NatPorts::new();
    for one in kept {
        let member = MemberRef {
            instance: one.instance,
            ip_config: one.ip_config,
        };
        ports.entry(one.rule).or_default().insert(member, one.port);
    }
    Ok(ports)
}

/// Keeps them for the next daemon.
pub(super) fn write(state_dir: &Path, ports: &NatPorts) -> Result<()> {
    let of_rule = |(rule, members): (&String, &std::collections::BTreeMap<MemberRef, u16>)| {
        let one = |(member, port): (&MemberRef, &u16)| Kept {
            rule: rule.clone(),
            instance: member.instance.clone(),
            ip_config: member.ip_config.clone(),
            port: *port,
        };
        members.iter().map(one).collect::<Vec<_>>()
    };
    let kept: Vec<Kept> = ports.iter().flat_map(of_rule).collect();
    let text = serde_json::to_vec_pretty(&kept).context("write down the ports of members")?;
    crate::host::write_file(&state_dir.join(FILE), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// B9-19.
    #[test]
    fn a_new_daemon_reads_what_the_former_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), NatPorts::new());
        let member = |name: &str| MemberRef {
            instance: name.to_owned(),
            ip_config: "primary".to_owned(),
        };
        let ssh = [(member("a"), 2200), (member("b"), 2207)].into();
        let ports = NatPorts::from([("ssh".to_owned(), ssh)]);
        write(folder.path(), &ports).unwrap();
        assert_eq!(read(folder.path()).unwrap(), ports);
    }

    #[test]
    fn a_file_that_nobody_can_read_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "half of a fi").unwrap();
        let error = format!("{:#}", read(folder.path()).unwrap_err());
        assert!(
            error.contains("nat_ports.json") && error.contains("remove it"),
            "{error}"
        );
    }
}
