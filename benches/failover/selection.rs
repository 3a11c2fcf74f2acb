//! What to run: `PEERS`, `FAULTS`, `RUNS`, `SEED`, each with the default. A word that is not known is an
//! error, never a shorter run.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Serialize, Serializer};

use crate::peers::Peer;
use crate::support::faults::Fault;

/// The medians of the issue are of five.
const RUNS: u32 = 5;

/// What a run costs beside its window: warm-up, phase, draining, mending, being well again.
const AROUND_A_RUN: Duration = Duration::from_secs(60);

/// A fault, alone or with `maxconn 32` on the on-prem server (the queue trap).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    /// What happens to the on-prem server.
    pub(crate) fault: Fault,
    /// Whether its line says `maxconn 32`.
    pub(crate) maxconn: bool,
}

impl Case {
    /// The seven of the issue.
    pub(crate) const ALL: [Self; 7] = [
        Self::plain(Fault::Crash),
        Self::plain(Fault::Kill),
        Self::plain(Fault::Freeze),
        Self::plain(Fault::Hang),
        Self::plain(Fault::Http500),
        Self::queued(Fault::Freeze),
        Self::queued(Fault::Hang),
    ];

    /// The fault alone.
    pub(crate) const fn plain(fault: Fault) -> Self {
        Self { fault, maxconn: false }
    }

    /// The fault with the queue trap.
    pub(crate) const fn queued(fault: Fault) -> Self {
        Self { fault, maxconn: true }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}{}", self.fault, if self.maxconn { "-maxconn" } else { "" }))
    }
}

impl FromStr for Case {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|case| case.to_string() == text);
        known.ok_or_else(|| anyhow!("{text:?} is no fault; there are {}", words(&Self::ALL)))
    }
}

impl Serialize for Case {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    /// In this order.
    pub(crate) peers: Vec<Peer>,
    /// In this order within each run.
    pub(crate) cases: Vec<Case>,
    /// How often.
    pub(crate) runs: u32,
    /// Chooses the moment of each fault within the probes' cadence.
    pub(crate) seed: u64,
}

impl Selection {
    /// Reads the variables; an empty one counts as not set, as `make` passes them.
    pub(crate) fn from_environment() -> Result<Self> {
        let peers = list("PEERS")?.unwrap_or_else(|| Peer::ALL.to_vec());
        let cases = list("FAULTS")?.unwrap_or_else(|| Case::ALL.to_vec());
        let runs = one("RUNS")?.unwrap_or(RUNS);
        if runs == 0 {
            bail!("RUNS=0 measures nothing; RUNS=1 is the least");
        }
        let seed = one("SEED")?.unwrap_or_else(|| u64::from(fastrand::u32(..)));
        Ok(Self { peers, cases, runs, seed })
    }

    /// When to give up on the whole: what each run may take, and as much again for changing peers.
    pub(crate) fn deadline(&self) -> Duration {
        let cases = u32::try_from(self.cases.len()).unwrap_or(u32::MAX);
        let each = |peer: &Peer| (peer.window() + peer.phase() + AROUND_A_RUN) * cases * self.runs;
        self.peers.iter().map(each).sum::<Duration>() + Duration::from_secs(600)
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "peers  {}", words(&self.peers))?;
        writeln!(f, "faults {}", words(&self.cases))?;
        write!(f, "runs   {}, SEED={}", self.runs, self.seed)
    }
}

fn words<T: fmt::Display>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn list<T: FromStr<Err = anyhow::Error>>(variable: &str) -> Result<Option<Vec<T>>> {
    let text = std::env::var(variable).unwrap_or_default();
    let parsed: Vec<T> = text
        .split([',', ' '])
        .filter(|word| !word.is_empty())
        .map(str::parse)
        .collect::<Result<_>>()
        .with_context(|| format!("in {variable}={text}"))?;
    Ok((!parsed.is_empty()).then_some(parsed))
}

fn one<T: FromStr>(variable: &str) -> Result<Option<T>> {
    let text = std::env::var(variable).unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(None);
    }
    let parsed = text
        .trim()
        .parse()
        .map_err(|_| anyhow!("{variable}={text} is no number, for example {variable}=5"))?;
    Ok(Some(parsed))
}
