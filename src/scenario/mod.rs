//! Scenarios: what happens, one thing a line, and what the core decides about it.
//!
//! ```text
//!   text ──► Script ──► play: event ──► decide ──► apply ──► invariants ──► Step ─┬─► golden: codes and data beneath each line
//!           (forms)    (outside)                                                 ├─► story: for people
//!                                                                                └─► record: for programs
//! ```
//!
//! The same `decide` as in the daemon runs on a state that nobody else sees: nothing is reached, no clock is read. The
//! language is in docs/scenarios.md, and [`forms`] is its list. A script comes from outside: whatever is in it, it ends in
//! a run or in [`Problem`]s, never in a panic, and never without a bound.

mod cast;
mod docker;
pub mod forms;
mod golden;
mod happened;
mod happening;
mod hear;
mod order;
mod outside;
mod proxy;
mod record;
mod script;
mod setting;
mod story;
mod telling;
mod words;
mod world;

pub use golden::{Difference, difference, told};
pub use happened::happened;
pub use record::{ReasonRecord, Record};
pub use script::{BYTES_MAX, LINES_MAX, Problem, Script};
pub use story::story;
pub use world::{By, End, RunError, Step, What, play};

#[cfg(test)]
mod tests;
