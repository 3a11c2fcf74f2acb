//! What Alertmanagers and the sender of mails say: `alertmanager NAME …`, `mail …`.

use super::happening::Happening;
use super::words::{Words, Wrong, one_of, pair};
use crate::domain::delivery::Word;
use crate::domain::event::MailEnd;
use crate::domain::time::Span;

/// One round with an Alertmanager.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Round {
    /// It has what it was told of, but for these.
    Answers(Vec<(About, Word)>),
    /// It does not take part, for this reason.
    Fails(String),
    /// It answers, and from now on it has this silence.
    Silences { labels: Vec<(String, String)>, lasts: Span },
}

/// Which alerts a word is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    All,
    /// Those of this name, and of this service, site or other thing.
    Named {
        alert: String,
        of: Vec<String>,
    },
}

/// What follows `alertmanager NAME`.
pub(super) fn round(words: &mut Words<'_>) -> Result<Round, Wrong> {
    Ok(match words.next("what it does")? {
        "answers" => {
            let mut given = Vec::new();
            for (about, word) in words.pairs()? {
                given.push((alerts(about)?, said(word)?));
            }
            Round::Answers(given)
        }
        "fails" => Round::Fails(words.some_text("why")?),
        "silences" => {
            let mut labels = Vec::new();
            while let Some(word) = words.peek().filter(|word| *word != "for") {
                words.next("a label")?;
                let (label, value) = pair(word)?;
                labels.push((label.to_owned(), value.to_owned()));
            }
            if labels.is_empty() {
                return Err(Wrong::missing("a label, such as service=api,"));
            }
            let lasts = words.lasts()?.ok_or_else(|| Wrong::missing("`for TIME`"))?;
            Round::Silences { labels, lasts }
        }
        word => {
            return Err(Wrong::new(word, "known here: answers, fails WORDS, silences LABEL=VALUE for TIME"));
        }
    })
}

/// `PoolDown`, `PoolDown/api/onprem`, `all`.
fn alerts(word: &str) -> Result<About, Wrong> {
    const NAMES: [&str; 12] = [
        "ServiceDown",
        "PoolDown",
        "ContainerDown",
        "ProxyLost",
        "RouteLags",
        "RouteContested",
        "ConfigRefused",
        "EngineLost",
        "StoreDegraded",
        "CutOff",
        "OwnResources",
        "SupervisorTest",
    ];
    let mut parts = word.split('/').map(str::to_owned);
    let alert = parts.next().unwrap_or_default();
    match alert.as_str() {
        "all" => Ok(About::All),
        name if NAMES.contains(&name) => Ok(About::Named { alert, of: parts.collect() }),
        _ => Err(Wrong::new(word, format!("no alert has this name; known: all, {}", NAMES.join(", ")))),
    }
}

fn said(word: &str) -> Result<Word, Wrong> {
    if word == "rejected" {
        return Ok(Word::Rejected("bad label".to_owned()));
    }
    #[derive(Clone, Copy)]
    enum Plain {
        Active,
        Suppressed,
        Absent,
        Resolved,
    }
    let known = [
        ("active", Plain::Active),
        ("suppressed", Plain::Suppressed),
        ("absent", Plain::Absent),
        ("resolved", Plain::Resolved),
    ];
    Ok(match one_of(word, &known).map_err(|wrong| Wrong::new(word, format!("{}, rejected", wrong.why)))? {
        Plain::Active => Word::Active,
        Plain::Suppressed => Word::Suppressed,
        Plain::Absent => Word::Absent,
        Plain::Resolved => Word::Resolved,
    })
}

/// What follows `mail`.
pub(super) fn mail(words: &mut Words<'_>) -> Result<Happening, Wrong> {
    let digits = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    let number = match words.peek() {
        Some(word) if digits(word) => Some(words.number("the mail's number", 0..=u64::MAX)?),
        Some(_) | None => None,
    };
    let end = match words.next("what became of it")? {
        "accepted" => {
            let recipients = match words.is_empty() {
                true => 1,
                false => words.number("for how many", 1..=1000)?,
            };
            MailEnd::Accepted { recipients }
        }
        "deferred" => MailEnd::Deferred { words: words.some_text("why")? },
        "dead" => MailEnd::Dead { words: words.some_text("why")?, reached: false },
        "partly" => {
            words.expect("dead")?;
            MailEnd::Dead { words: words.some_text("why")?, reached: true }
        }
        "unneeded" => MailEnd::NotNeeded,
        word => {
            let known = "accepted [N], deferred WORDS, dead WORDS, partly dead WORDS, unneeded";
            return Err(Wrong::new(word, format!("known here: {known}")));
        }
    };
    Ok(Happening::Mail { number, end })
}
