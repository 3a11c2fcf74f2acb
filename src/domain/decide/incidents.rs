//! Incidents: what changed may be wrong now, or right again. [`telling`](super::telling) tells people of it.

use super::Draft;
use super::telling::tell;
use super::troubles::{Is, is, is_gone};
use crate::domain::change::Change;
use crate::domain::delivery::Telling;
use crate::domain::health::Health;
use crate::domain::id::{ServerId, ServiceId, SiteId};
use crate::domain::incident::{Ended, Incident, IncidentId, Trouble};
use crate::domain::policy::{ContainerRef, Role};
use crate::domain::reason::Reason;
use crate::domain::state::Server;
use crate::domain::time::Boot;
use std::collections::BTreeSet;

/// Begins and ends incidents as the decision so far wants it, and tells of those that it touches.
pub(super) fn review(draft: &mut Draft<'_>) {
    if draft.decision.changes.is_empty() {
        return;
    }
    let suspects = suspects(draft);
    let mut touched: BTreeSet<IncidentId> =
        suspects.iter().filter_map(|trouble| look(draft, trouble)).collect();
    touched.extend(dependents(draft, &suspects));
    touched.extend(note(draft));
    tell(draft, touched);
}

/// The small ones that a larger one has just begun, or ceased, to cover: of a whole site, when that died or came back.
fn dependents(draft: &mut Draft<'_>, suspects: &BTreeSet<Trouble>) -> BTreeSet<IncidentId> {
    let mut touched = BTreeSet::new();
    for trouble in suspects {
        let Trouble::SiteDown { site } = trouble else { continue };
        let open = |incident: Option<&Incident>| incident.is_some_and(|incident| incident.ended.is_none());
        let before = draft.state.incident_of(trouble).and_then(|id| draft.state.incidents.get(&id));
        let after = draft.incident_of(trouble).and_then(|id| draft.incident(id));
        if open(before) == open(after) {
            continue;
        }
        let of_site: Vec<ServiceId> = draft
            .state
            .policy
            .services
            .iter()
            .filter(|(_, policy)| policy.has_site(*site))
            .map(|(service, _)| *service)
            .collect();
        for service in of_site {
            for trouble in of_service(draft, service) {
                touched.extend(look(draft, &trouble));
            }
        }
    }
    touched
}

/// The same after new settings: everything may be about something else.
pub(super) fn review_all(draft: &mut Draft<'_>) {
    let mut troubles: BTreeSet<Trouble> =
        draft.state.incidents.values().map(|incident| incident.trouble.clone()).collect();
    for (service, policy) in &draft.state.policy.services {
        troubles.extend(of_service(draft, *service));
        troubles.extend(policy.prefer.iter().map(|site| Trouble::SiteDown { site: *site }));
    }
    let mut touched: BTreeSet<IncidentId> =
        troubles.iter().filter_map(|trouble| look(draft, trouble)).collect();
    touched.extend(note(draft));
    // How they are delivered may have changed, too.
    touched.extend(draft.incident_ids());
    tell(draft, touched);
}

/// Begins an incident about nothing; it ends by itself.
pub(super) fn test(draft: &mut Draft<'_>) {
    let last = draft.incident_of(&Trouble::Test);
    let last = last.and_then(|id| Some((id, draft.incident(id)?.clone())));
    let again = match last {
        // Somebody was mailed its beginning, and has yet to hear of its end: it is the same one again.
        Some((id, last)) if matches!(last.telling, Telling::ByMail { .. }) => {
            Some((id, Incident { opened: draft.now.boot, ..last }))
        }
        Some((id, _)) => {
            draft.set_incident(id, None);
            None
        }
        None => None,
    };
    let id = begin(draft, &Trouble::Test, again);
    look(draft, &Trouble::Test);
    tell(draft, [id].into());
}

/// The incidents whose time has come.
pub(super) fn due(draft: &mut Draft<'_>, ids: &[IncidentId]) {
    let mut touched: BTreeSet<IncidentId> = ids.iter().copied().collect();
    for id in ids {
        let Some(trouble) = draft.incident(*id).map(|incident| incident.trouble.clone()) else { continue };
        look(draft, &trouble);
        // What it covered is told now, if it lasts.
        if let Trouble::ProxyLost { proxy } = trouble {
            let covered: Vec<Trouble> = draft
                .state
                .policy
                .containers_running(proxy)
                .map(|container| Trouble::ContainerDown { container: container.clone() })
                .collect();
            touched.extend(covered.iter().filter_map(|trouble| look(draft, trouble)));
        }
    }
    tell(draft, touched);
}

