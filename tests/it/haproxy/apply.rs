//! Changing the configuration of a HAProxy that serves.

use super::lab::{Lab, binary, free_port, get, ident, model, routes, until};
use std::path::Path;
use std::time::Duration;
use supervisor::actuator::haproxy::reply::Version;
use supervisor::actuator::haproxy::template::{DEFAULT_TEMPLATE, Mode, Rendered, render};
use supervisor::actuator::haproxy::{
    ApplyError, BindCheck, Handoff, LocalBinary, Outcome, Stage, Target, Validate, Validation, apply,
    install, observe, set_routes,
};

#[tokio::test]
async fn the_template_is_accepted_without_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = model(dir.path(), 8080, 5000, 5001);
    model.proxy.metrics_bind = Some("127.0.0.1:8405".into());
    model.proxy.nameservers = vec!["127.0.0.11:53".into()];
    model.services[0].pools[0].servers[0].address = "api-onprem:5000".into();
    let mut variants = Vec::new();
    for (index, (name, change)) in
        [("web", Mode::Http), ("store", Mode::Http), ("db", Mode::Tcp)].into_iter().enumerate()
    {
        let mut service = model.services[0].clone();
        service.name = ident(name);
        service.mode = change;
        service.host = (name == "web").then(|| "web.example".into());
        service.stateful = name == "store";
        service.observe = name != "store";
        service.bind = if name == "web" {
            model.services[0].bind.clone()
        } else {
            format!("127.0.0.1:{}", 9000 + index)
        };
        if change == Mode::Tcp {
            service.check.http = None;
        }
        variants.push(service);
    }
    model.services.extend(variants);
    let rendered = render(&model, DEFAULT_TEMPLATE).unwrap();
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, &rendered.text).unwrap();
    std::fs::write(dir.path().join("state"), "1\n").unwrap();
    std::fs::write(dir.path().join("routes.map"), "").unwrap();
    let verdict = LocalBinary(binary()).validate(&file).await.unwrap();
    assert_eq!(verdict, Validation::Accepted { warnings: String::new() }, "{}", rendered.text);
}

