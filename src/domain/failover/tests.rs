//! The plan for one service, over every standing of its sites.

use super::*;
use crate::domain::health::Health;
use crate::domain::id::Name;
use crate::domain::state::{Placement, Route, Server};
use crate::domain::testing::{assert_table, name, service_policy, site};
use crate::domain::witness::ProbeFault;

const CAUSE: Cause = Cause::Probe(ProbeFault::Refused);
const UP: Health = Health::Up { since: Boot(0), bad: None };
const DOWN: Health = Health::Down { since: Boot(0), cause: CAUSE, good: 0 };
const UNKNOWN: Health = Health::Unknown { good: 0, bad: None };
const LATER: Boot = Boot(10_000_000);

fn on(place: &str, healths: &[(&str, Health)]) -> Service {
    let route = Route {
        site: site(place),
        generation: 1,
        since: Boot(0),
        since_wall: Wall(0),
        by: None,
        pending: [].into(),
    };
    let servers = healths.iter().map(|(server, health)| {
        let server: Name = name(server);
        (server, Server { health: *health, ..Server::default() })
    });
    Service { placement: Placement::On(route), servers: servers.collect(), ..Service::default() }
}

fn api(place: &str, onprem: Health, cloud: Health) -> Service {
    on(place, &[("api-onprem", onprem), ("api-cloud", cloud)])
}

fn planned(service: &Service, policy: &ServicePolicy, now: Boot) -> Plan {
    plan(&Group::of((service, policy), Vec::new()), Now { boot: now, wall: Wall(now.0) })
}

#[test]
fn the_plan_follows_the_standing_of_both_sites() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let (onprem, cloud) = (site("onprem"), site("cloud"));
    let escape = |to| Plan::Move { to, why: Why::Escape(CAUSE) };
    let stay = Plan::Stay;
    let table = [
        ("onprem", UP, UP, stay(Stay::Preferred)),
        ("onprem", UP, UNKNOWN, stay(Stay::Preferred)),
        ("onprem", UP, DOWN, stay(Stay::Preferred)),
        ("onprem", UNKNOWN, UP, stay(Stay::Preferred)),
        ("onprem", UNKNOWN, UNKNOWN, stay(Stay::Preferred)),
        ("onprem", UNKNOWN, DOWN, stay(Stay::Preferred)),
        ("onprem", DOWN, UP, escape(cloud)),
        ("onprem", DOWN, UNKNOWN, stay(Stay::NoneProven { cause: CAUSE })),
        ("onprem", DOWN, DOWN, stay(Stay::AllDown { cause: CAUSE })),
        ("cloud", UP, UP, Plan::Move { to: onprem, why: Why::Return }),
        ("cloud", UP, UNKNOWN, Plan::Move { to: onprem, why: Why::Return }),
        ("cloud", UP, DOWN, escape(onprem)),
        ("cloud", UNKNOWN, UP, stay(Stay::BetterSiteDown { better: onprem })),
        ("cloud", UNKNOWN, UNKNOWN, stay(Stay::BetterSiteDown { better: onprem })),
        ("cloud", UNKNOWN, DOWN, stay(Stay::NoneProven { cause: CAUSE })),
        ("cloud", DOWN, UP, stay(Stay::BetterSiteDown { better: onprem })),
        ("cloud", DOWN, UNKNOWN, stay(Stay::BetterSiteDown { better: onprem })),
        ("cloud", DOWN, DOWN, stay(Stay::AllDown { cause: CAUSE })),
    ];
    for (place, at_onprem, at_cloud, expected) in table {
        let service = api(place, at_onprem, at_cloud);
        assert_eq!(planned(&service, &policy, LATER), expected, "on {place}, {at_onprem:?}, {at_cloud:?}");
    }
}

