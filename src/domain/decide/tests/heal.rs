//! Healing: the sequences of events that Docker makes, and what is made of them.

use super::*;
use crate::domain::action::{Deed, Finished, Heal, Target};
use crate::domain::event::{ContainerEvent, DockersCheck, DockersPolicy};
use crate::domain::id::ContainerName;
use crate::domain::policy::{ContainerPolicy, ContainerRef, HealMode, OnKill, Role, ServerPolicy};
use crate::domain::repair::{Ender, Phase};
use crate::domain::time::Boot;

const STOP: u64 = 2_000;

fn onprem() -> ContainerRef {
    ContainerRef { engine: engine(), name: ContainerName("api-onprem".into()) }
}

fn signal(number: i32) -> ContainerSign {
    ContainerSign::Killed { signal: Some(number) }
}

fn died(exit: i32) -> ContainerSign {
    ContainerSign::Died { exit: Some(exit) }
}

/// Two sites, both up, every container healed automatically, the engine listed.
fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Policy)) -> World {
    let mut policy = healing(policy(&[("api", &["onprem", "cloud"])]));
    change(&mut policy);
    let mut world = World::with(policy);
    world.start();
    list(&mut world, |_| {});
    world.pass(60_000);
    world
}

/// The engine's list, with everything running under the id of `World::container`, as `change` wants it.
fn list(world: &mut World, change: impl FnOnce(&mut BTreeMap<ContainerName, ContainerSeen>)) -> Decision {
    let seen = ContainerSeen { id: "c1".into(), status: ContainerStatus::Running, facts: Facts::default() };
    let all = world.state.containers_of(engine()).map(|container| (container.name.clone(), seen.clone()));
    let mut containers: BTreeMap<ContainerName, ContainerSeen> = all.collect();
    change(&mut containers);
    world.pass(1);
    world.step(Event::Containers(ContainerList {
        engine: engine(),
        at: world.now.boot,
        containers,
        past: Past::default(),
    }))
}

/// What is wanted of Docker, per container.
fn deeds(decision: &Decision) -> Vec<(String, Deed)> {
    heals(decision).into_iter().map(|heal| (heal.container.name.0, heal.deed)).collect()
}

fn heals(decision: &Decision) -> Vec<Heal> {
    let heal = |action: &Action| match action {
        Action::Heal(heal) => Some(heal.clone()),
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Mail(_)
        | Action::Answer { .. } => None,
    };
    decision.actions.iter().filter_map(heal).collect()
}

fn end(world: &mut World, heal: &Heal, outcome: Outcome) -> Decision {
    let of = Target::Container { container: heal.container.clone(), deed: heal.deed };
    world.step(Event::Finished(Finished { action: heal.id, of, outcome }))
}

fn phase(world: &World) -> &'static str {
    world.state.repairs[&onprem()].phase.word()
}

fn who(world: &World) -> Option<Ender> {
    world.state.repairs[&onprem()].last.map(|last| last.who)
}

/// Wakes at every deadline until `span` has passed, and HAProxy takes its routes; what was wanted of Docker meanwhile.
fn wait(world: &mut World, span: u64) -> Vec<(String, Deed)> {
    let until = Boot(world.now.boot.0 + i64::try_from(span).unwrap());
    let mut wanted = Vec::new();
    while world.state.next_deadline().is_some_and(|at| at <= until) {
        let decision = world.wake().unwrap();
        wanted.extend(deeds(&decision));
        if codes(&decision).contains(&"failover") {
            world.route_all();
        }
    }
    world.now.boot = until;
    wanted
}

/// HAProxy has taken the route away from what is about to be restarted; the decision that restarts it.
fn left(world: &mut World) -> Decision {
    world.route_all();
    let mut decisions = std::iter::from_fn(|| world.wake()).take(5);
    decisions.find(|decision| !heals(decision).is_empty()).unwrap()
}

fn started() -> Vec<(String, Deed)> {
    vec![("api-onprem".to_owned(), Deed::Start)]
}

#[test]
fn a_crash_moves_traffic_and_starts_the_container_in_the_same_step() {
    let mut world = world();
    let decision = world.container("api-onprem", died(139));
    assert_eq!(codes(&decision), ["server_down", "failover", "container_ended", "heals"]);
    assert_eq!(deeds(&decision), started());
    assert_eq!(world.state.heals_under_way().len(), 1);
    world.container("api-onprem", ContainerSign::Started);
    assert_eq!(phase(&world), "runs");
    let healed = end(&mut world, &heals(&decision)[0], Outcome::Done);
    assert_eq!(codes(&healed), ["healed"]);
    assert_eq!(wait(&mut world, 600_000), [], "it runs: there is nothing more to do");
}

#[test]
fn what_a_person_stopped_is_left_alone_until_somebody_starts_it() {
    // `docker stop`; of a program that ignores SIGTERM; of a paused one.
    let sequences: [&[ContainerSign]; 3] = [
        &[signal(15), died(0), ContainerSign::Stopped],
        &[signal(15), signal(9), died(137), ContainerSign::Stopped],
        &[ContainerSign::Paused, signal(15), ContainerSign::Unpaused, died(143), ContainerSign::Stopped],
    ];
    for signs in sequences {
        let mut world = world();
        for sign in signs {
            assert_eq!(deeds(&world.container("api-onprem", *sign)), [], "{signs:?}");
            world.pass(10);
        }
        assert_eq!(world.serving().as_deref(), Some("cloud"), "traffic does not wait: {signs:?}");
        world.pass(STOP);
        let held = world.step(Event::Woke);
        assert_eq!(codes(&held), ["container_ended"], "{signs:?}");
        assert_eq!((phase(&world), who(&world)), ("held", Some(Ender::Stop)), "{signs:?}");
        assert_eq!(wait(&mut world, 3_600_000), [], "{signs:?}");
        // Lists do not change that, and neither does a start of ours.
        let ended = |all: &mut BTreeMap<ContainerName, ContainerSeen>| {
            all.get_mut(&onprem().name).unwrap().status =
                ContainerStatus::Exited { exit: Some(143), oom: false };
        };
        assert_eq!(deeds(&list(&mut world, ended)), []);
        world.step(Event::Started);
        assert_eq!(deeds(&list(&mut world, ended)), []);
        assert_eq!(phase(&world), "held");
        let lifted = world.container("api-onprem", ContainerSign::Started);
        assert_eq!(codes(&lifted), ["hold_lifted"], "{signs:?}");
        assert_eq!(phase(&world), "runs");
        world.pass(30_000);
        assert_eq!(deeds(&world.container("api-onprem", died(1))), started(), "it is looked after again");
    }
}

