//! What the program tells systemd (sd_notify(3)), heard on a socket of our own.

use super::world::World;
use crate::haproxy::lab;
use rustix::process::Signal;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Far longer than a start and a third of the watchdog's time.
const LONGEST: Duration = Duration::from_secs(20);

/// A socket as systemd's, and how a process is told of it.
fn socket(world: &World) -> (UnixDatagram, String) {
    let path = world.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    (socket, format!("NOTIFY_SOCKET={}", path.display()))
}

/// Everything that is said, up to the first line that begins with `start`.
fn until(socket: &UnixDatagram, start: &str) -> Vec<String> {
    let begun = Instant::now();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.iter().any(|line: &String| line.starts_with(start)) {
        assert!(begun.elapsed() < LONGEST, "nothing about {start} among {heard:?}");
        // Nothing for a while is no error: the loop looks at the time.
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_hears_that_it_is_ready_alive_and_stops() {
    let world = World::new().await;
    let (socket, notify) = socket(&world);
    let mut daemon = world.run_under(&["env", &notify, "WATCHDOG_USEC=900000"]);
    // All but the last wait may already have heard more than it waited for.
    let mut heard = until(&socket, "STATUS=well: api on onprem");
    for word in ["READY=1", "WATCHDOG=1"] {
        if !heard.iter().any(|line| line == word) {
            heard.extend(until(&socket, word));
        }
    }
    until(&socket, "WATCHDOG=1");
    world.onprem.close().await;
    until(&socket, "STATUS=degraded: api on cloud");
    daemon.stop().await;
    until(&socket, "STOPPING=1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_when_each_server_was_heard_of_and_not_before() {
    const SILENT: Duration = Duration::from_millis(1500);
    let world = World::new().await;
    let (socket, notify) = socket(&world);
    // HAProxy and onprem answer in milliseconds; what is known of cloud is known when its probe's time is over.
    world.write(&world.settings().replace("timeout = \"250ms\"", "timeout = \"1500ms\""));
    world.cloud.hang(true);
    let begun = Instant::now();
    let _daemon = world.run_under(&["env", &notify]);
    until(&socket, "READY=1");
    assert!(begun.elapsed() >= SILENT, "ready after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ready_when_haproxy_serves_and_not_before() {
    let world = World::new().await;
    let (socket, notify) = socket(&world);
    let slow = world.path("slow-haproxy");
    let binary = format!("haproxy_binary = \"{}\"", lab::binary().display());
    assert!(world.settings().contains(&binary));
    std::fs::write(&slow, format!("#!/bin/sh\nsleep 1\nexec {} \"$@\"\n", lab::binary().display())).unwrap();
    std::fs::set_permissions(&slow, Permissions::from_mode(0o755)).unwrap();
    world.write(&world.settings().replace(&binary, &format!("haproxy_binary = \"{}\"", slow.display())));
    let _daemon = world.run_under(&["env", &notify]);
    until(&socket, "READY=1");
    assert_eq!(world.site().await.as_deref(), Ok("onprem"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_told_from_its_beginning_to_its_end_good_or_bad() {
    let world = World::new().await;
    let (socket, notify) = socket(&world);
    let daemon = world.run_under(&["env", &notify]);
    until(&socket, "READY=1");
    daemon.signal(Signal::HUP);
    let heard = until(&socket, "RELOADING=1");
    // systemd takes it for the answer to an older request without the time (sd_notify(3)).
    assert!(heard.iter().any(|line| line.starts_with("MONOTONIC_USEC=")), "{heard:?}");
    until(&socket, "READY=1");

    world.write("nonsense = true\n");
    daemon.signal(Signal::HUP);
    until(&socket, "RELOADING=1");
    let mut heard = until(&socket, "READY=1");
    let refused = |line: &String| line.starts_with("STATUS=") && line.contains("new settings refused");
    while !heard.iter().any(refused) {
        heard = until(&socket, "STATUS=");
    }
}
