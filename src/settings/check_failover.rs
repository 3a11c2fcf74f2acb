//! When a service's traffic moves, and with whom: raw → checked.

use super::checker::{Checker, list};
use super::key::Key;
use super::limits;
use super::raw::{RawFailback, RawFlapping, RawService};
use super::zone;
use crate::domain::damping::Damper;
use crate::domain::id::{GroupId, ServiceId};
use crate::domain::policy::{AllDown, FailbackMode, FailbackPolicy, ServicePolicy};
use crate::domain::window::{Hours, Zone};
use std::collections::BTreeMap;

/// What a service says about itself as a whole, on top of `policy`.
pub(crate) fn service(
    checker: &mut Checker<'_>,
    key: &Key,
    raw: &RawService,
    policy: ServicePolicy,
) -> ServicePolicy {
    let all_down = [("keep", AllDown::Keep), ("first", AllDown::First)];
    let group = raw.group.as_ref().and_then(|name| checker.name::<GroupId>(&key.at("group"), name));
    ServicePolicy {
        stateful: raw.stateful.unwrap_or(false),
        group,
        min_servers: min_servers(checker, key, raw, &policy),
        thin_grace: checker.span(&key.at("thin_grace"), raw.thin_grace.as_ref(), &limits::THIN_GRACE),
        slow_start: checker.span(&key.at("slow_start"), raw.slow_start.as_ref(), &limits::SLOW_START),
        flapping: flapping(checker, &key.at("flapping"), &raw.flapping),
        all_down: checker.word(&key.at("all_down"), raw.all_down.as_ref(), &all_down).unwrap_or_default(),
        failback: failback(checker, &key.at("failback"), &raw.failback),
        ..policy
    }
}

/// A site with fewer servers than needed would never be healthy.
fn min_servers(checker: &mut Checker<'_>, key: &Key, raw: &RawService, policy: &ServicePolicy) -> u16 {
    let key = key.at("min_servers");
    let number = checker.number(&key, raw.min_servers, &limits::MIN_SERVERS);
    let few = policy.prefer.iter().map(|site| (site, policy.servers_at(*site).count()));
    if let Some((site, count)) = few.min_by_key(|(_, count)| *count)
        && count < usize::try_from(number).unwrap_or(usize::MAX)
        && count > 0
    {
        checker.unfit(&key, format!("is {number}, but {site} has only {count}: it could never serve"));
    }
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn flapping(checker: &mut Checker<'_>, key: &Key, raw: &RawFlapping) -> Damper {
    let falls = checker.number(&key.at("falls"), raw.falls, &limits::FLAPPING_FALLS);
    let half_life = checker.span(&key.at("half_life"), raw.half_life.as_ref(), &limits::FLAPPING_HALF_LIFE);
    Damper::nth(u16::try_from(falls).unwrap_or(u16::MAX), half_life)
}

fn failback(checker: &mut Checker<'_>, key: &Key, raw: &RawFailback) -> FailbackPolicy {
    let limit = checker.number(&key.at("limit"), raw.limit, &limits::FAILBACK_LIMIT);
    FailbackPolicy {
        mode: failback_mode(checker, key, raw),
        after: checker.span(&key.at("after"), raw.after.as_ref(), &limits::FAILBACK_AFTER),
        hold_down: checker.span(&key.at("hold_down"), raw.hold_down.as_ref(), &limits::HOLD_DOWN),
        limit: u16::try_from(limit).unwrap_or(u16::MAX),
        limit_window: checker.span(&key.at("limit_window"), raw.limit_window.as_ref(), &limits::LIMIT_WINDOW),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Auto,
    Hours,
    Manual,
}

/// `hours` makes it `"hours"`, where nothing else is written.
fn failback_mode(checker: &mut Checker<'_>, key: &Key, raw: &RawFailback) -> FailbackMode {
    let modes = [("auto", Mode::Auto), ("hours", Mode::Hours), ("manual", Mode::Manual)];
    let written = checker.word(&key.at("mode"), raw.mode.as_ref(), &modes);
    let hours_key = key.at("hours");
    let zone = checker.parse(&key.at("time_zone"), raw.time_zone.as_ref(), zone::zone);
    let windows = raw.hours.as_deref().unwrap_or_default();
    let mut hours = Hours { windows: Vec::new(), zone: zone.unwrap_or_else(Zone::utc) };
    for (i, window) in windows.iter().enumerate() {
        match window.parse() {
            Ok(window) => hours.windows.push(window),
            Err(error) => checker.wrong_element(&hours_key, i, error),
        }
    }
    match written.unwrap_or(if raw.hours.is_some() { Mode::Hours } else { Mode::Auto }) {
        Mode::Hours if windows.is_empty() => {
            checker.unfit(&hours_key, "is empty or missing: in which hours may traffic return?");
            FailbackMode::Manual
        }
        Mode::Hours => FailbackMode::Hours(hours),
        mode => {
            if raw.hours.is_some() {
                let word = if mode == Mode::Auto { "auto" } else { "manual" };
                checker
                    .unfit(&hours_key, format!("says nothing with mode = {word:?}; write mode = \"hours\""));
            }
            if mode == Mode::Auto { FailbackMode::Auto } else { FailbackMode::Manual }
        }
    }
}

/// What moves together must agree on where, and on when.
pub(crate) fn groups(
    checker: &mut Checker<'_>,
    policies: &BTreeMap<ServiceId, ServicePolicy>,
    keys: &BTreeMap<ServiceId, Key>,
) {
    let mut leads: BTreeMap<GroupId, (ServiceId, &ServicePolicy)> = BTreeMap::new();
    for (id, policy) in policies {
        let (Some(group), Some(key)) = (policy.group, keys.get(id)) else { continue };
        let Some((lead, first)) = leads.get(&group) else {
            leads.insert(group, (*id, policy));
            continue;
        };
        let differences = [
            ("prefer", policy.prefer != first.prefer),
            ("proxies", policy.proxies != first.proxies),
            ("stateful", policy.stateful != first.stateful),
            ("all_down", policy.all_down != first.all_down),
            ("failback", policy.failback != first.failback),
        ];
        for (name, _) in differences.iter().filter(|(_, differs)| *differs) {
            let sites =
                if *name == "prefer" { format!(" ({})", list(first.prefer.iter())) } else { String::new() };
            let message =
                format!("is not as {lead} has it{sites}: the services of group {group} move together");
            checker.unfit(&key.at(name), message);
        }
    }
}
