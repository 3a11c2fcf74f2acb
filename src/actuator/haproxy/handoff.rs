//! What the two tasks of one HAProxy share: the driver, which keeps its routes, and the keeper, which changes its
//! configuration. Neither calls the other.
//!
//! ```text
//!   driver ── what the map file shall hold ──► file task ── what it holds ──► keeper: before a reload, a moment for it
//!   driver ◄────────────────── look at once ─────────────────────────────── keeper: after a reload
//!   driver ◄── what servers show now may not last ───────────────────────── keeper: during a reload
//! ```
//!
//! A new worker begins with the map file. So the file has what is decided before a reload; and where a disk does not take it
//! in time, or a switch falls into the reload, the driver finds the new worker at once and not with its next look.
//!
//! A new worker's servers are out of service if they were when the keeper asked the old worker. What is changed there after
//! that is lost with it: so the driver tells nothing of servers as done until the reload is over.

use super::files::{self, FileError};
use crate::domain::id::ProxyId;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// The pause before a map file that could not be written is tried again, and its bound. A reload waits for the file, so the
/// first tries come soon; a disk that is full for longer is asked as rarely as its log line is worth reading.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// See the module. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Handoff(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    look: Notify,
    reloads: Mutex<Reloads>,
    file: watch::Sender<MapFile>,
    /// Held while the file is written: an older text never comes after a newer one.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Reloads {
    under_way: u32,
    ended: u64,
}

/// A reload: from when servers' states are read for the new worker, until it has taken over or never will.
#[must_use = "the reload is over when this is dropped"]
pub(super) struct Reloading(Arc<Shared>);

impl Drop for Reloading {
    fn drop(&mut self) {
        let mut reloads = self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        reloads.under_way = reloads.under_way.saturating_sub(1);
        reloads.ended += 1;
    }
}

/// The map file: what it shall hold, and how much of that it does.
#[derive(Debug, Default)]
struct MapFile {
    wanted: Option<Content>,
    /// Grows with each other content.
    version: u64,
    written: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    path: PathBuf,
    text: String,
}

impl MapFile {
    fn outstanding(&self) -> Option<(u64, Content)> {
        let content = self.wanted.clone().filter(|_| self.written < self.version)?;
        Some((self.version, content))
    }
}

impl Handoff {
    /// Asks the driver for a look at once.
    pub(super) fn look_now(&self) {
        self.0.look.notify_one();
    }

    /// Waits until a look is asked for. Cancel-safe.
    pub(super) async fn look_asked(&self) {
        self.0.look.notified().await;
    }

    /// A reload begins.
    pub(super) fn reloading(&self) -> Reloading {
        self.reloads().under_way += 1;
        Reloading(Arc::clone(&self.0))
    }

    /// Names the time since the last reload; none during one.
    pub(super) fn calm(&self) -> Option<u64> {
        let reloads = self.reloads();
        (reloads.under_way == 0).then_some(reloads.ended)
    }

    fn reloads(&self) -> MutexGuard<'_, Reloads> {
        self.0.reloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the map file at `path` shall hold from now on. Does not wait for the disk.
    pub(super) fn want(&self, path: &Path, text: String) {
        let new = Content { path: path.to_owned(), text };
        self.0.file.send_if_modified(|file| {
            let differs = file.wanted.as_ref() != Some(&new);
            if differs {
                file.wanted = Some(new);
                file.version += 1;
            }
            differs
        });
    }

    /// Writes the map file whenever it is to hold something else, for as long as the task lives.
    pub(super) async fn keep_file(self) {
        let mut file = self.0.file.subscribe();
        let mut pause = RETRY_FIRST;
        loop {
            let outstanding = file.borrow_and_update().outstanding().is_some();
            if outstanding && let Err(error) = self.write_in_background().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "HAProxy would start with old routes"
                );
                sleep(pause).await;
                pause = (pause * 2).min(RETRY_LONGEST);
                continue;
            }
            pause = RETRY_FIRST;
            // We hold the sender ourselves, so this does not fail.
            let _ = file.changed().await;
        }
    }

    /// Waits until the map file holds what is wanted; false if it still does not after `patience`.
    pub(super) async fn settled(&self, patience: Duration) -> bool {
        let mut file = self.0.file.subscribe();
        let holds = file.wait_for(|file| file.outstanding().is_none());
        timeout(patience, holds).await.is_ok()
    }

    /// A future that is dropped leaves the writing to finish by itself.
    async fn write_in_background(&self) -> Result<(), FileError> {
        let handoff = self.clone();
        // A task that is cancelled with the runtime has written nothing, and nobody asks any more.
        tokio::task::spawn_blocking(move || handoff.write()).await.unwrap_or(Ok(()))
    }

    /// Writes what is outstanding. Blocks.
    fn write(&self) -> Result<(), FileError> {
        let _one = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((version, content)) = self.0.file.borrow().outstanding() else { return Ok(()) };
        files::replace(&content.path, content.text.as_bytes())?;
        self.0.file.send_modify(|file| file.written = version);
        Ok(())
    }
}

