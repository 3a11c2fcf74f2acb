//! The store in memory: what is committed, what waits, and what a crash leaves of it.

use crate::clockwork::Ms;
use crate::fault::Kind;
use crate::world::World;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use supervisor::domain::action::Action;
use supervisor::domain::delivery::{Mail, MailKey};
use supervisor::domain::event::StoreHealth;
use supervisor::domain::{Event, Now, State, decide};
use supervisor::store::{
    MailState, OutboxRow, Outcome, RecipientOutcome, RecipientRow, RecipientState, Record, Staged, Staging,
    Stored,
};

/// As the store has them.
const COMMIT_DEADLINE: Ms = 500;
const RECOVERY_AFTER: Ms = 2_000;
const RETRY_FIRST: Ms = 250;
const RETRY_LONGEST: Ms = 30_000;
const MAIL_DEADLINE: Ms = 2_000;

/// What waits for the disk.
pub(crate) enum Job {
    Records(Vec<Record>),
    Snapshot(Box<Snapshot>),
    Stage(Box<Staging>),
    Outcome(Outcome),
}

/// The state after the record `seq`.
pub(crate) struct Snapshot {
    seq: u64,
    now: Now,
    boot_id: u64,
    /// The process that took it.
    run: u64,
    state: State,
}

/// What hears whether a request is on the disk in time.
pub(crate) type Told = Box<dyn FnOnce(&mut World, bool)>;

/// The disk, and the writer in front of it.
#[derive(Default)]
pub(crate) struct Disk {
    journal: Vec<Record>,
    snapshots: Vec<Snapshot>,
    pub(crate) outbox: Vec<OutboxRow>,
    pub(crate) tip: u64,
    pub(crate) slow_until: Ms,
    pub(crate) slow_by: Ms,
    pub(crate) full_until: Ms,
    pub(crate) hangs_until: Ms,
    /// Nothing from this record on can be read, until a snapshot is younger.
    pub(crate) torn: Option<u64>,
    queue: VecDeque<(Ms, u64, Job)>,
    in_hand: Vec<(Ms, u64, Job)>,
    jobs: u64,
    writing: u64,
    failing: bool,
    backoff: Ms,
    last_bad: Option<Ms>,
    health: StoreHealth,
    told: StoreHealth,
    /// What is read and decided once more goes through JSON, as in the file: in one world of so many, for it is half of the
    /// time that a world takes.
    through_json: bool,
    /// The state after so many records behind the newest snapshot, as decided once more.
    replayed: Option<(usize, State)>,
    /// The last process died while it did not reach the disk in time.
    pub(crate) died_degraded: bool,
    /// It is looked at again.
    looks: bool,
    /// How a decision differed that was decided once more.
    pub(crate) differs: Option<String>,
    /// Requests of the sender that wait: by number, what it is told.
    waiting: BTreeMap<u64, Told>,
}

impl World {
    pub(crate) fn disk_submit(&mut self, batch: Vec<Record>) {
        self.push(Job::Records(batch));
    }

    pub(crate) fn disk_snapshot(&mut self, state: State, now: Now, seq: u64) {
        let (boot_id, run) = (self.boot_id, self.run().unwrap_or_default());
        self.push(Job::Snapshot(Box::new(Snapshot { seq, now, boot_id, run, state })));
    }

    /// The sender's request: `then` hears whether it is on the disk in time.
    pub(crate) fn disk_request(&mut self, job: Job, then: impl FnOnce(&mut World, bool) + 'static) {
        let number = self.push(job);
        self.disk.waiting.insert(number, Box::new(then));
        self.at_edge(MAIL_DEADLINE, move |world| {
            if let Some(then) = world.disk.waiting.remove(&number) {
                then(world, false);
            }
        });
    }

    fn push(&mut self, job: Job) -> u64 {
        let now = self.clock.now();
        self.disk.jobs += 1;
        let number = self.disk.jobs;
        self.disk.queue.push_back((now, number, job));
        self.write(0);
        self.at_edge(COMMIT_DEADLINE, World::judge_disk);
        number
    }

    /// The writer takes what is there, if it has nothing in hand.
    fn write(&mut self, after: Ms) {
        if !self.disk.in_hand.is_empty() || self.disk.queue.is_empty() {
            return;
        }
        self.disk.in_hand = self.disk.queue.drain(..).collect();
        self.disk.backoff = RETRY_FIRST;
        self.try_commit(after);
    }

