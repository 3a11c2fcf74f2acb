//! How long mails are kept.

use super::{ask, decided, done, mailing, open, options, outcome, recipient, rows, staging};
use crate::domain::Span;
use crate::domain::delivery::Mail;
use crate::store::tests::{PATIENCE, Tape, wait_committed, wait_until};
use crate::store::{FILE, MailKey, MailState, Options, RecipientState, Retention, Staging, Store};
use std::path::Path;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn keys(dir: &Path) -> Vec<MailKey> {
    rows(dir).iter().rev().map(|row| row.key).collect()
}

/// Days pass; a snapshot is stored, and all that is to go is gone.
fn days(store: &Store, tape: &mut Tape, days: u32) {
    tape.pass(Span::from(days * DAY));
    tape.snapshot(store);
    for _ in 0..10 {
        // Each commit is followed by a step.
        store.submit(vec![tape.order()]).unwrap();
        wait_committed(store, tape.next_seq - 1);
    }
}

#[test]
fn finished_mails_go_after_a_month_dead_ones_after_a_quarter_and_open_ones_never() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let mut mails: Vec<Mail> = Vec::new();
    for state in
        [MailState::Done, MailState::NotNeeded, MailState::Dead, MailState::Staged, MailState::Pending]
    {
        let mail = decided(&store, &mut tape);
        if state != MailState::Pending {
            ask(store.outbox().stage(staging(&mail))).unwrap();
        }
        ask(store.outbox().record(outcome(&mail, state, Vec::new()))).unwrap();
        mails.push(mail);
    }
    let all: Vec<MailKey> = mails.iter().map(MailKey::of).collect();
    days(&store, &mut tape, 29);
    assert_eq!(keys(dir.path()), all);
    days(&store, &mut tape, 2);
    wait_until("the end of what was done", || keys(dir.path()) == all[2..]);
    days(&store, &mut tape, 58);
    assert_eq!(keys(dir.path()), all[2..]);
    days(&store, &mut tape, 2);
    wait_until("the end of what was given up", || keys(dir.path()) == all[3..]);
    days(&store, &mut tape, 4000);
    assert_eq!(keys(dir.path()), all[3..]);
    // With their recipients.
    let conn = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
    let count: i64 = conn.query_row("SELECT count(*) FROM outbox_recipient", [], |row| row.get(0)).unwrap();
    assert_eq!(count, 2);
    assert!(store.close(PATIENCE));
}

#[test]
fn a_store_that_is_too_large_drops_what_ended_first_and_nothing_that_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let max_bytes = 1 << 20;
    let retention = Retention { max_bytes, ..Retention::default() };
    let (store, mut tape) = mailing(dir.path(), Options { retention, ..options() });
    let mut open_ones = Vec::new();
    let mut finished = Vec::new();
    // About 4 MiB of messages, of which a tenth is never finished.
    for n in 0..100 {
        if *store.wants_snapshot().borrow() {
            tape.snapshot(&store);
        }
        let mail = decided(&store, &mut tape);
        let message = vec![b'm'; 40 << 10];
        ask(store.outbox().stage(Staging { message, ..staging(&mail) })).unwrap();
        if n % 10 == 0 {
            open_ones.push(MailKey::of(&mail));
            let ambiguous = recipient("ada@sv.test", RecipientState::Ambiguous);
            ask(store.outbox().record(outcome(&mail, MailState::Staged, vec![ambiguous]))).unwrap();
        } else {
            ask(store.outbox().record(done(&mail))).unwrap();
            finished.push(MailKey::of(&mail));
        }
    }
    assert!(store.close(PATIENCE));
    let size = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
    assert!(size < max_bytes * 5 / 4, "{size} bytes");
    let (store, loaded) = open(dir.path());
    assert_eq!(loaded.stored.unwrap().state, tape.state);
    let kept = keys(dir.path());
    assert!(open_ones.iter().all(|key| kept.contains(key)), "{} of {}", kept.len(), open_ones.len());
    let left: Vec<MailKey> = kept.into_iter().filter(|key| !open_ones.contains(key)).collect();
    assert!((5..40).contains(&left.len()), "{} are left", left.len());
    assert!(finished.ends_with(&left), "the oldest went first");
    assert!(store.close(PATIENCE));
}
