//! Servers that are taken out of service, and put back, while things happen to HAProxy.

use super::handoff::Pair;
use super::lab::{Lab, SLOWLY, get, ident, until};
use super::reconcile::{Task, api, server, to};
use std::collections::BTreeMap;
use std::time::Duration;
use supervisor::actuator::haproxy::{
    AdminState, BindCheck, Command, Driver, Outcome, ServerSeen, Worker, apply, observe,
};
use supervisor::domain::action::{ActionId, Desired, DesiredServer, Evacuation, Outcome as Ended};
use supervisor::domain::event::{Event, ProxySeen};
use supervisor::domain::maintenance::{Admin, AdminSeen};

const ONPREM: (&str, &str) = ("api__onprem", "api-onprem");
/// The line that leads to it from the other pool.
const SPARE: (&str, &str) = ("api__cloud", "x__onprem");

/// `to`, with the server at onprem as it is ordered; `ours` is what it may be because of us.
fn ordered(route: &str, admin: Admin, ours: &[Admin]) -> Desired {
    let ours = ours.iter().copied().collect();
    let wanted = DesiredServer { site: "onprem".parse().unwrap(), admin, ours };
    Desired { servers: BTreeMap::from([(server(), wanted)]), down: BTreeMap::new(), ..to(route, 1) }
}

fn drain() -> Desired {
    ordered("onprem", Admin::Drain, &[Admin::Drain])
}

fn maint() -> Desired {
    ordered("onprem", Admin::Maint, &[Admin::Maint])
}

fn back(ours: &[Admin]) -> Desired {
    ordered("onprem", Admin::Ready, ours)
}

/// Nothing is wanted of any server.
fn nothing() -> Desired {
    Desired { down: BTreeMap::new(), ..to("onprem", 1) }
}

fn shown(seen: &ProxySeen) -> Option<Admin> {
    Some(seen.out.as_ref()?.get(&server()).copied().unwrap_or_default().admin())
}

async fn shows(task: &mut Task, admin: Admin) {
    task.look(&format!("a look that shows {admin}"), |seen| shown(seen) == Some(admin)).await;
}

async fn line(lab: &Lab, (backend, server): (&str, &str)) -> ServerSeen {
    let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
    seen.servers[&(backend.to_owned(), server.to_owned())].clone()
}

async fn bits(lab: &Lab, of: (&str, &str)) -> u32 {
    line(lab, of).await.admin.0
}

async fn by_hand(lab: &Lab, state: AdminState) {
    let command = Command::set_server_state(&ident(ONPREM.0), &ident(ONPREM.1), state);
    lab.runtime().order(Worker::Current, &command).await.unwrap();
}

async fn started(lab: &Lab) -> Task {
    let mut task = Task::start(lab, "lab");
    task.look("good checks", |seen| seen.checks.values().filter(|c| c.layer7_ok).count() == 2).await;
    task.desired.send(to("onprem", 1)).unwrap();
    task.routed(1).await;
    task
}

/// The server's work goes to the other site by its pool's backup lines; what it has begun, it finishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_finished_and_new_requests_go_elsewhere() {
    for (wanted, admin, own, inherited) in [(drain(), Admin::Drain, 8, 16), (maint(), Admin::Maint, 1, 2)] {
        let lab = Lab::start(|_| {}).await;
        let mut task = started(&lab).await;
        lab.onprem.slow(true);
        let in_flight = tokio::spawn(get(lab.port));
        until("the request is there", async || {
            lab.onprem.requests.load(std::sync::atomic::Ordering::SeqCst) == 1
        })
        .await;
        let began = std::time::Instant::now();
        task.desired.send(wanted).unwrap();
        shows(&mut task, admin).await;
        eprintln!("{admin} in force after {:?}", began.elapsed());
        assert!(began.elapsed() < SLOWLY, "{:?}: the request may be over", began.elapsed());
        for _ in 0..5 {
            assert_eq!(lab.site().await, "cloud", "{admin}");
        }
        assert_eq!(in_flight.await.unwrap().as_deref(), Ok("onprem"), "{admin}");
        assert_eq!(bits(&lab, ONPREM).await, own);
        assert_eq!(bits(&lab, SPARE).await, inherited, "the line that tracks it follows by itself");
        assert_eq!(bits(&lab, ("api__onprem", "r__cloud")).await, 5, "the rescue line is as it was");
        lab.onprem.slow(false);
        task.desired.send(back(&[admin])).unwrap();
        shows(&mut task, Admin::Ready).await;
        assert_eq!(lab.site().await, "onprem");
        assert_eq!((bits(&lab, ONPREM).await, bits(&lab, SPARE).await), (0, 0));
    }
}

