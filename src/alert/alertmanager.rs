//! Alerts at an Alertmanager: a desired value that is posted and read back again and again, and what came of it as events.
//!
//! ```text
//!   State ── alerts() ──► watch ──► run(peer) ── a round ──► GET status, silences ─► POST alerts ─► GET alerts
//!                                       │
//!                                       └──► Event::Peer: its word on each incident, or why it failed
//! ```
//!
//! Each peer has a task of its own, so that a dead one does not starve the others (Prometheus issue 7676), and each gets
//! every alert: Alertmanagers do not tell one another of alerts. A round takes no hint about what changed. It asks who is
//! there, because an error page with status 200 is no Alertmanager; posts everything, because alerts are kept in memory
//! only; and reads back, because an alert that was dropped is answered with 200, too.
//!
//! This room never decides that an incident is told, or that a mail is due: it says what it saw.

mod client;
mod desired;
mod pacing;
mod round;
mod skew;
mod wire;

pub use desired::{Alert, alerts};
pub use pacing::{Pacing, Timing, Wait};
pub use round::{Round, judge, misses_one};
pub use wire::{is_sent, lasts};

use crate::clock::wall_now;
use crate::domain::event::{Event, PeerResult, PeerSeen};
use crate::domain::id::PeerId;
use crate::domain::silence::Silence;
use crate::secret::Secret;
use client::{Client, Unusable};
use futures_util::future::join_all;
use reqwest::Url;
use round::Session;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// How often everything is posted and read back when nothing changes. A restart of Alertmanager costs at most this long
/// in which it has no alerts; Prometheus takes a minute (`--rules.alert.resend-delay`).
pub const RESEND: Duration = Duration::from_secs(30);

/// One Alertmanager.
#[derive(Clone)]
pub struct Peer {
    /// Its name.
    pub id: PeerId,
    /// Where it is: `http` or `https`, with the path of `--web.external-url` if it has one. Without a user or a password.
    pub url: Url,
    /// How it knows us.
    pub auth: Option<Auth>,
    /// The authorities that vouch for it, as PEM; none: the system's.
    pub ca: Option<Vec<u8>>,
}

/// Not derived: nobody has looked yet whether somebody wrote a password into the URL.
impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How an Alertmanager knows us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// By a name and a password (RFC 7617).
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
    /// By a token (RFC 6750).
    Bearer(Secret),
}

/// Keeps the alerts of one Alertmanager as they are wanted, and tells what came of it. Ends when `events` is closed;
/// whatever the peer does, it goes on.
pub async fn run(peer: Peer, alerts: watch::Receiver<Arc<Vec<Alert>>>, events: mpsc::Sender<Event>) {
    run_with(peer, Timing::STANDARD, alerts, events).await;
}

/// What an Alertmanager tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Its version.
    pub version: String,
    /// How far its clock is ahead of ours, in milliseconds; zero where that does no harm.
    pub ahead_ms: i64,
}

/// Asks once who is there; gives it nothing.
///
/// # Errors
///
/// Why alerts would not get there, in words.
pub async fn reach(peer: &Peer) -> Result<Reached, String> {
    let timing = Timing::STANDARD;
    let client = Client::new(peer, &timing).map_err(|unusable| client::unusable_words(&unusable))?;
    let (identity, date) = client.status().await.map_err(|failure| client.words(&failure))?;
    let mut skew = skew::Skew::default();
    if let Some(theirs) = date {
        skew.learn(theirs, wall_now());
    }
    Ok(Reached { version: identity.version_info.version, ahead_ms: skew.ahead_ms() })
}

async fn run_with(
    peer: Peer,
    timing: Timing,
    alerts: watch::Receiver<Arc<Vec<Alert>>>,
    events: mpsc::Sender<Event>,
) {
    // A round may be dropped at any point: what it had posted is posted again by the next one, or ends by itself.
    tokio::select! {
        () = events.closed() => {}
        () = rounds(&peer, timing, alerts, &events) => {}
    }
}