#[test]
fn a_bare_docker_kill_is_a_persons_wish_unless_the_settings_say_otherwise() {
    for (on_kill, expected, phase_after) in
        [(OnKill::Respect, vec![], "held"), (OnKill::Heal, started(), "acting")]
    {
        let mut world = world_with(|policy| {
            policy.containers.values_mut().for_each(|container| container.on_kill = on_kill)
        });
        world.container("api-onprem", signal(9));
        assert_eq!(deeds(&world.container("api-onprem", died(137))), [], "`stop` may follow");
        assert_eq!(wait(&mut world, 1_000), expected);
        assert_eq!((phase(&world), who(&world)), (phase_after, Some(Ender::Kill)));
    }
}

#[test]
fn a_stop_between_two_starts_of_dockers_own_policy_comes_alone() {
    let mut world = world();
    list(&mut world, |all| all.get_mut(&onprem().name).unwrap().facts.restart = DockersPolicy::Always);
    world.container("api-onprem", died(1));
    assert_eq!(phase(&world), "docker");
    world.pass(100);
    world.container("api-onprem", ContainerSign::Stopped);
    assert_eq!(wait(&mut world, 60_000), []);
    assert_eq!((phase(&world), who(&world)), ("held", Some(Ender::Stop)));
}

#[test]
fn a_restart_and_a_hup_are_no_outage_to_heal() {
    let mut world = world();
    for sign in [signal(15), died(0), ContainerSign::Stopped, ContainerSign::Started] {
        assert_eq!(deeds(&world.container("api-onprem", sign)), []);
        world.pass(20);
    }
    assert_eq!((phase(&world), wait(&mut world, 60_000)), ("runs", vec![]));
    assert_eq!(codes(&world.container("api-onprem", signal(1))), Vec::<&str>::new());
    assert_eq!(phase(&world), "runs");
    // A HUP disarms Docker's own policy (moby issue 41302): the next crash is ours.
    list(&mut world, |all| all.get_mut(&onprem().name).unwrap().facts.restart = DockersPolicy::Always);
    world.pass(30_000);
    assert_eq!(deeds(&world.container("api-onprem", died(1))), [], "Docker goes first");
    assert_eq!(wait(&mut world, 4_999), []);
    assert_eq!(wait(&mut world, 1), started());
}

#[test]
fn a_removed_container_is_not_healed_and_its_successor_begins_anew() {
    let mut world = world();
    for sign in [signal(9), died(137), ContainerSign::Destroyed] {
        assert_eq!(deeds(&world.container("api-onprem", sign)), []);
    }
    assert_eq!((phase(&world), wait(&mut world, 60_000)), ("gone", vec![]));
    let at = world.now.boot;
    let event = |id: &str, sign| {
        Event::Container(ContainerEvent {
            engine: engine(),
            name: onprem().name,
            id: id.into(),
            at,
            nanoseconds: 0,
            sign,
        })
    };
    world.step(event("c2", signal(1)));
    assert_eq!(phase(&world), "gone", "it was not started yet");
    world.step(event("c2", ContainerSign::Started));
    assert_eq!((phase(&world), world.state.repairs[&onprem()].id.as_str()), ("runs", "c2"));
    list(&mut world, |all| all.get_mut(&onprem().name).unwrap().id = "c2".into());
    let decision = world.step(event("c2", died(1)));
    assert_eq!(heals(&decision)[0].container_id, "c2");
}

#[test]
fn what_dies_before_it_could_be_read_waits_for_what_docker_does_about_it() {
    for (policy, expected) in [(DockersPolicy::Always, vec![]), (DockersPolicy::No, started())] {
        let mut world = world();
        let at = world.now.boot;
        for sign in [ContainerSign::Started, died(1)] {
            let (name, id) = (onprem().name, "c2".into());
            let event = ContainerEvent { engine: engine(), name, id, at, nanoseconds: 0, sign };
            assert_eq!(deeds(&world.step(Event::Container(event))), []);
        }
        list(&mut world, |all| {
            let seen = all.get_mut(&onprem().name).unwrap();
            let status = ContainerStatus::Exited { exit: Some(1), oom: false };
            *seen = ContainerSeen {
                id: "c2".into(),
                status,
                facts: Facts { restart: policy, ..Facts::default() },
            };
        });
        assert_eq!(wait(&mut world, 2_000), expected, "{policy:?}");
    }
}

#[test]
fn running_out_of_memory_is_a_crash_that_is_told_as_such() {
    let mut world = world();
    let child = world.container("api-onprem", ContainerSign::OutOfMemory);
    assert_eq!(codes(&child), Vec::<&str>::new(), "it may be one process of several");
    let decision = world.container("api-onprem", died(137));
    assert_eq!(deeds(&decision), started());
    assert!(codes(&decision).contains(&"failover"));
    assert!(world.state.repairs[&onprem()].last.is_some_and(|last| last.oom && last.who == Ender::Crash));
}

#[test]
fn that_memory_ran_out_may_be_heard_after_the_death_and_after_the_start() {
    let mut world = world();
    let died_of_it = world.container("api-onprem", died(137));
    assert_eq!(deeds(&died_of_it), started());
    world.container("api-onprem", ContainerSign::Started);
    world.ok("api/api-onprem");
    world.ok("api/api-onprem");
    world.pass(500);
    let late = world.container("api-onprem", ContainerSign::OutOfMemory);
    assert_eq!(codes(&late), Vec::<&str>::new(), "it is no second death, and the server is well");
    assert!(world.state.repairs[&onprem()].last.is_some_and(|last| last.oom));
    // Long after it, it is about a process of the one that runs now.
    world.pass(10_000);
    world.container("api-onprem", ContainerSign::OutOfMemory);
    assert!(world.state.repairs[&onprem()].oom.is_some());
}

