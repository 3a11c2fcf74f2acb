//! Supervisor as a person meets it: its command line in the container, its status and events over HTTP.
//!
//! The JSON is read by name and defensively, in this file only: a missing field is an empty one and the assertion
//! that needs it fails with what was there instead.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use super::docker::{self, Ran};
use super::stack::{self, SUPERVISOR, SUPERVISOR_URL};
use super::wait::{self, Seen};

/// A command answers in milliseconds; `docker exec` on a busy machine needs some patience.
const COMMAND_DEADLINE: Duration = Duration::from_secs(15);

/// A service as `/api/v1/status` shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    /// Its name.
    pub(crate) name: String,
    /// The site that serves it.
    pub(crate) serving: String,
    /// The site that should; a person's order included.
    pub(crate) preferred: String,
    /// Whether a person's order is in force.
    pub(crate) overridden: bool,
    /// The HAProxy instances that have not confirmed the route yet.
    pub(crate) pending: usize,
    /// Why it is as it is, in words.
    pub(crate) reason: String,
    /// Its servers.
    pub(crate) servers: Vec<ServerState>,
}

/// A server as `/api/v1/status` shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerState {
    /// Its name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) site: String,
    /// `up`, `down`, `unknown`.
    pub(crate) health: String,
    /// What that rests on.
    pub(crate) evidence: String,
    /// A person has taken it out of service.
    pub(crate) out: bool,
}

/// One line of `/api/v1/events`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Event {
    /// The decision's number in the journal; several lines can share it.
    pub(crate) seq: u64,
    /// The reason's code: `failover`, `failback`, …
    pub(crate) code: String,
    /// `debug`, `info`, `warn`: whether it is worth waking someone.
    pub(crate) level: String,
    /// The service it is about, if one.
    pub(crate) service: String,
    /// What happened.
    pub(crate) words: String,
}

/// An open incident as `/api/v1/status` shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incident {
    /// Of its alert: `PoolDown`, …
    pub(crate) name: String,
    /// When it began.
    pub(crate) since: Option<Timestamp>,
    /// Who has told people: `nobody`, `alertmanager_has_it`, `alertmanager`, `mail`.
    pub(crate) told_by: String,
}

/// A container that is looked after, as `/api/v1/status` shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Container {
    /// Its name.
    pub(crate) name: String,
    /// `runs`, `held`, `due`, …
    pub(crate) phase: String,
    /// The same in words.
    pub(crate) words: String,
}

impl Service {
    /// The preferred site serves, by nobody's order, and every server is up.
    pub(crate) fn all_well(&self) -> bool {
        self.serving == self.preferred
            && !self.serving.is_empty()
            && !self.overridden
            && self.pending == 0
            && self.servers_up()
            && self.servers.iter().all(|server| !server.out)
    }

    /// Every server is up, whoever serves.
    pub(crate) fn servers_up(&self) -> bool {
        !self.servers.is_empty() && self.servers.iter().all(|server| server.health == "up")
    }

    /// The health of the server at `site`.
    pub(crate) fn health_at(&self, site: &str) -> &str {
        self.servers.iter().find(|server| server.site == site).map_or("", |server| &server.health)
    }

    /// One line for an error: who serves and how every server is.
    pub(crate) fn in_short(&self) -> String {
        let servers: Vec<String> =
            self.servers.iter().map(|server| format!("{} {}", server.name, server.health)).collect();
        let by = if self.overridden { " by a person's order" } else { "" };
        format!("{}: {} serves{by}, {} ({})", self.name, self.serving, servers.join(", "), self.reason)
    }
}

/// Runs `supervisor ARGS` in its container.
pub(crate) async fn command(args: &[&str]) -> Result<Ran> {
    let mut all = vec!["exec", SUPERVISOR, "supervisor"];
    all.extend_from_slice(args);
    docker::docker(&all, b"", COMMAND_DEADLINE).await
}

