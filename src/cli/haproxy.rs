//! `supervisor haproxy history`, `rollback` and `resume`: the configurations that HAProxy ran, going back to one, and an end of
//! that. Through the daemon where one runs: it alone loads configurations then.

use super::args::{ConfigArgs, Global, HistoryArgs, RollbackArgs};
use super::context::Context;
use super::output::wrapped;
use super::{Exit, render};
use crate::control::{Answer, ClientError, ConfigBody, ConfigOrder, Reply};
use crate::daemon;
use crate::domain::id::ProxyId;
use crate::present;
use crate::settings::Settings;
use crate::status::{ConfigView, View};
use crate::store::Lock;
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at what became of an order. A reload takes a tenth of a second.
const LOOK: Duration = Duration::from_millis(50);

/// The document of `rollback` and `resume`.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    reply: &'a Reply,
    /// How the configuration stands afterwards; none where nothing was ordered.
    stands: Option<&'a ConfigView>,
}

pub(super) async fn history(
    global: &Global,
    context: &mut Context,
    args: &HistoryArgs,
) -> anyhow::Result<Exit> {
    let settings = Settings::load_for_command(&global.config)?;
    let proxy = render::meant(&settings, args.proxy)?;
    let history = daemon::history(&settings, proxy).await?;
    if context.is_json() {
        context.output.json(&history)?;
        return Ok(Exit::Ok);
    }
    let mut text = format!("HAProxy {proxy}, the newest first; * is what it runs\n");
    for entry in &history.kept {
        let runs = if history.running.as_ref() == Some(&entry.revision) { '*' } else { ' ' };
        text.push_str(&format!(
            "{runs} {}  {}  {:>7} B\n",
            entry.revision,
            present::time(entry.at),
            entry.bytes
        ));
    }
    if history.kept.is_empty() {
        text.push_str("  none is kept yet: a configuration is once HAProxy was seen to run it\n");
    }
    if let Some(held) = &history.held {
        let because = held.because.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
        let words = format!(
            "held at {} since {} by {}{because}, in place of {}: until the settings or the template change, or `supervisor \
             haproxy resume`",
            held.revision,
            present::time(held.at),
            present::operator(&held.by),
            held.instead_of
        );
        text.push_str(&wrapped("", &words));
    }
    context.output.text(&text)?;
    Ok(Exit::Ok)
}

pub(super) async fn rollback(
    global: &Global,
    context: &mut Context,
    args: &RollbackArgs,
) -> anyhow::Result<Exit> {
    order(global, context, ConfigOrder::Rollback { to: args.revision.clone() }, &args.config).await
}

pub(super) async fn resume(
    global: &Global,
    context: &mut Context,
    args: &ConfigArgs,
) -> anyhow::Result<Exit> {
    order(global, context, ConfigOrder::Resume {}, args).await
}

async fn order(
    global: &Global,
    context: &mut Context,
    order: ConfigOrder,
    args: &ConfigArgs,
) -> anyhow::Result<Exit> {
    let settings = Settings::load_for_command(&global.config)?;
    let proxy = render::meant(&settings, args.proxy)?;
    let dry_run = args.how.dry_run;
    let body = ConfigBody { proxy, order, because: args.how.reason.clone(), dry_run };
    let given = Instant::now();
    let (reply, stands) = match context.client.config(&body).await {
        Ok(reply) => {
            let stands = match &reply.config {
                Some(wanted) if reply.verdict != Answer::Denied && !dry_run => {
                    Some(through_daemon(context, proxy, wanted, given).await?)
                }
                Some(_) | None => None,
            };
            (reply, stands)
        }
        // Nobody else loads configurations here.
        Err(ClientError::Missing { .. } | ClientError::Refused { .. }) => {
            // Held until the end: a daemon that starts meanwhile waits outside.
            let _lock = (!dry_run).then(|| Lock::acquire(&settings.state_dir)).transpose()?;
            daemon::configure_alone(&settings, &body).await?
        }
        Err(error) => return Err(error.into()),
    };
    let exit = exit(&reply, stands.as_ref());
    if context.is_json() {
        context.output.json(&Document { reply: &reply, stands: stands.as_ref() })?;
        return Ok(exit);
    }
    tell(context, &reply, stands.as_ref())?;
    if dry_run && let Some(to) = reply.config.as_ref().filter(|_| reply.verdict == Answer::Accepted) {
        let difference = daemon::difference(&settings, proxy, Some(to)).await?;
        context.output.text(&difference.text)?;
    }
    Ok(exit)
}

/// Waits until the daemon shows the revision, or why it is not loaded, with a deadline.
async fn through_daemon(
    context: &Context,
    proxy: ProxyId,
    wanted: &str,
    given: Instant,
) -> Result<ConfigView, ClientError> {
    loop {
        let view: View = context.client.get("/api/v1/status").await?;
        let known = view.proxies.into_iter().find(|known| known.name == proxy);
        let stands = known.map(|known| known.config).unwrap_or_default();
        if is_settled(&stands, wanted) || given.elapsed() > context.patience {
            return Ok(stands);
        }
        sleep(LOOK).await;
    }
}

fn is_settled(stands: &ConfigView, wanted: &str) -> bool {
    runs(stands, wanted) || matches!(stands.state.as_str(), "refused" | "unproven")
}

fn runs(stands: &ConfigView, wanted: &str) -> bool {
    matches!(stands.state.as_str(), "in_force" | "held") && stands.revision.as_deref() == Some(wanted)
}

fn exit(reply: &Reply, stands: Option<&ConfigView>) -> Exit {
    match (reply.verdict, stands, &reply.config) {
        (Answer::Denied, _, _) => Exit::DENIED,
        (_, Some(stands), Some(wanted)) if !runs(stands, wanted) => match stands.state.as_str() {
            "refused" => Exit::DENIED,
            _ => Exit::NotYet,
        },
        _ => Exit::Ok,
    }
}

fn tell(context: &mut Context, reply: &Reply, stands: Option<&ConfigView>) -> std::io::Result<()> {
    let output = &mut context.output;
    match (reply.verdict, stands) {
        (Answer::Denied, _) if reply.dry_run => output.line(&format!("would be denied: {}", reply.words)),
        (Answer::Denied, _) => output.note(&format!("denied: {}", reply.words)),
        (Answer::AlreadySo, None) => output.line(&reply.words),
        (Answer::Accepted, None) => {
            for step in &reply.plan {
                output.line(&format!("would {step}"))?;
            }
            Ok(())
        }
        (_, Some(stands)) => {
            output.text(&wrapped("", &reply.words))?;
            match &reply.config {
                Some(wanted) if runs(stands, wanted) => output.line(&format!("HAProxy runs {wanted} now")),
                Some(_) | None => {
                    let words = stands
                        .words
                        .as_deref()
                        .unwrap_or("HAProxy has not been seen to run it yet; see `supervisor status`");
                    output.note(words)
                }
            }
        }
    }
}
