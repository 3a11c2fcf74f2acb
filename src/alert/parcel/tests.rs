use super::*;
use crate::alert::email::{FaultClass, Recipient, RelayFault, Reply};
use crate::domain::delivery::{MailKind, WhyDirect};

const DECIDED: Wall = Wall(1_700_000_000_000);

fn mail() -> Mail {
    Mail { id: MailId(7), kind: MailKind::Test, why: WhyDirect::Asked, at: DECIDED, incidents: Vec::new() }
}

fn parcel(recipients: &[&str]) -> Parcel {
    let mut parcel = Parcel::new(mail(), true);
    parcel.address(&recipients.iter().map(|to| (*to).to_owned()).collect::<Vec<_>>());
    parcel
}

fn reply(code: u16) -> Reply {
    Reply { code, text: "so it is".to_owned() }
}

fn attempt(outcomes: &[(&str, Outcome)]) -> Attempt {
    let recipient = |(address, outcome): &(&str, Outcome)| Recipient {
        address: (*address).to_owned(),
        outcome: outcome.clone(),
    };
    Attempt { recipients: outcomes.iter().map(recipient).collect() }
}

fn accepted() -> Outcome {
    Outcome::Accepted { reply: reply(250), queue_id: None }
}

fn deferred() -> Outcome {
    Outcome::Deferred { stage: Stage::Rcpt, reply: reply(450) }
}

fn refused() -> Outcome {
    Outcome::Refused { stage: Stage::Rcpt, reply: reply(550) }
}

fn failed() -> Outcome {
    let fault = RelayFault {
        stage: Stage::Connect,
        class: FaultClass::Unreachable,
        why: "refused".into(),
        reply: None,
    };
    Outcome::RelayFailed(fault)
}

fn ambiguous() -> Outcome {
    Outcome::Ambiguous { why: "the connection was lost".into() }
}

fn names(relays: &[&str]) -> Vec<String> {
    relays.iter().map(|relay| (*relay).to_owned()).collect()
}

fn after(seconds: i64) -> Wall {
    Wall(DECIDED.0 + seconds * 1_000)
}

#[test]
fn each_recipient_goes_a_way_of_their_own() {
    let mut parcel = parcel(&["a@x", "b@x", "c@x"]);
    assert_eq!(parcel.wanting("one"), ["a@x", "b@x", "c@x"]);
    parcel.note("one", &attempt(&[("a@x", accepted()), ("b@x", deferred()), ("c@x", refused())]));
    // A greylisting relay is asked again, and no other; a refusal may be one relay's.
    assert_eq!(parcel.wanting("two"), ["c@x"]);
    parcel.note("two", &attempt(&[("c@x", refused())]));
    let told = parcel.end_round(&names(&["one", "two"]), after(1));
    assert!(
        matches!(told, Some(MailEnd::Deferred { words }) if words.contains("b@x") && words.contains("450"))
    );
    assert!(matches!(parcel.recipients["c@x"], Fate::Dead { .. }), "every relay refused");
    parcel.begin_round();
    assert_eq!((parcel.wanting("one"), parcel.wanting("two")), (names(&["b@x"]), names(&["b@x"])));
    parcel.note("one", &attempt(&[("b@x", accepted())]));
    let told = parcel.end_round(&names(&["one", "two"]), after(20));
    assert!(
        matches!(told, Some(MailEnd::Dead { words, .. }) if words.contains("c@x") && words.contains("550"))
    );
}

#[test]
fn a_relay_that_fails_leaves_the_message_to_the_next_one() {
    let mut parcel = parcel(&["a@x"]);
    parcel.note("one", &attempt(&[("a@x", failed())]));
    assert_eq!(parcel.wanting("two"), ["a@x"]);
    parcel.note("two", &attempt(&[("a@x", accepted())]));
    assert_eq!(
        parcel.end_round(&names(&["one", "two"]), after(1)),
        Some(MailEnd::Accepted { recipients: 1 })
    );
}

#[test]
fn what_may_have_arrived_is_tried_again_later_there_and_nowhere_else() {
    let mut parcel = parcel(&["a@x"]);
    parcel.note("one", &attempt(&[("a@x", ambiguous())]));
    assert_eq!(parcel.wanting("two"), Vec::<String>::new());
    parcel.end_round(&names(&["one", "two"]), after(0));
    assert_eq!(parcel.next, after(300));
    parcel.begin_round();
    assert_eq!((parcel.wanting("one"), parcel.wanting("two")), (names(&["a@x"]), Vec::new()));
}

