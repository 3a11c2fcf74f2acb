//! The writer thread: it alone writes the database, and it alone waits for the disk.
//!
//! Each round takes what is queued, and commits it in one transaction. When that fails, what it has in hand stays in
//! hand, the database is closed and opened again with backoff, and the queue fills up meanwhile; when it is full, records
//! are dropped, and [`Shared`] remembers up to which. The writer stores nothing behind a hole: it drops the rest, asks for
//! a snapshot, and goes on from there.

use super::job::{Job, Snapshot};
use super::lock::Lock;
use super::outbox::rows;
use super::queue::{Shared, Taken};
use super::schema::{self, OpenError};
use super::verdict::Backoff;
use super::{CommitStep, Fault, Limits, Loaded, Options, Record, chain, journal, load, owner, retention};
use rusqlite::Connection;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

/// How a writer begins.
pub(super) enum Begin {
    /// Opens now, and says what came of it; ends when it failed or when nobody listens any more.
    Open(SyncSender<Result<Loaded, OpenError>>),
    /// It has failed already: tries again later.
    Retry { owner: String },
}

/// Starts the writer and the watch.
pub(super) fn start(
    dir: &Path,
    boot_id: &str,
    options: Options,
    shared: &Arc<Shared>,
    begin: Begin,
) -> io::Result<()> {
    let writer = Writer {
        shared: Arc::clone(shared),
        dir: dir.to_path_buf(),
        boot_id: boot_id.to_owned(),
        owner: String::new(),
        limits: options.limits,
        fault: options.fault,
        lock: None,
        disk: None,
        written: None,
        tip: None,
        offset: 0,
        in_hand: Vec::new(),
        damaged: false,
        set_aside: None,
        segment_bytes: 0,
    };
    thread::Builder::new().name("store-writer".into()).spawn(move || {
        // However the writer ends, even by a bug: whoever waits for its end is told.
        let end = EndsWith(Arc::clone(&writer.shared));
        writer.run(begin);
        drop(end);
    })?;
    let watched = Arc::clone(shared);
    thread::Builder::new().name("store-watch".into()).spawn(move || watched.watch())?;
    Ok(())
}

struct EndsWith(Arc<Shared>);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.ended();
    }
}

struct Writer {
    shared: Arc<Shared>,
    dir: PathBuf,
    boot_id: String,
    owner: String,
    limits: Limits,
    fault: Option<Fault>,
    /// Held from the first opening to the end.
    lock: Option<Lock>,
    disk: Option<Disk>,
    /// The last number that is committed, as the loop counts. None until this process has stored a snapshot, which
    /// every process begins with: its records are on another clock, by another binary, than those before.
    written: Option<u64>,
    /// Where the journal on the disk ends, as the loop counts. None as long as the loop's numbers have nothing to do with
    /// those on the disk.
    tip: Option<u64>,
    /// What is added to the loop's numbers on the disk. Not zero only when the loop began without the disk, at 1, and the
    /// disk came back with numbers of its own.
    offset: u64,
    /// Taken from the queue, and not committed.
    in_hand: Vec<Job>,
    /// The last error was about the content of the file: it is set aside before the next opening.
    damaged: bool,
    /// A damaged file whose open mails are still to be taken from it.
    set_aside: Option<PathBuf>,
    /// How many bytes of records the newest segment has.
    segment_bytes: u64,
}

struct Disk {
    conn: Connection,
    /// Whether each commit is synced at present.
    synced: bool,
    /// Device and inode of the file.
    identity: (u64, u64),
    /// When `identity` was last compared with the path's.
    looked: Instant,
    /// There may be an old segment to drop.
    untidy: bool,
}

/// What one transaction did.
#[derive(Default)]
struct Progress {
    written: Option<u64>,
    bytes: u64,
    /// How many records were written.
    stored: usize,
    /// A snapshot was stored; the bytes are of records after it.
    snapshot: bool,
    dropped: usize,
    dropped_last: u64,
}

impl Progress {
    /// Stores a record with the mails that it decides, unless it is there already or lies behind a hole.
    fn store(&mut self, conn: &Connection, record: &Record, offset: u64) -> rusqlite::Result<()> {
        let seq = if self.written.is_some_and(|written| record.seq == written + 1) {
            let seq = journal::to_sql(record.seq + offset);
            self.bytes += journal::insert(conn, seq, record)? as u64;
            self.written = Some(record.seq);
            Some(seq)
        } else if self.written.is_none_or(|written| record.seq > written) {
            // Dropped from the journal. Its mails are not: the next snapshot counts them as told. Should we end before
            // that, they are decided once more, and twice is better than never.
            self.dropped += 1;
            self.dropped_last = record.seq;
            None
        } else {
            // By a commit that was thought to have failed; its mails, too.
            return Ok(());
        };
        journal::mails(record).try_for_each(|mail| rows::decided(conn, seq, mail))
    }
}

