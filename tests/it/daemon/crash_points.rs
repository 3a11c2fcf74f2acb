//! The process is killed at every system call by which it keeps or sends a mail: none is lost, and one comes twice only
//! where nobody could know that the first one had arrived, under the same Message-ID.
//!
//! A kill comes before the call that it is set on takes effect, and after the one before: `trace.rs` says how.
//!
//! CI takes the calls between the decision of a mail and the record of its fate. `CRASH_POINTS=all` takes every one from
//! the start of the process, and those of an incident that begins with Alertmanager away; it prints each point.

use super::mailroom::{self, Left, mailing, overdue, owed, shop_mails, shop_rows};
use super::scripted::Relay;
use super::trace::{Call, Point, calls, cut_off, ended, points, thinned, traced};
use super::world::{Daemon, World};
use crate::haproxy::lab::{free_port, until_within};
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use supervisor::control::protocol::OrderBody;
use supervisor::control::{Answer, CommandBody};
use supervisor::domain::delivery::MailKind;
use supervisor::domain::event::Event;
use supervisor::store::{Lock, MailState, OutboxRow, Reader, RecipientState, Record};

/// From a start to a mail's end, on a machine that is kept busy by the other points.
const LONGEST: Duration = Duration::from_secs(45);

/// How many points are tried at a time, on two processors.
const AT_ONCE: usize = 6;

/// The same where an incident has to grow old first: that takes no processor.
const AT_ONCE_WAITING: usize = 16;

/// How many points of a sweep CI takes at most; there are about as many between the decision of a mail and its end.
const SAMPLE: usize = 64;

/// A process that was told of one mail does not sync as often as this; strace counts to 65,535.
const NEVER: usize = 60_000;

/// What happens to the shop, in a world of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    /// It has been down for a while, and somebody can be written to from now on.
    Firing,
    /// That was mailed, and now it is up again.
    Resolved,
    /// It is down from the start, and the Alertmanager that the settings name does not exist.
    Opening,
}

/// What became of a point.
#[derive(Debug)]
struct Outcome {
    point: Point,
    /// The call that the process was killed at; none if it never got there.
    killed_at: Option<String>,
    /// The relay had the mail when the process was killed.
    arrived: bool,
    /// The outbox said so.
    known: bool,
    /// How many came in all.
    copies: usize,
    /// How many of them differ, in their Message-ID or anywhere else.
    different: usize,
}

impl Story {
    fn kind(self) -> MailKind {
        match self {
            Story::Firing | Story::Opening => MailKind::Firing,
            Story::Resolved => MailKind::Resolved,
        }
    }

