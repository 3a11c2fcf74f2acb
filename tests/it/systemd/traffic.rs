//! Requests on a fixed schedule, whatever becomes of the ones before.

use crate::haproxy::lab;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::interval;

/// From one request to the next: 50 a second leave two processors to systemd and HAProxy.
const EVERY: Duration = Duration::from_millis(20);

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

    /// How many were answered, and how the others failed.
    pub(crate) async fn stop(self) -> (usize, Vec<String>) {
        drop(self.stop);
        self.sending.await.unwrap()
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
