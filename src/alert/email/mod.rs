//! Mail without Alertmanager: the way that is left when nobody can be told through it.
//!
//! ```text
//!   Letter ── compose ──► bytes ──► (the outbox stores them) ──► deliver ──► Attempt: an outcome per recipient
//!                                                                   │
//!                          Relay, Envelope, Deadlines ──────────────┘
//! ```
//!
//! - [`compose`] makes the complete message (RFC 5322). It is pure: the same letter gives the same bytes, because after a
//!   crash the same bytes must go out again, under the same Message-ID.
//! - [`deliver()`] makes *one* attempt to hand those bytes to *one* relay. It never tries again and knows no other relay:
//!   that is for the outbox, which remembers. Every stage has its own deadline, and one refused recipient never holds up
//!   the others.
//!
//! Passwords stay in [`Secret`](crate::secret::Secret). Nothing here logs; what a relay said comes back as one bounded line, in which a
//! password that the relay echoed is withheld.

mod connect;
mod deliver;
mod envelope;
mod message;
mod outcome;
mod relay;
mod session;
mod text;
mod wire;

pub use deliver::{Deadlines, deliver, reach};
pub use envelope::{Envelope, EnvelopeError, RECIPIENTS_MAX};
pub use message::{ComposeError, Item, Letter, MessageId, MessageIdError, Stamp, Status, compose, subject};
pub use outcome::{Attempt, FaultClass, Outcome, Recipient, RelayFault, Reply, Stage};
pub use relay::{Helo, HeloError, Login, Relay, RelayTls};

#[cfg(test)]
pub(super) use deliver::peer;
