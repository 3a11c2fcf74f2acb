//! What HAProxy has of the services: the map, its backends, its servers and how it checks them.

use super::super::command::Command;
use super::super::naming;
use super::super::observe::{Observed, observe};
use super::super::runtime::Worker;
use super::super::{files, reply};
use super::{Patient, Wanted};
use crate::chain::chain;
use crate::finding::Finding;
use std::collections::{BTreeMap, BTreeSet};

/// More names in one sentence help nobody.
const NAMES_MAX: usize = 5;

pub(super) async fn examine(patient: &Patient, findings: &mut Vec<Finding>) {
    let seen = match observe(&patient.runtime, &patient.map_path).await {
        Ok(seen) => seen,
        Err(error) => {
            findings.push(Finding::error(
                "map",
                chain(&error),
                "look into HAProxy's log; see that its version is a known one",
            ));
            return;
        }
    };
    let backends = patient.runtime.ask(Worker::Current, &Command::show_backend()).await;
    let backends = backends.ok().and_then(|said| reply::backends(&said).ok()).unwrap_or_default();
    findings.push(map(patient, &seen));
    let path = patient.files.map.clone();
    let file = tokio::task::spawn_blocking(move || files::read_if_there(&path)).await;
    let file = file.ok().and_then(Result::ok).flatten();
    findings.extend(map_file(patient, &seen, file.as_deref()));
    let missing = missing_backends(patient, &backends);
    let whole = missing.is_none();
    findings.extend(missing);
    if whole {
        findings.push(checks(patient, &seen));
    }
}

/// Whether HAProxy routes by the map at all.
fn map(patient: &Patient, seen: &Observed) -> Finding {
    let map = &patient.map_path;
    if let Some(routes) = &seen.routes {
        return Finding::ok("map", format!("HAProxy routes by {map} ({} entries)", routes.len()));
    }
    if !patient.external {
        return Finding::warning(
            "map",
            format!("HAProxy does not route by {map} yet"),
            "`supervisor run` loads the configuration that does",
        );
    }
    let lines = patient.services.iter().filter_map(|wanted| {
        let (site, _) = wanted.sites.first()?;
        let default = naming::pool_backend(&wanted.service, site).ok()?;
        Some(format!("    use_backend %[str({}),map_str({map},{default})]", wanted.service))
    });
    Finding::error(
        "map",
        format!("HAProxy does not route by {map}: no traffic can be moved"),
        "put into the frontend of each service, with its own condition where several share one:",
    )
    .with_lines(lines.collect())
}

/// What the next start of HAProxy would begin with.
fn map_file(patient: &Patient, seen: &Observed, file: Option<&[u8]>) -> Option<Finding> {
    let live = seen.routes.as_ref()?;
    let shown = patient.files.map.display();
    let Some(file) = file else {
        return Some(Finding::error(
            "map_file",
            format!(
                "there is no {shown}, and HAProxy has a map of that name in its view ({})",
                patient.map_path
            ),
            "share the directory of the map with HAProxy: map_file is what it is called here, map_path what HAProxy calls it",
        ));
    };
    let text = String::from_utf8_lossy(file);
    let entries = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next().filter(|key| !key.starts_with('#'))?, words.next()?))
    });
    let file: BTreeMap<&str, &str> = entries.collect();
    let differs: Vec<&str> = patient
        .services
        .iter()
        .map(|wanted| wanted.service.as_str())
        .filter(|service| live.get(*service).map(String::as_str) != file.get(service).copied())
        .collect();
    match differs.as_slice() {
        [] => Some(Finding::ok("map_file", format!("{shown} says what HAProxy does"))),
        some => Some(Finding::warning(
            "map_file",
            format!("{shown} differs from what HAProxy does for {}", names(some.iter().copied())),
            "a daemon writes it within seconds; if it stays so, HAProxy reads another file: share its directory (map_path)",
        )),
    }
}

