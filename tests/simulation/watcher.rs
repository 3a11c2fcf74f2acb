//! The watcher of an engine: subscribe, list, apply, resync, as the real one does it, with its rules for what is news
//! ([`Told`]), what an engine that goes down says last ([`Signs`]), and what the past tells ([`recollect`]).

use crate::clockwork::Ms;
use crate::docker::{Starter, nanos_at};
use crate::fault::Kind;
use crate::plan::engine_id;
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use supervisor::actuator::docker::{EngineTime, Heard, Signs, Told, recollect};
use supervisor::domain::action::{Deed, Finished, Heal, Outcome, Target};
use supervisor::domain::event::{
    ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, Event, Past,
};
use supervisor::domain::{ActionId, Boot, ContainerName};

/// A call waits so long for an engine that hangs.
const CALL_WITHIN: Ms = 4_000;
const PING_EVERY: Ms = 5_000;
const RESYNC: Ms = 30_000;
const EVENT_ON_ITS_WAY: Ms = 1_000;
const LISTS_IN_A_ROW: u32 = 3;

type Seen = BTreeMap<ContainerName, Option<ContainerSeen>>;

/// The task.
#[derive(Default)]
pub(crate) struct Watcher {
    /// Which subscription; grows.
    session: u64,
    pub(crate) connected: bool,
    told: Told,
    signs: Signs,
    /// None before the first list of the session.
    seen: Option<Seen>,
    buffer: Vec<(Boot, Heard)>,
    heard_since: BTreeSet<ContainerName>,
    listing: bool,
    wanted: bool,
    disturbed: bool,
    lists_in_a_row: u32,
    lost: bool,
    tries: u32,
    suspects: Option<ContainerName>,
}

impl World {
    pub(crate) fn begin_watchers(&mut self) {
        for engine in 0..self.engines.len() {
            let Some(supervisor) = &mut self.supervisor else { return };
            supervisor.watchers.insert(engine_id(engine), Watcher::default());
            self.at_edge(1, move |world| world.connect(engine));
        }
    }

    fn watcher(&mut self, engine: usize) -> Option<&mut Watcher> {
        self.supervisor.as_mut()?.watchers.get_mut(&engine_id(engine))
    }

    /// Whether what happens to a container now is heard, or is found in what its engine remembers.
    pub(crate) fn is_listened_to(&self, number: usize) -> bool {
        let engine = &self.engines[self.containers[number].engine];
        let now = self.clock.now();
        !engine.forgot && now >= engine.lose.0 && now >= engine.reorder.0 && now >= engine.dead_until
    }

    fn watched(&self, engine: usize) -> BTreeSet<ContainerName> {
        let Some(supervisor) = &self.supervisor else { return BTreeSet::new() };
        let all = supervisor.state().policy.containers.keys();
        all.filter(|of| of.engine == engine_id(engine)).map(|of| of.name.clone()).collect()
    }

    fn connect(&mut self, engine: usize) {
        let now = self.clock.now();
        if !self.we_reach_engine(engine) || !self.engines[engine].up {
            return self.lose_engine(engine);
        }
        if now < self.engines[engine].hangs_until {
            return self.at_edge(CALL_WITHIN, move |world| world.lose_engine(engine));
        }
        let Some(watcher) = self.watcher(engine) else { return };
        watcher.session += 1;
        watcher.connected = true;
        watcher.signs = Signs::default();
        watcher.seen = None;
        watcher.buffer.clear();
        watcher.heard_since.clear();
        watcher.suspects = None;
        (watcher.listing, watcher.wanted, watcher.disturbed, watcher.lists_in_a_row) =
            (false, false, false, 0);
        let session = watcher.session;
        let past = self.past(engine);
        self.list(engine, session, past);
        self.at_edge(PING_EVERY, move |world| world.ping(engine, session));
        self.at_edge(RESYNC, move |world| world.resync(engine, session));
    }