#[test]
fn pauses_grow_and_are_told_once() {
    let mut parcel = parcel(&["a@x"]);
    let mut now = DECIDED;
    let mut told = 0;
    let mut pauses = Vec::new();
    for _ in 0..9 {
        parcel.begin_round();
        parcel.note("one", &attempt(&[("a@x", failed())]));
        told += usize::from(parcel.end_round(&names(&["one"]), now).is_some());
        pauses.push((parcel.next.0 - now.0) / 1_000);
        now = parcel.next;
    }
    assert_eq!(told, 1);
    for (pause, whole) in pauses.iter().zip([15, 30, 60, 120, 300, 600, 900, 900, 900]) {
        assert!((whole * 4 / 5..=whole * 6 / 5).contains(pause), "{pauses:?}");
    }
}

#[test]
fn what_nobody_takes_for_a_day_is_given_up_visibly() {
    let mut parcel = parcel(&["a@x"]);
    parcel.note("one", &attempt(&[("a@x", failed())]));
    assert!(!matches!(parcel.end_round(&names(&["one"]), after(86_399)), Some(MailEnd::Dead { .. })));
    let end = parcel.end_round(&names(&["one"]), after(86_400));
    assert!(matches!(&end, Some(MailEnd::Dead { words, .. }) if words.contains("refused")), "{end:?}");
    assert_eq!(parcel.recorded(after(86_400)).standing, Standing::Dead);
}

#[test]
fn a_parcel_goes_on_where_the_last_process_left_it() {
    let mut parcel = parcel(&["a@x", "b@x", "c@x"]);
    parcel.message =
        Some(Message { id: "<m@h>".into(), sender: "s@x".into(), bytes: b"bytes".to_vec(), staged: true });
    parcel.note("one", &attempt(&[("a@x", accepted()), ("b@x", ambiguous()), ("c@x", deferred())]));
    parcel.end_round(&names(&["one"]), after(1));
    let kept = parcel.recorded(after(1));
    assert_eq!(kept.standing, Standing::Open);
    let staged = Staged {
        message_id: "<m@h>".into(),
        sender: "s@x".into(),
        bytes: b"bytes".to_vec(),
        recipients: names(&["a@x", "b@x", "c@x"]),
    };
    let mut resumed = Parcel::resumed(mail(), Some(staged), kept.recipients);
    assert_eq!(resumed.message, parcel.message);
    assert_eq!(resumed.wanting("one"), ["b@x", "c@x"], "never again to whom has it");
    resumed.begin_round();
    resumed.note("one", &attempt(&[("b@x", accepted()), ("c@x", accepted())]));
    assert_eq!(resumed.end_round(&names(&["one"]), after(60)), Some(MailEnd::Accepted { recipients: 3 }));
}

#[test]
fn doubt_ends_with_its_relay_or_with_the_day() {
    let doubtful = || {
        let mut parcel = parcel(&["a@x"]);
        parcel.begin_round();
        parcel.note("one", &attempt(&[("a@x", ambiguous())]));
        parcel.end_round(&names(&["one", "two"]), DECIDED);
        parcel
    };
    let mut moved = doubtful();
    assert!(moved.wanting("two").is_empty(), "another relay would deliver it twice");
    moved.end_round(&names(&["two"]), DECIDED);
    assert_eq!(moved.wanting("two"), ["a@x"], "the relay that may have it is gone");

    let mut old = doubtful();
    let tomorrow = Wall(DECIDED.0 + 25 * 3_600_000);
    assert!(matches!(old.end_round(&names(&["one"]), tomorrow), Some(MailEnd::Dead { .. })));
    assert!(old.is_finished());
}

#[test]
fn a_restart_waits_where_somebody_may_have_it_and_a_clock_that_was_set_back_does_not_hold_it_up() {
    let next = Wall(DECIDED.0 + 300_000);
    let kept = |state| Kept {
        address: "a@x".into(),
        state,
        relay: Some("one".into()),
        words: None,
        next: Some(next),
        attempts: 1,
    };
    let resumed = |state| Parcel::resumed(mail(), None, vec![kept(state)]);
    assert!(resumed(Fated::Pending).is_due(DECIDED));
    assert!(!resumed(Fated::Ambiguous).is_due(DECIDED));
    assert!(resumed(Fated::Ambiguous).is_due(next));
    assert!(resumed(Fated::Ambiguous).is_due(Wall(DECIDED.0 - 3_600_000)), "an hour back");
}
