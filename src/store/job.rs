//! One thing to store, and how much of it there is.

use super::outbox::Request;
use super::{Record, journal};
use crate::domain::{Now, State};
use std::sync::Arc;

/// What a record weighs in bytes, for comparing other things with it.
const RECORD_BYTES: usize = 1024;

/// One thing to store.
#[derive(Debug)]
pub(super) enum Job {
    Records(Vec<Record>),
    Snapshot(Snapshot),
    Outbox(Request),
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
            Job::Snapshot(_) | Job::Outbox(_) => 0,
        }
    }

    pub(super) fn requests(&self) -> usize {
        match self {
            Job::Records(_) | Job::Snapshot(_) => 0,
            Job::Outbox(_) => 1,
        }
    }

    /// How much it adds to a transaction, in records. A snapshot is large, and there are never more than a few.
    pub(super) fn weight(&self) -> usize {
        match self {
            Job::Records(batch) => batch.len(),
            Job::Snapshot(_) => 0,
            Job::Outbox(request) => request.bytes().div_ceil(RECORD_BYTES),
        }
    }

    /// Whether a power cut must not undo it once it is committed.
    pub(super) fn outlives_power(&self) -> bool {
        match self {
            Job::Records(batch) => batch.iter().any(journal::outlives_power),
            Job::Snapshot(_) => false,
            Job::Outbox(_) => true,
        }
    }

    /// The lowest number in it; none where there are no numbers.
    pub(super) fn first_seq(&self) -> Option<u64> {
        match self {
            Job::Records(batch) => batch.first().map(|record| record.seq),
            Job::Snapshot(snapshot) => Some(snapshot.seq),
            Job::Outbox(_) => None,
        }
    }

    /// The highest number in it; none where there are no numbers.
    pub(super) fn last_seq(&self) -> Option<u64> {
        match self {
            Job::Records(batch) => batch.last().map(|record| record.seq),
            Job::Snapshot(snapshot) => Some(snapshot.seq),
            Job::Outbox(_) => None,
        }
    }

    /// It is committed: tells whoever waits for it.
    pub(super) fn stored(self) {
        match self {
            Job::Outbox(request) => request.stored(),
            Job::Records(_) | Job::Snapshot(_) => {}
        }
    }

    /// It will not be stored: tells whoever waits for it.
    pub(super) fn refuse(&mut self) {
        match self {
            Job::Outbox(request) => request.refuse(),
            Job::Records(_) | Job::Snapshot(_) => {}
        }
    }
}
