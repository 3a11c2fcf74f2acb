//! A dry run lists what the real order then does: the same order, rehearsed and given, from the same moment.

use crate::scenario::root;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use supervisor::daemon::{Core, rehearse};
use supervisor::domain::action::{Action, Finished, Outcome, Target};
use supervisor::domain::command::Command;
use supervisor::domain::event::{Event, Routed};
use supervisor::domain::state::ProxyLink;
use supervisor::domain::{Decision, Now, Reason, ServiceId, Span, State};
use supervisor::scenario::{RunError, Script, What, play};
use supervisor::{present, status};

/// A moment at which somebody orders something.
struct Moment {
    state: State,
    now: Now,
    command: Command,
}

/// What an order led to, in the order in which it came.
#[derive(Debug, PartialEq)]
struct Led {
    codes: Vec<&'static str>,
    actions: Vec<Action>,
    /// What the person who asked reads.
    plan: Vec<String>,
}

impl Led {
    fn of(decision: &Decision) -> Led {
        Led {
            codes: decision.reasons.iter().map(Reason::code).collect(),
            actions: decision.actions.clone(),
            plan: present::plan(decision),
        }
    }
}

/// The moments of a script at which somebody orders something.
fn moments(script: &str) -> Vec<Moment> {
    let script = Script::parse(script).unwrap_or_else(|problems| panic!("{problems:?}\n{script}"));
    let (mut moments, mut before) = (Vec::new(), None);
    play(&script, |step| {
        if let (What::Heard(event), Some(state)) = (&step.what, before.take())
            && let Event::Commanded(command) = &**event
        {
            moments.push(Moment { state, now: step.now, command: command.clone() });
        }
        before = Some(step.state.clone());
        Ok::<(), RunError>(())
    })
    .unwrap();
    moments
}

/// The order is given, and HAProxy does as it is told: what answers takes all routes in one go and reads them back, then
/// requests are freed (`actuator/haproxy/reconcile.rs`).
fn given(moment: &Moment) -> Decision {
    let mut core = Core::new(moment.state.clone(), 1);
    let mut all = Decision::default();
    let mut step = |event: Event| match core.step(event, moment.now) {
        Ok(step) => {
            assert_eq!(step.breaches, []);
            all.actions.extend(step.record.decision.actions.clone());
            all.reasons.extend(step.record.decision.reasons);
            (step.record.decision.actions, core.state().clone())
        }
        Err(_) => (Vec::new(), core.state().clone()),
    };
    let (actions, state) = step(Event::Commanded(moment.command.clone()));
    let answers = state.proxies.iter().filter(|(_, proxy)| proxy.link == ProxyLink::Ours);
    for proxy in answers.map(|(proxy, _)| *proxy) {
        let is_new = |id: &ServiceId, generation: u64| {
            moment.state.services.get(id).is_none_or(|service| service.generation < generation)
        };
        let routes = state.desired(proxy).routes.into_iter().map(|(id, route)| (id, route.generation));
        let generations: BTreeMap<_, _> = routes.filter(|(id, route)| is_new(id, *route)).collect();
        if !generations.is_empty() {
            step(Event::Routed(Routed { proxy, generations, took: Span(4) }));
        }
    }
    // What was done may lead to more: a container runs on which another one depends.
    let mut actions = VecDeque::from(actions);
    while let Some(action) = actions.pop_front() {
        let (action, of) = match action {
            Action::Evacuate(it) => (it.id, Target::Server(it.server)),
            Action::Heal(it) => (it.id, Target::Container { container: it.container, deed: it.deed }),
            Action::Route { .. } | Action::Pace { .. } | Action::Mail(_) | Action::Answer { .. } => continue,
        };
        let (more, _) = step(Event::Finished(Finished { action, of, outcome: Outcome::Done }));
        actions.extend(more);
    }
    all
}

