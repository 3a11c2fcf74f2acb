//! The actuator against a real HAProxy.

mod apply;
mod handoff;
pub(crate) mod lab;
mod reconcile;
mod rescue;
mod switch;
