//! The checked settings. Whoever holds one may rely on what the comments here say.

use crate::domain::id::{ContainerName, EngineId, PeerId, ProxyId, ServerId, ServiceId};
use crate::domain::policy::{ContainerRef, Policy};
use crate::domain::time::Span;
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// All of the settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// What the core must know. Its ids are the keys of the maps below.
    pub policy: Policy,
    /// The HAProxy instances; at least one.
    pub proxies: BTreeMap<ProxyId, ProxySettings>,
    /// The Docker engines; none if nothing names a container.
    pub engines: BTreeMap<EngineId, EngineSettings>,
    /// What HAProxy must know of each service; at least one.
    pub services: BTreeMap<ServiceId, ServiceSettings>,
    /// How each server of each service is reached and probed.
    pub servers: BTreeMap<ServerId, ServerSettings>,
    /// The Alertmanagers; those of the policy.
    pub alertmanagers: BTreeMap<PeerId, AlertmanagerSettings>,
    /// Who is mailed when Alertmanager cannot tell, and how; none: nobody.
    pub mail: Option<MailSettings>,
    /// Where the database, the lock and the owner's id are kept. Absolute.
    pub state_dir: PathBuf,
    /// Where `supervisor failover` and the others reach the daemon. Absolute, short enough for a socket.
    pub control_socket: PathBuf,
    /// Where the status page, the API and the metrics are served.
    pub status_listen: SocketAddr,
    /// How the log looks.
    pub log: LogSettings,
    /// How much history is kept.
    pub journal: JournalSettings,
}

/// How much history is kept: what goes first, whole hours of it, is the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalSettings {
    /// What is older goes.
    pub max_age: Span,
    /// While the store holds more bytes, the oldest goes.
    pub max_bytes: u64,
}

/// One Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertmanagerSettings {
    /// `http` or `https`, with a path if it is behind one; without credentials, query and fragment.
    pub url: String,
    /// How it knows us.
    pub auth: Option<AlertmanagerAuth>,
    /// The authorities that vouch for it, as PEM; none: the system's.
    pub ca: Option<String>,
}

/// How an Alertmanager knows us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertmanagerAuth {
    /// By a name and a password.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// By a token.
    Bearer(Secret),
}

/// Who is mailed directly, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailSettings {
    /// The sender's address.
    pub from: String,
    /// The recipients' addresses; none twice.
    pub to: Vec<String>,
    /// The name that we give ourselves; none: the machine's.
    pub helo: Option<String>,
    /// The mail servers, in the order in which they are tried: by name.
    pub relays: Vec<RelaySettings>,
}

/// One mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// Its name in the settings.
    pub name: String,
    /// Where it is.
    pub address: Address,
    /// How the connection is protected.
    pub tls: RelayTls,
    /// How it knows us; never without TLS.
    pub login: Option<RelayLogin>,
    /// The authorities that vouch for it, as PEM; none: the system's.
    pub ca: Option<String>,
}

/// How a mail server knows us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTls {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// TLS after STARTTLS (RFC 3207).
    StartTls,
    /// Not at all.
    None,
}

/// How the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// For people or for programs.
    pub format: LogFormat,
    /// The least that is logged.
    pub level: LogLevel,
}

/// For people or for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text; with colours on a terminal.
    Auto,
    /// Text without colours.
    Text,
    /// One JSON object to a line.
    Json,
}

/// The least that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Worth waking somebody.
    Warn,
    /// Each transition, once.
    Info,
    /// What was seen and done.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// As `tracing`'s filters have it.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
            LogLevel::Trace => "trace",
        }
    }
}

/// One Docker engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// Where its API is.
    pub address: EngineAddress,
    /// How often everything is asked for again, events or not.
    pub resync: Span,
}

/// Where a Docker engine's API is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineAddress {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP over TCP.
    Tcp(Address),
}

