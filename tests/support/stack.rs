//! The stack of `compose/`: its names and addresses, how to make the demo API ill, who may use it, and what
//! "all is well" means.

use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::docker::Engine;
use super::wait::{self, Seen};
use super::{dropin, faults, haproxy, supervisor};

/// The proxy's container.
pub(crate) const HAPROXY: &str = "haproxy-server";
/// The daemon's container.
pub(crate) const SUPERVISOR: &str = "supervisor";
/// Who tells people, as long as it runs.
pub(crate) const ALERTMANAGER: &str = "alertmanager";
/// The mail server, with the box of what was mailed.
pub(crate) const MAIL: &str = "mail";
/// Where clients come in.
pub(crate) const FRONT_URL: &str = "http://127.0.0.1:8080";
/// What the traffic asks for: real work of the API, not its health.
pub(crate) const TRAFFIC_URL: &str = "http://127.0.0.1:8080/items";
/// Supervisor's status page and API.
pub(crate) const SUPERVISOR_URL: &str = "http://127.0.0.1:9480";
/// Prometheus' page and API.
pub(crate) const PROMETHEUS_URL: &str = "http://127.0.0.1:9090";
/// Alertmanager's page and API.
pub(crate) const ALERTMANAGER_URL: &str = "http://127.0.0.1:9093";

/// One server of the demo's service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    /// Its container.
    pub(crate) container: &'static str,
    /// Its site, as the `X-Site` header names it.
    pub(crate) site: &'static str,
    /// Its address, not through HAProxy.
    pub(crate) url: &'static str,
}

/// The preferred server.
pub(crate) const ONPREM: Server =
    Server { container: "api-onprem", site: "onprem", url: "http://127.0.0.1:5000" };
/// The other one.
pub(crate) const CLOUD: Server =
    Server { container: "api-cloud", site: "cloud", url: "http://127.0.0.1:5001" };

/// An order to the API by hand answers in a millisecond; anything longer is an API that does not.
const HTTP_DEADLINE: Duration = Duration::from_secs(3);

/// How the API itself can be ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sickness {
    /// `/health` answers 500, everything else works.
    Health500,
}

impl Server {
    /// Makes the API ill.
    pub(crate) async fn fall_ill(&self, sickness: Sickness) -> Result<()> {
        self.order(reqwest::Method::POST, &self.sickness_url(sickness)).await
    }

    /// Ends every illness.
    pub(crate) async fn get_well(&self) -> Result<()> {
        self.order(reqwest::Method::DELETE, &self.health_restored_url()).await
    }

    /// Where a POST makes the API ill.
    pub(crate) fn sickness_url(&self, sickness: Sickness) -> String {
        match sickness {
            Sickness::Health500 => format!("{}/fault/health500", self.url),
        }
    }

    /// Where a DELETE ends every illness.
    pub(crate) fn health_restored_url(&self) -> String {
        format!("{}/fault", self.url)
    }

    async fn order(&self, method: reqwest::Method, url: &str) -> Result<()> {
        let sent = http()?.request(method, url).send().await;
        let response = sent.with_context(|| format!("{} takes no orders at {url}", self.container))?;
        if !response.status().is_success() {
            bail!("{} answers {} to an order at {url}", self.container, response.status());
        }
        Ok(())
    }
}

/// A client for single questions, a fresh connection each.
pub(crate) fn http() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .timeout(HTTP_DEADLINE)
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot build an HTTP client")
}

/// GETs a JSON document.
pub(crate) async fn get_json(url: &str) -> Result<Value> {
    let response = http()?.get(url).send().await.with_context(|| format!("no answer from {url}"))?;
    let status = response.status();
    let body = response.bytes().await.with_context(|| format!("no complete answer from {url}"))?;
    if !status.is_success() {
        bail!("{url} answers {status}: {}", String::from_utf8_lossy(&body).trim());
    }
    serde_json::from_slice(&body).with_context(|| format!("{url} does not answer with JSON"))
}

/// The right to use the stack; it ends when this is dropped, or with the process.
pub(crate) struct Lease {
    _file: File,
}

