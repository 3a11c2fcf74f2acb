//! `show info`: who a worker is.

use super::{ReplyError, malformed, number};
use std::collections::BTreeMap;

/// The version of HAProxy, as far as features depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 3 of 3.0.11.
    pub major: u16,
    /// 0 of 3.0.11.
    pub minor: u16,
}

impl Version {
    /// The oldest version that this is made for: older ones lack replies and directives that it needs.
    pub const OLDEST: Version = Version { major: 2, minor: 6 };

    /// The newest version that the tests have run against.
    pub const NEWEST_TESTED: Version = Version { major: 3, minor: 2 };

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
