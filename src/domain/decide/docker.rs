//! Docker said something. Only its bad news is evidence: a container that runs proves nothing about its service.

use super::Draft;
use super::repair;
use super::verdict::judge_all;
use crate::domain::change::Change;
use crate::domain::event::{
    ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, DockersCheck, Facts,
    LastSigns, Lender,
};
use crate::domain::health::{Bar, Health, PathView};
use crate::domain::id::{EngineId, ServerId};
use crate::domain::policy::ContainerRef;
use crate::domain::reason::Reason;
use crate::domain::repair::{ENGINE_GONE_AFTER, Input, SIGNALLED_TOGETHER};
use crate::domain::time::Boot;
use crate::domain::witness::{Cause, ContainerFault, Evidence};

/// One event of the stream.
pub(super) fn announced(draft: &mut Draft<'_>, event: &ContainerEvent) {
    let container = ContainerRef { engine: event.engine, name: event.name.clone() };
    let before = draft.container(&container).filter(|seen| seen.id == event.id).cloned();
    let facts = before.as_ref().map_or_else(Facts::guessed, |seen| seen.facts.clone());
    let ran_out =
        matches!(&before, Some(ContainerSeen { status: ContainerStatus::Exited { oom: true, .. }, .. }));
    let oom = ran_out || draft.repair(&container).is_some_and(|repair| repair.ran_out_of_memory(event.at));
    let (status, facts) = match event.sign {
        // What its check and its `live` probes said was about the process before.
        ContainerSign::Started => {
            reborn(draft, &container, event.at);
            let check = facts.check.map(|_| DockersCheck::Starting);
            // By which clock it was is told by the list that follows.
            (Some(ContainerStatus::Running), Facts { check, started: None, ..facts })
        }
        ContainerSign::Unpaused => {
            reborn(draft, &container, event.at);
            (Some(ContainerStatus::Running), facts)
        }
        ContainerSign::Died { exit } => (Some(ContainerStatus::Exited { exit, oom }), facts),
        ContainerSign::Paused => (Some(ContainerStatus::Paused), facts),
        ContainerSign::Checked(check) => {
            (before.map(|seen| seen.status), Facts { check: Some(check), ..facts })
        }
        ContainerSign::Destroyed => {
            remember(draft, &container, None);
            (None, facts)
        }
        // `oom` comes before `die`, or after it; what was killed may be one process of several, and the container runs on.
        // A signal says nothing about health, and `stop` only repeats `die`.
        ContainerSign::OutOfMemory | ContainerSign::Killed { .. } | ContainerSign::Stopped => (None, facts),
    };
    if let Some(status) = status {
        remember(draft, &container, Some(ContainerSeen { id: event.id.clone(), status, facts }));
    }
    let fault = match event.sign {
        ContainerSign::Died { .. } if oom => Some(ContainerFault::OutOfMemory),
        ContainerSign::Died { exit } => Some(ContainerFault::Died { exit }),
        ContainerSign::Paused => Some(ContainerFault::Paused),
        ContainerSign::OutOfMemory
        | ContainerSign::Started
        | ContainerSign::Killed { .. }
        | ContainerSign::Stopped
        | ContainerSign::Unpaused
        | ContainerSign::Destroyed
        | ContainerSign::Checked(_) => None,
    };
    // Traffic first: it waits for no verdict about who did it.
    if let Some(fault) = fault {
        let accused = accused(draft, &container, fault, event.at);
        judge_all(draft, &accused);
    }
    repair::announced(draft, &container, event, oom);
    match event.sign {
        // What is frozen is not dead, and what was thawed is judged anew: a restart that waited for its time is off.
        ContainerSign::Checked(_) | ContainerSign::Paused | ContainerSign::Unpaused => {
            repair::consider(draft, &container);
        }
        ContainerSign::Started
        | ContainerSign::Died { .. }
        | ContainerSign::OutOfMemory
        | ContainerSign::Killed { .. }
        | ContainerSign::Stopped
        | ContainerSign::Destroyed => {}
    }
}

/// The whole list: what was missed is made up for.
pub(super) fn listed(draft: &mut Draft<'_>, list: &ContainerList) {
    let Some(engine) = draft.state.engines.get(&list.engine) else { return };
    if engine.found != Some(true) {
        draft.push(Change::Engine { engine: list.engine, found: Some(true) });
        draft.tell(Reason::EngineFound { engine: list.engine });
    }
    let watched: Vec<ContainerRef> = draft.state.containers_of(list.engine).cloned().collect();
    // All are seen first: what becomes of one may depend on another.
    let mut found = Vec::new();
    for container in &watched {
        let seen = list.containers.get(&container.name).map(|seen| completed(draft, container, seen));
        let fault = seen.as_ref().and_then(|seen| fault_of(seen.status));
        let was = draft.container(container).map(|seen| seen.status);
        // Nobody heard when it was thawed: at the latest when this was listed.
        if was == Some(ContainerStatus::Paused) && is_running(seen.as_ref()) {
            reborn(draft, container, list.at);
        }
        remember(draft, container, seen);
        if let Some(fault) = fault {
            found.extend(accused(draft, container, fault, list.at));
        }
    }
    // For traffic, the list is enough: all of it.
    judge_all(draft, &found);
    let engine_was_lost = engine.found == Some(false);
    for container in &watched {
        let seen = draft.container(container);
        let id = seen.map(|seen| seen.id.clone()).unwrap_or_default();
        let input = input_of(seen.map(|seen| seen.status), list.at, engine_was_lost);
        // What led to what the list shows: it says who ended it.
        repair::recall(draft, container, &id, &list.past);
        if let Some(input) = input {
            repair::note(draft, container, &id, input, (draft.now.boot, 0));
        }
    }
    // When all of it is known: one may wait for another.
    for container in &watched {
        repair::tell_facts(draft, container, engine.found.is_some());
        repair::consider(draft, container);
    }
}

