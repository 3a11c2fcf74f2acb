//! The files that we write and HAProxy reads: whether both can, and whether they are the same files.

use super::super::client::Socket;
use super::super::reply::Info;
use super::Patient;
use crate::finding::Finding;
use rustix::fs::{Access, access, statvfs};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Less than this, and the next configuration, its backup and the map may not fit: each has at most a few megabytes.
const ROOM_MIN: u64 = 64 << 20;

/// The mounts of this process (proc(5)).
const MOUNTS: &str = "/proc/self/mountinfo";

pub(super) async fn examine(patient: &Patient, worker: Option<&Info>, findings: &mut Vec<Finding>) {
    let (files, external) = (patient.files.clone(), patient.external);
    let (admin, socket_gid) = (patient.admin.clone(), patient.socket_gid);
    // A disk may hang; the person who waits can interrupt.
    let looked = tokio::task::spawn_blocking(move || {
        let mounts = fs::read_to_string(MOUNTS).unwrap_or_default();
        // Of somebody else's configuration only the map is ours to write.
        let ours: Vec<(&'static str, PathBuf)> = match external {
            true => vec![("map_file", files.map)],
            false => {
                vec![("config_file", files.config), ("map_file", files.map), ("state_file", files.state)]
            }
        };
        let mut found = Vec::new();
        for (check, path) in &ours {
            found.push(writable(check, path, &mounts));
        }
        if let Some(reader) = reader(&admin, external || socket_gid.is_some()) {
            found.extend(unreadable(&ours, &reader));
        }
        found
    });
    findings.extend(looked.await.unwrap_or_default());
    if let Some(worker) = worker
        && !patient.external
    {
        findings.extend(written_by(patient, worker));
    }
}

/// Whether `path` can be replaced: by a file beside it that is renamed over it.
fn writable(check: &'static str, path: &Path, mounts: &str) -> Finding {
    let shown = path.display();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if is_mount_point(mounts, path) {
        return Finding::error(
            check,
            format!("{shown} is mounted as a single file, which cannot be replaced"),
            format!("mount its directory {} instead, on both sides", dir.display()),
        );
    }
    match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Finding::error(
                check,
                format!("{} is no directory", dir.display()),
                format!("move it away, or set another {check}"),
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = format!("make it (`install -d -m 755 {}`), or set another {check}", dir.display());
            return Finding::error(
                check,
                format!("there is no directory {} for {shown}", dir.display()),
                fix,
            );
        }
        Err(error) => {
            return Finding::error(
                check,
                format!("{} cannot be looked into: {error}", dir.display()),
                "let supervisor's user or group enter that directory",
            );
        }
    }
    if let Err(error) = access(dir, Access::WRITE_OK | Access::EXEC_OK) {
        let words = format!("{} cannot be written to: {error}", dir.display());
        let fix = match error {
            rustix::io::Errno::ROFS => {
                "mount it so that it can be written (no `:ro`, and ReadWritePaths in the unit)"
            }
            _ => "give it to supervisor's user or group (chown, chmod g+w)",
        };
        return Finding::error(check, words, fix);
    }
    if let Ok(room) = statvfs(dir)
        && room.f_bavail.saturating_mul(room.f_frsize) < ROOM_MIN
    {
        let free = room.f_bavail.saturating_mul(room.f_frsize) >> 20;
        let words = format!("the disk of {} has {free} MiB left", dir.display());
        return Finding::error(
            check,
            words,
            "make room: what cannot be written is not loaded, and routes do not outlive a restart",
        );
    }
    Finding::ok(check, format!("{shown} can be replaced"))
}

/// The fifth field of each line is the mount point; blanks in it are written as `\040` (proc(5)).
fn is_mount_point(mounts: &str, path: &Path) -> bool {
    // What a link leads to is what is mounted.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let wanted = path.to_string_lossy().replace(' ', "\\040");
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(wanted.as_str()))
}

/// Whom HAProxy runs as.
struct Reader {
    uid: u32,
    /// None: nobody knows.
    gid: Option<u32>,
}

/// The owner of the socket that HAProxy made; its group is HAProxy's own only if the configuration did not give it to another one
/// (`admin_gid`, or whatever is in somebody else's configuration).
fn reader(admin: &Socket, given_away: bool) -> Option<Reader> {
    let Socket::Unix(path) = admin else { return None };
    let meta = fs::metadata(path).ok()?;
    // root reads everything.
    (meta.uid() != 0).then(|| Reader { uid: meta.uid(), gid: (!given_away).then(|| meta.gid()) })
}

