//! What the templates get: strings, clean, bounded and in order. They decide how it looks, not what is there.

use super::super::text;
use super::subject::{Grouped, labels};
use super::{Item, Letter, Status};
use serde::Serialize;
use std::collections::BTreeMap;

/// How much of a name (alert, label, severity) is shown, in bytes.
const NAME_MAX: usize = 100;

/// How much of a label's value is shown.
const VALUE_MAX: usize = 200;

/// How much of a line of text is shown: a sentence or two.
const LINE_MAX: usize = 500;

/// How much of the reason why a letter came directly is shown: it names peers and what each of them said.
const WHY_MAX: usize = 1000;

/// How much is written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// How many alerts.
    pub(super) items: usize,
    /// How many lines of each kind an alert has.
    pub(super) lines: usize,
}

impl Bounds {
    /// The next tighter bounds for what came out `length` long and should have been `max`, until nothing is left: rather
    /// fewer alerts than shorter ones, down to a single one.
    pub(super) fn tighter(self, length: usize, max: usize) -> Option<Bounds> {
        match self {
            Bounds { items: 0, .. } => None,
            Bounds { items: 1, lines: 0 } => Some(Bounds { items: 0, lines: 0 }),
            Bounds { items: 1, lines } => Some(Bounds { items: 1, lines: lines / 2 }),
            // Alerts of one letter are much alike in length.
            Bounds { items, lines } => {
                Some(Bounds { items: (items * max / length).clamp(1, items - 1), lines })
            }
        }
    }
}

/// A letter as the templates see it.
#[derive(Debug, Serialize)]
pub(super) struct Layout {
    status: &'static str,
    subject: String,
    host: String,
    version: String,
    why: String,
    may_duplicate: bool,
    /// "2 alerts for alertname=ServiceDown service=api".
    heading: String,
    /// Firing ones first, as Alertmanager has them.
    sections: Vec<Section>,
    /// "87 more alerts are not shown: 12 critical, 75 warning".
    left_out: Option<String>,
}

/// The alerts of one status.
#[derive(Debug, Serialize)]
struct Section {
    status: &'static str,
    /// How many there are, shown or not.
    count: usize,
    items: Vec<Shown>,
}

#[derive(Debug, Serialize)]
struct Shown {
    alertname: String,
    severity: String,
    summary: String,
    started: String,
    ended: Option<String>,
    duration: String,
    labels: Lines<Pair>,
    did: Lines<String>,
    will: Lines<String>,
    description: Lines<String>,
    runbook: Option<Runbook>,
}

#[derive(Debug, Serialize)]
struct Pair {
    name: String,
    value: String,
}

/// Some of the lines, and how many more there are.
#[derive(Debug, Serialize)]
struct Lines<T> {
    shown: Vec<T>,
    more: usize,
}

#[derive(Debug, Serialize)]
struct Runbook {
    url: String,
    /// May be clicked on: only what leads to a page, not what would run as a script.
    safe: bool,
}

impl Layout {
    pub(super) fn of(letter: &Letter, bounds: Bounds) -> Layout {
        let mut items: Vec<&Item> = letter.items.iter().collect();
        items.sort_by_key(|item| (item.ended.is_some(), rank(&item.severity)));
        let (shown, left_out) = items.split_at(bounds.items.min(items.len()));
        let section = |status: Status| {
            let of = |item: &&&Item| (status == Status::Resolved) == item.ended.is_some();
            let count = items.iter().filter(of).count();
            let items = shown.iter().filter(of).map(|item| Shown::of(item, bounds.lines)).collect();
            Section { status: status.as_str(), count, items }
        };
        let sections = [Status::Firing, Status::Resolved].map(section);
        Layout {
            status: letter.status().as_str(),
            subject: super::subject(letter),
            host: text::line(&letter.host, NAME_MAX),
            version: text::line(&letter.version, NAME_MAX),
            why: text::line(&letter.why_direct, WHY_MAX),
            may_duplicate: letter.may_duplicate,
            heading: heading(letter),
            sections: sections.into_iter().filter(|section| section.count > 0).collect(),
            left_out: counted(left_out),
        }
    }
}

