//! The only texts that get onto HAProxy's command line.
//!
//! HAProxy's command line has no quoting that works everywhere: `;` begins another command, a newline ends one, `<<`
//! begins a payload, a blank separates words, a backslash escapes. A value that contains none of these cannot become
//! anything but a value, so that is what [`Ident`] and [`MapPath`] admit, and commands are built from nothing else.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// The longest identifier. HAProxy itself has no limit below its line length; ours keeps any batch well below
/// `tune.bufsize`.
pub const IDENT_MAX: usize = 128;

/// A name of HAProxy's: a backend, a server, a key or a value of a map. 1 to [`IDENT_MAX`] characters of
/// `A-Z a-z 0-9 _ . : -`, those HAProxy accepts in proxy names (configuration manual, "Proxies").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ident(String);

/// Why a text is no [`Ident`] or no [`MapPath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentError {
    /// Nothing there.
    #[error("a name for HAProxy cannot be empty")]
    Empty,
    /// Longer than [`IDENT_MAX`].
    #[error("a name for HAProxy has at most {IDENT_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character that HAProxy might read as something else.
    #[error("{0:?} is not allowed in a name for HAProxy: use letters, digits, '_', '.', ':' and '-'")]
    Character(char),
    /// The path of a map is not absolute.
    #[error("the path of a map must begin with '/', as HAProxy sees the file")]
    Relative,
}

impl Ident {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Ident {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<Ident, IdentError> {
        check(text, |c| matches!(c, '_' | '.' | ':' | '-'))?;
        Ok(Ident(text.to_owned()))
    }
}

impl TryFrom<String> for Ident {
    type Error = IdentError;

    fn try_from(text: String) -> Result<Ident, IdentError> {
        text.parse()
    }
}

impl From<Ident> for String {
    fn from(ident: Ident) -> String {
        ident.0
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for Ident {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The path of a map file as HAProxy sees it: HAProxy names its maps by the path in its configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MapPath(String);

impl MapPath {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MapPath {
    type Err = IdentError;

    fn from_str(text: &str) -> Result<MapPath, IdentError> {
        if !Path::new(text).is_absolute() {
            return Err(if text.is_empty() { IdentError::Empty } else { IdentError::Relative });
        }
        check(text, |c| matches!(c, '/' | '_' | '.' | '-'))?;
        Ok(MapPath(text.to_owned()))
    }
}

impl TryFrom<String> for MapPath {
    type Error = IdentError;

    fn try_from(text: String) -> Result<MapPath, IdentError> {
        text.parse()
    }
}

impl From<MapPath> for String {
    fn from(path: MapPath) -> String {
        path.0
    }
}

impl fmt::Display for MapPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn check(text: &str, special: impl Fn(char) -> bool) -> Result<(), IdentError> {
    if text.is_empty() {
        return Err(IdentError::Empty);
    }
    if text.len() > IDENT_MAX {
        return Err(IdentError::TooLong(text.len()));
    }
    match text.chars().find(|&c| !c.is_ascii_alphanumeric() && !special(c)) {
        Some(bad) => Err(IdentError::Character(bad)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_could_begin_another_command_is_an_identifier() {
        for text in ["", " ", "a b", "a;b", "a\nb", "a\rb", "a\0b", "<<", "a\\b", "a/b", "a#b", "ü", "\"a\""]
        {
            assert!(text.parse::<Ident>().is_err(), "{text:?} was taken");
        }
        assert!("x".repeat(IDENT_MAX + 1).parse::<Ident>().is_err());
        assert_eq!("api__on-prem.1:2".parse::<Ident>().unwrap().as_str(), "api__on-prem.1:2");
    }

    #[test]
    fn a_map_is_named_by_an_absolute_path_without_specials() {
        for text in ["", "routes.map", "/maps/a b.map", "/maps/a;b", "/maps/a\nb", "#1"] {
            assert!(text.parse::<MapPath>().is_err(), "{text:?} was taken");
        }
        assert_eq!("/run/haproxy/routes.map".parse::<MapPath>().unwrap().as_str(), "/run/haproxy/routes.map");
    }

    #[test]
    fn an_identifier_from_a_file_is_checked_too() {
        assert!(serde_json::from_str::<Ident>("\"a;b\"").is_err());
        assert!(serde_json::from_str::<MapPath>("\"a\"").is_err());
    }
}
