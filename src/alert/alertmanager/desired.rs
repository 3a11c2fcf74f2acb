//! Which alerts an Alertmanager is to have, as a pure question about the state.

use crate::domain::delivery::{DELIVERED_BY, Telling};
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::state::State;
use crate::domain::time::Wall;
use crate::present;
use reqwest::Url;
use std::collections::BTreeMap;

/// One alert that an Alertmanager is to have.
#[derive(Clone, PartialEq, Debug)]
pub struct Alert {
    /// Whose it is.
    pub incident: IncidentId,
    /// What makes it this alert and no other; the same for as long as it lasts. `source="supervisor"` is among them: by it
    /// they are read back.
    pub labels: BTreeMap<String, String>,
    /// What is said about it; may change.
    pub annotations: BTreeMap<String, String>,
    /// When it began.
    pub starts: Wall,
    /// When it ended, if it did.
    pub ended: Option<Wall>,
    /// Where to read more; a URL or empty.
    pub generator_url: String,
}

/// The alerts that `state` wants: one for each incident, what is over included. How long that is still sent is left to
/// who sends it, because the state has no clock. `status_url` is our own page.
pub fn alerts(state: &State, status_url: &str) -> Vec<Alert> {
    // Alertmanager refuses a whole alert for a link that is none.
    let link = if Url::parse(status_url).is_ok() { status_url } else { "" };
    let last = |(id, incident): &(&IncidentId, &Incident)| state.incident_of(&incident.trouble) == Some(**id);
    let alert = |(id, incident): (&IncidentId, &Incident)| Alert {
        incident: *id,
        labels: labels(incident),
        annotations: annotations(incident),
        starts: incident.opened_wall,
        ended: incident.ended.map(|ended| ended.wall),
        generator_url: link.to_owned(),
    };
    state.incidents.iter().filter(last).map(alert).collect()
}

fn labels(incident: &Incident) -> BTreeMap<String, String> {
    let mut labels = incident.trouble.labels();
    match incident.telling {
        // Its end as well: with another set of labels it would end another alert, and this one would last until it is no
        // longer resent.
        Telling::ByMail { .. } | Telling::Over { by_mail: true } => {
            let (name, value) = DELIVERED_BY;
            labels.insert(name.to_owned(), value.to_owned());
        }
        Telling::Pending { .. }
        | Telling::Stored { .. }
        | Telling::ByAlertmanager
        | Telling::Over { by_mail: false } => {}
    }
    legal(labels)
}

/// Without what Alertmanager refuses or ignores. An alert that lacks a label is better than none.
fn legal(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|name, value| is_name(name) && !value.is_empty());
    labels
}

/// `[a-zA-Z_][a-zA-Z0-9_]*`: what every version of Alertmanager takes as a label's name.
fn is_name(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    first && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn annotations(incident: &Incident) -> BTreeMap<String, String> {
    let story: Vec<String> = incident.story.iter().map(present::reason).collect();
    let mut all = BTreeMap::from([
        ("summary".to_owned(), present::trouble(&incident.trouble)),
        ("description".to_owned(), story.join("\n")),
        ("since".to_owned(), present::time(incident.opened_wall)),
    ]);
    all.retain(|_, text| !text.is_empty());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_alertmanager_would_refuse_are_left_out() {
        let pairs =
            [("alertname", "PoolDown"), ("_x9", "1"), ("9x", "1"), ("a-b", "1"), ("", "1"), ("empty", "")];
        let labels = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let left: Vec<String> = legal(labels.into()).into_keys().collect();
        assert_eq!(left, ["_x9", "alertname"]);
    }
}
