//! Each breach is found: decisions that the core would never make are made by hand.

use super::*;
use crate::domain::action::{ActionId, Deed, Heal};
use crate::domain::event::{
    ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, Facts, Past,
};
use crate::domain::failover::Override;
use crate::domain::health::Health;
use crate::domain::id::ContainerName;
use crate::domain::incident::{Ended, Trouble};
use crate::domain::state::{Pending, Placement, Route};
use crate::domain::testing::{World, healing, policy, proxy, server, service, site};
use crate::domain::time::Boot;
use crate::domain::witness::{Cause, ProbeFault};

const REFUSED: Cause = Cause::Probe(ProbeFault::Refused);

/// api on onprem, both sites healthy, for an hour.
fn world() -> World {
    let mut world = World::with(healing(policy(&[("api", &["onprem", "cloud"])])));
    world.start();
    world.pass(3_600_000);
    world
}

fn down(world: &World, place: &str) -> Change {
    let health = Health::Down { since: world.now.boot, cause: REFUSED, good: 0 };
    Change::Health { server: server(&format!("api/api-{place}")), health }
}

/// A decision that moves api to `to`, for `reason`, after `changes`.
fn moved(world: &World, to: &str, changes: Vec<Change>, reason: Option<Reason>) -> Decision {
    let generation = world.state.services[&service("api")].generation + 1;
    let route = Route {
        site: site(to),
        generation,
        since: world.now.boot,
        since_wall: world.now.wall,
        by: None,
        pending: [(proxy(), Pending::since(world.now.boot))].into(),
    };
    let mut decision = Decision { changes, reasons: reason.into_iter().collect(), ..Decision::default() };
    decision.changes.push(Change::Placed { service: service("api"), placement: Placement::On(route) });
    decision.actions.push(Action::Route { service: service("api"), site: site(to), generation });
    decision
}

fn failover(from: &str, to: &str) -> Option<Reason> {
    Some(Reason::Failover { service: service("api"), from: site(from), to: site(to), cause: REFUSED })
}

fn failback(to: &str) -> Option<Reason> {
    Some(Reason::Failback { service: service("api"), from: site("cloud"), to: site(to), healthy: Span::ZERO })
}

fn found(world: &World, event: &Event, decision: &Decision) -> Vec<Breach> {
    let mut after = world.state.clone();
    after.apply(&decision.changes);
    check(&Before::of(&world.state, decision), event, decision, &after, world.now)
}

