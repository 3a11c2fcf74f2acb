//! A world for the core: services at two sites behind one HAProxy, and edges that do at once what they are told.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use supervisor::daemon::{Core, Step as Decided};
use supervisor::domain::action::{Action, Deed, Finished, Heal, Outcome, Target};
use supervisor::domain::by_name::ByName;
use supervisor::domain::command::{Command, CommandId, Operator, Order};
use supervisor::domain::damping::Damper;
use supervisor::domain::delivery::{AlertPolicy, MailKey, Telling, Word};
use supervisor::domain::event::{
    CheckSeen, ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, DockersCheck,
    Event, Facts, MailEnd, Mailed, Past, PeerResult, PeerSeen, Probed, ProxyIdentity, ProxySeen, Routed,
};
use supervisor::domain::incident::IncidentId;
use supervisor::domain::policy::{
    ContainerPolicy, ContainerRef, FailbackPolicy, HealLimits, OnKill, Role, ServerPolicy, ServicePolicy,
};
use supervisor::domain::witness::ProbeOutcome;
use supervisor::domain::{
    Boot, Change, ContainerName, Decision, EngineId, Now, PeerId, Policy, ProxyId, ServerId, ServiceId,
    SiteId, Span, State, Wall,
};

use crate::recording::{Kind, Recording, Step};

/// The better one first.
pub(crate) const SITES: [&str; 2] = ["onprem", "cloud"];

/// A better site takes over again after this, and after [`HOLD_DOWN`]: minutes in practice. The clocks of this world are
/// short, so that a second of it has failovers and failbacks, with 10,000 services as with 10.
const FAILBACK_AFTER: Span = Span(300);

/// The longest of the short clocks: after twice this the world is as it stays.
pub(crate) const HOLD_DOWN: Span = Span(1_000);

/// A server and where it runs.
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) container: ContainerRef,
    /// As Docker names it.
    pub(crate) container_id: String,
}

/// What an edge reports, once it has done what it was told.
pub(crate) enum Answer {
    /// This.
    Event(Event),
    /// Its engine announces something about a server's container.
    Sign(usize, ContainerSign),
}

/// The world: the core, and what it is about.
pub(crate) struct World {
    pub(crate) servers: Vec<Server>,
    pub(crate) now: Now,
    core: Core,
    by_container: BTreeMap<ContainerRef, usize>,
    start: Option<State>,
    steps: Vec<Step>,
    commands: u64,
}

impl World {
    /// `size` services that are up, and served by the better site.
    pub(crate) fn new(size: usize) -> Result<World> {
        let services = (0..size).map(service).collect::<Result<Vec<_>>>()?;
        let policy = policy(services.into_iter().collect())?;
        let servers: Vec<Server> = policy
            .services
            .iter()
            .flat_map(|(id, service)| service.servers.iter().map(move |(name, server)| (*id, *name, server)))
            .enumerate()
            .filter_map(|(number, (service, server, wanted))| {
                let container = wanted.container.clone()?;
                let id = ServerId { service, server };
                Some(Server { id, container, container_id: format!("{number:064x}") })
            })
            .collect();
        let mut world = World {
            core: Core::new(State::new(policy), 1),
            now: Now { boot: Boot(1_000_000), wall: Wall(1_700_000_000_000) },
            by_container: (0..)
                .zip(&servers)
                .map(|(number, server)| (server.container.clone(), number))
                .collect(),
            servers,
            start: None,
            steps: Vec::new(),
            commands: 0,
        };
        world.boot()?;
        Ok(world)
    }

    /// As a start of the daemon goes: Docker lists, HAProxy is looked at, all are probed, routes are read back.
    fn boot(&mut self) -> Result<()> {
        self.step(Event::Started)?;
        for site in SITES {
            let list = self.list(site)?;
            self.step(list)?;
        }
        let look = self.look()?;
        let placed = self.step(look)?;
        for _ in 0..2 {
            for number in 0..self.servers.len() {
                let probe = self.probe(number, ProbeOutcome::Healthy { status: 200, took: Span(3) });
                self.step(Event::Probed(probe))?;
                let live = self.probe(number, ProbeOutcome::Connected { took: Span(1) });
                self.step(Event::Lived(live))?;
            }
        }
        for (_, answer) in self.answers(&placed)? {
            let event = self.event(answer);
            self.step(event)?;
        }
        // Past the grace of a start.
        self.pass(Span(6_000));
        Ok(())
    }

    pub(crate) fn state(&self) -> &State {
        self.core.state()
    }

    /// Time passes.
    pub(crate) fn pass(&mut self, span: Span) {
        self.now.boot = self.now.boot + span;
        self.now.wall = Wall(self.now.wall.0.saturating_add_unsigned(span.0));
    }

