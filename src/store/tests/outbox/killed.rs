//! The process is killed, for real, at the moments between which a mail could be lost or doubled.

use super::{Tape, ask, assert_staged, done, mailing, open, open_rows, options, outcome, rows, staging};
use crate::domain::delivery::Mail;
use crate::store::tests::{PATIENCE, begun_with};
use crate::store::{CommitStep, MailKey, MailState, Options, Reader};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Set for the child only: its state directory, and where it is to stop.
const CHILD: &str = "SUPERVISOR_TEST_OUTBOX_CHILD";
const PLACE: &str = "SUPERVISOR_TEST_OUTBOX_PLACE";

/// Says so, and waits to be killed.
fn here() -> ! {
    println!("here");
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// The child: decides a mail, stages it, records what became of it, and stops at its place.
#[test]
fn child_that_mails_until_it_is_killed() {
    let (Some(dir), Ok(place)) = (std::env::var_os(CHILD), std::env::var(PLACE)) else { return };
    let armed = Arc::new(AtomicBool::new(false));
    let (seen, step) = (Arc::clone(&armed), place.clone());
    let fault = Box::new(move |at: CommitStep| {
        let before = at == CommitStep::Before;
        match (seen.load(Ordering::SeqCst), step.as_str()) {
            (true, "before the decision" | "before the outcome") if before => here(),
            (true, "after the decision") if !before => here(),
            _ => Ok(()),
        }
    });
    let (store, mut tape) =
        begun_with(Tape::mailing(), Path::new(&dir), Options { fault: Some(fault), ..options() });
    let (records, mail) = tape.mail();
    armed.store(place.ends_with("the decision"), Ordering::SeqCst);
    store.submit(records).unwrap();
    ask(store.outbox().stage(staging(&mail))).unwrap();
    if place == "staged" {
        here();
    }
    armed.store(true, Ordering::SeqCst);
    ask(store.outbox().record(done(&mail))).unwrap();
}

/// What a process left behind that was killed at `place`; and the mail that it was about, retold.
fn killed(dir: &Path, place: &str) -> (Tape, Mail) {
    let name = "store::tests::outbox::killed::child_that_mails_until_it_is_killed";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, dir)
        .env(PLACE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("here")), "the child did not get to {place}");
    child.kill().unwrap(); // SIGKILL
    child.wait().unwrap();
    let mut tape = Tape::mailing();
    tape.begin();
    let (_, mail) = tape.mail();
    (tape, mail)
}

#[test]
fn killed_around_the_commit_the_mail_is_there_exactly_if_its_decision_is() {
    for (place, there) in [("before the decision", false), ("after the decision", true)] {
        let dir = tempfile::tempdir().unwrap();
        let (tape, mail) = killed(dir.path(), place);
        let stored = Reader::open(dir.path()).unwrap().latest().unwrap().unwrap();
        assert_eq!(stored.seq == tape.next_seq - 1, there, "{place}");
        assert_eq!(stored.state == tape.state, there, "{place}");
        let keys: Vec<MailKey> = open_rows(dir.path()).iter().map(|row| row.key).collect();
        assert_eq!(keys, if there { vec![MailKey::of(&mail)] } else { Vec::new() }, "{place}");
    }
}

#[test]
fn killed_between_staging_and_outcome_the_next_process_goes_on_with_the_same_bytes() {
    for place in ["staged", "before the outcome"] {
        let dir = tempfile::tempdir().unwrap();
        let (tape, mail) = killed(dir.path(), place);
        let (store, loaded) = open(dir.path());
        assert!(loaded.damage.is_empty(), "{:?}", loaded.damage);
        assert_eq!(loaded.stored.unwrap().state, tape.state);
        let [row] = &open_rows(dir.path())[..] else { panic!("one mail is open") };
        assert_staged(row, &mail);
        let outbox = store.outbox();
        // The next process knows it by the row alone.
        let finished = crate::store::Outcome { mail: row.key, ..done(&mail) };
        ask(outbox.record(finished)).unwrap();
        assert_eq!(open_rows(dir.path()), []);
        assert_eq!(rows(dir.path())[0].state, MailState::Done);
        assert!(store.close(PATIENCE));
    }
}

#[test]
fn a_mail_that_is_not_staged_is_written_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let mail = super::decided(&store, &mut tape);
    assert!(store.close(PATIENCE));
    let (store, _) = open(dir.path());
    let row = open_rows(dir.path()).remove(0);
    assert_eq!(row.mail.as_ref(), Some(&mail), "all that is needed to write it");
    ask(store.outbox().stage(staging(&row.mail.unwrap()))).unwrap();
    assert_staged(&open_rows(dir.path())[0], &mail);
    ask(store.outbox().record(outcome(&mail, MailState::NotNeeded, Vec::new()))).unwrap();
    assert_eq!(open_rows(dir.path()), []);
}
