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

mod desk;

pub use desk::Desk;

use super::email::{Attempt, Deadlines, Envelope, Relay, compose, deliver};
use super::letter::{self, Correspondents};
use super::parcel::{Message, Parcel, since};
use crate::chain::chain;
use crate::clock::wall_now;
use crate::domain::Event;
use crate::domain::delivery::{Mail, MailKind, WhyDirect};
use crate::domain::event::{MailEnd, Mailed};
use crate::domain::incident::fingerprint;
use crate::domain::time::Wall;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How many mails are on their way at once: more would be one relay's patience, fewer one relay's silence.
pub const AT_ONCE: usize = 4;

/// The longest sleep: the wall clock may be set meanwhile, and what is due by it must not wait for a day.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// How long the outbox may take to be read at the start. A disk that hangs must not keep the mails of this process back.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// For how long nobody is told of an end while the outbox cannot be read: an outage of the disk may last for longer.
const UNREAD_HOLDS: Duration = Duration::from_secs(300);

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

/// The way to the relays, and the time on it.
pub trait Way: Clone + Send + Sync + 'static {
    /// Tries once to hand `message` to `relay`.
    fn deliver<'a>(
        &'a self,
        relay: &'a Relay,
        envelope: &'a Envelope,
        message: &'a [u8],
        deadlines: &'a Deadlines,
    ) -> BoxFuture<'a, Attempt>;

    /// This moment.
    fn now(&self) -> Wall;
}

/// The network, and this machine's clock.
#[derive(Debug, Clone, Copy)]
struct Network;

impl Way for Network {
    fn deliver<'a>(
        &'a self,
        relay: &'a Relay,
        envelope: &'a Envelope,
        message: &'a [u8],
        deadlines: &'a Deadlines,
    ) -> BoxFuture<'a, Attempt> {
        deliver(relay, envelope, message, deadlines).boxed()
    }

    fn now(&self) -> Wall {
        wall_now()
    }
}

/// Asks the Alertmanagers which of these alerts they have, by fingerprint.
pub type Holds = Arc<dyn Fn(BTreeSet<String>) -> BoxFuture<'static, BTreeSet<String>> + Send + Sync>;

/// What an earlier sender left.
#[derive(Debug, Clone, Default)]
pub struct Left {
    /// Mails that it did not see to their end.
    pub open: Vec<Parcel>,
    /// Ends of which nobody was told.
    pub ended: Vec<Mailed>,
}

/// Reads what an earlier sender left in the outbox on the disk.
pub type Backlog = Arc<dyn Fn() -> BoxFuture<'static, Result<Left, String>> + Send + Sync>;

/// What the sender works with.
pub struct Means<L> {
    /// How to send; none: nobody may be written to.
    pub post: watch::Receiver<Option<Arc<Post>>>,
    /// The outbox on the disk.
    pub ledger: L,
    /// The last look before a mail.
    pub holds: Holds,
    /// What an earlier sender left.
    pub backlog: Backlog,
    /// Where it is told what becomes of mails.
    pub events: mpsc::Sender<Event>,
}

