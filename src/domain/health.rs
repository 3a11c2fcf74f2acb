//! The health of one server: a verdict, and what has been heard against it since.
//!
//! ```text
//!             good × rise                    hard, or full/path × fall
//!   Unknown ──────────────► Up ─────────────────────────────────────────► Down
//!      │                     ▲                                              │
//!      │                     └──────────────── good × rise ─────────────────┘
//!      └─────────────── hard, or full/path × fall ────────────────────────► Down
//! ```
//!
//! One piece of evidence against the verdict starts a run; the first piece for it ends the run. [`Evidence::Void`] ends
//! runs too: if we were frozen, what we counted is worth nothing.

use super::time::{Boot, Span};
use super::witness::{Cause, Evidence};
use serde::{Deserialize, Serialize};

/// How long HAProxy's word "I reach it" stands against our own path errors. A few looks long, so that one missed look
/// does not withdraw it.
pub const CONTRARY_HOLDS: Span = Span(5_000);

/// The verdict about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No verdict yet.
    Unknown {
        /// Good evidence in a row.
        good: u16,
        /// Bad evidence in a row.
        bad: Option<Run>,
    },
    /// It serves.
    Up {
        /// Since then, without a break.
        since: Boot,
        /// Bad evidence in a row; not yet enough.
        bad: Option<Run>,
    },
    /// It does not serve.
    Down {
        /// Since then.
        since: Boot,
        /// Why, at first.
        cause: Cause,
        /// Good evidence in a row; not yet enough.
        good: u16,
    },
}

/// Bad evidence in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How many; counted up to `fall`, so that a run that waits for other witnesses changes nothing.
    pub count: u16,
    /// When the first of them was found.
    pub first: Boot,
    /// The latest.
    pub cause: Cause,
    /// Whether all of them were path errors: then it may be we who cannot get there.
    pub path_only: bool,
    /// When HAProxy last said that its own check, begun after `first`, passes.
    pub contrary: Option<Boot>,
}

/// What the rest of the world makes of a run of path errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathView {
    /// Nobody contradicts: act.
    Credible,
    /// HAProxy is there and has not yet had the time to contradict.
    WitnessDue,
    /// HAProxy reaches the server: it is our own path.
    Contradicted,
    /// Whether we still reach the service's other servers is being asked, and is not answered yet.
    OthersDue,
    /// Every server of every site fails for us in this way: it is we who are cut off.
    CutOff,
}

/// What decides how much evidence is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bar {
    /// Good evidence in a row until up.
    pub rise: u16,
    /// Bad evidence in a row until down.
    pub fall: u16,
    /// The start-up grace: only hard evidence acts.
    pub grace: bool,
    /// What is to be made of path errors.
    pub path: PathView,
}

impl Default for Health {
    fn default() -> Health {
        Health::Unknown { good: 0, bad: None }
    }
}

