//! A relay that keeps what it gets and when it got it, and how its mails are read.

use crate::haproxy::lab::until_within;
use jiff::Timestamp;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use supervisor::status::MailList;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use super::world::Daemon;

/// Three tries of an Alertmanager, the pauses between them, and a machine that builds as well.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// A mail as it came.
#[derive(Debug, Clone)]
pub(crate) struct Mail {
    pub(crate) text: String,
    /// When its last line came.
    pub(crate) at: Timestamp,
}

/// A relay (RFC 5321, no extensions) that takes everything.
pub(crate) struct Relay {
    mails: Arc<Mutex<Vec<Mail>>>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    pub(crate) async fn on(port: u16) -> Relay {
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

    /// All that came, oldest first.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.mails.lock().unwrap().clone()
    }

    /// The only mail whose subject has `words`.
    pub(crate) async fn mail(&self, words: &str) -> String {
        self.kept(words).await.text
    }

    /// The same with the time of its arrival.
    pub(crate) async fn kept(&self, words: &str) -> Mail {
        let found = || {
            let mails = self.mails();
            mails.into_iter().filter(|mail| header(&mail.text, "Subject").contains(words)).collect::<Vec<_>>()
        };
        until_within(LONGEST, &format!("there is a mail with {words:?}"), async || !found().is_empty()).await;
        let mut found = found();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

/// A header of a mail, unfolded.
pub(crate) fn header(mail: &str, name: &str) -> String {
    let head = mail.split("\n\n").next().unwrap_or_default().replace("\n ", " ");
    let named = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
    head.lines().find_map(named).unwrap_or_default()
}

async fn take(stream: TcpStream, mails: &Mutex<Vec<Mail>>) -> std::io::Result<()> {
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
                let mut text = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    text.push_str(&line);
                    text.push('\n');
                }
                mails.lock().unwrap().push(Mail { text, at: Timestamp::now() });
                "250 kept"
            }
            _ => "250 fine",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await?;
    }
    Ok(())
}

pub(crate) async fn outbox(daemon: &Daemon) -> MailList {
    daemon.client().get("/api/v1/outbox").await.unwrap()
}

/// Waits until the newest mail of the outbox is `state`.
pub(crate) async fn until_mail_is(daemon: &Daemon, state: &str) {
    until_within(LONGEST, &format!("the newest mail is {state}"), async || {
        outbox(daemon).await.mails.first().is_some_and(|mail| mail.state == state)
    })
    .await;
}
