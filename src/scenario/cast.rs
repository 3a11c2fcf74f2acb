//! Who is in a script: services, servers, containers, HAProxy instances, engines, Alertmanagers. Together they are the
//! policy; what a line calls by its name is found here.

use super::words::{Words, Wrong, name, number};
use crate::domain::delivery::AlertPolicy;
use crate::domain::id::{ContainerName, EngineId, Name, PeerId, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::policy::{
    ContainerPolicy, ContainerRef, HealLimits, OnKill, Policy, Role, ServerPolicy, ServicePolicy,
};
use crate::domain::time::Span;
use std::collections::{BTreeMap, BTreeSet};

/// So many services, sites of one service, servers of one pool, and other names of each kind are in one script at most: a
/// person reads it.
const MANY: usize = 32;

/// So many servers, and so many containers.
const SERVERS_MAX: usize = 256;

/// The policy as the lines so far have it, and every name that was ever in it.
#[derive(Debug, Clone)]
pub(super) struct Cast {
    pub(super) policy: Policy,
    /// Servers have names of their own in a script, whatever their service.
    servers: BTreeMap<Name, ServerId>,
    containers: BTreeMap<ContainerName, ContainerRef>,
    /// The engine of a site that has not the usual one.
    engines: BTreeMap<SiteId, EngineId>,
    usual_engine: EngineId,
}

impl Cast {
    /// One HAProxy, one engine, nobody to tell; limits as the settings have them by default.
    pub(super) fn new() -> Result<Cast, Wrong> {
        let usual_engine: EngineId = name("local")?;
        let policy = Policy {
            proxies: [name("haproxy")?].into(),
            engines: [usual_engine].into(),
            startup_grace: Span::seconds(5),
            lateness: Span::seconds(2),
            heal: HealLimits {
                restarts: 5,
                site_restarts: 20,
                window: Span::seconds(600),
                backoff_first: Span::seconds(1),
                backoff_longest: Span::seconds(60),
                slow_retry: Span::seconds(300),
            },
            alerts: AlertPolicy {
                fallback_after: Span::seconds(60),
                notify_grace: Span::seconds(90),
                ..AlertPolicy::default()
            },
            ..Policy::default()
        };
        let (servers, containers, engines) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Cast { policy, servers, containers, engines, usual_engine })
    }

    /// `service NAME SITE…`: a new one, or other sites for one that is there.
    pub(super) fn service(&mut self, words: &mut Words<'_>) -> Result<(), Wrong> {
        let word = words.next("the service's name")?;
        let id: ServiceId = name(word)?;
        if self.policy.services.len() >= MANY && !self.policy.services.contains_key(&id) {
            return Err(Wrong::new(word, format!("a script has {MANY} services at most")));
        }
        let mut prefer: Vec<SiteId> = Vec::new();
        let mut servers: Vec<(Name, SiteId)> = Vec::new();
        while prefer.is_empty() || !words.is_empty() {
            let word = words.next("a site")?;
            let (place, count) = word.split_once('*').unwrap_or((word, "1"));
            let (site, count): (SiteId, usize) = (name(place)?, number(count, 1..=MANY)?);
            if prefer.contains(&site) || prefer.len() >= MANY {
                return Err(Wrong::new(word, format!("a service has each site once, and {MANY} at most")));
            }
            prefer.push(site);
            for number in 1..=count {
                let suffix = if count == 1 { String::new() } else { format!("-{number}") };
                let server = name(&format!("{id}-{site}{suffix}"))?;
                if self.servers.get(&server).is_some_and(|known| known.service != id) {
                    return Err(Wrong::new(word, format!("another service has the server {server}")));
                }
                servers.push((server, site));
            }
        }
        let new = servers.iter().filter(|(server, _)| !self.servers.contains_key(server)).count();
        if self.servers.len() + new > SERVERS_MAX {
            return Err(Wrong::new(word, format!("a script has {SERVERS_MAX} servers at most")));
        }
        self.place(id, prefer, servers);
        Ok(())
    }

    /// Gives a service these servers; what was set for it, and for those that stay, stays.
    fn place(&mut self, id: ServiceId, prefer: Vec<SiteId>, servers: Vec<(Name, SiteId)>) {
        let mut service = self.policy.services.remove(&id).unwrap_or_else(|| usual(&self.policy.proxies));
        let mut before = std::mem::take(&mut service.servers);
        service.prefer = prefer;
        for (server, site) in servers {
            self.servers.insert(server, ServerId { service: id, server });
            let known = before.remove(&server).filter(|known| known.site == site).unwrap_or_else(|| {
                let container = self.meet(ContainerName(server.to_string()), Some(site), Role::Servers);
                ServerPolicy { container: Some(container), ..ServerPolicy::at(site) }
            });
            service.servers.insert(server, known);
        }
        self.policy.services.insert(id, service);
        self.forget_idle();
    }

    /// A container that is kept running from now on, by the usual policy.
    pub(super) fn meet(&mut self, name: ContainerName, site: Option<SiteId>, role: Role) -> ContainerRef {
        let engine = site.and_then(|site| self.engines.get(&site)).copied().unwrap_or(self.usual_engine);
        let container = ContainerRef { engine, name: name.clone() };
        self.containers.insert(name, container.clone());
        let (on_kill, grace) = (OnKill::Respect, Span::seconds(30));
        let usual = ContainerPolicy { heal: None, on_kill, site, grace, role };
        if !self.policy.containers.contains_key(&container) {
            self.policy.containers.insert(container.clone(), usual);
        }
        container
    }

    /// Containers of servers that no server runs in any more are nobody's business.
    pub(super) fn forget_idle(&mut self) {
        let servers = self.policy.services.values().flat_map(|service| service.servers.values());
        let used: BTreeSet<&ContainerRef> = servers.filter_map(|server| server.container.as_ref()).collect();
        self.policy
            .containers
            .retain(|container, policy| policy.role != Role::Servers || used.contains(container));
    }

    /// `container NAME [at SITE] [runs PROXY]`; what Docker knows of it follows.
    pub(super) fn container(&mut self, words: &mut Words<'_>) -> Result<ContainerRef, Wrong> {
        let word = words.next("the container's name")?;
        let site = if words.take("at") { Some(words.name("a site")?) } else { None };
        let proxy = if words.take("runs") { Some(self.proxy_named(words)?) } else { None };
        match (self.containers.get(&ContainerName(word.to_owned())).cloned(), site, proxy) {
            (Some(known), None, None) => Ok(known),
            (Some(_), ..) => {
                Err(Wrong::new(word, "it is in the script already: only what Docker knows of it may follow"))
            }
            (None, ..) if self.containers.len() >= SERVERS_MAX => {
                Err(Wrong::new(word, format!("a script has {SERVERS_MAX} containers at most")))
            }
            (None, site, proxy) => {
                let checked: Name = name(word)?;
                let role = proxy.map_or(Role::Other, Role::Proxy);
                Ok(self.meet(ContainerName(checked.to_string()), site, role))
            }
        }
    }

    /// `proxies NAME…`
    pub(super) fn proxies(&mut self, words: &mut Words<'_>) -> Result<(), Wrong> {
        if let (Some(word), false) = (words.peek(), self.policy.services.is_empty()) {
            return Err(Wrong::new(word, "HAProxy instances come before the services that they route"));
        }
        self.policy.proxies = names(words, "the name of an HAProxy")?;
        Ok(())
    }

    /// `engine NAME at SITE…`
    pub(super) fn engine(&mut self, words: &mut Words<'_>) -> Result<(), Wrong> {
        let word = words.next("the engine's name")?;
        if !self.policy.services.is_empty() {
            return Err(Wrong::new(word, "engines come before the services whose containers they run"));
        }
        let engine: EngineId = name(word)?;
        words.expect("at")?;
        let sites: BTreeSet<SiteId> = names(words, "a site")?;
        self.engines.extend(sites.into_iter().map(|site| (site, engine)));
        self.policy.engines.insert(engine);
        if self.policy.engines.len() > MANY || self.engines.len() > MANY {
            return Err(Wrong::new(word, format!("a script has {MANY} engines and sites at most")));
        }
        Ok(())
    }

    /// `alertmanagers NAME…`, or none.
    pub(super) fn alertmanagers(&mut self, words: &mut Words<'_>) -> Result<(), Wrong> {
        self.policy.alerts.peers = match words.take("none") {
            true => BTreeSet::new(),
            false => names(words, "the name of an Alertmanager")?,
        };
        Ok(())
    }

    /// `remove NAME`: a service, or a container that no server runs in.
    pub(super) fn remove(&mut self, words: &mut Words<'_>) -> Result<(), Wrong> {
        let word = words.next("the name of a service or a container")?;
        if let Ok(id) = word.parse::<ServiceId>()
            && self.policy.services.remove(&id).is_some()
        {
            self.forget_idle();
            return Ok(());
        }
        let container = self.containers.get(&ContainerName(word.to_owned()));
        let other = |policy: &ContainerPolicy| policy.role != Role::Servers;
        match container.filter(|known| self.policy.containers.get(known).is_some_and(other)) {
            Some(container) => {
                self.policy.containers.remove(container);
                Ok(())
            }
            None => Err(Wrong::unknown(word, "no service, and no container of its own, has this name")),
        }
    }

    pub(super) fn server(&self, word: &str) -> Result<ServerId, Wrong> {
        let found = word.parse().ok().and_then(|server: Name| self.servers.get(&server).copied());
        found.ok_or_else(|| unknown(word, "server", self.servers.keys()))
    }

    pub(super) fn container_named(&self, word: &str) -> Result<ContainerRef, Wrong> {
        let found = self.containers.get(&ContainerName(word.to_owned())).cloned();
        found.ok_or_else(|| unknown(word, "container", self.containers.keys()))
    }

    pub(super) fn service_named(&self, word: &str) -> Result<ServiceId, Wrong> {
        let all: BTreeSet<ServiceId> = self.servers.values().map(|server| server.service).collect();
        let found = word.parse().ok().filter(|service| all.contains(service));
        found.ok_or_else(|| unknown(word, "service", all.iter()))
    }

    pub(super) fn site_named(&self, word: &str) -> Result<SiteId, Wrong> {
        let sites = self.policy.services.values().flat_map(|service| service.prefer.iter().copied());
        let all: BTreeSet<SiteId> = sites.collect();
        let found = word.parse().ok().filter(|site| all.contains(site));
        found.ok_or_else(|| unknown(word, "site", all.iter()))
    }

    pub(super) fn peer_named(&self, word: &str) -> Result<PeerId, Wrong> {
        let all = &self.policy.alerts.peers;
        let found = word.parse().ok().filter(|peer| all.contains(peer));
        found.ok_or_else(|| unknown(word, "Alertmanager", all.iter()))
    }

    pub(super) fn engine_named(&self, word: &str) -> Result<EngineId, Wrong> {
        let all = &self.policy.engines;
        let found = word.parse().ok().filter(|engine| all.contains(engine));
        found.ok_or_else(|| unknown(word, "engine", all.iter()))
    }

    pub(super) fn only_engine(&self) -> Result<EngineId, Wrong> {
        let mut all = self.policy.engines.iter();
        match (all.next(), all.next()) {
            (Some(only), None) => Ok(*only),
            (Some(one), Some(_)) => Err(Wrong::new(
                "docker",
                format!("there are several engines: write `engine {one}` instead of `docker`"),
            )),
            (None, _) => Err(Wrong::new("docker", "there is no engine")),
        }
    }

    fn proxy_named(&self, words: &mut Words<'_>) -> Result<ProxyId, Wrong> {
        let word = words.next("the name of an HAProxy")?;
        let all = &self.policy.proxies;
        let found = word.parse().ok().filter(|proxy| all.contains(proxy));
        found.ok_or_else(|| unknown(word, "HAProxy", all.iter()))
    }

    /// The HAProxy that the next word names; without such a word, the only one.
    pub(super) fn proxy(&self, words: &mut Words<'_>) -> Result<ProxyId, Wrong> {
        let all = &self.policy.proxies;
        let is_name = |word: &str| word.parse().is_ok_and(|proxy: ProxyId| all.contains(&proxy));
        if words.peek().is_some_and(is_name) {
            return self.proxy_named(words);
        }
        match all.iter().collect::<Vec<_>>().as_slice() {
            [only] => Ok(**only),
            _ => Err(Wrong::new(
                words.peek().unwrap_or("haproxy"),
                format!("there are several HAProxy instances, so which one? {}", list(all.iter())),
            )),
        }
    }
}

