//! `--once --apply` beside a daemon: what was found goes through the daemon, as orders of the person who typed.
//!
//! The daemon has the same rules, has watched for longer, and remembers. So mostly it has done already what is to be done,
//! or has decided against it; both are said, and a decision of the daemon is never overruled. Ordered is what it has
//! decided nothing about: without `--force`, and only if nobody has moved the service since it was looked at.

use super::context::Context;
use super::order::{self, InForce};
use crate::control::protocol::OrderBody;
use crate::control::{Answer, ClientError, CommandBody};
use crate::daemon::{Move, MoveKind};
use crate::domain::id::{ServiceId, SiteId};
use crate::domain::time::Span;
use crate::status::ServiceView;
use serde::Serialize;
use tokio::time::Instant;

/// What the journal gives as the person's reason.
const BECAUSE: &str = "supervisor --once --apply";

/// What became of one move.
#[derive(Debug, Serialize)]
pub(super) struct Ordered {
    /// Whose traffic.
    service: ServiceId,
    /// Where this look would have sent it.
    to: SiteId,
    pub(super) came: Came,
    /// The same for people.
    words: String,
}

/// What became of it, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Came {
    /// Ordered, and in force.
    Done,
    /// The daemon had done it, or had nothing to do.
    AlreadySo,
    /// Ordered; not in force in time.
    NotYet,
    /// Ordered, and denied.
    Denied,
    /// Not ordered.
    NotOrdered,
}

impl Came {
    /// Whether traffic is where it should be.
    pub(super) fn is_so(self) -> bool {
        match self {
            Came::Done | Came::AlreadySo => true,
            Came::NotYet | Came::Denied | Came::NotOrdered => false,
        }
    }
}

impl Ordered {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        let came = match self.came {
            Came::Done => "done",
            Came::AlreadySo => "already so",
            Came::NotYet => "ordered, but not in force yet",
            Came::Denied => "denied",
            Came::NotOrdered => "not ordered",
        };
        format!("{} to {}: {came}: {}", self.service, self.to, self.words)
    }
}

/// Takes each move through the daemon, one after the other.
pub(super) async fn apply(context: &Context, moves: &[Move]) -> Result<Vec<Ordered>, ClientError> {
    let mut all = Vec::new();
    for wanted in moves {
        let (came, words) = apply_one(context, wanted).await?;
        all.push(Ordered { service: wanted.service, to: wanted.to, came, words });
    }
    Ok(all)
}

async fn apply_one(context: &Context, wanted: &Move) -> Result<(Came, String), ClientError> {
    // Looked at now, and not when the look began: meanwhile the daemon may have acted.
    let Some(seen) = order::look(context, wanted.service).await? else {
        let words = "the daemon has no such service: it runs with other settings".to_owned();
        return Ok((Came::NotOrdered, words));
    };
    if seen.serving == Some(wanted.to) {
        return Ok((Came::AlreadySo, format!("the daemon sends it there, generation {}", seen.generation)));
    }
    if let Some(words) = daemon_knows_better(wanted, &seen) {
        return Ok((Came::NotOrdered, words));
    }
    let (service, to) = (wanted.service, wanted.to);
    let order = OrderBody::Failover {
        service,
        to,
        force: false,
        seen: Some(seen.generation),
        for_ms: None,
        pin: false,
    };
    let given = Instant::now();
    let body = CommandBody { order, because: Some(BECAUSE.to_owned()), dry_run: false };
    let reply = context.client.command(&body).await?;
    let route = match (reply.verdict, reply.route) {
        (Answer::Denied, _) => return Ok((Came::Denied, reply.words)),
        (Answer::AlreadySo, _) | (Answer::Accepted, None) => return Ok((Came::AlreadySo, reply.words)),
        (Answer::Accepted, Some(route)) => route,
    };
    let override_left = format!("; `supervisor failback {service}` ends the override that this made");
    let durable = if reply.durable == Some(false) { "; not durable: the disk is behind" } else { "" };
    Ok(match order::in_force(context, service, route, given).await? {
        InForce::After(took) => (Came::Done, format!("moved in {took}{override_left}{durable}")),
        InForce::Replaced(now) => (Came::Done, format!("moved, and from there on: {}{durable}", now.reason)),
        InForce::NotYet(proxies) => {
            let (names, patience) = (proxies.join(", "), Span::from(context.patience));
            let words =
                format!("HAProxy {names} has not confirmed it after {patience}{override_left}{durable}");
            (Came::NotYet, words)
        }
    })
}

/// Why a move is left to the daemon, if it is.
fn daemon_knows_better(wanted: &Move, seen: &ServiceView) -> Option<String> {
    if let Some(over) = &seen.preference {
        let Move { service, .. } = wanted;
        return Some(format!(
            "the override of {} prefers {}; `supervisor failback {service}` ends it",
            over.by, over.site
        ));
    }
    // Without a route of its own the daemon has decided nothing.
    let serving = seen.serving?;
    match wanted.kind {
        MoveKind::Return => Some(format!("the daemon decides when to go back: {}", seen.reason)),
        MoveKind::Set => Some(format!("the daemon sends it to {serving}, and tells HAProxy so by itself")),
        MoveKind::Escape => {
            let at_site = || seen.servers.iter().filter(|server| server.site == serving);
            if at_site().any(|server| server.health != "down") {
                let told = at_site().map(|server| {
                    let evidence = server.evidence.as_deref().unwrap_or("no probe yet");
                    format!("{} is {} ({evidence})", server.name, server.health)
                });
                let told = told.collect::<Vec<_>>().join(", ");
                return Some(format!("the daemon does not hold {serving} to be down: {told}"));
            }
            let stays = seen.reasons.iter().find(|reason| reason.code == "stays")?;
            Some(format!("the daemon decided otherwise: {}", stays.words))
        }
    }
}
