//! Tasks that must not end: a panic is a bug, but not a reason to stop watching.

use futures_util::FutureExt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first pause before a task that panicked is started again; doubled each time.
const RESTART_FIRST: Duration = Duration::from_millis(500);

/// The longest such pause. The task is silent meanwhile, so it must not be longer.
const RESTART_LONGEST: Duration = Duration::from_secs(30);

/// A task that ran for this long before it panicked starts again with the shortest pause.
const RAN_WELL: Duration = Duration::from_secs(60);

/// Runs what `make` makes until it ends by itself; after a panic, again. `name` is for the log.
pub async fn keep<F: Future<Output = ()>>(name: String, mut make: impl FnMut() -> F) {
    let mut pause = RESTART_FIRST;
    loop {
        let begun = Instant::now();
        // What is torn by a panic is dropped with the future; the next one starts from nothing.
        if AssertUnwindSafe(make()).catch_unwind().await.is_ok() {
            return;
        }
        if begun.elapsed() > RAN_WELL {
            pause = RESTART_FIRST;
        }
        tracing::error!(
            task = name,
            ?pause,
            "a task panicked, which is a bug: it starts again; please report the panic"
        );
        sleep(pause).await;
        pause = (pause * 2).min(RESTART_LONGEST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_ever_more_slowly() {
        let runs = AtomicU32::new(0);
        let begun = Instant::now();
        keep("test".to_owned(), || async {
            assert!(runs.fetch_add(1, Ordering::SeqCst) >= 9, "the panic of this test");
        })
        .await;
        assert_eq!(runs.load(Ordering::SeqCst), 10);
        // 0.5 + 1 + 2 + 4 + 8 + 16 + 30 + 30 + 30
        assert_eq!(begun.elapsed().as_millis() / 100, 1215);
    }
}
