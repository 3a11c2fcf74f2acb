//! Alertmanagers and relays, and who talks to them: the real rules of what is posted and what a peer's answer means, the real
//! desk, parcels and rounds of the sender. The models keep or lose what they are given, and remember who was told what.

use crate::clockwork::Ms;
use crate::disk::Job;
use crate::fault::Kind;
use crate::plan::peer_id;
use crate::world::{WALL_BEGAN, World};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use supervisor::alert::alertmanager::{Alert, Pacing, Timing, is_sent, judge, lasts, misses_one};
use supervisor::alert::email::{
    Attempt, Deadlines, Envelope, FaultClass, Helo, Outcome, Recipient, Relay, RelayFault, RelayTls, Reply,
    Stage,
};
use supervisor::alert::{
    AT_ONCE, Correspondents, Desk, Holds, Ledger, Parcel, Post, Recorded, Staged, Way, round,
};
use supervisor::daemon::mailroom;
use supervisor::domain::delivery::{Mail, Word};
use supervisor::domain::event::{MailEnd, Mailed, PeerResult, PeerSeen};
use supervisor::domain::incident::{IncidentId, fingerprint};
use supervisor::domain::silence::{Matcher, Silence};
use supervisor::domain::{Event, PeerId, Wall};

/// An Alertmanager.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) down_until: Ms,
    pub(crate) hangs_until: Ms,
    pub(crate) loses_until: Ms,
    pub(crate) rejects_until: Ms,
    /// By fingerprint.
    alerts: BTreeMap<String, Held>,
    /// By its own clock, too.
    pub(crate) silences: Vec<Silence>,
}

#[derive(Debug, Clone)]
struct Held {
    labels: BTreeMap<String, String>,
    /// Until when it lasts, by the peer's own clock.
    ends: Wall,
}

impl Peer {
    pub(crate) fn new(number: u8) -> Peer {
        Peer {
            id: peer_id(number),
            down_until: 0,
            hangs_until: 0,
            loses_until: 0,
            rejects_until: 0,
            alerts: BTreeMap::new(),
            silences: Vec::new(),
        }
    }

    /// It restarts: alerts are kept in memory only, silences on its disk.
    pub(crate) fn forget(&mut self) {
        self.alerts.clear();
    }

    fn stored(&self, now: Wall) -> BTreeMap<String, Word> {
        let lasting = self.alerts.iter().filter(|(_, held)| held.ends > now);
        let word = |held: &Held| {
            let silenced = self.silences.iter().any(|silence| silence.covers(&held.labels, now));
            if silenced { Word::Suppressed } else { Word::Active }
        };
        lasting.map(|(fingerprint, held)| (fingerprint.clone(), word(held))).collect()
    }
}

/// The task of one peer.
pub(crate) struct Rounds {
    pacing: Pacing,
    /// Grows with each wait: an older one is void.
    wait: u64,
    soonest: Ms,
    waits: bool,
    gathering: bool,
}

impl World {
    pub(crate) fn begin_rounds(&mut self) {
        for number in 0..self.peers.len() {
            let Some(supervisor) = &mut self.supervisor else { return };
            let id = self.peers[number].id;
            let pacing = Pacing::new(id);
            let rounds = Rounds { pacing, wait: 0, soonest: 0, waits: true, gathering: false };
            supervisor.rounds.insert(id, rounds);
            self.round_in(number, 1);
        }
    }

    /// What a clock shows that nobody sets.
    fn true_wall(&self) -> Wall {
        Wall(WALL_BEGAN + self.clock.now())
    }

    fn rounds(&mut self, number: usize) -> Option<&mut Rounds> {
        let id = self.peers[number].id;
        self.supervisor.as_mut()?.rounds.get_mut(&id)
    }

    fn round_in(&mut self, number: usize, after: Ms) {
        let Some(rounds) = self.rounds(number) else { return };
        rounds.wait += 1;
        let wait = rounds.wait;
        self.at_edge(after, move |world| {
            if world.rounds(number).is_some_and(|rounds| rounds.wait == wait) {
                world.round(number);
            }
        });
    }

