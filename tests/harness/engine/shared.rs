//! One live program for all tests of a suite: loading it takes longer than most cases.

use std::sync::{Mutex, PoisonError};

use super::Live;

static LIVE: Mutex<Option<Live>> = Mutex::new(None);

/// Runs a test on the live program, one test at a time. Without root it prints why not and returns
/// `None`.
///
/// # Panics
/// When the program is not built or cannot be loaded.
pub fn with_live<T>(test: impl FnOnce(&mut Live) -> T) -> Option<T> {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: loading programs and making networks needs root");
        return None;
    }
    // A test that failed may have left anything in the maps; whoever comes next loads its own world.
    let mut shared = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    let live = match &mut *shared {
        Some(live) => live,
        none => none.insert(Live::start().unwrap_or_else(|error| panic!("{error:#}"))),
    };
    live.enter().unwrap_or_else(|error| panic!("{error:#}"));
    Some(test(live))
}
