//! The peer `script`: the method supervisor began as, kept for comparison.
//!
//! Every 10 s it asks on-prem's `/health` on the published port, with 2 s of patience. When the answer differs from the
//! last one it writes a configuration with the one server line that should serve, copies it into the proxy's container
//! and restarts the container.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;

use crate::peers;
use crate::support::stack::{self, CLOUD, ONPREM, Server};
use crate::support::{docker, haproxy};

/// Between two looks, after the work of the last one.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// How long the answer to a look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Docker waits up to 10 s for the proxy to finish, then kills it.
const RESTART_DEADLINE: Duration = Duration::from_secs(40);

/// The running script; it ends when this is dropped.
pub(crate) struct Script {
    task: JoinHandle<()>,
}

impl Script {
    /// Starts it. Its first look always writes a configuration and restarts the proxy; this returns after that.
    pub(crate) async fn start(maxconn: bool) -> Result<Self> {
        let first = wanted().await;
        route_to(first, maxconn).await.context("the script's first look")?;
        Ok(Self { task: tokio::spawn(watch(first, maxconn)) })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(mut last: &'static str, maxconn: bool) {
    loop {
        tokio::time::sleep(PERIOD).await;
        let wanted = wanted().await;
        // Like its model it believes what it did, and says nothing: a failed restart shows in the measurement.
        if last != wanted && route_to(wanted, maxconn).await.is_ok() {
            last = wanted;
        }
    }
}

/// The site that should serve, by one look at on-prem.
async fn wanted() -> &'static str {
    let url = format!("{}/health", ONPREM.url);
    match tokio::time::timeout(PATIENCE, stack::get_ok(&url)).await {
        Ok(Ok(_)) => ONPREM.site,
        Ok(Err(_)) | Err(_) => CLOUD.site,
    }
}

async fn route_to(site: &str, maxconn: bool) -> Result<()> {
    let server: Server = if site == ONPREM.site { ONPREM } else { CLOUD };
    let limit = if maxconn && server.site == ONPREM.site { " maxconn 32" } else { "" };
    let line = format!("    server {} {}:5000{limit}\n", server.site, server.container);
    let file = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    std::fs::write(&file, peers::seed_config(&line)).context("cannot write the configuration")?;
    // `docker cp` keeps the mode, and HAProxy is not root.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).context("cannot set its mode")?;
    let from = file.path().to_string_lossy().into_owned();
    let to = format!("{}:{}", stack::HAPROXY, haproxy::CONFIG);
    docker::docker(&["cp", &from, &to], b"", RESTART_DEADLINE).await?.ok()?;
    docker::docker(&["restart", stack::HAPROXY], b"", RESTART_DEADLINE).await?.ok()?;
    Ok(())
}