/// Sends what `orders` bring and what the outbox held at the start, until `stop`; then what is under way is seen to the end
/// of its round. Cancelling it is safe: what was under way is in the outbox as it was before.
pub async fn run<L: Ledger>(means: Means<L>, orders: &mut mpsc::Receiver<Order>, stop: CancellationToken) {
    let Means { mut post, ledger, holds, backlog, events } = means;
    let mut desk = Desk::default();
    let mut under_way: FuturesUnordered<BoxFuture<'static, (Parcel, Option<MailEnd>)>> =
        FuturesUnordered::new();
    let mut reading = Some(backlog());
    // What the outbox holds is older, so it goes first; but not for ever.
    let mut first_look = Box::pin(tokio::time::sleep(READ_WITHIN));
    let mut looked = false;
    let began = Instant::now();
    loop {
        let now = wall_now();
        let settings = post.borrow().clone();
        // The beginning of what has ended may be in the part that was not read.
        let unread = reading.is_some() && began.elapsed() < UNREAD_HOLDS;
        while looked
            && desk.away() < AT_ONCE
            && let Some(settings) = &settings
            && let Some(parcel) = desk.next(now, &settings.who.to, unread)
        {
            let (post, ledger, holds) = (Arc::clone(settings), ledger.clone(), Arc::clone(&holds));
            under_way.push(Box::pin(round(post, ledger, holds, Network, parcel)));
        }
        // Dropping an arm that did not win loses nothing: what is under way is kept across turns.
        tokio::select! {
            () = stop.cancelled() => break,
            Some(order) = orders.recv() => desk.take(Parcel::new(order.mail, order.durable), now),
            Some((parcel, end)) = under_way.next(), if !under_way.is_empty() => {
                back(&mut desk, parcel, end, &events).await;
            }
            Ok(()) = post.changed() => {}
            read = async { reading.as_mut().unwrap_or(&mut future::pending().boxed()).await } => {
                reading = None;
                match read {
                    Ok(left) => {
                        left.open.into_iter().for_each(|parcel| desk.take(parcel, now));
                        for mailed in left.ended {
                            let _ = events.send(Event::Mailed(mailed)).await;
                        }
                    }
                    Err(why) => {
                        tracing::warn!(why, "the outbox cannot be read: mails that an earlier run left open wait");
                        let backlog = Arc::clone(&backlog);
                        reading = Some(tokio::time::sleep(LOOK_EVERY).then(move |()| backlog()).boxed());
                    }
                }
                looked = true;
            }
            () = &mut first_look, if !looked => looked = true,
            () = tokio::time::sleep(pause(&desk, now)) => {}
        }
    }
    while let Some((parcel, end)) = under_way.next().await {
        back(&mut desk, parcel, end, &events).await;
    }
}

/// A mail comes back from a round.
async fn back(desk: &mut Desk, parcel: Parcel, end: Option<MailEnd>, events: &mpsc::Sender<Event>) {
    let mail = parcel.key();
    if desk.back(parcel).is_some() {
        tracing::error!(
            mail = mail.id.0,
            "the outbox does not take note of mails that are sent: this one may come twice"
        );
    }
    if let Some(end) = end {
        // Nobody listens: the process ends, and the outbox knows.
        let _ = events.send(Event::Mailed(Mailed { mail, end })).await;
    }
}

fn pause(desk: &Desk, now: Wall) -> Duration {
    let left = desk.next_due(now).map(|next| since(now, next).duration());
    left.unwrap_or(LOOK_EVERY).min(LOOK_EVERY)
}

/// One round of one mail: every relay that is to be tried now. Gives back what is worth telling. Cancelling it is safe: what
/// was under way is in the outbox as it was before.
pub async fn round<L: Ledger, W: Way>(
    post: Arc<Post>,
    ledger: L,
    holds: Holds,
    way: W,
    parcel: Parcel,
) -> (Parcel, Option<MailEnd>) {
    Round { post, ledger, holds, way }.carry(parcel).await
}

struct Round<L, W> {
    post: Arc<Post>,
    ledger: L,
    holds: Holds,
    way: W,
}

impl<L: Ledger, W: Way> Round<L, W> {
    async fn carry(&self, mut parcel: Parcel) -> (Parcel, Option<MailEnd>) {
        if parcel.is_closed() {
            // The disk does not know yet, and may not even have the mail. What has no bytes cannot be put there.
            self.stage(&mut parcel).await;
            self.record(&mut parcel).await;
            if parcel.message.is_none() {
                parcel.note_recorded(true, self.way.now());
            }
            return (parcel, None);
        }
        if parcel.is_expired(self.way.now()) {
            parcel.address(&self.post.who.to);
            return self.ended(parcel).await;
        }
        if parcel.message.is_none() {
            if alertmanager_has_it(&parcel.mail, &self.holds).await {
                parcel.close(Standing::NotNeeded);
                self.record(&mut parcel).await;
                return (parcel, Some(MailEnd::NotNeeded));
            }
            parcel.address(&self.post.who.to);
            if let Err(words) = self.write(&mut parcel).await {
                // A letter that cannot be written cannot be sent by anybody: that is for a person.
                tracing::error!(
                    mail = parcel.id().0,
                    words,
                    "a mail could not be written, which is a bug; please report it"
                );
                parcel.close(Standing::Dead);
                self.record(&mut parcel).await;
                return (parcel, Some(MailEnd::Dead { words, reached: false }));
            }
        } else {
            self.stage(&mut parcel).await;
        }
        parcel.begin_round();
        for relay in &self.post.relays {
            self.attempt(relay, &mut parcel).await;
        }
        self.ended(parcel).await
    }

