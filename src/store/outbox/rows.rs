//! The outbox's rows: as they are written (by `rules`), read, and saved from a damaged file.

use super::{
    MailKey, MailState, OutboxRow, Outcome, RecipientOutcome, RecipientRow, RecipientState, Staged, Staging,
};
use crate::chain::chain;
use crate::domain::Wall;
use crate::domain::delivery::{Mail, MailId};
use crate::store::journal::{self, from_sql, to_sql};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, params};
use std::collections::BTreeSet;
use std::path::Path;

/// The rows that are not finished. A state that is none of ours is not finished either: a mail is not lost to one bit.
const OPEN: &str = "state NOT IN ('done', 'dead', 'not_needed')";

/// Writes the row of a mail that was decided by the record `seq` of the file's journal; none when that is not in it. What is
/// there already stays: a commit that was thought to have failed may have happened.
pub(in crate::store) fn decided(conn: &Connection, seq: Option<i64>, mail: &Mail) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO outbox (id, decided_ms, seq, mail, state, changed_ms)
         VALUES (?, ?, ?, ?, 'pending', ?)",
    )?
    .execute(params![to_sql(mail.id.0), mail.at.0, seq, journal::json(mail)?, mail.at.0])?;
    Ok(())
}

/// Writes a mail's bytes and recipients, and the row if it is missing.
pub(super) fn stage(conn: &Connection, staging: &Staging) -> rusqlite::Result<()> {
    let Staging { mail, at, message_id, sender, message, recipients } = staging;
    decided(conn, None, mail)?;
    let row: i64 = conn
        .prepare_cached(
            "UPDATE outbox SET state = 'staged', message_id = ?, sender = ?, changed_ms = ?, message = ?
             WHERE id = ? AND decided_ms = ? RETURNING row",
        )?
        .query_row(params![message_id, sender, at.0, message, to_sql(mail.id.0), mail.at.0], |row| {
            row.get(0)
        })?;
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO outbox_recipient (mail, address, state, attempts, changed_ms)
         VALUES (?, ?, 'pending', 0, ?)",
    )?;
    for address in recipients {
        insert.execute(params![row, address, at.0])?;
    }
    Ok(())
}

/// Writes what became of an attempt; false when the file does not have the mail.
pub(super) fn record(conn: &Connection, outcome: &Outcome) -> rusqlite::Result<bool> {
    let Outcome { mail, at, recipients, state } = outcome;
    let finished = state.finished().map(MailState::as_str);
    let row: Option<i64> = conn
        .prepare_cached(
            "UPDATE outbox SET state = coalesce(?, state), changed_ms = ?
             WHERE id = ? AND decided_ms = ? RETURNING row",
        )?
        .query_row(params![finished, at.0, to_sql(mail.id.0), mail.at.0], |row| row.get(0))
        .optional()?;
    let Some(row) = row else { return Ok(false) };
    let mut replace =
        conn.prepare_cached("INSERT OR REPLACE INTO outbox_recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    for recipient in recipients {
        let RecipientOutcome { address, state, relay, reply, attempts, next } = recipient;
        let next = next.map(|next| next.0);
        replace.execute(params![row, address, state.as_str(), relay, reply, attempts, next, at.0])?;
    }
    Ok(true)
}

/// The last `limit` mails, newest first.
pub(in crate::store) fn newest(conn: &Connection, limit: usize) -> rusqlite::Result<Vec<OutboxRow>> {
    let sql = "SELECT row FROM outbox ORDER BY row DESC LIMIT ?";
    let numbers = numbers(conn, sql, [to_sql(limit as u64)])?;
    numbers.into_iter().filter_map(|number| one(conn, number).transpose()).collect()
}

/// The mails that are not finished, oldest first.
pub(in crate::store) fn open(conn: &Connection) -> rusqlite::Result<Vec<OutboxRow>> {
    let sql = format!("SELECT row FROM outbox WHERE {OPEN} ORDER BY row");
    numbers(conn, &sql, [])?.into_iter().filter_map(|number| one(conn, number).transpose()).collect()
}

/// An error when a mail that is not finished cannot be read.
pub(in crate::store) fn check(conn: &Connection) -> rusqlite::Result<()> {
    // Both ways to a row: whoever looks for open ones may take the table or its index.
    for number in open_numbers(conn, "NOT INDEXED")?.union(&open_numbers(conn, "INDEXED BY outbox_state")?) {
        if one(conn, *number)?.is_none() {
            // The index knows a row that the table does not have.
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT_INDEX);
            return Err(rusqlite::Error::SqliteFailure(code, None));
        }
    }
    Ok(())
}

fn open_numbers(conn: &Connection, how: &str) -> rusqlite::Result<BTreeSet<i64>> {
    let sql = format!("SELECT row FROM outbox {how} WHERE {OPEN}");
    Ok(numbers(conn, &sql, [])?.into_iter().collect())
}

