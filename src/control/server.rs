//! The daemon's end of the control socket.

use super::bounded::Bounded;
use super::peer::{Peer, operator};
use super::protocol::{
    Answer, BODY_MAX_BYTES, COMMANDS_PATH, CONFIGS_PATH, CommandBody, ConfigBody, ConfigOrder, ErrorBody,
    Reply,
};
use super::socket::ControlSocket;
use crate::domain::{Operator, Order, ProxyId};
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use std::future::IntoFuture;
use std::io;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Connections at once. People and a few scripts; each costs a few kilobytes.
const CONNECTIONS_MAX: usize = 64;

/// From the head of a request to the answer. The loop answers in milliseconds, a commit may take its own deadline more.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// How long open requests have to end once we stop: well within the 2 s in which the process is gone.
const STOP_MAX: Duration = Duration::from_millis(500);

/// One order on its way to the loop.
#[derive(Debug)]
pub struct Request {
    /// What is ordered.
    pub order: Order,
    /// Why, in the person's words.
    pub because: Option<String>,
    /// Who.
    pub by: Operator,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Where the answer goes. The asker may be gone by then.
    pub reply: oneshot::Sender<Reply>,
}

/// One order about HAProxy's configuration, on its way to who keeps it.
#[derive(Debug)]
pub struct ConfigRequest {
    /// Which HAProxy.
    pub proxy: ProxyId,
    /// What is ordered.
    pub order: ConfigOrder,
    /// Why, in the person's words.
    pub because: Option<String>,
    /// Who.
    pub by: Operator,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Where the answer goes. The asker may be gone by then.
    pub reply: oneshot::Sender<Reply>,
}

/// Serves commands and `reads` on `socket` until `shutdown`. Ends within half a second of it, whatever is open.
pub async fn serve(
    socket: ControlSocket,
    commands: mpsc::Sender<Request>,
    reads: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let (listener, _removed_at_the_end) = socket.into_parts();
    let app = Router::new()
        .route(COMMANDS_PATH, post(command))
        .with_state(commands)
        .merge(reads)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(middleware::from_fn(with_deadline));
    let listener = Bounded::new(listener, CONNECTIONS_MAX);
    let service = app.into_make_service_with_connect_info::<Peer>();
    until(axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned()), shutdown)
        .await
}

/// Runs a server until it has stopped gracefully, or is out of time to do so. An open stream would hold a graceful stop
/// for ever (axum issue 2673).
pub async fn until(
    server: impl IntoFuture<Output = io::Result<()>>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(STOP_MAX).await;
    };
    // Dropping the server drops its listener; open connections end with the process.
    tokio::select! {
        ended = server.into_future() => ended,
        () = overdue => Ok(()),
    }
}

/// Puts an end to every request.
pub async fn with_deadline(request: axum::extract::Request, next: Next) -> Response {
    match timeout(REQUEST_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => error(
            StatusCode::GATEWAY_TIMEOUT,
            format!(
                "no answer within {} s; look at `supervisor status` before you try again",
                REQUEST_MAX.as_secs()
            ),
        ),
    }
}

/// An answer without a verdict.
pub fn error(status: StatusCode, words: impl Into<String>) -> Response {
    (status, Json(ErrorBody { error: words.into() })).into_response()
}

async fn command(
    State(commands): State<mpsc::Sender<Request>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some((uid, pid)) = peer.0 else { return stranger() };
    let body = match read::<CommandBody>(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    if let Err(words) = body.check() {
        return error(StatusCode::BAD_REQUEST, words);
    }
    let (reply, answer) = oneshot::channel();
    let CommandBody { order, because, dry_run } = body;
    let request = Request { order: order.into(), because, by: operator(uid, pid).await, dry_run, reply };
    if commands.send(request).await.is_err() {
        return stopping();
    }
    answered(answer).await
}

/// Takes orders about HAProxy's configuration; to be merged into what the control socket serves.
pub fn configs(orders: mpsc::Sender<ConfigRequest>) -> Router {
    Router::new().route(CONFIGS_PATH, post(config)).with_state(orders)
}

async fn config(
    State(orders): State<mpsc::Sender<ConfigRequest>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let Some((uid, pid)) = peer.0 else { return stranger() };
    let body = match read::<ConfigBody>(body) {
        Ok(body) => body,
        Err(response) => return *response,
    };
    if let Err(words) = body.check() {
        return error(StatusCode::BAD_REQUEST, words);
    }
    let (reply, answer) = oneshot::channel();
    let ConfigBody { proxy, order, because, dry_run } = body;
    let by = operator(uid, pid).await;
    if orders.send(ConfigRequest { proxy, order, because, by, dry_run, reply }).await.is_err() {
        return stopping();
    }
    answered(answer).await
}

fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Box<Response>> {
    let body = match body {
        Ok(body) => body,
        Err(rejection) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let words = format!("the body is longer than {BODY_MAX_BYTES} bytes");
            return Err(Box::new(error(StatusCode::PAYLOAD_TOO_LARGE, words)));
        }
        Err(rejection) => {
            return Err(Box::new(error(rejection.status(), "the body could not be read to its end")));
        }
    };
    let no_order =
        |why| error(StatusCode::BAD_REQUEST, format!("the body is no order: {why}; see docs/api.md"));
    serde_json::from_slice(&body).map_err(|why| Box::new(no_order(why)))
}

fn stranger() -> Response {
    error(StatusCode::FORBIDDEN, "the kernel does not tell who is asking, so nothing can be ordered")
}

fn stopping() -> Response {
    error(StatusCode::SERVICE_UNAVAILABLE, "supervisor is stopping; nothing was ordered")
}

async fn answered(answer: oneshot::Receiver<Reply>) -> Response {
    match answer.await {
        Ok(reply) => (status_of(&reply), Json(reply)).into_response(),
        Err(_) => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "supervisor stopped before it answered; look at `supervisor status` before you try again",
        ),
    }
}

fn status_of(reply: &Reply) -> StatusCode {
    match reply.verdict {
        Answer::Accepted | Answer::AlreadySo => StatusCode::OK,
        Answer::Denied => StatusCode::CONFLICT,
    }
}
