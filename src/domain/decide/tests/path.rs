//! What fails on the way: is it they, or we?

use super::*;
use crate::domain::action::Pace;

#[test]
fn everything_failing_on_the_way_means_that_we_are_cut_off() {
    let mut world = World::running();
    for round in 0..10 {
        world.pass(4_000);
        let first = codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout));
        let second = codes(&world.fail(CLOUD, ProbeFault::Unreachable));
        let told: Vec<_> = first.into_iter().chain(second).collect();
        assert_eq!(told, if round == 0 { vec!["cut_off"] } else { vec![] });
    }
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    assert!(codes(&world.ok(CLOUD)).contains(&"reconnected"));
    let decision = world.fail(ONPREM, ProbeFault::ConnectTimeout);
    world.ok(CLOUD);
    assert_eq!(codes(&decision), Vec::<&str>::new(), "what was counted while we were cut off is void");
    world.pass(3_000);
    let decision = world.fail(ONPREM, ProbeFault::ConnectTimeout);
    assert_eq!(codes(&decision), ["server_down", "failover"], "now it is onprem alone that fails");
}

#[test]
fn what_ends_a_cut_off_is_heard_before_traffic_returns_to_it() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::Refused);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    world.route_all();
    for _ in 0..2 {
        world.pass(100);
        world.ok(ONPREM);
    }
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    world.fail(CLOUD, ProbeFault::ConnectTimeout);
    assert!(world.state.cut_off);
    // Meanwhile the hold-down ends; only the doubt keeps traffic away.
    world.pass(3_600_000);
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    let decision = world.fail(ONPREM, ProbeFault::Refused);
    assert_eq!(codes(&decision), ["reconnected", "server_down"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn haproxy_reaching_the_server_outweighs_our_path_errors() {
    let mut world = World::running();
    let check = |layer7_ok| {
        BTreeMap::from([(
            server(ONPREM),
            CheckSeen { layer7_ok, usable: layer7_ok, age_at_most: Span(2_000) },
        )])
    };
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    world.pass(1_000);
    world.ok(CLOUD);
    assert_eq!(
        codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)),
        Vec::<&str>::new(),
        "the witness is due"
    );
    world.pass(2_000);
    world.see_proxy_with(check(true));
    world.pass(1_000);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)), Vec::<&str>::new(), "contradicted");
    world.pass(1_000);
    assert_eq!(codes(&world.see_proxy_with(check(false))), ["server_down", "failover"]);
}

#[test]
fn a_check_that_began_with_the_first_failure_speaks_and_an_older_one_does_not() {
    for (older, speaks) in [(0, true), (1, false)] {
        let mut world = World::running();
        world.fail(ONPREM, ProbeFault::ConnectTimeout);
        world.pass(1_000);
        let check = CheckSeen { layer7_ok: true, usable: true, age_at_most: Span(1_000 + older) };
        world.see_proxy_with(BTreeMap::from([(server(ONPREM), check)]));
        let run = world.state.server(server(ONPREM)).and_then(|server| server.health.run());
        assert_eq!(run.is_some_and(|run| run.contrary.is_some()), speaks, "{older} ms older");
    }
}

#[test]
fn path_errors_act_when_the_witness_stays_silent() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    world.ok(CLOUD);
    world.pass(3_000);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)), ["server_down", "failover"]);
}

#[test]
fn the_witness_gets_as_long_as_its_own_check_takes() {
    let mut policy = policy(&[("api", &["onprem", "cloud"])]);
    policy.services.get_mut(&service("api")).unwrap().check_age = Span::seconds(40);
    let mut world = World::with(policy);
    world.start();
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    world.ok(CLOUD);
    world.pass(40_900);
    assert_eq!(
        codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)),
        Vec::<&str>::new(),
        "it may still speak"
    );
    world.pass(200);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)), ["server_down", "failover"]);
}

#[test]
fn the_witness_is_waited_for_to_the_millisecond() {
    // A check takes two seconds at most, and HAProxy is looked at each second.
    for (after, acts) in [(2_999, false), (3_000, true)] {
        let mut world = World::running();
        world.fail(ONPREM, ProbeFault::ConnectTimeout);
        let first = world.now.boot;
        world.ok(CLOUD);
        world.pass(first.shift(after - 1).since(world.now.boot).0);
        let decision = world.fail(ONPREM, ProbeFault::ConnectTimeout);
        assert_eq!(codes(&decision).contains(&"server_down"), acts, "{after}");
    }
}

