//! The alert path's tasks, as the settings want them: one per Alertmanager, and one sender of mails.

use crate::alert::alertmanager::{self, Alert, Peer};
use crate::alert::email::{Deadlines, Helo, Login, Relay, RelayTls};
use crate::alert::{Backlog, Correspondents, Holds, Ledger, Left, Means, Order, Post, Recorded, Staged, run};
use crate::chain::chain;
use crate::daemon::mailroom;
use crate::domain::delivery::{Mail, MailKey};
use crate::domain::{Event, PeerId, State};
use crate::settings::{AlertmanagerAuth, AlertmanagerSettings, MailSettings, RelaySettings, Settings};
use crate::store::{self, Reader};
use crate::task;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How many mails may wait for the sender. The core decides ten in ten minutes, and the sender takes each at once: more
/// than a few means that it is being started again after a panic.
const ORDERS_MAX: usize = 32;

/// How many rows are looked through for what became of mails: more than the core decides in a day.
const ROWS_READ: usize = 2_000;

/// How long the last look before a mail may take: Alertmanagers that answer do so in milliseconds, and the mail is a minute
/// old already.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// How long a mail on its way is waited for at the end: a relay nearby answers at once. What it says later is lost,
/// and the same message goes out again.
const MAILS_CLOSE: Duration = Duration::from_millis(500);

/// The tasks. Dropping this stops them; a mail on its way is in the outbox as it was.
pub(super) struct Alerts {
    peers: BTreeMap<PeerId, PeerTask>,
    /// The same as the last look needs them.
    known: watch::Sender<Arc<Vec<Peer>>>,
    wanted: watch::Sender<Arc<Vec<Alert>>>,
    post: watch::Sender<Option<Arc<Post>>>,
    decided: mpsc::Sender<Decided>,
    hard: mpsc::Sender<Event>,
    page: String,
    sender: AbortOnDropHandle<()>,
    _forward: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

struct PeerTask {
    settings: AlertmanagerSettings,
    _task: AbortOnDropHandle<()>,
}

impl Alerts {
    /// Starts what `settings` want. `hard` takes what comes of it.
    pub(super) fn start(
        settings: &Settings,
        state: &State,
        outbox: store::Outbox,
        hard: mpsc::Sender<Event>,
    ) -> Alerts {
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (decided, forwarded) = mpsc::channel(ORDERS_MAX);
        let forward = AbortOnDropHandle::new(tokio::spawn(forward(forwarded, orders)));
        let (post, post_seen) = watch::channel(None);
        let (known, known_seen) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        let sender = sender(
            post_seen,
            ordered,
            outbox,
            backlog(settings.state_dir.clone(), mailroom::on_their_way(state)),
            last_look(known_seen),
            hard.clone(),
            stop.clone(),
        );
        let page = page(settings.status_listen);
        let (peers, wanted) = (BTreeMap::new(), watch::Sender::default());
        let mut alerts =
            Alerts { peers, known, wanted, post, decided, hard, page, sender, _forward: forward, stop };
        alerts.resettle(settings);
        alerts
    }

    /// Makes the tasks those of `settings`. What stays the same is not disturbed.
    pub(super) fn resettle(&mut self, settings: &Settings) {
        self.post.send_replace(settings.mail.as_ref().map(|mail| Arc::new(post(mail))));
        self.peers.retain(|id, task| settings.alertmanagers.get(id) == Some(&task.settings));
        let mut known = Vec::new();
        for (id, wanted) in &settings.alertmanagers {
            let peer = match peer(*id, wanted) {
                Ok(peer) => peer,
                // The settings check every URL, so this is a bug; the rest of the job goes on.
                Err(error) => {
                    tracing::error!(peer = %id, %error, "this Alertmanager is told nothing");
                    continue;
                }
            };
            known.push(peer.clone());
            if self.peers.contains_key(id) {
                continue;
            }
            let (alerts, hard) = (self.wanted.subscribe(), self.hard.clone());
            let keep = task::keep(format!("alerts of the Alertmanager {id}"), move || {
                alertmanager::run(peer.clone(), alerts.clone(), hard.clone())
            });
            let task = AbortOnDropHandle::new(tokio::spawn(keep));
            self.peers.insert(*id, PeerTask { settings: wanted.clone(), _task: task });
        }
        self.known.send_replace(Arc::new(known));
    }

