//! The part of the view about what is kept up: containers and their healing, incidents, and who tells of them.

use crate::domain::delivery::{PeerLink, Telling, silenced};
use crate::domain::explain::{container_notes, container_stands};
use crate::domain::id::{EngineId, PeerId, ServiceId, SiteId};
use crate::domain::policy::{ContainerRef, HealMode};
use crate::domain::repair::Phase;
use crate::domain::state::State;
use crate::domain::time::Now;
use crate::present;
use serde::{Deserialize, Serialize};

/// One container that is looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// The engine that runs it.
    pub engine: EngineId,
    /// Where it stands, if it is known.
    pub site: Option<SiteId>,
    /// Whether it is healed: `auto`, `always`, `notify`, `never`.
    pub heal: HealMode,
    /// What Docker says of it.
    pub status: String,
    /// Where its healing stands: a stable word.
    pub phase: String,
    /// The same as a sentence.
    pub words: String,
    /// What is wrong with what it depends on: a sentence each.
    #[serde(default)]
    pub notes: Vec<String>,
    /// How it ended last, if it did since supervisor watches.
    pub last: Option<String>,
    /// Its starts within the budget's window.
    pub starts: usize,
    /// So many of them at most.
    pub starts_max: u16,
    /// When time alone changes something, in milliseconds from now.
    pub next_ms: Option<u64>,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentView {
    /// Its number.
    pub id: u64,
    /// The name of its alert.
    pub name: String,
    /// `warning` or `critical`.
    pub severity: String,
    /// What is wrong, as a sentence.
    pub words: String,
    /// The service that it is about, if it is about one.
    pub service: Option<ServiceId>,
    /// Since when: RFC 3339, UTC.
    pub since: String,
    /// For how long, in milliseconds.
    pub since_ms: u64,
    /// Who has told people: `nobody`, `nobody_silenced` (an Alertmanager that is away had a silence for it),
    /// `alertmanager_has_it`, `alertmanager`, `mail`.
    pub told_by: String,
}

/// One Alertmanager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerView {
    /// Its name.
    pub name: PeerId,
    /// Whether it takes alerts; none: not tried yet.
    pub up: Option<bool>,
    /// Why not, if not.
    pub why: Option<String>,
}

/// Every container that is looked after, by engine and name.
pub(super) fn containers(state: &State, now: Now) -> Vec<ContainerView> {
    state.repairs.keys().filter_map(|container| container_view(state, container, now)).collect()
}

fn container_view(state: &State, container: &ContainerRef, now: Now) -> Option<ContainerView> {
    let (policy, repair) = (state.policy.containers.get(container)?, state.repairs.get(container)?);
    let limits = &state.policy.heal;
    let label = state
        .engines
        .get(&container.engine)
        .and_then(|engine| engine.containers.get(&container.name))
        .and_then(|seen| seen.facts.heal);
    let words = match container_stands(state, container, now) {
        Some(reason) => present::reason(&reason),
        None if repair.phase == Phase::Unseen => format!("{} was not seen yet", container.name),
        None => format!("{} runs", container.name),
    };
    Some(ContainerView {
        name: container.name.to_string(),
        engine: container.engine,
        site: policy.site,
        heal: policy.heal.or(label).unwrap_or(HealMode::Auto),
        status: status(state, container),
        phase: if repair.is_given_up() { "given_up" } else { repair.phase.word() }.to_owned(),
        words,
        notes: container_notes(state, container).iter().map(present::reason).collect(),
        last: repair.last.as_ref().map(present::ending),
        starts: repair.starts.iter().filter(|at| **at + limits.window > now.boot).count(),
        starts_max: limits.restarts,
        next_ms: repair.deadline().map(|at| at.since(now.boot).0),
    })
}

/// What Docker says of a container, in words.
pub(super) fn status(state: &State, container: &ContainerRef) -> String {
    let engine = state.engines.get(&container.engine);
    let seen = engine.and_then(|engine| engine.containers.get(&container.name));
    match (seen, engine.and_then(|engine| engine.found)) {
        (_, Some(false)) => "not known: Docker does not answer".to_owned(),
        (_, None) => "not known yet".to_owned(),
        (Some(seen), Some(true)) => present::container(seen.status),
        (None, Some(true)) => "does not exist".to_owned(),
    }
}

/// What is wrong now, the oldest first.
pub(super) fn incidents(state: &State, now: Now) -> Vec<IncidentView> {
    let open = state.incidents.iter().filter(|(_, incident)| incident.ended.is_none());
    let view = open.map(|(id, incident)| IncidentView {
        id: id.0,
        name: incident.trouble.name().to_owned(),
        severity: incident.trouble.severity().as_str().to_owned(),
        words: present::trouble(&incident.trouble),
        service: incident.trouble.service(),
        since: present::time(incident.opened_wall),
        since_ms: now.boot.since(incident.opened).0,
        told_by: match incident.telling {
            Telling::Pending { .. } if silenced(incident, &state.peers, now).is_some() => "nobody_silenced",
            Telling::Pending { .. } | Telling::Over { .. } => "nobody",
            Telling::Stored { .. } => "alertmanager_has_it",
            Telling::ByAlertmanager => "alertmanager",
            Telling::ByMail { .. } => "mail",
        }
        .to_owned(),
    });
    view.collect()
}

/// The Alertmanagers.
pub(super) fn peers(state: &State) -> Vec<PeerView> {
    let view = state.peers.iter().map(|(id, peer)| match &peer.link {
        PeerLink::Unseen => PeerView { name: *id, up: None, why: None },
        PeerLink::Up => PeerView { name: *id, up: Some(true), why: None },
        PeerLink::Down { why, .. } => PeerView { name: *id, up: Some(false), why: Some(why.clone()) },
    });
    view.collect()
}
