//! The daemon's loop without what is no part of a switch (store, page, mails): its lanes, its turns, the core, and one HAProxy's driver.

use crate::PATIENCE;
use crate::lab::Lab;
use crate::world::{SITES, World, proxy};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::actuator::haproxy::{Driver, Handoff, run};
use supervisor::clock;
use supervisor::daemon::{
    Core, Disk, HARD_LANE, Inbox, Loop, Next, OBSERVED_LANE, ORDER_LANE, Outgoing, TICK, pause, turn,
};
use supervisor::domain::action::{Action, Desired, Finished, Outcome, Target};
use supervisor::domain::event::Event;
use supervisor::domain::{Boot, Command, Now, SiteId, Span, State};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::task::AbortOnDropHandle;

/// The loop and the driver at work.
pub(crate) struct Running {
    hard: mpsc::Sender<Event>,
    /// So many services are routed to the site, by one commit, which took the driver so long.
    routed: mpsc::UnboundedReceiver<(SiteId, usize, Span)>,
    end: oneshot::Sender<()>,
    turning: tokio::task::JoinHandle<Result<()>>,
    _driver: AbortOnDropHandle<()>,
}

impl Running {
    /// As the daemon starts them; ends when HAProxy is ours to write to.
    pub(crate) async fn start(lab: &Lab, world: &World) -> Result<Running> {
        let (hard, hard_lane) = mpsc::channel(HARD_LANE);
        let (_observed, observed_lane) = mpsc::channel(OBSERVED_LANE);
        let (_orders, order_lane) = mpsc::channel(ORDER_LANE);
        let (desired, wanted) = watch::channel(Desired::default());
        let mut active = wanted.clone();
        let (told, routed) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let turning = Turning {
            core: Core::new(State::new(world.policy()?), 1),
            inbox: Inbox { orders: order_lane, hard: hard_lane, observed: observed_lane },
            outgoing: Outgoing::everything(),
            desired,
            told,
            wrong: None,
        };
        let driver = Driver {
            take_over: false,
            proxy: proxy()?,
            owner: "lab".to_owned(),
            runtime: lab.runtime(),
            map_path: lab.map(),
            map_file: lab.dir.path().join("routes.map"),
            look_every: Duration::from_secs(1),
            check_age: world.services().map(|service| (service, Span(1_500))).collect::<BTreeMap<_, _>>(),
            clock: clock::boot_now,
            handoff: Handoff::default(),
            external: false,
        };
        let to_loop = hard.clone();
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            // Freeing a dead server's requests comes after the switch, and is another matter: the loop ends those orders itself.
            let (_nobody, mut evacuations) = mpsc::channel(1);
            run(driver, wanted, &mut evacuations, to_loop).await;
        }));
        let turning = tokio::spawn(turning.work(ended));
        let mut running = Running { hard, routed, end, turning, _driver: driver };
        running.happens(Event::Started).await?;
        for site in SITES {
            running.recovers(world, site).await?;
        }
        let active = active.wait_for(|desired| desired.active);
        tokio::time::timeout(PATIENCE, active).await.context("HAProxy was not found to be ours")??;
        Ok(running)
    }

    pub(crate) async fn happens(&mut self, event: Event) -> Result<()> {
        self.hard.send(event).await.context("the loop has ended")
    }

    /// Everything at `site` runs again, and has answered.
    pub(crate) async fn recovers(&mut self, world: &World, site: &str) -> Result<()> {
        for event in world.recovery(site)? {
            self.happens(event).await?;
        }
        Ok(())
    }

    /// Waits until `services` are routed to `to`, all by one commit. Gives how long the driver had with HAProxy, in whole milliseconds.
    pub(crate) async fn routed(&mut self, services: usize, to: &str) -> Result<Duration> {
        let to: SiteId = to.parse()?;
        loop {
            let next = tokio::time::timeout(PATIENCE, self.routed.recv()).await;
            let (site, together, took) =
                next.context("no route was told to be in force")?.context("the loop has ended")?;
            if site == to {
                ensure!(together == services, "{together} of {services} services were routed by one commit");
                return Ok(took.duration());
            }
        }
    }

    /// What is wrong shows when it ends.
    pub(crate) async fn end(self) -> Result<()> {
        let _ = self.end.send(());
        self.turning.await.context("the loop panicked")?
    }
}

struct Turning {
    core: Core,
    inbox: Inbox<Command>,
    outgoing: Outgoing,
    desired: watch::Sender<Desired>,
    told: mpsc::UnboundedSender<(SiteId, usize, Span)>,
    /// An invariant that was broken.
    wrong: Option<String>,
}

impl Turning {
    /// As the daemon waits, without the lanes that nobody uses here.
    async fn work(mut self, mut ended: oneshot::Receiver<()>) -> Result<()> {
        loop {
            let now = clock::boot_now();
            let pause = pause(self.core.state().next_deadline(), TICK, now).duration();
            tokio::select! {
                biased;
                _ = &mut ended => break,
                Some(event) = self.inbox.hard.recv() => self.take(event),
                () = tokio::time::sleep(pause) => {}
            }
            turn(&mut self);
        }
        match self.wrong {
            None => Ok(()),
            Some(breach) => anyhow::bail!("{breach}"),
        }
    }
}

impl Loop for Turning {
    type Order = Command;

    fn next(&mut self) -> Option<Next<Command>> {
        self.inbox.pop()
    }

    fn order(&mut self, order: Command) {
        self.take(Event::Commanded(order));
    }

    fn take(&mut self, event: Event) {
        let routed = match &event {
            Event::Routed(routed) => {
                let desired = self.desired.borrow();
                let first = routed.generations.keys().next().and_then(|service| desired.routes.get(service));
                first.map(|route| (route.site, routed.generations.len(), routed.took))
            }
            _ => None,
        };
        let now = Now { boot: clock::boot_now(), wall: clock::wall_now() };
        if let Ok(step) = self.core.step(event, now) {
            for action in &step.record.decision.actions {
                match action {
                    Action::Pace { .. } | Action::Answer { .. } => {}
                    other => self.outgoing.note(step.record.seq, other),
                }
            }
            self.outgoing.note_changes(step.record.seq, &step.record.decision.changes, now.boot);
            if let Some(breach) = step.breaches.first() {
                self.wrong = Some(breach.to_string());
            }
        }
        if let Some(routed) = routed {
            // Nobody listens: the bench ends.
            let _ = self.told.send(routed);
        }
    }

    fn deadline(&self) -> Option<Boot> {
        self.core.state().next_deadline()
    }

    fn now(&self) -> Boot {
        clock::boot_now()
    }

    fn flush(&mut self) {
        let disk = Disk { committed: self.core.last_seq(), ended: false };
        let out = self.outgoing.publish(self.core.state(), disk, clock::boot_now());
        for (_, desired) in out.desired {
            self.desired.send_if_modified(|now| {
                let differs = *now != desired;
                *now = desired;
                differs
            });
        }
        for evacuation in out.evacuations {
            self.take(Event::Finished(Finished {
                action: evacuation.id,
                of: Target::Server(evacuation.server),
                outcome: Outcome::Superseded,
            }));
        }
    }
}
