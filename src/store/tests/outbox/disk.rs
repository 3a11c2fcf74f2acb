//! A disk that is slow, full, hung, or fails at one commit: the sender is told in time, and nothing is lost.

use super::{ask, assert_staged, decided, done, mailing, open_rows, options, rows, staging};
use crate::domain::event::StoreHealth;
use crate::store::tests::faults::{Disk, Mood, assert_kept};
use crate::store::tests::{PATIENCE, quick, wait_committed, wait_health, wait_until};
use crate::store::{CommitStep, Limits, MailKey, MailState, NotStored, Options};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Long enough for nothing, so that a test of lateness is short.
fn impatient() -> Limits {
    Limits { mail_deadline: Duration::from_millis(50), ..quick() }
}

/// Strikes at one commit: what is put into it.
type Once = Arc<Mutex<Option<(CommitStep, io::ErrorKind)>>>;

fn once() -> (Once, Options) {
    let once = Once::default();
    let armed = Arc::clone(&once);
    let fault = Box::new(move |step| {
        let struck = armed.lock().unwrap().take_if(|(at, _)| *at == step);
        struck.map_or(Ok(()), |(_, kind)| Err(kind.into()))
    });
    (once, Options { fault: Some(fault), ..options() })
}

#[test]
fn on_a_full_disk_the_sender_is_told_in_time_and_the_mail_is_stored_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = mailing(dir.path(), Options { limits: impatient(), ..disk.options() });
    let mail = decided(&store, &mut tape);
    disk.set(Mood::Fails(io::ErrorKind::StorageFull));
    wait_until("the word about the disk", || {
        let told = ask(store.outbox().stage(staging(&mail))).unwrap_err();
        matches!(told, NotStored::Late { why, .. } if why.contains("is full: make room"))
    });
    assert_eq!(open_rows(dir.path())[0].state, MailState::Pending);
    // The next mail is decided meanwhile, and sent without the disk.
    let (records, second) = tape.mail();
    store.submit(records).unwrap();
    assert!(matches!(ask(store.outbox().record(done(&second))), Err(NotStored::Late { .. })));
    disk.set(Mood::Well);
    wait_committed(&store, tape.next_seq - 1);
    wait_until("the outcome", || open_rows(dir.path()).len() == 1);
    assert_staged(&open_rows(dir.path())[0], &mail);
    assert_eq!((rows(dir.path())[0].key, rows(dir.path())[0].state), (MailKey::of(&second), MailState::Done));
    wait_health(&store, StoreHealth::Durable);
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}

#[test]
fn while_a_commit_hangs_requests_are_bounded_and_cost_records_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let limits = Limits { queued_requests: 3, ..impatient() };
    let (store, mut tape) = mailing(dir.path(), Options { limits, ..disk.options() });
    let mails: Vec<_> = (0..6).map(|_| decided(&store, &mut tape)).collect();
    disk.set(Mood::Hangs);
    let mut late = Vec::new();
    let mut full = Vec::new();
    for mail in &mails {
        match ask(store.outbox().stage(staging(mail))).unwrap_err() {
            NotStored::Late { .. } => late.push(MailKey::of(mail)),
            NotStored::Full { .. } => full.push(MailKey::of(mail)),
            other => panic!("{other}"),
        }
    }
    // One may be in the writer's hand.
    assert!((3..=4).contains(&late.len()), "{late:?}");
    assert_eq!(late.len() + full.len(), mails.len());
    let began = Instant::now();
    assert!(matches!(ask(store.outbox().record(done(&mails[0]))), Err(NotStored::Full { .. })));
    assert!(began.elapsed() < PATIENCE, "at once");
    for _ in 0..100 {
        store.submit(tape.accident()).unwrap();
    }
    wait_health(&store, StoreHealth::Degraded);
    disk.set(Mood::Well);
    wait_committed(&store, tape.next_seq - 1);
    let rows = rows(dir.path());
    let of = |state| {
        let keys = rows.iter().rev().filter(|row| row.state == state).map(|row| row.key);
        keys.filter(|key| mails.iter().any(|mail| MailKey::of(mail) == *key)).collect::<Vec<_>>()
    };
    assert_eq!(of(MailState::Staged), late, "what was late is stored");
    assert_eq!(of(MailState::Pending), full, "what was refused is as it was");
    assert_eq!(store.status().dropped, 0);
    assert!(store.close(PATIENCE));
    assert_kept(dir.path(), &tape);
}

