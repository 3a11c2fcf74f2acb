//! What people and programs can read: the page, the JSON API, `/metrics` and `/health`.
//!
//! Fed by the daemon and by nobody else: the latest [`View`] through a watch channel, transitions as [`EventLine`]s
//! through a broadcast, the past through an [`EventSource`]. Nothing here changes anything; the listener on TCP offers
//! reads only, and the control socket mounts the same [`api::router`], and [`mails::router`] beside it.
//!
//! ```text
//!   loop ── watch<Arc<View>> ────────┐
//!        ── broadcast<EventLine> ────┼─► Sources ─► api (TCP and control socket)
//!        ── Metrics::record ─────────┤          └─► page, /metrics, /health (TCP)
//!   store ── EventSource ────────────┘
//! ```

mod answer;
pub mod api;
mod line;
pub mod mails;
mod metrics;
mod page;
mod view;

pub use answer::answer;
pub use line::{EventLine, EventList, EventSource};
pub use mails::{MailList, MailView, RecipientView};
pub use metrics::Metrics;
pub use view::{
    ConfigView, ContainerView, EngineView, IncidentView, LastProbe, Link, Meta, OutView, OverrideView,
    PeerView, ProxyView, ReasonView, ServerView, ServiceView, View,
};

use crate::control::{Bounded, server};
use axum::Router;
use axum::middleware;
use std::io;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Connections at once on the status listener: a few dozen browsers and scrapers, and an end.
const CONNECTIONS_MAX: usize = 256;

/// Streams of events at once, on all listeners together.
const STREAMS_MAX: usize = 64;

/// Reads of the journal at once. Each takes a thread while it waits for the disk; a disk that hangs must not take more.
const JOURNAL_READS_MAX: usize = 4;

/// Everything this room is fed with. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    views: watch::Receiver<Arc<View>>,
    live: broadcast::Sender<Arc<EventLine>>,
    past: Arc<dyn EventSource>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    streams: Arc<Semaphore>,
    journal_reads: Arc<Semaphore>,
}

impl Sources {
    /// Joins the sources. `shutdown` ends open streams.
    pub fn new(
        views: watch::Receiver<Arc<View>>,
        live: broadcast::Sender<Arc<EventLine>>,
        past: Arc<dyn EventSource>,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Sources {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        let journal_reads = Arc::new(Semaphore::new(JOURNAL_READS_MAX));
        Sources { views, live, past, metrics, shutdown, streams, journal_reads }
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }
}

/// Serves page, API, metrics and health on `listener` until the sources' shutdown. Ends within half a second of it.
pub async fn serve(listener: TcpListener, sources: Sources) -> io::Result<()> {
    let shutdown = sources.shutdown.clone();
    let app = router(sources);
    let listener = Bounded::new(listener, CONNECTIONS_MAX);
    let serving = axum::serve(listener, app).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    server::until(serving, shutdown).await
}

/// Everything the status listener offers.
fn router(sources: Sources) -> Router {
    let metrics = metrics::router(sources.clone());
    let app = api::router(sources.clone()).merge(page::router(sources)).merge(metrics);
    app.fallback(api::nothing_here).layer(middleware::from_fn(server::with_deadline))
}

#[cfg(test)]
mod tests;
