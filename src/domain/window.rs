//! The hours in which traffic may return by itself.
//!
//! Hours are people's, so they are wall time in a time zone; when they begin and end is a pure question about a wall
//! moment. The zone is kept as its POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`; POSIX.1-2017, section 8.3, `TZ`), so that the
//! core needs no file to know when summer begins, and a replay knows the same.

use super::time::{Span, Wall};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longer than any time from one opening to the next: a week, and the hour that a change of the clock can add.
const DAYS_AHEAD: i64 = 8;

/// Minutes of a day.
const MIDNIGHT: u16 = 24 * 60;

/// Some hours of some days, in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// When; at least one.
    pub windows: Vec<Window>,
    /// Where the clock hangs.
    pub zone: Zone,
}

/// From one time of day to another, on some days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The days on which it opens.
    pub days: Days,
    /// Opens so many minutes after midnight.
    pub from: u16,
    /// Closes so many minutes after midnight; on the next day, if that is not after `from`.
    pub to: u16,
}

/// Days of the week; bit 0 is Monday.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Days(pub u8);

/// A time zone by its POSIX rule, and the name that people gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// `Europe/Berlin`.
    pub name: String,
    /// `CET-1CEST,M3.5.0,M10.5.0/3`.
    pub rule: String,
}

impl Zone {
    /// The zone without summers.
    pub fn utc() -> Zone {
        Zone { name: "UTC".to_owned(), rule: "UTC0".to_owned() }
    }

    /// Whether the rule can be read.
    pub fn is_known(&self) -> bool {
        jiff::tz::TimeZone::posix(&self.rule).is_ok()
    }
}

impl Days {
    /// All of them.
    pub const ALL: Days = Days(0b0111_1111);

    /// Their short names, Monday first.
    pub const NAMES: [&'static str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    fn has(self, day: jiff::civil::Weekday) -> bool {
        self.0 & (1 << day.to_monday_zero_offset()) != 0
    }
}

impl Hours {
    /// How long until they are next open: nothing when they are open at `at`; none when they never open.
    pub fn open_in(&self, at: Wall) -> Option<Span> {
        let zone = jiff::tz::TimeZone::posix(&self.zone.rule).ok()?;
        let now = jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(zone.clone());
        // A window that opened yesterday may still be open.
        let yesterday = now.date().yesterday().ok()?;
        let days =
            (0..=DAYS_AHEAD).filter_map(|ahead| yesterday.checked_add(jiff::Span::new().days(ahead)).ok());
        let moment = |date: jiff::civil::Date, minutes: u16| {
            let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
            // Where the clock is put forward over a time, the moment after the gap stands for it.
            Some(date.at(hour, minute, 0, 0).to_zoned(zone.clone()).ok()?.timestamp().as_millisecond())
        };
        let opens = days.flat_map(|date| {
            let windows = self.windows.iter().filter(move |window| window.days.has(date.weekday()));
            windows.filter_map(move |window| {
                let closes = if window.to > window.from { date } else { date.tomorrow().ok()? };
                Some((date, window.from, closes, window.to))
            })
        });
        let waits = opens.filter_map(|(date, from, closes, to)| {
            let (from, to) = (moment(date, from)?, moment(closes, to)?);
            (to > at.0).then(|| Span(u64::try_from(from.saturating_sub(at.0)).unwrap_or(0)))
        });
        waits.min()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, window) in self.windows.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{window}")?;
        }
        write!(f, " {}", self.zone.name)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != Days::ALL {
            write!(f, "{} ", self.days)?;
        }
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let to = if self.to == 0 { MIDNIGHT } else { self.to };
        write!(f, "{}-{}", clock(self.from), clock(to))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut written = false;
        let mut day = 0;
        while day < 7 {
            let run = (day..7).take_while(|day| self.0 & (1 << day) != 0).count();
            if run > 0 {
                if written {
                    f.write_str(",")?;
                }
                f.write_str(Days::NAMES[day])?;
                if run > 1 {
                    write!(f, "-{}", Days::NAMES[day + run - 1])?;
                }
                written = true;
            }
            day += run.max(1);
        }
        Ok(())
    }
}

impl fmt::Debug for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// `02:00-05:00`, `sat-sun 22:00-04:00`, `mon,wed 01:00-02:00`.
impl std::str::FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Window, String> {
        let mut words = text.split_whitespace();
        let (days, hours) = match (words.next(), words.next(), words.next()) {
            (Some(hours), None, _) => (Days::ALL, hours),
            (Some(days), Some(hours), None) => (days.parse()?, hours),
            _ => {
                return Err(format!(
                    "{text:?} is no window: write \"02:00-05:00\" or \"sat-sun 22:00-04:00\""
                ));
            }
        };
        let (from, to) = hours.split_once('-').ok_or_else(|| format!("{hours:?} is not FROM-TO"))?;
        let (from, to) = (time_of_day(from)?, time_of_day(to)?);
        if from == to || from == MIDNIGHT {
            return Err(format!("{hours:?} does not open: it begins when it ends, or when the day does"));
        }
        // Midnight at the end of a day is the beginning of the next.
        Ok(Window { days, from, to: to % MIDNIGHT })
    }
}

fn time_of_day(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is no time of day between 00:00 and 24:00");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !two_digits(hour) || !two_digits(minute) {
        return Err(wrong());
    }
    let (hour, minute): (u16, u16) =
        (hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?);
    let minutes = hour * 60 + minute;
    if minute < 60 && minutes <= MIDNIGHT { Ok(minutes) } else { Err(wrong()) }
}

