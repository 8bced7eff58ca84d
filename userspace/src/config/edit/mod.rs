//! Changes that commands make to the text of a file. Comments and order stay as they are.
//!
//! What comes out is checked like any file, so only what cannot be edited is refused here.

mod admin_state;
mod tables;

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use toml_edit::{DocumentMut, Item, Table, value};

pub use self::admin_state::set_admin_state;
use self::tables::{TableMut, append, remove, tables};
use super::model::MemberRef;
use super::values::text::PRIMARY;

const PUBLIC_IP: &str = "public_ip";

/// A public IP to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPublicIp {
    /// Its name.
    pub name: String,
    /// IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// Label in the zone.
    pub dns_label: Option<String>,
}

/// The text with a public IP more, which an IP configuration has.
///
/// # Errors
/// The text is no TOML, the IP configuration does not exist or has a public IP, or the name is taken.
pub fn add_public_ip(text: &str, new: &NewPublicIp, owner: &MemberRef) -> Result<String> {
    let mut document = parse(text)?;
    let mut known = document.get_mut(PUBLIC_IP).map_or_else(Vec::new, tables);
    let name = new.name.as_str();
    if known
        .iter_mut()
        .any(|table| table.text("name") == Some(name))
    {
        bail!("there is a public IP {name} already; `forebay public-ip show` lists them");
    }
    drop(known);
    with_ip_config(&mut document, owner, |ip_config| {
        if let Some(has) = ip_config.text(PUBLIC_IP) {
            bail!(
                "{owner} has the public IP {has} already; remove it first: `forebay public-ip remove {has}`"
            );
        }
        ip_config.set(PUBLIC_IP, name);
        Ok(())
    })?;
    let mut table = Table::new();
    table.insert("name", value(name));
    if let Some(ipv4) = new.ipv4 {
        table.insert("ipv4", value(ipv4.to_string()));
    }
    if let Some(ipv6) = new.ipv6 {
        table.insert("ipv6", value(ipv6.to_string()));
    }
    if let Some(label) = &new.dns_label {
        table.insert("dns_label", value(label));
    }
    if !append(&mut document, PUBLIC_IP, table) {
        bail!("the file's public_ip is no list of tables");
    }
    Ok(document.to_string())
}

/// The text without a public IP, and without who has it.
///
/// # Errors
/// The text is no TOML, or there is no such public IP.
pub fn remove_public_ip(text: &str, name: &str) -> Result<String> {
    let mut document = parse(text)?;
    if !remove(&mut document, PUBLIC_IP, name) {
        bail!("no public IP is called {name}; `forebay public-ip show` lists them");
    }
    if matches!(document.get(PUBLIC_IP), Some(Item::ArrayOfTables(list)) if list.is_empty()) {
        document.remove(PUBLIC_IP);
    }
    let instances = document.get_mut("instance");
    for mut instance in instances.map_or_else(Vec::new, tables) {
        let release = |table: &mut TableMut<'_>| {
            if table.text(PUBLIC_IP) == Some(name) {
                table.remove(PUBLIC_IP);
            }
        };
        release(&mut instance);
        instance.list("ip_configs").iter_mut().for_each(release);
    }
    Ok(document.to_string())
}

fn parse(text: &str) -> Result<DocumentMut> {
    text.parse()
        .context("the configuration file is not TOML; `forebay check` says where")
}

/// Hands the table that an IP configuration is written in to `edit`.
fn with_ip_config(
    document: &mut DocumentMut,
    wanted: &MemberRef,
    edit: impl FnOnce(&mut TableMut<'_>) -> Result<()>,
) -> Result<()> {
    let name = wanted.instance.as_str();
    let instances = document.get_mut("instance");
    let mut instances = instances.map_or_else(Vec::new, tables).into_iter();
    let Some(mut instance) = instances.find(|table| table.text("name") == Some(name)) else {
        bail!("no instance is called {name}; `forebay show instances` lists them");
    };
    if !instance.has("ip_configs") && wanted.ip_config == PRIMARY {
        return edit(&mut instance);
    }
    let mut ip_configs = instance.list("ip_configs").into_iter();
    let named = |table: &TableMut<'_>| table.text("name") == Some(wanted.ip_config.as_str());
    match ip_configs.find(named) {
        Some(mut ip_config) => edit(&mut ip_config),
        None => bail!(
            "instance {name} has no IP configuration {}; `forebay show instances` lists them",
            wanted.ip_config
        ),
    }
}

#[cfg(test)]
mod tests;
