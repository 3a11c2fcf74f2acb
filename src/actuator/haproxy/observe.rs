//! One look at a HAProxy: what it runs, where it routes, what it thinks of each server, what waits.
//!
//! A look costs two exchanges, one with the worker and one with the master. It judges nothing.

use super::command::Command;
use super::ident::MapPath;
use super::naming;
use super::reply::{self, AdminBits, OpState, StatKind, StatRow, Version};
use super::runtime::{Runtime, RuntimeError, Worker};
use super::template::parse_description;
use std::collections::BTreeMap;

/// What one look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The current worker.
    pub pid: u32,
    /// When it started, in seconds since the Unix epoch. With `pid`: a change means that run-time state and counters are
    /// gone.
    pub started: i64,
    /// HAProxy's version.
    pub version: Version,
    /// The whole text of the version.
    pub full_version: String,
    /// `OWNER` of the description, if a supervisor wrote the configuration.
    pub owner: Option<String>,
    /// `HASH` of the description.
    pub revision: Option<String>,
    /// The entries of the map; none if this configuration does not use it.
    pub routes: Option<BTreeMap<String, String>>,
    /// Every server line, by backend and name.
    pub servers: BTreeMap<(String, String), ServerSeen>,
    /// What waits in each backend: its own queue and its servers'.
    pub queued: BTreeMap<String, u64>,
    /// What the master says; none without a master socket, or while it re-executes itself.
    pub master: Option<MasterSeen>,
}

/// What the master says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterSeen {
    /// Its process id.
    pub pid: u32,
    /// Reloads that failed since the last good one.
    pub failed_reloads: u32,
    /// The worker that takes new connections; more than one in the moment of a reload.
    pub workers: Vec<u32>,
    /// The workers that finish what they have.
    pub old_workers: Vec<u32>,
}

/// HAProxy's view of one server line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSeen {
    /// Its operational state.
    pub op: OpState,
    /// Its administrative state.
    pub admin: AdminBits,
    /// Whether HAProxy would send it traffic.
    pub usable: bool,
    /// The result of its last check: `L7OK`, `L4TOUT`, … None for a line without a check of its own.
    pub check_status: Option<String>,
    /// The HTTP status of its last check.
    pub check_code: Option<u16>,
    /// Seconds since its state changed.
    pub since_secs: Option<u64>,
    /// Sessions now.
    pub sessions: u64,
    /// What it has done so far: requests answered in HTTP, sessions in TCP. Only ever grows in one worker.
    pub served_total: u64,
    /// Failed connections and responses so far.
    pub errors_total: u64,
}

/// Looks once.
pub async fn observe(runtime: &Runtime, map: &MapPath) -> Result<Observed, RuntimeError> {
    let look =
        [Command::show_info(), Command::show_stat(), Command::show_servers_state(), Command::show_map(map)];
    let mut replies = runtime.ask_all(Worker::Current, &look).await?.into_iter();
    // The client gives as many replies as there were commands.
    let mut next = || replies.next().unwrap_or_default();
    let info = reply::info(&next())?;
    let stat = reply::stat(&next())?;
    let states = reply::servers_state(&next())?;
    let routes = match reply::map_entries(&next()) {
        Ok(entries) => Some(entries),
        Err(error) if reply::is_unknown_map(&error) => None,
        Err(error) => return Err(error.into()),
    };
    let described = info.description.as_deref().and_then(parse_description);
    let rows: BTreeMap<(&str, &str), &StatRow> = stat
        .iter()
        .filter_map(|row| match &row.kind {
            StatKind::Server(name) => Some(((row.proxy.as_str(), name.as_str()), row)),
            StatKind::Frontend | StatKind::Backend => None,
        })
        .collect();
    let servers = states
        .into_iter()
        .filter_map(|state| {
            let row = rows.get(&(state.backend.as_str(), state.server.as_str()))?;
            let seen = ServerSeen {
                op: state.op,
                admin: state.admin,
                usable: row.usable(),
                check_status: row.check_status.clone(),
                check_code: row.check_code,
                since_secs: row.last_change_secs,
                sessions: row.sessions,
                served_total: if row.http { row.answered_total } else { row.sessions_total },
                errors_total: row.errors_total,
            };
            Some(((state.backend, state.server), seen))
        })
        .collect();
    let mut queued = BTreeMap::new();
    for row in stat.iter().filter(|row| row.kind != StatKind::Frontend) {
        *queued.entry(row.proxy.clone()).or_insert(0) += row.queued;
    }
    Ok(Observed {
        pid: info.pid,
        started: info.started,
        version: info.version,
        full_version: info.full_version,
        owner: described.map(|(owner, _)| owner.to_owned()),
        revision: described.map(|(_, revision)| revision.to_owned()),
        routes,
        servers,
        queued,
        master: runtime.processes().await.ok().map(|seen| MasterSeen {
            pid: seen.master.pid,
            failed_reloads: seen.failed,
            workers: seen.workers.iter().map(|worker| worker.pid).collect(),
            old_workers: seen.old_workers.iter().map(|worker| worker.pid).collect(),
        }),
    })
}

impl Observed {
    /// Whether this is the worker of `other`: only then can counters be compared, and run-time state is still there.
    pub fn same_worker(&self, other: &Observed) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }

    /// Whether the master calls the worker that was looked at the current one, and no other: otherwise another has taken
    /// over, or is about to.
    pub fn is_current(&self) -> bool {
        self.master.as_ref().is_some_and(|master| master.workers == [self.pid])
    }

    /// How much each site's servers did for each service since `before`: service to site to requests (or sessions).
    /// Counted where the work was done: what a backup line of another site answered is that other site's.
    pub fn served_since(&self, before: &Observed) -> BTreeMap<&str, BTreeMap<&str, u64>> {
        let mut served: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
        if !self.same_worker(before) {
            return served;
        }
        for (key, seen) in &self.servers {
            let (backend, server) = (key.0.as_str(), key.1.as_str());
            let Some((service, own_site)) = naming::pool_of(backend) else { continue };
            let earlier = before.servers.get(key).map_or(0, |seen| seen.served_total);
            let count = seen.served_total.saturating_sub(earlier);
            if count > 0 {
                let site = naming::spare_site(server).unwrap_or(own_site);
                *served.entry(service).or_default().entry(site).or_insert(0) += count;
            }
        }
        served
    }

    /// Rescue lines that are not in maintenance: an evacuation that was cut off left them so.
    pub fn open_rescue_lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let open = |(_, server): &&(String, String), seen: &ServerSeen| {
            naming::is_rescue_line(server) && !seen.admin.maint()
        };
        self.servers
            .iter()
            .filter(move |(key, seen)| open(key, seen))
            .map(|((backend, server), _)| (backend.as_str(), server.as_str()))
    }
}
