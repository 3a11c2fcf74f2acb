//! Text to steps. Everything that is wrong is said at once, each with its line, the word and a line that is right.

use super::cast::Cast;
use super::forms;
use super::happening::{self, Happening};
use super::words::{Words, Wrong};
use super::{docker, setting};
use crate::domain::Policy;
use crate::domain::time::Span;
use std::fmt;

/// The largest script. A long night of one service has some kilobytes.
pub const BYTES_MAX: usize = 1 << 20;

/// The most lines of a script.
pub const LINES_MAX: usize = 10_000;

/// After so many problems nobody reads on.
const PROBLEMS_MAX: usize = 50;

/// How much of a wrong word is said.
const WORD_SHOWN: usize = 40;

/// A script that can be played.
#[derive(Debug, Clone)]
pub struct Script {
    /// The policy when the first thing happens.
    pub(super) policy: Policy,
    /// Every line but those that say what is decided.
    pub(super) lines: Vec<Line>,
}

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// From 1, as editors count.
    pub(super) number: usize,
    pub(super) text: String,
    pub(super) step: Option<(When, Happening)>,
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// So long after the script's beginning.
    At(Span),
    /// Now: no time passes.
    Now,
    /// At the next deadline.
    Next,
    /// At every deadline until then.
    Until(Span),
}

/// What is wrong with one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which, from 1; 0: the whole script.
    pub line: usize,
    /// The word, if it is one word.
    pub word: Option<String>,
    /// What is wrong with it.
    pub why: String,
    /// A line that is right.
    pub example: Option<&'static str>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(word) = &self.word {
            let shown: String = word.chars().take(WORD_SHOWN).collect();
            let more = if shown.len() < word.len() { "..." } else { "" };
            write!(f, "\"{}{more}\": ", shown.escape_debug())?;
        }
        f.write_str(&self.why)?;
        match self.example {
            Some(example) => write!(f, "; right is for example: {example}"),
            None => Ok(()),
        }
    }
}

/// Whether `line` says what is decided, and is written anew with each run.
pub(super) fn is_decided(line: &str) -> bool {
    ["  > ", "  ! ", "  @ "].iter().any(|mark| line.starts_with(mark))
}

impl Script {
    /// Reads a script.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it; at most the first 50.
    pub fn parse(text: &str) -> Result<Script, Vec<Problem>> {
        let whole = |why: String| vec![Problem { line: 0, word: None, why, example: None }];
        if text.len() > BYTES_MAX {
            return Err(whole(format!(
                "a script has {BYTES_MAX} bytes at most, this one has {}",
                text.len()
            )));
        }
        let cast = Cast::new().map_err(|wrong| whole(wrong.why))?;
        let mut reader =
            Reader { cast, begun: None, time: Span::ZERO, is_cast_broken: false, problems: Vec::new() };
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if index >= LINES_MAX {
                reader.problems.push(Problem {
                    line: number,
                    word: None,
                    why: format!("a script has {LINES_MAX} lines at most"),
                    example: None,
                });
                break;
            }
            if is_decided(line) {
                continue;
            }
            let step = reader.line(number, line);
            lines.push(Line { number, text: line.to_owned(), step });
            if reader.problems.len() >= PROBLEMS_MAX {
                break;
            }
        }
        if !reader.problems.is_empty() {
            return Err(reader.problems);
        }
        Ok(Script { policy: reader.begun.unwrap_or(reader.cast.policy), lines })
    }

    /// The comment that a script begins with, without its mark.
    pub(super) fn title(&self) -> String {
        let comments = self.lines.iter().map_while(|line| line.text.strip_prefix('#'));
        comments.map(str::trim).collect::<Vec<_>>().join(" ")
    }
}

/// What is known so far.
struct Reader {
    cast: Cast,
    /// The policy when the first thing happened.
    begun: Option<Policy>,
    time: Span,
    /// A line that introduces somebody, or was perhaps meant to, is wrong.
    is_cast_broken: bool,
    problems: Vec<Problem>,
}

impl Reader {
    /// What a line says; notes what is wrong with it.
    fn line(&mut self, number: usize, line: &str) -> Option<(When, Happening)> {
        let read = match line.chars().find(|c| c.is_control() && *c != '\t') {
            // They would steer the terminal that a script is shown on.
            Some(control) => Err(Wrong::new(&control.to_string(), "a script has no control characters")),
            None => self.read(line),
        };
        read.unwrap_or_else(|Wrong { word, why, is_unknown }| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Whoever was to be introduced by a line that is wrong is not unknown.
            if !(is_unknown && self.is_cast_broken) {
                let example = forms::example(&words);
                self.problems.push(Problem { line: number, word, why, example });
            }
            self.is_cast_broken |= !matches!(words.first(), Some(&("at" | "wake" | "until" | "set")));
            None
        })
    }

    fn read(&mut self, line: &str) -> Result<Option<(When, Happening)>, Wrong> {
        let mut words = Words::of(line);
        if words.is_empty() {
            return Ok(None);
        }
        let word = words.next("a word")?;
        let step = match word {
            "service" => self.cast.service(&mut words).map(|()| None)?,
            "proxies" => self.cast.proxies(&mut words).map(|()| None)?,
            "engine" => self.cast.engine(&mut words).map(|()| None)?,
            "alertmanagers" => self.cast.alertmanagers(&mut words).map(|()| None)?,
            "remove" => self.cast.remove(&mut words).map(|()| None)?,
            "set" => setting::set(&mut self.cast, &mut words).map(|()| None)?,
            "container" => {
                let container = self.cast.container(&mut words)?;
                let said = words.clone().text();
                let facts = docker::facts(&mut words)?;
                // Without a fact it is introduced, and that is all.
                (!said.is_empty()).then_some((When::Now, Happening::Facts { container, facts, words: said }))
            }
            "clock" => {
                words.expect("jumps")?;
                let back = words.take("back");
                let span = words.span("how far")?;
                let far = i64::try_from(span.0).unwrap_or(i64::MAX);
                Some((When::Now, Happening::Clock(if back { -far } else { far })))
            }
            "wake" => {
                self.begin();
                Some((When::Next, Happening::Wake))
            }
            "until" => {
                let at = self.later(&mut words)?;
                words.expect("wake")?;
                Some((When::Until(at), Happening::Wake))
            }
            "at" => {
                let at = self.later(&mut words)?;
                Some((When::At(at), happening::read(&self.cast, &mut words)?))
            }
            word => {
                let known = forms::first_words().join(", ");
                return Err(Wrong::new(word, format!("a line begins with {known}, or with # for a comment")));
            }
        };
        words.end()?;
        Ok(step)
    }

    /// A time that is not before the last one.
    fn later(&mut self, words: &mut Words<'_>) -> Result<Span, Wrong> {
        self.begin();
        let word = words.peek().unwrap_or_default();
        let at = words.span("a time")?;
        if at < self.time {
            return Err(Wrong::new(word, "time does not go back"));
        }
        self.time = at;
        Ok(at)
    }

    /// From the first thing that happens on, new settings are heard of with `reload` only.
    fn begin(&mut self) {
        if self.begun.is_none() {
            self.begun = Some(self.cast.policy.clone());
        }
    }
}
