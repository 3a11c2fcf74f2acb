//! The same events under other settings: two states go through the journal together, the one that was and the one that would
//! have been.

use super::Window;
use super::assumed::{self, Apart, Containers};
use super::compare::{Line, Row, Totals, rows};
use super::quiet::{Intervals, Purpose, Quiet, answers};
use super::segments::{Because, Segments, Step, Unreadable};
use crate::daemon::core::confirmations;
use crate::domain::action::{Action, Finished, Outcome, Target};
use crate::domain::command::{Command, Order};
use crate::domain::delivery::MailKey;
use crate::domain::event::{Event, MailEnd, Mailed};
use crate::domain::incident::IncidentId;
use crate::domain::witness::ProbeOutcome;
use crate::domain::{Boot, Change, Decision, Now, Policy, ServerId, ServiceId, Span, State, Wall, decide};
use crate::store::{Gap, Item, Record};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How many lines each of the two stories has at most: some 100 MB. A month of a site that is in trouble every minute.
const LINES_MAX: usize = 200_000;

/// How many events may follow from one: an order leads to a handful, a site of 1,000 services that dies to some thousands.
const FOLLOW_MAX: usize = 100_000;

/// How often the replay may wake between two records, of which none moves its next deadline: more is a bug of ours.
const IN_PLACE_MAX: u32 = 1_000;

/// There is more to compare than fits.
#[derive(Debug, thiserror::Error)]
#[error(
    "more than {LINES_MAX} decisions are to be compared: ask for less at a time, with --since and --until"
)]
pub struct TooMuch;

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Compared {
    /// What differs, in the order of time.
    pub rows: Vec<Row>,
    /// How many lines are in both.
    pub same: u64,
    /// What was done.
    pub was: Totals,
    /// What would have been done.
    pub would: Totals,
    /// When the other settings were put in force, and the end.
    pub span: Option<(Now, Now)>,
    /// Records within the window.
    pub records: u64,
    /// Answers of quiet servers that are on no record.
    pub inferred: u64,
    /// Records that could not be replayed.
    pub skipped: u64,
    /// Where both began anew, because records are missing.
    pub gaps: Vec<Gap>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Changes of settings within the window, which the replay did not make.
    pub reloads: u64,
    /// The versions of supervisor that wrote what was replayed.
    pub versions: BTreeSet<String>,
    /// Servers that the other settings have and the journal's never had: nothing is known of them.
    pub unknown: BTreeSet<ServerId>,
    /// Servers of which more answers would have been slow than are on record.
    pub slower: BTreeSet<ServerId>,
    /// More results would have been in time than are on record.
    pub later: bool,
}

/// Takes the items of a journal in order.
#[derive(Debug)]
pub struct WhatIf {
    window: Window,
    policy: Policy,
    intervals: BTreeMap<ServerId, Intervals>,
    segments: Segments,
    was: State,
    /// None before the window.
    would: Option<State>,
    now: Now,
    boot_id: String,
    quiet: Quiet,
    containers: Containers,
    lines: (Vec<Line>, Vec<Line>),
    found: Compared,
    over: bool,
}

impl WhatIf {
    /// `policy` and `intervals` are those of the other settings; they are put in force as the window begins.
    pub fn new(window: Window, policy: Policy, intervals: BTreeMap<ServerId, Intervals>) -> WhatIf {
        WhatIf {
            window,
            policy,
            intervals,
            segments: Segments::default(),
            was: State::default(),
            would: None,
            now: Now::default(),
            boot_id: String::new(),
            quiet: Quiet::default(),
            containers: Containers::default(),
            lines: (Vec::new(), Vec::new()),
            found: Compared::default(),
            over: false,
        }
    }

    /// Whether what comes is beyond the window.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// One more item.
    ///
    /// # Errors
    ///
    /// [`TooMuch`].
    pub fn feed(&mut self, item: Item) -> Result<(), TooMuch> {
        let steps = self.segments.feed(item);
        steps.into_iter().try_for_each(|step| self.step(step))
    }