    /// What the Alertmanagers are to have changed: those that wait make a round soon.
    pub(crate) fn alerts_changed(&mut self) {
        let now = self.clock.now();
        let gather = ms(Timing::STANDARD.gather);
        for number in 0..self.peers.len() {
            let Some(rounds) = self.rounds(number).filter(|of| of.waits && !of.gathering) else { continue };
            rounds.gathering = true;
            rounds.pacing.changed();
            let after = (rounds.soonest - now).max(gather);
            self.round_in(number, after);
        }
    }

    /// Who is there, post, read back.
    fn round(&mut self, number: usize) {
        let began = self.clock.now();
        let Some(supervisor) = &self.supervisor else { return };
        let wanted = Arc::clone(&supervisor.wanted_alerts);
        if let Some(rounds) = self.rounds(number) {
            (rounds.waits, rounds.gathering) = (false, false);
        }
        let peer = &self.peers[number];
        if began < peer.down_until {
            return self.fail(number, began, 1, "connection refused");
        }
        if began < peer.hangs_until {
            return self.fail(number, began, ms(Timing::STANDARD.request), "no answer within 5 s");
        }
        let now = self.now().wall;
        let sent: Vec<Alert> = wanted.iter().filter(|alert| is_sent(alert, now)).cloned().collect();
        if sent.is_empty() {
            let silences = self.silences(number);
            return self.at_edge(2, move |world| {
                world.seen(number, began, PeerResult::Answered(BTreeMap::new()), silences, true);
            });
        }
        self.at_edge(2, move |world| world.post_alerts(number, began, sent));
    }

    fn post_alerts(&mut self, number: usize, began: Ms, sent: Vec<Alert>) {
        let (at, now, ahead) = (self.clock.now(), self.now().wall, self.wall_ahead);
        let peer = &mut self.peers[number];
        if at < peer.down_until || at < peer.hangs_until {
            return self.fail(number, began, ms(Timing::STANDARD.request), "the connection was closed");
        }
        let mut refused = BTreeMap::new();
        for alert in &sent {
            let (_, ends) = lasts(alert, now);
            if at < peer.rejects_until && alert.ended.is_none() {
                refused.insert(alert.incident, "bad request".to_owned());
                continue;
            }
            if at < peer.loses_until {
                continue;
            }
            // The round learns how far the two clocks are apart, and says it by the peer's.
            let held = Held { labels: alert.labels.clone(), ends: Wall(ends.0 - ahead) };
            peer.alerts.insert(fingerprint(&alert.labels), held);
        }
        if !refused.is_empty() {
            self.count(Kind::PeerRejects);
        } else if at < self.peers[number].loses_until {
            self.count(Kind::PeerLoses);
        }
        self.at_edge(2, move |world| world.read_back(number, began, sent, refused, false));
    }

    fn read_back(
        &mut self,
        number: usize,
        began: Ms,
        sent: Vec<Alert>,
        refused: BTreeMap<IncidentId, String>,
        again: bool,
    ) {
        let (at, now) = (self.clock.now(), self.true_wall());
        let peer = &self.peers[number];
        if at < peer.down_until || at < peer.hangs_until {
            return self.fail(number, began, ms(Timing::STANDARD.request), "the connection was closed");
        }
        let stored = peer.stored(now);
        let all: Vec<&Alert> = sent.iter().collect();
        if !again && misses_one(&all, &refused, &stored) {
            let after = ms(Timing::STANDARD.second_look);
            return self.at_edge(after, move |world| world.read_back(number, began, sent, refused, true));
        }
        let found = judge(&all, refused, &stored);
        let silences = self.silences(number);
        self.seen(number, began, PeerResult::Answered(found.words), silences, found.complete);
    }

