//! Why, as data. One code each, one rendering for all surfaces (`present.rs`).
//!
//! [`Decision::reasons`](super::Decision) holds what changed; [`explain`](super::explain()) answers with what stands.

use super::action::Deed;
use super::command::{Denial, Operator, Pause, Scope};
use super::delivery::{MailId, MailKind, WhyDirect};
use super::event::MailEnd;
use super::failover::{Outlook, Override, Stay};
use super::id::{ContainerName, EngineId, PeerId, ProxyId, ServerId, ServiceId, SiteId};
use super::incident::{IncidentId, Trouble};
use super::maintenance::{Admin, Maintenance};
use super::policy::ContainerRef;
use super::repair::depends::{NetworkLoss, Unkept};
use super::repair::{Ending, HealWait, Phase};
use super::time::{Span, Wall};
use super::witness::{Cause, Strain};
use serde::{Deserialize, Serialize};

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Reason {
    /// A server passed enough probes.
    ServerUp {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// In a row.
        good: u16,
        /// How long it had been down or unknown, if it had been down.
        after: Option<Span>,
    },
    /// A server is down.
    ServerDown {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// Why.
        cause: Cause,
        /// Failures in a row; 1 for hard evidence.
        bad: u16,
        /// From the first failure to the verdict.
        took: Span,
    },
    /// A server is down, still.
    ServerIsDown {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// Why, at first.
        cause: Cause,
        /// For how long.
        lasts: Span,
    },
    /// A server's process does not answer its `live` probes: a restart would be justified.
    ServerDead {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// The latest failure.
        cause: Cause,
    },
    /// A server's process answers its `live` probes again.
    ServerLives {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
    },
    /// Probes fail, but not yet often enough.
    ServerFailing {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// The latest failure.
        cause: Cause,
        /// In a row so far.
        bad: u16,
        /// Needed.
        fall: u16,
    },
    /// A server has gone down too often lately: a site is not returned to for its sake.
    ServerFlaps {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// It is believed again after this, if it stays up.
        left: Span,
    },
    /// A server has stayed up for long enough after it had gone down too often.
    ServerSteady {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
    },
    /// A server that is up answers slowly, or not always.
    ServerDegraded {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// The latest answer of that kind.
        strain: Strain,
        /// It is believed again after this, if it answers well.
        left: Span,
    },
    /// A server has answered well for long enough after it had been degraded.
    ServerSound {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
    },
    /// Our probes fail on the way, but HAProxy reaches the server.
    PathContradicted {
        /// Which.
        server: ServerId,
        /// Where.
        site: SiteId,
        /// The latest failure.
        cause: Cause,
    },
    /// Our probes fail on the way to every server of every site: it is we who are cut off, and nothing is done.
    CutOff {
        /// How many servers.
        servers: u32,
    },
    /// Some probe reached something again.
    Reconnected,
    /// Traffic escaped from a site that is down.
    Failover {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
        /// Why `from` is down.
        cause: Cause,
    },
    /// Traffic returned to a better site.
    Failback {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
        /// How long `to` has been healthy.
        healthy: Span,
    },
    /// The settings no longer give the service servers where its traffic was.
    SiteRemoved {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
    },
    /// Traffic moved to a site with enough servers.
    Relief {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
        /// So many servers are up at `from`.
        up: u16,
        /// So many are needed.
        of: u16,
    },
    /// Traffic left a site whose servers people have taken out.
    LeftTakenOut {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
    },
    /// Traffic moved to where the rest of its group is.
    MovedTogether {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
    },
    /// Every site is down: traffic moved to the first one, as the settings want.
    MovedToFirst {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
        /// Why `from` is down.
        cause: Cause,
    },
    /// A person moved traffic.
    Switchover {
        /// Whose.
        service: ServiceId,
        /// From there.
        from: SiteId,
        /// To there.
        to: SiteId,
        /// Who.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
        /// Although `to` was not healthy.
        forced: bool,
    },
    /// A person's preference was noted; traffic is there already.
    PreferenceSet {
        /// Whose.
        service: ServiceId,
        /// The preferred site.
        site: SiteId,
        /// Who.
        by: Operator,
        /// Why, in their words.
        #[serde(default)]
        because: Option<String>,
    },
    /// A person's preference ended, because the settings no longer give the service servers at that site.
    PreferenceVoid {
        /// Whose.
        service: ServiceId,
        /// The site that was preferred.
        site: SiteId,
    },
    /// A person's preference was dropped.
    PreferenceDropped {
        /// Whose.
        service: ServiceId,
        /// The site that is no longer preferred.
        site: SiteId,
        /// Who.
        by: Operator,
        /// Why, in their words.
        #[serde(default)]
        because: Option<String>,
    },
    /// A person's preference ended by itself: its time was over.
    PreferenceExpired {
        /// Whose.
        service: ServiceId,
        /// The site that is no longer preferred.
        site: SiteId,
    },
    /// A person has paused something.
    Paused {
        /// What.
        scope: Scope,
        /// Who.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
        /// It ends by itself after this.
        lasts: Option<Span>,
    },
    /// A pause ended.
    Resumed {
        /// What.
        scope: Scope,
        /// Who ended it; none: its time was over.
        by: Option<Operator>,
        /// Why, in their words.
        #[serde(default)]
        because: Option<String>,
    },
    /// A person wants to see whether alerts arrive.
    TestOrdered {
        /// Who.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
    },
    /// A pause is in force.
    PauseHolds {
        /// What.
        scope: Scope,
        /// The pause.
        pause: Pause,
        /// Until it ends by itself.
        left: Option<Span>,
    },
    /// A person took a server out of service.
    TakenOut {
        /// Which.
        server: ServerId,
        /// How far out.
        admin: Admin,
        /// Who.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
        /// For how long; none: until a person puts it back.
        lasts: Option<Span>,
    },
    /// A server is in service again.
    PutBack {
        /// Which.
        server: ServerId,
        /// Who wanted it; none: its time was over.
        by: Option<Operator>,
        /// Why, in their words.
        #[serde(default)]
        because: Option<String>,
    },
    /// A server is out of service because a person wants it so.
    MaintenanceHolds {
        /// Which.
        server: ServerId,
        /// What was ordered.
        maintenance: Maintenance,
        /// How long it lasts; none: until a person ends it.
        left: Option<Span>,
    },
    /// An HAProxy shows a server out of service as ordered, or back in service.
    AdminInForce {
        /// Which.
        server: ServerId,
        /// How it is there.
        admin: Admin,
        /// In which HAProxy.
        proxy: ProxyId,
        /// From the order, or from when it was found otherwise.
        took: Span,
    },
    /// An HAProxy had forgotten an order about a server, or somebody set the server otherwise there: it is set again.
    AdminReasserted {
        /// Which.
        server: ServerId,
        /// How it is to be.
        admin: Admin,
        /// In which HAProxy.
        proxy: ProxyId,
        /// How it was found.
        found: Admin,
    },
    /// An HAProxy does not take an order about a server in the time that it may take.
    AdminLags {
        /// Which.
        server: ServerId,
        /// How it is to be.
        admin: Admin,
        /// In which HAProxy.
        proxy: ProxyId,
    },
    /// The route that HAProxy had became ours, unchanged.
    Adopted {
        /// Whose.
        service: ServiceId,
        /// Where it goes.
        site: SiteId,
    },
    /// HAProxy had no route yet; the first preference was set.
    Placed {
        /// Whose.
        service: ServiceId,
        /// Where it goes.
        site: SiteId,
    },
    /// HAProxy had lost or changed the route; it was set again.
    Reasserted {
        /// Whose.
        service: ServiceId,
        /// Where it goes again.
        site: SiteId,
        /// What HAProxy had.
        found: Option<SiteId>,
    },
    /// HAProxy confirmed a route.
    RouteInForce {
        /// Whose.
        service: ServiceId,
        /// Where.
        site: SiteId,
        /// In which HAProxy.
        proxy: ProxyId,
        /// From the decision to the confirmation.
        took: Span,
    },
    /// An HAProxy does not take a route in the time that it may take.
    RouteLags {
        /// Whose.
        service: ServiceId,
        /// Where it should go.
        site: SiteId,
        /// In which HAProxy.
        proxy: ProxyId,
    },
    /// Somebody else changes a route in an HAProxy again and again: it is left as it is for a while.
    RouteContested {
        /// Whose.
        service: ServiceId,
        /// Where it should go.
        site: SiteId,
        /// In which HAProxy.
        proxy: ProxyId,
        /// Where HAProxy sends it; none: it has no route for it.
        found: Option<SiteId>,
        /// For so long.
        rests: Span,
    },
    /// An HAProxy that does not answer hears of a route when it does again; until then it goes on as before.
    RouteWaits {
        /// Whose.
        service: ServiceId,
        /// Where it should go.
        site: SiteId,
        /// In which HAProxy.
        proxy: ProxyId,
    },
    /// A container ended, and it is known who did it.
    ContainerEnded {
        /// Which.
        container: ContainerRef,
        /// How.
        ending: Ending,
        /// What is done about it.
        then: Then,
    },
    /// A container that is to run does not exist, or no longer.
    ContainerGone {
        /// Which.
        container: ContainerRef,
    },
    /// A container is started or restarted.
    Heals {
        /// Which.
        container: ContainerRef,
        /// What is done.
        deed: Deed,
        /// For the how-manieth time within `window`.
        attempt: u16,
        /// So many times at most.
        limit: u16,
        /// The budget's window.
        window: Span,
    },
    /// A container was started or restarted, or that failed.
    Healed {
        /// Which.
        container: ContainerRef,
        /// What was done.
        deed: Deed,
        /// None when it worked, or Docker's words.
        failed: Option<String>,
    },
    /// A start or restart of a container was begun, and nobody knows whether it was done.
    HealUnknown {
        /// Which.
        container: ContainerRef,
        /// What was begun.
        deed: Deed,
        /// What is known, in the actuator's words.
        words: String,
    },
    /// A container is not healed at this moment, and why.
    HealWaits {
        /// Which.
        container: ContainerRef,
        /// Why.
        why: HealWait,
        /// When it is looked at again; none: when that is over, which wakes it.
        left: Option<Span>,
    },
    /// A name in the label `supervisor.depends-on` of a container is not waited for, and why.
    DependencyUnkept {
        /// Whose label.
        container: ContainerRef,
        /// The name, or a text that is none.
        on: ContainerName,
        /// Why.
        why: Unkept,
    },
    /// The label `supervisor.heal` of a container is none of its words: the container is healed as if it had none.
    HealLabelUnknown {
        /// Whose label.
        container: ContainerRef,
        /// What it says; at most [`LABEL_MAX`](super::event::LABEL_MAX) characters.
        value: String,
    },
    /// A container runs without the network that it uses of another container.
    NetworkLost {
        /// Which.
        container: ContainerRef,
        /// How it lost it.
        loss: NetworkLoss,
    },
    /// A container was started as often as its budget allows: a person is asked, and it is tried again slowly.
    GaveUp {
        /// Which.
        container: ContainerRef,
        /// So often within `window`.
        starts: u16,
        /// The budget's window.
        window: Span,
        /// When it is tried again.
        next: Span,
    },
    /// Somebody started a container that a person had ended: it is looked after again.
    HoldLifted {
        /// Which.
        container: ContainerRef,
    },
    /// Where a container stands that is not simply running.
    ContainerStands {
        /// Which.
        container: ContainerRef,
        /// Where.
        phase: Phase,
        /// How it ended last.
        last: Option<Ending>,
        /// What keeps it from being started or restarted when it is due.
        #[serde(default)]
        waits: Option<HealWait>,
        /// Until time alone changes that.
        left: Option<Span>,
    },
    /// Something is wrong, and people are to be told.
    IncidentOpened {
        /// Which.
        incident: IncidentId,
        /// What is wrong.
        trouble: Trouble,
    },
    /// It is no longer wrong.
    IncidentEnded {
        /// Which.
        incident: IncidentId,
        /// What was wrong.
        trouble: Trouble,
        /// For how long.
        lasted: Span,
    },
    /// An incident goes on as part of a larger one, of which people are told instead.
    IncidentMerged {
        /// Which.
        incident: IncidentId,
        /// What is wrong.
        trouble: Trouble,
        /// What is wrong at large.
        into: Trouble,
    },
    /// Something was decided that must not be.
    InvariantBroken {
        /// What, in words.
        breach: String,
    },
    /// An incident counts as told by Alertmanager.
    ToldByAlertmanager {
        /// Which.
        incident: IncidentId,
        /// What is wrong.
        trouble: Trouble,
    },
    /// Incidents are told by a mail of our own.
    TellsByMail {
        /// Which mail.
        mail: MailId,
        /// What it tells.
        kind: MailKind,
        /// Of how many incidents.
        incidents: u16,
        /// Why not by Alertmanager.
        why: WhyDirect,
    },
    /// What became of a mail.
    Mailed {
        /// Which.
        mail: MailId,
        /// How it stands.
        end: MailEnd,
    },
    /// An Alertmanager takes alerts.
    PeerFound {
        /// Which.
        peer: PeerId,
    },
    /// An Alertmanager does not take alerts.
    PeerLost {
        /// Which.
        peer: PeerId,
        /// Why.
        words: String,
    },
    /// Requests that a server held were freed, or not.
    Evacuated {
        /// Which server.
        server: ServerId,
        /// None when it worked, or the actuator's words.
        failed: Option<String>,
    },
    /// Traffic stays, and why.
    Stays {
        /// Whose.
        service: ServiceId,
        /// Where it is, if that is known.
        site: Option<SiteId>,
        /// Why.
        stay: Stay,
        /// For how long at least, where time alone ends it.
        left: Option<Span>,
    },
    /// What comes next for a service whose traffic stays.
    ComesNext {
        /// Whose.
        service: ServiceId,
        /// Where traffic is.
        site: SiteId,
        /// What.
        outlook: Outlook,
    },
    /// Where traffic is and how it came there.
    Serving {
        /// Whose.
        service: ServiceId,
        /// Where.
        site: SiteId,
        /// Since.
        since: Wall,
        /// For how long.
        age: Span,
    },
    /// Where a service's traffic goes, although nobody serves it there.
    Unserved {
        /// Whose.
        service: ServiceId,
        /// Where.
        site: SiteId,
        /// Since.
        since: Wall,
        /// For how long.
        age: Span,
    },
    /// A person's preference is in force.
    PreferenceHolds {
        /// Whose.
        service: ServiceId,
        /// The preference.
        preference: Override,
        /// Until it ends by itself; none: a person ends it.
        #[serde(default)]
        left: Option<Span>,
    },
    /// HAProxy answers requests of the service from another site than the route says: its own safety net works.
    ServedElsewhere {
        /// Whose.
        service: ServiceId,
        /// Which HAProxy.
        proxy: ProxyId,
        /// Where the route goes.
        site: SiteId,
        /// Where the answers come from.
        serving: SiteId,
    },
    /// An order was not carried out.
    Denied {
        /// Whose order.
        by: Operator,
        /// Why.
        denial: Denial,
    },
    /// An HAProxy answers.
    ProxyFound {
        /// Which.
        proxy: ProxyId,
    },
    /// An HAProxy's sockets do not answer.
    ProxyLost {
        /// Which.
        proxy: ProxyId,
    },
    /// An HAProxy was restarted or reloaded: another worker answers.
    ProxyReplaced {
        /// Which.
        proxy: ProxyId,
        /// Its new process id.
        pid: u32,
    },
    /// Another supervisor owns this HAProxy: nothing is touched.
    ProxyForeign {
        /// Which.
        proxy: ProxyId,
        /// The owner in HAProxy's description.
        owner: String,
    },
    /// HAProxy runs the configuration of the settings.
    ConfigInForce {
        /// Which HAProxy.
        proxy: ProxyId,
        /// The revision.
        revision: String,
    },
    /// HAProxy runs an earlier configuration: a person went back to it.
    ConfigHeld {
        /// Which HAProxy.
        proxy: ProxyId,
        /// The revision that it runs.
        revision: String,
        /// The revision that the settings lead to.
        instead_of: String,
        /// Who went back.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
    },
    /// A person ordered an HAProxy back to a configuration that it ran.
    RollbackOrdered {
        /// Which HAProxy.
        proxy: ProxyId,
        /// The revision that it is to run.
        revision: String,
        /// The one that is left, where that is known.
        left: Option<String>,
        /// Who.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
    },
    /// HAProxy did not take the configuration that a person went back to: what ran before goes on.
    RollbackRefused {
        /// Which HAProxy.
        proxy: ProxyId,
        /// The revision that it did not take.
        revision: String,
        /// Who went back.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
        /// Why not, in HAProxy's words.
        message: String,
    },
    /// A person ordered the configuration of the settings.
    ConfigResumed {
        /// Which HAProxy.
        proxy: ProxyId,
        /// The revision that the settings lead to.
        revision: String,
        /// The one that was held; none: a refused one is tried again.
        held: Option<String>,
        /// Who.
        by: Operator,
        /// Why, in their words.
        because: Option<String>,
    },
    /// HAProxy's configuration was refused, or could not be tried; it runs what it ran before.
    ConfigRefused {
        /// Which HAProxy.
        proxy: ProxyId,
        /// By whom and why.
        message: String,
    },
    /// Nobody could prove which configuration HAProxy runs.
    ConfigUnproven {
        /// Which HAProxy.
        proxy: ProxyId,
        /// What was seen last.
        message: String,
    },
    /// Somebody else loads another configuration into an HAProxy again and again.
    ConfigContested {
        /// Which HAProxy.
        proxy: ProxyId,
        /// What is loaded, and for how long it is left so.
        message: String,
    },
    /// A Docker engine answers.
    EngineFound {
        /// Which.
        engine: EngineId,
    },
    /// A Docker engine does not answer; probes go on.
    EngineLost {
        /// Which.
        engine: EngineId,
    },
    /// New settings are in force.
    PolicyChanged {
        /// Services that are new.
        added: Vec<ServiceId>,
        /// Services that are gone.
        removed: Vec<ServiceId>,
    },
    /// What is decided no longer reaches the disk in time, or does again.
    Store {
        /// Whether it reaches the disk.
        durable: bool,
    },
    /// Results came too late to be true: we were frozen, and counted nothing.
    Late {
        /// Whose probe.
        server: ServerId,
        /// By how much.
        by: Span,
    },
    /// A prober of ours gave no result in the time in which it must: it was started anew, and nothing is concluded.
    ProberSilent {
        /// Whose.
        server: ServerId,
        /// For how long.
        lasts: Span,
    },
}

