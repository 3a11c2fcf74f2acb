//! What goes over the wire: Alertmanager's API v2 (its `api/v2/openapi.yaml`) as far as it is used.

use super::RESEND;
use super::desired::Alert;
use crate::domain::delivery::{RESOLVED_SENT_FOR, Word};
use crate::domain::silence::{Matcher, Silence};
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
pub fn lasts(alert: &Alert, now: Wall) -> (Wall, Wall) {
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
pub fn is_sent(alert: &Alert, now: Wall) -> bool {
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

/// As many silences as are kept; more are no longer read by anybody.
const SILENCES_MAX: usize = 200;

/// As much of a silence as is kept: names and patterns of people.
const MATCHERS_MAX: usize = 16;
const MATCHER_BYTES_MAX: usize = 1_000;

/// A silence that it has (`gettableSilence`), as far as it is understood.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredSilence {
    status: StoredStatus,
    matchers: Vec<StoredMatcher>,
    starts_at: jiff::Timestamp,
    ends_at: jiff::Timestamp,
    /// What a later version may add. Something about matchers changes what is silenced, and is not understood.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct StoredMatcher {
    name: String,
    value: String,
    is_regex: bool,
    /// Since 0.22; what is older knows no other.
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

/// The silences that last or are to come, the one that lasts longest first, by our clock when its clock is ahead of it by
/// `ahead_ms`. One that is not understood is left out: it silences nothing.
pub(super) fn silences(body: &[u8], ahead_ms: i64) -> Result<Vec<Silence>, serde_json::Error> {
    let stored: Vec<serde_json::Value> = serde_json::from_slice(body)?;
    let known =
        stored.into_iter().filter_map(|silence| serde_json::from_value::<StoredSilence>(silence).ok());
    let lasting = known.filter(|silence| {
        let odd = silence.rest.keys().any(|key| key.to_ascii_lowercase().contains("matcher"));
        let bounded = silence.matchers.len() <= MATCHERS_MAX
            && silence.matchers.iter().all(|by| by.name.len() + by.value.len() <= MATCHER_BYTES_MAX);
        silence.status.state != "expired" && !odd && bounded && !silence.matchers.is_empty()
    });
    let here = |at: jiff::Timestamp| Wall(at.as_millisecond().saturating_sub(ahead_ms));
    let mut all: Vec<Silence> = lasting
        .map(|silence| {
            let matcher = |by: StoredMatcher| {
                let StoredMatcher { name, value, is_regex, is_equal } = by;
                Matcher { name, value, is_regex, is_equal }
            };
            let matchers = silence.matchers.into_iter().map(matcher).collect();
            Silence { matchers, starts: here(silence.starts_at), ends: here(silence.ends_at) }
        })
        .collect();
    // In an order of our own, so that the same silences are the same value.
    all.sort_by(|one, other| {
        other.ends.cmp(&one.ends).then_with(|| one.starts.cmp(&other.starts)).then_with(|| {
            let text = |silence: &Silence| format!("{:?}", silence.matchers);
            text(one).cmp(&text(other))
        })
    });
    all.truncate(SILENCES_MAX);
    Ok(all)
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
    fn silences_are_understood_to_the_letter_or_left_out() {
        let silence = |state: &str, matchers: &str, more: &str| {
            format!(
                r#"{{"id":"1","status":{{"state":"{state}"}},"comment":"c","createdBy":"me","updatedAt":"2026-01-01T00:00:00.000Z",
                "startsAt":"2026-01-01T00:00:00.000Z","endsAt":"2026-01-01T02:00:00.000Z","matchers":{matchers}{more}}}"#
            )
        };
        let one = r#"[{"name":"service","value":"api","isRegex":false}]"#;
        let all = [
            silence("active", one, ""),
            silence(
                "pending",
                r#"[{"name":"a","value":"b.*","isRegex":true,"isEqual":false}]"#,
                r#","annotations":{}"#,
            ),
            silence("expired", one, ""),
            silence("active", "[]", ""),
            silence("active", one, r#","matcherSets":[[]]"#),
            silence("active", r#"[{"name":"a","value":"b","isRegex":false,"isGlob":true}]"#, ""),
            silence("active", r#"[{"name":"a"}]"#, ""),
            "7".to_owned(),
        ];
        let read = silences(format!("[{}]", all.join(",")).as_bytes(), 3_600_000).unwrap();
        assert_eq!(read.len(), 2, "{read:?}");
        let hour = |hour: i64| Wall(1_767_225_600_000 + hour * 3_600_000);
        assert!(
            read.iter().all(|silence| (silence.starts, silence.ends) == (hour(-1), hour(1))),
            "on our clock"
        );
        let mut matchers: Vec<Matcher> = read.into_iter().flat_map(|silence| silence.matchers).collect();
        matchers.sort_by(|one, other| one.name.cmp(&other.name));
        assert!(matchers[0].is_regex && !matchers[0].is_equal && matchers[1].is_equal, "{matchers:?}");
        assert!(silences(b"<html>", 0).is_err());
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
