//! A person ordered something: it is accepted, already so, or denied with a reason.

use super::{Draft, incidents, telling};
use crate::domain::action::Action;
use crate::domain::change::Change;
use crate::domain::command::{Command, Denial, Operator, Order, Pause, Scope, Verdict};
use crate::domain::event::StoreHealth;
use crate::domain::failover::{Override, Standing, standing};
use crate::domain::id::{Name, ServerId, ServiceId, SiteId};
use crate::domain::incident::Trouble;
use crate::domain::maintenance::{Admin, Maintenance};
use crate::domain::policy::{ServerPolicy, ServicePolicy};
use crate::domain::reason::Reason;
use crate::domain::state::{Placement, ProxyLink, Route, Service};
use crate::domain::time::Span;
use std::collections::BTreeSet;

pub(super) fn commanded(draft: &mut Draft<'_>, command: &Command) {
    let verdict = match &command.order {
        Order::Failover { service, to, force, seen, lasts, pin } => {
            let wish = Wish { to: *to, force: *force, lasts: *lasts, pin: *pin };
            failover(draft, command, *service, &wish, *seen)
        }
        Order::Failback { service, seen, force } => failback(draft, command, *service, (*seen, *force)),
        Order::Pause { scope, lasts } => pause(draft, command, *scope, *lasts),
        Order::Resume { scope } => resume(draft, command, *scope),
        Order::Maintain { server, admin, lasts, force } => {
            maintain(draft, command, *server, (*admin, *lasts, *force))
        }
        Order::TestAlert => test_alert(draft, command),
    };
    let verdict = match verdict {
        Ok(verdict) => verdict,
        Err(denial) => {
            draft.tell(Reason::Denied { by: command.by.clone(), denial: denial.clone() });
            Verdict::Denied(denial)
        }
    };
    draft.act(Action::Answer { command: command.id, verdict });
}

/// Where a person wants the traffic, and how much.
struct Wish {
    to: SiteId,
    force: bool,
    lasts: Option<Span>,
    pin: bool,
}

fn failover(
    draft: &mut Draft<'_>,
    command: &Command,
    id: ServiceId,
    wish: &Wish,
    seen: Option<u64>,
) -> Result<Verdict, Denial> {
    let Wish { to, force, lasts, pin } = *wish;
    let (service, policy) = draft.service(id).ok_or_else(|| unknown_service(draft, id))?;
    if !policy.has_site(to) {
        return Err(Denial::UnknownSite { site: to, known: policy.prefer.clone() });
    }
    let route = driven_route(draft, id)?;
    let known = service.preference.as_ref().filter(|over| over.site == to);
    let preferred = match known {
        // The same with another end, or pinned, is another wish.
        Some(over) => lasts.is_none() && over.until.is_none() && over.pin == pin,
        None => service.preference.is_none() && policy.prefer.first() == Some(&to) && !pin,
    };
    if route.site == to && preferred {
        return Ok(Verdict::AlreadySo);
    }
    not_paused(draft, id, force)?;
    nobody_in_between(draft, &route, seen)?;
    let sick = match draft.group(id).map(|group| group.standing(to)) {
        Some(Standing::Healthy { .. }) => None,
        Some(Standing::Thin { up, of, .. }) => Some(Denial::TargetThin { site: to, up, of }),
        Some(Standing::Unproven) | None => Some(Denial::TargetUnknown { site: to }),
        Some(Standing::Out) => Some(Denial::TargetOut { site: to }),
        Some(Standing::Down { cause }) => Some(Denial::TargetDown { site: to, cause }),
    };
    let forced = match sick {
        // Nobody is there to take what force would send: the next plan would lead away again.
        Some(denial @ Denial::TargetOut { .. }) => return Err(denial),
        Some(denial) if !force => return Err(denial),
        Some(_) => true,
        None => false,
    };
    let preference = Override {
        site: to,
        by: command.by.clone(),
        because: command.because.clone(),
        at: draft.now.wall,
        until: lasts.map(|lasts| draft.now.boot + lasts),
        pin,
        reminded: draft.now.boot,
        forced,
    };
    // What moves together is ordered together.
    for member in draft.moving_with(id) {
        draft.push(Change::Preference { service: member, preference: Some(preference.clone()) });
        match routed_to(draft, member) {
            Some(route) if route.site != to => switch(draft, command, member, &route, to, forced),
            Some(_) | None => {
                let (by, because) = (command.by.clone(), command.because.clone());
                draft.tell(Reason::PreferenceSet { service: member, site: to, by, because });
            }
        }
    }
    draft.settle(id);
    Ok(accepted(draft))
}

