//! One step of the loop without the loop: an event is decided, applied, checked and numbered. `--once` and the rehearsal
//! of an order call the same functions.

use crate::domain::action::{Action, Finished, Outcome, Target};
use crate::domain::change::Change;
use crate::domain::command::Command;
use crate::domain::event::{Event, Routed};
use crate::domain::invariants::{self, Before, Breach};
use crate::domain::state::ProxyLink;
use crate::domain::{Decision, Now, Policy, ProxyId, ServiceId, Span, State, decide};
use crate::store::{Record, Stored};
use std::collections::{BTreeMap, VecDeque};

/// The state, and the number of the next record.
#[derive(Debug, Clone)]
pub struct Core {
    state: State,
    next_seq: u64,
}

/// What one event led to.
#[derive(Debug, Clone)]
pub struct Step {
    /// The record for the journal; its decision is what the edges carry out.
    pub record: Record,
    /// Invariants that it broke: bugs, to be counted and logged.
    pub breaches: Vec<Breach>,
}

impl Core {
    /// Begins with `state`; the first record gets the number `next_seq`.
    pub fn new(state: State, next_seq: u64) -> Core {
        Core { state, next_seq }
    }

    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number of the last record, 0 before the first.
    pub fn last_seq(&self) -> u64 {
        self.next_seq - 1
    }

    /// Decides what follows from `event` and makes it the state. Gives the event back when nothing follows.
    #[expect(
        clippy::result_large_err,
        reason = "the common case, on the hot path: an allocation would cost more"
    )]
    pub fn step(&mut self, event: Event, now: Now) -> Result<Step, Event> {
        let decision = decide(&self.state, &event, now);
        // A wrong route that nothing follows from is what the look at an HAProxy is checked for.
        if decision.is_empty() && !matches!(event, Event::Proxy(_)) {
            return Err(event);
        }
        let before = Before::of(&self.state, &decision);
        self.state.apply(&decision.changes);
        let breaches = invariants::check(&before, &event, &decision, &self.state, now);
        if decision.is_empty() && breaches.is_empty() {
            return Err(event);
        }
        let record = Record { seq: self.next_seq, now, event, decision };
        self.next_seq += 1;
        Ok(Step { record, breaches })
    }
}

/// What was stored, on the clock of the boot `boot_id` and under today's policy; or nothing but the policy.
pub fn restored(stored: Option<Stored>, policy: &Policy, boot_id: &str, now: Now) -> State {
    let Some(stored) = stored else { return State::new(policy.clone()) };
    let mut state = stored.on_boot(boot_id, now);
    if state.policy != *policy {
        state.apply(&[Change::Policy(Box::new(policy.clone()))]);
    }
    state
}

/// Carries an order out on a copy of the state: its actions are taken as done, at once, and what follows from that is
/// followed too. The answer, the actions and the reasons come in the order in which they would; `changes` stays empty.
pub fn rehearse(state: &State, command: Command, now: Now) -> Decision {
    /// An order leads to two or three events; the bound is against a bug that would answer itself for ever.
    const EVENTS_MAX: usize = 1_000;
    let mut copy = state.clone();
    let mut rehearsed = Decision::default();
    let mut events = VecDeque::from([Event::Commanded(command)]);
    for _ in 0..EVENTS_MAX {
        let Some(event) = events.pop_front() else { break };
        let decision = decide(&copy, &event, now);
        copy.apply(&decision.changes);
        events.extend(outcomes(&copy, &decision));
        rehearsed.actions.extend(decision.actions);
        rehearsed.reasons.extend(decision.reasons);
    }
    rehearsed
}

/// What the edges would report if every action of `decision` succeeded, in the order in which they do: each HAProxy that
/// answers takes all routes in one go, then requests are freed.
fn outcomes(state: &State, decision: &Decision) -> Vec<Event> {
    let mut events = confirmations(state, decision);
    for action in &decision.actions {
        match action {
            Action::Evacuate(evacuation) => events.push(Event::Finished(Finished {
                action: evacuation.id,
                of: Target::Server(evacuation.server),
                outcome: Outcome::Done,
            })),
            Action::Heal(heal) => events.push(Event::Finished(Finished {
                action: heal.id,
                of: Target::Container { container: heal.container.clone(), deed: heal.deed },
                outcome: Outcome::Done,
            })),
            Action::Route { .. } | Action::Pace { .. } | Action::Mail(_) | Action::Answer { .. } => {}
        }
    }
    events
}

/// The same of routes alone.
pub(super) fn confirmations(state: &State, decision: &Decision) -> Vec<Event> {
    let answers = state.proxies.iter().filter(|(_, proxy)| proxy.link == ProxyLink::Ours);
    let confirmed = |proxy: ProxyId| {
        let route = |action: &Action| match action {
            Action::Route { service, generation, .. } => Some((*service, *generation)),
            Action::Evacuate(_)
            | Action::Heal(_)
            | Action::Pace { .. }
            | Action::Mail(_)
            | Action::Answer { .. } => None,
        };
        let routes_it = |(service, _): &(ServiceId, u64)| {
            state.policy.services.get(service).is_some_and(|policy| policy.proxies.contains(&proxy))
        };
        let generations: BTreeMap<ServiceId, u64> =
            decision.actions.iter().filter_map(route).filter(routes_it).collect();
        let routed = Routed { proxy, generations, took: Span::ZERO };
        Some(routed).filter(|routed| !routed.generations.is_empty()).map(Event::Routed)
    };
    answers.filter_map(|(proxy, _)| confirmed(*proxy)).collect()
}
