//! Writing for people: width, wrapping, colour where there is a terminal that wants it.

use crate::domain::explain::Grade;
use std::io::{self, IsTerminal, Write};

/// Lines for people are at most this wide: it fits every terminal, mail and ticket.
pub(super) const WIDTH: usize = 80;

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

/// `text` in lines of at most [`WIDTH`], the first one behind `first`, the others behind as many blanks.
pub(super) fn wrapped(first: &str, text: &str) -> String {
    let indent = first.chars().count();
    let mut lines = String::from(first);
    let mut used = indent;
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && used + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            used = indent;
        } else if index > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines.push('\n');
    lines
}