fn routed_to(draft: &Draft<'_>, id: ServiceId) -> Option<Route> {
    draft.service(id)?.0.placement.route().cloned()
}

fn failback(
    draft: &mut Draft<'_>,
    command: &Command,
    id: ServiceId,
    (seen, force): (Option<u64>, bool),
) -> Result<Verdict, Denial> {
    let (service, policy) = draft.service(id).ok_or_else(|| unknown_service(draft, id))?;
    let route = driven_route(draft, id)?;
    let preference = service.preference.clone();
    let group = draft.group(id).ok_or_else(|| unknown_service(draft, id))?;
    let best = policy.prefer.iter().copied().find(|site| group.standing(*site).is_healthy());
    if preference.is_none() && (policy.prefer.first() == Some(&route.site) || best == Some(route.site)) {
        return Ok(Verdict::AlreadySo);
    }
    not_paused(draft, id, force)?;
    nobody_in_between(draft, &route, seen)?;
    // An override ends all the same: where traffic belongs without it is decided like at any other time.
    if best.is_none() && preference.is_none() {
        return Err(Denial::NobodyServes);
    }
    for member in draft.moving_with(id) {
        if let Some(over) = draft.service(member).and_then(|(service, _)| service.preference.clone()) {
            let (service, site, by) = (member, over.site, command.by.clone());
            draft.push(Change::Preference { service, preference: None });
            draft.tell(Reason::PreferenceDropped { service, site, by, because: command.because.clone() });
        }
        if let (Some(to), Some(route)) = (best, routed_to(draft, member))
            && route.site != to
        {
            switch(draft, command, member, &route, to, false);
        }
    }
    draft.settle(id);
    Ok(accepted(draft))
}

/// A person takes a server out of service, or puts it back.
fn maintain(
    draft: &mut Draft<'_>,
    command: &Command,
    server: ServerId,
    wish: (Admin, Option<Span>, bool),
) -> Result<Verdict, Denial> {
    let (admin, lasts, force) = wish;
    let (service, policy) =
        draft.service(server.service).ok_or_else(|| unknown_service(draft, server.service))?;
    let Some(wanted) = policy.servers.get(&server.server) else {
        return Err(Denial::UnknownServer { server, known: policy.servers.keys().copied().collect() });
    };
    let (by, because) = (command.by.clone(), command.because.clone());
    let held = service.maintenance.get(&server.server);
    if admin == Admin::Ready {
        // A person's word is about the server, whoever took it out: an order that a crash has forgotten, or somebody by hand.
        let by_hand = BTreeSet::from([Admin::Drain, Admin::Maint]);
        let out = service.out.get(&server.server);
        if held.is_none() && out.is_some_and(|out| out.admin == admin && out.ours == by_hand) {
            return Ok(Verdict::AlreadySo);
        }
        if held.is_some() {
            draft.push(Change::Maintenance { server, maintenance: None });
        } else {
            administrable(draft, policy)?;
        }
        draft.administer(server, admin, by_hand);
        draft.tell(Reason::PutBack { server, by: Some(by), because });
        draft.settle(server.service);
        return Ok(accepted(draft));
    }
    administrable(draft, policy)?;
    if held.is_some_and(|held| held.admin == admin && held.until.is_none() && lasts.is_none()) {
        return Ok(Verdict::AlreadySo);
    }
    // The last server that serves is not taken away by mistake: of its pool, where nobody else could take over. One that
    // is not known yet may be it. What is stateful goes to no other site, not even by HAProxy's own safety net.
    let known = service.servers.get(&server.server);
    // Where its traffic goes to a site that does not serve, HAProxy's own safety net may be at work anywhere.
    let served_there = service
        .placement
        .site()
        .is_none_or(|site| site == wanted.site || !standing(service, policy, site).serves())
        || service.served_from.values().any(|site| *site == wanted.site);
    let may_serve =
        known.is_some_and(|known| known.admin == Admin::Ready && !known.health.is_down()) && served_there;
    let others = |(name, other): (&Name, &ServerPolicy)| {
        *name != server.server && serving(service, *name) && (other.site == wanted.site || !policy.stateful)
    };
    if may_serve && !force && !policy.servers.iter().any(others) {
        return Err(Denial::LastServing { server });
    }
    let until = lasts.map(|lasts| draft.now.boot + lasts);
    draft.tell(Reason::TakenOut { server, admin, by: by.clone(), because: because.clone(), lasts });
    let maintenance = Some(Maintenance { admin, by, because, at: draft.now.wall, until });
    draft.push(Change::Maintenance { server, maintenance });
    draft.administer(server, admin, BTreeSet::new());
    draft.settle(server.service);
    draft.tell_if_stuck(server.service);
    Ok(accepted(draft))
}

