//! What every command that talks to the daemon needs.

use super::args::{Format, Global};
use super::output::Output;
use crate::control::{Client, ClientError, DEFAULT_SOCKET};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of the settings is read to find the socket; a file of settings has a few kilobytes.
const SETTINGS_MAX_BYTES: u64 = 1024 * 1024;

/// The environment's word for the same setting, as `settings` reads it.
const SOCKET_VARIABLE: &str = "SUPERVISOR__CONTROL_SOCKET";

/// How long an order may take until every HAProxy has confirmed it. A switch takes milliseconds; one that finds HAProxy
/// restarting takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client, and where its answers go.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) format: Format,
    pub(super) output: Output,
    /// How long an order is waited for.
    pub(super) patience: Duration,
}

impl Context {
    pub(super) fn new(global: &Global) -> Result<Context, ClientError> {
        let socket = match &global.socket {
            Some(socket) => socket.clone(),
            None => std::env::var_os(SOCKET_VARIABLE)
                .map(PathBuf::from)
                .or_else(|| named_in(&global.config, "control_socket"))
                .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
        };
        let (client, output) = (Client::new(&socket)?, Output::standard());
        Ok(Context { client, format: global.format, output, patience: PATIENCE })
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }
}

/// The path that a file of settings has under `key`, such as the control socket's. Only this key is read: the command line must
/// work while the daemon runs on older settings and the file has an error, or cannot be read by this user.
pub(super) fn named_in(config: &Path, key: &str) -> Option<PathBuf> {
    let mut text = String::new();
    std::fs::File::open(config).ok()?.take(SETTINGS_MAX_BYTES).read_to_string(&mut text).ok()?;
    let settings: toml::Table = match text.parse() {
        Ok(settings) => settings,
        // Not even TOML as a whole: the line is, and it is none of a table's.
        Err(_) => {
            let own = text.lines().take_while(|line| !line.trim_start().starts_with('['));
            let line = own.filter(|line| line.trim_start().starts_with(key)).last()?;
            line.parse().ok()?
        }
    };
    settings.get(key)?.as_str().map(PathBuf::from)
}