/// A service of nothing: returned to after a minute, at most every five, at most twice in ten.
fn usual(proxies: &BTreeSet<ProxyId>) -> ServicePolicy {
    ServicePolicy::of(proxies.clone(), Vec::new(), [])
}

/// All words that are left, each a name.
fn names<T>(words: &mut Words<'_>, what: &str) -> Result<BTreeSet<T>, Wrong>
where
    T: std::str::FromStr<Err = crate::domain::id::NameError> + Ord,
{
    let mut all = BTreeSet::new();
    while all.is_empty() || !words.is_empty() {
        let word = words.next(what)?;
        if !all.insert(name(word)?) || all.len() > MANY {
            return Err(Wrong::new(word, format!("each name once, and {MANY} at most")));
        }
    }
    Ok(all)
}

fn unknown<T: ToString>(word: &str, what: &str, known: impl Iterator<Item = T>) -> Wrong {
    match list(known) {
        none if none.is_empty() => {
            Wrong::unknown(word, format!("no {what} has this name: there is none yet"))
        }
        known => Wrong::unknown(word, format!("no {what} has this name; known: {known}")),
    }
}

fn list<T: ToString>(names: impl Iterator<Item = T>) -> String {
    /// More than this help nobody to find a typing error.
    const SHOWN: usize = 8;
    let mut all: Vec<String> = names.take(SHOWN + 1).map(|name| name.to_string()).collect();
    if all.len() > SHOWN {
        all.truncate(SHOWN);
        all.push("...".to_owned());
    }
    all.join(", ")
}
