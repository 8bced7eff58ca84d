//! How many connections may be open at once.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Open files that are left to the rest of the daemon.
const FOR_OTHERS: u64 = 256;
/// More connections at once are not made, however many files may be open.
const MOST: u64 = 32 * 1024;
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Room for connections, shared by all probes.
#[derive(Debug)]
pub(super) struct Room {
    places: Semaphore,
    size: u64,
    open_files: u64,
    began: Instant,
    /// Seconds since then.
    told: AtomicU64,
}

impl Room {
    /// As much as this process may have; its limit is raised as far as that is allowed.
    pub(super) fn find() -> Self {
        let open_files = raise_limit().unwrap_or_else(|error| {
            log::warn!("raise the limit of open files: {error}");
            1024
        });
        Self::of(open_files)
    }

    pub(super) fn of(open_files: u64) -> Self {
        // With a tiny limit the half of it, which is better than nothing.
        let others = FOR_OTHERS.min(open_files / 2);
        let size = (open_files - others).clamp(1, MOST);
        Self {
            places: Semaphore::new(size as usize),
            size,
            open_files,
            began: Instant::now(),
            told: AtomicU64::new(u64::MAX),
        }
    }

    /// Waits for room for one connection.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }

    /// Whether so many addresses can be silent at once without keeping others from being probed; if not, what to do.
    pub(super) fn shortage(&self, probed: usize) -> Option<String> {
        (probed as u64 > self.size).then(|| {
            format!(
                "{probed} addresses are probed, and there is room for {} connections at once (limit of open files: {}): when many are silent, others wait. Raise LimitNOFILE of the service, or ulimit -n",
                self.size, self.open_files
            )
        })
    }

    /// Tells, now and then, that a probe could not be sent.
    pub(super) fn tell_that_it_is_full(&self) {
        let now = self.began.elapsed().as_secs();
        let told = self.told.load(Ordering::Relaxed);
        if told == u64::MAX || now.saturating_sub(told) >= TOLD_EVERY.as_secs() {
            self.told.store(now, Ordering::Relaxed);
            log::warn!(
                "probes cannot be sent: no file descriptor, port or memory is left for them (room for {} connections, limit of open files: {}). Raise LimitNOFILE of the service, or ulimit -n",
                self.size,
                self.open_files
            );
        }
    }
}

fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        log::debug!("the limit of open files is raised from {soft} to {hard}");
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_leaves_files_to_others() {
        for (open_files, size) in [
            (1_048_576, 32_768),
            (20_000, 19_744),
            (1024, 768),
            (100, 50),
            (0, 1),
        ] {
            assert_eq!(Room::of(open_files).size, size, "{open_files}");
        }
    }

    #[test]
    fn shortage_names_the_limit_and_the_remedy() {
        let room = Room::of(1024);
        assert_eq!(room.shortage(768), None);
        let shortage = room.shortage(769).unwrap();
        for part in ["769 addresses", "768 connections", "1024", "LimitNOFILE"] {
            assert!(shortage.contains(part), "{shortage}");
        }
    }

    #[test]
    fn limit_is_raised_to_what_is_allowed() {
        let allowed = raise_limit().unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!((soft, hard), (allowed, allowed));
    }
}
