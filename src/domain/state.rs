//! Everything supervisor knows, and the one way it changes.
//!
//! The state is plain data: it is stored as a snapshot plus the changes since. The [`Index`] beside it is derived, is not
//! stored, and keeps the cost of an event independent of the number of services.

use super::action::{ActionId, Desired, DesiredRoute, Pace};
use super::change::Change;
use super::command::{Operator, Pause, Scope};
use super::delivery::{MAILS_MAX, Peer};
use super::event::{ConfigSeen, ContainerSeen, ContainerStatus, ProxyIdentity, StoreHealth};
use super::failover::Override;
use super::health::Health;
use super::id::{ContainerName, EngineId, Name, PeerId, ProxyId, ServerId, ServiceId, SiteId};
use super::incident::{Incident, IncidentId, Trouble};
use super::policy::{ContainerRef, Policy, ServicePolicy};
use super::repair::{Phase, Repair};
use super::time::{Boot, Now, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The state of the world as supervisor knows it.
///
/// Invariant: `services`, `proxies` and `engines` have exactly the keys that `policy` names, and each service exactly its
/// servers ([`State::apply`] of [`Change::Policy`] sees to it).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct State {
    /// What the operator wants.
    pub policy: Policy,
    /// The services.
    pub services: BTreeMap<ServiceId, Service>,
    /// The HAProxy instances.
    pub proxies: BTreeMap<ProxyId, Proxy>,
    /// The Docker engines.
    pub engines: BTreeMap<EngineId, Engine>,
    /// How the healing of each container of the policy stands.
    #[serde(default)]
    pub repairs: BTreeMap<ContainerRef, Repair>,
    /// What people have paused.
    #[serde(default)]
    pub pauses: BTreeMap<Scope, Pause>,
    /// What is wrong, and what was until it is told.
    #[serde(default)]
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// The Alertmanagers.
    #[serde(default)]
    pub peers: BTreeMap<PeerId, Peer>,
    /// When mails were decided lately, oldest first; at most [`MAILS_MAX`].
    #[serde(default)]
    pub mails: Vec<Boot>,
    /// When this process began to watch.
    pub began: Boot,
    /// Every server of every site fails on the way: nothing is concluded from that.
    pub cut_off: bool,
    /// Whether decisions reach the disk in time.
    pub store: StoreHealth,
    /// The number of the next guarded action.
    pub next_action: u64,
    #[serde(skip)]
    index: Index,
}

/// Derived from the rest of the state; rebuilt by [`State::reindex`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Index {
    /// Every `Service::wake`, soonest first.
    wakes: BTreeSet<(Boot, ServiceId)>,
    /// Every deadline of a repair, soonest first.
    repairs: BTreeSet<(Boot, ContainerRef)>,
    /// The incident of each trouble; the last one, if it is over.
    incidents: BTreeMap<Trouble, IncidentId>,
    /// Every `Incident::wake`, soonest first.
    incident_wakes: BTreeSet<(Boot, IncidentId)>,
    /// Which servers run in a container.
    containers: BTreeMap<ContainerRef, Vec<ServerId>>,
    /// How many servers are not down and have a run of path errors.
    path_runs: u32,
    /// How many servers are not down.
    not_down: u32,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Where its traffic goes.
    pub placement: Placement,
    /// Its servers.
    pub servers: BTreeMap<Name, Server>,
    /// A person's preference.
    pub preference: Option<Override>,
    /// A pause is about it: nothing moves by itself. Derived from [`State::pauses`].
    #[serde(default)]
    pub paused: bool,
    /// The last automatic failover: the hold-down runs from here.
    pub last_failover: Option<Boot>,
    /// The automatic failbacks that may still count towards the limit; as many as the limit at most, oldest first.
    pub failbacks: Vec<Boot>,
    /// Grows with each change of the route; the last one given out.
    pub generation: u64,
    /// When time alone may change the plan.
    pub wake: Option<Boot>,
    /// The HAProxy instances that answer from another site than the route's, and from which: their own safety net at work.
    #[serde(default)]
    pub served_from: BTreeMap<ProxyId, SiteId>,
}

