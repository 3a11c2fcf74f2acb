//! The ways to be sick, switched on by `POST /fault/NAME` and off by `DELETE /fault`; one at a time.
//!
//! | name | parameter | what a client sees |
//! |---|---|---|
//! | `health500` | | `/health` answers 500, items still work |
//! | `wrong-body` | | `/health` answers 200 with the body of something else |
//! | `error` | | everything answers 500, nothing is executed |
//! | `slow` | `ms=1000` | everything is answered that much later |
//! | `hang` | `after=false` | everything is accepted and never answered; with `after=true` it was executed first |
//! | `exit` | `code=1` | the process ends with that code |
//! | `oom` | | the process allocates until the kernel kills it at the container's memory limit |
//!
//! "Everything" leaves out `/fault` and `/executed`: a sick service can still be mended and questioned.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest delay of `slow`: longer than every timeout in the stack, so that more would show nothing new.
const MAX_SLOW_MS: u64 = 60_000;

/// How long a hanging request is held: twice HAProxy's `timeout server`, so everybody has gone before it ends.
pub(crate) const HANG: Duration = Duration::from_secs(30);

/// How long the answer to `exit` has to reach the client before the process ends.
const EXIT_GRACE: Duration = Duration::from_millis(50);

/// Where `oom` gives up: eight times the container's limit in compose.yaml. Without a limit it must not take
/// the whole machine.
const OOM_CEILING_MIB: usize = 512;

/// A way to be sick that lasts until it is cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// Well.
    #[default]
    None,
    /// `/health` answers 500.
    Health500,
    /// `/health` answers 200 with another service's body.
    WrongBody,
    /// Everything answers 500.
    Error,
    /// Everything is answered later.
    Slow {
        /// How much later.
        ms: u64,
    },
    /// Nothing is answered.
    Hang {
        /// Whether the request is executed before its answer is withheld.
        after: bool,
    },
}

/// A way to be sick that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The process ends with this code.
    Exit(i32),
    /// The process allocates until it is killed.
    Oom,
}

/// What `POST /fault/NAME` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Be sick from now on.
    Last(Fault),
    /// Suffer this at once.
    Strike(Blow),
}

/// The parameters of all faults; those that a fault does not know are refused.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    ms: Option<u64>,
    after: Option<bool>,
    code: Option<u8>,
}

/// Why an order was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum OrderError {
    /// No fault has that name.
    #[error(
        "no such fault; there are health500, wrong-body, error, slow?ms=1000, hang?after=true, exit?code=1 and oom"
    )]
    Unknown,
    /// A parameter of another fault.
    #[error("this fault does not take that parameter; slow takes ms, hang takes after, exit takes code")]
    Parameter,
    /// The delay is too long.
    #[error("ms is at most {MAX_SLOW_MS}")]
    TooSlow,
}

impl Order {
    /// Reads an order from the fault's name and the parameters of the query.
    pub(crate) fn parse(name: &str, given: Parameters) -> Result<Self, OrderError> {
        let order = match (name, given) {
            ("health500", Parameters { ms: None, after: None, code: None }) => Self::Last(Fault::Health500),
            ("wrong-body", Parameters { ms: None, after: None, code: None }) => Self::Last(Fault::WrongBody),
            ("error", Parameters { ms: None, after: None, code: None }) => Self::Last(Fault::Error),
            ("slow", Parameters { ms, after: None, code: None }) => {
                let ms = ms.unwrap_or(1_000);
                if ms > MAX_SLOW_MS {
                    return Err(OrderError::TooSlow);
                }
                Self::Last(Fault::Slow { ms })
            }
            ("hang", Parameters { ms: None, after, code: None }) => {
                Self::Last(Fault::Hang { after: after.unwrap_or(false) })
            }
            ("exit", Parameters { ms: None, after: None, code }) => {
                Self::Strike(Blow::Exit(i32::from(code.unwrap_or(1))))
            }
            ("oom", Parameters { ms: None, after: None, code: None }) => Self::Strike(Blow::Oom),
            ("health500" | "wrong-body" | "error" | "slow" | "hang" | "exit" | "oom", _) => {
                return Err(OrderError::Parameter);
            }
            _ => return Err(OrderError::Unknown),
        };
        Ok(order)
    }
}

/// The switchboard: which fault is on.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    current: Mutex<Fault>,
    allocating: AtomicBool,
}

impl Faults {
    /// The fault that is on now.
    pub(crate) fn current(&self) -> Fault {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the fault that is on.
    pub(crate) fn set(&self, fault: Fault) {
        tracing::warn!(?fault, "fault switched");
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Strikes, a moment later and beside the caller, who can still answer the order.
    pub(crate) fn strike(&self, blow: Blow) {
        tracing::warn!(?blow, "fault struck");
        match blow {
            Blow::Exit(code) => {
                std::thread::spawn(move || {
                    std::thread::sleep(EXIT_GRACE);
                    std::process::exit(code);
                });
            }
            // Two allocators at once would reach twice the ceiling.
            Blow::Oom if !self.allocating.swap(true, Ordering::Relaxed) => {
                std::thread::spawn(allocate_until_killed);
            }
            Blow::Oom => {}
        }
    }
}

fn allocate_until_killed() {
    let mut held = Vec::with_capacity(OOM_CEILING_MIB);
    while held.len() < OOM_CEILING_MIB {
        // Written, not only reserved: the kernel counts pages that were touched.
        held.push(std::hint::black_box(vec![0xA5_u8; 1 << 20]));
    }
    tracing::error!(
        mib = OOM_CEILING_MIB,
        "no memory limit struck: give the container one (mem_limit in compose.yaml); what was taken is kept"
    );
    // Kept, because an oom that silently mends itself would look like a service that was never sick.
    std::mem::forget(held);
}
