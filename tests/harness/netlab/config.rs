//! A configuration file for a lab, as values that tests can change before it is written.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::lab::{Lab, address};

/// The whole file; `Display` writes the TOML.
#[derive(Debug, Clone)]
pub struct Config {
    /// `node.interfaces`
    pub interfaces: Vec<String>,
    /// `node.xdp_mode`
    pub xdp_mode: Option<&'static str>,
    /// `node.hash_seed`
    pub hash_seed: Option<u64>,
    /// `node.bpf_fs`, below a bpffs of the lab's own
    pub bpf_fs: PathBuf,
    /// `node.state_dir`
    pub state_dir: PathBuf,
    /// `api.socket`
    pub socket: PathBuf,
    /// `limits.flows`
    pub flows: u32,
    /// `log.level`
    pub log_level: &'static str,
    /// `[timeouts]`
    pub timeouts: Vec<(&'static str, &'static str)>,
    /// `[[frontend]]`
    pub frontends: Vec<Frontend>,
    /// `[[instance]]`
    pub instances: Vec<Instance>,
    /// `[[pool]]`
    pub pools: Vec<Pool>,
    /// `[[rule]]`
    pub rules: Vec<Rule>,
    /// Tables that nothing above can say, as they are written in the file.
    pub more: String,
}

/// `[[frontend]]`
#[derive(Debug, Clone)]
pub struct Frontend {
    /// `name`
    pub name: &'static str,
    /// `ipv4`
    pub ipv4: Ipv4Addr,
    /// `ipv6`
    pub ipv6: Ipv6Addr,
}

/// `[[instance]]`
#[derive(Debug, Clone)]
pub struct Instance {
    /// `name`
    pub name: String,
    /// `ipv4`
    pub ipv4: Ipv4Addr,
    /// `ipv6`
    pub ipv6: Ipv6Addr,
    /// `public_ip`
    pub public_ip: Option<&'static str>,
}

/// `[[pool]]`
#[derive(Debug, Clone)]
pub struct Pool {
    /// `name`
    pub name: &'static str,
    /// Instance and weight of every member.
    pub members: Vec<(String, u16)>,
}

/// `[[rule]]`
#[derive(Debug, Clone)]
pub struct Rule {
    /// `name`
    pub name: &'static str,
    /// `frontend`
    pub frontend: &'static str,
    /// `protocol`
    pub protocol: &'static str,
    /// `port`
    pub port: u16,
    /// `pool`
    pub pool: &'static str,
    /// `backend_port`
    pub backend_port: u16,
    /// `distribution`
    pub distribution: &'static str,
    /// `idle_timeout`
    pub idle_timeout: Option<&'static str>,
    /// `tcp_reset`
    pub tcp_reset: Option<bool>,
    /// `outbound_snat`
    pub outbound_snat: Option<bool>,
    /// `probe`
    pub probe: Option<&'static str>,
    /// `no_healthy_backends`
    pub no_healthy_backends: Option<&'static str>,
}

impl Rule {
    /// A rule of the frontend `web` for the pool `web`, spread by 5-tuple.
    pub fn new(name: &'static str, protocol: &'static str, port: u16, backend_port: u16) -> Self {
        Self {
            name,
            frontend: "web",
            protocol,
            port,
            pool: "web",
            backend_port,
            distribution: "5-tuple",
            idle_timeout: None,
            tcp_reset: None,
            outbound_snat: None,
            probe: None,
            no_healthy_backends: None,
        }
    }
}

