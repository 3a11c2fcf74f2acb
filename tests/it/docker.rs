//! The watch and the commands, against the real Docker engine and containers of our own.
//!
//! `DOCKER_HOST` (unix:// only) names another engine than the default one; the image is the stack's base image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use supervisor::actuator::docker::{Address, Engine, EngineError, watch};
use supervisor::domain::event::{ContainerList, ContainerSign, ContainerStatus};
use supervisor::domain::{ContainerName, EngineId, Event};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const IMAGE: &str = "debian:trixie-slim";

/// A failing wait ends here. Starting a container takes up to some seconds on a machine that builds as well.
const LONGEST: Duration = Duration::from_secs(40);

/// Where the real engine listens.
pub(crate) fn socket() -> PathBuf {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    match host.strip_prefix("unix://") {
        Some(path) => PathBuf::from(path),
        None => panic!("DOCKER_HOST is {host:?}; these tests need an engine at a unix:// socket"),
    }
}

pub(crate) async fn docker(arguments: &str) -> String {
    let words = arguments.split_whitespace();
    let ran = timeout(LONGEST, Command::new("docker").args(words).kill_on_drop(true).output()).await;
    let ran = ran.unwrap_or_else(|_| panic!("`docker {arguments}` hangs")).unwrap_or_else(|error| {
        panic!("these tests need the docker command and an engine ({error}): run `make setup`")
    });
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success(),
        "`docker {arguments}` failed; these tests need a Docker engine and the image {IMAGE}: run `make setup`: {said}"
    );
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

/// A container of this test's own; removed at the end, whatever happens.
pub(crate) struct Container(pub(crate) String);

impl Container {
    /// Runs `command` in a new container.
    async fn run(test: &str, options: &str, command: &str) -> Container {
        let container = Container::named(test);
        container.create(options, command).await;
        container
    }

    /// Asks no registry, and needs no network; has one of its own with nobody in it, unless `options` name another.
    pub(crate) async fn create(&self, options: &str, command: &str) {
        let network = if options.contains("--network") { "" } else { "--network none" };
        docker(&format!("run -d --pull never {network} --name {} {options} {IMAGE} {command}", self.0)).await;
    }

    /// Only the name.
    pub(crate) fn named(test: &str) -> Container {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let n = MADE.fetch_add(1, Ordering::SeqCst);
        Container(format!("edges-{test}-{}-{n}", std::process::id()))
    }

    fn name(&self) -> ContainerName {
        ContainerName(self.0.clone())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "-f", &self.0]).output();
    }
}

/// As a first process it ignores TERM, so `docker stop` takes its whole time.
const SLEEP: &str = "sleep 1000";

/// A watch of the real engine, and what it says.
struct Watching {
    lane: mpsc::Receiver<Event>,
    watched: watch_channel::Sender<BTreeSet<ContainerName>>,
    task: JoinHandle<()>,
}

impl Watching {
    fn start(address: Address, names: impl IntoIterator<Item = ContainerName>, resync: Duration) -> Watching {
        Watching::with_lane(address, names, resync, 64)
    }

    fn with_lane(
        address: Address,
        names: impl IntoIterator<Item = ContainerName>,
        resync: Duration,
        bound: usize,
    ) -> Watching {
        let (hard, lane) = mpsc::channel(bound);
        let (watched, names) = watch_channel::channel(names.into_iter().collect());
        let engine = Engine { id: engine_id(), address };
        Watching { lane, watched, task: tokio::spawn(watch(engine, names, hard, resync)) }
    }

    async fn next(&mut self) -> Event {
        timeout(LONGEST, self.lane.recv()).await.expect("the watch says nothing").expect("the watch ended")
    }

