//! Engines and their containers: what `docker` and the kernel do to them, and the events that a real engine makes of it.
//!
//! The sequences are those of a real engine, and `traces` compares them: stop = kill 15, die, stop; of one that ignores it
//! also kill 9; kill = kill 9, die; crash = die; out of memory = oom, die; restart = kill, die, stop, start; remove = kill 9,
//! die, destroy; stop between two starts of Docker's own policy = stop; stop of a frozen one = kill, unpause, die, stop; HUP =
//! kill 1; an engine that goes down = kill 15, die, stop for all, and the end of its stream.

use crate::checks::Met;
use crate::clockwork::Ms;
use crate::world::World;
use std::collections::VecDeque;
use supervisor::actuator::docker::{Heard, Key};
use supervisor::domain::event::{
    ContainerSeen, ContainerSign, ContainerStatus, DockersCheck, DockersPolicy, Facts,
};
use supervisor::domain::policy::ContainerRef;
use supervisor::domain::{ContainerName, Span};

/// An engine remembers so many events, of all kinds. (moby, `daemon/events`: `eventsLimit`)
const REMEMBERED: usize = 256;

/// Docker's first pause before it starts a container again, doubled each time up to a minute.
const PAUSE_FIRST: Ms = 100;
const PAUSE_LONGEST: Ms = 60_000;

/// What ran for so long begins with the first pause again.
const RESTED: Ms = 10_000;

/// A container and what runs in it.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub(crate) name: ContainerRef,
    pub(crate) engine: usize,
    pub(crate) site: usize,
    pub(crate) id: String,
    pub(crate) status: ContainerStatus,
    pub(crate) exists: bool,
    pub(crate) policy: DockersPolicy,
    pub(crate) restarts: u32,
    /// Docker's own flag: a person has ended it, or signalled it.
    pub(crate) disarmed: bool,
    pub(crate) stop_timeout: Ms,
    pub(crate) ignores_term: bool,
    pub(crate) check: Option<DockersCheck>,
    /// Grows with each life: what was to happen to an earlier one does not.
    pub(crate) life: u64,
    pub(crate) started: Ms,
    /// When it last ceased to work at once.
    pub(crate) stopped: Ms,
    pub(crate) ready: Ms,
    pub(crate) hangs_until: Ms,
    pub(crate) sick_until: Ms,
    pub(crate) sick_code: u16,
    pub(crate) slow_until: Ms,
    pub(crate) slow_by: Ms,
    pub(crate) loops_until: Ms,
    pub(crate) loop_exit: i32,
    pub(crate) start_fails_until: Ms,
    /// How it ended, in truth.
    pub(crate) ended: Ended,
}

/// How a container ended, in truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It runs, or never did.
    Not,
    /// By itself.
    Itself,
    /// With its engine.
    Engine,
    /// By a person, at that time.
    Person {
        /// When.
        at: Ms,
        /// With `docker kill`.
        kill: bool,
        /// Some of the events about it did not reach us, or may have been forgotten.
        unheard: bool,
    },
}

/// Who starts a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starter {
    Person,
    Policy,
    Supervisor,
}

/// A Docker engine.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) up: bool,
    /// It is going down: nothing is started any more.
    pub(crate) stopping: bool,
    pub(crate) hangs_until: Ms,
    pub(crate) live_restore: bool,
    pub(crate) events: VecDeque<(Ms, Heard)>,
    /// It has forgotten some.
    pub(crate) forgot: bool,
    /// Makes every time of an event its own.
    nanos: i64,
    pub(crate) lose: (Ms, u32),
    pub(crate) double: (Ms, u32),
    pub(crate) reorder: (Ms, u32),
    pub(crate) dead_until: Ms,
    /// When the last event is delivered: the next one comes after it.
    pub(crate) delivered: Ms,
    /// When it last went down, or came back.
    pub(crate) turned: Ms,
    /// Each time it goes away, streams end.
    pub(crate) boots: u64,
}

impl Engine {
    pub(crate) fn new(live_restore: bool) -> Engine {
        Engine {
            up: true,
            stopping: false,
            hangs_until: 0,
            live_restore,
            events: VecDeque::new(),
            forgot: false,
            nanos: 0,
            lose: (0, 0),
            double: (0, 0),
            reorder: (0, 0),
            dead_until: 0,
            delivered: 0,
            turned: -1_000_000,
            boots: 0,
        }
    }
}

impl Container {
    pub(crate) fn runs(&self) -> bool {
        self.exists && matches!(self.status, ContainerStatus::Running | ContainerStatus::Paused)
    }

