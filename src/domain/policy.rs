//! What the operator wants, as far as the core needs to know it.
//!
//! Made by `settings` from the validated file; a part of the [`State`](super::State), because a reload is an event like
//! any other. What only the edges need (URLs, sockets, TLS, listen addresses) never enters.

use super::by_name::ByName;
use super::damping::Damper;
use super::delivery::AlertPolicy;
use super::event::ContainerSeen;
use super::id::{ContainerName, EngineId, GroupId, Name, ProxyId, ServerId, ServiceId, SiteId};
use super::time::Span;
use super::window::Hours;
use litemap::LiteMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Everything the core is told by the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// The services, by name.
    pub services: ByName<ServiceId, ServicePolicy>,
    /// The HAProxy instances that route them.
    pub proxies: BTreeSet<ProxyId>,
    /// Those of them that run a configuration of somebody else's: their servers are not ours to take out.
    #[serde(default)]
    pub external: BTreeSet<ProxyId>,
    /// The Docker engines whose events are evidence.
    pub engines: BTreeSet<EngineId>,
    /// The containers that are kept running: those of servers, of HAProxy instances, and others that the settings name.
    #[serde(default)]
    pub containers: ByName<ContainerRef, ContainerPolicy>,
    /// How often containers are started again.
    #[serde(default)]
    pub heal: HealLimits,
    /// How people are told.
    #[serde(default)]
    pub alerts: AlertPolicy,
    /// After a start, only positive hard evidence acts for this long: our first timeouts say more about us than about
    /// them.
    pub startup_grace: Span,
    /// A probe result that is later than this, against its plan or on its way to us, says nothing: we were frozen.
    pub lateness: Span,
}

/// How one service is kept reachable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePolicy {
    /// The HAProxy instances that route it; at least one.
    pub proxies: BTreeSet<ProxyId>,
    /// Its sites, best first; at least one, none twice, each with a server.
    pub prefer: Vec<SiteId>,
    /// Its servers, by name.
    pub servers: LiteMap<Name, ServerPolicy>,
    /// A stateful service is never moved but by a person: two sites cannot both be right about its data.
    pub stateful: bool,
    /// The services of the same group move together; all of them have the same sites in the same order, and the same
    /// rules of failback.
    #[serde(default)]
    pub group: Option<GroupId>,
    /// A pool does the service's work from so many servers up; at least 1.
    #[serde(default = "one")]
    pub min_servers: u16,
    /// How long a pool may have fewer before its traffic looks for a better one: a restart is over by then.
    #[serde(default)]
    pub thin_grace: Span,
    /// A server that came back gets its share of the traffic only by and by, within this; a site is not returned to
    /// before.
    #[serde(default)]
    pub slow_start: Span,
    /// Which falls of a server are too many.
    #[serde(default)]
    pub flapping: Damper,
    /// Where traffic is when every site is down.
    #[serde(default)]
    pub all_down: AllDown,
    /// When traffic returns to a better site.
    pub failback: FailbackPolicy,
    /// How old HAProxy's check of a server may be when we read it: its interval plus its timeout. So long a run of path
    /// errors waits for HAProxy to contradict it.
    #[serde(default)]
    pub check_age: Span,
}

/// One server of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerPolicy {
    /// Where it stands.
    pub site: SiteId,
    /// The container it runs in, if Docker is to be a witness.
    pub container: Option<ContainerRef>,
    /// Good probes in a row until it is up; at least 1.
    pub rise: u16,
    /// Bad probes in a row until it is down; at least 1.
    pub fall: u16,
    /// Bad `live` probes in a row until its process counts as dead; at least 1.
    #[serde(default = "one")]
    pub live_fall: u16,
    /// A good answer that takes longer counts as slow; none: no answer does.
    #[serde(default)]
    pub slow_after: Option<Span>,
    /// Which bad and slow answers of a server that is up are too many.
    #[serde(default)]
    pub strain: Damper,
}

/// A container on an engine: `engine/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerRef {
    /// The engine that runs it.
    pub engine: EngineId,
    /// Its name there.
    pub name: ContainerName,
}

/// How one container is kept running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPolicy {
    /// What is done when it ended; none: as its label `supervisor.heal` says, else [`HealMode::Auto`].
    pub heal: Option<HealMode>,
    /// What is done when a person killed it.
    pub on_kill: OnKill,
    /// Where it stands: whose budget its starts count towards.
    pub site: Option<SiteId>,
    /// How long after its start it is not restarted, whatever its probes say.
    pub grace: Span,
    /// What runs in it.
    pub role: Role,
}

impl ContainerPolicy {
    /// What the label `supervisor.heal` of a container says, where the settings leave it to the label and nobody understands
    /// that.
    pub fn label_unknown<'a>(&self, seen: &'a ContainerSeen) -> Option<&'a str> {
        seen.facts.heal_unknown.as_deref().filter(|_| self.heal.is_none())
    }
}

/// Whether a container that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealMode {
    /// When it crashed, or its engine went down; not when a person ended it, or when nobody knows.
    Auto,
    /// Also when nobody knows who ended it, and when it ended by itself without an error.
    Always,
    /// No; it is told.
    Notify,
    /// No.
    Never,
}

/// What a bare `docker kill` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnKill {
    /// A person wants it ended, as with `docker stop`.
    Respect,
    /// It counts as a crash.
    Heal,
}

