//! What is heard of a container moves its [`Repair`]; [`healing`](super::healing) does what is due.

use super::Draft;
use super::healing::{advance, is_held_back};
use super::waits::restarts_first;
use crate::domain::action::{ActionId, Deed, Outcome};
use crate::domain::event::{ContainerEvent, ContainerSign, ContainerStatus, DockersCheck, Facts, Past};
use crate::domain::id::ServerId;
use crate::domain::jitter;
use crate::domain::policy::{ContainerRef, HealMode, Role};
use crate::domain::reason::{Reason, Then};
use crate::domain::repair::depends::{self, Containers as _, NetworkLoss};
use crate::domain::repair::{End, Ending, Input, Phase, Repair, Rules, SIGNAL_WORKS};
use crate::domain::state::State;
use crate::domain::time::{Boot, Span, Wall};

/// Something happened to `container`, whose id is `id` (empty: not known).
pub(super) fn hear(draft: &mut Draft<'_>, container: &ContainerRef, id: &str, input: Input) {
    note(draft, container, id, input, (draft.now.boot, 0));
    advance(draft, container);
}

/// Docker announced something about `container`.
pub(super) fn announced(draft: &mut Draft<'_>, container: &ContainerRef, event: &ContainerEvent, oom: bool) {
    if let Some(input) = input_of(event.sign, oom) {
        note_event(draft, container, event, input);
        advance(draft, container);
    }
}

/// Makes up for what happened to `container` while nobody listened, as far as its engine remembers it. Nothing is done yet:
/// the list that follows says what became of it.
pub(super) fn recall(draft: &mut Draft<'_>, container: &ContainerRef, id: &str, past: &Past) {
    let Some(repair) = draft.repair(container).cloned() else { return };
    let heard = if repair.id == id { repair.engine_time } else { 0 };
    let of_it = |event: &&ContainerEvent| event.name == container.name && event.id == id;
    let all: Vec<&ContainerEvent> = past.events.iter().filter(of_it).collect();
    // An engine that remembers what it told us before has not gone down meanwhile.
    if repair.phase == Phase::WithEngine && all.iter().any(|event| event.nanoseconds <= heard) {
        draft.set_repair(container, Repair { phase: Phase::Unseen, signal: None, ..repair.clone() });
    }
    // What was being found out when we ended, or wrongly, is found out again. A start is known: it was counted then.
    let again = draft.repair(container).is_some_and(|repair| repair.phase == Phase::Unseen);
    let begun = all.iter().any(|event| event.sign == ContainerSign::Started);
    // An engine that was killed ends, when it is started again, what had gone on without it; it signals it as a person
    // would. What it ended was not started since.
    let by_engine = !begun && past.reaches.is_none() && !past.live_restore;
    let facts = facts(draft, container);
    for event in all {
        let known = event.nanoseconds <= heard;
        if known && !(again && event.sign != ContainerSign::Started) {
            continue;
        }
        let oom = matches!(
            draft.container(container).map(|seen| seen.status),
            Some(ContainerStatus::Exited { oom: true, .. })
        );
        let Some(mut input) = input_of(event.sign, oom) else { continue };
        if let Input::Died { exit, oom } = input {
            let signals_from = past.reaches.map(|at| at + facts.stop_timeout + SIGNAL_WORKS);
            if by_engine {
                input = Input::EndedWithEngine { exit, oom };
            } else if !begun && signals_from.is_some_and(|at| event.at < at) {
                // The signal that led to it may be what was forgotten.
                pass(draft, container, event);
                continue;
            }
        } else if by_engine {
            // Heard all the same: the next look must not take it for news.
            pass(draft, container, event);
            continue;
        }
        note_event(draft, container, event, input);
    }
}

/// What an announcement means for healing.
fn input_of(sign: ContainerSign, oom: bool) -> Option<Input> {
    match sign {
        ContainerSign::Started => Some(Input::Start),
        ContainerSign::Died { exit } => Some(Input::Died { exit, oom }),
        ContainerSign::Killed { signal } => signal.map(Input::Signal),
        ContainerSign::Stopped => Some(Input::Stop),
        ContainerSign::Destroyed => Some(Input::Removed),
        ContainerSign::OutOfMemory => Some(Input::OutOfMemory),
        ContainerSign::Checked(_) | ContainerSign::Paused | ContainerSign::Unpaused => None,
    }
}

fn note_event(draft: &mut Draft<'_>, container: &ContainerRef, event: &ContainerEvent, input: Input) {
    note(draft, container, &event.id, input, (event.at, event.nanoseconds));
    pass(draft, container, event);
}

/// What the engine tells up to `event` is no news any more.
fn pass(draft: &mut Draft<'_>, container: &ContainerRef, event: &ContainerEvent) {
    if let Some(repair) = draft.repair(container).filter(|repair| !repair.id.is_empty()).cloned() {
        let engine_time = event.nanoseconds.max(repair.engine_time);
        draft.set_repair(container, Repair { engine_time, ..repair });
    }
}

