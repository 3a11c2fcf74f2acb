//! A state directory that cannot be written, is full, hangs, or belongs to a newer version: traffic is moved all the same.

use super::mailroom::{self, SHOP, SOON, mail_to, overdue, shop_mails};
use super::scripted::Relay;
use super::world::{Daemon, World};
use crate::haproxy::lab::{Upstream, until, until_within};
use std::time::{Duration, Instant};
use supervisor::control::protocol::OrderBody;
use supervisor::control::{Answer, CommandBody, Reply};
use supervisor::domain::event::StoreHealth;
use supervisor::status::Link;

/// The longest pause before a store that failed is opened again is 30 s.
const CATCHES_UP: Duration = Duration::from_secs(45);

async fn order(daemon: &Daemon, site: &str) -> Reply {
    let order = OrderBody::Failover {
        service: "api".parse().unwrap(),
        to: site.parse().unwrap(),
        force: false,
        seen: None,
        for_ms: None,
        pin: false,
    };
    daemon.client().command(&CommandBody { order, because: None, dry_run: false }).await.unwrap()
}

/// The store does not work, and says so with `words`; all else does.
async fn works_without_a_store(world: &World, daemon: &Daemon, words: &str) {
    daemon.until("the store is degraded", |view| view.store == StoreHealth::Degraded).await;
    world.until_served_from("onprem").await;
    daemon.until_routed_to("onprem").await;
    let log = daemon.log();
    assert!(log.contains(words), "{words:?} is not in the log");
    assert!(log.contains("orders") && log.contains("not durable"), "{log}");

    world.onprem.close().await;
    daemon.until_routed_to("cloud").await;
    world.until_served_from("cloud").await;
    world.onprem.open().await;
    daemon.until_routed_to("onprem").await;

    let reply = order(daemon, "cloud").await;
    assert_eq!((&reply.verdict, reply.durable), (&Answer::Accepted, Some(false)), "{reply:?}");
    daemon.until_routed_to("cloud").await;
    world.until_served_from("cloud").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_that_cannot_be_made_costs_the_store_only() {
    let world = World::new().await;
    // Where the directory should be, there is a file: not even root can make one there.
    std::fs::write(world.path("state"), "").unwrap();
    let mut daemon = world.run();
    works_without_a_store(&world, &daemon, "is not a directory: move it away").await;
    assert!(daemon.stop().await < Duration::from_secs(2));
    // The next one knows its own HAProxy again, although nothing could be kept. The order is lost, as was said.
    let next = world.run();
    next.until("HAProxy is ours", |view| view.proxies[0].link == Link::Ours).await;
    next.until_routed_to("onprem").await;
    world.until_served_from("onprem").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_state_directory_costs_the_store_only() {
    let world = World::new().await;
    let mut first = world.running().await;
    first.stop().await;
    let mut daemon =
        world.run_under(&mounted(&world, "mount --bind \"$D\" \"$D\" && mount -o remount,bind,ro \"$D\""));
    works_without_a_store(&world, &daemon, "cannot be written: make the state directory writable").await;
    assert!(daemon.stop().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_the_store_only() {
    let world = World::new().await;
    world.running().await.stop().await;
    // The same directory, on a disk of its own that has no byte left.
    let full = "cp -a \"$D\" \"$D.copy\" && mount -t tmpfs -o size=256k tmpfs \"$D\" && cp -a \"$D.copy/.\" \"$D\" \
                && { cat /dev/zero > \"$D/others\" 2> /dev/null || true; }";
    let mut daemon = world.run_under(&mounted(&world, full));
    works_without_a_store(&world, &daemon, "is full: make room").await;
    assert!(daemon.stop().await < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_on_a_full_disk_costs_the_store_only() {
    let world = World::new().await;
    std::fs::create_dir(world.path("state")).unwrap();
    let full =
        "mount -t tmpfs -o size=64k tmpfs \"$D\" && { cat /dev/zero > \"$D/others\" 2> /dev/null || true; }";
    let mut daemon = world.run_under(&mounted(&world, full));
    works_without_a_store(&world, &daemon, "on a disk that is not full").await;
    assert!(daemon.stop().await < Duration::from_secs(2));
}

/// A wrapper that mounts something at the state directory, for the daemon alone to see.
fn mounted(world: &World, mount: &str) -> Vec<&'static str> {
    let script = format!("D={}; {mount} && exec \"$@\"", world.path("state").display());
    let script: &'static str = Box::leak(script.into_boxed_str());
    vec!["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_a_newer_version_is_left_alone_and_said_what_to_do_about() {
    let world = World::new().await;
    world.running().await.stop().await;
    let database = world.path("state/supervisor.db");
    rusqlite::Connection::open(&database).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&database).unwrap();
    let mut daemon = world.run();
    works_without_a_store(&world, &daemon, "run that version, or move the file away").await;
    daemon.stop().await;
    assert_eq!(std::fs::read(&database).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_for_seconds_does_not_delay_a_switch() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    let without = switch(&world).await;
    world.onprem.open().await;
    daemon.until_routed_to("onprem").await;
    daemon.stop().await;

    let mut daemon = world.run_on_slow_disk(Duration::from_secs(3));
    daemon.until_routed_to("onprem").await;
    daemon
        .until("both servers are proved", |view| view.services[0].servers.iter().all(|s| s.health == "up"))
        .await;
    let with = switch(&world).await;
    // An order waits for the disk for half a second at most, and is told what that came to.
    daemon.until("the store is degraded", |view| view.store == StoreHealth::Degraded).await;
    let asked = Instant::now();
    let reply = order(&daemon, "cloud").await;
    assert_eq!((&reply.verdict, reply.durable), (&Answer::Accepted, Some(false)), "{reply:?}");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    eprintln!("a switch took {} ms, and {} ms with a disk that hangs", without.as_millis(), with.as_millis());
    for took in [without, with] {
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    let took = daemon.stop().await;
    assert!(took < Duration::from_secs(2), "a stop took {took:?}");
    assert!(world.syncs() > 0, "the disk was asked, hence it hung");
}

/// From the refusal to the map in HAProxy.
pub(super) async fn switch(world: &World) -> Duration {
    let refused = Instant::now();
    world.onprem.close().await;
    until("the map says cloud", async || {
        world.routes().await.contains(&("api".to_owned(), "api__cloud".to_owned()))
    })
    .await;
    refused.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_file_that_the_disk_did_not_take_is_tried_once_more_at_the_end_or_named() {
    for there_again in [true, false] {
        let world = World::new().await;
        let mut daemon = world.running().await;
        // A directory in its place: not even root can put a file there.
        let map = world.path("routes.map");
        std::fs::remove_file(&map).unwrap();
        std::fs::create_dir_all(map.join("in-the-way")).unwrap();
        world.onprem.close().await;
        daemon.until_routed_to("cloud").await;
        // Tried again after 0.1, 0.3, 0.7 and 1.5 s: from then on the next try is far.
        until("the file was tried several times", async || {
            daemon.log().matches("HAProxy would start with old routes").count() >= 5
        })
        .await;
        if there_again {
            std::fs::remove_dir_all(&map).unwrap();
        }
        let took = daemon.stop().await;
        assert!(took < Duration::from_secs(2), "{took:?}");
        let named = daemon.log().contains("the map file lacks the last routes");
        assert_eq!(named, !there_again, "{}", daemon.log());
        if there_again {
            assert_eq!(std::fs::read_to_string(&map).unwrap(), "api api__cloud\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_a_mail_goes_out_marked_traffic_is_moved_and_the_outbox_catches_up() {
    let relay = Relay::start(&[]).await;
    let world = World::new().await;
    let shop = Upstream::start(SHOP).await;
    shop.close().await;
    overdue().await.plant(&world);
    let (mail, relays) = (mail_to(&["oncall@example.org"]), relay.settings("main"));
    world.write(&format!("{}{}{SOON}{mail}{relays}", world.settings(), mailroom::shop(shop.port)));
    // Room for a first look at the store, and for nothing that is to be kept.
    let full = "cp -a \"$D\" \"$D.copy\" && mount -t tmpfs -o size=256k tmpfs \"$D\" && cp -a \"$D.copy/.\" \"$D\" \
                && { cat /dev/zero > \"$D/others\" 2> /dev/null || true; }";
    let mut daemon = world.run_under(&mounted(&world, full));

    let firing = relay.mail_about_shop("FIRING").await;
    assert!(firing.text.contains("This may be a duplicate"), "{}", firing.text);
    daemon.until("the store is degraded", |view| view.store == StoreHealth::Degraded).await;
    daemon.until_routed_to("onprem").await;
    daemon
        .until("both sites are proved", |view| view.services[0].servers.iter().all(|s| s.health == "up"))
        .await;
    let full = switch(&world).await;
    world.onprem.open().await;
    daemon.until_routed_to("onprem").await;

    // Somebody makes room, where only the daemon sees it.
    let others = format!("/proc/{}/root{}/others", daemon.pid(), world.path("state").display());
    std::fs::remove_file(others).unwrap();
    until_within(CATCHES_UP, "the outbox has caught up", async || {
        shop_mails(&daemon).await.first().is_some_and(|mail| mail.state == "done")
    })
    .await;
    let roomy = switch(&world).await;
    eprintln!("a switch took {full:?} with a full disk, and {roomy:?} with room");
    for took in [full, roomy] {
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
    assert_eq!(relay.about_shop("FIRING").len(), 1, "it came once");
    daemon.stop().await;
}