/// Everything that the changes so far may have made wrong or right.
fn suspects(draft: &Draft<'_>) -> BTreeSet<Trouble> {
    let mut found = BTreeSet::new();
    let mut services = BTreeSet::new();
    let mut containers = BTreeSet::new();
    for change in &draft.decision.changes {
        match change {
            // A count alone makes nothing wrong or right: what is open is looked at all the same, for its time.
            Change::Health { server, health } if is_count(draft, *server, *health) => {
                let all = of_site_of(draft, *server).into_iter().chain(of_service(draft, server.service));
                found.extend(all.filter(|trouble| draft.is_open(trouble)));
                // But where traffic could escape to depends on whether we surely reach it.
                if is_reached_again(draft, *server, *health) {
                    services.extend(draft.group_of(server.service));
                    services.insert(server.service);
                }
            }
            Change::Asked { server, since: None } => {
                services.extend(draft.group_of(server.service));
                services.insert(server.service);
            }
            Change::Health { server, .. } | Change::Maintenance { server, .. } => {
                found.extend(of_site_of(draft, *server));
                // Where the others of its group may go depends on it, too.
                services.extend(draft.group_of(server.service));
                services.insert(server.service);
                let wanted = draft.server_policy(*server);
                let container = wanted.and_then(|wanted| wanted.container.as_ref());
                containers.extend(container.filter(|container| is_gone(draft, container)).cloned());
            }
            Change::Flaps { server, .. } => {
                services.insert(server.service);
            }
            Change::Strain { server, .. } => {
                found.insert(Trouble::ServerDegraded { server: *server });
            }
            Change::FailedBack { service, .. }
            | Change::FailedOver { service, .. }
            | Change::Wake { service, .. } => {
                found.insert(Trouble::FailbackLocked { service: *service });
            }
            Change::Placed { service, .. }
            | Change::Confirmed { service, .. }
            | Change::Pending { service, .. } => {
                // Where traffic goes says whether a site that is down is missed.
                services.extend(matches!(change, Change::Placed { .. }).then_some(*service));
                found.insert(Trouble::FailbackLocked { service: *service });
                let policy = draft.before(*service).into_iter();
                let proxies = policy.flat_map(|(_, policy)| policy.proxies.iter());
                found.extend(proxies.map(|proxy| Trouble::RouteLags { service: *service, proxy: *proxy }));
            }
            Change::Contested { service, proxy, .. } => {
                found.insert(Trouble::RouteContested { service: *service, proxy: *proxy });
            }
            Change::Preference { service, .. } | Change::ServedFrom { service, .. } => {
                services.insert(*service);
            }
            Change::Repair { container, .. } => {
                containers.insert(container.clone());
            }
            // Its network may be lost.
            Change::Container { engine, name, .. } => {
                let container = ContainerRef { engine: *engine, name: name.clone() };
                found.insert(Trouble::ContainerDown { container });
            }
            Change::Proxy { proxy, .. } => {
                found.insert(Trouble::ProxyLost { proxy: *proxy });
                containers.extend(draft.state.policy.containers_running(*proxy).cloned());
            }
            Change::ProxyConfig { proxy, .. } => {
                found.insert(Trouble::ConfigRefused { proxy: *proxy });
            }
            Change::Engine { engine, .. } => {
                found.insert(Trouble::EngineLost { engine: *engine });
            }
            Change::Store(_) => {
                found.insert(Trouble::StoreDegraded);
            }
            Change::Breached { .. } => {
                found.insert(Trouble::InvariantBroken);
            }
            Change::CutOff(_) => {
                found.insert(Trouble::CutOff);
            }
            Change::Untried { .. } => {
                found.insert(Trouble::OwnResources);
            }
            // `review_all` looks at everything.
            Change::Policy(_)
            | Change::Began { .. }
            | Change::Life { .. }
            | Change::Reborn { .. }
            | Change::Asked { since: Some(_), .. }
            | Change::Out { .. }
            | Change::ProxyIdentity { .. }
            | Change::Incident { .. }
            | Change::Peer { .. }
            | Change::MailCounted { .. }
            | Change::Pause { .. }
            | Change::Issued { .. } => {}
        }
    }
    for container in containers {
        if let Some(Role::Proxy(proxy)) = role(draft, &container) {
            found.insert(Trouble::ProxyLost { proxy });
        }
        services.extend(draft.state.servers_in(&container).iter().map(|server| server.service));
        found.insert(Trouble::ContainerDown { container });
    }
    for service in services {
        found.extend(of_service(draft, service));
    }
    found
}

