//! Orders to free a server, from their arrival to their end.
//!
//! ```text
//!   order ──► waits ── guard void ─────────────────────────────► Superseded
//!               │ ▲── an obstacle: route not in force ── too long ► Failed
//!        clear  ▼ │
//!              runs ── cut off: HAProxy restarts or reloads ── too long ► Failed
//!               └────────────────────────────────────────────► Done, Failed, Unknown
//! ```
//!
//! An order is carried out at most once *as a whole*; but a step that HAProxy's restart or reload cuts off is the same
//! attempt going on. All of them may be done twice: a server that is marked down is marked down again; the sessions that are
//! shut down are those that it still holds, and while it is down the new ones are not given to it; the queue is pulled
//! until it is empty anyway, by a rescue line that is closed before and after. And before each beginning the guard is asked
//! again: a server that came back, or a route that moved on, is left alone.

use super::evacuate::{EvacuateError, Evacuated, Evacuee, RESCUE_BUDGET, Refuge, evacuate};
use super::ident::IdentError;
use super::known::Guard;
use super::naming;
use super::runtime::Runtime;
use crate::chain::chain;
use crate::domain::action::{Evacuation, Finished, Outcome, Target};
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

/// Evacuations at once. Each takes at most a few seconds; more wait for their turn, however long that takes.
const AT_ONCE: usize = 8;

/// Orders that may wait here, as many as in the channel before us: the servers of a site that dies at once. The channel
/// fills up behind it, and says so.
const WAITING_MAX: usize = 64;

/// How long an obstacle may stay. Longer than a reload (0.1 s to 2 s) or the start of a HAProxy that was killed; and when it
/// is over, a client that waited two seconds has gone, and HAProxy has answered its queue (`timeout queue`, a second).
const PATIENCE: Duration = Duration::from_secs(3);

/// The first pause after an attempt that was cut off; doubled each time. [`PATIENCE`] bounds their number to six.
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// How often HAProxy is looked at while its route holds an order up. A look costs it less than a millisecond.
const LOOK_SOON: Duration = Duration::from_millis(50);

type Tried = Result<Evacuated, EvacuateError>;

/// The orders of one HAProxy that have not ended.
#[derive(Default)]
pub(super) struct Rescues {
    waiting: Vec<Order>,
    running: JoinSet<Tried>,
    /// What runs: a task that panics says nothing, and its order must still be told.
    orders: HashMap<Id, Order>,
    look_at: Option<Instant>,
}

struct Order {
    evacuation: Evacuation,
    /// Until then an obstacle is waited for.
    until: Instant,
    not_before: Instant,
    pause: Duration,
    /// How the last attempt ended.
    cut_off: Option<Outcome>,
}

impl Rescues {
    /// Whether another order can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// Whether no rescue line may be open.
    pub(super) fn none_runs(&self) -> bool {
        self.running.is_empty()
    }

    /// Takes an order; its patience begins.
    pub(super) fn take(&mut self, evacuation: Evacuation) {
        let now = Instant::now();
        let until = now + PATIENCE;
        self.waiting.push(Order { evacuation, until, not_before: now, pause: PAUSE_FIRST, cut_off: None });
    }

    /// Begins what can begin, and gives what ended without.
    pub(super) fn advance(
        &mut self,
        runtime: &Runtime,
        guard: impl Fn(&Evacuation) -> Guard,
    ) -> Vec<Finished> {
        let now = Instant::now();
        let mut ended = Vec::new();
        let mut blocked = false;
        for order in std::mem::take(&mut self.waiting) {
            match guard(&order.evacuation) {
                Guard::Void => ended.push(order.end_or(Outcome::Superseded)),
                Guard::Blocked if now >= order.until => ended.push(order.end_or(Outcome::Failed(format!(
                    "the route away from it was not in force within {} s",
                    PATIENCE.as_secs()
                )))),
                Guard::Clear if now >= order.not_before && self.running.len() < AT_ONCE => {
                    match Rescue::of(&order.evacuation) {
                        Ok(rescue) => {
                            let (runtime, evacuation) = (runtime.clone(), order.evacuation);
                            self.spawn(order, async move { rescue.carry_out(&runtime, &evacuation).await });
                        }
                        Err(error) => ended.push(order.end(Outcome::Failed(error.to_string()))),
                    }
                }
                now @ (Guard::Blocked | Guard::Clear) => {
                    blocked |= now == Guard::Blocked;
                    self.waiting.push(order);
                }
            }
        }
        self.look_at = blocked.then(|| self.look_at.unwrap_or(now + LOOK_SOON));
        ended
    }

