//! The model as a template walks through it.

use super::super::ident::{Ident, IdentError, MapPath};
use super::super::naming;
use super::snippet::marked;
use super::{
    HttpCheck, Mode, Model, PoolModel, ProxyModel, ProxySnippets, ServerModel, ServiceModel, TemplateError,
    TlsModel,
};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The port that a URL without one means.
const HTTPS_PORT: &str = "443";

/// The model as the template walks through it: by frontend and by backend.
#[derive(Debug, Serialize)]
pub(super) struct Layout<'a> {
    proxy: ProxyView<'a>,
    frontends: Vec<Frontend<'a>>,
    pools: Vec<Pool<'a>>,
}

/// [`ProxyModel`] with durations as HAProxy writes them.
#[derive(Debug, Serialize)]
struct ProxyView<'a> {
    owner: &'a Ident,
    user: Option<&'a Ident>,
    group: Option<&'a Ident>,
    admin_socket: &'a str,
    socket_mode: &'a str,
    socket_gid: Option<u32>,
    map_path: &'a MapPath,
    state_file: &'a str,
    maxconn: u32,
    nameservers: &'a [String],
    metrics_bind: Option<&'a str>,
    timeouts: BTreeMap<&'static str, String>,
    snippets: BTreeMap<&'static str, Option<String>>,
}

#[derive(Debug, Serialize)]
struct Frontend<'a> {
    name: String,
    mode: Mode,
    bind: &'a str,
    tls: Option<Tls<'a>>,
    snippets: Vec<String>,
    routes: Vec<Route<'a>>,
    default_backend: String,
}

/// [`TlsModel`], and where a redirection leads.
#[derive(Debug, Serialize)]
struct Tls<'a> {
    certificates: &'a str,
    min_version: &'a str,
    redirect_from: Option<&'a str>,
    redirect_port: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Route<'a> {
    service: &'a Ident,
    host: Option<String>,
    path: Option<&'a str>,
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
    slow_start: Option<String>,
    maintenance_page: Option<&'a str>,
    snippet: Option<String>,
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
    /// Every variable of it is in docs/template.md, where a test looks for it.
    pub(super) fn of(model: &'a Model) -> Result<Layout<'a>, TemplateError> {
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
        let ProxySnippets { global, defaults_http, defaults_tcp } = &proxy.snippets;
        let snippets = [("global", global), ("defaults_http", defaults_http), ("defaults_tcp", defaults_tcp)];
        let timeouts = [
            ("connect", times.connect),
            ("queue", times.queue),
            ("client", times.client),
            ("server", times.server),
        ];
        ProxyView {
            owner: &proxy.owner,
            user: proxy.user.as_ref(),
            group: proxy.group.as_ref(),
            admin_socket: &proxy.admin_socket,
            socket_mode: &proxy.socket_mode,
            socket_gid: proxy.socket_gid,
            map_path: &proxy.map_path,
            state_file: &proxy.state_file,
            maxconn: proxy.maxconn,
            nameservers: &proxy.nameservers,
            metrics_bind: proxy.metrics_bind.as_deref(),
            timeouts: timeouts.into_iter().map(|(name, time)| (name, millis(time))).collect(),
            snippets: snippets.map(|(name, snippet)| (name, snippet.as_ref().map(marked))).into(),
        }
    }
}

impl<'a> Tls<'a> {
    fn of(tls: &'a TlsModel, service: &'a ServiceModel) -> Tls<'a> {
        let port = service.bind.rsplit_once(':').map(|(_, port)| port);
        Tls {
            certificates: &tls.certificates,
            min_version: &tls.min_version,
            redirect_from: tls.redirect_from.as_deref().filter(|_| service.mode == Mode::Http),
            // Browsers know the usual one, and show the other ones.
            redirect_port: port.filter(|port| *port != HTTPS_PORT),
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
            maintenance_page: service.maintenance_page.as_deref().filter(|_| service.mode == Mode::Http),
            snippet: service.snippets.backend.as_ref().map(marked),
            slow_start: Some(service.slow_start).filter(|time| !time.is_zero()).map(millis),
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

fn frontend<'a>(services: Vec<&'a ServiceModel>) -> Result<Frontend<'a>, TemplateError> {
    let first = services[0];
    let clash = |second: &ServiceModel, why| TemplateError::Bind {
        first: first.name.clone(),
        second: second.name.clone(),
        bind: first.bind.clone(),
        why,
    };
    let mut asked_for = BTreeSet::new();
    for service in &services {
        if services.len() > 1 && service.mode == Mode::Tcp {
            return Err(clash(service, "a TCP service needs a bind of its own"));
        }
        if service.tls != first.tls {
            return Err(clash(service, "one of them has TLS that the other has not"));
        }
        if !asked_for.insert((service.host.as_deref().map(str::to_ascii_lowercase), &service.path)) {
            return Err(clash(service, "at most one of them may have this host and path, or none"));
        }
    }
    let route = |service: &&'a ServiceModel| {
        Ok(Route {
            service: &service.name,
            host: service.host.as_deref().map(str::to_ascii_lowercase),
            path: service.path.as_deref(),
            default_backend: preferred(service)?,
        })
    };
    let mut routes: Vec<Route<'_>> = services.iter().map(route).collect::<Result<_, TemplateError>>()?;
    // The first rule that applies wins: those with a host come first, and of them that with the longest path, which asks for
    // the least.
    routes.sort_by_key(|route| (route.host.is_none(), Reverse(route.path.map_or(0, str::len))));
    let rest = routes.iter().find(|route| route.host.is_none() && route.path.is_none());
    let default_backend = rest.map_or("be_unrouted", |route| route.default_backend.as_str()).to_owned();
    Ok(Frontend {
        name: format!("fe__{}", first.name),
        mode: first.mode,
        bind: &first.bind,
        tls: first.tls.as_ref().map(|tls| Tls::of(tls, first)),
        snippets: services
            .iter()
            .filter_map(|service| service.snippets.frontend.as_ref().map(marked))
            .collect(),
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
