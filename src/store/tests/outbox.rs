//! Mails: written with their decision, staged, finished; and never lost by a crash, a bad disk or another file.

mod disk;
mod files;
mod kept;
mod killed;
mod rules;

use super::{PATIENCE, Tape, begun_with, open, options, wait_committed};
use crate::domain::delivery::Mail;
use crate::domain::{Span, Wall};
use crate::store::journal::outlives_power;
use crate::store::{
    MailKey, MailState, NotStored, Options, OutboxRow, Outcome, REQUEST_BYTES_MAX, Reader, RecipientOutcome,
    RecipientState, Staging, Store,
};
use std::path::Path;

/// A store with a tape that mails.
fn mailing(dir: &Path, options: Options) -> (Store, Tape) {
    begun_with(Tape::mailing(), dir, options)
}

/// A mail that is decided and committed.
fn decided(store: &Store, tape: &mut Tape) -> Mail {
    let (records, mail) = tape.mail();
    store.submit(records).unwrap();
    wait_committed(store, tape.next_seq - 1);
    mail
}

fn rows(dir: &Path) -> Vec<OutboxRow> {
    Reader::open(dir).unwrap().outbox(100).unwrap()
}

fn open_rows(dir: &Path) -> Vec<OutboxRow> {
    Reader::open(dir).unwrap().outbox_open().unwrap()
}

/// The mail as it is written: every byte there is, twenty times, so that it fills pages of its own.
fn staging(mail: &Mail) -> Staging {
    Staging {
        mail: mail.clone(),
        at: Wall(mail.at.0 + 100),
        message_id: format!("<{}.{}@sv.test>", mail.id.0, mail.at.0),
        sender: "supervisor@sv.test".into(),
        message: (0..=255).cycle().take(5120).collect(),
        recipients: vec!["ada@sv.test".into(), "grace@sv.test".into()],
    }
}

fn recipient(address: &str, state: RecipientState) -> RecipientOutcome {
    RecipientOutcome {
        address: address.into(),
        state,
        relay: Some("mx.sv.test:25".into()),
        reply: Some("250 2.0.0 Ok: queued as 4F1\0\u{e4}".into()),
        attempts: 3,
        next: Some(Wall(1_700_000_123_456)),
    }
}

fn outcome(mail: &Mail, state: MailState, recipients: Vec<RecipientOutcome>) -> Outcome {
    Outcome { mail: MailKey::of(mail), at: Wall(mail.at.0 + 200), recipients, state }
}

fn done(mail: &Mail) -> Outcome {
    let both = ["ada@sv.test", "grace@sv.test"].map(|who| recipient(who, RecipientState::Accepted));
    outcome(mail, MailState::Done, both.into())
}

/// Waits for a request, as a task would.
fn ask<T>(request: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(request)
}

fn assert_staged(row: &OutboxRow, mail: &Mail) {
    let (expected, staged) = (staging(mail), row.staged.as_ref().unwrap());
    assert_eq!((row.key, row.state, row.mail.as_ref()), (MailKey::of(mail), MailState::Staged, Some(mail)));
    assert!(staged.message == expected.message, "other bytes: {staged:?}");
    assert_eq!((&staged.message_id, &staged.sender), (&expected.message_id, &expected.sender));
    let addresses: Vec<&String> = row.recipients.iter().map(|row| &row.outcome.address).collect();
    assert_eq!(addresses, expected.recipients.iter().collect::<Vec<_>>());
}

#[test]
fn a_mail_is_there_as_soon_as_its_record_is() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let first = decided(&store, &mut tape);
    let second = decided(&store, &mut tape);
    assert!(first.id < second.id);
    let rows = rows(dir.path());
    assert_eq!(rows.iter().map(|row| row.mail.clone().unwrap()).collect::<Vec<_>>(), [second, first.clone()]);
    let row = rows.last().unwrap();
    assert_eq!((row.key, row.state, row.changed), (MailKey::of(&first), MailState::Pending, first.at));
    assert!(row.staged.is_none() && row.recipients.is_empty());
    let page = Reader::open(dir.path()).unwrap().after(row.seq.unwrap() - 1, 1).unwrap();
    assert_eq!(crate::store::journal::mails(&page.records[0]).collect::<Vec<_>>(), [&first]);
    let oldest_first: Vec<MailKey> = open_rows(dir.path()).iter().map(|row| row.key).collect();
    assert_eq!(oldest_first, [rows[1].key, rows[0].key]);
}

