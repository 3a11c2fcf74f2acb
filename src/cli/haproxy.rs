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
use anyhow::Context as _;
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
    let (proxy, history) = match known(global, context, args.proxy).await? {
        Known::Daemon { proxy, .. } => {
            let order = ConfigOrder::History {};
            let reply =
                context.client.config(&ConfigBody { proxy, order, because: None, dry_run: false }).await?;
            let history = reply.history.ok_or(ClientError::Said { status: 409, words: reply.words })?;
            let history =
                serde_json::from_value(history).map_err(|source| ClientError::Foreign { source })?;
            (proxy, history)
        }
        Known::Settings { proxy, settings } => (proxy, daemon::history(&settings, proxy).await?),
    };
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
    let how = &args.how;
    let body = |proxy| ConfigBody { proxy, order, because: how.reason.clone(), dry_run: how.dry_run };
    let (mut reply, stands) = match known(global, context, args.proxy).await? {
        Known::Daemon { proxy, before } => {
            let given = Instant::now();
            let reply = context.client.config(&body(proxy)).await?;
            let stands = match (&reply.stands, &reply.config) {
                (Some(stands), _) => Some(ConfigView::of(proxy, stands)),
                (None, Some(wanted)) if reply.verdict == Answer::Accepted && !how.dry_run => {
                    Some(shown(context, proxy, wanted, &before, given).await?)
                }
                (None, Some(_) | None) => None,
            };
            (reply, stands)
        }
        // Nobody else loads configurations here.
        Known::Settings { proxy, settings } => {
            // Held until the end: a daemon that starts meanwhile waits outside.
            let _lock = (!how.dry_run).then(|| Lock::acquire(&settings.state_dir)).transpose()?;
            let reply = daemon::configure_alone(&settings, &body(proxy)).await?;
            let is_done = reply.verdict == Answer::Accepted && !how.dry_run;
            let stands = match &reply.stands {
                Some(stands) => Some(ConfigView::of(proxy, stands)),
                None => is_done.then(ConfigView::default),
            };
            (reply, stands)
        }
    };
    // In the document it is there once, as the status has it.
    reply.stands = None;
    let exit = exit(&reply, stands.as_ref());
    if context.is_json() {
        context.output.json(&Document { reply: &reply, stands: stands.as_ref() })?;
        return Ok(exit);
    }
    tell(context, &reply, stands.as_ref())?;
    if let Some(difference) = &reply.difference {
        context.output.text(difference)?;
    }
    Ok(exit)
}

/// Who knows the HAProxy that is meant.
enum Known {
    /// The daemon, by the settings that it runs with: the file may be broken by now. `before` is how the configuration stands.
    Daemon { proxy: ProxyId, before: ConfigView },
    /// The file, where no daemon runs.
    Settings { proxy: ProxyId, settings: Box<Settings> },
}

async fn known(global: &Global, context: &Context, named: Option<ProxyId>) -> anyhow::Result<Known> {
    match context.client.get::<View>("/api/v1/status").await {
        Ok(view) => {
            let names: Vec<ProxyId> = view.proxies.iter().map(|known| known.name).collect();
            let proxy = render::one_of(&names, named, "the daemon's settings")?;
            let known = view.proxies.into_iter().find(|known| known.name == proxy);
            Ok(Known::Daemon { proxy, before: known.map(|known| known.config).unwrap_or_default() })
        }
        Err(absent @ (ClientError::Missing { .. } | ClientError::Refused { .. })) => {
            let settings = Settings::load_for_command(&global.config).with_context(|| {
                format!("{absent} Without a daemon the settings are needed, and do not load")
            })?;
            let names: Vec<ProxyId> = settings.proxies.keys().copied().collect();
            let proxy = render::one_of(&names, named, "the settings")?;
            Ok(Known::Settings { proxy, settings: Box::new(settings) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits until the daemon shows the revision, or why it is not loaded, with a deadline. What was shown `before` the order is no
/// answer to it; then nothing is known yet.
async fn shown(
    context: &Context,
    proxy: ProxyId,
    wanted: &str,
    before: &ConfigView,
    given: Instant,
) -> Result<ConfigView, ClientError> {
    loop {
        let view: View = context.client.get("/api/v1/status").await?;
        let known = view.proxies.into_iter().find(|known| known.name == proxy);
        let stands = known.map(|known| known.config).unwrap_or_default();
        if stands != *before && is_settled(&stands, wanted) {
            return Ok(stands);
        }
        if given.elapsed() > context.patience {
            return Ok(ConfigView::default());
        }
        sleep(LOOK).await;
    }
}

fn is_settled(stands: &ConfigView, wanted: &str) -> bool {
    runs(stands, wanted) || matches!(stands.state.as_str(), "refused" | "unproven" | "contested")
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
