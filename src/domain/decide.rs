//! One event in, one decision out.
//!
//! [`decide()`] works on a [`Draft`]: the state as it will be, copied only where the event touches it. Each arm records
//! evidence; [`Draft::settle`] then asks [`plan`](super::failover::plan) where the touched service's traffic belongs, and acts on the answer.

mod commanded;
mod docker;
mod draft;
mod healing;
mod incidents;
mod leaving;
mod moves;
mod probed;
mod proxy;
mod repair;
mod telling;
mod troubles;
mod verdict;
mod waits;

use super::action::{Action, Finished, Outcome, Pace, Target};
use super::change::Change;
use super::command::{Pause, Scope};
use super::delivery::Peer;
use super::event::{ConfigSeen, Event, StoreHealth};
use super::health::Health;
use super::id::{ServerId, ServiceId};
use super::incident::IncidentId;
use super::policy::{ContainerRef, Policy};
use super::reason::Reason;
use super::repair::Input;
use super::state::{Placement, ProxyLink, State};
use super::time::{Now, Span};
use draft::Draft;
use serde::{Deserialize, Serialize};

/// What one event leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// How the state changes.
    pub changes: Vec<Change>,
    /// What the edges do.
    pub actions: Vec<Action>,
    /// What changed, for people.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether nothing follows from the event: it is counted, not journalled.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.actions.is_empty() && self.reasons.is_empty()
    }
}

/// How many services one [`Event::Woke`] settles at most. The loop comes back for the rest at once; what arrives in
/// between is not kept waiting.
const WOKE_BATCH: usize = 64;

/// Decides what follows from `event` at `now`. Changes nothing itself.
pub fn decide(state: &State, event: &Event, now: Now) -> Decision {
    if probed::is_no_news(state, event, now) {
        return Decision::default();
    }
    let mut draft = Draft::new(state, now);
    match event {
        Event::Started => started(&mut draft),
        Event::Probed(probed) => probed::probed(&mut draft, probed),
        Event::Lived(probed) => probed::lived(&mut draft, probed),
        Event::ProberSilent { server, since } => probed::silent(&mut draft, *server, *since),
        Event::Container(event) => docker::announced(&mut draft, event),
        Event::Containers(list) => docker::listed(&mut draft, list),
        Event::EngineLost { engine, last } => docker::lost(&mut draft, *engine, *last),
        Event::Proxy(seen) => proxy::seen(&mut draft, seen),
        Event::ProxyLost { proxy } => proxy::lost(&mut draft, *proxy),
        Event::Configured(configured) => proxy::configured(&mut draft, configured),
        Event::WentBack(seen) => proxy::went_back(&mut draft, seen),
        Event::Routed(routed) => proxy::routed(&mut draft, routed),
        Event::Finished(end) => finished(&mut draft, end),
        Event::Peer(seen) => telling::heard(&mut draft, seen),
        Event::Mailed(mailed) => telling::mailed(&mut draft, mailed),
        Event::Commanded(command) => commanded::commanded(&mut draft, command),
        Event::PolicyChanged(policy) => policy_changed(&mut draft, policy),
        Event::Store(health) => store(&mut draft, *health),
        Event::Breached { breach } => breached(&mut draft, breach),
        Event::Woke => {
            // What is to be restarted is out of service: no traffic comes back to it in the same moment.
            let due: Vec<ContainerRef> = state.due_repairs(now.boot).take(WOKE_BATCH).cloned().collect();
            repair::due(&mut draft, due);
            let due: Vec<ServiceId> = state.due(now.boot).take(WOKE_BATCH).collect();
            due.into_iter().for_each(|service| draft.settle(service));
            let due: Vec<Scope> = state.due_pauses(now.boot).collect();
            for scope in due {
                draft.tell(Reason::Resumed { scope, by: None, because: None });
                repause(&mut draft, scope, None);
            }
            let due: Vec<IncidentId> = state.due_incidents(now.boot).take(WOKE_BATCH).collect();
            incidents::due(&mut draft, &due);
        }
    }
    // New settings are looked at on the state that has them (`policy_changed`).
    if !matches!(event, Event::PolicyChanged(_)) {
        waits::release(&mut draft);
        incidents::review(&mut draft);
    }
    draft.decision
}

