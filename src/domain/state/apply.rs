//! One change at a time: what each kind of [`Change`] does to the state, and to what is derived from it.

use super::{Placement, Service, State};
use crate::domain::change::Change;
use crate::domain::command::Scope;
use crate::domain::delivery::MAILS_MAX;
use crate::domain::health::Health;
use crate::domain::id::ServiceId;
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::maintenance::Admin;

/// The most failbacks that are remembered: settings refuse a higher `failback_limit`.
pub const FAILBACKS_MAX: usize = 32;

impl State {
    /// Makes changes of one service.
    pub(super) fn apply_to(&mut self, id: ServiceId, changes: &[Change]) {
        // Changes of a service that is gone were decided before the policy changed: they have nothing to change.
        let (Some(service), Some(policy)) = (self.services.get_mut(&id), self.policy.services.get(&id))
        else {
            return;
        };
        for change in changes {
            self.index.forget(id, service, policy, change);
            service.apply(change);
            self.index.learn(id, service, policy, change);
        }
    }

    /// Makes a change that is no service's.
    pub(super) fn apply_one(&mut self, change: &Change) {
        match change {
            Change::Began { at } => self.began = *at,
            Change::Proxy { proxy, link } => {
                if let Some(known) = self.proxies.get_mut(proxy) {
                    known.link = link.clone();
                }
            }
            Change::ProxyConfig { proxy, config } => {
                if let Some(known) = self.proxies.get_mut(proxy) {
                    known.config = config.clone();
                }
            }
            Change::ProxyIdentity { proxy, identity } => {
                if let Some(known) = self.proxies.get_mut(proxy) {
                    known.identity = Some(*identity);
                }
            }
            Change::Engine { engine, found } => {
                if let Some(known) = self.engines.get_mut(engine) {
                    known.found = *found;
                }
            }
            Change::Container { engine, name, seen } => {
                if let Some(known) = self.engines.get_mut(engine) {
                    self.index.learn_container(*engine, name, seen.as_ref());
                    match seen {
                        Some(seen) => known.containers.insert(name.clone(), seen.clone()),
                        None => known.containers.remove(name),
                    };
                }
            }
            Change::Repair { container, repair } => {
                if let Some(known) = self.repairs.get_mut(container) {
                    self.index.forget_repair(container, known, &self.policy);
                    known.clone_from(repair);
                    self.index.learn_repair(container, known, &self.policy);
                }
            }
            Change::Pause { scope, pause } => {
                match pause {
                    Some(pause) => self.pauses.insert(*scope, pause.clone()),
                    None => self.pauses.remove(scope),
                };
                self.derive_paused(*scope);
            }
            Change::Incident { id, incident } => self.set_incident(*id, incident.as_deref()),
            Change::Peer { peer, seen } => {
                if let Some(known) = self.peers.get_mut(peer) {
                    known.clone_from(seen);
                }
            }
            Change::MailCounted { at } => {
                if self.mails.len() >= MAILS_MAX {
                    self.mails.remove(0);
                }
                self.mails.push(*at);
            }
            Change::CutOff(cut_off) => self.cut_off = *cut_off,
            Change::Policy(policy) => self.adopt_policy(policy),
            Change::Store(health) => self.store = *health,
            Change::Issued { next } => self.next_action = *next,
            Change::Breached { at } => self.breached = Some(*at),
            Change::Untried { at } => self.untried = Some(*at),
            // `apply_to` makes them: `Change::service` names their service.
            Change::Health { .. }
            | Change::Life { .. }
            | Change::Reborn { .. }
            | Change::Flaps { .. }
            | Change::Strain { .. }
            | Change::Maintenance { .. }
            | Change::Out { .. }
            | Change::Asked { .. }
            | Change::Placed { .. }
            | Change::Confirmed { .. }
            | Change::Pending { .. }
            | Change::FailedOver { .. }
            | Change::FailedBack { .. }
            | Change::Preference { .. }
            | Change::Wake { .. }
            | Change::ServedFrom { .. }
            | Change::Contested { .. } => {}
        }
    }

    fn set_incident(&mut self, id: IncidentId, incident: Option<&Incident>) {
        if let Some(before) = self.incidents.remove(&id) {
            self.index.forget_incident(id, &before);
        }
        if let Some(incident) = incident {
            self.index.learn_incident(id, incident);
            self.incidents.insert(id, incident.clone());
        }
    }

