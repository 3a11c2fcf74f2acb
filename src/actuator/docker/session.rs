//! One subscription to an engine's events, from the connect to its end.
//!
//! Subscribe, list, apply what was buffered, go on. The order matters: a list that came first would leave a gap. The
//! reader does nothing but read: an engine drops events of a subscriber that is slow, and says nothing.

use super::engine::{Engine, EngineError};
use super::past::{self, EngineTime};
use super::signs::Signs;
use super::translate::{self, Heard};
use super::watch::{Link, Told};
use crate::clock::boot_now;
use crate::domain::Event;
use crate::domain::event::{
    ContainerEvent, ContainerList, ContainerSeen, ContainerSign, ContainerStatus, LastSigns, Past,
};
use crate::domain::id::ContainerName;
use crate::domain::time::Boot;
use bollard::Docker;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// How many events wait while the core is busy; more than any burst of a `compose down`. What is beyond is dropped and
/// made up for by a list.
const BUFFER: usize = 1024;

/// An events stream has no heartbeat of its own; with [`CALL_WITHIN`](super::engine::CALL_WITHIN) a dead engine is found
/// within 9 s.
const PING_EVERY: Duration = Duration::from_secs(5);

/// A list that differs from the last one without an event in between is a sign that the stream is dead; the event may
/// also still be on its way for so long.
const EVENT_ON_ITS_WAY: Duration = Duration::from_secs(1);

/// How often a list is begun again because events came while it was made, before it is told as it is.
const LISTS_IN_A_ROW: u32 = 3;

/// How a session ended.
pub(super) enum End {
    /// The daemon no longer listens.
    Unheard,
    /// The engine answers, but its events do not come, or could not be read.
    Deaf,
    /// The engine is lost.
    Lost(EngineError),
}

impl From<EngineError> for End {
    fn from(error: EngineError) -> End {
        End::Lost(error)
    }
}

impl<T> From<mpsc::error::SendError<T>> for End {
    fn from(_: mpsc::error::SendError<T>) -> End {
        End::Unheard
    }
}

/// What a session works with; it outlives none of it.
pub(super) struct Session<'a> {
    pub engine: &'a Engine,
    pub watched: &'a mut watch::Receiver<BTreeSet<ContainerName>>,
    pub hard: &'a mpsc::Sender<Event>,
    pub told: &'a mut Told,
    pub link: &'a mut Link,
}

/// What the containers looked like in the last list; none for one that did not exist.
type Seen = BTreeMap<ContainerName, Option<ContainerSeen>>;

/// A list that is being made.
type Listing<'a> = Pin<Box<dyn Future<Output = Result<(Boot, Seen), EngineError>> + Send + 'a>>;

