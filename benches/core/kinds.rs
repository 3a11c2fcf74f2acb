//! Each kind of event by itself: the same happens to a few services one after the other, so that a clock can be held
//! beside it.
//!
//! The few are others each time, as anybody's next event is about somebody else: with 10,000 services, what an event
//! touches is seldom where the last one left it.

use anyhow::{Result, ensure};
use fastrand::Rng;
use supervisor::domain::command::Order;
use supervisor::domain::event::{ContainerSign, DockersCheck, Event};
use supervisor::domain::witness::{ProbeFault, ProbeOutcome};
use supervisor::domain::{Decision, Span};

use crate::recording::Recording;
use crate::world::{Answer, HOLD_DOWN, SITES, World};

/// So often everything happens.
const CYCLES: usize = 100;

/// To so many services.
const FEW: usize = 8;

/// Quiet events are short: so many together.
const MANY: usize = 64;

/// What costs as much as there are services happens in each of so many cycles.
const SELDOM: usize = 20;

const WELL: ProbeOutcome = ProbeOutcome::Healthy { status: 200, took: Span(3) };
const SICK: ProbeOutcome = ProbeOutcome::Failed(ProbeFault::Status(503));
const GONE: ProbeOutcome = ProbeOutcome::Failed(ProbeFault::Refused);
const DIED: ContainerSign = ContainerSign::Died { exit: Some(1) };

/// Records every kind, with `size` services.
pub(crate) fn record(size: usize, seed: u64) -> Result<Recording> {
    let mut script = Script { world: World::new(size)?, random: Rng::with_seed(seed), open: Vec::new() };
    script.world.record();
    for cycle in 0..CYCLES {
        script.cycle(size, cycle.is_multiple_of(SELDOM))?;
    }
    script.world.recording()
}

struct Script {
    world: World,
    random: Rng,
    /// What the edges have yet to answer, and how long that takes.
    open: Vec<(Span, Answer)>,
}

impl Script {
    fn cycle(&mut self, size: usize, with_looks: bool) -> Result<()> {
        let services = self.random.choose_multiple(0..size, FEW);
        let few = |site: &str| -> Vec<usize> {
            let at = |service: &usize| {
                let both = [2 * service, 2 * service + 1];
                both.into_iter().find(|number| self.world.servers[*number].container.engine.as_str() == site)
            };
            services.iter().filter_map(at).collect()
        };
        let (better, other) = (few(SITES[0]), few(SITES[1]));
        let many: Vec<usize> = (0..MANY).map(|_| self.random.usize(0..2 * size)).collect();

        self.probes(&many, WELL)?;
        self.lives(&many)?;
        self.signs(&better, ContainerSign::Checked(DockersCheck::Healthy))?;
        self.signs(&other, ContainerSign::Killed { signal: Some(1) })?;

        self.probes(&better, SICK)?;
        self.probes(&better, WELL)?;

        self.probes(&better, GONE)?;
        self.recover(&better)?;
        self.signs(&other, DIED)?;
        self.recover(&other)?;
        self.signs(&better, DIED)?;
        self.recover(&better)?;

        self.orders(&better, |service| {
            let to = SITES[1].parse()?;
            Ok(Order::Failover { service, to, force: false, seen: None, lasts: None, pin: false })
        })?;
        self.orders(&better, |service| Ok(Order::Failback { service, seen: None, force: false }))?;

        if with_looks {
            let look = self.world.look()?;
            self.happens(look)?;
            let list = self.world.list(SITES[0])?;
            self.happens(list)?;
        }
        // Long enough for what was counted to be forgotten, and for people to be told.
        self.settle(Span::seconds(60))?;
        let home = |number: &usize| {
            let (service, _) = self.world.state().service(self.world.servers[*number].id.service)?;
            Some(
                service.placement.site()?.as_str() == SITES[0]
                    && service.servers.values().all(|s| s.health.is_up()),
            )
        };
        ensure!(better.iter().all(|number| home(number) == Some(true)), "not all is well again");
        Ok(())
    }

    /// What came about comes to its end: the edges answer, the servers serve again, traffic returns.
    fn recover(&mut self, servers: &[usize]) -> Result<()> {
        self.answer()?;
        self.settle(HOLD_DOWN)?;
        self.probes(servers, WELL)?;
        self.probes(servers, WELL)?;
        self.answer()?;
        self.settle(HOLD_DOWN)
    }

    fn probes(&mut self, servers: &[usize], outcome: ProbeOutcome) -> Result<()> {
        servers.iter().try_for_each(|number| {
            let probe = self.world.probe(*number, outcome);
            self.happens(Event::Probed(probe))
        })
    }

    fn lives(&mut self, servers: &[usize]) -> Result<()> {
        servers.iter().try_for_each(|number| {
            let probe = self.world.probe(*number, ProbeOutcome::Connected { took: Span(1) });
            self.happens(Event::Lived(probe))
        })
    }

    fn signs(&mut self, servers: &[usize], sign: ContainerSign) -> Result<()> {
        servers.iter().try_for_each(|number| {
            let event = self.world.sign(*number, sign);
            self.happens(event)
        })
    }

    fn orders(
        &mut self,
        servers: &[usize],
        order: impl Fn(supervisor::domain::ServiceId) -> Result<Order>,
    ) -> Result<()> {
        servers.iter().try_for_each(|number| {
            let event = self.world.order(order(self.world.servers[*number].id.service)?);
            self.happens(event)
        })?;
        self.answer()
    }

    /// A moment later, something happens.
    fn happens(&mut self, event: Event) -> Result<()> {
        self.world.pass(Span(1));
        let decision: Decision = self.world.step(event)?;
        self.open.extend(self.world.answers(&decision)?);
        Ok(())
    }

    /// The edges answer, each kind of answer after the other.
    fn answer(&mut self) -> Result<()> {
        while !self.open.is_empty() {
            let mut answers = std::mem::take(&mut self.open);
            answers.sort_by_key(|(after, _)| *after);
            for (_, answer) in answers {
                let event = self.world.event(answer);
                self.happens(event)?;
            }
        }
        Ok(())
    }

    /// Time passes, with all its deadlines.
    fn settle(&mut self, span: Span) -> Result<()> {
        /// Deadlines that are so close together come together; what they lead to comes after.
        const TOGETHER: Span = Span(50);
        let until = self.world.now.boot + span;
        while let Some(first) = self.world.state().next_deadline().filter(|at| *at <= until) {
            let last = (first + TOGETHER).min(until);
            while let Some(at) = self.world.state().next_deadline().filter(|at| *at <= last) {
                self.world.pass_until(at);
                self.happens(Event::Woke)?;
            }
            self.answer()?;
        }
        self.world.pass_until(until);
        Ok(())
    }
}
