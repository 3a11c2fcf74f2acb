//! A store whose content is damaged, or not ours.

use super::{PATIENCE, Tape, begun, open, options, wait_until};
use crate::domain::event::StoreHealth;
use crate::store::{Damage, FILE, OpenError, Reader, Store};
use rusqlite::Connection;
use std::path::Path;

fn edit(dir: &Path, sql: &str) {
    Connection::open(dir.join(FILE)).unwrap().execute_batch(sql).unwrap();
}

/// A closed store with a few accidents; the tape as it was before the last one, and at the end.
fn filled(dir: &Path) -> (Tape, Tape) {
    let (store, mut tape) = begun(dir, options());
    store.submit(tape.accident()).unwrap();
    let before = tape.clone();
    store.submit(tape.accident()).unwrap();
    assert!(store.close(PATIENCE));
    (before, tape)
}

#[test]
fn a_damaged_record_ends_the_state_before_it_and_its_number_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (before, tape) = filled(dir.path());
    edit(dir.path(), &format!("UPDATE journal SET changes = '[{{\"heal' WHERE seq = {}", before.next_seq));
    let (store, loaded) = open(dir.path());
    let stored = loaded.stored.unwrap();
    assert_eq!((stored.seq, &stored.state), (before.next_seq - 1, &before.state));
    assert_eq!(loaded.next_seq, tape.next_seq);
    let told = loaded.damage.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (bad, good) = (before.next_seq, before.next_seq - 1);
    assert_eq!(told, [format!("the record {bad} cannot be read: the state is that of the record {good}")]);
    // A reader goes on behind it.
    let page = Reader::open(dir.path()).unwrap().tail(1000).unwrap();
    assert_eq!(page.damaged, [bad]);
    assert_eq!(page.records.last().unwrap().seq, tape.next_seq - 1);

    // The next process's snapshot stands for all that was read: the next start does not stumble again.
    let mut next = Tape { next_seq: loaded.next_seq, state: stored.state, now: stored.at };
    next.snapshot(&store);
    store.submit(vec![next.order()]).unwrap();
    assert!(store.close(PATIENCE));
    let (_store, loaded) = open(dir.path());
    assert!(loaded.damage.is_empty());
    assert_eq!(loaded.stored.unwrap().state, next.state);
}

#[test]
fn a_damaged_snapshot_is_replaced_by_an_older_one_and_all_records_since() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    store.submit(tape.accident()).unwrap();
    tape.snapshot(&store);
    let newest = tape.next_seq - 1;
    store.submit(tape.accident()).unwrap();
    assert!(store.close(PATIENCE));
    edit(
        dir.path(),
        &format!("UPDATE snapshot SET packed = x'7b7d', binary_version = '9.9' WHERE seq = {newest}"),
    );
    let (_store, loaded) = open(dir.path());
    assert_eq!(loaded.stored.unwrap().state, tape.state);
    let told = loaded.damage[0].to_string();
    assert_eq!(loaded.damage.len(), 1);
    assert!(told.contains("by supervisor 9.9"), "{told}");
}

#[test]
fn behind_a_damaged_snapshot_of_another_boot_the_clock_is_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    store.submit(tape.accident()).unwrap();
    assert!(store.close(PATIENCE));
    let (store, loaded) = Store::open(dir.path(), "boot-2", options()).unwrap();
    let now = crate::domain::Now { boot: crate::domain::Boot(5_000), ..tape.now };
    let stored = loaded.stored.unwrap();
    let mut next = Tape { state: stored.on_boot("boot-2", now), now, next_seq: loaded.next_seq };
    next.snapshot(&store);
    let newest = next.next_seq - 1;
    store.submit(vec![next.order()]).unwrap();
    assert!(store.close(PATIENCE));
    edit(dir.path(), &format!("UPDATE snapshot SET packed = x'00' WHERE seq = {newest}"));
    let (_store, loaded) = open(dir.path());
    let stored = loaded.stored.unwrap();
    assert_eq!((stored.boot_id.as_str(), stored.at), ("boot-2", next.now));
    assert_eq!(stored.state, next.state);
}

