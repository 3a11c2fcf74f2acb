//! The loop's hands: what the core decided, on its way to the edges. Nothing here waits.

use super::edges::Edges;
use crate::domain::action::{Action, Evacuation, Finished, Outcome};
use crate::domain::change::Change;
use crate::domain::event::Event;
use crate::domain::{ProxyId, ServiceId, State};
use crate::settings::Settings;
use std::collections::BTreeSet;

/// What was decided and has not gone out.
pub(super) struct Hands {
    edges: Edges,
    evacuations: Vec<Evacuation>,
    /// Services whose desired state may differ from what was published last.
    touched: BTreeSet<ServiceId>,
    /// An HAProxy became ours or another's, or the settings changed: everything is published anew.
    all: bool,
}

impl Hands {
    pub(super) fn new(edges: Edges) -> Hands {
        Hands { edges, evacuations: Vec::new(), touched: BTreeSet::new(), all: true }
    }

    /// Notes an action; probe pace needs no order among others and goes out at once.
    pub(super) fn prepare(&mut self, action: &Action) {
        match action {
            Action::Route { service, .. } => {
                self.touched.insert(*service);
            }
            Action::Pace { server, pace } => self.edges.set_pace(*server, *pace),
            Action::Evacuate(evacuation) => self.evacuations.push(*evacuation),
            Action::Answer { .. } => {}
        }
    }

    /// Notes what changes the desired state without being an action: the verdicts that guard evacuations, and ownership.
    pub(super) fn note_changes(&mut self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Health { server, .. } => {
                    self.touched.insert(server.service);
                }
                Change::Placed { service, .. } => {
                    self.touched.insert(*service);
                }
                Change::Proxy { .. } | Change::Policy(_) => self.all = true,
                Change::Began { .. }
                | Change::Life { .. }
                | Change::Asked { .. }
                | Change::Confirmed { .. }
                | Change::Pending { .. }
                | Change::FailedOver { .. }
                | Change::FailedBack { .. }
                | Change::Preference { .. }
                | Change::Wake { .. }
                | Change::ServedFrom { .. }
                | Change::ProxyConfig { .. }
                | Change::ProxyIdentity { .. }
                | Change::Engine { .. }
                | Change::Container { .. }
                | Change::CutOff(_)
                | Change::Store(_)
                | Change::Issued { .. } => {}
            }
        }
    }

    /// New settings for the edges.
    pub(super) fn resettle(&mut self, settings: &Settings) {
        self.edges.resettle(settings);
        self.all = true;
    }

    /// Sends out the desired states, then the evacuations that rely on them. Returns how those ended that found no room.
    pub(super) fn publish(&mut self, state: &State) -> Vec<Event> {
        let touched = std::mem::take(&mut self.touched);
        let all = std::mem::take(&mut self.all);
        if all || !touched.is_empty() {
            for proxy in state.proxies.keys() {
                if all || touched.iter().any(|service| routes_through(state, *service, *proxy)) {
                    self.edges.desire(*proxy, state.desired(*proxy));
                }
            }
        }
        let evacuations = std::mem::take(&mut self.evacuations);
        evacuations.into_iter().filter_map(|evacuation| self.evacuate(evacuation)).collect()
    }

    fn evacuate(&self, evacuation: Evacuation) -> Option<Event> {
        let words = self.edges.evacuate(evacuation).err()?;
        let outcome = Outcome::Failed(words.to_owned());
        Some(Event::Finished(Finished { action: evacuation.id, server: evacuation.server, outcome }))
    }
}

fn routes_through(state: &State, service: ServiceId, proxy: ProxyId) -> bool {
    state.policy.services.get(&service).is_some_and(|policy| policy.proxies.contains(&proxy))
}
