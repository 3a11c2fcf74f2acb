//! The last good configuration: what HAProxy has been seen to run, kept beside the file that it loads.
//!
//! The next start of HAProxy loads that file, whatever became of it meanwhile: edited by hand, cut short by a full disk,
//! or written just before the end. A HAProxy that died of it would die of it again.

use super::files::{self, FileError};
use super::history;
use super::template;
use std::path::{Path, PathBuf};

/// Keeps `text`, which HAProxy runs, as `….last-good` beside `config_file`, and as the newest of its history.
pub(super) fn keep(config_file: &Path, text: &str) -> Result<(), FileError> {
    let path = beside(config_file, ".last-good");
    if files::read_if_there(&path)?.as_deref() != Some(text.as_bytes()) {
        files::replace_like(&path, config_file, text.as_bytes())?;
    }
    // Also after a start with a `.last-good` of a version that kept no history.
    if let Err(error) = history::keep(config_file, text) {
        // One to go back to less: no reason to keep HAProxy from its next configuration.
        // It is tried again at each look, so it must not fill the log.
        let error = &error as &dyn std::error::Error;
        tracing::debug!(error, "the configuration is not kept in the history");
    }
    Ok(())
}

/// Keeps `text`, the file that is about to be replaced: as the last good one if HAProxy, whose description is
/// `description`, runs it. One that is not ours is kept as `….before-supervisor`, for whoever takes supervisor away again;
/// a later one, written while supervisor did not manage it, as `….set-aside`.
pub(super) fn keep_old(config_file: &Path, text: &str, description: Option<&str>) -> Result<(), FileError> {
    match description.and_then(template::parse_description) {
        Some((_, revision)) if revision == template::revision(text) => return keep(config_file, text),
        Some(_) | None => {}
    }
    if described(text).is_some() {
        return Ok(());
    }
    let before = beside(config_file, ".before-supervisor");
    match files::read_if_there(&before)? {
        None => files::create_if_missing_like(&before, config_file, text.as_bytes()),
        Some(kept) if kept == text.as_bytes() => Ok(()),
        Some(_) => files::replace_like(&beside(config_file, ".set-aside"), config_file, text.as_bytes()),
    }
}

/// Puts the last good configuration where HAProxy will load it, if it is whole and `owner`'s; what was there is kept as
/// `….set-aside`. Gives back whether it was another one; false too where none is kept.
///
/// # Errors
///
/// When a file cannot be read or written: then HAProxy starts with what is there.
pub(super) async fn restore_last_good(config_file: PathBuf, owner: String) -> Result<bool, FileError> {
    let (file, cancelled) = (config_file.display().to_string(), FileError::Cancelled(config_file.clone()));
    let restored =
        tokio::task::spawn_blocking(move || restore(&config_file, &owner)).await.unwrap_or(Err(cancelled))?;
    if restored {
        tracing::warn!(
            file,
            "HAProxy does not answer, and what it would load is not what it ran last: the last good configuration is put \
             back, and the other is beside it as .set-aside"
        );
    }
    Ok(restored)
}

fn restore(config_file: &Path, owner: &str) -> Result<bool, FileError> {
    let Some(good) = files::read_if_there(&beside(config_file, ".last-good"))? else { return Ok(false) };
    let text = String::from_utf8_lossy(&good);
    let ours = described(&text)
        .is_some_and(|(known, revision)| known == owner && revision == template::revision(&text));
    let now = files::read_if_there(config_file)?;
    if !ours || now.as_ref() == Some(&good) {
        return Ok(false);
    }
    if let Some(now) = now {
        files::replace_like(&beside(config_file, ".set-aside"), config_file, &now)?;
    }
    // Where it is gone, the copy says for whom it was.
    let like = if config_file.exists() { config_file.to_owned() } else { beside(config_file, ".last-good") };
    files::replace_like(config_file, &like, &good)?;
    Ok(true)
}

/// Whose configuration `text` is, and its revision, as it says itself.
pub fn described(text: &str) -> Option<(&str, &str)> {
    let description = text.lines().find_map(|line| line.trim_start().strip_prefix("description "))?;
    template::parse_description(description.trim_matches('"'))
}

pub(super) fn beside(config_file: &Path, suffix: &str) -> PathBuf {
    let mut path = config_file.to_owned().into_os_string();
    path.push(suffix);
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    /// A configuration of `owner` with a revision that is right.
    fn ours(owner: &str, more: &str) -> String {
        let text =
            |revision: &str| format!("global\n    description supervisor={owner} rev={revision}\n{more}\n");
        text(&template::revision(&text("")))
    }

    #[test]
    fn the_last_good_file_is_put_back_and_the_other_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        let good = ours("me", "defaults");
        assert!(!restore(&file, "me").unwrap(), "there is none");
        std::fs::write(&file, &good).unwrap();
        assert!(!restore(&file, "me").unwrap(), "nothing is known about it");
        keep(&file, &good).unwrap();
        assert!(!restore(&file, "me").unwrap(), "it is the one");
        std::fs::write(&file, "edited by hand").unwrap();
        assert!(!restore(&file, "another").unwrap(), "it is not theirs");
        assert!(restore(&file, "me").unwrap());
        assert_eq!(read(&file).as_ref(), Some(&good));
        assert_eq!(read(&dir.path().join("haproxy.cfg.set-aside")).as_deref(), Some("edited by hand"));
        std::fs::remove_file(&file).unwrap();
        assert!(restore(&file, "me").unwrap());
        assert_eq!(read(&file).as_ref(), Some(&good));
    }

    #[test]
    fn a_copy_that_is_not_whole_is_not_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        let good = ours("me", "defaults");
        std::fs::write(&file, "edited by hand").unwrap();
        for bad in ["the distribution's", &good[..good.len() - 5], &good.replace("defaults", "backend x")] {
            std::fs::write(dir.path().join("haproxy.cfg.last-good"), bad).unwrap();
            assert!(!restore(&file, "me").unwrap(), "{bad}");
        }
        assert_eq!(read(&file).as_deref(), Some("edited by hand"));
    }

    #[test]
    fn files_that_are_not_ours_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        let beside = |suffix: &str| read(&dir.path().join(format!("haproxy.cfg{suffix}")));
        keep_old(&file, "the distribution's", None).unwrap();
        keep_old(&file, "the distribution's", None).unwrap();
        assert_eq!(
            (beside(".before-supervisor").as_deref(), beside(".set-aside")),
            (Some("the distribution's"), None)
        );
        keep_old(&file, "written by hand later", None).unwrap();
        assert_eq!(beside(".before-supervisor").as_deref(), Some("the distribution's"));
        assert_eq!(beside(".set-aside").as_deref(), Some("written by hand later"));
        // Ours, but not what runs: it can be rendered again.
        keep_old(&file, &ours("me", "x"), Some("supervisor=me rev=0000")).unwrap();
        assert_eq!(beside(".set-aside").as_deref(), Some("written by hand later"));
        assert_eq!(beside(".last-good"), None);
    }
}
