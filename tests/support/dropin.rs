//! One settings drop-in for what differs from the stack as shipped: a bench peer, a test of a reload.
//!
//! It lies beside the settings that the running container has mounted, wherever that is, and is git-ignored.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::docker::Engine;
use super::stack::SUPERVISOR;

/// Where the container sees its settings.
const SETTINGS_DIR: &str = "/etc/supervisor";

/// Last by name, so that it wins over a person's own drop-ins.
const NAME: &str = "zz-measured.toml";

/// Makes `text` the drop-in; an empty one removes it.
pub(crate) async fn set(engine: &Engine, text: &str) -> Result<()> {
    let dir = engine.mount_source(SUPERVISOR, SETTINGS_DIR).await?.join("supervisor.d");
    let path = dir.join(NAME);
    write(&dir, &path, text).with_context(|| format!("cannot write the drop-in {}", path.display()))
}

fn write(dir: &PathBuf, path: &PathBuf, text: &str) -> std::io::Result<()> {
    if text.is_empty() {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            // The directory too, unless a person has something in it.
            _ => std::fs::remove_dir(dir).or(Ok(())),
        };
    }
    std::fs::create_dir_all(dir)?;
    // By rename: a daemon that watches the directory must never read half of it.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}
