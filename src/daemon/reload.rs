//! The settings while the daemon runs: read again when they change on disk or somebody asks. Bad ones are refused and named;
//! the old ones stay in force.

use super::board::Board;
use super::systemd::Systemd;
use crate::settings::watch::{Reload, watch};
use crate::settings::{Fingerprint, Settings};
use crate::task;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::time::sleep;

/// The settings' name on the board.
const ABOUT: &str = "settings";

/// How long until the thread that watches the files is started again. It ends only by a bug, and SIGHUP works without it.
const WATCH_AGAIN: Duration = Duration::from_secs(30);

/// Reads the settings; a failure is told in words.
pub(super) type Load = Box<dyn FnMut(PathBuf) -> BoxFuture<'static, Result<Settings, Vec<String>>> + Send>;

/// What it takes to load the settings again. It outlives the task that uses it: after a panic the next one goes on with it.
pub(super) struct Reloads {
    pub(super) config: PathBuf,
    pub(super) load: Load,
    /// The files changed.
    pub(super) hinted: mpsc::Receiver<Reload>,
    /// SIGHUP.
    pub(super) asked: mpsc::Receiver<Reload>,
    pub(super) current: Arc<Settings>,
    /// Good settings, for the loop.
    pub(super) good: mpsc::Sender<Arc<Settings>>,
    pub(super) board: Board,
    /// Who asked by systemd waits for the end.
    pub(super) systemd: Systemd,
}

impl Reloads {
    /// Loads whenever it is asked to. Ends with those who ask, or with the loop.
    pub(super) async fn run(&mut self) {
        // The one that a panic ended.
        self.systemd.reloaded().await;
        loop {
            // Both only receive: dropping the one that did not win loses nothing.
            let reload = tokio::select! {
                Some(reload) = self.hinted.recv() => reload,
                Some(reload) = self.asked.recv() => reload,
                else => return,
            };
            let asked = reload == Reload::Asked;
            if asked {
                self.systemd.reloading().await;
            }
            match (self.load)(self.config.clone()).await {
                Ok(settings) => {
                    for key in self.current.needs_restart(&settings) {
                        tracing::warn!(
                            key,
                            "this setting changed; it takes effect when supervisor is started again"
                        );
                    }
                    self.board.post(ABOUT, Vec::new());
                    if asked {
                        // Who asked wants an answer, also where nothing changed.
                        tracing::info!("the settings were read again, as asked, and are good");
                    }
                    self.current = Arc::new(settings);
                    if self.good.send(Arc::clone(&self.current)).await.is_err() {
                        return;
                    }
                }
                Err(problems) => {
                    for problem in &problems {
                        tracing::warn!("new settings refused, the old ones stay in force: {problem}");
                    }
                    let told =
                        |problem| format!("new settings refused, the old ones stay in force: {problem}");
                    self.board.post(ABOUT, problems.into_iter().map(told).collect());
                }
            }
            if asked {
                self.systemd.reloaded().await;
            }
        }
    }
}

/// Runs `reloads` beside the loop. After a panic it goes on with the next request: the one that it panicked at is lost.
pub(super) fn keep(reloads: Reloads) {
    let reloads = Arc::new(Mutex::new(reloads));
    tokio::spawn(task::keep("reader of the settings".to_owned(), move || {
        let reloads = Arc::clone(&reloads);
        async move { reloads.lock().await.run().await }
    }));
}

/// Reads the settings beside the loop: a disk can hang, and a parser can have a bug.
pub(super) fn from_disk() -> Load {
    Box::new(|path| {
        Box::pin(async move {
            match tokio::task::spawn_blocking(move || Settings::load(&path)).await {
                Ok(Ok(settings)) => Ok(settings),
                Ok(Err(problems)) => Err(problems.iter().map(ToString::to_string).collect()),
                Err(_) => Err(vec![
                    "reading them panicked, which is a bug; please report the panic in the log".to_owned(),
                ]),
            }
        })
    })
}

/// Passes on that the files changed. Starts the thread that watches them, and starts it again should it end.
pub(super) async fn hints(config: PathBuf, loaded_from: Fingerprint, reload: mpsc::Sender<Reload>) {
    loop {
        // One is enough: a second hint for what has not been looked at adds nothing.
        let (hint, mut hinted) = mpsc::channel(1);
        // Changes since the start are seen as changes by each new thread: to load once too often does no harm.
        match watch(config.clone(), loaded_from, hint) {
            Ok(()) => {
                while let Some(hint) = hinted.recv().await {
                    if reload.send(hint).await.is_err() {
                        return;
                    }
                }
                tracing::error!(
                    "the thread that watches the settings ended, which is a bug: it is started again in {} s; \
                     until then SIGHUP makes supervisor read them",
                    WATCH_AGAIN.as_secs()
                );
            }
            Err(error) => tracing::error!(
                %error,
                "no thread to watch the settings: tried again in {} s; until then SIGHUP makes supervisor read them",
                WATCH_AGAIN.as_secs()
            ),
        }
        sleep(WATCH_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = include_str!("../settings/fixtures/smallest.toml");

    fn smallest() -> Settings {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("supervisor.toml");
        std::fs::write(&path, SMALLEST).unwrap();
        Settings::load(&path).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_at_one_request_does_not_cost_the_next() {
        let (_hint, hinted) = mpsc::channel(1);
        let (ask, asked) = mpsc::channel(1);
        let (good, mut taken) = mpsc::channel(1);
        let (board, mut posted) = Board::new();
        let mut calls = 0;
        let load: Load = Box::new(move |_| {
            calls += 1;
            let call = calls;
            Box::pin(async move {
                assert!(call != 1, "the panic of this test");
                if call == 2 { Err(vec!["bad".to_owned()]) } else { Ok(smallest()) }
            })
        });
        let (config, current) = (PathBuf::from("x.toml"), Arc::new(smallest()));
        let systemd = Systemd::default();
        keep(Reloads { config, load, hinted, asked, current, good, board, systemd });
        ask.send(Reload::Asked).await.unwrap();
        ask.send(Reload::Asked).await.unwrap();
        assert!(posted.changed().await);
        assert_eq!(posted.read(), ["new settings refused, the old ones stay in force: bad"]);
        ask.send(Reload::Asked).await.unwrap();
        assert_eq!(*taken.recv().await.unwrap(), smallest());
        assert!(posted.read().is_empty());
    }
}
