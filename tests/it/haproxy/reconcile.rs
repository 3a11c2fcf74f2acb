//! The task that the daemon starts, against a HAProxy that things happen to.

use super::gate::{Cut, Gate};
use super::lab::{KeepAlive, Lab, get, ident, routes, until};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use supervisor::actuator::haproxy::{
    BindCheck, Client, Command, Driver, Handoff, Runtime, Worker, apply, run, set_routes,
};
use supervisor::domain::action::{ActionId, Desired, DesiredRoute, Evacuation, Outcome};
use supervisor::domain::event::{Event, ProxySeen};
use supervisor::domain::id::{ServerId, ServiceId};
use supervisor::domain::time::{Boot, Span};
use tokio::sync::{mpsc, watch};

pub(crate) struct Task {
    pub(crate) desired: watch::Sender<Desired>,
    pub(crate) evacuations: mpsc::Sender<Evacuation>,
    events: mpsc::Receiver<Event>,
}

impl Task {
    pub(crate) fn start(lab: &Lab, owner: &str) -> Task {
        Task::run(Task::driver(lab, owner))
    }

    pub(crate) fn driver(lab: &Lab, owner: &str) -> Driver {
        Driver {
            take_over: false,
            proxy: "edge".parse().unwrap(),
            owner: owner.to_owned(),
            runtime: lab.runtime(),
            map_path: lab.map(),
            map_file: lab.dir.path().join("routes.map"),
            look_every: Duration::from_millis(50),
            check_age: BTreeMap::from([(api(), Span(400))]),
            clock: || Boot(0),
            handoff: Handoff::default(),
            external: false,
        }
    }

    pub(crate) fn run(driver: Driver) -> Task {
        let (desired, wanted) = watch::channel(Desired::default());
        let (evacuations, orders) = mpsc::channel(4);
        let (told, events) = mpsc::channel(64);
        tokio::spawn(async move { run(driver, wanted, &mut { orders }, told).await });
        Task { desired, evacuations, events }
    }

    pub(crate) async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the task has ended");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .unwrap_or_else(|_| panic!("waited 10 s in vain for {what}"))
    }

    pub(crate) async fn look(&mut self, what: &str, mut wanted: impl FnMut(&ProxySeen) -> bool) -> ProxySeen {
        self.expect(what, |event| match event {
            Event::Proxy(seen) if wanted(&seen) => Some(seen),
            _ => None,
        })
        .await
    }

    pub(crate) async fn routed(&mut self, generation: u64) {
        self.expect("the route to be in force", |event| match event {
            Event::Routed(routed) => (routed.generations.get(&api()) == Some(&generation)).then_some(()),
            _ => None,
        })
        .await;
    }
}

pub(crate) fn api() -> ServiceId {
    "api".parse().unwrap()
}

pub(crate) fn server() -> ServerId {
    ServerId { service: api(), server: "api-onprem".parse().unwrap() }
}

pub(crate) fn to(site: &str, generation: u64) -> Desired {
    Desired {
        active: true,
        routes: BTreeMap::from([(api(), DesiredRoute { site: site.parse().unwrap(), generation })]),
        down: BTreeMap::from([(server(), 7)]),
        servers: BTreeMap::new(),
    }
}

#[tokio::test]
async fn a_decided_route_is_set_read_back_and_kept_in_the_file() {
    let lab = Lab::start(|_| {}).await;
    let mut task = Task::start(&lab, "lab");
    let seen =
        task.look("a good check", |seen| seen.checks.get(&server()).is_some_and(|c| c.layer7_ok)).await;
    assert!(seen.ours);
    assert_eq!(seen.routes[&api()].as_str(), "onprem");
    assert_eq!(seen.checks.len(), 2, "spare lines are nobody's servers: {:?}", seen.checks);
    assert_eq!(lab.site().await, "onprem");
    task.look("who serves", |seen| seen.serving.get(&api()).is_some_and(|s| s.as_str() == "onprem")).await;

    task.desired.send(to("cloud", 1)).unwrap();
    task.routed(1).await;
    assert_eq!(lab.site().await, "cloud");
    let file = lab.dir.path().join("routes.map");
    until("the file has it", async || std::fs::read_to_string(&file).unwrap() == "api api__cloud\n").await;

    // Somebody changes the map by hand: enforced at the next look.
    set_routes(&lab.runtime(), &lab.map(), &routes(&[("api", "api__onprem")])).await.unwrap();
    task.routed(1).await;
    assert_eq!(lab.site().await, "cloud");
}

