//! `supervisor drain`, `maint` and `ready`: take a server out of service or put it back, wait until every HAProxy has it so, say
//! how long that took.

use super::args::{Named, OrderArgs, OutArgs, ReadyArgs};
use super::context::Context;
use super::order::{LOOK_FIRST, LOOK_LONGEST, Outcome, look};
use super::{Exit, Usage};
use crate::control::protocol::OrderBody;
use crate::control::{Answer, ClientError, CommandBody, Reply};
use crate::domain::id::{ProxyId, ServerId};
use crate::domain::maintenance::Admin;
use crate::domain::time::Span;
use crate::status::{ServiceView, View};
use std::collections::BTreeSet;
use tokio::time::{Instant, sleep};

/// More names than this help nobody to find a typing error.
const NAMES_MAX: usize = 20;

pub(super) async fn out(context: &mut Context, admin: Admin, args: &OutArgs) -> anyhow::Result<Exit> {
    let server = meant(context, args.server).await?;
    let for_ms = args.ends.lasts(&jiff::Zoned::now())?.map(|Span(ms)| ms);
    let order = OrderBody::Maintain { server, admin, for_ms, force: args.force };
    give(context, server, admin, order, &args.how).await
}

pub(super) async fn ready(context: &mut Context, args: &ReadyArgs) -> anyhow::Result<Exit> {
    let server = meant(context, args.server).await?;
    let order = OrderBody::Maintain { server, admin: Admin::Ready, for_ms: None, force: false };
    give(context, server, Admin::Ready, order, &args.how).await
}

/// The one server that is meant.
async fn meant(context: &Context, named: Named) -> anyhow::Result<ServerId> {
    let Named { service, server } = named;
    if let Some(service) = service {
        // Whether there is one, the daemon says.
        return Ok(ServerId { service, server });
    }
    let view: View = context.client.get("/api/v1/status").await?;
    let all = || {
        view.services.iter().flat_map(|service| {
            service.servers.iter().map(|server| ServerId { service: service.name, server: server.name })
        })
    };
    let found: Vec<ServerId> = all().filter(|id| id.server == server).collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Usage(format!("there is no server {server}; there is {}", list(all()))).into()),
        several => {
            let which = list(several.iter().copied());
            Err(Usage(format!("several services have a server {server}: name one of {which}")).into())
        }
    }
}

fn list(servers: impl Iterator<Item = ServerId>) -> String {
    let mut names: Vec<String> = servers.take(NAMES_MAX + 1).map(|id| id.to_string()).collect();
    if names.len() > NAMES_MAX {
        names.truncate(NAMES_MAX);
        names.push("…".to_owned());
    }
    names.join(", ")
}

/// How an order about a server came into force.
enum InForce {
    /// It is, this long after it was given.
    After(Span),
    /// Another order has replaced it.
    Replaced(Box<ServiceView>),
    /// These have not confirmed it in time.
    NotYet(Vec<ProxyId>),
}

async fn give(
    context: &mut Context,
    server: ServerId,
    admin: Admin,
    order: OrderBody,
    how: &OrderArgs,
) -> anyhow::Result<Exit> {
    let before = look(context, server.service).await?;
    let body = CommandBody { order, because: how.reason.clone(), dry_run: how.dry_run };
    let given = Instant::now();
    let reply = context.client.command(&body).await?;
    let wait = match reply.verdict {
        // What was ordered before may not be in force yet.
        Answer::Accepted | Answer::AlreadySo if !reply.dry_run => {
            Some(in_force(context, server, admin, &reply, given).await?)
        }
        Answer::Accepted | Answer::AlreadySo | Answer::Denied => None,
    };
    let exit = match (&reply.verdict, &wait) {
        (Answer::Denied, _) => Exit::DENIED,
        (_, Some(InForce::NotYet(_))) => Exit::NotYet,
        (_, Some(InForce::After(_) | InForce::Replaced(_)) | None) => Exit::Ok,
    };
    if context.is_json() {
        let in_force = wait.as_ref().map(|wait| !matches!(wait, InForce::NotYet(_)));
        let took_ms = match &wait {
            Some(InForce::After(took)) => Some(took.0),
            Some(InForce::Replaced(_) | InForce::NotYet(_)) | None => None,
        };
        context.output.json(&Outcome { reply: &reply, in_force, took_ms })?;
        return Ok(exit);
    }
    tell(context, server, &reply, before, wait)?;
    Ok(exit)
}

