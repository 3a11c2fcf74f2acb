//! What one seed is about: who is there, by which settings, and which faults come when. All of it is drawn before the world
//! begins, so that a fault can be left out and the rest stays as it was.

use crate::clockwork::{Ms, chance};
use crate::fault::{Fault, Kind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use supervisor::domain::damping::Damper;
use supervisor::domain::delivery::AlertPolicy;
use supervisor::domain::event::DockersPolicy;
use supervisor::domain::policy::{
    AllDown, ContainerPolicy, ContainerRef, FailbackMode, FailbackPolicy, HealLimits, HealMode, OnKill,
    Policy, Role, ServerPolicy, ServicePolicy,
};
use supervisor::domain::{ContainerName, PeerId, ProxyId, ServerId, ServiceId, SiteId, Span};

/// Everything that a seed decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// What it was drawn from; also the source of all small chances.
    pub(crate) seed: u64,
    /// Who is there.
    pub(crate) cast: Cast,
    /// What goes wrong, by time.
    pub(crate) faults: Vec<(Ms, Fault)>,
    /// No fault begins or lasts after this.
    pub(crate) ends: Ms,
}

/// Who is there, and by which settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cast {
    /// For each service, how many servers it has at each site; the first site is preferred.
    pub(crate) services: Vec<Vec<u8>>,
    /// How many HAProxy instances route all of them.
    pub(crate) proxies: u8,
    /// Whether each site has an engine of its own; else one has all.
    pub(crate) engines_by_site: bool,
    /// How many Alertmanagers there are.
    pub(crate) peers: u8,
    /// How many relays there are; none: nobody is mailed to.
    pub(crate) relays: u8,
    /// How many people get mails.
    pub(crate) recipients: u8,
    /// Docker's own policy of each container, in turn.
    pub(crate) restart: Vec<DockersPolicy>,
    /// The variations of the settings.
    pub(crate) quirks: BTreeSet<Quirk>,
    /// From a failover to the next failback, at least, in seconds; and the other times of failback.
    pub(crate) failback: [u64; 4],
    /// How often a server is probed that is well, in milliseconds.
    #[serde(default = "usual_interval")]
    pub(crate) interval: u64,
}

/// As the settings have it by default.
fn usual_interval() -> u64 {
    1_000
}

/// How the settings differ from the usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quirk {
    /// The first service is never moved by itself.
    Stateful,
    /// The first two services move together.
    Group,
    /// Pools need two servers.
    Thin,
    /// A killed container is healed.
    HealKills,
    /// What ended by itself without an error is started, too.
    HealAlways,
    /// The first container is only told of.
    Notify,
    /// With all sites down, traffic goes to the first one.
    AllDownFirst,
    /// Servers that fall again and again are not trusted.
    Flapping,
    /// Slow answers count.
    Strain,
    /// A person decides about failbacks of the first service.
    Manual,
    /// An engine's containers outlive it.
    LiveRestore,
    /// Few starts within the budget.
    SmallBudget,
    /// Images have health checks.
    Checks,
}

const QUIRKS: [(Quirk, u32); 13] = [
    (Quirk::Stateful, 10),
    (Quirk::Group, 20),
    (Quirk::Thin, 20),
    (Quirk::HealKills, 15),
    (Quirk::HealAlways, 15),
    (Quirk::Notify, 10),
    (Quirk::AllDownFirst, 20),
    (Quirk::Flapping, 25),
    (Quirk::Strain, 20),
    (Quirk::Manual, 10),
    (Quirk::LiveRestore, 30),
    (Quirk::SmallBudget, 20),
    (Quirk::Checks, 30),
];

pub(crate) const SITES: [&str; 3] = ["onprem", "cloud", "edge"];
pub(crate) const SERVICES: [&str; 4] = ["api", "shop", "docs", "mail"];

/// From here on faults come: everything has been found by then.
const QUIET_FIRST: Ms = 30_000;

impl Plan {
    /// The plan of `seed`.
    pub(crate) fn of(seed: u64) -> Plan {
        let mut rng = chance(seed, "plan");
        let cast = Cast::of(&mut rng);
        // Many short worlds, some long ones.
        let minutes = [3, 5, 5, 8, 8, 12, 20, 40][rng.usize(..8)];
        let ends = QUIET_FIRST + minutes * 60_000;
        // Not everything goes wrong everywhere: what is rare beside others is common without them.
        let share = rng.u32(20..=100);
        let mut kinds: Vec<(Kind, u32)> =
            Kind::all().filter(|_| rng.u32(..100) < share).map(|kind| (kind, kind.rate())).collect();
        if kinds.is_empty() {
            kinds.push((Kind::Crash, 1));
        }
        let total: u32 = kinds.iter().map(|(_, rate)| rate).sum();
        let count = rng.usize(10..=30) + usize::try_from(minutes).unwrap_or(1) * rng.usize(2..=5);
        let mut faults = Vec::new();
        while faults.len() < count {
            let mut at = rng.i64(QUIET_FIRST..ends);
            // Now and then, several at once.
            let together = if rng.u32(..100) < 15 { rng.usize(2..=4) } else { 1 };
            for _ in 0..together {
                let mut drawn = rng.u32(..total);
                let kind = kinds.iter().find(|(_, rate)| match drawn.checked_sub(*rate) {
                    None => true,
                    Some(rest) => {
                        drawn = rest;
                        false
                    }
                });
                if let Some((kind, _)) = kind {
                    faults.push((at, Fault::draw(*kind, &cast, &mut rng, ends - at)));
                }
                at = (at + rng.i64(0..300)).min(ends - 1);
            }
        }
        faults.sort_by_key(|(at, _)| *at);
        Plan { seed, cast, faults, ends }
    }
}

