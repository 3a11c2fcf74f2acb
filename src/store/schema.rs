//! The database file: what is in it, which version it has, and how an older one becomes the present one.

use super::lock::LockError;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The database's file in the state directory.
pub const FILE: &str = "supervisor.db";

/// `PRAGMA application_id`: "SVIS". Tells our file from another program's.
const APPLICATION_ID: i32 = 0x5356_4953;

/// How long the writer waits for another process that holds the write lock. Nobody should (readers never do); a person
/// in the `sqlite3` shell may. Below the deadline of a commit, so that it shows as an error with a name.
const BUSY_TIMEOUT: Duration = Duration::from_millis(200);

/// The size that the write-ahead log is cut back to after a checkpoint: a storm's log does not stay on the disk. The
/// usual log is 4 MB (1000 pages, SQLite's own checkpoint interval).
const LOG_BYTES_KEPT: i64 = 16 << 20;

/// The first version that has an outbox.
pub(super) const OUTBOX_SINCE: i64 = 2;

/// The first version in which states are packed.
const PACKED_SINCE: i64 = 3;

/// The expression for the state of a row of `snapshot`, in a file that may be an older supervisor's, which still runs.
pub(super) fn state_of_snapshot(conn: &Connection) -> rusqlite::Result<&'static str> {
    Ok(if version(conn)? < PACKED_SINCE { "state" } else { "coalesce(packed, state)" })
}

/// How the file came to be what it is: entry `n` makes version `n + 1`. Entries that were released never change.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    -- What happened, and what followed. The columns are JSON; a record belongs to the clock (boot_id) of the newest
    -- snapshot before it.
    CREATE TABLE journal (
        seq     INTEGER PRIMARY KEY,
        boot_ms INTEGER NOT NULL,
        wall_ms INTEGER NOT NULL,
        event   TEXT NOT NULL,
        changes TEXT NOT NULL,
        actions TEXT NOT NULL,
        reasons TEXT NOT NULL
    ) STRICT;
    -- The settings as the core sees them: half of a state, and the same in most snapshots.
    CREATE TABLE policy (
        id   INTEGER PRIMARY KEY,
        text TEXT NOT NULL
    ) STRICT;
    -- The state after the record seq, without its policy. Each begins a segment: the records up to the next snapshot.
    CREATE TABLE snapshot (
        seq            INTEGER PRIMARY KEY,
        boot_id        TEXT NOT NULL,
        boot_ms        INTEGER NOT NULL,
        wall_ms        INTEGER NOT NULL,
        binary_version TEXT NOT NULL,
        policy         INTEGER NOT NULL,
        state          TEXT NOT NULL
    ) STRICT;
    -- Records that were decided and never stored. A snapshot follows each.
    CREATE TABLE gap (
        first_seq INTEGER PRIMARY KEY,
        last_seq  INTEGER NOT NULL,
        wall_ms   INTEGER NOT NULL,
        why       TEXT NOT NULL
    ) STRICT;
