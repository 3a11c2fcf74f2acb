//! Incidents that are part of larger ones: one cause is one page.

use super::super::draft::LOOKS;
use super::*;
use crate::domain::ByName;
use crate::domain::damping::Damper;
use crate::domain::delivery::{AlertPolicy, Telling, Word};
use crate::domain::event::{PeerResult, PeerSeen};
use crate::domain::incident::Trouble;
use crate::domain::policy::{Policy, ServerPolicy};
use crate::domain::testing;

fn am() -> crate::domain::PeerId {
    "am1".parse().unwrap()
}

fn alerting(mut policy: Policy) -> World {
    policy.alerts = AlertPolicy {
        peers: [am()].into(),
        direct: true,
        fallback_after: Span::seconds(60),
        notify_grace: Span::seconds(90),
    };
    let mut world = World::with(policy);
    world.start();
    world.pass(10_000);
    world
}

/// `s01` to `s<count>`, each with a server at onprem and at cloud.
fn services(count: usize) -> World {
    let names: Vec<String> = (1..=count).map(|n| format!("s{n:02}")).collect();
    let wanted: Vec<(&str, &[&str])> =
        names.iter().map(|name| (name.as_str(), ["onprem", "cloud"].as_slice())).collect();
    let mut policy = testing::policy(&wanted);
    policy.containers = ByName::default();
    alerting(policy)
}

fn crash(world: &mut World, id: &str) -> Decision {
    world.fail(id, ProbeFault::Refused)
}

fn mend(world: &mut World, id: &str) -> Decision {
    world.ok(id);
    world.ok(id)
}

/// What is open, by name and what it is about.
fn open(world: &World) -> Vec<String> {
    let open = world.state.incidents.values().filter(|incident| incident.ended.is_none());
    let mut all: Vec<String> = open
        .map(|incident| {
            let labels = incident.trouble.labels();
            let about = ["service", "site", "server"].iter().filter_map(|key| labels.get(*key));
            format!("{} {}", incident.trouble.name(), about.cloned().collect::<Vec<_>>().join(" "))
        })
        .map(|text| text.trim().to_owned())
        .collect();
    all.sort();
    all
}

fn sent(decision: &Decision) -> usize {
    decision.actions.iter().filter(|action| matches!(action, Action::Mail(_))).count()
}

/// Wakes at every deadline until `seconds` have passed; how many mails went out.
fn wait(world: &mut World, seconds: i64) -> usize {
    let until = crate::domain::Boot(world.now.boot.0 + seconds * 1_000);
    let mut mails = 0;
    while let Some(at) = world.state.next_deadline().filter(|at| *at <= until) {
        world.pass(at.since(world.now.boot).0);
        mails += sent(&world.step(Event::Woke));
    }
    world.pass(until.since(world.now.boot).0);
    mails
}

fn stays_away(world: &mut World) {
    for _ in 0..3 {
        world.pass(5_000);
        let result = PeerResult::Failed("connection refused".into());
        world.step(Event::Peer(PeerSeen { peer: am(), result, silences: None }));
    }
}

fn told(world: &mut World) {
    let words = world.state.incidents.keys().map(|id| (*id, Word::Active)).collect();
    let seen = PeerSeen { peer: am(), result: PeerResult::Answered(words), silences: None };
    world.step(Event::Peer(seen));
    wait(world, 91);
}

#[test]
fn a_dead_site_is_one_incident_and_one_mail_whatever_the_number_of_services() {
    let mut world = services(30);
    for n in 1..=30 {
        crash(&mut world, &format!("s{n:02}/s{n:02}-onprem"));
        world.pass(50);
    }
    assert_eq!(open(&world), ["SiteDown onprem"]);
    stays_away(&mut world);
    assert_eq!(wait(&mut world, 120), 1);
    let story = &world.state.incidents.values().find(|incident| incident.ended.is_none()).unwrap().story;
    assert!(!story.is_empty(), "what led to it");
}