/// One HAProxy. `…_file` and `…_socket` are paths as supervisor sees them, `…_path` the same things as HAProxy does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// Whose the configuration is.
    pub config: ConfigMode,
    /// The user that a HAProxy which root started becomes.
    pub user: Option<String>,
    /// Its group.
    pub group: Option<String>,
    /// HAProxy's configuration.
    pub config_file: PathBuf,
    /// The same as HAProxy sees it. As all `…_path`s: absolute, and letters, digits, `/`, `.`, `_`, `-` only.
    pub config_path: PathBuf,
    /// The master's socket, over which reloads are ordered.
    pub master_socket: ProxySocket,
    /// The worker's socket, over which traffic is switched.
    pub admin_socket: ProxySocket,
    /// The same as HAProxy binds it: over TCP an IP address, if the configuration is ours.
    pub admin_path: ProxySocket,
    /// The mode that HAProxy gives to it: three or four octal digits.
    pub admin_mode: String,
    /// The group that HAProxy gives it to.
    pub admin_gid: Option<u32>,
    /// The map that routes.
    pub map_file: PathBuf,
    /// The same as HAProxy sees it.
    pub map_path: PathBuf,
    /// Where the state of servers is kept through a reload.
    pub state_file: PathBuf,
    /// The same as HAProxy sees it.
    pub state_path: PathBuf,
    /// The container that it runs in, in which `haproxy -c` is run. None: on this machine.
    pub container: Option<ContainerRef>,
    /// What `haproxy -c` is called there.
    pub haproxy_binary: String,
    /// The operator's own template. None: the one that is built in.
    pub template: Option<PathBuf>,
    /// What HAProxy itself does about failed connections.
    pub observe: Observe,
    /// The name servers that HAProxy asks for its servers' addresses. Empty: it asks the system, once for each
    /// load of its configuration.
    pub resolvers: Vec<SocketAddr>,
    /// The most connections at once.
    pub maxconn: u32,
    /// Where HAProxy's own Prometheus exporter listens.
    pub metrics_bind: Option<Bind>,
    /// How long a reload may take before it is undone.
    pub reload_timeout: Span,
    /// At least so long from one reload to the next.
    pub reload_interval: Span,
    /// HAProxy's timeouts.
    pub timeouts: ProxyTimeouts,
    /// Lines of the operator's own.
    pub snippets: ProxySnippets,
}

/// Lines of the operator's own for HAProxy's configuration. None begins a section or says what supervisor says itself; they
/// have no control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The key that has them.
    pub key: String,
    /// The lines, as they are.
    pub text: String,
}

/// The snippets of one HAProxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProxySnippets {
    /// For `global`.
    pub global: Option<Snippet>,
    /// For all that is HTTP.
    pub defaults_http: Option<Snippet>,
    /// For all that is TCP.
    pub defaults_tcp: Option<Snippet>,
}

/// The snippets of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceSnippets {
    /// For the frontend, which the services on its bind share.
    pub frontend: Option<Snippet>,
    /// For each of its pools.
    pub backend: Option<Snippet>,
}

/// Where a command line of HAProxy's is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxySocket {
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
    /// Over TCP. HAProxy asks nobody there who they are.
    Tcp(Address),
}

/// As the settings have it: the path, or `tcp://HOST:PORT`.
impl fmt::Display for ProxySocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxySocket::Unix(path) => path.display().fmt(f),
            ProxySocket::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// Whose HAProxy's configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigMode {
    /// Ours: rendered, checked, reloaded.
    Managed,
    /// Somebody else's: never rendered, never reloaded.
    External,
}

/// What HAProxy itself does about failed connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observe {
    /// The first failed connection marks the server down, before a check does.
    Layer4,
    /// Its checks alone decide.
    Off,
}

/// HAProxy's timeouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProxyTimeouts {
    /// For a connection to a server.
    pub connect: Span,
    /// In a queue.
    pub queue: Span,
    /// Of a client's silence.
    pub client: Span,
    /// Of a server's silence.
    pub server: Span,
}

/// What HAProxy must know of one service. Services that share a bind are HTTP, have the same TLS and differ in host or path, each
/// of which may be none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Where clients reach it.
    pub bind: Bind,
    /// The TLS that HAProxy ends there.
    pub tls: Option<TlsSettings>,
    /// Requests or connections.
    pub mode: Mode,
    /// The host name that asks for it, in lower case. None: every one.
    pub host: Option<String>,
    /// The path that asks for it, and all that is below: `/api`, whole segments. None: every one.
    pub path: Option<String>,
    /// The probe that moves traffic, without the servers' own deviations: HAProxy's check is the same for a whole pool.
    pub ready: ProbeSettings,
    /// How long HAProxy waits for the answer to a GET, HEAD or OPTIONS before it asks another server. None: as long as
    /// `timeouts.server`.
    pub retry_reads_after: Option<Span>,
    /// What clients get when no server can take their request: a whole HTTP response, in a file that HAProxy reads.
    pub maintenance_page: Option<PathBuf>,
    /// Lines of the operator's own.
    pub snippets: ServiceSnippets,
}

/// Requests or connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

/// How clients speak TLS with HAProxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// As HAProxy sees it: a file with a certificate, its chain and its key, or a directory of such files.
    pub certificates: PathBuf,
    /// Clients that speak older ones only are refused.
    pub min_version: TlsVersion,
    /// A bind in the clear, where clients are sent to this one. Nobody else's.
    pub redirect_from: Option<Bind>,
}

/// A version of TLS. What is older is broken (RFC 8996).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    V1_2,
    /// RFC 8446.
    V1_3,
}

impl TlsVersion {
    /// As HAProxy's `ssl-min-ver` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsVersion::V1_2 => "TLSv1.2",
            TlsVersion::V1_3 => "TLSv1.3",
        }
    }
}

