//! One process of supervisor in the world: the real core, lanes, turns and rules of what goes out; around them its edges, each
//! a task that dies with the process. What is under way outside when it dies goes on.

use crate::alerts::{Postman, Rounds};
use crate::clockwork::Ms;
use crate::disk::Told;
use crate::keeper::Keeper;
use crate::probes::Prober;
use crate::watcher::Watcher;
use crate::world::{WALL_BEGAN, World};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use supervisor::alert::alertmanager::{Alert, alerts};
use supervisor::daemon::{
    Core, DURABLE_WITHIN, Disk, HARD_LANE, Inbox, Loop, Next, OBSERVED_LANE, ORDER_LANE, Outgoing, Published,
    Step, TICK, is_durable, pause, turn,
};
use supervisor::domain::action::Action;
use supervisor::domain::{
    ActionId, Boot, Command, CommandId, EngineId, Event, Now, Operator, Order, PeerId, ProxyId, Span, State,
    Verdict, Wall,
};
use supervisor::store::Record;
use tokio::sync::mpsc;

/// What an edge does.
type Deed = Box<dyn FnOnce(&mut World)>;

/// One process.
pub(crate) struct Supervisor {
    /// Which: what belongs to an earlier one is not ours.
    pub(crate) run: u64,
    pub(crate) core: Core,
    inbox: Inbox<Command>,
    orders: mpsc::Sender<Command>,
    hard: mpsc::Sender<Event>,
    observed: mpsc::Sender<Event>,
    /// Edges that wait for room in a lane.
    waiting: VecDeque<(bool, Event)>,
    /// What its edges do when it is no longer frozen, in order.
    parked: VecDeque<Deed>,
    outgoing: Outgoing,
    batch: Vec<Record>,
    /// The number of the last record that is on the disk, as the process knows.
    pub(crate) committed: u64,
    pub(crate) frozen_until: Ms,
    /// It was told to end: its loop has ended.
    pub(crate) stopping: bool,
    next_turn: Option<Ms>,
    turns: u64,
    pub(crate) probers: Vec<Prober>,
    pub(crate) keepers: BTreeMap<ProxyId, Keeper>,
    pub(crate) watchers: BTreeMap<EngineId, Watcher>,
    pub(crate) rounds: BTreeMap<PeerId, Rounds>,
    pub(crate) wanted_alerts: Arc<Vec<Alert>>,
    pub(crate) postman: Postman,
    pub(crate) under_way: BTreeSet<ActionId>,
    /// Answers that wait for their commit: the command, its record, until when.
    answers: Vec<Answer>,
    /// What waits for its record to be on the disk.
    durable: Vec<Durable>,
    commands: u64,
    /// It dies after so many more of these.
    pub(crate) dies_at: Option<(Death, u32)>,
    pub(crate) last_snapshot: Boot,
}

/// Where a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// After a decision, before anything of it goes out.
    Decided,
    /// After it went out, before it is handed to the disk.
    Published,
    /// After that.
    Submitted,
}

/// An answer that may wait for its commit.
struct Answer {
    command: CommandId,
    seq: u64,
    until: Boot,
    verdict: Verdict,
}

/// Something that begins when its record is on the disk, or late.
struct Durable {
    seq: u64,
    until: Boot,
    begin: Told,
}

impl Supervisor {
    pub(crate) fn new(run: u64, core: Core, committed: u64) -> Supervisor {
        let (orders, order_lane) = mpsc::channel(ORDER_LANE);
        let (hard, hard_lane) = mpsc::channel(HARD_LANE);
        let (observed, observed_lane) = mpsc::channel(OBSERVED_LANE);
        Supervisor {
            run,
            core,
            inbox: Inbox { orders: order_lane, hard: hard_lane, observed: observed_lane },
            orders,
            hard,
            observed,
            waiting: VecDeque::new(),
            parked: VecDeque::new(),
            outgoing: Outgoing::everything(),
            batch: Vec::new(),
            committed,
            frozen_until: 0,
            stopping: false,
            next_turn: None,
            turns: 0,
            probers: Vec::new(),
            keepers: BTreeMap::new(),
            watchers: BTreeMap::new(),
            rounds: BTreeMap::new(),
            wanted_alerts: Arc::default(),
            postman: Postman::default(),
            under_way: BTreeSet::new(),
            answers: Vec::new(),
            durable: Vec::new(),
            commands: 0,
            dies_at: None,
            last_snapshot: Boot(i64::MIN),
        }
    }

