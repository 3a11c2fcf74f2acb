//! What must hold whatever happens, as code: checked after every step in tests, and for each decision in the daemon.
//!
//! The numbers are those of ARCHITECTURE.md, "Invariants". A breach is a bug of ours; the daemon counts and logs it and
//! goes on, because stopping would help nobody.

use super::action::{Action, ActionId};
use super::change::Change;
use super::decide::Decision;
use super::delivery::{RESOLVED_SENT_FOR, Telling};
use super::event::{ContainerSeen, ContainerSign, ContainerStatus, Event, ProxySeen};
use super::failover::{Plan, Why, standing};
use super::id::{ProxyId, ServiceId, SiteId};
use super::incident::{Incident, IncidentId, Trouble};
use super::policy::{ContainerRef, FailbackMode, HealLimits};
use super::reason::Reason;
use super::repair::{Phase, Repair, depends};
use super::state::{ProxyLink, Service, State};
use super::time::{Boot, Now, Span};
use std::collections::{BTreeMap, BTreeSet};

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
    /// What a container depends on did not run when it was started.
    #[error("{container} was started before what it depends on")]
    StartedBeforeDependency {
        /// Which.
        container: ContainerRef,
    },
    /// I6: more starts than the budget has.
    #[error("I6: {container} was started more often than its budget allows")]
    TooManyStarts {
        /// Which.
        container: ContainerRef,
    },
    /// I6: more starts at a site than its budget has.
    #[error("I6: at {site} more was started than its budget allows")]
    TooManyStartsAtSite {
        /// Where.
        site: SiteId,
    },
    /// I5: traffic belongs elsewhere, and a step about it left it where it is.
    #[error("I5: {service} was left where it does not belong")]
    MoveUndone {
        /// Whose traffic.
        service: ServiceId,
    },
    /// I9: an automatic move away from a preferred site that serves, or that a person pinned.
    #[error("I9: {service} was moved off the site a person prefers, though it serves or is pinned")]
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
    /// I4: an action without its intent in the same record: a crash right after it would forget that it was meant.
    #[error("I4: {what} was ordered and is not recorded with the decision")]
    NotRecorded {
        /// What.
        what: String,
    },
    /// I7: something that began or ended is forgotten before anybody was told, or need not be.
    #[error("I7: incident {} was forgotten untold", incident.0)]
    ForgottenUntold {
        /// Which.
        incident: IncidentId,
    },
    /// I8: an HAProxy goes elsewhere than decided, and it is neither on its way nor an alarm.
    #[error("I8: {proxy} does not route {service} as decided, and nobody is told")]
    RouteUnwatched {
        /// Whose traffic.
        service: ServiceId,
        /// Where.
        proxy: ProxyId,
    },
    /// A route changed and no reason says why.
    #[error("{service} was moved without a reason")]
    NoReason {
        /// Whose traffic.
        service: ServiceId,
    },
}

/// What a decision is about, as it was before: enough to judge it by, and no more than it touches.
#[derive(Debug, Clone, Default)]
pub struct Before {
    services: BTreeMap<ServiceId, Service>,
    repairs: BTreeMap<ContainerRef, Repair>,
    incidents: BTreeMap<IncidentId, Incident>,
}

impl Before {
    /// Taken from the state that `decision` was made on, before its changes are applied.
    pub fn of(state: &State, decision: &Decision) -> Before {
        let mut before = Before::default();
        for action in &decision.actions {
            match action {
                Action::Route { service, .. } => {
                    before
                        .services
                        .extend(state.services.get(service).map(|known| (*service, known.clone())));
                }
                Action::Heal(heal) => {
                    let known = state.repairs.get(&heal.container);
                    before.repairs.extend(known.map(|known| (heal.container.clone(), known.clone())));
                }
                Action::Pace { .. } | Action::Evacuate(_) | Action::Mail(_) | Action::Answer { .. } => {}
            }
        }
        for id in forgotten(decision) {
            before.incidents.extend(state.incidents.get(&id).map(|known| (id, known.clone())));
        }
        before
    }
}

/// The incidents that a decision takes out of the state.
fn forgotten(decision: &Decision) -> impl Iterator<Item = IncidentId> {
    decision.changes.iter().filter_map(|change| {
        if let Change::Incident { id, incident: None } = change { Some(*id) } else { None }
    })
}

/// What a decision says and records, by what it is about: each of a thousand routes asks for its own.
#[derive(Default)]
struct Said<'a> {
    /// Why a service is moved: the first reason that says so.
    moves: BTreeMap<ServiceId, &'a Reason>,
    failed_back: BTreeSet<ServiceId>,
    placed: BTreeSet<(ServiceId, u64)>,
    acting: BTreeMap<ActionId, &'a ContainerRef>,
    issued: u64,
}

