//! The control socket: how people on this machine order something, and how the command line reads the daemon's state.
//!
//! HTTP/1.1 with JSON over a Unix socket of mode 0660. The kernel vouches for who is at the other end (`SO_PEERCRED`,
//! unix(7)); the journal says who ordered what. The same reads are offered on TCP by `status`, the commands only here.
//!
//! ```text
//!   CLI ── client ──► socket ── server ──► Request ──► (bounded lane) ──► the loop
//!                                  ▲                                        │
//!                                  └──────────────── Reply ◄────────────────┘
//! ```
//!
//! This room never decides: it checks the form of a request, not whether it is wise. Every body, wait, connection and
//! queue is bounded here.

pub mod bounded;
pub mod client;
mod peer;
pub mod protocol;
pub mod server;
pub mod socket;

pub use bounded::Bounded;
pub use client::{Client, ClientError};
pub use peer::myself;
pub use protocol::{
    Answer, CommandBody, ConfigBody, ConfigOrder, Reply, RouteOrdered, ServerOrdered, TestOrdered,
};
pub use server::{ConfigRequest, Request, configs, serve};
pub use socket::{BindError, ControlSocket};

/// Where the control socket is unless the settings or `--socket` say otherwise.
pub const DEFAULT_SOCKET: &str = "/run/supervisor/control.sock";

#[cfg(test)]
mod tests;