    /// What a person did to it may be unknown to us from now on.
    pub(crate) fn lost_an_event(&mut self) {
        if let Ended::Person { unheard, .. } = &mut self.ended {
            *unheard = true;
        }
    }

    /// Whether it does its work.
    pub(crate) fn serves(&self, now: Ms) -> bool {
        self.exists
            && self.status == ContainerStatus::Running
            && now >= self.ready
            && now >= self.hangs_until
            && now >= self.sick_until
    }

    /// What meets whom it is asked by from `at` on, now or a moment ago.
    pub(crate) fn meets(&self, at: Ms) -> Met {
        let ran = at < self.stopped;
        let runs = self.exists && matches!(self.status, ContainerStatus::Running | ContainerStatus::Paused);
        match () {
            () if !ran && (!runs || at < self.ready) => Met::Wrong,
            () if !ran && self.status == ContainerStatus::Paused => Met::Silent { until: Ms::MAX },
            () if at < self.hangs_until => Met::Silent { until: self.hangs_until },
            () if at < self.slow_until => Met::Silent { until: at + self.slow_by },
            () if at < self.sick_until => Met::Wrong,
            () => Met::Well,
        }
    }

    pub(crate) fn seen(&self, guessed: bool) -> Option<ContainerSeen> {
        let facts = Facts {
            restart: self.policy,
            restarts: self.restarts,
            stop_timeout: Span(u64::try_from(self.stop_timeout).unwrap_or(0)),
            check: self.check,
            started: (self.started > 0).then_some(nanos_at(self.started)),
            ..Facts::default()
        };
        let facts = if guessed { Facts::guessed() } else { facts };
        self.exists.then(|| ContainerSeen { id: self.id.clone(), status: self.status, facts })
    }
}

/// By the engine's own clock.
pub(crate) fn nanos_at(at: Ms) -> i64 {
    (crate::world::WALL_BEGAN + at) * 1_000_000
}

impl World {
    /// The engine announces something about a container.
    fn announce(&mut self, number: usize, action: &str, sign: Option<ContainerSign>) {
        let now = self.clock.now();
        let Container { name, id, engine, .. } = &self.containers[number];
        let (name, id, engine) = (name.name.clone(), id.clone(), *engine);
        let known = &mut self.engines[engine];
        known.nanos = (known.nanos + 1).max(nanos_at(now));
        let key = Key { nanoseconds: known.nanos, id, action: action.to_owned() };
        let heard = Heard { key, name, old_name: None, sign };
        known.events.push_back((now, heard.clone()));
        if known.events.len() > REMEMBERED {
            known.events.pop_front();
            known.forgot = true;
        }
        self.stream(engine, number, heard);
    }

    pub(crate) fn sign(&mut self, number: usize, sign: ContainerSign) {
        let action = match sign {
            ContainerSign::Started => "start",
            ContainerSign::Died { .. } => "die",
            ContainerSign::OutOfMemory => "oom",
            ContainerSign::Killed { .. } => "kill",
            ContainerSign::Stopped => "stop",
            ContainerSign::Paused => "pause",
            ContainerSign::Unpaused => "unpause",
            ContainerSign::Destroyed => "destroy",
            ContainerSign::Checked(DockersCheck::Healthy) => "health_status: healthy",
            ContainerSign::Checked(_) => "health_status: unhealthy",
        };
        self.announce(number, action, Some(sign));
    }

    fn signal(&mut self, number: usize, signal: i32) {
        self.sign(number, ContainerSign::Killed { signal: Some(signal) });
    }

    /// The process ended. What Docker's own policy makes of it follows.
    fn died(&mut self, number: usize, exit: i32, oom: bool, ended: Ended) {
        let now = self.clock.now();
        let container = &mut self.containers[number];
        container.life += 1;
        container.stopped = now;
        container.status = ContainerStatus::Exited { exit: Some(exit), oom };
        container.ended = ended;
        container.check = container.check.map(|_| DockersCheck::Unhealthy);
        if now - container.started >= RESTED {
            container.restarts = 0;
        }
        self.sign(number, ContainerSign::Died { exit: Some(exit) });
        let container = &mut self.containers[number];
        let engine = &self.engines[container.engine];
        let wanted = match container.policy {
            DockersPolicy::No => false,
            DockersPolicy::Always | DockersPolicy::UnlessStopped => true,
            DockersPolicy::OnFailure { most } => exit != 0 && (most == 0 || container.restarts < most),
        };
        if wanted && !container.disarmed && engine.up && !engine.stopping {
            let pause = (PAUSE_FIRST << container.restarts.min(10)).min(PAUSE_LONGEST);
            container.status = ContainerStatus::Restarting;
            let life = container.life;
            self.clock.after(pause, move |world| {
                let container = &mut world.containers[number];
                if container.life == life && container.status == ContainerStatus::Restarting {
                    container.restarts += 1;
                    let _ = world.start(number, Starter::Policy);
                }
            });
        }
    }

