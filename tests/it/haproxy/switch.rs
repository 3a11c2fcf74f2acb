//! Moving traffic: by map, on every worker, and out of a dead server's hands.

use super::lab::{KeepAlive, Lab, Sockets, free_port, get, ident, routes, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use supervisor::actuator::haproxy::reply::AdminBits;
use supervisor::actuator::haproxy::{
    AdminState, BindCheck, Command, Evacuee, OldWorkers, Outcome, Refuge, SwitchError, Worker, apply,
    close_rescue_line, evacuate, observe, set_routes,
};

const TO_ONPREM: &[(&str, &str)] = &[("api", "api__onprem")];
const TO_CLOUD: &[(&str, &str)] = &[("api", "api__cloud")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn switches_under_load_fail_no_request_and_act_at_once() {
    let lab = Lab::start(|_| {}).await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = tokio::task::JoinSet::new();
    for keeps in [true, true, true, false] {
        let (port, stop, sent) = (lab.port, stop.clone(), sent.clone());
        clients.spawn(async move {
            let mut kept = KeepAlive::connect(port).await;
            while !stop.load(Ordering::SeqCst) {
                match keeps {
                    true => kept.get().await?,
                    false => get(port).await?,
                };
                sent.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<(), String>(())
        });
    }
    let mut kept = KeepAlive::connect(lab.port).await;
    for round in 0..100 {
        let (to, site) = if round % 2 == 0 { (TO_CLOUD, "cloud") } else { (TO_ONPREM, "onprem") };
        let done = set_routes(&lab.runtime(), &lab.map(), &routes(to)).await.unwrap();
        assert_eq!(done.changed, 1);
        assert_eq!(
            kept.get().await.unwrap(),
            site,
            "the first request after the report, on a kept connection"
        );
        assert_eq!(lab.site().await, site, "and on a new one");
    }
    stop.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap().unwrap();
    }
    assert!(sent.load(Ordering::SeqCst) > 400, "only {sent:?} requests were sent");
}

#[tokio::test]
async fn a_client_of_an_old_worker_follows_a_switch() {
    let lab = Lab::start(|_| {}).await;
    let mut kept = KeepAlive::connect(lab.port).await;
    assert_eq!(kept.get().await.unwrap(), "onprem");
    let before = lab.runtime().info().await.unwrap().pid;
    let outcome =
        apply(&lab.target(BindCheck::Local), &lab.rendered(|m| m.proxy.maxconn += 1)).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { pid, .. } if pid != before), "{outcome:?}");

    let done = set_routes(&lab.runtime(), &lab.map(), &routes(TO_CLOUD)).await.unwrap();
    let OldWorkers::Told(told) = done.old_workers else { panic!("{:?}", done.old_workers) };
    assert!(matches!(told.get(&before), Some(Ok(1))), "{told:?}");
    assert_eq!(kept.get().await.unwrap(), "cloud", "over the connection that was opened before the reload");
    assert!(kept.closed(), "the old worker asks its client to open a new connection");
    until("the old worker has ended", async || {
        lab.runtime().processes().await.unwrap().old_workers.is_empty()
    })
    .await;
    let done = set_routes(&lab.runtime(), &lab.map(), &routes(TO_ONPREM)).await.unwrap();
    assert!(matches!(done.old_workers, OldWorkers::Told(told) if told.is_empty()));
}

/// A HAProxy on another machine, or behind a wall through which no Unix socket leads.
#[tokio::test]
async fn over_tcp_a_configuration_is_applied_and_old_workers_follow_a_switch() {
    let lab = Lab::start_with(|_| Sockets::tcp(), |_| {}).await;
    let mut kept = KeepAlive::connect(lab.port).await;
    assert_eq!(kept.get().await.unwrap(), "onprem");
    let before = lab.runtime().info().await.unwrap().pid;
    let outcome =
        apply(&lab.target(BindCheck::Local), &lab.rendered(|m| m.proxy.maxconn += 1)).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { pid, .. } if pid != before), "{outcome:?}");
    let done = set_routes(&lab.runtime(), &lab.map(), &routes(TO_CLOUD)).await.unwrap();
    let OldWorkers::Told(told) = done.old_workers else { panic!("{:?}", done.old_workers) };
    assert!(matches!(told.get(&before), Some(Ok(1))), "{told:?}");
    assert_eq!(kept.get().await.unwrap(), "cloud");
    assert_eq!(lab.site().await, "cloud");
}

