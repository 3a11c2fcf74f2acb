//! Events as they happened, to happen again: what a simulated world did, without the world.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use supervisor::domain::action::Action;
use supervisor::domain::event::{ContainerSign, Event};
use supervisor::domain::{Change, Decision, Now, Reason, State, decide};

/// What happened in one world, from one state to another.
pub(crate) struct Recording {
    /// The state before.
    pub(crate) start: State,
    /// What happened.
    pub(crate) steps: Vec<Step>,
    /// The state after.
    pub(crate) end: State,
}

/// One event.
pub(crate) struct Step {
    /// What it turned out to be.
    pub(crate) kind: Kind,
    /// When it was decided.
    pub(crate) now: Now,
    /// What happened.
    pub(crate) event: Event,
}

/// Events that do the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Most probes of most days: a server that is up answers.
    Quiet,
    /// One that was up fails: a run begins, or goes on.
    RunBegins,
    /// It answers again: the run is over.
    RunEnds,
    /// A probe that is counted, and changes no verdict.
    Counted,
    /// A probe that makes a verdict.
    Verdict,
    /// A probe that makes a verdict that moves traffic.
    Failover,
    /// A `live` probe.
    Lived,
    /// Docker announces anything but an end.
    Sign,
    /// Docker announces an end.
    Died,
    /// Docker announces an end that moves traffic.
    DiedFailover,
    /// A deadline.
    Woke,
    /// A deadline that moves traffic back.
    Failback,
    /// A route was read back from HAProxy.
    Routed,
    /// A guarded action ended.
    Finished,
    /// What an Alertmanager says of one incident.
    Word,
    /// A person's order.
    Order,
    /// One look at an HAProxy: as many services as there are.
    Look,
    /// A list of an engine's containers: as many as there are.
    List,
    /// Nothing that belongs in a recording.
    Other,
}

impl Kind {
    /// In the order of the table.
    pub(crate) const ALL: [Self; 18] = [
        Self::Quiet,
        Self::RunBegins,
        Self::RunEnds,
        Self::Counted,
        Self::Verdict,
        Self::Failover,
        Self::Lived,
        Self::Sign,
        Self::Died,
        Self::DiedFailover,
        Self::Woke,
        Self::Failback,
        Self::Routed,
        Self::Finished,
        Self::Word,
        Self::Order,
        Self::Look,
        Self::List,
    ];

    /// What `event` was, by what was decided.
    pub(crate) fn of(event: &Event, decision: &Decision) -> Self {
        let moves = decision.actions.iter().any(|action| matches!(action, Action::Route { .. }));
        match event {
            Event::Probed(_) if moves => Self::Failover,
            Event::Probed(_) => of_probe(decision),
            Event::Lived(_) => Self::Lived,
            Event::Container(event) => match event.sign {
                ContainerSign::Died { .. } if moves => Self::DiedFailover,
                ContainerSign::Died { .. } => Self::Died,
                _ => Self::Sign,
            },
            Event::Woke if moves => Self::Failback,
            Event::Woke => Self::Woke,
            Event::Routed(_) => Self::Routed,
            Event::Finished(_) => Self::Finished,
            Event::Peer(_) => Self::Word,
            Event::Commanded(_) => Self::Order,
            Event::Proxy(_) => Self::Look,
            Event::Containers(_) => Self::List,
            _ => Self::Other,
        }
    }

    /// Whether it costs as much as there are services, by its nature.
    pub(crate) fn is_per_service(self) -> bool {
        matches!(self, Self::Look | Self::List)
    }
}

fn of_probe(decision: &Decision) -> Kind {
    let verdict = |reason: &Reason| matches!(reason, Reason::ServerUp { .. } | Reason::ServerDown { .. });
    if decision.is_empty() {
        return Kind::Quiet;
    }
    if decision.reasons.iter().any(verdict) {
        return Kind::Verdict;
    }
    let health = decision.changes.iter().find_map(|change| match change {
        Change::Health { health, .. } => Some(health),
        _ => None,
    });
    match health {
        Some(health) if health.run().is_some() => Kind::RunBegins,
        Some(health) if health.is_up() => Kind::RunEnds,
        _ => Kind::Counted,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quiet => "probe: up, answers",
            Self::RunBegins => "probe: begins to fail",
            Self::RunEnds => "probe: answers again",
            Self::Counted => "probe: counted",
            Self::Verdict => "probe: a verdict",
            Self::Failover => "probe: failover",
            Self::Lived => "live probe",
            Self::Sign => "docker: a sign",
            Self::Died => "docker: an end",
            Self::DiedFailover => "docker: failover",
            Self::Woke => "wake",
            Self::Failback => "wake: failback",
            Self::Routed => "route read back",
            Self::Finished => "action ended",
            Self::Word => "word of an alert",
            Self::Order => "order",
            Self::Look => "look at HAProxy",
            Self::List => "list of containers",
            Self::Other => "other",
        })
    }
}

/// How long something took, and how many events that was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    pub(crate) events: usize,
}

impl Took {
    /// Nanoseconds per event.
    pub(crate) fn each(self) -> f64 {
        self.time.as_secs_f64() * 1e9 / self.events.max(1) as f64
    }
}

impl Recording {
    /// Everything once more; how long it took, and the state that it led to.
    pub(crate) fn replay_all(&self) -> (Took, State) {
        let mut state = self.start.clone();
        let took = replay(&mut state, &self.steps);
        (took, state)
    }

    /// Everything once more, with a clock for each kind.
    pub(crate) fn replay_each(&self) -> (BTreeMap<Kind, Took>, State) {
        let mut state = self.start.clone();
        let mut all: BTreeMap<Kind, Took> = BTreeMap::new();
        let clock = price_of_clock();
        for steps in self.steps.chunk_by(|one, next| one.kind == next.kind) {
            let took = replay(&mut state, steps);
            let Some(first) = steps.first() else { continue };
            let sum = all.entry(first.kind).or_default();
            sum.time += took.time.saturating_sub(clock);
            sum.events += took.events;
        }
        (all, state)
    }
}

/// The measured loop: what the daemon does with each event, as far as the core is concerned.
#[inline(never)]
fn replay(state: &mut State, steps: &[Step]) -> Took {
    let begun = Instant::now();
    for step in steps {
        let decision = decide(state, &step.event, step.now);
        state.apply(&decision.changes);
    }
    Took { time: begun.elapsed(), events: steps.len() }
}

/// What it costs to look at the clock twice: much, beside ten quiet events.
fn price_of_clock() -> Duration {
    (0..100).map(|_| Instant::now().elapsed()).min().unwrap_or_default()
}
