//! The subject, as Alertmanager's own template `__subject` writes it: `[FIRING:2] ServiceDown api (onprem critical)`.

use super::super::text;
use super::{Item, Letter, Status};
use std::collections::{BTreeMap, BTreeSet};

/// How many characters a subject has. Mail programs show fewer; Alertmanager has no bound and fills screens.
const SUBJECT_MAX: usize = 200;

/// How much of one value stands in it, in bytes.
const VALUE_MAX: usize = 100;

/// Alertmanager puts this label before all others.
const ALERTNAME: &str = "alertname";

/// The subject of a letter: status, number of firing alerts, the values of the labels that group them, and in parentheses
/// those of all other labels on which they agree. One line.
pub fn subject(letter: &Letter) -> String {
    let status = match letter.status() {
        Status::Firing => {
            format!("[FIRING:{}]", letter.items.iter().filter(|item| item.ended.is_none()).count())
        }
        Status::Resolved => "[RESOLVED]".to_owned(),
    };
    let labels = Grouped::of(letter);
    let mut subject = status;
    for (_, value) in &labels.group {
        subject.push(' ');
        subject.push_str(&text::header(value, VALUE_MAX));
    }
    if !labels.others.is_empty() {
        let values =
            labels.others.iter().map(|(_, value)| text::header(value, VALUE_MAX)).collect::<Vec<_>>();
        subject.push_str(&format!(" ({})", values.join(" ")));
    }
    cut(&subject)
}

/// The labels on which all alerts of a letter agree, in Alertmanager's order: `alertname` first, then by name.
pub(super) struct Grouped {
    /// Those that the letter was put together by.
    pub(super) group: Vec<(String, String)>,
    /// All others.
    pub(super) others: Vec<(String, String)>,
}

impl Grouped {
    pub(super) fn of(letter: &Letter) -> Grouped {
        let mut items = letter.items.iter().map(labels);
        let mut common = items.next().unwrap_or_default();
        for other in items {
            common.retain(|name, value| other.get(name) == Some(value));
        }
        let by: BTreeSet<&str> = letter.group_by.iter().map(String::as_str).collect();
        // A stable sort: what is not the name of the alert keeps the order of the map.
        let mut common: Vec<(&str, &str)> = common.into_iter().collect();
        common.sort_by_key(|(name, _)| *name != ALERTNAME);
        let (group, others): (Vec<_>, Vec<_>) = common.into_iter().partition(|(name, _)| by.contains(name));
        let owned = |labels: Vec<(&str, &str)>| {
            labels.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        Grouped { group: owned(group), others: owned(others) }
    }
}

/// All labels of an alert. One without a value is none, as in Alertmanager.
pub(super) fn labels(item: &Item) -> BTreeMap<&str, &str> {
    let mut labels: BTreeMap<&str, &str> =
        item.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    labels.insert(ALERTNAME, &item.alertname);
    labels.insert("severity", &item.severity);
    labels.retain(|_, value| !value.is_empty());
    labels
}

fn cut(subject: &str) -> String {
    const MARK: &str = "...";
    if subject.chars().count() <= SUBJECT_MAX {
        return subject.to_owned();
    }
    let kept: String = subject.chars().take(SUBJECT_MAX - MARK.len()).collect();
    format!("{kept}{MARK}")
}
