//! The outbox: mails that are to be sent once, and how far each has come.
//!
//! ```text
//!   a record with a mail ──► pending ── stage ──► staged ── record ──► done | dead | not_needed
//!                            (same transaction)   (its bytes)  (each recipient: accepted, deferred, ambiguous, dead)
//! ```
//!
//! The writer writes it like everything else. [`Outbox`] is the sender's handle: it hands a request over and waits for its
//! commit, for [`Limits::mail_deadline`](super::Limits::mail_deadline) at most; then the sender goes on without the disk.
//! What a request asks for is stored all the same when the disk comes back, in the order in which it was asked for.
//!
//! # Why a mail is known by its number and its moment
//!
//! The core counts its mails in its state. Where the state is lost and the outbox is not, it counts them anew: when the loop
//! began without the disk and the disk comes back with mails of an earlier process in it, or when a damaged record makes
//! the next process begin with an older state. The journal's numbers are moved behind those in the file then (the writer's
//! `offset`). A mail's cannot be: the sender holds the ones of this process and of earlier ones at the same time, and the
//! core knows its own under the number it gave them. So a row's key is [`MailKey`], which every [`Mail`] carries in itself: the
//! number, and when it was decided. Two mails have the same one only if the wall clock was set back to the very
//! millisecond. Whoever makes a Message-ID must not make it of the number alone either.

pub(super) mod rows;
mod rules;

use super::queue::Shared;
use crate::domain::Wall;
use crate::domain::delivery::Mail;
pub use crate::domain::delivery::MailKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// How many bytes one request may have: four times the largest digest (256 KiB), and a tenth of what relays take.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;

/// How far a mail has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailState {
    /// Decided; its bytes are not stored.
    Pending,
    /// Its bytes are stored; some recipient's relay does not have it yet.
    Staged,
    /// Each recipient's relay has it.
    Done,
    /// For some recipients it is given up.
    Dead,
    /// An Alertmanager had its incidents before it was sent.
    NotNeeded,
}

/// How one recipient of a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecipientState {
    /// Not tried yet.
    Pending,
    /// The relay has it.
    Accepted,
    /// It is tried again.
    Deferred,
    /// The connection was lost when the relay may have had it already: it is tried again under the same Message-ID.
    Ambiguous,
    /// It is given up.
    Dead,
}

/// A mail is written: before anything connects, its bytes are stored, so that whatever is sent later is the same.
///
/// The row is made if it is missing, because the record that decided the mail was dropped or is in another file.
#[derive(Debug, Clone)]
pub struct Staging {
    /// The mail.
    pub mail: Mail,
    /// When it was written.
    pub at: Wall,
    /// Its Message-ID.
    pub message_id: String,
    /// The envelope's sender.
    pub sender: String,
    /// The complete message (RFC 5322).
    pub message: Vec<u8>,
    /// The envelope's recipients. One that is known already keeps its state.
    pub recipients: Vec<String>,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which mail.
    pub mail: MailKey,
    /// When.
    pub at: Wall,
    /// How the recipients stand that took part; the others stay as they are.
    pub recipients: Vec<RecipientOutcome>,
    /// How the mail stands. An open state (pending or staged) leaves it as it is: which of the two is a question of the
    /// bytes that are stored.
    pub state: MailState,
}

/// How one recipient stands after an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipientOutcome {
    /// The recipient.
    pub address: String,
    /// How it stands.
    pub state: RecipientState,
    /// The relay that was asked last.
    pub relay: Option<String>,
    /// What it said, or why it said nothing. Bounded by the room that sends.
    pub reply: Option<String>,
    /// How many attempts there were.
    pub attempts: u32,
    /// When it is tried again.
    pub next: Option<Wall>,
}

/// A mail as it stands in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxRow {
    /// Which.
    pub key: MailKey,
    /// The record that decided it; none when that is not in the journal.
    pub seq: Option<u64>,
    /// What it tells; none when that cannot be read.
    pub mail: Option<Mail>,
    /// How it stands.
    pub state: MailState,
    /// Its bytes, if they are stored: always in the state staged.
    pub staged: Option<Staged>,
    /// Its recipients, by address; none before it is staged or tried.
    pub recipients: Vec<RecipientRow>,
    /// When it last changed.
    pub changed: Wall,
}

/// What is sent.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Staged {
    /// Its Message-ID.
    pub message_id: String,
    /// The envelope's sender.
    pub sender: String,
    /// The complete message; not part of the row's JSON.
    #[serde(skip)]
    pub message: Vec<u8>,
}

/// A recipient as it stands in the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecipientRow {
    /// How it stands.
    #[serde(flatten)]
    pub outcome: RecipientOutcome,
    /// Since when.
    pub changed: Wall,
}

/// Why a request is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStored {
    /// The disk did not take it in time. It is stored when the disk does.
    #[error("the store did not take it within {} ms: {why}", deadline.as_millis())]
    Late {
        /// How long it was waited for.
        deadline: Duration,
        /// What is wrong with the store.
        why: String,
    },
    /// Too many requests wait for the disk. This one is not stored: if it is an outcome, hand it over again later, or the next
    /// start sends the mail once more.
    #[error("too many requests wait for the store: {why}")]
    Full {
        /// What is wrong with the store.
        why: String,
    },
    /// The store is closed, or its writer has ended.
    #[error("the store is closed")]
    Closed,
    /// It is larger than [`REQUEST_BYTES_MAX`].
    #[error("{bytes} bytes are more than the {REQUEST_BYTES_MAX} that the outbox takes at a time")]
    TooLarge {
        /// How large it is.
        bytes: usize,
    },
    /// There is no such mail in the file: its record was dropped, or the file is another one. Stage it (again).
    #[error("the outbox does not have this mail")]
    Unknown,
}