/// What runs in a container that is looked after.
fn role(draft: &Draft<'_>, container: &ContainerRef) -> Option<Role> {
    draft.state.policy.containers.get(container).map(|policy| policy.role)
}

/// Whether `server` is believed to be as it was, and only the evidence against it is counted.
fn is_count(draft: &Draft<'_>, server: ServerId, health: Health) -> bool {
    let before = before(draft, server);
    before.is_some_and(|before| !before.health.differs_in_verdict(&health))
}

/// Whether `server` failed on the way, and no longer does.
fn is_reached_again(draft: &Draft<'_>, server: ServerId, health: Health) -> bool {
    let before = before(draft, server).and_then(|before| before.health.path_run());
    before.is_some() && health.path_run().is_none()
}

fn before<'a>(draft: &Draft<'a>, server: ServerId) -> Option<&'a Server> {
    draft.before(server.service).and_then(|(service, _)| service.servers.get(&server.server))
}

/// What can be wrong with the site of a server.
fn of_site_of(draft: &Draft<'_>, server: ServerId) -> Option<Trouble> {
    draft.server_policy(server).map(|policy| Trouble::SiteDown { site: policy.site })
}

/// What can be wrong with a service and its pools.
fn of_service(draft: &Draft<'_>, service: ServiceId) -> Vec<Trouble> {
    let Some((_, policy)) = draft.before(service) else {
        return vec![Trouble::ServiceDown { service }];
    };
    // A pool of one server is down when that is.
    let several = policy.servers.iter().filter(|(_, server)| policy.servers_at(server.site).nth(1).is_some());
    let servers =
        several.map(|(name, _)| Trouble::ServerDown { server: ServerId { service, server: *name } });
    let pools = policy.prefer.iter().map(|site| Trouble::PoolDown { service, site: *site });
    pools.chain(servers).chain([Trouble::ServiceDown { service }]).collect()
}

/// Opens, ends or leaves the incident of `trouble`; gives it back if it changed.
fn look(draft: &mut Draft<'_>, trouble: &Trouble) -> Option<IncidentId> {
    let known = draft.incident_of(trouble);
    let incident = known.and_then(|id| draft.incident(id).cloned());
    let open = incident.as_ref().is_some_and(|incident| incident.ended.is_none());
    match (is(draft, trouble), open) {
        (Is::Wrong, false) => {
            let id = begin(draft, trouble, known.zip(incident));
            // What lasts for a set time is right from its end on.
            if let (Is::RightFrom(at), Some(begun)) = (is(draft, trouble), draft.incident(id).cloned()) {
                trust(draft, (id, begun), Some(at));
            }
            Some(id)
        }
        (Is::Right, true) => {
            let (id, incident) = known.zip(incident)?;
            let lasted = draft.now.boot.since(incident.opened);
            let trouble = trouble.clone();
            draft.tell(Reason::IncidentEnded { incident: id, trouble, lasted });
            let ended = Some(Ended { at: draft.now.boot, wall: draft.now.wall });
            draft.set_incident(id, Some(Incident { ended, ..incident }));
            Some(id)
        }
        (Is::RightFrom(at), true) => trust(draft, known.zip(incident)?, Some(at)),
        (Is::PartOf(into), true) => merge(draft, known.zip(incident)?, into),
        (Is::Wrong | Is::Open, true) => trust(draft, known.zip(incident)?, None),
        (Is::Right | Is::RightFrom(_), false) => {
            let (id, incident) = known.zip(incident).filter(|(_, incident)| incident.part_of.is_some())?;
            draft.set_incident(id, Some(Incident { part_of: None, ..incident }));
            Some(id)
        }
        (Is::Open | Is::PartOf(_), false) => None,
    }
}

