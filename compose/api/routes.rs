//! The routes, and the one gate that every request passes.
//!
//! The gate applies the fault that is on, counts what goes to a handler, and puts the site's name on every
//! answer. Handlers know nothing of faults.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::executed::{Executed, Report};
use crate::faults::{Fault, Faults, HANG, Order, OrderError, Parameters};
use crate::metrics::Metrics;
use crate::store::{Item, Store, StoreError};

/// The header that carries the site's name.
const X_SITE: HeaderName = HeaderName::from_static("x-site");

/// The header by which a client names a change, so that its repetition is seen.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Enough for every id in use (a UUID has 36 bytes); the store keeps 65,536 of them.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The largest body: an item's name and its JSON, with room to spare.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// The longest name of an item.
const MAX_NAME_BYTES: usize = 1_024;

/// Items listed unless the client asks for another number.
const DEFAULT_LIST: u16 = 100;

/// Items listed at most.
const MAX_LIST: u16 = 1_000;

/// Requests in handlers at a time. Each waits for one SQLite connection: behind so many a further one would
/// only time out, so it is refused at once.
const MAX_EXECUTING: usize = 256;

/// What the handlers share.
pub(crate) struct App {
    site: String,
    site_header: HeaderValue,
    store: Store,
    faults: Faults,
    executed: Executed,
    metrics: Metrics,
    executing: Semaphore,
}

impl App {
    /// A well service with nothing executed yet; `site` has passed [`site_name`].
    pub(crate) fn new(site: String, store: Store) -> Arc<Self> {
        Arc::new(Self {
            site_header: HeaderValue::from_str(&site).unwrap_or(HeaderValue::from_static("invalid")),
            metrics: Metrics::new(&site),
            site,
            store,
            faults: Faults::default(),
            executed: Executed::default(),
            executing: Semaphore::new(MAX_EXECUTING),
        })
    }
}

/// Checks a site's name: it stands in a header and as the first word of a line.
pub(crate) fn site_name(given: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=64).contains(&given.len()) && given.chars().all(fits) {
        Ok(given.to_owned())
    } else {
        Err("a site's name has 1 to 64 letters, digits, '-', '_' or '.', for example onprem".to_owned())
    }
}

/// The whole service.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/items", get(list_items).post(create_item))
        .route("/items/{id}", get(get_item).delete(delete_item))
        .route("/health", get(health))
        .route("/live", get(live))
        .route("/metrics", get(metrics))
        .route("/executed", get(executed))
        .route("/executed/ids", get(executed_ids))
        .route("/fault", get(show_fault).delete(clear_fault))
        .route("/fault/{name}", post(order_fault))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), gate))
        .with_state(app)
}

/// What a path is for: faults, counts and labels treat all paths of a kind alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The service itself.
    Service(&'static str),
    /// `/health`, which two of the faults are about.
    Health,
    /// What others ask about the service.
    Probe(&'static str),
    /// The switches and the counts, which no fault touches.
    Control(&'static str),
    /// No route.
    Unknown,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path {
            "/" => Self::Service("/"),
            "/items" => Self::Service("/items"),
            "/health" => Self::Health,
            "/live" => Self::Probe("/live"),
            "/metrics" => Self::Probe("/metrics"),
            "/executed" | "/executed/ids" => Self::Control("/executed"),
            "/fault" => Self::Control("/fault"),
            _ if path.starts_with("/items/") => Self::Service("/items/{id}"),
            _ if path.starts_with("/fault/") => Self::Control("/fault"),
            _ => Self::Unknown,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Service(path) | Self::Probe(path) | Self::Control(path) => path,
            Self::Health => "/health",
            Self::Unknown => "other",
        }
    }
}

async fn gate(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let kind = Kind::of(request.uri().path());
    let method = request.method().clone();
    let mut response = match (app.faults.current(), kind) {
        (_, Kind::Control(_)) => next.run(request).await,
        (Fault::Error, _) => failure(StatusCode::INTERNAL_SERVER_ERROR, "the fault `error` is on"),
        (Fault::Health500, Kind::Health) => {
            failure(StatusCode::INTERNAL_SERVER_ERROR, "the fault `health500` is on")
        }
        (Fault::WrongBody, Kind::Health) => "<html><body>It works!</body></html>\n".into_response(),
        (Fault::Slow { ms }, _) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            execute(&app, kind, request, next).await
        }
        (Fault::Hang { after }, _) => {
            if after {
                execute(&app, kind, request, next).await;
            }
            // The client leaves first, and hyper then drops this future: nothing is executed later.
            tokio::time::sleep(HANG).await;
            failure(StatusCode::SERVICE_UNAVAILABLE, "the fault `hang` was on")
        }
        (Fault::None | Fault::Health500 | Fault::WrongBody, _) => execute(&app, kind, request, next).await,
    };
    response.headers_mut().insert(X_SITE, app.site_header.clone());
    app.metrics.answered(&method, kind.label(), response.status(), began.elapsed());
    response
}

