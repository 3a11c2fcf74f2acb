//! The JSON API: reads only. Mounted on the status listener and on the control socket alike.

use super::Sources;
use super::line::{EventLine, EventList, EventSource};
use crate::control::server::error;
use crate::domain::id::ServiceId;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, TryAcquireError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Events given without a `limit`.
const EVENTS_DEFAULT: usize = 100;

/// The most events one answer has; the next ones are asked for with `after`.
const EVENTS_MAX: usize = 1_000;

/// Between heartbeats of a stream: half of what a connection may stay quiet.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The longest life of a stream. Readers reconnect by themselves; a forgotten one gives its place back.
const STREAM_MAX: Duration = Duration::from_secs(3_600);

/// The loop reports at least once a second. A view older than this means that it stands still.
const FRESH_MAX: Duration = Duration::from_secs(5);

/// The reads.
pub fn router(sources: Sources) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/api/v1/status", get(status))
        .route("/api/v1/explain/{service}", get(explain))
        .route("/api/v1/events", get(events))
        .route("/api/v1/events/stream", get(stream))
        .with_state(sources)
}

/// For every other path.
pub(super) async fn nothing_here(uri: Uri) -> Response {
    let shown: String = uri.path().chars().take(100).collect();
    error(StatusCode::NOT_FOUND, format!("there is nothing at {shown}; see docs/api.md"))
}

/// Whether the loop is alive: for Docker's HEALTHCHECK and for load balancers. Says nothing about the services.
async fn health(State(sources): State<Sources>) -> Response {
    let age = sources.view().made.elapsed();
    if age > FRESH_MAX {
        let words = format!("the decision loop has not reported for {} s", age.as_secs());
        return error(StatusCode::SERVICE_UNAVAILABLE, words);
    }
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    Json(serde_json::json!({ "alive": true, "reported_ms_ago": age_ms })).into_response()
}

async fn status(State(sources): State<Sources>) -> Response {
    ([(header::CACHE_CONTROL, "no-store")], Json(&*sources.view())).into_response()
}

async fn explain(State(sources): State<Sources>, Path(service): Path<String>) -> Response {
    let view = sources.view();
    let known = service.parse().ok().and_then(|name: ServiceId| view.service(name));
    match known {
        Some(service) => Json(service).into_response(),
        None => {
            let names: Vec<&str> =
                view.services.iter().take(20).map(|service| service.name.as_str()).collect();
            error(StatusCode::NOT_FOUND, format!("there is no such service; there is {}", names.join(", ")))
        }
    }
}

/// The query of `GET /api/v1/events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    limit: Option<usize>,
    after: Option<u64>,
}

async fn events(
    State(sources): State<Sources>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return rejected(&rejection, &format!("limit=1..{EVENTS_MAX} and after=SEQ")),
    };
    let limit = query.limit.unwrap_or(EVENTS_DEFAULT).clamp(1, EVENTS_MAX);
    journal_read(&sources, move |past| past.tail(limit, query.after).map(|events| EventList { events })).await
}

/// For a query that is none; `known` is what would be.
pub(super) fn rejected(rejection: &QueryRejection, known: &str) -> Response {
    error(StatusCode::BAD_REQUEST, format!("{}; known are {known}", rejection.body_text()))
}

/// Reads from the disk, on a thread that may wait for it.
pub(super) async fn journal_read<T: Serialize + Send + 'static>(
    sources: &Sources,
    read: impl FnOnce(&dyn EventSource) -> Result<T, String> + Send + 'static,
) -> Response {
    let Ok(place) = Arc::clone(&sources.journal_reads).try_acquire_owned() else {
        return error(
            StatusCode::SERVICE_UNAVAILABLE,
            "the journal is busy or its disk hangs; try again later",
        );
    };
    let past = Arc::clone(&sources.past);
    // The place goes with the thread: if the disk hangs, the deadline answers the reader, and the place stays taken.
    let read = tokio::task::spawn_blocking(move || {
        let read = read(&*past);
        drop(place);
        read
    });
    match read.await {
        Ok(Ok(body)) => Json(body).into_response(),
        Ok(Err(words)) => error(StatusCode::SERVICE_UNAVAILABLE, words),
        Err(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "the journal could not be read; the log says why"),
    }
}

/// What one stream needs to go on.
struct Follower {
    live: Receiver<Arc<EventLine>>,
    shutdown: CancellationToken,
    end: Instant,
    _place: OwnedSemaphorePermit,
}

async fn stream(State(sources): State<Sources>) -> Response {
    let place = match Arc::clone(&sources.streams).try_acquire_owned() {
        Ok(place) => place,
        Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
            return error(StatusCode::SERVICE_UNAVAILABLE, "too many readers follow the events already");
        }
    };
    let follower = Follower {
        live: sources.live.subscribe(),
        shutdown: sources.shutdown.clone(),
        end: Instant::now() + STREAM_MAX,
        _place: place,
    };
    let events = unfold(follower, |mut follower| async move {
        let event = follower.next().await?;
        Some((Ok::<Event, Infallible>(event), follower))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response()
}

impl Follower {
    /// The next event; none at the end. Cancelling is safe: a broadcast loses nothing when its wait is dropped.
    async fn next(&mut self) -> Option<Event> {
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            () = sleep_until(self.end) => None,
            received = self.live.recv() => match received {
                Ok(line) => transition(&line),
                // The reader was too slow for the bounded channel. It is told, and can ask for the rest with `after`.
                Err(RecvError::Lagged(missed)) => {
                    Some(Event::default().event("gap").data(format!("{{\"missed\":{missed}}}")))
                }
                Err(RecvError::Closed) => None,
            },
        }
    }
}

fn transition(line: &EventLine) -> Option<Event> {
    let event = Event::default().event("transition").id(format!("{}-{}", line.seq, line.index));
    event.json_data(line).ok()
}
