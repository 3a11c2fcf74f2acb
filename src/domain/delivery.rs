//! Who tells people about an incident, and when: Alertmanager, or, when it cannot, we ourselves by mail.
//!
//! ```text
//!             stored by a peer          it stays for notify_grace, or is silenced
//!   Pending ───────────────────► Stored ──────────────────────────────────────► ByAlertmanager
//!     │  ▲                         │ every peer has lost it
//!     │  └─────────────────────────┘
//!     │ opened + fallback_after, and each peer has failed three times; or, where one had said yes and does not have it,
//!     │ opened + fallback_after + notify_grace
//!     ▼
//!   ByMail ── told again every hour; the end is owed by mail, whoever is there by then
//! ```
//!
//! Time runs from the opening of the incident and is never set back. An answer of 200 is not a delivery: the alert is read
//! back. [`plan`] is a pure question, like the one about traffic; [`decide`](super::decide()) acts on its answer.

use super::id::PeerId;
use super::incident::{Incident, IncidentId, Trouble};
use super::reason::Reason;
use super::silence::Silence;
use super::time::{Boot, Now, Span, Wall};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The label of what we mailed ourselves, as name and value: Alertmanager shows it, and its routes keep it from being
/// mailed twice.
pub const DELIVERED_BY: (&str, &str) = ("delivered_by", "supervisor-email");

/// How many tries of each peer must have failed since the opening before a mail goes out: one lost connection is no outage.
pub const TRIES: usize = 3;

/// What lasted shorter than this and is over is no news: Alertmanager's `group_wait` (30 s by default) keeps it back, too.
pub const NEWS_AFTER: Span = Span::seconds(30);

/// How long an alert that ended is still sent to Alertmanager, as Prometheus does (`resolvedRetention`).
pub const RESOLVED_SENT_FOR: Span = Span::seconds(15 * 60);

/// Mails go out at full multiples of this: what began together is told together.
pub const MAIL_EVERY: Span = Span::seconds(5);

/// What is due at one time goes out one by one up to this many; more are one digest.
pub const DIGEST_FROM: usize = 4;

/// What was told in one mail ends in one mail, if the last of it is over so soon after the first: so many heals and probes
/// of one cause take, and Alertmanager's `group_wait` (30 s by default) is no shorter.
pub const ENDS_TOGETHER: Span = Span::seconds(30);

/// At most so many mails within [`MAILS_WINDOW`]; what comes on top waits and becomes one digest. Nothing is dropped.
pub const MAILS_MAX: usize = 10;

/// What was mailed and lasts is mailed again after this, as Alertmanager would (`repeat_interval` of the shipped settings).
/// It runs from when a relay took the mail, so that none pile up in front of a relay that is away.
pub const MAIL_AGAIN: Span = Span::seconds(3600);

/// The window of [`MAILS_MAX`].
pub const MAILS_WINDOW: Span = Span::seconds(10 * 60);

/// How alerts are delivered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AlertPolicy {
    /// The Alertmanagers; each gets every alert.
    pub peers: BTreeSet<PeerId>,
    /// Whether there is somebody to mail to.
    pub direct: bool,
    /// How long after the opening nothing must have accepted an incident before it is mailed.
    pub fallback_after: Span,
    /// How long an Alertmanager must have had an incident before it counts as told: its group wait, its cluster's waits,
    /// and its own mail.
    pub notify_grace: Span,
}

/// Whether people have been told of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Telling {
    /// Nobody has it.
    Pending {
        /// A peer said yes to it, and does not have it.
        accepted: bool,
        /// A peer refused this alert, in these words, while it takes others.
        rejected: Option<String>,
    },
    /// An Alertmanager has it.
    Stored {
        /// Since then.
        since: Boot,
        /// Which of them have it.
        by: BTreeSet<PeerId>,
    },
    /// An Alertmanager has had it for long enough, or somebody silenced it there: it is told.
    ByAlertmanager,
    /// We told it ourselves.
    ByMail {
        /// With this mail, lately.
        mail: MailKey,
        /// An earlier mail, or this one, has reached somebody, who is owed the end.
        reached: bool,
        /// When it is told again, if it still lasts; none while the mail is on its way.
        again: Option<Boot>,
    },
    /// Its end is told, too, or need not be.
    Over {
        /// It was told by mail.
        by_mail: bool,
    },
}

impl Default for Telling {
    fn default() -> Telling {
        Telling::Pending { accepted: false, rejected: None }
    }
}

