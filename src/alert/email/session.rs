//! The dialogue with a relay: one method per stage, each with its deadline.

use super::connect::{connect, secure};
use super::deliver::Deadlines;
use super::envelope::Envelope;
use super::outcome::{FaultClass, RelayFault, Reply, Sense, Stage};
use super::relay::{Login, Relay, RelayTls};
use super::wire::{Stream, Wire};
use crate::chain::chain;
use lettre::Address;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Auth, Data, Ehlo, Mail, Quit, Rcpt, Starttls};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter, ServerInfo};
use lettre::transport::smtp::response::Response;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, error::Elapsed, timeout};

/// How many questions a relay may ask before it knows us: LOGIN asks two.
const CHALLENGES_MAX: usize = 4;

/// An open connection to a relay that knows us.
pub(super) struct Session<'a> {
    deadlines: &'a Deadlines,
    wire: Wire,
    connection: AsyncSmtpConnection,
    offers: ServerInfo,
    /// A question was left without a proper answer: nothing more can be asked.
    broken: bool,
}

/// What became of a message that was sent.
pub(super) enum Handover {
    /// The relay's verdict.
    Judged(Reply),
    /// None came.
    Unknown {
        /// What came instead.
        why: String,
    },
}

impl<'a> Session<'a> {
    /// Connects, encrypts and introduces us, as far as the relay's settings ask for it.
    pub(super) async fn open(relay: &Relay, deadlines: &'a Deadlines) -> Result<Session<'a>, RelayFault> {
        let began = Instant::now();
        let (stream, peer) = connect(relay, deadlines.opening).await?;
        let left = deadlines.opening.saturating_sub(began.elapsed());
        let stream: Box<dyn Stream> = match relay.tls {
            RelayTls::Implicit => secure(relay, Box::new(stream), deadlines.tls).await?,
            RelayTls::StartTls | RelayTls::None => Box::new(stream),
        };
        let wire = Wire::new(stream, peer, relay.auth.as_ref().map(spoken).unwrap_or_default());
        let hello = ClientId::Domain(relay.helo.as_str().to_owned());
        let mut session = Session::greet(wire, deadlines, left, &hello).await?;
        match session.introduce(relay, hello, peer).await {
            Ok(()) => Ok(session),
            Err(fault) => {
                session.quit().await;
                Err(fault)
            }
        }
    }

    async fn introduce(
        &mut self,
        relay: &Relay,
        hello: ClientId,
        peer: SocketAddr,
    ) -> Result<(), RelayFault> {
        if relay.tls == RelayTls::StartTls {
            self.start_tls(relay, hello).await?;
        }
        match &relay.auth {
            Some(login) => self.log_in(login, may_say_password(relay.tls, peer)).await,
            None => Ok(()),
        }
    }

    async fn greet(
        wire: Wire,
        deadlines: &'a Deadlines,
        within: Duration,
        hello: &ClientId,
    ) -> Result<Session<'a>, RelayFault> {
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(wire.clone()), hello);
        match timeout(within, greeting).await {
            Ok(Ok(connection)) => {
                wire.greeted();
                let offers = connection.server_info().clone();
                Ok(Session { deadlines, wire, connection, offers, broken: false })
            }
            said => match (wire.take_reply(), wire.breach()) {
                (Some(reply), None) if !matches!(reply.sense(), Sense::Yes) => {
                    Err(RelayFault::declined(Stage::Greeting, reply))
                }
                (_, breach) => {
                    Err(unanswered(Stage::Greeting, deadlines.opening, breach, said.map(Result::err)))
                }
            },
        }
    }

    async fn start_tls(&mut self, relay: &Relay, hello: ClientId) -> Result<(), RelayFault> {
        if !self.offers.supports_feature(Extension::StartTls) {
            let why = "it offers no STARTTLS, and nothing is said to it in plain text";
            return Err(RelayFault::new(Stage::StartTls, FaultClass::Unsuitable, why));
        }
        self.positive(Stage::StartTls, Starttls).await?;
        let Some(bare) = self.wire.take_bare() else {
            let why =
                "plain text came with its answer to STARTTLS; somebody on the path may have put it there";
            return Err(RelayFault::new(Stage::StartTls, FaultClass::Protocol, why));
        };
        self.wire.put_encrypted(secure(relay, bare, self.deadlines.tls).await?);
        // What was offered in plain text may have been put there by somebody else (RFC 3207, section 4.2).
        let within = self.deadlines.command;
        let said = timeout(within, self.connection.command(Ehlo::new(hello))).await;
        let offers = match &said {
            Ok(Ok(response)) => ServerInfo::from_response(response).ok(),
            Ok(Err(_)) | Err(_) => None,
        };
        let reply = self.answered(Stage::Greeting, within, said)?;
        match (reply.sense(), offers) {
            (Sense::Yes, Some(offers)) => self.offers = offers,
            (Sense::Yes | Sense::GoOn, _) => return Err(self.unexpected(Stage::Greeting, &reply)),
            (Sense::NotNow | Sense::No, _) => return Err(RelayFault::declined(Stage::Greeting, reply)),
        }
        Ok(())
    }

    /// Whatever goes wrong here is the relay's fault or that of its settings, a 535 included: the message has nothing to do
    /// with it.
    async fn log_in(&mut self, login: &Login, may_say_password: bool) -> Result<(), RelayFault> {
        let unsuitable = |why| Err(RelayFault::new(Stage::Auth, FaultClass::Unsuitable, why));
        if !may_say_password {
            return unsuitable(
                "a password is not said in plain text to another machine; encrypt the connection",
            );
        }
        let Some(mechanism) = self.offers.get_auth_mechanism(&[Mechanism::Plain, Mechanism::Login]) else {
            return unsuitable("it offers neither AUTH PLAIN nor AUTH LOGIN");
        };
        let credentials = credentials(login);
        let connection = &mut self.connection;
        let questions = async {
            let mut said = connection.command(Auth::new(mechanism, credentials.clone(), None)?).await?;
            for _ in 0..CHALLENGES_MAX {
                if !said.has_code(334) {
                    break;
                }
                let answer = Auth::new_from_response(mechanism, credentials.clone(), &said)?;
                said = connection.command(answer).await?;
            }
            Ok(said)
        };
        let within = self.deadlines.command;
        let said = timeout(within, questions).await;
        let reply = self.answered(Stage::Auth, within, said)?;
        self.must_be_yes(Stage::Auth, reply)
    }

    /// Names the sender.
    pub(super) async fn mail(&mut self, envelope: &Envelope, eight_bit: bool) -> Result<(), RelayFault> {
        let mut parameters = Vec::new();
        if eight_bit {
            if !self.offers.supports_feature(Extension::EightBitMime) {
                let why = "the message has bytes above 127 and it takes none (no 8BITMIME)";
                return Err(RelayFault::new(Stage::Mail, FaultClass::Unsuitable, why));
            }
            parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
        }
        self.positive(Stage::Mail, Mail::new(Some(envelope.sender().clone()), parameters)).await
    }

    /// Names a recipient. `Err` holds a verdict on it that is not positive.
    pub(super) async fn rcpt(&mut self, recipient: &Address) -> Result<Result<(), Reply>, RelayFault> {
        let reply = self.command(Stage::Rcpt, Rcpt::new(recipient.clone(), Vec::new())).await?;
        match reply.sense() {
            Sense::Yes => Ok(Ok(())),
            Sense::GoOn => Err(self.unexpected(Stage::Rcpt, &reply)),
            Sense::NotNow | Sense::No => Ok(Err(reply)),
        }
    }

    /// Asks for leave to send the message. `Err` holds a "not now". A "no" is the relay's fault: it has not seen the message.
    pub(super) async fn data(&mut self) -> Result<Result<(), Reply>, RelayFault> {
        let reply = self.command(Stage::Data, Data).await?;
        match reply.sense() {
            Sense::GoOn => Ok(Ok(())),
            Sense::Yes => Err(self.unexpected(Stage::Data, &reply)),
            Sense::NotNow => Ok(Err(reply)),
            Sense::No => Err(RelayFault::declined(Stage::Data, reply)),
        }
    }

    /// Sends the message and waits for the verdict. The relay is at fault, and the message is not handed over, only when
    /// the connection ended before the final dot was out, or when the relay says 421.
    pub(super) async fn content(&mut self, bytes: &[u8]) -> Result<Handover, RelayFault> {
        let within = self.deadlines.content;
        // lettre ends the message with CRLF, dot, CRLF; the CRLF of its last line is the first of them.
        let bytes = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
        let said = timeout(within, self.connection.message(bytes)).await;
        let sent = self.wire.dot_sent();
        match self.answered(Stage::Content, within, said) {
            Ok(reply) => match reply.sense() {
                Sense::Yes | Sense::NotNow | Sense::No => Ok(Handover::Judged(reply)),
                Sense::GoOn => Ok(Handover::Unknown { why: self.unexpected(Stage::Content, &reply).why }),
            },
            Err(fault) if sent && fault.reply.is_none() => Ok(Handover::Unknown { why: fault.why }),
            Err(fault) => Err(fault),
        }
    }

    /// Takes leave, where that can be understood. What the relay says to it changes nothing.
    pub(super) async fn quit(mut self) {
        if !self.broken {
            let _ = timeout(self.deadlines.quit, self.connection.command(Quit)).await;
        }
    }

    async fn positive(&mut self, stage: Stage, command: impl Display) -> Result<(), RelayFault> {
        let reply = self.command(stage, command).await?;
        self.must_be_yes(stage, reply)
    }

    fn must_be_yes(&mut self, stage: Stage, reply: Reply) -> Result<(), RelayFault> {
        match reply.sense() {
            Sense::Yes => Ok(()),
            Sense::GoOn => Err(self.unexpected(stage, &reply)),
            Sense::NotNow | Sense::No => Err(RelayFault::declined(stage, reply)),
        }
    }

    /// Says `command` and waits for the reply. Cut off in the middle, the session is broken and asks nothing more.
    async fn command(&mut self, stage: Stage, command: impl Display) -> Result<Reply, RelayFault> {
        let within = self.deadlines.command;
        let said = timeout(within, self.connection.command(command)).await;
        self.answered(stage, within, said)
    }

    /// The reply that counts: the one on the wire, whatever lettre made of it.
    fn answered(
        &mut self,
        stage: Stage,
        within: Duration,
        said: Result<Result<Response, SmtpError>, Elapsed>,
    ) -> Result<Reply, RelayFault> {
        match (self.wire.take_reply(), self.wire.breach()) {
            (Some(reply), None) if reply.is_closing() => Err(RelayFault::declined(stage, reply)),
            (Some(reply), None) => Ok(reply),
            (_, breach) => {
                self.broken = true;
                Err(unanswered(stage, within, breach, said.map(Result::err)))
            }
        }
    }

    fn unexpected(&mut self, stage: Stage, reply: &Reply) -> RelayFault {
        self.broken = true;
        let why = format!("it answered what it was not asked: {reply}");
        RelayFault::new(stage, FaultClass::Protocol, &why)
    }
}

