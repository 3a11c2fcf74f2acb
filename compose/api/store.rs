//! The service's own store: items, and the ids of the changes that were made, in one SQLite file.
//!
//! A change and the note that it was made commit together, so a process that is killed between the two cannot
//! exist, and a request that a client repeated after a crash is still recognised. Every call has a deadline;
//! nothing here waits on a caller's task.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde::Serialize;

/// The longest a caller waits for the store. A healthy SQLite answers in well under a millisecond; a probe that
/// waits longer than this has timed out already.
const DEADLINE: Duration = Duration::from_secs(2);

/// How long SQLite waits for a lock of another process: less than [`DEADLINE`], so that its message arrives.
const LOCK_WAIT: Duration = Duration::from_millis(500);

/// Items kept at most: the demo's volume must not grow without end.
const MAX_ITEMS: i64 = 10_000;

/// Change ids remembered: five minutes of 200 changes a second, which is longer than any run of the bench.
const REMEMBERED_IDS: i64 = 65_536;

/// Repeated ids named in one answer. A single one is a finding; the count tells the rest.
const MAX_REPEATED_SHOWN: i64 = 1_000;

/// Something a client stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Item {
    /// Its number, given by the store, never used twice.
    pub(crate) id: i64,
    /// What the client called it.
    pub(crate) name: String,
}

/// What the store knows about the changes it made.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Changes {
    /// Changes whose id is remembered.
    pub(crate) identified: i64,
    /// Ids dropped because there were too many; while it is 0 `repeated` is complete.
    pub(crate) forgotten: i64,
    /// How many ids were executed more than once.
    pub(crate) repeated_count: i64,
    /// Those ids, the oldest first, at most a thousand.
    pub(crate) repeated: Vec<String>,
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The file could not be opened or prepared.
    #[error("open the store {path}: the directory of --data must exist and be writable")]
    Open {
        /// The file.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite refused.
    #[error("the store refused: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The disk or a lock held the call for too long.
    #[error("the store did not answer within {} s", DEADLINE.as_secs())]
    Late,
    /// No room for another item.
    #[error("the store holds {MAX_ITEMS} items already: delete some first")]
    Full,
    /// The thread that did the work panicked.
    #[error("the store's thread ended early")]
    Lost,
}

/// A handle to the store; clones share one connection.
#[derive(Clone)]
pub(crate) struct Store {
    connection: Arc<Mutex<Connection>>,
    remembered_ids: i64,
}

