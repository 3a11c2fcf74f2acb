//! From nothing to a running loop, and back: settings, lock and store, edges, listeners, loop; in this order, so that bad
//! settings and a second supervisor are told before anything is touched. Listeners that cannot be opened stop nothing.

use super::alerts::Alerts;
use super::board::Board;
use super::edges::{self, Edges};
use super::hands::Hands;
use super::journal::Journal;
use super::listeners::keep_open;
use super::reload::{self, Reloads};
use super::snapshots::Snapshots;
use super::systemd::Systemd;
use super::turn::{HARD_LANE, Inbox, OBSERVED_LANE, ORDER_LANE};
use super::window::Window;
use super::{Daemon, Lanes, now};
use crate::chain::chain;
use crate::control::{self, BindError, ControlSocket};
use crate::daemon::core::{Core, restored};
use crate::settings::watch::Reload;
use crate::settings::{Fingerprint, Problems, Settings};
use crate::status::{self, Meta, Metrics, Sources, View};
use crate::store::{Loaded, LockError, OpenError, Retention, Store};
use crate::task;
use axum::Router;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How many event lines a slow follower may be behind before it is told that it missed some.
const FOLLOWERS_BEHIND_MAX: usize = 1024;

/// How long the store has to put its queue on the disk when we stop. Together with the listeners' time it keeps the
/// process's promise to be gone within two.
const STORE_CLOSE: Duration = Duration::from_secs(1);

/// How long the listeners have to end. They take half a second at most; only one that just panicked takes longer.
const LISTENERS_CLOSE: Duration = Duration::from_millis(750);

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
    /// Perhaps a second supervisor: somebody answers on our control socket, and there is no lock to tell who was first.
    #[error(transparent)]
    Answered(BindError),
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
    let opened = open_store(&settings, &boot_id)?;
    let (store, loaded, locked) = (opened.store, opened.loaded, opened.locked);
    if !locked && ControlSocket::answers(&settings.control_socket).await {
        return Err(StartError::Answered(BindError::Answered { path: settings.control_socket.clone() }));
    }

    let shutdown = CancellationToken::new();
    let (hard, hard_lane) = mpsc::channel(HARD_LANE);
    let (observed, observed_lane) = mpsc::channel(OBSERVED_LANE);
    let (orders, order_lane) = mpsc::channel(ORDER_LANE);
    let (configs, config_lane) = mpsc::channel(ORDER_LANE);
    let (new_settings, settings_lane) = mpsc::channel(1);
    let (board, posted) = Board::new();
    let lanes = Lanes {
        inbox: Inbox { orders: order_lane, hard: hard_lane, observed: observed_lane },
        configs: config_lane,
        settings: settings_lane,
        problems: posted,
        store: store.health(),
        wants_snapshot: store.wants_snapshot(),
    };

    let core = Core::new(restored(loaded.stored, &settings.policy, &boot_id, now()), loaded.next_seq);
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
    let (view, viewed) = watch::channel(Arc::new(views));
    let past = Arc::new(Journal { dir: settings.state_dir.clone() });
    let systemd = Systemd::default();
    let telling = tokio::spawn(systemd.clone().keep(viewed.clone(), shutdown.clone()));
    let sources = Sources::new(viewed, live.clone(), past, Arc::clone(&metrics), shutdown.clone());

    let alerts = Alerts::start(&settings, core.state(), store.outbox(), hard.clone());
    let edges = Edges::start(&settings, &loaded.owner, options.take_over, edges::Lanes { hard, observed });
    let reads = status::api::router(sources.clone()).merge(status::mails::router(sources.clone()));
    let listeners = [
        open_control(&settings, orders, reads.merge(control::configs(configs)), &board, &shutdown),
        open_status(&settings, sources, &board, &shutdown),
    ];
    let asked = signals(&shutdown)?;
    let hinted = hints(&options.config, loaded_from);
    reload::keep(Reloads {
        config: options.config,
        load: reload::from_disk(),
        hinted,
        asked,
        current: Arc::new(settings),
        good: new_settings,
        board,
        systemd,
    });

    let committed = store.committed();
    let daemon = Daemon {
        core,
        lanes,
        store,
        hands: Hands::new(edges, alerts, committed.clone()),
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
    let _ = timeout(LISTENERS_CLOSE, join_all(listeners.into_iter().chain([telling]))).await;
    if !tokio::task::block_in_place(|| store.close(STORE_CLOSE)) {
        tracing::warn!("the store did not take everything before the end; the last records are lost");
    }
    tracing::info!("supervisor stops; HAProxy goes on as it is");
    Ok(())
}

