//! What must hold whatever happens, as code: checked after every step in tests, and for each decision in the daemon.
//!
//! The numbers are those of ARCHITECTURE.md, "Invariants". A breach is a bug of ours; the daemon counts and logs it and
//! goes on, because stopping would help nobody.

use super::action::Action;
use super::change::Change;
use super::decide::Decision;
use super::event::Event;
use super::failover::standing;
use super::id::ServiceId;
use super::policy::ContainerRef;
use super::reason::Reason;
use super::repair::Phase;
use super::state::State;
use super::time::Now;

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// I1: traffic was sent from a site that serves to one that does not, without a person's `--force`.
    #[error("I1: {service} was routed away from a healthy site to one that is not healthy")]
    LeftServingSite {
        /// Whose traffic.
        service: ServiceId,
    },
    /// I2: an automatic failback within the hold-down.
    #[error("I2: {service} failed back within its hold-down")]
    FailbackInHoldDown {
        /// Whose traffic.
        service: ServiceId,
    },
    /// I3: what a person stopped was started.
    #[error("I3: {container} was started although a person had stopped it")]
    StartedWhatAPersonStopped {
        /// Which.
        container: ContainerRef,
    },
    /// I6: more starts than the budget has.
    #[error("I6: {container} was started more often than its budget allows")]
    TooManyStarts {
        /// Which.
        container: ContainerRef,
    },
    /// I9: an automatic move away from a preferred site that serves.
    #[error("I9: {service} was moved off the site a person prefers, though it serves")]
    OverrodeAPerson {
        /// Whose traffic.
        service: ServiceId,
    },
    /// I11: an escape or a return to a site that is not healthy.
    #[error("I11: {service} was moved by itself to a site that is not healthy")]
    EscapedToUnhealthy {
        /// Whose traffic.
        service: ServiceId,
    },
    /// I11: more automatic failbacks than allowed.
    #[error("I11: {service} failed back more often than its limit allows")]
    TooManyFailbacks {
        /// Whose traffic.
        service: ServiceId,
    },
    /// A route changed and no reason says why.
    #[error("{service} was moved without a reason")]
    NoReason {
        /// Whose traffic.
        service: ServiceId,
    },
}

/// Checks one step: `before` is the state that `decision` was made on, `after` the state with its changes applied.
pub fn check(before: &State, event: &Event, decision: &Decision, after: &State, now: Now) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for action in &decision.actions {
        match action {
            Action::Route { service, .. } => {
                check_route(before, event, decision, after, *service, now, &mut breaches);
            }
            Action::Heal(heal) => breaches.extend(check_heal(before, &heal.container, now)),
            Action::Pace { .. } | Action::Evacuate(_) | Action::Mail(_) | Action::Answer { .. } => {}
        }
    }
    breaches
}

/// A start or restart, against the state that it was decided on.
fn check_heal(before: &State, container: &ContainerRef, now: Now) -> Option<Breach> {
    let repair = before.repairs.get(container)?;
    if matches!(repair.phase, Phase::Held { .. } | Phase::Stopping { .. }) {
        return Some(Breach::StartedWhatAPersonStopped { container: container.clone() });
    }
    let limits = &before.policy.heal;
    let counted = repair.starts.iter().filter(|at| **at + limits.window > now.boot).count();
    let slowly = matches!(repair.phase, Phase::GivenUp { .. });
    // What died just now after it ran for long has a new budget.
    let rested = matches!(repair.phase, Phase::Runs { since } if now.boot.since(since) >= limits.window);
    (counted >= usize::from(limits.restarts) && !slowly && !rested)
        .then(|| Breach::TooManyStarts { container: container.clone() })
}

fn check_route(
    before: &State,
    event: &Event,
    decision: &Decision,
    after: &State,
    id: ServiceId,
    now: Now,
    breaches: &mut Vec<Breach>,
) {
    let Some((service, policy)) = after.service(id) else { return };
    let Some(to) = service.placement.site() else { return };
    let reason = decision.reasons.iter().find(|reason| reason.service() == Some(id) && moves(reason));
    let Some(reason) = reason else {
        breaches.push(Breach::NoReason { service: id });
        return;
    };
    let healthy = |site| standing(service, policy, site).is_healthy();
    let serves = |site| standing(service, policy, site).serves();
    let old = before.services.get(&id);
    let from = old.and_then(|old| old.placement.site()).filter(|from| *from != to && policy.has_site(*from));
    let forced = matches!(reason, Reason::Switchover { forced: true, .. });
    if let Some(from) = from
        && serves(from)
        && !serves(to)
        && !forced
    {
        breaches.push(Breach::LeftServingSite { service: id });
    }
    let automatic = matches!(
        reason,
        Reason::Failover { .. }
            | Reason::Failback { .. }
            | Reason::Relief { .. }
            | Reason::LeftTakenOut { .. }
    );
    // An escape may have to make do with too few servers; a move that nothing forces may not.
    let hurried = matches!(reason, Reason::Failover { .. } | Reason::LeftTakenOut { .. });
    if automatic && !healthy(to) && !(hurried && serves(to)) {
        breaches.push(Breach::EscapedToUnhealthy { service: id });
    }
    if let (true, Some(from)) = (automatic, from)
        && service.preference.as_ref().is_some_and(|over| over.site == from)
        && healthy(from)
    {
        breaches.push(Breach::OverrodeAPerson { service: id });
    }
    let failed_back = decision
        .changes
        .iter()
        .any(|change| matches!(change, Change::FailedBack { service, .. } if *service == id));
    if failed_back && !matches!(event, Event::Commanded(_)) {
        let rules = &policy.failback;
        let last = old.and_then(|old| old.last_failover);
        if last.is_some_and(|at| now.boot < at + rules.hold_down) {
            breaches.push(Breach::FailbackInHoldDown { service: id });
        }
        let recent = service.failbacks.iter().filter(|at| **at + rules.limit_window > now.boot).count();
        if recent > usize::from(rules.limit) {
            breaches.push(Breach::TooManyFailbacks { service: id });
        }
    }
}

/// Whether a reason accounts for a route.
fn moves(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::Failover { .. }
            | Reason::Failback { .. }
            | Reason::SiteRemoved { .. }
            | Reason::Relief { .. }
            | Reason::LeftTakenOut { .. }
            | Reason::MovedTogether { .. }
            | Reason::MovedToFirst { .. }
            | Reason::Switchover { .. }
            | Reason::Adopted { .. }
            | Reason::Placed { .. }
            | Reason::Reasserted { .. }
    )
}
