//! The small machines of the state: each state of each with every input, as a table.

use super::*;
use crate::domain::ByName;
use crate::domain::command::{Operator, Scope};
use crate::domain::delivery::{AlertPolicy, MailKey, PeerLink, Telling, Word};
use crate::domain::event::{
    ConfigSeen, Configured, MailEnd, Mailed, PeerResult, PeerSeen, ProxySeen, Routed, StoreHealth,
};
use crate::domain::health::Health;
use crate::domain::id::PeerId;
use crate::domain::incident::Trouble;
use crate::domain::maintenance::{Admin, AdminSeen};
use crate::domain::policy::ServerPolicy;
use crate::domain::state::{Placement, ProxyLink};
use crate::domain::testing;
use crate::domain::time::{Boot, Wall};

/// What was told that begins with one of `about`, without the word.
fn told<'a>(decision: &'a Decision, about: &'a [&str]) -> Vec<&'static str> {
    let all = decision.reasons.iter().map(crate::domain::Reason::code);
    all.filter(|code| about.iter().any(|word| code.starts_with(word))).collect()
}

fn look(world: &World) -> ProxySeen {
    ProxySeen {
        proxy: proxy(),
        at: world.now.boot,
        identity: world.worker,
        master: None,
        owner: Some("me".into()),
        ours: true,
        routes: world.routes.clone(),
        checks: BTreeMap::new(),
        serving: BTreeMap::new(),
        out: Some(world.out.clone()),
    }
}

fn foreign(world: &World, owner: &str) -> Event {
    Event::Proxy(ProxySeen { owner: Some(owner.into()), ours: false, ..look(world) })
}

fn link(world: &World) -> &'static str {
    match &world.state.proxies[&proxy()].link {
        ProxyLink::Unseen => "unseen",
        ProxyLink::Ours => "ours",
        ProxyLink::Foreign { .. } => "foreign",
        ProxyLink::Lost { .. } => "lost",
    }
}

#[test]
fn the_link_to_an_haproxy() {
    let table = "
                unseen                ours                  foreign               lost
ours            ours+proxy_found      .                     ours+proxy_found      ours+proxy_found
nobodys         ours+proxy_found      .                     ours+proxy_found      ours+proxy_found
foreign         foreign+proxy_foreign foreign+proxy_foreign .                     foreign+proxy_foreign
another_foreign foreign+proxy_foreign foreign+proxy_foreign foreign+proxy_foreign foreign+proxy_foreign
lost            lost+proxy_lost       lost+proxy_lost       lost+proxy_lost       .
start           .                     unseen                unseen                unseen
";
    let states = ["unseen", "ours", "foreign", "lost"];
    let inputs = ["ours", "nobodys", "foreign", "another_foreign", "lost", "start"];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = World::new();
        match state {
            "unseen" => {}
            "ours" => drop(world.see_proxy()),
            "foreign" => drop(world.step(foreign(&world, "node-2"))),
            _ => drop(world.step(Event::ProxyLost { proxy: proxy() })),
        }
        assert_eq!(link(&world), state);
        world.pass(1_000);
        let event = match input {
            "ours" => Event::Proxy(look(&world)),
            "nobodys" => Event::Proxy(ProxySeen { owner: None, ours: false, ..look(&world) }),
            "foreign" => foreign(&world, "node-2"),
            "another_foreign" => foreign(&world, "node-3"),
            "lost" => Event::ProxyLost { proxy: proxy() },
            _ => Event::Started,
        };
        let decision = world.step(event);
        cell(state, link(&world), told(&decision, &["proxy_"]))
    });
}

fn ada() -> Operator {
    Operator { uid: 1000, pid: Some(1), name: Some("ada".into()) }
}

fn configured(world: &mut World, word: &str) -> Decision {
    let config = match word {
        "untried" => ConfigSeen::Untried,
        "in_force" => ConfigSeen::InForce { revision: "a".into() },
        "in_force_anew" => ConfigSeen::InForce { revision: "b".into() },
        "held" => ConfigSeen::Held { revision: "0".into(), instead_of: "a".into(), by: ada(), because: None },
        "refused" => ConfigSeen::Refused { message: "line 3".into() },
        "refused_anew" => ConfigSeen::Refused { message: "line 4".into() },
        "contested" => ConfigSeen::Contested { message: "rev 9".into() },
        _ => ConfigSeen::Unproven { message: "no answer".into() },
    };
    world.step(Event::Configured(Configured { proxy: proxy(), config, reload: None }))
}

