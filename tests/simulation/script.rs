//! What one process of supervisor heard in a world, as a script of scenarios (docs/scenarios.md): what a bug of the core needs
//! is then a file that people read and that needs no simulation.

use crate::plan::{Cast, Quirk, SERVICES, SITES, engine_id, peer_id, proxy_id, server_name};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use supervisor::domain::action::{Deed, Outcome, Target};
use supervisor::domain::command::Order;
use supervisor::domain::event::{
    ContainerSeen, ContainerSign, ContainerStatus, DockersCheck, DockersPolicy, MailEnd, PeerResult,
    StoreHealth,
};
use supervisor::domain::maintenance::Admin;
use supervisor::domain::witness::{ProbeFault, ProbeOutcome};
use supervisor::domain::{Boot, ContainerName, Event, ProxyId, Span};
use supervisor::scenario::Script;

/// A script is read by a person.
const LINES_MAX: usize = 400;

/// What was heard, when.
pub(crate) type Heard = Vec<(Boot, Event)>;

/// The script of what was heard, or why there is none.
pub(crate) fn script(cast: &Cast, title: &str, heard: &Heard) -> Result<String, String> {
    if heard.len() > LINES_MAX * 20 {
        return Err(format!("{} events are too many to read", heard.len()));
    }
    let mut writing = Writing { cast, text: String::new(), pids: BTreeMap::new() };
    let _ = writeln!(writing.text, "# {title}");
    writing.cast_lines();
    let first = heard.first().map_or(Boot(0), |(at, _)| *at);
    for (at, event) in heard {
        let lines = writing.lines(event)?;
        for line in lines {
            let _ = writeln!(writing.text, "at {} {line}", time(at.since(first)));
        }
    }
    let lines = writing.text.lines().count();
    if lines > LINES_MAX {
        return Err(format!("{lines} lines are too many to read"));
    }
    match Script::parse(&writing.text) {
        Ok(_) => Ok(writing.text),
        Err(problems) => Err(format!("{problems:?}")),
    }
}

struct Writing<'a> {
    cast: &'a Cast,
    text: String,
    pids: BTreeMap<ProxyId, u32>,
}

fn time(span: Span) -> String {
    let (seconds, ms) = (span.0 / 1_000, span.0 % 1_000);
    if ms == 0 { format!("{seconds}s") } else { format!("{seconds}.{ms:03}s") }
}

