//! The task that makes old workers route as decided, beside the loop that drives HAProxy: an old worker that hangs holds up
//! neither the next switch nor an evacuation.

use super::handoff::Handoff;
use super::ident::MapPath;
use super::runtime::Runtime;
use super::switch::{OldWorkers, Routes, SwitchError, set_old};
use crate::domain::id::ProxyId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// The pause while a reload goes on, for as long as one takes: the master re-executes itself in 0.1 s to 2 s and does not
/// answer, and the worker that comes out of it may have begun with an old map file.
const RELOAD_PAUSE: Duration = Duration::from_millis(20);
const RELOAD_PATIENCE: Duration = Duration::from_secs(5);

/// The pause before old workers that did not take their routes are told again. They end by themselves within a minute
/// (`hard-stop-after`).
const RETRY: Duration = Duration::from_secs(1);

/// What the current worker was read to route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InForce {
    /// Its process id.
    pub(super) pid: u32,
    /// The decided routes.
    pub(super) routes: Routes,
}

/// Tells old workers whatever is in force, again until they have taken it. Asks for a look when the current worker turns out
/// to be another one. Ends with the sender of `in_force`; none of it means: touch nothing.
pub(super) async fn keep_old_workers(
    proxy: ProxyId,
    runtime: Runtime,
    map: MapPath,
    mut in_force: watch::Receiver<Option<InForce>>,
    handoff: Handoff,
) {
    loop {
        let now = in_force.borrow_and_update().clone();
        let told = async {
            if let Some(now) = now {
                tell(proxy, &runtime, &map, &now, &handoff).await;
            }
            std::future::pending::<()>().await;
        };
        // A newer value has all that the older one had: what is under way for that is dropped.
        tokio::select! {
            changed = in_force.changed() => if changed.is_err() { return },
            () = told => {}
        }
    }
}

async fn tell(proxy: ProxyId, runtime: &Runtime, map: &MapPath, now: &InForce, handoff: &Handoff) {
    let began = Instant::now();
    // Each is told of once.
    let mut lagging = BTreeSet::new();
    let mut silent = false;
    loop {
        let pause = match set_old(runtime, map, &now.routes, now.pid).await {
            // The successor is listed a moment before it answers on the socket: a look may still find the old one, so this goes
            // on until a look has found the new one and `in_force` names it.
            None => {
                handoff.look_now();
                if began.elapsed() < RELOAD_PATIENCE { RELOAD_PAUSE } else { RETRY }
            }
            Some(OldWorkers::Unreachable) => return,
            Some(OldWorkers::Told(told)) => {
                let late: Vec<(u32, SwitchError)> =
                    told.into_iter().filter_map(|(pid, result)| Some((pid, result.err()?))).collect();
                if late.is_empty() {
                    return;
                }
                for (pid, error) in late {
                    if lagging.insert(pid) {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(%proxy, pid, error, "an old worker still routes as before");
                    }
                }
                RETRY
            }
            Some(OldWorkers::Unknown(_)) if began.elapsed() < RELOAD_PATIENCE => RELOAD_PAUSE,
            Some(OldWorkers::Unknown(error)) => {
                if !std::mem::replace(&mut silent, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%proxy, error, "old workers may route as before: HAProxy's master does not name them");
                }
                RETRY
            }
        };
        sleep(pause).await;
    }
}
