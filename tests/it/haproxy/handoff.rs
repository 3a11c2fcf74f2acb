//! The two tasks of one HAProxy together: what happens to a decided route when the configuration changes in that moment.

use super::lab::{Lab, until};
use super::reconcile::{Task, to};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use supervisor::actuator::haproxy::{BindCheck, Driver, Target, Wanted, keeper};
use supervisor::domain::event::{ConfigSeen, Event};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// What is owed to the next look is wrong for most of its second; what is done at once, for some tens of milliseconds, on a
/// busy machine some more.
const AT_ONCE: Duration = Duration::from_millis(250);

/// Driver and keeper of a lab, as the daemon starts them.
pub(crate) struct Pair {
    pub(crate) lab: Lab,
    pub(crate) driver: Task,
    wanted: watch::Sender<Arc<Wanted>>,
    configured: mpsc::Receiver<Event>,
}

impl Pair {
    pub(crate) async fn start() -> Pair {
        let lab = Lab::start(|_| {}).await;
        // The driver writes the map's file through a link, so that the disk can be taken from it and from nobody else.
        std::os::unix::fs::symlink(lab.dir.path(), lab.dir.path().join("view")).unwrap();
        let driver = Driver {
            map_file: lab.dir.path().join("view/routes.map"),
            // As the daemon does: what must happen at once must not be owed to a look that comes by.
            look_every: Duration::from_secs(1),
            ..Task::driver(&lab, "lab")
        };
        // As the daemon starts them: they share it.
        let target = Target { handoff: driver.handoff.clone(), ..lab.target(BindCheck::Local) };
        let (model, reload_interval) = (lab.model.clone(), Duration::ZERO);
        let first = Wanted { target, model, template: None, take_over: false, reload_interval };
        let mut driver = Task::run(driver);
        driver.look("a look", |_| true).await;
        let (wanted, receiver) = watch::channel(Arc::new(first));
        let (told, configured) = mpsc::channel(64);
        tokio::spawn(async move {
            let (_nobody, mut orders) = mpsc::channel(1);
            keeper::run("edge".parse().unwrap(), receiver, &mut orders, told).await;
        });
        let mut pair = Pair { lab, driver, wanted, configured };
        pair.in_force().await;
        pair
    }

    fn disk(&self, there: bool) {
        let (view, aside) = (self.lab.dir.path().join("view"), self.lab.dir.path().join("aside"));
        let (from, to) = if there { (aside, view) } else { (view, aside) };
        std::fs::rename(from, to).unwrap();
    }

    /// The reload is about to be sent.
    pub(crate) async fn until_in_place(&self) {
        let (file, maxconn) = (self.lab.config_file(), self.wanted.borrow().model.proxy.maxconn);
        let line = format!("maxconn {maxconn}\n");
        until("the new file is in place", async || std::fs::read_to_string(&file).unwrap().contains(&line))
            .await;
    }

    /// The new worker has been looked at.
    pub(crate) async fn until_looked(&mut self) {
        let pid = self.lab.runtime().info().await.unwrap().pid;
        self.driver.look("the new worker", |seen| seen.identity.pid == pid).await;
    }

    /// Another configuration, applied from now on.
    pub(crate) fn reconfigure(&self, more: u32) {
        let before = self.wanted.borrow().clone();
        let mut model = before.model.clone();
        model.proxy.maxconn += more;
        self.wanted.send_replace(Arc::new(Wanted { model, ..(*before).clone() }));
    }

