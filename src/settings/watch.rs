//! Notices that the settings changed on disk. A hint and no more: the receiver loads, and keeps what it has if that fails.
//!
//! Watches *directories*: an editor replaces a file by rename, Kubernetes swaps a symbolic link, and a watch on the file
//! itself would stay with the old one. A directory that is replaced loses its watch; it is looked at again every second
//! until it is back. Should the kernel say nothing at all (network file systems, no watches left), the content is
//! compared every half a minute.
//!
//! Runs on a thread of its own, because a disk that hangs must hold nothing but this. It ends when the receiver is gone.

use super::source::{Fingerprint, drop_in_dir};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Why the settings should be loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The files changed.
    Changed,
    /// A person asked for it (SIGHUP). Sent by the daemon on the same channel.
    Asked,
}

/// How often what is looked at.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// After the last sign of change: `git checkout` and `kubectl` write several files.
    quiet: Duration,
    /// After the first one, signs or not: somebody may be logging into the directory.
    patience: Duration,
    /// Without a sign.
    poll: Duration,
    /// While a directory is missing.
    missing: Duration,
}

const PACE: Pace = Pace {
    quiet: Duration::from_millis(200),
    patience: Duration::from_secs(2),
    poll: Duration::from_secs(30),
    missing: Duration::from_secs(1),
};

/// Watches the file `path` and its drop-ins; `loaded` is what they held when they were loaded. A full channel is fine:
/// the hint in it has not been looked at yet. Fails only if no thread can be started.
pub fn watch(path: PathBuf, loaded: Fingerprint, reload: mpsc::Sender<Reload>) -> std::io::Result<()> {
    start(path, loaded, reload, PACE)
}

fn start(
    path: PathBuf,
    loaded: Fingerprint,
    reload: mpsc::Sender<Reload>,
    pace: Pace,
) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("settings-watch".to_owned())
        .spawn(move || Watch::new(path, pace).run(loaded, &reload))
        .map(drop)
}

struct Watch {
    path: PathBuf,
    pace: Pace,
    watcher: Option<RecommendedWatcher>,
    /// The watched directories, each with its device and inode: a new one of the same name needs a new watch.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    signs: std_mpsc::Receiver<()>,
}

