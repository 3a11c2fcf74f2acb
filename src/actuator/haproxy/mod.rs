//! Drives HAProxy: looks at it, moves traffic in it, frees what a dead server holds, and changes its configuration.
//!
//! ```text
//!   set_routes ──┐                       ┌── reply: what an answer means (pure)
//!   evacuate  ───┼──► Runtime ──► Client ┤
//!   observe  ────┤    one HAProxy        └── Command: what can be said (from checked names only)
//!   apply  ──────┘
//! ```
//!
//! `run` in `reconcile` is the task that the daemon starts for each HAProxy: it alone knows the words of `domain`.
//!
//! The rest is usable by itself: it knows nothing of services' health or of people's wishes, and decides nothing. Callers send one
//! thing at a time to one HAProxy. It must never count silence, a broken connection or an unknown sentence as success.
//!
//! # The client by itself
//!
//! [`Client`] speaks to one socket, over Unix or TCP; [`Runtime`] to one HAProxy: its worker, and, over the master's socket, its
//! old workers. A command is made of checked names, so that none can carry a second one; an answer is a success only if it is
//! a known one, else an error with HAProxy's own words.
//!
//! ```
//! use supervisor::actuator::haproxy::{Client, Command, Ident, MapPath, Runtime, RuntimeError, Worker, reply};
//!
//! /// Sends a service to another backend, and reads back whether it does.
//! async fn switch(runtime: &Runtime, map: &MapPath, service: &Ident, to: &Ident) -> Result<bool, RuntimeError> {
//!     let backends = reply::backends(&runtime.ask(Worker::Current, &Command::show_backend()).await?)?;
//!     // HAProxy sends what it does not know to the default backend, without a word.
//!     if !backends.contains(to.as_str()) {
//!         return Ok(false);
//!     }
//!     runtime.order(Worker::Current, &Command::set_map(map, service, to)).await?;
//!     let now = runtime.ask(Worker::Current, &Command::get_map(map, service)).await?;
//!     Ok(reply::map_value(&now)?.as_deref() == Some(to.as_str()))
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let admin = Client::new("tcp://127.0.0.1:9999".parse()?);
//! let master = Client::unix("/run/haproxy/master.sock");
//! let haproxy = Runtime::new(admin, Some(master));
//!
//! assert!("api; disable server x/y".parse::<Ident>().is_err());
//! let map: MapPath = "/etc/haproxy/routes.map".parse()?;
//! let (service, backend): (Ident, Ident) = ("api".parse()?, "api__cloud".parse()?);
//! let _switched = switch(&haproxy, &map, &service, &backend);
//! # Ok(())
//! # }
//! ```
//!
//! Which version answers is in [`reply::Info::version`]: what depends on it asks [`reply::Version`], nothing is guessed from the
//! form of a reply.

mod apply;
mod binds;
mod client;
mod command;
mod complaint;
mod difference;
pub mod doctor;
mod evacuate;
mod files;
mod handoff;
pub mod history;
mod ident;
pub mod keeper;
mod known;
mod last_good;
pub mod naming;
mod observe;
mod old_workers;
pub mod plan;
mod reconcile;
pub mod reply;
mod rescue;
mod runtime;
mod secrets;
mod server_state;
mod servers;
mod switch;
pub mod template;
mod validate;

pub use apply::{APPLY_DEADLINE, ApplyError, BindCheck, Outcome, Stage, Target, apply, install};
pub use client::{Client, ClientError, DEADLINE, LINE_MAX, REPLY_MAX, Recipient, Socket, SocketError};
pub use command::{AdminState, CheckVerdict, Command};
pub use difference::unified;
pub use evacuate::{EvacuateError, Evacuated, Evacuee, Refuge, close_rescue_line, evacuate};
pub use files::{FileError, PUBLIC_MODE, read_config, replace, replace_in_background};
pub use handoff::{Handoff, write_last};
pub use ident::{IDENT_MAX, Ident, IdentError, MapPath};
pub use keeper::{RenderError, Wanted, render};
pub use known::{Guard, Known};
pub use last_good::described as owner_and_revision;
pub use observe::{MasterSeen, Observed, ServerSeen, observe};
pub use reconcile::{Driver, look, run};
pub use runtime::{Runtime, RuntimeError, Worker};
pub use switch::{OldWorkers, Routes, SwitchError, Switched, map_file, set_routes};
pub use validate::{LocalBinary, Validate, ValidateError, Validation};