/// Its cause is a larger one, of which people are told. What they have been told of already goes on until it is over:
/// who heard the beginning is owed the end.
fn merge(draft: &mut Draft<'_>, (id, incident): (IncidentId, Incident), into: Trouble) -> Option<IncidentId> {
    let telling = match incident.telling {
        Telling::Pending { .. } => Telling::Over { by_mail: false },
        // An Alertmanager has it, and waits to tell it with others: it is taken back there.
        Telling::Stored { .. } => incident.telling,
        Telling::ByAlertmanager | Telling::ByMail { .. } | Telling::Over { .. } => {
            return trust(draft, (id, incident), None);
        }
    };
    let trouble = incident.trouble.clone();
    draft.tell(Reason::IncidentMerged { incident: id, trouble, into: into.clone() });
    let ended = Some(Ended { at: draft.now.boot, wall: draft.now.wall });
    draft.set_incident(id, Some(Incident { ended, part_of: Some(into), telling, ..incident }));
    Some(id)
}

/// Notes from when on what seems right counts as right; gives the incident back if that is new.
fn trust(
    draft: &mut Draft<'_>,
    (id, incident): (IncidentId, Incident),
    trusted_from: Option<Boot>,
) -> Option<IncidentId> {
    let is_new = incident.trusted_from != trusted_from;
    draft.set_incident(id, Some(Incident { trusted_from, ..incident }));
    is_new.then_some(id)
}

/// It is wrong from now on. One that has ended and of which nobody was told goes on: to and fro is one incident; and so does
/// one that was a part of a larger one, which is over now.
fn begin(draft: &mut Draft<'_>, trouble: &Trouble, last: Option<(IncidentId, Incident)>) -> IncidentId {
    if let Some((id, last)) = last {
        if !matches!(last.telling, Telling::Over { .. }) || last.part_of.is_some() {
            let telling = if last.part_of.is_some() { Telling::default() } else { last.telling.clone() };
            let again = Incident { ended: None, part_of: None, trusted_from: None, telling, ..last };
            draft.set_incident(id, Some(again));
            draft.tell(Reason::IncidentOpened { incident: id, trouble: trouble.clone() });
            return id;
        }
        draft.set_incident(id, None);
    }
    let id = IncidentId(draft.number().0);
    let incident = Incident {
        trouble: trouble.clone(),
        opened: draft.now.boot,
        opened_wall: draft.now.wall,
        ended: None,
        part_of: None,
        trusted_from: None,
        story: Vec::new(),
        telling: Telling::default(),
        wake: None,
    };
    draft.set_incident(id, Some(incident));
    draft.tell(Reason::IncidentOpened { incident: id, trouble: trouble.clone() });
    id
}

/// Adds what was decided to the stories that it belongs to; gives back whose.
fn note(draft: &mut Draft<'_>) -> BTreeSet<IncidentId> {
    let mut notes: Vec<(IncidentId, Reason)> = Vec::new();
    for reason in &draft.decision.reasons {
        for trouble in chapters(draft, reason) {
            if let Some(id) = draft.incident_of(&trouble) {
                notes.push((id, reason.clone()));
            }
        }
    }
    let mut touched = BTreeSet::new();
    for (id, reason) in notes {
        let Some(mut incident) = draft.incident(id).cloned().filter(|incident| incident.ended.is_none())
        else {
            continue;
        };
        incident.note(&reason);
        draft.set_incident(id, Some(incident));
        touched.insert(id);
    }
    touched
}

