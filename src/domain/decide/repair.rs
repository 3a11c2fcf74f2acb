//! Healing: what is heard of a container moves its [`Repair`]; what is due is done, within the budgets.

use super::Draft;
use super::leaving::{answers, is_served_without, leave};
use crate::domain::action::{Action, ActionId, Deed, Heal, Outcome};
use crate::domain::change::Change;
use crate::domain::command::Scope;
use crate::domain::event::{ContainerEvent, ContainerSign, ContainerStatus, DockersCheck, Facts, Past};
use crate::domain::id::{Name, ServerId, SiteId};
use crate::domain::jitter;
use crate::domain::policy::{ContainerRef, HealMode, Role, ServerPolicy};
use crate::domain::reason::{Reason, Then};
use crate::domain::repair::depends::{self, Containers as _, NetworkLoss};
use crate::domain::repair::{End, Ending, HealWait, Input, Phase, Repair, Rules, SIGNAL_WORKS};
use crate::domain::state::State;
use crate::domain::time::{Boot, Span, Wall};
use std::collections::BTreeSet;

/// What cannot be done while its engine is away, or while others are dead too, is looked at again after this.
const LOOK_AGAIN: Span = Span::seconds(10);

/// Something happened to `container`, whose id is `id` (empty: not known).
pub(super) fn hear(draft: &mut Draft<'_>, container: &ContainerRef, id: &str, input: Input) {
    note(draft, container, id, input, draft.now.boot);
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
    note(draft, container, &event.id, input, event.at);
    pass(draft, container, event);
}

/// What the engine tells up to `event` is no news any more.
fn pass(draft: &mut Draft<'_>, container: &ContainerRef, event: &ContainerEvent) {
    if let Some(repair) = draft.repair(container).filter(|repair| !repair.id.is_empty()).cloned() {
        let engine_time = event.nanoseconds.max(repair.engine_time);
        draft.set_repair(container, Repair { engine_time, ..repair });
    }
}

