//! Everything supervisor knows, and the one way it changes.
//!
//! The state is plain data: it is stored as a snapshot plus the changes since. The [`Index`] beside it is derived, is not
//! stored, and keeps the cost of an event independent of the number of services.

mod apply;
mod awaited;
mod carry;
mod index;

use super::action::{ActionId, Desired, DesiredRoute, DesiredServer, Pace};
use super::by_name::ByName;
use super::change::Change;
use super::command::{Operator, Pause, Scope};
use super::contest::Contest;
use super::damping::Damped;
use super::delivery::Peer;
use super::event::{ConfigSeen, ContainerSeen, ContainerStatus, ProxyIdentity, StoreHealth};
use super::failover::{Group, Override, Plan, plan};
use super::health::Health;
use super::id::{ContainerName, EngineId, Name, PeerId, ProxyId, ServerId, ServiceId, SiteId};
use super::incident::{Incident, IncidentId};
use super::maintenance::{Admin, Maintenance, Out};
use super::policy::{ContainerRef, Policy, ServicePolicy};
use super::repair::depends::Containers;
use super::repair::{Phase, Repair};
use super::time::{Boot, Now, Wall};
pub use apply::FAILBACKS_MAX;
use index::Index;
pub use index::SitePools;
use litemap::LiteMap;
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
    pub services: ByName<ServiceId, Service>,
    /// The HAProxy instances.
    pub proxies: BTreeMap<ProxyId, Proxy>,
    /// The Docker engines.
    pub engines: BTreeMap<EngineId, Engine>,
    /// How the healing of each container of the policy stands.
    #[serde(default)]
    pub repairs: ByName<ContainerRef, Repair>,
    /// What people have paused.
    #[serde(default)]
    pub pauses: BTreeMap<Scope, Pause>,
    /// What is wrong, and what was until it is told.
    #[serde(default)]
    pub incidents: BTreeMap<IncidentId, Incident>,
    /// The Alertmanagers.
    #[serde(default)]
    pub peers: BTreeMap<PeerId, Peer>,
    /// When mails were decided lately, oldest first; at most [`MAILS_MAX`](super::delivery::MAILS_MAX).
    #[serde(default)]
    pub mails: Vec<Boot>,
    /// When this process began to watch.
    pub began: Boot,
    /// Every server of every site fails on the way: nothing is concluded from that.
    pub cut_off: bool,
    /// Whether decisions reach the disk in time.
    pub store: StoreHealth,
    /// When something was last decided that must not be, if ever.
    #[serde(default)]
    pub breached: Option<Boot>,
    /// When a probe could last not be made for want of something of ours, if ever; noted now and then.
    #[serde(default)]
    pub untried: Option<Boot>,
    /// The number of the next guarded action.
    pub next_action: u64,
    #[serde(skip)]
    index: Index,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Where its traffic goes.
    pub placement: Placement,
    /// Its servers.
    pub servers: LiteMap<Name, Server>,
    /// A person's preference.
    pub preference: Option<Override>,
    /// The servers that people have taken out of service.
    #[serde(default)]
    pub maintenance: BTreeMap<Name, Maintenance>,
    /// The servers that are out of service in HAProxy because of us, or may be. Some of them are no longer in the settings,
    /// but in the configuration of an HAProxy still.
    #[serde(default)]
    pub out: BTreeMap<Name, Out>,
    /// Grows with each order about a server; the last one given out.
    #[serde(default)]
    pub out_generation: u64,
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
    /// The HAProxy instances in which somebody else has changed its route lately.
    #[serde(default)]
    pub contests: BTreeMap<ProxyId, Contest>,
}

/// One server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Server {
    /// The verdict.
    pub health: Health,
    /// The verdict of its `live` probes: whether its process does anything at all.
    #[serde(default)]
    pub life: Health,
    /// What a `live` probe finds that began before this says nothing: its container was started or thawed then.
    #[serde(default)]
    pub lives_from: Option<Boot>,
    /// Whether it is in service. Derived from [`Service::maintenance`].
    #[serde(default)]
    pub admin: Admin,
    /// How often it has gone down lately.
    #[serde(default)]
    pub flaps: Damped,
    /// How often it has answered badly or slowly lately, while it was up.
    #[serde(default)]
    pub strain: Damped,
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

