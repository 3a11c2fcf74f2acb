//! One attempt to hand a message to one relay.

use super::envelope::Envelope;
use super::outcome::{Attempt, Outcome, Recipient, RelayFault, Stage};
use super::relay::Relay;
use super::session::{Handover, Session};
use std::borrow::Cow;
use std::time::Duration;

/// How long each stage of an attempt may take. The times of RFC 5321, section 4.5.3.2 (five to ten minutes) are for mail
/// that has hours; ours has a next relay to go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// Name, TCP, banner and EHLO together. Longer than the first retries of a resolver (5 s) and of TCP (1, 3 and 7 s), and
    /// long enough for a relay that delays its banner to tell spammers apart.
    pub opening: Duration,
    /// The TLS handshake: two round trips and a signature.
    pub tls: Duration,
    /// One command: AUTH, MAIL, each RCPT, DATA. A relay may look up a name in DNS or a user in a directory before it
    /// answers, and each of those takes some seconds to fail.
    pub command: Duration,
    /// The message, up to the verdict on it. Filters read it meanwhile. Whoever gives up here may send a second mail, so
    /// this is the longest.
    pub content: Duration,
    /// The answer to QUIT. The message is handed over by then and the answer changes nothing.
    pub quit: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            opening: Duration::from_secs(20),
            tls: Duration::from_secs(10),
            command: Duration::from_secs(15),
            content: Duration::from_secs(120),
            quit: Duration::from_secs(2),
        }
    }
}

/// Tries once to hand `message`, a complete one (RFC 5322), to `relay`, over a connection of its own.
///
/// It never fails as a whole: whatever happens is the outcome of one recipient or another. Dropped in the middle, it
/// leaves no connection behind, but the relay may have the message by then: whoever drops it counts every recipient as
/// ambiguous.
pub async fn deliver(relay: &Relay, envelope: &Envelope, message: &[u8], deadlines: &Deadlines) -> Attempt {
    let mut outcomes = vec![None; envelope.recipients().len()];
    let shared = match Session::open(relay, deadlines).await {
        Ok(mut session) => {
            let shared = hand_over(&mut session, envelope, message, &mut outcomes).await;
            session.quit().await;
            shared
        }
        Err(fault) => Err(fault),
    };
    let shared = shared.unwrap_or_else(Outcome::RelayFailed);
    let recipients = envelope.recipients().zip(outcomes).map(|(address, outcome)| Recipient {
        address: address.to_owned(),
        outcome: outcome.unwrap_or_else(|| shared.clone()),
    });
    Attempt { recipients: recipients.collect() }
}

/// Goes as far as a message would be handed over, and hands none over: name, connection, encryption, login, good-bye.
///
/// # Errors
///
/// What keeps mail from this relay.
pub async fn reach(relay: &Relay, deadlines: &Deadlines) -> Result<(), RelayFault> {
    Session::open(relay, deadlines).await?.quit().await;
    Ok(())
}

/// The transaction. What became of it for all who have no outcome of their own in `outcomes`.
async fn hand_over(
    session: &mut Session<'_>,
    envelope: &Envelope,
    message: &[u8],
    outcomes: &mut [Option<Outcome>],
) -> Result<Outcome, RelayFault> {
    let message = with_crlf(message);
    session.mail(envelope, !message.is_ascii()).await?;
    let mut last_verdict = None;
    for (recipient, outcome) in envelope.addresses().iter().zip(outcomes.iter_mut()) {
        if let Err(reply) = session.rcpt(recipient).await? {
            *outcome = Some(Outcome::judged(Stage::Rcpt, reply));
            last_verdict.clone_from(outcome);
        }
    }
    match last_verdict {
        // Nobody is left to send it for.
        Some(verdict) if outcomes.iter().all(Option::is_some) => return Ok(verdict),
        Some(_) | None => {}
    }
    if let Err(reply) = session.data().await? {
        return Ok(Outcome::judged(Stage::Data, reply));
    }
    Ok(match session.content(&message).await? {
        Handover::Judged(reply) => Outcome::judged(Stage::Content, reply),
        Handover::Unknown { why } => Outcome::Ambiguous { why },
    })
}

/// The message with CRLF at the end of every line. A bare CR or LF is in no message of ours; should one get in, some relays
/// would take it for a line end, and what follows for commands (CVE-2023-51764).
fn with_crlf(message: &[u8]) -> Cow<'_, [u8]> {
    let bare = |at: usize| match message[at] {
        b'\n' => at.checked_sub(1).is_none_or(|before| message[before] != b'\r'),
        b'\r' => message.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    if !(0..message.len()).any(bare) {
        return Cow::Borrowed(message);
    }
    let mut lines = Vec::with_capacity(message.len() + message.len() / 32);
    for (at, byte) in message.iter().enumerate() {
        if bare(at) {
            lines.extend_from_slice(b"\r\n");
        } else {
            lines.push(*byte);
        }
    }
    Cow::Owned(lines)
}

#[cfg(test)]
pub(in crate::alert) mod peer;
#[cfg(test)]
mod tests;
