//! The probes: our own eyes on every server.
//!
//! ```text
//!   Probers ──spec, pace──► prober (one task per server) ──Event::Probed──► observation lane
//!                              │ cadence: when          pure
//!                              │ connect: name, TCP, TLS
//!                              └ exchange: one request, one verdict
//! ```
//!
//! Each server has its own timer, so a slow one delays nobody. A probe ends as a [`ProbeOutcome`](crate::domain::witness::ProbeOutcome); what that is worth is
//! the core's to say. Nothing here counts failures, retries for better luck, or decides.
//!
//! # Why hyper and not reqwest
//!
//! What to do about a failure depends on how far the probe came: refused, no connection, connected but silent, broken off.
//! reqwest hides the connect inside its pool and tells `connect timeout` and `timeout` apart by guessing from a chain of
//! sources. Here the steps are ours (resolve, connect, handshake), each with a typed end, and hyper's HTTP/1 connection
//! does the rest over the stream that we hand it. HTTP and HTTPS take the same way; hyper, tokio-rustls and the verifier
//! are in the tree through reqwest and bollard already. There are no redirects, proxies or retries to turn off.

mod cadence;
mod connect;
mod exchange;
mod plan;
mod prober;
mod probers;
mod resolve;
mod spec;
mod watchdog;

pub use cadence::{Cadence, Last};
pub use connect::Client;
pub use plan::{ready, specs};
pub use prober::probe_once;
pub use probers::Probers;
pub use spec::{Address, AddressError, Purpose, Scheme, Spec};
