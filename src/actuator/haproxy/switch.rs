//! Moves services to another pool by HAProxy's map, on every worker.
//!
//! The map is the one thing that also works on old workers: a client that keeps its connection open through a reload
//! follows too. Each worker is treated the same way: look (does it know the target backends, what does it route now),
//! write (one entry by `set map`, several by a version that is committed at once), read back. A switch is reported as
//! made only for what was read back.
//!
//! The current worker goes first, and its read-back alone makes a switch: it takes every new connection. The old ones are
//! told at the same time as each other, within one deadline, so that one that hangs holds up nobody.
//!
//! An unknown backend name in a map is no error for HAProxy, it silently uses the default backend: hence the look first.

use super::command::Command;
use super::ident::{Ident, MapPath};
use super::reply::{self, Processes};
use super::runtime::{Runtime, RuntimeError, Worker};
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How often the current worker is done anew because a reload of somebody else's replaced it meanwhile. Two reloads
/// within a switch of a millisecond are not expected; a third is left to the next round of the caller.
const CHASES_MAX: u32 = 3;

/// How many old workers are told at once. HAProxy keeps five in our configuration (`mworker-max-reloads`), and its master
/// serves ten connections at once: two are left for whoever else asks.
const OLD_AT_ONCE: usize = 8;

/// How long all old workers together have. One that runs answers in a millisecond; a longer wait is for one that hangs.
const OLD_DEADLINE: Duration = Duration::from_secs(1);

/// Where services go: key of the map (the service) to backend.
pub type Routes = BTreeMap<Ident, Ident>;

/// What a switch did.
#[derive(Debug)]
pub struct Switched {
    /// The current worker.
    pub pid: u32,
    /// How many entries had to change there.
    pub changed: usize,
    /// The old workers.
    pub old_workers: OldWorkers,
}

/// What came of the old workers.
#[derive(Debug)]
pub enum OldWorkers {
    /// Each by process id, with how many entries had to change. One that ended meanwhile is not listed.
    Told(BTreeMap<u32, Result<usize, SwitchError>>),
    /// There is no master socket to reach them.
    Unreachable,
    /// The master did not say which there are.
    Unknown(RuntimeError),
}

/// Why a worker does not route as it was told.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// It could not be asked, or it refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The target does not exist there. Nothing was changed.
    #[error(
        "HAProxy has no backend {backend} for {key}: its configuration is not the one that this route needs"
    )]
    NoSuchBackend {
        /// The service.
        key: Ident,
        /// The backend.
        backend: Ident,
    },
    /// The map does not exist there. Nothing was changed.
    #[error("HAProxy does not use the map {0}: its configuration is not the one that routes by it")]
    NoSuchMap(MapPath),
    /// What was read back is not what was written.
    #[error("HAProxy routes {key} to {found:?} although it was told {wanted}: somebody else writes this map")]
    NotInForce {
        /// The service.
        key: Ident,
        /// What was written.
        wanted: Ident,
        /// What was read.
        found: Option<String>,
    },
    /// An old worker hangs.
    #[error("the old worker did not answer within {OLD_DEADLINE:?}")]
    Silent,
    /// Reloads followed each other faster than the switch.
    #[error("HAProxy was reloaded {CHASES_MAX} times while its routes were being set")]
    Reloading,
}

impl SwitchError {
    /// True if the connection broke or the reply is not whole, although HAProxy is there.
    pub(super) fn is_cut_off(&self) -> bool {
        matches!(self, SwitchError::Runtime(RuntimeError::Client(error)) if error.is_cut_off())
    }
}

impl From<reply::ReplyError> for SwitchError {
    fn from(error: reply::ReplyError) -> SwitchError {
        SwitchError::Runtime(error.into())
    }
}

/// Makes `routes` true in the map, on the current worker and on all old ones. Entries that are not in `routes` stay.
///
/// An error means that the *current* worker is not known to route so; what came of old workers is in the report.
pub async fn set_routes(runtime: &Runtime, map: &MapPath, routes: &Routes) -> Result<Switched, SwitchError> {
    for _ in 0..CHASES_MAX {
        let (pid, changed) = set_current(runtime, map, routes).await?;
        if let Some(old_workers) = set_old(runtime, map, routes, pid).await {
            return Ok(Switched { pid, changed, old_workers });
        }
    }
    Err(SwitchError::Reloading)
}

