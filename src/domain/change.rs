//! The delta of one decision: what [`State::apply`](super::State::apply) does, and what the journal keeps.

use super::command::{Pause, Scope};
use super::contest::Contest;
use super::damping::Damped;
use super::delivery::Peer;
use super::event::{ConfigSeen, ContainerSeen, ProxyIdentity, StoreHealth};
use super::failover::Override;
use super::health::Health;
use super::id::{ContainerName, EngineId, PeerId, ProxyId, ServerId, ServiceId};
use super::incident::{Incident, IncidentId};
use super::maintenance::{Maintenance, Out};
use super::policy::{ContainerRef, Policy};
use super::repair::Repair;
use super::state::{Pending, Placement, ProxyLink};
use super::time::Boot;
use serde::{Deserialize, Serialize};

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The process began to watch: the start-up grace runs from here.
    Began {
        /// When.
        at: Boot,
    },
    /// A server's health, or what is counted towards another.
    Health {
        /// Which server.
        server: ServerId,
        /// Its health.
        health: Health,
    },
    /// Whether a server's process lives, or what is counted towards another verdict.
    Life {
        /// Which server.
        server: ServerId,
        /// The verdict of its `live` probes.
        life: Health,
    },
    /// A server's process was started or thawed: what its `live` probes found before is forgotten.
    Reborn {
        /// Which server.
        server: ServerId,
        /// When.
        at: Boot,
    },
    /// How often a server has gone down lately.
    Flaps {
        /// Which server.
        server: ServerId,
        /// So often.
        flaps: Damped,
    },
    /// How often a server that is up has answered badly or slowly lately.
    Strain {
        /// Which server.
        server: ServerId,
        /// So often.
        strain: Damped,
    },
    /// A person takes a server out of service; none: it is put back.
    Maintenance {
        /// Which server.
        server: ServerId,
        /// What was ordered.
        maintenance: Option<Maintenance>,
    },
    /// What the HAProxy instances are to make of a server; none: it is in service in each of them.
    Out {
        /// Which server.
        server: ServerId,
        /// What.
        out: Option<Out>,
    },
    /// Since when an answer of the server is waited for, to know that we reach it; none: it came.
    Asked {
        /// Which server.
        server: ServerId,
        /// Since then.
        since: Option<Boot>,
    },
    /// Where a service's traffic goes.
    Placed {
        /// Whose.
        service: ServiceId,
        /// Where.
        placement: Placement,
    },
    /// An HAProxy confirmed a route: it is no longer pending there.
    Confirmed {
        /// Whose route.
        service: ServiceId,
        /// Which HAProxy.
        proxy: ProxyId,
    },
    /// An HAProxy lost a route, or has not taken it in the time that it may take.
    Pending {
        /// Whose route.
        service: ServiceId,
        /// Which HAProxy.
        proxy: ProxyId,
        /// Since when, and whether that is too long.
        pending: Pending,
    },
    /// An automatic failover happened: the hold-down runs from here.
    FailedOver {
        /// Whose.
        service: ServiceId,
        /// When.
        at: Boot,
    },
    /// An automatic failback happened: it counts towards the limit.
    FailedBack {
        /// Whose.
        service: ServiceId,
        /// When.
        at: Boot,
    },
    /// A person's preference, or its end.
    Preference {
        /// Whose.
        service: ServiceId,
        /// The preference.
        preference: Option<Override>,
    },
    /// When time alone may change the plan for a service.
    Wake {
        /// Which service.
        service: ServiceId,
        /// When; none: never.
        at: Option<Boot>,
    },
    /// HAProxy's counters show answers from another site than the route's; none: from the route's.
    ServedFrom {
        /// Whose.
        service: ServiceId,
        /// By which HAProxy's counters.
        proxy: ProxyId,
        /// Where answers come from.
        elsewhere: Option<super::id::SiteId>,
    },
    /// Somebody else changes a service's route in an HAProxy; none: nobody does any more.
    Contested {
        /// Whose.
        service: ServiceId,
        /// Where.
        proxy: ProxyId,
        /// How often lately.
        contest: Option<Contest>,
    },
    /// How an HAProxy is reached.
    Proxy {
        /// Which.
        proxy: ProxyId,
        /// How.
        link: ProxyLink,
    },
    /// How an HAProxy's configuration stands.
    ProxyConfig {
        /// Which HAProxy.
        proxy: ProxyId,
        /// How.
        config: ConfigSeen,
    },
    /// The worker of an HAProxy that answered last.
    ProxyIdentity {
        /// Which HAProxy.
        proxy: ProxyId,
        /// Its worker.
        identity: ProxyIdentity,
    },
    /// Whether an engine answers.
    Engine {
        /// Which.
        engine: EngineId,
        /// Whether; none: not tried since the start.
        found: Option<bool>,
    },
    /// What Docker knows of a container; none: it does not exist.
    Container {
        /// On which engine.
        engine: EngineId,
        /// Which.
        name: ContainerName,
        /// What.
        seen: Option<ContainerSeen>,
    },
    /// Where the healing of a container stands.
    Repair {
        /// Which.
        container: ContainerRef,
        /// Where.
        repair: Box<Repair>,
    },
    /// An incident; none: it is over, and told.
    Incident {
        /// Which.
        id: IncidentId,
        /// As it is now.
        incident: Option<Box<Incident>>,
    },
    /// How an Alertmanager stands.
    Peer {
        /// Which.
        peer: PeerId,
        /// How.
        seen: Peer,
    },
    /// A mail was decided: it counts towards the bound of mails.
    MailCounted {
        /// When.
        at: Boot,
    },
    /// A person's pause, or its end.
    Pause {
        /// About what.
        scope: Scope,
        /// The pause.
        pause: Option<Pause>,
    },
    /// Whether everything fails on the way, everywhere: it is we who are cut off.
    CutOff(bool),
    /// New settings.
    Policy(Box<Policy>),
    /// Whether decisions reach the disk in time.
    Store(StoreHealth),
    /// Something was decided that must not be.
    Breached {
        /// When that was found.
        at: Boot,
    },
    /// A probe could not be made for want of something of ours.
    Untried {
        /// When.
        at: Boot,
    },
    /// A guarded action was numbered.
    Issued {
        /// The number after it.
        next: u64,
    },
}

impl Change {
    /// The service whose part of the state changes, if it is one service's.
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Change::Health { server, .. }
            | Change::Life { server, .. }
            | Change::Reborn { server, .. }
            | Change::Flaps { server, .. }
            | Change::Strain { server, .. }
            | Change::Maintenance { server, .. }
            | Change::Out { server, .. }
            | Change::Asked { server, .. } => Some(server.service),
            Change::Placed { service, .. }
            | Change::Confirmed { service, .. }
            | Change::Pending { service, .. }
            | Change::FailedOver { service, .. }
            | Change::FailedBack { service, .. }
            | Change::Preference { service, .. }
            | Change::Wake { service, .. }
            | Change::ServedFrom { service, .. }
            | Change::Contested { service, .. } => Some(*service),
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
            | Change::Breached { .. }
            | Change::Untried { .. }
            | Change::Issued { .. } => None,
        }
    }
}
