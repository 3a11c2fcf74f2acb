//! `set KEY VALUE [for NAME]`: the settings that the core hears of, by the names that they have in the file of settings.

use super::cast::Cast;
use super::words::{Words, Wrong, name, number, one_of, span};
use crate::domain::damping::Damper;
use crate::domain::id::{ContainerName, Name, ProxyId, SiteId};
use crate::domain::policy::{
    AllDown, ContainerPolicy, FailbackMode, HealMode, OnKill, Policy, Role, ServerPolicy, ServicePolicy,
};
use crate::domain::repair::STARTS_MAX;
use crate::domain::state::FAILBACKS_MAX;
use crate::domain::time::Span;
use crate::domain::window::{Hours, Window, Zone};
use std::collections::BTreeSet;

/// One key.
pub(super) struct Key {
    pub(super) key: &'static str,
    /// What its values are.
    pub(super) value: &'static str,
    /// What holds where a script says nothing.
    pub(super) usual: &'static str,
    pub(super) says: &'static str,
    pub(super) example: &'static str,
    apply: Apply,
}

/// What a key is about, and what its value does there.
#[derive(Clone, Copy)]
enum Apply {
    /// Everything: no name can follow.
    All(fn(&mut Policy, &str) -> Result<(), Wrong>),
    Service(fn(&mut ServicePolicy, &str) -> Result<(), Wrong>),
    Server(fn(&mut ServerPolicy, &str) -> Result<(), Wrong>),
    Container(fn(&mut ContainerPolicy, &str) -> Result<(), Wrong>),
    /// The sites of a service in another order.
    Prefer,
    /// The HAProxy instances that route a service.
    Proxies,
    /// The container that a server runs in.
    Runs,
}

