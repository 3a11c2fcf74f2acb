//! The edges, as the settings want them: one prober per server, one watcher per engine, two keepers per HAProxy (routes,
//! configuration). Started, changed and stopped with the settings; a task that panics is started again.

use crate::actuator::docker;
use crate::actuator::haproxy;
use crate::clock;
use crate::control::{Answer, ConfigRequest, Reply};
use crate::domain::action::{ActionId, Desired, Evacuation, Finished, Heal, Outcome, Pace, Target};
use crate::domain::{ContainerName, EngineId, Event, ProxyId, ServerId, ServiceId, Span};
use crate::probe;
use crate::settings::{ConfigMode, EngineAddress, EngineSettings, ProxySettings, Settings};
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

/// How many evacuations of one HAProxy may wait. A site of 64 servers that dies at once; more would come too late for the
/// requests they are to free (clients wait some seconds), and are told as failed.
const EVACUATIONS_MAX: usize = 64;

/// How many orders about one HAProxy's configuration may wait. People give them, one after the other.
const CONFIGS_MAX: usize = 8;

/// How long the map files have when we stop. A disk that works needs some milliseconds; with the store's second and the
/// servers' half it keeps the process's promise to be gone within two.
const MAP_FILE_LAST: Duration = Duration::from_millis(200);

/// The edges. Dropping them stops them all.
pub struct Edges {
    lanes: Lanes,
    owner: String,
    take_over: bool,
    probers: probe::Probers,
    engines: BTreeMap<EngineId, EngineEdge>,
    proxies: BTreeMap<ProxyId, ProxyEdge>,
    /// The actions for containers that the core still has under way: the precondition of each.
    heals: watch::Sender<BTreeSet<ActionId>>,
}

/// Where edges put what they see.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Hard evidence and outcomes.
    pub hard: mpsc::Sender<Event>,
    /// Observations.
    pub observed: mpsc::Sender<Event>,
}

struct EngineEdge {
    settings: EngineSettings,
    engine: docker::Engine,
    watched: watch::Sender<BTreeSet<ContainerName>>,
    _task: AbortOnDropHandle<()>,
}

struct ProxyEdge {
    /// What the tasks were started with: another value starts them anew.
    started_with: (ProxySettings, BTreeMap<ServiceId, Span>),
    desired: watch::Sender<Desired>,
    evacuations: mpsc::Sender<Evacuation>,
    wanted: Option<watch::Sender<Arc<haproxy::Wanted>>>,
    /// Orders about its configuration.
    configs: mpsc::Sender<ConfigRequest>,
    /// What its two tasks share.
    handoff: haproxy::Handoff,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Edges {
    /// Starts the edges that `settings` want. `owner` is our OWNER in HAProxy's description.
    pub fn start(settings: &Settings, owner: &str, take_over: bool, lanes: Lanes) -> Edges {
        let probers = probe::Probers::new(Arc::new(probe::Client::system()), lanes.observed.clone());
        let (engines, proxies) = (BTreeMap::new(), BTreeMap::new());
        let (owner, heals) = (owner.to_owned(), watch::Sender::default());
        let mut edges = Edges { lanes, owner, take_over, probers, engines, proxies, heals };
        edges.resettle(settings);
        edges
    }

    /// Makes the edges those of `settings`. What stays the same is not disturbed.
    pub fn resettle(&mut self, settings: &Settings) {
        self.probers.set(probe::specs(settings));
        self.resettle_engines(settings);
        self.resettle_proxies(settings);
    }

    /// How eagerly a server is probed from now on.
    pub fn set_pace(&self, server: ServerId, pace: Pace) {
        self.probers.set_pace(server, pace);
    }

    /// What one HAProxy is to be from now on.
    pub fn desire(&self, proxy: ProxyId, desired: Desired) {
        if let Some(edge) = self.proxies.get(&proxy) {
            edge.desired.send_if_modified(|now| {
                let differs = *now != desired;
                *now = desired;
                differs
            });
        }
    }

    /// The same, with servers as they were desired before.
    pub fn desire_but_servers(&self, proxy: ProxyId, desired: Desired) {
        if let Some(edge) = self.proxies.get(&proxy) {
            let servers = edge.desired.borrow().servers.clone();
            self.desire(proxy, Desired { servers, ..desired });
        }
    }

    /// Orders an evacuation; says why if there is no room for it.
    pub fn evacuate(&self, evacuation: Evacuation) -> Result<(), &'static str> {
        let edge = self.proxies.get(&evacuation.proxy).ok_or("the settings no longer have this HAProxy")?;
        edge.evacuations.try_send(evacuation).map_err(|_| "too many evacuations wait for this HAProxy")
    }

    /// Hands an order about an HAProxy's configuration to who keeps it, or answers it.
    pub fn configure(&self, request: ConfigRequest) {
        let deny = |request: ConfigRequest, words: &str| {
            // Whoever asked may have gone.
            let _ = request.reply.send(Reply::plain(Answer::Denied, words, request.dry_run));
        };
        match self.proxies.get(&request.proxy) {
            None => deny(request, "the settings have no such HAProxy"),
            Some(edge) if edge.wanted.is_none() => {
                deny(request, "its configuration is somebody else's (config = \"external\")");
            }
            Some(edge) => {
                if let Err(error) = edge.configs.try_send(request) {
                    deny(error.into_inner(), "it is busy with other orders; try again in a moment");
                }
            }
        }
    }