#[test]
fn an_engine_that_goes_down_is_nobodys_wish_and_what_it_ran_is_started_when_it_is_back() {
    let mut world = world();
    for name in ["api-onprem", "api-cloud"] {
        for sign in [signal(15), died(143), ContainerSign::Stopped] {
            world.container(name, sign);
        }
    }
    // Long enough that both count as stopped by a person, as far as anybody can tell yet; another container, which is
    // not ours, takes its time.
    let signalled = Some(world.now.boot);
    assert_eq!(wait(&mut world, 8_000), []);
    assert_eq!(phase(&world), "held");
    let ended = Some(world.now.boot);
    world.pass(200);
    world.step(Event::EngineLost { engine: engine(), last: LastSigns { signalled, ended } });
    assert_eq!(phase(&world), "with_engine");
    assert_eq!(wait(&mut world, 60_000), [], "there is nobody to start it");
    let ended = |all: &mut BTreeMap<ContainerName, ContainerSeen>| {
        all.values_mut()
            .for_each(|seen| seen.status = ContainerStatus::Exited { exit: Some(143), oom: false });
    };
    list(&mut world, ended);
    assert_eq!(wait(&mut world, 4_999), [], "its own restart policies go first");
    let mut both = wait(&mut world, 10);
    both.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(both, [("api-cloud".to_owned(), Deed::Start), ("api-onprem".to_owned(), Deed::Start)]);
}

#[test]
fn a_persons_stop_before_an_engine_goes_down_stays_a_persons_stop() {
    let stop = |world: &mut World, name: &str| {
        for sign in [signal(15), died(143), ContainerSign::Stopped] {
            world.container(name, sign);
        }
    };
    // Then the engine stops the other one, and is gone; or it was the person who had stopped both.
    for by_engine in [true, false] {
        let mut world = world();
        stop(&mut world, "api-onprem");
        if !by_engine {
            stop(&mut world, "api-cloud");
        }
        let mut last = LastSigns { signalled: Some(world.now.boot), ended: Some(world.now.boot) };
        wait(&mut world, 5_000);
        if by_engine {
            stop(&mut world, "api-cloud");
            last = LastSigns { signalled: Some(world.now.boot), ended: Some(world.now.boot) };
        }
        world.pass(200);
        world.step(Event::EngineLost { engine: engine(), last });
        let cloud =
            &world.state.repairs[&ContainerRef { name: ContainerName("api-cloud".into()), ..onprem() }];
        let expected = if by_engine { "with_engine" } else { "held" };
        assert_eq!((phase(&world), cloud.phase.word()), ("held", expected));
    }
}

#[test]
fn a_persons_stop_just_before_the_connection_broke_stays_a_persons_stop() {
    let mut world = world();
    for sign in [signal(15), died(143), ContainerSign::Stopped] {
        world.container("api-onprem", sign);
    }
    world.pass(500);
    // api-cloud still ran: the engine was not going down.
    world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    wait(&mut world, 10_000);
    assert_eq!((phase(&world), who(&world)), ("held", Some(Ender::Stop)));
    let decision = list(&mut world, |all| {
        all.get_mut(&onprem().name).unwrap().status = ContainerStatus::Exited { exit: Some(143), oom: false };
    });
    assert_eq!((deeds(&decision), wait(&mut world, 60_000)), (vec![], vec![]));
}

#[test]
fn an_engine_that_was_killed_leaves_containers_down_and_they_are_started() {
    let mut world = world();
    world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    world.pass(3_000);
    list(&mut world, |all| {
        all.values_mut()
            .for_each(|seen| seen.status = ContainerStatus::Exited { exit: Some(137), oom: false });
    });
    assert_eq!(wait(&mut world, 10_000).len(), 2, "both ran when their engine was last heard");
    assert_eq!(who(&world), Some(Ender::Engine));
}

#[test]
fn what_ended_while_nobody_watched_is_started_only_if_no_person_can_have_done_it() {
    for (exit, oom, expected) in [
        (0, false, vec![]),
        (137, false, vec![]),
        (143, false, vec![]),
        (137, true, started()),
        (1, false, started()),
    ] {
        let mut world = world();
        world.step(Event::Started);
        world.pass(10_000);
        list(&mut world, |all| {
            all.get_mut(&onprem().name).unwrap().status = ContainerStatus::Exited { exit: Some(exit), oom };
        });
        assert_eq!(wait(&mut world, 60_000), expected, "exit {exit}, oom {oom}");
        assert_eq!(who(&world), Some(Ender::Unseen));
    }
}

/// The engine's first list after `gap`, with api-onprem ended and `signs` remembered, each so long after the gap began.
fn list_with_past(world: &mut World, gap: u64, signs: &[(u64, ContainerSign)], reaches: Reaches) -> Decision {
    let began = world.now;
    world.pass(gap);
    let event = |(ms, sign): &(u64, ContainerSign)| ContainerEvent {
        engine: engine(),
        name: onprem().name,
        id: "c1".into(),
        at: began.boot + Span(*ms),
        nanoseconds: i64::try_from(*ms).unwrap() * 1_000_000,
        sign: *sign,
    };
    let reaches_back = match reaches {
        Reaches::Start { .. } => None,
        Reaches::Back(ms) => Some(began.boot.shift(ms)),
    };
    let past = Past {
        events: signs.iter().map(event).collect(),
        reaches: reaches_back,
        live_restore: matches!(reaches, Reaches::Start { live_restore: true }),
    };
    let seen = |status| ContainerSeen { id: "c1".into(), status, facts: Facts::default() };
    let runs = signs.last().is_some_and(|(_, sign)| *sign == ContainerSign::Started);
    let exit_of = |sign: ContainerSign| if let ContainerSign::Died { exit } = sign { exit } else { None };
    let exit = signs.iter().rev().find_map(|(_, sign)| exit_of(*sign));
    let ended = ContainerStatus::Exited { exit, oom: false };
    let containers = BTreeMap::from([
        (onprem().name, seen(if runs { ContainerStatus::Running } else { ended })),
        (ContainerName("api-cloud".into()), seen(ContainerStatus::Running)),
    ]);
    world.step(Event::Containers(ContainerList { engine: engine(), at: world.now.boot, containers, past }))
}

/// How far back an engine remembers.
#[derive(Clone, Copy)]
enum Reaches {
    /// To its own start.
    Start { live_restore: bool },
    /// So many milliseconds after (before, if negative) the gap began.
    Back(i64),
}

