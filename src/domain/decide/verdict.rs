//! A new verdict about a server, and what follows from it for its service.

use super::Draft;
use crate::domain::change::Change;
use crate::domain::damping::Damped;
use crate::domain::health::Health;
use crate::domain::id::{Name, ServerId, ServiceId, SiteId};
use crate::domain::reason::Reason;
use crate::domain::time::{Boot, Span};
use crate::domain::witness::Cause;
use std::collections::BTreeMap;

/// Makes `after` the server's health, and sees to what follows from a new verdict.
pub(super) fn judge(draft: &mut Draft<'_>, server: ServerId, after: Health) {
    judge_all(draft, &[(server, after)]);
}

/// The same for all that one event tells of: routes are decided when all of it is known, or traffic might escape to a
/// server that the same event shows dead.
pub(super) fn judge_all(draft: &mut Draft<'_>, found: &[(ServerId, Health)]) {
    let news = learn_all(draft, found);
    follow(draft, &news);
}

/// Makes what was found the servers' health. What follows for their services waits for [`follow`].
pub(super) fn learn_all(draft: &mut Draft<'_>, found: &[(ServerId, Health)]) -> Vec<News> {
    found.iter().filter_map(|(server, after)| learn(draft, *server, *after)).collect()
}

/// Sees to what follows for services, now that all is known.
pub(super) fn follow(draft: &mut Draft<'_>, news: &[News]) {
    for News { server, site, fell } in news {
        if let Some(cause) = fell {
            draft.evacuate_within_pool(*server, *site, *cause);
        }
    }
    // Of a service, whether one of its servers went down, and what its route was before.
    let mut services: BTreeMap<ServiceId, (bool, Option<u64>)> = BTreeMap::new();
    let generation = |draft: &Draft<'_>, id| draft.service(id).map(|(service, _)| service.generation);
    for News { server, fell, .. } in news {
        let before = (false, generation(draft, server.service));
        services.entry(server.service).or_insert(before).0 |= fell.is_some();
    }
    for id in services.keys() {
        draft.settle(*id);
    }
    for (id, (fell, before)) in services {
        if fell && before == generation(draft, id) {
            draft.tell_if_stuck(id);
        }
    }
}

/// What was learnt of a server that may move traffic.
pub(super) struct News {
    server: ServerId,
    site: SiteId,
    /// It went down, for this.
    fell: Option<Cause>,
}

/// Makes `after` the server's health and tells of a new verdict. None if nothing follows for its service.
fn learn(draft: &mut Draft<'_>, server: ServerId, after: Health) -> Option<News> {
    let before = draft.health(server)?;
    let site = draft.server_policy(server)?.site;
    draft.set_health(server, after);
    if let (None, Some(run)) = (before.path_run(), after.path_run()) {
        ask_others(draft, server, run.first);
    }
    let news = News { server, site, fell: None };
    if !before.differs_in_verdict(&after) {
        // A move may have waited for the end of a doubt.
        let doubt_ended = before.run().is_some() && after.run().is_none();
        return doubt_ended.then_some(news);
    }
    match after {
        Health::Up { since, .. } => {
            let (good, after) = match before {
                Health::Down { since: down, good, .. } => (good.saturating_add(1), Some(since.since(down))),
                Health::Unknown { good, .. } => (good.saturating_add(1), None),
                Health::Up { .. } => (1, None),
            };
            draft.tell(Reason::ServerUp { server, site, good, after });
            Some(news)
        }
        Health::Down { since, cause, .. } => {
            let run = before.run();
            let fall = draft.server_policy(server).map_or(1, |server| server.fall);
            let bad = run.map_or(1, |run| run.count.saturating_add(1).min(fall));
            let took = run.map_or(Span::ZERO, |run| since.since(run.first));
            draft.tell(Reason::ServerDown { server, site, cause, bad, took });
            if before.is_up() {
                fell(draft, server, site, since);
            }
            Some(News { fell: Some(cause), ..news })
        }
        Health::Unknown { .. } => Some(news),
    }
}

/// A server that was up went down: done too often, it is not believed so soon when it comes back.
fn fell(draft: &mut Draft<'_>, server: ServerId, site: SiteId, at: Boot) {
    let Some(before) = draft.server(server) else { return };
    let Some((_, policy)) = draft.service(server.service) else { return };
    let flaps = before.flaps.again(at, policy.flapping);
    draft.push(Change::Flaps { server, flaps });
    if let (None, Some(until)) = (before.flaps.until, flaps.until) {
        let left = until.since(draft.now.boot);
        draft.tell(Reason::ServerFlaps { server, site, left });
    }
    // What it answered before it fell says nothing about how it will answer.
    if before.strain != Damped::default() {
        draft.push(Change::Strain { server, strain: Damped::default() });
    }
}

/// A server begins to fail on the way: do we still reach the service's others?
fn ask_others(draft: &mut Draft<'_>, server: ServerId, since: Boot) {
    let Some((service, _)) = draft.service(server.service) else { return };
    let up = service.servers.iter().filter(|(name, other)| **name != server.server && other.health.is_up());
    let others: Vec<Name> = up.map(|(name, _)| *name).collect();
    for other in others {
        draft.ask(ServerId { service: server.service, server: other }, Some(since));
    }
}
