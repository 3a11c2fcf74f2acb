//! The configurations that HAProxy was seen to run, the last [`KEPT`] of them, in a directory beside the file that it loads;
//! and the one that a person went back to, for as long as it is held.
//!
//! ```text
//!   haproxy.cfg.history/0000000007-REVISION.cfg     what it ran, numbered in the order in which it was seen last
//!   haproxy.cfg.held                                which of them is held, in place of what, by whom and why
//! ```
//!
//! The copies are for whom the configuration itself is, as it may hold passwords; the directory for whom its own directory is.
//! Only what is ours is kept here: a file that names its revision, and whose text has it. What else is found is no entry.

use super::files::{self, FileError};
use super::last_good::{beside, described};
use super::template::{self, Rendered};
use crate::domain::command::Operator;
use crate::domain::time::Wall;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// How many are kept. Twenty changes are weeks on a quiet machine and a bad afternoon on a busy one; each has some kilobytes.
pub const KEPT: usize = 20;

/// The shortest beginning of a revision that is taken for it.
const PREFIX_MIN: usize = 4;

/// One configuration that HAProxy ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its revision.
    pub revision: String,
    /// Grows with each one that is kept.
    pub number: u64,
    /// When it was kept: it had just been seen to run.
    pub at: Wall,
    /// Its length.
    pub bytes: u64,
    #[serde(skip)]
    path: PathBuf,
}

/// The configurations of one HAProxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The revision that it runs, if it answers and runs one of supervisor's.
    pub running: Option<String>,
    /// Those that are kept, the newest first.
    pub kept: Vec<Entry>,
    /// What is held.
    pub held: Option<Hold>,
}

impl History {
    /// What is beside `config_file`, of an HAProxy that describes itself so.
    ///
    /// # Errors
    ///
    /// When the files cannot be read.
    pub fn read(config_file: &Path, description: Option<&str>) -> Result<History, FileError> {
        let running = description.and_then(template::parse_description).map(|(_, rev)| rev.to_owned());
        Ok(History { running, kept: list(config_file)?, held: held(config_file)? })
    }
}

/// A configuration that a person went back to. It ends when the settings, or the template, lead to another one than then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The OWNER whose daemon holds it: another supervisor on the same file leaves it alone.
    pub owner: String,
    /// What is held.
    pub revision: String,
    /// What the settings led to then.
    pub instead_of: String,
    /// Who wants it.
    pub by: Operator,
    /// Why.
    pub because: Option<String>,
    /// Since when.
    pub at: Wall,
    /// What was left on the way here, the latest last: going back further passes over them.
    pub left: Vec<String>,
    /// What follows if HAProxy does not take it.
    pub if_refused: IfRefused,
}

/// What follows if HAProxy does not take what a person went back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfRefused {
    /// It has not run yet, and nothing was held before: nothing is held then.
    Release,
    /// It has not run yet, and this one was held before: it is held again then.
    HoldAgain(Box<Hold>),
    /// It has run. What the settings lead to was left on purpose, and is not loaded because of what came later.
    KeepHolding,
}

/// Why there is no such configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Choice {
    /// Nothing begins so.
    #[error("no configuration of revision {0} is kept; `supervisor haproxy history` lists those that are")]
    Unknown(String),
    /// Several do.
    #[error("several revisions begin with {0}: write more of it")]
    Ambiguous(String),
    /// There is nothing to go back to.
    #[error(
        "no other configuration is kept than the one that runs and those that were left on the way back; name one of \
         `supervisor haproxy history`, or end it with `supervisor haproxy resume`"
    )]
    NoOther,
}

/// Those that are kept, the newest first.
///
/// # Errors
///
/// When the directory cannot be read. One that is not there is empty.
pub fn list(config_file: &Path) -> Result<Vec<Entry>, FileError> {
    let dir = directory(config_file);
    let step = |source| FileError::Step { step: "read the directory", path: dir.clone(), source };
    let found = match fs::read_dir(&dir) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(step(error)),
    };
    let mut entries = Vec::new();
    for file in found {
        let file = file.map_err(step)?;
        let name = file.file_name();
        let named = name.to_str().and_then(|name| name.strip_suffix(".cfg")?.split_once('-'));
        let Some((Ok(number), revision)) = named.map(|(number, revision)| (number.parse(), revision)) else {
            continue;
        };
        // One that was pruned meanwhile.
        let Ok(meta) = file.metadata() else { continue };
        let since =
            meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        let at = Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        entries.push(Entry {
            revision: revision.to_owned(),
            number,
            at,
            bytes: meta.len(),
            path: file.path(),
        });
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.number));
    Ok(entries)
}