#[test]
fn traffic_leaves_a_path_error_only_for_a_site_that_has_answered_since() {
    let mut world = World::running();
    world.pass(10_000);
    let first = world.fail(ONPREM, ProbeFault::ConnectTimeout);
    assert_eq!(
        paces(&first),
        [(server(ONPREM), Pace::Fast), (server(CLOUD), Pace::Fast)],
        "both are asked now"
    );
    world.pass(4_000);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)), Vec::<&str>::new());
    assert_eq!(world.serving().as_deref(), Some("onprem"), "cloud's last good answer is 14 s old");
    let answer = world.ok(CLOUD);
    assert_eq!(paces(&answer), [(server(CLOUD), Pace::Normal)]);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)), ["server_down", "failover"]);
}

#[test]
fn a_cut_off_with_slow_probes_moves_nothing() {
    let mut world = World::running();
    world.pass(10_000);
    for _ in 0..20 {
        world.pass(1_000);
        world.fail(ONPREM, ProbeFault::ConnectTimeout);
    }
    assert_eq!(codes(&world.fail(CLOUD, ProbeFault::ConnectTimeout)), ["cut_off"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn an_answer_to_a_probe_from_before_the_doubt_answers_nothing() {
    let mut world = World::running();
    let started = world.now.boot;
    world.pass(1_000);
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    let (ended, outcome) = (world.now.boot, ProbeOutcome::Healthy { status: 200, took: Span(900) });
    world.step(Event::Probed(Probed { server: server(CLOUD), due: started, started, ended, outcome }));
    world.pass(4_000);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout)), Vec::<&str>::new());
}

#[test]
fn an_escape_that_found_no_refuge_goes_as_soon_as_one_answers() {
    let mut world = World::with(policy(&[("api", &["onprem", "cloud"]), ("web", &["onprem", "cloud"])]));
    world.start();
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    world.fail(CLOUD, ProbeFault::ConnectTimeout);
    world.ok("web/web-cloud");
    world.pass(4_000);
    let decision = world.fail(ONPREM, ProbeFault::ConnectTimeout);
    assert_eq!(
        codes(&decision),
        ["server_down", "stays"],
        "others are reached, so it is not we; but cloud fails too"
    );
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    assert_eq!(codes(&world.ok(CLOUD)), ["failover"]);
}

#[test]
fn a_crash_does_not_wait_for_anybody() {
    let mut world = World::running();
    world.fail(CLOUD, ProbeFault::ConnectTimeout);
    let decision = world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    assert_eq!(codes(&decision), ["server_down", "failover"], "a doubtful refuge is better than none");
}

#[test]
fn of_two_refuges_the_one_that_answers_is_taken() {
    let mut world = World::with(policy(&[("api", &["onprem", "cloud", "edge"])]));
    world.start();
    world.fail(CLOUD, ProbeFault::ConnectTimeout);
    world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    assert_eq!(world.serving().as_deref(), Some("edge"));
}

#[test]
fn traffic_does_not_return_to_a_site_that_begins_to_fail_again() {
    let mut world = World::running();
    world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    world.route_all();
    world.pass(1_000);
    world.ok(ONPREM);
    world.ok(ONPREM);
    world.pass(400_000);
    world.fail(ONPREM, ProbeFault::Silent);
    assert_eq!(world.wake().map(|decision| codes(&decision)), Some(vec![]));
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert_eq!(codes(&world.ok(ONPREM)), ["failback"], "one lost probe was all");
}

#[test]
fn what_a_run_waits_for_is_not_journalled_again_and_again() {
    let mut world = World::running();
    for _ in 0..3 {
        world.fail(ONPREM, ProbeFault::ConnectTimeout);
    }
    assert!(world.fail(ONPREM, ProbeFault::ConnectTimeout).is_empty());
}

