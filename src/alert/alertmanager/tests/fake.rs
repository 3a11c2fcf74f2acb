//! An Alertmanager to order: it stores, and it fails in every way that a real one cannot be made to fail in.
//!
//! What it does when it is well (replies, statuses, what a past `endsAt` means) is what Alertmanager 0.25 was seen to do.

use super::LONG;
use crate::alert::alertmanager::Peer;
use crate::clock::wall_now;
use crate::domain::incident::fingerprint;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mood {
    /// Well.
    Good,
    /// It answers 200 to alerts, and stores none.
    Forgets,
    /// The first look after a POST does not show what was posted.
    Lags,
    /// It takes requests, and never answers.
    Hangs,
    /// It answers every request whose path ends like this with this.
    Answers {
        on: &'static str,
        method: Method,
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
}

/// One POST that it got.
#[derive(Debug, Clone)]
pub(super) struct Post {
    pub(super) at: Instant,
    pub(super) alerts: Vec<Value>,
    pub(super) headers: HeaderMap,
}

/// What it is told to do, and what it saw.
pub(super) struct Script {
    pub(super) mood: Mood,
    /// Whether somebody silenced everything.
    pub(super) silenced: bool,
    /// Its silences, as it tells them.
    pub(super) silences: Vec<Value>,
    pub(super) cluster: &'static str,
    pub(super) uptime: String,
    /// How far its clock is ahead of ours.
    pub(super) ahead_ms: i64,
    /// It refuses alerts of this service.
    pub(super) refuses: Option<&'static str>,
    /// What `Authorization` must say.
    pub(super) authorization: Option<String>,
    /// It restarts right after the next look: between two rounds.
    pub(super) restarts: bool,
    pub(super) requests: usize,
    pub(super) statuses: usize,
    pub(super) looks: usize,
    pub(super) posts: Vec<Post>,
    /// By fingerprint: until when, and the alert.
    stored: BTreeMap<String, (i64, Value)>,
    lagging: bool,
}

impl Script {
    fn now_ms(&self) -> i64 {
        wall_now().0 + self.ahead_ms
    }

    /// What it has at this moment.
    pub(super) fn has(&mut self) -> Vec<String> {
        let now = self.now_ms();
        self.stored.retain(|_, (ends, _)| *ends > now);
        self.stored.keys().cloned().collect()
    }

    /// Alerts are kept in memory only.
    fn restart(&mut self) {
        self.restarts = false;
        self.stored.clear();
        self.uptime = format!("{}+", self.uptime);
    }
}

pub(super) struct Fake {
    pub(super) address: std::net::SocketAddr,
    script: Arc<Mutex<Script>>,
    asked: watch::Receiver<u64>,
}

impl Fake {
    pub(super) async fn start() -> Fake {
        let script = Arc::new(Mutex::new(Script {
            mood: Mood::Good,
            silenced: false,
            silences: Vec::new(),
            cluster: "ready",
            uptime: "2026-01-01T00:00:00.000Z".to_owned(),
            ahead_ms: 0,
            refuses: None,
            authorization: None,
            restarts: false,
            requests: 0,
            statuses: 0,
            looks: 0,
            posts: Vec::new(),
            stored: BTreeMap::new(),
            lagging: false,
        }));
        let (ask, asked) = watch::channel(0);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state((script.clone(), Arc::new(ask)));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Fake { address, script, asked }
    }

    pub(super) fn peer(&self) -> Peer {
        super::peer(&format!("http://{}", self.address))
    }

    pub(super) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(super) fn is(&self, mood: Mood) {
        self.script().mood = mood;
    }

    /// Waits until the script looks like this.
    pub(super) async fn until(&self, mut so: impl FnMut(&mut Script) -> bool) {
        let mut asked = self.asked.clone();
        let wait = async {
            loop {
                asked.mark_unchanged();
                if so(&mut self.script()) {
                    return;
                }
                asked.changed().await.unwrap();
            }
        };
        timeout(LONG, wait).await.expect("the fake Alertmanager is asked");
    }
}

type Shared = (Arc<Mutex<Script>>, Arc<watch::Sender<u64>>);

async fn answer(State((script, ask)): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let (mood, reply) = {
        let mut script = script.lock().unwrap();
        let reply = reply(&mut script, &parts.method, &parts.uri.to_string(), &parts.headers, &body);
        let reply = with_date(&script, reply);
        (script.mood.clone(), reply)
    };
    ask.send_modify(|count| *count += 1);
    if mood == Mood::Hangs {
        std::future::pending::<()>().await;
    }
    reply
}

fn with_date(script: &Script, reply: Response) -> Response {
    let stamp = jiff::Timestamp::from_millisecond(script.now_ms()).unwrap();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&stamp).unwrap();
    ([(header::DATE, date)], reply).into_response()
}

