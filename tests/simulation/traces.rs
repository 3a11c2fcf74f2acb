//! The models are compared with what the real parts did: each trace in `traces/` was recorded from a real engine, a real
//! HAProxy or a real relay; a relay's is said to the real client of relays once more.

use crate::checks::{Checks, Met};
use crate::clockwork::Ms;
use crate::docker::Starter;
use crate::plan::{Cast, Plan};
use crate::world::World;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use supervisor::domain::event::{ContainerSign, ContainerStatus, DockersPolicy};
use supervisor::domain::maintenance::{Admin, AdminSeen};
use supervisor::domain::{ServiceId, SiteId, action::DesiredServer};

/// The lines of a trace: what was done, and what came of it.
fn trace(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(':').map(|(done, came)| (done, came.trim())).unwrap())
}

/// One service with one server at each of two sites, and nobody who watches.
fn world(restart: DockersPolicy) -> World {
    let cast = Cast {
        services: vec![vec![1, 1]],
        proxies: 1,
        engines_by_site: false,
        peers: 0,
        relays: 0,
        recipients: 1,
        restart: vec![restart],
        quirks: BTreeSet::new(),
        failback: [60, 300, 2, 600],
        interval: 1_000,
    };
    let mut world = World::new(Plan { seed: 1, cast, faults: Vec::new(), ends: 0 });
    world.engines[0].events.clear();
    world
}

