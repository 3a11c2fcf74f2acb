//! Reloads of an HAProxy, by us and by others, and the workers that are replaced: each goes on with the clients that it has,
//! by its own map, until they have gone.

use crate::clockwork::Ms;
use crate::plan::service_id;
use crate::world::World;
use std::collections::BTreeMap;
use supervisor::domain::event::{ConfigSeen, Configured, Event, ReloadSeen};
use supervisor::domain::state::Placement;
use supervisor::domain::{ServiceId, SiteId, Span};

/// `hard-stop-after 60s`, and `mworker-max-reloads 5`.
const HARD_STOP: Ms = 60_000;
const OLD_WORKERS_MAX: usize = 5;

/// As the keeper of the configuration has them: its turns, after a failure, after a refusal, and its patience with a map file.
const TURN: Ms = 5_000;
const RETRY: Ms = 1_000;
const REFUSED_FIRST: Ms = 60_000;
const REFUSED_LONGEST: Ms = 30 * 60_000;
const MAP_FILE_PATIENCE: Ms = 500;

/// As who tells old workers has them: during a reload, and later.
const RELOAD_PAUSE: Ms = 20;
const RELOAD_PATIENCE: Ms = 5_000;
const TELL_AGAIN: Ms = 1_000;

/// What is not as it should be in an HAProxy is mended by then: the next look shows it.
const MENDED_WITHIN: Ms = 8_000;

/// A worker that was replaced.
#[derive(Debug, Clone)]
pub(crate) struct OldWorker {
    pub(crate) map: BTreeMap<ServiceId, SiteId>,
    ends: Ms,
    strays_since: BTreeMap<ServiceId, Ms>,
}

/// The part of the task that brings in configurations, and tells old workers their routes.
#[derive(Default)]
pub(crate) struct Reloads {
    /// Between reading the servers' states for a new worker and seeing it, and how many of those there were.
    under_way: bool,
    ended: u64,
    /// Grows with each change of what is wanted: an older turn is void.
    turn: u64,
    refused: Ms,
    /// What the current worker was read to route: its process id, and the routes. Told to old ones.
    in_force: Option<(u32, BTreeMap<ServiceId, SiteId>)>,
    telling: u64,
}

impl Reloads {
    /// Names the time since the last reload of ours; none during one.
    pub(crate) fn calm(&self) -> Option<u64> {
        (!self.under_way).then_some(self.ended)
    }
}

