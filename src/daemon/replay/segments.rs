//! Where a replay begins, where it begins anew, and what lies between: snapshots told apart by what they are for.
//!
//! Three kinds of snapshot look alike. The one that a process begins with has what it took over from the one before, moved
//! onto its clock and its settings; the one behind a gap has what nobody can replay; all others are only what the records
//! before them come to, and can be compared with it. A process begins with the events `store` (if that is news) and
//! `started`, so that a snapshot is known by what follows it.

use crate::domain::State;
use crate::store::{Gap, Item, Record, SnapshotInfo, StoredRecord, StoredSnapshot};

/// Why a replay begins with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// It is the first.
    First,
    /// A process began with it.
    Start,
    /// What is before it cannot be replayed up to it.
    Gap,
}

/// What cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its number.
    pub seq: u64,
    /// What it is: `snapshot` or `record`.
    pub what: &'static str,
    /// Why not, and who wrote it, where that is known.
    pub why: String,
}

/// One step of a replay.
#[derive(Debug)]
pub(super) enum Step {
    /// The state is this, from here on.
    Begin { state: Box<State>, info: SnapshotInfo, because: Because },
    /// The records up to here must come to this.
    Checkpoint(Box<StoredSnapshot>),
    /// A decision, and its bytes.
    Record(Box<Record>, Box<StoredRecord>),
    /// Records that are missing.
    Gap(Gap),
    /// Something that cannot be read.
    Unreadable(Unreadable),
}

/// Takes items in order and gives steps.
#[derive(Debug, Default)]
pub(super) struct Segments {
    /// The last number that is in the replayed state; none before the first snapshot, and behind what cannot be replayed.
    last: Option<u64>,
    /// Whether there was a snapshot.
    begun: bool,
    /// A snapshot of which it is not known yet what it is for, and the records behind it.
    held: Option<(Box<StoredSnapshot>, Vec<StoredRecord>)>,
    /// Records that were passed over, because no snapshot that can be read is before them.
    pub(super) skipped: u64,
}

/// As the event of a start is written.
const STARTED: &str = "\"started\"";

/// As the events about the store begin.
const STORE: &str = "{\"store\":";

impl Segments {
    /// What follows from one more item.
    pub(super) fn feed(&mut self, item: Item) -> Vec<Step> {
        let mut steps = Vec::new();
        match item {
            Item::Record(record) => match self.held.take() {
                Some((snapshot, mut behind)) => {
                    let may_start = behind.is_empty() && record.event.starts_with(STORE);
                    let starts = record.event == STARTED;
                    behind.push(*record);
                    if may_start && !starts {
                        self.held = Some((snapshot, behind));
                    } else {
                        self.settle(snapshot, behind, starts, &mut steps);
                    }
                }
                None => self.record(*record, &mut steps),
            },
            Item::Snapshot(snapshot) => {
                self.flush(&mut steps);
                self.held = Some((snapshot, Vec::new()));
            }
            Item::Gap(gap) => {
                self.flush(&mut steps);
                self.last = None;
                steps.push(Step::Gap(gap));
            }
            Item::Damaged { seq } => {
                self.flush(&mut steps);
                self.last = None;
                let why = "it is not even text".to_owned();
                steps.push(Step::Unreadable(Unreadable { seq, what: "record", why }));
            }
        }
        steps
    }

    /// What is left when no more items come.
    pub(super) fn end(&mut self) -> Vec<Step> {
        let mut steps = Vec::new();
        self.flush(&mut steps);
        steps
    }

    fn flush(&mut self, steps: &mut Vec<Step>) {
        if let Some((snapshot, behind)) = self.held.take() {
            self.settle(snapshot, behind, false, steps);
        }
    }

    /// Now it is known whether a process `starts` with the snapshot.
    fn settle(
        &mut self,
        snapshot: Box<StoredSnapshot>,
        behind: Vec<StoredRecord>,
        starts: bool,
        steps: &mut Vec<Step>,
    ) {
        let because = match (self.begun, self.last) {
            (false, _) => Some(Because::First),
            (true, last) if last != Some(snapshot.info.seq) => Some(Because::Gap),
            (true, _) if starts => Some(Because::Start),
            (true, _) => None,
        };
        match because {
            None => steps.push(Step::Checkpoint(snapshot)),
            Some(because) => match snapshot.read() {
                Ok(state) => {
                    self.begun = true;
                    self.last = Some(snapshot.info.seq);
                    steps.push(Step::Begin { state: Box::new(state), info: snapshot.info, because });
                }
                Err(error) => {
                    self.last = None;
                    let info = &snapshot.info;
                    let why = format!("by supervisor {}: {error}", info.binary_version);
                    steps.push(Step::Unreadable(Unreadable { seq: info.seq, what: "snapshot", why }));
                }
            },
        }
        behind.into_iter().for_each(|record| self.record(record, steps));
    }

    fn record(&mut self, stored: StoredRecord, steps: &mut Vec<Step>) {
        if self.last != Some(stored.seq.saturating_sub(1)) {
            self.skipped += 1;
            return;
        }
        match stored.read() {
            Ok(record) => {
                self.last = Some(stored.seq);
                steps.push(Step::Record(Box::new(record), Box::new(stored)));
            }
            Err(error) => {
                self.last = None;
                let unreadable = Unreadable { seq: stored.seq, what: "record", why: error.to_string() };
                steps.push(Step::Unreadable(unreadable));
            }
        }
    }
}
