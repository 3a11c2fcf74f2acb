//! Scenario scripts: what happens, and beneath each line what the core decides. The script is its own golden file.
//!
//! ```text
//! service api onprem cloud          a service with one server `<service>-<site>` per site, rise 2, fall 2
//! set failback.after 60s            or hold_down, limit, mode, startup_grace, stateful, heal.mode, heal.on_kill
//! at 0s start
//! at 0s haproxy sees api=onprem     the live map; `haproxy lost`; `haproxy restarts`
//! at 1s probe api-onprem ok         or refused, silent, status 500, body, broken, connect-timeout, unreachable, dns
//! at 0s docker lists                the engine answers, and all containers run
//! at 2s docker api-onprem died 137  or paused, unpaused, started, oom, stopped, killed 1
//! at 3s healed api-onprem           Docker has done what was wanted; or `heal failed api-onprem`
//! at 3s route                       the actuator does what is desired and confirms it
//! at 4s order failover api cloud    or `force` behind it; `order failback api`
//! at 5s wake
//!   > reason                        a reason, as its code and data
//!   ! action                        an action
//! ```
//!
//! `UPDATE=1 cargo test --test it scenario` writes what is decided into the scripts; read the diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use supervisor::domain::action::{Finished, Heal, Outcome, Target};
use supervisor::domain::command::{Command, CommandId, Operator, Order};
use supervisor::domain::event::{
    ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, Facts, Past, Probed,
    ProxyIdentity, ProxySeen, Routed,
};
use supervisor::domain::policy::{
    ContainerPolicy, ContainerRef, FailbackMode, HealLimits, HealMode, OnKill, Role, ServerPolicy,
    ServicePolicy,
};
use supervisor::domain::witness::{ProbeFault, ProbeOutcome};
use supervisor::domain::{
    Action, Boot, ContainerName, Event, Name, Now, Policy, ServerId, ServiceId, SiteId, Span, State, Wall,
    decide, explain, invariants,
};

#[test]
fn every_scenario_decides_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 12, "only {} scenarios found in tests/scenarios", paths.len());
    let mut different = Vec::new();
    for path in &paths {
        let script = std::fs::read_to_string(path).unwrap();
        let told = tell(&script).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &told).unwrap();
        } else if told != script {
            let line = told.lines().zip(script.lines()).position(|(a, b)| a != b).unwrap_or(0);
            let (now, then) = (told.lines().nth(line), script.lines().nth(line));
            different.push(format!(
                "{}:{}\n  decided: {now:?}\n  written: {then:?}",
                path.display(),
                line + 1
            ));
        }
    }
    assert!(different.is_empty(), "decided otherwise than written:\n{}", different.join("\n"));
}

/// The script with what is decided beneath each line.
fn tell(script: &str) -> Result<String, String> {
    let mut told = String::new();
    let mut world = None;
    let mut policy = empty_policy();
    for (number, line) in script.lines().enumerate() {
        let said = |problem: &str| format!("line {}: {problem}: {line:?}", number + 1);
        if line.starts_with("  > ") || line.starts_with("  ! ") {
            continue;
        }
        told.push_str(line);
        told.push('\n');
        let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        match words.as_slice() {
            [] => {}
            ["service", id, sites @ ..] => add_service(&mut policy, id, sites),
            ["set", key, value] => set(&mut policy, key, value).ok_or_else(|| said("unknown setting"))?,
            ["at", at, event @ ..] => {
                let at = span(at).ok_or_else(|| said("a time is 5s or 250ms"))?;
                let world = world.get_or_insert_with(|| World::new(policy.clone()));
                world.now = now(at);
                if let ["explain", id] = event {
                    for reason in explain(&world.state, ServiceId(name(id)), world.now) {
                        writeln!(told, "  > {}", shown(&reason)).unwrap();
                    }
                    continue;
                }
                let event = world.event(event).ok_or_else(|| said("no such event"))?;
                for line in world.step(&event) {
                    writeln!(told, "{line}").unwrap();
                }
            }
            _ => return Err(said("a line begins with service, set or at")),
        }
    }
    Ok(told)
}

struct World {
    state: State,
    now: Now,
    routes: BTreeMap<ServiceId, SiteId>,
    worker: ProxyIdentity,
    commands: u64,
    /// The last action for each container.
    heals: BTreeMap<String, Heal>,
}

impl World {
    fn new(policy: Policy) -> World {
        World {
            state: State::new(policy),
            now: now(Span(0)),
            routes: BTreeMap::new(),
            worker: ProxyIdentity { pid: 10, started: 1 },
            commands: 0,
            heals: BTreeMap::new(),
        }
    }

