//! `[services.NAME]`: raw → checked.

use super::check_engine::Engines;
use super::check_failover;
use super::check_probe::{self, Kind, Layers};
use super::check_proxy;
use super::check_snippets;
use super::check_tls;
use super::checker::{Checker, list};
use super::key::Key;
use super::limits;
use super::model::{Address, Bind, Mode, ProxySettings, ServerSettings, ServiceSettings};
use super::raw::{Raw, RawServer, RawService};
use super::value;
use crate::domain::damping::Damper;
use crate::domain::id::{Name, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::policy::{ServerPolicy, ServicePolicy};
use crate::domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What the services come to.
#[derive(Default)]
pub(crate) struct Services {
    pub(crate) policies: BTreeMap<ServiceId, ServicePolicy>,
    pub(crate) services: BTreeMap<ServiceId, ServiceSettings>,
    pub(crate) servers: BTreeMap<ServerId, ServerSettings>,
}

/// All of them.
pub(crate) fn services(
    checker: &mut Checker<'_>,
    raw: &Raw,
    engines: &mut Engines<'_>,
    proxies: &BTreeMap<ProxyId, ProxySettings>,
) -> Services {
    let key = Key::root().at("services");
    if raw.services.is_empty() {
        checker.unfit(&key, "no service is named: there is nothing to keep reachable");
    }
    let mut services = Services::default();
    let mut ids = BTreeMap::new();
    for (name, raw_service) in &raw.services {
        let key = key.at(name);
        let mode = mode(checker, &key, raw_service);
        let host = host(checker, &key, raw_service, mode);
        let path = path(checker, &key, raw_service, mode);
        let ready = Layers::of_service(&key.at("ready"), &raw_service.ready);
        let ready = check_probe::probe(checker, Kind::Ready, mode, host.as_deref(), &ready);
        let live = Layers::of_service(&key.at("live"), &raw_service.live);
        check_probe::probe(checker, Kind::Live, mode, host.as_deref(), &live);
        let routed_by = routed_by(checker, &key, raw_service, raw);
        let bind = bind(checker, &key, raw_service);
        let mut policies = BTreeMap::new();
        let mut settings = BTreeMap::new();
        for (server_name, raw_server) in &raw_service.servers {
            let server_key = key.at("servers").at(server_name);
            let probes = Probes { mode, host: host.as_deref(), service: raw_service, service_key: &key };
            let (policy, server) = server(checker, &server_key, raw_server, engines, &probes);
            if let Some(name) = checker.name::<Name>(&server_key, server_name) {
                policies.extend(policy.map(|policy| (name, policy)));
                settings.insert(name, server);
            }
        }
        let prefer = prefer(checker, &key, raw_service);
        if let Some(id) = checker.name::<ServiceId>(&key, name) {
            let check_age = ready.check_interval() + ready.check_timeout();
            let policy = ServicePolicy { check_age, ..ServicePolicy::of(routed_by, prefer, policies) };
            let policy = check_failover::service(checker, &key, raw_service, policy);
            services.policies.insert(id, policy);
            services.servers.extend(
                settings.into_iter().map(|(name, server)| (ServerId { service: id, server: name }, server)),
            );
            if let Some(bind) = bind {
                let tls = check_tls::tls(checker, &key.at("tls"), raw_service.tls.as_ref(), mode);
                let retry_reads_after = raw_service.retry_reads_after.as_ref().map(|raw| {
                    checker.span(&key.at("retry_reads_after"), Some(raw), &limits::RETRY_READS_AFTER)
                });
                let maintenance_page = maintenance_page(checker, &key, raw_service, mode);
                let snippets = check_snippets::service(checker, &key.at("snippets"), &raw_service.snippets);
                services.services.insert(
                    id,
                    ServiceSettings {
                        bind,
                        tls,
                        mode,
                        host,
                        path,
                        ready,
                        retry_reads_after,
                        maintenance_page,
                        snippets,
                    },
                );
                ids.insert(id, key);
            }
        }
    }
    separate_binds(checker, &services, proxies, &ids);
    check_tls::redirections(checker, &services, proxies, &ids);
    check_failover::groups(checker, &services.policies, &ids);
    services
}

fn mode(checker: &mut Checker<'_>, key: &Key, raw: &RawService) -> Mode {
    let modes = [("http", Mode::Http), ("tcp", Mode::Tcp)];
    checker.word(&key.at("mode"), raw.mode.as_ref(), &modes).unwrap_or(Mode::Http)
}

fn host(checker: &mut Checker<'_>, key: &Key, raw: &RawService, mode: Mode) -> Option<String> {
    let key = key.at("host");
    let host = checker.parse(&key, raw.host.as_ref(), value::host)?;
    if mode == Mode::Tcp {
        checker.unfit(&key, "a TCP service has no host: HAProxy does not see which name a client asked for");
    }
    Some(host.to_ascii_lowercase())
}

fn path(checker: &mut Checker<'_>, key: &Key, raw: &RawService, mode: Mode) -> Option<String> {
    let key = key.at("path");
    let path = checker.parse(&key, raw.path.as_ref(), value::route_path)?;
    if mode == Mode::Tcp {
        checker.unfit(&key, "a TCP service has no path: HAProxy does not see what a client asks for");
    }
    Some(path)
}

fn maintenance_page(checker: &mut Checker<'_>, key: &Key, raw: &RawService, mode: Mode) -> Option<PathBuf> {
    let key = key.at("maintenance_page");
    let page = checker.parse(&key, raw.maintenance_page.as_ref(), value::plain_path)?;
    if mode == Mode::Tcp {
        checker.unfit(&key, "a TCP service has no pages: HAProxy closes the connection");
    }
    Some(page)
}

fn bind(checker: &mut Checker<'_>, key: &Key, raw: &RawService) -> Option<Bind> {
    let key = key.at("bind");
    if raw.bind.is_none() {
        checker.unfit(&key, "is missing: where do clients reach the service?");
    }
    checker.parse(&key, raw.bind.as_ref(), value::bind)
}

/// The HAProxy instances that route the service: the named ones, or all.
fn routed_by(checker: &mut Checker<'_>, key: &Key, raw_service: &RawService, raw: &Raw) -> BTreeSet<ProxyId> {
    let key = key.at("proxies");
    let Some(names) = &raw_service.proxies else {
        return raw.proxies.keys().filter_map(|name| name.parse().ok()).collect();
    };
    if names.is_empty() {
        checker.wrong(&key, "is empty; name one, or leave the key out for all");
    }
    let mut proxies = BTreeSet::new();
    for (i, name) in names.iter().enumerate() {
        if !raw.proxies.contains_key(name) {
            let known = list(raw.proxies.keys());
            checker.unfit_element(&key, i, format!("there is no proxy {name:?} (known: {known})"));
        } else if let Ok(id) = name.parse()
            && !proxies.insert(id)
        {
            checker.wrong_element(&key, i, format!("{name:?} is there twice"));
        }
    }
    proxies
}

/// The sites, best first. With one site there is nothing to choose, and it may be left out.
fn prefer(checker: &mut Checker<'_>, key: &Key, raw: &RawService) -> Vec<SiteId> {
    let key_prefer = key.at("prefer");
    let sites: BTreeSet<&String> = raw.servers.values().filter_map(|server| server.site.as_ref()).collect();
    // Where one stands is missing, and reported as that.
    let all_stand_somewhere = raw.servers.values().all(|server| server.site.is_some());
    if raw.servers.is_empty() {
        checker.unfit(&key.at("servers"), "the service has no server");
    }
    let Some(names) = &raw.prefer else {
        if sites.len() > 1 {
            let message = format!("is missing: which of its sites ({}) is best?", list(sites.iter()));
            checker.unfit(&key_prefer, message);
        }
        return sites.into_iter().filter_map(|site| site.parse().ok()).collect();
    };
    if names.is_empty() {
        checker.wrong(&key_prefer, "is empty; name the sites, best first");
    }
    let mut prefer: Vec<SiteId> = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let site = match name.parse::<SiteId>() {
            Ok(site) => site,
            Err(error) => {
                checker.wrong_element(&key_prefer, i, error.to_string());
                continue;
            }
        };
        if prefer.contains(&site) {
            checker.wrong_element(&key_prefer, i, format!("{name:?} is there twice"));
        } else if !sites.contains(name) && all_stand_somewhere && !raw.servers.is_empty() {
            let message =
                format!("the service has no server at site {name:?} (it has some at {})", list(sites.iter()));
            checker.unfit_element(&key_prefer, i, message);
        }
        prefer.push(site);
    }
    for (name, server) in &raw.servers {
        if let Some(site) = &server.site
            && !names.contains(site)
        {
            let key = key.at("servers").at(name).at("site");
            checker.unfit(
                &key,
                format!("{site:?} is not in prefer, so the server would never serve; add it there"),
            );
        }
    }
    prefer
}

