//! A moment that is over, as it is typed: `2h` ago, the last `18:00`, or written out.

use super::Usage;
use super::args::span;
use super::ends::When;
use crate::domain::time::{Span, Wall};
use jiff::Zoned;
use std::str::FromStr;

/// A moment that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// So long ago.
    Ago(Span),
    /// Then.
    At(When),
}

impl FromStr for Past {
    type Err = String;

    fn from_str(text: &str) -> Result<Past, String> {
        span(text)
            .map(Past::Ago)
            .or_else(|_| text.parse().map(Past::At))
            .map_err(|_: String| format!("{text:?} is no time: write 2h (ago), 18:00, or 2026-08-21T18:00"))
    }
}

impl Past {
    /// When that is, as seen from `now`; `option` is what it was typed behind.
    pub(crate) fn wall(self, option: &str, now: &Zoned) -> Result<Wall, Usage> {
        let there = now.timestamp().as_millisecond();
        let at = match self {
            Past::Ago(span) => Some(there.saturating_sub(i64::try_from(span.0).unwrap_or(i64::MAX))),
            Past::At(when) => when.before(now).map(|at| at.as_millisecond()),
        };
        let at = at.ok_or_else(|| Usage(format!("{option}: there is no such moment")))?;
        if at > there {
            return Err(Usage(format!("{option}: that is yet to come, and the journal is about what was")));
        }
        Ok(Wall(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now: Zoned = "2026-08-21T17:00:00+02:00[+02:00]".parse().unwrap();
        let past: Past = text.parse()?;
        past.wall("--since", &now).map(crate::present::time).map_err(|Usage(words)| words)
    }

    #[test]
    fn a_moment_is_the_last_one_that_is_meant() {
        for (text, moment) in [
            ("2h", "2026-08-21T13:00:00.000Z"),
            ("1h 30m", "2026-08-21T13:30:00.000Z"),
            ("16:00", "2026-08-21T14:00:00.000Z"),
            ("18:00", "2026-08-20T16:00:00.000Z"),
            ("17:00", "2026-08-21T15:00:00.000Z"),
            ("2026-08-20T18:00", "2026-08-20T16:00:00.000Z"),
            ("2026-08-20T18:00:00Z", "2026-08-20T18:00:00.000Z"),
        ] {
            assert_eq!(at(text).as_deref(), Ok(moment), "{text}");
        }
    }

    #[test]
    fn what_is_to_come_or_no_time_is_refused() {
        for (text, words) in [
            ("2026-08-21T17:01", "yet to come"),
            ("2027-01-01T00:00:00Z", "yet to come"),
            ("yesterday", "no time"),
            ("2026-08-21", "no time"),
            ("0s", "no time"),
            ("", "no time"),
        ] {
            let error = at(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
