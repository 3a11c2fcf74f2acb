//! A world of servers that are probed, containers that are started again, and one HAProxy: what the edges do, in virtual time;
//! journalled as the daemon does it.

use crate::daemon::core::{Core, confirmations};
use crate::domain::action::{Action, Finished, Outcome, Pace, Target};
use crate::domain::event::{
    ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, Event, Facts, Past, Probed,
    ProxyIdentity, ProxySeen,
};
use crate::domain::testing::{engine, proxy, server};
use crate::domain::witness::{ProbeFault, ProbeOutcome};
use crate::domain::{Boot, ContainerName, Now, Policy, ServerId, Span, State, Wall};
use crate::store::{Item, Record, SnapshotInfo, StoredRecord, StoredSnapshot};
use std::collections::{BTreeMap, VecDeque};

/// In milliseconds.
pub(super) const SECOND: i64 = 1_000;

/// What a server does when it is asked.
pub(super) mod does {
    use super::*;

    pub(in super::super) fn answers() -> ProbeOutcome {
        ProbeOutcome::Healthy { status: 200, took: Span(3) }
    }

    pub(in super::super) fn hangs() -> ProbeOutcome {
        ProbeOutcome::Failed(ProbeFault::Silent)
    }

    pub(in super::super) fn fails(fault: ProbeFault) -> ProbeOutcome {
        ProbeOutcome::Failed(fault)
    }
}

/// The world, and what was journalled of it.
pub(super) struct Film {
    pub(super) began: Now,
    pub(super) now: Now,
    core: Core,
    items: Vec<Item>,
    agenda: BTreeMap<(Boot, u64), Task>,
    count: u64,
    outcomes: BTreeMap<ServerId, ProbeOutcome>,
    /// The next answer of this server only.
    once: BTreeMap<ServerId, ProbeOutcome>,
    boots: u32,
    /// When something was last decided.
    decided: Now,
}

enum Task {
    Ready(ServerId),
    Live(ServerId),
    Happens(Event),
    /// A container runs again, and its servers answer.
    Runs(ContainerName),
    Looks,
}

impl Film {
    /// Everything is up.
    pub(super) fn new(policy: Policy) -> Film {
        let now = Now { boot: Boot(1_000_000), wall: Wall(1_787_300_000_000) };
        let mut film = Film {
            began: now,
            now,
            core: Core::new(State::new(policy), 1),
            items: Vec::new(),
            agenda: BTreeMap::new(),
            count: 0,
            outcomes: BTreeMap::new(),
            once: BTreeMap::new(),
            boots: 1,
            decided: now,
        };
        film.begins();
        film
    }

    pub(super) fn items(&self) -> Vec<Item> {
        self.items.clone()
    }

    pub(super) fn records(&self) -> u64 {
        self.items.iter().filter(|item| matches!(item, Item::Record(_))).count() as u64
    }

    /// From now on, this server does this.
    pub(super) fn does(&mut self, id: &str, outcome: ProbeOutcome) {
        self.outcomes.insert(server(id), outcome);
    }

    /// The next answer of a server gets lost; it is asked now.
    pub(super) fn loses_one(&mut self, id: &str, fault: ProbeFault) {
        self.once.insert(server(id), ProbeOutcome::Failed(fault));
        self.ready(server(id), false);
    }

    /// A container's process ends by itself.
    pub(super) fn crashes(&mut self, name: &str) {
        for id in self.servers_in(name) {
            self.outcomes.insert(id, ProbeOutcome::Failed(ProbeFault::Refused));
        }
        self.sign(name, ContainerSign::Died { exit: Some(1) });
    }