/// The end of the process: what no map file has yet is written once more, all files at the same time. Returns those that do
/// not have it after `patience`, with the reason.
pub fn write_last(
    handoffs: impl IntoIterator<Item = (ProxyId, Handoff)>,
    patience: Duration,
) -> Vec<(ProxyId, String)> {
    let ends = Instant::now() + patience;
    let mut writing = Vec::new();
    for (proxy, handoff) in handoffs {
        if handoff.0.file.borrow().outstanding().is_none() {
            continue;
        }
        let (done, ended) = mpsc::sync_channel(1);
        // A disk that hangs keeps its thread; the process ends with it.
        let thread = std::thread::Builder::new().spawn(move || done.send(handoff.write()));
        writing.push((proxy, thread.map(|_| ended)));
    }
    let outcome = |(proxy, ended): (ProxyId, std::io::Result<mpsc::Receiver<_>>)| {
        let words =
            match ended.map(|ended| ended.recv_timeout(ends.saturating_duration_since(Instant::now()))) {
                Ok(Ok(Ok(()))) => return None,
                Ok(Ok(Err(error))) => crate::chain::chain(&error),
                Ok(Err(_)) => format!("the disk did not take it within {patience:?}"),
                Err(error) => error.to_string(),
            };
        Some((proxy, words))
    };
    writing.into_iter().filter_map(outcome).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::read_to_string;

    fn edge() -> ProxyId {
        "edge".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_waits_for_the_file_and_not_for_ever() {
        let handoff = Handoff::default();
        assert!(handoff.settled(Duration::ZERO).await, "nothing is decided yet");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not-there/routes.map");
        handoff.want(&path, "api api__cloud\n".to_owned());
        let begun = tokio::time::Instant::now();
        assert!(!handoff.settled(Duration::from_millis(500)).await);
        assert_eq!(begun.elapsed().as_millis(), 500);
        std::fs::create_dir(dir.path().join("not-there")).unwrap();
        let task = tokio::spawn(handoff.clone().keep_file());
        assert!(handoff.settled(Duration::from_secs(5)).await);
        assert_eq!(read_to_string(&path).unwrap(), "api api__cloud\n");
        task.abort();
    }

    #[test]
    fn a_look_that_is_asked_for_before_anybody_waits_is_not_lost() {
        let handoff = Handoff::default();
        handoff.look_now();
        let mut asked = std::pin::pin!(handoff.look_asked());
        let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(asked.as_mut().poll(&mut nothing).is_ready());
    }

    #[test]
    fn a_time_without_a_reload_has_a_name_of_its_own() {
        let handoff = Handoff::default();
        let before = handoff.calm();
        assert!(before.is_some());
        let (one, other) = (handoff.reloading(), handoff.reloading());
        assert_eq!(handoff.calm(), None);
        drop(one);
        assert_eq!(handoff.calm(), None, "the other goes on");
        drop(other);
        assert!(handoff.calm().is_some() && handoff.calm() != before);
    }

    #[test]
    fn what_was_not_written_at_the_end_is_written_once_more_or_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.map");
        let handoff = Handoff::default();
        let last = |handoff: &Handoff| write_last([(edge(), handoff.clone())], Duration::from_millis(200));
        assert_eq!(last(&handoff), []);
        assert!(!path.exists(), "nothing was decided");
        handoff.want(&path, "api api__cloud\n".to_owned());
        assert_eq!(last(&handoff), []);
        assert_eq!(read_to_string(&path).unwrap(), "api api__cloud\n");

        handoff.want(&dir.path().join("no/such/dir/f"), "x".to_owned());
        let [(proxy, words)] = last(&handoff).try_into().unwrap();
        assert_eq!(proxy, edge());
        assert!(words.contains("no/such/dir"), "{words}");
        // Somebody else holds the disk up.
        handoff.want(&path, "api api__onprem\n".to_owned());
        let _writing = handoff.0.writing.lock().unwrap();
        let [(_, words)] = last(&handoff).try_into().unwrap();
        assert!(words.contains("200ms"), "{words}");
    }
}
