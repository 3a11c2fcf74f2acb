//! Where a service's traffic belongs: the line that decides a failover is in [`plan`].
//!
//! [`plan`] is a pure question about one service at one moment. [`decide`](super::decide()) acts on its answer and
//! [`explain`](super::explain()) tells it, so that what is done and what is said cannot differ.

use super::command::Operator;
use super::health::Health;
use super::id::SiteId;
use super::policy::{FailbackMode, ServicePolicy};
use super::state::{Placement, Server, Service};
use super::time::{Boot, Span, Wall};
use super::witness::Cause;
use serde::{Deserialize, Serialize};

/// What [`plan`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Traffic stays where it is, and this is why.
    Stay(Stay),
    /// Traffic moves.
    Move {
        /// To this site.
        to: SiteId,
        /// For this reason.
        why: Why,
    },
}

/// Why traffic moves by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The serving site is down.
    Escape(Cause),
    /// A better site is healthy again.
    Return,
    /// The settings no longer give the service servers at the serving site.
    SiteRemoved,
}

/// Why traffic stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    /// The best site serves.
    Preferred,
    /// Nobody has told yet where traffic is: HAProxy was not seen.
    Unmanaged,
    /// A better site exists, but it is not healthy.
    BetterSiteDown {
        /// The best one.
        better: SiteId,
    },
    /// A better site is healthy, but not for long enough.
    NotStableYet {
        /// The better site.
        better: SiteId,
        /// When it is.
        until: Boot,
    },
    /// A better site is healthy, but the last failover is too recent.
    HoldDown {
        /// The better site.
        better: SiteId,
        /// When it no longer is.
        until: Boot,
    },
    /// A better site is healthy, but traffic went to and fro too often.
    FailbackLimit {
        /// The better site.
        better: SiteId,
        /// When the oldest failback no longer counts.
        until: Boot,
    },
    /// A better site is healthy; a person decides.
    FailbackManual {
        /// The better site.
        better: SiteId,
    },
    /// The serving site is down, and so is every other.
    AllDown {
        /// Why the serving site is.
        cause: Cause,
    },
    /// The serving site is down; no other has proved that it is healthy.
    NoneProven {
        /// Why the serving site is down.
        cause: Cause,
    },
    /// The serving site is down, but the service is stateful: a person decides.
    Stateful {
        /// Why the serving site is down.
        cause: Cause,
    },
    /// A person forced traffic onto a site that is not healthy yet.
    Forced,
    /// The serving site is down, but a person pinned traffic to it.
    Pinned {
        /// Why the serving site is down.
        cause: Cause,
    },
    /// Traffic would move, but a person has paused that.
    Paused {
        /// Where to.
        to: SiteId,
    },
}

/// How a site stands for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// At least one of its servers is up.
    Healthy {
        /// The longest-lasting of them since then.
        since: Boot,
    },
    /// None is up, and not all are known to be down.
    Unproven,
    /// All its servers are down.
    Down {
        /// Why the last of them went.
        cause: Cause,
    },
}

/// A person's preference; it beats the configured order, not reachability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The preferred site.
    pub site: SiteId,
    /// Who wants it.
    pub by: Operator,
    /// Why, in their words.
    pub because: Option<String>,
    /// Since when.
    pub at: Wall,
    /// Until when; none: until a person ends it.
    #[serde(default)]
    pub until: Option<Boot>,
    /// Not even an escape leaves the site meanwhile.
    #[serde(default)]
    pub pin: bool,
    /// When people were last reminded that it holds.
    #[serde(default)]
    pub reminded: Boot,
    /// It was ordered with `--force` onto a site that was not healthy: nothing moves until that site is.
    pub forced: bool,
}

/// Decides where the traffic of `service` belongs at `now`.
pub fn plan(service: &Service, policy: &ServicePolicy, now: Boot) -> Plan {
    match unpaused(service, policy, now) {
        Plan::Move { to, .. } if service.paused => Plan::Stay(Stay::Paused { to }),
        plan @ (Plan::Move { .. } | Plan::Stay(_)) => plan,
    }
}

/// The same, as if nothing were paused.
fn unpaused(service: &Service, policy: &ServicePolicy, now: Boot) -> Plan {
    let Placement::On(route) = &service.placement else { return Plan::Stay(Stay::Unmanaged) };
    let serving = route.site;
    if !policy.has_site(serving) {
        let healthy = |site: &SiteId| matches!(standing(service, policy, *site), Standing::Healthy { .. });
        let to = order(service, policy).find(healthy).or_else(|| order(service, policy).next());
        return to.map_or(Plan::Stay(Stay::Unmanaged), |to| Plan::Move { to, why: Why::SiteRemoved });
    }
    match standing(service, policy, serving) {
        Standing::Down { cause } => escape(service, policy, serving, cause),
        Standing::Healthy { .. } | Standing::Unproven => better(service, policy, serving, now),
    }
}

/// The serving site is down: the best other site that is healthy takes over, at once.
fn escape(service: &Service, policy: &ServicePolicy, serving: SiteId, cause: Cause) -> Plan {
    if service.preference.as_ref().is_some_and(|over| over.forced && over.site == serving) {
        return Plan::Stay(Stay::Forced);
    }
    if service.preference.as_ref().is_some_and(|over| over.pin && over.site == serving) {
        return Plan::Stay(Stay::Pinned { cause });
    }
    if policy.stateful {
        return Plan::Stay(Stay::Stateful { cause });
    }
    let others = || order(service, policy).filter(|site| *site != serving);
    let healthy = |site: &SiteId| matches!(standing(service, policy, *site), Standing::Healthy { .. });
    let failing = |site: &SiteId| up_at(service, policy, *site).all(|up| up.health.path_run().is_some());
    let reached = |site: &SiteId| up_at(service, policy, *site).any(|up| up.is_reached());
    let to = if cause.is_path() {
        // Perhaps it is our own way that is broken: only to where it is not.
        others().find(reached)
    } else {
        others().find(|site| healthy(site) && !failing(site)).or_else(|| others().find(healthy))
    };
    if let Some(to) = to {
        return Plan::Move { to, why: Why::Escape(cause) };
    }
    let all_down = others().all(|site| matches!(standing(service, policy, site), Standing::Down { .. }));
    Plan::Stay(if all_down { Stay::AllDown { cause } } else { Stay::NoneProven { cause } })
}

