//! Faults happen, and end.

use crate::clockwork::Ms;
use crate::docker::{Ended, Starter};
use crate::fault::{Fault, Kind};
use crate::plan::{service_id, site_id};
use crate::process::Death;
use crate::world::{RESTART_SEC, World};
use supervisor::alert::email::Stage;
use supervisor::domain::command::Scope;
use supervisor::domain::event::ContainerStatus;
use supervisor::domain::maintenance::{Admin, AdminSeen};
use supervisor::domain::{Event, Order, ServerId, Span};

/// So often people try again to take back what they ordered.
const TAKES_BACK: u32 = 4;

impl World {
    /// A fault happens, if it can.
    pub(crate) fn happen(&mut self, fault: Fault) {
        let Fault { kind, whom, lasts, much } = fault;
        self.note(|| format!("FAULT {} {fault:?}", kind.name()));
        let now = self.clock.now();
        let until = now + lasts;
        let number = whom % self.containers.len();
        let engine = whom % self.engines.len();
        let proxy = whom % self.proxies.len();
        let site = whom % self.cut.len();
        let peer = whom.checked_rem(self.peers.len());
        let relay = whom.checked_rem(self.relays.len());
        let container = &mut self.containers[number];
        match kind {
            Kind::Crash => self.crash(number, i32::try_from(much).unwrap_or(1)),
            Kind::CleanExit => self.crash(number, 0),
            Kind::OutOfMemory => self.run_out_of_memory(number),
            Kind::CrashLoop => {
                container.loops_until = until;
                container.loop_exit = i32::try_from(much).unwrap_or(1);
                let exit = container.loop_exit;
                self.crash(number, exit);
            }
            Kind::StartFails => container.start_fails_until = until,
            Kind::Hang => container.hangs_until = until,
            Kind::Sick => {
                container.sick_until = until;
                container.sick_code = [500, 503, 404][much as usize % 3];
            }
            Kind::Slow => {
                container.slow_until = until;
                container.slow_by = Ms::from(much);
            }
            Kind::Pause => self.pause(number, lasts),
            Kind::ProbeLies => self.lies[number] = (until, much),
            Kind::ProbeLate => self.probes_late = (until, Ms::from(much)),
            Kind::OwnResources => self.own_resources_until = until,
            Kind::ProberSilent => {
                if let Some(supervisor) = &mut self.supervisor
                    && !supervisor.probers.is_empty()
                {
                    let number = whom % supervisor.probers.len();
                    supervisor.probers[number].silent = true;
                }
            }
            Kind::Stop => self.stop(number),
            Kind::Kill => self.kill(number),
            Kind::Hangup => self.hangup(number),
            Kind::StartByHand => drop(self.start(number, Starter::Person)),
            Kind::Restart => self.restart(number, Starter::Person),
            Kind::Recreate => self.recreate(number, lasts.min(20_000)),
            Kind::EventLost => self.engines[engine].lose = (until, much),
            Kind::EventDoubled => self.engines[engine].double = (until, much),
            Kind::EventReordered => self.engines[engine].reorder = (until, much),
            Kind::StreamDead => self.engines[engine].dead_until = until,
            Kind::EngineDown => self.engine_down(engine, lasts.min(60_000)),
            Kind::EngineKilled => self.engine_killed(engine, lasts.min(60_000)),
            Kind::EngineHangs => self.engines[engine].hangs_until = until,
            Kind::EngineForgets => self.forget_past(engine),
            Kind::ProxyRestart => self.proxy_away(proxy, 300),
            Kind::ProxyDown => self.proxy_away(proxy, lasts),
            Kind::ProxyReload => self.reload_proxy(proxy, None),
            Kind::ProxyRefuses => self.proxies[proxy].refuses_until = until,
            Kind::ProxyEdit => {
                let service = whom % self.plan.cast.services.len();
                let to = much as usize % self.plan.cast.services[service].len();
                let (id, to) = (service_id(service), site_id(to));
                let of = &mut self.proxies[proxy];
                if of.map.insert(id, to) != Some(to) {
                    // It may have been right until now.
                    of.strays_since.remove(&id);
                }
            }
            Kind::ProxyAdmin => {
                let (server, _, _) = self.some_server(whom);
                let shown = AdminSeen {
                    drain: much.is_multiple_of(2),
                    maint: !much.is_multiple_of(2),
                    disabled: false,
                };
                self.proxies[proxy].out.insert(server, shown);
                self.clock.after(lasts, move |world| {
                    world.proxies[proxy].out.remove(&server);
                });
            }
            Kind::ProxyForeign => self.proxies[proxy].foreign_until = until,
            Kind::ProxyDeaf => self.proxies[proxy].deaf_until = until,
            Kind::RouteNotTaken => self.proxies[proxy].stubborn_until = until,
            Kind::MapFileLost => self.proxies[proxy].file_lost_until = until,
            Kind::PeerDown | Kind::PeerHangs | Kind::PeerLoses | Kind::PeerRejects => {
                let Some(peer) = peer else { return };
                let of = &mut self.peers[peer];
                match kind {
                    Kind::PeerDown => {
                        of.down_until = until;
                        of.forget();
                    }
                    Kind::PeerHangs => of.hangs_until = until,
                    Kind::PeerLoses => {
                        of.loses_until = until;
                        of.forget();
                    }
                    _ => of.rejects_until = until,
                }
            }
            Kind::PeerRestart => {
                let Some(peer) = peer else { return };
                self.peers[peer].down_until = now + 300;
                self.peers[peer].forget();
            }
            Kind::PeerSilences => {
                let Some(peer) = peer else { return };
                let service = service_id(whom % self.plan.cast.services.len()).to_string();
                self.silence(peer, &service, lasts);
            }
            Kind::RelayDown => self.with_relay(relay, |of| of.down_until = until),
            Kind::RelayDefers => self.with_relay(relay, |of| of.defers_until = until),
            Kind::RelayRefuses => self.with_relay(relay, |of| of.refuses_until = until),
            Kind::RelayLosesReply => self.with_relay(relay, |of| of.loses_reply_until = until),
            Kind::RelayDeclines => {
                let stage = if much.is_multiple_of(2) { Stage::Greeting } else { Stage::Mail };
                self.with_relay(relay, |of| of.declines = (until, stage));
            }
            Kind::RelaySilent => self.with_relay(relay, |of| of.silent_until = until),
            Kind::DiskSlow => {
                self.disk.slow_until = until;
                self.disk.slow_by = Ms::from(much);
            }
            Kind::DiskFull => self.disk.full_until = until,
            Kind::DiskHangs => self.disk.hangs_until = until,
            Kind::RecordTorn => {
                if let Some(torn) = self.disk.tear(u64::from(much % 3)) {
                    self.judge_torn(torn);
                }
                self.die();
            }
            Kind::ProcessKilled => self.die_for(RESTART_SEC.max(lasts.min(30_000))),
            Kind::KilledInStep => {
                let deaths = [Death::Decided, Death::Published, Death::Submitted];
                if let Some(supervisor) = &mut self.supervisor {
                    supervisor.dies_at = Some((deaths[much as usize % 3], 1 + much / 3 % 5));
                }
            }
            Kind::Overlap => self.overlap(much, lasts),
            Kind::ProcessFrozen => self.freeze(lasts),
            Kind::Reboot => self.reboot(),
            Kind::ClockJumps => {
                let by = [-3_600_000, -60_000, -1_000, 1_000, 60_000, 3_600_000][much as usize % 6];
                self.wall_ahead += by;
            }
            Kind::SiteCut => self.cut[site].0 = until,
            Kind::PathCut => self.cut[site].1 = until,
            Kind::WeAreCut => self.we_are_cut_until = until,
            Kind::SiteDead => self.site_dies(site, lasts),
            Kind::OrderFailover => self.people_order(self.failover(whom, much), "ada"),
            Kind::OrderFailback => {
                let service = service_id(whom % self.plan.cast.services.len());
                self.people_order(Order::Failback { service, seen: None, force: false }, "ada");
            }
            Kind::OrderPause => {
                let lasts = (!much.is_multiple_of(3)).then_some(Span(u64::try_from(lasts).unwrap_or(0)));
                self.people_order(Order::Pause { scope: self.scope(whom), lasts }, "bob");
            }
            Kind::OrderResume => self.people_order(Order::Resume { scope: self.scope(whom) }, "bob"),
            Kind::OrderMaintain => {
                let (server, _, _) = self.some_server(whom);
                let admin = [Admin::Ready, Admin::Drain, Admin::Maint][much as usize % 3];
                let lasts = much.is_multiple_of(2).then_some(Span(u64::try_from(lasts).unwrap_or(0)));
                let force = much.is_multiple_of(5);
                self.people_order(Order::Maintain { server, admin, lasts, force }, "eve");
            }
            Kind::OrderTest => self.people_order(Order::TestAlert, "eve"),
            Kind::TwoAtOnce => {
                self.people_order(self.failover(whom, much), "ada");
                let other = self.failover(whom, much + 1);
                self.people_order(other, "bob");
            }
            Kind::PolicyReload => self.reload(u8::try_from(much % 4).unwrap_or(0)),
        }
        self.count(kind);
    }