impl<'a> Said<'a> {
    fn of(decision: &'a Decision) -> Said<'a> {
        let mut said = Said::default();
        // Most decisions order nothing.
        if decision.actions.is_empty() {
            return said;
        }
        for reason in decision.reasons.iter().filter(|reason| moves(reason)) {
            if let Some(service) = reason.service() {
                said.moves.entry(service).or_insert(reason);
            }
        }
        for change in &decision.changes {
            if let Change::FailedBack { service, .. } = change {
                said.failed_back.insert(*service);
            } else if let Change::Placed { service, placement } = change {
                said.placed.extend(placement.route().map(|route| (*service, route.generation)));
            } else if let Change::Repair { container, repair } = change
                && let Phase::Acting { action, .. } = repair.phase
            {
                said.acting.insert(action, container);
            } else if let Change::Issued { next } = change {
                said.issued = said.issued.max(*next);
            }
        }
        said
    }
}

/// Checks one step: `after` is the state with the changes of `decision` applied.
pub fn check(before: &Before, event: &Event, decision: &Decision, after: &State, now: Now) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let said = Said::of(decision);
    for action in &decision.actions {
        match action {
            Action::Route { service, .. } => {
                check_route(before, event, &said, after, *service, now, &mut breaches);
            }
            Action::Heal(heal) => {
                if !was_started(event, &heal.container) {
                    breaches.extend(check_heal(before, &after.policy.heal, &heal.container, now));
                }
                breaches.extend(check_site(after, &heal.container, now));
                if depends::obstacle(after, &heal.container).is_some() {
                    let container = heal.container.clone();
                    breaches.push(Breach::StartedBeforeDependency { container });
                }
            }
            Action::Pace { .. } | Action::Evacuate(_) | Action::Mail(_) | Action::Answer { .. } => {}
        }
        breaches.extend(check_intent(&said, action));
    }
    breaches.extend(check_settled(decision, after, now));
    breaches.extend(check_forgotten(before, decision, after.policy.alerts.direct, now));
    if let Event::Proxy(seen) = event {
        breaches.extend(check_followed(after, seen));
    }
    breaches
}

/// I4: what is done at most once is in the record of the decision that orders it.
fn check_intent(said: &Said<'_>, action: &Action) -> Option<Breach> {
    let what = match action {
        Action::Heal(heal) => (said.acting.get(&heal.id) != Some(&&heal.container))
            .then(|| format!("a start of {}", heal.container)),
        Action::Mail(mail) => (said.issued <= mail.id.0).then(|| format!("mail {}", mail.id.0)),
        Action::Route { service, generation, .. } => {
            (!said.placed.contains(&(*service, *generation))).then(|| format!("a route of {service}"))
        }
        Action::Evacuate(_) | Action::Pace { .. } | Action::Answer { .. } => None,
    };
    what.map(|what| Breach::NotRecorded { what })
}

/// I7: an incident leaves the state only when it is over and told, or nobody is left who could be.
fn check_forgotten(before: &Before, decision: &Decision, mails: bool, now: Now) -> Vec<Breach> {
    let told = |id: &IncidentId| {
        let over = |incident: &Incident| {
            matches!(incident.telling, Telling::Over { .. }) && incident.ended.is_some()
        };
        // Its end may be told by this very decision.
        let now_over = decision.changes.iter().any(|change| {
            matches!(change, Change::Incident { id: known, incident: Some(known_as) } if known == id && over(known_as))
        });
        // Without mails of our own, who does not hear it from an Alertmanager in time hears it from nobody.
        let nobody = |incident: &Incident| {
            let tried = incident.ended.is_some_and(|ended| ended.at + RESOLVED_SENT_FOR <= now.boot);
            tried && !mails
        };
        // A newer test takes the place of a test, under the same labels.
        let again = |incident: &Incident| incident.trouble == Trouble::Test && incident.ended.is_some();
        let need_not = |incident: &Incident| over(incident) || nobody(incident) || again(incident);
        now_over || before.incidents.get(id).is_none_or(need_not)
    };
    forgotten(decision).filter(|id| !told(id)).map(|incident| Breach::ForgottenUntold { incident }).collect()
}