#[tokio::test]
async fn a_haproxy_that_is_restarted_is_told_again() {
    let mut lab = Lab::start(|_| {}).await;
    let mut task = started(&lab).await;
    task.desired.send(maint()).unwrap();
    shows(&mut task, Admin::Maint).await;
    lab.stop();
    task.expect("the loss", |event| matches!(event, Event::ProxyLost { .. }).then_some(())).await;
    lab.start_again().await;
    shows(&mut task, Admin::Maint).await;
    assert_eq!((bits(&lab, ONPREM).await, lab.site().await.as_str()), (1, "cloud"));
}

#[tokio::test]
async fn a_reload_keeps_it_from_the_first_request_on_and_without_its_file_it_is_told_again() {
    let lab = Lab::start(|_| {}).await;
    let mut task = started(&lab).await;
    for (round, wanted, admin) in [(1, drain(), Admin::Drain), (2, maint(), Admin::Maint)] {
        task.desired.send(wanted).unwrap();
        shows(&mut task, admin).await;
        let port = lab.port;
        let (stop, stopped) = tokio::sync::watch::channel(());
        let client = tokio::spawn(async move {
            let mut sites = Vec::new();
            while !stopped.has_changed().unwrap_or(true) {
                sites.push(get(port).await);
            }
            sites
        });
        let new = lab.rendered(|model| model.proxy.maxconn += round);
        let outcome = apply(&lab.target(BindCheck::Local), &new).await.unwrap();
        let Outcome::Applied { pid, .. } = outcome else { panic!("{outcome:?}") };
        task.look("the new worker", |seen| seen.identity.pid == pid && shown(seen) == Some(admin)).await;
        stop.send(()).unwrap();
        let sites = client.await.unwrap();
        assert!(sites.iter().all(|site| site.as_deref() == Ok("cloud")), "{admin}: {sites:?}");
    }
    // Somebody else reloads: nothing is carried over.
    let pid = lab.runtime().info().await.unwrap().pid;
    let master = lab.runtime();
    master
        .master()
        .unwrap()
        .raw(supervisor::actuator::haproxy::Recipient::Owner, &Command::reload())
        .await
        .unwrap();
    task.look("the worker of that reload", |seen| {
        seen.identity.pid != pid && shown(seen) == Some(Admin::Maint)
    })
    .await;
}

#[tokio::test]
async fn what_somebody_set_by_hand_is_left_alone() {
    let lab = Lab::start(|_| {}).await;
    let mut task = started(&lab).await;
    by_hand(&lab, AdminState::Drain).await;
    for _ in 0..3 {
        shows(&mut task, Admin::Drain).await;
    }
    // Further out than ordered, and at the end of the order nothing of ours.
    task.desired.send(drain()).unwrap();
    by_hand(&lab, AdminState::Maint).await;
    for wanted in [drain(), back(&[Admin::Drain]), nothing()] {
        task.desired.send(wanted).unwrap();
        for _ in 0..3 {
            shows(&mut task, Admin::Maint).await;
        }
        assert_eq!(bits(&lab, ONPREM).await, 1);
    }
    // Back into service against an order is told again.
    task.desired.send(maint()).unwrap();
    by_hand(&lab, AdminState::Ready).await;
    until("it is out again", async || bits(&lab, ONPREM).await == 1).await;
}

#[tokio::test]
async fn a_server_whose_order_ended_while_nobody_drove_is_put_back_by_who_comes() {
    let lab = Lab::start(|_| {}).await;
    let mut first = started(&lab).await;
    first.desired.send(drain()).unwrap();
    shows(&mut first, Admin::Drain).await;
    drop(first);
    let mut second = Task::start(&lab, "lab");
    second.desired.send(back(&[Admin::Drain])).unwrap();
    shows(&mut second, Admin::Ready).await;
    assert_eq!(bits(&lab, ONPREM).await, 0);
}

#[tokio::test]
async fn what_is_not_ours_to_drive_is_not_touched() {
    let lab = Lab::start(|_| {}).await;
    let external = Driver { external: true, ..Task::driver(&lab, "lab") };
    let passive = Desired { active: false, ..drain() };
    for (driver, wanted) in [
        (Task::driver(&lab, "somebody-else"), drain()),
        (Task::driver(&lab, "lab"), passive),
        (external, drain()),
    ] {
        let outside = driver.external;
        let mut task = Task::run(driver);
        task.desired.send(wanted).unwrap();
        for _ in 0..4 {
            let seen = task.look("a look", |_| true).await;
            assert_eq!(seen.out, (!outside).then(BTreeMap::new));
        }
        assert_eq!(bits(&lab, ONPREM).await, 0);
    }
}

/// HAProxy itself would give a server that comes out of maintenance traffic until its checks fail.
#[tokio::test]
async fn a_server_that_is_down_is_put_back_without_traffic() {
    let lab = Lab::start(|model| {
        model.services[0].check.interval = Duration::from_millis(1500);
        // A failed connection must not mark it down in the place of what is tested.
        model.services[0].observe = false;
    })
    .await;
    let mut task = started(&lab).await;
    task.desired.send(maint()).unwrap();
    shows(&mut task, Admin::Maint).await;
    let down = Desired { down: BTreeMap::from([(server(), 7)]), ..back(&[Admin::Maint]) };
    task.desired.send(down).unwrap();
    shows(&mut task, Admin::Ready).await;
    assert!(!line(&lab, ONPREM).await.usable);
    assert_eq!(lab.site().await, "cloud");
    // Its own check is what brings it back.
    until("HAProxy's check found it", async || line(&lab, ONPREM).await.usable).await;
}

