//! Everything that can happen, as the core hears of it.
//!
//! Edges observe and translate; they do not judge. Times in events are the observer's own boot times; the time of the
//! decision is the [`Now`](super::Now) that comes with the event.

use super::action::Finished;
use super::command::{Command, Operator};
use super::delivery::{MailKey, Word};
use super::id::{ContainerName, EngineId, PeerId, ProxyId, ServerId, ServiceId, SiteId};
use super::incident::IncidentId;
use super::maintenance::AdminSeen;
use super::policy::{HealMode, Policy};
use super::silence::Silence;
use super::time::{Boot, Span};
use super::witness::ProbeOutcome;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The process began to watch; comes first, once.
    Started,
    /// A `ready` probe ended: it moves traffic.
    Probed(Probed),
    /// A `live` probe ended. It never moves traffic: it says whether a restart would be justified.
    Lived(Probed),
    /// A `ready` prober gave no result in the time in which it must, and was started anew.
    ProberSilent {
        /// Whose.
        server: ServerId,
        /// When its last result was due.
        since: Boot,
    },
    /// Docker announced something about a container we watch.
    Container(ContainerEvent),
    /// Docker listed what it has: after a (re)connect, and every resync.
    Containers(ContainerList),
    /// An engine no longer answers, or its events ended.
    EngineLost {
        /// Which.
        engine: EngineId,
        /// What it announced last.
        #[serde(default)]
        last: LastSigns,
    },
    /// An HAProxy was looked at.
    Proxy(ProxySeen),
    /// An HAProxy's sockets do not answer.
    ProxyLost {
        /// Which.
        proxy: ProxyId,
    },
    /// A configuration was brought into an HAProxy, or not.
    Configured(Configured),
    /// A person went back to a configuration that an HAProxy ran, or to that of the settings; or HAProxy would not.
    WentBack(WentBack),
    /// Routes reached an HAProxy and were read back.
    Routed(Routed),
    /// A guarded action came to its end.
    Finished(Finished),
    /// An Alertmanager was given the alerts, or could not be.
    Peer(PeerSeen),
    /// A mail came to its end, or to a stop on its way.
    Mailed(Mailed),
    /// A person ordered something.
    Commanded(Command),
    /// The settings were read anew and are good.
    PolicyChanged(Box<Policy>),
    /// The store fell behind its deadline, failed, or recovered.
    Store(StoreHealth),
    /// Our own check of a decision found that it must not be ([`invariants`](super::invariants)).
    Breached {
        /// What, in words.
        breach: String,
    },
    /// A deadline of ours came: [`State::next_deadline`](super::State::next_deadline).
    Woke,
}

/// The result of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// The server that was probed.
    pub server: ServerId,
    /// When the plan wanted it to start.
    pub due: Boot,
    /// When it started.
    pub started: Boot,
    /// When it ended.
    pub ended: Boot,
    /// How.
    pub outcome: ProbeOutcome,
}

/// One announcement of Docker's event stream (Docker Engine API, `GET /events`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerEvent {
    /// The engine that announced it.
    pub engine: EngineId,
    /// The container's name.
    pub name: ContainerName,
    /// The container's id: a new one means that it was created anew.
    pub id: String,
    /// When it reached us; when it happened, if that was before we asked.
    pub at: Boot,
    /// When it happened, by the engine's own clock: nanoseconds since the Unix epoch.
    #[serde(default)]
    pub nanoseconds: i64,
    /// What.
    pub sign: ContainerSign,
}

/// What Docker announces about a container (`status` of the event).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerSign {
    /// `start`.
    Started,
    /// `die`, with its exit code.
    Died {
        /// 0 to 255, or what Docker says.
        exit: Option<i32>,
    },
    /// `oom`.
    OutOfMemory,
    /// `kill`: a signal was sent; by itself it says nothing about health.
    Killed {
        /// The signal's number.
        signal: Option<i32>,
    },
    /// `stop`: the end of a `docker stop`.
    Stopped,
    /// `pause`.
    Paused,
    /// `unpause`.
    Unpaused,
    /// `destroy`: the container was removed.
    Destroyed,
    /// `health_status`: its image's health check changed its mind.
    Checked(DockersCheck),
}

