//! HAProxy, and the task that keeps one as it is decided: the real rules of what is written when ([`Known`]), and a small
//! model of what HAProxy does with it: a map that a restart reads from a file, servers that are taken out, checks of its own
//! and backup lines.

use crate::clockwork::Ms;
use crate::fault::Kind;
use crate::plan::{proxy_id, service_id, site_id};
use crate::world::World;
use std::collections::BTreeMap;
use std::sync::Arc;
use supervisor::actuator::haproxy::{Guard, Known};
use supervisor::domain::action::{Desired, DesiredServer, Evacuation, Finished, Outcome, Target};
use supervisor::domain::event::{CheckSeen, ConfigSeen, Configured, Event, ProxyIdentity, ProxySeen, Routed};
use supervisor::domain::maintenance::{Admin, AdminSeen, Agreement, agreement};
use supervisor::domain::{Boot, ProxyId, ServerId, ServiceId, SiteId, Span};

/// It is looked at each second.
const LOOK_EVERY: Ms = 1_000;

/// How long an evacuation waits for an obstacle, as the actuator has it.
const PATIENCE: Ms = 3_000;

/// As many evacuations may wait.
const EVACUATIONS_MAX: usize = 64;

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
    pub(crate) fn begin(&mut self, now: Ms) {
        self.up = true;
        self.pid += 7;
        self.started = 1_000 + now / 1_000;
        self.map = self.file.clone();
        self.out.clear();
    }
}

/// The task.
#[derive(Default)]
pub(crate) struct Keeper {
    pub(crate) known: Known,
    pub(crate) desired: Desired,
    /// What the last look showed of servers.
    seen_out: Option<BTreeMap<ServerId, AdminSeen>>,
    evacuations: Vec<(Evacuation, Ms)>,
    look: u64,
    advancing: bool,
}

impl World {
    pub(crate) fn begin_keepers(&mut self) {
        let ids: Vec<ProxyId> = self.proxies.iter().map(|proxy| proxy.id).collect();
        for (number, id) in ids.into_iter().enumerate() {
            let Some(supervisor) = &mut self.supervisor else { return };
            supervisor.keepers.insert(id, Keeper::default());
            self.look_in(number, 0);
            self.at_edge(200, move |world| world.configured(number));
        }
    }

    pub(crate) fn keeper(&mut self, number: usize) -> Option<&mut Keeper> {
        let id = self.proxies[number].id;
        self.supervisor.as_mut()?.keepers.get_mut(&id)
    }