/// Backends that the services need, and HAProxy has not: it would send their traffic to its default backend.
fn missing_backends(patient: &Patient, there: &BTreeSet<String>) -> Option<Finding> {
    let wanted = patient.services.iter().flat_map(|wanted| {
        let backend =
            move |site: &str| naming::pool_backend(&wanted.service, site).ok().map(|name| name.to_string());
        wanted.sites.iter().filter_map(move |(site, _)| backend(site))
    });
    let missing: Vec<String> = wanted.filter(|backend| !there.contains(backend)).collect();
    if missing.is_empty() {
        return None;
    }
    let words = format!("HAProxy has no backend {}", names(missing.iter().map(String::as_str)));
    if !patient.external {
        return Some(Finding::warning(
            "backends",
            words,
            "`supervisor run` loads the configuration that has them",
        ));
    }
    let fix = "add a backend for each service and site; what supervisor would write:";
    let rendered = patient.rendered.as_ref().ok();
    let lines = rendered.map(|rendered| sections(&rendered.text, &missing)).unwrap_or_default();
    Some(Finding::error("backends", words, fix).with_lines(lines))
}

/// The sections of these backends, less what only our own template has.
fn sections(text: &str, backends: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if !line.starts_with(char::is_whitespace) && !line.is_empty() {
            within = words.next() == Some("backend")
                && words.next().is_some_and(|name| backends.iter().any(|b| b == name));
        }
        if within && !line.trim().is_empty() {
            // `from` names a `defaults` section of ours.
            let is_head = !line.starts_with(char::is_whitespace);
            lines.push(match is_head {
                true => line.split(" from ").next().unwrap_or(line).to_owned(),
                false => line.to_owned(),
            });
        }
    }
    lines
}

/// Whether HAProxy looks after each server by itself, as well as we do: it is what is left when we are gone.
fn checks(patient: &Patient, seen: &Observed) -> Finding {
    let (mut absent, mut blind, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for (wanted, backend, server) in patient.services.iter().flat_map(servers) {
        let name = format!("{}/{server}", wanted.service);
        match seen.servers.get(&(backend, server.to_owned())) {
            None => absent.push(name),
            Some(server) => match server.check_status.as_deref() {
                None | Some("") => blind.push(name),
                Some("L4OK") if wanted.http_check => bare.push(name),
                Some(_) => {}
            },
        }
    }
    let all = |names_of: &[String]| names(names_of.iter().map(String::as_str));
    if !absent.is_empty() {
        return Finding::warning(
            "servers",
            format!("HAProxy has no server {}", all(&absent)),
            "it is in the settings: `supervisor run` loads it, or add it to a configuration of your own",
        );
    }
    if !blind.is_empty() {
        return Finding::warning(
            "checks",
            format!("HAProxy does not check {}: while supervisor is down nothing fails over", all(&blind)),
            "give those servers `check` (and the backup lines `track`)",
        );
    }
    if !bare.is_empty() {
        return Finding::warning(
            "checks",
            format!("HAProxy only connects to {}: a frozen process accepts that, too", all(&bare)),
            "give their backends `option httpchk` with the path of the `ready` probe",
        );
    }
    Finding::ok("checks", "HAProxy has every server, and checks it by itself")
}

fn servers(wanted: &Wanted) -> impl Iterator<Item = (&Wanted, String, &str)> {
    wanted.sites.iter().flat_map(move |(site, servers)| {
        let backend =
            naming::pool_backend(&wanted.service, site).map(|name| name.to_string()).unwrap_or_default();
        servers.iter().map(move |server| (wanted, backend.clone(), server.as_str()))
    })
}

fn names<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = all.take(NAMES_MAX + 1).collect();
    if names.len() > NAMES_MAX {
        names[NAMES_MAX] = "…";
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_head_of_a_section_is_cut() {
        let text = "backend api__cloud from main\n    http-request deny if { src -f /from x } # from here\nbackend x from main\n    y\n";
        let lines = sections(text, &["api__cloud".to_owned()]);
        assert_eq!(lines, ["backend api__cloud", "    http-request deny if { src -f /from x } # from here"]);
    }
}
