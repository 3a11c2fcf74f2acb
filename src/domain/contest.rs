//! A route that somebody else changes in an HAProxy, again and again. It is set right, but not for ever: the third time within ten
//! minutes two are at odds, and people are told instead.

use super::time::{Boot, Span};
use serde::{Deserialize, Serialize};

/// As often within [`WITHIN`] a route is found changed before it is left so: once may be a slip, twice a misunderstanding.
pub const FIGHTS: usize = 3;

/// Changes that are further apart than this have nothing to do with each other; and for so long a contested route is left as it is.
pub const WITHIN: Span = Span::seconds(600);

/// How often a route was found changed by somebody else in one HAProxy, under the same worker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Contest {
    /// When, oldest first; within [`WITHIN`] of the last, at most [`FIGHTS`].
    pub found: Vec<Boot>,
    /// It is left as it is until then.
    pub rests_until: Option<Boot>,
}

impl Contest {
    /// It was found changed once more.
    #[must_use]
    pub fn again(&self, now: Boot) -> Contest {
        let recent = self.found.iter().copied().filter(|at| *at + WITHIN > now);
        let mut found: Vec<Boot> = recent.chain([now]).collect();
        found.drain(..found.len().saturating_sub(FIGHTS));
        let rests_until = (found.len() >= FIGHTS).then_some(now + WITHIN);
        Contest { found, rests_until }
    }

    /// Something else is decided: that is told to the HAProxy, whoever is at odds with us about what was before.
    #[must_use]
    pub fn over(&self) -> Contest {
        Contest { found: self.found.clone(), rests_until: None }
    }

    /// Whether the route is left as it is at `now`.
    pub fn rests(&self, now: Boot) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    /// When it has been left alone for long enough to believe that nobody is at odds with us any more.
    pub fn calm_from(&self) -> Option<Boot> {
        self.found.last().map(|last| *last + WITHIN)
    }

    /// Moves every moment onto another clock.
    pub(super) fn shift(&mut self, by: i64) {
        let moments = self.found.iter_mut().chain(&mut self.rests_until);
        moments.for_each(|at| *at = at.shift(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(moments: &[i64]) -> Contest {
        moments.iter().fold(Contest::default(), |contest, at| contest.again(Boot(at * 1_000)))
    }

    #[test]
    fn the_third_time_within_ten_minutes_is_one_too_many() {
        for (moments, rests) in [
            (&[0][..], false),
            (&[0, 1], false),
            (&[0, 1, 2], true),
            (&[0, 300, 599], true),
            (&[0, 300, 600], false),
            (&[0, 300, 600, 899], true),
        ] {
            let last = Boot(moments.last().expect("there is one") * 1_000);
            assert_eq!(found(moments).rests(last), rests, "{moments:?}");
        }
    }

    #[test]
    fn it_rests_for_ten_minutes_and_then_counts_anew() {
        let contest = found(&[0, 1, 2]);
        assert!(contest.rests(Boot(601_999)) && !contest.rests(Boot(602_000)));
        assert_eq!(contest.calm_from(), Some(Boot(602_000)));
        let again = contest.again(Boot(602_000));
        assert_eq!((again.found.len(), again.rests_until), (1, None));
        assert!(!contest.over().rests(Boot(3_000)));
        assert!(contest.over().again(Boot(3_000)).rests(Boot(3_000)), "that is remembered");
    }

    #[test]
    fn every_moment_moves_with_the_clock() {
        let mut contest = found(&[0, 1, 2]);
        contest.shift(500);
        assert_eq!(contest.found, [Boot(500), Boot(1_500), Boot(2_500)]);
        assert_eq!(contest.rests_until, Some(Boot(602_500)));
    }
}
