//! Incidents and who tells of them, through the whole core.

use super::*;
use crate::domain::command::{Command, CommandId, Operator};
use crate::domain::delivery::{
    AlertPolicy, MAILS_MAX, Mail, MailId, MailKey, MailKind, Telling, WhyDirect, Word,
};
use crate::domain::event::{ContainerList, MailEnd, Mailed, PeerResult, PeerSeen};
use crate::domain::id::{ContainerName, PeerId};
use crate::domain::incident::{Incident, IncidentId, STORY_MAX, Trouble};
use crate::domain::policy::{ContainerPolicy, ContainerRef, OnKill, Role};
use crate::domain::silence::{Matcher, Silence};
use crate::domain::time::{Boot, Wall};

fn am() -> PeerId {
    "am1".parse().unwrap()
}

/// One Alertmanager, somebody to mail to, both servers up.
fn world() -> World {
    world_of(&[("api", &["onprem", "cloud"])])
}

fn world_of(services: &[(&str, &[&str])]) -> World {
    let mut policy = policy(services);
    policy.alerts = AlertPolicy {
        peers: [am()].into(),
        direct: true,
        fallback_after: Span::seconds(60),
        notify_grace: Span::seconds(90),
    };
    let mut world = World::with(policy);
    world.start();
    world.pass(10_000);
    world
}

fn fails(world: &mut World) -> Decision {
    let result = PeerResult::Failed("connection refused".into());
    world.step(Event::Peer(PeerSeen { peer: am(), result, silences: None }))
}

/// The Alertmanager fails as often as a mail wants it to.
fn stays_away(world: &mut World) {
    for _ in 0..3 {
        world.pass(5_000);
        fails(world);
    }
}

/// The Alertmanager says `word` of every incident that it is told of.
fn says(world: &mut World, word: Word) -> Decision {
    let words = world.state.incidents.keys().map(|id| (*id, word.clone())).collect();
    world.step(Event::Peer(PeerSeen { peer: am(), result: PeerResult::Answered(words), silences: None }))
}

fn mails(decision: &Decision) -> Vec<Mail> {
    let mail = |action: &Action| match action {
        Action::Mail(mail) => Some(Mail::clone(mail)),
        Action::Route { .. }
        | Action::Pace { .. }
        | Action::Evacuate(_)
        | Action::Heal(_)
        | Action::Answer { .. } => None,
    };
    decision.actions.iter().filter_map(mail).collect()
}

/// Wakes at every deadline until `seconds` have passed; the mails of that time.
fn wait(world: &mut World, seconds: i64) -> Vec<Mail> {
    let until = Boot(world.now.boot.0 + seconds * 1_000);
    let mut sent = Vec::new();
    while let Some(at) = world.state.next_deadline().filter(|at| *at <= until) {
        let ahead = at.since(world.now.boot);
        world.pass(ahead.0);
        sent.extend(mails(&world.step(Event::Woke)));
    }
    world.pass(until.since(world.now.boot).0);
    sent
}

fn crash(world: &mut World, server: &str) -> Decision {
    world.fail(server, ProbeFault::Refused)
}

fn mend(world: &mut World, server: &str) -> Decision {
    world.ok(server);
    world.ok(server)
}

fn the_incident(world: &World) -> (IncidentId, &Telling) {
    let (id, incident) = world.state.incidents.iter().next().expect("an incident");
    (*id, &incident.telling)
}

const ONPREM: &str = "api/api-onprem";
const CLOUD: &str = "api/api-cloud";

#[test]
fn a_pool_that_is_down_is_one_incident_from_its_first_second_to_its_health() {
    let mut world = world();
    assert_eq!(incident_codes(&crash(&mut world, ONPREM)), [("opened", "PoolDown")]);
    assert_eq!(incident_codes(&crash(&mut world, ONPREM)), []);
    world.ok(ONPREM);
    assert_eq!(incident_codes(&world.ok(ONPREM)), [("ended", "PoolDown")]);
    // Healthy again is the end; traffic comes back later, and that is no news for a pager.
    assert_eq!(world.serving().as_deref(), Some("cloud"));
}

