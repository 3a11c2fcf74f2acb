//! Servers that fail on the way: is it they, or is it we? The daemon waits for other witnesses before it believes its own
//! path errors; `--once` has one look, so it asks those witnesses at once, and then moves the clock of its copy of the
//! state over the rest of that wait.

use super::Look;
use crate::actuator::haproxy::{self, Driver};
use crate::clock;
use crate::daemon::now;
use crate::domain::event::{Event, Probed, ProxySeen};
use crate::domain::health::Run;
use crate::domain::{Boot, Now, ServerId, ServiceId, Span};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use tokio::time::{sleep, timeout};

/// The longest wait for HAProxy's own checks of the servers that fail: a person waits. Checks that may be older than this
/// are not waited for, and the verdict stays open.
const WITNESS_MAX: Span = Span::seconds(10);

/// How far the copy's clock is moved, and in which steps. What is left of the core's wait once HAProxy has been heard is
/// its own margin, about a second; far beyond it there is another reason, which no time ends.
const AHEAD_MAX: Span = Span::seconds(60);
const AHEAD_STEP: Span = Span(500);

/// A server that failed on the way as often as it takes, without a verdict.
struct Doubt {
    server: ServerId,
    /// Its bad evidence.
    run: Run,
    /// Since then HAProxy's word about it is newer than its first failure; none if nobody waits that long, or HAProxy
    /// cannot be asked.
    heard_from: Option<Boot>,
}

/// Ends the doubts that can be ended. `again` probes servers once more.
pub(super) async fn settle<P, F>(look: &mut Look, drivers: &[Driver], again: P)
where
    P: FnOnce(BTreeSet<ServerId>) -> F,
    F: Future<Output = Vec<Probed>>,
{
    let doubts = doubts(look, drivers);
    // Cut off, we have nothing to go by: the daemon would wait, too.
    if doubts.is_empty() || look.core.state().cut_off {
        return;
    }
    let services: BTreeSet<ServiceId> = doubts.iter().map(|doubt| doubt.server.service).collect();
    // Do we still reach the others? And does HAProxy reach those that we do not?
    let (probed, seen) = tokio::join!(again(others(look, &services, &doubts)), listen(drivers, &doubts));
    probed.into_iter().for_each(|probed| look.probed(probed));
    let mut contradicted = BTreeSet::new();
    for event in seen {
        if let Event::Proxy(seen) = &event {
            contradicted
                .extend(doubts.iter().filter(|doubt| contradicts(seen, doubt)).map(|doubt| doubt.server));
        }
        look.take(event, now());
    }
    for doubt in doubts {
        if !contradicted.contains(&doubt.server)
            && doubt.heard_from.is_some_and(|from| from <= clock::boot_now())
        {
            step_ahead(look, doubt.server);
        }
    }
}

fn doubts(look: &Look, drivers: &[Driver]) -> Vec<Doubt> {
    let state = look.core.state();
    let mut doubts = Vec::new();
    for (service, policy) in &state.policy.services {
        for (name, wanted) in &policy.servers {
            let server = ServerId { service: *service, server: *name };
            let run = state.server(server).and_then(|known| known.health.run());
            let Some(run) = run.filter(|run| run.path_only && run.count >= wanted.fall) else { continue };
            let asked = drivers.iter().filter(|driver| policy.proxies.contains(&driver.proxy));
            let age = asked.filter_map(|driver| driver.check_age.get(service).copied()).max();
            let age = age.unwrap_or(Span::ZERO);
            let heard_from = (age <= WITNESS_MAX).then(|| run.first + age);
            doubts.push(Doubt { server, run, heard_from });
        }
    }
    doubts
}

/// The servers of `services` that are not in doubt themselves.
fn others(look: &Look, services: &BTreeSet<ServiceId>, doubts: &[Doubt]) -> BTreeSet<ServerId> {
    let policies = look.core.state().policy.services.iter().filter(|(id, _)| services.contains(id));
    let servers = policies.flat_map(|(service, policy)| {
        policy.servers.keys().map(|server| ServerId { service: *service, server: *server })
    });
    servers.filter(|server| doubts.iter().all(|doubt| doubt.server != *server)).collect()
}

/// Looks at each HAProxy as soon as its checks are newer than the failures.
async fn listen(drivers: &[Driver], doubts: &[Doubt]) -> Vec<Event> {
    let Some(from) = doubts.iter().filter_map(|doubt| doubt.heard_from).max() else { return Vec::new() };
    sleep(from.since(clock::boot_now()).duration()).await;
    join_all(drivers.iter().map(|driver| async move {
        let lost = Event::ProxyLost { proxy: driver.proxy };
        timeout(super::LOOK_DEADLINE, haproxy::look(driver)).await.unwrap_or(lost)
    }))
    .await
}

/// Whether HAProxy reached the server with a check that began after our first failure.
fn contradicts(seen: &ProxySeen, doubt: &Doubt) -> bool {
    let check = seen.checks.get(&doubt.server);
    check.is_some_and(|check| check.layer7_ok && seen.at - check.age_at_most >= doubt.run.first)
}

/// Lets the server fail once more, later and later, until the core believes it. Only what follows from that server is kept:
/// a return that would come with time is not what would be done now.
fn step_ahead(look: &mut Look, server: ServerId) {
    let Some(outcome) = look.last.get(&server).map(|last| last.outcome) else { return };
    let now = now();
    for ahead in (0..=AHEAD_MAX.0).step_by(usize::try_from(AHEAD_STEP.0).unwrap_or(1)).map(Span) {
        let boot = now.boot + ahead;
        let mut later = look.clone();
        let probed = Probed { server, due: boot, started: boot, ended: boot, outcome };
        later.take(Event::Probed(probed), Now { boot, ..now });
        if later.returns() > look.returns() {
            return;
        }
        if later.core.state().server(server).is_some_and(|known| known.health.is_down()) {
            *look = later;
            return;
        }
    }
}
