//! A disk that is slow, full, hung, gone, or read-only. The loop must not notice; the store must know, say, and recover.

use super::{PATIENCE, Tape, begun, open, options, quick, wait_committed, wait_health, wait_until};
use crate::domain::event::StoreHealth;
use crate::store::{CommitStep, FILE, Full, Limits, OpenError, Options, Reader, Store};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// What the disk does at the next commits.
#[derive(Clone, Default)]
pub(super) struct Disk(Arc<(Mutex<Mood>, Condvar)>);

#[derive(Clone, Copy, Default, PartialEq)]
pub(super) enum Mood {
    #[default]
    Well,
    Slow(Duration),
    Fails(io::ErrorKind),
    Hangs,
}

impl Disk {
    pub(super) fn set(&self, mood: Mood) {
        *self.0.0.lock().unwrap() = mood;
        self.0.1.notify_all();
    }

    pub(super) fn options(&self) -> Options {
        let disk = self.clone();
        let fault = Box::new(move |step| {
            if step == CommitStep::After {
                return Ok(());
            }
            let mood = *disk.0.0.lock().unwrap();
            match mood {
                Mood::Well => Ok(()),
                Mood::Slow(by) => {
                    std::thread::sleep(by);
                    Ok(())
                }
                Mood::Fails(kind) => Err(kind.into()),
                Mood::Hangs => {
                    let hung = disk.0.0.lock().unwrap();
                    drop(disk.0.1.wait_while(hung, |mood| *mood == Mood::Hangs).unwrap());
                    Ok(())
                }
            }
        });
        Options { fault: Some(fault), ..options() }
    }
}

/// The store's own state after everything, against the tape's.
pub(super) fn assert_kept(dir: &Path, tape: &Tape) {
    let (store, loaded) = open(dir);
    assert!(loaded.damage.is_empty(), "{:?}", loaded.damage);
    let stored = loaded.stored.unwrap();
    assert_eq!(stored.seq, tape.next_seq - 1);
    assert_eq!(stored.state, tape.state);
    assert!(store.close(PATIENCE));
}

#[test]
fn while_a_commit_hangs_the_loop_is_not_delayed_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = begun(dir.path(), disk.options());
    let batches: Vec<_> = (0..500).map(|_| tape.accident()).collect();
    disk.set(Mood::Hangs);
    let mut took = Vec::new();
    for batch in batches {
        let began = Instant::now();
        store.submit(batch).unwrap();
        took.push(began.elapsed());
    }
    took.sort();
    // The 99th of 100, so that a test that shares its two cores does not measure the scheduler.
    let p99 = took[took.len() * 99 / 100];
    assert!(p99 < Duration::from_millis(1), "submit took {p99:?}");
    wait_health(&store, StoreHealth::Degraded);
    let trouble = store.status().trouble.unwrap();
    assert!(trouble.contains("takes longer than 100 ms"), "{trouble}");

    disk.set(Mood::Well);
    wait_committed(&store, tape.next_seq - 1);
    wait_health(&store, StoreHealth::Durable);
    assert_eq!((store.status().dropped, store.status().trouble), (0, None));
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}

#[test]
fn one_hung_commit_is_noticed_even_when_nothing_else_happens() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = begun(dir.path(), disk.options());
    disk.set(Mood::Hangs);
    store.submit(tape.accident()).unwrap();
    wait_health(&store, StoreHealth::Degraded);
    disk.set(Mood::Well);
    wait_health(&store, StoreHealth::Durable);
}

