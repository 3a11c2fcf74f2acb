//! What can be typed. The words of `--help` are the words of docs/cli.md.

use super::Usage;
use super::ends::{Ends, LASTS_MAX};
use super::past::Past;
use crate::domain::command::Scope;
use crate::domain::id::{Name, NameError, ProxyId, ServiceId, SiteId};
use crate::domain::time::Span;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::str::FromStr;

/// Where the settings are unless `--config` says otherwise.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/supervisor/supervisor.toml";

const AFTER_HELP: &str = "Exit codes: 0 well or done, 1 degraded, denied or different, 2 a service is down, 64 usage or bad settings, \
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

    /// Whether --config was typed, and is not the environment's or the default.
    #[arg(skip)]
    pub(crate) config_is_typed: bool,
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
    /// Take a server out of service gently: it gets nothing new, and finishes what it has.
    ///
    /// HTTP: requests in flight are answered, and the next one of each client goes elsewhere, also over a connection that
    /// the client keeps. TCP: connections stay until their clients end them. HAProxy goes on checking the server. It lasts
    /// until `ready`, or as long as --for or --until says. Waits until every HAProxy has it so.
    Drain(OutArgs),
    /// Take a server out of service for maintenance.
    ///
    /// As `drain`, but connections in TCP mode are cut at once, and HAProxy no longer checks the server.
    Maint(OutArgs),
    /// Put a server back into service, whoever took it out.
    Ready(ReadyArgs),
    /// Go on observing and alerting, and do nothing by yourself.
    Pause(PauseArgs),
    /// End a pause.
    Resume(ResumeArgs),
    /// Show the containers that are kept running: who ended what, and what is done about it.
    Containers(ContainersArgs),
    /// Show the mails of supervisor's own: what they tell, and which relay has them.
    Outbox(OutboxArgs),
    /// Raise an alert and send a mail about nothing, and say whether they arrive.
    TestAlert(TestAlertArgs),
    /// Read the settings and print every error in them.
    CheckConfig,
    /// Look for what would keep supervisor from its work here, and say what mends it. Nothing is changed.
    Doctor,
    /// Print the HAProxy configuration that the settings lead to.
    Render(RenderArgs),
    /// The configurations that HAProxy ran: list them, go back to one.
    #[command(subcommand)]
    Haproxy(HaproxyCommand),
    /// Tell what would be decided in a story that is written line by line. Nothing is reached.
    Scenario(ScenarioArgs),
    /// Show what happened.
    Events(EventsArgs),
    /// Decide again what the journal has, and say whether it comes out the same; with --config, what other settings would
    /// have done.
    ///
    /// Reads the store of the state directory, also beside a daemon, or a file that `journal export` wrote. Without --config
    /// every decision must be, byte for byte, the one in the journal. With --config FILE the same events are decided under
    /// those settings, as if they had been loaded at --since; what differs is shown side by side. SUPERVISOR_CONFIG does not
    /// count as --config.
    Replay(ReplayArgs),
    /// The journal as a file.
    Journal(JournalArgs),
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

    /// Even if the site is not known to be healthy, or the service is paused.
    #[arg(long)]
    pub(crate) force: bool,

    /// When the override ends by itself; else it holds until `failback`.
    #[command(flatten)]
    pub(crate) ends: Ends,

    /// Not even an escape leaves the site while the override lasts.
    #[arg(long)]
    pub(crate) pin: bool,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// `failback`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct FailbackArgs {
    /// The service.
    pub(crate) service: ServiceId,

    /// Even if it is paused.
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// `drain` and `maint`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct OutArgs {
    /// The server: SERVICE/SERVER, or its name alone where one service only has a server of that name.
    #[arg(value_name = "SERVICE/SERVER")]
    pub(crate) server: Named,

    /// When it is put back by itself; else it stays out until `ready`.
    #[command(flatten)]
    pub(crate) ends: Ends,

    /// Even if it is the last server that serves.
    #[arg(long)]
    pub(crate) force: bool,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// `ready`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ReadyArgs {
    /// The server: SERVICE/SERVER, or its name alone where one service only has a server of that name.
    #[arg(value_name = "SERVICE/SERVER")]
    pub(crate) server: Named,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// A server as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    /// Of this service; none: of the one that has it.
    pub(crate) service: Option<ServiceId>,
    /// The server.
    pub(crate) server: Name,
}

impl FromStr for Named {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Named, NameError> {
        Ok(match text.split_once('/') {
            Some((service, server)) => Named { service: Some(service.parse()?), server: server.parse()? },
            None => Named { service: None, server: text.parse()? },
        })
    }
}

