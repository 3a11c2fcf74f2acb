use super::*;
use crate::domain::incident::Ended;
use crate::domain::silence::Matcher;
use crate::domain::testing::assert_table;

const OPENED: Boot = Boot(1_000_000);

fn policy() -> AlertPolicy {
    AlertPolicy {
        peers: [am("am1"), am("am2")].into(),
        direct: true,
        fallback_after: Span::seconds(60),
        notify_grace: Span::seconds(90),
    }
}

fn am(name: &str) -> PeerId {
    name.parse().unwrap()
}

fn incident(telling: Telling, ended_after: Option<u64>) -> Incident {
    let ended = ended_after.map(|seconds| Ended { at: OPENED + Span::seconds(seconds), wall: Wall(0) });
    Incident {
        trouble: Trouble::CutOff,
        opened: OPENED,
        opened_wall: Wall(0),
        ended,
        part_of: None,
        trusted_from: None,
        story: Vec::new(),
        telling,
        wake: None,
    }
}

fn down(failures: &[u64]) -> Peer {
    let failures: Vec<Boot> = failures.iter().map(|seconds| OPENED + Span::seconds(*seconds)).collect();
    Peer {
        link: PeerLink::Down { since: OPENED, why: "connection refused".into() },
        failures,
        silences: Vec::new(),
    }
}

fn up() -> Peer {
    Peer { link: PeerLink::Up, failures: Vec::new(), silences: Vec::new() }
}

/// That moment; the wall clock was at 0 when the incident was opened.
fn at(boot: Boot) -> Now {
    Now { boot, wall: Wall(boot.0 - OPENED.0) }
}

fn pending() -> Telling {
    Telling::default()
}

fn stored(after: u64) -> Telling {
    Telling::Stored { since: OPENED + Span::seconds(after), by: [am("am1")].into() }
}

/// What is found for `incident` so many seconds after its opening.
fn found(incident: &Incident, peers: [Peer; 2], after: u64) -> Plan {
    let [first, second] = peers;
    let peers = BTreeMap::from([(am("am1"), first), (am("am2"), second)]);
    plan(incident, &policy(), &peers, at(OPENED + Span::seconds(after)))
}

fn mailed(plan: &Plan) -> Option<(MailKind, &'static str)> {
    match plan {
        Plan::Mail(kind, why) => Some((
            *kind,
            match why {
                WhyDirect::NoAlertmanager => "none",
                WhyDirect::Unreachable { .. } => "unreachable",
                WhyDirect::NotStored => "not stored",
                WhyDirect::Rejected { .. } => "rejected",
                WhyDirect::Owed => "owed",
                WhyDirect::Lasts => "lasts",
                WhyDirect::Asked => "asked",
            },
        )),
        Plan::Rest | Plan::Wait(_) | Plan::Told | Plan::Over => None,
    }
}

#[test]
fn what_nobody_accepts_is_mailed_after_the_fallback_time_and_three_tries_of_each() {
    let three = || [down(&[1, 5, 15]), down(&[1, 5, 15])];
    let waiting = incident(pending(), None);
    assert_eq!(found(&waiting, three(), 0), Plan::Wait(OPENED + Span::seconds(60)));
    assert_eq!(mailed(&found(&waiting, three(), 59)), None);
    assert_eq!(mailed(&found(&waiting, three(), 60)), Some((MailKind::Firing, "unreachable")));
    // One of them has failed twice only, or failed before the incident: it may still work.
    for peers in [[down(&[1, 5, 15]), down(&[5, 15])], [down(&[1, 5, 15]), up()]] {
        assert_eq!(found(&waiting, peers.clone(), 60), Plan::Wait(OPENED + Span::seconds(150)));
        assert!(mailed(&found(&waiting, peers, 150)).is_some(), "not for ever");
    }
    let before = Peer { failures: vec![Boot(0), Boot(1), Boot(2)], ..down(&[]) };
    assert_eq!(found(&waiting, [before.clone(), before], 60), Plan::Wait(OPENED + Span::seconds(150)));
}

