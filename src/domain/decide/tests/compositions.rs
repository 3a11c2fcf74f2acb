//! Events in another order, twice, or not at all: what is known in the end, and where traffic is, is the same.

use super::*;
use crate::domain::action::{Finished, Outcome, Target};
use crate::domain::command::Scope;
use crate::domain::delivery::{AlertPolicy, Word};
use crate::domain::event::{ConfigSeen, Configured, PeerResult, PeerSeen, ProxySeen, StoreHealth};
use crate::domain::id::{ContainerName, PeerId, SiteId};
use crate::domain::maintenance::Admin;
use crate::domain::policy::Policy;
use crate::domain::state::{Placement, State};
use crate::domain::testing;

/// The servers of two services; a container has the name of its server.
const SERVERS: [&str; 5] =
    ["api/api-onprem", "api/api-cloud", "api/api-edge", "shop/shop-onprem", "shop/shop-cloud"];

fn am() -> PeerId {
    "am1".parse().unwrap()
}

fn policy() -> Policy {
    let mut policy =
        testing::policy(&[("api", &["onprem", "cloud", "edge"]), ("shop", &["onprem", "cloud"])]);
    policy.alerts = AlertPolicy {
        peers: [am()].into(),
        direct: true,
        fallback_after: Span::seconds(60),
        notify_grace: Span::seconds(90),
    };
    policy
}

fn running() -> World {
    let mut world = World::with(policy());
    world.start();
    world
}

fn container(id: &str) -> &str {
    id.split_once('/').unwrap().1
}

fn list(world: &World, ended: &[bool]) -> Event {
    let seen = |down: &bool| ContainerSeen {
        id: "c1".into(),
        status: if *down {
            ContainerStatus::Exited { exit: Some(1), oom: false }
        } else {
            ContainerStatus::Running
        },
        facts: Facts::default(),
    };
    let containers =
        SERVERS.iter().zip(ended).map(|(id, down)| (ContainerName(container(id).into()), seen(down)));
    Event::Containers(ContainerList {
        engine: engine(),
        at: world.now.boot,
        containers: containers.collect(),
        past: Past::default(),
    })
}

/// Half an hour in which everything is as `down` says, is heard of, and HAProxy does as it is told.
fn settle(world: &mut World, down: &[bool]) {
    for _ in 0..12 {
        let until = world.now.boot + Span::seconds(150);
        while world.state.next_deadline().is_some_and(|at| at <= until) {
            world.wake();
        }
        world.pass(until.since(world.now.boot).0);
        let list = list(world, down);
        world.step(list);
        for (id, down) in SERVERS.iter().zip(down) {
            if *down {
                world.fail(id, ProbeFault::Refused)
            } else {
                world.ok(id)
            };
        }
        world.see_proxy();
        world.route_all();
    }
}

/// The first site of each service that has a server up; none: nothing serves it.
fn belongs(down: &[bool]) -> BTreeMap<&'static str, Option<SiteId>> {
    let up = |service: &str| {
        let mut all = SERVERS.iter().zip(down).filter(|(id, down)| id.starts_with(service) && !**down);
        all.next().map(|(id, _)| site(id.rsplit_once('-').unwrap().1))
    };
    [("api", up("api/")), ("shop", up("shop/"))].into()
}

/// Everything that is to be as the world is, whatever was heard on the way.
fn assert_agrees(world: &World, down: &[bool]) -> Result<(), TestCaseError> {
    for (id, down) in SERVERS.iter().zip(down) {
        prop_assert_eq!(world.state.server(server(id)).unwrap().health.is_down(), *down, "{}", id);
    }
    for (id, place) in belongs(down) {
        let placement = &world.state.services[&service(id)].placement;
        // Where nothing serves, traffic is where it was: that is history.
        if place.is_some() {
            prop_assert_eq!(placement.site(), place, "{}", id);
        }
        let route = placement.route().unwrap();
        prop_assert!(route.pending.is_empty(), "{} is not confirmed", id);
        prop_assert_eq!(world.routes.get(&service(id)), Some(&route.site), "{} in HAProxy", id);
    }
    let wrong = world.state.incidents.values().any(|incident| incident.ended.is_none());
    prop_assert_eq!(wrong, down.contains(&true), "incidents");
    Ok(())
}