#[tokio::test]
async fn a_switch_that_is_cut_off_is_made_at_once_and_told_when_it_was_read_back() {
    for cut in [Cut::Before, Cut::Half] {
        let lab = Lab::start(|_| {}).await;
        let gate = Gate::before(&lab.dir.path().join("admin.sock"), "set map", 1, cut);
        let master = Client::unix(lab.dir.path().join("master.sock"));
        let runtime = Runtime::new(Client::unix(&gate.path), Some(master));
        // No look comes by to mend it.
        let look_every = Duration::from_secs(60);
        let mut task = Task::run(Driver { runtime, look_every, ..Task::driver(&lab, "lab") });
        task.look("a look", |_| true).await;
        task.desired.send(to("cloud", 1)).unwrap();
        task.routed(1).await;
        assert_eq!((gate.cuts_left(), lab.site().await.as_str()), (0, "cloud"), "{cut:?}");
    }
}

#[tokio::test]
async fn a_foreign_haproxy_is_watched_and_not_touched() {
    let lab = Lab::start(|_| {}).await;
    let mut task = Task::start(&lab, "somebody-else");
    let line = Command::set_server_state(
        &ident("api__onprem"),
        &ident("r__cloud"),
        supervisor::actuator::haproxy::AdminState::Ready,
    );
    lab.runtime().order(Worker::Current, &line).await.unwrap();
    task.desired.send(to("cloud", 1)).unwrap();
    for _ in 0..3 {
        let seen = task.look("a look", |_| true).await;
        assert_eq!((seen.owner.as_deref(), seen.ours), (Some("lab"), false));
        assert_eq!(seen.routes[&api()].as_str(), "onprem");
    }
    let seen = supervisor::actuator::haproxy::observe(&lab.runtime(), &lab.map()).await.unwrap();
    assert_eq!(seen.open_rescue_lines().count(), 1);
}

