//! `GET /metrics`: requests by method, path and status, how long they took, and how many items there are.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::executed::method_name;

/// From what SQLite needs for a read to the longest `timeout server` of the stack.
const BUCKETS_SECONDS: [f64; 9] = [0.0005, 0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0];

/// Every label has a fixed set of values: no client can add a time series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    path: &'static str,
    status: u16,
}

/// The service's metrics and the registry that prints them.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter<u64, AtomicU64>>,
    seconds: Histogram,
    items: Gauge,
}

impl Metrics {
    /// Metrics that all begin at 0, labelled with the site.
    pub(crate) fn new(site: &str) -> Self {
        let mut registry = Registry::with_labels([("site".into(), site.to_owned().into())].into_iter());
        let requests = Family::default();
        registry.register("demo_api_requests", "Requests answered", requests.clone());
        let seconds = Histogram::new(BUCKETS_SECONDS);
        registry.register("demo_api_request_duration_seconds", "Time to the answer", seconds.clone());
        let items = Gauge::default();
        registry.register("demo_api_items", "Items in the store", items.clone());
        Self { registry, requests, seconds, items }
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, method: &Method, path: &'static str, status: StatusCode, took: Duration) {
        let labels = Labels { method: method_name(method), path, status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// The text format of OpenMetrics, with the number of items as it is now.
    pub(crate) fn print(&self, items: i64) -> Result<String, std::fmt::Error> {
        self.items.set(items);
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
