//! What the frontends have, and whether the promises fit into it.

use std::collections::{BTreeMap, BTreeSet};

use super::{BLOCK, Family, Share, Shortage, available_ports};
use crate::config::assignment::{self, Overcommitted, Wish};
use crate::config::model::{Config, Protocol};

/// Ports by frontend, in the order of their names.
pub(super) struct Stores<'c> {
    ports: BTreeMap<&'c str, u64>,
}

impl<'c> Stores<'c> {
    pub(super) fn new(config: &'c Config, family: Family) -> Self {
        let ports = (config.frontends.iter()).map(|frontend| {
            (
                frontend.name.as_str(),
                available_ports(config, frontend, family),
            )
        });
        Self {
            ports: ports.collect(),
        }
    }

    fn fits(&self, shares: &[Share], protocol: Protocol) -> Result<(), Overcommitted> {
        let position = |name: &String| self.ports.keys().position(|known| known == name);
        let wishes: Vec<_> = (shares.iter())
            .map(|share| Wish {
                amount: if share.protocol.overlaps(protocol) {
                    share.needed()
                } else {
                    0
                },
                stores: share.frontends.iter().filter_map(position).collect(),
            })
            .collect();
        let ports: Vec<_> = self.ports.values().copied().collect();
        assignment::fits(&wishes, &ports)
    }

    /// Every protocol has the same ports again.
    fn overcommitted(&self, shares: &[Share]) -> Option<Overcommitted> {
        let protocols = [Protocol::Tcp, Protocol::Udp];
        protocols
            .into_iter()
            .find_map(|protocol| self.fits(shares, protocol).err())
    }

    /// Promises that cannot be kept, those apart that do not compete. `offset` is the position
    /// of the first share in the plan.
    pub(super) fn shortages(&self, shares: &[Share], offset: usize) -> Vec<Shortage> {
        let short = self.overcommitted(shares).map(|short| short.wishes);
        let mut groups: Vec<(BTreeSet<&str>, Vec<usize>)> = Vec::new();
        for share in short.unwrap_or_default() {
            let mut group: (BTreeSet<&str>, Vec<usize>) = Default::default();
            group
                .0
                .extend(shares[share].frontends.iter().map(String::as_str));
            group.1.push(share);
            let apart = groups.extract_if(.., |other| !other.0.is_disjoint(&group.0));
            for (frontends, shares) in apart.collect::<Vec<_>>() {
                group.0.extend(frontends);
                group.1.extend(shares);
            }
            groups.push(group);
        }
        let shortage = |(frontends, mut positions): (BTreeSet<&str>, Vec<usize>)| {
            positions.sort_unstable();
            Shortage {
                needed: positions.iter().map(|share| shares[*share].needed()).sum(),
                available: frontends
                    .iter()
                    .filter_map(|name| self.ports.get(name))
                    .sum(),
                frontends: frontends.into_iter().map(str::to_owned).collect(),
                shares: positions.into_iter().map(|share| share + offset).collect(),
            }
        };
        groups.into_iter().map(shortage).collect()
    }

    /// Halves automatic numbers until everything fits; at the end nothing is promised.
    pub(super) fn fit(&self, shares: &mut [Share]) {
        while let Some(short) = self.overcommitted(shares) {
            for share in short.wishes {
                let share = &mut shares[share];
                if share.automatic {
                    share.ports = share.ports / 2 / BLOCK * BLOCK;
                }
            }
        }
    }
}