#[test]
fn the_configuration_of_an_haproxy() {
    let table = "
              untried                                    in_force                                   held                                       refused                                 unproven                                contested
untried       .                                          untried                                    untried                                    untried                                 untried                                 untried
in_force      in_force+config_in_force                   .                                          in_force+config_in_force                   in_force+config_in_force+incident_ended in_force+config_in_force+incident_ended in_force+config_in_force+incident_ended
in_force_anew in_force+config_in_force                   in_force+config_in_force                   in_force+config_in_force                   in_force+config_in_force+incident_ended in_force+config_in_force+incident_ended in_force+config_in_force+incident_ended
held          held+config_held                           held+config_held                           .                                          held+config_held+incident_ended         held+config_held+incident_ended         held+config_held+incident_ended
refused       refused+config_refused+incident_opened     refused+config_refused+incident_opened     refused+config_refused+incident_opened     .                                       refused+config_refused                  refused+config_refused
refused_anew  refused+config_refused+incident_opened     refused+config_refused+incident_opened     refused+config_refused+incident_opened     refused+config_refused                  refused+config_refused                  refused+config_refused
unproven      unproven+config_unproven+incident_opened   unproven+config_unproven+incident_opened   unproven+config_unproven+incident_opened   unproven+config_unproven                .                                       unproven+config_unproven
contested     contested+config_contested+incident_opened contested+config_contested+incident_opened contested+config_contested+incident_opened contested+config_contested              contested+config_contested              .
start         .                                          untried                                    untried                                    untried                                 untried                                 untried
";
    let states = ["untried", "in_force", "held", "refused", "unproven", "contested"];
    let inputs = [
        "untried",
        "in_force",
        "in_force_anew",
        "held",
        "refused",
        "refused_anew",
        "unproven",
        "contested",
        "start",
    ];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = World::running();
        configured(&mut world, state);
        let decision = match input {
            "start" => world.step(Event::Started),
            word => configured(&mut world, word),
        };
        let after = match &world.state.proxies[&proxy()].config {
            ConfigSeen::Untried => "untried",
            ConfigSeen::InForce { .. } => "in_force",
            ConfigSeen::Held { .. } => "held",
            ConfigSeen::Refused { .. } => "refused",
            ConfigSeen::Unproven { .. } => "unproven",
            ConfigSeen::Contested { .. } => "contested",
        };
        cell(state, after, told(&decision, &["config_", "incident_"]))
    });
}

fn listed(world: &World) -> Event {
    let containers = BTreeMap::new();
    Event::Containers(ContainerList {
        engine: engine(),
        at: world.now.boot,
        containers,
        past: Past::default(),
    })
}

fn engine_lost() -> Event {
    Event::EngineLost { engine: engine(), last: LastSigns::default() }
}

#[test]
fn a_docker_engine() {
    let table = "
      unseen                           found                            lost
lists found+engine_found               .                                found+engine_found+incident_ended
lost  lost+engine_lost+incident_opened lost+engine_lost+incident_opened .
start .                                unseen                           unseen
";
    let found = |world: &World| match world.state.engines[&engine()].found {
        None => "unseen",
        Some(true) => "found",
        Some(false) => "lost",
    };
    assert_table(table, &["unseen", "found", "lost"], &["lists", "lost", "start"], |state, input| {
        let mut world = World::running();
        match state {
            "unseen" => {}
            "found" => drop(world.step(listed(&world))),
            _ => drop(world.step(engine_lost())),
        }
        assert_eq!(found(&world), state);
        let decision = world.step(match input {
            "lists" => listed(&world),
            "lost" => engine_lost(),
            _ => Event::Started,
        });
        cell(state, found(&world), told(&decision, &["engine_", "incident_"]))
    });
}

#[test]
fn the_store() {
    let table = "
         durable                        degraded
durable  .                              durable+store+incident_ended
degraded degraded+store+incident_opened .
start    .                              .
";
    let event = |word: &str| {
        Event::Store(if word == "durable" { StoreHealth::Durable } else { StoreHealth::Degraded })
    };
    let states = ["durable", "degraded"];
    assert_table(table, &states, &["durable", "degraded", "start"], |state, input| {
        let mut world = World::running();
        world.step(event(state));
        let decision = world.step(if input == "start" { Event::Started } else { event(input) });
        let after = if world.state.store == StoreHealth::Durable { "durable" } else { "degraded" };
        cell(state, after, told(&decision, &["store", "incident_"]))
    });
}

