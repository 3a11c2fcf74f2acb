//! From the settings to what the probers work with.

use super::spec::{Address, Purpose, Scheme, Spec};
use crate::domain::ServerId;
use crate::settings::{self, Check, ProbeSettings, ServerSettings, Settings};
use hyper::header::HeaderValue;
use hyper::http::uri::PathAndQuery;
use std::collections::BTreeMap;

/// Every probe of every server.
pub fn specs(settings: &Settings) -> impl Iterator<Item = Spec> {
    let servers = settings.servers.iter();
    servers.flat_map(|(id, server)| {
        [spec(*id, server, Purpose::Ready, &server.ready), spec(*id, server, Purpose::Live, &server.live)]
    })
}

/// The `ready` probes alone.
pub fn ready(settings: &Settings) -> BTreeMap<ServerId, Spec> {
    let ready = |spec: &Spec| spec.purpose == Purpose::Ready;
    specs(settings).filter(ready).map(|spec| (spec.server, spec)).collect()
}

fn spec(server: ServerId, settings: &ServerSettings, purpose: Purpose, probe: &ProbeSettings) -> Spec {
    let interval = probe.interval.duration();
    let address = Address { host: settings.address.host.clone(), port: settings.address.port };
    let plain = Spec {
        server,
        purpose,
        scheme: Scheme::Http,
        host: header(&address.to_string()),
        address,
        connect_only: true,
        path: PathAndQuery::from_static("/"),
        expected: Vec::new(),
        body_contains: None,
        interval,
        fast_interval: probe.fast_interval.duration(),
        timeout: probe.timeout.duration(),
        keep_alive: false,
        max_body: 0,
        jitter: interval * u32::from(probe.jitter_percent) / 100,
    };
    let Check::Http(check) = &probe.check else { return plain };
    Spec {
        scheme: match check.scheme {
            settings::Scheme::Http => Scheme::Http,
            settings::Scheme::Https => Scheme::Https,
        },
        host: check.host.as_deref().map_or(plain.host, header),
        connect_only: false,
        path: check.path.parse().unwrap_or(plain.path),
        expected: check.status.ranges(),
        body_contains: check.contains.clone(),
        keep_alive: check.keep_alive,
        max_body: usize::try_from(check.max_body).unwrap_or(usize::MAX),
        ..plain
    }
}

/// The settings admit only visible ASCII here, so there is always a header; an empty one would be refused by the server.
fn header(host: &str) -> HeaderValue {
    HeaderValue::from_str(host).unwrap_or_else(|_| HeaderValue::from_static(""))
}
