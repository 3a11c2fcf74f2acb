//! HAProxy's own checks of one server, as the shipped template has them. Nothing happens by itself here: whoever looks lets the
//! checks be made that have been due since the last look. `traces` compares them with a real HAProxy's.

use crate::clockwork::Ms;

/// `check inter 1s fastinter 250ms downinter 1s fall 2 rise 2`, and `timeout check 1s`.
const INTER: Ms = 1_000;
const FAST_INTER: Ms = 250;
const TIMEOUT: Ms = 1_000;
const RISE: u8 = 2;
const FALL: u8 = 2;

/// Up beyond doubt.
const UP: u8 = RISE + FALL - 1;

/// `spread-checks 5`.
const SPREAD_PERCENT: Ms = 5;

/// What a check meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// The right answer.
    Well,
    /// A wrong one, or nobody who listens.
    Wrong,
    /// Nobody who answers, until then.
    Silent { until: Ms },
}

/// The checks of one server.
#[derive(Debug, Clone)]
pub(crate) struct Checks {
    /// As HAProxy counts: 0 is down, and one that it knows nothing of is one failure from that.
    health: u8,
    next: Ms,
    passed: bool,
}

impl Checks {
    /// A new worker's.
    pub(crate) fn new(first: Ms) -> Checks {
        Checks { health: RISE, next: first, passed: false }
    }

    /// Of the `number`th of `count` servers of a worker that began at `began`: the first ones are spread over the shortest interval.
    pub(crate) fn of(began: Ms, number: usize, count: usize) -> Checks {
        let share = |number: usize| Ms::try_from(number).unwrap_or(0);
        Checks::new(began + FAST_INTER * share(number) / share(count).max(1))
    }

    /// HAProxy believes in it.
    pub(crate) fn is_up(&self) -> bool {
        self.health >= RISE
    }

    /// The last one passed (`L7OK`).
    pub(crate) fn passed(&self) -> bool {
        self.passed
    }

    /// It is down at once: told so (`set server … health down`), or because a client's connection failed (`observe layer4`).
    /// Checks go on.
    pub(crate) fn mark_down(&mut self) {
        self.health = 0;
    }

    /// It comes out of maintenance: it is believed in until its next check.
    pub(crate) fn believe(&mut self, next: Ms) {
        *self = Checks::new(next);
    }

    /// Makes those that have come to their end by `now`; `meets`: what one meets that begins then.
    pub(crate) fn advance(&mut self, now: Ms, meets: impl Fn(Ms) -> Met) {
        while self.next < now {
            let gives_up = self.next + TIMEOUT;
            let (passed, ends) = match meets(self.next) {
                Met::Well => (true, self.next + 1),
                Met::Wrong => (false, self.next + 1),
                Met::Silent { until } if until < gives_up => (true, until.max(self.next) + 1),
                Met::Silent { .. } => (false, gives_up),
            };
            if ends > now {
                return;
            }
            self.passed = passed;
            self.health = match (passed, self.health) {
                (true, RISE..) => UP,
                (true, below) if below + 1 == RISE => UP,
                (true, below) => below + 1,
                (false, above) if above > RISE => above - 1,
                (false, _) => 0,
            };
            let pause = if matches!(self.health, 0 | UP) { INTER } else { FAST_INTER };
            // Any number will do that differs from check to check.
            let spread = pause * SPREAD_PERCENT / 100;
            self.next = ends + pause - spread + self.next * 7 % (2 * spread + 1);
        }
    }
}