    /// Ends the sender: what is on its way may come to its end.
    pub(super) async fn close(self) {
        self.stop.cancel();
        // What takes longer is in the outbox as it was, and the next process sends it.
        let _ = tokio::time::timeout(MAILS_CLOSE, self.sender).await;
    }

    /// What the Alertmanagers are to have from now on.
    pub(super) fn want(&self, state: &State) {
        let alerts = alertmanager::alerts(state, &self.page);
        self.wanted.send_if_modified(|now| {
            let differs = **now != alerts;
            if differs {
                *now = Arc::new(alerts);
            }
            differs
        });
    }

    /// Sends a mail, when `durable` says whether its row is on the disk. As many at once as the core decides.
    pub(super) fn mail(&self, mail: Mail, durable: impl Future<Output = bool> + Send + 'static) {
        let id = mail.id.0;
        if self.decided.try_send((mail, durable.boxed())).is_err() {
            tracing::error!(
                mail = id,
                "the sender of mails takes none: this one is sent after the next start"
            );
        }
    }
}

/// A mail, and whether its row is on the disk.
type Decided = (Mail, BoxFuture<'static, bool>);

/// Hands mails to the sender in the order in which they were decided, each when it is known whether its row is on the disk.
async fn forward(mut decided: mpsc::Receiver<Decided>, orders: mpsc::Sender<Order>) {
    let mut waiting = FuturesOrdered::new();
    loop {
        // What waits is kept across turns, and a mail that came is in the queue or was taken out of it.
        tokio::select! {
            next = decided.recv() => match next {
                Some((mail, durable)) => waiting.push_back(durable.map(|durable| Order { mail, durable })),
                None => return,
            },
            Some(order) = waiting.next(), if !waiting.is_empty() => {
                if orders.send(order).await.is_err() {
                    return;
                }
            }
        }
    }
}

pub(super) fn peer(id: PeerId, settings: &AlertmanagerSettings) -> Result<Peer, String> {
    let auth = settings.auth.clone().map(|auth| match auth {
        AlertmanagerAuth::Basic { user, password } => alertmanager::Auth::Basic { user, password },
        AlertmanagerAuth::Bearer(token) => alertmanager::Auth::Bearer(token),
    });
    let ca = settings.ca.clone().map(String::into_bytes);
    let url = settings.url.parse().map_err(|_| format!("{} is no URL", settings.url))?;
    Ok(Peer { id, url, auth, ca })
}

/// What the sender needs.
fn post(settings: &MailSettings) -> Post {
    let wanted = settings.helo.clone().unwrap_or_else(super::start::hostname);
    let (host, helo) = match Helo::parse(&wanted) {
        Ok(helo) => (wanted, helo),
        // A machine may have any name; its mails must go out all the same.
        Err(error) => {
            tracing::warn!(%error, "relays are told 127.0.0.1 for a name; set mail.helo");
            ("localhost".to_owned(), Helo::nameless())
        }
    };
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let who = Correspondents { from: settings.from.clone(), to: settings.to.clone(), host, version };
    let relays = settings.relays.iter().map(|settings| relay(settings, &helo)).collect();
    Post { who, relays, deadlines: Deadlines::default() }
}

pub(super) fn relay(settings: &RelaySettings, helo: &Helo) -> Relay {
    let login = settings.login.clone();
    Relay {
        name: settings.name.clone(),
        host: settings.address.host.clone(),
        port: settings.address.port,
        tls: match settings.tls {
            crate::settings::RelayTls::Implicit => RelayTls::Implicit,
            crate::settings::RelayTls::StartTls => RelayTls::StartTls,
            crate::settings::RelayTls::None => RelayTls::None,
        },
        helo: helo.clone(),
        auth: login.map(|login| Login { user: login.user, password: login.password }),
        ca: settings.ca.clone().map(String::into_bytes),
    }
}

/// Our page, for the link in an alert: an address that leads somewhere from another machine where there is one.
fn page(listen: SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        return format!("http://{}:{}/", super::start::hostname(), listen.port());
    }
    format!("http://{listen}/")
}

fn last_look(known: watch::Receiver<Arc<Vec<Peer>>>) -> Holds {
    Arc::new(move |fingerprints| {
        let peers = Arc::clone(&known.borrow());
        Box::pin(async move { alertmanager::has(&peers, &fingerprints, LAST_LOOK).await })
    })
}

/// The sender; it ends soon after `stop`.
fn sender(
    post: watch::Receiver<Option<Arc<Post>>>,
    ordered: mpsc::Receiver<Order>,
    outbox: store::Outbox,
    backlog: Backlog,
    holds: Holds,
    hard: mpsc::Sender<Event>,
    stop: CancellationToken,
) -> AbortOnDropHandle<()> {
    let ordered = Arc::new(Mutex::new(ordered));
    let keep = task::keep("sender of mails".to_owned(), move || {
        let means = Means {
            post: post.clone(),
            ledger: Book(outbox.clone()),
            holds: Arc::clone(&holds),
            backlog: Arc::clone(&backlog),
            events: hard.clone(),
        };
        let (ordered, stop) = (Arc::clone(&ordered), stop.clone());
        async move { run(means, &mut *ordered.lock().await, stop).await }
    });
    AbortOnDropHandle::new(tokio::spawn(keep))
}

fn backlog(dir: PathBuf, on_their_way: BTreeSet<MailKey>) -> Backlog {
    Arc::new(move || left(dir.clone(), on_their_way.clone()).boxed())
}

/// The mails that an earlier sender did not see to their end, and the ends of which the core was not told: the process may
/// end between the two.
async fn left(dir: PathBuf, on_their_way: BTreeSet<MailKey>) -> Result<Left, String> {
    let asked = !on_their_way.is_empty();
    let read = tokio::task::spawn_blocking(move || {
        let reader = Reader::open(&dir)?;
        let all = if asked { reader.outbox(ROWS_READ)? } else { Vec::new() };
        Ok((reader.outbox_open()?, all))
    });
    let rows: Result<_, store::ReadError> = read.await.map_err(|error| error.to_string())?;
    let (open, all) = rows.map_err(|error| chain(&error))?;
    Ok(mailroom::left(open, &all, on_their_way))
}

/// The outbox on the disk, as the sender writes it.
#[derive(Clone)]
struct Book(store::Outbox);

impl Ledger for Book {
    fn stage(&self, mail: &Mail, staged: Staged) -> BoxFuture<'static, bool> {
        let (outbox, mail) = (self.0.clone(), mail.clone());
        Box::pin(async move {
            let id = mail.id.0;
            told(id, outbox.stage(mailroom::staging(mail, staged, crate::clock::wall_now())).await)
        })
    }

    fn record(&self, mail: &Mail, recorded: Recorded) -> BoxFuture<'static, bool> {
        let (outbox, id) = (self.0.clone(), mail.id.0);
        let outcome = mailroom::outcome(mail, recorded);
        Box::pin(async move {
            let stored = outbox.record(outcome).await;
            // It is in the store's queue, and is stored when the disk is back.
            let queued = matches!(stored, Err(store::NotStored::Late { .. }));
            told(id, stored) || queued
        })
    }
}

fn told(mail: u64, stored: Result<(), store::NotStored>) -> bool {
    if let Err(error) = &stored {
        tracing::warn!(mail, error = %chain(error), "the outbox does not have this yet: the mail may come twice");
    }
    stored.is_ok()
}
