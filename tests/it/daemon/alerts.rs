//! Mail without Alertmanager: the real program, an Alertmanager that is not there, a relay that keeps what it gets.

use super::relay::{Relay, header, outbox, until_mail_is};
use super::world::{World, said};
use rustix::process::Signal;

/// Settings whose Alertmanager does not exist, and whose relay is at `port`.
fn settings(world: &World, port: u16) -> String {
    let nobody = crate::haproxy::lab::free_port();
    format!(
        "{}\n[alerts]\nfallback_after = \"5s\"\nnotify_grace = \"10s\"\n\
         [alerts.alertmanagers.am1]\nurl = \"http://127.0.0.1:{nobody}\"\n\
         [mail]\nfrom = \"supervisor@example.org\"\nto = [\"oncall@example.org\"]\nhelo = \"node.example.org\"\n\
         [mail.relays.main]\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n",
        world.settings()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_alertmanager_people_get_a_mail_and_another_one_at_the_end() {
    let world = World::new().await;
    let port = crate::haproxy::lab::free_port();
    let relay = Relay::on(port).await;
    world.write(&settings(&world, port));
    let daemon = world.running().await;
    assert!(outbox(&daemon).await.mails.is_empty());

    world.onprem.close().await;
    let firing = relay.mail("[FIRING").await;
    assert!(header(&firing, "Subject").contains("PoolDown"), "{firing}");
    assert!(header(&firing, "To").contains("oncall@example.org"), "{firing}");
    let id = header(&firing, "Message-ID");
    assert!(id.ends_with("@node.example.org>"), "{id}");
    until_mail_is(&daemon, "done").await;
    daemon
        .until("it counts as told by mail", |view| view.incidents.iter().any(|one| one.told_by == "mail"))
        .await;

    world.onprem.open().await;
    let resolved = relay.mail("[RESOLVED").await;
    assert_ne!(header(&resolved, "Message-ID"), id);
    let thread = header(&firing, "References");
    assert!(!thread.is_empty(), "{firing}");
    assert_eq!(header(&resolved, "References"), thread, "one thread in a mailbox");
    until_mail_is(&daemon, "done").await;
    let shown = said(&world.command(&["outbox"]));
    assert!(shown.contains("resolved  done") && shown.contains("firing  done"), "{shown}");
    assert!(shown.contains("oncall@example.org: accepted at main: 250"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_no_relay_took_outlives_a_kill_and_is_the_same_message() {
    let world = World::new().await;
    let port = crate::haproxy::lab::free_port();
    world.write(&settings(&world, port));
    let mut daemon = world.running().await;
    world.onprem.close().await;
    until_mail_is(&daemon, "staged").await;
    let staged = outbox(&daemon).await.mails.remove(0);
    daemon.signal(Signal::KILL);
    daemon.ended().await;

    let relay = Relay::on(port).await;
    let next = world.run();
    let mail = relay.mail("[FIRING").await;
    assert_eq!(Some(header(&mail, "Message-ID")), staged.message_id);
    until_mail_is(&next, "done").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_says_which_ways_work() {
    let world = World::new().await;
    let port = crate::haproxy::lab::free_port();
    let relay = Relay::on(port).await;
    world.write(&settings(&world, port));
    let _daemon = world.running().await;
    let tested = world.command(&["test-alert", "--reason", "a new relay"]);
    let shown = said(&tested);
    assert_eq!(tested.status.code(), Some(1), "{shown}");
    assert!(shown.contains("oncall@example.org: accepted at main: 250"), "{shown}");
    assert!(shown.contains("Alertmanager am1: does not take alerts"), "{shown}");
    let mail = relay.mail("SupervisorTest").await;
    assert!(mail.contains("nothing is wrong"), "{mail}");
    let events = said(&world.command(&["events"]));
    assert!(
        events.contains("a test of the alerts was ordered") && events.contains("a new relay"),
        "{events}"
    );
}
