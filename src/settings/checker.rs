//! The tool with which raw values are checked: it collects what is wrong and goes on.

use super::examples;
use super::key::Key;
use super::layer::Layered;
use super::limits::{NumberLimit, SpanLimit};
use super::problem::{Place, Problem};
use super::raw::RawSpan;
use super::value;
use crate::domain::id::NameError;
use crate::domain::time::Span;
use std::path::PathBuf;
use std::str::FromStr;

/// What to do about credentials (`LoadCredential=`) where systemd gave none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// The daemon needs them.
    Needed,
    /// A command is no part of the unit, gets none, and needs none: they are taken for good, and empty.
    Trusted,
}

/// Collects problems while values are turned into what they mean. After a problem a default stands in, so that the rest
/// is looked at too; the result is thrown away.
pub(crate) struct Checker<'a> {
    layered: &'a Layered,
    credentials: Credentials,
    problems: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(layered: &'a Layered, credentials: Credentials) -> Checker<'a> {
        Checker { layered, credentials, problems: Vec::new() }
    }

    /// What to do about credentials where systemd gave none.
    pub(crate) fn credentials(&self) -> Credentials {
        self.credentials
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The value of `key` is wrong by itself.
    pub(crate) fn wrong(&mut self, key: &Key, message: impl Into<String>) {
        let example = examples::of(key).map(str::to_owned);
        self.note(self.layered.place(key), key, message.into(), example);
    }

    /// The same of one element of a list.
    pub(crate) fn wrong_element(&mut self, key: &Key, index: usize, message: impl Into<String>) {
        let example = examples::of(key).map(str::to_owned);
        self.note(self.layered.place_of_element(key, index), key, message.into(), example);
    }

    /// Something does not fit to something else, or is missing. Not said if what is missing may be
    /// what was unreadable.
    pub(crate) fn unfit(&mut self, key: &Key, message: impl Into<String>) {
        if !self.layered.incomplete && !self.layered.is_doubtful(key) {
            self.wrong(key, message);
        }
    }

    /// [`Checker::unfit`] of one element of a list.
    pub(crate) fn unfit_element(&mut self, key: &Key, index: usize, message: impl Into<String>) {
        if !self.layered.incomplete && !self.layered.is_doubtful(key) {
            self.wrong_element(key, index, message);
        }
    }

    fn note(&mut self, place: Place, key: &Key, message: String, example: Option<String>) {
        self.problems.push(Problem { place, key: key.to_string(), message, example });
    }

    /// `raw` as `parse` has it; None after a problem, or if it is not there.
    pub(crate) fn parse<T>(
        &mut self,
        key: &Key,
        raw: Option<&String>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(raw?) {
            Ok(value) => Some(value),
            Err(message) => {
                self.wrong(key, message);
                None
            }
        }
    }

    /// A path, or `default`.
    pub(crate) fn path(
        &mut self,
        key: &Key,
        raw: Option<&String>,
        parse: impl Fn(&str) -> Result<PathBuf, String>,
        default: &str,
    ) -> PathBuf {
        self.parse(key, raw, parse).unwrap_or_else(|| PathBuf::from(default))
    }

    /// A duration within its bounds.
    pub(crate) fn span(&mut self, key: &Key, raw: Option<&RawSpan>, limit: &SpanLimit) -> Span {
        let Some(span) = self.parse(key, raw.map(|RawSpan(text)| text), value::span) else {
            return limit.default;
        };
        if span < limit.min || span > limit.max {
            self.wrong(key, format!("{span} is not within {} and {}: {}", limit.min, limit.max, limit.why));
        }
        span
    }

    /// A number within its bounds.
    pub(crate) fn number(&mut self, key: &Key, raw: Option<i64>, limit: &NumberLimit) -> u32 {
        let Some(number) = raw else { return limit.default };
        match u32::try_from(number) {
            Ok(number) if (limit.min..=limit.max).contains(&number) => number,
            _ => {
                self.wrong(
                    key,
                    format!("{number} is not within {} and {}: {}", limit.min, limit.max, limit.why),
                );
                limit.default
            }
        }
    }

    /// One of a few words; the first is the default.
    pub(crate) fn word<T: Copy>(
        &mut self,
        key: &Key,
        raw: Option<&String>,
        words: &[(&str, T)],
    ) -> Option<T> {
        let known = || words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        let find = |text: &str| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is unknown; it is {}", known()))
        };
        self.parse(key, raw, find)
    }

    /// The name of a thing.
    pub(crate) fn name<T: FromStr<Err = NameError>>(&mut self, key: &Key, text: &str) -> Option<T> {
        self.parse(key, Some(&text.to_owned()), |text| {
            text.parse().map_err(|error: NameError| error.to_string())
        })
    }
}

/// `a, b, c`, or that there is none.
pub(crate) fn list<T: ToString>(names: impl Iterator<Item = T>) -> String {
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
