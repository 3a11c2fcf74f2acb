//! The core as a whole, one story each. [`World::step`] checks invariants and replay at every step.

use super::*;
use crate::domain::action::{ActionId, Pace};
use crate::domain::command::{Denial, Order, Verdict};
use crate::domain::event::{
    CheckSeen, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, Facts, LastSigns, Past, Probed,
};
use crate::domain::testing::*;
use crate::domain::time::Span;
use crate::domain::witness::{ProbeFault, ProbeOutcome};
use crate::domain::{explain, explain::Grade, explain::grade};
use proptest::prelude::*;
use std::collections::BTreeMap;

mod compositions;
mod heal;
mod incidents;
mod large;
mod machines;
mod out;
mod path;
mod pauses;
mod pools;
mod proxies;

const ONPREM: &str = "api/api-onprem";
const CLOUD: &str = "api/api-cloud";

#[test]
fn starting_places_nothing_until_haproxy_is_seen() {
    let mut world = World::new();
    world.step(Event::Started);
    world.all_ok();
    world.all_ok();
    assert_eq!(world.serving(), None);
    assert!(world.state.desired(proxy()).routes.is_empty());
}

#[test]
fn the_live_map_becomes_the_state() {
    let mut world = World::new();
    world.routes.insert(service("api"), site("cloud"));
    world.step(Event::Started);
    let decision = world.see_proxy();
    assert_eq!(codes(&decision), ["proxy_found", "adopted"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn without_a_live_route_the_first_preference_is_set() {
    let mut world = World::new();
    world.step(Event::Started);
    assert_eq!(codes(&world.see_proxy()), ["proxy_found", "placed"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn a_restart_of_supervisor_changes_nothing_by_itself() {
    let mut world = World::running();
    world.failover("cloud", false);
    world.route_all();
    let generation = world.state.services[&service("api")].generation;
    world.pass(1_000);
    world.step(Event::Started);
    assert_eq!(world.serving(), None, "unmanaged until HAProxy is seen");
    assert_eq!(codes(&world.see_proxy()), ["proxy_found", "adopted"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    assert!(world.state.services[&service("api")].generation > generation);
    assert!(world.state.services[&service("api")].preference.is_some(), "orders outlive us");
}

#[test]
fn what_haproxy_does_when_we_come_back_is_taken_on_whatever_we_remember() {
    let mut world = World::running();
    world.failover("cloud", false);
    world.route_all();
    world.step(Event::Started);
    world.worker.pid += 1;
    world.routes.insert(service("api"), site("onprem"));
    assert_eq!(codes(&world.see_proxy()), ["proxy_found", "proxy_replaced", "adopted"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn a_haproxy_that_comes_back_without_a_route_gets_the_remembered_one() {
    let mut world = World::running();
    world.failover("cloud", false);
    world.route_all();
    world.step(Event::Started);
    world.worker.pid += 1;
    world.routes.clear();
    assert_eq!(codes(&world.see_proxy()), ["proxy_found", "proxy_replaced", "reasserted"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn an_order_can_be_taken_back_while_one_haproxy_does_not_answer() {
    let mut world = World::running();
    world.failover("cloud", false);
    assert!(matches!(denial(&world.failback()), Some(Denial::InProgress { .. })));
    world.step(Event::ProxyLost { proxy: proxy() });
    assert!(accepted(&world.failback()), "nobody carries it out");
    world.see_proxy();
    world.failover("cloud", false);
    world.pass(5_000);
    assert!(accepted(&world.failback()), "it had its time");
}

#[test]
fn a_map_that_somebody_changed_is_set_back_and_told_once() {
    let mut world = World::running();
    world.pass(1_000);
    world.routes.insert(service("api"), site("cloud"));
    assert_eq!(codes(&world.see_proxy()), ["reasserted"]);
    assert_eq!(codes(&world.see_proxy()), Vec::<&str>::new());
    assert_eq!(codes(&world.route_all()), ["route_in_force"]);
}

#[test]
fn another_owner_makes_us_passive() {
    let mut world = World::new();
    world.step(Event::Started);
    let decision = world.step(Event::Proxy(crate::domain::event::ProxySeen {
        proxy: proxy(),
        at: world.now.boot,
        identity: world.worker,
        master: None,
        owner: Some("other".into()),
        ours: false,
        routes: BTreeMap::new(),
        checks: BTreeMap::new(),
        serving: BTreeMap::new(),
        out: None,
    }));
    assert_eq!(codes(&decision), ["proxy_foreign"]);
    assert!(!world.state.desired(proxy()).active);
    assert_eq!(denial(&world.failover("cloud", true)), Some(Denial::NotOwner));
}

#[test]
fn a_container_that_dies_moves_traffic_at_once() {
    let mut world = World::running();
    let decision = world.container("api-onprem", ContainerSign::Died { exit: Some(137) });
    assert_eq!(codes(&decision), ["server_down", "failover"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    let freed = evacuations(&decision);
    assert_eq!(freed.len(), 1);
    assert_eq!(freed[0].refuge, Some(site("cloud")));
    assert_eq!(world.state.desired(proxy()).down.get(&freed[0].server), Some(&freed[0].epoch));
}

#[test]
fn a_paused_container_moves_traffic_at_once_and_a_signal_does_not() {
    let mut world = World::running();
    for harmless in [
        ContainerSign::Killed { signal: Some(1) },
        ContainerSign::Stopped,
        ContainerSign::Unpaused,
        ContainerSign::Started,
    ] {
        assert_eq!(codes(&world.container("api-onprem", harmless)), Vec::<&str>::new(), "{harmless:?}");
    }
    assert_eq!(codes(&world.container("api-onprem", ContainerSign::Destroyed)), ["container_gone"]);
    assert_eq!(codes(&world.container("api-onprem", ContainerSign::Paused)), ["server_down", "failover"]);
}

#[test]
fn a_refused_connection_acts_at_once_and_a_silent_server_after_fall() {
    let mut world = World::running();
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::Silent)), Vec::<&str>::new());
    world.pass(300);
    let decision = world.fail(ONPREM, ProbeFault::Silent);
    assert_eq!(codes(&decision), ["server_down", "failover"]);
    assert_eq!(evacuations(&decision).len(), 1);
    let mut world = World::running();
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::Refused)), ["server_down", "failover"]);
}

#[test]
fn a_server_that_answers_wrongly_keeps_its_sessions() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::Status(500));
    let decision = world.fail(ONPREM, ProbeFault::Status(500));
    assert_eq!(codes(&decision), ["server_down", "failover"]);
    assert_eq!(evacuations(&decision), [], "it finishes what it has begun");
}

#[test]
fn one_lost_probe_is_nothing_but_makes_us_look_closer() {
    let mut world = World::running();
    let decision = world.fail(ONPREM, ProbeFault::Silent);
    assert_eq!(decision.actions, [Action::Pace { server: server(ONPREM), pace: Pace::Fast }]);
    let decision = world.ok(ONPREM);
    assert_eq!(decision.actions, [Action::Pace { server: server(ONPREM), pace: Pace::Normal }]);
    assert!(world.ok(ONPREM).is_empty(), "a good probe of a good server changes nothing");
}

#[test]
fn traffic_returns_once_after_the_stable_time_and_the_hold_down() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::Refused);
    let failed_over = world.now.boot;
    world.pass(9_998);
    assert_eq!(codes(&world.ok(ONPREM)), Vec::<&str>::new());
    assert_eq!(codes(&world.ok(ONPREM)), ["server_up"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    let waiting = explain(&world.state, service("api"), world.now);
    assert!(
        waiting.iter().any(|reason| matches!(
            reason,
            Reason::Stays {
                stay: crate::domain::failover::Stay::HoldDown { .. },
                left: Some(Span(290_000)),
                ..
            }
        )),
        "{waiting:?}"
    );
    let decision = world.wake().unwrap();
    assert_eq!(codes(&decision), ["failback"]);
    assert_eq!(world.now.boot.since(failed_over), Span::seconds(300));
    assert_eq!(world.state.services[&service("api")].wake, None);
}

#[test]
fn a_better_site_that_breaks_again_starts_its_stable_time_anew() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::Refused);
    world.pass(295_000);
    world.ok(ONPREM);
    world.ok(ONPREM);
    world.pass(30_000);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::Refused)), ["server_down"]);
    assert_eq!(world.state.next_deadline(), None, "nothing to wait for");
    world.pass(31_000);
    assert_eq!(codes(&world.step(Event::Woke)), Vec::<&str>::new());
}

#[test]
fn both_down_keeps_the_last_and_says_so() {
    let mut world = World::running();
    world.fail(CLOUD, ProbeFault::Refused);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::Refused)), ["server_down", "stays"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    assert_eq!(grade(&world.state, service("api"), world.now), Grade::Down);
    world.ok(CLOUD);
    let decision = world.ok(CLOUD);
    assert_eq!(codes(&decision), ["server_up", "failover"], "the first that comes back takes over");
    assert_eq!(evacuations(&decision).len(), 1, "what still waits on the dead site is freed now");
}

#[test]
fn a_good_answer_from_before_the_crash_does_not_count() {
    let mut world = World::running();
    let started = world.now.boot;
    world.pass(100);
    world.container("api-onprem", ContainerSign::Died { exit: None });
    let stale = ProbeOutcome::Healthy { status: 200, took: Span(100) };
    let probed =
        Probed { server: server(ONPREM), due: started, started, ended: world.now.boot, outcome: stale };
    assert!(world.step(Event::Probed(probed)).is_empty());
}

#[test]
fn a_freeze_of_ours_voids_what_was_counted() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::Silent);
    let started = world.now.boot;
    world.pass(60_000);
    let outcome = ProbeOutcome::Failed(ProbeFault::Silent);
    let late = Probed { server: server(ONPREM), due: started, started, ended: started, outcome };
    assert_eq!(codes(&world.step(Event::Probed(late))), ["late"]);
    assert_eq!(codes(&world.fail(ONPREM, ProbeFault::Silent)), Vec::<&str>::new(), "counted from one again");
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn a_result_counts_as_long_as_it_is_not_later_than_the_settings_allow() {
    for (later, counts) in [(2_000, true), (2_001, false)] {
        let mut world = World::running();
        world.fail(ONPREM, ProbeFault::Silent);
        let started = world.now.boot;
        world.pass(later);
        let outcome = ProbeOutcome::Failed(ProbeFault::Silent);
        let result = Probed { server: server(ONPREM), due: started, started, ended: started, outcome };
        assert_eq!(codes(&world.step(Event::Probed(result))).contains(&"server_down"), counts, "{later} ms");
    }
}

#[test]
fn a_dead_process_is_told_and_moves_no_traffic() {
    let mut world = World::running();
    for _ in 0..2 {
        assert_eq!(codes(&world.live(ONPREM, ProbeOutcome::Failed(ProbeFault::Silent))), Vec::<&str>::new());
    }
    let decision = world.live(ONPREM, ProbeOutcome::Failed(ProbeFault::Silent));
    assert_eq!(codes(&decision), ["server_dead"]);
    assert!(world.live(ONPREM, ProbeOutcome::Failed(ProbeFault::Silent)).is_empty());
    assert_eq!(world.serving().as_deref(), Some("onprem"), "that is for `ready` to say");
    let standing = explain(&world.state, service("api"), world.now);
    assert!(standing.iter().any(|reason| reason.code() == "server_dead"), "{standing:?}");
    // What does not run is not said to run and be dead.
    let seen = ContainerSeen {
        id: "c1".into(),
        status: ContainerStatus::Exited { exit: Some(0), oom: false },
        facts: Facts::default(),
    };
    let containers = [(crate::domain::ContainerName("api-onprem".into()), seen)].into();
    let mut ended = world.state.clone();
    let list = ContainerList { engine: engine(), at: world.now.boot, containers, past: Past::default() };
    ended.apply(&decide(&ended, &Event::Containers(list), world.now).changes);
    let standing = explain(&ended, service("api"), world.now);
    assert!(standing.iter().all(|reason| reason.code() != "server_dead"), "{standing:?}");
    assert_eq!(codes(&world.live(ONPREM, ProbeOutcome::Connected { took: Span(1) })), ["server_lives"]);
}

#[test]
fn a_listing_makes_up_for_missed_events() {
    let mut world = World::running();
    let list = |at, status| {
        let seen = ContainerSeen { id: "c1".into(), status, facts: Facts::default() };
        let containers = [(crate::domain::ContainerName("api-onprem".into()), seen)].into();
        Event::Containers(ContainerList { engine: engine(), at, containers, past: Past::default() })
    };
    let at = world.now.boot;
    assert_eq!(codes(&world.step(list(at, ContainerStatus::Running))), ["engine_found", "container_gone"]);
    let exited = ContainerStatus::Exited { exit: Some(1), oom: false };
    assert_eq!(codes(&world.step(list(at, exited))), ["server_down", "failover"]);
    world.pass(1_000);
    world.ok(ONPREM);
    world.ok(ONPREM);
    world.pass(1_000);
    assert_eq!(codes(&world.step(list(at, exited))), Vec::<&str>::new(), "older than the recovery");
}

#[test]
fn losing_docker_or_haproxy_says_so_once_and_moves_nothing() {
    let mut world = World::running();
    assert_eq!(
        codes(&world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() })),
        ["engine_lost"]
    );
    assert!(world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() }).is_empty());
    assert_eq!(codes(&world.step(Event::ProxyLost { proxy: proxy() })), ["proxy_lost"]);
    assert!(world.step(Event::ProxyLost { proxy: proxy() }).is_empty());
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    assert_eq!(codes(&world.see_proxy()), ["proxy_found"]);
}

