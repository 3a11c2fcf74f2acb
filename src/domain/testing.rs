//! A small world for tests of the core: one service, two sites, one HAProxy, one engine; time is moved by hand.
//!
//! Every step goes through [`decide`] and [`State::apply`], is checked against the invariants, and is replayed from its
//! journal form, so that each test also tests those.

use super::action::{Action, ActionId, Evacuation, Outcome};
use super::by_name::ByName;
use super::command::{Command, CommandId, Denial, Operator, Order, Verdict};
use super::decide::{Decision, decide};
use super::delivery::AlertPolicy;
use super::event::{
    CheckSeen, ContainerEvent, ContainerSign, Event, Probed, ProxyIdentity, ProxySeen, Routed,
};
use super::id::{ContainerName, EngineId, Name, ProxyId, ServerId, ServiceId, SiteId};
use super::invariants;
use super::maintenance::{Admin, AdminSeen, Agreement, agreement};
use super::policy::{
    ContainerPolicy, ContainerRef, HealLimits, HealMode, OnKill, Policy, Role, ServerPolicy, ServicePolicy,
};
use super::repair::{HealWait, depends};
use super::state::State;
use super::time::{Boot, Now, Span, Wall};
use super::witness::{ProbeFault, ProbeOutcome};
use std::collections::BTreeMap;

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn site(text: &str) -> SiteId {
    SiteId(name(text))
}

pub(crate) fn service(text: &str) -> ServiceId {
    ServiceId(name(text))
}

pub(crate) fn server(text: &str) -> ServerId {
    let (service_name, server) = text.split_once('/').unwrap();
    ServerId { service: service(service_name), server: name(server) }
}

pub(crate) fn proxy() -> ProxyId {
    ProxyId(name("haproxy"))
}

pub(crate) fn engine() -> EngineId {
    EngineId(name("local"))
}

/// A service `id` with one server `<id>-<site>` at each of `sites`, rise 2, fall 2, failback after 60 s, hold-down 5 min.
pub(crate) fn service_policy(id: &str, sites: &[&str]) -> ServicePolicy {
    let servers = sites.iter().map(|place| {
        let container = format!("{id}-{place}");
        let known = ContainerRef { engine: engine(), name: ContainerName(container.clone()) };
        (name(&container), ServerPolicy { container: Some(known), ..ServerPolicy::at(site(place)) })
    });
    let prefer = sites.iter().map(|place| site(place)).collect();
    ServicePolicy::of([proxy()].into(), prefer, servers)
}

/// Nothing is healed: tests of traffic look at traffic. See [`healing`].
pub(crate) fn policy(services: &[(&str, &[&str])]) -> Policy {
    let services: ByName<ServiceId, ServicePolicy> =
        services.iter().map(|(id, sites)| (service(id), service_policy(id, sites))).collect();
    let servers = services.values().flat_map(|service| service.servers.values());
    let container = |server: &ServerPolicy| {
        let policy = ContainerPolicy {
            heal: Some(HealMode::Never),
            on_kill: OnKill::Respect,
            site: Some(server.site),
            grace: Span::seconds(30),
            role: Role::Servers,
        };
        Some((server.container.clone()?, policy))
    };
    Policy {
        containers: servers.filter_map(container).collect(),
        heal: heal_limits(),
        alerts: AlertPolicy::default(),
        services,
        proxies: [proxy()].into(),
        external: Default::default(),
        engines: [engine()].into(),
        startup_grace: Span::seconds(5),
        lateness: Span::seconds(2),
    }
}

/// The defaults of the settings.
pub(crate) fn heal_limits() -> HealLimits {
    HealLimits {
        restarts: 5,
        site_restarts: 20,
        window: Span::seconds(600),
        backoff_first: Span::seconds(1),
        backoff_longest: Span::seconds(60),
        slow_retry: Span::seconds(300),
    }
}

/// `policy`, with every container healed automatically.
pub(crate) fn healing(mut policy: Policy) -> Policy {
    policy.containers.values_mut().for_each(|container| container.heal = None);
    policy
}

