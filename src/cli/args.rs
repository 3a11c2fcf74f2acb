//! What can be typed. The words of `--help` are the words of docs/cli.md.

use super::Usage;
use crate::domain::id::{ProxyId, ServiceId, SiteId};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Where the settings are unless `--config` says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/supervisor/supervisor.toml";

const AFTER_HELP: &str = "Exit codes: 0 well or done, 1 degraded or denied, 2 a service is down, 64 usage or bad settings, \
     69 a part that is needed is out of reach, 70 a bug, 75 ordered but not in force in time.";

/// Keeps services in Docker behind HAProxy reachable when a server, a container or a site dies.
#[derive(Debug, Parser)]
#[command(name = "supervisor", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,

    /// Look once, print what was found, what would be done and why, and end.
    #[arg(long)]
    once: bool,

    /// With --once: also do it; through the daemon, if one runs.
    #[arg(long, requires = "once")]
    apply: bool,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The settings.
    #[arg(long, global = true, value_name = "FILE", env = "SUPERVISOR_CONFIG", default_value = DEFAULT_CONFIG)]
    pub(crate) config: PathBuf,

    /// The daemon's control socket [default: as the settings say, else /run/supervisor/control.sock].
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// How results are written.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs: one document, or one a line where there are several.
    Json,
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum Command {
    /// Watch and act, until stopped.
    Run(RunArgs),
    /// The same as `supervisor --once`.
    #[command(hide = true)]
    Once(OnceArgs),
    /// Show where services are served and how their servers are. The exit code is the grade.
    Status(StatusArgs),
    /// Say why a service is where it is, and what happened to it lately.
    Explain(ExplainArgs),
    /// Move a service's traffic to a site, with an override that prefers it from now on.
    Failover(FailoverArgs),
    /// End the override, and move the traffic to the best healthy site.
    Failback(FailbackArgs),
    /// Show the containers that are kept running: who ended what, and what is done about it.
    Containers(ContainersArgs),
    /// Read the settings and print every error in them.
    CheckConfig,
    /// Print the HAProxy configuration that the settings lead to.
    Render(RenderArgs),
    /// Show what happened.
    Events(EventsArgs),
}

/// `run`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct RunArgs {
    /// Drive HAProxy instances that belong to another supervisor.
    #[arg(long)]
    pub(crate) take_over: bool,
}

/// `--once`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct OnceArgs {
    /// Also do what would be done; through the daemon, if one runs.
    #[arg(long)]
    pub(crate) apply: bool,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct StatusArgs {
    /// Show it again every second, until interrupted.
    #[arg(long)]
    pub(crate) watch: bool,
}

/// `explain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ExplainArgs {
    /// The service.
    pub(crate) service: ServiceId,
}

/// `failover`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct FailoverArgs {
    /// The service.
    pub(crate) service: ServiceId,

    /// The site that its traffic goes to.
    #[arg(long, value_name = "SITE")]
    pub(crate) to: SiteId,

    /// Even if the site is not known to be healthy.
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// `failback`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct FailbackArgs {
    /// The service.
    pub(crate) service: ServiceId,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// What both orders take.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct OrderArgs {
    /// Only say what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Why, for the journal and for whoever reads the status.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `containers`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ContainersArgs {
    /// This one only.
    pub(crate) container: Option<String>,
}

/// `render`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct RenderArgs {
    /// For this HAProxy only, where the settings name several.
    #[arg(long, value_name = "NAME")]
    pub(crate) proxy: Option<ProxyId>,
}

/// `events`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct EventsArgs {
    /// Go on with what happens from now on, until interrupted.
    #[arg(long, short)]
    pub(crate) follow: bool,

    /// How many past ones.
    #[arg(long, short = 'n', default_value_t = 50, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) limit: u16,
}

impl Cli {
    /// The one thing that is to be done.
    pub(crate) fn into_command(self) -> Result<(Global, Command), Usage> {
        let command = match (self.once, self.command) {
            (true, None) => Command::Once(OnceArgs { apply: self.apply }),
            (false, Some(command)) => command,
            (true, Some(_)) => return Err(Usage("--once stands alone, without another command".to_owned())),
            (false, None) => {
                return Err(Usage("what is to be done? `supervisor --help` lists it".to_owned()));
            }
        };
        Ok((self.global, command))
    }
}