/// The troubles whose stories a reason belongs to.
fn chapters(draft: &Draft<'_>, reason: &Reason) -> Vec<Trouble> {
    let of_site = |service: ServiceId, site: SiteId| {
        vec![
            Trouble::PoolDown { service, site },
            Trouble::ServiceDown { service },
            Trouble::SiteDown { site },
        ]
    };
    let of_server = |server: ServerId, site: SiteId| {
        let mut all = of_site(server.service, site);
        all.extend([Trouble::ServerDown { server }, Trouble::ServerDegraded { server }]);
        all
    };
    let of_container = |container: &ContainerRef| {
        let mut all = vec![Trouble::ContainerDown { container: container.clone() }];
        if let Some(Role::Proxy(proxy)) = role(draft, container) {
            all.push(Trouble::ProxyLost { proxy });
        }
        for server in draft.state.servers_in(container) {
            if let Some(policy) = draft.server_policy(*server) {
                all.extend(of_site(server.service, policy.site));
            }
        }
        all
    };
    match reason {
        Reason::ServerDown { server, site, .. }
        | Reason::ServerDead { server, site, .. }
        | Reason::ServerFlaps { server, site, .. }
        | Reason::ServerDegraded { server, site, .. } => of_server(*server, *site),
        Reason::Failover { service, .. }
        | Reason::Relief { service, .. }
        | Reason::LeftTakenOut { service, .. }
        | Reason::MovedTogether { service, .. }
        | Reason::MovedToFirst { service, .. }
        | Reason::Failback { service, .. }
        | Reason::Switchover { service, .. }
        | Reason::Stays { service, .. }
        | Reason::ServedElsewhere { service, .. } => {
            let mut all = of_service(draft, *service);
            all.push(Trouble::FailbackLocked { service: *service });
            all
        }
        Reason::InvariantBroken { .. } => vec![Trouble::InvariantBroken],
        Reason::ContainerEnded { container, .. }
        | Reason::Heals { container, .. }
        | Reason::Healed { container, .. }
        | Reason::HealUnknown { container, .. }
        | Reason::ContainerGone { container }
        | Reason::HealWaits { container, .. }
        | Reason::DependencyUnkept { container, .. }
        | Reason::HealLabelUnknown { container, .. }
        | Reason::NetworkLost { container, .. }
        | Reason::GaveUp { container, .. }
        | Reason::HoldLifted { container } => of_container(container),
        Reason::RouteContested { service, proxy, .. } => {
            vec![Trouble::RouteContested { service: *service, proxy: *proxy }]
        }
        Reason::RouteLags { service, proxy, .. } => {
            vec![Trouble::RouteLags { service: *service, proxy: *proxy }]
        }
        Reason::RouteWaits { service, proxy, .. } => {
            let mut all = of_service(draft, *service);
            all.push(Trouble::ProxyLost { proxy: *proxy });
            all
        }
        Reason::ProxyLost { proxy } => vec![Trouble::ProxyLost { proxy: *proxy }],
        Reason::ConfigRefused { proxy, .. }
        | Reason::ConfigUnproven { proxy, .. }
        | Reason::ConfigContested { proxy, .. } => {
            vec![Trouble::ConfigRefused { proxy: *proxy }]
        }
        Reason::EngineLost { engine } => vec![Trouble::EngineLost { engine: *engine }],
        Reason::Store { .. } => vec![Trouble::StoreDegraded],
        Reason::CutOff { .. } => vec![Trouble::CutOff],
        Reason::ServerUp { .. }
        | Reason::ServerIsDown { .. }
        | Reason::ServerLives { .. }
        | Reason::ServerFailing { .. }
        | Reason::PathContradicted { .. }
        | Reason::ServerSteady { .. }
        | Reason::ServerSound { .. }
        | Reason::TakenOut { .. }
        | Reason::PutBack { .. }
        | Reason::MaintenanceHolds { .. }
        | Reason::AdminInForce { .. }
        | Reason::AdminReasserted { .. }
        | Reason::AdminLags { .. }
        | Reason::Reconnected
        | Reason::SiteRemoved { .. }
        | Reason::PreferenceSet { .. }
        | Reason::PreferenceVoid { .. }
        | Reason::PreferenceDropped { .. }
        | Reason::PreferenceExpired { .. }
        | Reason::Paused { .. }
        | Reason::Resumed { .. }
        | Reason::TestOrdered { .. }
        | Reason::PauseHolds { .. }
        | Reason::Adopted { .. }
        | Reason::Placed { .. }
        | Reason::Reasserted { .. }
        | Reason::RouteInForce { .. }
        | Reason::Evacuated { .. }
        | Reason::Serving { .. }
        | Reason::Unserved { .. }
        | Reason::ComesNext { .. }
        | Reason::PreferenceHolds { .. }
        | Reason::Denied { .. }
        | Reason::ProxyFound { .. }
        | Reason::ProxyReplaced { .. }
        | Reason::ProxyForeign { .. }
        | Reason::ConfigInForce { .. }
        | Reason::ConfigHeld { .. }
        | Reason::RollbackOrdered { .. }
        | Reason::RollbackRefused { .. }
        | Reason::ConfigResumed { .. }
        | Reason::EngineFound { .. }
        | Reason::PolicyChanged { .. }
        | Reason::Late { .. }
        | Reason::ProberSilent { .. }
        | Reason::ContainerStands { .. }
        | Reason::IncidentOpened { .. }
        | Reason::IncidentEnded { .. }
        | Reason::IncidentMerged { .. }
        | Reason::ToldByAlertmanager { .. }
        | Reason::TellsByMail { .. }
        | Reason::Mailed { .. }
        | Reason::PeerFound { .. }
        | Reason::PeerLost { .. } => Vec::new(),
    }
}
