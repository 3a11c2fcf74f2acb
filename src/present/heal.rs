//! What is said about containers that ended, and about their healing.

use super::pieces::{self, exited};
use crate::domain::action::Deed;
use crate::domain::event::ComposeService;
use crate::domain::id::ContainerName;
use crate::domain::policy::ContainerRef;
use crate::domain::reason::Then;
use crate::domain::repair::depends::{NetworkLoss, Unkept};
use crate::domain::repair::{Ender, Ending, HealWait, Phase, Stands};
use crate::domain::time::Span;

/// That it ended, who did it, and what follows.
pub(super) fn ended(container: &ContainerRef, ending: &Ending, then: Then) -> String {
    let name = &container.name;
    let then = match (then, ending.who) {
        (Then::Start { pause: Span::ZERO }, _) => "it is started again at once".to_owned(),
        (Then::Start { pause }, _) => format!("it is started again in {pause}"),
        (Then::Waits, _) => "it is to be started again when nothing holds that back".to_owned(),
        (Then::Docker { wait }, Ender::Engine | Ender::Unseen) => {
            format!("its engine may start it; supervisor does in {wait}")
        }
        (Then::Docker { wait }, _) => {
            format!("Docker's restart policy goes first; supervisor starts it if it is still down in {wait}")
        }
        (Then::Hold, _) => format!("nothing is started; `docker start {name}` ends the hold"),
        (Then::GiveUp, _) => "it was started too often to be started again at once".to_owned(),
        (Then::Nothing, Ender::Unseen) => format!(
            "that may have been an operator, so it stays as it is; `docker start {name}` if it was not"
        ),
        (Then::Nothing, _) => "it stays as it is, by its heal policy".to_owned(),
    };
    format!("{name} {}: {then}", how(ending))
}

/// How it ended: "was stopped by an operator".
pub fn how(ending: &Ending) -> String {
    let code = || {
        let memory = if ending.oom { "out of memory, " } else { "" };
        match ending.exit {
            Some(exit) => format!(" ({memory}exit {exit})"),
            None if ending.oom => " (out of memory)".to_owned(),
            None => String::new(),
        }
    };
    match ending.who {
        Ender::Crash if ending.oom => "ran out of memory and was killed".to_owned(),
        Ender::Crash if ending.exit == Some(0) => exited(ending.exit),
        Ender::Crash => format!("crashed{}", code()),
        Ender::Stop => "was stopped by an operator".to_owned(),
        Ender::Kill => "was killed by an operator (docker kill)".to_owned(),
        Ender::Engine => "went down with its Docker engine".to_owned(),
        Ender::Unseen => format!("ended while nobody watched{}", code()),
    }
}

/// That it is started or restarted.
pub(super) fn heals(container: &ContainerRef, deed: Deed, attempt: u16, limit: u16, window: Span) -> String {
    let what = match deed {
        Deed::Start => "is started",
        Deed::Restart { .. } => "runs but is dead, and is restarted",
    };
    let name = &container.name;
    if attempt > limit {
        let (starts, are) = if limit == 1 { ("start", "is") } else { ("starts", "are") };
        return format!(
            "{name} {what} once more: its {limit} {starts} within {window} {are} used up, so this is a slow try"
        );
    }
    format!("{name} {what} (start {attempt} of at most {limit} within {window})")
}

/// That it was, or that it failed.
pub(super) fn healed(container: &ContainerRef, deed: Deed, failed: Option<&str>) -> String {
    let name = &container.name;
    match (failed, deed) {
        (None, Deed::Start) => format!("{name} was started by supervisor"),
        (None, Deed::Restart { .. }) => format!("{name} was restarted by supervisor"),
        (Some(words), Deed::Start) => format!("{name} could not be started: {}", pieces::one_line(words)),
        (Some(words), Deed::Restart { .. }) => {
            format!("{name} could not be restarted: {}", pieces::one_line(words))
        }
    }
}

/// That nobody knows whether it was.
pub(super) fn unknown(container: &ContainerRef, deed: Deed, words: &str) -> String {
    let what = match deed {
        Deed::Start => "started",
        Deed::Restart { .. } => "restarted",
    };
    let words = pieces::one_line(words);
    format!(
        "nobody knows yet whether Docker {what} {}: {words}; what became of it is looked at next",
        container.name
    )
}

/// Why it is not healed now.
pub(super) fn waits(container: &ContainerRef, why: &HealWait, left: Option<Span>) -> String {
    format!("{} {}", container.name, waits_for(&container.name, why, left))
}