fn names(breaches: &[Breach]) -> Vec<String> {
    breaches
        .iter()
        .map(|breach| breach.to_string().split([':', ' ']).next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn a_move_away_from_what_serves_to_what_does_not_is_found() {
    let world = world();
    let decision = moved(&world, "cloud", vec![down(&world, "cloud")], failover("onprem", "cloud"));
    assert_eq!(names(&found(&world, &Event::Woke, &decision)), ["I1", "I11", "I5"]);
    let fine = moved(&world, "cloud", vec![down(&world, "onprem")], failover("onprem", "cloud"));
    assert_eq!(found(&world, &Event::Woke, &fine), []);
}

#[test]
fn a_failback_within_its_hold_down_or_beyond_its_limit_is_found() {
    let mut world = world();
    world.failover("cloud", false);
    world.failback();
    world.failover("cloud", false);
    let service_id = service("api");
    let at = world.now.boot;
    let failed_back = Change::FailedBack { service: service_id, at };
    let decision = |world: &World| {
        let mut decision = moved(world, "onprem", Vec::new(), failback("onprem"));
        decision.changes.insert(0, Change::Preference { service: service_id, preference: None });
        decision.changes.push(failed_back.clone());
        decision
    };
    assert_eq!(found(&world, &Event::Woke, &decision(&world)), []);
    world.state.apply(&[Change::FailedOver { service: service_id, at: at - Span::seconds(10) }]);
    assert_eq!(names(&found(&world, &Event::Woke, &decision(&world))), ["I2"]);
    world.state.apply(&[Change::FailedOver { service: service_id, at: at - Span::seconds(1_000) }]);
    world.state.apply(&[failed_back.clone(), failed_back.clone()]);
    assert_eq!(names(&found(&world, &Event::Woke, &decision(&world))), ["I11"]);
}

#[test]
fn a_move_against_a_persons_preference_or_without_a_reason_is_found() {
    let mut world = world();
    world.failover("onprem", false);
    let preference = world.state.services[&service("api")].preference.clone();
    let preference: Option<Override> = preference.or_else(|| {
        world.failover("cloud", false);
        world.state.services[&service("api")].preference.clone()
    });
    let from = preference.unwrap().site;
    let to = if from == site("cloud") { "onprem" } else { "cloud" };
    let decision = moved(&world, to, Vec::new(), failover(from.as_str(), to));
    assert_eq!(names(&found(&world, &Event::Woke, &decision)), ["I9", "I5"]);
    let unexplained = moved(&world, to, Vec::new(), None);
    let moves_on = Breach::MoveUndone { service: service("api") };
    let without = Breach::NoReason { service: service("api") };
    assert_eq!(found(&world, &Event::Woke, &unexplained), [without, moves_on]);
}

#[test]
fn a_move_off_a_pinned_site_is_found_even_if_that_is_down() {
    let mut world = world();
    world.failover("cloud", false);
    world.pass(3_600_000);
    for (pin, breaches) in [(false, vec![]), (true, vec!["I9"])] {
        let id = service("api");
        let preference = world.state.services[&id].preference.clone().map(|over| Override { pin, ..over });
        world.state.apply(&[Change::Preference { service: id, preference }]);
        let escape = moved(&world, "onprem", vec![down(&world, "cloud")], failover("cloud", "onprem"));
        let after: Vec<String> = names(&found(&world, &Event::Woke, &escape));
        assert_eq!(after, breaches, "pin: {pin}");
    }
}

#[test]
fn traffic_that_is_left_where_it_does_not_belong_is_found() {
    let world = world();
    let left = Decision { changes: vec![down(&world, "onprem")], ..Decision::default() };
    let api = service("api");
    assert_eq!(found(&world, &Event::Woke, &left), [Breach::MoveUndone { service: api }]);
    let elsewhere = Decision { changes: vec![down(&world, "cloud")], ..Decision::default() };
    assert_eq!(found(&world, &Event::Woke, &elsewhere), []);
}

fn heal(world: &World, recorded: bool) -> Decision {
    let container = world.state.repairs.keys().next().unwrap().clone();
    let id = ActionId(77);
    let repair = Repair {
        phase: Phase::Acting { action: id, deed: Deed::Start, since: world.now.boot },
        ..Repair::default()
    };
    let change = Change::Repair { container: container.clone(), repair: Box::new(repair) };
    let action = Action::Heal(Heal { id, container, container_id: "c1".into(), deed: Deed::Start });
    Decision {
        changes: if recorded { vec![change] } else { Vec::new() },
        actions: vec![action],
        reasons: Vec::new(),
    }
}

fn with_repair(world: &mut World, repair: Repair) {
    let container = world.state.repairs.keys().next().unwrap().clone();
    world.state.apply(&[Change::Repair { container, repair: Box::new(repair) }]);
}

#[test]
fn a_start_of_what_a_person_stopped_or_beyond_the_budget_is_found() {
    let mut world = world();
    let since = world.now.boot;
    with_repair(&mut world, Repair { phase: Phase::Due { at: since }, ..Repair::default() });
    assert_eq!(found(&world, &Event::Woke, &heal(&world, true)), []);
    with_repair(&mut world, Repair { phase: Phase::Held { since }, ..Repair::default() });
    assert_eq!(names(&found(&world, &Event::Woke, &heal(&world, true))), ["I3"]);
    let starts = vec![since; 5];
    with_repair(&mut world, Repair { phase: Phase::Due { at: since }, starts, ..Repair::default() });
    assert_eq!(names(&found(&world, &Event::Woke, &heal(&world, true))), ["I6"]);
    // Within the container's, and beyond that of its site.
    with_repair(
        &mut world,
        Repair { phase: Phase::Due { at: since }, starts: vec![since], ..Repair::default() },
    );
    let mut second = heal(&world, true);
    let Some(Change::Repair { container, repair }) = second.changes.first_mut() else { panic!("no repair") };
    repair.starts = vec![since, since];
    let site = world.state.policy.containers[container].site.unwrap();
    assert_eq!(found(&world, &Event::Woke, &second), []);
    world.state.policy.heal.site_restarts = 1;
    assert_eq!(found(&world, &Event::Woke, &second), [Breach::TooManyStartsAtSite { site }]);
}

#[test]
fn what_a_list_shows_to_have_been_started_since_is_about_another_life() {
    let mut world = world();
    let container = world.state.repairs.keys().next().unwrap().clone();
    let starts = vec![world.now.boot; 5];
    for phase in [Phase::Held { since: world.now.boot }, Phase::Due { at: world.now.boot }] {
        with_repair(&mut world, Repair { phase, starts: starts.clone(), ..Repair::default() });
        let list = |status, events| {
            let seen = ContainerSeen { id: "c1".into(), status, facts: Facts::default() };
            let containers = [(container.name.clone(), seen)].into();
            let past = Past { events, ..Past::default() };
            Event::Containers(ContainerList {
                engine: container.engine,
                at: world.now.boot,
                containers,
                past,
            })
        };
        let event = |sign| ContainerEvent {
            engine: container.engine,
            name: container.name.clone(),
            id: "c1".into(),
            at: world.now.boot,
            nanoseconds: 1,
            sign,
        };
        let ended = ContainerStatus::Exited { exit: Some(1), oom: false };
        let decision = heal(&world, true);
        assert_eq!(found(&world, &list(ContainerStatus::Running, Vec::new()), &decision), []);
        let started = vec![event(ContainerSign::Started), event(ContainerSign::Died { exit: Some(1) })];
        assert_eq!(found(&world, &list(ended, started), &decision), []);
        let died = vec![event(ContainerSign::Died { exit: Some(1) })];
        assert_eq!(found(&world, &list(ended, died), &decision).len(), 1, "nobody started it");
    }
}

#[test]
fn a_member_of_a_group_may_leave_what_a_person_prefers_with_the_others() {
    for (group, breaches) in [(None, vec!["I9", "I5"]), (Some("pair"), vec!["I5"])] {
        let mut policy = policy(&[("api", &["onprem", "cloud"]), ("web", &["onprem", "cloud"])]);
        let group = group.map(|group: &str| group.parse().unwrap());
        policy.services.values_mut().for_each(|service| service.group = group);
        let mut world = World::with(policy);
        world.start();
        world.failover("cloud", false);
        world.route_all();
        world.pass(3_600_000);
        let health = Health::Down { since: world.now.boot, cause: REFUSED, good: 0 };
        world.state.apply(&[Change::Health { server: server("web/web-cloud"), health }]);
        let decision = moved(&world, "onprem", Vec::new(), failover("cloud", "onprem"));
        assert_eq!(names(&found(&world, &Event::Woke, &decision)), breaches, "{group:?}");
    }
}

#[test]
fn a_test_makes_room_for_the_next_one_when_it_is_over() {
    let mut world = world();
    world.state.policy.alerts.direct = true;
    let id = IncidentId(5);
    let forget = Decision { changes: vec![Change::Incident { id, incident: None }], ..Decision::default() };
    for (ended, breaches) in [(None, 1), (Some(Ended { at: Boot(0), wall: world.now.wall }), 0)] {
        let incident = Incident {
            trouble: Trouble::Test,
            opened: world.now.boot,
            opened_wall: world.now.wall,
            ended,
            part_of: None,
            trusted_from: None,
            story: Vec::new(),
            telling: Telling::default(),
            wake: None,
        };
        world.state.apply(&[Change::Incident { id, incident: Some(Box::new(incident)) }]);
        assert_eq!(found(&world, &Event::Woke, &forget).len(), breaches);
    }
}

#[test]
fn an_action_that_its_record_does_not_hold_is_found() {
    let mut world = world();
    let at = world.now.boot;
    with_repair(&mut world, Repair { phase: Phase::Due { at }, ..Repair::default() });
    assert_eq!(names(&found(&world, &Event::Woke, &heal(&world, false))), ["I4"]);
    let mut unplaced = moved(&world, "cloud", vec![down(&world, "onprem")], failover("onprem", "cloud"));
    unplaced.changes.pop();
    assert!(names(&found(&world, &Event::Woke, &unplaced)).contains(&"I4".to_owned()));
}

#[test]
fn a_start_before_what_it_depends_on_is_found() {
    let mut world = world();
    let at = world.now.boot;
    with_repair(&mut world, Repair { phase: Phase::Due { at }, ..Repair::default() });
    let decision = heal(&world, true);
    let Some(Action::Heal(heal)) = decision.actions.first() else { panic!("nothing is healed") };
    let (container, on) = (heal.container.clone(), ContainerName("api-onprem".into()));
    assert_ne!(container.name, on);
    let facts = Facts { depends_on: [on.clone()].into(), ..Facts::default() };
    let seen = ContainerSeen { id: "c1".into(), status: ContainerStatus::Running, facts };
    let (engine, name) = (container.engine, container.name.clone());
    world.state.apply(&[Change::Container { engine, name, seen: Some(seen) }]);
    for (phase, is_found) in [(Phase::Due { at }, true), (Phase::Runs { since: at }, false)] {
        let other = ContainerRef { engine, name: on.clone() };
        let repair = Box::new(Repair { phase, ..Repair::default() });
        world.state.apply(&[Change::Repair { container: other, repair }]);
        let breach = Breach::StartedBeforeDependency { container: container.clone() };
        assert_eq!(found(&world, &Event::Woke, &decision).contains(&breach), is_found);
    }
}

#[test]
fn a_reason_that_is_about_something_else_accounts_for_no_move() {
    let world = world();
    let other = Reason::Placed { service: service("shop"), site: site("cloud") };
    let no_move = Reason::RouteInForce {
        service: service("api"),
        site: site("cloud"),
        proxy: proxy(),
        took: Span::ZERO,
    };
    for reason in [other, no_move] {
        let decision = moved(&world, "cloud", vec![down(&world, "onprem")], Some(reason));
        let found = found(&world, &Event::Woke, &decision);
        assert!(found.contains(&Breach::NoReason { service: service("api") }), "{found:?}");
    }
}

#[test]
fn an_incident_that_is_forgotten_untold_is_found() {
    let mut world = world();
    world.state.policy.alerts.direct = true;
    let incident = Incident {
        trouble: Trouble::CutOff,
        opened: world.now.boot,
        opened_wall: world.now.wall,
        ended: None,
        part_of: None,
        trusted_from: None,
        story: Vec::new(),
        telling: Telling::default(),
        wake: None,
    };
    let id = IncidentId(5);
    let keep = |incident: Incident| Change::Incident { id, incident: Some(Box::new(incident)) };
    world.state.apply(&[keep(incident.clone())]);
    let forget = Decision { changes: vec![Change::Incident { id, incident: None }], ..Decision::default() };
    assert_eq!(found(&world, &Event::Woke, &forget), [Breach::ForgottenUntold { incident: id }]);
    let ended = Some(Ended { at: Boot(0), wall: world.now.wall });
    let over = Telling::Over { by_mail: false };
    // Told and lasting, over and untold: each alone is not enough.
    for half in
        [Incident { telling: over.clone(), ..incident.clone() }, Incident { ended, ..incident.clone() }]
    {
        world.state.apply(&[keep(half)]);
        assert_eq!(found(&world, &Event::Woke, &forget), [Breach::ForgottenUntold { incident: id }]);
    }
    let whole = Incident { ended, telling: over, ..incident.clone() };
    // Told by this very decision; another one's end says nothing about it.
    world.state.apply(&[keep(incident)]);
    for (told, breaches) in [(id, 0), (IncidentId(6), 1)] {
        let told = Change::Incident { id: told, incident: Some(Box::new(whole.clone())) };
        let forget = Change::Incident { id, incident: None };
        let decision = Decision { changes: vec![told, forget], ..Decision::default() };
        assert_eq!(found(&world, &Event::Woke, &decision).len(), breaches);
    }
    world.state.apply(&[keep(whole)]);
    assert_eq!(found(&world, &Event::Woke, &forget), []);
}

#[test]
fn without_mails_an_incident_may_be_forgotten_when_nobody_was_told_in_time() {
    let mut world = world();
    for (ago, mails, breaches) in [(0, false, 1), (-1, false, 1), (1, false, 0), (1, true, 1)] {
        world.state.policy.alerts.direct = mails;
        let at = world.now.boot.shift(-ago) - RESOLVED_SENT_FOR;
        let at = if ago == 0 { at + Span(1) } else { at };
        let incident = Incident {
            trouble: Trouble::CutOff,
            opened: at,
            opened_wall: world.now.wall,
            ended: Some(Ended { at, wall: world.now.wall }),
            part_of: None,
            trusted_from: None,
            story: Vec::new(),
            telling: Telling::default(),
            wake: None,
        };
        let id = IncidentId(7);
        world.state.apply(&[Change::Incident { id, incident: Some(Box::new(incident)) }]);
        let forget =
            Decision { changes: vec![Change::Incident { id, incident: None }], ..Decision::default() };
        assert_eq!(found(&world, &Event::Woke, &forget).len(), breaches, "{ago} ms ago, mails {mails}");
    }
}

#[test]
fn an_haproxy_that_goes_elsewhere_unwatched_is_found() {
    let mut world = world();
    world.see_proxy();
    let seen = ProxySeen {
        proxy: proxy(),
        at: world.now.boot,
        identity: world.worker,
        master: None,
        owner: Some("me".into()),
        ours: true,
        routes: [(service("api"), site("cloud"))].into(),
        checks: [].into(),
        serving: [].into(),
        out: None,
    };
    let decision = Decision::default();
    let look = |world: &World| found(world, &Event::Proxy(seen.clone()), &decision);
    let unwatched = Breach::RouteUnwatched { service: service("api"), proxy: proxy() };
    assert!(look(&world) == vec![unwatched.clone()]);
    for (ago, late, is_found) in [(6, false, false), (7, false, true), (7, true, false)] {
        let pending = Pending { late, ..Pending::since(world.now.boot - Span::seconds(ago)) };
        world.state.apply(&[Change::Pending { service: service("api"), proxy: proxy(), pending }]);
        assert_eq!(look(&world).contains(&unwatched), is_found, "{ago} s ago, late {late}");
    }
    // A look that began before the route was decided shows what was before it.
    for (decided_in, is_found) in [(0, true), (1, false)] {
        let mut route = world.state.services[&service("api")].placement.route().unwrap().clone();
        (route.since, route.pending) = (world.now.boot + Span(decided_in), [].into());
        let placement = Placement::On(route);
        world.state.apply(&[Change::Placed { service: service("api"), placement }]);
        assert_eq!(look(&world).contains(&unwatched), is_found, "decided {decided_in} ms later");
    }
}