#[test]
fn what_an_engine_remembers_tells_who_ended_what_while_nobody_listened() {
    let stop = [(100, signal(15)), (1_100, signal(9)), (1_200, died(137)), (1_200, ContainerSign::Stopped)];
    let crash = [(1_000, died(137))];
    let old_signal = [(1_000, signal(15)), (60_000, died(137))];
    let begun = |rest: &[(u64, ContainerSign)]| [&[(50, ContainerSign::Started)], rest].concat();
    let (start, far) = (Reaches::Start { live_restore: false }, Reaches::Back(-3_600_000));
    let survives = Reaches::Start { live_restore: true };
    let table = [
        ("a person stopped it", stop.to_vec(), far, "held", Some(Ender::Stop), 0),
        ("a person started and stopped it", begun(&stop), start, "held", Some(Ender::Stop), 0),
        ("its engine began anew, and it went on", stop.to_vec(), survives, "held", Some(Ender::Stop), 0),
        ("its engine ended it as it began", stop.to_vec(), start, "acting", Some(Ender::Engine), 1),
        ("it crashed", crash.to_vec(), far, "acting", Some(Ender::Crash), 1),
        ("it was started and crashed", begun(&crash), start, "acting", Some(Ender::Crash), 1),
        ("it ignored a signal long before", old_signal.to_vec(), far, "acting", Some(Ender::Crash), 1),
        // The signal may be what is forgotten; exit code 137 says nothing.
        (
            "what led to its end is forgotten",
            crash.to_vec(),
            Reaches::Back(500),
            "left",
            Some(Ender::Unseen),
            0,
        ),
        // A stop takes ten seconds, and its end five more: so far back its signal may be.
        (
            "its signal may just be forgotten",
            vec![(14_999, died(137))],
            Reaches::Back(0),
            "left",
            Some(Ender::Unseen),
            0,
        ),
        (
            "its signal would be remembered",
            vec![(15_000, died(137))],
            Reaches::Back(0),
            "acting",
            Some(Ender::Crash),
            1,
        ),
        (
            "only its stop is remembered",
            stop[2..].to_vec(),
            Reaches::Back(1_150),
            "held",
            Some(Ender::Stop),
            0,
        ),
        ("it was ended and started", begun(&[]), far, "runs", None, 0),
    ];
    for (what, signs, reaches, expected, who_did, starts) in table {
        let mut world = world();
        // Our own start: nothing is known but what was stored.
        world.step(Event::Started);
        let mut decisions = deeds(&list_with_past(&mut world, 120_000, &signs, reaches));
        decisions.extend(wait(&mut world, 10_000));
        assert_eq!((phase(&world), who(&world), decisions.len()), (expected, who_did, starts), "{what}");
    }
}

#[test]
fn what_is_remembered_and_was_heard_is_no_news() {
    let mut world = world();
    let stop = [(100, signal(15)), (200, died(143)), (200, ContainerSign::Stopped)];
    let signs = [&[(50, ContainerSign::Started)], &stop[..]].concat();
    list_with_past(&mut world, 1_000, &signs, Reaches::Start { live_restore: false });
    wait(&mut world, 10_000);
    assert_eq!((phase(&world), world.state.repairs[&onprem()].engine_time), ("held", 200_000_000));
    world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    let again = list_with_past(&mut world, 1_000, &signs, Reaches::Start { live_restore: false });
    assert!(!codes(&again).contains(&"hold_lifted"), "{:?}", codes(&again));
    assert_eq!((phase(&world), wait(&mut world, 60_000)), ("held", vec![]));
}

const ENGINE_BEGAN: Reaches = Reaches::Start { live_restore: false };

#[test]
fn what_was_being_found_out_when_we_ended_is_found_out_from_the_same_events() {
    let begun = |rest: &[(u64, ContainerSign)]| [&[(50, ContainerSign::Started)], rest].concat();
    let stop = begun(&[(100, signal(15)), (200, died(1)), (210, ContainerSign::Stopped)]);
    let crash = begun(&[(200, died(137))]);
    for (signs, before, after, starts) in [(stop, "stopping", "held", 0), (crash, "acting", "acting", 1)] {
        let mut world = world();
        list_with_past(&mut world, 1_000, &signs, ENGINE_BEGAN);
        assert_eq!(phase(&world), before);
        let counted = world.state.repairs[&onprem()].starts.len();
        world.step(Event::Started);
        let mut decisions = deeds(&list_with_past(&mut world, 1_000, &signs, ENGINE_BEGAN));
        decisions.extend(wait(&mut world, 10_000));
        assert_eq!((phase(&world), decisions.len()), (after, starts));
        assert_eq!(world.state.repairs[&onprem()].starts.len(), counted + starts, "the budget goes on");
    }
}

#[test]
fn an_engine_that_remembers_what_we_heard_did_not_go_down() {
    let mut world = world();
    let stop = [(100, signal(15)), (200, died(1)), (210, ContainerSign::Stopped)];
    let signs = [&[(50, ContainerSign::Started)], &stop[..]].concat();
    let signalled = world.now.boot + Span(100);
    list_with_past(&mut world, 1_000, &signs, ENGINE_BEGAN);
    for sign in [signal(15), died(0), ContainerSign::Stopped] {
        world.container("api-cloud", sign);
    }
    // The way to the engine breaks with the last of what it ran, as if it went down itself.
    let last = LastSigns { signalled: Some(signalled), ended: Some(world.now.boot) };
    world.step(Event::EngineLost { engine: engine(), last });
    assert_eq!(phase(&world), "with_engine");
    list_with_past(&mut world, 1_000, &signs, Reaches::Back(-1_000));
    assert_eq!((wait(&mut world, 60_000), phase(&world), who(&world)), (vec![], "held", Some(Ender::Stop)));
}

#[test]
fn a_stop_under_way_when_the_engine_is_killed_stays_a_persons() {
    let mut world = world();
    world.container("api-onprem", signal(15));
    world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    let by_engine = [(4_000, signal(15)), (4_100, died(1)), (4_110, ContainerSign::Stopped)];
    list_with_past(&mut world, 5_000, &by_engine, ENGINE_BEGAN);
    assert_eq!((wait(&mut world, 60_000), phase(&world)), (vec![], "held"));
}

#[test]
fn what_the_engine_ended_itself_is_not_a_persons_at_the_next_look() {
    let mut world = world();
    world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    let by_engine = [(40_000, signal(15)), (40_100, died(1)), (40_110, ContainerSign::Stopped)];
    list_with_past(&mut world, 60_000, &by_engine, ENGINE_BEGAN);
    assert_eq!(world.state.repairs[&onprem()].engine_time, 40_110_000_000);
}