/// There is no reply: why not.
fn unanswered(
    stage: Stage,
    within: Duration,
    breach: Option<String>,
    said: Result<Option<SmtpError>, Elapsed>,
) -> RelayFault {
    match (breach, said) {
        (Some(breach), _) => RelayFault::new(stage, FaultClass::Protocol, &breach),
        (None, Err(_)) => RelayFault::new(stage, FaultClass::Silent, &format!("no answer within {within:?}")),
        (None, Ok(Some(error))) if error.is_client() => {
            RelayFault::new(stage, FaultClass::Protocol, &chain(&error))
        }
        (None, Ok(Some(error))) => {
            let why = format!("the connection ended: {}", chain(&error));
            RelayFault::new(stage, FaultClass::Lost, &why)
        }
        (None, Ok(None)) => RelayFault::new(stage, FaultClass::Protocol, "its answer could not be read"),
    }
}

fn credentials(login: &Login) -> Credentials {
    Credentials::new(login.user.clone(), login.password.expose().to_owned())
}

/// The password in every form in which we say it. Replies are searched for them.
fn spoken(login: &Login) -> Vec<String> {
    let said = [
        Auth::new(Mechanism::Plain, credentials(login), None),
        Auth::new(Mechanism::Login, credentials(login), Some("Password:".to_owned())),
    ];
    let encoded = said.into_iter().filter_map(Result::ok).map(|auth| {
        let command = auth.to_string();
        command.trim_end().trim_start_matches("AUTH PLAIN ").to_owned()
    });
    let bare = login.password.expose().to_owned();
    encoded.chain([bare]).filter(|secret| !secret.is_empty()).collect()
}

