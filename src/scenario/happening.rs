//! What a line says that happens, read but not yet heard: what it comes to depends on the world at that moment.

use super::cast::Cast;
use super::words::{Words, Wrong, number, one_of};
use super::{docker, order, proxy, telling};
use crate::domain::action::Outcome;
use crate::domain::command::Order;
use crate::domain::event::{ConfigSeen, ContainerSign, MailEnd, StoreHealth};
use crate::domain::id::{EngineId, Name, PeerId, ProxyId, ServerId, ServiceId};
use crate::domain::policy::{ContainerRef, Policy};
use crate::domain::time::Span;
use crate::domain::witness::{ProbeFault, ProbeOutcome};

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Happening {
    /// Supervisor begins to watch; `empty`: it has forgotten everything.
    Start { empty: bool },
    /// A probe ended, and took so long; its result comes so late. Of no server in particular: one of each.
    Probe { server: Option<ServerId>, live: bool, outcome: ProbeOutcome, took: Span, late: Span },
    /// A prober has given no result for so long.
    ProberSilent { server: ServerId, lasts: Span },
    /// Docker announces something, or nobody hears it.
    Docker { container: ContainerRef, sign: ContainerSign, heard: bool },
    /// Docker lists its containers; some of them are so from now on.
    Lists { engine: EngineId, found: Vec<(ContainerRef, docker::Found)> },
    /// The engine no longer answers.
    EngineLost(EngineId),
    /// The engine no longer remembers what was before this; none: it was started anew, and remembers nothing.
    Forgets { engine: EngineId, until: Option<Span> },
    /// The engine's containers outlive it from now on.
    LiveRestore(EngineId),
    /// What Docker knows of a container is so from now on; in the script's own words.
    Facts { container: ContainerRef, facts: docker::FactWords, words: String },
    /// An HAProxy is looked at; `anew`: another worker answers.
    Looks { proxy: ProxyId, look: proxy::Look, anew: bool },
    /// An HAProxy's sockets do not answer.
    ProxyLost(ProxyId),
    /// Its configuration was brought in, or not.
    Configured { proxy: ProxyId, config: ConfigSeen },
    /// It has taken the routes of these services; none named: all of its.
    Routed { proxy: ProxyId, services: Vec<ServiceId> },
    /// What was under way for a container ended.
    Healed { container: ContainerRef, outcome: Outcome },
    /// What was under way for a server's requests ended.
    Evacuated { server: ServerId, outcome: Outcome },
    /// A round with an Alertmanager.
    Peer { peer: PeerId, round: telling::Round },
    /// How a mail stands; without a number, the latest.
    Mail { number: Option<u64>, end: MailEnd },
    /// Somebody orders something.
    Order { by: String, because: Option<String>, order: Order },
    /// New settings.
    Reload(Box<Policy>),
    /// Whether decisions reach the disk.
    Store(StoreHealth),
    /// A deadline came.
    Wake,
    /// Somebody asks why a service is where it is.
    Explain(ServiceId),
    /// The wall clock is set, by so many milliseconds.
    Clock(i64),
}