/// Makes `routes` true on the worker that takes new connections. Gives its process id and how many entries changed.
pub(super) async fn set_current(
    runtime: &Runtime,
    map: &MapPath,
    routes: &Routes,
) -> Result<(u32, usize), SwitchError> {
    set_on(runtime, Worker::Current, map, routes).await
}

/// Makes `routes` true on the old workers, within [`OLD_DEADLINE`] after the master has named them. None if `current`,
/// which was told before, is not the current worker any more: its successor began with the map file, which may still have
/// the old route, and has to be told too.
pub(super) async fn set_old(
    runtime: &Runtime,
    map: &MapPath,
    routes: &Routes,
    current: u32,
) -> Option<OldWorkers> {
    if runtime.master().is_none() {
        return Some(OldWorkers::Unreachable);
    }
    let processes = match runtime.processes().await {
        Ok(processes) => processes,
        Err(error) => return Some(OldWorkers::Unknown(error)),
    };
    // The worker that was told is listed as current or as old.
    if replaced(current, &processes) {
        return None;
    }
    let ends = Instant::now() + OLD_DEADLINE;
    let each = processes.old_workers.into_iter().map(|old| async move {
        let set = set_on_old(runtime, old.pid, map, routes);
        (old.pid, timeout_at(ends, set).await.unwrap_or(Err(SwitchError::Silent)))
    });
    let told = stream::iter(each).buffer_unordered(OLD_AT_ONCE);
    let still_there = |(pid, result): (u32, Result<usize, SwitchError>)| async move {
        match result {
            Err(SwitchError::Runtime(error)) if error.process_is_gone() => None,
            result => Some((pid, result)),
        }
    };
    Some(OldWorkers::Told(told.filter_map(still_there).collect().await))
}

/// All at once; or each by itself if its older configuration lacks a pool, so that this does not hold the others.
async fn set_on_old(
    runtime: &Runtime,
    pid: u32,
    map: &MapPath,
    routes: &Routes,
) -> Result<usize, SwitchError> {
    let worker = Worker::Old(pid);
    match set_on(runtime, worker, map, routes).await {
        Err(error @ SwitchError::NoSuchBackend { .. }) if routes.len() > 1 => {
            for (key, backend) in routes {
                let one = Routes::from([(key.clone(), backend.clone())]);
                match set_on(runtime, worker, map, &one).await {
                    Ok(_) | Err(SwitchError::NoSuchBackend { .. }) => {}
                    Err(other) => return Err(other),
                }
            }
            Err(error)
        }
        result => result.map(|(_, changed)| changed),
    }
}

/// True if the master knows a current worker, and it is not `pid`. In a container the worker's own process id and the
/// master's view of it are of the same namespace, so the numbers can be compared.
fn replaced(pid: u32, processes: &Processes) -> bool {
    !processes.workers.is_empty() && processes.workers.iter().all(|worker| worker.pid != pid)
}

async fn set_on(
    runtime: &Runtime,
    worker: Worker,
    map: &MapPath,
    routes: &Routes,
) -> Result<(u32, usize), SwitchError> {
    let read = read_command(map, routes);
    let look = [Command::show_info(), Command::show_backend(), read];
    let [info, backends, entries] = three(runtime.ask_all(worker, &look).await?);
    let pid = reply::info(&info)?.pid;
    let backends = reply::backends(&backends)?;
    let now = read_entries(map, routes, &entries)?;
    if let Some((key, backend)) = routes.iter().find(|(_, backend)| !backends.contains(backend.as_str())) {
        return Err(SwitchError::NoSuchBackend { key: key.clone(), backend: backend.clone() });
    }
    let changes: Routes = routes
        .iter()
        .filter(|(key, backend)| now.get(key.as_str()).map(String::as_str) != Some(backend.as_str()))
        .map(|(key, backend)| (key.clone(), backend.clone()))
        .collect();
    if changes.is_empty() {
        return Ok((pid, 0));
    }
    let after = match merged(&now, &changes) {
        Some(whole) if changes.len() > 1 => commit(runtime, worker, map, routes, &whole).await?,
        _ => write_each(runtime, worker, map, routes, &now, &changes).await?,
    };
    for (key, wanted) in routes {
        let found = after.get(key.as_str());
        if found.map(String::as_str) != Some(wanted.as_str()) {
            let (key, wanted, found) = (key.clone(), wanted.clone(), found.cloned());
            return Err(SwitchError::NotInForce { key, wanted, found });
        }
    }
    Ok((pid, changes.len()))
}

