//! The task that watches one engine, for as long as the daemon runs.

use super::engine::{Engine, EngineError};
use super::session::{End, Session};
use super::translate::Key;
use crate::chain::chain;
use crate::domain::Event;
use crate::domain::event::LastSigns;
use crate::domain::id::ContainerName;
use crate::domain::jitter;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

/// The first pause before an engine that was lost is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// The longest such pause: what an engine says is the fastest evidence there is, and a try costs one `connect`.
const RETRY_LONGEST: Duration = Duration::from_secs(5);

/// How many events are remembered so that none is told twice. The engine itself keeps 256 for those who ask for the past.
const REMEMBERED: usize = 256;

/// Tells the core what `engine` says about the containers of `watched`, until nobody listens any more.
///
/// A list comes first, again every `resync`, and after every reconnect. An engine that is lost is told once, and tried
/// again for ever. Cancelling it is safe: it holds nothing but connections.
pub async fn watch(
    engine: Engine,
    mut watched: watch::Receiver<BTreeSet<ContainerName>>,
    hard: mpsc::Sender<Event>,
    resync: Duration,
) {
    let seed = jitter::seed(engine.id.as_str());
    let mut told = Told::default();
    let mut link = Link::Untried;
    let mut tries = 0;
    loop {
        let began = Instant::now();
        let mut session =
            Session { engine: &engine, watched: &mut watched, hard: &hard, told: &mut told, link: &mut link };
        let (end, last) = session.run(resync).await;
        if began.elapsed() > RETRY_LONGEST {
            tries = 0;
        }
        match end {
            End::Unheard => return,
            End::Deaf => {
                // The engine answers; only its stream was dead. Nothing is lost, the next list makes up for it.
                tracing::debug!(engine = %engine.id, "events were missed: subscribing anew");
            }
            End::Lost(error) => {
                if lost(&engine, &error, last, &mut link, &hard).await.is_err() {
                    return;
                }
            }
        }
        let pause = jitter::backoff(seed, tries, RETRY_FIRST, RETRY_LONGEST);
        tries = tries.saturating_add(1);
        tokio::select! {
            () = sleep(pause) => {}
            () = hard.closed() => return,
        }
    }
}

/// How we stand with the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    /// Not tried yet.
    Untried,
    /// It answers, and its events come.
    Found,
    /// It was lost, for this reason, and that was told.
    Lost(String),
}

/// Tells that the engine is lost: the core once, the log once for each reason.
async fn lost(
    engine: &Engine,
    error: &EngineError,
    last: LastSigns,
    link: &mut Link,
    hard: &mpsc::Sender<Event>,
) -> Result<(), mpsc::error::SendError<Event>> {
    let reason = error.to_string();
    let (tell, log) = match link {
        Link::Untried | Link::Found => (true, true),
        Link::Lost(before) => (false, *before != reason),
    };
    if log {
        tracing::warn!(
            engine = %engine.id,
            error = %chain(error),
            "no evidence from this engine's containers; probes and traffic go on, and it is tried again"
        );
    }
    *link = Link::Lost(reason);
    if tell {
        hard.send(Event::EngineLost { engine: engine.id, last }).await?;
    }
    Ok(())
}

/// The events that were told last.
#[derive(Debug, Default)]
pub struct Told(VecDeque<Key>);

impl Told {
    /// Whether `key` is new; it is not any more.
    pub fn is_new(&mut self, key: &Key) -> bool {
        if self.0.contains(key) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(key.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_comes_twice_is_told_once() {
        let mut told = Told::default();
        let key = |n, action: &str| Key { nanoseconds: n, id: "abc".to_owned(), action: action.to_owned() };
        assert!(told.is_new(&key(1, "kill")));
        assert!(told.is_new(&key(1, "die")), "two of one moment");
        assert!(!told.is_new(&key(1, "kill")));
        for n in 2..1000 {
            assert!(told.is_new(&key(n, "die")));
        }
        assert_eq!(told.0.len(), REMEMBERED, "bounded");
    }
}
