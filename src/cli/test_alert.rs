//! `supervisor test-alert`: an alert and a mail about nothing, and whether they arrive.

use super::Exit;
use super::args::TestAlertArgs;
use super::context::Context;
use super::output::wrapped;
use crate::control::protocol::OrderBody;
use crate::control::{Answer, ClientError, CommandBody, Reply, TestOrdered};
use crate::status::{MailList, MailView, PeerView, View};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the answers are waited for: a relay may take 20 s to greet, and an Alertmanager is asked twice in a round.
const PATIENCE: Duration = Duration::from_secs(30);

/// An Alertmanager that was away is given this long to take the alert before it counts as away still: it is told of a new
/// alert at once, and answers or fails within 5 s.
const AWAY_AFTER: Duration = Duration::from_secs(6);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Arrived {
    /// A mail was sent; not where the settings name nobody to mail to.
    pub(super) mailed: bool,
    /// The mail as it stands in the outbox; none while it is not there.
    pub(super) mail: Option<MailView>,
    /// The Alertmanagers as they stand; empty where the settings name none.
    pub(super) alertmanagers: Vec<PeerView>,
    /// Whether one of them has the alert; none where the settings name none.
    pub(super) stored: Option<bool>,
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    reply: &'a Reply,
    #[serde(flatten)]
    arrived: Option<&'a Arrived>,
}

pub(super) async fn run(context: &mut Context, args: &TestAlertArgs) -> anyhow::Result<Exit> {
    let body = CommandBody { order: OrderBody::TestAlert {}, because: args.reason.clone(), dry_run: false };
    let reply = context.client.command(&body).await?;
    let arrived = match &reply.test {
        Some(test) => Some(wait(context, test).await?),
        None => None,
    };
    let exit = match (&reply.verdict, &arrived) {
        (Answer::Denied, _) => Exit::DENIED,
        (_, Some(arrived)) => arrived.exit(),
        (_, None) => Exit::Ok,
    };
    if context.is_json() {
        context.output.json(&Document { reply: &reply, arrived: arrived.as_ref() })?;
        return Ok(exit);
    }
    match arrived {
        Some(arrived) => context.output.text(&page(&arrived))?,
        None if exit == Exit::Ok => context.output.line(&reply.words)?,
        None => context.output.note(&format!("denied: {}", reply.words))?,
    }
    Ok(exit)
}

/// Looks until both ways have answered, or for long enough.
async fn wait(context: &Context, test: &TestOrdered) -> Result<Arrived, ClientError> {
    let begun = Instant::now();
    loop {
        let arrived = look(context, test).await?;
        let away = begun.elapsed() > AWAY_AFTER && arrived.all_away();
        if arrived.is_settled(test, away) || begun.elapsed() > PATIENCE {
            return Ok(arrived);
        }
        sleep(LOOK).await;
    }
}

async fn look(context: &Context, test: &TestOrdered) -> Result<Arrived, ClientError> {
    let mail = match test.mail {
        Some(id) => {
            let list: MailList = match context.client.get("/api/v1/outbox").await {
                Ok(list) => list,
                // The disk is away. The mail goes out all the same.
                Err(ClientError::Said { .. }) => MailList { mails: Vec::new() },
                Err(error) => return Err(error),
            };
            // The newest first: an earlier process may have counted as far.
            list.mails.into_iter().find(|mail| mail.id == id && mail.kind.as_deref() == Some("test"))
        }
        None => None,
    };
    let mailed = test.mail.is_some();
    let Some(id) = test.incident else {
        return Ok(Arrived { mailed, mail, alertmanagers: Vec::new(), stored: None });
    };
    let view: View = context.client.get("/api/v1/status").await?;
    let told = view.incidents.iter().find(|incident| incident.id == id).map(|incident| &incident.told_by);
    let stored = told.is_some_and(|by| by.starts_with("alertmanager"));
    Ok(Arrived { mailed, mail, alertmanagers: view.alertmanagers, stored: Some(stored) })
}

impl Arrived {
    /// Whether nothing more is to be learnt by waiting.
    fn is_settled(&self, test: &TestOrdered, away: bool) -> bool {
        let mail = self.mail.as_ref();
        // An attempt that failed is answer enough: the next one comes in a quarter of a minute at the earliest.
        let tried = mail.is_some_and(|mail| {
            !mail.recipients.is_empty() && mail.recipients.iter().all(|to| to.state != "pending")
        });
        (test.mail.is_none() || tried) && (self.stored != Some(false) || away)
    }

    fn all_away(&self) -> bool {
        self.alertmanagers.iter().all(|peer| peer.up == Some(false))
    }

    pub(super) fn exit(&self) -> Exit {
        let mail = self.mail.as_ref().map(|mail| mail.state.as_str());
        let some_away = self.alertmanagers.iter().any(|peer| peer.up == Some(false));
        match (mail, self.stored) {
            (Some("dead"), _) => Exit::Degraded,
            (_, Some(true)) if some_away => Exit::Degraded,
            (_, Some(false)) if self.all_away() => Exit::Degraded,
            (None, None | Some(true)) if !self.mailed => Exit::Ok,
            (Some("done"), None | Some(true)) => Exit::Ok,
            _ => Exit::NotYet,
        }
    }
}

/// A line for each way.
pub(super) fn page(arrived: &Arrived) -> String {
    let mut text = String::new();
    let mut line = |words: String| text.push_str(&wrapped("", &words));
    match &arrived.mail {
        None if arrived.mailed => line("mail: not in the outbox yet; see `supervisor outbox`".to_owned()),
        None => line("mail: none, the settings name nobody ([mail])".to_owned()),
        Some(mail) if mail.recipients.is_empty() => {
            line(format!("mail {}: not tried yet; see `supervisor outbox`", mail.id));
        }
        Some(mail) => {
            for to in &mail.recipients {
                line(format!("mail {}: {}", mail.id, super::outbox::recipient(to)));
            }
        }
    }
    match arrived.stored {
        None => line("Alertmanager: none, the settings name none ([alerts.alertmanagers])".to_owned()),
        Some(true) => line(
            "Alertmanager: has the alert SupervisorTest, and tells of it after its group_wait; in two minutes it is over"
                .to_owned(),
        ),
        Some(false) => {}
    }
    for peer in &arrived.alertmanagers {
        // One that has it is told of above.
        if arrived.stored == Some(false) || peer.up == Some(false) {
            let words = match (&peer.why, peer.up) {
                (Some(why), _) => format!("does not take alerts: {why}"),
                (None, Some(true)) => "takes alerts, and does not have this one yet".to_owned(),
                (None, _) => "has not answered yet".to_owned(),
            };
            line(format!("Alertmanager {}: {words}", peer.name));
        }
    }
    text
}
