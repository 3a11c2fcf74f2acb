//! What is decided of traffic: where it goes, what is freed, who is out of service, and why it stays.

use super::Draft;
use crate::domain::action::{Action, Evacuation};
use crate::domain::change::Change;
use crate::domain::command::Operator;
use crate::domain::contest::Contest;
use crate::domain::failover::{Group, Override, Plan, Standing, Stay, Why, plan, standing};
use crate::domain::health::Health;
use crate::domain::id::{Name, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::maintenance::{Admin, Maintenance, Out};
use crate::domain::policy::ServicePolicy;
use crate::domain::reason::Reason;
use crate::domain::state::{Pending, Placement, ProxyLink, Route, Server, Service};
use crate::domain::time::Span;
use crate::domain::witness::Cause;
use std::collections::{BTreeMap, BTreeSet};

/// A group that is brought together may be due to return as one; more moves than these follow from nothing.
const MOVES_MAX: usize = 3;

impl<'a> Draft<'a> {
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
        // In the order of their names, whichever of them is asked for: all of them have one plan.
        let mut all = self.group_of(id).iter().filter_map(|member| self.service(*member));
        Some(Group::of(all.next().unwrap_or(alone), all.collect()))
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
        for member in &group {
            self.end_force(*member);
        }
        let mut planned = self.plan(id);
        for _ in 0..MOVES_MAX {
            let Some(Plan::Move { to, why }) = planned else { break };
            for member in &group {
                self.relocate(*member, to, why);
            }
            // The new place may have something to wait for, too: a return, which may be due already.
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
            self.tell(Reason::PutBack { server, by: None, because: None });
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

    /// A site that was forced on us and is healthy now is a preference like any other: escape is on again.
    fn end_force(&mut self, id: ServiceId) {
        let Some((service, _)) = self.service(id) else { return };
        let Some(over) = service.preference.clone().filter(|over| over.forced) else { return };
        if self.group(id).is_some_and(|group| group.standing(over.site).is_healthy()) {
            let preference = Some(Override { forced: false, ..over });
            self.push(Change::Preference { service: id, preference });
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
        let rests = service.contests.iter().filter(|(_, contest)| contest.rests_until.is_some());
        let over: Vec<(ProxyId, Contest)> = rests.map(|(proxy, contest)| (*proxy, contest.over())).collect();
        self.push(Change::Placed { service: id, placement: Placement::On(route) });
        for (proxy, contest) in over {
            self.push(Change::Contested { service: id, proxy, contest: Some(contest) });
        }
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