fn reply(script: &mut Script, method: &Method, uri: &str, headers: &HeaderMap, body: &[u8]) -> Response {
    script.requests += 1;
    let path = uri.split('?').next().unwrap();
    if let Mood::Answers { on, method: of, status, headers, body } = &script.mood
        && path.ends_with(on)
        && method == of
    {
        let status = StatusCode::from_u16(*status).unwrap();
        let mut reply = (status, body.clone()).into_response();
        for (name, value) in headers {
            reply.headers_mut().insert(*name, value.parse().unwrap());
        }
        return reply;
    }
    let said = headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    if said != script.authorization {
        return (StatusCode::UNAUTHORIZED, "Unauthorized\n").into_response();
    }
    match (method, path) {
        (&Method::GET, "/api/v2/status") => {
            script.statuses += 1;
            axum::Json(json!({
                "cluster": {"name": "01", "peers": [], "status": script.cluster},
                "config": {"original": "route: {}"},
                "uptime": script.uptime,
                "versionInfo": {"branch": "HEAD", "version": "0.25.0"},
            }))
            .into_response()
        }
        (&Method::GET, "/api/v2/alerts") => {
            script.looks += 1;
            assert!(uri.ends_with("?filter=source%3D%22supervisor%22"), "{uri}");
            if std::mem::take(&mut script.lagging) {
                return axum::Json(json!([])).into_response();
            }
            script.has();
            let state = if script.silenced { "suppressed" } else { "active" };
            let alert = |(fingerprint, (_, alert)): (&String, &(i64, Value))| {
                json!({
                    "labels": alert["labels"],
                    "annotations": alert["annotations"],
                    "fingerprint": fingerprint,
                    "status": {"state": state, "silencedBy": [], "inhibitedBy": []},
                })
            };
            let seen: Vec<Value> = script.stored.iter().map(alert).collect();
            if script.restarts {
                script.restart();
            }
            axum::Json(seen).into_response()
        }
        (&Method::GET, "/api/v2/silences") => axum::Json(script.silences.clone()).into_response(),
        (&Method::POST, "/api/v2/alerts") => take(script, headers, body),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n").into_response(),
    }
}

/// `POST /api/v2/alerts`: a batch with a bad alert is answered with 400, and its good ones are stored all the same.
fn take(script: &mut Script, headers: &HeaderMap, body: &[u8]) -> Response {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/json") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let alerts: Vec<Value> = serde_json::from_slice(body).unwrap();
    script.posts.push(Post { at: Instant::now(), alerts: alerts.clone(), headers: headers.clone() });
    script.lagging = script.mood == Mood::Lags;
    let mut bad = false;
    for alert in alerts {
        let labels: BTreeMap<String, String> = serde_json::from_value(alert["labels"].clone()).unwrap();
        let (starts, ends) = (time_of(&alert["startsAt"]), time_of(&alert["endsAt"]));
        if ends < starts
            || labels.get("service").map(String::as_str) == script.refuses && script.refuses.is_some()
        {
            bad = true;
        } else if script.mood != Mood::Forgets {
            script.stored.insert(fingerprint(&labels), (ends, alert));
        }
    }
    match bad {
        true => {
            let message = "invalid label set: this service is unlucky";
            (StatusCode::BAD_REQUEST, axum::Json(json!({"code": 400, "message": message}))).into_response()
        }
        false => ([(header::VARY, "Origin")], Body::empty()).into_response(),
    }
}

pub(super) fn time_of(value: &Value) -> i64 {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond()
}