    /// Time passes until `boot`, if that is to come.
    pub(crate) fn pass_until(&mut self, boot: Boot) {
        self.pass(boot.since(self.now.boot));
    }

    /// Something happens: what is decided, once it is known to break no invariant.
    pub(crate) fn step(&mut self, event: Event) -> Result<Decision> {
        let (event, decision) = match self.core.step(event, self.now) {
            Ok(Decided { record, breaches }) => {
                ensure!(breaches.is_empty(), "{:?} broke {breaches:?}", record.event);
                (record.event, record.decision)
            }
            Err(event) => (event, Decision::default()),
        };
        if self.start.is_some() {
            self.steps.push(Step { kind: Kind::of(&event, &decision), now: self.now, event });
        }
        Ok(decision)
    }

    /// How many events were recorded.
    pub(crate) fn recorded(&self) -> usize {
        self.steps.len()
    }

    /// What happens from now on is recorded.
    pub(crate) fn record(&mut self) {
        self.start = Some(self.state().clone());
    }

    /// What happened since [`World::record`].
    pub(crate) fn recording(self) -> Result<Recording> {
        let end = self.core.state().clone();
        let mut rebuilt = end.clone();
        rebuilt.reindex();
        ensure!(rebuilt == end, "the index drifted from what it is derived from");
        let start = self.start.unwrap_or_default();
        Ok(Recording { start, steps: self.steps, end })
    }

    /// A probe of a server that ends now.
    pub(crate) fn probe(&self, number: usize, outcome: ProbeOutcome) -> Probed {
        let ended = self.now.boot;
        let started = ended - Span(3);
        Probed { server: self.servers[number].id, due: started, started, ended, outcome }
    }

    /// Docker announces something about a server's container.
    pub(crate) fn sign(&self, number: usize, sign: ContainerSign) -> Event {
        let Server { container, container_id, .. } = &self.servers[number];
        Event::Container(ContainerEvent {
            engine: container.engine,
            name: container.name.clone(),
            id: container_id.clone(),
            at: self.now.boot,
            nanoseconds: self.now.wall.0 * 1_000_000,
            sign,
        })
    }

    /// What an answer is when it comes.
    pub(crate) fn event(&self, answer: Answer) -> Event {
        match answer {
            Answer::Event(event) => event,
            Answer::Sign(number, sign) => self.sign(number, sign),
        }
    }

    /// A person orders something.
    pub(crate) fn order(&mut self, order: Order) -> Event {
        self.commands += 1;
        let by = Operator { uid: 1000, pid: Some(4711), name: Some("ada".to_owned()) };
        Event::Commanded(Command { id: CommandId(self.commands), by, because: None, order })
    }

    /// A look at the HAProxy that shows what is decided.
    pub(crate) fn look(&self) -> Result<Event> {
        let services = &self.state().services;
        let routes = services.iter().filter_map(|(id, service)| Some((*id, service.placement.site()?)));
        let check = CheckSeen { layer7_ok: true, usable: true, age_at_most: Span(1_500) };
        Ok(Event::Proxy(ProxySeen {
            proxy: proxy()?,
            at: self.now.boot,
            identity: ProxyIdentity { pid: 77, started: 1_699_999_000 },
            master: None,
            owner: Some("f3a1".to_owned()),
            ours: true,
            routes: routes.collect(),
            checks: self.servers.iter().map(|server| (server.id, check)).collect(),
            serving: BTreeMap::new(),
            out: Some(BTreeMap::new()),
        }))
    }

    /// A list of an engine that shows what is known, or that everything runs.
    pub(crate) fn list(&self, site: &str) -> Result<Event> {
        let engine: EngineId = site.parse()?;
        let known = self.state().engines.get(&engine).map(|engine| &engine.containers);
        let here = self.servers.iter().filter(|server| server.container.engine == engine);
        let containers = here.map(|server| {
            let name = server.container.name.clone();
            let seen = known.and_then(|known| known.get(&name)).cloned();
            let runs = || ContainerSeen {
                id: server.container_id.clone(),
                status: ContainerStatus::Running,
                facts: Facts { check: Some(DockersCheck::Healthy), ..Facts::default() },
            };
            (name, seen.unwrap_or_else(runs))
        });
        Ok(Event::Containers(ContainerList {
            engine,
            at: self.now.boot,
            containers: containers.collect(),
            past: Past::default(),
        }))
    }