impl Watch {
    fn new(path: PathBuf, pace: Pace) -> Watch {
        // One sign says it all; more wait for nobody.
        let (sign, signs) = std_mpsc::sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading is an access; to react to it would be a loop.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                let _ = sign.try_send(());
            }
        });
        if let Err(error) = &watcher {
            tracing::warn!(%error, "the kernel reports no file changes; settings are compared every {:?}", pace.poll);
        }
        Watch { path, pace, watcher: watcher.ok(), watched: BTreeMap::new(), signs }
    }

    fn run(mut self, mut seen: Fingerprint, reload: &mpsc::Sender<Reload>) {
        // The first look comes at once: the files may have changed between loading and now.
        while !reload.is_closed() {
            let whole = self.watch_directories();
            let now = Fingerprint::of(&self.path);
            if now != seen {
                seen = now;
                let _ = reload.try_send(Reload::Changed);
            }
            self.wait(if whole { self.pace.poll } else { self.pace.missing });
        }
    }

    /// Until something may have changed and has been quiet since, or `longest` is over.
    fn wait(&self, longest: Duration) {
        if self.watcher.is_none() {
            std::thread::sleep(longest);
            return;
        }
        if self.signs.recv_timeout(longest).is_err() {
            return;
        }
        let first = Instant::now();
        while first.elapsed() < self.pace.patience && self.signs.recv_timeout(self.pace.quiet).is_ok() {}
    }

    /// Watches each directory that holds a part of the settings; false while the main one is missing.
    fn watch_directories(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return true };
        let main = directory(&self.path);
        // Where a symbolic link leads to, changes are made there.
        let target = std::fs::canonicalize(&self.path).ok().map(|path| directory(&path));
        let mut whole = true;
        for (directory, needed) in
            [(Some(main), true), (target, false), (Some(drop_in_dir(&self.path)), false)]
        {
            let Some(directory) = directory else { continue };
            let now = std::fs::metadata(&directory).ok().filter(|m| m.is_dir()).map(|m| (m.dev(), m.ino()));
            if self.watched.get(&directory).copied() == now {
                whole &= !needed || now.is_some();
                continue;
            }
            if self.watched.remove(&directory).is_some() {
                // It fails if the kernel dropped the watch with the directory.
                let _ = watcher.unwatch(&directory);
            }
            match now.map(|now| watcher.watch(&directory, RecursiveMode::NonRecursive).map(|()| now)) {
                Some(Ok(now)) => {
                    self.watched.insert(directory, now);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, directory = %directory.display(), "cannot watch; polling instead");
                }
                None => whole &= !needed,
            }
        }
        whole
    }
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// The kernel's reports are what most of these tests are about: polling must not stand in for them.
    const BY_EVENT: Pace = Pace {
        quiet: Duration::from_millis(20),
        patience: Duration::from_millis(200),
        poll: Duration::from_secs(3600),
        missing: Duration::from_millis(50),
    };

    /// Long enough for a busy machine; only a failure waits for it.
    const DEADLINE: Duration = Duration::from_secs(20);

    struct Watched {
        dir: tempfile::TempDir,
        path: PathBuf,
        hints: mpsc::Receiver<Reload>,
    }

    impl Watched {
        fn start(pace: Pace) -> Watched {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("etc/supervisor.toml");
            fs::create_dir(dir.path().join("etc")).unwrap();
            fs::write(&path, "1").unwrap();
            let seen = Fingerprint::of(&path);
            let (sender, hints) = mpsc::channel(1);
            start(path.clone(), seen, sender, pace).unwrap();
            Watched { dir, path, hints }
        }

        /// Makes `change` again until it is noticed: when the thread has its watch in place is its own affair. Each
        /// attempt has another content, so that each is a change.
        fn expect_hint(&mut self, what: &str, change: impl Fn(&Watched, usize)) {
            let start = Instant::now();
            let mut attempt = 0;
            while start.elapsed() < DEADLINE {
                attempt += 1;
                change(self, attempt);
                let until = Instant::now() + Duration::from_millis(500);
                while Instant::now() < until {
                    if let Ok(hint) = self.hints.try_recv() {
                        assert_eq!(hint, Reload::Changed);
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            panic!("{what} was not noticed");
        }
    }

    #[test]
    fn a_change_is_noticed_however_it_is_made() {
        let mut watched = Watched::start(BY_EVENT);
        watched.expect_hint("a write in place", |w, n| fs::write(&w.path, format!("in place {n}")).unwrap());
        watched.expect_hint("a rename over it", |w, n| {
            let new = w.path.with_extension("new");
            fs::write(&new, format!("renamed {n}")).unwrap();
            fs::rename(new, &w.path).unwrap();
        });
        watched.expect_hint("a first drop-in", |w, n| {
            let drop_ins = drop_in_dir(&w.path);
            fs::create_dir_all(&drop_ins).unwrap();
            fs::write(drop_ins.join("1.toml"), format!("drop-in {n}")).unwrap();
        });
        watched.expect_hint("another write to it", |w, n| {
            fs::write(drop_in_dir(&w.path).join("1.toml"), format!("drop-in again {n}")).unwrap();
        });
    }

    #[test]
    fn the_watch_survives_that_the_directory_is_replaced() {
        let mut watched = Watched::start(BY_EVENT);
        watched.expect_hint("a write", |w, n| fs::write(&w.path, format!("before {n}")).unwrap());
        let etc = watched.dir.path().join("etc");
        fs::remove_dir_all(&etc).unwrap();
        watched.expect_hint("the removal", |_, _| ());
        fs::create_dir(&etc).unwrap();
        watched.expect_hint("the return", |w, n| fs::write(&w.path, format!("after {n}")).unwrap());
        watched
            .expect_hint("a write after it", |w, n| fs::write(&w.path, format!("long after {n}")).unwrap());
    }

    #[test]
    fn without_reports_from_the_kernel_the_content_is_compared() {
        let pace = Pace { poll: Duration::from_millis(20), ..BY_EVENT };
        let mut watched = Watched::start(pace);
        // A link to a file elsewhere: its directory is watched, that of what *it* links to is not.
        let far = tempfile::tempdir().unwrap();
        let file = far.path().join("file");
        fs::write(&file, "far").unwrap();
        watched.expect_hint("a link", |w, n| {
            fs::write(&file, format!("far {n}")).unwrap();
            let _ = fs::remove_file(&w.path);
            std::os::unix::fs::symlink(&file, &w.path).unwrap();
        });
        watched.expect_hint("a change behind it", |_, n| fs::write(&file, format!("farther {n}")).unwrap());
    }

    #[test]
    fn what_changes_nothing_is_no_reason_to_reload() {
        let mut watched = Watched::start(BY_EVENT);
        watched.expect_hint("a change", |w, n| fs::write(&w.path, format!("{n}")).unwrap());
        let settle = 2 * (BY_EVENT.patience + BY_EVENT.quiet);
        std::thread::sleep(settle);
        while watched.hints.try_recv().is_ok() {}
        // Reading, touching and a neighbour. Should a busy machine be slow to report them, this test sees less; it
        // never fails for that.
        fs::read(&watched.path).unwrap();
        fs::File::open(&watched.path).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        fs::write(watched.path.with_file_name("other"), "x").unwrap();
        std::thread::sleep(settle);
        assert_eq!(watched.hints.try_recv(), Err(mpsc::error::TryRecvError::Empty));
    }
}