    fn with_relay(&mut self, relay: Option<usize>, with: impl FnOnce(&mut crate::alerts::MailRelay)) {
        if let Some(relay) = relay.and_then(|relay| self.relays.get_mut(relay)) {
            with(relay);
        }
    }

    fn some_server(&self, whom: usize) -> (ServerId, usize, usize) {
        let service = whom % self.plan.cast.services.len();
        let all = self.servers_of(service);
        all[whom / 7 % all.len()]
    }

    fn failover(&self, whom: usize, much: u32) -> Order {
        let service = whom % self.plan.cast.services.len();
        let to = site_id(much as usize % self.plan.cast.services[service].len());
        Order::Failover {
            service: service_id(service),
            to,
            force: much.is_multiple_of(7),
            seen: None,
            lasts: much.is_multiple_of(2).then_some(Span::seconds(u64::from(much % 200))),
            pin: much.is_multiple_of(11),
        }
    }

    fn scope(&self, whom: usize) -> Scope {
        match whom % 3 {
            0 => Scope::All,
            1 => Scope::Service(service_id(whom / 3 % self.plan.cast.services.len())),
            _ => Scope::Site(site_id(whom / 3 % self.plan.cast.site_count())),
        }
    }

    fn people_order(&mut self, order: Order, by: &str) {
        let _ = self.order(order, by);
    }

