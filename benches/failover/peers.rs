//! The peers, and how each is put in front of the same two servers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Serialize, Serializer};

use crate::script::{self, Script};
use crate::support::docker::Engine;
use crate::support::stack::{CLOUD, ONPREM, SUPERVISOR};
use crate::support::{dropin, haproxy, stack};

/// One way to run the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Peer {
    /// A script polls, copies a configuration and restarts the proxy.
    Script,
    /// HAProxy alone with the two server lines of the project's beginning.
    HaproxySeed,
    /// HAProxy alone with the configuration that supervisor renders.
    HaproxyTuned,
    /// The stack as shipped.
    Supervisor,
    /// The same, its configuration without `observe`: what supervisor adds by itself.
    SupervisorNoobserve,
}

impl Peer {
    /// All of them, in the order of the issue.
    pub(crate) const ALL: [Self; 5] =
        [Self::Script, Self::HaproxySeed, Self::HaproxyTuned, Self::Supervisor, Self::SupervisorNoobserve];

    /// How long after the fault the measurement ends: the script needs up to 10 s to look at all.
    pub(crate) fn window(self) -> Duration {
        Duration::from_secs(if self == Self::Script { 25 } else { 15 })
    }

    /// The longest cadence of the peer: the fault comes at a random moment of it.
    pub(crate) fn phase(self) -> Duration {
        // HAProxy's and supervisor's probes come at least once a second, jitter included.
        if self == Self::Script { script::PERIOD } else { Duration::from_secs(2) }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Script => "script",
            Self::HaproxySeed => "haproxy-seed",
            Self::HaproxyTuned => "haproxy-tuned",
            Self::Supervisor => "supervisor",
            Self::SupervisorNoobserve => "supervisor-noobserve",
        })
    }
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|peer| peer.to_string() == text);
        let all = Self::ALL.map(|peer| peer.to_string()).join(", ");
        known.ok_or_else(|| anyhow!("{text:?} is no peer; there are {all}"))
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A peer with or without the queue trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Setup {
    /// Who is in front.
    pub(crate) peer: Peer,
    /// Whether the on-prem server has `maxconn 32`.
    pub(crate) maxconn: bool,
}

/// A configuration of HAProxy alone: the head that every HAProxy needs to run here, and these server lines.
pub(crate) fn seed_config(server_lines: &str) -> String {
    format!(
        "# bench: the two-line HAProxy of the project's beginning
global
    stats socket /run/haproxy/admin.sock mode 660 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
resolvers docker_dns
    nameserver dns 127.0.0.11:53
frontend http
    bind *:8080
    default_backend api_backend
backend api_backend
{server_lines}"
    )
}

fn seed_servers(maxconn: bool) -> String {
    let limit = if maxconn { "maxconn 32 " } else { "" };
    format!(
        "    server onprem {}:5000 {limit}check resolvers docker_dns\n    \
         server cloud {}:5000 check backup resolvers docker_dns\n",
        ONPREM.container, CLOUD.container
    )
}

/// The stack while the bench has it.
pub(crate) struct Stage {
    /// The engine that runs the stack.
    pub(crate) engine: Engine,
    supervised: bool,
    script: Option<Script>,
}

impl Stage {
    /// The stack as it was found.
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, supervised: true, script: None }
    }

    /// Puts a peer in front and waits until it serves from on-prem.
    pub(crate) async fn enter(&mut self, setup: Setup) -> Result<()> {
        self.script = None;
        match setup.peer {
            Peer::Supervisor | Peer::SupervisorNoobserve => self.supervised(setup).await?,
            Peer::HaproxyTuned => {
                let config = self.tuned_config(setup).await?;
                self.alone(&config).await?;
            }
            Peer::HaproxySeed => self.alone(&seed_config(&seed_servers(setup.maxconn))).await?,
            Peer::Script => {
                let line = format!("    server onprem {}:5000\n", ONPREM.container);
                self.alone(&seed_config(&line)).await?;
                self.script = Some(Script::start(setup.maxconn).await?);
            }
        }
        Ok(())
    }

    /// Waits until everything is well and on-prem serves.
    pub(crate) async fn until_well(&self, deadline: Duration) -> Result<()> {
        // Mended more than once: a server that wakes up under thousands of waiting requests can die of them.
        const MENDINGS: u32 = 3;
        let mut result = Ok(());
        for _ in 0..MENDINGS {
            stack::mend_servers(&self.engine).await?;
            result = stack::until_onprem_serves(deadline / MENDINGS).await;
            if result.is_ok() {
                break;
            }
        }
        result?;
        if self.supervised {
            stack::until_supervisor_is_content(deadline).await?;
        }
        Ok(())
    }

    /// The stack as `make up` leaves it.
    pub(crate) async fn restore(&mut self) -> Result<()> {
        self.script = None;
        self.engine.stop(SUPERVISOR).await?;
        haproxy::remove(haproxy::CONFIG).await?;
        haproxy::restart().await?;
        stack::put_right(&self.engine, Duration::from_secs(60)).await
    }

    /// Supervisor from its first start: no configuration of another peer, the drop-in of this one.
    async fn supervised(&mut self, setup: Setup) -> Result<()> {
        self.engine.stop(SUPERVISOR).await?;
        dropin::set(&self.engine, &dropin_for(setup)).await?;
        haproxy::remove(haproxy::CONFIG).await?;
        haproxy::restart().await?;
        self.engine.start(SUPERVISOR).await?;
        self.supervised = true;
        stack::until_supervisor_is_content(Duration::from_secs(60)).await
    }

    /// What supervisor rendered and put live, with the map as it stood when on-prem served.
    async fn tuned_config(&mut self, setup: Setup) -> Result<String> {
        if let Some(path) = std::env::var_os("TUNED_CFG") {
            let text = std::fs::read_to_string(&path);
            let text = text.with_context(|| format!("cannot read TUNED_CFG={}", path.display()))?;
            return Ok(if setup.maxconn { with_maxconn(&text) } else { text });
        }
        self.supervised(Setup { peer: Peer::Supervisor, ..setup }).await?;
        stack::until_onprem_serves(Duration::from_secs(60)).await?;
        haproxy::read(haproxy::CONFIG).await?.context("supervisor rendered no configuration")
    }

    /// HAProxy by itself on `config`, from a fresh start.
    async fn alone(&mut self, config: &str) -> Result<()> {
        self.engine.stop(SUPERVISOR).await?;
        self.supervised = false;
        haproxy::write(haproxy::CONFIG, config).await?;
        haproxy::check().await?;
        haproxy::restart().await
    }
}

/// The on-prem server's own line, not where it is somebody's backup, with the queue trap.
fn with_maxconn(config: &str) -> String {
    let address = format!("{}:5000", ONPREM.container);
    let trapped = |line: &str| {
        let own = line.contains(&address) && !line.contains(" backup");
        if own { format!("{line} maxconn 32\n") } else { format!("{line}\n") }
    };
    config.lines().map(trapped).collect()
}

/// The settings in which a supervised peer differs from the stack as shipped.
fn dropin_for(setup: Setup) -> String {
    // The bench fails over and back all the time, which the shipped limit takes for trouble and stops.
    let mut text = "[services.api.failback]\nlimit = 32\nlimit_window = \"1m\"\n".to_owned();
    if setup.peer == Peer::SupervisorNoobserve {
        text.push_str("[proxies.haproxy-server]\nobserve = \"off\"\n");
    }
    if setup.maxconn {
        text.push_str(&format!("[services.api.servers.{}]\nmaxconn = 32\n", ONPREM.container));
    }
    text
}