    fn try_commit(&mut self, after: Ms) {
        let now = self.clock.now();
        let mut takes = after + self.disk_rng.i64(1..6);
        if now < self.disk.slow_until {
            takes += self.disk.slow_by;
            self.count(Kind::DiskSlow);
        }
        if now < self.disk.hangs_until {
            takes += self.disk.hangs_until - now;
            self.count(Kind::DiskHangs);
        }
        self.disk.writing += 1;
        let Some(run) = self.run() else { return };
        // A freeze of the process freezes its writer, too.
        let writing = self.disk.writing;
        self.at_edge(takes, move |world| {
            if world.disk.writing == writing && world.runs(run) {
                world.commit();
            }
        });
    }

    fn commit(&mut self) {
        let now = self.clock.now();
        if now < self.disk.full_until {
            self.count(Kind::DiskFull);
            self.disk.failing = true;
            let backoff = self.disk.backoff;
            self.disk.backoff = (backoff * 2).min(RETRY_LONGEST);
            self.judge_disk();
            return self.try_commit(backoff);
        }
        self.disk.failing = false;
        let in_hand = std::mem::take(&mut self.disk.in_hand);
        let numbers: Vec<u64> = in_hand.iter().map(|(_, number, _)| *number).collect();
        self.disk.store(in_hand);
        self.judge_replay();
        self.judge_disk();
        for number in numbers {
            if let Some(then) = self.disk.waiting.remove(&number) {
                then(self, true);
            }
        }
        let tip = self.disk.tip;
        self.committed(tip);
        self.write(0);
    }

    /// Whether decisions reach the disk in time.
    fn judge_disk(&mut self) {
        let now = self.clock.now();
        let disk = &mut self.disk;
        let oldest = disk.in_hand.iter().chain(&disk.queue).map(|(at, ..)| *at).min();
        if disk.failing || oldest.is_some_and(|at| now - at >= COMMIT_DEADLINE) {
            disk.last_bad = Some(now);
        }
        let bad = disk.last_bad.is_some_and(|at| now < at + RECOVERY_AFTER);
        disk.health = if bad { StoreHealth::Degraded } else { StoreHealth::Durable };
        let news = disk.health != disk.told;
        disk.told = disk.health;
        let health = disk.health;
        if bad && !std::mem::replace(&mut self.disk.looks, true) {
            self.at_edge(RECOVERY_AFTER, |world| {
                world.disk.looks = false;
                world.judge_disk();
            });
        }
        if news {
            self.put_hard(Event::Store(health));
        }
    }

    /// The process is dead: what it had in hand was committed just then, or was not.
    pub(crate) fn disk_loses_process(&mut self) {
        let late = self.disk_rng.bool() && self.clock.now() >= self.disk.full_until;
        let in_hand = std::mem::take(&mut self.disk.in_hand);
        if late {
            self.disk.store(in_hand);
        }
        let disk = &mut self.disk;
        disk.died_degraded = disk.health == StoreHealth::Degraded;
        disk.queue.clear();
        disk.waiting.clear();
        disk.writing += 1;
        (disk.failing, disk.last_bad, disk.looks) = (false, None, false);
        (disk.health, disk.told) = (StoreHealth::Durable, StoreHealth::Durable);
    }
}

impl Disk {
    pub(crate) fn new(through_json: bool) -> Disk {
        Disk { through_json, ..Disk::default() }
    }

    /// As it comes back from the file.
    fn through<T: Clone + Serialize + DeserializeOwned>(&self, value: &T) -> T {
        match self.through_json {
            true => serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap(),
            false => value.clone(),
        }
    }

    fn store(&mut self, jobs: Vec<(Ms, u64, Job)>) {
        for (_, _, job) in jobs {
            match job {
                Job::Records(batch) => {
                    for record in batch {
                        for action in &record.decision.actions {
                            if let Action::Mail(mail) = action {
                                self.decided(mail, Some(record.seq));
                            }
                        }
                        self.tip = self.tip.max(record.seq);
                        self.journal.push(record);
                    }
                }
                Job::Snapshot(snapshot) => {
                    self.differs = self.differs.take().or(self.replay(Some(&snapshot)).err());
                    self.tip = self.tip.max(snapshot.seq);
                    self.torn = self.torn.filter(|torn| *torn > snapshot.seq);
                    // What is older is never read again, unless this one is torn; tearing spares snapshots.
                    self.journal.retain(|record| record.seq > snapshot.seq);
                    self.snapshots.clear();
                    self.snapshots.push(*snapshot);
                    self.replayed = None;
                }
                Job::Stage(staging) => self.stage(*staging),
                Job::Outcome(outcome) => self.record(outcome),
            }
        }
    }

