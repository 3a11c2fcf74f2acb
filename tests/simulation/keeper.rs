//! HAProxy, and the task that keeps one as it is decided: the real rules of what is written when ([`Known`]), and a small
//! model of what HAProxy does with it: a map that a restart reads from a file, servers that are taken out, checks of its own
//! and backup lines. Reloads are in `workers`, evacuations in `rescues`.

use crate::checks::{Checks, Met};
use crate::clockwork::Ms;
use crate::fault::Kind;
use crate::plan::{proxy_id, service_id, site_id};
use crate::rescues::Rescues;
use crate::workers::{OldWorker, Reloads};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use supervisor::actuator::haproxy::Known;
use supervisor::domain::action::{Desired, DesiredRoute, DesiredServer};
use supervisor::domain::event::{CheckSeen, Event, MasterSeen, ProxyIdentity, ProxySeen, Routed};
use supervisor::domain::maintenance::{Admin, AdminSeen, Agreement, agreement};
use supervisor::domain::{Boot, ProxyId, ServerId, ServiceId, SiteId, Span};

/// It is looked at each second.
const LOOK_EVERY: Ms = 1_000;

/// One HAProxy.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) id: ProxyId,
    pub(crate) up: bool,
    pub(crate) pid: u32,
    pub(crate) started: i64,
    pub(crate) map: BTreeMap<ServiceId, SiteId>,
    pub(crate) file: BTreeMap<ServiceId, SiteId>,
    pub(crate) out: BTreeMap<ServerId, AdminSeen>,
    /// Of each server that was looked at.
    pub(crate) checks: BTreeMap<ServerId, Checks>,
    /// When this worker began.
    began: Ms,
    /// Grows with each start.
    pub(crate) boots: u64,
    /// Workers that were replaced, and whether somebody watches what is left over.
    pub(crate) old: Vec<OldWorker>,
    pub(crate) watched: bool,
    /// Services with a rescue line that is open, and since when nobody closes one.
    pub(crate) open_lines: BTreeSet<ServiceId>,
    pub(crate) lines_left_since: Option<Ms>,
    /// The revision on its disk, and the one that it runs.
    pub(crate) config: &'static str,
    pub(crate) runs: &'static str,
    /// Its master executes itself anew until then.
    pub(crate) reloads_until: Ms,
    /// Its binary refuses another configuration.
    pub(crate) refuses_until: Ms,
    pub(crate) foreign_until: Ms,
    pub(crate) deaf_until: Ms,
    pub(crate) stubborn_until: Ms,
    pub(crate) file_lost_until: Ms,
    /// Since when what it does differs from what is decided, while it could be told.
    pub(crate) strays_since: BTreeMap<ServiceId, Ms>,
}

impl Proxy {
    pub(crate) fn new(number: u8) -> Proxy {
        Proxy {
            id: proxy_id(number),
            up: true,
            pid: 100 + u32::from(number),
            started: 1_000,
            map: BTreeMap::new(),
            file: BTreeMap::new(),
            out: BTreeMap::new(),
            checks: BTreeMap::new(),
            began: 0,
            boots: 0,
            old: Vec::new(),
            watched: false,
            open_lines: BTreeSet::new(),
            lines_left_since: None,
            config: "a",
            runs: "a",
            reloads_until: 0,
            refuses_until: 0,
            foreign_until: 0,
            deaf_until: 0,
            stubborn_until: 0,
            file_lost_until: 0,
            strays_since: BTreeMap::new(),
        }
    }

    /// Whether its sockets answer.
    pub(crate) fn answers(&self, now: Ms) -> bool {
        self.up && now >= self.deaf_until
    }

    /// What a look of the actuator shows to differ is set.
    pub(crate) fn set_server(&mut self, server: ServerId, wanted: &DesiredServer) {
        let shown = self.out.remove(&server).unwrap_or_default();
        let shown = match agreement(wanted.admin, &wanted.ours, shown) {
            Agreement::InForce | Agreement::Held => shown,
            // HAProxy, `srv_adm_set_maint` and its like: each takes the other's place, but for `disabled`.
            Agreement::Differs => AdminSeen {
                drain: wanted.admin == Admin::Drain,
                maint: wanted.admin == Admin::Maint,
                disabled: false,
            },
        };
        self.out.extend(Some((server, shown)).filter(|(_, shown)| *shown != AdminSeen::default()));
    }

