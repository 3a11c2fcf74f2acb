//! One engine: its address, calls with deadlines, and errors that say what to do.

use super::translate;
use crate::chain::chain;
use crate::clock::boot_now;
use crate::domain::event::{
    BorrowedNetwork, ContainerList, ContainerSeen, ContainerStatus, Facts, Lender, Past,
};
use crate::domain::id::{ContainerName, EngineId};
use bollard::errors::Error as Cause;
use bollard::models::ContainerInspectResponse;
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::timeout;

/// The deadline of a small call. An idle engine answers in milliseconds, one that starts fifty containers in a second.
pub(super) const CALL_WITHIN: Duration = Duration::from_secs(4);

/// How many containers are inspected at a time: each call is a connection of its own.
const INSPECTS_MAX: usize = 8;

/// bollard's own deadline, which covers an answer's head only and counts whole seconds; ours comes first.
const HEAD_WITHIN_SECS: u64 = 10;

/// Where an engine listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket: Docker's default, rootless, Desktop, Podman.
    Unix(PathBuf),
    /// `host:port`, without TLS: whoever reaches it is root there.
    Tcp(String),
}

/// An engine's address that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no address of a Docker engine; write it like \"unix:///var/run/docker.sock\" or \"tcp://10.0.0.5:2375\""
)]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let path = text.strip_prefix("unix://").or_else(|| text.starts_with('/').then_some(text));
        if let Some(path) = path.filter(|path| path.starts_with('/')) {
            return Ok(Address::Unix(PathBuf::from(path)));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
        match text
            .strip_prefix("tcp://")
            .and_then(|rest| rest.rsplit_once(':').map(|(host, port)| (rest, host, port)))
        {
            Some((rest, host, port))
                if !host.is_empty()
                    && rest.chars().all(plain)
                    && port.parse::<u16>().is_ok_and(|port| port != 0) =>
            {
                Ok(Address::Tcp(rest.to_owned()))
            }
            _ => Err(AddressError(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

/// An engine that can be asked. Holds no connection: every call makes its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Its name in the settings.
    pub id: EngineId,
    /// Where it listens.
    pub address: Address,
}

/// What an engine did not do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody there who can be talked to.
    #[error("docker engine {address} cannot be reached: {advice}")]
    Unreachable {
        /// Where.
        address: Address,
        /// What a person can do about it.
        advice: &'static str,
        /// The reason.
        source: Cause,
    },
    /// It did not answer in time.
    #[error(
        "docker engine {address} did not answer {call} within {within:?}: it hangs or is overloaded; see its log"
    )]
    Late {
        /// Where.
        address: Address,
        /// What was asked.
        call: &'static str,
        /// How long was waited.
        within: Duration,
    },
    /// It refused, or answered with what we do not understand.
    #[error("docker engine {address} failed {call}")]
    Failed {
        /// Where.
        address: Address,
        /// What was asked.
        call: &'static str,
        /// The reason.
        source: Cause,
    },
    /// Its events ended: it stopped, or a proxy between us closed an idle stream.
    #[error(
        "docker engine {address} ended its events: it is stopping or restarting, or a proxy in between closed them"
    )]
    Ended {
        /// Where.
        address: Address,
    },
    /// No container has such a name.
    #[error("{name:?} is no container's name")]
    Name {
        /// What was given.
        name: ContainerName,
    },
}

impl Engine {
    /// A client whose API version is the engine's.
    pub(super) async fn connect(&self) -> Result<Docker, EngineError> {
        self.connect_for(HEAD_WITHIN_SECS).await
    }

    /// The same for a call whose answer takes up to `head_within_secs`.
    pub(super) async fn connect_for(&self, head_within_secs: u64) -> Result<Docker, EngineError> {
        let docker = match &self.address {
            Address::Unix(path) => {
                Docker::connect_with_unix(&path.to_string_lossy(), head_within_secs, API_DEFAULT_VERSION)
            }
            Address::Tcp(_) => {
                Docker::connect_with_http(&self.address.to_string(), head_within_secs, API_DEFAULT_VERSION)
            }
        };
        let docker = docker.map_err(|source| self.error("a connection", source))?;
        self.call("its version", docker.negotiate_version()).await
    }