/// In plain text a password is said to this machine only, where nobody listens on the path.
fn may_say_password(tls: RelayTls, peer: SocketAddr) -> bool {
    match tls {
        RelayTls::Implicit | RelayTls::StartTls => true,
        RelayTls::None => peer.ip().to_canonical().is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_password_in_plain_text_stays_on_this_machine() {
        for (tls, peer, may) in [
            (RelayTls::Implicit, "192.0.2.1:465", true),
            (RelayTls::StartTls, "192.0.2.1:587", true),
            (RelayTls::None, "192.0.2.1:25", false),
            (RelayTls::None, "10.0.0.1:25", false),
            (RelayTls::None, "127.0.0.1:25", true),
            (RelayTls::None, "[::1]:25", true),
            (RelayTls::None, "[::ffff:127.0.0.1]:25", true),
            (RelayTls::None, "[::ffff:192.0.2.1]:25", false),
        ] {
            assert_eq!(may_say_password(tls, peer.parse().unwrap()), may, "{tls:?} {peer}");
        }
    }

    #[test]
    fn every_form_of_a_password_is_known() {
        let login = Login { user: "sup".to_owned(), password: Secret::new("s3cret".to_owned()) };
        // printf '\0sup\0s3cret' | base64; printf s3cret | base64
        assert_eq!(spoken(&login), ["AHN1cABzM2NyZXQ=", "czNjcmV0", "s3cret"]);
        let empty = Login { user: String::new(), password: Secret::new(String::new()) };
        assert_eq!(spoken(&empty), ["AAA="], "an empty one would be found in every reply");
    }
}
