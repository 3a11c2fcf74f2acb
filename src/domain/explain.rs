//! Standing reasons: why things are as they are, inaction included. A pure question, asked at any time.

use super::command::Scope;
use super::event::ConfigSeen;
use super::failover::{Plan, Standing, Stay, left, outlook, returns_at, standing};
use super::health::Health;
use super::id::{ServerId, ServiceId};
use super::policy::ContainerRef;
use super::reason::Reason;
use super::repair::depends::Containers as _;
use super::repair::{HealWait, Phase, depends};
use super::state::{ProxyLink, State};
use super::time::{Boot, Now};

/// Everything that stands for one service, the most important first. Empty if there is no such service.
pub fn explain(state: &State, id: ServiceId, now: Now) -> Vec<Reason> {
    let Some((service, policy)) = state.service(id) else { return Vec::new() };
    let mut reasons = Vec::new();
    if let Some(route) = service.placement.route() {
        let age = now.boot.since(route.since);
        if !state.nobody_hears(id) {
            let (site, since) = (route.site, route.since_wall);
            let stands = standing(service, policy, site);
            let out = matches!(stands, Standing::Down { .. } | Standing::Out);
            reasons.push(match out && !service.is_served_elsewhere(policy) {
                true => Reason::Unserved { service: id, site, since, age },
                false => Reason::Serving { service: id, site, since, age },
            });
        }
        for proxy in state.not_hearing(route) {
            reasons.push(Reason::RouteWaits { service: id, site: route.site, proxy });
        }
        for (proxy, serving) in &service.served_from {
            let (proxy, serving) = (*proxy, *serving);
            reasons.push(Reason::ServedElsewhere { service: id, proxy, site: route.site, serving });
        }
        for (proxy, contest) in service.contests.iter().filter(|(proxy, _)| policy.proxies.contains(proxy)) {
            if let Some(until) = contest.rests_until.filter(|until| *until > now.boot) {
                let (proxy, site, found) = (*proxy, route.site, None);
                let rests = until.since(now.boot);
                reasons.push(Reason::RouteContested { service: id, site, proxy, found, rests });
            }
        }
        for proxy in route.late() {
            reasons.push(Reason::RouteLags { service: id, site: route.site, proxy });
        }
    }
    if let Some(Plan::Stay(stay)) = state.plan(id, now) {
        let wait = moves_at(state, id, stay, now).map(|until| left(until, now.boot));
        let site = service.placement.site();
        reasons.push(Reason::Stays { service: id, site, stay, left: wait });
        if let (Some(site), Some(group)) = (site, state.group(id)) {
            let next = outlook(&group, stay, now).into_iter();
            reasons.extend(next.map(|outlook| Reason::ComesNext { service: id, site, outlook }));
        }
    }
    for (scope, pause) in &state.pauses {
        let about = match scope {
            Scope::All => true,
            Scope::Service(paused) => *paused == id,
            Scope::Site(site) => policy.has_site(*site),
        };
        if about {
            let left = pause.until.map(|until| until.since(now.boot));
            reasons.push(Reason::PauseHolds { scope: *scope, pause: pause.clone(), left });
        }
    }
    if let Some(preference) = &service.preference {
        let left = preference.until.map(|until| left(until, now.boot));
        reasons.push(Reason::PreferenceHolds { service: id, preference: preference.clone(), left });
    }
    for proxy in &policy.proxies {
        match state.proxies.get(proxy).map(|proxy| &proxy.config) {
            Some(ConfigSeen::Held { revision, instead_of, by, because }) => {
                reasons.push(Reason::ConfigHeld {
                    proxy: *proxy,
                    revision: revision.clone(),
                    instead_of: instead_of.clone(),
                    by: by.clone(),
                    because: because.clone(),
                });
            }
            Some(ConfigSeen::Refused { message }) => {
                reasons.push(Reason::ConfigRefused { proxy: *proxy, message: message.clone() });
            }
            Some(ConfigSeen::Unproven { message }) => {
                reasons.push(Reason::ConfigUnproven { proxy: *proxy, message: message.clone() });
            }
            Some(ConfigSeen::Contested { message }) => {
                reasons.push(Reason::ConfigContested { proxy: *proxy, message: message.clone() });
            }
            Some(ConfigSeen::Untried | ConfigSeen::InForce { .. }) | None => {}
        }
        match state.proxies.get(proxy).map(|proxy| &proxy.link) {
            Some(ProxyLink::Lost { .. }) => reasons.push(Reason::ProxyLost { proxy: *proxy }),
            Some(ProxyLink::Foreign { owner }) => {
                reasons.push(Reason::ProxyForeign { proxy: *proxy, owner: owner.clone() });
            }
            Some(ProxyLink::Unseen | ProxyLink::Ours) | None => {}
        }
    }
    if state.cut_off {
        reasons.push(Reason::CutOff { servers: state.path_runs().1 });
    }
    for (name, held) in &service.maintenance {
        let server = ServerId { service: id, server: *name };
        let left = held.until.map(|until| left(until, now.boot));
        reasons.push(Reason::MaintenanceHolds { server, maintenance: held.clone(), left });
    }
    for (name, out) in &service.out {
        let (server, admin) = (ServerId { service: id, server: *name }, out.admin);
        reasons.extend(out.late().map(|proxy| Reason::AdminLags { server, admin, proxy }));
    }
    for (name, server) in &service.servers {
        let server_id = ServerId { service: id, server: *name };
        let Some(wanted) = policy.servers.get(name) else { continue };
        let site = wanted.site;
        if let (Health::Down { cause, .. }, true) = (server.life, state.runs(server_id)) {
            reasons.push(Reason::ServerDead { server: server_id, site, cause });
        }
        if let Some(container) = &wanted.container {
            reasons.extend(container_stands(state, container, now));
            reasons.extend(container_notes(state, container));
        }
        if let Some(until) = server.flaps.until {
            let left = left(until, now.boot);
            reasons.push(Reason::ServerFlaps { server: server_id, site, left });
        }
        match server.health {
            Health::Down { since, cause, .. } => {
                let took = now.boot.since(since);
                reasons.push(Reason::ServerIsDown { server: server_id, site, cause, lasts: took });
            }
            Health::Unknown { bad: Some(run), .. } | Health::Up { bad: Some(run), .. } => {
                if run.contrary.is_some() {
                    reasons.push(Reason::PathContradicted { server: server_id, site, cause: run.cause });
                } else {
                    let (bad, fall) = (run.count, wanted.fall);
                    reasons.push(Reason::ServerFailing {
                        server: server_id,
                        site,
                        cause: run.cause,
                        bad,
                        fall,
                    });
                }
            }
            Health::Unknown { bad: None, .. } | Health::Up { bad: None, .. } => {}
        }
    }
    reasons
}

