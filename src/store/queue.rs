//! What the loop and the two threads of the store share: the queue, and the verdict about the disk.
//!
//! One mutex, held for moments and never across I/O. Every number that the verdict rests on is in [`Queue`], so that
//! "degraded" means the same whoever asks.

use super::job::{Job, Snapshot};
use super::outbox::{NotStored, Request};
use super::verdict::{Found, Verdict, is_late};
use super::{Full, Limits, Options, Record, Retention};
use crate::domain::event::StoreHealth;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How many snapshots may wait: one that the store asked for, and one for the hour or a new policy. Each holds a copy of
/// the state.
const QUEUED_SNAPSHOTS: usize = 2;

/// How much one transaction takes at most, in records ([`Job::weight`]). Far beyond it the sync's price per record is
/// nothing, and a step of the writer stays short.
const COMMIT_RECORDS: usize = 1024;

/// The store for metrics and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether decisions reach the disk in time.
    pub health: StoreHealth,
    /// Why not, if not.
    pub trouble: Option<String>,
    /// The last record that is committed.
    pub committed: u64,
    /// Records that wait for the disk.
    pub queued: usize,
    /// Records that were never stored, since the start.
    pub dropped: u64,
    /// Transactions, since the start.
    pub commits: u64,
    /// How long the last commit took.
    pub last_commit: Duration,
}

/// What the writer finds in the queue.
pub(super) enum Taken {
    /// Things to store, in order.
    Jobs(Vec<Job>),
    /// Nothing came within the time.
    Nothing,
    /// The store is closed, and all is stored.
    Closed,
}

#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    /// There is something for the writer.
    work: Condvar,
    /// There may be something for the watch, or for who waits for the end.
    moved: Condvar,
    pub(super) limits: Limits,
    /// From here on moments are counted.
    began: Instant,
    pub(super) health: watch::Sender<StoreHealth>,
    pub(super) committed: watch::Sender<u64>,
    pub(super) wants_snapshot: watch::Sender<bool>,
}

#[derive(Debug)]
struct Queue {
    /// Each with its moment.
    jobs: VecDeque<(Duration, Job)>,
    /// How many records are in `jobs`.
    records: usize,
    /// How many requests of the outbox are in `jobs`.
    requests: usize,
    /// When the oldest of what the writer has in hand was submitted.
    in_hand: Option<Duration>,
    /// The highest number that was dropped. Invariant: the journal has a hole as long as it is above `committed`.
    dropped_last: u64,
    committed: u64,
    /// What fails, in words, while it fails.
    failing: Option<String>,
    verdict: Verdict,
    /// What was wrong then: the reason that a gap is recorded with.
    last_trouble: String,
    retention: Retention,
    closed: bool,
    ended: bool,
    dropped: u64,
    commits: u64,
    last_commit: Duration,
}

impl Shared {
    pub(super) fn new(options: &Options) -> Shared {
        let queue = Queue {
            jobs: VecDeque::new(),
            records: 0,
            requests: 0,
            in_hand: None,
            dropped_last: 0,
            committed: 0,
            failing: None,
            verdict: Verdict::default(),
            last_trouble: "records came faster than the disk took them".to_owned(),
            retention: options.retention,
            closed: false,
            ended: false,
            dropped: 0,
            commits: 0,
            last_commit: Duration::ZERO,
        };
        Shared {
            queue: Mutex::new(queue),
            work: Condvar::new(),
            moved: Condvar::new(),
            limits: options.limits,
            began: Instant::now(),
            health: watch::Sender::new(StoreHealth::Durable),
            committed: watch::Sender::new(0),
            wants_snapshot: watch::Sender::new(true),
        }
    }

    // The loop's side.

    pub(super) fn submit(&self, batch: Vec<Record>) -> Result<(), Full> {
        let Some(last) = batch.last().map(|record| record.seq) else { return Ok(()) };
        let mut queue = self.lock();
        // A batch that is larger than the whole queue must have its chance too: alone.
        let full = queue.records > 0 && queue.records + batch.len() > self.limits.queued_records;
        if queue.closed || full {
            queue.drop_records(batch.len(), last);
            self.judge(&mut queue);
            return Err(Full);
        }
        queue.records += batch.len();
        self.push(queue, Job::Records(batch));
        Ok(())
    }

