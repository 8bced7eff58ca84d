//! The planned network in the kernel: an anonymous network namespace.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

use super::plan::{LINKS, MacAddress, NEIGHBORS, ROUTES, Target, interfaces};
use super::{Host, IpVersion};

/// Name of the interface to attach a program to: it is down, so no packet meets the program there.
pub const PERCH: &str = "perch";

/// What every interface starts with: forwarding, and no address, route or packet of its own.
const SYSCTLS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/default/forwarding", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/router_solicitations", "0"),
];

/// A network namespace that lasts as long as this value, or a thread that entered it.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// Makes the namespace with everything in the plan. The calling thread is in it afterwards.
    ///
    /// # Errors
    /// No privilege, or the kernel or `ip` refuses a part.
    pub fn create() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        let file = File::open("/proc/thread-self/ns/net").context("open the network namespace")?;
        for (key, value) in SYSCTLS {
            sysctl(key, value)?;
        }
        ip(&commands())?;
        for link in LINKS.iter().filter(|link| !link.forwards) {
            for family in ["ipv4", "ipv6"] {
                sysctl(&format!("{family}/conf/{}/forwarding", link.name), "0")?;
            }
        }
        Ok(Self(file))
    }

    /// Puts the calling thread into the namespace.
    ///
    /// # Errors
    /// No privilege.
    pub fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("enter a network namespace")
    }
}

fn sysctl(key: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    std::fs::write(&path, value).with_context(|| format!("write {value} to {path}"))
}

/// Runs `ip` commands in the namespace of the calling thread, one a line, without the word `ip`.
fn ip(lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ip")?;
    let mut stdin = child.stdin.take().context("ip has no standard input")?;
    stdin.write_all(lines.as_bytes()).context("write to ip")?;
    drop(stdin);
    let output = child.wait_with_output().context("wait for ip")?;
    if !output.status.success() {
        bail!("ip: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn colons(mac: MacAddress) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Both addresses with their prefix lengths.
fn prefixes(host: &Host, lengths: [u32; 2]) -> [String; 2] {
    [
        format!("{}/{}", host.v4, lengths[0]),
        format!("{}/{}", host.v6, lengths[1]),
    ]
}

fn commands() -> String {
    let mut text = format!("link add {PERCH} type veth peer name {PERCH}-peer\nlink set lo up\n");
    let mut line = |words: String| writeln!(text, "{words}").expect("a string takes any text");
    // VLAN devices too are pairs of their own here, on any kernel: a test run sends nothing, and routing
    // does not look at what is below a device.
    for link in interfaces() {
        let (name, mac) = (link.name, colons(link.mac));
        line(format!(
            "link add {name} index {} address {mac} mtu {mtu} type veth peer name {name}-peer mtu {mtu}",
            link.ifindex,
            mtu = link.mtu,
        ));
        line(format!("link set {name}-peer up"));
        line(format!("link set {name} up"));
        let [v4, v6] = prefixes(&link.address, [24, 64]);
        line(format!("address add {v4} dev {name}"));
        line(format!("address add {v6} dev {name} nodad"));
    }
    for neighbor in &NEIGHBORS {
        let (mac, name) = (colons(neighbor.mac), neighbor.link.name);
        for version in IpVersion::BOTH {
            let address = neighbor.host.address(version);
            line(format!(
                "neighbor add {address} lladdr {mac} dev {name} nud permanent"
            ));
        }
    }
    for route in &ROUTES {
        let networks = prefixes(&route.network, route.lengths);
        for (version, network) in IpVersion::BOTH.into_iter().zip(networks) {
            line(match route.target {
                Target::Nowhere(word) => format!("route add {word} {network}"),
                Target::Via(neighbor, mtu) => {
                    let (address, name) = (neighbor.host.address(version), neighbor.link.name);
                    // Only a locked MTU counts for packets that are forwarded.
                    let mtu = if mtu == 0 {
                        String::new()
                    } else {
                        format!(" mtu lock {mtu}")
                    };
                    format!("route add {network} via {address} dev {name}{mtu}")
                }
            });
        }
    }
    text
}
