//! A relay on loopback that does what a script says, for one connection, and tells what it heard.

use crate::alert::email::wire::Stream;
use crate::alert::email::{Helo, Relay, RelayTls};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, pki_types};

/// A place in the dialogue where a script can say what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::alert) enum At {
    Banner,
    Ehlo,
    StartTls,
    Handshake,
    EhloInTls,
    Auth,
    Mail,
    /// The n-th recipient, from 1.
    Rcpt(usize),
    Data,
    /// After the first line of the message.
    Middle,
    Dot,
    Quit,
}

/// What happens there instead of the polite answer.
#[derive(Debug, Clone, Copy)]
pub(in crate::alert) enum Act {
    Say(&'static [u8]),
    Silent,
    Close,
}

/// What a relay does.
#[derive(Debug, Clone)]
pub(in crate::alert) struct Script {
    pub(in crate::alert) tls: RelayTls,
    /// What it offers, one keyword each.
    pub(in crate::alert) offers: Vec<&'static str>,
    acts: BTreeMap<At, Act>,
}

/// What it heard.
#[derive(Debug, Default)]
pub(in crate::alert) struct Heard {
    /// Without their line ends.
    pub(in crate::alert) commands: Vec<String>,
    /// The message, as it would be stored: without what protects its dots.
    pub(in crate::alert) content: Vec<u8>,
}

/// A relay at work.
pub(in crate::alert) struct Peer {
    pub(in crate::alert) relay: Relay,
    work: JoinHandle<Heard>,
}

impl Script {
    pub(in crate::alert) fn polite(tls: RelayTls) -> Script {
        let mut offers = vec!["SIZE 1000000", "8BITMIME", "AUTH PLAIN LOGIN"];
        if tls == RelayTls::StartTls {
            offers.push("STARTTLS");
        }
        Script { tls, offers, acts: BTreeMap::new() }
    }

    pub(in crate::alert) fn plain() -> Script {
        Script::polite(RelayTls::None)
    }

    pub(in crate::alert) fn but(mut self, at: At, act: Act) -> Script {
        self.acts.insert(at, act);
        self
    }

    pub(in crate::alert) fn but_says(self, at: At, reply: &'static str) -> Script {
        self.but(at, Act::Say(reply.as_bytes()))
    }
}

impl Peer {
    pub(in crate::alert) async fn start(script: Script) -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let relay = Relay {
            name: "test".to_owned(),
            // Its certificate is for this name. It may lead to ::1 as well, where nobody listens.
            host: "localhost".to_owned(),
            port: listener.local_addr().unwrap().port(),
            tls: script.tls,
            helo: Helo::parse("sup.test").unwrap(),
            auth: None,
            ca: Some(Certificate::of_test().pem.clone()),
        };
        let work = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            // A second connection is refused.
            drop(listener);
            let mut talk = Talk { stream: None, script, heard: Heard::default() };
            // The end of a script is the end of the connection.
            let _ = talk.run(stream).await;
            talk.heard
        });
        Peer { relay, work }
    }

    /// What it heard, after the connection ended.
    pub(in crate::alert) async fn heard(self) -> Heard {
        self.work.await.unwrap()
    }
}

struct Talk {
    stream: Option<BufReader<Box<dyn Stream>>>,
    script: Script,
    heard: Heard,
}

/// The script or the client ended it.
struct End;

impl Talk {
    async fn run(&mut self, stream: TcpStream) -> Result<(), End> {
        self.stream = Some(BufReader::new(Box::new(stream)));
        if self.script.tls == RelayTls::Implicit {
            self.encrypt().await?;
        }
        self.answer(At::Banner, "220 test.relay ESMTP\r\n").await?;
        let mut ehlo = At::Ehlo;
        let mut recipients = 0;
        loop {
            let command = self.line().await?;
            let word = command.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            match word.as_str() {
                "EHLO" => {
                    let offers = self.script.offers.join("\r\n250-");
                    self.answer(ehlo, &format!("250-test.relay\r\n250-{offers}\r\n250 HELP\r\n")).await?;
                }
                "STARTTLS" => {
                    self.answer(At::StartTls, "220 go ahead\r\n").await?;
                    self.encrypt().await?;
                    ehlo = At::EhloInTls;
                }
                "AUTH" => self.log_in(&command).await?,
                "MAIL" => self.answer(At::Mail, "250 2.1.0 Ok\r\n").await?,
                "RCPT" => {
                    recipients += 1;
                    self.answer(At::Rcpt(recipients), "250 2.1.5 Ok\r\n").await?;
                }
                "DATA" => {
                    self.answer(At::Data, "354 End data with <CR><LF>.<CR><LF>\r\n").await?;
                    if matches!(self.script.acts.get(&At::Data), Some(Act::Say(reply)) if !reply.starts_with(b"354"))
                    {
                        continue;
                    }
                    self.message().await?;
                    self.answer(At::Dot, "250 2.0.0 Ok: queued as 4XyZ12345\r\n").await?;
                }
                "QUIT" => {
                    self.answer(At::Quit, "221 2.0.0 Bye\r\n").await?;
                    return Ok(());
                }
                _ => self.say(b"500 5.5.2 what?\r\n").await?,
            }
        }
    }