impl Cast {
    fn of(rng: &mut fastrand::Rng) -> Cast {
        let sites = if rng.u32(..4) == 0 { 3 } else { 2 };
        let many = rng.usize(1..=3);
        let pool = |rng: &mut fastrand::Rng| if rng.u32(..3) == 0 { 2 } else { 1 };
        let services = (0..many)
            .map(|_| {
                let at = if rng.u32(..8) == 0 { 1 } else { sites };
                (0..at).map(|_| pool(rng)).collect()
            })
            .collect();
        let policies = [
            DockersPolicy::No,
            DockersPolicy::Always,
            DockersPolicy::UnlessStopped,
            DockersPolicy::OnFailure { most: 3 },
        ];
        let failback = match rng.u32(..3) {
            // The defaults.
            0 => [60, 300, 2, 600],
            1 => [10, 20, 2, 600],
            _ => [rng.u64(1..30), rng.u64(0..60), rng.u64(1..4), rng.u64(60..300)],
        };
        Cast {
            services,
            proxies: if rng.u32(..4) == 0 { 2 } else { 1 },
            engines_by_site: rng.bool(),
            peers: [0, 1, 1, 2][rng.usize(..4)],
            relays: [0, 1, 1, 2][rng.usize(..4)],
            recipients: rng.u8(1..=2),
            restart: (0..rng.usize(1..4)).map(|_| policies[rng.usize(..4)]).collect(),
            quirks: QUIRKS.iter().filter(|(_, percent)| rng.u32(..100) < *percent).map(|(q, _)| *q).collect(),
            failback,
            interval: [1_000, 1_000, 2_000, 5_000][rng.usize(..4)],
        }
    }

    pub(crate) fn has(&self, quirk: Quirk) -> bool {
        self.quirks.contains(&quirk)
    }

    pub(crate) fn site_count(&self) -> usize {
        self.services.iter().map(Vec::len).max().unwrap_or(0)
    }

    pub(crate) fn engine_of(&self, site: usize) -> usize {
        if self.engines_by_site { site } else { 0 }
    }

    pub(crate) fn engine_count(&self) -> usize {
        if self.engines_by_site { self.site_count() } else { 1 }
    }

    /// The servers there are, as (service, site, number).
    pub(crate) fn servers(&self) -> Vec<(usize, usize, u8)> {
        let of = |(service, pools): (usize, &Vec<u8>)| {
            let of = |(site, count): (usize, &u8)| {
                (0..*count).map(|number| (service, site, number)).collect::<Vec<_>>()
            };
            pools.iter().enumerate().flat_map(of).collect::<Vec<_>>()
        };
        self.services.iter().enumerate().flat_map(of).collect()
    }

    /// For each service, its servers: each with its site and its container.
    pub(crate) fn pools(&self) -> Vec<Arc<[(ServerId, usize, usize)]>> {
        let all = self.servers();
        let of = |service: usize| {
            let all = all.iter().enumerate().filter(|(_, (of, ..))| *of == service);
            all.map(|(container, (_, site, number))| {
                let server = named(&server_name(service, *site, *number));
                (ServerId { service: service_id(service), server }, *site, container)
            })
            .collect()
        };
        (0..self.services.len()).map(of).collect()
    }

