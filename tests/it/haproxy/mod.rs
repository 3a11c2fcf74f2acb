//! The actuator against a real HAProxy.

mod alone;
mod apply;
mod error_limit;
mod gate;
mod handoff;
pub(crate) mod lab;
mod last_good;
mod load;
mod reconcile;
mod reload;
mod rescue;
mod servers;
mod switch;
mod template;
