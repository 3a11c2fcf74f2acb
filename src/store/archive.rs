//! The journal as a file: JSON lines, to be kept, sent and replayed elsewhere.
//!
//! The first line says what it is and has the snapshot that a replay begins with; each further one is a record, another
//! snapshot, or what is missing. What is JSON in the store is the same JSON, byte for byte, in the file.

use super::history::{Item, StoredRecord, StoredSnapshot};
use super::reader::{Gap, SnapshotInfo};
use crate::domain::{Boot, Now, Wall};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fmt;
use std::io::{self, BufRead, Read, Write};

/// The version of the format: grows when a reader of before would misunderstand it.
pub const FORMAT: u32 = 1;

/// The longest line that is read: several times the state of 10,000 servers.
pub const LINE_MAX: u64 = 64 << 20;

/// Why a file cannot be read on. The words do not say where: whoever knows the file's name does.
#[derive(Debug)]
pub struct ArchiveError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub why: Why,
}

/// What can be wrong with a line.
#[derive(Debug)]
pub enum Why {
    /// It cannot be read at all.
    Read(io::Error),
    /// It has more than [`LINE_MAX`] bytes.
    TooLong,
    /// It is not what an export has there.
    Content(serde_json::Error),
    /// The first line is of a later format.
    Format(u32),
    /// There is nothing in it.
    Empty,
    /// Its number is not beyond the one before.
    Order {
        /// Its number.
        seq: u64,
        /// The one before.
        before: u64,
    },
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Read(_) => f.write_str("it cannot be read"),
            Why::TooLong => write!(f, "it has more than {} MiB", LINE_MAX >> 20),
            Why::Content(_) if self.line == 1 => {
                f.write_str("this is no export of a journal; `supervisor journal export` writes one")
            }
            Why::Content(_) => f.write_str("it is no line of an export, or is damaged"),
            Why::Format(format) => write!(
                f,
                "it has format {format} and was written by a newer supervisor; this one knows {FORMAT}"
            ),
            Why::Empty => f.write_str("there is nothing in it"),
            Why::Order { seq, before } => write!(f, "record {seq} comes after {before}"),
        }
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.why {
            Why::Read(error) => Some(error),
            Why::Content(error) => Some(error),
            Why::TooLong | Why::Format(_) | Why::Empty | Why::Order { .. } => None,
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    supervisor_journal: u32,
    version: String,
    snapshot: SnapshotLine,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Record(RecordLine),
    Snapshot(SnapshotLine),
    Gap(Gap),
    Damaged { seq: u64 },
}

#[derive(Serialize, Deserialize)]
struct RecordLine {
    seq: u64,
    boot_ms: i64,
    wall_ms: i64,
    event: Box<RawValue>,
    changes: Box<RawValue>,
    actions: Box<RawValue>,
    reasons: Box<RawValue>,
}

#[derive(Serialize, Deserialize)]
struct SnapshotLine {
    seq: u64,
    boot_ms: i64,
    wall_ms: i64,
    boot_id: String,
    binary_version: String,
    policy: Box<RawValue>,
    state: Box<RawValue>,
}

fn raw(text: String) -> serde_json::Result<Box<RawValue>> {
    RawValue::from_string(text)
}

impl SnapshotLine {
    fn of(snapshot: StoredSnapshot) -> serde_json::Result<SnapshotLine> {
        let StoredSnapshot { info, policy, state } = snapshot;
        Ok(SnapshotLine {
            seq: info.seq,
            boot_ms: info.at.boot.0,
            wall_ms: info.at.wall.0,
            boot_id: info.boot_id,
            binary_version: info.binary_version,
            policy: raw(policy)?,
            state: raw(state)?,
        })
    }

    fn stored(self) -> StoredSnapshot {
        let at = Now { boot: Boot(self.boot_ms), wall: Wall(self.wall_ms) };
        let (seq, boot_id, binary_version) = (self.seq, self.boot_id, self.binary_version);
        let info = SnapshotInfo { seq, at, boot_id, binary_version };
        StoredSnapshot { info, policy: self.policy.get().to_owned(), state: self.state.get().to_owned() }
    }
}

impl RecordLine {
    fn of(record: StoredRecord) -> serde_json::Result<RecordLine> {
        let StoredRecord { seq, now, event, changes, actions, reasons } = record;
        Ok(RecordLine {
            seq,
            boot_ms: now.boot.0,
            wall_ms: now.wall.0,
            event: raw(event)?,
            changes: raw(changes)?,
            actions: raw(actions)?,
            reasons: raw(reasons)?,
        })
    }

    fn stored(self) -> StoredRecord {
        StoredRecord {
            seq: self.seq,
            now: Now { boot: Boot(self.boot_ms), wall: Wall(self.wall_ms) },
            event: self.event.get().to_owned(),
            changes: self.changes.get().to_owned(),
            actions: self.actions.get().to_owned(),
            reasons: self.reasons.get().to_owned(),
        }
    }
}

/// Writes items as lines. The first one must be a snapshot.
#[derive(Debug)]
pub struct Exporter<W> {
    out: W,
    begun: bool,
}