impl std::str::FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Days, String> {
        let day = |text: &str| {
            let known = Days::NAMES.iter().position(|name| *name == text);
            known.ok_or_else(|| format!("{text:?} is no day: mon, tue, wed, thu, fri, sat, sun"))
        };
        let mut days = 0;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            // `sat-mon` goes over the end of the week.
            let length = (last + 7 - first) % 7;
            (0..=length).for_each(|ahead| days |= 1 << ((first + ahead) % 7));
        }
        Ok(Days(days))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(windows: &[&str], zone: Zone) -> Hours {
        Hours { windows: windows.iter().map(|window| window.parse().unwrap()).collect(), zone }
    }

    fn berlin() -> Zone {
        Zone { name: "Europe/Berlin".into(), rule: "CET-1CEST,M3.5.0,M10.5.0/3".into() }
    }

    fn wall(text: &str) -> Wall {
        Wall(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    fn minutes(span: Option<Span>) -> Option<u64> {
        span.map(|span| span.0 / 60_000)
    }

    #[test]
    fn open_hours_are_waited_for_no_longer_than_until_they_open() {
        let nightly = hours(&["02:00-05:00"], Zone::utc());
        assert_eq!(minutes(nightly.open_in(wall("2026-11-26T01:00:00Z"))), Some(60));
        assert_eq!(minutes(nightly.open_in(wall("2026-11-26T02:00:00Z"))), Some(0));
        assert_eq!(minutes(nightly.open_in(wall("2026-11-26T04:59:59Z"))), Some(0));
        assert_eq!(
            minutes(nightly.open_in(wall("2026-11-26T05:00:00Z"))),
            Some(21 * 60),
            "closed at its end"
        );
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
        let saturdays = hours(&["sat 22:00-04:00"], Zone::utc());
        assert_eq!(minutes(saturdays.open_in(wall("2026-11-29T03:00:00Z"))), Some(0), "Sunday, 3 o'clock");
        assert_eq!(
            minutes(saturdays.open_in(wall("2026-11-28T03:00:00Z"))),
            Some(19 * 60),
            "Saturday, 3 o'clock"
        );
        assert_eq!(minutes(saturdays.open_in(wall("2026-11-29T04:00:00Z"))), Some((6 * 24 + 18) * 60));
    }

    #[test]
    fn hours_are_those_of_the_zone_in_summer_and_in_winter() {
        let nightly = hours(&["02:00-05:00"], berlin());
        assert_eq!(minutes(nightly.open_in(wall("2026-01-15T00:00:00Z"))), Some(60), "UTC+1");
        assert_eq!(minutes(nightly.open_in(wall("2026-07-15T00:00:00Z"))), Some(0), "UTC+2");
        // 29 March 2026: the clock goes from 2 to 3, so the window opens with the hour that follows the gap.
        assert_eq!(minutes(nightly.open_in(wall("2026-03-29T00:30:00Z"))), Some(30));
        assert_eq!(minutes(nightly.open_in(wall("2026-03-29T01:00:00Z"))), Some(0));
    }

    #[test]
    fn the_soonest_of_several_counts() {
        let several = hours(&["mon-fri 02:00-03:00", "sun 12:00-13:00"], Zone::utc());
        assert_eq!(
            minutes(several.open_in(wall("2026-11-27T04:00:00Z"))),
            Some((2 * 24 + 8) * 60),
            "Friday → Sunday"
        );
        assert_eq!(minutes(several.open_in(wall("2026-11-29T13:00:00Z"))), Some(13 * 60), "Sunday → Monday");
    }

    #[test]
    fn several_windows_are_written_with_commas() {
        let several = hours(&["mon-fri 02:00-03:00", "sun 12:00-13:00"], Zone::utc());
        assert_eq!(several.to_string(), "mon-fri 02:00-03:00, sun 12:00-13:00 UTC");
    }

    #[test]
    fn windows_are_written_back_as_they_are_read() {
        for text in ["02:00-05:00", "sat-sun 22:00-04:00", "mon,wed-fri 01:30-02:00"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
        assert_eq!("sat-mon 00:00-24:00".parse::<Window>().unwrap().to_string(), "mon,sat-sun 00:00-24:00");
        assert_eq!(hours(&["02:00-05:00"], berlin()).to_string(), "02:00-05:00 Europe/Berlin");
    }

    #[test]
    fn what_is_no_window_is_refused_with_the_word_that_is_wrong() {
        let refused = [
            ("", "no window"),
            ("2:00-5:00", "\"2:00\""),
            ("02:00", "not FROM-TO"),
            ("02:00-02:00", "does not open"),
            ("24:00-02:00", "does not open"),
            ("25:00-26:00", "\"25:00\""),
            ("02:60-03:00", "\"02:60\""),
            ("24:01-03:00", "\"24:01\""),
            ("someday 02:00-03:00", "\"someday\""),
            ("mon- 02:00-03:00", "\"\""),
            ("mon 02:00-03:00 utc", "no window"),
        ];
        for (text, word) in refused {
            let error = text.parse::<Window>().unwrap_err();
            assert!(error.contains(word), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_zone_is_known_by_its_rule() {
        assert!(Zone::utc().is_known() && berlin().is_known());
        assert!(!Zone { name: "x".into(), rule: "nonsense".into() }.is_known());
    }
}
