//! The way to people, as a person sees it: the mails in the demo's box, Alertmanager's page, Prometheus' page.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::docker;
use super::stack::{self, ALERTMANAGER_URL, MAIL, PROMETHEUS_URL};
use super::supervisor::{self, list, text};
use super::wait::{self, Seen};

/// `docker exec` on a busy machine.
const EXEC_DEADLINE: Duration = Duration::from_secs(15);

/// `group_interval` of alertmanager/alertmanager.yml, at which Alertmanager tells an end; and what it takes besides.
const GROUP_DEADLINE: Duration = Duration::from_secs(60 + 15);

/// The alert of supervisor's that most here is about: the pool has no healthy server.
pub(crate) const POOL_DOWN: &str = "PoolDown";

/// Every alert that one pool that is down may lead to, whoever finds it. A mail about any of them is a mail about that.
const ABOUT_A_POOL: [&str; 9] = [
    POOL_DOWN,
    "ServiceDown",
    "ContainerDown",
    "ServerDown",
    "NoServerLeft",
    "NoBackupLeft",
    "HAProxyBackendDown",
    "HAProxyServerDown",
    "Unsupervised",
];

/// Who sent a mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Supervisor itself.
    Supervisor,
    /// Alertmanager.
    Alertmanager,
    /// Somebody who calls himself this.
    Other(String),
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Path::Supervisor => "supervisor",
            Path::Alertmanager => "Alertmanager",
            Path::Other(name) => name,
        })
    }
}

/// A mail in the box.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    /// When it came.
    pub(crate) arrived: Timestamp,
    /// From whom.
    pub(crate) path: Path,
    /// Its subject: `[FIRING:1] PoolDown api onprem (critical supervisor)`.
    pub(crate) subject: String,
}

impl Mail {
    /// Whether it says that something began.
    pub(crate) fn fires(&self) -> bool {
        self.subject.starts_with("[FIRING:")
    }

    /// Whether it is about a pool that is down.
    pub(crate) fn is_about_a_pool(&self) -> bool {
        self.subject.split_whitespace().nth(1).is_some_and(|name| ABOUT_A_POOL.contains(&name))
    }

    /// How long after `moment` it came; nothing if it came before.
    pub(crate) fn after(&self, moment: Timestamp) -> Duration {
        Duration::try_from(self.arrived.duration_since(moment)).unwrap_or_default()
    }
}

/// All mails in the box, oldest first.
pub(crate) async fn mails() -> Result<Vec<Mail>> {
    let ran = docker::docker(&["exec", MAIL, "boxes", "--lines"], b"", EXEC_DEADLINE).await?;
    let lines = ran.ok().context("the box of mails cannot be read")?;
    lines.lines().map(|line| mail(line).with_context(|| format!("no mail is like {line:?}"))).collect()
}

/// A line of `boxes --lines`.
pub(crate) fn mail(line: &str) -> Option<Mail> {
    let mut fields = line.splitn(5, '\t');
    let arrived = Timestamp::from_microsecond(fields.next()?.parse().ok()?).ok()?;
    let path = match fields.next()? {
        "supervisor" => Path::Supervisor,
        "Alertmanager" => Path::Alertmanager,
        other => Path::Other(other.to_owned()),
    };
    Some(Mail { arrived, path, subject: fields.nth(2)?.to_owned() })
}

/// Those that came since the box had `known` of them and are about a pool that is down.
pub(crate) async fn about_a_pool(known: usize) -> Result<Vec<Mail>> {
    Ok(mails().await?.into_iter().skip(known).filter(Mail::is_about_a_pool).collect())
}

/// Waits until the mail that begins with `subject` is there, among those since the box had `known`.
pub(crate) async fn until_mailed(known: usize, subject: &str, deadline: Duration) -> Result<Mail> {
    wait::until(&format!("the mail {subject:?}"), deadline, || async {
        let mails = about_a_pool(known).await?;
        let found = mails.iter().find(|mail| mail.subject.starts_with(subject));
        Ok(found.map_or_else(|| Seen::NotYet(format!("{mails:?}")), |mail| Seen::Yes(mail.clone())))
    })
    .await
}

