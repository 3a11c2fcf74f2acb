//! `supervisor` keeps services in Docker behind HAProxy reachable when a server, a container or a site dies.
//!
//! Reading order: [`domain`] decides and does nothing else; [`daemon`] feeds it and carries its decisions out;
//! the other modules are its eyes, hands and mouth. ARCHITECTURE.md has the map.

pub mod chain;
pub mod domain;
pub mod finding;

pub mod clock;
pub mod control;
pub mod present;
pub mod secret;
pub mod settings;
pub mod store;
pub mod task;

pub mod actuator;
pub mod alert;
pub mod probe;
pub mod scenario;
pub mod status;
pub mod telemetry;

pub mod daemon;

pub mod cli;
