//! The journal once more, after the fact: was every decision what the same core decides again, and what would other settings
//! have decided?
//!
//! ```text
//!   store or file ─► Items ─► Segments ─┬─► Verifier: the journal's events, the journal's policy; byte for byte
//!                            (segments) └─► WhatIf: the journal's events, other settings     (what_if)
//!                                             │ quiet probes inferred                       (quiet)
//!                                             │ outcomes of our actions assumed             (assumed)
//!                                             └─► two stories, side by side                 (compare)
//! ```
//!
//! Nothing is reached, nothing is written, no clock is read. What the model of [`WhatIf`] assumes is in docs/replay.md.

mod assumed;
mod compare;
mod quiet;
mod segments;
mod verify;
mod what_if;

#[cfg(test)]
mod tests;

pub use compare::{Line, Row, Totals};
pub use quiet::Intervals;
pub use segments::{Because, Unreadable};
pub use verify::{Difference, Told, Verified, Verifier};
pub use what_if::{Compared, TooMuch, WhatIf};

use crate::domain::Wall;

/// The part of a journal that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// From then on; none: from its beginning.
    pub since: Option<Wall>,
    /// Up to then; none: to its end.
    pub until: Option<Wall>,
}

impl Window {
    fn has_begun(self, at: Wall) -> bool {
        self.since.is_none_or(|since| at >= since)
    }

    fn is_over(self, at: Wall) -> bool {
        self.until.is_some_and(|until| at > until)
    }
}
