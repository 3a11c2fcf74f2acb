//! The journal in order, as a replay goes through it: snapshots, records and what is missing, with the bytes as they are stored.

use super::reader::{Gap, ReadError, Reader, SnapshotInfo};
use super::{Record, journal};
use crate::domain::{Boot, Decision, Now, State, Wall};
use rusqlite::Row;
use std::collections::VecDeque;
use std::iter::FusedIterator;

/// One thing of the journal.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// The state after the record of the same number. A replay can begin here.
    Snapshot(Box<StoredSnapshot>),
    /// A record.
    Record(Box<StoredRecord>),
    /// Records that are missing; a snapshot follows before the next one that can be replayed.
    Gap(Gap),
    /// A record that cannot be read: it is not even text.
    Damaged {
        /// Its number.
        seq: u64,
    },
}

/// A record as it is stored: its parts are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its number.
    pub seq: u64,
    /// When it was decided.
    pub now: Now,
    /// What happened.
    pub event: String,
    /// The decision's changes.
    pub changes: String,
    /// Its actions.
    pub actions: String,
    /// Its reasons.
    pub reasons: String,
}

/// A snapshot as it is stored: its parts are JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSnapshot {
    /// Its label.
    pub info: SnapshotInfo,
    /// The settings as the core sees them.
    pub policy: String,
    /// The state without them.
    pub state: String,
}

impl StoredRecord {
    /// What the bytes mean.
    ///
    /// # Errors
    ///
    /// Of the content: written by another version, or damaged.
    pub fn read(&self) -> Result<Record, serde_json::Error> {
        let decision = Decision {
            changes: serde_json::from_str(&self.changes)?,
            actions: serde_json::from_str(&self.actions)?,
            reasons: serde_json::from_str(&self.reasons)?,
        };
        Ok(Record { seq: self.seq, now: self.now, event: serde_json::from_str(&self.event)?, decision })
    }
}

impl StoredSnapshot {
    /// What the bytes mean.
    ///
    /// # Errors
    ///
    /// Of the content: written by another version, or damaged.
    pub fn read(&self) -> Result<State, serde_json::Error> {
        journal::state_of(self.state.as_bytes(), self.policy.as_bytes())
    }
}

/// What is asked for at a time: about 1 MB of records.
const PAGE: usize = super::PAGE_RECORDS;

/// The journal of a store from one snapshot on. Each page is a short transaction of its own: a writer beside it is not held
/// up, and what it drops meanwhile shows as a gap.
#[derive(Debug)]
pub struct History {
    reader: Reader,
    /// Of the records, all up to this one were given.
    at: u64,
    /// What was read and not given yet. Of snapshots only the number: one state may have megabytes.
    found: VecDeque<Found>,
    /// The next number that is not known to be on a page.
    unread: u64,
    /// The snapshots up to this one are in `found` or were given; none: not even the first.
    snapshots_to: Option<u64>,
    ended: bool,
}

#[derive(Debug)]
enum Found {
    Snapshot(SnapshotInfo),
    Record(Result<Box<StoredRecord>, u64>),
    Gap(Gap),
}

