//! What the operator wants, as far as the core needs to know it.
//!
//! Made by `settings` from the validated file; a part of the [`State`](super::State), because a reload is an event like
//! any other. What only the edges need (URLs, sockets, TLS, listen addresses) never enters.

use super::delivery::AlertPolicy;
use super::id::{ContainerName, EngineId, Name, ProxyId, ServerId, ServiceId, SiteId};
use super::time::Span;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Everything the core is told by the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// The services, by name.
    pub services: BTreeMap<ServiceId, ServicePolicy>,
    /// The HAProxy instances that route them.
    pub proxies: BTreeSet<ProxyId>,
    /// The Docker engines whose events are evidence.
    pub engines: BTreeSet<EngineId>,
    /// The containers that are kept running: those of servers, of HAProxy instances, and others that the settings name.
    #[serde(default)]
    pub containers: BTreeMap<ContainerRef, ContainerPolicy>,
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
    pub servers: BTreeMap<Name, ServerPolicy>,
    /// A stateful service is never moved but by a person: two sites cannot both be right about its data.
    pub stateful: bool,
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
}

/// A container on an engine: `engine/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailbackMode {
    /// Supervisor, after the stable time and the hold-down.
    Auto,
    /// A person, with `supervisor failback`.
    Manual,
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

impl Policy {
    /// The policy of one server, if there is such a server.
    pub fn server(&self, id: ServerId) -> Option<&ServerPolicy> {
        self.services.get(&id.service)?.servers.get(&id.server)
    }
}

impl ServicePolicy {
    /// The names of the servers at `site`.
    pub fn servers_at(&self, site: SiteId) -> impl Iterator<Item = Name> {
        self.servers.iter().filter(move |(_, server)| server.site == site).map(|(name, _)| *name)
    }

    /// Whether the service has a pool at `site`.
    pub fn has_site(&self, site: SiteId) -> bool {
        self.prefer.contains(&site)
    }
}
