//! Names of messages.

use crate::domain::jitter;
use std::fmt;

/// The longest: with its header's name it must fit into a line of 998 bytes, and some stores keep 255.
const MESSAGE_ID_MAX: usize = 250;

/// The name of a message, which no other has (RFC 5322, section 3.6.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId(String);

/// Not the name of a message.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no Message-ID; one looks like <something.unique@host.example.org>")]
pub struct MessageIdError(String);

impl MessageId {
    /// A name with its angle brackets.
    ///
    /// # Errors
    ///
    /// When it could not stand in a header as it is.
    pub fn parse(text: &str) -> Result<MessageId, MessageIdError> {
        let refused = || MessageIdError(text.to_owned());
        let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).ok_or_else(refused)?;
        let (left, right) = inner.split_once('@').ok_or_else(refused)?;
        // Without quotes, comments and brackets, which few programs read alike.
        let plain = |part: &str| {
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+=~$!#%&*/".contains(&byte);
            !part.is_empty() && part.bytes().all(known)
        };
        if text.len() > MESSAGE_ID_MAX || !plain(left) || !plain(right) {
            return Err(refused());
        }
        Ok(MessageId(text.to_owned()))
    }

    /// With its angle brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What separates the parts of the message that has this name. `=_` is in no quoted-printable text (RFC 2045, section
    /// 6.7), so no part can contain it.
    pub(super) fn boundary(&self) -> String {
        let seed = jitter::seed(&self.0);
        format!("=_supervisor_{seed:016x}{:016x}", jitter::attempt(seed, 1))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_stand_in_a_header_is_a_name() {
        let good = "<3e9e22c07f81908a.1764126683.firing.1@host.example.org>";
        assert_eq!(MessageId::parse(good).unwrap().as_str(), good);
        for bad in [
            "",
            "a@b",
            "<a>",
            "<@b>",
            "<a@>",
            "<a@b@c>",
            "<a b@c>",
            "<a@b>\r\nBcc: x@y.org",
            "<a\r\n@b>",
            "<ä@b>",
            "<<a@b>>",
            &format!("<{}@b>", "a".repeat(250)),
        ] {
            assert!(MessageId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn boundaries_differ_as_names_do() {
        let boundary = |text| MessageId::parse(text).unwrap().boundary();
        assert_eq!(boundary("<a@b>"), boundary("<a@b>"));
        assert_ne!(boundary("<a.firing.1@b>"), boundary("<a.firing.2@b>"));
        assert!(boundary("<a@b>").len() <= 70, "RFC 2046, section 5.1.1");
    }
}
