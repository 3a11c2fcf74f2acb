//! Incidents: what changed may be wrong now, or right again; and whether it is time to tell people.

use super::Draft;
use crate::domain::action::Action;
use crate::domain::change::Change;
use crate::domain::delivery::{
    self, DIGEST_FROM, MAILS_MAX, MAILS_WINDOW, Mail, MailId, MailKind, Peer, PeerLink, Plan,
    RESOLVED_SENT_FOR, TRIES, Telling, Told, WhyDirect,
};
use crate::domain::event::{ConfigSeen, MailEnd, Mailed, PeerResult, PeerSeen, StoreHealth};
use crate::domain::failover::{Standing, standing};
use crate::domain::id::{PeerId, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::incident::{Ended, Incident, IncidentId, Trouble};
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

/// The incidents whose time has come.
pub(super) fn due(draft: &mut Draft<'_>, ids: &[IncidentId]) {
    for id in ids {
        if let Some(incident) = draft.incident(*id).cloned() {
            look(draft, &incident.trouble);
        }
    }
    tell(draft, ids.iter().copied().collect());
}

/// One round with an Alertmanager.
pub(super) fn heard(draft: &mut Draft<'_>, seen: &PeerSeen) {
    let Some(before) = draft.peer(seen.peer).cloned() else { return };
    let now = draft.now.boot;
    let mut touched = BTreeSet::new();
    match &seen.result {
        PeerResult::Answered(words) => {
            set_peer(draft, seen.peer, &before, Peer { link: PeerLink::Up, failures: Vec::new() });
            for (id, word) in words {
                let Some(incident) = draft.incident(*id) else { continue };
                let telling = delivery::after_word(incident, seen.peer, word, now);
                set_telling(draft, *id, telling);
                touched.insert(*id);
            }
        }
        PeerResult::Failed(words) => {
            let since = if let PeerLink::Down { since, .. } = before.link { since } else { now };
            let mut failures = before.failures.clone();
            if failures.len() >= TRIES {
                failures.remove(0);
            }
            failures.push(now);
            let link = PeerLink::Down { since, why: words.clone() };
            set_peer(draft, seen.peer, &before, Peer { link, failures });
            for id in draft.incident_ids() {
                let Some(incident) = draft.incident(id) else { continue };
                let telling = delivery::after_failure(incident, seen.peer);
                set_telling(draft, id, telling);
                touched.insert(id);
            }
        }
    }
    tell(draft, touched);
}

/// What became of a mail.
pub(super) fn mailed(draft: &mut Draft<'_>, mailed: &Mailed) {
    draft.tell(Reason::Mailed { mail: mailed.mail, end: mailed.end.clone() });
    match mailed.end {
        MailEnd::Accepted { .. } | MailEnd::Deferred { .. } => return,
        // Not for everybody, or for nobody. It is Alertmanager's from now on, without the label that keeps it from being
        // mailed there: told twice is better than not at all.
        MailEnd::Dead { .. } => {}
        // Nobody got a mail, so nobody is owed one about the end: Alertmanager tells both.
        MailEnd::NotNeeded => {}
    }
    let ours = Telling::ByMail { mail: mailed.mail };
    for id in draft.incident_ids() {
        if draft.incident(id).is_some_and(|incident| incident.telling == ours) {
            set_telling(draft, id, Telling::ByAlertmanager);
        }
    }
}

fn set_peer(draft: &mut Draft<'_>, id: PeerId, before: &Peer, after: Peer) {
    match (&before.link, &after.link) {
        (PeerLink::Unseen | PeerLink::Down { .. }, PeerLink::Up) => {
            draft.tell(Reason::PeerFound { peer: id })
        }
        (PeerLink::Unseen | PeerLink::Up, PeerLink::Down { why, .. }) => {
            draft.tell(Reason::PeerLost { peer: id, words: why.clone() });
        }
        (PeerLink::Up, PeerLink::Up)
        | (PeerLink::Down { .. }, PeerLink::Down { .. })
        | (_, PeerLink::Unseen) => {}
    }
    if *before != after {
        draft.push(Change::Peer { peer: id, seen: after });
    }
}

fn set_telling(draft: &mut Draft<'_>, id: IncidentId, telling: Telling) {
    if let Some(incident) = draft.incident(id).cloned()
        && incident.telling != telling
    {
        draft.set_incident(id, Some(Incident { telling, ..incident }));
    }
}

/// Everything that the changes so far may have made wrong or right.
fn suspects(draft: &Draft<'_>) -> BTreeSet<Trouble> {
    let mut found = BTreeSet::new();
    let mut services = BTreeSet::new();
    let mut containers = BTreeSet::new();
    for change in &draft.decision.changes {
        match change {
            Change::Health { server, .. } => {
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
        (Is::RightFrom(at), true) => {
            let (id, incident) = known.zip(incident)?;
            // The next deadline of its telling may be sooner; it is looked at again then as well.
            let wake = Some(incident.wake.map_or(at, |wake| wake.min(at)));
            draft.set_incident(id, Some(Incident { wake, ..incident }));
            Some(id)
        }
        (Is::Wrong | Is::Open, true) | (Is::Right | Is::Open | Is::RightFrom(_), false) => None,
    }
}

/// It is wrong from now on. One that has ended and of which nobody was told goes on: to and fro is one incident.
fn begin(draft: &mut Draft<'_>, trouble: &Trouble, last: Option<(IncidentId, Incident)>) -> IncidentId {
    if let Some((id, last)) = last {
        if last.telling != Telling::Over {
            draft.set_incident(id, Some(Incident { ended: None, ..last }));
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
        Reason::ServerDown { server, site, .. } | Reason::ServerDead { server, site, .. } => {
            of_site(server.service, *site)
        }
        Reason::Failover { service, .. }
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
        | Reason::Reconnected
        | Reason::SiteRemoved { .. }
        | Reason::PreferenceSet { .. }
        | Reason::PreferenceVoid { .. }
        | Reason::PreferenceDropped { .. }
        | Reason::PreferenceExpired { .. }
        | Reason::Paused { .. }
        | Reason::Resumed { .. }
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
    }
}

fn standings(draft: &Draft<'_>, id: ServiceId) -> Option<BTreeMap<SiteId, Standing>> {
    let (service, policy) = draft.service(id)?;
    Some(policy.prefer.iter().map(|site| (*site, standing(service, policy, *site))).collect())
}

fn service_is(draft: &Draft<'_>, service: ServiceId) -> Is {
    let Some(sites) = standings(draft, service) else { return Is::Right };
    if sites.values().all(|site| matches!(site, Standing::Down { .. })) {
        Is::Wrong
    } else if sites.values().any(|site| matches!(site, Standing::Healthy { .. })) {
        Is::Right
    } else {
        Is::Open
    }
}

fn pool_is(draft: &Draft<'_>, service: ServiceId, site: SiteId) -> Is {
    let Some(sites) = standings(draft, service) else { return Is::Right };
    match sites.get(&site) {
        None => Is::Right,
        Some(Standing::Unproven) => Is::Open,
        Some(Standing::Healthy { .. }) => match shaky_until(draft, service, site) {
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

/// Tells of `ids` what is due, and notes when something will be.
fn tell(draft: &mut Draft<'_>, ids: BTreeSet<IncidentId>) {
    let mut mails: Vec<(IncidentId, MailKind, WhyDirect)> = Vec::new();
    for id in ids {
        let Some(incident) = draft.incident(id).cloned() else { continue };
        let plan = delivery::plan(&incident, &draft.state.policy.alerts, draft.peers(), draft.now.boot);
        match plan {
            Plan::Rest => rest(draft, id, incident, None),
            Plan::Wait(at) => rest(draft, id, incident, Some(at)),
            Plan::Told => {
                let trouble = incident.trouble.clone();
                draft.tell(Reason::ToldByAlertmanager { incident: id, trouble });
                rest(draft, id, Incident { telling: Telling::ByAlertmanager, ..incident }, None);
            }
            Plan::Over => rest(draft, id, Incident { telling: Telling::Over, ..incident }, None),
            Plan::Mail(kind, why) => mails.push((id, kind, why)),
        }
    }
    mail(draft, mails);
}

/// Nothing is to be told now; at `wake` something may be. What is over and no longer sent to anybody is forgotten.
fn rest(draft: &mut Draft<'_>, id: IncidentId, incident: Incident, wake: Option<Boot>) {
    let now = draft.now.boot;
    let forgotten = incident.ended.map(|ended| ended.at + RESOLVED_SENT_FOR);
    if incident.telling == Telling::Over && forgotten.is_some_and(|at| at <= now) {
        return draft.set_incident(id, None);
    }
    // A deadline that the incident itself has set and that has not come stays.
    let own = match is(draft, &incident.trouble) {
        Is::RightFrom(at) if incident.ended.is_none() => Some(at),
        Is::RightFrom(_) | Is::Wrong | Is::Right | Is::Open => None,
    };
    let sending = forgotten.filter(|at| *at > now);
    let wake = [wake, own, sending].into_iter().flatten().min();
    draft.set_incident(id, Some(Incident { wake, ..incident }));
}

/// Sends what is due to be mailed: one by one, or as a digest when it is much, or when too many mails went out lately.
fn mail(draft: &mut Draft<'_>, due: Vec<(IncidentId, MailKind, WhyDirect)>) {
    let now = draft.now.boot;
    let recent: Vec<Boot> = draft.mails().into_iter().filter(|at| *at + MAILS_WINDOW > now).collect();
    if recent.len() >= MAILS_MAX
        && let Some(oldest) = recent.first()
    {
        for (id, ..) in due {
            if let Some(incident) = draft.incident(id).cloned() {
                rest(draft, id, incident, Some(*oldest + MAILS_WINDOW));
            }
        }
        return;
    }
    for kind in [MailKind::Firing, MailKind::Resolved] {
        let of_kind: Vec<_> = due.iter().filter(|(_, other, _)| *other == kind).collect();
        let room = MAILS_MAX - recent.len().min(MAILS_MAX - 1);
        let batch = if of_kind.len() >= DIGEST_FROM || of_kind.len() > room { of_kind.len() } else { 1 };
        for together in of_kind.chunks(batch.max(1)) {
            let why = together.first().map(|(_, _, why)| why.clone());
            let ids: Vec<IncidentId> = together.iter().map(|(id, ..)| *id).collect();
            if let Some(why) = why {
                send(draft, &ids, kind, why);
            }
        }
    }
}

/// Decides one mail about `ids`.
fn send(draft: &mut Draft<'_>, ids: &[IncidentId], kind: MailKind, why: WhyDirect) {
    let id = MailId(draft.number().0);
    let mut incidents = Vec::new();
    for incident_id in ids {
        let Some(incident) = draft.incident(*incident_id).cloned() else { continue };
        incidents.push(Told {
            incident: *incident_id,
            trouble: incident.trouble.clone(),
            opened: incident.opened_wall,
            ended: incident.ended.map(|ended| ended.wall),
            story: incident.story.clone(),
        });
        let telling = match kind {
            MailKind::Firing => Telling::ByMail { mail: id },
            MailKind::Resolved | MailKind::Test => Telling::Over,
        };
        rest(draft, *incident_id, Incident { telling, ..incident }, None);
    }
    let count = u16::try_from(incidents.len()).unwrap_or(u16::MAX);
    draft.push(Change::MailCounted { at: draft.now.boot });
    draft.tell(Reason::TellsByMail { mail: id, kind, incidents: count, why: why.clone() });
    draft.act(Action::Mail(Box::new(Mail { id, kind, why, at: draft.now.wall, incidents })));
}
