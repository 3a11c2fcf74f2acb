//! The listeners: the control socket and the status address. Traffic is steered without them, so a listener that cannot be
//! opened, or that ends, costs only itself: it is said, shown on what is left, and tried again until it works.

use super::board::Board;
use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// The first pause before a listener is tried again; doubled each time.
const AGAIN_FIRST: Duration = Duration::from_millis(500);

/// The longest such pause: a person who freed the address should see it work before they start to doubt. An attempt costs
/// a few system calls, so there is no end to them.
const AGAIN_LONGEST: Duration = Duration::from_secs(15);

/// A listener that served for this long before it ended is tried again after the shortest pause.
const SERVED_WELL: Duration = Duration::from_secs(60);

/// Opens a listener and serves on it until `shutdown`, whatever happens to it. `about` names it on the board; what `open`
/// and `serve` say of their failures ends there and in the log, each wording once.
pub(super) async fn keep_open<L, O, S>(
    about: &'static str,
    mut open: impl FnMut() -> O,
    mut serve: impl FnMut(L) -> S,
    board: Board,
    shutdown: CancellationToken,
) where
    O: Future<Output = Result<L, String>>,
    S: Future<Output = io::Result<()>>,
{
    let mut pause = AGAIN_FIRST;
    let mut told: Option<String> = None;
    while !shutdown.is_cancelled() {
        let trouble = match open().await {
            Ok(listener) => {
                board.post(about, Vec::new());
                if told.take().is_some() {
                    tracing::info!("{about}: it is open now");
                }
                let begun = Instant::now();
                let ended = serve(listener).await;
                if shutdown.is_cancelled() {
                    return;
                }
                if begun.elapsed() >= SERVED_WELL {
                    pause = AGAIN_FIRST;
                }
                match ended {
                    Ok(()) => format!("{about}: the listener ended"),
                    Err(error) => format!("{about}: the listener ended: {error}"),
                }
            }
            Err(trouble) => format!("{about}: {trouble}"),
        };
        if told.as_ref() != Some(&trouble) {
            tracing::error!("{trouble}; traffic is steered all the same, and this is tried again");
        }
        board.post(about, vec![trouble.clone()]);
        told = Some(trouble);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(pause) => pause = (pause * 2).min(AGAIN_LONGEST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A listener that cannot be opened `refused` times, then ends at once `ended` times, and then serves.
    async fn story(refused: u32, ended: u32) -> (u32, Duration, Vec<String>) {
        let (board, mut posted) = Board::new();
        let (shutdown, tries) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
        let begun = Instant::now();
        let open = || {
            let tried = tries.fetch_add(1, Ordering::SeqCst);
            async move { if tried < refused { Err("taken".to_owned()) } else { Ok(tried) } }
        };
        let (stop, shown) = (shutdown.clone(), board.clone());
        let serve = |tried| {
            let (stop, shown) = (stop.clone(), shown.clone());
            async move {
                if tried < refused + ended {
                    return Err(io::Error::other("torn"));
                }
                shown.post("other", vec!["served".to_owned()]);
                stop.cancel();
                Ok(())
            }
        };
        keep_open("the test's listener", open, serve, board, shutdown).await;
        (tries.load(Ordering::SeqCst), begun.elapsed(), posted.read())
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_cannot_be_opened_is_tried_again_ever_more_slowly_until_it_can() {
        let (tries, took, shown) = story(7, 0).await;
        assert_eq!(tries, 8);
        // 0.5 + 1 + 2 + 4 + 8 + 15 + 15
        assert_eq!(took.as_millis() / 100, 455);
        assert_eq!(shown, ["served"], "what was wrong is taken down");
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_that_ends_is_opened_again_and_never_in_a_tight_loop() {
        let (tries, took, shown) = story(0, 3).await;
        assert_eq!((tries, took.as_millis() / 100), (4, 35));
        assert_eq!(shown, ["served"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_does_not_wait_for_the_next_try() {
        let (board, mut posted) = Board::new();
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let open = || async { Err::<(), _>("taken".to_owned()) };
        let kept = keep_open("it", open, |()| async { Ok(()) }, board, shutdown);
        let stopped = async {
            sleep(Duration::from_millis(100)).await;
            stop.cancel();
        };
        let begun = Instant::now();
        tokio::join!(kept, stopped);
        assert_eq!(begun.elapsed().as_millis(), 100);
        assert_eq!(posted.read(), ["it: taken"]);
    }
}