    /// It is started; an error if that fails.
    pub(crate) fn start(&mut self, number: usize, by: Starter) -> Result<(), String> {
        let now = self.clock.now();
        let ready = self.docker_rng.i64(30..1_500);
        let container = &mut self.containers[number];
        let engine = &self.engines[container.engine];
        if !engine.up || engine.stopping {
            return Err("the engine is going down".to_owned());
        }
        if !container.exists {
            return Err("no such container".to_owned());
        }
        if container.runs() {
            return Ok(());
        }
        container.life += 1;
        if by != Starter::Policy {
            container.restarts = 0;
        }
        if now < container.start_fails_until {
            container.status = ContainerStatus::Exited { exit: Some(127), oom: false };
            return Err("exec: no such file or directory".to_owned());
        }
        container.disarmed = false;
        container.status = ContainerStatus::Running;
        container.started = now;
        container.ready = now + ready;
        container.hangs_until = 0;
        container.ended = Ended::Not;
        container.check = container.check.map(|_| DockersCheck::Starting);
        let (life, loops, exit) = (container.life, now < container.loops_until, container.loop_exit);
        self.sign(number, ContainerSign::Started);
        if loops {
            let after = self.docker_rng.i64(50..3_000);
            self.clock.after(after, move |world| {
                if world.containers[number].life == life {
                    world.crash(number, exit);
                }
            });
        } else if self.containers[number].check.is_some() {
            self.check_later(number, life);
        }
        Ok(())
    }

    /// The image's own check changes its mind when the process does.
    fn check_later(&mut self, number: usize, life: u64) {
        self.clock.after(5_000, move |world| {
            let now = world.clock.now();
            let container = &mut world.containers[number];
            if container.life != life {
                return;
            }
            // Docker's monitor rests while a container is paused, and goes on afterwards.
            if container.status == ContainerStatus::Paused {
                return world.check_later(number, life);
            }
            if container.status != ContainerStatus::Running {
                return;
            }
            let found = match container.serves(now) {
                true => DockersCheck::Healthy,
                false => DockersCheck::Unhealthy,
            };
            if container.check != Some(found) {
                container.check = Some(found);
                world.sign(number, ContainerSign::Checked(found));
            }
            world.check_later(number, life);
        });
    }

    /// The process ends by itself.
    pub(crate) fn crash(&mut self, number: usize, exit: i32) {
        if self.containers[number].status == ContainerStatus::Running {
            self.died(number, exit, false, Ended::Itself);
        }
    }

    /// The kernel kills it for want of memory.
    pub(crate) fn run_out_of_memory(&mut self, number: usize) {
        if self.containers[number].status == ContainerStatus::Running {
            self.sign(number, ContainerSign::OutOfMemory);
            self.died(number, 137, true, Ended::Itself);
        }
    }

    /// A person's `docker stop`.
    pub(crate) fn stop(&mut self, number: usize) {
        self.ending(number, false, |world, number| {
            let at = world.clock.now();
            let unheard = !world.is_listened_to(number);
            world.containers[number].ended = Ended::Person { at, kill: false, unheard };
        });
    }

    /// `docker restart`, by a person or by supervisor.
    pub(crate) fn restart(&mut self, number: usize, by: Starter) {
        let life = self.containers[number].life;
        if !self.containers[number].runs() {
            let _ = self.start(number, by);
            return;
        }
        self.ending(number, false, |_, _| {});
        let until = self.clock.now() + self.containers[number].stop_timeout + 5_000;
        self.start_when_ended(number, life, by, until);
    }

    /// The second half of a restart: whoever ended it meanwhile, it is started.
    fn start_when_ended(&mut self, number: usize, life: u64, by: Starter, until: Ms) {
        self.clock.after(5, move |world| {
            let container = &world.containers[number];
            if container.life > life && !container.runs() {
                let _ = world.start(number, by);
            } else if container.life == life && world.clock.now() < until {
                world.start_when_ended(number, life, by, until);
            }
        });
    }