/// For each server whether it falls (and how that is heard), and what it is in the end.
fn stories() -> impl Strategy<Value = Vec<[Happens; 2]>> {
    let one = prop_oneof![Just(Happens::Dies), Just(Happens::Refuses), Just(Happens::IsUp)];
    proptest::collection::vec([one.clone(), one], SERVERS.len())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Happens {
    Dies,
    Refuses,
    IsUp,
}

/// Each server twice, in any order.
fn order() -> impl Strategy<Value = Vec<usize>> {
    Just([0, 1, 2, 3, 4, 0, 1, 2, 3, 4].to_vec()).prop_shuffle()
}

fn happen(world: &mut World, index: usize, what: Happens) {
    let id = SERVERS[index];
    world.pass(40);
    match what {
        Happens::Dies => drop(world.container(container(id), ContainerSign::Died { exit: Some(1) })),
        Happens::Refuses => drop(world.fail(id, ProbeFault::Refused)),
        Happens::IsUp => {
            world.container(container(id), ContainerSign::Started);
            world.ok(id);
            world.ok(id);
        }
    }
}

/// One more event of any kind but a probe's: each result of a probe is an observation of its own, and is counted.
#[derive(Debug, Clone, Copy)]
enum Any {
    Sign(usize, ContainerSign),
    List([bool; 5]),
    EngineLost,
    Look(bool),
    Foreign,
    ProxyLost,
    Routed,
    Configured(bool),
    Evacuated,
    Peer(Option<bool>),
    Store(bool),
    Started,
    Failover(&'static str, bool, bool),
    Failback,
    Pause(Scope),
    Resume(Scope),
    Maintain(usize, Admin),
}

fn any_event() -> impl Strategy<Value = Any> {
    let sign = prop_oneof![
        Just(ContainerSign::Started),
        Just(ContainerSign::Died { exit: Some(1) }),
        Just(ContainerSign::Died { exit: Some(0) }),
        Just(ContainerSign::OutOfMemory),
        Just(ContainerSign::Killed { signal: Some(15) }),
        Just(ContainerSign::Stopped),
        Just(ContainerSign::Paused),
        Just(ContainerSign::Unpaused),
        Just(ContainerSign::Destroyed),
        Just(ContainerSign::Checked(crate::domain::event::DockersCheck::Unhealthy)),
    ];
    let scope =
        prop_oneof![Just(Scope::All), Just(Scope::Service(service("api"))), Just(Scope::Site(site("cloud")))];
    let place = prop_oneof![Just("onprem"), Just("cloud"), Just("edge"), Just("mars")];
    let admin = prop_oneof![Just(Admin::Ready), Just(Admin::Drain), Just(Admin::Maint)];
    prop_oneof![
        6 => (0..SERVERS.len(), sign).prop_map(|(index, sign)| Any::Sign(index, sign)),
        2 => any::<[bool; 5]>().prop_map(Any::List),
        1 => Just(Any::EngineLost),
        2 => any::<bool>().prop_map(Any::Look),
        1 => Just(Any::Foreign),
        1 => Just(Any::ProxyLost),
        3 => Just(Any::Routed),
        1 => any::<bool>().prop_map(Any::Configured),
        1 => Just(Any::Evacuated),
        2 => proptest::option::of(any::<bool>()).prop_map(Any::Peer),
        1 => any::<bool>().prop_map(Any::Store),
        1 => Just(Any::Started),
        2 => (place, any::<bool>(), any::<bool>()).prop_map(|(to, force, pin)| Any::Failover(to, force, pin)),
        1 => Just(Any::Failback),
        1 => scope.clone().prop_map(Any::Pause),
        1 => scope.prop_map(Any::Resume),
        1 => (0..SERVERS.len(), admin).prop_map(|(index, admin)| Any::Maintain(index, admin)),
    ]
}

fn send(world: &mut World, event: Any) -> Decision {
    let look = |world: &World, owner: &str, ours| {
        Event::Proxy(ProxySeen {
            proxy: proxy(),
            at: world.now.boot,
            identity: world.worker,
            master: None,
            owner: Some(owner.into()),
            ours,
            routes: world.routes.clone(),
            checks: BTreeMap::new(),
            serving: BTreeMap::new(),
            out: Some(world.out.clone()),
        })
    };
    let event = match event {
        Any::Sign(index, sign) => return world.container(container(SERVERS[index]), sign),
        Any::List(ended) => list(world, &ended),
        Any::EngineLost => Event::EngineLost { engine: engine(), last: LastSigns::default() },
        Any::Look(true) => look(world, "me", true),
        // The map was lost.
        Any::Look(false) => {
            world.routes.clear();
            look(world, "me", true)
        }
        Any::Foreign => look(world, "node-2", false),
        Any::ProxyLost => Event::ProxyLost { proxy: proxy() },
        Any::Routed => return world.route_all(),
        Any::Configured(true) => {
            let config = ConfigSeen::InForce { revision: "a".into() };
            Event::Configured(Configured { proxy: proxy(), config, reload: None })
        }
        Any::Configured(false) => {
            let config = ConfigSeen::Refused { message: "line 3".into() };
            Event::Configured(Configured { proxy: proxy(), config, reload: None })
        }
        Any::Evacuated => Event::Finished(Finished {
            action: ActionId(1),
            of: Target::Server(server(ONPREM)),
            outcome: Outcome::Done,
        }),
        Any::Peer(word) => {
            let words = |has: bool| {
                let word = if has { Word::Active } else { Word::Absent };
                world.state.incidents.keys().map(|id| (*id, word.clone())).collect()
            };
            let result = match word {
                Some(has) => PeerResult::Answered(words(has)),
                None => PeerResult::Failed("connection refused".into()),
            };
            Event::Peer(PeerSeen { peer: am(), result, silences: None })
        }
        Any::Store(true) => Event::Store(StoreHealth::Durable),
        Any::Store(false) => Event::Store(StoreHealth::Degraded),
        Any::Started => Event::Started,
        Any::Failover(to, force, pin) => {
            let (service, to) = (service("api"), site(to));
            return world.order(Order::Failover { service, to, force, seen: None, lasts: None, pin });
        }
        Any::Failback => return world.failback(),
        Any::Pause(scope) => return world.order(Order::Pause { scope, lasts: None }),
        Any::Resume(scope) => return world.order(Order::Resume { scope }),
        Any::Maintain(index, admin) => {
            let server = server(SERVERS[index]);
            return world.order(Order::Maintain { server, admin, lasts: None, force: true });
        }
    };
    world.step(event)
}

/// The state without what a second look may add: how often an Alertmanager failed, and that HAProxy confirms what was taken
/// over from it.
fn uncounted(state: &State) -> State {
    let mut state = state.clone();
    state.peers.values_mut().for_each(|peer| peer.failures.clear());
    for service in state.services.values_mut() {
        if let Placement::On(route) = &mut service.placement {
            route.pending.clear();
        }
    }
    state
}

/// Whether something is done to traffic, to containers or to people's mailboxes.
fn acts(decision: &Decision) -> bool {
    decision.actions.iter().any(|action| match action {
        Action::Route { .. } | Action::Evacuate(_) | Action::Heal(_) | Action::Mail(_) => true,
        Action::Pace { .. } | Action::Answer { .. } => false,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Of Docker's events the watcher tells none twice: for healing a second death is one more death.
    #[test]
    fn what_is_heard_twice_is_known_once(events in proptest::collection::vec((any_event(), 0u64..20_000), 1..24)) {
        let mut world = running();
        for (event, gap) in events {
            world.pass(gap);
            while world.state.next_deadline().is_some_and(|at| at <= world.now.boot) {
                world.step(Event::Woke);
            }
            send(&mut world, event);
            let once = world.state.clone();
            let second = send(&mut world, event);
            prop_assert!(!acts(&second), "{:?} again: {:?}", event, second.actions);
            prop_assert_eq!(uncounted(&world.state), uncounted(&once), "{:?} again", event);
        }
    }

    #[test]
    fn the_order_of_what_is_independent_decides_nothing(
        stories in stories(), orders in [order(), order()], looks in any::<[bool; 10]>(),
    ) {
        let down: Vec<bool> = stories.iter().map(|[_, last]| *last != Happens::IsUp).collect();
        for order in orders {
            let mut world = running();
            let mut heard = [0; SERVERS.len()];
            for (index, look) in order.into_iter().zip(looks) {
                happen(&mut world, index, stories[index][heard[index]]);
                heard[index] += 1;
                if look {
                    world.see_proxy();
                    world.route_all();
                }
            }
            settle(&mut world, &down);
            assert_agrees(&world, &down)?;
        }
    }

    /// Any of the news is lost, and any confirmation; then everything is looked at once more.
    #[test]
    fn what_was_not_heard_is_made_up_for(
        stories in stories(), order in order(), lost in any::<[bool; 10]>(), unconfirmed in any::<[bool; 10]>(),
    ) {
        let down: Vec<bool> = stories.iter().map(|[_, last]| *last != Happens::IsUp).collect();
        let mut world = running();
        let mut heard = [0; SERVERS.len()];
        for ((index, lost), unconfirmed) in order.into_iter().zip(lost).zip(unconfirmed) {
            let what = stories[index][heard[index]];
            heard[index] += 1;
            if !lost {
                happen(&mut world, index, what);
            }
            // HAProxy has the route, and its word is lost.
            let desired = world.state.desired(proxy());
            world.routes.extend(desired.routes.iter().map(|(id, route)| (*id, route.site)));
            if !unconfirmed {
                world.route_all();
            }
        }
        settle(&mut world, &down);
        assert_agrees(&world, &down)?;
    }
}