/// Waits until nothing is wrong and everybody has been told so: what is mailed from then on is about what comes then.
/// Gives back how many mails there are.
pub(crate) async fn until_all_is_told() -> Result<usize> {
    wait::until("earlier incidents to end", GROUP_DEADLINE, || async {
        let open = supervisor::incidents().await?;
        Ok(if open.is_empty() { Seen::Yes(()) } else { Seen::NotYet(format!("{open:?}")) })
    })
    .await?;
    let told = wait::until("Alertmanager to tell the end", GROUP_DEADLINE, || async {
        Ok(owed().await?.map_or(Seen::Yes(()), |mail| Seen::NotYet(format!("it owes the end of {mail:?}"))))
    });
    // What it has not told by then it does not tell: killed at the wrong moment, it forgets whom it owes what.
    let _ = told.await;
    Ok(mails().await?.len())
}

/// The beginning that Alertmanager has told last, if its end is still to come.
pub(crate) async fn owed() -> Result<Option<Mail>> {
    let by_alertmanager = |mail: &Mail| mail.path == Path::Alertmanager && mail.is_about_a_pool();
    Ok(mails().await?.into_iter().rfind(by_alertmanager).filter(Mail::fires))
}

/// An alert, at Alertmanager or at Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    /// What it is about.
    pub(crate) labels: BTreeMap<String, String>,
    /// Alertmanager: `active`, `suppressed`, `unprocessed`. Prometheus: `pending`, `firing`.
    pub(crate) state: String,
    /// Whom Alertmanager tells.
    pub(crate) receivers: Vec<String>,
}

impl Alert {
    /// A label, or nothing.
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// The alerts of this name that Alertmanager has.
pub(crate) async fn at_alertmanager(name: &str) -> Result<Vec<Alert>> {
    let all = stack::get_json(&format!("{ALERTMANAGER_URL}/api/v2/alerts")).await?;
    let alerts = all.as_array().context("Alertmanager does not answer with a list")?.iter();
    let alert = |value: &Value| Alert {
        labels: labels(value),
        state: value.get("status").map_or_else(String::new, |status| text(status, "state")),
        receivers: list(value, "receivers").iter().map(|receiver| text(receiver, "name")).collect(),
    };
    Ok(alerts.map(alert).filter(|alert| alert.label("alertname") == name).collect())
}

/// The alerts of this name that Prometheus shows.
pub(crate) async fn at_prometheus(name: &str) -> Result<Vec<Alert>> {
    let answer = stack::get_json(&format!("{PROMETHEUS_URL}/api/v1/alerts")).await?;
    let alerts = answer.pointer("/data/alerts").and_then(Value::as_array);
    let alerts = alerts.context("Prometheus does not answer with a list")?.iter();
    let alert =
        |value: &Value| Alert { labels: labels(value), state: text(value, "state"), receivers: Vec::new() };
    Ok(alerts.map(alert).filter(|alert| alert.label("alertname") == name).collect())
}

fn labels(alert: &Value) -> BTreeMap<String, String> {
    let labels = alert.get("labels").and_then(Value::as_object);
    let pair = |(name, value): (&String, &Value)| (name.clone(), value.as_str().unwrap_or("").to_owned());
    labels.into_iter().flatten().map(pair).collect()
}

/// Waits until Alertmanager has what supervisor mailed, and has it in no form that it would mail itself.
pub(crate) async fn until_handed_over(deadline: Duration) -> Result<()> {
    wait::until("Alertmanager to have what was mailed, as mailed", deadline, || async {
        let alerts = at_alertmanager(POOL_DOWN).await?;
        let mails_nothing = |alert: &Alert| {
            alert.label("delivered_by") == "supervisor-email" && alert.receivers == ["no-mail"]
        };
        Ok(match alerts.iter().all(mails_nothing) {
            true if !alerts.is_empty() => Seen::Yes(()),
            true | false => Seen::NotYet(format!("{alerts:?}")),
        })
    })
    .await
}