impl History {
    /// From the newest snapshot that was made at `since` or before, or from the oldest there is; none: the store has none.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn open(reader: Reader, since: Option<Wall>) -> Result<Option<History>, ReadError> {
        let snapshots = reader.snapshots()?;
        let before = |info: &&SnapshotInfo| since.is_some_and(|since| info.at.wall <= since);
        let Some(first) = snapshots.iter().find(before).or(snapshots.last()) else { return Ok(None) };
        let at = first.seq;
        Ok(Some(History { reader, at, found: VecDeque::new(), unread: at, snapshots_to: None, ended: false }))
    }

    /// The next page, in order.
    fn fill(&mut self) -> Result<(), ReadError> {
        let moment = self.reader.moment()?;
        let (records, end) = self.reader.stored(self.unread, PAGE)?;
        let gaps = self.reader.gaps(self.unread, end)?;
        let mut snapshots: VecDeque<SnapshotInfo> = self.reader.snapshots()?.into_iter().rev().collect();
        drop(moment);
        snapshots.retain(|info| self.snapshots_to.map_or(info.seq >= self.at, |to| info.seq > to));
        // Behind the last record there may be the snapshot that is to close a gap; the page after the last has what is left.
        let whole = records.len() < PAGE;
        if !whole {
            snapshots.retain(|info| info.seq <= end);
        }
        let mut gaps: VecDeque<Gap> = gaps.into();
        let mut expected = self.unread + 1;
        for row in records {
            let seq = match &row {
                Ok(record) => record.seq,
                Err(seq) => *seq,
            };
            self.before(seq, &mut expected, &mut gaps, &mut snapshots);
            self.found.push_back(Found::Record(row));
            expected = seq + 1;
        }
        if whole {
            self.before(u64::MAX, &mut expected, &mut gaps, &mut snapshots);
        } else {
            self.before(end + 1, &mut expected, &mut gaps, &mut snapshots);
        }
        self.ended = whole;
        self.unread = end.max(expected - 1);
        Ok(())
    }

    /// What lies before the record `seq`: gaps that are on record, snapshots, and the hole that is left, if one is.
    fn before(
        &mut self,
        seq: u64,
        expected: &mut u64,
        gaps: &mut VecDeque<Gap>,
        snapshots: &mut VecDeque<SnapshotInfo>,
    ) {
        loop {
            let gap = gaps.front().filter(|gap| gap.first < seq).map(|gap| gap.first);
            let snapshot = snapshots.front().filter(|info| info.seq < seq).map(|info| info.seq);
            match (gap, snapshot) {
                // A gap comes before the snapshot that closes it.
                (Some(first), at) if at.is_none_or(|at| first <= at) => {
                    if let Some(gap) = gaps.pop_front().filter(|gap| gap.last >= *expected) {
                        *expected = gap.last + 1;
                        self.found.push_back(Found::Gap(gap));
                    }
                }
                (_, Some(at)) => {
                    if let Some(info) = snapshots.pop_front() {
                        if at >= *expected {
                            self.hole(*expected, at, info.at.wall);
                            *expected = at + 1;
                        }
                        self.snapshots_to = Some(at);
                        self.found.push_back(Found::Snapshot(info));
                    }
                }
                (Some(_) | None, None) => break,
            }
        }
        if seq != u64::MAX && seq > *expected {
            self.hole(*expected, seq - 1, Wall(0));
        }
    }

    fn hole(&mut self, first: u64, last: u64, ended: Wall) {
        let why = "they are not in the store".to_owned();
        self.found.push_back(Found::Gap(Gap { first, last, ended, why }));
    }

    fn step(&mut self) -> Result<Option<Item>, ReadError> {
        loop {
            let Some(found) = self.found.pop_front() else {
                if self.ended {
                    return Ok(None);
                }
                self.fill()?;
                continue;
            };
            match found {
                Found::Record(Ok(record)) => {
                    self.at = record.seq;
                    return Ok(Some(Item::Record(record)));
                }
                Found::Record(Err(seq)) => {
                    self.at = seq;
                    return Ok(Some(Item::Damaged { seq }));
                }
                Found::Gap(gap) => {
                    self.at = gap.last;
                    return Ok(Some(Item::Gap(gap)));
                }
                // One that was dropped since goes with the records before it.
                Found::Snapshot(info) => {
                    if let Some(snapshot) = self.reader.stored_snapshot(info)? {
                        return Ok(Some(Item::Snapshot(Box::new(snapshot))));
                    }
                }
            }
        }
    }
}

impl Iterator for History {
    type Item = Result<Item, ReadError>;

    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        let step = self.step();
        if !matches!(step, Ok(Some(_))) {
            self.ended = true;
            self.found.clear();
        }
        step.transpose()
    }
}

impl FusedIterator for History {}

/// A row of the journal: `seq, boot_ms, wall_ms, event, changes, actions, reasons`. The outer error is SQLite's; the inner
/// one is the number of a row that is not text.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Result<Box<StoredRecord>, u64>> {
    let seq = journal::from_sql(row.get(0)?);
    let now = Now { boot: Boot(row.get(1)?), wall: Wall(row.get(2)?) };
    let mut texts = Vec::with_capacity(4);
    for column in 3..7 {
        match std::str::from_utf8(row.get_ref(column)?.as_bytes()?) {
            Ok(text) => texts.push(text.to_owned()),
            Err(_) => return Ok(Err(seq)),
        }
    }
    let Ok([event, changes, actions, reasons]) = <[String; 4]>::try_from(texts) else { return Ok(Err(seq)) };
    Ok(Ok(Box::new(StoredRecord { seq, now, event, changes, actions, reasons })))
}
