//! The path of a key: `services.api.ready.interval`.

use std::fmt;

/// From the root of the settings to one key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Key(Vec<String>);

impl Key {
    /// The whole of the settings.
    pub(crate) fn root() -> Key {
        Key::default()
    }

    /// The key `name` in the table that `self` is.
    pub(crate) fn at(&self, name: &str) -> Key {
        let mut segments = self.0.clone();
        segments.push(name.to_owned());
        Key(segments)
    }

    /// The table that `self` is in.
    pub(crate) fn parent(&self) -> Option<Key> {
        let (_, rest) = self.0.split_last()?;
        Some(Key(rest.to_vec()))
    }

    /// The last part.
    pub(crate) fn leaf(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The parts, for `match`.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// Whether `self` is `other` or inside it.
    pub(crate) fn is_within(&self, other: &Key) -> bool {
        self.0.starts_with(&other.0)
    }

    /// The named thing that the key is about: `services.api` of `services.api.ready.interval`.
    pub(crate) fn thing(&self) -> Key {
        Key(self.0.iter().take(2).cloned().collect())
    }
}

/// As TOML would have it: parts that are no bare keys stand in quotes.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if !segment.is_empty() && segment.chars().all(bare) {
                f.write_str(segment)?;
            } else {
                write!(f, "{segment:?}")?;
            }
        }
        Ok(())
    }
}
