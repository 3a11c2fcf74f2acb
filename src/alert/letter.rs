//! From a decision to a letter: the words of a mail, from the reasons that the core gave.

use super::email::{Item, Letter, MessageId, MessageIdError, Stamp};
use crate::domain::delivery::{Mail, MailKind, Told};
use crate::domain::incident::fingerprint;
use crate::domain::reason::Reason;
use crate::domain::time::{Span, Wall};
use crate::present;

/// Who writes to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correspondents {
    /// The sender's address.
    pub from: String,
    /// The recipients' addresses.
    pub to: Vec<String>,
    /// The machine's full name: in the letter, and behind the `@` of Message-IDs.
    pub host: String,
    /// The program's version.
    pub version: String,
}

/// The letter for `mail`. `may_duplicate`: the outbox is not on the disk, so a crash may send it twice.
pub(super) fn letter(mail: &Mail, who: &Correspondents, may_duplicate: bool) -> Letter {
    let items = match mail.kind {
        MailKind::Test => vec![test_item(mail)],
        MailKind::Firing | MailKind::Resolved => {
            mail.incidents.iter().map(|told| item(told, mail.at)).collect()
        }
    };
    Letter {
        from: who.from.clone(),
        to: who.to.clone(),
        items,
        group_by: vec!["alertname".to_owned(), "service".to_owned(), "site".to_owned()],
        why_direct: present::why_direct(&mail.why),
        may_duplicate,
        host: who.host.clone(),
        version: who.version.clone(),
    }
}

/// Its date, its name and its thread: the same whenever it is written, so that what is sent twice is known as the same.
pub(super) fn stamp(mail: &Mail, who: &Correspondents) -> Result<Stamp, MessageIdError> {
    let host = &who.host;
    let date = jiff::Timestamp::from_millisecond(mail.at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let kind = mail.kind.as_str();
    let number = mail.id.0;
    let thread = match mail.incidents.as_slice() {
        [one] => Some(format!("{}.{}", fingerprint(&one.trouble.labels()), one.opened.0)),
        // A digest belongs to no single incident.
        _ => None,
    };
    let name = thread.clone().unwrap_or_else(|| "supervisor".to_owned());
    Ok(Stamp {
        date,
        // The number alone is not enough: a process that lost its state counts from the beginning.
        message_id: MessageId::parse(&format!("<{name}.{kind}.{number}.{}@{host}>", mail.at.0))?,
        thread: thread.map(|name| MessageId::parse(&format!("<{name}@{host}>"))).transpose()?,
    })
}

fn item(told: &Told, now: Wall) -> Item {
    let trouble = &told.trouble;
    let mut labels = trouble.labels();
    let mut take = |name: &str| labels.remove(name).unwrap_or_default();
    let (alertname, severity) = (take("alertname"), take("severity"));
    let (did, description): (Vec<&Reason>, Vec<&Reason>) =
        told.story.iter().partition(|reason| is_deed(reason));
    let words = |reasons: Vec<&Reason>| reasons.into_iter().map(present::reason).collect();
    let end = told.ended.unwrap_or(now);
    let lasted = Span(u64::try_from(end.0.saturating_sub(told.opened.0)).unwrap_or(0));
    Item {
        alertname,
        severity,
        labels: labels.into_iter().collect(),
        summary: present::trouble(trouble),
        description: words(description),
        did: words(did),
        will: will(told),
        started: present::time(told.opened),
        ended: told.ended.map(present::time),
        duration: lasted.to_string(),
        fingerprint: fingerprint(&trouble.labels()),
        runbook_url: None,
    }
}

fn test_item(mail: &Mail) -> Item {
    Item {
        alertname: "SupervisorTest".to_owned(),
        severity: "none".to_owned(),
        labels: vec![("source".to_owned(), "supervisor".to_owned())],
        summary: "a test: mails of supervisor's own arrive here".to_owned(),
        description: vec!["nothing is wrong, and nothing is to be done".to_owned()],
        did: Vec::new(),
        will: Vec::new(),
        started: present::time(mail.at),
        ended: None,
        duration: Span::ZERO.to_string(),
        fingerprint: "test".to_owned(),
        runbook_url: None,
    }
}

/// Whether a reason tells what supervisor did, and not what happened.
fn is_deed(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Failover { .. } | Reason::Failback { .. } | Reason::Heals { .. } | Reason::Healed { .. }
    )
}

/// What supervisor will do next, as far as the story says.
fn will(told: &Told) -> Vec<String> {
    if told.ended.is_some() {
        return Vec::new();
    }
    let last = told.story.iter().rev().find_map(|reason| match reason {
        Reason::GaveUp { container, .. } => {
            Some(format!("{} is started again slowly; it needs a person", container.name))
        }
        Reason::ContainerEnded { container, then: crate::domain::reason::Then::Hold, .. } => {
            Some(format!("nothing, until somebody starts it: docker start {}", container.name))
        }
        Reason::HealWaits { why, .. } if why.needs_a_person() => {
            Some(format!("nothing, until a person does something: {}", present::reason(reason)))
        }
        _ => None,
    });
    vec![last.unwrap_or_else(|| "go on watching, and write again when it is over".to_owned())]
}
