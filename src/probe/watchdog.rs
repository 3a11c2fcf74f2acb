//! Notices a prober that gives no result, and starts it anew. It takes a bug to get there; silence about a server that
//! counts as up would be the worst way to learn of it.

use super::prober;
use crate::clock::boot_now;
use crate::domain::time::{Boot, Span};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

/// How much longer than a probe may take its result may be away: the wait for a place among the connects, and a machine
/// that is out of breath.
const ALLOWANCE: Duration = Duration::from_secs(10);

/// A prober that is overdue has this long to show itself: after a freeze of our own process, its timer and ours end at the
/// same moment.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// What a prober writes on: by when its next result must be there, in milliseconds of the boot clock.
#[derive(Debug, Clone)]
pub(super) struct Beat(Arc<AtomicI64>);

/// Nothing is expected: the result waits for room in the lane, which is the loop's delay and not the prober's.
const NOTHING: i64 = i64::MAX;

impl Beat {
    fn new() -> Beat {
        Beat(Arc::new(AtomicI64::new(NOTHING)))
    }

    /// The next probe is due then, and takes at most so long.
    pub(super) fn expect(&self, due: Boot, timeout: Duration) {
        let by = due + Span::from(timeout) + Span::from(prober::SLACK) + Span::from(ALLOWANCE);
        self.0.store(by.0, Ordering::Relaxed);
    }

    /// The result is there.
    pub(super) fn done(&self) {
        self.0.store(NOTHING, Ordering::Relaxed);
    }

    fn by(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs what `make` makes until it ends by itself. When it falls silent it is dropped, `tell` is told since when, and
/// another one is made.
pub(super) async fn watch<F, T>(make: impl Fn(Beat) -> F, tell: impl Fn(Boot) -> T)
where
    F: Future<Output = ()> + Send + 'static,
    T: Future<Output = ()>,
{
    loop {
        let beat = Beat::new();
        // A task of its own, so that one that blocks its thread does not block the watch.
        let mut prober = AbortOnDropHandle::new(tokio::spawn(make(beat.clone())));
        tokio::select! {
            // `task::keep` sees to panics; a cancelled runtime ends us as well.
            _ = &mut prober => return,
            since = silent(&beat) => {
                drop(prober);
                tell(since).await;
            }
        }
    }
}

/// Ends when a result is overdue.
async fn silent(beat: &Beat) -> Boot {
    loop {
        let by = beat.by();
        // While nothing is expected, something soon will be.
        let nap = if by == NOTHING { SECOND_LOOK } else { Boot(by).since(boot_now()).duration() };
        sleep(nap).await;
        if by != NOTHING && boot_now() >= Boot(by) {
            sleep(SECOND_LOOK).await;
            if beat.by() == by {
                return Boot(by);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use tokio::sync::mpsc;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_prober_that_falls_silent_is_told_and_started_anew() {
        let starts = Arc::new(AtomicU32::new(0));
        let (told, mut heard) = mpsc::channel(4);
        let counted = Arc::clone(&starts);
        let make = move |beat: Beat| {
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            async move {
                if first {
                    // Due long ago: only the second look is left to wait for.
                    beat.expect(Boot(boot_now().0 - 60_000), Duration::ZERO);
                    std::future::pending::<()>().await;
                }
            }
        };
        let run = watch(make, |since| {
            let told = told.clone();
            async move { told.send(since).await.unwrap() }
        });
        timeout(Duration::from_secs(20), run).await.expect("the second prober ends by itself");
        assert_eq!(starts.load(Ordering::SeqCst), 2);
        assert!(heard.try_recv().is_ok());
        assert!(heard.try_recv().is_err(), "told once");
    }

    #[tokio::test]
    async fn one_that_shows_itself_at_the_second_look_is_left_alone() {
        let make = |beat: Beat| async move {
            beat.expect(Boot(boot_now().0 - 60_000), Duration::ZERO);
            sleep(Duration::from_millis(500)).await;
            beat.done();
            sleep(Duration::from_secs(3)).await;
        };
        watch(make, |since| async move { panic!("told silent since {since:?}") }).await;
    }
}
