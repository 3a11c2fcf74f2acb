//! Damping: what happens again and again weighs more than what happens once, and is forgotten with a half-life.
//!
//! Each occurrence adds [`ONCE`] to a level that halves in every half-life. From `enter` on, the thing counts as
//! troubled; it stays so until the level has sunk to `leave`. Only occurrences change what is stored: calm costs nothing,
//! and the moment at which calm is believed is known in advance, as a deadline wants it. (The method of route flap
//! damping, RFC 2439 section 4.)
//!
//! Two things are damped so: the falls of a server (*flapping*), and its bad or slow answers (*degraded*).

use super::time::{Boot, Span};
use serde::{Deserialize, Serialize};

/// What one occurrence adds to the level.
pub const ONCE: u32 = 1_000;

/// The level is capped at so many times `leave`: however bad the past was, it is forgotten after four half-lives.
/// (RFC 2439 calls this the maximum hold-down time, and suggests four half-lives.)
const CEILING: u32 = 16;

/// How fast is forgotten, and how much is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damper {
    /// The level halves in this time; at least 1 ms.
    pub half_life: Span,
    /// Troubled from this level on.
    pub enter: u32,
    /// No longer when the level has sunk to this; at least 1, below `enter`.
    pub leave: u32,
}

/// How often it happened lately, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Damped {
    /// The level right after the last occurrence.
    pub level: u32,
    /// When that was.
    pub at: Boot,
    /// Troubled until then, if nothing more happens; none: not troubled.
    pub until: Option<Boot>,
}

/// Nothing is ever too much.
impl Default for Damper {
    fn default() -> Damper {
        Damper { half_life: Span(1), enter: u32::MAX, leave: 1 }
    }
}

impl Damper {
    /// Troubled from the `n`-th occurrence on, if they come within about a half-life of each other; no longer when as
    /// much as one is left. With `n` = 0: never.
    pub fn nth(n: u16, half_life: Span) -> Damper {
        let half_life = half_life.max(Span(1));
        match n {
            0 => Damper { half_life, ..Damper::default() },
            // Half of one less: the earlier ones have faded a little when the n-th comes.
            n => Damper {
                half_life,
                enter: u32::from(n) * ONCE - ONCE / 2,
                leave: ONCE.min(u32::from(n) * ONCE / 2),
            },
        }
    }

    /// The level `elapsed` after it was `level`. Within a half-life it sinks evenly.
    fn faded(self, level: u32, elapsed: Span) -> u32 {
        let halvings = u32::try_from(elapsed.0 / self.half_life.0).unwrap_or(u32::MAX);
        let level = u64::from(level.checked_shr(halvings).unwrap_or(0));
        let rest = elapsed.0 % self.half_life.0;
        let sunk = level * rest / (2 * self.half_life.0);
        u32::try_from(level - sunk).unwrap_or(0)
    }

    /// After how long `level` has sunk to `self.leave`.
    fn calm_after(self, level: u32) -> Span {
        let (mut level, mut after) = (u64::from(level), 0);
        let leave = u64::from(self.leave.max(1));
        while level / 2 >= leave {
            level /= 2;
            after += self.half_life.0;
        }
        let above = level.saturating_sub(leave);
        Span(after + (2 * above * self.half_life.0).div_ceil(level.max(1)))
    }
}

impl Damped {
    /// After one more occurrence, at `at`.
    #[must_use]
    pub fn again(self, at: Boot, damper: Damper) -> Damped {
        let ceiling = damper.leave.saturating_mul(CEILING).max(damper.enter);
        let level = damper.faded(self.level, at.since(self.at)).saturating_add(ONCE).min(ceiling);
        let troubled = level >= damper.enter || self.is_troubled(at);
        Damped { level, at, until: troubled.then(|| at + damper.calm_after(level)) }
    }

    /// Whether it is troubled at `now`.
    pub fn is_troubled(&self, now: Boot) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Calm again, if its time has come; none if there is nothing to change.
    pub fn calmed(self, now: Boot) -> Option<Damped> {
        self.until.filter(|until| *until <= now).map(|_| Damped { until: None, ..self })
    }

