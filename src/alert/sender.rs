//! The sender: takes mails that were decided, and sees each of them to its end.
//!
//! ```text
//!   the core ──Mail──► orders ──► Parcel ── stage (bytes, Message-ID) ──► the store
//!   the store's open rows, at the start ──►  │
//!                                            └── relay by relay ──► what became of it ──► the store, the core
//! ```
//!
//! The bytes and their Message-ID are in the outbox before the first connection: a crash sends the same bytes again. What
//! the disk does not take is sent all the same, and says that it may come twice.
//!
//! At most [`AT_ONCE`] mails are on their way at a time, so that one relay that is silent for two minutes does not hold up
//! the next mail.

use super::email::{Attempt, Deadlines, Envelope, Relay, compose, deliver};
use super::letter::{self, Correspondents};
use super::parcel::{Key, Message, Parcel};
use crate::chain::chain;
use crate::clock::wall_now;
use crate::domain::Event;
use crate::domain::delivery::{Mail, MailKind, WhyDirect};
use crate::domain::event::{MailEnd, Mailed};
use crate::domain::incident::fingerprint;
use crate::domain::time::Wall;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How many mails are on their way at once: more would be one relay's patience, fewer one relay's silence.
const AT_ONCE: usize = 4;

/// The longest sleep: the wall clock may be set meanwhile, and what is due by it must not wait for a day.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// What it takes to send: a part of the settings, replaced as a whole when they change.
#[derive(Debug, Clone)]
pub struct Post {
    /// Who writes to whom.
    pub who: Correspondents,
    /// The relays, in the order in which they are tried.
    pub relays: Vec<Relay>,
    /// How long each stage may take.
    pub deadlines: Deadlines,
}

/// A mail to be sent.
#[derive(Debug, Clone)]
pub struct Order {
    /// The mail.
    pub mail: Mail,
    /// Its row is on the disk.
    pub durable: bool,
}

/// The outbox on the disk.
pub trait Ledger: Clone + Send + Sync + 'static {
    /// Keeps the bytes of a mail before it is sent. False when the disk did not take them in time.
    fn stage(&self, mail: &Mail, message: Staged) -> BoxFuture<'static, bool>;
    /// Keeps what became of a mail. False when the disk did not take it in time.
    fn record(&self, mail: &Mail, parcel: Recorded) -> BoxFuture<'static, bool>;
}

/// What is kept before a mail is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Its Message-ID.
    pub message_id: String,
    /// The sender's address.
    pub sender: String,
    /// The complete message.
    pub bytes: Vec<u8>,
    /// The recipients' addresses.
    pub recipients: Vec<String>,
}

/// What is kept after each round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// When.
    pub at: Wall,
    /// How the mail stands.
    pub standing: Standing,
    /// How each recipient stands.
    pub recipients: Vec<Kept>,
}

/// How a mail stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is tried again.
    Open,
    /// Everybody's relay has it.
    Done,
    /// Given up for somebody.
    Dead,
    /// Alertmanager has its incidents after all.
    NotNeeded,
}

/// How a recipient stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The address.
    pub address: String,
    /// `pending`, `accepted`, `ambiguous` or `dead`.
    pub state: Fated,
    /// The relay that it is about.
    pub relay: Option<String>,
    /// What it said.
    pub words: Option<String>,
    /// When it is tried next.
    pub next: Option<Wall>,
    /// Rounds so far.
    pub attempts: u32,
}

/// A recipient's state in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fated {
    /// Not reached yet.
    Pending,
    /// A relay has it.
    Accepted,
    /// Nobody knows.
    Ambiguous,
    /// Given up.
    Dead,
}

/// Asks the Alertmanagers which of these alerts they have, by fingerprint.
pub type Holds = Arc<dyn Fn(BTreeSet<String>) -> BoxFuture<'static, BTreeSet<String>> + Send + Sync>;

