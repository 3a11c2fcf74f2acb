//! Reading beside the writer, replay from a snapshot, and how history ends.

use super::{PATIENCE, begun, open, options, wait_committed, wait_until};
use crate::domain::{Span, decide};
use crate::store::{Options, ReadError, Reader, Retention};
use std::time::Duration;

#[test]
fn a_reader_follows_while_the_writer_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    let reader = Reader::open(dir.path()).unwrap();
    let mut last = reader.tail(2).unwrap();
    assert_eq!(last.records.len(), 2);
    let mut seen = Vec::new();
    let began = tape.next_seq;
    for _ in 0..20 {
        store.submit(tape.accident()).unwrap();
        wait_committed(&store, tape.next_seq - 1);
        last = reader.after(last.next, 1000).unwrap();
        seen.extend(last.records.iter().map(|record| record.seq));
    }
    assert_eq!(seen, (began..tape.next_seq).collect::<Vec<_>>());
    assert_eq!(reader.after(last.next, 10).unwrap().records, []);
    assert!(store.close(PATIENCE));
}

#[test]
fn a_reader_in_the_middle_of_a_read_does_not_hold_the_writer_up() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    let conn = rusqlite::Connection::open(dir.path().join(crate::store::FILE)).unwrap();
    let mut statement = conn.prepare("SELECT seq FROM journal").unwrap();
    let mut rows = statement.query([]).unwrap();
    rows.next().unwrap().unwrap();
    for _ in 0..10 {
        store.submit(tape.accident()).unwrap();
    }
    wait_committed(&store, tape.next_seq - 1);
    assert!(rows.next().unwrap().is_some());
}

#[test]
fn a_segment_replays_to_the_same_decisions() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = begun(dir.path(), options());
    tape.snapshot(&store);
    let from = tape.next_seq - 1;
    for _ in 0..3 {
        store.submit(tape.accident()).unwrap();
    }
    assert!(store.close(PATIENCE));

    let reader = Reader::open(dir.path()).unwrap();
    let infos = reader.snapshots().unwrap();
    assert_eq!(infos.iter().map(|info| info.seq).collect::<Vec<_>>(), [from, 0]);
    assert_eq!(infos[0].binary_version, env!("CARGO_PKG_VERSION"));
    let mut state = reader.snapshot(from).unwrap().unwrap();
    assert!(reader.snapshot(from + 1).unwrap().is_none());
    let mut page = reader.after(from, 4).unwrap();
    let mut replayed = 0;
    while !page.records.is_empty() {
        for record in &page.records {
            assert_eq!(decide(&state, &record.event, record.now), record.decision);
            state.apply(&record.decision.changes);
            replayed += 1;
        }
        page = reader.after(page.next, 4).unwrap();
    }
    assert_eq!(state, tape.state);
    assert_eq!(replayed, tape.next_seq - 1 - from);
}

#[test]
fn without_a_store_a_reader_says_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(dir.path()), Err(ReadError::Missing(_))));
    let (store, _) = open(dir.path());
    let reader = Reader::open(dir.path()).unwrap();
    assert_eq!(reader.tail(10).unwrap(), crate::store::Page::default());
    assert!(reader.latest().unwrap().is_none());
    assert!(store.close(PATIENCE));
}

#[test]
fn segments_go_whole_when_they_are_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let day = Duration::from_secs(24 * 3600);
    let retention = Retention { max_age: 3 * day, ..Retention::default() };
    let (store, mut tape) = begun(dir.path(), Options { retention, ..options() });
    let mut cuts = Vec::new();
    for _ in 0..10 {
        tape.snapshot(&store);
        cuts.push(tape.next_seq - 1);
        store.submit(tape.accident()).unwrap();
        wait_committed(&store, tape.next_seq - 1);
        tape.pass(Span::from(day));
    }
    let reader = Reader::open(dir.path()).unwrap();
    let kept = || reader.snapshots().unwrap().iter().map(|info| info.seq).rev().collect::<Vec<_>>();
    // The newest is of day 9. Day 6's segment ended when day 7's began; day 5's ended at day 6, three days before.
    wait_until("the old segments' end", || kept().len() <= 4);
    wait_until("their records' end", || reader.after(0, 1).unwrap().records[0].seq == kept()[0] + 1);
    assert_eq!(kept(), cuts[6..]);
    assert!(store.close(PATIENCE));
    let (_store, loaded) = open(dir.path());
    assert_eq!(loaded.stored.unwrap().state, tape.state);
}

#[test]
fn the_store_stays_within_its_size_under_a_load_that_never_lets_up() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 1 << 20;
    let retention = Retention { max_bytes, ..Retention::default() };
    let (store, mut tape) = begun(dir.path(), Options { retention, ..options() });
    let mut snapshots = 0;
    // About 6 MiB of records. The loop's part is only to hand over a snapshot when asked. What is queued or in hand by
    // then still belongs to the segment that ends: it must be small beside a segment (128 KiB), as it is in the product.
    for _ in 0..1000 {
        if *store.wants_snapshot().borrow() {
            tape.snapshot(&store);
            snapshots += 1;
        }
        store.submit(tape.accident()).unwrap();
        wait_until("room in the queue", || store.status().queued < 10);
    }
    wait_committed(&store, tape.next_seq - 1);
    assert!(snapshots >= 8, "segments end by size: {snapshots}");
    assert!(store.close(PATIENCE));
    let size = std::fs::metadata(dir.path().join(crate::store::FILE)).unwrap().len();
    assert!(size < max_bytes * 5 / 4, "{size} bytes");
    let reader = Reader::open(dir.path()).unwrap();
    let first = reader.after(0, 1).unwrap().records[0].seq;
    assert!(first > 1, "the oldest went");
    assert_eq!(reader.latest().unwrap().unwrap().state, tape.state);
}