    /// No more items come: nothing was recorded up to `quiet_until`, and time passes for the replay up to then.
    ///
    /// # Errors
    ///
    /// [`TooMuch`].
    pub fn end(mut self, quiet_until: Option<Wall>) -> Result<Compared, TooMuch> {
        let steps = self.segments.end();
        steps.into_iter().try_for_each(|step| self.step(step))?;
        if let (None, Some(since), false) = (&self.would, self.window.since, self.over) {
            // Nothing was recorded in the window.
            let wall = Wall(since.0.max(self.now.wall.0));
            let passed = Span(u64::try_from(wall.0.saturating_sub(self.now.wall.0)).unwrap_or(0));
            self.put_in_force(Now { boot: self.now.boot + passed, wall })?;
        }
        let until = [quiet_until, self.window.until].into_iter().flatten().min();
        if let Some(until) = until {
            let left = u64::try_from(until.0.saturating_sub(self.now.wall.0)).unwrap_or(0);
            self.advance(self.now.boot + Span(left))?;
        }
        let (was, would) = self.lines;
        let (rows, same) = rows(was, would);
        let (skipped, inferred) = (self.segments.skipped, self.quiet.inferred);
        Ok(Compared { rows, same, skipped, inferred, ..self.found })
    }

    fn step(&mut self, step: Step) -> Result<(), TooMuch> {
        if self.over {
            return Ok(());
        }
        match step {
            Step::Begin { state, info, because } => {
                self.found.versions.insert(info.binary_version);
                let other_boot = self.boot_id != info.boot_id;
                self.boot_id = info.boot_id;
                let before = std::mem::replace(&mut self.now, info.at);
                self.was = *state;
                match (&mut self.would, because) {
                    // The state that it left behind is taken over by the next process.
                    (Some(would), Because::Start) => {
                        if other_boot {
                            would.shift_clock(before, info.at);
                        }
                        self.containers.restarted();
                        self.quiet.clear();
                    }
                    // Nobody knows what was missed: both begin with what was stored.
                    (Some(_), Because::First | Because::Gap) => self.put_in_force(info.at)?,
                    (None, _) if self.window.since.is_none() => self.put_in_force(info.at)?,
                    (None, _) => {}
                }
                self.look_at_all();
                Ok(())
            }
            Step::Checkpoint(_) => Ok(()),
            Step::Record(record, _) => self.record(&record),
            Step::Gap(gap) => {
                self.found.gaps.extend(self.would.is_some().then_some(gap));
                Ok(())
            }
            Step::Unreadable(unreadable) => {
                self.found.unreadable.push(unreadable);
                Ok(())
            }
        }
    }

    /// The other settings are read, as by a reload.
    fn put_in_force(&mut self, now: Now) -> Result<(), TooMuch> {
        self.found.span = Some((self.found.span.map_or(now, |(first, _)| first), now));
        self.containers = Containers::default();
        self.quiet.clear();
        self.now = now;
        self.would = Some(self.was.clone());
        self.note_limits();
        self.happens(Event::PolicyChanged(Box::new(self.policy.clone())))?;
        self.look_at_all();
        Ok(())
    }

    /// What the journal cannot know.
    fn note_limits(&mut self) {
        let known = &self.was.policy;
        self.found.later |= self.policy.lateness > known.lateness;
        for (id, service) in &self.policy.services {
            for (name, server) in service.servers.iter() {
                let id = ServerId { service: *id, server: *name };
                match known.server(id) {
                    None => _ = self.found.unknown.insert(id),
                    Some(before) => {
                        let lower = match (server.slow_after, before.slow_after) {
                            (Some(here), Some(there)) => here < there,
                            (Some(_), None) => true,
                            (None, _) => false,
                        };
                        if lower {
                            self.found.slower.insert(id);
                        }
                    }
                }
            }
        }
    }

    fn record(&mut self, record: &Record) -> Result<(), TooMuch> {
        if self.window.is_over(record.now.wall) {
            self.over = true;
            return Ok(());
        }
        if self.would.is_none() && self.window.has_begun(record.now.wall) {
            self.put_in_force(record.now)?;
        }
        if self.would.is_some() {
            self.advance(record.now.boot)?;
            self.found.records += 1;
        }
        self.now = record.now;
        let event = self.translated(&record.event);
        if let Some(event) = event {
            self.happens(event)?;
        }
        if self.would.is_some() {
            let first = self.found.span.map_or(record.now, |(first, _)| first);
            self.found.span = Some((first, record.now));
            self.found.was.count(&self.was, &record.decision);
            self.lines.0.extend(Line::of(record.now.wall, &record.decision.reasons));
            if self.lines.0.len() > LINES_MAX {
                return Err(TooMuch);
            }
        }
        self.was.apply(&record.decision.changes);
        self.pair(&record.decision);
        self.look_at(&record.decision.changes, probed(&record.event));
        Ok(())
    }