/// Sends what `orders` bring, until `events` closes. `open`: what the outbox held at the start. Cancelling it is safe: what
/// was under way is in the outbox as it was before.
pub async fn run<L: Ledger>(
    post: watch::Receiver<Option<Arc<Post>>>,
    orders: &mut mpsc::Receiver<Order>,
    ledger: L,
    holds: Holds,
    open: Vec<Parcel>,
    events: mpsc::Sender<Event>,
) {
    // An order may wait in the lane whose row was read already: after a panic of ours, or in the first moments.
    let known: BTreeSet<Key> = open.iter().map(Parcel::key).collect();
    let mut waiting: BTreeMap<Key, (Parcel, bool)> =
        open.into_iter().map(|parcel| (parcel.key(), (parcel, true))).collect();
    let mut under_way: FuturesUnordered<BoxFuture<'static, (Parcel, bool, Option<MailEnd>)>> =
        FuturesUnordered::new();
    let mut post = post;
    loop {
        let now = wall_now();
        while under_way.len() < AT_ONCE
            && let Some(id) = next_due(&waiting, now)
            && let Some(settings) = post.borrow().clone()
            && let Some((parcel, durable)) = waiting.remove(&id)
        {
            let (ledger, holds) = (ledger.clone(), Arc::clone(&holds));
            under_way.push(Box::pin(round(settings, ledger, holds, parcel, durable)));
        }
        // Dropping an arm that did not win loses nothing: what is under way is kept across turns.
        tokio::select! {
            () = events.closed() => return,
            Some(order) = orders.recv() => {
                let parcel = Parcel::new(order.mail);
                if !known.contains(&parcel.key()) {
                    waiting.insert(parcel.key(), (parcel, order.durable));
                }
            }
            Some((parcel, durable, end)) = under_way.next(), if !under_way.is_empty() => {
                if let Some(end) = end
                    && events.send(Event::Mailed(Mailed { mail: parcel.id(), end })).await.is_err()
                {
                    return;
                }
                if !parcel.is_finished() {
                    waiting.insert(parcel.key(), (parcel, durable));
                }
            }
            changed = post.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(pause(&waiting, now)) => {}
        }
    }
}

/// The mail that has waited longest of those that are due.
fn next_due(waiting: &BTreeMap<Key, (Parcel, bool)>, now: Wall) -> Option<Key> {
    let due = waiting.values().map(|(parcel, _)| parcel).filter(|parcel| parcel.is_due(now));
    due.min_by_key(|parcel| (parcel.next, parcel.key())).map(Parcel::key)
}

fn pause(waiting: &BTreeMap<Key, (Parcel, bool)>, now: Wall) -> Duration {
    let next = waiting.values().map(|(parcel, _)| parcel.next.0.saturating_sub(now.0)).min();
    let next = next.map(|milliseconds| Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)));
    // What is due and has no place waits for one, which is an arm of its own.
    next.filter(|next| !next.is_zero()).unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
}