#[test]
fn a_refused_configuration_is_told_once_and_stands_in_the_explanation() {
    use crate::domain::event::{ConfigSeen, Configured};
    let mut world = World::running();
    let refused =
        Configured { proxy: proxy(), config: ConfigSeen::Refused { message: "line 3".into() }, reload: None };
    assert_eq!(codes(&world.step(Event::Configured(refused.clone()))), ["config_refused"]);
    assert!(world.step(Event::Configured(refused)).is_empty());
    let standing = explain(&world.state, service("api"), world.now);
    assert!(standing.iter().any(|reason| reason.code() == "config_refused"), "{standing:?}");
    let mended =
        Configured { proxy: proxy(), config: ConfigSeen::InForce { revision: "r2".into() }, reload: None };
    assert_eq!(codes(&world.step(Event::Configured(mended))), ["config_in_force"]);
}

#[test]
fn who_goes_back_to_a_configuration_and_what_comes_of_it_is_told_and_changes_nothing() {
    use crate::domain::Operator;
    use crate::domain::event::{BackStep, WentBack};
    let mut world = World::running();
    let by = Operator { uid: 1000, pid: None, name: Some("ada".into()) };
    let (r1, r2) = (|| "r1".to_owned(), || "r2".to_owned());
    let steps = [
        (BackStep::Ordered { revision: r1(), left: Some(r2()) }, "rollback_ordered"),
        (BackStep::Refused { revision: r1(), message: "line 3".into(), reload: None }, "rollback_refused"),
        (BackStep::Resumed { revision: r2(), held: None }, "config_resumed"),
    ];
    for (step, code) in steps {
        let seen = WentBack { proxy: proxy(), by: by.clone(), because: Some("slow".into()), step };
        // The same order again is another order.
        for _ in 0..2 {
            let decision = world.step(Event::WentBack(seen.clone()));
            assert_eq!((codes(&decision), decision.changes), (vec![code], vec![]));
        }
        let elsewhere = WentBack { proxy: "nowhere".parse().unwrap(), ..seen };
        assert!(world.step(Event::WentBack(elsewhere)).is_empty());
    }
}

