//! The loop's hands: what the core decided, on its way to the edges. Nothing here waits.

use super::alerts::Alerts;
use super::edges::Edges;
use crate::control::ConfigRequest;
use crate::domain::action::{Action, Evacuation, Finished, Heal, Outcome, Target};
use crate::domain::change::Change;
use crate::domain::delivery::Mail;
use crate::domain::event::{Event, StoreHealth};
use crate::domain::{ProxyId, ServiceId, State};
use crate::settings::Settings;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What was decided and has not gone out.
pub(super) struct Hands {
    edges: Edges,
    alerts: Alerts,
    evacuations: Vec<Evacuation>,
    /// Each with the number of its record.
    heals: Vec<(u64, Heal)>,
    /// Each with the number of its record.
    mails: Vec<(u64, Mail)>,
    committed: watch::Receiver<u64>,
    /// What is under way for containers may differ from what was published last.
    repaired: bool,
    /// What Alertmanagers are to have may differ from what was published last.
    troubled: bool,
    /// Services whose desired state may differ from what was published last.
    touched: BTreeSet<ServiceId>,
    /// An HAProxy became ours or another's, or the settings changed: everything is published anew.
    all: bool,
    /// Orders about servers that may not be on the disk yet.
    unsure: Option<Unsure>,
}

/// Orders about servers that wait for the disk. HAProxy keeps what it is told, also when we crash: a server that was taken out
/// by an order that nobody remembers would stay out, as if somebody had done it by hand.
#[derive(Debug, Clone, Copy)]
struct Unsure {
    /// The last of their records.
    seq: u64,
    /// They are not waited for beyond this.
    until: Instant,
}

impl Hands {
    /// `committed`: the number of the last record that is on the disk.
    pub(super) fn new(edges: Edges, alerts: Alerts, committed: watch::Receiver<u64>) -> Hands {
        Hands {
            edges,
            alerts,
            evacuations: Vec::new(),
            heals: Vec::new(),
            mails: Vec::new(),
            committed,
            repaired: true,
            troubled: true,
            touched: BTreeSet::new(),
            all: true,
            unsure: None,
        }
    }

    /// Notes an action of the record `seq`; probe pace needs no order among others and goes out at once.
    pub(super) fn prepare(&mut self, seq: u64, action: &Action) {
        match action {
            Action::Route { service, .. } => {
                self.touched.insert(*service);
            }
            Action::Pace { server, pace } => self.edges.set_pace(*server, *pace),
            Action::Evacuate(evacuation) => self.evacuations.push(*evacuation),
            Action::Heal(heal) => self.heals.push((seq, heal.clone())),
            Action::Mail(mail) => self.mails.push((seq, Mail::clone(mail))),
            Action::Answer { .. } => {}
        }
    }