impl Writing<'_> {
    fn cast_lines(&mut self) {
        let mut lines = Vec::new();
        let proxies: Vec<String> =
            (0..self.cast.proxies).map(|number| proxy_id(number).to_string()).collect();
        lines.push(format!("proxies {}", proxies.join(" ")));
        for engine in 0..self.cast.engine_count() {
            let sites = (0..self.cast.site_count()).filter(|site| self.cast.engine_of(*site) == engine);
            let sites: Vec<&str> = sites.map(|site| SITES[site]).collect();
            lines.push(format!("engine {} at {}", engine_id(engine), sites.join(" ")));
        }
        for (service, pools) in self.cast.services.iter().enumerate() {
            let sites = pools.iter().enumerate().map(|(site, count)| match count {
                1 => SITES[site].to_owned(),
                many => format!("{}*{many}", SITES[site]),
            });
            lines.push(format!("service {} {}", SERVICES[service], sites.collect::<Vec<_>>().join(" ")));
        }
        let peers: Vec<String> = (0..self.cast.peers).map(|number| peer_id(number).to_string()).collect();
        if !peers.is_empty() {
            lines.push(format!("alertmanagers {}", peers.join(" ")));
        }
        if self.cast.relays > 0 {
            lines.push("set mail true".to_owned());
        }
        let [after, hold_down, limit, window] = self.cast.failback;
        lines.push(format!("set failback.after {after}s"));
        lines.push(format!("set failback.hold_down {hold_down}s"));
        lines.push(format!("set failback.limit {limit}"));
        lines.push(format!("set failback.limit_window {window}s"));
        for quirk in &self.cast.quirks {
            lines.extend(self.quirk(*quirk).into_iter().map(str::to_owned));
        }
        let servers = self.cast.servers();
        for (number, (service, site, of)) in servers.into_iter().enumerate() {
            let restart = match self.cast.restart[number % self.cast.restart.len()] {
                DockersPolicy::No => continue,
                DockersPolicy::Always => "always",
                DockersPolicy::UnlessStopped => "unless-stopped",
                DockersPolicy::OnFailure { .. } => "on-failure:3",
            };
            lines.push(format!("container {} restart={restart}", self.name(&server_name(service, site, of))));
        }
        for line in lines {
            let _ = writeln!(self.text, "{line}");
        }
    }

    fn quirk(&self, quirk: Quirk) -> Vec<&'static str> {
        match quirk {
            Quirk::Stateful => vec!["set stateful true for api"],
            Quirk::Group => vec!["set group pair for api", "set group pair for shop"],
            Quirk::Thin => vec!["set min_servers 2", "set thin_grace 10s"],
            Quirk::HealKills => vec!["set heal.on_kill heal"],
            Quirk::HealAlways => vec!["set heal.mode always"],
            Quirk::Notify => vec!["set heal.mode notify for api-onprem"],
            Quirk::AllDownFirst => vec!["set all_down first"],
            Quirk::Flapping => vec!["set flapping 3/60s"],
            Quirk::Strain => vec!["set ready.slow_after 500ms", "set ready.strain 3/5s"],
            Quirk::Manual => vec!["set failback.mode manual for api"],
            Quirk::SmallBudget => vec!["set heal.restarts 2", "set heal.site_restarts 4"],
            Quirk::LiveRestore | Quirk::Checks => Vec::new(),
        }
    }

    /// A pool of two has numbers in the language, and its first server has none here.
    fn name(&self, name: &str) -> String {
        for (service, site, number) in self.cast.servers() {
            if number == 0 && self.cast.services[service][site] > 1 && name == server_name(service, site, 0) {
                return format!("{name}-1");
            }
        }
        name.to_owned()
    }

    fn lines(&mut self, event: &Event) -> Result<Vec<String>, String> {
        Ok(match event {
            Event::Started => vec!["start".to_owned()],
            Event::Woke => vec!["wake".to_owned()],
            Event::Probed(probed) => {
                let server = self.name(probed.server.server.as_str());
                vec![format!("probe {server} {}", outcome(probed.outcome))]
            }
            Event::Lived(probed) => {
                let server = self.name(probed.server.server.as_str());
                vec![format!("live {server} {}", outcome(probed.outcome))]
            }
            Event::ProberSilent { server, .. } => {
                vec![format!("prober {} silent for 12s", self.name(server.server.as_str()))]
            }
            Event::Container(event) => {
                let container = self.name(&event.name.0);
                vec![format!("engine {} {container} {}", event.engine, sign(event.sign))]
            }
            Event::Containers(list) => {
                let shown = |(name, seen): (&ContainerName, &ContainerSeen)| {
                    format!(" {}={}", self.name(&name.0), status(seen.status))
                };
                let all: String = list.containers.iter().map(shown).collect();
                vec![format!("engine {} lists{all}", list.engine)]
            }
            Event::EngineLost { engine, .. } => vec![format!("engine {engine} lost")],
            Event::Proxy(seen) => {
                let proxy = seen.proxy;
                let routes: String =
                    seen.routes.iter().map(|(service, site)| format!(" {service}={site}")).collect();
                let owner = if seen.ours { "us" } else { "somebody" };
                let other =
                    self.pids.insert(proxy, seen.identity.pid).is_some_and(|pid| pid != seen.identity.pid);
                match (seen.ours, other) {
                    (false, _) => vec![format!("haproxy {proxy} belongs to {owner}")],
                    (true, true) => vec![format!("haproxy {proxy} restarts{routes}")],
                    (true, false) => vec![format!("haproxy {proxy} sees{routes}")],
                }
            }
            Event::ProxyLost { proxy } => vec![format!("haproxy {proxy} lost")],
            Event::Configured(configured) => vec![format!("haproxy {} config loaded a", configured.proxy)],
            Event::Routed(routed) => {
                let services: String =
                    routed.generations.keys().map(|service| format!(" {service}")).collect();
                vec![format!("haproxy {} routes{services}", routed.proxy)]
            }
            Event::Finished(end) => match (&end.of, &end.outcome) {
                (Target::Server(server), outcome) => {
                    let server = self.name(server.server.as_str());
                    vec![match outcome {
                        Outcome::Done => format!("evacuated {server}"),
                        Outcome::Superseded => format!("evacuation superseded {server}"),
                        Outcome::Failed(words) | Outcome::NotBegun(words) | Outcome::Unknown(words) => {
                            format!("evacuation failed {server} {words}")
                        }
                    }]
                }
                (Target::Container { container, deed: Deed::Start | Deed::Restart { .. } }, outcome) => {
                    let container = self.name(&container.name.0);
                    vec![match outcome {
                        Outcome::Done => format!("healed {container}"),
                        Outcome::Superseded => format!("heal superseded {container}"),
                        Outcome::Failed(words) => format!("heal failed {container} {words}"),
                        Outcome::NotBegun(words) => format!("heal unasked {container} {words}"),
                        Outcome::Unknown(_) => format!("heal unknown {container}"),
                    }]
                }
            },
            Event::Peer(seen) => vec![match &seen.result {
                PeerResult::Answered(_) => format!("alertmanager {} answers", seen.peer),
                PeerResult::Failed(words) => format!("alertmanager {} fails {words}", seen.peer),
            }],
            Event::Mailed(mailed) => vec![match &mailed.end {
                MailEnd::Accepted { recipients } => {
                    format!("mail {} accepted {recipients}", mailed.mail.id.0)
                }
                MailEnd::Deferred { words } => format!("mail {} deferred {words}", mailed.mail.id.0),
                MailEnd::Dead { words, reached: false } => format!("mail {} dead {words}", mailed.mail.id.0),
                MailEnd::Dead { words, reached: true } => {
                    format!("mail {} partly dead {words}", mailed.mail.id.0)
                }
                MailEnd::NotNeeded => format!("mail {} unneeded", mailed.mail.id.0),
            }],
            Event::Commanded(command) => {
                let by = command.by.name.clone().unwrap_or_default();
                vec![format!("by {by} order {}", self.order(&command.order))]
            }
            Event::Store(StoreHealth::Degraded) => vec!["store degraded".to_owned()],
            Event::Store(StoreHealth::Durable) => vec!["store durable".to_owned()],
            Event::PolicyChanged(_) => return Err("new settings have no line".to_owned()),
            Event::WentBack(_) => return Err("an order about a configuration has no line".to_owned()),
            Event::Breached { .. } => Vec::new(),
        })
    }

    fn order(&self, order: &Order) -> String {
        let lasting =
            |lasts: &Option<Span>| lasts.map_or(String::new(), |lasts| format!(" for {}", time(lasts)));
        match order {
            Order::Failover { service, to, force, lasts, pin, .. } => {
                let force = if *force { " force" } else { "" };
                let pin = if *pin { " pin" } else { "" };
                format!("failover {service} {to}{force}{pin}{}", lasting(lasts))
            }
            Order::Failback { service, .. } => format!("failback {service}"),
            Order::Pause { scope, lasts } => format!("pause {scope}{}", lasting(lasts)),
            Order::Resume { scope } => format!("resume {scope}"),
            Order::Maintain { server, admin, lasts, force } => {
                let (word, force) = (admin, if *force { " force" } else { "" });
                let name = self.name(server.server.as_str());
                let rest =
                    if *admin == Admin::Ready { String::new() } else { format!("{force}{}", lasting(lasts)) };
                format!("{word} {}/{name}{rest}", server.service)
            }
            Order::TestAlert => "test alert".to_owned(),
        }
    }
}

