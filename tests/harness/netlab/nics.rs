//! Real NICs for a lab, in place of the cables between the node and the others.
//!
//! Who starts the tests names them in the environment: the driver, then for each link the MAC
//! address of the NIC that the node gets and of the one at the other end. They lie in the network
//! namespace of the test program, and go back there when the lab ends.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::namespace::Namespace;
use super::process::run;

/// Which NICs there are: `DRIVER NEAR FAR NEAR FAR`.
const VARIABLE: &str = "FOREBAY_NICS";
/// An emulated NIC needs some seconds after a reset.
const PATIENCE: Duration = Duration::from_secs(60);

/// The links that labs can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nics {
    /// The driver of the NICs that the node gets.
    pub driver: String,
    links: Vec<Link>,
}

/// Two NICs that are connected to each other, by their MAC addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    near: String,
    far: String,
}

impl Nics {
    /// The NICs that the environment names; `None` when it names none.
    pub fn from_environment() -> Result<Option<Self>> {
        match std::env::var(VARIABLE) {
            Ok(text) => Self::parse(&text).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let mut words = text.split_whitespace().map(ToOwned::to_owned);
        let driver = words.next();
        let rest: Vec<String> = words.collect();
        match (driver, rest.as_chunks::<2>()) {
            (Some(driver), (pairs, [])) if pairs.len() >= 2 => Ok(Self {
                driver,
                links: pairs
                    .iter()
                    .map(|[near, far]| Link {
                        near: near.clone(),
                        far: far.clone(),
                    })
                    .collect(),
            }),
            _ => bail!("{VARIABLE} wants a driver and two pairs of MAC addresses, not {text:?}"),
        }
    }

    /// Takes a link: one NIC for the node, the other for somebody else.
    pub(crate) fn place(
        &self,
        link: usize,
        near: (&Namespace, &str),
        far: (&Namespace, &str),
    ) -> Result<[Nic; 2]> {
        let link = &self.links[link];
        let near = Nic::take(&link.near, near.0, near.1)?;
        let driver = near.driver()?;
        if driver != self.driver {
            bail!("{} is driven by {driver}, not {}", link.near, self.driver);
        }
        Ok([near, Nic::take(&link.far, far.0, far.1)?])
    }
}

/// A NIC that lies in a namespace of a lab; it goes back when this is dropped.
#[derive(Debug)]
pub(crate) struct Nic {
    namespace: String,
    name: String,
    former_name: String,
}

impl Nic {
    fn take(address: &str, namespace: &Namespace, name: &str) -> Result<Self> {
        let former_name = named_here(address)?;
        let name_there = namespace.name();
        run(std::process::Command::new("ip").args([
            "link",
            "set",
            "dev",
            &former_name,
            "netns",
            name_there,
            "name",
            name,
        ]))?;
        let nic = Self {
            namespace: name_there.to_owned(),
            name: name.to_owned(),
            former_name,
        };
        namespace.ip(&format!("link set {name} up"))?;
        Ok(nic)
    }

    fn driver(&self) -> Result<String> {
        let about = run(std::process::Command::new("ip").args([
            "netns",
            "exec",
            &self.namespace,
            "ethtool",
            "-i",
            &self.name,
        ]))?;
        let driver = about.lines().find_map(|line| line.strip_prefix("driver: "));
        Ok(driver.context("ethtool names no driver")?.to_owned())
    }
}

impl Drop for Nic {
    fn drop(&mut self) {
        let here = std::process::id().to_string();
        let (namespace, name) = (&self.namespace, &self.name);
        let mut lines = String::new();
        let _ = writeln!(lines, "link set dev {name} down");
        let _ = writeln!(
            lines,
            "link set dev {name} netns {here} name {}",
            self.former_name
        );
        let back = super::process::feed(
            std::process::Command::new("ip").args(["-netns", namespace, "-batch", "-"]),
            &lines,
        );
        if let Err(error) = back {
            eprintln!("netlab: {error:#}");
        }
    }
}

/// The name of the NIC that has this address, in the namespace of the test program.
fn named_here(address: &str) -> Result<String> {
    let start = Instant::now();
    loop {
        let text = run(std::process::Command::new("ip").args(["-json", "link"]))?;
        let links: Vec<Value> = serde_json::from_str(&text)?;
        let found = links
            .iter()
            .find(|link| link["address"] == address)
            .and_then(|link| link["ifname"].as_str());
        if let Some(name) = found {
            return Ok(name.to_owned());
        }
        // A namespace that is going away gives its NICs back some time later.
        if start.elapsed() > PATIENCE {
            bail!("no NIC has the address {address}: {text}");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits until devices have a carrier.
pub fn wait_for_carrier(namespace: &Namespace, devices: &[&str]) -> Result<()> {
    let start = Instant::now();
    for device in devices {
        while namespace.link(device)?["operstate"] != "UP" {
            if start.elapsed() > PATIENCE {
                bail!("{device} has no carrier after {PATIENCE:?}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nics_are_a_driver_and_pairs_of_addresses() {
        let text = "igb 52:54:00:00:00:01 52:54:00:00:00:02 52:54:00:00:00:03 52:54:00:00:00:04";
        let nics = Nics::parse(text).expect("two pairs after a driver");
        assert_eq!(nics.driver, "igb");
        assert_eq!(nics.links[1].far, "52:54:00:00:00:04");
    }

    #[test]
    fn half_a_link_is_refused() {
        for text in ["", "igb", "igb a b c", "igb a b"] {
            assert!(Nics::parse(text).is_err(), "{text}");
        }
    }
}
