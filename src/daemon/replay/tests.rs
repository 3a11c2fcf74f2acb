//! A small world that is journalled as the daemon does it, and replayed.

mod film;

use super::verify::{Told, Verified, Verifier};
use super::what_if::{Compared, WhatIf};
use super::{Because, Intervals, Totals, Window};
use crate::domain::policy::{HealMode, Policy};
use crate::domain::testing::{healing, policy, server, service};
use crate::domain::witness::ProbeFault;
use crate::domain::{ServerId, Span, State, Wall};
use crate::store::{Gap, Item};
use film::{Film, SECOND, does};
use std::collections::BTreeMap;
use std::convert::Infallible;

fn verified(items: Vec<Item>) -> (Verified, Vec<String>) {
    verified_in(items, Window::default())
}

fn verified_in(items: Vec<Item>, window: Window) -> (Verified, Vec<String>) {
    let mut told = Vec::new();
    let mut tell = |one: Told, _: &State| -> Result<(), Infallible> {
        told.push(match one {
            Told::Began { because, .. } => format!("began {because:?}"),
            Told::Decided { difference: None, .. } => return Ok(()),
            Told::Decided { record, difference: Some(difference) } => {
                format!("record {} {} {}", record.seq, difference.part, difference.journal)
            }
            Told::StateDiffers { info, difference } => format!("state {} {}", info.seq, difference.part),
            Told::Gap(gap) => format!("gap {} {}", gap.first, gap.last),
            Told::Unreadable(unreadable) => format!("unreadable {} {}", unreadable.what, unreadable.seq),
        });
        Ok(())
    };
    let mut verifier = Verifier::new(window);
    for item in items {
        let Ok(()) = verifier.feed(item, &mut tell);
    }
    let Ok(verified) = verifier.end(&mut tell);
    (verified, told)
}

fn api() -> Policy {
    healing(policy(&[("api", &["onprem", "cloud"])]))
}

/// Probes every second, and every quarter of one where something begins to change.
fn intervals(policy: &Policy) -> BTreeMap<ServerId, Intervals> {
    let servers = policy.services.iter().flat_map(|(id, service)| {
        service.servers.keys().map(move |name| ServerId { service: *id, server: *name })
    });
    servers.map(|id| (id, Intervals::default())).collect()
}

fn compared(items: Vec<Item>, policy: &Policy) -> Compared {
    compared_in(items, policy, Window::default(), None)
}

fn compared_in(items: Vec<Item>, policy: &Policy, window: Window, until: Option<Wall>) -> Compared {
    let mut what_if = WhatIf::new(window, policy.clone(), intervals(policy));
    items.into_iter().try_for_each(|item| what_if.feed(item)).unwrap();
    what_if.end(until).unwrap()
}

/// The rows of one code: seconds since the film began, as it was and as it would have been.
fn rows(compared: &Compared, code: &str, film: &Film) -> Vec<(Option<i64>, Option<i64>)> {
    let of = |line: &Option<super::Line>| line.as_ref().map(|line| (line.at.0 - film.began.wall.0) / SECOND);
    let with_code =
        compared.rows.iter().filter(|row| row.was.iter().chain(&row.would).any(|line| line.code == code));
    with_code.map(|row| (of(&row.was), of(&row.would))).collect()
}

/// A day with everything in it: a hang, a crash that is healed, a lost probe, a flap, a restart of the daemon.
fn eventful() -> Film {
    let mut film = Film::new(api());
    film.runs(30);
    film.does("api/api-onprem", does::hangs());
    film.runs(20);
    film.does("api/api-onprem", does::answers());
    film.runs(400);
    film.crashes("api-onprem");
    film.runs(30);
    film.loses_one("api/api-cloud", ProbeFault::Silent);
    film.runs(400);
    film.checkpoint();
    film.restarts();
    film.runs(400);
    film.does("api/api-cloud", does::fails(ProbeFault::Status(503)));
    film.runs(60);
    film.does("api/api-cloud", does::answers());
    film.runs(60);
    film
}

#[test]
fn a_journal_replays_to_the_same_bytes() {
    let film = eventful();
    let (verified, told) = verified(film.items());
    assert_eq!(told, ["began First", "began Start"]);
    assert_eq!((verified.differences, verified.skipped, verified.states), (0, 0, 1));
    assert!(verified.decided > 40, "{verified:?}");
    assert_eq!(verified.decided, film.records());
}

#[test]
fn one_byte_that_differs_is_found_and_does_not_hide_the_rest() {
    let film = eventful();
    let mut items = film.items();
    let moves = |item: &Item| matches!(item, Item::Record(record) if record.reasons.contains("\"failover\""));
    let reason = items.iter().position(moves).unwrap();
    let Item::Record(record) = &mut items[reason] else { unreachable!() };
    record.reasons = record.reasons.replacen("\"to\":\"cloud\"", "\"to\":\"onprem\"", 1);
    let changed = record.seq;
    let (verified, told) = verified(items);
    assert_eq!(verified.differences, 1, "{told:?}");
    let begins = format!("record {changed} reasons ");
    assert!(told[1].starts_with(&begins) && told[1].contains("onprem"), "{told:?}");
}

