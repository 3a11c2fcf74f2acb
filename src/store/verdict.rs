//! Whether decisions reach the disk in time, and how long a failed one is left alone. Pure: moments are counted from the store's
//! beginning, by whoever asks. The queue does, and the simulated world.

use super::Limits;
use crate::domain::event::StoreHealth;
use std::time::Duration;

/// What is known of the disk at a moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Found {
    /// When the oldest was handed over of what is not committed.
    pub oldest: Option<Duration>,
    /// The disk fails, or the journal has a hole.
    pub bad: bool,
}

/// The verdict about the disk.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verdict {
    /// When it was last not well.
    last_bad: Option<Duration>,
}

impl Verdict {
    /// Gives the verdict at `now`, and after how long time alone may change it.
    pub fn judge(&mut self, found: Found, limits: &Limits, now: Duration) -> (StoreHealth, Option<Duration>) {
        if found.bad || is_late(found.oldest, limits, now) {
            self.last_bad = Some(now);
        }
        let left = |until: Duration| Some(until.saturating_sub(now)).filter(|left| !left.is_zero());
        let well_in = self.last_bad.and_then(|bad| left(bad + limits.recovery_after));
        let health = if well_in.is_some() { StoreHealth::Degraded } else { StoreHealth::Durable };
        // What is late already is looked at again when the recovery could be over.
        let late_in = found.oldest.and_then(|oldest| left(oldest + limits.commit_deadline));
        (health, [late_in, well_in].into_iter().flatten().min())
    }
}

/// Whether what waits has waited for too long.
pub(super) fn is_late(oldest: Option<Duration>, limits: &Limits, now: Duration) -> bool {
    oldest.is_some_and(|oldest| now.saturating_sub(oldest) >= limits.commit_deadline)
}

/// The pauses before a failed database is opened again.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// After a database that worked.
    pub fn new(limits: &Limits) -> Backoff {
        Backoff { next: limits.retry_first, longest: limits.retry_longest }
    }

    /// The next pause.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_disk_is_degraded_from_its_deadline_until_it_was_well_for_long_enough() {
        let (limits, mut verdict) = (Limits::default(), Verdict::default());
        let waits = Found { oldest: Some(MS(1_000)), bad: false };
        let calm = Found::default();
        for (now, found, expected) in [
            (1_000, waits, (StoreHealth::Durable, Some(MS(500)))),
            (1_499, waits, (StoreHealth::Durable, Some(MS(1)))),
            (1_500, waits, (StoreHealth::Degraded, Some(MS(2_000)))),
            (1_600, calm, (StoreHealth::Degraded, Some(MS(1_900)))),
            (3_499, calm, (StoreHealth::Degraded, Some(MS(1)))),
            (3_500, calm, (StoreHealth::Durable, None)),
            (4_000, Found { oldest: None, bad: true }, (StoreHealth::Degraded, Some(MS(2_000)))),
        ] {
            assert_eq!(verdict.judge(found, &limits, MS(now)), expected, "at {now} ms");
        }
    }

    #[test]
    fn a_failed_database_is_tried_ever_more_slowly() {
        let mut backoff = Backoff::new(&Limits::default());
        let pauses: Vec<u128> = (0..9).map(|_| backoff.pause().as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
    }
}
