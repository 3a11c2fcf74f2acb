use super::protocol::OrderBody;
use super::*;
use crate::domain::Order;
use axum::Router;
use axum::routing::get;
use std::future::IntoFuture;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a machine with two busy cores; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(10);

/// A control socket with a loop behind it that accepts what it gets and tells it to the test.
struct Daemon {
    directory: TempDir,
    socket: PathBuf,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    heard: mpsc::Receiver<(Order, Option<String>, crate::domain::Operator, bool)>,
}

impl Daemon {
    async fn start() -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let (commands, mut lane) = mpsc::channel::<Request>(4);
        let (tell, heard) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Some(request) = lane.recv().await {
                let Request { order, because, by, dry_run, reply } = request;
                let verdict = match &order {
                    Order::Failover { .. } | Order::Pause { .. } | Order::TestAlert => Answer::Accepted,
                    Order::Failback { .. } | Order::Resume { .. } | Order::Maintain { .. } => Answer::Denied,
                };
                let words = "as the loop says".to_owned();
                let plan = vec!["move api from onprem to cloud".to_owned()];
                let sent = Reply { plan, ..Reply::plain(verdict, words, dry_run) };
                tell.send((order, because, by, dry_run)).await.unwrap();
                let _ = reply.send(sent);
            }
        });
        let reads = Router::new().route("/api/v1/ping", get(|| async { axum::Json("pong") }));
        let stop = CancellationToken::new();
        let listener = ControlSocket::bind(&socket).await.unwrap();
        let server = tokio::spawn(serve(listener, commands, reads, stop.clone()));
        Daemon { directory, socket, stop, server, heard }
    }

    fn client(&self) -> Client {
        Client::new(&self.socket).unwrap()
    }

    /// Sends bytes as they are, and returns the answer's status and body.
    async fn raw(&self, request: &[u8]) -> (u16, String) {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        // The server may answer and hang up before it has read everything: that is no failure of the test.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = timeout(LONG, stream.read_to_end(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    async fn post(&self, body: &str) -> (u16, String) {
        let head = format!(
            "POST /api/v1/commands HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(format!("{head}{body}").as_bytes()).await
    }
}

fn to_cloud(dry_run: bool) -> CommandBody {
    let (service, to) = ("api".parse().unwrap(), "cloud".parse().unwrap());
    let order = OrderBody::Failover { service, to, force: false, seen: Some(7), for_ms: None, pin: false };
    CommandBody { order, because: Some("db upgrade".to_owned()), dry_run }
}

#[tokio::test]
async fn an_order_reaches_the_loop_with_the_person_the_kernel_vouches_for() {
    let mut daemon = Daemon::start().await;
    let reply = daemon.client().command(&to_cloud(true)).await.unwrap();
    assert_eq!((reply.verdict, reply.dry_run), (Answer::Accepted, true));
    assert_eq!(reply.plan, ["move api from onprem to cloud"]);

    let (order, because, by, dry_run) = daemon.heard.recv().await.unwrap();
    assert_eq!(order, Order::from(to_cloud(true).order));
    assert_eq!(because.as_deref(), Some("db upgrade"));
    assert!(dry_run);
    let me = std::fs::metadata(daemon.directory.path()).unwrap().uid();
    assert_eq!(by.uid, me);
    assert_eq!(by.pid, i32::try_from(std::process::id()).ok());
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let listed = passwd.lines().find(|line| line.split(':').nth(2) == Some(me.to_string().as_str()));
    assert_eq!(by.name.as_deref(), listed.and_then(|line| line.split(':').next()));
}

#[test]
fn an_order_about_a_server_is_written_as_documented() {
    let text =
        r#"{"order": {"maintain": {"server": "api/api-onprem", "admin": "drain", "for_ms": 7200000}}}"#;
    let body: CommandBody = serde_json::from_str(text).unwrap();
    let (service, name) = ("api".parse().unwrap(), "api-onprem".parse().unwrap());
    let server = crate::domain::id::ServerId { service, server: name };
    let lasts = Some(crate::domain::time::Span::seconds(7_200));
    let admin = crate::domain::maintenance::Admin::Drain;
    assert_eq!(Order::from(body.order), Order::Maintain { server, admin, lasts, force: false });
}