/// All services of `/api/v1/status`.
pub(crate) async fn services() -> Result<Vec<Service>> {
    let status = stack::get_json(&format!("{SUPERVISOR_URL}/api/v1/status")).await?;
    Ok(list(&status, "services").iter().map(service).collect())
}

/// The open incidents of `/api/v1/status`.
pub(crate) async fn incidents() -> Result<Vec<Incident>> {
    let status = stack::get_json(&format!("{SUPERVISOR_URL}/api/v1/status")).await?;
    let incident = |value: &Value| Incident {
        name: text(value, "name"),
        since: text(value, "since").parse().ok(),
        told_by: text(value, "told_by"),
    };
    Ok(list(&status, "incidents").iter().map(incident).collect())
}

/// One of the containers of `/api/v1/status` that are looked after.
pub(crate) async fn container_named(name: &str) -> Result<Container> {
    let status = stack::get_json(&format!("{SUPERVISOR_URL}/api/v1/status")).await?;
    let container = |value: &Value| Container {
        name: text(value, "name"),
        phase: text(value, "phase"),
        words: text(value, "words"),
    };
    let found = list(&status, "containers").iter().map(container).find(|container| container.name == name);
    found.with_context(|| format!("supervisor does not look after {name}"))
}

/// One service of `/api/v1/status`.
pub(crate) async fn service_named(name: &str) -> Result<Service> {
    let services = services().await?;
    let found = services.into_iter().find(|service| service.name == name);
    found.with_context(|| format!("supervisor's status has no service {name}"))
}

/// The events after the decision `seq`, oldest first; the latest thousand at most.
pub(crate) async fn events_after(seq: u64) -> Result<Vec<Event>> {
    let page = stack::get_json(&format!("{SUPERVISOR_URL}/api/v1/events?limit=1000&after={seq}")).await?;
    Ok(list(&page, "events").iter().map(event).collect())
}

/// Waits for the first event after the decision `seq` that is as `wanted`.
pub(crate) async fn told(
    seq: u64,
    what: &str,
    deadline: Duration,
    wanted: impl Fn(&Event) -> bool,
) -> Result<Event> {
    let wanted = &wanted;
    wait::until(&format!("supervisor to tell of {what}"), deadline, || async move {
        let events = events_after(seq).await?;
        let codes = events.iter().map(|event| event.code.as_str()).collect::<Vec<_>>().join(", ");
        Ok(events
            .into_iter()
            .find(wanted)
            .map_or_else(|| Seen::NotYet(format!("it told: {codes}")), Seen::Yes))
    })
    .await
}

/// The number of the newest decision in the journal.
pub(crate) async fn last_seq() -> Result<u64> {
    let page = stack::get_json(&format!("{SUPERVISOR_URL}/api/v1/events?limit=1")).await?;
    Ok(list(&page, "events").last().map_or(0, |newest| event(newest).seq))
}

/// Reads one entry of `services`.
pub(crate) fn service(value: &Value) -> Service {
    Service {
        name: text(value, "name"),
        serving: text(value, "serving"),
        preferred: text(value, "preferred"),
        overridden: value.get("override").is_some_and(|order| !order.is_null()),
        pending: list(value, "pending").len(),
        reason: text(value, "reason"),
        servers: list(value, "servers")
            .iter()
            .map(|server| ServerState {
                name: text(server, "name"),
                site: text(server, "site"),
                health: text(server, "health"),
                evidence: text(server, "evidence"),
                out: server.get("out").is_some_and(|order| !order.is_null()),
            })
            .collect(),
    }
}

fn event(value: &Value) -> Event {
    Event {
        seq: value.get("seq").and_then(Value::as_u64).unwrap_or(0),
        code: text(value, "code"),
        level: text(value, "level"),
        service: text(value, "service"),
        words: text(value, "words"),
    }
}

pub(super) fn text(value: &Value, key: &str) -> String {
    match value.get(key) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}

pub(super) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
