//! One transition, as one line: what the journal, the API, the page and `supervisor events` show of it.

use super::mails::MailView;
use crate::domain::id::ServiceId;
use crate::domain::{Now, Reason};
use crate::present::{self, Level};
use serde::{Deserialize, Serialize};

/// One reason of one decision, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// The number of the decision in the journal.
    pub seq: u64,
    /// Which of its reasons, from 0.
    pub index: u32,
    /// When: RFC 3339, UTC.
    pub at: String,
    /// The reason's stable code.
    pub code: String,
    /// The service it is about, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceId>,
    /// How loudly it is logged.
    pub level: Level,
    /// What happened.
    pub words: String,
}

/// The body of `GET /api/v1/events`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventList {
    /// Oldest first.
    pub events: Vec<EventLine>,
}

/// Where past transitions and mails are read from.
pub trait EventSource: Send + Sync {
    /// At most `limit` lines, oldest first: the latest ones, or with `after` the first ones whose `seq` is greater. May
    /// block on the disk: it is called on a thread that may. The error is a sentence for the reader.
    fn tail(&self, limit: usize, after: Option<u64>) -> Result<Vec<EventLine>, String>;

    /// At most `limit` mails of the outbox, newest first. May block on the disk, too.
    fn mails(&self, limit: usize) -> Result<Vec<MailView>, String>;
}

impl EventLine {
    /// The lines of one decision.
    pub fn from_record(seq: u64, now: Now, reasons: &[Reason]) -> Vec<EventLine> {
        let line = |(index, reason): (u32, &Reason)| EventLine {
            seq,
            index,
            at: present::time(now.wall),
            code: reason.code().to_owned(),
            service: reason.service(),
            level: present::log_level(reason),
            words: present::reason(reason),
        };
        (0..).zip(reasons).map(line).collect()
    }
}
