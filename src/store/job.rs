//! One thing to store, and how much of it there is.

use super::Record;
use crate::domain::{Now, State};
use std::sync::Arc;

/// One thing to store.
#[derive(Debug)]
pub(super) enum Job {
    Records(Vec<Record>),
    Snapshot(Snapshot),
}

/// The state after the record `seq`.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) seq: u64,
    pub(super) now: Now,
    pub(super) state: Arc<State>,
}

impl Job {
    pub(super) fn records(&self) -> usize {
        match self {
            Job::Records(batch) => batch.len(),
            Job::Snapshot(_) => 0,
        }
    }

    /// The lowest number in it.
    pub(super) fn first_seq(&self) -> u64 {
        match self {
            Job::Records(batch) => batch.first().map_or(0, |record| record.seq),
            Job::Snapshot(snapshot) => snapshot.seq,
        }
    }

    /// The highest number in it.
    pub(super) fn last_seq(&self) -> u64 {
        match self {
            Job::Records(batch) => batch.last().map_or(0, |record| record.seq),
            Job::Snapshot(snapshot) => snapshot.seq,
        }
    }
}