/// The control socket, as long as we run.
fn open_control(
    settings: &Settings,
    orders: mpsc::Sender<control::Request>,
    reads: Router,
    board: &Board,
    shutdown: &CancellationToken,
) -> JoinHandle<()> {
    let (path, board, shutdown) = (settings.control_socket.clone(), board.clone(), shutdown.clone());
    kept("control socket", move || {
        let (path, orders, reads, stop) = (path.clone(), orders.clone(), reads.clone(), shutdown.clone());
        let open = move || {
            let path = path.clone();
            async move { ControlSocket::bind(&path).await.map_err(|error| chain(&error)) }
        };
        let serve = move |socket| control::serve(socket, orders.clone(), reads.clone(), stop.clone());
        keep_open("control socket", open, serve, board.clone(), shutdown.clone())
    })
}

/// The status listener, as long as we run.
fn open_status(
    settings: &Settings,
    sources: Sources,
    board: &Board,
    shutdown: &CancellationToken,
) -> JoinHandle<()> {
    let (address, board, shutdown) = (settings.status_listen, board.clone(), shutdown.clone());
    kept("status listener", move || {
        let sources = sources.clone();
        let open = move || async move {
            TcpListener::bind(address).await.map_err(|error| {
                format!("cannot listen on {address}: {error}; free it, or set another status.listen")
            })
        };
        let serve = move |listener| status::serve(listener, sources.clone());
        keep_open("status listener", open, serve, board.clone(), shutdown.clone())
    })
}

/// A task beside the loop that must not end while we run: after a panic it is started again, ever more slowly.
fn kept<F>(name: &str, make: impl FnMut() -> F + Send + 'static) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(task::keep(name.to_owned(), make))
}

/// A store, what was in it, and whether the lock of the state directory is ours.
struct Opened {
    store: Store,
    loaded: Loaded,
    locked: bool,
}

/// The store, or a substitute in memory: a bad disk costs durability, not the job. A second supervisor is another matter.
fn open_store(settings: &Settings, boot_id: &str) -> Result<Opened, StartError> {
    let dir = &settings.state_dir;
    let options = || crate::store::Options { retention: retention(settings), ..Default::default() };
    match Store::open(dir, boot_id, options()) {
        Ok((store, loaded)) => {
            for damage in &loaded.damage {
                tracing::warn!(error = damage as &dyn std::error::Error, "the store is damaged");
            }
            Ok(Opened { store, loaded, locked: true })
        }
        Err(OpenError::Lock(error @ LockError::AlreadyRunning { .. })) => {
            Err(StartError::AlreadyRunning(error))
        }
        Err(error) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "going on without a store: traffic is moved, orders and history are not durable"
            );
            let (store, loaded) = Store::in_memory(dir, boot_id, options(), &error);
            Ok(Opened { store, loaded, locked: false })
        }
    }
}

/// How much history the settings want kept.
pub(super) fn retention(settings: &Settings) -> Retention {
    let kept = settings.journal;
    Retention { max_age: kept.max_age.duration(), max_bytes: kept.max_bytes }
}

/// What the system tells the process.
struct Signals {
    stop: Signal,
    interrupt: Signal,
    hangup: Signal,
    ask: mpsc::Sender<Reload>,
    shutdown: CancellationToken,
}

impl Signals {
    /// SIGTERM and SIGINT stop; SIGHUP asks for the settings to be read again.
    async fn run(&mut self) {
        loop {
            tokio::select! {
                _ = self.stop.recv() => break,
                _ = self.interrupt.recv() => break,
                _ = self.hangup.recv() => { let _ = self.ask.try_send(Reload::Asked); }
            }
        }
        self.shutdown.cancel();
    }
}

/// Listens for signals; SIGHUP comes out at the other end of the channel.
fn signals(shutdown: &CancellationToken) -> Result<mpsc::Receiver<Reload>, StartError> {
    let listen =
        |kind| signal(kind).map_err(|source| StartError::System { what: "listen for signals", source });
    // One is enough: a second request for what has not begun adds nothing.
    let (ask, asked) = mpsc::channel(1);
    let signals = Arc::new(Mutex::new(Signals {
        stop: listen(SignalKind::terminate())?,
        interrupt: listen(SignalKind::interrupt())?,
        hangup: listen(SignalKind::hangup())?,
        ask,
        shutdown: shutdown.clone(),
    }));
    kept("signals", move || {
        let signals = Arc::clone(&signals);
        async move { signals.lock().await.run().await }
    });
    Ok(asked)
}

/// Says when the settings change on disk.
fn hints(config: &Path, loaded_from: Fingerprint) -> mpsc::Receiver<Reload> {
    let (hint, hinted) = mpsc::channel(1);
    let watched = config.to_owned();
    kept("watch of the settings", move || reload::hints(watched.clone(), loaded_from, hint.clone()));
    hinted
}

/// The id of this boot (random(4)); stored moments of another one are moved onto this one's clock.
pub(super) fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

pub(super) fn hostname() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default().trim().to_owned()
}
