//! Renders HAProxy's configuration from a [`Model`] and a template.
//!
//! HAProxy's configuration has no quoting that a template could be trusted to apply, so nothing that would need it gets
//! in: [`Model::check`] names each bad value, and the engine itself refuses to print one that slipped through a user's
//! template. Rendering is pure; whether HAProxy accepts the result is for [`apply`](super::apply()) to find out.
//!
//! The *revision* is a hash of everything rendered but the `description` line, which carries it: HAProxy then says in
//! `show info` which configuration it runs.

use super::ident::{Ident, IdentError, MapPath};
use super::naming;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

/// The template that is used unless the settings name another.
pub const DEFAULT_TEMPLATE: &str = include_str!("../../../templates/haproxy.cfg.tera");

/// Where a rescue line points while it is in maintenance: an address of documentation (RFC 5737), the discard port. If it
/// were ever used by mistake, nothing would answer.
pub const RESCUE_PLACEHOLDER: &str = "192.0.2.1:9";

/// The name under which a template is known to the engine, and shown in its errors.
const TEMPLATE_NAME: &str = "haproxy.cfg.tera";

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
    /// The runtime socket.
    pub admin_socket: String,
    /// Its mode, octal digits.
    pub socket_mode: String,
    /// Its group, by number.
    pub socket_gid: Option<u32>,
    /// The map that says where services go.
    pub map_path: MapPath,
    /// Where server state is kept through a reload.
    pub state_file: String,
    /// The most connections at once.
    pub maxconn: u32,
    /// `ADDRESS:PORT` of the name servers that resolve servers' names; in Docker, `127.0.0.11:53`. None: addresses only.
    pub nameservers: Vec<String>,
    /// Where HAProxy's own Prometheus exporter listens, if it shall.
    pub metrics_bind: Option<String>,
    /// Timeouts.
    pub timeouts: Timeouts,
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
    /// Of several services on one bind: the host name that asks for this one. None: what no other host matches.
    pub host: Option<String>,
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
    /// Whether a failed connection marks a server down at once (`observe layer4`), before its next check.
    pub observe: bool,
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

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A value that cannot stand in a configuration.
    #[error("{what} {value:?} cannot stand in HAProxy's configuration: {why}")]
    Value {
        /// Which value.
        what: &'static str,
        /// The value.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A name that is too long once joined.
    #[error("the names {0} and {1} cannot be joined for HAProxy")]
    Name(String, String, #[source] IdentError),
    /// Services that cannot share a bind.
    #[error("services {first} and {second} cannot share {bind}: {why}")]
    Bind {
        /// The one.
        first: Ident,
        /// The other.
        second: Ident,
        /// What they share.
        bind: String,
        /// Why not.
        why: &'static str,
    },
    /// A service without anything to route to.
    #[error("service {0} has no pool with a server")]
    NoServer(Ident),
    /// The template has an error; the text shows its line.
    #[error("the template cannot be used: {0}")]
    Template(String),
    /// The template does not say who wrote it.
    #[error(
        "the template has no line `description supervisor={{{{ proxy.owner }}}} rev={{{{ revision }}}}` in `global`: \
         without it nobody can tell which configuration HAProxy runs"
    )]
    NoDescription,
}

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The file.
    pub text: String,
    /// The hash in its description.
    pub revision: String,
    /// The whole description, as `show info` shows it.
    pub description: String,
}

/// Renders `model` with `template` ([`DEFAULT_TEMPLATE`], or a user's).
pub fn render(model: &Model, template: &str) -> Result<Rendered, TemplateError> {
    model.check()?;
    let mut engine = tera::Tera::new();
    engine.autoescape_on([TEMPLATE_NAME]);
    engine.set_escape_fn(print_checked);
    engine.add_raw_template(TEMPLATE_NAME, template).map_err(template_error)?;
    let layout = Layout::of(model)?;
    // The hash leaves the description out, so any revision will do for the first pass.
    let draft = render_with(&engine, model, &layout, "0")?;
    let revision = revision(&draft);
    let text = render_with(&engine, model, &layout, &revision)?;
    let description = format!("supervisor={} rev={revision}", model.proxy.owner);
    let described = text.lines().filter_map(|line| line.trim().strip_prefix("description "));
    if !described.map(|value| value.trim().trim_matches('"')).any(|value| value == description) {
        return Err(TemplateError::NoDescription);
    }
    Ok(Rendered { text, revision, description })
}

/// `OWNER` and `HASH` of a description that a supervisor wrote.
pub fn parse_description(description: &str) -> Option<(&str, &str)> {
    let (owner, revision) = description.trim().strip_prefix("supervisor=")?.split_once(" rev=")?;
    let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    (plain(owner) && plain(revision)).then_some((owner, revision))
}

