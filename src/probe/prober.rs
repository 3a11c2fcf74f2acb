//! One prober: one task, one server, one probe at a time.

use super::cadence::{Cadence, Last};
use super::connect::Client;
use super::exchange::{Exchange, Failed};
use super::spec::{Purpose, Spec};
use super::watchdog::Beat;
use crate::clock::boot_now;
use crate::domain::Event;
use crate::domain::action::Pace;
use crate::domain::event::Probed;
use crate::domain::time::{Boot, Span};
use crate::domain::witness::{ProbeFault, ProbeOutcome};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Of the probes over kept connections one in this many makes a new one: a kept connection outlives the listener, so
/// only a new one proves that clients can still come in.
const FRESH_ONE_IN: u32 = 5;

/// Every step of a probe has the probe's deadline; this much later the whole is ended from outside as well. It never
/// comes to that unless a step forgets its deadline.
pub(super) const SLACK: Duration = Duration::from_millis(500);

/// Probes once, now, over a new connection.
pub async fn probe_once(client: &Client, spec: &Spec) -> ProbeOutcome {
    probe(client, spec, &mut None).await.outcome
}

/// Probes at the pace that is asked for until nobody listens any more. Cancelling it is safe: a probe that is under way
/// is not reported.
pub(super) async fn run(
    client: &Client,
    spec: &Spec,
    pace: &mut watch::Receiver<Pace>,
    lane: &mpsc::Sender<Event>,
    beat: &Beat,
) {
    let cadence = Cadence::new(spec);
    let mut kept = None;
    let mut attempt = 0_u64;
    let mut last: Option<Last> = None;
    loop {
        let due = wait(spec, &cadence, last, pace, beat).await;
        let done = probe(client, spec, &mut kept).await;
        let probed = Probed {
            server: spec.server,
            due,
            started: done.started,
            ended: done.ended,
            outcome: done.outcome,
        };
        beat.done();
        // A full lane holds this prober up; its results then come late, and the core sees that they do.
        let event = match spec.purpose {
            Purpose::Ready => Event::Probed(probed),
            Purpose::Live => Event::Lived(probed),
        };
        if lane.send(event).await.is_err() {
            return;
        }
        last = Some(Last { attempt, due, ended: done.ended });
        attempt = attempt.wrapping_add(1);
    }
}

/// Sleeps until the next probe is due, and says when that was. A change of pace moves it.
async fn wait(
    spec: &Spec,
    cadence: &Cadence,
    last: Option<Last>,
    pace: &mut watch::Receiver<Pace>,
    beat: &Beat,
) -> Boot {
    loop {
        let wanted = *pace.borrow_and_update();
        let now = boot_now();
        let due = match last {
            Some(last) => cadence.next(last, wanted, now),
            None => cadence.first(now),
        };
        beat.expect(due.max(now), spec.timeout);
        tokio::select! {
            () = sleep(due.since(now).duration()) => return due,
            // The first probe is soon anyway, and moving it would let it be put off for ever.
            changed = pace.changed(), if last.is_some() => {
                // Nobody sets the pace any more: keep the last one.
                if changed.is_err() {
                    sleep(due.since(boot_now()).duration()).await;
                    return due;
                }
            }
        }
    }
}

struct Done {
    started: Boot,
    ended: Boot,
    outcome: ProbeOutcome,
}

async fn probe(client: &Client, spec: &Spec, kept: &mut Option<Exchange>) -> Done {
    let place = client.place().await;
    let started = boot_now();
    let begun = Instant::now();
    let deadline = begun + spec.timeout;
    let outside = timeout(spec.timeout + SLACK, attempt(client, spec, kept, place, deadline)).await;
    let took = Span::from(begun.elapsed());
    let outcome = match outside {
        Ok(Ok(Some(status))) => ProbeOutcome::Healthy { status, took },
        Ok(Ok(None)) => ProbeOutcome::Connected { took },
        Ok(Err(fault)) => ProbeOutcome::Failed(fault),
        Err(_) => ProbeOutcome::Failed(ProbeFault::Silent),
    };
    Done { started, ended: boot_now(), outcome }
}

/// The status of a good answer; none where nothing is asked. `kept` holds a connection afterwards only if it can carry another probe.
async fn attempt(
    client: &Client,
    spec: &Spec,
    kept: &mut Option<Exchange>,
    place: Option<tokio::sync::SemaphorePermit<'_>>,
    deadline: Instant,
) -> Result<Option<u16>, ProbeFault> {
    if let Some(exchange) = kept.take().filter(|exchange| exchange.carried < FRESH_ONE_IN) {
        match ask(exchange, spec, kept, deadline).await {
            // The server had closed it. At once and once more, over a new one.
            Err(Failed { before_head: true, .. }) => {}
            other => return other.map(Some).map_err(|failed| failed.fault),
        }
    }
    let stream = client.connect(spec, place, deadline).await?;
    if spec.connect_only {
        return Ok(None);
    }
    let exchange = Exchange::begin(stream).await?;
    ask(exchange, spec, kept, deadline).await.map(Some).map_err(|failed| failed.fault)
}

async fn ask(
    mut exchange: Exchange,
    spec: &Spec,
    kept: &mut Option<Exchange>,
    deadline: Instant,
) -> Result<u16, Failed> {
    match timeout_at(deadline, exchange.ask(spec)).await {
        Ok(Ok(answer)) => {
            *kept = (spec.keep_alive && answer.whole).then_some(exchange);
            Ok(answer.status)
        }
        Ok(Err(failed)) => Err(failed),
        Err(_) => Err(ProbeFault::Silent.into()),
    }
}
