//! One container that is to run: who ended it, and whether and when it is started again.
//!
//! ```text
//!            a signal, then `die`          `stop`              2 s
//!   Runs ───────────────────────► Judging ───────► Stopping ───────► Held ──────► (somebody starts it) Runs
//!    ▲ │                             │ 1 s without `stop`: `docker kill`, so `on_kill` says
//!    │ └── `die` alone: a crash ─────┴──► Docker ─── its time is over ──┐
//!    │                                      (its own restart policy)    ▼
//!    └───────────────────────────── Acting ◄──────── budget ──────── Due ──► GivenUp: pages, tries slowly
//! ```
//!
//! Docker's state does not tell a person's `docker stop` from a crash: only the order of its events does
//! (`stop` = kill 15, die, stop; a program that ignores it adds kill 9; `docker kill` = kill 9, die; a crash = die). And an
//! engine that goes down makes the same events as a person would, for all its containers, and then its stream ends.
//!
//! Traffic waits for none of this: it leaves at `die`. Only healing must know who did it.

mod after;
pub mod depends;

use super::action::{ActionId, Deed};
use super::command::Scope;
use super::event::{ComposeService, DockersPolicy, Facts};
use super::id::{ContainerName, SiteId};
use super::jitter;
use super::policy::{ContainerPolicy, HealLimits, HealMode};
use super::time::{Boot, Span, Wall};
use serde::{Deserialize, Serialize};

/// After a `die` that a signal came before, `stop` follows within this if it was `docker stop`. The engine logs both in
/// one go; a second allows for a busy one.
pub const STOP_FOLLOWS: Span = Span::seconds(1);

/// A `stop` is a person's if the engine is still there after this; when it ends itself, its stream ends with the last
/// container.
pub const STOP_CERTAIN: Span = Span::seconds(2);

/// An engine that goes down signals all its containers within this, however long it then waits for them. (moby,
/// `daemon.Shutdown`: all at once; measured: five within 3 ms)
pub const SIGNALLED_TOGETHER: Span = Span::seconds(1);

/// An engine that goes down is gone this soon after its last container ended: it clears up and closes its streams.
pub const ENGINE_GONE_AFTER: Span = Span::seconds(3);

/// A signal counts as the cause of a `die` for the container's stop timeout and this much more.
pub const SIGNAL_WORKS: Span = Span::seconds(5);

/// What a list found ended is judged after this: its events may still be on their way.
const PAST_ARRIVES: Span = Span::seconds(1);

/// What is known of a container only from its events is read within this, unless its engine hangs.
const FACTS_ARRIVE: Span = Span::seconds(1);

/// After an engine is back, its own restart policies go first for this long; they start everything at once.
const ENGINE_STARTS: Span = Span::seconds(5);

/// `kill` may be told after the death that it led to: the engine announces a signal when it has sent it, and a death as it
/// notices it. (moby, `daemon/kill.go`: `killWithSignal` logs last)
const KILL_TOLD_WITHIN: Span = Span::seconds(2);

/// `oom` comes just before the `die` that it causes, or, on a busy engine, just after it.
const OOM_ENDS_WITHIN: Span = Span::seconds(2);

/// Docker's first pause before it starts a container again, doubled each time up to a minute.
/// (moby, `restartmanager`: `defaultTimeout`, `maxRestartTimeout`)
const DOCKERS_PAUSE: Span = Span(100);
const DOCKERS_LONGEST: Span = Span::seconds(60);

/// The least that Docker's own policy is waited for: its pause, and the time that a start takes on a busy engine.
const DOCKERS_LEAST: Span = Span::seconds(5);

/// An action whose end is not reported by then is taken for one whose end nobody knows. The actuator's own deadline is
/// shorter by far.
const ACTING_AT_MOST: Span = Span::seconds(300);

/// Exit codes after which a container that nobody watched may have been stopped by a person: ended by itself, SIGKILL,
/// SIGTERM (128 + signal).
const AMBIGUOUS_EXITS: [i32; 3] = [0, 137, 143];

/// The most starts that are remembered; settings refuse a larger budget.
pub const STARTS_MAX: usize = 64;

