//! Mail without Alertmanager: the way that is left when nobody can be told through it.
//!
//! [`compose`] makes the complete message (RFC 5322) from a [`Letter`]. It is pure: the same letter gives the same bytes,
//! because after a crash the same bytes must go out again, under the same Message-ID.

mod message;
mod text;

pub use message::{ComposeError, Item, Letter, MessageId, MessageIdError, Stamp, Status, compose, subject};