    fn subject(self) -> &'static str {
        match self {
            Story::Firing | Story::Opening => "FIRING",
            Story::Resolved => "RESOLVED",
        }
    }

    async fn left(self) -> Option<&'static Left> {
        match self {
            Story::Firing => Some(overdue().await),
            Story::Resolved => Some(owed().await),
            Story::Opening => None,
        }
    }

    /// A world in which it is about to happen.
    async fn world(self) -> (World, Relay) {
        let left = self.left().await;
        let (world, relay) = (World::without_haproxy().await, Relay::start(&[]).await);
        if let Some(left) = left {
            left.plant(&world);
        }
        let mut settings = mailing(&world, &relay);
        match self {
            Story::Firing => world.onprem.close().await,
            Story::Resolved => {}
            Story::Opening => {
                world.onprem.close().await;
                let nobody =
                    format!("[alerts.alertmanagers.am1]\nurl = \"http://127.0.0.1:{}\"\n", free_port());
                settings.push_str(&nobody);
            }
        }
        world.write(&settings);
        (world, relay)
    }

    /// The run without a kill: every call, in order.
    async fn rehearsed(self) -> Vec<Call> {
        let (world, relay) = self.world().await;
        let trace = world.path("trace");
        let mut daemon = traced(&world, &trace, None);
        // Nobody asks it: an answer is a call, too.
        relay.mail_about_shop(self.subject()).await;
        until_within(LONGEST, "the journal has what became of the mail", async || {
            let id = shop_rows(&world, self.kind()).first().map(|row| row.key.id);
            let is_it =
                |record: &Record| matches!(&record.event, Event::Mailed(mailed) if Some(mailed.mail.id) == id);
            journal(&world).iter().any(is_it)
        })
        .await;
        mailroom::kill(&mut daemon).await;
        calls(&ended(&trace).await)
    }

    /// Waits until the mail is at the relay, and the outbox knows.
    async fn told(self, daemon: &Daemon, relay: &Relay) {
        let what = format!("the {} mail is done", self.subject());
        until_within(LONGEST, &what, async || {
            let mails = shop_mails(daemon).await;
            let mut of_kind =
                mails.iter().filter(|mail| mail.kind.as_deref() == Some(self.kind().as_str())).peekable();
            of_kind.peek().is_some() && of_kind.all(|mail| mail.state == "done")
        })
        .await;
        assert!(
            !relay.about_shop(self.subject()).is_empty(),
            "the outbox says that a relay has it, and none has"
        );
    }

    /// Kills the process at `point`, starts it again, and looks what came of the mail.
    async fn killed_at(self, point: Point) -> Outcome {
        let (world, relay) = self.world().await;
        let trace = world.path("trace");
        let mut daemon = traced(&world, &trace, Some(&point));
        let begun = Instant::now();
        let mut killed = true;
        while !daemon.has_ended() {
            // It may never get there: calls are not the same in every run.
            let arrived = !relay.about_shop(self.subject()).is_empty();
            if begun.elapsed() > LONGEST || (arrived && shop_rows(&world, self.kind()).iter().any(is_done)) {
                tokio::time::sleep(Duration::from_millis(300)).await;
                killed = daemon.has_ended();
                if !killed {
                    mailroom::kill(&mut daemon).await;
                }
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let lines = ended(&trace).await;
        relay.settle().await;
        let killed_at = killed.then(|| cut_off(&lines).unwrap_or_else(|| format!("{point:?}")));
        let rows = shop_rows(&world, self.kind());
        let arrived = !relay.about_shop(self.subject()).is_empty();
        let known = rows.iter().any(is_done);
        let kept = journal(&world);

        until_unlocked(&world).await;
        let next = world.run();
        self.told(&next, &relay).await;
        assert_nothing_is_lost(&world, &kept, &rows, &point);
        let mails = relay.about_shop(self.subject());
        let different: BTreeSet<&str> = mails.iter().map(|mail| mail.text.as_str()).collect();
        assert!(mails.iter().all(|mail| !mail.header("Message-ID").is_empty()), "{mails:?}");
        Outcome { point, killed_at, arrived, known, copies: mails.len(), different: different.len() }
    }
}

/// What was committed before the kill is still there, in a journal that has no hole.
fn assert_nothing_is_lost(world: &World, kept: &[Record], rows: &[OutboxRow], point: &Point) {
    let now = journal(world);
    for record in kept {
        assert!(now.contains(record), "{point:?}: the record {} is lost or changed", record.seq);
    }
    let outbox = Reader::open(&world.path("state")).unwrap().outbox(100).unwrap();
    for row in rows {
        let same = outbox.iter().find(|now| now.key == row.key);
        let staged = same.map(|now| now.staged.clone());
        assert!(same.is_some(), "{point:?}: {row:?} is lost");
        if row.staged.is_some() {
            assert_eq!(staged, Some(row.staged.clone()), "{point:?}: other bytes than before");
        }
    }
}

/// Waits until nobody has the lock of the state directory. A process that is killed just when it starts another one (HAProxy's
/// check of a configuration) leaves it to that one up to its `exec`, which takes a while under strace, or where others
/// want the processor.
async fn until_unlocked(world: &World) {
    until_within(LONGEST, "the state directory is unlocked", async || {
        Lock::acquire(&world.path("state")).is_ok()
    })
    .await;
}

fn journal(world: &World) -> Vec<Record> {
    Reader::open(&world.path("state"))
        .and_then(|reader| reader.tail(1_000))
        .map(|page| page.records)
        .unwrap_or_default()
}

fn is_done(row: &OutboxRow) -> bool {
    row.state == MailState::Done
        || row.recipients.iter().any(|recipient| recipient.outcome.state == RecipientState::Accepted)
}

fn all_points() -> bool {
    std::env::var("CRASH_POINTS").is_ok_and(|which| which == "all")
}

/// Kills `story` at each of `points`; fails if a mail is lost, or comes twice without need.
#[expect(clippy::print_stderr, reason = "whoever runs it wants the figures")]
async fn sweep(story: Story, points: Vec<Point>) -> Vec<Outcome> {
    let begun = Instant::now();
    let mut outcomes: Vec<Outcome> = futures_util::stream::iter(points)
        .map(|point| story.killed_at(point))
        .buffer_unordered(if story == Story::Opening { AT_ONCE_WAITING } else { AT_ONCE })
        .collect()
        .await;
    outcomes.sort_by(|a, b| a.point.cmp(&b.point));
    if all_points() {
        for outcome in &outcomes {
            eprintln!("{story:?} {outcome:?}");
        }
    }
    let killed = outcomes.iter().filter(|outcome| outcome.killed_at.is_some()).count();
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| wanted(outcome)).count();
    eprintln!(
        "{story:?}: {} points, killed at {killed}, lost {}, doubled {} (could not be known at {}), in {:?}",
        outcomes.len(),
        count(|outcome| outcome.copies == 0),
        count(|outcome| outcome.copies > 1),
        count(|outcome| outcome.arrived && !outcome.known),
        begun.elapsed()
    );
    for outcome in &outcomes {
        let twice = usize::from(outcome.arrived && !outcome.known);
        assert_eq!(outcome.copies, 1 + twice, "{outcome:?}");
        assert_eq!(outcome.different, 1, "{outcome:?}");
    }
    outcomes
}

