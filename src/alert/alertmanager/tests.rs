//! Against an Alertmanager that is scripted ([`fake`]), over real sockets and in real time. What is waited for is a
//! condition; the waits of the task itself are short.

mod desired;
mod fake;
mod faults;
mod tls;

use super::pacing::pause;
use super::*;
use crate::clock::wall_now;
use crate::domain::delivery::Word;
use crate::domain::incident::{IncidentId, fingerprint};
use crate::domain::jitter;
use crate::domain::time::Wall;
use fake::{Fake, Mood, time_of};
use std::collections::BTreeMap;
use tokio::task::JoinHandle;

/// Long enough for a machine that is busy with something else; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(60);

/// Rounds follow one another quickly; deadlines are far away.
const QUICK: Timing = Timing {
    resend: Duration::from_millis(50),
    gather: Duration::from_millis(10),
    second_look: Duration::from_millis(30),
    pauses: [
        Duration::from_millis(20),
        Duration::from_millis(30),
        Duration::from_millis(40),
        Duration::from_millis(50),
    ],
    connect: LONG,
    request: LONG,
    round: LONG,
    silences: LONG,
};

fn peer(url: &str) -> Peer {
    Peer { id: "am1".parse().unwrap(), url: url.parse().unwrap(), auth: None, ca: None }
}

/// An alert of the service `service`, which has lasted for a minute.
fn alert(incident: u64, service: &str) -> Alert {
    let pairs = [("alertname", "ServiceDown"), ("source", "supervisor"), ("service", service)];
    Alert {
        incident: IncidentId(incident),
        labels: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        annotations: BTreeMap::from([("summary".to_owned(), "it is down".to_owned())]),
        starts: Wall(wall_now().0 - 60_000),
        ended: None,
        generator_url: "http://supervisor:9480/".to_owned(),
    }
}

fn ended(incident: u64, service: &str) -> Alert {
    Alert { ended: Some(Wall(wall_now().0 - 1_000)), ..alert(incident, service) }
}

/// A peer's task, its desired value, and what it tells.
struct Running {
    wanted: watch::Sender<Arc<Vec<Alert>>>,
    lane: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(peer: Peer, timing: Timing, alerts: Vec<Alert>) -> Running {
        let (wanted, alerts) = watch::channel(Arc::new(alerts));
        let (events, lane) = mpsc::channel(64);
        let task = tokio::spawn(run_with(peer, timing, alerts, events));
        Running { wanted, lane, task }
    }

    fn want(&self, alerts: Vec<Alert>) {
        self.wanted.send(Arc::new(alerts)).unwrap();
    }

    async fn next(&mut self) -> PeerResult {
        let event = timeout(LONG, self.lane.recv()).await.expect("an event").expect("the task runs");
        let Event::Peer(seen) = event else { panic!("{event:?}") };
        assert_eq!(seen.peer.as_str(), "am1");
        seen.result
    }

    async fn words(&mut self) -> Vec<(u64, Word)> {
        match self.next().await {
            PeerResult::Answered(words) => words.into_iter().map(|(id, word)| (id.0, word)).collect(),
            PeerResult::Failed(words) => panic!("failed: {words}"),
        }
    }

    async fn failure(&mut self) -> String {
        match self.next().await {
            PeerResult::Failed(words) => words,
            PeerResult::Answered(words) => panic!("answered: {words:?}"),
        }
    }

    fn nothing_more(&mut self) {
        assert_eq!(self.lane.try_recv().unwrap_err(), mpsc::error::TryRecvError::Empty);
    }
}

#[tokio::test]
async fn with_nothing_to_tell_it_is_still_known_whether_it_is_there() {
    let fake = Fake::start().await;
    let mut running = Running::start(fake.peer(), QUICK, Vec::new());
    assert_eq!(running.words().await, []);
    fake.until(|script| script.statuses >= 5).await;
    running.nothing_more();
    assert!(fake.script().posts.is_empty(), "there is nothing to post");
}

#[tokio::test]
async fn an_alert_is_posted_read_back_and_posted_again() {
    let fake = Fake::start().await;
    let wanted = alert(7, "api");
    let mut running = Running::start(fake.peer(), QUICK, vec![wanted.clone()]);
    assert_eq!(running.words().await, [(7, Word::Active)]);
    fake.until(|script| script.posts.len() >= 3).await;
    running.nothing_more();
    let script = fake.script();
    for post in &script.posts {
        assert_eq!(post.alerts.len(), 1);
        let posted = &post.alerts[0];
        assert_eq!(posted["labels"], serde_json::to_value(&wanted.labels).unwrap());
        assert_eq!(posted["annotations"]["summary"], "it is down");
        assert_eq!(posted["generatorURL"], wanted.generator_url);
        assert_eq!(time_of(&posted["startsAt"]), wanted.starts.0, "the same in every post");
        let lasts = time_of(&posted["endsAt"]) - wall_now().0;
        assert!((60_000..=120_000).contains(&lasts), "four times the pause, {lasts} ms left");
        assert_eq!(post.headers["user-agent"], concat!("supervisor/", env!("CARGO_PKG_VERSION")));
    }
}

