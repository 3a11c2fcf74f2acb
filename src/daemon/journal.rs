//! The journal as the status room reads it: lines, of which a record may have several or none.

use crate::chain::chain;
use crate::present;
use crate::status::{EventLine, EventSource, MailView, RecipientView};
use crate::store::{OutboxRow, PAGE_RECORDS, Page, Reader, RecipientOutcome};
use std::path::PathBuf;

/// How many pages of records are read for one answer. Records without a line (a peer that fails again) come a few a minute:
/// these are days of them, and some tens of MB.
const PAGES_MAX: usize = 20;

/// The fewest records that are read at a time.
const PAGE_MIN: usize = 64;

/// What is on the disk.
pub(super) struct Journal {
    /// The state directory.
    pub(super) dir: PathBuf,
}

impl EventSource for Journal {
    fn tail(&self, limit: usize, after: Option<u64>) -> Result<Vec<EventLine>, String> {
        let reader = self.open()?;
        let page = |seq: u64, records: usize| reader.after(seq, records).map_err(|error| chain(&error));
        match after {
            Some(seq) => following(limit, seq, page),
            None => {
                let last = reader.tail(limit.clamp(PAGE_MIN, PAGE_RECORDS)).map_err(|error| chain(&error))?;
                latest(limit, last, page)
            }
        }
    }

    fn mails(&self, limit: usize) -> Result<Vec<MailView>, String> {
        let rows = self.open()?.outbox(limit).map_err(|error| chain(&error))?;
        Ok(rows.into_iter().map(mail_view).collect())
    }
}

impl Journal {
    fn open(&self) -> Result<Reader, String> {
        Reader::open(&self.dir).map_err(|error| chain(&error))
    }
}

/// The first `limit` lines after the record `seq`. `page` gives so many records after one.
fn following(
    limit: usize,
    mut seq: u64,
    page: impl Fn(u64, usize) -> Result<Page, String>,
) -> Result<Vec<EventLine>, String> {
    let mut found = Vec::new();
    let mut records = limit.clamp(PAGE_MIN, PAGE_RECORDS);
    for _ in 0..PAGES_MAX {
        let next = page(seq, records)?;
        // Where lines are rare, many records are needed.
        records = PAGE_RECORDS;
        if next.next == seq {
            break;
        }
        seq = next.next;
        found.extend(lines(&next));
        if found.len() >= limit {
            break;
        }
    }
    found.truncate(limit);
    Ok(found)
}

/// The last `limit` lines, of which `last` has the latest.
fn latest(
    limit: usize,
    last: Page,
    page: impl Fn(u64, usize) -> Result<Page, String>,
) -> Result<Vec<EventLine>, String> {
    let mut found = lines(&last);
    let mut first = last.records.first().map_or(0, |record| record.seq);
    for _ in 1..PAGES_MAX {
        if found.len() >= limit || first <= 1 {
            break;
        }
        let before = first.saturating_sub(PAGE_RECORDS as u64 + 1);
        let mut earlier = page(before, PAGE_RECORDS)?;
        earlier.records.retain(|record| record.seq < first);
        let Some(record) = earlier.records.first() else { break };
        first = record.seq;
        found.splice(0..0, lines(&earlier));
    }
    found.drain(..found.len().saturating_sub(limit));
    Ok(found)
}

fn lines(page: &Page) -> Vec<EventLine> {
    let records = page.records.iter();
    records
        .flat_map(|record| EventLine::from_record(record.seq, record.now, &record.decision.reasons))
        .collect()
}

fn mail_view(row: OutboxRow) -> MailView {
    let OutboxRow { key, mail, state, staged, recipients, .. } = row;
    let kind = mail.as_ref().map(|mail| mail.kind.as_str().to_owned());
    let told = mail.iter().flat_map(|mail| mail.incidents.iter());
    let about = told.map(|told| match told.ended {
        None => present::trouble(&told.trouble),
        Some(_) => format!("over: {}", present::trouble(&told.trouble)),
    });
    let about = about.collect();
    MailView {
        id: key.id.0,
        at: present::time(key.at),
        kind,
        state: state.as_str().to_owned(),
        about,
        why: mail.as_ref().map(|mail| present::why_direct(&mail.why)),
        message_id: staged.map(|staged| staged.message_id),
        recipients: recipients.into_iter().map(|row| recipient_view(row.outcome)).collect(),
    }
}

fn recipient_view(outcome: RecipientOutcome) -> RecipientView {
    let RecipientOutcome { address, state, relay, reply, attempts, next } = outcome;
    let next = next.map(present::time);
    RecipientView { address, state: state.as_str().to_owned(), relay, reply, attempts, next }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::time::{Boot, Now, Wall};
    use crate::domain::{Decision, Reason};
    use crate::store::Record;

    /// Records 1 to `last`, of which every `nth` has a line.
    fn journal(last: u64, nth: u64) -> impl Fn(u64, usize) -> Result<Page, String> {
        move |seq, most| {
            let mut page = Page { next: seq, ..Page::default() };
            for seq in (seq + 1..=last).take(most) {
                let reasons = if seq % nth == 0 { vec![Reason::Reconnected] } else { Vec::new() };
                let decision = Decision { reasons, ..Decision::default() };
                let now = Now { boot: Boot(0), wall: Wall(0) };
                page.records.push(Record { seq, now, event: Event::Woke, decision });
                page.next = seq;
            }
            Ok(page)
        }
    }

    fn seqs(lines: &[EventLine]) -> Vec<u64> {
        lines.iter().map(|line| line.seq).collect()
    }

    #[test]
    fn records_without_a_line_are_passed_over_in_both_directions() {
        let page = journal(5_990, 1_000);
        let last = page(5_990 - 64, 64).unwrap();
        assert!(lines(&last).is_empty());
        assert_eq!(seqs(&latest(2, last, &page).unwrap()), [4_000, 5_000]);
        assert_eq!(seqs(&following(2, 1_500, &page).unwrap()), [2_000, 3_000]);
        assert_eq!(seqs(&following(9, 4_500, &page).unwrap()), [5_000], "to the end");
        assert!(latest(9, page(0, 64).unwrap(), &page).unwrap().is_empty(), "to the beginning");
    }

    #[test]
    fn reading_is_bounded() {
        let page = journal(1_000_000, 1_000_000);
        assert_eq!(following(1, 0, &page).unwrap(), []);
        assert_eq!(latest(1, page(999_000, 64).unwrap(), &page).unwrap(), []);
    }
}
