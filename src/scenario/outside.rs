//! The world outside supervisor, as far as a script needs it to be told from line to line: containers and what their
//! engines remember of them, HAProxy's maps, Alertmanagers' silences.

use super::docker::{Fact, FactWords, Found};
use super::proxy::{Check, Look, Owner};
use crate::domain::Now;
use crate::domain::event::{
    BorrowedNetwork, CheckSeen, ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus,
    DockersCheck, Facts, LastSigns, Lender, Past, ProxyIdentity, ProxySeen,
};
use crate::domain::id::{ContainerName, EngineId, PeerId, ProxyId, ServiceId, SiteId};
use crate::domain::maintenance::{Admin, AdminSeen};
use crate::domain::policy::ContainerRef;
use crate::domain::silence::Silence;
use crate::domain::state::State;
use crate::domain::time::Boot;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

/// So many events an engine remembers, of all its containers. (moby, `daemon/events`: `eventsLimit`)
const REMEMBERED: usize = 256;

/// When all that runs at a script's beginning was started.
const LONG_AGO: i64 = 1;

/// Everything outside.
#[derive(Debug, Default)]
pub(super) struct Outside {
    containers: BTreeMap<ContainerRef, Container>,
    engines: BTreeMap<EngineId, Engine>,
    proxies: BTreeMap<ProxyId, Proxy>,
    silences: BTreeMap<PeerId, Vec<Silence>>,
}

#[derive(Debug, Clone)]
struct Container {
    /// How many of this name there were.
    number: u32,
    /// None: it does not exist.
    status: Option<ContainerStatus>,
    /// A process in it was killed for want of memory since it was started.
    oom: bool,
    facts: Facts,
    /// The container whose network it uses, and how many of that name there had been when it was created.
    network_of: Option<(ContainerName, u32)>,
}

impl Default for Container {
    fn default() -> Container {
        Container {
            number: 1,
            status: Some(ContainerStatus::Running),
            oom: false,
            facts: Facts { started: Some(LONG_AGO), ..Facts::default() },
            network_of: None,
        }
    }
}

impl Container {
    fn id(&self) -> String {
        format!("c{}", self.number)
    }

    fn create(&mut self) {
        self.number = self.number.saturating_add(1);
        self.oom = false;
        self.facts.restarts = 0;
    }

    fn happens(&mut self, sign: ContainerSign) {
        match sign {
            ContainerSign::Started => {
                if self.status.is_none() {
                    self.create();
                }
                (self.status, self.oom) = (Some(ContainerStatus::Running), false);
                self.facts.check = self.facts.check.map(|_| DockersCheck::Starting);
            }
            ContainerSign::Died { exit } => {
                self.status = Some(ContainerStatus::Exited { exit, oom: self.oom });
            }
            ContainerSign::OutOfMemory => self.oom = true,
            ContainerSign::Paused => self.status = Some(ContainerStatus::Paused),
            ContainerSign::Unpaused => self.status = Some(ContainerStatus::Running),
            ContainerSign::Destroyed => self.status = None,
            ContainerSign::Checked(check) => self.facts.check = Some(check),
            ContainerSign::Killed { .. } | ContainerSign::Stopped => {}
        }
    }
}

#[derive(Debug, Default)]
struct Engine {
    /// What it remembers, oldest first.
    events: VecDeque<ContainerEvent>,
    reaches: Option<Boot>,
    /// It was started anew, or has forgotten much: what was before the script is not in there.
    has_forgotten: bool,
    live_restore: bool,
    /// When each container was given its first signal, and what was announced last: as supervisor's own watcher keeps it.
    signalled: BTreeMap<(ContainerName, String), Boot>,
    last: LastSigns,
}

impl Engine {
    fn remember(&mut self, event: ContainerEvent) {
        self.events.push_back(event);
        while self.events.len() > REMEMBERED {
            self.events.pop_front();
            self.reaches = self.events.front().map(|oldest| oldest.at);
        }
    }

    fn announce(&mut self, event: &ContainerEvent) {
        let key = (event.name.clone(), event.id.clone());
        match event.sign {
            ContainerSign::Killed { .. } => {
                self.signalled.entry(key).or_insert(event.at);
            }
            ContainerSign::Died { .. } => {
                self.last.signalled = self.last.signalled.max(self.signalled.remove(&key));
                self.last.ended = Some(event.at);
            }
            ContainerSign::Stopped => self.last.ended = Some(event.at),
            ContainerSign::Started | ContainerSign::Destroyed => {
                self.signalled.remove(&key);
            }
            ContainerSign::OutOfMemory
            | ContainerSign::Paused
            | ContainerSign::Unpaused
            | ContainerSign::Checked(_) => {}
        }
    }