/// Round after round, until nobody hears of them.
async fn rounds(
    peer: &Peer,
    timing: Timing,
    mut alerts: watch::Receiver<Arc<Vec<Alert>>>,
    events: &mpsc::Sender<Event>,
) {
    let mut session = Session::new(peer, timing);
    let mut pacing = Pacing::new(peer.id);
    loop {
        let began = Instant::now();
        let wanted = alerts.borrow_and_update().clone();
        let (seen, complete) = one_round(&mut session, &wanted, timing).await;
        if tell(peer.id, seen, &mut pacing, events).await.is_err() {
            return;
        }
        let ended = Instant::now();
        let wait_for = pacing.after(complete, ended - began, &timing);
        let changed =
            wait(&mut alerts, ended + wait_for.soonest, ended + wait_for.latest, timing.gather).await;
        if changed {
            pacing.changed();
        }
    }
}

/// What a round showed: how it went, and the silences, where they were read.
type Seen = (PeerResult, Option<Vec<Silence>>);

/// One round, and whether it did all that it should: if not, the next one comes sooner.
async fn one_round(
    session: &mut Result<Session, Unusable>,
    wanted: &[Alert],
    timing: Timing,
) -> (Seen, bool) {
    let session = match session {
        Ok(session) => session,
        Err(unusable) => return ((PeerResult::Failed(client::unusable_words(unusable)), None), false),
    };
    match timeout(timing.round, session.round(wanted)).await {
        Ok(Ok(round)) => {
            // Beside the round and its deadline: what it did is done, whatever becomes of this.
            let silences = timeout(timing.silences, session.silences()).await.ok().flatten();
            ((PeerResult::Answered(round.words), silences), round.complete)
        }
        Ok(Err(failure)) => ((PeerResult::Failed(session.words(&failure)), None), false),
        Err(_) => ((PeerResult::Failed(session.too_slow_words()), None), false),
    }
}

/// Tells the core, if it is news. Every failure is: the core counts them.
async fn tell(
    peer: PeerId,
    seen: Seen,
    pacing: &mut Pacing,
    events: &mpsc::Sender<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    if pacing.is_news(&seen.0, &seen.1) {
        let (result, silences) = seen;
        events.send(Event::Peer(PeerSeen { peer, result, silences })).await?;
    }
    Ok(())
}

/// Waits for the next round: until `latest`, or until the desired value has changed and its neighbours with it, but not
/// before `soonest`. Whether it changed.
async fn wait(
    alerts: &mut watch::Receiver<Arc<Vec<Alert>>>,
    soonest: Instant,
    latest: Instant,
    gather: Duration,
) -> bool {
    // Both are cancel-safe: a change is kept by the channel, a pause is only a pause. A change comes first, because it
    // counts for more than that the time is up.
    tokio::select! {
        biased;
        changed = alerts.changed() => match changed {
            Ok(()) => {
                sleep_until(soonest.max(Instant::now() + gather)).await;
                true
            }
            // Nobody will want anything else any more; what was wanted last goes on.
            Err(_) => {
                sleep_until(latest).await;
                false
            }
        },
        () = sleep_until(latest) => false,
    }
}

/// Which of `fingerprints` any of `peers` has at this moment, active or suppressed: the last look before a mail goes out
/// directly. All are asked at once; one that fails, or does not answer `within` that time, has none.
pub async fn has(peers: &[Peer], fingerprints: &BTreeSet<String>, within: Duration) -> BTreeSet<String> {
    let one = async |peer: &Peer| {
        let client = Client::new(peer, &Timing::STANDARD).ok()?;
        // A question may be dropped.
        timeout(within, client.stored()).await.ok()?.ok()
    };
    let stored = join_all(peers.iter().map(one)).await;
    let all = stored.into_iter().flatten().flat_map(|stored| stored.into_keys());
    all.filter(|fingerprint| fingerprints.contains(fingerprint)).collect()
}

#[cfg(test)]
mod tests;