    /// What the edges answer to a decision, each with how long that takes.
    pub(crate) fn answers(&self, decision: &Decision) -> Result<Vec<(Span, Answer)>> {
        let mut answers = Vec::new();
        let mut answer = |after: u64, event| answers.push((Span(after), Answer::Event(event)));
        let mut routes: BTreeMap<ServiceId, u64> = BTreeMap::new();
        let mut heals: Vec<&Heal> = Vec::new();
        for action in &decision.actions {
            match action {
                Action::Route { service, generation, .. } => {
                    routes.insert(*service, *generation);
                }
                Action::Evacuate(evacuation) => {
                    let of = Target::Server(evacuation.server);
                    answer(
                        6,
                        Event::Finished(Finished { action: evacuation.id, of, outcome: Outcome::Done }),
                    );
                }
                Action::Heal(heal) => {
                    let of = Target::Container { container: heal.container.clone(), deed: heal.deed };
                    answer(30, Event::Finished(Finished { action: heal.id, of, outcome: Outcome::Done }));
                    heals.push(heal);
                }
                Action::Mail(mail) => {
                    let end = MailEnd::Accepted { recipients: 1 };
                    answer(40, Event::Mailed(Mailed { mail: MailKey::of(mail), end }));
                }
                Action::Pace { .. } | Action::Answer { .. } => {}
            }
        }
        if !routes.is_empty() {
            answer(4, Event::Routed(Routed { proxy: proxy()?, generations: routes, took: Span(3) }));
        }
        for change in &decision.changes {
            let Change::Incident { id, incident: Some(incident) } = change else { continue };
            match (&incident.telling, incident.ended) {
                // Also one that was a part of a larger one, which is over.
                (Telling::Pending { .. }, None) => answer(15, word(*id, Word::Active)?),
                (_, Some(ended)) if ended.at == self.now.boot => answer(15, word(*id, Word::Resolved)?),
                _ => {}
            }
        }
        for heal in heals {
            let Some(number) = self.by_container.get(&heal.container).copied() else { continue };
            if let Deed::Restart { .. } = heal.deed {
                answers.push((Span(20), Answer::Sign(number, ContainerSign::Died { exit: Some(143) })));
            }
            answers.push((Span(25), Answer::Sign(number, ContainerSign::Started)));
        }
        Ok(answers)
    }
}

/// What the Alertmanager says of one incident.
fn word(incident: IncidentId, word: Word) -> Result<Event> {
    let result = PeerResult::Answered([(incident, word)].into());
    Ok(Event::Peer(PeerSeen { peer: peer()?, result, silences: None }))
}

fn proxy() -> Result<ProxyId> {
    Ok("haproxy".parse()?)
}

fn peer() -> Result<PeerId> {
    Ok("alertmanager".parse()?)
}

/// Names as people give them: with common beginnings, in no order.
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
    const WHAT: [&str; 7] = ["api", "web", "worker", "gateway", "events", "admin", "export"];
    let name = format!("{}-{}-{number}", OF[number % OF.len()], WHAT[number % WHAT.len()]);
    let server = |site: &str| {
        let text = format!("{name}-{site}");
        let container = ContainerRef { engine: site.parse()?, name: ContainerName(text.clone()) };
        let policy = ServerPolicy {
            container: Some(container),
            slow_after: Some(Span(500)),
            strain: Damper::nth(3, Span::seconds(5)),
            ..ServerPolicy::at(site.parse()?)
        };
        Ok((text.parse()?, policy))
    };
    let prefer = SITES.iter().map(|site| site.parse()).collect::<Result<Vec<SiteId>, _>>()?;
    let servers = SITES.iter().map(|site| server(site)).collect::<Result<Vec<_>>>()?;
    let policy = ServicePolicy {
        failback: FailbackPolicy {
            after: FAILBACK_AFTER,
            hold_down: HOLD_DOWN,
            limit: 30,
            limit_window: Span::seconds(10),
            ..FailbackPolicy::auto()
        },
        check_age: Span(1_500),
        ..ServicePolicy::of([proxy()?].into(), prefer, servers)
    };
    Ok((name.parse()?, policy))
}

/// The defaults of the settings, but where a budget for people would end what is measured.
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
            restarts: 60,
            site_restarts: u16::MAX,
            window: Span::seconds(600),
            backoff_first: Span(100),
            backoff_longest: Span(400),
            slow_retry: Span::seconds(300),
        },
        alerts: AlertPolicy {
            peers: [peer()?].into(),
            direct: true,
            fallback_after: Span::seconds(60),
            notify_grace: Span::seconds(45),
        },
        services,
        proxies: [proxy()?].into(),
        engines: SITES.iter().map(|site| site.parse()).collect::<Result<_, _>>()?,
        startup_grace: Span::seconds(5),
        lateness: Span::seconds(2),
    })
}