#[test]
fn a_service_that_is_down_everywhere_is_one_more_incident_and_not_one_per_pool() {
    let mut world = world();
    crash(&mut world, ONPREM);
    assert_eq!(incident_codes(&crash(&mut world, CLOUD)), [("opened", "ServiceDown")]);
    world.ok(CLOUD);
    assert_eq!(incident_codes(&world.ok(CLOUD)), [("ended", "ServiceDown"), ("opened", "PoolDown")]);
    world.ok(ONPREM);
    assert_eq!(incident_codes(&world.ok(ONPREM)), [("ended", "PoolDown")]);
}

#[test]
fn what_alertmanager_has_and_keeps_is_never_mailed() {
    let mut world = world();
    crash(&mut world, ONPREM);
    says(&mut world, Word::Active);
    assert_eq!(wait(&mut world, 100), []);
    assert_eq!(the_incident(&world).1, &Telling::ByAlertmanager);
    mend(&mut world, ONPREM);
    says(&mut world, Word::Resolved);
    assert_eq!(wait(&mut world, 3_600), []);
    assert!(world.state.incidents.is_empty(), "forgotten when nobody is told of it any more");
}

#[test]
fn without_alertmanager_the_mail_goes_out_in_time_says_why_and_its_end_follows() {
    let mut world = world();
    crash(&mut world, ONPREM);
    stays_away(&mut world);
    let sent = wait(&mut world, 60);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, MailKind::Firing);
    assert!(matches!(&sent[0].why, WhyDirect::Unreachable { peers } if peers[0].1 == "connection refused"));
    let told = &sent[0].incidents[0];
    assert!(matches!(told.trouble, Trouble::PoolDown { .. }));
    let story: Vec<&str> = told.story.iter().map(|reason| reason.code()).collect();
    assert_eq!(story, ["server_down", "failover"], "what happened and what was done");
    assert_eq!(wait(&mut world, 3_600), [], "once");
    let end = mails(&{
        world.ok(ONPREM);
        world.ok(ONPREM)
    });
    assert_eq!((end.len(), end[0].kind, &end[0].why), (1, MailKind::Resolved, &WhyDirect::Owed));
    assert!(end[0].incidents[0].ended.is_some());
    assert_eq!(wait(&mut world, 3_600), []);
}

#[test]
fn a_mail_that_was_not_needed_after_all_owes_nobody_its_end() {
    let mut world = world();
    crash(&mut world, ONPREM);
    stays_away(&mut world);
    let mail = MailKey::of(&wait(&mut world, 60)[0]);
    let others = [
        MailKey { id: MailId(mail.id.0 + 1), ..mail },
        // Of an earlier process, which had the same count.
        MailKey { at: Wall(mail.at.0 - 1), ..mail },
    ];
    for mail in others {
        let other = world.step(Event::Mailed(Mailed { mail, end: MailEnd::NotNeeded }));
        assert!(mails(&other).is_empty());
    }
    let on_its_way = Telling::ByMail { mail, reached: false, again: None };
    assert_eq!(the_incident(&world).1, &on_its_way, "another mail is another matter");
    world.step(Event::Mailed(Mailed { mail, end: MailEnd::NotNeeded }));
    assert_eq!(the_incident(&world).1, &Telling::ByAlertmanager);
    mend(&mut world, ONPREM);
    says(&mut world, Word::Resolved);
    assert_eq!(wait(&mut world, 3_600), [], "Alertmanager tells the end, too");
}

#[test]
fn a_mail_that_only_some_got_is_owed_its_end_and_told_again() {
    let mut world = world();
    crash(&mut world, ONPREM);
    stays_away(&mut world);
    let mail = MailKey::of(&wait(&mut world, 60)[0]);
    let end = MailEnd::Dead { words: "no such user".into(), reached: true };
    world.step(Event::Mailed(Mailed { mail, end }));
    assert_eq!(wait(&mut world, 3_610).len(), 1, "those who got it are told again");
    world.ok(ONPREM);
    assert_eq!(mails(&world.ok(ONPREM))[0].why, WhyDirect::Owed);
}

