//! Start, failover, failback, stop; a second one; HAProxy and Docker that are not there.

use super::world::{World, said};
use crate::haproxy::lab::{get, until};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use supervisor::status::Link;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The promise: a stop takes no longer.
const STOP_MAX: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_configures_haproxy_moves_traffic_off_a_dead_server_and_back() {
    let world = World::new().await;
    let daemon = world.running().await;
    let config = std::fs::read_to_string(world.path("haproxy.cfg")).unwrap();
    assert!(config.contains("description supervisor="), "{config}");

    let refused = Instant::now();
    world.onprem.close().await;
    world.until_served_from("cloud").await;
    eprintln!("{} ms from the refusal to the first answer of the other site", refused.elapsed().as_millis());
    daemon.until_routed_to("cloud").await;
    assert_eq!(world.routes().await, [("api".to_owned(), "api__cloud".to_owned())]);
    let log = daemon.log();
    assert!(log.contains("traffic moves from onprem to cloud"), "{log}");

    world.onprem.open().await;
    daemon.until_routed_to("onprem").await;
    world.until_served_from("onprem").await;
    let log = daemon.log();
    assert!(log.contains("traffic moves back from cloud to onprem"), "{log}");
    let map = std::fs::read_to_string(world.path("routes.map")).unwrap();
    assert!(map.contains("api api__onprem"), "{map}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_site_serves_clients_get_the_page_that_the_settings_name() {
    let world = World::new().await;
    let page = world.path("page.http");
    let words = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 21\r\n\r\nback at six, we hope\n";
    std::fs::write(&page, words).unwrap();
    let named = format!("prefer = [\"onprem\", \"cloud\"]\nmaintenance_page = \"{}\"\n", page.display());
    world.write(&world.settings().replace("prefer = [\"onprem\", \"cloud\"]\n", &named));
    let _daemon = world.running().await;
    world.onprem.close().await;
    world.cloud.close().await;
    until("clients get the page", async || {
        get(world.port).await.is_err_and(|answer| answer.contains("back at six"))
    })
    .await;
    world.cloud.open().await;
    world.until_served_from("cloud").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_takes_less_than_two_seconds_and_changes_nothing_and_a_start_adopts() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    let (worker, routes) = (world.worker().await, world.routes().await);

    // Somebody follows the events, and reads nothing any more.
    let mut follower = TcpStream::connect(("127.0.0.1", world.status)).await.unwrap();
    follower.write_all(b"GET /api/v1/events/stream HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    follower.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let mut stream = daemon.client().stream("/api/v1/events/stream").await.unwrap();

    let took = daemon.stop().await;
    assert!(took < STOP_MAX, "{took:?}");
    let end = timeout(STOP_MAX, stream.next()).await.expect("the stream ends with the process");
    assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    assert!(!world.path("control.sock").exists());
    assert_eq!((world.worker().await, world.routes().await), (worker, routes.clone()));
    assert_eq!(world.site().await.as_deref(), Ok("cloud"));

    // Onprem stays down: the route of before is what is wanted, and nothing has to be done for it.
    let again = world.run();
    again.until_routed_to("cloud").await;
    again.until("HAProxy is ours", |view| view.proxies[0].link == Link::Ours).await;
    assert_eq!((world.worker().await, world.routes().await), (worker, routes));
    let log = again.log();
    assert!(!log.contains("traffic moves") && !log.contains("was reloaded"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_was_killed_is_followed_by_one_that_adopts() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    let worker = world.worker().await;
    daemon.signal(Signal::KILL);
    daemon.ended().await;
    // The control socket is still there; nobody is behind it.
    assert!(world.path("control.sock").exists());
    world.onprem.close().await;
    // HAProxy fails over alone; who comes back takes over from there.
    world.until_served_from("cloud").await;
    let again = world.run();
    again.until_routed_to("cloud").await;
    assert_eq!(world.worker().await, worker);
    world.onprem.open().await;
    again.until_routed_to("onprem").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_one_ends_with_69_and_names_the_first() {
    let world = World::new().await;
    let daemon = world.running().await;
    let begun = Instant::now();
    let second = world.command(&["run"]);
    assert_eq!(second.status.code(), Some(69), "{}", said(&second));
    assert!(said(&second).contains(&format!("(process {})", daemon.pid())), "{}", said(&second));
    assert!(begun.elapsed() < Duration::from_secs(2));
    // The first does not even notice.
    assert_eq!(world.site().await.as_deref(), Ok("onprem"));
    assert!(daemon.view().await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_haproxy_that_comes_later_is_configured_and_one_that_is_replaced_is_routed_again() {
    let mut world = World::without_haproxy().await;
    // What an HAProxy of before has left: a socket that nobody answers at.
    drop(std::os::unix::net::UnixListener::bind(world.path("admin.sock")).unwrap());
    let daemon = world.run();
    daemon.until_logged("does not answer on its sockets").await;
    // Servers are watched all the same.
    daemon
        .until("both servers are seen", |view| {
            view.services[0].servers.iter().all(|server| server.health == "up")
        })
        .await;
    // It is left a configuration to start with.
    until("a configuration is there", async || world.path("haproxy.cfg").exists()).await;
    world.start_haproxy().await;
    world.well(&daemon).await;

    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    // A crash of HAProxy while the route is not the preferred one: with the map of long ago, it would be forgotten.
    world.stop_haproxy();
    daemon.until("the loss is noticed", |view| view.proxies[0].link == Link::Lost).await;
    std::fs::write(world.path("routes.map"), "api api__onprem\n").unwrap();
    world.start_haproxy().await;
    until("the route is in force again", async || {
        world.routes().await == [("api".to_owned(), "api__cloud".to_owned())]
    })
    .await;
    assert_eq!(world.site().await.as_deref(), Ok("cloud"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_docker_there_is_one_line_and_the_rest_goes_on() {
    let world = World::new().await;
    let socket = world.path("docker.sock");
    world.write(&format!(
        "{}container = \"api-cloud\"\n\n[engines.local]\naddress = \"unix://{}\"\n",
        world.settings(),
        socket.display()
    ));
    let daemon = world.run();
    daemon.until("the engine is missed", |view| view.engines[0].up == Some(false)).await;
    world.until_served_from("onprem").await;
    daemon.until_routed_to("onprem").await;
    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    world.until_served_from("cloud").await;
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.to_lowercase().contains("docker")).collect();
    assert!(lines.iter().any(|line| line.contains("Docker engine local does not answer")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains(&socket.display().to_string())), "{lines:#?}");
    let containers: Vec<_> = daemon.service().await.servers.into_iter().filter_map(|s| s.container).collect();
    assert_eq!(containers, ["not known: Docker does not answer"]);
    // Over a second of further attempts added nothing.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let docker = |log: String| log.lines().filter(|line| line.to_lowercase().contains("docker")).count();
    assert_eq!(docker(daemon.log()), lines.len());
}
