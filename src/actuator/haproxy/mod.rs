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

mod apply;
mod binds;
mod client;
mod command;
mod evacuate;
mod files;
mod handoff;
mod ident;
pub mod keeper;
mod last_good;
pub mod naming;
mod observe;
mod old_workers;
pub mod plan;
mod reconcile;
pub mod reply;
mod rescue;
mod runtime;
mod server_state;
mod servers;
mod switch;
pub mod template;
mod validate;

pub use apply::{APPLY_DEADLINE, ApplyError, BindCheck, Outcome, Stage, Target, apply, install};
pub use client::{Client, ClientError, DEADLINE, LINE_MAX, REPLY_MAX, Recipient, Socket};
pub use command::{AdminState, CheckVerdict, Command};
pub use evacuate::{EvacuateError, Evacuated, Evacuee, Refuge, close_rescue_line, evacuate};
pub use files::{FileError, PUBLIC_MODE, replace, replace_in_background};
pub use handoff::{Handoff, write_last};
pub use ident::{IDENT_MAX, Ident, IdentError, MapPath};
pub use keeper::{RenderError, Wanted, render};
pub use observe::{MasterSeen, Observed, ServerSeen, observe};
pub use reconcile::{Driver, look, run};
pub use runtime::{Runtime, RuntimeError, Worker};
pub use switch::{OldWorkers, Routes, SwitchError, Switched, map_file, set_routes};
pub use validate::{LocalBinary, Validate, ValidateError, Validation};
