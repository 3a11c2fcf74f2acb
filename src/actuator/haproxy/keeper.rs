//! The task that keeps one HAProxy's configuration as the settings want it: renders, applies, reports, looks again.
//!
//! It takes no hint: at each turn it renders what is wanted now and compares it with what HAProxy says it runs. It never
//! touches an HAProxy that another supervisor owns.

mod rollback;

use super::apply::{ApplyError, Outcome, Stage, Target, apply, install};
use super::history::Hold;
use super::last_good::{described, restore_last_good};
use super::reply::Info;
use super::template::{self, Model, Rendered};
use crate::chain::chain;
use crate::control::{Answer, ConfigOrder, ConfigRequest, Reply};
use crate::domain::event::{ConfigSeen, Configured, Event, ReloadSeen};
use crate::domain::{Operator, ProxyId};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// How often what runs is compared with what is wanted. A template that was edited, or a configuration that somebody
/// replaced, is seen within this time; HAProxy is asked one `show info` for it.
const TURN: Duration = Duration::from_secs(5);

/// How long after a failed turn the next one comes: an HAProxy that has just started is not kept waiting for a whole turn.
const RETRY: Duration = Duration::from_secs(1);

/// How long a refused configuration is left alone before it is tried again unchanged, at first and at most. What changes it
/// (settings, template) is tried at once; the repetition is for what lies outside: a port that was freed, a certificate.
const REFUSED_FIRST: Duration = Duration::from_secs(60);
const REFUSED_LONGEST: Duration = Duration::from_secs(30 * 60);

/// How much of HAProxy's complaint goes into the journal and onto the page: its first lines name file, line and keyword.
const MESSAGE_MAX: usize = 2_000;

/// The largest template that is read. The built-in one has a hundredth of it; more is a mistake, such as a log.
const TEMPLATE_MAX: u64 = 1 << 20;

/// What one HAProxy is to run.
#[derive(Clone)]
pub struct Wanted {
    /// Where.
    pub target: Target,
    /// What.
    pub model: Model,
    /// The operator's own template; the built-in one without.
    pub template: Option<PathBuf>,
    /// Become the owner of an HAProxy that another supervisor owns (`run --take-over`).
    pub take_over: bool,
    /// At least so long from one reload to the next.
    pub reload_interval: Duration,
}

