//! From raw to checked: the whole.

use super::check_alerts;
use super::check_engine::Engines;
use super::check_heal;
use super::check_journal;
use super::check_proxy;
use super::check_service;
use super::checker::{Checker, list};
use super::key::Key;
use super::limits;
use super::model::{ConfigMode, LogFormat, LogLevel, LogSettings, Settings};
use super::raw::Raw;
use super::value;
use crate::domain::id::Name;
use crate::domain::policy::Policy;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Port 9480 on loopback: the page shows names and addresses, and asks nobody who they are.
const STATUS_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9480);

/// Checks everything. What it returns is good only if `checker` has no problem.
pub(crate) fn settings(checker: &mut Checker<'_>, raw: &Raw) -> Settings {
    let root = Key::root();
    let mut engines = Engines::new(raw);
    sites(checker, raw, &engines);
    let proxies = check_proxy::proxies(checker, raw, &mut engines);
    let services = check_service::services(checker, raw, &mut engines, &proxies);
    let containers = check_heal::containers(checker, raw, &mut engines, &services.policies, &proxies);
    let engines = engines.settings(checker);
    let alertmanagers = check_alerts::alertmanagers(checker, raw);
    let mail = check_alerts::mail(checker, raw);
    let policy = Policy {
        services: services.policies.into_iter().collect(),
        proxies: proxies.keys().copied().collect(),
        external: proxies
            .iter()
            .filter(|(_, proxy)| proxy.config == ConfigMode::External)
            .map(|(id, _)| *id)
            .collect(),
        engines: engines.keys().copied().collect(),
        containers: containers.into_iter().collect(),
        heal: check_heal::limits(checker, &raw.heal),
        alerts: check_alerts::policy(checker, raw, &alertmanagers, mail.as_ref()),
        startup_grace: checker.span(
            &root.at("startup_grace"),
            raw.startup_grace.as_ref(),
            &limits::STARTUP_GRACE,
        ),
        lateness: checker.span(&root.at("lateness"), raw.lateness.as_ref(), &limits::LATENESS),
    };
    let listen = root.at("status").at("listen");
    let status_listen =
        checker.parse(&listen, raw.status.listen.as_ref(), |text| value::socket_address(text, None));
    Settings {
        policy,
        proxies,
        engines,
        services: services.services,
        servers: services.servers,
        alertmanagers,
        mail,
        state_dir: checker.path(
            &root.at("state_dir"),
            raw.state_dir.as_ref(),
            value::path,
            "/var/lib/supervisor",
        ),
        control_socket: checker.path(
            &root.at("control_socket"),
            raw.control_socket.as_ref(),
            value::socket,
            "/run/supervisor/control.sock",
        ),
        status_listen: status_listen.unwrap_or(STATUS_LISTEN),
        log: log(checker, raw),
        journal: check_journal::journal(checker, &raw.journal),
    }
}

fn log(checker: &mut Checker<'_>, raw: &Raw) -> LogSettings {
    let key = Key::root().at("log");
    let formats = [("auto", LogFormat::Auto), ("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    let levels = levels.map(|level| (level.as_str(), level));
    LogSettings {
        format: checker.word(&key.at("format"), raw.log.format.as_ref(), &formats).unwrap_or(LogFormat::Auto),
        level: checker.word(&key.at("level"), raw.log.level.as_ref(), &levels).unwrap_or(LogLevel::Info),
    }
}

/// Sites are made by the servers that stand there; their tables only add to that.
fn sites(checker: &mut Checker<'_>, raw: &Raw, engines: &Engines<'_>) {
    let servers = || raw.services.values().flat_map(|service| service.servers.values());
    let used: BTreeSet<&String> = servers().filter_map(|server| server.site.as_ref()).collect();
    let all_stand_somewhere = servers().all(|server| server.site.is_some());
    for (name, site) in &raw.sites {
        let key = Key::root().at("sites").at(name);
        if checker.name::<Name>(&key, name).is_some() && !used.contains(name) && all_stand_somewhere {
            checker.unfit(
                &key,
                format!("no server stands at this site (sites with servers: {})", list(used.iter())),
            );
        }
        if let Some(engine) = &site.engine {
            engines.known(checker, &key.at("engine"), engine);
        }
    }
}
