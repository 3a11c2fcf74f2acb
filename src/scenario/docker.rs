//! What Docker says: `docker …` and `engine NAME …`, and what it knows of a container: `container NAME …`.

use super::cast::Cast;
use super::happening::Happening;
use super::words::{Words, Wrong, name, number, one_of, span};
use crate::domain::event::{
    ComposeService, ContainerSign, ContainerStatus, DEPENDS_ON_MAX, DockersCheck, DockersPolicy, Facts,
};
use crate::domain::id::{ContainerName, EngineId, Name};
use crate::domain::policy::HealMode;
use crate::domain::time::Span;
use std::collections::BTreeSet;

/// The highest signal of Linux (signal(7)).
const SIGNAL_MAX: i32 = 64;

/// How a list has a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// None: it is in no list.
    pub(super) status: Option<ContainerStatus>,
    /// It is another container of the same name.
    pub(super) anew: bool,
}

/// One thing that Docker knows of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fact {
    Restart(DockersPolicy),
    Restarts(u32),
    StopSignal(i32),
    StopTimeout(Span),
    Check(Option<DockersCheck>),
    CheckTakes(Span),
    Label(Option<HealMode>),
    /// The label is misspelt.
    LabelUnknown(String),
    Unread(bool),
    DependsOn(BTreeSet<ContainerName>),
    /// The container whose network it uses; as Docker knows it depends on when that is said.
    NetworkOf(Option<ContainerName>),
    Compose(Option<ComposeService>),
}

pub(super) type FactWords = Vec<Fact>;

impl Fact {
    pub(super) fn changed(&self, facts: Facts) -> Facts {
        match self.clone() {
            Fact::Restart(restart) => Facts { restart, ..facts },
            Fact::Restarts(restarts) => Facts { restarts, ..facts },
            Fact::StopSignal(stop_signal) => Facts { stop_signal, ..facts },
            Fact::StopTimeout(stop_timeout) => Facts { stop_timeout, ..facts },
            Fact::Check(check) => Facts { check, ..facts },
            Fact::CheckTakes(check_takes) => Facts { check_takes, ..facts },
            Fact::Label(heal) => Facts { heal, heal_unknown: None, ..facts },
            Fact::LabelUnknown(word) => Facts { heal: None, heal_unknown: Some(word), ..facts },
            Fact::Unread(guessed) => Facts { guessed, ..facts },
            Fact::DependsOn(depends_on) => Facts { depends_on, ..facts },
            // Whose network that is, by its id, is for the world to say.
            Fact::NetworkOf(_) => facts,
            Fact::Compose(compose) => Facts { compose, ..facts },
        }
    }
}

/// What follows `docker`, or `engine NAME`.
pub(super) fn read(
    cast: &Cast,
    words: &mut Words<'_>,
    engine: Result<EngineId, Wrong>,
) -> Result<Happening, Wrong> {
    let word = words.next("a container, or what the engine does")?;
    Ok(match word {
        "lists" => {
            let engine = engine?;
            let mut found = Vec::new();
            for (name, state) in words.pairs()? {
                let container = cast.container_named(name)?;
                if container.engine != engine {
                    return Err(Wrong::new(name, format!("it runs on engine {}", container.engine)));
                }
                found.push((container, how(state)?));
            }
            Happening::Lists { engine, found }
        }
        "lost" => Happening::EngineLost(engine?),
        "forgets" => {
            let until = if words.take("until") { Some(words.span("until when")?) } else { None };
            Happening::Forgets { engine: engine?, until }
        }
        "live-restore" => Happening::LiveRestore(engine?),
        word => {
            let container = cast.container_named(word)?;
            let sign = sign(words)?;
            Happening::Docker { container, sign, heard: !words.take("unheard") }
        }
    })
}

/// What is announced about a container.
fn sign(words: &mut Words<'_>) -> Result<ContainerSign, Wrong> {
    let digits = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
    Ok(match words.next("what is announced")? {
        "started" => ContainerSign::Started,
        "died" => {
            let exit = match words.peek() {
                Some(word) if digits(word) => Some(words.number("its exit code", 0..=255)?),
                Some(_) | None => None,
            };
            ContainerSign::Died { exit }
        }
        "oom" => ContainerSign::OutOfMemory,
        "killed" => ContainerSign::Killed { signal: Some(words.number("the signal", 1..=SIGNAL_MAX)?) },
        "stopped" => ContainerSign::Stopped,
        "paused" => ContainerSign::Paused,
        "unpaused" => ContainerSign::Unpaused,
        "destroyed" => ContainerSign::Destroyed,
        "check" => ContainerSign::Checked(one_of(words.next("what its check says")?, &CHECKS)?),
        word => {
            let known = "started, died [N], oom, killed N, stopped, paused, unpaused, destroyed, check WORD";
            return Err(Wrong::new(word, format!("known here: {known}")));
        }
    })
}