/// Entry by entry, in one line with the read-back: for one entry, and for a map with entries that we could not write.
async fn write_each(
    runtime: &Runtime,
    worker: Worker,
    map: &MapPath,
    routes: &Routes,
    now: &BTreeMap<String, String>,
    changes: &Routes,
) -> Result<BTreeMap<String, String>, SwitchError> {
    let mut commands: Vec<Command> = changes
        .iter()
        .map(|(key, backend)| match now.contains_key(key.as_str()) {
            true => Command::set_map(map, key, backend),
            false => Command::add_map(map, key, backend),
        })
        .collect();
    commands.push(read_command(map, routes));
    let mut replies = runtime.ask_all(worker, &commands).await?;
    let entries = replies.pop().unwrap_or_default();
    for (command, text) in commands.iter().zip(&replies) {
        reply::done(command.name(), text)?;
    }
    read_entries(map, routes, &entries)
}

/// All at once. A version that is not committed is thrown away, so that none pile up in HAProxy.
async fn commit(
    runtime: &Runtime,
    worker: Worker,
    map: &MapPath,
    routes: &Routes,
    whole: &Routes,
) -> Result<BTreeMap<String, String>, SwitchError> {
    let version = reply::prepared(&runtime.ask(worker, &Command::prepare_map(map)).await?)?;
    let filled = fill(runtime, worker, map, version, whole).await;
    if let Err(error) = filled {
        // The error that counts is the first one; HAProxy also drops the version at the next commit.
        let _ = runtime.order(worker, &Command::clear_map_version(map, version)).await;
        return Err(error);
    }
    let commands = [Command::commit_map(map, version), read_command(map, routes)];
    let mut replies = runtime.ask_all(worker, &commands).await?;
    let entries = replies.pop().unwrap_or_default();
    reply::done("commit map", &replies.pop().unwrap_or_default())?;
    read_entries(map, routes, &entries)
}

async fn fill(
    runtime: &Runtime,
    worker: Worker,
    map: &MapPath,
    version: u32,
    whole: &Routes,
) -> Result<(), SwitchError> {
    let adds: Vec<Command> =
        whole.iter().map(|(key, backend)| Command::add_map_version(map, version, key, backend)).collect();
    for text in runtime.ask_all(worker, &adds).await? {
        reply::done("add map", &text)?;
    }
    Ok(())
}

/// The whole map as it shall be, if every entry that is there can be written again. A commit replaces them all.
fn merged(now: &BTreeMap<String, String>, changes: &Routes) -> Option<Routes> {
    let mut whole = Routes::new();
    for (key, value) in now {
        whole.insert(key.parse().ok()?, value.parse().ok()?);
    }
    whole.extend(changes.iter().map(|(key, backend)| (key.clone(), backend.clone())));
    Some(whole)
}

/// For one service, its entry; for several, the whole map: cheaper than a question for each.
fn read_command(map: &MapPath, routes: &Routes) -> Command {
    match single(routes) {
        Some(key) => Command::get_map(map, key),
        None => Command::show_map(map),
    }
}

fn read_entries(map: &MapPath, routes: &Routes, text: &str) -> Result<BTreeMap<String, String>, SwitchError> {
    let read = match single(routes) {
        Some(key) => reply::map_value(text)
            .map(|value| value.map(|value| (key.as_str().to_owned(), value)).into_iter().collect()),
        None => reply::map_entries(text),
    };
    read.map_err(|error| match reply::is_unknown_map(&error) {
        true => SwitchError::NoSuchMap(map.clone()),
        false => error.into(),
    })
}

fn single(routes: &Routes) -> Option<&Ident> {
    routes.keys().next().filter(|_| routes.len() == 1)
}

/// The client gives as many replies as there were commands.
fn three(replies: Vec<String>) -> [String; 3] {
    let mut replies = replies.into_iter();
    std::array::from_fn(|_| replies.next().unwrap_or_default())
}

/// The map file that holds `routes`: what a HAProxy that starts anew reads.
pub fn map_file(routes: &Routes) -> String {
    routes.iter().map(|(key, backend)| format!("{key} {backend}\n")).collect()
}