/// The world.
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) now: Now,
    pub(crate) routes: BTreeMap<ServiceId, SiteId>,
    pub(crate) worker: ProxyIdentity,
    /// The servers that are out of service in HAProxy.
    pub(crate) out: BTreeMap<ServerId, AdminSeen>,
    commands: u64,
}

impl World {
    /// `api` on onprem and cloud, nothing seen yet.
    pub(crate) fn new() -> World {
        World::with(policy(&[("api", &["onprem", "cloud"])]))
    }

    pub(crate) fn with(policy: Policy) -> World {
        World {
            state: State::new(policy),
            now: Now { boot: Boot(1_000_000), wall: Wall(1_700_000_000_000) },
            routes: BTreeMap::new(),
            worker: ProxyIdentity { pid: 10, started: 5 },
            out: BTreeMap::new(),
            commands: 0,
        }
    }

    /// As [`World::new`], started, HAProxy seen, both servers up, past the start-up grace; onprem serves.
    pub(crate) fn running() -> World {
        let mut world = World::new();
        world.start();
        world
    }

    pub(crate) fn start(&mut self) {
        self.step(Event::Started);
        self.see_proxy();
        for _ in 0..2 {
            self.all_ok();
            self.pass(50);
        }
        self.route_all();
        self.pass(6_000);
        self.see_proxy();
    }

    pub(crate) fn pass(&mut self, milliseconds: u64) {
        self.now.boot = self.now.boot + Span(milliseconds);
        self.now.wall = Wall(self.now.wall.0 + i64::try_from(milliseconds).unwrap());
    }

    /// One event: decided, applied, checked, and compared with its replay from JSON.
    pub(crate) fn step(&mut self, event: Event) -> Decision {
        let decision = decide(&self.state, &event, self.now);
        let before = self.state.clone();
        self.state.apply(&decision.changes);
        let touched = invariants::Before::of(&before, &decision);
        let breaches = invariants::check(&touched, &event, &decision, &self.state, self.now);
        assert_eq!(breaches, [], "after {event:?}");
        assert_eq!(forgotten(&self.state), Vec::<&ContainerRef>::new(), "after {event:?}");

        let event: Event = serde_json::from_str(&serde_json::to_string(&event).unwrap()).unwrap();
        let mut replayed: State = serde_json::from_str(&serde_json::to_string(&before).unwrap()).unwrap();
        replayed.reindex();
        assert_eq!(decide(&replayed, &event, self.now), decision, "replay differs");
        let stored: Decision = serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
        replayed.apply(&stored.changes);
        assert_eq!(replayed, self.state, "the state from the journal differs");
        let mut rebuilt = self.state.clone();
        rebuilt.reindex();
        assert_eq!(rebuilt, self.state, "the index drifted");
        decision
    }

    pub(crate) fn probe(&mut self, id: &str, outcome: ProbeOutcome) -> Decision {
        let started = self.now.boot;
        self.pass(1);
        let ended = self.now.boot;
        self.step(Event::Probed(Probed { server: server(id), due: started, started, ended, outcome }))
    }

    pub(crate) fn live(&mut self, id: &str, outcome: ProbeOutcome) -> Decision {
        let started = self.now.boot;
        self.pass(1);
        let ended = self.now.boot;
        self.step(Event::Lived(Probed { server: server(id), due: started, started, ended, outcome }))
    }

    pub(crate) fn ok(&mut self, id: &str) -> Decision {
        self.probe(id, ProbeOutcome::Healthy { status: 200, took: Span(1) })
    }

    pub(crate) fn fail(&mut self, id: &str, fault: ProbeFault) -> Decision {
        self.probe(id, ProbeOutcome::Failed(fault))
    }

    pub(crate) fn all_ok(&mut self) {
        let services: Vec<_> =
            self.state.services.iter().map(|(id, s)| (*id, s.servers.keys().copied().collect())).collect();
        for (service, servers) in services {
            let servers: Vec<Name> = servers;
            for server in servers {
                self.ok(&format!("{service}/{server}"));
            }
        }
    }

