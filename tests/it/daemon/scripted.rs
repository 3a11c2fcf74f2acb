//! A relay that does what its script says.

use super::mailroom::SHOP;
use crate::haproxy::lab::until_within;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, pki_types};
use tokio_util::task::AbortOnDropHandle;

/// From the start of a daemon to a mail at a relay that works, on a machine that builds as well.
const LONGEST: Duration = Duration::from_secs(30);

/// A place in the dialogue with a relay (RFC 5321).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    Banner,
    Ehlo,
    StartTls,
    Handshake,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The end of the message: the relay has it, and has not said so.
    Dot,
}

/// What happens there instead of the polite answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// It answers this, once, and hangs up if it is about the connection (421) or no SMTP at all.
    Say(&'static str),
    /// It says nothing, to anybody, for as long as it lives.
    Silent,
}

/// A relay on loopback. What its script does not mention it does politely.
pub(super) struct Relay {
    pub(super) port: u16,
    /// With the certificate and a password, for one that begins with TLS.
    files: Option<tempfile::TempDir>,
    heard: Arc<Heard>,
    task: Option<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Heard {
    script: Mutex<BTreeMap<At, Act>>,
    mails: Mutex<Vec<Taken>>,
    /// Where it has fallen silent.
    silent: watch::Sender<Option<At>>,
    /// How many connections it has.
    open: watch::Sender<usize>,
}

/// A mail that it took.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) recipients: Vec<String>,
    pub(super) text: String,
}

impl Taken {
    /// A header, unfolded.
    pub(super) fn header(&self, name: &str) -> String {
        let head = self.text.split("\n\n").next().unwrap_or_default().replace("\n ", " ");
        let named = |line: &str| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned);
        head.lines().find_map(named).unwrap_or_default()
    }
}

impl Relay {
    /// One that speaks plain text.
    pub(super) async fn start(script: &[(At, Act)]) -> Relay {
        Relay::with(script, false).await
    }

    /// One that begins with TLS, with the certificate of [`Certificate::of_tests`].
    pub(super) async fn start_tls(script: &[(At, Act)]) -> Relay {
        Relay::with(script, true).await
    }

    async fn with(script: &[(At, Act)], tls: bool) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Heard {
            script: Mutex::new(script.iter().copied().collect()),
            mails: Mutex::default(),
            silent: watch::Sender::new(None),
            open: watch::Sender::new(0),
        });
        let shared = Arc::clone(&heard);
        let task = tokio::spawn(async move {
            let mut talks = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let heard = Arc::clone(&shared);
                heard.open.send_modify(|open| *open += 1);
                talks.spawn(async move {
                    let _ = converse(stream, tls, &heard).await;
                    heard.open.send_modify(|open| *open -= 1);
                });
            }
        });
        let files = tls.then(|| {
            let directory = tempfile::tempdir().unwrap();
            std::fs::write(directory.path().join("cert.pem"), &Certificate::of_tests().pem).unwrap();
            std::fs::write(directory.path().join("password"), "open sesame\n").unwrap();
            directory
        });
        Relay { port, files, heard, task: Some(AbortOnDropHandle::new(task)) }
    }

    /// Its part of the settings, under `name`; relays are tried in the order of their names.
    pub(super) fn settings(&self, name: &str) -> String {
        let (tls, login) = match &self.files {
            None => ("none", String::new()),
            Some(files) => {
                let files = files.path().display();
                let login = format!(
                    "user = \"sup\"\npassword_file = \"{files}/password\"\nca_file = \"{files}/cert.pem\"\n"
                );
                ("implicit", login)
            }
        };
        let starttls = self.heard.script.lock().unwrap().contains_key(&At::StartTls);
        let tls = if starttls { "starttls" } else { tls };
        format!("[mail.relays.{name}]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"{tls}\"\n{login}", self.port)
    }

    /// The mails it has, oldest first.
    pub(super) fn mails(&self) -> Vec<Taken> {
        self.heard.mails.lock().unwrap().clone()
    }

    /// The mails about the shop of this kind: `FIRING` or `RESOLVED`.
    pub(super) fn about_shop(&self, kind: &str) -> Vec<Taken> {
        let wanted = |mail: &Taken| {
            let subject = mail.header("Subject");
            subject.starts_with(&format!("[{kind}")) && subject.contains(SHOP)
        };
        self.mails().into_iter().filter(wanted).collect()
    }

    /// The first mail about the shop of this kind.
    pub(super) async fn mail_about_shop(&self, kind: &str) -> Taken {
        let what = format!("there is a {kind} mail");
        until_within(LONGEST, &what, async || !self.about_shop(kind).is_empty()).await;
        self.about_shop(kind).remove(0)
    }

    /// From now on it does what this script says.
    pub(super) fn play(&self, script: &[(At, Act)]) {
        *self.heard.script.lock().unwrap() = script.iter().copied().collect();
    }

    /// Everything in its script has happened.
    pub(super) fn script_is_over(&self) -> bool {
        self.heard.script.lock().unwrap().is_empty()
    }

    /// Waits until it is silent at `at`.
    pub(super) async fn until_silent(&self, at: At) {
        let what = format!("a relay is silent at {at:?}");
        until_within(LONGEST, &what, async || *self.heard.silent.borrow() == Some(at)).await;
    }

    /// Waits until it has read what a process that has ended left in its sockets.
    pub(super) async fn settle(&self) {
        // Connections are accepted in their order: behind this one there is none of that process.
        let mut last = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let _ = last.read_u8().await;
        drop(last);
        let mut open = self.heard.open.subscribe();
        let settled = tokio::time::timeout(LONGEST, open.wait_for(|open| *open == 0)).await;
        assert!(settled.is_ok(), "a relay has connections of a process that has ended");
    }

    /// As a machine that dies: its connections are cut, new ones are refused.
    pub(super) fn die(&mut self) {
        self.task = None;
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection, up to its end.
async fn converse(stream: TcpStream, tls: bool, heard: &Heard) -> std::io::Result<()> {
    let mut stream: BufReader<Box<dyn Stream>> = BufReader::new(Box::new(stream));
    if tls {
        answer(&mut stream, heard, At::Handshake, "").await?;
        let bare = stream.into_inner();
        stream = BufReader::new(Box::new(Certificate::of_tests().acceptor.accept(bare).await?));
    }
    answer(&mut stream, heard, At::Banner, "220 relay").await?;
    let mut recipients = Vec::new();
    loop {
        let Some(command) = line(&mut stream).await? else { return Ok(()) };
        match command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => {
                answer(&mut stream, heard, At::Ehlo, "250-relay\r\n250-STARTTLS\r\n250 AUTH PLAIN").await?;
            }
            "STARTTLS" => _ = answer(&mut stream, heard, At::StartTls, "454 no TLS today").await?,
            "AUTH" => _ = answer(&mut stream, heard, At::Auth, "235 welcome").await?,
            "MAIL" => _ = answer(&mut stream, heard, At::Mail, "250 fine").await?,
            "RCPT" => {
                if answer(&mut stream, heard, At::Rcpt, "250 fine").await? {
                    let address = command.split(['<', '>']).nth(1).unwrap_or_default();
                    recipients.push(address.to_owned());
                }
            }
            "DATA" => {
                answer(&mut stream, heard, At::Data, "354 go on").await?;
                let mut text = String::new();
                loop {
                    match line(&mut stream).await? {
                        None => return Ok(()),
                        Some(end) if end == "." => break,
                        Some(line) => text.extend([line.as_str(), "\n"]),
                    }
                }
                heard.mails.lock().unwrap().push(Taken { recipients: std::mem::take(&mut recipients), text });
                answer(&mut stream, heard, At::Dot, "250 kept").await?;
            }
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                return stream.shutdown().await;
            }
            _ => stream.write_all(b"250 fine\r\n").await?,
        }
    }
}