/// The hash of a configuration without its `description` line: FNV-1a with 128 bits, in hexadecimal. It tells
/// configurations apart and is the same in every build; it need not withstand an adversary, who could write the file.
pub fn revision(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("description "));
    let bytes = lines.flat_map(|line| line.bytes().chain([b'\n']));
    format!("{:032x}", fnv1a(bytes))
}

/// The published constants of the 128-bit variant (draft-eastlake-fnv).
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

fn render_with(
    engine: &tera::Tera,
    model: &Model,
    layout: &Layout<'_>,
    revision: &str,
) -> Result<String, TemplateError> {
    let mut context = tera::Context::from_serialize(layout).map_err(template_error)?;
    context.insert("services", &model.services);
    context.insert("revision", revision);
    context.insert("rescue_placeholder", RESCUE_PLACEHOLDER);
    engine.render(TEMPLATE_NAME, &context).map_err(template_error)
}

/// Tera's own text has the template's line, but says only "Io error" for a value that [`print_checked`] refused.
fn template_error(error: tera::Error) -> TemplateError {
    TemplateError::Template(match error.kind() {
        tera::ErrorKind::Io(_) => {
            "it prints a value with a blank, a quote, a newline or another character that HAProxy reads as something else"
                .to_owned()
        }
        _ => error.to_string(),
    })
}

fn print_checked(value: &str, out: &mut dyn io::Write) -> io::Result<()> {
    if value.chars().all(plain) {
        out.write_all(value.as_bytes())
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// What HAProxy reads as itself, anywhere in a configuration: no blank, quote, `#`, `$`, `\`, control character.
fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.:-/@*,+=%~?&!;[]".contains(c)
}

impl Model {
    /// Every value that a template may print; the first bad one is the error.
    pub fn check(&self) -> Result<(), TemplateError> {
        let proxy = &self.proxy;
        path("socket", &proxy.admin_socket)?;
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
        self.services.iter().try_for_each(ServiceModel::check)
    }
}

impl ServiceModel {
    fn check(&self) -> Result<(), TemplateError> {
        host_and_port("bind", &self.bind)?;
        if let Some(name) = &self.host {
            host("host", name)?;
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

/// The model as the template walks through it: by frontend and by backend.
#[derive(Debug, Serialize)]
struct Layout<'a> {
    proxy: ProxyView<'a>,
    frontends: Vec<Frontend<'a>>,
    pools: Vec<Pool<'a>>,
}

/// [`ProxyModel`] with durations as HAProxy writes them.
#[derive(Debug, Serialize)]
struct ProxyView<'a> {
    owner: &'a Ident,
    admin_socket: &'a str,
    socket_mode: &'a str,
    socket_gid: Option<u32>,
    map_path: &'a MapPath,
    state_file: &'a str,
    maxconn: u32,
    nameservers: &'a [String],
    metrics_bind: Option<&'a str>,
    timeouts: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct Frontend<'a> {
    name: String,
    mode: Mode,
    bind: &'a str,
    routes: Vec<Route<'a>>,
    default_backend: String,
}

#[derive(Debug, Serialize)]
struct Route<'a> {
    service: &'a Ident,
    host: Option<String>,
    default_backend: Ident,
}

#[derive(Debug, Serialize)]
struct Pool<'a> {
    backend: Ident,
    service: &'a Ident,
    site: &'a Ident,
    mode: Mode,
    check: Check<'a>,
    observe: bool,
    retry_reads_after: Option<String>,
    servers: &'a [ServerModel],
    spares: Vec<Spare<'a>>,
    rescues: Vec<Ident>,
}

#[derive(Debug, Serialize)]
struct Check<'a> {
    http: Option<&'a HttpCheck>,
    interval: String,
    fast_interval: String,
    timeout: String,
    fall: u16,
    rise: u16,
}

#[derive(Debug, Serialize)]
struct Spare<'a> {
    name: Ident,
    address: &'a str,
    maxconn: Option<u32>,
    track: String,
}

