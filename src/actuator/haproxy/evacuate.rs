//! Frees the requests that a dead or hung server holds.
//!
//! Three steps, in this order, after the service's route points elsewhere:
//! 1. `set server … health down`: without it HAProxy would retry on the same server, which it still believes in.
//! 2. `shutdown sessions server`: what is in flight is retried, on a `backup` line now. Only up to 2.6: 3.0 closes the
//!    client's connection without an answer instead. There reads wait for `http-request set-timeout server` (the template's
//!    `retry_reads_after`), and are retried elsewhere because of step 1. Connections in TCP mode are shut down always:
//!    their clients come again.
//! 3. The *rescue line*. With `maxconn`, requests wait in the backend's queue, and nothing moves that queue to a server
//!    that was usable all along. A server that *becomes* usable, however, pulls the queue onto itself. So a spare line of
//!    the backend gets the address of a good server elsewhere and is toggled until the queue is empty; retried requests may
//!    join the queue after a pull, hence more than once.
//!
//! The rescue line is in maintenance before and after, also when something fails: left open it would take traffic for a
//! server whose health nobody checks. Never `maint` for the server itself: that would outlive us.
//!
//! Old workers refuse all of this (`Proxy is disabled.`); what is in flight there is counted and lost.

use super::command::{AdminState, CheckVerdict, Command};
use super::ident::Ident;
use super::reply::{self, StatKind, StatRow, Version};
use super::runtime::{Runtime, RuntimeError, Worker};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pause between two looks at the queue. Long enough for HAProxy to hand a pulled queue to the server, short against
/// a client's timeout of two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The queue counts as empty after so many empty looks in a row: requests that are retried after the shutdown arrive
/// within some tens of milliseconds.
const EMPTY_LOOKS: u32 = 5;

/// After this the rest of the queue is left to its `timeout queue`: its clients have given up by then.
pub(super) const RESCUE_BUDGET: Duration = Duration::from_secs(2);

/// How often closing the rescue line is tried. It takes 0.2 ms; a HAProxy that fails it three times is gone, and its
/// rescue lines with it.
const CLOSE_TRIES: u32 = 3;

/// The server to be freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evacuee {
    /// Its pool's backend.
    pub backend: Ident,
    /// Its line there.
    pub server: Ident,
}

/// Where the queue goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuge {
    /// The spare line in the evacuee's backend.
    pub line: Ident,
    /// The backend of the site that takes over: its first usable server is the one.
    pub backend: Ident,
}

/// What an evacuation did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Evacuated {
    /// The largest queue that was seen.
    pub queued: u64,
    /// What was still queued when it ended.
    pub left: u64,
    /// How often the rescue line was opened.
    pub pulls: u32,
    /// The address that took the queue.
    pub refuge: Option<SocketAddr>,
    /// Sessions that old workers hold on the server, by process id: out of reach.
    pub stranded: BTreeMap<u32, u64>,
}

/// Why an evacuation failed. Steps before the one named have been done.
#[derive(Debug, thiserror::Error)]
pub enum EvacuateError {
    /// HAProxy could not be asked, or it refused.
    #[error("evacuation of {backend}/{server} stopped at: {step}")]
    Step {
        /// The pool.
        backend: Ident,
        /// The server.
        server: Ident,
        /// What was being done.
        step: &'static str,
        /// Why.
        source: RuntimeError,
    },
    /// The refuge has no server that HAProxy would use.
    #[error("backend {refuge} has no usable server to take the queue of {backend}: {queued} requests wait")]
    NoRefuge {
        /// The pool whose queue waits.
        backend: Ident,
        /// Where it was to go.
        refuge: Ident,
        /// How many wait.
        queued: u64,
    },
    /// The rescue line could not be put back into maintenance.
    #[error("rescue line {backend}/{line} may be open: `set server {backend}/{line} state maint` closes it")]
    LeftOpen {
        /// The pool.
        backend: Ident,
        /// The line.
        line: Ident,
        /// Why.
        source: RuntimeError,
    },
}

impl EvacuateError {
    /// True if HAProxy could not be asked: it restarts or reloads, and the next attempt may find it there.
    pub fn may_pass(&self) -> bool {
        match self {
            EvacuateError::Step { source, .. } | EvacuateError::LeftOpen { source, .. } => match source {
                RuntimeError::Client(_) => true,
                RuntimeError::Reply(_) | RuntimeError::NoMaster(_) => false,
            },
            EvacuateError::NoRefuge { .. } => false,
        }
    }
}