/// Moves the container's repair by `input`, which happened at `at`, and by its engine's own clock at `engine_time` (0: it did not
/// announce it).
pub(super) fn note(
    draft: &mut Draft<'_>,
    container: &ContainerRef,
    id: &str,
    input: Input,
    (at, engine_time): (Boot, i64),
) {
    let Some(mut before) = draft.repair(container).cloned() else { return };
    if !id.is_empty() && before.id != id {
        // Another container of the same name: what the old one did is not its doing.
        let fresh = if before.id.is_empty() {
            before.clone()
        } else {
            Repair { phase: Phase::Gone, ..Repair::default() }
        };
        before = Repair { id: id.to_owned(), ..fresh };
    }
    let facts = facts(draft, container);
    let Some(rules) = rules(draft, container, &facts) else { return };
    let late = i64::try_from(rules.now.since(at).0).unwrap_or(i64::MAX);
    let rules = Rules { at, engine_time, wall: Wall(rules.wall.0.saturating_sub(late)), ..rules };
    let after = before.after(input, rules);
    tell(draft, container, &before, &after);
    draft.set_repair(container, after);
}

/// Everything whose time has come.
pub(super) fn due(draft: &mut Draft<'_>, containers: Vec<ContainerRef>) {
    for container in restarts_first(draft, containers) {
        hear(draft, &container, "", Input::Tick);
    }
}

/// An action that we had under way for `container` ended.
pub(super) fn finished(
    draft: &mut Draft<'_>,
    container: &ContainerRef,
    deed: Deed,
    action: ActionId,
    outcome: &Outcome,
) {
    let name = container.clone();
    match outcome {
        Outcome::Superseded => {}
        Outcome::Done => draft.tell(Reason::Healed { container: name, deed, failed: None }),
        Outcome::Failed(words) | Outcome::NotBegun(words) => {
            draft.tell(Reason::Healed { container: name, deed, failed: Some(words.clone()) });
        }
        Outcome::Unknown(words) => {
            draft.tell(Reason::HealUnknown { container: name, deed, words: words.clone() });
        }
    }
    let under_way = draft
        .repair(container)
        .is_some_and(|repair| matches!(repair.phase, Phase::Acting { action: known, .. } if known == action));
    if under_way {
        let end = match outcome {
            Outcome::Done => End::Done,
            Outcome::Failed(_) => End::Failed,
            Outcome::NotBegun(_) => End::NotBegun,
            Outcome::Superseded => End::Superseded,
            Outcome::Unknown(_) => End::Unknown,
        };
        hear(draft, container, "", Input::Finished(end));
    }
}

/// A verdict about the life of servers, or Docker's check, changed: is the container dead?
pub(super) fn consider(draft: &mut Draft<'_>, container: &ContainerRef) {
    let Some(policy) = draft.state.policy.containers.get(container) else { return };
    // What could not be read is as it was.
    if draft.container(container).is_some_and(|seen| seen.status == ContainerStatus::Unknown) {
        return;
    }
    let healed = is_healed(draft, container);
    let restartable = healed && matches!(policy.role, Role::Servers | Role::Other);
    // Also of an HAProxy: this is no guess of a probe's, and nobody can reach it.
    let lost = healed && depends::network_loss(draft, container).is_some();
    let input = match is_dead(draft, container) && restartable {
        _ if lost => Input::NetworkLost,
        true => Input::Dead { others_within: others_within(draft, container) },
        false => Input::Alive,
    };
    hear(draft, container, "", input);
}

/// Tells what a list has shown of the container and was not so before: what is wrong with its labels, and a network that is
/// lost. The first list after a start tells of all labels: `heard` that its engine was heard before. The settings may have
/// changed meanwhile, and with them what counts.
pub(super) fn tell_facts(draft: &mut Draft<'_>, container: &ContainerRef, heard: bool) {
    tell_labels(draft, container, heard.then_some(draft.state));
    if !is_told(draft, container)
        || draft.container(container).is_none_or(|seen| seen.facts.network.is_none())
    {
        return;
    }
    let loss = depends::network_loss(draft, container);
    if loss != depends::network_loss(draft.state, container)
        && let Some(loss) = loss
    {
        // What is to be healed says itself why it cannot be.
        let says = matches!(loss, NetworkLoss::Gone { .. }) && is_healed(draft, container);
        if !says {
            draft.tell(Reason::NetworkLost { container: container.clone(), loss });
        }
    }
}

