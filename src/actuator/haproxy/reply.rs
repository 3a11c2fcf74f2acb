//! What HAProxy's replies mean. Pure: text in, values out; nothing here panics on any input.
//!
//! Success is an allow-list for each command: HAProxy has no status codes, its errors are sentences that differ between
//! versions, and most successes are an empty reply. Whatever is not a known success is an error that carries HAProxy's
//! own words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

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

/// The version of HAProxy, as far as features depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3 of 3.0.11.
    pub major: u16,
    /// 0 of 3.0.11.
    pub minor: u16,
}

impl Version {
    /// The first version whose master answers `reload` when it is over, with `Success=`.
    pub const ANSWERS_RELOAD: Version = Version { major: 2, minor: 7 };

    /// The last version that is known to retry what `shutdown sessions server` cuts off. 3.0.11 closes the client's
    /// connection without an answer instead (both measured; those between are not).
    pub const LAST_TO_RETRY_SHUT_SESSIONS: Version = Version { major: 2, minor: 6 };
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// `show info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// `Version`, the two numbers.
    pub version: Version,
    /// `Version`, whole.
    pub full_version: String,
    /// `Pid` of the worker.
    pub pid: u32,
    /// `Start_time_sec`, seconds since the Unix epoch.
    pub started: i64,
    /// `description` of the `global` section, if there is one.
    pub description: Option<String>,
    /// `Stopping: 1`: a worker that was replaced.
    pub stopping: bool,
}

/// `show info` of a worker.
pub fn info(reply: &str) -> Result<Info, ReplyError> {
    let command = "show info";
    let fields: BTreeMap<&str, &str> =
        reply.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
    let field = |key, what| fields.get(key).copied().ok_or_else(|| malformed(command, what, reply));
    let full_version = field("Version", "no Version")?;
    Ok(Info {
        version: version(full_version).ok_or_else(|| malformed(command, "no number in Version", reply))?,
        full_version: full_version.to_owned(),
        pid: number(field("Pid", "no Pid")?).ok_or_else(|| malformed(command, "Pid is no number", reply))?,
        started: number(field("Start_time_sec", "no Start_time_sec")?)
            .ok_or_else(|| malformed(command, "Start_time_sec is no number", reply))?,
        description: fields.get("description").filter(|d| !d.is_empty()).map(|d| (*d).to_owned()),
        stopping: fields.get("Stopping").is_some_and(|s| *s == "1"),
    })
}

fn version(text: &str) -> Option<Version> {
    let (major, rest) = text.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(Version { major: number(major)?, minor: number(&minor)? })
}

/// One row of `show proc`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// How many reloads it has seen.
    pub reloads: u32,
}

/// `show proc` of the master.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    /// The master.
    pub master: Process,
    /// Reloads that failed since the last good one.
    pub failed: u32,
    /// The workers that serve new connections; one, but for the moment of a reload.
    pub workers: Vec<Process>,
    /// The workers that only finish what they have.
    pub old_workers: Vec<Process>,
}

/// `show proc` of the master.
pub fn processes(reply: &str) -> Result<Processes, ReplyError> {
    #[derive(Clone, Copy)]
    enum Section {
        Workers,
        OldWorkers,
        Other,
    }
    let command = "show proc";
    let mut section = Section::Other;
    let mut master = None;
    let (mut workers, mut old_workers) = (Vec::new(), Vec::new());
    for line in reply.lines() {
        if let Some(title) = line.strip_prefix('#') {
            section = match title.trim() {
                "workers" => Section::Workers,
                "old workers" => Section::OldWorkers,
                _ => Section::Other,
            };
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(pid), Some(kind)) = (words.next(), words.next()) else { continue };
        let reloads = words.next().and_then(number);
        let (Some(pid), Some(reloads)) = (number(pid), reloads) else {
            return Err(malformed(command, "a row without numbers", reply));
        };
        let process = Process { pid, reloads };
        match (kind, section) {
            ("master", _) => {
                // `2 [failed: 1]`; the bracket came with 2.5.
                let failed = line.split_once("[failed:").and_then(|(_, rest)| rest.split_once(']'));
                master = Some((process, failed.and_then(|(n, _)| number(n.trim())).unwrap_or(0)));
            }
            ("worker", Section::Workers) => workers.push(process),
            ("worker", Section::OldWorkers) => old_workers.push(process),
            _ => {}
        }
    }
    let (master, failed) = master.ok_or_else(|| malformed(command, "no master", reply))?;
    Ok(Processes { master, failed, workers, old_workers })
}