/// `others`: the other server fails on the way.
#[test]
fn whether_we_are_cut_off() {
    let table = "
                 well                      others_fail                      cut_off
fails_on_the_way .                         cut_off+cut_off                  .
refuses          well+server_down+failover others_fail+server_down+failover well+reconnected+server_down+failover
answers_badly    .                         .                                well+reconnected
answers          .                         .                                well+reconnected
answers_late     .                         .                                cut_off+late
start            .                         well                             well
";
    let states = ["well", "others_fail", "cut_off"];
    let inputs = ["fails_on_the_way", "refuses", "answers_badly", "answers", "answers_late", "start"];
    let name = |world: &World| match world.state.cut_off {
        true => "cut_off",
        false if world.state.server(server(CLOUD)).is_some_and(|it| it.health.run().is_some()) => {
            "others_fail"
        }
        false => "well",
    };
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = World::running();
        if state != "well" {
            world.fail(CLOUD, ProbeFault::ConnectTimeout);
        }
        if state == "cut_off" {
            world.fail(ONPREM, ProbeFault::Unreachable);
        }
        assert_eq!(name(&world), state);
        world.pass(300);
        let decision = match input {
            "fails_on_the_way" => world.fail(ONPREM, ProbeFault::Dns),
            "refuses" => world.fail(ONPREM, ProbeFault::Refused),
            "answers_badly" => world.fail(ONPREM, ProbeFault::Status(500)),
            "answers" => world.ok(ONPREM),
            "answers_late" => {
                let due = world.now.boot - Span::seconds(9);
                let outcome = ProbeOutcome::Healthy { status: 200, took: Span(1) };
                let ended = world.now.boot;
                world.step(Event::Probed(Probed {
                    server: server(ONPREM),
                    due,
                    started: ended,
                    ended,
                    outcome,
                }))
            }
            _ => world.step(Event::Started),
        };
        cell(state, name(&world), told(&decision, &["cut_off", "reconnected", "server_", "failover", "late"]))
    });
}

fn am() -> PeerId {
    "am1".parse().unwrap()
}

fn peer_says(world: &mut World, word: Option<Word>) -> Decision {
    let result = match word {
        Some(word) => {
            PeerResult::Answered(world.state.incidents.keys().map(|id| (*id, word.clone())).collect())
        }
        None => PeerResult::Failed("connection refused".into()),
    };
    world.step(Event::Peer(PeerSeen { peer: am(), result, silences: None }))
}

fn alerting(with_peer: bool) -> World {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    policy.alerts = AlertPolicy {
        peers: with_peer.then(am).into_iter().collect(),
        direct: true,
        fallback_after: Span::seconds(60),
        notify_grace: Span::seconds(90),
    };
    let mut world = World::with(policy);
    world.start();
    world.pass(10_000);
    world
}

#[test]
fn an_alertmanager() {
    let table = "
        unseen         up             down
answers up+peer_found  .              up+peer_found
fails   down+peer_lost down+peer_lost .
start   .              unseen         unseen
";
    let name = |world: &World| match world.state.peers[&am()].link {
        PeerLink::Unseen => "unseen",
        PeerLink::Up => "up",
        PeerLink::Down { .. } => "down",
    };
    assert_table(table, &["unseen", "up", "down"], &["answers", "fails", "start"], |state, input| {
        let mut world = alerting(true);
        match state {
            "unseen" => {}
            "up" => drop(peer_says(&mut world, Some(Word::Active))),
            _ => drop(peer_says(&mut world, None)),
        }
        assert_eq!(name(&world), state);
        let decision = match input {
            "answers" => peer_says(&mut world, Some(Word::Active)),
            "fails" => peer_says(&mut world, None),
            _ => world.step(Event::Started),
        };
        cell(state, name(&world), told(&decision, &["peer_"]))
    });
}

