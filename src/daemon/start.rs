//! From nothing to a running loop, and back: settings, lock and store, sockets, edges, loop; in this order, so that every
//! mistake is told before anything is touched.

use super::edges::{self, Edges};
use super::hands::Hands;
use super::snapshots::Snapshots;
use super::window::Window;
use super::{Daemon, HARD_LANE, Lanes, OBSERVED_LANE, ORDER_LANE, now};
use crate::chain::chain;
use crate::control::{self, BindError, ControlSocket};
use crate::daemon::core::Core;
use crate::domain::State;
use crate::domain::change::Change;
use crate::settings::watch::{Reload, watch};
use crate::settings::{Fingerprint, Problems, Settings};
use crate::status::{self, EventLine, EventSource, Meta, Metrics, Sources, View};
use crate::store::{Loaded, LockError, OpenError, Reader, Store};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc, watch as watch_channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How many event lines a slow follower may be behind before it is told that it missed some.
const FOLLOWERS_BEHIND_MAX: usize = 1024;

/// How long the store has to put its queue on the disk when we stop. Together with the servers' half second it keeps the
/// process's promise to be gone within two.
const STORE_CLOSE: Duration = Duration::from_secs(1);

/// How `run` was started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The settings' file.
    pub config: PathBuf,
    /// Drive HAProxy instances that another supervisor owns.
    pub take_over: bool,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings are bad.
    #[error(transparent)]
    Settings(#[from] Problems),
    /// A second supervisor.
    #[error(transparent)]
    AlreadyRunning(LockError),
    /// The control socket cannot be made.
    #[error(transparent)]
    Control(#[from] BindError),
    /// The status address is taken.
    #[error("cannot listen on {address} for status (setting status.listen)")]
    Status {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something the system always has.
    #[error("cannot {what}")]
    System {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Runs the daemon until SIGTERM or SIGINT.
pub async fn run(options: Options, settings: Settings, loaded_from: Fingerprint) -> Result<(), StartError> {
    let boot_id = boot_id();
    let (store, loaded) = open_store(&settings, &boot_id)?;
    let socket = ControlSocket::bind(&settings.control_socket).await?;
    let listener = TcpListener::bind(settings.status_listen)
        .await
        .map_err(|source| StartError::Status { address: settings.status_listen, source })?;

    let shutdown = CancellationToken::new();
    let (hard, hard_lane) = mpsc::channel(HARD_LANE);
    let (observed, observed_lane) = mpsc::channel(OBSERVED_LANE);
    let (orders, order_lane) = mpsc::channel(ORDER_LANE);
    let (new_settings, settings_lane) = mpsc::channel(1);
    let (problems, problems_lane) = watch_channel::channel(Vec::new());
    let lanes = Lanes {
        orders: order_lane,
        hard: hard_lane,
        observed: observed_lane,
        settings: settings_lane,
        problems: problems_lane,
        store: store.health(),
        wants_snapshot: store.wants_snapshot(),
    };

    let core = Core::new(restored(&settings, loaded.stored, &boot_id), loaded.next_seq);
    let meta = Meta {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: hostname(),
        started: now().wall,
        problems: Vec::new(),
    };
    let (views, live, metrics) = (
        View::of(core.state(), now(), &BTreeMap::new(), &meta),
        broadcast::Sender::new(FOLLOWERS_BEHIND_MAX),
        Arc::new(Metrics::default()),
    );
    let (view, viewed) = watch_channel::channel(Arc::new(views));
    let past = Arc::new(Journal { dir: settings.state_dir.clone() });
    let sources = Sources::new(viewed, live.clone(), past, Arc::clone(&metrics), shutdown.clone());

    let edges = Edges::start(&settings, &loaded.owner, options.take_over, edges::Lanes { hard, observed });
    let mut servers = JoinSet::new();
    let reads = status::api::router(sources.clone());
    servers.spawn(control::serve(socket, orders, reads, shutdown.clone()));
    servers.spawn(status::serve(listener, sources));
    let servers = tokio::spawn(attend(servers, shutdown.clone()));
    let asked = signals(&shutdown)?;
    reload_on_change(options.config.clone(), loaded_from, asked, Arc::new(settings), new_settings, problems)?;

    let committed = store.committed();
    let daemon = Daemon {
        core,
        lanes,
        store,
        hands: Hands::new(edges),
        desk: super::desk::Desk::default(),
        window: Window::new(view, live, metrics, meta),
        batch: Vec::new(),
        committed,
        snapshots: Snapshots::default(),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "supervisor watches");
    let stop = shutdown.clone();
    // The loop is the process: if it ends, by a panic too, so do we.
    let store = daemon.work(shutdown).await;
    stop.cancel();
    let _ = servers.await;
    if !tokio::task::block_in_place(|| store.close(STORE_CLOSE)) {
        tracing::warn!("the store did not take everything before the end; the last records are lost");
    }
    tracing::info!("supervisor stops; HAProxy goes on as it is");
    Ok(())
}

/// Waits for the listeners. One that ends before we stop takes the process with it: a daemon that nobody can ask or order
/// is started again by whoever started it, with nothing lost in HAProxy.
async fn attend(mut servers: JoinSet<std::io::Result<()>>, shutdown: CancellationToken) {
    while let Some(ended) = servers.join_next().await {
        let words = match ended {
            Ok(Ok(())) if shutdown.is_cancelled() => continue,
            Ok(Ok(())) => "it stopped".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => panicked.to_string(),
        };
        tracing::error!("a listener ended ({words}): supervisor stops, to be started again");
        shutdown.cancel();
    }
}

/// The store, or a substitute in memory: a bad disk costs durability, not the job. A second supervisor is another matter.
fn open_store(settings: &Settings, boot_id: &str) -> Result<(Store, Loaded), StartError> {
    let dir = &settings.state_dir;
    match Store::open(dir, boot_id, crate::store::Options::default()) {
        Ok((store, loaded)) => {
            for damage in &loaded.damage {
                tracing::warn!(error = damage as &dyn std::error::Error, "the store is damaged");
            }
            Ok((store, loaded))
        }
        Err(OpenError::Lock(error @ LockError::AlreadyRunning { .. })) => {
            Err(StartError::AlreadyRunning(error))
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "going on without a store: traffic is moved, orders and history are not durable"
            );
            Ok(Store::in_memory(dir, boot_id, crate::store::Options::default(), &error))
        }
    }
}

/// What was stored, on this boot's clock and under today's policy; or nothing but the policy.
fn restored(settings: &Settings, stored: Option<crate::store::Stored>, boot_id: &str) -> State {
    let Some(stored) = stored else { return State::new(settings.policy.clone()) };
    let mut state = stored.on_boot(boot_id, now());
    if state.policy != settings.policy {
        state.apply(&[Change::Policy(Box::new(settings.policy.clone()))]);
    }
    state
}

/// SIGTERM and SIGINT stop; SIGHUP asks for the settings to be read again.
fn signals(shutdown: &CancellationToken) -> Result<mpsc::Receiver<Reload>, StartError> {
    let failed = |source| StartError::System { what: "listen for signals", source };
    let mut stop = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let shutdown = shutdown.clone();
    // One is enough: a second request for what has not begun adds nothing.
    let (ask, asked) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = stop.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => { let _ = ask.try_send(Reload::Asked); }
            }
        }
        shutdown.cancel();
    });
    Ok(asked)
}