/// The directories that HAProxy's user cannot enter, and the files in them that it cannot read.
fn unreadable(files: &[(&'static str, PathBuf)], reader: &Reader) -> Vec<Finding> {
    let may = |path: &Path, bits: u32| {
        let Ok(meta) = fs::metadata(path) else { return true };
        let (of_group, of_others) = (meta.mode() & (bits << 3) != 0, meta.mode() & bits != 0);
        match (meta.uid() == reader.uid, reader.gid) {
            (true, _) => meta.mode() & (bits << 6) != 0,
            (false, Some(gid)) if meta.gid() == gid => of_group,
            (false, Some(_)) => of_others,
            // It may be in that group: nothing is said that may not be so.
            (false, None) => of_group || of_others,
        }
    };
    let who = match reader.gid {
        Some(gid) => format!("user {} and group {gid}", reader.uid),
        None => format!("user {}", reader.uid),
    };
    let mut found = Vec::new();
    for (check, path) in files {
        let dir = path.parent().unwrap_or(Path::new("/"));
        let (what, needed) = match (may(dir, 0o1), may(path, 0o4)) {
            (false, _) => (dir, "x"),
            (true, false) => (path.as_path(), "r"),
            (true, true) => continue,
        };
        found.push(Finding::error(
            check,
            format!("HAProxy runs as {who}, and may not read {}", what.display()),
            format!("chmod o+{needed} {}, or give it to HAProxy's group", what.display()),
        ));
    }
    found
}

/// Whether the file that we write is the one that HAProxy has loaded, by what both say of themselves.
fn written_by(patient: &Patient, worker: &Info) -> Option<Finding> {
    let text = super::super::files::read_if_there(&patient.files.config).ok()??;
    let text = String::from_utf8_lossy(&text);
    let (owner, on_disk) = super::super::last_good::described(&text)?;
    let (running_owner, running) =
        worker.description.as_deref().and_then(super::super::template::parse_description)?;
    (owner == running_owner && on_disk != running).then(|| {
        Finding::warning(
            "config_file",
            format!("{} has revision {on_disk}, and HAProxy runs {running}", patient.files.config.display()),
            "if it stays so, HAProxy reads another file than supervisor writes: share the directory of config_file with \
             HAProxy (config_path says what it is called there)",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounted_file_is_found_also_with_a_blank_in_its_path() {
        let mounts = "36 35 98:0 / / rw - ext4 /dev/x rw\n\
                      99 36 0:44 /cfg /no/such\\040dir/haproxy.cfg rw,relatime - ext4 /dev/x rw\n";
        assert!(is_mount_point(mounts, Path::new("/no/such dir/haproxy.cfg")));
        assert!(!is_mount_point(mounts, Path::new("/no/such dir")));
    }

    #[test]
    fn a_file_that_can_be_replaced_is_told_from_one_that_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        assert_eq!(writable("config_file", &file, "").fix, None);
        let mounted = format!("1 2 0:1 / {} rw - ext4 x rw\n", file.display());
        let words = writable("config_file", &file, &mounted);
        assert!(words.fix.unwrap().contains(&format!("mount its directory {}", dir.path().display())));
        let missing = writable("map_file", &dir.path().join("no/routes.map"), "");
        assert!(missing.fix.unwrap().contains("install -d"));
        fs::write(&file, "").unwrap();
        let no_dir = writable("map_file", &file.join("routes.map"), "");
        assert!(no_dir.words.contains("is no directory"), "{}", no_dir.words);
    }

    #[test]
    fn what_haproxys_user_cannot_read_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("haproxy.cfg");
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let look = || {
            let reader = Reader { uid: 4_242_424, gid: Some(4_242_424) };
            unreadable(&[("config_file", file.clone())], &reader)
        };
        set(dir.path(), 0o755);
        set(&file, 0o644);
        assert_eq!(look(), []);
        set(&file, 0o640);
        // The socket's group was given away (`admin_gid`): nobody knows whether HAProxy is in the file's.
        let unknown = Reader { uid: 4_242_424, gid: None };
        assert_eq!(unreadable(&[("config_file", file.clone())], &unknown), []);
        set(&file, 0o600);
        let words = unreadable(&[("config_file", file.clone())], &unknown).remove(0).words;
        assert!(words.starts_with("HAProxy runs as user 4242424, and may not read "), "{words}");
        set(&file, 0o640);
        assert!(look()[0].fix.as_ref().unwrap().starts_with(&format!("chmod o+r {}", file.display())));
        set(dir.path(), 0o750);
        assert!(look()[0].fix.as_ref().unwrap().starts_with(&format!("chmod o+x {}", dir.path().display())));
    }
}