    pub(crate) fn state(&self) -> &State {
        self.core.state()
    }

    fn put(&mut self, is_hard: bool, event: Event) {
        let lane = if is_hard { &self.hard } else { &self.observed };
        if let Err(full) = lane.try_send(event) {
            self.waiting.push_back((is_hard, full.into_inner()));
        }
    }

    /// Whether it dies here.
    fn dies(&mut self, at: Death) -> bool {
        let Some((wanted, left)) = &mut self.dies_at else { return false };
        if *wanted != at {
            return false;
        }
        *left = left.saturating_sub(1);
        *left == 0
    }

    fn make_room(&mut self) {
        for (is_hard, event) in std::mem::take(&mut self.waiting) {
            self.put(is_hard, event);
        }
    }

    fn has_more(&self) -> bool {
        !self.inbox.orders.is_empty() || !self.inbox.hard.is_empty() || !self.inbox.observed.is_empty()
    }
}

/// The loop of the process that runs, with the world around it.
struct Turning<'a> {
    world: &'a mut World,
    run: u64,
}

impl Turning<'_> {
    fn of(&mut self) -> Option<&mut Supervisor> {
        self.world.supervisor.as_mut().filter(|of| of.run == self.run)
    }
}

impl Loop for Turning<'_> {
    type Order = Command;

    fn next(&mut self) -> Option<Next<Command>> {
        self.of()?.inbox.pop()
    }

    fn order(&mut self, order: Command) {
        self.take(Event::Commanded(order));
    }

    fn take(&mut self, event: Event) {
        let now = self.world.now();
        let Some(supervisor) = self.of() else { return };
        let step = match supervisor.core.step(event, now) {
            Ok(step) => step,
            Err(_) => {
                self.world.steps += 1;
                return;
            }
        };
        let seq = step.record.seq;
        let mut paced = false;
        for action in &step.record.decision.actions {
            match action {
                Action::Pace { server, pace } => {
                    supervisor
                        .probers
                        .iter_mut()
                        .filter(|of| of.server == *server)
                        .for_each(|of| of.pace = *pace);
                    paced = true;
                }
                Action::Answer { command, verdict } => {
                    let until = now.boot + DURABLE_WITHIN;
                    supervisor.answers.push(Answer {
                        command: *command,
                        seq,
                        until,
                        verdict: verdict.clone(),
                    });
                }
                other => supervisor.outgoing.note(seq, other),
            }
        }
        supervisor.outgoing.note_changes(seq, &step.record.decision.changes, now.boot);
        self.world.steps += 1;
        // What nothing follows from is not worth a line.
        if let Some(heard) = &mut self.world.heard {
            heard.push((now.boot, step.record.event.clone()));
        }
        self.world.judge_step(&step);
        let Step { record, breaches } = step;
        let Some(supervisor) = self.of() else { return };
        supervisor.batch.push(record);
        let dies = supervisor.dies(Death::Decided);
        if paced {
            self.world.repace();
        }
        if dies {
            return self.world.die();
        }
        for breach in breaches {
            self.take(Event::Breached { breach: breach.to_string() });
        }
    }

    fn deadline(&self) -> Option<Boot> {
        let of = self.world.supervisor.as_ref().filter(|of| of.run == self.run)?;
        of.state().next_deadline()
    }

    fn now(&self) -> Boot {
        self.world.now().boot
    }

    fn flush(&mut self) {
        let now = self.world.now();
        let Some(supervisor) = self.of() else { return };
        let disk = Disk { committed: supervisor.committed, ended: false };
        let out = supervisor.outgoing.publish(supervisor.core.state(), disk, now.boot);
        self.world.carry_out(out);
        let Some(supervisor) = self.of() else { return };
        if supervisor.dies(Death::Published) {
            return self.world.die();
        }
        let Some(supervisor) = self.of() else { return };
        if now.boot.since(supervisor.last_snapshot) >= SNAPSHOT_EVERY {
            self.world.snapshot();
        }
        let Some(supervisor) = self.of() else { return };
        let batch = std::mem::take(&mut supervisor.batch);
        if !batch.is_empty() {
            self.world.submit(batch);
        }
        self.world.answer();
        if self.of().is_some_and(|of| of.dies(Death::Submitted)) {
            self.world.die();
        }
    }
}