/// What is done about a container that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// It is started, after this pause.
    Start {
        /// How long.
        pause: Span,
    },
    /// It is to be started, and something holds that back.
    Waits,
    /// Docker's own policy goes first, for this long.
    Docker {
        /// How long.
        wait: Span,
    },
    /// Nothing, until somebody starts it.
    Hold,
    /// It is tried slowly: it was started too often.
    GiveUp,
    /// Nothing: its policy says so, or nobody knows who ended it.
    Nothing,
}

impl Reason {
    /// The stable code, as in JSON and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Reason::ServerUp { .. } => "server_up",
            Reason::ServerDown { .. } => "server_down",
            Reason::ServerIsDown { .. } => "server_is_down",
            Reason::ServerDead { .. } => "server_dead",
            Reason::ServerLives { .. } => "server_lives",
            Reason::ServerFailing { .. } => "server_failing",
            Reason::ServerFlaps { .. } => "server_flaps",
            Reason::ServerSteady { .. } => "server_steady",
            Reason::ServerDegraded { .. } => "server_degraded",
            Reason::ServerSound { .. } => "server_sound",
            Reason::PathContradicted { .. } => "path_contradicted",
            Reason::CutOff { .. } => "cut_off",
            Reason::Reconnected => "reconnected",
            Reason::Failover { .. } => "failover",
            Reason::Failback { .. } => "failback",
            Reason::SiteRemoved { .. } => "site_removed",
            Reason::Relief { .. } => "relief",
            Reason::LeftTakenOut { .. } => "left_taken_out",
            Reason::MovedTogether { .. } => "moved_together",
            Reason::MovedToFirst { .. } => "moved_to_first",
            Reason::Switchover { .. } => "switchover",
            Reason::PreferenceSet { .. } => "preference_set",
            Reason::PreferenceVoid { .. } => "preference_void",
            Reason::PreferenceDropped { .. } => "preference_dropped",
            Reason::PreferenceExpired { .. } => "preference_expired",
            Reason::Paused { .. } => "paused",
            Reason::Resumed { .. } => "resumed",
            Reason::TestOrdered { .. } => "test_ordered",
            Reason::PauseHolds { .. } => "pause_holds",
            Reason::TakenOut { .. } => "taken_out",
            Reason::PutBack { .. } => "put_back",
            Reason::MaintenanceHolds { .. } => "maintenance_holds",
            Reason::AdminInForce { .. } => "admin_in_force",
            Reason::AdminReasserted { .. } => "admin_reasserted",
            Reason::AdminLags { .. } => "admin_lags",
            Reason::Adopted { .. } => "adopted",
            Reason::Placed { .. } => "placed",
            Reason::Reasserted { .. } => "reasserted",
            Reason::RouteInForce { .. } => "route_in_force",
            Reason::RouteLags { .. } => "route_lags",
            Reason::RouteContested { .. } => "route_contested",
            Reason::RouteWaits { .. } => "route_waits",
            Reason::ContainerEnded { .. } => "container_ended",
            Reason::ContainerGone { .. } => "container_gone",
            Reason::Heals { .. } => "heals",
            Reason::Healed { .. } => "healed",
            Reason::HealUnknown { .. } => "heal_unknown",
            Reason::HealWaits { .. } => "heal_waits",
            Reason::DependencyUnkept { .. } => "dependency_unkept",
            Reason::HealLabelUnknown { .. } => "heal_label_unknown",
            Reason::NetworkLost { .. } => "network_lost",
            Reason::GaveUp { .. } => "gave_up",
            Reason::HoldLifted { .. } => "hold_lifted",
            Reason::ContainerStands { .. } => "container_stands",
            Reason::IncidentOpened { .. } => "incident_opened",
            Reason::IncidentEnded { .. } => "incident_ended",
            Reason::IncidentMerged { .. } => "incident_merged",
            Reason::InvariantBroken { .. } => "invariant_broken",
            Reason::ToldByAlertmanager { .. } => "told_by_alertmanager",
            Reason::TellsByMail { .. } => "tells_by_mail",
            Reason::Mailed { .. } => "mailed",
            Reason::PeerFound { .. } => "peer_found",
            Reason::PeerLost { .. } => "peer_lost",
            Reason::Evacuated { .. } => "evacuated",
            Reason::Stays { .. } => "stays",
            Reason::ComesNext { .. } => "comes_next",
            Reason::Serving { .. } => "serving",
            Reason::Unserved { .. } => "unserved",
            Reason::PreferenceHolds { .. } => "preference_holds",
            Reason::ServedElsewhere { .. } => "served_elsewhere",
            Reason::Denied { .. } => "denied",
            Reason::ProxyFound { .. } => "proxy_found",
            Reason::ProxyLost { .. } => "proxy_lost",
            Reason::ProxyReplaced { .. } => "proxy_replaced",
            Reason::ProxyForeign { .. } => "proxy_foreign",
            Reason::ConfigInForce { .. } => "config_in_force",
            Reason::ConfigHeld { .. } => "config_held",
            Reason::RollbackOrdered { .. } => "rollback_ordered",
            Reason::RollbackRefused { .. } => "rollback_refused",
            Reason::ConfigResumed { .. } => "config_resumed",
            Reason::ConfigRefused { .. } => "config_refused",
            Reason::ConfigUnproven { .. } => "config_unproven",
            Reason::ConfigContested { .. } => "config_contested",
            Reason::EngineFound { .. } => "engine_found",
            Reason::EngineLost { .. } => "engine_lost",
            Reason::PolicyChanged { .. } => "policy_changed",
            Reason::Store { .. } => "store",
            Reason::Late { .. } => "late",
            Reason::ProberSilent { .. } => "prober_silent",
        }
    }

    /// The service it is about, if it is about one.
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Reason::ServerUp { server, .. }
            | Reason::ServerDown { server, .. }
            | Reason::ServerIsDown { server, .. }
            | Reason::ServerDead { server, .. }
            | Reason::ServerLives { server, .. }
            | Reason::ServerFailing { server, .. }
            | Reason::ServerFlaps { server, .. }
            | Reason::ServerSteady { server, .. }
            | Reason::ServerDegraded { server, .. }
            | Reason::ServerSound { server, .. }
            | Reason::TakenOut { server, .. }
            | Reason::PutBack { server, .. }
            | Reason::MaintenanceHolds { server, .. }
            | Reason::AdminInForce { server, .. }
            | Reason::AdminReasserted { server, .. }
            | Reason::AdminLags { server, .. }
            | Reason::PathContradicted { server, .. }
            | Reason::Evacuated { server, .. }
            | Reason::Late { server, .. }
            | Reason::ProberSilent { server, .. } => Some(server.service),
            Reason::Failover { service, .. }
            | Reason::Failback { service, .. }
            | Reason::SiteRemoved { service, .. }
            | Reason::Relief { service, .. }
            | Reason::LeftTakenOut { service, .. }
            | Reason::MovedTogether { service, .. }
            | Reason::MovedToFirst { service, .. }
            | Reason::Switchover { service, .. }
            | Reason::PreferenceSet { service, .. }
            | Reason::PreferenceVoid { service, .. }
            | Reason::PreferenceDropped { service, .. }
            | Reason::PreferenceExpired { service, .. }
            | Reason::Adopted { service, .. }
            | Reason::Placed { service, .. }
            | Reason::Reasserted { service, .. }
            | Reason::RouteInForce { service, .. }
            | Reason::RouteLags { service, .. }
            | Reason::RouteContested { service, .. }
            | Reason::RouteWaits { service, .. }
            | Reason::Stays { service, .. }
            | Reason::ComesNext { service, .. }
            | Reason::Serving { service, .. }
            | Reason::Unserved { service, .. }
            | Reason::PreferenceHolds { service, .. }
            | Reason::ServedElsewhere { service, .. } => Some(*service),
            Reason::IncidentOpened { trouble, .. }
            | Reason::IncidentEnded { trouble, .. }
            | Reason::IncidentMerged { trouble, .. }
            | Reason::ToldByAlertmanager { trouble, .. } => trouble.service(),
            Reason::ContainerEnded { .. }
            | Reason::Heals { .. }
            | Reason::Healed { .. }
            | Reason::HealUnknown { .. }
            | Reason::ContainerGone { .. }
            | Reason::HealWaits { .. }
            | Reason::DependencyUnkept { .. }
            | Reason::HealLabelUnknown { .. }
            | Reason::NetworkLost { .. }
            | Reason::GaveUp { .. }
            | Reason::HoldLifted { .. }
            | Reason::ContainerStands { .. }
            | Reason::Paused { .. }
            | Reason::Resumed { .. }
            | Reason::TestOrdered { .. }
            | Reason::InvariantBroken { .. }
            | Reason::PauseHolds { .. }
            | Reason::TellsByMail { .. }
            | Reason::Mailed { .. }
            | Reason::PeerFound { .. }
            | Reason::PeerLost { .. }
            | Reason::CutOff { .. }
            | Reason::Reconnected
            | Reason::Denied { .. }
            | Reason::ProxyFound { .. }
            | Reason::ProxyLost { .. }
            | Reason::ProxyReplaced { .. }
            | Reason::ProxyForeign { .. }
            | Reason::ConfigInForce { .. }
            | Reason::ConfigHeld { .. }
            | Reason::RollbackOrdered { .. }
            | Reason::RollbackRefused { .. }
            | Reason::ConfigResumed { .. }
            | Reason::ConfigRefused { .. }
            | Reason::ConfigUnproven { .. }
            | Reason::ConfigContested { .. }
            | Reason::EngineFound { .. }
            | Reason::EngineLost { .. }
            | Reason::PolicyChanged { .. }
            | Reason::Store { .. } => None,
        }
    }
}