    async fn list(&mut self) -> ContainerList {
        loop {
            match self.next().await {
                Event::Containers(list) => return list,
                Event::Container(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next sign; lists in between are of no interest.
    async fn sign(&mut self) -> ContainerSign {
        let sign = async {
            loop {
                match self.next().await {
                    Event::Container(event) => return event.sign,
                    Event::Containers(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        };
        timeout(LONGEST, sign).await.expect("lists, and no sign")
    }

    /// Every sign up to and with `last`.
    async fn signs_until(&mut self, last: ContainerSign) -> Vec<ContainerSign> {
        let mut signs = Vec::new();
        while signs.last() != Some(&last) {
            signs.push(self.sign().await);
        }
        signs
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whatever it announced last.
fn is_lost(event: &Event) -> bool {
    matches!(event, Event::EngineLost { engine, .. } if *engine == engine_id())
}

fn engine_id() -> EngineId {
    "onprem".parse().unwrap()
}

/// Longer than any test: what is seen was announced.
const NO_RESYNC: Duration = Duration::from_secs(3600);

fn real() -> Address {
    Address::Unix(socket())
}

fn signal(number: i32) -> ContainerSign {
    ContainerSign::Killed { signal: Some(number) }
}

fn died(code: i32) -> ContainerSign {
    ContainerSign::Died { exit: Some(code) }
}

#[tokio::test]
async fn the_first_word_is_a_list_of_what_is_there_and_what_is_not() {
    let running = Container::run("list", "", SLEEP).await;
    let ended = Container::run("list", "", "false").await;
    docker(&format!("wait {}", ended.0)).await;
    let missing = Container::named("missing");
    let names = [running.name(), ended.name(), missing.name(), ContainerName("../../info".to_owned())];
    let mut watching = Watching::start(real(), names, NO_RESYNC);
    let Event::Containers(list) = watching.next().await else { panic!("no list") };
    let statuses: BTreeMap<_, _> =
        list.containers.iter().map(|(name, seen)| (name.clone(), seen.status)).collect();
    let expected = [
        (running.name(), ContainerStatus::Running),
        (ended.name(), ContainerStatus::Exited { exit: Some(1), oom: false }),
    ];
    assert_eq!(statuses, BTreeMap::from(expected));
    let id = docker(&format!("inspect -f {{{{.Id}}}} {}", running.0)).await;
    assert_eq!(list.containers[&running.name()].id, id);
    // `inspect` takes the beginning of an id for a name; we do not.
    watching.watched.send_replace(BTreeSet::from([ContainerName(id[..12].to_owned())]));
    assert!(watching.list().await.containers.is_empty());
}

#[tokio::test]
async fn kill_pause_stop_start_and_removal_are_announced_as_docker_does_them() {
    let container = Container::run("life", "--stop-timeout 1", SLEEP).await;
    let other = Container::run("life", "", SLEEP).await;
    let name = container.0.as_str();
    let mut watching = Watching::start(real(), [container.name()], NO_RESYNC);
    watching.list().await;

    docker(&format!("pause {name}")).await;
    assert_eq!(watching.sign().await, ContainerSign::Paused);
    docker(&format!("unpause {name}")).await;
    assert_eq!(watching.sign().await, ContainerSign::Unpaused);
    docker(&format!("kill {name}")).await;
    assert_eq!(watching.signs_until(died(137)).await, [signal(9), died(137)]);
    docker(&format!("start {name}")).await;
    assert_eq!(watching.sign().await, ContainerSign::Started);
    // Another container's death is not ours to tell.
    docker(&format!("kill {}", other.0)).await;
    docker(&format!("stop {name}")).await;
    let stop = watching.signs_until(ContainerSign::Stopped).await;
    assert_eq!(stop, [signal(15), signal(9), died(137), ContainerSign::Stopped]);
    docker(&format!("rm {name}")).await;
    assert_eq!(watching.sign().await, ContainerSign::Destroyed);
    container.create("", SLEEP).await;
    assert_eq!(watching.sign().await, ContainerSign::Started, "the same name, created anew");
}

#[tokio::test]
async fn running_out_of_memory_is_announced() {
    let container = Container::named("oom");
    let mut watching = Watching::start(real(), [container.name()], NO_RESYNC);
    watching.list().await;
    container.create("--memory 16m", "tail /dev/zero").await;
    let signs = watching.signs_until(died(137)).await;
    assert!(signs.contains(&ContainerSign::OutOfMemory), "{signs:?}");
    let mut later = Watching::start(real(), [container.name()], NO_RESYNC);
    let oom = ContainerStatus::Exited { exit: Some(137), oom: true };
    assert_eq!(later.list().await.containers[&container.name()].status, oom);
}

#[tokio::test]
async fn death_and_pause_are_heard_within_a_second() {
    let container = Container::run("latency", "", SLEEP).await;
    let name = container.0.as_str();
    let mut watching = Watching::start(real(), [container.name()], NO_RESYNC);
    watching.list().await;
    for _ in 0..3 {
        // The command's own time is in the figure; for the death it is the process that is killed, from the host.
        let began = Instant::now();
        docker(&format!("pause {name}")).await;
        assert_eq!(watching.sign().await, ContainerSign::Paused);
        let paused = began.elapsed();
        docker(&format!("unpause {name}")).await;
        watching.signs_until(ContainerSign::Unpaused).await;

        let pid = docker(&format!("inspect -f {{{{.State.Pid}}}} {name}")).await;
        let began = Instant::now();
        let killed = Command::new("kill").args(["-9", &pid]).status().await.unwrap();
        assert!(killed.success(), "killing a container's process takes root");
        assert_eq!(watching.sign().await, died(137));
        let died = began.elapsed();
        println!("pause heard {paused:?} after the command began, death {died:?} after the kill");
        assert!(paused < Duration::from_secs(2) && died < Duration::from_secs(2), "{paused:?} {died:?}");
        docker(&format!("start {name}")).await;
        watching.signs_until(ContainerSign::Started).await;
    }
}

#[tokio::test]
async fn a_reload_changes_what_is_watched_at_once() {
    let first = Container::run("reload", "", SLEEP).await;
    let second = Container::run("reload", "", SLEEP).await;
    let mut watching = Watching::start(real(), [first.name()], NO_RESYNC);
    watching.list().await;
    watching.watched.send_replace(BTreeSet::from([second.name()]));
    let list = watching.list().await;
    assert_eq!(list.containers.keys().collect::<Vec<_>>(), [&second.name()]);
    docker(&format!("pause {}", first.0)).await;
    docker(&format!("pause {}", second.0)).await;
    let Event::Container(event) = watching.next().await else { panic!("no sign") };
    assert_eq!((event.name, event.sign), (second.name(), ContainerSign::Paused));
}

#[tokio::test]
async fn the_list_is_read_anew_by_period() {
    let mut watching =
        Watching::start(real(), [Container::named("period").name()], Duration::from_millis(300));
    let first = watching.list().await;
    let second = watching.list().await;
    assert!(second.at.since(first.at).0 >= 250, "{:?} {:?}", first.at, second.at);
}

/// What a road lets through: connections stay open, and nothing moves in those that are blocked.
#[derive(Clone, Copy, PartialEq)]
enum Blocked {
    Nothing,
    Events,
    Everything,
}

/// A road to the real engine that can be cut and blocked.
struct Road {
    path: PathBuf,
    carrying: Option<JoinHandle<()>>,
    blocked: watch_channel::Sender<Blocked>,
    _directory: tempfile::TempDir,
}

impl Road {
    fn open() -> Road {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let (blocked, _) = watch_channel::channel(Blocked::Nothing);
        let mut road = Road { path, carrying: None, blocked, _directory: directory };
        road.mend();
        road
    }

    fn address(&self) -> Address {
        Address::Unix(self.path.clone())
    }

    fn mend(&mut self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let blocked = self.blocked.clone();
        self.carrying = Some(tokio::spawn(async move {
            let mut roads = tokio::task::JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.unwrap();
                roads.spawn(carry(near, blocked.subscribe()));
            }
        }));
    }

    /// Every connection breaks, and the socket is gone.
    fn cut(&mut self) {
        self.carrying.take().unwrap().abort();
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// Carries bytes both ways.
async fn carry(mut near: UnixStream, mut blocked: watch_channel::Receiver<Blocked>) {
    let Ok(mut far) = UnixStream::connect(socket()).await else { return };
    // The whole request line comes in the first piece: a client writes its head at once.
    let mut head = [0; 4096];
    let Ok(taken) = near.read(&mut head).await else { return };
    let events = head[..taken].windows(8).any(|window| window == b"/events?");
    let mut sent = false;
    let both = async {
        far.write_all(&head[..taken]).await?;
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    tokio::pin!(both);
    while !sent {
        let now = *blocked.borrow_and_update();
        if events && now == Blocked::Events {
            // Forgotten for good: what opens later is for new connections.
            std::future::pending::<()>().await;
        }
        let open = now != Blocked::Everything;
        tokio::select! {
            _ = &mut both, if open => sent = true,
            changed = blocked.changed() => if changed.is_err() { return },
        }
    }
}

#[tokio::test]
async fn what_happened_while_the_socket_was_gone_is_in_the_next_list() {
    let container = Container::run("gone", "", SLEEP).await;
    let mut road = Road::open();
    let mut watching = Watching::start(road.address(), [container.name()], NO_RESYNC);
    watching.list().await;
    road.cut();
    assert!(is_lost(&watching.next().await));
    docker(&format!("kill {}", container.0)).await;
    // Several tries fail meanwhile, and the loss is told once.
    assert!(timeout(Duration::from_secs(2), watching.lane.recv()).await.is_err(), "told more than once");
    road.mend();
    let Event::Containers(list) = watching.next().await else { panic!("no list") };
    let status = list.containers[&container.name()].status;
    assert_eq!(status, ContainerStatus::Exited { exit: Some(137), oom: false });
    docker(&format!("start {}", container.0)).await;
    assert_eq!(watching.sign().await, ContainerSign::Started, "and events come again, the old ones not");
}

#[tokio::test]
async fn an_engine_that_hangs_is_found_within_ten_seconds() {
    let road = Road::open();
    let mut watching = Watching::start(road.address(), [Container::named("hang").name()], NO_RESYNC);
    watching.list().await;
    road.blocked.send_replace(Blocked::Everything);
    let began = Instant::now();
    assert!(is_lost(&watching.next().await));
    println!("a hanging engine was found after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    road.blocked.send_replace(Blocked::Nothing);
    watching.list().await;
}

#[tokio::test]
async fn a_stream_that_died_in_silence_is_replaced_when_a_list_shows_what_it_missed() {
    let container = Container::run("deaf", "", SLEEP).await;
    let road = Road::open();
    let mut watching = Watching::start(road.address(), [container.name()], Duration::from_millis(500));
    watching.list().await;
    // As a proxy does that has forgotten an idle connection: new ones work, and the old one says nothing.
    road.blocked.send_replace(Blocked::Events);
    docker(&format!("pause {}", container.0)).await;
    let paused = |list: &ContainerList| list.containers[&container.name()].status == ContainerStatus::Paused;
    while !paused(&watching.list().await) {}
    road.blocked.send_replace(Blocked::Nothing);
    // Well after the suspicion is certain; the new stream tells what comes.
    let certain = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < certain {
        watching.list().await;
    }
    docker(&format!("unpause {}", container.0)).await;
    assert_eq!(watching.sign().await, ContainerSign::Unpaused);
}

#[tokio::test]
async fn a_missing_socket_is_told_once_and_found_when_it_comes() {
    let mut road = Road::open();
    road.cut();
    let mut watching = Watching::start(road.address(), [Container::named("late").name()], NO_RESYNC);
    assert!(is_lost(&watching.next().await));
    assert!(timeout(Duration::from_secs(1), watching.lane.recv()).await.is_err(), "told more than once");
    road.mend();
    assert!(matches!(watching.next().await, Event::Containers(_)));
}

#[tokio::test]
async fn a_slow_core_gets_every_event_late() {
    let container = Container::run("slow", "", SLEEP).await;
    let name = container.0.as_str();
    let mut watching = Watching::with_lane(real(), [container.name()], NO_RESYNC, 1);
    watching.list().await;
    for _ in 0..10 {
        docker(&format!("pause {name}")).await;
        docker(&format!("unpause {name}")).await;
    }
    for n in 0..10 {
        assert_eq!(watching.sign().await, ContainerSign::Paused, "{n}");
        assert_eq!(watching.sign().await, ContainerSign::Unpaused, "{n}");
    }
}

#[tokio::test]
async fn the_watch_ends_when_nobody_listens() {
    let mut watching = Watching::start(real(), [Container::named("end").name()], NO_RESYNC);
    watching.list().await;
    let (_, nobody) = mpsc::channel(1);
    drop(std::mem::replace(&mut watching.lane, nobody));
    timeout(LONGEST, &mut watching.task).await.expect("it goes on").unwrap();
}

#[tokio::test]
async fn commands_run_inside_a_container_with_input_output_and_exit_code() {
    let container = Container::run("exec", "", SLEEP).await;
    let engine = Engine { id: engine_id(), address: real() };
    let name = container.name();
    let script = "cat; echo to stderr >&2; exit 3";
    let ran = engine.exec(&name, &["sh", "-c", script], Some(b"global\n"), LONGEST).await.unwrap();
    assert_eq!((ran.exit, ran.cut), (3, false), "{ran:?}");
    assert!(ran.output.contains("global\n") && ran.output.contains("to stderr\n"), "{ran:?}");

    let ran = engine.exec(&name, &["head", "-c", "10000000", "/dev/zero"], None, LONGEST).await.unwrap();
    assert_eq!((ran.exit, ran.cut, ran.output.len()), (0, true, 64 * 1024));

    let ran = engine.exec(&name, &["no-such-program"], None, LONGEST).await.unwrap();
    assert!(ran.exit == 126 || ran.exit == 127, "{ran:?}");

    let began = Instant::now();
    let late = engine.exec(&name, &["sleep", "60"], None, Duration::from_millis(500)).await;
    assert!(matches!(late, Err(EngineError::Late { .. })), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(2));

    let missing = engine.exec(&Container::named("none").name(), &["true"], None, LONGEST).await;
    assert!(matches!(missing, Err(EngineError::Failed { .. })), "{missing:?}");
    let injected = engine.exec(&ContainerName("a/../b".to_owned()), &["true"], None, LONGEST).await;
    assert!(matches!(injected, Err(EngineError::Name { .. })), "{injected:?}");
}

#[tokio::test]
async fn an_engine_out_of_reach_is_an_error_that_names_the_socket_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("docker.sock");
    let engine = Engine { id: engine_id(), address: Address::Unix(path.clone()) };
    let asked = async |engine: &Engine| {
        let name = ContainerName("a".to_owned());
        engine.exec(&name, &["true"], None, LONGEST).await.unwrap_err().to_string()
    };
    let missing = asked(&engine).await;
    assert!(missing.contains(&path.display().to_string()) && missing.contains("no such socket"), "{missing}");
    // Nobody listens on a socket that a dead engine left behind.
    drop(UnixListener::bind(&path).unwrap());
    let refused = asked(&engine).await;
    assert!(refused.contains("nobody listens; start Docker"), "{refused}");
    let silent = UnixListener::bind(directory.path().join("silent.sock")).unwrap();
    let engine = Engine { address: Address::Unix(directory.path().join("silent.sock")), ..engine };
    let began = Instant::now();
    let late = asked(&engine).await;
    assert!(late.contains("did not answer") && began.elapsed() < Duration::from_secs(6), "{late}");
    drop(silent);
}

/// An engine that says what no real one can be made to say.
struct FakeEngine {
    address: Address,
    _directory: tempfile::TempDir,
}

impl FakeEngine {
    /// Its events are `events`, one line each, then silence; its only container has `status`.
    fn start(events: String, status: &'static str) -> (FakeEngine, watch_channel::Receiver<u32>) {
        use axum::body::{Body, Bytes};
        use axum::extract::RawQuery;
        use axum::routing::get;
        use futures_util::{StreamExt, stream};
        let (subscribed, subscriptions) = watch_channel::channel(0);
        let events = Bytes::from(events);
        let router = axum::Router::new()
            .route("/version", get(async || r#"{"ApiVersion":"1.41"}"#))
            .route("/_ping", get(async || "OK"))
            .route("/info", get(async || r#"{"SystemTime":"2026-01-01T00:00:00.000000001Z"}"#))
            .route(
                "/containers/api/json",
                get(async move || format!(r#"{{"Id":"abc","Name":"/api","State":{{"Status":"{status}"}}}}"#)),
            )
            .route(
                "/events",
                get(async move |RawQuery(query): RawQuery| {
                    // It remembers nothing.
                    if query.is_some_and(|query| query.contains("until=")) {
                        return Body::empty();
                    }
                    subscribed.send_modify(|n| *n += 1);
                    let said = stream::once(async move { Ok::<_, std::convert::Infallible>(events) });
                    Body::from_stream(said.chain(stream::pending()))
                }),
            );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&path).unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (FakeEngine { address: Address::Unix(path), _directory: directory }, subscriptions)
    }
}

fn event(action: &str, nanoseconds: u32) -> String {
    format!(
        r#"{{"Type":"container","Action":"{action}","timeNano":{nanoseconds},"Actor":{{"ID":"abc","Attributes":{{"name":"api"}}}}}}"#
    ) + "\n"
}

fn api() -> ContainerName {
    ContainerName("api".to_owned())
}

#[tokio::test]
async fn more_events_than_can_wait_are_made_up_for_by_a_list() {
    const FLOOD: u32 = 5000;
    let flood = (1..=FLOOD).map(|n| event("start", n)).collect();
    let (engine, mut subscriptions) = FakeEngine::start(flood, "running");
    let mut watching = Watching::with_lane(engine.address.clone(), [api()], NO_RESYNC, 1);
    timeout(LONGEST, subscriptions.wait_for(|n| *n == 1)).await.unwrap().unwrap();
    watching.list().await;
    // The watch is stuck at the lane's bound; its reader goes on and drops what cannot wait.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut told = 0;
    while let Event::Container(_) = watching.next().await {
        told += 1;
    }
    assert!(told < FLOOD && told > 500, "{told} events before the list: nothing was dropped, or too much");
    assert_eq!(*subscriptions.borrow(), 1, "the subscription lived on");
}

#[tokio::test]
async fn an_event_that_comes_again_is_told_once() {
    let again = event("die", 1) + &event("die", 1) + &event("start", 2);
    let (engine, _subscriptions) = FakeEngine::start(again, "running");
    let mut watching = Watching::start(engine.address.clone(), [api()], NO_RESYNC);
    assert_eq!(watching.sign().await, ContainerSign::Died { exit: None });
    assert_eq!(watching.sign().await, ContainerSign::Started);
}

#[tokio::test]
async fn words_of_a_newer_engine_are_no_evidence_and_no_loss() {
    let newer = event("die", 1) + "{\"Type\":\"dream\",\"Action\":\"begin\"}\n";
    let (engine, mut subscriptions) = FakeEngine::start(newer, "dozing");
    let mut watching = Watching::start(engine.address.clone(), [api()], NO_RESYNC);
    let list = watching.list().await;
    assert_eq!(list.containers[&api()].status, ContainerStatus::Unknown);
    assert_eq!(watching.sign().await, ContainerSign::Died { exit: None });
    // The stream cannot go on after the unknown type; a new one begins, and `die` of the old one is not told again.
    timeout(LONGEST, subscriptions.wait_for(|n| *n == 2)).await.unwrap().unwrap();
    assert!(matches!(watching.next().await, Event::Containers(_)), "no loss");
    assert!(timeout(Duration::from_millis(50), watching.lane.recv()).await.is_err());
}