impl Shown {
    fn of(item: &Item, lines: usize) -> Shown {
        let alertname = text::line(&item.alertname, NAME_MAX);
        let summary = text::line(&item.summary, LINE_MAX);
        Shown {
            summary: if summary.is_empty() { alertname.clone() } else { summary },
            alertname,
            severity: text::line(&item.severity, NAME_MAX),
            started: text::line(&item.started, NAME_MAX),
            ended: item.ended.as_deref().map(|ended| text::line(ended, NAME_MAX)),
            duration: text::line(&item.duration, NAME_MAX),
            labels: Lines::of(labels(item), lines, |(name, value)| Pair {
                name: text::line(name, NAME_MAX),
                value: text::line(value, VALUE_MAX),
            }),
            did: sentences(&item.did, lines),
            will: sentences(&item.will, lines),
            description: sentences(&item.description, lines),
            runbook: item.runbook_url.as_deref().map(Runbook::of),
        }
    }
}

impl Runbook {
    fn of(url: &str) -> Runbook {
        let page = url.starts_with("https://") || url.starts_with("http://");
        // A link that was cut leads nowhere.
        let whole = url.len() <= LINE_MAX && !url.contains(|c: char| c.is_whitespace() || c.is_control());
        Runbook { url: text::line(url, LINE_MAX), safe: page && whole }
    }
}

impl<T> Lines<T> {
    fn of<S>(
        all: impl IntoIterator<Item = S, IntoIter: ExactSizeIterator>,
        max: usize,
        show: impl Fn(S) -> T,
    ) -> Lines<T> {
        let all = all.into_iter();
        Lines { more: all.len().saturating_sub(max), shown: all.take(max).map(show).collect() }
    }
}

fn sentences(lines: &[String], max: usize) -> Lines<String> {
    Lines::of(lines, max, |line| text::line(line, LINE_MAX))
}

fn heading(letter: &Letter) -> String {
    let count = letter.items.len();
    let mut heading = format!("{count} {}", if count == 1 { "alert" } else { "alerts" });
    for (index, (name, value)) in Grouped::of(letter).group.iter().enumerate() {
        let word = if index == 0 { " for" } else { "" };
        heading.push_str(&format!("{word} {}={}", text::line(name, NAME_MAX), text::line(value, VALUE_MAX)));
    }
    heading
}

fn counted(left_out: &[&Item]) -> Option<String> {
    if left_out.is_empty() {
        return None;
    }
    let mut counts: BTreeMap<(u8, String), usize> = BTreeMap::new();
    for item in left_out {
        let severity = match text::line(&item.severity, NAME_MAX) {
            none if none.is_empty() => "without severity".to_owned(),
            severity => severity,
        };
        *counts.entry((rank(&item.severity), severity)).or_default() += 1;
    }
    let mut parts: Vec<String> = Vec::new();
    let mut named = 0;
    for ((_, severity), count) in counts.iter().take(SEVERITIES_MAX) {
        parts.push(format!("{count} {severity}"));
        named += count;
    }
    if named < left_out.len() {
        parts.push(format!("{} other", left_out.len() - named));
    }
    let are = if left_out.len() == 1 { "more alert is" } else { "more alerts are" };
    Some(format!("{} {are} not shown: {}", left_out.len(), parts.join(", ")))
}

/// How many severities are told apart in what is not shown. There are three; more are a mistake in somebody's labels.
const SEVERITIES_MAX: usize = 5;

/// The worst first. A word that we do not know is taken for a warning: nobody invents one for less.
fn rank(severity: &str) -> u8 {
    match severity {
        "critical" => 0,
        "info" | "none" => 2,
        _ => 1,
    }
}