/// The sender's handle. Clones are the same outbox.
#[derive(Debug, Clone)]
pub struct Outbox {
    shared: Arc<Shared>,
}

impl MailState {
    /// As in the file, and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            MailState::Pending => "pending",
            MailState::Staged => "staged",
            MailState::Done => "done",
            MailState::Dead => "dead",
            MailState::NotNeeded => "not_needed",
        }
    }

    /// Whether something is still to be done for it.
    pub fn is_open(self) -> bool {
        match self {
            MailState::Pending | MailState::Staged => true,
            MailState::Done | MailState::Dead | MailState::NotNeeded => false,
        }
    }
}

impl RecipientState {
    /// As in the file, and for people.
    pub fn as_str(self) -> &'static str {
        match self {
            RecipientState::Pending => "pending",
            RecipientState::Accepted => "accepted",
            RecipientState::Deferred => "deferred",
            RecipientState::Ambiguous => "ambiguous",
            RecipientState::Dead => "dead",
        }
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Staged { message_id, sender, message } = self;
        f.debug_struct("Staged")
            .field("message_id", message_id)
            .field("sender", sender)
            .field("bytes", &message.len())
            .finish()
    }
}

impl Outbox {
    pub(super) fn new(shared: Arc<Shared>) -> Outbox {
        Outbox { shared }
    }

    /// Stores a mail's bytes and recipients. Once this is Ok, they outlive a power cut.
    ///
    /// # Errors
    ///
    /// When they do not for sure: the mail goes out nevertheless, marked "may duplicate".
    pub async fn stage(&self, staging: Staging) -> Result<(), NotStored> {
        self.hand_over(Work::Stage(Box::new(staging))).await
    }

    /// Stores what became of an attempt. Once this is Ok, it outlives a power cut.
    ///
    /// # Errors
    ///
    /// When it does not for sure: a start after a crash may then send the mail again.
    pub async fn record(&self, outcome: Outcome) -> Result<(), NotStored> {
        self.hand_over(Work::Record(outcome)).await
    }

    /// Dropped in the middle, or late, the request stays in the queue: what it says is true all the same.
    async fn hand_over(&self, work: Work) -> Result<(), NotStored> {
        let (answer, answered) = oneshot::channel();
        let request = Request { work, known: false, answer: Some(answer) };
        let bytes = request.bytes();
        if bytes > REQUEST_BYTES_MAX {
            return Err(NotStored::TooLarge { bytes });
        }
        self.shared.request(request)?;
        let deadline = self.shared.limits.mail_deadline;
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(verdict)) => verdict,
            // The writer ended without it.
            Ok(Err(_)) => Err(NotStored::Closed),
            Err(_) => {
                let why = self.shared.status().trouble;
                let why = why.unwrap_or_else(|| "it is busy".to_owned());
                Err(NotStored::Late { deadline, why })
            }
        }
    }
}

/// What is asked of the writer.
#[derive(Debug)]
enum Work {
    Stage(Box<Staging>),
    Record(Outcome),
}

/// What is asked of the writer, and who waits for it.
#[derive(Debug)]
pub(super) struct Request {
    work: Work,
    /// Whether the file has the mail, as far as the last transaction found.
    known: bool,
    /// None when it was refused.
    answer: Option<oneshot::Sender<Result<(), NotStored>>>,
}

impl Request {
    /// About how many there are.
    pub(super) fn bytes(&self) -> usize {
        match &self.work {
            Work::Stage(staging) => {
                let recipients: usize = staging.recipients.iter().map(String::len).sum();
                staging.message.len() + staging.message_id.len() + staging.sender.len() + recipients
            }
            Work::Record(outcome) => {
                let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
                let recipients = outcome.recipients.iter();
                recipients.map(|of| of.address.len() + text(&of.relay) + text(&of.reply)).sum()
            }
        }
    }

    /// Writes it. A transaction that failed may have been committed nevertheless: a second time changes nothing.
    pub(super) fn store(&mut self, conn: &rusqlite::Connection) -> rusqlite::Result<()> {
        self.known = match &self.work {
            Work::Stage(staging) => rows::stage(conn, staging).map(|()| true)?,
            Work::Record(outcome) => rows::record(conn, outcome)?,
        };
        Ok(())
    }

    /// It is committed. Whoever no longer waits has been told that it is late.
    pub(super) fn stored(self) {
        let verdict = if self.known { Ok(()) } else { Err(NotStored::Unknown) };
        if let Some(answer) = self.answer {
            let _ = answer.send(verdict);
        }
    }

    /// It will not be stored.
    pub(super) fn refuse(&mut self) {
        if let Some(answer) = self.answer.take() {
            let _ = answer.send(Err(NotStored::Closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::MailId;
    use crate::store::job::Job;

    #[test]
    fn what_the_sender_asks_for_outlives_a_power_cut() {
        let mail = MailKey { id: MailId(1), at: Wall(2) };
        let outcome = Outcome { mail, at: Wall(3), recipients: Vec::new(), state: MailState::Done };
        let request = Request { work: Work::Record(outcome), known: false, answer: None };
        assert!(Job::Outbox(request).outlives_power());
    }
}