/// Frees what `evacuee` holds. All of it may be done again, as after an attempt that was cut off. Runs at most about [`RESCUE_BUDGET`] plus the deadlines of a HAProxy that does not answer.
///
/// Run it as a task of its own: a future that is dropped in the middle leaves the rescue line open until somebody calls
/// [`close_rescue_line`] (an [observation](super::observe()) shows it).
pub async fn evacuate(
    runtime: &Runtime,
    evacuee: &Evacuee,
    refuge: Option<&Refuge>,
) -> Result<Evacuated, EvacuateError> {
    let Evacuee { backend, server } = evacuee;
    let step = |step| {
        let (backend, server) = (backend.clone(), server.clone());
        move |source| EvacuateError::Step { backend, server, step, source }
    };
    let down = Command::set_server_health(backend, server, CheckVerdict::Down);
    runtime.order(Worker::Current, &down).await.map_err(step("marking the server down"))?;
    if shutting_down_helps(runtime, evacuee).await.map_err(step("asking what it holds"))? {
        let shutdown = Command::shutdown_sessions(backend, server);
        runtime.order(Worker::Current, &shutdown).await.map_err(step("shutting its sessions down"))?;
    }
    let mut evacuated = Evacuated::default();
    if let Some(refuge) = refuge {
        let pulled = pull(runtime, backend, refuge, &mut evacuated).await;
        if evacuated.pulls > 0 {
            close_rescue_line(runtime, backend, &refuge.line).await?;
        }
        match pulled {
            Ok(()) => {}
            Err(PullError::Runtime(source)) => return Err(step("pulling its queue elsewhere")(source)),
            Err(PullError::NoRefuge) => {
                let (backend, refuge) = (backend.clone(), refuge.backend.clone());
                return Err(EvacuateError::NoRefuge { backend, refuge, queued: evacuated.queued });
            }
        }
    }
    evacuated.stranded = stranded(runtime, evacuee).await;
    Ok(evacuated)
}

/// Puts a rescue line into maintenance, where it belongs.
pub async fn close_rescue_line(
    runtime: &Runtime,
    backend: &Ident,
    line: &Ident,
) -> Result<(), EvacuateError> {
    let close = Command::set_server_state(backend, line, AdminState::Maint);
    let mut tries = 1;
    loop {
        match runtime.order(Worker::Current, &close).await {
            Ok(()) => return Ok(()),
            Err(source) if tries >= CLOSE_TRIES => {
                return Err(EvacuateError::LeftOpen { backend: backend.clone(), line: line.clone(), source });
            }
            Err(_) => tries += 1,
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn shutting_down_helps(runtime: &Runtime, evacuee: &Evacuee) -> Result<bool, RuntimeError> {
    let look = [Command::show_info(), Command::show_stat_of(&evacuee.backend)];
    let replies = runtime.ask_all(Worker::Current, &look).await?;
    let [info, stat] = replies.as_slice() else { return Ok(false) };
    let http = reply::stat(stat)?.iter().any(|row| row.kind == StatKind::Backend && row.http);
    Ok(!http || reply::info(info)?.version <= Version::LAST_TO_RETRY_SHUT_SESSIONS)
}

enum PullError {
    Runtime(RuntimeError),
    NoRefuge,
}

impl<E: Into<RuntimeError>> From<E> for PullError {
    fn from(error: E) -> PullError {
        PullError::Runtime(error.into())
    }
}

/// `evacuated.pulls` counts from the moment before the line is opened, so that the caller knows what to close.
async fn pull(
    runtime: &Runtime,
    backend: &Ident,
    refuge: &Refuge,
    evacuated: &mut Evacuated,
) -> Result<(), PullError> {
    let ends = Instant::now() + RESCUE_BUDGET;
    let mut empty_looks = 0;
    loop {
        evacuated.left = queued(&rows(runtime, Worker::Current, backend).await?);
        evacuated.queued = evacuated.queued.max(evacuated.left);
        empty_looks = if evacuated.left == 0 { empty_looks + 1 } else { 0 };
        if empty_looks >= EMPTY_LOOKS || Instant::now() >= ends {
            return Ok(());
        }
        if evacuated.left > 0 {
            if evacuated.refuge.is_none() {
                let addr = usable_server(&rows(runtime, Worker::Current, &refuge.backend).await?);
                let addr = addr.ok_or(PullError::NoRefuge)?;
                let command = Command::set_server_addr(backend, &refuge.line, addr.ip(), addr.port());
                reply::addr_set(&runtime.ask(Worker::Current, &command).await?)?;
                evacuated.refuge = Some(addr);
            }
            evacuated.pulls += 1;
            let toggle = [AdminState::Maint, AdminState::Ready]
                .map(|state| Command::set_server_state(backend, &refuge.line, state));
            for text in runtime.ask_all(Worker::Current, &toggle).await? {
                reply::done("set server state", &text)?;
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn stranded(runtime: &Runtime, evacuee: &Evacuee) -> BTreeMap<u32, u64> {
    // A count for the report: what cannot be asked is not counted.
    let Ok(processes) = runtime.processes().await else { return BTreeMap::new() };
    let mut stranded = BTreeMap::new();
    for old in processes.old_workers {
        let Ok(rows) = rows(runtime, Worker::Old(old.pid), &evacuee.backend).await else { continue };
        let server = StatKind::Server(evacuee.server.as_str().to_owned());
        let held: u64 =
            rows.iter().filter(|row| row.kind == server).map(|row| row.sessions + row.queued).sum();
        if held > 0 {
            stranded.insert(old.pid, held);
        }
    }
    stranded
}

async fn rows(runtime: &Runtime, worker: Worker, backend: &Ident) -> Result<Vec<StatRow>, RuntimeError> {
    Ok(reply::stat(&runtime.ask(worker, &Command::show_stat_of(backend)).await?)?)
}

/// Requests that wait in the backend's queue or in a server's own.
fn queued(rows: &[StatRow]) -> u64 {
    rows.iter().map(|row| row.queued).sum()
}

/// The address of the first server of the pool itself that HAProxy would use.
fn usable_server(rows: &[StatRow]) -> Option<SocketAddr> {
    let own = |row: &&StatRow| matches!(row.kind, StatKind::Server(_)) && !row.backup && row.usable();
    rows.iter().filter(own).find_map(|row| row.addr)
}
