//! What an engine remembers from before we listened: how its containers came to be as the list shows them.

use super::engine::{Engine, EngineError};
use super::translate::{self, Heard};
use super::watch::Told;
use crate::clock::{boot_now, wall_now};
use crate::domain::event::{ContainerEvent, ContainerSign, Past};
use crate::domain::id::{ContainerName, EngineId};
use crate::domain::time::{Boot, Span};
use bollard::Docker;
use bollard::errors::Error as Cause;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::{StreamExt, TryStreamExt};
use std::collections::{BTreeMap, BTreeSet};

/// An engine remembers 256 events, of all kinds (moby, `daemon/events`: `eventsLimit`). One that gives far fewer remembers all
/// since its start; what happened while it was asked has pushed out some and is not among them.
const REMEMBERED_BY_ENGINE: usize = 192;

/// The most that is read: an engine that keeps a long journal of events (Podman) is asked for no more.
const READ_MAX: usize = 4096;

/// A moment on the engine's own clock, which may differ from ours, and on our boot clock.
#[derive(Debug, Clone, Copy)]
pub struct EngineTime {
    nanoseconds: i64,
    at: Boot,
    live_restore: bool,
    /// The engine said so itself.
    told: bool,
}

impl EngineTime {
    /// The engine says that it is `nanoseconds` since the Unix epoch, at `at`.
    pub fn told(nanoseconds: i64, at: Boot, live_restore: bool) -> EngineTime {
        EngineTime { nanoseconds, at, live_restore, told: true }
    }

    /// Now. From there on nothing is missed, however long it takes until the engine has registered us. (It answers with
    /// its head before it does.)
    pub(super) async fn ask(engine: &Engine, docker: &Docker) -> EngineTime {
        let info = engine.call("its time", docker.info()).await.unwrap_or_default();
        let at = boot_now();
        let told = info.system_time.and_then(|text| text.parse::<jiff::Timestamp>().ok());
        let told = told.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
        // An engine whose `/info` bollard cannot read; at worst an event of the last second comes twice.
        let nanoseconds =
            told.unwrap_or_else(|| wall_now().0.saturating_sub(1000).saturating_mul(NANOSECONDS_PER_MS));
        let live_restore = info.live_restore_enabled.unwrap_or(false);
        EngineTime { nanoseconds, at, live_restore, told: told.is_some() }
    }

    /// As `since` and `until` want it.
    pub(super) fn text(self) -> String {
        format!(
            "{}.{:09}",
            self.nanoseconds.div_euclid(1_000_000_000),
            self.nanoseconds.rem_euclid(1_000_000_000)
        )
    }

    /// When that was that happened at `nanoseconds`.
    fn boot_at(self, nanoseconds: i64) -> Boot {
        let ago = self.nanoseconds.saturating_sub(nanoseconds) / NANOSECONDS_PER_MS;
        self.at - Span(u64::try_from(ago).unwrap_or(0))
    }
}

const NANOSECONDS_PER_MS: i64 = 1_000_000;

/// Asks for what happened to `names` until `now`; `told` learns of it, since the stream may tell the end of it again.
///
/// # Errors
///
/// When the engine does not answer. Events that cannot be read are no error: then nothing is known about the past.
pub(super) async fn ask(
    engine: &Engine,
    docker: &Docker,
    now: &EngineTime,
    names: &BTreeSet<ContainerName>,
    told: &mut Told,
) -> Result<Past, EngineError> {
    // On a guessed clock the recent past may be its future, for which it would make us wait.
    if !now.told {
        return Ok(forgotten(now));
    }
    // Not only containers' events: their number says whether the engine has forgotten some.
    let options = EventsOptionsBuilder::new().since("0").until(&now.text()).build();
    let events = docker.events(Some(options)).take(READ_MAX).try_collect::<Vec<EventMessage>>();
    let events = match engine.call("what it remembers", events).await {
        Ok(events) if events.len() < READ_MAX => events,
        Ok(_) => return Ok(forgotten(now)),
        Err(EngineError::Failed { source: source @ Cause::JsonDataError { .. }, .. }) => {
            tracing::debug!(engine = %engine.id, error = %source, "the past cannot be read");
            return Ok(forgotten(now));
        }
        Err(error) => return Err(error),
    };
    let oldest = events.first().and_then(|event| event.time_nano);
    let reaches =
        (events.len() >= REMEMBERED_BY_ENGINE).then(|| oldest.map_or(now.at, |time| now.boot_at(time)));
    Ok(recollect(engine.id, events.into_iter().filter_map(translate::heard), reaches, now, names, told))
}

/// What of `events` bears on how the containers `names` came to be as they are: each one's last start, and what came after
/// it. `told` learns of it, since the stream may tell the end of it again.
pub fn recollect(
    engine: EngineId,
    events: impl IntoIterator<Item = Heard>,
    reaches: Option<Boot>,
    now: &EngineTime,
    names: &BTreeSet<ContainerName>,
    told: &mut Told,
) -> Past {
    let mut last: BTreeMap<ContainerName, Vec<ContainerEvent>> = BTreeMap::new();
    for heard in events {
        let Some(sign) = heard.sign.filter(|_| names.contains(&heard.name)) else { continue };
        told.is_new(&heard.key);
        let (at, nanoseconds) = (now.boot_at(heard.key.nanoseconds), heard.key.nanoseconds);
        let (name, id) = (heard.name.clone(), heard.key.id);
        let event = ContainerEvent { engine, name: heard.name, id, at, nanoseconds, sign };
        let chapter = last.entry(name).or_default();
        if sign == ContainerSign::Started {
            chapter.clear();
        }
        chapter.push(event);
    }
    let mut events: Vec<ContainerEvent> = last.into_values().flatten().collect();
    events.sort_by_key(|event| event.nanoseconds);
    Past { events, reaches, live_restore: now.live_restore }
}

/// A past of which nothing is known.
fn forgotten(now: &EngineTime) -> Past {
    Past { events: Vec::new(), reaches: Some(now.at), live_restore: now.live_restore }
}