/// Keeps `text`, which HAProxy runs, as the newest. The same one again is nothing new.
pub(super) fn keep(config_file: &Path, text: &str) -> Result<(), FileError> {
    let Some((_, revision)) = described(text) else { return Ok(()) };
    let entries = list(config_file)?;
    let newest = entries.first();
    if newest.is_some_and(|newest| newest.revision == revision) {
        return Ok(());
    }
    let dir = directory(config_file);
    files::make_dir_like_its_own(&dir)?;
    let number = newest.map_or(1, |newest| newest.number + 1);
    files::replace_like(&dir.join(format!("{number:010}-{revision}.cfg")), config_file, text.as_bytes())?;
    // It is there once, as the newest.
    let again = entries.iter().filter(|entry| entry.revision == revision);
    let others = entries.iter().filter(|entry| entry.revision != revision);
    for entry in again.chain(others.skip(KEPT - 1)) {
        // One too many does no harm; the next change tries again.
        let _ = fs::remove_file(&entry.path);
    }
    Ok(())
}

/// The kept configuration of that revision, if it is whole and `owner`'s.
pub fn read(entry: &Entry, owner: &str) -> Result<Option<Rendered>, FileError> {
    let Some(text) = files::read_if_there(&entry.path)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&text).into_owned();
    let sound = described(&text).is_some_and(|(known, revision)| {
        known == owner && revision == entry.revision && template::revision(&text) == revision
    });
    let (revision, description) =
        (entry.revision.clone(), format!("supervisor={owner} rev={}", entry.revision));
    Ok(sound.then_some(Rendered { text, revision, description }))
}

/// The one that `wanted` begins; without it the newest that is none of `passed_over`: the one that runs, and those that were
/// left before it.
pub fn choose<'a>(
    entries: &'a [Entry],
    wanted: Option<&str>,
    passed_over: &[String],
) -> Result<&'a Entry, Choice> {
    let Some(wanted) = wanted else {
        return entries.iter().find(|entry| !passed_over.contains(&entry.revision)).ok_or(Choice::NoOther);
    };
    let unknown = || Choice::Unknown(wanted.chars().take(64).collect());
    if wanted.len() < PREFIX_MIN {
        return Err(unknown());
    }
    let mut fitting = entries.iter().filter(|entry| entry.revision.starts_with(wanted));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(unknown()),
        (Some(_), Some(_)) => Err(Choice::Ambiguous(wanted.to_owned())),
    }
}

/// What is held; none if nothing is, or the file is none of ours.
///
/// # Errors
///
/// When the file cannot be read.
pub fn held(config_file: &Path) -> Result<Option<Hold>, FileError> {
    let text = files::read_if_there(&beside(config_file, ".held"))?;
    Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
}

/// Holds one from now on.
pub(super) fn hold(config_file: &Path, hold: &Hold) -> Result<(), FileError> {
    let path = beside(config_file, ".held");
    // Names and texts always become JSON.
    let text = serde_json::to_vec(hold).map_err(|error| FileError::Step {
        step: "write",
        path: path.clone(),
        source: error.into(),
    })?;
    files::replace_like(&path, config_file, &text)
}

/// Holds nothing from now on. Gives back whether anything was held.
pub(super) fn release(config_file: &Path) -> Result<bool, FileError> {
    let path = beside(config_file, ".held");
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(FileError::Step { step: "remove", path, source }),
    }
}

