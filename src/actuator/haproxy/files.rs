//! Files that are either the old one or the new one, whenever somebody looks or the power goes.
//!
//! Written beside the target, synced, renamed over it, and the directory synced. A target that is itself a mount point
//! (a single file mounted into a container) cannot be replaced so: the error says to mount the directory.

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
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

/// Replaces `path` by a file with `content`, for whom `like` is: of its owner, group and mode. A configuration may hold passwords, so
/// neither a newer one nor a copy of it is for more people than the one that is there.
pub(crate) fn replace_like(path: &Path, like: &Path, content: &[u8]) -> Result<(), FileError> {
    put_in_place(write_beside_like(path, like, content)?, path)
}

/// [`replace`] on a thread that may block. A future that is dropped leaves the writing to finish by itself.
pub async fn replace_in_background(path: PathBuf, content: Vec<u8>) -> Result<(), FileError> {
    let cancelled = FileError::Cancelled(path.clone());
    tokio::task::spawn_blocking(move || replace(&path, &content)).await.unwrap_or(Err(cancelled))
}

/// Makes `path` with `content` if there is no such file. What is there, or is put there meanwhile, stays.
pub(crate) fn create_if_missing(path: &Path, content: &[u8]) -> Result<(), FileError> {
    create_as(path, None, content)
}

/// [`create_if_missing`], for whom `like` is.
pub(crate) fn create_if_missing_like(path: &Path, like: &Path, content: &[u8]) -> Result<(), FileError> {
    create_as(path, Some(like), content)
}

fn create_as(path: &Path, like: Option<&Path>, content: &[u8]) -> Result<(), FileError> {
    let step = |step| move |source| FileError::Step { step, path: path.to_owned(), source };
    if path.try_exists().map_err(step("look for"))? {
        return Ok(());
    }
    match write_as(path, like, content)?.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(step("create")(error.error)),
    }
}

/// A synced file beside `path`; removed when dropped. Its name begins with a dot, which HAProxy skips when it loads a
/// directory.
pub(crate) fn write_beside(path: &Path, content: &[u8]) -> Result<tempfile::NamedTempFile, FileError> {
    write_as(path, None, content)
}

/// [`write_beside`], for whom `like` is.
pub(crate) fn write_beside_like(
    path: &Path,
    like: &Path,
    content: &[u8],
) -> Result<tempfile::NamedTempFile, FileError> {
    write_as(path, Some(like), content)
}

fn write_as(path: &Path, like: Option<&Path>, content: &[u8]) -> Result<tempfile::NamedTempFile, FileError> {
    let step = |step, at: &Path| {
        let path = at.to_owned();
        move |source| FileError::Step { step, path, source }
    };
    let dir = directory(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut file = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .suffix(".new")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(dir)
        .map_err(step("create a file in", dir))?;
    file.write_all(content).map_err(step("write a file in", dir))?;
    // There is none like it yet: HAProxy must be able to read it.
    let like = like.and_then(|like| fs::metadata(like).ok());
    let mode = like.filter(|like| give(file.as_file(), like)).map_or(PUBLIC_MODE, |like| like.mode() & 0o777);
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(mode))
        .map_err(step("set the mode of a file in", dir))?;
    file.as_file().sync_all().map_err(step("sync a file in", dir))?;
    Ok(file)
}

/// Gives `new` to the owner and the group of `like`; where we may not give it away, to the group. False if not even that: then its
/// mode would be for others than were meant.
fn give(new: &File, like: &Metadata) -> bool {
    fchown(new, Some(like.uid()), Some(like.gid())).or_else(|_| fchown(new, None, Some(like.gid()))).is_ok()
}

/// Makes `dir`, if it is not there, for whom the directory is that it is in: whoever may replace files there may replace files in
/// it, whether root made it or supervisor's user.
pub(crate) fn make_dir_like_its_own(dir: &Path) -> Result<(), FileError> {
    let step = |step| move |source| FileError::Step { step, path: dir.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(step("make the directory")(error)),
    }
    let like = fs::metadata(directory(dir)).map_err(step("look at the directory of"))?;
    let made = File::open(dir).map_err(step("open the directory"))?;
    // Nobody else than us can use it then, who have made it: HAProxy never does.
    if give(&made, &like) {
        made.set_permissions(fs::Permissions::from_mode(like.mode() & 0o3777))
            .map_err(step("set the mode of"))?;
    }
    Ok(())
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

    /// Root gives files away; everybody else has only their own group to give them to.
    fn another_group() -> u32 {
        if rustix::process::geteuid().is_root() { 4_242 } else { rustix::process::getegid().as_raw() }
    }

    #[test]
    fn what_takes_the_place_of_a_file_is_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let (file, copy) = (dir.path().join("haproxy.cfg"), dir.path().join("haproxy.cfg.last-good"));
        let look = |path: &Path| {
            let meta = fs::metadata(path).unwrap();
            (meta.mode() & 0o777, meta.uid(), meta.gid())
        };
        let us = rustix::process::geteuid().as_raw();
        replace_like(&file, &file, b"one").unwrap();
        assert_eq!(look(&file).0, PUBLIC_MODE, "the first one HAProxy must be able to read");
        std::os::unix::fs::chown(&file, None, Some(another_group())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        replace_like(&file, &file, b"two").unwrap();
        replace_like(&copy, &file, b"two").unwrap();
        assert_eq!(look(&file), (0o640, us, another_group()));
        assert_eq!(look(&copy), look(&file));
        let other = dir.path().join("haproxy.cfg.before-supervisor");
        create_if_missing_like(&other, &file, b"x").unwrap();
        assert_eq!(look(&other), look(&file));
    }

    #[test]
    fn a_directory_is_for_whom_the_one_is_that_it_is_in() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(dir.path(), None, Some(another_group())).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o2775)).unwrap();
        let made = dir.path().join("haproxy.cfg.history");
        for _ in 0..2 {
            make_dir_like_its_own(&made).unwrap();
            let meta = fs::metadata(&made).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o2775, another_group()));
        }
        assert!(make_dir_like_its_own(&dir.path().join("no/such")).is_err());
    }

    #[test]
    fn a_file_that_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_if_there(&dir.path().join("f")).unwrap().is_none());
    }
}
