//! What the program tells systemd (sd_notify(3)), heard on a socket of our own.

use super::world::World;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// Far longer than a start and a third of the watchdog's time.
const LONGEST: Duration = Duration::from_secs(20);

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
    let path = world.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", path.display());
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
