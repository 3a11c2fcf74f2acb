//! What survives a crash: the state and the journal of how it came about, in one embedded database (SQLite, WAL).
//!
//! ```text
//!   the loop ── submit(records) ──► queue ──► store-writer ──► supervisor.db ◄── Reader (any process)
//!            ── snapshot(state) ──►   │ ▲          │
//!            ◄─ health, committed, ◄──┴─│──────────┘
//!               wants_snapshot          │ store-watch: says "degraded" while the writer hangs in the kernel
//!   the sender ─ Outbox: stage, record ─┘
//! ```
//!
//! Two threads belong to it. `store-writer` owns the database and the lock of the state directory; it commits what is
//! queued in order, opens the database again with backoff when it fails, and drops old segments. `store-watch` only looks
//! at how old the oldest uncommitted record is.
//!
//! # What never happens here
//!
//! - The loop never waits for the disk: [`Store::submit`] takes a lock that is never held across I/O, and nothing else.
//! - The journal never has a hole that replay could fall into. When records had to be dropped, the next thing stored is
//!   a snapshot, and the gap is on record. Each process therefore begins with a snapshot: [`Store::wants_snapshot`] is
//!   true from the start.
//! - The store reads no clock that means anything: moments come with the records.

mod archive;
mod history;
mod job;
mod journal;
mod load;
mod lock;
mod outbox;
mod owner;
mod queue;
mod reader;
mod retention;
mod schema;
mod verdict;
mod writer;

#[cfg(test)]
mod tests;

pub use archive::{Archive, ArchiveError, Exporter, FORMAT, LINE_MAX, Why};
pub use history::{History, Item, StoredRecord, StoredSnapshot};
pub use load::{Damage, Reading, Stored};
pub use lock::{Lock, LockError};
pub use outbox::{
    MailKey, MailState, NotStored, Outbox, OutboxRow, Outcome, REQUEST_BYTES_MAX, RecipientOutcome,
    RecipientRow, RecipientState, Staged, Staging,
};
pub use owner::owner_in;
pub use queue::Status;
pub use reader::{Gap, PAGE_MAILS, PAGE_RECORDS, Page, ReadError, Reader, SnapshotInfo};
pub use retention::Retention;
pub use schema::{FILE, OpenError};
pub use verdict::{Backoff, Found, Verdict};

use crate::chain::chain;
use crate::domain::event::StoreHealth;
use crate::domain::{Decision, Event, Now, State};
use job::Snapshot;
use queue::Shared;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::watch;

/// How long [`Store::open`] waits for the disk. A sound one answers in milliseconds; the largest journal that is ever
/// replayed takes about a second; systemd's own patience with a start is 90 s.
const OPEN_DEADLINE: Duration = Duration::from_secs(10);

/// One event and what followed from it. An event from which nothing follows is counted by the loop, and is no record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number: one more than that of the record before, from [`Loaded::next_seq`] on.
    pub seq: u64,
    /// When it was decided.
    pub now: Now,
    /// What happened.
    pub event: Event,
    /// What followed.
    pub decision: Decision,
}

/// How the store behaves. The defaults are the product's; tests make time shorter and disks worse.
#[derive(Default)]
pub struct Options {
    /// How much history is kept.
    pub retention: Retention,
    /// The bounds.
    pub limits: Limits,
    /// Called by the writer around each commit. None outside tests.
    pub fault: Option<Fault>,
}

/// Faults where the disk would make them: an error counts as the disk's, a call that does not return is a hung disk.
pub type Fault = Box<dyn FnMut(CommitStep) -> io::Result<()> + Send>;

/// Where a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitStep {
    /// The rows are written, and not committed.
    Before,
    /// They are committed, and nobody has been told.
    After,
}

/// The store's bounds.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many records may wait for the disk. A record is about 1 KB: 8 MB. At the 500 changes per second that 10,000
    /// servers make when a site dies, it is 16 s of a hung disk without a gap in the journal.
    pub queued_records: usize,
    /// How old the oldest uncommitted record may be before the store counts as degraded. A sound disk syncs in 1 to
    /// 50 ms; a person who waits for an answer notices half a second.
    pub commit_deadline: Duration,
    /// How long all must be well before the store counts as durable again, so that a disk which is slow every other second does
    /// not make an alert every other second.
    pub recovery_after: Duration,
    /// The first wait before a failed database is opened again; doubled each time.
    pub retry_first: Duration,
    /// The longest wait before a failed database is opened again: a person who made room on the disk should see it work
    /// before they start to doubt.
    pub retry_longest: Duration,
    /// How often the writer looks whether its file is still the one at its path: a person who deletes the state directory
    /// under a running daemon loses a minute of history.
    pub look_every: Duration,
    /// How many requests of the outbox may wait for the disk: those of the ten mails that the core decides in ten minutes,
    /// each with its bytes and a few attempts. Above it the sender is told at once, and records still have their room.
    pub queued_requests: usize,
    /// How long a request of the outbox waits for its commit: four times what counts as degraded, and long enough for a
    /// commit that failed to be repeated on a database that was opened again. What a mail tells is a minute old by then, and
    /// two seconds more are cheaper than a mail that comes twice.
    pub mail_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            queued_records: 8192,
            commit_deadline: Duration::from_millis(500),
            recovery_after: Duration::from_secs(2),
            retry_first: Duration::from_millis(250),
            retry_longest: Duration::from_secs(30),
            look_every: Duration::from_secs(60),
            queued_requests: 64,
            mail_deadline: Duration::from_secs(2),
        }
    }
}

