//! A relay: a mail server that takes our messages and carries them on.

use crate::secret::Secret;
use std::net::IpAddr;

/// A relay and how to talk to it.
#[derive(Debug, Clone)]
pub struct Relay {
    /// What logs and metrics call it.
    pub name: String,
    /// A name or an IP address. With TLS, the certificate must be for it.
    pub host: String,
    /// Usually 465 with [`RelayTls::Implicit`], 587 with [`RelayTls::StartTls`].
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: RelayTls,
    /// How we introduce ourselves.
    pub helo: Helo,
    /// For a relay that wants to know who sends.
    pub auth: Option<Login>,
    /// Certificates in PEM form. Where they are given only they are trusted, not those of the machine.
    pub ca: Option<Vec<u8>>,
}

/// When a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RelayTls {
    /// From its first byte (RFC 8314, section 3: to be preferred).
    #[default]
    Implicit,
    /// After a beginning in plain text, and never without. Whoever sits on the path can add to that beginning; what
    /// arrives with or after the relay's consent is therefore never read as its answer, and the attempt ends.
    StartTls,
    /// Never. A password is then only told to a relay on this machine.
    None,
}

/// A user and a password.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// The name that we give in EHLO: a domain name or an address literal (RFC 5321, section 4.1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helo(String);

/// Not a name to introduce oneself with.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0:?} cannot stand in EHLO; it wants this machine's full name, as in alerts.example.org, or its IP address"
)]
pub struct HeloError(String);

/// The longest domain name (RFC 5321, section 4.5.3.1.2).
const HELO_MAX: usize = 255;

impl Helo {
    /// A name of this machine. An IP address becomes a literal.
    ///
    /// # Errors
    ///
    /// When a relay would read something else than one name.
    pub fn parse(name: &str) -> Result<Helo, HeloError> {
        match name.parse() {
            Ok(IpAddr::V4(address)) => return Ok(Helo(format!("[{address}]"))),
            Ok(IpAddr::V6(address)) => return Ok(Helo(format!("[IPv6:{address}]"))),
            Err(_) => {}
        }
        // An underscore is in no domain name, but in many names of machines, and relays take it.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if name.is_empty() || name.len() > HELO_MAX || !name.bytes().all(plain) {
            return Err(HeloError(name.to_owned()));
        }
        Ok(Helo(name.to_owned()))
    }

    /// For a machine whose own name is none: a literal of this machine's address (RFC 5321 section 4.1.3).
    pub fn nameless() -> Helo {
        Helo("[127.0.0.1]".to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        let login = Login { user: "sup".to_owned(), password: Secret::new("hunter2".to_owned()) };
        assert_eq!(format!("{login:?}"), r#"Login { user: "sup", password: Secret(***) }"#);
        assert!(!format!("{login:#?}").contains("hunter2"));
    }

    #[test]
    fn a_helo_is_one_name_or_an_address_literal() {
        for (name, said) in
            [("mail.test", "mail.test"), ("192.0.2.1", "[192.0.2.1]"), ("2001:db8::1", "[IPv6:2001:db8::1]")]
        {
            assert_eq!(Helo::parse(name).unwrap().as_str(), said);
        }
        for bad in ["", "a b", "a\r\nMAIL FROM:<x@y>", "ö.example", &"a".repeat(256)] {
            assert!(Helo::parse(bad).is_err(), "{bad:?}");
        }
    }
}