    /// Another process: what was set at run time is gone, and the map is the file's.
    pub(crate) fn start(&mut self, now: Ms) {
        self.boots += 1;
        self.runs = self.config;
        self.reloads_until = 0;
        self.old.clear();
        self.begin(now);
    }

    /// Another worker.
    pub(crate) fn begin(&mut self, now: Ms) {
        self.up = true;
        self.began = now;
        self.pid += 7;
        self.started = 1_000 + now / 1_000;
        self.map = self.file.clone();
        self.out.clear();
        self.checks.clear();
        self.open_lines.clear();
    }

    /// Whether it would send a server traffic.
    fn uses(&self, server: ServerId) -> bool {
        self.checks.get(&server).is_some_and(Checks::is_up)
            && self.out.get(&server).is_none_or(|seen| seen.admin() == Admin::Ready)
    }
}

/// The task.
#[derive(Default)]
pub(crate) struct Keeper {
    pub(crate) known: Known,
    pub(crate) desired: Desired,
    /// What the last look showed of servers.
    seen_out: Option<BTreeMap<ServerId, AdminSeen>>,
    pub(crate) rescues: Rescues,
    pub(crate) reloads: Reloads,
    look: u64,
}

impl World {
    pub(crate) fn begin_keepers(&mut self) {
        let ids: Vec<ProxyId> = self.proxies.iter().map(|proxy| proxy.id).collect();
        for (number, id) in ids.into_iter().enumerate() {
            let Some(supervisor) = &mut self.supervisor else { return };
            supervisor.keepers.insert(id, Keeper::default());
            self.look_in(number, 0);
            self.configure(number, 200);
        }
    }

    pub(crate) fn keeper(&mut self, number: usize) -> Option<&mut Keeper> {
        let id = self.proxies[number].id;
        self.supervisor.as_mut()?.keepers.get_mut(&id)
    }

    /// What an HAProxy is to be from now on.
    pub(crate) fn desire(&mut self, id: ProxyId, mut desired: Desired, but_servers: bool) {
        let Some(number) = self.proxies.iter().position(|proxy| proxy.id == id) else { return };
        let Some(keeper) = self.keeper(number) else { return };
        if but_servers {
            desired.servers = keeper.desired.servers.clone();
        }
        if keeper.desired != desired {
            keeper.desired = desired;
            let takes = self.proxy_rng.i64(1..4);
            self.at_edge(takes, move |world| {
                world.route(number);
                world.advance(number);
                world.administer(number);
            });
        }
    }

    pub(crate) fn look_in(&mut self, number: usize, after: Ms) {
        let Some(keeper) = self.keeper(number) else { return };
        keeper.look += 1;
        let look = keeper.look;
        self.at_edge(after, move |world| {
            if world.keeper(number).is_some_and(|keeper| keeper.look == look) {
                world.look(number);
            }
        });
    }

    /// One look: what is there is read, then told, then what differs is set.
    pub(crate) fn look(&mut self, number: usize) {
        let (now, at) = (self.clock.now(), self.now().boot);
        let takes = self.proxy_rng.i64(1..4);
        let seen = self.proxies[number].answers(now).then(|| self.observe(number, at));
        let shown = self.proxies[number].out.clone();
        let calm = self.keeper(number).and_then(|keeper| keeper.reloads.calm());
        self.at_edge(takes, move |world| {
            let Some(keeper) = world.keeper(number) else { return };
            match seen {
                None => {
                    keeper.known.lost();
                    keeper.seen_out = None;
                    let proxy = world.proxies[number].id;
                    world.put_hard(Event::ProxyLost { proxy });
                    world.publish_in_force(number);
                }
                Some(mut seen) => {
                    keeper.known.seen(seen.ours, &seen.routes);
                    keeper.seen_out = Some(shown);
                    // Another worker may be about to take over, with the servers as they were before.
                    if calm.is_none() || calm != keeper.reloads.calm() {
                        seen.out = None;
                    }
                    let closes = keeper.rescues.running == 0 && keeper.known.may_write(&keeper.desired);
                    world.put_hard(Event::Proxy(seen));
                    if closes && world.proxies[number].answers(world.clock.now()) {
                        world.proxies[number].open_lines.clear();
                    }
                    world.route(number);
                }
            }
            world.advance(number);
            world.administer(number);
        });
        self.look_in(number, LOOK_EVERY);
    }