/// One server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Server {
    /// The verdict.
    pub health: Health,
    /// The verdict of its `live` probes: whether its process does anything at all.
    #[serde(default)]
    pub life: Health,
    /// Since then we want to know whether we still reach it, because another server of the service fails on the way.
    #[serde(default)]
    pub asked: Option<Boot>,
    /// Grows with each change of the verdict: names the verdict that a guarded action was decided on.
    pub epoch: u64,
}

/// Where a service's traffic goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Not yet known: HAProxy's live map becomes the placement when it is seen. Nothing is touched until then.
    Unmanaged {
        /// Where it went when the state was stored, if it was.
        last: Option<Route>,
    },
    /// There.
    On(Route),
}

/// A decided route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The site that serves.
    pub site: SiteId,
    /// Grows with each change.
    pub generation: u64,
    /// Since when.
    pub since: Boot,
    /// Since when, for people.
    pub since_wall: Wall,
    /// The person who ordered it, if one did.
    pub by: Option<Operator>,
    /// The HAProxy instances that have not confirmed it.
    pub pending: BTreeMap<ProxyId, Pending>,
}

/// A route that an HAProxy has not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Since then.
    pub since: Boot,
    /// It should have been long ago; that was told.
    pub late: bool,
}

/// One HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Proxy {
    /// How it is reached.
    pub link: ProxyLink,
    /// How its configuration stands against the settings.
    pub config: ConfigSeen,
    /// The worker that answered last: another one has lost what was set at run time.
    pub identity: Option<ProxyIdentity>,
}

/// How an HAProxy is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyLink {
    /// Not looked at since the start.
    #[default]
    Unseen,
    /// It answers, and is ours to drive.
    Ours,
    /// It answers, and another supervisor owns it.
    Foreign {
        /// That one's id.
        owner: String,
    },
    /// Its sockets do not answer.
    Lost {
        /// Since then.
        since: Boot,
    },
}

/// One Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Engine {
    /// Whether it answers; none: not tried since the start.
    pub found: Option<bool>,
    /// The watched containers that it has.
    pub containers: BTreeMap<ContainerName, ContainerSeen>,
}

impl Default for Placement {
    fn default() -> Placement {
        Placement::Unmanaged { last: None }
    }
}

impl Route {
    /// The HAProxy instances that should have confirmed it long ago.
    pub fn late(&self) -> impl Iterator<Item = ProxyId> {
        self.pending.iter().filter(|(_, pending)| pending.late).map(|(proxy, _)| *proxy)
    }
}

impl Placement {
    /// The site that serves, if it is known.
    pub fn site(&self) -> Option<SiteId> {
        match self {
            Placement::On(route) => Some(route.site),
            Placement::Unmanaged { .. } => None,
        }
    }

    /// The route, if there is one.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Placement::On(route) => Some(route),
            Placement::Unmanaged { .. } => None,
        }
    }
}

impl State {
    /// A state that knows the policy and nothing else.
    pub fn new(policy: Policy) -> State {
        let mut state = State::default();
        state.apply(&[Change::Policy(Box::new(policy))]);
        state
    }

    /// Makes the changes of a decision. The only way the state changes.
    pub fn apply(&mut self, changes: &[Change]) {
        for change in changes {
            self.apply_one(change);
        }
    }

