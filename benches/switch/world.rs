//! What the core is about: services with a container at each of two sites, which crash and come back.

use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use supervisor::clock;
use supervisor::domain::delivery::AlertPolicy;
use supervisor::domain::event::{
    ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, Event, Facts, Past, Probed,
};
use supervisor::domain::policy::{
    ContainerPolicy, ContainerRef, FailbackMode, FailbackPolicy, HealLimits, HealMode, OnKill, Role,
    ServerPolicy, ServicePolicy,
};
use supervisor::domain::witness::ProbeOutcome;
use supervisor::domain::{ContainerName, EngineId, Policy, ProxyId, ServerId, ServiceId, SiteId, Span};

/// The better one first.
pub(crate) const SITES: [&str; 2] = ["onprem", "cloud"];

pub(crate) struct World {
    services: Vec<ServiceId>,
}

impl World {
    pub(crate) fn new(names: &[String]) -> Result<World> {
        Ok(World { services: names.iter().map(|name| name.parse()).collect::<Result<_, _>>()? })
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> {
        self.services.iter().copied()
    }

    /// Nothing returns by itself, nothing is started: each switch is an escape from a site that has died.
    pub(crate) fn policy(&self) -> Result<Policy> {
        let prefer: Vec<SiteId> = SITES.iter().map(|site| site.parse()).collect::<Result<_, _>>()?;
        let mut services = Vec::new();
        let mut containers = Vec::new();
        for service in &self.services {
            let mut servers = Vec::new();
            for site in SITES {
                let container = container(*service, site)?;
                let policy =
                    ServerPolicy { container: Some(container.clone()), ..ServerPolicy::at(site.parse()?) };
                servers.push((server(*service, site)?.server, policy));
                let policy = ContainerPolicy {
                    heal: Some(HealMode::Never),
                    on_kill: OnKill::Respect,
                    site: Some(site.parse()?),
                    grace: Span::seconds(30),
                    role: Role::Servers,
                };
                containers.push((container, policy));
            }
            let failback = FailbackPolicy { mode: FailbackMode::Manual, ..FailbackPolicy::auto() };
            let policy = ServicePolicy {
                failback,
                check_age: Span(1_500),
                ..ServicePolicy::of([proxy()?].into(), prefer.clone(), servers)
            };
            services.push((*service, policy));
        }
        Ok(Policy {
            external: BTreeSet::new(),
            containers: containers.into_iter().collect(),
            heal: HealLimits {
                restarts: 3,
                site_restarts: 10,
                window: Span::seconds(600),
                backoff_first: Span::seconds(1),
                backoff_longest: Span::seconds(60),
                slow_retry: Span::seconds(300),
            },
            // Nobody is told.
            alerts: AlertPolicy {
                peers: BTreeSet::new(),
                direct: false,
                fallback_after: Span::seconds(60),
                notify_grace: Span::seconds(45),
            },
            services: services.into_iter().collect(),
            proxies: [proxy()?].into(),
            engines: SITES.iter().map(|site| site.parse()).collect::<Result<_, _>>()?,
            startup_grace: Span::ZERO,
            lateness: Span::seconds(2),
        })
    }

    /// The container of a service at `site` has crashed.
    pub(crate) fn died(&self, number: usize, site: &str) -> Result<Event> {
        let ContainerRef { engine, name } = container(self.services[number], site)?;
        Ok(Event::Container(ContainerEvent {
            engine,
            id: id(&name),
            name,
            at: clock::boot_now(),
            nanoseconds: clock::wall_now().0 * 1_000_000,
            sign: ContainerSign::Died { exit: Some(1) },
        }))
    }

    /// The engine of `site` lists all its containers as ended.
    pub(crate) fn all_dead(&self, site: &str) -> Result<Event> {
        self.list(site, ContainerStatus::Exited { exit: Some(1), oom: false })
    }

    /// All its containers run, and their servers answer as often as they must to be up.
    pub(crate) fn recovery(&self, site: &str) -> Result<Vec<Event>> {
        let mut events = vec![self.list(site, ContainerStatus::Running)?];
        for _ in 0..2 {
            for service in self.services() {
                let ended = clock::boot_now();
                let outcome = ProbeOutcome::Healthy { status: 200, took: Span(1) };
                let server = server(service, site)?;
                // It began after whatever happened before: else it would be an answer from then.
                events.push(Event::Probed(Probed { server, due: ended, started: ended, ended, outcome }));
            }
        }
        Ok(events)
    }

    fn list(&self, site: &str, status: ContainerStatus) -> Result<Event> {
        let engine: EngineId = site.parse()?;
        let mut containers = BTreeMap::new();
        for service in self.services() {
            let name = container(service, site)?.name;
            let seen = ContainerSeen { id: id(&name), status, facts: Facts::default() };
            containers.insert(name, seen);
        }
        let at = clock::boot_now();
        Ok(Event::Containers(ContainerList { engine, at, containers, past: Past::default() }))
    }
}

pub(crate) fn proxy() -> Result<ProxyId> {
    Ok("edge".parse()?)
}

fn server(service: ServiceId, site: &str) -> Result<ServerId> {
    Ok(ServerId { service, server: format!("api-{site}").parse()? })
}

fn container(service: ServiceId, site: &str) -> Result<ContainerRef> {
    Ok(ContainerRef { engine: site.parse()?, name: ContainerName(format!("{service}-{site}")) })
}

/// As Docker names it.
fn id(name: &ContainerName) -> String {
    format!("{:0>64}", name.0.len())
}