    /// Which actions for containers are under way from now on.
    pub fn set_heals(&self, under_way: BTreeSet<ActionId>) {
        self.heals.send_replace(under_way);
    }

    /// Starts or restarts a container, when `durable` says that the intent is on the disk or that it need not be waited
    /// for. At most as many at once as containers: the core has one action for each. The outcome is an event.
    pub fn heal(&self, heal: Heal, durable: impl Future<Output = ()> + Send + 'static) {
        let of = Target::Container { container: heal.container.clone(), deed: heal.deed };
        let edge = self.engines.get(&heal.container.engine);
        let engine = edge.map(|edge| edge.engine.clone());
        let watched = edge.map(|edge| edge.watched.clone());
        let (hard, heals) = (self.lanes.hard.clone(), self.heals.subscribe());
        tokio::spawn(async move {
            let outcome = match engine {
                Some(engine) => {
                    durable.await;
                    engine.heal(&heal, || heals.borrow().contains(&heal.id)).await
                }
                None => Outcome::NotBegun("the settings no longer have its engine".to_owned()),
            };
            let others = outcome == Outcome::Superseded;
            // Nobody listens: the process ends.
            let _ = hard.send(Event::Finished(Finished { action: heal.id, of, outcome })).await;
            // What others made of it is not waited for until the next regular list.
            if let Some(watched) = watched.filter(|_| others) {
                watched.send_modify(|_| ());
            }
        });
    }

    fn resettle_engines(&mut self, settings: &Settings) {
        self.engines.retain(|id, edge| settings.engines.get(id) == Some(&edge.settings));
        for (id, wanted) in &settings.engines {
            let names = watched(settings, *id);
            if let Some(edge) = self.engines.get(id) {
                edge.watched.send_if_modified(|now| std::mem::replace(now, names.clone()) != names);
                continue;
            }
            let engine = docker_engine(*id, wanted);
            let (sender, receiver) = watch::channel(names);
            let (hard, resync) = (self.lanes.hard.clone(), wanted.resync.duration());
            let watched = engine.clone();
            let task = kept(format!("watcher of the Docker engine {id}"), move || {
                docker::watch(watched.clone(), receiver.clone(), hard.clone(), resync)
            });
            self.engines
                .insert(*id, EngineEdge { settings: wanted.clone(), engine, watched: sender, _task: task });
        }
    }

    fn resettle_proxies(&mut self, settings: &Settings) {
        let mut old = std::mem::take(&mut self.proxies);
        for (id, wanted) in &settings.proxies {
            match self.proxy_edge(settings, *id, wanted, old.remove(id)) {
                Ok(edge) => {
                    self.proxies.insert(*id, edge);
                }
                // The settings check every name and path, so this is a bug; the rest of the job goes on.
                Err(error) => tracing::error!(proxy = %id, %error, "this HAProxy is not driven"),
            }
        }
    }

    fn proxy_edge(
        &self,
        settings: &Settings,
        id: ProxyId,
        wanted: &ProxySettings,
        old: Option<ProxyEdge>,
    ) -> Result<ProxyEdge, haproxy::IdentError> {
        // The tasks that stay keep theirs.
        let handoff = old.as_ref().map(|edge| edge.handoff.clone()).unwrap_or_default();
        let mut driver =
            haproxy::plan::driver(settings, id, wanted, &self.owner, self.take_over, clock::boot_now)?;
        driver.handoff = handoff.clone();
        let started_with = (wanted.clone(), driver.check_age.clone());
        let config = match wanted.config {
            ConfigMode::Managed => Some(Arc::new(self.wanted(settings, id, wanted, &handoff)?)),
            ConfigMode::External => None,
        };
        if let Some(edge) = old.filter(|edge| edge.started_with == started_with) {
            if let (Some(sender), Some(config)) = (&edge.wanted, config) {
                sender.send_if_modified(|now| {
                    let differs = now.model != config.model || now.template != config.template;
                    *now = config;
                    differs
                });
            }
            return Ok(edge);
        }
        let (desired, desired_receiver) = watch::channel(Desired::default());
        let (evacuations, evacuations_receiver) = mpsc::channel(EVACUATIONS_MAX);
        let evacuations_receiver = Arc::new(tokio::sync::Mutex::new(evacuations_receiver));
        let hard = self.lanes.hard.clone();
        let mut tasks = vec![kept(format!("driver of HAProxy {id}"), move || {
            let (driver, desired, hard) = (driver.clone(), desired_receiver.clone(), hard.clone());
            let evacuations = Arc::clone(&evacuations_receiver);
            async move { haproxy::run(driver, desired, &mut *evacuations.lock().await, hard).await }
        })];
        let (configs, configs_receiver) = mpsc::channel(CONFIGS_MAX);
        let configs_receiver = Arc::new(tokio::sync::Mutex::new(configs_receiver));
        let wanted_sender = config.map(|config| {
            let (sender, receiver) = watch::channel(config);
            let hard = self.lanes.hard.clone();
            tasks.push(kept(format!("configuration of HAProxy {id}"), move || {
                let (wanted, hard, orders) = (receiver.clone(), hard.clone(), Arc::clone(&configs_receiver));
                async move { haproxy::keeper::run(id, wanted, &mut *orders.lock().await, hard).await }
            }));
            sender
        });
        Ok(ProxyEdge {
            started_with,
            desired,
            evacuations,
            wanted: wanted_sender,
            configs,
            handoff,
            _tasks: tasks,
        })
    }

