//! The commands that are sent to HAProxy, all of them.
//!
//! A [`Command`] is built from checked parts only, so that no caller can inject another one. Its `name` is what errors
//! and logs show; the text with its values never leaves this room.

use super::ident::{Ident, MapPath};
use std::net::IpAddr;

/// One command for the runtime or master command line (HAProxy management guide, chapter 9.3).
#[derive(Clone, PartialEq, Eq)]
pub struct Command {
    name: &'static str,
    text: String,
}

/// The administrative state that `set server … state` gives a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminState {
    /// Takes traffic when its check is good.
    Ready,
    /// Finishes what it has; no new traffic; checks go on.
    Drain,
    /// No traffic, no checks.
    Maint,
}

/// What `set server … health` makes of a server until its next check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckVerdict {
    /// As if the check had passed.
    Up,
    /// As if the check had failed.
    Down,
}

impl Command {
    /// What it is called in errors and logs: the words of the command without its values.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn fixed(name: &'static str) -> Command {
        Command { name, text: name.to_owned() }
    }

    /// Version, process id, start time, description.
    pub fn show_info() -> Command {
        Command::fixed("show info")
    }

    /// What this connection may do: `admin`, `operator` or `user`.
    pub fn show_cli_level() -> Command {
        Command::fixed("show cli level")
    }

    /// One variable of HAProxy's environment. Never all of it: it may hold secrets.
    pub fn show_env(name: &'static str) -> Command {
        Command { name: "show env", text: format!("show env {name}") }
    }

    /// The names of all backends.
    pub fn show_backend() -> Command {
        Command::fixed("show backend")
    }

    /// Counters and states of every proxy and server.
    pub fn show_stat() -> Command {
        Command::fixed("show stat")
    }

    /// Counters and states of one backend: its own row (type 2) and its servers' rows (type 4).
    pub fn show_stat_of(backend: &Ident) -> Command {
        Command { name: "show stat", text: format!("show stat {backend} 6 -1") }
    }

    /// Address, state and administrative state of every server.
    pub fn show_servers_state() -> Command {
        Command::fixed("show servers state")
    }

    /// The same of one backend.
    pub fn show_servers_state_of(backend: &Ident) -> Command {
        Command { name: "show servers state", text: format!("show servers state {backend}") }
    }

    /// The entries of a map.
    pub fn show_map(map: &MapPath) -> Command {
        Command { name: "show map", text: format!("show map {map}") }
    }

    /// What a map answers for one key.
    pub fn get_map(map: &MapPath, key: &Ident) -> Command {
        Command { name: "get map", text: format!("get map {map} {key}") }
    }

    /// Change the value of a key that is there.
    pub fn set_map(map: &MapPath, key: &Ident, value: &Ident) -> Command {
        Command { name: "set map", text: format!("set map {map} {key} {value}") }
    }

    /// Add a key that is not there.
    pub fn add_map(map: &MapPath, key: &Ident, value: &Ident) -> Command {
        Command { name: "add map", text: format!("add map {map} {key} {value}") }
    }

    /// Begin a new version of a map; nothing changes until it is committed.
    pub fn prepare_map(map: &MapPath) -> Command {
        Command { name: "prepare map", text: format!("prepare map {map}") }
    }

    /// Add an entry to a prepared version.
    pub fn add_map_version(map: &MapPath, version: u32, key: &Ident, value: &Ident) -> Command {
        Command { name: "add map", text: format!("add map @{version} {map} {key} {value}") }
    }

    /// Put a prepared version in force, all entries at once.
    pub fn commit_map(map: &MapPath, version: u32) -> Command {
        Command { name: "commit map", text: format!("commit map @{version} {map}") }
    }

    /// Throw a prepared version away.
    pub fn clear_map_version(map: &MapPath, version: u32) -> Command {
        Command { name: "clear map", text: format!("clear map @{version} {map}") }
    }

    /// Change a server's administrative state.
    pub fn set_server_state(backend: &Ident, server: &Ident, state: AdminState) -> Command {
        let state = match state {
            AdminState::Ready => "ready",
            AdminState::Drain => "drain",
            AdminState::Maint => "maint",
        };
        Command { name: "set server state", text: format!("set server {backend}/{server} state {state}") }
    }

    /// Change a server's health until its next check.
    pub fn set_server_health(backend: &Ident, server: &Ident, verdict: CheckVerdict) -> Command {
        let verdict = match verdict {
            CheckVerdict::Up => "up",
            CheckVerdict::Down => "down",
        };
        Command { name: "set server health", text: format!("set server {backend}/{server} health {verdict}") }
    }

    /// Change a server's address.
    pub fn set_server_addr(backend: &Ident, server: &Ident, addr: IpAddr, port: u16) -> Command {
        Command {
            name: "set server addr",
            text: format!("set server {backend}/{server} addr {addr} port {port}"),
        }
    }

    /// End every session that a server holds; HAProxy retries those it may.
    pub fn shutdown_sessions(backend: &Ident, server: &Ident) -> Command {
        Command {
            name: "shutdown sessions server",
            text: format!("shutdown sessions server {backend}/{server}"),
        }
    }

    /// Master only: the processes.
    pub fn show_proc() -> Command {
        Command::fixed("show proc")
    }

    /// Master only: load the configuration anew.
    pub fn reload() -> Command {
        Command::fixed("reload")
    }
}

/// Shows the name only: values may be somebody's secrets, and errors end up in logs.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Command({})", self.name)
    }
}
