//! Whether something is wrong, derived from the state: what is an incident of its own, and what is part of a larger one.

use super::Draft;
use crate::domain::event::{ConfigSeen, StoreHealth};
use crate::domain::failover::{Group, Plan, Standing, failback_is_locked, standing};
use crate::domain::health::Health;
use crate::domain::id::{ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::incident::{TEST_LASTS, Trouble};
use crate::domain::maintenance::Admin;
use crate::domain::policy::{ContainerRef, Role};
use crate::domain::repair::{HealWait, Phase, Repair, depends};
use crate::domain::state::{ProxyLink, Server};
use crate::domain::time::{Boot, Span};
use std::collections::BTreeMap;

/// For so long after the last one a broken invariant is an incident: long enough to be seen, and to be told once.
const BREACH_TOLD_FOR: Span = Span::seconds(3600);

/// Probes that cannot be made are noted twice a minute at most: when none was for so long, they can be made again.
const UNTRIED_TOLD_FOR: Span = Span::seconds(90);

/// An HAProxy is looked at each second, for a few seconds at most: one whose container ended is seen to be lost within this.
const LOSS_SHOWS_WITHIN: Span = Span::seconds(10);

/// Whether something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Is {
    /// It is.
    Wrong,
    /// It is, and people are told of the larger trouble that it is a part of.
    PartOf(Trouble),
    /// It is not.
    Right,
    /// Nobody knows: what is open stays open.
    Open,
    /// It seems right, and is trusted from then on.
    RightFrom(Boot),
}

/// Whether `trouble` is so, as far as the decision so far tells.
pub(super) fn is(draft: &Draft<'_>, trouble: &Trouble) -> Is {
    match trouble {
        Trouble::ServiceDown { service } => service_is(draft, *service),
        Trouble::PoolDown { service, site } => pool_is(draft, *service, *site),
        Trouble::SiteDown { site } => site_is(draft, *site),
        Trouble::ServerDown { server } => server_is(draft, *server),
        Trouble::ServerDegraded { server } => match draft.server(*server) {
            Some(server) if server.health.is_up() && server.strain.is_troubled(draft.now.boot) => Is::Wrong,
            Some(_) | None => Is::Right,
        },
        Trouble::FailbackLocked { service } => {
            let locked = draft.group(*service).is_some_and(|group| failback_is_locked(&group, draft.now));
            if locked { Is::Wrong } else { Is::Right }
        }
        Trouble::InvariantBroken => {
            told_until(draft, trouble, draft.breached().map(|at| at + BREACH_TOLD_FOR))
        }
        Trouble::OwnResources => told_until(draft, trouble, draft.untried().map(|at| at + UNTRIED_TOLD_FOR)),
        Trouble::ContainerDown { container } => container_is(draft, container),
        Trouble::ProxyLost { proxy } => match draft.link(*proxy) {
            None => Is::Right,
            Some(ProxyLink::Lost { .. }) => Is::Wrong,
            Some(ProxyLink::Ours | ProxyLink::Foreign { .. }) => {
                trusted(draft, trouble, || proxy_shaky_until(draft, *proxy))
            }
            Some(ProxyLink::Unseen) => Is::Open,
        },
        Trouble::RouteLags { service, proxy } => {
            let route = draft.service(*service).and_then(|(service, _)| service.placement.route().cloned());
            let late = route.is_some_and(|route| route.late().any(|late| late == *proxy));
            if late { Is::Wrong } else { Is::Right }
        }
        Trouble::RouteContested { service, proxy } => {
            let known = draft.service(*service).filter(|(_, policy)| policy.proxies.contains(proxy));
            let contest = known.and_then(|(service, _)| service.contests.get(proxy));
            match contest {
                Some(contest) if contest.rests_until.is_some() => Is::Wrong,
                Some(contest) => trusted(draft, trouble, || contest.calm_from()),
                None => Is::Right,
            }
        }
        Trouble::ConfigRefused { proxy } => match draft.config(*proxy) {
            None | Some(ConfigSeen::InForce { .. } | ConfigSeen::Held { .. }) => Is::Right,
            Some(ConfigSeen::Refused { .. } | ConfigSeen::Unproven { .. } | ConfigSeen::Contested { .. }) => {
                Is::Wrong
            }
            Some(ConfigSeen::Untried) => Is::Open,
        },
        Trouble::EngineLost { engine } => match draft.state.engines.contains_key(engine) {
            false => Is::Right,
            true => match draft.engine_found(*engine) {
                Some(false) => Is::Wrong,
                Some(true) => Is::Right,
                None => Is::Open,
            },
        },
        Trouble::StoreDegraded if draft.store() == StoreHealth::Degraded => Is::Wrong,
        Trouble::CutOff if draft.cut_off() => Is::Wrong,
        Trouble::StoreDegraded | Trouble::CutOff => Is::Right,
        Trouble::Test => {
            let open = draft.incident_of(trouble).and_then(|id| draft.incident(id));
            match open.map(|test| test.opened + TEST_LASTS).filter(|end| *end > draft.now.boot) {
                Some(end) => Is::RightFrom(end),
                None => Is::Right,
            }
        }
    }
}

