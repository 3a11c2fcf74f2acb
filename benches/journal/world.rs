//! Services on which nothing happens but what happens every day.

use crate::HOUR;
use anyhow::{Result, ensure};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use supervisor::daemon::Core;
use supervisor::domain::by_name::ByName;
use supervisor::domain::damping::Damper;
use supervisor::domain::delivery::AlertPolicy;
use supervisor::domain::event::{
    CheckSeen, ComposeService, ContainerList, ContainerSeen, ContainerStatus, DockersCheck, Event, Facts,
    Past, PeerResult, PeerSeen, Probed, ProxyIdentity, ProxySeen, Routed,
};
use supervisor::domain::policy::{
    ContainerPolicy, ContainerRef, FailbackPolicy, HealLimits, OnKill, Role, ServerPolicy, ServicePolicy,
};
use supervisor::domain::witness::{ProbeFault, ProbeOutcome};
use supervisor::domain::{Boot, ContainerName, Now, Policy, ServerId, ServiceId, SiteId, Span, State, Wall};
use supervisor::store::Record;

const SITES: [&str; 2] = ["onprem", "cloud"];

/// How often each server is asked.
const ASKED_EVERY: Span = Span::seconds(1);

/// After a lost answer it is asked again so soon.
const ASKED_AGAIN: Span = Span(250);

/// How often HAProxy, an engine and an Alertmanager are heard of here. They say nothing new, so that it does not matter.
const HEARD_EVERY: Span = Span::seconds(600);

/// The core and what it is about.
pub(crate) struct World {
    core: Core,
    now: Now,
    random: Rng,
    servers: Vec<(ServerId, ContainerRef)>,
    lost: u64,
}

impl World {
    pub(crate) fn new(services: usize, next_seq: u64, lost: u64, seed: u64) -> Result<World> {
        let services = (0..services).map(service).collect::<Result<ByName<_, _>>>()?;
        let policy = policy(services)?;
        let servers = policy.services.iter().flat_map(|(id, service)| {
            service.servers.iter().filter_map(move |(name, server)| {
                Some((ServerId { service: *id, server: *name }, server.container.clone()?))
            })
        });
        let servers = servers.collect();
        let core = Core::new(State::new(policy), next_seq);
        let now = Now { boot: Boot(1_000_000), wall: Wall(1_700_000_000_000) };
        Ok(World { core, now, random: Rng::with_seed(seed), servers, lost })
    }

    pub(crate) fn state(&self) -> &State {
        self.core.state()
    }

    pub(crate) fn now(&self) -> Now {
        self.now
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.core.last_seq()
    }

    fn pass(&mut self, span: Span) {
        self.now.boot = self.now.boot + span;
        self.now.wall = Wall(self.now.wall.0.saturating_add_unsigned(span.0));
    }

    fn step(&mut self, event: Event, records: &mut Vec<Record>) -> Result<()> {
        if let Ok(step) = self.core.step(event, self.now) {
            ensure!(step.breaches.is_empty(), "{:?} broke {:?}", step.record.event, step.breaches);
            records.push(step.record);
        }
        Ok(())
    }

    /// As a start of the daemon goes: engines list, HAProxy is looked at, all are probed.
    pub(crate) fn boot(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        self.step(Event::Started, &mut records)?;
        self.hear(&mut records)?;
        let routes = self.state().services.iter().map(|(id, service)| (*id, service.generation));
        let generations = routes.collect();
        let routed = Routed { proxy: "haproxy".parse()?, generations, took: Span(3) };
        self.step(Event::Routed(routed), &mut records)?;
        for _ in 0..2 {
            for number in 0..self.servers.len() {
                let ready = self.probe(number, ProbeOutcome::Healthy { status: 200, took: Span(3) });
                self.step(Event::Probed(ready), &mut records)?;
                let live = self.probe(number, ProbeOutcome::Connected { took: Span(1) });
                self.step(Event::Lived(live), &mut records)?;
            }
        }
        self.pass(Span::seconds(10));
        self.step(Event::Woke, &mut records)?;
        Ok(records)
    }

    /// An hour in which nothing moves; what is journalled of it.
    pub(crate) fn pass_an_hour(&mut self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        let began = self.now.boot;
        let probes = HOUR.0 / ASKED_EVERY.0 * self.servers.len() as u64;
        // In the order of their times, as if each probe had been drawn by itself.
        let lost: BTreeSet<(u64, usize)> = (0..self.drawn(probes))
            .map(|_| (self.random.u64(0..HOUR.0 - 1_000), self.random.usize(0..self.servers.len())))
            .collect();
        let mut heard = began;
        for (at, number) in lost {
            while heard + HEARD_EVERY < began + Span(at) {
                heard = heard + HEARD_EVERY;
                self.pass(heard.since(self.now.boot));
                self.hear(&mut records)?;
            }
            self.pass((began + Span(at)).since(self.now.boot));
            let fault = if self.random.bool() { ProbeFault::ConnectTimeout } else { ProbeFault::Silent };
            let failed = self.probe(number, ProbeOutcome::Failed(fault));
            self.step(Event::Probed(failed), &mut records)?;
            self.pass(ASKED_AGAIN);
            // Everybody who may be asked whether we still reach them answers, too.
            let service = self.servers[number].0.service;
            for other in 0..self.servers.len() {
                if self.servers[other].0.service != service {
                    continue;
                }
                let well = self.probe(other, ProbeOutcome::Healthy { status: 200, took: Span(3) });
                self.step(Event::Probed(well), &mut records)?;
            }
        }
        self.pass((began + HOUR).since(self.now.boot));
        self.step(Event::Woke, &mut records)?;
        for number in 0..self.servers.len() {
            let well = self.probe(number, ProbeOutcome::Healthy { status: 200, took: Span(3) });
            self.step(Event::Probed(well), &mut records)?;
        }
        Ok(records)
    }

