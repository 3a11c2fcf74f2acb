//! The simulated world: supervisor's real core, loop rules and senders among models of everything else, on one virtual clock,
//! under every kind of bad luck that we could think of.
//!
//! ```text
//!   seed ──► Plan: who is there, by which settings, which faults come when                      plan, fault
//!              │
//!              ▼                                      ┌─ Core::step, turn, Outgoing, restored   (the daemon's own)
//!   Clockwork ──► World ──► Supervisor: one process ──┼─ Known, Told, Signs, recollect          (the actuators' own)
//!   one clock,     │        that is killed, frozen,   ├─ Cadence                                (the probers' own)
//!   one queue      │        started again             └─ Pacing, judge, Desk, Parcel, round     (the senders' own)
//!                  │
//!                  ├──► models: engines and containers (docker), HAProxy (keeper, workers, checks, rescues), Alertmanagers and
//!                  │    relays (alerts), the store in memory (disk), people, the network, the machine's clocks (happen)
//!                  ▼
//!                Judge: after each step, each turn, each second; when faults are over; in the end
//! ```
//!
//! It is a test target and no part of the library: what it needs of supervisor is public there, and the program that is
//! shipped has nothing of it. What the real edges decide is theirs (types without I/O that the daemon uses as well); what the
//! models do is written here, small, and compared with traces of the real parts in [`traces`].
//!
//! # How it is used
//!
//! - `cargo test --release --test simulation`: all kept seeds, and some fresh ones from a base seed that is printed.
//! - `SEED=n` plays one seed and tells what happens in it; `SEEDS=n` fresh ones, `BASE=n` from there on; `HOURS=n` as many as
//!   last for so many hours of the world (`make simulate HOURS=n`).
//!
//! A seed that fails is printed with the command that plays it again. It is shrunk: faults are left out, and what is there
//! gets less, as long as the same thing is wrong. What is left is printed as a plan to be kept in `corpus/`, under the bug's
//! name, and is played from then on in each run.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alerts;
mod checks;
mod clockwork;
mod disk;
mod docker;
mod fault;
mod happen;
mod judge;
mod keeper;
mod plan;
mod probes;
mod process;
mod rescues;
mod restart;
mod run;
mod script;
mod shrink;
mod traces;
mod watcher;
mod workers;
mod world;