/// Why nothing was rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The template cannot be read.
    #[error("cannot read the template {}", path.display())]
    Read {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It cannot be rendered.
    #[error(transparent)]
    Template(#[from] template::TemplateError),
}

/// The configuration that is wanted.
pub async fn render(wanted: &Wanted) -> Result<Rendered, RenderError> {
    let text = match &wanted.template {
        None => template::DEFAULT_TEMPLATE.to_owned(),
        Some(path) => {
            let from = path.clone();
            let read = tokio::task::spawn_blocking(move || read_template(&from)).await;
            // Cancelled: the program ends, and nobody reads the result.
            let read = read.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
            read.map_err(|source| RenderError::Read { path: path.clone(), source })?
        }
    };
    Ok(template::render(&wanted.model, &text)?)
}

/// The operator's template. A name that leads to a pipe, a device or a log without end must not hold us up.
fn read_template(path: &Path) -> io::Result<String> {
    let refuse = |words: String| Err(io::Error::new(io::ErrorKind::InvalidInput, words));
    // Non-blocking, so that a pipe cannot hold us in `open`.
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
    if !file.metadata()?.is_file() {
        return refuse("it is no regular file".to_owned());
    }
    let mut text = String::new();
    file.take(TEMPLATE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > TEMPLATE_MAX {
        return refuse(format!("it has more than {TEMPLATE_MAX} bytes (1 MiB): is it the right file?"));
    }
    Ok(text)
}

/// Keeps one HAProxy's configuration until the channel of what is wanted closes.
pub async fn run(
    proxy: ProxyId,
    mut wanted: watch::Receiver<Arc<Wanted>>,
    orders: &mut mpsc::Receiver<ConfigRequest>,
    events: mpsc::Sender<Event>,
) {
    let mut keeper = Keeper::default();
    let mut orders_open = true;
    loop {
        let now = wanted.borrow_and_update().clone();
        let (pause, ended) = match keeper.turn(&now).await {
            Turn::Quiet => (TURN, None),
            Turn::Waits => (RETRY, None),
            Turn::Ended(config, reload) => (TURN, Some((config, reload))),
        };
        if let Some((config, reload)) = ended {
            // A closed lane means that the daemon ends.
            let _ = events.send(Event::Configured(Configured { proxy, config, reload })).await;
        }
        // All are cancel-safe: a change and an order are kept by their channels, a pause is only a pause.
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            order = orders.recv(), if orders_open => match order {
                Some(ConfigRequest { order, because, by, dry_run, reply, .. }) => {
                    let now = wanted.borrow().clone();
                    let answer = keeper.order(&now, &order, (by, because), dry_run).await;
                    // Whoever asked may have gone; the order holds.
                    let _ = reply.send(answer);
                }
                None => orders_open = false,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What came of one turn for whoever ordered it without a daemon; none where there is nothing to say yet.
pub async fn turn_once(wanted: &Wanted) -> Option<ConfigSeen> {
    match Keeper::default().turn(wanted).await {
        Turn::Quiet | Turn::Waits => None,
        Turn::Ended(config, _) => Some(config),
    }
}

/// Carries an order out as the keeper does, but for the turn that follows: see [`turn_once`].
pub async fn order_once(
    wanted: &Wanted,
    order: &ConfigOrder,
    by: (Operator, Option<String>),
    dry_run: bool,
) -> Reply {
    Keeper::default().order(wanted, order, by, dry_run).await
}

enum Turn {
    /// It runs what is wanted, or is not ours: nothing to say.
    Quiet,
    /// It cannot be asked, or was reloaded a moment ago.
    Waits,
    /// Something came of it, perhaps by a reload.
    Ended(ConfigSeen, Option<ReloadSeen>),
}

/// What is remembered from turn to turn, so that nothing is tried again in vain.
#[derive(Default)]
struct Keeper {
    last_reload: Option<Instant>,
    refused: Option<Refused>,
    /// The last good configuration was put back since HAProxy answered last. It is not put back twice: if HAProxy dies of
    /// that one too, whoever mends its file by hand must not have it taken away again.
    restored: bool,
}

/// A revision that HAProxy did not take. A reload that fails stops new connections for up to two seconds, so it is not
/// repeated by the clock of the turns.
struct Refused {
    revision: String,
    until: Instant,
    pause: Duration,
}

impl Keeper {
    async fn turn(&mut self, wanted: &Wanted) -> Turn {
        let rendered = match render(wanted).await {
            Ok(rendered) => rendered,
            Err(error) => return refused(&chain(&error)),
        };
        let info = wanted.target.runtime.info().await;
        // What is held there is its owner's business, too.
        if let Ok(info) = &info
            && !wanted.take_over
            && is_anothers(info, wanted)
        {
            self.restored = false;
            return Turn::Quiet;
        }
        // What a person went back to, in place of it.
        let (rendered, hold) = match rollback::held(wanted, &rendered).await {
            Ok(Some((held, hold))) => (held, Some(hold)),
            Ok(None) => (rendered, None),
            Err(words) => return refused(&words),
        };
        let Ok(info) = info else { return self.prepare(wanted, &rendered).await };
        self.restored = false;
        // One that was not proved in time may have come into force since.
        let in_force = info.description.as_deref() == Some(&rendered.description);
        if !in_force && self.holds_back(&rendered.revision) {
            return Turn::Quiet;
        }
        if self.last_reload.is_some_and(|at| at.elapsed() < wanted.reload_interval) {
            return Turn::Waits;
        }
        match apply(&wanted.target, &rendered).await {
            Ok(outcome) => self.conclude(outcome, rendered.revision, hold),
            Err(ApplyError::NotReachable(_)) => self.prepare(wanted, &rendered).await,
            Err(error @ (ApplyError::Validate(_) | ApplyError::File(_))) => refused(&chain(&error)),
        }
    }

    fn conclude(&mut self, outcome: Outcome, revision: String, hold: Option<Hold>) -> Turn {
        let runs = |revision| match hold {
            None => ConfigSeen::InForce { revision },
            Some(Hold { instead_of, by, because, .. }) => {
                ConfigSeen::Held { revision, instead_of, by, because }
            }
        };
        let (config, reload) = match outcome {
            Outcome::Unchanged => (runs(revision), None),
            Outcome::Applied { pid, took, warnings } => {
                tracing::info!(pid, took_ms = took.as_millis(), warnings, "HAProxy was reloaded");
                self.last_reload = Some(Instant::now());
                (runs(revision), Some(ReloadSeen::Loaded { took: took.into() }))
            }
            Outcome::Rejected { stage, message: words } => {
                self.hold_back(revision);
                let config = ConfigSeen::Refused { message: message(&words) };
                return Turn::Ended(config, (stage == Stage::Reload).then_some(ReloadSeen::Failed));
            }
            Outcome::Unknown { message: words } => {
                self.last_reload = Some(Instant::now());
                self.hold_back(revision);
                let config = ConfigSeen::Unproven { message: message(&words) };
                return Turn::Ended(config, Some(ReloadSeen::Unproven));
            }
        };
        self.refused = None;
        Turn::Ended(config, reload)
    }

    /// Takes an order; the next turn, which follows at once, carries it out.
    async fn order(
        &mut self,
        wanted: &Wanted,
        order: &ConfigOrder,
        (by, because): (Operator, Option<String>),
        dry_run: bool,
    ) -> Reply {
        let rendered = match render(wanted).await {
            Ok(rendered) => rendered,
            Err(error) => {
                let words = format!("nobody knows what it would be in place of: {}", chain(&error));
                return Reply::plain(Answer::Denied, words, dry_run);
            }
        };
        let running = match wanted.target.runtime.info().await {
            Ok(info) if !wanted.take_over && is_anothers(&info, wanted) => {
                return Reply::plain(Answer::Denied, "this HAProxy belongs to another supervisor", dry_run);
            }
            Ok(info) => info
                .description
                .as_deref()
                .and_then(template::parse_description)
                .map(|(_, rev)| rev.to_owned()),
            // What is on disk is what it will run.
            Err(_) => None,
        };
        let asked = rollback::Asked { rendered: &rendered, running, by, because, dry_run };
        let reply = match order {
            ConfigOrder::Rollback { to } => rollback::go_back(wanted, asked, to.clone()).await,
            ConfigOrder::Resume {} => rollback::resume(wanted, asked).await,
        };
        if reply.verdict == Answer::Accepted && !dry_run {
            // A person knows better than the clock when to try again.
            self.refused = None;
            self.restored = false;
        }
        reply
    }

    /// An HAProxy that does not run finds its configuration when it starts: unless it has it already, or it is another's.
    async fn prepare(&mut self, wanted: &Wanted, rendered: &Rendered) -> Turn {
        let text = tokio::fs::read_to_string(&wanted.target.config_file).await.unwrap_or_default();
        let there = described(&text);
        let foreign = there.is_some_and(|(owner, _)| owner != wanted.model.proxy.owner.as_str());
        if foreign && !wanted.take_over {
            return Turn::Waits;
        }
        if text == rendered.text {
            // If it was never seen to run, HAProxy may be dying of it over and over.
            let unproven = self.refused.as_ref().is_some_and(|refused| refused.revision == rendered.revision);
            return if unproven { self.put_back(wanted, Turn::Waits).await } else { Turn::Waits };
        }
        match install(&wanted.target, rendered).await {
            Ok(Ok(())) | Err(ApplyError::NotReachable(_)) => Turn::Waits,
            // Its binary is out of reach with it, as in a container that ended. What it ran last it will run again; what is
            // there may be what it died of, and Docker may be starting it over and over.
            Err(ApplyError::Validate(_)) => self.put_back(wanted, Turn::Waits).await,
            Ok(Err(words)) => self.put_back(wanted, refused(&words)).await,
            Err(error @ ApplyError::File(_)) => refused(&chain(&error)),
        }
    }

    /// Puts the last good configuration back, once, and goes on with `turn`.
    async fn put_back(&mut self, wanted: &Wanted, turn: Turn) -> Turn {
        if std::mem::replace(&mut self.restored, true) {
            return turn;
        }
        let owner = wanted.model.proxy.owner.as_str().to_owned();
        match restore_last_good(wanted.target.config_file.clone(), owner).await {
            Ok(_) => turn,
            Err(error) => refused(&chain(&error)),
        }
    }

    fn holds_back(&self, revision: &str) -> bool {
        self.refused
            .as_ref()
            .is_some_and(|refused| refused.revision == revision && Instant::now() < refused.until)
    }

    fn hold_back(&mut self, revision: String) {
        let before = self.refused.take().filter(|refused| refused.revision == revision);
        let pause = before.map_or(REFUSED_FIRST, |refused| (refused.pause * 2).min(REFUSED_LONGEST));
        self.refused = Some(Refused { revision, until: Instant::now() + pause, pause });
    }
}

fn refused(words: &str) -> Turn {
    Turn::Ended(ConfigSeen::Refused { message: message(words) }, None)
}

fn is_anothers(info: &Info, wanted: &Wanted) -> bool {
    let owner = info.description.as_deref().and_then(template::parse_description);
    owner.is_some_and(|(owner, _)| owner != wanted.model.proxy.owner.as_str())
}

fn message(words: &str) -> String {
    words.chars().take(MESSAGE_MAX).collect()
}