/// A route, or an order about a server, that an HAProxy has not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Since then.
    pub since: Boot,
    /// It should have been long ago; that was told.
    pub late: bool,
    /// The HAProxy was away meanwhile, and answers again since then: what it was not told in between is made up for.
    #[serde(default)]
    pub back: Option<Boot>,
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

impl Service {
    /// Whether every HAProxy that has it answers from another site than the route's: by its own safety net, clients are served.
    pub fn is_served_elsewhere(&self, policy: &ServicePolicy) -> bool {
        let mut proxies = policy.proxies.iter().peekable();
        proxies.peek().is_some() && proxies.all(|proxy| self.served_from.contains_key(proxy))
    }

    /// When time alone changes something about it, its plan excepted.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Boot> {
        let preference = self.preference.iter().map(Override::wake);
        let maintenance = self.maintenance.values().filter_map(|held| held.until);
        let damped = self.servers.values().flat_map(|server| [server.flaps.until, server.strain.until]);
        preference.chain(maintenance).chain(damped.flatten())
    }
}

impl Pending {
    /// Wanted since then.
    pub fn since(since: Boot) -> Pending {
        Pending { since, late: false, back: None }
    }

    /// The time that an HAProxy may take runs from then: while it was away it could take nothing.
    pub fn runs_from(&self) -> Boot {
        self.back.unwrap_or(self.since)
    }