    fn past(&mut self, engine: usize) -> Past {
        let (now, at) = (self.clock.now(), self.now().boot);
        let names = self.watched(engine);
        let known = &self.engines[engine];
        let time = EngineTime::told(nanos_at(now), at, known.live_restore);
        let heard: Vec<Heard> = known.events.iter().map(|(_, heard)| heard.clone()).collect();
        let oldest = known.events.front().map_or(now, |(at, _)| *at);
        let reaches = known.forgot.then(|| Boot(oldest - self.booted));
        let Some(watcher) = self.watcher(engine) else { return Past::default() };
        recollect(engine_id(engine), heard, reaches, &time, &names, &mut watcher.told)
    }

    fn session(&mut self, engine: usize, session: u64) -> Option<&mut Watcher> {
        self.watcher(engine).filter(|of| of.session == session && of.connected)
    }

    /// Begins a list: the containers are looked at some milliseconds later.
    fn list(&mut self, engine: usize, session: u64, past: Past) {
        let at = self.now().boot;
        let Some(watcher) = self.session(engine, session) else { return };
        watcher.listing = true;
        (watcher.wanted, watcher.disturbed) = (false, false);
        watcher.lists_in_a_row += 1;
        let takes = self.docker_rng.i64(2..25);
        self.at_edge(takes, move |world| world.listed(engine, session, at, past));
    }

    fn listed(&mut self, engine: usize, session: u64, at: Boot, past: Past) {
        let now = self.clock.now();
        if now < self.engines[engine].hangs_until {
            // The call fails.
            return self.at_edge(CALL_WITHIN, move |world| world.session_lost(engine, session));
        }
        let names = self.watched(engine);
        let look = |name: &ContainerName| {
            self.container_by_name(engine, name).and_then(|number| self.containers[number].seen(false))
        };
        let fresh: Seen = names.iter().map(|name| (name.clone(), look(name))).collect();
        let Some(watcher) = self.session(engine, session) else { return };
        watcher.listing = false;
        if watcher.disturbed && watcher.lists_in_a_row < LISTS_IN_A_ROW && watcher.seen.is_some() {
            return self.list(engine, session, past);
        }
        watcher.lists_in_a_row = 0;
        let before = watcher.seen.take();
        if let Some(before) = &before
            && watcher.suspects.is_none()
        {
            let life =
                |seen: &Option<ContainerSeen>| seen.as_ref().map(|seen| (seen.id.clone(), seen.status));
            let changed = fresh.iter().find(|(name, seen)| {
                before.get(*name).is_some_and(|before| life(before) != life(seen))
                    && !watcher.heard_since.contains(*name)
            });
            watcher.suspects = changed.map(|(name, _)| name.clone());
        }
        watcher.heard_since.clear();
        watcher.seen = Some(fresh.clone());
        (watcher.lost, watcher.tries) = (false, 0);
        let buffered = std::mem::take(&mut watcher.buffer);
        let suspects = watcher.suspects.clone();
        // Of what was not watched before nobody has listened to the end.
        let stranger =
            |name: &ContainerName| before.as_ref().is_some_and(|before| !before.contains_key(name));
        let past = if fresh.keys().any(stranger) { self.past(engine) } else { past };
        let containers = fresh.into_iter().filter_map(|(name, seen)| Some((name, seen?))).collect();
        self.put_hard(Event::Containers(ContainerList { engine: engine_id(engine), at, containers, past }));
        for (at, heard) in buffered {
            self.hear(engine, at, heard);
        }
        if let Some(name) = suspects {
            self.at_edge(EVENT_ON_ITS_WAY, move |world| {
                if world.session(engine, session).is_some_and(|of| of.suspects.as_ref() == Some(&name)) {
                    // The stream is dead: subscribed anew.
                    if let Some(watcher) = world.session(engine, session) {
                        watcher.connected = false;
                    }
                    world.at_edge(100, move |world| world.connect(engine));
                }
            });
        }
        self.list_if_wanted(engine, session);
    }

    fn list_if_wanted(&mut self, engine: usize, session: u64) {
        if self.session(engine, session).is_some_and(|of| of.wanted && !of.listing && of.seen.is_some()) {
            self.list(engine, session, Past::default());
        }
    }

