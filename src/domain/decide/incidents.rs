//! Incidents: what changed may be wrong now, or right again. [`telling`](super::telling) tells people of it.

use super::Draft;
use super::telling::tell;
use crate::domain::change::Change;
use crate::domain::delivery::Telling;
use crate::domain::event::{ConfigSeen, StoreHealth};
use crate::domain::failover::{Standing, standing};
use crate::domain::id::{ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::incident::{Ended, Incident, IncidentId, TEST_LASTS, Trouble};
use crate::domain::policy::ContainerRef;
use crate::domain::reason::Reason;
use crate::domain::repair::Phase;
use crate::domain::state::ProxyLink;
use crate::domain::time::Boot;
use std::collections::{BTreeMap, BTreeSet};

/// Whether something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    /// It is.
    Wrong,
    /// It is not.
    Right,
    /// Nobody knows, or another incident covers it: what is open stays open.
    Open,
    /// It seems right, and is trusted from then on.
    RightFrom(Boot),
}

/// Begins and ends incidents as the decision so far wants it, and tells of those that it touches.
pub(super) fn review(draft: &mut Draft<'_>) {
    if draft.decision.changes.is_empty() {
        return;
    }
    let mut touched = BTreeSet::new();
    for trouble in suspects(draft) {
        touched.extend(look(draft, &trouble));
    }
    touched.extend(note(draft));
    tell(draft, touched);
}

