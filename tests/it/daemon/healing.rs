//! What ended is started again or left alone: the real program, the real Docker engine, containers of our own.

use super::world::{Daemon, World};
use crate::docker::{Container, docker, socket};
use supervisor::status::{ContainerView, View};
use tokio::process::Command;

/// As a first process it ignores TERM: Docker ends it with KILL, after the second that it gives.
const SLEEP: &str = "sleep 1000";

/// Settings that look after `containers`, each with its `heal` table.
fn looking_after(world: &World, containers: &[(&Container, &str)]) -> String {
    let tables: String = containers
        .iter()
        .map(|(container, heal)| format!("[containers.{}]\nheal = {{ {heal} }}\n", container.0))
        .collect();
    format!("{}\n[engines.local]\naddress = \"unix://{}\"\n{tables}", world.settings(), socket().display())
}

/// A daemon that looks after `containers` and has seen each of them run.
async fn watching(world: &World, containers: &[(&Container, &str)]) -> Daemon {
    world.write(&looking_after(world, containers));
    let daemon = world.running().await;
    for (container, _) in containers {
        until_phase(&daemon, container, "runs").await;
    }
    daemon
}

fn of<'a>(view: &'a View, container: &Container) -> Option<&'a ContainerView> {
    view.containers.iter().find(|seen| seen.name == container.0)
}

async fn until_phase(daemon: &Daemon, container: &Container, phase: &str) {
    let what = format!("{} is {phase}", container.0);
    daemon.until(&what, |view| of(view, container).is_some_and(|seen| seen.phase == phase)).await;
}

/// Waits until supervisor has started it for the `starts`th time and it runs.
async fn until_healed(daemon: &Daemon, container: &Container, starts: usize) {
    let what = format!("{} was started {starts} times and runs", container.0);
    let healed = |seen: &ContainerView| seen.starts == starts && seen.phase == "runs";
    daemon.until(&what, |view| of(view, container).is_some_and(healed)).await;
    assert_eq!(inspect(container, "{{.State.Running}}").await, "true");
}

async fn starts(daemon: &Daemon, container: &Container) -> usize {
    of(&daemon.view().await.unwrap(), container).unwrap().starts
}

async fn inspect(container: &Container, what: &str) -> String {
    docker(&format!("inspect -f {what} {}", container.0)).await
}

/// Ends its process from the host, as a bug would.
async fn crash(container: &Container) {
    let pid = inspect(container, "{{.State.Pid}}").await;
    let killed = Command::new("kill").args(["-9", &pid]).status().await.unwrap();
    assert!(killed.success(), "killing a container's process takes root");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crashes_is_started_again_and_what_a_person_ends_is_not() {
    let world = World::new().await;
    let [crashes, stopped, killed, kill_heals] = ["crash", "stop", "kill", "killheal"].map(Container::named);
    for container in [&crashes, &stopped, &killed, &kill_heals] {
        container.create("--stop-timeout 1", SLEEP).await;
    }
    let daemon = watching(
        &world,
        &[(&crashes, ""), (&stopped, ""), (&killed, ""), (&kill_heals, "on_kill = \"heal\"")],
    )
    .await;

    docker(&format!("stop {}", stopped.0)).await;
    docker(&format!("kill {}", killed.0)).await;
    docker(&format!("kill {}", kill_heals.0)).await;
    crash(&crashes).await;
    until_healed(&daemon, &crashes, 1).await;
    until_healed(&daemon, &kill_heals, 1).await;
    for container in [&stopped, &killed] {
        until_phase(&daemon, container, "held").await;
        assert_eq!(
            inspect(container, "{{.State.Running}}").await,
            "false",
            "{} was ended by a person",
            container.0
        );
    }

    // Whoever starts it gives it back to us, and its next crash is a crash.
    docker(&format!("start {}", stopped.0)).await;
    until_phase(&daemon, &stopped, "runs").await;
    crash(&stopped).await;
    until_healed(&daemon, &stopped, 1).await;
    assert_eq!(starts(&daemon, &killed).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_docker_starts_itself_is_left_to_docker() {
    let world = World::new().await;
    let [by_policy, restarted] = ["policy", "restart"].map(Container::named);
    by_policy.create("--restart always", SLEEP).await;
    restarted.create("--stop-timeout 1", SLEEP).await;
    let daemon = watching(&world, &[(&by_policy, ""), (&restarted, "")]).await;
    let began = inspect(&by_policy, "{{.State.StartedAt}}").await;

    crash(&by_policy).await;
    docker(&format!("restart {}", restarted.0)).await;
    crate::haproxy::lab::until("Docker has started it anew", async || {
        inspect(&by_policy, "{{.State.StartedAt}}").await != began
            && inspect(&by_policy, "{{.State.Running}}").await == "true"
    })
    .await;
    for container in [&by_policy, &restarted] {
        until_phase(&daemon, container, "runs").await;
        assert_eq!(starts(&daemon, container).await, 0, "{}", container.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_does_not_stay_is_given_up_and_told() {
    let world = World::new().await;
    let loops = Container::named("loop");
    loops.create("", SLEEP).await;
    let quick = "[heal]\nrestarts = 2\nbackoff_first = \"100ms\"\nbackoff_longest = \"200ms\"\n";
    world.write(&format!("{}\n{quick}", looking_after(&world, &[(&loops, "")])));
    let daemon = world.running().await;
    for n in 1..=2 {
        until_phase(&daemon, &loops, "runs").await;
        crash(&loops).await;
        until_healed(&daemon, &loops, n).await;
    }
    crash(&loops).await;
    until_phase(&daemon, &loops, "given_up").await;
    assert_eq!(starts(&daemon, &loops).await, 2);
    daemon
        .until("its incident is open", |view| {
            view.incidents
                .iter()
                .any(|incident| incident.name == "ContainerDown" && incident.words.contains(&loops.0))
        })
        .await;
    // A person sees to it.
    docker(&format!("start {}", loops.0)).await;
    until_phase(&daemon, &loops, "runs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_container_of_the_same_name_is_looked_after_like_the_first() {
    let world = World::new().await;
    let container = Container::named("anew");
    container.create("", SLEEP).await;
    let daemon = watching(&world, &[(&container, "")]).await;
    docker(&format!("rm -f {}", container.0)).await;
    until_phase(&daemon, &container, "gone").await;
    container.create("", SLEEP).await;
    until_phase(&daemon, &container, "runs").await;
    crash(&container).await;
    until_healed(&daemon, &container, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_supervisor_did_is_remembered_across_its_own_restart() {
    let world = World::new().await;
    let [crashed, held] = ["again", "held"].map(Container::named);
    for container in [&crashed, &held] {
        container.create("--stop-timeout 1", SLEEP).await;
    }
    let both = [(&crashed, ""), (&held, "")];
    let mut daemon = watching(&world, &both).await;
    crash(&crashed).await;
    until_healed(&daemon, &crashed, 1).await;
    docker(&format!("stop {}", held.0)).await;
    until_phase(&daemon, &held, "held").await;
    daemon.stop().await;

    let next = world.run();
    until_phase(&next, &crashed, "runs").await;
    until_phase(&next, &held, "held").await;
    assert_eq!(starts(&next, &crashed).await, 1, "the budget outlives the process");
    assert_eq!(inspect(&held, "{{.State.Running}}").await, "false");
}
