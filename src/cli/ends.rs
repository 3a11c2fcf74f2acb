//! When an order ends by itself: `--for 2h`, or `--until 18:00`.

use super::Usage;
use super::args::span;
use crate::domain::time::Span;
use clap::Args;
use jiff::civil::{DateTime, Time};
use jiff::{Timestamp, Zoned};
use std::str::FromStr;

/// The longest time that an order lasts by itself; beyond it, none at all is clearer.
pub(super) const LASTS_MAX: Span = Span::seconds(366 * 24 * 3600);

/// One of them, or neither: the order holds until a person ends it.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct Ends {
    /// It ends by itself after this, such as 30m or 2h [default: a person ends it].
    #[arg(long = "for", value_name = "TIME", value_parser = span, conflicts_with = "until")]
    pub(crate) lasts: Option<Span>,

    /// It ends by itself then: 18:00 (the next one), 2026-08-21T18:00, or 2026-08-21T18:00:00+02:00. Without an offset, by
    /// the clock of this machine.
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<When>,
}

/// A moment as it is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// The next time that the clock shows it.
    Clock(Time),
    /// By the clock of this machine.
    Local(DateTime),
    /// Anywhere.
    Moment(Timestamp),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        // A date alone would mean its midnight, which is rarely what is meant at night.
        let day_only = text.parse::<jiff::civil::Date>().is_ok() && !text.contains(['T', ' ', ':']);
        text.parse::<Timestamp>()
            .map(When::Moment)
            .or_else(|_| text.parse::<DateTime>().map(When::Local))
            .or_else(|_| text.parse::<Time>().map(When::Clock))
            .ok()
            .filter(|_| !day_only)
            .ok_or_else(|| format!("{text:?} is no time: write 18:00, or 2026-08-21T18:00"))
    }
}

impl Ends {
    /// For how long, from `now` on.
    pub(crate) fn lasts(&self, now: &Zoned) -> Result<Option<Span>, Usage> {
        let Some(when) = self.until else { return Ok(self.lasts) };
        let end = when.after(now).ok_or_else(|| Usage("--until: there is no such moment".to_owned()))?;
        let ahead = end.as_millisecond() - now.timestamp().as_millisecond();
        match u64::try_from(ahead).map(Span) {
            Ok(lasts) if lasts > Span::ZERO && lasts <= LASTS_MAX => Ok(Some(lasts)),
            Ok(Span::ZERO) | Err(_) => Err(Usage(format!("--until: {end:.0} is over already"))),
            Ok(_) => Err(Usage("--until: that is more than a year; leave it out for no end".to_owned())),
        }
    }
}

impl When {
    /// The last such moment that is not after `now`.
    pub(crate) fn before(self, now: &Zoned) -> Option<Timestamp> {
        let found = self.after(now)?;
        match self {
            When::Clock(time) if found > now.timestamp() => {
                let zone = now.time_zone().clone();
                let today = now.date().to_datetime(time).to_zoned(zone.clone()).ok()?;
                let yesterday = || now.date().yesterday().ok()?.to_datetime(time).to_zoned(zone).ok();
                let last = if today.timestamp() <= now.timestamp() { today } else { yesterday()? };
                Some(last.timestamp())
            }
            When::Clock(_) | When::Local(_) | When::Moment(_) => Some(found),
        }
    }

    fn after(self, now: &Zoned) -> Option<Timestamp> {
        let zone = now.time_zone().clone();
        match self {
            When::Moment(moment) => Some(moment),
            When::Local(local) => Some(local.to_zoned(zone).ok()?.timestamp()),
            When::Clock(time) => {
                let today = now.date().to_datetime(time).to_zoned(zone.clone()).ok()?;
                if today.timestamp() > now.timestamp() {
                    return Some(today.timestamp());
                }
                Some(now.date().tomorrow().ok()?.to_datetime(time).to_zoned(zone).ok()?.timestamp())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Zoned {
        "2026-08-21T17:00:00+02:00[+02:00]".parse().unwrap()
    }

    fn until(text: &str) -> Result<Option<Span>, String> {
        let ends = Ends { lasts: None, until: Some(text.parse()?) };
        ends.lasts(&now()).map_err(|Usage(words)| words)
    }

    #[test]
    fn a_moment_is_the_next_one_that_is_meant() {
        let hours = |hours: u64| Ok(Some(Span::seconds(hours * 3600)));
        assert_eq!(until("18:00"), hours(1));
        assert_eq!(until("16:00"), hours(23), "tomorrow's");
        assert_eq!(until("2026-08-21T18:00"), hours(1), "by this machine's clock");
        assert_eq!(until("2026-08-21T18:00:00Z"), hours(3), "by its own");
        assert_eq!(until("2026-08-21T18:00:00+02:00"), hours(1));
    }

    #[test]
    fn what_is_over_too_far_or_no_time_is_refused() {
        for (text, words) in [
            ("2026-08-21T16:59", "over already"),
            ("2026-08-21T17:00", "over already"),
            ("2028-08-21T17:00", "more than a year"),
            ("2026-08-21", "no time"),
            ("tomorrow", "no time"),
            ("25:00", "no time"),
            ("", "no time"),
        ] {
            let error = until(text).unwrap_err();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_length_of_time_is_taken_as_it_is() {
        let ends = Ends { lasts: Some(Span(5)), until: None };
        assert_eq!(ends.lasts(&now()).ok(), Some(Some(Span(5))));
    }
}
