use super::*;
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::Noop;
use lettre::transport::smtp::extension::ClientId;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// A wire and its other end.
fn wire(secrets: &[&str]) -> (Wire, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let peer = SocketAddr::from(([127, 0, 0, 1], 25));
    (Wire::new(Box::new(ours), peer, secrets.iter().map(ToString::to_string).collect()), theirs)
}

/// What lettre reads of `said`, after which the connection ends, and what counts of it.
async fn read(said: &[u8]) -> (std::result::Result<String, String>, Option<Reply>) {
    let (mut wire, mut relay) = wire(&[]);
    relay.write_all(said).await.unwrap();
    drop(relay);
    let mut text = String::new();
    let read = wire.read_to_string(&mut text).await;
    (read.map(|_| text).map_err(|why| why.to_string()), wire.take_reply())
}

fn reply(code: u16, text: &str) -> Option<Reply> {
    Some(Reply { code, text: text.to_owned() })
}

#[tokio::test]
async fn a_reply_is_whole_or_not_there() {
    let table: [(&[u8], &str, Option<Reply>); 12] = [
        (b"250 ok\r\n", "250 ok\r\n", reply(250, "ok")),
        (b"250-a\r\n250-b\r\n250 c\r\n", "250-a\r\n250-b\r\n250 c\r\n", reply(250, "a b c")),
        (b"250-a\n250 b\n", "250-a\r\n250 b\r\n", reply(250, "a b")),
        (b"250\r\n", "250 -\r\n", reply(250, "")),
        (b"250-\r\n250- \t \r\n250 \r\n", "250--\r\n250--\r\n250 -\r\n", reply(250, "")),
        (b"250 Gr\xfc\xdfe\r\n", "250 Gr??e\r\n", reply(250, "Gr\u{fffd}\u{fffd}e")),
        ("250 Grüße\r\n".as_bytes(), "250 Gr??e\r\n", reply(250, "Grüße")),
        (b"571 no\r\n", "551 no\r\n", reply(571, "no")),
        (b"550-a\r\n451 b\r\n", "451-a\r\n451 b\r\n", reply(451, "a b")),
        (b"250 a\0b\x1b\r\n", "250 a b\r\n", reply(250, "a b")),
        (b"250-a\r\n250 b", "", None),
        (b"", "", None),
    ];
    for (said, lettre, counts) in table {
        let name = String::from_utf8_lossy(said);
        let (text, reply) = read(said).await;
        assert_eq!(text.as_deref(), Ok(lettre), "{name:?}");
        assert_eq!(reply, counts, "{name:?}");
    }
}

#[tokio::test]
async fn what_is_no_reply_is_said() {
    for said in [
        "hello\r\n",
        "\r\n",
        "25\r\n",
        "2500 x\r\n",
        "250x\r\n",
        "199 x\r\n",
        "600 x\r\n",
        "+250 x\r\n",
        "ü50 x\r\n",
    ] {
        let (text, reply) = read(said.as_bytes()).await;
        assert!(
            text.as_ref().is_err_and(|why| why.starts_with("what it said is not SMTP")),
            "{said:?}: {text:?}"
        );
        assert_eq!(reply, None, "{said:?}");
    }
}

#[tokio::test]
async fn a_line_is_cut_and_a_reply_without_end_is_left() {
    let (text, reply) = read(&[b"250 ".to_vec(), b"x".repeat(40_000), b"\r\n".to_vec()].concat()).await;
    assert_eq!(text.unwrap().len(), LINE_MAX + 2, "lettre refuses lines of a thousand");
    assert_eq!(reply.unwrap().text.len(), TEXT_MAX);
    for endless in [b"x".repeat(2 * REPLY_MAX), b"250-x\r\n".repeat(REPLY_MAX)] {
        let (text, reply) = read(&endless).await;
        assert_eq!(text, Err("its reply has no end".to_owned()));
        assert_eq!(reply, None);
    }
}

#[tokio::test]
async fn replies_may_come_byte_by_byte() {
    let (mut wire, mut relay) = wire(&[]);
    let mut text = Vec::new();
    for byte in b"250-a\r\n250 b\r\n" {
        assert!(timeout(Duration::ZERO, wire.read_u8()).await.is_err(), "not before its end");
        relay.write_all(&[*byte]).await.unwrap();
    }
    for _ in b"250-a\r\n250 b\r\n" {
        text.push(wire.read_u8().await.unwrap());
    }
    assert_eq!(text, b"250-a\r\n250 b\r\n");
    assert_eq!(wire.take_reply(), reply(250, "a b"));
    assert_eq!(wire.take_reply(), None, "it answers one question");
}