/// What a server's probes take from its service.
struct Probes<'r> {
    mode: Mode,
    host: Option<&'r str>,
    service: &'r RawService,
    service_key: &'r Key,
}

fn server(
    checker: &mut Checker<'_>,
    key: &Key,
    raw: &RawServer,
    engines: &mut Engines<'_>,
    probes: &Probes<'_>,
) -> (Option<ServerPolicy>, ServerSettings) {
    for (name, missing, question) in [
        ("site", raw.site.is_none(), "at which site does the server stand?"),
        ("address", raw.address.is_none(), "where does the server listen?"),
    ] {
        if missing {
            checker.unfit(&key.at(name), format!("is missing: {question}"));
        }
    }
    let address = checker.parse(&key.at("address"), raw.address.as_ref(), value::address);
    let site = raw.site.as_ref().and_then(|site| checker.name::<SiteId>(&key.at("site"), site));
    let container =
        engines.container(checker, key, raw.container.as_ref(), raw.engine.as_ref(), raw.site.as_ref());
    let maxconn =
        raw.maxconn.map(|number| checker.number(&key.at("maxconn"), Some(number), &limits::SERVER_MAXCONN));
    let mut probe = |kind: Kind, own, base| {
        let layers = Layers {
            own: Some((key.at(kind.word()), own)),
            base: (probes.service_key.at(kind.word()), base),
        };
        check_probe::probe(checker, kind, probes.mode, probes.host, &layers)
    };
    let ready = probe(Kind::Ready, &raw.ready, &probes.service.ready);
    let live = probe(Kind::Live, &raw.live, &probes.service.live);
    let policy = site.map(|site| ServerPolicy {
        site,
        container,
        rise: ready.rise,
        fall: ready.fall,
        live_fall: live.fall,
        slow_after: Some(ready.slow_after),
        strain: Damper::nth(limits::STRAIN_TIMES, Span(ready.interval.0 * limits::STRAIN_INTERVALS)),
    });
    let address = address.unwrap_or_else(|| Address { host: String::new(), port: 0 });
    (policy, ServerSettings { address, maxconn, ready, live })
}