    /// What a look at `at` shows.
    fn observe(&mut self, number: usize, at: Boot) -> ProxySeen {
        let now = self.clock.now();
        let mut checks = BTreeMap::new();
        let mut serving = BTreeMap::new();
        for service in 0..self.plan.cast.services.len() {
            self.check(number, service);
            let served = self.serves_from(number, service);
            let proxy = &self.proxies[number];
            for (server, ..) in self.servers_of(service).iter() {
                let layer7_ok = proxy.checks.get(server).is_some_and(Checks::passed);
                let usable = proxy.uses(*server);
                checks.insert(*server, CheckSeen { layer7_ok, usable, age_at_most: Span::seconds(2) });
            }
            serving.extend(served.map(|site| (service_id(service), site)));
        }
        let proxy = &self.proxies[number];
        let foreign = now < proxy.foreign_until;
        let current = now >= proxy.reloads_until;
        let old_workers = u32::try_from(proxy.old.len()).unwrap_or(u32::MAX);
        ProxySeen {
            proxy: proxy.id,
            at,
            identity: ProxyIdentity { pid: proxy.pid, started: proxy.started },
            owner: Some(if foreign { "somebody".to_owned() } else { "us".to_owned() }),
            ours: !foreign,
            routes: proxy.map.clone(),
            checks,
            serving,
            out: current.then(|| proxy.out.clone()),
            master: current.then_some(MasterSeen { old_workers, failed_reloads: 0 }),
        }
    }

    /// HAProxy makes the checks of a service's servers that have been due.
    fn check(&mut self, number: usize, service: usize) {
        let now = self.clock.now();
        let all = self.servers_of(service);
        for (place, (server, site, container)) in all.iter().enumerate() {
            let (reached, container) = (self.proxy_reaches(*site), &self.containers[*container]);
            let proxy = &mut self.proxies[number];
            let checks =
                proxy.checks.entry(*server).or_insert_with(|| Checks::of(proxy.began, place, all.len()));
            let meets = |at| if reached { container.meets(at) } else { Met::Silent { until: Ms::MAX } };
            checks.advance(now, meets);
        }
    }

    /// What a check of a server meets that begins at `at`.
    pub(crate) fn meets(&self, server: ServerId, at: Ms) -> Option<Met> {
        let (_, site, container) =
            self.pools.iter().flat_map(|all| all.iter()).find(|(of, ..)| *of == server)?;
        Some(match self.proxy_reaches(*site) {
            true => self.containers[*container].meets(at),
            false => Met::Silent { until: Ms::MAX },
        })
    }

    /// Whether an HAProxy would send traffic to a site of a service.
    pub(crate) fn is_usable(&self, number: usize, service: usize, site: SiteId) -> bool {
        let all = self.servers_of(service);
        all.iter().any(|(server, place, _)| site_id(*place) == site && self.proxies[number].uses(*server))
    }

    /// The site whose servers answer clients of a service: the map's, or that of a backup line.
    fn serves_from(&mut self, number: usize, service: usize) -> Option<SiteId> {
        let now = self.clock.now();
        let first = self.proxies[number].map.get(&service_id(service)).copied();
        let sites = (0..self.plan.cast.services[service].len()).map(site_id);
        let order = first.into_iter().chain(sites.filter(|site| Some(*site) != first));
        let all = self.servers_of(service);
        for site in order {
            let mut used = false;
            for (server, place, _) in all.iter().filter(|(_, place, _)| site_id(*place) == site) {
                if !self.proxies[number].uses(*server) {
                    continue;
                }
                match self.meets(*server, now) {
                    Some(Met::Well) => return Some(site),
                    // The first client that meets a closed port takes it out (`observe layer4`).
                    Some(Met::Wrong) if self.refuses(*place, *server) => {
                        self.proxies[number].checks.entry(*server).and_modify(Checks::mark_down);
                    }
                    _ => used = true,
                }
            }
            if used {
                // Clients wait there, or are told an error.
                return None;
            }
        }
        None
    }

    /// Whether connections to a server are refused.
    fn refuses(&self, site: usize, server: ServerId) -> bool {
        let now = self.clock.now();
        let all = self.pools.iter().flat_map(|all| all.iter());
        let container = all.into_iter().find(|(of, ..)| *of == server).map(|(.., container)| *container);
        container.map(|number| &self.containers[number]).is_some_and(|of| !of.runs() || now < of.ready)
            && self.proxy_reaches(site)
    }