/// What was found on opening.
#[derive(Debug)]
pub struct Loaded {
    /// The state as it was last stored; none in a new store.
    pub stored: Option<Stored>,
    /// The number of the next record.
    pub next_seq: u64,
    /// The random id of this installation: OWNER of `supervisor=OWNER` in HAProxy's `description`.
    pub owner: String,
    /// Whether the owner's id is in the state directory. If not, it will be another one after the next start, and
    /// HAProxy's configuration will look like a stranger's.
    pub owner_kept: bool,
    /// What could not be read, and what was done about it. Worth a warning each.
    pub damage: Vec<Damage>,
}

/// The queue has no room: the disk does not keep up. What was submitted is not stored; the gap is closed by a snapshot
/// once the disk is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store does not keep up: its queue is full, and this is not stored")]
pub struct Full;

/// The loop's handle. Dropping it ends the writer after what is queued; [`Store::close`] also waits for that.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

impl Store {
    /// Opens the store in `dir`, or makes one; takes the directory's lock. Blocks, for 10 s at most.
    ///
    /// On every error but [`LockError::AlreadyRunning`] the daemon goes on with [`Store::in_memory`].
    pub fn open(dir: &Path, boot_id: &str, options: Options) -> Result<(Store, Loaded), OpenError> {
        let (found, finds) = mpsc::sync_channel(1);
        let store = Store { shared: Arc::new(Shared::new(&options)) };
        writer::start(dir, boot_id, options, &store.shared, writer::Begin::Open(found))
            .map_err(|source| OpenError::Thread { source })?;
        // A writer that answers too late finds nobody listening, gives the lock back and ends.
        match finds.recv_timeout(OPEN_DEADLINE) {
            Ok(Ok(loaded)) => Ok((store, loaded)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(OpenError::Slow { dir: dir.to_path_buf(), seconds: OPEN_DEADLINE.as_secs() }),
        }
    }

    /// Goes on without the disk, because of `why`; degraded until opening `dir` succeeds, which is tried again and again.
    pub fn in_memory(dir: &Path, boot_id: &str, options: Options, why: &OpenError) -> (Store, Loaded) {
        let shared = Arc::new(Shared::new(&options));
        shared.failing(chain(why));
        let (owner, owner_kept) = owner::find_or_derive(dir);
        let begin = writer::Begin::Retry { owner: owner.clone() };
        if let Err(error) = writer::start(dir, boot_id, options, &shared, begin) {
            shared.failing(format!("no thread for the store: {error}"));
        }
        (Store { shared }, Loaded { stored: None, next_seq: 1, owner, owner_kept, damage: Vec::new() })
    }

    /// Hands over records, in order, without gaps between batches; a batch is stored whole or not at all. Never waits.
    pub fn submit(&self, batch: Vec<Record>) -> Result<(), Full> {
        self.shared.submit(batch)
    }

    /// Hands over the state after the record `seq`. Due every hour, at a change of policy, and when
    /// [`Store::wants_snapshot`] turns true (at the start, before the first records). Never waits.
    pub fn snapshot(&self, state: Arc<State>, now: Now, seq: u64) -> Result<(), Full> {
        self.shared.snapshot(Snapshot { seq, now, state })
    }

    /// Whether decisions reach the disk in time.
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.shared.health.subscribe()
    }

    /// The number of the last record (or snapshot) that is committed. Orders of people, and what else must survive a
    /// power cut, are synced by then.
    pub fn committed(&self) -> watch::Receiver<u64> {
        self.shared.committed.subscribe()
    }

    /// Whether the store needs a snapshot before it can store anything else, or to begin a new segment.
    pub fn wants_snapshot(&self) -> watch::Receiver<bool> {
        self.shared.wants_snapshot.subscribe()
    }

    /// The sender's handle to the mails.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(Arc::clone(&self.shared))
    }

    /// For metrics and for people.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// New settings.
    pub fn set_retention(&self, retention: Retention) {
        self.shared.set_retention(retention);
    }

    /// Stores what is queued and ends. False when the disk did not let it within `deadline`.
    pub fn close(self, deadline: Duration) -> bool {
        self.shared.close();
        self.shared.wait_until_ended(deadline)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.shared.close();
    }
}
