//! Probes against real listeners, one for each way to be sick.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use supervisor::clock::boot_now;
use supervisor::domain::event::Probed;
use supervisor::domain::witness::{ProbeFault, ProbeOutcome};
use supervisor::domain::{Event, Pace, ServerId};
use supervisor::probe::{Address, Client, Probers, Purpose, Scheme, Spec, probe_once};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A failing wait ends here; nothing that works takes a tenth of it.
const LONGEST: Duration = Duration::from_secs(10);

/// A server that does `behave` with each connection once the request is in.
async fn server<F, A>(behave: F) -> SocketAddr
where
    F: Fn(TcpStream, u32) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for n in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(behave(stream, n));
        }
    });
    address
}

/// Reads one request head; none when the client has closed.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// A server that answers each connection with `answer` and closes.
async fn answering(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer: Arc<[u8]> = answer.into().into();
    server(move |mut stream, _| {
        let answer = Arc::clone(&answer);
        async move {
            request(&mut stream).await;
            // The prober may close as soon as it has seen enough.
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

fn id(name: &str) -> ServerId {
    ServerId { service: "api".parse().unwrap(), server: name.parse().unwrap() }
}

fn spec(address: impl ToString) -> Spec {
    Spec {
        connect_only: false,
        purpose: Purpose::Ready,
        server: id("a"),
        scheme: Scheme::Http,
        address: address.to_string().parse::<Address>().unwrap(),
        host: "api.example".parse().unwrap(),
        path: "/health?deep=1".parse().unwrap(),
        expected: vec![200..=299],
        body_contains: None,
        interval: Duration::from_millis(200),
        fast_interval: Duration::from_millis(50),
        timeout: Duration::from_millis(400),
        keep_alive: false,
        max_body: 64 * 1024,
        jitter: Duration::ZERO,
    }
}

async fn fault_of(spec: &Spec) -> ProbeFault {
    let began = Instant::now();
    let outcome = probe_once(&Client::system(), spec).await;
    assert!(began.elapsed() < spec.timeout + Duration::from_millis(300), "took {:?}", began.elapsed());
    match outcome {
        ProbeOutcome::Failed(fault) => fault,
        ProbeOutcome::Healthy { .. } | ProbeOutcome::Connected { .. } => panic!("{outcome:?}"),
    }
}

async fn status_of(spec: &Spec) -> u16 {
    match probe_once(&Client::system(), spec).await {
        ProbeOutcome::Healthy { status, .. } => status,
        other @ (ProbeOutcome::Failed(_) | ProbeOutcome::Connected { .. }) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_good_answer_is_healthy_and_the_request_is_what_the_settings_say() {
    let (heard, mut hear) = mpsc::channel(1);
    let address = server(move |mut stream, _| {
        let heard = heard.clone();
        async move {
            heard.send(request(&mut stream).await.unwrap()).await.unwrap();
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    assert_eq!(status_of(&spec(address)).await, 200);
    let head = hear.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("get /health?deep=1 http/1.1\r\nhost: api.example\r\n"), "{head}");
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::Refused);
}

#[tokio::test]
async fn accepting_and_saying_nothing_is_silent() {
    let address = server(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::Silent);
}

#[tokio::test]
async fn a_frozen_program_whose_kernel_still_connects_is_silent() {
    // Nobody accepts: the connection waits in the backlog, as with a paused container.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(fault_of(&spec(listener.local_addr().unwrap())).await, ProbeFault::Silent);
}

#[tokio::test]
async fn a_full_backlog_is_a_connect_timeout() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    // Linux takes one more than the backlog; then it drops SYNs.
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        filling.push(stream);
        assert!(filling.len() < 10, "the backlog never fills");
    }
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::ConnectTimeout);
}

#[tokio::test]
async fn headers_that_trickle_are_silent_when_the_time_is_over() {
    let address = server(|mut stream, _| async move {
        request(&mut stream).await;
        for byte in OK.iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::Silent);
}

#[tokio::test]
async fn a_body_that_never_ends_is_silent_when_it_trickles() {
    let address = server(|mut stream, _| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while stream.write_all(b".").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::Silent);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_cut_and_judged_by_what_was_read() {
    let written = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&written);
    let address = server(move |mut stream, _| {
        let written = Arc::clone(&counted);
        async move {
            request(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nfine ").await;
            while stream.write_all(&[b'.'; 10_000]).await.is_ok() {
                written.fetch_add(10_000, Ordering::SeqCst);
            }
        }
    })
    .await;
    assert_eq!(status_of(&spec(address)).await, 200);
    let wanting = |text: &str| Spec { body_contains: Some(text.to_owned()), ..spec(address) };
    assert_eq!(status_of(&wanting("fine")).await, 200);
    assert_eq!(fault_of(&wanting("well")).await, ProbeFault::Body);
    // What is in the sockets' buffers was written and never read.
    assert!(written.load(Ordering::SeqCst) < 3 * 10_000_000, "{written:?}");
}

#[tokio::test]
async fn ten_megabytes_are_not_read() {
    let body = vec![b'x'; 10_000_000];
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    let address = answering([head.as_bytes(), &body].concat()).await;
    let spec = Spec { body_contains: Some("y".to_owned()), ..spec(address) };
    assert_eq!(fault_of(&spec).await, ProbeFault::Body);
}

#[tokio::test]
async fn statuses_that_are_not_expected_are_named() {
    for status in [500, 503, 404, 301] {
        let address = answering(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n")).await;
        assert_eq!(fault_of(&spec(address)).await, ProbeFault::Status(status));
    }
    let address = answering("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(status_of(&Spec { expected: vec![200..=204, 503..=503], ..spec(address) }).await, 503);
}

#[tokio::test]
async fn redirects_are_answers_and_are_not_followed() {
    let followed = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&followed);
    let elsewhere = server(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {}
    })
    .await;
    let redirect = format!("HTTP/1.1 302 F\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    let address = answering(redirect).await;
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::Status(302));
    assert_eq!(followed.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_wrong_body_is_found_out() {
    let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsick").await;
    let spec = Spec { body_contains: Some("well".to_owned()), ..spec(address) };
    assert_eq!(fault_of(&spec).await, ProbeFault::Body);
}

#[tokio::test]
async fn a_connection_that_ends_early_is_broken() {
    let early: [&[u8]; 6] = [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
    ];
    for answer in early {
        let address = answering(answer).await;
        let text = String::from_utf8_lossy(answer);
        assert_eq!(fault_of(&spec(address)).await, ProbeFault::Broken, "{text:?}");
    }
}

#[tokio::test]
async fn a_reset_is_broken() {
    let address = server(|stream, _| async move {
        // Closing with the request unread makes the kernel send a reset.
        stream.readable().await.unwrap();
        drop(stream);
    })
    .await;
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::Broken);
}

#[tokio::test]
async fn headers_without_end_are_broken_and_bounded() {
    let address = server(|mut stream, _| async move {
        request(&mut stream).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while stream.write_all(b"x-more: and more of the same\r\n").await.is_ok() {}
    })
    .await;
    assert_eq!(fault_of(&spec(address)).await, ProbeFault::Broken);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_a_dns_fault() {
    // RFC 6761: `.invalid` never resolves. The time is for a resolver that is asked in vain.
    let spec = Spec { timeout: Duration::from_secs(3), ..spec("no-such-name.invalid:80") };
    assert_eq!(fault_of(&spec).await, ProbeFault::Dns);
}

#[tokio::test]
async fn names_are_resolved() {
    let address = answering(OK).await;
    assert_eq!(status_of(&spec(format!("localhost:{}", address.port()))).await, 200);
}

#[tokio::test]
async fn no_route_is_unreachable() {
    // Linux has no route for a TCP connection to a multicast address (`tcp_v4_connect`), and sends nothing.
    assert_eq!(fault_of(&spec("224.0.0.1:80")).await, ProbeFault::Unreachable);
}

#[tokio::test]
async fn kept_connections_are_used_and_one_probe_in_five_makes_a_new_one() {
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    let address = server(move |mut stream, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            while request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let mut probing = Probing::start([Spec { keep_alive: true, ..spec(address) }]);
    probing.probers.set_pace(id("a"), Pace::Fast);
    for _ in 0..15 {
        probing.healthy().await;
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_server_that_closes_kept_connections_is_not_called_broken() {
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    let address = server(move |mut stream, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            request(&mut stream).await;
            stream.write_all(OK).await.unwrap();
            // Says nothing of closing, and closes when the next request comes: the race of every idle connection.
            stream.readable().await.unwrap();
        }
    })
    .await;
    let mut probing = Probing::start([Spec { keep_alive: true, ..spec(address) }]);
    for _ in 0..6 {
        probing.healthy().await;
    }
    assert!(connections.load(Ordering::SeqCst) >= 6);
}

#[tokio::test]
async fn a_server_that_dies_between_kept_probes_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut probing = Probing::start([Spec { keep_alive: true, ..spec(listener.local_addr().unwrap()) }]);
    let (mut stream, _) = listener.accept().await.unwrap();
    request(&mut stream).await;
    stream.write_all(OK).await.unwrap();
    probing.healthy().await;
    drop((listener, stream));
    assert_eq!(probing.next().await.outcome, ProbeOutcome::Failed(ProbeFault::Refused));
}

/// Probers, and the other end of their lane.
struct Probing {
    probers: Probers,
    lane: mpsc::Receiver<Event>,
}

impl Probing {
    fn start(specs: impl IntoIterator<Item = Spec>) -> Probing {
        let (send, lane) = mpsc::channel(4);
        let mut probers = Probers::new(Arc::new(Client::system()), send);
        probers.set(specs);
        Probing { probers, lane }
    }

    async fn next(&mut self) -> Probed {
        match timeout(LONGEST, self.lane.recv()).await.unwrap().unwrap() {
            Event::Probed(probed) => probed,
            other => panic!("{other:?}"),
        }
    }

    async fn healthy(&mut self) -> Probed {
        let probed = self.next().await;
        assert!(matches!(probed.outcome, ProbeOutcome::Healthy { status: 200, .. }), "{probed:?}");
        probed
    }
}

#[tokio::test]
async fn normal_probes_keep_their_place_in_the_interval() {
    let mut probing = Probing::start([spec(answering(OK).await)]);
    probing.healthy().await;
    let first = probing.healthy().await;
    for n in 1..5 {
        let probed = probing.healthy().await;
        assert_eq!(probed.due.0 - first.due.0, n * 200, "on the grid");
        assert!(probed.due <= probed.started && probed.started <= probed.ended, "{probed:?}");
        assert!(probed.started.since(probed.due).0 < 100, "late: {probed:?}");
    }
}

#[tokio::test]
async fn a_change_to_the_fast_pace_takes_effect_at_once() {
    let slow = Spec { interval: Duration::from_secs(3600), ..spec(answering(OK).await) };
    let mut probing = Probing::start([slow]);
    let mut last = probing.healthy().await;
    probing.probers.set_pace(id("a"), Pace::Fast);
    for _ in 0..4 {
        let probed = probing.healthy().await;
        assert_eq!(probed.due.0 - last.ended.0, 50, "a fast interval after the end of the last");
        last = probed;
    }
    probing.probers.set_pace(id("a"), Pace::Normal);
    // The one that is on its way may still come.
    let quiet = async {
        let mut more = 0;
        while timeout(Duration::from_millis(300), probing.next()).await.is_ok() {
            more += 1;
        }
        more
    };
    assert!(quiet.await <= 1, "still fast");
}

#[tokio::test]
async fn a_full_lane_makes_results_late_and_loses_none() {
    let (send, mut lane) = mpsc::channel(1);
    let mut probers = Probers::new(Arc::new(Client::system()), send);
    let address = answering(OK).await;
    let specs = (0..4).map(|n| Spec { server: id(&format!("s{n}")), ..spec(address) });
    probers.set(specs);
    let full = async {
        while lane.is_empty() {
            tokio::task::yield_now().await;
        }
        // All four have probed and three of them wait for the lane.
        tokio::time::sleep(Duration::from_millis(600)).await;
    };
    timeout(LONGEST, full).await.unwrap();
    let now = boot_now();
    let mut next = async || match timeout(LONGEST, lane.recv()).await.unwrap() {
        Some(Event::Probed(probed)) => probed,
        other => panic!("no result: {other:?}"),
    };
    let first = next().await;
    assert!(now.since(first.ended).0 >= 400, "it tells how late it is: {first:?}");
    // The first of them may have probed again before the last of them did once: results come in the order in which they
    // began to wait, and nobody waits for ever.
    let mut seen = std::collections::BTreeSet::from([first.server]);
    for _ in 0..8 {
        seen.insert(next().await.server);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[tokio::test]
async fn a_reload_starts_changes_and_stops_probers_and_leaves_the_rest_alone() {
    let connections = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&connections);
    let kept = server(move |mut stream, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            while request(&mut stream).await.is_some() {
                stream.write_all(OK).await.unwrap();
            }
        }
    })
    .await;
    let steady = Spec { server: id("steady"), keep_alive: true, ..spec(kept) };
    let changing = Spec { server: id("changing"), ..spec(answering(OK).await) };
    let leaving = Spec { server: id("leaving"), ..spec(answering(OK).await) };
    let mut probing = Probing::start([steady.clone(), changing.clone(), leaving]);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 3 {
        seen.insert(probing.healthy().await.server);
    }
    let refused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let changed = Spec { address: refused.to_string().parse().unwrap(), ..changing };
    let coming = Spec { server: id("coming"), ..spec(answering(OK).await) };
    probing.probers.set([steady, changed, coming]);
    let reload = boot_now();
    let mut after = BTreeMap::new();
    while after.len() < 3 {
        let probed = probing.next().await;
        if probed.started > reload {
            after.insert(probed.server, probed.outcome);
        }
    }
    assert_eq!(after[&id("changing")], ProbeOutcome::Failed(ProbeFault::Refused));
    assert!(matches!(after[&id("coming")], ProbeOutcome::Healthy { .. }));
    assert!(!after.contains_key(&id("leaving")));
    assert_eq!(connections.load(Ordering::SeqCst), 1, "its kept connection outlived the reload");
}

#[tokio::test]
async fn dropping_the_probers_ends_them() {
    let mut probing = Probing::start([spec(answering(OK).await)]);
    probing.healthy().await;
    drop(probing.probers);
    let end = async { while probing.lane.recv().await.is_some() {} };
    timeout(LONGEST, end).await.expect("the lane closes when its last prober is gone");
}

/// A key and a certificate for `localhost`, made for this test.
fn certificate(directory: &Path) {
    let request = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
                   [name]\nCN = localhost\n\
                   [extensions]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n";
    std::fs::write(directory.join("request.cnf"), request).unwrap();
    let made = std::process::Command::new("openssl")
        .current_dir(directory)
        .args(
            "req -x509 -config request.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
                .split(' '),
        )
        .args("-days 2 -keyout key.pem -out cert.pem".split(' '))
        .output()
        .expect("openssl makes the certificates of this test: apt-get install openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// An HTTPS server with that certificate.
async fn https(directory: &Path) -> (SocketAddr, tokio_rustls::rustls::pki_types::CertificateDer<'static>) {
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    certificate(directory);
    let chain = CertificateDer::from_pem_file(directory.join("cert.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(directory.join("key.pem")).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![chain.clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let address = server(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            // A client that does not trust us ends the handshake.
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut head = [0; 16];
            stream.read_exact(&mut head).await.unwrap();
            stream.write_all(OK).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    })
    .await;
    (address, chain)
}

#[tokio::test]
async fn https_wants_a_certificate_that_is_trusted_and_for_the_right_name() {
    let directory = tempfile::tempdir().unwrap();
    let (address, root) = https(directory.path()).await;
    let spec = Spec { scheme: Scheme::Https, host: "localhost:443".parse().unwrap(), ..spec(address) };
    let trusting = Client::trusting([root]).unwrap();
    let outcome = probe_once(&trusting, &spec).await;
    assert!(matches!(outcome, ProbeOutcome::Healthy { status: 200, .. }), "{outcome:?}");
    let elsewhere = Spec { host: "other.example".parse().unwrap(), ..spec.clone() };
    assert_eq!(probe_once(&trusting, &elsewhere).await, ProbeOutcome::Failed(ProbeFault::Tls));
    assert_eq!(fault_of(&spec).await, ProbeFault::Tls, "the system does not trust it");
}

#[tokio::test]
async fn what_goes_wrong_before_tls_is_told_apart() {
    let https = |address: SocketAddr| Spec {
        scheme: Scheme::Https,
        host: "localhost".parse().unwrap(),
        ..spec(address)
    };
    let plain = server(|mut stream, _| async move {
        let mut hello = [0; 16];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(fault_of(&https(plain)).await, ProbeFault::Tls, "speaks no TLS");
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(fault_of(&https(silent.local_addr().unwrap())).await, ProbeFault::Silent);
    let closing = server(|stream, _| async move { drop(stream) }).await;
    assert_eq!(fault_of(&https(closing)).await, ProbeFault::Broken);
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(fault_of(&https(closed)).await, ProbeFault::Refused);
}

/// The processor time of the calling thread (`schedstat`, first field: nanoseconds on the processor; proc(5)).
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

#[test]
fn a_hundred_probes_a_second_cost_a_few_percent_of_a_core() {
    let (say, heard) = std::sync::mpsc::channel();
    // Its own thread, so that only the probing side is measured. Ends with the process.
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            say.send(listener.local_addr().unwrap()).unwrap();
            let router = axum::Router::new().route("/health", axum::routing::get(async || "ok"));
            axum::serve(listener, router).await.unwrap();
        });
    });
    let address = heard.recv_timeout(LONGEST).unwrap();
    for keep_alive in [false, true] {
        let specs = (0..100).map(|n| Spec {
            server: id(&format!("s{n}")),
            interval: Duration::from_secs(1),
            fast_interval: Duration::from_millis(250),
            timeout: Duration::from_secs(2),
            keep_alive,
            ..spec(address)
        });
        let (probes, used, took) = runtime().block_on(async {
            let mut probing = Probing::start(specs);
            // Everyone's first probe, which all fall into the first fast interval.
            for _ in 0..100 {
                probing.healthy().await;
            }
            let (began, before) = (Instant::now(), thread_time());
            for _ in 0..300 {
                probing.healthy().await;
            }
            (300, thread_time() - before, began.elapsed())
        });
        let share = used.as_secs_f64() / took.as_secs_f64();
        println!(
            "keep-alive {keep_alive}: {:.0} us of processor time per probe, {:.1} % of a core for {probes} probes in {took:?}",
            used.as_secs_f64() * 1e6 / f64::from(probes),
            share * 100.0
        );
        assert!(took < Duration::from_secs(6), "too slow: {took:?}");
        // An unoptimised build on a busy machine takes some four times as much.
        let most = if cfg!(debug_assertions) { 0.25 } else { 0.06 };
        assert!(share < most, "{share}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