/// What runs in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Servers of ours: restarted when they are dead, too.
    Servers,
    /// An HAProxy: started when it ended; never restarted while it runs, because all traffic goes through it.
    Proxy(ProxyId),
    /// Anything else.
    Other,
}

/// How often containers are started again; and how slowly.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HealLimits {
    /// At most so many starts and restarts of one container within `window`; then a person is asked.
    pub restarts: u16,
    /// At most so many starts and restarts at one site within `window`; the next one waits.
    pub site_restarts: u16,
    /// A container that ran for so long begins to count anew.
    pub window: Span,
    /// The pause before the second start in a row; doubled each time. Before the first there is none.
    pub backoff_first: Span,
    /// The longest such pause.
    pub backoff_longest: Span,
    /// After a container's budget is spent, it is tried again this slowly.
    pub slow_retry: Span,
}

/// When traffic returns by itself to a site that is preferred to the serving one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailbackPolicy {
    /// Whether it does at all.
    pub mode: FailbackMode,
    /// How long the better site must have been healthy without a break.
    pub after: Span,
    /// How long after a failover no failback happens, however healthy the better site is. Never delays an escape.
    pub hold_down: Span,
    /// At most this many automatic failbacks within `limit_window`; then traffic stays where it is served and a person is
    /// asked.
    pub limit: u16,
    /// The window of `limit`.
    pub limit_window: Span,
}

/// Who decides about a failback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailbackMode {
    /// Supervisor, after the stable time and the hold-down.
    Auto,
    /// The same, but only in these hours.
    Hours(Hours),
    /// A person, with `supervisor failback`.
    Manual,
}

/// Where traffic is when every site is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AllDown {
    /// Where it was.
    #[default]
    Keep,
    /// At the site that is preferred: where people look first, and bring back first.
    First,
}

/// A state that was stored before the key existed is replaced by the settings' policy at the start.
fn one() -> u16 {
    1
}

impl fmt::Display for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.engine, self.name)
    }
}

impl fmt::Debug for ContainerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// As one text, so that it can be a key in JSON.
impl Serialize for ContainerRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContainerRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<ContainerRef, D::Error> {
        use serde::de::Error;
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let (engine, name) =
            text.split_once('/').ok_or_else(|| D::Error::custom("a container is engine/name"))?;
        let engine = engine.parse().map_err(D::Error::custom)?;
        Ok(ContainerRef { engine, name: ContainerName(name.to_owned()) })
    }
}

impl ServerPolicy {
    /// A server at `site` that is down after two bad probes and up after two good ones, in no container.
    pub fn at(site: SiteId) -> ServerPolicy {
        ServerPolicy {
            site,
            container: None,
            rise: 2,
            fall: 2,
            live_fall: 3,
            slow_after: None,
            strain: Damper::default(),
        }
    }
}

impl FailbackPolicy {
    /// By itself, a minute after the better site is healthy, five after the last failover, twice in ten at most.
    pub fn auto() -> FailbackPolicy {
        FailbackPolicy {
            mode: FailbackMode::Auto,
            after: Span::seconds(60),
            hold_down: Span::seconds(300),
            limit: 2,
            limit_window: Span::seconds(600),
        }
    }
}

impl Policy {
    /// The HAProxy instances of a service whose servers are ours to take out and to put back.
    pub fn managed<'a>(&'a self, service: &'a ServicePolicy) -> impl Iterator<Item = ProxyId> + 'a {
        service.proxies.difference(&self.external).copied()
    }

    /// The containers in which an HAProxy runs.
    pub fn containers_running(&self, proxy: ProxyId) -> impl Iterator<Item = &ContainerRef> {
        let role = Role::Proxy(proxy);
        self.containers.iter().filter(move |(_, policy)| policy.role == role).map(|(container, _)| container)
    }

    /// The policy of one server, if there is such a server.
    pub fn server(&self, id: ServerId) -> Option<&ServerPolicy> {
        self.services.get(&id.service)?.servers.get(&id.server)
    }
}

impl ServicePolicy {
    /// A service that moves alone, and needs one server of a pool; `prefer` and `servers` are as the fields want them.
    pub fn of(
        proxies: BTreeSet<ProxyId>,
        prefer: Vec<SiteId>,
        servers: impl IntoIterator<Item = (Name, ServerPolicy)>,
    ) -> ServicePolicy {
        ServicePolicy {
            proxies,
            prefer,
            servers: servers.into_iter().collect(),
            stateful: false,
            group: None,
            min_servers: 1,
            thin_grace: Span::ZERO,
            slow_start: Span::ZERO,
            flapping: Damper::default(),
            all_down: AllDown::Keep,
            failback: FailbackPolicy::auto(),
            check_age: Span::seconds(2),
        }
    }

    /// The names of the servers at `site`.
    pub fn servers_at(&self, site: SiteId) -> impl Iterator<Item = Name> {
        self.servers.iter().filter(move |(_, server)| server.site == site).map(|(name, _)| *name)
    }

    /// How many servers of a pool must be up for it to do the service's work.
    pub fn needed(&self) -> usize {
        usize::from(self.min_servers.max(1))
    }

    /// Whether the service has a pool at `site`.
    pub fn has_site(&self, site: SiteId) -> bool {
        self.prefer.contains(&site)
    }
}