    fn resync(&mut self, engine: usize, session: u64) {
        let Some(watcher) = self.session(engine, session) else { return };
        watcher.wanted = true;
        self.list_if_wanted(engine, session);
        self.at_edge(RESYNC, move |world| world.resync(engine, session));
    }

    /// New settings may name other containers.
    pub(crate) fn rewatch(&mut self) {
        (0..self.engines.len()).for_each(|engine| self.list_soon(engine));
    }

    fn list_soon(&mut self, engine: usize) {
        if let Some(watcher) = self.watcher(engine) {
            watcher.wanted = true;
            let session = watcher.session;
            self.list_if_wanted(engine, session);
        }
    }

    fn ping(&mut self, engine: usize, session: u64) {
        let now = self.clock.now();
        if self.session(engine, session).is_none() {
            return;
        }
        if !self.we_reach_engine(engine) || now < self.engines[engine].hangs_until {
            return self.at_edge(CALL_WITHIN, move |world| world.session_lost(engine, session));
        }
        self.at_edge(PING_EVERY, move |world| world.ping(engine, session));
    }

    fn session_lost(&mut self, engine: usize, session: u64) {
        if self.session(engine, session).is_some() {
            self.lose_engine(engine);
        }
    }

    /// Told once; tried again for ever.
    fn lose_engine(&mut self, engine: usize) {
        let Some(watcher) = self.watcher(engine) else { return };
        watcher.connected = false;
        let news = !std::mem::replace(&mut watcher.lost, true);
        let last = watcher.signs.last();
        let pause = (100 << watcher.tries.min(6)).min(5_000);
        watcher.tries += 1;
        if news {
            self.put_hard(Event::EngineLost { engine: engine_id(engine), last });
        }
        self.at_edge(pause, move |world| world.connect(engine));
    }

    /// The engine's stream ends.
    pub(crate) fn stream_ends(&mut self, engine: usize) {
        let (now, last) = (self.clock.now(), self.engines[engine].delivered);
        let Some(watcher) = self.watcher(engine).filter(|of| of.connected) else { return };
        let session = watcher.session;
        // After the last event that is on its way.
        self.at_edge((last - now).max(0) + 1, move |world| world.session_lost(engine, session));
    }

    /// An event is on its way to who listens.
    pub(crate) fn stream(&mut self, engine: usize, number: usize, heard: Heard) {
        let now = self.clock.now();
        let reached = self.we_reach_engine_in(engine);
        let Some(session) = self.watcher(engine).filter(|of| of.connected).map(|of| of.session) else {
            return;
        };
        let known = &mut self.engines[engine];
        if now < known.dead_until {
            self.containers[number].lost_an_event();
            return self.count(Kind::StreamDead);
        }
        if now < known.lose.0 && self.docker_rng.u32(..100) < known.lose.1 {
            self.containers[number].lost_an_event();
            return self.count(Kind::EventLost);
        }
        // TCP repeats what did not arrive, as long as nobody gives the connection up.
        let mut latency = self.docker_rng.i64(1..40) + reached;
        if now < known.hangs_until {
            latency += known.hangs_until - now;
        }
        let mut arrives = (now + latency).max(known.delivered);
        if now < known.reorder.0 && self.docker_rng.u32(..100) < known.reorder.1 {
            arrives += self.docker_rng.i64(1..1_500);
            self.count(Kind::EventReordered);
        } else {
            known.delivered = arrives;
        }
        let known = &self.engines[engine];
        if now < known.double.0 && self.docker_rng.u32(..100) < known.double.1 {
            let again = heard.clone();
            self.at_edge(arrives - now + 5, move |world| world.arrives(engine, session, again));
            self.count(Kind::EventDoubled);
        }
        self.at_edge(arrives - now, move |world| world.arrives(engine, session, heard));
    }

    fn arrives(&mut self, engine: usize, session: u64, heard: Heard) {
        let at = self.now().boot;
        let Some(watcher) = self.session(engine, session) else { return };
        watcher.signs.note(at, &heard);
        if watcher.suspects.as_ref() == Some(&heard.name) {
            watcher.suspects = None;
        }
        watcher.disturbed = true;
        if watcher.seen.is_none() {
            return watcher.buffer.push((at, heard));
        }
        self.hear(engine, at, heard);
        self.list_if_wanted(engine, session);
    }