#[test]
fn what_found_no_room_is_a_gap_and_a_snapshot_closes_it() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let limits = Limits { queued_records: 40, ..quick() };
    let (store, mut tape) = begun(dir.path(), Options { limits, ..disk.options() });
    disk.set(Mood::Hangs);
    let mut refused = 0;
    while refused < 10 {
        if store.submit(tape.accident()) == Err(Full) {
            refused += 1;
        }
    }
    // Full is known at once, without waiting for the deadline.
    assert_eq!(*store.health().borrow(), StoreHealth::Degraded);
    wait_until("the deadline", || store.status().trouble.unwrap().contains("takes longer"));
    assert!(!*store.wants_snapshot().borrow(), "a snapshot is of no use while nothing can be stored");
    disk.set(Mood::Well);
    wait_until("the wish for a snapshot", || *store.wants_snapshot().borrow());
    // What comes before the snapshot lies behind the hole, and is not stored either.
    let before = tape.next_seq;
    store.submit(tape.accident()).unwrap();
    wait_until("the drop", || store.status().queued == 0 && store.status().dropped >= tape.next_seq - before);
    assert_eq!(*store.health().borrow(), StoreHealth::Degraded, "not durable while there is a hole");
    assert!(*store.committed().borrow() < before);

    tape.snapshot(&store);
    assert!(!*store.wants_snapshot().borrow());
    let snapshot = tape.next_seq - 1;
    store.submit(tape.accident()).unwrap();
    wait_committed(&store, tape.next_seq - 1);
    wait_health(&store, StoreHealth::Durable);

    let reader = Reader::open(dir.path()).unwrap();
    let page = reader.tail(1000).unwrap();
    assert_eq!(page.gaps.len(), 1, "{:?}", page.gaps);
    let gap = &page.gaps[0];
    assert_eq!(gap.last, snapshot);
    assert!(gap.why.contains("takes longer"), "{}", gap.why);
    let missing: Vec<u64> =
        (1..tape.next_seq).filter(|seq| !page.records.iter().any(|record| record.seq == *seq)).collect();
    assert_eq!(missing, (gap.first..=gap.last).collect::<Vec<_>>(), "the gap is exactly what is missing");
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}

#[test]
fn a_full_disk_is_named_and_what_waited_is_stored_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = begun(dir.path(), disk.options());
    disk.set(Mood::Fails(io::ErrorKind::StorageFull));
    store.submit(tape.accident()).unwrap();
    wait_health(&store, StoreHealth::Degraded);
    let trouble = store.status().trouble.unwrap();
    assert!(trouble.contains("is full: make room"), "{trouble}");
    store.submit(tape.accident()).unwrap();
    disk.set(Mood::Well);
    wait_committed(&store, tape.next_seq - 1);
    wait_health(&store, StoreHealth::Durable);
    assert_eq!(store.status().dropped, 0);
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}

#[test]
fn a_slow_disk_is_degraded_and_stays_so_until_it_is_fast_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = begun(dir.path(), disk.options());
    let mut health = store.health();
    disk.set(Mood::Slow(Duration::from_millis(150)));
    for _ in 0..3 {
        store.submit(tape.accident()).unwrap();
        wait_committed(&store, tape.next_seq - 1);
    }
    assert_eq!(*health.borrow_and_update(), StoreHealth::Degraded);
    disk.set(Mood::Well);
    wait_health(&store, StoreHealth::Durable);
}

#[test]
fn a_writer_that_dies_of_a_bug_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut commits = 0;
    let fault = Box::new(move |_| {
        commits += 1;
        assert!(commits < 8, "a bug");
        Ok(())
    });
    let (store, mut tape) = begun(dir.path(), Options { fault: Some(fault), ..options() });
    wait_until("the word about the bug", || {
        let _ = store.submit(tape.accident());
        store.status().trouble.is_some_and(|trouble| trouble.contains("ended unexpectedly"))
    });
    assert_eq!(*store.health().borrow(), StoreHealth::Degraded);
    assert!(!store.close(PATIENCE));
}

#[test]
fn closing_has_a_deadline_and_tells_the_truth() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = begun(dir.path(), disk.options());
    disk.set(Mood::Hangs);
    store.submit(tape.accident()).unwrap();
    let began = Instant::now();
    assert!(!store.close(Duration::from_millis(50)));
    assert!(began.elapsed() < Duration::from_secs(5));
    disk.set(Mood::Well);

    let other = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(other.path(), disk.options());
    disk.set(Mood::Fails(io::ErrorKind::StorageFull));
    store.submit(tape.accident()).unwrap();
    wait_health(&store, StoreHealth::Degraded);
    assert!(!store.close(PATIENCE), "it ends, but not all is stored");
}

