//! `[heal]`, `[containers.NAME]`, and the `heal` of servers and HAProxy instances: raw → checked.

use super::check_engine::Engines;
use super::checker::{Checker, list};
use super::key::Key;
use super::limits;
use super::model::ProxySettings;
use super::raw::{Raw, RawHeal, RawHealing};
use crate::domain::id::{ProxyId, ServiceId, SiteId};
use crate::domain::policy::{
    ContainerPolicy, ContainerRef, HealLimits, HealMode, OnKill, Role, ServicePolicy,
};
use crate::domain::time::Span;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

const MODES: [(&str, HealMode); 4] = [
    ("auto", HealMode::Auto),
    ("always", HealMode::Always),
    ("notify", HealMode::Notify),
    ("never", HealMode::Never),
];

const KILLS: [(&str, OnKill); 2] = [("respect", OnKill::Respect), ("heal", OnKill::Heal)];

/// What holds for every container that says nothing else.
struct Usual {
    heal: Option<HealMode>,
    on_kill: OnKill,
    grace: Span,
}

/// The budgets.
pub(crate) fn limits(checker: &mut Checker<'_>, raw: &RawHealing) -> HealLimits {
    let key = Key::root().at("heal");
    let mut number = |name: &str, raw: Option<i64>, limit| {
        u16::try_from(checker.number(&key.at(name), raw, limit)).unwrap_or(u16::MAX)
    };
    let restarts = number("restarts", raw.restarts, &limits::RESTARTS);
    let site_restarts = number("site_restarts", raw.site_restarts, &limits::SITE_RESTARTS);
    let mut span = |name: &str, raw, limit| checker.span(&key.at(name), raw, limit);
    let backoff_first = span("backoff_first", raw.backoff_first.as_ref(), &limits::BACKOFF_FIRST);
    HealLimits {
        restarts,
        site_restarts,
        window: span("window", raw.window.as_ref(), &limits::HEAL_WINDOW),
        backoff_first,
        backoff_longest: span("backoff_longest", raw.backoff_longest.as_ref(), &limits::BACKOFF_LONGEST)
            .max(backoff_first),
        slow_retry: span("slow_retry", raw.slow_retry.as_ref(), &limits::SLOW_RETRY),
    }
}

/// Every container that is kept running: those of servers, of HAProxy instances, and the ones that are named for it.
pub(crate) fn containers(
    checker: &mut Checker<'_>,
    raw: &Raw,
    engines: &mut Engines<'_>,
    services: &BTreeMap<ServiceId, ServicePolicy>,
    proxies: &BTreeMap<ProxyId, ProxySettings>,
) -> BTreeMap<ContainerRef, ContainerPolicy> {
    let usual = usual(checker, &raw.heal);
    let mut found: BTreeMap<ContainerRef, ContainerPolicy> = BTreeMap::new();
    let root = Key::root();
    for (name, raw_service) in &raw.services {
        let Some(policy) = name.parse().ok().and_then(|id: ServiceId| services.get(&id)) else { continue };
        for (server_name, raw_server) in &raw_service.servers {
            let key = root.at("services").at(name).at("servers").at(server_name);
            let server = server_name.parse().ok().and_then(|name| policy.servers.get(&name));
            let Some(container) = server.and_then(|server| server.container.as_ref()) else {
                if is_set(&raw_server.heal) {
                    let words = "there is no container to heal; name the server's `container` too";
                    checker.unfit(&key.at("heal"), words);
                }
                continue;
            };
            let site = server.map(|server| server.site);
            let own = own(checker, &key.at("heal"), &raw_server.heal, &usual, site, Role::Servers);
            add(checker, &mut found, &key.at("heal"), container, own);
        }
    }
    for (name, raw_container) in &raw.containers {
        let key = root.at("containers").at(name);
        let site =
            raw_container.site.as_ref().and_then(|site| known_site(checker, &key.at("site"), site, services));
        let engine = raw_container.engine.as_ref();
        let Some(container) =
            engines.container(checker, &key, Some(name), engine, raw_container.site.as_ref())
        else {
            continue;
        };
        let own = own(checker, &key.at("heal"), &raw_container.heal, &usual, site, Role::Other);
        match found.entry(container) {
            Entry::Vacant(free) => {
                free.insert(own);
            }
            Entry::Occupied(_) => {
                checker.unfit(&key, format!("{name:?} is the container of a server: write its `heal` there"));
            }
        }
    }
    for (name, raw_proxy) in &raw.proxies {
        let key = root.at("proxies").at(name).at("heal");
        let Some(id) = name.parse::<ProxyId>().ok() else { continue };
        let Some(container) = proxies.get(&id).and_then(|proxy| proxy.container.as_ref()) else {
            if is_set(&raw_proxy.heal) {
                checker.unfit(&key, "there is no container to heal; name the HAProxy's `container` too");
            }
            continue;
        };
        // Whatever else runs in it: all traffic goes through it.
        let own = own(checker, &key, &raw_proxy.heal, &usual, None, Role::Proxy(id));
        found.insert(container.clone(), own);
    }
    found
}

fn usual(checker: &mut Checker<'_>, raw: &RawHealing) -> Usual {
    let key = Key::root().at("heal");
    Usual {
        heal: checker.word(&key.at("mode"), raw.mode.as_ref(), &MODES),
        on_kill: checker.word(&key.at("on_kill"), raw.on_kill.as_ref(), &KILLS).unwrap_or(OnKill::Respect),
        grace: checker.span(&key.at("grace"), raw.grace.as_ref(), &limits::HEAL_GRACE),
    }
}

fn own(
    checker: &mut Checker<'_>,
    key: &Key,
    raw: &RawHeal,
    usual: &Usual,
    site: Option<SiteId>,
    role: Role,
) -> ContainerPolicy {
    let grace = raw.grace.as_ref();
    ContainerPolicy {
        heal: checker.word(&key.at("mode"), raw.mode.as_ref(), &MODES).or(usual.heal),
        on_kill: checker.word(&key.at("on_kill"), raw.on_kill.as_ref(), &KILLS).unwrap_or(usual.on_kill),
        grace: grace
            .map_or(usual.grace, |raw| checker.span(&key.at("grace"), Some(raw), &limits::HEAL_GRACE)),
        site,
        role,
    }
}

/// Several servers may run in one container, but it is started in one way only.
fn add(
    checker: &mut Checker<'_>,
    found: &mut BTreeMap<ContainerRef, ContainerPolicy>,
    key: &Key,
    container: &ContainerRef,
    own: ContainerPolicy,
) {
    match found.get(container) {
        Some(other) if *other != own => {
            checker.unfit(
                key,
                format!("another server in the container {container} has another site or `heal`"),
            );
        }
        Some(_) => {}
        None => {
            found.insert(container.clone(), own);
        }
    }
}

fn known_site(
    checker: &mut Checker<'_>,
    key: &Key,
    site: &str,
    services: &BTreeMap<ServiceId, ServicePolicy>,
) -> Option<SiteId> {
    let id = checker.name::<SiteId>(key, site)?;
    let sites = || services.values().flat_map(|service| service.prefer.iter());
    if sites().any(|known| *known == id) {
        return Some(id);
    }
    let known: std::collections::BTreeSet<&SiteId> = sites().collect();
    checker.unfit(key, format!("no server stands at {site:?} (sites with servers: {})", list(known.iter())));
    None
}

fn is_set(raw: &RawHeal) -> bool {
    raw.mode.is_some() || raw.on_kill.is_some() || raw.grace.is_some()
}