    /// Signals, waits, kills: then it is ended, and `then` follows. `quietly`: as an engine that goes down does it.
    fn ending(&mut self, number: usize, by_engine: bool, then: impl FnOnce(&mut World, usize) + 'static) {
        let now = self.clock.now();
        let container = &mut self.containers[number];
        if !container.exists || (!self.engines[container.engine].up && !by_engine) {
            return;
        }
        if container.status == ContainerStatus::Restarting {
            // moby, `daemon/kill.go`: it returns before it logs.
            container.life += 1;
            container.disarmed = !by_engine;
            container.status = ContainerStatus::Exited { exit: Some(1), oom: false };
            self.sign(number, ContainerSign::Stopped);
            return then(self, number);
        }
        if !container.runs() {
            return;
        }
        container.disarmed |= !by_engine;
        let frozen = container.status == ContainerStatus::Paused;
        let deaf = container.ignores_term || now < container.hangs_until;
        let (life, timeout) = (container.life, container.stop_timeout);
        self.signal(number, 15);
        if frozen {
            self.containers[number].status = ContainerStatus::Running;
            self.sign(number, ContainerSign::Unpaused);
        }
        let exit = [0, 143][self.docker_rng.usize(..2)];
        let takes = if deaf { timeout } else { self.docker_rng.i64(5..800).min(timeout) };
        self.clock.after(takes, move |world| {
            if world.containers[number].life != life {
                return;
            }
            if deaf {
                world.signal(number, 9);
            }
            let (exit, ended) =
                (if deaf { 137 } else { exit }, if by_engine { Ended::Engine } else { Ended::Itself });
            let disarmed = std::mem::replace(&mut world.containers[number].disarmed, true);
            world.died(number, exit, false, ended);
            world.containers[number].disarmed = disarmed;
            world.sign(number, ContainerSign::Stopped);
            then(world, number);
        });
    }

    /// A person's `docker kill`.
    pub(crate) fn kill(&mut self, number: usize) {
        if !self.containers[number].runs() || !self.engines[self.containers[number].engine].up {
            return;
        }
        let life = self.containers[number].life;
        self.containers[number].disarmed = true;
        let signalled = self.is_listened_to(number);
        self.signal(number, 9);
        self.clock.after(3, move |world| {
            if world.containers[number].life == life {
                let (at, unheard) = (world.clock.now(), !signalled || !world.is_listened_to(number));
                world.died(number, 137, false, Ended::Person { at, kill: true, unheard });
            }
        });
    }

    /// A person's `docker kill -s HUP`: Docker's own policy is disarmed by it. (moby issue 41302)
    pub(crate) fn hangup(&mut self, number: usize) {
        if self.containers[number].runs() && self.engines[self.containers[number].engine].up {
            self.containers[number].disarmed = true;
            self.signal(number, 1);
        }
    }

    /// `docker pause`, and `unpause` after a while.
    pub(crate) fn pause(&mut self, number: usize, lasts: Ms) {
        let container = &mut self.containers[number];
        if container.status != ContainerStatus::Running || !self.engines[container.engine].up {
            return;
        }
        container.status = ContainerStatus::Paused;
        container.stopped = self.clock.now();
        let life = container.life;
        self.sign(number, ContainerSign::Paused);
        self.clock.after(lasts, move |world| {
            let container = &mut world.containers[number];
            if container.life == life && container.status == ContainerStatus::Paused {
                container.status = ContainerStatus::Running;
                world.sign(number, ContainerSign::Unpaused);
            }
        });
    }

    /// `docker unpause`.
    pub(crate) fn unpause(&mut self, number: usize) {
        self.containers[number].status = ContainerStatus::Running;
        self.sign(number, ContainerSign::Unpaused);
    }

    /// `docker rm -f` and `docker run`, as `compose up` does it.
    pub(crate) fn recreate(&mut self, number: usize, gone_for: Ms) {
        if !self.engines[self.containers[number].engine].up || !self.containers[number].exists {
            return;
        }
        if self.containers[number].runs() {
            self.containers[number].disarmed = true;
            self.signal(number, 9);
            self.died(number, 137, false, Ended::Itself);
        }
        self.sign(number, ContainerSign::Destroyed);
        let container = &mut self.containers[number];
        container.exists = false;
        container.life += 1;
        let life = container.life;
        self.clock.after(gone_for, move |world| world.create(number, life));
    }

