//! What a look at one part found, for `supervisor doctor`: what is right, what is not, and what mends it.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it must be.
    Ok,
    /// It works, and will not always.
    Warning,
    /// Something that supervisor is for does not work.
    Error,
}

/// One line of what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a stable word for programs (docs/doctor.md lists them).
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found, in a sentence.
    pub words: String,
    /// What mends it; none where nothing is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// Lines that belong into a file, as they stand there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
}

/// What was found about one part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Examined {
    /// The part: `haproxy edge`, `docker local`.
    pub about: String,
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Finding {
    /// It is as it must be.
    pub fn ok(check: &'static str, words: impl Into<String>) -> Finding {
        Finding { check, level: Level::Ok, words: words.into(), fix: None, lines: Vec::new() }
    }

    /// It works, and will not always.
    pub fn warning(check: &'static str, words: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { level: Level::Warning, fix: Some(fix.into()), ..Finding::ok(check, words) }
    }

    /// Something does not work.
    pub fn error(check: &'static str, words: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { level: Level::Error, fix: Some(fix.into()), ..Finding::ok(check, words) }
    }

    /// With lines for a file.
    #[must_use]
    pub fn with_lines(mut self, lines: Vec<String>) -> Finding {
        self.lines = lines;
        self
    }
}

/// The worst of what was found.
pub fn worst(examined: &[Examined]) -> Level {
    let all = examined.iter().flat_map(|part| &part.findings);
    all.map(|finding| finding.level).max().unwrap_or(Level::Ok)
}