#[tokio::test]
async fn a_good_configuration_is_applied_once_and_proved_by_its_revision() {
    let lab = Lab::start(|_| {}).await;
    let target = lab.target(BindCheck::Local);
    let old = std::fs::read_to_string(lab.config_file()).unwrap();
    assert_eq!(apply(&target, &lab.rendered(|_| {})).await.unwrap(), Outcome::Unchanged);
    assert_eq!(std::fs::read_to_string(lab.dir.path().join("haproxy.cfg.last-good")).unwrap(), old);
    let new = lab.rendered(|model| model.proxy.maxconn += 1);
    let outcome = apply(&target, &new).await.unwrap();
    let Outcome::Applied { pid, warnings, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(warnings, "");
    let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
    assert_eq!((seen.pid, seen.revision.as_ref()), (pid, Some(&new.revision)));
    assert_eq!(std::fs::read_to_string(lab.config_file()).unwrap(), new.text);
    assert_eq!(std::fs::read_to_string(lab.dir.path().join("haproxy.cfg.last-good")).unwrap(), new.text);
    assert_eq!(
        std::fs::read_to_string(lab.dir.path().join("state")).unwrap(),
        "1\n",
        "states are not left behind"
    );
    // Nor those that a reload has left whose end nobody saw.
    std::fs::write(lab.dir.path().join("state"), "1\n# be_id be_name\n").unwrap();
    assert_eq!(apply(&target, &new).await.unwrap(), Outcome::Unchanged);
    assert_eq!(std::fs::read_to_string(lab.dir.path().join("state")).unwrap(), "1\n");

    // Edited by hand, but not loaded: what runs is what is put back, without a reload.
    std::fs::write(lab.config_file(), "nonsense").unwrap();
    assert_eq!(apply(&target, &new).await.unwrap(), Outcome::Unchanged);
    assert_eq!(std::fs::read_to_string(lab.config_file()).unwrap(), new.text);
    assert_eq!(lab.runtime().info().await.unwrap().pid, pid);
}

#[tokio::test]
async fn reloads_under_load_fail_no_request() {
    let lab = Lab::start(|_| {}).await;
    let port = lab.port;
    let (stop, mut stopped) = tokio::sync::watch::channel(());
    let client = tokio::spawn(async move {
        let mut sent = 0;
        while !stopped.has_changed().unwrap_or(true) {
            get(port).await?;
            sent += 1;
        }
        stopped.mark_unchanged();
        Ok::<u32, String>(sent)
    });
    for round in 1..=3 {
        let outcome =
            apply(&lab.target(BindCheck::Local), &lab.rendered(|m| m.proxy.maxconn += round)).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    }
    stop.send(()).unwrap();
    assert!(client.await.unwrap().unwrap() > 30);
}

/// Everything as before: the file, the worker, the answer.
async fn untouched(lab: &Lab, text: &str, pid: u32) {
    assert_eq!(std::fs::read_to_string(lab.config_file()).unwrap(), text);
    assert_eq!(lab.runtime().info().await.unwrap().pid, pid);
    assert_eq!(lab.site().await, "onprem");
    let beside = std::fs::read_dir(lab.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(
        !beside.into_iter().any(|name| name.to_string_lossy().ends_with(".new")),
        "a file was left beside"
    );
}

#[tokio::test]
async fn a_file_that_haproxy_refuses_touches_nothing_and_says_where() {
    let lab = Lab::start(|_| {}).await;
    let (text, pid) =
        (std::fs::read_to_string(lab.config_file()).unwrap(), lab.runtime().info().await.unwrap().pid);
    let template = format!("{DEFAULT_TEMPLATE}\nbackend broken from http\n    frobnicate\n");
    let bad = render(&lab.model, &template).unwrap();
    let outcome = apply(&lab.target(BindCheck::Local), &bad).await.unwrap();
    let Outcome::Rejected { stage: Stage::Validation, message } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains("frobnicate") && message.contains("/haproxy.cfg:"), "{message}");
    untouched(&lab, &text, pid).await;
}

#[tokio::test]
async fn a_taken_address_is_found_before_haproxy_stops_for_it() {
    let lab = Lab::start(|_| {}).await;
    let (text, pid) =
        (std::fs::read_to_string(lab.config_file()).unwrap(), lab.runtime().info().await.unwrap().pid);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let new = lab.rendered(|model| model.proxy.metrics_bind = Some(taken.local_addr().unwrap().to_string()));
    let outcome = apply(&lab.target(BindCheck::Local), &new).await.unwrap();
    let Outcome::Rejected { stage: Stage::Binds, message } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains(&taken.local_addr().unwrap().to_string()), "{message}");
    untouched(&lab, &text, pid).await;
}

/// 2.6 says nothing to a failed reload, later versions say why: either way it is known that it failed.
#[tokio::test]
async fn a_reload_that_haproxy_fails_is_told_and_taken_back() {
    let lab = Lab::start(|_| {}).await;
    let (text, pid) =
        (std::fs::read_to_string(lab.config_file()).unwrap(), lab.runtime().info().await.unwrap().pid);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let new = lab.rendered(|model| model.proxy.metrics_bind = Some(taken.local_addr().unwrap().to_string()));
    let target = lab.target(BindCheck::Skip);
    // Up to 3.0 failures are counted; later versions remember the last one.
    let counted = lab.runtime().info().await.unwrap().version <= Version { major: 3, minor: 0 };
    for round in 1..=3 {
        let outcome = apply(&target, &new).await.unwrap();
        let Outcome::Rejected { stage: Stage::Reload, message } = outcome else { panic!("{outcome:?}") };
        assert!(message.contains("bind"), "{message}");
        untouched(&lab, &text, pid).await;
        let seen = lab.runtime().processes().await.unwrap();
        assert_eq!(seen.failed, if counted { round } else { 1 });
        assert_eq!(seen.workers.iter().map(|worker| worker.pid).collect::<Vec<_>>(), [pid]);
        // A switch reaches the worker, whatever a failed one did to its socket.
        for (backend, site) in [("api__cloud", "cloud"), ("api__onprem", "onprem")] {
            set_routes(&lab.runtime(), &lab.map(), &routes(&[("api", backend)])).await.unwrap();
            assert_eq!(lab.site().await, site);
        }
        // HAProxy would begin with these states when it crashes next week.
        assert_eq!(std::fs::read_to_string(lab.dir.path().join("state")).unwrap(), "1\n");
    }
    // After failures, which HAProxy goes on counting, a good one is still recognised.
    drop(taken);
    let outcome = apply(&target, &new).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { pid: new, .. } if new != pid), "{outcome:?}");
    let admin = supervisor::actuator::haproxy::Client::unix(lab.dir.path().join("admin.sock"));
    let alone = supervisor::actuator::haproxy::Runtime::new(admin, None);
    assert_ne!(alone.info().await.unwrap().pid, pid, "its own socket leads to the worker again");
}

