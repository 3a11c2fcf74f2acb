//! What the edges are told to do.
//!
//! Three kinds of effect, never mixed. *Convergent*: a desired value that an actuator makes true, again and again
//! ([`Action::Route`], [`Action::Pace`]). *Guarded*: done at most once, and only if the world is still as it was when it
//! was decided ([`Action::Evacuate`], [`Action::Heal`]). *Answers* go back to whoever asked.

use super::command::{CommandId, Verdict};
use super::delivery::Mail;
use super::id::{ProxyId, ServerId, ServiceId, SiteId};
use super::maintenance::Admin;
use super::policy::ContainerRef;
use super::time::Span;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Convergent: a service's traffic goes to `site` from now on.
    Route {
        /// Whose traffic.
        service: ServiceId,
        /// Where to.
        site: SiteId,
        /// The route's generation: grows with each change.
        generation: u64,
    },
    /// Convergent: how eagerly a server is probed.
    Pace {
        /// Which server.
        server: ServerId,
        /// How eagerly.
        pace: Pace,
    },
    /// Guarded: free the requests that a dead or hung server holds.
    Evacuate(Evacuation),
    /// Guarded: start or restart a container. Begun only when its record is on the disk, or the store is degraded.
    Heal(Heal),
    /// Once: a mail. Its row in the outbox is written with this decision.
    Mail(Box<Mail>),
    /// An answer to a person.
    Answer {
        /// To which command.
        command: CommandId,
        /// What.
        verdict: Verdict,
    },
}

/// How eagerly a server is probed. The intervals are the prober's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// At its interval.
    #[default]
    Normal,
    /// At the fast interval: something has begun to change and is not settled.
    Fast,
}

/// Names a guarded action; grows, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ActionId(pub u64);

/// Free the requests that a server holds: mark it down in HAProxy, shut its sessions down so that HAProxy retries them,
/// and pull what is queued for it onto another site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evacuation {
    /// The action's name.
    pub id: ActionId,
    /// In which HAProxy.
    pub proxy: ProxyId,
    /// The server.
    pub server: ServerId,
    /// Where it stands.
    pub site: SiteId,
    /// Where the service's traffic goes now: what is queued is pulled there. None when its own pool still serves.
    pub refuge: Option<SiteId>,
    /// Precondition: the server's health is still the verdict of this number ([`Server::epoch`](super::state::Server)).
    pub epoch: u64,
    /// Precondition: the route is still of this generation, and it is in force before anything is shut down.
    pub generation: u64,
}

/// Start a container that ended, or restart one that is dead. Precondition: it is still as it was when that was decided
/// (looked at just before), and the state still has this action under way for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heal {
    /// The action's name.
    pub id: ActionId,
    /// Which container.
    pub container: ContainerRef,
    /// Its id: another one is another container of the same name.
    pub container_id: String,
    /// What is done.
    pub deed: Deed,
}

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// It is started: it must not run.
    Start,
    /// It is stopped and started: it must run.
    Restart {
        /// How long it may take to stop, before it is killed.
        stop_timeout: Span,
    },
}

/// The end of a guarded action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Which action.
    pub action: ActionId,
    /// What it was for.
    pub of: Target,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a guarded action was for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The requests that a server held.
    Server(ServerId),
    /// A container.
    Container {
        /// Which.
        container: ContainerRef,
        /// What was done to it.
        deed: Deed,
    },
}

/// How a guarded action ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As intended.
    Done,
    /// It was tried, and this is why it failed.
    Failed(String),
    /// It could not even be begun, and this is why: nothing was done.
    NotBegun(String),
    /// Its precondition no longer held: nothing was done.
    Superseded,
    /// It was begun, and nobody knows whether it was finished.
    Unknown(String),
}

impl Outcome {
    /// Why it is not done, if it was tried.
    pub fn failed(&self) -> Option<String> {
        match self {
            Outcome::Done | Outcome::Superseded => None,
            Outcome::Failed(words) | Outcome::NotBegun(words) | Outcome::Unknown(words) => {
                Some(words.clone())
            }
        }
    }
}

/// The desired state of one HAProxy: what its actuator makes true. A pure view of the state
/// ([`State::desired`](super::State::desired)).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Desired {
    /// False while another supervisor owns this HAProxy: observe, touch nothing.
    pub active: bool,
    /// Where each service's traffic goes. A service without an entry is unmanaged: its live route is left as it is.
    pub routes: BTreeMap<ServiceId, DesiredRoute>,
    /// The servers that are down, each with the number of that verdict: the precondition of evacuations.
    pub down: BTreeMap<ServerId, u64>,
    /// The servers that are to be out of service, or put back: the rest is left as it is.
    #[serde(default)]
    pub servers: BTreeMap<ServerId, DesiredServer>,
}

/// What one server is to be ([`agreement`](super::maintenance::agreement)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredServer {
    /// Where it stands.
    pub site: SiteId,
    /// How far out of service; ready: it is put back.
    pub admin: Admin,
    /// What it may be because of us.
    pub ours: BTreeSet<Admin>,
}

/// Where one service's traffic goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredRoute {
    /// To this site's pool.
    pub site: SiteId,
    /// Since this change.
    pub generation: u64,
}
