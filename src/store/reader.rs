//! Reading beside the writer: for the API, the command line and replay, also from another process.
//!
//! A connection of its own that cannot write. In WAL mode a reader never blocks the writer; but the log cannot be reused
//! behind a reader's back, so that every read here is one short transaction of bounded size.

use super::history::{self, StoredRecord, StoredSnapshot};
use super::load::{self, Found, Stored};
use super::outbox::{OutboxRow, rows};
use super::schema::{self, OpenError};
use super::{Record, journal};
use crate::domain::{Boot, Decision, Now, State, Wall};
use rusqlite::{Connection, OpenFlags, Row, Transaction};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// How many records one page has at most: about 1 MB.
pub const PAGE_RECORDS: usize = 1000;

/// How many mails one page has at most: a few MB, and 100 MiB if each were as large as can be.
pub const PAGE_MAILS: usize = 100;

/// How long a read waits for the moments when the log is set up or taken down.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no store yet.
    #[error("there is no store in {}: has supervisor run with this state directory?", .0.display())]
    Missing(std::path::PathBuf),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// SQLite's error.
    #[error("the store cannot be read")]
    Database(#[from] rusqlite::Error),
    /// A snapshot's content.
    #[error("the snapshot {seq} cannot be read")]
    Snapshot {
        /// Its number.
        seq: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Reads a store; never writes.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
}

/// Some records in order, and what is missing among them.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// The numbers of the records that cannot be read.
    pub damaged: Vec<u64>,
    /// The gaps before, between and directly after them.
    pub gaps: Vec<Gap>,
    /// Where the next page begins: the argument for [`Reader::after`].
    pub next: u64,
}

/// Records that were decided and never stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
    /// When the store could write again.
    pub ended: Wall,
    /// Why.
    pub why: String,
}

/// A snapshot's label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SnapshotInfo {
    /// The last record in it.
    pub seq: u64,
    /// When it was made.
    pub at: Now,
    /// The boot that its moments belong to.
    pub boot_id: String,
    /// The version that wrote it.
    pub binary_version: String,
}

impl Reader {
    /// Opens the store in `dir`, whether a supervisor runs on it or not.
    pub fn open(dir: &Path) -> Result<Reader, ReadError> {
        let path = dir.join(schema::FILE);
        if !path.exists() {
            return Err(ReadError::Missing(dir.to_path_buf()));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&path, flags).map_err(|error| OpenError::of(&path, error))?;
        conn.busy_timeout(BUSY_TIMEOUT)?;
        schema::identify(&conn, &path)?;
        Ok(Reader { conn })
    }

    /// The last `limit` records (at most [`PAGE_RECORDS`]).
    pub fn tail(&self, limit: usize) -> Result<Page, ReadError> {
        let limit = limit.min(PAGE_RECORDS);
        let first: Option<i64> = self
            .conn
            .prepare_cached("SELECT min(seq) FROM (SELECT seq FROM journal ORDER BY seq DESC LIMIT ?)")?
            .query_row([journal::to_sql(limit as u64)], |row| row.get(0))?;
        match first {
            Some(first) => self.after(journal::from_sql(first) - 1, limit),
            None => Ok(Page::default()),
        }
    }

