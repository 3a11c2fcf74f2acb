//! What must hold of the readers of HAProxy's replies, whatever comes: no panic, no more memory than the input accounts for, and
//! what each says of its own below.
//!
//! The readers are taken from the program's sources as they are, without the rest of it.

// Parts of the room that no target calls or names.
#![allow(dead_code, unused_imports)]

mod memory;

#[path = "../src/actuator/haproxy"]
mod haproxy {
    pub(crate) mod ident;
    pub(crate) mod naming;
    pub(crate) mod reply;
    pub(crate) mod server_state;
}

use haproxy::reply::{self, ReplyError};
use haproxy::server_state;
use memory::bounded;

/// The reply as the client gives it.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// An error repeats an excerpt, not the reply.
fn checked<T>(result: Result<T, ReplyError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(error.to_string().len() < 4_000, "{error}");
            None
        }
    }
}

/// Several replies over one connection: as many as there were commands, or an error.
pub fn frame(data: &[u8]) {
    let Some((expected, rest)) = data.split_first() else { return };
    let (expected, text) = (usize::from(*expected % 8) + 1, text(rest));
    bounded(text.len(), || {
        if let Ok(replies) = reply::split(&text, expected) {
            assert_eq!(replies.len(), expected);
            assert!(replies.iter().map(String::len).sum::<usize>() <= text.len());
        }
    });
}

/// Who runs: `show info`, `show proc`, `reload`.
pub fn process(data: &[u8]) {
    let text = text(data);
    bounded(text.len(), || {
        checked(reply::info(&text));
        if let Some(seen) = checked(reply::processes(&text)) {
            assert!(seen.workers.len() + seen.old_workers.len() < text.lines().count());
        }
        reply::reload(&text);
    });
}

/// Maps and what their values name.
pub fn map(data: &[u8]) {
    let text = text(data);
    bounded(text.len(), || {
        if let Some(entries) = checked(reply::map_entries(&text)) {
            assert!(entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= text.len());
        }
        checked(reply::map_value(&text));
        checked(reply::backends(&text));
        checked(reply::prepared(&text));
        checked(reply::done("set map", &text));
    });
}

/// `show stat`.
pub fn stat(data: &[u8]) {
    let text = text(data);
    bounded(text.len(), || {
        if let Some(rows) = checked(reply::stat(&text)) {
            assert!(rows.len() < text.lines().count());
            assert!(rows.iter().all(|row| !row.proxy.is_empty()));
        }
    });
}

/// `show servers state`, and what of it a reload carries over: a configuration follows after a zero byte.
pub fn state(data: &[u8]) {
    let zero = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (reply, config) = data.split_at(zero);
    let (reply, config) = (text(reply), text(config));
    bounded(reply.len() + config.len(), || {
        checked(reply::addr_set(&reply));
        if let Some(servers) = checked(reply::servers_state(&reply)) {
            assert!(servers.iter().all(|server| reply.contains(&server.line)));
        }
        if let Some(kept) = checked(server_state::carry_over(&reply, &config)) {
            assert!(kept.starts_with("1\n") && kept.ends_with('\n'), "{kept:?}");
            // What is kept is read as it was, and kept again.
            if kept != server_state::NOTHING {
                assert_eq!(server_state::carry_over(&kept, &config).as_ref(), Ok(&kept));
            }
        }
    });
}
