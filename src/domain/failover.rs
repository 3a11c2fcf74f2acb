//! Where a service's traffic belongs: the line that decides a failover is in [`plan`].
//!
//! [`plan`] is a pure question about one service at one moment. [`decide`](super::decide()) acts on its answer and
//! [`explain`](super::explain()) tells it, so that what is done and what is said cannot differ.

mod group;

pub use group::{Group, Member, Standing, standing};

use super::command::Operator;
use super::id::SiteId;
use super::policy::{AllDown, FailbackMode, ServicePolicy};
use super::state::Service;
use super::time::{Boot, Now, Span, Wall};
use super::witness::Cause;
use group::Worth;
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
    /// The serving site has fewer servers up than the service needs, and another has enough.
    Relief {
        /// So many are up.
        up: u16,
        /// So many are needed.
        of: u16,
    },
    /// People have taken all servers of the serving site out.
    TakenOut,
    /// Its group is there.
    Together,
    /// Every site is down, and the settings want the first one to be tried then.
    AllDown(Cause),
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
    /// A better site is healthy, but has gone up and down too often.
    Flapping {
        /// The better site.
        better: SiteId,
        /// When it is believed again, if it stays up.
        until: Boot,
    },
    /// A better site is healthy, but answers slowly, or not always.
    BetterSiteDegraded {
        /// The better site.
        better: SiteId,
        /// When it is believed again, if it answers well.
        until: Boot,
    },
    /// A better site is healthy, but traffic returns only at certain hours.
    OutOfHours {
        /// The better site.
        better: SiteId,
        /// When they begin.
        until: Boot,
    },
    /// The serving site has fewer servers up than the service needs.
    Thin {
        /// So many.
        up: u16,
        /// So many are needed.
        of: u16,
        /// When another site takes over; none: there is none that has enough, or a person wants it here.
        until: Option<Boot>,
    },
    /// People have taken all servers of the serving site out, and no other site serves.
    TakenOut,
    /// The serving site is down for one of a group of services, and no other site serves all of them.
    Divided {
        /// Why the serving site is.
        cause: Cause,
    },
    /// The services of the group are at different sites, and the one where most are is not proven healthy for all.
    Scattered {
        /// Where most of them are.
        most: SiteId,
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
    /// The serving site is down or taken out, but the service is stateful: a person decides.
    Stateful {
        /// Why the serving site is down; none: people have taken all its servers out.
        cause: Option<Cause>,
    },
    /// A person forced traffic onto a site that is not healthy yet.
    Forced,
    /// The serving site is down or taken out, but a person pinned traffic to it.
    Pinned {
        /// Why the serving site is down; none: people have taken all its servers out.
        cause: Option<Cause>,
    },
    /// Traffic would move, but a person has paused that.
    Paused {
        /// Where to.
        to: SiteId,
    },
}

/// What comes next, as far as the plan tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outlook {
    /// If the serving site fails, another one takes over at once.
    Refuge {
        /// This one.
        to: SiteId,
    },
    /// If the serving site fails, no other can take over.
    NoRefuge,
    /// A better site is not healthy; traffic returns when it has been for so long.
    ReturnsAfter {
        /// The better site.
        better: SiteId,
        /// So long without a break.
        healthy: Span,
        /// Not before this is over, if a recent failover holds it down.
        hold_down: Option<Span>,
    },
    /// Nothing serves; the first site that is healthy again does.
    FirstHealthy,
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

/// Decides where the traffic of a service, or of a group of them, belongs at `now`.
pub fn plan(group: &Group<'_>, now: Now) -> Plan {
    match unpaused(group, now) {
        Plan::Move { to, .. } if group.is_paused() => Plan::Stay(Stay::Paused { to }),
        plan @ (Plan::Move { .. } | Plan::Stay(_)) => plan,
    }
}

/// The same, as if nothing were paused.
fn unpaused(group: &Group<'_>, now: Now) -> Plan {
    let Some(serving) = group.serving() else { return Plan::Stay(Stay::Unmanaged) };
    if !group.policy().has_site(serving) {
        let to = refuge(group, serving, now.boot, false).or_else(|| group.order().next());
        return to.map_or(Plan::Stay(Stay::Unmanaged), |to| Plan::Move { to, why: Why::SiteRemoved });
    }
    match group.standing(serving) {
        Standing::Down { cause } => escape(group, serving, cause, now.boot),
        Standing::Out => leave(group, serving, now.boot),
        Standing::Thin { up, of, since } => relieve(group, serving, (up, of, since), now),
        Standing::Healthy { .. } | Standing::Unproven => better(group, serving, now),
    }
}

