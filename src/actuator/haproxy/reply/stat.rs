//! `show stat`: the table of everything that HAProxy counts.

use super::{ReplyError, malformed, number, refused};
use std::collections::BTreeMap;
use std::net::SocketAddr;

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
            if fields.len() < columns.len() {
                return Err(malformed(command, "a row is shorter than its header", line));
            }
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
pub(super) fn csv(line: &str) -> Vec<String> {
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
