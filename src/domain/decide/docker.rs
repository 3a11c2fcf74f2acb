//! Docker said something. Only its bad news is evidence: a container that runs proves nothing about its service.

use super::Draft;
use super::probed::judge;
use crate::domain::change::Change;
use crate::domain::event::{ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus};
use crate::domain::health::{Bar, Health, PathView};
use crate::domain::id::{ContainerName, EngineId, ServerId};
use crate::domain::policy::ContainerRef;
use crate::domain::reason::Reason;
use crate::domain::time::Boot;
use crate::domain::witness::{Cause, ContainerFault, Evidence};

/// One event of the stream.
pub(super) fn announced(draft: &mut Draft<'_>, event: &ContainerEvent) {
    let status = match event.sign {
        ContainerSign::Started | ContainerSign::Unpaused => Some(ContainerStatus::Running),
        ContainerSign::Died { exit } => {
            let oom = matches!(
                known(draft, event.engine, &event.name),
                Some(ContainerSeen { id, status: ContainerStatus::Exited { oom: true, .. } }) if *id == event.id
            );
            Some(ContainerStatus::Exited { exit, oom })
        }
        // `oom` comes before `die`; what was killed may be one process of several, so the container still runs.
        ContainerSign::OutOfMemory => None,
        ContainerSign::Paused => Some(ContainerStatus::Paused),
        ContainerSign::Destroyed => {
            remember(draft, event.engine, &event.name, None);
            None
        }
        // A signal says nothing about health, and `stop` only repeats `die`.
        ContainerSign::Killed { .. } | ContainerSign::Stopped => None,
    };
    if let Some(status) = status {
        let seen = ContainerSeen { id: event.id.clone(), status };
        remember(draft, event.engine, &event.name, Some(seen));
    }
    let fault = match event.sign {
        ContainerSign::Died { exit } => Some(ContainerFault::Died { exit }),
        ContainerSign::OutOfMemory => Some(ContainerFault::OutOfMemory),
        ContainerSign::Paused => Some(ContainerFault::Paused),
        ContainerSign::Started
        | ContainerSign::Killed { .. }
        | ContainerSign::Stopped
        | ContainerSign::Unpaused
        | ContainerSign::Destroyed => None,
    };
    if let Some(fault) = fault {
        accuse(draft, event.engine, &event.name, fault, event.at);
    }
}

/// The whole list: what was missed is made up for.
pub(super) fn listed(draft: &mut Draft<'_>, list: &ContainerList) {
    let Some(engine) = draft.state.engines.get(&list.engine) else { return };
    if engine.found != Some(true) {
        draft.push(Change::Engine { engine: list.engine, found: Some(true) });
        draft.tell(Reason::EngineFound { engine: list.engine });
    }
    let watched: Vec<ContainerName> = draft.state.containers_of(list.engine).cloned().collect();
    for name in watched {
        let seen = list.containers.get(&name).cloned();
        let fault = seen.as_ref().and_then(|seen| match seen.status {
            ContainerStatus::Exited { oom: true, .. } => Some(ContainerFault::OutOfMemory),
            ContainerStatus::Exited { exit, oom: false } => Some(ContainerFault::Died { exit }),
            ContainerStatus::Dead => Some(ContainerFault::Died { exit: None }),
            ContainerStatus::Paused => Some(ContainerFault::Paused),
            ContainerStatus::Running
            | ContainerStatus::Restarting
            | ContainerStatus::Created
            | ContainerStatus::Unknown => None,
        });
        remember(draft, list.engine, &name, seen);
        if let Some(fault) = fault {
            accuse(draft, list.engine, &name, fault, list.at);
        }
    }
}

/// The engine no longer answers. That says nothing about the containers: probes go on.
pub(super) fn lost(draft: &mut Draft<'_>, engine: EngineId) {
    if draft.state.engines.get(&engine).is_some_and(|known| known.found != Some(false)) {
        draft.push(Change::Engine { engine, found: Some(false) });
        draft.tell(Reason::EngineLost { engine });
    }
}

fn known<'a>(draft: &Draft<'a>, engine: EngineId, name: &ContainerName) -> Option<&'a ContainerSeen> {
    draft.state.engines.get(&engine)?.containers.get(name)
}

fn remember(draft: &mut Draft<'_>, engine: EngineId, name: &ContainerName, seen: Option<ContainerSeen>) {
    if draft.state.engines.contains_key(&engine) && known(draft, engine, name) != seen.as_ref() {
        draft.push(Change::Container { engine, name: name.clone(), seen });
    }
}

/// Hard evidence against every server in the container.
fn accuse(draft: &mut Draft<'_>, engine: EngineId, name: &ContainerName, fault: ContainerFault, at: Boot) {
    let container = ContainerRef { engine, name: name.clone() };
    let servers: Vec<ServerId> = draft.state.servers_in(&container).to_vec();
    for server in servers {
        let Some(before) = draft.health(server) else { continue };
        // A verdict that is newer than the evidence has seen more: the server came up after this was listed.
        let newer = matches!(before, Health::Up { since, .. } if since > at);
        if !newer {
            let bar = Bar { rise: 1, fall: 1, grace: false, path: PathView::Credible };
            judge(draft, server, before.after(Evidence::Hard(Cause::Container(fault)), at, bar));
        }
    }
}
