//! The last good configuration: what HAProxy has been seen to run, kept beside the file that it loads.
//!
//! The next start of HAProxy loads that file, whatever became of it meanwhile: edited by hand, cut short by a full disk,
//! or written just before the end. A HAProxy that died of it would die of it again.

use super::files::{self, FileError};
use super::template;
use std::path::{Path, PathBuf};

/// Keeps `text`, which HAProxy runs, as `….last-good` beside `config_file`.
pub(super) fn keep(config_file: &Path, text: &str) -> Result<(), FileError> {
    let path = beside(config_file, ".last-good");
    if files::read_if_there(&path)?.as_deref() == Some(text.as_bytes()) {
        return Ok(());
    }
    files::replace(&path, text.as_bytes())
}

/// Keeps `text`, the file that is about to be replaced: as the last good one if HAProxy, whose description is
/// `description`, runs it; as `….before-supervisor`, once and for good, if it is not ours. Whoever takes supervisor away
/// again wants that one back.
pub(super) fn keep_old(config_file: &Path, text: &str, description: Option<&str>) -> Result<(), FileError> {
    match description.and_then(template::parse_description) {
        Some((_, revision)) if revision == template::revision(text) => keep(config_file, text),
        Some(_) => Ok(()),
        None => files::create_if_missing(&beside(config_file, ".before-supervisor"), text.as_bytes()),
    }
}

/// Puts the last good configuration where HAProxy will load it; what was there is kept as `….set-aside`. Gives back whether
/// it was another one; false too where none is kept.
///
/// # Errors
///
/// When a file cannot be read or written: then HAProxy starts with what is there.
pub async fn restore_last_good(config_file: PathBuf) -> Result<bool, FileError> {
    let (file, cancelled) = (config_file.display().to_string(), FileError::Cancelled(config_file.clone()));
    let restored =
        tokio::task::spawn_blocking(move || restore(&config_file)).await.unwrap_or(Err(cancelled))?;
    if restored {
        tracing::warn!(
            file,
            "HAProxy does not run, and what it would have loaded is not what it ran last: the last good configuration is \
             put back, and the other is beside it as .set-aside"
        );
    }
    Ok(restored)
}

fn restore(config_file: &Path) -> Result<bool, FileError> {
    let Some(good) = files::read_if_there(&beside(config_file, ".last-good"))? else { return Ok(false) };
    let now = files::read_if_there(config_file)?;
    if now.as_ref() == Some(&good) {
        return Ok(false);
    }
    if let Some(now) = now {
        files::replace(&beside(config_file, ".set-aside"), &now)?;
    }
    files::replace(config_file, &good)?;
    Ok(true)
}

fn beside(config_file: &Path, suffix: &str) -> PathBuf {
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

    #[test]
    fn the_last_good_file_is_put_back_and_the_other_one_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        assert!(!restore(&file).unwrap(), "there is none");
        std::fs::write(&file, "good").unwrap();
        assert!(!restore(&file).unwrap(), "nothing is known about it");
        keep(&file, "good").unwrap();
        assert!(!restore(&file).unwrap(), "it is the one");
        std::fs::write(&file, "edited by hand").unwrap();
        assert!(restore(&file).unwrap());
        assert_eq!(read(&file).as_deref(), Some("good"));
        assert_eq!(read(&dir.path().join("haproxy.cfg.set-aside")).as_deref(), Some("edited by hand"));
        std::fs::remove_file(&file).unwrap();
        assert!(restore(&file).unwrap());
        assert_eq!(read(&file).as_deref(), Some("good"));
    }

    #[test]
    fn a_file_that_is_not_ours_is_kept_once_and_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let (file, before) =
            (dir.path().join("haproxy.cfg"), dir.path().join("haproxy.cfg.before-supervisor"));
        keep_old(&file, "the distribution's", None).unwrap();
        keep_old(&file, "another", None).unwrap();
        keep_old(&file, "ours, but not what runs", Some("supervisor=me rev=0000")).unwrap();
        assert_eq!(read(&before).as_deref(), Some("the distribution's"));
        assert_eq!(read(&dir.path().join("haproxy.cfg.last-good")), None);
    }
}