/// Every watched container of an engine, as `inspect` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerList {
    /// The engine.
    pub engine: EngineId,
    /// When the listing began: an event that came later is newer.
    pub at: Boot,
    /// The containers there are; a watched one that is missing does not exist.
    pub containers: BTreeMap<ContainerName, ContainerSeen>,
    /// What happened to them before we listened; told with the first list after a (re)connect.
    #[serde(default)]
    pub past: Past,
}

/// What an engine remembers of the time before we listened: its last 256 events of any kind. (moby, `daemon/events`:
/// `eventsLimit`)
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Past {
    /// Each watched container's last start and what came after it, as far as it is remembered; oldest first. Some of it
    /// was heard already.
    pub events: Vec<ContainerEvent>,
    /// How far back it remembers; none: to its own start.
    pub reaches: Option<Boot>,
    /// Its containers outlive it (`live-restore`).
    pub live_restore: bool,
}

/// What an engine announced last, about any of its containers, watched or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LastSigns {
    /// When the last of those that ended by a signal was given its first one. An engine that goes down signals all that it
    /// runs at once, and waits.
    pub signalled: Option<Boot>,
    /// When a container ended last.
    pub ended: Option<Boot>,
}

/// A container as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSeen {
    /// Its id.
    pub id: String,
    /// Its status.
    pub status: ContainerStatus,
    /// What only `inspect` tells.
    #[serde(default)]
    pub facts: Facts,
}

/// What `inspect` tells about a container and no event does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Docker's own restart policy (`HostConfig.RestartPolicy`).
    pub restart: DockersPolicy,
    /// How often that policy has started it in a row (`RestartCount`).
    pub restarts: u32,
    /// The signal with which `docker stop` begins (`Config.StopSignal`).
    pub stop_signal: i32,
    /// How long `docker stop` waits before it kills (`Config.StopTimeout`).
    pub stop_timeout: Span,
    /// What the image's health check says, if there is one (`State.Health.Status`).
    pub check: Option<DockersCheck>,
    /// How long after one such check the next one has its result, at most (`Config.Healthcheck`: interval and timeout).
    #[serde(default = "usual_check_takes")]
    pub check_takes: Span,
    /// What the label `supervisor.heal`, or one of autoheal's, asks for.
    pub heal: Option<HealMode>,
    /// What the label `supervisor.heal` says instead, where that is none of its words: its first [`LABEL_MAX`] characters.
    #[serde(default)]
    pub heal_unknown: Option<String>,
    /// When its process was started last, by the engine's own clock: nanoseconds since the Unix epoch (`State.StartedAt`).
    /// None: it never was, or nobody has read it since.
    #[serde(default)]
    pub started: Option<i64>,
    /// The containers that the label `supervisor.depends-on` names; at most [`DEPENDS_ON_MAX`], and one more text with what is
    /// beyond.
    #[serde(default)]
    pub depends_on: BTreeSet<ContainerName>,
    /// The network of another container, which it uses instead of one of its own.
    #[serde(default)]
    pub network: Option<BorrowedNetwork>,
    /// Where Docker Compose has it from.
    #[serde(default)]
    pub compose: Option<ComposeService>,
    /// Nobody has read them yet: these are the usual ones.
    #[serde(default)]
    pub guessed: bool,
}

/// So much of a label that nobody understands is shown, in characters: enough to find it by.
pub const LABEL_MAX: usize = 64;

/// How many containers one label may name: more than any compose file that a person still understands.
pub const DEPENDS_ON_MAX: usize = 16;

/// The network of another container (`HostConfig.NetworkMode` = `container:ID`; moby, `daemon/container_operations_unix.go`,
/// `getNetworkedContainer`: that one must run when this one is started, and it is looked for by this id).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BorrowedNetwork {
    /// Whose: an id, or a name if the engine keeps names.
    pub of: String,
    /// What that one is called, as far as it was ever read.
    pub name: Option<ContainerName>,
    /// How that one was found when this one was read.
    pub lender: Lender,
}

/// The container whose network another one uses, as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lender {
    /// It could not be read.
    Unknown,
    /// No container has this id: it was removed, perhaps to be created anew under the same name.
    Gone,
    /// It exists.
    There {
        /// Whether it runs.
        runs: bool,
        /// When its process was started last, as [`Facts::started`] has it.
        started: Option<i64>,
    },
}

/// Where Docker Compose has a container from (labels `com.docker.compose.project` and `.service`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComposeService {
    /// The project.
    pub project: String,
    /// The service in it.
    pub service: String,
}