/// What is paused.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct About {
    /// This service: its traffic, and its containers.
    pub(crate) service: Option<ServiceId>,

    /// This site: traffic is not moved away from it or to it, and its containers are left alone.
    #[arg(long, value_name = "SITE")]
    pub(crate) site: Option<SiteId>,

    /// Everything.
    #[arg(long)]
    pub(crate) all: bool,
}

impl About {
    /// The one thing that is meant.
    pub(crate) fn scope(&self) -> Result<Scope, Usage> {
        match (self.service, self.site, self.all) {
            (Some(service), None, false) => Ok(Scope::Service(service)),
            (None, Some(site), false) => Ok(Scope::Site(site)),
            (None, None, true) => Ok(Scope::All),
            _ => Err(Usage("name one service, one --site, or --all".to_owned())),
        }
    }
}

/// `pause`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    pub(crate) about: About,

    /// When the pause ends by itself; else it holds until `resume`.
    #[command(flatten)]
    pub(crate) ends: Ends,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// `resume`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ResumeArgs {
    #[command(flatten)]
    pub(crate) about: About,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// A length of time with its unit: `30m`, `1h 30m`.
pub(super) fn span(text: &str) -> Result<Span, String> {
    let known = crate::settings::span(text)?;
    if known == Span::ZERO || known > LASTS_MAX {
        return Err(format!("{text:?} is not within 1 ms and a year; leave it out for no end"));
    }
    Ok(known)
}

/// What all orders take.
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

/// `outbox`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct OutboxArgs {
    /// At most so many, the newest first.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) limit: u16,
}

/// `test-alert`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct TestAlertArgs {
    /// Why, for the journal.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `render`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct RenderArgs {
    /// For this HAProxy only, where the settings name several.
    #[arg(long, value_name = "NAME")]
    pub(crate) proxy: Option<ProxyId>,

    /// Show how the one that is there differs from it, as `diff -u` does; the exit code is 1 if it does.
    #[arg(long)]
    pub(crate) diff: bool,

    /// Print the built-in template instead, to begin one of your own with. Needs no settings.
    #[arg(long, conflicts_with_all = ["diff", "proxy"])]
    pub(crate) template: bool,
}

/// `haproxy`.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum HaproxyCommand {
    /// List the last 20 configurations that HAProxy was seen to run.
    History(HistoryArgs),
    /// Go back to one of them, and hold it until the settings or the template change, or `resume`.
    Rollback(RollbackArgs),
    /// Hold nothing: load what the settings lead to.
    Resume(ConfigArgs),
}

/// `haproxy history`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct HistoryArgs {
    /// Of this HAProxy, where the settings name several.
    #[arg(long, value_name = "NAME")]
    pub(crate) proxy: Option<ProxyId>,
}

/// `haproxy rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct RollbackArgs {
    /// The revision, or its first characters, at least 4; else the one before the one that runs.
    #[arg(value_name = "REV")]
    pub(crate) revision: Option<String>,

    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

/// What orders about HAProxy's configuration take.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ConfigArgs {
    /// Of this HAProxy, where the settings name several.
    #[arg(long, value_name = "NAME")]
    pub(crate) proxy: Option<ProxyId>,

    #[command(flatten)]
    pub(crate) how: OrderArgs,
}

/// `scenario`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ScenarioArgs {
    /// The scripts, as docs/scenarios.md has them; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Print each script with what is decided beneath each line.
    #[arg(long, conflicts_with = "check")]
    pub(crate) golden: bool,

    /// Compare what is decided with what is written beneath each line; the exit code is 1 if it differs.
    #[arg(long)]
    pub(crate) check: bool,
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

/// `replay`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) part: PartArgs,

    /// Read a file that `journal export` wrote; `-` is standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    pub(crate) from: Option<PathBuf>,

    /// Show every decision, also those that only count or confirm, and those that are the same.
    #[arg(long)]
    pub(crate) all: bool,
}

/// `journal`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct JournalArgs {
    #[command(subcommand)]
    pub(crate) command: JournalCommand,
}

/// What can be done with it.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(crate) enum JournalCommand {
    /// Write it as JSON lines, to be kept, or replayed elsewhere with `replay --from`.
    Export(ExportArgs),
}

/// `journal export`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) part: PartArgs,

    /// Into this file, which must not exist yet; `-` is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
}

/// Which part of which journal.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(crate) struct PartArgs {
    /// From then on: 2h (ago), 18:00 (the last one), 2026-08-21T18:00, or 2026-08-21T18:00:00+02:00. Without an offset, by the
    /// clock of this machine [default: from its beginning].
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<Past>,

    /// Up to then, in the same forms [default: to its end].
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<Past>,

    /// The state directory [default: as the settings say, else /var/lib/supervisor].
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
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

    /// Notes that --config was typed.
    pub(crate) fn with_typed_config(mut self, is_typed: bool) -> Cli {
        self.global.config_is_typed = is_typed;
        self
    }
}