/// What happens at moments is wrong until a while after the last of them.
fn told_until(draft: &Draft<'_>, trouble: &Trouble, end: Option<Boot>) -> Is {
    match end.filter(|end| *end > draft.now.boot) {
        Some(end) if draft.is_open(trouble) => Is::RightFrom(end),
        Some(_) => Is::Wrong,
        None => Is::Right,
    }
}

fn standings(draft: &Draft<'_>, id: ServiceId) -> Option<BTreeMap<SiteId, Standing>> {
    let (service, policy) = draft.service(id)?;
    Some(policy.prefer.iter().map(|site| (*site, standing(service, policy, *site))).collect())
}

/// Nothing serves at the site, and more than one service has a pool there: with one, that one's incidents say it.
fn site_is(draft: &Draft<'_>, site: SiteId) -> Is {
    let pools = draft.site_pools(site);
    match () {
        // Too few of them have a verdict: at a start, say.
        () if pools.serving == 0 && pools.unproven > 0 => Is::Open,
        () if pools.are_dead() => Is::Wrong,
        () => Is::Right,
    }
}

fn server_is(draft: &Draft<'_>, server: ServerId) -> Is {
    let site = draft.server_policy(server).map(|policy| policy.site);
    let (Some(known), Some(site)) = (draft.server(server), site) else { return Is::Right };
    if known.admin != Admin::Ready {
        return Is::Right;
    }
    match known.health {
        Health::Unknown { .. } => Is::Open,
        Health::Up { .. } => match known.flaps.until.filter(|until| *until > draft.now.boot) {
            Some(until) => Is::RightFrom(until),
            None => Is::Right,
        },
        Health::Down { .. } => {
            let pool = Trouble::PoolDown { service: server.service, site };
            let serves = draft
                .service(server.service)
                .is_some_and(|(service, policy)| standing(service, policy, site).serves());
            if serves { Is::Wrong } else { Is::PartOf(pool) }
        }
    }
}

/// No site serves it: each is down or taken out, or the one that its traffic goes to is down and traffic stays there.
fn service_is(draft: &Draft<'_>, id: ServiceId) -> Is {
    let (Some(sites), Some((service, policy))) = (standings(draft, id), draft.service(id)) else {
        return Is::Right;
    };
    if sites.values().all(|site| matches!(site, Standing::Down { .. } | Standing::Out)) {
        let dead = sites.keys().all(|site| is_told(draft, &Trouble::SiteDown { site: *site }));
        return match sites.keys().next().filter(|_| dead) {
            Some(site) => Is::PartOf(Trouble::SiteDown { site: *site }),
            None => Is::Wrong,
        };
    }
    let serving = service.placement.site();
    // Where all was taken out, HAProxy's own safety net serves from another site, if there is one that may stand in.
    let stands_in = !policy.stateful && sites.values().any(|site| site.serves());
    let dead = |site: &SiteId| match sites.get(site) {
        Some(Standing::Down { .. }) => true,
        Some(Standing::Out) => !stands_in,
        Some(Standing::Healthy { .. } | Standing::Thin { .. } | Standing::Unproven) | None => false,
    };
    let unserved = serving.filter(dead).filter(|_| !service.is_served_elsewhere(policy));
    let kept = || matches!(draft.plan(id), Some(Plan::Stay(stay)) if stay.is_kept());
    if let Some(site) = unserved.filter(|_| kept()) {
        let whole = Trouble::SiteDown { site };
        return if is_told(draft, &whole) { Is::PartOf(whole) } else { Is::Wrong };
    }
    match sites.values().any(|site| site.serves()) {
        // It is about to go there; what is open is over when it does.
        true if unserved.is_some() => Is::Open,
        true => trusted(draft, &Trouble::ServiceDown { service: id }, || shaky_until(draft, id, serving?)),
        false => Is::Open,
    }
}