#[test]
fn a_person_moves_traffic_and_it_stays_there() {
    let mut world = World::running();
    let decision = world.failover("cloud", false);
    assert!(accepted(&decision));
    assert_eq!(codes(&decision), ["switchover"]);
    assert_eq!(evacuations(&decision), [], "a healthy site finishes its requests");
    assert_eq!(codes(&world.route_all()), ["route_in_force"]);
    world.pass(10_000_000);
    assert_eq!(codes(&world.step(Event::Woke)), Vec::<&str>::new(), "no failback against a person's will");
    assert_eq!(codes(&world.failback()), ["preference_dropped", "switchover"]);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn orders_that_make_no_sense_are_denied_with_the_reason() {
    let mut world = World::running();
    let unknown = world.order(Order::Failover {
        service: service("nope"),
        to: site("cloud"),
        force: false,
        seen: None,
        lasts: None,
        pin: false,
    });
    assert!(matches!(denial(&unknown), Some(Denial::UnknownService { .. })));
    let known = vec![site("onprem"), site("cloud")];
    assert_eq!(
        denial(&world.failover("mars", false)),
        Some(Denial::UnknownSite { site: site("mars"), known })
    );
    world.fail(CLOUD, ProbeFault::Refused);
    assert!(matches!(denial(&world.failover("cloud", false)), Some(Denial::TargetDown { .. })));
    assert_eq!(codes(&world.failover("onprem", false)), Vec::<&str>::new());
    let again = world.failover("onprem", false);
    assert_eq!(again.actions.len(), 1);
    assert!(matches!(again.actions[0], Action::Answer { verdict: Verdict::AlreadySo, .. }));
}

#[test]
fn of_two_people_at_once_the_second_hears_of_the_first() {
    let mut world = World::running();
    let seen = Some(world.state.services[&service("api")].generation);
    let order = |to| Order::Failover {
        service: service("api"),
        to: site(to),
        force: false,
        seen,
        lasts: None,
        pin: false,
    };
    assert!(accepted(&world.order(order("cloud"))));
    let late = world.order(Order::Failback { service: service("api"), seen, force: false });
    assert!(matches!(denial(&late), Some(Denial::ChangedSince { by: Some(_), .. })), "{late:?}");
    let blind = world.failback();
    assert!(matches!(denial(&blind), Some(Denial::InProgress { .. })), "{blind:?}");
    world.route_all();
    assert!(accepted(&world.failback()));
}

#[test]
fn force_goes_to_a_sick_site_and_stays_until_it_is_healthy() {
    let mut world = World::running();
    world.fail(CLOUD, ProbeFault::Refused);
    let decision = world.failover("cloud", true);
    assert_eq!(codes(&decision), ["switchover"]);
    world.fail(CLOUD, ProbeFault::Refused);
    assert_eq!(world.serving().as_deref(), Some("cloud"), "no escape against --force");
    world.ok(CLOUD);
    world.ok(CLOUD);
    let decision = world.fail(CLOUD, ProbeFault::Refused);
    assert_eq!(codes(&decision), ["server_down", "failover"], "it was healthy once: escape is on again");
    assert_eq!(world.serving().as_deref(), Some("onprem"));
}

#[test]
fn after_an_escape_from_a_preferred_site_traffic_returns_to_it() {
    let mut world = World::running();
    world.failover("cloud", false);
    world.route_all();
    world.fail(CLOUD, ProbeFault::Refused);
    assert_eq!(world.serving().as_deref(), Some("onprem"));
    world.ok(CLOUD);
    world.ok(CLOUD);
    assert_eq!(codes(&world.wake().unwrap()), ["failback"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn a_new_policy_keeps_what_stays_and_drops_what_goes() {
    let mut world = World::running();
    world.fail(ONPREM, ProbeFault::Refused);
    let mut wanted = policy(&[("api", &["onprem", "cloud"]), ("shop", &["cloud"])]);
    let decision = world.step(Event::PolicyChanged(Box::new(wanted.clone())));
    assert_eq!(codes(&decision), ["policy_changed"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"), "what is known about api stays known");
    assert!(
        world.step(Event::PolicyChanged(Box::new(wanted.clone()))).is_empty(),
        "the same again is nothing"
    );
    wanted.services.remove(&service("api"));
    world.step(Event::PolicyChanged(Box::new(wanted)));
    assert!(!world.state.services.contains_key(&service("api")));
    assert!(world.fail(ONPREM, ProbeFault::Refused).is_empty(), "a result for a server that is gone");
}

#[test]
fn a_site_taken_out_of_the_settings_is_left() {
    let mut world = World::running();
    let decision = world.step(Event::PolicyChanged(Box::new(policy(&[("api", &["cloud"])]))));
    assert_eq!(codes(&decision), ["policy_changed", "site_removed"]);
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn a_store_in_trouble_is_told_once_and_marks_orders() {
    let mut world = World::running();
    let degraded = Event::Store(crate::domain::event::StoreHealth::Degraded);
    assert_eq!(codes(&world.step(degraded.clone())), ["store"]);
    assert!(world.step(degraded).is_empty());
    let decision = world.failover("cloud", false);
    let durable = decision
        .actions
        .iter()
        .any(|a| matches!(a, Action::Answer { verdict: Verdict::Accepted { durable: true }, .. }));
    assert!(accepted(&decision) && !durable);
}

#[test]
fn an_evacuation_that_failed_is_told_and_one_that_was_superseded_is_not() {
    let mut world = World::running();
    assert_eq!(codes(&world.finish(ActionId(0), Outcome::Done)), ["evacuated"]);
    assert_eq!(codes(&world.finish(ActionId(1), Outcome::Failed("socket gone".into()))), ["evacuated"]);
    assert!(world.finish(ActionId(2), Outcome::Superseded).is_empty());
}

#[test]
fn an_evacuation_that_failed_says_why() {
    let mut world = World::running();
    let failed =
        |outcome: Outcome, world: &mut World| match world.finish(ActionId(1), outcome).reasons.as_slice() {
            [Reason::Evacuated { failed, .. }] => failed.clone(),
            other => panic!("{other:?}"),
        };
    assert_eq!(failed(Outcome::Failed("socket gone".into()), &mut world), Some("socket gone".into()));
    assert_eq!(failed(Outcome::Done, &mut world), None);
}

#[test]
fn new_settings_name_what_came_and_what_went() {
    let mut world = World::with(policy(&[("api", &["onprem", "cloud"]), ("web", &["onprem"])]));
    world.start();
    let wanted = policy(&[("api", &["onprem", "cloud"]), ("shop", &["cloud"])]);
    let decision = world.step(Event::PolicyChanged(Box::new(wanted)));
    let (added, removed) = (vec![service("shop")], vec![service("web")]);
    assert_eq!(decision.reasons.first(), Some(&Reason::PolicyChanged { added, removed }));
}

#[test]
fn the_grace_of_a_start_ends_to_the_millisecond() {
    for (at, acts) in [(4_999, false), (5_000, true)] {
        let mut world = World::new();
        let began = world.now.boot;
        world.step(Event::Started);
        world.see_proxy();
        world.all_ok();
        world.all_ok();
        world.fail(ONPREM, ProbeFault::Silent);
        world.pass(began.shift(at - 1).since(world.now.boot).0);
        let decision = world.fail(ONPREM, ProbeFault::Silent);
        assert_eq!(codes(&decision).contains(&"server_down"), acts, "{at}");
    }
}

#[test]
fn a_decision_of_any_kind_is_not_nothing() {
    let change = Decision { changes: vec![Change::CutOff(true)], ..Decision::default() };
    let pace = Action::Pace { server: server(ONPREM), pace: Pace::Fast };
    let action = Decision { actions: vec![pace], ..Decision::default() };
    let reason = Decision { reasons: vec![Reason::Reconnected], ..Decision::default() };
    assert!(Decision::default().is_empty());
    assert_eq!([change, action, reason].map(|decision| decision.is_empty()), [false; 3]);
}

/// One thing that can happen in the random sequences.
#[derive(Debug, Clone)]
enum Step {
    Ok(&'static str),
    Fail(&'static str, ProbeFault),
    Docker(&'static str, ContainerSign),
    Look,
    ReplaceWorker,
    Route,
    LoseProxy,
    Pass(u64),
    Wake,
    Failover(&'static str, bool),
    Failback,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let server = prop_oneof![Just(ONPREM), Just(CLOUD)];
    let container = prop_oneof![Just("api-onprem"), Just("api-cloud")];
    let fault = prop_oneof![
        Just(ProbeFault::Refused),
        Just(ProbeFault::Silent),
        Just(ProbeFault::Status(500)),
        Just(ProbeFault::ConnectTimeout),
    ];
    let sign = prop_oneof![
        Just(ContainerSign::Died { exit: Some(1) }),
        Just(ContainerSign::Paused),
        Just(ContainerSign::Started),
        Just(ContainerSign::OutOfMemory),
    ];
    prop_oneof![
        8 => server.clone().prop_map(Step::Ok),
        4 => (server, fault).prop_map(|(server, fault)| Step::Fail(server, fault)),
        2 => (container, sign).prop_map(|(container, sign)| Step::Docker(container, sign)),
        4 => Just(Step::Look),
        1 => Just(Step::ReplaceWorker),
        4 => Just(Step::Route),
        1 => Just(Step::LoseProxy),
        4 => (0u64..100_000).prop_map(Step::Pass),
        3 => Just(Step::Wake),
        2 => (prop_oneof![Just("onprem"), Just("cloud"), Just("mars")], any::<bool>()).prop_map(|(to, force)| Step::Failover(to, force)),
        1 => Just(Step::Failback),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// The invariants hold, replay agrees, and once the faults end traffic is served by a healthy site.
    #[test]
    fn whatever_happens_the_invariants_hold_and_it_converges(steps in proptest::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        world.start();
        for step in steps {
            match step {
                Step::Ok(server) => { world.ok(server); }
                Step::Fail(server, fault) => { world.fail(server, fault); }
                Step::Docker(container, sign) => { world.container(container, sign); }
                Step::Look => { world.see_proxy(); }
                Step::ReplaceWorker => world.worker.pid += 1,
                Step::Route => { world.route_all(); }
                Step::LoseProxy => { world.step(Event::ProxyLost { proxy: proxy() }); }
                Step::Pass(ms) => world.pass(ms),
                Step::Wake => { world.wake(); }
                Step::Failover(to, force) => { world.failover(to, force); }
                Step::Failback => { world.failback(); }
                Step::Restart => { world.step(Event::Started); }
            }
        }
        for _ in 0..3 {
            world.pass(1_000);
            world.see_proxy();
            world.all_ok();
            world.route_all();
        }
        // An override brings itself to mind for ever; everything else comes to rest.
        for _ in 0..20 {
            if world.wake().is_none() { break }
            world.route_all();
        }
        let api = &world.state.services[&service("api")];
        let wanted = api.preference.as_ref().map_or(site("onprem"), |over| over.site);
        prop_assert_eq!(api.placement.site(), Some(wanted));
        prop_assert_eq!(grade(&world.state, service("api"), world.now), Grade::Well);
    }
}