/// When time alone may move the traffic of a service that stays for the reason `stay`: not before what pauses it has ended,
/// and in the hours of its failback.
fn moves_at(state: &State, id: ServiceId, stay: Stay, now: Now) -> Option<Boot> {
    let alone_at = stay.until()?;
    let mut at = alone_at;
    let alone = [id];
    let group = match state.moving_with(id) {
        [] => &alone[..],
        group => group,
    };
    for (scope, pause) in &state.pauses {
        let is_about = |member: &ServiceId| {
            state.policy.services.get(member).is_some_and(|policy| scope.is_about(*member, policy))
        };
        if group.iter().any(is_about) {
            at = at.max(pause.until?);
        }
    }
    // An escape, as from a pool that is too thin, knows no hours.
    let returns = at > alone_at && !matches!(stay, Stay::Thin { .. });
    if returns { returns_at(&state.group(id)?, at, now) } else { Some(at) }
}

/// What is wrong with a container's labels and with what it depends on, as far as [`container_stands`] does not say it.
pub fn container_notes(state: &State, container: &ContainerRef) -> Vec<Reason> {
    let waits = state.repairs.get(container).is_some_and(|repair| repair.waits.is_some());
    let loss = depends::network_loss(state, container).filter(|_| !waits);
    let loss = loss.map(|loss| Reason::NetworkLost { container: container.clone(), loss });
    let unkept = depends::unkept(state, container).into_iter();
    let unkept = unkept.map(|(on, why)| Reason::DependencyUnkept { container: container.clone(), on, why });
    let label = state
        .policy
        .containers
        .get(container)
        .and_then(|policy| policy.label_unknown(state.seen(container)?));
    let label =
        label.map(|value| Reason::HealLabelUnknown { container: container.clone(), value: value.to_owned() });
    loss.into_iter().chain(unkept).chain(label).collect()
}

/// Where a container stands, if it does not simply run; what it waits for, if it does.
pub fn container_stands(state: &State, container: &ContainerRef, now: Now) -> Option<Reason> {
    let repair = state.repairs.get(container)?;
    if matches!(repair.phase, Phase::Runs { .. } | Phase::Unseen) {
        return None;
    }
    let left = repair.deadline().map(|at| at.since(now.boot));
    let acts = matches!(repair.phase, Phase::Due { .. } | Phase::Ailing { .. } | Phase::GivenUp { .. });
    let paused = state.pause_of(container).map(|scope| HealWait::Paused { scope });
    let waits = paused.or_else(|| repair.waits.clone()).filter(|_| acts);
    let (container, phase, last) = (container.clone(), repair.phase.clone(), repair.last);
    Some(Reason::ContainerStands { container, phase, last, waits, left })
}

/// How bad the state of a service is: the worst of them is the exit code of `--once` and of `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Served as preferred, with every server healthy.
    Well,
    /// Served, but not as preferred: from another site, without redundancy, or nobody knows yet.
    Degraded,
    /// No site of it is healthy.
    Down,
}

/// Grades one service.
pub fn grade(state: &State, id: ServiceId, now: Now) -> Grade {
    let Some((service, policy)) = state.service(id) else { return Grade::Down };
    let up = service.servers.values().filter(|server| server.health.is_up()).count();
    let doubtful = service.servers.values().any(|server| server.is_doubtful(now.boot));
    let down = service.servers.values().filter(|server| server.health.is_down()).count();
    let late = service.placement.route().is_some_and(|route| route.late().next().is_some());
    let lags = service.out.values().any(|out| out.late().next().is_some());
    let strays = late || lags || !service.served_from.is_empty();
    let stay = match state.plan(id, now) {
        Some(Plan::Stay(stay)) => Some(stay),
        Some(Plan::Move { .. }) | None => None,
    };
    let at_its_site = service.placement.site().map(|site| standing(service, policy, site));
    // In a group, it may be another one that is not served.
    let stuck = stay.is_some_and(|stay| {
        stay.is_kept() || matches!(stay, Stay::AllDown { .. } | Stay::NoneProven { .. } | Stay::TakenOut)
    });
    // What HAProxy's own safety net serves is served.
    let unserved =
        stuck && !at_its_site.is_some_and(Standing::serves) && !service.is_served_elsewhere(policy);
    if down == service.servers.len() || (up == 0 && down > 0) || unserved {
        Grade::Down
    } else if up == service.servers.len() && stay == Some(Stay::Preferred) && !strays && !doubtful {
        Grade::Well
    } else {
        Grade::Degraded
    }
}