#[test]
fn events_that_come_after_a_list_explain_what_it_found() {
    // A reconnect: the list is told first, what the engine remembers comes behind it.
    let mut world = world();
    world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    world.pass(2_000);
    list(&mut world, |all| {
        all.get_mut(&onprem().name).unwrap().status = ContainerStatus::Exited { exit: Some(143), oom: false };
    });
    assert_eq!(phase(&world), "judging");
    for sign in [signal(15), died(143), ContainerSign::Stopped] {
        world.container("api-onprem", sign);
    }
    assert_eq!(wait(&mut world, 600_000), []);
    assert_eq!((phase(&world), who(&world)), ("held", Some(Ender::Stop)));
}

#[test]
fn a_loop_of_crashes_ends_in_one_page_and_a_slow_retry_and_touches_nothing_else() {
    let mut world = world();
    let mut starts = 0;
    let mut pages = 0;
    let begun = world.now.boot;
    let mut decision = world.container("api-onprem", died(1));
    while pages == 0 {
        for heal in heals(&decision) {
            assert_eq!(heal.container, onprem(), "nobody else is touched");
            starts += 1;
            world.container("api-onprem", ContainerSign::Started);
            end(&mut world, &heal, Outcome::Done);
            world.pass(200);
            decision = world.container("api-onprem", died(1));
        }
        if heals(&decision).is_empty() {
            pages += codes(&decision).iter().filter(|code| **code == "gave_up").count();
            if pages == 0 {
                decision = world.wake().unwrap();
            }
        }
    }
    assert_eq!(starts, 5);
    assert_eq!(phase(&world), "given_up");
    assert!(world.now.boot.since(begun) < Span::seconds(20), "{}", world.now.boot.since(begun));
    assert_eq!(wait(&mut world, 299_000), []);
    assert_eq!(wait(&mut world, 1_000), started(), "slowly");
    world.container("api-onprem", ContainerSign::Started);
    world.pass(200);
    let again = world.container("api-onprem", died(1));
    assert!(!codes(&again).contains(&"gave_up") || phase(&world) == "given_up");
    assert_eq!(wait(&mut world, 200_000), [], "slowly, again");
    // Somebody mends it and starts it: all is forgotten.
    world.container("api-onprem", ContainerSign::Started);
    world.pass(60_000);
    assert_eq!(deeds(&world.container("api-onprem", died(1))), started());
}

#[test]
fn a_start_that_docker_refuses_is_tried_again_with_a_pause() {
    let mut world = world();
    let decision = world.container("api-onprem", died(1));
    let failed = end(&mut world, &heals(&decision)[0], Outcome::Failed("no such image".into()));
    assert_eq!(codes(&failed), ["healed"]);
    assert_eq!(phase(&world), "due");
    assert_eq!(wait(&mut world, 400), []);
    assert_eq!(wait(&mut world, 600), started());
}

#[test]
fn what_somebody_is_ending_is_not_restarted_before_they_had_their_time() {
    let mut world = world();
    world.container("api-onprem", signal(15));
    for _ in 0..3 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    // Ten seconds until Docker kills it, and five until that must have worked.
    assert_eq!(wait(&mut world, 14_000), []);
    assert_eq!(wait(&mut world, 10_000).len(), 1, "they did not mean it, and it is dead still");
}

#[test]
fn what_others_were_quicker_with_is_found_out_before_anything_is_done() {
    let mut world = world();
    let decision = world.container("api-onprem", died(1));
    end(&mut world, &heals(&decision)[0], Outcome::Superseded);
    assert_eq!(phase(&world), "unseen");
    // Nobody saw who ended it, and it may have been a person.
    list(&mut world, |all| {
        let seen = all.get_mut(&onprem().name).expect("it is listed");
        seen.status = ContainerStatus::Exited { exit: Some(143), oom: false };
    });
    assert_eq!(wait(&mut world, 600_000), []);
    assert_eq!(phase(&world), "left");
}

#[test]
fn a_person_who_stops_what_is_being_started_withdraws_the_start() {
    let mut world = world();
    let decision = world.container("api-onprem", died(1));
    let heal = &heals(&decision)[0];
    assert!(world.state.heals_under_way().contains(&heal.id));
    world.container("api-onprem", ContainerSign::Stopped);
    assert!(!world.state.heals_under_way().contains(&heal.id), "its precondition no longer holds");
    end(&mut world, heal, Outcome::Superseded);
    assert_eq!(wait(&mut world, 600_000), []);
    assert_eq!(phase(&world), "held");
}

#[test]
fn a_site_has_a_budget_of_its_own() {
    let names = ["a", "b", "c"];
    let services: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &["onprem", "cloud"][..])).collect();
    let mut policy = healing(policy(&services));
    policy.heal.site_restarts = 2;
    let mut world = World::with(policy);
    world.start();
    list(&mut world, |_| {});
    world.pass(60_000);
    let mut all = Vec::new();
    for name in names {
        let decision = world.container(&format!("{name}-onprem"), died(1));
        all.extend(deeds(&decision));
        for heal in heals(&decision) {
            end(&mut world, &heal, Outcome::Done);
        }
        if name == "c" {
            assert!(codes(&decision).contains(&"heal_waits"), "{:?}", codes(&decision));
        }
    }
    assert_eq!(all.len(), 2);
    let elsewhere = world.container("a-cloud", died(1));
    assert_eq!(deeds(&elsewhere).len(), 1, "another site has its own");
    end(&mut world, &heals(&elsewhere)[0], Outcome::Done);
    assert_eq!(wait(&mut world, 599_000), []);
    assert_eq!(wait(&mut world, 2_000), [("c-onprem".to_owned(), Deed::Start)]);
}

#[test]
fn a_process_that_runs_and_is_dead_is_restarted_when_its_grace_is_over() {
    let mut world = world();
    let stop_timeout = Span::seconds(10);
    let restart = vec![("api-onprem".to_owned(), Deed::Restart { stop_timeout })];
    for _ in 0..2 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    let decision = world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    assert_eq!(deeds(&decision), [], "by its ready probes it is up: traffic leaves first");
    assert_eq!(codes(&decision), ["server_down", "failover", "heal_waits", "server_dead"]);
    let decision = left(&mut world);
    assert_eq!(deeds(&decision), restart);
    // Its own events are not a person's.
    let heal = heals(&decision).remove(0);
    for sign in [signal(15), died(0), ContainerSign::Stopped, ContainerSign::Started] {
        assert_eq!(deeds(&world.container("api-onprem", sign)), []);
    }
    end(&mut world, &heal, Outcome::Done);
    assert_eq!(phase(&world), "runs");
    // It still does not answer: not before its grace.
    for _ in 0..3 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    assert_eq!(wait(&mut world, 29_000), []);
    assert_eq!(wait(&mut world, 2_000), restart);
}