/// An incident that was mailed: for the first time, or again after somebody had it; with an Alertmanager or without any.
#[test]
fn what_becomes_of_a_mail() {
    let table = "
                   first                   again                   first_alone               again_alone
accepted           reached_told_in_an_hour reached_told_in_an_hour reached_told_in_an_hour   reached_told_in_an_hour
deferred           unreached               reached                 unreached                 reached
dead               alertmanagers           reached_told_in_an_hour unreached_told_in_an_hour reached_told_in_an_hour
partly_dead        reached_told_in_an_hour reached_told_in_an_hour reached_told_in_an_hour   reached_told_in_an_hour
unneeded           alertmanagers           reached_told_in_an_hour alertmanagers             reached_told_in_an_hour
of_another_process unreached               reached                 unreached                 reached
";
    let states = ["first", "again", "first_alone", "again_alone"];
    let inputs = ["accepted", "deferred", "dead", "partly_dead", "unneeded", "of_another_process"];
    let telling = |world: &World| match &world.state.incidents.values().next().unwrap().telling {
        Telling::Pending { .. } => "pending".to_owned(),
        Telling::Stored { .. } => "stored".to_owned(),
        Telling::ByAlertmanager => "alertmanagers".to_owned(),
        Telling::Over { .. } => "over".to_owned(),
        Telling::ByMail { reached, again, .. } => {
            let whom = if *reached { "reached" } else { "unreached" };
            format!("{whom}{}", if again.is_some() { "_told_in_an_hour" } else { "" })
        }
    };
    let mailed =
        |world: &mut World, key: MailKey, end: MailEnd| world.step(Event::Mailed(Mailed { mail: key, end }));
    let key = |world: &World| match world.state.incidents.values().next().unwrap().telling {
        Telling::ByMail { mail, .. } => mail,
        Telling::Pending { .. } | Telling::Stored { .. } | Telling::ByAlertmanager | Telling::Over { .. } => {
            panic!("not mailed")
        }
    };
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = alerting(!state.ends_with("alone"));
        world.container("api-onprem", ContainerSign::Died { exit: Some(1) });
        for _ in 0..3 {
            world.pass(5_000);
            peer_says(&mut world, None);
        }
        let due = |world: &mut World, seconds: i64| {
            let until = Boot(world.now.boot.0 + seconds * 1_000);
            while world.state.next_deadline().is_some_and(|at| at <= until) {
                world.wake();
            }
            world.now.boot = until;
        };
        due(&mut world, 60);
        if state.starts_with("again") {
            let first = key(&world);
            mailed(&mut world, first, MailEnd::Accepted { recipients: 1 });
            due(&mut world, 3_700);
        }
        assert_eq!(telling(&world), if state.starts_with("again") { "reached" } else { "unreached" });
        let dead = |reached| MailEnd::Dead { words: "550".into(), reached };
        let own = key(&world);
        let decision = match input {
            "accepted" => mailed(&mut world, own, MailEnd::Accepted { recipients: 2 }),
            "deferred" => mailed(&mut world, own, MailEnd::Deferred { words: "451".into() }),
            "dead" => mailed(&mut world, own, dead(false)),
            "partly_dead" => mailed(&mut world, own, dead(true)),
            "unneeded" => mailed(&mut world, own, MailEnd::NotNeeded),
            _ => mailed(&mut world, MailKey { at: Wall(1), ..own }, dead(false)),
        };
        assert_eq!(told(&decision, &["mailed", "tells_"]), ["mailed"]);
        telling(&world)
    });
}

fn verdict(decision: &Decision) -> Option<&'static str> {
    decision.actions.iter().find_map(|action| match action {
        Action::Answer { verdict: Verdict::Accepted { .. }, .. } => Some("yes"),
        Action::Answer { verdict: Verdict::AlreadySo, .. } => Some("already"),
        Action::Answer { verdict: Verdict::Denied(_), .. } => Some("no"),
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Mail(_) => None,
    })
}

/// Wakes at the next deadline within two days.
fn time_passes(world: &mut World) -> Decision {
    let soon =
        world.state.next_deadline().is_some_and(|at| at.since(world.now.boot) < Span::seconds(172_800));
    if soon { world.wake().unwrap() } else { Decision::default() }
}

/// The site that serves dies meanwhile, so that the end of a pause is seen.
#[test]
fn a_pause() {
    let table = "
              none               endless          timed
pause         endless+yes+paused endless+already  endless+yes+paused
pause_for     timed+yes+paused   timed+yes+paused timed+yes+paused
resume        none+already       none+yes+resumed none+yes+resumed
time_passes   .                  .                none+resumed
the_site_dies none+failover      endless+stays    timed+stays
start         .                  .                .
";
    let scope = Scope::Service(service("api"));
    let name = |world: &World| match world.state.pauses.get(&scope).map(|pause| pause.until) {
        None => "none",
        Some(None) => "endless",
        Some(Some(_)) => "timed",
    };
    let pause = |world: &mut World, lasts: Option<Span>| world.order(Order::Pause { scope, lasts });
    let states = ["none", "endless", "timed"];
    let inputs = ["pause", "pause_for", "resume", "time_passes", "the_site_dies", "start"];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = World::running();
        match state {
            "none" => {}
            "endless" => drop(pause(&mut world, None)),
            _ => drop(pause(&mut world, Some(Span::seconds(600)))),
        }
        assert_eq!(name(&world), state);
        let decision = match input {
            "pause" => pause(&mut world, None),
            "pause_for" => pause(&mut world, Some(Span::seconds(1_200))),
            "resume" => world.order(Order::Resume { scope }),
            "time_passes" => time_passes(&mut world),
            "the_site_dies" => world.fail(ONPREM, ProbeFault::Refused),
            _ => world.step(Event::Started),
        };
        let words = told(&decision, &["paused", "resumed", "failover", "stays"]);
        cell(state, name(&world), verdict(&decision).into_iter().chain(words))
    });
}

/// Named by its site, and by what else was wanted; then where traffic is, if that is elsewhere.
fn preference(world: &World) -> String {
    let api = &world.state.services[&service("api")];
    let serving = world.serving().unwrap_or_default();
    let Some(over) = &api.preference else { return format!("none@{serving}") };
    let how = match (over.until.is_some(), over.pin, over.forced) {
        (_, _, true) => "!",
        (_, true, false) => "_pin",
        (true, false, false) => "_for",
        (false, false, false) => "",
    };
    format!("{}{how}@{serving}", over.site)
}

