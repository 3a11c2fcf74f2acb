//! What people order, and the answer they get: accepted, already so, or denied with a reason.

use super::id::{Name, ProxyId, ServerId, ServiceId, SiteId};
use super::maintenance::Admin;
use super::policy::ServicePolicy;
use super::time::{Boot, Span, Wall};
use super::witness::Cause;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One order of one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Names the command within this process, so that its answer finds the way back.
    pub id: CommandId,
    /// Who ordered it.
    pub by: Operator,
    /// Why, in the person's words. Bounded by the control socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
    /// What.
    pub order: Order,
}

/// Names a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandId(pub u64);

/// A person, as the kernel vouches for them (`SO_PEERCRED`, unix(7)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// The user id of the process that ordered.
    pub uid: u32,
    /// Its process id.
    pub pid: Option<i32>,
    /// The user's name, where the system knows it.
    pub name: Option<String>,
}

/// What can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Move a service's traffic to a site, and prefer that site from now on.
    Failover {
        /// Whose traffic.
        service: ServiceId,
        /// Where to.
        to: SiteId,
        /// Even though the site is not known to be healthy.
        #[serde(default)]
        force: bool,
        /// The route's generation that the person looked at: denied when somebody changed it since.
        #[serde(default)]
        seen: Option<u64>,
        /// The preference ends by itself after this; none: when a person ends it.
        #[serde(default)]
        lasts: Option<Span>,
        /// Not even an escape leaves the site while the preference lasts.
        #[serde(default)]
        pin: bool,
    },
    /// Drop the override, and move traffic to the best healthy site now.
    Failback {
        /// Whose traffic.
        service: ServiceId,
        /// The route's generation that the person looked at: denied when somebody changed it since.
        #[serde(default)]
        seen: Option<u64>,
        /// Although it is paused.
        #[serde(default)]
        force: bool,
    },
    /// Go on observing and alerting, and do nothing by yourself.
    Pause {
        /// About what.
        scope: Scope,
        /// It ends by itself after this; none: when a person ends it.
        #[serde(default)]
        lasts: Option<Span>,
    },
    /// End a pause.
    Resume {
        /// About what.
        scope: Scope,
    },
    /// Take a server out of service, or put it back.
    Maintain {
        /// Which.
        server: ServerId,
        /// How far out; ready: back.
        admin: Admin,
        /// It is put back by itself after this; none: when a person does.
        #[serde(default)]
        lasts: Option<Span>,
        /// Even though no site would serve then.
        #[serde(default)]
        force: bool,
    },
    /// Raise an alert about nothing and send a mail about nothing, to see whether they arrive.
    TestAlert,
}

/// What a pause is about: `all`, `service/NAME` or `site/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    All,
    /// One service: its traffic, and its containers.
    Service(ServiceId),
    /// One site: traffic is not moved away from it or to it, and its containers are left alone.
    Site(SiteId),
}

impl Scope {
    /// Whether it is about a service. A site's pause keeps traffic where it is: away from the site and to it.
    pub fn is_about(&self, id: ServiceId, policy: &ServicePolicy) -> bool {
        match self {
            Scope::All => true,
            Scope::Service(service) => *service == id,
            Scope::Site(site) => policy.has_site(*site),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("all"),
            Scope::Service(service) => write!(f, "service/{service}"),
            Scope::Site(site) => write!(f, "site/{site}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        let named = |error: super::id::NameError| error.to_string();
        match text.split_once('/') {
            None if text == "all" => Ok(Scope::All),
            Some(("service", name)) => Ok(Scope::Service(name.parse().map_err(named)?)),
            Some(("site", name)) => Ok(Scope::Site(name.parse().map_err(named)?)),
            None | Some(_) => Err(format!("{text:?} is not all, service/NAME or site/NAME")),
        }
    }
}

/// As one text, so that it can be a key in JSON.
impl Serialize for Scope {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A pause: observed and told, not acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Who wants it.
    pub by: Operator,
    /// Why, in their words.
    pub because: Option<String>,
    /// Since when.
    pub at: Wall,
    /// Until when; none: until a person ends it.
    pub until: Option<Boot>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is ordered.
    Accepted {
        /// Whether the journal held it before the answer; not when the store is degraded.
        durable: bool,
    },
    /// Nothing to do: it is so already.
    AlreadySo,
    /// It is not done.
    Denied(Denial),
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denial {
    /// There is no such service.
    UnknownService {
        /// What was asked for.
        service: ServiceId,
        /// The services there are (at most 20).
        known: Vec<ServiceId>,
    },
    /// The service has no servers at that site.
    UnknownSite {
        /// What was asked for.
        site: SiteId,
        /// The sites it has.
        known: Vec<SiteId>,
    },
    /// No HAProxy has been seen yet, so nobody knows where traffic is.
    ProxyUnseen,
    /// Another supervisor owns the HAProxy.
    NotOwner,
    /// The target is down.
    TargetDown {
        /// The site.
        site: SiteId,
        /// Why its first server is down.
        cause: Cause,
    },
    /// The target has not yet proved that it is healthy.
    TargetUnknown {
        /// The site.
        site: SiteId,
    },
    /// Fewer servers of the target are up than the service needs.
    TargetThin {
        /// The site.
        site: SiteId,
        /// So many are up.
        up: u16,
        /// So many are needed.
        of: u16,
    },
    /// People have taken all servers of the target out of service.
    TargetOut {
        /// The site.
        site: SiteId,
    },
    /// The service has no such server.
    UnknownServer {
        /// What was asked for.
        server: ServerId,
        /// The servers it has.
        known: Vec<Name>,
    },
    /// An HAProxy of the service runs a configuration of somebody else's: its servers are not touched.
    External {
        /// Which.
        proxy: ProxyId,
    },
    /// It is the last server that serves.
    LastServing {
        /// Which.
        server: ServerId,
    },
    /// Somebody, or supervisor itself, moved the service since the person looked.
    ChangedSince {
        /// Where it is now.
        site: SiteId,
        /// When that happened.
        at: Wall,
        /// Who ordered it, if a person did.
        by: Option<Operator>,
    },
    /// Another person's order is being carried out at this moment.
    InProgress {
        /// Where traffic is being moved to.
        to: SiteId,
        /// For how long already.
        since: Span,
        /// Who ordered it, if a person did.
        by: Option<Operator>,
    },
    /// No site would serve.
    NobodyServes,
    /// It is paused.
    Paused {
        /// What.
        scope: Scope,
        /// By whom.
        by: Operator,
    },
    /// No service has servers at that site.
    NoSuchSite {
        /// What was asked for.
        site: SiteId,
        /// The sites there are.
        known: Vec<SiteId>,
    },
    /// The settings name no Alertmanager and nobody to mail to.
    NobodyToTell,
}