#[test]
fn what_was_accepted_and_is_not_there_gets_its_grace_and_is_mailed() {
    let absent = incident(Telling::Pending { accepted: true, rejected: None }, None);
    assert_eq!(found(&absent, [up(), up()], 100), Plan::Wait(OPENED + Span::seconds(150)));
    assert_eq!(mailed(&found(&absent, [up(), up()], 150)), Some((MailKind::Firing, "not stored")));
}

#[test]
fn what_an_alertmanager_refuses_is_mailed_at_the_fallback_time() {
    let refused = incident(Telling::Pending { accepted: false, rejected: Some("bad label".into()) }, None);
    assert_eq!(mailed(&found(&refused, [up(), up()], 59)), None);
    assert_eq!(mailed(&found(&refused, [up(), up()], 60)), Some((MailKind::Firing, "rejected")));
}

#[test]
fn what_stays_stored_is_told_and_never_mailed() {
    let kept = incident(stored(2), None);
    assert_eq!(found(&kept, [up(), up()], 91), Plan::Wait(OPENED + Span::seconds(92)));
    assert_eq!(found(&kept, [up(), up()], 92), Plan::Told);
    let told = incident(Telling::ByAlertmanager, None);
    assert_eq!(found(&told, [down(&[200, 210, 220]), down(&[200, 210, 220])], 100_000), Plan::Rest);
}

#[test]
fn the_end_goes_the_way_of_the_beginning() {
    let by_mail = incident(
        Telling::ByMail { mail: MailKey { id: MailId(1), at: Wall(0) }, reached: true, again: None },
        Some(300),
    );
    assert_eq!(mailed(&found(&by_mail, [up(), up()], 300)), Some((MailKind::Resolved, "owed")));
    let by_alertmanager = incident(Telling::ByAlertmanager, Some(300));
    assert_eq!(found(&by_alertmanager, [up(), up()], 300), Plan::Wait(OPENED + Span::seconds(360)));
    // It has gone meanwhile, and did not say yes to the end.
    let gone = [down(&[301, 310, 320]), down(&[301, 310, 320])];
    assert_eq!(mailed(&found(&by_alertmanager, gone, 360)), Some((MailKind::Resolved, "unreachable")));
    let over = incident(Telling::Over { by_mail: false }, Some(300));
    assert_eq!(found(&over, [up(), up()], 100_000), Plan::Rest);
}

#[test]
fn what_was_mailed_and_lasts_is_mailed_again() {
    let mail = MailKey { id: MailId(1), at: Wall(0) };
    let by_mail = |again: Option<u64>| {
        let again = again.map(|after| OPENED + Span::seconds(after));
        incident(Telling::ByMail { mail, reached: true, again }, None)
    };
    assert_eq!(found(&by_mail(None), [up(), up()], 100_000), Plan::Rest, "it is on its way");
    let due = OPENED + Span::seconds(3_660);
    assert_eq!(found(&by_mail(Some(3_660)), [up(), up()], 3_659), Plan::Wait(due));
    assert_eq!(mailed(&found(&by_mail(Some(3_660)), [up(), up()], 3_660)), Some((MailKind::Firing, "lasts")));
}

#[test]
fn what_nobody_was_told_of_while_it_lasted_is_told_by_one_mail_if_it_was_long() {
    let gone = || [down(&[1, 5, 15]), down(&[1, 5, 15])];
    assert_eq!(found(&incident(pending(), Some(29)), gone(), 29), Plan::Over);
    let long = incident(pending(), Some(31));
    assert_eq!(found(&long, gone(), 31), Plan::Wait(OPENED + Span::seconds(60)));
    assert_eq!(mailed(&found(&long, gone(), 60)), Some((MailKind::Resolved, "unreachable")));
}

