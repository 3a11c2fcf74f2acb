//! The ways to break a server's container, and the one way to mend it.
//!
//! Each fault is prepared first (process numbers looked up) and then applied in one call, so that the moment is known
//! to a millisecond. Mending asks the engine what is wrong and puts that right; it is idempotent and needs no memory.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};

use super::docker::Engine;
use super::stack::{Server, Sickness};
use super::wait::{self, Seen};

/// A container starts in a second; ten times that and as much again on a busy machine.
const MEND_DEADLINE: Duration = Duration::from_secs(20);

/// One way to break a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The main process is killed from the host: what a crash looks like to the engine.
    Crash,
    /// `docker kill`: what a person with a shell does.
    Kill,
    /// `docker pause`: connections are still accepted by the kernel, nothing answers.
    Freeze,
    /// Every process stopped (SIGSTOP): like `Freeze`, but the engine does not know.
    Hang,
    /// `/health` answers 500 while everything else works.
    Http500,
}

/// When a fault began and when the call that made it returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Applied {
    /// Just before the call.
    pub(crate) began: Instant,
    /// Just after it.
    pub(crate) done: Instant,
}

impl Fault {
    /// All of them, in the order of the issue.
    pub(crate) const ALL: [Self; 5] = [Self::Crash, Self::Kill, Self::Freeze, Self::Hang, Self::Http500];

    /// Breaks `server` in this way.
    pub(crate) async fn apply(self, engine: &Engine, server: &Server) -> Result<Applied> {
        let name = server.container;
        let targets = match self {
            Self::Crash => {
                let pid = engine.inspect(name).await?.pid;
                vec![pid.with_context(|| format!("{name} does not run, so it cannot crash"))?]
            }
            Self::Hang => engine.processes(name).await?,
            Self::Kill | Self::Freeze | Self::Http500 => Vec::new(),
        };
        let began = Instant::now();
        match self {
            Self::Crash => send(&targets, Signal::KILL)?,
            Self::Hang => send(&targets, Signal::STOP)?,
            Self::Kill => engine.kill(name).await?,
            Self::Freeze => engine.pause(name).await?,
            Self::Http500 => server.fall_ill(Sickness::Health500).await?,
        }
        Ok(Applied { began, done: Instant::now() })
    }

    /// The command a reader can type to see the same.
    pub(crate) fn by_hand(self, server: &Server) -> String {
        let name = server.container;
        match self {
            Self::Crash => format!("kill -KILL $(docker inspect -f '{{{{.State.Pid}}}}' {name})"),
            Self::Kill => format!("docker kill {name}"),
            Self::Freeze => format!("docker pause {name}"),
            Self::Hang => format!("kill -STOP $(docker inspect -f '{{{{.State.Pid}}}}' {name})"),
            Self::Http500 => format!("curl -X POST {}", server.sickness_url(Sickness::Health500)),
        }
    }

    /// The command that mends it by hand.
    pub(crate) fn mended_by_hand(self, server: &Server) -> String {
        let name = server.container;
        match self {
            Self::Crash | Self::Kill => format!("docker start {name}"),
            Self::Freeze => format!("docker unpause {name}"),
            Self::Hang => format!("kill -CONT $(docker inspect -f '{{{{.State.Pid}}}}' {name})"),
            Self::Http500 => format!("curl -X DELETE {}", server.health_restored_url()),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Crash => "crash",
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Hang => "hang",
            Self::Http500 => "http500",
        })
    }
}

impl FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|fault| fault.to_string() == text);
        known.ok_or_else(|| anyhow!("{text:?} is no fault; there are crash, kill, freeze, hang, http500"))
    }
}

/// Brings `server` back from any of the faults: unpauses, starts, continues, and makes its API well again.
pub(crate) async fn mend(engine: &Engine, server: &Server) -> Result<()> {
    let name = server.container;
    // Looked at anew each time: the engine says "running" for a moment after a crash, and a process that just
    // started or woke up needs one before it takes orders.
    wait::until(&format!("{name} to be whole again"), MEND_DEADLINE, || async {
        let state = engine.inspect(name).await?;
        if state.paused {
            engine.unpause(name).await?;
        }
        if state.running {
            // Harmless for a process that is not stopped.
            send(&engine.processes(name).await?, Signal::CONT)?;
        } else {
            engine.start(name).await?;
        }
        server.get_well().await.map(Seen::Yes)
    })
    .await
}

/// Sends a signal to processes of a container, numbered as the host does.
pub(crate) fn send(pids: &[i32], signal: Signal) -> Result<()> {
    for &pid in pids {
        let process = Pid::from_raw(pid).with_context(|| format!("{pid} is no process number"))?;
        match kill_process(process, signal) {
            // It ended by itself between the look and the signal.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                let hint = "faults of this kind need root on the host that runs the containers";
                return Err(anyhow!(error).context(format!("cannot signal process {pid}; {hint}")));
            }
        }
    }
    Ok(())
}
