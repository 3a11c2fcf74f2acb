//! What comes of what the replay decides: assumed, as in the rehearsal of an order. And what of the journal is left out,
//! because it came of what the replay did not decide.
//!
//! - Routes are taken at once by every HAProxy that answers; requests are freed; mails arrive; an Alertmanager that answers has
//!   what it is told.
//! - A start or restart that the journal has, too, ends as it did there. Any other one works, [`HEAL_TAKES`] later: the
//!   container runs, and its servers answer.
//! - A container that the journal has started and the replay has not stays as it was: what is heard of it and of its
//!   servers from then on is left out, until both are alike again.

use crate::domain::action::{Deed, Finished, Heal, Outcome, Target};
use crate::domain::delivery::{PeerLink, Telling, Word};
use crate::domain::event::{
    ContainerEvent, ContainerList, ContainerSign, ContainerStatus, Event, PeerResult, PeerSeen, ProxySeen,
};
use crate::domain::incident::{Incident, Trouble};
use crate::domain::maintenance::{Admin, AdminSeen};
use crate::domain::policy::ContainerRef;
use crate::domain::repair::Phase;
use crate::domain::state::Placement;
use crate::domain::{ActionId, Boot, Now, ServerId, SiteId, Span, State};
use std::collections::BTreeMap;

/// How long a start takes that nobody has tried: what most containers take.
pub(super) const HEAL_TAKES: Span = Span::seconds(1);

/// What Docker announces of a container so soon after our action on it ended came of that action.
const ECHO: Span = Span::seconds(2);

/// How a container of the replay differs from the journal's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Apart {
    /// Started there, not here.
    Behind,
    /// Started here, not there.
    Ahead,
}

/// The containers, in both worlds.
#[derive(Debug, Default)]
pub(super) struct Containers {
    apart: BTreeMap<ContainerRef, Apart>,
    /// Our actions that both have: they end as in the journal.
    shared: BTreeMap<ContainerRef, ActionId>,
    /// Until when what is announced of a container came of the journal's action.
    echo: BTreeMap<ContainerRef, Boot>,
    /// Assumed ends of the replay's own actions.
    due: BTreeMap<(Boot, u64), Heal>,
    count: u64,
}

/// What the journal's action on a container is, if one is under way.
fn acting(state: &State, container: &ContainerRef) -> Option<(ActionId, Deed)> {
    match state.repairs.get(container)?.phase {
        Phase::Acting { action, deed, .. } => Some((action, deed)),
        Phase::Unseen
        | Phase::Runs { .. }
        | Phase::Ailing { .. }
        | Phase::Judging { .. }
        | Phase::Stopping { .. }
        | Phase::Held { .. }
        | Phase::WithEngine
        | Phase::Docker { .. }
        | Phase::Due { .. }
        | Phase::GivenUp { .. }
        | Phase::Left
        | Phase::Gone => None,
    }
}

