//! Servers that are out of service: what each HAProxy is to make of them, and when it is done.

use super::*;
use crate::domain::ByName;
use crate::domain::action::DesiredServer;
use crate::domain::event::ProxySeen;
use crate::domain::id::ProxyId;
use crate::domain::maintenance::{Admin, AdminSeen};
use crate::domain::policy::{Policy, ServerPolicy};
use crate::domain::state::State;
use crate::domain::testing;

const DRAIN: AdminSeen = AdminSeen { drain: true, maint: false, disabled: false };
const MAINT: AdminSeen = AdminSeen { drain: false, maint: true, disabled: false };

/// `api` with two servers at each site.
fn policy() -> Policy {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    policy.containers = ByName::default();
    let at = |id: &str, place: &str| (name(id), ServerPolicy::at(site(place)));
    policy.services.get_mut(&service("api")).unwrap().servers =
        [at("a1", "onprem"), at("a2", "onprem"), at("b1", "cloud"), at("b2", "cloud")].into_iter().collect();
    policy
}

fn running() -> World {
    let mut world = World::with(policy());
    world.start();
    world
}

fn order(world: &mut World, admin: Admin, lasts: Option<u64>) -> Decision {
    let (server, lasts) = (server("api/a1"), lasts.map(Span::seconds));
    world.order(Order::Maintain { server, admin, lasts, force: false })
}

fn wanted_by(world: &World, proxy: ProxyId) -> Option<DesiredServer> {
    world.state.desired(proxy).servers.remove(&server("api/a1"))
}

fn wanted(world: &World) -> Option<Admin> {
    wanted_by(world, proxy()).map(|wanted| wanted.admin)
}

fn is_done(world: &World) -> bool {
    world.state.services[&service("api")].out.values().all(|out| out.pending.is_empty())
}

/// The end of the time that a server was taken out for.
fn expire(world: &mut World) -> Vec<&'static str> {
    codes(&world.wake().unwrap())
}

#[test]
fn an_order_is_wanted_until_it_ends_and_the_end_until_it_is_shown() {
    let mut world = running();
    assert_eq!(wanted(&world), None, "what is in service is nobody's business");
    order(&mut world, Admin::Drain, None);
    assert_eq!((wanted(&world), is_done(&world)), (Some(Admin::Drain), false));
    assert_eq!(codes(&world.see_proxy()), Vec::<&str>::new(), "it is not so yet");
    assert_eq!(codes(&world.administer_all()), ["admin_in_force"]);
    assert_eq!((wanted(&world), is_done(&world)), (Some(Admin::Drain), true));
    assert_eq!(codes(&order(&mut world, Admin::Ready, None)), ["put_back"]);
    assert_eq!((wanted(&world), is_done(&world)), (Some(Admin::Ready), false));
    assert_eq!(codes(&world.administer_all()), ["admin_in_force"]);
    assert_eq!(wanted(&world), None);
    assert!(world.state.services[&service("api")].out.is_empty());
}

#[test]
fn a_look_from_before_the_order_and_one_that_may_not_last_confirm_nothing() {
    let mut world = running();
    order(&mut world, Admin::Drain, None);
    world.administer_all();
    let before = world.now.boot;
    world.pass(10);
    order(&mut world, Admin::Ready, None);
    let mut look = |at, out| {
        let seen = ProxySeen {
            proxy: proxy(),
            at,
            identity: world.worker,
            master: None,
            owner: Some("me".into()),
            ours: true,
            routes: world.routes.clone(),
            checks: BTreeMap::new(),
            serving: BTreeMap::new(),
            out,
        };
        codes(&world.step(Event::Proxy(seen)))
    };
    assert_eq!(look(before, Some(BTreeMap::new())), Vec::<&str>::new());
    let now = before + Span(20);
    assert_eq!(look(now, None), Vec::<&str>::new(), "a new worker is on its way, with what the old one had");
    assert_eq!(look(now, Some(BTreeMap::new())), ["admin_in_force"]);
}