#[test]
fn without_any_alertmanager_a_mail_that_nobody_got_is_tried_again() {
    let mut policy = world().state.policy;
    policy.alerts.peers.clear();
    let mut world = World::with(policy);
    world.start();
    world.pass(10_000);
    crash(&mut world, ONPREM);
    let mail = MailKey::of(&wait(&mut world, 70)[0]);
    let end = MailEnd::Dead { words: "nobody took it for a day".into(), reached: false };
    world.step(Event::Mailed(Mailed { mail, end }));
    assert_eq!(wait(&mut world, 3_610).len(), 1, "there is nobody else to tell");
}

#[test]
fn a_mail_that_is_given_up_leaves_its_incident_to_alertmanager() {
    let mut world = world();
    crash(&mut world, ONPREM);
    stays_away(&mut world);
    let mail = MailKey::of(&wait(&mut world, 60)[0]);
    let end = MailEnd::Deferred { words: "greylisted".into() };
    world.step(Event::Mailed(Mailed { mail, end }));
    let on_its_way = Telling::ByMail { mail, reached: false, again: None };
    assert_eq!(the_incident(&world).1, &on_its_way);
    let end = MailEnd::Dead { words: "no such user".into(), reached: false };
    world.step(Event::Mailed(Mailed { mail, end }));
    assert_eq!(the_incident(&world).1, &Telling::ByAlertmanager);
    assert_eq!(wait(&mut world, 3_600), [], "what every relay refused is not sent again and again");
}

#[test]
fn what_was_mailed_and_lasts_is_mailed_again_every_hour_and_its_end_is_owed() {
    let mut world = world();
    crash(&mut world, ONPREM);
    stays_away(&mut world);
    let mut mail = MailKey::of(&wait(&mut world, 60)[0]);
    for _ in 0..2 {
        wait(&mut world, 1_800);
        world.step(Event::Mailed(Mailed { mail, end: MailEnd::Accepted { recipients: 1 } }));
        assert_eq!(wait(&mut world, 3_590), []);
        let again = wait(&mut world, 20);
        assert_eq!((again.len(), again[0].kind, &again[0].why), (1, MailKind::Firing, &WhyDirect::Lasts));
        mail = MailKey::of(&again[0]);
        assert_eq!(wait(&mut world, 7_200), [], "not before a relay has the last one");
    }
    let end = MailEnd::Dead { words: "mailbox full".into(), reached: false };
    world.step(Event::Mailed(Mailed { mail, end }));
    world.ok(ONPREM);
    let end = mails(&world.ok(ONPREM));
    assert_eq!((end.len(), &end[0].why), (1, &WhyDirect::Owed), "whoever had the first one");
}

#[test]
fn time_runs_from_the_opening_and_is_not_set_back_by_failures() {
    let mut world = world();
    let opened = world.now.boot;
    crash(&mut world, ONPREM);
    let mut sent = Vec::new();
    while sent.is_empty() {
        sent = wait(&mut world, 7);
        sent.extend(mails(&fails(&mut world)));
    }
    let after = world.now.boot.since(opened);
    assert!(after >= Span::seconds(60) && after <= Span::seconds(72), "{after}");
}

#[test]
fn an_alertmanager_that_comes_back_in_time_tells_and_no_mail_goes_out() {
    let mut world = world();
    crash(&mut world, ONPREM);
    for _ in 0..3 {
        world.pass(10_000);
        fails(&mut world);
    }
    says(&mut world, Word::Active);
    assert_eq!(wait(&mut world, 3_600), []);
}

#[test]
fn what_alertmanager_loses_within_its_grace_counts_as_not_told() {
    let mut world = world();
    crash(&mut world, ONPREM);
    says(&mut world, Word::Active);
    world.pass(20_000);
    fails(&mut world);
    assert_eq!(wait(&mut world, 125), [], "it said yes: it has its grace on top");
    assert_eq!(wait(&mut world, 15).len(), 1);
}