    fn apply_one(&mut self, change: &Change) {
        if let Some(id) = change.service() {
            // A change for a service that is gone was decided before the policy changed: it has nothing to change.
            let Some(service) = self.services.get_mut(&id) else { return };
            self.index.forget(id, service, change);
            service.apply(change);
            self.index.learn(id, service, change);
            return;
        }
        match change {
            Change::Began { at } => self.began = *at,
            Change::Proxy { proxy, link } => {
                if let Some(known) = self.proxies.get_mut(proxy) {
                    known.link = link.clone();
                }
            }
            Change::ProxyConfig { proxy, config } => {
                if let Some(known) = self.proxies.get_mut(proxy) {
                    known.config = config.clone();
                }
            }
            Change::ProxyIdentity { proxy, identity } => {
                if let Some(known) = self.proxies.get_mut(proxy) {
                    known.identity = Some(*identity);
                }
            }
            Change::Engine { engine, found } => {
                if let Some(known) = self.engines.get_mut(engine) {
                    known.found = *found;
                }
            }
            Change::Container { engine, name, seen } => {
                if let Some(known) = self.engines.get_mut(engine) {
                    match seen {
                        Some(seen) => known.containers.insert(name.clone(), seen.clone()),
                        None => known.containers.remove(name),
                    };
                }
            }
            Change::Repair { container, repair } => {
                if let Some(known) = self.repairs.get_mut(container) {
                    let deadline = |repair: &Repair| Some((repair.phase.deadline()?, container.clone()));
                    if let Some(before) = deadline(known) {
                        self.index.repairs.remove(&before);
                    }
                    self.index.repairs.extend(deadline(repair));
                    known.clone_from(repair);
                }
            }
            Change::Pause { scope, pause } => {
                match pause {
                    Some(pause) => self.pauses.insert(*scope, pause.clone()),
                    None => self.pauses.remove(scope),
                };
                self.derive_paused();
            }
            Change::Incident { id, incident } => self.set_incident(*id, incident.as_deref()),
            Change::Peer { peer, seen } => {
                if let Some(known) = self.peers.get_mut(peer) {
                    known.clone_from(seen);
                }
            }
            Change::MailCounted { at } => {
                if self.mails.len() >= MAILS_MAX {
                    self.mails.remove(0);
                }
                self.mails.push(*at);
            }
            Change::CutOff(cut_off) => self.cut_off = *cut_off,
            Change::Policy(policy) => self.adopt_policy(policy),
            Change::Store(health) => self.store = *health,
            Change::Issued { next } => self.next_action = *next,
            // Handled above: `Change::service` names their service.
            Change::Health { .. }
            | Change::Life { .. }
            | Change::Asked { .. }
            | Change::Placed { .. }
            | Change::Confirmed { .. }
            | Change::Pending { .. }
            | Change::FailedOver { .. }
            | Change::FailedBack { .. }
            | Change::Preference { .. }
            | Change::Wake { .. }
            | Change::ServedFrom { .. } => {}
        }
    }

    /// Which services a pause is about.
    fn derive_paused(&mut self) {
        let pauses = &self.pauses;
        for (id, service) in &mut self.services {
            // A site's pause keeps traffic where it is: away from it and to it.
            let site = |scope: &Scope| match scope {
                Scope::All => true,
                Scope::Service(paused) => paused == id,
                Scope::Site(site) => {
                    self.policy.services.get(id).is_some_and(|policy| policy.has_site(*site))
                }
            };
            service.paused = pauses.keys().any(site);
        }
    }

    /// Whether the server's process runs, as far as Docker tells.
    pub fn runs(&self, server: ServerId) -> bool {
        let container = self.policy.server(server).and_then(|wanted| wanted.container.as_ref());
        let seen = container.and_then(|container| {
            let engine = self.engines.get(&container.engine)?;
            engine.containers.get(&container.name).filter(|_| engine.found == Some(true))
        });
        seen.is_none_or(|seen| seen.status == ContainerStatus::Running)
    }

    /// The pause that keeps a container from being healed, if one does.
    pub fn pause_of(&self, container: &ContainerRef) -> Option<Scope> {
        let site = self.policy.containers.get(container).and_then(|policy| policy.site);
        let about = |scope: &&Scope| match scope {
            Scope::All => true,
            Scope::Service(service) => {
                self.servers_in(container).iter().any(|server| server.service == *service)
            }
            Scope::Site(paused) => site == Some(*paused),
        };
        self.pauses.keys().find(about).copied()
    }

    fn set_incident(&mut self, id: IncidentId, incident: Option<&Incident>) {
        if let Some(before) = self.incidents.remove(&id) {
            if let Some(at) = before.wake {
                self.index.incident_wakes.remove(&(at, id));
            }
            if self.index.incidents.get(&before.trouble) == Some(&id) {
                self.index.incidents.remove(&before.trouble);
            }
        }
        if let Some(incident) = incident {
            self.index.incident_wakes.extend(incident.wake.map(|at| (at, id)));
            self.index.incidents.insert(incident.trouble.clone(), id);
            self.incidents.insert(id, incident.clone());
        }
    }