    fn silences(&self, number: usize) -> Option<Vec<Silence>> {
        let (now, ahead) = (self.true_wall(), self.wall_ahead);
        let by_ours = |silence: &Silence| Silence {
            starts: Wall(silence.starts.0 + ahead),
            ends: Wall(silence.ends.0 + ahead),
            ..silence.clone()
        };
        let lasting = self.peers[number].silences.iter().filter(|silence| silence.ends > now);
        Some(lasting.map(by_ours).collect())
    }

    fn fail(&mut self, number: usize, began: Ms, takes: Ms, words: &'static str) {
        self.at_edge(takes, move |world| {
            world.seen(number, began, PeerResult::Failed(words.to_owned()), None, false);
        });
    }

    fn seen(
        &mut self,
        number: usize,
        began: Ms,
        result: PeerResult,
        silences: Option<Vec<Silence>>,
        complete: bool,
    ) {
        let now = self.clock.now();
        let peer = self.peers[number].id;
        let Some(rounds) = self.rounds(number) else { return };
        let news = rounds.pacing.is_news(&result, &silences);
        let took = Duration::from_millis(u64::try_from(now - began).unwrap_or(0));
        let wait = rounds.pacing.after(complete, took, &Timing::STANDARD);
        rounds.waits = true;
        rounds.soonest = now + ms(wait.soonest);
        if news {
            self.put_hard(Event::Peer(PeerSeen { peer, result, silences }));
        }
        self.round_in(number, ms(wait.latest));
    }

    /// Somebody silences what is about a service, there.
    pub(crate) fn silence(&mut self, number: usize, service: &str, lasts: Ms) {
        let now = self.true_wall();
        let matcher = Matcher {
            name: "service".to_owned(),
            value: service.to_owned(),
            is_regex: false,
            is_equal: true,
        };
        let ends = Wall(now.0 + lasts);
        self.peers[number].silences.push(Silence { matchers: vec![matcher], starts: now, ends });
    }
}

fn ms(duration: Duration) -> Ms {
    Ms::try_from(duration.as_millis()).unwrap_or(Ms::MAX)
}

/// A relay.
#[derive(Debug, Clone)]
pub(crate) struct MailRelay {
    pub(crate) name: String,
    pub(crate) down_until: Ms,
    pub(crate) defers_until: Ms,
    pub(crate) refuses_until: Ms,
    pub(crate) loses_reply_until: Ms,
    pub(crate) silent_until: Ms,
    /// It is too busy for anybody, or has no room: until when, and where in the dialogue it says so.
    pub(crate) declines: (Ms, Stage),
}

impl MailRelay {
    pub(crate) fn new(number: u8) -> MailRelay {
        let name = format!("relay-{number}");
        let (down_until, defers_until, refuses_until) = (0, 0, 0);
        let declines = (0, Stage::Greeting);
        MailRelay {
            name,
            down_until,
            defers_until,
            refuses_until,
            loses_reply_until: 0,
            silent_until: 0,
            declines,
        }
    }
}

impl MailRelay {
    /// What becomes of a message for so many recipients, and how long it takes until that is known.
    pub(crate) fn takes(&self, now: Ms, count: usize) -> (Vec<Outcome>, Ms) {
        let reply = |code: u16, text: &str| Reply { code, text: text.to_owned() };
        let failed = |stage, class, why: &str| {
            let fault = RelayFault { stage, class, why: why.to_owned(), reply: None };
            vec![Outcome::RelayFailed(fault); count]
        };
        let one = |number: usize| match () {
            () if now < self.refuses_until && number == 0 => {
                Outcome::Refused { stage: Stage::Rcpt, reply: reply(550, "no such user") }
            }
            () if now < self.loses_reply_until => {
                Outcome::Ambiguous { why: "the connection was closed".to_owned() }
            }
            () => Outcome::Accepted { reply: reply(250, "queued as 1"), queue_id: Some("1".to_owned()) },
        };
        match () {
            () if now < self.down_until => {
                (failed(Stage::Connect, FaultClass::Unreachable, "connection refused"), 1)
            }
            () if now < self.declines.0 => {
                (failed(self.declines.1, FaultClass::Declined, "421 4.7.0 too many connections"), 10)
            }
            () if now < self.silent_until => {
                (failed(Stage::Mail, FaultClass::Silent, "no answer within 15 s"), 15_000)
            }
            () if now < self.defers_until => {
                let later = Outcome::Deferred { stage: Stage::Rcpt, reply: reply(451, "greylisted") };
                (vec![later; count], 20)
            }
            () if now < self.loses_reply_until => ((0..count).map(one).collect(), 120_000),
            () => ((0..count).map(one).collect(), 30),
        }
    }
}

