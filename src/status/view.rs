//! What is known, as one document: the body of `GET /api/v1/status`, and the source of the page and of most metrics.
//!
//! Fields may be added; nothing is renamed or removed within version 1 of the API (docs/api.md).

mod upkeep;

pub use upkeep::{ContainerView, IncidentView, PeerView};

use crate::domain::Reason;
use crate::domain::event::{ConfigSeen, StoreHealth};
use crate::domain::explain::{Grade, explain, grade};
use crate::domain::failover;
use crate::domain::health::Health;
use crate::domain::id::{EngineId, Name, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::maintenance::{Admin, Maintenance};
use crate::domain::policy::{ServerPolicy, ServicePolicy};
use crate::domain::state::{Engine, Proxy, ProxyLink, Server, Service, State};
use crate::domain::time::{Boot, Now, Wall};
use crate::domain::witness::ProbeOutcome;
use crate::present;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Instant;

/// Everything, at one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct View {
    /// The daemon's version.
    pub version: String,
    /// Its machine.
    pub node: String,
    /// When it started: RFC 3339, UTC.
    pub started: String,
    /// When this was true.
    pub at: String,
    /// The worst service; at least degraded while HAProxy, Docker, the disk or the network is out of our reach, or there
    /// are `problems`.
    pub grade: Grade,
    /// The services, by name.
    pub services: Vec<ServiceView>,
    /// The HAProxy instances.
    pub proxies: Vec<ProxyView>,
    /// The Docker engines.
    pub engines: Vec<EngineView>,
    /// The containers that are looked after.
    #[serde(default)]
    pub containers: Vec<ContainerView>,
    /// What is wrong, the oldest first.
    #[serde(default)]
    pub incidents: Vec<IncidentView>,
    /// The Alertmanagers.
    #[serde(default)]
    pub alertmanagers: Vec<PeerView>,
    /// Whether what is decided reaches the disk in time.
    pub store: StoreHealth,
    /// No probe reaches anything anywhere: nothing is concluded.
    pub cut_off: bool,
    /// What is wrong with supervisor's own footing: settings that were refused, listeners that cannot be opened.
    pub problems: Vec<String>,
    /// When it was made, for `/health` of this process only.
    #[serde(skip, default = "Instant::now")]
    pub made: Instant,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceId,
    /// How it is.
    pub grade: Grade,
    /// The site that its traffic goes to; none until HAProxy was seen.
    pub serving: Option<SiteId>,
    /// The site where it should be served.
    pub preferred: Option<SiteId>,
    /// The generation of its route. An order can name it as `seen`.
    pub generation: u64,
    /// Since when it is served there: RFC 3339, UTC.
    pub since: Option<String>,
    /// The same as a length of time, in milliseconds.
    pub since_ms: Option<u64>,
    /// Who moved it there, if a person did.
    pub by: Option<String>,
    /// The HAProxy instances that have not confirmed the route yet.
    pub pending: Vec<ProxyId>,
    /// A person's override.
    #[serde(rename = "override")]
    pub preference: Option<OverrideView>,
    /// Grows with each order that takes a server of it out of service, or puts one back.
    #[serde(default)]
    pub out_generation: u64,
    /// The most telling of `reasons`, in words.
    pub reason: String,
    /// Everything that stands, the most important first.
    pub reasons: Vec<ReasonView>,
    /// Its servers, by name.
    pub servers: Vec<ServerView>,
}

/// A person's override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideView {
    /// The preferred site.
    pub site: SiteId,
    /// Who wants it.
    pub by: String,
    /// Why.
    pub because: Option<String>,
    /// Since when.
    pub at: String,
    /// Ordered onto a site that was not healthy.
    pub forced: bool,
}

/// A reason: code, words, and its data beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// The stable code.
    pub code: String,
    /// The sentence.
    pub words: String,
    /// What the sentence is made of. A map, so that an older reader understands the codes of a newer daemon.
    #[serde(flatten)]
    pub data: serde_json::Map<String, serde_json::Value>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its name.
    pub name: Name,
    /// Where it stands.
    pub site: SiteId,
    /// `up`, `down` or `unknown`.
    pub health: String,
    /// `up`, `down` or `unknown`: whether its process answers its `live` probes. Moves no traffic.
    #[serde(default)]
    pub life: String,
    /// For how long, in milliseconds; none while unknown.
    pub since_ms: Option<u64>,
    /// Why it is down, or what counts against it: a stable code.
    pub cause: Option<String>,
    /// What the last probe found, and when: "200 in 3 ms, 120 ms ago".
    pub evidence: Option<String>,
    /// What Docker says about its container, if it has one that is watched.
    pub container: Option<String>,
    /// `ready`, `drain` or `maint`: whether it is in service, as far as people have ordered.
    #[serde(default = "ready")]
    pub admin: String,
    /// The order that took it out.
    #[serde(default)]
    pub out: Option<OutView>,
    /// The HAProxy instances that do not show it so yet.
    #[serde(default)]
    pub pending: Vec<ProxyId>,
}