/// The serving site is down: the best other site that is healthy takes over, at once.
fn escape(group: &Group<'_>, serving: SiteId, cause: Cause, now: Boot) -> Plan {
    if let Some(stay) = kept_there(group, serving, Some(cause)) {
        return Plan::Stay(stay);
    }
    // Perhaps it is our own way that is broken: only to where it is not.
    if let Some(to) = refuge(group, serving, now, cause.is_path()) {
        return Plan::Move { to, why: Why::Escape(cause) };
    }
    let others = || group.order().filter(|site| *site != serving);
    if others().any(|site| group.is_served_in_part(site)) {
        return Plan::Stay(Stay::Divided { cause });
    }
    let is_unproven = |site| !matches!(group.standing(site), Standing::Down { .. } | Standing::Out);
    if others().any(is_unproven) {
        return Plan::Stay(Stay::NoneProven { cause });
    }
    // What people have taken out is not where they look first.
    let first = group.order().find(|site| group.standing(*site) != Standing::Out);
    match (group.policy().all_down, first) {
        // Of a group some are served here still, and would be nowhere then.
        (AllDown::First, Some(_)) if group.is_served_in_part(serving) => Plan::Stay(Stay::Divided { cause }),
        (AllDown::First, Some(first)) if first != serving => {
            Plan::Move { to: first, why: Why::AllDown(cause) }
        }
        (AllDown::First | AllDown::Keep, _) => Plan::Stay(Stay::AllDown { cause }),
    }
}

/// Why traffic stays at a site that is down for `cause`, or was taken out, whatever there is elsewhere: a person's word, or
/// state.
fn kept_there(group: &Group<'_>, serving: SiteId, cause: Option<Cause>) -> Option<Stay> {
    let wished = |kept: fn(&Override) -> bool| group.wishes().any(|over| over.site == serving && kept(over));
    match () {
        () if wished(|over| over.forced) => Some(Stay::Forced),
        () if wished(|over| over.pin) => Some(Stay::Pinned { cause }),
        () => group.is_stateful().then_some(Stay::Stateful { cause }),
    }
}

/// People have taken out every server of the serving site: traffic goes where it can, unless only a person moves it.
fn leave(group: &Group<'_>, serving: SiteId, now: Boot) -> Plan {
    if let Some(stay) = kept_there(group, serving, None) {
        return Plan::Stay(stay);
    }
    match refuge(group, serving, now, false) {
        Some(to) => Plan::Move { to, why: Why::TakenOut },
        None => Plan::Stay(Stay::TakenOut),
    }
}

/// The serving site answers with fewer servers than the service needs: after a grace, in which a restart is over, a site
/// with enough takes over. If there is none, a few servers are better than nothing.
fn relieve(group: &Group<'_>, serving: SiteId, (up, of, since): (u16, u16, Boot), now: Now) -> Plan {
    let thin = |until| Plan::Stay(Stay::Thin { up, of, until });
    if group.is_stateful() || group.wishes().any(|over| over.site == serving && (over.forced || over.pin)) {
        return thin(None);
    }
    let sound = |site: &SiteId| group.worth(*site, now.boot, false) == Some(Worth::Sound);
    let Some(to) = group.order().filter(|site| *site != serving).find(sound) else { return thin(None) };
    match since + group.thin_grace() {
        until if until > now.boot => thin(Some(until)),
        _ => Plan::Move { to, why: Why::Relief { up, of } },
    }
}

/// The best site that can take over from `serving`, if one can: soundness before preference.
fn refuge(group: &Group<'_>, serving: SiteId, now: Boot, reached: bool) -> Option<SiteId> {
    let others = group.order().filter(|site| *site != serving);
    let worths = others.filter_map(|site| Some((group.worth(site, now, reached)?, site)));
    // Of the same worth, the first is preferred: `min_by_key` gives back the first.
    worths.min_by_key(|(worth, _)| *worth).map(|(_, site)| site)
}