/// The serving site is not down: traffic moves only to a better site, and only when it is calm enough.
fn better(service: &Service, policy: &ServicePolicy, serving: SiteId, now: Boot) -> Plan {
    let above = || order(service, policy).take_while(|site| *site != serving);
    let Some(first) = above().next() else { return Plan::Stay(Stay::Preferred) };
    let healthy = above().find_map(|site| match standing(service, policy, site) {
        Standing::Healthy { since } => Some((site, since)),
        Standing::Unproven | Standing::Down { .. } => None,
    });
    let Some((better, since)) = healthy else { return Plan::Stay(Stay::BetterSiteDown { better: first }) };
    let rules = &policy.failback;
    if policy.stateful || rules.mode == FailbackMode::Manual {
        return Plan::Stay(Stay::FailbackManual { better });
    }
    // The longest wait is told, so that what people read does not change its reason half-way.
    let stable = since + rules.after;
    let calm = service.last_failover.map_or(stable, |at| at + rules.hold_down);
    if stable > now && stable >= calm {
        return Plan::Stay(Stay::NotStableYet { better, until: stable });
    }
    if calm > now {
        return Plan::Stay(Stay::HoldDown { better, until: calm });
    }
    if let Some(until) = failback_limit_until(service, policy, now) {
        return Plan::Stay(Stay::FailbackLimit { better, until });
    }
    // Nothing hurries a return: not while the better site has begun to fail again.
    if !up_at(service, policy, better).any(|up| up.health.run().is_none() && up.asked.is_none()) {
        return Plan::Stay(Stay::BetterSiteDown { better });
    }
    Plan::Move { to: better, why: Why::Return }
}

/// The servers at `site` that are up.
fn up_at(service: &Service, policy: &ServicePolicy, site: SiteId) -> impl Iterator<Item = Server> {
    let known = policy.servers_at(site).filter_map(|name| service.servers.get(&name).copied());
    known.filter(|server| server.health.is_up())
}

/// When the next automatic failback is within its limit again; none if it is now.
fn failback_limit_until(service: &Service, policy: &ServicePolicy, now: Boot) -> Option<Boot> {
    let rules = &policy.failback;
    let counted: Vec<Boot> =
        service.failbacks.iter().copied().filter(|at| *at + rules.limit_window > now).collect();
    let over = (counted.len() + 1).checked_sub(usize::from(rules.limit))?;
    (over > 0).then(|| counted.get(over - 1).map_or(now + rules.limit_window, |at| *at + rules.limit_window))
}

/// The sites in the order of preference: a person's first, then as configured.
pub fn order<'a>(service: &'a Service, policy: &'a ServicePolicy) -> impl Iterator<Item = SiteId> + 'a {
    let first = service.preference.as_ref().map(|over| over.site);
    first.into_iter().chain(policy.prefer.iter().copied().filter(move |site| Some(*site) != first))
}

/// How `site` stands for `service`.
pub fn standing(service: &Service, policy: &ServicePolicy, site: SiteId) -> Standing {
    let mut since: Option<Boot> = None;
    let mut last_down: Option<(Boot, Cause)> = None;
    let mut unproven = false;
    for name in policy.servers_at(site) {
        match service.servers.get(&name).map(|server| server.health) {
            Some(Health::Up { since: up, .. }) => since = Some(since.map_or(up, |earliest| earliest.min(up))),
            Some(Health::Down { since: down, cause, .. }) => {
                last_down = last_down.max(Some((down, cause)));
            }
            Some(Health::Unknown { .. }) | None => unproven = true,
        }
    }
    match (since, last_down) {
        (Some(since), _) => Standing::Healthy { since },
        (None, Some((_, cause))) if !unproven => Standing::Down { cause },
        (None, _) => Standing::Unproven,
    }
}

/// How often people are reminded of an override that does not end by itself.
pub const REMINDED_EVERY: Span = Span::seconds(24 * 3600);

impl Override {
    /// When time alone changes something about it: it ends, or people are reminded of it.
    pub fn wake(&self) -> Boot {
        self.until.unwrap_or(self.reminded + REMINDED_EVERY)
    }
}

impl Stay {
    /// When time alone may change this answer.
    pub fn until(&self) -> Option<Boot> {
        match self {
            Stay::NotStableYet { until, .. }
            | Stay::HoldDown { until, .. }
            | Stay::FailbackLimit { until, .. } => Some(*until),
            Stay::Preferred
            | Stay::Unmanaged
            | Stay::BetterSiteDown { .. }
            | Stay::FailbackManual { .. }
            | Stay::AllDown { .. }
            | Stay::NoneProven { .. }
            | Stay::Stateful { .. }
            | Stay::Forced
            | Stay::Pinned { .. }
            | Stay::Paused { .. } => None,
        }
    }
}

/// How long until `until`, for people.
pub fn left(until: Boot, now: Boot) -> Span {
    until.since(now)
}

#[cfg(test)]
mod tests;
