//! From the state to the alerts, through the whole core.

use super::*;
use crate::domain::delivery::AlertPolicy;
use crate::domain::testing::{World, policy};
use crate::domain::time::Span;
use crate::domain::witness::ProbeFault;

const STATUS_URL: &str = "http://supervisor:9480/";

/// One Alertmanager, somebody to mail to, both servers up.
fn world() -> World {
    let mut policy = policy(&[("api", &["onprem", "cloud"])]);
    policy.alerts = AlertPolicy {
        peers: ["am1".parse().unwrap()].into(),
        direct: true,
        fallback_after: Span::seconds(60),
        notify_grace: Span::seconds(90),
    };
    let mut world = World::with(policy);
    world.start();
    world.pass(10_000);
    world
}

fn hear(world: &mut World, result: PeerResult) {
    world.step(Event::Peer(PeerSeen { peer: "am1".parse().unwrap(), result, silences: None }));
}

/// Fails three times, and waits for the mail.
fn mail(world: &mut World) {
    for _ in 0..3 {
        world.pass(5_000);
        hear(world, PeerResult::Failed("connection refused".into()));
    }
    world.pass(60_000);
    world.step(Event::Woke);
}

#[test]
fn an_incident_is_an_alert_with_stable_labels_and_its_story() {
    let mut world = world();
    assert_eq!(alerts(&world.state, STATUS_URL), []);
    world.fail("api/api-onprem", ProbeFault::Refused);
    let [first] = &alerts(&world.state, STATUS_URL)[..] else { panic!("one alert") };
    let labels: Vec<(&str, &str)> = first.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(
        labels,
        [
            ("alertname", "PoolDown"),
            ("service", "api"),
            ("severity", "warning"),
            ("site", "onprem"),
            ("source", "supervisor"),
        ]
    );
    assert_eq!((first.starts, first.ended), (world.now.wall, None));
    assert_eq!(first.generator_url, STATUS_URL);
    assert_eq!(first.annotations["summary"], "api has no healthy server at onprem");
    assert_eq!(first.annotations["since"], crate::present::time(world.now.wall));
    let story: Vec<&str> = first.annotations["description"].lines().collect();
    assert_eq!(
        story,
        [
            "api-onprem (onprem) is down: the connection is refused, so nothing listens there",
            "api: traffic moves from onprem to cloud: onprem is down (the connection is refused, so nothing listens there)",
        ]
    );

    world.pass(60_000);
    world.fail("api/api-onprem", ProbeFault::Silent);
    let later = &alerts(&world.state, STATUS_URL)[0];
    assert_eq!((&later.labels, later.starts), (&first.labels, first.starts), "as long as it lasts");

    world.ok("api/api-onprem");
    world.ok("api/api-onprem");
    let over = &alerts(&world.state, STATUS_URL)[0];
    assert_eq!((&over.labels, over.starts, over.ended), (&first.labels, first.starts, Some(world.now.wall)));
}

#[test]
fn what_we_mailed_ourselves_has_a_label_that_says_so() {
    let mut world = world();
    world.fail("api/api-onprem", ProbeFault::Refused);
    let before = alerts(&world.state, STATUS_URL)[0].labels.clone();
    assert!(!before.contains_key("delivered_by"));
    mail(&mut world);
    let after = alerts(&world.state, STATUS_URL)[0].labels.clone();
    let mut without = after.clone();
    assert_eq!(without.remove("delivered_by").as_deref(), Some("supervisor-email"));
    assert_eq!(without, before);
    // The end is mailed as well, and it is the end of this alert.
    world.ok("api/api-onprem");
    world.ok("api/api-onprem");
    let over = &alerts(&world.state, STATUS_URL)[0];
    assert!(over.ended.is_some());
    assert_eq!(over.labels, after);
}

#[test]
fn a_link_that_is_none_is_left_out() {
    let mut world = world();
    world.fail("api/api-onprem", ProbeFault::Refused);
    assert_eq!(alerts(&world.state, "not a url")[0].generator_url, "");
}
