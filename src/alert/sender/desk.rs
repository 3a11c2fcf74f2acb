//! The mails that the sender has: which of them is next, and which waits for another. Pure.

use crate::alert::parcel::{Parcel, since};
use crate::domain::delivery::{MailKey, MailKind};
use crate::domain::time::{Span, Wall};
use std::collections::{BTreeMap, BTreeSet};

/// For how long a mail is known to have been here: longer than one is open, so that none is taken in twice.
const KNOWN_FOR: Span = Span::seconds(2 * 24 * 3600);

/// How many mails that are finished may wait for the disk to take note. The core decides ten in ten minutes: an hour's.
const UNRECORDED_MAX: usize = 64;

/// The mails that wait and those on their way.
#[derive(Debug, Default)]
pub struct Desk {
    waiting: BTreeMap<MailKey, Parcel>,
    /// Those on their way, as they were when they left.
    away: BTreeMap<MailKey, Parcel>,
    /// Those that were here lately: an order may come by the lane and from the outbox as well.
    known: BTreeSet<MailKey>,
}

impl Desk {
    /// Takes a mail in, unless it was here before.
    pub fn take(&mut self, parcel: Parcel, now: Wall) {
        self.known.retain(|key| since(key.at, now) < KNOWN_FOR);
        if self.known.insert(parcel.key()) {
            self.waiting.insert(parcel.key(), parcel);
        }
    }

    /// How many are on their way.
    pub fn away(&self) -> usize {
        self.away.len()
    }

    /// The mail that has waited longest of those that are due; it is on its way from then on. `to`: who gets what is not
    /// addressed yet. `unread`: there may be mails that it does not have, so no end is told.
    pub fn next(&mut self, now: Wall, to: &[String], unread: bool) -> Option<Parcel> {
        let free = |parcel: &&Parcel| {
            let held = self.held(parcel, to);
            let early = unread && parcel.mail.kind == MailKind::Resolved;
            parcel.is_due(now) && !early && (held.is_empty() || !parcel.open(to).is_subset(&held))
        };
        // News before what only the disk is to hear.
        let order = |parcel: &&Parcel| (parcel.is_closed(), parcel.next, parcel.key());
        let next = self.waiting.values().filter(free).min_by_key(order)?.key();
        let mut parcel = self.waiting.remove(&next)?;
        parcel.hold(self.held(&parcel, to));
        self.away.insert(next, parcel.clone());
        Some(parcel)
    }

    /// A mail comes back from a round. Gives back one for which no room is left: it is finished, and the disk does not know.
    pub fn back(&mut self, parcel: Parcel) -> Option<Parcel> {
        self.away.remove(&parcel.key());
        if !parcel.is_closed() {
            self.waiting.insert(parcel.key(), parcel);
            return None;
        }
        if parcel.is_recorded() {
            return None;
        }
        let unrecorded = self.waiting.values().filter(|parcel| parcel.is_closed()).count();
        if unrecorded >= UNRECORDED_MAX {
            return Some(parcel);
        }
        self.waiting.insert(parcel.key(), parcel);
        None
    }

    /// When the next one is due of those that wait for nothing but time.
    pub fn next_due(&self, now: Wall) -> Option<Wall> {
        self.waiting.values().map(|parcel| parcel.next).filter(|next| *next > now).min()
    }

    /// Who must not get `parcel` yet: nobody hears that it is over before they heard of it.
    fn held(&self, parcel: &Parcel, to: &[String]) -> BTreeSet<String> {
        if parcel.mail.kind != MailKind::Resolved {
            return BTreeSet::new();
        }
        let about: BTreeSet<_> =
            parcel.mail.incidents.iter().map(|told| (told.incident, told.opened)).collect();
        let same = |other: &&Parcel| {
            let mut told = other.mail.incidents.iter();
            other.mail.kind == MailKind::Firing
                && told.any(|told| about.contains(&(told.incident, told.opened)))
        };
        let ahead = self.waiting.values().chain(self.away.values()).filter(same);
        ahead.flat_map(|parcel| parcel.unreached(to)).collect()
    }
}

#[cfg(test)]
mod tests;
