//! The settings as they are written: everything optional, nothing checked but its type.
//!
//! Unknown keys are refused, and there is neither `flatten` nor `untagged`: both lose the place of an error. Words such
//! as `http` or `tcp` are text here and are checked later, so that they get the same message from a file and from the
//! environment. Numbers are `i64` for the same reason: their bounds are ours, not a type's.

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The root.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Raw {
    pub(crate) state_dir: Option<String>,
    pub(crate) control_socket: Option<String>,
    pub(crate) startup_grace: Option<RawSpan>,
    pub(crate) lateness: Option<RawSpan>,
    pub(crate) status: RawStatusPage,
    pub(crate) log: RawLog,
    pub(crate) journal: RawJournal,
    pub(crate) heal: RawHealing,
    pub(crate) alerts: RawAlerts,
    pub(crate) mail: Option<RawMail>,
    pub(crate) engines: BTreeMap<String, RawEngine>,
    pub(crate) containers: BTreeMap<String, RawContainer>,
    pub(crate) sites: BTreeMap<String, RawSite>,
    pub(crate) proxies: BTreeMap<String, RawProxy>,
    pub(crate) services: BTreeMap<String, RawService>,
}

/// `[status]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawStatusPage {
    pub(crate) listen: Option<String>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    pub(crate) format: Option<String>,
    pub(crate) level: Option<String>,
}

/// `[journal]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawJournal {
    pub(crate) max_age: Option<RawSpan>,
    pub(crate) max_size: Option<RawSize>,
}

/// `[alerts]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAlerts {
    pub(crate) fallback_after: Option<RawSpan>,
    pub(crate) notify_grace: Option<RawSpan>,
    pub(crate) alertmanagers: BTreeMap<String, RawAlertmanager>,
}

/// `[alerts.alertmanagers.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAlertmanager {
    pub(crate) url: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<String>,
    pub(crate) password_credential: Option<String>,
    pub(crate) token_file: Option<String>,
    pub(crate) token_credential: Option<String>,
    pub(crate) ca_file: Option<String>,
}

/// `[mail]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMail {
    pub(crate) from: Option<String>,
    pub(crate) to: Option<Vec<String>>,
    pub(crate) helo: Option<String>,
    pub(crate) relays: BTreeMap<String, RawRelay>,
}

/// `[mail.relays.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRelay {
    pub(crate) host: Option<String>,
    pub(crate) port: Option<i64>,
    pub(crate) tls: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password_file: Option<String>,
    pub(crate) password_credential: Option<String>,
    pub(crate) ca_file: Option<String>,
}

/// `[heal]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHealing {
    pub(crate) mode: Option<String>,
    pub(crate) on_kill: Option<String>,
    pub(crate) grace: Option<RawSpan>,
    pub(crate) restarts: Option<i64>,
    pub(crate) site_restarts: Option<i64>,
    pub(crate) window: Option<RawSpan>,
    pub(crate) backoff_first: Option<RawSpan>,
    pub(crate) backoff_longest: Option<RawSpan>,
    pub(crate) slow_retry: Option<RawSpan>,
}

/// `heal = { … }`, of a server, an HAProxy or another container
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawHeal {
    pub(crate) mode: Option<String>,
    pub(crate) on_kill: Option<String>,
    pub(crate) grace: Option<RawSpan>,
}

/// `[containers.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawContainer {
    pub(crate) engine: Option<String>,
    pub(crate) site: Option<String>,
    pub(crate) heal: RawHeal,
}

/// `[engines.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawEngine {
    pub(crate) address: Option<String>,
    pub(crate) resync: Option<RawSpan>,
}

/// `[sites.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawSite {
    pub(crate) engine: Option<String>,
}

/// `[proxies.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawProxy {
    pub(crate) config: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) config_file: Option<String>,
    pub(crate) config_path: Option<String>,
    pub(crate) master_socket: Option<String>,
    pub(crate) admin_socket: Option<String>,
    pub(crate) admin_path: Option<String>,
    pub(crate) admin_mode: Option<String>,
    pub(crate) admin_gid: Option<i64>,
    pub(crate) map_file: Option<String>,
    pub(crate) map_path: Option<String>,
    pub(crate) state_file: Option<String>,
    pub(crate) state_path: Option<String>,
    pub(crate) container: Option<String>,
    pub(crate) engine: Option<String>,
    pub(crate) haproxy_binary: Option<String>,
    pub(crate) template: Option<String>,
    pub(crate) observe: Option<String>,
    pub(crate) resolvers: Option<Vec<String>>,
    pub(crate) maxconn: Option<i64>,
    pub(crate) metrics_bind: Option<String>,
    pub(crate) reload_timeout: Option<RawSpan>,
    pub(crate) reload_interval: Option<RawSpan>,
    pub(crate) timeouts: RawTimeouts,
    pub(crate) snippets: RawProxySnippets,
    pub(crate) heal: RawHeal,
}