fn tell(
    context: &mut Context,
    server: ServerId,
    reply: &Reply,
    before: Option<ServiceView>,
    wait: Option<InForce>,
) -> std::io::Result<()> {
    let output = &mut context.output;
    match (reply.verdict, wait) {
        (Answer::Denied, _) if reply.dry_run => {
            return output.line(&format!("would be denied: {}", reply.words));
        }
        (Answer::Denied, _) => return output.note(&format!("denied: {}", reply.words)),
        (Answer::AlreadySo, Some(InForce::After(_)) | None) => return output.line(&reply.words),
        (Answer::Accepted, None) => {
            for step in &reply.plan {
                output.line(&format!("would {step}"))?;
            }
            return Ok(());
        }
        (Answer::Accepted, Some(InForce::After(took))) => {
            output.line(&format!("{}; in force after {took}", reply.words))?;
            if let Some(route) = reply.route {
                let from = before.and_then(|before| before.serving);
                let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
                output.line(&format!("moved {}{from} to {}", server.service, route.site))?;
            }
        }
        (Answer::Accepted | Answer::AlreadySo, Some(InForce::Replaced(now))) => {
            let known = now.servers.iter().find(|known| known.name == server.server);
            let admin = known.map_or("no longer in the settings", |known| known.admin.as_str());
            output.line(&format!("{}; since then it is {admin}, by another order", reply.words))?;
        }
        (Answer::Accepted | Answer::AlreadySo, Some(InForce::NotYet(proxies))) => {
            let names: Vec<String> = proxies.iter().map(ToString::to_string).collect();
            output.note(&format!(
                "ordered, but not in force after {}: HAProxy {} has not confirmed it; supervisor goes on trying, see \
                 `supervisor explain {}`",
                Span::from(context.patience),
                names.join(", "),
                server.service
            ))?;
        }
    }
    if reply.durable == Some(false) {
        output.note("not durable: the disk is behind, so a crash now would forget the order")?;
    }
    Ok(())
}

/// Waits until every HAProxy shows the server as ordered, and has the route that follows from it, with a deadline.
async fn in_force(
    context: &Context,
    server: ServerId,
    admin: Admin,
    reply: &Reply,
    given: Instant,
) -> Result<InForce, ClientError> {
    let generation = reply.server.map(|ordered| ordered.generation);
    let mut wait = LOOK_FIRST;
    let mut pending = BTreeSet::new();
    loop {
        if let Some(now) = look(context, server.service).await? {
            let known = now.servers.iter().find(|known| known.name == server.server);
            let is_so = known.is_some_and(|known| known.admin == admin.to_string());
            // What is shown may be older than the order.
            let is_answer = generation.is_none_or(|generation| now.out_generation >= generation);
            if is_answer && !is_so && generation.is_some() {
                return Ok(InForce::Replaced(Box::new(now)));
            }
            pending = known.map(|known| known.pending.iter().copied().collect()).unwrap_or_default();
            let routed = match reply.route {
                Some(route) if now.generation == route.generation => {
                    pending.extend(now.pending.iter().copied());
                    true
                }
                Some(route) => now.generation > route.generation,
                None => true,
            };
            if is_answer && is_so && routed && pending.is_empty() {
                return Ok(InForce::After(Span::from(given.elapsed())));
            }
        }
        if given.elapsed() > context.patience {
            return Ok(InForce::NotYet(pending.into_iter().collect()));
        }
        sleep(wait).await;
        wait = (wait * 2).min(LOOK_LONGEST);
    }
}
