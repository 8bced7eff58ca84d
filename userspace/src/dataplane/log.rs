//! Lines that the program writes, through aya-log.

use anyhow::{Context, Result};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;

/// The level for the program: what the daemon would not show is not even compiled in by the verifier.
fn level() -> u8 {
    match log::max_level() {
        log::LevelFilter::Debug => aya_log::Level::Debug as u8,
        log::LevelFilter::Trace => aya_log::Level::Trace as u8,
        _ => 0,
    }
}

/// Sets the program's level before it is loaded.
pub(super) fn set_level(loader: &mut EbpfLoader<'_>) {
    static LEVELS: [u8; 6] = [0, 1, 2, 3, 4, 5];
    if let Some(level) = LEVELS.get(usize::from(level())) {
        loader.override_global(aya_log::LEVEL, level, true);
    }
}

/// Passes the program's lines on to the daemon's log, for as long as the runtime runs.
pub(super) fn follow(object: &mut Ebpf) -> Result<()> {
    if level() == 0 {
        return Ok(());
    }
    let logger = EbpfLogger::init(object).context("read the program's log")?;
    // SAFETY: the logger owns its descriptor and keeps the same one open for as long as it lives.
    let logger = unsafe { AsyncFd::register(logger) };
    let mut logger = logger.context("read the program's log")?;
    tokio::spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Ok(())
}