    /// Its configuration is in force, as far as anybody tries.
    fn configured(&mut self, number: usize) {
        let now = self.clock.now();
        let proxy = &self.proxies[number];
        if !proxy.answers(now) || now < proxy.foreign_until {
            return self.at_edge(5_000, move |world| world.configured(number));
        }
        let config = ConfigSeen::InForce { revision: "a".to_owned() };
        let proxy = proxy.id;
        self.put_hard(Event::Configured(Configured { proxy, config, reload: None }));
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

    fn look_in(&mut self, number: usize, after: Ms) {
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
    fn look(&mut self, number: usize) {
        let (now, at) = (self.clock.now(), self.now().boot);
        let takes = self.proxy_rng.i64(1..4);
        let seen = self.proxies[number].answers(now).then(|| self.observe(number, at));
        self.at_edge(takes, move |world| {
            let Some(keeper) = world.keeper(number) else { return };
            match seen {
                None => {
                    keeper.known.lost();
                    keeper.seen_out = None;
                    let proxy = world.proxies[number].id;
                    world.put_hard(Event::ProxyLost { proxy });
                }
                Some(seen) => {
                    keeper.known.seen(seen.ours, &seen.routes);
                    keeper.seen_out.clone_from(&seen.out);
                    world.put_hard(Event::Proxy(seen));
                    world.route(number);
                }
            }
            world.advance(number);
            world.administer(number);
        });
        self.look_in(number, LOOK_EVERY);
    }

    /// What a look at `at` shows.
    fn observe(&self, number: usize, at: Boot) -> ProxySeen {
        let now = self.clock.now();
        let proxy = &self.proxies[number];
        let foreign = now < proxy.foreign_until;
        let mut checks = BTreeMap::new();
        let mut serving = BTreeMap::new();
        for service in 0..self.plan.cast.services.len() {
            let id = service_id(service);
            for (server, site, container) in self.servers_of(service).iter().copied() {
                let layer7_ok = self.proxy_reaches(site) && self.containers[container].serves(now);
                let check = CheckSeen { layer7_ok, usable: layer7_ok, age_at_most: Span::seconds(2) };
                checks.insert(server, check);
            }
            if let Some(site) = self.serves_from(number, service) {
                serving.insert(id, site);
            }
        }
        ProxySeen {
            proxy: proxy.id,
            at,
            identity: ProxyIdentity { pid: proxy.pid, started: proxy.started },
            owner: Some(if foreign { "somebody".to_owned() } else { "us".to_owned() }),
            ours: !foreign,
            routes: proxy.map.clone(),
            checks,
            serving,
            out: Some(proxy.out.clone()),
            master: None,
        }
    }

    /// The site whose servers answer clients of a service: the map's, or that of a backup line.
    pub(crate) fn serves_from(&self, number: usize, service: usize) -> Option<SiteId> {
        let now = self.clock.now();
        let proxy = &self.proxies[number];
        let first = proxy.map.get(&service_id(service)).copied();
        let sites = (0..self.plan.cast.services[service].len()).map(site_id);
        let order = first.into_iter().chain(sites.filter(|site| Some(*site) != first));
        let usable = |site: &SiteId| {
            self.servers_of(service).iter().copied().any(|(server, place, container)| {
                site_id(place) == *site
                    && self.proxy_reaches(place)
                    && self.containers[container].serves(now)
                    && proxy.out.get(&server).is_none_or(|seen| seen.admin() == Admin::Ready)
            })
        };
        order.into_iter().find(usable)
    }

    /// The servers of a service: each with its site and its container.
    pub(crate) fn servers_of(&self, service: usize) -> Arc<[(ServerId, usize, usize)]> {
        Arc::clone(&self.pools[service])
    }

    /// Sets every route that is not known to be in force, and reports those that were read back.
    fn route(&mut self, number: usize) {
        let (now, began) = (self.clock.now(), self.now().boot);
        let file_takes = self.proxy_rng.i64(2..40);
        let Some(keeper) = self.keeper(number) else { return };
        if !keeper.known.may_write(&keeper.desired) {
            return;
        }
        let missing = keeper.known.missing(&keeper.desired);
        let whole: BTreeMap<ServiceId, SiteId> =
            keeper.desired.routes.iter().map(|(service, route)| (*service, route.site)).collect();
        let proxy = &mut self.proxies[number];
        if !proxy.answers(now) {
            // What was sent is in its socket, though nobody waits for the answer any more.
            let sent = missing.into_iter().map(|(service, route)| (service, route.site)).collect();
            self.lie_in_socket(number, 1, sent, BTreeMap::new());
        } else if !missing.is_empty() {
            if now < proxy.stubborn_until {
                // It says yes; what is read back differs.
                self.count(Kind::RouteNotTaken);
            } else {
                let generations: BTreeMap<ServiceId, u64> =
                    missing.iter().map(|(service, route)| (*service, route.generation)).collect();
                for (service, route) in missing {
                    self.proxies[number].map.insert(service, route.site);
                    if let Some(keeper) = self.keeper(number) {
                        keeper.known.took(service, route);
                    }
                }
                let proxy = self.proxies[number].id;
                self.at_edge(1, move |world| {
                    let took = world.now().boot.since(began);
                    world.put_hard(Event::Routed(Routed { proxy, generations, took }));
                });
            }
        }
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
        for (server, wanted) in &wanted.servers {
            self.proxies[number].set_server(*server, wanted);
        }
        if decided {
            self.look_in(number, 1);
        }
    }

    /// An order to free what a server holds.
    pub(crate) fn evacuate(&mut self, evacuation: Evacuation) {
        let Some(number) = self.proxies.iter().position(|proxy| proxy.id == evacuation.proxy) else { return };
        let now = self.clock.now();
        let Some(keeper) = self.keeper(number) else { return };
        if keeper.evacuations.len() >= EVACUATIONS_MAX {
            return self.evacuated(&evacuation, Outcome::Failed("too many evacuations wait".to_owned()));
        }
        keeper.evacuations.push((evacuation, now + PATIENCE));
        self.at_edge(2, move |world| {
            world.route(number);
            world.advance(number);
        });
    }

    /// Begins what can begin, ends what cannot any more.
    fn advance(&mut self, number: usize) {
        let now = self.clock.now();
        let id = self.proxies[number].id;
        let answers = self.proxies[number].answers(now);
        let Some(keeper) = self.keeper(number) else { return };
        let mut blocked = false;
        for (order, until) in std::mem::take(&mut keeper.evacuations) {
            let Some(keeper) = self.keeper(number) else { return };
            match keeper.known.guard(id, &order, &keeper.desired) {
                Guard::Void => self.evacuated(&order, Outcome::Superseded),
                Guard::Blocked if now >= until => {
                    let words = "the route away from it was not in force within 3 s".to_owned();
                    self.evacuated(&order, Outcome::Failed(words));
                }
                Guard::Clear if answers => {
                    let takes = self.proxy_rng.i64(2..200);
                    self.at_edge(takes, move |world| world.evacuated(&order, Outcome::Done));
                }
                Guard::Clear if now >= until => {
                    self.evacuated(&order, Outcome::Failed("connection refused".to_owned()));
                }
                Guard::Blocked | Guard::Clear => {
                    blocked = true;
                    keeper.evacuations.push((order, until));
                }
            }
        }
        let Some(keeper) = self.keeper(number).filter(|_| blocked) else { return };
        if !std::mem::replace(&mut keeper.advancing, true) {
            self.at_edge(50, move |world| {
                if let Some(keeper) = world.keeper(number) {
                    keeper.advancing = false;
                    world.look(number);
                }
            });
        }
    }

    fn evacuated(&mut self, order: &Evacuation, outcome: Outcome) {
        let finished = Finished { action: order.id, of: Target::Server(order.server), outcome };
        self.put_hard(Event::Finished(finished));
    }
}
