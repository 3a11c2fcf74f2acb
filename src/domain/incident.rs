//! Incidents: what is wrong, with what, since when, and whether somebody has been told.
//!
//! One cause is one incident: a service without any healthy site is not also one incident for each of its pools. What is
//! wrong is derived from the state ([`Trouble`]); an incident begins when it is first so and ends when it is no longer.
//! How people are told is in [`delivery`](super::delivery).

use super::delivery::Telling;
use super::id::{EngineId, ProxyId, ServerId, ServiceId, SiteId};
use super::policy::ContainerRef;
use super::reason::Reason;
use super::time::{Boot, Span, Wall};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many reasons an incident's story has at most: what led to it, and what was done since. More than a mail is read for.
pub const STORY_MAX: usize = 12;

/// How long a test lasts: longer than Alertmanager's `group_wait` (30 s by default), within which what is over again is not
/// told; and short enough that its end comes while somebody still looks.
pub const TEST_LASTS: Span = Span::seconds(120);

/// Names an incident; grows, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IncidentId(pub u64);

/// One incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// What is wrong.
    pub trouble: Trouble,
    /// When it began: the times of delivery run from here and are never set back.
    pub opened: Boot,
    /// The same for people; `startsAt` of its alert.
    pub opened_wall: Wall,
    /// When it ended, if it did.
    pub ended: Option<Ended>,
    /// It has ended because a larger trouble, of which it is a part, is told instead. It lasts all the same: when the larger
    /// one is over first, this one goes on from where it began.
    #[serde(default)]
    pub part_of: Option<Trouble>,
    /// What is wrong seems right again, and counts as right from then on, if it stays so.
    pub trusted_from: Option<Boot>,
    /// What led to it and what was done since, oldest first; at most [`STORY_MAX`].
    pub story: Vec<Reason>,
    /// Whether people have been told.
    pub telling: Telling,
    /// When time alone may change something about it.
    pub wake: Option<Boot>,
}

/// When an incident ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// On the clock of deadlines.
    pub at: Boot,
    /// For people; `endsAt` of its alert.
    pub wall: Wall,
}

/// What can be wrong, and with what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// No site of the service is healthy.
    ServiceDown {
        /// Which.
        service: ServiceId,
    },
    /// The service has no healthy server at one site, and has some at another: its redundancy is gone.
    PoolDown {
        /// Whose.
        service: ServiceId,
        /// Where.
        site: SiteId,
    },
    /// Nothing serves at a site any more: one cause, whatever the number of services.
    SiteDown {
        /// Which.
        site: SiteId,
    },
    /// A server is down while its pool still serves.
    ServerDown {
        /// Which.
        server: ServerId,
    },
    /// A server that is up answers slowly, or not always.
    ServerDegraded {
        /// Which.
        server: ServerId,
    },
    /// Traffic went to and fro too often: it stays where it is until a person, or time, says otherwise.
    FailbackLocked {
        /// Whose.
        service: ServiceId,
    },
    /// A container that is to run does not, and is not brought back soon.
    ContainerDown {
        /// Which.
        container: ContainerRef,
    },
    /// An HAProxy does not answer on its sockets: its traffic cannot be steered.
    ProxyLost {
        /// Which.
        proxy: ProxyId,
    },
    /// An HAProxy does not take a route.
    RouteLags {
        /// Whose.
        service: ServiceId,
        /// Which HAProxy.
        proxy: ProxyId,
    },
    /// Somebody else changes a route in an HAProxy again and again.
    RouteContested {
        /// Whose.
        service: ServiceId,
        /// Which HAProxy.
        proxy: ProxyId,
    },
    /// An HAProxy does not run the configuration of the settings: it was refused, or somebody loads another one.
    ConfigRefused {
        /// Which.
        proxy: ProxyId,
    },
    /// A Docker engine does not answer.
    EngineLost {
        /// Which.
        engine: EngineId,
    },
    /// What is decided does not reach the disk.
    StoreDegraded,
    /// No probe reaches anything: supervisor itself is cut off.
    CutOff,
    /// Probes cannot be made: supervisor has no descriptor or port left.
    OwnResources,
    /// Something was decided that must not be: a bug of ours.
    InvariantBroken,
    /// Nothing: a person wants to see whether alerts arrive.
    Test,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody should look soon.
    Warning,
    /// Somebody must get up.
    Critical,
}