/// The serving site does its work: traffic moves only to a better site, and only when it is calm enough.
fn better(group: &Group<'_>, serving: SiteId, now: Now) -> Plan {
    if group.members().any(|(service, _)| service.placement.site() != Some(serving)) {
        // A member is elsewhere: it was found there.
        return match group.standing(serving) {
            Standing::Healthy { .. } if !group.is_stateful() && !group.is_held_apart(serving) => {
                Plan::Move { to: serving, why: Why::Together }
            }
            Standing::Healthy { .. }
            | Standing::Thin { .. }
            | Standing::Unproven
            | Standing::Out
            | Standing::Down { .. } => Plan::Stay(Stay::Scattered { most: serving }),
        };
    }
    let above = || group.order().take_while(|site| *site != serving);
    let Some(first) = above().next() else { return Plan::Stay(Stay::Preferred) };
    let healthy = || {
        above().filter_map(|site| match group.standing(site) {
            Standing::Healthy { since } => Some((site, since)),
            Standing::Thin { .. } | Standing::Unproven | Standing::Out | Standing::Down { .. } => None,
        })
    };
    // One that goes up and down, or answers badly, keeps traffic from no other that is better than the serving one.
    let calm = healthy().find(|(site, _)| !group.is_troubled(*site, now.boot));
    let Some((better, since)) = calm.or_else(|| healthy().next()) else {
        return Plan::Stay(Stay::BetterSiteDown { better: first });
    };
    if group.is_stateful() || group.failback().mode == FailbackMode::Manual {
        return Plan::Stay(Stay::FailbackManual { better });
    }
    if let Some(stay) = failback_waits(group, better, since, now) {
        return Plan::Stay(stay);
    }
    // Nothing hurries a return: not while the better site has begun to fail again.
    if !group.is_undisturbed(better) {
        return Plan::Stay(Stay::BetterSiteDown { better });
    }
    Plan::Move { to: better, why: Why::Return }
}

/// What a failback to `better`, healthy since then, waits for; none: for nothing. Of several, the one that lasts longest
/// is told, so that what people read does not change its reason half-way.
fn failback_waits(group: &Group<'_>, better: SiteId, since: Boot, now: Now) -> Option<Stay> {
    let rules = group.failback();
    let stable = since + group.stable_after();
    let calm = group.last_failover().map(|at| at + rules.hold_down);
    let limit = failback_limit_until(group, now.boot);
    let flapping = group.troubled_until(better, |server| server.flaps.until);
    let degraded = group.troubled_until(better, |server| server.strain.until);
    let waits = [
        Some(Stay::NotStableYet { better, until: stable }),
        calm.map(|until| Stay::HoldDown { better, until }),
        limit.map(|until| Stay::FailbackLimit { better, until }),
        flapping.map(|until| Stay::Flapping { better, until }),
        degraded.map(|until| Stay::BetterSiteDegraded { better, until }),
    ];
    let longest = waits.into_iter().flatten().rev().max_by_key(|stay| stay.until());
    let longest = longest.filter(|stay| stay.until().is_some_and(|until| until > now.boot));
    // What counts is whether the hours are open when nothing else stands in the way any more.
    let free = longest.and_then(|stay| stay.until()).unwrap_or(now.boot);
    match returns_at(group, free, now) {
        Some(at) if at == free => longest,
        Some(until) => Some(Stay::OutOfHours { better, until }),
        // The settings refuse hours that never come.
        None => Some(Stay::FailbackManual { better }),
    }
}

/// When traffic returns that nothing but the hours of the failback holds back from `free` on; none: never by itself.
pub fn returns_at(group: &Group<'_>, free: Boot, now: Now) -> Option<Boot> {
    match &group.failback().mode {
        FailbackMode::Auto => Some(free),
        FailbackMode::Hours(hours) => hours.open_in(now.wall_at(free)).map(|wait| free + wait),
        FailbackMode::Manual => None,
    }
}