/// Rehearsed, then given: the same, and the rehearsal left no trace. Gives back the codes, or what differs.
fn compared(name: &str, moment: &Moment) -> Result<Vec<&'static str>, String> {
    let before = moment.state.clone();
    let rehearsed = rehearse(&moment.state, moment.command.clone(), moment.now);
    if moment.state != before {
        return Err(format!("{name}: the rehearsal changed the state"));
    }
    let done = given(moment);
    let (dry, real) = (Led::of(&rehearsed), Led::of(&done));
    if dry != real {
        return Err(format!("{name}: {:?}\n  rehearsed: {dry:#?}\n  given: {real:#?}", moment.command.order));
    }
    let reply = |dry_run, decision| {
        let reply = status::answer(&moment.command.order, dry_run, decision).unwrap();
        (reply.verdict, reply.words, reply.durable, reply.denial, reply.plan, reply.route)
    };
    let (dry, real) = (reply(true, &rehearsed), reply(false, &done));
    if dry != real {
        return Err(format!("{name}: a person reads\n  rehearsed: {dry:?}\n  given: {real:?}"));
    }
    Ok(Led::of(&done).codes)
}

/// Two sites, both up, onprem serves.
const UP: &str = "\
service api onprem cloud
at 0s start
at 0s haproxy sees api=onprem
at 0s docker lists
at 0.1s probe all ok
at 0.2s probe all ok
at 0.3s route
";

/// Two servers at each site.
const POOLS: &str = "\
service api onprem*2 cloud*2
at 0s start
at 0s haproxy sees api=onprem
at 0s docker lists
at 0.1s probe all ok
at 0.2s probe all ok
at 0.3s route
";

/// The service needs both servers of a pool, and cloud has lost one.
const THIN: &str = "\
service api onprem*2 cloud*2
set min_servers 2
at 0s start
at 0s haproxy sees api=onprem
at 0s docker lists
at 0.1s probe all ok
at 0.2s probe all ok
at 0.3s route
at 5s probe api-cloud-1 refused
";

/// Two services that move together.
const GROUP: &str = "\
service api onprem cloud
service web onprem cloud
set group shop
at 0s start
at 0s haproxy sees api=onprem web=onprem
at 0s docker lists
at 0.1s probe all ok
at 0.2s probe all ok
at 0.3s route
";

/// Two HAProxy instances.
const PAIR: &str = "\
proxies edge-1 edge-2
service api onprem cloud
at 0s start
at 0s haproxy edge-1 sees api=onprem
at 0s haproxy edge-2 sees api=onprem
at 0s docker lists
at 0.1s probe all ok
at 0.2s probe all ok
at 0.3s haproxy edge-1 routes
at 0.3s haproxy edge-2 routes
";

