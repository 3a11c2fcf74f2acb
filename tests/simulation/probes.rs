//! The probers: the real cadence, and what a probe finds in this world.

use crate::clockwork::Ms;
use crate::fault::Kind;
use crate::plan::{server_name, service_id, site_id};
use crate::world::World;
use std::time::Duration;
use supervisor::domain::action::Pace;
use supervisor::domain::event::Probed;
use supervisor::domain::witness::{ProbeFault, ProbeOutcome};
use supervisor::domain::{Boot, Event, ServerId, Span};
use supervisor::probe::{Cadence, Last, Purpose};

/// As the settings have them by default; the interval is the cast's.
const READY: (u64, Ms) = (250, 1_000);
const LIVE: (u64, u64, Ms) = (10_000, 250, 2_000);

/// A tenth of the interval, as the settings have it by default.
const JITTER: u64 = 10;

/// How long a prober may be silent before it is started anew: its slack, the watchdog's allowance and second look.
const SILENT_FOR: Ms = 500 + 10_000 + 2_000;

/// One prober.
pub(crate) struct Prober {
    pub(crate) server: ServerId,
    container: usize,
    purpose: Purpose,
    timeout: Ms,
    cadence: Cadence,
    pub(crate) pace: Pace,
    paced: Pace,
    last: Option<Last>,
    attempt: u64,
    /// Grows with each plan: an older one is void.
    plan: u64,
    waits: bool,
    pub(crate) silent: bool,
}

impl World {
    /// Probers for the servers of the settings; those that are there already stay.
    pub(crate) fn set_probers(&mut self) {
        let mut wanted = Vec::new();
        for (service, site, number) in self.plan.cast.servers() {
            let name = server_name(service, site, number);
            let server = ServerId { service: service_id(service), server: name.parse().unwrap() };
            let policy = self.supervisor.as_ref().and_then(|of| of.state().policy.server(server));
            let known = policy.is_some_and(|policy| policy.site == site_id(site));
            let container = self.containers.iter().position(|container| container.name.name.0 == name);
            if let (true, Some(container)) = (known, container) {
                wanted.push((server, container));
            }
        }
        let interval = self.plan.cast.interval;
        let Some(supervisor) = &mut self.supervisor else { return };
        supervisor.probers.retain(|prober| wanted.iter().any(|(server, _)| *server == prober.server));
        let first = supervisor.probers.len();
        for (server, container) in wanted {
            if supervisor.probers.iter().any(|prober| prober.server == server) {
                continue;
            }
            let ready = (interval, READY.0, READY.1);
            for (purpose, (interval, fast, timeout)) in [(Purpose::Ready, ready), (Purpose::Live, LIVE)] {
                let ms = Duration::from_millis;
                let cadence = Cadence::of(server, purpose, ms(interval), ms(fast), ms(interval / JITTER));
                supervisor.probers.push(Prober {
                    server,
                    container,
                    purpose,
                    timeout,
                    cadence,
                    pace: Pace::Normal,
                    paced: Pace::Normal,
                    last: None,
                    attempt: 0,
                    plan: 0,
                    waits: false,
                    silent: false,
                });
            }
        }
        // Those that were removed have moved the others: every plan is made anew.
        let _ = first;
        for number in 0..self.supervisor.as_ref().map_or(0, |of| of.probers.len()) {
            self.plan_probe(number);
        }
    }

    fn plan_probe(&mut self, number: usize) {
        let now = self.now().boot;
        let Some(prober) = self.supervisor.as_mut().and_then(|of| of.probers.get_mut(number)) else { return };
        prober.paced = prober.pace;
        // A live probe knows one pace.
        let pace = if prober.purpose == Purpose::Live { Pace::Normal } else { prober.pace };
        let due = match prober.last {
            Some(last) => prober.cadence.next(last, pace, now),
            None => prober.cadence.first(now),
        };
        prober.plan += 1;
        prober.waits = true;
        let (server, purpose, plan) = (prober.server, prober.purpose, prober.plan);
        let after = i64::try_from(due.since(now).0).unwrap_or(0);
        self.at_edge(after, move |world| world.probe(server, purpose, plan, due));
    }

    /// Servers whose pace changed are probed at the new one.
    pub(crate) fn repace(&mut self) {
        let Some(supervisor) = &self.supervisor else { return };
        let moved = |prober: &Prober| prober.waits && prober.paced != prober.pace && prober.last.is_some();
        let numbers: Vec<usize> =
            supervisor.probers.iter().enumerate().filter(|(_, of)| moved(of)).map(|(n, _)| n).collect();
        for number in numbers {
            self.plan_probe(number);
        }
    }

