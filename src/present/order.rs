//! What a person is told about an order: what it would do, that it is done, or why not.

use super::pieces::{cause, list, operator, server, time};
use crate::domain::Decision;
use crate::domain::action::Action;
use crate::domain::command::{Denial, Order, Scope, Verdict};
use crate::domain::maintenance::Admin;
use crate::domain::reason::Reason;

/// Why an order is not carried out, and what would help.
pub fn denial(denial: &Denial) -> String {
    match denial {
        Denial::UnknownService { service, known } if known.is_empty() => {
            format!("there is no service {service}; the settings name none")
        }
        Denial::UnknownService { service, known } => {
            format!("there is no service {service}; there is {}", list(known))
        }
        Denial::UnknownSite { site, known } => {
            format!("the service has no servers at {site}; it has some at {}", list(known))
        }
        Denial::ProxyUnseen => "HAProxy has not been seen yet, so nobody knows where traffic is; \
             try again when `supervisor status` shows it"
            .to_owned(),
        Denial::NotOwner => "HAProxy belongs to another supervisor; give the order there, \
             or claim it with `supervisor run --take-over`"
            .to_owned(),
        Denial::TargetDown { site, cause: why } => {
            format!("{site} is down: {}; --force moves traffic there all the same", cause(*why))
        }
        Denial::TargetUnknown { site } => {
            format!("{site} has not proved yet that it is healthy; --force moves traffic there all the same")
        }
        Denial::TargetThin { site, up, of } => format!(
            "{site} has only {up} of the {of} servers up that the service needs; --force moves traffic there all the same"
        ),
        Denial::TargetOut { site } => format!(
            "every server at {site} is out of service by order; `supervisor ready SERVER` puts one back"
        ),
        Denial::UnknownServer { server: id, known } => {
            format!("{} has no server {}; it has {}", id.service, id.server, list(known))
        }
        Denial::External { proxy } => format!(
            "HAProxy {proxy} runs a configuration that is not supervisor's (`config = \"external\"`), so its servers are not \
             touched; there: `set server BACKEND/SERVER state drain|maint|ready`"
        ),
        Denial::LastServing { server: id } => format!(
            "{} is the last server of {} that serves: nobody could take over; --force takes it out all the same",
            server(*id),
            id.service
        ),
        Denial::ChangedSince { site, at, by } => {
            let whom = by.as_ref().map_or("supervisor".to_owned(), operator);
            format!(
                "{whom} moved the traffic to {site} at {}, after you looked; look again and repeat the order if it still stands",
                time(*at)
            )
        }
        Denial::InProgress { to, since, by } => {
            let whose =
                by.as_ref().map_or("another order".to_owned(), |by| format!("an order of {}", operator(by)));
            format!(
                "{whose}, given {since} ago, is still moving the traffic to {to}; try again when that is done"
            )
        }
        Denial::NobodyServes => {
            "no site of the service is healthy, so there is nowhere to fail back to".to_owned()
        }
        Denial::Paused { scope: paused, by } => format!(
            "{} is paused by {}; `supervisor resume {}` ends that, and --force moves traffic all the same",
            scope(*paused),
            operator(by),
            argument(*paused)
        ),
        Denial::NoSuchSite { site, known } => {
            format!("no service has servers at {site}; there is {}", list(known))
        }
        Denial::NobodyToTell => {
            "there is nobody to tell: the settings have neither [alerts.alertmanagers] nor [mail]".to_owned()
        }
    }
}

