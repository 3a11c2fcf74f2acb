//! One look without the loop: what `--once` finds, and what the core would make of it. The same edges look, the same
//! [`Core`] decides; nothing is touched unless [`Findings::apply`] is called.

mod doubt;

use super::core::{Core, Step};
use super::edges::{docker_engine, validator, watched};
use super::now;
use crate::actuator::haproxy::template::Rendered;
use crate::actuator::haproxy::{self, Driver, RenderError, Wanted};
use crate::clock;
use crate::domain::change::Change;
use crate::domain::event::{Event, LastSigns, Probed};
use crate::domain::state::{Placement, Route};
use crate::domain::{Now, ProxyId, Reason, ServerId, ServiceId, SiteId, Span, State};
use crate::probe;
use crate::settings::{ProxySettings, Settings};
use crate::status::{LastProbe, Meta, View};
use crate::store;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// How long one look at HAProxy or Docker may take. Both answer in milliseconds; a person waits.
const LOOK_DEADLINE: Duration = Duration::from_secs(3);

/// How long `--apply` waits until HAProxy has confirmed the routes.
const APPLY_DEADLINE: Duration = Duration::from_secs(5);

/// What one look found.
pub struct Findings {
    /// The state that was found.
    pub view: View,
    /// What would be done, and why; empty when nothing would.
    pub would_do: Vec<Reason>,
    core: Core,
    drivers: Vec<Driver>,
}

/// A move that would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Whose traffic.
    pub service: ServiceId,
    /// Where it was found; none where HAProxy has no route.
    pub from: Option<SiteId>,
    /// Where to.
    pub to: SiteId,
    /// Why.
    pub kind: MoveKind,
}

/// Why a move would be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveKind {
    /// The serving site is down.
    Escape,
    /// A better site is healthy.
    Return,
    /// HAProxy has no route, or one to a site that the settings do not give the service.
    Set,
}