impl Severity {
    /// As in the label `severity`.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

impl Trouble {
    /// The name of its alert (label `alertname`).
    pub fn name(&self) -> &'static str {
        match self {
            Trouble::ServiceDown { .. } => "ServiceDown",
            Trouble::PoolDown { .. } => "PoolDown",
            Trouble::SiteDown { .. } => "SiteDown",
            Trouble::ServerDown { .. } => "ServerDown",
            Trouble::ServerDegraded { .. } => "ServerDegraded",
            Trouble::FailbackLocked { .. } => "FailbackLocked",
            Trouble::ContainerDown { .. } => "ContainerDown",
            Trouble::ProxyLost { .. } => "ProxyLost",
            Trouble::RouteLags { .. } => "RouteLags",
            Trouble::RouteContested { .. } => "RouteContested",
            Trouble::ConfigRefused { .. } => "ConfigRefused",
            Trouble::EngineLost { .. } => "EngineLost",
            Trouble::StoreDegraded => "StoreDegraded",
            Trouble::CutOff => "CutOff",
            Trouble::OwnResources => "OwnResources",
            Trouble::InvariantBroken => "InvariantBroken",
            Trouble::Test => "SupervisorTest",
        }
    }

    /// How bad it is; the same for the whole life of an incident, because it is a label.
    pub fn severity(&self) -> Severity {
        match self {
            Trouble::ServiceDown { .. }
            | Trouble::SiteDown { .. }
            | Trouble::ProxyLost { .. }
            | Trouble::CutOff => Severity::Critical,
            Trouble::PoolDown { .. }
            | Trouble::ServerDown { .. }
            | Trouble::ServerDegraded { .. }
            | Trouble::FailbackLocked { .. }
            | Trouble::ContainerDown { .. }
            | Trouble::RouteLags { .. }
            | Trouble::RouteContested { .. }
            | Trouble::ConfigRefused { .. }
            | Trouble::EngineLost { .. }
            | Trouble::StoreDegraded
            | Trouble::OwnResources
            | Trouble::InvariantBroken
            // As loud as what is to be seen to arrive.
            | Trouble::Test => Severity::Warning,
        }
    }

    /// The service that it is about, if it is about one.
    pub fn service(&self) -> Option<ServiceId> {
        match self {
            Trouble::ServiceDown { service }
            | Trouble::PoolDown { service, .. }
            | Trouble::FailbackLocked { service }
            | Trouble::RouteLags { service, .. }
            | Trouble::RouteContested { service, .. } => Some(*service),
            Trouble::ServerDown { server } | Trouble::ServerDegraded { server } => Some(server.service),
            Trouble::SiteDown { .. }
            | Trouble::InvariantBroken
            | Trouble::ContainerDown { .. }
            | Trouble::ProxyLost { .. }
            | Trouble::ConfigRefused { .. }
            | Trouble::EngineLost { .. }
            | Trouble::StoreDegraded
            | Trouble::CutOff
            | Trouble::OwnResources
            | Trouble::Test => None,
        }
    }

    /// The labels of its alert. Only what stays the same for the whole incident: numbers and errors are annotations, since
    /// an alert whose labels change never resolves (Alertmanager issue 4554).
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            ("alertname".to_owned(), self.name().to_owned()),
            ("severity".to_owned(), self.severity().as_str().to_owned()),
            ("source".to_owned(), "supervisor".to_owned()),
        ]);
        let mut add = |name: &str, value: String| {
            labels.insert(name.to_owned(), value);
        };
        match self {
            Trouble::ServiceDown { service } | Trouble::FailbackLocked { service } => {
                add("service", service.to_string());
            }
            Trouble::SiteDown { site } => add("site", site.to_string()),
            Trouble::ServerDown { server } | Trouble::ServerDegraded { server } => {
                add("service", server.service.to_string());
                add("server", server.server.to_string());
            }
            Trouble::PoolDown { service, site } => {
                add("service", service.to_string());
                add("site", site.to_string());
            }
            Trouble::ContainerDown { container } => {
                add("engine", container.engine.to_string());
                add("container", container.name.to_string());
            }
            Trouble::ProxyLost { proxy } | Trouble::ConfigRefused { proxy } => {
                add("proxy", proxy.to_string())
            }
            Trouble::RouteLags { service, proxy } | Trouble::RouteContested { service, proxy } => {
                add("service", service.to_string());
                add("proxy", proxy.to_string());
            }
            Trouble::EngineLost { engine } => add("engine", engine.to_string()),
            Trouble::StoreDegraded
            | Trouble::CutOff
            | Trouble::OwnResources
            | Trouble::InvariantBroken
            | Trouble::Test => {}
        }
        labels
    }
}