/// The answer to an order, as one sentence.
pub fn verdict(order: &Order, verdict: &Verdict) -> String {
    match (order, verdict) {
        (Order::Failover { service, to, lasts, pin, .. }, Verdict::Accepted { durable }) => {
            let until = lasts.map_or("from now on".to_owned(), |lasts| format!("for {lasts}"));
            let pinned = if *pin { ", and not even an escape leaves it" } else { "" };
            format!(
                "{service} goes to {to}, and an override prefers it {until}{pinned}{}",
                not_durable(*durable)
            )
        }
        (Order::Pause { scope: paused, lasts }, Verdict::Accepted { durable }) => {
            let until = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            format!(
                "{} is paused{until}: observed and alerted, not acted on{}",
                scope(*paused),
                not_durable(*durable)
            )
        }
        (Order::Pause { scope: paused, .. }, Verdict::AlreadySo) => {
            format!(
                "{} is paused already, for at least as long; to shorten that, `supervisor resume` first",
                scope(*paused)
            )
        }
        (Order::Resume { scope: paused }, Verdict::Accepted { durable }) => {
            format!("{} is acted on again{}", scope(*paused), not_durable(*durable))
        }
        (Order::Resume { scope: paused }, Verdict::AlreadySo) => {
            format!("{} is not paused; nothing to do", scope(*paused))
        }
        (Order::Maintain { server: id, admin: Admin::Ready, .. }, Verdict::Accepted { durable }) => {
            format!("{} is in service again{}", server(*id), not_durable(*durable))
        }
        (Order::Maintain { server: id, admin: Admin::Ready, .. }, Verdict::AlreadySo) => {
            format!("{} is in service already; nothing to do", server(*id))
        }
        (Order::Maintain { server: id, admin, lasts, .. }, Verdict::Accepted { durable }) => {
            let until = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            format!("{} is {}{until}{}", server(*id), taken_out(*admin), not_durable(*durable))
        }
        (Order::Maintain { server: id, admin, .. }, Verdict::AlreadySo) => {
            format!("{} is {} already; nothing to do", server(*id), taken_out(*admin))
        }
        (Order::Failback { service, .. }, Verdict::Accepted { durable }) => {
            format!("{service} goes back to its best healthy site{}", not_durable(*durable))
        }
        (Order::Failover { service, to, .. }, Verdict::AlreadySo) => {
            format!("{service} is on {to} already, and it is preferred; nothing to do")
        }
        (Order::Failback { service, .. }, Verdict::AlreadySo) => {
            format!("{service} has no override to end, and no better site to go back to; nothing to do")
        }
        (Order::TestAlert, Verdict::Accepted { durable }) => {
            format!("a test is on its way{}", not_durable(*durable))
        }
        (Order::TestAlert, Verdict::AlreadySo) => {
            "a test lasts already, for two minutes; try again when it is over".to_owned()
        }
        (_, Verdict::Denied(why)) => denial(why),
    }
}

/// What was done to a server, in words.
pub(super) fn taken_out(admin: Admin) -> &'static str {
    match admin {
        Admin::Ready => "put back into service",
        Admin::Drain => "drained (no new clients)",
        Admin::Maint => "taken out of service",
    }
}

/// How a server stands to traffic, in words.
pub(super) fn standing(admin: Admin) -> &'static str {
    match admin {
        Admin::Ready => "in service",
        Admin::Drain => "drained (no new clients)",
        Admin::Maint => "out of service",
    }
}

/// What is paused, in words.
pub(super) fn scope(scope: Scope) -> String {
    match scope {
        Scope::All => "everything".to_owned(),
        Scope::Service(service) => format!("the service {service}"),
        Scope::Site(site) => format!("the site {site}"),
    }
}

/// The same as it is typed.
pub(super) fn argument(scope: Scope) -> String {
    match scope {
        Scope::All => "--all".to_owned(),
        Scope::Service(service) => service.to_string(),
        Scope::Site(site) => format!("--site {site}"),
    }
}

fn not_durable(durable: bool) -> &'static str {
    if durable { "" } else { " (not durable: the disk is behind, so a crash now would forget the order)" }
}

/// What a decision would do, one step a line: the answer to `--dry-run`. Empty when nothing would be done.
pub fn plan(decision: &Decision) -> Vec<String> {
    let from_reasons = decision.reasons.iter().filter_map(step_of_reason);
    from_reasons.chain(decision.actions.iter().filter_map(step_of_action)).collect()
}

