//! The parts of the library that need no stack: figures and parsers. Declared by the end-to-end tests alone: the
//! other two programs that include the library have no test harness.

use std::time::{Duration, Instant};

use crate::support::alerts::{Path, mail};
use crate::support::haproxy::{ServerLine, parse_stat};
use crate::support::measure::{Failure, Outcome, Record, first_finished_from, first_from, median, window};
use crate::support::supervisor::service;

const PERIOD: Duration = Duration::from_millis(5);

/// `n` requests on schedule, each answered by onprem 1 ms after it was due.
fn steady(start: Instant, n: u32) -> Vec<Record> {
    (0..n)
        .map(|i| start + PERIOD * i)
        .map(|due| Record {
            due,
            finished: due + Duration::from_millis(1),
            outcome: Outcome::Answered { site: "onprem".into() },
        })
        .collect()
}

fn fail(record: &mut Record, after: Duration) {
    record.finished = record.due + after;
    record.outcome = Outcome::Failed(Failure::Timeout);
}

#[test]
fn steady_traffic_has_the_gap_of_its_schedule_and_no_failure() {
    let start = Instant::now();
    let seen = window(&steady(start, 1000), start + Duration::from_secs(1), start + Duration::from_secs(5));
    assert_eq!((seen.sent, seen.failed, seen.gap, seen.recovered), (800, 0, PERIOD, true));
    assert_eq!(seen.by_site["onprem"], 800);
}

#[test]
fn an_outage_is_one_gap_and_every_request_due_in_it_fails() {
    let start = Instant::now();
    let mut records = steady(start, 1000);
    for record in &mut records[200..300] {
        fail(record, Duration::from_secs(2));
    }
    let seen = window(&records, start + Duration::from_millis(999), start + Duration::from_secs(5));
    // From the success of request 199 to that of request 300.
    assert_eq!((seen.failed, seen.gap, seen.recovered), (100, PERIOD * 101, true));
    assert_eq!(seen.failures[&Failure::Timeout], 100);
}

#[test]
fn the_gap_that_spans_the_fault_counts_from_the_last_success_before_it() {
    let start = Instant::now();
    let mut records = steady(start, 1000);
    for record in &mut records[190..210] {
        fail(record, Duration::from_secs(2));
    }
    let seen = window(&records, start + Duration::from_secs(1), start + Duration::from_secs(5));
    assert_eq!(seen.gap, PERIOD * 21);
}

#[test]
fn a_gap_that_ended_before_the_fault_does_not_count() {
    let start = Instant::now();
    let mut records = steady(start, 1000);
    for record in &mut records[10..100] {
        fail(record, Duration::from_millis(1));
    }
    let seen = window(&records, start + Duration::from_secs(1), start + Duration::from_secs(5));
    assert_eq!((seen.failed, seen.gap), (0, PERIOD));
}

#[test]
fn a_request_in_flight_at_the_fault_belongs_to_the_window() {
    let start = Instant::now();
    let mut records = steady(start, 1000);
    fail(&mut records[199], Duration::from_secs(2));
    let seen = window(&records, start + Duration::from_secs(1), start + Duration::from_secs(5));
    assert_eq!((seen.sent, seen.failed), (801, 1));
}

#[test]
fn a_peer_that_does_not_serve_at_the_end_gets_the_time_to_the_end() {
    let start = Instant::now();
    let mut records = steady(start, 1000);
    for record in &mut records[200..] {
        fail(record, Duration::from_secs(2));
    }
    // A lucky answer now and then is no service.
    records[500] = steady(start, 501).remove(500);
    let (from, to) = (start + Duration::from_secs(1), start + Duration::from_secs(5));
    let seen = window(&records, from, to);
    assert_eq!((seen.gap, seen.recovered, seen.failed), (Duration::from_secs(4), false, 799));
}

#[test]
fn one_bad_request_in_the_last_second_is_still_recovered() {
    let start = Instant::now();
    let mut records = steady(start, 1000);
    fail(&mut records[950], Duration::from_secs(2));
    let (from, to) = (start + Duration::from_secs(1), start + Duration::from_secs(5));
    assert!(window(&records, from, to).recovered);
    for record in &mut records[950..953] {
        fail(record, Duration::from_secs(2));
    }
    assert!(!window(&records, from, to).recovered);
}

