//! Traffic leaves what runs and is dead before it is restarted: its requests are answered elsewhere.
//!
//! Its servers count as down from then on, for [`ContainerFault::Dead`], so that routes, evacuation, incidents and words
//! follow as for any other death. What answers and has nobody to take over from it is not restarted.

use super::Draft;
use super::verdict::judge_all;
use crate::domain::action::Deed;
use crate::domain::change::Change;
use crate::domain::failover::{Group, Plan, Why, plan, standing};
use crate::domain::health::{Bar, Health, PathView};
use crate::domain::id::{ProxyId, ServerId, ServiceId};
use crate::domain::maintenance::Admin;
use crate::domain::policy::{ContainerRef, ServicePolicy};
use crate::domain::repair::{HealWait, Phase};
use crate::domain::state::{ProxyLink, Service};
use crate::domain::time::{Boot, Span};
use crate::domain::witness::{Cause, ContainerFault, Evidence};

/// What is about to be restarted has so long to give its requests away: as long as an evacuation takes at most. HAProxy's own
/// check, which it passes, would send it new ones soon after.
const TRAFFIC_LEAVES_WITHIN: Span = Span::seconds(2);

/// An HAProxy that has not taken the route away from it by then is looked at again after this.
const LOOK_SOON: Span = Span::seconds(1);

/// Takes the servers of what is about to be restarted for down, so that none of them gets traffic now. Gives back until when what has
/// some is waited for; none once it has left.
pub(super) fn leave(draft: &mut Draft<'_>, container: &ContainerRef) -> Option<Boot> {
    let now = draft.now.boot;
    let servers = draft.state.servers_in(container);
    let dead = Evidence::Hard(Cause::Container(ContainerFault::Dead));
    let bar = Bar { rise: 1, fall: 1, grace: false, path: PathView::Credible };
    let left: Vec<(ServerId, Health)> = servers
        .iter()
        .filter(|server| is_in_use(draft, **server))
        .filter_map(|server| Some((*server, draft.health(*server)?.after(dead, now, bar))))
        .collect();
    let has_traffic = left.iter().any(|(server, _)| gets_traffic(draft, *server));
    judge_all(draft, &left);
    if has_traffic {
        return Some(now + TRAFFIC_LEAVES_WITHIN);
    }
    let lags = servers.iter().any(|server| is_leaving(draft, *server) && lags(draft, *server));
    lags.then_some(now + LOOK_SOON)
}

/// Whether a server answers its `ready` probe, as far as that is known: one that is out until its restart did.
pub(super) fn answers(draft: &Draft<'_>, id: ServerId) -> bool {
    let in_service = draft.server(id).filter(|server| server.admin == Admin::Ready);
    in_service.is_some_and(|server| server.health.is_up() || is_leaving(draft, id))
}

/// Whether a server is out until its container is restarted, whatever its `ready` probes say. Where the restart has to wait
/// for something else, they count.
pub(super) fn is_leaving(draft: &Draft<'_>, id: ServerId) -> bool {
    let dead = |health| matches!(health, Health::Down { cause: Cause::Container(ContainerFault::Dead), .. });
    if !draft.health(id).is_some_and(dead) {
        return false;
    }
    let container = draft.server_policy(id).and_then(|server| server.container.as_ref());
    let Some(repair) = container.and_then(|container| draft.repair(container)) else { return false };
    match repair.phase {
        Phase::Ailing { .. } => repair.waits == Some(HealWait::TrafficLeaves),
        Phase::Acting { deed: Deed::Restart { .. }, .. } => true,
        Phase::Unseen
        | Phase::Runs { .. }
        | Phase::Judging { .. }
        | Phase::Stopping { .. }
        | Phase::Held { .. }
        | Phase::WithEngine
        | Phase::Docker { .. }
        | Phase::Due { .. }
        | Phase::Acting { deed: Deed::Start, .. }
        | Phase::GivenUp { .. }
        | Phase::Left
        | Phase::Gone => false,
    }
}

/// Whether the service of `server` is served without what runs in `container`: by others where its traffic is, or by a site
/// that traffic may go to.
pub(super) fn is_served_without(draft: &Draft<'_>, container: &ContainerRef, server: ServerId) -> bool {
    let since = draft.now.boot;
    let dead = Health::Down { since, cause: Cause::Container(ContainerFault::Dead), good: 0 };
    let mut members: Vec<(ServiceId, Service, &ServicePolicy)> = Vec::new();
    for id in draft.moving_with(server.service) {
        let Some((service, policy)) = draft.service(id) else { return false };
        let mut service = service.clone();
        for gone in draft.state.servers_in(container).iter().filter(|gone| gone.service == id) {
            service.apply(&Change::Health { server: *gone, health: dead });
        }
        members.push((id, service, policy));
    }
    let Some((_, service, policy)) = members.iter().find(|(id, ..)| *id == server.service) else {
        return false;
    };
    let site = service.placement.site().or(policy.servers.get(&server.server).map(|server| server.site));
    if site.is_some_and(|site| standing(service, policy, site).serves()) {
        return true;
    }
    let others = members.iter().filter(|(id, ..)| *id != server.service);
    let rest = others.map(|(_, service, policy)| (service, *policy)).collect();
    match plan(&Group::of((service, policy), rest), draft.now) {
        Plan::Move { why: Why::AllDown(_) | Why::SiteRemoved, .. } | Plan::Stay(_) => false,
        Plan::Move {
            why: Why::Escape(_) | Why::Return | Why::Relief { .. } | Why::TakenOut | Why::Together,
            ..
        } => true,
    }
}

/// Whether a server would get traffic that went to its site: it is up and in service.
fn is_in_use(draft: &Draft<'_>, id: ServerId) -> bool {
    draft.server(id).is_some_and(|server| server.health.is_up() && server.admin == Admin::Ready)
}

/// Whether the traffic of a server's service goes to its site, as far as that is known.
fn gets_traffic(draft: &Draft<'_>, id: ServerId) -> bool {
    let Some((service, policy)) = draft.service(id.service) else { return false };
    let Some(wanted) = policy.servers.get(&id.server) else { return false };
    service.placement.site().is_none_or(|site| site == wanted.site)
}

/// Whether an HAProxy of ours has not taken the route away from the server yet. One that is lost cannot be waited for, and one
/// that should have taken it long ago is told as an incident of its own.
fn lags(draft: &Draft<'_>, id: ServerId) -> bool {
    let ours = |proxy: &ProxyId| draft.link(*proxy) == Some(&ProxyLink::Ours);
    let site = draft.server_policy(id).map(|server| server.site);
    let route = draft.service(id.service).and_then(|(service, _)| service.placement.route());
    route
        .filter(|route| Some(route.site) != site)
        .is_some_and(|route| route.pending.iter().any(|(proxy, pending)| ours(proxy) && !pending.late))
}