    fn create(&mut self, number: usize, life: u64) {
        let container = &mut self.containers[number];
        if container.life != life || !self.engines[container.engine].up {
            // Its engine is away: a person tries again.
            if container.life == life {
                self.clock.after(1_000, move |world| world.create(number, life));
            }
            return;
        }
        container.exists = true;
        container.status = ContainerStatus::Created;
        container.ended = Ended::Not;
        container.id = format!("{}-{life}", container.name.name.0);
        container.start_fails_until = 0;
        self.announce(number, "create", None);
        let _ = self.start(number, Starter::Person);
    }

    /// The engine is told to end: it ends all that it runs, then its stream.
    pub(crate) fn engine_down(&mut self, engine: usize, lasts: Ms) {
        if !self.engines[engine].up || self.engines[engine].stopping {
            return;
        }
        let now = self.clock.now();
        self.engines[engine].stopping = true;
        self.engines[engine].turned = now;
        let live = self.engines[engine].live_restore;
        let numbers: Vec<usize> =
            (0..self.containers.len()).filter(|n| self.containers[*n].engine == engine).collect();
        if !live {
            for number in numbers {
                self.ending(number, true, |_, _| {});
            }
        }
        let boots = self.engines[engine].boots;
        self.clock.after(1_200, move |world| world.engine_gone(engine, boots, lasts));
    }

    /// What still runs is waited for; then it is gone, unless it was killed meanwhile.
    fn engine_gone(&mut self, engine: usize, boots: u64, lasts: Ms) {
        if self.engines[engine].boots != boots {
            return;
        }
        let waits = |container: &Container| container.engine == engine && container.runs();
        if !self.engines[engine].live_restore && self.containers.iter().any(waits) {
            self.clock.after(300, move |world| world.engine_gone(engine, boots, lasts));
            return;
        }
        let known = &mut self.engines[engine];
        (known.up, known.stopping) = (false, false);
        known.boots += 1;
        self.stream_ends(engine);
        self.clock.after(lasts, move |world| world.engine_back(engine, false));
    }

    /// The engine is killed: what it runs goes on without it.
    pub(crate) fn engine_killed(&mut self, engine: usize, lasts: Ms) {
        if !self.engines[engine].up {
            return;
        }
        let now = self.clock.now();
        let known = &mut self.engines[engine];
        (known.up, known.stopping) = (false, false);
        known.boots += 1;
        known.turned = now;
        self.stream_ends(engine);
        self.clock.after(lasts, move |world| world.engine_back(engine, true));
    }

    fn engine_back(&mut self, engine: usize, was_killed: bool) {
        let now = self.clock.now();
        if self.engines[engine].up {
            return;
        }
        let live = self.engines[engine].live_restore;
        let known = &mut self.engines[engine];
        known.up = true;
        known.turned = now;
        known.events.clear();
        known.forgot = false;
        for number in 0..self.containers.len() {
            if self.containers[number].engine != engine || !self.containers[number].exists {
                continue;
            }
            if let Ended::Person { unheard, .. } = &mut self.containers[number].ended {
                // What it remembered of that is forgotten.
                *unheard = true;
            }
            let ran = self.containers[number].runs();
            if ran && was_killed && !live {
                // It ends, as a person would, what went on without it, and so `unless-stopped` stays down. (moby, `restore`)
                self.signal(number, 15);
                let manual = self.containers[number].policy == DockersPolicy::UnlessStopped;
                let before = std::mem::replace(&mut self.containers[number].disarmed, true);
                self.died(number, 137, false, Ended::Engine);
                self.sign(number, ContainerSign::Stopped);
                self.containers[number].disarmed = before || manual;
            }
            let container = &self.containers[number];
            let wanted = match container.policy {
                DockersPolicy::Always => true,
                DockersPolicy::UnlessStopped => !container.disarmed,
                DockersPolicy::No | DockersPolicy::OnFailure { .. } => false,
            };
            let down =
                matches!(container.status, ContainerStatus::Exited { .. } | ContainerStatus::Restarting);
            if container.status == ContainerStatus::Restarting {
                self.containers[number].status = ContainerStatus::Exited { exit: Some(1), oom: false };
            }
            if wanted && down {
                let (life, after) = (self.containers[number].life, self.docker_rng.i64(10..600));
                self.clock.after(after, move |world| {
                    if world.containers[number].life == life {
                        let _ = world.start(number, Starter::Policy);
                    }
                });
            }
        }
    }

    pub(crate) fn container_named(&self, name: &ContainerRef) -> Option<usize> {
        self.containers.iter().position(|container| container.name == *name)
    }

    pub(crate) fn container_by_name(&self, engine: usize, name: &ContainerName) -> Option<usize> {
        self.containers.iter().position(|known| known.engine == engine && known.name.name == *name)
    }
}
