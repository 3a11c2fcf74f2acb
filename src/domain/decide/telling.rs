//! Telling people of incidents: what Alertmanagers and the sender of mails say, and what is due now.

use super::Draft;
use crate::domain::action::Action;
use crate::domain::change::Change;
use crate::domain::delivery::{
    self, DIGEST_FROM, ENDS_TOGETHER, MAIL_AGAIN, MAILS_MAX, MAILS_WINDOW, Mail, MailId, MailKey, MailKind,
    Peer, PeerLink, Plan, RESOLVED_SENT_FOR, TRIES, Telling, Told, WhyDirect,
};
use crate::domain::event::{MailEnd, Mailed, PeerResult, PeerSeen};
use crate::domain::id::PeerId;
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::reason::Reason;
use crate::domain::time::Boot;
use std::collections::{BTreeMap, BTreeSet};

/// One round with an Alertmanager.
pub(super) fn heard(draft: &mut Draft<'_>, seen: &PeerSeen) {
    let Some(before) = draft.peer(seen.peer).cloned() else { return };
    let now = draft.now.boot;
    let mut touched = BTreeSet::new();
    match &seen.result {
        PeerResult::Answered(words) => {
            let silences = seen.silences.clone().unwrap_or_else(|| before.silences.clone());
            set_peer(draft, seen.peer, &before, Peer { link: PeerLink::Up, failures: Vec::new(), silences });
            for (id, word) in words {
                let Some(incident) = draft.incident(*id) else { continue };
                let telling = delivery::after_word(incident, seen.peer, word, now);
                set_telling(draft, *id, telling);
                touched.insert(*id);
            }
        }
        PeerResult::Failed(words) => {
            let since = if let PeerLink::Down { since, .. } = before.link { since } else { now };
            let failures = failures_with(draft, &before, now);
            let link = PeerLink::Down { since, why: words.clone() };
            let silences = before.silences.clone();
            set_peer(draft, seen.peer, &before, Peer { link, failures, silences });
            for id in draft.incident_ids() {
                let Some(incident) = draft.incident(id) else { continue };
                let telling = delivery::after_failure(incident, seen.peer);
                set_telling(draft, id, telling);
                touched.insert(id);
            }
        }
    }
    tell(draft, touched);
}

/// The latest failures of a peer with one at `now`. Three that came after the opening of every incident that waits for it
/// prove all that they can: more would only fill the journal.
fn failures_with(draft: &Draft<'_>, peer: &Peer, now: Boot) -> Vec<Boot> {
    let mut failures = peer.failures.clone();
    let first = failures.first().copied().filter(|_| failures.len() >= TRIES);
    let waits_longer = |first: Boot| {
        let ids = draft.incident_ids();
        let mut waiting =
            ids.into_iter().filter_map(|id| draft.incident(id)).filter(|incident| match incident.telling {
                Telling::Pending { .. } | Telling::Stored { .. } => true,
                Telling::ByAlertmanager | Telling::ByMail { .. } | Telling::Over { .. } => false,
            });
        waiting.any(|incident| incident.opened > first)
    };
    match first {
        Some(first) if !waits_longer(first) => return failures,
        Some(_) => {
            failures.remove(0);
        }
        None => {}
    }
    failures.push(now);
    failures
}

/// What became of a mail.
pub(super) fn mailed(draft: &mut Draft<'_>, mailed: &Mailed) {
    draft.tell(Reason::Mailed { mail: mailed.mail.id, end: mailed.end.clone() });
    let again = Some(draft.now.boot + MAIL_AGAIN);
    let mut touched = BTreeSet::new();
    for id in draft.incident_ids() {
        let Some(Telling::ByMail { mail, reached, .. }) =
            draft.incident(id).map(|incident| &incident.telling)
        else {
            continue;
        };
        let (mail, reached) = (*mail, *reached);
        if mail != mailed.mail {
            continue;
        }
        let telling = match mailed.end {
            MailEnd::Accepted { .. } => Telling::ByMail { mail, reached: true, again },
            MailEnd::Deferred { .. } => continue,
            MailEnd::Dead { reached: true, .. } => Telling::ByMail { mail, reached: true, again },
            // An earlier one reached somebody.
            MailEnd::Dead { .. } | MailEnd::NotNeeded if reached => Telling::ByMail { mail, reached, again },
            MailEnd::Dead { .. } if draft.peers().is_empty() => Telling::ByMail { mail, reached, again },
            // It is Alertmanager's from now on, without the label that keeps it from being mailed there.
            MailEnd::Dead { .. } => Telling::ByAlertmanager,
            // Nobody got a mail, so nobody is owed one about the end: Alertmanager tells both.
            MailEnd::NotNeeded => Telling::ByAlertmanager,
        };
        set_telling(draft, id, telling);
        touched.insert(id);
    }
    tell(draft, touched);
}

