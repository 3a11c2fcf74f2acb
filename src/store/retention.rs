//! How much history is kept: whole segments go, oldest first, by age and by size.
//!
//! A segment is a snapshot and the records up to the next one. Its snapshot goes first, then its records in small
//! steps between commits: a record without a snapshot before it is not replayed, so any step may be the last one before a
//! crash.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many records one step deletes: a few milliseconds, during which the records that arrive wait.
const STEP_RECORDS: i64 = 1000;

/// The part of [`Retention::max_bytes`] that one segment may grow to before a snapshot is asked for: the size is kept to
/// within an eighth, and a start never replays more than that.
const SEGMENTS_WANTED: u64 = 8;

/// How much history is kept. The newest segment always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// A segment goes when its last record is older than this (default 30 days: a monthly report still finds it).
    pub max_age: Duration,
    /// The oldest segment goes while the store holds more than this (default 256 MiB: nobody's disk fills up because of
    /// us, and it is weeks of a busy site). The file itself does not shrink: its room is used again.
    pub max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { max_age: Duration::from_secs(30 * 24 * 3600), max_bytes: 256 << 20 }
    }
}

impl Retention {
    /// Beyond how many bytes of records a segment is to end.
    pub(super) fn segment_bytes(&self) -> u64 {
        self.max_bytes / SEGMENTS_WANTED
    }
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// How many records it deleted.
    pub(super) deleted: usize,
    /// Whether there may be another step.
    pub(super) more: bool,
}

/// Makes one step.
pub(super) fn step(conn: &mut Connection, retention: Retention) -> rusqlite::Result<Step> {
    let tx = conn.transaction()?;
    let oldest: Vec<(i64, i64)> = tx
        .prepare_cached("SELECT seq, wall_ms FROM snapshot ORDER BY seq LIMIT 2")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let Some((first, _)) = oldest.first().copied() else { return Ok(Step { deleted: 0, more: false }) };
    // What lies before the oldest snapshot cannot be replayed, and belongs to a segment that was dropped.
    let deleted = tx
        .prepare_cached(
            "DELETE FROM journal WHERE seq <= ?1
             AND seq < (SELECT min(seq) FROM journal) + ?2",
        )?
        .execute(params![first, STEP_RECORDS])?;
    let mut more = deleted > 0;
    if !more
        && let Some((next, ended)) = oldest.get(1).copied()
        && (is_old(&tx, ended, retention)? || held_bytes(&tx)? > retention.max_bytes)
    {
        tx.execute("DELETE FROM snapshot WHERE seq = ?", [first])?;
        tx.execute("DELETE FROM gap WHERE last_seq <= ?", [next])?;
        tx.execute("DELETE FROM policy WHERE id < (SELECT min(policy) FROM snapshot)", [])?;
        more = true;
    }
    tx.commit()?;
    Ok(Step { deleted, more })
}

/// Age is counted from the newest snapshot, not from a clock of our own.
fn is_old(conn: &Connection, ended: i64, retention: Retention) -> rusqlite::Result<bool> {
    let newest: i64 =
        conn.query_row("SELECT wall_ms FROM snapshot ORDER BY seq DESC LIMIT 1", [], |row| row.get(0))?;
    let age = u128::try_from(newest.saturating_sub(ended)).unwrap_or(0);
    Ok(age > retention.max_age.as_millis())
}

/// What the file holds: its pages, less the free ones.
pub(super) fn held_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
    Ok(u64::try_from(pages.saturating_mul(number("page_size")?)).unwrap_or(0))
}