#[test]
fn a_persons_preference() {
    let table = "
             none@onprem                cloud@cloud                               cloud_for@cloud                           cloud_pin@cloud                           cloud!@cloud
to_cloud     cloud@cloud+switchover     .                                         cloud@cloud+preference_set                cloud@cloud+preference_set                .
to_cloud_for cloud_for@cloud+switchover cloud_for@cloud+preference_set            cloud_for@cloud+preference_set            cloud_for@cloud+preference_set            cloud!@cloud+denied
to_cloud_pin cloud_pin@cloud+switchover cloud_pin@cloud+preference_set            cloud_pin@cloud+preference_set            .                                         cloud!@cloud+denied
to_onprem    .                          onprem@onprem+switchover                  onprem@onprem+switchover                  onprem@onprem+switchover                  onprem@onprem+switchover
failback     .                          none@onprem+preference_dropped+switchover none@onprem+preference_dropped+switchover none@onprem+preference_dropped+switchover none@onprem+preference_dropped+switchover
time_passes  .                          cloud@cloud+preference_holds              none@onprem+preference_expired+failback   cloud_pin@cloud+preference_holds          cloud!@cloud+preference_holds
cloud_dies   .                          cloud@onprem+failover                     cloud_for@onprem+failover                 cloud_pin@cloud+stays                     .
cloud_is_up  .                          .                                         .                                         .                                         cloud@cloud
start        none@                      cloud@                                    cloud_for@                                cloud_pin@                                cloud!@
";
    let prefer = |world: &mut World, to: &str, how: &str| {
        let (service, to) = (service("api"), site(to));
        let (force, pin, lasts) = (how == "!", how == "_pin", (how == "_for").then(|| Span::seconds(7_200)));
        let decision = world.order(Order::Failover { service, to, force, seen: None, lasts, pin });
        world.route_all();
        world.pass(10_000);
        decision
    };
    let states = ["none@onprem", "cloud@cloud", "cloud_for@cloud", "cloud_pin@cloud", "cloud!@cloud"];
    let inputs = [
        "to_cloud",
        "to_cloud_for",
        "to_cloud_pin",
        "to_onprem",
        "failback",
        "time_passes",
        "cloud_dies",
        "cloud_is_up",
        "start",
    ];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = World::running();
        match state {
            "none@onprem" => {}
            "cloud@cloud" => drop(prefer(&mut world, "cloud", "")),
            "cloud_for@cloud" => drop(prefer(&mut world, "cloud", "_for")),
            "cloud_pin@cloud" => drop(prefer(&mut world, "cloud", "_pin")),
            _ => {
                world.fail(CLOUD, ProbeFault::Refused);
                drop(prefer(&mut world, "cloud", "!"));
            }
        }
        assert_eq!(preference(&world), state);
        world.ok(ONPREM);
        let decision = match input {
            "to_cloud" => prefer(&mut world, "cloud", ""),
            "to_cloud_for" => prefer(&mut world, "cloud", "_for"),
            "to_cloud_pin" => prefer(&mut world, "cloud", "_pin"),
            "to_onprem" => prefer(&mut world, "onprem", ""),
            "failback" => world.failback(),
            "time_passes" => time_passes(&mut world),
            "cloud_dies" => world.fail(CLOUD, ProbeFault::Refused),
            "cloud_is_up" => {
                world.ok(CLOUD);
                world.ok(CLOUD)
            }
            _ => world.step(Event::Started),
        };
        let words =
            told(&decision, &["switchover", "failover", "failback", "preference_", "denied", "stays"]);
        cell(state, &preference(&world), words)
    });
}

fn placement(world: &World) -> &'static str {
    match &world.state.services[&service("api")].placement {
        Placement::Unmanaged { last: None } => "unmanaged",
        Placement::Unmanaged { last: Some(_) } => "remembered",
        Placement::On(route) if route.pending.is_empty() => "confirmed",
        Placement::On(route) if route.late().next().is_some() => "late",
        Placement::On(_) => "pending",
    }
}

