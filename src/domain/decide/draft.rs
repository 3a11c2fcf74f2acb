//! The decision while it is being made: the state as it will be, and what has been decided so far.

use super::Decision;
use crate::domain::action::{Action, ActionId};
use crate::domain::change::Change;
use crate::domain::command::{Pause, Scope};
use crate::domain::delivery::{MailKey, Peer};
use crate::domain::event::{ConfigSeen, ContainerSeen, StoreHealth};
use crate::domain::failover::{Member, standing};
use crate::domain::health::Health;
use crate::domain::id::{EngineId, PeerId, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::incident::{Incident, IncidentId, Trouble};
use crate::domain::policy::{ContainerRef, ServerPolicy, ServicePolicy};
use crate::domain::reason::Reason;
use crate::domain::repair::Repair;
use crate::domain::repair::depends::Containers;
use crate::domain::state::{ProxyLink, Server, Service, SitePools, State};
use crate::domain::time::{Boot, Now};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
thread_local! {
    /// How often decisions of this thread looked at an incident: what they cost, however busy the machine is.
    pub(super) static LOOKS: Cell<u64> = const { Cell::new(0) };
}

/// A decision in the making.
pub(super) struct Draft<'a> {
    /// The state before the event.
    pub(super) state: &'a State,
    /// The time of the decision.
    pub(super) now: Now,
    /// What has been decided.
    pub(super) decision: Decision,
    /// The service that was asked for last: nearly all events are about one, and each step of a decision asks for it.
    last: Cell<Option<(ServiceId, Member<'a>)>>,
    /// The services that the event touches, as they will be.
    touched: BTreeMap<ServiceId, Box<Service>>,
    /// How the HAProxy instances that the event touches will be reached.
    links: BTreeMap<ProxyId, ProxyLink>,
    /// How the pools of a site will stand, as long as no service is touched: each of a thousand pools asks for its site.
    pools: RefCell<BTreeMap<SiteId, SitePools>>,
    /// The containers that the event touches, as they will be.
    containers: BTreeMap<ContainerRef, Option<ContainerSeen>>,
    /// Their repairs, as they will be.
    repairs: BTreeMap<ContainerRef, Repair>,
    /// The incidents that the event touches, as they will be; none for one that is forgotten.
    incidents: BTreeMap<IncidentId, Option<Incident>>,
    /// Those of them that are the incident of their trouble.
    incidents_of: BTreeMap<Trouble, Option<IncidentId>>,
    /// The Alertmanagers as they will be, if one of them changes.
    peers: Option<BTreeMap<PeerId, Peer>>,
    next_action: u64,
}

impl Containers for Draft<'_> {
    fn seen(&self, container: &ContainerRef) -> Option<&ContainerSeen> {
        self.container(container)
    }

    fn repair(&self, container: &ContainerRef) -> Option<&Repair> {
        Draft::repair(self, container)
    }
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State, now: Now) -> Draft<'a> {
        Draft {
            state,
            now,
            decision: Decision::default(),
            last: Cell::new(None),
            touched: BTreeMap::new(),
            links: BTreeMap::new(),
            pools: RefCell::default(),
            containers: BTreeMap::new(),
            repairs: BTreeMap::new(),
            incidents: BTreeMap::new(),
            incidents_of: BTreeMap::new(),
            peers: None,
            next_action: state.next_action,
        }
    }

    /// The service as it will be, and its policy.
    pub(super) fn service(&self, id: ServiceId) -> Option<(&Service, &'a ServicePolicy)> {
        let (before, policy) = self.before(id)?;
        Some((self.touched.get(&id).map_or(before, |after| &**after), policy))
    }

    /// The service as it was before the event, and its policy.
    pub(super) fn before(&self, id: ServiceId) -> Option<Member<'a>> {
        if let Some((_, known)) = self.last.get().filter(|(last, _)| *last == id) {
            return Some(known);
        }
        let found = self.state.service(id)?;
        self.last.set(Some((id, found)));
        Some(found)
    }

    /// The policy of a server, if there is such a server.
    pub(super) fn server_policy(&self, id: ServerId) -> Option<&'a ServerPolicy> {
        self.before(id.service)?.1.servers.get(&id.server)
    }

    /// The server as it will be.
    pub(super) fn server(&self, id: ServerId) -> Option<Server> {
        self.service(id.service)?.0.servers.get(&id.server).copied()
    }

    /// The server's health as it will be.
    pub(super) fn health(&self, id: ServerId) -> Option<Health> {
        Some(self.server(id)?.health)
    }

    /// The container as it will be; none if it does not exist, or is not known.
    pub(super) fn container(&self, container: &ContainerRef) -> Option<&ContainerSeen> {
        match self.containers.get(container) {
            Some(seen) => seen.as_ref(),
            None => self.state.engines.get(&container.engine)?.containers.get(&container.name),
        }
    }

    /// How the healing of the container will stand.
    pub(super) fn repair(&self, container: &ContainerRef) -> Option<&Repair> {
        self.repairs.get(container).or_else(|| self.state.repairs.get(container))
    }

    /// Our starts of containers at `site` after `after`, as they will be, soonest first.
    pub(super) fn starts_at(&self, site: SiteId, after: Boot) -> Vec<Boot> {
        let mut starts: Vec<Boot> = self.state.starts_at(site, after).collect();
        let here = |container: &ContainerRef| {
            self.state.policy.containers.get(container).is_some_and(|policy| policy.site == Some(site))
        };
        for (container, repair) in self.repairs.iter().filter(|(container, _)| here(container)) {
            let before = self.state.repairs.get(container).into_iter().flat_map(|before| &before.starts);
            for at in before.filter(|at| **at > after) {
                if let Ok(place) = starts.binary_search(at) {
                    starts.remove(place);
                }
            }
            starts.extend(repair.starts.iter().filter(|at| **at > after));
            starts.sort_unstable();
        }
        starts
    }

    /// Sets how the healing of the container stands, if that differs.
    pub(super) fn set_repair(&mut self, container: &ContainerRef, repair: Repair) {
        if self.repair(container).is_some_and(|before| *before != repair) {
            self.push(Change::Repair { container: container.clone(), repair: Box::new(repair) });
        }
    }

    /// The incident as it will be.
    pub(super) fn incident(&self, id: IncidentId) -> Option<&Incident> {
        #[cfg(test)]
        LOOKS.set(LOOKS.get() + 1);
        match self.incidents.get(&id) {
            Some(incident) => incident.as_ref(),
            None => self.state.incidents.get(&id),
        }
    }

    /// The incident of `trouble` as it will be; the last one, if it is over.
    pub(super) fn incident_of(&self, trouble: &Trouble) -> Option<IncidentId> {
        match self.incidents_of.get(trouble) {
            Some(known) => *known,
            None => self.state.incident_of(trouble),
        }
    }

    /// Whether `trouble` is an incident, and not over, as it will be.
    pub(super) fn is_open(&self, trouble: &Trouble) -> bool {
        let incident = self.incident_of(trouble).and_then(|id| self.incident(id));
        incident.is_some_and(|incident| incident.ended.is_none())
    }

    /// The incidents as they will be.
    pub(super) fn incident_ids(&self) -> Vec<IncidentId> {
        let all: BTreeSet<IncidentId> =
            self.state.incidents.keys().chain(self.incidents.keys()).copied().collect();
        all.into_iter().filter(|id| self.incident(*id).is_some()).collect()
    }

    /// The incidents that were told in `mail` lately, as they will be: those that are over, or those that last.
    pub(super) fn told_in(&self, mail: MailKey, over: bool) -> impl Iterator<Item = IncidentId> {
        let known = self.state.told_in(mail, over).filter(|id| !self.incidents.contains_key(id));
        let is_so = move |incident: &Incident| {
            incident.telling.mail() == Some(mail) && incident.ended.is_some() == over
        };
        let touched = self.incidents.iter().filter(move |(_, incident)| incident.as_ref().is_some_and(is_so));
        known.chain(touched.map(|(id, _)| *id))
    }

    /// Sets an incident, if that differs; none: it is forgotten.
    pub(super) fn set_incident(&mut self, id: IncidentId, incident: Option<Incident>) {
        if self.incident(id) != incident.as_ref() {
            self.push(Change::Incident { id, incident: incident.map(Box::new) });
        }
    }

    /// The Alertmanagers as they will be.
    pub(super) fn peers(&self) -> &BTreeMap<PeerId, Peer> {
        self.peers.as_ref().unwrap_or(&self.state.peers)
    }

    /// One of them.
    pub(super) fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers().get(&id)
    }

    /// When mails were decided lately.
    pub(super) fn mails(&self) -> Vec<Boot> {
        let decided = self
            .decision
            .changes
            .iter()
            .filter_map(|change| if let Change::MailCounted { at } = change { Some(*at) } else { None });
        self.state.mails.iter().copied().chain(decided).collect()
    }

    /// How an HAProxy is reached, as it will be; none if there is no such HAProxy.
    pub(super) fn link(&self, id: ProxyId) -> Option<&ProxyLink> {
        self.links.get(&id).or_else(|| Some(&self.state.proxies.get(&id)?.link))
    }

    /// How an HAProxy's configuration stands, as it will; none if there is no such HAProxy.
    pub(super) fn config(&self, id: ProxyId) -> Option<&ConfigSeen> {
        let decided = self.decision.changes.iter().rev().find_map(|change| {
            if let Change::ProxyConfig { proxy, config } = change {
                (*proxy == id).then_some(config)
            } else {
                None
            }
        });
        decided.or_else(|| Some(&self.state.proxies.get(&id)?.config))
    }

    /// Whether decisions reach the disk, as it will be.
    pub(super) fn store(&self) -> StoreHealth {
        let decided = self
            .decision
            .changes
            .iter()
            .rev()
            .find_map(|change| if let Change::Store(health) = change { Some(*health) } else { None });
        decided.unwrap_or(self.state.store)
    }

    /// When something was last decided that must not be, as it will be.
    pub(super) fn breached(&self) -> Option<Boot> {
        let decided = self.decision.changes.iter().any(|change| matches!(change, Change::Breached { .. }));
        if decided { Some(self.now.boot) } else { self.state.breached }
    }

    /// When a probe could last not be made, as it will be.
    pub(super) fn untried(&self) -> Option<Boot> {
        let decided = self.decision.changes.iter().any(|change| matches!(change, Change::Untried { .. }));
        if decided { Some(self.now.boot) } else { self.state.untried }
    }

    /// How the pools of a site will stand.
    pub(super) fn site_pools(&self, site: SiteId) -> SitePools {
        if let Some(pools) = self.pools.borrow().get(&site) {
            return *pools;
        }
        let mut pools = self.state.site_pools(site);
        for (id, after) in &self.touched {
            let Some((before, policy)) = self.before(*id) else { continue };
            if policy.has_site(site) {
                pools.count(standing(before, policy, site), -1);
                pools.count(standing(after, policy, site), 1);
            }
        }
        self.pools.borrow_mut().insert(site, pools);
        pools
    }

    /// Whether supervisor is cut off, as it will be.
    pub(super) fn cut_off(&self) -> bool {
        let decided = self
            .decision
            .changes
            .iter()
            .rev()
            .find_map(|change| if let Change::CutOff(cut_off) = change { Some(*cut_off) } else { None });
        decided.unwrap_or(self.state.cut_off)
    }

    /// Whether the engine answers, as it will be.
    pub(super) fn engine_found(&self, id: EngineId) -> Option<bool> {
        let decided = self.decision.changes.iter().rev().find_map(|change| {
            if let Change::Engine { engine, found } = change {
                (*engine == id).then_some(*found)
            } else {
                None
            }
        });
        decided.unwrap_or_else(|| self.state.engines.get(&id)?.found)
    }

    /// Decides a change.
    pub(super) fn push(&mut self, change: Change) {
        if let Change::Container { engine, name, seen } = &change {
            let container = ContainerRef { engine: *engine, name: name.clone() };
            self.containers.insert(container, seen.clone());
        }
        if let Change::Proxy { proxy, link } = &change {
            self.links.insert(*proxy, link.clone());
        }
        if let Change::Incident { id, incident } = &change {
            if let Some(before) = self.incident(*id) {
                self.incidents_of.insert(before.trouble.clone(), None);
            }
            if let Some(incident) = incident {
                self.incidents_of.insert(incident.trouble.clone(), Some(*id));
            }
            self.incidents.insert(*id, incident.as_deref().cloned());
        }
        if let Change::Peer { peer, seen } = &change {
            self.peers.get_or_insert_with(|| self.state.peers.clone()).insert(*peer, seen.clone());
        }
        if let Change::Repair { container, repair } = &change {
            self.repairs.insert(container.clone(), Repair::clone(repair));
        }
        if let Some(service) = change.service().and_then(|id| self.touch(id)) {
            service.apply(&change);
        }
        self.decision.changes.push(change);
    }

    /// Begins or ends a pause; gives back the services that are paused now and were not, or no longer are.
    pub(super) fn pause(&mut self, scope: Scope, pause: Option<Pause>) -> Vec<ServiceId> {
        self.push(Change::Pause { scope, pause });
        let pauses = self.pauses();
        let mut changed = self.state.services_in(scope);
        changed.retain(|id| {
            let Some((service, policy)) = self.service(*id) else { return false };
            let paused = pauses.iter().any(|pause| pause.is_about(*id, policy));
            let changes = service.paused != paused;
            if changes && let Some(service) = self.touch(*id) {
                service.paused = paused;
            }
            changes
        });
        changed
    }

    /// What will be paused.
    fn pauses(&self) -> BTreeSet<Scope> {
        let mut pauses: BTreeSet<Scope> = self.state.pauses.keys().copied().collect();
        for change in &self.decision.changes {
            if let Change::Pause { scope, pause } = change {
                if pause.is_some() {
                    pauses.insert(*scope)
                } else {
                    pauses.remove(scope)
                };
            }
        }
        pauses
    }

    /// The pause that will keep a container from being healed, if one does.
    pub(super) fn pause_of(&self, container: &ContainerRef) -> Option<Scope> {
        self.pauses().into_iter().find(|scope| self.state.holds_back(*scope, container))
    }

    /// The service as it will be, to be changed; none if there is no such service.
    fn touch(&mut self, id: ServiceId) -> Option<&mut Service> {
        self.pools.get_mut().clear();
        let (before, _) = self.before(id)?;
        Some(self.touched.entry(id).or_insert_with(|| Box::new(before.clone())))
    }

    /// Takes over what was decided on a state that has the changes so far.
    pub(super) fn append(&mut self, rest: Draft<'_>) {
        let Decision { changes, actions, reasons } = rest.decision;
        changes.into_iter().for_each(|change| self.push(change));
        self.decision.actions.extend(actions);
        self.decision.reasons.extend(reasons);
        self.next_action = rest.next_action;
    }

    /// Decides an action.
    pub(super) fn act(&mut self, action: Action) {
        self.decision.actions.push(action);
    }

    /// Gives a reason.
    pub(super) fn tell(&mut self, reason: Reason) {
        self.decision.reasons.push(reason);
    }

    /// Sets a server's health, if it differs, and probes it as eagerly as that health wants.
    pub(super) fn set_health(&mut self, server: ServerId, health: Health) {
        let Some(before) = self.server(server) else { return };
        if before.health != health {
            self.push(Change::Health { server, health });
            self.repace(server, before);
        }
    }

    /// Begins to wait for an answer of the server, or ends it.
    pub(super) fn ask(&mut self, server: ServerId, since: Option<Boot>) {
        let Some(before) = self.server(server) else { return };
        if before.asked != since {
            self.push(Change::Asked { server, since });
            self.repace(server, before);
        }
    }

    fn repace(&mut self, server: ServerId, before: Server) {
        let Some(after) = self.server(server) else { return };
        if after.pace() != before.pace() {
            self.act(Action::Pace { server, pace: after.pace() });
        }
    }

    /// Sets the verdict of a server's `live` probes, if it differs. Gives back the verdict before.
    pub(super) fn set_life(&mut self, server: ServerId, life: Health) -> Option<Health> {
        let before = self.service(server.service)?.0.servers.get(&server.server)?.life;
        if before != life {
            self.push(Change::Life { server, life });
        }
        Some(before)
    }

    /// A number for a guarded action.
    pub(super) fn number(&mut self) -> ActionId {
        let id = ActionId(self.next_action);
        self.next_action += 1;
        self.push(Change::Issued { next: self.next_action });
        id
    }
}
