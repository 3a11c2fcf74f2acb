//! Looks for what would keep us from driving one HAProxy, and says what mends it. Changes nothing: it asks, reads files, has
//! HAProxy's binary check a configuration that nobody loads, and binds a new address for the moment that it takes to see
//! whether it is free.

mod config;
mod files;
mod routes;
mod sockets;

use super::client::Socket;
use super::ident::MapPath;
use super::template::Rendered;
use super::{BindCheck, Runtime, Validate};
use crate::finding::Finding;
use std::path::PathBuf;
use std::sync::Arc;

/// One HAProxy, as the settings have it.
pub struct Patient {
    /// Its sockets.
    pub runtime: Runtime,
    /// Where the worker's is.
    pub admin: Socket,
    /// Where the master's is.
    pub master: Socket,
    /// The group that the configuration gives the worker's to, if to another one than HAProxy's own.
    pub socket_gid: Option<u32>,
    /// Our OWNER; none if no daemon has run on this state directory yet.
    pub owner: Option<String>,
    /// Its configuration is somebody else's.
    pub external: bool,
    /// The files, as we see them.
    pub files: Files,
    /// The configuration's file as HAProxy sees it.
    pub config_path: PathBuf,
    /// The map as HAProxy sees it.
    pub map_path: MapPath,
    /// What the settings lead to, or why to nothing.
    pub rendered: Result<Rendered, String>,
    /// Who asks HAProxy's binary.
    pub validator: Arc<dyn Validate>,
    /// Whether new binds can be tried from here.
    pub binds: BindCheck,
    /// The services that it routes.
    pub services: Vec<Wanted>,
}

/// The files of one HAProxy, as we see them.
#[derive(Debug, Clone)]
pub struct Files {
    /// Its configuration.
    pub config: PathBuf,
    /// The map of routes.
    pub map: PathBuf,
    /// The state of servers.
    pub state: PathBuf,
}

/// A service that an HAProxy routes.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name: the key in the map.
    pub service: String,
    /// Its sites, the preferred one first, each with the names of its servers.
    pub sites: Vec<(String, Vec<String>)>,
    /// Whether its servers are asked over HTTP, and not only connected to.
    pub http_check: bool,
}

/// Looks at everything. Takes some seconds at most where HAProxy does not answer.
pub async fn examine(patient: &Patient) -> Vec<Finding> {
    let mut findings = Vec::new();
    let seen = sockets::examine(patient, &mut findings).await;
    files::examine(patient, seen.worker.as_ref(), &mut findings).await;
    config::examine(patient, &seen, &mut findings).await;
    if seen.worker.is_some() {
        routes::examine(patient, &mut findings).await;
    }
    findings
}
