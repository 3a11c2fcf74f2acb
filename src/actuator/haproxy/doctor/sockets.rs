//! The command lines: whether they answer, to whom, and what answers there.

use super::super::client::{ClientError, Socket};
use super::super::command::Command;
use super::super::reply::{Info, Processes, Version};
use super::super::runtime::{RuntimeError, Worker};
use super::Patient;
use crate::chain::chain;
use crate::finding::Finding;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// So many old workers at once are more than reloads leave by themselves: the template's `mworker-max-reloads`.
const OLD_WORKERS_MANY: usize = 5;

/// What the sockets told.
#[derive(Default)]
pub(super) struct Seen {
    /// The worker, if it answers.
    pub(super) worker: Option<Info>,
    /// The files that HAProxy was started with, if it says so.
    pub(super) loaded: Vec<String>,
}

pub(super) async fn examine(patient: &Patient, findings: &mut Vec<Finding>) -> Seen {
    let mut seen = Seen::default();
    match patient.runtime.info().await {
        Ok(info) => {
            findings.push(version(&patient.admin, &info));
            findings.push(level(patient).await);
            seen.loaded =
                env(patient, "HAPROXY_CFGFILES").await.map(|files| list(&files)).unwrap_or_default();
            seen.worker = Some(info);
        }
        Err(error) => {
            findings.push(unreachable("admin_socket", &patient.admin, &error, stats_socket(patient)))
        }
    }
    match patient.runtime.processes().await {
        Ok(processes) => masters(&processes, &patient.master, findings),
        Err(error) => {
            let hint = master_hint(patient, seen.worker.is_some()).await;
            findings.push(unreachable("master_socket", &patient.master, &error, hint));
        }
    }
    findings.extend(open_doors(patient));
    seen
}

/// Command lines that are not for this machine alone. Nobody is asked for a password there.
fn open_doors(patient: &Patient) -> Vec<Finding> {
    let at = |socket: &Socket| match socket {
        Socket::Unix(_) => None,
        Socket::Tcp(address) => Some(address.clone()),
    };
    // How we reach it, and where the configuration has it: at every address of the machine, perhaps.
    let line = stats_socket_line(patient);
    let bound = line.split_whitespace().nth(2).map(str::to_owned).filter(|_| !patient.external);
    let mut doors =
        vec![("admin_socket", at(&patient.admin).into_iter().chain(bound).find(|at| is_open(at)))];
    doors.push(("master_socket", at(&patient.master).filter(|at| is_open(at))));
    let found = |(check, door): (&'static str, Option<String>)| {
        let words = format!("whoever reaches {} orders HAProxy about: it asks for no password", door?);
        let fix = format!(
            "use a Unix socket in a directory that supervisor and HAProxy share ({check} = \"/run/…\"), or an address that only \
             this machine has (127.0.0.1)"
        );
        Some(Finding::error(check, words, fix))
    };
    doors.into_iter().filter_map(found).collect()
}

/// Whether an address, as settings or HAProxy's `bind` have it, is for others than this machine. A name may be anybody's.
fn is_open(address: &str) -> bool {
    let inherited = ["/", "unix@", "abns@", "fd@", "sockpair@"];
    if inherited.iter().any(|kind| address.starts_with(kind)) {
        return false;
    }
    let address = address.split_once('@').map_or(address, |(_, address)| address);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let is_ours = host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    !is_ours && host != "localhost"
}

fn version(at: &Socket, info: &Info) -> Finding {
    let words = format!("HAProxy {} answers at {at} (worker {})", info.full_version, info.pid);
    if info.version < Version::OLDEST {
        let fix = format!(
            "install HAProxy {} or later: replies and directives that are needed came with it",
            Version::OLDEST
        );
        return Finding::error("version", words, fix);
    }
    if info.version > Version::NEWEST_TESTED {
        let fix = format!(
            "nothing, if it works for you; {} is the newest that the tests know",
            Version::NEWEST_TESTED
        );
        return Finding::warning("version", words, fix);
    }
    Finding::ok("version", words)
}

