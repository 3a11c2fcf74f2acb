//! Files that are damaged, deleted, or of an earlier process: numbers that come twice, and mails that must not get lost.

use super::{Tape, ask, assert_staged, decided, done, mailing, open, open_rows, options, staging};
use crate::domain::delivery::Mail;
use crate::domain::{Event, Span, Wall};
use crate::store::tests::faults::{Disk, Mood};
use crate::store::tests::{PATIENCE, wait_committed, wait_until};
use crate::store::{Damage, FILE, MailKey, MailState, NotStored, OutboxRow, Reader, Store};
use rusqlite::Connection;
use std::io;
use std::path::Path;

fn keys(rows: &[OutboxRow]) -> Vec<MailKey> {
    rows.iter().map(|row| row.key).collect()
}

#[test]
fn a_process_that_began_without_the_disk_counts_anew_and_touches_no_mail_of_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let old = decided(&store, &mut tape);
    ask(store.outbox().stage(staging(&old))).unwrap();
    assert!(store.close(PATIENCE));
    // Out of reach at the start, back later.
    let away = dir.path().join("away");
    std::fs::rename(dir.path().join(FILE), &away).unwrap();
    std::fs::create_dir(dir.path().join(FILE)).unwrap();
    let why = Store::open(dir.path(), "boot-2", options()).unwrap_err();
    let (store, _) = Store::in_memory(dir.path(), "boot-2", options(), &why);
    let mut next = Tape::mailing();
    next.pass(Span::seconds(86_400));
    next.snapshot(&store);
    store.submit(next.begin()).unwrap();
    let (records, new) = next.mail();
    store.submit(records).unwrap();
    assert_eq!(new.id, old.id, "the same number");
    std::fs::remove_dir(dir.path().join(FILE)).unwrap();
    std::fs::rename(&away, dir.path().join(FILE)).unwrap();
    wait_committed(&store, next.next_seq - 1);

    let open_now = open_rows(dir.path());
    assert_eq!(keys(&open_now), [MailKey::of(&old), MailKey::of(&new)]);
    assert_staged(&open_now[0], &old);
    assert_eq!(open_now[1].mail.as_ref(), Some(&new));
    let page = Reader::open(dir.path()).unwrap().after(open_now[1].seq.unwrap() - 1, 1).unwrap();
    assert_eq!(crate::store::journal::mails(&page.records[0]).collect::<Vec<_>>(), [&new]);
    ask(store.outbox().stage(staging(&new))).unwrap();
    assert_staged(&open_rows(dir.path())[1], &new);
    ask(store.outbox().record(done(&new))).unwrap();
    let left = open_rows(dir.path());
    assert_eq!(keys(&left), [MailKey::of(&old)]);
    assert_staged(&left[0], &old);
    ask(store.outbox().record(done(&old))).unwrap();
    assert_eq!(open_rows(dir.path()), []);
    assert!(store.close(PATIENCE));
}

#[test]
fn behind_a_damaged_record_a_number_comes_twice_and_both_mails_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let old = decided(&store, &mut tape);
    assert!(store.close(PATIENCE));
    let sql = format!("UPDATE journal SET changes = '[' WHERE seq = {}", tape.next_seq - 1);
    Connection::open(dir.path().join(FILE)).unwrap().execute_batch(&sql).unwrap();

    let (store, loaded) = open(dir.path());
    assert!(matches!(loaded.damage[..], [Damage::Record { .. }]), "{:?}", loaded.damage);
    let stored = loaded.stored.unwrap();
    let mut next = Tape { state: stored.state, now: stored.at, next_seq: loaded.next_seq };
    next.pass(Span::seconds(3600));
    next.snapshot(&store);
    // The state does not know that it was told, and the mail is decided again.
    let record = next.feed(Event::Woke).unwrap();
    let new = crate::store::journal::mails(&record).next().unwrap().clone();
    store.submit(vec![record]).unwrap();
    wait_committed(&store, next.next_seq - 1);
    assert_eq!(new.id, old.id, "the same number");
    assert_eq!(keys(&open_rows(dir.path())), [MailKey::of(&old), MailKey::of(&new)]);
    assert!(store.close(PATIENCE));
}