impl Telling {
    /// The mail in which people were told lately, if more is to be told by mail.
    pub fn mail(&self) -> Option<MailKey> {
        match self {
            Telling::ByMail { mail, .. } => Some(*mail),
            Telling::Pending { .. }
            | Telling::Stored { .. }
            | Telling::ByAlertmanager
            | Telling::Over { .. } => None,
        }
    }

    pub(super) fn shift(&mut self, by: i64) {
        match self {
            Telling::Stored { since, .. } => *since = since.shift(by),
            Telling::ByMail { again: Some(again), .. } => *again = again.shift(by),
            Telling::Pending { .. }
            | Telling::ByMail { again: None, .. }
            | Telling::ByAlertmanager
            | Telling::Over { .. } => {}
        }
    }
}

/// Which mail, among those of this process and of earlier ones. A process that lost its state counts from the beginning,
/// while mails of an earlier one may still be on their way: the number alone does not name a mail. The key of its row in the
/// outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MailKey {
    /// Its number, as its process counted.
    pub id: MailId,
    /// When it was decided.
    pub at: Wall,
}

/// The number of a mail; grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MailId(pub u64);

/// A mail that is to be sent, once: everything that is needed to write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Its name.
    pub id: MailId,
    /// What it tells.
    pub kind: MailKind,
    /// Why it does not go through Alertmanager.
    pub why: WhyDirect,
    /// When it was decided.
    pub at: Wall,
    /// Of what; more than one in a digest.
    pub incidents: Vec<Told>,
}

impl MailKey {
    /// The key of `mail`.
    pub fn of(mail: &Mail) -> MailKey {
        MailKey { id: mail.id, at: mail.at }
    }
}

/// What a mail tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailKind {
    /// `[FIRING:n]`.
    Firing,
    /// `[RESOLVED]`.
    Resolved,
    /// A person wants to see whether mails arrive.
    Test,
}

impl MailKind {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            MailKind::Firing => "firing",
            MailKind::Resolved => "resolved",
            MailKind::Test => "test",
        }
    }
}

/// One incident in a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Which.
    pub incident: IncidentId,
    /// What is wrong.
    pub trouble: Trouble,
    /// Since when.
    pub opened: Wall,
    /// Until when, if it is over.
    pub ended: Option<Wall>,
    /// What led to it and what was done.
    pub story: Vec<Reason>,
}

/// Why a mail goes out directly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhyDirect {
    /// The settings name no Alertmanager.
    NoAlertmanager,
    /// None of them takes alerts.
    Unreachable {
        /// Each with its last failure, in words.
        peers: Vec<(PeerId, String)>,
    },
    /// One said yes, and does not have it.
    NotStored,
    /// This alert was refused, in these words.
    Rejected {
        /// Alertmanager's.
        words: String,
    },
    /// Whoever got the beginning from us gets the end from us.
    Owed,
    /// The beginning went out directly, and it lasts.
    Lasts,
    /// A person asked for it.
    Asked,
}

/// How one Alertmanager stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Peer {
    /// Whether it takes alerts.
    pub link: PeerLink,
    /// When it failed lately, oldest first, since it last did not; at most [`TRIES`].
    pub failures: Vec<Boot>,
    /// Its silences as they were read last. They hold while it is away.
    #[serde(default)]
    pub silences: Vec<Silence>,
}

/// Whether an Alertmanager takes alerts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerLink {
    /// Not tried since the start.
    #[default]
    Unseen,
    /// It does.
    Up,
    /// It does not.
    Down {
        /// Since then.
        since: Boot,
        /// Why, in words.
        why: String,
    },
}

/// What one Alertmanager says of one alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It has it, and tells.
    Active,
    /// It has it, and somebody silenced it, or another alert inhibits it: handled.
    Suppressed,
    /// It said yes, and does not have it.
    Absent,
    /// It refuses it, in these words, and takes others.
    Rejected(String),
    /// It was told that it is over, and said yes.
    Resolved,
}

/// What [`plan`] finds about one incident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing is to be done, as far as time is concerned.
    Rest,
    /// Something may be to be done then.
    Wait(Boot),
    /// It counts as told by Alertmanager from now on.
    Told,
    /// It is mailed.
    Mail(MailKind, WhyDirect),
    /// Its end need not be told, or was told by others.
    Over,
}

