//! Ctrl-C and SIGTERM end the work in an orderly way: namespaces and mounts have to go.

use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Result, bail};
use nix::sys::signal::{SigSet, Signal};

static ASKED: Mutex<bool> = Mutex::new(false);
static WAITERS: Condvar = Condvar::new();

/// Takes the signals away from the default action; to be called before any thread is started.
pub(crate) fn watch() {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect();
    signals.thread_block().expect("the mask is a valid one");
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            *ASKED.lock().unwrap_or_else(PoisonError::into_inner) = true;
            WAITERS.notify_all();
        }
    });
}

/// An error once somebody wants us to end.
pub(crate) fn check() -> Result<()> {
    if *ASKED.lock().unwrap_or_else(PoisonError::into_inner) {
        bail!("interrupted; everything has been cleaned up");
    }
    Ok(())
}

/// Returns when somebody wants us to end.
pub(crate) fn wait() {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    drop(
        WAITERS
            .wait_while(asked, |asked| !*asked)
            .unwrap_or_else(PoisonError::into_inner),
    );
}
