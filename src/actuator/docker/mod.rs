//! Docker, as a witness and as a hand: what an engine announces about containers, and commands inside them.
//!
//! ```text
//!   engine ──/events──► reader ──buffer──► watcher ──Container────► hard lane
//!          ──inspect─────────────────────►   │    ──Containers──►
//!          ──/_ping──► heartbeat ──failed──►  │    ──EngineLost──►
//! ```
//!
//! One task per engine ([`watch()`]), and it never gives up: an engine that is gone costs its evidence, not the job. What a
//! container's death means is the core's to say: with the first list after a connect it is told what the engine remembers
//! from before, as far as it bears on how the containers came to be as they are.
//!
//! What is read: `GET /version`, `/info`, `/_ping`, `/events`, `/containers/NAME/json`. What is done: `POST
//! /containers/NAME/exec`, `/exec/ID/start` ([`Engine::exec`]), `/containers/ID/start`, `/containers/ID/restart`
//! ([`Engine::heal`]). A proxy in front of the socket need allow no more.
//!
//! bollard logs the bodies of requests and answers at `debug`, and with them the environment of containers: the log's
//! filter must hold `bollard` at `info`, whatever a person asks for.

pub mod doctor;
mod engine;
mod exec;
mod heal;
mod past;
mod session;
mod signs;
mod translate;
mod watch;

pub use engine::{Address, AddressError, Engine, EngineError};
pub use exec::Ran;
pub use past::{EngineTime, recollect};
pub use signs::Signs;
pub use translate::{Heard, Key};
pub use watch::{Told, watch};
