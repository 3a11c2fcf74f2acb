//! The core: it decides, and does nothing else.
//!
//! [`decide()`] looks at the [`State`], one [`Event`] and the time, and answers with a [`Decision`]: the changes to the
//! state, the actions for the edges, and the reasons in data. [`State::apply`] is the only way the state changes. The
//! same functions run in the daemon, in `--once`, in a dry run, and in replay.
//!
//! ```text
//!   Event ──► decide(&State, &Event, Now) ──► Decision { changes, actions, reasons }
//!                  ▲                              │
//!                  └──── State::apply(&changes) ◄─┘
//! ```
//!
//! # What is absent here
//!
//! No I/O, no clock, no async, no log, no random number, no `HashMap`. `clippy.toml` bans the usual ways in, and
//! `tests/it/purity.rs` reads these files and fails on the rest. The cost of an event depends on what it touches, not on
//! how many services there are.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
#![deny(clippy::wildcard_enum_match_arm)]

pub mod action;
pub mod by_name;
pub mod change;
pub mod command;
pub mod contest;
pub mod damping;
pub mod decide;
pub mod delivery;
pub mod event;
pub mod explain;
pub mod failover;
pub mod health;
pub mod id;
pub mod incident;
pub mod invariants;
pub mod jitter;
pub mod maintenance;
pub mod policy;
pub mod reason;
pub mod repair;
pub mod silence;
pub mod state;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;
pub mod window;
pub mod witness;

pub use action::{Action, ActionId, Desired, Evacuation, Finished, Outcome, Pace};
pub use by_name::ByName;
pub use change::Change;
pub use command::{Command, CommandId, Denial, Operator, Order, Verdict};
pub use decide::{Decision, decide};
pub use event::Event;
pub use explain::explain;
pub use health::Health;
pub use id::{ContainerName, EngineId, Name, PeerId, ProxyId, ServerId, ServiceId, SiteId};
pub use policy::Policy;
pub use reason::Reason;
pub use state::State;
pub use time::{Boot, Now, Span, Wall};
