//! What the witnesses say, and how much it weighs.
//!
//! Three witnesses speak about a server: our own probe, Docker, and HAProxy's check. Only what they positively report is
//! evidence; that a container runs or that a port accepts a connection proves nothing.

use super::time::Span;
use serde::{Deserialize, Serialize};

/// How a `ready` probe ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeOutcome {
    /// The expected status and body, in time.
    Healthy {
        /// The HTTP status.
        status: u16,
        /// From the connect to the end of the body.
        took: Span,
    },
    /// A connection was accepted, and nothing more was asked.
    Connected {
        /// How long that took.
        took: Span,
    },
    /// Anything else.
    Failed(ProbeFault),
}

/// The ways a probe fails, as far as they change what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeFault {
    /// The kernel at the other end said that nobody listens.
    Refused,
    /// An answer with a status that is not expected.
    Status(u16),
    /// The expected status, but not the expected body, or a body beyond the bound.
    Body,
    /// Connected, then the connection ended before a whole answer, or what came was no HTTP.
    Broken,
    /// Connected, then no whole answer in time.
    Silent,
    /// The TLS handshake failed: wrong or expired certificate, no common protocol.
    Tls,
    /// No connection in time.
    ConnectTimeout,
    /// No route to the host or network.
    Unreachable,
    /// The name could not be resolved.
    Dns,
    /// We could not even try: no descriptor or port left on our side.
    OwnResources,
}

/// What Docker reports about a container, as far as it is evidence against its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerFault {
    /// It exited.
    Died {
        /// With this code, where Docker tells.
        exit: Option<i32>,
    },
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// Somebody froze it (`docker pause`).
    Paused,
    /// It runs and is dead, as its `live` probes or Docker's own check say, and is about to be restarted.
    Dead,
}

/// Why a server is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Our own probe found it so.
    Probe(ProbeFault),
    /// Docker reported it.
    Container(ContainerFault),
}

/// What speaks against a server that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strain {
    /// A good answer that took too long.
    Slow {
        /// So long.
        took: Span,
    },
    /// An answer that was not good.
    Bad(ProbeFault),
}

/// What evidence is worth: how many times it must be heard before it acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Speaks for the server.
    Good,
    /// Acts at once: it cannot be a passing disturbance of ours.
    Hard(Cause),
    /// Acts after `fall` in a row: the server was reached and did not do its work.
    Full(Cause),
    /// Acts after `fall` in a row, unless somebody else reaches the server, or nobody reaches anything.
    Path(Cause),
    /// Says nothing, and voids what was counted: it is too late to be true.
    Void,
    /// Says nothing about the server, which was not asked: for want of something of ours. What was counted stays.
    Untried,
}

impl ProbeOutcome {
    /// What speaks against the server although it is up, where a good answer may take `slow_after`. What may be our own
    /// path does not.
    pub fn strain(self, slow_after: Option<Span>) -> Option<Strain> {
        match self {
            ProbeOutcome::Healthy { took, .. } | ProbeOutcome::Connected { took } => {
                slow_after.filter(|bound| took > *bound).map(|_| Strain::Slow { took })
            }
            ProbeOutcome::Failed(fault) => match self.evidence() {
                Evidence::Full(_) | Evidence::Hard(_) => Some(Strain::Bad(fault)),
                Evidence::Good | Evidence::Path(_) | Evidence::Void | Evidence::Untried => None,
            },
        }
    }

    /// The weight of this outcome when it arrives in time.
    pub fn evidence(self) -> Evidence {
        let fault = match self {
            ProbeOutcome::Healthy { .. } | ProbeOutcome::Connected { .. } => return Evidence::Good,
            ProbeOutcome::Failed(fault) => fault,
        };
        let cause = Cause::Probe(fault);
        match fault {
            ProbeFault::Refused => Evidence::Hard(cause),
            ProbeFault::Status(_)
            | ProbeFault::Body
            | ProbeFault::Broken
            | ProbeFault::Silent
            | ProbeFault::Tls => Evidence::Full(cause),
            ProbeFault::ConnectTimeout | ProbeFault::Unreachable | ProbeFault::Dns => Evidence::Path(cause),
            ProbeFault::OwnResources => Evidence::Untried,
        }
    }
}

