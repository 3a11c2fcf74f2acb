//! What was decided and has not gone out: what is to be published anew, and what waits for the disk. Pure: the loop's hands
//! carry out what it gives, and the simulated world does.

use crate::domain::action::{Action, ActionId, Desired, Evacuation, Heal};
use crate::domain::change::Change;
use crate::domain::delivery::Mail;
use crate::domain::event::StoreHealth;
use crate::domain::time::Boot;
use crate::domain::{ProxyId, ServiceId, Span, State};
use std::collections::BTreeSet;

/// How long a start, a mail or an order about a server waits for its record to be on the disk: as long as the store's own
/// patience with a commit. Then the store is degraded, and a dead service is worse than a start that a crash of ours would
/// forget; a mail says that it may come twice, and the answer to an order that it is not durable.
pub const DURABLE_WITHIN: Span = Span(500);

/// Whether the record `seq` is on the disk, when the last one there is `committed`.
pub fn is_durable(seq: u64, committed: u64) -> bool {
    committed >= seq
}

/// What was decided and has not gone out.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    evacuations: Vec<Evacuation>,
    heals: Vec<(u64, Heal)>,
    mails: Vec<(u64, Mail)>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsure {
    /// The last of their records.
    pub seq: u64,
    /// They are not waited for beyond this.
    pub until: Boot,
}

/// How far the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// The number of the last record on it.
    pub committed: u64,
    /// The store has ended: it commits nothing any more.
    pub ended: bool,
}

/// What goes out now.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// What HAProxy instances are to be from now on.
    pub desired: Vec<(ProxyId, Desired)>,
    /// Of `desired`, servers stay as they were desired before: orders about them are not on the disk yet. Routes do not wait
    /// for a disk.
    pub but_servers: bool,
    /// The actions for containers that are under way, where they may have changed.
    pub under_way: Option<BTreeSet<ActionId>>,
    /// Starts and restarts, each with the number of its record: for that it waits ([`is_durable`], [`DURABLE_WITHIN`]).
    pub heals: Vec<(u64, Heal)>,
    /// What the Alertmanagers are to have may have changed.
    pub troubled: bool,
    /// Mails, each with the number of its record: for that it waits, too.
    pub mails: Vec<(u64, Mail)>,
    /// Evacuations; they rely on `desired`.
    pub evacuations: Vec<Evacuation>,
}

impl Outgoing {
    /// Everything is to be published, as at a start.
    pub fn everything() -> Outgoing {
        Outgoing { repaired: true, troubled: true, all: true, ..Outgoing::default() }
    }

    /// Everything about HAProxy instances is published anew.
    pub fn anew(&mut self) {
        self.all = true;
    }

    /// The orders about servers that wait for the disk.
    pub fn unsure(&self) -> Option<Unsure> {
        self.unsure
    }

    /// Notes an action of the record `seq`. Probe pace and answers need no order among others, and go out by themselves.
    pub fn note(&mut self, seq: u64, action: &Action) {
        match action {
            Action::Route { service, .. } => {
                self.touched.insert(*service);
            }
            Action::Evacuate(evacuation) => self.evacuations.push(*evacuation),
            Action::Heal(heal) => self.heals.push((seq, heal.clone())),
            Action::Mail(mail) => self.mails.push((seq, Mail::clone(mail))),
            Action::Pace { .. } | Action::Answer { .. } => {}
        }
    }

