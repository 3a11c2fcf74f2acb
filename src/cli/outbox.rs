//! `supervisor outbox`: the mails of supervisor's own, and how far each has come.

use super::Exit;
use super::args::OutboxArgs;
use super::context::Context;
use super::output::wrapped;
use crate::status::{MailList, MailView, RecipientView};
use std::fmt::Write;

pub(super) async fn run(context: &mut Context, args: &OutboxArgs) -> anyhow::Result<Exit> {
    let list: MailList = context.client.get(&format!("/api/v1/outbox?limit={}", args.limit)).await?;
    if context.is_json() {
        context.output.json(&list)?;
        return Ok(Exit::Ok);
    }
    context.output.text(&page(&list.mails))?;
    Ok(Exit::Ok)
}

/// A head for each mail, what it tells, and a line for each recipient.
pub(super) fn page(mails: &[MailView]) -> String {
    if mails.is_empty() {
        return "no mail of supervisor's own; Alertmanager tells people as long as it can\n".to_owned();
    }
    let mut text = String::new();
    for mail in mails {
        let kind = mail.kind.as_deref().unwrap_or("unreadable");
        let state = mail.state.replace('_', " ");
        // Writing to a string does not fail.
        let _ = writeln!(text, "mail {}  {}  {kind}  {state}", mail.id, mail.at);
        mail.about.iter().for_each(|about| text.push_str(&wrapped("  ", about)));
        if let Some(why) = &mail.why {
            text.push_str(&wrapped("  ", why));
        }
        mail.recipients.iter().for_each(|to| text.push_str(&wrapped("  ", &recipient(to))));
    }
    text
}

pub(super) fn recipient(to: &RecipientView) -> String {
    let by = to.relay.as_ref().map(|relay| format!(" at {relay}")).unwrap_or_default();
    let said = to.reply.as_ref().map(|reply| format!(": {reply}")).unwrap_or_default();
    let next = to.next.as_ref().map(|next| format!("; tried again at {next}")).unwrap_or_default();
    format!("{}: {}{by}{said}{next}", to.address, to.state)
}