/// HAProxy says itself what this socket may do.
async fn level(patient: &Patient) -> Finding {
    let at = &patient.admin;
    match patient.runtime.ask(Worker::Current, &Command::show_cli_level()).await {
        Ok(level) if level.trim() == "admin" => {
            Finding::ok("admin_level", format!("{at} may do what is needed (level admin)"))
        }
        Ok(level) => {
            let level = level.trim();
            let level = if matches!(level, "operator" | "user") { level } else { "unknown" };
            let words = format!("{at} has level {level}: servers can neither be drained nor freed over it");
            let fix =
                format!("give `stats socket` the words `level admin` and reload HAProxy; {}", who_may(at));
            Finding::error("admin_level", words, fix).with_lines(vec![stats_socket_line(patient)])
        }
        Err(error) => Finding::error("admin_level", chain(&error), "look into HAProxy's log"),
    }
}

fn who_may(at: &Socket) -> &'static str {
    match at {
        Socket::Unix(_) => "its mode and group say who else may do so",
        Socket::Tcp(_) => "whoever reaches that address may then do so, too",
    }
}

fn masters(processes: &Processes, at: &Socket, findings: &mut Vec<Finding>) {
    findings.push(Finding::ok(
        "master_socket",
        format!(
            "the master answers at {at} (process {}, {} reloads)",
            processes.master.pid, processes.master.reloads
        ),
    ));
    if processes.failed > 0 {
        findings.push(Finding::warning(
            "failed_reloads",
            match processes.failed {
                1 => "the last reload failed: what is on disk may not be what runs".to_owned(),
                many => format!("the last {many} reloads failed: what is on disk may not be what runs"),
            },
            "HAProxy's log has the reason; `supervisor render --diff` shows what differs",
        ));
    }
    let old = processes.old_workers.len();
    if old >= OLD_WORKERS_MANY {
        findings.push(Finding::warning(
            "old_workers",
            format!("{old} old workers still finish what they have, each with the memory of a whole HAProxy"),
            "set `hard-stop-after` in `global`, and reload less often (reload_interval)",
        ));
    } else {
        findings.push(Finding::ok("old_workers", format!("{old} old workers")));
    }
}

/// Why a master may not answer, from what its worker knows of it.
async fn master_hint(patient: &Patient, worker_answers: bool) -> String {
    if !worker_answers {
        return format!("start HAProxy with `haproxy -W -S {}`", as_argument(&patient.master));
    }
    match env(patient, "HAPROXY_MASTER_CLI").await {
        Some(places) if !places.is_empty() => {
            format!(
                "HAProxy's own word for it is {places}: write that into master_socket, as this machine sees it"
            )
        }
        Some(_) | None => match env(patient, "HAPROXY_MWORKER").await {
            Some(_) => format!(
                "HAProxy runs without a master socket: start it with `-S {}`",
                as_argument(&patient.master)
            ),
            None => format!(
                "HAProxy may run without a master: start it with `haproxy -W -S {}`; without it no configuration can be \
                 loaded and old workers are out of reach",
                as_argument(&patient.master)
            ),
        },
    }
}

/// One variable of HAProxy's environment; none if it is not there, or the socket may not tell.
async fn env(patient: &Patient, name: &'static str) -> Option<String> {
    let said = patient.runtime.ask(Worker::Current, &Command::show_env(name)).await.ok()?;
    let value = said.trim().strip_prefix(name)?.strip_prefix('=')?;
    Some(value.chars().take(300).collect())
}

fn list(files: &str) -> Vec<String> {
    files.split(';').filter(|file| !file.is_empty()).map(str::to_owned).collect()
}

fn as_argument(at: &Socket) -> String {
    match at {
        Socket::Unix(path) => path.display().to_string(),
        Socket::Tcp(address) => address.clone(),
    }
}

fn stats_socket(patient: &Patient) -> String {
    format!("HAProxy's `global` needs the line `{}`", stats_socket_line(patient).trim())
}