/// What is to be done about telling `incident` at `now`.
pub fn plan(incident: &Incident, policy: &AlertPolicy, peers: &BTreeMap<PeerId, Peer>, now: Now) -> Plan {
    let plan = unsilenced(incident, policy, peers, now.boot);
    match (&plan, &incident.telling) {
        // Nobody has heard of it, and somebody wanted it so. When the silence is over and it lasts, they do.
        (
            Plan::Mail(kind, why),
            Telling::Pending { .. } | Telling::Stored { .. } | Telling::ByAlertmanager,
        )
        | (Plan::Mail(kind @ MailKind::Firing, why), Telling::ByMail { .. }) => {
            match silenced(incident, peers, now) {
                Some(_) if incident.ended.is_some() => Plan::Over,
                Some(until) => Plan::Wait(until),
                None => Plan::Mail(*kind, why.clone()),
            }
        }
        _ => plan,
    }
}

/// Until when an Alertmanager that is away silences `incident`, as far as is known; none if it does not. One that answers
/// says itself that the alert is suppressed, unless that is one that we have mailed.
pub fn silenced(incident: &Incident, peers: &BTreeMap<PeerId, Peer>, now: Now) -> Option<Boot> {
    let labels = incident.trouble.labels();
    let mut mailed = labels.clone();
    mailed.insert(DELIVERED_BY.0.to_owned(), DELIVERED_BY.1.to_owned());
    // What was mailed it has under another name, and about that it is not asked.
    let by_mail = matches!(incident.telling, Telling::ByMail { .. });
    let asked = peers.values().filter(|peer| by_mail || peer.link != PeerLink::Up);
    let covers = |silence: &&Silence| {
        silence.covers(&labels, now.wall) || (by_mail && silence.covers(&mailed, now.wall))
    };
    let all = asked.flat_map(|peer| &peer.silences).filter(covers);
    let last = all.map(|silence| silence.ends).max()?;
    Some(now.boot + Span(u64::try_from(last.0.saturating_sub(now.wall.0)).unwrap_or(0)))
}

/// The same without regard to silences.
fn unsilenced(incident: &Incident, policy: &AlertPolicy, peers: &BTreeMap<PeerId, Peer>, now: Boot) -> Plan {
    match (&incident.telling, incident.ended) {
        (Telling::Over { .. }, _) => Plan::Rest,
        (Telling::Stored { since, .. }, None) => {
            let told = *since + policy.notify_grace;
            if told <= now { Plan::Told } else { Plan::Wait(told) }
        }
        (Telling::ByMail { again: Some(again), .. }, None) => {
            let due = aligned(*again);
            if due <= now { Plan::Mail(MailKind::Firing, WhyDirect::Lasts) } else { Plan::Wait(due) }
        }
        (Telling::ByAlertmanager | Telling::ByMail { again: None, .. }, None) => Plan::Rest,
        (Telling::Pending { accepted, rejected }, None) => {
            pending(incident, *accepted, rejected.as_deref(), MailKind::Firing, policy, peers, now)
        }
        (Telling::ByMail { .. }, Some(_)) => Plan::Mail(MailKind::Resolved, WhyDirect::Owed),
        // Alertmanager tells the end as it told the beginning, unless it has gone meanwhile.
        (Telling::Stored { .. } | Telling::ByAlertmanager, Some(ended)) => {
            let due = aligned(ended.at + policy.fallback_after);
            match () {
                () if now < due => Plan::Wait(due),
                () if policy.direct => Plan::Mail(MailKind::Resolved, unreachable(peers)),
                () => Plan::Over,
            }
        }
        (Telling::Pending { accepted, rejected }, Some(ended)) => {
            let forgotten = ended.at + RESOLVED_SENT_FOR;
            match () {
                () if ended.at.since(incident.opened) < NEWS_AFTER => return Plan::Over,
                // Nobody could be told, and nobody is asked any more.
                () if !policy.direct && forgotten <= now => return Plan::Over,
                () if !policy.direct => return Plan::Wait(forgotten),
                () => {}
            }
            pending(incident, *accepted, rejected.as_deref(), MailKind::Resolved, policy, peers, now)
        }
    }
}

