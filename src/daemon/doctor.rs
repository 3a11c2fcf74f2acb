//! What would keep supervisor from its work here, part by part: each room looks at its own. Nothing is changed, and nobody is told.

use super::alerts::{peer, relay};
use super::edges::{docker_engine, validator, watched};
use super::once::{owner, printed};
use crate::actuator::docker;
use crate::actuator::docker::doctor::Shares;
use crate::actuator::haproxy::doctor::{Files, Patient, Wanted};
use crate::actuator::haproxy::{self, IdentError, MapPath};
use crate::alert::{alertmanager, email};
use crate::chain::chain;
use crate::domain::{EngineId, ProxyId};
use crate::finding::{Examined, Finding};
use crate::settings::{AlertmanagerSettings, ConfigMode, MailSettings, ProxySettings, ProxySocket, Settings};
use crate::store;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use rustix::fs::{Access, access, statvfs};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tokio::time::timeout;

/// How long one part may take. What is asked has deadlines of its own that end before; a name server may have none.
const PART_DEADLINE: Duration = Duration::from_secs(30);

/// Less room than this for the journal, and a busy night fills it: a hundred bytes a record, and the hourly snapshot.
const ROOM_MIN: u64 = 256 << 20;

/// Before this nobody ran this program: 1 January 2025. A machine without a battery for its clock wakes up in 1970.
const EARLIEST: i64 = 1_735_689_600;

