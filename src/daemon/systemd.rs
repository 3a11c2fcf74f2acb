//! What systemd is told (sd_notify(3)): ready, alive, one line of status, reloading, stopping. Nothing where it does not ask.

use crate::domain::explain::Grade;
use crate::status::{Link, ProxyView, ServiceView, View};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How often it is looked what there is to tell. What is ordered after the unit waits for the first word.
const EVERY: Duration = Duration::from_millis(250);

/// Ready at the latest: an HAProxy that is away must not fail the start, for it may be ordered after us, nor must a probe
/// that takes a minute by its settings.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The loop makes a view at least once a second. One that is older means that it stands still.
const FRESH_MAX: Duration = Duration::from_secs(3);

/// How long a reload waits for systemd to take a word: its socket may be full, and the settings matter more.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// The longest status line.
const STATUS_MAX: usize = 200;

/// Who tells systemd. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Systemd {
    /// It hears that we are ready. Before, the end of a reload must not pass for the end of the start.
    ready: Arc<AtomicBool>,
}

impl Systemd {
    /// The settings are being read again because somebody asked.
    pub(super) async fn reloading(&self) {
        self.tell_when_ready(Word::Reloading).await;
    }

    /// The settings were read, whatever came of it: the status line tells that.
    pub(super) async fn reloaded(&self) {
        self.tell_when_ready(Word::Ready).await;
    }

    async fn tell_when_ready(&self, word: Word) {
        if self.ready.load(Ordering::Acquire) {
            // What is given up here is still sent, if ever it can be.
            let _ = timeout(TAKEN_WITHIN, tell(vec![word])).await;
        }
    }

    /// Tells systemd until `shutdown`. The loop feeds the watchdog: without fresh views nothing is sent.
    pub(super) async fn keep(self, views: watch::Receiver<Arc<View>>, shutdown: CancellationToken) {
        // Three words in the time after which systemd acts: one may be late.
        let feed = sd_notify::watchdog_enabled().map(|within| within / 3);
        let began = Instant::now();
        let (mut fed, mut told) = (None::<Instant>, String::new());
        while !shutdown.is_cancelled() {
            let view = Arc::clone(&views.borrow());
            let mut words = Vec::new();
            let ready = self.ready.load(Ordering::Acquire);
            if !ready && (has_begun(&view) || began.elapsed() >= READY_WITHIN) {
                // Before the word goes out: who heard it may ask for a reload at once.
                self.ready.store(true, Ordering::Release);
                words.push(Word::Ready);
            }
            if feed.is_some_and(|feed| fed.is_none_or(|at| at.elapsed() >= feed))
                && view.made.elapsed() <= FRESH_MAX
            {
                fed = Some(Instant::now());
                words.push(Word::Alive);
            }
            let line = line(&view);
            if line != told {
                told.clone_from(&line);
                words.push(Word::Status(line));
            }
            tell(words).await;
            // Dropping the sleep loses nothing.
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(feed.map_or(EVERY, |feed| feed.min(EVERY))) => {}
            }
        }
        tell(vec![Word::Stopping]).await;
    }
}

#[derive(Debug)]
enum Word {
    Ready,
    Reloading,
    Alive,
    Status(String),
    Stopping,
}

/// On a thread that may wait: systemd's socket may be full.
async fn tell(words: Vec<Word>) {
    if words.is_empty() {
        return;
    }
    let told = tokio::task::spawn_blocking(move || {
        let state: Vec<NotifyState<'_>> = words
            .iter()
            .flat_map(|word| match word {
                Word::Ready => vec![NotifyState::Ready],
                // The time tells systemd which of several requests this answers.
                Word::Reloading => {
                    let now = NotifyState::monotonic_usec_now();
                    [Some(NotifyState::Reloading), now.ok()].into_iter().flatten().collect()
                }
                Word::Alive => vec![NotifyState::Watchdog],
                Word::Status(line) => vec![NotifyState::Status(line)],
                Word::Stopping => vec![NotifyState::Stopping],
            })
            .collect();
        sd_notify::notify(&state)
    });
    if let Ok(Err(error)) = told.await {
        tracing::warn!(%error, "systemd cannot be told how it stands");
    }
}

/// Whether each server was heard of, be it by its silence, and each HAProxy; one that answers must have its routes, too,
/// and for that its configuration.
fn has_begun(view: &View) -> bool {
    let heard_of = |proxy: &ProxyView| proxy.link != Link::Unseen;
    let answers = |id| view.proxies.iter().any(|proxy| proxy.name == id && proxy.link == Link::Ours);
    let routed = |service: &ServiceView| !service.pending.iter().any(|&id| answers(id));
    let mut servers = view.services.iter().flat_map(|service| &service.servers);
    view.proxies.iter().all(heard_of)
        && view.services.iter().all(routed)
        && servers.all(|server| server.evidence.is_some())
}

/// What `systemctl status` shows.
fn line(view: &View) -> String {
    let grade = match view.grade {
        Grade::Well => "well",
        Grade::Degraded => "degraded",
        Grade::Down => "down",
    };
    let places = view.services.iter().map(|service| match service.serving {
        Some(site) => format!("{} on {site}", service.name),
        None => format!("{} unplaced", service.name),
    });
    let problems = view.problems.iter().map(|problem| format!("problem: {problem}"));
    let parts: Vec<String> = problems.chain(places).collect();
    // One line, as the protocol has it.
    let text: String = format!("{grade}: {}", parts.join(", ")).replace(['\n', '\r'], " ");
    text.chars().take(STATUS_MAX).collect()
}