/// The line that makes the worker's socket, as the settings lead to it.
fn stats_socket_line(patient: &Patient) -> String {
    let rendered = patient.rendered.as_ref().ok();
    let ours = rendered
        .and_then(|rendered| rendered.text.lines().find(|line| line.trim().starts_with("stats socket ")));
    ours.map_or_else(
        || format!("    stats socket {} mode 660 level admin", as_argument(&patient.admin)),
        str::to_owned,
    )
}

/// A socket that does not answer: why, as far as the system tells, and what to do.
fn unreachable(check: &'static str, at: &Socket, error: &RuntimeError, otherwise: String) -> Finding {
    let RuntimeError::Client(ClientError::Connect { source, .. }) = error else {
        return Finding::error(
            check,
            chain(error),
            "see whether HAProxy hangs (`docker logs`, journalctl); supervisor waits for it",
        );
    };
    let Socket::Unix(path) = at else {
        return Finding::error(
            check,
            format!("nobody answers at {at}: {source}"),
            format!("see that HAProxy runs, listens there and can be reached from here; {otherwise}"),
        );
    };
    let shown = path.display();
    match source.kind() {
        io::ErrorKind::NotFound => Finding::error(
            check,
            format!("there is no socket {shown}"),
            format!(
                "start HAProxy; if it runs in a container, share the directory of its socket; {otherwise}"
            ),
        ),
        io::ErrorKind::ConnectionRefused => Finding::error(
            check,
            format!("nobody listens at {shown} any more: HAProxy has ended"),
            "start HAProxy, and read its log for why it ended",
        ),
        io::ErrorKind::PermissionDenied => forbidden(check, path),
        _ => Finding::error(check, format!("{shown} cannot be opened: {source}"), otherwise),
    }
}

/// Whose the socket is, and who we are.
fn forbidden(check: &'static str, path: &Path) -> Finding {
    let us = us()
        .map(|us| format!("user {} in the groups {}", us.uid, us.groups))
        .unwrap_or_else(|| "this user".to_owned());
    let shown = path.display();
    match fs::metadata(path) {
        Ok(meta) => Finding::error(
            check,
            format!(
                "{shown} has mode {:o} and belongs to user {} and group {}; {us} may not write to it",
                meta.mode() & 0o777,
                meta.uid(),
                meta.gid()
            ),
            format!(
                "run supervisor in group {} (systemd: SupplementaryGroups, Docker: group_add), or let HAProxy give the \
                 socket to a group of supervisor's (admin_gid; for the master `-S PATH,mode,660,gid,N`)",
                meta.gid()
            ),
        ),
        Err(_) => Finding::error(
            check,
            format!("{us} may not look into {}", path.parent().unwrap_or(path).display()),
            "let supervisor's user or group enter that directory",
        ),
    }
}

struct Us {
    uid: u32,
    groups: String,
}

/// From the kernel's own page about this process (proc(5)).
fn us() -> Option<Us> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let effective = |text: &str| text.split_whitespace().nth(1).map(str::to_owned);
    let uid = effective(field("Uid:")?)?.parse().ok()?;
    let mut groups: Vec<String> = effective(field("Gid:")?).into_iter().collect();
    groups.extend(field("Groups:")?.split_whitespace().map(str::to_owned));
    groups.dedup();
    Some(Us { uid, groups: groups.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_is_told_from_one_that_only_this_machine_has() {
        for ours in [
            "127.0.0.1:9999",
            "127.8.0.1:1",
            "localhost:1",
            "[::1]:1",
            "ipv4@127.0.0.1:1",
            "/run/x",
            "unix@/x",
        ] {
            assert!(!is_open(ours), "{ours}");
        }
        for open in ["10.0.0.5:9999", "0.0.0.0:1", "*:1", ":1", "[::]:1", "ipv6@:::1", "haproxy:9999"] {
            assert!(is_open(open), "{open}");
        }
    }
}