#[test]
fn what_somebody_silenced_is_handled() {
    let mut world = world();
    crash(&mut world, ONPREM);
    says(&mut world, Word::Suppressed);
    for _ in 0..5 {
        world.pass(10_000);
        fails(&mut world);
    }
    assert_eq!(wait(&mut world, 3_600), []);
}

#[test]
fn an_alertmanager_that_stays_away_does_not_fill_the_journal() {
    let mut world = world();
    for _ in 0..3 {
        fails(&mut world);
        world.pass(15_000);
    }
    assert_eq!(fails(&mut world).changes, [], "nothing waits for it");
    crash(&mut world, ONPREM);
    for _ in 0..3 {
        world.pass(15_000);
        assert_ne!(fails(&mut world).changes, [], "these are what the mail waits for");
    }
    assert_eq!(wait(&mut world, 20).len(), 1);
    assert_eq!(fails(&mut world).changes, []);
}

#[test]
fn a_failure_at_the_moment_of_the_opening_counts() {
    let mut world = world();
    crash(&mut world, ONPREM);
    for _ in 0..3 {
        assert_ne!(fails(&mut world).changes, []);
        world.pass(15_000);
    }
    assert_eq!(fails(&mut world).changes, [], "three prove all that there is to prove");
    assert_eq!(wait(&mut world, 20).len(), 1);
}

#[test]
fn what_nobody_can_be_told_of_is_forgotten_in_the_end() {
    let mut policy = world().state.policy;
    policy.alerts.direct = false;
    let mut world = World::with(policy);
    world.start();
    world.pass(10_000);
    crash(&mut world, ONPREM);
    wait(&mut world, 60);
    mend(&mut world, ONPREM);
    wait(&mut world, 899);
    assert_eq!(world.state.incidents.len(), 1, "an Alertmanager that comes back hears of its end");
    wait(&mut world, 2);
    assert_eq!(world.state.incidents.len(), 0);
}

#[test]
fn told_by_alertmanager_and_ended_while_it_is_away_the_end_is_mailed() {
    let mut world = world();
    crash(&mut world, ONPREM);
    says(&mut world, Word::Active);
    wait(&mut world, 100);
    stays_away(&mut world);
    mend(&mut world, ONPREM);
    let sent = wait(&mut world, 70);
    assert_eq!((sent.len(), sent[0].kind), (1, MailKind::Resolved));
}

#[test]
fn to_and_fro_is_one_incident_until_somebody_was_told() {
    let mut world = world();
    crash(&mut world, ONPREM);
    let first = the_incident(&world).0;
    fails(&mut world);
    wait(&mut world, 31);
    mend(&mut world, ONPREM);
    wait(&mut world, 5);
    crash(&mut world, ONPREM);
    assert_eq!(world.state.incidents.len(), 1);
    assert_eq!(the_incident(&world).0, first);
    // What was short and is over is another one.
    let mut world = self::world();
    crash(&mut world, ONPREM);
    let first = the_incident(&world).0;
    mend(&mut world, ONPREM);
    crash(&mut world, ONPREM);
    assert_eq!(world.state.incidents.len(), 1);
    assert_ne!(the_incident(&world).0, first);
}

