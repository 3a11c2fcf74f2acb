//! What is wrong in the settings: where, what, and what to write instead.

use std::fmt;
use std::path::PathBuf;

/// The most problems that are reported. Nobody reads more at once, and a file of another program has one on every line.
pub(crate) const PROBLEMS_MAX: usize = 50;

/// The longest text of a problem that is shown, in characters; a value may have a megabyte.
const TEXT_MAX: usize = 600;

/// One mistake. Shown as `supervisor.toml:12: services.api.ready.interval: "5" has no unit; write for example interval =
/// "1s"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// The key, from the root: `services.api.bind`. Empty if it is not about one key.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// A line that would be right.
    pub example: Option<String>,
}

/// Where something in the settings was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1. None: it is about the whole file.
        line: Option<usize>,
        /// The character of the line, from 1.
        column: Option<usize>,
    },
    /// In the environment.
    Environment {
        /// The variable's name.
        variable: String,
    },
}

/// All the mistakes of one load, in the order of the places. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    problems: Vec<Problem>,
    left_out: usize,
}

impl Problem {
    /// A problem with a file as a whole.
    pub(crate) fn of_file(path: impl Into<PathBuf>, message: impl Into<String>) -> Problem {
        Problem { place: Place::file(path), key: String::new(), message: message.into(), example: None }
    }
}

impl Place {
    /// A file as a whole.
    pub(crate) fn file(path: impl Into<PathBuf>) -> Place {
        Place::File { path: path.into(), line: None, column: None }
    }
}

impl Problems {
    /// `Ok` if there are none.
    pub(crate) fn none_or(mut problems: Vec<Problem>) -> Result<(), Problems> {
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort();
        problems.dedup();
        let left_out = problems.len().saturating_sub(PROBLEMS_MAX);
        problems.truncate(PROBLEMS_MAX);
        Err(Problems { problems, left_out })
    }

    /// The problems.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.problems.len() + self.left_out
    }
}

impl std::error::Error for Problems {}

/// One problem to a line.
impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more", self.left_out)?;
        }
        Ok(())
    }
}

/// Always one line: text from outside may hold newlines and terminal escapes, and they are shown, not sent.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}: ", self.place);
        if !self.key.is_empty() {
            text.push_str(&self.key);
            text.push_str(": ");
        }
        text.push_str(&self.message);
        for c in text.chars().take(TEXT_MAX) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if text.chars().nth(TEXT_MAX).is_some() {
            f.write_str("…")?;
        }
        match &self.example {
            Some(example) => write!(f, "; write for example {example}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { path, line: Some(line), .. } => write!(f, "{}:{line}", path.display()),
            Place::File { path, line: None, .. } => write!(f, "{}", path.display()),
            Place::Environment { variable } => write!(f, "environment {variable}"),
        }
    }
}
