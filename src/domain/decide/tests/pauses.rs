//! What people want for a while: overrides that end, pins, pauses.

use super::*;
use crate::domain::command::Scope;
use crate::domain::policy::FailbackMode;
use crate::domain::testing;
use crate::domain::window::{Hours, Zone};

const ONPREM: &str = "api/api-onprem";
const CLOUD: &str = "api/api-cloud";

fn prefer(world: &mut World, to: &str, lasts: Option<u64>, pin: bool) -> Decision {
    let (service, to) = (service("api"), site(to));
    let lasts = lasts.map(Span::seconds);
    world.order(Order::Failover { service, to, force: false, seen: None, lasts, pin })
}

fn pause(world: &mut World, scope: Scope, lasts: Option<u64>) -> Decision {
    world.order(Order::Pause { scope, lasts: lasts.map(Span::seconds) })
}

fn resume(world: &mut World, scope: Scope) -> Decision {
    world.order(Order::Resume { scope })
}

/// Wakes at every deadline until `seconds` have passed.
fn wait(world: &mut World, seconds: i64) -> Vec<&'static str> {
    let until = crate::domain::Boot(world.now.boot.0 + seconds * 1_000);
    let mut told = Vec::new();
    while let Some(at) = world.state.next_deadline().filter(|at| *at <= until) {
        let ahead = at.since(world.now.boot);
        world.pass(ahead.0);
        told.extend(codes(&world.step(Event::Woke)));
    }
    world.now.boot = until;
    told
}