/// How one server is reached and probed. Its site and container are in the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where it listens, for HAProxy and for the probes.
    pub address: Address,
    /// The most requests that HAProxy sends at once; at least 1.
    pub maxconn: Option<u32>,
    /// The probe that moves traffic.
    pub ready: ProbeSettings,
    /// The probe that justifies a restart.
    pub live: ProbeSettings,
}

/// One probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeSettings {
    /// What is asked.
    pub check: Check,
    /// From one probe to the next, while nothing is wrong.
    pub interval: Span,
    /// For the whole of one probe.
    pub timeout: Span,
    /// From one probe to the next while the verdict is in doubt; at most `interval`.
    pub fast_interval: Span,
    /// How much of `interval` the hash of the server's id may add or take away, in percent.
    pub jitter_percent: u8,
    /// Good ones in a row until it is up; the policy has the same for the core.
    pub rise: u16,
    /// Bad ones in a row until it is down; the policy has the same for the core.
    pub fall: u16,
    /// A good answer that takes longer is slow; the timeout at most.
    pub slow_after: Span,
}

/// HAProxy's own checks are the safety net for when we are gone, not the first to know: they need not be as eager as our
/// probes, and must not be the first to give up.
const CHECK_INTERVAL_MIN: Span = Span(1_000);
const CHECK_TIMEOUT_MIN: Span = Span(1_000);

impl ProbeSettings {
    /// The interval of HAProxy's own check of the same servers.
    pub fn check_interval(&self) -> Span {
        self.interval.max(CHECK_INTERVAL_MIN)
    }

    /// The timeout of HAProxy's own check of the same servers.
    pub fn check_timeout(&self) -> Span {
        self.timeout.max(CHECK_TIMEOUT_MIN)
    }
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Whether a connection is accepted.
    Connect,
    /// Whether a GET is answered well.
    Http(HttpCheck),
}

/// A GET and its good answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// With or without TLS; with it only for services of mode `tcp`.
    pub scheme: Scheme,
    /// The `Host` header and the name in TLS. None: the server's address.
    pub host: Option<String>,
    /// The path, perhaps with a query: begins with `/`, visible ASCII only.
    pub path: String,
    /// The good statuses.
    pub status: StatusSet,
    /// Text that a good body contains, within its first `max_body` bytes.
    pub contains: Option<String>,
    /// So many bytes of the body are read.
    pub max_body: u64,
    /// Whether the connection is kept for the next probe; only with an interval that servers' idle timeouts survive.
    pub keep_alive: bool,
}

/// With or without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without.
    Http,
    /// With.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// A host name or an IP address (IPv6 without brackets).
    pub host: String,
    /// Not 0.
    pub port: u16,
}

/// As in a URL: IPv6 in brackets.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Where HAProxy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    /// None: on all IPv4 addresses, `*`.
    pub address: Option<IpAddr>,
    /// Not 0.
    pub port: u16,
}

impl Bind {
    /// Whether both cannot be bound at once.
    pub fn overlaps(self, other: Bind) -> bool {
        let everywhere = |bind: Bind| bind.address.is_none_or(|address| address.is_unspecified());
        let family = |bind: Bind| bind.address.is_some_and(|address| address.is_ipv6());
        self.port == other.port
            && family(self) == family(other)
            && (self.address == other.address || everywhere(self) || everywhere(other))
    }
}

/// As HAProxy's `bind` has it.
impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            None => write!(f, "*:{}", self.port),
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
        }
    }
}

/// A set of HTTP statuses; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet(Vec<RangeInclusive<u16>>);

impl StatusSet {
    /// 200–299. A redirection is no health: it is not followed.
    pub fn success() -> StatusSet {
        StatusSet(vec![200..=299])
    }

    /// Sorted and joined; None if there is nothing in it.
    pub(crate) fn of(mut ranges: Vec<RangeInclusive<u16>>) -> Option<StatusSet> {
        ranges.sort_by_key(|range| *range.start());
        let mut joined: Vec<RangeInclusive<u16>> = Vec::new();
        for range in ranges {
            match joined.last_mut() {
                Some(last) if *range.start() <= last.end().saturating_add(1) => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => joined.push(range),
            }
        }
        (!joined.is_empty()).then_some(StatusSet(joined))
    }

    /// Its ranges, in order, none touching another.
    pub fn ranges(&self) -> Vec<RangeInclusive<u16>> {
        self.0.clone()
    }

    /// Whether `status` is in it.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

/// As HAProxy's `http-check expect status` has it: `200-299,304`.
impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let (low, high) = (range.start(), range.end());
            if low == high { write!(f, "{comma}{low}")? } else { write!(f, "{comma}{low}-{high}")? }
        }
        Ok(())
    }
}

impl ProxySettings {
    /// The name of its container, if it has one.
    pub fn container_name(&self) -> Option<&ContainerName> {
        self.container.as_ref().map(|container| &container.name)
    }
}
