//! Settings and templates that are wrong: at the start, and while the daemon runs.

use super::world::{World, program, said};
use crate::haproxy::lab::until;
use rustix::process::Signal;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use supervisor::domain::explain::Grade;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_settings_leave_the_old_ones_in_force_and_are_told_until_they_are_mended() {
    let world = World::new().await;
    let daemon = world.running().await;
    let good = world.settings();
    let line = 1 + good.lines().position(|line| line.starts_with("site = \"cloud\"")).unwrap();
    world.write(&good.replace("site = \"cloud\"", "sight = \"cloud\""));
    daemon.until("the problem is shown", |view| !view.problems.is_empty()).await;
    let problems = daemon.view().await.unwrap().problems;
    let place = format!("supervisor.toml:{line}:");
    assert!(problems.iter().any(|words| words.contains(&place)), "{problems:#?}");
    assert!(daemon.log().contains(&place), "the log names {place}");

    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    world.until_served_from("cloud").await;
    world.onprem.open().await;

    world.write(&good);
    daemon.until("the problem is gone", |view| view.problems.is_empty()).await;
    daemon.until_routed_to("onprem").await;
    let log = daemon.log();
    assert!(!log.contains("was refused"), "HAProxy was not bothered: {log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_settings_are_taken_over_while_traffic_flows() {
    let world = World::new().await;
    let daemon = world.running().await;
    let with_third = format!(
        "{}\n[services.api.servers.api-third]\nsite = \"third\"\naddress = \"127.0.0.1:{}\"\n",
        world.settings().replace(r#"["onprem", "cloud"]"#, r#"["onprem", "cloud", "third"]"#),
        world.cloud.port
    );
    world.write(&with_third);
    daemon
        .until("the new server is healthy", |view| {
            view.services[0]
                .servers
                .iter()
                .any(|server| server.name.as_str() == "api-third" && server.health == "up")
        })
        .await;
    let config = || std::fs::read_to_string(world.path("haproxy.cfg")).unwrap();
    until("HAProxy knows it", async || config().contains("api__third")).await;
    assert_eq!(world.site().await.as_deref(), Ok("onprem"));

    // The site that serves is taken away: traffic moves first.
    let without_onprem: String = {
        let text = world.settings().replace(r#"["onprem", "cloud"]"#, r#"["cloud"]"#);
        let (before, rest) = text.split_once("[services.api.servers.api-onprem]").unwrap();
        let (_, after) = rest.split_once("[services.api.servers.api-cloud]").unwrap();
        format!("{before}[services.api.servers.api-cloud]{after}")
    };
    world.write(&without_onprem);
    daemon.until_routed_to("cloud").await;
    world.until_served_from("cloud").await;
    until("HAProxy forgets it", async || !config().contains("api__onprem")).await;
    assert_eq!(world.site().await.as_deref(), Ok("cloud"));
    assert!(daemon.log().contains("new settings are in force"), "PolicyChanged is told");

    // And SIGHUP, for those who trust no watch.
    daemon.signal(Signal::HUP);
    daemon.until_logged("read again, as asked").await;
    assert_eq!(world.site().await.as_deref(), Ok("cloud"));
}

const SHIPPED: &str = supervisor::actuator::haproxy::template::DEFAULT_TEMPLATE;

/// The settings, with a template of the operator's own.
fn with_template(world: &World, template: &Path) -> String {
    let template = format!("[proxies.edge]\ntemplate = \"{}\"", template.display());
    world.settings().replace("[proxies.edge]", &template)
}

/// Waits until `supervisor explain` says `words`, wherever it breaks the lines.
async fn explained(world: &World, words: &str) {
    until(&format!("explain says {words:?}"), async || {
        said(&world.command(&["explain", "api"])).replace("\n    ", " ").contains(words)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_haproxy_refuses_touches_neither_the_file_nor_the_process() {
    let world = World::new().await;
    let daemon = world.running().await;
    let (worker, old) = (world.worker().await, std::fs::read(world.path("haproxy.cfg")).unwrap());
    let template = world.path("mine.tera");
    let bad = SHIPPED.replacen("    mode http\n", "    mode http\n    timeout sometimes 5s\n", 1);
    std::fs::write(&template, bad).unwrap();
    world.write(&with_template(&world, &template));

    daemon.until_logged("(got 'sometimes')").await;
    explained(&world, "(got 'sometimes')").await;
    assert_eq!(daemon.view().await.unwrap().grade, Grade::Degraded);
    // The job goes on meanwhile.
    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    world.onprem.open().await;
    daemon.until_routed_to("onprem").await;
    assert_eq!(std::fs::read(world.path("haproxy.cfg")).unwrap(), old);
    assert_eq!(world.worker().await, worker);

    // Mended where it is, and seen at the next look: no new start, no touch of the settings.
    std::fs::write(&template, format!("{SHIPPED}\n# mine\n")).unwrap();
    until("the template is in force", async || {
        std::fs::read_to_string(world.path("haproxy.cfg")).unwrap().contains("# mine")
    })
    .await;
    daemon.until("all is well", |view| view.grade == Grade::Well).await;
    assert_eq!(daemon.log().matches("goes on with its old configuration").count(), 1, "told once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_that_cannot_be_rendered_is_refused_by_its_line_or_by_what_it_is() {
    let world = World::new().await;
    let daemon = world.running().await;
    let (worker, old) = (world.worker().await, std::fs::read(world.path("haproxy.cfg")).unwrap());

    let typo = world.path("typo.tera");
    let text = SHIPPED.replacen("    mode http\n", "    mode http\n    maxconn {{ proxy.maxcon }}\n", 1);
    let line = 1 + text.lines().position(|line| line.contains("proxy.maxcon }}")).unwrap();
    std::fs::write(&typo, text).unwrap();
    world.write(&with_template(&world, &typo));
    explained(&world, "maxcon").await;
    let words = said(&world.command(&["explain", "api"])).replace("\n    ", " ");
    assert!(words.contains(&format!(":{line}:")), "line {line} is named: {words}");
    assert!(daemon.log().contains(&format!(":{line}:")), "line {line} is named in the log");

    let missing = world.path("missing.tera");
    world.write(&with_template(&world, &missing));
    explained(&world, &missing.display().to_string()).await;

    // A pipe that nobody writes into, and a file without end.
    let pipe = world.path("pipe.tera");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    world.write(&with_template(&world, &pipe));
    explained(&world, "is no regular file").await;
    let large = world.path("large.tera");
    std::fs::write(&large, vec![b'#'; 10 << 20]).unwrap();
    world.write(&with_template(&world, &large));
    explained(&world, "is it the right file?").await;

    assert_eq!(std::fs::read(world.path("haproxy.cfg")).unwrap(), old);
    assert_eq!(world.worker().await, worker);
    world.write(&world.settings());
    daemon.until("all is well", |view| view.grade == Grade::Well).await;
}

#[test]
fn what_cannot_be_settings_ends_with_64_and_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    std::fs::create_dir(dir.path().join("directory.toml")).unwrap();
    let cases = [
        (dir.path().join("missing.toml"), "no such file"),
        (file("empty.toml", b""), "no HAProxy is named"),
        (dir.path().join("directory.toml"), "is a directory"),
        (file("large.toml", &vec![b'#'; 10 << 20]), "1 MiB"),
        (file("latin1.toml", b"# one\n# M\xfcller\n"), "latin1.toml:2: is not UTF-8"),
    ];
    for (path, words) in cases {
        for command in ["run", "check-config"] {
            let begun = Instant::now();
            let output = program(&path, &[command]).output().unwrap();
            let said = said(&output);
            assert_eq!(output.status.code(), Some(64), "{command} {}: {said}", path.display());
            assert!(said.contains(words) && said.contains(&path.display().to_string()), "{command}: {said}");
            assert!(begun.elapsed() < Duration::from_secs(2), "{command} {}", path.display());
        }
    }
}

#[test]
fn the_built_in_template_is_printed_without_any_settings() {
    let output = program(Path::new("/no/such/settings.toml"), &["render", "--template"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), SHIPPED);
}

#[test]
fn a_credential_is_the_daemons_and_no_command_fails_for_want_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("supervisor.toml");
    let mail = "[mail]\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n[mail.relays.main]\nhost = \"mx.example\"\n\
                user = \"a\"\npassword_credential = \"smtp-password\"\n";
    let smallest = include_str!("../../../src/settings/fixtures/smallest.toml");
    std::fs::write(&path, format!("{smallest}\n{mail}")).unwrap();
    for (command, code) in [("check-config", 0), ("render", 0), ("run", 64)] {
        let output = program(&path, &[command]).env_remove("CREDENTIALS_DIRECTORY").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {}", said(&output));
        // As systemd 252 starts the commands of a reload.
        let missing = dir.path().join("credentials");
        let output = program(&path, &[command]).env("CREDENTIALS_DIRECTORY", missing).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {}", said(&output));
    }
    // Where they are given, they are looked at.
    let output = program(&path, &["check-config"]).env("CREDENTIALS_DIRECTORY", dir.path()).output().unwrap();
    assert!(said(&output).contains("smtp-password cannot be read"), "{}", said(&output));
}