/// `show backend`: the names of all backends.
pub fn backends(reply: &str) -> Result<BTreeSet<String>, ReplyError> {
    let mut lines = reply.lines();
    if lines.next().map(str::trim) != Some("# name") {
        return Err(refused("show backend", reply));
    }
    Ok(lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// `show map FILE`: its entries. Of a key that is there twice HAProxy uses the first, so that is the one given.
pub fn map_entries(reply: &str) -> Result<BTreeMap<String, String>, ReplyError> {
    let mut entries = BTreeMap::new();
    for line in reply.lines().filter(|line| !line.is_empty()) {
        // `0x5640ce745e50 key value`: the first word names the entry.
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(reference), Some(key), value) if reference.starts_with("0x") => {
                entries.entry(key.to_owned()).or_insert_with(|| value.unwrap_or_default().to_owned());
            }
            _ => return Err(refused("show map", reply)),
        }
    }
    Ok(entries)
}

/// `get map FILE KEY`: the value, or none if the key is not there.
pub fn map_value(reply: &str) -> Result<Option<String>, ReplyError> {
    let command = "get map";
    let line = reply.lines().next().unwrap_or_default();
    if !line.starts_with("type=") {
        return Err(refused(command, reply));
    }
    if line.contains("found=no") {
        return Ok(None);
    }
    let value = line.split_once("value=\"").and_then(|(_, rest)| rest.split_once('"'));
    value.map(|(value, _)| Some(value.to_owned())).ok_or_else(|| malformed(command, "no value", reply))
}

/// Whether HAProxy uses this map at all.
pub fn is_unknown_map(error: &ReplyError) -> bool {
    matches!(error, ReplyError::Refused { reply, .. } if reply.starts_with("Unknown map identifier"))
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

/// `prepare map`: the number of the new version.
pub fn prepared(reply: &str) -> Result<u32, ReplyError> {
    reply
        .strip_prefix("New version created:")
        .and_then(|rest| number(rest.trim()))
        .ok_or_else(|| refused("prepare map", reply))
}

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

/// `set server … state|health` of a server that has its state from another one: HAProxy refuses, rightly.
pub fn is_tracking(error: &ReplyError) -> bool {
    matches!(error, ReplyError::Refused { reply, .. } if reply.contains("tracking server"))
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
    /// The line as it came, for the state file.
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

/// `srv_admin_state`, a set of bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdminBits(pub u32);

impl AdminBits {
    /// Maintenance, ordered at run time (bit 1).
    pub fn forced_maint(self) -> bool {
        self.0 & 0x01 != 0
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
                    line: line.to_owned(),
                })
            };
            row().ok_or_else(|| malformed(command, "a row is not as its header says", line))
        })
        .collect()
}

/// What a row of `show stat` is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatKind {
    /// A frontend.
    Frontend,
    /// A backend as a whole.
    Backend,
    /// One server.
    Server(String),
}

/// One row of `show stat`, the columns that are used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatRow {
    /// `pxname`.
    pub proxy: String,
    /// From `svname`.
    pub kind: StatKind,
    /// `status`: `UP`, `DOWN`, `MAINT`, `no check`, `UP 1/2`, …
    pub status: String,
    /// `check_status`, without the `* ` of a check under way: `L7OK`, `L4TOUT`, …
    pub check_status: Option<String>,
    /// `check_code`: the status of the last HTTP check.
    pub check_code: Option<u16>,
    /// `lastchg`: seconds since the status changed.
    pub last_change_secs: Option<u64>,
    /// `qcur`: requests that wait.
    pub queued: u64,
    /// `scur`: sessions now.
    pub sessions: u64,
    /// `stot`: sessions so far.
    pub sessions_total: u64,
    /// `hrsp_2xx` to `hrsp_5xx`: requests that the server answered, in HTTP.
    pub answered_total: u64,
    /// `econ` + `eresp`: failed connections and responses.
    pub errors_total: u64,
    /// `addr` of a server, while it has one.
    pub addr: Option<SocketAddr>,
    /// `bck`: a server that serves only when no active one does. (Of a backend: how many such are usable.)
    pub backup: bool,
    /// `mode` is `http`.
    pub http: bool,
}