fn set_peer(draft: &mut Draft<'_>, id: PeerId, before: &Peer, after: Peer) {
    match (&before.link, &after.link) {
        (PeerLink::Unseen | PeerLink::Down { .. }, PeerLink::Up) => {
            draft.tell(Reason::PeerFound { peer: id })
        }
        (PeerLink::Unseen | PeerLink::Up, PeerLink::Down { why, .. }) => {
            draft.tell(Reason::PeerLost { peer: id, words: why.clone() });
        }
        (PeerLink::Up, PeerLink::Up)
        | (PeerLink::Down { .. }, PeerLink::Down { .. })
        | (_, PeerLink::Unseen) => {}
    }
    if *before != after {
        draft.push(Change::Peer { peer: id, seen: after });
    }
}

fn set_telling(draft: &mut Draft<'_>, id: IncidentId, telling: Telling) {
    if let Some(incident) = draft.incident(id).cloned()
        && incident.telling != telling
    {
        draft.set_incident(id, Some(Incident { telling, ..incident }));
    }
}

/// Tells of `ids` what is due, and notes when something will be.
pub(super) fn tell(draft: &mut Draft<'_>, ids: BTreeSet<IncidentId>) {
    if ids.is_empty() {
        return;
    }
    let mut mails: BTreeMap<IncidentId, (MailKind, WhyDirect)> = BTreeMap::new();
    // Of each mail, whether something that it told lasts.
    let mut lasting: BTreeMap<MailKey, bool> = BTreeMap::new();
    for id in ids {
        // Its end is told with another one's.
        if mails.contains_key(&id) {
            continue;
        }
        let Some(incident) = draft.incident(id).cloned() else { continue };
        let plan = delivery::plan(&incident, &draft.state.policy.alerts, draft.peers(), draft.now);
        match plan {
            Plan::Rest => rest(draft, id, incident, None),
            Plan::Wait(at) => rest(draft, id, incident, Some(at)),
            Plan::Told => {
                let trouble = incident.trouble.clone();
                draft.tell(Reason::ToldByAlertmanager { incident: id, trouble });
                rest(draft, id, Incident { telling: Telling::ByAlertmanager, ..incident }, None);
            }
            Plan::Over => {
                let telling = Telling::Over { by_mail: false };
                rest(draft, id, Incident { telling, ..incident }, None);
            }
            Plan::Mail(MailKind::Resolved, why) => {
                let mail = incident.telling.mail();
                let lasts = mail.is_some_and(|mail| {
                    *lasting.entry(mail).or_insert_with(|| draft.told_in(mail, false).next().is_some())
                });
                let until = incident.ended.map(|ended| ended.at + ENDS_TOGETHER);
                match until.filter(|until| lasts && *until > draft.now.boot) {
                    Some(until) => rest(draft, id, incident, Some(until)),
                    None => {
                        let over = mail.into_iter().flat_map(|mail| draft.told_in(mail, true));
                        mails.extend(over.chain([id]).map(|id| (id, (MailKind::Resolved, why.clone()))));
                    }
                }
            }
            Plan::Mail(kind, why) => {
                mails.insert(id, (kind, why));
            }
        }
    }
    mail(draft, mails.into_iter().map(|(id, (kind, why))| (id, kind, why)).collect());
}

/// Nothing is to be told now; at `wake` something may be. What is over and no longer sent to anybody is forgotten.
fn rest(draft: &mut Draft<'_>, id: IncidentId, incident: Incident, wake: Option<Boot>) {
    let now = draft.now.boot;
    let forgotten =
        incident.ended.filter(|_| incident.part_of.is_none()).map(|ended| ended.at + RESOLVED_SENT_FOR);
    if matches!(incident.telling, Telling::Over { .. }) && forgotten.is_some_and(|at| at <= now) {
        return draft.set_incident(id, None);
    }
    let own = incident.trusted_from.filter(|_| incident.ended.is_none());
    let sending = forgotten.filter(|at| *at > now);
    let wake = [wake, own, sending].into_iter().flatten().min();
    draft.set_incident(id, Some(Incident { wake, ..incident }));
}