/// The same, said of a container.
fn waits_for(name: &ContainerName, why: &HealWait, left: Option<Span>) -> String {
    let when = when(left);
    match why {
        HealWait::SiteBudget { site } => {
            format!(
                "is not started yet: too many containers of {site} were; the next start is possible {when}"
            )
        }
        HealWait::Together { dead, of } => format!(
            "is not restarted: {dead} of {of} servers of its service are dead together, so it is something they have in common"
        ),
        HealWait::Paused { scope } => format!("is not healed: {} is paused", super::order::scope(*scope)),
        HealWait::Dependency { on, stands } => {
            let on = pieces::one_line(&on.0);
            match stands {
                Stands::Down => {
                    format!(
                        "waits for {on}, on which it depends and which does not run: it is healed when {on} runs"
                    )
                }
                Stands::Held => format!(
                    "is not healed: it depends on {on}, which an operator stopped; `docker start {on}` lets both run"
                ),
                Stands::Unseen => format!(
                    "is not healed: it depends on {on}, which was not started yet; `docker start {on}` lets both run"
                ),
                Stands::Gone => format!("is not healed: it depends on {on}, which does not exist"),
                Stands::Unwatched => format!(
                    "is not healed: it uses the network of {on}, which does not run and is not looked after; \
                     `docker start {on}` lets both run"
                ),
            }
        }
        HealWait::NetworkGone { of, compose } => format!(
            "cannot be healed: it uses the network of {}, and that container was removed; {}",
            pieces::one_line(&of.0),
            anew(name, compose.as_ref())
        ),
        HealWait::Spent => format!(
            "was restarted too often and is dead all the same: a person is needed; it is tried again {when}"
        ),
        HealWait::LastServing => {
            "is not restarted although it seems dead: it answers, and nothing else can take over from it"
                .to_owned()
        }
        HealWait::BeingEnded => {
            format!("runs but is dead, and is not restarted: somebody is ending it; looked at again {when}")
        }
        HealWait::TrafficLeaves => {
            format!("is restarted when its traffic has left it, {when} at the earliest")
        }
    }
}

fn when(left: Option<Span>) -> String {
    left.map_or_else(|| "soon".to_owned(), |left| format!("in {left}"))
}

/// How a container is created anew that uses the network of one that does not exist any more.
fn anew(name: &ContainerName, compose: Option<&ComposeService>) -> String {
    match compose {
        Some(ComposeService { project, service }) => format!(
            "in the directory of its project, `docker compose -p {project} up -d --force-recreate {service}` creates it anew"
        ),
        None => format!(
            "`docker rm -f {name}`, then create it anew as it was, on the network of the container that has taken that one's place"
        ),
    }
}

/// That it has lost the network that it uses.
pub(super) fn network_lost(container: &ContainerRef, loss: &NetworkLoss) -> String {
    let name = &container.name;
    match loss {
        NetworkLoss::Restarted { of, .. } => {
            let of = pieces::one_line(&of.0);
            format!(
                "{name} has no network: it uses that of {of}, which was started anew after it; a restart gives it the new one"
            )
        }
        NetworkLoss::Gone { of, compose } => format!(
            "{name} has no network: it uses that of {}, and that container was removed; {}",
            pieces::one_line(&of.0),
            anew(name, compose.as_ref())
        ),
    }
}

/// Why a name in its label is not waited for.
pub(super) fn unkept(container: &ContainerRef, on: &ContainerName, why: Unkept) -> String {
    let (name, on) = (&container.name, pieces::one_line(&on.0));
    match why {
        Unkept::Itself => {
            format!("{name} names itself in its label supervisor.depends-on: that is not waited for")
        }
        Unkept::Unwatched => format!(
            "{name} names {on} in its label supervisor.depends-on, and supervisor looks after no such container: it is not \
             waited for; name it as [containers.{on}], or correct the label"
        ),
        Unkept::Circle => format!(
            "{name} names {on} in its label supervisor.depends-on, and {on} depends on {name}: it is not waited for, since \
             neither would ever be started; correct one of the labels"
        ),
    }
}

/// That its label says something that nobody understands.
pub(super) fn label_unknown(container: &ContainerRef, value: &str) -> String {
    format!(
        "{} has the label supervisor.heal={:?}, which is none of auto, always, notify and never: it is healed as if it had \
         none; correct the label",
        container.name,
        pieces::one_line(value)
    )
}

/// Where it stands: "held: was stopped by an operator".
pub(super) fn stands(
    container: &ContainerRef,
    phase: &Phase,
    last: Option<&Ending>,
    waits: Option<&HealWait>,
    left: Option<Span>,
) -> String {
    let name = &container.name;
    let how = last.map(how);
    let it = || how.clone().unwrap_or_else(|| "ended".to_owned());
    if let Some(why) = waits {
        let it = if matches!(phase, Phase::Ailing { .. }) { "runs but is dead".to_owned() } else { it() };
        return format!("{name} {it}, and {}", waits_for(name, why, left));
    }
    let when = when(left);
    match phase {
        Phase::Unseen => format!("{name} was not seen running yet"),
        Phase::Runs { .. } => format!("{name} runs"),
        Phase::Ailing { .. } => format!("{name} runs but is dead; a restart is considered {when}"),
        Phase::Judging { .. } => format!("{name} ended; who did it is known {when}"),
        Phase::Stopping { .. } => format!("{name} is being stopped"),
        Phase::Held { .. } => {
            format!("{name} {}: nothing is started; `docker start {name}` ends the hold", it())
        }
        Phase::WithEngine => format!("{name} went down with its Docker engine"),
        Phase::Docker { .. } => {
            format!("{name} {}: Docker may start it by itself; supervisor does {when}", it())
        }
        Phase::Due { .. } => {
            format!(
                "{name} {}: it is started {when}, after a pause that grows with each start in a row",
                it()
            )
        }
        Phase::Acting { deed: Deed::Start, .. } => format!("{name} is being started"),
        Phase::Acting { deed: Deed::Restart { .. }, .. } => format!("{name} is being restarted"),
        Phase::GivenUp { .. } => {
            format!("{name} {} again and again: a person is needed; it is tried again {when}", it())
        }
        Phase::Left => format!("{name} {} and stays as it is: `docker start {name}` starts it", it()),
        Phase::Gone => {
            format!("{name} does not exist in Docker: supervisor starts containers, but creates none")
        }
    }
}
