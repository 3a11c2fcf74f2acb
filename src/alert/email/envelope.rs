//! Who gets a message, as the relay is told. What stands in the message's own headers is a different matter.

use lettre::Address;
use lettre::address::AddressError;

/// How many recipients one attempt has at most: a relay must take a hundred in one go (RFC 5321, section 4.5.3.1.8), and
/// more need not be taken.
pub const RECIPIENTS_MAX: usize = 100;

/// A sender and recipients, whose addresses a relay can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    from: Address,
    recipients: Vec<Address>,
}

/// Why there is no such envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an address.
    #[error("{0:?} is not a mail address; one looks like ops@example.org")]
    Address(String, #[source] AddressError),
    /// An address that needs an extension which few relays have (RFC 6531).
    #[error("{0:?} is not plain ASCII; write its domain in the form that begins with xn--")]
    NotAscii(String),
    /// Nobody to send to.
    #[error("there is no recipient")]
    NoRecipient,
    /// Too many for one attempt.
    #[error("{0} recipients are more than the {RECIPIENTS_MAX} that a relay must take at a time")]
    TooMany(usize),
}

impl Envelope {
    /// An envelope. A recipient named twice is kept once.
    ///
    /// # Errors
    ///
    /// When an address is none, or there are no recipients or too many.
    pub fn new<S: AsRef<str>>(
        from: &str,
        recipients: impl IntoIterator<Item = S>,
    ) -> Result<Envelope, EnvelopeError> {
        let from = address(from)?;
        let mut known: Vec<Address> = Vec::new();
        for recipient in recipients {
            let recipient = address(recipient.as_ref())?;
            if !known.contains(&recipient) {
                known.push(recipient);
            }
        }
        match known.len() {
            0 => Err(EnvelopeError::NoRecipient),
            1..=RECIPIENTS_MAX => Ok(Envelope { from, recipients: known }),
            many => Err(EnvelopeError::TooMany(many)),
        }
    }

    /// Where relays report failures to.
    pub fn from(&self) -> &str {
        self.from.as_ref()
    }

    /// The recipients, in the order in which they were named.
    pub fn recipients(&self) -> impl ExactSizeIterator<Item = &str> {
        self.recipients.iter().map(AsRef::as_ref)
    }

    pub(super) fn sender(&self) -> &Address {
        &self.from
    }

    pub(super) fn addresses(&self) -> &[Address] {
        &self.recipients
    }
}

fn address(text: &str) -> Result<Address, EnvelopeError> {
    // lettre takes a line end inside quotes for part of a name; a relay would take it for the next command.
    if text.chars().any(char::is_control) {
        return Err(EnvelopeError::Address(text.to_owned(), AddressError::InvalidInput));
    }
    if !text.is_ascii() {
        return Err(EnvelopeError::NotAscii(text.to_owned()));
    }
    text.parse().map_err(|why| EnvelopeError::Address(text.to_owned(), why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "ops",
            "ops@",
            "@example.org",
            "a b@example.org",
            "ops@example.org>",
            "ops@example.org\r\nRCPT TO:<x@example.org>",
            "\"a\r\nb\"@example.org",
            "\"a\nb\"@example.org",
            "Ops <ops@example.org>",
        ] {
            assert!(
                matches!(Envelope::new("s@example.org", [bad]), Err(EnvelopeError::Address(..))),
                "{bad:?}"
            );
            assert!(Envelope::new(bad, ["ops@example.org"]).is_err(), "{bad:?} as the sender");
        }
        assert!(matches!(Envelope::new("s@example.org", ["ö@example.org"]), Err(EnvelopeError::NotAscii(_))));
    }

    #[test]
    fn recipients_are_kept_once_in_order_and_bounded() {
        let envelope = Envelope::new("s@example.org", ["b@x.org", "a@x.org", "b@x.org"]).unwrap();
        assert_eq!(envelope.recipients().collect::<Vec<_>>(), ["b@x.org", "a@x.org"]);
        let nobody: [&str; 0] = [];
        assert!(matches!(Envelope::new("s@example.org", nobody), Err(EnvelopeError::NoRecipient)));
        let many = |count: usize| Envelope::new("s@example.org", (0..count).map(|n| format!("r{n}@x.org")));
        assert!(many(RECIPIENTS_MAX).is_ok());
        assert!(matches!(many(RECIPIENTS_MAX + 1), Err(EnvelopeError::TooMany(101))));
    }
}