    /// How many of so many probes are lost.
    fn drawn(&mut self, probes: u64) -> u64 {
        let (whole, rest) = (probes / self.lost, probes % self.lost);
        whole + u64::from(self.random.u64(0..self.lost) < rest)
    }

    fn probe(&self, number: usize, outcome: ProbeOutcome) -> Probed {
        let ended = self.now.boot;
        let started = ended - Span(3);
        Probed { server: self.servers[number].0, due: started, started, ended, outcome }
    }

    /// HAProxy, the engines and the Alertmanager say what they always say.
    fn hear(&mut self, records: &mut Vec<Record>) -> Result<()> {
        for site in SITES {
            let here = self.servers.iter().filter(|(_, container)| container.engine.as_str() == site);
            let containers =
                here.map(|(_, container)| (container.name.clone(), seen(&container.name))).collect();
            let list =
                ContainerList { engine: site.parse()?, at: self.now.boot, containers, past: Past::default() };
            self.step(Event::Containers(list), records)?;
        }
        let services = &self.state().services;
        let routes = services.iter().filter_map(|(id, service)| Some((*id, service.placement.site()?)));
        let check = CheckSeen { layer7_ok: true, usable: true, age_at_most: Span(1_500) };
        let look = ProxySeen {
            proxy: "haproxy".parse()?,
            at: self.now.boot,
            identity: ProxyIdentity { pid: 77, started: 1_699_999_000 },
            owner: Some("f3a1b2c4d5e6f708".to_owned()),
            ours: true,
            routes: routes.collect(),
            checks: self.servers.iter().map(|(server, _)| (*server, check)).collect(),
            serving: BTreeMap::new(),
            out: Some(BTreeMap::new()),
            master: None,
        };
        self.step(Event::Proxy(look), records)?;
        let result = PeerResult::Answered(BTreeMap::new());
        self.step(Event::Peer(PeerSeen { peer: "alertmanager".parse()?, result, silences: None }), records)
    }
}

/// As Docker tells of a container that Compose has made.
fn seen(name: &ContainerName) -> ContainerSeen {
    // Ids are random, so that no two are alike.
    let mut id = Rng::with_seed(
        name.0.bytes().fold(7, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))),
    );
    ContainerSeen {
        id: (0..4).map(|_| format!("{:016x}", id.u64(..))).collect(),
        status: ContainerStatus::Running,
        facts: Facts {
            check: Some(DockersCheck::Healthy),
            started: Some(1_699_990_000_000_000_000 + i64::from(id.u32(..))),
            compose: Some(ComposeService { project: "shop".to_owned(), service: name.0.clone() }),
            ..Facts::default()
        },
    }
}

fn service(number: usize) -> Result<(ServiceId, ServicePolicy)> {
    const OF: [&str; 10] = [
        "billing",
        "catalog",
        "checkout",
        "customer",
        "identity",
        "inventory",
        "orders",
        "payments",
        "search",
        "shipping",
    ];
    let name = format!("{}-api-{number}", OF[number % OF.len()]);
    let server = |site: &str| {
        let text = format!("{name}-{site}");
        let container = ContainerRef { engine: site.parse()?, name: ContainerName(text.clone()) };
        let policy = ServerPolicy {
            container: Some(container),
            fall: 3,
            slow_after: Some(Span(500)),
            strain: Damper::nth(3, Span::seconds(5)),
            ..ServerPolicy::at(site.parse()?)
        };
        Ok((text.parse()?, policy))
    };
    let prefer = SITES.iter().map(|site| site.parse()).collect::<Result<Vec<SiteId>, _>>()?;
    let servers = SITES.iter().map(|site| server(site)).collect::<Result<Vec<_>>>()?;
    let of = ServicePolicy::of(["haproxy".parse()?].into(), prefer, servers);
    let policy = ServicePolicy {
        failback: FailbackPolicy::auto(),
        flapping: Damper::nth(3, Span::seconds(300)),
        check_age: Span(1_500),
        ..of
    };
    Ok((name.parse()?, policy))
}

/// The defaults of the settings.
fn policy(services: ByName<ServiceId, ServicePolicy>) -> Result<Policy> {
    let servers = services.values().flat_map(|service| service.servers.values());
    let containers = servers.filter_map(|server| {
        let policy = ContainerPolicy {
            heal: None,
            on_kill: OnKill::Respect,
            site: Some(server.site),
            grace: Span::seconds(30),
            role: Role::Servers,
        };
        Some((server.container.clone()?, policy))
    });
    Ok(Policy {
        external: BTreeSet::new(),
        containers: containers.collect(),
        heal: HealLimits {
            restarts: 5,
            site_restarts: 20,
            window: Span::seconds(600),
            backoff_first: Span::seconds(1),
            backoff_longest: Span::seconds(60),
            slow_retry: Span::seconds(300),
        },
        alerts: AlertPolicy {
            peers: ["alertmanager".parse()?].into(),
            direct: true,
            fallback_after: Span::seconds(60),
            notify_grace: Span::seconds(90),
        },
        services,
        proxies: ["haproxy".parse()?].into(),
        engines: SITES.iter().map(|site| site.parse()).collect::<Result<_, _>>()?,
        startup_grace: Span::seconds(5),
        lateness: Span::seconds(2),
    })
}
