//! From the settings to what this room works with: the configuration's model, the sockets, the driver.

use super::apply::{BindCheck, Target};
use super::client::{Client, Socket};
use super::handoff::Handoff;
use super::ident::{Ident, IdentError};
use super::reconcile::Driver;
use super::runtime::Runtime;
use super::template::{
    CheckModel, HttpCheck, Mode, Model, PoolModel, ProxyModel, ProxySnippets, ServerModel, ServiceModel,
    ServiceSnippets, Snippet, Timeouts, TlsModel,
};
use super::validate::Validate;
use crate::domain::policy::ServicePolicy;
use crate::domain::time::{Boot, Span};
use crate::domain::{ProxyId, ServerId, ServiceId, SiteId};
use crate::settings::{
    self, Check, ConfigMode, Observe, ProbeSettings, ProxySettings, ProxySocket, ServiceSettings, Settings,
    TlsSettings,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often an HAProxy is looked at. Five looks fit into the five seconds in which its real state must be the decided one
/// or an alarm.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The model of `proxy`'s configuration.
pub fn model(
    settings: &Settings,
    proxy: ProxyId,
    wanted: &ProxySettings,
    owner: &str,
) -> Result<Model, IdentError> {
    let mut services = Vec::new();
    for (id, service) in &settings.services {
        if let Some(policy) =
            settings.policy.services.get(id).filter(|policy| policy.proxies.contains(&proxy))
        {
            services.push(service_model(settings, *id, service, policy, wanted.observe)?);
        }
    }
    Ok(Model { proxy: proxy_model(wanted, owner)?, services })
}

/// What applies a configuration to `proxy`. Give it the `handoff` of the driver where both run.
pub fn target(wanted: &ProxySettings, validator: Arc<dyn Validate>) -> Target {
    Target {
        runtime: runtime(wanted),
        config_file: wanted.config_file.clone(),
        state_file: wanted.state_file.clone(),
        map_file: wanted.map_file.clone(),
        validator,
        binds: binds(wanted),
        deadline: wanted.reload_timeout.duration(),
        handoff: Handoff::default(),
    }
}

/// A container has a network of its own: what is free here says nothing about there.
pub fn binds(wanted: &ProxySettings) -> BindCheck {
    if wanted.container.is_some() { BindCheck::Skip } else { BindCheck::Local }
}

/// What keeps `proxy`'s routes.
pub fn driver(
    settings: &Settings,
    proxy: ProxyId,
    wanted: &ProxySettings,
    owner: &str,
    take_over: bool,
    clock: fn() -> Boot,
) -> Result<Driver, IdentError> {
    let check_age = |(id, policy): (&ServiceId, &ServicePolicy)| (*id, policy.check_age);
    Ok(Driver {
        proxy,
        owner: owner.to_owned(),
        take_over,
        runtime: runtime(wanted),
        map_path: path_text(&wanted.map_path).parse()?,
        map_file: wanted.map_file.clone(),
        look_every: LOOK_EVERY,
        check_age: settings.policy.services.iter().map(check_age).collect(),
        clock,
        handoff: Handoff::default(),
        external: wanted.config == ConfigMode::External,
    })
}

/// The sockets of one HAProxy.
pub fn runtime(wanted: &ProxySettings) -> Runtime {
    let client = |at: &ProxySocket| Client::new(socket(at));
    Runtime::new(client(&wanted.admin_socket), Some(client(&wanted.master_socket)))
}

/// Where one of its command lines is.
pub fn socket(at: &ProxySocket) -> Socket {
    match at {
        ProxySocket::Unix(path) => Socket::Unix(path.clone()),
        ProxySocket::Tcp(address) => Socket::Tcp(address.to_string()),
    }
}

/// What HAProxy's `stats socket` binds.
fn bind_text(at: &ProxySocket) -> String {
    match at {
        ProxySocket::Unix(path) => path_text(path),
        ProxySocket::Tcp(address) if address.host.contains(':') => format!("ipv6@{address}"),
        ProxySocket::Tcp(address) => format!("ipv4@{address}"),
    }
}

fn proxy_model(wanted: &ProxySettings, owner: &str) -> Result<ProxyModel, IdentError> {
    Ok(ProxyModel {
        owner: owner.parse()?,
        user: wanted.user.as_deref().map(str::parse).transpose()?,
        group: wanted.group.as_deref().map(str::parse).transpose()?,
        admin_socket: bind_text(&wanted.admin_path),
        socket_mode: wanted.admin_mode.clone(),
        socket_gid: wanted.admin_gid,
        map_path: path_text(&wanted.map_path).parse()?,
        state_file: path_text(&wanted.state_path),
        maxconn: wanted.maxconn,
        nameservers: wanted.resolvers.iter().map(ToString::to_string).collect(),
        metrics_bind: wanted.metrics_bind.map(|bind| bind.to_string()),
        timeouts: Timeouts {
            connect: wanted.timeouts.connect.duration(),
            queue: wanted.timeouts.queue.duration(),
            client: wanted.timeouts.client.duration(),
            server: wanted.timeouts.server.duration(),
        },
        snippets: ProxySnippets {
            global: snippet(wanted.snippets.global.as_ref()),
            defaults_http: snippet(wanted.snippets.defaults_http.as_ref()),
            defaults_tcp: snippet(wanted.snippets.defaults_tcp.as_ref()),
        },
    })
}

fn service_model(
    settings: &Settings,
    id: ServiceId,
    service: &ServiceSettings,
    policy: &ServicePolicy,
    observe: Observe,
) -> Result<ServiceModel, IdentError> {
    let pool = |site: &SiteId| pool_model(settings, id, policy, *site);
    Ok(ServiceModel {
        name: ident(id.as_str())?,
        mode: match service.mode {
            settings::Mode::Http => Mode::Http,
            settings::Mode::Tcp => Mode::Tcp,
        },
        bind: service.bind.to_string(),
        tls: service.tls.as_ref().map(tls_model),
        host: service.host.clone(),
        path: service.path.clone(),
        pools: policy.prefer.iter().map(pool).collect::<Result<_, _>>()?,
        check: check_model(&service.ready),
        stateful: policy.stateful,
        observe: observe == Observe::Layer4,
        retry_reads_after: service.retry_reads_after.map(Span::duration),
        slow_start: policy.slow_start.duration(),
        maintenance_page: service.maintenance_page.as_ref().map(|path| path.display().to_string()),
        snippets: ServiceSnippets {
            frontend: snippet(service.snippets.frontend.as_ref()),
            backend: snippet(service.snippets.backend.as_ref()),
        },
    })
}

fn tls_model(tls: &TlsSettings) -> TlsModel {
    TlsModel {
        certificates: path_text(&tls.certificates),
        min_version: tls.min_version.as_str().to_owned(),
        redirect_from: tls.redirect_from.map(|bind| bind.to_string()),
    }
}

fn snippet(wanted: Option<&settings::Snippet>) -> Option<Snippet> {
    wanted.map(|wanted| Snippet { key: wanted.key.clone(), text: wanted.text.clone() })
}

fn pool_model(
    settings: &Settings,
    service: ServiceId,
    policy: &ServicePolicy,
    site: SiteId,
) -> Result<PoolModel, IdentError> {
    let mut servers = Vec::new();
    for server in policy.servers_at(site) {
        if let Some(known) = settings.servers.get(&ServerId { service, server }) {
            let address = known.address.to_string();
            servers.push(ServerModel { name: ident(server.as_str())?, address, maxconn: known.maxconn });
        }
    }
    Ok(PoolModel { site: ident(site.as_str())?, servers })
}

fn check_model(ready: &ProbeSettings) -> CheckModel {
    let http = match &ready.check {
        Check::Connect => None,
        // HAProxy's check has no expectation about the body here: it is a safety net, and keeps to the status.
        Check::Http(check) => Some(HttpCheck {
            path: check.path.clone(),
            host: check.host.clone().unwrap_or_else(|| "haproxy".to_owned()),
            status: check.status.to_string(),
        }),
    };
    CheckModel {
        http,
        interval: ready.check_interval().duration(),
        timeout: ready.check_timeout().duration(),
        fall: ready.fall,
        rise: ready.rise,
    }
}

fn ident(text: &str) -> Result<Ident, IdentError> {
    text.parse()
}

/// Paths are checked by the settings: letters, digits and a few signs.
fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