    /// Looks at `names` once: what [`watch`](super::watch()) sends after it connected.
    pub async fn list(&self, names: &BTreeSet<ContainerName>) -> Result<ContainerList, EngineError> {
        let docker = self.connect().await?;
        let at = boot_now();
        let containers = self.inspect(&docker, names, &BTreeMap::new()).await?;
        Ok(ContainerList { engine: self.id, at, containers, past: Past::default() })
    }

    /// One call, with a deadline.
    pub(super) async fn call<T>(
        &self,
        call: &'static str,
        future: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, EngineError> {
        match timeout(CALL_WITHIN, future).await {
            Ok(done) => done.map_err(|source| self.error(call, source)),
            Err(_) => Err(EngineError::Late { address: self.address.clone(), call, within: CALL_WITHIN }),
        }
    }

    /// The error of a call, with advice where the connection is the trouble.
    pub(super) fn error(&self, call: &'static str, source: Cause) -> EngineError {
        let address = self.address.clone();
        match advice(&source) {
            Some(advice) => EngineError::Unreachable { address, advice, source },
            None => EngineError::Failed { address, call, source },
        }
    }

    /// Looks at each of `names`; one that does not exist is absent from the answer.
    ///
    /// One by one and not as a list: a single status that bollard does not know would spoil the whole list. A container
    /// that cannot be read or whose lock hangs in the engine is [`ContainerStatus::Unknown`], under the id of `before`.
    pub(super) async fn inspect(
        &self,
        docker: &Docker,
        names: &BTreeSet<ContainerName>,
        before: &BTreeMap<ContainerName, Option<ContainerSeen>>,
    ) -> Result<BTreeMap<ContainerName, ContainerSeen>, EngineError> {
        let mut looks = Vec::new();
        for name in names {
            let known = before.get(name).and_then(Option::as_ref).map(|seen| seen.id.clone());
            looks.push(self.inspect_one(docker, name, known.unwrap_or_default()));
        }
        let mut looks = stream::iter(looks).buffer_unordered(INSPECTS_MAX);
        let mut found = BTreeMap::new();
        while let Some(look) = looks.next().await {
            let (name, seen) = look?;
            found.extend(seen.map(|seen| (name.clone(), seen)));
        }
        Ok(found)
    }

    /// Looks also at the container whose network this one uses, whether anybody watches that one or not.
    async fn with_lender(
        &self,
        docker: &Docker,
        mut seen: ContainerSeen,
    ) -> Result<ContainerSeen, EngineError> {
        let Some(of) = seen.facts.network.as_ref().map(|network| network.of.clone()) else { return Ok(seen) };
        let (name, lender) = match self.call("an inspect", docker.inspect_container(&of, None)).await {
            Ok(found) => translate::lender(&found),
            Err(EngineError::Failed {
                source: Cause::DockerResponseServerError { status_code: 404, .. },
                ..
            }) => (None, Lender::Gone),
            Err(error @ EngineError::Unreachable { .. }) => return Err(error),
            Err(unread) => {
                tracing::debug!(engine = %self.id, container = of, error = %chain(&unread), "cannot be read");
                (None, Lender::Unknown)
            }
        };
        seen.facts.network = Some(BorrowedNetwork { of, name, lender });
        // Both may have been started anew between the two looks: then this one is the younger after all.
        if is_older_than_its_network(&seen)
            && let Ok(found) = self.call("an inspect", docker.inspect_container(&seen.id, None)).await
        {
            seen.facts.started = translate::started(&found);
        }
        Ok(seen)
    }

    async fn inspect_one<'a>(
        &self,
        docker: &Docker,
        name: &'a ContainerName,
        known: String,
    ) -> Result<(&'a ContainerName, Option<ContainerSeen>), EngineError> {
        if !translate::is_name(&name.0) {
            return Ok((name, None));
        }
        let error = match self.call("an inspect", docker.inspect_container(&name.0, None)).await {
            Ok(found) => {
                // `inspect` also takes the beginning of an id for a name.
                let same = found.name.as_deref().is_some_and(|found| found.trim_start_matches('/') == name.0);
                let seen = seen(found);
                return Ok((name, if same { Some(self.with_lender(docker, seen).await?) } else { None }));
            }
            Err(error) => error,
        };
        match error {
            EngineError::Failed {
                source: Cause::DockerResponseServerError { status_code: 404, .. }, ..
            } => Ok((name, None)),
            EngineError::Unreachable { .. } => Err(error),
            unread => {
                tracing::debug!(engine = %self.id, container = %name, error = %chain(&unread), "cannot be read");
                Ok((
                    name,
                    Some(ContainerSeen {
                        id: known,
                        status: ContainerStatus::Unknown,
                        facts: Facts::guessed(),
                    }),
                ))
            }
        }
    }
}

