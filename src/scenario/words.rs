//! The words of one line, read from left to right, and the small things that they stand for.

use crate::domain::id::NameError;
use crate::domain::time::Span;
use std::fmt::Display;
use std::str::FromStr;

/// The longest time in a script. What takes longer than a year is no scenario.
pub(super) const TIME_MAX: Span = Span::seconds(366 * 24 * 3600);

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// The word; none when one is missing.
    pub(super) word: Option<String>,
    /// What is wrong with it.
    pub(super) why: String,
    /// Nothing in the script so far has this name.
    pub(super) is_unknown: bool,
}

impl Wrong {
    pub(super) fn new(word: &str, why: impl Into<String>) -> Wrong {
        Wrong { word: Some(word.to_owned()), why: why.into(), is_unknown: false }
    }

    pub(super) fn unknown(word: &str, why: impl Into<String>) -> Wrong {
        Wrong { is_unknown: true, ..Wrong::new(word, why) }
    }

    pub(super) fn missing(what: &str) -> Wrong {
        Wrong { word: None, why: format!("the line ends where {what} is missing"), is_unknown: false }
    }
}

/// The words that are not read yet.
#[derive(Debug, Clone)]
pub(super) struct Words<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    /// The words of `line`, without its comment.
    pub(super) fn of(line: &'a str) -> Words<'a> {
        let mut rest: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        rest.reverse();
        Words { rest }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next word, which stays.
    pub(super) fn peek(&self) -> Option<&'a str> {
        self.rest.last().copied()
    }

    /// The next word; `what` it is.
    pub(super) fn next(&mut self, what: &str) -> Result<&'a str, Wrong> {
        self.rest.pop().ok_or_else(|| Wrong::missing(what))
    }

    /// Whether the next word is `word`, which is then read.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let is_next = self.peek() == Some(word);
        if is_next {
            self.rest.pop();
        }
        is_next
    }

    /// The next word must be `word`.
    pub(super) fn expect(&mut self, word: &str) -> Result<(), Wrong> {
        match self.next(&format!("{word:?}"))? {
            found if found == word => Ok(()),
            found => Err(Wrong::new(found, format!("{word:?} is expected here"))),
        }
    }

    /// There must be no more words.
    pub(super) fn end(&self) -> Result<(), Wrong> {
        match self.peek() {
            None => Ok(()),
            Some(word) => Err(Wrong::new(word, "nothing more is expected here")),
        }
    }

    /// All words that are left, as one text.
    pub(super) fn text(&mut self) -> String {
        self.rest.reverse();
        std::mem::take(&mut self.rest).join(" ")
    }

    /// The same, of which there must be one at least.
    pub(super) fn some_text(&mut self, what: &str) -> Result<String, Wrong> {
        match self.is_empty() {
            true => Err(Wrong::missing(what)),
            false => Ok(self.text()),
        }
    }

    /// The next word as a length of time.
    pub(super) fn span(&mut self, what: &str) -> Result<Span, Wrong> {
        span(self.next(what)?)
    }

    /// The next word as a length of time, if it begins like one.
    pub(super) fn maybe_span(&mut self) -> Result<Option<Span>, Wrong> {
        match self.peek() {
            Some(word) if word.starts_with(|c: char| c.is_ascii_digit()) => Ok(Some(self.span("a time")?)),
            Some(_) | None => Ok(None),
        }
    }

    /// `for TIME`, if it is there.
    pub(super) fn lasts(&mut self) -> Result<Option<Span>, Wrong> {
        if !self.take("for") {
            return Ok(None);
        }
        let word = self.next("a time")?;
        match span(word)? {
            Span::ZERO => Err(Wrong::new(word, "what lasts no time is over before it begins")),
            lasts => Ok(Some(lasts)),
        }
    }

    /// The next word as a whole number within `bounds`.
    pub(super) fn number<T>(&mut self, what: &str, bounds: std::ops::RangeInclusive<T>) -> Result<T, Wrong>
    where
        T: FromStr + PartialOrd + Display,
    {
        number(self.next(what)?, bounds)
    }

    /// The next word as a name.
    pub(super) fn name<T: FromStr<Err = NameError>>(&mut self, what: &str) -> Result<T, Wrong> {
        name(self.next(what)?)
    }

    /// All words that are left, each `KEY=VALUE`, or nothing.
    pub(super) fn pairs(&mut self) -> Result<Vec<(&'a str, &'a str)>, Wrong> {
        let mut pairs = Vec::new();
        while let Some(word) = self.rest.pop() {
            pairs.push(pair(word)?);
        }
        Ok(pairs)
    }
}

