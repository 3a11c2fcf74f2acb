//! The store in memory: what is committed, what waits, and what a crash leaves of it. When a disk counts as degraded, how a row
//! of the outbox changes, and what of a journal is read are the store's own rules ([`Verdict`], [`OutboxRow`], [`Reading`]).

use crate::clockwork::Ms;
use crate::fault::Kind;
use crate::world::World;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use supervisor::domain::action::Action;
use supervisor::domain::delivery::{Mail, MailKey};
use supervisor::domain::event::StoreHealth;
use supervisor::domain::{Event, Now, State, decide};
use supervisor::store::{
    Backoff, Found, Limits, OutboxRow, Outcome, Reading, Record, Staging, Stored, Verdict,
};

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
    limits: Limits,
    backoff: Option<Backoff>,
    verdict: Verdict,
    health: StoreHealth,
    told: StoreHealth,
    /// What is read and decided once more goes through JSON, as in the file: in one world of so many, for it is half of the
    /// time that a world takes.
    through_json: bool,
    /// What was read and decided once more since the newest snapshot.
    replayed: Option<Reading>,
    /// The last process died while it did not reach the disk in time.
    pub(crate) died_degraded: bool,
    /// It is looked at again then.
    looks: Option<Ms>,
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
        self.at_edge(ms(self.disk.limits.mail_deadline), move |world| {
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
        self.judge_disk();
        number
    }

    /// The writer takes what is there, if it has nothing in hand.
    fn write(&mut self, after: Ms) {
        if !self.disk.in_hand.is_empty() || self.disk.queue.is_empty() {
            return;
        }
        self.disk.in_hand = self.disk.queue.drain(..).collect();
        self.disk.backoff = Some(Backoff::new(&self.disk.limits));
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
            let pause = self.disk.backoff.as_mut().map_or(Duration::ZERO, Backoff::pause);
            self.judge_disk();
            return self.try_commit(ms(pause));
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
        let found = Found { oldest: oldest.map(since_began), bad: disk.failing };
        let (health, again) = disk.verdict.judge(found, &disk.limits, since_began(now));
        disk.health = health;
        let news = std::mem::replace(&mut disk.told, health) != health;
        // One look at a time: it finds out when the next one is due.
        if let Some(again) = again.map(ms).filter(|after| disk.looks.is_none_or(|at| now + after < at)) {
            disk.looks = Some(now + again);
            self.at_edge(again, move |world| {
                if world.disk.looks == Some(now + again) {
                    world.disk.looks = None;
                    world.judge_disk();
                }
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
        (disk.failing, disk.verdict, disk.looks) = (false, Verdict::default(), None);
        (disk.health, disk.told) = (StoreHealth::Durable, StoreHealth::Durable);
    }
}

/// As the store counts moments.
fn since_began(at: Ms) -> Duration {
    Duration::from_millis(at.unsigned_abs())
}

fn ms(duration: Duration) -> Ms {
    Ms::try_from(duration.as_millis()).unwrap_or(Ms::MAX)
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
            self.outbox.push(OutboxRow::decided(seq, mail));
        }
    }

    fn stage(&mut self, staging: Staging) {
        self.decided(&staging.mail, None);
        let key = MailKey::of(&staging.mail);
        if let Some(row) = self.outbox.iter_mut().find(|row| row.key == key) {
            row.stage(staging);
        }
    }

    fn record(&mut self, outcome: Outcome) {
        if let Some(row) = self.outbox.iter_mut().find(|row| row.key == outcome.mail) {
            row.record(outcome);
        }
    }

    /// Whether everything is stored.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_hand.is_empty() && self.queue.is_empty()
    }

    /// The rows that are not finished, oldest first.
    pub(crate) fn open_mails(&self) -> Vec<OutboxRow> {
        self.outbox.iter().filter(|row| row.state.is_open()).cloned().collect()
    }

    /// What is found at a start: the newest snapshot and what came after it, as far as it can be read.
    pub(crate) fn load(&self) -> Option<Stored> {
        let reading = self.begin(self.snapshots.last()?);
        self.read(reading, |_, _| Ok(())).ok().map(Reading::end)
    }

    fn begin(&self, snapshot: &Snapshot) -> Reading {
        let mut state = self.through(&snapshot.state);
        state.reindex();
        let boot_id = snapshot.boot_id.to_string();
        Reading::new(Stored { state, at: snapshot.now, boot_id, seq: snapshot.seq })
    }

    /// Reads on; `each` sees the state before each record.
    fn read(
        &self,
        mut reading: Reading,
        mut each: impl FnMut(&State, &Record) -> Result<(), String>,
    ) -> Result<Reading, String> {
        let read = self.journal.partition_point(|record| record.seq <= reading.stored().seq);
        for record in &self.journal[read..] {
            let torn = self.torn.is_some_and(|torn| record.seq >= torn);
            if reading.follows(record.seq).is_err() || torn {
                break;
            }
            each(&reading.stored().state, record)?;
            reading.go_on(record.seq, record.now, &self.through(&record.decision.changes));
        }
        Ok(reading)
    }

    /// I10: from the newest snapshot on, what was decided is decided once more, from what is on the disk, and must be the same;
    /// so must the state that the same process stores whole in the end.
    pub(crate) fn replay(&mut self, end: Option<&Snapshot>) -> Result<(), String> {
        let known = self.replayed.take();
        let Some(first) = self.snapshots.last() else { return Ok(()) };
        let reading = self.read(known.unwrap_or_else(|| self.begin(first)), |state, record| {
            let decision = decide(state, &self.through(&record.event), record.now);
            if decision == record.decision {
                return Ok(());
            }
            let (seq, event, was) = (record.seq, &record.event, &record.decision);
            Err(format!("I10: record {seq}, {event:?}, was {was:?}, and is {decision:?} now"))
        })?;
        let Stored { seq, state, .. } = reading.stored();
        if end.is_some_and(|end| end.run == first.run && end.seq == *seq && end.state != *state) {
            return Err(format!("I10: the state after record {seq} is another from the journal"));
        }
        self.replayed = Some(reading);
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
