//! From a letter to the complete message (RFC 5322).
//!
//! Subject and order are Alertmanager's, so that a reader and a filter find what they know; above it stands why the
//! message came without Alertmanager. Text and HTML say the same. The bytes depend on the letter and the stamp alone.
//!
//! Names, summaries and labels are foreign text. Control characters never get further than [`text`], tera
//! escapes everything in the HTML, header names are constants, and the body is quoted-printable: ASCII, in lines of at
//! most 76 bytes, whatever was put in.

mod id;
mod layout;
mod subject;

pub use id::{MessageId, MessageIdError};
pub use subject::subject;

use super::text;
use layout::{Bounds, Layout};
use lettre::address::AddressError;
use lettre::message::header::{
    ContentTransferEncoding, ContentType, From, HeaderName, HeaderValue, Headers, To,
};
use lettre::message::{Body, Mailbox, Mailboxes, MultiPart, SinglePart};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use tera::{Context, Tera};

/// How many alerts are written out. Nobody reads the fifty-first; it is counted.
const ITEMS_MAX: usize = 50;

/// How many lines of one kind an alert has: a log's tail, not a log.
const LINES_MAX: usize = 30;

/// How long a message may be. Relays take ten times as much; telephones on a bad day do not.
const MESSAGE_MAX: usize = 256 * 1024;

/// How long a value in a header of ours may be: one screen line or two.
const HEADER_MAX: usize = 200;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Who writes: `alerts@example.org`, or `Supervisor <alerts@example.org>`.
    pub from: String,
    /// Whom the header names as its readers, in the same form. Who gets it stands in the envelope.
    pub to: Vec<String>,
    /// The alerts, at least one.
    pub items: Vec<Item>,
    /// The labels that all alerts of this letter were put together by, as in Alertmanager's `group_by`.
    pub group_by: Vec<String>,
    /// Why it did not go through Alertmanager.
    pub why_direct: String,
    /// The same may have been told before: by Alertmanager, or by an earlier sending whose fate is not known.
    pub may_duplicate: bool,
    /// The machine that writes.
    pub host: String,
    /// The version of the program that writes.
    pub version: String,
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What is wrong, as a name.
    pub alertname: String,
    /// How bad it is: `critical`, `warning`, `info`.
    pub severity: String,
    /// The other labels.
    pub labels: Vec<(String, String)>,
    /// What is wrong, in one sentence.
    pub summary: String,
    /// More of it: causes, the end of a log.
    pub description: Vec<String>,
    /// What supervisor has done about it.
    pub did: Vec<String>,
    /// What supervisor will do about it.
    pub will: Vec<String>,
    /// Since when (RFC 3339).
    pub started: String,
    /// Until when (RFC 3339); none while it fires.
    pub ended: Option<String>,
    /// For how long, in words.
    pub duration: String,
    /// The name under which Alertmanager would know it.
    pub fingerprint: String,
    /// Where it is written what to do.
    pub runbook_url: Option<String>,
}

/// What makes one sending of a letter different from every other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// When it was written.
    pub date: jiff::Timestamp,
    /// Its name. Written once and kept: the same letter sent again has the same.
    pub message_id: MessageId,
    /// The name of the incident, which firing and resolved refer to, so that they are shown together.
    pub thread: Option<MessageId>,
}

/// What a letter says of its alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// At least one fires.
    Firing,
    /// All are over.
    Resolved,
}

