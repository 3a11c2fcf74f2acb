//! What HAProxy's replies mean. Pure: text in, values out; nothing here panics on any input.
//!
//! Success is an allow-list for each command: HAProxy has no status codes, its errors are sentences that differ between
//! versions, and most successes are an empty reply. Whatever is not a known success is an error that carries HAProxy's
//! own words.

mod frame;
mod info;
mod map;
mod proc;
mod stat;
mod state;

pub(crate) use frame::split;
pub use info::{Info, Version, info};
pub use map::{backends, is_unknown_map, map_entries, map_value, prepared};
pub use proc::{Process, Processes, ReloadReply, processes, reload};
pub use stat::{StatKind, StatRow, stat};
pub use state::{AdminBits, OpState, ServerState, addr_set, servers_state};

/// How much of an unexpected reply an error repeats. HAProxy's sentences are shorter; a page of HTML is not worth more.
const EXCERPT_MAX: usize = 300;

/// Why a reply is no success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// HAProxy said something other than the known successes.
    #[error("HAProxy answered `{command}` with {reply:?}")]
    Refused {
        /// The command.
        command: &'static str,
        /// HAProxy's words, shortened.
        reply: String,
    },
    /// The reply has not the form it must have.
    #[error("the answer to `{command}` cannot be read: {what}, in {reply:?}")]
    Malformed {
        /// The command.
        command: &'static str,
        /// What is missing or wrong.
        what: &'static str,
        /// The reply, shortened.
        reply: String,
    },
}

/// Whether an old worker refused because its proxies are stopped: what `set server` answers there, whatever was asked.
pub fn is_stopped_proxy(error: &ReplyError) -> bool {
    matches!(error, ReplyError::Refused { reply, .. } if reply.starts_with("Proxy is disabled"))
}

/// A command whose only success is an empty reply: `set map`, `add map`, `commit map`, `clear map`, `set server … state`,
/// `set server … health`, `shutdown sessions server`.
pub fn done(command: &'static str, reply: &str) -> Result<(), ReplyError> {
    if reply.is_empty() { Ok(()) } else { Err(refused(command, reply)) }
}

/// `set server … state|health` of a server that has its state from another one: HAProxy refuses, rightly.
pub fn is_tracking(error: &ReplyError) -> bool {
    matches!(error, ReplyError::Refused { reply, .. } if reply.contains("tracking server"))
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn refused(command: &'static str, reply: &str) -> ReplyError {
    ReplyError::Refused { command, reply: excerpt(reply) }
}

fn malformed(command: &'static str, what: &'static str, reply: &str) -> ReplyError {
    ReplyError::Malformed { command, what, reply: excerpt(reply) }
}

fn excerpt(reply: &str) -> String {
    reply.trim().chars().take(EXCERPT_MAX).collect()
}

#[cfg(test)]
mod tests;
