//! What is derived from the state: not stored, and never more than a look away from what it is derived from.
//!
//! It keeps the cost of an event independent of the number of services: who is due, whose incident a trouble is, what a mail
//! told, which servers a container holds, what was started at a site, whose probes are news, how many servers fail on the way.

use super::awaited::Awaited;
use super::{Server, Service, State};
use crate::domain::by_name::ByName;
use crate::domain::change::Change;
use crate::domain::command::{Pause, Scope};
use crate::domain::delivery::MailKey;
use crate::domain::event::ContainerSeen;
use crate::domain::failover::{Standing, standing};
use crate::domain::id::{ContainerName, EngineId, GroupId, ServerId, ServiceId, SiteId};
use crate::domain::incident::{Incident, IncidentId, Trouble};
use crate::domain::policy::{ContainerRef, Policy, ServicePolicy};
use crate::domain::repair::Repair;
use crate::domain::time::{Boot, Span};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Derived from the rest of the state; rebuilt by [`State::reindex`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Index {
    /// Every `Service::wake`, soonest first.
    wakes: BTreeSet<(Boot, ServiceId)>,
    /// Every deadline of a repair, soonest first.
    repairs: BTreeSet<(Boot, ContainerRef)>,
    /// How many of our starts were at a site at a moment, as far as they are remembered.
    starts: BTreeMap<(SiteId, Boot), u32>,
    /// The incident of each trouble; the last one, if it is over.
    incidents: BTreeMap<Trouble, IncidentId>,
    /// Every `Incident::wake`, soonest first.
    incident_wakes: BTreeSet<(Boot, IncidentId)>,
    /// What was told in each mail lately and is to be told by mail again; whether it is over.
    mailed: BTreeSet<(MailKey, bool, IncidentId)>,
    /// Which servers run in a container.
    containers: ByName<ContainerRef, Vec<ServerId>>,
    /// The containers that depend on others of their engine.
    dependents: BTreeMap<EngineId, BTreeSet<ContainerName>>,
    /// The services of each group.
    groups: BTreeMap<GroupId, Vec<ServiceId>>,
    /// How the pools of each site stand.
    sites: BTreeMap<SiteId, SitePools>,
    /// The servers whose good `ready` probe is news: all but those that are up, and nothing is counted or asked.
    ready: Awaited,
    /// The servers whose good `live` probe is news: all but those that live, and nothing is counted.
    live: Awaited,
    /// An answer that took no longer is slow for no server; none: no answer is.
    slow_after: Option<Span>,
    /// How many servers are not down and have a run of path errors.
    path_runs: u32,
    /// How many servers are not down.
    not_down: u32,
}

/// How the pools of a site stand, of all services together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SitePools {
    /// So many serve.
    pub serving: u32,
    /// So many are down.
    pub down: u32,
    /// Of so many it is not known.
    pub unproven: u32,
}

impl SitePools {
    /// With one more pool that stands like this; one fewer, with `by` -1.
    pub(in crate::domain) fn count(&mut self, standing: Standing, by: i32) {
        self.serving = self.serving.saturating_add_signed(if standing.serves() { by } else { 0 });
        self.down = self.down.saturating_add_signed(if standing.is_down() { by } else { 0 });
        let unproven = standing == Standing::Unproven;
        self.unproven = self.unproven.saturating_add_signed(if unproven { by } else { 0 });
    }

    /// Whether nothing serves there any more: no pool does, and more than one is known to be down.
    pub fn are_dead(&self) -> bool {
        self.serving == 0 && self.down > 1
    }
}

impl Index {
    /// Takes out what `change` is about to change.
    pub(super) fn forget(
        &mut self,
        id: ServiceId,
        service: &Service,
        policy: &ServicePolicy,
        change: &Change,
    ) {
        if let (Change::Wake { .. }, Some(at)) = (change, service.wake) {
            self.wakes.remove(&(at, id));
        }
        self.recount(service, policy, change, Way::Out);
    }

    /// Puts in what `change` has changed.
    pub(super) fn learn(
        &mut self,
        id: ServiceId,
        service: &Service,
        policy: &ServicePolicy,
        change: &Change,
    ) {
        if let (Change::Wake { .. }, Some(at)) = (change, service.wake) {
            self.wakes.insert((at, id));
        }
        self.recount(service, policy, change, Way::In);
    }