/// What is known about keeping one container alive.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Repair {
    /// The container's id: another one is another container of the same name.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// Our starts and restarts that may still count, oldest first; at most [`STARTS_MAX`].
    pub starts: Vec<Boot>,
    /// How often in a row it was started without running for long.
    pub attempt: u16,
    /// The last signal that was sent to it.
    pub signal: Option<Signal>,
    /// When a process in it was last killed for want of memory.
    pub oom: Option<Boot>,
    /// How it ended last.
    pub last: Option<Ending>,
    /// When an event of it was heard last: an older list says nothing.
    pub heard: Boot,
    /// When that was, by its engine's own clock: nanoseconds since the Unix epoch. What the engine remembers from before
    /// is no news.
    #[serde(default)]
    pub engine_time: i64,
    /// What keeps back what is due.
    pub waits: Option<HealWait>,
    /// The start of the container whose network it uses after which it was restarted last, as [`Facts::started`] has it: one
    /// start of that one is a reason for one restart of this one.
    #[serde(default)]
    pub rejoined: Option<i64>,
    /// How it ended while a restart of ours was under way. That was the restart, unless it turns out to have done nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meanwhile: Option<Ending>,
}

/// Why a container is not healed although it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealWait {
    /// The starts of its site are spent for now.
    SiteBudget {
        /// Whose.
        site: SiteId,
    },
    /// So many of the service's servers are dead together that it is something they have in common.
    Together {
        /// So many.
        dead: u16,
        /// Of so many.
        of: u16,
    },
    /// It runs and is dead, and was restarted too often: people are told, and it is tried again slowly.
    Spent,
    /// It is dead by one witness, but by another it serves, and nothing else can take over from it.
    LastServing,
    /// It answers, and its traffic is on the way elsewhere: that leaves first.
    TrafficLeaves,
    /// Somebody else is ending it, which may take as long as its stop timeout.
    BeingEnded,
    /// A person has paused it.
    Paused {
        /// As part of this.
        scope: Scope,
    },
    /// A container that it depends on does not run.
    Dependency {
        /// Which.
        on: ContainerName,
        /// How that one stands.
        stands: Stands,
    },
    /// The container whose network it uses does not exist any more: it can never be started again.
    NetworkGone {
        /// Whose network it was.
        of: ContainerName,
        /// Where Docker Compose has the container from: how it is created anew.
        compose: Option<ComposeService>,
    },
}

/// How a container stands that another one waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stands {
    /// It ended. It is on its way back, or an incident of its own tells of it.
    Down,
    /// A person ended it.
    Held,
    /// It was never seen running.
    Unseen,
    /// It does not exist.
    Gone,
    /// It does not run, and nobody has asked supervisor to look after it.
    Unwatched,
}

impl HealWait {
    /// Whether it lasts until a person does something, and no other incident tells of it.
    pub fn needs_a_person(&self) -> bool {
        match self {
            HealWait::Dependency { stands, .. } => match stands {
                Stands::Held | Stands::Unseen | Stands::Gone | Stands::Unwatched => true,
                Stands::Down => false,
            },
            HealWait::NetworkGone { .. } | HealWait::Spent => true,
            HealWait::SiteBudget { .. }
            | HealWait::Together { .. }
            | HealWait::LastServing
            | HealWait::TrafficLeaves
            | HealWait::BeingEnded
            | HealWait::Paused { .. } => false,
        }
    }

    /// Whether something wakes the container when it ends: a person's word, or what becomes of another container. Nothing is
    /// looked at meanwhile.
    pub fn is_woken(&self) -> bool {
        matches!(self, HealWait::Paused { .. }) || self.is_for_another()
    }

    /// Whether it ends with what becomes of another container.
    pub fn is_for_another(&self) -> bool {
        match self {
            HealWait::Dependency { .. } | HealWait::NetworkGone { .. } => true,
            HealWait::SiteBudget { .. }
            | HealWait::Together { .. }
            | HealWait::Spent
            | HealWait::LastServing
            | HealWait::TrafficLeaves
            | HealWait::BeingEnded
            | HealWait::Paused { .. } => false,
        }
    }
}

