//! The socket file: made with its mode from the first moment, never stolen from somebody who answers.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

/// Owner and group may order; others may not even connect.
const MODE: u32 = 0o660;

/// How long an existing socket has to accept before it counts as somebody's. A dead one refuses at once; only a full
/// backlog waits, and that has an owner.
const PROBE_MAX: Duration = Duration::from_secs(1);

/// The listening control socket. Dropping it removes the file, if it is still ours.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a listening socket; removed on drop, if it is still the same file.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// Why the control socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody listens there.
    #[error("another process answers on the control socket {}; stop it, or give this one another socket", path.display())]
    Answered {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} exists and is no socket; move it away, or set another path for the control socket", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The directory does not let us.
    #[error("cannot make the control socket in {}; the directory must exist and be writable", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The path does not do.
    #[error("cannot listen on the control socket {}; a path has at most 107 bytes (unix(7))", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ControlSocket {
    /// Listens on `path`, replacing a socket that nobody listens on.
    ///
    /// The socket is made in a private directory, gets its mode, and is renamed into place: there is no moment at which
    /// the wrong people can connect, and none at which the path is missing.
    pub async fn bind(path: &Path) -> Result<ControlSocket, BindError> {
        refuse_if_used(path).await?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // The kind alone: the temporary name in it would make the same trouble look new at each try.
        let in_directory = |error: io::Error| {
            let source = io::Error::from(error.kind());
            BindError::Directory { directory: directory.to_owned(), source }
        };
        let private = tempfile::Builder::new()
            .prefix(".ctl")
            .rand_bytes(4)
            .permissions(std::fs::Permissions::from_mode(0o700))
            .tempdir_in(directory)
            .map_err(in_directory)?;
        let made = private.path().join("s");
        let listen = |source| BindError::Listen { path: path.to_owned(), source };
        let listener = UnixListener::bind(&made).map_err(listen)?;
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(MODE)).map_err(listen)?;
        std::fs::rename(&made, path).map_err(in_directory)?;
        Ok(ControlSocket { listener, file: SocketFile { path: path.to_owned(), identity: identity(path) } })
    }

    /// Whether somebody listens on `path`.
    pub async fn answers(path: &Path) -> bool {
        matches!(refuse_if_used(path).await, Err(BindError::Answered { .. }))
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

async fn refuse_if_used(path: &Path) -> Result<(), BindError> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match timeout(PROBE_MAX, UnixStream::connect(path)).await {
        // Refused: the file of a process that is gone (connect(2), ECONNREFUSED).
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(_) | Err(_) => Err(BindError::Answered { path: path.to_owned() }),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor may have put its own socket there already; that one is not ours to remove.
        if self.identity.is_some() && identity(&self.path) == self.identity {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
