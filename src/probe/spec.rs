//! What to ask a server, what to expect of it, and how often.

use crate::domain::id::ServerId;
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// How one server is probed. Made from the validated settings: every text in it can be sent as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The server.
    pub server: ServerId,
    /// What its answer decides.
    pub purpose: Purpose,
    /// With or without TLS.
    pub scheme: Scheme,
    /// Where to connect.
    pub address: Address,
    /// The `Host` header; with HTTPS its name is also what the certificate must be for.
    pub host: HeaderValue,
    /// Ask nothing: an accepted connection (with HTTPS, a finished handshake) is a good answer.
    pub connect_only: bool,
    /// What to get.
    pub path: PathAndQuery,
    /// The statuses that are good.
    pub expected: Vec<RangeInclusive<u16>>,
    /// A text that the body must hold.
    pub body_contains: Option<String>,
    /// From the start of one probe to the start of the next at the normal pace.
    pub interval: Duration,
    /// From the end of one probe to the start of the next at the fast pace.
    pub fast_interval: Duration,
    /// From the connect to the end of the body.
    pub timeout: Duration,
    /// Keep the connection for the next probes. Cheaper, and blinder: an open connection says nothing about the listener.
    pub keep_alive: bool,
    /// How many bytes of the body are read at most.
    pub max_body: usize,
    /// A probe at the normal pace starts up to this much after its place in the plan.
    pub jitter: Duration,
}

/// What the answer to a probe decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Where traffic goes.
    Ready,
    /// Whether a restart would be justified.
    Live,
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain.
    Http,
    /// Over TLS.
    Https,
}

/// `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// An address that cannot be connected to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no host:port; write it like \"10.0.0.5:5000\", \"api-onprem:5000\" or \"[::1]:5000\"")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let refused = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(refused)?;
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(refused)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => v6,
            None if !host.is_empty() && host.chars().all(plain) => host,
            Some(_) | None => return Err(refused()),
        };
        Ok(Address { host: host.to_owned(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Spec {
    /// Whether `status` is a good answer.
    pub(super) fn expects(&self, status: u16) -> bool {
        self.expected.iter().any(|range| range.contains(&status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_as_text() {
        for text in ["127.0.0.1:80", "api-onprem:5000", "[::1]:8080", "a_b.example:1"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_cannot_be_connected_to_is_refused() {
        for text in
            ["", "a", ":80", "a:", "a:0", "a:65536", "a b:1", "::1:80", "[::1:80", "[a]:80", "a\n:1", "u@h:1"]
        {
            assert!(text.parse::<Address>().is_err(), "{text:?} was taken");
        }
    }
}
