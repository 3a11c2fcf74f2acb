//! Listeners that cannot be opened: traffic is steered all the same, and they come when they can.

use super::world::{Daemon, World, said};
use crate::haproxy::lab::until;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use supervisor::domain::explain::Grade;
use supervisor::status::View;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The status as the TCP listener tells it.
async fn told_on_tcp(world: &World) -> Option<View> {
    let mut stream = TcpStream::connect(("127.0.0.1", world.status)).await.ok()?;
    stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
}

async fn traffic_moves(world: &World) {
    world.until_served_from("onprem").await;
    world.onprem.close().await;
    world.until_served_from("cloud").await;
    until("the map says cloud", async || {
        world.routes().await == [("api".to_owned(), "api__cloud".to_owned())]
    })
    .await;
    world.onprem.open().await;
    until("the map says onprem", async || {
        world.routes().await == [("api".to_owned(), "api__onprem".to_owned())]
    })
    .await;
}

fn has_problem(view: &View, words: &str) -> bool {
    view.grade == Grade::Degraded && view.problems.iter().any(|problem| problem.contains(words))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_address_that_is_taken_costs_the_status_listener_only_until_it_is_free() {
    let world = World::new().await;
    let somebody = TcpListener::bind(("127.0.0.1", world.status)).unwrap();
    let mut daemon = world.run();
    let address = format!("cannot listen on 127.0.0.1:{}", world.status);
    daemon.until("the problem is shown on the socket", |view| has_problem(view, &address)).await;
    let problems = daemon.view().await.unwrap().problems;
    assert!(problems[0].contains("status.listen") && problems[0].contains("in use"), "{problems:?}");
    traffic_moves(&world).await;
    assert_eq!(daemon.log().matches(&address).count(), 1, "told once");
    drop(somebody);
    until("it listens", async || told_on_tcp(&world).await.is_some_and(|view| view.problems.is_empty()))
        .await;
    assert!(daemon.stop().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_socket_that_cannot_be_made_costs_orders_only_until_it_can() {
    let world = World::new().await;
    let place = world.path("run");
    world.write(&world.settings().replace("/control.sock\"", "/run/control.sock\""));
    let daemon = world.run();
    until("the problem is shown on the page", async || {
        told_on_tcp(&world).await.is_some_and(|view| has_problem(&view, &place.display().to_string()))
    })
    .await;
    traffic_moves(&world).await;
    // A second one is refused although nobody answers on the socket.
    let second = world.command(&["run"]);
    assert_eq!(second.status.code(), Some(69), "{}", said(&second));
    assert!(said(&second).contains(&format!("(process {})", daemon.pid())), "{}", said(&second));

    std::fs::create_dir(&place).unwrap();
    until("it can be asked", async || world.command(&["status"]).status.code() == Some(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_either_listener_traffic_is_steered_and_the_log_says_what_to_do() {
    let world = World::new().await;
    let _somebody = TcpListener::bind(("127.0.0.1", world.status)).unwrap();
    world.write(&world.settings().replace("/control.sock\"", "/run/control.sock\""));
    let mut daemon = world.run();
    daemon.until_logged("the directory must exist and be writable").await;
    daemon.until_logged("status.listen").await;
    traffic_moves(&world).await;
    assert!(daemon.stop().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lock_who_answers_on_the_control_socket_counts_as_the_first() {
    let world = World::new().await;
    // There is no state directory to lock, and none can be made.
    std::fs::write(world.path("state"), "").unwrap();
    let daemon: Daemon = world.run();
    daemon.until_routed_to("onprem").await;
    let begun = Instant::now();
    let second = world.command(&["run"]);
    assert_eq!(second.status.code(), Some(69), "{}", said(&second));
    assert!(said(&second).contains("another process answers on the control socket"), "{}", said(&second));
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(daemon.view().await.is_ok());
}