    fn recount(&mut self, service: &Service, policy: &ServicePolicy, change: &Change, way: Way) {
        if let Change::Health { server, .. }
        | Change::Life { server, .. }
        | Change::Reborn { server, .. }
        | Change::Asked { server, .. } = change
            && let Some(known) = service.servers.get(&server.server)
        {
            self.count_server(*server, known, way);
        }
        if let Change::Health { server, .. } | Change::Maintenance { server, .. } = change
            && let Some(server) = policy.servers.get(&server.server)
        {
            self.count_pool(service, policy, server.site, way);
        }
    }

    fn count_pool(&mut self, service: &Service, policy: &ServicePolicy, site: SiteId, way: Way) {
        self.sites.entry(site).or_default().count(standing(service, policy, site), way.by());
    }

    /// Takes out a repair that is about to change.
    pub(super) fn forget_repair(&mut self, container: &ContainerRef, repair: &Repair, policy: &Policy) {
        if let Some(at) = repair.deadline() {
            self.repairs.remove(&(at, container.clone()));
        }
        for start in starts(container, repair, policy) {
            if let Entry::Occupied(mut count) = self.starts.entry(start) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }

    /// Puts in a repair as it is now.
    pub(super) fn learn_repair(&mut self, container: &ContainerRef, repair: &Repair, policy: &Policy) {
        self.repairs.extend(repair.deadline().map(|at| (at, container.clone())));
        for start in starts(container, repair, policy) {
            *self.starts.entry(start).or_default() += 1;
        }
    }

    /// Notes whether a container depends on others, as it is seen now.
    pub(super) fn learn_container(
        &mut self,
        engine: EngineId,
        name: &ContainerName,
        seen: Option<&ContainerSeen>,
    ) {
        if seen.is_some_and(|seen| seen.facts.has_dependencies()) {
            self.dependents.entry(engine).or_default().insert(name.clone());
        } else if let Some(names) = self.dependents.get_mut(&engine) {
            names.remove(name);
            if names.is_empty() {
                self.dependents.remove(&engine);
            }
        }
    }

    /// Takes out an incident that is about to change, or to go.
    pub(super) fn forget_incident(&mut self, id: IncidentId, incident: &Incident) {
        if let Some(at) = incident.wake {
            self.incident_wakes.remove(&(at, id));
        }
        if let Some(mail) = incident.telling.mail() {
            self.mailed.remove(&(mail, incident.ended.is_some(), id));
        }
        if self.incidents.get(&incident.trouble) == Some(&id) {
            self.incidents.remove(&incident.trouble);
        }
    }

    /// Puts in an incident as it is now.
    pub(super) fn learn_incident(&mut self, id: IncidentId, incident: &Incident) {
        self.incident_wakes.extend(incident.wake.map(|at| (at, id)));
        self.mailed.extend(incident.telling.mail().map(|mail| (mail, incident.ended.is_some(), id)));
        self.incidents.insert(incident.trouble.clone(), id);
    }

    fn count_server(&mut self, id: ServerId, server: &Server, way: Way) {
        self.ready.count(id, server.is_awaited(), way);
        self.live.count(id, server.is_life_awaited(), way);
        let path_run = server.health.run().is_some_and(|run| run.path_only);
        self.not_down =
            self.not_down.saturating_add_signed(if server.health.is_down() { 0 } else { way.by() });
        self.path_runs = self.path_runs.saturating_add_signed(if path_run { way.by() } else { 0 });
    }
}

/// Whether something is put into the index or taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    In,
    Out,
}

impl Way {
    /// As a number to add.
    pub(super) fn by(self) -> i32 {
        match self {
            Way::In => 1,
            Way::Out => -1,
        }
    }
}

/// Where and when a container was started by us.
fn starts<'a>(
    container: &ContainerRef,
    repair: &'a Repair,
    policy: &Policy,
) -> impl Iterator<Item = (SiteId, Boot)> + use<'a> {
    // Most containers never were.
    let of = || policy.containers.get(container)?.site;
    let site = if repair.starts.is_empty() { None } else { of() };
    site.into_iter().flat_map(|site| repair.starts.iter().map(move |at| (site, *at)))
}

