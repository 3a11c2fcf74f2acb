//! An event in plain words: what happened, not what was made of it.

use crate::domain::action::{Finished, Outcome, Target};
use crate::domain::command::{Command, Order};
use crate::domain::delivery::Word;
use crate::domain::event::{
    BackStep, ConfigSeen, ContainerEvent, ContainerList, ContainerSign, ContainerStatus, DockersCheck, Event,
    MailEnd, PeerResult, PeerSeen, Probed, ProxySeen, StoreHealth,
};
use crate::domain::id::{EngineId, ProxyId};
use crate::domain::state::State;
use crate::domain::time::Now;
use crate::present;

/// What happened, as one sentence without a full stop. `state` is what supervisor knows after it.
pub fn happened(event: &Event, state: &State, now: Now) -> String {
    match event {
        Event::Started => "supervisor starts".to_owned(),
        Event::Probed(probed) => format!("probe of {}", probe(probed, now)),
        Event::Lived(probed) => format!("live probe of {}", probe(probed, now)),
        Event::ProberSilent { server, since } => {
            format!("the prober of {} is silent for {}", present::server(*server), now.boot.since(*since))
        }
        Event::Container(event) => announced(event, state),
        Event::Containers(list) => listed(list, state),
        Event::EngineLost { engine, .. } => format!("{} no longer answers", docker(*engine, state)),
        Event::Proxy(seen) => looked(seen, state),
        Event::ProxyLost { proxy } => format!("{} no longer answers on its sockets", haproxy(*proxy, state)),
        Event::Configured(configured) => {
            let proxy = haproxy(configured.proxy, state);
            match &configured.config {
                ConfigSeen::Untried => format!("{proxy}: no configuration was tried yet"),
                ConfigSeen::InForce { revision } => format!("{proxy} has loaded revision {revision}"),
                ConfigSeen::Held { revision, instead_of, by, .. } => {
                    let by = present::operator(by);
                    format!("{proxy} is held at revision {revision} by {by}, in place of {instead_of}")
                }
                ConfigSeen::Refused { message } => format!("{proxy} refuses the configuration: {message}"),
                ConfigSeen::Contested { message } => {
                    format!("{proxy}: others load another configuration: {message}")
                }
                ConfigSeen::Unproven { message } => {
                    format!("{proxy}: nobody knows which configuration it runs: {message}")
                }
            }
        }
        Event::WentBack(seen) => {
            let (proxy, by) = (haproxy(seen.proxy, state), present::operator(&seen.by));
            match &seen.step {
                BackStep::Ordered { revision, .. } => {
                    format!("{by} orders {proxy} back to revision {revision}")
                }
                BackStep::Resumed { revision, .. } => {
                    format!("{by} orders {proxy} to the settings' revision {revision}")
                }
                BackStep::Refused { revision, message, .. } => {
                    format!("{proxy} refuses revision {revision}, which {by} went back to: {message}")
                }
            }
        }
        Event::Routed(routed) => {
            let services: Vec<&str> = routed.generations.keys().map(|service| service.as_str()).collect();
            let proxy = haproxy(routed.proxy, state);
            match services.is_empty() {
                true => format!("{proxy} has no route to take"),
                false => format!("{proxy} has taken the route of {}", services.join(", ")),
            }
        }
        Event::Finished(end) => finished(end),
        Event::Peer(seen) => peer(seen, state),
        Event::Mailed(mailed) => {
            let number = mailed.mail.id.0;
            match &mailed.end {
                MailEnd::Accepted { recipients: 1 } => format!("a relay has taken mail {number}"),
                MailEnd::Accepted { recipients } => {
                    format!("a relay has taken mail {number} for {recipients} recipients")
                }
                MailEnd::Deferred { words } => format!("mail {number} could not be handed over yet: {words}"),
                MailEnd::Dead { words, reached: false } => format!("mail {number} reaches nobody: {words}"),
                MailEnd::Dead { words, reached: true } => {
                    format!("mail {number} does not reach everybody: {words}")
                }
                MailEnd::NotNeeded => format!("mail {number} was not sent: Alertmanager has its incidents"),
            }
        }
        Event::Commanded(command) => ordered(command),
        Event::PolicyChanged(_) => "the settings are read anew".to_owned(),
        Event::Store(StoreHealth::Durable) => "the disk keeps up with what is decided".to_owned(),
        Event::Store(StoreHealth::Degraded) => "the disk no longer keeps up with what is decided".to_owned(),
        Event::Breached { breach } => format!("a rule of supervisor's own was broken: {breach}"),
        Event::Woke => "time has passed".to_owned(),
    }
}

fn probe(probed: &Probed, now: Now) -> String {
    let late = match now.boot.since(probed.ended) {
        late if late.0 > 0 => format!(" (the result comes {late} late)"),
        _ => String::new(),
    };
    format!("{}: {}{late}", present::server(probed.server), present::evidence(probed.outcome))
}

/// Docker, by its engine's name where there are several.
fn docker(engine: EngineId, state: &State) -> String {
    if state.engines.len() > 1 { format!("Docker engine {engine}") } else { "Docker".to_owned() }
}

fn haproxy(proxy: ProxyId, state: &State) -> String {
    if state.proxies.len() > 1 { format!("HAProxy {proxy}") } else { "HAProxy".to_owned() }
}