/// Whether the servers of a service are ours to take out, in each of its HAProxy instances: an order that is carried out by
/// halves would be taken for one that is carried out.
fn administrable(draft: &Draft<'_>, policy: &ServicePolicy) -> Result<(), Denial> {
    if is_anothers(draft, policy) {
        return Err(Denial::NotOwner);
    }
    match policy.proxies.intersection(&draft.state.policy.external).next() {
        Some(proxy) => Err(Denial::External { proxy: *proxy }),
        None => Ok(()),
    }
}

/// Whether an HAProxy of the service belongs to another supervisor.
fn is_anothers(draft: &Draft<'_>, policy: &ServicePolicy) -> bool {
    let foreign = |proxy| matches!(draft.state.proxies.get(proxy), Some(proxy) if matches!(proxy.link, ProxyLink::Foreign { .. }));
    policy.proxies.iter().any(foreign)
}

/// Whether a server is up and in service.
fn serving(service: &Service, name: Name) -> bool {
    service.servers.get(&name).is_some_and(|server| server.health.is_up() && server.admin == Admin::Ready)
}

/// Who paused something wants its traffic left alone: by other people, too, unless they know of it.
fn not_paused(draft: &Draft<'_>, id: ServiceId, force: bool) -> Result<(), Denial> {
    let Some(policy) = draft.state.policy.services.get(&id).filter(|_| !force) else { return Ok(()) };
    match draft.state.pauses.iter().find(|(scope, _)| scope.is_about(id, policy)) {
        Some((scope, pause)) => Err(Denial::Paused { scope: *scope, by: pause.by.clone() }),
        None => Ok(()),
    }
}

fn pause(
    draft: &mut Draft<'_>,
    command: &Command,
    scope: Scope,
    lasts: Option<Span>,
) -> Result<Verdict, Denial> {
    exists(draft, scope)?;
    let until = lasts.map(|lasts| draft.now.boot + lasts);
    // Nobody cuts short by a pause what another one has paused: `resume` says so to everybody.
    let covers = |pause: &Pause| match (pause.until, until) {
        (None, None) => true,
        (None, Some(_)) => pause.by != command.by,
        (Some(holds), Some(until)) => holds >= until && pause.by != command.by,
        (Some(_), None) => false,
    };
    if draft.state.pauses.get(&scope).is_some_and(covers) {
        return Ok(Verdict::AlreadySo);
    }
    let (by, because) = (command.by.clone(), command.because.clone());
    draft.tell(Reason::Paused { scope, by: by.clone(), because: because.clone(), lasts });
    let pause = Pause { by, because, at: draft.now.wall, until };
    super::repause(draft, scope, Some(pause));
    Ok(accepted(draft))
}

fn resume(draft: &mut Draft<'_>, command: &Command, scope: Scope) -> Result<Verdict, Denial> {
    exists(draft, scope)?;
    if !draft.state.pauses.contains_key(&scope) {
        return Ok(Verdict::AlreadySo);
    }
    let (by, because) = (Some(command.by.clone()), command.because.clone());
    draft.tell(Reason::Resumed { scope, by, because });
    super::repause(draft, scope, None);
    Ok(accepted(draft))
}