impl StatRow {
    /// Whether HAProxy sends traffic there.
    pub fn usable(&self) -> bool {
        self.status.starts_with("UP") || self.status == "no check"
    }
}

/// `show stat`. Columns are found by the names in the header: their order and number differ between versions.
pub fn stat(reply: &str) -> Result<Vec<StatRow>, ReplyError> {
    let command = "show stat";
    let mut lines = reply.lines();
    let Some(header) = lines.next().and_then(|line| line.strip_prefix("# ")) else {
        return Err(refused(command, reply));
    };
    let columns: BTreeMap<&str, usize> = header.split(',').enumerate().map(|(i, name)| (name, i)).collect();
    if !["pxname", "svname", "status", "stot", "qcur"].iter().all(|name| columns.contains_key(name)) {
        return Err(malformed(command, "a column is missing", header));
    }
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let fields = csv(line);
            let text = |name| {
                let field = columns.get(name).and_then(|i| fields.get(*i)).map(String::as_str);
                field.filter(|field| !field.is_empty())
            };
            let count = |name| text(name).and_then(number).unwrap_or(0_u64);
            let (Some(proxy), Some(name)) = (text("pxname"), text("svname")) else {
                return Err(malformed(command, "a row without a name", line));
            };
            Ok(StatRow {
                proxy: proxy.to_owned(),
                kind: match name {
                    "FRONTEND" => StatKind::Frontend,
                    "BACKEND" => StatKind::Backend,
                    server => StatKind::Server(server.to_owned()),
                },
                status: text("status").unwrap_or_default().to_owned(),
                check_status: text("check_status").map(|s| s.trim_start_matches("* ").to_owned()),
                check_code: text("check_code").and_then(number),
                last_change_secs: text("lastchg").and_then(number),
                queued: count("qcur"),
                sessions: count("scur"),
                sessions_total: count("stot"),
                answered_total: ["hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx"].into_iter().map(count).sum(),
                errors_total: ["econ", "eresp"].into_iter().map(count).sum(),
                addr: text("addr").and_then(number),
                backup: count("bck") > 0,
                http: text("mode") == Some("http"),
            })
        })
        .collect()
}

/// The fields of one line of HAProxy's CSV (management guide, 9.1): a field with a comma or a quote is quoted, and a quote
/// inside is doubled.
fn csv(line: &str) -> Vec<String> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    fields
}

/// What the master says to `reload`. Only a hint: the decision is made from `show proc` and `show info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadReply {
    /// Nothing: up to 2.6 always, later when the connection is lost on the way.
    Silent,
    /// `Success=1`.
    Loaded,
    /// `Success=0`, with HAProxy's log where it gives one.
    Failed(String),
    /// `Another reload is still in progress`: this one was not begun.
    Busy,
    /// Anything else.
    Other(String),
}

/// What the master says to `reload`.
pub fn reload(reply: &str) -> ReloadReply {
    if reply.contains("Another reload is still in progress") {
        return ReloadReply::Busy;
    }
    let (first, rest) = reply.split_once('\n').unwrap_or((reply, ""));
    match first.trim() {
        "" if rest.trim().is_empty() => ReloadReply::Silent,
        "Success=1" => ReloadReply::Loaded,
        "Success=0" => {
            let log = rest.trim_start().strip_prefix("--").unwrap_or(rest);
            ReloadReply::Failed(log.trim().to_owned())
        }
        _ => ReloadReply::Other(excerpt(reply)),
    }
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
