//! What ended is started again or left alone: the real program, the real Docker engine, containers of our own.

use super::world::{Daemon, World};
use crate::docker::{Container, docker, socket};
use crate::haproxy::lab::{free_port, get, until_within};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use supervisor::domain::explain::Grade;
use supervisor::status::{ContainerView, EventLine, EventList, View};
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

/// The network namespace that its process is in.
async fn network(container: &Container) -> PathBuf {
    let pid = inspect(container, "{{.State.Pid}}").await;
    std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("looking into a container's process takes root")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_uses_the_network_of_a_restarted_container_is_restarted_after_it() {
    let world = World::new().await;
    let [gateway, child, other] = ["gateway", "child", "other"].map(Container::named);
    gateway.create("--stop-timeout 1", SLEEP).await;
    child.create(&format!("--stop-timeout 1 --network container:{}", gateway.0), SLEEP).await;
    other.create("--stop-timeout 1", SLEEP).await;
    let daemon = watching(&world, &[(&gateway, ""), (&child, ""), (&other, "")]).await;
    let before = network(&gateway).await;
    assert_eq!(network(&child).await, before);

    docker(&format!("restart {}", gateway.0)).await;
    until_healed(&daemon, &child, 1).await;
    assert_ne!(network(&gateway).await, before, "a restart gives a container a new network");
    assert_eq!(network(&child).await, network(&gateway).await);

    // Docker would refuse to start it before the gateway: it waits for whoever stopped that.
    docker(&format!("stop {}", gateway.0)).await;
    until_phase(&daemon, &gateway, "held").await;
    crash(&child).await;
    daemon
        .until("the child waits", |view| {
            of(view, &child).is_some_and(|seen| seen.words.contains("is not healed: it depends"))
        })
        .await;
    assert_eq!(starts(&daemon, &child).await, 1, "no start is tried that cannot work");
    docker(&format!("start {}", gateway.0)).await;
    until_healed(&daemon, &child, 2).await;
    assert_eq!(network(&child).await, network(&gateway).await);
    for left_alone in [&gateway, &other] {
        assert_eq!(starts(&daemon, left_alone).await, 0);
    }
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
    let [loops, other] = ["loop", "other"].map(Container::named);
    loops.create("", SLEEP).await;
    other.create("", SLEEP).await;
    let quick = "[heal]\nrestarts = 2\nbackoff_first = \"100ms\"\nbackoff_longest = \"200ms\"\nslow_retry = \"10s\"\n";
    world.write(&format!("{}\n{quick}", looking_after(&world, &[(&loops, ""), (&other, "")])));
    let daemon = world.running().await;
    until_phase(&daemon, &other, "runs").await;
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
    // It is tried again, slowly, and nobody is told a second time.
    until_within(Duration::from_secs(20), "it is tried again", async || starts(&daemon, &loops).await == 3)
        .await;
    until_phase(&daemon, &loops, "runs").await;
    crash(&loops).await;
    until_phase(&daemon, &loops, "given_up").await;
    let list: EventList = daemon.client().get("/api/v1/events?limit=1000").await.unwrap();
    let opened = |line: &&EventLine| line.code == "incident_opened" && line.words.contains(&loops.0);
    assert_eq!(list.events.iter().filter(opened).count(), 1, "{:#?}", list.events);
    assert_eq!(starts(&daemon, &other).await, 0);
    assert_eq!(inspect(&other, "{{.RestartCount}}").await, "0");
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

/// An HTTP server in a container of this machine's network, which can hang and be sick.
struct Served {
    container: Container,
    port: u16,
}

/// Answers every request with its site; each in a process of its own.
const SERVER: &str = r#"
use IO::Socket::INET;
my ($port, $site) = @ARGV;
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1) or die;
while (my $client = $listener->accept) {
    next if fork;
    while (<$client>) { last if /^\r\n$/ }
    print $client "HTTP/1.1 200 OK\r\ncontent-length: " . length($site) . "\r\nconnection: close\r\n\r\n$site";
    exit;
}
"#;

/// Docker's own check of it.
const CHECK: &str = "#!/bin/sh\ntest ! -e /world/sick-$SITE -a ! -e /world/sick-all\n";

impl Served {
    async fn run(world: &World, site: &str, options: &str) -> Served {
        let served = Served { container: Container::named(site), port: free_port() };
        let (name, port, dir) = (&served.container.0, served.port, world.dir.path().display());
        docker(&format!(
            "run -d --pull never --network host --stop-timeout 1 --name {name} -v {dir}:/world:ro -e SITE={site} {options} \
             debian:trixie-slim perl /world/server.pl {port} {site}"
        ))
        .await;
        // Without a grace, one that does not listen yet is dead.
        crate::haproxy::lab::until("it listens", async || get(served.port).await.is_ok()).await;
        served
    }

    fn hang(&self, pid: &str, hangs: bool) {
        let signal = if hangs { "-STOP" } else { "-CONT" };
        assert!(std::process::Command::new("kill").args([signal, pid]).status().unwrap().success());
    }
}

/// A daemon in front of one such server at each site. Each gets a moment before it is judged: what has just been started does
/// not listen yet.
async fn serving(world: &World, options: &str, live: &str) -> (Daemon, [Served; 2]) {
    std::fs::write(world.path("server.pl"), SERVER).unwrap();
    std::fs::write(world.path("check"), CHECK).unwrap();
    std::fs::set_permissions(world.path("check"), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The containers' user is root, whom the directory belongs to; its mode keeps others out.
    let both = [Served::run(world, "onprem", options).await, Served::run(world, "cloud", options).await];
    let mut settings = world.settings();
    for (served, port) in both.iter().zip([world.onprem.port, world.cloud.port]) {
        let old = format!("address = \"127.0.0.1:{port}\"");
        let (name, port) = (&served.container.0, served.port);
        let new =
            format!("address = \"127.0.0.1:{port}\"\ncontainer = \"{name}\"\nheal = {{ grace = \"3s\" }}");
        assert!(settings.contains(&old));
        settings = settings.replace(&old, &new);
    }
    let engine = format!("[engines.local]\naddress = \"unix://{}\"\n", socket().display());
    world.write(&format!("{settings}\n{live}{engine}"));
    let daemon = world.running().await;
    for served in &both {
        until_phase(&daemon, &served.container, "runs").await;
    }
    (daemon, both)
}

/// Waits until supervisor has restarted it. If a busy machine lets the other one fail once, it looks again 10 s later.
async fn until_restarted(daemon: &Daemon, container: &Container, expected: usize) {
    let longest = Duration::from_secs(30);
    until_within(longest, "it is restarted", async || starts(daemon, container).await == expected).await;
    until_phase(daemon, container, "runs").await;
}

/// Waits until it is told what keeps a restart back and both are found dead, and that neither was started meanwhile.
async fn assert_left_alone_together(daemon: &Daemon, both: &[Served; 2], starts_before: [usize; 2]) {
    for served in both {
        until_phase(daemon, &served.container, "ailing").await;
    }
    crate::haproxy::lab::until("it is told why neither is restarted", async || {
        let list: EventList = daemon.client().get("/api/v1/events?limit=1000").await.unwrap();
        let waits = |name: &str| {
            list.events.iter().any(|line| line.code == "heal_waits" && line.words.contains(name))
        };
        both.iter().all(|served| waits(&served.container.0))
    })
    .await;
    let found = [starts(daemon, &both[0].container).await, starts(daemon, &both[1].container).await];
    assert_eq!(found, starts_before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hangs_is_restarted_unless_all_hang_together() {
    let world = World::new().await;
    let live = "[services.api.live]\npath = \"/\"\ninterval = \"500ms\"\ntimeout = \"1s\"\nfall = 3\n";
    let (daemon, both) = serving(&world, "", live).await;
    let [onprem, cloud] = &both;
    let crashed = Instant::now();
    crash(&onprem.container).await;
    until_restarted(&daemon, &onprem.container, 1).await;
    println!("a crashed server was started {:?} after it crashed", crashed.elapsed());
    daemon.until("all is well again", |view| view.grade == Grade::Well).await;
    println!("and was well, in front again, {:?} after it crashed", crashed.elapsed());
    let began = inspect(&onprem.container, "{{.State.StartedAt}}").await;

    let hung = Instant::now();
    onprem.hang(&inspect(&onprem.container, "{{.State.Pid}}").await, true);
    until_restarted(&daemon, &onprem.container, 2).await;
    println!("a hung server was restarted {:?} after it hung", hung.elapsed());
    daemon.until("all is well again", |view| view.grade == Grade::Well).await;
    println!("and was well {:?} after it hung", hung.elapsed());
    assert_ne!(inspect(&onprem.container, "{{.State.StartedAt}}").await, began);
    assert_eq!(starts(&daemon, &cloud.container).await, 0);

    let pids = [
        inspect(&onprem.container, "{{.State.Pid}}").await,
        inspect(&cloud.container, "{{.State.Pid}}").await,
    ];
    for (served, pid) in both.iter().zip(&pids) {
        served.hang(pid, true);
    }
    assert_left_alone_together(&daemon, &both, [2, 0]).await;
    for (served, pid) in both.iter().zip(&pids) {
        served.hang(pid, false);
    }
    for served in &both {
        until_phase(&daemon, &served.container, "runs").await;
        assert_eq!(inspect(&served.container, "{{.State.Running}}").await, "true");
    }
    assert_eq!([starts(&daemon, &onprem.container).await, starts(&daemon, &cloud.container).await], [2, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_docker_calls_unhealthy_is_restarted_unless_all_are_together() {
    let world = World::new().await;
    let check = "--health-cmd /world/check --health-interval 500ms --health-timeout 1s --health-retries 1 --health-start-period 0s";
    let (daemon, both) = serving(&world, check, "").await;
    let [onprem, cloud] = &both;
    let healthy =
        async |served: &Served| inspect(&served.container, "{{.State.Health.Status}}").await == "healthy";
    crate::haproxy::lab::until("Docker calls both healthy", async || {
        healthy(onprem).await && healthy(cloud).await
    })
    .await;

    // It answers requests all the while: traffic has no reason to leave it, but its owner says that it is sick.
    std::fs::write(world.path("sick-onprem"), "").unwrap();
    until_restarted(&daemon, &onprem.container, 1).await;
    std::fs::remove_file(world.path("sick-onprem")).unwrap();
    crate::haproxy::lab::until("Docker calls it healthy again", async || healthy(onprem).await).await;
    until_phase(&daemon, &onprem.container, "runs").await;
    let before = starts(&daemon, &onprem.container).await;
    assert_eq!(starts(&daemon, &cloud.container).await, 0);

    std::fs::write(world.path("sick-all"), "").unwrap();
    assert_left_alone_together(&daemon, &both, [before, 0]).await;
    std::fs::remove_file(world.path("sick-all")).unwrap();
    for served in &both {
        until_phase(&daemon, &served.container, "runs").await;
    }
    assert_eq!(
        [starts(&daemon, &onprem.container).await, starts(&daemon, &cloud.container).await],
        [before, 0]
    );
}
