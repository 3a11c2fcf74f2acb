//! What the demo, the bench and the end-to-end tests share: traffic, faults and the way to ask the stack.
//!
//! Owns no decision about what is good or bad: it breaks, mends, measures and reports. It must never touch a
//! container that is not one of the stack's ([`stack`]), and never leave one of those broken ([`guard`]).
//!
//! | module | what it does |
//! |---|---|
//! | [`load`] | constant traffic on a fixed schedule, one record per request |
//! | [`measure`] | records → sent, failed, gap, who served (pure) |
//! | [`faults`] | the five ways to break a server's container, and how to mend it |
//! | [`stack`] | names and addresses; one user at a time; waiting until all is well |
//! | [`haproxy`] | HAProxy's runtime socket and its configuration, alone |
//! | [`alerts`] | the way to people: mails, Alertmanager, Prometheus |
//! | [`supervisor`] | supervisor's CLI and status, read defensively |
//! | [`guard`] | ends by a deadline and mends, also after a panic or Ctrl-C |
#![allow(dead_code, reason = "three programs include this by path; each uses its part of it")]

pub(crate) mod alerts;
pub(crate) mod docker;
pub(crate) mod dropin;
pub(crate) mod faults;
pub(crate) mod guard;
pub(crate) mod haproxy;
pub(crate) mod load;
pub(crate) mod measure;
pub(crate) mod stack;
pub(crate) mod supervisor;
pub(crate) mod wait;