#[test]
fn an_override_with_a_time_ends_by_itself_and_traffic_returns() {
    let mut world = World::running();
    assert!(accepted(&prefer(&mut world, "cloud", Some(7200), false)));
    world.route_all();
    assert_eq!(wait(&mut world, 7_100), Vec::<&str>::new());
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert_eq!(wait(&mut world, 200), ["preference_expired", "failback"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    assert!(world.state.services[&service("api")].preference.is_none());
}

#[test]
fn an_override_without_an_end_is_brought_to_mind_every_day() {
    let mut world = World::running();
    prefer(&mut world, "cloud", None, false);
    world.route_all();
    assert_eq!(wait(&mut world, 3 * 24 * 3600 + 60), ["preference_holds"; 3]);
    world.failback();
    assert_eq!(wait(&mut world, 3 * 24 * 3600), Vec::<&str>::new());
}

#[test]
fn an_override_is_a_preference_and_a_pin_is_an_order() {
    let mut world = World::running();
    prefer(&mut world, "cloud", None, false);
    world.route_all();
    assert!(codes(&world.fail(CLOUD, ProbeFault::Refused)).contains(&"failover"), "escape stays on");
    let mut world = World::running();
    prefer(&mut world, "cloud", Some(3600), true);
    world.route_all();
    assert_eq!(codes(&world.fail(CLOUD, ProbeFault::Refused)), ["server_down", "stays"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Down);
    let told = wait(&mut world, 3_700);
    assert!(told.contains(&"failover") || world.serving().as_deref() == Some("onprem"), "{told:?}");
}

#[test]
fn the_same_wish_again_is_nothing_and_another_end_is_another_wish() {
    let mut world = World::running();
    let verdict = |decision: &Decision| accepted(decision);
    assert!(verdict(&prefer(&mut world, "cloud", None, false)));
    world.route_all();
    assert!(!verdict(&prefer(&mut world, "cloud", None, false)), "already so");
    assert!(verdict(&prefer(&mut world, "cloud", Some(60), false)));
    assert!(verdict(&prefer(&mut world, "cloud", Some(90), false)));
    assert!(verdict(&prefer(&mut world, "cloud", None, true)));
    assert!(!verdict(&prefer(&mut world, "cloud", None, true)));
}

#[test]
fn what_is_paused_is_observed_and_told_and_not_moved() {
    for scope in
        [Scope::All, Scope::Service(service("api")), Scope::Site(site("onprem")), Scope::Site(site("cloud"))]
    {
        let mut world = World::running();
        assert_eq!(codes(&pause(&mut world, scope, None)), ["paused"], "{scope}");
        let down = world.fail(ONPREM, ProbeFault::Refused);
        assert_eq!(codes(&down), ["server_down", "stays"], "{scope}");
        assert_eq!(incident_codes(&down), [("opened", "ServiceDown")], "people are told all the same");
        assert_eq!(world.serving().as_deref(), Some("onprem"), "{scope}");
        let why: Vec<&str> =
            explain(&world.state, service("api"), world.now).iter().map(|r| r.code()).collect();
        assert!(why.contains(&"pause_holds"), "{why:?}");
        let resumed = resume(&mut world, scope);
        assert_eq!(codes(&resumed), ["resumed", "failover"], "{scope}");
        assert_eq!(world.serving().as_deref(), Some("cloud"));
    }
}

/// When the explanation says that traffic moves by itself.
fn said_left(world: &World) -> Option<Span> {
    let why = explain(&world.state, service("api"), world.now);
    let left = why
        .iter()
        .find_map(|reason| if let Reason::Stays { left, .. } = reason { Some(*left) } else { None });
    left.expect("it says why it stays")
}

#[test]
fn no_return_is_promised_before_the_pause_ends() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::Refused);
    world.ok(ONPREM);
    world.ok(ONPREM);
    let unpaused = said_left(&world).expect("it returns by itself");
    pause(&mut world, Scope::Service(service("api")), Some(3_600));
    assert_eq!(said_left(&world), Some(Span::seconds(3_600)), "the pause lasts longer");
    resume(&mut world, Scope::Service(service("api")));
    pause(&mut world, Scope::Site(site("cloud")), Some(1));
    assert_eq!(said_left(&world), Some(unpaused), "the pause ends before");
    resume(&mut world, Scope::Site(site("cloud")));
    pause(&mut world, Scope::All, None);
    assert_eq!(said_left(&world), None, "nobody knows when");
}

#[test]
fn a_return_after_a_pause_is_promised_for_the_hours_that_follow() {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    // It is 22:13 UTC.
    let hours = Hours { windows: vec!["22:00-23:00".parse().unwrap()], zone: Zone::utc() };
    policy.services.get_mut(&service("api")).unwrap().failback.mode = FailbackMode::Hours(hours.clone());
    let mut world = World::with(policy);
    world.start();
    world.fail(ONPREM, ProbeFault::Refused);
    world.ok(ONPREM);
    world.ok(ONPREM);
    let unpaused = said_left(&world).expect("it returns by itself");
    assert!(unpaused < Span::seconds(1_800), "{unpaused:?}");
    pause(&mut world, Scope::All, Some(3_600));
    let ends = Span::seconds(3_600);
    let closed = hours.open_in(world.now.wall_at(world.now.boot + ends)).unwrap();
    assert!(closed > Span::seconds(20 * 3_600), "{closed:?}");
    assert_eq!(said_left(&world), Some(ends + closed), "the pause ends at 23:13");
}

#[test]
fn a_pause_of_another_thing_changes_nothing() {
    let mut world =
        World::with(testing::policy(&[("api", &["onprem", "cloud"]), ("shop", &["onprem", "cloud"])]));
    world.start();
    pause(&mut world, Scope::Service(service("shop")), None);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::Refused)), ["server_down", "failover"]);
    assert_eq!(codes(&world.fail("shop/shop-onprem", ProbeFault::Refused)), ["server_down", "stays"]);
}

#[test]
fn a_pause_with_a_time_ends_by_itself() {
    let mut world = World::running();
    pause(&mut world, Scope::All, Some(1_800));
    world.fail(ONPREM, ProbeFault::Refused);
    assert_eq!(wait(&mut world, 1_700), Vec::<&str>::new());
    assert_eq!(wait(&mut world, 200), ["resumed", "failover"]);
    assert!(world.state.pauses.is_empty());
}

