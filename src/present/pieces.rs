//! The small pieces that sentences are made of.

use crate::domain::command::Operator;
use crate::domain::event::ContainerStatus;
use crate::domain::id::{ServerId, SiteId};
use crate::domain::time::Wall;
use crate::domain::witness::{Cause, ContainerFault, ProbeFault, ProbeOutcome, Strain};
use std::fmt::Display;

/// The longest text of somebody else (HAProxy, Docker, a person) inside one of our sentences, in characters. Enough for
/// an error message, short enough that a log line stays a line.
const FOREIGN_TEXT_MAX: usize = 300;

/// Why a server is down, said of that server: "connected, but no answer in time".
pub fn cause(cause: Cause) -> String {
    match cause {
        Cause::Probe(fault) => probe_fault(fault),
        Cause::Container(fault) => format!("its container {}", container_fault(fault)),
    }
}

/// Why a site is down, said of that site: "onprem's container was killed (exit 137)".
pub fn site_is_down(site: SiteId, cause: Cause) -> String {
    match cause {
        Cause::Container(fault) => format!("{site}'s container {}", container_fault(fault)),
        Cause::Probe(fault) => format!("{site} is down ({})", probe_fault(fault)),
    }
}

/// What speaks against a server that is up.
pub(super) fn strain(strain: Strain) -> String {
    match strain {
        Strain::Slow { took } => format!("it answers slowly ({took})"),
        Strain::Bad(fault) => format!("it fails again and again ({})", probe_fault(fault)),
    }
}

fn probe_fault(fault: ProbeFault) -> String {
    match fault {
        ProbeFault::Refused => "the connection is refused, so nothing listens there".to_owned(),
        ProbeFault::Status(status) => format!("its health check answers with status {status}"),
        ProbeFault::Body => "its health check answers, but not with the expected body".to_owned(),
        ProbeFault::Broken => "connected, but the connection broke before a whole answer".to_owned(),
        ProbeFault::Silent => "connected, but no answer in time".to_owned(),
        ProbeFault::Tls => "connected, but TLS failed (certificate or protocol)".to_owned(),
        ProbeFault::ConnectTimeout => "no connection in time".to_owned(),
        ProbeFault::Unreachable => "there is no network route to it".to_owned(),
        ProbeFault::Dns => "its name cannot be resolved".to_owned(),
        ProbeFault::OwnResources => "supervisor has no descriptor or port left to probe it".to_owned(),
    }
}

fn container_fault(fault: ContainerFault) -> String {
    match fault {
        ContainerFault::Died { exit } => exited(exit),
        ContainerFault::OutOfMemory => "ran out of memory and was killed".to_owned(),
        ContainerFault::Paused => "is paused".to_owned(),
        ContainerFault::Dead => "was dead while it ran".to_owned(),
    }
}

/// An exit code as people say it. 128 + n is what a shell and Docker report for "ended by signal n" (signal(7)).
pub(super) fn exited(exit: Option<i32>) -> String {
    match exit {
        None => "died".to_owned(),
        Some(0) => "ended without an error (exit 0)".to_owned(),
        Some(134) => "aborted (exit 134)".to_owned(),
        Some(137) => "was killed (exit 137)".to_owned(),
        Some(139) => "crashed with a segmentation fault (exit 139)".to_owned(),
        Some(143) => "was told to stop (exit 143)".to_owned(),
        Some(code @ 129..=192) => format!("was ended by signal {} (exit {code})", code - 128),
        Some(code) => format!("died (exit {code})"),
    }
}

/// What Docker last said about a container.
pub fn container(status: ContainerStatus) -> String {
    match status {
        ContainerStatus::Running => "running".to_owned(),
        ContainerStatus::Paused => "paused".to_owned(),
        ContainerStatus::Restarting => "restarting".to_owned(),
        ContainerStatus::Created => "never started".to_owned(),
        ContainerStatus::Exited { oom: true, .. } => "killed for want of memory".to_owned(),
        ContainerStatus::Exited { exit: Some(exit), oom: false } => format!("exited ({exit})"),
        ContainerStatus::Exited { exit: None, oom: false } => "exited".to_owned(),
        ContainerStatus::Dead => "dead".to_owned(),
        ContainerStatus::Unknown => "in a state this version does not know".to_owned(),
    }
}

/// What the last probe found: "200 in 3 ms".
pub fn evidence(outcome: ProbeOutcome) -> String {
    match outcome {
        ProbeOutcome::Healthy { status, took } => format!("{status} in {took}"),
        ProbeOutcome::Connected { took } => format!("connected in {took}"),
        ProbeOutcome::Failed(fault) => probe_fault(fault),
    }
}

/// A server by its name, with its service in front where the name alone would not say which one it is.
pub fn server(id: ServerId) -> String {
    let (service, name) = (id.service.as_str(), id.server.as_str());
    if name.starts_with(service) { name.to_owned() } else { format!("{service}/{name}") }
}

/// A person: the name where the system knows one.
pub fn operator(by: &Operator) -> String {
    match &by.name {
        Some(name) => one_line(name),
        None => format!("user {}", by.uid),
    }
}

/// A wall time: RFC 3339, UTC, to the millisecond. The same everywhere, so that a log line, a journal entry and a mail
/// can be laid side by side.
pub fn time(wall: Wall) -> String {
    match jiff::Timestamp::from_millisecond(wall.0) {
        Ok(timestamp) => format!("{timestamp:.3}"),
        // Further away than the year 9999: no clock of ours, but no reason to fall over either.
        Err(_) => format!("{} ms since 1970", wall.0),
    }
}

/// Foreign text as part of one line: no control characters, no full stop, bounded.
pub(super) fn one_line(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(FOREIGN_TEXT_MAX).collect();
    if line.len() < text.len() {
        line.push_str("...");
    }
    line
}

/// Names, joined: "api, shop".
pub(super) fn list<T: Display>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
