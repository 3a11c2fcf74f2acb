//! What goes over the wire: Alertmanager's API v2 (its `api/v2/openapi.yaml`) as far as it is used.

use super::RESEND;
use super::desired::Alert;
use crate::domain::delivery::{RESOLVED_SENT_FOR, Word};
use crate::domain::time::Wall;
use crate::present;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long an alert lasts at Alertmanager if it is not posted again: three posts may be lost before a fourth comes too
/// late. Prometheus has the same factor (`resendDelay`, rules/alerting.go).
pub(super) const HORIZON: Duration = RESEND.saturating_mul(4);

/// As many alerts as Prometheus puts into one POST (`maxBatchSize`, notifier/): what a proxy in between lets through for
/// it, it lets through for us.
pub(super) const BATCH_MAX: usize = 256;

/// An alert as it is posted (`postableAlert`).
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    labels: &'a BTreeMap<String, String>,
    annotations: &'a BTreeMap<String, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: &'a str,
}

/// The body that posts `alerts` at `now`, to an Alertmanager whose clock is ahead of ours by `ahead_ms`.
pub(super) fn post_body(alerts: &[&Alert], now: Wall, ahead_ms: i64) -> Result<Vec<u8>, serde_json::Error> {
    let posted = alerts.iter().map(|alert| {
        let (starts, ends) = lasts(alert, now);
        let there = |at: Wall| present::time(Wall(at.0.saturating_add(ahead_ms)));
        Posted {
            labels: &alert.labels,
            annotations: &alert.annotations,
            starts_at: there(starts),
            ends_at: there(ends),
            generator_url: &alert.generator_url,
        }
    });
    serde_json::to_vec(&posted.collect::<Vec<_>>())
}

/// From when to when an alert lasts as it is posted at `now`. Alertmanager refuses one that ends before it begins, and
/// takes one for firing that ends in its future; after our clock was set back, the recorded times alone would be both.
pub(super) fn lasts(alert: &Alert, now: Wall) -> (Wall, Wall) {
    match alert.ended {
        None => {
            let horizon = i64::try_from(HORIZON.as_millis()).unwrap_or(i64::MAX);
            (alert.starts.min(now), Wall(now.0.saturating_add(horizon)))
        }
        Some(ended) => {
            let ends = ended.min(now);
            (alert.starts.min(Wall(ends.0.saturating_sub(1))), ends)
        }
    }
}

/// Whether an alert is posted at `now`: while it fires, and after its end for as long as Prometheus would.
pub(super) fn is_sent(alert: &Alert, now: Wall) -> bool {
    let sent_for = i64::try_from(RESOLVED_SENT_FOR.0).unwrap_or(i64::MAX);
    alert.ended.is_none_or(|ended| now.0.saturating_sub(ended.0) < sent_for)
}

/// Who answers (`alertmanagerStatus`). Nothing but an Alertmanager has all three of these.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Identity {
    /// When it started; another one means that it forgot every alert.
    pub(super) uptime: String,
    pub(super) cluster: Cluster,
    pub(super) version_info: VersionInfo,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Cluster {
    /// `ready`, `settling` or `disabled`. One that settles takes alerts, and tells of them when it has settled.
    pub(super) status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct VersionInfo {
    pub(super) version: String,
}

/// An alert that it has (`gettableAlert`).
#[derive(Deserialize)]
struct Stored {
    fingerprint: String,
    status: StoredStatus,
}

#[derive(Deserialize)]
struct StoredStatus {
    state: String,
}

/// The alerts that it has, by fingerprint: each is [`Word::Active`] or [`Word::Suppressed`].
pub(super) fn stored(body: &[u8]) -> Result<BTreeMap<String, Word>, serde_json::Error> {
    let stored: Vec<Stored> = serde_json::from_slice(body)?;
    let word = |stored: Stored| {
        // `unprocessed` is one that came a moment ago. A state that this version does not know is not taken for a silence.
        let word = if stored.status.state == "suppressed" { Word::Suppressed } else { Word::Active };
        (stored.fingerprint, word)
    };
    Ok(stored.into_iter().map(word).collect())
}

/// What an error says: `{"code": …, "message": …}` or a text in quotes, depending on who finds the fault, or plain text.
pub(super) fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    if let Ok(Message { message }) = serde_json::from_slice(body) {
        return message;
    }
    serde_json::from_slice(body).unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::incident::IncidentId;
    use proptest::prelude::*;

    fn alert(starts: i64, ended: Option<i64>) -> Alert {
        Alert {
            incident: IncidentId(1),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            annotations: BTreeMap::new(),
            starts: Wall(starts),
            ended: ended.map(Wall),
            generator_url: String::new(),
        }
    }

    #[test]
    fn an_alert_is_posted_as_the_schema_wants_it() {
        let firing = alert(0, None);
        let body = post_body(&[&firing], Wall(60_000), 0).unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"[{"labels":{"a":"b"},"annotations":{},"startsAt":"1970-01-01T00:00:00.000Z","#.to_owned()
                + r#""endsAt":"1970-01-01T00:03:00.000Z","generatorURL":""}]"#
        );
        let ended = alert(0, Some(30_000));
        let body = String::from_utf8(post_body(&[&ended], Wall(60_000), 3_600_000).unwrap()).unwrap();
        assert!(body.contains(r#""startsAt":"1970-01-01T01:00:00.000Z""#), "on its clock: {body}");
        assert!(body.contains(r#""endsAt":"1970-01-01T01:00:30.000Z""#), "on its clock: {body}");
    }

    #[test]
    fn what_ended_is_sent_for_a_quarter_of_an_hour() {
        let ended = alert(0, Some(60_000));
        assert!(is_sent(&ended, Wall(60_000 + 15 * 60_000 - 1)));
        assert!(!is_sent(&ended, Wall(60_000 + 15 * 60_000)));
        assert!(is_sent(&ended, Wall(0)), "our clock was set back");
        assert!(is_sent(&alert(0, None), Wall(i64::MAX)), "what fires is always sent");
    }

    #[test]
    fn the_message_of_an_error_is_found_in_each_of_its_forms() {
        let both = br#"{"code":602,"message":"alerts in body is required"}"#;
        assert_eq!(error_message(both), "alerts in body is required");
        assert_eq!(
            error_message(br#""at least one label pair required""#),
            "at least one label pair required"
        );
        assert_eq!(error_message(b"404 page not found"), "404 page not found");
    }

    proptest! {
        #[test]
        fn no_clock_makes_an_alert_that_ends_before_it_begins(starts in 0_i64..1_000_000, ended in prop::option::of(0_i64..1_000_000), now in 0_i64..1_000_000) {
            let (from, to) = lasts(&alert(starts, ended), Wall(now));
            prop_assert!(from < to, "{from:?} {to:?}");
            match ended {
                None => prop_assert!(to > Wall(now), "it fires"),
                Some(_) => prop_assert!(to <= Wall(now), "it is over"),
            }
        }
    }
}