    /// Notes what changes the desired state without being an action, with the record `seq`: the verdicts that guard
    /// evacuations, servers that are out of service, and ownership.
    pub(super) fn note_changes(&mut self, seq: u64, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Health { server, .. } => {
                    self.touched.insert(server.service);
                }
                Change::Out { server, .. } => {
                    self.touched.insert(server.service);
                    self.unsure = Some(Unsure { seq, until: Instant::now() + DURABLE_WITHIN });
                }
                Change::Placed { service, .. } => {
                    self.touched.insert(*service);
                }
                Change::Proxy { .. } => self.all = true,
                Change::Policy(_) => {
                    self.all = true;
                    self.repaired = true;
                }
                Change::Repair { .. } => self.repaired = true,
                Change::Incident { .. } => self.troubled = true,
                Change::Began { .. }
                | Change::Life { .. }
                | Change::Reborn { .. }
                | Change::Maintenance { .. }
                | Change::Flaps { .. }
                | Change::Strain { .. }
                | Change::Asked { .. }
                | Change::Confirmed { .. }
                | Change::Pending { .. }
                | Change::FailedOver { .. }
                | Change::FailedBack { .. }
                | Change::Preference { .. }
                | Change::Wake { .. }
                | Change::ServedFrom { .. }
                | Change::ProxyConfig { .. }
                | Change::ProxyIdentity { .. }
                | Change::Engine { .. }
                | Change::Container { .. }
                | Change::Peer { .. }
                | Change::MailCounted { .. }
                | Change::Pause { .. }
                | Change::CutOff(_)
                | Change::Store(_)
                | Change::Breached { .. }
                | Change::Untried { .. }
                | Change::Issued { .. } => {}
            }
        }
    }

    /// Hands an order about HAProxy's configuration on.
    pub(super) fn configure(&self, request: ConfigRequest) {
        self.edges.configure(request);
    }

    /// New settings for the edges.
    pub(super) fn resettle(&mut self, settings: &Settings) {
        self.edges.resettle(settings);
        self.alerts.resettle(settings);
        self.all = true;
    }

    /// Ends them: what is on its way gets a moment.
    pub(super) async fn close(self) {
        // First what acts: nobody hears any more what comes of it.
        drop(self.edges);
        self.alerts.close().await;
    }

    /// Waits until orders about servers can be published; for ever if none waits. Cancel-safe.
    pub(super) async fn sure(&self) {
        match self.unsure {
            Some(Unsure { seq, until }) => {
                let mut committed = self.committed.clone();
                // Late, or with a store that has ended, they are given all the same: a person has asked for them.
                let _ = tokio::time::timeout_at(until, committed.wait_for(|last| *last >= seq)).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Whether orders about servers have to wait still.
    fn is_unsure(&mut self, state: &State) -> bool {
        let Some(Unsure { seq, until }) = self.unsure else { return false };
        let waits = *self.committed.borrow() < seq
            && Instant::now() < until
            && state.store == StoreHealth::Durable
            // A store that has ended commits nothing any more.
            && self.committed.has_changed().is_ok();
        if !waits {
            self.unsure = None;
            self.all = true;
        }
        waits
    }

    /// Sends out the desired states, then the evacuations that rely on them. Returns how those ended that found no room.
    pub(super) fn publish(&mut self, state: &State) -> Vec<Event> {
        let unsure = self.is_unsure(state);
        let touched = std::mem::take(&mut self.touched);
        let all = std::mem::take(&mut self.all);
        if all || !touched.is_empty() {
            for proxy in state.proxies.keys() {
                if all || touched.iter().any(|service| routes_through(state, *service, *proxy)) {
                    let desired = state.desired(*proxy);
                    if unsure {
                        // Routes do not wait for a disk.
                        self.edges.desire_but_servers(*proxy, desired);
                    } else {
                        self.edges.desire(*proxy, desired);
                    }
                }
            }
        }
        if std::mem::take(&mut self.repaired) {
            self.edges.set_heals(state.heals_under_way());
        }
        for (seq, heal) in std::mem::take(&mut self.heals) {
            let durable = committed(self.committed.clone(), seq);
            self.edges.heal(heal, async {
                // Started all the same.
                let _ = durable.await;
            });
        }
        if std::mem::take(&mut self.troubled) {
            self.alerts.want(state);
        }
        for (seq, mail) in std::mem::take(&mut self.mails) {
            self.alerts.mail(mail, committed(self.committed.clone(), seq));
        }
        let evacuations = std::mem::take(&mut self.evacuations);
        evacuations.into_iter().filter_map(|evacuation| self.evacuate(evacuation)).collect()
    }

    fn evacuate(&self, evacuation: Evacuation) -> Option<Event> {
        let words = self.edges.evacuate(evacuation).err()?;
        let outcome = Outcome::Failed(words.to_owned());
        let of = Target::Server(evacuation.server);
        Some(Event::Finished(Finished { action: evacuation.id, of, outcome }))
    }
}

/// How long a start, a mail or an order about a server waits for its record to be on the disk: as long as the store's own
/// patience with a commit. Then the store is degraded, and a dead service is worse than a start that a crash of ours would
/// forget; a mail says that it may come twice, and the answer to an order that it is not durable.
const DURABLE_WITHIN: Duration = Duration::from_millis(500);

/// Waits until the record `seq` is on the disk, or for long enough. Gives back whether it is.
async fn committed(mut committed: watch::Receiver<u64>, seq: u64) -> bool {
    matches!(tokio::time::timeout(DURABLE_WITHIN, committed.wait_for(|last| *last >= seq)).await, Ok(Ok(_)))
}

fn routes_through(state: &State, service: ServiceId, proxy: ProxyId) -> bool {
    state.policy.services.get(&service).is_some_and(|policy| policy.proxies.contains(&proxy))
}
