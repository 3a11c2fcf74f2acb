//! Files that are either the old one or the new one, whenever somebody looks or the power goes.
//!
//! Written beside the target, synced, renamed over it, and the directory synced. A target that is itself a mount point
//! (a single file mounted into a container) cannot be replaced so: the error says to mount the directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The mode of files that HAProxy reads under another user: readable by everybody, written by us alone.
pub const PUBLIC_MODE: u32 = 0o644;

/// The largest file that [`read_if_there`] reads. A configuration of 10,000 servers has 2 MiB.
const READ_MAX: u64 = 16 << 20;

/// Why a file was not replaced. The old one is still there, whole.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A step failed.
    #[error("cannot {step} {path}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The target is a mount point.
    #[error("cannot replace {0}: it is mounted as a single file; mount its directory instead")]
    Mounted(PathBuf),
    /// More than 16 MiB.
    #[error("{0} is too large to be read: more than {READ_MAX} bytes")]
    TooLarge(PathBuf),
    /// The task that wrote was cancelled with the runtime.
    #[error("writing {0} was given up because the program ends")]
    Cancelled(PathBuf),
}

/// Replaces `path` by a file with `content`, readable by everybody.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let written = write_beside(path, content)?;
    put_in_place(written, path)
}

/// [`replace`] on a thread that may block. A future that is dropped leaves the writing to finish by itself.
pub async fn replace_in_background(path: PathBuf, content: Vec<u8>) -> Result<(), FileError> {
    let cancelled = FileError::Cancelled(path.clone());
    tokio::task::spawn_blocking(move || replace(&path, &content)).await.unwrap_or(Err(cancelled))
}

/// Makes `path` with `content` if there is no such file. What is there, or is put there meanwhile, stays.
pub(crate) fn create_if_missing(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let step = |step| move |source| FileError::Step { step, path: path.to_owned(), source };
    if path.try_exists().map_err(step("look for"))? {
        return Ok(());
    }
    match write_beside(path, content)?.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(step("create")(error.error)),
    }
}

/// A synced file beside `path`; removed when dropped. Its name begins with a dot, which HAProxy skips when it loads a
/// directory.
pub(crate) fn write_beside(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile, FileError> {
    let step = |step, at: &Path| {
        let path = at.to_owned();
        move |source| FileError::Step { step, path, source }
    };
    let dir = directory(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut file = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".new")
        .permissions(fs::Permissions::from_mode(PUBLIC_MODE))
        .tempfile_in(dir)
        .map_err(step("create a file in", dir))?;
    file.write_all(content).map_err(step("write a file in", dir))?;
    // The umask may have narrowed the mode.
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(PUBLIC_MODE))
        .map_err(step("set the mode of a file in", dir))?;
    file.as_file().sync_all().map_err(step("sync a file in", dir))?;
    Ok(file)
}

/// Renames `written` over `path`.
pub(crate) fn put_in_place(written: tempfile::NamedTempFile, path: &Path) -> Result<(), FileError> {
    let dir = directory(path);
    written.persist(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::ResourceBusy => FileError::Mounted(path.to_owned()),
        _ => FileError::Step { step: "replace", path: path.to_owned(), source: error.error },
    })?;
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| FileError::Step { step: "sync the directory", path: dir.to_owned(), source })
}

/// The content of `path`, or none if there is no such file.
pub(crate) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let step = |source| FileError::Step { step: "read", path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(meta) if meta.len() > READ_MAX => Err(FileError::TooLarge(path.to_owned())),
        Ok(_) => fs::read(path).map(Some).map_err(step),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(step(error)),
    }
}

/// The configuration at `path`; empty if there is none.
///
/// # Errors
///
/// When it cannot be read, or is larger than a configuration can be.
pub fn read_config(path: &Path) -> Result<String, FileError> {
    Ok(read_if_there(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_a_mode_that_haproxy_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.map");
        for content in ["api api__onprem\n", "api api__cloud\n"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PUBLIC_MODE);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_failed_replacement_leaves_the_old_file_and_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.map");
        fs::create_dir_all(path.join("in-the-way")).unwrap();
        let error = replace(&path, b"x").unwrap_err();
        assert!(error.to_string().contains("routes.map"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("no/such/dir/f"), b"x").is_err());
    }

    #[test]
    fn a_missing_file_is_made_and_one_that_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.map");
        for content in ["first", "second"] {
            create_if_missing(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, PUBLIC_MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_that_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_if_there(&dir.path().join("f")).unwrap().is_none());
    }
}