    /// Names that stay keep what is known about them; names that are gone take it with them.
    fn adopt_policy(&mut self, policy: &Policy) {
        self.policy = policy.clone();
        let mut old = std::mem::take(&mut self.services);
        for (id, wanted) in &policy.services {
            let mut service = old.remove(id).unwrap_or_default();
            let mut servers = std::mem::take(&mut service.servers);
            service.servers =
                wanted.servers.keys().map(|name| (*name, servers.remove(name).unwrap_or_default())).collect();
            service.preference = service.preference.filter(|over| wanted.has_site(over.site));
            if let Placement::On(route) = &mut service.placement {
                route.pending.retain(|proxy, _| wanted.proxies.contains(proxy));
            }
            service.served_from.retain(|proxy, _| wanted.proxies.contains(proxy));
            self.services.insert(*id, service);
        }
        let mut proxies = std::mem::take(&mut self.proxies);
        self.proxies =
            policy.proxies.iter().map(|id| (*id, proxies.remove(id).unwrap_or_default())).collect();
        let mut engines = std::mem::take(&mut self.engines);
        self.engines =
            policy.engines.iter().map(|id| (*id, engines.remove(id).unwrap_or_default())).collect();
        let gone = |scope: &Scope| match scope {
            Scope::All => false,
            Scope::Service(service) => !policy.services.contains_key(service),
            Scope::Site(site) => !policy.services.values().any(|service| service.has_site(*site)),
        };
        self.pauses.retain(|scope, _| !gone(scope));
        self.derive_paused();
        let mut peers = std::mem::take(&mut self.peers);
        self.peers =
            policy.alerts.peers.iter().map(|id| (*id, peers.remove(id).unwrap_or_default())).collect();
        let mut repairs = std::mem::take(&mut self.repairs);
        let kept = policy.containers.keys();
        self.repairs = kept
            .map(|container| (container.clone(), repairs.remove(container).unwrap_or_default()))
            .collect();
        self.reindex();
    }

    /// Rebuilds what is derived: after a snapshot was read, and after a change of policy.
    pub fn reindex(&mut self) {
        let mut index = Index::default();
        for (id, service) in &self.services {
            index.wakes.extend(service.wake.map(|at| (at, *id)));
            for server in service.servers.values() {
                index.count(server.health, 1);
            }
        }
        for (id, incident) in &self.incidents {
            index.incident_wakes.extend(incident.wake.map(|at| (at, *id)));
            index.incidents.insert(incident.trouble.clone(), *id);
        }
        for (container, repair) in &self.repairs {
            index.repairs.extend(repair.phase.deadline().map(|at| (at, container.clone())));
        }
        for (id, service) in &self.policy.services {
            for (name, server) in &service.servers {
                if let Some(container) = &server.container {
                    let users = index.containers.entry(container.clone()).or_default();
                    users.push(ServerId { service: *id, server: *name });
                }
            }
        }
        self.index = index;
    }

    /// Moves every stored moment onto the clock of a new boot: what was `x` before `stored` is `x` before `now`.
    pub fn shift_clock(&mut self, stored: Now, now: Now) {
        let by = now.boot.0.saturating_sub(stored.boot.0);
        self.began = self.began.shift(by);
        for service in self.services.values_mut() {
            service.last_failover = service.last_failover.map(|at| at.shift(by));
            service.wake = service.wake.map(|at| at.shift(by));
            service.failbacks.iter_mut().for_each(|at| *at = at.shift(by));
            if let Some(over) = &mut service.preference {
                over.until = over.until.map(|at| at.shift(by));
                over.reminded = over.reminded.shift(by);
            }
            match &mut service.placement {
                Placement::On(route) | Placement::Unmanaged { last: Some(route) } => {
                    route.since = route.since.shift(by);
                    route.pending.values_mut().for_each(|pending| pending.since = pending.since.shift(by));
                }
                Placement::Unmanaged { last: None } => {}
            }
            // Health is not carried over a start (`Event::Started`), so its moments need no shift.
        }
        self.repairs.values_mut().for_each(|repair| repair.shift(by));
        self.incidents.values_mut().for_each(|incident| incident.shift(by));
        self.mails.iter_mut().for_each(|at| *at = at.shift(by));
        for pause in self.pauses.values_mut() {
            pause.until = pause.until.map(|at| at.shift(by));
        }
        self.reindex();
    }

