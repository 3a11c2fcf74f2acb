use super::*;
use crate::alert::email::{Attempt, Outcome, Recipient, Reply, Stage};
use crate::domain::delivery::{Mail, MailId, Told, WhyDirect};
use crate::domain::incident::{IncidentId, Trouble};

const NOW: Wall = Wall(1_700_000_000_000);

fn told(incident: u64) -> Told {
    Told {
        incident: IncidentId(incident),
        trouble: Trouble::CutOff,
        opened: NOW,
        ended: None,
        story: Vec::new(),
    }
}

fn parcel(id: u64, kind: MailKind, incidents: &[u64]) -> Parcel {
    let incidents = incidents.iter().copied().map(told).collect();
    Parcel::new(Mail { id: MailId(id), kind, why: WhyDirect::Owed, at: NOW, incidents }, true)
}

fn to() -> Vec<String> {
    vec!["a@x".to_owned(), "b@x".to_owned()]
}

fn after(seconds: i64) -> Wall {
    Wall(NOW.0 + seconds * 1_000)
}

fn desk(parcels: impl IntoIterator<Item = Parcel>) -> Desk {
    let mut desk = Desk::default();
    parcels.into_iter().for_each(|parcel| desk.take(parcel, NOW));
    desk
}

fn next(desk: &mut Desk, now: Wall) -> Option<u64> {
    desk.next(now, &to(), false).map(|parcel| parcel.id().0)
}

/// A round in which `main` takes the mail for the one, and puts off the other.
fn half_delivered(mut parcel: Parcel, now: Wall) -> Parcel {
    parcel.address(&to());
    parcel.begin_round();
    let reply = |code| Reply { code, text: String::new() };
    let of = |address: &str, outcome| Recipient { address: address.to_owned(), outcome };
    let recipients = vec![
        of("a@x", Outcome::Accepted { reply: reply(250), queue_id: None }),
        of("b@x", Outcome::Deferred { stage: Stage::Rcpt, reply: reply(450) }),
    ];
    parcel.note("main", &Attempt { recipients });
    parcel.end_round(&["main".to_owned()], now);
    parcel
}

#[test]
fn a_mail_is_taken_in_once() {
    let mut desk = desk([parcel(1, MailKind::Firing, &[1])]);
    desk.take(parcel(1, MailKind::Firing, &[1]), NOW);
    let mut first = desk.next(NOW, &to(), false).unwrap();
    assert_eq!((desk.away(), next(&mut desk, NOW)), (1, None));
    desk.take(parcel(1, MailKind::Firing, &[1]), NOW);
    first.close(crate::alert::sender::Standing::NotNeeded);
    assert_eq!(desk.back(first), None);
    desk.take(parcel(1, MailKind::Firing, &[1]), after(3_600));
    assert_eq!(next(&mut desk, after(3_600)), None, "it came back from the outbox late");
}

#[test]
fn nobody_hears_that_it_is_over_before_they_heard_of_it() {
    let mut desk = desk([parcel(2, MailKind::Resolved, &[1]), parcel(3, MailKind::Resolved, &[9])]);
    desk.take(parcel(1, MailKind::Firing, &[1, 2]), NOW);
    let firing = desk.next(NOW, &to(), false).unwrap();
    assert_eq!(firing.id(), MailId(1), "the older one first");
    assert_eq!(next(&mut desk, NOW), Some(3), "another incident's end does not wait for it");
    assert_eq!(next(&mut desk, NOW), None, "it is on its way");

    desk.back(half_delivered(firing, NOW));
    let mut resolved = desk.next(NOW, &to(), false).expect("one of them has heard of it");
    resolved.address(&to());
    resolved.begin_round();
    assert_eq!(resolved.wanting("main"), ["a@x"]);
    let reply = Reply { code: 250, text: String::new() };
    let outcome = Outcome::Accepted { reply, queue_id: None };
    let taken = Attempt { recipients: vec![Recipient { address: "a@x".to_owned(), outcome }] };
    resolved.note("main", &taken);
    assert_eq!(resolved.end_round(&["main".to_owned()], NOW), None, "nothing went wrong");
    desk.back(resolved);
    assert_eq!(next(&mut desk, after(1)), None, "the other one waits for the beginning");
    let due = desk.next_due(after(1)).expect("the beginning is tried again");
    assert!(due > after(10), "{due:?}");

    let mut firing = desk.next(due, &to(), false).unwrap();
    assert_eq!(firing.id(), MailId(1));
    firing.close(crate::alert::sender::Standing::Dead);
    desk.back(firing);
    let mut resolved = desk.next(due, &to(), false).expect("nothing is ahead of it any more");
    resolved.begin_round();
    assert_eq!(resolved.wanting("main"), ["b@x"]);
}

#[test]
fn what_the_disk_does_not_know_is_kept_up_to_a_bound() {
    let mut desk = Desk::default();
    let mut unrecorded = |id| {
        let mut parcel = parcel(id, MailKind::Firing, &[id]);
        parcel.close(crate::alert::sender::Standing::Done);
        parcel.note_recorded(false, NOW);
        desk.back(parcel)
    };
    for id in 0..64 {
        assert_eq!(unrecorded(id), None);
    }
    assert!(unrecorded(64).is_some());
    assert_eq!(next(&mut desk, after(29)), None);
    assert_eq!(next(&mut desk, after(30)), Some(0), "the disk is told again");
}

#[test]
fn no_end_is_told_while_its_beginning_may_be_unread() {
    let mut desk = desk([parcel(2, MailKind::Resolved, &[1])]);
    assert_eq!(desk.next(NOW, &to(), true), None);
    desk.take(parcel(1, MailKind::Firing, &[1]), NOW);
    assert_eq!(desk.next(NOW, &to(), true).map(|parcel| parcel.id()), Some(MailId(1)));
}

#[test]
fn whoever_may_have_the_beginning_gets_the_end() {
    let mut desk = desk([parcel(1, MailKind::Firing, &[1]), parcel(2, MailKind::Resolved, &[1])]);
    let mut firing = desk.next(NOW, &to(), false).unwrap();
    firing.address(&to());
    firing.begin_round();
    let of = |address: &str| Recipient {
        address: address.to_owned(),
        outcome: Outcome::Ambiguous { why: "the connection was lost".into() },
    };
    firing.note("main", &Attempt { recipients: vec![of("a@x"), of("b@x")] });
    firing.end_round(&["main".to_owned()], NOW);
    desk.back(firing);
    assert_eq!(next(&mut desk, NOW), Some(2));
}
