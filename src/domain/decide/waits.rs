//! What waits for a person's word or for another container, and what wakes it when that is over.

use super::Draft;
use super::healing::act;
use super::repair::{is_healed, tell_labels};
use crate::domain::change::Change;
use crate::domain::command::Scope;
use crate::domain::policy::ContainerRef;
use crate::domain::repair::{HealWait, Phase, Repair, depends};
use std::collections::BTreeSet;

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
    for container in restarts_first(draft, waiting.into_iter().collect()) {
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
    // Whoever reads the settings anew wants to hear what is wrong still. Where nothing has been heard, the first list says it.
    for container in draft.state.repairs.keys() {
        if draft.engine_found(container.engine).is_some() {
            tell_labels(draft, container, None);
        }
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
        | HealWait::TrafficLeaves
        | HealWait::BeingEnded => true,
    }
}

/// What `container` waited for is over.
fn wake(draft: &mut Draft<'_>, container: &ContainerRef) {
    if let Some(repair) = draft.repair(container).cloned() {
        act(draft, container, Repair { waits: None, ..repair });
    }
}

/// In the order in which they are looked at: what depends on a container that is restarted now is not started now.
pub(super) fn restarts_first(draft: &Draft<'_>, mut containers: Vec<ContainerRef>) -> Vec<ContainerRef> {
    let runs = |container: &ContainerRef| {
        draft.repair(container).is_some_and(|repair| matches!(repair.phase, Phase::Ailing { .. }))
    };
    containers.sort_by_key(|container| !runs(container));
    containers
}
