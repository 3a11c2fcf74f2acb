//! The task that keeps one HAProxy's configuration as the settings want it: renders, applies, reports, looks again.
//!
//! It takes no hint: at each turn it renders what is wanted now and compares it with what HAProxy says it runs. It never
//! touches an HAProxy that another supervisor owns.

mod rollback;

use super::apply::{ApplyError, Outcome, Stage, Target, apply, install};
use super::history::{Hold, IfRefused};
use super::last_good::{described, restore_last_good};
use super::reply::{Info, Process};
use super::template::{self, Model, Rendered};
use crate::chain::chain;
use crate::control::{Answer, ConfigOrder, ConfigRequest, Reply};
use crate::domain::contest::{self, Contest};
use crate::domain::event::{BackStep, ConfigSeen, Configured, Event, ReloadSeen, WentBack};
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

/// How long whoever ordered something is kept waiting for what comes of it. The control socket ends a request 5 s after its head;
/// the answer must be on its way before. A reload takes a tenth of a second, a bind conflict two seconds.
const ANSWER_MAX: Duration = Duration::from_secs(4);

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
        let turn = keeper.turn(&now).await;
        let pause = turn.pause();
        if let Some(event) = turn.event(proxy) {
            // A closed lane means that the daemon ends.
            let _ = events.send(event).await;
        }
        // All are cancel-safe: a change and an order are kept by their channels, a pause is only a pause.
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            order = orders.recv(), if orders_open => match order {
                Some(request) => {
                    let now = wanted.borrow().clone();
                    keeper.carry_out(&now, request, &events).await;
                }
                None => orders_open = false,
            },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Carries an order out as the keeper does, without a daemon: waits for what comes of it to its end.
pub async fn order_once(
    wanted: &Wanted,
    order: &ConfigOrder,
    by: (Operator, Option<String>),
    dry_run: bool,
) -> Reply {
    let mut keeper = Keeper::default();
    let (mut reply, _) = keeper.order(wanted, order, by, dry_run).await;
    if reply.verdict == Answer::Accepted && !dry_run {
        let turn = keeper.turns(wanted, Instant::now() + ANSWER_MAX).await;
        turn.answer(&mut reply);
    }
    reply
}

#[derive(Debug)]
enum Turn {
    /// It runs what is wanted, or is not ours: nothing to say.
    Quiet,
    /// It cannot be asked, or was reloaded a moment ago.
    Waits,
    /// Something came of it, perhaps by a reload.
    Ended(ConfigSeen, Option<ReloadSeen>),
    /// HAProxy does not take what a person went back to. It is held no longer, and what ran before goes on.
    GaveUp { hold: Hold, message: String, reload: Option<ReloadSeen> },
}

impl Turn {
    /// Until the next one.
    fn pause(&self) -> Duration {
        match self {
            Turn::Quiet | Turn::Ended(..) => TURN,
            Turn::Waits => RETRY,
            // How it stands then is worth a look at once. The next turn cannot give the same thing up again.
            Turn::GaveUp { .. } => Duration::ZERO,
        }
    }

    /// What the core hears of it.
    fn event(self, proxy: ProxyId) -> Option<Event> {
        match self {
            Turn::Quiet | Turn::Waits => None,
            Turn::Ended(config, reload) => Some(Event::Configured(Configured { proxy, config, reload })),
            Turn::GaveUp { hold: Hold { revision, by, because, .. }, message, reload } => {
                let step = BackStep::Refused { revision, message, reload };
                Some(Event::WentBack(WentBack { proxy, by, because, step }))
            }
        }
    }

    /// Adds to the answer what came of the order.
    fn answer(&self, reply: &mut Reply) {
        match self {
            Turn::Quiet | Turn::Waits => {}
            Turn::Ended(config, _) => reply.stands = Some(config.clone()),
            Turn::GaveUp { hold, message, .. } => {
                reply.verdict = Answer::Denied;
                reply.words = format!(
                    "HAProxy does not take {}, and goes on with what it ran: {message}",
                    hold.revision
                );
            }
        }
    }
}