/// What HAProxy's map says, and what it confirms. Where it is known, the route is to onprem.
#[test]
fn a_route_and_what_haproxy_shows() {
    let table = "
                        unmanaged                remembered               pending                  confirmed          late
shows_it                pending+adopted          pending+adopted          confirmed+route_in_force .                  confirmed+route_in_force
shows_cloud             pending_at_cloud+adopted pending_at_cloud+adopted .                        pending+reasserted .
shows_none              pending+placed           pending+reasserted       .                        pending+reasserted .
shows_unknown           pending+placed           pending+reasserted       .                        pending+reasserted .
shows_cloud_from_before pending_at_cloud+adopted pending_at_cloud+adopted .                        .                  .
confirms                .                        .                        confirmed+route_in_force .                  confirmed+route_in_force
confirms_an_older       .                        .                        .                        .                  .
is_lost                 .                        .                        .                        .                  .
start                   .                        .                        remembered               remembered         remembered
";
    let states = ["unmanaged", "remembered", "pending", "confirmed", "late"];
    let inputs = [
        "shows_it",
        "shows_cloud",
        "shows_none",
        "shows_unknown",
        "shows_cloud_from_before",
        "confirms",
        "confirms_an_older",
        "is_lost",
        "start",
    ];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = World::new();
        match state {
            "unmanaged" => {}
            "remembered" => {
                world.start();
                world.step(Event::Started);
            }
            "pending" | "late" => {
                world.step(Event::Started);
                world.see_proxy();
                world.all_ok();
                world.all_ok();
            }
            _ => world.start(),
        }
        if state == "late" {
            world.pass(5_000);
            world.routes.insert(service("api"), site("cloud"));
            world.see_proxy();
        }
        assert_eq!(placement(&world), state);
        let shown =
            |place: Option<&str>| place.map(|place| (service("api"), site(place))).into_iter().collect();
        let before = world.now.boot - Span::seconds(3_600);
        world.pass(1_000);
        let look = look(&world);
        let generation = world.state.services[&service("api")].generation;
        let confirms = |generation| {
            let generations = BTreeMap::from([(service("api"), generation)]);
            Event::Routed(Routed { proxy: proxy(), generations, took: Span(1) })
        };
        let decision = world.step(match input {
            "shows_it" => Event::Proxy(ProxySeen { routes: shown(Some("onprem")), ..look }),
            "shows_cloud" => Event::Proxy(ProxySeen { routes: shown(Some("cloud")), ..look }),
            "shows_none" => Event::Proxy(ProxySeen { routes: shown(None), ..look }),
            "shows_unknown" => Event::Proxy(ProxySeen { routes: shown(Some("mars")), ..look }),
            "shows_cloud_from_before" => {
                Event::Proxy(ProxySeen { routes: shown(Some("cloud")), at: before, ..look })
            }
            "confirms" => confirms(generation),
            "confirms_an_older" => confirms(generation.saturating_sub(1)),
            "is_lost" => Event::ProxyLost { proxy: proxy() },
            _ => Event::Started,
        });
        let words = told(&decision, &["adopted", "placed", "reasserted", "route_", "failback"]);
        let place = world.serving().filter(|place| place != "onprem").map(|place| format!("_at_{place}"));
        cell(state, &format!("{}{}", placement(&world), place.unwrap_or_default()), words)
    });
}

/// `api` with two servers at each site.
fn pools() -> World {
    let mut policy = testing::policy(&[("api", &["onprem", "cloud"])]);
    policy.containers = ByName::default();
    let at = |id: &str, place: &str| (name(id), ServerPolicy::at(site(place)));
    policy.services.get_mut(&service("api")).unwrap().servers =
        [at("a1", "onprem"), at("a2", "onprem"), at("b1", "cloud"), at("b2", "cloud")].into_iter().collect();
    let mut world = World::with(policy);
    world.start();
    world
}

fn maintain(world: &mut World, admin: Admin, lasts: Option<u64>) -> Decision {
    let (server, lasts) = (server("api/a1"), lasts.map(Span::seconds));
    world.order(Order::Maintain { server, admin, lasts, force: false })
}

/// What people want of a server. HAProxy does at once as it is told.
#[test]
fn a_server_that_people_take_out_and_put_back() {
    let table = "
            ready                   drain                   maint                   drain_for
drain       drain+yes+taken_out     drain+already           drain+yes+taken_out     drain+yes+taken_out
maint       maint+yes+taken_out     maint+yes+taken_out     maint+already           maint+yes+taken_out
ready       ready+yes+put_back      ready+yes+put_back      ready+yes+put_back      ready+yes+put_back
drain_for   drain_for+yes+taken_out drain_for+yes+taken_out drain_for+yes+taken_out drain_for+yes+taken_out
time_passes .                       .                       .                       ready+put_back
start       .                       .                       .                       .
";
    let name = |world: &World| {
        let held = world.state.services[&service("api")].maintenance.get(&testing::name("a1"));
        held.map_or("ready".to_owned(), |held| {
            format!("{}{}", held.admin, if held.until.is_some() { "_for" } else { "" })
        })
    };
    let states = ["ready", "drain", "maint", "drain_for"];
    let inputs = ["drain", "maint", "ready", "drain_for", "time_passes", "start"];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = pools();
        match state {
            "ready" => {}
            "drain" => drop(maintain(&mut world, Admin::Drain, None)),
            "maint" => drop(maintain(&mut world, Admin::Maint, None)),
            _ => drop(maintain(&mut world, Admin::Drain, Some(600))),
        }
        world.administer_all();
        assert_eq!(name(&world), state);
        let decision = match input {
            "drain" => maintain(&mut world, Admin::Drain, None),
            "maint" => maintain(&mut world, Admin::Maint, None),
            "ready" => maintain(&mut world, Admin::Ready, None),
            "drain_for" => maintain(&mut world, Admin::Drain, Some(1_200)),
            "time_passes" => time_passes(&mut world),
            _ => world.step(Event::Started),
        };
        let words = told(&decision, &["taken_out", "put_back", "admin_", "stays"]);
        cell(state, &name(&world), verdict(&decision).into_iter().chain(words))
    });
}

