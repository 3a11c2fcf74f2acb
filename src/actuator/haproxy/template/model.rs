//! What a configuration is made of, and what may stand in one.

use super::super::ident::{Ident, MapPath};
use super::super::naming;
use super::TemplateError;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// Everything a configuration is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// The HAProxy itself.
    pub proxy: ProxyModel,
    /// The services, in the order of the settings.
    pub services: Vec<ServiceModel>,
}

/// One HAProxy. All paths as HAProxy sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyModel {
    /// `OWNER` of the description: which supervisor wrote this.
    pub owner: Ident,
    /// The user that a HAProxy which root started becomes; none: it stays what it is.
    pub user: Option<Ident>,
    /// The same of its group.
    pub group: Option<Ident>,
    /// The runtime socket: a path, or `ipv4@ADDRESS:PORT`, `ipv6@[ADDRESS]:PORT`.
    pub admin_socket: String,
    /// Its mode, octal digits; of a path only.
    pub socket_mode: String,
    /// Its group, by number.
    pub socket_gid: Option<u32>,
    /// The map that says where services go.
    pub map_path: MapPath,
    /// Where server state is kept through a reload.
    pub state_file: String,
    /// The most connections at once.
    pub maxconn: u32,
    /// `ADDRESS:PORT` of the name servers that resolve servers' names; in Docker, `127.0.0.11:53`. None: the system
    /// is asked, once for each load of the configuration.
    pub nameservers: Vec<String>,
    /// Where HAProxy's own Prometheus exporter listens, if it shall.
    pub metrics_bind: Option<String>,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Lines of the operator's own.
    #[serde(default)]
    pub snippets: ProxySnippets,
}

/// Lines of the operator's own, printed as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snippet {
    /// The settings key that has them, for marks around them: HAProxy's complaints are traced back by those.
    pub key: String,
    /// The lines.
    pub text: String,
}

/// The snippets of one HAProxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySnippets {
    /// At the end of `global`.
    pub global: Option<Snippet>,
    /// At the end of the `defaults` of HTTP.
    pub defaults_http: Option<Snippet>,
    /// At the end of the `defaults` of TCP.
    pub defaults_tcp: Option<Snippet>,
}

/// The snippets of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSnippets {
    /// In the frontend, before its routes. Services on one bind share that.
    pub frontend: Option<Snippet>,
    /// In each of its pools, before its servers.
    pub backend: Option<Snippet>,
}

impl Snippet {
    fn check(&self) -> Result<(), TemplateError> {
        let special = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
        // The text is not shown: it may have a password.
        match self.key.contains(char::is_control) || self.text.contains(special) {
            true => Err(bad("snippet", &self.key, "it has a control character")),
            false => Ok(()),
        }
    }
}

/// HAProxy's timeouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// For a connection to a server.
    pub connect: Duration,
    /// In a queue.
    pub queue: Duration,
    /// A client's silence.
    pub client: Duration,
    /// A server's silence.
    pub server: Duration,
}

impl Default for Timeouts {
    /// Made for clients that wait two seconds: a connection that takes more than one, and a request that waited one
    /// second in a queue, are better tried elsewhere. A server may take long for an answer, within reason.
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(1),
            queue: Duration::from_secs(1),
            client: Duration::from_secs(30),
            server: Duration::from_secs(15),
        }
    }
}