    pub(crate) fn container(&mut self, name: &str, sign: ContainerSign) -> Decision {
        let at = self.now.boot;
        let name = ContainerName(name.into());
        self.step(Event::Container(ContainerEvent {
            engine: engine(),
            name,
            id: "c1".into(),
            at,
            nanoseconds: 0,
            sign,
        }))
    }

    pub(crate) fn see_proxy(&mut self) -> Decision {
        self.see_proxy_with(BTreeMap::new())
    }

    pub(crate) fn see_proxy_with(&mut self, checks: BTreeMap<ServerId, CheckSeen>) -> Decision {
        let seen = ProxySeen {
            proxy: proxy(),
            at: self.now.boot,
            identity: self.worker,
            master: None,
            owner: Some("me".into()),
            ours: true,
            routes: self.routes.clone(),
            checks,
            serving: BTreeMap::new(),
            out: Some(self.out.clone()),
        };
        self.step(Event::Proxy(seen))
    }

    /// The actuator sets what differs, and looks.
    pub(crate) fn administer_all(&mut self) -> Decision {
        for (server, wanted) in self.state.desired(proxy()).servers {
            let shown = self.out.remove(&server).unwrap_or_default();
            let shown = match agreement(wanted.admin, &wanted.ours, shown) {
                Agreement::InForce | Agreement::Held => shown,
                Agreement::Differs => AdminSeen {
                    drain: wanted.admin == Admin::Drain,
                    maint: wanted.admin == Admin::Maint,
                    disabled: false,
                },
            };
            self.out.extend(Some((server, shown)).filter(|(_, shown)| shown.admin() != Admin::Ready));
        }
        self.pass(5);
        self.see_proxy()
    }

    /// The actuator does what is desired, and says so.
    pub(crate) fn route_all(&mut self) -> Decision {
        let desired = self.state.desired(proxy());
        self.routes.extend(desired.routes.iter().map(|(id, route)| (*id, route.site)));
        let generations = desired.routes.iter().map(|(id, route)| (*id, route.generation)).collect();
        self.step(Event::Routed(Routed { proxy: proxy(), generations, took: Span(1) }))
    }

    pub(crate) fn order(&mut self, order: Order) -> Decision {
        self.commands += 1;
        let by = Operator { uid: 1000, pid: Some(1), name: Some("ada".into()) };
        self.step(Event::Commanded(Command { id: CommandId(self.commands), by, because: None, order }))
    }

    pub(crate) fn failover(&mut self, to: &str, force: bool) -> Decision {
        self.order(Order::Failover {
            service: service("api"),
            to: site(to),
            force,
            seen: None,
            lasts: None,
            pin: false,
        })
    }

    pub(crate) fn failback(&mut self) -> Decision {
        self.order(Order::Failback { service: service("api"), seen: None, force: false })
    }

    pub(crate) fn finish(&mut self, action: ActionId, outcome: Outcome) -> Decision {
        let of = super::action::Target::Server(server("api/api-onprem"));
        let finished = super::action::Finished { action, of, outcome };
        self.step(Event::Finished(finished))
    }

    /// Wakes at the next deadline; none if there is none.
    pub(crate) fn wake(&mut self) -> Option<Decision> {
        let at = self.state.next_deadline()?;
        let ahead = at.since(self.now.boot);
        self.pass(ahead.0);
        let decision = self.step(Event::Woke);
        // A deadline that is still due would keep the loop busy for ever.
        let next = self.state.next_deadline();
        assert!(next.is_none_or(|at| at > self.now.boot), "still due: {next:?} at {:?}", self.now.boot);
        Some(decision)
    }

    pub(crate) fn serving(&self) -> Option<String> {
        self.state.services[&service("api")].placement.site().map(|site| site.to_string())
    }
}

