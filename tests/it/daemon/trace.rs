//! The daemon under strace: which calls it makes by which it keeps or sends something, and its end at one of them.
//!
//! strace kills at the *entry* of the n-th call of a kind, so that the call has no effect; the n-1 before it had theirs. It
//! counts for each thread by itself. The store's writer is one thread, and its n-th call is the same in most runs; others
//! share their calls, so that where a run was killed is read from its trace afterwards. (With `--seccomp-bpf`, strace 6.1
//! injects errors but no signals, hence it is not used here.)

use super::world::{Daemon, World};
use crate::haproxy::lab::until_within;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// The calls that write, sync, rename or send.
const CALLS: &str = "write,pwrite64,writev,pwritev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2,ftruncate,\
                     unlink,unlinkat";

/// How long strace takes to write down that the process has ended.
const LONGEST: Duration = Duration::from_secs(10);

/// Where a process is killed: at the `nth` call of this name in the first thread that gets there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) call: String,
    pub(super) nth: usize,
}

/// One call of a trace.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) point: Point,
    pub(super) arguments: String,
}

/// The daemon under strace, killed at `point` if there is one.
pub(super) fn traced(world: &World, trace: &Path, point: Option<&Point>) -> Daemon {
    let (out, calls) = (trace.display().to_string(), format!("trace={CALLS}"));
    let mut wrapper = vec!["strace", "-D", "-f", "-qq", "-y", "-s", "40", "-o", &out, "-e", &calls];
    let inject = point.map(|point| format!("inject={}:signal=KILL:when={}", point.call, point.nth));
    if let Some(inject) = &inject {
        wrapper.extend(["-e", inject]);
    }
    world.run_under(&wrapper)
}

/// The trace, once strace has written all of it.
pub(super) async fn ended(trace: &Path) -> Vec<String> {
    let read = || std::fs::read_to_string(trace).unwrap_or_default();
    until_within(LONGEST, "strace has written that the process ended", async || {
        read().lines().any(|line| line.contains("+++ killed by SIGKILL +++"))
    })
    .await;
    read().lines().map(str::to_owned).collect()
}

/// Every call of a trace, each with its number among those of its name in its thread.
pub(super) fn calls(trace: &[String]) -> Vec<Call> {
    let mut counted: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut calls = Vec::new();
    for line in trace {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
        // The second half of a call, a signal, an end.
        if call.is_empty() || !call.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) {
            continue;
        }
        let nth = counted.entry((thread.to_owned(), call.to_owned())).or_default();
        *nth += 1;
        let point = Point { call: call.to_owned(), nth: *nth };
        calls.push(Call { point, arguments: arguments.to_owned() });
    }
    calls
}

/// The call that a kill cut off: its answer is unknown.
pub(super) fn cut_off(trace: &[String]) -> Option<String> {
    let (thread, mut call) =
        trace.iter().rev().find(|line| line.trim_end().ends_with("= ?"))?.split_once(' ')?;
    if call.contains("resumed>") {
        let begun = trace.iter().rev().filter(|line| line.ends_with("<unfinished ...>"));
        call = begun.filter_map(|line| line.split_once(' ')).find(|(other, _)| *other == thread)?.1;
    }
    Some(call.trim_start().chars().take(90).collect())
}

/// The points of a sweep: every call, or those from the decision of the mail to the record of its fate.
pub(super) fn points(calls: &[Call], all: bool) -> Vec<Point> {
    let is_sync = |call: &Call| matches!(call.point.call.as_str(), "fsync" | "fdatasync");
    let says = |words: &str| calls.iter().position(|call| call.arguments.contains(words));
    let hello = says("EHLO").expect("somebody said EHLO");
    // The two transactions before the dialogue, the decision and the bytes, each end with a sync.
    let syncs: Vec<usize> = (0..hello).filter(|at| is_sync(&calls[*at])).collect();
    let first = syncs.iter().rev().nth(2).map_or(0, |sync| sync + 1);
    assert!(calls[hello..].iter().any(is_sync), "the fate was not synced: {calls:?}");
    let window = if all { calls } else { &calls[first..] };
    // A wake-up of another thread writes nothing; in the sample they are left out.
    let counts = |call: &&Call| all || !call.arguments.contains("anon_inode:[eventfd]");
    let found: BTreeSet<Point> = window.iter().filter(counts).map(|call| call.point.clone()).collect();
    found.into_iter().collect()
}

/// At most `most` of them, evenly.
pub(super) fn thinned(points: Vec<Point>, most: usize) -> Vec<Point> {
    let (count, step) = (points.len(), points.len().div_ceil(most).max(1));
    if step == 1 {
        return points;
    }
    let taken = (0..most).map(|i| points[i * count / most].clone());
    taken.collect()
}