/// How often the state is stored whole.
const SNAPSHOT_EVERY: Span = Span::seconds(3600);

impl World {
    /// This moment, as the process has it.
    pub(crate) fn now(&self) -> Now {
        let now = self.clock.now();
        Now { boot: Boot(now - self.booted), wall: Wall(WALL_BEGAN + now + self.wall_ahead) }
    }

    /// Whether the process `run` runs.
    pub(crate) fn runs(&self, run: u64) -> bool {
        self.supervisor.as_ref().is_some_and(|of| of.run == run)
    }

    pub(crate) fn run(&self) -> Option<u64> {
        self.supervisor.as_ref().map(|of| of.run)
    }

    /// An edge of the process that runs does something `after` from now: later if it is frozen then, never if it is dead.
    pub(crate) fn at_edge(&mut self, after: Ms, what: impl FnOnce(&mut World) + 'static) {
        let Some(run) = self.run() else { return };
        self.clock.after(after, move |world| world.edge(run, what));
    }

    fn edge(&mut self, run: u64, what: impl FnOnce(&mut World) + 'static) {
        let now = self.clock.now();
        match self.supervisor.as_mut().filter(|of| of.run == run) {
            Some(of) if of.frozen_until > now => of.parked.push_back(Box::new(what)),
            Some(_) => what(self),
            None => {}
        }
    }

    /// The process stands still; it goes on after `lasts`, unless something else holds it for longer.
    pub(crate) fn freeze(&mut self, lasts: Ms) {
        let until = self.clock.now() + lasts;
        let Some(supervisor) = &mut self.supervisor else { return };
        supervisor.frozen_until = supervisor.frozen_until.max(until);
        let run = supervisor.run;
        self.clock.after(lasts, move |world| world.thaw(run));
    }

    /// It goes on: what its edges had to do meanwhile comes first.
    pub(crate) fn thaw(&mut self, run: u64) {
        let now = self.clock.now();
        while let Some(of) = self.supervisor.as_mut().filter(|of| of.run == run && of.frozen_until <= now) {
            let Some(what) = of.parked.pop_front() else { return self.wake_loop(0) };
            what(self);
        }
    }

    /// Hard evidence, or an outcome.
    pub(crate) fn put_hard(&mut self, event: Event) {
        self.put(true, event);
    }

    /// An observation.
    pub(crate) fn put_observed(&mut self, event: Event) {
        self.put(false, event);
    }

    fn put(&mut self, is_hard: bool, event: Event) {
        // Nobody listens where the loop has ended.
        if let Some(supervisor) = self.supervisor.as_mut().filter(|of| !of.stopping) {
            supervisor.put(is_hard, event);
            self.wake_loop(0);
        }
    }

    /// A person orders something.
    pub(crate) fn order(&mut self, order: Order, by: &str) -> Option<CommandId> {
        let supervisor = self.supervisor.as_mut().filter(|of| !of.stopping)?;
        supervisor.commands += 1;
        let id = CommandId(supervisor.commands);
        let by = Operator { uid: 1000, pid: Some(1), name: Some(by.to_owned()) };
        let command = Command { id, by, because: None, order };
        // Too many people at once: the socket tells them so.
        supervisor.orders.try_send(command).ok()?;
        self.wake_loop(0);
        Some(id)
    }

    /// Lets the loop make a turn `after` from now, or sooner if it is to already.
    fn wake_loop(&mut self, after: Ms) {
        let now = self.clock.now();
        let Some(supervisor) = &mut self.supervisor else { return };
        let at = (now + after).max(supervisor.frozen_until);
        if supervisor.next_turn.is_some_and(|next| next <= at) {
            return;
        }
        supervisor.next_turn = Some(at);
        supervisor.turns += 1;
        let (run, number) = (supervisor.run, supervisor.turns);
        self.clock.after(at - now, move |world| world.turn(run, number));
    }

    fn turn(&mut self, run: u64, number: u64) {
        let now = self.clock.now();
        let Some(supervisor) = self.supervisor.as_mut().filter(|of| of.run == run && of.turns == number)
        else {
            return;
        };
        supervisor.next_turn = None;
        if supervisor.stopping {
            return;
        }
        if supervisor.frozen_until > now {
            return self.wake_loop(0);
        }
        turn(&mut Turning { world: self, run });
        let boot = self.now().boot;
        let Some(supervisor) = self.supervisor.as_mut().filter(|of| of.run == run) else { return };
        supervisor.make_room();
        let next = match supervisor.has_more() {
            true => Span::ZERO,
            false => pause(supervisor.state().next_deadline(), TICK, boot),
        };
        self.judge_turn(next);
        self.wake_loop(i64::try_from(next.0).unwrap_or(1_000));
    }

