//! An HAProxy was looked at, lost, or told us that routes are in force.

use super::Draft;
use super::probed::plain_bar;
use super::verdict::judge_all;
use crate::domain::action::Action;
use crate::domain::change::Change;
use crate::domain::contest::WITHIN;
use crate::domain::event::{BackStep, ConfigSeen, Configured, ProxySeen, Routed, WentBack};
use crate::domain::failover::standing;
use crate::domain::health::PathView;
use crate::domain::id::{Name, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::maintenance::{Admin, Agreement, Out, agreement};
use crate::domain::reason::Reason;
use crate::domain::state::{Pending, Placement, ProxyLink, Route, Service};
use crate::domain::time::Span;

/// A route, or an order about a server, that an HAProxy has not taken after so long is told: its real state must be the decided one within 5 s, or an
/// alarm (ARCHITECTURE.md, invariant I8). A switch takes milliseconds.
const ROUTE_LAGS_AFTER: Span = Span::seconds(5);

/// One look.
pub(super) fn seen(draft: &mut Draft<'_>, seen: &ProxySeen) {
    let Some(known) = draft.state.proxies.get(&seen.proxy) else { return };
    let link = match &seen.owner {
        Some(owner) if !seen.ours => ProxyLink::Foreign { owner: owner.clone() },
        Some(_) | None => ProxyLink::Ours,
    };
    if link != known.link {
        draft.tell(match &link {
            ProxyLink::Foreign { owner } => Reason::ProxyForeign { proxy: seen.proxy, owner: owner.clone() },
            ProxyLink::Ours | ProxyLink::Unseen | ProxyLink::Lost { .. } => {
                Reason::ProxyFound { proxy: seen.proxy }
            }
        });
        draft.push(Change::Proxy { proxy: seen.proxy, link: link.clone() });
    }
    let is_back = link != known.link && link == ProxyLink::Ours;
    if !link.may_drive() {
        return give_away(draft, seen.proxy);
    }
    let same_worker = known.identity == Some(seen.identity);
    if !same_worker {
        if known.identity.is_some() {
            draft.tell(Reason::ProxyReplaced { proxy: seen.proxy, pid: seen.identity.pid });
        }
        draft.push(Change::ProxyIdentity { proxy: seen.proxy, identity: seen.identity });
        // What was changed at run time is gone with the worker that it was changed in.
        forget_contests(draft, seen.proxy);
    }
    hear_checks(draft, seen);
    let routed =
        draft.state.policy.services.iter().filter(|(_, policy)| policy.proxies.contains(&seen.proxy));
    let services: Vec<ServiceId> = routed.map(|(id, _)| *id).collect();
    for service in services {
        if is_back {
            welcome(draft, seen, service);
        }
        reconcile(draft, seen, service);
        reconcile_servers(draft, seen, service);
    }
}

/// An HAProxy answers again. For what it was not told meanwhile its time runs from now; what was to be freed in it is freed
/// when it has the route.
fn welcome(draft: &mut Draft<'_>, seen: &ProxySeen, id: ServiceId) {
    let proxy = seen.proxy;
    let Some((service, _)) = draft.service(id) else { return };
    let back = Some(draft.now.boot);
    let waits = |out: &&Out| out.pending.contains_key(&proxy);
    let orders = service.out.iter().filter(|(_, out)| waits(out)).map(|(name, out)| (*name, out.clone()));
    let orders: Vec<(Name, Out)> = orders.collect();
    let route = service.placement.route().map(|route| (route.site, route.pending.get(&proxy).copied()));
    for (name, mut out) in orders {
        out.pending.entry(proxy).and_modify(|pending| pending.back = back);
        draft.push(Change::Out { server: ServerId { service: id, server: name }, out: Some(out) });
    }
    match route {
        Some((_, Some(pending))) => {
            let pending = Pending { back, ..pending };
            draft.push(Change::Pending { service: id, proxy, pending });
        }
        Some((site, None)) if seen.routes.get(&id) == Some(&site) => draft.make_up(id, proxy),
        // It is told of the route, or what it has becomes ours, at this very look.
        Some((_, None)) | None => {}
    }
}

/// An HAProxy shows the route.
fn confirmed(draft: &mut Draft<'_>, proxy: ProxyId, id: ServiceId, site: SiteId, pending: Pending) {
    let took = draft.now.boot.since(pending.since);
    draft.push(Change::Confirmed { service: id, proxy });
    draft.tell(Reason::RouteInForce { service: id, site, proxy, took });
    if pending.back.is_some() {
        draft.make_up(id, proxy);
    }
}

fn forget_contests(draft: &mut Draft<'_>, proxy: ProxyId) {
    let contested = draft.state.services.iter().filter(|(_, service)| service.contests.contains_key(&proxy));
    let contested: Vec<ServiceId> = contested.map(|(id, _)| *id).collect();
    for service in contested {
        draft.push(Change::Contested { service, proxy, contest: None });
    }
}

/// It belongs to another supervisor: its routes are none of our business. What we decided of them before is forgotten, so that
/// nothing of it is imposed when the HAProxy is ours again: then its live routes are found as at a start.
fn give_away(draft: &mut Draft<'_>, proxy: ProxyId) {
    forget_contests(draft, proxy);
    let routed = draft.state.policy.services.iter().filter(|(_, policy)| policy.proxies.contains(&proxy));
    let services: Vec<ServiceId> = routed.map(|(id, _)| *id).collect();
    for id in services {
        let Some((service, policy)) = draft.service(id) else { continue };
        let may_drive = |proxy: &ProxyId| draft.link(*proxy).is_some_and(ProxyLink::may_drive);
        if !policy.proxies.iter().any(may_drive) {
            let placement = Placement::Unmanaged { last: None };
            if service.placement != placement {
                draft.push(Change::Placed { service: id, placement });
                draft.settle(id);
            }
            continue;
        }
        let Placement::On(route) = &service.placement else { continue };
        // Others route the service by our word still; this one is not waited for.
        let mut route = route.clone();
        let stray = service.served_from.contains_key(&proxy);
        if route.pending.remove(&proxy).is_some() {
            draft.push(Change::Placed { service: id, placement: Placement::On(route) });
        }
        if stray {
            draft.push(Change::ServedFrom { service: id, proxy, elsewhere: None });
        }
    }
}

/// The sockets do not answer. Traffic may still flow; we just cannot steer it.
pub(super) fn lost(draft: &mut Draft<'_>, proxy: ProxyId) {
    let Some(known) = draft.state.proxies.get(&proxy) else { return };
    if !matches!(known.link, ProxyLink::Lost { .. }) {
        draft.push(Change::Proxy { proxy, link: ProxyLink::Lost { since: draft.now.boot } });
        draft.tell(Reason::ProxyLost { proxy });
    }
    let elsewhere = |service: &Service| service.served_from.contains_key(&proxy);
    let unknown: Vec<ServiceId> =
        draft.state.services.iter().filter(|(_, service)| elsewhere(service)).map(|(id, _)| *id).collect();
    for service in unknown {
        draft.push(Change::ServedFrom { service, proxy, elsewhere: None });
    }
}

/// The actuator tried to bring the configuration in. The same outcome again is nothing new.
pub(super) fn configured(draft: &mut Draft<'_>, configured: &Configured) {
    let Configured { proxy, config, .. } = configured;
    if draft.state.proxies.get(proxy).is_none_or(|known| known.config == *config) {
        return;
    }
    draft.push(Change::ProxyConfig { proxy: *proxy, config: config.clone() });
    let proxy = *proxy;
    match config {
        ConfigSeen::Untried => {}
        ConfigSeen::InForce { revision } => {
            draft.tell(Reason::ConfigInForce { proxy, revision: revision.clone() });
        }
        ConfigSeen::Held { revision, instead_of, by, because } => {
            draft.tell(Reason::ConfigHeld {
                proxy,
                revision: revision.clone(),
                instead_of: instead_of.clone(),
                by: by.clone(),
                because: because.clone(),
            });
        }
        ConfigSeen::Refused { message } => {
            draft.tell(Reason::ConfigRefused { proxy, message: message.clone() })
        }
        ConfigSeen::Contested { message } => {
            draft.tell(Reason::ConfigContested { proxy, message: message.clone() });
        }
        ConfigSeen::Unproven { message } => {
            draft.tell(Reason::ConfigUnproven { proxy, message: message.clone() })
        }
    }
}

/// What a person ordered about the configuration, or how that ended. It moves nothing: what HAProxy runs then is told when it
/// is seen.
pub(super) fn went_back(draft: &mut Draft<'_>, seen: &WentBack) {
    let WentBack { proxy, by, because, step } = seen.clone();
    if !draft.state.proxies.contains_key(&proxy) {
        return;
    }
    draft.tell(match step {
        BackStep::Ordered { revision, left } => {
            Reason::RollbackOrdered { proxy, revision, left, by, because }
        }
        BackStep::Resumed { revision, held } => Reason::ConfigResumed { proxy, revision, held, by, because },
        BackStep::Refused { revision, message, .. } => {
            Reason::RollbackRefused { proxy, revision, by, because, message }
        }
    });
}

/// The actuator has read routes back: they are in force.
pub(super) fn routed(draft: &mut Draft<'_>, routed: &Routed) {
    for (id, generation) in &routed.generations {
        let Some((service, _)) = draft.service(*id) else { continue };
        let Placement::On(route) = &service.placement else { continue };
        let (site, pending) = (route.site, route.pending.get(&routed.proxy).copied());
        if let Some(pending) = pending.filter(|_| route.generation == *generation) {
            confirmed(draft, routed.proxy, *id, site, pending);
        }
    }
}

/// HAProxy's own checks speak where our probes fail on the way.
fn hear_checks(draft: &mut Draft<'_>, seen: &ProxySeen) {
    let mut heard = Vec::new();
    for (server, check) in &seen.checks {
        let Some(health) = draft.health(*server) else { continue };
        let Some(run) = health.run().filter(|run| run.path_only) else { continue };
        // Only a check that surely began after our first failure contradicts it.
        if seen.at - check.age_at_most < run.first {
            continue;
        }
        let path = if draft.state.cut_off { PathView::CutOff } else { PathView::Credible };
        let bar = plain_bar(draft, *server, path);
        let after = if check.layer7_ok {
            health.after_check(
                true,
                seen.at,
                super::super::health::Bar { path: PathView::Contradicted, ..bar },
            )
        } else {
            health.after_check(false, seen.at, bar)
        };
        heard.push((*server, after));
    }
    judge_all(draft, &heard);
}

/// What HAProxy's map says against what is decided.
fn reconcile(draft: &mut Draft<'_>, seen: &ProxySeen, id: ServiceId) {
    let Some((service, policy)) = draft.service(id) else { return };
    let live = seen.routes.get(&id).copied().filter(|site| policy.has_site(*site));
    match &service.placement {
        Placement::Unmanaged { last } => {
            // What HAProxy does now is what clients see: a start changes nothing. Our memory speaks only where HAProxy
            // has no route at all.
            let remembered = last.as_ref().filter(|last| policy.has_site(last.site)).cloned();
            let first = policy.prefer.first().copied();
            match (live, remembered, first) {
                (Some(found), last, _) => take_on(draft, id, found, last),
                (None, Some(last), _) => {
                    draft.route(id, last.site, last.by);
                    draft.tell(Reason::Reasserted { service: id, site: last.site, found: None });
                }
                (None, None, Some(site)) => {
                    draft.route(id, site, None);
                    draft.tell(Reason::Placed { service: id, site });
                }
                (None, None, None) => {}
            }
            draft.settle(id);
            draft.tell_if_stuck(id);
        }
        Placement::On(route) => {
            let pending = route.pending.get(&seen.proxy).copied();
            // A look that began before the decision shows the route from before it.
            if seen.at < route.since {
                return;
            }
            let site = route.site;
            if let Some(pending) = pending.filter(|_| live == Some(site)) {
                confirmed(draft, seen.proxy, id, site, pending);
            } else if live == Some(site) {
                rest_is_over(draft, seen.proxy, id);
            } else {
                match pending {
                    None => set_right(draft, seen, id, site, live),
                    Some(pending)
                        if !pending.late && seen.at.since(pending.runs_from()) >= ROUTE_LAGS_AFTER =>
                    {
                        let pending = Pending { late: true, ..pending };
                        draft.push(Change::Pending { service: id, proxy: seen.proxy, pending });
                        draft.tell(Reason::RouteLags { service: id, site, proxy: seen.proxy });
                    }
                    Some(_) => {}
                }
            }
        }
    }
    compare_serving(draft, seen, id);
}

/// Somebody else has changed the route in HAProxy, or it was lost there: it is set right. When that has happened too often, it is
/// left so, unless nobody is served then.
fn set_right(draft: &mut Draft<'_>, seen: &ProxySeen, id: ServiceId, site: SiteId, found: Option<SiteId>) {
    let (proxy, now) = (seen.proxy, draft.now.boot);
    let Some((service, policy)) = draft.service(id) else { return };
    let known = service.contests.get(&proxy).cloned().unwrap_or_default();
    let serves = |site: SiteId| standing(service, policy, site).serves();
    // Without an entry, the default backend is the preferred site's.
    let shown = found.or(policy.prefer.first().copied());
    let dead_end = serves(site) && !shown.is_some_and(serves);
    if known.rests(now) && !dead_end {
        return;
    }
    // A worker that has just begun has what its file says: nobody is at odds with us.
    let same_worker =
        draft.state.proxies.get(&proxy).is_some_and(|known| known.identity == Some(seen.identity));
    let contest = if dead_end { known.over() } else { known.again(now) };
    if same_worker {
        draft.push(Change::Contested { service: id, proxy, contest: Some(contest.clone()) });
        if contest.rests(now) {
            return draft.tell(Reason::RouteContested { service: id, site, proxy, found, rests: WITHIN });
        }
    }
    draft.push(Change::Pending { service: id, proxy, pending: Pending::since(now) });
    draft.tell(Reason::Reasserted { service: id, site, found });
}

/// A route that was left to somebody else is as decided; when its rest is over, it is kept so again.
fn rest_is_over(draft: &mut Draft<'_>, proxy: ProxyId, id: ServiceId) {
    let Some((service, _)) = draft.service(id) else { return };
    let Some(contest) = service.contests.get(&proxy) else { return };
    if contest.rests_until.is_some() && !contest.rests(draft.now.boot) {
        let contest = Some(contest.over());
        draft.push(Change::Contested { service: id, proxy, contest });
    }
}

/// What HAProxy makes of the servers that are to be out of service, or put back.
fn reconcile_servers(draft: &mut Draft<'_>, seen: &ProxySeen, id: ServiceId) {
    let (Some(shown), Some((service, _))) = (&seen.out, draft.service(id)) else { return };
    // A look that began before the order shows what was before it.
    let out: Vec<(Name, Out)> = service
        .out
        .iter()
        .filter(|(_, out)| seen.at >= out.since)
        .map(|(name, out)| (*name, out.clone()))
        .collect();
    for (name, mut out) in out {
        let server = ServerId { service: id, server: name };
        let (proxy, admin) = (seen.proxy, out.admin);
        let found = shown.get(&server).copied().unwrap_or_default();
        let pending = out.pending.get(&proxy).copied();
        match (agreement(admin, &out.ours, found), pending) {
            (Agreement::InForce, Some(pending)) => {
                let took = draft.now.boot.since(pending.since);
                draft.push(Change::Out { server, out: out.confirmed(proxy) });
                draft.tell(Reason::AdminInForce { server, admin, proxy, took });
            }
            (Agreement::InForce, None) => {}
            // It was put back here: what is shown since then is somebody else's doing.
            (Agreement::Differs | Agreement::Held, None) if admin == Admin::Ready => {}
            (Agreement::Differs | Agreement::Held, None) => {
                out.pending.insert(proxy, Pending::since(draft.now.boot));
                draft.push(Change::Out { server, out: Some(out) });
                draft.tell(Reason::AdminReasserted { server, admin, proxy, found: found.admin() });
            }
            (Agreement::Differs | Agreement::Held, Some(pending)) => {
                if !pending.late && seen.at.since(pending.runs_from()) >= ROUTE_LAGS_AFTER {
                    out.pending.insert(proxy, Pending { late: true, ..pending });
                    draft.push(Change::Out { server, out: Some(out) });
                    draft.tell(Reason::AdminLags { server, admin, proxy });
                }
            }
        }
    }
}

/// The live route becomes ours, unchanged: nothing is told to HAProxy that it does not do already.
fn take_on(draft: &mut Draft<'_>, id: ServiceId, site: SiteId, last: Option<Route>) {
    let Some((service, policy)) = draft.service(id) else { return };
    let generation = service.generation + 1;
    // Other proxies of the service have yet to show that they agree.
    let pending = draft.pending(policy);
    let route = match last.filter(|last| last.site == site) {
        Some(last) => Route { generation, pending, ..last },
        None => {
            let (since, since_wall) = (draft.now.boot, draft.now.wall);
            Route { site, generation, since, since_wall, by: None, pending }
        }
    };
    draft.push(Change::Placed { service: id, placement: Placement::On(route) });
    draft.act(Action::Route { service: id, site, generation });
    draft.tell(Reason::Adopted { service: id, site });
}

/// Which site serves is read from HAProxy's counters, not from its map.
fn compare_serving(draft: &mut Draft<'_>, seen: &ProxySeen, id: ServiceId) {
    let Some(serving) = seen.serving.get(&id).copied() else { return };
    let Some((service, _)) = draft.service(id) else { return };
    let Some(route) = service.placement.route() else { return };
    // Right after a switch the counters still hold requests from before it.
    if seen.at < route.since + Span::seconds(2) {
        return;
    }
    let site = route.site;
    let elsewhere = (serving != site).then_some(serving);
    let proxy = seen.proxy;
    if elsewhere != service.served_from.get(&proxy).copied() {
        draft.push(Change::ServedFrom { service: id, proxy, elsewhere });
        if let Some(serving) = elsewhere {
            draft.tell(Reason::ServedElsewhere { service: id, proxy, site, serving });
        }
    }
}
