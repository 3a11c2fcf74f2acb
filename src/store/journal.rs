//! Rows: records, snapshots and gaps as they are written, and how much a record must survive.

use super::Record;
use super::job::Snapshot;
use crate::domain::action::Action;
use crate::domain::delivery::Mail;
use crate::domain::time::Wall;
use crate::domain::{Change, Event, Policy, State};
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::borrow::Cow;
use std::io::{Read, Write};

/// The version of this program, kept with each snapshot: a segment is replayed by the binary that wrote it.
const BINARY_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether a power cut must not undo the record once it is committed: what people ordered, mails, and the numbers of
/// guarded actions and mails, which are never given out twice. Everything else is observed again within seconds.
///
/// In WAL mode `synchronous = NORMAL` commits without a sync: after a power cut the database is sound but may lack the
/// last commits; `FULL` syncs the log at each commit (<https://sqlite.org/pragma.html#pragma_synchronous>). The log is
/// one file in the order of the commits, so that the sync of one commit carries all before it. A killed process loses
/// nothing in either mode: the kernel has the pages. The setting is one connection's and may change between two
/// transactions, so the writer chooses for each: a day of observations costs no sync, and an order costs one.
pub(super) fn outlives_power(record: &Record) -> bool {
    let ordered = matches!(record.event, Event::Commanded(_));
    let kept = |change: &Change| {
        matches!(change, Change::Preference { .. } | Change::Policy(_) | Change::Issued { .. })
    };
    ordered || mails(record).next().is_some() || record.decision.changes.iter().any(kept)
}

/// The mails that the record decides.
pub(super) fn mails(record: &Record) -> impl Iterator<Item = &Mail> {
    record.decision.actions.iter().filter_map(|action| match action {
        Action::Mail(mail) => Some(&**mail),
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Answer { .. } => None,
    })
}

/// Writes a record as number `seq`; answers with its size in bytes.
pub(super) fn insert(conn: &Connection, seq: i64, record: &Record) -> rusqlite::Result<usize> {
    let event = json(&record.event)?;
    let changes = json(&record.decision.changes)?;
    let actions = json(&record.decision.actions)?;
    let reasons = json(&record.decision.reasons)?;
    let bytes = event.len() + changes.len() + actions.len() + reasons.len();
    conn.prepare_cached("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?)")?.execute(params![
        seq,
        record.now.boot.0,
        record.now.wall.0,
        event,
        changes,
        actions,
        reasons
    ])?;
    Ok(bytes)
}

/// Writes the snapshot as the state after `seq`. One of the same number, from a process that stored nothing more, is
/// replaced: its segment is empty.
pub(super) fn insert_snapshot(
    conn: &Connection,
    seq: i64,
    boot_id: &str,
    snapshot: &Snapshot,
) -> rusqlite::Result<()> {
    let mut state = State::clone(&snapshot.state);
    let policy = insert_policy(conn, &std::mem::take(&mut state.policy))?;
    let state = packed(json(&state)?.as_bytes())?;
    let (boot, wall) = (snapshot.now.boot.0, snapshot.now.wall.0);
    conn.prepare_cached("INSERT OR REPLACE INTO snapshot VALUES (?, ?, ?, ?, ?, ?, '', ?)")?
        .execute(params![seq, boot_id, boot, wall, BINARY_VERSION, policy, state])?;
    Ok(())
}

/// Writes the policy unless it is the newest one; answers with its id.
fn insert_policy(conn: &Connection, policy: &Policy) -> rusqlite::Result<i64> {
    let text = json(policy)?;
    let newest = conn
        .prepare_cached("SELECT id FROM policy WHERE id = (SELECT max(id) FROM policy) AND text = ?")?
        .query_row([&text], |row| row.get(0))
        .optional()?;
    if let Some(id) = newest {
        return Ok(id);
    }
    conn.prepare_cached("INSERT INTO policy (text) VALUES (?)")?.execute([&text])?;
    Ok(conn.last_insert_rowid())
}

/// The state of a snapshot, from its two texts: columns `state` and `policy` of the row. The outer error is SQLite's, the
/// inner one is the content's; what is not even UTF-8 is the content's too.
pub(super) fn read_state(
    row: &Row<'_>,
    state: usize,
    policy: usize,
) -> rusqlite::Result<Result<State, serde_json::Error>> {
    let (state, policy) = (row.get_ref(state)?.as_bytes()?, row.get_ref(policy)?.as_bytes()?);
    Ok(state_of(&unpacked(state), policy))
}

/// The state from its two texts.
pub(super) fn state_of(state: &[u8], policy: &[u8]) -> Result<State, serde_json::Error> {
    let mut state: State = serde_json::from_slice(state)?;
    state.policy = serde_json::from_slice(policy)?;
    state.reindex();
    Ok(state)
}

/// The largest state that is read: some ten times that of 10,000 servers. What claims to be larger is damaged.
const STATE_BYTES_MAX: u64 = 128 << 20;

/// A state as it is stored: servers are much alike, and it takes a tenth of the room. As fast as it goes, because records wait
/// for the writer meanwhile.
fn packed(state: &[u8]) -> rusqlite::Result<Vec<u8>> {
    let failed = |error: std::io::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(state).map_err(failed)?;
    encoder.finish().map_err(failed)
}

/// What [`packed`] was given. A state that an older supervisor stored is plain JSON, which begins with a brace; what is
/// neither is nothing, which no state is.
pub(super) fn unpacked(stored: &[u8]) -> Cow<'_, [u8]> {
    if stored.first() == Some(&b'{') {
        return Cow::Borrowed(stored);
    }
    let mut state = Vec::new();
    match ZlibDecoder::new(stored).take(STATE_BYTES_MAX).read_to_end(&mut state) {
        Ok(_) => Cow::Owned(state),
        Err(_) => Cow::Owned(Vec::new()),
    }
}

/// A text for people, whatever is in it.
pub(super) fn read_text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?).into_owned())
}

/// Writes down that the records `first` to `last` were never stored.
pub(super) fn insert_gap(
    conn: &Connection,
    first: i64,
    last: i64,
    noticed: Wall,
    why: &str,
) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO gap VALUES (?, ?, ?, ?)")?
        .execute(params![first, last, noticed.0, why])?;
    Ok(())
}

/// The highest number in use; 0 in a new store.
pub(super) fn tip(conn: &Connection) -> rusqlite::Result<u64> {
    let max = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let tips = [
        max("SELECT max(seq) FROM journal")?,
        max("SELECT max(seq) FROM snapshot")?,
        max("SELECT max(last_seq) FROM gap")?,
    ];
    Ok(from_sql(tips.into_iter().flatten().max().unwrap_or(0)))
}

/// SQLite's integers are signed; a number of ours that does not fit would be 292 million years old.
pub(super) fn to_sql(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

pub(super) fn from_sql(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
