//! Going back to a configuration that HAProxy ran: through the daemon and without one, held until the settings change.

use super::world::{Daemon, World, said};
use crate::haproxy::lab::until;
use serde_json::Value;
use std::net::TcpListener;
use supervisor::actuator::haproxy::history;

/// The settings with another number of connections: another configuration.
fn with_maxconn(world: &World, maxconn: u32) -> String {
    world.settings().replace("[proxies.edge]", &format!("[proxies.edge]\nmaxconn = {maxconn}"))
}

fn config(world: &World) -> String {
    std::fs::read_to_string(world.path("haproxy.cfg")).unwrap()
}

fn has(world: &World, maxconn: u32) -> bool {
    config(world).contains(&format!("\n    maxconn {maxconn}\n"))
}

/// The revisions that are kept, the newest first.
fn kept(world: &World) -> Vec<String> {
    history::list(&world.path("haproxy.cfg")).unwrap().into_iter().map(|entry| entry.revision).collect()
}

/// The order was answered by who carried it out; the status follows within milliseconds.
async fn until_stands(daemon: &Daemon, state: &str, revision: &str) {
    let what = format!("the status shows {revision} {state}");
    daemon
        .until(&what, |view| {
            let config = &view.proxies[0].config;
            config.state == state && config.revision.as_deref() == Some(revision)
        })
        .await;
}

/// The settings with the service at another port: another configuration.
fn with_bind(world: &World, port: u16) -> String {
    let ours = format!("bind = \"127.0.0.1:{}\"", world.port);
    world.settings().replace(&ours, &format!("bind = \"127.0.0.1:{port}\""))
}