#[test]
fn a_stored_state_that_is_not_what_the_records_come_to_is_found() {
    let film = eventful();
    let mut items = film.items();
    let checkpoint = items
        .iter_mut()
        .filter_map(|item| if let Item::Snapshot(snapshot) = item { Some(snapshot) } else { None })
        .nth(1)
        .unwrap();
    checkpoint.state = checkpoint.state.replacen("\"next_action\":", "\"next_action\":1", 1);
    let (verified, told) = verified(items);
    assert_eq!(verified.differences, 1, "{told:?}");
    assert!(told[1].starts_with("state ") && told[1].ends_with(" state"), "{told:?}");
}

#[test]
fn behind_what_is_missing_or_unreadable_it_begins_anew() {
    let film = eventful();
    let (mut items, mut first) = (film.items(), 0);
    // A record is lost in the middle: nothing behind it can be replayed before the next snapshot.
    let lost = items.iter().skip(1).position(|item| matches!(item, Item::Record(_))).unwrap() + 11;
    if let Item::Record(record) = &items[lost] {
        first = record.seq;
    }
    let gap = Gap { first, last: first, ended: Wall(0), why: "disk full".into() };
    items[lost] = Item::Gap(gap);
    let (missing, told) = verified(items.clone());
    assert_eq!(told[1..], [format!("gap {first} {first}"), "began Gap".into(), "began Start".into()]);
    assert!(missing.skipped > 0 && missing.differences == 0 && missing.decided > 10, "{missing:?}");
    // The same with one that another version wrote.
    let mut items = film.items();
    let Item::Record(record) = &mut items[lost] else { unreachable!() };
    record.event = "{\"invented\":{}}".into();
    let (unreadable, told) = verified(items);
    assert_eq!(told[1], format!("unreadable record {first}"));
    assert_eq!((unreadable.decided, unreadable.differences), (missing.decided, 0));
}

#[test]
fn only_the_window_is_told_and_what_leads_to_it_is_decided_all_the_same() {
    let film = eventful();
    let second = |second: i64| Some(Wall(film.began.wall.0 + second * SECOND));
    let window = Window { since: second(400), until: second(700) };
    let (verified, _) = verified_in(film.items(), window);
    let (first, last) = verified.span.unwrap();
    assert!(Some(first.wall) >= window.since && Some(last.wall) <= window.until);
    assert!(verified.shown > 5 && verified.decided > verified.shown, "{verified:?}");
    let nothing = Window { since: second(100_000), until: None };
    let (verified, _) = verified_in(film.items(), nothing);
    assert_eq!((verified.shown, verified.differences), (0, 0));
}

/// What the model assumes and infers must be what happened, where the settings are those of then.
#[test]
fn under_the_settings_of_then_nothing_would_have_been_otherwise() {
    let film = eventful();
    let found = compared(film.items(), &api());
    let told: Vec<_> = found.rows.iter().collect();
    assert!(told.is_empty(), "{told:#?}");
    assert_eq!(found.was, found.would);
    assert!(found.was.switches >= 4 && found.was.starts == 1 && found.same > 20, "{found:?}");
}

#[test]
fn with_fall_1_one_lost_probe_moves_traffic_and_it_comes_back_by_inferred_answers() {
    let mut film = Film::new(api());
    film.runs(30);
    film.loses_one("api/api-onprem", ProbeFault::Silent);
    film.runs(500);
    let mut other = api();
    for (_, server) in other.services.get_mut(&service("api")).unwrap().servers.iter_mut() {
        server.fall = 1;
    }
    let found = compared_in(film.items(), &other, Window::default(), Some(film.now.wall));
    assert_eq!((found.was.switches, found.would.switches), (0, 2), "{found:#?}");
    assert_eq!(rows(&found, "failover", &film), [(None, Some(30))]);
    // Up again with the recorded good probe and an inferred one; then the hold-down of five minutes.
    assert_eq!(rows(&found, "server_up", &film), [(None, Some(30))]);
    assert_eq!(rows(&found, "failback", &film), [(None, Some(330))]);
    assert!(found.inferred >= 1);
}

#[test]
fn with_a_higher_fall_a_server_goes_on_failing_where_the_journal_is_silent() {
    let mut film = Film::new(api());
    film.runs(30);
    film.does("api/api-onprem", does::fails(ProbeFault::Status(503)));
    film.runs(60);
    film.does("api/api-onprem", does::answers());
    film.runs(400);
    let mut other = api();
    for (_, server) in other.services.get_mut(&service("api")).unwrap().servers.iter_mut() {
        server.fall = 10;
    }
    let found = compared_in(film.items(), &other, Window::default(), Some(film.now.wall));
    let failovers = rows(&found, "failover", &film);
    let [(Some(was), Some(would))] = failovers[..] else { panic!("{failovers:?}") };
    // Ten failures at the fast pace instead of two.
    assert!((1..=4).contains(&(would - was)), "{failovers:?}");
    assert_eq!(found.was.switches, found.would.switches);
}

