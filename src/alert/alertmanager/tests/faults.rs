//! Each way to fail, and its words.

use super::*;
use axum::http::Method;

fn answers(on: &'static str, method: Method, status: u16, body: &str) -> Mood {
    Mood::Answers { on, method, status, headers: Vec::new(), body: body.to_owned() }
}

/// The words of the first failure in `mood`, with an alert to tell.
async fn failure_in(fake: &Fake, mood: Mood) -> String {
    fake.is(mood);
    let words = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]).failure().await;
    assert!(words.chars().count() <= 300 && !words.contains(char::is_control), "{words:?}");
    words
}

#[tokio::test]
async fn nobody_listens() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut running = Running::start(peer(&format!("http://{closed}/")), QUICK, vec![alert(1, "api")]);
    for _ in 0..4 {
        let words = running.failure().await;
        assert!(words.starts_with(&format!("http://{closed}/api/v2/status: ")), "{words}");
        assert!(words.contains("Connection refused"), "{words}");
    }
}

#[tokio::test]
async fn no_such_name() {
    let mut running = Running::start(peer("http://am.invalid:9093"), QUICK, Vec::new());
    let words = running.failure().await;
    assert!(
        words.contains("http://am.invalid:9093/api/v2/status: ") && words.contains("dns error"),
        "{words}"
    );
}

#[tokio::test]
async fn it_connects_and_stays_silent() {
    let fake = Fake::start().await;
    fake.is(Mood::Hangs);
    let timing = Timing { request: Duration::from_millis(200), ..QUICK };
    let mut running = Running::start(fake.peer(), timing, vec![alert(1, "api")]);
    for _ in 0..3 {
        let words = running.failure().await;
        assert!(words.ends_with("/api/v2/status: no answer within 200 ms"), "{words}");
    }
    fake.is(Mood::Good);
}

#[tokio::test]
async fn it_does_not_even_connect() {
    // A listener whose queue is full drops what comes (listen(2), tcp_abort_on_overflow in tcp(7)).
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(stream.unwrap());
        assert!(waiting.len() < 100, "the queue never fills");
    }
    let timing = Timing { connect: Duration::from_millis(200), ..QUICK };
    let mut running = Running::start(peer(&format!("http://{address}")), timing, Vec::new());
    let words = running.failure().await;
    assert!(words.ends_with("/api/v2/status: no connection within 200 ms"), "{words}");
}

#[tokio::test]
async fn every_answer_is_slow() {
    let fake = Fake::start().await;
    fake.is(Mood::Forgets);
    let timing = Timing { round: Duration::from_millis(500), second_look: LONG, ..QUICK };
    let mut running = Running::start(fake.peer(), timing, vec![alert(1, "api")]);
    let words = running.failure().await;
    assert!(words.contains("the round was not done within 500 ms"), "{words}");
}

#[tokio::test]
async fn it_is_in_trouble_itself() {
    let fake = Fake::start().await;
    for (status, reason) in [
        (500, "Internal Server Error"),
        (503, "Service Unavailable"),
        (429, "Too Many Requests"),
        (408, "Request Timeout"),
    ] {
        for (on, method) in [("/status", Method::GET), ("/alerts", Method::POST), ("/alerts", Method::GET)] {
            let words = failure_in(&fake, answers(on, method, status, "no room\nfor this.\n")).await;
            assert!(
                words.ends_with(&format!("/api/v2{on} answers {status} {reason}: no room for this")),
                "{words}"
            );
        }
    }
}

#[tokio::test]
async fn it_is_misconfigured_and_the_words_say_what_to_look_at() {
    let fake = Fake::start().await;
    for (status, look_at) in [
        (401, "the user and the password, or the token"),
        (403, "the user and the password, or the token"),
        (404, "it ends where Alertmanager's own page is"),
        (405, "does not take Alertmanager's API v2"),
        (415, "does not take Alertmanager's API v2"),
        (302, "it must be Alertmanager's own"),
    ] {
        for (on, method) in [("/status", Method::GET), ("/alerts", Method::POST)] {
            let words = failure_in(&fake, answers(on, method, status, "x")).await;
            assert!(words.contains(&format!(" answers {status} ")), "{words}");
            assert!(words.contains(": misconfigured, check ") && words.contains(look_at), "{words}");
        }
    }
    let to = "https://sso.example/login?state=s3cret".to_owned();
    let headers = vec![("location", to)];
    let mood =
        Mood::Answers { on: "/status", method: Method::GET, status: 302, headers, body: String::new() };
    let words = failure_in(&fake, mood).await;
    assert!(words.ends_with("it must be Alertmanager's own, not https://sso.example/login"), "{words}");
}

#[tokio::test]
async fn plain_http_to_a_port_that_speaks_tls_is_told_in_the_servers_words() {
    let fake = Fake::start().await;
    let body = "Client sent an HTTP request to an HTTPS server.\n";
    let words = failure_in(&fake, answers("/status", Method::GET, 400, body)).await;
    assert!(
        words.ends_with("answers 400 Bad Request: Client sent an HTTP request to an HTTPS server"),
        "{words}"
    );
}

