//! `[proxies.NAME.snippets]` and `[services.NAME.snippets]`: raw → checked.
//!
//! HAProxy's binary says whether it takes the lines. Here is refused what it would take, and supervisor could not live with.

use super::checker::Checker;
use super::key::Key;
use super::model::{ProxySnippets, ServiceSnippets, Snippet};
use super::raw::{RawProxySnippets, RawServiceSnippets};

/// What begins a section, up to HAProxy 3.2. What followed it would no longer belong to ours.
const SECTIONS: [&str; 20] = [
    "acme",
    "backend",
    "cache",
    "crt-store",
    "defaults",
    "fcgi-app",
    "frontend",
    "global",
    "http-errors",
    "listen",
    "log-forward",
    "log-profile",
    "mailers",
    "namespace_list",
    "peers",
    "program",
    "resolvers",
    "ring",
    "traces",
    "userlist",
];

/// The words that a line may not begin with, and why.
type Reserved = &'static [(&'static str, &'static str)];

const KNOWN_BY: &str = "supervisor knows by it which configuration HAProxy runs";
const STATE: &str = "the state of servers is carried through reloads by supervisor (state_path)";
const SETTING: &str = "it is a setting of its own";
const TIMEOUT: &str = "it is a setting of its own, in timeouts";
const MODE: &str = "it is the mode of the service";
const ROUTES: &str = "where requests go is supervisor's to say; what shall not get there can be denied";
const SERVERS: &str = "the servers are those of the settings";
const CHECKS: &str = "HAProxy's own checks are those of the service's probe";
const SERVES: &str = "nothing would be served";

const GLOBAL: Reserved = &[
    ("daemon", "HAProxy stays where it was started: its master is asked for reloads"),
    ("description", KNOWN_BY),
    ("gid", SETTING),
    ("group", SETTING),
    ("master-worker", "how its master runs is said where it is started (-W)"),
    ("maxconn", SETTING),
    ("server-state-base", STATE),
    ("server-state-file", STATE),
    ("stats", "supervisor's own command line is there: admin_socket, admin_mode, admin_gid"),
    ("uid", SETTING),
    ("user", SETTING),
];

const DEFAULTS: Reserved = &[
    ("default_backend", ROUTES),
    ("description", KNOWN_BY),
    ("disabled", SERVES),
    ("load-server-state-from-file", STATE),
    ("mode", MODE),
    ("server-state-file-name", STATE),
    ("timeout client", TIMEOUT),
    ("timeout connect", TIMEOUT),
    ("timeout queue", TIMEOUT),
    ("timeout server", TIMEOUT),
    ("use_backend", ROUTES),
];

/// Of defaults and backends.
const CHECK_OPTIONS: Reserved = &[
    ("option external-check", CHECKS),
    ("option httpchk", CHECKS),
    ("option ldap-check", CHECKS),
    ("option mysql-check", CHECKS),
    ("option pgsql-check", CHECKS),
    ("option redis-check", CHECKS),
    ("option smtpchk", CHECKS),
    ("option spop-check", CHECKS),
    ("option ssl-hello-chk", CHECKS),
    ("option tcp-check", CHECKS),
];

const FRONTEND: Reserved = &[
    ("default_backend", ROUTES),
    ("description", KNOWN_BY),
    ("disabled", SERVES),
    ("mode", MODE),
    ("use_backend", ROUTES),
];

const BACKEND: Reserved = &[
    ("description", KNOWN_BY),
    ("disabled", SERVES),
    ("dispatch", SERVERS),
    ("load-server-state-from-file", STATE),
    ("mode", MODE),
    ("server", SERVERS),
    ("server-state-file-name", STATE),
    ("server-template", SERVERS),
    ("use-server", ROUTES),
];

/// Those of one HAProxy.
pub(crate) fn proxy(checker: &mut Checker<'_>, key: &Key, raw: &RawProxySnippets) -> ProxySnippets {
    ProxySnippets {
        global: snippet(checker, &key.at("global"), raw.global.as_ref(), &[GLOBAL]),
        defaults_http: snippet(
            checker,
            &key.at("defaults_http"),
            raw.defaults_http.as_ref(),
            &[DEFAULTS, CHECK_OPTIONS],
        ),
        defaults_tcp: snippet(
            checker,
            &key.at("defaults_tcp"),
            raw.defaults_tcp.as_ref(),
            &[DEFAULTS, CHECK_OPTIONS],
        ),
    }
}

/// Those of one service.
pub(crate) fn service(checker: &mut Checker<'_>, key: &Key, raw: &RawServiceSnippets) -> ServiceSnippets {
    ServiceSnippets {
        frontend: snippet(checker, &key.at("frontend"), raw.frontend.as_ref(), &[FRONTEND]),
        backend: snippet(checker, &key.at("backend"), raw.backend.as_ref(), &[BACKEND, CHECK_OPTIONS]),
    }
}

fn snippet(
    checker: &mut Checker<'_>,
    key: &Key,
    raw: Option<&String>,
    reserved: &[Reserved],
) -> Option<Snippet> {
    let text = raw?;
    for (at, line) in text.split('\n').enumerate() {
        if let Err(why) = allowed(line, reserved) {
            checker.wrong(key, format!("line {}: {why}", at + 1));
        }
    }
    let nothing = text.trim().is_empty();
    (!nothing).then(|| Snippet { key: key.to_string(), text: text.clone() })
}

/// Only words of our own tables are shown: the rest of a line may be a password.
fn allowed(line: &str, reserved: &[Reserved]) -> Result<(), String> {
    if let Some(control) = line.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(format!("{control:?} cannot stand in HAProxy's configuration"));
    }
    // HAProxy reads `"back"end` as `backend`.
    let plain = line.replace(['"', '\'', '\\'], "");
    let mut words = plain.split_whitespace().skip_while(|word| matches!(*word, "no" | "default"));
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if first.starts_with('.') {
        return Err("conditions (.if) have their place in a template of your own".to_owned());
    }
    if SECTIONS.contains(&first) {
        return Err(format!(
            "{first:?} begins a section, and what follows would belong to that; sections have their place in a template of \
             your own"
        ));
    }
    if first == "default-server" && plain.split_whitespace().any(|word| word == "disabled") {
        return Err(format!("\"disabled\" cannot stand here: {SERVES}"));
    }
    let both = format!("{first} {second}");
    match reserved.iter().copied().flatten().find(|(words, _)| *words == first || *words == both) {
        Some((words, why)) => Err(format!("{words:?} cannot stand here: {why}")),
        None => Ok(()),
    }
}