impl Session<'_> {
    /// Runs until it ends; it has no good end. Says also what the engine announced last.
    pub(super) async fn run(&mut self, resync: Duration) -> (End, LastSigns) {
        let signs = Arc::new(Mutex::new(Signs::default()));
        let end = match self.follow(resync, &signs).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let last = signs.lock().unwrap_or_else(PoisonError::into_inner).last();
        (end, last)
    }

    async fn follow(
        &mut self,
        resync: Duration,
        signs: &Arc<Mutex<Signs>>,
    ) -> Result<std::convert::Infallible, End> {
        let docker = self.engine.connect().await?;
        let time = EngineTime::ask(self.engine, &docker).await;
        let mut reader = Reader::start(self.engine, &docker, &time, self.watched.clone(), Arc::clone(signs));
        let mut heartbeat = start_heartbeat(self.engine, &docker);

        // Everything that happens from now on is in the buffer.
        let (engine, hard) = (self.engine, self.hard);
        let names = self.watched.borrow_and_update().clone();
        let past = past::ask(engine, &docker, &time, &names, self.told).await?;
        // Whether the next list needs the past, too.
        let mut missed = false;
        let (at, mut seen) = list(engine, &docker, names, Seen::new()).await?;
        self.tell(at, &seen, past).await?;

        let mut heard_since = BTreeSet::new();
        let mut suspicion: Option<Suspicion> = None;
        let mut listing: Option<Listing<'_>> = None;
        let mut wanted = false;
        let (mut disturbed, mut lists_in_a_row) = (false, 0);
        let mut resync = interval_at(Instant::now() + resync, resync);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if wanted && listing.is_none() {
                let names = self.watched.borrow_and_update().clone();
                let (docker, before) = (docker.clone(), seen.clone());
                listing = Some(Box::pin(async move { list(engine, &docker, names, before).await }));
                (wanted, disturbed) = (false, false);
                lists_in_a_row += 1;
            }
            // Cancelling any of these loses nothing: what is under way is kept across turns in a variable or a task.
            tokio::select! {
                biased;
                () = hard.closed() => return Err(End::Unheard),
                heard = reader.events.recv() => {
                    let Some((at, heard)) = heard else { return Err(reader.end().await) };
                    if suspicion.as_ref().is_some_and(|suspicion| suspicion.name == heard.name) {
                        suspicion = None;
                    }
                    heard_since.insert(heard.name.clone());
                    heard_since.extend(heard.old_name.clone());
                    disturbed = true;
                    // A name that came or went is read anew; nothing is known about it from signs. Of one that starts
                    // the facts may have changed: its count of restarts, its check.
                    wanted |= matches!(heard.sign, None | Some(ContainerSign::Started));
                    self.announce(at, heard).await?;
                }
                () = reader.overflowed.notified() => {
                    tracing::warn!(engine = %engine.id, "more events than could be taken in time: the list makes up for them");
                    (wanted, missed) = (true, true);
                }
                done = listed(&mut listing) => {
                    listing = None;
                    let (mut at, mut fresh) = done?;
                    // Events that came meanwhile are newer than some of what was read: it would take them back.
                    if disturbed && lists_in_a_row < LISTS_IN_A_ROW {
                        wanted = true;
                        continue;
                    }
                    lists_in_a_row = 0;
                    suspicion = suspicion.or_else(|| Suspicion::of(&seen, &fresh, &heard_since));
                    heard_since.clear();
                    // Of what was not watched before, or could not be read, nobody has listened to the end. The list comes
                    // after the past: what the past holds is not announced again, so the list must show it.
                    let past = if missed || has_strangers(&seen, &fresh) {
                        let names: BTreeSet<ContainerName> = fresh.keys().cloned().collect();
                        let time = EngineTime::ask(engine, &docker).await;
                        let past = past::ask(engine, &docker, &time, &names, self.told).await?;
                        (at, fresh) = list(engine, &docker, names, seen.clone()).await?;
                        past
                    } else {
                        Past::default()
                    };
                    missed = false;
                    self.tell(at, &fresh, past).await?;
                    seen = fresh;
                }
                beat = &mut heartbeat => return Err(beat.map_or(End::Deaf, End::Lost)),
                changed = self.watched.changed() => {
                    if changed.is_err() {
                        return Err(End::Unheard);
                    }
                    wanted = true;
                }
                _ = resync.tick() => wanted = true,
                () = confirmed(suspicion.as_ref()) => return Err(End::Deaf),
            }
        }
    }

    /// One event, if it is news about a container that is watched.
    async fn announce(&mut self, at: Boot, heard: Heard) -> Result<(), End> {
        let Some(sign) = heard.sign else { return Ok(()) };
        if !self.watched.borrow().contains(&heard.name) || !self.told.is_new(&heard.key) {
            return Ok(());
        }
        let (engine, nanoseconds) = (self.engine.id, heard.key.nanoseconds);
        let event = ContainerEvent { engine, name: heard.name, id: heard.key.id, at, nanoseconds, sign };
        Ok(self.hard.send(Event::Container(event)).await?)
    }

    /// The whole list; the first one also says that the engine is there.
    async fn tell(&mut self, at: Boot, seen: &Seen, past: Past) -> Result<(), End> {
        if *self.link != Link::Found {
            tracing::info!(engine = %self.engine.id, address = %self.engine.address, "docker engine found");
            *self.link = Link::Found;
        }
        let there = seen.iter().filter_map(|(name, seen)| Some((name.clone(), seen.clone()?)));
        let list = ContainerList { engine: self.engine.id, at, containers: there.collect(), past };
        Ok(self.hard.send(Event::Containers(list)).await?)
    }
}

/// A change that no event announced.
struct Suspicion {
    name: ContainerName,
    /// When it is certain.
    certain: Instant,
}

