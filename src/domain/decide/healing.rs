//! Healing: what is due is done, within the budgets and if the rest of the service allows it.

use super::Draft;
use super::leaving::{answers, is_served_without, leave};
use super::repair::{facts, is_dead, rules};
use crate::domain::action::{Action, Deed, Heal};
use crate::domain::event::ContainerStatus;
use crate::domain::id::{Name, ServerId, SiteId};
use crate::domain::policy::{ContainerRef, HealMode, ServerPolicy};
use crate::domain::reason::Reason;
use crate::domain::repair::depends::{self, NetworkLoss};
use crate::domain::repair::{HealWait, Phase, Repair};
use crate::domain::time::{Boot, Span};
use std::collections::BTreeSet;

/// What cannot be done while its engine is away, or while others are dead too, is looked at again after this.
const LOOK_AGAIN: Span = Span::seconds(10);

/// Does what is due for `container`, if the budgets and the rest of the service allow it.
pub(super) fn advance(draft: &mut Draft<'_>, container: &ContainerRef) {
    let Some(repair) = draft.repair(container).cloned() else { return };
    if matches!(repair.phase, Phase::Due { .. }) && give_up(draft, container, &repair) {
        return;
    }
    if repair.deadline().is_some_and(|at| at <= draft.now.boot) {
        act(draft, container, repair);
    }
}

/// The same, now that its time has come.
pub(super) fn act(draft: &mut Draft<'_>, container: &ContainerRef, repair: Repair) {
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
    let is_restart = matches!(deed, Deed::Restart { .. });
    if let Some(until) = repair.being_ended_until(rules).filter(|_| is_restart) {
        return put_off(draft, container, repair, until, Some(HealWait::BeingEnded));
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
    if is_restart
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

/// How many deaths it takes to kill these servers: those in one container die of one.
fn deaths(servers: &[(&Name, &ServerPolicy)]) -> usize {
    let containers: BTreeSet<&ContainerRef> =
        servers.iter().filter_map(|(_, server)| server.container.as_ref()).collect();
    containers.len() + servers.iter().filter(|(_, server)| server.container.is_none()).count()
}

/// Whether a start that is due at `at` is not done then, as far as can be said now.
pub(super) fn is_held_back(draft: &Draft<'_>, container: &ContainerRef, at: Boot) -> bool {
    let site = draft.state.policy.containers.get(container).and_then(|policy| policy.site);
    draft.pause_of(container).is_some()
        || depends::obstacle(draft, container).is_some()
        || site_spent_until(draft, site).is_some_and(|(_, until)| until > at)
}

/// When the site may have another start; none if it may now.
fn site_spent_until(draft: &Draft<'_>, site: Option<SiteId>) -> Option<(SiteId, Boot)> {
    let site = site?;
    let limits = &draft.state.policy.heal;
    let starts = draft.starts_at(site, draft.now.boot - limits.window);
    let over = (starts.len() + 1).checked_sub(usize::from(limits.site_restarts)).filter(|over| *over > 0)?;
    starts.get(over - 1).map(|at| (site, *at + limits.window))
}