/// I8: after a look at an HAProxy that is ours, each route that differs there is on its way, and an alarm if that lasts.
fn check_followed(after: &State, seen: &ProxySeen) -> Vec<Breach> {
    /// A lag is told after five seconds, at the next look, which comes each second.
    const TOLD_WITHIN: Span = Span::seconds(7);
    let ours = after.proxies.get(&seen.proxy).is_some_and(|known| known.link == ProxyLink::Ours);
    let mut breaches = Vec::new();
    let routed =
        after.policy.services.iter().filter(|(_, policy)| ours && policy.proxies.contains(&seen.proxy));
    for (id, _) in routed {
        let Some(route) = after.services.get(id).and_then(|service| service.placement.route()) else {
            continue;
        };
        if seen.at < route.since || seen.routes.get(id) == Some(&route.site) {
            continue;
        }
        let service = after.services.get(id);
        let contested = service.and_then(|service| service.contests.get(&seen.proxy));
        if contested.is_some_and(|contest| contest.rests_until.is_some()) {
            continue;
        }
        let watched = route
            .pending
            .get(&seen.proxy)
            .is_some_and(|pending| pending.late || seen.at.since(pending.runs_from()) < TOLD_WITHIN);
        if !watched {
            breaches.push(Breach::RouteUnwatched { service: *id, proxy: seen.proxy });
        }
    }
    breaches
}

/// Whether the event itself tells that somebody has started `container` meanwhile: what was known of it is about an earlier
/// life. (What an engine remembers comes with its list.)
fn was_started(event: &Event, container: &ContainerRef) -> bool {
    let Event::Containers(list) = event else { return false };
    let runs = |seen: &ContainerSeen| seen.status == ContainerStatus::Running;
    list.engine == container.engine
        && (list.containers.get(&container.name).is_some_and(runs)
            || list
                .past
                .events
                .iter()
                .any(|past| past.name == container.name && past.sign == ContainerSign::Started))
}

/// A start or restart, against the state that it was decided on.
fn check_heal(before: &Before, limits: &HealLimits, container: &ContainerRef, now: Now) -> Option<Breach> {
    let repair = before.repairs.get(container)?;
    if matches!(repair.phase, Phase::Held { .. } | Phase::Stopping { .. }) {
        return Some(Breach::StartedWhatAPersonStopped { container: container.clone() });
    }
    let counted = repair.starts.iter().filter(|at| **at + limits.window > now.boot).count();
    // What died just now after it ran for long has a new budget.
    let rested = matches!(repair.phase, Phase::Runs { since } if now.boot.since(since) >= limits.window);
    (counted >= usize::from(limits.restarts) && !repair.is_given_up() && !rested)
        .then(|| Breach::TooManyStarts { container: container.clone() })
}

/// The same of its site, with this one.
fn check_site(after: &State, container: &ContainerRef, now: Now) -> Option<Breach> {
    let (site, limits) = (after.policy.containers.get(container)?.site?, &after.policy.heal);
    let window = Boot(now.boot.0.saturating_sub(i64::try_from(limits.window.0).unwrap_or(i64::MAX)));
    let started = after.starts_at(site, window).count();
    (started > usize::from(limits.site_restarts)).then_some(Breach::TooManyStartsAtSite { site })
}

/// I5: whatever a step touches is where it belongs when it ends; what waits has a deadline or a reason.
fn check_settled(decision: &Decision, after: &State, now: Now) -> Vec<Breach> {
    let touched: BTreeSet<ServiceId> = decision.changes.iter().filter_map(Change::service).collect();
    let undone = |id: &ServiceId| {
        let Some((service, policy)) = after.service(*id) else { return false };
        match after.plan(*id, now) {
            // Its deadline is due and comes next; and hours are those of a wall clock, which may jump.
            Some(Plan::Move { why: Why::Return, .. }) => {
                service.wake.is_some_and(|at| at > now.boot)
                    && !matches!(policy.failback.mode, FailbackMode::Hours(_))
            }
            Some(Plan::Move { .. }) => service.wake.is_none_or(|at| at > now.boot),
            Some(Plan::Stay(_)) | None => false,
        }
    };
    touched.into_iter().filter(undone).map(|service| Breach::MoveUndone { service }).collect()
}

fn check_route(
    before: &Before,
    event: &Event,
    said: &Said<'_>,
    after: &State,
    id: ServiceId,
    now: Now,
    breaches: &mut Vec<Breach>,
) {
    let Some((service, policy)) = after.service(id) else { return };
    let Some(to) = service.placement.site() else { return };
    let Some(reason) = said.moves.get(&id).copied() else {
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
    // What moves together is judged together.
    let healthy_for_all = |site| after.group(id).is_some_and(|group| group.standing(site).is_healthy());
    if let (true, Some(from)) = (automatic, from)
        && service
            .preference
            .as_ref()
            .is_some_and(|over| over.site == from && (over.pin || over.forced || healthy_for_all(from)))
    {
        breaches.push(Breach::OverrodeAPerson { service: id });
    }
    if said.failed_back.contains(&id) && !matches!(event, Event::Commanded(_)) {
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

#[cfg(test)]
mod tests;