    fn step(&mut self, event: &Event) -> Vec<String> {
        let decision = decide(&self.state, event, self.now);
        let before = invariants::Before::of(&self.state, &decision);
        self.state.apply(&decision.changes);
        for action in &decision.actions {
            if let Action::Heal(heal) = action {
                self.heals.insert(heal.container.name.0.clone(), heal.clone());
            }
        }
        assert_eq!(invariants::check(&before, event, &decision, &self.state, self.now), []);
        let mut lines: Vec<String> =
            decision.reasons.iter().map(|reason| format!("  > {}", shown(reason))).collect();
        let loud = |action: &&Action| !matches!(action, Action::Pace { .. });
        lines.extend(decision.actions.iter().filter(loud).map(|action| format!("  ! {}", shown(action))));
        lines
    }

    fn event(&mut self, words: &[&str]) -> Option<Event> {
        let proxy = name("haproxy");
        let proxy = supervisor::domain::ProxyId(proxy);
        let at = self.now.boot;
        Some(match words {
            ["start"] => Event::Started,
            ["wake"] => Event::Woke,
            ["haproxy", "lost"] => Event::ProxyLost { proxy },
            ["haproxy", "restarts"] => {
                self.worker.pid += 1;
                self.look()
            }
            ["haproxy", "sees", routes @ ..] => {
                for route in routes {
                    let (service, site) = route.split_once('=')?;
                    self.routes.insert(ServiceId(name(service)), SiteId(name(site)));
                }
                self.look()
            }
            ["route"] => {
                let desired = self.state.desired(proxy);
                self.routes.extend(desired.routes.iter().map(|(id, route)| (*id, route.site)));
                let generations = desired.routes.iter().map(|(id, route)| (*id, route.generation)).collect();
                Event::Routed(Routed { proxy, generations, took: Span(1) })
            }
            ["probe", server, outcome @ ..] => {
                let outcome = match outcome {
                    ["ok"] => ProbeOutcome::Healthy { status: 200, took: Span(3) },
                    ["status", status] => ProbeOutcome::Failed(ProbeFault::Status(status.parse().ok()?)),
                    [fault] => ProbeOutcome::Failed(fault_named(fault)?),
                    _ => return None,
                };
                let server = self.server(server)?;
                Event::Probed(Probed { server, due: at, started: at, ended: at, outcome })
            }
            ["docker", "lists"] => {
                let engine = supervisor::domain::EngineId(name("local"));
                let seen = ContainerSeen {
                    id: String::from("c1"),
                    status: ContainerStatus::Running,
                    facts: Facts::default(),
                };
                let all = self.state.containers_of(engine);
                let containers = all.map(|container| (container.name.clone(), seen.clone())).collect();
                Event::Containers(ContainerList { engine, at, containers, past: Past::default() })
            }
            ["healed", container] => self.healed(container, Outcome::Done)?,
            ["heal", "failed", container] => self.healed(container, Outcome::Failed("no".into()))?,
            ["docker", container, sign @ ..] => {
                let number = |text: &str| text.parse().ok();
                let sign = match sign {
                    ["died", exit] => ContainerSign::Died { exit: number(exit) },
                    ["killed", signal] => ContainerSign::Killed { signal: number(signal) },
                    ["paused"] => ContainerSign::Paused,
                    ["unpaused"] => ContainerSign::Unpaused,
                    ["started"] => ContainerSign::Started,
                    ["stopped"] => ContainerSign::Stopped,
                    ["oom"] => ContainerSign::OutOfMemory,
                    _ => return None,
                };
                let engine = supervisor::domain::EngineId(name("local"));
                let id = String::from("c1");
                Event::Container(ContainerEvent {
                    engine,
                    name: ContainerName((*container).into()),
                    id,
                    at,
                    nanoseconds: 0,
                    sign,
                })
            }
            ["order", order @ ..] => {
                let failover = |service: &str, to: &str, force| {
                    let (service, to) = (ServiceId(name(service)), SiteId(name(to)));
                    Order::Failover { service, to, force, seen: None, lasts: None, pin: false }
                };
                let order = match order {
                    ["failover", service, to] => failover(service, to, false),
                    ["failover", service, to, "force"] => failover(service, to, true),
                    ["failback", service] => {
                        Order::Failback { service: ServiceId(name(service)), seen: None }
                    }
                    _ => return None,
                };
                self.commands += 1;
                let by = Operator { uid: 1000, pid: None, name: Some("ada".into()) };
                Event::Commanded(Command { id: CommandId(self.commands), by, because: None, order })
            }
            _ => return None,
        })
    }

    /// The end of what is under way for a container.
    fn healed(&self, container: &str, outcome: Outcome) -> Option<Event> {
        let Heal { id, container, deed, .. } = self.heals.get(container)?.clone();
        let of = Target::Container { container, deed };
        Some(Event::Finished(Finished { action: id, of, outcome }))
    }

    fn look(&self) -> Event {
        Event::Proxy(ProxySeen {
            proxy: supervisor::domain::ProxyId(name("haproxy")),
            at: self.now.boot,
            identity: self.worker,
            owner: Some("us".into()),
            ours: true,
            routes: self.routes.clone(),
            checks: BTreeMap::new(),
            serving: BTreeMap::new(),
        })
    }