/// Takes the stack for this process, waiting until `patience` for another user (the demo, the bench, a test) to end.
pub(crate) async fn lease(patience: Duration) -> Result<Lease> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "target", "stack.lock"].iter().collect();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let file = File::options().create(true).append(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    wait::until("the stack to be free (the demo, the bench or a test uses it)", patience, || async {
        match file.try_lock() {
            Ok(()) => Ok(Seen::Yes(())),
            Err(std::fs::TryLockError::WouldBlock) => {
                Ok(Seen::NotYet("another process uses the stack".into()))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(error).context("cannot lock it"),
        }
    })
    .await?;
    Ok(Lease { _file: file })
}

/// Fails with what to do when the stack's containers are not there.
pub(crate) async fn require_up(engine: &Engine) -> Result<()> {
    for name in [ONPREM.container, CLOUD.container, HAPROXY, SUPERVISOR, ALERTMANAGER, MAIL] {
        engine.inspect(name).await.with_context(|| format!("the stack is not up ({name}): run `make up`"))?;
    }
    Ok(())
}

/// The site that answers through HAProxy, or why none does.
pub(crate) async fn serving_site() -> Result<String> {
    let response = http()?.get(TRAFFIC_URL).send().await.context("HAProxy gives no answer")?;
    if !response.status().is_success() {
        bail!("HAProxy answers {}", response.status());
    }
    let site = response.headers().get("x-site").and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(site.to_owned())
}

/// Makes the two servers whole, whatever an earlier program did to them.
pub(crate) async fn mend_servers(engine: &Engine) -> Result<()> {
    for server in [ONPREM, CLOUD] {
        faults::mend(engine, &server).await?;
    }
    Ok(())
}

/// Brings the stack to where `make up` leaves it: everything runs, no drop-in, no person's order, on-prem serves.
pub(crate) async fn put_right(engine: &Engine, deadline: Duration) -> Result<()> {
    dropin::set(engine, "").await?;
    for name in [HAPROXY, SUPERVISOR, MAIL, ALERTMANAGER] {
        let found = engine.inspect(name).await?;
        if found.paused {
            engine.unpause(name).await?;
        } else if !found.running {
            engine.start(name).await?;
        }
    }
    mend_servers(engine).await?;
    let ordered = &AtomicBool::new(false);
    wait::until("supervisor to report every server healthy and on-prem to serve", deadline, || async {
        let services = supervisor::services().await?;
        let Some(unwell) = services.iter().find(|service| !service.all_well()) else {
            return Ok(if services.is_empty() { Seen::NotYet("no service".into()) } else { Seen::Yes(()) });
        };
        // Only an order of a person still keeps it away, or the failback time; either ends by this.
        if unwell.servers_up() && !ordered.swap(true, Relaxed) {
            for server in unwell.servers.iter().filter(|server| server.out) {
                supervisor::command(&["ready", &format!("{}/{}", unwell.name, server.name)]).await?;
            }
            supervisor::command(&["failback", &unwell.name]).await?;
        }
        Ok(Seen::NotYet(unwell.in_short()))
    })
    .await
}

/// Waits until both servers are healthy by their own word, HAProxy sees no server down, and on-prem serves.
pub(crate) async fn until_onprem_serves(deadline: Duration) -> Result<()> {
    // In a row, over several checks of HAProxy: a server that is up for one check is not yet well.
    const IN_A_ROW: u32 = 5;
    let good = &AtomicU32::new(0);
    wait::until("both servers to be healthy and on-prem to serve", deadline, || {
        let before = good.swap(0, Relaxed);
        async move {
            for server in [ONPREM, CLOUD] {
                get_ok(&format!("{}/health", server.url)).await?;
            }
            let site = serving_site().await?;
            if site != ONPREM.site {
                return Ok(Seen::NotYet(format!("{site} serves")));
            }
            let servers = haproxy::servers().await?;
            // The rescue lines rest in MAINT; a line without a check says so.
            let down =
                servers.iter().find(|line| !["UP", "MAINT", "no check"].contains(&line.status.as_str()));
            if let Some(line) = down {
                return Ok(Seen::NotYet(format!(
                    "HAProxy has {}/{} {}",
                    line.backend, line.server, line.status
                )));
            }
            good.store(before + 1, Relaxed);
            Ok(if before + 1 >= IN_A_ROW {
                Seen::Yes(())
            } else {
                Seen::NotYet("well, but only just".into())
            })
        }
    })
    .await
}

/// Waits until supervisor itself reports every service well.
pub(crate) async fn until_supervisor_is_content(deadline: Duration) -> Result<()> {
    wait::until("supervisor to report every server healthy", deadline, || async {
        let services = supervisor::services().await?;
        let unwell = services.iter().find(|service| !service.all_well());
        Ok(match unwell {
            Some(service) => Seen::NotYet(service.in_short()),
            None if services.is_empty() => Seen::NotYet("its status names no service".into()),
            None => Seen::Yes(()),
        })
    })
    .await
}

/// A 2xx from `url`, or what came instead.
pub(crate) async fn get_ok(url: &str) -> Result<String> {
    let response = http()?.get(url).send().await.with_context(|| format!("no answer from {url}"))?;
    let status = response.status();
    let body = response.text().await.with_context(|| format!("no complete answer from {url}"))?;
    if !status.is_success() {
        bail!("{url} answers {status}");
    }
    Ok(body)
}