/// What the journal tells of orders about the configuration, in words.
fn events(world: &World) -> String {
    let text = ok(world, &["events", "--limit", "200"]);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn ok(world: &World, arguments: &[&str]) -> String {
    let output = world.command(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// Two configurations that HAProxy ran, the second of which it runs.
async fn two(world: &World) -> (Daemon, String, String) {
    let daemon = world.running().await;
    until("the first is kept", async || kept(world).len() == 1).await;
    world.write(&with_maxconn(world, 1234));
    until("the second is kept", async || kept(world).len() == 2).await;
    let revisions = kept(world);
    // It is kept when HAProxy is seen to run it, and known when the reload has been verified.
    daemon
        .until("the second is in force", |view| {
            let config = &view.proxies[0].config;
            config.state == "in_force" && config.revision.as_ref() == Some(&revisions[0])
        })
        .await;
    (daemon, revisions[1].clone(), revisions[0].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_held_by_the_daemon_until_the_settings_change() {
    let world = World::new().await;
    let (mut daemon, first, second) = two(&world).await;
    let list = ok(&world, &["haproxy", "history"]);
    assert!(list.contains(&format!("* {second}")) && list.contains(&format!("  {first}")), "{list}");

    let worker = world.worker().await;
    let rehearsed = ok(&world, &["haproxy", "rollback", "--dry-run"]);
    assert!(rehearsed.contains(&format!("would load {first} in place of {second}")), "{rehearsed}");
    assert!(rehearsed.contains("-    maxconn 1234"), "the difference is shown: {rehearsed}");
    assert_eq!((world.worker().await, has(&world, 1234)), (worker, true), "nothing was done");

    let done = ok(&world, &["haproxy", "rollback", "--reason", "the new one is slow"]);
    assert!(done.contains(&format!("HAProxy runs {first} now")), "{done}");
    assert!(!has(&world, 1234) && world.worker().await != worker);
    until_stands(&daemon, "held", &first).await;
    assert_eq!(world.site().await.as_deref(), Ok("onprem"), "traffic flows as before");
    for command in [&["status"][..], &["explain", "api"], &["haproxy", "history"]] {
        let words: Vec<String> =
            said(&world.command(command)).split_whitespace().map(str::to_owned).collect();
        let text = words.join(" ");
        assert!(text.contains("held at") && text.contains("the new one is slow"), "{command:?}: {text}");
    }
    let again = ok(&world, &["haproxy", "rollback", &first[..6]]);
    assert!(again.contains("is what it runs already"), "{again}");

    // Neither its own looks, nor a new daemon, load what the settings lead to.
    daemon.stop().await;
    let mut daemon = world.run();
    daemon.until("it is held still", |view| view.proxies[0].config.state == "held").await;
    assert!(!has(&world, 1234));

    // Other settings end it, and that is said.
    world.write(&with_maxconn(&world, 2345));
    until("what the settings lead to runs", async || has(&world, 2345)).await;
    daemon.until("and is shown", |view| view.proxies[0].config.state == "in_force").await;
    daemon.until_logged("is held no longer").await;
    assert!(!world.path("haproxy.cfg.held").exists());
    daemon.stop().await;
    let journal = said(&world.command(&["haproxy", "history"]));
    assert!(!journal.contains("held at"), "{journal}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resume_ends_it_and_unknown_revisions_are_denied() {
    let world = World::new().await;
    let (daemon, first, second) = two(&world).await;
    let unknown = world.command(&["haproxy", "rollback", "ffffffff"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    assert!(
        said(&unknown).contains("denied: no configuration of revision ffffffff is kept"),
        "{}",
        said(&unknown)
    );
    let nothing = ok(&world, &["haproxy", "resume"]);
    assert!(nothing.contains("nothing is held"), "{nothing}");

    ok(&world, &["haproxy", "rollback", &first]);
    until_stands(&daemon, "held", &first).await;
    let output = world.command(&["haproxy", "resume", "--format", "json"]);
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    assert_eq!(
        (&document["verdict"], &document["stands"]["state"]),
        (&"accepted".into(), &"in_force".into()),
        "{document}"
    );
    assert_eq!(document["stands"]["revision"], second.as_str());
    assert!(has(&world, 1234));

    // A kept file that was edited is not what it says it is.
    let dir = world.path("haproxy.cfg.history");
    let file = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.display().to_string().contains(&first)).unwrap();
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + "# edited\n").unwrap();
    let edited = world.command(&["haproxy", "rollback", &first]);
    assert_eq!(edited.status.code(), Some(1), "{}", said(&edited));
    assert!(said(&edited).contains("is not whole"), "{}", said(&edited));
    assert!(has(&world, 1234));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_daemon_the_command_does_it_and_the_next_daemon_keeps_to_it() {
    let world = World::new().await;
    let (mut daemon, first, second) = two(&world).await;
    daemon.stop().await;
    let done = ok(&world, &["haproxy", "rollback", "--reason", "by hand"]);
    assert!(done.contains(&format!("HAProxy runs {first} now")), "{done}");
    assert!(!has(&world, 1234));
    let daemon = world.run();
    daemon.until("it is held", |view| view.proxies[0].config.state == "held").await;
    assert!(!has(&world, 1234));
    ok(&world, &["haproxy", "resume"]);
    until_stands(&daemon, "in_force", &second).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_compared_with_what_the_settings_lead_to() {
    let world = World::new().await;
    let stub = world.command(&["render", "--diff"]);
    assert_eq!(stub.status.code(), Some(1), "{}", said(&stub));
    assert!(
        said(&stub).contains("-listen stub") && said(&stub).contains("+backend api__onprem"),
        "{}",
        said(&stub)
    );
    let mut daemon = world.running().await;
    until("the file is written", async || kept(&world).len() == 1).await;
    assert_eq!(ok(&world, &["render", "--diff"]), "");
    daemon.stop().await;
    world.write(&with_maxconn(&world, 1234));
    let text = said(&world.command(&["render", "--diff"]));
    assert!(text.contains("+    maxconn 1234") && text.contains("+++ the settings"), "{text}");
    let output = world.command(&["render", "--diff", "--format", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((output.status.code(), &document["same"]), (Some(1), &Value::Bool(false)), "{document}");
}

/// The settings lead to a configuration that HAProxy refuses, and somebody is told what came of this order and not of the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_answered_is_what_came_of_this_order() {
    let world = World::new().await;
    let (daemon, first, second) = two(&world).await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    world.write(&with_bind(&world, port));
    daemon.until("it is refused", |view| view.proxies[0].config.state == "refused").await;

    let done = ok(&world, &["haproxy", "rollback", &first, "--reason", "to be sure"]);
    assert!(done.contains(&format!("HAProxy runs {first} now")), "{done}");
    let refused = world.command(&["haproxy", "resume", "--reason", "once more"]);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("cannot be bound"), "{}", said(&refused));
    // Nothing is held, and it does not run what the settings lead to: that is tried again.
    let again = world.command(&["haproxy", "resume"]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    let words = said(&again).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("is tried again"), "{words}");
    drop(taken);
    let taken = ok(&world, &["haproxy", "resume"]);
    assert!(taken.contains("HAProxy runs "), "{taken}");
    daemon.until("it is in force", |view| view.proxies[0].config.state == "in_force").await;

    let told = events(&world);
    for words in [
        format!("is ordered back to rev {first}, in place of {second} by "),
        "(to be sure)".to_owned(),
        format!("in place of {first}, which was held, by "),
        "(once more)".to_owned(),
        "which is tried again, by ".to_owned(),
    ] {
        assert!(told.contains(&words), "{words:?} is not in {told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_that_haproxy_refuses_ends_and_what_ran_goes_on() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    until("the first is kept", async || kept(&world).len() == 1).await;
    let first = kept(&world)[0].clone();
    let port = crate::haproxy::lab::free_port();
    for (number, text) in [
        with_bind(&world, port),
        with_bind(&world, port).replace("[proxies.edge]", "[proxies.edge]\nmaxconn = 1234"),
    ]
    .iter()
    .enumerate()
    {
        world.write(text);
        until("one more is kept", async || kept(&world).len() == number + 2).await;
    }
    let [third, second] = [kept(&world)[0].clone(), kept(&world)[1].clone()];
    until_stands(&daemon, "in_force", &third).await;
    // Another program has the port that the first one had.
    let _taken = TcpListener::bind(("127.0.0.1", world.port)).unwrap();
    let worker = world.worker().await;
    let refuse = || {
        let refused = world.command(&["haproxy", "rollback", &first, "--reason", "it was good"]);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        let words = said(&refused).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("goes on with what it ran") && words.contains("cannot be bound"), "{words}");
    };
    refuse();
    assert!(!world.path("haproxy.cfg.held").exists(), "it is tried no further");
    assert_eq!(world.worker().await, worker);
    until_stands(&daemon, "in_force", &third).await;
    let told = events(&world);
    let words = format!("goes on with what it ran: rev {first}, which ");
    assert!(told.contains(&words) && told.contains("went back to (it was good), was refused"), "{told}");

    // What was held before is held again: what the settings lead to was left on purpose.
    ok(&world, &["haproxy", "rollback"]);
    until_stands(&daemon, "held", &second).await;
    refuse();
    let held = || history::held(&world.path("haproxy.cfg")).unwrap().unwrap().revision;
    assert_eq!(held(), second);
    until_stands(&daemon, "held", &second).await;
    // Nor does it go another way without a daemon.
    daemon.stop().await;
    refuse();
    assert_eq!(held(), second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn going_back_twice_goes_further_back_and_not_to_what_was_left() {
    let world = World::new().await;
    let (daemon, first, second) = two(&world).await;
    world.write(&with_maxconn(&world, 2345));
    until("the third is kept", async || kept(&world).len() == 3).await;
    let third = kept(&world)[0].clone();
    until_stands(&daemon, "in_force", &third).await;
    ok(&world, &["haproxy", "rollback"]);
    until_stands(&daemon, "held", &second).await;
    ok(&world, &["haproxy", "rollback"]);
    until_stands(&daemon, "held", &first).await;
    let none = world.command(&["haproxy", "rollback"]);
    assert_eq!(none.status.code(), Some(1), "{}", said(&none));
    assert!(said(&none).contains("no other configuration is kept"), "{}", said(&none));
    // Who names one gets it.
    ok(&world, &["haproxy", "rollback", &second]);
    until_stands(&daemon, "held", &second).await;
    ok(&world, &["haproxy", "resume"]);
    until_stands(&daemon, "in_force", &third).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_daemon_they_need_no_settings_that_load() {
    let world = World::new().await;
    let (mut daemon, first, second) = two(&world).await;
    world.write(&with_maxconn(&world, 1234).replace("prefer = [\"onprem\"", "prefer = [\"nowhere\""));
    daemon.until("the daemon keeps its own", |view| !view.problems.is_empty()).await;
    let list = ok(&world, &["haproxy", "history"]);
    assert!(list.contains(&format!("* {second}")), "{list}");
    let rehearsed = ok(&world, &["haproxy", "rollback", "--dry-run"]);
    assert!(rehearsed.contains("-    maxconn 1234"), "{rehearsed}");
    // Not even TOML.
    world.write(&(with_maxconn(&world, 1234) + "\n[services.api\n"));
    ok(&world, &["haproxy", "rollback"]);
    until_stands(&daemon, "held", &first).await;
    daemon.stop().await;
    let neither = world.command(&["haproxy", "rollback"]);
    assert_eq!(neither.status.code(), Some(64), "{}", said(&neither));
    let words = said(&neither);
    assert!(words.contains("Without a daemon the settings are needed, and do not load"), "{words}");
}

/// HAProxy quotes the configuration that it refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_in_the_configuration_is_nowhere_in_what_is_told_of_it() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    let template = world.path("own.tera");
    let refused = "frontend own\n    bind unix@own.sock\n    mode http\n    \
                   http-request set-header Authorization Basic tops3cret\n";
    let own = format!("{}\n{refused}", supervisor::actuator::haproxy::template::DEFAULT_TEMPLATE);
    std::fs::write(&template, own).unwrap();
    let named = format!("[proxies.edge]\ntemplate = \"{}\"", template.display());
    world.write(&world.settings().replace("[proxies.edge]", &named));
    daemon.until("it is refused", |view| view.proxies[0].config.state == "refused").await;
    let words = daemon.view().await.unwrap().proxies[0].config.words.clone().unwrap();
    assert!(words.contains("'***'"), "HAProxy has quoted it: {words}");
    let shown = [
        said(&world.command(&["status", "--format", "json"])),
        said(&world.command(&["explain", "api"])),
        said(&world.command(&["events", "--format", "json"])),
        said(&world.command(&["haproxy", "resume"])),
        said(&world.command(&["doctor"])),
        said(&world.command(&["journal", "export"])),
    ];
    daemon.stop().await;
    for text in shown.iter().chain([&daemon.log()]) {
        assert!(!text.contains("tops3cret"), "{text}");
    }
}

/// Nobody can ask HAProxy whose it is; the file beside it says who holds what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_supervisor_holds_stays_also_when_haproxy_is_silent() {
    let mut world = World::new().await;
    let (daemon, first, _) = two(&world).await;
    ok(&world, &["haproxy", "rollback"]);
    until_stands(&daemon, "held", &first).await;
    drop(daemon);
    world.stop_haproxy();
    let path = world.path("haproxy.cfg.held");
    let mut hold: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    hold["owner"] = "another".into();
    let theirs = serde_json::to_vec(&hold).unwrap();
    std::fs::write(&path, &theirs).unwrap();

    let daemon = world.run();
    world.write(&with_maxconn(&world, 2345));
    until("the next start of HAProxy is prepared", async || has(&world, 2345)).await;
    assert_eq!(std::fs::read(&path).unwrap(), theirs);
    for order in ["rollback", "resume"] {
        let denied = world.command(&["haproxy", order]);
        assert_eq!(denied.status.code(), Some(1), "{}", said(&denied));
        assert!(said(&denied).contains("another supervisor (another) holds"), "{}", said(&denied));
    }
    assert_eq!(std::fs::read(&path).unwrap(), theirs);
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_others_load_again_and_again_is_left_to_them_and_told() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    daemon.until("ours runs", |view| view.proxies[0].config.state == "in_force").await;
    let (ours, text) = (world.description().await.unwrap(), config(&world));
    let theirs = "of-somebody-else";
    for time in 1..=3 {
        std::fs::write(world.path("haproxy.cfg"), text.replace(&ours, theirs)).unwrap();
        world.reload().await;
        until("theirs is loaded", async || world.description().await.as_deref() == Some(theirs)).await;
        if time < 3 {
            // A turn comes every five seconds; and who reloads before this one has been verified makes it unproven.
            let again = time + 1;
            until("ours is loaded again", async || {
                daemon.log().matches("HAProxy was reloaded").count() == again
            })
            .await;
        }
    }
    daemon.until("it is left so", |view| view.proxies[0].config.state == "contested").await;
    assert_eq!(world.description().await.as_deref(), Some(theirs));
    daemon.until("an incident says so", |view| !view.incidents.is_empty()).await;
    assert_eq!(world.site().await.as_deref(), Ok("onprem"), "traffic flows as before");
    let told = said(&world.command(&["explain", "api"]));
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("loads another configuration: 3 times within 10 min"), "{told}");

    let done = ok(&world, &["haproxy", "resume"]);
    assert!(done.contains("HAProxy runs"), "{done}");
    assert_eq!(world.description().await, Some(ours));
    daemon.stop().await;
}
