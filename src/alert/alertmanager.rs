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
mod round;
mod skew;
mod wire;

pub use desired::{Alert, alerts};

use crate::clock::wall_now;
use crate::domain::event::{Event, PeerResult, PeerSeen};
use crate::domain::id::PeerId;
use crate::domain::jitter;
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

/// Every wait of a peer's task: constants in the product ([`Timing::STANDARD`]), short in tests.
#[derive(Debug, Clone, Copy)]
struct Timing {
    /// From one round to the next, when all is well.
    resend: Duration,
    /// How long a change is waited upon for others.
    gather: Duration,
    /// From the last 200 to the second look, when the first one misses an alert.
    second_look: Duration,
    /// The pauses after failed rounds; the last one repeats.
    pauses: [Duration; 4],
    /// For a connection.
    connect: Duration,
    /// For one request, its connection and its answer included.
    request: Duration,
    /// For a whole round.
    round: Duration,
    /// For its silences after that.
    silences: Duration,
}

impl Timing {
    const STANDARD: Timing = Timing {
        resend: RESEND,
        // A site that fails brings a decision for each of its services within a few probes: they are one POST and one
        // notification then. Nobody notices a tenth of a second in front of Alertmanager's group wait.
        gather: Duration::from_millis(100),
        // Alertmanager stores before it answers. What stands between us and it (a proxy, a cluster with one address) may
        // need a moment, and a verdict that leads to a mail is worth a second look.
        second_look: Duration::from_secs(2),
        // Three tries must have failed before a mail goes out (`delivery::TRIES`), a minute after the opening. Against a
        // silent peer they are over 22 s after it (3 x 5 s, and 2 + 5 s between); with rounds as long as they may be, 52 s.
        pauses: [
            Duration::from_secs(2),
            Duration::from_secs(5),
            Duration::from_secs(10),
            Duration::from_secs(15),
        ],
        // A lost SYN is repeated after one second and, by then, three (tcp(7)): the first repetition fits.
        connect: Duration::from_secs(2),
        // Alertmanager answers in milliseconds, and Prometheus gives it ten seconds; three tries have to fit into a minute.
        request: Duration::from_secs(5),
        // A peer that answers each of many requests just in time would otherwise hold a round for minutes.
        round: Duration::from_secs(15),
        // What the round brought waits for it.
        silences: Duration::from_secs(2),
    };
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
    let mut told = None;
    let mut unwell = 0;
    loop {
        let began = Instant::now();
        let wanted = alerts.borrow_and_update().clone();
        let (seen, complete) = one_round(&mut session, &wanted, timing).await;
        if tell(peer.id, seen, &mut told, events).await.is_err() {
            return;
        }
        let changed = if complete {
            unwell = 0;
            wait(&mut alerts, Instant::now(), began + timing.resend, timing.gather).await
        } else {
            let ended = Instant::now();
            let pause = pause(&timing.pauses, jitter::seed(peer.id.as_str()), unwell);
            unwell += 1;
            wait(&mut alerts, ended + timing.pauses[0], ended + pause, timing.gather).await
        };
        // What has just opened gets its three tries in time, however long the peer has been away.
        if changed {
            unwell = 0;
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
    told: &mut Option<Seen>,
    events: &mpsc::Sender<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    let news = match &seen.0 {
        PeerResult::Answered(_) => told.as_ref() != Some(&seen),
        PeerResult::Failed(_) => true,
    };
    *told = Some(seen.clone());
    if news {
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

/// The pause after the round that was the `unwell`th (from 0) to fail in a row: up to a fifth less than the table says, so
/// that several supervisors do not come back in step.
fn pause(pauses: &[Duration; 4], seed: u64, unwell: u32) -> Duration {
    let at = usize::try_from(unwell).unwrap_or(usize::MAX).min(pauses.len() - 1);
    let whole = pauses[at];
    let fifth = u64::try_from((whole / 5).as_millis()).unwrap_or(u64::MAX - 1);
    whole - Duration::from_millis(jitter::attempt(seed, u64::from(unwell)) % (fifth + 1))
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