fn directory(config_file: &Path) -> PathBuf {
    beside(config_file, ".history")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration of `me` with a revision that is right.
    fn ours(more: &str) -> String {
        let text = |revision: &str| format!("global\n    description supervisor=me rev={revision}\n{more}\n");
        text(&template::revision(&text("")))
    }

    fn revision(text: &str) -> &str {
        described(text).unwrap().1
    }

    #[test]
    fn the_last_twenty_are_kept_each_once_and_the_newest_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        assert_eq!(list(&file).unwrap(), []);
        keep(&file, "not ours").unwrap();
        assert_eq!(list(&file).unwrap(), []);
        let texts: Vec<String> = (0..KEPT + 5).map(|n| ours(&format!("# {n}"))).collect();
        for text in &texts {
            keep(&file, text).unwrap();
            keep(&file, text).unwrap();
        }
        let kept = |file: &Path| -> Vec<String> {
            list(file).unwrap().into_iter().map(|entry| entry.revision).collect()
        };
        let wanted: Vec<&str> = texts.iter().rev().take(KEPT).map(|text| revision(text)).collect();
        assert_eq!(kept(&file), wanted);
        // An old one that runs again is the newest, and not there twice.
        let again = &texts[texts.len() - 3];
        keep(&file, again).unwrap();
        assert_eq!(kept(&file).len(), KEPT);
        assert_eq!(kept(&file)[0], revision(again));
        assert_eq!(kept(&file).iter().filter(|known| *known == revision(again)).count(), 1);
        let entry = &list(&file).unwrap()[0];
        assert_eq!(read(entry, "me").unwrap().unwrap().text, *again);
        assert_eq!(read(entry, "another").unwrap(), None);
        fs::write(&entry.path, again.replace("global", "global # edited")).unwrap();
        assert_eq!(read(entry, "me").unwrap(), None, "it is not what it says");
    }

    #[test]
    fn a_revision_is_named_by_its_beginning_or_is_the_one_before() {
        let entry = |number, revision: &str| Entry {
            revision: revision.to_owned(),
            number,
            at: Wall(0),
            bytes: 0,
            path: PathBuf::new(),
        };
        let entries = [entry(3, "abcd3"), entry(2, "abce2"), entry(1, "ffff1")];
        let chosen = |wanted, passed_over: &[&str]| {
            let passed_over: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
            choose(&entries, wanted, &passed_over).map(|entry| entry.number)
        };
        assert_eq!(chosen(None, &["abcd3"]), Ok(2));
        assert_eq!(chosen(None, &["abce2"]), Ok(3), "the newest other one");
        assert_eq!(chosen(None, &["abce2", "abcd3"]), Ok(1), "not the one that was left");
        assert_eq!(chosen(None, &["ffff1", "abce2", "abcd3"]), Err(Choice::NoOther));
        assert_eq!(chosen(Some("abce"), &[]), Ok(2));
        assert_eq!(chosen(Some("ffff1"), &["ffff1"]), Ok(1), "who names one gets it");
        assert_eq!(chosen(Some("abc"), &[]), Err(Choice::Unknown("abc".into())));
        assert_eq!(chosen(Some("0000"), &[]), Err(Choice::Unknown("0000".into())));
        let twins = [entry(2, "abcd2"), entry(1, "abcd1")];
        assert_eq!(choose(&twins, Some("abcd"), &[]), Err(Choice::Ambiguous("abcd".into())));
    }

    #[test]
    fn what_is_held_is_read_back_until_it_is_released() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        assert_eq!(held(&file).unwrap(), None);
        let by = Operator { uid: 0, pid: None, name: Some("alice".into()) };
        let wanted = Hold {
            revision: "a".into(),
            instead_of: "b".into(),
            by,
            because: Some("it was \"good\"".into()),
            at: Wall(7),
            owner: "me".into(),
            left: vec!["b".into()],
            if_refused: IfRefused::Release,
        };
        let wanted = Hold { if_refused: IfRefused::HoldAgain(Box::new(wanted.clone())), ..wanted };
        hold(&file, &wanted).unwrap();
        assert_eq!(held(&file).unwrap(), Some(wanted));
        assert!(release(&file).unwrap() && !release(&file).unwrap());
        assert_eq!(held(&file).unwrap(), None);
        fs::write(dir.path().join("haproxy.cfg.held"), "rubbish").unwrap();
        assert_eq!(held(&file).unwrap(), None);
    }
}