impl Writer {
    fn run(mut self, begin: Begin) {
        match begin {
            Begin::Open(found) => {
                let opened = self.open_first();
                let failed = opened.is_err();
                if found.send(opened).is_err() || failed {
                    return;
                }
            }
            Begin::Retry { owner } => self.owner = owner,
        }
        let mut backoff = Backoff::new(&self.limits);
        loop {
            if self.disk.is_none() {
                if !self.shared.pause(backoff.pause()) {
                    return;
                }
                if let Err(error) = self.open_again() {
                    self.shared.failing(chain(&error));
                    continue;
                }
            }
            match self.round() {
                Ok(true) => backoff = Backoff::new(&self.limits),
                Ok(false) => return,
                Err(error) => {
                    self.damaged = schema::is_damage(&error);
                    self.disk = None;
                    let path = self.dir.join(schema::FILE);
                    self.shared.failing(chain(&OpenError::of(&path, error)));
                }
            }
        }
    }

    fn open_first(&mut self) -> Result<Loaded, OpenError> {
        self.lock = Some(Lock::acquire(&self.dir)?);
        let owner = owner::find_or_make(&self.dir)
            .map_err(|source| OpenError::Owner { dir: self.dir.clone(), source })?;
        self.owner.clone_from(&owner);
        let (conn, found) = load::open(&self.dir)?;
        self.disk = Some(self.disk(conn)?);
        self.tip = Some(found.tip);
        self.shared.set_committed(found.tip);
        let load::Found { stored, tip, damage } = found;
        Ok(Loaded { stored, next_seq: tip + 1, owner, owner_kept: true, damage })
    }

    /// Opens after a failure, and finds out where the journal on the disk ends.
    fn open_again(&mut self) -> Result<(), OpenError> {
        let path = self.dir.join(schema::FILE);
        if self.lock.is_none() {
            self.lock = Some(Lock::acquire(&self.dir)?);
        }
        let kept = owner::keep(&self.dir, &self.owner)
            .map_err(|source| OpenError::Owner { dir: self.dir.clone(), source })?;
        if kept != self.owner {
            tracing::warn!(
                used = self.owner,
                kept,
                "owner in the state directory is another: used from the next start"
            );
            self.owner = kept;
        }
        if std::mem::take(&mut self.damaged) {
            let kept = load::set_aside(&path)?;
            tracing::warn!(path = %path.display(), kept = %kept.display(), "damaged store set aside");
            self.set_aside = Some(kept);
        }
        let mut conn = schema::open(&path)?;
        if let Some(kept) = self.set_aside.take() {
            rows::rescue(&kept, &mut conn);
        }
        let tip = journal::tip(&conn).map_err(|source| {
            self.damaged = schema::is_damage(&source);
            OpenError::of(&path, source)
        })?;
        self.disk = Some(self.disk(conn)?);
        self.resume(tip);
        self.shared.working();
        Ok(())
    }

    fn disk(&self, conn: Connection) -> Result<Disk, OpenError> {
        let path = self.dir.join(schema::FILE);
        let identity =
            identity(&path).map_err(|source| OpenError::Lock(super::LockError::File { path, source }))?;
        Ok(Disk { conn, synced: true, identity, looked: Instant::now(), untidy: true })
    }

    /// A commit that failed may have happened nevertheless; and the file may be another one than before.
    fn resume(&mut self, found: u64) {
        let found_here = found.saturating_sub(self.offset);
        let last = self.in_hand.iter().filter_map(Job::last_seq).max().unwrap_or(0);
        if self.tip == Some(found_here) {
            return;
        }
        if self.tip.is_some_and(|tip| tip < found_here) && found_here == last {
            // All that is in hand was committed: a transaction is there or it is not.
            self.tip = Some(found_here);
            self.written = Some(found_here);
            return;
        }
        // Another file. What is stored next comes behind all that is in it, and begins with a snapshot.
        if found > 0 {
            let lowest = self.in_hand.iter().find_map(Job::first_seq).unwrap_or(0);
            self.offset = self.offset.max((found + 1).saturating_sub(lowest));
        }
        self.tip = None;
        self.written = None;
        self.shared.ask_for_snapshot();
    }

