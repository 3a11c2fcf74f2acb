//! How far an Alertmanager's clock is from ours.
//!
//! It ends what has an `endsAt` in its past at once, with status 200: a sender whose clock lags by more than its alerts
//! are to last never alerts at all. Where the clocks differ by much, alerts therefore carry its times, not ours.

use crate::domain::time::Wall;

/// Clocks may differ by this much. With [`HORIZON`](super::wire::HORIZON) an alert then lasts for three more posts, and
/// a reply that was under way for its whole deadline is not mistaken for a wrong clock.
const TOLERATED_MS: i64 = 30_000;

/// How far its clock is ahead of ours, in milliseconds; zero where the difference is tolerated.
#[derive(Debug, Default)]
pub(super) struct Skew {
    ahead_ms: i64,
}

impl Skew {
    /// How far ahead it is, in milliseconds; negative when it is behind.
    pub(super) fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }

    /// Learns from the `Date` of a reply that came at `ours`. Gives back the difference if it is another one than before.
    pub(super) fn learn(&mut self, theirs: Wall, ours: Wall) -> Option<i64> {
        // `Date` has whole seconds (RFC 9110, section 5.6.7); half a second is cut off on average.
        let measured = theirs.0.saturating_add(500).saturating_sub(ours.0);
        // What is known is kept until it is wrong: `startsAt` should not wander with every measurement.
        if measured.saturating_sub(self.ahead_ms).saturating_abs() <= TOLERATED_MS {
            return None;
        }
        self.ahead_ms = if measured.saturating_abs() <= TOLERATED_MS { 0 } else { measured };
        Some(self.ahead_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_far_off_is_noticed_once_and_so_is_its_return() {
        let mut skew = Skew::default();
        let mut learn = |ahead: i64| {
            let news = skew.learn(Wall(1_000_000 + ahead - 500), Wall(1_000_000));
            (news, skew.ahead_ms())
        };
        assert_eq!(learn(0), (None, 0));
        assert_eq!(learn(30_000), (None, 0), "tolerated");
        assert_eq!(learn(-30_000), (None, 0), "tolerated");
        assert_eq!(learn(3_600_000), (Some(3_600_000), 3_600_000));
        assert_eq!(learn(3_599_000), (None, 3_600_000), "the same difference, measured again");
        assert_eq!(learn(-3_600_000), (Some(-3_600_000), -3_600_000));
        assert_eq!(learn(10), (Some(0), 0), "set right");
        assert_eq!(learn(10), (None, 0));
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let mut skew = Skew::default();
        assert_eq!(skew.learn(Wall(i64::MAX), Wall(i64::MIN)), Some(i64::MAX));
        skew.learn(Wall(i64::MIN), Wall(i64::MAX));
        assert_eq!(skew.learn(Wall(0), Wall(0)), Some(0));
    }
}
