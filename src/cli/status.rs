//! `supervisor status`: where services are served and how their servers are.

use super::args::StatusArgs;
use super::context::Context;
use super::output::{grade, wrapped};
use super::{Exit, table};
use crate::chain::chain;
use crate::domain::event::StoreHealth;
use crate::domain::explain::Grade;
use crate::domain::id::ProxyId;
use crate::domain::time::Span;
use crate::status::{IncidentView, Link, ServerView, ServiceView, View};
use std::time::Duration;

/// Between two looks of `--watch`: as often as the daemon renews what it shows when nothing happens.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Cursor to the top left, and clear from there (ECMA-48).
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

pub(super) async fn run(context: &mut Context, args: &StatusArgs) -> anyhow::Result<Exit> {
    if args.watch {
        return watch(context).await;
    }
    let view: View = context.client.get("/api/v1/status").await?;
    show(context, &view, "")?;
    Ok(exit(view.grade))
}

/// Ends only with an error of the output, or by interrupt: a daemon that restarts is waited for, and that is shown.
async fn watch(context: &mut Context) -> anyhow::Result<Exit> {
    let clear = if context.output.terminal { CLEAR } else { "" };
    loop {
        match context.client.get("/api/v1/status").await {
            Ok(view) => show(context, &view, clear)?,
            Err(error) => context.output.note(&format!("{clear}supervisor: {}", chain(&error)))?,
        }
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn show(context: &mut Context, view: &View, before: &str) -> anyhow::Result<()> {
    if context.is_json() {
        return context.output.json(view);
    }
    let text = format!("{before}{}", page(view, context.output.colour));
    Ok(context.output.text(&text)?)
}

/// The exit code for a grade.
pub(super) fn exit(grade: Grade) -> Exit {
    match grade {
        Grade::Well => Exit::Ok,
        Grade::Degraded => Exit::Degraded,
        Grade::Down => Exit::Down,
    }
}

/// The whole status, for people.
pub(super) fn page(view: &View, colour: bool) -> String {
    let mut text = format!("supervisor on {}: {}, as of {}\n", view.node, grade(view.grade, colour), view.at);
    for service in &view.services {
        text.push('\n');
        text.push_str(&service_block(service, colour));
    }
    let troubles = troubles(view);
    if !troubles.is_empty() {
        text.push('\n');
    }
    for trouble in troubles {
        text.push_str(&wrapped("! ", &trouble));
    }
    text
}

/// One service: where, why, and its servers.
fn service_block(service: &ServiceView, colour: bool) -> String {
    let mut text = format!("{}\n", headline(service, colour));
    text.push_str(&wrapped("  ", &service.reason));
    for proxy in &service.pending {
        text.push_str(&wrapped("  ", &format!("HAProxy {proxy} has not confirmed the route yet")));
    }
    text.push_str(&out_of_service(service));
    text.push_str(&table::servers(&service.servers, colour));
    text
}

/// The servers that people have taken out, each with by whom, since when, until when and why; and what HAProxy has not
/// confirmed about them.
pub(super) fn out_of_service(service: &ServiceView) -> String {
    // The reason of the service may be about them already.
    let held = service.reasons.iter().filter(|reason| reason.code == "maintenance_holds");
    let held = held.map(|reason| &reason.words).filter(|words| **words != service.reason);
    held.map(|words| wrapped("  ", words)).chain(std::iter::once(unconfirmed(service))).collect()
}

/// What HAProxy has not confirmed about servers.
pub(super) fn unconfirmed(service: &ServiceView) -> String {
    let line = |server: &ServerView, proxy: &ProxyId| {
        let how = match server.admin.as_str() {
            "ready" => "in service",
            "drain" => "drained",
            _ => "out of service",
        };
        wrapped("  ", &format!("HAProxy {proxy} has not confirmed yet that {} is {how}", server.name))
    };
    let servers = service.servers.iter();
    servers.flat_map(|server| server.pending.iter().map(move |proxy| line(server, proxy))).collect()
}

/// "api: DEGRADED, served from cloud for 3 s".
pub(super) fn headline(service: &ServiceView, colour: bool) -> String {
    let word = grade(service.grade, colour);
    match (service.serving, service.since_ms) {
        (Some(site), Some(ms)) => format!("{}: {word}, served from {site} for {}", service.name, Span(ms)),
        (Some(site), None) => format!("{}: {word}, served from {site}", service.name),
        (None, _) => format!("{}: {word}, not known yet where it is served", service.name),
    }
}

/// "incident, critical, for 3 min: api is down: no site serves it (told by mail)".
fn incident(incident: &IncidentView) -> String {
    let told = match incident.told_by.as_str() {
        "nobody_silenced" => "silenced in Alertmanager, which is away".to_owned(),
        "alertmanager" | "alertmanager_has_it" => "Alertmanager tells".to_owned(),
        "mail" => "mailed directly".to_owned(),
        _ => "nobody told yet".to_owned(),
    };
    let lasts = Span(incident.since_ms);
    format!("incident, {}, for {lasts}: {} ({told})", incident.severity, incident.words)
}

/// What is wrong with what supervisor works with.
fn troubles(view: &View) -> Vec<String> {
    let mut troubles = view.problems.clone();
    if view.cut_off {
        troubles.push("supervisor seems cut off: no probe reaches anything, so nothing is moved".to_owned());
    }
    for proxy in &view.proxies {
        match proxy.link {
            Link::Ours => {}
            Link::Unseen => troubles.push(format!("HAProxy {} has not been seen yet", proxy.name)),
            Link::Lost => {
                let lasts = proxy.lost_ms.map(|ms| format!(" for {}", Span(ms))).unwrap_or_default();
                troubles.push(format!("HAProxy {} has not answered on its sockets{lasts}", proxy.name));
            }
            Link::Foreign => {
                let owner = proxy.owner.as_deref().unwrap_or("unknown");
                troubles.push(format!("HAProxy {} belongs to another supervisor ({owner})", proxy.name));
            }
        }
    }
    // A refused one is an incident.
    let held = view.proxies.iter().filter(|proxy| proxy.config.state == "held");
    troubles.extend(held.filter_map(|proxy| proxy.config.words.clone()));
    let lost = view.engines.iter().filter(|engine| engine.up == Some(false));
    troubles.extend(lost.map(|engine| format!("Docker engine {} does not answer", engine.name)));
    let deaf = view.alertmanagers.iter().filter(|peer| peer.up == Some(false));
    troubles.extend(deaf.map(|peer| {
        let why = peer.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("Alertmanager {} does not take alerts{why}", peer.name)
    }));
    troubles.extend(view.incidents.iter().map(incident));
    if view.store == StoreHealth::Degraded {
        troubles.push("what is decided does not reach the disk in time: orders are not durable".to_owned());
    }
    troubles
}
