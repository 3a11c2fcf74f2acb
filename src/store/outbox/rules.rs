//! What a request makes of a mail's row. Pure: the rows in the file are changed by the same rules, in SQL (a test compares the
//! two), and the simulated world's are by these.

use super::{
    MailKey, MailState, OutboxRow, Outcome, RecipientOutcome, RecipientRow, RecipientState, Staged, Staging,
};
use crate::domain::delivery::Mail;

impl OutboxRow {
    /// The row of a mail that was decided by the record `seq`; none when that is not in the journal.
    pub fn decided(seq: Option<u64>, mail: &Mail) -> OutboxRow {
        OutboxRow {
            key: MailKey::of(mail),
            seq,
            mail: Some(mail.clone()),
            state: MailState::Pending,
            staged: None,
            recipients: Vec::new(),
            changed: mail.at,
        }
    }

    /// Its bytes and recipients are written. A recipient that is known already stays as it is.
    pub fn stage(&mut self, staging: Staging) {
        let Staging { mail: _, at, message_id, sender, message, recipients } = staging;
        self.state = MailState::Staged;
        self.staged = Some(Staged { message_id, sender, message });
        self.changed = at;
        for address in recipients {
            if self.recipients.iter().all(|known| known.outcome.address != address) {
                self.recipients
                    .push(RecipientRow { outcome: RecipientOutcome::untried(address), changed: at });
            }
        }
        self.sort();
    }

    /// What became of an attempt is written.
    pub fn record(&mut self, outcome: Outcome) {
        self.state = outcome.state.finished().unwrap_or(self.state);
        self.changed = outcome.at;
        for recipient in outcome.recipients {
            self.recipients.retain(|known| known.outcome.address != recipient.address);
            self.recipients.push(RecipientRow { outcome: recipient, changed: outcome.at });
        }
        self.sort();
    }

    fn sort(&mut self) {
        self.recipients.sort_by(|one, other| one.outcome.address.cmp(&other.outcome.address));
    }
}

impl MailState {
    /// What an outcome in this state makes of a mail's own; none: that stays.
    pub(super) fn finished(self) -> Option<MailState> {
        (!self.is_open()).then_some(self)
    }
}

impl RecipientOutcome {
    /// Nothing has been tried for them yet.
    fn untried(address: String) -> RecipientOutcome {
        RecipientOutcome {
            address,
            state: RecipientState::Pending,
            relay: None,
            reply: None,
            attempts: 0,
            next: None,
        }
    }
}