/// The same after new settings: everything may be about something else.
pub(super) fn review_all(draft: &mut Draft<'_>) {
    let mut troubles: BTreeSet<Trouble> =
        draft.state.incidents.values().map(|incident| incident.trouble.clone()).collect();
    for service in draft.state.policy.services.keys() {
        troubles.extend(of_service(draft, *service));
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
    if let Some(last) = draft.incident_of(&Trouble::Test) {
        draft.set_incident(last, None);
    }
    let id = begin(draft, &Trouble::Test, None);
    look(draft, &Trouble::Test);
    tell(draft, [id].into());
}

/// The incidents whose time has come.
pub(super) fn due(draft: &mut Draft<'_>, ids: &[IncidentId]) {
    for id in ids {
        if let Some(incident) = draft.incident(*id).cloned() {
            look(draft, &incident.trouble);
        }
    }
    tell(draft, ids.iter().copied().collect());
}

/// Everything that the changes so far may have made wrong or right.
fn suspects(draft: &Draft<'_>) -> BTreeSet<Trouble> {
    let mut found = BTreeSet::new();
    let mut services = BTreeSet::new();
    let mut containers = BTreeSet::new();
    for change in &draft.decision.changes {
        match change {
            Change::Health { server, .. } | Change::Maintenance { server, .. } => {
                services.insert(server.service);
            }
            Change::Placed { service, .. }
            | Change::Confirmed { service, .. }
            | Change::Pending { service, .. } => {
                let policy = draft.state.policy.services.get(service);
                let proxies = policy.into_iter().flat_map(|policy| policy.proxies.iter());
                found.extend(proxies.map(|proxy| Trouble::RouteLags { service: *service, proxy: *proxy }));
            }
            Change::Repair { container, .. } => {
                containers.insert(container.clone());
            }
            Change::Proxy { proxy, .. } => {
                found.insert(Trouble::ProxyLost { proxy: *proxy });
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
            Change::CutOff(_) => {
                found.insert(Trouble::CutOff);
            }
            // `review_all` looks at everything.
            Change::Policy(_)
            | Change::Began { .. }
            | Change::Life { .. }
            | Change::Flaps { .. }
            | Change::Strain { .. }
            | Change::Asked { .. }
            | Change::FailedOver { .. }
            | Change::FailedBack { .. }
            | Change::Preference { .. }
            | Change::Wake { .. }
            | Change::ServedFrom { .. }
            | Change::ProxyIdentity { .. }
            | Change::Container { .. }
            | Change::Incident { .. }
            | Change::Peer { .. }
            | Change::MailCounted { .. }
            | Change::Pause { .. }
            | Change::Issued { .. } => {}
        }
    }
    for container in containers {
        services.extend(draft.state.servers_in(&container).iter().map(|server| server.service));
        found.insert(Trouble::ContainerDown { container });
    }
    for service in services {
        found.extend(of_service(draft, service));
    }
    found
}

/// What can be wrong with a service and its pools.
fn of_service(draft: &Draft<'_>, service: ServiceId) -> Vec<Trouble> {
    let policy = draft.state.policy.services.get(&service);
    let sites = policy.into_iter().flat_map(|policy| policy.prefer.iter());
    let mut all: Vec<Trouble> = sites.map(|site| Trouble::PoolDown { service, site: *site }).collect();
    all.push(Trouble::ServiceDown { service });
    all
}

/// Opens, ends or leaves the incident of `trouble`; gives it back if it changed.
fn look(draft: &mut Draft<'_>, trouble: &Trouble) -> Option<IncidentId> {
    let known = draft.incident_of(trouble);
    let incident = known.and_then(|id| draft.incident(id).cloned());
    let open = incident.as_ref().is_some_and(|incident| incident.ended.is_none());
    match (is(draft, trouble), open) {
        (Is::Wrong, false) => Some(begin(draft, trouble, known.zip(incident))),
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
        (Is::Wrong | Is::Open, true) => trust(draft, known.zip(incident)?, None),
        (Is::Right | Is::Open | Is::RightFrom(_), false) => None,
    }
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

/// It is wrong from now on. One that has ended and of which nobody was told goes on: to and fro is one incident.
fn begin(draft: &mut Draft<'_>, trouble: &Trouble, last: Option<(IncidentId, Incident)>) -> IncidentId {
    if let Some((id, last)) = last {
        if !matches!(last.telling, Telling::Over { .. }) {
            draft.set_incident(id, Some(Incident { ended: None, trusted_from: None, ..last }));
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
        vec![Trouble::PoolDown { service, site }, Trouble::ServiceDown { service }]
    };
    let of_container = |container: &ContainerRef| {
        let mut all = vec![Trouble::ContainerDown { container: container.clone() }];
        for server in draft.state.servers_in(container) {
            if let Some(policy) = draft.state.policy.server(*server) {
                all.extend(of_site(server.service, policy.site));
            }
        }
        all
    };
    match reason {
        Reason::ServerDown { server, site, .. }
        | Reason::ServerDead { server, site, .. }
        | Reason::ServerFlaps { server, site, .. }
        | Reason::ServerDegraded { server, site, .. } => of_site(server.service, *site),
        Reason::Failover { service, .. }
        | Reason::Relief { service, .. }
        | Reason::LeftTakenOut { service, .. }
        | Reason::MovedTogether { service, .. }
        | Reason::MovedToFirst { service, .. }
        | Reason::Failback { service, .. }
        | Reason::Switchover { service, .. }
        | Reason::Stays { service, .. }
        | Reason::ServedElsewhere { service, .. } => of_service(draft, *service),
        Reason::ContainerEnded { container, .. }
        | Reason::Heals { container, .. }
        | Reason::Healed { container, .. }
        | Reason::HealWaits { container, .. }
        | Reason::GaveUp { container, .. }
        | Reason::HoldLifted { container } => of_container(container),
        Reason::RouteLags { service, proxy, .. } => {
            vec![Trouble::RouteLags { service: *service, proxy: *proxy }]
        }
        Reason::ProxyLost { proxy } => vec![Trouble::ProxyLost { proxy: *proxy }],
        Reason::ConfigRefused { proxy, .. } | Reason::ConfigUnproven { proxy, .. } => {
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
        | Reason::PreferenceHolds { .. }
        | Reason::Denied { .. }
        | Reason::ProxyFound { .. }
        | Reason::ProxyReplaced { .. }
        | Reason::ProxyForeign { .. }
        | Reason::ConfigInForce { .. }
        | Reason::EngineFound { .. }
        | Reason::PolicyChanged { .. }
        | Reason::Late { .. }
        | Reason::ProberSilent { .. }
        | Reason::ContainerStands { .. }
        | Reason::IncidentOpened { .. }
        | Reason::IncidentEnded { .. }
        | Reason::ToldByAlertmanager { .. }
        | Reason::TellsByMail { .. }
        | Reason::Mailed { .. }
        | Reason::PeerFound { .. }
        | Reason::PeerLost { .. } => Vec::new(),
    }
}

/// Whether `trouble` is so, as far as the decision so far tells.
fn is(draft: &Draft<'_>, trouble: &Trouble) -> Is {
    match trouble {
        Trouble::ServiceDown { service } => service_is(draft, *service),
        Trouble::PoolDown { service, site } => pool_is(draft, *service, *site),
        Trouble::ContainerDown { container } => container_is(draft, container),
        Trouble::ProxyLost { proxy } => match draft.link(*proxy) {
            None => Is::Right,
            Some(ProxyLink::Lost { .. }) if container_of_is_down(draft, *proxy) => Is::Open,
            Some(ProxyLink::Lost { .. }) => Is::Wrong,
            Some(ProxyLink::Ours | ProxyLink::Foreign { .. }) => Is::Right,
            Some(ProxyLink::Unseen) => Is::Open,
        },
        Trouble::RouteLags { service, proxy } => {
            let route = draft.service(*service).and_then(|(service, _)| service.placement.route().cloned());
            let late = route.is_some_and(|route| route.late().any(|late| late == *proxy));
            if late { Is::Wrong } else { Is::Right }
        }
        Trouble::ConfigRefused { proxy } => match draft.config(*proxy) {
            None | Some(ConfigSeen::InForce { .. }) => Is::Right,
            Some(ConfigSeen::Refused { .. } | ConfigSeen::Unproven { .. }) => Is::Wrong,
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

fn standings(draft: &Draft<'_>, id: ServiceId) -> Option<BTreeMap<SiteId, Standing>> {
    let (service, policy) = draft.service(id)?;
    Some(policy.prefer.iter().map(|site| (*site, standing(service, policy, *site))).collect())
}

fn service_is(draft: &Draft<'_>, service: ServiceId) -> Is {
    let Some(sites) = standings(draft, service) else { return Is::Right };
    if sites.values().all(|site| matches!(site, Standing::Down { .. } | Standing::Out)) {
        Is::Wrong
    } else if sites.values().any(|site| site.serves()) {
        Is::Right
    } else {
        Is::Open
    }
}

fn pool_is(draft: &Draft<'_>, service: ServiceId, site: SiteId) -> Is {
    let Some(sites) = standings(draft, service) else { return Is::Right };
    match sites.get(&site) {
        // What a person took out is missing because they want it so.
        None | Some(Standing::Out) => Is::Right,
        Some(Standing::Unproven) => Is::Open,
        Some(Standing::Healthy { .. } | Standing::Thin { .. }) => match shaky_until(draft, service, site) {
            Some(at) if at > draft.now.boot => Is::RightFrom(at),
            Some(_) | None => Is::Right,
        },
        // With every site down it is one incident: the service's.
        Some(Standing::Down { .. }) if service_is(draft, service) == Is::Wrong => Is::Open,
        Some(Standing::Down { .. }) => Is::Wrong,
    }
}

/// Until when a container of the pool has to run before it is trusted again.
fn shaky_until(draft: &Draft<'_>, service: ServiceId, site: SiteId) -> Option<Boot> {
    let (_, policy) = draft.service(service)?;
    let of_pool = policy.servers.values().filter(|server| server.site == site);
    let containers = of_pool.filter_map(|server| server.container.as_ref());
    containers.filter_map(|container| draft.repair(container)?.shaky_until(&draft.state.policy.heal)).max()
}

fn container_is(draft: &Draft<'_>, container: &ContainerRef) -> Is {
    let Some(repair) = draft.repair(container) else { return Is::Right };
    let down = match repair.phase {
        Phase::GivenUp { .. } | Phase::Left => true,
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
        | Phase::Acting { .. }
        | Phase::Gone => false,
    };
    // The pool's incident, or the service's, tells of it.
    let covered = |server: &ServerId| {
        let site = draft.state.policy.server(*server).map(|server| server.site);
        site.is_some_and(|site| {
            let pool = Trouble::PoolDown { service: server.service, site };
            let service = Trouble::ServiceDown { service: server.service };
            is(draft, &pool) == Is::Wrong || is(draft, &service) == Is::Wrong
        })
    };
    if down && !draft.state.servers_in(container).iter().any(covered) { Is::Wrong } else { Is::Open }
}

/// Whether the incident of the HAProxy's own container is open: that one tells.
fn container_of_is_down(draft: &Draft<'_>, proxy: ProxyId) -> bool {
    let role = crate::domain::policy::Role::Proxy(proxy);
    let mut own = draft.state.policy.containers.iter().filter(|(_, policy)| policy.role == role);
    own.any(|(container, _)| container_is(draft, container) == Is::Wrong)
}