fn outcome(outcome: ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Healthy { took, .. } => format!("ok {}ms", took.0),
        ProbeOutcome::Connected { .. } => "connected".to_owned(),
        ProbeOutcome::Failed(fault) => match fault {
            ProbeFault::Status(code) => format!("status {code}"),
            ProbeFault::Refused => "refused".to_owned(),
            ProbeFault::Silent => "silent 1s".to_owned(),
            ProbeFault::Body => "body".to_owned(),
            ProbeFault::Broken => "broken".to_owned(),
            ProbeFault::Tls => "tls".to_owned(),
            ProbeFault::ConnectTimeout => "connect-timeout 1s".to_owned(),
            ProbeFault::Unreachable => "unreachable".to_owned(),
            ProbeFault::Dns => "dns".to_owned(),
            ProbeFault::OwnResources => "own-resources".to_owned(),
        },
    }
}

fn sign(sign: ContainerSign) -> String {
    let number = |number: Option<i32>| number.map_or(String::new(), |number| format!(" {number}"));
    match sign {
        ContainerSign::Started => "started".to_owned(),
        ContainerSign::Died { exit } => format!("died{}", number(exit)),
        ContainerSign::OutOfMemory => "oom".to_owned(),
        ContainerSign::Killed { signal } => format!("killed{}", number(signal)),
        ContainerSign::Stopped => "stopped".to_owned(),
        ContainerSign::Paused => "paused".to_owned(),
        ContainerSign::Unpaused => "unpaused".to_owned(),
        ContainerSign::Destroyed => "destroyed".to_owned(),
        ContainerSign::Checked(DockersCheck::Starting) => "check starting".to_owned(),
        ContainerSign::Checked(DockersCheck::Healthy) => "check healthy".to_owned(),
        ContainerSign::Checked(DockersCheck::Unhealthy) => "check unhealthy".to_owned(),
    }
}

fn status(status: ContainerStatus) -> String {
    match status {
        ContainerStatus::Running => "running".to_owned(),
        ContainerStatus::Paused => "paused".to_owned(),
        ContainerStatus::Restarting => "restarting".to_owned(),
        ContainerStatus::Created => "created".to_owned(),
        ContainerStatus::Exited { exit: Some(exit), oom: true } => format!("exited:{exit}:oom"),
        ContainerStatus::Exited { exit: Some(exit), oom: false } => format!("exited:{exit}"),
        ContainerStatus::Exited { exit: None, .. } | ContainerStatus::Dead => "dead".to_owned(),
        ContainerStatus::Unknown => "dead".to_owned(),
    }
}