#[test]
fn a_slow_disk_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = mailing(dir.path(), disk.options());
    let mail = decided(&store, &mut tape);
    disk.set(Mood::Slow(Duration::from_millis(150)));
    ask(store.outbox().stage(staging(&mail))).unwrap();
    assert_staged(&rows(dir.path())[0], &mail);
    ask(store.outbox().record(done(&mail))).unwrap();
    assert_eq!(rows(dir.path())[0].state, MailState::Done);
    assert_eq!(*store.health().borrow(), StoreHealth::Degraded);
}

#[test]
fn requests_that_come_at_the_same_time_are_each_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let mails: Vec<_> = (0..12).map(|_| decided(&store, &mut tape)).collect();
    let outbox = store.outbox();
    let each = mails.iter().map(|mail| {
        let (outbox, mail) = (outbox.clone(), mail.clone());
        async move {
            outbox.stage(staging(&mail)).await?;
            outbox.record(done(&mail)).await
        }
    });
    let told = ask(futures_util::future::join_all(each));
    assert_eq!(told, vec![Ok(()); 12]);
    assert!(rows(dir.path()).iter().all(|row| row.state == MailState::Done));
}

#[test]
fn a_commit_that_fails_once_is_repeated_whatever_it_had_done() {
    for step in [CommitStep::Before, CommitStep::After] {
        let dir = tempfile::tempdir().unwrap();
        let (fault, options) = once();
        let (store, mut tape) = mailing(dir.path(), options);
        let strike = || *fault.lock().unwrap() = Some((step, io::ErrorKind::Other));
        strike();
        let mail = decided(&store, &mut tape);
        assert_eq!(rows(dir.path()).len(), 1, "{step:?}");
        assert!(fault.lock().unwrap().is_none(), "it struck");
        strike();
        ask(store.outbox().stage(staging(&mail))).unwrap();
        assert_staged(&rows(dir.path())[0], &mail);
        strike();
        ask(store.outbox().record(done(&mail))).unwrap();
        let rows = rows(dir.path());
        assert_eq!(
            (rows.len(), rows[0].state, rows[0].recipients.len()),
            (1, MailState::Done, 2),
            "{step:?}"
        );
        assert!(fault.lock().unwrap().is_none(), "it struck");
        assert_eq!(store.status().dropped, 0);
        assert!(store.close(PATIENCE));
        assert_kept(dir.path(), &tape);
    }
}

#[test]
fn an_end_without_the_disk_answers_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = mailing(dir.path(), disk.options());
    let mail = decided(&store, &mut tape);
    disk.set(Mood::Fails(io::ErrorKind::StorageFull));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waits = || {
        let (outbox, staging) = (store.outbox(), staging(&mail));
        let task = runtime.spawn(async move { outbox.stage(staging).await });
        // Once round: it has handed its request over.
        runtime.block_on(tokio::task::yield_now());
        task
    };
    // The first is in the writer's hand when it fails, the second waits behind it.
    let first = waits();
    wait_health(&store, StoreHealth::Degraded);
    let second = waits();
    assert!(!first.is_finished() && !second.is_finished());
    assert!(!store.close(PATIENCE), "not all is stored");
    assert_eq!(runtime.block_on(first).unwrap(), Err(NotStored::Closed));
    assert_eq!(runtime.block_on(second).unwrap(), Err(NotStored::Closed));
}

#[test]
fn a_writer_that_dies_of_a_bug_answers_who_waits() {
    let dir = tempfile::tempdir().unwrap();
    let bug = Arc::new(Mutex::new(false));
    let armed = Arc::clone(&bug);
    let fault = Box::new(move |_| {
        let bug = *armed.lock().unwrap();
        assert!(!bug, "a bug");
        Ok(())
    });
    let (store, mut tape) = mailing(dir.path(), Options { fault: Some(fault), ..options() });
    let mail = decided(&store, &mut tape);
    *bug.lock().unwrap() = true;
    assert_eq!(ask(store.outbox().stage(staging(&mail))), Err(NotStored::Closed));
    assert_eq!(ask(store.outbox().stage(staging(&mail))), Err(NotStored::Closed), "afterwards, too");
    // Its row was committed before.
    drop(store);
    let (_store, _) = super::open(dir.path());
    assert_eq!(open_rows(dir.path())[0].key, MailKey::of(&mail));
}