    /// When [`Event::Woke`](super::Event::Woke) is wanted.
    pub fn next_deadline(&self) -> Option<Boot> {
        let services = self.index.wakes.first().map(|(at, _)| *at);
        let repairs = self.index.repairs.first().map(|(at, _)| *at);
        let incidents = self.index.incident_wakes.first().map(|(at, _)| *at);
        // People pause few things at a time.
        let pauses = self.pauses.values().filter_map(|pause| pause.until).min();
        services.into_iter().chain(repairs).chain(incidents).chain(pauses).min()
    }

    /// The pauses whose end has come.
    pub fn due_pauses(&self, now: Boot) -> impl Iterator<Item = Scope> {
        let ended = move |pause: &Pause| pause.until.is_some_and(|at| at <= now);
        self.pauses.iter().filter(move |(_, pause)| ended(pause)).map(|(scope, _)| *scope)
    }

    /// The incidents whose deadline has come, soonest first.
    pub fn due_incidents(&self, now: Boot) -> impl Iterator<Item = IncidentId> {
        self.index.incident_wakes.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The incident of `trouble`; the last one, if it is over.
    pub fn incident_of(&self, trouble: &Trouble) -> Option<IncidentId> {
        self.index.incidents.get(trouble).copied()
    }

    /// The containers whose deadline has come, soonest first.
    pub fn due_repairs(&self, now: Boot) -> impl Iterator<Item = &ContainerRef> {
        self.index.repairs.iter().take_while(move |(at, _)| *at <= now).map(|(_, container)| container)
    }

    /// The services whose deadline has come, soonest first.
    pub fn due(&self, now: Boot) -> impl Iterator<Item = ServiceId> {
        self.index.wakes.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The servers that run in a container.
    pub fn servers_in(&self, container: &ContainerRef) -> &[ServerId] {
        self.index.containers.get(container).map_or(&[], Vec::as_slice)
    }

    /// The watched containers of an engine.
    pub fn containers_of(&self, engine: EngineId) -> impl Iterator<Item = &ContainerRef> {
        self.repairs.keys().filter(move |container| container.engine == engine)
    }

    /// The actions under way for containers: the precondition of each.
    pub fn heals_under_way(&self) -> BTreeSet<ActionId> {
        let action = |repair: &Repair| match repair.phase {
            Phase::Acting { action, .. } => Some(action),
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => None,
        };
        self.repairs.values().filter_map(action).collect()
    }

    /// How many servers are not down, and how many of those fail on the way and only on the way.
    pub fn path_runs(&self) -> (u32, u32) {
        (self.index.not_down, self.index.path_runs)
    }

    /// A service and its policy.
    pub fn service(&self, id: ServiceId) -> Option<(&Service, &ServicePolicy)> {
        Some((self.services.get(&id)?, self.policy.services.get(&id)?))
    }

    /// A server.
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        self.services.get(&id.service)?.servers.get(&id.server)
    }

    /// How eagerly a server is to be probed.
    pub fn pace(&self, id: ServerId) -> Pace {
        self.server(id).map_or(Pace::Normal, |server| server.pace())
    }

    /// What one HAProxy's actuator is to make true. Costs as much as the proxy has services; asked for only when one of
    /// them changed.
    pub fn desired(&self, proxy: ProxyId) -> Desired {
        let mut desired = Desired {
            active: self.proxies.get(&proxy).is_some_and(|proxy| proxy.link.may_drive()),
            ..Desired::default()
        };
        for (id, wanted) in self.policy.services.iter().filter(|(_, wanted)| wanted.proxies.contains(&proxy))
        {
            let Some(service) = self.services.get(id) else { continue };
            if let Placement::On(route) = &service.placement
                && wanted.has_site(route.site)
            {
                let route = DesiredRoute { site: route.site, generation: route.generation };
                desired.routes.insert(*id, route);
            }
            let down = service.servers.iter().filter(|(_, server)| server.health.is_down());
            desired
                .down
                .extend(down.map(|(name, server)| (ServerId { service: *id, server: *name }, server.epoch)));
        }
        desired
    }
}

impl ProxyLink {
    /// Whether its HAProxy may be touched. An HAProxy that was not seen yet, or is lost, may: the actuator will find out;
    /// only a foreign one may not.
    pub fn may_drive(&self) -> bool {
        match self {
            ProxyLink::Unseen | ProxyLink::Ours | ProxyLink::Lost { .. } => true,
            ProxyLink::Foreign { .. } => false,
        }
    }
}

impl Server {
    /// How eagerly it is to be probed.
    pub fn pace(&self) -> Pace {
        if self.health.is_unsettled() || self.is_asked() { Pace::Fast } else { Pace::Normal }
    }