/// Every standing of both sites: a row is how cloud stands, a column how onprem does. The service needs two servers.
#[test]
fn no_pair_of_standings_is_left_out() {
    let on_onprem = "
         healthy   thin     unproven  out         down
healthy  preferred ->relief preferred ->taken_out ->escape
thin     preferred thin     preferred ->taken_out ->escape
unproven preferred thin     preferred taken_out   none_proven
out      preferred thin     preferred taken_out   all_down
down     preferred thin     preferred taken_out   all_down
";
    let on_cloud = "
         healthy     thin             unproven         out              down
healthy  ->return    better_site_down better_site_down better_site_down better_site_down
thin     ->relief    thin             thin             thin             thin
unproven ->return    better_site_down better_site_down better_site_down better_site_down
out      ->taken_out ->taken_out      taken_out        taken_out        taken_out
down     ->escape    ->escape         none_proven      all_down         all_down
";
    let on_cloud_or_first_when_all_is_down = "
         healthy     thin             unproven         out              down
healthy  ->return    better_site_down better_site_down better_site_down better_site_down
thin     ->relief    thin             thin             thin             thin
unproven ->return    better_site_down better_site_down better_site_down better_site_down
out      ->taken_out ->taken_out      taken_out        taken_out        taken_out
down     ->escape    ->escape         none_proven      all_down         ->all_down
";
    let mut policy = service_policy("api", &["onprem", "cloud"]);
    policy.min_servers = 2;
    for place in ["onprem", "cloud"] {
        let second = policy.servers[&name(&format!("api-{place}"))].clone();
        policy.servers.insert(name(&format!("api-{place}-2")), second);
    }
    let pool = |word: &str| {
        let server = |health| Server { health, ..Server::default() };
        match word {
            "healthy" => [server(UP), server(UP)],
            "thin" => [server(UP), server(DOWN)],
            "unproven" => [server(UP), server(UNKNOWN)],
            "out" => [Server { admin: crate::domain::maintenance::Admin::Maint, ..server(UP) }; 2],
            _ => [server(DOWN), server(DOWN)],
        }
    };
    let word = |value: serde_json::Value| {
        let data = value.as_object().and_then(|map| map.keys().next()).cloned();
        data.unwrap_or_else(|| value.as_str().unwrap().to_owned())
    };
    let standings = ["healthy", "thin", "unproven", "out", "down"];
    let all_down = [AllDown::Keep, AllDown::Keep, AllDown::First];
    let tables = [("onprem", on_onprem), ("cloud", on_cloud), ("cloud", on_cloud_or_first_when_all_is_down)];
    for ((place, table), all_down) in tables.into_iter().zip(all_down) {
        policy.all_down = all_down;
        assert_table(table, &standings, &standings, |onprem, cloud| {
            let mut service = api(place, UP, UP);
            for (site, standing) in [("onprem", onprem), ("cloud", cloud)] {
                let [first, second] = pool(standing);
                service.servers.insert(name(&format!("api-{site}")), first);
                service.servers.insert(name(&format!("api-{site}-2")), second);
            }
            match planned(&service, &policy, LATER) {
                Plan::Stay(stay) => word(serde_json::to_value(stay).unwrap()),
                Plan::Move { to, why } => {
                    assert_ne!(to.to_string(), place);
                    format!("->{}", word(serde_json::to_value(why).unwrap()))
                }
            }
        });
    }
}

#[test]
fn an_unmanaged_service_is_left_alone() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let service = Service { placement: Placement::default(), ..api("onprem", DOWN, UP) };
    assert_eq!(planned(&service, &policy, LATER), Plan::Stay(Stay::Unmanaged));
}

#[test]
fn failback_waits_for_the_later_of_stability_and_hold_down() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let better = site("onprem");
    let recovered = Health::Up { since: Boot(100_000), bad: None };
    let mut service = api("cloud", recovered, UP);
    let at = |service: &Service, now| planned(service, &policy, Boot(now));
    assert_eq!(
        at(&service, 100_000),
        Plan::Stay(Stay::NotStableYet { better, until: Boot(160_000) }),
        "never failed over by itself: stability alone counts"
    );
    service.last_failover = Some(Boot(50_000));
    assert_eq!(at(&service, 100_000), Plan::Stay(Stay::HoldDown { better, until: Boot(350_000) }));
    assert_eq!(at(&service, 349_999), Plan::Stay(Stay::HoldDown { better, until: Boot(350_000) }));
    assert_eq!(at(&service, 350_000), Plan::Move { to: better, why: Why::Return });
}