/// `[proxies.NAME.timeouts]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTimeouts {
    pub(crate) connect: Option<RawSpan>,
    pub(crate) queue: Option<RawSpan>,
    pub(crate) client: Option<RawSpan>,
    pub(crate) server: Option<RawSpan>,
}

/// `[proxies.NAME.snippets]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawProxySnippets {
    pub(crate) global: Option<String>,
    pub(crate) defaults_http: Option<String>,
    pub(crate) defaults_tcp: Option<String>,
}

/// `[services.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawService {
    pub(crate) bind: Option<String>,
    pub(crate) tls: Option<RawTls>,
    pub(crate) mode: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) prefer: Option<Vec<String>>,
    pub(crate) proxies: Option<Vec<String>>,
    pub(crate) stateful: Option<bool>,
    pub(crate) group: Option<String>,
    pub(crate) min_servers: Option<i64>,
    pub(crate) thin_grace: Option<RawSpan>,
    pub(crate) slow_start: Option<RawSpan>,
    pub(crate) all_down: Option<String>,
    pub(crate) flapping: RawFlapping,
    pub(crate) maintenance_page: Option<String>,
    pub(crate) snippets: RawServiceSnippets,
    pub(crate) retry_reads_after: Option<RawSpan>,
    pub(crate) ready: RawProbe,
    pub(crate) live: RawProbe,
    pub(crate) failback: RawFailback,
    pub(crate) servers: BTreeMap<String, RawServer>,
}

/// `[services.NAME.tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTls {
    pub(crate) certificates: Option<String>,
    pub(crate) min_version: Option<String>,
    pub(crate) redirect_from: Option<String>,
}

/// `[services.NAME.snippets]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawServiceSnippets {
    pub(crate) frontend: Option<String>,
    pub(crate) backend: Option<String>,
}

/// `[services.NAME.failback]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawFailback {
    pub(crate) mode: Option<String>,
    pub(crate) after: Option<RawSpan>,
    pub(crate) hold_down: Option<RawSpan>,
    pub(crate) limit: Option<i64>,
    pub(crate) limit_window: Option<RawSpan>,
    pub(crate) hours: Option<Vec<String>>,
    pub(crate) time_zone: Option<String>,
}

/// `[services.NAME.flapping]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawFlapping {
    pub(crate) falls: Option<i64>,
    pub(crate) half_life: Option<RawSpan>,
}

/// `[services.NAME.servers.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawServer {
    pub(crate) site: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) container: Option<String>,
    pub(crate) engine: Option<String>,
    pub(crate) maxconn: Option<i64>,
    pub(crate) ready: RawProbe,
    pub(crate) live: RawProbe,
    pub(crate) heal: RawHeal,
}

/// `ready = { … }` and `live = { … }`, of a service or of one server
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawProbe {
    pub(crate) check: Option<String>,
    pub(crate) scheme: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) status: Option<RawStatus>,
    pub(crate) contains: Option<String>,
    pub(crate) max_body: Option<RawSize>,
    pub(crate) keep_alive: Option<bool>,
    pub(crate) interval: Option<RawSpan>,
    pub(crate) timeout: Option<RawSpan>,
    pub(crate) fast_interval: Option<RawSpan>,
    pub(crate) jitter_percent: Option<i64>,
    pub(crate) rise: Option<i64>,
    pub(crate) fall: Option<i64>,
    pub(crate) slow_after: Option<RawSpan>,
}

/// A duration as written; its own type so that a bare number is refused by name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawSpan(pub(crate) String);

/// A size as written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawSize(pub(crate) String);

/// Statuses as written, each part `200` or `200-299`: from `200`, `"200-299, 304"` or `[200, "300-399"]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RawStatus(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for RawSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawSpan, D::Error> {
        deserializer.deserialize_str(Text("a duration with its unit in quotes")).map(RawSpan)
    }
}

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawSize, D::Error> {
        deserializer.deserialize_str(Text("a size with its unit in quotes")).map(RawSize)
    }
}

impl<'de> Deserialize<'de> for RawStatus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawStatus, D::Error> {
        deserializer.deserialize_any(Statuses).map(RawStatus)
    }
}

/// Takes text only, and says what the text should be.
struct Text(&'static str);

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

struct Statuses;

impl<'de> Visitor<'de> for Statuses {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status, a range of them, or a list")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<String>, E> {
        Ok(text.split(',').map(|part| part.trim().to_owned()).collect())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Vec<String>, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<String>, A::Error> {
        let mut all = Vec::new();
        while let Some(RawStatus(parts)) = elements.next_element()? {
            all.extend(parts);
        }
        Ok(all)
    }
}