#[tokio::test]
async fn a_denial_is_an_answer_and_not_a_failure() {
    let daemon = Daemon::start().await;
    let order = OrderBody::Failback { service: "api".parse().unwrap(), seen: None, force: false };
    let body = CommandBody { order, because: None, dry_run: false };
    let reply = daemon.client().command(&body).await.unwrap();
    assert_eq!(reply.verdict, Answer::Denied);
    let (status, _) = daemon.post(r#"{"order": {"failback": {"service": "api"}}}"#).await;
    assert_eq!(status, 409);
}

#[tokio::test]
async fn the_socket_also_serves_the_reads() {
    let daemon = Daemon::start().await;
    assert_eq!(daemon.client().get::<String>("/api/v1/ping").await.unwrap(), "pong");
    let missing = daemon.client().get::<String>("/api/v1/nothing").await.unwrap_err();
    assert!(matches!(missing, ClientError::Said { status: 404, .. }), "{missing:?}");
}

#[tokio::test]
async fn owner_and_group_may_order_and_nobody_else() {
    let daemon = Daemon::start().await;
    let found = std::fs::symlink_metadata(&daemon.socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    let left: Vec<_> =
        std::fs::read_dir(daemon.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["control.sock"], "nothing of the making is left behind");
}

#[tokio::test]
async fn bodies_that_are_no_order_are_refused_and_never_reach_the_loop() {
    let mut daemon = Daemon::start().await;
    let long =
        format!(r#"{{"order": {{"failback": {{"service": "api"}}}}, "because": "{}"}}"#, "x".repeat(301));
    let cases: [(&str, u16, &str); 11] = [
        ("", 400, "no order"),
        ("restart everything", 400, "no order"),
        (r#"{"order": {"failback": {"service": "api"}}, "dryrun": true}"#, 400, "dryrun"),
        (r#"{"order": {"failback": {"service": "api", "site": "cloud"}}}"#, 400, "site"),
        (r#"{"order": {"reboot": {"service": "api"}}}"#, 400, "reboot"),
        (r#"{"order": {"failover": {"service": "a;b", "to": "cloud"}}}"#, 400, "letters, digits"),
        (r#"{"order": {"maintain": {"server": "api-onprem", "admin": "drain"}}}"#, 400, "no order"),
        (r#"{"order": {"maintain": {"server": "api/api-onprem", "admin": "down"}}}"#, 400, "down"),
        (r#"{"order": {"failback": {"service": "api"}}, "because": "a\nb"}"#, 400, "one line"),
        (&long, 400, "300 characters"),
        (&"x".repeat(protocol::BODY_MAX_BYTES + 1), 413, "65536 bytes"),
    ];
    for (body, status, words) in cases {
        let (got, answer) = daemon.post(body).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(got, status, "{shown}: {answer}");
        assert!(answer.contains(words), "{shown}: {answer}");
    }
    // A length that is not told beforehand is bounded too.
    let chunk = format!("{:x}\r\n{}\r\n", 40_000, "x".repeat(40_000));
    let head = "POST /api/v1/commands HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (status, _) = daemon.raw(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await;
    assert_eq!(status, 413);
    let (status, _) =
        daemon.raw(b"GET /api/v1/commands HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status, 405);
    assert!(daemon.heard.try_recv().is_err());
}

#[tokio::test]
async fn stopping_ends_the_server_and_removes_its_socket() {
    let daemon = Daemon::start().await;
    // A connection that is open and silent must not hold the stop.
    let _silent = UnixStream::connect(&daemon.socket).await.unwrap();
    daemon.stop.cancel();
    timeout(LONG, daemon.server).await.unwrap().unwrap().unwrap();
    assert!(!daemon.socket.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "std leaves the file: a stale socket");
    let first = ControlSocket::bind(&path).await.unwrap();
    let second = ControlSocket::bind(&path).await;
    assert!(matches!(second, Err(BindError::Answered { .. })), "{second:?}");
    drop(first);
    assert!(!path.exists());

    std::fs::write(&path, "somebody's file").unwrap();
    let third = ControlSocket::bind(&path).await;
    assert!(matches!(third, Err(BindError::NotASocket { .. })), "{third:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "somebody's file");
    let nowhere = ControlSocket::bind(&directory.path().join("no/such/control.sock")).await;
    assert!(matches!(nowhere, Err(BindError::Directory { .. })), "{nowhere:?}");
}

#[tokio::test]
async fn a_successors_socket_survives_the_end_of_its_predecessor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let old = ControlSocket::bind(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _new = ControlSocket::bind(&path).await.unwrap();
    drop(old);
    assert!(path.exists());
}

#[tokio::test]
async fn the_client_says_what_is_wrong_with_the_socket_and_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let ask = |path: &Path| {
        let client = Client::new(path).unwrap();
        async move { client.get::<String>("/api/v1/ping").await.unwrap_err() }
    };
    let missing = ask(&path).await;
    assert!(matches!(missing, ClientError::Missing { .. }), "{missing:?}");
    assert!(missing.to_string().contains(path.to_str().unwrap()), "{missing}");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let refused = ask(&path).await;
    assert!(matches!(refused, ClientError::Refused { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_connection_that_says_nothing_loses_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let listener = Bounded::with_quiet_max(listener, 1, Duration::from_millis(200));
    let app = Router::new().route("/ping", get(|| async { "pong" }));
    tokio::spawn(axum::serve(listener, app).into_future());
    // The only place is taken by somebody who sends half a head and waits.
    let mut slow = UnixStream::connect(&path).await.unwrap();
    slow.write_all(b"GET /ping HTTP/1.1\r\nHost:").await.unwrap();
    let client = Client::new(&path).unwrap();
    let answer = timeout(LONG, client.stream("/ping")).await.unwrap();
    assert!(answer.is_ok(), "{answer:?}");
    let mut rest = Vec::new();
    let _ = timeout(LONG, slow.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "it was hung up on: {rest:?}");
}

#[tokio::test]
async fn streams_are_read_message_by_message_and_heartbeats_are_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let text = ": heartbeat\n\nevent: transition\nid: 3\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\n";
    let app = Router::new().route("/events", get(move || async move { text }));
    tokio::spawn(axum::serve(listener, app).into_future());
    let mut stream = Client::new(&path).unwrap().stream("/events").await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!((first.event.as_str(), first.data.as_str()), ("transition", "{\"a\":1}"));
    assert_eq!(stream.next().await.unwrap().unwrap().data, "x\ny");
    assert_eq!(stream.next().await.unwrap(), None);
}