#[test]
fn failback_stops_at_its_limit_until_the_oldest_no_longer_counts() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let better = site("onprem");
    let mut service = api("cloud", UP, UP);
    service.failbacks = vec![Boot(1_000_000), Boot(1_400_000)];
    assert_eq!(
        planned(&service, &policy, Boot(1_500_000)),
        Plan::Stay(Stay::FailbackLimit { better, until: Boot(1_600_000) })
    );
    assert_eq!(planned(&service, &policy, Boot(1_600_000)), Plan::Move { to: better, why: Why::Return });
}

#[test]
fn hold_down_and_limit_never_delay_an_escape() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let mut service = api("onprem", DOWN, UP);
    service.last_failover = Some(Boot(9_999_999));
    service.failbacks = vec![Boot(9_999_998); 2];
    assert_eq!(planned(&service, &policy, LATER), Plan::Move { to: site("cloud"), why: Why::Escape(CAUSE) });
}

#[test]
fn manual_failback_and_stateful_services_wait_for_a_person() {
    let mut policy = service_policy("api", &["onprem", "cloud"]);
    policy.failback.mode = FailbackMode::Manual;
    let better = site("onprem");
    assert_eq!(planned(&api("cloud", UP, UP), &policy, LATER), Plan::Stay(Stay::FailbackManual { better }));
    policy.failback.mode = FailbackMode::Auto;
    policy.stateful = true;
    assert_eq!(planned(&api("cloud", UP, UP), &policy, LATER), Plan::Stay(Stay::FailbackManual { better }));
    assert_eq!(
        planned(&api("onprem", DOWN, UP), &policy, LATER),
        Plan::Stay(Stay::Stateful { cause: Some(CAUSE) })
    );
}

#[test]
fn a_preference_beats_the_order_but_not_reachability() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let preference = |forced| {
        let by = Operator { uid: 0, pid: None, name: None };
        Some(Override {
            site: site("cloud"),
            by,
            because: None,
            at: Wall(0),
            until: None,
            pin: false,
            reminded: Boot(0),
            forced,
        })
    };
    let mut service = api("cloud", UP, UP);
    service.preference = preference(false);
    assert_eq!(planned(&service, &policy, LATER), Plan::Stay(Stay::Preferred));
    let mut service = api("cloud", UP, DOWN);
    service.preference = preference(false);
    assert_eq!(planned(&service, &policy, LATER), Plan::Move { to: site("onprem"), why: Why::Escape(CAUSE) });
    service.preference = preference(true);
    assert_eq!(planned(&service, &policy, LATER), Plan::Stay(Stay::Forced));
}

#[test]
fn a_pool_serves_while_one_of_its_servers_does() {
    let mut policy = service_policy("api", &["onprem", "cloud"]);
    let second = policy.servers[&name("api-onprem")].clone();
    policy.servers.insert(name("api-onprem-2"), second);
    let mut service = api("onprem", DOWN, UP);
    service.servers.insert(name("api-onprem-2"), Server { health: UP, ..Server::default() });
    assert_eq!(planned(&service, &policy, LATER), Plan::Stay(Stay::Preferred));
    service.servers.insert(name("api-onprem-2"), Server { health: UNKNOWN, ..Server::default() });
    assert_eq!(
        planned(&service, &policy, LATER),
        Plan::Stay(Stay::Preferred),
        "silence of one is no evidence"
    );
    service.servers.insert(name("api-onprem-2"), Server { health: DOWN, ..Server::default() });
    assert!(matches!(planned(&service, &policy, LATER), Plan::Move { .. }));
}