/// Sends what is due to be mailed: one by one, or as a digest when it is much, or when too many mails went out lately.
fn mail(draft: &mut Draft<'_>, due: Vec<(IncidentId, MailKind, WhyDirect)>) {
    let now = draft.now.boot;
    let recent: Vec<Boot> = draft.mails().into_iter().filter(|at| *at + MAILS_WINDOW > now).collect();
    if recent.len() >= MAILS_MAX
        && let Some(oldest) = recent.first()
    {
        for (id, ..) in due {
            if let Some(incident) = draft.incident(id).cloned() {
                rest(draft, id, incident, Some(*oldest + MAILS_WINDOW));
            }
        }
        return;
    }
    for kind in [MailKind::Firing, MailKind::Resolved] {
        let of_kind: Vec<_> = due.iter().filter(|(_, other, _)| *other == kind).collect();
        let room = MAILS_MAX.saturating_sub(recent.len());
        let all = of_kind.len() >= DIGEST_FROM || of_kind.len() > room;
        // What began in one mail ends in one.
        let first = |id: &IncidentId| match kind {
            MailKind::Resolved => draft.incident(*id).and_then(|incident| incident.telling.mail()),
            MailKind::Firing | MailKind::Test => None,
        };
        let mut batches: Vec<(Option<MailKey>, Vec<_>)> = Vec::new();
        for one in of_kind {
            let mail = first(&one.0);
            match batches.iter_mut().find(|(of, _)| all || (mail.is_some() && *of == mail)) {
                Some((_, batch)) => batch.push(one),
                None => batches.push((mail, vec![one])),
            }
        }
        for (_, together) in batches {
            let why = together.first().map(|(_, _, why)| why.clone());
            let ids: Vec<IncidentId> = together.iter().map(|(id, ..)| *id).collect();
            if let Some(why) = why {
                send(draft, &ids, kind, why);
            }
        }
    }
}

/// Decides one mail about `ids`.
fn send(draft: &mut Draft<'_>, ids: &[IncidentId], kind: MailKind, why: WhyDirect) {
    let id = MailId(draft.number().0);
    let mut incidents = Vec::new();
    for incident_id in ids {
        let Some(incident) = draft.incident(*incident_id).cloned() else { continue };
        incidents.push(Told {
            incident: *incident_id,
            trouble: incident.trouble.clone(),
            opened: incident.opened_wall,
            ended: incident.ended.map(|ended| ended.wall),
            story: incident.story.clone(),
        });
        let reached = matches!(incident.telling, Telling::ByMail { reached: true, .. });
        let telling = match kind {
            MailKind::Firing => {
                Telling::ByMail { mail: MailKey { id, at: draft.now.wall }, reached, again: None }
            }
            MailKind::Resolved | MailKind::Test => {
                Telling::Over { by_mail: matches!(incident.telling, Telling::ByMail { .. }) }
            }
        };
        rest(draft, *incident_id, Incident { telling, ..incident }, None);
    }
    post(draft, Mail { id, kind, why, at: draft.now.wall, incidents });
}

/// Sends a mail about nothing: a person wants to see whether it arrives.
pub(super) fn test_mail(draft: &mut Draft<'_>) {
    let id = MailId(draft.number().0);
    let at = draft.now.wall;
    post(draft, Mail { id, kind: MailKind::Test, why: WhyDirect::Asked, at, incidents: Vec::new() });
}

fn post(draft: &mut Draft<'_>, mail: Mail) {
    let incidents = u16::try_from(mail.incidents.len()).unwrap_or(u16::MAX);
    // What a person asks for takes nothing away from what must be told.
    if mail.kind != MailKind::Test {
        draft.push(Change::MailCounted { at: draft.now.boot });
    }
    let (id, kind, why) = (mail.id, mail.kind, mail.why.clone());
    draft.tell(Reason::TellsByMail { mail: id, kind, incidents, why });
    draft.act(Action::Mail(Box::new(mail)));
}