#[tokio::test]
async fn its_silences_are_told_when_they_change_and_their_absence_is_no_failure() {
    let fake = Fake::start().await;
    let mut running = Running::start(fake.peer(), QUICK, Vec::new());
    let silences = async |running: &mut Running| {
        let event = timeout(LONG, running.lane.recv()).await.expect("an event");
        let Some(Event::Peer(PeerSeen { result: PeerResult::Answered(_), silences, .. })) = event else {
            panic!("{event:?}")
        };
        silences
    };
    assert_eq!(silences(&mut running).await, Some(Vec::new()));
    let until = jiff::Timestamp::from_millisecond(wall_now().0 + 60_000).unwrap();
    fake.script().silences = vec![serde_json::json!({
        "id": "1", "status": {"state": "active"}, "startsAt": "2026-01-01T00:00:00.000Z", "endsAt": until.to_string(),
        "matchers": [{"name": "service", "value": "api", "isRegex": false, "isEqual": true}],
    })];
    let told = silences(&mut running).await.unwrap();
    assert!(
        told[0].covers(&alert(1, "api").labels, wall_now())
            && !told[0].covers(&alert(1, "shop").labels, wall_now())
    );
    let none = Mood::Answers {
        on: "/silences",
        method: axum::http::Method::GET,
        status: 500,
        headers: Vec::new(),
        body: String::new(),
    };
    fake.is(none);
    assert_eq!(silences(&mut running).await, None);
}

#[tokio::test]
async fn what_is_silenced_is_suppressed_and_no_longer_when_the_silence_ends() {
    let fake = Fake::start().await;
    fake.script().silenced = true;
    let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Suppressed)]);
    fake.script().silenced = false;
    assert_eq!(running.words().await, [(1, Word::Active)]);
}

#[tokio::test]
async fn what_was_taken_and_is_not_there_is_absent_after_a_second_look() {
    let fake = Fake::start().await;
    fake.is(Mood::Forgets);
    // It is tried again soon, and not when the next round would be due.
    let timing = Timing { resend: LONG * 10, second_look: Duration::from_millis(300), ..QUICK };
    let mut running = Running::start(fake.peer(), timing, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Absent)]);
    let posted = fake.script().posts[0].at;
    assert!(posted.elapsed() >= timing.second_look, "{:?}", posted.elapsed());
    assert!(fake.script().looks >= 2);
    fake.is(Mood::Good);
    assert_eq!(running.words().await, [(1, Word::Active)]);
}

#[tokio::test]
async fn what_shows_up_only_at_the_second_look_was_never_absent() {
    let fake = Fake::start().await;
    fake.is(Mood::Lags);
    let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Active)]);
    fake.until(|script| script.looks >= 6).await;
    running.nothing_more();
}

#[tokio::test]
async fn after_a_restart_everything_is_posted_again_and_nobody_is_told_of_it() {
    let fake = Fake::start().await;
    let wanted = alert(1, "api");
    let mut running = Running::start(fake.peer(), QUICK, vec![wanted.clone()]);
    assert_eq!(running.words().await, [(1, Word::Active)]);
    fake.script().restarts = true;
    fake.until(|script| !script.restarts).await;
    let print = fingerprint(&wanted.labels);
    fake.until(|script| script.has().contains(&print)).await;
    fake.until({
        let looks = fake.script().looks;
        move |script| script.looks >= looks + 2
    })
    .await;
    running.nothing_more();
}

#[tokio::test]
async fn one_that_settles_takes_alerts() {
    let fake = Fake::start().await;
    fake.script().cluster = "settling";
    let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Active)]);
}

#[tokio::test]
async fn one_bad_alert_among_many_is_refused_alone() {
    let fake = Fake::start().await;
    fake.script().refuses = Some("bad");
    let mut alerts: Vec<Alert> = (0..20).map(|id| alert(id, &format!("api-{id}"))).collect();
    alerts[13] = alert(13, "bad");
    let mut running = Running::start(fake.peer(), QUICK, alerts);
    let words = running.words().await;
    assert_eq!(words.len(), 20);
    for (id, word) in words {
        let expected = match id {
            13 => Word::Rejected("invalid label set: this service is unlucky".to_owned()),
            _ => Word::Active,
        };
        assert_eq!(word, expected, "{id}");
    }
}