#[tokio::test]
async fn a_server_that_is_down_is_still_down_after_a_reload_also_for_those_that_track_it() {
    let lab = Lab::start(|model| {
        model.services[0].check.interval = Duration::from_millis(100);
        model.services[0].check.timeout = Duration::from_millis(100);
    })
    .await;
    lab.onprem.hang(true);
    let usable = async |backend: &str, server: &str| {
        let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
        seen.servers[&(backend.to_owned(), server.to_owned())].usable
    };
    until("HAProxy has seen it", async || !usable("api__onprem", "api-onprem").await).await;
    let slow = lab.rendered(|model| model.services[0].check.interval = Duration::from_secs(60));
    let outcome = apply(&lab.target(BindCheck::Local), &slow).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    assert!(!usable("api__onprem", "api-onprem").await);
    assert!(!usable("api__cloud", "x__onprem").await, "the backup line follows the server that it tracks");
    assert!(usable("api__cloud", "api-cloud").await && usable("api__onprem", "x__cloud").await);
    assert_eq!(lab.site().await, "cloud", "the new worker sends nothing to a server that it never saw");
}

#[tokio::test]
async fn a_changed_port_is_not_overridden_by_remembered_state() {
    let lab = Lab::start(|_| {}).await;
    let moved = super::lab::Upstream::start("moved").await;
    let new = lab.rendered(|model| {
        model.services[0].pools[0].servers[0].address = format!("127.0.0.1:{}", moved.port);
    });
    let outcome = apply(&lab.target(BindCheck::Local), &new).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    assert_eq!(lab.site().await, "moved");
}

#[tokio::test]
async fn a_haproxy_that_does_not_run_is_left_a_checked_file_to_start_with() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path(), free_port(), 5000, 5001);
    let client = |name| supervisor::actuator::haproxy::Client::unix(dir.path().join(name));
    let target = Target {
        runtime: supervisor::actuator::haproxy::Runtime::new(
            client("admin.sock"),
            Some(client("master.sock")),
        ),
        config_file: dir.path().join("haproxy.cfg"),
        state_file: dir.path().join("state"),
        map_file: dir.path().join("routes.map"),
        validator: std::sync::Arc::new(LocalBinary(binary())),
        binds: BindCheck::Local,
        deadline: Duration::from_secs(1),
        handoff: Handoff::default(),
    };
    let rendered = render(&model, DEFAULT_TEMPLATE).unwrap();
    assert!(matches!(apply(&target, &rendered).await, Err(ApplyError::NotReachable(_))));
    assert!(!target.config_file.exists());
    let bad = Rendered { text: "frobnicate\n".into(), ..rendered.clone() };
    assert!(install(&target, &bad).await.unwrap().unwrap_err().contains("frobnicate"));
    assert!(!target.config_file.exists());
    install(&target, &rendered).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&target.config_file).unwrap(), rendered.text);
    assert_eq!(std::fs::read_to_string(&target.state_file).unwrap(), "1\n");
    let missing =
        LocalBinary(Path::new("/no/such/haproxy").into()).validate(&target.config_file).await.unwrap_err();
    assert!(missing.to_string().contains("/no/such/haproxy"), "{missing}");
}