    /// Notes what changes the desired state without being an action, with the record `seq`: the verdicts that guard
    /// evacuations, servers that are out of service, and ownership. `now`: of the decision.
    pub fn note_changes(&mut self, seq: u64, changes: &[Change], now: Boot) {
        for change in changes {
            match change {
                Change::Health { server, .. } => {
                    self.touched.insert(server.service);
                }
                Change::Out { server, .. } => {
                    self.touched.insert(server.service);
                    self.unsure = Some(Unsure { seq, until: now + DURABLE_WITHIN });
                }
                Change::Placed { service, .. } | Change::Contested { service, .. } => {
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

    /// Whether orders about servers have to wait still.
    fn is_unsure(&mut self, state: &State, disk: Disk, now: Boot) -> bool {
        let Some(Unsure { seq, until }) = self.unsure else { return false };
        let waits = !is_durable(seq, disk.committed)
            && now < until
            && state.store == StoreHealth::Durable
            && !disk.ended;
        if !waits {
            self.unsure = None;
            self.all = true;
        }
        waits
    }

    /// Gives what goes out at `now`.
    pub fn publish(&mut self, state: &State, disk: Disk, now: Boot) -> Published {
        let but_servers = self.is_unsure(state, disk, now);
        let touched = std::mem::take(&mut self.touched);
        let all = std::mem::take(&mut self.all);
        let about =
            |proxy: &&ProxyId| all || touched.iter().any(|service| routes_through(state, *service, **proxy));
        let desired = state.proxies.keys().filter(about).map(|proxy| (*proxy, state.desired(*proxy)));
        Published {
            desired: desired.collect(),
            but_servers,
            under_way: std::mem::take(&mut self.repaired).then(|| state.heals_under_way()),
            heals: std::mem::take(&mut self.heals),
            troubled: std::mem::take(&mut self.troubled),
            mails: std::mem::take(&mut self.mails),
            evacuations: std::mem::take(&mut self.evacuations),
        }
    }
}

fn routes_through(state: &State, service: ServiceId, proxy: ProxyId) -> bool {
    state.policy.services.get(&service).is_some_and(|policy| policy.proxies.contains(&proxy))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::{World, proxy, server};

    /// One that has published what there was at the start.
    fn calm(state: &State) -> Outgoing {
        let mut outgoing = Outgoing::everything();
        outgoing.publish(state, Disk { committed: 0, ended: false }, Boot(0));
        outgoing
    }

    fn out() -> Change {
        Change::Out { server: server("api/api-onprem"), out: None }
    }

    #[test]
    fn a_start_publishes_everything_once() {
        let world = World::running();
        let mut outgoing = Outgoing::everything();
        let disk = Disk { committed: 0, ended: false };
        let first = outgoing.publish(&world.state, disk, Boot(0));
        assert_eq!(first.desired, [(proxy(), world.state.desired(proxy()))]);
        assert!(first.under_way.is_some() && first.troubled && !first.but_servers);
        let second = outgoing.publish(&world.state, disk, Boot(0));
        assert!(second.desired.is_empty() && second.under_way.is_none() && !second.troubled);
    }

    #[test]
    fn an_order_about_a_server_goes_out_when_it_is_on_the_disk() {
        let world = World::running();
        let mut outgoing = calm(&world.state);
        outgoing.note_changes(7, &[out()], Boot(1_000));
        let early = outgoing.publish(&world.state, Disk { committed: 6, ended: false }, Boot(1_001));
        assert!(early.but_servers && early.desired.len() == 1, "routes do not wait");
        assert_eq!(outgoing.unsure(), Some(Unsure { seq: 7, until: Boot(1_500) }));
        let durable = outgoing.publish(&world.state, Disk { committed: 7, ended: false }, Boot(1_002));
        assert!(!durable.but_servers && durable.desired.len() == 1);
        assert_eq!(outgoing.unsure(), None);
    }

    #[test]
    fn a_disk_that_is_late_degraded_or_gone_is_not_waited_for() {
        let world = World::running();
        let behind = Disk { committed: 6, ended: false };
        let mut degraded = world.state.clone();
        degraded.apply(&[Change::Store(StoreHealth::Degraded)]);
        for (state, disk, now) in [
            (&world.state, behind, Boot(1_500)),
            (&world.state, Disk { ended: true, ..behind }, Boot(1_001)),
            (&degraded, behind, Boot(1_001)),
        ] {
            let mut outgoing = calm(state);
            outgoing.note_changes(7, &[out()], Boot(1_000));
            let published = outgoing.publish(state, disk, now);
            assert!(!published.but_servers && published.desired.len() == 1, "{disk:?} at {now:?}");
        }
    }
}