/// Where a container stands. The only variants that act are [`Phase::Due`], [`Phase::Ailing`] and [`Phase::GivenUp`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing was seen of it since the start, or since it was created.
    #[default]
    Unseen,
    /// It runs.
    Runs {
        /// Since then, as far as we know.
        since: Boot,
    },
    /// It runs and is dead: its `live` probes or Docker's own check say so, or its network is lost.
    Ailing {
        /// It runs since then.
        since: Boot,
        /// When a restart is considered.
        at: Boot,
        /// Its budget was spent: it is restarted slowly until it lives.
        #[serde(default)]
        spent: bool,
    },
    /// It ended; who did it is not known yet.
    Judging {
        /// How.
        ending: Ending,
        /// Known by then.
        until: Boot,
    },
    /// A `stop` was heard; it may yet be the engine that goes down.
    Stopping {
        /// How.
        ending: Ending,
        /// Certain by then.
        until: Boot,
    },
    /// A person ended it: nothing is started until somebody starts it.
    Held {
        /// Since then.
        since: Boot,
    },
    /// It ended with its engine; judged when that is back.
    WithEngine,
    /// Docker's own restart policy goes first.
    Docker {
        /// For this long.
        until: Boot,
    },
    /// It is to be started.
    Due {
        /// Then.
        at: Boot,
    },
    /// It is being started or restarted.
    Acting {
        /// By this action.
        action: ActionId,
        /// Which does this.
        deed: Deed,
        /// Since then.
        since: Boot,
    },
    /// It was started too often: a person is asked, and it is tried again slowly.
    GivenUp {
        /// When next.
        next: Boot,
    },
    /// It stays ended: its policy says so, or nobody knows who ended it.
    Left,
    /// It does not exist.
    Gone,
}

/// A signal that somebody sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Its number.
    pub number: i32,
    /// When that was heard.
    pub at: Boot,
    /// When the first one was heard of those that belong together: `docker stop` sends KILL to what ignores TERM.
    #[serde(default)]
    pub first: Boot,
    /// When it was sent, by its engine's own clock: nanoseconds since the Unix epoch; 0: not known.
    #[serde(default)]
    pub engine_time: i64,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// Who did it.
    pub who: Ender,
    /// Its exit code, where Docker tells.
    pub exit: Option<i32>,
    /// For want of memory.
    pub oom: bool,
    /// When.
    pub at: Boot,
    /// When, for people.
    pub wall: Wall,
}

/// Who ended a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ender {
    /// Itself, or the kernel: nobody sent it a signal that ends.
    Crash,
    /// A person, with `docker stop`.
    Stop,
    /// A person, with `docker kill`.
    Kill,
    /// Its engine, which went down.
    Engine,
    /// Nobody saw it.
    Unseen,
}

/// What happened to a container, as far as healing is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// This process began to watch.
    Began,
    /// `kill`: a signal was sent.
    Signal(i32),
    /// `die`.
    Died {
        /// With this code.
        exit: Option<i32>,
        /// For want of memory.
        oom: bool,
    },
    /// `oom`: a process in it was killed for want of memory; `die` follows if it was the first one.
    OutOfMemory,
    /// `stop`: the end of a `docker stop`.
    Stop,
    /// `start`.
    Start,
    /// `destroy`, or it is in no list.
    Removed,
    /// A list has it running, begun at `at`.
    SeenRunning {
        /// When the list was begun.
        at: Boot,
    },
    /// A list has it between two starts of Docker's own policy.
    SeenRestarting {
        /// When the list was begun.
        at: Boot,
    },
    /// A list has it created and not started.
    SeenCreated {
        /// When the list was begun.
        at: Boot,
    },
    /// A list has it ended.
    SeenEnded {
        /// When the list was begun.
        at: Boot,
        /// Its exit code.
        exit: Option<i32>,
        /// For want of memory.
        oom: bool,
        /// The engine had been lost before this list.
        engine_was_lost: bool,
    },
    /// Its engine ended it as it began: it had gone on while its engine was dead.
    EndedWithEngine {
        /// Its exit code.
        exit: Option<i32>,
        /// For want of memory.
        oom: bool,
    },
    /// The engine's events ended.
    EngineLost {
        /// It was going down: what it was signalled from then on, it was by its engine.
        ending_since: Option<Boot>,
    },
    /// It runs, and its probes or Docker's check say that it is dead.
    Dead {
        /// What dies of the same is found dead within this.
        others_within: Span,
    },
    /// It runs, and the network that it uses of another container is one that nobody has any more.
    NetworkLost,
    /// It runs, and nothing says any more that it is dead.
    Alive,
    /// Our action ended.
    Finished(End),
    /// Time passed.
    Tick,
}

