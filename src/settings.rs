//! What the operator wrote down: file → raw → checked.
//!
//! Owns the format of the settings file, its defaults and bounds, and every message about a mistake in it. Docs:
//! `docs/settings.md`; a commented sample with every key: `docs/supervisor.sample.toml`.
//!
//! ```text
//!   supervisor.toml ─┐ source   strict            layer               check_*
//!   supervisor.d/*  ─┼───────► each file alone ─► config merges ─► Raw ──────► Settings
//!   SUPERVISOR__*   ─┘         (line, column)     (last one wins)    │
//!                                                                   └► Problems: all of them, each with its place
//! ```
//!
//! The rest of the program sees only the checked [`Settings`]. What the core must know is in [`Settings::policy`]; the
//! other parts are for the edges. Nothing here acts on what it reads: a bad reload is an `Err`, and the caller keeps what
//! it has.

mod check;
mod check_alerts;
mod check_engine;
mod check_failover;
mod check_heal;
mod check_journal;
mod check_probe;
mod check_proxy;
mod check_service;
mod check_snippets;
mod check_tls;
mod checker;
mod examples;
mod key;
mod layer;
mod limits;
mod model;
mod problem;
mod raw;
mod source;
mod strict;
mod value;
pub mod watch;
mod zone;

#[cfg(test)]
mod tests;

pub use layer::ENVIRONMENT_PREFIX;
pub use model::{
    Address, AlertmanagerAuth, AlertmanagerSettings, Bind, Check, ConfigMode, EngineAddress, EngineSettings,
    HttpCheck, JournalSettings, LogFormat, LogLevel, LogSettings, MailSettings, Mode, Observe, ProbeSettings,
    ProxySettings, ProxySnippets, ProxySocket, ProxyTimeouts, RelayLogin, RelaySettings, RelayTls, Scheme,
    ServerSettings, ServiceSettings, ServiceSnippets, Settings, Snippet, StatusSet, TlsSettings, TlsVersion,
};
pub use problem::{Place, Problem, Problems};
pub use source::Fingerprint;

use crate::domain::time::Span;
use checker::{Checker, Credentials};
use std::ffi::OsString;
use std::path::Path;

/// A length of time as the settings have it, for whoever takes one from a person: `250ms`, `1m 30s`, `2h`.
///
/// # Errors
///
/// What is wrong with it, in words.
pub fn span(text: &str) -> Result<Span, String> {
    value::span(text)
}

/// Where the settings are unless `--config` names another file.
pub const DEFAULT_PATH: &str = "/etc/supervisor/supervisor.toml";

impl Settings {
    /// Reads `path`, its drop-ins (`supervisor.d/*.toml` beside `supervisor.toml`) and this process's environment.
    pub fn load(path: &Path) -> Result<Settings, Problems> {
        Settings::load_with(path, std::env::vars_os())
    }

    /// [`Settings::load`] for a command that is not the daemon: systemd gives credentials to the daemon alone, so where
    /// there are none they are taken for good, and are empty.
    pub fn load_for_command(path: &Path) -> Result<Settings, Problems> {
        Settings::load_from(path, std::env::vars_os(), Credentials::Trusted)
    }

    /// [`Settings::load`] with an environment of the caller's.
    pub fn load_with(
        path: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Settings, Problems> {
        Settings::load_from(path, environment, Credentials::Needed)
    }

    fn load_from(
        path: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        credentials: Credentials,
    ) -> Result<Settings, Problems> {
        let (documents, unreadable) = source::read(path);
        let layered = layer::merge(path, &documents, unreadable, environment);
        let mut checker = Checker::new(&layered, credentials);
        let settings = check::settings(&mut checker, &layered.raw);
        Problems::none_or(layered.problems.iter().cloned().chain(checker.into_problems()).collect())?;
        Ok(settings)
    }

    /// The keys in which `new` differs and that a running daemon cannot take over: it must be started again.
    pub fn needs_restart(&self, new: &Settings) -> Vec<&'static str> {
        let keys = [
            ("state_dir", self.state_dir != new.state_dir),
            ("control_socket", self.control_socket != new.control_socket),
            ("status.listen", self.status_listen != new.status_listen),
            ("log.format", self.log.format != new.log.format),
            ("log.level", self.log.level != new.log.level),
        ];
        keys.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }
}