fn alike(one: Deed, other: Deed) -> bool {
    std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

fn runs(state: &State, container: &ContainerRef) -> bool {
    let seen = state.engines.get(&container.engine).and_then(|engine| engine.containers.get(&container.name));
    seen.is_some_and(|seen| seen.status == ContainerStatus::Running)
}

impl Containers {
    /// How a server's container differs, if it does.
    pub(super) fn of_server(&self, would: &State, server: ServerId) -> Option<Apart> {
        let container = would.policy.server(server)?.container.as_ref()?;
        self.apart.get(container).copied()
    }

    /// The replay acts on a container. If the journal does, too, it ends as there.
    pub(super) fn acts(&mut self, was: &State, heal: &Heal, now: Boot) {
        match acting(was, &heal.container) {
            Some((_, deed)) if alike(deed, heal.deed) && !self.apart.contains_key(&heal.container) => {
                self.shared.insert(heal.container.clone(), heal.id);
            }
            Some(_) | None => {
                self.count += 1;
                self.due.insert((now + HEAL_TAKES, self.count), heal.clone());
            }
        }
    }

    /// The journal acts on a container: the replay does, or does not.
    pub(super) fn acted(&mut self, would: &State, heal: &Heal) {
        self.echo.insert(heal.container.clone(), Boot(i64::MAX));
        match acting(would, &heal.container) {
            Some((action, deed)) if alike(deed, heal.deed) => {
                self.due.retain(|_, other| other.id != action);
                self.shared.insert(heal.container.clone(), action);
            }
            Some(_) | None => {
                self.apart.insert(heal.container.clone(), Apart::Behind);
            }
        }
    }

    /// When the next assumed end comes.
    pub(super) fn next(&self) -> Option<Boot> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next assumed end: the container runs. What is heard of it then, in order.
    pub(super) fn pop(&mut self, was: &State, would: &State, now: Now) -> Option<(ContainerRef, Vec<Event>)> {
        let (_, heal) = self.due.pop_first()?;
        let container = heal.container.clone();
        match self.apart.get(&container) {
            Some(Apart::Behind) => {
                self.apart.remove(&container);
            }
            Some(Apart::Ahead) | None => {
                self.apart.insert(container.clone(), Apart::Ahead);
            }
        }
        self.meet(was);
        let sign = |sign| {
            Event::Container(ContainerEvent {
                engine: container.engine,
                name: container.name.clone(),
                id: heal.container_id.clone(),
                at: now.boot,
                nanoseconds: now.wall.0.saturating_mul(1_000_000),
                sign,
            })
        };
        let mut events = Vec::new();
        if matches!(heal.deed, Deed::Restart { .. }) && runs(would, &container) {
            events.push(sign(ContainerSign::Died { exit: Some(143) }));
        }
        events.push(sign(ContainerSign::Started));
        let of = Target::Container { container: container.clone(), deed: heal.deed };
        events.push(Event::Finished(Finished { action: heal.id, of, outcome: Outcome::Done }));
        Some((container, events))
    }

    /// Where the journal's container runs and its servers are up, a replay that was ahead is so no longer.
    pub(super) fn meet(&mut self, was: &State) {
        self.apart.retain(|container, apart| {
            let up = |id: &ServerId| was.server(*id).is_some_and(|server| server.health.is_up());
            *apart == Apart::Behind || !(runs(was, container) && was.servers_in(container).iter().all(up))
        });
    }

    /// A new process begins: what was under way is heard of no more.
    pub(super) fn restarted(&mut self) {
        self.shared.clear();
        self.echo.clear();
        self.due.clear();
    }

    /// Whether anything is apart.
    pub(super) fn are_apart(&self) -> bool {
        !self.apart.is_empty()
    }

    /// The end of the journal's action, if it is the replay's, too.
    pub(super) fn finished(&mut self, end: &Finished, now: Boot) -> Option<Event> {
        let Target::Container { container, deed } = &end.of else { return None };
        self.echo.insert(container.clone(), now + ECHO);
        if end.outcome != Outcome::Done && self.apart.get(container) == Some(&Apart::Behind) {
            // It came to nothing there.
            self.apart.remove(container);
        }
        let action = self.shared.remove(container)?;
        let of = Target::Container { container: container.clone(), deed: *deed };
        Some(Event::Finished(Finished { action, of, outcome: end.outcome.clone() }))
    }

    /// What Docker announced, if it happens in the replay, too.
    pub(super) fn announced(&mut self, event: &ContainerEvent, now: Boot) -> Option<Event> {
        let container = ContainerRef { engine: event.engine, name: event.name.clone() };
        let is_echo = self.echo.get(&container).is_some_and(|until| now <= *until);
        let ends = matches!(event.sign, ContainerSign::Died { .. } | ContainerSign::Destroyed);
        match self.apart.get(&container) {
            None => {}
            Some(Apart::Behind) if is_echo => return None,
            // It ended there: now neither runs.
            Some(Apart::Behind) if ends => {
                self.apart.remove(&container);
                if event.sign != ContainerSign::Destroyed {
                    return None;
                }
            }
            Some(Apart::Behind) => return None,
            // Started there: now both run.
            Some(Apart::Ahead) if event.sign == ContainerSign::Started => {
                self.apart.remove(&container);
                return None;
            }
            Some(Apart::Ahead) => return None,
        }
        Some(Event::Container(event.clone()))
    }

    /// A list as it would be: what is apart shows as the replay knows it.
    pub(super) fn listed(&self, would: &State, list: &ContainerList) -> Event {
        let mut list = list.clone();
        for container in self.apart.keys().filter(|container| container.engine == list.engine) {
            let known =
                would.engines.get(&list.engine).and_then(|known| known.containers.get(&container.name));
            match known {
                Some(known) => list.containers.insert(container.name.clone(), known.clone()),
                None => list.containers.remove(&container.name),
            };
            list.past.events.retain(|event| event.name != container.name);
        }
        Event::Containers(list)
    }
}

/// A look at an HAProxy as it would be: where the journal's HAProxy was as decided there, the replay's is as decided here.
/// What somebody else did to it is done to both.
pub(super) fn look(was: &State, would: &State, seen: &ProxySeen) -> Event {
    fn wants(placement: &Placement) -> Option<SiteId> {
        match placement {
            Placement::On(route) => Some(route.site),
            Placement::Unmanaged { last } => last.as_ref().map(|last| last.site),
        }
    }
    let mut seen = seen.clone();
    for (id, after) in would.services.iter() {
        let Some(before) = was.services.get(id) else { continue };
        let (then, here) = (wants(&before.placement), wants(&after.placement));
        if then != here {
            let route = before.placement.route();
            let on_its_way = route.is_some_and(|route| route.pending.contains_key(&seen.proxy));
            let live = seen.routes.get(id).copied();
            if let (Some(here), true) = (here, live == then || on_its_way) {
                seen.routes.insert(*id, here);
            }
            seen.serving.remove(id);
        }
        if let (Some(out), true) = (&mut seen.out, before.out != after.out) {
            out.retain(|server, _| server.service != *id || after.out.contains_key(&server.server));
            for (name, wanted) in &after.out {
                let drain = wanted.admin == Admin::Drain;
                let maint = wanted.admin == Admin::Maint;
                let shown = AdminSeen { drain, maint, disabled: false };
                out.insert(ServerId { service: *id, server: *name }, shown);
            }
        }
    }
    Event::Proxy(seen)
}

/// What an Alertmanager that answers says of an incident of which the journal does not tell.
fn word(incident: &Incident, would: &State, peer: crate::domain::PeerId, now: Now) -> Option<Word> {
    let silenced = || {
        let labels = incident.trouble.labels();
        let silences = would.peers.get(&peer).map(|peer| peer.silences.as_slice()).unwrap_or_default();
        silences.iter().any(|silence| silence.covers(&labels, now.wall))
    };
    match (&incident.telling, incident.ended) {
        (Telling::Pending { .. }, None) if silenced() => Some(Word::Suppressed),
        (Telling::Pending { .. }, None) => Some(Word::Active),
        (Telling::Stored { .. } | Telling::ByAlertmanager, Some(_)) => Some(Word::Resolved),
        (Telling::Stored { .. } | Telling::ByAlertmanager, None)
        | (Telling::Pending { .. }, Some(_))
        | (Telling::ByMail { .. } | Telling::Over { .. }, _) => None,
    }
}

/// A round with an Alertmanager as it would be: what the journal's said of a trouble it says of the replay's.
pub(super) fn round(was: &State, would: &State, seen: &PeerSeen, now: Now) -> Event {
    let PeerResult::Answered(words) = &seen.result else { return Event::Peer(seen.clone()) };
    let said: BTreeMap<&Trouble, &Word> = words
        .iter()
        .filter_map(|(id, word)| was.incidents.get(id).map(|incident| (&incident.trouble, word)))
        .collect();
    let words = would.incidents.iter().filter_map(|(id, incident)| {
        let told = said.get(&incident.trouble).map(|word| Word::clone(word));
        Some((*id, told.or_else(|| word(incident, would, seen.peer, now))?))
    });
    let result = PeerResult::Answered(words.collect());
    Event::Peer(PeerSeen { peer: seen.peer, result, silences: seen.silences.clone() })
}

/// What the Alertmanagers answer about incidents that have just begun or ended. One that is away has failed as often as it
/// takes.
pub(super) fn rounds(would: &State, ids: &[crate::domain::incident::IncidentId], now: Now) -> Vec<Event> {
    let mut events = Vec::new();
    for (peer, known) in would.peers.iter() {
        match &known.link {
            PeerLink::Up => {
                let words = ids.iter().filter_map(|id| {
                    let incident = would.incidents.get(id)?;
                    Some((*id, word(incident, would, *peer, now)?))
                });
                let words: BTreeMap<_, _> = words.collect();
                if !words.is_empty() {
                    let result = PeerResult::Answered(words);
                    events.push(Event::Peer(PeerSeen { peer: *peer, result, silences: None }));
                }
            }
            PeerLink::Down { why, .. } => {
                let begins = |id: &&crate::domain::incident::IncidentId| {
                    would.incidents.get(id).is_some_and(|incident| incident.ended.is_none())
                };
                if ids.iter().any(|id| begins(&id)) {
                    let failed =
                        PeerSeen { peer: *peer, result: PeerResult::Failed(why.clone()), silences: None };
                    events.extend(std::iter::repeat_n(Event::Peer(failed), crate::domain::delivery::TRIES));
                }
            }
            PeerLink::Unseen => {}
        }
    }
    events
}
