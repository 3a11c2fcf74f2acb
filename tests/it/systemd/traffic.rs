//! Requests on a fixed schedule, whatever becomes of the ones before.

use crate::haproxy::lab;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

/// From one request to the next: 50 a second leave two processors to systemd and HAProxy.
const EVERY: Duration = Duration::from_millis(20);

/// Less than half a second's worth.
const FEW: usize = 20;

/// Dropping it stops it.
pub(crate) struct Traffic {
    stop: oneshot::Sender<()>,
    sending: JoinHandle<(usize, Vec<String>)>,
}

impl Traffic {
    pub(crate) fn start(port: u16) -> Traffic {
        let (stop, stopped) = oneshot::channel();
        Traffic { stop, sending: tokio::spawn(send(port, stopped)) }
    }

    /// Ends it. Every request must have been answered; how many there were.
    pub(crate) async fn lost_nothing(self) -> usize {
        drop(self.stop);
        let (answered, failed) = self.sending.await.unwrap();
        assert!(failed.is_empty(), "{answered} answered, and not: {failed:?}");
        assert!(answered >= FEW, "only {answered} requests: they say nothing");
        answered
    }
}

async fn send(port: u16, mut stopped: oneshot::Receiver<()>) -> (usize, Vec<String>) {
    let (mut requests, mut due) = (JoinSet::new(), interval(EVERY));
    loop {
        // Both may be dropped at any time: a flag and a timer.
        tokio::select! {
            _ = &mut stopped => break,
            _ = due.tick() => { requests.spawn(lab::get(port)); }
        }
    }
    let (mut answered, mut failed) = (0, Vec::new());
    for result in requests.join_all().await {
        match result {
            Ok(_) => answered += 1,
            Err(why) => failed.push(why),
        }
    }
    (answered, failed)
}
