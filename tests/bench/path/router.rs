//! What may stand in the middle.

use anyhow::{Context, Result};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{Xdp, XdpMode};

use super::nft;
use super::setup::Setup;
use super::topology::{ROUTER_CLIENT, ROUTER_SERVER};
use crate::product::outbound::QUIET;
use crate::scene::{Net, OUTSIDE, instance};
use crate::shared::{Bits, Expectation};

/// What forwards, or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Router {
    /// Nothing: frames end at the router's door. What is left is the generator and a veth.
    Floor,
    /// The kernel, without translation.
    Kernel,
    /// nftables, destination only.
    NftDestination,
    /// nftables, destination and source.
    NftFull,
    /// nftables, source only.
    NftMasquerade,
    /// An XDP program that only redirects.
    Redirect,
    /// The minimal translator.
    Minimal,
    /// The product in the driver.
    Native,
    /// The product on socket buffers.
    Generic,
}

impl Router {
    /// Those for what goes to the frontend.
    pub(super) const INBOUND: [Self; 8] = [
        Self::Floor,
        Self::Kernel,
        Self::NftDestination,
        Self::NftFull,
        Self::Redirect,
        Self::Minimal,
        Self::Native,
        Self::Generic,
    ];
    /// Those for what an instance sends to the outside.
    pub(super) const OUTBOUND: [Self; 5] = [
        Self::Floor,
        Self::Kernel,
        Self::NftMasquerade,
        Self::Native,
        Self::Generic,
    ];

    /// Its name in the report.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Floor => "generator, dropped at the router",
            Self::Kernel => "kernel forwarding, no NAT",
            Self::NftDestination => "nftables DNAT",
            Self::NftFull => "nftables DNAT + SNAT",
            Self::NftMasquerade => "nftables masquerade",
            Self::Redirect => "XDP redirect only",
            Self::Minimal => "XDP minimal NAT",
            Self::Native => "Forebay, native",
            Self::Generic => "Forebay, generic",
        }
    }

    /// Whether it is nftables.
    pub(super) fn is_nft(self) -> bool {
        matches!(
            self,
            Self::NftDestination | Self::NftFull | Self::NftMasquerade
        )
    }

    /// Whether it is the product.
    pub(super) fn is_product(self) -> bool {
        matches!(self, Self::Native | Self::Generic)
    }

    /// Whether others are compared with it.
    pub(super) fn is_yardstick(self) -> bool {
        matches!(self, Self::Floor | Self::NftFull | Self::NftMasquerade)
    }

    /// How packets to the frontend are to arrive.
    pub(super) fn expects<A: Net>(self) -> Expectation {
        let destination = match self {
            Self::Floor | Self::Kernel | Self::Redirect => exactly(A::FRONTEND),
            _ => A::BACKENDS,
        };
        Expectation {
            destination,
            source: Bits::default(),
        }
    }

    /// How packets of an instance are to arrive.
    pub(super) fn expects_outside<A: Net>(self) -> Expectation {
        let source = match self {
            Self::Native | Self::Generic => A::snat(QUIET.index),
            Self::NftMasquerade => A::ROUTER,
            _ => instance(QUIET.index),
        };
        Expectation {
            destination: OUTSIDE,
            source: exactly(source),
        }
    }

    /// Puts it in the middle. `new_flows`: there will be more flows than one address has ports.
    pub(super) fn start<A: Net>(self, setup: &mut Setup, new_flows: bool) -> Result<Standing> {
        let standing = match self {
            Self::Floor => setup.own("arrive", &[ROUTER_CLIENT])?,
            Self::Kernel => Standing::Nothing,
            Self::NftDestination => {
                let backends = nft::Destination::Backends;
                nft::load(&setup.topology.router, backends, nft::Source::Kept)?;
                Standing::Nft
            }
            Self::NftFull => {
                let source = if new_flows {
                    nft::Source::Pool
                } else {
                    nft::Source::Masquerade
                };
                nft::load(&setup.topology.router, nft::Destination::Backends, source)?;
                Standing::Nft
            }
            Self::NftMasquerade => {
                let router = &setup.topology.router;
                nft::load(router, nft::Destination::Kept, nft::Source::Masquerade)?;
                Standing::Nft
            }
            Self::Redirect => setup.own("redirect", &[ROUTER_CLIENT])?,
            Self::Minimal => setup.own(A::BENCH.minimal, &[ROUTER_CLIENT])?,
            Self::Native => setup.product(XdpMode::Driver)?,
            Self::Generic => setup.product(XdpMode::Skb)?,
        };
        Ok(standing)
    }
}

fn exactly<A: Net>(address: A) -> Bits {
    Bits {
        mask: u32::MAX,
        value: address.low_word(),
    }
}

/// What has to be taken away again.
pub(super) enum Standing {
    Nothing,
    Nft,
    Own(&'static str, Vec<XdpLinkId>),
    Product(Vec<XdpLinkId>),
}

impl Setup {
    fn own(&mut self, name: &'static str, devices: &[&str]) -> Result<Standing> {
        let program = self.yardstick.program(name)?;
        let router = &self.topology.router;
        let links = router.enter(|| attach(program, devices, XdpMode::Driver));
        Ok(Standing::Own(
            name,
            links.with_context(|| format!("attach {name}"))?,
        ))
    }

    fn product(&mut self, mode: XdpMode) -> Result<Standing> {
        let program = self.product.program()?;
        let router = &self.topology.router;
        let links = router.enter(|| attach(program, &[ROUTER_CLIENT, ROUTER_SERVER], mode));
        Ok(Standing::Product(
            links.context("attach the product's program")?,
        ))
    }

    /// Takes the router away again.
    pub(super) fn stop(&mut self, standing: Standing) -> Result<()> {
        match standing {
            Standing::Nothing => Ok(()),
            Standing::Nft => nft::unload(&self.topology.router),
            Standing::Own(name, links) => detach(self.yardstick.program(name)?, links),
            Standing::Product(links) => detach(self.product.program()?, links),
        }
    }
}

fn attach(program: &mut Xdp, devices: &[&str], mode: XdpMode) -> Result<Vec<XdpLinkId>> {
    let attach = |device: &&str| {
        let link = program.attach(device, mode);
        link.with_context(|| format!("to {device}"))
    };
    devices.iter().map(attach).collect()
}

fn detach(program: &mut Xdp, links: Vec<XdpLinkId>) -> Result<()> {
    for link in links {
        program.detach(link)?;
    }
    Ok(())
}
