//! A script is played: each line is an event, decided and applied as in the daemon, and checked against the invariants.

use super::happening::Happening;
use super::outside::Outside;
use super::script::{Script, When};
use crate::domain::action::{Action, ActionId, Heal};
use crate::domain::decide::Decision;
use crate::domain::delivery::MailKey;
use crate::domain::event::{ContainerEvent, Event};
use crate::domain::id::{ServerId, ServiceId};
use crate::domain::invariants::{self, Breach};
use crate::domain::policy::{ContainerRef, ServicePolicy};
use crate::domain::reason::Reason;
use crate::domain::state::State;
use crate::domain::time::{Boot, Now, Span, Wall};
use crate::domain::{decide, explain};
use std::collections::BTreeMap;

/// Both clocks at a script's beginning, in milliseconds: not 0, so that what happened before has a time.
pub(super) const BEGINNING: i64 = 1_000_000;

/// The most wakes of one script.
const WAKES_MAX: u32 = 10_000;

/// The most steps of one script: some seconds, however many servers `probe all` is about.
const STEPS_MAX: u32 = 50_000;

/// The most wakes in a row in which no time passes: the core does a batch at a time, and a script is small.
const AT_ONCE_MAX: u32 = 64;

/// One step of a run.
#[derive(Debug)]
pub struct Step<'a> {
    /// The line that it comes from, from 1.
    pub line: usize,
    /// How long after the script's beginning.
    pub at: Span,
    /// What says that time.
    pub by: By,
    /// A deadline that was passed by without a wake, if one was.
    pub missed: Option<Span>,
    /// What it is about.
    pub what: What,
    /// What was decided; empty unless something was heard.
    pub decision: Decision,
    /// What stands, where somebody asked.
    pub standing: Vec<Reason>,
    /// The state after it.
    pub state: &'a State,
    /// The time after it.
    pub now: Now,
}

/// What says when a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Its line.
    Line,
    /// A deadline, for which its line waits.
    Wake,
    /// One of the deadlines up to the time of its line.
    Until,
}

/// What a step is about.
#[derive(Debug, Clone)]
pub enum What {
    /// Supervisor heard of it.
    Heard(Box<Event>),
    /// It happened, and supervisor did not hear of it.
    Unheard(ContainerEvent),
    /// Somebody asked why a service is where it is.
    Asked(ServiceId),
    /// The world is different from now on, in words.
    Aside(String),
}

/// Why a run ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// What a line says cannot happen at that moment.
    #[error("{why}")]
    Impossible {
        /// Which, from 1.
        line: usize,
        /// Why.
        why: String,
    },
    /// A decision broke an invariant: a bug of the core's.
    #[error("what was decided breaks an invariant, which is a bug of supervisor's: {breach}")]
    Breach {
        /// At which line.
        line: usize,
        /// Which.
        breach: Breach,
    },
    /// A deadline that came is still due: a bug of the core's.
    #[error("a deadline that came is still due, which is a bug of supervisor's")]
    Restless {
        /// At which line.
        line: usize,
    },
}

impl RunError {
    /// The line at which the run ended.
    pub fn line(&self) -> usize {
        match self {
            RunError::Impossible { line, .. }
            | RunError::Breach { line, .. }
            | RunError::Restless { line } => *line,
        }
    }

    /// Whether the script is to blame.
    pub fn is_the_scripts(&self) -> bool {
        matches!(self, RunError::Impossible { .. })
    }
}

/// How everything is when a script is over.
#[derive(Debug)]
pub struct End {
    /// What supervisor knows.
    pub state: State,
    /// The time.
    pub now: Now,
}

