//! The actuator against a real HAProxy.

mod apply;
pub(crate) mod lab;
mod reconcile;
mod switch;
