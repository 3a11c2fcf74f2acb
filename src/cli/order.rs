//! `supervisor failover` and `supervisor failback`: give the order, wait until it is in force, say how long that took.

use super::Exit;
use super::args::{FailbackArgs, FailoverArgs, OrderArgs, PauseArgs, ResumeArgs};
use super::context::Context;
use crate::control::protocol::OrderBody;
use crate::control::{Answer, ClientError, CommandBody, Reply, RouteOrdered};
use crate::domain::id::ServiceId;
use crate::domain::time::Span;
use crate::status::ServiceView;
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between the first looks at the route: what is printed should be near what it took.
pub(super) const LOOK_FIRST: Duration = Duration::from_millis(3);

/// The longest wait between two looks.
pub(super) const LOOK_LONGEST: Duration = Duration::from_millis(100);

pub(super) async fn failover(context: &mut Context, args: &FailoverArgs) -> anyhow::Result<Exit> {
    let before = look(context, args.service).await?;
    let FailoverArgs { service, to, force, pin, .. } = *args;
    let for_ms = args.ends.lasts(&jiff::Zoned::now())?.map(|Span(ms)| ms);
    let order = OrderBody::Failover { service, to, force, seen: seen(&before), for_ms, pin };
    give(context, Some(service), order, before, &args.how).await
}

pub(super) async fn failback(context: &mut Context, args: &FailbackArgs) -> anyhow::Result<Exit> {
    let before = look(context, args.service).await?;
    let order = OrderBody::Failback { service: args.service, seen: seen(&before), force: args.force };
    give(context, Some(args.service), order, before, &args.how).await
}

pub(super) async fn pause(context: &mut Context, args: &PauseArgs) -> anyhow::Result<Exit> {
    let for_ms = args.ends.lasts(&jiff::Zoned::now())?.map(|Span(ms)| ms);
    let order = OrderBody::Pause { scope: args.about.scope()?, for_ms };
    give(context, None, order, None, &args.how).await
}

pub(super) async fn resume(context: &mut Context, args: &ResumeArgs) -> anyhow::Result<Exit> {
    let order = OrderBody::Resume { scope: args.about.scope()? };
    give(context, None, order, None, &args.how).await
}

/// The service as it is now; none if there is no such service: the order is then denied in the daemon's own words.
pub(super) async fn look(context: &Context, service: ServiceId) -> Result<Option<ServiceView>, ClientError> {
    match context.client.get(&format!("/api/v1/explain/{service}")).await {
        Ok(view) => Ok(Some(view)),
        Err(ClientError::Said { status: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What the person looked at: if somebody moves the service in between, the order is denied.
fn seen(before: &Option<ServiceView>) -> Option<u64> {
    before.as_ref().map(|service| service.generation)
}

/// The answer, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Outcome<'a> {
    #[serde(flatten)]
    pub(super) reply: &'a Reply,
    /// None where nothing had to come into force.
    pub(super) in_force: Option<bool>,
    pub(super) took_ms: Option<u64>,
}

/// How a route came into force.
pub(super) enum InForce {
    /// It is, this long after the order was given.
    After(Span),
    /// Another route has replaced it.
    Replaced(Box<ServiceView>),
    /// These have not confirmed it in time.
    NotYet(Vec<String>),
}

async fn give(
    context: &mut Context,
    service: Option<ServiceId>,
    order: OrderBody,
    before: Option<ServiceView>,
    how: &OrderArgs,
) -> anyhow::Result<Exit> {
    let body = CommandBody { order, because: how.reason.clone(), dry_run: how.dry_run };
    let given = Instant::now();
    let reply = context.client.command(&body).await?;
    let wait = match (reply.verdict, reply.route, service) {
        (Answer::Accepted, Some(route), Some(service)) if !reply.dry_run => {
            Some((route, in_force(context, service, route, given).await?))
        }
        _ => None,
    };
    let exit = match (&reply.verdict, &wait) {
        (Answer::Denied, _) => Exit::DENIED,
        (_, Some((_, InForce::NotYet(_)))) => Exit::NotYet,
        (_, Some((_, InForce::After(_) | InForce::Replaced(_))) | None) => Exit::Ok,
    };
    if context.is_json() {
        let in_force = wait.as_ref().map(|(_, wait)| !matches!(wait, InForce::NotYet(_)));
        let took_ms = match &wait {
            Some((_, InForce::After(took))) => Some(took.0),
            _ => None,
        };
        context.output.json(&Outcome { reply: &reply, in_force, took_ms })?;
        return Ok(exit);
    }
    tell(context, service, &reply, before, wait)?;
    Ok(exit)
}

fn tell(
    context: &mut Context,
    service: Option<ServiceId>,
    reply: &Reply,
    before: Option<ServiceView>,
    wait: Option<(RouteOrdered, InForce)>,
) -> std::io::Result<()> {
    let output = &mut context.output;
    // Only an order about a service has a route to tell of.
    let service = service.map(|service| service.to_string()).unwrap_or_default();
    match (reply.verdict, wait) {
        (Answer::Denied, _) if reply.dry_run => {
            return output.line(&format!("would be denied: {}", reply.words));
        }
        (Answer::Denied, _) => return output.note(&format!("denied: {}", reply.words)),
        (Answer::AlreadySo, _) => return output.line(&reply.words),
        (Answer::Accepted, _) if reply.dry_run => {
            for step in &reply.plan {
                output.line(&format!("would {step}"))?;
            }
        }
        (Answer::Accepted, None) => output.line(&reply.words)?,
        (Answer::Accepted, Some((route, InForce::After(took)))) => {
            let from = before.and_then(|before| before.serving);
            let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
            output.line(&format!("moved {service}{from} to {} in {took}", route.site))?;
        }
        (Answer::Accepted, Some((route, InForce::Replaced(now)))) => {
            let site = now.serving.map_or("an unknown site".to_owned(), |site| site.to_string());
            output.line(&format!(
                "moved {service} to {}, and from there on to {site}: {}",
                route.site, now.reason
            ))?;
        }
        (Answer::Accepted, Some((route, InForce::NotYet(proxies)))) => output.note(&format!(
            "ordered, but not in force after {}: {service} goes to {}, and HAProxy {} has not confirmed it; \
             supervisor goes on trying, see `supervisor explain {service}`",
            Span::from(context.patience),
            route.site,
            proxies.join(", ")
        ))?,
    }
    if reply.durable == Some(false) {
        output.note("not durable: the disk is behind, so a crash now would forget the order")?;
    }
    Ok(())
}

/// Waits until every HAProxy has confirmed the route, with a deadline.
pub(super) async fn in_force(
    context: &Context,
    service: ServiceId,
    route: RouteOrdered,
    given: Instant,
) -> Result<InForce, ClientError> {
    let mut wait = LOOK_FIRST;
    loop {
        let now = look(context, service).await?;
        let pending = match now {
            Some(now) if now.generation > route.generation => return Ok(InForce::Replaced(Box::new(now))),
            Some(now) if now.generation == route.generation && now.pending.is_empty() => {
                return Ok(InForce::After(Span::from(given.elapsed())));
            }
            Some(now) => now.pending.iter().map(ToString::to_string).collect(),
            None => Vec::new(),
        };
        if given.elapsed() > context.patience {
            return Ok(InForce::NotYet(pending));
        }
        sleep(wait).await;
        wait = (wait * 2).min(LOOK_LONGEST);
    }
}
