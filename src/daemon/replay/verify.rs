//! Every decision once more: the same state, event and time must give the same bytes.

use super::Window;
use super::segments::{Because, Segments, Step, Unreadable};
use crate::domain::{Decision, Now, State, decide};
use crate::store::{Gap, Item, Record, SnapshotInfo, StoredRecord, StoredSnapshot};
use serde::Serialize;
use std::collections::BTreeSet;

/// How much of a difference is shown, on either side of where it begins, in bytes: together they fit in a line.
const EXCERPT: usize = 32;

/// What there is to tell.
#[derive(Debug)]
pub enum Told {
    /// A replay begins with this snapshot.
    Began {
        /// Its label.
        info: SnapshotInfo,
        /// Why.
        because: Because,
    },
    /// A decision within the window; and how it differs from the one of today, if it does.
    Decided {
        /// What the journal has.
        record: Box<Record>,
        /// The first difference.
        difference: Option<Difference>,
    },
    /// The state that was stored whole is not what the records before it come to.
    StateDiffers {
        /// The snapshot's label.
        info: SnapshotInfo,
        /// The first difference.
        difference: Difference,
    },
    /// Records are missing.
    Gap(Gap),
    /// Something cannot be read.
    Unreadable(Unreadable),
}

/// Where the bytes begin to differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Of what: `changes`, `actions`, `reasons`, `state` or `policy`.
    pub part: &'static str,
    /// From this byte on, from 0.
    pub byte: usize,
    /// What the journal has there.
    pub journal: String,
    /// What is decided now.
    pub replay: String,
}

impl Difference {
    /// The first one between two texts; none if they are the same.
    fn between(part: &'static str, journal: &str, replay: &str) -> Option<Difference> {
        if journal == replay {
            return None;
        }
        let same = journal.bytes().zip(replay.bytes()).take_while(|(one, other)| one == other).count();
        let excerpt = |text: &str| {
            let from = (0..=same.saturating_sub(EXCERPT)).rev().find(|at| text.is_char_boundary(*at));
            let end = (same + EXCERPT).min(text.len());
            let to = (end..=text.len()).find(|at| text.is_char_boundary(*at));
            text.get(from.unwrap_or(0)..to.unwrap_or(text.len())).unwrap_or_default().to_owned()
        };
        Some(Difference { part, byte: same, journal: excerpt(journal), replay: excerpt(replay) })
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verified {
    /// How many decisions were made again, from the snapshot before the window on.
    pub decided: u64,
    /// How many of them are in the window.
    pub shown: u64,
    /// How many states that were stored whole were compared.
    pub states: u64,
    /// How many of both differ.
    pub differences: u64,
    /// How many records could not be replayed.
    pub skipped: u64,
    /// When the first and the last decision within the window were made.
    pub span: Option<(Now, Now)>,
    /// The versions of supervisor that wrote what was replayed.
    pub versions: BTreeSet<String>,
}

/// Takes the items of a journal in order.
#[derive(Debug)]
pub struct Verifier {
    window: Window,
    segments: Segments,
    state: State,
    verified: Verified,
    over: bool,
}

impl Verifier {
    /// Of what is in `window`, decisions are told; from the first item on, they are made again.
    pub fn new(window: Window) -> Verifier {
        Verifier {
            window,
            segments: Segments::default(),
            state: State::default(),
            verified: Verified::default(),
            over: false,
        }
    }

    /// The state after what was told last.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether what comes is beyond the window.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// One more item. `tell` hears of each thing as soon as the state is the one after it.
    ///
    /// # Errors
    ///
    /// Those of `tell`.
    pub fn feed<E>(
        &mut self,
        item: Item,
        tell: &mut impl FnMut(Told, &State) -> Result<(), E>,
    ) -> Result<(), E> {
        let steps = self.segments.feed(item);
        steps.into_iter().try_for_each(|step| self.step(step, tell))
    }

    /// No more items come.
    ///
    /// # Errors
    ///
    /// Those of `tell`.
    pub fn end<E>(mut self, tell: &mut impl FnMut(Told, &State) -> Result<(), E>) -> Result<Verified, E> {
        let steps = self.segments.end();
        steps.into_iter().try_for_each(|step| self.step(step, tell))?;
        self.verified.skipped = self.segments.skipped;
        Ok(self.verified)
    }

    fn step<E>(&mut self, step: Step, tell: &mut impl FnMut(Told, &State) -> Result<(), E>) -> Result<(), E> {
        if self.over {
            return Ok(());
        }
        match step {
            Step::Begin { state, info, because } => {
                self.state = *state;
                self.verified.versions.insert(info.binary_version.clone());
                tell(Told::Began { info, because }, &self.state)
            }
            Step::Checkpoint(snapshot) => match self.compare(&snapshot) {
                Some(difference) => {
                    let info = snapshot.info;
                    tell(Told::StateDiffers { info, difference }, &self.state)
                }
                None => Ok(()),
            },
            Step::Record(record, stored) => {
                if self.window.is_over(record.now.wall) {
                    self.over = true;
                    return Ok(());
                }
                let difference = self.decide(&record, &stored);
                if !self.window.has_begun(record.now.wall) && difference.is_none() {
                    return Ok(());
                }
                self.verified.shown += 1;
                let first = self.verified.span.map_or(record.now, |(first, _)| first);
                self.verified.span = Some((first, record.now));
                tell(Told::Decided { record, difference }, &self.state)
            }
            Step::Gap(gap) => tell(Told::Gap(gap), &self.state),
            Step::Unreadable(unreadable) => tell(Told::Unreadable(unreadable), &self.state),
        }
    }

    /// Decides again. Goes on with what the journal has, so that one difference does not make all that follow.
    fn decide(&mut self, record: &Record, stored: &StoredRecord) -> Option<Difference> {
        let Decision { changes, actions, reasons } = decide(&self.state, &record.event, record.now);
        let difference = Difference::between("changes", &stored.changes, &json(&changes))
            .or_else(|| Difference::between("actions", &stored.actions, &json(&actions)))
            .or_else(|| Difference::between("reasons", &stored.reasons, &json(&reasons)));
        self.state.apply(&record.decision.changes);
        self.verified.decided += 1;
        self.verified.differences += u64::from(difference.is_some());
        difference
    }

    /// Compares the state with one that was stored whole. Goes on with the stored one.
    fn compare(&mut self, snapshot: &StoredSnapshot) -> Option<Difference> {
        let policy = std::mem::take(&mut self.state.policy);
        let difference = Difference::between("state", &snapshot.state, &json(&self.state))
            .or_else(|| Difference::between("policy", &snapshot.policy, &json(&policy)));
        self.state.policy = policy;
        self.verified.states += 1;
        self.verified.differences += u64::from(difference.is_some());
        if let (Some(_), Ok(state)) = (&difference, snapshot.read()) {
            self.state = state;
        }
        difference
    }
}

/// As the store writes it. What cannot be written, which nothing of ours is, differs from everything.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
