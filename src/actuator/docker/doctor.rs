//! Looks for what would keep us from hearing of one engine's containers and from starting them. Asks, and changes nothing.

use super::engine::{Engine, EngineError};
use super::translate;
use crate::chain::chain;
use crate::domain::id::ContainerName;
use crate::finding::Finding;
use bollard::errors::Error as Cause;
use bollard::models::{ContainerInspectResponse, MountPoint};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Clocks that differ by more confuse whoever compares Docker's log with ours; decisions do not depend on them.
const CLOCKS_DIFFER_MS: i64 = 2_000;

/// Every label of ours begins with this.
const LABELS: &str = "supervisor.";

/// A container that HAProxy runs in, and what it must share with us.
#[derive(Debug, Clone)]
pub struct Shares {
    /// The container.
    pub container: ContainerName,
    /// The settings' key of each path, and the path as the container has it.
    pub paths: Vec<(&'static str, PathBuf)>,
}

/// Looks at the engine, at `containers` and at what HAProxy's share with us.
pub async fn examine(
    engine: &Engine,
    containers: &BTreeSet<ContainerName>,
    shares: &[Shares],
) -> Vec<Finding> {
    let docker = match engine.connect().await {
        Ok(docker) => docker,
        Err(error) => return vec![Finding::error("engine", chain(&error), fix(&error))],
    };
    let mut findings = Vec::new();
    match engine.call("its version", docker.version()).await {
        Ok(version) => findings.push(Finding::ok(
            "engine",
            format!(
                "{} answers: {}, API {}",
                engine.address,
                version.version.as_deref().unwrap_or("no version"),
                version.api_version.as_deref().unwrap_or("unknown")
            ),
        )),
        Err(error) => findings.push(Finding::error("engine", chain(&error), fix(&error))),
    }
    let before = jiff::Timestamp::now();
    if let Ok(info) = engine.call("its time", docker.info()).await
        && let Some(theirs) = info.system_time.and_then(|time| time.parse::<jiff::Timestamp>().ok())
    {
        findings.push(clock(theirs, before));
    }
    for name in containers {
        match engine.call("an inspect", docker.inspect_container(&name.0, None)).await {
            Ok(found) => findings.extend(container(name, &found)),
            Err(EngineError::Failed {
                source: Cause::DockerResponseServerError { status_code: 404, .. },
                ..
            }) => {
                findings.push(Finding::error(
                    "container",
                    format!("there is no container {name}"),
                    "correct its name in the settings (`docker ps --all` lists them), or create it",
                ));
            }
            Err(error) => findings.push(Finding::error("container", chain(&error), fix(&error))),
        }
    }
    for share in shares {
        if let Ok(found) = engine.call("an inspect", docker.inspect_container(&share.container.0, None)).await
        {
            let mounts = found.mounts.unwrap_or_default();
            findings.extend(
                share.paths.iter().filter_map(|(key, path)| shared(&share.container, key, path, &mounts)),
            );
        }
    }
    findings
}

fn fix(error: &EngineError) -> &'static str {
    match error {
        // They say it themselves.
        EngineError::Unreachable { .. } | EngineError::Late { .. } => {
            "see above; until then Docker's events move no traffic and nothing is started"
        }
        EngineError::Failed { .. } | EngineError::Ended { .. } | EngineError::Name { .. } => {
            "see the engine's log; a proxy in front of it must let supervisor's calls through"
        }
    }
}

fn clock(theirs: jiff::Timestamp, ours: jiff::Timestamp) -> Finding {
    let ahead = theirs.as_millisecond().saturating_sub(ours.as_millisecond());
    if ahead.saturating_abs() > CLOCKS_DIFFER_MS {
        let words = format!(
            "the engine's clock is {} ms {}",
            ahead.saturating_abs(),
            if ahead > 0 { "ahead" } else { "behind" }
        );
        return Finding::warning(
            "clock",
            words,
            "synchronise the clocks of both machines (chrony, systemd-timesyncd)",
        );
    }
    Finding::ok("clock", "the engine's clock is ours")
}

