//! The set of probers: one per server, started, changed and stopped with the settings, and never silently gone.

use super::connect::Client;
use super::prober;
use super::spec::{Purpose, Spec};
use super::watchdog;
use crate::domain::Event;
use crate::domain::action::Pace;
use crate::domain::id::ServerId;
use crate::task;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

/// The probers. Dropping it stops them all.
pub struct Probers {
    client: Arc<Client>,
    lane: mpsc::Sender<Event>,
    running: BTreeMap<(ServerId, Purpose), Running>,
}

struct Running {
    spec: Spec,
    pace: watch::Sender<Pace>,
    _task: AbortOnDropHandle<()>,
}

impl Probers {
    /// None yet. Results go into `lane`, whose bound is the only place where they wait.
    #[must_use]
    pub fn new(client: Arc<Client>, lane: mpsc::Sender<Event>) -> Probers {
        Probers { client, lane, running: BTreeMap::new() }
    }

    /// Makes the probers those of `specs`: a server that is gone or changed is no longer probed as it was, the rest is not
    /// disturbed. A changed server keeps its pace. What a stopped prober had already put into the lane stays there.
    pub fn set(&mut self, specs: impl IntoIterator<Item = Spec>) {
        let specs: BTreeMap<_, _> =
            specs.into_iter().map(|spec| ((spec.server, spec.purpose), spec)).collect();
        self.running.retain(|probe, _| specs.contains_key(probe));
        for (probe, spec) in specs {
            let pace = match self.running.get(&probe) {
                Some(running) if running.spec == spec => continue,
                Some(running) => *running.pace.borrow(),
                None => Pace::Normal,
            };
            self.running.insert(probe, self.start(spec, pace));
        }
    }

    /// How eagerly a server's readiness is probed from now on; its life can wait for its interval. A server that is not probed is none of ours: the settings have removed
    /// it while the order was on its way.
    pub fn set_pace(&self, server: ServerId, pace: Pace) {
        if let Some(running) = self.running.get(&(server, Purpose::Ready)) {
            running.pace.send_if_modified(|current| std::mem::replace(current, pace) != pace);
        }
    }

    fn start(&self, spec: Spec, pace: Pace) -> Running {
        let (pace, receiver) = watch::channel(pace);
        let (client, lane, server) = (Arc::clone(&self.client), self.lane.clone(), spec.server);
        let (probed, purpose, silences) = (spec.clone(), spec.purpose, lane.clone());
        let make = move |beat: watchdog::Beat| {
            let (client, lane, probed, receiver) =
                (Arc::clone(&client), lane.clone(), probed.clone(), receiver.clone());
            task::keep(format!("prober of {server}"), move || {
                let (client, lane, spec, mut pace, beat) =
                    (Arc::clone(&client), lane.clone(), probed.clone(), receiver.clone(), beat.clone());
                async move { prober::run(&client, &spec, &mut pace, &lane, &beat).await }
            })
        };
        let tell = move |since| {
            let silences = silences.clone();
            async move {
                tracing::error!(%server, ?purpose, "a prober fell silent, which is a bug: it starts again; please report it");
                if purpose == Purpose::Ready {
                    // A closed lane means that the daemon ends.
                    let _ = silences.send(Event::ProberSilent { server, since }).await;
                }
            }
        };
        let task = tokio::spawn(watchdog::watch(make, tell));
        Running { spec, pace, _task: AbortOnDropHandle::new(task) }
    }
}