/// Plays a script from its beginning; `each` sees every step.
///
/// # Errors
///
/// The first line that cannot happen, a broken invariant, or whatever `each` gives.
pub fn play<E: From<RunError>>(
    script: &Script,
    mut each: impl FnMut(Step<'_>) -> Result<(), E>,
) -> Result<End, E> {
    let mut world = World::new(script);
    for line in &script.lines {
        let Some((when, happening)) = &line.step else { continue };
        world.line = line.number;
        let mut by = By::Line;
        match when {
            When::Now => {}
            When::At(at) => world.pass(*at)?,
            When::Next => {
                let no_deadline = || world.impossible("supervisor has no deadline: nothing is waited for");
                let at = world.deadline().ok_or_else(no_deadline)?;
                world.pass(at.max(world.at))?;
                by = By::Wake;
            }
            When::Until(until) => {
                while let Some(at) = world.deadline().filter(|at| at <= until) {
                    world.pass(at.max(world.at))?;
                    each(world.step(&Happening::Wake, By::Until)?)?;
                }
                world.pass(*until)?;
                continue;
            }
        }
        match happening {
            Happening::Probe { server: None, live, outcome, took, late } => {
                let (live, outcome, took, late) = (*live, *outcome, *took, *late);
                for server in world.servers() {
                    let one = Happening::Probe { server: Some(server), live, outcome, took, late };
                    each(world.step(&one, by)?)?;
                }
            }
            one => each(world.step(one, by)?)?,
        }
    }
    let now = world.now();
    Ok(End { state: world.state, now })
}

/// The state, the world around it, and what is under way.
pub(super) struct World {
    pub(super) state: State,
    pub(super) outside: Outside,
    line: usize,
    at: Span,
    /// How far the wall clock was set.
    pub(super) wall: i64,
    missed: Option<Span>,
    pub(super) commands: u64,
    /// Who has ordered something, in that order.
    pub(super) people: Vec<String>,
    pub(super) heals: BTreeMap<ContainerRef, Heal>,
    pub(super) evacuations: BTreeMap<ServerId, ActionId>,
    pub(super) mails: BTreeMap<u64, MailKey>,
    pub(super) latest_mail: Option<MailKey>,
    steps: u32,
    wakes: u32,
    at_once: u32,
}

impl World {
    fn new(script: &Script) -> World {
        World {
            state: State::new(script.policy.clone()),
            outside: Outside::default(),
            line: 0,
            at: Span::ZERO,
            wall: 0,
            missed: None,
            commands: 0,
            people: vec![super::order::USUAL.to_owned()],
            heals: BTreeMap::new(),
            evacuations: BTreeMap::new(),
            mails: BTreeMap::new(),
            latest_mail: None,
            steps: 0,
            wakes: 0,
            at_once: 0,
        }
    }

    pub(super) fn now(&self) -> Now {
        let at = Boot(BEGINNING) + self.at;
        Now { boot: at, wall: Wall(at.0.saturating_add(self.wall)) }
    }

    pub(super) fn impossible(&self, why: impl Into<String>) -> RunError {
        RunError::Impossible { line: self.line, why: why.into() }
    }

    /// The servers that supervisor knows.
    fn servers(&self) -> Vec<ServerId> {
        let services = self.state.policy.services.iter();
        let of = |(id, service): (&ServiceId, &ServicePolicy)| {
            let id = *id;
            service
                .servers
                .keys()
                .map(move |server| ServerId { service: id, server: *server })
                .collect::<Vec<_>>()
        };
        services.flat_map(of).collect()
    }

    /// The core's next deadline, as a time of the script.
    fn deadline(&self) -> Option<Span> {
        Some(self.state.next_deadline()?.since(Boot(BEGINNING)))
    }

    fn pass(&mut self, at: Span) -> Result<(), RunError> {
        if at < self.at {
            return Err(self.impossible(format!("`wake` has brought the time to {} already", self.at)));
        }
        self.missed = self.deadline().filter(|due| *due < at);
        if at > self.at {
            self.at_once = 0;
        }
        self.at = at;
        Ok(())
    }

    fn step(&mut self, happening: &Happening, by: By) -> Result<Step<'_>, RunError> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return Err(self.impossible(format!("a script has {STEPS_MAX} steps at most")));
        }
        let what = self.hear(happening)?;
        let (decision, standing) = match &what {
            What::Heard(event) => (self.decide(event)?, Vec::new()),
            What::Asked(service) => (Decision::default(), explain(&self.state, *service, self.now())),
            What::Unheard(_) | What::Aside(_) => (Decision::default(), Vec::new()),
        };
        let (line, at, now) = (self.line, self.at, self.now());
        let missed = self.missed.take().filter(|_| *happening != Happening::Wake);
        Ok(Step { line, at, by, missed, what, decision, standing, state: &self.state, now })
    }

    /// One event: decided, applied, checked.
    fn decide(&mut self, event: &Event) -> Result<Decision, RunError> {
        let now = self.now();
        let line = self.line;
        if *event == Event::Woke {
            (self.wakes, self.at_once) = (self.wakes + 1, self.at_once + 1);
            if self.wakes > WAKES_MAX {
                return Err(self.impossible(format!("a script has {WAKES_MAX} wakes at most")));
            }
            if self.at_once > AT_ONCE_MAX {
                return Err(RunError::Restless { line });
            }
        }
        let decision = decide(&self.state, event, now);
        let before = invariants::Before::of(&self.state, &decision);
        self.state.apply(&decision.changes);
        let breaches = invariants::check(&before, event, &decision, &self.state, now);
        if let Some(breach) = breaches.into_iter().next() {
            return Err(RunError::Breach { line, breach });
        }
        for action in &decision.actions {
            match action {
                Action::Heal(heal) => {
                    self.heals.insert(heal.container.clone(), heal.clone());
                }
                Action::Evacuate(evacuation) => {
                    self.evacuations.insert(evacuation.server, evacuation.id);
                }
                Action::Mail(mail) => {
                    let key = MailKey::of(mail);
                    self.mails.insert(mail.id.0, key);
                    self.latest_mail = Some(key);
                }
                Action::Route { .. } | Action::Pace { .. } | Action::Answer { .. } => {}
            }
        }
        Ok(decision)
    }
}
