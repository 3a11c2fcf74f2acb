//! Mail without Alertmanager: the real program, an Alertmanager that is not there, a relay that keeps what it gets.

use super::world::{Daemon, World, said};
use crate::haproxy::lab::until_within;
use rustix::process::Signal;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use supervisor::status::MailList;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// Three tries of an Alertmanager, the pauses between them, and a machine that builds as well.
const LONGEST: Duration = Duration::from_secs(60);

/// A relay (RFC 5321, no extensions) that takes everything.
struct Relay {
    mails: Arc<Mutex<Vec<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    async fn on(port: u16) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&mails);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away has lost its own mail only.
                let _ = take(stream, &kept).await;
            }
        });
        Relay { mails, _task: AbortOnDropHandle::new(task) }
    }

    /// The only mail whose subject has `words`.
    async fn mail(&self, words: &str) -> String {
        let found = || {
            let mails = self.mails.lock().unwrap();
            mails.iter().filter(|mail| header(mail, "Subject").contains(words)).cloned().collect::<Vec<_>>()
        };
        until_within(LONGEST, &format!("there is a mail with {words:?}"), async || !found().is_empty()).await;
        let mut found = found();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

async fn take(stream: TcpStream, mails: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    write.write_all(b"220 relay\r\n").await?;
    while let Some(line) = lines.next_line().await? {
        let answer = match line.split(' ').next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let mut mail = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push('\n');
                }
                mails.lock().unwrap().push(mail);
                "250 kept"
            }
            _ => "250 fine",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

/// A header of a mail, unfolded.
fn header(mail: &str, name: &str) -> String {
    let head = mail.split("\n\n").next().unwrap_or_default().replace("\n ", " ");
    let named = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
    head.lines().find_map(named).unwrap_or_default()
}

/// Settings whose Alertmanager does not exist, and whose relay is at `port`.
fn settings(world: &World, port: u16) -> String {
    let nobody = crate::haproxy::lab::free_port();
    format!(
        "{}\n[alerts]\nfallback_after = \"5s\"\nnotify_grace = \"10s\"\n\
         [alerts.alertmanagers.am1]\nurl = \"http://127.0.0.1:{nobody}\"\n\
         [mail]\nfrom = \"supervisor@example.org\"\nto = [\"oncall@example.org\"]\nhelo = \"node.example.org\"\n\
         [mail.relays.main]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n",
        world.settings()
    )
}

async fn outbox(daemon: &Daemon) -> MailList {
    daemon.client().get("/api/v1/outbox").await.unwrap()
}

/// Waits until the newest mail of the outbox is `state`.
async fn until_mail_is(daemon: &Daemon, state: &str) {
    until_within(LONGEST, &format!("the newest mail is {state}"), async || {
        outbox(daemon).await.mails.first().is_some_and(|mail| mail.state == state)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_alertmanager_people_get_a_mail_and_another_one_at_the_end() {
    let world = World::new().await;
    let port = crate::haproxy::lab::free_port();
    let relay = Relay::on(port).await;
    world.write(&settings(&world, port));
    let daemon = world.running().await;
    assert!(outbox(&daemon).await.mails.is_empty());

    world.onprem.close().await;
    let firing = relay.mail("[FIRING").await;
    assert!(header(&firing, "Subject").contains("PoolDown"), "{firing}");
    assert!(header(&firing, "To").contains("oncall@example.org"), "{firing}");
    let id = header(&firing, "Message-ID");
    assert!(id.ends_with("@node.example.org>"), "{id}");
    until_mail_is(&daemon, "done").await;
    daemon
        .until("it counts as told by mail", |view| view.incidents.iter().any(|one| one.told_by == "mail"))
        .await;

    world.onprem.open().await;
    let resolved = relay.mail("[RESOLVED").await;
    assert_ne!(header(&resolved, "Message-ID"), id);
    let thread = header(&firing, "References");
    assert!(!thread.is_empty(), "{firing}");
    assert_eq!(header(&resolved, "References"), thread, "one thread in a mailbox");
    until_mail_is(&daemon, "done").await;
    let shown = said(&world.command(&["outbox"]));
    assert!(shown.contains("resolved  done") && shown.contains("firing  done"), "{shown}");
    assert!(shown.contains("oncall@example.org: accepted at main: 250"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_no_relay_took_outlives_a_kill_and_is_the_same_message() {
    let world = World::new().await;
    let port = crate::haproxy::lab::free_port();
    world.write(&settings(&world, port));
    let mut daemon = world.running().await;
    world.onprem.close().await;
    until_mail_is(&daemon, "staged").await;
    let staged = outbox(&daemon).await.mails.remove(0);
    daemon.signal(Signal::KILL);
    daemon.ended().await;

    let relay = Relay::on(port).await;
    let next = world.run();
    let mail = relay.mail("[FIRING").await;
    assert_eq!(Some(header(&mail, "Message-ID")), staged.message_id);
    until_mail_is(&next, "done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_says_which_ways_work() {
    let world = World::new().await;
    let port = crate::haproxy::lab::free_port();
    let relay = Relay::on(port).await;
    world.write(&settings(&world, port));
    let _daemon = world.running().await;
    let tested = world.command(&["test-alert", "--reason", "a new relay"]);
    let shown = said(&tested);
    assert_eq!(tested.status.code(), Some(1), "{shown}");
    assert!(shown.contains("oncall@example.org: accepted at main: 250"), "{shown}");
    assert!(shown.contains("Alertmanager am1: does not take alerts"), "{shown}");
    let mail = relay.mail("SupervisorTest").await;
    assert!(mail.contains("nothing is wrong"), "{mail}");
    let events = said(&world.command(&["events"]));
    assert!(
        events.contains("a test of the alerts was ordered") && events.contains("a new relay"),
        "{events}"
    );
}