/// What an HAProxy has yet to show of that: `asked` and `late` of a server that is to be drained, `so` when it is,
/// `back` of one that is to be put back.
#[test]
fn a_server_that_is_to_be_out_of_service_in_an_haproxy() {
    let table = "
                            none            asked             late              so                     back
shows_it_in_service         .               .                 .                 asked+admin_reasserted none+admin_in_force
shows_it_drained            .               so+admin_in_force so+admin_in_force .                      .
shows_it_in_maintenance     .               so+admin_in_force so+admin_in_force .                      .
shows_it_drained_before     .               .                 .                 .                      .
shows_nothing_about_servers .               .                 .                 .                      .
drain                       asked+taken_out .                 .                 .                      asked+taken_out
ready                       back+put_back   back+put_back     back+put_back     back+put_back          .
is_lost                     .               .                 .                 .                      .
start                       .               .                 .                 .                      .
";
    let name = |world: &World| match world.state.services[&service("api")].out.get(&testing::name("a1")) {
        None => "none",
        Some(out) if out.late().next().is_some() => "late",
        Some(out) if out.admin == Admin::Ready => "back",
        Some(out) if out.pending.is_empty() => "so",
        Some(_) => "asked",
    };
    let states = ["none", "asked", "late", "so", "back"];
    let inputs = [
        "shows_it_in_service",
        "shows_it_drained",
        "shows_it_in_maintenance",
        "shows_it_drained_before",
        "shows_nothing_about_servers",
        "drain",
        "ready",
        "is_lost",
        "start",
    ];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = pools();
        if state != "none" {
            maintain(&mut world, Admin::Drain, None);
        }
        match state {
            "late" => {
                world.pass(5_000);
                world.see_proxy();
            }
            "so" => drop(world.administer_all()),
            "back" => {
                world.administer_all();
                maintain(&mut world, Admin::Ready, None);
            }
            _ => {}
        }
        assert_eq!(name(&world), state);
        let before = world.now.boot - Span::seconds(3_600);
        world.pass(1_000);
        let look = look(&world);
        let shown = |seen: AdminSeen| Some(BTreeMap::from([(server("api/a1"), seen)]));
        let drained = || shown(AdminSeen { drain: true, ..AdminSeen::default() });
        let see = |out| ProxySeen { out, ..look };
        let decision = match input {
            "shows_it_in_service" => world.step(Event::Proxy(see(Some(BTreeMap::new())))),
            "shows_it_drained" => world.step(Event::Proxy(see(drained()))),
            "shows_it_in_maintenance" => {
                world.step(Event::Proxy(see(shown(AdminSeen { maint: true, ..AdminSeen::default() }))))
            }
            "shows_it_drained_before" => world.step(Event::Proxy(ProxySeen { at: before, ..see(drained()) })),
            "shows_nothing_about_servers" => world.step(Event::Proxy(see(None))),
            "drain" => maintain(&mut world, Admin::Drain, None),
            "ready" => maintain(&mut world, Admin::Ready, None),
            "is_lost" => world.step(Event::ProxyLost { proxy: proxy() }),
            _ => world.step(Event::Started),
        };
        cell(state, name(&world), told(&decision, &["admin_", "put_back", "taken_out"]))
    });
}