#[test]
fn a_storm_is_one_digest_and_the_bound_of_mails_drops_nothing() {
    let names: Vec<String> = (0..30).map(|n| format!("s{n}")).collect();
    let mut services: Vec<(&str, &[&str])> =
        names.iter().map(|name| (name.as_str(), &["onprem", "cloud"][..])).collect();
    // One goes on: otherwise it would be the site, and one incident.
    services.push(("alive", &["onprem", "cloud"]));
    let mut world = world_of(&services);
    for name in &names {
        crash(&mut world, &format!("{name}/{name}-onprem"));
    }
    stays_away(&mut world);
    let sent = wait(&mut world, 60);
    assert_eq!(sent.len(), 1, "what fails together is one mail");
    assert_eq!(sent[0].incidents.len(), 30);
    let mut ends = Vec::new();
    for name in &names {
        let server = format!("{name}/{name}-onprem");
        world.ok(&server);
        ends.extend(mails(&world.ok(&server)));
    }
    assert_eq!(ends.len(), 1, "what began in one mail and ends together ends in one");
    assert_eq!(ends[0].incidents.len(), 30);
    assert_eq!(wait(&mut world, 1_300), []);
    // One after the other is one mail each, up to the bound; the rest is told later, and together.
    let mut told = Vec::new();
    for name in &names[..MAILS_MAX + 5] {
        crash(&mut world, &format!("{name}/{name}-onprem"));
        told.extend(wait(&mut world, 6));
    }
    told.extend(wait(&mut world, 1_300));
    let within = |from: Wall| told.iter().filter(|mail| (0..600_000).contains(&(mail.at.0 - from.0))).count();
    assert!(told.iter().all(|mail| within(mail.at) <= MAILS_MAX), "never more in ten minutes");
    let all: usize = told.iter().map(|mail| mail.incidents.len()).sum();
    assert_eq!(all, MAILS_MAX + 5, "nothing is dropped");
}

#[test]
fn a_story_is_bounded() {
    let mut world = world();
    crash(&mut world, ONPREM);
    for number in 0..40 {
        let to = site(if number % 2 == 0 { "onprem" } else { "cloud" });
        let order =
            Order::Failover { service: service("api"), to, force: true, seen: None, lasts: None, pin: false };
        let by = Operator { uid: 0, pid: None, name: None };
        let because = Some(format!("try {number}"));
        world.step(Event::Commanded(Command { id: CommandId(number), by, because, order }));
        world.route_all();
        world.pass(10_000);
    }
    let (_, incident) = world.state.incidents.iter().next().unwrap();
    let story: Vec<String> = incident.story.iter().map(|reason| format!("{reason:?}")).collect();
    assert_eq!(story.len(), STORY_MAX);
    assert!(story[0].contains("ServerDown") && story[STORY_MAX - 1].contains("try 39"), "{story:#?}");
}

#[test]
fn what_is_wrong_with_the_parts_is_an_incident_each_and_ends_with_its_cause() {
    let mut world = world();
    let lost = world.step(Event::ProxyLost { proxy: proxy() });
    assert_eq!(incident_codes(&lost), [("opened", "ProxyLost")]);
    assert_eq!(incident_codes(&world.see_proxy()), [("ended", "ProxyLost")]);
    let lost = world.step(Event::EngineLost { engine: engine(), last: LastSigns::default() });
    assert_eq!(incident_codes(&lost), [("opened", "EngineLost")]);
    let list = ContainerList {
        engine: engine(),
        at: world.now.boot,
        containers: BTreeMap::new(),
        past: Past::default(),
    };
    assert_eq!(incident_codes(&world.step(Event::Containers(list))), [("ended", "EngineLost")]);
    let degraded = world.step(Event::Store(StoreHealth::Degraded));
    assert_eq!(incident_codes(&degraded), [("opened", "StoreDegraded")]);
    assert_eq!(incident_codes(&world.step(Event::Store(StoreHealth::Durable))), [("ended", "StoreDegraded")]);
}

#[test]
fn what_leaves_the_settings_ends_its_incident() {
    let mut world = world_of(&[("api", &["onprem", "cloud"]), ("shop", &["onprem", "cloud"])]);
    crash(&mut world, "shop/shop-onprem");
    let mut changed = world.state.policy.clone();
    changed.services.remove(&service("shop"));
    let decision = world.step(Event::PolicyChanged(Box::new(changed)));
    assert_eq!(incident_codes(&decision), [("ended", "PoolDown")]);
}

