//! Reading back: the newest state that can be told, and what could not be read.
//!
//! The state is the newest snapshot that can be read, plus every later change up to the first that cannot: a state that
//! was true once is worth more than one that was patched together. A file that SQLite itself finds damaged is set aside
//! whole, so that supervisor has a store to write to; nothing is deleted but the file set aside before it. The mails in it
//! that were not sent go over into the new store.

use super::journal;
use super::outbox::rows;
use super::schema::{self, OpenError};
use crate::domain::{Boot, Change, Now, State, Wall};
use rusqlite::Connection;
use std::path::{Path, PathBuf};

/// How many snapshots are tried, newest first. If a day of them is unreadable, so is the rest.
const SNAPSHOTS_TRIED: i64 = 24;

/// How many records are applied to a snapshot at most: several times what a segment of the default size holds, and a few
/// seconds of work.
const RECORDS_APPLIED: usize = 200_000;

/// What a damaged database is renamed to, plus SQLite's suffixes. One of them is kept: a disk that damages a store every
/// day must not fill up with them.
const DAMAGED_SUFFIX: &str = ".damaged";

/// The state as it was last stored.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The state, on the clock of `boot_id`.
    pub state: State,
    /// When it last changed.
    pub at: Now,
    /// The boot that `at` and the state's moments belong to.
    pub boot_id: String,
    /// The last record in it.
    pub seq: u64,
}

/// Something that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A snapshot; an older one was used.
    #[error("the snapshot {seq}, by supervisor {binary_version}, cannot be read: an older one is used")]
    Snapshot {
        /// Its number.
        seq: u64,
        /// Who wrote it: perhaps a newer version.
        binary_version: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A record; what came later is not in the state.
    #[error("the record {seq} cannot be read: the state is that of the record {last_good}")]
    Record {
        /// Its number.
        seq: u64,
        /// The last one in the state.
        last_good: u64,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Records are missing where none should; what came later is not in the state.
    #[error(
        "records are missing between {last_good} and {next}: the state is that of the record {last_good}"
    )]
    Hole {
        /// The last one in the state.
        last_good: u64,
        /// The next one there is.
        next: u64,
    },
    /// Too many records since the last snapshot.
    #[error(
        "more than {RECORDS_APPLIED} records since the last snapshot: the state is that of the record {last_good}"
    )]
    TooMany {
        /// The last one in the state.
        last_good: u64,
    },
    /// The database as such.
    #[error("the store was damaged and is set aside as {kept}: what could be read of it is used")]
    File {
        /// Where it is now.
        kept: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
}

/// A stored state while it is read, record by record, up to the first that cannot be. Pure: what is read from the file goes
/// through it, and what the simulated world's disk has.
#[derive(Debug)]
pub struct Reading {
    stored: Stored,
    applied: usize,
}

impl Reading {
    /// Begins with a snapshot.
    pub fn new(snapshot: Stored) -> Reading {
        Reading { stored: snapshot, applied: 0 }
    }

    /// Whether the record `seq` is the next one.
    ///
    /// # Errors
    ///
    /// Why nothing is read behind the last one.
    pub fn follows(&self, seq: u64) -> Result<(), Damage> {
        let last_good = self.stored.seq;
        if seq != last_good + 1 {
            return Err(Damage::Hole { last_good, next: seq });
        }
        if self.applied >= RECORDS_APPLIED {
            return Err(Damage::TooMany { last_good });
        }
        Ok(())
    }

    /// What follows belongs to the boot `boot_id`, which began at `at`.
    fn move_to(&mut self, boot_id: String, at: Now) {
        if boot_id != self.stored.boot_id {
            self.stored.state.shift_clock(self.stored.at, at);
            self.stored.boot_id = boot_id;
        }
    }

    /// The record `seq`, decided at `at`, is part of it.
    pub fn go_on(&mut self, seq: u64, at: Now, changes: &[Change]) {
        self.stored.state.apply(changes);
        (self.stored.at, self.stored.seq) = (at, seq);
        self.applied += 1;
    }

    /// The record `seq` cannot be read: nothing behind it is.
    pub fn unreadable(&self, seq: u64, source: serde_json::Error) -> Damage {
        Damage::Record { seq, last_good: self.stored.seq, source }
    }

    /// What there is so far.
    pub fn stored(&self) -> &Stored {
        &self.stored
    }

    /// What there is in the end.
    pub fn end(self) -> Stored {
        self.stored
    }
}

/// What was found in the database.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) stored: Option<Stored>,
    /// The highest number in use.
    pub(super) tip: u64,
    pub(super) damage: Vec<Damage>,
}

impl Stored {
    /// The state on the clock of the boot `boot_id`, at `now`. After a reboot every moment keeps its distance, counted
    /// from when the state last changed: what had 40 s left has 40 s left.
    pub fn on_boot(mut self, boot_id: &str, now: Now) -> State {
        if self.boot_id != boot_id {
            self.state.shift_clock(self.at, now);
        }
        self.state
    }
}