fn test_alert(draft: &mut Draft<'_>, command: &Command) -> Result<Verdict, Denial> {
    let policy = &draft.state.policy.alerts;
    let (by_alertmanager, by_mail) = (!policy.peers.is_empty(), policy.direct);
    if !by_alertmanager && !by_mail {
        return Err(Denial::NobodyToTell);
    }
    // A second one would be a second mail about the same.
    let last = draft.incident_of(&Trouble::Test).and_then(|id| draft.incident(id));
    if last.is_some_and(|test| test.ended.is_none()) {
        return Ok(Verdict::AlreadySo);
    }
    draft.tell(Reason::TestOrdered { by: command.by.clone(), because: command.because.clone() });
    if by_mail {
        telling::test_mail(draft);
    }
    if by_alertmanager {
        incidents::test(draft);
    }
    Ok(accepted(draft))
}

/// Whether there is such a thing to pause.
fn exists(draft: &Draft<'_>, scope: Scope) -> Result<(), Denial> {
    let sites = || {
        let all = draft.state.policy.services.values().flat_map(|service| service.prefer.iter().copied());
        all.collect::<std::collections::BTreeSet<SiteId>>()
    };
    match scope {
        Scope::Service(service) if !draft.state.services.contains_key(&service) => {
            Err(unknown_service(draft, service))
        }
        Scope::Site(site) if !sites().contains(&site) => {
            Err(Denial::NoSuchSite { site, known: sites().into_iter().collect() })
        }
        Scope::All | Scope::Service(_) | Scope::Site(_) => Ok(()),
    }
}

/// Moves traffic because a person wants it. What is in flight is left to finish, unless the old site is dead.
fn switch(draft: &mut Draft<'_>, command: &Command, id: ServiceId, from: &Route, to: SiteId, forced: bool) {
    draft.route(id, to, Some(command.by.clone()));
    draft.tell(Reason::Switchover {
        service: id,
        from: from.site,
        to,
        by: command.by.clone(),
        because: command.because.clone(),
        forced,
    });
    draft.tell_who_is_away(id);
    if !forced {
        draft.evacuate_site(id, from.site, to);
    }
}

fn accepted(draft: &Draft<'_>) -> Verdict {
    Verdict::Accepted { durable: draft.state.store == StoreHealth::Durable }
}

/// The service's route, if somebody has seen it and it is ours to change.
fn driven_route(draft: &Draft<'_>, id: ServiceId) -> Result<Route, Denial> {
    let (service, policy) = draft.service(id).ok_or(Denial::ProxyUnseen)?;
    if is_anothers(draft, policy) {
        return Err(Denial::NotOwner);
    }
    match &service.placement {
        Placement::On(route) => Ok(route.clone()),
        Placement::Unmanaged { .. } => Err(Denial::ProxyUnseen),
    }
}

/// Two people at once have an order: the second hears of the first.
fn nobody_in_between(draft: &Draft<'_>, route: &Route, seen: Option<u64>) -> Result<(), Denial> {
    /// How long an order counts as being carried out. A switch takes milliseconds; an HAProxy that has not confirmed by
    /// then is in trouble, and its trouble must not take the wheel out of people's hands.
    const CARRIED_OUT_WITHIN: Span = Span::seconds(5);
    let by: Option<Operator> = route.by.clone();
    if seen.is_some_and(|seen| seen != route.generation) {
        return Err(Denial::ChangedSince { site: route.site, at: route.since_wall, by });
    }
    let since = draft.now.boot.since(route.since);
    let reachable = |proxy| draft.state.proxies.get(proxy).is_some_and(|proxy| proxy.link == ProxyLink::Ours);
    if by.is_some() && since < CARRIED_OUT_WITHIN && route.pending.keys().any(reachable) {
        return Err(Denial::InProgress { to: route.site, since, by });
    }
    Ok(())
}

fn unknown_service(draft: &Draft<'_>, service: ServiceId) -> Denial {
    /// More names than this help nobody to find a typing error.
    const NAMES_MAX: usize = 20;
    Denial::UnknownService { service, known: draft.state.services.keys().copied().take(NAMES_MAX).collect() }
}