#[test]
fn a_haproxy_that_was_restarted_is_told_again() {
    let mut world = running();
    order(&mut world, Admin::Maint, None);
    world.administer_all();
    world.worker.pid += 1;
    world.out.clear();
    assert_eq!(codes(&world.see_proxy()), ["proxy_replaced", "admin_reasserted"]);
    assert_eq!((wanted(&world), is_done(&world)), (Some(Admin::Maint), false));
    assert_eq!(codes(&world.administer_all()), ["admin_in_force"]);
}

#[test]
fn an_order_that_ended_while_nobody_watched_is_put_back_after_the_start() {
    let mut world = running();
    order(&mut world, Admin::Drain, Some(60));
    world.administer_all();
    world.pass(3_600_000);
    assert_eq!(codes(&world.step(Event::Started)), ["put_back"]);
    assert_eq!(wanted(&world), Some(Admin::Ready), "before anybody has seen HAProxy");
    world.see_proxy();
    assert!(world.out.contains_key(&server("api/a1")));
    assert!(codes(&world.administer_all()).contains(&"admin_in_force"));
    assert_eq!((world.out.len(), wanted(&world)), (0, None));
}

#[test]
fn an_end_that_nobody_could_be_told_outlives_a_start_and_a_reboot() {
    let mut world = running();
    order(&mut world, Admin::Drain, None);
    world.administer_all();
    world.step(Event::ProxyLost { proxy: proxy() });
    order(&mut world, Admin::Ready, None);
    let stored = world.now;
    world.now.boot = crate::domain::Boot(500);
    world.state.shift_clock(stored, world.now);
    world.step(Event::Started);
    assert_eq!((wanted(&world), is_done(&world)), (Some(Admin::Ready), false));
    assert!(codes(&world.administer_all()).contains(&"admin_in_force"));
    assert_eq!((world.out.len(), wanted(&world)), (0, None));
}

#[test]
fn what_somebody_set_by_hand_is_left_alone() {
    let mut world = running();
    world.out.insert(server("api/a1"), DRAIN);
    assert_eq!(codes(&world.see_proxy()), Vec::<&str>::new());
    assert_eq!(wanted(&world), None);
    // In the middle of our drain, somebody goes further.
    world.out.clear();
    order(&mut world, Admin::Drain, Some(60));
    world.administer_all();
    world.out.insert(server("api/a1"), MAINT);
    assert_eq!(codes(&world.administer_all()), Vec::<&str>::new());
    assert_eq!(expire(&mut world), ["put_back"]);
    assert_eq!(codes(&world.administer_all()), ["admin_in_force"], "nothing of ours is left there");
    assert_eq!((world.out.get(&server("api/a1")), wanted(&world)), (Some(&MAINT), None));
}

#[test]
fn what_is_ours_beside_something_by_hand_waits_for_that_to_end() {
    let mut world = running();
    order(&mut world, Admin::Drain, Some(60));
    world.administer_all();
    world.out.insert(server("api/a1"), AdminSeen { drain: true, ..MAINT });
    assert_eq!(expire(&mut world), ["put_back"]);
    assert_eq!(codes(&world.administer_all()), Vec::<&str>::new());
    world.pass(5_000);
    assert_eq!(codes(&world.see_proxy()), ["admin_lags"]);
    assert_eq!(codes(&world.see_proxy()), Vec::<&str>::new(), "told once");
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Degraded);
    world.out.insert(server("api/a1"), DRAIN);
    assert_eq!(codes(&world.administer_all()), ["admin_in_force"]);
    assert!(world.out.is_empty());
}

