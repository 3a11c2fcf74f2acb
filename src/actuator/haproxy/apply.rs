//! Changes HAProxy's configuration, or leaves everything as it was, and knows which.
//!
//! ```text
//! same revision? ─► write beside ─► haproxy -c ─► binds free? ─► keep the old ─► state file ─► rename ─► reload
//!      │                                │ no          │ no                                                │
//!      ▼                                ▼             ▼                   new worker with our revision ◄──┤
//!  Unchanged                         Rejected      Rejected                          = Applied            │
//!                                                               old worker stays: restore = Rejected   ◄──┤
//!                                                               neither in time           = Unknown    ◄──┘
//! ```
//!
//! What counts is never an exit code or a reply alone. 2.6 answers nothing at all to `reload`; so the processes before and
//! after are compared, and the new worker must say our revision. A reload is sent once; only where HAProxy says that it did
//! not begin (`Another reload is still in progress`) is it sent again.

mod reload;

use super::binds;
use super::command::Command;
use super::complaint::complaint;
use super::files::{self, FileError};
use super::handoff::Handoff;
use super::last_good;
use super::reply::Info;
use super::runtime::{Runtime, RuntimeError, Worker};
use super::server_state;
use super::template::Rendered;
use super::validate::{Validate, ValidateError, Validation};
use reload::{Reloaded, processes_patiently, reload};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a reload may take until it is called unknown. Thousands of backends load in a second or two; a bind conflict
/// takes two; a slow name server adds some.
pub const APPLY_DEADLINE: Duration = Duration::from_secs(30);

/// How long a reload waits for the map file, with which the new worker begins. A disk takes it in some milliseconds; nobody
/// waits for a new configuration so eagerly that it could not be half a second late, nor so patiently that it could hang
/// with a disk.
const MAP_FILE_PATIENCE: Duration = Duration::from_millis(500);

/// One HAProxy's configuration.
#[derive(Clone)]
pub struct Target {
    /// Its sockets.
    pub runtime: Runtime,
    /// The file, as we see it. Its directory must be ours to write.
    pub config_file: PathBuf,
    /// The server state file, as we see it.
    pub state_file: PathBuf,
    /// The map of routes, as we see it.
    pub map_file: PathBuf,
    /// Who asks HAProxy's binary.
    pub validator: Arc<dyn Validate>,
    /// Whether new binds can be tried from here.
    pub binds: BindCheck,
    /// How long a reload may take: [`APPLY_DEADLINE`].
    pub deadline: Duration,
    /// What is shared with who keeps its routes.
    pub handoff: Handoff,
}

/// Whether new binds are tried before a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindCheck {
    /// We share HAProxy's network.
    Local,
    /// HAProxy has a network of its own.
    Skip,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// HAProxy runs this configuration already.
    Unchanged,
    /// A new worker runs it.
    Applied {
        /// The new worker.
        pid: u32,
        /// From the reload to the proof.
        took: Duration,
        /// What HAProxy warned of.
        warnings: String,
    },
    /// The old configuration is on disk, and the old worker serves.
    Rejected {
        /// Who refused.
        stage: Stage,
        /// HAProxy's words, or ours where it has none.
        message: String,
    },
    /// Neither could be proved in time. The new file stays: HAProxy's binary accepted it. Look again before anything else.
    Unknown {
        /// What was seen last.
        message: String,
    },
}

/// Who refused a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `haproxy -c`.
    Validation,
    /// The bind check.
    Binds,
    /// The reload itself.
    Reload,
}