/// Nothing that was believed about health survives a start, and no route is ours until HAProxy has shown it to us.
fn started(draft: &mut Draft<'_>) {
    draft.push(Change::Began { at: draft.now.boot });
    draft.push(Change::CutOff(false));
    for (id, service) in &draft.state.services {
        if let Placement::On(route) = &service.placement {
            let placement = Placement::Unmanaged { last: Some(route.clone()) };
            draft.push(Change::Placed { service: *id, placement });
        }
        for name in service.servers.keys() {
            let server = ServerId { service: *id, server: *name };
            draft.set_health(server, Health::default());
            draft.set_life(server, Health::default());
            draft.ask(server, None);
            draft.act(Action::Pace { server, pace: Pace::Fast });
        }
        for proxy in service.served_from.keys() {
            draft.push(Change::ServedFrom { service: *id, proxy: *proxy, elsewhere: None });
        }
        for proxy in service.contests.keys() {
            draft.push(Change::Contested { service: *id, proxy: *proxy, contest: None });
        }
        draft.settle(*id);
    }
    // Before the repairs: what was due is not done before its engine has been heard.
    for engine in draft.state.engines.keys() {
        draft.push(Change::Engine { engine: *engine, found: None });
    }
    for container in draft.state.repairs.keys() {
        repair::hear(draft, container, "", Input::Began);
    }
    for (peer, known) in &draft.state.peers {
        let silences = known.silences.clone();
        draft.push(Change::Peer { peer: *peer, seen: Peer { silences, ..Peer::default() } });
    }
    for proxy in draft.state.proxies.keys() {
        draft.push(Change::Proxy { proxy: *proxy, link: ProxyLink::Unseen });
        draft.push(Change::ProxyConfig { proxy: *proxy, config: ConfigSeen::Untried });
    }
}

fn finished(draft: &mut Draft<'_>, end: &Finished) {
    match &end.of {
        Target::Server(_) if end.outcome == Outcome::Superseded => {}
        Target::Server(server) => {
            draft.tell(Reason::Evacuated { server: *server, failed: end.outcome.failed() });
        }
        Target::Container { container, deed } => {
            repair::finished(draft, container, *deed, end.action, &end.outcome);
        }
    }
}

fn policy_changed(draft: &mut Draft<'_>, policy: &Policy) {
    if *policy == draft.state.policy {
        return;
    }
    let old = &draft.state.policy.services;
    let added = policy.services.keys().filter(|id| !old.contains_key(id)).copied().collect();
    let removed = old.keys().filter(|id| !policy.services.contains_key(id)).copied().collect();
    draft.tell(Reason::PolicyChanged { added, removed });
    for (id, service) in &draft.state.services {
        let wanted = policy.services.get(id);
        if let (Some(wanted), Some(over)) = (wanted, &service.preference)
            && !wanted.has_site(over.site)
        {
            draft.tell(Reason::PreferenceVoid { service: *id, site: over.site });
        }
    }
    draft.push(Change::Policy(Box::new(policy.clone())));
    // Everything may be different now: settle it all on a state that has the new policy.
    let mut next = draft.state.clone();
    next.apply(&draft.decision.changes);
    let mut rest = Draft::new(&next, draft.now);
    for (id, service) in &next.services {
        for (name, server) in &service.servers {
            let id = ServerId { service: *id, server: *name };
            rest.act(Action::Pace { server: id, pace: server.pace() });
        }
        rest.settle(*id);
    }
    waits::reconsider(&mut rest);
    incidents::review_all(&mut rest);
    draft.append(rest);
}

/// Begins or ends a pause, and settles what that changes.
fn repause(draft: &mut Draft<'_>, scope: Scope, pause: Option<Pause>) {
    let changed = draft.pause(scope, pause);
    changed.into_iter().for_each(|service| draft.settle(service));
    waits::resumed(draft, scope);
}

/// A bug that repeats itself with every event must not fill the journal as well: it is counted by the daemon.
fn breached(draft: &mut Draft<'_>, breach: &str) {
    const TOLD_EVERY: Span = Span::seconds(60);
    if draft.state.breached.is_none_or(|last| draft.now.boot.since(last) >= TOLD_EVERY) {
        draft.push(Change::Breached { at: draft.now.boot });
        draft.tell(Reason::InvariantBroken { breach: breach.to_owned() });
    }
}

fn store(draft: &mut Draft<'_>, health: StoreHealth) {
    if health != draft.state.store {
        draft.push(Change::Store(health));
        draft.tell(Reason::Store { durable: health == StoreHealth::Durable });
    }
}

#[cfg(test)]
mod tests;
