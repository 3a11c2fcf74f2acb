//! Pools of several servers: how many are enough, which are believed, which are out of service.

use super::*;
use crate::domain::ByName;
use crate::domain::damping::Damper;
use crate::domain::maintenance::Admin;
use crate::domain::policy::{AllDown, FailbackMode, ServerPolicy, ServicePolicy};
use crate::domain::window::{Hours, Zone};
use crate::domain::{Policy, testing};

/// `api` with `a1`, `a2`, … at onprem and `b1`, `b2`, … at cloud, `needed` of them per site.
fn pools(servers: usize, needed: u16) -> Policy {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    policy.containers = ByName::default();
    let at = |letter: char, place: &str| {
        let place = site(place);
        (1..=servers)
            .map(move |n| (name(&format!("{letter}{n}")), ServerPolicy::at(place)))
            .collect::<Vec<_>>()
    };
    let all = at('a', "onprem").into_iter().chain(at('b', "cloud"));
    let api = policy.services.get_mut(&service("api")).unwrap();
    *api = ServicePolicy {
        servers: all.collect(),
        min_servers: needed,
        thin_grace: Span::seconds(10),
        ..api.clone()
    };
    policy
}

fn running(policy: Policy) -> World {
    let mut world = World::with(policy);
    world.start();
    world
}

fn crash(world: &mut World, id: &str) -> Decision {
    world.fail(id, ProbeFault::Refused)
}

fn recover(world: &mut World, id: &str) {
    for _ in 0..2 {
        world.ok(id);
        world.pass(100);
    }
}

fn maintain(world: &mut World, id: &str, admin: Admin, lasts: Option<u64>, force: bool) -> Decision {
    let lasts = lasts.map(Span::seconds);
    world.order(Order::Maintain { server: server(id), admin, lasts, force })
}

/// Wakes at every deadline until `seconds` have passed.
fn wait(world: &mut World, seconds: i64) -> Vec<&'static str> {
    let until = crate::domain::Boot(world.now.boot.0 + seconds * 1_000);
    let mut told = Vec::new();
    while let Some(at) = world.state.next_deadline().filter(|at| *at <= until) {
        world.pass(at.since(world.now.boot).0);
        told.extend(codes(&world.step(Event::Woke)));
    }
    world.pass(until.since(world.now.boot).0);
    told
}

