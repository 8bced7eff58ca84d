//! One thing to measure, and how to measure it once.

use anyhow::{Context, Result, bail};
use forebay_common::abi::names;
use forebay_common::reason::Reason;

use super::stage::Stage;
use crate::bpf;
use crate::product::expect_reason;
use crate::shared::Plan;

/// What the driver calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nothing: the program is run by itself.
    Alone,
    /// A program of the bench.
    Bench(&'static str),
    /// The minimal translator of a family: it counts its packets.
    Minimal(&'static str),
    /// The product, which counts under this reason.
    Product(Reason),
}

/// What the measurement is to be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Times the yardstick.
    Ratio(f64),
    /// Nanoseconds, net.
    Net(f64),
}

/// Undoes what so many packets of a case left behind.
pub(crate) type CleanUp = fn(&Stage, u64) -> Result<()>;

/// One thing to measure.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) driver: &'static str,
    pub(crate) target: Target,
    pub(crate) plan: Plan,
    pub(crate) frame: Vec<u8>,
    pub(crate) repeat: u32,
    /// XDP action of the last packet.
    pub(crate) returns: u32,
    /// What the first packet becomes.
    pub(crate) becomes: Option<Vec<u8>>,
    pub(crate) clean_up: Option<CleanUp>,
    /// Case whose time is not this one's own.
    pub(crate) floor: Option<String>,
    /// Case to compare with.
    pub(crate) yardstick: Option<String>,
    pub(crate) goal: Option<Goal>,
}

impl Case {
    /// Packets that go before the ones that are timed.
    fn warm_up(&self) -> u32 {
        self.repeat / 4
    }

    /// Nanoseconds a packet.
    pub(crate) fn sample(&self, stage: &mut Stage) -> Result<f64> {
        self.take(stage)
            .with_context(|| format!("measure {:?}", self.name))
    }

    fn take(&self, stage: &mut Stage) -> Result<f64> {
        self.prepare(stage)?;
        let before = Counts::read(stage)?;
        let driver = stage.yardstick.program(self.driver)?;
        bpf::run(driver, &self.frame, self.warm_up())?;
        let run = bpf::run(driver, &self.frame, self.repeat)?;
        if run.returned != self.returns {
            bail!("XDP action {} instead of {}", run.returned, self.returns);
        }
        let packets = u64::from(self.warm_up()) + u64::from(self.repeat);
        self.check_counts(&before, &Counts::read(stage)?, packets)?;
        if let Some(clean_up) = self.clean_up {
            clean_up(stage, packets).context("clean up")?;
        }
        Ok(run.time.as_nanos() as f64 / f64::from(self.repeat))
    }

    /// Looks whether the program does what is to be measured.
    pub(crate) fn verify(&self, stage: &mut Stage) -> Result<()> {
        self.prepare(stage)?;
        let driver = stage.yardstick.program(self.driver)?;
        let (returned, frame) = bpf::run_once(driver, &self.frame)?;
        let name = &self.name;
        if returned != self.returns {
            bail!(
                "{name:?}: XDP action {returned} instead of {}",
                self.returns
            );
        }
        if let Some(expected) = &self.becomes
            && *expected != frame
        {
            bail!("{name:?}: the packet became\n  {frame:02x?}\ninstead of\n  {expected:02x?}");
        }
        if let Some(clean_up) = self.clean_up {
            clean_up(stage, 1).with_context(|| format!("clean up after {name:?}"))?;
        }
        Ok(())
    }

    fn prepare(&self, stage: &mut Stage) -> Result<()> {
        stage.yardstick.set_plan(&self.plan)?;
        match self.target {
            Target::Alone => Ok(()),
            Target::Bench(name) | Target::Minimal(name) => stage.yardstick.set_own_target(name),
            Target::Product(_) => {
                let product = stage.product.program()?.fd()?.try_clone()?;
                stage
                    .yardstick
                    .set_target(&product)
                    .with_context(|| format!("let the driver call {}", names::PROGRAM))
            }
        }
    }

    fn check_counts(&self, before: &Counts, after: &Counts, packets: u64) -> Result<()> {
        match self.target {
            Target::Product(reason) => {
                expect_reason(&before.reasons, &after.reasons, reason, packets)?;
                let opened = after.opened - before.opened;
                let expected = if self.clean_up.is_some() { packets } else { 0 };
                if opened != expected {
                    bail!("{opened} flows were opened instead of {expected}");
                }
            }
            Target::Minimal(_) => {
                let counted = after.translated - before.translated;
                if counted != packets {
                    bail!("{counted} packets were translated instead of {packets}");
                }
            }
            Target::Alone | Target::Bench(_) => {}
        }
        Ok(())
    }
}

/// What the programs count.
struct Counts {
    reasons: Vec<u64>,
    opened: u64,
    translated: u64,
}

impl Counts {
    fn read(stage: &Stage) -> Result<Self> {
        Ok(Self {
            reasons: stage.product.reasons()?,
            opened: stage.product.new_flows()?,
            translated: stage.yardstick.packets()?,
        })
    }
}