#[test]
fn a_site_of_which_one_service_lives_is_not_dead() {
    let mut world = services(30);
    for n in 1..=29 {
        crash(&mut world, &format!("s{n:02}/s{n:02}-onprem"));
    }
    let open = open(&world);
    assert_eq!(open.len(), 29);
    assert!(open.iter().all(|name| name.starts_with("PoolDown")), "{open:?}");
}

#[test]
fn the_only_service_of_a_site_is_no_site() {
    let mut world = services(1);
    crash(&mut world, "s01/s01-onprem");
    assert_eq!(open(&world), ["PoolDown s01 onprem"]);
}

#[test]
fn what_stays_down_when_the_site_lives_again_is_told_by_itself_and_from_its_beginning() {
    let mut world = services(3);
    let began = world.now.boot;
    for n in 1..=3 {
        crash(&mut world, &format!("s{n:02}/s{n:02}-onprem"));
    }
    world.pass(30_000);
    mend(&mut world, "s02/s02-onprem");
    assert_eq!(open(&world), ["PoolDown s01 onprem", "PoolDown s03 onprem"]);
    let of = |trouble| &world.state.incidents[&world.state.incident_of(&trouble).unwrap()];
    let first = of(Trouble::PoolDown { service: service("s01"), site: site("onprem") });
    assert_eq!(first.opened.since(began), Span(1), "the one that was part of the site's goes on");
}

#[test]
fn one_that_was_mended_while_it_was_a_part_begins_anew() {
    let mut world = services(3);
    for n in 1..=3 {
        crash(&mut world, &format!("s{n:02}/s{n:02}-onprem"));
    }
    mend(&mut world, "s01/s01-onprem");
    world.pass(60_000);
    let again = world.now.boot;
    crash(&mut world, "s01/s01-onprem");
    mend(&mut world, "s02/s02-onprem");
    let of = |trouble| &world.state.incidents[&world.state.incident_of(&trouble).unwrap()];
    let first = of(Trouble::PoolDown { service: service("s01"), site: site("onprem") });
    assert!(first.opened >= again, "{:?}", first.opened);
}

#[test]
fn who_was_told_of_the_part_is_told_of_its_end() {
    let mut world = services(2);
    crash(&mut world, "s01/s01-onprem");
    told(&mut world);
    crash(&mut world, "s02/s02-onprem");
    assert_eq!(open(&world), ["PoolDown s01 onprem", "SiteDown onprem"]);
    mend(&mut world, "s01/s01-onprem");
    assert_eq!(open(&world), ["PoolDown s02 onprem"]);
}

#[test]
fn with_every_site_dead_the_sites_are_the_incidents() {
    let mut world = services(2);
    for place in ["onprem", "cloud"] {
        for n in 1..=2 {
            crash(&mut world, &format!("s{n:02}/s{n:02}-{place}"));
        }
    }
    assert_eq!(open(&world), ["SiteDown cloud", "SiteDown onprem"]);
}

#[test]
fn a_doubt_that_goes_to_and_fro_does_not_set_the_time_back() {
    let mut world = services(1);
    crash(&mut world, "s01/s01-onprem");
    stays_away(&mut world);
    // The other site comes and goes, never away for long: each time the service is down as a whole for a moment.
    let mut mails = 0;
    for _ in 0..10 {
        mails += sent(&crash(&mut world, "s01/s01-cloud"));
        mails += wait(&mut world, 4);
        mails += sent(&mend(&mut world, "s01/s01-cloud"));
        mails += wait(&mut world, 4);
    }
    assert!(mails >= 1, "nobody was told that a pool has been down for {} s", 10 * 8);
}

/// `api` with two servers at onprem and one at cloud.
fn pool_of_two() -> Policy {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    policy.containers = ByName::default();
    let api = policy.services.get_mut(&service("api")).unwrap();
    api.servers = [("a1", "onprem"), ("a2", "onprem"), ("b1", "cloud")]
        .map(|(server, place)| (name(server), ServerPolicy::at(site(place))))
        .into_iter()
        .collect();
    policy
}

