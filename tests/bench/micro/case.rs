//! One thing to measure, and how to measure it once.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use forebay_common::abi::names;
use forebay_common::reason::Reason;

use super::stage::Stage;
use crate::bpf;
use crate::product::expect_reasons;
use crate::product::outbound::Taken;
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
    /// The product, which refuses SNAT ports: because none is free, or because it is still looking.
    Refusing,
}

/// What the measurement is to be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    /// Times the yardstick.
    Ratio(f64),
    /// Nanoseconds, net.
    Net(f64),
}

/// Undoes what packets with these numbers left behind.
pub(crate) type CleanUp = Box<dyn Fn(&Stage, Range<u64>) -> Result<()>>;

/// Something done around a case.
pub(crate) type Step = fn(&mut Stage, &Setting) -> Result<()>;

/// What a case needs beside what is always there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Setting {
    /// Packets come in by the interface that instances are behind.
    pub(crate) from_instances: bool,
    /// There are public IPs.
    pub(crate) public_ips: bool,
    /// SNAT ports in use.
    pub(crate) taken: Option<Taken>,
}

/// One thing to measure.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) driver: &'static str,
    pub(crate) target: Target,
    pub(crate) plan: Plan,
    pub(crate) frame: Vec<u8>,
    pub(crate) setting: Setting,
    /// Takes the ports of the setting, and gives them back.
    pub(crate) around: Option<[Step; 2]>,
    /// Packets of a run.
    pub(crate) repeat: u32,
    /// Runs of a sample; what one left behind is gone before the next.
    pub(crate) runs: u32,
    /// Runs until this much time has passed, if that takes more of them.
    pub(crate) lasting: Duration,
    /// XDP action of the last packet.
    pub(crate) returns: u32,
    /// What the first packet becomes.
    pub(crate) becomes: Option<Vec<u8>>,
    pub(crate) clean_up: Option<CleanUp>,
    /// Every packet opens a flow.
    pub(crate) opens: bool,
    /// Case whose time is not this one's own.
    pub(crate) floor: Option<String>,
    /// Case to compare with.
    pub(crate) yardstick: Option<String>,
    pub(crate) goal: Option<Goal>,
}

impl Case {
    /// Packets that go before the ones that are timed.
    fn warm_up(&self) -> u32 {
        (self.repeat / 4).max(1)
    }

    /// Nanoseconds a packet.
    pub(crate) fn sample(&self, stage: &mut Stage) -> Result<f64> {
        self.within(stage, Self::take)
            .with_context(|| format!("measure {:?}", self.name))
    }

    /// Looks whether the program does what is to be measured.
    pub(crate) fn verify(&self, stage: &mut Stage) -> Result<()> {
        self.within(stage, Self::look)
            .with_context(|| format!("try {:?}", self.name))
    }

    /// Does something with everything in place for it.
    fn within<T>(
        &self,
        stage: &mut Stage,
        work: impl FnOnce(&Self, &mut Stage) -> Result<T>,
    ) -> Result<T> {
        self.prepare(stage)?;
        if let Some([before, _]) = self.around {
            before(stage, &self.setting)?;
        }
        let outcome = work(self, stage);
        if let Some([_, after]) = self.around {
            after(stage, &self.setting)?;
        }
        outcome
    }

    fn take(&self, stage: &mut Stage) -> Result<f64> {
        let before = Counts::read(stage)?;
        let mut sent = self.run_once(stage, 0, self.warm_up())?.0;
        let (mut runs, mut time) = (0, Duration::ZERO);
        while runs < self.runs || time < self.lasting {
            let (end, took) = self.run_once(stage, sent, self.repeat)?;
            sent = end;
            time += took;
            runs += 1;
        }
        self.check_counts(&before, &Counts::read(stage)?, sent)?;
        Ok(time.as_nanos() as f64 / (f64::from(self.repeat) * f64::from(runs)))
    }

    /// One run, whose packets are numbered from `first` on; the number behind them, and the time.
    fn run_once(&self, stage: &mut Stage, first: u64, packets: u32) -> Result<(u64, Duration)> {
        let arriving = stage.arriving(&self.frame, &self.setting);
        let run = bpf::run(stage.yardstick.program(self.driver)?, arriving, packets)?;
        self.check_action(run.returned)?;
        let end = first + u64::from(packets);
        if let Some(clean_up) = &self.clean_up {
            clean_up(stage, first..end).context("clean up")?;
        }
        Ok((end, run.time))
    }

    fn look(&self, stage: &mut Stage) -> Result<()> {
        let arriving = stage.arriving(&self.frame, &self.setting);
        let (returned, frame) = bpf::run_once(stage.yardstick.program(self.driver)?, arriving)?;
        self.check_action(returned)?;
        if let Some(expected) = &self.becomes
            && *expected != frame
        {
            bail!("the packet became\n  {frame:02x?}\ninstead of\n  {expected:02x?}");
        }
        if let Some(clean_up) = &self.clean_up {
            clean_up(stage, 0..1).context("clean up")?;
        }
        Ok(())
    }

    fn check_action(&self, returned: u32) -> Result<()> {
        if returned != self.returns {
            bail!("XDP action {returned} instead of {}", self.returns);
        }
        Ok(())
    }

    fn prepare(&self, stage: &mut Stage) -> Result<()> {
        stage.yardstick.set_plan(&self.plan)?;
        stage.product.set_public_ips(self.setting.public_ips)?;
        match self.target {
            Target::Alone => Ok(()),
            Target::Bench(name) | Target::Minimal(name) => stage.yardstick.set_own_target(name),
            Target::Product(_) | Target::Refusing => {
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
                expect_reasons(&before.reasons, &after.reasons, &[reason], packets)?;
                let opened = after.opened - before.opened;
                let expected = if self.opens { packets } else { 0 };
                if opened != expected {
                    bail!("{opened} flows were opened instead of {expected}");
                }
            }
            Target::Refusing => {
                let either = [Reason::SnatExhausted, Reason::SnatSearching];
                expect_reasons(&before.reasons, &after.reasons, &either, packets)?;
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