",
    "
    -- Mails, each to be sent once. A row is written with the record that decided it (seq; none when that record is not in
    -- the journal). A mail is known by its number and the moment of its decision: numbers begin anew when supervisor
    -- begins without this file, or with an older state than this file had. state: pending (not written yet), staged
    -- (message holds its bytes), done, dead, not_needed. The message is the last column, since what stands behind it is
    -- read through it.
    CREATE TABLE outbox (
        row        INTEGER PRIMARY KEY,
        id         INTEGER NOT NULL,
        decided_ms INTEGER NOT NULL,
        seq        INTEGER,
        mail       TEXT NOT NULL,
        state      TEXT NOT NULL,
        message_id TEXT,
        sender     TEXT,
        changed_ms INTEGER NOT NULL,
        message    BLOB,
        UNIQUE (id, decided_ms)
    ) STRICT;
    -- For the few that are open among the many that are not, and for the oldest of those.
    CREATE INDEX outbox_state ON outbox (state, changed_ms);
    -- How each recipient of a mail (outbox.row) stands: pending, accepted, deferred, ambiguous, dead.
    CREATE TABLE outbox_recipient (
        mail       INTEGER NOT NULL,
        address    TEXT NOT NULL,
        state      TEXT NOT NULL,
        relay      TEXT,
        reply      TEXT,
        attempts   INTEGER NOT NULL,
        next_ms    INTEGER,
        changed_ms INTEGER NOT NULL,
        PRIMARY KEY (mail, address)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- The state as compressed JSON (zlib); then the column state is empty. None: a snapshot from before, which has it there.
    ALTER TABLE snapshot ADD COLUMN packed BLOB;
",
];

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The state directory or its lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The id of this installation can be neither read nor kept.
    #[error(
        "the owner's id in {dir} cannot be read or kept: make the state directory writable for supervisor's user, on a disk that is not full"
    )]
    Owner {
        /// The state directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not writable.
    #[error("the store {path} cannot be written: make the state directory writable for supervisor's user")]
    ReadOnly {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// No room.
    #[error("the disk of the store {path} is full: make room; supervisor tries again by itself")]
    Full {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// Written by a newer supervisor.
    #[error(
        "the store {path} was made by a newer supervisor (schema {found}; this one knows {known}): run that version, or move the file away to begin with an empty store"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Another program's database.
    #[error("{path} is not a store of supervisor's: move it away, or set another state directory")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file system cannot share memory between processes, which SQLite's log needs.
    #[error(
        "the store {path} cannot have a write-ahead log (SQLite says {mode:?}): the state directory needs a local file system"
    )]
    NoLog {
        /// The database.
        path: PathBuf,
        /// The journal mode that SQLite fell back to.
        mode: String,
    },
    /// The content is damaged. [`Store::open`](super::Store::open) sets such a file aside; this remains when even that
    /// failed.
    #[error("the store {path} is damaged: move it away to begin with an empty store")]
    Damaged {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// A damaged file cannot be moved out of the way.
    #[error("the damaged store {path} cannot be set aside: move it away to begin with an empty store")]
    SetAside {
        /// The database.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Anything else.
    #[error("the store {path} does not work")]
    Database {
        /// The database.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// The disk does not answer.
    #[error("the disk of the state directory {dir} did not answer within {seconds} s")]
    Slow {
        /// The state directory.
        dir: PathBuf,
        /// The deadline.
        seconds: u64,
    },
    /// The system has no thread to spare.
    #[error("no thread for the store")]
    Thread {
        /// Why.
        source: io::Error,
    },
}

impl OpenError {
    /// Whether another supervisor runs on this state directory: then this one must end (exit code 69).
    pub fn is_already_running(&self) -> bool {
        matches!(self, OpenError::Lock(LockError::AlreadyRunning { .. }))
    }

    /// Sorts SQLite's error by what a person can do about it.
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> OpenError {
        let path = path.to_path_buf();
        // The log's index is the first thing that a full disk has no room for; SQLite calls that an I/O error.
        let no_index =
            |error: &rusqlite::ffi::Error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
        if source.sqlite_error().is_some_and(no_index) {
            return OpenError::Full { path, source };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                OpenError::ReadOnly { path, source }
            }
            Some(ErrorCode::DiskFull) => OpenError::Full { path, source },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => OpenError::Damaged { path, source },
            _ => OpenError::Database { path, source },
        }
    }
}

/// Whether the file's content is at fault: then trying again is in vain.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Opens the database for writing, makes it if it is missing, and brings it to the present version.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(|source| OpenError::of(path, source))?;
    identify(&conn, path)?;
    refuse_read_only(&conn).map_err(|source| OpenError::of(path, source))?;
    let mode = set_up(&conn).map_err(|source| OpenError::of(path, source))?;
    if mode != "wal" {
        return Err(OpenError::NoLog { path: path.to_path_buf(), mode });
    }
    migrate(&mut conn, MIGRATIONS).map_err(|source| OpenError::of(path, source))?;
    Ok(conn)
}

/// Refuses what is not ours to write, before a byte of it is changed.
pub(super) fn identify(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| {
        conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0))
            .map_err(|source| OpenError::of(path, source))
    };
    let (id, found, tables) = (number("application_id")?, number("user_version")?, number("schema_version")?);
    // A file that SQLite has just made, or that we were killed in the middle of making, has nothing in it.
    let empty = id == 0 && found == 0 && tables == 0;
    if id != i64::from(APPLICATION_ID) && !empty {
        return Err(OpenError::Foreign { path: path.to_path_buf() });
    }
    let known = version_of(MIGRATIONS);
    if found > known {
        return Err(OpenError::Newer { path: path.to_path_buf(), found, known });
    }
    Ok(())
}

