//! What systemd is told (sd_notify(3)): ready, alive, one line of status, stopping. Nothing where it does not ask.

use crate::domain::explain::Grade;
use crate::status::{Link, View};
use sd_notify::NotifyState;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How often it is looked what there is to tell. What is ordered after the unit waits for the first word.
const EVERY: Duration = Duration::from_millis(250);

/// Ready at the latest: an HAProxy that is away must not fail the start, for it may be ordered after us.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// The loop makes a view at least once a second. One that is older means that it stands still.
const FRESH_MAX: Duration = Duration::from_secs(3);

/// The longest status line.
const STATUS_MAX: usize = 200;

/// Tells systemd until `shutdown`. The loop feeds the watchdog: without fresh views nothing is sent.
pub(super) async fn keep(views: watch::Receiver<Arc<View>>, shutdown: CancellationToken) {
    // Three words in the time after which systemd acts: one may be late.
    let feed = sd_notify::watchdog_enabled().map(|within| within / 3);
    let began = Instant::now();
    let (mut ready, mut fed, mut told) = (false, None::<Instant>, String::new());
    while !shutdown.is_cancelled() {
        let view = Arc::clone(&views.borrow());
        let mut words = Vec::new();
        if !ready && (has_looked(&view) || began.elapsed() >= READY_WITHIN) {
            ready = true;
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

#[derive(Debug)]
enum Word {
    Ready,
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
            .map(|word| match word {
                Word::Ready => NotifyState::Ready,
                Word::Alive => NotifyState::Watchdog,
                Word::Status(line) => NotifyState::Status(line),
                Word::Stopping => NotifyState::Stopping,
            })
            .collect();
        sd_notify::notify(&state)
    });
    if let Ok(Err(error)) = told.await {
        tracing::warn!(%error, "systemd cannot be told how it stands");
    }
}

/// Whether each HAProxy was heard of.
fn has_looked(view: &View) -> bool {
    view.proxies.iter().all(|proxy| proxy.link != Link::Unseen)
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