/// Docker's own restart policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockersPolicy {
    /// Docker starts it never again.
    #[default]
    No,
    /// Always, but after a `docker stop`.
    Always,
    /// The same; after a start of the engine, not if it had been stopped before.
    UnlessStopped,
    /// After an exit code that is not 0.
    OnFailure {
        /// So many times in a row at most; 0: without a bound.
        most: u32,
    },
}

/// What the health check of an image says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DockersCheck {
    /// Not known yet.
    Starting,
    /// It passes.
    Healthy,
    /// It has failed `--health-retries` times in a row.
    Unhealthy,
}

/// What Docker takes when nobody says otherwise: no policy, SIGTERM, ten seconds.
impl Default for Facts {
    fn default() -> Facts {
        const SIGTERM: i32 = 15;
        Facts {
            restart: DockersPolicy::No,
            restarts: 0,
            stop_signal: SIGTERM,
            stop_timeout: Span::seconds(10),
            check: None,
            check_takes: usual_check_takes(),
            heal: None,
            heal_unknown: None,
            started: None,
            depends_on: BTreeSet::new(),
            network: None,
            compose: None,
            guessed: false,
        }
    }
}

/// Docker's defaults: every 30 s, for 30 s at most.
fn usual_check_takes() -> Span {
    Span::seconds(60)
}

impl Facts {
    /// Those of a container that could not be read, or not yet.
    pub fn guessed() -> Facts {
        Facts { guessed: true, ..Facts::default() }
    }

    /// Whether it depends on other containers.
    pub fn has_dependencies(&self) -> bool {
        self.network.is_some() || !self.depends_on.is_empty()
    }
}

/// A container's status (Docker Engine API, `ContainerState.Status`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerStatus {
    /// Its process runs. Says nothing about health.
    Running,
    /// Frozen.
    Paused,
    /// Docker's own policy is between two starts.
    Restarting,
    /// Created, never started.
    Created,
    /// Ended.
    Exited {
        /// With this code, where Docker tells.
        exit: Option<i32>,
        /// Killed for want of memory.
        oom: bool,
    },
    /// Being removed, or dead beyond repair.
    Dead,
    /// A status that this version does not know: no evidence.
    Unknown,
}

/// What one look at an HAProxy showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxySeen {
    /// Which HAProxy.
    pub proxy: ProxyId,
    /// When the look began.
    pub at: Boot,
    /// The worker that answered.
    pub identity: ProxyIdentity,
    /// What its master tells of reloads; none without a master that answers.
    #[serde(default)]
    pub master: Option<MasterSeen>,
    /// `OWNER` of `description supervisor=OWNER rev=HASH`; none when HAProxy runs a configuration of somebody who names no
    /// owner (the distribution's, or our bootstrap).
    pub owner: Option<String>,
    /// Whether `owner` is this supervisor.
    pub ours: bool,
    /// The map's entries for services, as sites.
    pub routes: BTreeMap<ServiceId, SiteId>,
    /// HAProxy's own check of each server it knows as ours.
    pub checks: BTreeMap<ServerId, CheckSeen>,
    /// The site whose servers answered requests since the previous look, by HAProxy's counters, where there were any.
    pub serving: BTreeMap<ServiceId, SiteId>,
    /// The servers that are out of service there, by whomever's order. None: what the look showed may not last, since
    /// another worker is about to take over.
    #[serde(default)]
    pub out: Option<BTreeMap<ServerId, AdminSeen>>,
}

/// Which process of HAProxy answered: a change means that runtime state is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyIdentity {
    /// The worker's process id.
    pub pid: u32,
    /// Seconds since the Unix epoch when it started (`Start_time_sec` of `show info`).
    pub started: i64,
}

/// HAProxy's verdict about a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSeen {
    /// Its last check passed on layer 7 (`L7OK`): HAProxy reached the server and got the right answer.
    pub layer7_ok: bool,
    /// HAProxy would send it traffic.
    pub usable: bool,
    /// How old the last check may be at most when it was read: check interval plus timeout.
    pub age_at_most: Span,
}

/// What an HAProxy's master tells of reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterSeen {
    /// Workers that were replaced and finish what they have.
    pub old_workers: u32,
    /// Reloads that failed since the last good one.
    pub failed_reloads: u32,
}

