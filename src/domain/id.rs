//! Names of things. Each kind of name is a type of its own, so that a site cannot be passed for a service.
//!
//! Names come from the settings and end up in HAProxy's configuration, on its command line, in URLs and in labels;
//! [`Name`] therefore admits only characters that mean nothing special in any of them.

use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The longest name, in bytes. Long enough for `customer-notification-preferences-api`; short enough that a name is
/// copied and compared on every event without a look at the heap.
pub const NAME_MAX: usize = 40;

/// A checked name: 1 to [`NAME_MAX`] characters of `A-Z a-z 0-9 _ . -`, beginning with a letter or a digit, and
/// without `__`, which joins names in HAProxy's configuration (`service__site`).
///
/// Kept inline and zero-padded, so that the order of the bytes is the order of the text. They are compared by eights, as
/// numbers: maps by name are what most events spend their time with.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name([u8; NAME_MAX]);

const _: () = assert!(NAME_MAX.is_multiple_of(8), "a name is compared by eights");

/// Why a text is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a name cannot be empty")]
    Empty,
    /// More than [`NAME_MAX`] bytes.
    #[error("a name has at most {NAME_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// A character that HAProxy, a URL or a label would read as something else.
    #[error("a name has letters, digits, '-', '_' and '.' only, not {0:?}")]
    Character(char),
    /// `.`, `-` or `_` at the beginning.
    #[error("a name begins with a letter or a digit, not {0:?}")]
    Start(char),
    /// Two underscores join names inside HAProxy.
    #[error("a name cannot contain \"__\", which joins names inside HAProxy")]
    Joiner,
}

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&b| b == 0).unwrap_or(NAME_MAX);
        // Only ASCII gets in (`from_str`), so this cannot fail; an empty name would show the bug without a panic.
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }

    /// The bytes as numbers, first byte first.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let (eights, _) = self.0.as_chunks::<8>();
        eights.iter().map(|eight| u64::from_be_bytes(*eight))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        self.numbers().cmp(other.numbers())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.'))
        {
            return Err(NameError::Character(bad));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::Start(first));
        }
        if text.contains("__") {
            return Err(NameError::Joiner);
        }
        if text.len() > NAME_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        let mut bytes = [0; NAME_MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Name(bytes))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub Name);

        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<$type, NameError> {
                text.parse().map($type)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name_type! {
    /// A place: on-prem, cloud. It has at most one Docker engine.
    SiteId
}
name_type! {
    /// What clients ask for.
    ServiceId
}
name_type! {
    /// Services that move together.
    GroupId
}
name_type! {
    /// One HAProxy: a process with its own sockets and state.
    ProxyId
}
name_type! {
    /// One Docker engine.
    EngineId
}
name_type! {
    /// One Alertmanager.
    PeerId
}

/// One server of one service: `service/server`. The name is unique within the service, whatever the site.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId {
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its name within the service.
    pub server: Name,
}

impl ServerId {
    /// A number in which each bit depends on every letter: two servers seldom agree in a few of them. The same on every
    /// machine.
    pub(super) fn mixed(&self) -> u64 {
        // Odd, and half of its bits are set: the fractional part of the golden ratio.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let numbers = self.service.0.numbers().chain(self.server.numbers());
        let mixed =
            numbers.fold(0, |mixed: u64, number| (mixed.rotate_left(5) ^ number).wrapping_mul(FACTOR));
        mixed ^ (mixed >> 32)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.server)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for ServerId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServerId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ServerId, D::Error> {
        use serde::de::Error;
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let (service, server) =
            text.split_once('/').ok_or_else(|| D::Error::custom("a server is service/server"))?;
        Ok(ServerId {
            service: service.parse().map_err(D::Error::custom)?,
            server: server.parse().map_err(D::Error::custom)?,
        })
    }
}

/// A container's name as Docker has it, without the leading slash.
///
/// Docker admits `[a-zA-Z0-9][a-zA-Z0-9_.-]+` without a bound on its length, so this is no [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerName(pub String);

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_inject_something_are_refused() {
        let refused =
            ["", " ", "a b", "a\"b", "a\nb", "a;b", "a/b", "a__b", "-a", ".a", "ü", "a:b", &"x".repeat(41)];
        for text in refused {
            assert!(text.parse::<Name>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn names_keep_their_text_and_their_order() {
        let longest = "x".repeat(NAME_MAX);
        let mut names: Vec<Name> =
            ["b", "a-1", "a", "a.b_c", &longest].iter().map(|t| t.parse().unwrap()).collect();
        names.sort();
        let texts: Vec<&str> = names.iter().map(Name::as_str).collect();
        assert_eq!(texts, ["a", "a-1", "a.b_c", "b", &longest]);
    }

    #[test]
    fn a_server_survives_json_as_one_text() {
        let id = ServerId { service: "api".parse().unwrap(), server: "api-onprem".parse().unwrap() };
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, "\"api/api-onprem\"");
        assert_eq!(serde_json::from_str::<ServerId>(&text).unwrap(), id);
    }
}