/// What an evacuation does is a matter of health, what a drain does one of administration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evacuation_and_an_order_at_the_same_moment_do_not_fight() {
    for (admin, own) in [(Admin::Drain, 8), (Admin::Maint, 1)] {
        let lab = Lab::start(|model| {
            model.services[0].pools[0].servers[0].maxconn = Some(1);
            // HAProxy's own check must not help within this test.
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
            let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
            seen.queued["api__onprem"] == 5
        })
        .await;
        let evacuation = Evacuation {
            id: ActionId(1),
            proxy: "edge".parse().unwrap(),
            server: server(),
            site: "onprem".parse().unwrap(),
            refuge: Some("cloud".parse().unwrap()),
            epoch: 7,
            generation: 1,
        };
        let wanted = ordered("cloud", admin, &[admin]);
        let down = BTreeMap::from([(server(), 7)]);
        task.desired.send(Desired { down: down.clone(), ..wanted }).unwrap();
        task.evacuations.send(evacuation).await.unwrap();
        let done = task
            .expect("the end of the evacuation", |event| match event {
                Event::Finished(done) => Some(done.outcome),
                _ => None,
            })
            .await;
        assert_eq!(done, Ended::Done, "{admin}");
        let answers = clients.join_all().await;
        assert!(answers.iter().all(|answer| answer.as_deref() == Ok("cloud")), "{admin}: {answers:?}");
        shows(&mut task, admin).await;
        let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
        assert_eq!(seen.open_rescue_lines().count(), 0);
        assert_eq!(bits(&lab, ONPREM).await, own);
        let end = ordered("cloud", Admin::Ready, &[admin]);
        task.desired.send(Desired { down, ..end }).unwrap();
        shows(&mut task, Admin::Ready).await;
        assert!(!line(&lab, ONPREM).await.usable, "{admin}: it is down still");
    }
}

/// The new worker begins with what the old one said before the order ended. What is told as done must be so on the new one,
/// too: nobody would put it back later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_ends_during_a_reload_leaves_nothing_behind() {
    let mut pair = Pair::start().await;
    for round in 1..=5 {
        pair.driver.desired.send(drain()).unwrap();
        shows(&mut pair.driver, Admin::Drain).await;
        pair.reconfigure(round);
        pair.until_in_place().await;
        // Into each part of the reload.
        tokio::time::sleep(Duration::from_millis(8 * u64::from(round - 1))).await;
        pair.driver.desired.send(back(&[Admin::Drain])).unwrap();
        shows(&mut pair.driver, Admin::Ready).await;
        // From here on the core holds it to be nobody's.
        pair.driver.desired.send(nothing()).unwrap();
        pair.in_force().await;
        pair.until_looked().await;
        let lab = &pair.lab;
        until("the master is there again", async || lab.runtime().processes().await.is_ok()).await;
        assert_eq!(bits(lab, ONPREM).await, 0, "round {round}");
        let state = std::fs::read_to_string(lab.dir.path().join("state")).unwrap();
        assert_eq!(state, "1\n", "states are not left behind");
    }
}

#[tokio::test]
async fn many_servers_are_told_at_once() {
    let pools = 40;
    let lab = Lab::start(|model| {
        let first = model.services[0].pools[0].servers[0].clone();
        model.services[0].pools[0].servers = (0..pools)
            .map(|n| {
                let name = if n == 0 { first.name.clone() } else { ident(&format!("api-{n}")) };
                supervisor::actuator::haproxy::template::ServerModel { name, ..first.clone() }
            })
            .collect();
    })
    .await;
    let mut task = Task::start(&lab, "lab");
    task.look("a look", |_| true).await;
    let one =
        DesiredServer { site: "onprem".parse().unwrap(), admin: Admin::Drain, ours: [Admin::Drain].into() };
    let mut wanted = nothing();
    wanted.servers = (0..pools)
        .map(|n| {
            let name = if n == 0 { "api-onprem".to_owned() } else { format!("api-{n}") };
            let id = supervisor::domain::id::ServerId { service: api(), server: name.parse().unwrap() };
            (id, one.clone())
        })
        .collect();
    let began = std::time::Instant::now();
    task.desired.send(wanted).unwrap();
    let drained = AdminSeen { drain: true, ..AdminSeen::default() };
    task.look("all of them", |seen| {
        seen.out.as_ref().is_some_and(|out| out.values().filter(|seen| **seen == drained).count() == pools)
    })
    .await;
    eprintln!("{pools} servers drained after {:?}", began.elapsed());
}
