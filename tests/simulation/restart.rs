//! How one process of supervisor follows another: the lock of the state directory, an end in order, an end at once, and what
//! the old one had begun and others carry out while the new one runs.
//!
//! Two of them never decide at once: the second finds the lock and exits (69) before it touches anything. But the lock ends
//! with its process, and what the process had sent does not: Docker goes on with a start, a relay with a mail, and HAProxy
//! reads a command from its socket whether or not anybody waits for the answer.

use crate::clockwork::Ms;
use crate::fault::Kind;
use crate::process::Death;
use crate::world::{RESTART_SEC, World};
use std::collections::BTreeMap;
use supervisor::domain::action::DesiredServer;
use supervisor::domain::{ServerId, ServiceId, SiteId};

/// What has not ended by then is killed by systemd (`TimeoutStopSec=` of the unit).
const STOPS_WITHIN: Ms = 10_000;

/// At an end in order, mails on their way, the store and the map files have so long, as the daemon has it.
const MAILS_CLOSE: Ms = 500;
const STORE_CLOSE: Ms = 1_000;

/// Something that ends is looked at so often.
const LOOKS: Ms = 10;

/// How a process follows another.
#[derive(Default)]
pub(crate) struct Restarts {
    /// The next death is followed by a beginning after so long; by systemd's, if nobody says otherwise.
    next: Option<Ms>,
    /// Of each container, the restart that Docker carries out for us: in which life, until when.
    under_way: BTreeMap<usize, (u64, Ms)>,
}

impl World {
    /// One process is to follow another at once.
    pub(crate) fn overlap(&mut self, much: u32, lasts: Ms) {
        // A program is executed, and reads its settings and its store.
        let at_once = Ms::from(much % 7) * 30 + 20;
        match much % 4 {
            // `systemctl restart`.
            0 => self.stop_process(at_once),
            // Somebody starts a second one, which tries each second, and stops the first.
            1 => {
                self.begin();
                self.stop_process(lasts.min(RESTART_SEC));
            }
            // It is killed, and Docker's policy or a person starts another.
            2 => self.die_for(at_once),
            // The same, in the middle of a step.
            _ => {
                self.restarts.next = Some(at_once);
                if let Some(supervisor) = &mut self.supervisor {
                    supervisor.dies_at = Some((Death::Published, 1 + much / 4 % 5));
                }
            }
        }
    }

    /// How long after a death the next process begins.
    pub(crate) fn begins_in(&mut self) -> Ms {
        self.restarts.next.take().unwrap_or(RESTART_SEC)
    }

    /// It is told to end (SIGTERM); another one begins `next` after its end.
    fn stop_process(&mut self, next: Ms) {
        let Some(run) = self.run() else { return };
        self.at_edge(0, move |world| world.stops(next));
        self.clock.after(STOPS_WITHIN, move |world| {
            if world.runs(run) {
                world.die_for(next);
            }
        });
    }

    /// The loop has ended, and its edges with it. Starts and restarts are tasks of their own, and go on for as long as the
    /// process does.
    fn stops(&mut self, next: Ms) {
        let until = self.clock.now() + MAILS_CLOSE;
        self.leave_commands();
        self.write_map_files();
        let Some(supervisor) = &mut self.supervisor else { return };
        if std::mem::replace(&mut supervisor.stopping, true) {
            return;
        }
        supervisor.probers.clear();
        supervisor.keepers.clear();
        supervisor.watchers.clear();
        supervisor.rounds.clear();
        supervisor.postman.stop();
        self.await_mails(until, next);
    }

    fn await_mails(&mut self, until: Ms, next: Ms) {
        let now = self.clock.now();
        let Some(supervisor) = &mut self.supervisor else { return };
        if supervisor.postman.is_away() && now < until {
            return self.at_edge(LOOKS, move |world| world.await_mails(until, next));
        }
        supervisor.postman.abort();
        self.await_store(now + STORE_CLOSE, next);
    }

    /// The lock is given back when the writer has ended, or with the process.
    fn await_store(&mut self, until: Ms, next: Ms) {
        if !self.disk.is_idle() && self.clock.now() < until {
            return self.at_edge(LOOKS, move |world| world.await_store(until, next));
        }
        self.die_for(next);
    }

    /// What an HAProxy has been sent by a process that ends it carries out: soon, or when it reads its sockets again.
    pub(crate) fn leave_commands(&mut self) {
        for number in 0..self.proxies.len() {
            let sent = self.proxy_rng.bool();
            let after = self.proxy_rng.i64(1..50);
            let Some(keeper) = self.keeper(number) else { continue };
            if !sent || !keeper.known.may_write(&keeper.desired) {
                continue;
            }
            let missing = keeper.known.missing(&keeper.desired);
            let routes = missing.into_iter().map(|(service, route)| (service, route.site)).collect();
            let servers = match keeper.known.has_new_orders(&keeper.desired) {
                true => keeper.desired.servers.clone(),
                false => BTreeMap::new(),
            };
            self.lie_in_socket(number, after, routes, servers);
        }
    }

    /// Commands for an HAProxy that nobody waits for any more.
    pub(crate) fn lie_in_socket(
        &mut self,
        number: usize,
        after: Ms,
        routes: BTreeMap<ServiceId, SiteId>,
        servers: BTreeMap<ServerId, DesiredServer>,
    ) {
        let now = self.clock.now();
        let proxy = &self.proxies[number];
        if !proxy.up || (routes.is_empty() && servers.is_empty()) {
            return;
        }
        let pid = proxy.pid;
        let after = (proxy.deaf_until - now).max(0) + after;
        self.clock.after(after, move |world| {
            let proxy = &mut world.proxies[number];
            // Its socket ends with it.
            if !proxy.up || proxy.pid != pid {
                return;
            }
            proxy.map.extend(routes);
            for (server, wanted) in &servers {
                proxy.set_server(*server, wanted);
            }
        });
    }

    /// What the map files lack is tried once more.
    fn write_map_files(&mut self) {
        let now = self.clock.now();
        for number in 0..self.proxies.len() {
            let Some(keeper) = self.keeper(number) else { continue };
            let routes = keeper.desired.routes.iter();
            let whole: BTreeMap<ServiceId, SiteId> =
                routes.map(|(service, route)| (*service, route.site)).collect();
            let may = keeper.known.may_write(&keeper.desired);
            let proxy = &mut self.proxies[number];
            if may && now >= proxy.file_lost_until {
                proxy.file.extend(whole);
            }
        }
    }

    /// Docker is about to be asked to restart a container.
    pub(crate) fn judge_restart(&mut self, number: usize) {
        let now = self.clock.now();
        let container = &self.containers[number];
        let (life, until) = (container.life, now + container.stop_timeout);
        let before = self.restarts.under_way.insert(number, (life, until));
        // What was not on the disk, the next process does not know.
        let knows = !self.disk.died_degraded && !self.injected.contains_key(&Kind::RecordTorn);
        if knows && before.is_some_and(|(of, until)| of == life && now < until) {
            let name = self.containers[number].name.clone();
            self.violate(format!("I4: {name} is restarted while a restart of ours is under way"));
        }
    }
}