impl Cause {
    /// Whether requests that are inside the server, or queued for it, will not be answered.
    ///
    /// A server that answers, even wrongly, finishes what it has begun: cutting its sessions would lose work. One that is
    /// silent, frozen or gone holds on to requests until their clients give up, and a restart loses them.
    pub fn strands_requests(self) -> bool {
        match self {
            Cause::Container(
                ContainerFault::Died { .. }
                | ContainerFault::OutOfMemory
                | ContainerFault::Paused
                | ContainerFault::Dead,
            ) => true,
            Cause::Probe(fault) => match fault {
                ProbeFault::Refused
                | ProbeFault::Silent
                | ProbeFault::ConnectTimeout
                | ProbeFault::Unreachable => true,
                ProbeFault::Status(_)
                | ProbeFault::Body
                | ProbeFault::Broken
                | ProbeFault::Tls
                | ProbeFault::Dns
                | ProbeFault::OwnResources => false,
            },
        }
    }

    /// Whether it may be the way that is broken, and not the server.
    pub fn is_path(self) -> bool {
        match self {
            Cause::Container(_) => false,
            Cause::Probe(fault) => matches!(ProbeOutcome::Failed(fault).evidence(), Evidence::Path(_)),
        }
    }

    /// The cause in one stable word, for metrics and JSON.
    pub fn code(self) -> &'static str {
        match self {
            Cause::Container(ContainerFault::Died { .. }) => "container_died",
            Cause::Container(ContainerFault::OutOfMemory) => "out_of_memory",
            Cause::Container(ContainerFault::Paused) => "container_paused",
            Cause::Container(ContainerFault::Dead) => "container_dead",
            Cause::Probe(ProbeFault::Refused) => "connection_refused",
            Cause::Probe(ProbeFault::Status(_)) => "bad_status",
            Cause::Probe(ProbeFault::Body) => "bad_body",
            Cause::Probe(ProbeFault::Broken) => "broken_answer",
            Cause::Probe(ProbeFault::Silent) => "silent",
            Cause::Probe(ProbeFault::Tls) => "tls",
            Cause::Probe(ProbeFault::ConnectTimeout) => "connect_timeout",
            Cause::Probe(ProbeFault::Unreachable) => "unreachable",
            Cause::Probe(ProbeFault::Dns) => "dns",
            Cause::Probe(ProbeFault::OwnResources) => "own_resources",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_a_word_of_its_own() {
        let containers = [
            ContainerFault::Died { exit: Some(1) },
            ContainerFault::OutOfMemory,
            ContainerFault::Paused,
            ContainerFault::Dead,
        ];
        let probes = [
            ProbeFault::Refused,
            ProbeFault::Status(503),
            ProbeFault::Body,
            ProbeFault::Broken,
            ProbeFault::Silent,
            ProbeFault::Tls,
            ProbeFault::ConnectTimeout,
            ProbeFault::Unreachable,
            ProbeFault::Dns,
            ProbeFault::OwnResources,
        ];
        let all = containers.map(Cause::Container).into_iter().chain(probes.map(Cause::Probe));
        let words: Vec<&str> = all.map(Cause::code).collect();
        let different: std::collections::BTreeSet<&str> = words.iter().copied().collect();
        assert_eq!(different.len(), words.len(), "{words:?}");
        assert!(
            words
                .iter()
                .all(|word| word.len() > 2 && word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        );
    }

    #[test]
    fn an_answer_is_slow_beyond_its_bound() {
        let took = |took| ProbeOutcome::Healthy { status: 200, took: Span(took) };
        let bound = Some(Span(500));
        assert_eq!(took(500).strain(bound), None);
        assert_eq!(took(501).strain(bound), Some(Strain::Slow { took: Span(501) }));
        assert_eq!(took(501).strain(None), None);
    }
}