    pub(super) fn snapshot(&self, snapshot: Snapshot) -> Result<(), Full> {
        let queue = self.lock();
        if queue.closed || queue.snapshots() >= QUEUED_SNAPSHOTS {
            return Err(Full);
        }
        self.wants_snapshot.send_if_modified(|wants| std::mem::replace(wants, false));
        self.push(queue, Job::Snapshot(snapshot));
        Ok(())
    }

    /// Takes a request of the outbox, which has a bound of its own: it never costs a record its room.
    pub(super) fn request(&self, request: Request) -> Result<(), NotStored> {
        let mut queue = self.lock();
        if queue.closed || queue.ended {
            return Err(NotStored::Closed);
        }
        if queue.requests >= self.limits.queued_requests {
            let why = queue.trouble(&self.limits, self.now());
            return Err(NotStored::Full { why: why.unwrap_or_else(|| "it does not keep up".to_owned()) });
        }
        queue.requests += 1;
        self.push(queue, Job::Outbox(request));
        Ok(())
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, job: Job) {
        let idle = queue.oldest().is_none();
        queue.jobs.push_back((self.now(), job));
        drop(queue);
        self.work.notify_one();
        if idle {
            // Only now the watch has something to be in time for.
            self.moved.notify_all();
        }
    }

    pub(super) fn status(&self) -> Status {
        let queue = self.lock();
        Status {
            health: *self.health.borrow(),
            trouble: queue.trouble(&self.limits, self.now()),
            committed: queue.committed,
            queued: queue.records,
            dropped: queue.dropped,
            commits: queue.commits,
            last_commit: queue.last_commit,
        }
    }

    pub(super) fn set_retention(&self, retention: Retention) {
        self.lock().retention = retention;
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
        self.moved.notify_all();
    }

    /// Waits for the writer's end. False when that did not come within `deadline`, or something was not stored.
    pub(super) fn wait_until_ended(&self, deadline: Duration) -> bool {
        let queue = self.lock();
        let waited = self.moved.wait_timeout_while(queue, deadline, |queue| !queue.ended);
        let queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        queue.ended && queue.oldest().is_none() && !queue.has_hole()
    }

    // The writer's side.