#[test]
fn a_commit_that_was_done_but_reported_as_failed_is_not_done_twice() {
    let dir = tempfile::tempdir().unwrap();
    let calls = Arc::new(AtomicU8::new(0));
    let seen = Arc::clone(&calls);
    // Of the snapshot's commit, and of two later ones.
    let fault = Box::new(move |step| match (step, seen.fetch_add(1, Ordering::SeqCst)) {
        (CommitStep::After, 1 | 3 | 7) => Err(io::ErrorKind::Other.into()),
        _ => Ok(()),
    });
    let (store, mut tape) = begun(dir.path(), options());
    assert!(store.close(PATIENCE));
    let (store, loaded) =
        Store::open(dir.path(), "boot-1", Options { fault: Some(fault), ..options() }).unwrap();
    assert_eq!(loaded.next_seq, tape.next_seq);
    tape.snapshot(&store);
    for _ in 0..5 {
        store.submit(tape.accident()).unwrap();
        wait_committed(&store, tape.next_seq - 1);
    }
    assert!(calls.load(Ordering::SeqCst) > 8);
    assert_eq!(store.status().dropped, 0);
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}

#[test]
fn a_directory_that_cannot_be_used_is_named_and_the_daemon_goes_on_in_memory() {
    let why = Store::open(Path::new("/sys/kernel"), "boot-1", options()).unwrap_err();
    assert!(why.to_string().contains("writable"), "{why}");
    let (store, loaded) = Store::in_memory(Path::new("/sys/kernel"), "boot-1", options(), &why);
    assert_eq!(*store.health().borrow(), StoreHealth::Degraded);
    assert_eq!((loaded.next_seq, loaded.owner_kept), (1, false));
    let mut tape = Tape::new(1);
    tape.snapshot(&store);
    store.submit(tape.begin()).unwrap();
    assert_eq!(*store.committed().borrow(), 0);
    assert!(!store.close(PATIENCE));
}

#[test]
fn a_store_that_began_in_memory_reaches_the_disk_when_it_can() {
    let dir = tempfile::tempdir().unwrap();
    // A directory where the database should be: SQLite cannot open it, for root neither.
    std::fs::create_dir(dir.path().join(FILE)).unwrap();
    let why = Store::open(dir.path(), "boot-1", options()).unwrap_err();
    assert!(matches!(why, OpenError::ReadOnly { .. }), "{why:?}");
    let (store, _) = Store::in_memory(dir.path(), "boot-1", options(), &why);
    let mut tape = Tape::new(1);
    tape.snapshot(&store);
    store.submit(tape.begin()).unwrap();
    std::fs::remove_dir(dir.path().join(FILE)).unwrap();
    wait_committed(&store, tape.next_seq - 1);
    wait_health(&store, StoreHealth::Durable);
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}

#[test]
fn a_store_that_began_in_memory_goes_on_behind_the_journal_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut old) = begun(dir.path(), options());
    store.submit(old.accident()).unwrap();
    assert!(store.close(PATIENCE));
    // Out of reach at the start, back later, with numbers of its own.
    let away = dir.path().join("away");
    std::fs::rename(dir.path().join(FILE), &away).unwrap();
    std::fs::create_dir(dir.path().join(FILE)).unwrap();
    let why = Store::open(dir.path(), "boot-2", options()).unwrap_err();
    let (store, _) = Store::in_memory(dir.path(), "boot-2", options(), &why);
    let mut tape = Tape::new(2);
    tape.snapshot(&store);
    let records = tape.begin();
    let count = records.len();
    store.submit(records).unwrap();
    std::fs::remove_dir(dir.path().join(FILE)).unwrap();
    std::fs::rename(&away, dir.path().join(FILE)).unwrap();
    wait_committed(&store, tape.next_seq - 1);
    assert!(store.close(PATIENCE));

    let (_store, loaded) = open(dir.path());
    let stored = loaded.stored.unwrap();
    assert_eq!(stored.state, tape.state);
    assert_eq!(stored.boot_id, "boot-2");
    assert_eq!(stored.seq, old.next_seq + count as u64, "behind the old records, and a gap of one between");
}

#[test]
fn a_store_that_is_deleted_under_us_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(dir.path().join(format!("{FILE}{suffix}"))).unwrap();
    }
    wait_until("the wish for a snapshot", || *store.wants_snapshot().borrow());
    tape.snapshot(&store);
    store.submit(tape.accident()).unwrap();
    wait_committed(&store, tape.next_seq - 1);
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}
