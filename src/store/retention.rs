//! How much history is kept: whole segments go, oldest first, by age and by size.
//!
//! A segment is a snapshot and the records up to the next one. Its snapshot goes first, then its records in small
//! steps between commits: a record without a snapshot before it is not replayed, so any step may be the last one before a
//! crash.
//!
//! Finished mails go by an age of their own, and when the store is too large: then what ended first goes first, a mail or a
//! segment. A mail that is not finished never goes.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How many records one step deletes: a few milliseconds, during which the records that arrive wait.
const STEP_RECORDS: i64 = 1000;

/// How many mails one step deletes: at 20 KB each, as many bytes as the records of a step.
const STEP_MAILS: i64 = 50;

/// How many mails one step deletes to make room: not many more than are needed, and more than come in between two steps.
const STEP_MAILS_FOR_ROOM: i64 = 4;

/// How long a mail that was delivered, or not needed, is kept: as long as the history it belongs to.
const MAIL_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a mail that was given up is kept: somebody was not told something, and may find out only when the quarter's
/// report is written.
const DEAD_MAIL_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);

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
    let mut more = deleted > 0 || drop_old_mails(&tx)?;
    let too_large = held_bytes(&tx)? > retention.max_bytes;
    let ended = oldest.get(1).copied();
    if !more && too_large {
        more = drop_mails(&tx, FINISHED, ended.map_or(i64::MAX, |(_, ended)| ended), STEP_MAILS_FOR_ROOM)?;
    }
    if !more
        && let Some((next, ended)) = ended
        && (too_large || is_old(&tx, ended, retention)?)
    {
        tx.execute("DELETE FROM snapshot WHERE seq = ?", [first])?;
        tx.execute("DELETE FROM gap WHERE last_seq <= ?", [next])?;
        tx.execute("DELETE FROM policy WHERE id < (SELECT min(policy) FROM snapshot)", [])?;
        more = true;
    }
    tx.commit()?;
    Ok(Step { deleted, more })
}

fn is_old(conn: &Connection, ended: i64, retention: Retention) -> rusqlite::Result<bool> {
    let age = u128::try_from(newest(conn)?.saturating_sub(ended)).unwrap_or(0);
    Ok(age > retention.max_age.as_millis())
}

/// Age is counted from the newest snapshot, not from a clock of our own.
fn newest(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("SELECT wall_ms FROM snapshot ORDER BY seq DESC LIMIT 1", [], |row| row.get(0))
}

/// Drops some of the mails that are too old; false when there are none.
fn drop_old_mails(conn: &Connection) -> rusqlite::Result<bool> {
    let newest = newest(conn)?;
    let before = |kept: Duration| newest.saturating_sub(i64::try_from(kept.as_millis()).unwrap_or(i64::MAX));
    Ok(drop_mails(conn, WELL_FINISHED, before(MAIL_KEPT), STEP_MAILS)?
        || drop_mails(conn, "('dead')", before(DEAD_MAIL_KEPT), STEP_MAILS)?)
}

/// The states of a mail that is finished ([`MailState`](super::MailState)).
const FINISHED: &str = "('done', 'not_needed', 'dead')";

/// The same, without those that were given up.
const WELL_FINISHED: &str = "('done', 'not_needed')";

/// Drops the oldest `count` of the mails in one of `states` that last changed before `before`; false when there are none.
fn drop_mails(conn: &Connection, states: &str, before: i64, count: i64) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT row FROM outbox WHERE state IN {states} AND changed_ms < ? ORDER BY changed_ms LIMIT ?"
    );
    let rows: Vec<i64> =
        conn.prepare_cached(&sql)?.query_map([before, count], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for row in &rows {
        conn.prepare_cached("DELETE FROM outbox_recipient WHERE mail = ?")?.execute([row])?;
        conn.prepare_cached("DELETE FROM outbox WHERE row = ?")?.execute([row])?;
    }
    Ok(!rows.is_empty())
}

/// What the file holds: its pages, less the free ones.
pub(super) fn held_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
    Ok(u64::try_from(pages.saturating_mul(number("page_size")?)).unwrap_or(0))
}