/// The name, how things are, what happens then, what is ordered, and the codes of what follows.
const SITUATIONS: &[(&str, &str, &str, &str, &str)] = &[
    ("all is up", UP, "", "failover api cloud", "switchover route_in_force"),
    (
        "for a time",
        UP,
        "",
        "failover api cloud for 2h because upgrade of the database",
        "switchover route_in_force",
    ),
    ("pinned", UP, "", "failover api cloud pin", "switchover route_in_force"),
    ("already there, as the settings want it", UP, "", "failover api onprem", ""),
    (
        "already there, and not preferred",
        UP,
        "at 10s docker api-onprem died 1\nat 10.1s route\n",
        "failover api cloud",
        "preference_set",
    ),
    (
        "the wish again, with an end",
        UP,
        "at 10s order failover api cloud\nat 10.1s route\n",
        "failover api cloud for 1h",
        "preference_set",
    ),
    ("the wish again", UP, "at 10s order failover api cloud\nat 10.1s route\n", "failover api cloud", ""),
    ("the target is down", UP, "at 10s probe api-cloud refused\n", "failover api cloud", "denied"),
    (
        "the target is down, by force",
        UP,
        "at 10s probe api-cloud refused\n",
        "failover api cloud force",
        "switchover incident_opened incident_merged route_in_force",
    ),
    (
        "the target has proved nothing",
        UP,
        "\
         at 10s start\n\
         at 10s haproxy sees\n\
         at 10.1s probe api-onprem ok\n\
         at 10.2s probe api-onprem ok\n",
        "failover api cloud",
        "denied",
    ),
    (
        "the target has proved nothing, by force",
        UP,
        "\
         at 10s start\n\
         at 10s haproxy sees\n\
         at 10.1s probe api-onprem ok\n\
         at 10.2s probe api-onprem ok\n",
        "failover api cloud force",
        "switchover route_in_force",
    ),
    ("the target is taken out", UP, "at 10s order maint api/api-cloud\n", "failover api cloud", "denied"),
    (
        "the target is taken out, by force",
        UP,
        "at 10s order maint api/api-cloud\n",
        "failover api cloud force",
        "denied",
    ),
    (
        "it would leave what serves for what does not",
        UP,
        "at 10s docker api-cloud died 1\nat 10s docker api-cloud stopped\n",
        "failover api cloud",
        "denied",
    ),
    ("there is no such service", UP, "", "failover shop cloud", "denied"),
    ("there is no such site", UP, "", "failover api mars", "denied"),
    ("the service is paused", UP, "at 10s order pause service/api\n", "failover api cloud", "denied"),
    (
        "all is paused, by force",
        UP,
        "at 10s order pause all for 1h\n",
        "failover api cloud force",
        "switchover route_in_force",
    ),
    (
        "paused, and its site died meanwhile, by force",
        UP,
        "at 10s order pause all for 1h\nat 20s docker api-onprem died 1\n",
        "failover api cloud force",
        "switchover incident_ended incident_opened route_in_force evacuated",
    ),
    (
        "paused, and its site died meanwhile: the pause is ended",
        UP,
        "at 10s order pause all for 1h\nat 20s docker api-onprem died 1\n",
        "resume all",
        "resumed failover heals incident_ended incident_opened route_in_force evacuated healed",
    ),
    (
        "the site that serves is down, and the service stateful",
        UP,
        "set stateful true\nat 10s reload\nat 11s docker api-onprem died 1\n",
        "failover api cloud",
        "switchover incident_ended incident_opened route_in_force evacuated",
    ),
    (
        "during a hold-down",
        UP,
        "\
         at 10s docker api-onprem died 1\n\
         at 10.1s route\n\
         at 20s probe api-onprem ok\n\
         at 20.3s probe api-onprem ok\n",
        "failover api onprem",
        "switchover route_in_force",
    ),
    (
        "a return during a hold-down",
        UP,
        "\
         at 10s docker api-onprem died 1\n\
         at 10.1s route\n\
         at 20s probe api-onprem ok\n\
         at 20.3s probe api-onprem ok\n",
        "failback api",
        "switchover route_in_force",
    ),
    (
        "a return, and the better site is down",
        UP,
        "at 10s docker api-onprem died 1\nat 10.1s route\n",
        "failback api",
        "",
    ),
    (
        "a return that ends an override",
        UP,
        "at 10s order failover api cloud for 1h\nat 10.1s route\n",
        "failback api",
        "preference_dropped switchover route_in_force",
    ),
    (
        "a return that ends an override from which an escape went",
        UP,
        "\
         at 10s order failover api cloud\n\
         at 10.1s route\n\
         at 20s docker api-cloud died 1\n\
         at 20.1s route\n",
        "failback api",
        "preference_dropped",
    ),
    (
        "a return, and nothing serves",
        UP,
        "\
         at 10s order failover api cloud\n\
         at 10.1s route\n\
         at 20s docker api-cloud died 1\n\
         at 20.1s route\n\
         at 30s docker api-onprem died 1\n",
        "failback api",
        "preference_dropped",
    ),
    (
        "all is down",
        UP,
        "at 10s docker api-cloud died 1\nat 20s docker api-onprem died 1\n",
        "failover api cloud",
        "denied",
    ),
    (
        "all is down, by force",
        UP,
        "at 10s docker api-cloud died 1\nat 20s docker api-onprem died 1\n",
        "failover api cloud force",
        "switchover route_in_force",
    ),
    (
        "the better site flaps",
        UP,
        "\
         set flapping 2/5m\n\
         at 9s reload\n\
         at 10s probe api-onprem refused\n\
         at 10.1s route\n\
         at 11s probe api-onprem ok\n\
         at 11.3s probe api-onprem ok\n\
         at 12s probe api-onprem refused\n\
         at 13s probe api-onprem ok\n\
         at 13.3s probe api-onprem ok\n",
        "failover api onprem",
        "switchover route_in_force",
    ),
    (
        "we are cut off",
        UP,
        "\
         at 10s probe api-onprem connect-timeout\n\
         at 10s probe api-cloud unreachable\n\
         at 14s probe api-onprem connect-timeout\n\
         at 14s probe api-cloud unreachable\n",
        "failover api cloud",
        "switchover route_in_force",
    ),
    (
        "the order before it is being carried out",
        UP,
        "at 58s order failover api cloud\n",
        "failback api",
        "denied",
    ),
    (
        "somebody was faster",
        UP,
        "\
         at 10s order failover api cloud\n\
         at 10.1s route\n\
         at 20s order failback api\n\
         at 20.1s route\n",
        "failover api cloud seen 2",
        "denied",
    ),
    ("HAProxy was not seen", UP, "at 10s start\n", "failover api cloud", "denied"),
    ("HAProxy is another's", UP, "at 10s haproxy belongs to node-2\n", "failover api cloud", "denied"),
    ("HAProxy is lost", UP, "at 10s haproxy lost\n", "failover api cloud", "switchover route_waits"),
    ("the disk is behind", UP, "at 10s store degraded\n", "failover api cloud", "switchover route_in_force"),
    (
        "the last server of a pool is drained",
        UP,
        "",
        "drain api/api-onprem",
        "taken_out left_taken_out route_in_force",
    ),
    (
        "a server that was drained goes back",
        UP,
        "at 10s order drain api/api-onprem\nat 10.1s route\n",
        "ready api/api-onprem",
        "put_back",
    ),
    (
        "the last that serves is taken out",
        UP,
        "at 10s docker api-cloud died 1\n",
        "maint api/api-onprem",
        "denied",
    ),
    ("a test of the alerts", UP, "set mail true\nat 9s reload\n", "test alert", "test_ordered tells_by_mail"),
    ("a target with too few servers", THIN, "", "failover api cloud", "denied"),
    (
        "a target with too few servers, by force",
        THIN,
        "",
        "failover api cloud force",
        "switchover route_in_force",
    ),
    (
        "while a server is drained",
        POOLS,
        "at 10s order drain api/api-onprem-1\n",
        "failover api cloud",
        "switchover route_in_force",
    ),
    (
        "one server of the old site hangs",
        POOLS,
        "at 10s probe api-onprem-1 silent\nat 11s probe api-onprem-1 silent\n",
        "failover api cloud",
        "switchover route_in_force evacuated",
    ),
    (
        "a group moves together",
        GROUP,
        "",
        "failover web cloud",
        "switchover switchover route_in_force route_in_force",
    ),
    (
        "a group of which one cannot be there",
        GROUP,
        "at 10s probe api-cloud refused\n",
        "failover web cloud",
        "denied",
    ),
    (
        "a stateful group whose site died",
        GROUP,
        "\
         set stateful true\n\
         at 10s reload\n\
         at 11s docker api-onprem died 1\n\
         at 11s docker web-onprem died 1\n",
        "failover web cloud",
        "switchover switchover route_in_force route_in_force evacuated evacuated",
    ),
    ("two HAProxy instances", PAIR, "", "failover api cloud", "switchover route_in_force route_in_force"),
    (
        "one of two HAProxy instances is lost",
        PAIR,
        "at 10s haproxy edge-2 lost\n",
        "failover api cloud",
        "switchover route_waits route_in_force",
    ),
    (
        "stateful, its site died, and two HAProxy instances",
        PAIR,
        "set stateful true\nat 10s reload\nat 11s docker api-onprem died 1\n",
        "failover api cloud",
        "switchover incident_ended incident_opened route_in_force route_in_force evacuated evacuated",
    ),
];

#[test]
fn a_rehearsed_order_is_the_order_that_is_then_given() {
    let mut wrong = Vec::new();
    for (name, world, then, order, expected) in SITUATIONS {
        let script = format!("{world}{then}at 1m order {order}\n");
        let all = moments(&script);
        let moment = all.last().unwrap_or_else(|| panic!("{name}: nothing is ordered"));
        match compared(name, moment) {
            Ok(codes) if codes.join(" ") == *expected => {}
            Ok(codes) => wrong.push(format!("{name}: {:?} instead of {expected:?}", codes.join(" "))),
            Err(difference) => wrong.push(difference),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same for every order of every scenario.
#[test]
fn every_order_of_every_scenario_could_have_been_rehearsed() {
    let (mut orders, mut wrong) = (0, Vec::new());
    for entry in fs::read_dir(root("tests/scenarios")).unwrap() {
        let path = entry.unwrap().path();
        for moment in moments(&fs::read_to_string(&path).unwrap()) {
            orders += 1;
            wrong.extend(compared(&path.display().to_string(), &moment).err());
        }
    }
    assert!(orders >= 50, "only {orders} orders found in tests/scenarios");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
