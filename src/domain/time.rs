//! Time as data. Only `daemon.rs` makes the [`Now`] that reaches [`decide`](super::decide()).
//!
//! Deadlines are boot time: it never jumps, and goes on while the machine sleeps. Wall time labels records for people and
//! is never compared with a deadline.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};

/// A moment on the machine's boot clock (`CLOCK_BOOTTIME`, `clock_gettime(2)`), in milliseconds since boot.
///
/// Signed, because a state that was stored before a reboot is moved onto the new boot's clock ([`Boot::shift`]) and may
/// then lie before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Boot(pub i64);

/// A moment on the wall clock, in milliseconds since the Unix epoch. A label, never a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Wall(pub i64);

/// A length of time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Span(pub u64);

/// The time of one decision, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Now {
    /// What deadlines are compared with.
    pub boot: Boot,
    /// What people read.
    pub wall: Wall,
}

impl Now {
    /// What the wall clock will show at `boot`, if nobody sets it meanwhile.
    pub fn wall_at(self, boot: Boot) -> Wall {
        Wall(self.wall.0.saturating_add(boot.0.saturating_sub(self.boot.0)))
    }
}

impl Boot {
    /// The time from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Boot) -> Span {
        Span(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The same moment on a clock that is ahead of this one by `milliseconds` (behind, when negative).
    pub fn shift(self, milliseconds: i64) -> Boot {
        Boot(self.0.saturating_add(milliseconds))
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of whole seconds.
    pub const fn seconds(seconds: u64) -> Span {
        Span(seconds.saturating_mul(1000))
    }

    /// The span as the standard library has it, for timers at the edges.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl From<std::time::Duration> for Span {
    fn from(duration: std::time::Duration) -> Span {
        Span(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add<Span> for Boot {
    type Output = Boot;
    fn add(self, span: Span) -> Boot {
        Boot(self.0.saturating_add(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }
}

impl Sub<Span> for Boot {
    type Output = Boot;
    fn sub(self, span: Span) -> Boot {
        Boot(self.0.saturating_sub(i64::try_from(span.0).unwrap_or(i64::MAX)))
    }
}

impl Add for Span {
    type Output = Span;
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

/// Spans are read by people under stress: at most two units, the smallest that says something.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
        match ms {
            0..1_000 => write!(f, "{ms} ms"),
            1_000..10_000 if !ms.is_multiple_of(1000) => write!(f, "{}.{} s", seconds, ms % 1000 / 100),
            1_000..60_000 => write!(f, "{seconds} s"),
            60_000..3_600_000 if seconds.is_multiple_of(60) => write!(f, "{minutes} min"),
            60_000..3_600_000 => write!(f, "{minutes} min {} s", seconds % 60),
            _ if minutes.is_multiple_of(60) => write!(f, "{hours} h"),
            _ => write!(f, "{hours} h {} min", minutes % 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_like_a_person_says_them() {
        let said = [0, 7, 999, 1000, 1500, 9999, 10_400, 59_999, 60_000, 61_000, 3_600_000, 5_460_000];
        let said: Vec<String> = said.iter().map(|&ms| Span(ms).to_string()).collect();
        assert_eq!(
            said,
            [
                "0 ms",
                "7 ms",
                "999 ms",
                "1 s",
                "1.5 s",
                "9.9 s",
                "10 s",
                "59 s",
                "1 min",
                "1 min 1 s",
                "1 h",
                "1 h 31 min"
            ]
        );
    }

    #[test]
    fn a_moment_before_boot_keeps_its_distance() {
        let stored = Boot(90_000).shift(-100_000);
        assert_eq!(Boot(5_000).since(stored), Span(15_000));
        assert_eq!(stored.since(Boot(5_000)), Span::ZERO, "never negative");
    }
}