    fn decided(&mut self, mail: &Mail, seq: Option<u64>) {
        let key = MailKey::of(mail);
        if self.outbox.iter().all(|row| row.key != key) {
            self.outbox.push(OutboxRow {
                key,
                seq,
                mail: Some(mail.clone()),
                state: MailState::Pending,
                staged: None,
                recipients: Vec::new(),
                changed: mail.at,
            });
        }
    }

    fn stage(&mut self, staging: Staging) {
        let Staging { mail, at, message_id, sender, message, recipients } = staging;
        self.decided(&mail, None);
        let key = MailKey::of(&mail);
        let Some(row) = self.outbox.iter_mut().find(|row| row.key == key) else { return };
        row.state = MailState::Staged;
        row.staged = Some(Staged { message_id, sender, message });
        row.changed = at;
        for address in recipients {
            if row.recipients.iter().all(|known| known.outcome.address != address) {
                let outcome = RecipientOutcome {
                    address,
                    state: RecipientState::Pending,
                    relay: None,
                    reply: None,
                    attempts: 0,
                    next: None,
                };
                row.recipients.push(RecipientRow { outcome, changed: at });
            }
        }
        row.recipients.sort_by(|one, other| one.outcome.address.cmp(&other.outcome.address));
    }

    fn record(&mut self, outcome: Outcome) {
        let Some(row) = self.outbox.iter_mut().find(|row| row.key == outcome.mail) else { return };
        if !outcome.state.is_open() {
            row.state = outcome.state;
        }
        row.changed = outcome.at;
        for recipient in outcome.recipients {
            row.recipients.retain(|known| known.outcome.address != recipient.address);
            row.recipients.push(RecipientRow { outcome: recipient, changed: outcome.at });
        }
        row.recipients.sort_by(|one, other| one.outcome.address.cmp(&other.outcome.address));
    }

    /// The rows that are not finished, oldest first.
    pub(crate) fn open_mails(&self) -> Vec<OutboxRow> {
        self.outbox.iter().filter(|row| row.state.is_open()).cloned().collect()
    }

    /// What is found at a start: the newest snapshot and what came after it, as far as it can be read.
    pub(crate) fn load(&self) -> Option<Stored> {
        let snapshot = self.snapshots.last()?;
        let mut state = self.through(&snapshot.state);
        state.reindex();
        let (mut at, mut seq) = (snapshot.now, snapshot.seq);
        for record in self.later(snapshot) {
            state.apply(&self.through(&record.decision.changes));
            (at, seq) = (record.now, record.seq);
        }
        Some(Stored { state, at, boot_id: snapshot.boot_id.to_string(), seq })
    }

    /// What can be read of what came after a snapshot.
    fn later(&self, snapshot: &Snapshot) -> impl Iterator<Item = &Record> {
        let first = snapshot.seq + 1;
        let numbered = (first..).zip(self.journal.iter().skip_while(move |record| record.seq < first));
        let reads = |seq: u64| self.torn.is_none_or(|torn| seq < torn);
        numbered.take_while(move |(seq, record)| *seq == record.seq && reads(*seq)).map(|(_, record)| record)
    }

    /// I10: from the newest snapshot on, what was decided is decided once more, from what is on the disk, and must be the same;
    /// so must the state that the same process stores whole in the end.
    pub(crate) fn replay(&mut self, end: Option<&Snapshot>) -> Result<(), String> {
        let known = self.replayed.take();
        let Some(first) = self.snapshots.last() else { return Ok(()) };
        let (mut count, mut state) = known.unwrap_or_else(|| {
            let mut state = self.through(&first.state);
            state.reindex();
            (0, state)
        });
        let mut seq = first.seq + count as u64;
        for record in self.later(first).skip(count) {
            let decision = decide(&state, &self.through(&record.event), record.now);
            if decision != record.decision {
                let (seq, event, was) = (record.seq, &record.event, &record.decision);
                return Err(format!("I10: record {seq}, {event:?}, was {was:?}, and is {decision:?} now"));
            }
            state.apply(&self.through(&record.decision.changes));
            (count, seq) = (count + 1, record.seq);
        }
        if end.is_some_and(|end| end.run == first.run && end.seq == seq && end.state != state) {
            return Err(format!("I10: the state after record {seq} is another from the journal"));
        }
        self.replayed = Some((count, state));
        Ok(())
    }

    /// The last records are torn.
    pub(crate) fn tear(&mut self, last: u64) -> Option<u64> {
        let torn = self.tip.saturating_sub(last);
        let first = self.snapshots.last().map_or(0, |snapshot| snapshot.seq);
        (torn > first).then(|| {
            self.torn = Some(torn);
            self.replayed = None;
            torn
        })
    }
}