#[tokio::test]
async fn several_routes_change_at_once_and_strangers_entries_stay() {
    let lab = Lab::start(|_| {}).await;
    let (runtime, map) = (lab.runtime(), lab.map());
    runtime
        .order(Worker::Current, &Command::add_map(&map, &ident("guest"), &ident("elsewhere")))
        .await
        .unwrap();
    // Enough to need more than one line of commands.
    let mut many = routes(TO_CLOUD);
    many.extend((0..400).map(|n| (ident(&format!("service-{n}")), ident("api__cloud"))));
    let done = set_routes(&runtime, &map, &many).await.unwrap();
    assert_eq!(done.changed, 401);
    let seen = observe(&runtime, &map).await.unwrap().routes.unwrap();
    assert_eq!(seen.len(), 402);
    assert_eq!(seen["guest"], "elsewhere");
    assert!(many.iter().all(|(key, backend)| seen[key.as_str()] == backend.as_str()));
    assert_eq!(lab.site().await, "cloud");
    assert_eq!(set_routes(&runtime, &map, &many).await.unwrap().changed, 0, "nothing to do the second time");
}

#[tokio::test]
async fn a_route_to_a_backend_that_is_not_there_changes_nothing() {
    let lab = Lab::start(|_| {}).await;
    let error = set_routes(&lab.runtime(), &lab.map(), &routes(&[("api", "api__moon")])).await.unwrap_err();
    assert!(matches!(error, SwitchError::NoSuchBackend { .. }), "{error}");
    let one_bad = routes(&[("api", "api__cloud"), ("web", "web__cloud")]);
    let error = set_routes(&lab.runtime(), &lab.map(), &one_bad).await.unwrap_err();
    assert!(matches!(error, SwitchError::NoSuchBackend { .. }), "all or none: {error}");
    assert_eq!(lab.site().await, "onprem");
    let elsewhere = "/no/such.map".parse().unwrap();
    for wanted in [routes(TO_CLOUD), one_bad] {
        let error = set_routes(&lab.runtime(), &elsewhere, &wanted).await.unwrap_err();
        assert!(matches!(error, SwitchError::NoSuchMap(_)), "{error}");
    }
}

/// The queue trap: a hung server with `maxconn 1`, one request in it and the others queued for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hung_server_holds_and_what_waits_for_it_is_answered_elsewhere() {
    let lab = Lab::start(|model| {
        model.services[0].pools[0].servers[0].maxconn = Some(1);
        // HAProxy's own check must not help within this test.
        model.services[0].check.interval = Duration::from_secs(3);
    })
    .await;
    until("the first checks are over", async || {
        let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
        seen.servers.values().filter(|s| s.check_status.as_deref() == Some("L7OK")).count() == 2
    })
    .await;
    lab.onprem.hang(true);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..12 {
        clients.spawn(get(lab.port));
    }
    until("eleven requests are queued", async || {
        observe(&lab.runtime(), &lab.map()).await.unwrap().queued["api__onprem"] == 11
    })
    .await;
    set_routes(&lab.runtime(), &lab.map(), &routes(TO_CLOUD)).await.unwrap();
    let evacuee = Evacuee { backend: ident("api__onprem"), server: ident("api-onprem") };
    let refuge = Refuge { line: ident("r__cloud"), backend: ident("api__cloud") };
    let done = evacuate(&lab.runtime(), &evacuee, Some(&refuge)).await.unwrap();
    assert_eq!(done.left, 0, "{done:?}");
    assert_eq!(done.refuge.map(|addr| addr.port()), Some(lab.cloud.port), "{done:?}");
    let answers = clients.join_all().await;
    assert!(answers.iter().all(|answer| answer.as_deref() == Ok("cloud")), "{answers:?}");
    let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
    assert_eq!(seen.open_rescue_lines().count(), 0, "the rescue line is closed again");
    assert!(!seen.servers[&("api__onprem".to_owned(), "api-onprem".to_owned())].usable);
}