/// Moves the container's repair by `input`, which happened at `at`.
pub(super) fn note(draft: &mut Draft<'_>, container: &ContainerRef, id: &str, input: Input, at: Boot) {
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
    let rules = Rules { at, wall: Wall(rules.wall.0.saturating_sub(late)), ..rules };
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
        Outcome::Failed(words) => {
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
/// lost.
pub(super) fn tell_facts(draft: &mut Draft<'_>, container: &ContainerRef) {
    tell_labels(draft, container, Some(draft.state));
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

/// Looks again at what waits for another container, if something has become of that one.
pub(super) fn release(draft: &mut Draft<'_>) {
    let mut engines = BTreeSet::new();
    let mut waiting = BTreeSet::new();
    for change in &draft.decision.changes {
        if let Change::Repair { container, .. } = change {
            engines.insert(container.engine);
        } else if let Change::Container { engine, name, .. } = change {
            engines.insert(*engine);
            waiting.insert(ContainerRef { engine: *engine, name: name.clone() });
        }
    }
    waiting.extend(engines.into_iter().flat_map(|engine| draft.state.dependents(engine)));
    let is_free = |draft: &Draft<'_>, container: &ContainerRef| {
        let why = draft.repair(container).and_then(|repair| repair.waits.as_ref());
        why.is_some_and(|why| why.is_for_another() && !holds(draft, container, why))
    };
    for container in waiting {
        if is_free(draft, &container) {
            wake(draft, &container);
        }
    }
}

/// After new settings: looks again at what waits for somebody's word or for another container, since they may have removed
/// what it waits for, or forbid to heal it; and tells again what is wrong with labels.
pub(super) fn reconsider(draft: &mut Draft<'_>) {
    let is_free = |(container, repair): &(&ContainerRef, &Repair)| {
        let why = repair.waits.as_ref().filter(|why| why.is_woken());
        why.is_some_and(|why| !holds(draft, container, why) || !is_healed(draft, container))
    };
    let free = draft.state.repairs.iter().filter(is_free).map(|(container, _)| container.clone()).collect();
    for container in restarts_first(draft, free) {
        wake(draft, &container);
    }
    // Whoever reads the settings anew wants to hear what is wrong still.
    for container in draft.state.repairs.keys() {
        tell_labels(draft, container, None);
    }
}

/// Whether what keeps `container` back still does, where something wakes it when that ends.
fn holds(draft: &Draft<'_>, container: &ContainerRef, why: &HealWait) -> bool {
    match why {
        HealWait::Paused { scope } => draft.pause_of(container) == Some(*scope),
        HealWait::Dependency { .. } | HealWait::NetworkGone { .. } => {
            depends::obstacle(draft, container).as_ref() == Some(why)
        }
        HealWait::SiteBudget { .. }
        | HealWait::Together { .. }
        | HealWait::Spent
        | HealWait::LastServing
        | HealWait::TrafficLeaves => true,
    }
}

/// What `container` waited for is over.
fn wake(draft: &mut Draft<'_>, container: &ContainerRef) {
    if let Some(repair) = draft.repair(container).cloned() {
        act(draft, container, Repair { waits: None, ..repair });
    }
}

/// Whether the settings and the label let us start and restart it.
fn is_healed(draft: &Draft<'_>, container: &ContainerRef) -> bool {
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
fn is_dead(draft: &Draft<'_>, container: &ContainerRef) -> bool {
    let Some(seen) = draft.container(container) else { return false };
    let dead = |server: &ServerId| draft.server(*server).is_some_and(|server| server.life.is_down());
    let unhealthy = seen.facts.check == Some(DockersCheck::Unhealthy);
    seen.status == ContainerStatus::Running
        && (unhealthy || draft.state.servers_in(container).iter().any(dead))
}

/// Whether a server is dead or about to be: of two that die together, one is found first.
fn is_dying(draft: &Draft<'_>, id: ServerId) -> bool {
    let Some(server) = draft.server(id) else { return false };
    let dying = server.life.is_down() || server.life.run().is_some();
    match draft.server_policy(id).and_then(|server| server.container.as_ref()) {
        Some(container) => {
            let runs = draft.container(container).is_some_and(|seen| seen.status == ContainerStatus::Running);
            runs && (dying || is_dead(draft, container))
        }
        None => dying,
    }
}

fn facts(draft: &Draft<'_>, container: &ContainerRef) -> Facts {
    draft.container(container).map(|seen| seen.facts.clone()).unwrap_or_default()
}

fn rules<'r, 'a: 'r>(draft: &Draft<'a>, container: &ContainerRef, facts: &'r Facts) -> Option<Rules<'r>> {
    Some(Rules {
        policy: draft.state.policy.containers.get(container)?,
        limits: &draft.state.policy.heal,
        facts,
        seed: jitter::seed(&container.name.0),
        now: draft.now.boot,
        at: draft.now.boot,
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

/// Whether a start that is due at `at` is not done then, as far as can be said now.
fn is_held_back(draft: &Draft<'_>, container: &ContainerRef, at: Boot) -> bool {
    let site = draft.state.policy.containers.get(container).and_then(|policy| policy.site);
    draft.pause_of(container).is_some()
        || depends::obstacle(draft, container).is_some()
        || site_spent_until(draft, site).is_some_and(|(_, until)| until > at)
}

/// In the order in which they are looked at: what depends on a container that is restarted now is not started now.
fn restarts_first(draft: &Draft<'_>, mut containers: Vec<ContainerRef>) -> Vec<ContainerRef> {
    let runs = |container: &ContainerRef| {
        draft.repair(container).is_some_and(|repair| matches!(repair.phase, Phase::Ailing { .. }))
    };
    containers.sort_by_key(|container| !runs(container));
    containers
}

/// Looks at what a pause of `scope` held back, if that is over.
pub(super) fn resumed(draft: &mut Draft<'_>, scope: Scope) {
    let why = HealWait::Paused { scope };
    let is_free = |container: &ContainerRef| {
        let waits = draft.repair(container).and_then(|repair| repair.waits.as_ref());
        waits == Some(&why) && !holds(draft, container, &why)
    };
    let free: Vec<ContainerRef> = draft.state.held_back(scope).into_iter().filter(is_free).collect();
    for container in restarts_first(draft, free) {
        wake(draft, &container);
    }
}

/// Does what is due for `container`, if the budgets and the rest of the service allow it.
fn advance(draft: &mut Draft<'_>, container: &ContainerRef) {
    let Some(repair) = draft.repair(container).cloned() else { return };
    if matches!(repair.phase, Phase::Due { .. }) && give_up(draft, container, &repair) {
        return;
    }
    if repair.deadline().is_some_and(|at| at <= draft.now.boot) {
        act(draft, container, repair);
    }
}

/// The same, now that its time has come.
fn act(draft: &mut Draft<'_>, container: &ContainerRef, repair: Repair) {
    let now = draft.now.boot;
    let deed = match repair.phase {
        Phase::Due { .. } | Phase::GivenUp { .. } => Deed::Start,
        Phase::Ailing { .. } => Deed::Restart { stop_timeout: facts(draft, container).stop_timeout },
        Phase::Unseen
        | Phase::Runs { .. }
        | Phase::Judging { .. }
        | Phase::Stopping { .. }
        | Phase::Held { .. }
        | Phase::WithEngine
        | Phase::Docker { .. }
        | Phase::Acting { .. }
        | Phase::Left
        | Phase::Gone => return,
    };
    if draft.engine_found(container.engine) != Some(true) {
        return put_off(draft, container, repair, now + LOOK_AGAIN, None);
    }
    let facts = facts(draft, container);
    let Some(rules) = rules(draft, container, &facts) else { return };
    if matches!(rules.mode(), HealMode::Notify | HealMode::Never) {
        let phase =
            if let Phase::Ailing { since, .. } = repair.phase { Phase::Runs { since } } else { Phase::Left };
        return draft.set_repair(container, Repair { phase, ..repair });
    }
    if let Some(scope) = draft.pause_of(container) {
        return wait(draft, container, repair, HealWait::Paused { scope });
    }
    if let Some(why) = depends::obstacle(draft, container) {
        return wait(draft, container, repair, why);
    }
    let loss = depends::network_loss(draft, container);
    if let (Deed::Restart { .. }, Some(why)) = (deed, why_not_restart(draft, container, loss.is_some())) {
        return put_off(draft, container, repair, now + LOOK_AGAIN, Some(why));
    }
    if !repair.is_given_up() && give_up(draft, container, &repair) {
        return;
    }
    if let Some((site, until)) = site_spent_until(draft, rules.policy.site) {
        let why = HealWait::SiteBudget { site };
        return put_off(draft, container, repair, until, Some(why));
    }
    // What has lost its network has nothing under way that could be answered.
    if matches!(deed, Deed::Restart { .. })
        && loss.is_none()
        && let Some(until) = leave(draft, container)
    {
        return put_off(draft, container, repair, until, Some(HealWait::TrafficLeaves));
    }
    let action = draft.number();
    let rejoined = match (deed, loss) {
        (Deed::Restart { .. }, Some(NetworkLoss::Restarted { at, .. })) => Some(at),
        (Deed::Start | Deed::Restart { .. }, Some(_) | None) => repair.rejoined,
    };
    let after = Repair { rejoined, ..repair.acting(action, deed, rules) };
    let attempt = u16::try_from(after.counted(rules).count()).unwrap_or(u16::MAX);
    let (limit, window) = (rules.limits.restarts, rules.limits.window);
    draft.tell(Reason::Heals { container: container.clone(), deed, attempt, limit, window });
    let heal = Heal { id: action, container: container.clone(), container_id: after.id.clone(), deed };
    draft.set_repair(container, after);
    draft.act(Action::Heal(heal));
}

/// Gives the container up if its budget is spent: known as soon as it ended, and told then, not when the pause is over.
fn give_up(draft: &mut Draft<'_>, container: &ContainerRef, repair: &Repair) -> bool {
    let facts = facts(draft, container);
    let Some(rules) = rules(draft, container, &facts).filter(|rules| repair.is_spent(*rules)) else {
        return false;
    };
    let (starts, window, next) = (rules.limits.restarts, rules.limits.window, rules.limits.slow_retry);
    draft.tell(Reason::GaveUp { container: container.clone(), starts, window, next });
    let at = draft.now.boot + next;
    let (phase, waits) = match repair.phase {
        // It runs: each list shows it so, and what is tried slowly is a restart.
        Phase::Ailing { since, .. } => (Phase::Ailing { since, at, spent: true }, Some(HealWait::Spent)),
        Phase::Unseen
        | Phase::Runs { .. }
        | Phase::Judging { .. }
        | Phase::Stopping { .. }
        | Phase::Held { .. }
        | Phase::WithEngine
        | Phase::Docker { .. }
        | Phase::Due { .. }
        | Phase::Acting { .. }
        | Phase::GivenUp { .. }
        | Phase::Left
        | Phase::Gone => (Phase::GivenUp { next: at }, None),
    };
    draft.set_repair(container, Repair { phase, waits, ..repair.clone() });
    true
}

/// Moves what is due to `until`; tells why, unless that is what it waits for already.
fn put_off(
    draft: &mut Draft<'_>,
    container: &ContainerRef,
    repair: Repair,
    until: Boot,
    why: Option<HealWait>,
) {
    let phase = repair.phase.put_off(until);
    if let Some(why) = why.clone().filter(|why| repair.waits.as_ref() != Some(why)) {
        let left = Some(until.since(draft.now.boot));
        draft.tell(Reason::HealWaits { container: container.clone(), why, left });
    }
    draft.set_repair(container, Repair { phase, waits: why, ..repair });
}

/// What is due waits until it is woken, and says why.
fn wait(draft: &mut Draft<'_>, container: &ContainerRef, repair: Repair, why: HealWait) {
    draft.tell(Reason::HealWaits { container: container.clone(), why: why.clone(), left: None });
    draft.set_repair(container, Repair { waits: Some(why), ..repair });
}

/// Why a container that runs and is dead is not restarted now. What has lost its network has that in common with others, and
/// a restart is what helps.
fn why_not_restart(draft: &Draft<'_>, container: &ContainerRef, network_lost: bool) -> Option<HealWait> {
    for server in draft.state.servers_in(container) {
        let Some((_, policy)) = draft.service(server.service) else { continue };
        let id = |name: &Name| ServerId { service: server.service, server: *name };
        let all: Vec<(&Name, &ServerPolicy)> = policy.servers.iter().collect();
        let dying: Vec<(&Name, &ServerPolicy)> =
            all.iter().copied().filter(|(name, _)| is_dying(draft, id(name))).collect();
        let (dead, of) = (deaths(&dying), deaths(&all));
        // Two that die together, and half of all: their common dependency is broken, and restarts make it worse.
        if dead >= 2 && 2 * dead >= of && !network_lost {
            let number = |servers: &[_]| u16::try_from(servers.len()).unwrap_or(u16::MAX);
            return Some(HealWait::Together { dead: number(&dying), of: number(&all) });
        }
        if !network_lost && answers(draft, *server) && !is_served_without(draft, container, *server) {
            return Some(HealWait::LastServing);
        }
    }
    None
}

/// How many deaths it takes to kill these servers: those in one container die of one.
fn deaths(servers: &[(&Name, &ServerPolicy)]) -> usize {
    let containers: BTreeSet<&ContainerRef> =
        servers.iter().filter_map(|(_, server)| server.container.as_ref()).collect();
    containers.len() + servers.iter().filter(|(_, server)| server.container.is_none()).count()
}

/// When the site may have another start; none if it may now.
fn site_spent_until(draft: &Draft<'_>, site: Option<SiteId>) -> Option<(SiteId, Boot)> {
    let site = site?;
    let limits = &draft.state.policy.heal;
    let starts = draft.starts_at(site, draft.now.boot - limits.window);
    let over = (starts.len() + 1).checked_sub(usize::from(limits.site_restarts)).filter(|over| *over > 0)?;
    starts.get(over - 1).map(|at| (site, *at + limits.window))
}