/// Tells what is wrong with the labels of a container: names that are not waited for, and a word that nobody understands.
/// What was so `before` is known.
pub(super) fn tell_labels(draft: &mut Draft<'_>, container: &ContainerRef, before: Option<&State>) {
    let Some(policy) = draft.state.policy.containers.get(container).filter(|_| is_told(draft, container))
    else {
        return;
    };
    let known = before.map(|before| depends::unkept(before, container)).unwrap_or_default();
    let unkept = depends::unkept(draft, container).into_iter().filter(|one| !known.contains(one));
    let mut wrong: Vec<Reason> =
        unkept.map(|(on, why)| Reason::DependencyUnkept { container: container.clone(), on, why }).collect();
    let known = before.and_then(|before| policy.label_unknown(before.seen(container)?));
    let unknown = draft.container(container).and_then(|seen| policy.label_unknown(seen));
    wrong.extend(
        unknown
            .filter(|value| known != Some(value))
            .map(|value| Reason::HealLabelUnknown { container: container.clone(), value: value.to_owned() }),
    );
    wrong.into_iter().for_each(|reason| draft.tell(reason));
}

/// Whether people want to hear of a container: not if it is not healed because they said so.
fn is_told(draft: &Draft<'_>, container: &ContainerRef) -> bool {
    let facts = facts(draft, container);
    rules(draft, container, &facts).is_some_and(|rules| rules.mode() != HealMode::Never)
}

/// Whether the settings and the label let us start and restart it.
pub(super) fn is_healed(draft: &Draft<'_>, container: &ContainerRef) -> bool {
    let facts = facts(draft, container);
    rules(draft, container, &facts)
        .is_some_and(|rules| matches!(rules.mode(), HealMode::Auto | HealMode::Always))
}

/// When it is known whether others died of the same. A probe that fails once is seen; of Docker's check, only the verdict.
fn others_within(draft: &Draft<'_>, container: &ContainerRef) -> Span {
    let dead = |server: &ServerId| draft.server(*server).is_some_and(|server| server.life.is_down());
    let servers = draft.state.servers_in(container);
    if servers.is_empty() || servers.iter().any(dead) {
        return Span::ZERO;
    }
    facts(draft, container).check_takes
}

/// Whether a container runs and is dead: a server in it does not live, or Docker's check says so.
pub(super) fn is_dead(draft: &Draft<'_>, container: &ContainerRef) -> bool {
    let Some(seen) = draft.container(container) else { return false };
    let dead = |server: &ServerId| draft.server(*server).is_some_and(|server| server.life.is_down());
    let unhealthy = seen.facts.check == Some(DockersCheck::Unhealthy);
    seen.status == ContainerStatus::Running
        && (unhealthy || draft.state.servers_in(container).iter().any(dead))
}

pub(super) fn facts(draft: &Draft<'_>, container: &ContainerRef) -> Facts {
    draft.container(container).map(|seen| seen.facts.clone()).unwrap_or_default()
}

pub(super) fn rules<'r, 'a: 'r>(
    draft: &Draft<'a>,
    container: &ContainerRef,
    facts: &'r Facts,
) -> Option<Rules<'r>> {
    Some(Rules {
        policy: draft.state.policy.containers.get(container)?,
        limits: &draft.state.policy.heal,
        facts,
        seed: jitter::seed(&container.name.0),
        now: draft.now.boot,
        at: draft.now.boot,
        engine_time: 0,
        wall: draft.now.wall,
    })
}

/// Says what changed, as far as people care.
fn tell(draft: &mut Draft<'_>, container: &ContainerRef, before: &Repair, after: &Repair) {
    let now = draft.now.boot;
    if before.phase != Phase::Gone && after.phase == Phase::Gone {
        draft.tell(Reason::ContainerGone { container: container.clone() });
    }
    let facts = facts(draft, container);
    let Some(rules) = rules(draft, container, &facts).filter(|rules| rules.mode() != HealMode::Never) else {
        return;
    };
    // Told once: that it was for want of memory may be heard a moment later.
    let death = |repair: &Repair| repair.last.map(|ending| Ending { oom: false, ..ending });
    if let (Some(ending), true) = (after.last, death(after) != death(before)) {
        let then = match after.phase {
            Phase::Held { .. } => Then::Hold,
            Phase::Due { .. } if after.is_spent(rules) => Then::GiveUp,
            Phase::Due { at } if is_held_back(draft, container, at) => Then::Waits,
            Phase::Due { at } => Then::Start { pause: at.since(now) },
            Phase::Docker { until } => Then::Docker { wait: until.since(now) },
            Phase::Left
            | Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::WithEngine
            | Phase::Acting { .. }
            | Phase::GivenUp { .. }
            | Phase::Gone => Then::Nothing,
        };
        draft.tell(Reason::ContainerEnded { container: container.clone(), ending, then });
    }
    let held = |repair: &Repair| matches!(repair.phase, Phase::Held { .. });
    if held(before) && matches!(after.phase, Phase::Runs { .. }) {
        draft.tell(Reason::HoldLifted { container: container.clone() });
    }
}