/// Looks at every part at once; the answer is in the order of the settings.
pub async fn examine(settings: &Settings) -> Vec<Examined> {
    let mut parts: Vec<(String, BoxFuture<'_, Vec<Finding>>)> =
        vec![("here".to_owned(), here(settings).boxed())];
    for (id, wanted) in &settings.proxies {
        parts.push((format!("haproxy {id}"), proxy(settings, *id, wanted).boxed()));
    }
    for (id, wanted) in &settings.engines {
        let engine = docker_engine(*id, wanted);
        let looked = async move {
            docker::doctor::examine(&engine, &watched(settings, engine.id), &shares(settings, engine.id))
                .await
        };
        parts.push((format!("docker {id}"), looked.boxed()));
    }
    for (id, wanted) in &settings.alertmanagers {
        parts.push((format!("alertmanager {id}"), alertmanager_of(peer(*id, wanted), wanted).boxed()));
    }
    if let Some(mail) = &settings.mail {
        parts.push(("mail".to_owned(), relays(mail).boxed()));
    }
    let looks = parts.into_iter().map(|(about, look)| async move {
        let findings = timeout(PART_DEADLINE, look).await.unwrap_or_else(|_| {
            vec![Finding::error(
                "deadline",
                format!("no end within {} s", PART_DEADLINE.as_secs()),
                "see whether its disk, network or name server hangs",
            )]
        });
        Examined { about, findings }
    });
    join_all(looks).await
}

/// This machine: the state directory, and the clock.
async fn here(settings: &Settings) -> Vec<Finding> {
    let dir = settings.state_dir.clone();
    let state = tokio::task::spawn_blocking(move || state_dir(&dir)).await;
    let mut findings: Vec<Finding> = state.into_iter().collect();
    let now = jiff::Timestamp::now();
    if now.as_second() < EARLIEST {
        let fix = "set the clock, and have it synchronised (chrony, systemd-timesyncd): mails and alerts carry its time";
        findings.push(Finding::error("clock", format!("this machine believes that it is {now}"), fix));
    }
    findings
}

fn state_dir(dir: &Path) -> Finding {
    let shown = dir.display();
    // What is not there yet is made within the first directory that is.
    let there = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    if !there.is_dir() {
        return Finding::error(
            "state_dir",
            format!("{} is no directory", there.display()),
            "move it away, or set another state_dir",
        );
    }
    if let Err(error) = access(there, Access::WRITE_OK | Access::EXEC_OK) {
        let fix = format!(
            "give it to supervisor's user (`install -d -m 750 -o USER {shown}`), or set another state_dir"
        );
        return Finding::error(
            "state_dir",
            format!("{} cannot be written to: {error}", there.display()),
            fix,
        );
    }
    let free = statvfs(there).map_or(u64::MAX, |room| room.f_bavail.saturating_mul(room.f_frsize));
    if free < ROOM_MIN {
        let words = format!("the disk of {shown} has {} MiB left", free >> 20);
        return Finding::warning(
            "state_dir",
            words,
            "make room: with a full disk orders and mails do not outlive a crash",
        );
    }
    match fs::exists(dir) {
        Ok(true) => Finding::ok("state_dir", format!("{shown} can be written to")),
        Ok(false) | Err(_) => Finding::ok("state_dir", format!("{shown} is not there yet, and can be made")),
    }
}

async fn proxy(settings: &Settings, id: ProxyId, wanted: &ProxySettings) -> Vec<Finding> {
    match patient(settings, id, wanted).await {
        Ok(patient) => haproxy::doctor::examine(&patient).await,
        Err(error) => vec![Finding::error(
            "settings",
            chain(&error),
            "give it a name or a path that HAProxy's configuration can hold",
        )],
    }
}

async fn patient(settings: &Settings, id: ProxyId, wanted: &ProxySettings) -> Result<Patient, IdentError> {
    let services = settings.policy.services.iter().filter(|(_, policy)| policy.proxies.contains(&id));
    let services = services.map(|(service, policy)| {
        let names = |site| policy.servers_at(site).map(|name| name.to_string()).collect();
        let known = settings.services.get(service);
        Wanted {
            service: service.to_string(),
            sites: policy.prefer.iter().map(|site| (site.to_string(), names(*site))).collect(),
            http_check: known
                .is_some_and(|known| matches!(known.ready.check, crate::settings::Check::Http(_))),
        }
    });
    let map_path: MapPath = wanted.map_path.to_string_lossy().parse()?;
    Ok(Patient {
        runtime: haproxy::plan::runtime(wanted),
        admin: haproxy::plan::socket(&wanted.admin_socket),
        master: haproxy::plan::socket(&wanted.master_socket),
        socket_gid: wanted.admin_gid,
        owner: store::owner_in(&settings.state_dir),
        external: wanted.config == ConfigMode::External,
        files: Files {
            config: wanted.config_file.clone(),
            map: wanted.map_file.clone(),
            state: wanted.state_file.clone(),
        },
        config_path: wanted.config_path.clone(),
        map_path,
        rendered: printed(settings, id, wanted, &owner(settings)).await.map_err(|error| chain(&error)),
        validator: validator(settings, wanted),
        binds: haproxy::plan::binds(wanted),
        services: services.collect(),
    })
}

/// What the HAProxy instances in containers of this engine must share with us.
fn shares(settings: &Settings, engine: EngineId) -> Vec<Shares> {
    let of = |proxy: &ProxySettings| {
        let container = proxy.container.as_ref().filter(|container| container.engine == engine)?;
        let mut paths = vec![("map_path", proxy.map_path.clone())];
        if proxy.config == ConfigMode::Managed {
            paths.push(("config_path", proxy.config_path.clone()));
            paths.push(("state_path", proxy.state_path.clone()));
        }
        if let ProxySocket::Unix(path) = &proxy.admin_path {
            paths.push(("admin_path", path.clone()));
        }
        Some(Shares { container: container.name.clone(), paths })
    };
    settings.proxies.values().filter_map(of).collect()
}

async fn alertmanager_of(
    peer: Result<alertmanager::Peer, String>,
    wanted: &AlertmanagerSettings,
) -> Vec<Finding> {
    let reached = match peer {
        Ok(peer) => alertmanager::reach(&peer).await,
        Err(words) => Err(words),
    };
    match reached {
        Ok(reached) if reached.ahead_ms == 0 => {
            vec![Finding::ok(
                "alertmanager",
                format!("Alertmanager {} answers at {}", reached.version, wanted.url),
            )]
        }
        Ok(reached) => {
            let way = if reached.ahead_ms > 0 { "ahead of" } else { "behind" };
            let words = format!("its clock is {} s {way} ours", reached.ahead_ms.unsigned_abs() / 1000);
            vec![Finding::warning(
                "clock",
                words,
                "synchronise the clocks of both machines: alerts begin and end by them",
            )]
        }
        Err(words) => vec![Finding::error(
            "alertmanager",
            words,
            "until then people are told by mail only (`supervisor test-alert` tries both ways)",
        )],
    }
}

async fn relays(mail: &MailSettings) -> Vec<Finding> {
    let wanted = mail.helo.clone().unwrap_or_else(super::start::hostname);
    let helo = email::Helo::parse(&wanted).unwrap_or_else(|_| email::Helo::nameless());
    let tried = mail.relays.iter().map(|settings| {
        let relay = relay(settings, &helo);
        async move {
            let (name, at) = (settings.name.as_str(), &settings.address);
            match email::reach(&relay, &email::Deadlines::default()).await {
                Ok(()) => Finding::ok("relay", format!("{name} at {at} takes mail from us, as far as login and good-bye")),
                Err(fault) => Finding::error(
                    "relay",
                    format!("{name} at {at}: {fault}"),
                    "correct host, port, tls, user or password of the relay; `supervisor test-alert` sends a mail",
                ),
            }
        }
    });
    join_all(tried).await
}