const CHECKS: [(&str, DockersCheck); 3] = [
    ("starting", DockersCheck::Starting),
    ("healthy", DockersCheck::Healthy),
    ("unhealthy", DockersCheck::Unhealthy),
];

/// `running`, `exited:137:oom`, `missing`, `running:new`.
fn how(state: &str) -> Result<Found, Wrong> {
    let mut parts = state.split(':');
    let word = parts.next().unwrap_or_default();
    let (mut exit, mut oom, mut anew) = (None, false, false);
    for part in parts {
        match part {
            "new" => anew = true,
            "oom" if word == "exited" => oom = true,
            code if word == "exited" => exit = Some(number(code, 0..=255)?),
            _ => return Err(Wrong::new(state, "only `new` can follow, and to `exited` its code and `oom`")),
        }
    }
    let status = match word {
        "missing" => None,
        "exited" => Some(ContainerStatus::Exited { exit, oom }),
        word => Some(
            one_of(
                word,
                &[
                    ("running", ContainerStatus::Running),
                    ("paused", ContainerStatus::Paused),
                    ("restarting", ContainerStatus::Restarting),
                    ("created", ContainerStatus::Created),
                    ("dead", ContainerStatus::Dead),
                    ("unknown", ContainerStatus::Unknown),
                ],
            )
            .map_err(|wrong| Wrong::new(state, format!("{}, exited:N, missing", wrong.why)))?,
        ),
    };
    Ok(Found { status, anew })
}

/// `FACT=VALUE…`: what Docker knows of a container.
pub(super) fn facts(words: &mut Words<'_>) -> Result<FactWords, Wrong> {
    words.pairs()?.into_iter().map(|(key, value)| fact(key, value)).collect()
}

fn fact(key: &str, value: &str) -> Result<Fact, Wrong> {
    let modes = [
        ("none", None),
        ("auto", Some(HealMode::Auto)),
        ("always", Some(HealMode::Always)),
        ("notify", Some(HealMode::Notify)),
        ("never", Some(HealMode::Never)),
    ];
    let checks = CHECKS.map(|(name, check)| (name, Some(check)));
    Ok(match key {
        "restart" => Fact::Restart(dockers_policy(value)?),
        "restarts" => Fact::Restarts(number(value, 0..=1_000_000)?),
        "stop_signal" => Fact::StopSignal(number(value, 1..=SIGNAL_MAX)?),
        "stop_timeout" => Fact::StopTimeout(span(value)?),
        "check" if value == "none" => Fact::Check(None),
        "check" => Fact::Check(one_of(value, &checks)?),
        "check_takes" => Fact::CheckTakes(span(value)?),
        "label" => Fact::Label(one_of(value, &modes)?),
        "label_unknown" => Fact::LabelUnknown(name::<Name>(value)?.to_string()),
        "unread" => Fact::Unread(one_of(value, &[("true", true), ("false", false)])?),
        "depends_on" if value == "none" => Fact::DependsOn(BTreeSet::new()),
        "depends_on" => Fact::DependsOn(depends_on(value)?),
        "network_of" if value == "none" => Fact::NetworkOf(None),
        "network_of" => Fact::NetworkOf(Some(container_name(value)?)),
        "compose" if value == "none" => Fact::Compose(None),
        "compose" => {
            let (project, service) = value
                .split_once('/')
                .ok_or_else(|| Wrong::new(value, "PROJECT/SERVICE is expected here, or none"))?;
            let (project, service) = (name::<Name>(project)?, name::<Name>(service)?);
            Fact::Compose(Some(ComposeService { project: project.to_string(), service: service.to_string() }))
        }
        key => {
            let known = "restart, restarts, stop_signal, stop_timeout, check, check_takes, label, \
                         label_unknown, depends_on, network_of, compose, unread";
            return Err(Wrong::new(
                key,
                format!("Docker knows no such thing of a container; known: {known}"),
            ));
        }
    })
}

/// `NAME,NAME`: as the label `supervisor.depends-on` has them.
fn depends_on(value: &str) -> Result<BTreeSet<ContainerName>, Wrong> {
    let names: BTreeSet<ContainerName> = value.split(',').map(container_name).collect::<Result<_, _>>()?;
    match names.len() {
        0..=DEPENDS_ON_MAX => Ok(names),
        _ => Err(Wrong::new(value, format!("a container depends on {DEPENDS_ON_MAX} others at most"))),
    }
}

fn container_name(word: &str) -> Result<ContainerName, Wrong> {
    Ok(ContainerName(name::<Name>(word)?.to_string()))
}

fn dockers_policy(value: &str) -> Result<DockersPolicy, Wrong> {
    if let Some(most) = value.strip_prefix("on-failure:") {
        return Ok(DockersPolicy::OnFailure { most: number(most, 1..=1_000_000)? });
    }
    one_of(
        value,
        &[
            ("no", DockersPolicy::No),
            ("always", DockersPolicy::Always),
            ("unless-stopped", DockersPolicy::UnlessStopped),
            ("on-failure", DockersPolicy::OnFailure { most: 0 }),
        ],
    )
}