    fn forget_past(&mut self, engine: usize) {
        self.engines[engine].events.clear();
        self.engines[engine].forgot = true;
        for container in self.containers.iter_mut().filter(|of| of.engine == engine) {
            container.lost_an_event();
        }
    }

    fn proxy_away(&mut self, number: usize, lasts: Ms) {
        if !std::mem::replace(&mut self.proxies[number].up, false) {
            return;
        }
        self.clock.after(lasts, move |world| {
            let now = world.clock.now();
            world.proxies[number].start(now);
        });
    }

    /// The machine of supervisor and of HAProxy starts anew.
    fn reboot(&mut self) {
        let now = self.clock.now();
        self.die_for(5_000);
        self.boot_id += 1;
        // The boot clock begins anew.
        self.booted = now - 3_000;
        for number in 0..self.proxies.len() {
            self.proxy_away(number, 3_000);
        }
    }

    /// A site has no power: nobody can say goodbye.
    fn site_dies(&mut self, site: usize, lasts: Ms) {
        let now = self.clock.now();
        self.cut[site].2 = now + lasts;
        if !self.cast().engines_by_site || !self.engines[site].up {
            return;
        }
        for container in self.containers.iter_mut().filter(|of| of.site == site && of.exists) {
            container.life += 1;
            if !matches!(container.ended, Ended::Person { .. }) {
                container.ended = Ended::Engine;
                container.status = ContainerStatus::Exited { exit: Some(255), oom: false };
            }
        }
        self.engine_killed(site, lasts);
    }

    /// New settings: first the edges, then the core.
    pub(crate) fn reload(&mut self, variant: u8) {
        self.variant = variant;
        if self.supervisor.as_ref().is_none_or(|of| of.stopping) {
            return;
        }
        let policy = self.policy();
        self.take(vec![Event::PolicyChanged(Box::new(policy))]);
        self.set_probers();
        self.rewatch();
        (0..self.proxies.len()).for_each(|number| self.configure(number, 1));
        self.snapshot();
    }