#[test]
fn records_that_are_missing_end_the_state_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let (before, _) = filled(dir.path());
    edit(dir.path(), &format!("DELETE FROM journal WHERE seq = {}", before.next_seq));
    let (_store, loaded) = open(dir.path());
    assert_eq!(loaded.stored.unwrap().state, before.state);
    assert!(matches!(loaded.damage[..], [Damage::Hole { .. }]), "{:?}", loaded.damage);
}

#[test]
fn a_file_of_rubbish_is_set_aside_and_a_new_store_begun() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(FILE), "rubbish\n".repeat(2000)).unwrap();
    let (store, loaded) = open(dir.path());
    assert!(loaded.stored.is_none());
    let Some(Damage::File { kept, .. }) = loaded.damage.first() else { panic!("{:?}", loaded.damage) };
    assert!(std::fs::read_to_string(kept).unwrap().starts_with("rubbish"));
    let mut tape = Tape::new(1);
    tape.snapshot(&store);
    store.submit(tape.begin()).unwrap();
    assert!(store.close(PATIENCE));
    let (_store, loaded) = open(dir.path());
    assert_eq!(loaded.stored.unwrap().state, tape.state);
}

#[test]
fn a_file_with_holes_in_it_never_panics_and_leaves_a_store_that_works() {
    let original = tempfile::tempdir().unwrap();
    let (_, tape) = filled(original.path());
    let sound = std::fs::read(original.path().join(FILE)).unwrap();
    // Each page in turn is overwritten: header, schema, tables, overflow.
    for page in 0..sound.len() / 4096 {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        let (store, loaded) = open(dir.path());
        if let Some(stored) = &loaded.stored {
            assert!(stored.seq < tape.next_seq);
        } else {
            assert!(!loaded.damage.is_empty(), "page {page}: lost without a word");
        }
        let mut next = Tape::new(1);
        next.next_seq = loaded.next_seq;
        next.snapshot(&store);
        store.submit(next.begin()).unwrap();
        assert!(store.close(PATIENCE), "page {page}: {:?}", loaded.damage);
        let (_store, again) = open(dir.path());
        assert_eq!(again.stored.unwrap().state, next.state, "page {page}");
    }
}

#[test]
fn a_flipped_byte_anywhere_never_panics() {
    let original = tempfile::tempdir().unwrap();
    filled(original.path());
    let sound = std::fs::read(original.path().join(FILE)).unwrap();
    let (mut opened, mut refused) = (0, 0);
    // Each byte of the header, and one in 331 of the rest: texts that are no UTF-8, lengths, pointers, names.
    for at in (0..100).chain((100..sound.len()).step_by(331)) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = sound.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        match Store::open(dir.path(), "boot-1", options()) {
            Ok((store, loaded)) => {
                opened += 1;
                let mut next = Tape::new(1);
                next.next_seq = loaded.next_seq;
                next.snapshot(&store);
                store.submit(next.begin()).unwrap();
                // What shows only now, when it is written to, is set aside too, and a new store begins.
                wait_until("a store that works", || {
                    if *store.wants_snapshot().borrow() {
                        next.snapshot(&store);
                    }
                    *store.committed().borrow() == next.next_seq - 1
                });
                assert!(store.close(PATIENCE), "byte {at}: {:?}", loaded.damage);
            }
            // The application's id, the schema's version, a column's name: for a person to judge.
            Err(error) => {
                refused += 1;
                let told = error.to_string();
                assert!(told.contains(FILE), "byte {at}: {told}");
            }
        }
    }
    assert!(opened > 100 && refused < 50, "{opened} opened, {refused} refused");
}

#[test]
fn an_unknown_newer_store_is_left_alone_and_supervisor_goes_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let (_, tape) = filled(dir.path());
    edit(dir.path(), "PRAGMA user_version = 7");
    let why = Store::open(dir.path(), "boot-1", options()).unwrap_err();
    assert!(matches!(why, OpenError::Newer { found: 7, .. }), "{why:?}");
    let (store, loaded) = Store::in_memory(dir.path(), "boot-1", options(), &why);
    assert!(loaded.owner_kept, "the owner's id does not hang on the database's version");
    assert_eq!(*store.health().borrow(), StoreHealth::Degraded);
    drop(store);
    edit(dir.path(), "PRAGMA user_version = 3");
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.latest().unwrap().unwrap().state, tape.state);
}