fn ready() -> String {
    Admin::Ready.to_string()
}

/// An order that took a server out of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutView {
    /// Who wants it.
    pub by: String,
    /// Why.
    pub because: Option<String>,
    /// Since when: RFC 3339, UTC.
    pub at: String,
    /// Until when; none: until a person puts it back.
    pub until: Option<String>,
    /// The same as a length of time, in milliseconds.
    pub left_ms: Option<u64>,
}

/// One HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyView {
    /// Its name.
    pub name: ProxyId,
    /// How it is reached.
    pub link: Link,
    /// The worker that answered last.
    pub pid: Option<u32>,
    /// The supervisor that owns it, if that is another one.
    pub owner: Option<String>,
    /// For how long it has been lost, in milliseconds.
    pub lost_ms: Option<u64>,
    /// How its configuration stands against the settings.
    #[serde(default)]
    pub config: ConfigView,
}

/// How an HAProxy's configuration stands against the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfigView {
    /// `untried`, `in_force`, `held`, `refused`, `unproven` or `contested`; empty from a daemon that does not tell.
    pub state: String,
    /// The revision that it runs, where that is known.
    pub revision: Option<String>,
    /// In words, where it is not as the settings have it.
    pub words: Option<String>,
}

/// How an HAProxy is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Not looked at yet.
    Unseen,
    /// It answers.
    Ours,
    /// It answers, and belongs to another supervisor.
    Foreign,
    /// It does not answer.
    Lost,
}

/// One Docker engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineView {
    /// Its name.
    pub name: EngineId,
    /// Whether it answers; none: not tried yet.
    pub up: Option<bool>,
}

/// What the last probe of a server found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastProbe {
    /// How it ended.
    pub outcome: ProbeOutcome,
    /// When.
    pub ended: Boot,
}

/// What the view says about the daemon itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Its version.
    pub version: String,
    /// The machine's name.
    pub node: String,
    /// When it started.
    pub started: Wall,
    /// What is wrong with its settings and listeners, in words; empty when nothing is.
    pub problems: Vec<String>,
}

impl View {
    /// The view of `state` at `now`.
    pub fn of(state: &State, now: Now, probes: &BTreeMap<ServerId, LastProbe>, meta: &Meta) -> View {
        let services: Vec<ServiceView> = state
            .services
            .keys()
            .filter_map(|id| {
                let (service, policy) = state.service(*id)?;
                Some(service_view(state, *id, service, policy, probes, now))
            })
            .collect();
        let proxies: Vec<ProxyView> =
            state.proxies.iter().map(|(id, proxy)| proxy_view(*id, proxy, now)).collect();
        let engines: Vec<EngineView> =
            state.engines.iter().map(|(id, engine)| engine_view(*id, engine)).collect();
        let refused = |proxy: &Proxy| {
            matches!(
                proxy.config,
                ConfigSeen::Refused { .. } | ConfigSeen::Unproven { .. } | ConfigSeen::Contested { .. }
            )
        };
        let out_of_reach = proxies.iter().any(|proxy| matches!(proxy.link, Link::Lost | Link::Foreign))
            || state.proxies.values().any(refused)
            || engines.iter().any(|engine| engine.up == Some(false))
            || state.store == StoreHealth::Degraded
            || state.cut_off
            || !meta.problems.is_empty();
        let floor = if out_of_reach { Grade::Degraded } else { Grade::Well };
        View {
            version: meta.version.clone(),
            node: meta.node.clone(),
            started: present::time(meta.started),
            at: present::time(now.wall),
            grade: services.iter().map(|service| service.grade).max().unwrap_or(Grade::Well).max(floor),
            services,
            proxies,
            engines,
            containers: upkeep::containers(state, now),
            incidents: upkeep::incidents(state, now),
            alertmanagers: upkeep::peers(state),
            store: state.store,
            cut_off: state.cut_off,
            problems: meta.problems.clone(),
            made: Instant::now(),
        }
    }

    /// The service of that name.
    pub fn service(&self, name: ServiceId) -> Option<&ServiceView> {
        self.services.iter().find(|service| service.name == name)
    }
}

fn service_view(
    state: &State,
    id: ServiceId,
    service: &Service,
    policy: &ServicePolicy,
    probes: &BTreeMap<ServerId, LastProbe>,
    now: Now,
) -> ServiceView {
    let reasons = explain(state, id, now);
    let route = service.placement.route();
    let servers = service.servers.iter().filter_map(|(name, server)| {
        let wanted = policy.servers.get(name)?;
        let last = probes.get(&ServerId { service: id, server: *name });
        Some(server_view(state, service, (*name, server), wanted, last, now))
    });
    ServiceView {
        name: id,
        grade: grade(state, id, now),
        serving: service.placement.site(),
        preferred: failover::order(service, policy).next(),
        generation: route.map_or(service.generation, |route| route.generation),
        since: route.map(|route| present::time(route.since_wall)),
        since_ms: route.map(|route| now.boot.since(route.since).0),
        by: route.and_then(|route| route.by.as_ref()).map(present::operator),
        pending: route.map(|route| route.pending.keys().copied().collect()).unwrap_or_default(),
        preference: service.preference.as_ref().map(|over| OverrideView {
            site: over.site,
            by: present::operator(&over.by),
            because: over.because.clone(),
            at: present::time(over.at),
            forced: over.forced,
        }),
        out_generation: service.out_generation,
        reason: headline(&reasons),
        reasons: reasons.iter().map(ReasonView::of).collect(),
        servers: servers.collect(),
    }
}