    /// All faults are over. What they did to the world stays.
    pub(crate) fn end_faults(&mut self) {
        self.note(|| "faults are over".to_owned());
        let now = self.clock.now();
        let over = |until: &mut Ms| *until = (*until).min(now);
        for container in &mut self.containers {
            [
                &mut container.hangs_until,
                &mut container.sick_until,
                &mut container.slow_until,
                &mut container.loops_until,
                &mut container.start_fails_until,
            ]
            .into_iter()
            .for_each(over);
        }
        for engine in &mut self.engines {
            [
                &mut engine.hangs_until,
                &mut engine.lose.0,
                &mut engine.double.0,
                &mut engine.reorder.0,
                &mut engine.dead_until,
            ]
            .into_iter()
            .for_each(over);
        }
        for proxy in &mut self.proxies {
            [
                &mut proxy.foreign_until,
                &mut proxy.deaf_until,
                &mut proxy.stubborn_until,
                &mut proxy.file_lost_until,
                &mut proxy.refuses_until,
            ]
            .into_iter()
            .for_each(over);
        }
        for peer in &mut self.peers {
            [&mut peer.down_until, &mut peer.hangs_until, &mut peer.loses_until, &mut peer.rejects_until]
                .into_iter()
                .for_each(over);
        }
        for relay in &mut self.relays {
            [
                &mut relay.down_until,
                &mut relay.defers_until,
                &mut relay.refuses_until,
                &mut relay.loses_reply_until,
                &mut relay.silent_until,
                &mut relay.declines.0,
            ]
            .into_iter()
            .for_each(over);
        }
        for (all, ours, power) in &mut self.cut {
            [all, ours, power].into_iter().for_each(over);
        }
        for (until, _) in &mut self.lies {
            over(until);
        }
        let disk = &mut self.disk;
        [&mut disk.slow_until, &mut disk.full_until, &mut disk.hangs_until].into_iter().for_each(over);
        over(&mut self.we_are_cut_until);
        over(&mut self.own_resources_until);
        over(&mut self.probes_late.0);
        if let Some(supervisor) = &mut self.supervisor {
            over(&mut supervisor.frozen_until);
            supervisor.dies_at = None;
            let run = supervisor.run;
            self.thaw(run);
        }
    }

    /// People clear up: they start what does not run, and end what they ordered.
    pub(crate) fn repair_all(&mut self) {
        for number in 0..self.proxies.len() {
            let ours = self.supervisor.as_ref().map(|of| of.state().desired(self.proxies[number].id).servers);
            self.proxies[number]
                .out
                .retain(|server, _| ours.as_ref().is_some_and(|of| of.contains_key(server)));
        }
        for number in 0..self.containers.len() {
            if !self.containers[number].runs() {
                self.start_by_hand(number);
            } else if self.containers[number].status == ContainerStatus::Paused {
                self.containers[number].life += 1;
                self.unpause(number);
            }
        }
        if self.variant != 0 {
            self.reload(0);
        }
        self.take_back(TAKES_BACK);
    }

    /// A person starts it, or tries again while its engine is away.
    fn start_by_hand(&mut self, number: usize) {
        let container = &self.containers[number];
        let engine = &self.engines[container.engine];
        if container.exists && (!engine.up || engine.stopping) {
            return self.clock.after(1_000, move |world| world.start_by_hand(number));
        }
        let _ = self.start(number, Starter::Person);
    }

    /// People end what they ordered; what cannot be done yet, they try again.
    fn take_back(&mut self, tries: u32) {
        let Some(supervisor) = &self.supervisor else { return };
        let state = supervisor.state();
        let mut orders: Vec<Order> =
            state.pauses.keys().map(|scope| Order::Resume { scope: *scope }).collect();
        for (id, service) in &state.services {
            for server in service.maintenance.keys() {
                let server = ServerId { service: *id, server: *server };
                orders.push(Order::Maintain { server, admin: Admin::Ready, lasts: None, force: false });
            }
            if service.preference.is_some() {
                orders.push(Order::Failback { service: *id, seen: None, force: false });
            }
        }
        // One after the other: an order that is being carried out keeps others away.
        for (number, order) in (0..).zip(orders) {
            self.clock.after(number * 6_000, move |world| world.people_order(order, "ada"));
        }
        if tries > 0 {
            self.clock.after(60_000, move |world| world.take_back(tries - 1));
        }
    }

    /// So long after that all is well, whatever is being waited for: a hold-down, a limit, a slow retry; and what is over is no
    /// longer told.
    pub(crate) fn calms_within(&self) -> Ms {
        let [after, hold_down, _, window] = self.cast().failback;
        let longest = (after * 2).max(hold_down).max(window).max(300);
        Ms::try_from(longest).unwrap_or(0) * 1_000 + 22 * 60_000
    }
}
