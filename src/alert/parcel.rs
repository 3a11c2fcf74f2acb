//! One mail on its way: which recipients have it, what is to be tried next and when. Pure: the sender feeds it what became
//! of each attempt.

use super::email::{Attempt, Outcome, Stage};
use super::sender::{Fated, Kept, Recorded, Staged, Standing};
use crate::domain::delivery::{Mail, MailId, MailKey};
use crate::domain::event::MailEnd;
use crate::domain::jitter;
use crate::domain::time::{Span, Wall};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The pauses after rounds in which somebody was not reached. A greylisting relay wants some minutes; a person who waits
/// for news of an outage wants none.
const PAUSES_SECONDS: [u64; 7] = [15, 30, 60, 120, 300, 600, 900];

/// After an attempt of which nobody knows whether the relay has the mail: a relay that has it is given time to deliver,
/// so that the same Message-ID arrives where the first one can be recognised.
const AMBIGUOUS_PAUSE: Span = Span::seconds(300);

/// No pause is longer.
const NEXT_MAX: Span = Span::seconds(20 * 60);

/// What is not taken by then is given up: news of yesterday wakes nobody.
const EXPIRES_AFTER: Span = Span::seconds(24 * 3600);

/// How much of a relay's words is kept.
const WORDS_MAX: usize = 300;

/// A mail that is finished, and of which the disk does not know, is told to the disk again after this.
const RECORD_AGAIN: Span = Span::seconds(30);

/// A mail with its bytes, once it has some, and its recipients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    pub(super) mail: Mail,
    pub(super) message: Option<Message>,
    pub(super) recipients: BTreeMap<String, Fate>,
    /// Rounds that did not reach everybody.
    pub(super) rounds: u32,
    /// When it is tried next; in the past: now.
    pub(super) next: Wall,
    /// Its row is on the disk.
    pub(super) durable: bool,
    /// These do not get it in this round: they have yet to hear what it is the end of.
    held: BTreeSet<String>,
    /// It was told that it waits.
    told: bool,
    /// How it ended, once it did.
    closed: Option<Standing>,
    /// The disk knows how it stands.
    recorded: bool,
}

/// The bytes: the same for every attempt, whatever happens in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) sender: String,
    pub(super) bytes: Vec<u8>,
    /// They are on the disk.
    pub(super) staged: bool,
}

/// How one recipient stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Not reached yet.
    Pending(Tried),
    /// A relay has it for them.
    Accepted {
        /// Which.
        relay: String,
        /// What it said.
        words: String,
    },
    /// Nobody knows whether the relay has it; it is tried again there.
    Ambiguous {
        /// Which.
        relay: String,
        /// What came instead of an answer.
        words: String,
    },
    /// Given up.
    Dead {
        /// Why.
        words: String,
    },
}

/// What was tried for a recipient.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tried {
    /// The relays that refused for good.
    pub(super) refused_by: BTreeSet<String>,
    /// What went wrong last.
    pub(super) words: Option<String>,
    /// A relay said "later" in this round: it, and no other, is asked again.
    pub(super) deferred_by: Option<String>,
}

impl Fate {
    fn is_open(&self) -> bool {
        match self {
            Fate::Pending(_) | Fate::Ambiguous { .. } => true,
            Fate::Accepted { .. } | Fate::Dead { .. } => false,
        }
    }
}

impl Parcel {
    /// `durable`: its row is on the disk.
    pub fn new(mail: Mail, durable: bool) -> Parcel {
        let next = mail.at;
        Parcel {
            mail,
            message: None,
            recipients: BTreeMap::new(),
            rounds: 0,
            next,
            durable,
            held: BTreeSet::new(),
            told: false,
            closed: None,
            recorded: true,
        }
    }

    /// Addresses it, before it is written: to those whom the settings name by then.
    pub(super) fn address(&mut self, recipients: &[String]) {
        for to in recipients {
            self.recipients.entry(to.clone()).or_insert_with(|| Fate::Pending(Tried::default()));
        }
    }

