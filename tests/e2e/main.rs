//! End-to-end tests against the running stack: real containers, real HAProxy, real traffic, real signals.
//!
//! They need `make up` and say so when it is missing; none is ever skipped. One runs at a time, each begins with a
//! whole stack and leaves one, also when it fails.

#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tests.rs"]
mod support_tests;

mod alerts;
mod alone;
mod api;
mod commands;
mod haproxy;
mod once;
mod watchers;
mod world;