/// Nobody has it: is it time to mail it?
fn pending(
    incident: &Incident,
    accepted: bool,
    rejected: Option<&str>,
    kind: MailKind,
    policy: &AlertPolicy,
    peers: &BTreeMap<PeerId, Peer>,
    now: Boot,
) -> Plan {
    if !policy.direct {
        return Plan::Rest;
    }
    let first = aligned(incident.opened + policy.fallback_after);
    let last = aligned(first + policy.notify_grace);
    let failed = |peer: &Peer| {
        peer.failures.len() >= TRIES && peer.failures.first().is_some_and(|at| *at >= incident.opened)
    };
    let all_failed = peers.values().all(failed);
    let why = || match rejected {
        Some(words) => WhyDirect::Rejected { words: words.to_owned() },
        None if peers.is_empty() => WhyDirect::NoAlertmanager,
        None if accepted => WhyDirect::NotStored,
        None => unreachable(peers),
    };
    match () {
        () if now < first => Plan::Wait(first),
        () if rejected.is_some() || (all_failed && !accepted) => Plan::Mail(kind, why()),
        // One may have it after all, or is still being tried; but not for ever.
        () if now < last => Plan::Wait(last),
        () => Plan::Mail(kind, why()),
    }
}

/// The first multiple of [`MAIL_EVERY`] that is not before `at`.
fn aligned(at: Boot) -> Boot {
    let every = i64::try_from(MAIL_EVERY.0).unwrap_or(1);
    let over = at.0.rem_euclid(every);
    if over == 0 { at } else { at.shift(every - over) }
}

fn unreachable(peers: &BTreeMap<PeerId, Peer>) -> WhyDirect {
    let words = |peer: &Peer| match &peer.link {
        PeerLink::Down { why, .. } => why.clone(),
        PeerLink::Unseen | PeerLink::Up => "it gave no answer about this alert".to_owned(),
    };
    if peers.is_empty() {
        return WhyDirect::NoAlertmanager;
    }
    WhyDirect::Unreachable { peers: peers.iter().map(|(id, peer)| (*id, words(peer))).collect() }
}

/// What an incident's telling is after `peer` said `word` of it.
#[must_use]
pub fn after_word(incident: &Incident, peer: PeerId, word: &Word, now: Boot) -> Telling {
    let telling = &incident.telling;
    if incident.ended.is_some() {
        return match (telling, word) {
            // Told by Alertmanager, and its end as well.
            (Telling::Stored { .. } | Telling::ByAlertmanager, Word::Resolved) => {
                Telling::Over { by_mail: false }
            }
            // What nobody was told of is not told by its end: an Alertmanager that never had it says nothing.
            (
                Telling::Pending { .. }
                | Telling::Stored { .. }
                | Telling::ByAlertmanager
                | Telling::ByMail { .. }
                | Telling::Over { .. },
                _,
            ) => telling.clone(),
        };
    }
    match (telling, word) {
        (Telling::Pending { .. } | Telling::Stored { .. }, Word::Suppressed) => Telling::ByAlertmanager,
        (Telling::Pending { .. }, Word::Active) => Telling::Stored { since: now, by: [peer].into() },
        (Telling::Stored { since, by }, Word::Active) => {
            Telling::Stored { since: *since, by: by.iter().copied().chain([peer]).collect() }
        }
        (Telling::Stored { since, by }, Word::Absent | Word::Rejected(_)) => without(*since, by, peer),
        (Telling::Pending { rejected, .. }, Word::Absent) => {
            Telling::Pending { accepted: true, rejected: rejected.clone() }
        }
        (Telling::Pending { accepted, .. }, Word::Rejected(words)) => {
            Telling::Pending { accepted: *accepted, rejected: Some(words.clone()) }
        }
        (Telling::Pending { .. } | Telling::Stored { .. }, Word::Resolved)
        | (Telling::ByAlertmanager | Telling::ByMail { .. } | Telling::Over { .. }, _) => telling.clone(),
    }
}

/// What an incident's telling is after `peer` failed.
#[must_use]
pub fn after_failure(incident: &Incident, peer: PeerId) -> Telling {
    match &incident.telling {
        // What it had is lost with it, as far as anybody knows: Alertmanager keeps alerts in memory only.
        Telling::Stored { since, by } if incident.ended.is_none() => without(*since, by, peer),
        Telling::Pending { .. }
        | Telling::Stored { .. }
        | Telling::ByAlertmanager
        | Telling::ByMail { .. }
        | Telling::Over { .. } => incident.telling.clone(),
    }
}

fn without(since: Boot, by: &BTreeSet<PeerId>, peer: PeerId) -> Telling {
    let by: BTreeSet<PeerId> = by.iter().copied().filter(|other| *other != peer).collect();
    if by.is_empty() {
        Telling::Pending { accepted: true, rejected: None }
    } else {
        Telling::Stored { since, by }
    }
}

#[cfg(test)]
mod tests;