async fn line(stream: &mut BufReader<Box<dyn Stream>>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// What the script says for `at`, or else the `polite` answer; none where that is empty. Whether it was the polite one.
async fn answer(
    stream: &mut BufReader<Box<dyn Stream>>,
    heard: &Heard,
    at: At,
    polite: &str,
) -> std::io::Result<bool> {
    let act = {
        let mut script = heard.script.lock().unwrap();
        let act = script.get(&at).copied();
        if let Some(Act::Say(_)) = act {
            script.remove(&at);
        }
        act
    };
    let words = match act {
        None => polite,
        Some(Act::Say(words)) => words,
        Some(Act::Silent) => {
            heard.silent.send_replace(Some(at));
            // Until the client gives up; what it says meanwhile is not answered.
            let mut rest = Vec::new();
            let ended = stream.read_to_end(&mut rest).await;
            return Err(ended.err().unwrap_or_else(|| std::io::ErrorKind::BrokenPipe.into()));
        }
    };
    if words.is_empty() {
        return Ok(true);
    }
    stream.write_all(format!("{words}\r\n").as_bytes()).await?;
    stream.flush().await?;
    match act.is_some() && (words.starts_with("421") || at == At::Handshake) {
        true => Err(std::io::ErrorKind::ConnectionAborted.into()),
        false => Ok(act.is_none()),
    }
}

/// A certificate for 127.0.0.1, made once for all tests of the process.
struct Certificate {
    pem: Vec<u8>,
    acceptor: TlsAcceptor,
}

impl Certificate {
    fn of_tests() -> &'static Certificate {
        static MADE: OnceLock<Certificate> = OnceLock::new();
        MADE.get_or_init(Certificate::make)
    }

    fn make() -> Certificate {
        use pki_types::pem::PemObject;
        let directory = tempfile::tempdir().unwrap();
        let request = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
                       [name]\nCN = 127.0.0.1\n\
                       [extensions]\nsubjectAltName = IP:127.0.0.1\nbasicConstraints = critical, CA:FALSE\n";
        std::fs::write(directory.path().join("request.cnf"), request).unwrap();
        let made = std::process::Command::new("openssl")
            .current_dir(directory.path())
            .args("req -x509 -config request.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1".split(' '))
            .args("-nodes -days 2 -keyout key.pem -out cert.pem".split(' '))
            .output()
            .expect("openssl makes the certificate of this test: apt-get install openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let read = |name: &str| std::fs::read(directory.path().join(name)).unwrap();
        let pem = read("cert.pem");
        let chain = vec![pki_types::CertificateDer::from_pem_slice(&pem).unwrap()];
        let key = pki_types::PrivateKeyDer::from_pem_slice(&read("key.pem")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        Certificate { pem, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }
}
