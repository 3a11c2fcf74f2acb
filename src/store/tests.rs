//! The store with real records: a [`Tape`] runs the core and writes down what the loop would hand over.

mod archive;
mod crash;
mod damage;
mod faults;
mod history;
mod outbox;

use super::journal::{mails, outlives_power};
use super::{Limits, Loaded, Options, Record, Store};
use crate::domain::Change;
use crate::domain::delivery::{AlertPolicy, Mail};
use crate::domain::event::{
    ContainerEvent, ContainerSign, Event, Probed, ProxyIdentity, ProxySeen, StoreHealth,
};
use crate::domain::testing::{engine, policy, proxy, server, service, site};
use crate::domain::witness::ProbeOutcome;
use crate::domain::{
    Boot, Command, CommandId, ContainerName, Now, Operator, Order, Span, State, Wall, decide,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

/// A core whose decisions are recorded.
#[derive(Clone)]
struct Tape {
    state: State,
    now: Now,
    next_seq: u64,
}

impl Tape {
    /// `services` services on two sites; nothing has happened.
    fn new(services: usize) -> Tape {
        let names: Vec<String> = (0..services).map(|n| format!("api{n}")).collect();
        let both: &[&str] = &["onprem", "cloud"];
        let list: Vec<(&str, &[&str])> = names.iter().map(|name| (name.as_str(), both)).collect();
        let now = Now { boot: Boot(1_000_000), wall: Wall(1_700_000_000_000) };
        Tape { state: State::new(policy(&list)), now, next_seq: 1 }
    }

    /// The same without an Alertmanager: what goes wrong for a minute is mailed.
    fn mailing() -> Tape {
        let mut tape = Tape::new(1);
        let alerts =
            AlertPolicy { direct: true, fallback_after: Span::seconds(60), ..AlertPolicy::default() };
        tape.state.policy.alerts = alerts;
        tape
    }

    fn pass(&mut self, span: Span) {
        self.now.boot = self.now.boot + span;
        self.now.wall = Wall(self.now.wall.0 + i64::try_from(span.0).unwrap());
    }

    /// The record of an event, if anything follows from it.
    fn feed(&mut self, event: Event) -> Option<Record> {
        let decision = decide(&self.state, &event, self.now);
        if decision.is_empty() {
            return None;
        }
        self.state.apply(&decision.changes);
        let record = Record { seq: self.next_seq, now: self.now, event, decision };
        self.next_seq += 1;
        Some(record)
    }

    fn probe(&mut self, name: &str) -> Option<Record> {
        self.pass(Span(1));
        let at = self.now.boot;
        let outcome = ProbeOutcome::Healthy { status: 200, took: Span(1) };
        self.feed(Event::Probed(Probed { server: server(name), due: at, started: at, ended: at, outcome }))
    }

    /// The start: HAProxy is seen, every server comes up.
    fn begin(&mut self) -> Vec<Record> {
        let mut records: Vec<Record> = self.feed(Event::Started).into_iter().collect();
        let seen = ProxySeen {
            proxy: proxy(),
            at: self.now.boot,
            identity: ProxyIdentity { pid: 10, started: 5 },
            master: None,
            owner: None,
            ours: true,
            routes: BTreeMap::new(),
            checks: BTreeMap::new(),
            serving: BTreeMap::new(),
            out: None,
        };
        records.extend(self.feed(Event::Proxy(seen)));
        for n in 0..2 * self.state.services.len() {
            for place in ["onprem", "cloud"] {
                records.extend(self.probe(&format!("api{0}/api{0}-{place}", n / 2)));
            }
        }
        self.pass(Span::seconds(10));
        records
    }

    /// The first service's container dies, traffic leaves, the container is back, traffic returns.
    fn accident(&mut self) -> Vec<Record> {
        let mut records = Vec::new();
        for sign in [ContainerSign::Died { exit: Some(137) }, ContainerSign::Started] {
            let name = ContainerName("api0-onprem".into());
            let at = self.now.boot;
            let event = ContainerEvent { engine: engine(), name, id: "c1".into(), at, nanoseconds: 0, sign };
            records.extend(self.feed(Event::Container(event)));
        }
        for _ in 0..2 {
            records.extend(self.probe("api0/api0-onprem"));
        }
        self.pass(Span::seconds(400));
        records.extend(self.feed(Event::Woke));
        self.pass(Span::seconds(400));
        records
    }

    /// Until the next mail: that the first service's server died, or that it is back. The last record decides it.
    fn mail(&mut self) -> (Vec<Record>, Mail) {
        // No digest: ten mails in ten minutes are the limit.
        self.pass(Span::seconds(120));
        let up = self.state.incidents.values().all(|incident| incident.ended.is_some());
        let mut records = Vec::new();
        if up {
            let name = ContainerName("api0-onprem".into());
            let sign = ContainerSign::Died { exit: Some(137) };
            let event = ContainerEvent {
                engine: engine(),
                name,
                id: "c1".into(),
                at: self.now.boot,
                nanoseconds: 0,
                sign,
            };
            records.extend(self.feed(Event::Container(event)));
        } else {
            records.extend(self.probe("api0/api0-onprem"));
            records.extend(self.probe("api0/api0-onprem"));
        }
        loop {
            let decided = records.iter().flat_map(mails).next().cloned();
            if let Some(mail) = decided {
                return (records, mail);
            }
            let at = self.state.next_deadline().expect("a mail that is due");
            self.pass(at.since(self.now.boot));
            records.extend(self.feed(Event::Woke));
        }
    }

    fn order(&mut self) -> Record {
        let by = Operator { uid: 1000, pid: Some(1), name: Some("ada".into()) };
        let order = Order::Failover {
            service: service("api0"),
            to: site("cloud"),
            force: true,
            seen: None,
            lasts: None,
            pin: false,
        };
        self.pass(Span(1));
        self.feed(Event::Commanded(Command { id: CommandId(self.next_seq), by, because: None, order }))
            .unwrap()
    }

    fn snapshot(&self, store: &Store) {
        store.snapshot(Arc::new(self.state.clone()), self.now, self.next_seq - 1).unwrap();
    }
}

/// Short times, so that a test that waits for degraded and back is quick.
fn quick() -> Limits {
    Limits {
        commit_deadline: Duration::from_millis(100),
        recovery_after: Duration::from_millis(100),
        retry_first: Duration::from_millis(10),
        retry_longest: Duration::from_millis(50),
        look_every: Duration::from_millis(20),
        mail_deadline: PATIENCE,
        ..Limits::default()
    }
}

fn options() -> Options {
    Options { limits: quick(), ..Options::default() }
}

fn open(dir: &Path) -> (Store, Loaded) {
    Store::open(dir, "boot-1", options()).unwrap()
}

/// A store with a tape that has begun on it.
fn begun(dir: &Path, options: Options) -> (Store, Tape) {
    begun_with(Tape::new(1), dir, options)
}

fn begun_with(mut tape: Tape, dir: &Path, options: Options) -> (Store, Tape) {
    let (store, loaded) = Store::open(dir, "boot-1", options).unwrap();
    assert_eq!(loaded.next_seq, 1);
    tape.snapshot(&store);
    let records = tape.begin();
    store.submit(records).unwrap();
    wait_committed(&store, tape.next_seq - 1);
    (store, tape)
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_committed(store: &Store, seq: u64) {
    let deadline = Instant::now() + PATIENCE;
    while *store.committed().borrow() < seq {
        assert!(Instant::now() < deadline, "{seq} is not committed: {:?}", store.status());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_health(store: &Store, health: StoreHealth) {
    wait_until(&format!("{health:?}"), || *store.health().borrow() == health);
}

#[test]
fn a_new_store_is_empty_and_gives_the_first_number() {
    let dir = tempfile::tempdir().unwrap();
    let (store, loaded) = open(dir.path());
    assert!(loaded.stored.is_none());
    assert!(loaded.damage.is_empty());
    assert_eq!((loaded.next_seq, loaded.owner.len(), loaded.owner_kept), (1, 16, true));
    assert!(*store.wants_snapshot().borrow(), "each process begins with a snapshot");
    assert!(store.close(PATIENCE));
}

#[test]
fn what_was_stored_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    for _ in 0..3 {
        store.submit(tape.accident()).unwrap();
    }
    store.submit(vec![tape.order()]).unwrap();
    assert!(store.close(PATIENCE));

    let (store, loaded) = open(dir.path());
    let stored = loaded.stored.unwrap();
    assert_eq!(stored.state, tape.state);
    assert_eq!((stored.seq, loaded.next_seq), (tape.next_seq - 1, tape.next_seq));
    assert_eq!((stored.at, stored.boot_id.as_str()), (tape.now, "boot-1"));
    assert!(loaded.damage.is_empty(), "{:?}", loaded.damage);
    drop(store);
}

#[test]
fn orders_and_the_numbers_of_actions_outlive_a_power_cut_and_observations_need_not() {
    let mut tape = Tape::new(1);
    tape.begin();
    let order = tape.order();
    assert!(outlives_power(&order));
    let mut again = Tape::new(1);
    again.begin();
    let accident = again.accident();
    let numbered = |record: &&Record| {
        record.decision.changes.iter().any(|change| matches!(change, Change::Issued { .. }))
    };
    assert!(accident.iter().filter(numbered).count() > 0);
    assert!(accident.iter().filter(numbered).all(outlives_power));
    let probes = accident.iter().filter(|record| matches!(record.event, Event::Probed(_)));
    assert!(probes.clone().count() > 0);
    assert!(probes.into_iter().all(|record| !outlives_power(record)));
}

#[test]
fn the_owner_stays_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (store, first) = open(dir.path());
    assert!(store.close(PATIENCE));
    let (_store, second) = open(dir.path());
    assert_eq!(first.owner, second.owner);
}

#[test]
fn a_second_supervisor_is_refused_until_the_first_one_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let error = Store::open(dir.path(), "boot-1", options()).unwrap_err();
    assert!(error.is_already_running(), "{error:?}");
    assert!(store.close(PATIENCE));
    open(dir.path());
}

#[test]
fn after_a_reboot_what_had_40_seconds_left_has_40_seconds_left() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    store.submit(tape.accident()).unwrap();
    store.submit(vec![tape.order()]).unwrap();
    assert!(store.close(PATIENCE));
    let before = tape.state.services[&service("api0")].last_failover.unwrap();
    let ago = tape.now.boot.since(before);

    // The new boot's clock began anew, and an hour has passed on the wall.
    let now = Now { boot: Boot(20_000), wall: Wall(tape.now.wall.0 + 3_600_000) };
    let (store, loaded) = Store::open(dir.path(), "boot-2", options()).unwrap();
    let stored = loaded.stored.unwrap();
    let same_boot = stored.clone().on_boot("boot-1", now);
    assert_eq!(same_boot, tape.state, "the same boot has the same clock");
    let state = stored.on_boot("boot-2", now);
    let after = state.services[&service("api0")].last_failover.unwrap();
    assert_eq!(now.boot.since(after), ago);
    assert!(after < Boot(0), "it lies before the boot");

    // The next process goes on from there, on its own clock.
    let mut next = Tape { state, now, next_seq: loaded.next_seq };
    next.snapshot(&store);
    store.submit(vec![next.order()]).unwrap();
    assert!(store.close(PATIENCE));
    let (_store, loaded) = Store::open(dir.path(), "boot-2", options()).unwrap();
    let stored = loaded.stored.unwrap();
    assert_eq!((stored.boot_id.as_str(), stored.state), ("boot-2", next.state));
}