/// How our action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Done.
    Done,
    /// The engine refused, or failed.
    Failed,
    /// The engine could not be asked: nothing was done.
    NotBegun,
    /// The container was no longer as it had been when it was decided.
    Superseded,
    /// Begun, and nobody knows.
    Unknown,
}

/// What decides what follows.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The container's own.
    pub policy: &'a ContainerPolicy,
    /// Everybody's.
    pub limits: &'a HealLimits,
    /// What Docker says about it.
    pub facts: &'a Facts,
    /// For jitter: a hash of its name.
    pub seed: u64,
    /// Now: what is to be done is done after this.
    pub now: Boot,
    /// When it happened; before `now`, if it is told late.
    pub at: Boot,
    /// When it happened, by its engine's own clock, if that announced it: nanoseconds since the Unix epoch; 0: it did not.
    pub engine_time: i64,
    /// The same for people.
    pub wall: Wall,
}

impl Rules<'_> {
    /// Whether and how it is healed: the settings' word, else its label's, else automatically.
    pub fn mode(&self) -> HealMode {
        self.policy.heal.or(self.facts.heal).unwrap_or(HealMode::Auto)
    }

    fn dockers_turn(&self, exit: Option<i32>) -> bool {
        match self.facts.restart {
            DockersPolicy::No => false,
            DockersPolicy::Always | DockersPolicy::UnlessStopped => true,
            DockersPolicy::OnFailure { most } => exit != Some(0) && (most == 0 || self.facts.restarts < most),
        }
    }

    /// How long Docker's own policy is waited for: twice its pause.
    fn dockers_time(&self) -> Span {
        let doublings = self.facts.restarts.min(10);
        let pause = Span((DOCKERS_PAUSE.0 << doublings).min(DOCKERS_LONGEST.0));
        Span(2 * pause.0).max(DOCKERS_LEAST)
    }

    /// The pause before start number `attempt` in a row: none before the first.
    fn pause(&self, attempt: u16) -> Span {
        let Some(tries) = attempt.checked_sub(1) else { return Span::ZERO };
        let (first, longest) = (self.limits.backoff_first.duration(), self.limits.backoff_longest.duration());
        jitter::backoff(self.seed, u32::from(tries), first, longest).into()
    }
}

impl Phase {
    /// When its time comes.
    pub fn deadline(&self) -> Option<Boot> {
        match self {
            Phase::Ailing { at, .. } | Phase::Due { at } => Some(*at),
            Phase::Judging { until, .. } | Phase::Stopping { until, .. } | Phase::Docker { until } => {
                Some(*until)
            }
            Phase::Acting { since, .. } => Some(*since + ACTING_AT_MOST),
            Phase::GivenUp { next } => Some(*next),
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Left
            | Phase::Gone => None,
        }
    }

    /// The same, due at `until`. What is not due stays as it is.
    #[must_use]
    pub fn put_off(self, until: Boot) -> Phase {
        match self {
            Phase::Ailing { since, spent, .. } => Phase::Ailing { since, at: until, spent },
            Phase::GivenUp { .. } => Phase::GivenUp { next: until },
            Phase::Due { .. } => Phase::Due { at: until },
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Acting { .. }
            | Phase::Left
            | Phase::Gone => self,
        }
    }

    /// The stable word, for metrics and JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Phase::Unseen => "unseen",
            Phase::Runs { .. } => "runs",
            Phase::Ailing { .. } => "ailing",
            Phase::Judging { .. } => "judging",
            Phase::Stopping { .. } => "stopping",
            Phase::Held { .. } => "held",
            Phase::WithEngine => "with_engine",
            Phase::Docker { .. } => "docker",
            Phase::Due { .. } => "due",
            Phase::Acting { .. } => "acting",
            Phase::GivenUp { .. } => "given_up",
            Phase::Left => "left",
            Phase::Gone => "gone",
        }
    }
}