#[test]
fn a_dead_process_that_lives_again_in_time_is_not_restarted() {
    let mut world = world();
    world.container("api-onprem", ContainerSign::Started);
    for _ in 0..3 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    assert_eq!(phase(&world), "ailing");
    world.live("api/api-onprem", ProbeOutcome::Connected { took: Span(1) });
    assert_eq!((phase(&world), wait(&mut world, 60_000)), ("runs", vec![]));
}

#[test]
fn when_half_of_a_service_is_dead_together_nothing_is_restarted() {
    let mut world = world();
    for _ in 0..3 {
        for server in ["api/api-onprem", "api/api-cloud"] {
            world.live(server, ProbeOutcome::Failed(ProbeFault::Silent));
        }
    }
    assert_eq!(wait(&mut world, 60_000), []);
    assert_eq!(phase(&world), "ailing");
    world.live("api/api-cloud", ProbeOutcome::Connected { took: Span(1) });
    assert_eq!(wait(&mut world, 12_000).len(), 1, "now it is onprem's own trouble");
}

#[test]
fn two_servers_in_one_container_do_not_die_together() {
    for (dead_too, restarts) in [(None, 1), (Some("api/api-cloud"), 0), (Some("api/api-bare"), 0)] {
        let mut world = world_with(|policy| {
            let api = policy.services.get_mut(&service("api")).unwrap();
            let first = api.servers[&name("api-onprem")].clone();
            // What runs in no container dies by itself.
            let bare = ServerPolicy { container: None, ..first.clone() };
            api.servers.extend([(name("api-admin"), first), (name("api-bare"), bare)]);
        });
        for _ in 0..3 {
            for server in ["api/api-onprem", "api/api-admin"] {
                world.live(server, ProbeOutcome::Failed(ProbeFault::Silent));
            }
            if let Some(server) = dead_too {
                world.live(server, ProbeOutcome::Failed(ProbeFault::Silent));
            }
        }
        world.route_all();
        assert_eq!(wait(&mut world, 60_000).len(), restarts, "dead, too: {dead_too:?}");
    }
}

#[test]
fn the_last_server_that_serves_is_not_restarted() {
    let mut world = world();
    world.container("api-cloud", signal(15));
    world.container("api-cloud", died(0));
    world.container("api-cloud", ContainerSign::Stopped);
    for _ in 0..3 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    assert_eq!(wait(&mut world, 600_000), []);
    let why = explain(&world.state, service("api"), world.now);
    assert!(why.iter().any(|reason| reason.code() == "container_stands"), "{why:?}");
}

#[test]
fn what_traffic_has_left_serves_again_when_its_refuge_dies_before_the_restart() {
    let mut world = world();
    for _ in 0..3 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    world.route_all();
    assert_eq!(world.serving().as_deref(), Some("cloud"));
    for sign in [signal(15), died(0), ContainerSign::Stopped] {
        world.container("api-cloud", sign);
    }
    assert_eq!(wait(&mut world, 5_000), [], "nothing else answers");
    world.ok("api/api-onprem");
    assert_eq!(codes(&world.ok("api/api-onprem")), ["server_up", "failover"]);
    assert_eq!((wait(&mut world, 600_000), world.serving().as_deref()), (vec![], Some("onprem")));
}

#[test]
fn what_does_not_answer_after_its_restart_is_restarted_though_nothing_else_serves() {
    let mut world = world();
    let silent = |world: &mut World| world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    for _ in 0..3 {
        silent(&mut world);
    }
    let restarts = left(&mut world);
    world.container("api-onprem", ContainerSign::Started);
    end(&mut world, &heals(&restarts)[0], Outcome::Done);
    for sign in [signal(15), died(0), ContainerSign::Stopped] {
        world.container("api-cloud", sign);
    }
    for _ in 0..3 {
        silent(&mut world);
    }
    assert_eq!(wait(&mut world, 31_000), deeds(&restarts), "there is nothing to lose");
}

#[test]
fn what_was_restarted_is_judged_by_what_it_does_since() {
    let mut world = world_with(|policy| {
        policy.containers.values_mut().for_each(|container| container.grace = Span::ZERO);
    });
    let silent = |world: &mut World| world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    for _ in 0..3 {
        silent(&mut world);
    }
    assert_eq!((deeds(&left(&mut world)).len(), phase(&world)), (1, "acting"));
    for sign in [signal(15), died(143), ContainerSign::Stopped, ContainerSign::Started] {
        assert_eq!(deeds(&world.container("api-onprem", sign)), []);
    }
    assert_eq!(deeds(&list(&mut world, |_| {})), [], "dead by what its last process did");
    assert_eq!((0..2).flat_map(|_| deeds(&silent(&mut world))).count(), 0);
    assert_eq!(deeds(&silent(&mut world)).len(), 1, "dead by what it does itself");
}

#[test]
fn what_dockers_own_check_calls_unhealthy_is_restarted() {
    let mut world = world();
    let unhealthy = ContainerSign::Checked(DockersCheck::Unhealthy);
    assert_eq!(deeds(&world.container("api-onprem", unhealthy)), []);
    // An interval and a timeout of the check later it is known that the other one is well.
    assert_eq!((wait(&mut world, 59_999), phase(&world)), (vec![], "ailing"));
    assert_eq!((wait(&mut world, 1), world.serving().as_deref()), (vec![], Some("cloud")));
    assert_eq!(wait(&mut world, 2_000).len(), 1);
    // Two that it calls unhealthy within that time have something in common.
    let mut world = self::world();
    world.container("api-onprem", unhealthy);
    world.pass(50_000);
    world.container("api-cloud", unhealthy);
    assert_eq!(wait(&mut world, 600_000), []);
    // One that it calls healthy again in time is not.
    let mut world = self::world();
    world.container("api-onprem", ContainerSign::Started);
    world.container("api-onprem", ContainerSign::Checked(DockersCheck::Unhealthy));
    world.container("api-onprem", ContainerSign::Checked(DockersCheck::Healthy));
    assert_eq!(wait(&mut world, 60_000), []);
}