    fn wanted(
        &self,
        settings: &Settings,
        id: ProxyId,
        wanted: &ProxySettings,
        handoff: &haproxy::Handoff,
    ) -> Result<haproxy::Wanted, haproxy::IdentError> {
        let target = haproxy::plan::target(wanted, validator(settings, wanted));
        Ok(haproxy::Wanted {
            target: haproxy::Target { handoff: handoff.clone(), ..target },
            model: haproxy::plan::model(settings, id, wanted, &self.owner)?,
            template: wanted.template.clone(),
            take_over: self.take_over,
            reload_interval: wanted.reload_interval.duration(),
        })
    }
}

impl Drop for Edges {
    /// The process ends: what a disk has not taken yet is tried once more, or told.
    fn drop(&mut self) {
        let handoffs = self.proxies.iter().map(|(id, edge)| (*id, edge.handoff.clone()));
        for (proxy, words) in haproxy::write_last(handoffs, MAP_FILE_LAST) {
            tracing::warn!(
                %proxy,
                "the map file lacks the last routes: an HAProxy that starts before supervisor does takes older ones: {words}"
            );
        }
    }
}

/// Who asks the HAProxy that will load a configuration whether it would: in its container, or here.
pub(super) fn validator(settings: &Settings, wanted: &ProxySettings) -> Arc<dyn haproxy::Validate> {
    let inside = wanted.container.as_ref().and_then(|container| {
        let engine = settings.engines.get(&container.engine)?;
        Some(InContainer {
            engine: docker_engine(container.engine, engine),
            container: container.name.clone(),
            binary: wanted.haproxy_binary.clone(),
            directory: wanted.config_path.parent().map(std::path::Path::to_path_buf).unwrap_or_default(),
        })
    });
    match inside {
        Some(inside) => Arc::new(inside),
        None => Arc::new(haproxy::LocalBinary(wanted.haproxy_binary.clone().into())),
    }
}

/// `haproxy -c` in the container that HAProxy runs in, as the user that HAProxy runs as: it then sees what a reload sees.
struct InContainer {
    engine: docker::Engine,
    container: ContainerName,
    binary: String,
    /// The configuration's directory as the container knows it.
    directory: PathBuf,
}

/// How long the check may take: as long as on the host.
const CHECK_DEADLINE: Duration = Duration::from_secs(20);

impl haproxy::Validate for InContainer {
    fn validate<'a>(
        &'a self,
        candidate: &'a Path,
    ) -> BoxFuture<'a, Result<haproxy::Validation, haproxy::ValidateError>> {
        Box::pin(async move {
            let inside = self.directory.join(candidate.file_name().unwrap_or_default());
            self.check(&inside.to_string_lossy(), None).await
        })
    }

    fn validate_text<'a>(
        &'a self,
        text: &'a str,
    ) -> BoxFuture<'a, Result<haproxy::Validation, haproxy::ValidateError>> {
        Box::pin(self.check("/dev/stdin", Some(text.as_bytes())))
    }
}

impl InContainer {
    async fn check(
        &self,
        file: &str,
        input: Option<&[u8]>,
    ) -> Result<haproxy::Validation, haproxy::ValidateError> {
        let command = [self.binary.as_str(), "-c", "-f", file];
        let ran =
            self.engine.exec(&self.container, &command, input, CHECK_DEADLINE).await.map_err(|source| {
                let with = format!("{} in the container {}", self.binary, self.container);
                haproxy::ValidateError { with, source: Box::new(source) }
            })?;
        Ok(haproxy::Validation::of(ran.exit == 0, &ran.output))
    }
}

/// The containers of `engine` that are looked after.
pub(super) fn watched(settings: &Settings, engine: EngineId) -> BTreeSet<ContainerName> {
    let containers = settings.policy.containers.keys();
    containers
        .filter(|container| container.engine == engine)
        .map(|container| container.name.clone())
        .collect()
}

/// An engine, as the Docker room has it.
pub(super) fn docker_engine(id: EngineId, settings: &EngineSettings) -> docker::Engine {
    let address = match &settings.address {
        EngineAddress::Unix(path) => docker::Address::Unix(path.clone()),
        EngineAddress::Tcp(address) => docker::Address::Tcp(address.to_string()),
    };
    docker::Engine { id, address }
}

/// A task that does not end by itself, as long as the handle lives: after a panic it is started again, ever more slowly.
fn kept<F>(name: String, make: impl FnMut() -> F + Send + 'static) -> AbortOnDropHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(crate::task::keep(name, make)))
}
