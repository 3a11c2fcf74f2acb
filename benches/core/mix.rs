//! The mix: what a second of such services brings.
//!
//! Each server is asked every 200 ms whether it is ready, every 50 ms while the core wants to know soon, and every second
//! whether it lives (the demo's settings). Of the `ready` probes of servers that are well,
//!
//! - one in 50 fails once, of all causes that must come twice;
//! - one in 1,000 finds that the server hangs, for up to a second;
//! - one in 1,000 comes just after Docker's `die`, and is refused; healing starts the container again;
//! - one in 500 comes with an announcement of Docker's that changes nothing for traffic;
//! - one in 2,000 comes with a person's order: failover, failback, a pause and its end.
//!
//! The rest follows: failovers, evacuations, routes read back, incidents and what an Alertmanager says of them, holds and
//! their end, failbacks.

use std::collections::BTreeMap;

use anyhow::Result;
use fastrand::Rng;
use supervisor::domain::action::Pace;
use supervisor::domain::command::{Order, Scope};
use supervisor::domain::event::{ContainerSign, DockersCheck, Event};
use supervisor::domain::witness::{ProbeFault, ProbeOutcome};
use supervisor::domain::{Action, Boot, Decision, ServerId, Span};

use crate::recording::Recording;
use crate::world::{Answer, HOLD_DOWN, SITES, World};

const READY_EVERY: u64 = 200;
const READY_SOON: u64 = 50;
const LIVE_EVERY: u64 = 1_000;

/// One in so many `ready` probes of servers that are well.
const ONE_FAILS: u32 = 50;
const HANGS: u32 = 1_000;
const DIES: u32 = 1_000;
const DOCKER_SPEAKS: u32 = 500;
const SOMEBODY_ORDERS: u32 = 2_000;

/// Faults that must come twice before they move anything.
const PASSING: [ProbeFault; 5] = [
    ProbeFault::Status(503),
    ProbeFault::Silent,
    ProbeFault::Broken,
    ProbeFault::ConnectTimeout,
    ProbeFault::Unreachable,
];

/// Records `events` events of a world that has found its balance.
pub(crate) fn record(size: usize, events: usize, seed: u64) -> Result<Recording> {
    let mut mix = Mix::new(World::new(size)?, seed);
    let settled = mix.world.now.boot + HOLD_DOWN + HOLD_DOWN;
    while mix.world.now.boot < settled {
        mix.next()?;
    }
    mix.world.record();
    while mix.world.recorded() < events {
        mix.next()?;
    }
    mix.world.recording()
}

struct Mix {
    world: World,
    random: Rng,
    agenda: BTreeMap<(Boot, u64), Task>,
    entries: u64,
    faults: Vec<Fault>,
    /// The entry of each server's next `ready` probe.
    next_ready: Vec<(Boot, u64)>,
    numbers: BTreeMap<ServerId, usize>,
}

/// What is to happen.
enum Task {
    Ready(usize),
    Live(usize),
    Answer(Answer),
}

/// What is wrong with a server.
#[derive(Clone, Copy)]
enum Fault {
    None,
    Hangs {
        until: Boot,
    },
    /// Refuses until its container has been started.
    Dead,
    Starts {
        until: Boot,
    },
}

impl Mix {
    fn new(world: World, seed: u64) -> Mix {
        let count = world.servers.len();
        let numbers = world.servers.iter().enumerate().map(|(number, server)| (server.id, number)).collect();
        let mut mix = Mix {
            world,
            random: Rng::with_seed(seed),
            agenda: BTreeMap::new(),
            entries: 0,
            faults: vec![Fault::None; count],
            next_ready: Vec::new(),
            numbers,
        };
        for number in 0..count {
            let (ready, live) = (mix.random.u64(0..READY_EVERY), mix.random.u64(0..LIVE_EVERY));
            let entry = mix.plan(Span(ready), Task::Ready(number));
            mix.next_ready.push(entry);
            mix.plan(Span(live), Task::Live(number));
        }
        mix
    }

    /// Enters a task that is due after `span`.
    fn plan(&mut self, span: Span, task: Task) -> (Boot, u64) {
        self.entries += 1;
        let entry = (self.world.now.boot + span, self.entries);
        self.agenda.insert(entry, task);
        entry
    }

    /// The next thing happens: a deadline of the core's, or what is due here.
    fn next(&mut self) -> Result<()> {
        let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
        if let Some(deadline) = self.world.state().next_deadline()
            && due.is_none_or(|at| deadline < at)
        {
            self.world.pass_until(deadline);
            return self.happens(Event::Woke);
        }
        let Some(((at, _), task)) = self.agenda.pop_first() else { return Ok(()) };
        self.world.pass_until(at);
        match task {
            Task::Ready(number) => self.ready(number),
            Task::Live(number) => self.live(number),
            Task::Answer(answer) => self.answer(answer),
        }
    }