    /// The same on another clock.
    pub(super) fn shift(&mut self, by: i64) {
        self.at = self.at.shift(by);
        self.until = self.until.map(|until| until.shift(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::assert_table;
    use proptest::prelude::*;

    const MINUTE: Span = Span::seconds(60);

    fn after(damper: Damper, moments: &[u64]) -> Damped {
        moments
            .iter()
            .fold(Damped::default(), |damped, at| damped.again(Boot(0) + Span::seconds(*at), damper))
    }

    #[test]
    fn the_third_fall_within_a_half_life_is_too_much_the_second_is_not() {
        let damper = Damper::nth(3, MINUTE);
        assert_eq!(after(damper, &[0]).until, None);
        assert_eq!(after(damper, &[0, 10]).until, None);
        assert!(after(damper, &[0, 10, 20]).until.is_some());
    }

    #[test]
    fn falls_that_are_far_apart_never_add_up() {
        let damper = Damper::nth(3, MINUTE);
        let hourly: Vec<u64> = (0..50).map(|n| n * 3600).collect();
        assert_eq!(after(damper, &hourly).until, None);
        assert_eq!(after(damper, &hourly).level, ONCE, "each is forgotten before the next");
    }

    #[test]
    fn the_level_halves_in_each_half_life() {
        let damper = Damper::nth(3, MINUTE);
        assert_eq!(damper.faded(4_000, Span::ZERO), 4_000);
        assert_eq!(damper.faded(4_000, MINUTE), 2_000);
        assert_eq!(damper.faded(4_000, Span::seconds(120)), 1_000);
        assert_eq!(damper.faded(4_000, Span::seconds(30)), 3_000, "half-way, evenly");
        assert_eq!(damper.faded(4_000, Span(u64::MAX)), 0);
    }

    #[test]
    fn calm_is_believed_when_the_level_has_sunk_to_leave() {
        let damper = Damper::nth(3, MINUTE);
        // Three at once: 3,000. One half-life to 1,500, then evenly to 1,000: two thirds of the way to 750.
        let three = after(damper, &[0, 0, 0]);
        assert_eq!(three.until, Some(Boot(60_000 + 40_000)));
        assert!(three.is_troubled(Boot(99_999)) && !three.is_troubled(Boot(100_000)));
        assert_eq!(three.calmed(Boot(99_999)), None);
        assert_eq!(three.calmed(Boot(100_000)).map(|damped| damped.until), Some(None));
    }

    #[test]
    fn one_more_while_troubled_puts_calm_off() {
        let damper = Damper::nth(3, MINUTE);
        let troubled = after(damper, &[0, 0, 0]);
        let again = troubled.again(Boot(90_000), damper);
        assert!(again.level < damper.enter, "by itself it would not be too much");
        assert!(again.until > troubled.until);
    }

    #[test]
    fn nothing_is_too_much_without_a_limit() {
        let damper = Damper::nth(0, MINUTE);
        assert_eq!(after(damper, &[0; 1000]).until, None);
    }

    /// One once, two: nearly too much, three: too much; then later, in half-lives, and once more or calm again.
    #[test]
    fn no_level_and_no_later_moment_is_left_out() {
        let table = "
               nothing once twice thrice
again_at_once  1000    2000 3000! 4000!
again_in_1     1000    1500 2000  2500!
again_in_2     1000    1250 1500  1750
again_in_4     1000    1062 1125  1187
calmed_at_once .       .    .     .
calmed_in_1    .       .    .     .
calmed_in_2    .       .    .     calm
";
        let damper = Damper::nth(3, MINUTE);
        let states = ["nothing", "once", "twice", "thrice"];
        let inputs = [
            "again_at_once",
            "again_in_1",
            "again_in_2",
            "again_in_4",
            "calmed_at_once",
            "calmed_in_1",
            "calmed_in_2",
        ];
        assert_table(table, &states, &inputs, |state, input| {
            let times = states.iter().position(|word| *word == state).unwrap();
            let before = after(damper, &vec![0; times]);
            let (what, half_lives) = input.split_once('_').unwrap();
            let half_lives: u64 = half_lives.trim_start_matches("in_").parse().unwrap_or(0);
            let at = Boot(0) + Span(MINUTE.0 * half_lives);
            match what {
                "again" => {
                    let again = before.again(at, damper);
                    format!("{}{}", again.level, if again.is_troubled(at) { "!" } else { "" })
                }
                _ => before.calmed(at).map_or(".", |_| "calm").to_owned(),
            }
        });
    }

    proptest! {
        #[test]
        fn whatever_happened_is_forgotten_within_five_half_lives(
            gaps in proptest::collection::vec(0_u64..300_000, 1..60),
            n in 1_u16..10,
            half_life in 1_u64..3_600_000,
        ) {
            let damper = Damper::nth(n, Span(half_life));
            let mut at = Boot(0);
            let mut damped = Damped::default();
            for gap in gaps {
                at = at + Span(gap);
                damped = damped.again(at, damper);
                if let Some(until) = damped.until {
                    prop_assert!(until > at);
                    prop_assert!(until.since(at) <= Span(5 * half_life), "{until:?} after {at:?}");
                    // The deadline is the moment at which the level is there, neither later nor sooner.
                    prop_assert!(damper.faded(damped.level, until.since(at)) <= damper.leave);
                    prop_assert!(damper.faded(damped.level, Span(until.since(at).0 - 1)) + 1 >= damper.leave);
                }
            }
        }
    }
}