    /// Takes what is queued, as much as goes into one transaction; waits for it for at most `patience`.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let queue = self.lock();
        let waited =
            self.work.wait_timeout_while(queue, patience, |queue| queue.jobs.is_empty() && !queue.closed);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        let Some((oldest, _)) = queue.jobs.front() else {
            return if queue.closed { Taken::Closed } else { Taken::Nothing };
        };
        queue.in_hand = Some(*oldest);
        let mut jobs = Vec::new();
        let mut weight = 0;
        while let Some((_, job)) = queue.jobs.front() {
            // A single batch may be larger; it is still one transaction.
            if !jobs.is_empty() && weight + job.weight() > COMMIT_RECORDS {
                break;
            }
            weight += job.weight();
            let (records, requests) = (job.records(), job.requests());
            queue.records -= records;
            queue.requests -= requests;
            jobs.extend(queue.jobs.pop_front().map(|(_, job)| job));
        }
        Taken::Jobs(jobs)
    }

    /// Waits for `pause`; false when the store was closed meanwhile.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let queue = self.lock();
        let waited = self.work.wait_timeout_while(queue, pause, |queue| !queue.closed);
        !waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    /// What the writer had in hand is done with: stored up to `committed`, the rest (`dropped`, up to the number)
    /// dropped because the journal would have had a hole.
    pub(super) fn done(&self, committed: u64, took: Duration, dropped: usize, dropped_last: u64) {
        let mut queue = self.lock();
        queue.in_hand = None;
        queue.failing = None;
        queue.committed = committed;
        queue.commits += 1;
        queue.last_commit = took;
        queue.drop_records(dropped, dropped_last);
        if queue.has_hole() && queue.snapshots() == 0 {
            self.ask_for_snapshot();
        }
        self.judge(&mut queue);
        drop(queue);
        self.committed.send_if_modified(|known| std::mem::replace(known, committed) != committed);
        self.moved.notify_all();
    }

    /// The disk fails; what the writer has in hand stays there.
    pub(super) fn failing(&self, why: String) {
        let mut queue = self.lock();
        queue.failing = Some(why);
        self.judge(&mut queue);
    }

    /// The database is open (again).
    pub(super) fn working(&self) {
        let mut queue = self.lock();
        queue.failing = None;
        self.judge(&mut queue);
        self.moved.notify_all();
    }

    pub(super) fn ask_for_snapshot(&self) {
        self.wants_snapshot.send_if_modified(|wants| !std::mem::replace(wants, true));
    }

    pub(super) fn set_committed(&self, seq: u64) {
        self.lock().committed = seq;
        self.committed.send_replace(seq);
    }

    pub(super) fn last_trouble(&self) -> String {
        self.lock().last_trouble.clone()
    }

    pub(super) fn retention(&self) -> Retention {
        self.lock().retention
    }

    /// The writer has ended: as it was told, or by a bug of ours.
    pub(super) fn ended(&self) {
        let mut queue = self.lock();
        queue.ended = true;
        for (_, job) in &mut queue.jobs {
            job.refuse();
        }
        if !queue.closed {
            queue.failing = Some("the store's writer has ended unexpectedly; restart supervisor".to_owned());
            self.judge(&mut queue);
        }
        drop(queue);
        self.moved.notify_all();
    }

    // The watch's side.

    /// Says in time that the disk does not answer, and that it does again. Ends with the writer. Does all the logging
    /// about it: a log can hang too, and then only this thread does.
    pub(super) fn watch(&self) {
        let mut told = StoreHealth::Durable;
        let mut queue = self.lock();
        while !queue.ended {
            let wake = self.judge(&mut queue);
            let health = *self.health.borrow();
            if health != told {
                let why = queue.trouble(&self.limits, self.now());
                drop(queue);
                told = health;
                match health {
                    StoreHealth::Degraded => {
                        tracing::warn!(from = "durable", to = "degraded", why, "store");
                    }
                    StoreHealth::Durable => tracing::info!(from = "degraded", to = "durable", "store"),
                }
                queue = self.lock();
                continue;
            }
            queue = match wake {
                Some(after) => {
                    self.moved.wait_timeout(queue, after).unwrap_or_else(PoisonError::into_inner).0
                }
                // All is well and nothing waits; whoever changes that wakes us.
                None => self.moved.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Publishes the verdict; answers when time alone may change it.
    fn judge(&self, queue: &mut Queue) -> Option<Duration> {
        let now = self.now();
        let cause = queue.cause(&self.limits, now);
        let bad = cause.is_some() || queue.has_hole();
        // A gap is put down to the disk's last failure, if there ever was one.
        if let Some(cause) = cause {
            queue.last_trouble = cause;
        }
        let found = Found { oldest: queue.oldest(), bad };
        let (health, again) = queue.verdict.judge(found, &self.limits, now);
        if self.health.send_if_modified(|known| std::mem::replace(known, health) != health) {
            self.moved.notify_all();
        }
        again
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A thread that panicked while it held the lock left plain numbers behind: they are still the best we have.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn oldest(&self) -> Option<Duration> {
        self.in_hand.or_else(|| self.jobs.front().map(|(at, _)| *at))
    }

    fn snapshots(&self) -> usize {
        self.jobs.iter().filter(|(_, job)| matches!(job, Job::Snapshot(_))).count()
    }

    fn has_hole(&self) -> bool {
        self.dropped_last > self.committed
    }

    fn drop_records(&mut self, count: usize, last: u64) {
        self.dropped += count as u64;
        self.dropped_last = self.dropped_last.max(last);
    }

    /// Why decisions do not reach the disk in time, if so.
    fn trouble(&self, limits: &Limits, now: Duration) -> Option<String> {
        self.cause(limits, now)
            .or_else(|| self.has_hole().then(|| "records are not stored; a snapshot is to follow".to_owned()))
    }

    /// What is wrong with the disk at this moment.
    fn cause(&self, limits: &Limits, now: Duration) -> Option<String> {
        if let Some(why) = &self.failing {
            return Some(why.clone());
        }
        is_late(self.oldest(), limits, now)
            .then(|| format!("a commit takes longer than {} ms", limits.commit_deadline.as_millis()))
    }
}