#[tokio::test]
async fn a_batch_that_is_too_large_for_a_proxy_is_halved() {
    let fake = Fake::start().await;
    let large = |status| Mood::Answers {
        on: "/alerts",
        method: "POST".parse().unwrap(),
        status,
        headers: Vec::new(),
        body: "<html>Request Entity Too Large</html>".to_owned(),
    };
    for status in [400, 413, 422] {
        fake.is(large(status));
        let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "a"), alert(2, "b")]);
        let words = Word::Rejected("<html>Request Entity Too Large</html>".to_owned());
        assert_eq!(running.words().await, [(1, words.clone()), (2, words)], "{status}");
    }
}

#[tokio::test]
async fn alerts_go_out_in_batches_of_prometheus_size() {
    let fake = Fake::start().await;
    let alerts: Vec<Alert> = (0..300).map(|id| alert(id, &format!("api-{id}"))).collect();
    let timing = Timing { resend: LONG, ..QUICK };
    let mut running = Running::start(fake.peer(), timing, alerts);
    assert_eq!(running.words().await.len(), 300);
    let sizes: Vec<usize> = fake.script().posts.iter().map(|post| post.alerts.len()).collect();
    assert_eq!(sizes, [256, 44]);
}

#[tokio::test]
async fn an_end_is_told_with_its_own_time_and_for_a_quarter_of_an_hour() {
    let fake = Fake::start().await;
    let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Active)]);
    let over = ended(1, "api");
    running.want(vec![over.clone()]);
    assert_eq!(running.words().await, [(1, Word::Resolved)]);
    assert!(fake.script().has().is_empty());
    let last = fake.script().posts.last().unwrap().alerts[0].clone();
    assert_eq!(time_of(&last["endsAt"]), over.ended.unwrap().0);
    let long_ago = Wall(wall_now().0 - 15 * 60_000);
    running.want(vec![Alert { ended: Some(long_ago), ..over }]);
    assert_eq!(running.words().await, [], "it is no longer sent");
}

#[tokio::test]
async fn an_end_that_is_not_taken_yet_is_not_said_to_be_told() {
    let fake = Fake::start().await;
    let timing = Timing { resend: LONG * 10, ..QUICK };
    let mut running = Running::start(fake.peer(), timing, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Active)]);
    // Its clock is behind, by less than is corrected: our end lies in its future.
    fake.script().ahead_ms = -20_000;
    running.want(vec![ended(1, "api")]);
    assert_eq!(running.words().await, []);
    fake.script().ahead_ms = 0;
    assert_eq!(running.words().await, [(1, Word::Resolved)]);
}

#[tokio::test]
async fn with_a_clock_that_is_far_off_alerts_fire_and_end_all_the_same() {
    for ahead_ms in [-3_600_000_i64, 3_600_000] {
        let fake = Fake::start().await;
        fake.script().ahead_ms = ahead_ms;
        let wanted = alert(1, "api");
        let mut running = Running::start(fake.peer(), QUICK, vec![wanted.clone()]);
        assert_eq!(running.words().await, [(1, Word::Active)], "{ahead_ms}");
        let posted = fake.script().posts[0].alerts[0].clone();
        let off = time_of(&posted["startsAt"]) - wanted.starts.0 - ahead_ms;
        assert!(off.abs() <= 30_000, "{off} ms from its time of the beginning");
        let lasts = time_of(&posted["endsAt"]) - wall_now().0 - ahead_ms;
        assert!((30_000..=150_000).contains(&lasts), "{lasts} ms left on its clock");
        // Long enough ago for the second that a `Date` cuts off.
        let over = Alert { ended: Some(Wall(wall_now().0 - 5_000)), ..wanted };
        running.want(vec![over]);
        assert_eq!(running.words().await, [(1, Word::Resolved)], "{ahead_ms}");
    }
}

#[tokio::test]
async fn a_change_is_posted_at_once_and_changes_that_come_together_are_posted_together() {
    let fake = Fake::start().await;
    let timing = Timing { resend: LONG, gather: Duration::from_millis(200), ..QUICK };
    let mut running = Running::start(fake.peer(), timing, Vec::new());
    assert_eq!(running.words().await, []);
    for count in 1..=20 {
        running.want((0..count).map(|id| alert(id, &format!("api-{id}"))).collect());
        tokio::task::yield_now().await;
    }
    let mut words = running.words().await;
    while words.len() < 20 {
        words = running.words().await;
    }
    assert!(words.iter().all(|(_, word)| *word == Word::Active));
    let posts = fake.script().posts.len();
    assert!(posts <= 3, "{posts} posts for one burst");
}