/// What an `at` line says that happens.
pub(super) fn read(cast: &Cast, words: &mut Words<'_>) -> Result<Happening, Wrong> {
    let word = words.next("what happens")?;
    Ok(match word {
        "start" => Happening::Start { empty: words.take("empty") },
        "wake" => Happening::Wake,
        "explain" => Happening::Explain(cast.service_named(words.next("the service")?)?),
        "reload" => Happening::Reload(Box::new(cast.policy.clone())),
        "probe" => probe(cast, words, false)?,
        "live" => probe(cast, words, true)?,
        "prober" => {
            let server = cast.server(words.next("the server")?)?;
            words.expect("silent")?;
            words.expect("for")?;
            Happening::ProberSilent { server, lasts: words.span("for how long")? }
        }
        "docker" => docker::read(cast, words, cast.only_engine())?,
        "engine" => {
            let engine = cast.engine_named(words.next("the engine")?)?;
            docker::read(cast, words, Ok(engine))?
        }
        "haproxy" => {
            let proxy = cast.proxy(words)?;
            proxy::read(cast, words, proxy)?
        }
        "route" => proxy::routed(cast, words, cast.proxy(&mut Words::of(""))?)?,
        "healed" => {
            let container = cast.container_named(words.next("the container")?)?;
            Happening::Healed { container, outcome: Outcome::Done }
        }
        "heal" => {
            let end = words.next("how it ended")?;
            let container = cast.container_named(words.next("the container")?)?;
            Happening::Healed { container, outcome: outcome(end, words)? }
        }
        "evacuated" => {
            let server = cast.server(words.next("the server")?)?;
            Happening::Evacuated { server, outcome: Outcome::Done }
        }
        "evacuation" => {
            let end = words.next("how it ended")?;
            let server = cast.server(words.next("the server")?)?;
            Happening::Evacuated { server, outcome: outcome(end, words)? }
        }
        "alertmanager" => {
            let peer = cast.peer_named(words.next("the name of an Alertmanager")?)?;
            Happening::Peer { peer, round: telling::round(words)? }
        }
        "mail" => telling::mail(words)?,
        "order" => order::read(words, order::USUAL)?,
        "by" => {
            let who: Name = words.name("who orders")?;
            words.expect("order")?;
            order::read(words, who.as_str())?
        }
        "store" => {
            let health = [("durable", StoreHealth::Durable), ("degraded", StoreHealth::Degraded)];
            Happening::Store(one_of(words.next("how the disk is")?, &health)?)
        }
        word => return Err(Wrong::new(word, format!("known here: {}", super::forms::events().join(", ")))),
    })
}

/// `SERVER OUTCOME [TOOK] [late TIME]`.
fn probe(cast: &Cast, words: &mut Words<'_>, live: bool) -> Result<Happening, Wrong> {
    const FAULTS: [(&str, ProbeFault); 9] = [
        ("refused", ProbeFault::Refused),
        ("silent", ProbeFault::Silent),
        ("body", ProbeFault::Body),
        ("broken", ProbeFault::Broken),
        ("tls", ProbeFault::Tls),
        ("connect-timeout", ProbeFault::ConnectTimeout),
        ("unreachable", ProbeFault::Unreachable),
        ("dns", ProbeFault::Dns),
        ("own-resources", ProbeFault::OwnResources),
    ];
    /// As fast as a health page on the same network.
    const USUAL: Span = Span(3);
    let server = match words.next("the server")? {
        "all" => None,
        word => Some(cast.server(word)?),
    };
    let word = words.next("how it ended")?;
    let status = match word {
        "status" => Some(number(words.next("the status")?, 100..=599)?),
        _ => None,
    };
    let took = words.maybe_span()?;
    let outcome = match (word, status) {
        (_, Some(status)) => ProbeOutcome::Failed(ProbeFault::Status(status)),
        ("ok", _) => ProbeOutcome::Healthy { status: 200, took: took.unwrap_or(USUAL) },
        ("connected", _) => ProbeOutcome::Connected { took: took.unwrap_or(USUAL) },
        (word, None) => match FAULTS.iter().find(|(name, _)| *name == word) {
            Some((_, fault)) => ProbeOutcome::Failed(*fault),
            None => {
                let names: Vec<&str> = FAULTS.iter().map(|(name, _)| *name).collect();
                let known = names.join(", ");
                return Err(Wrong::new(word, format!("known here: ok, connected, status N, {known}")));
            }
        },
    };
    let late = if words.take("late") { words.span("how late")? } else { Span::ZERO };
    Ok(Happening::Probe { server, live, outcome, took: took.unwrap_or(Span::ZERO), late })
}

/// How a guarded action ended that did not end well.
fn outcome(end: &str, words: &mut Words<'_>) -> Result<Outcome, Wrong> {
    let text = |words: &mut Words<'_>| match words.text() {
        none if none.is_empty() => "no".to_owned(),
        text => text,
    };
    Ok(match end {
        "failed" => Outcome::Failed(text(words)),
        "unasked" => Outcome::NotBegun(text(words)),
        "unknown" => Outcome::Unknown(text(words)),
        "superseded" => Outcome::Superseded,
        end => return Err(Wrong::new(end, "known here: failed, unasked, unknown, superseded")),
    })
}
