//! When the next probe starts. Pure: times come in, a time goes out.
//!
//! At the normal pace a server's probes stand on a grid of the boot clock whose phase is a hash of its id: a fleet spreads
//! over the interval, and keeps its place across restarts of ours. At the fast pace the next probe starts a fast interval
//! after the end of the last, so that two never overlap and a slow answer is not asked for twice.

use super::spec::{Purpose, Spec};
use crate::domain::action::Pace;
use crate::domain::id::ServerId;
use crate::domain::jitter;
use crate::domain::time::{Boot, Span};
use std::time::Duration;

/// One server's plan.
#[derive(Debug, Clone, Copy)]
pub struct Cadence {
    seed: u64,
    interval: i64,
    fast: i64,
    jitter: u64,
}

/// The last probe.
#[derive(Debug, Clone, Copy)]
pub struct Last {
    /// How many came before it.
    pub attempt: u64,
    /// When the plan wanted it.
    pub due: Boot,
    /// When it ended.
    pub ended: Boot,
}

impl Cadence {
    /// The plan that `spec` asks for.
    pub(super) fn new(spec: &Spec) -> Cadence {
        Cadence::of(spec.server, spec.purpose, spec.interval, spec.fast_interval, spec.jitter)
    }

    /// One probe each `interval`, or `fast` after the last one when something is unsettled; `jitter`: at most so much later.
    pub fn of(
        server: ServerId,
        purpose: Purpose,
        interval: Duration,
        fast: Duration,
        jitter: Duration,
    ) -> Cadence {
        let interval = milliseconds(interval).max(1);
        let jitter = u64::try_from(jitter.as_millis()).unwrap_or(u64::MAX);
        Cadence {
            seed: jitter::seed(&format!("{server} {purpose:?}")),
            interval,
            fast: milliseconds(fast).max(1),
            // More than half an interval would let two probes change places.
            jitter: jitter.min(interval.unsigned_abs() / 2),
        }
    }

    /// The first probe: soon, but not all servers at the same moment.
    pub fn first(&self, now: Boot) -> Boot {
        now + Span(self.seed % self.fast.unsigned_abs())
    }

    /// The probe after `last`. It may lie in the past: then it starts at once, and is that late.
    pub fn next(&self, last: Last, pace: Pace, now: Boot) -> Boot {
        match pace {
            Pace::Fast => Boot(last.ended.0.saturating_add(self.fast)),
            Pace::Normal => {
                // A place stands at most `jitter` before its `due`, so the first place after `due` is the next one.
                // Places that have gone by during a long probe are not made up for.
                let after = last.due.0.max(now.0.saturating_sub(1));
                let phase = i64::try_from(self.seed % self.interval.unsigned_abs()).unwrap_or(0);
                let place = after - (after - phase).rem_euclid(self.interval) + self.interval;
                Boot(place) + self.jitter(last.attempt.wrapping_add(1))
            }
        }
    }

    /// The same for the same server and attempt, on every machine and after every restart.
    fn jitter(&self, attempt: u64) -> Span {
        match self.jitter {
            0 => Span::ZERO,
            most => Span(jitter::attempt(self.seed, attempt) % (most + 1)),
        }
    }
}

fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cadence(name: &str, interval: i64, fast: i64, jitter: u64) -> Cadence {
        Cadence { seed: jitter::seed(name), interval, fast, jitter }
    }

    #[test]
    fn a_fleet_spreads_over_the_interval() {
        let mut tenths = [0; 10];
        for n in 0..1000 {
            let cadence = cadence(&format!("api-{n}"), 1000, 250, 0);
            let last = Last { attempt: 0, due: Boot(0), ended: Boot(5) };
            let due = cadence.next(last, Pace::Normal, Boot(1_000_000));
            tenths[usize::try_from(due.0 % 1000 / 100).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|&n| (60..=140).contains(&n)), "{tenths:?}");
    }

    #[test]
    fn fast_probes_follow_the_end_of_the_last_one() {
        let cadence = cadence("a", 1000, 250, 100);
        let last = Last { attempt: 3, due: Boot(5_000), ended: Boot(5_900) };
        assert_eq!(cadence.next(last, Pace::Fast, Boot(5_900)), Boot(6_150));
        assert_eq!(cadence.next(last, Pace::Fast, Boot(9_000)), Boot(6_150), "overdue, so it starts at once");
    }

    #[test]
    fn probes_missed_during_a_long_one_are_not_made_up_for() {
        let cadence = cadence("a", 1000, 250, 0);
        let last = Last { attempt: 0, due: cadence.first(Boot(10_000)), ended: Boot(17_345) };
        let due = cadence.next(last, Pace::Normal, Boot(17_345));
        assert!((17_345..18_345).contains(&due.0), "{due:?}");
    }

    proptest! {
        #[test]
        fn normal_probes_are_one_interval_apart_give_or_take_the_jitter(
            interval in 2_i64..100_000, part in 0_u64..=50, start in 0_i64..1_000_000,
        ) {
            let jitter = interval.unsigned_abs() * part / 100;
            let cadence = cadence("a", interval, 10, jitter);
            let mut due = cadence.next(
                Last { attempt: 0, due: Boot(start), ended: Boot(start) }, Pace::Normal, Boot(start));
            for attempt in 1..50 {
                let ended = due + Span(1);
                let next = cadence.next(Last { attempt, due, ended }, Pace::Normal, ended);
                let apart = next.0 - due.0;
                let most = i64::try_from(jitter).unwrap();
                prop_assert!((interval - most..=interval + most).contains(&apart), "{apart}");
                due = next;
            }
        }
    }
}