#[test]
fn an_open_incident_outlives_a_start_of_ours_and_is_not_opened_twice() {
    let mut world = world();
    crash(&mut world, ONPREM);
    says(&mut world, Word::Active);
    let before = the_incident(&world).0;
    world.step(Event::Started);
    assert_eq!(incident_codes(&crash(&mut world, ONPREM)), []);
    assert_eq!(the_incident(&world).0, before);
    world.pass(10_000);
    world.ok(ONPREM);
    assert_eq!(incident_codes(&world.ok(ONPREM)), [("ended", "PoolDown")]);
}

#[test]
fn a_crash_loop_is_one_incident_from_the_first_crash_until_it_has_run_for_long() {
    let mut policy = healing(policy(&[("api", &["onprem", "cloud"])]));
    policy.heal.restarts = 1;
    let mut world = World::with(policy);
    world.start();
    let seen = ContainerSeen { id: "c1".into(), status: ContainerStatus::Running, facts: Facts::default() };
    let all = world.state.containers_of(engine()).map(|container| (container.name.clone(), seen.clone()));
    let containers = all.collect();
    world.step(Event::Containers(ContainerList {
        engine: engine(),
        at: world.now.boot,
        containers,
        past: Past::default(),
    }));
    world.pass(60_000);
    let died = ContainerSign::Died { exit: Some(1) };
    assert_eq!(incident_codes(&world.container("api-onprem", died)), [("opened", "PoolDown")]);
    world.container("api-onprem", ContainerSign::Started);
    // It comes up, but its budget is spent: not trusted yet.
    world.ok(ONPREM);
    assert_eq!(incident_codes(&world.ok(ONPREM)), []);
    world.pass(30_000);
    assert_eq!(incident_codes(&world.container("api-onprem", died)), [], "still the same");
    assert_eq!(world.state.incidents.len(), 1);
    wait(&mut world, 301);
    world.container("api-onprem", ContainerSign::Started);
    mend(&mut world, ONPREM);
    assert!(the_open(&world), "it has to run for the budget's window");
    wait(&mut world, 601);
    assert!(!the_open(&world));
}

/// `api`, and an HAProxy in a container of its own that may be started once.
fn beside_haproxy() -> World {
    let mut policy = healing(policy(&[("api", &["onprem", "cloud"])]));
    policy.heal.restarts = 1;
    let own = ContainerRef { engine: engine(), name: ContainerName("haproxy".into()) };
    let (on_kill, grace, role) = (OnKill::Respect, Span::seconds(30), Role::Proxy(proxy()));
    policy.containers.insert(own, ContainerPolicy { heal: None, on_kill, site: None, grace, role });
    let mut world = World::with(policy);
    world.start();
    let seen = ContainerSeen { id: "c1".into(), status: ContainerStatus::Running, facts: Facts::default() };
    let all = world.state.containers_of(engine()).map(|container| (container.name.clone(), seen.clone()));
    let containers = all.collect();
    let at = world.now.boot;
    world.step(Event::Containers(ContainerList { engine: engine(), at, containers, past: Past::default() }));
    world.pass(60_000);
    world
}

fn lost(world: &mut World) -> Decision {
    world.pass(1_000);
    world.step(Event::ProxyLost { proxy: proxy() })
}

fn open(world: &World) -> Vec<&'static str> {
    let open = world.state.incidents.values().filter(|incident| incident.ended.is_none());
    open.map(|incident| incident.trouble.name()).collect()
}