    /// The servers of a service: each with its site and its container.
    pub(crate) fn servers_of(&self, service: usize) -> Arc<[(ServerId, usize, usize)]> {
        Arc::clone(&self.pools[service])
    }

    /// Sets every route that is not known to be in force, and reports those that were read back.
    pub(crate) fn route(&mut self, number: usize) {
        let (now, began) = (self.clock.now(), self.now().boot);
        let file_takes = self.proxy_rng.i64(2..40);
        let Some(keeper) = self.keeper(number) else { return };
        if !keeper.known.may_write(&keeper.desired) {
            return self.publish_in_force(number);
        }
        let missing = keeper.known.missing(&keeper.desired);
        let whole: BTreeMap<ServiceId, SiteId> =
            keeper.desired.routes.iter().map(|(service, route)| (*service, route.site)).collect();
        let proxy = &mut self.proxies[number];
        if !proxy.answers(now) {
            // What was sent is in its socket, though nobody waits for the answer any more.
            let sent = missing.into_iter().map(|(service, route)| (service, route.site)).collect();
            self.lie_in_socket(number, 1, sent, BTreeMap::new());
        } else {
            let stubborn = now < proxy.stubborn_until;
            // It says yes; what is read back may differ.
            let takes = |service: &ServiceId, route: &DesiredRoute| {
                !stubborn || proxy.map.get(service) == Some(&route.site)
            };
            let (taken, refused): (BTreeMap<_, _>, BTreeMap<_, _>) =
                missing.into_iter().partition(|(service, route)| takes(service, route));
            if !refused.is_empty() {
                self.count(Kind::RouteNotTaken);
            }
            let generations: BTreeMap<ServiceId, u64> =
                taken.iter().map(|(service, route)| (*service, route.generation)).collect();
            for (service, route) in taken {
                self.proxies[number].map.insert(service, route.site);
                if let Some(keeper) = self.keeper(number) {
                    keeper.known.took(service, route);
                }
            }
            let proxy = self.proxies[number].id;
            if !generations.is_empty() {
                self.at_edge(1, move |world| {
                    let took = world.now().boot.since(began);
                    world.put_hard(Event::Routed(Routed { proxy, generations, took }));
                });
            }
        }
        self.publish_in_force(number);
        // The file follows; a process that dies meanwhile leaves the old one.
        if self.proxies[number].file != whole && !whole.is_empty() {
            self.at_edge(file_takes, move |world| {
                let now = world.clock.now();
                if now < world.proxies[number].file_lost_until {
                    return world.count(Kind::MapFileLost);
                }
                world.proxies[number].file.extend(whole);
            });
        }
    }

    /// Tells servers that are not known to be as wanted.
    fn administer(&mut self, number: usize) {
        let now = self.clock.now();
        let answers = self.proxies[number].answers(now);
        let Some(keeper) = self.keeper(number) else { return };
        if !keeper.known.may_write(&keeper.desired) {
            return;
        }
        let differs = |seen: &BTreeMap<ServerId, AdminSeen>| {
            keeper.desired.servers.iter().any(|(server, wanted)| {
                let shown = seen.get(server).copied().unwrap_or_default();
                agreement(wanted.admin, &wanted.ours, shown) == Agreement::Differs
            })
        };
        let decided = keeper.known.has_new_orders(&keeper.desired);
        if !answers || !(decided || keeper.seen_out.as_ref().is_some_and(differs)) {
            return;
        }
        let wanted = keeper.desired.clone();
        keeper.known.administered(&wanted);
        for (server, of) in &wanted.servers {
            let was = self.proxies[number].out.get(server).is_some_and(|seen| seen.maint);
            self.proxies[number].set_server(*server, of);
            if was && of.admin == Admin::Ready {
                let next = now + self.proxy_rng.i64(0..1_000);
                let checks = self.proxies[number].checks.entry(*server);
                // It is believed in, but for what we know better.
                checks.and_modify(|checks| match wanted.down.contains_key(server) {
                    true => checks.mark_down(),
                    false => checks.believe(next),
                });
            }
        }
        if decided {
            self.look_in(number, 1);
        }
    }
}
