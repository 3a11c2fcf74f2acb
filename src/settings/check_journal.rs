//! `[journal]`: how much history is kept.

use super::checker::Checker;
use super::key::Key;
use super::limits;
use super::model::JournalSettings;
use super::raw::{RawJournal, RawSize, RawSpan};
use super::value;

pub(crate) fn journal(checker: &mut Checker<'_>, raw: &RawJournal) -> JournalSettings {
    let key = Key::root().at("journal");
    let age = key.at("max_age");
    let limit = &limits::JOURNAL_AGE;
    let max_age = checker.parse(&age, raw.max_age.as_ref().map(|RawSpan(text)| text), value::age);
    let max_age = max_age.unwrap_or(limit.default);
    if max_age < limit.min || max_age > limit.max {
        checker
            .wrong(&age, format!("{max_age} is not within {} and {}: {}", limit.min, limit.max, limit.why));
    }
    let size = key.at("max_size");
    let max_bytes = checker.parse(&size, raw.max_size.as_ref().map(|RawSize(text)| text), value::size);
    let max_bytes = max_bytes.unwrap_or(limits::JOURNAL_BYTES);
    if !(limits::JOURNAL_BYTES_MIN..=limits::JOURNAL_BYTES_MAX).contains(&max_bytes) {
        checker.wrong(
            &size,
            format!(
                "{max_bytes} bytes are not within {} MiB and {} MiB: with less a busy hour is gone before anybody looks; \
                 more takes minutes to replay",
                limits::JOURNAL_BYTES_MIN >> 20,
                limits::JOURNAL_BYTES_MAX >> 20
            ),
        );
    }
    JournalSettings { max_age, max_bytes }
}