/// One cause is one page, and that says how bad it is: nobody's traffic can be steered.
#[test]
fn an_haproxy_whose_container_does_not_stay_up_is_one_incident_until_it_has_run_for_long() {
    let mut world = beside_haproxy();
    let died = ContainerSign::Died { exit: Some(1) };
    assert_eq!(incident_codes(&world.container("haproxy", died)), [], "it is started");
    assert_eq!(incident_codes(&lost(&mut world)), [("opened", "ProxyLost")]);
    world.container("haproxy", ContainerSign::Started);
    world.see_proxy();
    assert_eq!(open(&world), ["ProxyLost"], "its budget is spent: it is not trusted yet");
    world.pass(1_000);
    assert_eq!(incident_codes(&world.container("haproxy", died)), [], "given up, and no second page");
    assert_eq!(open(&world), ["ProxyLost"]);
    lost(&mut world);
    assert_eq!(open(&world), ["ProxyLost"]);
    let story = |world: &World| {
        let open = world.state.incidents.values().find(|incident| incident.ended.is_none()).unwrap();
        open.story.iter().map(|reason| reason.code()).collect::<Vec<_>>()
    };
    assert!(story(&world).contains(&"gave_up"), "{:?}", story(&world));
    wait(&mut world, 301);
    world.container("haproxy", ContainerSign::Started);
    world.see_proxy();
    assert_eq!(open(&world), ["ProxyLost"], "it has to run for the budget's window");
    wait(&mut world, 590);
    assert_eq!(open(&world), ["ProxyLost"]);
    // Each deadline that comes is over when it has come.
    for _ in 0..5 {
        if the_open(&world) {
            world.wake();
        }
    }
    assert!(!the_open(&world));
}

#[test]
fn a_container_that_is_left_is_part_of_its_haproxy_when_that_does_not_answer() {
    let mut world = beside_haproxy();
    // It ended by itself, without an error: it is left, by its policy.
    let ended = world.container("haproxy", ContainerSign::Died { exit: Some(0) });
    assert_eq!(incident_codes(&ended), [("opened", "ContainerDown")]);
    lost(&mut world);
    assert_eq!(open(&world), ["ProxyLost"]);
    // Another one answers in its stead: now it is the container alone.
    wait(&mut world, 60);
    world.see_proxy();
    assert_eq!(open(&world), ["ContainerDown"]);
}

#[test]
fn what_a_lost_haproxy_covered_is_told_when_that_ends_by_time() {
    let mut world = beside_haproxy();
    world.container("haproxy", ContainerSign::Died { exit: Some(0) });
    lost(&mut world);
    // It answers so soon that its container may yet be what was lost.
    wait(&mut world, 5);
    world.see_proxy();
    assert_eq!(open(&world), ["ProxyLost"]);
    wait(&mut world, 30);
    assert_eq!(open(&world), ["ContainerDown"]);
}

#[test]
fn a_start_of_ours_forgets_nothing_of_an_haproxy_that_does_not_answer() {
    let mut world = beside_haproxy();
    world.container("haproxy", ContainerSign::Died { exit: Some(0) });
    lost(&mut world);
    world.pass(1_000);
    let started = world.step(Event::Started);
    assert_eq!(
        (incident_codes(&started), open(&world)),
        (vec![], vec!["ProxyLost"]),
        "it was not looked at yet"
    );
}

fn the_open(world: &World) -> bool {
    world.state.incidents.values().any(|incident| incident.ended.is_none())
}

fn test_alert(world: &mut World) -> Decision {
    world.order(Order::TestAlert)
}

#[test]
fn a_test_is_mailed_at_once_and_is_an_alert_that_ends_by_itself() {
    let mut world = world();
    let ordered = test_alert(&mut world);
    assert!(accepted(&ordered));
    assert_eq!(incident_codes(&ordered), [("opened", "SupervisorTest")]);
    let sent = mails(&ordered);
    assert_eq!((sent.len(), sent[0].kind, &sent[0].why), (1, MailKind::Test, &WhyDirect::Asked));
    says(&mut world, Word::Active);
    assert!(!accepted(&test_alert(&mut world)), "one is enough");
    assert_eq!(wait(&mut world, 119), []);
    assert!(the_open(&world));
    assert_eq!(wait(&mut world, 2), [], "Alertmanager tells the end");
    assert!(!the_open(&world));
    says(&mut world, Word::Resolved);
    assert_eq!(incident_codes(&test_alert(&mut world)), [("opened", "SupervisorTest")], "and again");
    assert_eq!(world.state.incidents.len(), 1);
}