#[tokio::test]
async fn without_a_refuge_the_queue_is_left_and_the_rescue_line_stays_closed() {
    let lab = Lab::start(|model| {
        model.services[0].pools[0].servers[0].maxconn = Some(1);
        model.services[0].check.interval = Duration::from_secs(3);
    })
    .await;
    lab.onprem.hang(true);
    let drain = Command::set_server_state(&ident("api__cloud"), &ident("api-cloud"), AdminState::Maint);
    lab.runtime().order(Worker::Current, &drain).await.unwrap();
    let clients: Vec<_> = (0..3).map(|_| tokio::spawn(get(lab.port))).collect();
    until("requests are queued", async || {
        observe(&lab.runtime(), &lab.map()).await.unwrap().queued["api__onprem"] == 2
    })
    .await;
    let evacuee = Evacuee { backend: ident("api__onprem"), server: ident("api-onprem") };
    let refuge = Refuge { line: ident("r__cloud"), backend: ident("api__cloud") };
    match evacuate(&lab.runtime(), &evacuee, Some(&refuge)).await {
        Err(error) => assert!(error.to_string().contains("api__cloud has no usable server"), "{error}"),
        // 3.0 answers 503 to the queue as soon as the backend has no server left.
        Ok(done) => assert_eq!((done.left, done.pulls, done.refuge), (0, 0, None)),
    }
    assert_eq!(observe(&lab.runtime(), &lab.map()).await.unwrap().open_rescue_lines().count(), 0);
    for client in clients {
        let _ = client.await.unwrap();
    }
}

#[tokio::test]
async fn a_look_shows_who_served_and_what_is_out_of_place() {
    let lab = Lab::start(|_| {}).await;
    let (runtime, map) = (lab.runtime(), lab.map());
    let before = observe(&runtime, &map).await.unwrap();
    assert_eq!((before.owner.as_deref(), before.revision.is_some()), (Some("lab"), true));
    assert_eq!(before.routes.as_ref().unwrap()["api"], "api__onprem");
    for _ in 0..3 {
        assert_eq!(lab.site().await, "onprem");
    }
    let after = observe(&runtime, &map).await.unwrap();
    assert!(after.same_worker(&before));
    assert_eq!(after.served_since(&before)["api"], [("onprem", 3)].into());
    assert_eq!(after.served_since(&after).len(), 0);

    // The pool's own server gone: the backup line of the other site serves, and that is what is told.
    let (backend, line) = (ident("api__onprem"), ident("r__cloud"));
    let maint = Command::set_server_state(&backend, &ident("api-onprem"), AdminState::Maint);
    runtime.order(Worker::Current, &maint).await.unwrap();
    assert_eq!(lab.site().await, "cloud");
    runtime
        .order(Worker::Current, &Command::set_server_state(&backend, &line, AdminState::Ready))
        .await
        .unwrap();
    let last = observe(&runtime, &map).await.unwrap();
    assert_eq!(last.served_since(&after)["api"], [("cloud", 1)].into());
    assert_eq!(last.open_rescue_lines().collect::<Vec<_>>(), [("api__onprem", "r__cloud")]);
    let seen = |name: &str| &last.servers[&("api__onprem".to_owned(), name.to_owned())];
    assert_eq!(seen("api-onprem").admin, AdminBits(1));
    close_rescue_line(&runtime, &backend, &line).await.unwrap();
    assert_eq!(observe(&runtime, &map).await.unwrap().open_rescue_lines().count(), 0);
    let other = observe(&runtime, &format!("/{}.map", free_port()).parse().unwrap()).await.unwrap();
    assert_eq!(other.routes, None, "a map that is not used is not an empty one");
}