/// Why nothing was tried. Everything is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// HAProxy does not answer.
    #[error("HAProxy cannot be asked what it runs, so its configuration is left alone")]
    NotReachable(#[source] RuntimeError),
    /// No verdict.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Brings `rendered` into HAProxy. An error means that nothing was changed.
pub async fn apply(target: &Target, rendered: &Rendered) -> Result<Outcome, ApplyError> {
    let live = target.runtime.info().await.map_err(ApplyError::NotReachable)?;
    let old_file = on_disk(target).await?;
    if live.description.as_deref() == Some(&rendered.description) {
        if old_file.as_deref() != Some(&rendered.text) {
            // Somebody changed the file but not HAProxy: the next start must find what runs now.
            let (path, text) = (target.config_file.clone(), rendered.text.clone());
            blocking(target, move || files::replace_like(&path, &path, text.as_bytes())).await?;
        }
        keep_last_good(target, rendered).await;
        forget_leftovers(target).await;
        return Ok(Outcome::Unchanged);
    }
    let before = processes_patiently(&target.runtime).await.map_err(ApplyError::NotReachable)?;
    let candidate = match validated(target, rendered).await? {
        Ok(candidate) => candidate,
        Err(message) => return Ok(Outcome::Rejected { stage: Stage::Validation, message }),
    };
    if let Some(message) = bind_conflict(target, old_file.as_deref(), rendered).await {
        return Ok(Outcome::Rejected { stage: Stage::Binds, message });
    }
    keep_old(target, &live, old_file.as_deref()).await?;
    let reloading = target.handoff.reloading();
    carry_state_over(target, &rendered.text).await?;
    let config_file = target.config_file.clone();
    if let Err(error) = blocking(target, move || files::put_in_place(candidate.file, &config_file)).await {
        // Renamed but not synced is possible; what HAProxy runs is what must be on disk.
        let restored = restore(target, old_file).await;
        forget_state(target).await;
        restored?;
        return Err(error.into());
    }

    if !target.handoff.settled(MAP_FILE_PATIENCE).await {
        tracing::warn!(
            file = %target.map_file.display(),
            "the disk holds the map file up: HAProxy is reloaded with older routes, which are set again at once"
        );
    }
    let started = Instant::now();
    let reloaded = match reload(target, &before, &live, rendered).await {
        Reloaded::Failed(said) => Reloaded::Failed(complaint(&rendered.text, &said)),
        Reloaded::Unknown(said) => Reloaded::Unknown(complaint(&rendered.text, &said)),
        reloaded @ (Reloaded::Loaded(_) | Reloaded::NotSent(_)) => reloaded,
    };
    drop(reloading);
    target.handoff.look_now();
    // The file has served, or never will. Left as it is, it would bring yesterday's states back when HAProxy crashes tomorrow.
    match reloaded {
        Reloaded::Loaded(_) | Reloaded::Failed(_) | Reloaded::NotSent(_) => forget_state(target).await,
        // Perhaps it is about to be read. The next attempt, or the next look that finds the configuration in force, sees to it.
        Reloaded::Unknown(_) => {}
    }
    let outcome = match reloaded {
        Reloaded::Loaded(pid) => {
            keep_last_good(target, rendered).await;
            Outcome::Applied { pid, took: started.elapsed(), warnings: candidate.warnings }
        }
        Reloaded::Failed(message) => match restore(target, old_file).await {
            Ok(()) => {
                Outcome::Rejected { stage: Stage::Reload, message: serving(target, &live, message).await }
            }
            Err(error) => Outcome::Unknown { message: not_restored(&message, &error) },
        },
        Reloaded::NotSent(source) => match restore(target, old_file).await {
            Ok(()) => return Err(ApplyError::NotReachable(source.into())),
            Err(error) => Outcome::Unknown { message: not_restored(&source.to_string(), &error) },
        },
        Reloaded::Unknown(message) => Outcome::Unknown { message },
    };
    Ok(outcome)
}

/// Writes `rendered` where a HAProxy that does not run will find it when it starts; checked, but not loaded.
/// Gives HAProxy's complaint if it would not load it; then nothing was written.
pub async fn install(target: &Target, rendered: &Rendered) -> Result<Result<(), String>, ApplyError> {
    let candidate = match validated(target, rendered).await? {
        Ok(candidate) => candidate,
        Err(message) => return Ok(Err(message)),
    };
    let old = on_disk(target).await?;
    let config_file = target.config_file.clone();
    blocking(target, move || {
        if let Some(old) = old {
            last_good::keep_old(&config_file, &old, None)?;
        }
        files::put_in_place(candidate.file, &config_file)
    })
    .await?;
    Ok(Ok(()))
}

struct Candidate {
    file: tempfile::NamedTempFile,
    warnings: String,
}

/// The file beside the target, once HAProxy accepted it; or HAProxy's complaint.
async fn validated(target: &Target, rendered: &Rendered) -> Result<Result<Candidate, String>, ApplyError> {
    let (config_file, text) = (target.config_file.clone(), rendered.text.clone());
    let (map_file, state_file) = (target.map_file.clone(), target.state_file.clone());
    let file = blocking(target, move || {
        // HAProxy refuses a configuration whose map is not there, and warns of a missing state file. Without an entry in
        // the map each service goes to its preferred site.
        files::create_if_missing(&map_file, b"")?;
        files::create_if_missing(&state_file, server_state::NOTHING.as_bytes())?;
        files::write_beside_like(&config_file, &config_file, text.as_bytes())
    })
    .await?;
    let verdict = target.validator.validate(file.path()).await?;
    // People know the file by its own name.
    let name = |path: &std::path::Path| {
        path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let named = |said: String| {
        complaint(&rendered.text, &said.replace(&name(file.path()), &name(&target.config_file)))
    };
    Ok(match verdict {
        Validation::Accepted { warnings } => {
            let warnings = named(warnings);
            Ok(Candidate { file, warnings })
        }
        Validation::Refused { message } => Err(named(message)),
    })
}

async fn bind_conflict(target: &Target, old: Option<&str>, rendered: &Rendered) -> Option<String> {
    if target.binds == BindCheck::Skip {
        return None;
    }
    let (old, new) = (old.unwrap_or_default().to_owned(), rendered.text.clone());
    // A task that is cancelled with the runtime found nothing; then nothing follows either.
    let conflict = tokio::task::spawn_blocking(move || binds::conflict(&old, &new)).await.ok()?;
    conflict.map(|(address, error)| {
        format!(
            "{address} cannot be bound ({error}): HAProxy would stop serving for two seconds to find that out"
        )
    })
}

/// Keeps the file that is about to be replaced.
async fn keep_old(target: &Target, live: &Info, old_file: Option<&str>) -> Result<(), FileError> {
    let Some(old) = old_file.map(str::to_owned) else { return Ok(()) };
    let (path, description) = (target.config_file.clone(), live.description.clone());
    blocking(target, move || last_good::keep_old(&path, &old, description.as_deref())).await
}

/// Keeps what HAProxy runs now. Not being able to is no reason to call an applied configuration anything else. Looked at
/// every few seconds, so it is not for the log of a production machine.
async fn keep_last_good(target: &Target, rendered: &Rendered) {
    let (path, text) = (target.config_file.clone(), rendered.text.clone());
    if let Err(error) = blocking(target, move || last_good::keep(&path, &text)).await {
        let error = &error as &dyn std::error::Error;
        tracing::debug!(
            error,
            "the last good configuration is not kept: a HAProxy that crashes starts with what is there"
        );
    }
}

/// A HAProxy that cannot tell its servers' states reloads without them, as it would by itself.
async fn carry_state_over(target: &Target, config: &str) -> Result<(), FileError> {
    let dump = target.runtime.ask(Worker::Current, &Command::show_servers_state()).await;
    let kept = dump.ok().and_then(|reply| server_state::carry_over(&reply, config).ok());
    let kept = kept.unwrap_or_else(|| server_state::NOTHING.to_owned());
    files::replace_in_background(target.state_file.clone(), kept.into()).await
}

async fn forget_state(target: &Target) {
    let written = files::replace_in_background(target.state_file.clone(), server_state::NOTHING.into()).await;
    if let Err(error) = written {
        tracing::warn!(error = &error as &dyn std::error::Error, "old server states stay in the state file");
    }
}

/// A reload that nobody saw the end of has left states behind: one that came into force late, or that a daemon before us
/// began.
async fn forget_leftovers(target: &Target) {
    let path = target.state_file.clone();
    let there = blocking(target, move || files::read_if_there(&path)).await;
    if there.is_ok_and(|text| text.is_some_and(|text| text != server_state::NOTHING.as_bytes())) {
        forget_state(target).await;
    }
}

async fn restore(target: &Target, old_file: Option<String>) -> Result<(), FileError> {
    let path = target.config_file.clone();
    blocking(target, move || match old_file {
        Some(text) => files::replace_like(&path, &path, text.as_bytes()),
        None => {
            std::fs::remove_file(&path).map_err(|source| FileError::Step { step: "remove", path, source })
        }
    })
    .await
}

fn not_restored(message: &str, error: &FileError) -> String {
    format!(
        "{message}\nThe old file could not be restored, so the next start would load the new one: {error}"
    )
}

/// Adds to `message` whether the old worker still serves.
async fn serving(target: &Target, live: &Info, message: String) -> String {
    match target.runtime.info().await {
        Ok(now) if now.pid == live.pid => message,
        Ok(now) => {
            format!("{message}\nThe old file is restored, but worker {} serves, not {}", now.pid, live.pid)
        }
        Err(error) => format!("{message}\nThe old file is restored, but HAProxy does not answer: {error}"),
    }
}

async fn on_disk(target: &Target) -> Result<Option<String>, FileError> {
    let path = target.config_file.clone();
    let bytes = blocking(target, move || files::read_if_there(&path)).await?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Files are synced, which may take long on a busy disk: not on the threads that move traffic.
async fn blocking<T: Send + 'static>(
    target: &Target,
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    let cancelled = FileError::Cancelled(target.config_file.clone());
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(cancelled))
}
