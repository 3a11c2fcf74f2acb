//! The lock of the state directory: one supervisor at a time.
//!
//! An advisory lock of the kernel (flock(2)) on a file that is never removed: it ends with the process that holds it,
//! however that ends. The holder's process id is written into the file for the message only.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The lock's file in the state directory.
const FILE: &str = "lock";

/// The exclusive right to the state directory, until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another supervisor runs on the same state directory: exit 69.
    #[error("another supervisor{} already runs with the state directory {dir}: stop it first, or set another state directory", process(*.pid))]
    AlreadyRunning {
        /// The state directory.
        dir: PathBuf,
        /// The other one's process id, as it wrote it down.
        pid: Option<u32>,
    },
    /// The directory is not there and could not be made.
    #[error("the state directory {dir} cannot be made: create it, owned by the user supervisor runs as")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something else at that path.
    #[error("the state directory {dir} is not a directory: move it away, or set another state directory")]
    NotADirectory {
        /// The path.
        dir: PathBuf,
    },
    /// The lock's file cannot be opened or made.
    #[error("the lock {path} cannot be opened: make the state directory writable for supervisor's user")]
    File {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file system does not lock.
    #[error("the lock {path} cannot be taken: the state directory needs a local file system")]
    Unlockable {
        /// The lock's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Lock {
    /// Takes the lock of `dir`, which is made if it is missing. Never waits.
    pub fn acquire(dir: &Path) -> Result<Lock, LockError> {
        make_directory(dir)?;
        let path = dir.join(FILE);
        let mut file = open(&path).map_err(|source| LockError::File { path: path.clone(), source })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::AlreadyRunning { dir: dir.to_path_buf(), pid: read_pid(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(LockError::Unlockable { path, source }),
        }
        // The id helps the reader of a message; on a full disk the lock is as good without it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Lock { _file: file })
    }
}

fn make_directory(dir: &Path) -> Result<(), LockError> {
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(LockError::NotADirectory { dir: dir.to_path_buf() }),
        Err(_) => DirBuilder::new()
            .recursive(true)
            .mode(0o750) // The journal names people and servers: nobody else's business.
            .create(dir)
            .map_err(|source| LockError::Directory { dir: dir.to_path_buf(), source }),
    }
}

/// Opens the file for reading and writing; in a directory that became read-only, an existing file for reading: flock(2)
/// asks for no more.
fn open(path: &Path) -> io::Result<File> {
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o640).open(path);
    made.or_else(|error| File::open(path).map_err(|_| error))
}

/// Bounded, and any content will do: a person may have edited it.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told_who_was_first_and_gets_the_lock_when_that_one_ends() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::acquire(dir.path()).unwrap();
        let refused = Lock::acquire(dir.path()).unwrap_err();
        assert!(
            matches!(&refused, LockError::AlreadyRunning { pid: Some(pid), .. } if *pid == std::process::id())
        );
        assert!(refused.to_string().contains(&format!("(process {})", std::process::id())), "{refused}");
        drop(first);
        Lock::acquire(dir.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_is_made_and_nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let _lock = Lock::acquire(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o007, 0);
    }

    #[test]
    fn what_is_no_writable_directory_is_named_with_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(Lock::acquire(&file), Err(LockError::NotADirectory { .. })));
        assert!(matches!(Lock::acquire(&file.join("below")), Err(LockError::Directory { .. })));
        // A directory that is read-only even for root.
        let error = Lock::acquire(Path::new("/sys/kernel")).unwrap_err();
        assert!(matches!(error, LockError::File { .. }), "{error:?}");
        assert!(error.to_string().contains("writable"), "{error}");
    }

    #[test]
    fn rubbish_in_the_file_is_not_taken_for_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Lock::acquire(dir.path()).unwrap();
        fs::write(dir.path().join(FILE), "x".repeat(1000)).unwrap();
        let refused = Lock::acquire(dir.path()).unwrap_err();
        assert!(matches!(refused, LockError::AlreadyRunning { pid: None, .. }));
    }
}
