//! Where a journal is read from: the store of a state directory, or an exported file.

use super::Usage;
use super::args::{Global, PartArgs};
use super::context::named_in;
use crate::daemon::replay::Window;
use crate::domain::Wall;
use crate::store::{Archive, ArchiveError, History, Item, ReadError, Reader};
use jiff::Zoned;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The name that stands for standard input or output.
pub(super) const DASH: &str = "-";

/// The environment's word for the state directory, as `settings` reads it.
const VARIABLE: &str = "SUPERVISOR__STATE_DIR";

/// Where the settings keep it unless they say otherwise.
const DEFAULT: &str = "/var/lib/supervisor";

/// How much of an exported file is read at a time.
const BUFFER: usize = 1 << 20;

/// Why a journal cannot be replayed or exported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    /// The store.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// The store has no snapshot.
    #[error("the journal in {} is empty: supervisor has not stored anything there yet", .0.display())]
    Empty(PathBuf),
    /// A line of a file.
    #[error("{}:{}", name.display(), source.line)]
    File {
        /// Which.
        name: PathBuf,
        /// What is wrong.
        source: ArchiveError,
    },
}

/// A journal, item by item.
pub(super) enum Source {
    Store(History),
    File(PathBuf, Box<Archive<Box<dyn BufRead>>>),
}

impl Iterator for Source {
    type Item = Result<Item, SourceError>;

    fn next(&mut self) -> Option<Result<Item, SourceError>> {
        match self {
            Source::Store(history) => Some(history.next()?.map_err(SourceError::Store)),
            Source::File(name, archive) => {
                let wrong = |source| SourceError::File { name: name.clone(), source };
                Some(archive.next()?.map_err(wrong))
            }
        }
    }
}

/// The part that is asked for, as seen from `now`.
pub(super) fn window(part: &PartArgs, now: &Zoned) -> Result<Window, Usage> {
    let since = part.since.map(|past| past.wall("--since", now)).transpose()?;
    let until = part.until.map(|past| past.wall("--until", now)).transpose()?;
    if let (Some(since), Some(until)) = (since, until)
        && until <= since
    {
        return Err(Usage("--until is not after --since".to_owned()));
    }
    Ok(Window { since, until })
}

/// The store that is meant.
pub(super) fn store(global: &Global, part: &PartArgs, window: Window) -> Result<Source, SourceError> {
    let dir = state_dir(global, part);
    let reader = Reader::open(&dir)?;
    match History::open(reader, window.since)? {
        Some(history) => Ok(Source::Store(history)),
        None => Err(SourceError::Empty(dir)),
    }
}

fn state_dir(global: &Global, part: &PartArgs) -> PathBuf {
    part.state_dir
        .clone()
        .or_else(|| std::env::var_os(VARIABLE).map(PathBuf::from))
        .or_else(|| named_in(&global.config, "state_dir"))
        .unwrap_or_else(|| PathBuf::from(DEFAULT))
}

/// An exported file.
pub(super) fn file(path: &Path) -> anyhow::Result<Source> {
    let input: Box<dyn BufRead> = if path == Path::new(DASH) {
        Box::new(BufReader::with_capacity(BUFFER, io::stdin()))
    } else {
        let opened = File::open(path);
        let file = opened.map_err(|error| Usage(format!("{} cannot be read: {error}", path.display())))?;
        Box::new(BufReader::with_capacity(BUFFER, file))
    };
    let wrong = |source| SourceError::File { name: path.to_owned(), source };
    let archive = Archive::open(input).map_err(wrong)?;
    Ok(Source::File(path.to_owned(), Box::new(archive)))
}

/// Whether the source goes on growing: up to now, what it does not have did not happen.
pub(super) fn quiet_until(source: &Source, now: &Zoned) -> Option<Wall> {
    match source {
        Source::Store(_) => Some(Wall(now.timestamp().as_millisecond())),
        Source::File(..) => None,
    }
}
