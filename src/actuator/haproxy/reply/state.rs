//! Servers as the state file has them, and the answer to a new address.

use super::{ReplyError, malformed, number, refused};
use std::net::IpAddr;

/// `set server … addr`. HAProxy tells what it changed, or that there was nothing to change.
pub fn addr_set(reply: &str) -> Result<(), ReplyError> {
    // 3.0 has one sentence for this; 2.6 says the same in two clauses.
    if reply.trim_end() == "nothing changed" {
        return Ok(());
    }
    // One clause for the address and one for the port, with "by 'stats socket command'" at the end.
    let known = |clause: &str| {
        ["IP changed from ", "port changed from ", "no need to change the addr", "no need to change the port"]
            .iter()
            .any(|start| clause.starts_with(start))
    };
    let said = reply.trim_end().strip_suffix("by 'stats socket command'");
    match said {
        Some(said) if said.split(',').map(str::trim).all(known) => Ok(()),
        _ => Err(refused("set server addr", reply)),
    }
}

/// One server of `show servers state` (management guide; version 1 of the format).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Its backend.
    pub backend: String,
    /// Its name.
    pub server: String,
    /// The address it has now; none while its name is not resolved.
    pub addr: Option<IpAddr>,
    /// The port it has now.
    pub port: u16,
    /// The name it is resolved from.
    pub fqdn: Option<String>,
    /// The operational state.
    pub op: OpState,
    /// The administrative state.
    pub admin: AdminBits,
    /// The line as it came, without what is blank at its end, for the state file.
    pub line: String,
}

/// `srv_op_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpState {
    /// 0: takes no traffic.
    Stopped,
    /// 1: warming up (`slowstart`).
    Starting,
    /// 2: takes traffic.
    Running,
    /// 3: finishes what it has.
    Stopping,
}

/// `srv_admin_state`, a set of bits (management guide, `show servers state`). 2 and 16 are 1 and 8 of the server that is
/// tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdminBits(pub u32);

impl AdminBits {
    /// Maintenance, ordered at run time (bit 1).
    pub fn forced_maint(self) -> bool {
        self.0 & 0x01 != 0
    }

    /// Maintenance because the configuration says `disabled` (bit 4). HAProxy then sets bit 1 beside it; that one goes when
    /// somebody enables the server.
    pub fn configured(self) -> bool {
        self.0 & 0x04 != 0
    }

    /// Drain, ordered at run time (bit 8).
    pub fn forced_drain(self) -> bool {
        self.0 & 0x08 != 0
    }

    /// Maintenance because the name does not resolve (bit 32): nobody's order.
    pub fn unresolved(self) -> bool {
        self.0 & 0x20 != 0
    }

    /// Any kind of maintenance: own, inherited from the tracked server, by configuration or by resolution.
    pub fn maint(self) -> bool {
        self.0 & 0x23 != 0
    }
}

/// `show servers state`.
pub fn servers_state(reply: &str) -> Result<Vec<ServerState>, ReplyError> {
    let command = "show servers state";
    let mut lines = reply.lines();
    if lines.next().map(str::trim) != Some("1") {
        return Err(refused(command, reply));
    }
    let header = lines.next().and_then(|line| line.strip_prefix('#')).unwrap_or_default();
    let columns: Vec<&str> = header.split_whitespace().collect();
    let column = |name| columns.iter().position(|c| *c == name);
    let wanted =
        ["be_name", "srv_name", "srv_addr", "srv_op_state", "srv_admin_state", "srv_fqdn", "srv_port"]
            .map(column);
    let [Some(backend), Some(server), Some(addr), Some(op), Some(admin), Some(fqdn), Some(port)] = wanted
    else {
        return Err(malformed(command, "a column is missing", reply));
    };
    lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let word = |index: usize| words.get(index).copied();
            let row = || {
                Some(ServerState {
                    backend: word(backend)?.to_owned(),
                    server: word(server)?.to_owned(),
                    addr: word(addr)?.parse().ok(),
                    port: number(word(port)?)?,
                    fqdn: word(fqdn).filter(|name| *name != "-").map(str::to_owned),
                    op: match word(op)? {
                        "0" => OpState::Stopped,
                        "1" => OpState::Starting,
                        "2" => OpState::Running,
                        "3" => OpState::Stopping,
                        _ => return None,
                    },
                    admin: AdminBits(number(word(admin)?)?),
                    line: line.trim_end().to_owned(),
                })
            };
            row().ok_or_else(|| malformed(command, "a row is not as its header says", line))
        })
        .collect()
}
