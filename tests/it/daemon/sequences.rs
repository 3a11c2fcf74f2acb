//! Every sequence of events that Docker makes around the end of a container, from a real engine: what the real program
//! makes of it, and how soon it starts what crashed.

use super::engine::{looking_after, of, phase, until_phases, watching};
use super::second::{IGNORES, OBEYS, Second};
use super::world::{Daemon, World};
use crate::haproxy::lab::{until, until_within};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use supervisor::status::{EventLine, EventList, View};
use tokio::time::{Instant, sleep, sleep_until};

const SOON: Duration = Duration::from_secs(10);

/// Docker's own policies go first for 5 s, and a start that failed is tried again after a second or two.
const LATER: Duration = Duration::from_secs(20);

const OPERATOR: Option<&str> = Some("was stopped by an operator");

/// What was told about `name`, oldest first.
async fn told(daemon: &Daemon, name: &str) -> Vec<EventLine> {
    let list: EventList = daemon.client().get("/api/v1/events?limit=1000").await.unwrap();
    let about = |line: &EventLine| {
        line.words.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == name)
    };
    list.events.into_iter().filter(|line| about(line) && !line.code.starts_with("incident_")).collect()
}

/// Where `name` stands, how it ended last, and the codes of what was told about it.
async fn assert_told(daemon: &Daemon, name: &str, expected: (&str, Option<&str>, &[&str])) {
    let view = daemon.view().await.unwrap();
    let lines = told(daemon, name).await;
    let codes: Vec<&str> = lines.iter().map(|line| line.code.as_str()).collect();
    assert_eq!(
        (phase(&view, name), of(&view, name).last.as_deref(), codes.as_slice()),
        expected,
        "{name}: {lines:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_to_end_is_told_from_every_other() {
    let (world, second) = (World::new().await, Second::start().await);
    let running = [
        ("a-stopped", "", OBEYS),
        ("a-ignoring", "", IGNORES),
        ("a-signalled", "--stop-signal USR1", IGNORES),
        ("a-killed", "", OBEYS),
        ("a-crashed", "", OBEYS),
        ("a-restarted", "", OBEYS),
        ("a-removed", "", OBEYS),
        ("a-paused", "", OBEYS),
        ("a-deaf", "", IGNORES),
    ];
    for (name, options, command) in running {
        second.create(name, options, command).await;
    }
    let mut names: Vec<&str> = running.iter().map(|(name, ..)| *name).collect();
    let daemon = watching(&world, &second, &names).await;
    names.extend(["a-hungry", "a-looping", "a-never"]);
    world.write(&looking_after(&world, &second, &names));
    daemon.until("the new ones are watched", |view| view.containers.len() == names.len()).await;
    second.create("a-looping", "--restart always", "fails").await;
    second.create("a-hungry", "--memory 16m", "eats").await;

    second.docker("stop a-stopped").await;
    second.docker("stop a-ignoring").await;
    second.docker("stop a-signalled").await;
    second.docker("kill a-killed").await;
    second.crash(&second.pid("a-crashed").await);
    second.docker("restart a-restarted").await;
    second.docker("rm -f a-removed").await;
    second.docker("pause a-paused").await;
    second.docker("stop a-paused").await;
    // It ignores the signal; what ends it much later is a crash all the same.
    second.docker("kill -s TERM a-deaf").await;
    let signalled = Instant::now();
    // Docker cannot start it, and says so to whoever asked.
    second.docker("create --network none --name a-never tiny nonsense").await;
    let start = second.command("start a-never").output().await.unwrap();
    assert!(!start.status.success(), "it started");
    // Long enough between two starts that it is stopped there.
    until_within(LATER, "Docker restarts it slowly", async || {
        let state = second.docker("inspect -f {{.RestartCount}}{{.State.Status}} a-looping").await;
        state == "5restarting" || state == "6restarting"
    })
    .await;
    second.docker("stop a-looping").await;

    let held = &["held"][..];
    let runs = &["runs"][..];
    let phases = [
        ("a-stopped", held),
        ("a-ignoring", held),
        ("a-signalled", held),
        ("a-killed", held),
        ("a-crashed", runs),
        ("a-hungry", runs),
        ("a-restarted", runs),
        ("a-removed", &["gone"]),
        ("a-paused", held),
        ("a-looping", held),
        ("a-never", &["unseen"]),
    ];
    until_phases(&daemon, SOON, &phases).await;
    let healed = &["container_ended", "heals", "healed"][..];
    let by_operator = ("held", OPERATOR, &["container_ended"][..]);
    for name in ["a-stopped", "a-ignoring", "a-signalled", "a-paused"] {
        assert_told(&daemon, name, by_operator).await;
    }
    let killed = Some("was killed by an operator (docker kill)");
    assert_told(&daemon, "a-killed", ("held", killed, &["container_ended"])).await;
    assert_told(&daemon, "a-crashed", ("runs", Some("crashed (exit 137)"), healed)).await;
    // A busy engine says so a moment after the death, and now and then not at all: then it is a crash to everybody.
    let starved = |view: &View| of(view, "a-hungry").last.as_deref() != Some("crashed (exit 137)");
    let patience = Instant::now() + SOON;
    while !starved(&daemon.view().await.unwrap()) && Instant::now() < patience {
        sleep(Duration::from_millis(10)).await;
    }
    let announced = second.announced("oom", "a-hungry").await;
    let last = if announced { "ran out of memory and was killed" } else { "crashed (exit 137)" };
    // It was watched before it was there.
    let codes = &["container_gone", "container_ended", "heals", "healed"];
    assert_told(&daemon, "a-hungry", ("runs", Some(last), codes)).await;
    // Where the two halves of a restart are 2 s apart, the first is told as what it is.
    let view = daemon.view().await.unwrap();
    match of(&view, "a-restarted").last.as_deref() {
        None => assert_told(&daemon, "a-restarted", ("runs", None, &[])).await,
        last => {
            assert_told(
                &daemon,
                "a-restarted",
                ("runs", last.and(OPERATOR), &["container_ended", "hold_lifted"]),
            )
            .await
        }
    }
    assert_told(&daemon, "a-removed", ("gone", None, &["container_gone"])).await;
    assert_told(&daemon, "a-never", ("unseen", None, &["container_gone"])).await;
    assert_eq!(of(&view, "a-looping").last.as_deref(), OPERATOR);
    let loops = told(&daemon, "a-looping").await;
    let ended = |line: &EventLine| ["container_gone", "container_ended"].contains(&line.code.as_str());
    assert!(loops.iter().all(ended), "nothing was started: {loops:#?}");
    for name in ["a-stopped", "a-ignoring", "a-signalled", "a-paused", "a-killed", "a-looping", "a-never"] {
        assert!(!second.runs(name).await, "{name} was ended by a person");
    }

    // A signal counts for the stop timeout (1 s) and 5 s more.
    sleep_until(signalled + Duration::from_millis(6_100)).await;
    assert_told(&daemon, "a-deaf", ("runs", None, &[])).await;
    second.crash(&second.pid("a-deaf").await);
    daemon.until("it crashed", |view| of(view, "a-deaf").last.is_some()).await;
    until_phases(&daemon, SOON, &[("a-deaf", runs)]).await;
    assert_told(&daemon, "a-deaf", ("runs", Some("crashed (exit 137)"), healed)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_dockers_policy_leaves_down_is_started() {
    let (world, second) = (World::new().await, Second::start().await);
    let programs = second.path("programs");
    std::fs::create_dir(&programs).unwrap();
    let program = programs.join("run");
    std::fs::write(&program, "#!/bin/sh\nexec obeys\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    second.create("disarmed", "--restart always", IGNORES).await;
    second.create("parent", "", OBEYS).await;
    second
        .docker("run -d --stop-timeout 1 --name child --network container:parent --restart always tiny obeys")
        .await;
    second.create("failing", &format!("-v {}:/programs", programs.display()), "/programs/run").await;
    let names = ["disarmed", "parent", "child", "failing"];
    let daemon = watching(&world, &second, &names).await;

    // After a HUP, Docker's own policy no longer starts it (moby issue 41302); where that is mended, it does.
    second.docker("kill -s HUP disarmed").await;
    second.crash(&second.pid("disarmed").await);
    // Nobody can start it without the network that it is to share: Docker does not try again, and supervisor does not try.
    let child = second.pid("child").await;
    second.docker("stop parent").await;
    second.crash(&child);
    // Nor without its program; that is only found out by a start.
    std::fs::rename(&program, programs.join("away")).unwrap();
    second.crash(&second.pid("failing").await);

    for (name, code, words) in [("failing", "healed", "no such file"), ("child", "heal_waits", "parent")] {
        until_within(LATER, &format!("{name}: {code}"), async || {
            let lines = told(&daemon, name).await;
            lines.iter().any(|line| line.code == code && line.words.contains(words))
        })
        .await;
    }
    std::fs::rename(programs.join("away"), &program).unwrap();
    second.docker("start parent").await;
    let runs = &["runs"][..];
    until_phases(&daemon, LATER, &names.map(|name| (name, runs))).await;
    for name in names {
        assert!(second.runs(name).await, "{name}");
    }
    let view = daemon.view().await.unwrap();
    for name in ["disarmed", "child", "failing"] {
        assert_eq!(of(&view, name).last.as_deref(), Some("crashed (exit 137)"), "{name}");
    }
    let restarts = second.docker("inspect -f {{.RestartCount}} disarmed").await;
    let starts = of(&view, "disarmed").starts;
    println!("after a HUP, Docker restarted it {restarts} times and supervisor {starts} times");
    assert!(starts == 1 || restarts == "1", "{starts} {restarts}");
    assert!(of(&view, "failing").starts > 1, "tried again");
    assert_eq!(of(&view, "child").starts, 1, "tried when it could work");
    assert_eq!(of(&view, "parent").starts, 0);
}

/// How often each way is measured.
const RUNS: usize = 7;

/// What supervisor may add to a start: the event's way to it, a decision, a commit, an inspect.
const ADDED_AT_MOST_MS: f64 = 150.0;

/// Other tests run beside this one: supervisor and the engine come before them, and wait for each other only.
const FIRST: &[&str] = &["nice", "-n", "-15"];

/// Docker waits so long before its own first restart. (moby, `restartmanager`: `defaultTimeout`)
const DOCKERS_PAUSE_MS: f64 = 100.0;

/// By the engine's own clock, from its `die` to its `start` event: what comes before and after is the engine's alone. The
/// engine's own time for a start is what its `restart: always` takes, less the pause that it makes first. Both crash at the
/// same moment, so that both meet the same load, and the middle one of the differences counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crashed_is_started_as_soon_as_docker_can() {
    let (world, second) = (World::new().await, Second::start_under(FIRST).await);
    let ours: Vec<String> = (0..RUNS).map(|n| format!("ours-{n}")).collect();
    let dockers: Vec<String> = (0..RUNS).map(|n| format!("dockers-{n}")).collect();
    for (ours, dockers) in ours.iter().zip(&dockers) {
        second.create(ours, "", IGNORES).await;
        second.create(dockers, "--restart always", IGNORES).await;
    }
    let names: Vec<&str> = ours.iter().chain(&dockers).map(String::as_str).collect();
    // The engine keeps what it writes in memory, and does not wait for a disk that others use; nor do we, then.
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let disk = format!("state_dir = \"{}/state\"", world.dir.path().display());
    let settings = looking_after(&world, &second, &names);
    assert!(settings.contains(&disk));
    world.write(
        &settings.replace(&disk, &format!("state_dir = \"{}\"", memory.path().join("state").display())),
    );
    let daemon = world.run_under(FIRST);
    world.well(&daemon).await;
    let all_run: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &["runs"][..])).collect();
    until_phases(&daemon, SOON, &all_run).await;
    let mut pairs = Vec::new();
    for (ours, dockers) in ours.iter().zip(&dockers) {
        second.crash(&format!("{} {}", second.pid(ours).await, second.pid(dockers).await));
        pairs.push([took(&second, ours).await, took(&second, dockers).await]);
    }
    let mut added: Vec<f64> =
        pairs.iter().map(|[ours, dockers]| ours - (dockers - DOCKERS_PAUSE_MS)).collect();
    added.sort_by(f64::total_cmp);
    println!(
        "from die to start, ms: [ours, Docker's own, of which it waits {DOCKERS_PAUSE_MS}] {pairs:.0?}; supervisor adds {added:.0?}"
    );
    assert!(added[RUNS / 2] <= ADDED_AT_MOST_MS, "{added:?}");
    until_phases(&daemon, SOON, &all_run).await;
    let view = daemon.view().await.unwrap();
    for name in names {
        assert_eq!(of(&view, name).starts, usize::from(name.starts_with("ours")), "{name}");
    }
}

/// How long after its end the new start of `name` was announced, in milliseconds.
async fn took(second: &Second, name: &str) -> f64 {
    let mut times = None;
    until(&format!("{name} is started"), async || {
        times = die_and_start(second, name).await;
        times.is_some()
    })
    .await;
    let (die, start) = times.unwrap();
    (start - die) / 1e6
}

/// When, in nanoseconds, the engine announced the end and the new start of `name`; none before it has.
async fn die_and_start(second: &Second, name: &str) -> Option<(f64, f64)> {
    let until = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let events = second
        .docker(&format!(
            "events --since 1 --until {until:.3} --filter container={name} --format {{{{.Action}}}}={{{{.TimeNano}}}}"
        ))
        .await;
    let mut died = None;
    for (action, time) in events.lines().filter_map(|line| line.split_once('=')) {
        match (action, died) {
            ("die", _) => died = time.parse::<f64>().ok(),
            ("start", Some(died)) => return Some((died, time.parse().ok()?)),
            _ => {}
        }
    }
    None
}
