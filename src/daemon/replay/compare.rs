//! Two stories of the same time, side by side: what is in both is left out, what is in one only, or at another time, is shown.

use crate::domain::action::{Action, Deed};
use crate::domain::delivery::MailKind;
use crate::domain::reason::Reason;
use crate::domain::state::Placement;
use crate::domain::{Change, Decision, ServiceId, State, Wall};
use crate::present::{self, Level};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What differs by no more than this is the same: the replay wakes at its deadlines and has its routes at once, the daemon a
/// moment later. Less than what `fall` or an interval makes of a failover.
const SAME_WITHIN_MS: u64 = 100;

/// What differs by more than this is not the same thing at another time.
const OTHER_AFTER_MS: u64 = 10 * 60 * 1_000;

/// One reason, of one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// When: milliseconds since the Unix epoch.
    #[serde(skip)]
    pub at: Wall,
    /// The reason's stable code.
    pub code: &'static str,
    /// The service it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// How loudly it is logged.
    pub level: Level,
    /// In words.
    pub words: String,
    /// What it is about, without anything that may differ by time: two lines with the same are about the same.
    #[serde(skip)]
    key: String,
}

/// One line of the comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// When it was, or would have been; the sooner of both.
    pub at: Wall,
    /// As it was.
    pub was: Option<Line>,
    /// As it would have been.
    pub would: Option<Line>,
}

/// What was done, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// How often a service's traffic moved.
    pub switches: u64,
    /// How often a container was started.
    pub starts: u64,
    /// How often one that ran was restarted.
    pub restarts: u64,
    /// Mails about what began, or lasts.
    pub mails_firing: u64,
    /// Mails about what ended.
    pub mails_resolved: u64,
    /// Incidents that were opened.
    pub incidents: u64,
}

impl Totals {
    /// Counts one decision, made on the state `before` it.
    pub(super) fn count(&mut self, before: &State, decision: &Decision) {
        let mut opened = BTreeSet::new();
        for change in &decision.changes {
            match change {
                Change::Placed { service, placement: Placement::On(route) } => {
                    let from = before.services.get(service).and_then(|known| known.placement.site());
                    self.switches += u64::from(from.is_some_and(|from| from != route.site));
                }
                // One decision may change it several times.
                Change::Incident { id, incident: Some(incident) }
                    if incident.ended.is_none() && !before.incidents.contains_key(id) =>
                {
                    opened.insert(*id);
                }
                _ => {}
            }
        }
        self.incidents += opened.len() as u64;
        for action in &decision.actions {
            match action {
                Action::Heal(heal) => match heal.deed {
                    Deed::Start => self.starts += 1,
                    Deed::Restart { .. } => self.restarts += 1,
                },
                Action::Mail(mail) => match mail.kind {
                    MailKind::Firing => self.mails_firing += 1,
                    MailKind::Resolved => self.mails_resolved += 1,
                    MailKind::Test => {}
                },
                Action::Route { .. } | Action::Pace { .. } | Action::Evacuate(_) | Action::Answer { .. } => {}
            }
        }
    }
}

impl Line {
    /// The lines of one decision. What the replay assumes, or leaves to the journal, is no line.
    pub(super) fn of(at: Wall, reasons: &[Reason]) -> impl Iterator<Item = Line> + '_ {
        reasons.iter().filter(|reason| counts(reason)).map(move |reason| Line {
            at,
            code: reason.code(),
            service: reason.service(),
            level: present::log_level(reason),
            words: present::reason(reason),
            key: key(reason),
        })
    }
}

/// Whether a reason is about a decision, and not about how an HAProxy, a relay or an Alertmanager took it, which is assumed.
fn counts(reason: &Reason) -> bool {
    !matches!(
        reason,
        Reason::RouteInForce { .. }
            | Reason::RouteLags { .. }
            | Reason::RouteWaits { .. }
            | Reason::AdminInForce { .. }
            | Reason::AdminLags { .. }
            | Reason::Evacuated { .. }
            | Reason::Mailed { .. }
            | Reason::ToldByAlertmanager { .. }
            | Reason::InvariantBroken { .. }
            | Reason::PolicyChanged { .. }
            | Reason::Late { .. }
    ) && present::log_level(reason) > Level::Debug
}

/// The reason without its numbers: they are times, counts and ids, which differ where nothing else does.
fn key(reason: &Reason) -> String {
    fn bare(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Number(_) => Value::Null,
            Value::Array(values) => Value::Array(values.into_iter().map(bare).collect()),
            Value::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, value)| (name, bare(value))).collect())
            }
            Value::Null | Value::Bool(_) | Value::String(_) => value,
        }
    }
    serde_json::to_value(reason).map(|value| bare(value).to_string()).unwrap_or_default()
}

/// What differs, in the order of time, and how many lines are in both.
pub(super) fn rows(was: Vec<Line>, would: Vec<Line>) -> (Vec<Row>, u64) {
    let mut here: BTreeMap<String, VecDeque<Line>> = BTreeMap::new();
    for line in would {
        here.entry(line.key.clone()).or_default().push_back(line);
    }
    let (mut rows, mut same) = (Vec::new(), 0);
    for line in was {
        let others = here.entry(line.key.clone()).or_default();
        // What comes so long before it has nothing to do with it, nor with what follows.
        let long_before = |other: &Line| other.at < line.at && apart(other, &line) > OTHER_AFTER_MS;
        while others.front().is_some_and(long_before) {
            rows.extend(others.pop_front().map(|other| Row { at: other.at, was: None, would: Some(other) }));
        }
        let near = others.front().is_some_and(|other| apart(other, &line) <= OTHER_AFTER_MS);
        match if near { others.pop_front() } else { None } {
            Some(other) if apart(&other, &line) <= SAME_WITHIN_MS => same += 1,
            Some(other) => {
                rows.push(Row { at: line.at.min(other.at), was: Some(line), would: Some(other) });
            }
            None => rows.push(Row { at: line.at, was: Some(line), would: None }),
        }
    }
    let rest = here.into_values().flatten();
    rows.extend(rest.map(|line| Row { at: line.at, was: None, would: Some(line) }));
    rows.sort_by_key(|row| row.at);
    (rows, same)
}

fn apart(one: &Line, other: &Line) -> u64 {
    one.at.0.abs_diff(other.at.0)
}