    fn shift(&mut self, by: i64) {
        self.since = self.since.shift(by);
        self.back = self.back.map(|at| at.shift(by));
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
        // What is one service's comes in a row, mostly: it is looked for once.
        for row in changes.chunk_by(|one, next| one.service() == next.service()) {
            match row.first().and_then(Change::service) {
                Some(id) => self.apply_to(id, row),
                None => row.iter().for_each(|change| self.apply_one(change)),
            }
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

    /// The services that `scope` is about.
    pub fn services_in(&self, scope: Scope) -> Vec<ServiceId> {
        match scope {
            Scope::Service(id) => self.services.contains_key(&id).then_some(id).into_iter().collect(),
            Scope::All | Scope::Site(_) => {
                let about = self.policy.services.iter().filter(|(id, policy)| scope.is_about(**id, policy));
                about.map(|(id, _)| *id).collect()
            }
        }
    }

    /// The pause that keeps a container from being healed, if one does.
    pub fn pause_of(&self, container: &ContainerRef) -> Option<Scope> {
        self.pauses.keys().copied().find(|scope| self.holds_back(*scope, container))
    }

    /// Whether a pause of `scope` keeps a container from being healed.
    pub fn holds_back(&self, scope: Scope, container: &ContainerRef) -> bool {
        match scope {
            Scope::All => true,
            Scope::Service(service) => {
                self.servers_in(container).iter().any(|server| server.service == service)
            }
            Scope::Site(paused) => {
                let policy = self.policy.containers.get(container);
                policy.is_some_and(|policy| policy.site == Some(paused))
            }
        }
    }

    /// The watched containers that a pause of `scope` keeps from being healed.
    pub fn held_back(&self, scope: Scope) -> Vec<ContainerRef> {
        match scope {
            Scope::Service(service) => {
                let servers =
                    self.policy.services.get(&service).into_iter().flat_map(|of| of.servers.values());
                let all: BTreeSet<&ContainerRef> = servers.filter_map(|of| of.container.as_ref()).collect();
                all.into_iter().cloned().collect()
            }
            Scope::All | Scope::Site(_) => {
                let all = self.repairs.keys().filter(|container| self.holds_back(scope, container));
                all.cloned().collect()
            }
        }
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

    /// A service and its policy.
    pub fn service(&self, id: ServiceId) -> Option<(&Service, &ServicePolicy)> {
        Some((self.services.get(&id)?, self.policy.services.get(&id)?))
    }

    /// A service and those that move with it.
    pub fn group(&self, id: ServiceId) -> Option<Group<'_>> {
        let alone = self.service(id)?;
        let mut all = self.moving_with(id).iter().filter_map(|member| self.service(*member));
        Some(Group::of(all.next().unwrap_or(alone), all.collect()))
    }

    /// Where their traffic belongs.
    pub fn plan(&self, id: ServiceId, now: Now) -> Option<Plan> {
        Some(plan(&self.group(id)?, now))
    }

    /// A server.
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        self.services.get(&id.service)?.servers.get(&id.server)
    }

    /// The HAProxy instances that have not confirmed `route` and do not answer: they go on as before.
    pub fn not_hearing<'a>(&'a self, route: &'a Route) -> impl Iterator<Item = ProxyId> + 'a {
        let lost = |proxy: &ProxyId| {
            self.proxies.get(proxy).is_some_and(|known| matches!(known.link, ProxyLink::Lost { .. }))
        };
        route.pending.keys().copied().filter(lost)
    }

    /// Whether no HAProxy has confirmed the service's route, and none of them answers: nobody knows that traffic is there.
    pub fn nobody_hears(&self, id: ServiceId) -> bool {
        let Some((service, policy)) = self.service(id) else { return false };
        let waiting = service.placement.route().map_or(0, |route| self.not_hearing(route).count());
        waiting > 0 && waiting == policy.proxies.len()
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
            // A route that others change again and again is left as it is.
            let contested = service.contests.get(&proxy).is_some_and(|contest| contest.rests_until.is_some());
            if let Placement::On(route) = &service.placement
                && wanted.has_site(route.site)
                && !contested
            {
                let route = DesiredRoute { site: route.site, generation: route.generation };
                desired.routes.insert(*id, route);
            }
            let down = service.servers.iter().filter(|(_, server)| server.health.is_down());
            desired
                .down
                .extend(down.map(|(name, server)| (ServerId { service: *id, server: *name }, server.epoch)));
            // What an HAProxy has shown to be back in service is nobody's business there any more.
            let out = service
                .out
                .iter()
                .filter(|(_, out)| out.admin != Admin::Ready || out.pending.contains_key(&proxy));
            desired.servers.extend(out.filter_map(|(name, out)| {
                let site = wanted.servers.get(name)?.site;
                let server = DesiredServer { site, admin: out.admin, ours: out.ours.clone() };
                Some((ServerId { service: *id, server: *name }, server))
            }));
        }
        desired
    }
}

impl Containers for State {
    fn seen(&self, container: &ContainerRef) -> Option<&ContainerSeen> {
        self.engines.get(&container.engine)?.containers.get(&container.name)
    }

    fn repair(&self, container: &ContainerRef) -> Option<&Repair> {
        self.repairs.get(container)
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

    /// Whether something speaks against it although it is up: it goes up and down, answers badly or slowly, or has begun
    /// to fail on the way.
    pub fn is_doubtful(&self, now: Boot) -> bool {
        self.health.path_run().is_some() || self.flaps.is_troubled(now) || self.strain.is_troubled(now)
    }

    /// Whether a good `ready` probe would change anything about it: not if it is up, and nothing is counted or asked.
    pub fn is_awaited(&self) -> bool {
        !matches!(self.health, Health::Up { bad: None, .. }) || self.asked.is_some()
    }

    /// Whether a good `live` probe would change anything about it: not if it lives, and nothing is counted.
    pub fn is_life_awaited(&self) -> bool {
        !matches!(self.life, Health::Up { bad: None, .. })
    }

    /// Whether it is up, and nothing makes us doubt that we reach it.
    pub fn is_reached(&self) -> bool {
        self.health.is_up() && self.asked.is_none() && self.health.path_run().is_none()
    }
}