/// What the engine announced about the first container, in the trace's words.
fn announced(world: &World) -> String {
    let words = world.engines[0].events.iter().map(|(_, heard)| match heard.sign {
        Some(ContainerSign::Killed { signal: Some(signal) }) => format!("kill {signal}"),
        Some(ContainerSign::Died { exit: Some(exit) }) => format!("die {exit}"),
        _ => heard.key.action.clone(),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn engines_announce_what_a_real_one_did() {
    for (done, came) in trace(include_str!("traces/docker.txt")) {
        let always = done.contains("always") || done.contains("between");
        let mut world = world(if always { DockersPolicy::Always } else { DockersPolicy::No });
        world.containers[0].ignores_term = done == "stop, ignored";
        world.containers[0].stop_timeout = 1_000;
        let pass = |world: &mut World, ms: Ms| world.pass_until(world.clock.now() + ms);
        pass(&mut world, 1_000);
        match done {
            "stop" | "stop, ignored" => world.stop(0),
            "kill" => world.kill(0),
            "crash" => world.crash(0, 3),
            "hangup" => world.hangup(0),
            "restart" => world.restart(0, Starter::Person),
            "pause and unpause" => world.pause(0, 10),
            "stop of a frozen one" => {
                world.pause(0, 60_000);
                world.stop(0);
            }
            "remove" => world.recreate(0, 60_000),
            "stop of one that has ended" => {
                world.crash(0, 1);
                pass(&mut world, 10);
                world.engines[0].events.clear();
                world.stop(0);
            }
            "start of one that runs" => world.start(0, Starter::Person).unwrap(),
            "crash under always" => world.crash(0, 3),
            "hangup, then crash under always" => {
                world.hangup(0);
                world.crash(0, 137);
            }
            "stop between two starts" => {
                world.crash(0, 1);
                assert_eq!(world.containers[0].status, ContainerStatus::Restarting);
                world.engines[0].events.clear();
                world.stop(0);
            }
            "out of memory" => world.run_out_of_memory(0),
            other => panic!("the trace has {other:?}, which the model does not know"),
        }
        pass(&mut world, 3_000);
        // A good program ends with 0, or by the signal: both are seen.
        assert_eq!(announced(&world).replace("die 143", "die 0"), came, "{done}");
    }
}

#[test]
fn haproxy_takes_servers_out_as_a_real_one_did() {
    for (done, came) in trace(include_str!("traces/haproxy.txt")) {
        if done.starts_with("check") || done.contains("sender gone") {
            continue;
        }
        let mut world = world(DockersPolicy::No);
        let (server, ..) = world.servers_of(0)[0];
        let other: SiteId = "cloud".parse().unwrap();
        let proxy = &mut world.proxies[0];
        proxy.file = BTreeMap::from([(server.service, "onprem".parse().unwrap())]);
        proxy.begin(0);
        for word in done.replace(',', "").split_whitespace() {
            let admin = match word {
                "drain" => Admin::Drain,
                "maint" => Admin::Maint,
                "ready" => Admin::Ready,
                "set" => {
                    proxy.map.insert(server.service, other);
                    continue;
                }
                "another" => {
                    proxy.begin(1_000);
                    continue;
                }
                _ => continue,
            };
            let ours = BTreeSet::from([Admin::Drain, Admin::Maint]);
            proxy.set_server(server, &DesiredServer { site: "onprem".parse().unwrap(), admin, ours });
        }
        let bits = match proxy.out.get(&server).copied().unwrap_or_default() {
            AdminSeen { drain: false, maint: false, .. } => "0",
            AdminSeen { drain: true, maint: false, .. } => "8",
            AdminSeen { drain: false, maint: true, .. } => "1",
            AdminSeen { drain: true, maint: true, .. } => "9",
        };
        let map = if proxy.map.get(&server.service) == Some(&other) { "" } else { ", the file's" };
        let shown = if done.contains("map") { format!("{bits}{map}") } else { bits.to_owned() };
        assert_eq!(shown, came, "{done}");
    }
}

#[test]
fn haproxy_carries_out_what_a_sender_left_behind_as_a_real_one_did() {
    let mut all = trace(include_str!("traces/haproxy.txt"));
    let (_, came) = all.find(|(done, _)| *done == "set map, sender gone, goes on").unwrap();
    let mut world = world(DockersPolicy::No);
    let (service, cloud): (ServiceId, SiteId) = ("api".parse().unwrap(), "cloud".parse().unwrap());
    world.proxies[0].deaf_until = 5_000;
    world.lie_in_socket(0, 1, BTreeMap::from([(service, cloud)]), BTreeMap::new());
    world.pass_until(4_000);
    assert_eq!(world.proxies[0].map.get(&service), None);
    world.pass_until(6_000);
    assert_eq!(world.proxies[0].map.get(&service) == Some(&cloud), came == "taken");
}

/// So far apart the ends of two ranges may be, one of 32 random moments on a loaded machine, one of all.
const RANGES_WITHIN: Ms = 200;

#[test]
fn haproxy_changes_its_mind_when_a_real_one_did() {
    for (done, came) in trace(include_str!("traces/haproxy.txt")) {
        let Some(done) = done.strip_prefix("check, ") else { continue };
        let took: Vec<Ms> = (0..200).filter_map(|number| changes_after(done, number)).collect();
        let Some((wanted, range)) = came.split_once(' ') else {
            assert_eq!((came, took.len()), ("never", 0), "{done}");
            continue;
        };
        assert_eq!((wanted == "up", took.len()), (ends_up(done), 200), "{done}");
        let (first, last) = range.split_once("..").unwrap();
        let (first, last): (Ms, Ms) = (first.parse().unwrap(), last.parse().unwrap());
        let (soonest, latest) = (*took.iter().min().unwrap(), *took.iter().max().unwrap());
        let agree = (soonest - first).abs() <= RANGES_WITHIN && (latest - last).abs() <= RANGES_WITHIN;
        assert!(agree, "{done}: {soonest}..{latest} in the model, {came} in HAProxy");
    }
}

fn ends_up(done: &str) -> bool {
    matches!(done, "started" | "goes on" | "well" | "told down")
}

/// After how long the checks of a server change their mind, if that is done `number` steps into a second.
fn changes_after(done: &str, number: Ms) -> Option<Ms> {
    const BEGINS: Ms = 10_000;
    let wrong = matches!(done, "started" | "well");
    let before = match done {
        "goes on" => Met::Silent { until: Ms::MAX },
        _ if wrong => Met::Wrong,
        _ => Met::Well,
    };
    let at = BEGINS + number * 5;
    let mut checks = Checks::of(0, 0, 1);
    let after = match done {
        "killed" | "sick" | "killed under load" => Met::Wrong,
        "another process, dead" => {
            checks = Checks::of(at, usize::try_from(number % 8).unwrap(), 8);
            Met::Wrong
        }
        "out of maintenance, dead" => {
            checks = Checks::new(at + number * 5);
            Met::Wrong
        }
        "frozen" => Met::Silent { until: Ms::MAX },
        _ => Met::Well,
    };
    let failed = Cell::new(false);
    let meets = |when: Ms| match before {
        _ if done == "sick for one check" && when >= at && !failed.replace(true) => Met::Wrong,
        // What it was asked before it answers when it goes on.
        Met::Silent { .. } if when < at => Met::Silent { until: at },
        before if when < at => before,
        _ => after,
    };
    for now in 0..at {
        checks.advance(now, meets);
    }
    let was = checks.is_up();
    match done {
        // The next client finds out.
        "killed under load" | "told down" => checks.mark_down(),
        _ => {}
    }
    let wanted = ends_up(done);
    if done != "told down" && was == wanted {
        return None;
    }
    (at..at + 6_000)
        .find(|now| {
            checks.advance(*now, meets);
            checks.is_up() == wanted
        })
        .map(|now| now - at)
}

mod relays {
    use super::trace;
    use crate::alerts::{MailRelay, relay_of};
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;
    use supervisor::alert::email::{Deadlines, Envelope, Outcome, Relay, Stage, deliver};

    /// Says its lines, each when one of ours has come; after `354`, when the message has.
    fn relay(lines: Vec<String>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if lines == ["closed"] {
            return port;
        }
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut message = false;
            for (number, line) in lines.iter().enumerate() {
                if number > 0 {
                    while let Some(Ok(line)) = heard.next() {
                        if !message || line == "." {
                            break;
                        }
                    }
                }
                match line.as_str() {
                    "closed" => return,
                    "silent" => {
                        // Until they give up.
                        while heard.next().is_some() {}
                        return;
                    }
                    reply => {
                        message = reply.starts_with("354");
                        let lines = reply.replace(" / ", "\r\n");
                        let _ = stream.write_all(format!("{lines}\r\n").as_bytes());
                    }
                }
            }
            let _ = heard.next();
        });
        port
    }

    /// What is compared: the kind of an outcome, and where in the dialogue it was found.
    fn kind(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Accepted { .. } => "accepted".to_owned(),
            Outcome::Deferred { stage, .. } => format!("deferred at {stage}"),
            Outcome::Refused { stage, .. } => format!("refused at {stage}"),
            Outcome::RelayFailed(fault) => format!("{} at {}", fault.class, fault.stage),
            Outcome::Ambiguous { .. } => "ambiguous".to_owned(),
        }
    }

    #[tokio::test]
    async fn relays_are_taken_as_the_real_client_takes_them() {
        for (done, said) in trace(include_str!("traces/relay.txt")) {
            let lines = said.split('|').map(|line| line.trim().to_owned()).collect();
            let real = Relay { port: relay(lines), ..relay_of("relay-0") };
            let count = if done.contains("two") { 2 } else { 1 };
            let to: Vec<String> = (0..count).map(|number| format!("admin-{number}@example.org")).collect();
            let envelope = Envelope::new("supervisor@example.org", &to).unwrap();
            let deadlines = Deadlines { command: Duration::from_millis(300), ..Deadlines::default() };
            let attempt = deliver(&real, &envelope, b"Subject: x\r\n\r\ny\r\n", &deadlines).await;
            let mut model = MailRelay::new(0);
            match done {
                "accepted" => {}
                "refused" | "one of two refused" => model.refuses_until = 1,
                "deferred" | "greylisted" => model.defers_until = 1,
                "too many connections" => model.declines = (1, Stage::Greeting),
                "no room" => model.declines = (1, Stage::Mail),
                "reply lost" => model.loses_reply_until = 1,
                "silent" => model.silent_until = 1,
                "down" => model.down_until = 1,
                other => panic!("the trace has {other:?}, which the model does not know"),
            }
            let (modelled, _) = model.takes(0, count);
            let real: Vec<String> = attempt.recipients.iter().map(|of| kind(&of.outcome)).collect();
            assert_eq!(real, modelled.iter().map(kind).collect::<Vec<_>>(), "{done}");
        }
    }
}
