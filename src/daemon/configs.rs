//! HAProxy's configurations for those who look, and for those who order without a daemon.

use super::edges::docker_engine;
use super::once::{PrintError, haproxy_wanted, owner, printed};
use crate::actuator::haproxy::history::History;
use crate::actuator::haproxy::keeper::order_once;
use crate::actuator::haproxy::{self, FileError};
use crate::control::{ConfigBody, Reply, myself};
use crate::domain::ProxyId;
use crate::settings::{ConfigMode, ProxySettings, Settings};
use std::time::Duration;

/// How long a file in a container is waited for. `cat` takes milliseconds.
const READ_DEADLINE: Duration = Duration::from_secs(5);

/// How two configurations differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What was compared: a path, and where.
    pub there: String,
    /// As `diff -u` writes it; empty if they are the same.
    pub text: String,
    /// Why something else than asked for was compared.
    pub note: Option<String>,
}

/// Why a configuration cannot be shown, compared or ordered.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// What the settings lead to.
    #[error(transparent)]
    Print(#[from] PrintError),
    /// What is on disk.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no such HAProxy.
    #[error("the settings have no HAProxy {0}")]
    Unknown(ProxyId),
    /// It is somebody else's.
    #[error("the configuration of HAProxy {0} is somebody else's (config = \"external\")")]
    External(ProxyId),
}

/// What is kept of `proxy`.
///
/// # Errors
///
/// When its files cannot be read.
pub async fn history(settings: &Settings, proxy: ProxyId) -> Result<History, ConfigError> {
    let Some(wanted) = settings.proxies.get(&proxy) else { return Err(ConfigError::Unknown(proxy)) };
    let info = haproxy::plan::runtime(wanted).info().await.ok();
    Ok(History::read(&wanted.config_file, info.and_then(|info| info.description).as_deref())?)
}

/// How what is there differs from what the settings lead to.
///
/// # Errors
///
/// When one of the two cannot be had.
pub async fn difference(settings: &Settings, proxy: ProxyId) -> Result<Difference, ConfigError> {
    let Some(wanted) = settings.proxies.get(&proxy).filter(|wanted| wanted.config == ConfigMode::Managed)
    else {
        return Err(ConfigError::External(proxy));
    };
    let There { text: there, at, note } = there(settings, wanted).await?;
    // Without a daemon ever, it would only differ in whose it is.
    let known = haproxy::owner_and_revision(&there).map(|(owner, _)| owner.to_owned());
    let ours = match crate::store::owner_in(&settings.state_dir) {
        Some(ours) => ours,
        None => known.unwrap_or_else(|| owner(settings)),
    };
    let text = printed(settings, proxy, wanted, &ours).await?.text;
    let text = haproxy::unified(&there, &at, &text, "the settings");
    Ok(Difference { there: at, text, note })
}

struct There {
    text: String,
    at: String,
    note: Option<String>,
}

/// The file that HAProxy would load now: its container's, else ours.
async fn there(settings: &Settings, wanted: &ProxySettings) -> Result<There, ConfigError> {
    let mut note = None;
    let engine = wanted.container.as_ref().and_then(|container| {
        Some((container, docker_engine(container.engine, settings.engines.get(&container.engine)?)))
    });
    if let Some((container, engine)) = engine {
        let path = wanted.config_path.to_string_lossy();
        match engine.exec(&container.name, &["cat", &path], None, READ_DEADLINE).await {
            Ok(ran) if ran.exit == 0 && !ran.cut => {
                let at = format!("{path} in the container {}", container.name);
                return Ok(There { text: ran.output, at, note });
            }
            Ok(ran) => {
                note = Some(if ran.cut { "is too long".to_owned() } else { ran.output.trim().to_owned() })
            }
            Err(error) => note = Some(crate::chain::chain(&error)),
        }
        let ours = wanted.config_file.display();
        note = note.map(|why| {
            format!("compared with {ours} here; {path} in the container {}: {why}", container.name)
        });
    }
    let text = haproxy::read_config(&wanted.config_file)?;
    Ok(There { text, at: wanted.config_file.display().to_string(), note })
}

/// Carries an order out without a daemon: whoever calls holds the lock of the state directory.
///
/// # Errors
///
/// When there is nothing to order from.
pub async fn configure_alone(settings: &Settings, body: &ConfigBody) -> Result<Reply, ConfigError> {
    let Some(wanted) =
        settings.proxies.get(&body.proxy).filter(|wanted| wanted.config == ConfigMode::Managed)
    else {
        return Err(ConfigError::External(body.proxy));
    };
    let wanted = haproxy_wanted(settings, body.proxy, wanted, &owner(settings)).map_err(PrintError::from)?;
    let by = (myself().await, body.because.clone());
    Ok(order_once(&wanted, &body.order, by, body.dry_run).await)
}