impl Suspicion {
    fn of(before: &Seen, after: &Seen, heard: &BTreeSet<ContainerName>) -> Option<Suspicion> {
        let readable = |seen: &Option<ContainerSeen>| {
            !seen.as_ref().is_some_and(|seen| seen.status == ContainerStatus::Unknown)
        };
        let unannounced = before.iter().find(|(name, before)| {
            let life =
                |seen: &Option<ContainerSeen>| seen.as_ref().map(|seen| (seen.id.clone(), seen.status));
            let after = after.get(*name).filter(|after| life(after) != life(before));
            after.is_some_and(|after| readable(before) && readable(after)) && !heard.contains(*name)
        });
        unannounced
            .map(|(name, _)| Suspicion { name: name.clone(), certain: Instant::now() + EVENT_ON_ITS_WAY })
    }
}

async fn confirmed(suspicion: Option<&Suspicion>) {
    match suspicion {
        Some(suspicion) => sleep_until(suspicion.certain).await,
        None => std::future::pending().await,
    }
}

async fn listed(listing: &mut Option<Listing<'_>>) -> Result<(Boot, Seen), EngineError> {
    match listing {
        Some(listing) => listing.await,
        None => std::future::pending().await,
    }
}

/// Whether `fresh` has a container whose name is new, or that could not be read before.
fn has_strangers(before: &Seen, fresh: &Seen) -> bool {
    let readable = |seen: &ContainerSeen| !seen.id.is_empty();
    let stranger = |name: &ContainerName| match before.get(name) {
        None => true,
        // It did not exist: all that it did was announced.
        Some(None) => false,
        Some(Some(seen)) => !readable(seen),
    };
    fresh.iter().any(|(name, seen)| seen.as_ref().is_some_and(readable) && stranger(name))
}

/// Looks at every one of `names`.
async fn list(
    engine: &Engine,
    docker: &Docker,
    names: BTreeSet<ContainerName>,
    before: Seen,
) -> Result<(Boot, Seen), EngineError> {
    let at = boot_now();
    let mut found = engine.inspect(docker, &names, &before).await?;
    let seen = names.into_iter().map(|name| {
        let seen = found.remove(&name);
        (name, seen)
    });
    Ok((at, seen.collect()))
}

/// Ends with what was wrong when a ping is not answered.
fn start_heartbeat(engine: &Engine, docker: &Docker) -> AbortOnDropHandle<EngineError> {
    let (engine, docker) = (engine.clone(), docker.clone());
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            sleep(PING_EVERY).await;
            if let Err(error) = engine.call("a ping", docker.ping()).await {
                return error;
            }
        }
    }))
}

/// Reads the stream without ever waiting for the core.
struct Reader {
    events: mpsc::Receiver<(Boot, Heard)>,
    /// Events were dropped.
    overflowed: Arc<Notify>,
    task: AbortOnDropHandle<End>,
}

impl Reader {
    fn start(
        engine: &Engine,
        docker: &Docker,
        since: &EngineTime,
        watched: watch::Receiver<BTreeSet<ContainerName>>,
        signs: Arc<Mutex<Signs>>,
    ) -> Reader {
        let filters = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::new().since(&since.text()).filters(&filters).build();
        let (send, events) = mpsc::channel(BUFFER);
        let overflowed = Arc::new(Notify::new());
        let (engine, docker, overflow) = (engine.clone(), docker.clone(), Arc::clone(&overflowed));
        let task = tokio::spawn(async move {
            let mut stream = pin!(docker.events(Some(options)));
            while let Some(message) = stream.next().await {
                let message = match message {
                    Ok(message) => message,
                    // bollard's stream cannot go on after an event that it cannot read.
                    Err(error @ bollard::errors::Error::JsonDataError { .. }) => {
                        tracing::debug!(engine = %engine.id, %error, "an event that cannot be read");
                        return End::Deaf;
                    }
                    Err(error) => return End::Lost(engine.error("its events", error)),
                };
                let at = boot_now();
                let Some(heard) = translate::heard(message) else { continue };
                signs.lock().unwrap_or_else(PoisonError::into_inner).note(at, &heard);
                let ours = |watched: &BTreeSet<ContainerName>| {
                    watched.contains(&heard.name)
                        || heard.old_name.as_ref().is_some_and(|name| watched.contains(name))
                };
                if ours(&watched.borrow()) && send.try_send((at, heard)).is_err() {
                    overflow.notify_one();
                }
            }
            End::Lost(EngineError::Ended { address: engine.address })
        });
        Reader { events, overflowed, task: AbortOnDropHandle::new(task) }
    }

    /// Why it ended.
    async fn end(self) -> End {
        // A reader that panicked is replaced like one that could not read.
        self.task.await.unwrap_or(End::Deaf)
    }
}
