//! Writing for people: width, wrapping, colour where there is a terminal that wants it.

use crate::domain::explain::Grade;
pub(super) use crate::present::{WIDTH, wrapped};
use std::io::{self, IsTerminal, Write};

/// Where a command writes.
pub(super) struct Output {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
    /// Whether colour is wanted.
    pub(super) colour: bool,
    /// Whether a person looks at it.
    pub(super) terminal: bool,
}

impl Output {
    /// The process's own. No colour where the output is no terminal, or `NO_COLOR` is set (no-color.org).
    pub(super) fn standard() -> Output {
        let terminal = io::stdout().is_terminal();
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Output {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            colour: terminal && wanted,
            terminal,
        }
    }

    #[cfg(test)]
    pub(super) fn to(out: Box<dyn Write + Send>, err: Box<dyn Write + Send>) -> Output {
        Output { out, err, colour: false, terminal: false }
    }

    /// A line of the result.
    pub(super) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// A result in several lines, seen at once.
    pub(super) fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    /// A line beside the result.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.err, "{text}")
    }

    /// One JSON document on one line.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> anyhow::Result<()> {
        self.line(&serde_json::to_string(value)?)?;
        Ok(self.out.flush()?)
    }
}

/// The word for a grade, loud where it is bad.
pub(super) fn grade(grade: Grade, colour: bool) -> String {
    let (word, code) = match grade {
        Grade::Well => ("well", 32),
        Grade::Degraded => ("DEGRADED", 33),
        Grade::Down => ("DOWN", 31),
    };
    if colour { format!("\u{1b}[1;{code}m{word}\u{1b}[0m") } else { word.to_owned() }
}