    /// Each container's last start and what came after it.
    fn past(&self) -> Past {
        let mut chapters: BTreeMap<&ContainerName, Vec<&ContainerEvent>> = BTreeMap::new();
        for event in &self.events {
            let chapter = chapters.entry(&event.name).or_default();
            if event.sign == ContainerSign::Started {
                chapter.clear();
            }
            chapter.push(event);
        }
        let mut events: Vec<ContainerEvent> = chapters.into_values().flatten().cloned().collect();
        events.sort_by_key(|event| event.nanoseconds);
        Past { events, reaches: self.reaches, live_restore: self.live_restore }
    }
}

#[derive(Debug)]
struct Proxy {
    worker: ProxyIdentity,
    owner: Owner,
    routes: BTreeMap<ServiceId, SiteId>,
}

impl Default for Proxy {
    fn default() -> Proxy {
        let worker = ProxyIdentity { pid: 10, started: 1 };
        Proxy { worker, owner: Owner::Us, routes: BTreeMap::new() }
    }
}

/// By the clock of the engines, which is ours.
fn nanoseconds(now: Now) -> i64 {
    now.wall.0.saturating_mul(1_000_000)
}

impl Outside {
    /// A container of the cast. It was started long before the script, and its engine remembers that.
    fn container(&mut self, container: &ContainerRef) -> &mut Container {
        match self.containers.entry(container.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let known = new.insert(Container::default());
                let engine = self.engines.entry(container.engine).or_default();
                if !engine.has_forgotten {
                    engine.events.push_front(ContainerEvent {
                        engine: container.engine,
                        name: container.name.clone(),
                        id: known.id(),
                        at: Boot(0),
                        nanoseconds: LONG_AGO,
                        sign: ContainerSign::Started,
                    });
                }
                known
            }
        }
    }

    pub(super) fn learn(&mut self, container: &ContainerRef, facts: &FactWords) {
        let known = self.container(container);
        known.facts = facts.iter().fold(known.facts.clone(), |facts, word| word.changed(facts));
        for fact in facts {
            if let Fact::NetworkOf(of) = fact {
                self.container(container).network_of = of.clone().map(|of| (of, 0));
                self.join(container);
            }
        }
    }

    /// A container that was created uses the network of the one that has the name now.
    fn join(&mut self, container: &ContainerRef) {
        let Some((of, _)) = self.container(container).network_of.clone() else { return };
        let lender = ContainerRef { engine: container.engine, name: of.clone() };
        let number = self.container(&lender).number;
        self.container(container).network_of = Some((of, number));
    }

    /// The network that a container uses of another one, as `inspect` finds both.
    fn borrowed(&self, engine: EngineId, of: &ContainerName, number: u32) -> BorrowedNetwork {
        let lender = self.containers.get(&ContainerRef { engine, name: of.clone() });
        let there = lender.filter(|lender| lender.number == number && lender.status.is_some());
        BorrowedNetwork {
            of: format!("c{number}"),
            name: there.map(|_| of.clone()),
            lender: there.map_or(Lender::Gone, |lender| Lender::There {
                runs: matches!(lender.status, Some(ContainerStatus::Running | ContainerStatus::Paused)),
                started: lender.facts.started,
            }),
        }
    }

    /// Something happens to a container. Where nobody hears it, its engine remembers it.
    pub(super) fn happens(
        &mut self,
        container: &ContainerRef,
        sign: ContainerSign,
        heard: bool,
        now: Now,
    ) -> ContainerEvent {
        let known = self.container(container);
        let number = known.number;
        known.happens(sign);
        let (id, anew) = (known.id(), known.number != number);
        if anew {
            self.join(container);
        }
        let engine = self.engines.entry(container.engine).or_default();
        // No two events of an engine have the same time.
        let after = engine.events.back().map_or(0, |last| last.nanoseconds.saturating_add(1));
        let event = ContainerEvent {
            engine: container.engine,
            name: container.name.clone(),
            id,
            at: now.boot,
            nanoseconds: nanoseconds(now).max(after),
            sign,
        };
        engine.remember(event.clone());
        if heard {
            engine.announce(&event);
        }
        if sign == ContainerSign::Started {
            self.container(container).facts.started = Some(event.nanoseconds);
        }
        event
    }

    pub(super) fn forget(&mut self, engine: EngineId, until: Option<Boot>) {
        let known = self.engines.entry(engine).or_default();
        match until {
            Some(until) => known.events.retain(|event| event.at >= until),
            None => known.events.clear(),
        }
        (known.reaches, known.has_forgotten) = (until, true);
    }

    pub(super) fn outlive(&mut self, engine: EngineId) {
        self.engines.entry(engine).or_default().live_restore = true;
    }

    /// The engine's list of what `state` watches. To who was away it also tells what it remembers.
    pub(super) fn list(
        &mut self,
        engine: EngineId,
        found: &[(ContainerRef, Found)],
        state: &State,
        now: Now,
    ) -> ContainerList {
        for (container, Found { status, anew }) in found {
            let known = self.container(container);
            let created = *anew || (known.status.is_none() && status.is_some());
            if created {
                known.create();
            }
            let runs = |status: Option<ContainerStatus>| {
                matches!(status, Some(ContainerStatus::Running | ContainerStatus::Paused))
            };
            if runs(*status) && (created || !runs(known.status)) {
                known.facts.started = Some(nanoseconds(now));
            }
            known.status = *status;
            if created {
                self.join(container);
            }
        }
        let mut containers = BTreeMap::new();
        for container in state.containers_of(engine) {
            let known = self.container(container);
            let Some(status) = known.status else { continue };
            let (id, network_of) = (known.id(), known.network_of.clone());
            let facts = if known.facts.guessed { Facts::guessed() } else { known.facts.clone() };
            let network = network_of.filter(|_| !facts.guessed);
            let network = network.map(|(of, number)| self.borrowed(engine, &of, number));
            let facts = Facts { network, ..facts };
            containers.insert(container.name.clone(), ContainerSeen { id, status, facts });
        }
        let away = state.engines.get(&engine).is_none_or(|known| known.found != Some(true));
        let known = self.engines.entry(engine).or_default();
        if away {
            (known.signalled, known.last) = (BTreeMap::new(), LastSigns::default());
        }
        let past = if away { known.past() } else { Past::default() };
        ContainerList { engine, at: now.boot, containers, past }
    }

    pub(super) fn last_signs(&self, engine: EngineId) -> LastSigns {
        self.engines.get(&engine).map(|known| known.last).unwrap_or_default()
    }

    /// One look at an HAProxy, by another process of it if it is `anew`.
    pub(super) fn look(
        &mut self,
        proxy: ProxyId,
        look: &Look,
        anew: bool,
        state: &State,
        now: Now,
    ) -> ProxySeen {
        let known = self.proxies.entry(proxy).or_default();
        if anew {
            known.worker.pid = known.worker.pid.saturating_add(1);
        }
        for (service, site) in &look.routes {
            match site {
                Some(site) => known.routes.insert(*service, *site),
                None => known.routes.remove(service),
            };
        }
        if let Some(owner) = &look.owner {
            known.owner = owner.clone();
        }
        let age = |service| state.policy.services.get(&service).map(|policy| policy.check_age);
        let check = |said: Check, service| CheckSeen {
            layer7_ok: said == Check::Layer7,
            usable: said != Check::Down,
            age_at_most: age(service).unwrap_or_default(),
        };
        let (owner, ours) = match &known.owner {
            Owner::Us => (Some("us".to_owned()), true),
            Owner::Nobody => (None, false),
            Owner::Other(other) => (Some(other.clone()), false),
        };
        // What is wanted of servers is done by the next look; a new process has forgotten it.
        let wanted = state.desired(proxy).servers.into_iter().filter(|_| !anew);
        let shown =
            |admin| AdminSeen { drain: admin == Admin::Drain, maint: admin == Admin::Maint, disabled: false };
        let out = wanted.filter(|(_, server)| server.admin != Admin::Ready);
        ProxySeen {
            out: Some(out.map(|(id, server)| (id, shown(server.admin))).collect()),
            proxy,
            at: now.boot,
            identity: known.worker,
            master: None,
            owner,
            ours,
            routes: known.routes.clone(),
            checks: look.checks.iter().map(|(id, said)| (*id, check(*said, id.service))).collect(),
            serving: look.serving.iter().copied().collect(),
        }
    }

    /// HAProxy has a route from now on.
    pub(super) fn route(&mut self, proxy: ProxyId, service: ServiceId, site: SiteId) {
        self.proxies.entry(proxy).or_default().routes.insert(service, site);
    }

    pub(super) fn silence(&mut self, peer: PeerId, silence: Silence) {
        self.silences.entry(peer).or_default().push(silence);
    }

    /// An Alertmanager's silences that are not over.
    pub(super) fn silences(&self, peer: PeerId, now: Now) -> Vec<Silence> {
        let all = self.silences.get(&peer).into_iter().flatten();
        all.filter(|silence| silence.ends > now.wall).cloned().collect()
    }
}