/// What Docker announced, whoever heard it.
pub(super) fn announced(event: &ContainerEvent, state: &State) -> String {
    let name = &event.name;
    let what = match event.sign {
        ContainerSign::Started => format!("{name} was started"),
        ContainerSign::Died { exit: Some(exit) } => format!("{name} died (exit {exit})"),
        ContainerSign::Died { exit: None } => format!("{name} died"),
        ContainerSign::OutOfMemory => format!("a process in {name} was killed for want of memory"),
        ContainerSign::Killed { signal: Some(signal) } => {
            format!("{name} was sent signal {signal}{}", signal_name(signal))
        }
        ContainerSign::Killed { signal: None } => format!("{name} was sent a signal"),
        ContainerSign::Stopped => format!("{name} was stopped by `docker stop`"),
        ContainerSign::Paused => format!("{name} was paused"),
        ContainerSign::Unpaused => format!("{name} goes on after its pause"),
        ContainerSign::Destroyed => format!("{name} was removed"),
        ContainerSign::Checked(DockersCheck::Starting) => format!("the check of {name} begins"),
        ContainerSign::Checked(DockersCheck::Healthy) => format!("the check of {name} says healthy"),
        ContainerSign::Checked(DockersCheck::Unhealthy) => format!("the check of {name} says unhealthy"),
    };
    format!("{}: {what}", docker(event.engine, state))
}

/// (signal(7))
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (HUP)",
        2 => " (INT)",
        3 => " (QUIT)",
        6 => " (ABRT)",
        9 => " (KILL)",
        10 => " (USR1)",
        12 => " (USR2)",
        15 => " (TERM)",
        _ => "",
    }
}

fn listed(list: &ContainerList, state: &State) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut running = 0;
    for container in state.containers_of(list.engine) {
        match list.containers.get(&container.name).map(|seen| seen.status) {
            Some(ContainerStatus::Running) => running += 1,
            Some(status) => words.push(format!("{} {}", container.name, present::container(status))),
            None => words.push(format!("{} does not exist", container.name)),
        }
    }
    match (running, words.is_empty()) {
        (0, true) => words.push("none".to_owned()),
        (_, true) => words.push("all run".to_owned()),
        (0, false) => {}
        (_, false) => words.push("the rest runs".to_owned()),
    }
    let since_its_start = list.past.events.iter().filter(|event| event.sign != ContainerSign::Started);
    let past = match since_its_start.count() {
        0 => String::new(),
        1 => "; it remembers what happened".to_owned(),
        many => format!("; it remembers {many} things that happened"),
    };
    format!("{} lists its containers: {}{past}", docker(list.engine, state), words.join(", "))
}

fn looked(seen: &ProxySeen, state: &State) -> String {
    let proxy = haproxy(seen.proxy, state);
    if let (Some(owner), false) = (&seen.owner, seen.ours) {
        return format!("{proxy} answers, and belongs to {owner}");
    }
    let mut words: Vec<String> =
        seen.routes.iter().map(|(service, site)| format!("{service} goes to {site}")).collect();
    if words.is_empty() {
        words.push("no route in its map".to_owned());
    }
    words.extend(seen.checks.iter().map(|(server, check)| {
        let said = match (check.layer7_ok, check.usable) {
            (true, _) => "passes",
            (false, true) => "only connects",
            (false, false) => "fails",
        };
        format!("its check of {} {said}", present::server(*server))
    }));
    words.extend(seen.serving.iter().map(|(service, site)| format!("{service} is answered from {site}")));
    format!("{proxy} answers (process {}): {}", seen.identity.pid, words.join(", "))
}

fn finished(end: &Finished) -> String {
    let (what, done) = match &end.of {
        Target::Server(server) => (format!("freeing the requests of {}", present::server(*server)), "done"),
        Target::Container { container, .. } => (format!("Docker: the start of {}", container.name), "worked"),
    };
    match &end.outcome {
        Outcome::Done => format!("{what} {done}"),
        Outcome::Failed(words) => format!("{what} failed: {words}"),
        Outcome::NotBegun(words) => format!("{what} could not be asked for: {words}"),
        Outcome::Superseded => format!("{what} was no longer wanted"),
        Outcome::Unknown(words) => format!("{what} ended nobody knows how: {words}"),
    }
}

fn peer(seen: &PeerSeen, state: &State) -> String {
    let peer = seen.peer;
    let words = match &seen.result {
        PeerResult::Failed(words) => return format!("Alertmanager {peer} does not take part: {words}"),
        PeerResult::Answered(words) => words,
    };
    let said = |(id, word): (&crate::domain::incident::IncidentId, &Word)| {
        let name = state.incidents.get(id).map_or("an alert", |incident| incident.trouble.name());
        match word {
            Word::Active => format!("has {name}"),
            Word::Suppressed => format!("has {name}, silenced"),
            Word::Absent => format!("does not have {name}"),
            Word::Rejected(why) => format!("refuses {name} ({why})"),
            Word::Resolved => format!("took the end of {name}"),
        }
    };
    let all: Vec<String> = words.iter().map(said).collect();
    let all = if all.is_empty() { "answers".to_owned() } else { all.join(", ") };
    format!("Alertmanager {peer} {all}")
}

fn ordered(command: &Command) -> String {
    let who = present::operator(&command.by);
    let what = match &command.order {
        Order::Failover { service, to, force, lasts, pin, .. } => {
            let force = if *force { " --force" } else { "" };
            let pin = if *pin { " --pin" } else { "" };
            let lasts = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            format!("failover of {service} to {to}{lasts}{force}{pin}")
        }
        Order::Failback { service, .. } => format!("failback of {service}"),
        Order::Pause { scope, lasts } => {
            let lasts = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            format!("pause of {scope}{lasts}")
        }
        Order::Resume { scope } => format!("resume of {scope}"),
        Order::Maintain { server, admin, lasts, force } => {
            let force = if *force { " --force" } else { "" };
            let lasts = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            format!("{admin} of {server}{lasts}{force}")
        }
        Order::TestAlert => "a test of the alerts".to_owned(),
    };
    let because = command.because.as_ref().map(|because| format!(" ({because})")).unwrap_or_default();
    format!("{who} orders: {what}{because}")
}
