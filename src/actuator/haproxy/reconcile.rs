//! The task that keeps one HAProxy as it is decided, its routes and its servers: looks each second, writes what differs,
//! reads it back, reports.
//!
//! ```text
//!   watch Desired ──► set_current ──► Event::Routed ──┬► old workers (a task: one that hangs delays no switch)
//!                                                     └► map file (a task: a disk never delays a switch)
//!   every second  ──► observe     ──► Event::Proxy / ProxyLost; what differs from Desired is set again
//!                     administer  ──► a look at once: what it shows, is reported
//!   Evacuation    ──► guard clear? ──► evacuate (a task of its own, see rescue) ──► Event::Finished
//! ```
//!
//! It takes no hint about what changed and decides nothing. It touches nothing before its first look, nothing while it is
//! told to be passive, and nothing in a HAProxy that another supervisor owns.

use super::evacuate::close_rescue_line;
use super::handoff::Handoff;
use super::ident::{Ident, MapPath};
use super::known::Known;
use super::naming;
use super::observe::{Observed, observe};
use super::old_workers::{InForce, keep_old_workers};
use super::rescue::Rescues;
use super::runtime::Runtime;
use super::servers;
use super::switch::{Routes, SwitchError, map_file, set_current};
use crate::domain::action::{Desired, DesiredRoute, Evacuation};
use crate::domain::event::{CheckSeen, Event, MasterSeen, ProxyIdentity, ProxySeen, Routed};
use crate::domain::id::{ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::time::{Boot, Span};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// One HAProxy as the settings describe it.
#[derive(Debug, Clone)]
pub struct Driver {
    /// Its name.
    pub proxy: ProxyId,
    /// Our `OWNER`.
    pub owner: String,
    /// Treat another owner's HAProxy as ours (`run --take-over`).
    pub take_over: bool,
    /// Its sockets.
    pub runtime: Runtime,
    /// The map, as HAProxy sees it.
    pub map_path: MapPath,
    /// The map's file, as we see it.
    pub map_file: PathBuf,
    /// How often to look.
    pub look_every: Duration,
    /// How old a check of HAProxy's may be, by service: its interval plus its timeout.
    pub check_age: BTreeMap<ServiceId, Span>,
    /// The boot clock.
    pub clock: fn() -> Boot,
    /// What is shared with who changes its configuration.
    pub handoff: Handoff,
    /// Its configuration is somebody else's: its servers are left alone.
    pub external: bool,
}

impl Driver {
    /// Whether an HAProxy whose description names this owner, or none, is ours to write to.
    fn owns(&self, owner: Option<&str>) -> bool {
        self.take_over || owner.is_none_or(|owner| owner == self.owner)
    }

    /// What a look shows, in the core's words; with an earlier look, also who served since then. `lasts`: no other worker is
    /// about to take over with the servers as they were before.
    fn translate(&self, at: Boot, seen: &Observed, before: Option<&Observed>, lasts: bool) -> ProxySeen {
        let mut checks = BTreeMap::new();
        for ((backend, server), state) in &seen.servers {
            let Some((service, _)) = naming::pool_of(backend) else { continue };
            let (Ok(service), Ok(name)) = (service.parse::<ServiceId>(), server.parse()) else { continue };
            let Some(age_at_most) = self.check_age.get(&service).copied() else { continue };
            let layer7_ok = state.check_status.as_deref() == Some("L7OK");
            let check = CheckSeen { layer7_ok, usable: state.usable, age_at_most };
            checks.insert(ServerId { service, server: name }, check);
        }
        let mut serving = BTreeMap::new();
        let served = before.map(|before| seen.served_since(before)).unwrap_or_default();
        for (service, sites) in served {
            let most = sites.into_iter().max_by_key(|(_, count)| *count);
            if let (Ok(service), Some(Ok(site))) = (service.parse(), most.map(|(site, _)| site.parse())) {
                serving.insert(service, site);
            }
        }
        ProxySeen {
            proxy: self.proxy,
            at,
            identity: ProxyIdentity { pid: seen.pid, started: seen.started },
            master: seen.master.as_ref().map(|master| MasterSeen {
                old_workers: u32::try_from(master.old_workers.len()).unwrap_or(u32::MAX),
                failed_reloads: master.failed_reloads,
            }),
            owner: seen.owner.clone(),
            ours: self.owns(seen.owner.as_deref()),
            routes: live_routes(seen),
            checks,
            serving,
            out: (lasts && !self.external).then(|| servers::out(seen)),
        }
    }
}

/// Looks once: [`Event::Proxy`] or [`Event::ProxyLost`].
pub async fn look(driver: &Driver) -> Event {
    let at = (driver.clock)();
    match observe(&driver.runtime, &driver.map_path).await {
        Ok(seen) => Event::Proxy(driver.translate(at, &seen, None, seen.is_current())),
        Err(_) => Event::ProxyLost { proxy: driver.proxy },
    }
}

/// Drives one HAProxy until the channel of what is desired closes.
///
/// Dropping it stops between two exchanges at the latest; HAProxy stays as it is, but for a rescue line that an evacuation
/// may have open: the next start closes it.
pub async fn run(
    driver: Driver,
    mut desired: watch::Receiver<Desired>,
    evacuations: &mut mpsc::Receiver<Evacuation>,
    events: mpsc::Sender<Event>,
) {
    let handoff = driver.handoff.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(handoff.clone().keep_file());
    let (current, told) = watch::channel(None);
    let (runtime, map) = (driver.runtime.clone(), driver.map_path.clone());
    tasks.spawn(keep_old_workers(driver.proxy, runtime, map, told, handoff.clone()));
    let mut this = Reconciler { driver, events, current, last: None, known: Known::default() };
    let mut rescues = Rescues::default();
    let mut looks = interval(this.driver.look_every);
    // A late look is not made up for: the next one sees everything.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut evacuations_open = true;
    loop {
        let due = rescues.due();
        // Each branch is cancel-safe: none loses anything when another one wins. A new route goes first: it moves traffic,
        // and evacuations wait for it.
        tokio::select! {
            biased;
            changed = desired.changed() => {
                if changed.is_err() {
                    return;
                }
                let wanted = desired.borrow_and_update().clone();
                this.route(&wanted).await;
            }
            order = evacuations.recv(), if evacuations_open && rescues.has_room() => match order {
                None => evacuations_open = false,
                Some(order) => {
                    // Published before the order was sent, so it is there by now; its switch must come first.
                    let wanted = desired.borrow_and_update().clone();
                    this.route(&wanted).await;
                    rescues.take(order);
                }
            },
            Some(ended) = rescues.ended() => if let Some(end) = rescues.conclude(ended) {
                this.tell(Event::Finished(end)).await;
            },
            () = handoff.look_asked() => looks.reset_immediately(),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => if rescues.wants_look() {
                looks.reset_immediately();
            },
            _ = looks.tick() => {
                let wanted = desired.borrow().clone();
                this.look(&wanted, rescues.none_runs()).await;
            }
        }
        let wanted = desired.borrow().clone();
        let ended = rescues
            .advance(&this.driver.runtime, |order| this.known.guard(this.driver.proxy, order, &wanted));
        for end in ended {
            this.tell(Event::Finished(end)).await;
        }
        // Last: what moves traffic does not wait for it.
        this.administer(&wanted).await;
    }
}

struct Reconciler {
    driver: Driver,
    events: mpsc::Sender<Event>,
    /// What old workers shall route too; none while nothing may be touched.
    current: watch::Sender<Option<InForce>>,
    /// The last look that succeeded; none while HAProxy does not answer.
    last: Option<Observed>,
    known: Known,
}

impl Reconciler {
    async fn look(&mut self, wanted: &Desired, no_rescue_runs: bool) {
        let at = (self.driver.clock)();
        let calm = self.driver.handoff.calm();
        let seen = match observe(&self.driver.runtime, &self.driver.map_path).await {
            Ok(seen) => seen,
            Err(error) => {
                self.last = None;
                if self.known.lost() {
                    tracing::warn!(proxy = %self.driver.proxy, error = &error as &dyn std::error::Error, "HAProxy is lost");
                }
                self.current.send_replace(None);
                self.tell(Event::ProxyLost { proxy: self.driver.proxy }).await;
                return;
            }
        };
        let live = live_routes(&seen);
        self.known.seen(self.driver.owns(seen.owner.as_deref()), &live);
        let lasts = calm.is_some() && calm == self.driver.handoff.calm() && seen.is_current();
        let event = Event::Proxy(self.driver.translate(at, &seen, self.last.as_ref(), lasts));
        let open: Vec<(Ident, Ident)> = seen
            .open_rescue_lines()
            .filter_map(|(backend, line)| Some((backend.parse().ok()?, line.parse().ok()?)))
            .collect();
        self.last = Some(seen);
        self.tell(event).await;
        if no_rescue_runs && self.known.may_write(wanted) {
            for (backend, line) in open {
                if let Err(error) = close_rescue_line(&self.driver.runtime, &backend, &line).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a rescue line stays open");
                }
            }
        }
        self.route(wanted).await;
    }

    /// Sets every route that is not known to be in force, and reports those that were read back.
    async fn route(&mut self, wanted: &Desired) {
        if !self.known.may_write(wanted) {
            self.current.send_replace(None);
            return;
        }
        let began = (self.driver.clock)();
        let missing = self.known.missing(wanted);
        let mut pid = self.last.as_ref().map(|seen| seen.pid);
        let mut generations = BTreeMap::new();
        if !missing.is_empty() {
            let done = self.set(&missing).await;
            generations.extend(done.iter().map(|(service, (_, route))| (*service, route.generation)));
            for (service, (by, route)) in done {
                if pid.replace(by) != Some(by) {
                    // Not the worker of the last look: what else was in force there may not be here.
                    self.driver.handoff.look_now();
                }
                self.known.took(service, route);
            }
        }
        // Whoever waits for the report finds the file on its way.
        self.publish_in_force(wanted, pid);
        self.publish_file(wanted);
        if !generations.is_empty() {
            let took = (self.driver.clock)().since(began);
            self.tell(Event::Routed(Routed { proxy: self.driver.proxy, generations, took })).await;
        }
    }

    /// Tells servers that are not known to be as wanted. What came of it, a look tells: at once after a new decision; what
    /// HAProxy lost, or somebody changed, is in no such hurry, and whoever changes it again and again is not raced.
    async fn administer(&mut self, wanted: &Desired) {
        if self.driver.external || !self.known.may_write(wanted) {
            return;
        }
        let decided = self.known.has_new_orders(wanted);
        let differs = self.last.as_ref().is_some_and(|seen| servers::differ(wanted, seen));
        if !decided && !differs {
            return;
        }
        match servers::administer(&self.driver.runtime, wanted).await {
            Ok(_) => self.known.administered(wanted),
            Err(error) => {
                let (proxy, error) = (self.driver.proxy, &error as &dyn std::error::Error);
                tracing::warn!(%proxy, error, "HAProxy does not take its servers out of service, or back");
                return;
            }
        }
        if decided {
            self.driver.handoff.look_now();
        }
    }

    /// All at once; if that is refused, each by itself, so that one service without a backend does not hold the others.
    /// Gives what was read back, with the process id of the worker.
    async fn set(
        &self,
        missing: &BTreeMap<ServiceId, DesiredRoute>,
    ) -> BTreeMap<ServiceId, (u32, DesiredRoute)> {
        let (runtime, map) = (&self.driver.runtime, &self.driver.map_path);
        let mut done = BTreeMap::new();
        let mut set = set_current(runtime, map, &in_haproxy(missing)).await;
        if set.as_ref().is_err_and(SwitchError::is_cut_off) {
            // Whether it was done is unknown, and to do it again does no harm: clients do not wait for the next look.
            set = set_current(runtime, map, &in_haproxy(missing)).await;
        }
        match set {
            Ok((pid, _)) => done.extend(missing.iter().map(|(service, route)| (*service, (pid, *route)))),
            Err(SwitchError::NoSuchBackend { .. } | SwitchError::NotInForce { .. }) if missing.len() > 1 => {
                for (service, route) in missing {
                    let one = BTreeMap::from([(*service, *route)]);
                    match set_current(runtime, map, &in_haproxy(&one)).await {
                        Ok((pid, _)) => {
                            done.insert(*service, (pid, *route));
                        }
                        Err(error) => refused(&self.driver, &error),
                    }
                }
            }
            Err(error) => refused(&self.driver, &error),
        }
        done
    }

    /// Old workers follow what the current one was read to do. A new process id makes them be told anew: the last current
    /// worker is one of them now.
    fn publish_in_force(&self, wanted: &Desired, pid: Option<u32>) {
        let routes = self.known.in_force(wanted);
        let new = pid.filter(|_| !routes.is_empty()).map(|pid| InForce { pid, routes: in_haproxy(&routes) });
        self.current.send_if_modified(|now| {
            let differs = *now != new;
            *now = new;
            differs
        });
    }

    /// What the file shall hold: what is there, and over it what is decided. Services without a decision keep theirs.
    fn publish_file(&self, wanted: &Desired) {
        if wanted.routes.is_empty() {
            return;
        }
        let there = self.last.as_ref().and_then(|seen| seen.routes.as_ref()).into_iter().flatten();
        let mut whole: Routes =
            there.filter_map(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?))).collect();
        whole.extend(in_haproxy(&wanted.routes));
        self.driver.handoff.want(&self.driver.map_file, map_file(&whole));
    }

    /// A closed channel means that the daemon ends; the loop ends with it.
    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }
}

