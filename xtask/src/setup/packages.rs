//! Programs that the verbs use, and the packages of Debian and Ubuntu that hold them.

use super::Group::{self, Bench, Demo, Test, Vm};
use crate::process;
use crate::vm;

/// A program some verbs cannot do without.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
    groups: &'static [Group],
}

const LAB: &[Group] = &[Demo, Test, Bench, Vm];

const NEEDS: &[Need] = &[
    need("ip", "iproute2", LAB),
    need("ethtool", "ethtool", LAB),
    need("nginx", "nginx-light", &[Demo, Test, Vm]),
    need("curl", "curl", &[Demo, Test, Vm]),
    need("ping", "iputils-ping", &[Demo, Test, Vm]),
    need("iperf3", "iperf3", &[Test, Bench]),
    need("nc", "netcat-openbsd", &[Test]),
    need("tcpdump", "tcpdump", &[Test]),
    need("mtr", "mtr-tiny", &[Test]),
    need("tracepath", "iputils-tracepath", &[Test]),
    need("traceroute", "traceroute", &[Test]),
    need("dnsmasq", "dnsmasq-base", &[Test]),
    need("dig", "bind9-dnsutils", &[Test]),
    need("turnserver", "coturn", &[Test]),
    need("vsftpd", "vsftpd", &[Test]),
    need("bpftool", "bpftool", &[Test, Bench]),
    need("nft", "nftables", &[Bench]),
    need(STATIC_BUSYBOX, "busybox-static", &[Vm]),
    need("modprobe", "kmod", &[Vm]),
    need("xz", "xz-utils", &[Vm]),
    need("zstd", "zstd", &[Vm]),
];

/// The one program that must not need shared libraries.
const STATIC_BUSYBOX: &str = "busybox";

const fn need(program: &'static str, package: &'static str, groups: &'static [Group]) -> Need {
    Need {
        program,
        package,
        groups,
    }
}

/// What the groups need and this machine lacks.
pub(crate) fn missing(groups: &[Group]) -> Vec<&'static Need> {
    NEEDS
        .iter()
        .filter(|need| need.groups.iter().any(|group| groups.contains(group)))
        .filter(|need| !is_installed(need.program))
        .collect()
}

fn is_installed(program: &str) -> bool {
    match process::find(program) {
        None => false,
        Some(path) if program == STATIC_BUSYBOX => {
            std::fs::read(path).is_ok_and(|bytes| !vm::is_dynamic(&bytes))
        }
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_asks_only_for_its_own_packages() {
        let of = |group: Group| -> Vec<&str> {
            NEEDS
                .iter()
                .filter(|need| need.groups.contains(&group))
                .map(|need| need.package)
                .collect()
        };
        assert!(of(Demo).contains(&"nginx-light"));
        assert!(!of(Demo).contains(&"busybox-static"));
        assert!(of(Bench).contains(&"nftables"));
        assert!(of(Group::Lint).is_empty());
    }
}