/// SQLite opens a file that it may not write for reading, without a word.
fn refuse_read_only(conn: &Connection) -> rusqlite::Result<()> {
    if conn.is_readonly(rusqlite::MAIN_DB)? {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(rusqlite::Error::SqliteFailure(code, None));
    }
    Ok(())
}

/// Answers with the journal mode that SQLite settled for.
fn set_up(conn: &Connection) -> rusqlite::Result<String> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    let mode = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    conn.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES_KEPT, |_| Ok(()))?;
    // A damaged page is noticed when it is read, not two pages later.
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    Ok(mode)
}

/// Makes the steps that are missing, each in one transaction with its number: a step that was interrupted has not
/// happened (`PRAGMA user_version` is part of the transaction).
pub(super) fn migrate(conn: &mut Connection, migrations: &[&str]) -> rusqlite::Result<()> {
    conn.pragma_update(None, "synchronous", "FULL")?;
    let found = version(conn)?;
    for (step, version) in migrations.iter().zip(1..).skip_while(|(_, version)| *version <= found) {
        let tx = conn.transaction()?;
        tx.execute_batch(step)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    Ok(())
}

/// The version of the file.
pub(super) fn version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn version_of(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_store_is_brought_forward_with_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut conn = Connection::open(&path).unwrap();
        migrate(&mut conn, &MIGRATIONS[..1]).unwrap();
        conn.execute("INSERT INTO gap VALUES (3, 5, 1000, 'disk full')", []).unwrap();
        let next = [
            MIGRATIONS[0],
            "CREATE TABLE letter (id INTEGER PRIMARY KEY) STRICT; INSERT INTO letter VALUES (7);",
        ];
        migrate(&mut conn, &next).unwrap();
        assert_eq!(version(&conn).unwrap(), 2);
        let why: String = conn.query_row("SELECT why FROM gap", [], |row| row.get(0)).unwrap();
        assert_eq!(why, "disk full");
        // A second time there is nothing to do: the insert would fail.
        migrate(&mut conn, &next).unwrap();
    }

    #[test]
    fn a_step_that_fails_has_not_happened() {
        let mut conn = Connection::open_in_memory().unwrap();
        let broken =
            [MIGRATIONS[0], "CREATE TABLE half (id INTEGER) STRICT; CREATE TABLE gap (again INTEGER);"];
        migrate(&mut conn, &broken).unwrap_err();
        assert_eq!(version(&conn).unwrap(), 1);
        let halves: i64 = conn
            .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'half'", [], |row| row.get(0))
            .unwrap();
        assert_eq!(halves, 0);
    }

    #[test]
    fn a_newer_store_is_left_as_it_is_and_the_message_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        drop(open(&path).unwrap());
        Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 99, known: 3, .. }), "{error:?}");
        assert!(error.to_string().contains("move the file away"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn another_programs_database_is_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(open(&path), Err(OpenError::Foreign { .. })));
        Connection::open(&path).unwrap().pragma_update(None, "application_id", 1).unwrap();
        assert!(matches!(open(&path), Err(OpenError::Foreign { .. })));
    }
}
