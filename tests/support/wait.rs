//! Waiting for a condition with a deadline: the only way anything here waits for the stack.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How often a condition is looked at. Short beside what is waited for (seconds), long enough to leave the two
/// processors of a small machine to the stack.
const STEP: Duration = Duration::from_millis(100);

/// What one look at a condition found.
pub(crate) enum Seen<T> {
    /// It holds.
    Yes(T),
    /// It does not hold yet; the text says what was found instead and ends up in the error.
    NotYet(String),
}

/// Looks at `condition` until it holds or `deadline` has passed; the error says what was found last.
pub(crate) async fn until<T, F, Fut>(what: &str, deadline: Duration, mut condition: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Seen<T>>>,
{
    let end = Instant::now() + deadline;
    let mut last = "nothing yet".to_owned();
    loop {
        // Dropping the look at its deadline is safe: every look only reads. The first is always made.
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, condition()).await {
            Ok(Ok(Seen::Yes(value))) => return Ok(value),
            Ok(Ok(Seen::NotYet(found))) => last = found,
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => last = format!("{last} (and the last look did not end)"),
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(anyhow!("waited {deadline:?} for {what}; last seen: {last}"));
        }
        tokio::time::sleep(STEP.min(left)).await;
    }
}