    /// The first `limit` records (at most [`PAGE_RECORDS`]) after the record `seq`; an empty page when there is none yet.
    pub fn after(&self, seq: u64, limit: usize) -> Result<Page, ReadError> {
        let mut page = Page { next: seq, ..Page::default() };
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, boot_ms, wall_ms, event, changes, actions, reasons FROM journal
             WHERE seq > ? ORDER BY seq LIMIT ?",
        )?;
        let limit = journal::to_sql(limit.min(PAGE_RECORDS) as u64);
        let mut rows = statement.query([journal::to_sql(seq), limit])?;
        while let Some(row) = rows.next()? {
            page.next = journal::from_sql(row.get(0)?);
            match record(row)? {
                Ok(record) => page.records.push(record),
                Err(_) => page.damaged.push(page.next),
            }
        }
        drop(rows);
        page.gaps = self.gaps(seq, page.next)?;
        Ok(page)
    }

    /// The snapshots there are, newest first.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>, ReadError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, boot_id, boot_ms, wall_ms, binary_version FROM snapshot ORDER BY seq DESC",
        )?;
        let infos = statement.query_map([], |row| {
            Ok(SnapshotInfo {
                seq: journal::from_sql(row.get(0)?),
                boot_id: journal::read_text(row, 1)?,
                at: Now { boot: Boot(row.get(2)?), wall: Wall(row.get(3)?) },
                binary_version: journal::read_text(row, 4)?,
            })
        })?;
        Ok(infos.collect::<Result<_, _>>()?)
    }

    /// The state after the record `seq`, from the snapshot of that number. Replay goes on with [`Reader::after`], up to the
    /// next snapshot's number.
    pub fn snapshot(&self, seq: u64) -> Result<Option<State>, ReadError> {
        let mut statement = self.conn.prepare_cached(&snapshot_by_number(&self.conn)?)?;
        let mut rows = statement.query([journal::to_sql(seq)])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let state = journal::read_state(row, 0, 1)?;
        state.map(Some).map_err(|source| ReadError::Snapshot { seq, source })
    }

    /// The first `limit` records after the record `seq` as they are stored, each that is no text by its number; and the last
    /// number among them, `seq` if there are none.
    pub(super) fn stored(&self, seq: u64, limit: usize) -> Result<(Vec<StoredRow>, u64), ReadError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT seq, boot_ms, wall_ms, event, changes, actions, reasons FROM journal
             WHERE seq > ? ORDER BY seq LIMIT ?",
        )?;
        let found = statement
            .query_map([journal::to_sql(seq), journal::to_sql(limit as u64)], history::stored)?
            .collect::<Result<Vec<StoredRow>, _>>()?;
        let last = found.last().map_or(seq, |row| match row {
            Ok(record) => record.seq,
            Err(seq) => *seq,
        });
        Ok((found, last))
    }

    /// The snapshot of this label as it is stored; none if it is there no longer.
    pub(super) fn stored_snapshot(&self, info: SnapshotInfo) -> Result<Option<StoredSnapshot>, ReadError> {
        let mut statement = self.conn.prepare_cached(&snapshot_by_number(&self.conn)?)?;
        let mut rows = statement.query([journal::to_sql(info.seq)])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let state = journal::unpacked(row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?);
        let state = String::from_utf8_lossy(&state).into_owned();
        Ok(Some(StoredSnapshot { info, policy: journal::read_text(row, 1)?, state }))
    }

    /// What is read until it ends is of one moment, whatever a writer does meanwhile.
    pub(super) fn moment(&self) -> Result<Transaction<'_>, ReadError> {
        Ok(self.conn.unchecked_transaction()?)
    }

    /// The state as it was last stored, as a start would find it.
    pub fn latest(&self) -> Result<Option<Stored>, ReadError> {
        // One transaction: the writer may drop a segment between two statements.
        let tx = self.conn.unchecked_transaction()?;
        let mut found = Found::default();
        load::read(&tx, &mut found)?;
        Ok(found.stored)
    }

    /// The last `limit` mails (at most [`PAGE_MAILS`]), newest first.
    pub fn outbox(&self, limit: usize) -> Result<Vec<OutboxRow>, ReadError> {
        self.mails(|conn| rows::newest(conn, limit.min(PAGE_MAILS)))
    }

    /// The mails that are not finished, oldest first: what a sender goes on with when it starts, and when the store
    /// becomes durable after a start without it. Their number is bounded by those who decide and send: ten in ten minutes,
    /// each given up after a day.
    pub fn outbox_open(&self) -> Result<Vec<OutboxRow>, ReadError> {
        self.mails(rows::open)
    }

    fn mails(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Vec<OutboxRow>>,
    ) -> Result<Vec<OutboxRow>, ReadError> {
        // One transaction: a mail and its recipients as they were at one moment.
        let tx = self.conn.unchecked_transaction()?;
        if schema::version(&tx)? < schema::OUTBOX_SINCE {
            // The file of an older supervisor, which still runs.
            return Ok(Vec::new());
        }
        Ok(read(&tx)?)
    }

    /// The gaps that touch the records from `after` to just behind `until`.
    pub(super) fn gaps(&self, after: u64, until: u64) -> Result<Vec<Gap>, ReadError> {
        let mut statement = self.conn.prepare_cached(
            "SELECT first_seq, last_seq, wall_ms, why FROM gap
             WHERE last_seq > ?1 AND first_seq <= ?2 + 1 ORDER BY first_seq",
        )?;
        let gaps = statement.query_map([journal::to_sql(after), journal::to_sql(until)], |row| {
            Ok(Gap {
                first: journal::from_sql(row.get(0)?),
                last: journal::from_sql(row.get(1)?),
                ended: Wall(row.get(2)?),
                why: journal::read_text(row, 3)?,
            })
        })?;
        Ok(gaps.collect::<Result<_, _>>()?)
    }
}

fn snapshot_by_number(conn: &Connection) -> rusqlite::Result<String> {
    let state = schema::state_of_snapshot(conn)?;
    Ok(format!(
        "SELECT {state}, coalesce((SELECT text FROM policy WHERE id = snapshot.policy), '')
         FROM snapshot WHERE seq = ?"
    ))
}

/// A row as it is stored; the number alone if it is not text.
type StoredRow = Result<Box<StoredRecord>, u64>;

/// The outer error is SQLite's; the inner one is the content's.
fn record(row: &Row<'_>) -> rusqlite::Result<Result<Record, serde_json::Error>> {
    let (event, changes) = (row.get_ref(3)?.as_bytes()?, row.get_ref(4)?.as_bytes()?);
    let (actions, reasons) = (row.get_ref(5)?.as_bytes()?, row.get_ref(6)?.as_bytes()?);
    let (seq, now) = (row.get(0)?, Now { boot: Boot(row.get(1)?), wall: Wall(row.get(2)?) });
    let parse = || {
        let decision = Decision {
            changes: serde_json::from_slice(changes)?,
            actions: serde_json::from_slice(actions)?,
            reasons: serde_json::from_slice(reasons)?,
        };
        Ok(Record { seq: journal::from_sql(seq), now, event: serde_json::from_slice(event)?, decision })
    };
    Ok(parse())
}