    pub(crate) async fn in_force(&mut self) {
        let told = async {
            loop {
                match self.configured.recv().await {
                    Some(Event::Configured(seen)) => match seen.config {
                        ConfigSeen::InForce { revision } => return revision,
                        other => panic!("{other:?}"),
                    },
                    Some(_) => {}
                    None => panic!("the keeper has ended"),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), told).await.expect("a configuration in force");
    }
}

/// Asks again and again which site answers, each time over a new connection.
struct Sampler {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<(Instant, Result<String, String>)>>,
}

impl Sampler {
    fn start(port: u16) -> Sampler {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut answers = Vec::new();
            while !stopped.load(Ordering::SeqCst) {
                let asked = Instant::now();
                answers.push((asked, super::lab::get(port).await));
            }
            answers
        });
        Sampler { stop, task }
    }

    /// From the first wrong answer to the last one, and how many there were.
    async fn wrong(self, site: &str) -> (Duration, usize) {
        self.stop.store(true, Ordering::SeqCst);
        let answers = self.task.await.unwrap();
        assert!(answers.iter().all(|(_, answer)| answer.is_ok()), "{answers:?}");
        let wrong: Vec<Instant> =
            answers.iter().filter(|(_, answer)| answer.as_deref() != Ok(site)).map(|(at, _)| *at).collect();
        let window = match (wrong.first(), wrong.last()) {
            (Some(first), Some(last)) => last.duration_since(*first),
            (None, _) | (_, None) => Duration::ZERO,
        };
        (window, wrong.len())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_right_before_a_reload_is_in_force_on_the_new_worker_from_its_first_request() {
    let mut pair = Pair::start().await;
    for round in 1..=4 {
        let site = if round % 2 == 1 { "cloud" } else { "onprem" };
        pair.driver.desired.send(to(site, u64::from(round))).unwrap();
        pair.reconfigure(round);
        pair.driver.routed(u64::from(round)).await;
        let sampler = Sampler::start(pair.lab.port);
        pair.in_force().await;
        pair.until_looked().await;
        let (window, count) = sampler.wrong(site).await;
        eprintln!("round {round}: {count} answers of the wrong site, within {window:?}");
        assert_eq!(count, 0, "within {window:?}");
    }
}

/// The new worker may have read the map file already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_during_a_reload_reaches_the_new_worker_at_once() {
    let mut pair = Pair::start().await;
    for round in 1..=6 {
        let site = if round % 2 == 1 { "cloud" } else { "onprem" };
        pair.reconfigure(round);
        pair.until_in_place().await;
        // Into each part of the reload.
        tokio::time::sleep(Duration::from_millis(6 * u64::from(round - 1))).await;
        pair.driver.desired.send(to(site, u64::from(round))).unwrap();
        pair.driver.routed(u64::from(round)).await;
        let sampler = Sampler::start(pair.lab.port);
        pair.in_force().await;
        pair.until_looked().await;
        let (window, count) = sampler.wrong(site).await;
        eprintln!("during a reload, round {round}: {count} answers of the wrong site, within {window:?}");
        assert!(window < AT_ONCE, "{window:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_waits_for_the_map_file() {
    let mut pair = Pair::start().await;
    pair.disk(false);
    pair.driver.desired.send(to("cloud", 1)).unwrap();
    pair.driver.routed(1).await;
    let sampler = Sampler::start(pair.lab.port);
    pair.reconfigure(1);
    pair.until_in_place().await;
    pair.disk(true);
    pair.in_force().await;
    pair.until_looked().await;
    let (window, count) = sampler.wrong("cloud").await;
    eprintln!("the disk came back: {count} answers of the wrong site, within {window:?}");
    assert_eq!(count, 0, "within {window:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_map_file_the_reload_goes_on_and_the_route_is_set_again_at_once() {
    let mut pair = Pair::start().await;
    pair.disk(false);
    pair.driver.desired.send(to("cloud", 1)).unwrap();
    pair.driver.routed(1).await;
    let sampler = Sampler::start(pair.lab.port);
    pair.reconfigure(1);
    pair.in_force().await;
    pair.driver.routed(1).await;
    let (window, count) = sampler.wrong("cloud").await;
    eprintln!("no disk: {count} answers of the wrong site, within {window:?}");
    assert!(window < AT_ONCE, "{window:?}");
    assert_eq!(std::fs::read_to_string(pair.lab.dir.path().join("routes.map")).unwrap(), "api api__onprem\n");
}
