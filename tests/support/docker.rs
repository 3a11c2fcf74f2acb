//! The engine, in two ways.
//!
//! *Through its API* for what is timed: a fault must begin at a known moment, and starting the `docker` program costs
//! some 40 ms of processor time on a machine that is being measured. *Through the CLI* for the rest (files into a
//! container, a command inside one, a restart): it is what a reader would type to check.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::io::AsyncWriteExt;

/// Every call to the engine ends by then: a healthy one answers in milliseconds, a stop may take Docker's own 10 s.
const CALL_DEADLINE: Duration = Duration::from_secs(20);

/// A connection to the engine of `DOCKER_HOST`, or the local one.
#[derive(Clone)]
pub(crate) struct Engine {
    api: bollard::Docker,
}

/// What the engine says about a container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Its main process runs (or is paused).
    pub(crate) running: bool,
    /// It is paused.
    pub(crate) paused: bool,
    /// The main process as the host numbers it, when it runs.
    pub(crate) pid: Option<i32>,
}

impl Engine {
    /// Connects lazily: the first call tells whether the engine is there.
    pub(crate) fn connect() -> Result<Self> {
        let api = bollard::Docker::connect_with_defaults()
            .context("cannot reach the Docker engine; is it running, and does DOCKER_HOST name it?")?;
        Ok(Self { api })
    }

    /// The container's state now.
    pub(crate) async fn inspect(&self, name: &str) -> Result<Container> {
        let found = self.call("inspect", name, self.api.inspect_container(name, None)).await?;
        let state = found.state.unwrap_or_default();
        let pid = state.pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        Ok(Container { running: state.running.unwrap_or(false), paused: state.paused.unwrap_or(false), pid })
    }

    /// What of the host stands at `path` in the container.
    pub(crate) async fn mount_source(&self, name: &str, path: &str) -> Result<PathBuf> {
        let found = self.call("inspect", name, self.api.inspect_container(name, None)).await?;
        let mounts = found.mounts.unwrap_or_default();
        let mount = mounts.into_iter().find(|mount| mount.destination.as_deref() == Some(path));
        let source = mount.and_then(|mount| mount.source);
        source.map(PathBuf::from).with_context(|| format!("{name} has nothing mounted at {path}"))
    }

    /// All processes of the container, as the host numbers them.
    pub(crate) async fn processes(&self, name: &str) -> Result<Vec<i32>> {
        let top = self.call("list the processes of", name, self.api.top_processes(name, None)).await?;
        let titles = top.titles.unwrap_or_default();
        let column = titles.iter().position(|title| title == "PID");
        let column = column.with_context(|| format!("docker top {name} has no PID column: {titles:?}"))?;
        let rows = top.processes.unwrap_or_default();
        let pids: Vec<i32> = rows.iter().filter_map(|row| row.get(column)?.parse().ok()).collect();
        if pids.is_empty() {
            bail!("docker top {name} names no process");
        }
        Ok(pids)
    }

    /// `docker start`.
    pub(crate) async fn start(&self, name: &str) -> Result<()> {
        self.call("start", name, self.api.start_container(name, None)).await
    }

    /// `docker stop`.
    pub(crate) async fn stop(&self, name: &str) -> Result<()> {
        self.call("stop", name, self.api.stop_container(name, None)).await
    }

    /// `docker kill`.
    pub(crate) async fn kill(&self, name: &str) -> Result<()> {
        self.call("kill", name, self.api.kill_container(name, None)).await
    }

    /// `docker pause`.
    pub(crate) async fn pause(&self, name: &str) -> Result<()> {
        self.call("pause", name, self.api.pause_container(name)).await
    }

    /// `docker unpause`.
    pub(crate) async fn unpause(&self, name: &str) -> Result<()> {
        self.call("unpause", name, self.api.unpause_container(name)).await
    }

    async fn call<T>(
        &self,
        what: &str,
        name: &str,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T> {
        tokio::time::timeout(CALL_DEADLINE, call)
            .await
            .map_err(|_| anyhow!("docker did not {what} {name} within {CALL_DEADLINE:?}"))?
            .with_context(|| format!("docker cannot {what} {name}"))
    }
}

/// What a command printed and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    /// The exit code; 128 + n after signal n, as a shell says it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
    /// When it was started.
    pub(crate) began: Instant,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Ran {
    /// The output, when it ended with 0.
    pub(crate) fn ok(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        bail!("it ended with {}: {}", self.code, format!("{}\n{}", self.stderr, self.stdout).trim())
    }
}

/// Runs `docker ARGS` with `stdin` as its input; it is killed at the deadline.
pub(crate) async fn docker<S: AsRef<OsStr>>(args: &[S], stdin: &[u8], deadline: Duration) -> Result<Ran> {
    use std::os::unix::process::ExitStatusExt;

    let shown = args.iter().map(|arg| arg.as_ref().to_string_lossy()).collect::<Vec<_>>().join(" ");
    let began = Instant::now();
    let mut child = tokio::process::Command::new("docker")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the docker program")?;
    let pipe = child.stdin.take();
    let feed = async move {
        if let Some(mut pipe) = pipe {
            // A command that does not read its input closes it; that is its right.
            let _ = pipe.write_all(stdin).await;
        }
    };
    let (output, ()) = tokio::time::timeout(deadline, async { tokio::join!(child.wait_with_output(), feed) })
        .await
        .map_err(|_| anyhow!("docker {shown} did not end within {deadline:?}"))?;
    let output = output.with_context(|| format!("docker {shown} could not be waited for"))?;
    let status = output.status;
    Ok(Ran {
        code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        began,
        took: began.elapsed(),
    })
}
