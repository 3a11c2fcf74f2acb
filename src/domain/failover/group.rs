//! The services that move as one, and how each site stands for them.

use super::{Override, order};
use crate::domain::health::Health;
use crate::domain::id::SiteId;
use crate::domain::maintenance::Admin;
use crate::domain::policy::{FailbackPolicy, ServicePolicy};
use crate::domain::state::{Placement, Server, Service};
use crate::domain::time::{Boot, Span};
use crate::domain::witness::Cause;

/// One service, or several that move together: they are planned as one.
///
/// Invariant: at least one member; all members have the same sites in the same order (the settings see to it).
#[derive(Debug, Clone)]
pub struct Group<'a> {
    first: Member<'a>,
    rest: Vec<Member<'a>>,
}

/// A service as it is, and its policy.
pub type Member<'a> = (&'a Service, &'a ServicePolicy);

/// How a site stands for one service, or for a group: as for the member that it is worst for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Enough of its servers are up.
    Healthy {
        /// So many since then, without a break.
        since: Boot,
    },
    /// Some are up, but fewer than the service needs.
    Thin {
        /// So many.
        up: u16,
        /// So many are needed.
        of: u16,
        /// Since then.
        since: Boot,
    },
    /// It is not known whether enough are up.
    Unproven,
    /// People have taken all its servers out.
    Out,
    /// All its servers are down.
    Down {
        /// Why the last of them went.
        cause: Cause,
    },
}

/// What a site is worth to traffic that must leave another one; the first is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// Enough servers are up, and nothing speaks against them.
    Sound,
    /// Enough are up, but not without doubt: they go up and down, answer slowly, or begin to fail.
    Doubtful,
    /// Some serve, fewer than needed: better than none.
    Thin,
}

impl<'a> Group<'a> {
    /// A service, and those that move with it.
    pub fn of(service: Member<'a>, rest: Vec<Member<'a>>) -> Group<'a> {
        Group { first: service, rest }
    }

    /// All of them.
    pub(super) fn members(&self) -> impl Iterator<Item = Member<'a>> + '_ {
        std::iter::once(self.first).chain(self.rest.iter().copied())
    }

    /// The policy that the members have in common: sites, failback, and what is done when all is down.
    pub(super) fn policy(&self) -> &'a ServicePolicy {
        self.first.1
    }

    /// When traffic returns.
    pub(super) fn failback(&self) -> &'a FailbackPolicy {
        &self.first.1.failback
    }

    /// The sites in the order of preference: a person's first, then as configured.
    pub(super) fn order(&self) -> impl Iterator<Item = SiteId> + 'a {
        let preferred = self.members().find(|(service, _)| service.preference.is_some());
        let (service, policy) = preferred.unwrap_or(self.first);
        order(service, policy)
    }

    /// Where its traffic is: where most members are; of equally many, the better site. None if that is not known of one.
    pub(super) fn serving(&self) -> Option<SiteId> {
        let mut sites: Vec<SiteId> = Vec::new();
        for (service, _) in self.members() {
            match &service.placement {
                Placement::On(route) => sites.push(route.site),
                Placement::Unmanaged { .. } => return None,
            }
        }
        let place = |site: SiteId| self.order().position(|other| other == site).unwrap_or(usize::MAX);
        let count = |site: SiteId| sites.iter().filter(|other| **other == site).count();
        sites.iter().copied().max_by_key(|site| (count(*site), std::cmp::Reverse(place(*site))))
    }

    /// Whether a pause is about one of them.
    pub(super) fn is_paused(&self) -> bool {
        self.members().any(|(service, _)| service.paused)
    }

    /// What people prefer for its members.
    pub(super) fn wishes(&self) -> impl Iterator<Item = &'a Override> + '_ {
        self.members().filter_map(|(service, _)| service.preference.as_ref())
    }

    /// Whether a person keeps a member at another site than `serving`.
    pub(super) fn is_held_apart(&self, serving: SiteId) -> bool {
        self.members().any(|(service, _)| {
            let there = service.placement.site();
            let kept = |over: &Override| (over.pin || over.forced) && Some(over.site) == there;
            there != Some(serving) && service.preference.as_ref().is_some_and(kept)
        })
    }

    /// Whether only a person moves it.
    pub(super) fn is_stateful(&self) -> bool {
        self.members().any(|(_, policy)| policy.stateful)
    }

    /// The last time that it failed over by itself.
    pub(super) fn last_failover(&self) -> Option<Boot> {
        self.members().filter_map(|(service, _)| service.last_failover).max()
    }

    /// How `site` stands for the member that it is worst for.
    pub fn standing(&self, site: SiteId) -> Standing {
        let mut all = self.members().map(|(service, policy)| standing(service, policy, site));
        let first = all.next().unwrap_or(Standing::Unproven);
        all.fold(first, Standing::or_worse)
    }

    /// Whether `site` serves some of several members, and is down for others.
    pub(super) fn is_served_in_part(&self, site: SiteId) -> bool {
        let mut all = self.members().map(|(service, policy)| standing(service, policy, site));
        !self.rest.is_empty() && self.standing(site).is_down() && all.any(Standing::serves)
    }

    /// What `site` is worth as a refuge; none if it is none. `reached`: only what we surely reach.
    pub(super) fn worth(&self, site: SiteId, now: Boot, reached: bool) -> Option<Worth> {
        let mut worst = Worth::Sound;
        for (service, policy) in self.members() {
            let up = || up_at(service, policy, site);
            if reached && !up().any(|server| server.is_reached()) {
                return None;
            }
            let sound = up().filter(|server| !server.is_doubtful(now)).count();
            let worth = match standing(service, policy, site) {
                Standing::Healthy { .. } if sound >= policy.needed() => Worth::Sound,
                Standing::Healthy { .. } => Worth::Doubtful,
                Standing::Thin { .. } => Worth::Thin,
                Standing::Unproven | Standing::Out | Standing::Down { .. } => return None,
            };
            worst = worst.max(worth);
        }
        Some(worst)
    }

    /// Until when fewer servers than needed at `site` are up and free of a trouble that `until` names; none: enough are.
    pub(in crate::domain) fn troubled_until(
        &self,
        site: SiteId,
        until: impl Fn(&Server) -> Option<Boot>,
    ) -> Option<Boot> {
        let of_member = |(service, policy): Member<'a>| {
            let mut all: Vec<Option<Boot>> =
                up_at(service, policy, site).map(|server| until(&server)).collect();
            all.sort_unstable();
            all.get(policy.needed().checked_sub(1)?).copied().flatten()
        };
        self.members().filter_map(of_member).max()
    }

    /// Whether too few servers at `site` are free of going up and down, and of answering badly.
    pub(super) fn is_troubled(&self, site: SiteId, now: Boot) -> bool {
        let flapping = self.troubled_until(site, |server| server.flaps.until);
        let degraded = self.troubled_until(site, |server| server.strain.until);
        flapping.max(degraded).is_some_and(|until| until > now)
    }

    /// Whether each member has a server at `site` that nothing is counted against at this moment.
    pub(super) fn is_undisturbed(&self, site: SiteId) -> bool {
        let clean = |server: Server| server.health.run().is_none() && server.asked.is_none();
        self.members().all(|(service, policy)| up_at(service, policy, site).any(clean))
    }

    /// How long `site` must have been healthy before traffic returns to it.
    pub(super) fn stable_after(&self) -> Span {
        self.members()
            .map(|(_, policy)| policy.failback.after.max(policy.slow_start))
            .max()
            .unwrap_or_default()
    }

    /// How long a pool may be thin before its traffic looks for a better one.
    pub(super) fn thin_grace(&self) -> Span {
        self.members().map(|(_, policy)| policy.thin_grace).max().unwrap_or_default()
    }
}

