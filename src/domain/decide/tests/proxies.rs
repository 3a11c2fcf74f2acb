//! Several HAProxy instances: what one says is told of that one.

use super::*;
use crate::domain::event::ProxySeen;
use crate::domain::id::{ProxyId, SiteId};
use crate::domain::testing;

fn pair() -> (World, ProxyId) {
    let second = ProxyId(testing::name("second"));
    let mut policy = policy(&[("api", &["onprem", "cloud"])]);
    policy.proxies.insert(second);
    policy.services.get_mut(&service("api")).unwrap().proxies.insert(second);
    let mut world = World::with(policy);
    world.start();
    (world, second)
}

fn look(world: &mut World, proxy: ProxyId, route: &str, serving: Option<SiteId>) -> Decision {
    look_of(world, "me", proxy, route, serving)
}

fn look_of(world: &mut World, owner: &str, proxy: ProxyId, route: &str, serving: Option<SiteId>) -> Decision {
    let seen = ProxySeen {
        proxy,
        at: world.now.boot,
        identity: world.worker,
        master: None,
        owner: Some(owner.into()),
        ours: owner == "me",
        routes: [(service("api"), site(route))].into(),
        checks: BTreeMap::new(),
        serving: serving.map(|site| (service("api"), site)).into_iter().collect(),
        out: Some(world.out.clone()),
    };
    world.step(Event::Proxy(seen))
}

#[test]
fn the_safety_net_of_one_is_not_hidden_by_the_other() {
    let (mut world, second) = pair();
    look(&mut world, second, "onprem", None);
    let told = look(&mut world, second, "onprem", Some(site("cloud")));
    assert_eq!(codes(&told), ["served_elsewhere"]);
    assert_eq!(codes(&look(&mut world, proxy(), "onprem", Some(site("onprem")))), Vec::<&str>::new());
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Degraded);
    assert_eq!(
        codes(&look(&mut world, second, "onprem", Some(site("cloud")))),
        Vec::<&str>::new(),
        "told once"
    );
    look(&mut world, second, "onprem", Some(site("onprem")));
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Well);
}

#[test]
fn a_lost_haproxy_gives_no_answers_from_elsewhere() {
    let (mut world, second) = pair();
    look(&mut world, second, "onprem", Some(site("cloud")));
    world.step(Event::ProxyLost { proxy: second });
    let told = explain(&world.state, service("api"), world.now);
    assert!(!told.iter().any(|reason| reason.code() == "served_elsewhere"), "{told:?}");
}

#[test]
fn a_route_that_one_does_not_take_is_told_once_after_five_seconds() {
    let (mut world, second) = pair();
    look(&mut world, second, "onprem", None);
    world.failover("cloud", false);
    world.route_all();
    world.pass(4_900);
    assert_eq!(codes(&look(&mut world, second, "onprem", None)), Vec::<&str>::new());
    world.pass(200);
    assert_eq!(codes(&look(&mut world, second, "onprem", None)), ["route_lags"]);
    assert_eq!(codes(&look(&mut world, second, "onprem", None)), Vec::<&str>::new());
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Degraded);
    assert_eq!(codes(&look(&mut world, second, "cloud", None)), ["route_in_force"]);
    assert!(
        !explain(&world.state, service("api"), world.now).iter().any(|reason| reason.code() == "route_lags")
    );
}

#[test]
fn a_foreign_one_of_two_is_not_waited_for_and_is_set_right_when_it_is_ours_again() {
    let (mut world, second) = pair();
    look(&mut world, second, "onprem", Some(site("cloud")));
    world.failover("cloud", false);
    world.route_all();
    world.pass(6_000);
    look(&mut world, second, "onprem", None);
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Degraded, "it lags");
    // Another supervisor takes it over: the first one is routed by our word still.
    assert_eq!(codes(&look_of(&mut world, "them", second, "onprem", None)), ["proxy_foreign"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Well);
    world.fail("api/api-cloud", ProbeFault::Refused);
    let pending = |world: &World| {
        let route = world.state.services[&service("api")].placement.route().unwrap();
        route.pending.keys().copied().collect::<Vec<_>>()
    };
    assert_eq!((world.serving().as_deref(), pending(&world)), (Some("onprem"), vec![proxy()]));
    world.route_all();
    world.pass(6_000);
    assert_eq!(codes(&look_of(&mut world, "them", second, "cloud", None)), Vec::<&str>::new());
    assert_eq!(codes(&look(&mut world, second, "cloud", None)), ["proxy_found", "reasserted"]);
    assert_eq!(pending(&world), vec![second]);
}

#[test]
fn an_override_whose_site_leaves_the_settings_ends_with_a_reason() {
    let mut world = World::with(policy(&[("api", &["onprem", "cloud", "edge"])]));
    world.start();
    world.failover("edge", false);
    world.route_all();
    let smaller = policy(&[("api", &["onprem", "cloud"])]);
    let told = codes(&world.step(Event::PolicyChanged(Box::new(smaller))));
    assert_eq!(told, ["policy_changed", "preference_void", "site_removed"]);
}

#[test]
fn a_start_asks_the_engine_anew() {
    let mut world = World::running();
    world.step(Event::Containers(ContainerList {
        engine: engine(),
        at: world.now.boot,
        containers: BTreeMap::new(),
        past: Past::default(),
    }));
    world.step(Event::Started);
    assert_eq!(world.state.engines[&engine()].found, None);
}

#[test]
fn counters_from_before_a_move_say_nothing_about_it() {
    let mut world = World::running();
    let served = |world: &World| world.state.services[&service("api")].served_from.len();
    look(&mut world, proxy(), "onprem", Some(site("cloud")));
    assert_eq!(served(&world), 1);
    world.failover("cloud", false);
    assert_eq!(served(&world), 0, "it was about the route before");
    for (after, told) in [(1_999, 0), (1, 1)] {
        world.pass(after);
        look(&mut world, proxy(), "cloud", Some(site("onprem")));
        assert_eq!(served(&world), told, "the counters still hold requests from before for two seconds");
    }
    // The same route once more, as at a look after a restart, is no move.
    let placement = world.state.services[&service("api")].placement.clone();
    world.state.apply(&[Change::Placed { service: service("api"), placement }]);
    assert_eq!(served(&world), 1);
}

#[test]
fn an_haproxy_that_comes_back_with_another_route_has_nothing_to_free_yet() {
    for (route, freed) in [("onprem", 0), ("cloud", 1)] {
        let mut world = World::running();
        world.fail(ONPREM, ProbeFault::Silent);
        world.fail(ONPREM, ProbeFault::Silent);
        world.route_all();
        assert_eq!(world.serving().as_deref(), Some("cloud"));
        world.pass(60_000);
        world.step(Event::ProxyLost { proxy: proxy() });
        let back = look(&mut world, proxy(), route, None);
        assert_eq!(evacuations(&back).len(), freed, "it goes to {route}");
    }
}