#[test]
fn one_server_of_two_is_enough_unless_the_service_needs_both() {
    let mut world = running(pools(2, 1));
    crash(&mut world, "api/a1");
    assert_eq!(wait(&mut world, 60), Vec::<&str>::new());
    assert_eq!(world.serving().as_deref(), Some("onprem"));

    let mut world = running(pools(2, 2));
    assert_eq!(codes(&crash(&mut world, "api/a1")), ["server_down", "stays"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"), "a restart would be over within the grace");
    assert_eq!(wait(&mut world, 9), Vec::<&str>::new());
    assert_eq!(wait(&mut world, 2), ["relief"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn a_restart_within_the_grace_moves_nothing() {
    let mut world = running(pools(2, 2));
    crash(&mut world, "api/a1");
    world.pass(4_000);
    recover(&mut world, "api/a1");
    assert_eq!(wait(&mut world, 60), Vec::<&str>::new());
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn too_few_servers_are_better_than_none() {
    let mut world = running(pools(2, 2));
    crash(&mut world, "api/b1");
    crash(&mut world, "api/a1");
    assert_eq!(wait(&mut world, 60), Vec::<&str>::new(), "the other site has too few, too");
    let decision = crash(&mut world, "api/a2");
    assert_eq!(codes(&decision), ["server_down", "failover"], "one of two serves; here none does");
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn a_pin_holds_a_thin_pool_and_a_preference_does_not() {
    for (pin, site_after) in [(true, "onprem"), (false, "cloud")] {
        let mut world = running(pools(2, 2));
        let (service, to) = (service("api"), site("onprem"));
        world.order(Order::Failover {
            service,
            to,
            force: false,
            seen: None,
            lasts: Some(Span::seconds(600)),
            pin,
        });
        crash(&mut world, "api/a1");
        wait(&mut world, 60);
        assert_eq!(world.serving().as_deref(), Some(site_after), "pin {pin}");
    }
}

#[test]
fn a_thin_site_is_no_place_to_return_to_and_no_target_without_force() {
    let mut world = running(pools(2, 2));
    crash(&mut world, "api/a1");
    wait(&mut world, 20);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert_eq!(wait(&mut world, 3600), Vec::<&str>::new());
    assert!(matches!(
        denial(&world.failover("onprem", false)),
        Some(Denial::TargetThin { up: 1, of: 2, .. })
    ));
    assert!(accepted(&world.failover("onprem", true)));
    assert_eq!(wait(&mut world, 3600), Vec::<&str>::new(), "what was forced stays");
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn a_pool_is_healthy_since_its_last_needed_server_is() {
    let mut world = running(pools(2, 2));
    crash(&mut world, "api/a1");
    wait(&mut world, 20);
    wait(&mut world, 3600);
    recover(&mut world, "api/a1");
    assert_eq!(wait(&mut world, 55), Vec::<&str>::new(), "60 s from the second server on");
    assert_eq!(wait(&mut world, 10), ["failback"]);
}

#[test]
fn a_site_is_not_returned_to_before_its_slow_start_is_over() {
    let mut policy = pools(1, 1);
    policy.services.get_mut(&service("api")).unwrap().slow_start = Span::seconds(900);
    let mut world = running(policy);
    crash(&mut world, "api/a1");
    recover(&mut world, "api/a1");
    assert_eq!(wait(&mut world, 890), Vec::<&str>::new());
    assert_eq!(wait(&mut world, 20), ["failback"]);
}

fn flapping() -> Policy {
    let mut policy = pools(1, 1);
    let api = policy.services.get_mut(&service("api")).unwrap();
    api.flapping = Damper::nth(3, Span::seconds(300));
    api.failback.limit = 30;
    api.failback.hold_down = Span::ZERO;
    policy
}

#[test]
fn a_server_that_falls_again_and_again_is_not_returned_to_so_soon() {
    let mut world = running(flapping());
    for fall in 1..=3 {
        let told = codes(&crash(&mut world, "api/a1"));
        assert_eq!(told.contains(&"server_flaps"), fall == 3, "fall {fall}: {told:?}");
        recover(&mut world, "api/a1");
        if fall < 3 {
            assert_eq!(wait(&mut world, 70), ["failback"], "fall {fall}");
        }
    }
    assert_eq!(wait(&mut world, 300), Vec::<&str>::new(), "60 s are not enough now");
    let told = wait(&mut world, 600);
    assert_eq!(told, ["server_steady", "failback"]);
}

#[test]
fn a_flapping_site_is_still_a_refuge_when_there_is_no_other() {
    let mut world = running(flapping());
    for _ in 0..3 {
        crash(&mut world, "api/a1");
        recover(&mut world, "api/a1");
        world.pass(1_000);
    }
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert!(codes(&crash(&mut world, "api/b1")).contains(&"failover"));
    assert_eq!(world.serving().as_deref(), Some("onprem"), "flapping is better than dead");
}

fn degradable() -> Policy {
    let mut policy = pools(1, 1);
    for (_, server) in policy.services.get_mut(&service("api")).unwrap().servers.iter_mut() {
        server.slow_after = Some(Span(500));
        server.strain = Damper::nth(3, Span::seconds(5));
    }
    policy
}

fn slow(world: &mut World, id: &str) -> Decision {
    world.probe(id, ProbeOutcome::Healthy { status: 200, took: Span(501) })
}

#[test]
fn slow_answers_degrade_a_server_and_move_nothing() {
    let mut world = running(degradable());
    let mut told = Vec::new();
    for _ in 0..3 {
        told.extend(codes(&slow(&mut world, "api/a1")));
        world.pass(1_000);
    }
    assert_eq!(told, ["server_degraded"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Degraded);
    assert_eq!(wait(&mut world, 30), ["server_sound"]);
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Well);
}

#[test]
fn an_answer_that_is_just_fast_enough_is_not_slow() {
    let mut world = running(degradable());
    for _ in 0..20 {
        let fine = world.probe("api/a1", ProbeOutcome::Healthy { status: 200, took: Span(500) });
        assert!(fine.is_empty());
        world.pass(1_000);
    }
}

#[test]
fn every_other_probe_that_fails_degrades_and_does_not_fell() {
    let mut world = running(degradable());
    let mut told = Vec::new();
    for _ in 0..6 {
        told.extend(codes(&world.fail("api/a1", ProbeFault::Status(500))));
        world.pass(250);
        told.extend(codes(&world.ok("api/a1")));
        world.pass(1_000);
    }
    assert_eq!(told, ["server_degraded"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn a_degraded_site_is_not_returned_to_and_is_the_second_choice_of_an_escape() {
    let mut policy = degradable();
    policy.services.get_mut(&service("api")).unwrap().prefer =
        vec![site("onprem"), site("cloud"), site("moon")];
    let moon = ServerPolicy::at(site("moon"));
    policy.services.get_mut(&service("api")).unwrap().servers.insert(name("c1"), moon);
    let mut world = running(policy);
    for _ in 0..3 {
        slow(&mut world, "api/b1");
        world.pass(1_000);
    }
    crash(&mut world, "api/a1");
    assert_eq!(world.serving().as_deref(), Some("moon"), "cloud is preferred, but degraded");
    for _ in 0..400 {
        slow(&mut world, "api/b1");
        world.pass(1_000);
    }
    assert_eq!(world.serving().as_deref(), Some("moon"));
    let why = explain(&world.state, service("api"), world.now);
    assert!(
        why.iter().any(|reason| matches!(
            reason,
            crate::domain::Reason::Stays {
                stay: crate::domain::failover::Stay::BetterSiteDegraded { .. },
                ..
            }
        )),
        "{why:?}"
    );
    assert_eq!(wait(&mut world, 60), ["server_sound", "failback"]);
}

#[test]
fn a_fall_forgets_what_was_held_against_the_answers() {
    let mut world = running(degradable());
    for _ in 0..3 {
        slow(&mut world, "api/a1");
        world.pass(1_000);
    }
    crash(&mut world, "api/a1");
    recover(&mut world, "api/a1");
    assert!(!world.state.server(server("api/a1")).unwrap().is_doubtful(world.now.boot));
}

#[test]
fn traffic_returns_only_in_its_hours_and_escapes_at_any_time() {
    let mut policy = pools(1, 1);
    let hours = Hours { windows: vec!["02:00-05:00".parse().unwrap()], zone: Zone::utc() };
    policy.services.get_mut(&service("api")).unwrap().failback.mode = FailbackMode::Hours(hours);
    let mut world = running(policy);
    // 14 November 2023, 22:13 UTC.
    assert_eq!(world.now.wall.0 / 1_000_000, 1_700_000);
    crash(&mut world, "api/a1");
    assert_eq!(world.serving().as_deref(), Some("cloud"), "escape knows no hours");
    recover(&mut world, "api/a1");
    assert_eq!(wait(&mut world, 3 * 3600), Vec::<&str>::new());
    assert_eq!(wait(&mut world, 3600), ["failback"]);
    let hour = world.now.wall.0 / 3_600_000 % 24;
    assert!((2..=2).contains(&hour), "{hour}");
}

#[test]
fn when_every_site_is_down_traffic_stays_or_goes_to_the_first() {
    for (all_down, place) in [(AllDown::Keep, "cloud"), (AllDown::First, "onprem")] {
        let mut policy = pools(1, 1);
        policy.services.get_mut(&service("api")).unwrap().all_down = all_down;
        let mut world = running(policy);
        crash(&mut world, "api/a1");
        crash(&mut world, "api/b1");
        assert_eq!(world.serving().as_deref(), Some(place), "{all_down:?}");
        assert_eq!(grade(&world.state, service("api"), world.now), Grade::Down);
        recover(&mut world, "api/b1");
        assert_eq!(world.serving().as_deref(), Some("cloud"), "whoever is back first serves");
    }
}

#[test]
fn a_server_that_is_drained_leaves_its_work_to_the_others() {
    let mut world = running(pools(2, 1));
    let decision = maintain(&mut world, "api/a1", Admin::Drain, None, false);
    assert_eq!(codes(&decision), ["taken_out"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    let again = maintain(&mut world, "api/a1", Admin::Drain, None, false);
    assert!(matches!(again.actions.as_slice(), [Action::Answer { verdict: Verdict::AlreadySo, .. }]));
    // It would have been the pool's last: traffic goes where servers are.
    assert_eq!(
        codes(&maintain(&mut world, "api/a2", Admin::Maint, None, false)),
        ["taken_out", "left_taken_out"]
    );
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert_eq!(codes(&maintain(&mut world, "api/a2", Admin::Ready, None, false)), ["put_back"]);
    assert_eq!(wait(&mut world, 3600), ["failback"], "it never was unhealthy");
}

#[test]
fn the_last_server_that_serves_is_taken_out_only_by_force() {
    let mut world = running(pools(1, 1));
    crash(&mut world, "api/b1");
    let denied = maintain(&mut world, "api/a1", Admin::Maint, None, false);
    assert_eq!(denial(&denied), Some(Denial::LastServing { server: server("api/a1") }));
    let forced = maintain(&mut world, "api/a1", Admin::Maint, None, true);
    assert!(accepted(&forced));
    assert!(codes(&forced).contains(&"stays"), "{:?}", codes(&forced));
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Down);
    recover(&mut world, "api/b1");
    assert_eq!(world.serving().as_deref(), Some("cloud"), "the first that serves takes over");
}

#[test]
fn a_server_comes_back_by_itself_when_its_time_is_over() {
    let mut world = running(pools(2, 1));
    maintain(&mut world, "api/a1", Admin::Drain, Some(3600), false);
    assert_eq!(wait(&mut world, 3590), Vec::<&str>::new());
    assert_eq!(wait(&mut world, 20), ["put_back"]);
    assert_eq!(world.state.server(server("api/a1")).unwrap().admin, Admin::Ready);
}

#[test]
fn an_unknown_server_is_named_with_those_there_are() {
    let mut world = running(pools(1, 1));
    let known = vec![name("a1"), name("b1")];
    let denied = maintain(&mut world, "api/c9", Admin::Drain, None, false);
    assert_eq!(denial(&denied), Some(Denial::UnknownServer { server: server("api/c9"), known }));
}

/// Two services of one group, a server each at onprem and cloud.
fn grouped() -> Policy {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"]), ("web", &["onprem", "cloud"])]);
    policy.containers = ByName::default();
    for service in policy.services.values_mut() {
        service.group = Some("shop".parse().unwrap());
        service.servers.iter_mut().for_each(|(_, server)| server.container = None);
    }
    policy
}

fn both(world: &World) -> [Option<String>; 2] {
    ["api", "web"].map(|id| world.state.services[&service(id)].placement.site().map(|site| site.to_string()))
}

#[test]
fn a_group_escapes_together_and_returns_together() {
    let mut world = running(grouped());
    let decision = crash(&mut world, "web/web-onprem");
    assert_eq!(codes(&decision), ["server_down", "failover", "failover"]);
    assert_eq!(both(&world), [Some("cloud".into()), Some("cloud".into())]);
    recover(&mut world, "web/web-onprem");
    assert_eq!(wait(&mut world, 3600), ["failback", "failback"]);
    assert_eq!(both(&world), [Some("onprem".into()), Some("onprem".into())]);
}

#[test]
fn a_group_stays_where_it_cannot_be_together() {
    let mut world = running(grouped());
    crash(&mut world, "api/api-cloud");
    let told = codes(&crash(&mut world, "web/web-onprem"));
    assert_eq!(told, ["server_down", "stays"], "cloud does not serve api");
    let grades = ["api", "web"].map(|id| grade(&world.state, service(id), world.now));
    assert_eq!(grades, [Grade::Degraded, Grade::Down], "api is served");
    assert_eq!(both(&world), [Some("onprem".into()), Some("onprem".into())]);
    recover(&mut world, "api/api-cloud");
    assert_eq!(both(&world), [Some("cloud".into()), Some("cloud".into())], "now it does");
}

#[test]
fn an_order_about_one_of_a_group_moves_all() {
    let mut world = running(grouped());
    assert_eq!(codes(&world.failover("cloud", false)), ["switchover", "switchover"]);
    assert_eq!(both(&world), [Some("cloud".into()), Some("cloud".into())]);
    world.route_all();
    assert_eq!(
        codes(&world.failback()),
        ["preference_dropped", "switchover", "preference_dropped", "switchover"]
    );
    assert_eq!(both(&world), [Some("onprem".into()), Some("onprem".into())]);
}

#[test]
fn a_member_that_is_found_apart_joins_the_others() {
    let mut world = World::with(grouped());
    world.routes = [(service("api"), site("cloud")), (service("web"), site("onprem"))].into();
    world.start();
    assert_eq!(
        both(&world),
        [Some("onprem".into()), Some("onprem".into())],
        "of equally many, the better site"
    );
}

#[test]
fn a_group_of_which_nothing_serves_anywhere_is_not_divided() {
    let mut world = running(grouped());
    for id in ["api/api-cloud", "web/web-cloud", "api/api-onprem"] {
        crash(&mut world, id);
    }
    crash(&mut world, "web/web-onprem");
    let stays: Vec<_> = explain(&world.state, service("api"), world.now);
    let all_down = |reason: &crate::domain::Reason| {
        matches!(
            reason,
            crate::domain::Reason::Stays { stay: crate::domain::failover::Stay::AllDown { .. }, .. }
        )
    };
    assert!(stays.iter().any(all_down), "{stays:?}");
}

#[test]
fn one_server_that_is_down_and_nothing_else_known_is_no_service() {
    let mut world = World::new();
    world.step(Event::Started);
    world.see_proxy();
    world.pass(6_000);
    world.fail("api/api-cloud", ProbeFault::Refused);
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Down);
    world.ok("api/api-onprem");
    world.ok("api/api-onprem");
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Degraded);
}

#[test]
fn a_return_where_nothing_better_is_healthy_is_nothing() {
    let mut world = World::running();
    world.fail("api/api-onprem", ProbeFault::Refused);
    world.route_all();
    world.pass(10_000);
    let decision = world.failback();
    assert!(!accepted(&decision) && denial(&decision).is_none(), "{decision:?}");
    assert_eq!((codes(&decision).len(), decision.changes.len()), (0, 0));
}

#[test]
fn only_what_the_serving_pool_holds_is_freed() {
    let mut world = running(pools(2, 1));
    assert_eq!(evacuations(&world.fail("api/b1", ProbeFault::Refused)), []);
    let serving = world.fail("api/a1", ProbeFault::Refused);
    assert_eq!(evacuations(&serving).len(), 1);
}

#[test]
fn what_answers_is_not_restarted_where_its_group_cannot_move() {
    for (dead, restarts) in [(None, true), (Some("web/web-cloud"), false)] {
        let sites: &[&str] = &["onprem", "cloud"];
        let mut policy = healing(testing::policy(&[("api", sites), ("web", sites)]));
        policy.services.values_mut().for_each(|service| service.group = Some("shop".parse().unwrap()));
        let mut world = running(policy);
        let seen =
            ContainerSeen { id: "c1".into(), status: ContainerStatus::Running, facts: Facts::default() };
        let all = world.state.containers_of(engine()).map(|container| (container.name.clone(), seen.clone()));
        let (engine, at, past, containers) = (engine(), world.now.boot, Past::default(), all.collect());
        world.step(Event::Containers(ContainerList { engine, at, containers, past }));
        if let Some(server) = dead {
            world.fail(server, ProbeFault::Refused);
        }
        for _ in 0..3 {
            world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
        }
        let mut restarted = false;
        for _ in 0..6 {
            world.route_all();
            let woke = world.wake().map(|woke| codes(&woke)).unwrap_or_default();
            restarted |= woke.contains(&"heals");
        }
        assert_eq!(restarted, restarts, "{dead:?} down");
    }
}

#[test]
fn another_kind_or_another_end_is_another_order() {
    let mut world = running(pools(2, 1));
    let mut order = |admin, lasts| accepted(&maintain(&mut world, "api/a1", admin, lasts, false));
    assert!(order(Admin::Maint, Some(60)));
    assert!(order(Admin::Maint, None), "without an end");
    assert!(!order(Admin::Maint, None), "already so");
    assert!(order(Admin::Drain, None), "drained instead");
    assert!(order(Admin::Drain, Some(60)));
}

#[test]
fn a_person_puts_back_what_time_has_put_back_whoever_took_it_out_since() {
    let mut world = running(pools(2, 1));
    maintain(&mut world, "api/a1", Admin::Maint, Some(60), false);
    assert_eq!(wait(&mut world, 61), ["put_back"]);
    assert!(accepted(&maintain(&mut world, "api/a1", Admin::Ready, None, false)), "drained by hand, perhaps");
    assert!(!accepted(&maintain(&mut world, "api/a1", Admin::Ready, None, false)), "already so");
}

#[test]
fn what_is_out_already_is_no_longer_the_last_that_serves() {
    let mut world = running(pools(1, 1));
    crash(&mut world, "api/b1");
    assert!(!accepted(&maintain(&mut world, "api/a1", Admin::Drain, None, false)), "the last one");
    assert!(accepted(&maintain(&mut world, "api/a1", Admin::Drain, None, true)));
    assert_eq!(world.serving().as_deref(), Some("onprem"), "nobody else serves");
    assert!(
        accepted(&maintain(&mut world, "api/a1", Admin::Maint, None, false)),
        "it serves nobody any more"
    );
}

#[test]
fn a_group_of_which_some_are_served_does_not_go_where_nothing_serves() {
    let mut policy = grouped();
    policy.services.values_mut().for_each(|service| service.all_down = AllDown::First);
    let mut world = running(policy);
    crash(&mut world, "web/web-onprem");
    assert_eq!(both(&world), [Some("cloud".into()), Some("cloud".into())]);
    crash(&mut world, "api/api-onprem");
    let told = codes(&crash(&mut world, "api/api-cloud"));
    assert_eq!(told, ["server_down", "stays"], "web is served at cloud, and nothing is at onprem");
    assert_eq!(both(&world), [Some("cloud".into()), Some("cloud".into())]);
    crash(&mut world, "web/web-cloud");
    assert_eq!(both(&world), [Some("onprem".into()), Some("onprem".into())], "nothing is served anywhere");
}