#[test]
fn with_half_the_failback_time_traffic_returns_sooner() {
    let mut film = Film::new(api());
    film.runs(30);
    film.does("api/api-onprem", does::hangs());
    film.runs(30);
    film.does("api/api-onprem", does::answers());
    film.runs(600);
    let mut other = api();
    let failback = &mut other.services.get_mut(&service("api")).unwrap().failback;
    (failback.after, failback.hold_down) = (Span::seconds(30), Span::seconds(150));
    let found = compared(film.items(), &other);
    let returns = rows(&found, "failback", &film);
    let [(Some(was), Some(would))] = returns[..] else { panic!("{returns:?}") };
    assert!((148..=152).contains(&(was - would)), "{returns:?}");
    assert_eq!(found.was.switches, found.would.switches);
    // Twice the time goes beyond the last record: time passes for the replay as far as the journal is known to be quiet.
    let failback = &mut other.services.get_mut(&service("api")).unwrap().failback;
    failback.hold_down = Span::seconds(900);
    let quiet = Wall(film.now.wall.0 + 2_000 * SECOND);
    let found = compared_in(film.items(), &other, Window::default(), Some(quiet));
    assert_eq!(found.would.switches, 2);
    let found = compared(film.items(), &other);
    assert_eq!(found.would.switches, 1, "without that, it is not known to return");
}

#[test]
fn what_is_not_started_stays_down_and_what_is_started_besides_comes_up() {
    let mut film = Film::new(api());
    film.runs(30);
    film.crashes("api-onprem");
    film.runs(100);
    let set = |mode| {
        let mut other = api();
        other.containers.values_mut().for_each(|container| container.heal = Some(mode));
        other
    };
    let found = compared(film.items(), &set(HealMode::Notify));
    assert_eq!((found.was.starts, found.would.starts), (1, 0));
    assert!(rows(&found, "server_up", &film).iter().all(|(_, would)| would.is_none()), "{found:#?}");

    // The other way round: nobody started it then.
    let mut film = Film::new(set(HealMode::Notify));
    film.runs(30);
    film.crashes("api-onprem");
    film.runs(100);
    let found = compared_in(film.items(), &set(HealMode::Auto), Window::default(), Some(film.now.wall));
    assert_eq!((found.was.starts, found.would.starts), (0, 1));
    let ups = rows(&found, "server_up", &film);
    assert!(matches!(ups[..], [(None, Some(30..=34))]), "{ups:?}");
}

#[test]
fn mails_of_the_replay_are_counted_and_arrive() {
    let mut film = Film::new(api());
    film.runs(30);
    film.does("api/api-onprem", does::hangs());
    film.runs(200);
    film.does("api/api-onprem", does::answers());
    film.runs(200);
    let mut other = api();
    other.alerts.direct = true;
    (other.alerts.fallback_after, other.alerts.notify_grace) = (Span::seconds(60), Span::seconds(90));
    let found = compared(film.items(), &other);
    let mails = |totals: Totals| (totals.mails_firing, totals.mails_resolved);
    assert_eq!((mails(found.was), mails(found.would)), ((0, 0), (1, 1)), "{:#?}", found.rows);
}

#[test]
fn the_other_settings_are_put_in_force_as_the_window_begins() {
    let film = eventful();
    let mut other = api();
    for (_, server) in other.services.get_mut(&service("api")).unwrap().servers.iter_mut() {
        server.fall = 1;
    }
    let since = Wall(film.began.wall.0 + 1_000 * SECOND);
    let window = Window { since: Some(since), until: None };
    let found = compared_in(film.items(), &other, window, None);
    assert!(found.rows.iter().all(|row| row.at >= since), "{:#?}", found.rows);
    assert!(found.span.unwrap().0.wall >= since);
}

#[test]
fn a_server_of_which_nothing_is_known_is_named() {
    let film = eventful();
    let mut other = healing(policy(&[("api", &["onprem", "cloud"]), ("web", &["onprem"])]));
    other.lateness = Span::seconds(60);
    let slow =
        other.services.get_mut(&service("api")).unwrap().servers.get_mut(&server("api/api-cloud").server);
    slow.unwrap().slow_after = Some(Span(100));
    let found = compared(film.items(), &other);
    assert_eq!(found.unknown, [server("web/web-onprem")].into());
    assert_eq!(found.slower, [server("api/api-cloud")].into());
    assert!(found.later);
}

#[test]
fn a_snapshot_knows_what_it_is_for() {
    let film = eventful();
    let (_, told) = verified(film.items());
    assert_eq!(told, [format!("began {:?}", Because::First), format!("began {:?}", Because::Start)]);
}