/// What `inspect` says of a container.
fn seen(found: ContainerInspectResponse) -> ContainerSeen {
    let status = found.state.as_ref().map_or(ContainerStatus::Unknown, translate::status);
    let facts = translate::facts(&found);
    ContainerSeen { id: found.id.unwrap_or_default(), status, facts }
}

/// Whether the container, as it was seen, was started before the one whose network it uses.
fn is_older_than_its_network(seen: &ContainerSeen) -> bool {
    let lender = seen.facts.network.as_ref().map(|network| network.lender);
    match (lender, seen.facts.started) {
        (Some(Lender::There { started: Some(lender), .. }), Some(own)) => own < lender,
        (_, _) => false,
    }
}

/// What to do when the connection itself is the trouble; none when the engine answered.
fn advice(error: &Cause) -> Option<&'static str> {
    if matches!(error, Cause::SocketNotFoundError(_)) {
        return Some(
            "there is no such socket; start Docker, or correct the engine's address (rootless: \
             unix:///run/user/UID/docker.sock); in a container, mount the socket's directory",
        );
    }
    // bollard's transparent variants hide the very error that they hold from `source()`.
    let mut next: Option<&(dyn Error + 'static)> = match error {
        Cause::IOError { err } => Some(err),
        other => Some(other),
    };
    while let Some(current) = next {
        if let Some(error) = current.downcast_ref::<io::Error>() {
            return Some(match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "we may not use it; run supervisor as root or as a member of the socket's group (docker)"
                }
                io::ErrorKind::ConnectionRefused => "it is there, but nobody listens; start Docker",
                io::ErrorKind::NotFound => "the socket is gone; start Docker",
                _ => "the connection failed; see whether Docker runs and answers `docker version`",
            });
        }
        next = current.source();
    }
    matches!(error, Cause::HyperLegacyError { .. } | Cause::HyperResponseError { .. })
        .then_some("the connection broke off; see whether Docker runs and answers `docker version`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_engines_survive_as_text() {
        for text in ["unix:///var/run/docker.sock", "tcp://10.0.0.5:2375", "tcp://[::1]:2375"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("/run/docker.sock".parse(), Ok(Address::Unix(PathBuf::from("/run/docker.sock"))));
    }

    #[test]
    fn what_is_no_address_of_an_engine_is_refused() {
        for text in [
            "",
            "docker.sock",
            "unix://docker.sock",
            "tcp://",
            "tcp://a",
            "tcp://a:0",
            "http://a:1",
            "tcp://a/b:1",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn every_trouble_with_the_socket_has_its_advice() {
        let io = |kind: io::ErrorKind| Cause::IOError { err: kind.into() };
        let table = [
            (Cause::SocketNotFoundError("/run/docker.sock".to_owned()), "no such socket"),
            (io(io::ErrorKind::PermissionDenied), "member of the socket's group"),
            (io(io::ErrorKind::ConnectionRefused), "nobody listens"),
            (io(io::ErrorKind::NotFound), "gone"),
            (io(io::ErrorKind::BrokenPipe), "docker version"),
        ];
        for (error, part) in table {
            let text = advice(&error);
            assert!(text.is_some_and(|text| text.contains(part)), "{error:?}: {text:?}");
        }
        let answered = Cause::DockerResponseServerError { status_code: 500, message: "no".to_owned() };
        assert_eq!(advice(&answered), None, "it answered");
    }

    #[test]
    fn names_that_would_leave_their_place_in_a_url_are_no_names() {
        for text in ["", "a/../b", "a?b", "../a", "-a", "a b", "a\n", "ü"] {
            assert!(!translate::is_name(text), "{text:?}");
        }
        assert!(translate::is_name("api-onprem_1.x"));
    }
}