    /// Whether it counts as up, and we wait to hear that we still reach it.
    pub fn is_asked(&self) -> bool {
        self.asked.is_some() && self.health.is_up()
    }

    /// Whether it is up, and nothing makes us doubt that we reach it.
    pub fn is_reached(&self) -> bool {
        self.health.is_up() && self.asked.is_none() && self.health.path_run().is_none()
    }
}

impl Service {
    /// Makes one change that is this service's; others are ignored.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Health { server, health } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    if known.health.differs_in_verdict(health) {
                        known.epoch += 1;
                    }
                    known.health = *health;
                }
            }
            Change::Life { server, life } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    known.life = *life;
                }
            }
            Change::Asked { server, since } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    known.asked = *since;
                }
            }
            Change::Placed { placement, .. } => {
                if let Placement::On(route) = placement {
                    self.generation = self.generation.max(route.generation);
                }
                if self.placement.site() != placement.site() {
                    // Counters from before a move say nothing about the new route.
                    self.served_from.clear();
                }
                self.placement = placement.clone();
            }
            Change::Confirmed { proxy, .. } => {
                if let Placement::On(route) = &mut self.placement {
                    route.pending.remove(proxy);
                }
            }
            Change::Pending { proxy, pending, .. } => {
                if let Placement::On(route) = &mut self.placement {
                    route.pending.insert(*proxy, *pending);
                }
            }
            Change::FailedOver { at, .. } => self.last_failover = Some(*at),
            Change::FailedBack { at, .. } => {
                // `decide` allows `limit` of them in a window; older ones can no longer count.
                if self.failbacks.len() >= FAILBACKS_MAX {
                    self.failbacks.remove(0);
                }
                self.failbacks.push(*at);
            }
            Change::Preference { preference, .. } => self.preference.clone_from(preference),
            Change::Wake { at, .. } => self.wake = *at,
            Change::ServedFrom { proxy, elsewhere, .. } => {
                match elsewhere {
                    Some(site) => self.served_from.insert(*proxy, *site),
                    None => self.served_from.remove(proxy),
                };
            }
            Change::Began { .. }
            | Change::Proxy { .. }
            | Change::ProxyConfig { .. }
            | Change::ProxyIdentity { .. }
            | Change::Engine { .. }
            | Change::Container { .. }
            | Change::Repair { .. }
            | Change::Incident { .. }
            | Change::Peer { .. }
            | Change::MailCounted { .. }
            | Change::Pause { .. }
            | Change::CutOff(_)
            | Change::Policy(_)
            | Change::Store(_)
            | Change::Issued { .. } => {}
        }
    }
}

/// The most failbacks that are remembered: settings refuse a higher `failback_limit`.
pub const FAILBACKS_MAX: usize = 32;

impl Index {
    /// Takes out what `change` is about to change.
    fn forget(&mut self, id: ServiceId, service: &Service, change: &Change) {
        if let (Change::Wake { .. }, Some(at)) = (change, service.wake) {
            self.wakes.remove(&(at, id));
        }
        self.recount(service, change, -1);
    }

    /// Puts in what `change` has changed.
    fn learn(&mut self, id: ServiceId, service: &Service, change: &Change) {
        if let (Change::Wake { .. }, Some(at)) = (change, service.wake) {
            self.wakes.insert((at, id));
        }
        self.recount(service, change, 1);
    }

    fn recount(&mut self, service: &Service, change: &Change, by: i32) {
        if let Change::Health { server, .. } = change
            && let Some(server) = service.servers.get(&server.server)
        {
            self.count(server.health, by);
        }
    }

    fn count(&mut self, health: Health, by: i32) {
        let path_run = health.run().is_some_and(|run| run.path_only);
        self.not_down = self.not_down.saturating_add_signed(if health.is_down() { 0 } else { by });
        self.path_runs = self.path_runs.saturating_add_signed(if path_run { by } else { 0 });
    }
}