/// HTTP or plain TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Requests.
    Http,
    /// Connections.
    Tcp,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceModel {
    /// Its name: the key in the map.
    pub name: Ident,
    /// HTTP or TCP.
    pub mode: Mode,
    /// Where clients reach it: `ADDRESS:PORT`, or `*:PORT`.
    pub bind: String,
    /// The TLS that HAProxy ends there; none: clients speak in the clear, or with the servers. Services on one bind have the
    /// same.
    #[serde(default)]
    pub tls: Option<TlsModel>,
    /// Of several services on one bind: the host name that asks for this one. None: what no other host matches.
    pub host: Option<String>,
    /// The path that asks for it, with all that is below: `/api` is also `/api/x`, and not `/apix`. None: every path that
    /// no other service of the same host has.
    #[serde(default)]
    pub path: Option<String>,
    /// Its pools, the preferred one first.
    pub pools: Vec<PoolModel>,
    /// How HAProxy checks its servers.
    pub check: CheckModel,
    /// No other site's servers stand by: two sites cannot both be right about its data.
    pub stateful: bool,
    /// How long a server may take for an answer to GET, HEAD and OPTIONS before HAProxy tries another one; none: as long as
    /// any request. What a hung server holds is freed by this, so it must leave a client time for the second try; but a
    /// healthy server that needs longer is asked four times and the client gets an error.
    pub retry_reads_after: Option<Duration>,
    /// A server that came back gets its share of the traffic by and by, within this; zero: at once.
    pub slow_start: Duration,
    /// What clients get when no server can take their request: the path of a file with a whole HTTP response. None: HAProxy's
    /// own words. Of no use to TCP.
    #[serde(default)]
    pub maintenance_page: Option<String>,
    /// Whether a failed connection marks a server down at once (`observe layer4`), before its next check.
    pub observe: bool,
    /// Lines of the operator's own.
    #[serde(default)]
    pub snippets: ServiceSnippets,
}

/// How clients speak TLS with HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsModel {
    /// A file with a certificate, its chain and its key, or a directory of such files.
    pub certificates: String,
    /// The oldest version, as HAProxy writes it: `TLSv1.2`.
    pub min_version: String,
    /// A bind in the clear, where clients are sent to this one.
    pub redirect_from: Option<String>,
}

/// The servers of a service at one site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolModel {
    /// The site.
    pub site: Ident,
    /// Its servers.
    pub servers: Vec<ServerModel>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerModel {
    /// Its name.
    pub name: Ident,
    /// `HOST:PORT` as HAProxy reaches it.
    pub address: String,
    /// The most requests at once; more wait in the backend's queue.
    pub maxconn: Option<u32>,
}

/// HAProxy's own check of a server. The same as our `ready` probe: a bare connect is answered by a frozen process too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckModel {
    /// What to ask; none is a bare TCP connect.
    pub http: Option<HttpCheck>,
    /// Between two checks.
    pub interval: Duration,
    /// For an answer.
    pub timeout: Duration,
    /// Bad ones in a row until it is down.
    pub fall: u16,
    /// Good ones in a row until it is up.
    pub rise: u16,
}

/// A GET that a healthy server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    /// The path, with a query perhaps.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// The good statuses: `200`, or `200-299,304`.
    pub status: String,
}

/// What HAProxy reads as itself, anywhere in a configuration: no blank, quote, `#`, `$`, `\`, control character.
pub(super) fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.:-/@*,+=%~?&!;[]".contains(c)
}

impl Model {
    /// Every value that a template may print; the first bad one is the error.
    pub fn check(&self) -> Result<(), TemplateError> {
        let proxy = &self.proxy;
        socket(&proxy.admin_socket)?;
        path("state file", &proxy.state_file)?;
        if proxy.socket_mode.is_empty() || !proxy.socket_mode.chars().all(|c| c.is_digit(8)) {
            return Err(bad("socket mode", &proxy.socket_mode, "it must be octal digits"));
        }
        for nameserver in &proxy.nameservers {
            host_and_port("name server", nameserver)?;
        }
        if let Some(bind) = &proxy.metrics_bind {
            host_and_port("bind", bind)?;
        }
        let ProxySnippets { global, defaults_http, defaults_tcp } = &proxy.snippets;
        [global, defaults_http, defaults_tcp].into_iter().flatten().try_for_each(Snippet::check)?;
        self.services.iter().try_for_each(ServiceModel::check)
    }
}