impl State {
    /// Rebuilds what is derived: after a snapshot was read, and after a change of policy.
    pub fn reindex(&mut self) {
        let servers = self.services.values().map(|service| service.servers.len()).sum();
        let (ready, live) = (Awaited::new(servers), Awaited::new(servers));
        let mut index = Index { ready, live, ..Index::default() };
        for (id, service) in &self.services {
            index.wakes.extend(service.wake.map(|at| (at, *id)));
            for (name, server) in &service.servers {
                index.count_server(ServerId { service: *id, server: *name }, server, Way::In);
            }
            let policy = self.policy.services.get(id);
            for (policy, site) in
                policy.into_iter().flat_map(|policy| policy.prefer.iter().map(move |site| (policy, *site)))
            {
                index.count_pool(service, policy, site, Way::In);
            }
        }
        for (engine, known) in &self.engines {
            for (name, seen) in &known.containers {
                index.learn_container(*engine, name, Some(seen));
            }
        }
        for (id, incident) in &self.incidents {
            index.learn_incident(*id, incident);
        }
        for (container, repair) in &self.repairs {
            index.learn_repair(container, repair, &self.policy);
        }
        let mut containers: BTreeMap<ContainerRef, Vec<ServerId>> = BTreeMap::new();
        for (id, service) in &self.policy.services {
            if let Some(group) = service.group {
                index.groups.entry(group).or_default().push(*id);
            }
            for (name, server) in &service.servers {
                index.slow_after = index.slow_after.into_iter().chain(server.slow_after).min();
                if let Some(container) = &server.container {
                    let users = containers.entry(container.clone()).or_default();
                    users.push(ServerId { service: *id, server: *name });
                }
            }
        }
        index.containers = containers.into_iter().collect();
        self.index = index;
    }

    /// When [`Event::Woke`](crate::domain::Event::Woke) is wanted.
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

    /// The incidents that were told in `mail` lately, and of which more is to be told by mail: those that are over, or those
    /// that last.
    pub fn told_in(&self, mail: MailKey, over: bool) -> impl Iterator<Item = IncidentId> {
        let of_mail = (mail, over, IncidentId(0))..=(mail, over, IncidentId(u64::MAX));
        self.index.mailed.range(of_mail).map(|(.., id)| *id)
    }

    /// The containers whose deadline has come, soonest first.
    pub fn due_repairs(&self, now: Boot) -> impl Iterator<Item = &ContainerRef> {
        self.index.repairs.iter().take_while(move |(at, _)| *at <= now).map(|(_, container)| container)
    }

    /// Our starts of containers at `site` after `after`, soonest first.
    pub fn starts_at(&self, site: SiteId, after: Boot) -> impl Iterator<Item = Boot> {
        let later = self.index.starts.range((Bound::Excluded((site, after)), Bound::Unbounded));
        let here = later.take_while(move |((at_site, _), _)| *at_site == site);
        here.flat_map(|((_, at), count)| std::iter::repeat_n(*at, *count as usize))
    }

    /// Whether a good `ready` probe of `server` that took `took` may be news. It is none, most of the time.
    pub fn is_awaited(&self, server: ServerId, took: Span) -> bool {
        self.index.slow_after.is_some_and(|bound| took > bound) || self.index.ready.may_be(server)
    }

    /// Whether a good `live` probe of `server` may be news.
    pub fn is_life_awaited(&self, server: ServerId) -> bool {
        self.index.live.may_be(server)
    }

    /// The services whose deadline has come, soonest first.
    pub fn due(&self, now: Boot) -> impl Iterator<Item = ServiceId> {
        self.index.wakes.iter().take_while(move |(at, _)| *at <= now).map(|(_, id)| *id)
    }

    /// The containers of an engine that depend on others.
    pub fn dependents(&self, engine: EngineId) -> impl Iterator<Item = ContainerRef> {
        let names = self.index.dependents.get(&engine).into_iter().flatten();
        names.map(move |name| ContainerRef { engine, name: name.clone() })
    }

    /// The servers that run in a container.
    pub fn servers_in(&self, container: &ContainerRef) -> &[ServerId] {
        self.index.containers.get(container).map_or(&[], Vec::as_slice)
    }

    /// How the pools of `site` stand.
    pub fn site_pools(&self, site: SiteId) -> SitePools {
        self.index.sites.get(&site).copied().unwrap_or_default()
    }

    /// The services that move together with a service, itself included; none if it moves alone.
    pub fn moving_with(&self, id: ServiceId) -> &[ServiceId] {
        let group = self.policy.services.get(&id).and_then(|policy| policy.group);
        group.map_or(&[], |group| self.members(group))
    }

    /// The services of a group.
    pub fn members(&self, group: GroupId) -> &[ServiceId] {
        self.index.groups.get(&group).map_or(&[], Vec::as_slice)
    }

    /// How many servers are not down, and how many of those fail on the way and only on the way.
    pub fn path_runs(&self) -> (u32, u32) {
        (self.index.not_down, self.index.path_runs)
    }
}
