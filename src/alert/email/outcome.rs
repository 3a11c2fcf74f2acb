//! What became of one attempt.

use super::text;
use std::fmt;

/// The result of one attempt at one relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Every recipient of the envelope, in its order.
    pub recipients: Vec<Recipient>,
}

/// One recipient and what became of the message to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of the message to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The relay has it and answers for it from now on.
    Accepted {
        /// What it said.
        reply: Reply,
        /// The name under which the relay's log knows the message, where the reply tells it.
        queue_id: Option<String>,
    },
    /// Not now (4xx): the same relay may take it later, a greylisting one only then.
    Deferred {
        /// Where in the dialogue.
        stage: Stage,
        /// What it said.
        reply: Reply,
    },
    /// Never (5xx), to this recipient or with this content.
    Refused {
        /// Where in the dialogue: [`Stage::Rcpt`] is about the recipient, [`Stage::Content`] about the message.
        stage: Stage,
        /// What it said.
        reply: Reply,
    },
    /// The relay failed before it gave a verdict. That says nothing against message or recipient: another relay may take
    /// it at once. The message was not handed over.
    RelayFailed(RelayFault),
    /// The whole message went out and no verdict came back, so the relay may have it. Whoever sends it again sends the
    /// same bytes.
    Ambiguous {
        /// What came instead of a verdict.
        why: String,
    },
}

/// Why a relay could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayFault {
    /// How far we got.
    pub stage: Stage,
    /// What kind of fault.
    pub class: FaultClass,
    /// In words, one line, at most 500 bytes.
    pub why: String,
    /// What the relay said, where it said something.
    pub reply: Option<Reply>,
}

/// Kinds of relay faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultClass {
    /// Its name leads to no address.
    Unresolved,
    /// No connection.
    Unreachable,
    /// Connected, but it did not answer in time.
    Silent,
    /// It closed the connection.
    Lost,
    /// No trust in its certificate, or no common TLS.
    Tls,
    /// It answered with a code that means no.
    Declined,
    /// What it said is not SMTP, or not what it was asked.
    Protocol,
    /// It lacks what the settings ask for.
    Unsuitable,
}

/// How far a dialogue got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking up its name.
    Resolve,
    /// TCP.
    Connect,
    /// The TLS handshake.
    Tls,
    /// Its greeting, and the answer to EHLO.
    Greeting,
    /// The answer to STARTTLS.
    StartTls,
    /// Proving who we are.
    Auth,
    /// Naming the sender.
    Mail,
    /// Naming a recipient.
    Rcpt,
    /// Asking for leave to send the message.
    Data,
    /// The message itself, up to the verdict on it.
    Content,
}

/// What a relay said: its code, and its words as one bounded line. Passwords do not occur in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits; the first says yes (2), go on (3), not now (4) or no (5).
    pub code: u16,
    /// The words, at most 500 bytes of them.
    pub text: String,
}

/// What the first digit of a code means (RFC 5321, section 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sense {
    Yes,
    GoOn,
    NotNow,
    No,
}

/// How much of a fault is shown. Certificates and resolvers can have much to say.
const WHY_MAX: usize = 500;

/// "I am closing the connection", whatever it was asked (RFC 5321, section 3.8): about the relay, never about the message.
const CLOSING: u16 = 421;

impl Attempt {
    /// The relay's fault, if it had one: then it deserves a pause, whatever became of the message.
    pub fn relay_fault(&self) -> Option<&RelayFault> {
        self.recipients.iter().find_map(|recipient| match &recipient.outcome {
            Outcome::RelayFailed(fault) => Some(fault),
            Outcome::Accepted { .. }
            | Outcome::Deferred { .. }
            | Outcome::Refused { .. }
            | Outcome::Ambiguous { .. } => None,
        })
    }
}

impl Outcome {
    /// The verdict that a reply gives. "Go on" is none, and does not get here.
    pub(super) fn judged(stage: Stage, reply: Reply) -> Outcome {
        match reply.sense() {
            Sense::Yes => Outcome::Accepted { queue_id: queue_id(&reply.text), reply },
            Sense::GoOn | Sense::NotNow => Outcome::Deferred { stage, reply },
            Sense::No => Outcome::Refused { stage, reply },
        }
    }
}

impl RelayFault {
    pub(super) fn new(stage: Stage, class: FaultClass, why: &str) -> RelayFault {
        RelayFault { stage, class, why: text::line(why, WHY_MAX), reply: None }
    }

    pub(super) fn declined(stage: Stage, reply: Reply) -> RelayFault {
        RelayFault { stage, class: FaultClass::Declined, why: reply.to_string(), reply: Some(reply) }
    }
}

impl Reply {
    pub(super) fn sense(&self) -> Sense {
        match self.code {
            ..300 => Sense::Yes,
            300..400 => Sense::GoOn,
            400..500 => Sense::NotNow,
            500.. => Sense::No,
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.code == CLOSING
    }
}

/// Under which name the relay's log knows the message, as Postfix ("Ok: queued as X"), Exim ("OK id=X"), and sendmail and
/// OpenSMTPD ("2.0.0 X Message accepted for delivery") say it.
fn queue_id(text: &str) -> Option<String> {
    let words: Vec<&str> = text.trim_end_matches('.').split_whitespace().collect();
    let after = |mark: &[&str]| {
        let at = words.windows(mark.len()).position(|some| some == mark)?;
        words.get(at + mark.len()).copied()
    };
    let before = |mark: &[&str]| {
        let at = words.windows(mark.len()).position(|some| some == mark)?;
        at.checked_sub(1).and_then(|at| words.get(at)).copied()
    };
    let found = after(&["queued", "as"])
        .or_else(|| words.iter().find_map(|word| word.strip_prefix("id=")))
        .or_else(|| before(&["Message", "accepted", "for", "delivery"]))?;
    Some(found.to_owned())
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text.as_str() {
            "" => write!(f, "{}", self.code),
            text => write!(f, "{} {text}", self.code),
        }
    }
}

impl fmt::Display for RelayFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.stage, self.why)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Resolve => "resolve",
            Stage::Connect => "connect",
            Stage::Tls => "tls",
            Stage::Greeting => "greeting",
            Stage::StartTls => "starttls",
            Stage::Auth => "auth",
            Stage::Mail => "mail",
            Stage::Rcpt => "rcpt",
            Stage::Data => "data",
            Stage::Content => "content",
        })
    }
}

impl fmt::Display for FaultClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultClass::Unresolved => "unresolved",
            FaultClass::Unreachable => "unreachable",
            FaultClass::Silent => "silent",
            FaultClass::Lost => "lost",
            FaultClass::Tls => "tls",
            FaultClass::Declined => "declined",
            FaultClass::Protocol => "protocol",
            FaultClass::Unsuitable => "unsuitable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_id_is_found_where_relays_put_it() {
        for (text, id) in [
            ("2.0.0 Ok: queued as 4XyZ12345", Some("4XyZ12345")),
            ("OK id=1tFabc-0001xY-2Z", Some("1tFabc-0001xY-2Z")),
            ("2.0.0 4AQ3BXyz012345 Message accepted for delivery", Some("4AQ3BXyz012345")),
            ("2.0.0 4a5b6c7d Message accepted for delivery.", Some("4a5b6c7d")),
            ("queued as", None),
            ("Message accepted for delivery", None),
            ("2.0.0 OK  1700000000 abc.1 - gsmtp", None),
            ("", None),
        ] {
            assert_eq!(queue_id(text).as_deref(), id, "{text}");
        }
    }
}
