//! The loop's hands: what the core decided, on its way to the edges. Nothing here waits.

use super::alerts::Alerts;
use super::edges::Edges;
use super::outgoing::{DURABLE_WITHIN, Disk, Outgoing, Published, Unsure, is_durable};
use crate::clock::boot_now;
use crate::control::ConfigRequest;
use crate::domain::State;
use crate::domain::action::{Action, Evacuation, Finished, Outcome, Target};
use crate::domain::event::Event;
use crate::settings::Settings;
use crate::store::Record;
use tokio::sync::watch;
use tokio::time::timeout;

/// What was decided, and where it goes.
pub(super) struct Hands {
    edges: Edges,
    alerts: Alerts,
    outgoing: Outgoing,
    committed: watch::Receiver<u64>,
}

impl Hands {
    /// `committed`: the number of the last record that is on the disk.
    pub(super) fn new(edges: Edges, alerts: Alerts, committed: watch::Receiver<u64>) -> Hands {
        Hands { edges, alerts, outgoing: Outgoing::everything(), committed }
    }

    /// Notes an action of the record `seq`; probe pace needs no order among others and goes out at once.
    pub(super) fn prepare(&mut self, seq: u64, action: &Action) {
        if let Action::Pace { server, pace } = action {
            self.edges.set_pace(*server, *pace);
        } else {
            self.outgoing.note(seq, action);
        }
    }

    /// Notes what changes the desired state without being an action.
    pub(super) fn note_changes(&mut self, record: &Record) {
        self.outgoing.note_changes(record.seq, &record.decision.changes, record.now.boot);
    }

    /// Hands an order about HAProxy's configuration on.
    pub(super) fn configure(&self, request: ConfigRequest) {
        self.edges.configure(request);
    }

    /// New settings for the edges.
    pub(super) fn resettle(&mut self, settings: &Settings) {
        self.edges.resettle(settings);
        self.alerts.resettle(settings);
        self.outgoing.anew();
    }

    /// Ends them: what is on its way gets a moment.
    pub(super) async fn close(self) {
        // First what acts: nobody hears any more what comes of it.
        drop(self.edges);
        self.alerts.close().await;
    }

    /// Waits until orders about servers can be published; for ever if none waits. Cancel-safe.
    pub(super) async fn sure(&self) {
        match self.outgoing.unsure() {
            Some(Unsure { seq, until }) => {
                let mut committed = self.committed.clone();
                let wait = committed.wait_for(|last| is_durable(seq, *last));
                // Late, or with a store that has ended, they are given all the same: a person has asked for them.
                let _ = timeout(until.since(boot_now()).duration(), wait).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Sends out the desired states, then the evacuations that rely on them. Returns how those ended that found no room.
    pub(super) fn publish(&mut self, state: &State) -> Vec<Event> {
        let disk = Disk { committed: *self.committed.borrow(), ended: self.committed.has_changed().is_err() };
        let Published { desired, but_servers, under_way, heals, troubled, mails, evacuations } =
            self.outgoing.publish(state, disk, boot_now());
        for (proxy, desired) in desired {
            if but_servers {
                self.edges.desire_but_servers(proxy, desired);
            } else {
                self.edges.desire(proxy, desired);
            }
        }
        if let Some(under_way) = under_way {
            self.edges.set_heals(under_way);
        }
        for (seq, heal) in heals {
            let durable = committed(self.committed.clone(), seq);
            self.edges.heal(heal, async {
                // Started all the same.
                let _ = durable.await;
            });
        }
        if troubled {
            self.alerts.want(state);
        }
        for (seq, mail) in mails {
            self.alerts.mail(mail, committed(self.committed.clone(), seq));
        }
        evacuations.into_iter().filter_map(|evacuation| self.evacuate(evacuation)).collect()
    }

    fn evacuate(&self, evacuation: Evacuation) -> Option<Event> {
        let words = self.edges.evacuate(evacuation).err()?;
        let outcome = Outcome::Failed(words.to_owned());
        let of = Target::Server(evacuation.server);
        Some(Event::Finished(Finished { action: evacuation.id, of, outcome }))
    }
}

/// Waits until the record `seq` is on the disk, or for long enough. Gives back whether it is.
async fn committed(mut committed: watch::Receiver<u64>, seq: u64) -> bool {
    let wait = committed.wait_for(|last| is_durable(seq, *last));
    matches!(timeout(DURABLE_WITHIN.duration(), wait).await, Ok(Ok(_)))
}