async fn execute(app: &App, kind: Kind, request: Request, next: Next) -> Response {
    let Ok(_permit) = app.executing.try_acquire() else {
        return failure(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once");
    };
    if let Kind::Service(_) = kind {
        app.executed.record(request.method());
    }
    next.run(request).await
}

async fn root(State(app): State<Arc<App>>) -> String {
    format!("{} serves the demo API\n", app.site)
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<u16>,
}

async fn list_items(
    State(app): State<Arc<App>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<serde_json::Value>, Refusal> {
    let items = app.store.list(query.limit.unwrap_or(DEFAULT_LIST).min(MAX_LIST)).await?;
    Ok(Json(json!({ "items": items })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewItem {
    name: String,
}

async fn create_item(
    State(app): State<Arc<App>>,
    RequestId(request): RequestId,
    Json(new): Json<NewItem>,
) -> Result<Response, Refusal> {
    if new.name.is_empty() || new.name.len() > MAX_NAME_BYTES {
        return Err(Refusal::Name);
    }
    let item = app.store.create(new.name, request).await?;
    let location = [(header::LOCATION, format!("/items/{}", item.id))];
    Ok((StatusCode::CREATED, location, Json(item)).into_response())
}

async fn get_item(State(app): State<Arc<App>>, Path(id): Path<i64>) -> Result<Json<Item>, Refusal> {
    app.store.get(id).await?.map(Json).ok_or(Refusal::NoItem(id))
}

async fn delete_item(
    State(app): State<Arc<App>>,
    RequestId(request): RequestId,
    Path(id): Path<i64>,
) -> Result<StatusCode, Refusal> {
    if app.store.delete(id, request).await? { Ok(StatusCode::NO_CONTENT) } else { Err(Refusal::NoItem(id)) }
}

async fn health(State(app): State<Arc<App>>) -> Response {
    match app.store.check().await {
        Ok(checks) => Json(json!({ "status": "ok", "site": app.site, "checks": checks })).into_response(),
        Err(error) => {
            tracing::warn!(%error, "health check failed");
            let body = Json(json!({ "status": "failing", "site": app.site, "error": error.to_string() }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

async fn live(State(app): State<Arc<App>>) -> Json<serde_json::Value> {
    Json(json!({ "status": "ok", "site": app.site }))
}

async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let text = app.metrics.print(app.store.count().await?)?;
    let kind = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((kind, text).into_response())
}

async fn executed(State(app): State<Arc<App>>) -> Result<Json<Report>, Refusal> {
    Ok(Json(app.executed.report(app.store.changes().await?)))
}

async fn executed_ids(State(app): State<Arc<App>>) -> Result<Json<serde_json::Value>, Refusal> {
    let ids: serde_json::Map<_, _> =
        app.store.changed_ids().await?.into_iter().map(|(id, times)| (id, times.into())).collect();
    Ok(Json(ids.into()))
}

async fn show_fault(State(app): State<Arc<App>>) -> Json<Fault> {
    Json(app.faults.current())
}

async fn clear_fault(State(app): State<Arc<App>>) -> Json<Fault> {
    app.faults.set(Fault::None);
    Json(Fault::None)
}

async fn order_fault(
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    Query(given): Query<Parameters>,
) -> Result<Response, Refusal> {
    match Order::parse(&name, given)? {
        Order::Last(fault) => {
            app.faults.set(fault);
            Ok(Json(fault).into_response())
        }
        Order::Strike(blow) => {
            app.faults.strike(blow);
            Ok(StatusCode::ACCEPTED.into_response())
        }
    }
}

/// The id of a change, if the client gave one.
struct RequestId(Option<String>);

impl<S: Sync> FromRequestParts<S> for RequestId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let Some(value) = parts.headers.get(X_REQUEST_ID) else { return Ok(Self(None)) };
        match value.to_str() {
            Ok(id) if (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) => Ok(Self(Some(id.to_owned()))),
            // Refused, not ignored: a client that names its change counts on its being remembered.
            _ => Err(Refusal::RequestId),
        }
    }
}

/// Why a handler did not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("there is no item {0}")]
    NoItem(i64),
    #[error("name has 1 to {MAX_NAME_BYTES} bytes")]
    Name,
    #[error("x-request-id has 1 to {MAX_REQUEST_ID_BYTES} visible ASCII characters")]
    RequestId,
    #[error("the metrics could not be printed")]
    Metrics(#[from] std::fmt::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Order(#[from] OrderError),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NoItem(_) | Self::Order(OrderError::Unknown) => StatusCode::NOT_FOUND,
            Self::Name => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RequestId | Self::Order(OrderError::Parameter | OrderError::TooSlow) => {
                StatusCode::BAD_REQUEST
            }
            Self::Metrics(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Store(StoreError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        if status.is_server_error() {
            tracing::warn!(error = %self, "request failed");
        }
        failure(status, &self.to_string())
    }
}

fn failure(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({ "error": error }))).into_response()
}
