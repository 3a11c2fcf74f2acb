use super::peer::{Act, At, Heard, Peer, Script, another_ca};
use super::*;
use crate::alert::email::{Helo, Login, RelayTls};
use crate::secret::Secret;
use futures_util::future::join_all;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket};
use tracing_subscriber::fmt::MakeWriter;

/// For what must not be waited for: whoever takes this long has waited for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// For what never comes. Long enough for what comes on a busy machine before it.
const BRIEF: Duration = Duration::from_secs(2);

/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_secs(10);

const MESSAGE: &[u8] = b"From: s@sup.test\r\nSubject: test\r\n\r\nhello\r\n.\r\n..two\r\nend\r\n";

const RECIPIENTS: [&str; 3] = ["a@x.test", "b@x.test", "c@x.test"];

fn patient() -> Deadlines {
    Deadlines { opening: PATIENCE, tls: PATIENCE, command: PATIENCE, content: PATIENCE, quit: PATIENCE }
}

fn envelope() -> Envelope {
    Envelope::new("s@sup.test", RECIPIENTS).unwrap()
}

fn login() -> Login {
    Login { user: "sup".to_owned(), password: Secret::new("s3cret-word".to_owned()) }
}

/// Delivers to a relay with that script.
async fn attempt(script: Script, deadlines: Deadlines, auth: bool) -> (Attempt, Heard) {
    let mut peer = Peer::start(script).await;
    peer.relay.auth = auth.then(login);
    let attempt = deliver(&peer.relay, &envelope(), MESSAGE, &deadlines).await;
    (attempt, peer.heard().await)
}

/// An outcome in a few words.
fn brief(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { reply, queue_id } => {
            format!("accepted {} {}", reply.code, queue_id.as_deref().unwrap_or("-"))
        }
        Outcome::Deferred { stage, reply } => format!("deferred {stage} {}", reply.code),
        Outcome::Refused { stage, reply } => format!("refused {stage} {}", reply.code),
        Outcome::RelayFailed(RelayFault { stage, class, reply, .. }) => {
            let code = reply.as_ref().map(|reply| format!(" {}", reply.code)).unwrap_or_default();
            format!("failed {stage} {class}{code}")
        }
        Outcome::Ambiguous { .. } => "ambiguous".to_owned(),
    }
}

fn outcomes(attempt: &Attempt) -> Vec<String> {
    let addresses: Vec<&str> =
        attempt.recipients.iter().map(|recipient| recipient.address.as_str()).collect();
    assert_eq!(addresses, RECIPIENTS, "every recipient, in order");
    attempt.recipients.iter().map(|recipient| brief(&recipient.outcome)).collect()
}

/// What the recipients must have come to: one word for all of them, or one each.
fn expect(name: &str, attempt: &Attempt, expected: &str) {
    let each: Vec<&str> = expected.split(" | ").collect();
    let each = if each.len() == 1 { vec![each[0]; RECIPIENTS.len()] } else { each };
    assert_eq!(outcomes(attempt), each, "{name}: {attempt:#?}");
}

#[tokio::test]
async fn a_polite_relay_takes_exactly_these_bytes() {
    for tls in [RelayTls::Implicit, RelayTls::StartTls, RelayTls::None] {
        let (attempt, heard) = attempt(Script::polite(tls), patient(), true).await;
        expect(&format!("{tls:?}"), &attempt, "accepted 250 4XyZ12345");
        assert_eq!(attempt.relay_fault(), None);
        assert_eq!(heard.content, MESSAGE, "{tls:?}");
        let commands: Vec<&str> = heard.commands.iter().map(String::as_str).collect();
        let introduced: &[&str] = match tls {
            RelayTls::StartTls => &["EHLO sup.test", "STARTTLS", "EHLO sup.test"],
            RelayTls::Implicit | RelayTls::None => &["EHLO sup.test"],
        };
        let rest = [
            // printf '\0sup\0s3cret-word' | base64
            "AUTH PLAIN AHN1cABzM2NyZXQtd29yZA==",
            "MAIL FROM:<s@sup.test>",
            "RCPT TO:<a@x.test>",
            "RCPT TO:<b@x.test>",
            "RCPT TO:<c@x.test>",
            "DATA",
            "QUIT",
        ];
        assert_eq!(commands, [introduced, &rest].concat(), "{tls:?}");
    }
}