fn step_of_reason(reason: &Reason) -> Option<String> {
    match reason {
        Reason::Switchover { service, from, to, forced, .. } => {
            let force = if *forced { ", although it is not healthy" } else { "" };
            Some(format!("move {service} from {from} to {to}{force}"))
        }
        Reason::PreferenceSet { service, site, .. } => {
            Some(format!("leave {service} on {site}, with an override that prefers {site} from now on"))
        }
        Reason::Paused { scope: paused, .. } => Some(format!("pause {}", scope(*paused))),
        Reason::Resumed { scope: paused, .. } => Some(format!("act on {} again", scope(*paused))),
        Reason::TakenOut { server: id, admin, .. } => Some(match admin {
            Admin::Drain => format!("drain {}: no new clients", server(*id)),
            Admin::Ready | Admin::Maint => format!("take {} out of service", server(*id)),
        }),
        Reason::PutBack { server: id, .. } => Some(format!("put {} back into service", server(*id))),
        Reason::TestOrdered { .. } => Some("raise an alert about nothing, and mail it".to_owned()),
        Reason::PreferenceDropped { service, site, .. } => {
            Some(format!("end the override that prefers {site} for {service}"))
        }
        // These follow from the same event by themselves; with an order they say what happens next.
        Reason::Failover { service, from, to, .. }
        | Reason::Failback { service, from, to, .. }
        | Reason::Relief { service, from, to, .. }
        | Reason::LeftTakenOut { service, from, to }
        | Reason::MovedTogether { service, from, to }
        | Reason::MovedToFirst { service, from, to, .. }
        | Reason::SiteRemoved { service, from, to } => Some(format!("move {service} from {from} to {to}")),
        Reason::RouteWaits { proxy, site, .. } => {
            Some(format!("send HAProxy {proxy}, which does not answer now, to {site} when it does again"))
        }
        Reason::Adopted { service, site } => Some(format!("leave {service} on {site}, as HAProxy has it")),
        Reason::Placed { service, site } => {
            Some(format!("send {service} to {site}: HAProxy has no route for it"))
        }
        Reason::Reasserted { service, site, .. } => Some(format!("send {service} to {site} again")),
        Reason::ServerUp { .. }
        | Reason::ServerDown { .. }
        | Reason::ServerIsDown { .. }
        | Reason::ServerDead { .. }
        | Reason::ServerLives { .. }
        | Reason::ServerFailing { .. }
        | Reason::ServerFlaps { .. }
        | Reason::ServerSteady { .. }
        | Reason::ServerDegraded { .. }
        | Reason::ServerSound { .. }
        | Reason::MaintenanceHolds { .. }
        | Reason::AdminInForce { .. }
        | Reason::AdminReasserted { .. }
        | Reason::AdminLags { .. }
        | Reason::PathContradicted { .. }
        | Reason::CutOff { .. }
        | Reason::Reconnected
        | Reason::RouteInForce { .. }
        | Reason::RouteLags { .. }
        | Reason::RouteContested { .. }
        | Reason::ContainerGone { .. }
        | Reason::HealUnknown { .. }
        | Reason::PreferenceVoid { .. }
        | Reason::PreferenceExpired { .. }
        | Reason::PauseHolds { .. }
        | Reason::ContainerEnded { .. }
        | Reason::Heals { .. }
        | Reason::Healed { .. }
        | Reason::HealWaits { .. }
        | Reason::DependencyUnkept { .. }
        | Reason::HealLabelUnknown { .. }
        | Reason::NetworkLost { .. }
        | Reason::GaveUp { .. }
        | Reason::HoldLifted { .. }
        | Reason::ContainerStands { .. }
        | Reason::IncidentOpened { .. }
        | Reason::IncidentEnded { .. }
        | Reason::IncidentMerged { .. }
        | Reason::InvariantBroken { .. }
        | Reason::ToldByAlertmanager { .. }
        | Reason::TellsByMail { .. }
        | Reason::Mailed { .. }
        | Reason::PeerFound { .. }
        | Reason::PeerLost { .. }
        | Reason::Evacuated { .. }
        | Reason::Stays { .. }
        | Reason::Serving { .. }
        | Reason::Unserved { .. }
        | Reason::ComesNext { .. }
        | Reason::PreferenceHolds { .. }
        | Reason::ServedElsewhere { .. }
        | Reason::Denied { .. }
        | Reason::ProxyFound { .. }
        | Reason::ProxyLost { .. }
        | Reason::ProxyReplaced { .. }
        | Reason::ProxyForeign { .. }
        | Reason::ConfigInForce { .. }
        | Reason::ConfigHeld { .. }
        | Reason::RollbackOrdered { .. }
        | Reason::RollbackRefused { .. }
        | Reason::ConfigResumed { .. }
        | Reason::ConfigRefused { .. }
        | Reason::ConfigUnproven { .. }
        | Reason::ConfigContested { .. }
        | Reason::EngineFound { .. }
        | Reason::EngineLost { .. }
        | Reason::PolicyChanged { .. }
        | Reason::Store { .. }
        | Reason::Late { .. }
        | Reason::ProberSilent { .. } => None,
    }
}

fn step_of_action(action: &Action) -> Option<String> {
    match action {
        Action::Evacuate(evacuation) => {
            let refuge =
                evacuation.refuge.map(|site| format!(", and send them to {site}")).unwrap_or_default();
            Some(format!(
                "free the requests that {} still holds in HAProxy {}{refuge}",
                server(evacuation.server),
                evacuation.proxy
            ))
        }
        // A route is told by the reason that caused it; the rest is no business of the person who asked.
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Heal(_)
        | Action::Mail(_)
        | Action::Answer { .. } => None,
    }
}