#[test]
fn a_server_that_is_down_in_a_pool_that_serves_is_an_incident_and_part_of_the_pools() {
    let mut world = alerting(pool_of_two());
    crash(&mut world, "api/a1");
    assert_eq!(open(&world), ["ServerDown api a1"]);
    crash(&mut world, "api/a2");
    assert_eq!(open(&world), ["PoolDown api onprem"]);
    mend(&mut world, "api/a2");
    assert_eq!(open(&world), ["ServerDown api a1"]);
    mend(&mut world, "api/a1");
    assert_eq!(open(&world), Vec::<String>::new());
}

#[test]
fn a_server_that_a_person_took_out_is_no_incident() {
    let mut world = alerting(pool_of_two());
    let maintain = |world: &mut World, admin| {
        world.order(Order::Maintain { server: server("api/a1"), admin, lasts: None, force: false })
    };
    maintain(&mut world, crate::domain::maintenance::Admin::Maint);
    crash(&mut world, "api/a1");
    assert_eq!(open(&world), Vec::<String>::new());
    maintain(&mut world, crate::domain::maintenance::Admin::Ready);
    assert_eq!(open(&world), ["ServerDown api a1"], "put back, it counts again");
}

#[test]
fn a_server_that_flaps_is_one_incident_until_it_is_trusted() {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    policy.containers = ByName::default();
    policy.services.get_mut(&service("api")).unwrap().flapping = Damper::nth(3, Span::seconds(60));
    let mut world = alerting(policy);
    let mut changes = Vec::new();
    for _ in 0..6 {
        changes.extend(incident_codes(&crash(&mut world, ONPREM)));
        world.pass(5_000);
        changes.extend(incident_codes(&mend(&mut world, ONPREM)));
        world.pass(5_000);
    }
    let opened = changes.iter().filter(|(what, _)| *what == "opened").count();
    assert!(opened <= 3, "{changes:?}");
    assert_eq!(open(&world), ["PoolDown api onprem"], "up, and not yet trusted");
    wait(&mut world, 600);
    assert_eq!(open(&world), Vec::<String>::new());
}

#[test]
fn a_degraded_server_is_an_incident_that_ends_by_itself() {
    let mut policy = pool_of_two();
    let api = policy.services.get_mut(&service("api")).unwrap();
    for (_, server) in api.servers.iter_mut() {
        server.slow_after = Some(Span(500));
        server.strain = Damper::nth(3, Span::seconds(5));
    }
    let mut world = alerting(policy);
    for _ in 0..3 {
        world.probe("api/a1", ProbeOutcome::Healthy { status: 200, took: Span(900) });
        world.pass(1_000);
    }
    assert_eq!(open(&world), ["ServerDegraded api a1"]);
    wait(&mut world, 30);
    assert_eq!(open(&world), Vec::<String>::new());
}

#[test]
fn a_failback_that_is_locked_is_an_incident_until_it_is_free_or_ordered() {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    policy.containers = ByName::default();
    let failback = &mut policy.services.get_mut(&service("api")).unwrap().failback;
    failback.hold_down = Span::ZERO;
    failback.after = Span::seconds(10);
    for by_order in [false, true] {
        let mut world = alerting(policy.clone());
        for _ in 0..3 {
            crash(&mut world, ONPREM);
            world.pass(1_000);
            mend(&mut world, ONPREM);
            wait(&mut world, 20);
        }
        assert_eq!(open(&world), ["FailbackLocked api"]);
        if by_order {
            world.failback();
        } else {
            wait(&mut world, 600);
        }
        assert_eq!(world.serving().as_deref(), Some("onprem"));
        assert_eq!(open(&world), Vec::<String>::new(), "by order {by_order}");
    }
}

#[test]
fn a_broken_invariant_is_an_incident_for_an_hour_and_does_not_fill_the_journal() {
    let mut world = services(1);
    let breach = || Event::Breached { breach: "I1: something".to_owned() };
    assert!(codes(&world.step(breach())).contains(&"invariant_broken"));
    assert_eq!(open(&world), ["InvariantBroken"]);
    assert!(world.step(breach()).is_empty(), "counted, not journalled");
    world.pass(60_000);
    assert!(!world.step(breach()).is_empty());
    wait(&mut world, 3601);
    assert_eq!(open(&world), Vec::<String>::new());
    assert!(matches!(
        world.state.incidents.values().next().unwrap().telling,
        Telling::Over { .. } | Telling::Pending { .. }
    ));
}