#[test]
fn in_a_store_that_is_begun_anew_a_mail_is_staged_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let mail = decided(&store, &mut tape);
    ask(store.outbox().stage(staging(&mail))).unwrap();
    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(dir.path().join(format!("{FILE}{suffix}"))).unwrap();
    }
    wait_until("the wish for a snapshot", || *store.wants_snapshot().borrow());
    assert_eq!(ask(store.outbox().record(done(&mail))), Err(NotStored::Unknown));
    ask(store.outbox().stage(staging(&mail))).unwrap();
    assert_staged(&open_rows(dir.path())[0], &mail);
    // Requests alone do not make the store think that records are missing.
    tape.snapshot(&store);
    store.submit(tape.accident()).unwrap();
    wait_committed(&store, tape.next_seq - 1);
    assert_eq!(store.status().dropped, 0);
    assert!(store.close(PATIENCE));
    crate::store::tests::faults::assert_kept(dir.path(), &tape);
}

#[test]
fn from_a_file_that_is_found_damaged_while_it_is_written_the_open_mails_go_over() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let (store, mut tape) = mailing(dir.path(), disk.options());
    let (first, second) = (decided(&store, &mut tape), decided(&store, &mut tape));
    ask(store.outbox().stage(staging(&first))).unwrap();
    ask(store.outbox().stage(staging(&second))).unwrap();
    ask(store.outbox().record(done(&first))).unwrap();
    disk.set(Mood::Fails(io::ErrorKind::InvalidData));
    let third = {
        let (records, mail) = tape.mail();
        store.submit(records).unwrap();
        mail
    };
    let aside = dir.path().join(format!("{FILE}.damaged"));
    wait_until("the file set aside", || aside.exists());
    disk.set(Mood::Well);
    wait_until("the mail in hand", || {
        // Between two files there may be none.
        Reader::open(dir.path()).and_then(|reader| reader.outbox_open()).is_ok_and(|open| open.len() == 2)
    });
    let open_now = open_rows(dir.path());
    assert_eq!(keys(&open_now), [MailKey::of(&second), MailKey::of(&third)]);
    assert_staged(&open_now[0], &second);
    ask(store.outbox().record(done(&second))).unwrap();
    assert_eq!(keys(&open_rows(dir.path())), [MailKey::of(&third)]);
}

/// A closed store with mails: every third is done.
fn filled(dir: &Path) -> Vec<Mail> {
    let (store, mut tape) = mailing(dir, options());
    let mut unsent = Vec::new();
    for n in 0..9 {
        let mail = decided(&store, &mut tape);
        ask(store.outbox().stage(staging(&mail))).unwrap();
        if n % 3 == 0 {
            ask(store.outbox().record(done(&mail))).unwrap();
        } else {
            unsent.push(mail);
        }
    }
    assert!(store.close(PATIENCE));
    unsent
}

#[test]
fn whichever_page_is_damaged_the_mails_that_can_be_read_go_on() {
    let original = tempfile::tempdir().unwrap();
    let unsent = filled(original.path());
    let sound = std::fs::read(original.path().join(FILE)).unwrap();
    let pages = sound.len() / 4096;
    let mut lost = Vec::new();
    for page in 0..pages {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0xA5);
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        let (store, loaded) = open(dir.path());
        let mut next = Tape::mailing();
        next.now.wall = Wall(1_800_000_000_000);
        next.next_seq = loaded.next_seq;
        next.snapshot(&store);
        store.submit(next.begin()).unwrap();
        let (records, new) = next.mail();
        store.submit(records).unwrap();
        // What shows only now, when it is written to, is set aside, too.
        wait_until("a store that works", || {
            if *store.wants_snapshot().borrow() {
                next.snapshot(&store);
            }
            *store.committed().borrow() == next.next_seq - 1
        });
        ask(store.outbox().stage(staging(&new))).unwrap();
        assert!(store.close(PATIENCE), "page {page}: {:?}", loaded.damage);

        let left = open_rows(dir.path());
        let row = |mail: &Mail| left.iter().find(|row| row.key == MailKey::of(mail));
        let same = |row: &OutboxRow, mail| row.staged.as_ref().map(|it| it.message == staging(mail).message);
        assert_eq!(row(&new).and_then(|row| same(row, &new)), Some(true), "page {page}: the new mail");
        let gone = unsent.iter().filter(|mail| row(mail).is_none()).count();
        // SQLite has no checksums: a page of nothing but a message's bytes is as good as any other.
        let other =
            unsent.iter().filter(|mail| row(mail).and_then(|row| same(row, mail)) == Some(false)).count();
        let told = !loaded.damage.is_empty() || dir.path().join(format!("{FILE}.damaged")).exists();
        assert!(gone == 0 || told, "page {page}: {gone} mails lost without a word");
        assert!(other <= 1, "page {page}: {other} mails have other bytes");
        if gone > 0 {
            lost.push((page, gone));
        }
    }
    println!("{pages} pages, lost: {lost:?}");
    let all = lost.iter().filter(|(_, gone)| *gone == unsent.len()).count();
    assert!(all <= 2, "only the file's first page and the table's root cost every mail: {lost:?}");
}