#[test]
fn a_silent_prober_leaves_its_server_without_a_verdict() {
    let mut world = World::running();
    let silent = |world: &World, id| Event::ProberSilent { server: server(id), since: world.now.boot };
    world.pass(20_000);
    let event = silent(&world, CLOUD);
    assert_eq!(codes(&world.step(event)), ["prober_silent"]);
    let decision = world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    assert_eq!(codes(&decision), ["server_down", "stays"], "nobody knows whether cloud serves");
    let event = silent(&world, ONPREM);
    world.step(event);
    assert!(
        world.state.server(server(ONPREM)).unwrap().health.is_down(),
        "what is known to be down stays so"
    );
    world.ok(CLOUD);
    assert_eq!(codes(&world.ok(CLOUD)), ["server_up", "failover"]);
}

fn paces(decision: &Decision) -> Vec<(ServerId, Pace)> {
    let pace = |action: &Action| match action {
        Action::Pace { server, pace } => Some((*server, *pace)),
        Action::Route { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Mail(_)
        | Action::Answer { .. } => None,
    };
    decision.actions.iter().filter_map(pace).collect()
}

/// `api` at onprem is down on the way, while nobody knows whether cloud is reached; everything is paused. `cloud` says what is
/// heard of cloud meanwhile.
fn paused_and_down_on_the_way(cloud: impl FnOnce(&mut World)) -> World {
    let sites: &[&str] = &["onprem", "cloud"];
    let mut world = World::with(policy(&[("api", sites), ("shop", sites)]));
    world.start();
    world.pass(10_000);
    world.order(Order::Pause { scope: crate::domain::command::Scope::All, lasts: None });
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    cloud(&mut world);
    world.pass(3_000);
    let mut found = incident_codes(&world.fail(ONPREM, ProbeFault::ConnectTimeout));
    let check = CheckSeen { layer7_ok: false, usable: false, age_at_most: Span(2_000) };
    found.extend(incident_codes(&world.see_proxy_with(BTreeMap::from([(server(ONPREM), check)]))));
    assert_eq!(found, [("opened", "PoolDown")], "a pause keeps nothing from a site that is not reached");
    world.pass(1_000);
    world
}

#[test]
fn a_pause_that_keeps_traffic_from_a_site_that_answers_is_an_outage_from_that_answer_on() {
    let mut asked = paused_and_down_on_the_way(|_| {});
    assert_eq!(incident_codes(&asked.ok(CLOUD)), [("opened", "ServiceDown")]);
    // It has answered since it was asked, and fails itself by now.
    let mut failing = paused_and_down_on_the_way(|world| {
        world.ok(CLOUD);
        world.fail(CLOUD, ProbeFault::ConnectTimeout);
    });
    assert_eq!(failing.state.server(server(CLOUD)).unwrap().asked, None);
    assert_eq!(incident_codes(&failing.ok(CLOUD)), [("opened", "ServiceDown")]);
}

#[test]
fn whether_they_are_reached_is_asked_of_the_others_that_are_up() {
    let mut policy = policy(&[("api", &["onprem", "cloud", "edge"])]);
    policy.services.get_mut(&service("api")).unwrap().proxies.clear();
    let mut world = World::with(policy);
    world.step(Event::Started);
    world.all_ok();
    world.all_ok();
    world.pass(10_000);
    world.fail("api/api-edge", ProbeFault::Refused);
    world.fail(ONPREM, ProbeFault::ConnectTimeout);
    let asked = |world: &World, id: &str| world.state.server(server(id)).unwrap().asked.is_some();
    assert_eq!(["api/api-edge", ONPREM, CLOUD].map(|id| asked(&world, id)), [false, false, true]);
}

#[test]
fn a_good_probe_of_what_is_well_is_known_to_be_no_news() {
    let mut world = World::running();
    world.live(ONPREM, ProbeOutcome::Connected { took: Span(1) });
    let news = |world: &World| {
        let id = server(ONPREM);
        (world.state.is_awaited(id, Span(1)), world.state.is_life_awaited(id))
    };
    assert_eq!(news(&world), (false, false));
    let known = *world.state.server(server(ONPREM)).unwrap();
    assert_eq!((known.is_awaited(), known.is_life_awaited()), (false, false));
    world.fail(ONPREM, ProbeFault::Silent);
    world.live(ONPREM, ProbeOutcome::Failed(ProbeFault::Silent));
    assert_eq!(news(&world), (true, true));
    let known = *world.state.server(server(ONPREM)).unwrap();
    assert_eq!((known.is_awaited(), known.is_life_awaited()), (true, true));
}