    /// The parcel of a mail that an earlier process did not see to its end: its bytes, if it had any, and what had become of
    /// it. What was on its way when that process ended is ambiguous only where its last words say so; everything else is
    /// sent again under the same Message-ID.
    pub fn resumed(mail: Mail, staged: Option<Staged>, recipients: Vec<Kept>) -> Parcel {
        let mut parcel = Parcel::new(mail, true);
        parcel.address(staged.as_ref().map(|staged| staged.recipients.as_slice()).unwrap_or_default());
        parcel.message = staged.map(|staged| Message {
            id: staged.message_id,
            sender: staged.sender,
            bytes: staged.bytes,
            staged: true,
        });
        for kept in recipients {
            let words = kept.words.clone().unwrap_or_default();
            let relay = kept.relay.clone().unwrap_or_default();
            let fate = match kept.state {
                Fated::Pending => Fate::Pending(Tried { words: kept.words.clone(), ..Tried::default() }),
                Fated::Accepted => Fate::Accepted { relay, words },
                Fated::Ambiguous => Fate::Ambiguous { relay, words },
                Fated::Dead => Fate::Dead { words },
            };
            if let (Fate::Ambiguous { .. }, Some(next)) = (&fate, kept.next) {
                // Its relay may be delivering it.
                parcel.next = parcel.next.max(next);
            }
            parcel.recipients.insert(kept.address, fate);
            parcel.rounds = parcel.rounds.max(kept.attempts);
            // It was told then.
            parcel.told |= kept.attempts > 0;
        }
        parcel
    }

    /// What is kept of it after a round.
    pub(super) fn recorded(&self, at: Wall) -> Recorded {
        let standing = self.closed.unwrap_or(Standing::Open);
        let kept = |(address, fate): (&String, &Fate)| {
            let (state, relay, words) = match fate {
                Fate::Pending(tried) => (Fated::Pending, None, tried.words.clone()),
                Fate::Accepted { relay, words } => {
                    (Fated::Accepted, Some(relay.clone()), Some(words.clone()))
                }
                Fate::Ambiguous { relay, words } => {
                    (Fated::Ambiguous, Some(relay.clone()), Some(words.clone()))
                }
                Fate::Dead { words } => (Fated::Dead, None, Some(words.clone())),
            };
            let open = matches!(state, Fated::Pending | Fated::Ambiguous);
            let (attempts, next) = (self.rounds, open.then_some(self.next));
            Kept { address: address.clone(), state, relay, words, next, attempts }
        };
        Recorded { at, standing, recipients: self.recipients.iter().map(kept).collect() }
    }

    pub(super) fn id(&self) -> MailId {
        self.mail.id
    }

    /// Which mail it is.
    pub fn key(&self) -> MailKey {
        MailKey::of(&self.mail)
    }

    /// Whether it has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether the disk knows how it stands.
    pub(super) fn is_recorded(&self) -> bool {
        self.recorded
    }

    /// Notes whether the disk knows how it stands now. Only the end is worth another try: the next round says the rest.
    pub(super) fn note_recorded(&mut self, recorded: bool, now: Wall) {
        self.recorded = recorded;
        if self.is_closed() && !recorded {
            self.next = later(now, RECORD_AGAIN);
        }
    }

    /// Ends it without anybody getting it.
    pub(super) fn close(&mut self, standing: Standing) {
        self.recipients.clear();
        self.closed = Some(standing);
    }

    /// Who is still to get it; `to` gets what is not addressed yet.
    pub(super) fn open(&self, to: &[String]) -> BTreeSet<String> {
        if self.recipients.is_empty() && !self.is_closed() {
            return to.iter().cloned().collect();
        }
        let open = self.recipients.iter().filter(|(_, fate)| fate.is_open());
        open.map(|(address, _)| address.clone()).collect()
    }

    /// Who has not got it for sure: the same without those who may have it.
    pub(super) fn unreached(&self, to: &[String]) -> BTreeSet<String> {
        let may_have_it =
            |address: &String| matches!(self.recipients.get(address), Some(Fate::Ambiguous { .. }));
        self.open(to).into_iter().filter(|address| !may_have_it(address)).collect()
    }

    /// These do not get it in the next round.
    pub(super) fn hold(&mut self, addresses: BTreeSet<String>) {
        self.held = addresses;
    }