#[test]
fn orders_about_pauses_are_denied_or_nothing_where_they_make_no_sense() {
    let mut world = World::running();
    let nowhere = pause(&mut world, Scope::Site(site("moon")), None);
    assert!(matches!(denial(&nowhere), Some(Denial::NoSuchSite { .. })));
    let nothing = pause(&mut world, Scope::Service(service("nope")), None);
    assert!(matches!(denial(&nothing), Some(Denial::UnknownService { .. })));
    assert!(!accepted(&resume(&mut world, Scope::All)), "it is not paused");
    assert!(accepted(&pause(&mut world, Scope::All, None)));
    assert!(!accepted(&pause(&mut world, Scope::All, None)), "already so");
    // A person may still move traffic, if they say that they mean it.
    let order = |force| Order::Failover {
        service: service("api"),
        to: site("cloud"),
        force,
        seen: None,
        lasts: None,
        pin: false,
    };
    assert!(matches!(denial(&world.order(order(false))), Some(Denial::Paused { .. })));
    assert!(accepted(&world.order(order(true))));
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn a_pause_outlives_new_settings_and_leaves_with_what_it_is_about() {
    let mut world =
        World::with(testing::policy(&[("api", &["onprem", "cloud"]), ("shop", &["onprem", "cloud"])]));
    world.start();
    pause(&mut world, Scope::Service(service("shop")), None);
    pause(&mut world, Scope::All, None);
    let mut changed = world.state.policy.clone();
    changed.services.remove(&service("shop"));
    world.step(Event::PolicyChanged(Box::new(changed)));
    assert_eq!(world.state.pauses.keys().copied().collect::<Vec<_>>(), [Scope::All]);
    assert!(world.state.services[&service("api")].paused);
}

#[test]
fn a_paused_container_is_not_healed_until_the_pause_ends() {
    let mut world = World::with(healing(testing::policy(&[("api", &["onprem", "cloud"])])));
    world.start();
    let seen = ContainerSeen { id: "c1".into(), status: ContainerStatus::Running, facts: Facts::default() };
    let all = world.state.containers_of(engine()).map(|container| (container.name.clone(), seen.clone()));
    let list = ContainerList {
        engine: engine(),
        at: world.now.boot,
        containers: all.collect(),
        past: Past::default(),
    };
    world.step(Event::Containers(list));
    pause(&mut world, Scope::Site(site("onprem")), Some(300));
    world.pass(30_000);
    let died = world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    assert_eq!(codes(&died), ["server_down", "stays", "container_ended", "heal_waits"]);
    let told = wait(&mut world, 290);
    assert!(told.contains(&"heals"), "{told:?}");
}

#[test]
fn scopes_survive_json_as_one_text() {
    for (scope, text) in [
        (Scope::All, "\"all\""),
        (Scope::Service(service("api")), "\"service/api\""),
        (Scope::Site(site("onprem")), "\"site/onprem\""),
    ] {
        assert_eq!(serde_json::to_string(&scope).unwrap(), text);
        assert_eq!(serde_json::from_str::<Scope>(text).unwrap(), scope);
    }
    for wrong in ["\"api\"", "\"site/\"", "\"server/x\"", "\"\""] {
        assert!(serde_json::from_str::<Scope>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_pause_of_another_service_denies_nothing_and_leaves_with_its_service() {
    let sites: &[&str] = &["onprem", "cloud"];
    let mut world = World::with(testing::policy(&[("api", sites), ("shop", sites)]));
    world.start();
    let (api, shop) = (Scope::Service(service("api")), Scope::Service(service("shop")));
    pause(&mut world, shop, None);
    assert!(accepted(&prefer(&mut world, "cloud", None, false)));
    let cloud = Scope::Site(site("cloud"));
    pause(&mut world, api, None);
    pause(&mut world, cloud, None);
    world.step(Event::PolicyChanged(Box::new(testing::policy(&[("api", sites)]))));
    assert_eq!(world.state.pauses.keys().copied().collect::<Vec<_>>(), [api, cloud]);
}

/// Everything listed and running; the containers of `api` and of `shop` at onprem are the same one.
fn shared() -> World {
    let sites: &[&str] = &["onprem", "cloud"];
    let mut policy = healing(testing::policy(&[("api", sites), ("shop", sites)]));
    let of_api = policy.services[&service("api")].servers[&name("api-onprem")].container.clone();
    let shop = policy.services.get_mut(&service("shop")).unwrap();
    shop.servers.get_mut(&name("shop-onprem")).unwrap().container = of_api;
    let mut world = World::with(policy);
    world.start();
    list_running(&mut world);
    world.pass(60_000);
    world
}

fn list_running(world: &mut World) -> Decision {
    let seen = ContainerSeen { id: "c1".into(), status: ContainerStatus::Running, facts: Facts::default() };
    let all = world.state.containers_of(engine()).map(|container| (container.name.clone(), seen.clone()));
    let containers = all.collect();
    let (engine, at, past) = (engine(), world.now.boot, Past::default());
    world.step(Event::Containers(ContainerList { engine, at, containers, past }))
}

fn without_shop(world: &World) -> Event {
    let mut changed = world.state.policy.clone();
    changed.services.remove(&service("shop"));
    Event::PolicyChanged(Box::new(changed))
}

#[test]
fn nothing_is_looked_at_and_written_down_while_a_pause_lasts() {
    let mut world = shared();
    pause(&mut world, Scope::Service(service("shop")), None);
    let died = world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    assert!(codes(&died).contains(&"heal_waits"), "{:?}", codes(&died));
    wait(&mut world, 24 * 3600);
    assert_eq!(world.state.next_deadline(), None, "nothing is due before somebody says something");
    assert_eq!(codes(&resume(&mut world, Scope::Service(service("shop")))), ["resumed", "failover", "heals"]);
}

#[test]
fn what_a_pause_held_back_is_done_when_new_settings_remove_the_pause() {
    let mut world = shared();
    pause(&mut world, Scope::Service(service("shop")), None);
    world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    let mut same = world.state.policy.clone();
    same.startup_grace = Span::seconds(6);
    assert_eq!(
        codes(&world.step(Event::PolicyChanged(Box::new(same)))),
        ["policy_changed"],
        "it holds still"
    );
    let changed = without_shop(&world);
    assert!(codes(&world.step(changed)).contains(&"heals"));
}

#[test]
fn what_a_pause_held_back_is_left_when_new_settings_forbid_it() {
    let mut world = shared();
    pause(&mut world, Scope::All, None);
    world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    let mut changed = world.state.policy.clone();
    changed
        .containers
        .values_mut()
        .for_each(|policy| policy.heal = Some(crate::domain::policy::HealMode::Notify));
    world.step(Event::PolicyChanged(Box::new(changed)));
    let phase = |world: &World| {
        world
            .state
            .repairs
            .iter()
            .find(|(container, _)| container.name.0 == "api-onprem")
            .unwrap()
            .1
            .phase
            .word()
    };
    assert_eq!(phase(&world), "left");
    resume(&mut world, Scope::All);
    assert_eq!(phase(&world), "left");
}

#[test]
fn a_pause_that_new_settings_removed_while_we_were_away_holds_nothing_back() {
    let mut world = shared();
    pause(&mut world, Scope::Service(service("shop")), None);
    world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
    // As the daemon does at its start: nothing is decided yet.
    let mut changed = world.state.policy.clone();
    changed.services.remove(&service("shop"));
    world.state.apply(&[Change::Policy(Box::new(changed))]);
    world.pass(1_000);
    world.step(Event::Started);
    world.see_proxy();
    let seen = ContainerSeen {
        id: "c1".into(),
        status: ContainerStatus::Exited { exit: Some(1), oom: false },
        facts: Facts::default(),
    };
    let containers = [(crate::domain::id::ContainerName("api-onprem".into()), seen)].into();
    let (engine, at, past) = (engine(), world.now.boot, Past::default());
    world.step(Event::Containers(ContainerList { engine, at, containers, past }));
    assert!(wait(&mut world, 20).contains(&"heals"));
}

#[test]
fn an_order_to_the_first_site_is_a_wish_where_a_person_prefers_another() {
    let mut world = World::running();
    prefer(&mut world, "cloud", None, false);
    world.route_all();
    world.fail(CLOUD, ProbeFault::Refused);
    world.route_all();
    world.pass(60_000);
    assert_eq!(world.serving().as_deref(), Some("onprem"), "traffic escaped");
    assert!(
        accepted(&prefer(&mut world, "onprem", None, false)),
        "it is there, but not because they want it"
    );
}