    fn happens(&mut self, event: Event) -> Result<()> {
        let decision = self.world.step(event)?;
        for (after, answer) in self.world.answers(&decision)? {
            self.plan(after, Task::Answer(answer));
        }
        self.hasten(&decision);
        Ok(())
    }

    fn answer(&mut self, answer: Answer) -> Result<()> {
        if let Answer::Sign(number, ContainerSign::Started) = answer {
            self.faults[number] = Fault::Starts { until: self.world.now.boot + Span(100) };
        }
        let event = self.world.event(answer);
        self.happens(event)
    }

    /// Whom the core wants to hear of soon is asked soon.
    fn hasten(&mut self, decision: &Decision) {
        for action in &decision.actions {
            if let Action::Pace { server, pace: Pace::Fast } = action
                && let Some(number) = self.numbers.get(server).copied()
                && self.agenda.remove(&self.next_ready[number]).is_some()
            {
                self.next_ready[number] = self.plan(Span(READY_SOON), Task::Ready(number));
            }
        }
    }

    fn ready(&mut self, number: usize) -> Result<()> {
        let pace = self.world.state().pace(self.world.servers[number].id);
        let every = if pace == Pace::Fast { READY_SOON } else { READY_EVERY };
        // As probers do, lest all of them ask at once.
        let jitter = self.random.u64(0..every / 10);
        self.next_ready[number] = self.plan(Span(every + jitter), Task::Ready(number));
        let outcome = self.outcome(number)?;
        let probe = self.world.probe(number, outcome);
        self.happens(Event::Probed(probe))
    }

    fn live(&mut self, number: usize) -> Result<()> {
        self.plan(Span(LIVE_EVERY), Task::Live(number));
        let outcome = match self.faults[number] {
            Fault::Hangs { .. } => ProbeOutcome::Failed(ProbeFault::ConnectTimeout),
            Fault::Dead | Fault::Starts { .. } => ProbeOutcome::Failed(ProbeFault::Refused),
            Fault::None => ProbeOutcome::Connected { took: Span(1) },
        };
        let probe = self.world.probe(number, outcome);
        self.happens(Event::Lived(probe))
    }

    /// How a `ready` probe ends; what befalls the server befalls it now.
    fn outcome(&mut self, number: usize) -> Result<ProbeOutcome> {
        let now = self.world.now.boot;
        match self.faults[number] {
            Fault::Hangs { until } if until > now => return Ok(ProbeOutcome::Failed(ProbeFault::Silent)),
            Fault::Dead => return Ok(ProbeOutcome::Failed(ProbeFault::Refused)),
            Fault::Starts { until } if until > now => return Ok(ProbeOutcome::Failed(ProbeFault::Refused)),
            Fault::None | Fault::Hangs { .. } | Fault::Starts { .. } => self.faults[number] = Fault::None,
        }
        if self.one_in(DOCKER_SPEAKS) {
            let sign = match self.random.bool() {
                true => ContainerSign::Checked(DockersCheck::Healthy),
                false => ContainerSign::Killed { signal: Some(1) },
            };
            let event = self.world.sign(number, sign);
            self.happens(event)?;
        }
        if self.one_in(SOMEBODY_ORDERS) {
            let event = self.some_order(number);
            self.happens(event)?;
        }
        if self.one_in(ONE_FAILS) {
            let fault = PASSING[self.random.usize(0..PASSING.len())];
            return Ok(ProbeOutcome::Failed(fault));
        }
        if self.one_in(HANGS) {
            self.faults[number] = Fault::Hangs { until: now + Span(self.random.u64(300..1_000)) };
            return Ok(ProbeOutcome::Failed(ProbeFault::Silent));
        }
        if self.one_in(DIES) {
            self.faults[number] = Fault::Dead;
            let died = self.world.sign(number, ContainerSign::Died { exit: Some(1) });
            self.happens(died)?;
            return Ok(ProbeOutcome::Failed(ProbeFault::Refused));
        }
        Ok(ProbeOutcome::Healthy { status: 200, took: Span(3) })
    }

    fn some_order(&mut self, number: usize) -> Event {
        let service = self.world.servers[number].id.service;
        let scope = Scope::Service(service);
        let other = self.world.state().services.get(&service).and_then(|service| service.placement.site());
        let to = if other.is_some_and(|site| site.as_str() == SITES[0]) { SITES[1] } else { SITES[0] };
        let order = match (self.random.u8(0..4), to.parse()) {
            (0 | 1, Ok(to)) => {
                let lasts = Some(Span(400));
                Order::Failover { service, to, force: false, seen: None, lasts, pin: false }
            }
            (2, _) => Order::Pause { scope, lasts: Some(Span(200)) },
            _ => Order::Failback { service, seen: None, force: false },
        };
        self.world.order(order)
    }

    fn one_in(&mut self, many: u32) -> bool {
        self.random.u32(0..many) == 0
    }
}
