//! A reload: sent once, and proved by the processes and by what the new worker says of itself.

use super::super::client::{Client, ClientError, Recipient};
use super::super::command::Command;
use super::super::reply::{self, Info, Processes, ReloadReply};
use super::super::runtime::{Runtime, RuntimeError};
use super::super::template::Rendered;
use super::Target;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long the master may refuse connections before a reload is given up unsent. It re-executes itself in 0.1 s to 2 s.
const MASTER_PATIENCE: Duration = Duration::from_secs(5);

/// The first and the longest pause between two looks at a reload. From the new worker's first request until we see it, its
/// routes may be those of an old map file; so the longest is short.
const LOOK_FIRST: Duration = Duration::from_millis(5);

const LOOK_LONGEST: Duration = Duration::from_millis(20);

/// The pause while the master does not take a reload, or is busy with another one.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// How often a reload that HAProxy did not begin, because of another one, is sent.
const BUSY_TRIES: u32 = 3;

/// What came of a reload.
pub(super) enum Reloaded {
    Loaded(u32),
    Failed(String),
    NotSent(ClientError),
    Unknown(String),
}

pub(super) async fn reload(
    target: &Target,
    before: &Processes,
    live: &Info,
    rendered: &Rendered,
) -> Reloaded {
    let ends = Instant::now() + target.deadline;
    let Some(master) = target.runtime.master() else {
        // `processes_patiently` has asked the master before.
        return Reloaded::Unknown("there is no master socket to reload over".to_owned());
    };
    let mut before = before.clone();
    for _ in 0..BUSY_TRIES {
        let hint = match send_reload(master, ends).await {
            Ok(hint) => hint,
            Err(error) if error.nothing_was_sent() => return Reloaded::NotSent(error),
            // It may have arrived: the processes will tell.
            Err(error) => ReloadReply::Other(error.to_string()),
        };
        if hint == ReloadReply::Busy {
            // Ours was not begun. Once the other one has ended, either it took our file along or ours is sent again.
            match settle_other(target, &before, rendered, ends).await {
                Ok(Some(pid)) => return Reloaded::Loaded(pid),
                Ok(None) => match processes_patiently(&target.runtime).await {
                    Ok(now) => before = now,
                    Err(error) => return Reloaded::Unknown(error.to_string()),
                },
                Err(message) => return Reloaded::Unknown(message),
            }
            continue;
        }
        return settle(target, &before, live, rendered, hint, ends).await;
    }
    Reloaded::Unknown(format!("HAProxy was busy with other reloads {BUSY_TRIES} times"))
}

/// Sends it once; connecting is repeated, because a master that re-executes itself refuses connections.
async fn send_reload(master: &Client, ends: Instant) -> Result<ReloadReply, ClientError> {
    let patience = ends.min(Instant::now() + MASTER_PATIENCE);
    loop {
        let client = master.clone().with_deadline(ends.saturating_duration_since(Instant::now()));
        match client.raw(Recipient::Owner, &Command::reload()).await {
            Ok(text) => return Ok(reply::reload(&text)),
            Err(error) if error.nothing_was_sent() && Instant::now() < patience => sleep(BUSY_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// Looks until the processes and the worker's description prove one or the other.
async fn settle(
    target: &Target,
    before: &Processes,
    live: &Info,
    rendered: &Rendered,
    hint: ReloadReply,
    ends: Instant,
) -> Reloaded {
    let mut pause = LOOK_FIRST;
    let mut seen;
    loop {
        seen = match target.runtime.processes().await {
            Ok(now) => match judge(before, &now) {
                Judged::Failed => return Reloaded::Failed(why(hint, target)),
                Judged::NotYet => "the reload has not begun, or has not ended".to_owned(),
                Judged::Loaded => match target.runtime.info().await {
                    Ok(info) if info.description.as_deref() == Some(&rendered.description) => {
                        return Reloaded::Loaded(info.pid);
                    }
                    Ok(info) if info.pid == live.pid => "the old worker still answers".to_owned(),
                    Ok(info) => format!(
                        "HAProxy reloaded, but its worker {} says {:?}: does it read {}?",
                        info.pid,
                        info.description.unwrap_or_default(),
                        target.config_file.display()
                    ),
                    Err(error) => error.to_string(),
                },
            },
            Err(error) => error.to_string(),
        };
        if Instant::now() + pause >= ends {
            break;
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_LONGEST);
    }
    Reloaded::Unknown(format!("no proof within {:?}: {seen}", target.deadline))
}

/// Waits for somebody else's reload. Gives the worker if that one runs our configuration.
async fn settle_other(
    target: &Target,
    before: &Processes,
    rendered: &Rendered,
    ends: Instant,
) -> Result<Option<u32>, String> {
    while Instant::now() < ends {
        sleep(BUSY_PAUSE).await;
        let Ok(now) = target.runtime.processes().await else { continue };
        if matches!(judge(before, &now), Judged::NotYet) {
            continue;
        }
        let Ok(info) = target.runtime.info().await else { continue };
        let ours = info.description.as_deref() == Some(&rendered.description);
        return Ok(ours.then_some(info.pid));
    }
    Err("another reload did not end in time".to_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    NotYet,
    /// A new worker serves; which configuration it has is another question.
    Loaded,
    /// The old worker was kept.
    Failed,
}

/// Compares the processes. After a good reload `failed` is 0 and the worker a new one; after a bad one it is not 0, and the worker
/// is the old one. Up to 3.0 `failed` counts, and the master does not answer while a reload goes on; from 3.1 on it is 1 after any
/// number of failures, and 0 while the next reload goes on.
fn judge(before: &Processes, now: &Processes) -> Judged {
    let known = |pid: u32| before.workers.iter().any(|worker| worker.pid == pid);
    let new_worker = now.workers.iter().any(|worker| !known(worker.pid));
    if now.master.pid != before.master.pid {
        // HAProxy was started anew: it has read the file that is there now.
        return if now.workers.is_empty() { Judged::NotYet } else { Judged::Loaded };
    }
    if now.master.reloads == before.master.reloads {
        return Judged::NotYet;
    }
    match (now.failed, new_worker) {
        (0, true) => Judged::Loaded,
        (1.., false) => Judged::Failed,
        (0, false) | (1.., true) => Judged::NotYet,
    }
}

fn why(hint: ReloadReply, target: &Target) -> String {
    match hint {
        ReloadReply::Failed(log) if !log.is_empty() => log,
        ReloadReply::Other(said) => said,
        ReloadReply::Silent | ReloadReply::Loaded | ReloadReply::Failed(_) | ReloadReply::Busy => format!(
            "HAProxy kept its old worker at the reload although `-c` accepts {}; this version gives no reason over its \
             socket, its log has it. Most likely an address of a `bind` line is taken",
            target.config_file.display()
        ),
    }
}

pub(super) async fn processes_patiently(runtime: &Runtime) -> Result<Processes, RuntimeError> {
    let patience = Instant::now() + MASTER_PATIENCE;
    loop {
        match runtime.processes().await {
            Ok(processes) => return Ok(processes),
            Err(error @ RuntimeError::NoMaster(_)) => return Err(error),
            Err(error) if Instant::now() >= patience => return Err(error),
            Err(_) => sleep(BUSY_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests;
