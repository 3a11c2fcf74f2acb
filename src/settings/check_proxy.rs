//! `[proxies.NAME]`: raw → checked.

use super::check_engine::Engines;
use super::check_snippets;
use super::checker::Checker;
use super::key::Key;
use super::limits;
use super::model::{Bind, ConfigMode, Observe, ProxySettings, ProxySocket, ProxyTimeouts};
use super::raw::{Raw, RawProxy, RawTimeouts};
use super::value;
use crate::domain::id::ProxyId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Docker's own name server, the same in every container on a network of its own.
const DOCKER_DNS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), DNS_PORT);

/// The port of name servers.
const DNS_PORT: u16 = 53;

/// The most name servers; HAProxy asks them all at once.
const RESOLVERS_MAX: usize = 8;

/// All of them.
pub(crate) fn proxies(
    checker: &mut Checker<'_>,
    raw: &Raw,
    engines: &mut Engines<'_>,
) -> BTreeMap<ProxyId, ProxySettings> {
    let key = Key::root().at("proxies");
    if raw.proxies.is_empty() {
        checker.unfit(&key, "no HAProxy is named, and without one no traffic can be moved");
    }
    let mut proxies = BTreeMap::new();
    for (name, raw) in &raw.proxies {
        let key = key.at(name);
        let proxy = proxy(checker, &key, raw, engines);
        if let Some(id) = checker.name(&key, name) {
            proxies.insert(id, proxy);
        }
    }
    separate_files(checker, &proxies);
    proxies
}

fn proxy(checker: &mut Checker<'_>, key: &Key, raw: &RawProxy, engines: &mut Engines<'_>) -> ProxySettings {
    let modes = [("managed", ConfigMode::Managed), ("external", ConfigMode::External)];
    let observes = [("layer4", Observe::Layer4), ("off", Observe::Off)];
    let container = engines.container(checker, key, raw.container.as_ref(), raw.engine.as_ref(), None);
    let gid = raw.admin_gid.map(|gid| checker.number(&key.at("admin_gid"), Some(gid), &limits::GID));
    let mut ours = |name: &str, raw: Option<&String>, default: &str| {
        checker.path(&key.at(name), raw, value::path, default)
    };
    let config_file = ours("config_file", raw.config_file.as_ref(), "/etc/haproxy/haproxy.cfg");
    let map_file = ours("map_file", raw.map_file.as_ref(), "/var/lib/haproxy/maps/routes.map");
    let state_file = ours("state_file", raw.state_file.as_ref(), "/var/lib/haproxy/maps/servers.state");
    let mode = checker.word(&key.at("config"), raw.config.as_ref(), &modes).unwrap_or(ConfigMode::Managed);
    let mut socket = |name: &str, raw: Option<&String>, default: &str| {
        let socket = checker.parse(&key.at(name), raw, value::proxy_socket);
        socket.unwrap_or_else(|| ProxySocket::Unix(PathBuf::from(default)))
    };
    let master_socket = socket("master_socket", raw.master_socket.as_ref(), "/run/haproxy/master.sock");
    let admin_socket = socket("admin_socket", raw.admin_socket.as_ref(), "/run/haproxy/admin.sock");
    let admin_path = admin_path(checker, key, raw, mode, &admin_socket);
    let mut theirs = |(name, ours_name): (&str, &str), raw: Option<&String>, ours: &Path| match raw {
        Some(_) => checker.path(&key.at(name), raw, value::proxy_path, ""),
        // The same path must then be one that HAProxy's configuration can hold.
        None => {
            let shown = ours.to_string_lossy().into_owned();
            checker.parse(&key.at(ours_name), Some(&shown), value::proxy_path).unwrap_or_default()
        }
    };
    ProxySettings {
        config_path: theirs(("config_path", "config_file"), raw.config_path.as_ref(), &config_file),
        map_path: theirs(("map_path", "map_file"), raw.map_path.as_ref(), &map_file),
        state_path: theirs(("state_path", "state_file"), raw.state_path.as_ref(), &state_file),
        admin_path,
        config_file,
        map_file,
        state_file,
        master_socket,
        admin_socket,
        admin_mode: checker
            .parse(&key.at("admin_mode"), raw.admin_mode.as_ref(), value::socket_mode)
            .unwrap_or_else(|| "660".to_owned()),
        admin_gid: gid,
        user: checker.parse(&key.at("user"), raw.user.as_ref(), value::account),
        group: checker.parse(&key.at("group"), raw.group.as_ref(), value::account),
        config: mode,
        haproxy_binary: checker
            .parse(&key.at("haproxy_binary"), raw.haproxy_binary.as_ref(), value::program)
            .unwrap_or_else(|| "haproxy".to_owned()),
        template: checker.parse(&key.at("template"), raw.template.as_ref(), value::path),
        observe: checker.word(&key.at("observe"), raw.observe.as_ref(), &observes).unwrap_or(Observe::Layer4),
        resolvers: resolvers(checker, key, raw),
        maxconn: checker.number(&key.at("maxconn"), raw.maxconn, &limits::PROXY_MAXCONN),
        metrics_bind: checker.parse(&key.at("metrics_bind"), raw.metrics_bind.as_ref(), value::bind),
        reload_timeout: checker.span(
            &key.at("reload_timeout"),
            raw.reload_timeout.as_ref(),
            &limits::RELOAD_TIMEOUT,
        ),
        reload_interval: checker.span(
            &key.at("reload_interval"),
            raw.reload_interval.as_ref(),
            &limits::RELOAD_INTERVAL,
        ),
        timeouts: timeouts(checker, &key.at("timeouts"), &raw.timeouts),
        snippets: check_snippets::proxy(checker, &key.at("snippets"), &raw.snippets),
        container,
    }
}

