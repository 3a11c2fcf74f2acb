//! What was and what would have been, side by side.

use super::{gap_words, other_versions, unreadable_words};
use crate::cli::output::wrapped;
use crate::cli::table;
use crate::daemon::replay::{Compared, Line, Row};
use crate::domain::time::Span;
use crate::present;
use serde_json::{Value, json};

/// How many rows are shown at most; the rest is counted. `--format json` has all.
const ROWS_MAX: usize = 500;

/// The comparison for people.
pub(super) fn page(compared: &Compared, name: &str) -> String {
    let (from, to) = span(compared);
    let mut text = wrapped("", &format!("as it was, and with {name}, from {from} to {to} (times are UTC)"));
    text.push('\n');
    if compared.rows.is_empty() {
        text.push_str(&wrapped(
            "",
            &format!("nothing would have been otherwise ({} lines are the same)", compared.same),
        ));
    } else {
        let mut day = String::new();
        let mut cells = Vec::new();
        for row in compared.rows.iter().take(ROWS_MAX) {
            let at = present::time(row.at);
            let (date, time) = at.trim_end_matches('Z').split_once('T').unwrap_or((&at, ""));
            if date != day {
                date.clone_into(&mut day);
                cells.push([date.to_owned(), String::new(), String::new()]);
            }
            cells.push([time.to_owned(), cell(row, &row.was, &row.would), cell(row, &row.would, &row.was)]);
        }
        text.push_str(&table::side_by_side(["TIME", "AS IT WAS", &format!("WITH {name}")], &cells));
        if let Some(more) = compared.rows.len().checked_sub(ROWS_MAX).filter(|more| *more > 0) {
            text.push_str(&wrapped("", &format!("and {more} more; --format json has them")));
        }
        text.push_str(&wrapped("", &format!("{} more lines are the same in both", compared.same)));
    }
    text.push('\n');
    text.push_str(&totals(compared, name));
    text.push('\n');
    for words in limits(compared) {
        text.push_str(&wrapped("- ", &words));
    }
    text.push_str(&other_versions(compared.versions.iter()));
    text
}

fn span(compared: &Compared) -> (String, String) {
    let time = |now: crate::domain::Now| present::time(now.wall);
    compared.span.map_or_else(Default::default, |(first, last)| (time(first), time(last)))
}

/// One side of a row: nothing, or what happened; and how much sooner or later than on the other side.
fn cell(row: &Row, line: &Option<Line>, other: &Option<Line>) -> String {
    let Some(line) = line else { return "-".to_owned() };
    match other {
        Some(other) if line.at > other.at => {
            format!("{} later: {}", Span(line.at.0.abs_diff(row.at.0)), line.words)
        }
        Some(_) | None => line.words.clone(),
    }
}

fn totals(compared: &Compared, name: &str) -> String {
    let (was, would) = (&compared.was, &compared.would);
    let rows = [
        ("switches", was.switches, would.switches),
        ("starts of containers", was.starts, would.starts),
        ("restarts of containers", was.restarts, would.restarts),
        ("mails that something is wrong", was.mails_firing, would.mails_firing),
        ("mails that it is over", was.mails_resolved, would.mails_resolved),
        ("incidents", was.incidents, would.incidents),
    ];
    let cells: Vec<[String; 4]> = rows
        .iter()
        .map(|(what, was, would)| {
            let more = match would.cmp(was) {
                std::cmp::Ordering::Greater => format!("{} more", would - was),
                std::cmp::Ordering::Less => format!("{} fewer", was - would),
                std::cmp::Ordering::Equal => "the same".to_owned(),
            };
            [(*what).to_owned(), was.to_string(), would.to_string(), more]
        })
        .collect();
    table::side_by_side(["", "AS IT WAS", &format!("WITH {name}"), ""], &cells)
}

/// What the answer rests on, and what it cannot know.
fn limits(compared: &Compared) -> Vec<String> {
    let list = |servers: &std::collections::BTreeSet<crate::domain::ServerId>| {
        let mut names: Vec<String> = servers.iter().take(5).map(ToString::to_string).collect();
        if servers.len() > names.len() {
            names.push(format!("{} more", servers.len() - names.len()));
        }
        names.join(", ")
    };
    let mut limits = vec![
        "probes are those of then: what another interval, timeout or check would have found is not known"
            .to_owned(),
        format!(
            "where the journal is silent, servers are taken to have gone on as they were ({} answers)",
            compared.inferred
        ),
        "routes, starts and mails that were not tried then are taken to have worked".to_owned(),
    ];
    if !compared.unknown.is_empty() {
        limits.push(format!("nothing is known of {}", list(&compared.unknown)));
    }
    if !compared.slower.is_empty() {
        limits.push(format!(
            "answers that only these settings call slow are not in the journal: {}",
            list(&compared.slower)
        ));
    }
    if compared.later {
        limits.push("results that were late then and would be in time now are not in the journal".to_owned());
    }
    if compared.reloads > 0 {
        limits.push(format!(
            "the settings were changed {} times meanwhile, which is left out",
            compared.reloads
        ));
    }
    limits.extend(compared.gaps.iter().map(|gap| format!("{}; both begin anew behind that", gap_words(gap))));
    limits.extend(compared.unreadable.iter().map(unreadable_words));
    if compared.skipped > 0 {
        limits.push(format!(
            "{} records were passed over: no snapshot before them can be used",
            compared.skipped
        ));
    }
    limits
}

/// The comparison for programs: a line for each row, and a summary.
pub(super) fn json(compared: &Compared) -> Vec<Value> {
    let side = |line: &Option<Line>| {
        line.as_ref().map(|line| {
            json!({ "at": present::time(line.at), "code": line.code, "service": line.service, "level": line.level,
                "words": line.words })
        })
    };
    let row =
        |row: &Row| json!({ "at": present::time(row.at), "was": side(&row.was), "would": side(&row.would) });
    let (first, last) = span(compared);
    let summary = json!({ "summary": {
        "from": first, "to": last, "records": compared.records, "same": compared.same,
        "different": compared.rows.len(), "was": compared.was, "would": compared.would,
        "inferred": compared.inferred, "skipped": compared.skipped, "gaps": compared.gaps,
        "versions": compared.versions, "version": env!("CARGO_PKG_VERSION"), "limits": limits(compared),
    }});
    compared.rows.iter().map(row).chain([summary]).collect()
}
