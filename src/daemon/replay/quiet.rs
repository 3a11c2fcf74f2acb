//! The probes that are in no journal, because nothing followed from them.
//!
//! A server of which nothing is recorded goes on as it was: one that is up, with nothing counted against it, has answered each
//! time it was asked; one that is down, with nothing counted for it, has failed each time. Anything else would have been
//! news, and is on record. So what a replay with other settings wants to know of it can be told: as long as the journal
//! stays silent about it, it is asked at the pace of those settings, and answers so.
//!
//! What cannot be told: answers that are slow for the other settings only, and results that are late for the present ones only.

use crate::domain::action::Pace;
use crate::domain::event::{Event, Probed};
use crate::domain::health::Health;
use crate::domain::state::Server;
use crate::domain::witness::{Cause, ProbeOutcome};
use crate::domain::{Boot, ServerId, Span};
use std::collections::{BTreeMap, BTreeSet};

/// How often the other settings ask one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Its `ready` probe.
    pub ready: Span,
    /// The same while something begins to change.
    pub ready_fast: Span,
    /// Its `live` probe.
    pub live: Span,
}

/// So many answers in a row of which nothing follows: it is not asked again before something changes. More than `rise` and
/// `fall` of any settings, which go to 100.
const IN_VAIN: u32 = 128;

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    Ready,
    Live,
}

/// A server that is to be asked.
#[derive(Debug, Clone, Copy)]
struct Asked {
    next: Boot,
    outcome: ProbeOutcome,
    in_vain: u32,
}

/// Whom the replay asks, and what they answer.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    asked: BTreeMap<(ServerId, Purpose), Asked>,
    /// The same, soonest first.
    order: BTreeSet<(Boot, ServerId, Purpose)>,
    /// How many answers were taken so.
    pub(super) inferred: u64,
}

/// What a server answers whose state in the journal is `was`, if that is news for one that is `would`; none if the journal
/// tells itself, or nothing would follow.
pub(super) fn answers(was: &Server, would: &Server, purpose: Purpose) -> Option<ProbeOutcome> {
    let (before, awaited) = match purpose {
        Purpose::Ready => (was.health, would.is_awaited()),
        Purpose::Live => (was.life, would.is_life_awaited()),
    };
    let now = match purpose {
        Purpose::Ready => would.health,
        Purpose::Live => would.life,
    };
    match before {
        Health::Up { bad: None, .. } if purpose == Purpose::Live || was.asked.is_none() => {
            awaited.then_some(ProbeOutcome::Connected { took: Span::ZERO })
        }
        Health::Down { good: 0, cause: Cause::Probe(fault), .. } => {
            let news = !matches!(now, Health::Down { good: 0, .. });
            news.then_some(ProbeOutcome::Failed(fault))
        }
        Health::Up { .. } | Health::Down { .. } | Health::Unknown { .. } => None,
    }
}

impl Quiet {
    /// Begins, goes on or stops asking a server, after something was heard of it at `now`. `heard`: an answer of it itself.
    pub(super) fn set(
        &mut self,
        server: ServerId,
        purpose: Purpose,
        outcome: Option<ProbeOutcome>,
        now: Boot,
        every: Span,
        heard: bool,
    ) {
        let key = (server, purpose);
        let before = self.asked.get(&key).copied();
        let Some(outcome) = outcome else { return self.forget(key) };
        let goes_on = before.filter(|before| before.outcome == outcome && !heard);
        let next = goes_on.map_or(now + every, |before| before.next.min(now + every));
        self.forget(key);
        self.order.insert((next, server, purpose));
        let in_vain = goes_on.map_or(0, |before| before.in_vain);
        self.asked.insert(key, Asked { next, outcome, in_vain });
    }

    /// When the next one answers.
    pub(super) fn next(&self) -> Option<Boot> {
        self.order.first().map(|(at, ..)| *at)
    }

    /// The next answer.
    pub(super) fn pop(&mut self) -> Option<(ServerId, Purpose, Event)> {
        let (at, server, purpose) = self.order.pop_first()?;
        let outcome = self.asked.get(&(server, purpose))?.outcome;
        self.inferred += 1;
        let probed = Probed { server, due: at, started: at, ended: at, outcome };
        let event = match purpose {
            Purpose::Ready => Event::Probed(probed),
            Purpose::Live => Event::Lived(probed),
        };
        Some((server, purpose, event))
    }

    /// The answer led to nothing: asked again after `every`, unless that has been so for long.
    pub(super) fn in_vain(&mut self, server: ServerId, purpose: Purpose, now: Boot, every: Span) {
        let key = (server, purpose);
        let Some(asked) = self.asked.get_mut(&key) else { return };
        asked.in_vain += 1;
        asked.next = now + every;
        if asked.in_vain >= IN_VAIN {
            return self.forget(key);
        }
        self.order.insert((asked.next, server, purpose));
    }

    /// Nobody is asked any more.
    pub(super) fn clear(&mut self) {
        self.asked.clear();
        self.order.clear();
    }

    fn forget(&mut self, key: (ServerId, Purpose)) {
        if let Some(before) = self.asked.remove(&key) {
            self.order.remove(&(before.next, key.0, key.1));
        }
    }
}

impl Intervals {
    /// How often, at this pace. Never nothing, or time would stand still.
    pub(super) fn every(self, purpose: Purpose, pace: Pace) -> Span {
        let every = match (purpose, pace) {
            (Purpose::Ready, Pace::Normal) => self.ready,
            (Purpose::Ready, Pace::Fast) => self.ready_fast,
            (Purpose::Live, Pace::Normal | Pace::Fast) => self.live,
        };
        every.max(Span(1))
    }
}

/// Those of a server that the other settings do not have: it is not asked there, but its events have to end.
impl Default for Intervals {
    fn default() -> Intervals {
        Intervals { ready: Span::seconds(1), ready_fast: Span(250), live: Span::seconds(10) }
    }
}
