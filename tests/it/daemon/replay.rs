//! The journal of a real daemon in front of a real HAProxy, decided again: the same bytes; and under other settings.

use super::world::{Daemon, SUPERVISOR, World, said};
use crate::haproxy::lab::until;
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// Without `--config`, which means other settings: the store is that of the world's settings.
fn replay(world: &World, arguments: &[&str]) -> Output {
    command(world).args(arguments).output().unwrap()
}

fn command(world: &World) -> Command {
    let mut command = Command::new(SUPERVISOR);
    command.env("SUPERVISOR_CONFIG", world.config());
    command
}

/// Fails over and back.
async fn to_cloud_and_back(world: &World, daemon: &Daemon) {
    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    world.onprem.open().await;
    daemon.until_routed_to("onprem").await;
    daemon.until("all is well", |view| view.grade == supervisor::domain::explain::Grade::Well).await;
}

/// What is decided is on the disk.
async fn until_stored(world: &World, words: &str, times: usize) {
    until("the journal has it", async || {
        let said = said(&replay(world, &["replay", "--all"]));
        said.matches(words).count() >= times
    })
    .await;
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn summary(output: &Output) -> Value {
    lines(output).pop().unwrap()["summary"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_is_decided_again_byte_for_byte_beside_the_daemon_and_from_a_file() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    to_cloud_and_back(&world, &daemon).await;
    let drained = world.command(&["drain", "api/api-cloud", "--for", "1h", "--reason", "kernel update"]);
    assert!(drained.status.success(), "{}", said(&drained));
    let ready = world.command(&["ready", "api/api-cloud"]);
    assert!(ready.status.success(), "{}", said(&ready));
    world.write(&world.settings().replace("limit = 30", "limit = 20"));
    daemon.until_logged("new settings are in force").await;
    daemon.stop().await;
    let daemon = world.running().await;
    to_cloud_and_back(&world, &daemon).await;
    until_stored(&world, "traffic moves back from cloud to onprem", 2).await;

    let shown = replay(&world, &["replay"]);
    assert_eq!(shown.status.code(), Some(0), "{}", said(&shown));
    let text = said(&shown);
    assert!(text.contains("all are byte for byte those"), "{text}");
    assert!(text.contains("api: traffic moves back from cloud to onprem"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let counted = summary(&replay(&world, &["replay", "--format", "json"]));
    assert_eq!(counted["differences"], 0);
    assert!(counted["decided"].as_u64() > Some(30) && counted["skipped"] == 0, "{counted}");

    // The same from a file, and from standard input.
    let file = world.path("night.jsonl");
    let path = file.display().to_string();
    let exported = replay(&world, &["journal", "export", "--output", &path]);
    assert!(exported.status.success(), "{}", said(&exported));
    let again = replay(&world, &["journal", "export", "--output", &path]);
    assert_eq!(again.status.code(), Some(64), "it is there already: {}", said(&again));
    let from_file = replay(&world, &["replay", "--from", &path, "--format", "json"]);
    assert_eq!(from_file.status.code(), Some(0), "{}", said(&from_file));
    assert!(summary(&from_file)["decided"].as_u64() >= counted["decided"].as_u64());
    let text = std::fs::read(&file).unwrap();
    let mut piped = command(&world)
        .args(["replay", "--from", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    piped.stdin.take().unwrap().write_all(&text).unwrap();
    assert!(piped.wait_with_output().unwrap().status.success());

    // A word that was changed is found, with its place; so is a line that is cut.
    let text = String::from_utf8(text).unwrap();
    let forged = text.replacen("\"to\":\"cloud\",\"cause\"", "\"to\":\"onprem\",\"cause\"", 1);
    assert_ne!(forged, text);
    std::fs::write(&file, forged).unwrap();
    let forged = replay(&world, &["replay", "--from", &path]);
    assert_eq!(forged.status.code(), Some(1), "{}", said(&forged));
    assert!(said(&forged).contains("DIFFERS: record "), "{}", said(&forged));
    std::fs::write(&file, &text[..text.len() - 30]).unwrap();
    let cut = replay(&world, &["replay", "--from", &path]);
    assert_eq!(cut.status.code(), Some(64), "{}", said(&cut));
    let last = text.lines().count();
    assert!(said(&cut).contains(&format!("{path}:{last}: it is no line of an export")), "{}", said(&cut));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_settings_would_have_moved_traffic_for_one_lost_answer_and_brought_it_back_sooner() {
    let world = World::new().await;
    let settings = world.settings().replace("after = \"1s\"", "after = \"3s\"");
    let settings = settings.replace("fast_interval = \"20ms\"", "fast_interval = \"20ms\", fall = 50");
    world.write(&settings);
    let daemon = world.running().await;
    to_cloud_and_back(&world, &daemon).await;
    // Some answers are lost, too few to count; then it is well again.
    world.onprem.hang(true);
    until("an answer is lost", async || lost(&world) > 0).await;
    world.onprem.hang(false);
    until("it answers again", async || {
        let last = said(&replay(&world, &["replay", "--all"]));
        let ready = |line: &&str| line.contains("  probe of api-onprem");
        last.lines().rfind(ready).is_some_and(|line| line.contains("200 in"))
    })
    .await;

    let other = world.path("other.toml");
    std::fs::write(&other, settings.replace("fall = 50", "fall = 1")).unwrap();
    let with = ["replay", "--format", "json", "--config", other.to_str().unwrap()];
    // It is told up to now: the return comes when its time has come.
    until("it would have gone to cloud and back once more", async || {
        summary(&replay(&world, &with))["would"]["switches"] == 4
    })
    .await;
    let compared = replay(&world, &with);
    assert_eq!(compared.status.code(), Some(0), "{}", said(&compared));
    assert_eq!(summary(&compared)["was"]["switches"], 2, "{}", said(&compared));

    std::fs::write(&other, settings.replace("after = \"3s\"", "after = \"1500ms\"")).unwrap();
    let compared = replay(&world, &with);
    let totals = summary(&compared);
    assert_eq!(
        (&totals["was"]["switches"], &totals["would"]["switches"]),
        (&2.into(), &2.into()),
        "{}",
        said(&compared)
    );
    let rows = lines(&compared);
    let failback = rows.iter().find(|row| row["was"]["code"] == "failback").unwrap();
    assert!(failback["would"]["at"].as_str() < failback["was"]["at"].as_str(), "{failback}");
    let text = said(&replay(&world, &["replay", "--config", other.to_str().unwrap()]));
    assert!(
        text.contains("later: api: traffic") && text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

/// How many probes that failed are in the journal.
fn lost(world: &World) -> usize {
    let all = replay(world, &["replay", "--all"]);
    said(&all).matches("no answer in time").count()
}

/// Passwords, tokens and keys of the settings: the core never hears of them, so that no journal has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_the_settings_are_in_no_export() {
    const SECRET: &str = "open-sesame-4711";
    let world = World::new().await;
    std::fs::write(world.path("secret"), SECRET).unwrap();
    let secret = world.path("secret").display().to_string();
    let settings = format!(
        "{}\n[alerts.alertmanagers.am1]\nurl = \"http://127.0.0.1:9\"\nuser = \"sup\"\npassword_file = \"{secret}\"\n\
         [alerts.alertmanagers.am2]\nurl = \"http://127.0.0.1:9\"\ntoken_file = \"{secret}\"\n\
         [mail]\nfrom = \"s@example.com\"\nto = [\"o@example.com\"]\n[mail.relays.main]\nhost = \"127.0.0.1\"\nport = 9\n\
         tls = \"implicit\"\nuser = \"sup\"\npassword_file = \"{secret}\"\n",
        world.settings()
    );
    world.write(&settings);
    let daemon = world.running().await;
    daemon.until_logged("does not take alerts").await;
    to_cloud_and_back(&world, &daemon).await;
    until_stored(&world, "does not take alerts", 2).await;
    let exported = replay(&world, &["journal", "export"]);
    assert!(exported.status.success(), "{}", said(&exported));
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(text.contains("\"am2\"") && text.lines().count() > 10, "{text}");
    assert!(!text.contains(SECRET));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_replayed_says_why_and_ends_as_documented() {
    let world = World::without_haproxy().await;
    let ends = |arguments: &[&str], code: i32, words: &str| {
        let output = replay(&world, arguments);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.replace('\n', " ").contains(words), "{arguments:?}: {text}");
    };
    ends(&["replay"], 69, "there is no store in");
    ends(&["journal", "export"], 69, "there is no store in");
    ends(&["replay", "--since", "2999-01-01T00:00"], 64, "yet to come");
    ends(&["replay", "--since", "1h", "--until", "2h"], 64, "--until is not after --since");
    ends(&["replay", "--from", "/nonexistent"], 64, "/nonexistent cannot be read");
    ends(&["replay", "--config", "/nonexistent.toml"], 64, "/nonexistent.toml");
    // A store in which nothing was stored yet, and one of a later version.
    let state = world.path("state");
    std::fs::create_dir_all(&state).unwrap();
    let (store, _) = supervisor::store::Store::open(&state, "boot", Default::default()).unwrap();
    assert!(store.close(Duration::from_secs(20)));
    ends(&["replay"], 69, "the journal in");
    ends(&["journal", "export"], 69, "is empty");
    let other = world.path("elsewhere");
    let mut daemon = world.run();
    daemon.until("it watches", |_| true).await;
    until("something is stored", async || replay(&world, &["replay"]).status.success()).await;
    // Nothing is decided any more.
    daemon.stop().await;
    ends(&["replay", "--since", "1ms"], 0, "nothing was decided in the time asked for");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::copy(state.join("supervisor.db"), other.join("supervisor.db")).unwrap();
    let conn = rusqlite::Connection::open(other.join("supervisor.db")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    drop(conn);
    ends(&["replay", "--state-dir", other.to_str().unwrap()], 70, "was made by a newer supervisor");
}