fn refused(driver: &Driver, error: &SwitchError) {
    // An HAProxy that does not run our configuration yet gets it within moments; the routes follow by themselves.
    if matches!(error, SwitchError::NoSuchMap(_)) {
        tracing::debug!(proxy = %driver.proxy, %error, "the routes wait for HAProxy's configuration");
        return;
    }
    tracing::warn!(proxy = %driver.proxy, error = error as &dyn std::error::Error, "HAProxy does not take its routes");
}

/// Services and sites as keys and values of the map. Their names are stricter than HAProxy's, so none is left out.
fn in_haproxy(routes: &BTreeMap<ServiceId, DesiredRoute>) -> Routes {
    let entry = |(service, route): (&ServiceId, &DesiredRoute)| {
        let backend = naming::pool_backend(service.as_str(), route.site.as_str()).ok()?;
        Some((service.as_str().parse().ok()?, backend))
    };
    routes.iter().filter_map(entry).collect()
}

/// The map's entries that lead a service to one of its pools.
fn live_routes(seen: &Observed) -> BTreeMap<ServiceId, SiteId> {
    let entry = |(key, backend): (&String, &String)| {
        let (service, site) = naming::pool_of(backend)?;
        (service == key).then_some(())?;
        Some((service.parse().ok()?, site.parse().ok()?))
    };
    seen.routes.iter().flatten().filter_map(entry).collect()
}
