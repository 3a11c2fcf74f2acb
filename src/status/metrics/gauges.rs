//! What is, as gauges: read from one view.

use crate::domain::event::StoreHealth;
use crate::domain::explain::Grade;
use crate::status::view::{Link, View};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The gauges of one view.
#[derive(Debug)]
pub(super) struct ViewGauges(Arc<View>);

impl ViewGauges {
    pub(super) fn new(view: Arc<View>) -> ViewGauges {
        ViewGauges(view)
    }
}

/// Writes one family of gauges.
fn family<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = ([(&'static str, &'a str); N], bool)>,
) -> fmt::Result {
    numbers(encoder, name, help, samples.map(|(labels, is)| (labels, i64::from(is))))
}

fn numbers<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl Iterator<Item = ([(&'static str, &'a str); N], i64)>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

impl Collector for ViewGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (view, encoder) = (&*self.0, &mut encoder);
        let grades = view.services.iter().map(|service| {
            let grade = match service.grade {
                Grade::Well => 0,
                Grade::Degraded => 1,
                Grade::Down => 2,
            };
            ([("service", service.name.as_str())], grade)
        });
        numbers(encoder, "service_grade", "0: well, 1: degraded, 2: down", grades)?;

        let serving = view.services.iter().flat_map(|service| {
            let sites: BTreeSet<_> = service.servers.iter().map(|server| &server.site).collect();
            sites.into_iter().map(|site| {
                let labels = [("service", service.name.as_str()), ("site", site.as_str())];
                (labels, service.serving == Some(*site))
            })
        });
        family(encoder, "service_serving", "1: the service's traffic goes to this site", serving)?;

        // No sample without a verdict: 0 would be a lie that wakes somebody at every start.
        let servers = view.services.iter().flat_map(|service| {
            let known = service.servers.iter().filter(|server| server.health != "unknown");
            known.map(|server| {
                let (service, server_name) = (service.name.as_str(), server.name.as_str());
                let labels = [("service", service), ("server", server_name), ("site", server.site.as_str())];
                (labels, server.health == "up")
            })
        });
        family(encoder, "server_up", "1: the server is up, 0: it is down", servers)?;

        let admins = view.services.iter().flat_map(|service| {
            service.servers.iter().flat_map(|server| {
                ["ready", "drain", "maint"].map(|state| {
                    let (service, server_name) = (service.name.as_str(), server.name.as_str());
                    let labels = [("service", service), ("server", server_name), ("state", state)];
                    (labels, server.admin == state)
                })
            })
        });
        let help =
            "1: the server is in service (ready), drained or in maintenance, as far as people have ordered";
        family(encoder, "server_admin", help, admins)?;

        let proxies = view.proxies.iter().filter(|proxy| proxy.link != Link::Unseen);
        let proxies = proxies.map(|proxy| ([("proxy", proxy.name.as_str())], proxy.link != Link::Lost));
        family(encoder, "proxy_up", "1: this HAProxy answers on its sockets", proxies)?;

        let configs = view.proxies.iter().flat_map(|proxy| {
            ["in_force", "held", "refused", "unproven"].map(|state| {
                let labels = [("proxy", proxy.name.as_str()), ("state", state)];
                (labels, proxy.config.state == state)
            })
        });
        let help = "1: how this HAProxy's configuration stands against the settings";
        family(encoder, "haproxy_config", help, configs)?;

        let engines =
            view.engines.iter().filter_map(|engine| Some(([("engine", engine.name.as_str())], engine.up?)));
        family(encoder, "engine_up", "1: this Docker engine answers", engines)?;

        // Every phase of every container would be a dozen samples each; that it runs is what a rule asks for.
        let containers =
            view.containers.iter().filter(|container| container.phase != "unseen").map(|container| {
                let labels = [("engine", container.engine.as_str()), ("container", container.name.as_str())];
                (labels, matches!(container.phase.as_str(), "runs" | "ailing"))
            });
        family(encoder, "container_runs", "1: the container runs", containers)?;

        let given_up = view.containers.iter().map(|container| {
            let labels = [("engine", container.engine.as_str()), ("container", container.name.as_str())];
            (labels, container.phase == "given_up")
        });
        let help = "1: it was started too often and is tried slowly: a person is needed";
        family(encoder, "container_given_up", help, given_up)?;

        let peers =
            view.alertmanagers.iter().filter_map(|peer| Some(([("peer", peer.name.as_str())], peer.up?)));
        family(encoder, "alertmanager_up", "1: this Alertmanager takes alerts", peers)?;

        let severities = ["critical", "warning"].map(|severity| {
            let count = view.incidents.iter().filter(|incident| incident.severity == severity).count();
            ([("severity", severity)], i64::try_from(count).unwrap_or(i64::MAX))
        });
        numbers(encoder, "incidents", "What is wrong now", severities.into_iter())?;

        let mailed = view.incidents.iter().filter(|incident| incident.told_by == "mail").count();
        let help = "Incidents that supervisor mailed itself, because no Alertmanager told";
        let metric = encoder.encode_descriptor("incidents_mailed", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(mailed).unwrap_or(i64::MAX)).encode(metric)?;

        let durable = view.store == StoreHealth::Durable;
        let help = "1: what is decided reaches the disk in time";
        let metric = encoder.encode_descriptor("store_durable", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(durable)).encode(metric)?;
        let help = "1: no probe reaches anything anywhere; nothing is concluded";
        let metric = encoder.encode_descriptor("cut_off", help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::from(view.cut_off)).encode(metric)
    }
}