    /// When something here is due; none if nothing is.
    pub(super) fn due(&self) -> Option<Instant> {
        let now = Instant::now();
        let pauses = self.waiting.iter().map(|order| order.not_before).filter(|at| *at > now);
        pauses.chain(self.look_at).min()
    }

    /// Whether HAProxy should be looked at, because its route holds an order up. Once for each time.
    pub(super) fn wants_look(&mut self) -> bool {
        self.look_at.take_if(|at| *at <= Instant::now()).is_some()
    }

    /// Waits for the end of what runs; none if nothing does. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Option<Result<(Id, Tried), JoinError>> {
        self.running.join_next_with_id().await
    }

    /// What an end of [`ended`](Rescues::ended) means: the end of its order, or another attempt.
    pub(super) fn conclude(&mut self, ended: Result<(Id, Tried), JoinError>) -> Option<Finished> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let mut order = self.orders.remove(&id)?;
        match ended {
            Ok((_, Ok(evacuated))) => Some(order.end(outcome(&evacuated))),
            Ok((_, Err(error))) => {
                let (outcome, at) = (failed(&error), Instant::now() + order.pause);
                if !error.may_pass() || at >= order.until {
                    return Some(order.end(outcome));
                }
                let server = order.evacuation.server;
                tracing::info!(%server, error = &error as &dyn std::error::Error, "an evacuation is tried again");
                order.not_before = at;
                order.pause *= 2;
                order.cut_off = Some(outcome);
                self.waiting.push(order);
                None
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an evacuation ended badly");
                let words = "supervisor failed while it freed them, which is a bug; please report it";
                Some(order.end(Outcome::Unknown(words.to_owned())))
            }
        }
    }

    fn spawn(&mut self, order: Order, work: impl Future<Output = Tried> + Send + 'static) {
        let id = self.running.spawn(work).id();
        self.orders.insert(id, order);
    }
}

impl Order {
    fn end(self, outcome: Outcome) -> Finished {
        Finished { action: self.evacuation.id, of: Target::Server(self.evacuation.server), outcome }
    }

    /// An attempt that was cut off has done something: its end is the one to be told.
    fn end_or(mut self, outcome: Outcome) -> Finished {
        let outcome = self.cut_off.take().unwrap_or(outcome);
        self.end(outcome)
    }
}

fn outcome(evacuated: &Evacuated) -> Outcome {
    let wait = match evacuated.left {
        0 => return Outcome::Done,
        1 => "1 request still waits".to_owned(),
        many => format!("{many} requests still wait"),
    };
    Outcome::Failed(format!("{wait} in the queue after {} s", RESCUE_BUDGET.as_secs()))
}

fn failed(error: &EvacuateError) -> Outcome {
    match error {
        EvacuateError::LeftOpen { .. } => Outcome::Unknown(chain(error)),
        EvacuateError::Step { .. } | EvacuateError::NoRefuge { .. } => Outcome::Failed(chain(error)),
    }
}

/// An evacuation in HAProxy's words.
struct Rescue {
    evacuee: Evacuee,
    refuge: Option<Refuge>,
}

impl Rescue {
    fn of(order: &Evacuation) -> Result<Rescue, IdentError> {
        let service = order.server.service.as_str();
        let backend = naming::pool_backend(service, order.site.as_str())?;
        let evacuee = Evacuee { backend, server: order.server.server.as_str().parse()? };
        let refuge = order.refuge.filter(|site| *site != order.site).map(|site| {
            let line = naming::rescue_line(site.as_str())?;
            Ok(Refuge { line, backend: naming::pool_backend(service, site.as_str())? })
        });
        Ok(Rescue { evacuee, refuge: refuge.transpose()? })
    }

    async fn carry_out(self, runtime: &Runtime, order: &Evacuation) -> Tried {
        let done = evacuate(runtime, &self.evacuee, self.refuge.as_ref()).await?;
        let (proxy, server) = (order.proxy, order.server);
        let Evacuated { queued, left, pulls, refuge, stranded } = &done;
        tracing::debug!(%proxy, %server, queued, left, pulls, ?refuge, "its queue was pulled");
        if !stranded.is_empty() {
            tracing::warn!(
                %proxy,
                %server,
                requests = stranded.values().sum::<u64>(),
                old_workers = stranded.len(),
                "old workers of HAProxy hold requests on a server that is down: they are out of reach, and lost"
            );
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