#[test]
fn a_paused_container_is_not_healed() {
    let mut world = world();
    world.container("api-onprem", ContainerSign::Paused);
    for _ in 0..5 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    assert_eq!(wait(&mut world, 600_000), []);
}

#[test]
fn an_engine_that_is_away_is_waited_for() {
    let mut world = world();
    world.container("api-onprem", ContainerSign::Stopped);
    world.container("api-onprem", ContainerSign::Started);
    world.pass(30_000);
    let decision = world.container("api-onprem", died(1));
    end(&mut world, &heals(&decision)[0], Outcome::Failed("cannot be reached".into()));
    world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    assert_eq!(wait(&mut world, 300_000), [], "asked again and again, but nobody is there");
    list(&mut world, |all| {
        all.get_mut(&onprem().name).unwrap().status = ContainerStatus::Exited { exit: Some(1), oom: false };
    });
    assert_eq!(wait(&mut world, 10_000), started());
}

#[test]
fn a_notice_is_all_that_the_policy_notify_gives() {
    let mut world = world_with(|policy| {
        policy.containers.values_mut().for_each(|container| container.heal = Some(HealMode::Notify));
    });
    let decision = world.container("api-onprem", died(1));
    assert_eq!(codes(&decision), ["server_down", "failover", "container_ended"]);
    assert_eq!((deeds(&decision), wait(&mut world, 600_000)), (vec![], vec![]));
    assert_eq!(phase(&world), "left");
}

#[test]
fn a_hold_outlives_new_settings_and_leaves_with_the_container() {
    let mut world = world();
    for sign in [signal(15), died(0), ContainerSign::Stopped] {
        world.container("api-onprem", sign);
    }
    wait(&mut world, 5_000);
    let mut changed = world.state.policy.clone();
    changed.heal.restarts = 3;
    world.step(Event::PolicyChanged(Box::new(changed.clone())));
    assert_eq!(phase(&world), "held");
    changed.containers.remove(&onprem());
    world.step(Event::PolicyChanged(Box::new(changed)));
    assert!(!world.state.repairs.contains_key(&onprem()));
}

#[test]
fn a_phase_that_is_due_names_its_deadline() {
    let mut world = world();
    let decision = world.container("api-onprem", died(1));
    let Phase::Acting { action, .. } = world.state.repairs[&onprem()].phase else { panic!("not acting") };
    assert_eq!(heals(&decision)[0].id, action);
}

#[test]
fn a_site_whose_starts_are_spent_is_free_when_the_oldest_no_longer_counts() {
    let names = ["a", "b", "c"];
    let services: Vec<(&str, &[&str])> = names.iter().map(|name| (*name, &["onprem", "cloud"][..])).collect();
    let mut policy = healing(policy(&services));
    policy.heal.site_restarts = 2;
    let mut world = World::with(policy);
    world.start();
    list(&mut world, |_| {});
    world.pass(60_000);
    for (name, gap) in [("a", 100_000), ("b", 50_000)] {
        let decision = world.container(&format!("{name}-onprem"), died(1));
        end(&mut world, &heals(&decision)[0], Outcome::Done);
        world.pass(gap);
    }
    let decision = world.container("c-onprem", died(1));
    let left = decision.reasons.iter().find_map(|reason| {
        if let crate::domain::Reason::HealWaits { left, .. } = reason { Some(*left) } else { None }
    });
    // The first start was 150 s ago, the second 50 s; the window is 600 s.
    assert_eq!(left, Some(Some(Span::seconds(450))));
}

/// `db` beside the servers, and `api-onprem` depends on it.
fn dependent() -> World {
    let mut world = world_with(|policy| {
        let db = ContainerRef { engine: engine(), name: ContainerName("db".into()) };
        let beside = policy.containers[&onprem()].clone();
        policy.containers.insert(db, ContainerPolicy { role: Role::Other, ..beside });
    });
    list(&mut world, |all| {
        let facts = Facts { depends_on: [ContainerName("db".into())].into(), ..Facts::default() };
        all.insert(onprem().name, ContainerSeen { facts, ..all[&onprem().name].clone() });
    });
    world
}

#[test]
fn nothing_is_looked_at_while_a_container_waits_for_one_that_a_person_stopped() {
    let mut world = dependent();
    for sign in [signal(15), died(0), ContainerSign::Stopped] {
        world.container("db", sign);
    }
    wait(&mut world, 10_000);
    let decision = world.container("api-onprem", died(1));
    assert!(codes(&decision).contains(&"heal_waits"), "{:?}", codes(&decision));
    wait(&mut world, 24 * 3_600_000);
    assert_eq!(world.state.next_deadline(), None);
    assert_eq!(deeds(&world.container("db", ContainerSign::Started)), started());
}

#[test]
fn a_dependency_that_new_settings_remove_is_waited_for_no_longer() {
    let mut world = dependent();
    for sign in [signal(15), died(0), ContainerSign::Stopped] {
        world.container("db", sign);
    }
    world.container("api-onprem", died(1));
    let mut changed = world.state.policy.clone();
    changed.startup_grace = Span::seconds(6);
    assert_eq!(deeds(&world.step(Event::PolicyChanged(Box::new(changed.clone())))), []);
    changed.containers.retain(|container, _| container.name.0 != "db");
    assert_eq!(deeds(&world.step(Event::PolicyChanged(Box::new(changed)))), started());
}