impl Store {
    /// Opens or creates `items.db` in `directory`.
    pub(crate) fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_remembering(directory, REMEMBERED_IDS)
    }

    /// The same with another bound on remembered ids, for the test of that bound.
    pub(crate) fn open_remembering(directory: &Path, remembered_ids: i64) -> Result<Self, StoreError> {
        let path = directory.join("items.db");
        let connection =
            prepare(&path).map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)), remembered_ids })
    }

    /// Proves that the store can write and read: returns how often it did.
    pub(crate) async fn check(&self) -> Result<i64, StoreError> {
        self.run(|tx, _| {
            tx.execute("UPDATE health SET checks = checks + 1", [])?;
            Ok(tx.query_row("SELECT checks FROM health", [], |row| row.get(0))?)
        })
        .await
    }

    /// The newest items, at most `limit`.
    pub(crate) async fn list(&self, limit: u16) -> Result<Vec<Item>, StoreError> {
        self.run(move |tx, _| {
            let mut statement = tx.prepare_cached("SELECT id, name FROM items ORDER BY id DESC LIMIT ?1")?;
            let items = statement.query_map([limit], item)?.collect::<Result<_, _>>()?;
            Ok(items)
        })
        .await
    }

    /// One item.
    pub(crate) async fn get(&self, id: i64) -> Result<Option<Item>, StoreError> {
        self.run(move |tx, _| {
            let mut statement = tx.prepare_cached("SELECT id, name FROM items WHERE id = ?1")?;
            Ok(statement.query_row([id], item).optional()?)
        })
        .await
    }

    /// Stores a new item and notes the id of the request that asked for it.
    pub(crate) async fn create(&self, name: String, request: Option<String>) -> Result<Item, StoreError> {
        self.run(move |tx, remembered| {
            if count(tx)? >= MAX_ITEMS {
                return Err(StoreError::Full);
            }
            tx.execute("INSERT INTO items (name) VALUES (?1)", [&name])?;
            let id = tx.last_insert_rowid();
            note(tx, request.as_deref(), remembered)?;
            Ok(Item { id, name })
        })
        .await
    }

    /// Deletes an item; says whether there was one. Noted in either case: it was executed.
    pub(crate) async fn delete(&self, id: i64, request: Option<String>) -> Result<bool, StoreError> {
        self.run(move |tx, remembered| {
            let deleted = tx.execute("DELETE FROM items WHERE id = ?1", [id])?;
            note(tx, request.as_deref(), remembered)?;
            Ok(deleted > 0)
        })
        .await
    }

    /// How many items there are.
    pub(crate) async fn count(&self) -> Result<i64, StoreError> {
        self.run(|tx, _| count(tx)).await
    }

    /// What is known about the changes, also from before the process last started.
    pub(crate) async fn changes(&self) -> Result<Changes, StoreError> {
        self.run(|tx, _| {
            let (identified, forgotten) =
                tx.query_row("SELECT count(*), coalesce(min(seq) - 1, 0) FROM executed", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })?;
            let repeated_count =
                tx.query_row("SELECT count(*) FROM executed WHERE times > 1", [], |row| row.get(0))?;
            let repeated = tx
                .prepare_cached("SELECT id FROM executed WHERE times > 1 ORDER BY seq LIMIT ?1")?
                .query_map([MAX_REPEATED_SHOWN], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(Changes { identified, forgotten, repeated_count, repeated })
        })
        .await
    }

    /// Every remembered id with how often it was executed, the oldest first: by the lists of two sites one sees
    /// a request that both of them executed.
    pub(crate) async fn changed_ids(&self) -> Result<Vec<(String, i64)>, StoreError> {
        self.run(|tx, _| {
            let mut statement = tx.prepare_cached("SELECT id, times FROM executed ORDER BY seq")?;
            let ids =
                statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
            Ok(ids)
        })
        .await
    }

    /// Runs `work` in one transaction on a thread of its own and commits it.
    ///
    /// When the deadline passes the caller leaves; the thread goes on and may still commit, exactly like a
    /// service whose client gave up.
    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>, i64) -> Result<T, StoreError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let remembered = self.remembered_ids;
        let task = tokio::task::spawn_blocking(move || {
            // A panic under the lock rolled its transaction back: the connection is as good as before.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            // Deferred: a transaction that only reads takes no write lock.
            let tx = connection.transaction_with_behavior(TransactionBehavior::Deferred)?;
            let outcome = work(&tx, remembered)?;
            tx.commit()?;
            Ok(outcome)
        });
        match tokio::time::timeout(DEADLINE, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StoreError::Lost),
            Err(_) => Err(StoreError::Late),
        }
    }
}

fn prepare(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(LOCK_WAIT)?;
    // With WAL and NORMAL a commit survives the death of the process without an fsync for each.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS items (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL) STRICT;
         CREATE TABLE IF NOT EXISTS executed (
             seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, times INTEGER NOT NULL
         ) STRICT;
         CREATE TABLE IF NOT EXISTS health (one INTEGER PRIMARY KEY CHECK (one = 1), checks INTEGER NOT NULL) STRICT;
         INSERT OR IGNORE INTO health VALUES (1, 0);",
    )?;
    Ok(connection)
}

fn item(row: &rusqlite::Row<'_>) -> Result<Item, rusqlite::Error> {
    Ok(Item { id: row.get(0)?, name: row.get(1)? })
}

fn count(tx: &Transaction<'_>) -> Result<i64, StoreError> {
    Ok(tx.query_row("SELECT count(*) FROM items", [], |row| row.get(0))?)
}

/// Notes that the change of request `id` was executed once more.
fn note(tx: &Transaction<'_>, id: Option<&str>, remembered: i64) -> Result<(), StoreError> {
    let Some(id) = id else { return Ok(()) };
    tx.execute(
        "INSERT INTO executed (id, times) VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1",
        [id],
    )?;
    tx.execute(
        "DELETE FROM executed WHERE seq <= (SELECT max(seq) FROM executed) - ?1",
        params![remembered],
    )?;
    Ok(())
}
