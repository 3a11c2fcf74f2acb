//! Tests of the parts that need no Docker stack of their own. One binary, so that it links once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod daemon;
mod dashboard;
mod docker;
mod haproxy;
mod probe;
mod purity;
mod readme;
mod rehearsal;
mod scenario;
mod systemd;