#[test]
fn a_haproxy_that_was_away_has_its_time_from_when_it_is_back() {
    let mut world = running();
    world.step(Event::ProxyLost { proxy: proxy() });
    order(&mut world, Admin::Drain, None);
    world.pass(60_000);
    assert_eq!(codes(&world.see_proxy()), ["proxy_found"], "it hears of the order now");
    world.pass(4_900);
    assert_eq!(codes(&world.see_proxy()), Vec::<&str>::new());
    world.pass(200);
    assert_eq!(codes(&world.see_proxy()), ["admin_lags"]);
}

#[test]
fn a_person_who_names_a_server_puts_it_back_whoever_took_it_out() {
    let mut world = running();
    world.out.insert(server("api/a1"), MAINT);
    assert_eq!(codes(&order(&mut world, Admin::Ready, None)), ["put_back"]);
    assert_eq!(codes(&world.administer_all()), ["admin_in_force"]);
    assert!(world.out.is_empty());
    // A second time, before it is confirmed, it is an order that was given already.
    order(&mut world, Admin::Ready, None);
    let again = order(&mut world, Admin::Ready, None);
    assert!(matches!(again.actions.as_slice(), [Action::Answer { verdict: Verdict::AlreadySo, .. }]));
}

#[test]
fn an_order_to_be_less_far_out_is_carried_out_and_all_of_it_put_back() {
    let mut world = running();
    order(&mut world, Admin::Maint, None);
    world.administer_all();
    order(&mut world, Admin::Drain, Some(60));
    assert_eq!(codes(&world.administer_all()), ["admin_in_force"]);
    assert_eq!(world.out[&server("api/a1")], DRAIN);
    // Somebody makes it maintenance again: ours it is no more.
    world.out.insert(server("api/a1"), MAINT);
    world.administer_all();
    expire(&mut world);
    world.administer_all();
    assert_eq!(world.out[&server("api/a1")], MAINT);
}

fn pair() -> (World, ProxyId) {
    let second = ProxyId(name("second"));
    let mut policy = policy();
    policy.proxies.insert(second);
    policy.services.get_mut(&service("api")).unwrap().proxies.insert(second);
    let mut world = World::with(policy);
    world.start();
    (world, second)
}

fn look(world: &mut World, proxy: ProxyId, shown: Option<AdminSeen>) -> Vec<&'static str> {
    world.pass(10);
    let seen = ProxySeen {
        proxy,
        at: world.now.boot,
        identity: world.worker,
        master: None,
        owner: Some("me".into()),
        ours: true,
        routes: world.routes.clone(),
        checks: BTreeMap::new(),
        serving: BTreeMap::new(),
        out: Some(shown.map(|shown| (server("api/a1"), shown)).into_iter().collect()),
    };
    codes(&world.step(Event::Proxy(seen)))
}

#[test]
fn each_of_several_haproxy_instances_is_told_until_it_shows_it() {
    let (mut world, second) = pair();
    look(&mut world, second, None);
    order(&mut world, Admin::Drain, Some(60));
    assert_eq!(look(&mut world, proxy(), Some(DRAIN)), ["admin_in_force"]);
    assert!(!is_done(&world));
    assert_eq!(look(&mut world, second, Some(DRAIN)), ["admin_in_force"]);
    assert!(is_done(&world));
    // One is away when the order ends.
    world.step(Event::ProxyLost { proxy: second });
    expire(&mut world);
    assert_eq!(look(&mut world, proxy(), None), ["admin_in_force"]);
    assert_eq!(wanted_by(&world, proxy()), None, "what somebody does there from now on is theirs");
    assert_eq!(look(&mut world, proxy(), Some(DRAIN)), Vec::<&str>::new());
    assert_eq!(wanted_by(&world, second).map(|wanted| wanted.admin), Some(Admin::Ready));
    assert_eq!(look(&mut world, second, Some(DRAIN)), ["proxy_found"]);
    assert_eq!(look(&mut world, second, None), ["admin_in_force"]);
    assert_eq!(wanted_by(&world, second), None);
}