impl Config {
    /// Three equal instances behind one dual-stack frontend: HTTP on port 80, UDP on port 5000.
    pub fn sample(lab: &Lab) -> Self {
        let folder = lab.path();
        let instances = lab.instances.iter().map(|instance| Instance {
            name: instance.name.clone(),
            ipv4: instance.ipv4,
            ipv6: instance.ipv6,
            public_ip: None,
        });
        Self {
            interfaces: lab.interfaces.iter().map(|&name| name.to_owned()).collect(),
            xdp_mode: None,
            hash_seed: None,
            bpf_fs: folder.join("bpf/forebay"),
            state_dir: folder.join("state"),
            socket: folder.join("forebay.sock"),
            flows: 65_536,
            log_level: "info",
            timeouts: Vec::new(),
            frontends: vec![Frontend {
                name: "web",
                ipv4: address::FRONTEND_V4,
                ipv6: address::FRONTEND_V6,
            }],
            instances: instances.collect(),
            pools: vec![Pool {
                name: "web",
                members: lab
                    .instances
                    .iter()
                    .map(|instance| (instance.name.clone(), 1))
                    .collect(),
            }],
            rules: vec![
                Rule::new("http", "tcp", 80, 8080),
                Rule::new("echo", "udp", 5000, 5000),
            ],
            more: String::new(),
        }
    }
}

impl fmt::Display for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "[node]\nname = \"lab\"\ninterfaces = {:?}",
            self.interfaces
        )?;
        if let Some(mode) = self.xdp_mode {
            writeln!(out, "xdp_mode = {mode:?}")?;
        }
        if let Some(seed) = self.hash_seed {
            writeln!(out, "hash_seed = {seed}")?;
        }
        writeln!(
            out,
            "bpf_fs = {:?}\nstate_dir = {:?}\n",
            self.bpf_fs, self.state_dir
        )?;
        writeln!(out, "[limits]\nflows = {}\n", self.flows)?;
        if !self.timeouts.is_empty() {
            writeln!(out, "[timeouts]")?;
            for (key, value) in &self.timeouts {
                writeln!(out, "{key} = {value:?}")?;
            }
            writeln!(out)?;
        }
        writeln!(out, "[api]\nsocket = {:?}", self.socket)?;
        writeln!(out, "\n[log]\nlevel = {:?}", self.log_level)?;
        for Frontend { name, ipv4, ipv6 } in &self.frontends {
            writeln!(
                out,
                "\n[[frontend]]\nname = {name:?}\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\""
            )?;
        }
        for instance in &self.instances {
            let Instance {
                name, ipv4, ipv6, ..
            } = instance;
            writeln!(
                out,
                "\n[[instance]]\nname = {name:?}\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\""
            )?;
            if let Some(public_ip) = instance.public_ip {
                writeln!(out, "public_ip = {public_ip:?}")?;
            }
        }
        self.pools.iter().try_for_each(|pool| pool.fmt(out))?;
        self.rules.iter().try_for_each(|rule| rule.fmt(out))?;
        out.write_str(&self.more)
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\n[[pool]]\nname = {:?}\nmembers = [", self.name)?;
        for (instance, weight) in &self.members {
            match weight {
                1 => writeln!(out, "  {instance:?},")?,
                _ => writeln!(out, "  {{ instance = {instance:?}, weight = {weight} }},")?,
            }
        }
        writeln!(out, "]")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            frontend,
            protocol,
            port,
            pool,
            backend_port,
            distribution,
            idle_timeout,
            tcp_reset,
            outbound_snat,
            probe,
            no_healthy_backends,
        } = self;
        writeln!(out, "\n[[rule]]\nname = {name:?}\nfrontend = {frontend:?}")?;
        writeln!(out, "protocol = {protocol:?}\nport = {port}")?;
        writeln!(out, "pool = {pool:?}\nbackend_port = {backend_port}")?;
        if *distribution != "5-tuple" {
            writeln!(out, "distribution = {distribution:?}")?;
        }
        if let Some(timeout) = idle_timeout {
            writeln!(out, "idle_timeout = {timeout:?}")?;
        }
        if let Some(reset) = tcp_reset {
            writeln!(out, "tcp_reset = {reset}")?;
        }
        if let Some(outbound_snat) = outbound_snat {
            writeln!(out, "outbound_snat = {outbound_snat}")?;
        }
        if let Some(probe) = probe {
            writeln!(out, "probe = {probe:?}")?;
        }
        if let Some(policy) = no_healthy_backends {
            writeln!(out, "no_healthy_backends = {policy:?}")?;
        }
        Ok(())
    }
}
