//! What becomes of containers when their engine, or supervisor itself, was away: the real program, an engine that the test
//! stops, kills and freezes.

use super::second::{IGNORES, OBEYS, Second};
use super::world::{Daemon, World};
use crate::haproxy::lab::until_within;
use std::time::{Duration, Instant};
use supervisor::status::{ContainerView, View};
use tokio::time::sleep;

/// An engine that is back must be known again within this.
const RESYNCHRONISED_WITHIN: Duration = Duration::from_secs(10);

/// Docker's own policies go first for 5 s after an engine is back; before that it is tried again every 5 s at most.
const STARTED_WITHIN: Duration = Duration::from_secs(20);

/// Settings that look after the containers `names` of the second engine.
pub(super) fn looking_after(world: &World, second: &Second, names: &[&str]) -> String {
    let tables: String = names.iter().map(|name| format!("[containers.{name}]\n")).collect();
    format!("{}\n[engines.second]\naddress = \"{}\"\n{tables}", world.settings(), second.address())
}

/// A daemon that looks after `names` and has seen each of them run.
pub(super) async fn watching(world: &World, second: &Second, names: &[&str]) -> Daemon {
    world.write(&looking_after(world, second, names));
    let daemon = world.running().await;
    for name in names {
        daemon.until(&format!("{name} runs"), |view| phase(view, name) == "runs").await;
    }
    daemon
}

pub(super) fn of<'a>(view: &'a View, name: &str) -> &'a ContainerView {
    view.containers.iter().find(|seen| seen.name == name).unwrap()
}

pub(super) fn phase<'a>(view: &'a View, name: &str) -> &'a str {
    &of(view, name).phase
}

/// Waits until each container is in its phase.
pub(super) async fn until_phases(daemon: &Daemon, longest: Duration, wanted: &[(&str, &[&str])]) -> Duration {
    let begun = Instant::now();
    let mut view = daemon.view().await.unwrap();
    while !wanted.iter().all(|(name, phases)| phases.contains(&phase(&view, name))) {
        assert!(
            begun.elapsed() < longest,
            "waited {longest:?} in vain for {wanted:?}: {:#?}",
            view.containers
        );
        sleep(Duration::from_millis(10)).await;
        view = daemon.view().await.unwrap();
    }
    begun.elapsed()
}