/// The incident of onprem's pool. `told`: Alertmanager has it for good; `ended`: mended before anybody was told;
/// `part`: no site serves any more, which is told instead.
#[test]
fn an_incident() {
    let table = "
                  none                 open                                 told                 ended                 over                 part
onprem_dies       open+incident_opened .                                    .                    open+incident_opened  open+incident_opened .
onprem_mends      .                    ended+incident_ended                 ended+incident_ended .                     .                    over+incident_ended+incident_opened
cloud_dies        none+incident_opened part+incident_opened+incident_merged told+incident_opened ended+incident_opened over+incident_opened .
cloud_mends       .                    .                                    .                    .                     .                    open+incident_ended+incident_opened
five_minutes_pass .                    open+tells_by_mail                   .                    over+tells_by_mail    .                    part+tells_by_mail
is_suppressed     .                    told                                 .                    .                     .                    .
start             .                    .                                    .                    .                     .                    .
";
    let pool = Trouble::PoolDown { service: service("api"), site: site("onprem") };
    let name = |world: &World| {
        let known = world.state.incidents.values().find(|incident| incident.trouble == pool);
        match known.map(|it| (it.ended.is_some(), it.part_of.is_some(), &it.telling)) {
            None => "none",
            Some((_, true, _)) => "part",
            Some((true, false, Telling::Over { .. })) => "over",
            Some((true, false, _)) => "ended",
            Some((false, false, Telling::ByAlertmanager)) => "told",
            Some((false, false, _)) => "open",
        }
    };
    let mend = |world: &mut World, id: &str| {
        world.pass(300);
        world.ok(id);
        world.ok(id)
    };
    let states = ["none", "open", "told", "ended", "over", "part"];
    let inputs = [
        "onprem_dies",
        "onprem_mends",
        "cloud_dies",
        "cloud_mends",
        "five_minutes_pass",
        "is_suppressed",
        "start",
    ];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = alerting(true);
        if state != "none" {
            world.fail(ONPREM, ProbeFault::Refused);
        }
        world.pass(40_000);
        match state {
            "told" => drop(peer_says(&mut world, Some(Word::Suppressed))),
            "ended" => drop(mend(&mut world, ONPREM)),
            "over" => {
                peer_says(&mut world, Some(Word::Suppressed));
                mend(&mut world, ONPREM);
                peer_says(&mut world, Some(Word::Resolved));
            }
            "part" => drop(world.fail(CLOUD, ProbeFault::Refused)),
            _ => {}
        }
        assert_eq!(name(&world), state);
        world.pass(1_000);
        let decision = match input {
            "onprem_dies" => world.fail(ONPREM, ProbeFault::Refused),
            "onprem_mends" => mend(&mut world, ONPREM),
            "cloud_dies" => world.fail(CLOUD, ProbeFault::Refused),
            "cloud_mends" => mend(&mut world, CLOUD),
            "five_minutes_pass" => {
                let until = world.now.boot + Span::seconds(300);
                let mut all = Decision::default();
                while world.state.next_deadline().is_some_and(|at| at <= until) {
                    all.reasons.extend(world.wake().unwrap().reasons);
                }
                all
            }
            "is_suppressed" => peer_says(&mut world, Some(Word::Suppressed)),
            _ => world.step(Event::Started),
        };
        cell(state, name(&world), told(&decision, &["incident_", "tells_", "told_"]))
    });
}

/// The verdict of the `live` probes; three in a row fell it.
#[test]
fn whether_a_process_lives() {
    let table = "
                 unknown          unknown_failing  up               failing          down
answers          up               up               .                up               up+server_lives
refuses          down+server_dead down+server_dead down+server_dead down+server_dead .
is_silent        unknown_failing  down+server_dead failing          down+server_dead .
fails_on_the_way unknown_failing  down+server_dead failing          down+server_dead .
answers_late     .                unknown          .                up               .
starts           .                unknown          unknown          unknown          unknown
";
    let name = |world: &World| match world.state.server(server(ONPREM)).unwrap().life {
        Health::Unknown { bad: None, .. } => "unknown",
        Health::Unknown { bad: Some(_), .. } => "unknown_failing",
        Health::Up { bad: None, .. } => "up",
        Health::Up { bad: Some(_), .. } => "failing",
        Health::Down { .. } => "down",
    };
    let fault = |word: &str| match word {
        "refuses" => ProbeFault::Refused,
        "is_silent" => ProbeFault::Silent,
        _ => ProbeFault::ConnectTimeout,
    };
    let states = ["unknown", "unknown_failing", "up", "failing", "down"];
    let inputs = ["answers", "refuses", "is_silent", "fails_on_the_way", "answers_late", "starts"];
    assert_table(table, &states, &inputs, |state, input| {
        let mut world = World::running();
        let answers = ProbeOutcome::Connected { took: Span(1) };
        if matches!(state, "up" | "failing") {
            world.live(ONPREM, answers);
        }
        match state {
            "failing" | "unknown_failing" => {
                world.live(ONPREM, ProbeOutcome::Failed(ProbeFault::Silent));
                world.live(ONPREM, ProbeOutcome::Failed(ProbeFault::Silent));
            }
            "down" => drop(world.live(ONPREM, ProbeOutcome::Failed(ProbeFault::Refused))),
            _ => {}
        }
        assert_eq!(name(&world), state);
        let decision = match input {
            "answers" => world.live(ONPREM, answers),
            "answers_late" => {
                let (due, started) = (world.now.boot - Span::seconds(9), world.now.boot);
                let late = Probed { server: server(ONPREM), due, started, ended: started, outcome: answers };
                world.step(Event::Lived(late))
            }
            "starts" => world.container("api-onprem", ContainerSign::Started),
            word => world.live(ONPREM, ProbeOutcome::Failed(fault(word))),
        };
        cell(state, name(&world), told(&decision, &["server_", "failover"]))
    });
}