#[test]
fn without_anybody_to_mail_to_nothing_is_mailed_and_without_alertmanager_all_is() {
    let nobody = AlertPolicy { direct: false, ..policy() };
    let late = OPENED + Span::seconds(10_000);
    assert_eq!(plan(&incident(pending(), None), &nobody, &BTreeMap::new(), at(late)), Plan::Rest);
    assert_eq!(
        plan(&incident(Telling::ByAlertmanager, Some(5)), &nobody, &BTreeMap::new(), at(late)),
        Plan::Over
    );
    let untold = incident(pending(), Some(60));
    let [soon, at_last] = [61, 960].map(|after| OPENED + Span::seconds(after));
    assert_eq!(plan(&untold, &nobody, &BTreeMap::new(), at(soon)), Plan::Wait(at_last));
    assert_eq!(plan(&untold, &nobody, &BTreeMap::new(), at(at_last)), Plan::Over);
    let alone = plan(&incident(pending(), None), &policy(), &BTreeMap::new(), at(OPENED + Span::seconds(60)));
    assert_eq!(mailed(&alone), Some((MailKind::Firing, "none")));
}

#[test]
fn what_was_silenced_before_alertmanager_went_away_is_not_mailed_until_the_silence_is_over() {
    let silence = |matches: &str, ends: i64| Silence {
        matchers: vec![Matcher {
            name: "alertname".into(),
            value: matches.into(),
            is_regex: false,
            is_equal: true,
        }],
        starts: Wall(0),
        ends: Wall(ends * 1_000),
    };
    let three = |silences: Vec<Silence>| [Peer { silences, ..down(&[1, 5, 15]) }, down(&[1, 5, 15])];
    let waiting = incident(pending(), None);
    let covered = || three(vec![silence("CutOff", 600), silence("CutOff", 90)]);
    assert_eq!(found(&waiting, covered(), 60), Plan::Wait(OPENED + Span::seconds(600)));
    assert_eq!(mailed(&found(&waiting, covered(), 600)), Some((MailKind::Firing, "unreachable")));
    assert_eq!(found(&incident(pending(), Some(100)), covered(), 100), Plan::Over, "nobody misses its end");
    let other = three(vec![silence("PoolDown", 600)]);
    assert!(mailed(&found(&waiting, other, 60)).is_some());
    // One that answers says itself what is suppressed there.
    let answers = [Peer { silences: vec![silence("CutOff", 600)], ..up() }, down(&[1, 5, 15])];
    assert!(mailed(&found(&waiting, answers, 150)).is_some());
    // Whoever had the beginning is owed the end, and no repetition meanwhile.
    let mail = MailKey { id: MailId(1), at: Wall(0) };
    let by_mail = Telling::ByMail { mail, reached: true, again: Some(OPENED + Span::seconds(300)) };
    let again = OPENED + Span::seconds(600);
    assert_eq!(found(&incident(by_mail.clone(), None), covered(), 300), Plan::Wait(again));
    assert!(mailed(&found(&incident(by_mail.clone(), Some(300)), covered(), 300)).is_some());
    // An Alertmanager that is back has what was mailed under another name, and may have a silence for that.
    let labelled = Silence {
        matchers: vec![Matcher {
            name: DELIVERED_BY.0.into(),
            value: DELIVERED_BY.1.into(),
            is_regex: false,
            is_equal: true,
        }],
        ..silence("CutOff", 600)
    };
    for silence in [labelled, silence("CutOff", 600)] {
        let back = [Peer { silences: vec![silence], ..up() }, up()];
        assert_eq!(found(&incident(by_mail.clone(), None), back, 300), Plan::Wait(again));
    }
}

#[test]
fn mails_are_due_at_full_multiples_so_that_a_storm_meets() {
    for (at, expected) in [(0, 0), (1, 5_000), (4_999, 5_000), (5_000, 5_000), (-1, 0), (-5_000, -5_000)] {
        assert_eq!(aligned(Boot(at)), Boot(expected), "{at}");
    }
}