    /// What the journal did to containers, and the replay did or did not.
    fn pair(&mut self, decision: &Decision) {
        let Some(would) = &self.would else { return };
        for action in &decision.actions {
            if let Action::Heal(heal) = action {
                self.containers.acted(would, heal);
            }
        }
        if self.containers.are_apart() {
            self.containers.meet(&self.was);
            self.look_at_all();
        }
    }

    /// Time passes up to `to`: deadlines come, assumed ends, and what quiet servers answer.
    fn advance(&mut self, to: Boot) -> Result<(), TooMuch> {
        let mut in_place = 0;
        loop {
            let Some(would) = &self.would else { return Ok(()) };
            let deadline = would.next_deadline();
            let (due, quiet) = (self.containers.next(), self.quiet.next());
            let Some(at) = [deadline, due, quiet].into_iter().flatten().min().filter(|at| *at < to) else {
                return Ok(());
            };
            let before = self.now.boot;
            let at_or_now = at.max(before);
            self.now = Now { boot: at_or_now, wall: self.now.wall_at(at_or_now) };
            in_place = if at_or_now > before { 0 } else { in_place + 1 };
            if in_place > IN_PLACE_MAX {
                return Ok(());
            }
            if due == Some(at) {
                let now = self.now;
                if let Some((_, events)) = self.containers.pop(&self.was, would, now) {
                    events.into_iter().try_for_each(|event| self.happens(event))?;
                    self.look_at_all();
                }
            } else if deadline == Some(at) {
                self.happens(Event::Woke)?;
            } else if let Some((server, purpose, event)) = self.quiet.pop() {
                self.happens(event)?;
                if let Some(would) = &self.would {
                    let every = self.every(would, server, purpose);
                    self.quiet.in_vain(server, purpose, self.now.boot, every);
                }
            }
        }
    }

    /// An event of the journal as the replay hears it; none: not at all, since it is an outcome that is assumed, or of
    /// something that the replay did not do.
    fn translated(&mut self, event: &Event) -> Option<Event> {
        let would = self.would.as_ref()?;
        match event {
            Event::PolicyChanged(_) => {
                self.found.reloads += 1;
                None
            }
            Event::Woke | Event::Breached { .. } | Event::Routed(_) | Event::Mailed(_) => None,
            Event::Finished(end) => self.containers.finished(end, self.now.boot),
            Event::Probed(probed) | Event::Lived(probed) => {
                self.containers.of_server(would, probed.server).is_none().then(|| event.clone())
            }
            Event::Container(announced) => self.containers.announced(announced, self.now.boot),
            Event::Containers(list) => Some(self.containers.listed(would, list)),
            Event::Proxy(seen) => Some(assumed::look(&self.was, would, seen)),
            Event::Peer(seen) => Some(assumed::round(&self.was, would, seen, self.now)),
            Event::Commanded(command) => Some(Event::Commanded(self.ordered(would, command))),
            Event::Started
            | Event::ProberSilent { .. }
            | Event::EngineLost { .. }
            | Event::ProxyLost { .. }
            | Event::Configured(_)
            | Event::WentBack(_)
            | Event::Store(_) => Some(event.clone()),
        }
    }

    /// Who looked at the route before they ordered looked at the replay's.
    fn ordered(&self, would: &State, command: &Command) -> Command {
        let mut command = command.clone();
        let looked = |service: ServiceId, seen: &mut Option<u64>| {
            let known = |state: &State| state.services.get(&service).map(|service| service.generation);
            if seen.is_some() && *seen == known(&self.was) {
                *seen = known(would);
            }
        };
        match &mut command.order {
            Order::Failover { service, seen, .. } | Order::Failback { service, seen, .. } => {
                looked(*service, seen)
            }
            Order::Pause { .. } | Order::Resume { .. } | Order::Maintain { .. } | Order::TestAlert => {}
        }
        command
    }

