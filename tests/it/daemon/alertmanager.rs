//! The real program before an Alertmanager that fails in ways that a real one cannot be brought to: it answers 500, it is
//! another program, it says yes and keeps nothing. (One that is stopped or frozen: tests/e2e/alerts.rs.)
//!
//! In each case people get the same two mails, directly and not before the time; and when a good Alertmanager is there
//! again, it is told in a way that makes it mail nothing.

use super::relay::{LONGEST, Relay, header, outbox};
use super::world::{Daemon, World};
use crate::haproxy::lab::{free_port, until_within};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use supervisor::domain::incident::fingerprint;
use tokio_util::task::AbortOnDropHandle;

/// The shortest that the settings allow.
const FALLBACK_AFTER: Duration = Duration::from_secs(5);

/// Who has been told by the alert's own label, alertmanager/alertmanager.yml does not mail.
const MAILED: &str = "delivered_by";

/// What answers at the Alertmanager's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Alertmanager, and it keeps what it gets.
    Good,
    /// Every answer is 500.
    Fails,
    /// Another program: it answers everything, with a page.
    Stranger,
    /// Says that it is Alertmanager, says yes to alerts, keeps none.
    Forgets,
}

/// What answers there, and what a good one got.
struct Fake {
    mood: Mood,
    /// By fingerprint: the labels, and until when it fires.
    stored: BTreeMap<String, (BTreeMap<String, String>, Timestamp)>,
    /// What a good one would mail about, having got it: what fires and does not say that it was mailed.
    pages: Vec<Value>,
    /// How many alerts that are over it was told of.
    ends: usize,
}

impl Fake {
    fn firing(&mut self) -> Vec<BTreeMap<String, String>> {
        let now = Timestamp::now();
        self.stored.retain(|_, (_, ends)| *ends > now);
        self.stored.values().map(|(labels, _)| labels.clone()).collect()
    }

    fn take(&mut self, alert: Value) {
        let labels: BTreeMap<String, String> = serde_json::from_value(alert["labels"].clone()).unwrap();
        let ends: Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
        let fires = ends > Timestamp::now();
        self.ends += usize::from(!fires);
        if fires && !labels.contains_key(MAILED) {
            self.pages.push(alert);
        }
        self.stored.insert(fingerprint(&labels), (labels, ends));
    }
}

struct Alertmanager {
    port: u16,
    fake: Arc<Mutex<Fake>>,
    _task: AbortOnDropHandle<()>,
}

impl Alertmanager {
    async fn start(mood: Mood) -> Alertmanager {
        let fake = Fake { mood, stored: BTreeMap::new(), pages: Vec::new(), ends: 0 };
        let fake = Arc::new(Mutex::new(fake));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let app = Router::new().fallback(answer).with_state(Arc::clone(&fake));
        let serve = async move { axum::serve(listener, app).await.unwrap() };
        Alertmanager { port, fake, _task: AbortOnDropHandle::new(tokio::spawn(serve)) }
    }

    fn fake(&self) -> MutexGuard<'_, Fake> {
        self.fake.lock().unwrap()
    }
}