    async fn log_in(&mut self, command: &str) -> Result<(), End> {
        if command == "AUTH LOGIN" {
            // Username:, Password:
            self.say(b"334 VXNlcm5hbWU6\r\n").await?;
            self.line().await?;
            self.say(b"334 UGFzc3dvcmQ6\r\n").await?;
            self.line().await?;
        }
        self.answer(At::Auth, "235 2.7.0 Authentication successful\r\n").await
    }

    async fn message(&mut self) -> Result<(), End> {
        loop {
            let mut line = Vec::new();
            let stream = self.stream.as_mut().ok_or(End)?;
            match stream.read_until(b'\n', &mut line).await {
                Ok(1..) if line == b".\r\n" => return Ok(()),
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(End),
            }
            self.heard.content.extend(line.strip_prefix(b".").unwrap_or(&line));
            match self.script.acts.get(&At::Middle) {
                None => {}
                Some(_) => self.answer(At::Middle, "").await?,
            }
        }
    }

    async fn encrypt(&mut self) -> Result<(), End> {
        self.answer(At::Handshake, "").await?;
        let bare = self.stream.take().ok_or(End)?.into_inner();
        let secured = Certificate::of_test().acceptor.accept(bare).await.map_err(|_| End)?;
        self.stream = Some(BufReader::new(Box::new(secured)));
        Ok(())
    }

    async fn answer(&mut self, at: At, polite: &str) -> Result<(), End> {
        match self.script.acts.get(&at).copied() {
            None => self.say(polite.as_bytes()).await,
            Some(Act::Say(bytes)) => self.say(bytes).await,
            Some(Act::Close) => Err(End),
            Some(Act::Silent) => {
                // Until the client gives up.
                let mut rest = Vec::new();
                let _ = self.stream.as_mut().ok_or(End)?.read_to_end(&mut rest).await;
                Err(End)
            }
        }
    }

    async fn say(&mut self, bytes: &[u8]) -> Result<(), End> {
        let stream = self.stream.as_mut().ok_or(End)?;
        stream.write_all(bytes).await.map_err(|_| End)?;
        stream.flush().await.map_err(|_| End)
    }

    async fn line(&mut self) -> Result<String, End> {
        let mut line = String::new();
        match self.stream.as_mut().ok_or(End)?.read_line(&mut line).await {
            Ok(1..) => {
                let line = line.trim_end().to_owned();
                self.heard.commands.push(line.clone());
                Ok(line)
            }
            Ok(0) | Err(_) => Err(End),
        }
    }
}

/// A certificate for `localhost`, made once for all tests.
struct Certificate {
    pem: Vec<u8>,
    acceptor: TlsAcceptor,
}

impl Certificate {
    fn of_test() -> &'static Certificate {
        static MADE: OnceLock<Certificate> = OnceLock::new();
        MADE.get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            make_certificate(directory.path());
            let read = |name| std::fs::read(directory.path().join(name)).unwrap();
            let pem = read("cert.pem");
            Certificate { acceptor: acceptor(&pem, &read("key.pem")), pem }
        })
    }
}

/// A certificate that nobody who trusts the test's own has reason to trust.
pub(in crate::alert) fn another_ca() -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    make_certificate(directory.path());
    std::fs::read(directory.path().join("cert.pem")).unwrap()
}

fn acceptor(certificate: &[u8], key: &[u8]) -> TlsAcceptor {
    use pki_types::pem::PemObject;
    let chain = vec![pki_types::CertificateDer::from_pem_slice(certificate).unwrap()];
    let key = pki_types::PrivateKeyDer::from_pem_slice(key).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

fn make_certificate(directory: &Path) {
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