#[test]
fn a_mail_outlives_a_power_cut_whatever_else_its_record_says() {
    let (records, _) = {
        let mut tape = Tape::mailing();
        tape.begin();
        tape.mail()
    };
    let mut record = records.last().unwrap().clone();
    record.decision.changes.clear();
    assert!(outlives_power(&record));
    record.decision.actions.clear();
    assert!(!outlives_power(&record));
}

#[test]
fn what_is_staged_and_what_became_of_it_survive_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let (sent, waits) = (decided(&store, &mut tape), decided(&store, &mut tape));
    let outbox = store.outbox();
    ask(async {
        outbox.stage(staging(&sent)).await.unwrap();
        outbox.stage(staging(&waits)).await.unwrap();
        outbox.record(done(&sent)).await.unwrap();
        let deferred = recipient("grace@sv.test", RecipientState::Deferred);
        outbox.record(outcome(&waits, MailState::Staged, vec![deferred])).await.unwrap();
    });
    assert!(store.close(PATIENCE));

    let (store, loaded) = open(dir.path());
    assert_eq!(loaded.stored.unwrap().state, tape.state);
    let row = &rows(dir.path())[1];
    assert_eq!((row.state, row.changed), (MailState::Done, Wall(sent.at.0 + 200)));
    assert!(row.staged.as_ref().unwrap().message == staging(&sent).message);
    assert_eq!(
        row.recipients.iter().map(|row| row.outcome.clone()).collect::<Vec<_>>(),
        done(&sent).recipients
    );
    let [row] = &open_rows(dir.path())[..] else { panic!("one is open") };
    assert_staged(row, &waits);
    let [ada, grace] = &row.recipients[..] else { panic!("two recipients") };
    assert_eq!((ada.outcome.state, ada.outcome.attempts), (RecipientState::Pending, 0));
    assert_eq!((&ada.outcome.relay, &ada.outcome.reply, ada.outcome.next), (&None, &None, None));
    assert_eq!(ada.changed, staging(&waits).at);
    assert_eq!(grace.outcome, recipient("grace@sv.test", RecipientState::Deferred));
    assert!(store.close(PATIENCE));
}

#[test]
fn every_state_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    for state in [MailState::Done, MailState::Dead, MailState::NotNeeded] {
        let mail = decided(&store, &mut tape);
        for of in [
            RecipientState::Pending,
            RecipientState::Accepted,
            RecipientState::Deferred,
            RecipientState::Ambiguous,
            RecipientState::Dead,
        ] {
            ask(store.outbox().record(outcome(&mail, MailState::Pending, vec![recipient("a@b.test", of)])))
                .unwrap();
            let row = &open_rows(dir.path())[0];
            assert_eq!((row.state, row.recipients[0].outcome.state), (MailState::Pending, of));
        }
        ask(store.outbox().record(outcome(&mail, state, Vec::new()))).unwrap();
        assert_eq!(rows(dir.path())[0].state, state);
        assert_eq!(open_rows(dir.path()), []);
        // An open state does not open what is finished.
        ask(store.outbox().record(outcome(&mail, MailState::Staged, Vec::new()))).unwrap();
        assert_eq!(rows(dir.path())[0].state, state);
    }
}