/// Why a configuration cannot be printed.
#[derive(Debug, thiserror::Error)]
pub enum PrintError {
    /// A name or path that HAProxy's configuration cannot hold.
    #[error(transparent)]
    Name(#[from] haproxy::IdentError),
    /// The template.
    #[error(transparent)]
    Render(#[from] RenderError),
}

/// The configuration of `proxy`, as the daemon would write it.
pub async fn render(settings: &Settings, proxy: ProxyId) -> Result<String, PrintError> {
    let Some(wanted) = settings.proxies.get(&proxy) else { return Ok(String::new()) };
    Ok(printed(settings, proxy, wanted, &owner(settings)).await?.text)
}

/// What the settings lead to, for one HAProxy.
pub(super) async fn printed(
    settings: &Settings,
    proxy: ProxyId,
    wanted: &ProxySettings,
    owner: &str,
) -> Result<Rendered, PrintError> {
    Ok(haproxy::render(&haproxy_wanted(settings, proxy, wanted, owner)?).await?)
}

pub(super) fn haproxy_wanted(
    settings: &Settings,
    proxy: ProxyId,
    wanted: &ProxySettings,
    owner: &str,
) -> Result<Wanted, haproxy::IdentError> {
    Ok(Wanted {
        target: haproxy::plan::target(wanted, validator(settings, wanted)),
        model: haproxy::plan::model(settings, proxy, wanted, owner)?,
        template: wanted.template.clone(),
        take_over: false,
        reload_interval: Duration::ZERO,
    })
}

/// The state while it is being found.
#[derive(Debug, Clone)]
struct Look {
    core: Core,
    /// Every move that was decided so far.
    would_do: Vec<Reason>,
    last: BTreeMap<ServerId, LastProbe>,
    /// Where the services that would be moved were found.
    found: BTreeMap<ServiceId, Option<SiteId>>,
}

impl Look {
    fn take(&mut self, event: Event, now: Now) {
        if let Ok(Step { record, .. }) = self.core.step(event, now) {
            for reason in record.decision.reasons {
                if let Some(Move { service, from, .. }) = move_of(&reason) {
                    self.found.entry(service).or_insert(from);
                    self.would_do.push(reason);
                }
            }
        }
    }

    fn probed(&mut self, probed: Probed) {
        self.last.insert(probed.server, LastProbe { outcome: probed.outcome, ended: probed.ended });
        self.take(Event::Probed(probed), now());
    }

    /// The state without the moves: as it was found. Nothing was sent to HAProxy, so nothing waits for its confirmation; what
    /// it would have to be told is a move.
    fn as_found(&self) -> State {
        let mut state = self.core.state().clone();
        let routes = self.core.state().services.iter().filter_map(|(id, known)| {
            let route = known.placement.route().filter(|route| !route.pending.is_empty())?.clone();
            Some((*id, Placement::On(Route { pending: BTreeMap::new(), ..route })))
        });
        for (service, placement) in routes {
            state.apply(&[Change::Placed { service, placement }]);
        }
        for (service, found) in &self.found {
            let route = state.services.get(service).and_then(|known| known.placement.route().cloned());
            let placement = match (*found, route) {
                (Some(site), Some(route)) => {
                    Placement::On(Route { site, pending: Default::default(), ..route })
                }
                (None, _) | (_, None) => Placement::Unmanaged { last: None },
            };
            state.apply(&[Change::Placed { service: *service, placement }]);
        }
        state
    }

    /// How many of the moves are returns.
    fn returns(&self) -> usize {
        self.would_do.iter().filter(|reason| matches!(reason, Reason::Failback { .. })).count()
    }
}

/// Looks at everything once. A server that answers is asked once; one that fails is asked again, up to its `fall`, at the
/// fast interval. Where servers fail on the way, the other witnesses are asked, too, for as long as HAProxy's own checks take.
pub async fn look(settings: &Settings) -> Result<Findings, haproxy::IdentError> {
    let started = now().wall;
    let mut policy = settings.policy.clone();
    // One good answer counts here, and the first timeouts count too: there is no second look to wait for.
    policy.startup_grace = Span::ZERO;
    // Everything is judged when the slowest look has ended: what ended before is not late, only waited for.
    policy.lateness = Span(u64::MAX);
    policy
        .services
        .values_mut()
        .flat_map(|service| service.servers.iter_mut())
        .for_each(|(_, server)| server.rise = 1);
    let mut state = State::new(policy);
    // What people have ordered about servers holds whoever looks: their sites are judged without them.
    if let Some(stored) = stored(settings).await {
        state.adopt_orders(&stored);
    }
    let core = Core::new(state, 1);
    let owner = owner(settings);
    let mut drivers = Vec::new();
    for (id, wanted) in &settings.proxies {
        drivers.push(haproxy::plan::driver(settings, *id, wanted, &owner, false, clock::boot_now)?);
    }

    let proxies = join_all(drivers.iter().map(|driver| async move {
        let lost = Event::ProxyLost { proxy: driver.proxy };
        timeout(LOOK_DEADLINE, haproxy::look(driver)).await.unwrap_or(lost)
    }));
    let engines = join_all(settings.engines.iter().map(|(id, wanted)| async move {
        let engine = docker_engine(*id, wanted);
        match timeout(LOOK_DEADLINE, engine.list(&watched(settings, *id))).await {
            Ok(Ok(list)) => Event::Containers(list),
            Ok(Err(_)) | Err(_) => Event::EngineLost { engine: *id, last: LastSigns::default() },
        }
    }));
    let client = probe::Client::system();
    let specs = probe::ready(settings);
    let probed = join_all(specs.iter().map(|(id, spec)| probes(settings, *id, spec, &client)));
    let (proxies, engines, probed) = tokio::join!(proxies, engines, probed);

    let mut look = Look { core, would_do: Vec::new(), last: BTreeMap::new(), found: BTreeMap::new() };
    look.take(Event::Started, now());
    for event in proxies.into_iter().chain(engines) {
        look.take(event, now());
    }
    probed.into_iter().flatten().for_each(|probed| look.probed(probed));
    let again = |servers: BTreeSet<ServerId>| {
        let wanted = specs.iter().filter(|(id, _)| servers.contains(id));
        let probed = join_all(wanted.map(|(id, spec)| probes(settings, *id, spec, &client)));
        async move { probed.await.into_iter().flatten().collect() }
    };
    doubt::settle(&mut look, &drivers, again).await;
    let meta = Meta {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: super::start::hostname(),
        started,
        problems: Vec::new(),
    };
    let view = View::of(&look.as_found(), now(), &look.last, &meta);
    let Look { core, would_do, .. } = look;
    Ok(Findings { view, would_do, core, drivers })
}

impl Findings {
    /// Makes the routes that were decided true in every managed HAProxy. Returns the proxies that did not confirm in time.
    pub async fn apply(&self) -> Vec<ProxyId> {
        let deadline = Instant::now() + APPLY_DEADLINE;
        let each = self.drivers.iter().map(|driver| async move {
            let desired = self.core.state().desired(driver.proxy);
            let wanted = desired.routes.len();
            let (sender, receiver) = watch::channel(desired);
            let (_no_orders, mut orders) = mpsc::channel(1);
            let (events, mut told) = mpsc::channel(16);
            let confirmed = async {
                let mut seen = 0;
                while seen < wanted {
                    match told.recv().await {
                        Some(Event::Routed(routed)) => seen += routed.generations.len(),
                        Some(_) => {}
                        None => return,
                    }
                }
                // The map file is written beside the switch; a moment for it before the task is dropped.
                sleep(Duration::from_millis(200)).await;
            };
            // Dropping the driver is safe: it ends between two exchanges, and HAProxy stays as it is.
            let ended = tokio::select! {
                () = haproxy::run(driver.clone(), receiver, &mut orders, events) => false,
                () = confirmed => true,
                () = tokio::time::sleep_until(deadline) => false,
            };
            drop(sender);
            (!ended).then_some(driver.proxy)
        });
        join_all(each).await.into_iter().flatten().collect()
    }

    /// The moves that would be made, one a service: the last one. A route that was only adopted is there already.
    pub fn moves(&self) -> Vec<Move> {
        let moves = self.would_do.iter().filter_map(move_of);
        let last: BTreeMap<ServiceId, Move> = moves.map(|wanted| (wanted.service, wanted)).collect();
        last.into_values().collect()
    }

    /// The HAProxy instances that could not be looked at.
    pub fn unreachable(&self) -> impl Iterator<Item = ProxyId> + '_ {
        let proxies = self.core.state().proxies.iter();
        proxies
            .filter(|(_, proxy)| matches!(proxy.link, crate::domain::state::ProxyLink::Lost { .. }))
            .map(|(id, _)| *id)
    }
}

/// The move that a reason tells of; what HAProxy has already is no move.
fn move_of(reason: &Reason) -> Option<Move> {
    let (service, from, to, kind) = match reason {
        Reason::Failover { service, from, to, .. } => (service, Some(*from), to, MoveKind::Escape),
        Reason::Failback { service, from, to, .. } => (service, Some(*from), to, MoveKind::Return),
        Reason::SiteRemoved { service, from, to } => (service, Some(*from), to, MoveKind::Set),
        Reason::Placed { service, site } => (service, None, site, MoveKind::Set),
        Reason::Reasserted { service, site, found } => (service, *found, site, MoveKind::Set),
        _ => return None,
    };
    Some(Move { service: *service, from, to: *to, kind })
}

async fn probes(
    settings: &Settings,
    server: ServerId,
    spec: &probe::Spec,
    client: &probe::Client,
) -> Vec<Probed> {
    let fall = settings.policy.server(server).map_or(1, |server| server.fall);
    let mut results = Vec::new();
    for attempt in 0..fall {
        if attempt > 0 {
            sleep(spec.fast_interval).await;
        }
        let started = clock::boot_now();
        let outcome = probe::probe_once(client, spec).await;
        let ended = clock::boot_now();
        results.push(Probed { server, due: started, started, ended, outcome });
        if !matches!(outcome, crate::domain::witness::ProbeOutcome::Failed(_)) {
            break;
        }
    }
    results
}

/// The state that a daemon has left, or keeps, if it can be read in time.
async fn stored(settings: &Settings) -> Option<State> {
    let dir = settings.state_dir.clone();
    let read = tokio::task::spawn_blocking(move || {
        let stored = store::Reader::open(&dir).ok()?.latest().ok()??;
        Some(stored.on_boot(&super::start::boot_id(), now()))
    });
    timeout(LOOK_DEADLINE, read).await.ok()?.ok()?
}

/// Our OWNER, if a daemon ever ran on this state directory; without one HAProxy's owner is a stranger's.
pub(super) fn owner(settings: &Settings) -> String {
    store::owner_in(&settings.state_dir).unwrap_or_else(|| "none".to_owned())
}