#[tokio::test]
async fn every_refusal_is_laid_at_the_right_door() {
    use At::*;
    let plain = Script::plain;
    let table = [
        ("banner 4xx", plain().but_says(Banner, "450 later\r\n"), "failed greeting declined 450"),
        ("banner 5xx", plain().but_says(Banner, "554 no\r\n"), "failed greeting declined 554"),
        ("banner 421", plain().but_says(Banner, "421 busy\r\n"), "failed greeting declined 421"),
        ("ehlo 4xx", plain().but_says(Ehlo, "450 later\r\n"), "failed greeting declined 450"),
        ("ehlo 5xx", plain().but_says(Ehlo, "550 no\r\n"), "failed greeting declined 550"),
        ("ehlo 421", plain().but_says(Ehlo, "421 busy\r\n"), "failed greeting declined 421"),
        (
            "ehlo 5xx, then it would not answer QUIT",
            plain().but_says(Ehlo, "550 no\r\n").but(Quit, Act::Silent),
            "failed greeting declined 550",
        ),
        ("auth 4xx", plain().but_says(Auth, "454 4.7.0 try later\r\n"), "failed auth declined 454"),
        ("auth 5xx", plain().but_says(Auth, "535 5.7.8 wrong\r\n"), "failed auth declined 535"),
        ("auth 421", plain().but_says(Auth, "421 bye\r\n"), "failed auth declined 421"),
        ("auth asks for ever", plain().but_says(Auth, "334 UGFzc3dvcmQ6\r\n"), "failed auth protocol"),
        ("mail 4xx", plain().but_says(Mail, "451 later\r\n"), "failed mail declined 451"),
        ("mail 5xx", plain().but_says(Mail, "553 5.7.1 not you\r\n"), "failed mail declined 553"),
        ("mail 421", plain().but_says(Mail, "421 bye\r\n"), "failed mail declined 421"),
        (
            "one recipient 5xx",
            plain().but_says(Rcpt(2), "550 5.1.1 unknown\r\n"),
            "accepted 250 4XyZ12345 | refused rcpt 550 | accepted 250 4XyZ12345",
        ),
        (
            "one recipient 4xx, one 5xx",
            plain().but_says(Rcpt(1), "450 grey\r\n").but_says(Rcpt(3), "551 gone\r\n"),
            "deferred rcpt 450 | accepted 250 4XyZ12345 | refused rcpt 551",
        ),
        (
            "no recipient left",
            plain()
                .but_says(Rcpt(1), "550 no\r\n")
                .but_says(Rcpt(2), "450 grey\r\n")
                .but_says(Rcpt(3), "550 no\r\n"),
            "refused rcpt 550 | deferred rcpt 450 | refused rcpt 550",
        ),
        (
            "421 among the recipients",
            plain().but_says(Rcpt(1), "550 no\r\n").but_says(Rcpt(2), "421 bye\r\n"),
            "refused rcpt 550 | failed rcpt declined 421 | failed rcpt declined 421",
        ),
        ("a recipient answered with 354", plain().but_says(Rcpt(2), "354 go\r\n"), "failed rcpt protocol"),
        ("data 4xx", plain().but_says(Data, "451 later\r\n"), "deferred data 451"),
        (
            "data 4xx after a refused recipient",
            plain().but_says(Rcpt(1), "550 no\r\n").but_says(Data, "451 later\r\n"),
            "refused rcpt 550 | deferred data 451 | deferred data 451",
        ),
        ("data 5xx", plain().but_says(Data, "554 no\r\n"), "failed data declined 554"),
        ("data 421", plain().but_says(Data, "421 bye\r\n"), "failed data declined 421"),
        ("data answered with 250", plain().but_says(Data, "250 ok\r\n"), "failed data protocol"),
        ("content 4xx", plain().but_says(Dot, "451 4.3.0 filter\r\n"), "deferred content 451"),
        ("content 5xx", plain().but_says(Dot, "554 5.7.1 spam\r\n"), "refused content 554"),
        ("content 552", plain().but_says(Dot, "552 too big\r\n"), "refused content 552"),
        ("content 421", plain().but_says(Dot, "421 bye\r\n"), "failed content declined 421"),
        (
            "content 5xx after a deferred recipient",
            plain().but_says(Rcpt(2), "450 grey\r\n").but_says(Dot, "554 spam\r\n"),
            "refused content 554 | deferred rcpt 450 | refused content 554",
        ),
        ("quit 5xx", plain().but_says(Quit, "500 what?\r\n"), "accepted 250 4XyZ12345"),
    ];
    let began = Instant::now();
    join_all(table.map(|(name, script, expected)| async move {
        let (attempt, _) = attempt(script, patient(), true).await;
        expect(name, &attempt, expected);
    }))
    .await;
    assert!(began.elapsed() < PATIENCE, "nobody waited for what does not come: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_silent_relay_costs_the_deadline_of_its_stage_and_no_more() {
    use At::*;
    let opening = Deadlines { opening: BRIEF, ..patient() };
    let tls = Deadlines { tls: BRIEF, ..patient() };
    let command = Deadlines { command: BRIEF, ..patient() };
    let content = Deadlines { content: BRIEF, ..patient() };
    let quit = Deadlines { quit: BRIEF, ..patient() };
    let (plain, implicit) = (Script::plain, || Script::polite(RelayTls::Implicit));
    let starttls = || Script::polite(RelayTls::StartTls);
    let table = [
        (plain().but(Banner, Act::Silent), opening, "failed greeting silent"),
        (plain().but(Ehlo, Act::Silent), opening, "failed greeting silent"),
        (implicit().but(Handshake, Act::Silent), tls, "failed tls silent"),
        (implicit().but(Banner, Act::Silent), opening, "failed greeting silent"),
        (starttls().but(StartTls, Act::Silent), command, "failed starttls silent"),
        (starttls().but(Handshake, Act::Silent), tls, "failed tls silent"),
        (starttls().but(EhloInTls, Act::Silent), command, "failed greeting silent"),
        (plain().but(Auth, Act::Silent), command, "failed auth silent"),
        (plain().but(Mail, Act::Silent), command, "failed mail silent"),
        (
            plain().but_says(Rcpt(1), "550 no\r\n").but(Rcpt(2), Act::Silent),
            command,
            "refused rcpt 550 | failed rcpt silent | failed rcpt silent",
        ),
        (plain().but(Data, Act::Silent), command, "failed data silent"),
        (plain().but(Dot, Act::Silent), content, "ambiguous"),
        (implicit().but(Dot, Act::Silent), content, "ambiguous"),
        (
            plain().but_says(Rcpt(3), "450 grey\r\n").but(Dot, Act::Silent),
            content,
            "ambiguous | ambiguous | deferred rcpt 450",
        ),
        (plain().but(Quit, Act::Silent), quit, "accepted 250 4XyZ12345"),
    ];
    join_all(table.map(|(script, deadlines, expected)| async move {
        let name = format!("{script:?}");
        let began = Instant::now();
        let (attempt, _) = attempt(script, deadlines, true).await;
        let took = began.elapsed();
        expect(&name, &attempt, expected);
        assert!(BRIEF <= took && took < BRIEF + SLACK, "{name}: {took:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_connection_that_ends_is_doubtful_only_after_the_final_dot() {
    use At::*;
    let plain = Script::plain;
    let table = [
        (plain().but(Banner, Act::Close), "failed greeting lost"),
        (plain().but(Ehlo, Act::Close), "failed greeting lost"),
        (Script::polite(RelayTls::Implicit).but(Handshake, Act::Close), "failed tls lost"),
        (Script::polite(RelayTls::StartTls).but(StartTls, Act::Close), "failed starttls lost"),
        (Script::polite(RelayTls::StartTls).but(EhloInTls, Act::Close), "failed greeting lost"),
        (plain().but(Auth, Act::Close), "failed auth lost"),
        (plain().but(Mail, Act::Close), "failed mail lost"),
        (
            plain().but_says(Rcpt(1), "450 grey\r\n").but(Rcpt(2), Act::Close),
            "deferred rcpt 450 | failed rcpt lost | failed rcpt lost",
        ),
        (plain().but(Data, Act::Close), "failed data lost"),
        (plain().but(Dot, Act::Close), "ambiguous"),
        (Script::polite(RelayTls::Implicit).but(Dot, Act::Close), "ambiguous"),
        (plain().but(Quit, Act::Close), "accepted 250 4XyZ12345"),
    ];
    join_all(table.map(|(script, expected)| async move {
        let name = format!("{script:?}");
        let (attempt, _) = attempt(script, patient(), true).await;
        expect(&name, &attempt, expected);
    }))
    .await;
}

/// More than the sockets of both sides hold.
fn long() -> Vec<u8> {
    [b"Subject: long\r\n\r\n".to_vec(), b"0123456789\r\n".repeat(2_000_000)].concat()
}

#[tokio::test]
async fn a_message_cut_off_in_the_middle_is_not_doubtful() {
    let peer = Peer::start(Script::plain().but(At::Middle, Act::Close)).await;
    let attempt = deliver(&peer.relay, &envelope(), &long(), &patient()).await;
    expect("closed in the middle", &attempt, "failed content lost");
}

#[tokio::test]
async fn a_message_that_a_relay_stops_reading_is_not_doubtful() {
    let relay = relay_at(stalling().await);
    let deadlines = Deadlines { content: BRIEF, ..patient() };
    let began = Instant::now();
    let attempt = deliver(&relay, &envelope(), &long(), &deadlines).await;
    expect("not read to its end", &attempt, "failed content silent");
    assert!(began.elapsed() < BRIEF + SLACK);
}

/// A relay at that port of this machine.
fn relay_at(port: u16) -> Relay {
    Relay {
        name: "test".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        tls: RelayTls::None,
        helo: Helo::parse("sup.test").unwrap(),
        auth: None,
        ca: None,
    }
}

/// A relay that stops reading in the middle of the message, and keeps the connection.
async fn stalling() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 stalling\r\n").await.unwrap();
        let mut command = String::new();
        while command != "DATA\r\n" {
            command.clear();
            stream.read_line(&mut command).await.unwrap();
            let reply: &[u8] = if command == "DATA\r\n" { b"354 go\r\n" } else { b"250 ok\r\n" };
            stream.write_all(reply).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    port
}

#[tokio::test]
async fn who_cannot_be_reached_is_a_relay_fault() {
    // Bound and not listening: nobody else gets the port meanwhile.
    let bound = TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = relay_at(bound.local_addr().unwrap().port());
    let nameless = Relay { host: "a..b".to_owned(), ..nobody.clone() };
    for (relay, expected) in [(nobody, "failed connect unreachable"), (nameless, "failed resolve unresolved")]
    {
        let attempt = deliver(&relay, &envelope(), MESSAGE, &patient()).await;
        expect(expected, &attempt, expected);
        assert!(attempt.relay_fault().is_some());
    }
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_for_the_right_name() {
    for tls in [RelayTls::Implicit, RelayTls::StartTls] {
        let mut peer = Peer::start(Script::polite(tls)).await;
        peer.relay.ca = Some(another_ca());
        peer.relay.auth = Some(login());
        let attempt = deliver(&peer.relay, &envelope(), MESSAGE, &patient()).await;
        expect("not trusted", &attempt, "failed tls tls");
        let why = &attempt.relay_fault().unwrap().why;
        assert!(why.contains("certificate"), "{why}");
        nothing_but(&peer.heard().await, &["EHLO sup.test", "STARTTLS"]);

        let mut peer = Peer::start(Script::polite(tls)).await;
        peer.relay.host = "127.0.0.1".to_owned();
        let attempt = deliver(&peer.relay, &envelope(), MESSAGE, &patient()).await;
        expect("not its name", &attempt, "failed tls tls");
        nothing_but(&peer.heard().await, &["EHLO sup.test", "STARTTLS"]);

        let mut peer = Peer::start(Script::polite(tls)).await;
        peer.relay.ca = Some(b"no certificate".to_vec());
        let attempt = deliver(&peer.relay, &envelope(), MESSAGE, &patient()).await;
        expect("nothing to trust", &attempt, "failed tls tls");
        let why = &attempt.relay_fault().unwrap().why;
        assert!(why.contains("holds no certificate"), "{why}");
    }
}

/// Nothing else was said in plain text.
fn nothing_but(heard: &Heard, known: &[&str]) {
    for command in &heard.commands {
        assert!(known.contains(&command.as_str()), "{heard:?}");
    }
}

#[tokio::test]
async fn a_relay_that_speaks_plain_text_on_a_tls_port_is_a_relay_fault() {
    let mut peer = Peer::start(Script::plain()).await;
    peer.relay.tls = RelayTls::Implicit;
    let attempt = deliver(&peer.relay, &envelope(), MESSAGE, &patient()).await;
    expect("banner instead of TLS", &attempt, "failed tls tls");
}

#[tokio::test]
async fn without_starttls_nothing_is_said() {
    let mut script = Script::polite(RelayTls::StartTls);
    script.offers.retain(|offer| *offer != "STARTTLS");
    let (attempt, heard) = attempt(script, patient(), true).await;
    expect("not offered", &attempt, "failed starttls unsuitable");
    nothing_but(&heard, &["EHLO sup.test", "QUIT"]);
    for reply in ["454 4.7.0 TLS not available\r\n", "502 what?\r\n", "421 bye\r\n"] {
        let script = Script::polite(RelayTls::StartTls).but_says(At::StartTls, reply);
        let (attempt, heard) = super::tests::attempt(script, patient(), true).await;
        expect(reply, &attempt, &format!("failed starttls declined {}", &reply[..3]));
        assert!(!heard.commands.iter().any(|command| command.starts_with("AUTH")), "{heard:?}");
    }
}

#[tokio::test]
async fn plain_text_behind_the_consent_to_tls_ends_the_attempt() {
    // CVE-2011-0411 and its kin, seen from the client: what is put behind the 220 would be read as encrypted.
    for injected in ["220 go\r\n250-evil\r\n250 AUTH LOGIN\r\n", "220 go\r\n2", "220 go\r\n\r\n"] {
        let script = Script::polite(RelayTls::StartTls).but_says(At::StartTls, injected);
        let (attempt, heard) = attempt(script, patient(), true).await;
        expect(injected, &attempt, "failed starttls protocol");
        nothing_but(&heard, &["EHLO sup.test", "STARTTLS"]);
    }
    // What arrives after we looked is taken for TLS, which it is not.
    let script = Script::polite(RelayTls::StartTls).but_says(At::Handshake, "250 evil\r\n");
    let (attempt, heard) = attempt(script, patient(), true).await;
    assert!(attempt.relay_fault().is_some(), "{attempt:?}");
    nothing_but(&heard, &["EHLO sup.test", "STARTTLS"]);
}

#[tokio::test]
async fn what_was_offered_in_plain_text_does_not_count() {
    let script = Script::polite(RelayTls::StartTls).but_says(At::EhloInTls, "250-x\r\n250 AUTH LOGIN\r\n");
    let (attempt, heard) = attempt(script, patient(), true).await;
    expect("LOGIN only", &attempt, "accepted 250 4XyZ12345");
    // printf sup | base64; printf s3cret-word | base64
    assert_eq!(&heard.commands[3..6], ["AUTH LOGIN", "c3Vw", "czNjcmV0LXdvcmQ="]);
    let script = Script::polite(RelayTls::StartTls).but_says(At::EhloInTls, "250 x\r\n");
    let (attempt, _) = super::tests::attempt(script, patient(), true).await;
    expect("no AUTH in TLS", &attempt, "failed auth unsuitable");
}

#[tokio::test]
async fn a_relay_that_answers_unasked_is_not_believed() {
    // The second 250 would count as the verdict on the next recipient.
    let script = Script::plain().but_says(At::Rcpt(1), "250 ok\r\n250 ok\r\n");
    let (attempt, _) = attempt(script, patient(), false).await;
    expect("two answers to one question", &attempt, "failed rcpt protocol");
    let script = Script::plain().but_says(At::Data, "354 go\r\n250 queued\r\n");
    let (attempt, heard) = super::tests::attempt(script, patient(), false).await;
    expect("a verdict before the message", &attempt, "failed content protocol");
    assert_eq!(heard.content, b"", "not a byte of it was sent");
}

#[tokio::test]
async fn odd_replies_are_understood() {
    use At::*;
    let plain = Script::plain;
    let table = [
        (plain().but_says(Ehlo, "250-   \r\n250-  \r\n250 8BITMIME\r\n"), "accepted 250 4XyZ12345"),
        (plain().but_says(Ehlo, "250\r\n"), "accepted 250 4XyZ12345"),
        (plain().but(Dot, Act::Say(b"250 Gr\xfc\xdfe: queued as 7\r\n")), "accepted 250 7"),
        (plain().but_says(Dot, "250 ok: queued as 8\n"), "accepted 250 8"),
        (plain().but_says(Dot, "250\r\n"), "accepted 250 -"),
        (plain().but_says(Dot, "250-one\r\n250-two\r\n250 queued as 9\r\n"), "accepted 250 9"),
        (plain().but_says(Dot, "571-not here\r\n571 not ever\r\n"), "refused content 571"),
        (plain().but_says(Dot, "550-one\r\n451 other\r\n"), "deferred content 451"),
        // Not understood: then it may have taken the message.
        (plain().but_says(Dot, "OK\r\n"), "ambiguous"),
        (plain().but_says(Dot, "999 ok\r\n"), "ambiguous"),
        (plain().but_says(Dot, "354 go\r\n"), "ambiguous"),
        (plain().but_says(Banner, "HTTP/1.1 400 Bad Request\r\n\r\n"), "failed greeting protocol"),
    ];
    join_all(table.map(|(script, expected)| async move {
        let name = format!("{script:?}");
        let (attempt, _) = attempt(script, patient(), false).await;
        expect(&name, &attempt, expected);
    }))
    .await;
}

#[tokio::test]
async fn replies_are_one_bounded_line() {
    let reply: &'static str = format!("550-{}\r\n550 \u{1b}[31mred\r\n", "long ".repeat(150)).leak();
    let script = Script::plain().but_says(At::Rcpt(1), reply);
    let (attempt, _) = attempt(script, patient(), false).await;
    let Outcome::Refused { reply, .. } = &attempt.recipients[0].outcome else { panic!("{attempt:?}") };
    assert!(reply.text.len() <= 500 && reply.text.ends_with("..."), "{reply}");
    let script = Script::plain().but_says(At::Rcpt(1), "550-a\r\n550 \u{1b}[31mred\u{7f}\r\n");
    let (attempt, _) = super::tests::attempt(script, patient(), false).await;
    let Outcome::Refused { reply, .. } = &attempt.recipients[0].outcome else { panic!("{attempt:?}") };
    assert_eq!(reply.text, "a [31mred");
}

#[tokio::test]
async fn a_password_is_not_told_to_a_relay_that_does_not_ask_for_one() {
    let mut script = Script::plain();
    script.offers.retain(|offer| !offer.starts_with("AUTH"));
    let (attempt, heard) = attempt(script, patient(), true).await;
    expect("no AUTH", &attempt, "failed auth unsuitable");
    nothing_but(&heard, &["EHLO sup.test", "QUIT"]);
}

#[tokio::test]
async fn eight_bits_go_only_where_they_are_taken() {
    let message = "Subject: x\r\n\r\ngrün\r\n".as_bytes();
    let peer = Peer::start(Script::plain()).await;
    let attempt = deliver(&peer.relay, &envelope(), message, &patient()).await;
    expect("taken", &attempt, "accepted 250 4XyZ12345");
    let heard = peer.heard().await;
    assert!(heard.commands.contains(&"MAIL FROM:<s@sup.test> BODY=8BITMIME".to_owned()), "{heard:?}");
    assert_eq!(heard.content, message);

    let mut script = Script::plain();
    script.offers.retain(|offer| *offer != "8BITMIME");
    let peer = Peer::start(script).await;
    let attempt = deliver(&peer.relay, &envelope(), message, &patient()).await;
    expect("not taken", &attempt, "failed mail unsuitable");
}

#[tokio::test]
async fn a_bare_line_end_cannot_end_the_message() {
    let message = b"Subject: x\n\nhello\n.\nMAIL FROM:<evil@x.test>\r.\r\n\r\r\nend";
    let peer = Peer::start(Script::plain()).await;
    let attempt = deliver(&peer.relay, &envelope(), message, &patient()).await;
    expect("taken", &attempt, "accepted 250 4XyZ12345");
    let heard = peer.heard().await;
    let whole = "Subject: x\r\n\r\nhello\r\n.\r\nMAIL FROM:<evil@x.test>\r\n.\r\n\r\n\r\nend\r\n";
    assert_eq!(String::from_utf8_lossy(&heard.content), whole);
}

#[tokio::test]
async fn what_was_said_to_log_in_comes_back_nowhere() {
    let written = Captured::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(written.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    tracing::info!("listening");
    let table = [
        (At::Auth, "535 no such user: AUTH PLAIN AHN1cABzM2NyZXQtd29yZA==\r\n"),
        (At::Auth, "535-wrong:\r\n535 s3cret-word\r\n"),
        (At::Auth, "s3cret-word is wrong\r\n"),
        (At::Mail, "550 czNjcmV0LXdvcmQ= is not welcome\r\n"),
        (At::Rcpt(1), "550 s3cret-word\r\n"),
        (At::Dot, "250 ok: queued as s3cret-word\r\n"),
        (At::Dot, "s3cret-word ok\r\n"),
    ];
    let mut all = String::new();
    for (at, reply) in table {
        for tls in [RelayTls::None, RelayTls::Implicit] {
            let mut peer = Peer::start(Script::polite(tls).but_says(at, reply)).await;
            peer.relay.auth = Some(login());
            let attempt = deliver(&peer.relay, &envelope(), MESSAGE, &patient()).await;
            all.push_str(&format!(
                "{:?} {attempt:?} {}\n",
                peer.relay,
                brief(&attempt.recipients[0].outcome)
            ));
            if let Some(fault) = attempt.relay_fault() {
                all.push_str(&fault.to_string());
            }
        }
    }
    all.push_str(&written.text());
    assert!(all.contains("listening") && all.contains("(withheld: "), "{all}");
    for secret in ["s3cret", "AHN1cABzM2NyZXQtd29yZA", "czNjcmV0LXdvcmQ"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
}

/// Where the log goes in a test.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Captured;

    fn make_writer(&'a self) -> Captured {
        self.clone()
    }
}

#[test]
fn the_default_deadlines_are_those_of_an_urgent_message() {
    let seconds = Duration::from_secs;
    let Deadlines { opening, tls, command, content, quit } = Deadlines::default();
    assert_eq!((opening, tls, command), (seconds(20), seconds(10), seconds(15)));
    assert_eq!((content, quit), (seconds(120), seconds(2)));
}
