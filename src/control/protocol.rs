//! The words on the wire, version 1 (`/api/v1`). Fields may be added to answers; nothing is renamed or removed within a
//! version. Requests with unknown fields are refused: a misspelt `dry_run` must not become an order.

use crate::domain::command::{Order, Scope};
use crate::domain::event::ConfigSeen;
use crate::domain::id::{ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::maintenance::Admin;
use crate::domain::time::Span;
use serde::{Deserialize, Serialize};

/// Where orders go.
pub const COMMANDS_PATH: &str = "/api/v1/commands";

/// Where orders about HAProxy's configuration go.
pub const CONFIGS_PATH: &str = "/api/v1/haproxy";

/// The longest body of a request. An order has a few hundred bytes; this leaves room and bounds what a stranger can make
/// us keep.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// The longest reason a person can give, in characters: a sentence or two, which every log line can carry.
pub const BECAUSE_MAX_CHARS: usize = 300;

/// The body of `POST /api/v1/commands`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandBody {
    /// What is ordered.
    pub order: OrderBody,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// An order, as it is written: `{"failover": {"service": "api", "to": "cloud"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OrderBody {
    /// Move a service's traffic to a site, and prefer that site from now on.
    Failover {
        /// Whose traffic.
        service: ServiceId,
        /// Where to.
        to: SiteId,
        /// Even though the site is not known to be healthy.
        #[serde(default)]
        force: bool,
        /// The generation of the route that the person looked at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
        /// The override ends by itself after so many milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
        /// Not even an escape leaves the site while the override lasts.
        #[serde(default)]
        pin: bool,
    },
    /// Drop the override, and move traffic to the best healthy site.
    Failback {
        /// Whose traffic.
        service: ServiceId,
        /// The generation of the route that the person looked at.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen: Option<u64>,
        /// Although it is paused.
        #[serde(default)]
        force: bool,
    },
    /// Observe and alert, and do nothing by yourself.
    Pause {
        /// `all`, `service/NAME` or `site/NAME`.
        scope: Scope,
        /// The pause ends by itself after so many milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
    },
    /// End a pause.
    Resume {
        /// `all`, `service/NAME` or `site/NAME`.
        scope: Scope,
    },
    /// Take a server out of service, or put it back.
    Maintain {
        /// `SERVICE/SERVER`.
        server: ServerId,
        /// `drain`, `maint`, or `ready`: back.
        admin: Admin,
        /// It is put back by itself after so many milliseconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        for_ms: Option<u64>,
        /// Even though nobody would serve then.
        #[serde(default)]
        force: bool,
    },
    /// Raise an alert about nothing and send a mail about nothing.
    TestAlert {},
}

impl From<OrderBody> for Order {
    fn from(body: OrderBody) -> Order {
        match body {
            OrderBody::Failover { service, to, force, seen, for_ms, pin } => {
                Order::Failover { service, to, force, seen, lasts: for_ms.map(Span), pin }
            }
            OrderBody::Failback { service, seen, force } => Order::Failback { service, seen, force },
            OrderBody::Pause { scope, for_ms } => Order::Pause { scope, lasts: for_ms.map(Span) },
            OrderBody::Resume { scope } => Order::Resume { scope },
            OrderBody::Maintain { server, admin, for_ms, force } => {
                Order::Maintain { server, admin, lasts: for_ms.map(Span), force }
            }
            OrderBody::TestAlert {} => Order::TestAlert,
        }
    }
}

/// The body of `POST /api/v1/haproxy`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigBody {
    /// Which HAProxy.
    pub proxy: ProxyId,
    /// What is ordered.
    pub order: ConfigOrder,
    /// Why, in the person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// Only say what would be done.
    #[serde(default)]
    pub dry_run: bool,
}

/// An order about HAProxy's configuration, as it is written: `{"rollback": {"to": "4f2a"}}`, `{"resume": {}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ConfigOrder {
    /// Go back to a configuration that it ran, and hold it.
    Rollback {
        /// The beginning of its revision; none: the one before the one that runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<String>,
    },
    /// Hold nothing: run what the settings lead to.
    Resume {},
    /// Change nothing: tell what is kept.
    History {},
}

/// The answer to an order. Made by the daemon; this room only carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// What became of it.
    pub verdict: Answer,
    /// The same in one sentence.
    pub words: String,
    /// Whether it was only asked what would be done.
    pub dry_run: bool,
    /// Whether the journal held an accepted order before this answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durable: Option<bool>,
    /// Why it was denied, as data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denial: Option<serde_json::Value>,
    /// The steps that are taken, or would be.
    #[serde(default)]
    pub plan: Vec<String>,
    /// The route that was ordered, if traffic moves: it is in force when the status shows this generation, or a later
    /// one, with no HAProxy pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<RouteOrdered>,
    /// The order about a server: it is in force when the status shows this `out_generation` of the service, or a later one,
    /// with no HAProxy pending for the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerOrdered>,
    /// The test that was ordered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestOrdered>,
    /// The configuration that an HAProxy is to run: it does when the status shows this revision for it, in force or held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// How that HAProxy's configuration stands after the order was carried out; none where it takes longer than an answer may,
    /// and then the status shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands: Option<ConfigSeen>,
    /// What was asked for with `history`: the revision that runs, those that are kept, and the one that is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<serde_json::Value>,
    /// How the file would change, as `diff -u` writes it; in a dry run only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<String>,
}

impl Reply {
    /// An answer without data.
    pub fn plain(verdict: Answer, words: impl Into<String>, dry_run: bool) -> Reply {
        Reply {
            verdict,
            words: words.into(),
            dry_run,
            durable: None,
            denial: None,
            plan: Vec::new(),
            route: None,
            server: None,
            test: None,
            config: None,
            stands: None,
            history: None,
            difference: None,
        }
    }
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is ordered (or would be, in a dry run).
    Accepted,
    /// Nothing to do.
    AlreadySo,
    /// It is not done.
    Denied,
}

/// A route that an order set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteOrdered {
    /// Where traffic goes.
    pub site: SiteId,
    /// The route's generation.
    pub generation: u64,
}

/// How an order wants a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerOrdered {
    /// Which.
    pub server: ServerId,
    /// How.
    pub admin: Admin,
    /// The order's number among those about servers of the service.
    pub generation: u64,
}

/// A test that an order began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestOrdered {
    /// The number of its mail, if there is somebody to mail to.
    pub mail: Option<u64>,
    /// The number of its incident, if there is an Alertmanager.
    pub incident: Option<u64>,
}

/// The body of every answer that is an error of form or of transport: 4xx and 5xx without a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong, and what to do.
    pub error: String,
}

impl CommandBody {
    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), String> {
        check_because(self.because.as_deref())
    }
}

impl ConfigBody {
    /// Checks what the types cannot.
    pub fn check(&self) -> Result<(), String> {
        check_because(self.because.as_deref())
    }
}

fn check_because(because: Option<&str>) -> Result<(), String> {
    let Some(because) = because else { return Ok(()) };
    if because.chars().count() > BECAUSE_MAX_CHARS {
        return Err(format!(
            "`because` is longer than {BECAUSE_MAX_CHARS} characters; give the reason in a sentence"
        ));
    }
    if because.chars().any(char::is_control) {
        return Err(
            "`because` contains line breaks or other control characters; write it on one line".to_owned()
        );
    }
    Ok(())
}