/// It seems right; until what `shaky` finds that is not trusted, if people were told otherwise.
fn trusted(draft: &Draft<'_>, trouble: &Trouble, shaky: impl FnOnce() -> Option<Boot>) -> Is {
    // Most of the time nothing was wrong, and nobody asks how shaky it is.
    if !draft.is_open(trouble) {
        return Is::Right;
    }
    match shaky().filter(|at| *at > draft.now.boot) {
        Some(at) => Is::RightFrom(at),
        None => Is::Right,
    }
}

/// Whether people are told of `trouble` itself: it is so, or was and nobody knows better.
fn is_told(draft: &Draft<'_>, trouble: &Trouble) -> bool {
    match is(draft, trouble) {
        Is::Wrong => true,
        Is::Open => draft.is_open(trouble),
        Is::PartOf(_) | Is::Right | Is::RightFrom(_) => false,
    }
}

fn pool_is(draft: &Draft<'_>, service: ServiceId, site: SiteId) -> Is {
    let Some(sites) = standings(draft, service) else { return Is::Right };
    match sites.get(&site) {
        // What a person took out is missing because they want it so.
        None | Some(Standing::Out) => Is::Right,
        Some(Standing::Unproven) => Is::Open,
        Some(Standing::Healthy { .. } | Standing::Thin { .. }) => {
            trusted(draft, &Trouble::PoolDown { service, site }, || shaky_until(draft, service, site))
        }
        // One cause, one incident: the site's, if nothing serves there; the service's, if no site serves it.
        Some(Standing::Down { .. }) if is_told(draft, &Trouble::SiteDown { site }) => {
            Is::PartOf(Trouble::SiteDown { site })
        }
        Some(Standing::Down { .. }) if is_told(draft, &Trouble::ServiceDown { service }) => {
            Is::PartOf(Trouble::ServiceDown { service })
        }
        Some(Standing::Down { .. }) => Is::Wrong,
    }
}

/// Until when a pool that serves again is not trusted: its containers have to run for a while after their budget was
/// spent, and too many of its servers to need them go up and down. To and fro is one incident.
fn shaky_until(draft: &Draft<'_>, id: ServiceId, site: SiteId) -> Option<Boot> {
    let (service, policy) = draft.service(id)?;
    let of_pool = policy.servers.values().filter(|server| server.site == site);
    let containers = of_pool.filter_map(|server| server.container.as_ref());
    let shaky = containers
        .filter_map(|container| draft.repair(container)?.shaky_until(&draft.state.policy.heal))
        .max();
    let flaps = Group::of((service, policy), Vec::new()).troubled_until(site, |server| server.flaps.until);
    shaky.max(flaps)
}