/// Every telling against every word, while the incident lasts and after its end.
#[test]
fn every_word_moves_every_telling_as_written() {
    use Word::{Absent, Active, Resolved, Suppressed};
    let rejected = || Word::Rejected("no".into());
    let names = |telling: &Telling| match telling {
        Telling::Pending { accepted: false, rejected: None } => "pending",
        Telling::Pending { accepted: true, rejected: None } => "accepted",
        Telling::Pending { .. } => "rejected",
        Telling::Stored { .. } => "stored",
        Telling::ByAlertmanager => "told",
        Telling::ByMail { .. } => "mailed",
        Telling::Over { .. } => "over",
    };
    let tellings = [
        pending(),
        Telling::Pending { accepted: true, rejected: None },
        stored(1),
        Telling::ByAlertmanager,
        Telling::ByMail { mail: MailKey { id: MailId(1), at: Wall(0) }, reached: true, again: None },
        Telling::Over { by_mail: false },
    ];
    //                  pending     accepted    stored      told    mailed    over
    let lasting = [
        (Active, ["stored", "stored", "stored", "told", "mailed", "over"]),
        (Suppressed, ["told", "told", "told", "told", "mailed", "over"]),
        (Absent, ["accepted", "accepted", "accepted", "told", "mailed", "over"]),
        (rejected(), ["rejected", "rejected", "accepted", "told", "mailed", "over"]),
        (Resolved, ["pending", "accepted", "stored", "told", "mailed", "over"]),
    ];
    let ended = [
        (Active, ["pending", "accepted", "stored", "told", "mailed", "over"]),
        (Suppressed, ["pending", "accepted", "stored", "told", "mailed", "over"]),
        (Absent, ["pending", "accepted", "stored", "told", "mailed", "over"]),
        (rejected(), ["pending", "accepted", "stored", "told", "mailed", "over"]),
        (Resolved, ["pending", "accepted", "over", "over", "mailed", "over"]),
    ];
    for (end, table) in [(None, lasting), (Some(60), ended)] {
        for (word, expected) in table {
            let after = tellings.clone().map(|telling| {
                names(&after_word(&incident(telling, end), am("am1"), &word, OPENED + Span::seconds(5)))
            });
            assert_eq!(after, expected, "{word:?}, ended {end:?}");
        }
    }
    let lost = tellings.clone().map(|telling| names(&after_failure(&incident(telling, None), am("am1"))));
    assert_eq!(lost, ["pending", "accepted", "accepted", "told", "mailed", "over"]);
}

#[test]
fn what_one_of_two_still_has_is_not_lost() {
    let both = Telling::Stored { since: OPENED, by: [am("am1"), am("am2")].into() };
    let one = after_failure(&incident(both, None), am("am1"));
    assert_eq!(one, Telling::Stored { since: OPENED, by: [am("am2")].into() }, "the time runs on");
    let none = after_word(&incident(one, None), am("am2"), &Word::Absent, OPENED);
    assert_eq!(none, Telling::Pending { accepted: true, rejected: None });
}

