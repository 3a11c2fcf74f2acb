//! The master: which processes there are, and what it says to a reload.

use super::{ReplyError, excerpt, malformed, number};

/// One row of `show proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// How many reloads it has seen.
    pub reloads: u32,
}

/// `show proc` of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    /// The master.
    pub master: Process,
    /// Reloads that failed since the last good one; from 3.1 on, 1 if the last one failed. 0 while one goes on, where the
    /// master answers then.
    pub failed: u32,
    /// The worker that serves new connections, none or two in the moment of a reload. From 3.1 on, while a reload goes on, the
    /// one that is being loaded.
    pub workers: Vec<Process>,
    /// The workers that only finish what they have.
    pub old_workers: Vec<Process>,
}

/// `show proc` of the master.
pub fn processes(reply: &str) -> Result<Processes, ReplyError> {
    #[derive(Clone, Copy)]
    enum Section {
        Workers,
        OldWorkers,
        Other,
    }
    let command = "show proc";
    let mut section = Section::Other;
    let mut master = None;
    let (mut workers, mut old_workers) = (Vec::new(), Vec::new());
    for line in reply.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = match title.trim() {
                "workers" => Section::Workers,
                "old workers" => Section::OldWorkers,
                _ => Section::Other,
            };
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(pid), Some(kind)) = (words.next(), words.next()) else { continue };
        let reloads = words.next().and_then(number);
        let (Some(pid), Some(reloads)) = (number(pid), reloads) else {
            return Err(malformed(command, "a row without numbers", reply));
        };
        let process = Process { pid, reloads };
        match (kind, section) {
            ("master", _) => {
                // `2 [failed: 1]`; the bracket came with 2.5.
                let failed = line.split_once("[failed:").and_then(|(_, rest)| rest.split_once(']'));
                master = Some((process, failed.and_then(|(n, _)| number(n.trim())).unwrap_or(0)));
            }
            ("worker", Section::Workers) => workers.push(process),
            ("worker", Section::OldWorkers) => old_workers.push(process),
            _ => {}
        }
    }
    let (master, failed) = master.ok_or_else(|| malformed(command, "no master", reply))?;
    if failed > 0 && workers.is_empty() {
        workers.extend(take_last_good(&mut old_workers));
    }
    Ok(Processes { master, failed, workers, old_workers })
}

/// From 3.1 on, the worker that goes on after a failed reload stays listed among the old ones. It is the one that has seen the
/// fewest reloads: each good one began another worker.
fn take_last_good(old_workers: &mut Vec<Process>) -> Option<Process> {
    let (index, _) = old_workers.iter().enumerate().min_by_key(|(_, worker)| worker.reloads)?;
    Some(old_workers.remove(index))
}

/// What the master says to `reload`. Only a hint: the decision is made from `show proc` and `show info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadReply {
    /// Nothing: up to 2.6 always, later when the connection is lost on the way.
    Silent,
    /// `Success=1`.
    Loaded,
    /// `Success=0`, with HAProxy's log where it gives one.
    Failed(String),
    /// `Another reload is still in progress`: this one was not begun.
    Busy,
    /// Anything else.
    Other(String),
}

/// What the master says to `reload`.
pub fn reload(reply: &str) -> ReloadReply {
    if reply.contains("Another reload is still in progress") {
        return ReloadReply::Busy;
    }
    let (first, rest) = reply.split_once('\n').unwrap_or((reply, ""));
    match first.trim() {
        "" if rest.trim().is_empty() => ReloadReply::Silent,
        "Success=1" => ReloadReply::Loaded,
        "Success=0" => {
            let log = rest.trim_start().strip_prefix("--").unwrap_or(rest);
            ReloadReply::Failed(log.trim().to_owned())
        }
        _ => ReloadReply::Other(excerpt(reply)),
    }
}