impl World {
    /// What the settings lead to.
    fn revision(&self) -> &'static str {
        // Only one of the variants has other services.
        if self.variant == 1 { "b" } else { "a" }
    }

    /// HAProxy begins to load what is on its disk. `ours`: with the states of its servers, and the revision that it is to have.
    pub(crate) fn reload_proxy(&mut self, number: usize, ours: Option<&'static str>) {
        let now = self.clock.now();
        let (reads, takes) = (self.proxy_rng.i64(5..60), self.proxy_rng.i64(70..350));
        // Idle clients go soon; one that talks all the time is kept for as long as it may be.
        let stays = [200, 3_000, 10_000, HARD_STOP][self.proxy_rng.usize(..4)];
        let proxy = &mut self.proxies[number];
        if !proxy.up || now < proxy.reloads_until {
            return;
        }
        if let Some(revision) = ours {
            proxy.config = revision;
        }
        proxy.reloads_until = now + takes;
        let pid = proxy.pid;
        let kept = ours.map(|_| (proxy.out.clone(), proxy.checks.clone()));
        self.clock.after(reads, move |world| {
            let (file, config) = (world.proxies[number].file.clone(), world.proxies[number].config);
            world.clock.after(takes - reads, move |world| {
                let now = world.clock.now();
                let proxy = &mut world.proxies[number];
                if !proxy.up || proxy.pid != pid {
                    return;
                }
                let map = proxy.map.clone();
                proxy.old.push(OldWorker { map, ends: now + stays, strays_since: BTreeMap::new() });
                if proxy.old.len() > OLD_WORKERS_MAX {
                    proxy.old.remove(0);
                }
                proxy.begin(now);
                (proxy.map, proxy.runs) = (file, config);
                if let Some((out, checks)) = kept {
                    (proxy.out, proxy.checks) = (out, checks);
                }
                world.watch_leftovers(number);
            });
        });
    }

    /// The configuration that is wanted is compared with what runs, and brought in where it differs.
    pub(crate) fn configure(&mut self, number: usize, after: Ms) {
        let Some(keeper) = self.keeper(number) else { return };
        keeper.reloads.turn += 1;
        let turn = keeper.reloads.turn;
        self.at_edge(after, move |world| world.configure_turn(number, turn));
    }

    fn configure_turn(&mut self, number: usize, turn: u64) {
        let now = self.clock.now();
        let wanted = self.revision();
        let (answers, foreign) =
            (self.proxies[number].answers(now), now < self.proxies[number].foreign_until);
        let (runs, refuses) = (self.proxies[number].runs, now < self.proxies[number].refuses_until);
        let reloading = now < self.proxies[number].reloads_until;
        let Some(keeper) = self.keeper(number).filter(|of| of.reloads.turn == turn) else { return };
        if foreign {
            return self.configure(number, TURN);
        }
        if !answers || reloading {
            return self.configure(number, RETRY);
        }
        if runs == wanted {
            keeper.reloads.refused = 0;
            self.tell_config(number, ConfigSeen::InForce { revision: wanted.to_owned() }, None);
            return self.configure(number, TURN);
        }
        if refuses {
            let pause = (keeper.reloads.refused * 2).clamp(REFUSED_FIRST, REFUSED_LONGEST);
            keeper.reloads.refused = pause;
            let message = "unknown keyword in line 7".to_owned();
            self.tell_config(number, ConfigSeen::Refused { message }, None);
            return self.configure(number, pause);
        }
        // The new worker begins with the map file: a moment for what is decided.
        let settles = self.proxies[number].file_lost_until.min(now + MAP_FILE_PATIENCE);
        self.at_edge((settles - now).max(2), move |world| world.bring_in(number, turn, wanted));
    }

    fn bring_in(&mut self, number: usize, turn: u64, wanted: &'static str) {
        let began = self.clock.now();
        let Some(keeper) = self.keeper(number).filter(|of| of.reloads.turn == turn) else { return };
        keeper.reloads.under_way = true;
        let before = self.proxies[number].pid;
        self.reload_proxy(number, Some(wanted));
        let takes = self.proxies[number].reloads_until - began;
        // It is sent, and goes on whatever becomes of us.
        self.at_edge(takes + 5, move |world| {
            let now = world.clock.now();
            let answers = world.proxies[number].answers(now);
            let loaded = world.proxies[number].pid != before && world.proxies[number].runs == wanted;
            let Some(keeper) = world.keeper(number) else { return };
            keeper.reloads.under_way = false;
            keeper.reloads.ended += 1;
            let (config, reload, again) = if answers && loaded {
                let took = Span((now - began).unsigned_abs());
                let config = ConfigSeen::InForce { revision: wanted.to_owned() };
                (config, ReloadSeen::Loaded { took }, TURN)
            } else {
                let message = "the new worker did not answer".to_owned();
                (ConfigSeen::Unproven { message }, ReloadSeen::Unproven, RETRY)
            };
            world.tell_config(number, config, Some(reload));
            world.look_in(number, 0);
            // Another one may be wanted by now: its turn has been put.
            if world.keeper(number).is_some_and(|of| of.reloads.turn == turn) {
                world.configure(number, again);
            }
        });
    }

    /// Told when it is news, or took a reload.
    fn tell_config(&mut self, number: usize, config: ConfigSeen, reload: Option<ReloadSeen>) {
        let proxy = self.proxies[number].id;
        let known = self.supervisor.as_ref().and_then(|of| of.state().proxies.get(&proxy));
        if reload.is_some() || known.is_none_or(|known| known.config != config) {
            self.put_hard(Event::Configured(Configured { proxy, config, reload }));
        }
    }

    /// Old workers follow what the current one was read to do.
    pub(crate) fn publish_in_force(&mut self, number: usize) {
        let pid = self.proxies[number].pid;
        let Some(keeper) = self.keeper(number) else { return };
        let may = keeper.known.may_write(&keeper.desired);
        let routes = if may { keeper.known.in_force(&keeper.desired) } else { BTreeMap::new() };
        let sites: BTreeMap<ServiceId, SiteId> =
            routes.into_iter().map(|(service, route)| (service, route.site)).collect();
        let new = Some((pid, sites)).filter(|(_, sites)| !sites.is_empty());
        if keeper.reloads.in_force == new {
            return;
        }
        keeper.reloads.in_force = new;
        keeper.reloads.telling += 1;
        let (telling, until) = (keeper.reloads.telling, self.clock.now() + RELOAD_PATIENCE);
        if !self.proxies[number].old.is_empty() || self.clock.now() < self.proxies[number].reloads_until {
            self.at_edge(2, move |world| world.tell_old_workers(number, telling, until));
        }
    }

    fn tell_old_workers(&mut self, number: usize, telling: u64, until: Ms) {
        let now = self.clock.now();
        let Some(keeper) = self.keeper(number).filter(|of| of.reloads.telling == telling) else { return };
        let Some((pid, routes)) = keeper.reloads.in_force.clone() else { return };
        let again = if now < until { RELOAD_PAUSE } else { TELL_AGAIN };
        let proxy = &mut self.proxies[number];
        if !proxy.answers(now) || now < proxy.reloads_until {
            return self.at_edge(again, move |world| world.tell_old_workers(number, telling, until));
        }
        if proxy.pid != pid {
            // The current worker is another one by now.
            self.look_in(number, 0);
            return self.at_edge(again, move |world| world.tell_old_workers(number, telling, until));
        }
        for old in &mut proxy.old {
            old.map.extend(routes.clone());
        }
    }

    /// Each second, as long as there are any: whether old workers go where it is decided, and rescue lines are closed.
    pub(crate) fn watch_leftovers(&mut self, number: usize) {
        // One watch is enough.
        if !std::mem::replace(&mut self.proxies[number].watched, true) {
            self.clock.after(1_000, move |world| world.look_at_leftovers(number));
        }
    }

    fn look_at_leftovers(&mut self, number: usize) {
        let now = self.clock.now();
        let running = self.keeper(number).map_or(0, |keeper| keeper.rescues.running);
        let proxy = &mut self.proxies[number];
        proxy.watched = false;
        proxy.old.retain(|old| now < old.ends);
        if proxy.old.is_empty() && proxy.open_lines.is_empty() {
            proxy.lines_left_since = None;
            return;
        }
        let proxy = &self.proxies[number];
        let steered = proxy.answers(now) && now >= proxy.foreign_until && now >= proxy.reloads_until;
        let driven = self.supervisor.as_ref().is_some_and(|of| of.frozen_until <= now && !of.stopping);
        let left = steered && driven && running == 0 && !proxy.open_lines.is_empty();
        let since = if left { Some(proxy.lines_left_since.unwrap_or(now)) } else { None };
        self.proxies[number].lines_left_since = since;
        if since.is_some_and(|at| now - at > MENDED_WITHIN) {
            let name = self.proxies[number].id;
            self.violate(format!("a rescue line of {name} is left open"));
        }
        let mut found = None;
        for service in 0..self.plan.cast.services.len() {
            let id = service_id(service);
            let decided = self.supervisor.as_ref().filter(|of| of.frozen_until <= now && !of.stopping);
            let decided = decided.and_then(|of| match &of.state().service(id)?.0.placement {
                Placement::On(route) => Some(route.site),
                Placement::Unmanaged { .. } => None,
            });
            let proxy = &mut self.proxies[number];
            // What the current worker does not do is judged elsewhere.
            let site = decided.filter(|site| steered && proxy.map.get(&id) == Some(site));
            for old in &mut proxy.old {
                if site.is_none() || old.map.get(&id).copied() == site {
                    old.strays_since.remove(&id);
                    continue;
                }
                let since = *old.strays_since.entry(id).or_insert(now);
                if now - since > MENDED_WITHIN {
                    found = Some((id, old.map.get(&id).copied(), site));
                }
            }
        }
        if let Some((id, shown, site)) = found {
            let name = self.proxies[number].id;
            self.violate(format!(
                "I8: an old worker of {name} routes {id} to {shown:?}, {site:?} is decided"
            ));
        }
        self.watch_leftovers(number);
    }
}
