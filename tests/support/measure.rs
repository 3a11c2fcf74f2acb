//! From records to figures: sent, failed, the gap, who served. Pure: no clock, no I/O.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// When the schedule wanted it sent.
    pub(crate) due: Instant,
    /// When its last byte, its error or its deadline came.
    pub(crate) finished: Instant,
    /// How it ended.
    pub(crate) outcome: Outcome,
}

/// How one request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A complete 2xx from this site (the API's `X-Site` header).
    Answered {
        /// The site's name.
        site: Box<str>,
    },
    /// Anything else.
    Failed(Failure),
}

/// Why a request failed, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// Nothing complete before the client's deadline.
    Timeout,
    /// An answer with this status.
    Status(u16),
    /// Nothing listened.
    Refused,
    /// The connection broke, before or inside the answer.
    Broken,
    /// A body longer than any of the API's.
    BodyTooLong,
    /// The generator itself could not send: the measurement is void.
    NotSent,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("timeout"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::Refused => f.write_str("refused"),
            Self::Broken => f.write_str("broken connection"),
            Self::BodyTooLong => f.write_str("body too long"),
            Self::NotSent => f.write_str("not sent"),
        }
    }
}

impl Record {
    /// The site that answered with a 2xx, if one did.
    pub(crate) fn site(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Answered { site } => Some(site),
            Outcome::Failed(_) => None,
        }
    }
}

/// The stretch before the window's end in which a peer must serve to count as recovered: 200 requests at the usual
/// rate, so that a lucky one does not count as service.
const PROOF: Duration = Duration::from_secs(1);

/// The share of [`PROOF`]'s requests that must succeed, in percent: one bad request in a second is no outage.
const PROOF_PERCENT: usize = 99;

/// What the client saw between two moments.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    /// Requests that were in flight at the start or due before the end.
    pub(crate) sent: usize,
    /// Those of them without a complete 2xx within the client's deadline.
    pub(crate) failed: usize,
    /// The longest time between two successive successes, from the start on; the time to the end if not recovered.
    pub(crate) gap: Duration,
    /// Whether requests were served at the end.
    pub(crate) recovered: bool,
    /// Successes per site.
    pub(crate) by_site: BTreeMap<Box<str>, usize>,
    /// Failures per kind.
    pub(crate) failures: BTreeMap<Failure, usize>,
}

/// Measures `[from, to)`. The records may be in any order and must hold everything due before `to`.
pub(crate) fn window(records: &[Record], from: Instant, to: Instant) -> Window {
    let mut by_site = BTreeMap::new();
    let mut failures = BTreeMap::new();
    let (mut sent, mut failed) = (0, 0);
    for record in records.iter().filter(|record| record.due < to && record.finished >= from) {
        sent += 1;
        match &record.outcome {
            Outcome::Answered { site } => *by_site.entry(site.clone()).or_default() += 1,
            Outcome::Failed(failure) => {
                failed += 1;
                *failures.entry(*failure).or_default() += 1;
            }
        }
    }
    let recovered = serves_before(records, from, to);
    let gap = if recovered { longest_gap(records, from, to) } else { to.duration_since(from) };
    Window { sent, failed, gap, recovered, by_site, failures }
}

/// The first success that was answered by `site`, due at `after` or later: when it was finished.
pub(crate) fn first_from(records: &[Record], site: &str, after: Instant) -> Option<Instant> {
    records.iter().filter(|r| r.due >= after && r.site() == Some(site)).map(|r| r.finished).min()
}

/// The first success from `site` that *finished* after `after`, whenever it was due. A request that was caught by a
/// fault and answered by the other site counts here.
pub(crate) fn first_finished_from(records: &[Record], site: &str, after: Instant) -> Option<Instant> {
    records.iter().filter(|r| r.finished >= after && r.site() == Some(site)).map(|r| r.finished).min()
}

/// The gap that spans `from` counts whole: it begins with the last success the client had before.
fn longest_gap(records: &[Record], from: Instant, to: Instant) -> Duration {
    let mut successes: Vec<Instant> =
        records.iter().filter(|r| r.site().is_some() && r.finished < to).map(|r| r.finished).collect();
    successes.sort_unstable();
    successes
        .windows(2)
        .filter(|pair| pair[1] >= from)
        .map(|pair| pair[1].duration_since(pair[0]))
        .max()
        .unwrap_or_else(|| to.duration_since(from))
}

fn serves_before(records: &[Record], from: Instant, to: Instant) -> bool {
    let proof_from = to.checked_sub(PROOF).map_or(from, |start| start.max(from));
    let last: Vec<&Record> = records.iter().filter(|r| r.due >= proof_from && r.due < to).collect();
    let served = last.iter().filter(|r| r.site().is_some()).count();
    !last.is_empty() && served * 100 >= last.len() * PROOF_PERCENT
}

/// The middle of the values, the lower one of two: a figure that was really measured.
pub(crate) fn median<T: Ord + Copy>(values: &[T]) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}