/// On one HAProxy, services share a bind only if a request's host or path tells them apart.
fn separate_binds(
    checker: &mut Checker<'_>,
    services: &Services,
    proxies: &BTreeMap<ProxyId, ProxySettings>,
    keys: &BTreeMap<ServiceId, Key>,
) {
    let mut by_port: BTreeMap<u16, Vec<ServiceId>> = BTreeMap::new();
    for (id, service) in &services.services {
        let (Some(key), Some(policy)) = (keys.get(id), services.policies.get(id)) else { continue };
        for (proxy, own) in check_proxy::own_binds(proxies, &policy.proxies) {
            if own.overlaps(service.bind) {
                let message = format!("{} is where HAProxy {proxy} serves its metrics ({own})", service.bind);
                checker.unfit(&key.at("bind"), message);
            }
        }
        let others = by_port.entry(service.bind.port).or_default();
        let clash = others.iter().find_map(|other| {
            let together =
                services.policies.get(other)?.proxies.intersection(&policy.proxies).next().is_some();
            let (wrong, why) = clash(service, services.services.get(other)?)?;
            together.then_some((*other, wrong, why))
        });
        if let Some((other, wrong, why)) = clash {
            let first = keys.get(&other).map_or_else(String::new, |first| format!(" ({})", first.at(wrong)));
            checker.unfit(
                &key.at(wrong),
                format!("the services {other}{first} and {id} are both on {}: {why}", service.bind),
            );
        }
        others.push(*id);
    }
}

/// Why two services cannot be on one HAProxy, and the key to change.
fn clash(a: &ServiceSettings, b: &ServiceSettings) -> Option<(&'static str, &'static str)> {
    if !a.bind.overlaps(b.bind) {
        return None;
    }
    if a.bind != b.bind {
        return Some((
            "bind",
            "one of their addresses includes the other; write the same, or take another port",
        ));
    }
    if a.mode == Mode::Tcp || b.mode == Mode::Tcp {
        return Some(("bind", "a TCP service needs a port of its own"));
    }
    if a.tls != b.tls {
        return Some(("tls", "clients there either speak TLS or do not: write the same tls for both"));
    }
    let same = a.host == b.host && a.path == b.path;
    let key = if a.path.is_some() { "path" } else { "host" };
    same.then_some((key, "for the same requests; give them different hosts, paths or ports"))
}