impl Health {
    /// The health after one more piece of evidence, found at `at`.
    #[must_use]
    pub fn after(self, evidence: Evidence, at: Boot, bar: Bar) -> Health {
        match (self, evidence) {
            (Health::Unknown { .. } | Health::Up { .. } | Health::Down { .. }, Evidence::Untried) => self,

            (Health::Unknown { good, .. }, Evidence::Good) => match good.saturating_add(1) {
                enough if enough >= bar.rise => Health::Up { since: at, bad: None },
                good => Health::Unknown { good, bad: None },
            },
            (Health::Unknown { .. }, Evidence::Hard(cause)) => Health::Down { since: at, cause, good: 0 },
            (Health::Unknown { bad, .. }, Evidence::Full(cause)) => {
                let run = Run::extended(bad, cause, false, at, bar.fall);
                run.verdict(at, bar).unwrap_or(Health::Unknown { good: 0, bad: Some(run) })
            }
            (Health::Unknown { bad, .. }, Evidence::Path(cause)) => {
                let run = Run::extended(bad, cause, true, at, bar.fall);
                run.verdict(at, bar).unwrap_or(Health::Unknown { good: 0, bad: Some(run) })
            }
            (Health::Unknown { .. }, Evidence::Void) => Health::Unknown { good: 0, bad: None },

            (Health::Up { since, .. }, Evidence::Good | Evidence::Void) => Health::Up { since, bad: None },
            (Health::Up { .. }, Evidence::Hard(cause)) => Health::Down { since: at, cause, good: 0 },
            (Health::Up { since, bad }, Evidence::Full(cause)) => {
                let run = Run::extended(bad, cause, false, at, bar.fall);
                run.verdict(at, bar).unwrap_or(Health::Up { since, bad: Some(run) })
            }
            (Health::Up { since, bad }, Evidence::Path(cause)) => {
                let run = Run::extended(bad, cause, true, at, bar.fall);
                run.verdict(at, bar).unwrap_or(Health::Up { since, bad: Some(run) })
            }

            (Health::Down { since, cause, good }, Evidence::Good) => match good.saturating_add(1) {
                enough if enough >= bar.rise => Health::Up { since: at, bad: None },
                good => Health::Down { since, cause, good },
            },
            // The first cause stays: what follows a crash (refused, no route) says less than the crash.
            (
                Health::Down { since, cause, .. },
                Evidence::Hard(_) | Evidence::Full(_) | Evidence::Path(_) | Evidence::Void,
            ) => Health::Down { since, cause, good: 0 },
        }
    }

    /// The health after HAProxy was seen to reach the server (or not) with a check that began after our failures did.
    #[must_use]
    pub fn after_check(self, reached: bool, at: Boot, bar: Bar) -> Health {
        match self {
            Health::Up { since, bad: Some(run) } if run.path_only => {
                let run = Run { contrary: reached.then_some(at), ..run };
                run.verdict(at, bar).unwrap_or(Health::Up { since, bad: Some(run) })
            }
            Health::Unknown { .. } | Health::Up { .. } | Health::Down { .. } => self,
        }
    }

    /// The bad evidence that is being counted.
    pub fn run(&self) -> Option<Run> {
        match self {
            Health::Unknown { bad, .. } | Health::Up { bad, .. } => *bad,
            Health::Down { .. } => None,
        }
    }

    /// The bad evidence that is being counted, if all of it is path errors.
    pub fn path_run(&self) -> Option<Run> {
        self.run().filter(|run| run.path_only)
    }

    /// Whether it serves.
    pub fn is_up(&self) -> bool {
        matches!(self, Health::Up { .. })
    }

    /// Whether it is known not to serve.
    pub fn is_down(&self) -> bool {
        matches!(self, Health::Down { .. })
    }

    /// Whether something has begun to change and more evidence is wanted soon.
    pub fn is_unsettled(&self) -> bool {
        match self {
            Health::Unknown { .. } => true,
            Health::Up { bad, .. } => bad.is_some(),
            Health::Down { good, .. } => *good > 0,
        }
    }

    /// Whether `other` is another verdict, not only another count.
    pub fn differs_in_verdict(&self, other: &Health) -> bool {
        std::mem::discriminant(self) != std::mem::discriminant(other)
    }

    /// The verdict in one stable word.
    pub fn word(&self) -> &'static str {
        match self {
            Health::Unknown { .. } => "unknown",
            Health::Up { .. } => "up",
            Health::Down { .. } => "down",
        }
    }
}

impl Run {
    fn extended(bad: Option<Run>, cause: Cause, path: bool, at: Boot, fall: u16) -> Run {
        match bad {
            Some(run) => {
                let count = run.count.saturating_add(1).min(fall);
                Run { count, cause, path_only: run.path_only && path, ..run }
            }
            None => Run { count: 1, first: at, cause, path_only: path, contrary: None },
        }
    }

    /// `Down`, if the run is enough for it.
    fn verdict(self, at: Boot, bar: Bar) -> Option<Health> {
        let enough = self.count >= bar.fall && !bar.grace;
        let credible = !self.path_only || bar.path == PathView::Credible;
        (enough && credible).then_some(Health::Down { since: at, cause: self.cause, good: 0 })
    }
}

#[cfg(test)]
mod tests;