impl Incident {
    /// Adds to the story; what is in it already is not said twice. How it began stays, and so does the latest.
    pub(super) fn note(&mut self, reason: &Reason) {
        if self.story.contains(reason) {
            return;
        }
        if self.story.len() == STORY_MAX {
            self.story.remove(STORY_MAX / 2);
        }
        self.story.push(reason.clone());
    }

    pub(super) fn shift(&mut self, by: i64) {
        let moved = |at: &mut Boot| *at = at.shift(by);
        moved(&mut self.opened);
        if let Some(ended) = &mut self.ended {
            moved(&mut ended.at);
        }
        self.trusted_from.iter_mut().chain(&mut self.wake).for_each(moved);
        self.telling.shift(by);
    }
}

/// The name by which Alertmanager knows a set of labels: FNV-1a, 64 bit, over `name 0xff value 0xff` in the order of names,
/// in hexadecimal (prometheus/common, `model.LabelSet.Fingerprint`).
pub fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes =
        labels.iter().flat_map(|(name, value)| name.bytes().chain([0xff]).chain(value.bytes()).chain([0xff]));
    let hash = bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_about_the_service_that_it_names() {
        use crate::domain::testing::{engine, proxy, server, service, site};
        let (api, place) = (service("api"), site("onprem"));
        for about in [
            Trouble::ServiceDown { service: api },
            Trouble::PoolDown { service: api, site: place },
            Trouble::ServerDown { server: server("api/api-onprem") },
            Trouble::ServerDegraded { server: server("api/api-onprem") },
            Trouble::FailbackLocked { service: api },
            Trouble::RouteLags { service: api, proxy: proxy() },
            Trouble::RouteContested { service: api, proxy: proxy() },
        ] {
            assert_eq!(about.service(), Some(api), "{about:?}");
        }
        for general in [
            Trouble::SiteDown { site: place },
            Trouble::ProxyLost { proxy: proxy() },
            Trouble::ConfigRefused { proxy: proxy() },
            Trouble::EngineLost { engine: engine() },
            Trouble::StoreDegraded,
            Trouble::CutOff,
            Trouble::InvariantBroken,
            Trouble::Test,
        ] {
            assert_eq!(general.service(), None, "{general:?}");
        }
    }

    #[test]
    fn fingerprints_are_alertmanagers_own() {
        // Computed by prometheus/common from the same labels; and an empty set is the offset itself.
        assert_eq!(fingerprint(&BTreeMap::new()), "cbf29ce484222325");
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let one = fingerprint(&labels(&[("a", "b"), ("c", "d")]));
        assert_eq!(one, "53997eba86e1c7f5", "by the definition, computed elsewhere");
        assert_eq!(
            one,
            fingerprint(&labels(&[("c", "d"), ("a", "b")])),
            "the order of names, not of writing"
        );
        assert_ne!(
            one,
            fingerprint(&labels(&[("a", "bc"), ("", "d")])),
            "names and values do not run together"
        );
    }

    #[test]
    fn every_trouble_has_a_name_a_severity_and_stable_labels() {
        let service = "api".parse().unwrap();
        let proxy = "edge".parse().unwrap();
        let engine: EngineId = "local".parse().unwrap();
        let container = ContainerRef { engine, name: super::super::id::ContainerName("c".into()) };
        let all = [
            Trouble::ServiceDown { service },
            Trouble::PoolDown { service, site: "onprem".parse().unwrap() },
            Trouble::SiteDown { site: "onprem".parse().unwrap() },
            Trouble::ServerDown { server: ServerId { service, server: "a".parse().unwrap() } },
            Trouble::ServerDegraded { server: ServerId { service, server: "a".parse().unwrap() } },
            Trouble::FailbackLocked { service },
            Trouble::InvariantBroken,
            Trouble::ContainerDown { container },
            Trouble::ProxyLost { proxy },
            Trouble::RouteLags { service, proxy },
            Trouble::RouteContested { service, proxy },
            Trouble::ConfigRefused { proxy },
            Trouble::EngineLost { engine },
            Trouble::StoreDegraded,
            Trouble::CutOff,
            Trouble::OwnResources,
            Trouble::Test,
        ];
        let prints: std::collections::BTreeSet<String> =
            all.iter().map(|trouble| fingerprint(&trouble.labels())).collect();
        assert_eq!(prints.len(), all.len(), "no two are the same alert");
        for trouble in &all {
            let labels = trouble.labels();
            assert_eq!(labels["alertname"], trouble.name());
            assert!(labels.iter().all(|(name, value)| !name.is_empty() && !value.is_empty()), "{labels:?}");
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(labels.keys().all(|name| name.chars().all(legal)), "{labels:?}");
        }
    }
}