    /// The loop stores its state whole.
    pub(super) fn checkpoint(&mut self) {
        let mut state = self.core.state().clone();
        let policy = serde_json::to_string(&std::mem::take(&mut state.policy)).unwrap();
        let info = SnapshotInfo {
            seq: self.core.last_seq(),
            at: self.now,
            boot_id: format!("boot-{}", self.boots),
            binary_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let state = serde_json::to_string(&state).unwrap();
        self.items.push(Item::Snapshot(Box::new(StoredSnapshot { info, policy, state })));
    }

    /// The machine is started anew.
    pub(super) fn restarts(&mut self) {
        self.agenda.clear();
        self.boots += 1;
        self.now = Now { boot: Boot(20_000), wall: Wall(self.now.wall.0 + 30_000) };
        let mut state = self.core.state().clone();
        // As the store has it: what had 40 s left when something was last decided has 40 s left.
        state.shift_clock(self.decided, self.now);
        self.core = Core::new(state, self.core.last_seq() + 1);
        self.begins();
    }

    /// Time passes.
    pub(super) fn runs(&mut self, seconds: i64) {
        let until = self.now.boot + Span::seconds(u64::try_from(seconds).unwrap());
        loop {
            let deadline = self.core.state().next_deadline();
            let task = self.agenda.first_key_value().map(|((at, _), _)| *at);
            // The loop wakes a moment after its deadline.
            let woken = deadline.map(|at| at + Span(1));
            match (woken, task) {
                (Some(at), task) if at <= until && task.is_none_or(|task| at <= task) => {
                    self.passes(at);
                    self.step(Event::Woke);
                }
                (_, Some(at)) if at <= until => {
                    self.passes(at);
                    if let Some((_, task)) = self.agenda.pop_first() {
                        self.happens(task);
                    }
                }
                _ => break,
            }
        }
        self.passes(until);
    }

    fn begins(&mut self) {
        self.checkpoint();
        self.step(Event::Started);
        self.lists();
        self.looks();
        let servers: Vec<ServerId> = self.servers();
        for (index, id) in servers.into_iter().enumerate() {
            self.outcomes.entry(id).or_insert_with(does::answers);
            self.plan(Span(100 + 50 * index as u64), Task::Ready(id));
            self.plan(Span(120 + 50 * index as u64), Task::Live(id));
        }
        self.plan(Span::seconds(1), Task::Looks);
    }

    fn passes(&mut self, to: Boot) {
        let to = to.max(self.now.boot);
        self.now = Now { boot: to, wall: self.now.wall_at(to) };
    }

    fn plan(&mut self, after: Span, task: Task) {
        self.count += 1;
        self.agenda.insert((self.now.boot + after, self.count), task);
    }

    fn happens(&mut self, task: Task) {
        match task {
            Task::Ready(id) => self.ready(id, true),
            Task::Live(id) => {
                self.plan(Span::seconds(10), Task::Live(id));
                let outcome = match self.outcomes[&id] {
                    ProbeOutcome::Failed(ProbeFault::Refused) => ProbeOutcome::Failed(ProbeFault::Refused),
                    _ => ProbeOutcome::Connected { took: Span(1) },
                };
                self.step(Event::Lived(self.probed(id, outcome)));
            }
            Task::Happens(event) => self.step(event),
            Task::Runs(name) => {
                self.sign(&name.0, ContainerSign::Started);
                for id in self.servers_in(&name.0) {
                    self.outcomes.insert(id, does::answers());
                }
            }
            Task::Looks => {
                self.plan(Span::seconds(1), Task::Looks);
                self.looks();
            }
        }
    }

    fn ready(&mut self, id: ServerId, again: bool) {
        let outcome = self.once.remove(&id).unwrap_or(self.outcomes[&id]);
        self.step(Event::Probed(self.probed(id, outcome)));
        let pace = self.core.state().pace(id);
        let after = if pace == Pace::Fast { Span(250) } else { Span::seconds(1) };
        if again || pace == Pace::Fast {
            self.agenda.retain(|_, task| !matches!(task, Task::Ready(other) if *other == id));
            self.plan(after, Task::Ready(id));
        }
    }

    fn probed(&self, id: ServerId, outcome: ProbeOutcome) -> Probed {
        let at = self.now.boot;
        Probed { server: id, due: at, started: at, ended: at, outcome }
    }

    fn servers(&self) -> Vec<ServerId> {
        let services = &self.core.state().policy.services;
        let of = |(id, service): (&crate::domain::ServiceId, &crate::domain::policy::ServicePolicy)| {
            let id = *id;
            service
                .servers
                .keys()
                .map(move |name| ServerId { service: id, server: *name })
                .collect::<Vec<_>>()
        };
        services.iter().flat_map(of).collect()
    }

    fn servers_in(&self, name: &str) -> Vec<ServerId> {
        let inside = |id: &ServerId| {
            let policy = self.core.state().policy.server(*id);
            policy
                .and_then(|server| server.container.as_ref())
                .is_some_and(|container| container.name.0 == name)
        };
        self.servers().into_iter().filter(inside).collect()
    }

    fn sign(&mut self, name: &str, sign: ContainerSign) {
        self.step(Event::Container(ContainerEvent {
            engine: engine(),
            name: ContainerName(name.to_owned()),
            id: format!("{name}-1"),
            at: self.now.boot,
            nanoseconds: self.now.wall.0 * 1_000_000,
            sign,
        }));
    }

    fn lists(&mut self) {
        let containers = self.core.state().policy.containers.keys().map(|container| {
            let id = format!("{}-1", container.name);
            let seen = ContainerSeen { id, status: ContainerStatus::Running, facts: Facts::default() };
            (container.name.clone(), seen)
        });
        let containers = containers.collect();
        let (engine, at, past) = (engine(), self.now.boot, Past::default());
        self.step(Event::Containers(ContainerList { engine, at, containers, past }));
    }

    fn looks(&mut self) {
        let desired = self.core.state().desired(proxy());
        self.step(Event::Proxy(ProxySeen {
            proxy: proxy(),
            at: self.now.boot,
            identity: ProxyIdentity { pid: 77, started: 5 },
            owner: None,
            ours: true,
            routes: desired.routes.into_iter().map(|(id, route)| (id, route.site)).collect(),
            checks: BTreeMap::new(),
            serving: BTreeMap::new(),
            out: Some(BTreeMap::new()),
            master: None,
        }));
    }

    /// An event, and what the edges do about the decision.
    fn step(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Ok(step) = self.core.step(event, self.now) else { continue };
            assert_eq!(step.breaches, []);
            self.decided = self.now;
            self.items.push(item(&step.record));
            let decision = &step.record.decision;
            for event in confirmations(self.core.state(), decision) {
                self.plan(Span(5), Task::Happens(event));
            }
            for action in &decision.actions {
                match action {
                    Action::Evacuate(evacuation) => {
                        let of = Target::Server(evacuation.server);
                        let (action, outcome) = (evacuation.id, Outcome::Done);
                        self.plan(Span(8), Task::Happens(Event::Finished(Finished { action, of, outcome })));
                    }
                    Action::Heal(heal) => {
                        let of = Target::Container { container: heal.container.clone(), deed: heal.deed };
                        let (action, outcome) = (heal.id, Outcome::Done);
                        self.plan(Span(400), Task::Runs(heal.container.name.clone()));
                        self.plan(
                            Span(410),
                            Task::Happens(Event::Finished(Finished { action, of, outcome })),
                        );
                    }
                    Action::Pace { server, pace: Pace::Fast } => {
                        let asked = self.agenda.iter().find_map(|(key, task)| match task {
                            Task::Ready(other) if other == server => Some(*key),
                            _ => None,
                        });
                        if let Some(key) = asked.filter(|(at, _)| at.since(self.now.boot) > Span(250)) {
                            self.agenda.remove(&key);
                            self.plan(Span(250), Task::Ready(*server));
                        }
                    }
                    Action::Route { .. } | Action::Pace { .. } | Action::Mail(_) | Action::Answer { .. } => {}
                }
            }
        }
    }
}

fn item(record: &Record) -> Item {
    fn json(value: &impl serde::Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }
    Item::Record(Box::new(StoredRecord {
        seq: record.seq,
        now: record.now,
        event: json(&record.event),
        changes: json(&record.decision.changes),
        actions: json(&record.decision.actions),
        reasons: json(&record.decision.reasons),
    }))
}