impl<'a> Layout<'a> {
    fn of(model: &'a Model) -> Result<Layout<'a>, TemplateError> {
        let mut pools = Vec::new();
        for service in &model.services {
            for pool in &service.pools {
                pools.push(Pool::of(service, pool)?);
            }
        }
        Ok(Layout { proxy: ProxyView::of(&model.proxy), frontends: frontends(&model.services)?, pools })
    }
}

impl<'a> ProxyView<'a> {
    fn of(proxy: &'a ProxyModel) -> ProxyView<'a> {
        let times = &proxy.timeouts;
        let timeouts = [
            ("connect", times.connect),
            ("queue", times.queue),
            ("client", times.client),
            ("server", times.server),
        ];
        ProxyView {
            owner: &proxy.owner,
            admin_socket: &proxy.admin_socket,
            socket_mode: &proxy.socket_mode,
            socket_gid: proxy.socket_gid,
            map_path: &proxy.map_path,
            state_file: &proxy.state_file,
            maxconn: proxy.maxconn,
            nameservers: &proxy.nameservers,
            metrics_bind: proxy.metrics_bind.as_deref(),
            timeouts: timeouts.into_iter().map(|(name, time)| (name, millis(time))).collect(),
        }
    }
}

impl<'a> Pool<'a> {
    fn of(service: &'a ServiceModel, pool: &'a PoolModel) -> Result<Pool<'a>, TemplateError> {
        let others = || service.pools.iter().filter(|other| other.site != pool.site && !service.stateful);
        // With `allbackups` all backup lines serve at once, so only the next best site stands by.
        let spares = others().next().map_or(Ok(Vec::new()), |other| spares(service, other))?;
        let rescues = others()
            .map(|other| joined(naming::rescue_line(other.site.as_str()), "rescue", &other.site))
            .collect::<Result<_, _>>()?;
        let check = &service.check;
        Ok(Pool {
            backend: backend(service, &pool.site)?,
            service: &service.name,
            site: &pool.site,
            mode: service.mode,
            check: Check {
                http: check.http.as_ref(),
                interval: millis(check.interval),
                // At the edge between up and down a quarter of the interval is soon enough to be of use.
                fast_interval: millis(check.interval / 4),
                timeout: millis(check.timeout),
                fall: check.fall,
                rise: check.rise,
            },
            observe: service.observe,
            retry_reads_after: service.retry_reads_after.filter(|_| service.mode == Mode::Http).map(millis),
            servers: &pool.servers,
            spares,
            rescues,
        })
    }
}

fn spares<'a>(service: &'a ServiceModel, other: &'a PoolModel) -> Result<Vec<Spare<'a>>, TemplateError> {
    let owner = backend(service, &other.site)?;
    let several = other.servers.len() > 1;
    other
        .servers
        .iter()
        .map(|server| {
            let name = naming::backup_line(other.site.as_str(), several.then_some(server.name.as_str()));
            Ok(Spare {
                name: joined(name, other.site.as_str(), &server.name)?,
                address: &server.address,
                maxconn: server.maxconn,
                track: format!("{owner}/{}", server.name),
            })
        })
        .collect()
}

/// The services by what they bind to.
fn frontends(services: &[ServiceModel]) -> Result<Vec<Frontend<'_>>, TemplateError> {
    let mut by_bind: BTreeMap<&str, Vec<&ServiceModel>> = BTreeMap::new();
    for service in services {
        by_bind.entry(&service.bind).or_default().push(service);
    }
    by_bind.into_values().map(frontend).collect()
}

fn frontend(services: Vec<&ServiceModel>) -> Result<Frontend<'_>, TemplateError> {
    let first = services[0];
    let clash = |second: &ServiceModel, why| TemplateError::Bind {
        first: first.name.clone(),
        second: second.name.clone(),
        bind: first.bind.clone(),
        why,
    };
    let mut hosts = BTreeSet::new();
    for service in &services {
        if services.len() > 1 && service.mode == Mode::Tcp {
            return Err(clash(service, "a TCP service needs a bind of its own"));
        }
        if !hosts.insert(service.host.as_deref().map(str::to_ascii_lowercase)) {
            return Err(clash(service, "at most one of them may have this host, or none"));
        }
    }
    let route = |service: &&'_ ServiceModel| Ok((preferred(service)?, service.host.is_none()));
    let defaults: Vec<(Ident, bool)> = services.iter().map(route).collect::<Result<_, TemplateError>>()?;
    let default_backend =
        defaults.iter().find(|(_, default)| *default).map_or("be_unrouted", |(backend, _)| backend.as_str());
    let default_backend = default_backend.to_owned();
    let mut routes: Vec<Route<'_>> = services
        .iter()
        .zip(defaults)
        .map(|(service, (default_backend, _))| Route {
            service: &service.name,
            host: service.host.as_deref().map(str::to_ascii_lowercase),
            default_backend,
        })
        .collect();
    // The first rule that applies wins, so the one without a host comes last.
    routes.sort_by_key(|route| route.host.is_none());
    Ok(Frontend {
        name: format!("fe__{}", first.name),
        mode: first.mode,
        bind: &first.bind,
        routes,
        default_backend,
    })
}

fn preferred(service: &ServiceModel) -> Result<Ident, TemplateError> {
    match service.pools.first() {
        Some(pool) => backend(service, &pool.site),
        None => Err(TemplateError::NoServer(service.name.clone())),
    }
}

fn backend(service: &ServiceModel, site: &Ident) -> Result<Ident, TemplateError> {
    joined(naming::pool_backend(service.name.as_str(), site.as_str()), service.name.as_str(), site)
}

fn joined(result: Result<Ident, IdentError>, first: &str, second: &Ident) -> Result<Ident, TemplateError> {
    result.map_err(|source| TemplateError::Name(first.to_owned(), second.to_string(), source))
}

/// HAProxy's times are whole milliseconds; what is less than one would be read as "no limit".
fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis().max(1))
}

#[cfg(test)]
mod tests;