fn numbers(conn: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<i64>> {
    conn.prepare_cached(sql)?.query_map(params, |row| row.get(0))?.collect()
}

/// The mail in the row `number`, if there is one.
fn one(conn: &Connection, number: i64) -> rusqlite::Result<Option<OutboxRow>> {
    let mut recipients = conn.prepare_cached(
        "SELECT address, state, relay, reply, attempts, next_ms, changed_ms
         FROM outbox_recipient WHERE mail = ? ORDER BY address",
    )?;
    let recipients = recipients.query_map([number], recipient)?.collect::<Result<_, _>>()?;
    let mut mail = conn.prepare_cached(
        "SELECT id, decided_ms, seq, mail, state, message_id, sender, changed_ms, message
         FROM outbox WHERE row = ?",
    )?;
    mail.query_row([number], |row| {
        let message_id = text(row, 5)?.unwrap_or_default();
        let sender = text(row, 6)?.unwrap_or_default();
        let message = bytes(row, 8)?.map(<[u8]>::to_vec);
        let staged = message.map(|message| Staged { message_id, sender, message });
        let state = match text(row, 4)?.as_deref() {
            Some("done") => MailState::Done,
            Some("dead") => MailState::Dead,
            Some("not_needed") => MailState::NotNeeded,
            _ if staged.is_some() => MailState::Staged,
            _ => MailState::Pending,
        };
        Ok(OutboxRow {
            key: MailKey {
                id: MailId(from_sql(integer(row, 0)?.unwrap_or(0))),
                at: Wall(integer(row, 1)?.unwrap_or(0)),
            },
            seq: integer(row, 2)?.map(from_sql),
            mail: bytes(row, 3)?.and_then(|json| serde_json::from_slice(json).ok()),
            state,
            staged,
            recipients,
            changed: Wall(integer(row, 7)?.unwrap_or(0)),
        })
    })
    .optional()
}

fn recipient(row: &Row<'_>) -> rusqlite::Result<RecipientRow> {
    let state = match text(row, 1)?.as_deref() {
        Some("pending") => RecipientState::Pending,
        Some("accepted") => RecipientState::Accepted,
        Some("deferred") => RecipientState::Deferred,
        Some("dead") => RecipientState::Dead,
        // Also for what cannot be read: the relay may have it, and it is tried again.
        _ => RecipientState::Ambiguous,
    };
    let outcome = RecipientOutcome {
        address: text(row, 0)?.unwrap_or_default(),
        state,
        relay: text(row, 2)?,
        reply: text(row, 3)?,
        attempts: u32::try_from(integer(row, 4)?.unwrap_or(0)).unwrap_or(u32::MAX),
        next: integer(row, 5)?.map(Wall),
    };
    Ok(RecipientRow { outcome, changed: Wall(integer(row, 6)?.unwrap_or(0)) })
}

/// A number. In a file that a disk has changed there may be something else, which must not hide the other mails.
fn integer(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<i64>> {
    Ok(row.get_ref(column)?.as_i64().ok())
}

/// Bytes; none where there is something else.
fn bytes<'row>(row: &'row Row<'_>, column: usize) -> rusqlite::Result<Option<&'row [u8]>> {
    Ok(row.get_ref(column)?.as_bytes().ok())
}

/// A text, whatever is in it; none where there is none.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(bytes(row, column)?.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

/// Copies the mails that are not finished from the damaged database `from`, as far as they can be read. What cannot is told
/// to the log: nobody else will miss it.
pub(in crate::store) fn rescue(from: &Path, to: &mut Connection) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copied = Connection::open_with_flags(from, flags).and_then(|damaged| copy_open(&damaged, to));
    let from = from.display();
    match copied {
        Ok(Copied { mails: 0, lost: 0 }) => {}
        Ok(Copied { mails, lost: 0 }) => {
            tracing::info!(%from, mails, "open mails taken from the damaged store")
        }
        Ok(Copied { mails, lost }) => {
            tracing::warn!(%from, mails, lost, "open mails taken from the damaged store; some cannot be read");
        }
        Err(error) => {
            let error = chain(&error);
            tracing::warn!(%from, error, "mails that were not sent cannot be read from the damaged store");
        }
    }
}

#[derive(Default)]
struct Copied {
    mails: usize,
    lost: usize,
}

fn copy_open(from: &Connection, to: &mut Connection) -> rusqlite::Result<Copied> {
    let mut copied = Copied::default();
    if crate::store::schema::version(from)? < crate::store::schema::OUTBOX_SINCE {
        return Ok(copied);
    }
    // The table or its index may be damaged; what either knows is tried.
    let open = match (open_numbers(from, "NOT INDEXED"), open_numbers(from, "INDEXED BY outbox_state")) {
        (Ok(table), Ok(index)) => table.union(&index).copied().collect(),
        (Ok(numbers), Err(_)) | (Err(_), Ok(numbers)) => numbers,
        (Err(error), Err(_)) => return Err(error),
    };
    let tx = to.transaction()?;
    for number in open {
        match copy(from, &tx, number) {
            Ok(()) => copied.mails += 1,
            Err(_) => copied.lost += 1,
        }
    }
    tx.commit()?;
    Ok(copied)
}

/// Copies one mail with its recipients. Its record stays behind.
fn copy(from: &Connection, to: &Connection, number: i64) -> rusqlite::Result<()> {
    let values =
        |row: &Row<'_>| (0..8).map(|column| row.get(column)).collect::<rusqlite::Result<Vec<Value>>>();
    let mail = from
        .prepare_cached(
            "SELECT id, decided_ms, mail, state, message_id, sender, changed_ms, message
             FROM outbox WHERE row = ?",
        )?
        .query_row([number], values)?;
    to.prepare_cached(
        "INSERT INTO outbox (id, decided_ms, mail, state, message_id, sender, changed_ms, message)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(rusqlite::params_from_iter(mail))?;
    let row = to.last_insert_rowid();
    let mut recipients = from.prepare_cached("SELECT * FROM outbox_recipient WHERE mail = ?")?;
    let mut recipients = recipients.query([number])?;
    let mut insert = to.prepare_cached("INSERT INTO outbox_recipient VALUES (?, ?, ?, ?, ?, ?, ?, ?)")?;
    // One that cannot be read: the mail is still worth sending to the others.
    while let Ok(Some(found)) = recipients.next() {
        let Ok(mut recipient) = values(found) else { continue };
        recipient[0] = Value::Integer(row);
        let _ = insert.execute(rusqlite::params_from_iter(recipient));
    }
    Ok(())
}