impl Standing {
    /// Whether enough servers are up.
    pub fn is_healthy(self) -> bool {
        matches!(self, Standing::Healthy { .. })
    }

    /// Whether it answers requests, with as many servers as it should or with fewer.
    pub fn serves(self) -> bool {
        matches!(self, Standing::Healthy { .. } | Standing::Thin { .. })
    }

    /// Whether all is down.
    pub fn is_down(self) -> bool {
        matches!(self, Standing::Down { .. })
    }

    fn badness(self) -> u8 {
        match self {
            Standing::Healthy { .. } => 0,
            Standing::Thin { .. } => 1,
            Standing::Unproven => 2,
            Standing::Out => 3,
            Standing::Down { .. } => 4,
        }
    }

    fn or_worse(self, other: Standing) -> Standing {
        match (self, other) {
            (Standing::Healthy { since: a }, Standing::Healthy { since: b }) => {
                Standing::Healthy { since: a.max(b) }
            }
            // Of several that are down, one whose end is certain says more than one that is not reached.
            (Standing::Down { cause: a }, down @ Standing::Down { cause: b })
                if a.is_path() && !b.is_path() =>
            {
                down
            }
            (a, b) if b.badness() > a.badness() => b,
            (a, _) => a,
        }
    }
}

/// How `site` stands for `service`.
pub fn standing(service: &Service, policy: &ServicePolicy, site: SiteId) -> Standing {
    let mut up: Vec<Boot> = Vec::new();
    let mut down: Vec<(Boot, Cause)> = Vec::new();
    let (mut unknown, mut out) = (0, 0);
    for name in policy.servers_at(site) {
        match service.servers.get(&name) {
            Some(server) if server.admin != Admin::Ready => out += 1,
            Some(Server { health: Health::Up { since, .. }, .. }) => up.push(*since),
            Some(Server { health: Health::Down { since, cause, .. }, .. }) => down.push((*since, *cause)),
            Some(Server { health: Health::Unknown { .. }, .. }) | None => unknown += 1,
        }
    }
    let needed = policy.needed();
    up.sort_unstable();
    down.sort_unstable();
    if let Some(since) = up.get(needed - 1) {
        return Standing::Healthy { since: *since };
    }
    if up.len() + unknown >= needed {
        return Standing::Unproven;
    }
    match (up.len(), down.last()) {
        (0, _) if unknown > 0 => Standing::Unproven,
        (0, Some((_, cause))) => Standing::Down { cause: *cause },
        (0, None) if out > 0 => Standing::Out,
        (0, None) => Standing::Unproven,
        (serving, _) => {
            // Thin since so many were down that the rest was too few; if people took them out, they know since when.
            let too_many =
                (up.len() + down.len() + unknown + 1).checked_sub(needed).and_then(|n| n.checked_sub(1));
            let since = too_many.and_then(|n| down.get(n)).map_or(Boot(i64::MIN), |(since, _)| *since);
            let number = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
            Standing::Thin { up: number(serving), of: number(needed), since }
        }
    }
}

/// The servers at `site` that are up and in service.
pub(super) fn up_at(service: &Service, policy: &ServicePolicy, site: SiteId) -> impl Iterator<Item = Server> {
    let known = policy.servers_at(site).filter_map(|name| service.servers.get(&name).copied());
    known.filter(|server| server.health.is_up() && server.admin == Admin::Ready)
}