#[test]
fn no_record_at_all_is_no_recovery() {
    let start = Instant::now();
    let seen = window(&[], start, start + Duration::from_secs(5));
    assert_eq!((seen.sent, seen.gap, seen.recovered), (0, Duration::from_secs(5), false));
}

#[test]
fn the_first_answer_of_a_site_is_counted_by_due_or_by_finish_as_asked() {
    let start = Instant::now();
    let mut records = steady(start, 400);
    let fault = start + Duration::from_secs(1);
    // Caught by the fault, answered by the other site later than the next request.
    records[199].outcome = Outcome::Answered { site: "cloud".into() };
    records[199].finished = fault + Duration::from_millis(3);
    for record in &mut records[210..] {
        record.outcome = Outcome::Answered { site: "cloud".into() };
    }
    assert_eq!(first_from(&records, "cloud", fault), Some(records[210].finished));
    assert_eq!(first_finished_from(&records, "cloud", fault), Some(records[199].finished));
    assert_eq!(first_from(&records, "moon", fault), None);
}

#[test]
fn the_median_is_a_measured_value() {
    assert_eq!(median::<u32>(&[]), None);
    assert_eq!(median(&[7]), Some(7));
    assert_eq!(median(&[9, 1, 5]), Some(5));
    assert_eq!(median(&[9, 1, 5, 7]), Some(5));
}

#[test]
fn show_stat_is_read_by_the_names_of_its_columns() {
    let csv = "# pxname,svname,stot,status,\nfe,FRONTEND,9,OPEN,\napi__onprem,onprem,7,UP 1/2,\n\
               api__onprem,BACKEND,7,UP,\n\n";
    let expected = ServerLine {
        backend: "api__onprem".into(),
        server: "onprem".into(),
        status: "UP 1/2".into(),
        sessions: 7,
    };
    assert_eq!(parse_stat(csv).unwrap(), [expected]);
}

#[test]
fn show_stat_without_a_column_is_an_error_that_names_it() {
    let error = parse_stat("# pxname,svname,status,\n").unwrap_err();
    assert!(error.to_string().contains("stot"), "{error}");
}

#[test]
fn a_status_with_missing_fields_is_read_as_empty_ones_and_is_not_well() {
    let found = service(&serde_json::json!({ "name": "api", "serving": null }));
    assert_eq!((found.name.as_str(), found.serving.as_str()), ("api", ""));
    assert!(!found.all_well());
}

#[test]
fn all_well_needs_the_preferred_site_and_every_server_up() {
    let status = |serving: &str, health: &str| {
        service(&serde_json::json!({
            "name": "api", "serving": serving, "preferred": "onprem",
            "servers": [{ "name": "a", "health": "up" }, { "name": "b", "health": health }],
        }))
    };
    assert!(status("onprem", "up").all_well());
    assert!(!status("cloud", "up").all_well());
    let ordered = serde_json::json!({
        "name": "api", "serving": "cloud", "preferred": "cloud", "override": { "site": "cloud" },
        "servers": [{ "name": "a", "health": "up" }],
    });
    assert!(!service(&ordered).all_well(), "a person's order is no normal state");
    assert!(!status("onprem", "unknown").all_well());
}

#[test]
fn a_line_of_the_box_is_a_mail_with_its_path_and_its_moment() {
    let line =
        "1700000000012345\tsupervisor\toncall@demo.test\t<1@x>\t[FIRING:1] PoolDown api onprem (critical)";
    let read = mail(line).unwrap();
    assert_eq!((read.arrived.as_microsecond(), read.path.clone()), (1_700_000_000_012_345, Path::Supervisor));
    assert!(read.fires() && read.is_about_a_pool());
    let read = mail("1700000000000000\tAlertmanager\t\t\t[RESOLVED] Watchdog (none)").unwrap();
    assert!(!read.fires() && !read.is_about_a_pool() && read.path == Path::Alertmanager);
    assert!(mail("yesterday\tAlertmanager\t\t\tx").is_none() && mail("").is_none());
}
