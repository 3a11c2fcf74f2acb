//! The command line: one file per command, and nothing decided here.
//!
//! A command reads the daemon's state or gives it an order, through the control socket, and says in words what came of
//! it. What goes wrong is one line on standard error, with the path and what to do. Results go to standard output; a
//! reader that hangs up (`| head`) is no error.

mod args;
mod check_config;
mod containers;
mod context;
mod doctor;
mod ends;
mod events;
mod explain;
mod haproxy;
mod journal;
mod maintain;
mod once;
mod order;
mod outbox;
mod output;
mod past;
mod render;
mod replay;
mod run;
mod scenario;
mod source;
mod status;
mod table;
mod test_alert;
mod through;

use crate::chain::chain;
use crate::control::ClientError;
use crate::daemon::replay::TooMuch;
use crate::daemon::{ConfigError, StartError};
use crate::domain::maintenance::Admin;
use crate::settings::Problems;
use crate::store::{LockError, OpenError, ReadError};
use args::{Cli, Command, HaproxyCommand};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches};
use context::Context;
use source::SourceError;
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a command ended. The numbers are stable (docs/cli.md); above 63 they are those of sysexits(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As asked; for `status` and `--once`: all is well.
    Ok = 0,
    /// `status`, `--once`: degraded. `failover`, `failback`, `drain`, `maint`, `ready`: denied, and the reason was printed.
    /// `test-alert`: a way fails. `scenario --check`: decided otherwise than written. `replay`: decided otherwise than in the
    /// journal. `doctor`: warnings.
    Degraded = 1,
    /// `status`, `--once`: a service is down. `doctor`: errors.
    Down = 2,
    /// Usage, or bad settings (`EX_USAGE`).
    Usage = 64,
    /// A part that is needed is out of reach (`EX_UNAVAILABLE`): mostly the daemon.
    Unavailable = 69,
    /// A bug of ours, or another version at the other end (`EX_SOFTWARE`).
    Bug = 70,
    /// Ordered, but not in force in time; it may yet come (`EX_TEMPFAIL`).
    NotYet = 75,
}

impl Exit {
    /// An order that was denied: 1, as documented.
    const DENIED: Exit = Exit::Degraded;

    /// `doctor`: something will not always work.
    const WARNED: Exit = Exit::Degraded;

    /// `doctor`: something does not work.
    const BROKEN: Exit = Exit::Down;

    /// `scenario --check`, `replay`: decided otherwise than written.
    const DIFFERENT: Exit = Exit::Degraded;
}

/// Something that the person who typed can mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os()) as u8)
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let typed = Cli::command().try_get_matches_from(arguments).and_then(|matches| {
        let is_typed = matches.value_source("config") == Some(ValueSource::CommandLine);
        Ok(Cli::from_arg_matches(&matches)?.with_typed_config(is_typed))
    });
    let cli = match typed {
        Ok(cli) => cli,
        Err(error) => {
            // Asking for help or the version is no mistake.
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nobody is left to tell if the terminal has gone.
            let _ = error.print();
            return if asked { Exit::Ok } else { Exit::Usage };
        }
    };
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => {
            let exit = exit_of(&error);
            if exit != Exit::Ok {
                let _ = writeln!(io::stderr(), "supervisor: {}", chain(error.as_ref()));
            }
            exit
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<Exit> {
    let (global, command) = cli.into_command()?;
    match command {
        Command::Run(args) => run::run(&global, &args),
        Command::Once(args) => once::run(&global, &args),
        Command::CheckConfig => check_config::run(&global),
        Command::Doctor => doctor::run(&global),
        Command::Render(args) => render::run(&global, &args),
        Command::Haproxy(command) => wait_for(async {
            let mut context = Context::new(&global)?;
            match &command {
                HaproxyCommand::History(args) => haproxy::history(&global, &mut context, args).await,
                HaproxyCommand::Rollback(args) => haproxy::rollback(&global, &mut context, args).await,
                HaproxyCommand::Resume(args) => haproxy::resume(&global, &mut context, args).await,
            }
        }),
        Command::Scenario(args) => scenario::run(&global, &args),
        Command::Replay(args) => replay::run(&global, &args),
        Command::Journal(args) => journal::run(&global, &args),
        Command::Status(args) => wait_for(status::run(&mut Context::new(&global)?, &args)),
        Command::Explain(args) => wait_for(explain::run(&mut Context::new(&global)?, &args)),
        Command::Containers(args) => wait_for(containers::run(&mut Context::new(&global)?, &args)),
        Command::Failover(args) => wait_for(order::failover(&mut Context::new(&global)?, &args)),
        Command::Failback(args) => wait_for(order::failback(&mut Context::new(&global)?, &args)),
        Command::Drain(args) => wait_for(maintain::out(&mut Context::new(&global)?, Admin::Drain, &args)),
        Command::Maint(args) => wait_for(maintain::out(&mut Context::new(&global)?, Admin::Maint, &args)),
        Command::Ready(args) => wait_for(maintain::ready(&mut Context::new(&global)?, &args)),
        Command::Outbox(args) => wait_for(outbox::run(&mut Context::new(&global)?, &args)),
        Command::Pause(args) => wait_for(order::pause(&mut Context::new(&global)?, &args)),
        Command::Resume(args) => wait_for(order::resume(&mut Context::new(&global)?, &args)),
        Command::TestAlert(args) => wait_for(test_alert::run(&mut Context::new(&global)?, &args)),
        Command::Events(args) => wait_for(events::run(&mut Context::new(&global)?, &args)),
    }
}

/// Runs a command of a few requests: one thread is enough.
fn wait_for(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

/// The exit code that an error ends with.
fn exit_of(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe) {
        return Exit::Ok;
    }
    if error.is::<Usage>() || error.is::<Problems>() || error.is::<TooMuch>() {
        return Exit::Usage;
    }
    match error.downcast_ref::<ConfigError>() {
        Some(ConfigError::Print(_) | ConfigError::Unknown(_) | ConfigError::External(_)) => {
            return Exit::Usage;
        }
        Some(ConfigError::File(_)) => return Exit::Unavailable,
        None => {}
    }
    if error.is::<LockError>() {
        return Exit::Unavailable;
    }
    match error.downcast_ref::<SourceError>() {
        Some(SourceError::File { .. }) => return Exit::Usage,
        Some(SourceError::Store(ReadError::Open(OpenError::Newer { .. }))) => return Exit::Bug,
        Some(SourceError::Store(_) | SourceError::Empty(_)) => return Exit::Unavailable,
        None => {}
    }
    match error.downcast_ref::<StartError>() {
        Some(StartError::Settings(_)) => return Exit::Usage,
        Some(StartError::AlreadyRunning(_) | StartError::Answered(_) | StartError::System { .. }) => {
            return Exit::Unavailable;
        }
        None => {}
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Said { status: 400..=499, .. }) => Exit::Usage,
        Some(ClientError::Foreign { .. } | ClientError::TooLong { .. }) | None => Exit::Bug,
        Some(
            ClientError::Missing { .. }
            | ClientError::Refused { .. }
            | ClientError::Permission { .. }
            | ClientError::TimedOut { .. }
            | ClientError::Transport { .. }
            | ClientError::Said { .. },
        ) => Exit::Unavailable,
    }
}

#[cfg(test)]
mod tests;