/// Opens the database in `dir` and reads it. A damaged file is set aside, and an empty one begun.
pub(super) fn open(dir: &Path) -> Result<(Connection, Found), OpenError> {
    let path = dir.join(schema::FILE);
    let mut found = Found::default();
    let broken = match schema::open(&path) {
        Ok(conn) => match read(&conn, &mut found).and_then(|()| rows::check(&conn)) {
            Ok(()) => return Ok((conn, found)),
            Err(source) if schema::is_damage(&source) => source,
            Err(source) => return Err(OpenError::of(&path, source)),
        },
        Err(OpenError::Damaged { source, .. }) => source,
        Err(error) => return Err(error),
    };
    let kept = set_aside(&path)?;
    let tip = found.stored.as_ref().map_or(0, |stored| stored.seq);
    found.tip = found.tip.max(tip);
    let mut conn = schema::open(&path)?;
    rows::rescue(&kept, &mut conn);
    found.damage.push(Damage::File { kept, source: broken });
    Ok((conn, found))
}

/// Moves the database out of the way, with its log; answers with its new path.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, OpenError> {
    let with = |path: &Path, suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let kept = with(path, DAMAGED_SUFFIX);
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (with(path, suffix), with(&kept, suffix));
        // An old log must not be taken for the new file's.
        let _ = std::fs::remove_file(&to);
        match std::fs::rename(&from, &to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::SetAside { path: path.to_path_buf(), source: error });
            }
            _ => {}
        }
    }
    Ok(kept)
}

/// Reads into `found` as far as it goes; an error is SQLite's, and leaves what was found before it.
pub(super) fn read(conn: &Connection, found: &mut Found) -> rusqlite::Result<()> {
    let tip = journal::tip(conn);
    found.tip = *tip.as_ref().unwrap_or(&0);
    let state = schema::state_of_snapshot(conn)?;
    let mut snapshots = conn.prepare(&format!(
        "SELECT seq, boot_id, boot_ms, wall_ms, binary_version, {state},
             coalesce((SELECT text FROM policy WHERE id = snapshot.policy), '')
         FROM snapshot ORDER BY seq DESC LIMIT ?"
    ))?;
    let mut rows = snapshots.query([SNAPSHOTS_TRIED])?;
    // The snapshots that cannot be read, as far as their clocks matter: oldest last.
    let mut skipped: Vec<Boundary> = Vec::new();
    while let Some(row) = rows.next()? {
        let boundary = Boundary {
            seq: journal::from_sql(row.get(0)?),
            boot_id: journal::read_text(row, 1)?,
            at: Now { boot: Boot(row.get(2)?), wall: Wall(row.get(3)?) },
        };
        match journal::read_state(row, 5, 6)? {
            Ok(state) => {
                let Boundary { seq, boot_id, at } = boundary;
                let mut reading = Reading::new(Stored { state, at, boot_id, seq });
                let read = apply_later(conn, &mut reading, skipped, &mut found.damage);
                found.stored = Some(reading.end());
                read?;
                break;
            }
            Err(source) => {
                let damage = Damage::Snapshot {
                    seq: boundary.seq,
                    binary_version: journal::read_text(row, 4)?,
                    source,
                };
                found.damage.push(damage);
                skipped.push(boundary);
            }
        }
    }
    tip.map(|_| ())
}

/// Where another clock may begin.
struct Boundary {
    seq: u64,
    boot_id: String,
    at: Now,
}

fn apply_later(
    conn: &Connection,
    reading: &mut Reading,
    mut skipped: Vec<Boundary>,
    damage: &mut Vec<Damage>,
) -> rusqlite::Result<()> {
    let mut later =
        conn.prepare("SELECT seq, boot_ms, wall_ms, changes FROM journal WHERE seq > ? ORDER BY seq")?;
    let mut rows = later.query([journal::to_sql(reading.stored.seq)])?;
    while let Some(row) = rows.next()? {
        let seq = journal::from_sql(row.get(0)?);
        if let Err(ends) = reading.follows(seq) {
            damage.push(ends);
            break;
        }
        match serde_json::from_slice::<Vec<Change>>(row.get_ref(3)?.as_bytes()?) {
            Ok(changes) => {
                while let Some(boundary) = skipped.pop_if(|boundary| boundary.seq < seq) {
                    reading.move_to(boundary.boot_id, boundary.at);
                }
                let at = Now { boot: Boot(row.get(1)?), wall: Wall(row.get(2)?) };
                reading.go_on(seq, at, &changes);
            }
            Err(source) => {
                damage.push(reading.unreadable(seq, source));
                break;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::World as Tested;

    fn reading() -> Reading {
        let state = Tested::running().state;
        let at = Now { boot: Boot(0), wall: Wall(0) };
        Reading::new(Stored { state, at, boot_id: "boot-1".to_owned(), seq: 7 })
    }

    #[test]
    fn a_record_that_does_not_follow_the_last_one_ends_it() {
        let mut reading = reading();
        assert!(reading.follows(8).is_ok());
        reading.go_on(8, Now { boot: Boot(5), wall: Wall(6) }, &[]);
        assert_eq!((reading.stored().seq, reading.stored().at.boot), (8, Boot(5)));
        assert!(matches!(reading.follows(10), Err(Damage::Hole { last_good: 8, next: 10 })));
        assert!(matches!(reading.follows(8), Err(Damage::Hole { last_good: 8, next: 8 })));
    }

    #[test]
    fn too_many_records_end_it() {
        let mut reading = Reading { applied: RECORDS_APPLIED, ..reading() };
        assert!(matches!(reading.follows(8), Err(Damage::TooMany { last_good: 7 })));
        reading.applied -= 1;
        assert!(reading.follows(8).is_ok());
    }
}
