//! One round with one Alertmanager: who is there, post, read back, and its word on each incident.

use super::client::{Client, Failure, Posted, Unusable};
use super::desired::Alert;
use super::skew::Skew;
use super::wire::{self, BATCH_MAX, Identity};
use super::{Peer, Timing};
use crate::clock::wall_now;
use crate::domain::delivery::Word;
use crate::domain::id::PeerId;
use crate::domain::incident::{IncidentId, fingerprint};
use crate::domain::silence::Silence;
use crate::domain::time::{Span, Wall};
use std::collections::BTreeMap;
use tokio::time::{Instant, sleep_until};

/// What is remembered of one Alertmanager from round to round. None of it is needed: a round begins by asking.
pub(super) struct Session {
    peer: PeerId,
    client: Client,
    timing: Timing,
    skew: Skew,
    known: Option<Identity>,
}

/// What a round brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// Its word on each incident that it was told of.
    pub words: BTreeMap<IncidentId, Word>,
    /// It has what fires and no longer has what ended. If not, the next round comes sooner.
    pub complete: bool,
}

impl Session {
    pub(super) fn new(peer: &Peer, timing: Timing) -> Result<Session, Unusable> {
        let client = Client::new(peer, &timing)?;
        Ok(Session { peer: peer.id, client, timing, skew: Skew::default(), known: None })
    }

    /// Why a round failed, for people.
    pub(super) fn words(&self, failure: &Failure) -> String {
        self.client.words(failure)
    }

    /// The same for one that was not done in time.
    pub(super) fn too_slow_words(&self) -> String {
        self.client.words(&Failure::Slow { within: Span::from(self.timing.round) })
    }

    /// One round. May be dropped anywhere: the next one does all of it again.
    pub(super) async fn round(&mut self, wanted: &[Alert]) -> Result<Round, Failure> {
        self.meet().await?;
        let now = wall_now();
        let sent: Vec<&Alert> = wanted.iter().filter(|alert| wire::is_sent(alert, now)).collect();
        if sent.is_empty() {
            return Ok(Round { words: BTreeMap::new(), complete: true });
        }
        let refused = self.post(&sent, now).await?;
        let stored = self.read_back(&sent, &refused).await?;
        Ok(judge(&sent, refused, &stored))
    }

    /// Its silences; none if it does not say.
    pub(super) async fn silences(&self) -> Option<Vec<Silence>> {
        self.client.silences(self.skew.ahead_ms()).await
    }

    /// Asks who is there. What has restarted meanwhile has forgotten everything; that everything is posted now in any case.
    async fn meet(&mut self) -> Result<(), Failure> {
        let (identity, date) = self.client.status().await?;
        if let Some(ahead_ms) = date.and_then(|date| self.skew.learn(date, wall_now())) {
            tracing::warn!(
                peer = %self.peer,
                ahead_ms,
                "the clock of this Alertmanager, or ours, is wrong (0: no longer): alerts carry the times of its clock; \
                 look after NTP"
            );
        }
        if self.known.as_ref() != Some(&identity) {
            let restarted = self.known.as_ref().is_some_and(|known| known.uptime != identity.uptime);
            tracing::info!(
                peer = %self.peer,
                restarted,
                version = identity.version_info.version,
                cluster = identity.cluster.status,
                "Alertmanager answers"
            );
            self.known = Some(identity);
        }
        Ok(())
    }

    /// Posts all of `sent`; gives back which are refused, in its words. A batch with one bad alert is refused as a whole, so
    /// it is halved until the bad ones stand alone: that takes 16 requests for one in 256, and helps with a batch that is
    /// too large for a proxy as well.
    async fn post(&self, sent: &[&Alert], now: Wall) -> Result<BTreeMap<IncidentId, String>, Failure> {
        let mut refused = BTreeMap::new();
        let mut left: Vec<&[&Alert]> = sent.chunks(BATCH_MAX).rev().collect();
        while let Some(batch) = left.pop() {
            let body = wire::post_body(batch, now, self.skew.ahead_ms());
            let body = body.map_err(|source| Failure::Unwritable { source })?;
            match (self.client.post(body).await?, batch) {
                (Posted::Taken, _) => {}
                (Posted::Refused(words), [alone]) => {
                    refused.insert(alone.incident, words);
                }
                (Posted::Refused(_), _) => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    left.extend([second, first]);
                }
            }
        }
        Ok(refused)
    }

    /// What it has, by fingerprint. Looks a second time before anything is said to be missing.
    async fn read_back(
        &self,
        sent: &[&Alert],
        refused: &BTreeMap<IncidentId, String>,
    ) -> Result<BTreeMap<String, Word>, Failure> {
        let posted = Instant::now();
        let stored = self.client.stored().await?;
        if !misses_one(sent, refused, &stored) {
            return Ok(stored);
        }
        sleep_until(posted + self.timing.second_look).await;
        self.client.stored().await
    }
}

/// Whether it lacks an alert that fires and that it took: that is worth a second look.
pub fn misses_one(
    sent: &[&Alert],
    refused: &BTreeMap<IncidentId, String>,
    stored: &BTreeMap<String, Word>,
) -> bool {
    let missing = |alert: &&Alert| {
        alert.ended.is_none()
            && !refused.contains_key(&alert.incident)
            && !stored.contains_key(&fingerprint(&alert.labels))
    };
    sent.iter().any(missing)
}

/// Its word on each alert that was sent: those that it refused, in its words, and what it has, by fingerprint.
pub fn judge(
    sent: &[&Alert],
    mut refused: BTreeMap<IncidentId, String>,
    stored: &BTreeMap<String, Word>,
) -> Round {
    let mut words = BTreeMap::new();
    let mut complete = true;
    for alert in sent {
        let there = stored.get(&fingerprint(&alert.labels));
        let word = match (refused.remove(&alert.incident), alert.ended, there) {
            (Some(words), _, _) => Some(Word::Rejected(words)),
            (None, None, Some(word)) => Some(word.clone()),
            (None, None, None) => Some(Word::Absent),
            (None, Some(_), None) => Some(Word::Resolved),
            // It said yes to the end and goes on: its clock is a little behind, or somebody else posts the same alert.
            // There is no word for that; it hears of the end again soon.
            (None, Some(_), Some(_)) => None,
        };
        complete &= !matches!(word, None | Some(Word::Absent));
        words.extend(word.map(|word| (alert.incident, word)));
    }
    Round { words, complete }
}