impl Repair {
    /// Whether its budget was spent: what is tried is tried slowly.
    pub fn is_given_up(&self) -> bool {
        matches!(self.phase, Phase::GivenUp { .. } | Phase::Ailing { spent: true, .. })
    }

    /// When time alone changes it.
    pub fn deadline(&self) -> Option<Boot> {
        self.phase.deadline().filter(|_| !self.waits.as_ref().is_some_and(HealWait::is_woken))
    }

    /// Notes that `action` does `deed` from now on.
    #[must_use]
    pub fn acting(&self, action: ActionId, deed: Deed, rules: Rules<'_>) -> Repair {
        let mut starts: Vec<Boot> = self.counted(rules).collect();
        starts.push(rules.now);
        if starts.len() > STARTS_MAX {
            starts.remove(0);
        }
        let phase = Phase::Acting { action, deed, since: rules.now };
        Repair {
            phase,
            starts,
            waits: None,
            meanwhile: None,
            attempt: self.attempt.saturating_add(1),
            ..self.clone()
        }
    }

    /// Our starts within the budget's window.
    pub fn counted(&self, rules: Rules<'_>) -> impl Iterator<Item = Boot> {
        let window = rules.limits.window;
        self.starts.iter().copied().filter(move |at| *at + window > rules.now)
    }

    /// Whether a process in it was killed for want of memory just before `at`.
    pub fn ran_out_of_memory(&self, at: Boot) -> bool {
        self.oom.is_some_and(|oom| at.since(oom) <= OOM_ENDS_WITHIN)
    }

    /// The death that an `oom` at `at` explains, if it was heard of before that.
    pub fn explained_by_memory(&self, at: Boot) -> Option<Ending> {
        let sudden = |ending: &Ending| matches!(ending.who, Ender::Crash) && !ending.oom;
        self.last.filter(|ending| sudden(ending) && at.since(ending.at) <= OOM_ENDS_WITHIN)
    }

    /// Until when it may still end of a signal that somebody sent it: a restart of ours would undo what they are doing.
    pub fn being_ended_until(&self, rules: Rules<'_>) -> Option<Boot> {
        let signal = self.signal.filter(|signal| signal.is_at_work(rules))?;
        Some(signal.at + rules.facts.stop_timeout + SIGNAL_WORKS).filter(|until| *until > rules.now)
    }

    /// Whether the container's budget is spent.
    pub fn is_spent(&self, rules: Rules<'_>) -> bool {
        self.counted(rules).count() >= usize::from(rules.limits.restarts)
    }

    /// Until when it has to run before it counts as well, if it is running again after its budget was spent.
    pub fn shaky_until(&self, limits: &HealLimits) -> Option<Boot> {
        let Phase::Runs { since } = self.phase else { return None };
        (self.attempt >= limits.restarts).then_some(since + limits.window)
    }

    /// Moves every moment onto another clock.
    pub(super) fn shift(&mut self, by: i64) {
        let moved = |at: &mut Boot| *at = at.shift(by);
        self.starts.iter_mut().for_each(moved);
        moved(&mut self.heard);
        self.oom.iter_mut().for_each(moved);
        if let Some(signal) = &mut self.signal {
            moved(&mut signal.at);
            moved(&mut signal.first);
        }
        for ending in self.last.iter_mut().chain(&mut self.meanwhile) {
            moved(&mut ending.at);
        }
        match &mut self.phase {
            Phase::Runs { since } | Phase::Held { since } | Phase::Acting { since, .. } => moved(since),
            Phase::Ailing { since, at, .. } => {
                moved(since);
                moved(at);
            }
            Phase::Judging { ending, until } | Phase::Stopping { ending, until } => {
                moved(&mut ending.at);
                moved(until);
            }
            Phase::Docker { until } => moved(until),
            Phase::Due { at } => moved(at),
            Phase::GivenUp { next } => moved(next),
            Phase::Unseen | Phase::WithEngine | Phase::Left | Phase::Gone => {}
        }
    }
}

#[cfg(test)]
mod tests;