/// The reason to show where there is room for one. Where it is served stands beside it already, so: why.
fn headline(reasons: &[Reason]) -> String {
    let is_where = |reason: &Reason| matches!(reason, Reason::Serving { .. } | Reason::Unserved { .. });
    let why = reasons.iter().find(|reason| !is_where(reason));
    why.or(reasons.first()).map(present::reason).unwrap_or_default()
}

fn server_view(
    state: &State,
    service: &Service,
    (name, server): (Name, &Server),
    wanted: &ServerPolicy,
    last: Option<&LastProbe>,
    now: Now,
) -> ServerView {
    let (since, cause) = match server.health {
        Health::Unknown { bad, .. } => (None, bad.map(|run| run.cause)),
        Health::Up { since, bad } => (Some(since), bad.map(|run| run.cause)),
        Health::Down { since, cause, .. } => (Some(since), Some(cause)),
    };
    let container = wanted.container.as_ref().map(|container| upkeep::status(state, container));
    ServerView {
        name,
        site: wanted.site,
        health: server.health.word().to_owned(),
        life: server.life.word().to_owned(),
        since_ms: since.map(|since| now.boot.since(since).0),
        cause: cause.map(|cause| cause.code().to_owned()),
        evidence: last
            .map(|last| format!("{}, {} ago", present::evidence(last.outcome), now.boot.since(last.ended))),
        container,
        admin: server.admin.to_string(),
        out: service.maintenance.get(&name).map(|held| out_view(held, now)),
        pending: service.out.get(&name).into_iter().flat_map(|out| out.pending.keys().copied()).collect(),
    }
}

fn out_view(held: &Maintenance, now: Now) -> OutView {
    OutView {
        by: present::operator(&held.by),
        because: held.because.clone(),
        at: present::time(held.at),
        until: held.until.map(|until| present::time(now.wall_at(until))),
        left_ms: held.until.map(|until| until.since(now.boot).0),
    }
}

fn proxy_view(id: ProxyId, proxy: &Proxy, now: Now) -> ProxyView {
    let (link, owner, lost) = match &proxy.link {
        ProxyLink::Unseen => (Link::Unseen, None, None),
        ProxyLink::Ours => (Link::Ours, None, None),
        ProxyLink::Foreign { owner } => (Link::Foreign, Some(owner.clone()), None),
        ProxyLink::Lost { since } => (Link::Lost, None, Some(now.boot.since(*since).0)),
    };
    let pid = proxy.identity.map(|identity| identity.pid);
    ProxyView { name: id, link, pid, owner, lost_ms: lost, config: ConfigView::of(id, &proxy.config) }
}

impl ConfigView {
    /// Of what was seen of it.
    pub fn of(proxy: ProxyId, config: &ConfigSeen) -> ConfigView {
        let (state, revision, reason) = match config.clone() {
            ConfigSeen::Untried => ("untried", None, None),
            ConfigSeen::InForce { revision } => ("in_force", Some(revision), None),
            ConfigSeen::Held { revision, instead_of, by, because } => {
                let reason =
                    Reason::ConfigHeld { proxy, revision: revision.clone(), instead_of, by, because };
                ("held", Some(revision), Some(reason))
            }
            ConfigSeen::Refused { message } => {
                ("refused", None, Some(Reason::ConfigRefused { proxy, message }))
            }
            ConfigSeen::Contested { message } => {
                ("contested", None, Some(Reason::ConfigContested { proxy, message }))
            }
            ConfigSeen::Unproven { message } => {
                ("unproven", None, Some(Reason::ConfigUnproven { proxy, message }))
            }
        };
        ConfigView { state: state.to_owned(), revision, words: reason.as_ref().map(present::reason) }
    }
}

fn engine_view(id: EngineId, engine: &Engine) -> EngineView {
    EngineView { name: id, up: engine.found }
}

impl ReasonView {
    fn of(reason: &Reason) -> ReasonView {
        let mut data = match serde_json::to_value(reason) {
            Ok(serde_json::Value::Object(data)) => data,
            // A reason is a tagged struct, hence always an object; without its data the words still say it.
            Ok(_) | Err(_) => serde_json::Map::new(),
        };
        data.remove("code");
        ReasonView { code: reason.code().to_owned(), words: present::reason(reason), data }
    }
}
