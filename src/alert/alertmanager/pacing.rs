//! When the next round comes, and what of a round is news. Pure: durations come in, durations go out.

use super::RESEND;
use crate::domain::event::PeerResult;
use crate::domain::id::PeerId;
use crate::domain::jitter;
use crate::domain::silence::Silence;
use std::time::Duration;

/// Every wait of a peer's task: constants in the product ([`Timing::STANDARD`]), short in tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// From one round to the next, when all is well.
    pub resend: Duration,
    /// How long a change is waited upon for others.
    pub gather: Duration,
    /// From the last 200 to the second look, when the first one misses an alert.
    pub second_look: Duration,
    /// The pauses after failed rounds; the last one repeats.
    pub pauses: [Duration; 4],
    /// For a connection.
    pub connect: Duration,
    /// For one request, its connection and its answer included.
    pub request: Duration,
    /// For a whole round.
    pub round: Duration,
    /// For its silences after that.
    pub silences: Duration,
}

impl Timing {
    /// The product's.
    pub const STANDARD: Timing = Timing {
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

/// How one Alertmanager is paced.
#[derive(Debug, Clone)]
pub struct Pacing {
    seed: u64,
    /// What was told last.
    told: Option<(PeerResult, Option<Vec<Silence>>)>,
    /// How many rounds in a row did not do all that they should.
    unwell: u32,
}

/// When the next round comes, counted from the end of the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Not before this, even if something changes.
    pub soonest: Duration,
    /// Then at the latest.
    pub latest: Duration,
}

impl Pacing {
    /// For `peer`, before its first round.
    pub fn new(peer: PeerId) -> Pacing {
        Pacing { seed: jitter::seed(peer.as_str()), told: None, unwell: 0 }
    }

    /// Whether what a round showed is told; it was, from then on. Every failure is: the core counts them.
    pub fn is_news(&mut self, result: &PeerResult, silences: &Option<Vec<Silence>>) -> bool {
        let seen = (result.clone(), silences.clone());
        let news = match result {
            PeerResult::Answered(_) => self.told.as_ref() != Some(&seen),
            PeerResult::Failed(_) => true,
        };
        self.told = Some(seen);
        news
    }

    /// The wait after a round that took `took`. `complete`: it did all that it should.
    pub fn after(&mut self, complete: bool, took: Duration, timing: &Timing) -> Wait {
        if complete {
            self.unwell = 0;
            return Wait { soonest: Duration::ZERO, latest: timing.resend.saturating_sub(took) };
        }
        let latest = pause(&timing.pauses, self.seed, self.unwell);
        self.unwell += 1;
        Wait { soonest: timing.pauses[0], latest }
    }

    /// Something else is wanted. What has just opened gets its three tries in time, however long the peer has been away.
    pub fn changed(&mut self) {
        self.unwell = 0;
    }
}

/// The pause after the round that was the `unwell`th (from 0) to fail in a row: up to a fifth less than the table says, so
/// that several supervisors do not come back in step.
pub(super) fn pause(pauses: &[Duration; 4], seed: u64, unwell: u32) -> Duration {
    let at = usize::try_from(unwell).unwrap_or(usize::MAX).min(pauses.len() - 1);
    let whole = pauses[at];
    let fifth = u64::try_from((whole / 5).as_millis()).unwrap_or(u64::MAX - 1);
    whole - Duration::from_millis(jitter::attempt(seed, u64::from(unwell)) % (fifth + 1))
}