#[test]
fn a_flipped_byte_anywhere_hides_no_other_mail() {
    let original = tempfile::tempdir().unwrap();
    let unsent = filled(original.path());
    let sound = std::fs::read(original.path().join(FILE)).unwrap();
    let (mut opened, mut refused) = (0, 0);
    for at in (0..sound.len()).step_by(499) {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = sound.clone();
        bytes[at] ^= 0xFF;
        std::fs::write(dir.path().join(FILE), bytes).unwrap();
        let Ok((store, loaded)) = Store::open(dir.path(), "boot-1", options()) else {
            refused += 1;
            continue;
        };
        opened += 1;
        // A number or a state that was hit is another one; what became unreadable was told.
        let left = open_rows(dir.path());
        assert!(left.len() >= unsent.len() || !loaded.damage.is_empty(), "byte {at}: lost without a word");
        let known = |mail: &&Mail| left.iter().any(|row| row.key == MailKey::of(mail));
        let gone = unsent.iter().filter(|mail| !known(mail)).count();
        assert!(gone <= 1 || !loaded.damage.is_empty(), "byte {at}: {gone} mails are not there");
        assert!(store.close(PATIENCE));
    }
    assert!(opened > 200 && refused < 20, "{opened} opened, {refused} refused");
}

#[test]
fn a_mail_that_only_the_index_knows_is_damage_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let unsent = filled(dir.path());
    let run = |sql: &str| Connection::open(dir.path().join(FILE)).unwrap().execute_batch(sql).unwrap();
    // A table forgets a row while its index is out of sight.
    run("CREATE TABLE hidden AS SELECT * FROM sqlite_schema WHERE name = 'outbox_state';
         PRAGMA writable_schema = ON;
         DELETE FROM sqlite_schema WHERE name = 'outbox_state'");
    run(&format!("DELETE FROM outbox WHERE id = {}", unsent[0].id.0));
    run("PRAGMA writable_schema = ON; INSERT INTO sqlite_schema SELECT * FROM hidden; DROP TABLE hidden");
    let (store, loaded) = open(dir.path());
    assert!(matches!(loaded.damage[..], [Damage::File { .. }]), "{:?}", loaded.damage);
    assert!(loaded.stored.is_some());
    let left = open_rows(dir.path());
    assert_eq!(keys(&left), unsent[1..].iter().map(MailKey::of).collect::<Vec<_>>());
    left.iter().zip(&unsent[1..]).for_each(|(row, mail)| assert_staged(row, mail));
    assert!(store.close(PATIENCE));
}

#[test]
fn a_state_that_is_none_of_ours_counts_as_open() {
    let dir = tempfile::tempdir().unwrap();
    let (store, mut tape) = mailing(dir.path(), options());
    let (staged, plain) = (decided(&store, &mut tape), decided(&store, &mut tape));
    ask(store.outbox().stage(staging(&staged))).unwrap();
    ask(store.outbox().record(done(&staged))).unwrap();
    assert!(store.close(PATIENCE));
    let sql =
        "UPDATE outbox SET state = 'dome', mail = '{'; UPDATE outbox_recipient SET state = x'c0' || '?'";
    Connection::open(dir.path().join(FILE)).unwrap().execute_batch(sql).unwrap();
    let (_store, loaded) = open(dir.path());
    assert!(loaded.damage.is_empty());
    let left = open_rows(dir.path());
    assert_eq!(keys(&left), [MailKey::of(&staged), MailKey::of(&plain)]);
    assert_eq!(left.iter().map(|row| row.state).collect::<Vec<_>>(), [MailState::Staged, MailState::Pending]);
    assert!(left.iter().all(|row| row.mail.is_none()), "its words are lost, its bytes are not");
    assert!(left[0].staged.as_ref().unwrap().message == staging(&staged).message);
    assert_eq!(left[0].recipients[0].outcome.state, crate::store::RecipientState::Ambiguous);
}