    /// Server names are unique in these scripts.
    fn server(&self, server: &str) -> Option<ServerId> {
        let server = name(server);
        let has = |(_, service): &(&ServiceId, &ServicePolicy)| service.servers.contains_key(&server);
        let (service, _) = self.state.policy.services.iter().find(has)?;
        Some(ServerId { service: *service, server })
    }
}

fn fault_named(word: &str) -> Option<ProbeFault> {
    Some(match word {
        "refused" => ProbeFault::Refused,
        "silent" => ProbeFault::Silent,
        "body" => ProbeFault::Body,
        "broken" => ProbeFault::Broken,
        "tls" => ProbeFault::Tls,
        "connect-timeout" => ProbeFault::ConnectTimeout,
        "unreachable" => ProbeFault::Unreachable,
        "dns" => ProbeFault::Dns,
        "own-resources" => ProbeFault::OwnResources,
        _ => return None,
    })
}

fn empty_policy() -> Policy {
    Policy {
        proxies: [supervisor::domain::ProxyId(name("haproxy"))].into(),
        engines: [supervisor::domain::EngineId(name("local"))].into(),
        startup_grace: Span::seconds(5),
        lateness: Span::seconds(2),
        heal: HealLimits {
            restarts: 5,
            site_restarts: 20,
            window: Span::seconds(600),
            backoff_first: Span::seconds(1),
            backoff_longest: Span::seconds(60),
            slow_retry: Span::seconds(300),
        },
        ..Policy::default()
    }
}

fn add_service(policy: &mut Policy, id: &str, sites: &[&str]) {
    let engine = supervisor::domain::EngineId(name("local"));
    let servers = sites.iter().map(|site| {
        let server = format!("{id}-{site}");
        let container = Some(ContainerRef { engine, name: ContainerName(server.clone()) });
        (name(&server), ServerPolicy { container, ..ServerPolicy::at(SiteId(name(site))) })
    });
    let prefer = sites.iter().map(|site| SiteId(name(site))).collect();
    let service = ServicePolicy::of(policy.proxies.clone(), prefer, servers.collect());
    for server in service.servers.values() {
        let container = ContainerPolicy {
            heal: None,
            on_kill: OnKill::Respect,
            site: Some(server.site),
            grace: Span::seconds(30),
            role: Role::Servers,
        };
        policy.containers.extend(server.container.clone().map(|known| (known, container)));
    }
    policy.services.insert(ServiceId(name(id)), service);
}

fn set(policy: &mut Policy, key: &str, value: &str) -> Option<()> {
    if let Some(key) = key.strip_prefix("heal.") {
        for container in policy.containers.values_mut() {
            match (key, value) {
                ("mode", "always") => container.heal = Some(HealMode::Always),
                ("mode", "notify") => container.heal = Some(HealMode::Notify),
                ("on_kill", "heal") => container.on_kill = OnKill::Heal,
                _ => return None,
            }
        }
        return Some(());
    }
    if key == "startup_grace" {
        policy.startup_grace = span(value)?;
        return Some(());
    }
    for service in policy.services.values_mut() {
        match key {
            "failback.after" => service.failback.after = span(value)?,
            "failback.hold_down" => service.failback.hold_down = span(value)?,
            "failback.limit" => service.failback.limit = value.parse().ok()?,
            "failback.mode" if value == "manual" => service.failback.mode = FailbackMode::Manual,
            "stateful" => service.stateful = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(())
}

fn name(text: &str) -> Name {
    text.parse().unwrap_or_else(|problem| panic!("{text:?}: {problem}"))
}

fn span(text: &str) -> Option<Span> {
    match text.strip_suffix("ms") {
        Some(number) => number.parse().ok().map(Span),
        None => {
            text.strip_suffix('s')?.parse::<f64>().ok().map(|seconds| Span((seconds * 1000.0).round() as u64))
        }
    }
}

fn now(at: Span) -> Now {
    let ms = i64::try_from(at.0).unwrap();
    Now { boot: Boot(1_000_000 + ms), wall: Wall(1_000_000 + ms) }
}

/// A reason or action as `code key=value …`: short enough to read, complete enough to be golden.
fn shown<T: serde::Serialize>(thing: &T) -> String {
    let value = serde_json::to_value(thing).unwrap();
    let mut flat = String::new();
    flatten(&value, "", &mut flat);
    flat.trim().to_owned()
}

fn flatten(value: &serde_json::Value, key: &str, into: &mut String) {
    use serde_json::Value;
    match value {
        Value::Object(fields) => {
            if !key.is_empty() {
                write!(into, " {key}:").unwrap();
            }
            if let Some(code) = fields.get("code").and_then(Value::as_str) {
                write!(into, " {code}").unwrap();
            }
            for (name, value) in fields.iter().filter(|(name, _)| *name != "code") {
                flatten(value, name, into);
            }
        }
        Value::Null => {}
        Value::String(text) if key.is_empty() => into.push_str(text),
        Value::String(text) => write!(into, " {key}={text}").unwrap(),
        other => write!(into, " {key}={other}").unwrap(),
    }
}