    /// Something happens in the replay, and what follows from it.
    fn happens(&mut self, event: Event) -> Result<(), TooMuch> {
        let mut events = VecDeque::from([event]);
        for _ in 0..FOLLOW_MAX {
            let Some(event) = events.pop_front() else { break };
            let Some(would) = &mut self.would else { break };
            let decision = decide(would, &event, self.now);
            if decision.is_empty() {
                continue;
            }
            let fresh = fresh_incidents(would, &decision, self.now.boot);
            self.found.would.count(would, &decision);
            would.apply(&decision.changes);
            self.lines.1.extend(Line::of(self.now.wall, &decision.reasons));
            if self.lines.1.len() > LINES_MAX {
                return Err(TooMuch);
            }
            events.extend(confirmations(would, &decision));
            for action in &decision.actions {
                match action {
                    Action::Evacuate(evacuation) => events.push_back(Event::Finished(Finished {
                        action: evacuation.id,
                        of: Target::Server(evacuation.server),
                        outcome: Outcome::Done,
                    })),
                    Action::Heal(heal) => self.containers.acts(&self.was, heal, self.now.boot),
                    Action::Mail(mail) => {
                        let end = MailEnd::Accepted { recipients: 1 };
                        events.push_back(Event::Mailed(Mailed { mail: MailKey::of(mail), end }));
                    }
                    Action::Route { .. } | Action::Pace { .. } | Action::Answer { .. } => {}
                }
            }
            if !fresh.is_empty() {
                events.extend(assumed::rounds(would, &fresh, self.now));
            }
            self.look_at(&decision.changes, probed(&event));
        }
        Ok(())
    }

    fn every(&self, would: &State, server: ServerId, purpose: Purpose) -> Span {
        let intervals = self.intervals.get(&server).copied().unwrap_or_default();
        intervals.every(purpose, would.pace(server))
    }

    /// The servers that the changes are about may have to be asked now, or no longer. `heard`: this one has just answered.
    fn look_at(&mut self, changes: &[Change], heard: Option<(ServerId, Purpose)>) {
        if self.would.is_none() {
            return;
        }
        if changes.iter().any(|change| matches!(change, Change::Policy(_))) {
            return self.look_at_all();
        }
        let touched: BTreeSet<ServerId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Health { server, .. }
                | Change::Life { server, .. }
                | Change::Reborn { server, .. }
                | Change::Asked { server, .. } => Some(*server),
                _ => None,
            })
            .collect();
        for server in touched {
            for purpose in [Purpose::Ready, Purpose::Live] {
                self.look_at_server(server, purpose, heard == Some((server, purpose)));
            }
        }
    }

    fn look_at_all(&mut self) {
        let Some(would) = &self.would else { return };
        let servers = would.services.iter().flat_map(|(id, service)| {
            service.servers.keys().map(move |name| ServerId { service: *id, server: *name })
        });
        let servers: Vec<ServerId> = servers.collect();
        for server in servers {
            self.look_at_server(server, Purpose::Ready, false);
            self.look_at_server(server, Purpose::Live, false);
        }
    }

    fn look_at_server(&mut self, id: ServerId, purpose: Purpose, heard: bool) {
        let Some(would) = &self.would else { return };
        let outcome = match (self.was.server(id), would.server(id)) {
            (Some(was), Some(server)) => match self.containers.of_server(would, id) {
                Some(Apart::Behind) => None,
                Some(Apart::Ahead) => {
                    let awaited = match purpose {
                        Purpose::Ready => server.is_awaited(),
                        Purpose::Live => server.is_life_awaited(),
                    };
                    awaited.then_some(ProbeOutcome::Connected { took: Span::ZERO })
                }
                None => answers(was, server, purpose),
            },
            (Some(_) | None, _) => None,
        };
        let every = self.every(would, id, purpose);
        self.quiet.set(id, purpose, outcome, self.now.boot, every, heard);
    }
}

/// Whose answer an event is.
fn probed(event: &Event) -> Option<(ServerId, Purpose)> {
    match event {
        Event::Probed(probed) => Some((probed.server, Purpose::Ready)),
        Event::Lived(probed) => Some((probed.server, Purpose::Live)),
        _ => None,
    }
}

/// The incidents that a decision opens, opens again or ends.
fn fresh_incidents(before: &State, decision: &Decision, now: Boot) -> Vec<IncidentId> {
    let fresh = |change: &Change| match change {
        Change::Incident { id, incident: Some(incident) } => {
            let known = before.incidents.get(id);
            let was_open = known.is_some_and(|known| known.ended.is_none());
            let begins = incident.ended.is_none() && !was_open;
            let ends = was_open && incident.ended.is_some_and(|ended| ended.at == now);
            (begins || ends).then_some(*id)
        }
        _ => None,
    };
    decision.changes.iter().filter_map(fresh).collect()
}