#[tokio::test]
async fn nothing_is_said_over_what_lies_unread() {
    let (mut wire, mut relay) = wire(&[]);
    relay.write_all(b"250 ok\r\n250 again\r\n").await.unwrap();
    let mut text = [0; 8];
    wire.read_exact(&mut text).await.unwrap();
    let error = wire.write_all(b"DATA\r\n").await.unwrap_err();
    assert_eq!(error.to_string(), "it said more than it was asked");
    assert_eq!(wire.breach(), Some(error.to_string()));
    assert!(wire.take_bare().is_none(), "nor is it encrypted");
}

#[tokio::test]
async fn a_refusal_instead_of_a_greeting_is_not_answered() {
    let (mut wire, mut relay) = wire(&[]);
    relay.write_all(b"554 no\r\n").await.unwrap();
    wire.read_exact(&mut [0; 8]).await.unwrap();
    assert!(wire.write_all(b"QUIT\r\n").await.is_err());
    assert_eq!(wire.take_reply(), reply(554, "no"), "and not forgotten");
    wire.greeted();
    wire.write_all(b"QUIT\r\n").await.unwrap();
}

#[tokio::test]
async fn a_password_that_comes_back_is_withheld() {
    let (mut wire, mut relay) = wire(&["s3cret"]);
    relay.write_all(b"535-a\r\n535 your s3cret is wrong\r\n").await.unwrap();
    let mut text = vec![0; 200];
    let length = wire.read(&mut text).await.unwrap();
    assert!(!String::from_utf8_lossy(&text[..length]).contains("s3cret"));
    assert_eq!(wire.take_reply(), reply(535, &format!("a {WITHHELD}")));
}

#[tokio::test]
async fn the_final_dot_is_seen_however_it_is_cut() {
    let bytes = b"one\r\n..\r\ntwo\r\n.\r\n";
    for first in 0..bytes.len() {
        for second in first..bytes.len() {
            let (mut wire, _relay) = wire(&[]);
            for part in [&bytes[..first], &bytes[first..second], &bytes[second..bytes.len() - 1]] {
                wire.write_all(part).await.unwrap();
                assert!(!wire.dot_sent(), "{first} {second}");
            }
            wire.write_all(b"\n").await.unwrap();
            assert!(wire.dot_sent(), "{first} {second}");
        }
    }
}

/// What a bare lettre does with a relay that greets so, answers EHLO so, and NOOP politely.
async fn bare_lettre(ehlo: &'static [u8]) -> std::result::Result<u16, &'static str> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut command = [0; 512];
        stream.write_all(b"220 x\r\n").await.unwrap();
        for answer in [ehlo, b"451 not now\r\n"] {
            if !matches!(stream.read(&mut command).await, Ok(1..)) {
                return;
            }
            stream.write_all(answer).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let client = tokio::spawn(async move {
        let stream = Box::new(TcpStream::connect(address).await.unwrap());
        let hello = ClientId::Domain("sup.test".to_owned());
        let mut connection =
            AsyncSmtpConnection::connect_with_transport(stream, &hello).await.map_err(|_| "error")?;
        match connection.command(Noop).await {
            Ok(response) => Ok(u16::from(response.code())),
            Err(error) => error.status().map(u16::from).ok_or("error"),
        }
    });
    match timeout(Duration::from_secs(2), client).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("panic"),
        Err(_) => Err("hang"),
    }
}

/// Pins what this module is for. When an update of lettre makes this test fail, some of it can go.
#[tokio::test]
async fn lettre_alone_believes_too_much() {
    assert_eq!(bare_lettre(b"250 x\r\n").await, Ok(451));
    assert_eq!(bare_lettre(b"250-x\r\n250  \r\n").await, Err("panic"));
    assert_eq!(bare_lettre(b"250 x\n").await, Err("hang"));
    assert_eq!(bare_lettre(b"250 Gr\xfc\xdfe\r\n").await, Err("error"));
    assert_eq!(bare_lettre(b"250\r\n").await, Err("error"));
    assert_eq!(bare_lettre(b"250 x\r\n250 unasked\r\n").await, Ok(250), "though NOOP was answered with 451");
}
