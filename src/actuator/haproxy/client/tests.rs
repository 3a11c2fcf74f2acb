use super::*;
use proptest::prelude::*;
use tokio::net::UnixListener;

/// A peer that reads the whole command line and then does what it is told.
fn peer(reply: &'static [u8], hold: bool) -> (tempfile::TempDir, Client, tokio::task::JoinHandle<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = Vec::new();
        stream.read_to_end(&mut line).await.unwrap();
        stream.write_all(reply).await.unwrap();
        if hold {
            std::future::pending::<()>().await;
        }
        line
    });
    (dir, Client::unix(path).with_deadline(Duration::from_millis(300)), task)
}

#[tokio::test]
async fn the_line_is_ended_by_a_half_close_and_the_reply_by_an_empty_line() {
    let (_dir, client, task) = peer(b"# name\nweb\n\n", false);
    assert_eq!(client.send(Recipient::Owner, &Command::show_backend()).await.unwrap(), "# name\nweb");
    assert_eq!(task.await.unwrap(), b"show backend\n");
}

#[tokio::test]
async fn every_command_of_a_batch_carries_its_own_prefix() {
    let (_dir, client, task) = peer(b"\n\n", false);
    let commands = [Command::show_backend(), Command::show_info()];
    assert_eq!(client.batch(Recipient::Worker(7), &commands).await.unwrap(), ["", ""]);
    assert_eq!(task.await.unwrap(), b"@!7 show backend;@!7 show info\n");
}

#[tokio::test]
async fn a_stream_that_ends_early_is_no_success() {
    for cut in [&b""[..], b"# name\nweb", b"# name\nweb\n"] {
        let (_dir, client, _task) = peer(cut, false);
        let error = client.send(Recipient::Owner, &Command::show_backend()).await.unwrap_err();
        assert!(matches!(error, ClientError::Incomplete { got: 0, expected: 1, .. }), "{cut:?}: {error}");
    }
}

#[tokio::test]
async fn a_silent_peer_meets_the_deadline() {
    let (_dir, client, _task) = peer(b"# name\n\n", true);
    let error = client.send(Recipient::Owner, &Command::show_backend()).await.unwrap_err();
    assert!(matches!(error, ClientError::Deadline { .. }), "{error}");
    assert!(!error.nothing_was_sent());
}

#[tokio::test]
async fn a_missing_and_a_stale_socket_say_that_nothing_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let stale = dir.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    for path in [dir.path().join("missing"), stale] {
        let error = Client::unix(&path).send(Recipient::Owner, &Command::reload()).await.unwrap_err();
        assert!(error.nothing_was_sent(), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
}

#[tokio::test]
async fn a_worker_that_is_gone_is_told_from_a_broken_reply() {
    let (_dir, client, _task) = peer(b"Can't find the target PID matching the prefix '@!7'\n", false);
    let error = client.send(Recipient::Worker(7), &Command::show_info()).await.unwrap_err();
    assert!(error.process_is_gone(), "{error}");
}

#[test]
fn errors_and_debug_output_show_no_values() {
    let secret: super::super::ident::Ident = "secret".parse().unwrap();
    let command = Command::set_map(&"/m".parse().unwrap(), &secret, &secret);
    assert!(!format!("{command:?}").contains("secret"));
}

#[test]
fn a_long_batch_is_cut_before_the_line_is_too_long() {
    let commands = vec![Command::show_servers_state(); 2_000];
    let mut rest = &commands[..];
    let mut lines = 0;
    while !rest.is_empty() {
        let count = fitting(Recipient::Worker(4_194_304), rest);
        assert!(line(Recipient::Worker(4_194_304), &rest[..count]).len() <= LINE_MAX + 1);
        rest = &rest[count..];
        lines += 1;
    }
    assert!(lines > 1);
}

proptest! {
    #[test]
    fn any_text_is_split_into_as_many_replies_as_asked_or_refused(text in "(a|\n|b\n\n){0,20}", n in 1..6_usize) {
        if let Ok(replies) = split(&text, n) {
            prop_assert_eq!(replies.len(), n);
        }
    }

    #[test]
    fn replies_survive_the_way_through_a_batch(replies in prop::collection::vec("[a-z]{1,5}(\n[a-z]{1,5}){0,3}|", 2..6)) {
        let text: String =
            replies.iter().map(|r| if r.is_empty() { "\n".to_owned() } else { format!("{r}\n\n") }).collect();
        prop_assert_eq!(split(&text, replies.len()), Ok(replies));
    }
}

#[test]
fn a_socket_is_read_as_it_is_written_and_nothing_else_is_one() {
    for (text, written) in [
        ("/run/haproxy/admin.sock", "/run/haproxy/admin.sock"),
        ("unix:///run/haproxy/admin.sock", "/run/haproxy/admin.sock"),
        ("tcp://haproxy:9999", "tcp://haproxy:9999"),
        ("tcp://[::1]:9999", "tcp://[::1]:9999"),
    ] {
        assert_eq!(text.parse::<Socket>().unwrap().to_string(), written);
    }
    for text in [
        "",
        "admin.sock",
        "unix://admin.sock",
        "tcp://haproxy",
        "tcp://:9999",
        "tcp://haproxy:0",
        "tcp://a b:1",
    ] {
        assert!(text.parse::<Socket>().is_err(), "{text}");
    }
    for text in ["tcp://haproxy:99999", "tcp://user@haproxy:1", "http://haproxy:1"] {
        assert!(text.parse::<Socket>().is_err(), "{text}");
    }
}

#[tokio::test]
async fn over_tcp_an_exchange_is_the_same() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = Vec::new();
        stream.read_to_end(&mut line).await.unwrap();
        stream.write_all(b"# name\nweb\n\n").await.unwrap();
        line
    });
    let client = Client::new(format!("tcp://{at}").parse().unwrap());
    assert_eq!(client.send(Recipient::Owner, &Command::show_backend()).await.unwrap(), "# name\nweb");
    assert_eq!(task.await.unwrap(), b"show backend\n");
    let error = client.send(Recipient::Owner, &Command::show_backend()).await.unwrap_err();
    assert!(error.nothing_was_sent() && error.to_string().contains(&format!("tcp://{at}")), "{error}");
}