#[tokio::test]
async fn passive_means_untouched_and_a_forgotten_rescue_line_is_closed_once_active() {
    let lab = Lab::start(|_| {}).await;
    let mut task = Task::start(&lab, "lab");
    let (backend, line) = (ident("api__onprem"), ident("r__cloud"));
    let open = Command::set_server_state(&backend, &line, supervisor::actuator::haproxy::AdminState::Ready);
    lab.runtime().order(Worker::Current, &open).await.unwrap();
    task.desired.send(Desired { active: false, ..to("cloud", 1) }).unwrap();
    for _ in 0..3 {
        assert_eq!(task.look("a look", |_| true).await.routes[&api()].as_str(), "onprem");
    }
    task.desired.send(Desired { active: true, ..Desired::default() }).unwrap();
    until("the line is closed", async || {
        let seen = supervisor::actuator::haproxy::observe(&lab.runtime(), &lab.map()).await.unwrap();
        seen.open_rescue_lines().count() == 0
    })
    .await;
    assert_eq!(lab.site().await, "onprem", "without a decision the live route is left as it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evacuation_waits_for_its_route_and_is_void_when_the_world_has_moved_on() {
    let lab = Lab::start(|model| {
        model.services[0].pools[0].servers[0].maxconn = Some(1);
        model.services[0].check.interval = Duration::from_secs(3);
    })
    .await;
    let mut task = Task::start(&lab, "lab");
    task.look("good checks", |seen| seen.checks.values().filter(|c| c.layer7_ok).count() == 2).await;
    lab.onprem.hang(true);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..6 {
        clients.spawn(get(lab.port));
    }
    until("five requests are queued", async || {
        let seen = supervisor::actuator::haproxy::observe(&lab.runtime(), &lab.map()).await.unwrap();
        seen.queued["api__onprem"] == 5
    })
    .await;
    let order = |id, epoch, generation| Evacuation {
        id: ActionId(id),
        proxy: "edge".parse().unwrap(),
        server: server(),
        site: "onprem".parse().unwrap(),
        refuge: Some("cloud".parse().unwrap()),
        epoch,
        generation,
    };
    task.desired.send(to("cloud", 1)).unwrap();
    // Another verdict, another route, and the one that was decided.
    for order in [order(1, 6, 1), order(2, 7, 0), order(3, 7, 1)] {
        task.evacuations.send(order).await.unwrap();
    }
    let mut ended = BTreeMap::new();
    while ended.len() < 3 {
        let done = task.expect("the end of an evacuation", |event| match event {
            Event::Finished(done) => Some(done),
            _ => None,
        });
        let done = done.await;
        ended.insert(done.action, done.outcome);
    }
    assert_eq!(
        ended.into_values().collect::<Vec<_>>(),
        [Outcome::Superseded, Outcome::Superseded, Outcome::Done]
    );
    let answers = clients.join_all().await;
    assert!(answers.iter().all(|answer| answer.as_deref() == Ok("cloud")), "{answers:?}");
}

#[tokio::test]
async fn a_haproxy_that_is_gone_is_reported_and_routed_again_when_it_is_back() {
    let mut lab = Lab::start(|_| {}).await;
    let mut task = Task::start(&lab, "lab");
    task.look("a look", |_| true).await;
    task.desired.send(to("cloud", 1)).unwrap();
    task.routed(1).await;
    let file = lab.dir.path().join("routes.map");
    until("the file has it", async || std::fs::read_to_string(&file).unwrap() == "api api__cloud\n").await;
    lab.stop();
    task.expect("the loss", |event| matches!(event, Event::ProxyLost { .. }).then_some(())).await;
    // The file is older than the decision: what is decided wins.
    std::fs::write(&file, "api api__onprem\n").unwrap();
    lab.start_again().await;
    task.look("the new worker", |seen| seen.routes[&api()].as_str() == "cloud").await;
    assert_eq!(lab.site().await, "cloud");
}

/// Workers that were stopped; they go on when the test is over, so that HAProxy can end.
struct Frozen(Vec<u32>);

impl Frozen {
    fn freeze(pids: &[u32]) -> Frozen {
        let frozen = Frozen(pids.to_vec());
        frozen.signal(Signal::STOP);
        frozen
    }

    fn signal(&self, signal: Signal) {
        for pid in self.0.iter().filter_map(|pid| Pid::from_raw(i32::try_from(*pid).ok()?)) {
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.signal(Signal::CONT);
    }
}

#[tokio::test]
async fn old_workers_that_hang_do_not_hold_up_new_connections_and_follow_when_they_can() {
    let lab = Lab::start(|_| {}).await;
    // A client on each of three old workers.
    let (mut kept, mut old) = (Vec::new(), Vec::new());
    for round in 1..=3 {
        old.push(lab.runtime().info().await.unwrap().pid);
        let mut client = KeepAlive::connect(lab.port).await;
        assert_eq!(client.get().await.unwrap(), "onprem");
        kept.push(client);
        apply(&lab.target(BindCheck::Local), &lab.rendered(|m| m.proxy.maxconn += round)).await.unwrap();
    }
    assert_eq!(lab.runtime().processes().await.unwrap().old_workers.len(), 3);
    let mut task = Task::start(&lab, "lab");
    task.look("a look", |_| true).await;

    let frozen = Frozen::freeze(&old[..2]);
    let began = Instant::now();
    task.desired.send(to("cloud", 1)).unwrap();
    task.routed(1).await;
    let took = began.elapsed();
    eprintln!("in force on the current worker after {took:?}, with two old workers that hang");
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_eq!(lab.site().await, "cloud");
    // The old worker that answers is told beside those that do not, and looks go on meanwhile.
    let routed = async |pid| {
        let get = Command::get_map(&lab.map(), &ident("api"));
        let entry = lab.runtime().ask(Worker::Old(pid), &get).await;
        entry.is_ok_and(|entry| entry.contains("api__cloud"))
    };
    until("the old worker that does not hang routes as decided", async || routed(old[2]).await).await;
    assert_eq!(kept[2].get().await.unwrap(), "cloud");
    for _ in 0..3 {
        task.look("a look", |_| true).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());

    drop(frozen);
    until("an old worker that goes on is told", async || routed(old[0]).await).await;
    assert_eq!(kept[0].get().await.unwrap(), "cloud");
}
