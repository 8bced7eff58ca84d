//! `forebay public-ip`

use std::net::{Ipv4Addr, Ipv6Addr};

use clap::Subcommand;

use super::ask::{ask, print_json};
use super::file_edit::edit_file;
use super::table::Table;
use super::{Common, Failure, Output};
use crate::api::{self, Request};
use crate::config::edit::{NewPublicIp, add_public_ip, remove_public_ip};
use crate::config::model::MemberRef;
use anyhow::{Context, bail};

#[derive(Debug, Subcommand)]
pub(super) enum PublicIpCommand {
    /// Show public IPs and who has them
    Show {
        /// Only those of this instance
        instance: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Give an IP configuration a public IP: writes it to the configuration file and reloads
    Add {
        /// Name of the public IP
        name: String,
        /// Instance, or INSTANCE/IP_CONFIG where it has several
        #[arg(long)]
        instance: String,
        /// IPv4 address
        #[arg(long, value_name = "ADDRESS", required_unless_present = "ipv6")]
        ipv4: Option<Ipv4Addr>,
        /// IPv6 address
        #[arg(long, value_name = "ADDRESS")]
        ipv6: Option<Ipv6Addr>,
        /// Label in the zone of [dns]
        #[arg(long, value_name = "LABEL")]
        dns_label: Option<String>,
    },
    /// Take a public IP away, which ends its flows: removes it from the configuration file and reloads
    Remove {
        /// Name of the public IP
        name: String,
    },
}

pub(super) fn run(common: &Common, command: PublicIpCommand) -> Result<(), Failure> {
    match command {
        PublicIpCommand::Show { instance, output } => {
            show(common, instance.as_deref(), output.json)
        }
        PublicIpCommand::Add {
            name,
            instance,
            ipv4,
            ipv6,
            dns_label,
        } => {
            let owner = MemberRef::of(&instance);
            let new = NewPublicIp {
                name,
                ipv4,
                ipv6,
                dns_label,
            };
            edit_file(common, |text| add_public_ip(text, &new, &owner))
        }
        PublicIpCommand::Remove { name } => edit_file(common, |text| remove_public_ip(text, &name)),
    }
}

/// `public-ip show`, and `show public-ips` without an instance.
pub(super) fn show(common: &Common, instance: Option<&str>, json: bool) -> Result<(), Failure> {
    if let Some(name) = instance {
        require_instance(common, name)?;
    }
    let answer = ask(common, &Request::PublicIps)?;
    let mut public_ips: Vec<api::PublicIp> = serde_json::from_value(answer)
        .context("understand the answer; are command and daemon of one version?")?;
    public_ips.retain(|public_ip| instance.is_none() || public_ip.instance.as_deref() == instance);
    if json {
        print_json(&public_ips)?;
        return Ok(());
    }
    let mut table = Table::new([
        "PUBLIC IP",
        "ADDRESSES",
        "INSTANCE",
        "IP CONFIG",
        "DNS NAME",
    ]);
    for public_ip in public_ips {
        table.row([
            public_ip.name,
            public_ip.addresses.join(" "),
            public_ip.instance.unwrap_or_default(),
            public_ip.ip_config.unwrap_or_default(),
            public_ip.dns_name.unwrap_or_default(),
        ]);
    }
    super::ask::print_or(&table, "no public IPs");
    Ok(())
}

fn require_instance(common: &Common, name: &str) -> anyhow::Result<()> {
    let instances: Vec<api::Instance> =
        serde_json::from_value(ask(common, &Request::Instances)?)
            .context("understand the answer; are command and daemon of one version?")?;
    if !instances.iter().any(|instance| instance.name == name) {
        bail!("no instance is called {name}; `forebay show instances` lists them");
    }
    Ok(())
}
