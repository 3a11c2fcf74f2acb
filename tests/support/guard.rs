//! Runs something that breaks things and puts everything right afterwards: also after a panic, an error, Ctrl-C,
//! SIGTERM, or when it does not end by itself.
//!
//! The body runs as its own task. Whatever ends it, the restoring runs to its end in a runtime that still works, which
//! a `Drop` could not promise. Restoring looks at what *is* wrong and needs no record of what was done (see
//! [`faults::mend`](super::faults::mend)), so a program that was killed outright is cleaned up after by the next one.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};

/// Starting a few containers takes seconds; a restoring that takes longer than this hangs, and says so.
const RESTORE_DEADLINE: Duration = Duration::from_secs(90);

/// Runs `body` for at most `deadline`, then `restore`. A panic of the body goes on after the restoring.
pub(crate) async fn run<T: Send + 'static>(
    deadline: Duration,
    body: impl Future<Output = Result<T>> + Send + 'static,
    restore: impl Future<Output = Result<()>>,
) -> Result<T> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut task = tokio::spawn(body);
    let cut_short = tokio::select! {
        joined = &mut task => Ok(joined),
        _ = interrupt.recv() => Err(anyhow!("stopped by Ctrl-C")),
        _ = terminate.recv() => Err(anyhow!("stopped by SIGTERM")),
        () = tokio::time::sleep(deadline) => Err(anyhow!("not finished within {deadline:?}")),
    };
    let ended = match cut_short {
        Ok(joined) => joined,
        Err(why) => {
            // What the body still holds (traffic, a child process) must be gone before anything is put right.
            task.abort();
            match task.await {
                Err(error) if error.is_panic() => Err(error),
                _ => Ok(Err(why)),
            }
        }
    };
    let restored = tokio::time::timeout(RESTORE_DEADLINE, restore)
        .await
        .unwrap_or_else(|_| Err(anyhow!("not done within {RESTORE_DEADLINE:?}")))
        .context("the stack could not be put right; `make demo-down` and `make up` make it new");
    let result = match ended {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(anyhow!(error).context("the work was cancelled")),
        Ok(result) => result,
    };
    match (result, restored) {
        (Ok(value), restored) => restored.map(|()| value),
        (Err(error), Ok(())) => Err(error),
        (Err(error), Err(also)) => Err(error.context(format!("{also:#}"))),
    }
}