    /// Steps that the loop makes by itself: at its beginning, and for new settings.
    pub(crate) fn take(&mut self, events: Vec<Event>) {
        let Some(run) = self.run() else { return };
        let mut turning = Turning { world: self, run };
        for event in events {
            turning.take(event);
        }
        turning.flush();
        self.wake_loop(0);
    }

    /// What was decided goes out.
    fn carry_out(&mut self, out: Published) {
        for (proxy, desired) in out.desired {
            self.desire(proxy, desired, out.but_servers);
        }
        let Some(supervisor) = &mut self.supervisor else { return };
        if let Some(under_way) = out.under_way {
            supervisor.under_way = under_way;
        }
        if out.troubled {
            let alerts = alerts(supervisor.core.state(), "http://supervisor/");
            if *supervisor.wanted_alerts != alerts {
                supervisor.wanted_alerts = Arc::new(alerts);
                self.alerts_changed();
            }
        }
        for (seq, heal) in out.heals {
            let decided = self.clock.now();
            self.when_durable(seq, move |world, _| world.heal(heal, seq, decided));
        }
        for (seq, mail) in out.mails {
            self.when_durable(seq, move |world, durable| world.post(mail, durable));
        }
        for evacuation in out.evacuations {
            self.evacuate(evacuation);
        }
    }

    /// Begins when the record `seq` is on the disk, or late.
    fn when_durable(&mut self, seq: u64, begin: impl FnOnce(&mut World, bool) + 'static) {
        let until = self.now().boot + DURABLE_WITHIN;
        let Some(supervisor) = &mut self.supervisor else { return };
        supervisor.durable.push(Durable { seq, until, begin: Box::new(begin) });
        self.at_edge(0, World::begin_durable);
        self.at_edge(i64::try_from(DURABLE_WITHIN.0).unwrap_or(500), World::begin_durable);
    }

    fn begin_durable(&mut self) {
        let now = self.now().boot;
        let Some(supervisor) = &mut self.supervisor else { return };
        let committed = supervisor.committed;
        let ready = |waiting: &mut Durable| is_durable(waiting.seq, committed) || now >= waiting.until;
        let ready: Vec<Durable> = supervisor.durable.extract_if(.., ready).collect();
        for Durable { seq, begin, .. } in ready {
            begin(self, is_durable(seq, committed));
        }
    }

    /// The process hears that the disk has everything up to `seq`.
    pub(crate) fn committed(&mut self, seq: u64) {
        let Some(supervisor) = &mut self.supervisor else { return };
        if supervisor.committed < seq {
            supervisor.committed = seq;
            self.begin_durable();
            self.answer();
            if self.supervisor.as_ref().is_some_and(|of| of.outgoing.unsure().is_some()) {
                self.wake_loop(0);
            }
        }
    }

    /// Answers that can be given are given.
    fn answer(&mut self) {
        let now = self.now().boot;
        let Some(supervisor) = &mut self.supervisor else { return };
        let committed = supervisor.committed;
        let ready = |answer: &mut Answer| {
            answer.verdict != (Verdict::Accepted { durable: true })
                || is_durable(answer.seq, committed)
                || now >= answer.until
        };
        let ready: Vec<Answer> = supervisor.answers.extract_if(.., ready).collect();
        for answer in ready {
            let durable = is_durable(answer.seq, committed);
            self.judge_answer(answer.command, answer.seq, &answer.verdict, durable);
        }
    }

    /// The records of a turn go to the disk.
    fn submit(&mut self, batch: Vec<Record>) {
        self.disk_submit(batch);
    }

    /// The state is stored whole.
    pub(crate) fn snapshot(&mut self) {
        let now = self.now();
        let Some(supervisor) = &mut self.supervisor else { return };
        supervisor.last_snapshot = now.boot;
        let batch = std::mem::take(&mut supervisor.batch);
        let (state, seq) = (supervisor.core.state().clone(), supervisor.core.last_seq());
        if !batch.is_empty() {
            self.disk_submit(batch);
        }
        self.disk_snapshot(state, now, seq);
    }
}
