//! Between the sender's words and the store's: what the outbox keeps of a mail, and what a sender finds in it. Pure.

use crate::alert::{Fated, Kept, Left, Parcel, Recorded, Staged, Standing};
use crate::domain::State;
use crate::domain::delivery::{Mail, MailKey, Telling};
use crate::domain::event::{MailEnd, Mailed};
use crate::domain::time::Wall;
use crate::store::{MailState, OutboxRow, Outcome, RecipientOutcome, RecipientState, Staging};
use std::collections::BTreeSet;

/// The mails of which the core does not know what became.
pub fn on_their_way(state: &State) -> BTreeSet<MailKey> {
    let mails = state.incidents.values().filter_map(|incident| match incident.telling {
        Telling::ByMail { mail, again: None, .. } => Some(mail),
        Telling::ByMail { again: Some(_), .. }
        | Telling::Pending { .. }
        | Telling::Stored { .. }
        | Telling::ByAlertmanager
        | Telling::Over { .. } => None,
    });
    mails.collect()
}

/// What the next sender begins with: the rows that are `open`, and the ends of those mails of `on_their_way` that are not. `all`:
/// the rows in which those are looked for.
pub fn left(open: Vec<OutboxRow>, all: &[OutboxRow], on_their_way: BTreeSet<MailKey>) -> Left {
    let is_open = |mail: &MailKey| open.iter().any(|row| row.key == *mail);
    let ended = on_their_way.into_iter().filter(|mail| !is_open(mail)).map(|mail| {
        let row = all.iter().find(|row| row.key == mail);
        Mailed { mail, end: row.map_or_else(lost, ended) }
    });
    let ended = ended.collect();
    Left { open: open.into_iter().filter_map(resumed).collect(), ended }
}

/// A mail's bytes, as the store takes them.
pub fn staging(mail: Mail, staged: Staged, at: Wall) -> Staging {
    let Staged { message_id, sender, bytes: message, recipients } = staged;
    Staging { mail, at, message_id, sender, message, recipients }
}

/// What became of a mail, as the store takes it.
pub fn outcome(mail: &Mail, recorded: Recorded) -> Outcome {
    let state = match recorded.standing {
        // Which of the two open ones it is, the store knows.
        Standing::Open => MailState::Staged,
        Standing::Done => MailState::Done,
        Standing::Dead => MailState::Dead,
        Standing::NotNeeded => MailState::NotNeeded,
    };
    let recipients = recorded.recipients.into_iter().map(recipient).collect();
    Outcome { mail: MailKey::of(mail), at: recorded.at, recipients, state }
}

fn lost() -> MailEnd {
    MailEnd::Dead { words: "the outbox no longer has it".to_owned(), reached: false }
}

/// What a finished row says.
fn ended(row: &OutboxRow) -> MailEnd {
    let accepted = row.recipients.iter().filter(|to| to.outcome.state == RecipientState::Accepted).count();
    match row.state {
        MailState::Done => MailEnd::Accepted { recipients: u16::try_from(accepted).unwrap_or(u16::MAX) },
        MailState::NotNeeded => MailEnd::NotNeeded,
        MailState::Dead | MailState::Pending | MailState::Staged => {
            let reply = row.recipients.iter().find_map(|to| to.outcome.reply.clone());
            MailEnd::Dead { words: reply.unwrap_or_else(|| "given up".to_owned()), reached: accepted > 0 }
        }
    }
}

fn resumed(row: OutboxRow) -> Option<Parcel> {
    let recipients: Vec<String> = row.recipients.iter().map(|row| row.outcome.address.clone()).collect();
    let staged = row.staged.map(|staged| Staged {
        message_id: staged.message_id,
        sender: staged.sender,
        bytes: staged.message,
        recipients,
    });
    let kept = row.recipients.into_iter().map(|row| {
        let RecipientOutcome { address, state, relay, reply: words, attempts, next } = row.outcome;
        let state = match state {
            RecipientState::Pending | RecipientState::Deferred => Fated::Pending,
            RecipientState::Accepted => Fated::Accepted,
            RecipientState::Ambiguous => Fated::Ambiguous,
            RecipientState::Dead => Fated::Dead,
        };
        Kept { address, state, relay, words, next, attempts }
    });
    let Some(mail) = row.mail else {
        let id = row.key.id.0;
        tracing::error!(mail = id, "a mail in the outbox cannot be read and is not sent: supervisor outbox");
        return None;
    };
    Some(Parcel::resumed(mail, staged, kept.collect()))
}

fn recipient(kept: Kept) -> RecipientOutcome {
    let Kept { address, state, relay, words: reply, next, attempts } = kept;
    let state = match state {
        Fated::Pending if attempts == 0 => RecipientState::Pending,
        Fated::Pending => RecipientState::Deferred,
        Fated::Accepted => RecipientState::Accepted,
        Fated::Ambiguous => RecipientState::Ambiguous,
        Fated::Dead => RecipientState::Dead,
    };
    RecipientOutcome { address, state, relay, reply, attempts, next }
}