    /// Begins a round: what a relay put off is asked of it again.
    pub(super) fn begin_round(&mut self) {
        for fate in self.recipients.values_mut() {
            if let Fate::Pending(tried) = fate {
                tried.deferred_by = None;
            }
        }
    }

    /// For whom `relay` is to be tried now.
    pub(super) fn wanting(&self, relay: &str) -> Vec<String> {
        let wants = |fate: &Fate| match fate {
            Fate::Pending(tried) => !tried.refused_by.contains(relay) && tried.deferred_by.is_none(),
            Fate::Ambiguous { relay: known, .. } => known == relay,
            Fate::Accepted { .. } | Fate::Dead { .. } => false,
        };
        let wanting = self.recipients.iter().filter(|(to, fate)| wants(fate) && !self.held.contains(*to));
        wanting.map(|(to, _)| to.clone()).collect()
    }

    /// Takes note of what became of an attempt at `relay`.
    pub(super) fn note(&mut self, relay: &str, attempt: &Attempt) {
        for recipient in &attempt.recipients {
            let Some(fate) = self.recipients.get_mut(&recipient.address) else { continue };
            let tried = match fate {
                Fate::Pending(tried) => tried.clone(),
                Fate::Ambiguous { .. } => Tried::default(),
                Fate::Accepted { .. } | Fate::Dead { .. } => continue,
            };
            *fate = after(tried, relay, &recipient.outcome);
        }
    }

    /// Ends a round: gives up what every one of `relays` refused, or what took too long; sets when the rest is tried
    /// again; says what is worth telling.
    pub(super) fn end_round(&mut self, relays: &[String], now: Wall) -> Option<MailEnd> {
        let expired = self.is_expired(now);
        for fate in self.recipients.values_mut() {
            if let Fate::Ambiguous { relay, words } = fate {
                if expired {
                    *fate = Fate::Dead { words: format!("nobody knows whether it arrived: {words}") };
                    continue;
                }
                // Its relay has left the settings, so nobody can find out: another one is asked.
                if !relays.contains(relay) {
                    *fate = Fate::Pending(Tried { words: Some(words.clone()), ..Tried::default() });
                }
            }
            if let Fate::Pending(tried) = fate {
                let refused =
                    !relays.is_empty() && relays.iter().all(|relay| tried.refused_by.contains(relay));
                if refused || expired {
                    let words =
                        tried.words.clone().unwrap_or_else(|| "no relay took it within a day".to_owned());
                    *fate = Fate::Dead { words };
                }
            }
        }
        if self.is_finished() {
            let dead = self.recipients.values().any(|fate| matches!(fate, Fate::Dead { .. }));
            self.closed = Some(if dead { Standing::Dead } else { Standing::Done });
            return Some(self.end());
        }
        let tried = |to: &String| !self.held.contains(to);
        let mut open = self.recipients.iter().filter(|(to, fate)| fate.is_open() && tried(to)).peekable();
        if open.peek().is_none() {
            // Whoever is left waits for another mail, and for nothing else.
            self.next = now;
            return None;
        }
        let pause = if open.all(|(_, fate)| matches!(fate, Fate::Ambiguous { .. })) {
            // A relay that takes longer than we wait for its word would deliver each repetition.
            Span(AMBIGUOUS_PAUSE.0.saturating_mul(u64::from(self.rounds) + 1).min(NEXT_MAX.0))
        } else {
            self.pause()
        };
        self.next = later(now, pause);
        self.rounds = self.rounds.saturating_add(1);
        (!std::mem::replace(&mut self.told, true)).then(|| MailEnd::Deferred { words: self.trouble() })
    }

    /// Whether a relay has it, or may have it, for somebody.
    pub(super) fn has_reached_somebody(&self) -> bool {
        self.recipients.values().any(|fate| matches!(fate, Fate::Accepted { .. } | Fate::Ambiguous { .. }))
    }

    /// Whether it is too old to be news.
    pub(super) fn is_expired(&self, now: Wall) -> bool {
        since(self.mail.at, now) >= EXPIRES_AFTER
    }