/// A mail as it lies in somebody's mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) at: Ms,
    pub(crate) to: String,
    pub(crate) message_id: String,
    pub(crate) bytes: Vec<u8>,
}

/// The sender: what waits, and what is on its way.
#[derive(Default)]
pub(crate) struct Postman {
    desk: Desk,
    flights: BTreeMap<u64, BoxFuture<'static, (Parcel, Option<MailEnd>)>>,
    number: u64,
    looked: bool,
    next: u64,
}

impl Postman {
    /// It begins nothing any more.
    pub(crate) fn stop(&mut self) {
        self.looked = false;
    }

    /// Whether mails are on their way.
    pub(crate) fn is_away(&self) -> bool {
        !self.flights.is_empty()
    }

    /// What is on its way is not waited for.
    pub(crate) fn abort(&mut self) {
        self.flights.clear();
    }
}

/// What a round asks of the world, and where it waits for the answer.
enum Ask {
    Deliver { relay: String, to: Vec<String>, message: Vec<u8>, answer: Answer<Attempt> },
    Stage { mail: Box<Mail>, staged: Staged, answer: Answer<bool> },
    Record { mail: Box<Mail>, recorded: Recorded, answer: Answer<bool> },
    Holds { fingerprints: BTreeSet<String>, answer: Answer<BTreeSet<String>> },
}

/// A future that the world completes.
struct Answer<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Answer<T> {
    fn clone(&self) -> Answer<T> {
        Answer(Arc::clone(&self.0))
    }
}

impl<T> Default for Answer<T> {
    fn default() -> Answer<T> {
        Answer(Arc::default())
    }
}

impl<T> Answer<T> {
    fn give(&self, value: T) {
        *self.0.lock().unwrap() = Some(value);
    }
}

impl<T> Future for Answer<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        self.0.lock().unwrap().take().map_or(Poll::Pending, Poll::Ready)
    }
}

/// What a round and the world share.
#[derive(Clone, Default)]
pub(crate) struct Exchange(Arc<Mutex<(Vec<Ask>, Wall)>>);

impl Exchange {
    fn ask<T: Send + 'static>(&self, ask: impl FnOnce(Answer<T>) -> Ask) -> BoxFuture<'static, T> {
        let answer = Answer::default();
        self.0.lock().unwrap().0.push(ask(answer.clone()));
        answer.boxed()
    }
}

impl Ledger for Exchange {
    fn stage(&self, mail: &Mail, staged: Staged) -> BoxFuture<'static, bool> {
        let mail = Box::new(mail.clone());
        self.ask(|answer| Ask::Stage { mail, staged, answer })
    }

    fn record(&self, mail: &Mail, recorded: Recorded) -> BoxFuture<'static, bool> {
        let mail = Box::new(mail.clone());
        self.ask(|answer| Ask::Record { mail, recorded, answer })
    }
}

impl Way for Exchange {
    fn deliver<'a>(
        &'a self,
        relay: &'a Relay,
        envelope: &'a Envelope,
        message: &'a [u8],
        _: &'a Deadlines,
    ) -> BoxFuture<'a, Attempt> {
        let (relay, message) = (relay.name.clone(), message.to_vec());
        let to = envelope.recipients().map(str::to_owned).collect();
        self.ask(|answer| Ask::Deliver { relay, to, message, answer })
    }

    fn now(&self) -> Wall {
        self.0.lock().unwrap().1
    }
}

