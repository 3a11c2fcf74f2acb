//! `supervisor --once`, alone and beside a daemon.

use super::world::{World, program, said};
use crate::haproxy::lab::free_port;
use rustix::process::Signal;
use std::process::Output;
use std::time::{Duration, Instant};

/// Settings under which our own probe of onprem fails on the way, while HAProxy knows the server by its address.
fn without_a_way_to_onprem(world: &World) -> String {
    let address = format!("address = \"127.0.0.1:{}\"", world.onprem.port);
    let text = world.settings();
    assert!(text.contains(&address));
    text.replace(&address, "address = \"api-onprem.invalid:80\"")
}

fn once(world: &World, settings: &str, more: &[&str]) -> (Output, Duration) {
    let config = world.path("once.toml");
    std::fs::write(&config, settings).unwrap();
    let begun = Instant::now();
    let output = program(&config, &[&["--once"], more].concat()).output().unwrap();
    (output, begun.elapsed())
}

/// HAProxy as a daemon has configured it, which is no longer there.
async fn left_alone() -> World {
    let world = World::new().await;
    world.running().await.stop().await;
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_nobody_reaches_is_down_and_what_would_be_done_is_said() {
    let world = left_alone().await;
    let (well, took) = once(&world, &world.settings(), &[]);
    assert_eq!(well.status.code(), Some(0), "{}", said(&well));
    assert!(!said(&well).contains("has not confirmed"), "nothing was sent: {}", said(&well));
    assert!(took < Duration::from_millis(500), "{took:?} although all answer");

    world.onprem.close().await;
    let (ran, took) = once(&world, &without_a_way_to_onprem(&world), &[]);
    let said = said(&ran);
    assert!(said.contains("would do:\n  api: traffic moves from onprem to cloud"), "{took:?}: {said}");
    // What was found is told as it was found, not as it would be.
    assert!(said.contains("api: DEGRADED, served from onprem"), "{said}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(ran.status.code(), Some(1), "{said}");
    // Nothing was done.
    assert_eq!(world.routes().await, [("api".to_owned(), "api__onprem".to_owned())]);

    let (ran, _) = once(&world, &without_a_way_to_onprem(&world), &["--apply"]);
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");
    assert_eq!(world.routes().await, [("api".to_owned(), "api__cloud".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_haproxy_reaches_is_not_moved_away_from_even_with_apply() {
    let world = left_alone().await;
    let (ran, _) = once(&world, &without_a_way_to_onprem(&world), &["--apply"]);
    let said = said(&ran);
    assert!(said.contains("would do: nothing"), "{said}");
    assert_eq!(ran.status.code(), Some(1), "degraded: {said}");
    assert_eq!(world.routes().await, [("api".to_owned(), "api__onprem".to_owned())]);
}

/// Settings with which onprem is refused, although it serves.
fn with_a_wrong_port(world: &World) -> String {
    let address = format!("address = \"127.0.0.1:{}\"", world.onprem.port);
    world.settings().replace(&address, &format!("address = \"127.0.0.1:{}\"", free_port()))
}

/// What was printed, each paragraph on one line.
fn unwrapped(output: &Output) -> String {
    said(output).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_daemon_apply_forces_nothing_for_which_the_daemon_has_no_evidence() {
    let world = World::new().await;
    let daemon = world.running().await;
    let (ran, _) = once(&world, &with_a_wrong_port(&world), &["--apply"]);
    let words = unwrapped(&ran);
    assert!(words.contains("alone, supervisor would do: api: traffic moves from onprem to cloud"), "{words}");
    assert!(
        words.contains(
            "api to cloud: not ordered: the daemon does not hold onprem to be down: api-onprem is up (200"
        ),
        "{words}"
    );
    assert_eq!(ran.status.code(), Some(0), "all is well as the daemon sees it: {words}");
    assert_eq!(daemon.service().await.generation, 1);
    assert_eq!(world.routes().await, [("api".to_owned(), "api__onprem".to_owned())]);

    // What the daemon has done already, nobody has to do.
    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    let (ran, _) = once(&world, &world.settings(), &["--apply", "--format", "json"]);
    let document: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(
        (&document["would_do"], &document["orders"]),
        (&serde_json::json!([]), &serde_json::json!([]))
    );
    assert_eq!(document["daemon"]["services"][0]["serving"], "cloud", "{document}");
    assert_eq!(ran.status.code(), Some(1), "degraded: {document}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_cannot_be_asked_is_not_taken_for_none() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    daemon.signal(Signal::STOP);
    let (ran, _) = once(&world, &with_a_wrong_port(&world), &["--apply"]);
    assert_eq!(ran.status.code(), Some(69), "{}", said(&ran));
    assert!(said(&ran).contains("did not answer in time"), "{}", said(&ran));
    daemon.signal(Signal::CONT);
    daemon.stop().await;

    // One without its control socket: the lock tells that it is there.
    let settings = world.settings().replace("/control.sock\"", "/run/control.sock\"");
    world.write(&settings);
    let daemon = world.run();
    daemon.until_logged("the directory must exist and be writable").await;
    world.until_served_from("onprem").await;
    let wrong = with_a_wrong_port(&world).replace("/control.sock\"", "/run/control.sock\"");
    let (ran, _) = once(&world, &wrong, &["--apply"]);
    assert_eq!(ran.status.code(), Some(69), "{}", said(&ran));
    assert!(said(&ran).contains(&format!("(process {})", daemon.pid())), "{}", said(&ran));
    assert_eq!(world.routes().await, [("api".to_owned(), "api__onprem".to_owned())]);
}