    /// Whether it is to be tried. What is further ahead than the longest pause waits for a clock that was set back since.
    pub(super) fn is_due(&self, now: Wall) -> bool {
        self.next <= now || since(now, self.next) > NEXT_MAX
    }

    /// Whether nothing is left to try.
    pub(super) fn is_finished(&self) -> bool {
        !self.recipients.values().any(Fate::is_open)
    }

    fn end(&self) -> MailEnd {
        let dead = self.recipients.iter().find_map(|(to, fate)| match fate {
            Fate::Dead { words } => Some(format!("{to}: {words}")),
            Fate::Pending(_) | Fate::Accepted { .. } | Fate::Ambiguous { .. } => None,
        });
        match dead {
            Some(words) => {
                let reached = self.recipients.values().any(|fate| matches!(fate, Fate::Accepted { .. }));
                MailEnd::Dead { words, reached }
            }
            None => {
                MailEnd::Accepted { recipients: u16::try_from(self.recipients.len()).unwrap_or(u16::MAX) }
            }
        }
    }

    fn pause(&self) -> Span {
        let index = usize::try_from(self.rounds).unwrap_or(usize::MAX).min(PAUSES_SECONDS.len() - 1);
        let whole = Duration::from_secs(PAUSES_SECONDS[index]);
        // A fifth up or down, so that many that wait for one relay do not come back together.
        let fifth = whole / 5;
        let spread = u64::try_from(fifth.as_millis()).unwrap_or(u64::MAX).saturating_mul(2);
        let jitter = jitter::attempt(self.mail.id.0, u64::from(self.rounds)) % (spread + 1);
        Span::from(whole - fifth + Duration::from_millis(jitter))
    }

    /// What went wrong last, for whoever it went wrong.
    fn trouble(&self) -> String {
        let words = self.recipients.iter().find_map(|(to, fate)| match fate {
            Fate::Pending(Tried { words: Some(words), .. }) | Fate::Ambiguous { words, .. } => {
                Some(format!("{to}: {words}"))
            }
            Fate::Pending(_) | Fate::Accepted { .. } | Fate::Dead { .. } => None,
        });
        words.unwrap_or_else(|| "no relay is configured".to_owned())
    }
}

/// How much later the one is; nothing, if the clock was set back.
pub(super) fn since(earlier: Wall, later: Wall) -> Span {
    Span(u64::try_from(later.0.saturating_sub(earlier.0)).unwrap_or(0))
}

fn later(now: Wall, by: Span) -> Wall {
    Wall(now.0.saturating_add(i64::try_from(by.0).unwrap_or(i64::MAX)))
}

fn bounded(words: &str) -> String {
    words.chars().take(WORDS_MAX).collect()
}

/// One recipient after one attempt.
fn after(tried: Tried, relay: &str, outcome: &Outcome) -> Fate {
    let name = relay.to_owned();
    match outcome {
        Outcome::Accepted { reply, .. } => Fate::Accepted { relay: name, words: bounded(&reply.to_string()) },
        Outcome::Ambiguous { why } => {
            Fate::Ambiguous { relay: name, words: bounded(&format!("{relay}: {why}")) }
        }
        // Another relay would be greylisted from the beginning.
        Outcome::Deferred { stage: Stage::Rcpt | Stage::Content | Stage::Data, reply } => {
            let words = Some(bounded(&format!("{relay}: {reply}")));
            Fate::Pending(Tried { words, deferred_by: Some(name), ..tried })
        }
        Outcome::Deferred { stage: _, reply } => {
            Fate::Pending(Tried { words: Some(bounded(&format!("{relay}: {reply}"))), ..tried })
        }
        Outcome::Refused { stage: _, reply } => {
            let mut refused_by = tried.refused_by;
            refused_by.insert(name);
            Fate::Pending(Tried { refused_by, words: Some(bounded(&format!("{relay}: {reply}"))), ..tried })
        }
        Outcome::RelayFailed(fault) => {
            Fate::Pending(Tried { words: Some(bounded(&format!("{relay}: {fault}"))), ..tried })
        }
    }
}

#[cfg(test)]
mod tests;