#[test]
fn the_best_healthy_site_takes_over() {
    let policy = service_policy("api", &["onprem", "cloud", "edge"]);
    let three = |cloud, edge| on("onprem", &[("api-onprem", DOWN), ("api-cloud", cloud), ("api-edge", edge)]);
    assert_eq!(
        planned(&three(UP, UP), &policy, LATER),
        Plan::Move { to: site("cloud"), why: Why::Escape(CAUSE) }
    );
    assert_eq!(
        planned(&three(DOWN, UP), &policy, LATER),
        Plan::Move { to: site("edge"), why: Why::Escape(CAUSE) }
    );
}

#[test]
fn a_site_that_the_settings_no_longer_have_is_left_at_once() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let service = on("edge", &[("api-onprem", DOWN), ("api-cloud", UP)]);
    assert_eq!(planned(&service, &policy, LATER), Plan::Move { to: site("cloud"), why: Why::SiteRemoved });
}

/// What a person reads beneath the reason: what happens next.
#[test]
fn what_comes_next_is_as_the_settings_and_the_sites_say() {
    let (onprem, cloud) = (site("onprem"), site("cloud"));
    let two = service_policy("api", &["onprem", "cloud"]);
    let one = service_policy("api", &["onprem"]);
    let stateful = ServicePolicy { stateful: true, ..two.clone() };
    let mut manual = two.clone();
    manual.failback.mode = FailbackMode::Manual;
    let paused = Service { paused: true, ..api("onprem", UP, UP) };
    let pinned = Override {
        site: onprem,
        by: Operator { uid: 0, pid: None, name: None },
        because: None,
        at: Wall(0),
        until: None,
        pin: true,
        reminded: Boot(0),
        forced: false,
    };
    let pinned = Service { preference: Some(pinned), ..api("onprem", UP, UP) };
    let recent = |since| Service { last_failover: Some(Boot(since)), ..api("cloud", DOWN, UP) };
    let returns = |hold_down| {
        let (better, healthy) = (onprem, Span::seconds(60));
        Outlook::ReturnsAfter { better, healthy, hold_down }
    };
    let (refuge, none) = (Outlook::Refuge { to: cloud }, Outlook::NoRefuge);
    let table: [(&str, Service, &ServicePolicy, Vec<Outlook>); 14] = [
        ("one site", on("onprem", &[("api-onprem", UP)]), &one, vec![]),
        ("both up", api("onprem", UP, UP), &two, vec![refuge]),
        ("the other down", api("onprem", UP, DOWN), &two, vec![none]),
        ("stateful", api("onprem", UP, UP), &stateful, vec![]),
        ("paused", paused, &two, vec![]),
        ("paused, and all down", Service { paused: true, ..api("onprem", DOWN, DOWN) }, &two, vec![]),
        ("paused, and away", Service { paused: true, ..api("cloud", DOWN, UP) }, &two, vec![]),
        ("pinned", pinned, &two, vec![]),
        ("away", api("cloud", DOWN, UP), &two, vec![returns(None), none]),
        ("away of late", recent(9_900_000), &two, vec![returns(Some(Span(200_000))), none]),
        ("away, the hold-down just over", recent(9_700_000), &two, vec![returns(None), none]),
        ("away, by hand", api("cloud", DOWN, UP), &manual, vec![none]),
        ("away and stateful", api("cloud", DOWN, UP), &stateful, vec![]),
        ("all down", api("onprem", DOWN, DOWN), &two, vec![Outlook::FirstHealthy]),
    ];
    for (what, service, policy, expected) in table {
        let Plan::Stay(stay) = planned(&service, policy, LATER) else { panic!("{what}: it moves") };
        let group = Group::of((&service, policy), Vec::new());
        let found = outlook(&group, stay, Now { boot: LATER, wall: Wall(0) });
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn of_a_site_without_servers_nothing_is_known() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    assert_eq!(standing(&api("onprem", UP, UP), &policy, site("edge")), Standing::Unproven);
}

#[test]
fn a_server_that_is_down_lends_no_soundness_to_one_that_is_doubted() {
    let mut policy = service_policy("api", &["onprem", "cloud", "edge"]);
    let second = policy.servers[&name("api-cloud")].clone();
    policy.servers.insert(name("api-cloud-2"), second);
    let mut service =
        on("onprem", &[("api-onprem", DOWN), ("api-cloud", UP), ("api-cloud-2", DOWN), ("api-edge", UP)]);
    let to = |service: &Service| match planned(service, &policy, LATER) {
        Plan::Move { to, .. } => to.to_string(),
        Plan::Stay(stay) => panic!("{stay:?}"),
    };
    assert_eq!(to(&service), "cloud");
    service.servers.get_mut(&name("api-cloud")).unwrap().flaps.until = Some(LATER + Span(1));
    assert_eq!(to(&service), "edge", "of two that serve, the one that is not doubted");
}

#[test]
fn a_group_is_where_most_of_it_is() {
    let policy = service_policy("api", &["onprem", "cloud"]);
    let (here, there) = (api("onprem", UP, UP), api("cloud", UP, UP));
    let group = Group::of((&here, &policy), vec![(&there, &policy), (&there, &policy)]);
    assert_eq!(group.serving(), Some(site("cloud")));
    let even = Group::of((&there, &policy), vec![(&here, &policy)]);
    assert_eq!(even.serving(), Some(site("onprem")), "of equally many, the better site");
}

#[test]
fn a_limit_of_no_failbacks_is_never_within_it() {
    let mut policy = service_policy("api", &["onprem", "cloud"]);
    policy.failback.limit = 0;
    let (better, until) = (site("onprem"), LATER + Span::seconds(600));
    let limit = Plan::Stay(Stay::FailbackLimit { better, until });
    assert_eq!(planned(&api("cloud", UP, UP), &policy, LATER), limit);
}

#[test]
fn only_an_automatic_return_can_be_locked() {
    let mut policy = service_policy("api", &["onprem", "cloud"]);
    let mut service = api("cloud", UP, UP);
    service.failbacks = vec![LATER, LATER];
    let locked = |service: &Service, policy: &ServicePolicy| {
        let now = Now { boot: LATER, wall: Wall(0) };
        failback_is_locked(&Group::of((service, policy), Vec::new()), now)
    };
    assert!(locked(&service, &policy));
    policy.stateful = true;
    assert!(!locked(&service, &policy), "a person moves it");
    (policy.stateful, policy.failback.mode) = (false, FailbackMode::Manual);
    assert!(!locked(&service, &policy), "a person moves it back");
    policy.failback.mode = FailbackMode::Auto;
    assert!(
        !locked(&Service { servers: api("cloud", DOWN, UP).servers, ..service }, &policy),
        "nothing to return to"
    );
}

#[test]
fn a_pool_is_thin_since_so_many_were_down_that_the_rest_was_too_few() {
    let mut policy = service_policy("api", &["onprem"]);
    policy.min_servers = 3;
    let down = |since| Health::Down { since: Boot(since), cause: CAUSE, good: 0 };
    let healths = [("a", UP), ("b", UNKNOWN), ("c", down(100)), ("d", down(200)), ("e", down(300))];
    let wanted = policy.servers[&name("api-onprem")].clone();
    policy.servers = healths.iter().map(|(server, _)| (name(server), wanted.clone())).collect();
    // Five, of which three are needed: two may be down, the third is one too many.
    let thin = Standing::Thin { up: 1, of: 3, since: Boot(300) };
    assert_eq!(standing(&on("onprem", &healths), &policy, site("onprem")), thin);
}

#[test]
fn what_is_down_but_for_one_that_nobody_knows_is_not_known_to_be_down() {
    let mut policy = service_policy("api", &["onprem"]);
    policy.min_servers = 3;
    let healths = [("a", UNKNOWN), ("b", DOWN), ("c", DOWN)];
    let wanted = policy.servers[&name("api-onprem")].clone();
    policy.servers = healths.iter().map(|(server, _)| (name(server), wanted.clone())).collect();
    assert_eq!(standing(&on("onprem", &healths), &policy, site("onprem")), Standing::Unproven);
}
