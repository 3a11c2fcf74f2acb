//! `supervisor --once`, alone and beside a daemon.

use super::world::{World, program, said};
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
    assert!(took < Duration::from_millis(500), "{took:?} although all answer");

    world.onprem.close().await;
    let (ran, took) = once(&world, &without_a_way_to_onprem(&world), &[]);
    let said = said(&ran);
    assert!(said.contains("would do:\n  api: traffic moved from onprem to cloud"), "{took:?}: {said}");
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
