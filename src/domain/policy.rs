//! What the operator wants, as far as the core needs to know it.
//!
//! Made by `settings` from the validated file; a part of the [`State`](super::State), because a reload is an event like
//! any other. What only the edges need (URLs, sockets, TLS, listen addresses) never enters.

use super::id::{ContainerName, EngineId, Name, ProxyId, ServerId, ServiceId, SiteId};
use super::time::Span;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything the core is told by the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Policy {
    /// The services, by name.
    pub services: BTreeMap<ServiceId, ServicePolicy>,
    /// The HAProxy instances that route them.
    pub proxies: BTreeSet<ProxyId>,
    /// The Docker engines whose events are evidence.
    pub engines: BTreeSet<EngineId>,
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

/// A container on an engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerRef {
    /// The engine that runs it.
    pub engine: EngineId,
    /// Its name there.
    pub name: ContainerName,
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