#[test]
fn a_haproxy_that_is_not_ours_is_not_told() {
    let (mut world, second) = pair();
    look(&mut world, second, None);
    let mut policy = world.state.policy.clone();
    policy.external.insert(second);
    world.step(Event::PolicyChanged(Box::new(policy)));
    assert_eq!(
        denial(&order(&mut world, Admin::Drain, None)),
        Some(Denial::External { proxy: second }),
        "by halves it would be taken for done"
    );
    let foreign = ProxySeen {
        proxy: proxy(),
        at: world.now.boot,
        identity: world.worker,
        master: None,
        owner: Some("somebody".into()),
        ours: false,
        routes: BTreeMap::new(),
        checks: BTreeMap::new(),
        serving: BTreeMap::new(),
        out: Some(BTreeMap::new()),
    };
    world.step(Event::Proxy(foreign));
    assert_eq!(denial(&order(&mut world, Admin::Drain, None)), Some(Denial::NotOwner));
}

#[test]
fn an_order_ends_also_where_its_haproxy_is_no_longer_ours() {
    let (mut world, second) = pair();
    look(&mut world, second, None);
    order(&mut world, Admin::Drain, None);
    let mut policy = world.state.policy.clone();
    policy.external.insert(second);
    world.step(Event::PolicyChanged(Box::new(policy)));
    assert!(accepted(&order(&mut world, Admin::Ready, None)));
    assert_eq!(look(&mut world, proxy(), None), ["admin_in_force"]);
    assert!(is_done(&world), "nobody waits for the one that is not told");
    assert_eq!(world.state.desired(second).servers.len(), 0);
}

#[test]
fn a_server_that_leaves_the_settings_and_comes_back_is_put_back() {
    let mut world = running();
    order(&mut world, Admin::Drain, None);
    world.administer_all();
    let mut smaller = policy();
    smaller.services.get_mut(&service("api")).unwrap().servers.remove(&name("a1"));
    world.step(Event::PolicyChanged(Box::new(smaller)));
    assert_eq!(wanted(&world), None, "it has no place that HAProxy could be told of");
    assert!(!codes(&world.administer_all()).contains(&"admin_in_force"), "its line is still there");
    world.step(Event::PolicyChanged(Box::new(policy())));
    assert_eq!(wanted(&world), Some(Admin::Ready));
    assert!(codes(&world.administer_all()).contains(&"admin_in_force"));
    assert!(world.out.is_empty());
}

#[test]
fn orders_are_taken_over_from_a_stored_state() {
    let mut world = running();
    order(&mut world, Admin::Drain, None);
    let mut fresh = State::new(policy());
    fresh.adopt_orders(&world.state);
    let known = &fresh.services[&service("api")];
    assert_eq!(known.maintenance, world.state.services[&service("api")].maintenance);
    assert_eq!(known.servers[&name("a1")].admin, Admin::Drain);
    assert_eq!(fresh.desired(proxy()).servers, world.state.desired(proxy()).servers);
    let mut rebuilt = fresh.clone();
    rebuilt.reindex();
    assert_eq!(fresh, rebuilt, "how the pools stand follows");
}

#[test]
fn the_last_server_is_not_taken_out_while_nobody_knows_who_serves() {
    let mut world = World::with(policy());
    world.step(Event::Started);
    let denied = order(&mut world, Admin::Maint, None);
    assert_eq!(denial(&denied), Some(Denial::LastServing { server: server("api/a1") }));
}

#[test]
fn each_order_about_a_server_has_a_number_of_its_own() {
    let mut world = running();
    let number = |world: &World| world.state.services[&service("api")].out_generation;
    let mut numbers = vec![number(&world)];
    for admin in [Admin::Drain, Admin::Maint, Admin::Ready] {
        order(&mut world, admin, None);
        numbers.push(number(&world));
    }
    assert_eq!(numbers, [0, 1, 2, 3]);
}
