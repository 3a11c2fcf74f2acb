//! A command inside a container: HAProxy's own `haproxy -c`, with the binary that will read the file.

use super::engine::{Engine, EngineError};
use super::translate::is_name;
use crate::domain::id::ContainerName;
use bollard::Docker;
use bollard::exec::{CreateExecOptions, StartExecResults};
use futures_util::StreamExt;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

/// How much of a command's output is kept; the rest is read and thrown away, so that the command can end. `haproxy -c`
/// says a line per mistake.
const OUTPUT_MAX: usize = 64 * 1024;

/// The engine knows the exit code a moment after the output has ended.
const EXIT_POLL: Duration = Duration::from_millis(10);

/// A command that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub exit: i64,
    /// What it wrote, to both outputs, as it came.
    pub output: String,
    /// Some of the output was thrown away.
    pub cut: bool,
}

impl Engine {
    /// Runs `command` in `container`, with `input` as its standard input.
    ///
    /// Docker has no way to end such a command: one that outlives `within` goes on without us.
    ///
    /// # Errors
    ///
    /// When the engine does not do it, or not within `within`. A command that fails is no error: see [`Ran::exit`].
    pub async fn exec(
        &self,
        container: &ContainerName,
        command: &[&str],
        input: Option<&[u8]>,
        within: Duration,
    ) -> Result<Ran, EngineError> {
        if !is_name(&container.0) {
            return Err(EngineError::Name { name: container.clone() });
        }
        let late = || EngineError::Late { address: self.address.clone(), call: "a command's end", within };
        timeout(within, self.run(container, command, input)).await.map_err(|_| late())?
    }

    async fn run(
        &self,
        container: &ContainerName,
        command: &[&str],
        input: Option<&[u8]>,
    ) -> Result<Ran, EngineError> {
        let docker = self.connect().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(input.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let made = self.call("an exec", docker.create_exec(&container.0, options)).await?;
        let started = self.call("the start of an exec", docker.start_exec(&made.id, None)).await?;
        let StartExecResults::Attached { mut output, input: mut pipe } = started else {
            return Ok(Ran { exit: self.exit(&docker, &made.id).await?, output: String::new(), cut: false });
        };
        let feed = async {
            // A command that does not read to the end closes the pipe: its exit code tells what it made of that.
            if let Some(input) = input {
                let _ = pipe.write_all(input).await;
            }
            let _ = pipe.shutdown().await;
        };
        let read = async {
            let (mut kept, mut cut) = (Vec::new(), false);
            while let Some(piece) = output.next().await {
                let piece = piece.map_err(|source| self.error("the output of an exec", source))?.into_bytes();
                let taken = piece.len().min(OUTPUT_MAX - kept.len());
                kept.extend_from_slice(&piece[..taken]);
                cut |= taken < piece.len();
            }
            Ok((kept, cut))
        };
        // Both at once: a command may want to write before it reads.
        let ((), read) = tokio::join!(feed, read);
        let (kept, cut) = read?;
        let exit = self.exit(&docker, &made.id).await?;
        Ok(Ran { exit, output: String::from_utf8_lossy(&kept).into_owned(), cut })
    }

    /// Its deadline is that of [`Engine::exec`].
    async fn exit(&self, docker: &Docker, id: &str) -> Result<i64, EngineError> {
        loop {
            let seen = self.call("the end of an exec", docker.inspect_exec(id)).await?;
            match (seen.running, seen.exit_code) {
                (Some(false), Some(code)) => return Ok(code),
                _ => sleep(EXIT_POLL).await,
            }
        }
    }
}