/// Every telling at every moment that matters, whatever the Alertmanagers do. The incident began at 0 s; `over`: it ended
/// so long after that. Fallback after 60 s, grace 90 s.
#[test]
fn no_telling_and_no_moment_is_left_out() {
    let gone = "
              pending              accepted            rejected          stored               alertmanagers        mailed        on_its_way    over
10s           wait_60              wait_60             wait_60           wait_95              .                    wait_3660     .             .
60s           firing:unreachable   wait_150            firing:rejected   wait_95              .                    wait_3660     .             .
95s           firing:unreachable   wait_150            firing:rejected   told                 .                    wait_3660     .             .
150s          firing:unreachable   firing:not_stored   firing:rejected   told                 .                    wait_3660     .             .
3660s         firing:unreachable   firing:not_stored   firing:rejected   told                 .                    firing:lasts  .             .
over_20s      over                 over                over              wait_80              wait_80              resolved:owed resolved:owed .
over_40s      wait_60              wait_60             wait_60           wait_100             wait_100             resolved:owed resolved:owed .
over_40s,60s  resolved:unreachable wait_150            resolved:rejected wait_100             wait_100             resolved:owed resolved:owed .
over_40s,100s resolved:unreachable wait_150            resolved:rejected resolved:unreachable resolved:unreachable resolved:owed resolved:owed .
over_40s,150s resolved:unreachable resolved:not_stored resolved:rejected resolved:unreachable resolved:unreachable resolved:owed resolved:owed .
over_40s,940s resolved:unreachable resolved:not_stored resolved:rejected resolved:unreachable resolved:unreachable resolved:owed resolved:owed .
";
    let answering = "
              pending              accepted            rejected          stored               alertmanagers        mailed        on_its_way    over
10s           wait_60              wait_60             wait_60           wait_95              .                    wait_3660     .             .
60s           wait_150             wait_150            firing:rejected   wait_95              .                    wait_3660     .             .
95s           wait_150             wait_150            firing:rejected   told                 .                    wait_3660     .             .
150s          firing:unreachable   firing:not_stored   firing:rejected   told                 .                    wait_3660     .             .
3660s         firing:unreachable   firing:not_stored   firing:rejected   told                 .                    firing:lasts  .             .
over_20s      over                 over                over              wait_80              wait_80              resolved:owed resolved:owed .
over_40s      wait_60              wait_60             wait_60           wait_100             wait_100             resolved:owed resolved:owed .
over_40s,60s  wait_150             wait_150            resolved:rejected wait_100             wait_100             resolved:owed resolved:owed .
over_40s,100s wait_150             wait_150            resolved:rejected resolved:unreachable resolved:unreachable resolved:owed resolved:owed .
over_40s,150s resolved:unreachable resolved:not_stored resolved:rejected resolved:unreachable resolved:unreachable resolved:owed resolved:owed .
over_40s,940s resolved:unreachable resolved:not_stored resolved:rejected resolved:unreachable resolved:unreachable resolved:owed resolved:owed .
";
    let none = "
              pending       accepted      rejected          stored        alertmanagers mailed        on_its_way    over
10s           wait_60       wait_60       wait_60           wait_95       .             wait_3660     .             .
60s           firing:none   wait_150      firing:rejected   wait_95       .             wait_3660     .             .
95s           firing:none   wait_150      firing:rejected   told          .             wait_3660     .             .
150s          firing:none   firing:none   firing:rejected   told          .             wait_3660     .             .
3660s         firing:none   firing:none   firing:rejected   told          .             firing:lasts  .             .
over_20s      over          over          over              wait_80       wait_80       resolved:owed resolved:owed .
over_40s      wait_60       wait_60       wait_60           wait_100      wait_100      resolved:owed resolved:owed .
over_40s,60s  resolved:none wait_150      resolved:rejected wait_100      wait_100      resolved:owed resolved:owed .
over_40s,100s resolved:none wait_150      resolved:rejected resolved:none resolved:none resolved:owed resolved:owed .
over_40s,150s resolved:none resolved:none resolved:rejected resolved:none resolved:none resolved:owed resolved:owed .
over_40s,940s resolved:none resolved:none resolved:rejected resolved:none resolved:none resolved:owed resolved:owed .
";
    let nobody_to_mail_to = "
              pending  accepted rejected stored   alertmanagers mailed        on_its_way    over
10s           .        .        .        wait_95  .             wait_3660     .             .
60s           .        .        .        wait_95  .             wait_3660     .             .
95s           .        .        .        told     .             wait_3660     .             .
150s          .        .        .        told     .             wait_3660     .             .
3660s         .        .        .        told     .             firing:lasts  .             .
over_20s      over     over     over     wait_80  wait_80       resolved:owed resolved:owed .
over_40s      wait_940 wait_940 wait_940 wait_100 wait_100      resolved:owed resolved:owed .
over_40s,60s  wait_940 wait_940 wait_940 wait_100 wait_100      resolved:owed resolved:owed .
over_40s,100s wait_940 wait_940 wait_940 over     over          resolved:owed resolved:owed .
over_40s,150s wait_940 wait_940 wait_940 over     over          resolved:owed resolved:owed .
over_40s,940s over     over     over     over     over          resolved:owed resolved:owed .
";
    let mail = MailKey { id: MailId(1), at: Wall(0) };
    let by_mail = |again: Option<u64>| Telling::ByMail {
        mail,
        reached: true,
        again: again.map(|after| OPENED + Span::seconds(after)),
    };
    let states =
        ["pending", "accepted", "rejected", "stored", "alertmanagers", "mailed", "on_its_way", "over"];
    let telling = |state: &str| match state {
        "pending" => pending(),
        "accepted" => Telling::Pending { accepted: true, rejected: None },
        "rejected" => Telling::Pending { accepted: false, rejected: Some("no".into()) },
        "stored" => stored(5),
        "alertmanagers" => Telling::ByAlertmanager,
        "mailed" => by_mail(Some(3_660)),
        "on_its_way" => by_mail(None),
        _ => Telling::Over { by_mail: false },
    };
    let moments = [
        ("10s", None, 10),
        ("60s", None, 60),
        ("95s", None, 95),
        ("150s", None, 150),
        ("3660s", None, 3_660),
        ("over_20s", Some(20), 21),
        ("over_40s", Some(40), 41),
        ("over_40s,60s", Some(40), 60),
        ("over_40s,100s", Some(40), 100),
        ("over_40s,150s", Some(40), 150),
        ("over_40s,940s", Some(40), 940),
    ];
    let three = || down(&[1, 5, 15]);
    let worlds = [
        (gone, true, vec![(am("am1"), three()), (am("am2"), three())]),
        (answering, true, vec![(am("am1"), up()), (am("am2"), three())]),
        (none, true, Vec::new()),
        (nobody_to_mail_to, false, vec![(am("am1"), three())]),
    ];
    for (table, direct, peers) in worlds {
        let (policy, peers) = (AlertPolicy { direct, ..policy() }, peers.into_iter().collect());
        assert_table(table, &states, &moments.map(|(word, ..)| word), |state, input| {
            let (_, ended, after) = *moments.iter().find(|(word, ..)| *word == input).unwrap();
            let incident = incident(telling(state), ended);
            let found = plan(&incident, &policy, &peers, at(OPENED + Span::seconds(after)));
            match &found {
                Plan::Rest => ".".to_owned(),
                Plan::Wait(until) => format!("wait_{}", until.since(OPENED).0 / 1_000),
                Plan::Told => "told".to_owned(),
                Plan::Over => "over".to_owned(),
                Plan::Mail(kind, _) => {
                    let why = mailed(&found).map_or("", |(_, why)| why).replace(' ', "_");
                    format!("{}:{why}", kind.as_str())
                }
            }
        });
    }
}

#[test]
fn what_is_over_stays_with_who_had_it_when_that_fails() {
    let ended = incident(stored(5), Some(60));
    assert_eq!(after_failure(&ended, am("am1")), ended.telling);
    assert_ne!(after_failure(&incident(stored(5), None), am("am1")), stored(5));
}

#[test]
fn what_lasted_for_half_a_minute_is_news() {
    let peers = BTreeMap::from([(am("am1"), up()), (am("am2"), up())]);
    for (lasted, over) in [(29, true), (30, false)] {
        let ended = incident(pending(), Some(lasted));
        let now = at(OPENED + Span::seconds(lasted));
        assert_eq!(plan(&ended, &policy(), &peers, now) == Plan::Over, over, "{lasted} s");
    }
}