/// What a list shows of a container, with what was known of it before and cannot be read any more.
fn completed(draft: &Draft<'_>, container: &ContainerRef, seen: &ContainerSeen) -> ContainerSeen {
    let mut seen = seen.clone();
    let before = draft.container(container).filter(|before| before.id == seen.id);
    if let (Some(before), true) = (before, seen.facts.guessed) {
        seen.facts = before.facts.clone();
    }
    let known = before.and_then(|before| before.facts.network.as_ref());
    if let (Some(known), Some(network)) = (known, seen.facts.network.as_mut())
        && known.of == network.of
    {
        // The name of a container that does not exist any more.
        if network.name.is_none() {
            network.name.clone_from(&known.name);
        }
        if network.lender == Lender::Unknown {
            network.lender = known.lender;
        }
    }
    seen
}

fn is_running(seen: Option<&ContainerSeen>) -> bool {
    seen.is_some_and(|seen| seen.status == ContainerStatus::Running)
}

/// The evidence against its servers that a container's status is.
fn fault_of(status: ContainerStatus) -> Option<ContainerFault> {
    match status {
        ContainerStatus::Exited { oom: true, .. } => Some(ContainerFault::OutOfMemory),
        ContainerStatus::Exited { exit, oom: false } => Some(ContainerFault::Died { exit }),
        ContainerStatus::Dead => Some(ContainerFault::Died { exit: None }),
        ContainerStatus::Paused => Some(ContainerFault::Paused),
        ContainerStatus::Running
        | ContainerStatus::Restarting
        | ContainerStatus::Created
        | ContainerStatus::Unknown => None,
    }
}

/// What a container's status in a list that began at `at` means for healing. None: it is in no list.
fn input_of(status: Option<ContainerStatus>, at: Boot, engine_was_lost: bool) -> Option<Input> {
    match status {
        None => Some(Input::Removed),
        Some(ContainerStatus::Running | ContainerStatus::Paused) => Some(Input::SeenRunning { at }),
        Some(ContainerStatus::Restarting) => Some(Input::SeenRestarting { at }),
        Some(ContainerStatus::Exited { exit, oom }) => {
            Some(Input::SeenEnded { at, exit, oom, engine_was_lost })
        }
        Some(ContainerStatus::Created) => Some(Input::SeenCreated { at }),
        Some(ContainerStatus::Dead | ContainerStatus::Unknown) => None,
    }
}

/// The engine no longer answers. That says nothing about the containers: probes go on.
pub(super) fn lost(draft: &mut Draft<'_>, id: EngineId, last: LastSigns) {
    let Some(engine) = draft.state.engines.get(&id).filter(|known| known.found != Some(false)) else {
        return;
    };
    draft.push(Change::Engine { engine: id, found: Some(false) });
    draft.tell(Reason::EngineLost { engine: id });
    // An engine that goes down has ended all it ran by then. With one container alone nobody could tell that from a
    // person who stopped it.
    let running = |seen: &ContainerSeen| {
        matches!(
            seen.status,
            ContainerStatus::Running | ContainerStatus::Paused | ContainerStatus::Restarting
        )
    };
    let now = draft.now.boot;
    let went_down = engine.containers.len() > 1
        && !engine.containers.values().any(running)
        && last.ended.is_some_and(|ended| now.since(ended) <= ENGINE_GONE_AFTER);
    let ending_since = last.signalled.filter(|_| went_down).map(|at| at - SIGNALLED_TOGETHER);
    let watched: Vec<ContainerRef> = draft.state.containers_of(id).cloned().collect();
    for container in watched {
        repair::hear(draft, &container, "", Input::EngineLost { ending_since });
    }
}

fn remember(draft: &mut Draft<'_>, container: &ContainerRef, seen: Option<ContainerSeen>) {
    let known = draft.state.repairs.contains_key(container);
    if known && draft.container(container) != seen.as_ref() {
        draft.push(Change::Container { engine: container.engine, name: container.name.clone(), seen });
    }
}

/// Its process was started or thawed at `at`: `live` probes that began before say nothing about it.
fn reborn(draft: &mut Draft<'_>, container: &ContainerRef, at: Boot) {
    for server in draft.state.servers_in(container) {
        draft.push(Change::Reborn { server: *server, at });
    }
}

/// The servers in the container as they are after hard evidence against each of them.
fn accused(
    draft: &Draft<'_>,
    container: &ContainerRef,
    fault: ContainerFault,
    at: Boot,
) -> Vec<(ServerId, Health)> {
    let bar = Bar { rise: 1, fall: 1, grace: false, path: PathView::Credible };
    let accuse = |server: &ServerId| {
        let before = draft.health(*server)?;
        // A verdict that is newer than the evidence has seen more: the server came up after this was listed.
        let newer = matches!(before, Health::Up { since, .. } if since > at);
        (!newer).then(|| (*server, before.after(Evidence::Hard(Cause::Container(fault)), at, bar)))
    };
    draft.state.servers_in(container).iter().filter_map(accuse).collect()
}