fn container(name: &ContainerName, found: &ContainerInspectResponse) -> Vec<Finding> {
    let mut findings = Vec::new();
    let running = found.state.as_ref().and_then(|state| state.running).unwrap_or(false);
    let paused = found.state.as_ref().and_then(|state| state.paused).unwrap_or(false);
    findings.push(match (running, paused) {
        (true, false) => Finding::ok("container", format!("{name} runs")),
        (true, true) => {
            Finding::warning("container", format!("{name} is paused"), format!("docker unpause {name}"))
        }
        (false, _) => Finding::warning(
            "container",
            format!("{name} does not run"),
            format!("`supervisor containers {name}` says why it is left so; `docker start {name}` starts it"),
        ),
    });
    let labels = found.config.as_ref().and_then(|config| config.labels.as_ref());
    let Some(labels) = labels else { return findings };
    if let Err(wrong) = translate::heal_mode(labels) {
        findings.push(Finding::error(
            "labels",
            format!("{name}: {wrong}"),
            "correct the label, and create the container anew",
        ));
    }
    let unknown: BTreeSet<&str> = labels
        .keys()
        .map(String::as_str)
        .filter(|label| label.starts_with(LABELS) && !translate::OUR_LABELS.contains(label))
        .collect();
    if !unknown.is_empty() {
        let unknown: Vec<&str> = unknown.into_iter().collect();
        findings.push(Finding::warning(
            "labels",
            format!("{name} has labels that supervisor does not know: {}", unknown.join(", ")),
            format!(
                "it knows {}; correct them, and create the container anew",
                translate::OUR_LABELS.join(" and ")
            ),
        ));
    }
    findings
}

/// What is wrong with how `path` gets into the container; none if its directory is shared.
fn shared(
    container: &ContainerName,
    key: &'static str,
    path: &Path,
    mounts: &[MountPoint],
) -> Option<Finding> {
    let of = |mount: &&MountPoint| mount.destination.as_ref().is_some_and(|at| path.starts_with(at));
    let depth = |mount: &&MountPoint| mount.destination.as_ref().map_or(0, String::len);
    let shown = path.display();
    let dir = path.parent().unwrap_or(path).display();
    match mounts.iter().filter(of).max_by_key(depth) {
        None => Some(Finding::error(
            "mounts",
            format!("{shown} ({key}) of the container {container} is in no mount: nobody outside sees it"),
            format!("mount a directory of the host at {dir}, and the same one where supervisor looks for it"),
        )),
        Some(mount) if mount.destination.as_deref().map(Path::new) == Some(path) => Some(Finding::error(
            "mounts",
            format!(
                "{shown} ({key}) is mounted into {container} as a single file: a file that replaces it is not seen there"
            ),
            format!("mount its directory {dir}"),
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(at: &str) -> MountPoint {
        MountPoint { destination: Some(at.to_owned()), ..MountPoint::default() }
    }

    #[test]
    fn a_single_file_and_a_path_that_nobody_shares_are_told_from_a_directory() {
        let name = ContainerName("haproxy".to_owned());
        let look = |mounts: &[MountPoint]| {
            shared(&name, "config_path", Path::new("/etc/haproxy/haproxy.cfg"), mounts)
        };
        assert_eq!(look(&[mount("/etc/haproxy"), mount("/run")]), None);
        assert_eq!(look(&[mount("/etc")]), None);
        let file = look(&[mount("/etc"), mount("/etc/haproxy/haproxy.cfg")]).unwrap();
        assert!(file.words.contains("as a single file"), "{}", file.words);
        for mounts in [vec![], vec![mount("/etc/haproxy-other")]] {
            let nobody = look(&mounts).unwrap();
            assert!(nobody.fix.unwrap().contains("at /etc/haproxy,"), "{}", nobody.words);
        }
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        assert_eq!(clock(at(100), at(101)).fix, None);
        assert!(clock(at(100), at(110)).words.contains("10000 ms behind"));
    }

    #[test]
    fn a_label_with_a_typing_error_is_named() {
        let found: ContainerInspectResponse = serde_json::from_value(serde_json::json!({
            "State": { "Running": true, "Paused": false },
            "Config": { "Labels": { "supervisor.heel": "auto", "supervisor.heal": "sometimes", "other": "x" } },
        }))
        .unwrap();
        let words: Vec<String> = container(&ContainerName("api".to_owned()), &found)
            .into_iter()
            .map(|finding| finding.words)
            .collect();
        assert_eq!(words.len(), 3, "{words:?}");
        assert!(words[1].contains("sometimes") && words[2].contains("supervisor.heel"), "{words:?}");
    }
}