impl World {
    fn correspondents(&self) -> Correspondents {
        Correspondents {
            from: "supervisor@example.org".to_owned(),
            to: (0..self.plan.cast.recipients).map(|number| format!("admin-{number}@example.org")).collect(),
            host: "node.example.org".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    pub(crate) fn begin_postman(&mut self) {
        let takes = self.disk_rng.i64(2..60);
        // Of those that it begins with: what is decided meanwhile is not in the outbox yet.
        let Some(asked) = self.supervisor.as_ref().map(|of| mailroom::on_their_way(of.state())) else {
            return;
        };
        self.at_edge(takes, move |world| {
            let now = world.now().wall;
            let Some(supervisor) = world.supervisor.as_mut().filter(|of| !of.stopping) else { return };
            let left = mailroom::left(world.disk.open_mails(), &world.disk.outbox, asked);
            for parcel in left.open {
                supervisor.postman.desk.take(parcel, now);
            }
            supervisor.postman.looked = true;
            for mailed in left.ended {
                world.put_hard(Event::Mailed(mailed));
            }
            world.advance_mails();
        });
    }

    /// A mail that was decided.
    pub(crate) fn post(&mut self, mail: Mail, durable: bool) {
        let now = self.now().wall;
        let Some(supervisor) = &mut self.supervisor else { return };
        supervisor.postman.desk.take(Parcel::new(mail, durable), now);
        self.advance_mails();
    }

    /// Lets mails that are due leave.
    fn advance_mails(&mut self) {
        let now = self.now().wall;
        let who = self.correspondents();
        let relays: Vec<Relay> = self.relays.iter().map(|relay| relay_of(&relay.name)).collect();
        let Some(supervisor) = self.supervisor.as_mut().filter(|of| of.postman.looked) else { return };
        let mut begun = Vec::new();
        while !relays.is_empty() && supervisor.postman.desk.away() < AT_ONCE {
            let Some(parcel) = supervisor.postman.desk.next(now, &who.to, false) else { break };
            let post = Post { who: who.clone(), relays: relays.clone(), deadlines: Deadlines::default() };
            let exchange = self.exchange.clone();
            let asks = exchange.clone();
            let holds: Holds =
                Arc::new(move |fingerprints| asks.ask(|answer| Ask::Holds { fingerprints, answer }));
            let flight = round(Arc::new(post), exchange.clone(), holds, exchange, parcel).boxed();
            supervisor.postman.number += 1;
            supervisor.postman.flights.insert(supervisor.postman.number, flight);
            begun.push(supervisor.postman.number);
        }
        if let Some(next) = supervisor.postman.desk.next_due(now) {
            supervisor.postman.next += 1;
            let look = supervisor.postman.next;
            // A wall clock that is set meanwhile must not let it wait for a day.
            let after = (next.0 - now.0).clamp(1, 30_000);
            self.at_edge(after, move |world| {
                if world.supervisor.as_ref().is_some_and(|of| of.postman.next == look) {
                    world.advance_mails();
                }
            });
        }
        for flight in begun {
            self.fly(flight);
        }
    }

    /// Lets a mail on its way go on, and hears what it asks.
    fn fly(&mut self, number: u64) {
        let now = self.now().wall;
        self.exchange.0.lock().unwrap().1 = now;
        let Some(supervisor) = &mut self.supervisor else { return };
        let Some(flight) = supervisor.postman.flights.get_mut(&number) else { return };
        let done = flight.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let asks = std::mem::take(&mut self.exchange.0.lock().unwrap().0);
        if let Poll::Ready((parcel, end)) = done {
            supervisor.postman.flights.remove(&number);
            let mail = parcel.key();
            let _ = supervisor.postman.desk.back(parcel);
            if let Some(end) = end {
                self.put_hard(Event::Mailed(Mailed { mail, end }));
            }
            self.advance_mails();
        }
        for ask in asks {
            self.answer_mail(number, ask);
        }
    }

    fn answer_mail(&mut self, flight: u64, ask: Ask) {
        match ask {
            Ask::Deliver { relay, to, message, answer } => self.deliver(flight, &relay, to, message, answer),
            Ask::Stage { mail, staged, answer } => {
                let staging = mailroom::staging(*mail, staged, self.now().wall);
                self.disk_request(Job::Stage(Box::new(staging)), move |world, stored| {
                    answer.give(stored);
                    world.fly(flight);
                });
            }
            Ask::Record { mail, recorded, answer } => {
                let outcome = mailroom::outcome(&mail, recorded);
                // What is late is in the queue, and is stored when the disk is back.
                self.disk_request(Job::Outcome(outcome), move |world, _| {
                    answer.give(true);
                    world.fly(flight);
                });
            }
            Ask::Holds { fingerprints, answer } => {
                let hangs = self.peers.iter().any(|peer| self.clock.now() < peer.hangs_until);
                self.at_edge(if hangs { 2_000 } else { 4 }, move |world| {
                    let (at, now) = (world.clock.now(), world.true_wall());
                    let there = |peer: &&Peer| at >= peer.down_until && at >= peer.hangs_until;
                    let stored =
                        world.peers.iter().filter(there).flat_map(|peer| peer.stored(now).into_keys());
                    let found = stored.filter(|fingerprint| fingerprints.contains(fingerprint)).collect();
                    answer.give(found);
                    world.fly(flight);
                });
            }
        }
    }

    /// One attempt at a relay. What it has taken is delivered, whoever hears its answer.
    fn deliver(
        &mut self,
        flight: u64,
        relay: &str,
        to: Vec<String>,
        message: Vec<u8>,
        answer: Answer<Attempt>,
    ) {
        let now = self.clock.now();
        let Some(of) = self.relays.iter().find(|of| of.name == relay).cloned() else { return };
        self.judge_sending(&message);
        let kinds = [
            (of.down_until, Kind::RelayDown),
            (of.declines.0, Kind::RelayDeclines),
            (of.silent_until, Kind::RelaySilent),
            (of.defers_until, Kind::RelayDefers),
            (of.refuses_until, Kind::RelayRefuses),
            (of.loses_reply_until, Kind::RelayLosesReply),
        ];
        if let Some((_, kind)) = kinds.into_iter().find(|(until, _)| now < *until) {
            self.count(kind);
        }
        let (each, takes) = of.takes(now, to.len());
        let delivered: Vec<String> = to
            .iter()
            .zip(&each)
            .filter(|(_, outcome)| matches!(outcome, Outcome::Accepted { .. } | Outcome::Ambiguous { .. }))
            .map(|(to, _)| to.clone())
            .collect();
        let message_id = message_id(&message);
        // It is theirs some milliseconds before we know.
        self.clock.after(15, move |world| {
            let at = world.clock.now();
            for to in delivered {
                let (message_id, bytes) = (message_id.clone(), message.clone());
                world.mailbox.push(Delivered { at, to, message_id, bytes });
            }
        });
        let recipients = to.into_iter().zip(each).map(|(address, outcome)| Recipient { address, outcome });
        let attempt = Attempt { recipients: recipients.collect() };
        self.at_edge(takes, move |world| {
            answer.give(attempt);
            world.fly(flight);
        });
    }

    /// Whether nothing waits or is on its way.
    pub(crate) fn postman_is_idle(&self) -> bool {
        let now = self.now().wall;
        self.supervisor
            .as_ref()
            .is_some_and(|of| of.postman.flights.is_empty() && of.postman.desk.next_due(now).is_none())
    }
}

/// The name of a message, as its header says.
pub(crate) fn message_id(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    // Long headers are folded.
    let after = text.split_once("Message-ID:").map(|(_, after)| after).unwrap_or_default();
    after.split('>').next().unwrap_or_default().trim().trim_start_matches('<').to_owned()
}

/// A relay of that name, as the settings have it.
pub(crate) fn relay_of(name: &str) -> Relay {
    Relay {
        name: name.to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 25,
        tls: RelayTls::None,
        helo: Helo::parse("node.example.org").unwrap(),
        auth: None,
        ca: None,
    }
}