#[tokio::test]
async fn it_ends_with_its_listener_and_with_nothing_else() {
    let fake = Fake::start().await;
    let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Active)]);
    drop(running.wanted);
    let posts = fake.script().posts.len();
    fake.until(|script| script.posts.len() > posts + 2).await;
    assert!(!running.task.is_finished(), "what was wanted last is kept there");
    fake.is(Mood::Hangs);
    let requests = fake.script().requests;
    fake.until(|script| script.requests > requests).await;
    drop(running.lane);
    timeout(LONG, running.task).await.expect("it ends in the middle of a round").unwrap();
}

#[tokio::test]
async fn behind_a_path_it_is_asked_there() {
    let fake = Fake::start().await;
    let at = |path: &str| peer(&format!("http://{}{path}", fake.address));
    for path in ["", "/"] {
        let mut running = Running::start(at(path), QUICK, Vec::new());
        assert_eq!(running.words().await, [], "{path:?}");
    }
    for path in ["/am", "/am/"] {
        let mut running = Running::start(at(path), QUICK, Vec::new());
        let words = running.failure().await;
        assert!(words.contains("/am/api/v2/status answers 404 Not Found: misconfigured"), "{words}");
    }
}

#[tokio::test]
async fn credentials_are_sent_as_http_wants_them() {
    for (auth, header) in [
        // RFC 7617, section 2: the example of the standard.
        (
            Auth::Basic { user: "Aladdin".into(), password: Secret::new("open sesame") },
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ),
        (Auth::Bearer(Secret::new("t0ken")), "Bearer t0ken"),
    ] {
        let fake = Fake::start().await;
        fake.script().authorization = Some(header.to_owned());
        let peer = Peer { auth: Some(auth), ..fake.peer() };
        let mut running = Running::start(peer, QUICK, vec![alert(1, "api")]);
        assert_eq!(running.words().await, [(1, Word::Active)]);
    }
}

#[tokio::test]
async fn the_last_look_asks_all_and_takes_any() {
    let (one, silenced, dead, silent) =
        (Fake::start().await, Fake::start().await, Fake::start().await, Fake::start().await);
    silenced.script().silenced = true;
    dead.is(Mood::Answers {
        on: "/alerts",
        method: "GET".parse().unwrap(),
        status: 503,
        headers: Vec::new(),
        body: String::new(),
    });
    for (fake, service) in [(&one, "a"), (&silenced, "b"), (&one, "unasked")] {
        let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, service)]);
        running.words().await;
    }
    silent.is(Mood::Hangs);
    let peers = [dead.peer(), silent.peer(), one.peer(), silenced.peer(), peer("ftp://nowhere")];
    let print = |service: &str| fingerprint(&alert(1, service).labels);
    let asked = BTreeSet::from([print("a"), print("b"), print("c")]);
    let began = Instant::now();
    let found = has(&peers, &asked, Duration::from_secs(3)).await;
    assert_eq!(found, BTreeSet::from([print("a"), print("b")]));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(has(&[], &asked, LONG).await.is_empty());
}

#[test]
fn three_tries_fit_into_a_minute_whatever_the_peer_does() {
    let timing = Timing::STANDARD;
    for name in ["am1", "am2", "a.b-c", "0"] {
        let pauses: Vec<Duration> =
            (0..10).map(|unwell| pause(&timing.pauses, jitter::seed(name), unwell)).collect();
        for (at, pause) in pauses.iter().enumerate() {
            let whole = timing.pauses[at.min(3)];
            assert!(whole * 4 / 5 <= *pause && *pause <= whole, "{name} {at}: {pause:?} of {whole:?}");
        }
        let silent = timing.request * 3 + pauses[0] + pauses[1];
        assert!(silent <= Duration::from_secs(22), "{silent:?}");
        let longest = timing.round * 3 + pauses[0] + pauses[1];
        assert!(longest < Duration::from_secs(55), "{longest:?}");
    }
    assert_eq!(RESEND, timing.resend);
}

#[test]
fn a_peer_does_not_show_its_url() {
    let shown = format!("{:?}", peer("http://ada:hunter2@am:9093"));
    assert!(!shown.contains("hunter2"), "{shown}");
}