#[test]
fn the_end_of_a_storm_costs_as_much_as_there_is_to_end() {
    let looks = |count: usize| {
        // One more: a site where one serves is not dead, so each is told.
        let mut world = services(count + 1);
        // Mails go out every five seconds: all of it begins between two of them.
        world.pass(5_000 - u64::try_from(world.now.boot.0).unwrap() % 5_000);
        let all: Vec<String> = (1..=count).map(|n| format!("s{n:02}/s{n:02}-onprem")).collect();
        for server in &all {
            crash(&mut world, server);
        }
        stays_away(&mut world);
        assert_eq!(wait(&mut world, 120), 1, "one digest");
        let reached = Event::Mailed(crate::domain::event::Mailed {
            mail: world.state.incidents.values().find_map(|incident| incident.telling.mail()).unwrap(),
            end: crate::domain::event::MailEnd::Accepted { recipients: 1 },
        });
        world.step(reached);
        LOOKS.set(0);
        let mails: usize = all.iter().map(|server| sent(&mend(&mut world, server))).sum();
        assert_eq!(mails, 1, "and one about the end");
        LOOKS.get()
    };
    let (few, many) = (looks(6), looks(24));
    // Four times as much; what looks at all for each one would cost sixteen times as much.
    assert!(many < 6 * few, "{few} looks at 6 incidents, {many} at 24");
}

#[test]
fn a_server_that_flaps_in_a_pool_that_serves_is_one_incident_until_it_is_trusted() {
    let mut policy = pool_of_two();
    policy.services.get_mut(&service("api")).unwrap().flapping = Damper::nth(2, Span::seconds(60));
    let mut world = alerting(policy);
    let mut changes = Vec::new();
    for _ in 0..3 {
        changes.extend(incident_codes(&crash(&mut world, "api/a1")));
        world.pass(5_000);
        changes.extend(incident_codes(&mend(&mut world, "api/a1")));
        world.pass(5_000);
    }
    let (opened, ended) = (("opened", "ServerDown"), ("ended", "ServerDown"));
    assert_eq!(changes, [opened, ended, opened], "from the second fall on it is not believed");
    assert_eq!(open(&world), ["ServerDown api a1"]);
    let until = world.state.server(server("api/a1")).unwrap().flaps.until.unwrap();
    let left = i64::try_from(until.since(world.now.boot).0 / 1_000).unwrap();
    wait(&mut world, left - 1);
    assert_eq!(open(&world), ["ServerDown api a1"], "not yet");
    wait(&mut world, 2);
    assert_eq!(open(&world), Vec::<String>::new());
}

#[test]
fn a_dead_site_is_dead_until_somebody_has_looked() {
    let mut world = services(2);
    for n in 1..=2 {
        crash(&mut world, &format!("s{n:02}/s{n:02}-onprem"));
    }
    assert_eq!(open(&world), ["SiteDown onprem"]);
    // Our own start: nothing is known, which is no news about the site.
    world.step(Event::Started);
    assert_eq!(open(&world), ["SiteDown onprem"], "nobody has looked yet");
    crash(&mut world, "s01/s01-onprem");
    assert_eq!(open(&world), ["SiteDown onprem"], "one was looked at");
    mend(&mut world, "s02/s02-onprem");
    assert_eq!(open(&world), ["PoolDown s01 onprem"]);
}

#[test]
fn a_site_of_which_all_is_taken_out_is_not_dead() {
    let mut world = services(2);
    for n in 1..=2 {
        crash(&mut world, &format!("s{n:02}/s{n:02}-onprem"));
    }
    assert_eq!(open(&world), ["SiteDown onprem"]);
    for n in 1..=2 {
        let (server, admin) =
            (server(&format!("s{n:02}/s{n:02}-onprem")), crate::domain::maintenance::Admin::Maint);
        world.order(Order::Maintain { server, admin, lasts: None, force: false });
    }
    assert_eq!(open(&world), Vec::<String>::new(), "people want it so");
}