/// What HAProxy binds for its worker's command line: by default what we connect to.
fn admin_path(
    checker: &mut Checker<'_>,
    key: &Key,
    raw: &RawProxy,
    mode: ConfigMode,
    ours: &ProxySocket,
) -> ProxySocket {
    let own = raw.admin_path.as_ref();
    let parsed = match (own, mode, ours) {
        (Some(_), _, _) => checker.parse(&key.at("admin_path"), own, value::proxy_bind),
        // What somebody else's configuration binds is not ours to say.
        (None, ConfigMode::External, _) => None,
        (None, ConfigMode::Managed, ProxySocket::Unix(_)) => {
            checker.parse(&key.at("admin_socket"), Some(&ours.to_string()), value::proxy_bind)
        }
        (None, ConfigMode::Managed, ProxySocket::Tcp(_)) => {
            let bind = value::proxy_bind(&ours.to_string());
            bind.map_err(|message| checker.unfit(&key.at("admin_path"), message)).ok()
        }
    };
    parsed.unwrap_or_else(|| ours.clone())
}

fn timeouts(checker: &mut Checker<'_>, key: &Key, raw: &RawTimeouts) -> ProxyTimeouts {
    ProxyTimeouts {
        connect: checker.span(&key.at("connect"), raw.connect.as_ref(), &limits::TIMEOUT_CONNECT),
        queue: checker.span(&key.at("queue"), raw.queue.as_ref(), &limits::TIMEOUT_QUEUE),
        client: checker.span(&key.at("client"), raw.client.as_ref(), &limits::TIMEOUT_CLIENT),
        server: checker.span(&key.at("server"), raw.server.as_ref(), &limits::TIMEOUT_SERVER),
    }
}

/// In a container Docker's, elsewhere none: HAProxy then asks the system when it starts.
fn resolvers(checker: &mut Checker<'_>, key: &Key, raw: &RawProxy) -> Vec<SocketAddr> {
    let key = key.at("resolvers");
    let Some(texts) = &raw.resolvers else {
        return raw.container.iter().map(|_| DOCKER_DNS).collect();
    };
    if texts.len() > RESOLVERS_MAX {
        checker.wrong(&key, format!("has {} name servers, more than {RESOLVERS_MAX}", texts.len()));
    }
    let mut resolvers = Vec::new();
    for (i, text) in texts.iter().enumerate().take(RESOLVERS_MAX) {
        match value::socket_address(text, Some(DNS_PORT)) {
            Ok(address) if resolvers.contains(&address) => {
                checker.wrong_element(&key, i, format!("{text:?} is there twice"));
            }
            Ok(address) => resolvers.push(address),
            Err(message) => checker.wrong_element(&key, i, message),
        }
    }
    resolvers
}

/// No file may have two uses: two HAProxy instances that were given one map would overwrite each other's routes.
fn separate_files(checker: &mut Checker<'_>, proxies: &BTreeMap<ProxyId, ProxySettings>) {
    let mut uses: BTreeMap<String, Key> = BTreeMap::new();
    for (id, proxy) in proxies {
        let files = [
            ("config_file", proxy.config_file.display().to_string()),
            ("map_file", proxy.map_file.display().to_string()),
            ("state_file", proxy.state_file.display().to_string()),
            ("master_socket", proxy.master_socket.to_string()),
            ("admin_socket", proxy.admin_socket.to_string()),
        ];
        for (name, file) in files {
            let key = Key::root().at("proxies").at(id.as_str()).at(name);
            match uses.get(&file) {
                Some(first) => checker.unfit(&key, format!("{file} is {first} already")),
                None => {
                    uses.insert(file, key);
                }
            }
        }
    }
}

/// Binds of HAProxy's own, by instance.
pub(crate) fn own_binds<'p>(
    proxies: &'p BTreeMap<ProxyId, ProxySettings>,
    of: &'p BTreeSet<ProxyId>,
) -> impl Iterator<Item = (ProxyId, Bind)> + 'p {
    of.iter().filter_map(|id| Some((*id, proxies.get(id)?.metrics_bind?)))
}
