//! What is said about incidents, and about who tells of them.

use super::pieces;
use crate::domain::delivery::{MailId, MailKind, WhyDirect};
use crate::domain::event::MailEnd;
use crate::domain::incident::Trouble;

/// What is wrong, in one sentence: the summary of its alert.
pub fn trouble(trouble: &Trouble) -> String {
    match trouble {
        Trouble::ServiceDown { service } => format!("{service} is down: no site serves it"),
        Trouble::PoolDown { service, site } => format!("{service} has no healthy server at {site}"),
        Trouble::SiteDown { site } => {
            format!("nothing serves at {site} any more: every service there is down")
        }
        Trouble::ServerDown { server } => {
            format!("{} is down; others of its pool still serve", pieces::server(*server))
        }
        Trouble::ServerDegraded { server } => {
            format!("{} is up, but answers slowly or not always", pieces::server(*server))
        }
        Trouble::FailbackLocked { service } => format!(
            "{service} went to and fro too often and stays where it is; `supervisor failback {service}` moves it"
        ),
        Trouble::ContainerDown { container } => {
            format!("the container {} is down and is not brought back soon", container.name)
        }
        Trouble::ProxyLost { proxy } => {
            format!("HAProxy {proxy} does not answer on its sockets: its traffic cannot be steered")
        }
        Trouble::RouteLags { service, proxy } => {
            format!("HAProxy {proxy} does not take the route of {service}")
        }
        Trouble::RouteContested { service, proxy } => {
            format!("somebody else changes the route of {service} in HAProxy {proxy} again and again")
        }
        Trouble::ConfigRefused { proxy } => {
            format!("HAProxy {proxy} does not run the configuration of the settings")
        }
        Trouble::EngineLost { engine } => {
            format!("Docker engine {engine} does not answer: its containers are not healed")
        }
        Trouble::StoreDegraded => "what supervisor decides does not reach its disk in time".to_owned(),
        Trouble::CutOff => {
            "supervisor reaches no server at any site: it seems to be cut off itself".to_owned()
        }
        Trouble::OwnResources => {
            "supervisor has no descriptor or port left to probe with: what hangs is not noticed".to_owned()
        }
        Trouble::InvariantBroken => {
            "supervisor decided something that must not be: a bug, please report it with `supervisor events`"
                .to_owned()
        }
        Trouble::Test => "a test: nothing is wrong, and nothing is to be done".to_owned(),
    }
}

/// Why a mail goes out directly, as part of a sentence: "Alertmanager am1 does not take alerts (connection refused)".
pub fn why_direct(why: &WhyDirect) -> String {
    match why {
        WhyDirect::NoAlertmanager => "no Alertmanager is configured".to_owned(),
        WhyDirect::Unreachable { peers } => {
            let one = |(peer, words): &(_, String)| format!("{peer} ({})", pieces::one_line(words));
            let all: Vec<String> = peers.iter().map(one).collect();
            format!("no Alertmanager takes alerts: {}", all.join(", "))
        }
        WhyDirect::NotStored => "Alertmanager accepted the alert, but does not have it".to_owned(),
        WhyDirect::Rejected { words } => {
            format!("Alertmanager refused the alert: {}", pieces::one_line(words))
        }
        WhyDirect::Owed => "the beginning was mailed directly, so the end is as well".to_owned(),
        WhyDirect::Lasts => "it was mailed directly before, and it lasts".to_owned(),
        WhyDirect::Asked => "somebody asked for a test".to_owned(),
    }
}

/// That a mail goes out.
pub(super) fn tells_by_mail(kind: MailKind, incidents: u16, why: &WhyDirect) -> String {
    let what = match (kind, incidents) {
        (MailKind::Firing, 1) => "an incident".to_owned(),
        (MailKind::Firing, many) => format!("{many} incidents"),
        (MailKind::Resolved, 1) => "the end of an incident".to_owned(),
        (MailKind::Resolved, many) => format!("the end of {many} incidents"),
        (MailKind::Test, _) => "a test".to_owned(),
    };
    format!("supervisor mails {what} itself: {}", why_direct(why))
}

/// What became of a mail.
pub(super) fn mailed(mail: MailId, end: &MailEnd) -> String {
    let MailId(number) = mail;
    match end {
        MailEnd::Accepted { recipients: 1 } => format!("mail {number} was taken for its recipient"),
        MailEnd::Accepted { recipients } => format!("mail {number} was taken for {recipients} recipients"),
        MailEnd::Deferred { words } => {
            format!("mail {number} waits in the outbox and is tried again: {}", pieces::one_line(words))
        }
        MailEnd::Dead { words, reached: true } => format!(
            "mail {number} does not reach all: others have it, the rest is given up, see `supervisor outbox`: {}",
            pieces::one_line(words)
        ),
        MailEnd::Dead { words, reached: false } => {
            format!("mail {number} is given up, see `supervisor outbox`: {}", pieces::one_line(words))
        }
        MailEnd::NotNeeded => format!("mail {number} was not sent: Alertmanager has its incidents after all"),
    }
}