impl ServiceModel {
    fn check(&self) -> Result<(), TemplateError> {
        host_and_port("bind", &self.bind)?;
        if let Some(tls) = &self.tls {
            path("certificates", &tls.certificates)?;
            if !tls.min_version.chars().all(plain) {
                return Err(bad("TLS version", &tls.min_version, "write it like TLSv1.2"));
            }
            if let Some(bind) = &tls.redirect_from {
                host_and_port("redirect bind", bind)?;
            }
        }
        if let Some(name) = &self.host {
            host("host", name)?;
        }
        if let Some(prefix) = &self.path {
            route_path(prefix)?;
        }
        if self.pools.is_empty() || self.pools.iter().any(|pool| pool.servers.is_empty()) {
            return Err(TemplateError::NoServer(self.name.clone()));
        }
        for server in self.pools.iter().flat_map(|pool| &pool.servers) {
            host_and_port("server address", &server.address)?;
            if naming::is_spare_line(server.name.as_str()) {
                return Err(bad(
                    "server name",
                    server.name.as_str(),
                    "names like this one are for spare lines",
                ));
            }
        }
        let ServiceSnippets { frontend, backend } = &self.snippets;
        [frontend, backend].into_iter().flatten().try_for_each(Snippet::check)?;
        if let Some(page) = &self.maintenance_page {
            path("maintenance page", page)?;
        }
        if let Some(check) = &self.check.http {
            if !check.path.starts_with('/') || !check.path.chars().all(plain) {
                return Err(bad(
                    "check path",
                    &check.path,
                    "it must begin with '/' and have no blanks or quotes",
                ));
            }
            host("check host", &check.host)?;
            let range = |range: &str| {
                let (low, high) = range.split_once('-').unwrap_or((range, range));
                [low, high].iter().all(|n| n.len() == 3 && n.bytes().all(|b| b.is_ascii_digit()))
            };
            if !check.status.split(',').all(range) {
                return Err(bad("check status", &check.status, "write it like 200 or 200-299,304"));
            }
        }
        Ok(())
    }
}

fn bad(what: &'static str, value: &str, why: &'static str) -> TemplateError {
    TemplateError::Value { what, value: value.to_owned(), why }
}

fn path(what: &'static str, value: &str) -> Result<(), TemplateError> {
    let good =
        value.starts_with('/') && value.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
    if good {
        Ok(())
    } else {
        Err(bad(what, value, "it must be an absolute path of letters, digits, '_', '.', '-'"))
    }
}

fn route_path(value: &str) -> Result<(), TemplateError> {
    let mut segments = value.split('/');
    let good = segments.next() == Some("")
        && segments.all(|segment| {
            !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric() || "_.~-".contains(c))
        });
    if good { Ok(()) } else { Err(bad("path", value, "write it like /api/v1")) }
}

fn socket(value: &str) -> Result<(), TemplateError> {
    let over_tcp = |(family, rest): (&str, &str)| {
        let address = rest.parse::<SocketAddr>().ok()?;
        let right = if address.is_ipv6() { "ipv6" } else { "ipv4" };
        (family == right && address.port() != 0).then_some(())
    };
    match value.split_once('@') {
        None => path("socket", value),
        Some(parts) => over_tcp(parts).ok_or_else(|| {
            bad("socket", value, "it must be an absolute path, or ipv4@ADDRESS:PORT or ipv6@[ADDRESS]:PORT")
        }),
    }
}

fn host(what: &'static str, value: &str) -> Result<(), TemplateError> {
    let good = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-*[]".contains(c));
    if good { Ok(()) } else { Err(bad(what, value, "it must be a host name or an address")) }
}

fn host_and_port(what: &'static str, value: &str) -> Result<(), TemplateError> {
    let Some((name, port)) = value.rsplit_once(':') else {
        return Err(bad(what, value, "it has no `:PORT`"));
    };
    host(what, name)?;
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(bad(what, value, "its port must be between 1 and 65535")),
    }
}
