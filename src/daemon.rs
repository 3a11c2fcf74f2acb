//! The loop: wait, decide, apply, dispatch. The only owner of the state, and the only maker of [`Now`].
//!
//! ```text
//!   orders ───┐
//!   hard ─────┤  first                    ┌─► Hands: routes, evacuations, probe pace, heals, alerts, mails
//!   settings ─┼─► take ─► Core::step ─────┼─► Store: records, in batches, never waited for
//!   observed ─┤  then                     ├─► Desk: answers to people, when the record is committed
//!   deadline ─┘                           └─► Window: view, events, metrics, log
//! ```
//!
//! Two bounded lanes: hard events and orders first, then observations. Edges wait for room in a lane, so a flood makes
//! results late (and lateness voids them), but never loses one silently.
//!
//! # What it must never do
//!
//! Wait for the disk, for HAProxy, for Docker or for a person; know how any of them is spoken to; decide.

mod alerts;
mod board;
mod configs;
mod core;
mod desk;
mod doctor;
mod edges;
mod hands;
mod journal;
mod listeners;
pub mod mailroom;
mod once;
mod outgoing;
mod reload;
pub mod replay;
mod snapshots;
mod start;
mod systemd;
mod turn;
mod window;

pub use self::core::{Core, Step, rehearse, restored};
pub use crate::actuator::haproxy::history::History;
pub use crate::actuator::haproxy::template::DEFAULT_TEMPLATE;
pub use configs::{ConfigError, Difference, configure_alone, difference, history};
pub use doctor::examine;
pub use edges::Edges;
pub use once::{Findings, Move, MoveKind, PrintError, look, render};
pub use outgoing::{DURABLE_WITHIN, Disk, Outgoing, Published, Unsure, is_durable};
pub use start::{Options, StartError, run};
pub use turn::{BATCH_MAX, HARD_LANE, Inbox, Loop, Next, OBSERVED_LANE, ORDER_LANE, TICK, pause, turn};

use crate::clock;
use crate::control;
use crate::domain::action::Action;
use crate::domain::event::{Event, StoreHealth};
use crate::domain::{Boot, Now};
use crate::settings::Settings;
use crate::store::{Record, Store};
use desk::Desk;
use hands::Hands;
use snapshots::Snapshots;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use window::Window;

/// The time of this moment, on both clocks.
fn now() -> Now {
    Now { boot: clock::boot_now(), wall: clock::wall_now() }
}

/// Where edges and people put what they have.
#[derive(Debug)]
struct Lanes {
    inbox: Inbox<control::Request>,
    configs: mpsc::Receiver<control::ConfigRequest>,
    settings: mpsc::Receiver<Arc<Settings>>,
    problems: board::Posted,
    store: watch::Receiver<StoreHealth>,
    wants_snapshot: watch::Receiver<bool>,
}

/// The loop with all it owns.
struct Daemon {
    core: Core,
    lanes: Lanes,
    store: Store,
    hands: Hands,
    desk: Desk,
    window: Window,
    /// Records of this batch, not yet handed to the store.
    batch: Vec<Record>,
    committed: watch::Receiver<u64>,
    snapshots: Snapshots,
}

impl Daemon {
    /// Runs until `shutdown`. Every arm of the `select!` only receives: dropping one that did not win loses nothing.
    async fn work(mut self, shutdown: CancellationToken) -> Store {
        // The journal begins with a snapshot: what follows can be replayed from it.
        self.snapshot();
        let health = *self.lanes.store.borrow_and_update();
        self.take(Event::Store(health));
        self.take(Event::Started);
        self.flush();
        loop {
            let pause = self.pause();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(request) = self.lanes.inbox.orders.recv() => self.order(request),
                Some(request) = self.lanes.configs.recv() => self.hands.configure(request),
                Some(event) = self.lanes.inbox.hard.recv() => self.take(event),
                Some(settings) = self.lanes.settings.recv() => self.resettle(&settings),
                Ok(()) = self.lanes.store.changed() => {
                    let health = *self.lanes.store.borrow_and_update();
                    self.take(Event::Store(health));
                }
                Ok(()) = self.lanes.wants_snapshot.changed() => {}
                true = self.lanes.problems.changed() => {
                    let problems = self.lanes.problems.read();
                    self.window.set_problems(problems);
                }
                Some(event) = self.lanes.inbox.observed.recv() => self.take(event),
                () = self.hands.sure() => {}
                () = tokio::time::sleep(pause) => {}
            }
            turn(&mut self);
        }
        self.hands.close().await;
        self.store
    }

    /// How long nothing has to be done if nothing happens.
    fn pause(&self) -> Duration {
        let now = clock::boot_now();
        pause(self.core.state().next_deadline(), self.window.next_view(now).min(TICK), now).duration()
    }

    fn snapshot(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            let _ = self.store.submit(batch);
        }
        let state = Arc::new(self.core.state().clone());
        let _ = self.store.snapshot(state, now(), self.core.last_seq());
        self.snapshots.taken(clock::boot_now());
    }

    /// New settings: first the edges, so that what the core decides on them finds its hands.
    fn resettle(&mut self, settings: &Settings) {
        self.hands.resettle(settings);
        self.store.set_retention(start::retention(settings));
        self.take(Event::PolicyChanged(Box::new(settings.policy.clone())));
        self.snapshot();
    }
}

impl Loop for Daemon {
    type Order = control::Request;

    fn next(&mut self) -> Option<Next<control::Request>> {
        self.lanes.inbox.pop()
    }

    fn deadline(&self) -> Option<Boot> {
        self.core.state().next_deadline()
    }

    fn now(&self) -> Boot {
        clock::boot_now()
    }

    /// One event: decided, applied, dispatched.
    fn take(&mut self, event: Event) {
        if !self.window.note(&event, self.core.state()) {
            return;
        }
        let step = match self.core.step(event, now()) {
            Ok(step) => step,
            Err(uneventful) => return self.window.uneventful(&uneventful),
        };
        self.window.tell(&step);
        for action in &step.record.decision.actions {
            match action {
                Action::Route { .. }
                | Action::Pace { .. }
                | Action::Evacuate(_)
                | Action::Heal(_)
                | Action::Mail(_) => self.hands.prepare(step.record.seq, action),
                Action::Answer { command, .. } => self.desk.answer(*command, &step.record),
            }
        }
        self.hands.note_changes(&step.record);
        self.batch.push(step.record);
        // People hear of it as of any other trouble. Such an event moves nothing, so it cannot lead to another one.
        for breach in step.breaches {
            self.take(Event::Breached { breach: breach.to_string() });
        }
    }

    /// One order: rehearsed on a copy, or given.
    fn order(&mut self, request: control::Request) {
        let now = now();
        if let Some(command) = self.desk.open(request, self.core.state(), now) {
            self.take(Event::Commanded(command));
        }
    }

    /// Sends out what the batch led to. Routes go first: the commit runs beside them and is not waited for.
    fn flush(&mut self) {
        for event in self.hands.publish(self.core.state()) {
            // A guarded action that found no room ended before it began; that is an event like any other.
            self.take(event);
        }
        let wanted = *self.lanes.wants_snapshot.borrow_and_update();
        if self.snapshots.due(wanted, clock::boot_now()) {
            self.snapshot();
        }
        let batch = std::mem::take(&mut self.batch);
        if !batch.is_empty() {
            // A full queue is the store's to report (`StoreHealth`), and ours to survive.
            let _ = self.store.submit(batch);
        }
        self.desk.deliver(&self.committed);
        self.window.refresh(&self.core, now());
    }
}