    /// Which of the services that `scope` is about are paused.
    pub(super) fn derive_paused(&mut self, scope: Scope) {
        for id in self.services_in(scope) {
            if let (Some(policy), Some(service)) = (self.policy.services.get(&id), self.services.get_mut(&id))
            {
                service.paused = self.pauses.keys().any(|pause| pause.is_about(id, policy));
            }
        }
    }
}

impl Service {
    /// Which servers are out of service.
    pub(super) fn derive_admin(&mut self) {
        for (name, server) in self.servers.iter_mut() {
            server.admin = self.maintenance.get(name).map_or(Admin::Ready, |held| held.admin);
        }
    }

    /// Makes one change that is this service's; others are ignored.
    pub(in crate::domain) fn apply(&mut self, change: &Change) {
        match change {
            Change::Health { server, health } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    if known.health.differs_in_verdict(health) {
                        known.epoch += 1;
                    }
                    known.health = *health;
                }
            }
            Change::Life { server, life } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    known.life = *life;
                }
            }
            Change::Reborn { server, at } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    known.life = Health::default();
                    known.lives_from = Some(*at);
                }
            }
            Change::Flaps { server, flaps } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    known.flaps = *flaps;
                }
            }
            Change::Strain { server, strain } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    known.strain = *strain;
                }
            }
            Change::Maintenance { server, maintenance } => {
                match maintenance {
                    Some(held) => self.maintenance.insert(server.server, held.clone()),
                    None => self.maintenance.remove(&server.server),
                };
                self.derive_admin();
            }
            Change::Out { server, out } => match out {
                Some(out) => {
                    self.out_generation = self.out_generation.max(out.generation);
                    self.out.insert(server.server, out.clone());
                }
                None => {
                    self.out.remove(&server.server);
                }
            },
            Change::Asked { server, since } => {
                if let Some(known) = self.servers.get_mut(&server.server) {
                    known.asked = *since;
                }
            }
            Change::Placed { placement, .. } => {
                if let Placement::On(route) = placement {
                    self.generation = self.generation.max(route.generation);
                }
                if self.placement.site() != placement.site() {
                    // Counters from before a move say nothing about the new route.
                    self.served_from.clear();
                }
                self.placement = placement.clone();
            }
            Change::Confirmed { proxy, .. } => {
                if let Placement::On(route) = &mut self.placement {
                    route.pending.remove(proxy);
                }
            }
            Change::Pending { proxy, pending, .. } => {
                if let Placement::On(route) = &mut self.placement {
                    route.pending.insert(*proxy, *pending);
                }
            }
            Change::FailedOver { at, .. } => self.last_failover = Some(*at),
            Change::FailedBack { at, .. } => {
                // `decide` allows `limit` of them in a window; older ones can no longer count.
                if self.failbacks.len() >= FAILBACKS_MAX {
                    self.failbacks.remove(0);
                }
                self.failbacks.push(*at);
            }
            Change::Preference { preference, .. } => self.preference.clone_from(preference),
            Change::Wake { at, .. } => self.wake = *at,
            Change::Contested { proxy, contest, .. } => {
                match contest {
                    Some(contest) => self.contests.insert(*proxy, contest.clone()),
                    None => self.contests.remove(proxy),
                };
            }
            Change::ServedFrom { proxy, elsewhere, .. } => {
                match elsewhere {
                    Some(site) => self.served_from.insert(*proxy, *site),
                    None => self.served_from.remove(proxy),
                };
            }
            Change::Began { .. }
            | Change::Proxy { .. }
            | Change::ProxyConfig { .. }
            | Change::ProxyIdentity { .. }
            | Change::Engine { .. }
            | Change::Container { .. }
            | Change::Repair { .. }
            | Change::Incident { .. }
            | Change::Peer { .. }
            | Change::MailCounted { .. }
            | Change::Pause { .. }
            | Change::CutOff(_)
            | Change::Policy(_)
            | Change::Store(_)
            | Change::Breached { .. }
            | Change::Untried { .. }
            | Change::Issued { .. } => {}
        }
    }
}