/// The codes of what changed; whether an incident began or ended follows from that, and is left to its own tests
/// ([`incident_codes`]).
/// The containers that wait to be woken, and that nothing will wake: what they wait for is over.
pub(crate) fn forgotten(state: &State) -> Vec<&ContainerRef> {
    let waits = |container: &ContainerRef, why: &HealWait| match why {
        HealWait::Paused { scope } => state.pauses.contains_key(scope) && state.holds_back(*scope, container),
        HealWait::Dependency { .. } | HealWait::NetworkGone { .. } => {
            depends::obstacle(state, container).as_ref() == Some(why)
        }
        HealWait::SiteBudget { .. }
        | HealWait::Together { .. }
        | HealWait::Spent
        | HealWait::LastServing
        | HealWait::TrafficLeaves
        | HealWait::BeingEnded => true,
    };
    let woken = state.repairs.iter().filter(|(_, repair)| repair.phase.deadline().is_some());
    let forgotten =
        woken.filter(|(container, repair)| repair.waits.as_ref().is_some_and(|why| !waits(container, why)));
    forgotten.map(|(container, _)| container).collect()
}

pub(crate) fn codes(decision: &Decision) -> Vec<&'static str> {
    let all = decision.reasons.iter().map(super::reason::Reason::code);
    all.filter(|code| !code.starts_with("incident_")).collect()
}

/// Which incidents began or ended.
pub(crate) fn incident_codes(decision: &Decision) -> Vec<(&'static str, &'static str)> {
    let named = |reason: &super::reason::Reason| {
        if let super::reason::Reason::IncidentOpened { trouble, .. } = reason {
            return Some(("opened", trouble.name()));
        }
        if let super::reason::Reason::IncidentEnded { trouble, .. } = reason {
            return Some(("ended", trouble.name()));
        }
        None
    };
    decision.reasons.iter().filter_map(named).collect()
}

pub(crate) fn evacuations(decision: &Decision) -> Vec<Evacuation> {
    let evacuation = |action: &Action| match action {
        Action::Evacuate(evacuation) => Some(*evacuation),
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Heal(_)
        | Action::Mail(_)
        | Action::Answer { .. } => None,
    };
    decision.actions.iter().filter_map(evacuation).collect()
}

pub(crate) fn denial(decision: &Decision) -> Option<Denial> {
    decision.actions.iter().find_map(|action| match action {
        Action::Answer { verdict: Verdict::Denied(denial), .. } => Some(denial.clone()),
        Action::Answer { .. }
        | Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Mail(_) => None,
    })
}

pub(crate) fn accepted(decision: &Decision) -> bool {
    decision
        .actions
        .iter()
        .any(|action| matches!(action, Action::Answer { verdict: Verdict::Accepted { .. }, .. }))
}

/// Compares a machine with its table: every state with every input. The first line of `table` names the states, each other
/// line an input and what follows from it in each state. A cell without an entry fails, and so does an entry too many; what
/// is found is printed as the table that it would be.
pub(crate) fn assert_table(
    table: &str,
    states: &[&str],
    inputs: &[&str],
    after: impl Fn(&str, &str) -> String,
) {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let written: Vec<Vec<String>> = table.lines().map(words).filter(|line| !line.is_empty()).collect();
    let mut found = vec![states.iter().map(|state| (*state).to_owned()).collect::<Vec<_>>()];
    found.extend(inputs.iter().map(|input| {
        let cells = states.iter().map(|state| after(state, input));
        std::iter::once((*input).to_owned()).chain(cells).collect()
    }));
    if written == found {
        return;
    }
    found[0].insert(0, String::new());
    let widths: Vec<usize> = (0..=states.len())
        .map(|column| found.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let line = |cells: &Vec<String>| {
        let padded: String =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$} ")).collect();
        padded.trim_end().to_owned()
    };
    panic!("otherwise than written:\n{}", found.iter().map(line).collect::<Vec<_>>().join("\n"));
}

/// A cell of such a table: the state after it and the codes of what was told; a point where nothing follows.
pub(crate) fn cell<'a>(before: &str, after: &str, codes: impl IntoIterator<Item = &'a str>) -> String {
    let told: String = codes.into_iter().map(|code| format!("+{code}")).collect();
    if before == after && told.is_empty() { ".".to_owned() } else { format!("{after}{told}") }
}