/// One round of one mail: every relay that is to be tried now.
async fn round<L: Ledger>(
    post: Arc<Post>,
    ledger: L,
    holds: Holds,
    mut parcel: Parcel,
    mut durable: bool,
) -> (Parcel, bool, Option<MailEnd>) {
    if parcel.is_expired(wall_now()) {
        parcel.address(&post.who.to);
        return ended(&post, &ledger, parcel, durable).await;
    }
    if parcel.message.is_none() {
        if alertmanager_has_it(&parcel.mail, &holds).await {
            parcel.recipients.clear();
            let recorded = Recorded { at: wall_now(), standing: Standing::NotNeeded, recipients: Vec::new() };
            ledger.record(&parcel.mail, recorded).await;
            return (parcel, durable, Some(MailEnd::NotNeeded));
        }
        parcel.address(&post.who.to);
        match write(&post, &ledger, &mut parcel, durable).await {
            Ok(kept) => durable = durable && kept,
            Err(words) => {
                // A letter that cannot be written cannot be sent by anybody: that is for a person.
                tracing::error!(
                    mail = parcel.id().0,
                    words,
                    "a mail could not be written, which is a bug; please report it"
                );
                parcel.recipients.clear();
                let recorded = Recorded { at: wall_now(), standing: Standing::Dead, recipients: Vec::new() };
                ledger.record(&parcel.mail, recorded).await;
                return (parcel, durable, Some(MailEnd::Dead { words }));
            }
        }
    }
    parcel.begin_round();
    for relay in &post.relays {
        let wanting = parcel.wanting(&relay.name);
        let Some(message) = parcel.message.clone().filter(|_| !wanting.is_empty()) else { continue };
        match Envelope::new(&message.sender, &wanting) {
            Ok(envelope) => {
                let attempt: Attempt = deliver(relay, &envelope, &message.bytes, &post.deadlines).await;
                parcel.note(&relay.name, &attempt);
                // Before the next relay, which may be silent for minutes: what is accepted must outlive a stop meanwhile.
                if parcel.has_reached_somebody() && !parcel.is_finished() {
                    ledger.record(&parcel.mail, parcel.recorded(wall_now())).await;
                }
            }
            // The settings check addresses; a row of an older version may hold anything.
            Err(error) => {
                tracing::warn!(mail = parcel.id().0, error = %chain(&error), "an address that is none")
            }
        }
    }
    ended(&post, &ledger, parcel, durable).await
}

/// Ends a round, and keeps how it stands.
async fn ended<L: Ledger>(
    post: &Post,
    ledger: &L,
    mut parcel: Parcel,
    durable: bool,
) -> (Parcel, bool, Option<MailEnd>) {
    let names: Vec<String> = post.relays.iter().map(|relay| relay.name.clone()).collect();
    let end = parcel.end_round(&names, wall_now());
    ledger.record(&parcel.mail, parcel.recorded(wall_now())).await;
    (parcel, durable, end)
}

/// Whether an Alertmanager has every incident of `mail` now: then it tells of them, and the mail would be the second.
async fn alertmanager_has_it(mail: &Mail, holds: &Holds) -> bool {
    let asked = match (mail.kind, &mail.why) {
        (MailKind::Firing, WhyDirect::Unreachable { .. } | WhyDirect::NotStored) => true,
        (
            MailKind::Firing,
            WhyDirect::NoAlertmanager | WhyDirect::Rejected { .. } | WhyDirect::Owed | WhyDirect::Asked,
        )
        | (MailKind::Resolved | MailKind::Test, _) => false,
    };
    if !asked {
        return false;
    }
    let fingerprints: BTreeSet<String> =
        mail.incidents.iter().map(|told| fingerprint(&told.trouble.labels())).collect();
    holds(fingerprints.clone()).await == fingerprints
}

/// Writes the message and keeps it. Gives back whether the disk has it.
async fn write<L: Ledger>(
    post: &Post,
    ledger: &L,
    parcel: &mut Parcel,
    durable: bool,
) -> Result<bool, String> {
    let stamp = letter::stamp(&parcel.mail, &post.who).map_err(|error| chain(&error))?;
    let message_id = stamp.message_id.to_string();
    let composed = |durable: bool| {
        let letter = letter::letter(&parcel.mail, &post.who, !durable);
        compose(&letter, &stamp).map_err(|error| chain(&error))
    };
    let mut bytes = composed(durable)?;
    let mut kept = false;
    if durable {
        let staged = Staged {
            message_id: message_id.clone(),
            sender: post.who.from.clone(),
            bytes: bytes.clone(),
            recipients: parcel.recipients.keys().cloned().collect(),
        };
        kept = ledger.stage(&parcel.mail, staged).await;
        if !kept {
            bytes = composed(false)?;
        }
    }
    parcel.message = Some(Message { id: message_id, sender: post.who.from.clone(), bytes });
    Ok(kept)
}

#[cfg(test)]
mod tests;