#[test]
fn a_test_takes_the_ways_that_there_are_and_is_denied_where_there_is_none() {
    for (peers, direct, mailed, opened) in [(true, false, 0, 1), (false, true, 1, 0), (true, true, 1, 1)] {
        let mut policy = world().state.policy;
        policy.alerts.direct = direct;
        policy.alerts.peers.retain(|_| peers);
        let mut world = World::with(policy);
        world.start();
        let ordered = test_alert(&mut world);
        assert_eq!((mails(&ordered).len(), world.state.incidents.len()), (mailed, opened));
    }
    let mut world = World::running();
    let denied = test_alert(&mut world);
    assert_eq!(codes(&denied), ["denied"]);
}

#[test]
fn a_test_that_no_alertmanager_takes_is_told_like_any_other_alert() {
    let mut world = world();
    test_alert(&mut world);
    stays_away(&mut world);
    let sent = wait(&mut world, 3_600);
    assert_eq!(sent.iter().map(|mail| mail.kind).collect::<Vec<_>>(), [MailKind::Firing, MailKind::Resolved]);
}

#[test]
fn what_is_silenced_where_nobody_answers_any_more_is_not_mailed_even_after_our_own_restart() {
    let mut world = world();
    let silence = Silence {
        matchers: vec![Matcher {
            name: "service".into(),
            value: "a.*".into(),
            is_regex: true,
            is_equal: true,
        }],
        starts: world.now.wall,
        ends: Wall(world.now.wall.0 + 7_200_000),
    };
    let result = PeerResult::Answered(BTreeMap::new());
    world.step(Event::Peer(PeerSeen { peer: am(), result, silences: Some(vec![silence]) }));
    let result = PeerResult::Answered(BTreeMap::new());
    world.step(Event::Peer(PeerSeen { peer: am(), result, silences: None }));
    world.step(Event::Started);
    world.pass(10_000);
    world.ok(ONPREM);
    world.ok(CLOUD);
    crash(&mut world, ONPREM);
    stays_away(&mut world);
    assert_eq!(wait(&mut world, 7_000), []);
    let sent = wait(&mut world, 300);
    assert_eq!((sent.len(), sent[0].kind), (1, MailKind::Firing), "it lasts, and the silence is over");
}

#[test]
fn few_mails_are_one_when_there_is_no_room_for_each() {
    // Eight went out within the window, so there is room for two: three are one digest, two are two.
    for (count, mails_then) in [(2, 2), (3, 1)] {
        let names: Vec<String> = (0..8 + count).map(|n| format!("s{n}")).collect();
        let mut services: Vec<(&str, &[&str])> =
            names.iter().map(|name| (name.as_str(), &["onprem", "cloud"][..])).collect();
        services.push(("alive", &["onprem", "cloud"]));
        let mut world = world_of(&services);
        stays_away(&mut world);
        for name in &names[..8] {
            crash(&mut world, &format!("{name}/{name}-onprem"));
            world.pass(6_000);
        }
        stays_away(&mut world);
        assert_eq!(wait(&mut world, 80).len(), 8);
        for name in &names[8..] {
            crash(&mut world, &format!("{name}/{name}-onprem"));
        }
        stays_away(&mut world);
        assert_eq!(wait(&mut world, 61).len(), mails_then, "{count} at once");
    }
}

#[test]
fn an_incident_keeps_its_age_on_the_clock_of_another_boot() {
    let mut world = world();
    crash(&mut world, ONPREM);
    mend(&mut world, ONPREM);
    crash(&mut world, ONPREM);
    world.pass(60_000);
    let stored = world.now;
    let before: Vec<Incident> = world.state.incidents.values().cloned().collect();
    world.state.shift_clock(stored, Now { boot: stored.boot.shift(-500_000), ..stored });
    let by = |at: Boot| at.shift(-500_000);
    for (before, after) in before.iter().zip(world.state.incidents.values()) {
        assert_eq!((after.opened, after.wake), (by(before.opened), before.wake.map(by)));
        assert_eq!(after.ended.map(|ended| ended.at), before.ended.map(|ended| by(ended.at)));
    }
    assert!(before.iter().any(|incident| incident.ended.is_none() && incident.wake.is_some()), "{before:?}");
}