#[test]
fn the_same_again_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let (records, mail) = tape.mail();
    store.submit(records.clone()).unwrap();
    store.submit(records).unwrap();
    wait_committed(&store, tape.next_seq - 1);
    assert_eq!(rows(dir.path()).len(), 1);
    let outbox = store.outbox();
    ask(outbox.stage(staging(&mail))).unwrap();
    let accepted = recipient("ada@sv.test", RecipientState::Accepted);
    ask(outbox.record(outcome(&mail, MailState::Staged, vec![accepted.clone()]))).unwrap();
    let before = rows(dir.path());
    // Staged again: who has it already does not get it again.
    ask(outbox.stage(staging(&mail))).unwrap();
    let recipients = |rows: &[OutboxRow]| rows[0].recipients.clone();
    assert_eq!(recipients(&rows(dir.path())), recipients(&before));
    ask(outbox.record(outcome(&mail, MailState::Staged, vec![accepted]))).unwrap();
    assert_eq!(rows(dir.path()), before);
    assert_eq!(before[0].recipients[0].outcome.state, RecipientState::Accepted);
}

#[test]
fn what_the_outbox_does_not_have_or_cannot_hold_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let (_, mail) = tape.mail();
    let outbox = store.outbox();
    assert_eq!(ask(outbox.record(done(&mail))), Err(NotStored::Unknown));
    let large = Staging { message: vec![b'x'; REQUEST_BYTES_MAX], ..staging(&mail) };
    let refused = ask(outbox.stage(large)).unwrap_err();
    assert!(matches!(refused, NotStored::TooLarge { .. }), "{refused}");
    assert_eq!(rows(dir.path()), []);
    // Its record was never handed over; its bytes are enough.
    ask(outbox.stage(staging(&mail))).unwrap();
    ask(outbox.record(done(&mail))).unwrap();
    assert_eq!((rows(dir.path())[0].state, rows(dir.path())[0].seq), (MailState::Done, None));
    assert!(store.close(PATIENCE));
    assert_eq!(ask(outbox.stage(staging(&mail))), Err(NotStored::Closed));
}

#[test]
fn a_mail_whose_record_is_dropped_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    let mut tape = Tape::mailing();
    tape.begin();
    let (records, mail) = tape.mail();
    // Without a snapshot before them they cannot be replayed, and are dropped.
    let count = records.len() as u64;
    store.submit(records).unwrap();
    super::wait_until("the drop", || store.status().dropped == count);
    let rows = rows(dir.path());
    assert_eq!((rows.len(), rows[0].key, rows[0].seq), (1, MailKey::of(&mail), None));
    assert_eq!(Reader::open(dir.path()).unwrap().tail(10).unwrap().records, []);
}

#[test]
fn a_version_1_file_keeps_its_content_and_gets_an_outbox() {
    use crate::store::{FILE, journal, schema};
    let dir = tempfile::tempdir().unwrap();
    let mut tape = Tape::mailing();
    {
        let mut conn = rusqlite::Connection::open(dir.path().join(FILE)).unwrap();
        schema::migrate(&mut conn, &schema::MIGRATIONS[..1]).unwrap();
        let mut state = tape.state.clone();
        let policy = journal::json(&std::mem::take(&mut state.policy)).unwrap();
        conn.execute("INSERT INTO policy VALUES (1, ?)", [policy]).unwrap();
        conn.execute(
            "INSERT INTO snapshot VALUES (0, 'boot-1', ?, ?, '0.0.1', 1, ?)",
            (tape.now.boot.0, tape.now.wall.0, journal::json(&state).unwrap()),
        )
        .unwrap();
        for record in tape.begin() {
            journal::insert(&conn, journal::to_sql(record.seq), &record).unwrap();
        }
        journal::insert_gap(&conn, -5, -3, tape.now.wall, "disk full").unwrap();
    }
    // A newer program's reader beside an older supervisor.
    assert_eq!((rows(dir.path()), open_rows(dir.path())), (Vec::new(), Vec::new()));
    let (store, loaded) = open(dir.path());
    assert!(loaded.damage.is_empty(), "{:?}", loaded.damage);
    assert_eq!((loaded.stored.unwrap().state, loaded.next_seq), (tape.state.clone(), tape.next_seq));
    tape.snapshot(&store);
    let mail = decided(&store, &mut tape);
    ask(store.outbox().stage(staging(&mail))).unwrap();
    assert_staged(&rows(dir.path())[0], &mail);
    tape.pass(Span::seconds(1));
    assert!(store.close(PATIENCE));
}