/// Whether each container runs, and how often supervisor has started it.
async fn assert_started(daemon: &Daemon, second: &Second, expected: &[(&str, bool, usize)]) {
    let view = daemon.view().await.unwrap();
    for (name, runs, starts) in expected {
        let found = (second.runs(name).await, of(&view, name).starts);
        assert_eq!(found, (*runs, *starts), "{name}: {:?}", of(&view, name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_stopped_stops_its_containers_and_no_person_does() {
    let (world, mut second) = (World::new().await, Second::start().await);
    second.create("plain", "", OBEYS).await;
    second.create("slow", "", IGNORES).await;
    second.create("always", "--restart always", OBEYS).await;
    second.create("stopped", "", OBEYS).await;
    // Nobody looks after it, and the engine waits for it.
    second.docker("run -d --network none --stop-timeout 4 --name others tiny sleep 1000").await;
    let daemon = watching(&world, &second, &["plain", "slow", "always", "stopped"]).await;
    second.docker("stop stopped").await;
    until_phases(&daemon, RESYNCHRONISED_WITHIN, &[("stopped", &["held"])]).await;

    second.end("TERM").await;
    let gone = [
        ("plain", &["with_engine"][..]),
        ("slow", &["with_engine"]),
        ("always", &["with_engine"]),
        ("stopped", &["held"]),
    ];
    until_phases(&daemon, RESYNCHRONISED_WITHIN, &gone).await;
    second.start_engine().await;
    let back =
        [("plain", &["docker"][..]), ("slow", &["docker"]), ("always", &["runs"]), ("stopped", &["held"])];
    let took = until_phases(&daemon, RESYNCHRONISED_WITHIN, &back).await;
    println!("resynchronised {took:?} after the engine that was stopped answered again");
    let all = [("plain", &["runs"][..]), ("slow", &["runs"]), ("always", &["runs"]), ("stopped", &["held"])];
    until_phases(&daemon, STARTED_WITHIN, &all).await;
    let expected = [("plain", true, 1), ("slow", true, 1), ("always", true, 0), ("stopped", false, 0)];
    assert_started(&daemon, &second, &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_leaves_containers_down_and_they_are_started() {
    let (world, mut second) = (World::new().await, Second::start().await);
    second.create("plain", "", OBEYS).await;
    second.create("unless", "--restart unless-stopped", OBEYS).await;
    second.create("always", "--restart always", OBEYS).await;
    second.create("stopped", "--restart unless-stopped", OBEYS).await;
    let names = ["plain", "unless", "always", "stopped"];
    let mut daemon = watching(&world, &second, &names).await;
    second.docker("stop stopped").await;
    until_phases(&daemon, RESYNCHRONISED_WITHIN, &[("stopped", &["held"])]).await;

    second.end("KILL").await;
    second.start_engine().await;
    // What it ended as it began it announces as a person's stop, and no policy of its own starts it.
    let back =
        [("plain", &["docker"][..]), ("unless", &["docker"]), ("always", &["runs"]), ("stopped", &["held"])];
    let took = until_phases(&daemon, RESYNCHRONISED_WITHIN, &back).await;
    println!("resynchronised {took:?} after the engine that was killed answered again");
    let all =
        [("plain", &["runs"][..]), ("unless", &["runs"]), ("always", &["runs"]), ("stopped", &["held"])];
    until_phases(&daemon, STARTED_WITHIN, &all).await;
    let expected = [("plain", true, 1), ("unless", true, 1), ("always", true, 0), ("stopped", false, 0)];
    assert_started(&daemon, &second, &expected).await;

    // The same while supervisor is not there: its engine's memory tells.
    daemon.stop().await;
    second.end("KILL").await;
    second.start_engine().await;
    let daemon = world.run();
    until_within(STARTED_WITHIN, "supervisor answers", async || daemon.view().await.is_ok()).await;
    until_phases(&daemon, STARTED_WITHIN, &all).await;
    let expected = [("plain", true, 2), ("unless", true, 2), ("always", true, 0), ("stopped", false, 0)];
    assert_started(&daemon, &second, &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_while_an_engine_is_frozen_is_known_when_it_thaws() {
    let (world, second) = (World::new().await, Second::start().await);
    for name in ["stopped", "crashed", "untouched"] {
        second.create(name, "", OBEYS).await;
    }
    let daemon = watching(&world, &second, &["stopped", "crashed", "untouched"]).await;
    let pid = second.pid("crashed").await;
    second.signal("STOP");
    let frozen = Instant::now();
    // A person's stop waits in the frozen engine; a crash needs no engine.
    let mut stop = second.command("stop stopped").spawn().unwrap();
    second.crash(&pid);
    daemon
        .until("the engine is lost", |view| view.incidents.iter().any(|one| one.name == "EngineLost"))
        .await;
    println!("a frozen engine was found after {:?}", frozen.elapsed());

    second.signal("CONT");
    assert!(stop.wait().await.unwrap().success());
    let thawed = [("stopped", &["stopping", "held"][..]), ("crashed", &["runs"]), ("untouched", &["runs"])];
    let took = until_phases(&daemon, RESYNCHRONISED_WITHIN, &thawed).await;
    println!("resynchronised {took:?} after the engine thawed");
    until_phases(&daemon, RESYNCHRONISED_WITHIN, &[("stopped", &["held"])]).await;
    let expected = [("stopped", false, 0), ("crashed", true, 1), ("untouched", true, 0)];
    assert_started(&daemon, &second, &expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_while_supervisor_was_away_is_asked_of_the_engine() {
    let (world, second) = (World::new().await, Second::start().await);
    for (name, command) in
        [("stopped", "grumbles"), ("crashed", OBEYS), ("begun", OBEYS), ("untouched", OBEYS)]
    {
        second.create(name, "", command).await;
    }
    let mut daemon = watching(&world, &second, &["stopped", "crashed", "begun", "untouched"]).await;
    second.docker("stop begun").await;
    until_phases(&daemon, RESYNCHRONISED_WITHIN, &[("begun", &["held"])]).await;
    daemon.stop().await;

    // Ends with exit code 1, as after a mistake; only the engine knows that somebody stopped it.
    second.docker("stop stopped").await;
    // Ends with exit code 137, as after `docker kill`; only the engine knows that nobody sent a signal.
    second.crash(&second.pid("crashed").await);
    // Somebody gives it back to us, and it crashes.
    second.docker("start begun").await;
    second.crash(&second.pid("begun").await);
    for name in ["crashed", "begun"] {
        second.docker(&format!("wait {name}")).await;
    }

    let daemon = world.run();
    until_within(STARTED_WITHIN, "supervisor answers", async || daemon.view().await.is_ok()).await;
    let all =
        [("stopped", &["held"][..]), ("crashed", &["runs"]), ("begun", &["runs"]), ("untouched", &["runs"])];
    until_phases(&daemon, RESYNCHRONISED_WITHIN, &all).await;
    let expected = [("stopped", false, 0), ("crashed", true, 1), ("begun", true, 1), ("untouched", true, 0)];
    assert_started(&daemon, &second, &expected).await;
}