    /// The settings, as the core has them. `variant`: 0 is how they are at first; others are what a person may make of them.
    pub(crate) fn policy(&self, variant: u8) -> Policy {
        let proxies: BTreeSet<ProxyId> = (0..self.proxies).map(proxy_id).collect();
        let mut services: BTreeMap<ServiceId, ServicePolicy> = BTreeMap::new();
        let mut containers = BTreeMap::new();
        for (service, site, number) in self.servers() {
            // A person took the last service out.
            if variant == 1 && service + 1 == self.services.len() && self.services.len() > 1 {
                continue;
            }
            let id = service_id(service);
            let prefer: Vec<SiteId> = (0..self.services[service].len()).map(site_id).collect();
            let entry = services
                .entry(id)
                .or_insert_with(|| ServicePolicy::of(proxies.clone(), prefer, BTreeMap::new()));
            let name = server_name(service, site, number);
            let container =
                ContainerRef { engine: engine_id(self.engine_of(site)), name: ContainerName(name.clone()) };
            let mut server =
                ServerPolicy { container: Some(container.clone()), ..ServerPolicy::at(site_id(site)) };
            server.fall = if variant == 2 { 1 } else { 2 };
            if self.has(Quirk::Strain) {
                server.slow_after = Some(Span(500));
                server.strain = Damper::nth(3, Span::seconds(5));
            }
            entry.servers.insert(named(&name), server);
            let first = containers.is_empty();
            let heal = match () {
                () if first && self.has(Quirk::Notify) => Some(HealMode::Notify),
                () if self.has(Quirk::HealAlways) => Some(HealMode::Always),
                () => None,
            };
            let on_kill = if self.has(Quirk::HealKills) { OnKill::Heal } else { OnKill::Respect };
            let (site, grace) = (Some(site_id(site)), Span::seconds(30));
            containers.insert(container, ContainerPolicy { heal, on_kill, site, grace, role: Role::Servers });
        }
        for (number, (id, service)) in services.iter_mut().enumerate() {
            let [after, hold_down, limit, window] = self.failback;
            service.failback = FailbackPolicy {
                mode: FailbackMode::Auto,
                after: Span::seconds(if variant == 3 { after * 2 } else { after }),
                hold_down: Span::seconds(hold_down),
                limit: u16::try_from(limit).unwrap_or(2),
                limit_window: Span::seconds(window),
            };
            if self.has(Quirk::Flapping) {
                service.flapping = Damper::nth(3, Span::seconds(60));
            }
            if self.has(Quirk::Thin) && self.is_wide(*id) {
                service.min_servers = 2;
                service.thin_grace = Span::seconds(10);
            }
            if self.has(Quirk::AllDownFirst) {
                service.all_down = AllDown::First;
            }
            if number == 0 && self.has(Quirk::Stateful) {
                service.stateful = true;
            }
            if number == 0 && self.has(Quirk::Manual) {
                service.failback.mode = FailbackMode::Manual;
            }
        }
        if self.has(Quirk::Group) {
            self.group(&mut services);
        }
        Policy {
            services: services.into_iter().collect(),
            proxies,
            external: BTreeSet::new(),
            engines: (0..self.engine_count()).map(engine_id).collect(),
            containers: containers.into_iter().collect(),
            heal: HealLimits {
                restarts: if self.has(Quirk::SmallBudget) { 2 } else { 5 },
                site_restarts: if self.has(Quirk::SmallBudget) { 4 } else { 20 },
                window: Span::seconds(600),
                backoff_first: Span::seconds(1),
                backoff_longest: Span::seconds(60),
                slow_retry: Span::seconds(300),
            },
            alerts: AlertPolicy {
                peers: (0..self.peers).map(peer_id).collect(),
                direct: self.relays > 0,
                fallback_after: Span::seconds(60),
                notify_grace: Span::seconds(90),
            },
            startup_grace: Span::seconds(5),
            lateness: Span::seconds(2),
        }
    }

    /// Whether a service, and what moves with it, has two servers at each of its sites.
    fn is_wide(&self, id: ServiceId) -> bool {
        let wide = |service: &Vec<u8>| service.iter().all(|count| *count > 1);
        let service = (0..self.services.len()).find(|number| service_id(*number) == id);
        match service {
            Some(0 | 1) if self.has(Quirk::Group) => self.services.iter().take(2).all(wide),
            Some(number) => wide(&self.services[number]),
            None => false,
        }
    }

    /// The first two services with the same sites move together.
    fn group(&self, services: &mut BTreeMap<ServiceId, ServicePolicy>) {
        let (one, two) = (service_id(0), service_id(1));
        let alike =
            services.get(&one).zip(services.get(&two)).is_some_and(|(one, two)| one.prefer == two.prefer);
        if !alike {
            return;
        }
        let first = services[&one].clone();
        for id in [one, two] {
            if let Some(service) = services.get_mut(&id) {
                service.group = Some("pair".parse().unwrap());
                service.failback = first.failback.clone();
                service.stateful = first.stateful;
            }
        }
    }
}

pub(crate) fn named(text: &str) -> supervisor::domain::Name {
    text.parse().unwrap()
}

pub(crate) fn site_id(site: usize) -> SiteId {
    SiteId(named(SITES[site]))
}

pub(crate) fn service_id(service: usize) -> ServiceId {
    ServiceId(named(SERVICES[service]))
}

pub(crate) fn proxy_id(proxy: u8) -> ProxyId {
    ProxyId(named(&format!("haproxy-{proxy}")))
}

pub(crate) fn engine_id(engine: usize) -> supervisor::domain::EngineId {
    supervisor::domain::EngineId(named(&format!("engine-{engine}")))
}

pub(crate) fn peer_id(peer: u8) -> PeerId {
    PeerId(named(&format!("am-{peer}")))
}

/// As the language of scenarios names them, where a pool has one server.
pub(crate) fn server_name(service: usize, site: usize, number: u8) -> String {
    let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
    format!("{}-{}{suffix}", SERVICES[service], SITES[site])
}