/// What became of an attempt to bring the configuration of the settings into an HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configured {
    /// Which HAProxy.
    pub proxy: ProxyId,
    /// How it ended.
    pub config: ConfigSeen,
    /// The reload that it took; none if it came to none.
    #[serde(default)]
    pub reload: Option<ReloadSeen>,
}

/// An order about which configuration an HAProxy runs, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WentBack {
    /// Which HAProxy.
    pub proxy: ProxyId,
    /// Who ordered it.
    pub by: Operator,
    /// Why, in their words.
    pub because: Option<String>,
    /// What.
    pub step: BackStep,
}

/// A step on the way to an earlier configuration and from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackStep {
    /// `rollback`: it is to run this one.
    Ordered {
        /// Its revision.
        revision: String,
        /// The one that is left, where that is known.
        left: Option<String>,
    },
    /// `resume`: it is to run what the settings lead to.
    Resumed {
        /// The revision that the settings lead to.
        revision: String,
        /// The one that was held; none where nothing was, and a refused configuration is tried again.
        held: Option<String>,
    },
    /// HAProxy did not take the one that was ordered: what ran before goes on.
    Refused {
        /// Its revision.
        revision: String,
        /// Why, in HAProxy's words; bounded by the actuator.
        message: String,
        /// The reload that it took; none if it came to none.
        #[serde(default)]
        reload: Option<ReloadSeen>,
    },
}

/// How a reload ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadSeen {
    /// A new worker serves with the new configuration.
    Loaded {
        /// From the order to the proof.
        took: Span,
    },
    /// The old worker was kept.
    Failed,
    /// Neither was proved in time.
    Unproven,
}

/// How an HAProxy's configuration stands against the settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigSeen {
    /// Not tried since the start.
    #[default]
    Untried,
    /// HAProxy runs it.
    InForce {
        /// Its revision, `HASH` of `description supervisor=OWNER rev=HASH`.
        revision: String,
    },
    /// HAProxy runs one that it ran before: a person went back to it.
    Held {
        /// Its revision.
        revision: String,
        /// The revision that the settings lead to. When they lead to another one, it is held no longer.
        instead_of: String,
        /// Who went back.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
    },
    /// It was refused, or could not be tried; HAProxy runs what it ran before.
    Refused {
        /// By whom and why, in their words; bounded by the actuator.
        message: String,
    },
    /// Nobody could prove what HAProxy runs now.
    Unproven {
        /// What was seen last.
        message: String,
    },
    /// Somebody else loads another one again and again: it is left so for a while.
    Contested {
        /// What is loaded, and for how long it is left so.
        message: String,
    },
}

/// Routes as they are after a switch, read back from HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routed {
    /// Which HAProxy.
    pub proxy: ProxyId,
    /// The generation of each service's route that is now in force.
    pub generations: BTreeMap<ServiceId, u64>,
    /// From the actuator's wake-up to the read-back.
    pub took: Span,
}

/// One round with an Alertmanager: alerts posted and read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSeen {
    /// Which.
    pub peer: PeerId,
    /// How it went.
    pub result: PeerResult,
    /// Its silences that last or are to come; none: not read.
    #[serde(default)]
    pub silences: Option<Vec<Silence>>,
}

/// How a round with an Alertmanager went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerResult {
    /// It took part; its word on each incident that it was told of.
    Answered(BTreeMap<IncidentId, Word>),
    /// It did not, for this reason: unreachable, an error, or no Alertmanager at all. Bounded by the room that asks.
    Failed(String),
}

/// What became of a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailed {
    /// Which.
    pub mail: MailKey,
    /// How it stands.
    pub end: MailEnd,
}

/// How a mail stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailEnd {
    /// Each recipient's relay has it.
    Accepted {
        /// How many recipients.
        recipients: u16,
    },
    /// It could not be handed over yet and is tried again; told once per mail.
    Deferred {
        /// Why, in the relay's words.
        words: String,
    },
    /// For these recipients it is given up: a person must look at the outbox.
    Dead {
        /// Why.
        words: String,
        /// Others have it.
        reached: bool,
    },
    /// An Alertmanager had its incidents after all, just before it was sent.
    NotNeeded,
}

/// Whether what is decided also reaches the disk in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoreHealth {
    /// It does.
    #[default]
    Durable,
    /// It does not: slow, full, read-only or gone. Traffic goes on; orders are marked "not durable".
    Degraded,
}