/// What is remembered from turn to turn, so that nothing is tried again in vain.
#[derive(Default)]
struct Keeper {
    last_reload: Option<Instant>,
    refused: Option<Refused>,
    /// What it was last seen to run of ours, and its master then: what runs instead after a further reload of that same one was loaded
    /// by somebody else.
    proved: Option<(String, Process)>,
    /// How often that has happened lately.
    contest: Contest,
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
        let Ok(info) = info else { return self.prepare(wanted, &rendered, hold).await };
        self.restored = false;
        // One that was not proved in time may have come into force since.
        let in_force = info.description.as_deref() == Some(&rendered.description);
        if !in_force && self.holds_back(&rendered.revision) {
            return Turn::Quiet;
        }
        if !in_force && self.is_contested(wanted, &rendered.revision).await {
            return self.leave_it(&info, rendered.revision);
        }
        if self.last_reload.is_some_and(|at| at.elapsed() < wanted.reload_interval) {
            return Turn::Waits;
        }
        match apply(&wanted.target, &rendered).await {
            Ok(outcome) => self.conclude(wanted, outcome, rendered.revision, hold).await,
            Err(ApplyError::NotReachable(_)) => self.prepare(wanted, &rendered, hold).await,
            Err(error @ (ApplyError::Validate(_) | ApplyError::File(_))) => refused(&chain(&error)),
        }
    }

    async fn conclude(
        &mut self,
        wanted: &Wanted,
        outcome: Outcome,
        revision: String,
        hold: Option<Hold>,
    ) -> Turn {
        if let (Some(hold), Outcome::Unchanged | Outcome::Applied { .. }) = (&hold, &outcome) {
            rollback::proved(wanted, hold).await;
        }
        let runs = |revision| match hold.clone() {
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
                let reload = (stage == Stage::Reload).then_some(ReloadSeen::Failed);
                return self.rejected(wanted, revision, hold, message(&words), reload).await;
            }
            Outcome::Unknown { message: words } => {
                self.last_reload = Some(Instant::now());
                self.hold_back(revision);
                let config = ConfigSeen::Unproven { message: message(&words) };
                return Turn::Ended(config, Some(ReloadSeen::Unproven));
            }
        };
        self.refused = None;
        if reload.is_some() || self.proved.is_none() {
            self.prove(wanted, &config).await;
        }
        Turn::Ended(config, reload)
    }

    /// It runs what is wanted: under which master, as far as that answers.
    async fn prove(&mut self, wanted: &Wanted, config: &ConfigSeen) {
        let (ConfigSeen::InForce { revision } | ConfigSeen::Held { revision, .. }) = config else { return };
        let processes = wanted.target.runtime.processes().await;
        self.proved = processes.ok().map(|all| (revision.clone(), all.master));
    }

    /// Whether somebody else has loaded another configuration in place of `revision` once too often. An HAProxy that was started anew
    /// has what it found then: nobody is at odds with us.
    async fn is_contested(&mut self, wanted: &Wanted, revision: &str) -> bool {
        let Some((_, master)) = self.proved.take().filter(|(proved, _)| proved == revision) else {
            return false;
        };
        let processes = wanted.target.runtime.processes().await;
        // In a container the master is process 1 after each start: one that was started anew has not reloaded.
        let is_reloaded = |now: Process| now.pid == master.pid && now.reloads > master.reloads;
        if processes.is_ok_and(|all| is_reloaded(all.master)) {
            self.contest = self.contest.again(crate::clock::boot_now());
        }
        self.contest.rests_until.is_some()
    }

    /// What somebody else has loaded is left for a while.
    fn leave_it(&mut self, info: &Info, revision: String) -> Turn {
        self.contest = Contest::default();
        let pause = contest::WITHIN.duration();
        self.refused = Some(Refused { revision, until: Instant::now() + pause, pause });
        let loaded = info.description.as_deref().unwrap_or("one without a description");
        let message = format!(
            "{} times within {} ({loaded}); it is left so for as long: end what does that, set config = \"external\" for this \
             HAProxy, or `supervisor haproxy resume` to try again at once",
            contest::FIGHTS,
            contest::WITHIN,
        );
        Turn::Ended(ConfigSeen::Contested { message }, None)
    }

    /// HAProxy does not take `revision`.
    async fn rejected(
        &mut self,
        wanted: &Wanted,
        revision: String,
        hold: Option<Hold>,
        message: String,
        reload: Option<ReloadSeen>,
    ) -> Turn {
        let message = match hold {
            Some(hold) if hold.if_refused != IfRefused::KeepHolding => {
                match rollback::give_up(wanted, &hold).await {
                    Ok(()) => return Turn::GaveUp { hold, message, reload },
                    Err(words) => format!("{message}\nIt is held still: {words}"),
                }
            }
            Some(_) | None => message,
        };
        self.hold_back(revision);
        Turn::Ended(ConfigSeen::Refused { message }, reload)
    }

    /// Carries an order out, and answers when something has come of it, or late enough.
    async fn carry_out(&mut self, wanted: &Wanted, request: ConfigRequest, events: &mpsc::Sender<Event>) {
        let ends = Instant::now() + ANSWER_MAX;
        let ConfigRequest { proxy, order, because, by, dry_run, reply } = request;
        let (mut answer, step) = self.order(wanted, &order, (by.clone(), because.clone()), dry_run).await;
        // A closed lane means that the daemon ends. Whoever asked may have gone; the order holds.
        if let Some(step) = step {
            let _ = events.send(Event::WentBack(WentBack { proxy, by, because, step })).await;
        }
        if answer.verdict != Answer::Accepted || dry_run {
            let _ = reply.send(answer);
            return;
        }
        let turn = {
            // Not given up when the answer is due: what a reload comes to must be seen.
            let mut turns = std::pin::pin!(self.turns(wanted, ends));
            tokio::select! {
                turn = &mut turns => turn,
                () = tokio::time::sleep_until(ends) => {
                    let _ = reply.send(answer);
                    if let Some(event) = turns.await.event(proxy) {
                        let _ = events.send(event).await;
                    }
                    return;
                }
            }
        };
        turn.answer(&mut answer);
        if let Some(event) = turn.event(proxy) {
            let _ = events.send(event).await;
        }
        let _ = reply.send(answer);
    }

    /// Turns until one comes to something; no further one after `ends`.
    async fn turns(&mut self, wanted: &Wanted, ends: Instant) -> Turn {
        loop {
            match self.turn(wanted).await {
                Turn::Waits if Instant::now() + RETRY < ends => tokio::time::sleep(RETRY).await,
                turn => return turn,
            }
        }
    }

    /// Takes an order; the turn that follows carries it out. Gives the answer, and what is to be told of the order.
    async fn order(
        &mut self,
        wanted: &Wanted,
        order: &ConfigOrder,
        (by, because): (Operator, Option<String>),
        dry_run: bool,
    ) -> (Reply, Option<BackStep>) {
        let deny = |words: &str| (Reply::plain(Answer::Denied, words, dry_run), None);
        let to = match order {
            ConfigOrder::Rollback { to } => Some(to.clone()),
            ConfigOrder::Resume {} => None,
            // Asks for nothing that would have to be rendered, or be ours.
            ConfigOrder::History {} => return (rollback::told(wanted).await, None),
        };
        let rendered = match render(wanted).await {
            Ok(rendered) => rendered,
            Err(error) => {
                return deny(&format!("nobody knows what it would be in place of: {}", chain(&error)));
            }
        };
        let running = match wanted.target.runtime.info().await {
            Ok(info) if !wanted.take_over && is_anothers(&info, wanted) => {
                return deny("this HAProxy belongs to another supervisor");
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
        let (reply, step) = match to {
            Some(to) => rollback::go_back(wanted, asked, to).await,
            None => rollback::resume(wanted, asked).await,
        };
        if reply.verdict == Answer::Accepted && !dry_run {
            // A person knows better than the clock when to try again.
            self.refused = None;
            self.restored = false;
        }
        (reply, step.filter(|_| !dry_run))
    }

    /// An HAProxy that does not run finds its configuration when it starts: unless it has it already, or it is another's.
    async fn prepare(&mut self, wanted: &Wanted, rendered: &Rendered, hold: Option<Hold>) -> Turn {
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
            Ok(Err(words)) => match hold.filter(|hold| hold.if_refused != IfRefused::KeepHolding) {
                // What comes instead is prepared by the next turn.
                Some(hold) => {
                    self.rejected(wanted, rendered.revision.clone(), Some(hold), message(&words), None).await
                }
                None => self.put_back(wanted, refused(&words)).await,
            },
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
