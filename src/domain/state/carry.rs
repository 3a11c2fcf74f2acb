//! What is carried over: onto new settings, and onto the clock of a new boot.

use super::{Pending, Placement, Service, State};
use crate::domain::command::Scope;
use crate::domain::id::{Name, ProxyId};
use crate::domain::maintenance::{Admin, Out};
use crate::domain::policy::{ContainerRef, Policy, ServicePolicy};
use crate::domain::time::Now;

impl State {
    /// Names that stay keep what is known about them; names that are gone take it with them.
    pub(super) fn adopt_policy(&mut self, policy: &Policy) {
        self.policy = policy.clone();
        let mut old = std::mem::take(&mut self.services);
        for (id, wanted) in &policy.services {
            let mut service = old.get_mut(id).map(std::mem::take).unwrap_or_default();
            let mut servers = std::mem::take(&mut service.servers);
            service.servers =
                wanted.servers.keys().map(|name| (*name, servers.remove(name).unwrap_or_default())).collect();
            service.maintenance.retain(|name, _| wanted.servers.contains_key(name));
            service.adopt_out(wanted, policy);
            service.derive_admin();
            service.preference = service.preference.filter(|over| wanted.has_site(over.site));
            if let Placement::On(route) = &mut service.placement {
                route.pending.retain(|proxy, _| wanted.proxies.contains(proxy));
            }
            service.served_from.retain(|proxy, _| wanted.proxies.contains(proxy));
            self.services.insert(*id, service);
        }
        let mut proxies = std::mem::take(&mut self.proxies);
        self.proxies =
            policy.proxies.iter().map(|id| (*id, proxies.remove(id).unwrap_or_default())).collect();
        let mut engines = std::mem::take(&mut self.engines);
        self.engines =
            policy.engines.iter().map(|id| (*id, engines.remove(id).unwrap_or_default())).collect();
        for (id, engine) in &mut self.engines {
            // What is watched no longer is heard of no longer: it must not seem to run for ever.
            engine.containers.retain(|name, _| {
                policy.containers.contains_key(&ContainerRef { engine: *id, name: name.clone() })
            });
        }
        let gone = |scope: &Scope| match scope {
            Scope::All => false,
            Scope::Service(service) => !policy.services.contains_key(service),
            Scope::Site(site) => !policy.services.values().any(|service| service.has_site(*site)),
        };
        self.pauses.retain(|scope, _| !gone(scope));
        self.derive_paused(Scope::All);
        let mut peers = std::mem::take(&mut self.peers);
        self.peers =
            policy.alerts.peers.iter().map(|id| (*id, peers.remove(id).unwrap_or_default())).collect();
        let mut repairs = std::mem::take(&mut self.repairs);
        let kept = policy.containers.keys();
        self.repairs = kept
            .map(|container| {
                (container.clone(), repairs.get_mut(container).map(std::mem::take).unwrap_or_default())
            })
            .collect();
        self.reindex();
    }

    /// Takes over what people have ordered about servers, from a state that was stored.
    pub fn adopt_orders(&mut self, stored: &State) {
        for (id, service) in &mut self.services {
            let (Some(before), Some(wanted)) = (stored.services.get(id), self.policy.services.get(id)) else {
                continue;
            };
            let known = |name: &Name| wanted.servers.contains_key(name);
            let held = before.maintenance.iter().filter(|(name, _)| known(name));
            service.maintenance = held.map(|(name, held)| (*name, held.clone())).collect();
            service.out = before.out.clone();
            service.out_generation = before.out_generation;
            service.adopt_out(wanted, &self.policy);
            service.derive_admin();
        }
        self.reindex();
    }

    /// Moves every stored moment onto the clock of a new boot: what was `x` before `stored` is `x` before `now`.
    pub fn shift_clock(&mut self, stored: Now, now: Now) {
        let by = now.boot.0.saturating_sub(stored.boot.0);
        self.began = self.began.shift(by);
        for service in self.services.values_mut() {
            service.last_failover = service.last_failover.map(|at| at.shift(by));
            service.wake = service.wake.map(|at| at.shift(by));
            service.failbacks.iter_mut().for_each(|at| *at = at.shift(by));
            service.contests.values_mut().for_each(|contest| contest.shift(by));
            if let Some(over) = &mut service.preference {
                over.until = over.until.map(|at| at.shift(by));
                over.reminded = over.reminded.shift(by);
            }
            match &mut service.placement {
                Placement::On(route) | Placement::Unmanaged { last: Some(route) } => {
                    route.since = route.since.shift(by);
                    route.pending.values_mut().for_each(|pending| pending.shift(by));
                }
                Placement::Unmanaged { last: None } => {}
            }
            for (_, server) in service.servers.iter_mut() {
                server.flaps.shift(by);
                server.strain.shift(by);
                server.lives_from = server.lives_from.map(|at| at.shift(by));
            }
            for held in service.maintenance.values_mut() {
                held.until = held.until.map(|at| at.shift(by));
            }
            for out in service.out.values_mut() {
                out.since = out.since.shift(by);
                out.pending.values_mut().for_each(|pending| pending.shift(by));
            }
            // Health is not carried over a start (`Event::Started`), so its moments need no shift.
        }
        self.repairs.values_mut().for_each(|repair| repair.shift(by));
        self.incidents.values_mut().for_each(|incident| incident.shift(by));
        self.mails.iter_mut().for_each(|at| *at = at.shift(by));
        self.breached = self.breached.map(|at| at.shift(by));
        self.untried = self.untried.map(|at| at.shift(by));
        for pause in self.pauses.values_mut() {
            pause.until = pause.until.map(|at| at.shift(by));
        }
        self.reindex();
    }
}

impl Service {
    /// A server that leaves the settings stays in an HAProxy until that has its new configuration, and may come back into
    /// the settings before: it is to be put back then, since nobody's order is about it any more.
    fn adopt_out(&mut self, wanted: &ServicePolicy, policy: &Policy) {
        let managed: Vec<ProxyId> = policy.managed(wanted).collect();
        for (name, out) in &mut self.out {
            out.pending.retain(|proxy, _| managed.contains(proxy));
            if !wanted.servers.contains_key(name) && out.admin != Admin::Ready {
                let pending = Pending::since(out.since);
                out.admin = Admin::Ready;
                out.pending = managed.iter().map(|proxy| (*proxy, pending)).collect();
            }
        }
        self.out.retain(|_, out| Out::is_wanted(out));
    }
}