#[tokio::test]
async fn something_else_answers() {
    let fake = Fake::start().await;
    let html = "<!doctype html>\n<html><body>Welcome to nginx!</body></html>";
    for (on, method, body) in [
        ("/status", Method::GET, html),
        ("/status", Method::GET, ""),
        ("/status", Method::GET, "{}"),
        ("/status", Method::GET, r#"{"uptime":"x","versionInfo":{"version":"1"}}"#),
        ("/status", Method::GET, r#"{"uptime":"x","cluster":{"status":"ready"}}"#),
        ("/status", Method::GET, r#"{"cluster":{"status":"ready"},"versionInfo":{"version":"1"}}"#),
        ("/alerts", Method::POST, html),
        ("/alerts", Method::POST, "{}"),
        ("/alerts", Method::GET, html),
        ("/alerts", Method::GET, r#"{"status":"success","data":[]}"#),
    ] {
        let words = failure_in(&fake, answers(on, method.clone(), 200, body)).await;
        assert!(words.contains(&format!("/api/v2{on} is not an Alertmanager: ")), "{method} {body}: {words}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let fake = Fake::start().await;
    let words = failure_in(&fake, answers("/status", Method::GET, 200, &" ".repeat((8 << 20) + 1))).await;
    assert!(words.contains("answers with more than 8388608 bytes"), "{words}");
    let words = failure_in(&fake, answers("/status", Method::GET, 500, &"x".repeat(1 << 20))).await;
    assert!(words.contains("answers 500 Internal Server Error: xxxx") && words.ends_with("..."), "{words}");
}

#[tokio::test]
async fn what_comes_back_is_told_again_even_if_it_says_the_same() {
    let fake = Fake::start().await;
    let mut running = Running::start(fake.peer(), QUICK, vec![alert(1, "api")]);
    assert_eq!(running.words().await, [(1, Word::Active)]);
    fake.is(answers("/status", Method::GET, 500, "no"));
    running.failure().await;
    fake.is(Mood::Good);
    loop {
        match running.next().await {
            PeerResult::Failed(words) => assert!(words.contains("500"), "{words}"),
            PeerResult::Answered(words) => {
                assert_eq!(words, BTreeMap::from([(IncidentId(1), Word::Active)]));
                break;
            }
        }
    }
}

#[tokio::test]
async fn an_incident_that_opens_during_an_outage_has_its_tries_soon() {
    let fake = Fake::start().await;
    fake.is(answers("/status", Method::GET, 500, "no"));
    let long = Duration::from_secs(3600);
    let timing = Timing { pauses: [Duration::from_millis(20), long, long, long], ..QUICK };
    let mut running = Running::start(fake.peer(), timing, Vec::new());
    running.failure().await;
    running.failure().await;
    // The third would come in an hour.
    running.want(vec![alert(1, "api")]);
    running.failure().await;
    running.failure().await;
    fake.is(Mood::Good);
    running.want(vec![alert(2, "api")]);
    assert_eq!(running.words().await, [(2, Word::Active)]);
}

#[tokio::test]
async fn changes_during_an_outage_do_not_make_tries_without_a_pause() {
    let fake = Fake::start().await;
    fake.is(answers("/status", Method::GET, 500, "no"));
    let first = Duration::from_millis(400);
    let timing = Timing { pauses: [first; 4], ..QUICK };
    let mut running = Running::start(fake.peer(), timing, Vec::new());
    running.failure().await;
    let began = Instant::now();
    running.want(vec![alert(1, "api")]);
    running.failure().await;
    assert!(began.elapsed() >= first / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn no_credentials_in_any_words() {
    let fake = Fake::start().await;
    let password = "correct horse";
    // A proxy that repeats the request in its error page.
    let echo = "Authorization: Basic YWRhOmNvcnJlY3QgaG9yc2U= (ada:correct horse)";
    for (on, method, status) in
        [("/status", Method::GET, 500), ("/alerts", Method::POST, 400), ("/alerts", Method::POST, 200)]
    {
        fake.script().authorization = Some("Basic YWRhOmNvcnJlY3QgaG9yc2U=".to_owned());
        fake.is(answers(on, method, status, echo));
        let auth = Auth::Basic { user: "ada".into(), password: Secret::new(password) };
        let peer = Peer { auth: Some(auth), ..fake.peer() };
        let result = Running::start(peer, QUICK, vec![alert(1, "api")]).next().await;
        let shown = format!("{result:?}");
        assert!(shown.contains("Authorization: Basic *** (ada:***)"), "{shown}");
        assert!(!shown.contains(password) && !shown.contains("YWRh"), "{shown}");
    }
}

#[tokio::test]
async fn settings_that_cannot_work_are_told_round_after_round() {
    let good = peer("http://127.0.0.1:1");
    let bearer = |token: &str| Some(Auth::Bearer(Secret::new(token)));
    let table = [
        (peer("http://ada:hunter2@127.0.0.1:1"), "its URL holds a user or a password"),
        (peer("http://ada@127.0.0.1:1"), "its URL holds a user or a password"),
        (peer("ftp://127.0.0.1:1"), "its URL must be http or https"),
        (peer("http://127.0.0.1:1/?token=hunter2"), "its URL must be http or https"),
        (Peer { ca: Some(b"hunter2".to_vec()), ..good.clone() }, "holds no certificate"),
        (
            Peer {
                ca: Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()),
                ..good.clone()
            },
            "no HTTP client can be made for it: ",
        ),
        (Peer { auth: bearer("hunter2\n"), ..good }, "characters that HTTP cannot carry"),
    ];
    for (peer, expected) in table {
        let mut running = Running::start(peer, QUICK, Vec::new());
        for _ in 0..2 {
            let words = running.failure().await;
            assert!(words.contains(expected), "{words}");
            assert!(!words.contains("hunter2"), "{words}");
        }
    }
}
