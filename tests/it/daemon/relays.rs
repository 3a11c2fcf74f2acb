//! Relays that fall silent, refuse, or speak no SMTP: traffic is moved as if there were no mail, and the mail comes by another
//! relay, comes later, or is shown with what is wrong with it. How long each stage may take is a constant of the product;
//! `src/alert/email/deliver/tests.rs` waits out short ones. Here a relay that is silent ends by dying.

use super::disk::switch;
use super::mailroom::{Left, SHOP, SOON, mail_to, overdue, shop, shop_mails};
use super::scripted::{Act, At, Relay};
use super::world::{Daemon, World, said};
use crate::haproxy::lab::{Upstream, until_within};
use std::time::Duration;
use supervisor::status::MailView;

/// A relay that said "later" is asked again after 15 s, a fifth more at most.
const LATER: Duration = Duration::from_secs(40);

/// The slowest switch of a healthy stack, on a machine that builds as well.
const SWITCH: Duration = Duration::from_secs(1);

/// A world that serves `api` from two sites, and whose `shop` is down, which is to be mailed through `relays`.
async fn world(left: &Left, relays: &[(String, &Relay)], to: &[&str]) -> (World, Upstream) {
    let world = World::new().await;
    let upstream = Upstream::start(SHOP).await;
    upstream.close().await;
    left.plant(&world);
    let relays: String = relays.iter().map(|(name, relay)| relay.settings(name)).collect();
    world.write(&format!("{}{}{SOON}{}{relays}", world.settings(), shop(upstream.port), mail_to(to)));
    (world, upstream)
}

/// From the refusal to the map in HAProxy; then back.
async fn there_and_back(world: &World, daemon: &Daemon) -> Duration {
    daemon
        .until("both sites are proved", |view| view.services[0].servers.iter().all(|s| s.health == "up"))
        .await;
    let took = switch(world).await;
    world.until_served_from("cloud").await;
    world.onprem.open().await;
    daemon.until_routed_to("onprem").await;
    world.until_served_from("onprem").await;
    took
}

