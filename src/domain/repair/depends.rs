//! What a container depends on: others on its engine, by its label and by the network that it uses.
//!
//! What depends on another is started after it. Whose network another one uses, that one's restart takes it away: the other
//! goes on in a network that nobody has any more, until it is restarted, too. And once that one was created anew, the other can
//! never be started again: Docker looks for the old one by its id.

use super::{HealWait, Phase, Repair, Stands};
use crate::domain::event::{BorrowedNetwork, ComposeService, ContainerSeen, ContainerStatus, Lender};
use crate::domain::id::{ContainerName, EngineId};
use crate::domain::policy::ContainerRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// So much of an id is enough to find a container by (`docker ps` shows as much).
const SHORT_ID: usize = 12;

/// What is known of containers.
pub trait Containers {
    /// The container as it was last seen; none if it does not exist, or is not known.
    fn seen(&self, container: &ContainerRef) -> Option<&ContainerSeen>;

    /// How its healing stands; none if it is not looked after.
    fn repair(&self, container: &ContainerRef) -> Option<&Repair>;
}

/// How a container that runs lost the network that it uses of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkLoss {
    /// That one was started anew after it: a restart gives it the new one.
    Restarted {
        /// Whose network it is.
        of: ContainerName,
        /// When that one was started, as [`Facts::started`](crate::domain::event::Facts::started) has it.
        at: i64,
    },
    /// That one does not exist any more.
    Gone {
        /// Whose network it was.
        of: ContainerName,
        /// Where Docker Compose has the container from that lost it.
        compose: Option<ComposeService>,
    },
}

/// Why a name in the label `supervisor.depends-on` is not waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unkept {
    /// It is the container's own.
    Itself,
    /// Nobody has asked supervisor to look after such a container, so it does not hear whether it runs: a wait might never
    /// end. If there is one, it may run well.
    Unwatched,
    /// That one depends on the container itself, perhaps by way of others: neither would ever be started.
    Circle,
}

/// Why `container` cannot be started or restarted now for the sake of another one.
pub fn obstacle(all: &impl Containers, container: &ContainerRef) -> Option<HealWait> {
    let facts = &all.seen(container)?.facts;
    if let Some(network) = &facts.network {
        let of = lender_name(network);
        if is_gone(all, container.engine, network) {
            return Some(HealWait::NetworkGone { of, compose: facts.compose.clone() });
        }
        if let Some(stands) = lender_stands(all, container.engine, network) {
            return Some(HealWait::Dependency { on: of, stands });
        }
    }
    facts.depends_on.iter().find_map(|on| {
        let other = ContainerRef { engine: container.engine, name: on.clone() };
        let stands = stands(all.repair(&other)?)?;
        let kept = unkept_one(all, container, &other).is_none();
        kept.then(|| HealWait::Dependency { on: on.clone(), stands })
    })
}

/// Whether `container` runs without the network that it uses, and how it lost that.
pub fn network_loss(all: &impl Containers, container: &ContainerRef) -> Option<NetworkLoss> {
    let seen = all.seen(container)?;
    let network = seen.facts.network.as_ref()?;
    if seen.status != ContainerStatus::Running {
        return None;
    }
    if is_gone(all, container.engine, network) {
        return Some(NetworkLoss::Gone { of: lender_name(network), compose: seen.facts.compose.clone() });
    }
    let Lender::There { runs: true, started: Some(at) } = network.lender else { return None };
    let rejoined = all.repair(container).and_then(|repair| repair.rejoined) == Some(at);
    let before = seen.facts.started.is_some_and(|own| own < at);
    (before && !rejoined).then(|| NetworkLoss::Restarted { of: lender_name(network), at })
}

/// The names in the label of `container` that are not waited for, and why.
pub fn unkept(all: &impl Containers, container: &ContainerRef) -> Vec<(ContainerName, Unkept)> {
    let Some(seen) = all.seen(container) else { return Vec::new() };
    let names = seen.facts.depends_on.iter();
    let of = |on: &ContainerName| ContainerRef { engine: container.engine, name: on.clone() };
    names.filter_map(|on| Some((on.clone(), unkept_one(all, container, &of(on))?))).collect()
}