/// Why no message could be made.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// Nothing to tell.
    #[error("the letter has no alert in it")]
    NoItem,
    /// Nobody to tell.
    #[error("the letter is addressed to nobody")]
    NoReader,
    /// Not an address.
    #[error("{0:?} is not a mail address; one looks like ops@example.org or Ops <ops@example.org>")]
    Address(String, #[source] AddressError),
    /// A date before our era.
    #[error("{0} cannot stand in a Date header")]
    Date(jiff::Timestamp, #[source] jiff::Error),
    /// A template of ours is wrong.
    #[error("the mail could not be rendered")]
    Render(#[source] tera::Error),
    /// A template of ours could not be read.
    #[error("the templates of the mail are wrong: {0}")]
    Templates(String),
}

/// The compiled templates. Tera escapes everything in those named `*.html`.
static TEMPLATES: LazyLock<Result<Tera, String>> = LazyLock::new(|| {
    let mut tera = Tera::default();
    tera.add_raw_templates([
        ("mail.txt", include_str!("../../../templates/mail.txt.tera")),
        ("mail.html", include_str!("../../../templates/mail.html.tera")),
    ])
    .map(|()| tera)
    .map_err(|why| crate::chain::chain(&why))
});

impl Letter {
    /// Firing as long as one alert of it fires, as Alertmanager says it.
    pub fn status(&self) -> Status {
        if self.items.iter().any(|item| item.ended.is_none()) { Status::Firing } else { Status::Resolved }
    }
}

/// The complete message, as it goes over the wire and into the outbox. At most fifty alerts are written out, the worst
/// first, and fewer where they would not fit into 256 KiB; the others are counted.
///
/// # Errors
///
/// When the letter has no alert, or an address in it is none.
pub fn compose(letter: &Letter, stamp: &Stamp) -> Result<Vec<u8>, ComposeError> {
    if letter.items.is_empty() {
        return Err(ComposeError::NoItem);
    }
    let headers = headers(letter, stamp)?.to_string();
    let mut bounds = Bounds { items: letter.items.len().min(ITEMS_MAX), lines: LINES_MAX };
    loop {
        let mut message = headers.clone().into_bytes();
        message.extend(body(&Layout::of(letter, bounds), &stamp.message_id)?.formatted());
        if message.len() <= MESSAGE_MAX {
            return Ok(message);
        }
        match bounds.tighter(message.len(), MESSAGE_MAX) {
            Some(tighter) => bounds = tighter,
            None => return Ok(message),
        }
    }
}

fn headers(letter: &Letter, stamp: &Stamp) -> Result<Headers, ComposeError> {
    let readers = letter.to.iter().map(|to| mailbox(to)).collect::<Result<Mailboxes, _>>()?;
    if readers.iter().next().is_none() {
        return Err(ComposeError::NoReader);
    }
    let date = jiff::fmt::rfc2822::to_string(&stamp.date.to_zoned(jiff::tz::TimeZone::UTC))
        .map_err(|why| ComposeError::Date(stamp.date, why))?;
    let mut headers = Headers::new();
    headers.set(From::from(Mailboxes::from(mailbox(&letter.from)?)));
    headers.set(To::from(readers));
    let mut set = |name, value: &str| {
        headers.insert_raw(HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned()));
    };
    set("Subject", &subject(letter));
    set("Date", &date);
    set("Message-ID", stamp.message_id.as_str());
    if let Some(thread) = &stamp.thread {
        set("In-Reply-To", thread.as_str());
        set("References", thread.as_str());
    }
    // No answer from a holiday: RFC 3834, section 5, and what Exchange understands instead.
    set("Auto-Submitted", "auto-generated");
    set("X-Auto-Response-Suppress", "All");
    let all = |of: fn(&Item) -> &str| {
        let distinct: BTreeSet<&str> =
            letter.items.iter().map(of).filter(|value| !value.is_empty()).collect();
        text::header(&distinct.into_iter().collect::<Vec<_>>().join(", "), HEADER_MAX)
    };
    set("X-Supervisor-Alertname", &all(|item| &item.alertname));
    set("X-Supervisor-Severity", &all(|item| &item.severity));
    set("X-Supervisor-Status", letter.status().as_str());
    set("X-Supervisor-Fingerprint", &all(|item| &item.fingerprint));
    set("X-Supervisor-Reason", &text::header(&letter.why_direct, HEADER_MAX));
    set("MIME-Version", "1.0");
    Ok(headers)
}

fn mailbox(text: &str) -> Result<Mailbox, ComposeError> {
    // A display name with a control character makes lettre panic when it writes the header.
    let clean = text::header(text, usize::MAX);
    match clean.parse::<Mailbox>() {
        // As in the envelope: few relays have the extension that other addresses need (RFC 6531).
        Ok(mailbox) if !AsRef::<str>::as_ref(&mailbox.email).is_ascii() => {
            Err(ComposeError::Address(clean, AddressError::InvalidInput))
        }
        Ok(mailbox) => Ok(mailbox),
        Err(why) => Err(ComposeError::Address(clean, why)),
    }
}

fn body(layout: &Layout, id: &MessageId) -> Result<MultiPart, ComposeError> {
    let tera = TEMPLATES.as_ref().map_err(|why| ComposeError::Templates(why.clone()))?;
    let mut context = Context::new();
    context.insert("letter", layout);
    let part = |template, content_type| {
        let words = tera.render(template, &context).map_err(ComposeError::Render)?;
        Ok(SinglePart::builder().header(content_type).body(quoted_printable(words)))
    };
    Ok(MultiPart::alternative()
        .boundary(id.boundary())
        .singlepart(part("mail.txt", ContentType::TEXT_PLAIN)?)
        .singlepart(part("mail.html", ContentType::TEXT_HTML)?))
}

fn quoted_printable(words: String) -> Body {
    // Any text can be written so; the fallback lets lettre choose an encoding.
    Body::new_with_encoding(words, ContentTransferEncoding::QuotedPrintable).unwrap_or_else(Body::new)
}

impl Status {
    /// The word for it, as Alertmanager writes it in its API.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Firing => "firing",
            Status::Resolved => "resolved",
        }
    }
}

#[cfg(test)]
mod tests;
