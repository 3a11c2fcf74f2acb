//! The decision while it is being made: the state as it will be, and what has been decided so far.

use super::Decision;
use crate::domain::action::{Action, ActionId, Evacuation};
use crate::domain::change::Change;
use crate::domain::command::{Operator, Pause, Scope};
use crate::domain::delivery::{MailKey, Peer};
use crate::domain::event::{ConfigSeen, ContainerSeen, StoreHealth};
use crate::domain::failover::{Group, Member, Override, Plan, Standing, Stay, Why, plan, standing};
use crate::domain::health::Health;
use crate::domain::id::{EngineId, Name, PeerId, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::incident::{Incident, IncidentId, Trouble};
use crate::domain::maintenance::{Admin, Maintenance, Out};
use crate::domain::policy::{ContainerRef, ServerPolicy, ServicePolicy};
use crate::domain::reason::Reason;
use crate::domain::repair::Repair;
use crate::domain::repair::depends::Containers;
use crate::domain::state::{Pending, Placement, ProxyLink, Route, Server, Service, SitePools, State};
use crate::domain::time::{Boot, Now, Span};
use crate::domain::witness::Cause;
use std::cell::Cell;
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
    touched: BTreeMap<ServiceId, Service>,
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
        Some((self.touched.get(&id).unwrap_or(before), policy))
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
        let decided = self.decision.changes.iter().rev().find_map(|change| {
            if let Change::Proxy { proxy, link } = change { (*proxy == id).then_some(link) } else { None }
        });
        decided.or_else(|| Some(&self.state.proxies.get(&id)?.link))
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
        let mut pools = self.state.site_pools(site);
        for (id, after) in &self.touched {
            let Some((before, policy)) = self.before(*id) else { continue };
            if policy.has_site(site) {
                pools.count(standing(before, policy, site), -1);
                pools.count(standing(after, policy, site), 1);
            }
        }
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
        let (before, _) = self.before(id)?;
        Some(self.touched.entry(id).or_insert_with(|| before.clone()))
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

    /// The services that move with `id`, itself included.
    pub(super) fn moving_with(&self, id: ServiceId) -> Vec<ServiceId> {
        match self.group_of(id) {
            [] => vec![id],
            group => group.to_vec(),
        }
    }

    /// The same; none if it moves alone.
    pub(super) fn group_of(&self, id: ServiceId) -> &'a [ServiceId] {
        let group = self.before(id).and_then(|(_, policy)| policy.group);
        group.map_or(&[], |group| self.state.members(group))
    }

    /// The service and those that move with it, as they will be.
    pub(super) fn group(&self, id: ServiceId) -> Option<Group<'_>> {
        let alone = self.service(id)?;
        let others = self.group_of(id).iter().filter(|other| **other != id);
        let rest: Vec<Member<'_>> = others.filter_map(|other| self.service(*other)).collect();
        Some(Group::of(alone, rest))
    }

    /// Where their traffic belongs.
    pub(super) fn plan(&self, id: ServiceId) -> Option<Plan> {
        Some(plan(&self.group(id)?, self.now))
    }

    /// Asks where the service's traffic belongs, and sends it there; that of those that move with it, too.
    pub(super) fn settle(&mut self, id: ServiceId) {
        let group = self.moving_with(id);
        for member in &group {
            self.attend_preference(*member);
            self.attend_servers(*member);
        }
        let mut planned = self.plan(id);
        if let Some(Plan::Move { to, why }) = planned {
            for member in &group {
                self.relocate(*member, to, why);
            }
            // The new place may have something to wait for, too: a return.
            planned = self.plan(id);
        }
        let stay = match planned {
            Some(Plan::Stay(stay)) => stay.until(),
            Some(Plan::Move { .. }) | None => None,
        };
        for member in &group {
            let Some((service, _)) = self.service(*member) else { continue };
            let wake = service.deadlines().chain(stay).min();
            if service.wake != wake {
                self.push(Change::Wake { service: *member, at: wake });
            }
        }
    }

    /// What is held against the servers of a service is over when its time is, and so is what takes them out of service.
    fn attend_servers(&mut self, id: ServiceId) {
        let now = self.now.boot;
        let Some((service, policy)) = self.service(id) else { return };
        let due = |server: &&Server| {
            let dampers = [server.flaps, server.strain];
            dampers.into_iter().filter_map(|damped| damped.until).any(|until| until <= now)
        };
        let calmed: Vec<(Name, Server, SiteId)> = service
            .servers
            .iter()
            .filter(|(_, server)| due(server))
            .filter_map(|(name, server)| Some((*name, *server, policy.servers.get(name)?.site)))
            .collect();
        let over = |maintenance: &Maintenance| maintenance.until.is_some_and(|until| until <= now);
        let back: Vec<Name> =
            service.maintenance.iter().filter(|(_, held)| over(held)).map(|(name, _)| *name).collect();
        for (name, before, site) in calmed {
            let server = ServerId { service: id, server: name };
            if let Some(flaps) = before.flaps.calmed(now) {
                self.push(Change::Flaps { server, flaps });
                self.tell(Reason::ServerSteady { server, site });
            }
            if let Some(strain) = before.strain.calmed(now) {
                self.push(Change::Strain { server, strain });
                self.tell(Reason::ServerSound { server, site });
            }
        }
        for name in back {
            let server = ServerId { service: id, server: name };
            self.push(Change::Maintenance { server, maintenance: None });
            self.administer(server, Admin::Ready, BTreeSet::new());
            self.tell(Reason::PutBack { server, by: None });
        }
    }

    /// Every HAProxy that is ours is to have the server so from now on. `ours`: what it may be there by our doing, beside
    /// what is known of that already.
    pub(super) fn administer(&mut self, server: ServerId, admin: Admin, mut ours: BTreeSet<Admin>) {
        let Some((service, policy)) = self.service(server.service) else { return };
        ours.extend(service.out.get(&server.server).into_iter().flat_map(|before| before.ours.iter()));
        ours.extend(Some(admin).filter(|admin| *admin != Admin::Ready));
        let pending = Pending::since(self.now.boot);
        let out = Out {
            admin,
            generation: service.out_generation + 1,
            since: self.now.boot,
            ours,
            pending: self.state.policy.managed(policy).map(|proxy| (proxy, pending)).collect(),
        };
        self.push(Change::Out { server, out: Some(out).filter(Out::is_wanted) });
    }

    /// A preference ends when its time is over; one that has no end is brought to mind once a day.
    fn attend_preference(&mut self, id: ServiceId) {
        let Some((service, _)) = self.service(id) else { return };
        let Some(over) = service.preference.clone().filter(|over| over.wake() <= self.now.boot) else {
            return;
        };
        if over.until.is_some() {
            self.push(Change::Preference { service: id, preference: None });
            self.tell(Reason::PreferenceExpired { service: id, site: over.site });
        } else {
            let reminded = Override { reminded: self.now.boot, ..over };
            self.tell(Reason::PreferenceHolds { service: id, preference: reminded.clone(), left: None });
            self.push(Change::Preference { service: id, preference: Some(reminded) });
        }
    }

    /// Moves traffic for a reason of our own, unless it is there.
    fn relocate(&mut self, id: ServiceId, to: SiteId, why: Why) {
        let Some((service, policy)) = self.service(id) else { return };
        let Some(from) = service.placement.site().filter(|from| *from != to) else { return };
        let healthy = match standing(service, policy, to) {
            Standing::Healthy { since } => self.now.boot.since(since),
            Standing::Thin { .. } | Standing::Unproven | Standing::Out | Standing::Down { .. } => Span::ZERO,
        };
        self.route(id, to, None);
        let (service, at) = (id, self.now.boot);
        match why {
            Why::Escape(cause) => {
                self.push(Change::FailedOver { service, at });
                self.tell(Reason::Failover { service, from, to, cause });
                self.evacuate_site(id, from, to);
            }
            Why::Relief { up, of } => {
                self.push(Change::FailedOver { service, at });
                self.tell(Reason::Relief { service, from, to, up, of });
                self.evacuate_site(id, from, to);
            }
            Why::Return => {
                self.push(Change::FailedBack { service, at });
                self.tell(Reason::Failback { service, from, to, healthy });
            }
            Why::SiteRemoved => self.tell(Reason::SiteRemoved { service, from, to }),
            Why::TakenOut => self.tell(Reason::LeftTakenOut { service, from, to }),
            Why::Together => self.tell(Reason::MovedTogether { service, from, to }),
            Why::AllDown(cause) => self.tell(Reason::MovedToFirst { service, from, to, cause }),
        }
        self.tell_who_is_away(id);
    }

    /// Sends the service's traffic to `to` from now on; `by` whom, if a person ordered it.
    pub(super) fn route(&mut self, id: ServiceId, to: SiteId, by: Option<Operator>) {
        let Some((service, policy)) = self.service(id) else { return };
        let generation = service.generation + 1;
        let route = Route {
            site: to,
            generation,
            since: self.now.boot,
            since_wall: self.now.wall,
            by,
            pending: self.pending(policy),
        };
        self.push(Change::Placed { service: id, placement: Placement::On(route) });
        self.act(Action::Route { service: id, site: to, generation });
    }

    /// Every HAProxy of a service has yet to show that it agrees; what another supervisor owns is not asked.
    pub(super) fn pending(&self, policy: &ServicePolicy) -> BTreeMap<ProxyId, Pending> {
        let pending = Pending::since(self.now.boot);
        let asked = |proxy: &&ProxyId| self.link(**proxy).is_none_or(ProxyLink::may_drive);
        policy.proxies.iter().filter(asked).map(|proxy| (*proxy, pending)).collect()
    }

    /// Frees what every stranding server at `from` holds, onto `refuge`.
    pub(super) fn evacuate_site(&mut self, id: ServiceId, from: SiteId, refuge: SiteId) {
        let Some((service, policy)) = self.service(id) else { return };
        let stranding = policy.servers_at(from).filter(|name| strands(service, *name));
        let servers: Vec<ServerId> = stranding.map(|server| ServerId { service: id, server }).collect();
        for server in servers {
            self.evacuate(server, from, Some(refuge));
        }
    }

    /// An HAProxy that was away answers again and has the route: what was to be freed meanwhile is freed there.
    pub(super) fn make_up(&mut self, id: ServiceId, proxy: ProxyId) {
        let Some((service, policy)) = self.service(id) else { return };
        let Some(to) = service.placement.site().filter(|to| standing(service, policy, *to).serves()) else {
            return;
        };
        let stranding = policy.servers.iter().filter(|(name, _)| strands(service, **name));
        let servers: Vec<(ServerId, SiteId)> =
            stranding.map(|(name, wanted)| (ServerId { service: id, server: *name }, wanted.site)).collect();
        for (server, site) in servers {
            self.evacuate_in(proxy, server, site, Some(to).filter(|to| *to != site));
        }
    }

    /// A server of the serving site went down and its pool goes on without it: what it holds goes to its neighbours.
    pub(super) fn evacuate_within_pool(&mut self, server: ServerId, site: SiteId, cause: Cause) {
        let Some((service, policy)) = self.service(server.service) else { return };
        let pool_serves = service.placement.site() == Some(site) && standing(service, policy, site).serves();
        if pool_serves && cause.strands_requests() {
            self.evacuate(server, site, None);
        }
    }

    /// A number for a guarded action.
    pub(super) fn number(&mut self) -> ActionId {
        let id = ActionId(self.next_action);
        self.next_action += 1;
        self.push(Change::Issued { next: self.next_action });
        id
    }

    fn evacuate(&mut self, server: ServerId, site: SiteId, refuge: Option<SiteId>) {
        let Some((_, policy)) = self.service(server.service) else { return };
        for proxy in &policy.proxies {
            // Who is away hears of it when it is back: `make_up`.
            if self.link(*proxy) == Some(&ProxyLink::Ours) {
                self.evacuate_in(*proxy, server, site, refuge);
            }
        }
    }

    fn evacuate_in(&mut self, proxy: ProxyId, server: ServerId, site: SiteId, refuge: Option<SiteId>) {
        let Some((service, _)) = self.service(server.service) else { return };
        let Some(epoch) = service.servers.get(&server.server).map(|server| server.epoch) else { return };
        let generation = service.generation;
        let id = self.number();
        self.act(Action::Evacuate(Evacuation { id, proxy, server, site, refuge, epoch, generation }));
    }

    /// Says which HAProxy instances do not hear of the route now.
    pub(super) fn tell_who_is_away(&mut self, id: ServiceId) {
        let Some((service, policy)) = self.service(id) else { return };
        let Some(site) = service.placement.site() else { return };
        for proxy in &policy.proxies {
            if matches!(self.link(*proxy), Some(ProxyLink::Lost { .. })) {
                self.tell(Reason::RouteWaits { service: id, site, proxy: *proxy });
            }
        }
    }

    /// Tells why traffic stays although its site is down. Asked for when a verdict changed and nothing moved.
    pub(super) fn tell_if_stuck(&mut self, id: ServiceId) {
        let Some((service, policy)) = self.service(id) else { return };
        let Some(Plan::Stay(stay)) = self.plan(id) else { return };
        let stuck = match stay {
            Stay::AllDown { .. }
            | Stay::NoneProven { .. }
            | Stay::Stateful { .. }
            | Stay::Forced
            | Stay::Thin { .. }
            | Stay::TakenOut
            | Stay::Scattered { .. }
            | Stay::Divided { .. }
            | Stay::Pinned { .. } => true,
            Stay::Paused { .. } => {
                service.placement.site().is_some_and(|site| !standing(service, policy, site).serves())
            }
            Stay::Preferred
            | Stay::Unmanaged
            | Stay::BetterSiteDown { .. }
            | Stay::NotStableYet { .. }
            | Stay::HoldDown { .. }
            | Stay::FailbackLimit { .. }
            | Stay::Flapping { .. }
            | Stay::BetterSiteDegraded { .. }
            | Stay::OutOfHours { .. }
            | Stay::FailbackManual { .. } => false,
        };
        if stuck {
            let site = service.placement.site();
            let left = stay.until().map(|until| until.since(self.now.boot));
            self.tell(Reason::Stays { service: id, site, stay, left });
        }
    }
}

/// Whether a server is down in a way that leaves requests hanging on it.
fn strands(service: &Service, name: Name) -> bool {
    service.servers.get(&name).is_some_and(|server| match server.health {
        Health::Down { cause, .. } => cause.strands_requests(),
        Health::Unknown { .. } | Health::Up { .. } => false,
    })
}