    /// Stores what there is to store; false when the store is closed and all is stored.
    fn round(&mut self) -> rusqlite::Result<bool> {
        if self.in_hand.is_empty() {
            let untidy = self.disk.as_ref().is_some_and(|disk| disk.untidy);
            match self.shared.take(if untidy { Duration::ZERO } else { self.limits.look_every }) {
                Taken::Jobs(jobs) => self.in_hand = jobs,
                Taken::Closed => return Ok(false),
                Taken::Nothing => return self.tidy(0).map(|()| true),
            }
        }
        let began = Instant::now();
        let progress = self.commit()?;
        let asked = self.in_hand.iter().any(|job| matches!(job, Job::Outbox(_)));
        self.in_hand.drain(..).for_each(Job::stored);
        self.written = progress.written;
        self.tip = self.written.or(self.tip);
        if progress.snapshot {
            self.segment_bytes = 0;
        }
        self.segment_bytes += progress.bytes;
        let committed = self.written.unwrap_or_else(|| *self.shared.committed.borrow());
        self.shared.done(committed, began.elapsed(), progress.dropped, progress.dropped_last);
        if self.written.is_some() && self.segment_bytes > self.shared.retention().segment_bytes() {
            self.segment_bytes = 0;
            self.shared.ask_for_snapshot();
        }
        if (progress.snapshot || asked)
            && let Some(disk) = &mut self.disk
        {
            disk.untidy = true;
        }
        // Under a load that never lets up, too: otherwise the file would grow without a bound.
        self.tidy(progress.stored).map(|()| true)
    }

    /// One transaction with everything in hand.
    fn commit(&mut self) -> rusqlite::Result<Progress> {
        let Some(disk) = &mut self.disk else { return Ok(Progress::default()) };
        let sync = self.in_hand.iter().any(Job::outlives_power);
        if sync != disk.synced {
            // No effect inside a transaction, hence before it.
            disk.conn.pragma_update(None, "synchronous", if sync { "FULL" } else { "NORMAL" })?;
            disk.synced = sync;
        }
        let tx = disk.conn.transaction()?;
        let mut progress = Progress { written: self.written, ..Progress::default() };
        for job in &mut self.in_hand {
            match job {
                Job::Records(batch) => {
                    for record in &*batch {
                        progress.store(&tx, record, self.offset)?;
                    }
                }
                Job::Outbox(request) => request.store(&tx)?,
                Job::Snapshot(snapshot) if progress.written.is_some_and(|written| snapshot.seq < written) => {
                    // Stored already, with what came after it.
                }
                Job::Snapshot(snapshot) => {
                    store_snapshot(&tx, snapshot, self.offset, &self.boot_id, &self.shared.last_trouble())?;
                    progress.written = Some(snapshot.seq);
                    progress.snapshot = true;
                    progress.bytes = 0;
                }
            }
        }
        strike(&mut self.fault, CommitStep::Before)?;
        tx.commit()?;
        strike(&mut self.fault, CommitStep::After)?;
        Ok(progress)
    }

    /// Drops a piece of an old segment, as long as there is one: no fewer records than the `stored` ones that have just
    /// come, so that a busy store does not outgrow its bound. Looks whether the file is still there.
    fn tidy(&mut self, stored: usize) -> rusqlite::Result<()> {
        let Some(disk) = &mut self.disk else { return Ok(()) };
        if disk.untidy {
            if disk.synced {
                disk.conn.pragma_update(None, "synchronous", "NORMAL")?;
                disk.synced = false;
            }
            let mut owed = stored;
            loop {
                let step = retention::step(&mut disk.conn, self.shared.retention())?;
                disk.untidy = step.more;
                owed = owed.saturating_sub(step.deleted);
                if !step.more || owed == 0 {
                    break;
                }
            }
        }
        if disk.looked.elapsed() >= self.limits.look_every {
            disk.looked = Instant::now();
            if identity(&self.dir.join(schema::FILE)).ok() != Some(disk.identity) {
                self.disk = None;
                self.shared.failing("the store was moved or deleted under supervisor".into());
            }
        }
        Ok(())
    }
}

/// Stores a snapshot, and the gap before it if there is one.
fn store_snapshot(
    conn: &Connection,
    snapshot: &Snapshot,
    offset: u64,
    boot_id: &str,
    trouble: &str,
) -> rusqlite::Result<()> {
    let tip = journal::tip(conn)?;
    let seq = snapshot.seq + offset;
    if seq > tip && tip > 0 {
        let (first, last) = (journal::to_sql(tip + 1), journal::to_sql(seq));
        journal::insert_gap(conn, first, last, snapshot.now.wall, trouble)?;
    }
    journal::insert_snapshot(conn, journal::to_sql(seq), boot_id, snapshot)
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

fn strike(fault: &mut Option<Fault>, step: CommitStep) -> rusqlite::Result<()> {
    fault.as_mut().map_or(Ok(()), |fault| fault(step)).map_err(injected)
}

/// An injected fault, as SQLite would report the disk's.
fn injected(error: io::Error) -> rusqlite::Error {
    let code = match error.kind() {
        io::ErrorKind::StorageFull => rusqlite::ffi::SQLITE_FULL,
        io::ErrorKind::InvalidData => rusqlite::ffi::SQLITE_CORRUPT,
        _ => rusqlite::ffi::SQLITE_IOERR,
    };
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(error.to_string()))
}