const fn key([key, value, usual, example]: [&'static str; 4], says: &'static str, apply: Apply) -> Key {
    Key { key, value, usual, says, example, apply }
}

const RESTARTS_MAX: u16 = STARTS_MAX as u16 / 2;
const LIMIT_MAX: u16 = FAILBACKS_MAX as u16;

/// Every key, in the order in which people read about them.
pub(super) const KEYS: [Key; 36] = [
    key(
        ["prefer", "SITE,SITE", "as in `service`", "set prefer cloud,onprem for api"],
        "the sites of a service, best first",
        Apply::Prefer,
    ),
    key(
        ["stateful", "true, false", "false", "set stateful true for api"],
        "only a person moves it",
        Apply::Service(|service, word| put(&mut service.stateful, truth(word))),
    ),
    key(
        ["group", "NAME, none", "none", "set group shop for api"],
        "services of the same group move together",
        Apply::Service(|service, word| {
            put(&mut service.group, if word == "none" { Ok(None) } else { name(word).map(Some) })
        }),
    ),
    key(
        ["min_servers", "1 to 1000", "1", "set min_servers 2 for api"],
        "a site is healthy from so many servers up",
        Apply::Service(|service, word| put(&mut service.min_servers, number(word, 1..=1000))),
    ),
    key(
        ["thin_grace", "TIME", "0s", "set thin_grace 10s"],
        "so long a site may have fewer before traffic looks for a better one",
        Apply::Service(|service, word| put(&mut service.thin_grace, span(word))),
    ),
    key(
        ["slow_start", "TIME", "0s", "set slow_start 30s"],
        "a site is not returned to before its servers have their whole share",
        Apply::Service(|service, word| put(&mut service.slow_start, span(word))),
    ),
    key(
        ["flapping", "FALLS/TIME, off", "off", "set flapping 3/5m"],
        "not trusted from that fall on; forgotten with this half-life",
        Apply::Service(|service, word| put(&mut service.flapping, damper(word))),
    ),
    key(
        ["all_down", "keep, first", "keep", "set all_down first"],
        "where traffic is when every site is down",
        Apply::Service(|service, word| {
            put(&mut service.all_down, one_of(word, &[("keep", AllDown::Keep), ("first", AllDown::First)]))
        }),
    ),
    key(
        ["failback.hours", "FROM-TO,FROM-TO", "any", "set failback.hours 02:00-05:00"],
        "traffic returns in these hours only (UTC); a script begins at 00:16 on 1 January 1970",
        Apply::Service(|service, word| {
            if word == "any" {
                return put(&mut service.failback.mode, Ok(FailbackMode::Auto));
            }
            let windows: Result<Vec<Window>, Wrong> = word
                .split(',')
                .map(|window| window.parse().map_err(|error: String| Wrong::new(word, error)))
                .collect();
            let hours = windows.map(|windows| FailbackMode::Hours(Hours { windows, zone: Zone::utc() }));
            put(&mut service.failback.mode, hours)
        }),
    ),
    key(
        ["failback.mode", "auto, manual", "auto", "set failback.mode manual"],
        "who decides about a return: supervisor, or a person",
        Apply::Service(|service, word| {
            let modes = [("auto", FailbackMode::Auto), ("manual", FailbackMode::Manual)];
            let known = modes.iter().map(|(word, _)| (*word, *word)).collect::<Vec<_>>();
            let found = one_of(word, &known)?;
            let mode = modes.into_iter().find(|(word, _)| *word == found).map(|(_, mode)| mode);
            put(&mut service.failback.mode, mode.ok_or_else(|| Wrong::new(word, "auto or manual")))
        }),
    ),
    key(
        ["failback.after", "TIME", "60s", "set failback.after 10s for api"],
        "so long the better site must have been healthy",
        Apply::Service(|service, word| put(&mut service.failback.after, span(word))),
    ),
    key(
        ["failback.hold_down", "TIME", "5m", "set failback.hold_down 20s"],
        "no return for so long after an escape",
        Apply::Service(|service, word| put(&mut service.failback.hold_down, span(word))),
    ),
    key(
        ["failback.limit", "1 to 32", "2", "set failback.limit 1"],
        "so many returns within the window",
        Apply::Service(|service, word| put(&mut service.failback.limit, number(word, 1..=LIMIT_MAX))),
    ),
    key(
        ["failback.limit_window", "TIME", "10m", "set failback.limit_window 5m"],
        "that window",
        Apply::Service(|service, word| put(&mut service.failback.limit_window, lasting(word))),
    ),
    key(
        ["proxies", "NAME,NAME", "all", "set proxies haproxy for api"],
        "the HAProxy instances that route a service",
        Apply::Proxies,
    ),
    key(
        ["check_age", "TIME", "2s", "set check_age 4s"],
        "interval plus timeout of HAProxy's own check: so long it may contradict us",
        Apply::Service(|service, word| put(&mut service.check_age, span(word))),
    ),
    key(
        ["ready.rise", "1 to 100", "2", "set ready.rise 3 for cloud"],
        "good probes in a row until a server is up",
        Apply::Server(|server, word| put(&mut server.rise, number(word, 1..=100))),
    ),
    key(
        ["ready.fall", "1 to 100", "2", "set ready.fall 3 for api-cloud"],
        "bad probes in a row until it is down",
        Apply::Server(|server, word| put(&mut server.fall, number(word, 1..=100))),
    ),
    key(
        ["ready.slow_after", "TIME, never", "never", "set ready.slow_after 500ms"],
        "a good answer that takes longer is slow",
        Apply::Server(|server, word| {
            put(&mut server.slow_after, if word == "never" { Ok(None) } else { span(word).map(Some) })
        }),
    ),
    key(
        ["ready.strain", "TIMES/TIME, off", "off", "set ready.strain 3/5s"],
        "degraded from so many slow or bad answers on; forgotten with this half-life",
        Apply::Server(|server, word| put(&mut server.strain, damper(word))),
    ),
    key(
        ["live.fall", "1 to 100", "3", "set live.fall 2"],
        "bad `live` probes in a row until it counts as dead",
        Apply::Server(|server, word| put(&mut server.live_fall, number(word, 1..=100))),
    ),
    key(
        ["container", "NAME, none", "the server's name", "set container none for api-cloud"],
        "the container that a server runs in",
        Apply::Runs,
    ),
    key(
        ["heal.mode", "auto, always, notify, never, label", "label", "set heal.mode notify for api-onprem"],
        "what is started again; `label`: as the container's label says, else `auto`",
        Apply::Container(|container, word| {
            let modes = [
                ("label", None),
                ("auto", Some(HealMode::Auto)),
                ("always", Some(HealMode::Always)),
                ("notify", Some(HealMode::Notify)),
                ("never", Some(HealMode::Never)),
            ];
            put(&mut container.heal, one_of(word, &modes))
        }),
    ),
    key(
        ["heal.on_kill", "respect, heal", "respect", "set heal.on_kill heal"],
        "what a bare `docker kill` means: a person's wish, or a crash",
        Apply::Container(|container, word| {
            let kinds = [("respect", OnKill::Respect), ("heal", OnKill::Heal)];
            put(&mut container.on_kill, one_of(word, &kinds))
        }),
    ),
    key(
        ["heal.grace", "TIME", "30s", "set heal.grace 10s"],
        "so long after its start a container is not restarted",
        Apply::Container(|container, word| put(&mut container.grace, span(word))),
    ),
    key(
        ["heal.restarts", "1 to 32", "5", "set heal.restarts 3"],
        "so many starts of one container within the window",
        Apply::All(|policy, word| put(&mut policy.heal.restarts, number(word, 1..=RESTARTS_MAX))),
    ),
    key(
        ["heal.site_restarts", "1 to 1000", "20", "set heal.site_restarts 2"],
        "so many starts at one site within the window",
        Apply::All(|policy, word| put(&mut policy.heal.site_restarts, number(word, 1..=1000))),
    ),
    key(
        ["heal.window", "TIME", "10m", "set heal.window 5m"],
        "that window",
        Apply::All(|policy, word| put(&mut policy.heal.window, lasting(word))),
    ),
    key(
        ["heal.slow_retry", "TIME", "5m", "set heal.slow_retry 1m"],
        "from one try to the next when the starts are used up",
        Apply::All(|policy, word| put(&mut policy.heal.slow_retry, lasting(word))),
    ),
    key(
        ["heal.backoff_first", "TIME", "1s", "set heal.backoff_first 2s"],
        "the pause before the second start in a row, doubled each time",
        Apply::All(|policy, word| put(&mut policy.heal.backoff_first, lasting(word))),
    ),
    key(
        ["heal.backoff_longest", "TIME", "1m", "set heal.backoff_longest 30s"],
        "the longest such pause",
        Apply::All(|policy, word| put(&mut policy.heal.backoff_longest, lasting(word))),
    ),
    key(
        ["startup_grace", "TIME", "5s", "set startup_grace 10s"],
        "so long after a start, silence moves nothing",
        Apply::All(|policy, word| put(&mut policy.startup_grace, span(word))),
    ),
    key(
        ["lateness", "TIME", "2s", "set lateness 1s"],
        "what comes later than this says nothing",
        Apply::All(|policy, word| put(&mut policy.lateness, span(word))),
    ),
    key(
        ["mail", "true, false", "false", "set mail true"],
        "there is somebody to mail to",
        Apply::All(|policy, word| put(&mut policy.alerts.direct, truth(word))),
    ),
    key(
        ["alerts.fallback_after", "TIME", "60s", "set alerts.fallback_after 30s"],
        "so long after an incident began no Alertmanager must have it before it is mailed",
        Apply::All(|policy, word| put(&mut policy.alerts.fallback_after, span(word))),
    ),
    key(
        ["alerts.notify_grace", "TIME", "90s", "set alerts.notify_grace 30s"],
        "so long an Alertmanager must have had it before it counts as told",
        Apply::All(|policy, word| put(&mut policy.alerts.notify_grace, span(word))),
    ),
];

/// `KEY VALUE [for NAME]`.
pub(super) fn set(cast: &mut Cast, words: &mut Words<'_>) -> Result<(), Wrong> {
    let word = words.next("the key")?;
    let Some(key) = KEYS.iter().find(|key| key.key == word) else {
        let all: Vec<&str> = KEYS.iter().map(|key| key.key).collect();
        return Err(Wrong::new(word, format!("no key has this name; known: {}", all.join(", "))));
    };
    let value = words.next("its value")?;
    let about = match words.take("for") {
        true => Some(words.next("the name that it is set for")?),
        false => None,
    };
    if let (Apply::All(_), Some(about)) = (key.apply, about) {
        return Err(Wrong::new(about, format!("{word} is the same for all")));
    }
    let touched = match key.apply {
        Apply::All(apply) => apply(&mut cast.policy, value).map(|()| 1)?,
        Apply::Container(apply) => set_containers(cast, about, |container| apply(container, value))?,
        Apply::Server(apply) => set_servers(cast, about, |server| apply(server, value))?,
        Apply::Service(apply) => set_services(cast, about, |service| apply(service, value))?,
        Apply::Prefer => {
            let wanted = list::<SiteId>(value)?;
            set_services(cast, about, |service| prefer(service, &wanted, value))?
        }
        Apply::Proxies => {
            let wanted: BTreeSet<ProxyId> = list::<ProxyId>(value)?.into_iter().collect();
            if !wanted.is_subset(&cast.policy.proxies) {
                return Err(Wrong::new(value, "not all of these are HAProxy instances of the script"));
            }
            set_services(cast, about, |service| put(&mut service.proxies, Ok(wanted.clone())))?
        }
        Apply::Runs => runs_in(cast, about, value)?,
    };
    match (touched, about) {
        (1.., _) => Ok(()),
        (0, Some(about)) => Err(Wrong::unknown(about, "nothing that this could be set for has this name")),
        (0, None) => Err(Wrong::unknown(word, "there is nothing yet to set this for: `service` comes first")),
    }
}

fn set_services(
    cast: &mut Cast,
    about: Option<&str>,
    mut apply: impl FnMut(&mut ServicePolicy) -> Result<(), Wrong>,
) -> Result<usize, Wrong> {
    let mut touched = 0;
    for (id, service) in &mut cast.policy.services {
        if about.is_none_or(|about| id.as_str() == about) {
            apply(service)?;
            touched += 1;
        }
    }
    Ok(touched)
}

/// Servers of all, of a service, at a site, or one.
fn set_servers(
    cast: &mut Cast,
    about: Option<&str>,
    mut apply: impl FnMut(&mut ServerPolicy) -> Result<(), Wrong>,
) -> Result<usize, Wrong> {
    let mut touched = 0;
    for (id, service) in &mut cast.policy.services {
        for (server, policy) in service.servers.iter_mut() {
            let named = |about| [id.as_str(), server.as_str(), policy.site.as_str()].contains(&about);
            if about.is_none_or(named) {
                apply(policy)?;
                touched += 1;
            }
        }
    }
    Ok(touched)
}

/// Containers of all, of a service, at a site, or one.
fn set_containers(
    cast: &mut Cast,
    about: Option<&str>,
    mut apply: impl FnMut(&mut ContainerPolicy) -> Result<(), Wrong>,
) -> Result<usize, Wrong> {
    let mut touched = 0;
    let services = &cast.policy.services;
    for (container, policy) in &mut cast.policy.containers {
        let serves = |about: &str| {
            let mut of_service = services.iter().filter(|(id, _)| id.as_str() == about);
            of_service.any(|(_, service)| {
                service.servers.values().any(|server| server.container.as_ref() == Some(container))
            })
        };
        let at = policy.site;
        let named = |about: &str| {
            container.name.0 == about || at.is_some_and(|site| site.as_str() == about) || serves(about)
        };
        if about.is_none_or(named) {
            apply(policy)?;
            touched += 1;
        }
    }
    Ok(touched)
}

fn prefer(service: &mut ServicePolicy, wanted: &[SiteId], word: &str) -> Result<(), Wrong> {
    let same = |one: &[SiteId], other: &[SiteId]| one.iter().all(|site| other.contains(site));
    if wanted.len() != service.prefer.len()
        || !same(wanted, &service.prefer)
        || !same(&service.prefer, wanted)
    {
        return Err(Wrong::new(word, "these are not the sites of the service; `service` says which it has"));
    }
    service.prefer = wanted.to_vec();
    Ok(())
}

fn runs_in(cast: &mut Cast, about: Option<&str>, value: &str) -> Result<usize, Wrong> {
    let of_server = |about: &str| cast.server(about).ok();
    let Some(server) = about.and_then(of_server) else {
        return Err(Wrong::unknown(about.unwrap_or(value), "a server's name is expected: `for api-cloud`"));
    };
    let Some(site) = cast.policy.server(server).map(|server| server.site) else { return Ok(0) };
    let container = match value {
        "none" => None,
        value => {
            let checked: Name = name(value)?;
            Some(cast.meet(ContainerName(checked.to_string()), Some(site), Role::Servers))
        }
    };
    let services = &mut cast.policy.services;
    if let Some(policy) =
        services.get_mut(&server.service).and_then(|service| service.servers.get_mut(&server.server))
    {
        policy.container = container;
    }
    cast.forget_idle();
    Ok(1)
}

fn put<T>(place: &mut T, value: Result<T, Wrong>) -> Result<(), Wrong> {
    *place = value?;
    Ok(())
}

fn truth(word: &str) -> Result<bool, Wrong> {
    one_of(word, &[("true", true), ("false", false)])
}

/// A time that is not 0: what is done again after no time is done without end.
fn lasting(word: &str) -> Result<Span, Wrong> {
    match span(word)? {
        Span::ZERO => Err(Wrong::new(word, "this must last: 1s, for example")),
        lasts => Ok(lasts),
    }
}

/// `3/5m`: too much from the third on, within about a half-life of five minutes; or `off`.
fn damper(word: &str) -> Result<Damper, Wrong> {
    if word == "off" {
        return Ok(Damper::default());
    }
    let wrong = || Wrong::new(word, "3/5m, for example: how often, and the half-life");
    let (times, half_life) = word.split_once('/').ok_or_else(wrong)?;
    Ok(Damper::nth(number(times, 1..=100).map_err(|_| wrong())?, lasting(half_life).map_err(|_| wrong())?))
}

/// Names with commas between them.
fn list<T>(word: &str) -> Result<Vec<T>, Wrong>
where
    T: std::str::FromStr<Err = crate::domain::id::NameError>,
{
    word.split(',').map(|part| name(part).map_err(|wrong| Wrong::new(word, wrong.why))).collect()
}