    fn hear(&mut self, engine: usize, at: Boot, heard: Heard) {
        let watched = self.watched(engine).contains(&heard.name);
        let Some(watcher) = self.watcher(engine) else { return };
        watcher.heard_since.insert(heard.name.clone());
        watcher.wanted |= matches!(heard.sign, None | Some(ContainerSign::Started));
        let Some(sign) = heard.sign else { return };
        if !watched || !watcher.told.is_new(&heard.key) {
            return;
        }
        let (nanoseconds, id) = (heard.key.nanoseconds, heard.key.id);
        let event = ContainerEvent { engine: engine_id(engine), name: heard.name, id, at, nanoseconds, sign };
        self.put_hard(Event::Container(event));
    }

    /// A start or a restart: looked at just before, then asked of the engine, which finishes it whatever becomes of us.
    pub(crate) fn heal(&mut self, heal: Heal, seq: u64, decided: Ms) {
        let of = Target::Container { container: heal.container.clone(), deed: heal.deed };
        let Some(number) = self.container_named(&heal.container) else { return };
        let engine = self.containers[number].engine;
        let now = self.clock.now();
        let finish = move |world: &mut World, of, action, outcome| {
            let others = outcome == Outcome::Superseded;
            world.put_hard(Event::Finished(Finished { action, of, outcome }));
            if others {
                world.list_soon(engine);
            }
        };
        let action = heal.id;
        if !self.we_reach_engine(engine) || !self.engines[engine].up {
            let words = Outcome::NotBegun("connection refused".to_owned());
            return self.at_edge(1, move |world| finish(world, of, action, words));
        }
        if now < self.engines[engine].hangs_until {
            let words = Outcome::NotBegun("no answer to an inspect within 4 s".to_owned());
            return self.at_edge(CALL_WITHIN, move |world| finish(world, of, action, words));
        }
        self.at_edge(2, move |world| {
            let container = &world.containers[number];
            let as_it_was = container.exists
                && container.id == heal.container_id
                && match heal.deed {
                    Deed::Start => {
                        matches!(container.status, ContainerStatus::Exited { .. } | ContainerStatus::Created)
                    }
                    Deed::Restart { .. } => container.status == ContainerStatus::Running,
                };
            let wanted = world.supervisor.as_ref().is_some_and(|of| of.under_way.contains(&heal.id));
            if !as_it_was || !wanted {
                return finish(world, of, action, Outcome::Superseded);
            }
            let takes = world.docker_rng.i64(20..400);
            let run = world.run();
            world.judge_heal(number, seq, decided, heal.deed);
            if matches!(heal.deed, Deed::Restart { .. }) {
                world.judge_restart(number);
            }
            // From here on it is the engine's.
            world.clock.after(takes, move |world| {
                let life = world.containers[number].life;
                match heal.deed {
                    Deed::Start => {
                        let done = world.start(number, Starter::Supervisor);
                        let outcome = done.map_or_else(Outcome::Failed, |()| Outcome::Done);
                        if world.run() == run {
                            world.at_edge(1, move |world| finish(world, of, action, outcome));
                        }
                    }
                    Deed::Restart { .. } => {
                        world.restart(number, Starter::Supervisor);
                        if world.run() == run {
                            let until = world.clock.now() + world.containers[number].stop_timeout + 5_000;
                            world.await_restart(number, life, until, (of, action));
                        }
                    }
                }
            });
        });
    }

    /// The engine answers when the container runs again.
    fn await_restart(&mut self, number: usize, life: u64, until: Ms, (of, action): (Target, ActionId)) {
        let container = &self.containers[number];
        let outcome = match container.life >= life + 2 && container.runs() {
            true => Outcome::Done,
            false if self.clock.now() < until => {
                return self.at_edge(50, move |world| world.await_restart(number, life, until, (of, action)));
            }
            false => Outcome::Failed("the container did not come back".to_owned()),
        };
        self.put_hard(Event::Finished(Finished { action, of, outcome }));
    }
}
