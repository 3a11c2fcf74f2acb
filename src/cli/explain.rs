//! `supervisor explain SERVICE`: why it is where it is, and what happened to it lately.

use super::args::ExplainArgs;
use super::context::Context;
use super::output::wrapped;
use super::{Exit, events, status, table};
use crate::control::ClientError;
use crate::status::{EventLine, EventList, ServiceView};

/// How far back "lately" looks, in events of all services.
const LOOK_BACK: usize = 500;

/// How many events of the service are shown.
const SHOWN: usize = 8;

pub(super) async fn run(context: &mut Context, args: &ExplainArgs) -> anyhow::Result<Exit> {
    let service: ServiceView = context.client.get(&format!("/api/v1/explain/{}", args.service)).await?;
    if context.is_json() {
        context.output.json(&service)?;
        return Ok(Exit::Ok);
    }
    let mut text = format!("{}\n", status::headline(&service, context.output.colour));
    for reason in &service.reasons {
        text.push_str(&wrapped("  - ", &reason.words));
    }
    text.push_str(&status::unconfirmed(&service));
    text.push_str(&table::servers(&service.servers, context.output.colour));
    text.push_str("lately:\n");
    // The journal is on a disk, and the disk may be what is broken: the rest is said all the same.
    match lately(context, &service).await {
        Ok(lines) if lines.is_empty() => text.push_str("  nothing\n"),
        Ok(lines) => lines.iter().for_each(|line| text.push_str(&events::human(line, "  "))),
        Err(error) => text.push_str(&wrapped("  ", &format!("the journal cannot be read: {error}"))),
    }
    context.output.text(&text)?;
    Ok(Exit::Ok)
}

async fn lately(context: &Context, service: &ServiceView) -> Result<Vec<EventLine>, ClientError> {
    let list: EventList = context.client.get(&format!("/api/v1/events?limit={LOOK_BACK}")).await?;
    let mut lines: Vec<EventLine> =
        list.events.into_iter().filter(|line| line.service == Some(service.name)).collect();
    Ok(lines.split_off(lines.len().saturating_sub(SHOWN)))
}