    /// Hands it to `relay`, for those for whom it is to be tried there.
    async fn attempt(&self, relay: &Relay, parcel: &mut Parcel) {
        let wanting = parcel.wanting(&relay.name);
        let Some(message) = parcel.message.clone().filter(|_| !wanting.is_empty()) else { return };
        let envelope = match Envelope::new(&message.sender, &wanting) {
            Ok(envelope) => envelope,
            // The settings check addresses; a row of an older version may hold anything.
            Err(error) => {
                tracing::warn!(mail = parcel.id().0, error = %chain(&error), "an address that is none");
                return;
            }
        };
        let attempt = self.way.deliver(relay, &envelope, &message.bytes, &self.post.deadlines).await;
        parcel.note(&relay.name, &attempt);
        // Before the next relay, which may be silent for minutes: what is accepted must outlive a stop meanwhile.
        if parcel.has_reached_somebody() && !parcel.is_finished() {
            self.record(parcel).await;
        }
    }

    /// Ends a round, and keeps how it stands.
    async fn ended(&self, mut parcel: Parcel) -> (Parcel, Option<MailEnd>) {
        let names: Vec<String> = self.post.relays.iter().map(|relay| relay.name.clone()).collect();
        let end = parcel.end_round(&names, self.way.now());
        self.record(&mut parcel).await;
        (parcel, end)
    }

    /// Keeps how it stands.
    async fn record(&self, parcel: &mut Parcel) {
        let now = self.way.now();
        let recorded = self.ledger.record(&parcel.mail, parcel.recorded(now)).await;
        parcel.note_recorded(recorded, now);
    }

    /// Keeps the bytes, if the disk does not have them yet.
    async fn stage(&self, parcel: &mut Parcel) {
        let recipients: Vec<String> = parcel.recipients.keys().cloned().collect();
        let Some(message) = parcel.message.as_mut().filter(|message| !message.staged) else { return };
        let staged = Staged {
            message_id: message.id.clone(),
            sender: message.sender.clone(),
            bytes: message.bytes.clone(),
            recipients,
        };
        message.staged = self.ledger.stage(&parcel.mail, staged).await;
    }

    /// Writes the message and keeps it. Where the disk does not take it in time, it says that it may come twice.
    async fn write(&self, parcel: &mut Parcel) -> Result<(), String> {
        let who = &self.post.who;
        let stamp = letter::stamp(&parcel.mail, who).map_err(|error| chain(&error))?;
        let written = |parcel: &Parcel, durable: bool| -> Result<Message, String> {
            let letter = letter::letter(&parcel.mail, who, !durable);
            let bytes = compose(&letter, &stamp).map_err(|error| chain(&error))?;
            Ok(Message { id: stamp.message_id.to_string(), sender: who.from.clone(), bytes, staged: false })
        };
        parcel.message = Some(written(parcel, parcel.durable)?);
        self.stage(parcel).await;
        let staged = parcel.message.as_ref().is_some_and(|message| message.staged);
        if parcel.durable && !staged {
            parcel.message = Some(written(parcel, false)?);
        }
        Ok(())
    }
}

/// Whether an Alertmanager has every incident of `mail` now: then it tells of them, and the mail would be the second.
async fn alertmanager_has_it(mail: &Mail, holds: &Holds) -> bool {
    let asked = match (mail.kind, &mail.why) {
        (MailKind::Firing, WhyDirect::Unreachable { .. } | WhyDirect::NotStored) => true,
        (
            MailKind::Firing,
            WhyDirect::NoAlertmanager
            | WhyDirect::Rejected { .. }
            | WhyDirect::Owed
            | WhyDirect::Lasts
            | WhyDirect::Asked,
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

#[cfg(test)]
mod tests;