/// What comes next for traffic that stays for the reason `stay`.
pub fn outlook(group: &Group<'_>, stay: Stay, now: Now) -> Vec<Outlook> {
    let Some(serving) = group.serving() else { return Vec::new() };
    let mut next = Vec::new();
    match stay {
        Stay::AllDown { .. } | Stay::NoneProven { .. } | Stay::Divided { .. } | Stay::TakenOut => {
            return if group.is_paused() { Vec::new() } else { vec![Outlook::FirstHealthy] };
        }
        // The way out is in the reason itself.
        Stay::Unmanaged
        | Stay::Stateful { .. }
        | Stay::Forced
        | Stay::Pinned { .. }
        | Stay::Scattered { .. }
        | Stay::Paused { .. } => return Vec::new(),
        Stay::BetterSiteDown { better } => {
            let calm = group.last_failover().map(|at| at + group.failback().hold_down);
            let hold_down = calm.filter(|until| *until > now.boot).map(|until| left(until, now.boot));
            let by_itself = !group.is_stateful() && group.failback().mode != FailbackMode::Manual;
            if by_itself && !group.is_paused() {
                next.push(Outlook::ReturnsAfter { better, healthy: group.stable_after(), hold_down });
            }
        }
        Stay::Preferred
        | Stay::NotStableYet { .. }
        | Stay::HoldDown { .. }
        | Stay::FailbackLimit { .. }
        | Stay::FailbackManual { .. }
        | Stay::Flapping { .. }
        | Stay::BetterSiteDegraded { .. }
        | Stay::OutOfHours { .. }
        | Stay::Thin { .. } => {}
    }
    let pinned = group.members().any(|(service, _)| service.preference.as_ref().is_some_and(|over| over.pin));
    if group.policy().prefer.len() > 1 && !group.is_stateful() && !group.is_paused() && !pinned {
        let to = refuge(group, serving, now.boot, false);
        next.push(to.map_or(Outlook::NoRefuge, |to| Outlook::Refuge { to }));
    }
    next
}

/// Whether a better site is healthy, and only the limit of failbacks keeps traffic away from it.
pub fn failback_is_locked(group: &Group<'_>, now: Now) -> bool {
    let Some(serving) = group.serving() else { return false };
    let mut above = group.order().take_while(|site| *site != serving);
    let by_itself = !group.is_stateful() && group.failback().mode != FailbackMode::Manual;
    by_itself
        && above.any(|site| group.standing(site).is_healthy())
        && failback_limit_until(group, now.boot).is_some()
}

/// When the next automatic failback is within its limit again; none if it is now.
fn failback_limit_until(group: &Group<'_>, now: Boot) -> Option<Boot> {
    let of_member = |(service, policy): Member<'_>| {
        let rules = &policy.failback;
        let counted: Vec<Boot> =
            service.failbacks.iter().copied().filter(|at| *at + rules.limit_window > now).collect();
        let over = (counted.len() + 1).checked_sub(usize::from(rules.limit))?;
        (over > 0)
            .then(|| counted.get(over - 1).map_or(now + rules.limit_window, |at| *at + rules.limit_window))
    };
    group.members().filter_map(of_member).max()
}

/// The sites in the order of preference: a person's first, then as configured.
pub fn order<'a>(service: &'a Service, policy: &'a ServicePolicy) -> impl Iterator<Item = SiteId> + 'a {
    let first = service.preference.as_ref().map(|over| over.site);
    first.into_iter().chain(policy.prefer.iter().copied().filter(move |site| Some(*site) != first))
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
    /// Whether traffic is kept at a site that is down, whatever there is elsewhere: by a person's word, the service's state
    /// or its group.
    pub fn is_kept(&self) -> bool {
        match self {
            Stay::Stateful { .. }
            | Stay::Forced
            | Stay::Pinned { .. }
            | Stay::Paused { .. }
            | Stay::Divided { .. } => true,
            Stay::Preferred
            | Stay::Unmanaged
            | Stay::BetterSiteDown { .. }
            | Stay::NotStableYet { .. }
            | Stay::HoldDown { .. }
            | Stay::FailbackLimit { .. }
            | Stay::Flapping { .. }
            | Stay::BetterSiteDegraded { .. }
            | Stay::OutOfHours { .. }
            | Stay::FailbackManual { .. }
            | Stay::Thin { .. }
            | Stay::TakenOut
            | Stay::Scattered { .. }
            | Stay::AllDown { .. }
            | Stay::NoneProven { .. } => false,
        }
    }

    /// When time alone may change this answer.
    pub fn until(&self) -> Option<Boot> {
        match self {
            Stay::NotStableYet { until, .. }
            | Stay::HoldDown { until, .. }
            | Stay::FailbackLimit { until, .. }
            | Stay::Flapping { until, .. }
            | Stay::BetterSiteDegraded { until, .. }
            | Stay::OutOfHours { until, .. } => Some(*until),
            Stay::Thin { until, .. } => *until,
            Stay::Preferred
            | Stay::Unmanaged
            | Stay::BetterSiteDown { .. }
            | Stay::FailbackManual { .. }
            | Stay::AllDown { .. }
            | Stay::NoneProven { .. }
            | Stay::Stateful { .. }
            | Stay::Forced
            | Stay::Pinned { .. }
            | Stay::TakenOut
            | Stay::Scattered { .. }
            | Stay::Divided { .. }
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
