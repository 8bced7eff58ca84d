//! Trials: the daemon runs a SYN through the program as if a client had sent it, and the program catches the
//! answer of the instance. Packets take the way of any other first packet; what is different is here.

use super::{Goes, Step};
use crate::abi::Trial;
use crate::family::Family;
use crate::flow::FlowKey;
use crate::reason::Reason;
use crate::tables::{Shared, Tables};
use crate::wire::{Ethernet, Frame, Transport, tcp_flags};

/// What becomes of a packet from an instance that belongs to the flow of a trial: it goes no further, and if it would
/// have an answer, that is a RST, so that no service hears of the trial.
///
/// # Errors
/// Nobody has asked for it.
#[inline(always)]
pub(super) fn caught<A: Family, T: Tables<A>>(
    tables: &T,
    key: &FlowKey<A>,
    transport: &Transport<'_>,
) -> Result<Step, Reason> {
    let Transport::Tcp(tcp) = transport else {
        return Err(Reason::NoFlow);
    };
    let flags = tcp.flags.get();
    let port = key.destination_port();
    let place = Trial::place(port);
    let acknowledged = u32::from_be(tcp.acknowledgement.get());
    let is_expected = flags & tcp_flags::ACK != 0
        && tables.trial(place).is_some_and(|trial| {
            trial.port == u32::from(port) && trial.acknowledged == acknowledged
        });
    if is_expected {
        tables.note_trial_answer(place, Trial::answer_of(flags));
    }
    let is_end = flags & tcp_flags::RST != 0;
    let cause = match (is_expected, is_end) {
        (true, true) => return Ok(nowhere()),
        (true, false) => Reason::Trial,
        (false, true) => return Err(Reason::NoFlow),
        (false, false) => Reason::UnknownConnection,
    };
    let noted = tables.per_cpu(|cpu| cpu.complaint = cause as u32);
    noted.ok_or(Reason::NotLoaded)?;
    Ok(Step::stage(Goes::Refuse))
}

/// Whether a packet with this key comes from the source of trials.
///
/// VERIFIER: asked twice rather than remembered, because all that lies between would be verified once for each
/// answer.
#[inline(never)]
pub(super) fn is_one<A: Family>(key: &FlowKey<A>) -> bool {
    key.source == A::TRIALS
}

/// Whether a packet from the source of trials, with this source port, is one: nobody else knows its MAC address.
#[inline(always)]
pub(super) fn is_genuine<F: Frame, T: Shared>(frame: &F, tables: &T, port: u16) -> bool {
    let Some(ethernet) = frame.at::<Ethernet>(0) else {
        return false;
    };
    let mac = ethernet.source.get();
    tables
        .trial(Trial::place(port))
        .is_some_and(|trial| port != 0 && trial.port == u32::from(port) && trial.mac() == mac)
}

/// Tells the daemon what became of a trial. It leaves if it was translated, and goes nowhere otherwise: no
/// complaint, no answer, and nothing for the host.
#[inline(always)]
pub(super) fn told<T: Shared>(tables: &T, port: u16, step: Result<Step, Reason>) -> Step {
    let (reason, step) = match step {
        // With the next member.
        Ok(step) if step.goes == Goes::First => return step,
        Ok(step)
            if matches!(
                step.goes,
                Goes::Pass | Goes::Back | Goes::Across | Goes::Tagged
            ) =>
        {
            (
                step.reason,
                Step {
                    reason: Reason::Trial,
                    ..step
                },
            )
        }
        Ok(_) => (Reason::NoRule, nowhere()),
        Err(reason) => (reason, nowhere()),
    };
    tables.note_trial(Trial::place(port), Trial::verdict_of(reason as u32));
    step
}

#[inline(always)]
fn nowhere() -> Step {
    Step::to(Goes::Drop, Reason::Trial, 0)
}