/// A sweep that shows something: it killed before the mail arrived, when only the relay knew, and after that.
fn assert_telling(outcomes: &[Outcome]) {
    let killed = || outcomes.iter().filter(|outcome| outcome.killed_at.is_some());
    assert!(killed().count() * 2 > outcomes.len(), "{outcomes:#?}");
    assert!(killed().any(|outcome| !outcome.arrived), "{outcomes:#?}");
    assert!(killed().any(|outcome| outcome.arrived && !outcome.known), "{outcomes:#?}");
    assert!(outcomes.iter().any(|outcome| outcome.known), "{outcomes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_call_that_keeps_or_sends_a_mail_supervisor_loses_none() {
    for story in [Story::Firing, Story::Resolved] {
        let points = points(&story.rehearsed().await, all_points());
        let most = if all_points() { points.len() } else { SAMPLE };
        let mut points = thinned(points, most);
        // One that is never reached: killed when all is over. The outbox and the journal may take the end in one
        // transaction, and then no call lies between what the outbox knows and the end of the rehearsal.
        points.push(Point { call: "fsync".to_owned(), nth: NEVER });
        assert_telling(&sweep(story, points).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_the_opening_of_an_incident_and_its_mail_supervisor_mails_it_all_the_same() {
    let calls = Story::Opening.rehearsed().await;
    let wanted: Vec<Point> = match all_points() {
        true => points(&calls, true),
        false => {
            // The journal's calls up to the first word to a relay: the opening, each failure of Alertmanager, the decision.
            let hello = calls.iter().position(|call| call.arguments.contains("EHLO")).unwrap_or(calls.len());
            let journal = calls[..hello].iter().filter(|call| call.arguments.contains("supervisor.db-wal"));
            thinned(journal.map(|call| call.point.clone()).collect(), 6)
        }
    };
    sweep(Story::Opening, wanted).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_as_durable_outlives_a_kill() {
    let world = World::without_haproxy().await;
    let mut because = Vec::new();
    for turn in 0..8 {
        let mut daemon = world.run();
        daemon.until("it watches", |view| view.services.len() == 1).await;
        let mut told = 0;
        for order in 0..=turn {
            let scope = "service/api".parse().unwrap();
            let order_body = match (turn + order) % 2 {
                0 => OrderBody::Pause { scope, for_ms: None },
                _ => OrderBody::Resume { scope },
            };
            let words = format!("turn {turn}, order {order}");
            let body = CommandBody { order: order_body, because: Some(words.clone()), dry_run: false };
            let reply = daemon.client().command(&body).await.unwrap();
            if reply.verdict == Answer::Accepted && reply.durable == Some(true) {
                because.push(words);
                told += 1;
            }
        }
        // At once: nothing that came after the answer has had time to help.
        mailroom::kill(&mut daemon).await;
        until_unlocked(&world).await;
        assert!(told > 0, "turn {turn}: no order was durable");
        let kept = journal(&world);
        let known: BTreeSet<&str> = kept
            .iter()
            .filter_map(|record| match &record.event {
                Event::Commanded(command) => command.because.as_deref(),
                _ => None,
            })
            .collect();
        for words in &because {
            assert!(known.contains(words.as_str()), "{words:?} was durable, and is lost");
        }
        let seqs: Vec<u64> = kept.iter().map(|record| record.seq).collect();
        assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "the journal has a hole: {seqs:?}");
    }
}
