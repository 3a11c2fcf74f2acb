//! How a peer can fail, and the words for it.

use crate::chain::chain;
use crate::domain::time::Span;
use reqwest::{StatusCode, Url};

/// The longest words about a failure: a line in a log and in a mail. The core keeps them with every peer.
pub(crate) const WORDS_MAX: usize = 300;

/// Why a peer cannot be asked at all. Only other settings help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// The URL is shown in many places.
    #[error("its URL holds a user or a password: give them apart from it in the settings")]
    Credentials,
    /// Not shown: nobody knows what stands in it.
    #[error("its URL must be http or https, with a host, and without a query or a fragment")]
    Url,
    /// The PEM is broken.
    #[error("the certificates of its authorities cannot be read")]
    Authorities {
        #[source]
        source: reqwest::Error,
    },
    /// The PEM has none.
    #[error("the file of its authorities holds no certificate in PEM form")]
    NoAuthorities,
    /// Without its cause, which might quote it.
    #[error("its password or token has characters that HTTP cannot carry")]
    Auth,
    /// The client cannot be made.
    #[error("no HTTP client can be made for it")]
    Build {
        #[source]
        source: reqwest::Error,
    },
}

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{at}: no connection within {within}")]
    NoConnection { at: Url, within: Span },
    /// Connected, and then nothing, or not all of it.
    #[error("{at}: no answer within {within}")]
    Silent { at: Url, within: Span },
    /// Refused, reset, no such name, TLS.
    #[error("{at}")]
    Broken {
        at: Url,
        #[source]
        source: reqwest::Error,
    },
    #[error("{at} answers {status}{}{words}", if words.is_empty() { "" } else { ": " })]
    Status { at: Url, status: StatusCode, words: String },
    /// It will not get better by itself.
    #[error("{at} answers {status}: misconfigured, {check}")]
    Misconfigured { at: Url, status: StatusCode, check: String },
    #[error("{at} is not an Alertmanager: it answers alerts with a text: {words}")]
    Talks { at: Url, words: String },
    #[error("{at} is not an Alertmanager: its answer is not the status of one")]
    NoStatus {
        at: Url,
        #[source]
        source: serde_json::Error,
    },
    #[error("{at} is not an Alertmanager: its answer is not a list of alerts")]
    NoAlerts {
        at: Url,
        #[source]
        source: serde_json::Error,
    },
    #[error("{at} answers with more than {most} bytes; a proxy in between may have mixed up its answers")]
    TooLong { at: Url, most: usize },
    /// Each answer came in time, but there were too many.
    #[error("it took its time over every answer: the round was not done within {within}")]
    Slow { within: Span },
    /// Alerts are maps of texts: this would be a bug, and is no reason to stop.
    #[error("the alerts cannot be written as JSON")]
    Unwritable {
        #[source]
        source: serde_json::Error,
    },
}

/// Why a peer cannot be asked, for people.
pub(crate) fn unusable_words(unusable: &Unusable) -> String {
    one_line(&chain(unusable), WORDS_MAX)
}

/// `text` as one line of at most `most` characters, to be part of a sentence.
pub(super) fn one_line(text: &str, most: usize) -> String {
    const CUT: &str = "...";
    let spaced = |c: char| c.is_control() || c.is_whitespace();
    let line = text.split(spaced).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    // A full stop goes; what says that something was cut off stays.
    let line = line.strip_suffix('.').filter(|rest| !rest.ends_with('.')).unwrap_or(&line);
    match line.char_indices().nth(most) {
        None => line.to_owned(),
        Some(_) => line.chars().take(most - CUT.len()).chain(CUT.chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn foreign_text_becomes_part_of_a_line() {
        assert_eq!(one_line("  <html>\r\n\t<body>Not \u{7}found.\n", 100), "<html> <body>Not found");
        assert_eq!(one_line("0123456789", 10), "0123456789");
        assert_eq!(one_line("0123456789a", 10), "0123456...");
        assert_eq!(one_line("0123456...", 100), "0123456...");
    }

    proptest! {
        #[test]
        fn a_line_is_one_and_bounded(text in "\\PC*|[\\x00-\\x20]*|(?s).*") {
            let line = one_line(&text, 20);
            prop_assert!(line.chars().count() <= 20);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