fn unkept_one(all: &impl Containers, container: &ContainerRef, on: &ContainerRef) -> Option<Unkept> {
    match () {
        () if on == container => Some(Unkept::Itself),
        () if all.repair(on).is_none() => Some(Unkept::Unwatched),
        () if leads_to(all, on, container) => Some(Unkept::Circle),
        () => None,
    }
}

/// Whether `from` depends on `to`, perhaps by way of others. Looks at each container once.
fn leads_to(all: &impl Containers, from: &ContainerRef, to: &ContainerRef) -> bool {
    let mut known = BTreeSet::from([from.clone()]);
    let mut next = vec![from.clone()];
    while let Some(container) = next.pop() {
        for on in dependencies(all, &container) {
            if on == *to {
                return true;
            }
            if known.insert(on.clone()) {
                next.push(on);
            }
        }
    }
    false
}

/// The containers that `container` depends on and that are looked after.
fn dependencies(all: &impl Containers, container: &ContainerRef) -> Vec<ContainerRef> {
    let Some(seen) = all.seen(container) else { return Vec::new() };
    let lender = seen.facts.network.as_ref().and_then(|network| network.name.as_ref());
    let on = |name: &ContainerName| ContainerRef { engine: container.engine, name: name.clone() };
    let names = seen.facts.depends_on.iter().chain(lender);
    names.map(on).filter(|on| all.repair(on).is_some()).collect()
}

/// What people call the container whose network it is.
fn lender_name(network: &BorrowedNetwork) -> ContainerName {
    let short = || ContainerName(network.of.chars().take(SHORT_ID).collect());
    network.name.clone().unwrap_or_else(short)
}

/// The container whose network it is, if it is looked after, with its healing.
fn lender<'a, C: Containers>(
    all: &'a C,
    engine: EngineId,
    network: &BorrowedNetwork,
) -> Option<(ContainerRef, &'a Repair)> {
    let lender = ContainerRef { engine, name: network.name.clone()? };
    let repair = all.repair(&lender)?;
    Some((lender, repair))
}

fn is_gone(all: &impl Containers, engine: EngineId, network: &BorrowedNetwork) -> bool {
    let by_now = lender(all, engine, network).is_some_and(|(lender, repair)| {
        // Another container of the same name does not help, unless the engine looks for the name.
        let by_name = network.of == lender.name.0;
        let another =
            all.seen(&lender).is_some_and(|seen| !seen.id.is_empty() && !seen.id.starts_with(&network.of));
        !by_name && (repair.phase == Phase::Gone || another)
    });
    by_now || network.lender == Lender::Gone
}

fn lender_stands(all: &impl Containers, engine: EngineId, network: &BorrowedNetwork) -> Option<Stands> {
    if let Some((_, repair)) = lender(all, engine, network) {
        return stands(repair);
    }
    match network.lender {
        Lender::There { runs: false, .. } => Some(Stands::Unwatched),
        Lender::There { runs: true, .. } | Lender::Unknown | Lender::Gone => None,
    }
}

/// How a container stands for those that wait for it; none: it runs.
fn stands(repair: &Repair) -> Option<Stands> {
    match repair.phase {
        Phase::Runs { .. } | Phase::Ailing { .. } => None,
        Phase::Held { .. } => Some(Stands::Held),
        Phase::Unseen => Some(Stands::Unseen),
        Phase::Gone => Some(Stands::Gone),
        Phase::Judging { .. }
        | Phase::Stopping { .. }
        | Phase::WithEngine
        | Phase::Docker { .. }
        | Phase::Due { .. }
        | Phase::Acting { .. }
        | Phase::GivenUp { .. }
        | Phase::Left => Some(Stands::Down),
    }
}

#[cfg(test)]
mod tests;
