//! Reads the settings file and its drop-ins, within bounds.

use super::problem::{Place, Problem};
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The largest file that is read: a thousand services in full need a third of it. More is a mistake, such as a log.
pub(crate) const FILE_MAX: u64 = 1 << 20;

/// The most drop-ins. Together with [`FILE_MAX`] it bounds the memory that a load can take.
pub(crate) const DROP_INS_MAX: usize = 64;

/// One file's text.
pub(crate) struct Document {
    /// The file, as the operator would name it.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) text: String,
}

/// What the files held at one moment: equal fingerprints, equal settings (but for the environment, which does not change).
///
/// A file that cannot be read has a fingerprint too, so that its coming back is a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Reads the files and forgets their text. Take it *before* loading, so that no change in between is lost.
    pub fn of(path: &Path) -> Fingerprint {
        let mut hasher = std::hash::DefaultHasher::new();
        let (documents, problems) = read(path);
        for document in documents {
            (&document.path, &document.text).hash(&mut hasher);
        }
        for problem in problems {
            problem.to_string().hash(&mut hasher);
        }
        Fingerprint(hasher.finish())
    }
}

/// Where the drop-ins of `main` are: `supervisor.d` beside `supervisor.toml`.
pub(crate) fn drop_in_dir(main: &Path) -> PathBuf {
    main.with_extension("d")
}

/// The main file and its drop-ins in the order in which later ones win, and what could not be read.
pub(crate) fn read(main: &Path) -> (Vec<Document>, Vec<Problem>) {
    let mut documents = Vec::new();
    let mut problems = Vec::new();
    let (drop_ins, problem) = drop_ins(&drop_in_dir(main));
    problems.extend(problem);
    for path in std::iter::once(main.to_owned()).chain(drop_ins) {
        match read_one(&path) {
            Ok(text) => documents.push(Document { path, text }),
            Err(Unreadable { line, message }) => {
                let place = Place::File { path, line, column: None };
                problems.push(Problem { place, key: String::new(), message, example: None });
            }
        }
    }
    (documents, problems)
}

/// The `*.toml` of `dir` by name. Names with a leading dot are editors' and Kubernetes' own.
fn drop_ins(dir: &Path) -> (Vec<PathBuf>, Option<Problem>) {
    let refuse = |message: String| (Vec::new(), Some(Problem::of_file(dir, message)));
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Vec::new(), None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return refuse(format!("is no directory: drop-ins are files {}/*.toml", dir.display()));
        }
        Err(error) => return refuse(format!("the directory of drop-ins cannot be read: {}", said(&error))),
    };
    let mut paths = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => {
                let name = entry.file_name();
                let hidden = name.as_encoded_bytes().starts_with(b".");
                if !hidden && Path::new(&name).extension().is_some_and(|extension| extension == "toml") {
                    paths.push(dir.join(name));
                }
            }
            Err(error) => {
                return refuse(format!("the directory of drop-ins cannot be read: {}", said(&error)));
            }
        }
        if paths.len() > DROP_INS_MAX {
            return refuse(format!("has more than {DROP_INS_MAX} drop-ins; merge some"));
        }
    }
    paths.sort();
    (paths, None)
}

/// Why there is no text.
struct Unreadable {
    line: Option<usize>,
    message: String,
}

fn read_one(path: &Path) -> Result<String, Unreadable> {
    let refuse = |message: String| Err(Unreadable { line: None, message });
    let read = || -> io::Result<Result<Vec<u8>, String>> {
        // Non-blocking, so that a FIFO cannot hold us in `open`.
        let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Err("is a directory; name the file, such as supervisor.toml in it".to_owned()));
        }
        if !metadata.is_file() {
            return Ok(Err("is no regular file".to_owned()));
        }
        let mut bytes = Vec::new();
        file.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > FILE_MAX {
            let size = metadata.len().max(bytes.len() as u64);
            return Ok(Err(format!(
                "has {size} bytes; settings have at most {FILE_MAX} (1 MiB): is it the right file?"
            )));
        }
        Ok(Ok(bytes))
    };
    let bytes = match read() {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(message)) => return refuse(message),
        Err(error) => return refuse(format!("cannot be read: {}", said(&error))),
    };
    String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&b| b == b'\n').count();
        Unreadable { line: Some(line), message: "is not UTF-8 here; save the file as UTF-8".to_owned() }
    })
}

/// What went wrong and what to do about it, for the two that happen to everybody.
fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "there is no such file; create it (docs/supervisor.sample.toml) or name another with --config"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; let the user that runs supervisor read it".to_owned()
        }
        _ => error.to_string(),
    }
}