    fn prober(&mut self, server: ServerId, purpose: Purpose, plan: u64) -> Option<(usize, &mut Prober)> {
        let all = self.supervisor.as_mut()?.probers.iter_mut().enumerate();
        all.into_iter().find(|(_, of)| of.server == server && of.purpose == purpose && of.plan == plan)
    }

    fn probe(&mut self, server: ServerId, purpose: Purpose, plan: u64, due: Boot) {
        let started = self.now().boot;
        let Some((number, prober)) = self.prober(server, purpose, plan) else { return };
        prober.waits = false;
        if std::mem::take(&mut prober.silent) {
            let since = due + Span(u64::try_from(prober.timeout + 500 + 10_000).unwrap_or(0));
            let after = prober.timeout + SILENT_FOR;
            self.at_edge(after, move |world| {
                if world.prober(server, purpose, plan).is_some() {
                    world.put_observed(Event::ProberSilent { server, since });
                    world.plan_probe(number);
                }
            });
            return;
        }
        let (container, timeout) = (prober.container, prober.timeout);
        let (outcome, takes) = self.find(container, purpose, timeout);
        self.at_edge(takes, move |world| world.probed(server, purpose, plan, due, started, outcome));
    }

    /// What a probe of the process finds, and how long that takes.
    fn find(&mut self, number: usize, purpose: Purpose, timeout: Ms) -> (ProbeOutcome, Ms) {
        let now = self.clock.now();
        let failed = |fault, takes| (ProbeOutcome::Failed(fault), takes);
        if now < self.own_resources_until {
            self.count(Kind::OwnResources);
            return failed(ProbeFault::OwnResources, 0);
        }
        let takes = self.probe_rng.i64(1..6);
        let found = self.truth(number, purpose, timeout, takes);
        let (until, percent) = self.lies[number];
        if purpose == Purpose::Ready && now < until && self.probe_rng.u32(..100) < percent {
            self.count(Kind::ProbeLies);
            let healthy = ProbeOutcome::Healthy { status: 200, took: Span(3) };
            return match (found.0, self.probe_rng.usize(..4)) {
                (ProbeOutcome::Failed(_), _) => (healthy, 3),
                (_, 0) => failed(ProbeFault::Status(503), takes),
                (_, 1) => failed(ProbeFault::Silent, timeout),
                (_, 2) => failed(ProbeFault::ConnectTimeout, timeout),
                _ => failed(ProbeFault::Refused, 1),
            };
        }
        found
    }

    fn truth(&self, number: usize, purpose: Purpose, timeout: Ms, takes: Ms) -> (ProbeOutcome, Ms) {
        let now = self.clock.now();
        let failed = |fault, takes| (ProbeOutcome::Failed(fault), takes);
        let container = &self.containers[number];
        if !self.we_reach(container.site) {
            return failed(ProbeFault::ConnectTimeout, timeout);
        }
        if !container.runs() || now < container.ready {
            return failed(ProbeFault::Refused, 1);
        }
        let frozen = container.status == supervisor::domain::event::ContainerStatus::Paused;
        if frozen || now < container.hangs_until {
            return failed(ProbeFault::Silent, timeout);
        }
        let took = |takes: Ms| Span(u64::try_from(takes).unwrap_or(0));
        if purpose == Purpose::Live {
            return (ProbeOutcome::Connected { took: took(takes) }, takes);
        }
        if now < container.sick_until {
            return failed(ProbeFault::Status(container.sick_code), takes);
        }
        let takes = if now < container.slow_until { takes + container.slow_by } else { takes };
        if takes >= timeout {
            return failed(ProbeFault::Silent, timeout);
        }
        (ProbeOutcome::Healthy { status: 200, took: took(takes) }, takes)
    }

    fn probed(
        &mut self,
        server: ServerId,
        purpose: Purpose,
        plan: u64,
        due: Boot,
        started: Boot,
        outcome: ProbeOutcome,
    ) {
        let (now, ended) = (self.clock.now(), self.now().boot);
        let Some((number, prober)) = self.prober(server, purpose, plan) else { return };
        let attempt = prober.attempt;
        prober.last = Some(Last { attempt, due, ended });
        prober.attempt += 1;
        let probed = Probed { server, due, started, ended, outcome };
        let event = match purpose {
            Purpose::Ready => Event::Probed(probed),
            Purpose::Live => Event::Lived(probed),
        };
        let (until, by) = self.probes_late;
        if now < until {
            self.count(Kind::ProbeLate);
            self.at_edge(by, move |world| world.put_observed(event));
        } else {
            self.put_observed(event);
        }
        self.plan_probe(number);
    }
}