#[test]
fn a_label_that_nobody_understands_is_told_once_and_again_after_new_settings() {
    let mut world = world();
    let misspelt = |all: &mut BTreeMap<ContainerName, ContainerSeen>| {
        let facts = Facts { heal_unknown: Some("ture".to_owned()), ..Facts::default() };
        all.insert(onprem().name, ContainerSeen { facts, ..all[&onprem().name].clone() });
    };
    let told = |decision: &Decision| {
        decision.reasons.iter().filter(|reason| reason.code() == "heal_label_unknown").count()
    };
    assert_eq!(told(&list(&mut world, misspelt)), 1);
    assert_eq!(told(&list(&mut world, misspelt)), 0, "it is known");
    let explained = || {
        let why = explain(&world.state, service("api"), world.now);
        why.iter().filter(|reason| reason.code() == "heal_label_unknown").count()
    };
    assert_eq!(explained(), 1);
    let mut changed = world.state.policy.clone();
    changed.startup_grace = Span::seconds(6);
    assert_eq!(told(&world.step(Event::PolicyChanged(Box::new(changed.clone())))), 1);
    assert_eq!(deeds(&world.container("api-onprem", died(1))), started(), "healed as if it had none");
    // Where the settings say it, the label does not count.
    for mode in [HealMode::Auto, HealMode::Never] {
        changed.containers.get_mut(&onprem()).unwrap().heal = Some(mode);
        assert_eq!(told(&world.step(Event::PolicyChanged(Box::new(changed.clone())))), 0, "{mode:?}");
    }
    changed.containers.get_mut(&onprem()).unwrap().heal = None;
    assert_eq!(told(&world.step(Event::PolicyChanged(Box::new(changed.clone())))), 1);
    // And after a start, when it is heard: the settings may be others.
    world.step(Event::Started);
    changed.startup_grace = Span::seconds(7);
    assert_eq!(told(&world.step(Event::PolicyChanged(Box::new(changed)))), 0);
    assert_eq!(told(&list(&mut world, misspelt)), 1);
    assert_eq!(told(&list(&mut world, misspelt)), 0, "it is known");
}

#[test]
fn a_name_that_is_not_waited_for_is_told_again_after_new_settings() {
    let mut world = dependent();
    let mut changed = world.state.policy.clone();
    changed.containers.retain(|container, _| container.name.0 != "db");
    let told = codes(&world.step(Event::PolicyChanged(Box::new(changed.clone()))));
    assert_eq!(told, ["policy_changed", "dependency_unkept"], "nobody looks after it any more");
    changed.startup_grace = Span::seconds(6);
    let told = codes(&world.step(Event::PolicyChanged(Box::new(changed))));
    assert_eq!(told, ["policy_changed", "dependency_unkept"], "it is so still");
}

#[test]
fn what_a_list_repeats_leaves_the_verdict_about_a_process_as_it_is() {
    let mut world = world();
    let life = |world: &World| *world.state.server(server("api/api-onprem")).unwrap();
    world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    let before = life(&world);
    assert!(before.life.run().is_some());
    list(&mut world, |_| {});
    assert_eq!(life(&world), before, "it ran, and runs");
    world.container("api-onprem", ContainerSign::Paused);
    let frozen = life(&world);
    let status = ContainerStatus::Paused;
    let paused = |all: &mut BTreeMap<ContainerName, ContainerSeen>| {
        all.insert(onprem().name, ContainerSeen { status, ..all[&onprem().name].clone() });
    };
    list(&mut world, paused);
    assert_eq!(life(&world).lives_from, frozen.lives_from, "it is frozen still");
    list(&mut world, |_| {});
    assert_ne!(life(&world).lives_from, frozen.lives_from, "it was thawed");
}

#[test]
fn what_a_check_said_of_the_process_before_says_nothing_about_the_new_one() {
    let mut world = world();
    let unhealthy = |all: &mut BTreeMap<ContainerName, ContainerSeen>| {
        let facts = Facts { check: Some(DockersCheck::Healthy), ..Facts::default() };
        all.insert(onprem().name, ContainerSeen { facts, ..all[&onprem().name].clone() });
    };
    list(&mut world, unhealthy);
    world.container("api-onprem", ContainerSign::Checked(DockersCheck::Unhealthy));
    assert_eq!(phase(&world), "ailing");
    world.container("api-onprem", ContainerSign::Started);
    for _ in 0..3 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    world.live("api/api-onprem", ProbeOutcome::Connected { took: Span(1) });
    assert_eq!(phase(&world), "runs", "its check begins anew");
}

#[test]
fn three_of_six_die_together() {
    for (dead, restarts) in [(2, true), (3, false)] {
        let mut world = world_with(|policy| {
            let api = policy.services.get_mut(&service("api")).unwrap();
            let (first, beside) =
                (api.servers[&name("api-onprem")].clone(), policy.containers[&onprem()].clone());
            for n in 1..=4 {
                let container =
                    ContainerRef { engine: engine(), name: ContainerName(format!("api-onprem-{n}")) };
                policy.containers.insert(container.clone(), beside.clone());
                let another = ServerPolicy { container: Some(container), ..first.clone() };
                api.servers.insert(name(&format!("api-onprem-{n}")), another);
            }
        });
        let all = ["api/api-onprem", "api/api-onprem-1", "api/api-onprem-2"];
        for _ in 0..3 {
            for server in all.iter().take(dead) {
                world.live(server, ProbeOutcome::Failed(ProbeFault::Silent));
            }
        }
        assert_eq!(wait(&mut world, 60_000).is_empty(), !restarts, "{dead} of 6 dead");
    }
}

#[test]
fn an_haproxy_that_does_not_answer_is_not_waited_for() {
    let second = crate::domain::id::ProxyId(name("second"));
    let mut world = world_with(|policy| {
        policy.proxies.insert(second);
        policy.services.get_mut(&service("api")).unwrap().proxies.insert(second);
    });
    world.step(Event::ProxyLost { proxy: second });
    for _ in 0..3 {
        world.live("api/api-onprem", ProbeOutcome::Failed(ProbeFault::Silent));
    }
    world.route_all();
    let decision = world.wake().unwrap();
    assert_eq!(deeds(&decision).len(), 1, "the one that answers has taken the route: {:?}", codes(&decision));
}

#[test]
fn one_start_of_the_lender_is_a_reason_for_one_restart() {
    let mut world = world();
    let facts = |started: i64| {
        let lender = crate::domain::event::Lender::There { runs: true, started: Some(started) };
        let network = crate::domain::event::BorrowedNetwork {
            of: "c9".to_owned(),
            name: Some(ContainerName("gateway".into())),
            lender,
        };
        Facts { started: Some(1), network: Some(network), ..Facts::default() }
    };
    let listed = |world: &mut World, started: i64| {
        let change = |all: &mut BTreeMap<ContainerName, ContainerSeen>| {
            all.insert(onprem().name, ContainerSeen { facts: facts(started), ..all[&onprem().name].clone() });
        };
        let decision = list(world, change);
        for heal in heals(&decision) {
            end(world, &heal, Outcome::Done);
        }
        deeds(&decision).len()
    };
    assert_eq!(listed(&mut world, 2), 1, "the lender was started after it");
    assert_eq!(listed(&mut world, 2), 0, "it was restarted for that");
    assert_eq!(listed(&mut world, 3), 1, "the lender was started once more");
}
