//! Servers that people take out of service: from the command to HAProxy and back, through kills, restarts and slow disks.

use super::mailroom::kill;
use super::world::{Daemon, World, said};
use crate::haproxy::lab::until;
use std::process::Output;
use std::time::{Duration, Instant};
use supervisor::actuator::haproxy::{Client, Command, Runtime, Worker, observe};
use supervisor::control::protocol::OrderBody;
use supervisor::control::{Answer, CommandBody};
use supervisor::domain::id::ServerId;
use supervisor::domain::maintenance::Admin;
use supervisor::status::{ServerView, ServiceView};

fn runtime(world: &World) -> Runtime {
    let client = |name| Client::unix(world.path(name));
    Runtime::new(client("admin.sock"), Some(client("master.sock")))
}

/// `srv_admin_state` of the server at onprem; none if HAProxy has no such line.
async fn bits(world: &World) -> Option<u32> {
    let map = world.path("routes.map").display().to_string().parse().unwrap();
    let seen = observe(&runtime(world), &map).await.ok()?;
    let line = seen.servers.get(&("api__onprem".to_owned(), "api-onprem".to_owned()))?;
    Some(line.admin.0)
}

async fn until_bits(world: &World, wanted: u32) {
    until(&format!("HAProxy has {wanted}"), async || bits(world).await == Some(wanted)).await;
}

fn id(server: &str) -> ServerId {
    ServerId { service: "api".parse().unwrap(), server: server.parse().unwrap() }
}

fn out(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn onprem(service: &ServiceView) -> &ServerView {
    service.servers.iter().find(|server| server.name.as_str() == "api-onprem").unwrap()
}

async fn until_back(daemon: &Daemon) {
    daemon
        .until("it is in service, and HAProxy shows it", |view| {
            let server = onprem(&view.services[0]);
            server.admin == "ready" && server.pending.is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_outlives_a_kill_of_supervisor_and_a_restart_of_haproxy_and_ends_with_a_word() {
    let mut world = World::new().await;
    let mut daemon = world.running().await;
    let said = out(&world.command(&["drain", "api-onprem", "--reason", "kernel update"]));
    eprintln!("{said}");
    assert!(said.starts_with("api-onprem is drained (no new clients); in force after "), "{said}");
    assert!(said.contains("moved api from onprem to cloud"), "{said}");
    assert_eq!((bits(&world).await, world.site().await.as_deref()), (Some(8), Ok("cloud")));
    let log = daemon.log();
    assert!(log.contains("api-onprem is drained (no new clients) in HAProxy edge, after"), "{log}");

    kill(&mut daemon).await;
    assert_eq!((bits(&world).await, world.site().await.as_deref()), (Some(8), Ok("cloud")));
    // Nobody watches: who looks knows of it all the same.
    let once = world.command(&["--once"]);
    let once = String::from_utf8_lossy(&once.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(once.contains("api-onprem was drained (no new clients) by"), "{once}");
    assert!(once.contains("(kernel update); no expiry") && once.contains("would do: nothing"), "{once}");

    world.stop_haproxy();
    let daemon = world.run();
    world.start_haproxy().await;
    until_bits(&world, 8).await;
    daemon.until_routed_to("cloud").await;
    let service = daemon.service().await;
    let order = onprem(&service).out.clone().unwrap();
    assert_eq!((order.because.as_deref(), order.until), (Some("kernel update"), None));
    assert!(service.reasons.iter().any(|reason| reason.code == "maintenance_holds"));

    let said = out(&world.command(&["ready", "api/api-onprem"]));
    assert!(said.starts_with("api-onprem is in service again; in force after "), "{said}");
    assert_eq!(bits(&world).await, Some(0));
    daemon.until_routed_to("onprem").await;
    world.until_served_from("onprem").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_time_was_over_while_supervisor_was_away_is_put_back() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    out(&world.command(&["maint", "api-onprem", "--for", "1s"]));
    assert_eq!(bits(&world).await, Some(1));
    kill(&mut daemon).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(bits(&world).await, Some(1), "nobody is there to put it back");
    let daemon = world.run();
    until_bits(&world, 0).await;
    until_back(&daemon).await;
    daemon.until_logged("the time it was taken out for is over").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_by_hand_is_left_alone_until_a_person_names_the_server() {
    let world = World::new().await;
    let daemon = world.running().await;
    let by_hand = Command::set_server_state(
        &"api__onprem".parse().unwrap(),
        &"api-onprem".parse().unwrap(),
        supervisor::actuator::haproxy::AdminState::Maint,
    );
    runtime(&world).order(Worker::Current, &by_hand).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(bits(&world).await, Some(1), "a look or two later");
    assert_eq!(onprem(&daemon.service().await).admin, "ready", "it is nobody's order");
    out(&world.command(&["ready", "api-onprem"]));
    assert_eq!(bits(&world).await, Some(0));
}

/// HAProxy would keep what a crash of ours has forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_is_told_of_an_order_when_the_disk_has_it() {
    /// Within what a commit may take before the disk counts as slow (half a second).
    const SYNC: Duration = Duration::from_millis(150);
    let world = World::new().await;
    let mut daemon = world.run_on_slow_disk(SYNC);
    world.well(&daemon).await;
    // What the start has to write, it has written: for longer than a sync takes, there was none.
    let (mut syncs, mut since) = (world.syncs(), Instant::now());
    until("nothing is being written", async || {
        if syncs != world.syncs() {
            (syncs, since) = (world.syncs(), Instant::now());
        }
        since.elapsed() > 2 * SYNC
    })
    .await;
    let order =
        OrderBody::Maintain { server: id("api-onprem"), admin: Admin::Maint, for_ms: None, force: false };
    let body = CommandBody { order, because: None, dry_run: false };
    let (client, given) = (daemon.client(), Instant::now());
    let answer = tokio::spawn(async move { client.command(&body).await });
    // The route goes at once.
    world.until_served_from("cloud").await;
    let routed = given.elapsed();
    until_bits(&world, 1).await;
    let told = given.elapsed();
    eprintln!("the route after {routed:?}, the server after {told:?}");
    assert!(told >= SYNC, "HAProxy knew it after {told:?}");
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(answer.verdict, Answer::Accepted);

    // And back; killed before the disk has it, nobody has heard of it.
    let order =
        OrderBody::Maintain { server: id("api-cloud"), admin: Admin::Maint, for_ms: None, force: true };
    let (client, body) = (daemon.client(), CommandBody { order, because: None, dry_run: false });
    let answer = tokio::spawn(async move { client.command(&body).await });
    tokio::time::sleep(SYNC / 3).await;
    kill(&mut daemon).await;
    assert!(answer.await.unwrap().is_err(), "it was answered");
    let map = world.path("routes.map").display().to_string().parse().unwrap();
    let seen = observe(&runtime(&world), &map).await.unwrap();
    let cloud = &seen.servers[&("api__cloud".to_owned(), "api-cloud".to_owned())];
    assert_eq!(cloud.admin.0, 0);
}
