//! HAProxy as the bench and the tests see it: its runtime socket, its configuration file, its map file.
//!
//! Everything goes through `docker exec haproxy-server`, so it works wherever the engine is and needs no access to
//! the volumes. Slow (tens of milliseconds) and therefore never used while something is timed.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::docker;
use super::stack::HAPROXY;

/// Where the container has its configuration.
pub(crate) const CONFIG: &str = "/etc/haproxy/haproxy.cfg";
/// Where supervisor and HAProxy share the map that chooses the site.
pub(crate) const MAP: &str = "/var/lib/haproxy/maps/routes.map";
/// The worker's socket.
const ADMIN_SOCKET: &str = "/run/haproxy/admin.sock";

/// A command inside the container answers at once; a busy machine gets some patience.
const EXEC_DEADLINE: Duration = Duration::from_secs(10);
/// A restart may wait for what HAProxy is still answering (the grace period of compose.yaml).
const RESTART_DEADLINE: Duration = Duration::from_secs(40);

/// One line of `show stat` that is a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerLine {
    /// HAProxy's section.
    pub(crate) backend: String,
    /// The line's name in it.
    pub(crate) server: String,
    /// `UP`, `DOWN`, `UP 1/2`, `MAINT`, `no check`, …
    pub(crate) status: String,
    /// Sessions it had in all.
    pub(crate) sessions: u64,
}

/// Sends one runtime command to the worker.
pub(crate) async fn runtime(command: &str) -> Result<String> {
    let address = format!("UNIX-CONNECT:{ADMIN_SOCKET}");
    let args = ["exec", "-i", HAPROXY, "socat", "-t5", "-", &address];
    let ran = docker::docker(&args, format!("{command}\n").as_bytes(), EXEC_DEADLINE).await?;
    ran.ok().with_context(|| format!("HAProxy's admin socket did not take {command:?}"))
}

/// The servers of `show stat`.
pub(crate) async fn servers() -> Result<Vec<ServerLine>> {
    parse_stat(&runtime("show stat").await?)
}

/// HAProxy's view of the map: key → pool.
pub(crate) async fn live_map() -> Result<BTreeMap<String, String>> {
    let text = runtime(&format!("show map {MAP}")).await?;
    // Each line: pointer, key, value.
    let entry = |line: &str| {
        let mut words = line.split_whitespace().skip(1).map(str::to_owned);
        Some((words.next()?, words.next()?))
    };
    if text.contains("Unknown map identifier") {
        bail!("HAProxy has no map {MAP}; is its configuration supervisor's?");
    }
    Ok(text.lines().filter_map(entry).collect())
}

/// The text of a file in the container, or nothing when there is no such file.
pub(crate) async fn read(path: &str) -> Result<Option<String>> {
    let script = format!("[ ! -e {path} ] || {{ echo present; cat {path}; }}");
    let ran = docker::docker(&["exec", HAPROXY, "sh", "-c", &script], b"", EXEC_DEADLINE).await?;
    let text = ran.ok().with_context(|| format!("cannot read {path} in {HAPROXY}"))?;
    Ok(text.strip_prefix("present\n").map(str::to_owned))
}

/// Replaces a file in the container by rename.
pub(crate) async fn write(path: &str, text: &str) -> Result<()> {
    let script = format!("cat > {path}.bench && mv -f {path}.bench {path}");
    let args = ["exec", "-i", HAPROXY, "sh", "-c", &script];
    let ran = docker::docker(&args, text.as_bytes(), EXEC_DEADLINE).await?;
    ran.ok().with_context(|| format!("cannot write {path} in {HAPROXY}"))?;
    Ok(())
}

/// Removes a file in the container.
pub(crate) async fn remove(path: &str) -> Result<()> {
    let ran = docker::docker(&["exec", HAPROXY, "rm", "-f", path], b"", EXEC_DEADLINE).await?;
    ran.ok().with_context(|| format!("cannot remove {path} in {HAPROXY}"))?;
    Ok(())
}

/// HAProxy's own verdict on its configuration file; its message when it refuses.
pub(crate) async fn check() -> Result<()> {
    let ran = docker::docker(&["exec", HAPROXY, "haproxy", "-c", "-f", CONFIG], b"", EXEC_DEADLINE).await?;
    ran.ok().with_context(|| format!("HAProxy refuses {CONFIG}"))?;
    Ok(())
}

/// `docker restart`: a new process with no memory of what came before.
pub(crate) async fn restart() -> Result<()> {
    // Two seconds: what is still in flight belongs to the run before, which has been measured.
    let ran = docker::docker(&["restart", "--time", "2", HAPROXY], b"", RESTART_DEADLINE).await?;
    ran.ok().with_context(|| format!("cannot restart {HAPROXY}"))?;
    Ok(())
}

/// Reads the CSV of `show stat`; columns by name, since their order is the version's.
pub(crate) fn parse_stat(csv: &str) -> Result<Vec<ServerLine>> {
    let mut lines = csv.lines();
    let head = lines.next().context("`show stat` printed nothing")?;
    let head: Vec<&str> = head.trim_start_matches("# ").split(',').collect();
    let column = |name: &str| {
        head.iter()
            .position(|title| *title == name)
            .with_context(|| format!("`show stat` has no column {name}"))
    };
    let (backend, server, status, sessions) =
        (column("pxname")?, column("svname")?, column("status")?, column("stot")?);
    let mut servers = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or_default().to_owned();
        if !matches!(field(server).as_str(), "FRONTEND" | "BACKEND") {
            servers.push(ServerLine {
                backend: field(backend),
                server: field(server),
                status: field(status),
                sessions: field(sessions).parse().unwrap_or(0),
            });
        }
    }
    Ok(servers)
}