fn container_is(draft: &Draft<'_>, container: &ContainerRef) -> Is {
    let Some(repair) = draft.repair(container) else { return Is::Right };
    // Whom it waits for is down by nobody's fault, or is told of by nobody else.
    let waits_for_a_person = repair.waits.as_ref().is_some_and(HealWait::needs_a_person);
    let down = match repair.phase {
        Phase::GivenUp { .. } | Phase::Left => true,
        Phase::Gone => return gone_is(draft, container),
        Phase::Runs { .. } if depends::network_loss(draft, container).is_some() => true,
        Phase::Due { .. } | Phase::Ailing { .. } if waits_for_a_person || repair.is_given_up() => true,
        Phase::Runs { .. } | Phase::Held { .. } => {
            return match repair.shaky_until(&draft.state.policy.heal) {
                Some(at) if at > draft.now.boot => Is::RightFrom(at),
                Some(_) | None => Is::Right,
            };
        }
        Phase::Unseen
        | Phase::Ailing { .. }
        | Phase::Judging { .. }
        | Phase::Stopping { .. }
        | Phase::WithEngine
        | Phase::Docker { .. }
        | Phase::Due { .. }
        | Phase::Acting { .. } => false,
    };
    if let Some(lost) = lost_proxy_in(draft, container).filter(|_| down) {
        return Is::PartOf(lost);
    }
    // The pool's incident, or the service's, tells of it.
    let covered = |server: &ServerId| {
        let site = draft.server_policy(*server).map(|server| server.site);
        site.is_some_and(|site| {
            let pool = Trouble::PoolDown { service: server.service, site };
            let service = Trouble::ServiceDown { service: server.service };
            let tells = |trouble| matches!(is(draft, trouble), Is::Wrong | Is::PartOf(_));
            tells(&pool) || tells(&service)
        })
    };
    if down && !draft.state.servers_in(container).iter().any(covered) { Is::Wrong } else { Is::Open }
}

/// Whether a container does not exist.
pub(super) fn is_gone(draft: &Draft<'_>, container: &ContainerRef) -> bool {
    draft.repair(container).is_some_and(|repair| repair.phase == Phase::Gone)
}

/// A container that does not exist is missed where nothing serves in its stead. It is over when one of that name runs: what
/// was removed is not back by itself.
fn gone_is(draft: &Draft<'_>, container: &ContainerRef) -> Is {
    let servers = draft.state.servers_in(container);
    let missed = |server: &Server| server.health.is_down() && server.admin == Admin::Ready;
    if !servers.is_empty() && !servers.iter().any(|server| draft.server(*server).as_ref().is_some_and(missed))
    {
        return Is::Open;
    }
    let of_servers = servers.iter().flat_map(|server| {
        let site = draft.server_policy(*server).map(|server| server.site);
        let pool = site.map(|site| Trouble::PoolDown { service: server.service, site });
        let service = Trouble::ServiceDown { service: server.service };
        [Some(service), pool, Some(Trouble::ServerDown { server: *server })].into_iter().flatten()
    });
    // One cause, one incident: that of what it served.
    for larger in of_servers {
        match is(draft, &larger) {
            Is::Wrong => return Is::PartOf(larger),
            Is::PartOf(whole) => return Is::PartOf(whole),
            Is::Right | Is::Open | Is::RightFrom(_) => {}
        }
    }
    lost_proxy_in(draft, container).map_or(Is::Wrong, Is::PartOf)
}

/// The HAProxy that runs in a container, if people are told that it does not answer: that says more than that its container
/// is down.
fn lost_proxy_in(draft: &Draft<'_>, container: &ContainerRef) -> Option<Trouble> {
    let lost = match draft.state.policy.containers.get(container)?.role {
        Role::Proxy(proxy) => Trouble::ProxyLost { proxy },
        Role::Servers | Role::Other => return None,
    };
    let told = match is(draft, &lost) {
        Is::Wrong => true,
        Is::Open | Is::RightFrom(_) => draft.is_open(&lost),
        Is::PartOf(_) | Is::Right => false,
    };
    told.then_some(lost)
}

/// Until when an HAProxy that answers is not trusted to go on: its container has to run for a while after its budget was
/// spent, and what answered before that ended says nothing.
fn proxy_shaky_until(draft: &Draft<'_>, proxy: ProxyId) -> Option<Boot> {
    let own = draft.state.policy.containers_running(proxy).filter_map(|container| draft.repair(container));
    let shaky = |repair: &Repair| match repair.phase {
        Phase::Runs { .. } => repair.shaky_until(&draft.state.policy.heal),
        Phase::Unseen
        | Phase::Ailing { .. }
        | Phase::Judging { .. }
        | Phase::Stopping { .. }
        | Phase::Held { .. }
        | Phase::WithEngine
        | Phase::Docker { .. }
        | Phase::Due { .. }
        | Phase::Acting { .. }
        | Phase::GivenUp { .. }
        | Phase::Left
        | Phase::Gone => repair.last.map(|ending| ending.at + LOSS_SHOWS_WITHIN),
    };
    own.filter_map(shaky).max()
}