/// As Alertmanager's API v2 does when it is well.
async fn answer(State(fake): State<Arc<Mutex<Fake>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut fake = fake.lock().unwrap();
    match (fake.mood, &parts.method, parts.uri.path()) {
        (Mood::Fails, _, _) => (StatusCode::INTERNAL_SERVER_ERROR, "out of order\n").into_response(),
        (Mood::Stranger, _, _) => Html("<html><body>It works!</body></html>").into_response(),
        (_, &Method::GET, "/api/v2/status") => axum::Json(json!({
            "cluster": {"status": "ready"},
            "uptime": "2026-01-01T00:00:00.000Z",
            "versionInfo": {"version": "0.28.0"},
        }))
        .into_response(),
        (_, &Method::GET, "/api/v2/alerts") => {
            let alert = |labels: BTreeMap<String, String>| json!({"labels": labels, "fingerprint": fingerprint(&labels), "status": {"state": "active"}});
            axum::Json(fake.firing().into_iter().map(alert).collect::<Vec<_>>()).into_response()
        }
        (mood, &Method::POST, "/api/v2/alerts") => {
            let alerts: Vec<Value> = serde_json::from_slice(&body).unwrap();
            if mood == Mood::Good {
                alerts.into_iter().for_each(|alert| fake.take(alert));
            }
            StatusCode::OK.into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn settings(world: &World, alertmanager: u16, relay: u16, notify_grace: Duration) -> String {
    format!(
        "{}\n[alerts]\nfallback_after = \"{}s\"\nnotify_grace = \"{}s\"\n\
         [alerts.alertmanagers.am1]\nurl = \"http://127.0.0.1:{alertmanager}\"\n\
         [mail]\nfrom = \"supervisor@example.org\"\nto = [\"oncall@example.org\"]\nhelo = \"node.example.org\"\n\
         [mail.relays.main]\nhost = \"127.0.0.1\"\nport = {relay}\ntls = \"none\"\n",
        world.settings(),
        FALLBACK_AFTER.as_secs(),
        notify_grace.as_secs(),
    )
}

/// When the pool's incident opened.
async fn opened(daemon: &Daemon) -> Timestamp {
    daemon.until("the pool's incident is open", |view| !view.incidents.is_empty()).await;
    let view = daemon.view().await.unwrap();
    assert_eq!(view.incidents.len(), 1, "{:?}", view.incidents);
    assert_eq!(view.incidents[0].name, "PoolDown");
    view.incidents[0].since.parse().unwrap()
}

/// Breaks on-prem while `mood` answers at the Alertmanager's port. The mail must come between `earliest` and `latest`
/// after the opening and give `reason`. Then a good Alertmanager is there, and on-prem comes back.
#[expect(clippy::print_stdout, reason = "a run shows how long it took")]
async fn told_directly(
    mood: Mood,
    notify_grace: Duration,
    earliest: Duration,
    latest: Duration,
    reason: &str,
) {
    let world = World::new().await;
    let (alertmanager, port) = (Alertmanager::start(mood).await, free_port());
    let relay = Relay::on(port).await;
    world.write(&settings(&world, alertmanager.port, port, notify_grace));
    let daemon = world.running().await;

    world.onprem.close().await;
    let opened = opened(&daemon).await;
    let firing = relay.kept("[FIRING:1] PoolDown").await;
    let after = firing.at.duration_since(opened);
    println!("{mood:?}: [FIRING:1] {after:?} after the opening");
    assert!(after >= SignedDuration::try_from(earliest).unwrap(), "{after:?} after the opening is too early");
    assert!(after <= SignedDuration::try_from(latest).unwrap(), "{after:?} after the opening is too late");
    let why = header(&firing.text, "X-Supervisor-Reason");
    assert!(why.contains(reason), "{why:?}");

    alertmanager.fake().mood = Mood::Good;
    until_within(LONGEST, "Alertmanager has what was mailed", async || {
        alertmanager.fake().firing().iter().any(|labels| labels["alertname"] == "PoolDown")
    })
    .await;
    let has = alertmanager.fake().firing();
    assert!(
        has.iter().all(|labels| labels.get(MAILED).is_some_and(|by| by == "supervisor-email")),
        "{has:?}"
    );

    world.onprem.open().await;
    let resolved = relay.kept("[RESOLVED] PoolDown").await;
    assert_eq!(header(&resolved.text, "References"), header(&firing.text, "References"), "one thread");
    until_within(LONGEST, "Alertmanager hears of the end", async || alertmanager.fake().ends > 0).await;

    let pages = alertmanager.fake().pages.clone();
    assert!(pages.is_empty(), "Alertmanager would mail as well: {pages:?}");
    let subjects: Vec<String> = relay.mails().iter().map(|mail| header(&mail.text, "Subject")).collect();
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert_eq!(outbox(&daemon).await.mails.len(), 2, "no other mail is on its way");
}

/// Long enough never to be waited for where nothing accepted the alert.
const NOT_WAITED_FOR: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alertmanager_that_answers_500_is_mailed_around_and_told_when_it_is_well() {
    let latest = FALLBACK_AFTER + NOT_WAITED_FOR;
    told_directly(Mood::Fails, NOT_WAITED_FOR, FALLBACK_AFTER, latest, "500 Internal Server Error").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_program_behind_alertmanagers_port_is_not_taken_for_it() {
    let latest = FALLBACK_AFTER + NOT_WAITED_FOR;
    told_directly(Mood::Stranger, NOT_WAITED_FOR, FALLBACK_AFTER, latest, "is not an Alertmanager").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_that_was_accepted_and_not_kept_is_mailed_after_the_grace_and_not_before() {
    let grace = Duration::from_secs(10);
    let earliest = FALLBACK_AFTER + grace;
    told_directly(Mood::Forgets, grace, earliest, earliest + LONGEST, "but does not have it").await;
}