/// Loads the settings when they change on disk or somebody asks. Bad ones are refused and named; the old ones stay.
fn reload_on_change(
    config: PathBuf,
    loaded_from: Fingerprint,
    mut asked: mpsc::Receiver<Reload>,
    mut current: Arc<Settings>,
    good: mpsc::Sender<Arc<Settings>>,
    bad: watch_channel::Sender<Vec<String>>,
) -> Result<(), StartError> {
    let (hint, mut hinted) = mpsc::channel(1);
    watch(config.clone(), loaded_from, hint).map_err(|source| StartError::System {
        what: "start the thread that watches the settings",
        source,
    })?;
    tokio::spawn(async move {
        loop {
            let reload = tokio::select! {
                Some(reload) = hinted.recv() => reload,
                Some(reload) = asked.recv() => reload,
                else => return,
            };
            let path = config.clone();
            let loading = tokio::task::spawn_blocking(move || Settings::load(&path));
            match loading.await {
                Ok(Ok(settings)) => {
                    for key in current.needs_restart(&settings) {
                        tracing::warn!(
                            key,
                            "this setting changed; it takes effect when supervisor is started again"
                        );
                    }
                    bad.send_replace(Vec::new());
                    if reload == Reload::Asked {
                        // Who asked wants an answer, also where nothing changed.
                        tracing::info!("the settings were read again, as asked, and are good");
                    }
                    current = Arc::new(settings);
                    if good.send(Arc::clone(&current)).await.is_err() {
                        return;
                    }
                }
                Ok(Err(problems)) => {
                    let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    for problem in &words {
                        tracing::warn!("new settings refused, the old ones stay in force: {problem}");
                    }
                    bad.send_replace(words);
                }
                // The load panicked: a bug, already in the log; the old settings stay.
                Err(_) => {}
            }
        }
    });
    Ok(())
}

/// The journal, as the status room reads it.
struct Journal {
    dir: PathBuf,
}

impl EventSource for Journal {
    fn tail(&self, limit: usize, after: Option<u64>) -> Result<Vec<EventLine>, String> {
        let reader = Reader::open(&self.dir).map_err(|error| chain(&error))?;
        let page = match after {
            Some(seq) => reader.after(seq, limit),
            None => reader.tail(limit),
        };
        let page = page.map_err(|error| chain(&error))?;
        let lines = page
            .records
            .iter()
            .flat_map(|record| EventLine::from_record(record.seq, record.now, &record.decision.reasons));
        let mut lines: Vec<EventLine> = lines.collect();
        if after.is_none() {
            lines.drain(..lines.len().saturating_sub(limit));
        } else {
            lines.truncate(limit);
        }
        Ok(lines)
    }
}

/// The id of this boot (random(4)); stored moments of another one are moved onto this one's clock.
fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(super) fn hostname() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default().trim().to_owned()
}