/// The newest mail about the shop, once it is as `wanted`.
async fn mail_when(daemon: &Daemon, what: &str, wanted: impl Fn(&MailView) -> bool) -> MailView {
    until_within(LATER, what, async || shop_mails(daemon).await.first().is_some_and(&wanted)).await;
    shop_mails(daemon).await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_falls_silent_at_any_stage_delays_no_switch_and_its_death_frees_the_mail() {
    let stages = [At::Banner, At::Ehlo, At::StartTls, At::Handshake, At::Auth, At::Mail, At::Rcpt, At::Data];
    let mut relays = Vec::new();
    for stage in stages {
        let script = [(stage, Act::Silent)];
        relays.push(match stage {
            At::Handshake | At::Auth => Relay::start_tls(&script).await,
            _ => Relay::start(&script).await,
        });
    }
    let mut last = Relay::start(&[]).await;
    let name = |i: usize| format!("relay{i}");
    let mut named: Vec<(String, &Relay)> =
        relays.iter().enumerate().map(|(i, relay)| (name(i), relay)).collect();
    named.push(("z-last".to_owned(), &last));
    let (world, shop) = world(overdue().await, &named, &["oncall@example.org"]).await;
    drop(named);
    let daemon = world.run();
    daemon.until_routed_to("onprem").await;
    world.until_served_from("onprem").await;

    let mut took = Vec::new();
    for (i, stage) in stages.into_iter().enumerate() {
        relays[i].until_silent(stage).await;
        took.push(there_and_back(&world, &daemon).await);
        let mail = shop_mails(&daemon).await.remove(0);
        assert_eq!(
            (mail.state.as_str(), mail.recipients[0].state.as_str()),
            ("staged", "pending"),
            "{mail:?}"
        );
        relays[i].die();
    }
    // It goes on to the next one at once.
    let firing = last.mail_about_shop("FIRING").await;
    let done = mail_when(&daemon, "the mail is done", |mail| mail.state == "done").await;
    assert_eq!(done.message_id, Some(firing.header("Message-ID")));
    assert_eq!(done.recipients[0].relay.as_deref(), Some("z-last"));

    let without = there_and_back(&world, &daemon).await;
    eprintln!(
        "a switch took {without:?} while no mail waited, and {took:?} while a relay was silent at {stages:?}"
    );
    for took in took.into_iter().chain([without]) {
        assert!(took < SWITCH, "{took:?}");
    }

    // At the end of the message nobody knows whether the relay has it: no other one is asked, and it is said.
    last.play(&[(At::Dot, Act::Silent)]);
    shop.open().await;
    last.mail_about_shop("RESOLVED").await;
    let took = there_and_back(&world, &daemon).await;
    assert!(took < SWITCH, "{took:?}");
    last.die();
    let resolved = mail_when(&daemon, "the mail is doubtful", |mail| {
        mail.kind.as_deref() == Some("resolved") && mail.recipients.iter().any(|to| to.state == "ambiguous")
    })
    .await;
    assert_eq!(
        (resolved.state.as_str(), resolved.recipients[0].relay.as_deref()),
        ("staged", Some("z-last"))
    );
    let shown = said(&world.command(&["outbox"]));
    assert!(shown.contains("oncall@example.org: ambiguous at z-last"), "{shown}");
    assert!(shown.contains("tried again at"), "{shown}");
}

/// A world without HAProxy, for what is about mails alone.
async fn small(relays: &[(&str, &Relay)], to: &[&str]) -> (World, Daemon) {
    let left = overdue().await;
    let world = World::without_haproxy().await;
    world.onprem.close().await;
    left.plant(&world);
    let relays: String = relays.iter().map(|(name, relay)| relay.settings(name)).collect();
    let base = super::mailroom::bare(&world);
    world.write(&format!("{base}{}{SOON}{}{relays}", shop(world.onprem.port), mail_to(to)));
    let daemon = world.run();
    (world, daemon)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_relay_cannot_or_will_not_do_the_next_one_does() {
    let garbage = "HTTP/1.1 400 Bad Request\r\n";
    let faults = [
        ("busy", Relay::start(&[(At::Banner, Act::Say("421 4.3.2 too busy"))]).await),
        ("password", Relay::start_tls(&[(At::Auth, Act::Say("535 5.7.8 wrong password"))]).await),
        ("tls", Relay::start_tls(&[(At::Handshake, Act::Say(garbage))]).await),
        ("unknown", Relay::start(&[(At::Rcpt, Act::Say("550 5.1.1 no such user"))]).await),
    ];
    let last = Relay::start(&[]).await;
    let mut relays: Vec<(&str, &Relay)> = faults.iter().map(|(name, relay)| (*name, relay)).collect();
    relays.push(("zlast", &last));
    let (world, daemon) = small(&relays, &["oncall@example.org"]).await;
    let mail = last.mail_about_shop("FIRING").await;
    assert!(mail.header("To").contains("oncall@example.org"), "{mail:?}");
    mail_when(&daemon, "the mail is done", |mail| mail.state == "done").await;
    let shown = said(&world.command(&["outbox"]));
    assert!(shown.contains("oncall@example.org: accepted at zlast: 250"), "{shown}");
    for (name, relay) in &faults {
        assert!(relay.script_is_over(), "{name} was asked");
        assert!(relay.mails().is_empty(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_that_the_only_relay_does_not_take_is_shown_with_its_words() {
    let wrong = Relay::start_tls(&[(At::Auth, Act::Say("535 5.7.8 wrong password"))]).await;
    let broken = Relay::start_tls(&[(At::Handshake, Act::Say("SSH-2.0-OpenSSH_10.0"))]).await;
    let unknown = Relay::start(&[(At::Rcpt, Act::Say("550 5.1.1 no such user"))]).await;
    let grey = Relay::start(&[(At::Rcpt, Act::Say("450 4.2.0 greylisted"))]).await;
    let both = ["a-first@example.org", "b-second@example.org"];
    let (wrong_world, wrong_daemon) = small(&[("main", &wrong)], &["oncall@example.org"]).await;
    let (broken_world, broken_daemon) = small(&[("main", &broken)], &["oncall@example.org"]).await;
    let (unknown_world, unknown_daemon) = small(&[("main", &unknown)], &both).await;
    let (grey_world, grey_daemon) = small(&[("main", &grey)], &both).await;

    // A relay's refusal of us, and no TLS, say nothing against the mail: it is tried again.
    for (world, daemon, words) in [
        (&wrong_world, &wrong_daemon, "auth: 535 5.7.8 wrong password"),
        (&broken_world, &broken_daemon, "tls: "),
    ] {
        let mail = mail_when(daemon, "the mail waits", |mail| {
            mail.recipients.iter().any(|to| to.state == "deferred" && to.next.is_some())
        })
        .await;
        assert_eq!(mail.state, "staged", "{mail:?}");
        let shown = unwrapped(&said(&world.command(&["outbox"])));
        assert!(shown.contains(&format!("oncall@example.org: deferred: main: {words}")), "{shown}");
        assert!(shown.contains("tried again at"), "{shown}");
        daemon.until_logged("waits").await;
    }

    // Who is refused for good costs the others nothing, and is given up visibly.
    let mail = mail_when(&unknown_daemon, "the mail is given up for one", |mail| mail.state == "dead").await;
    let states: Vec<&str> = mail.recipients.iter().map(|to| to.state.as_str()).collect();
    assert_eq!(states, ["dead", "accepted"], "{mail:?}");
    let shown = unwrapped(&said(&unknown_world.command(&["outbox"])));
    assert!(shown.contains("a-first@example.org: dead: main: 550 5.1.1 no such user"), "{shown}");
    assert_eq!(unknown.about_shop("FIRING").len(), 1);

    // "Later" is later, at the same relay, and the same message; who has it already does not get it again.
    let first = grey.mail_about_shop("FIRING").await;
    let mail = mail_when(&grey_daemon, "one recipient waits", |mail| {
        mail.recipients.iter().any(|to| to.state == "deferred")
    })
    .await;
    assert!(
        mail.recipients[0].reply.as_ref().is_some_and(|words| words.contains("450 4.2.0 greylisted")),
        "{mail:?}"
    );
    mail_when(&grey_daemon, "the mail is done", |mail| mail.state == "done").await;
    let mails = grey.about_shop("FIRING");
    assert_eq!(mails.len(), 2, "once for each");
    assert_eq!(mails[1].header("Message-ID"), first.header("Message-ID"));
    let whom: Vec<_> = mails.iter().map(|mail| mail.recipients.join(" ")).collect();
    assert_eq!(whom, ["b-second@example.org", "a-first@example.org"]);
    drop(grey_world);

    // Those that refused us take it when they no longer do.
    for (relay, daemon) in [(&wrong, &wrong_daemon), (&broken, &broken_daemon)] {
        mail_when(daemon, "the mail is done", |mail| mail.state == "done").await;
        assert_eq!(relay.about_shop("FIRING").len(), 1);
    }
}

/// Text whose lines were broken for a screen.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
