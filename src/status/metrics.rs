//! `/metrics`, for Prometheus. The names and labels are documented in docs/api.md and tested.
//!
//! What *is* is read from the view at each scrape, so a removed target takes its samples with it. What *happened* is
//! counted by [`Metrics::record`], which the loop calls for every event; it takes no lock for long and never waits.

mod gauges;

use super::Sources;
use crate::control::server::error;
use crate::domain::event::{BackStep, ConfigSeen, Configured, MailEnd, ReloadSeen, WentBack};
use crate::domain::id::{Name, ProxyId, ServerId, ServiceId, SiteId};
use crate::domain::policy::{ContainerRef, Policy};
use crate::domain::witness::{Cause, ProbeFault, ProbeOutcome};
use crate::domain::{Decision, Event, Reason};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gauges::ViewGauges;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// From a loopback answer to the slowest timeout that anybody sets, in seconds.
const PROBE_BUCKETS_SECONDS: [f64; 12] =
    [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// From a small configuration to thousands of backends behind a slow name server, in seconds.
const RELOAD_BUCKETS_SECONDS: [f64; 9] = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// A name as a label, without a copy on the heap for every probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Label(Name);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(self.0.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ServerLabels {
    service: Label,
    server: Label,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ProbeLabels {
    service: Label,
    server: Label,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct MoveLabels {
    service: Label,
    from: Label,
    to: Label,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct HealLabels {
    engine: String,
    container: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct MailLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
    effect: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ProxyLabels {
    proxy: Label,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct ReloadLabels {
    proxy: Label,
    outcome: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct DriftLabels {
    service: Label,
    what: &'static str,
}

/// What is counted. One for the process, shared by the loop and the listener.
#[derive(Debug)]
pub struct Metrics {
    failovers: Family<MoveLabels, Counter>,
    failbacks: Family<MoveLabels, Counter>,
    switchovers: Family<MoveLabels, Counter>,
    probes: Family<ProbeLabels, Counter>,
    probe_duration: Family<ServerLabels, Histogram, fn() -> Histogram>,
    events: Family<EventLabels, Counter>,
    breaches: Counter,
    heals: Family<HealLabels, Counter>,
    mails: Family<MailLabels, Counter>,
    reloads: Family<ReloadLabels, Counter>,
    reload_duration: Family<ProxyLabels, Histogram, fn() -> Histogram>,
    switch_duration: Family<ProxyLabels, Histogram, fn() -> Histogram>,
    old_workers: Family<ProxyLabels, Gauge>,
    failed_reloads: Family<ProxyLabels, Gauge>,
    drifts: Family<DriftLabels, Counter>,
    /// The label sets in use that name a target: what a change of settings has to look through.
    targets: Mutex<Targets>,
}

#[derive(Debug, Default)]
struct Targets {
    probes: BTreeSet<ProbeLabels>,
    moves: BTreeSet<MoveLabels>,
    drifts: BTreeSet<DriftLabels>,
    reloads: BTreeSet<ReloadLabels>,
    switched: BTreeSet<ProxyLabels>,
    heals: BTreeSet<HealLabels>,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let histogram: fn() -> Histogram = || Histogram::new(PROBE_BUCKETS_SECONDS);
        let reloads: fn() -> Histogram = || Histogram::new(RELOAD_BUCKETS_SECONDS);
        Metrics {
            failovers: Family::default(),
            failbacks: Family::default(),
            switchovers: Family::default(),
            probes: Family::default(),
            probe_duration: Family::new_with_constructor(histogram),
            events: Family::default(),
            breaches: Counter::default(),
            heals: Family::default(),
            mails: Family::default(),
            reloads: Family::default(),
            reload_duration: Family::new_with_constructor(reloads),
            switch_duration: Family::new_with_constructor(histogram),
            old_workers: Family::default(),
            failed_reloads: Family::default(),
            drifts: Family::default(),
            targets: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts one event and what was decided on it.
    pub fn record(&self, event: &Event, decision: &Decision) {
        let effect = if decision.is_empty() { "none" } else { "change" };
        self.events.get_or_create_owned(&EventLabels { kind: kind(event), effect }).inc();
        match event {
            Event::Probed(probed) => {
                let took_seconds = probed.ended.since(probed.started).duration().as_secs_f64();
                self.probed(probed.server, probed.outcome, took_seconds);
            }
            Event::PolicyChanged(policy) => {
                self.forget_all_but(policy);
                // Those that stay come back with their next look.
                self.old_workers.clear();
                self.failed_reloads.clear();
            }
            Event::Proxy(seen) => match seen.master {
                Some(master) => {
                    let labels = ProxyLabels { proxy: Label(seen.proxy.0) };
                    self.old_workers.get_or_create_owned(&labels).set(i64::from(master.old_workers));
                    self.failed_reloads.get_or_create_owned(&labels).set(i64::from(master.failed_reloads));
                }
                None => self.masterless(seen.proxy),
            },
            Event::ProxyLost { proxy } => self.masterless(*proxy),
            Event::Configured(configured) => self.configured(configured, !decision.is_empty()),
            Event::WentBack(WentBack { proxy, step: BackStep::Refused { reload, .. }, .. }) => {
                let outcome = if reload.is_some() { "failed" } else { "refused" };
                self.reloaded(*proxy, outcome);
            }
            Event::WentBack(WentBack {
                step: BackStep::Ordered { .. } | BackStep::Resumed { .. }, ..
            })
            | Event::Started
            | Event::Lived(_)
            | Event::ProberSilent { .. }
            | Event::Container(_)
            | Event::Containers(_)
            | Event::EngineLost { .. }
            | Event::Routed(_)
            | Event::Finished(_)
            | Event::Peer(_)
            | Event::Mailed(_)
            | Event::Commanded(_)
            | Event::Store(_)
            | Event::Breached { .. }
            | Event::Woke => {}
        }
        for reason in &decision.reasons {
            match reason {
                Reason::Failover { service, from, to, .. } => {
                    self.moved(&self.failovers, *service, *from, *to)
                }
                Reason::Failback { service, from, to, .. } => {
                    self.moved(&self.failbacks, *service, *from, *to)
                }
                Reason::RouteInForce { proxy, took, .. } => {
                    let labels = ProxyLabels { proxy: Label(proxy.0) };
                    self.targets().switched.insert(labels);
                    self.switch_duration.get_or_create_owned(&labels).observe(took.duration().as_secs_f64());
                }
                Reason::Reasserted { service, found: Some(_), .. } => self.drifted(*service, "route"),
                Reason::AdminReasserted { server, .. } => self.drifted(server.service, "server"),
                Reason::Switchover { service, from, to, .. } => {
                    self.moved(&self.switchovers, *service, *from, *to);
                }
                Reason::Healed { container, failed, .. } => {
                    let outcome = if failed.is_some() { "failed" } else { "done" };
                    self.healed(container, outcome);
                }
                Reason::HealUnknown { container, .. } => self.healed(container, "unknown"),
                Reason::Mailed { end, .. } => {
                    let outcome = match end {
                        MailEnd::Accepted { .. } => "accepted",
                        MailEnd::Deferred { .. } => "deferred",
                        MailEnd::Dead { .. } => "dead",
                        MailEnd::NotNeeded => "not_needed",
                    };
                    self.mails.get_or_create_owned(&MailLabels { outcome }).inc();
                }
                _ => {}
            }
        }
    }

    /// Counts broken invariants: bugs of ours.
    pub fn breached(&self, breaches: usize) {
        self.breaches.inc_by(u64::try_from(breaches).unwrap_or(u64::MAX));
    }

    fn probed(&self, id: ServerId, outcome: ProbeOutcome, took_seconds: f64) {
        let outcome = match outcome {
            ProbeOutcome::Healthy { .. } | ProbeOutcome::Connected { .. } => "healthy",
            ProbeOutcome::Failed(fault) => Cause::Probe(fault).code(),
        };
        let (service, server) = (Label(id.service.0), Label(id.server));
        let labels = ProbeLabels { service, server, outcome };
        self.targets().probes.insert(labels);
        // `get_or_create` would hold a lock of the family beside the counter's (client_rust issue 231).
        self.probes.get_or_create_owned(&labels).inc();
        // We could not even try: that took no time of the server's.
        if outcome != Cause::Probe(ProbeFault::OwnResources).code() {
            self.probe_duration.get_or_create_owned(&ServerLabels { service, server }).observe(took_seconds);
        }
    }

    /// A reload; or a configuration that did not get as far, unless it is the same one again.
    fn configured(&self, configured: &Configured, is_news: bool) {
        let outcome = match (configured.reload, &configured.config) {
            (Some(ReloadSeen::Loaded { took }), _) => {
                let labels = ProxyLabels { proxy: Label(configured.proxy.0) };
                self.reload_duration.get_or_create_owned(&labels).observe(took.duration().as_secs_f64());
                "loaded"
            }
            (Some(ReloadSeen::Failed), _) => "failed",
            (Some(ReloadSeen::Unproven), _) => "unproven",
            (None, ConfigSeen::Refused { .. }) if is_news => "refused",
            (None, _) => return,
        };
        self.reloaded(configured.proxy, outcome);
    }

    fn reloaded(&self, proxy: ProxyId, outcome: &'static str) {
        let labels = ReloadLabels { proxy: Label(proxy.0), outcome };
        self.targets().reloads.insert(labels);
        self.reloads.get_or_create_owned(&labels).inc();
    }

    /// Its master tells nothing: an old figure would be a lie.
    fn masterless(&self, proxy: ProxyId) {
        let labels = ProxyLabels { proxy: Label(proxy.0) };
        self.old_workers.remove(&labels);
        self.failed_reloads.remove(&labels);
    }

    fn drifted(&self, service: ServiceId, what: &'static str) {
        let labels = DriftLabels { service: Label(service.0), what };
        self.targets().drifts.insert(labels);
        self.drifts.get_or_create_owned(&labels).inc();
    }

    fn healed(&self, container: &ContainerRef, outcome: &'static str) {
        let (engine, name) = (container.engine.to_string(), container.name.to_string());
        let labels = HealLabels { engine, container: name, outcome };
        self.targets().heals.insert(labels.clone());
        self.heals.get_or_create_owned(&labels).inc();
    }

    fn moved(&self, family: &Family<MoveLabels, Counter>, service: ServiceId, from: SiteId, to: SiteId) {
        let labels = MoveLabels { service: Label(service.0), from: Label(from.0), to: Label(to.0) };
        self.targets().moves.insert(labels);
        family.get_or_create_owned(&labels).inc();
    }

    /// Removes the samples of targets that `policy` no longer names.
    fn forget_all_but(&self, policy: &Policy) {
        let service_stays = |service: Label| policy.services.contains_key(&ServiceId(service.0));
        let server_stays = |service: Label, server: Label| {
            policy
                .services
                .get(&ServiceId(service.0))
                .is_some_and(|known| known.servers.contains_key(&server.0))
        };
        let mut targets = self.targets();
        targets.probes.retain(|labels| {
            let stays = server_stays(labels.service, labels.server);
            if !stays {
                self.probes.remove(labels);
                let ProbeLabels { service, server, .. } = *labels;
                self.probe_duration.remove(&ServerLabels { service, server });
            }
            stays
        });
        let container_stays = |labels: &HealLabels| {
            policy.containers.keys().any(|container| {
                container.engine.as_str() == labels.engine && container.name.0 == labels.container
            })
        };
        targets.heals.retain(|labels| {
            let stays = container_stays(labels);
            if !stays {
                self.heals.remove(labels);
            }
            stays
        });
        let proxy_stays =
            |proxy: Label| policy.services.values().any(|known| known.proxies.contains(&ProxyId(proxy.0)));
        targets.reloads.retain(|labels| {
            let stays = proxy_stays(labels.proxy);
            if !stays {
                self.reloads.remove(labels);
                self.reload_duration.remove(&ProxyLabels { proxy: labels.proxy });
            }
            stays
        });
        targets.switched.retain(|labels| {
            let stays = proxy_stays(labels.proxy);
            if !stays {
                self.switch_duration.remove(labels);
            }
            stays
        });
        targets.drifts.retain(|labels| {
            let stays = service_stays(labels.service);
            if !stays {
                self.drifts.remove(labels);
            }
            stays
        });
        targets.moves.retain(|labels| {
            let stays = service_stays(labels.service);
            if !stays {
                for family in [&self.failovers, &self.failbacks, &self.switchovers] {
                    family.remove(labels);
                }
            }
            stays
        });
    }

    fn targets(&self) -> MutexGuard<'_, Targets> {
        // Sets of plain labels: whatever a panicking holder did, they are still sets.
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn registry(&self, sources: &Sources) -> Registry {
        let mut registry = Registry::with_prefix("supervisor");
        let version = sources.view().version.clone();
        registry.register("build", "The version that runs", Info::new(vec![("version", version)]));
        registry.register_collector(Box::new(ViewGauges::new(sources.view())));
        registry.register(
            "failovers",
            "Automatic moves away from a site that is down",
            self.failovers.clone(),
        );
        registry.register("failbacks", "Automatic returns to a better site", self.failbacks.clone());
        registry.register("switchovers", "Moves that a person ordered", self.switchovers.clone());
        registry.register("heals", "Starts and restarts of containers", self.heals.clone());
        registry.register("mails", "What became of mails that supervisor sent itself", self.mails.clone());
        let help = "Reloads of HAProxy, and configurations that were refused before one";
        registry.register("haproxy_reloads", help, self.reloads.clone());
        let help = "From the order to reload to the proof of the new worker";
        registry.register("haproxy_reload_duration_seconds", help, self.reload_duration.clone());
        let help = "From the decision to the read-back of a route";
        registry.register("switch_duration_seconds", help, self.switch_duration.clone());
        let help = "Workers that were replaced and finish what they have";
        registry.register("haproxy_old_workers", help, self.old_workers.clone());
        let help = "Reloads that failed since the last good one";
        registry.register("haproxy_failed_reloads", help, self.failed_reloads.clone());
        let help = "What HAProxy did otherwise than decided, and was told again";
        registry.register("drifts", help, self.drifts.clone());
        registry.register("probes", "Probes by their outcome", self.probes.clone());
        let help = "How long probes took";
        registry.register("probe_duration_seconds", help, self.probe_duration.clone());
        registry.register("events", "Events by kind, and whether anything followed", self.events.clone());
        registry.register("invariant_breaches", "Bugs of supervisor: please report", self.breaches.clone());
        registry
    }
}

/// The stable word for a kind of event.
fn kind(event: &Event) -> &'static str {
    match event {
        Event::Started => "started",
        Event::Probed(_) => "probed",
        Event::Lived(_) => "lived",
        Event::ProberSilent { .. } => "prober_silent",
        Event::Container(_) => "container",
        Event::Containers(_) => "containers",
        Event::EngineLost { .. } => "engine_lost",
        Event::Proxy(_) => "proxy",
        Event::ProxyLost { .. } => "proxy_lost",
        Event::Configured(_) => "configured",
        Event::WentBack(_) => "went_back",
        Event::Routed(_) => "routed",
        Event::Finished(_) => "finished",
        Event::Peer(_) => "peer",
        Event::Mailed(_) => "mailed",
        Event::Commanded(_) => "commanded",
        Event::PolicyChanged(_) => "policy_changed",
        Event::Store(_) => "store",
        Event::Breached { .. } => "breached",
        Event::Woke => "woke",
    }
}

pub(super) fn router(sources: Sources) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(sources)
}

async fn metrics(State(sources): State<Sources>) -> Response {
    // The families share their samples with the registry; only the registry itself is made anew, around this view.
    let registry = sources.metrics.registry(&sources);
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written"),
    }
}