impl<W: Write> Exporter<W> {
    /// Nothing is written before the first item.
    pub fn new(out: W) -> Exporter<W> {
        Exporter { out, begun: false }
    }

    /// Writes one item. A record or snapshot that is no JSON is written as damaged, or left out.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(&mut self, item: Item) -> io::Result<()> {
        let line = match item {
            Item::Snapshot(snapshot) => match SnapshotLine::of(*snapshot) {
                Ok(snapshot) if !self.begun => {
                    self.begun = true;
                    let version = env!("CARGO_PKG_VERSION").to_owned();
                    return self.line(&Header { supervisor_journal: FORMAT, version, snapshot });
                }
                Ok(snapshot) => Line::Snapshot(snapshot),
                Err(_) => return Ok(()),
            },
            Item::Record(record) => {
                let seq = record.seq;
                RecordLine::of(*record).map_or(Line::Damaged { seq }, Line::Record)
            }
            Item::Gap(gap) => Line::Gap(gap),
            Item::Damaged { seq } => Line::Damaged { seq },
        };
        // What cannot be replayed from a snapshot is not worth a line.
        if self.begun { self.line(&line) } else { Ok(()) }
    }

    /// Whether anything was written.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Nothing more comes.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

/// Reads what [`Exporter`] has written.
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    line: u64,
    /// The last number, of whatever.
    last: u64,
    held: Option<Item>,
    ended: bool,
}

impl<R: BufRead> Archive<R> {
    /// Reads the first line.
    ///
    /// # Errors
    ///
    /// When it is not the first line of an export, or of a format of later.
    pub fn open(input: R) -> Result<Archive<R>, ArchiveError> {
        #[derive(Deserialize)]
        struct Format {
            supervisor_journal: u32,
        }
        let mut archive = Archive { input, line: 0, last: 0, held: None, ended: false };
        let Some(text) = archive.text()? else { return Err(ArchiveError { line: 1, why: Why::Empty }) };
        let content = |error| ArchiveError { line: 1, why: Why::Content(error) };
        let Format { supervisor_journal } = serde_json::from_slice(&text).map_err(content)?;
        if supervisor_journal > FORMAT {
            return Err(ArchiveError { line: 1, why: Why::Format(supervisor_journal) });
        }
        let header: Header = serde_json::from_slice(&text).map_err(content)?;
        archive.last = header.snapshot.seq;
        archive.held = Some(Item::Snapshot(Box::new(header.snapshot.stored())));
        Ok(archive)
    }

    fn text(&mut self) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.line += 1;
        let line = self.line;
        let mut text = Vec::new();
        let mut bounded = (&mut self.input).take(LINE_MAX + 1);
        let read = bounded.read_until(b'\n', &mut text);
        read.map_err(|error| ArchiveError { line, why: Why::Read(error) })?;
        if text.len() as u64 > LINE_MAX {
            return Err(ArchiveError { line, why: Why::TooLong });
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn step(&mut self) -> Result<Option<Item>, ArchiveError> {
        if let Some(held) = self.held.take() {
            return Ok(Some(held));
        }
        let Some(text) = self.text()? else { return Ok(None) };
        let (line, before) = (self.line, self.last);
        let parsed = serde_json::from_slice(&text);
        let parsed: Line = parsed.map_err(|error| ArchiveError { line, why: Why::Content(error) })?;
        let ascending = |seq: u64, least: u64| {
            if seq >= least { Ok(seq) } else { Err(ArchiveError { line, why: Why::Order { seq, before } }) }
        };
        // A snapshot has the number of the record before it.
        self.last = match &parsed {
            Line::Record(record) => ascending(record.seq, before.saturating_add(1))?,
            Line::Damaged { seq } => ascending(*seq, before.saturating_add(1))?,
            Line::Gap(gap) => ascending(gap.last, before.saturating_add(1))?,
            Line::Snapshot(snapshot) => ascending(snapshot.seq, before)?,
        };
        let item = match parsed {
            Line::Record(record) => Item::Record(Box::new(record.stored())),
            Line::Damaged { seq } => Item::Damaged { seq },
            Line::Gap(gap) => Item::Gap(gap),
            Line::Snapshot(snapshot) => Item::Snapshot(Box::new(snapshot.stored())),
        };
        // Somebody may have cut lines out.
        let first = match &item {
            Item::Record(record) => record.seq,
            Item::Damaged { seq } => *seq,
            Item::Gap(gap) => gap.first,
            Item::Snapshot(snapshot) => snapshot.info.seq,
        };
        if first > before.saturating_add(1) {
            let why = "they are not in the file".to_owned();
            self.held = Some(item);
            return Ok(Some(Item::Gap(Gap { first: before + 1, last: first - 1, ended: Wall(0), why })));
        }
        Ok(Some(item))
    }
}

impl<R: BufRead> Iterator for Archive<R> {
    type Item = Result<Item, ArchiveError>;

    fn next(&mut self) -> Option<Result<Item, ArchiveError>> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}