/// `KEY=VALUE`.
pub(super) fn pair(word: &str) -> Result<(&str, &str), Wrong> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((key, value)),
        Some(_) | None => Err(Wrong::new(word, "two names with = between them are expected here")),
    }
}

/// A name of a site, a service and so on.
pub(super) fn name<T: FromStr<Err = NameError>>(word: &str) -> Result<T, Wrong> {
    word.parse().map_err(|error: NameError| Wrong::new(word, error.to_string()))
}

/// A whole number within `bounds`.
pub(super) fn number<T>(word: &str, bounds: std::ops::RangeInclusive<T>) -> Result<T, Wrong>
where
    T: FromStr + PartialOrd + Display,
{
    match word.parse::<T>() {
        Ok(number) if bounds.contains(&number) => Ok(number),
        Ok(_) | Err(_) => {
            let (least, most) = (bounds.start(), bounds.end());
            Err(Wrong::new(word, format!("a whole number from {least} to {most} is expected here")))
        }
    }
}

/// One of `known`, of which each stands for something.
pub(super) fn one_of<T: Copy>(word: &str, known: &[(&str, T)]) -> Result<T, Wrong> {
    match known.iter().find(|(name, _)| *name == word) {
        Some((_, meant)) => Ok(*meant),
        None => {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            Err(Wrong::new(word, format!("known here: {}", names.join(", "))))
        }
    }
}

/// `250ms`, `1.5s`, `1m30s`, `2h`, `1d`: numbers with units, the largest first.
pub(super) fn span(word: &str) -> Result<Span, Wrong> {
    const UNITS: [(&str, u64); 5] =
        [("d", 24 * 3_600_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    let wrong = || Wrong::new(word, "a time has a unit: 250ms, 1.5s, 1m30s, 2h, 1d");
    let mut rest = word;
    let mut all = 0_u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (count, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, each) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if each >= last {
            return Err(wrong());
        }
        all = all.saturating_add(scaled(count, each).ok_or_else(wrong)?);
        (rest, last) = (tail, each);
    }
    match Span(all) {
        span if span > TIME_MAX => Err(Wrong::new(word, "a script has a year at most")),
        _ if last == u64::MAX => Err(wrong()),
        span => Ok(span),
    }
}

/// `count`, perhaps with a fraction, times `each`, to the nearest millisecond.
fn scaled(count: &str, each: u64) -> Option<u64> {
    /// A millisecond of a day has eight digits after the point.
    const FRACTION_MAX: usize = 9;
    let (whole, fraction) = count.split_once('.').unwrap_or((count, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > FRACTION_MAX {
        return None;
    }
    let parts = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let all = whole.parse::<u64>().ok().map(u128::from)?.checked_mul(parts)?.checked_add(part)?;
    let scaled = all.checked_mul(u128::from(each))?.checked_add(parts / 2)?.checked_div(parts)?;
    u64::try_from(scaled).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_and_the_largest_comes_first() {
        let said = |word: &str| span(word).ok().map(|span| span.0);
        for (word, milliseconds) in [
            ("0s", 0),
            ("250ms", 250),
            ("0.1s", 100),
            ("11.001s", 11_001),
            ("1.5s", 1_500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1h0.5s", 3_600_500),
            ("366d", 31_622_400_000),
        ] {
            assert_eq!(said(word), Some(milliseconds), "{word}");
        }
        for word in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "+1s",
            ".5s",
            "1..5s",
            "1.5.5s",
            "1e3s",
            "5S",
            "5sec",
            "1s1s",
            "1s1m",
            "30s1m",
            "367d",
            "99999999999999999999s",
            "1.0000000001s",
            "NaNs",
            "infs",
            "1m30",
            "é",
            "5é",
            "٣s",
        ] {
            assert_eq!(said(word), None, "{word}");
        }
    }

    #[test]
    fn a_comment_ends_the_words() {
        let mut words = Words::of("  at 1s start # as always");
        assert_eq!(words.next("x").ok(), Some("at"));
        assert_eq!(words.span("x").ok(), Some(Span(1000)));
        assert!(words.take("start") && words.is_empty() && words.end().is_ok());
        assert!(Words::of("# all of it").is_empty());
    }
}
