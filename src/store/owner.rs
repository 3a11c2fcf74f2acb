//! The random id of this installation, in a file of its own in the state directory.
//!
//! Not in the database: it must outlive a database that is damaged, set aside, or of a newer version. Without it our own
//! HAProxy would look like a stranger's, and we would not touch it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// The id's file.
const FILE: &str = "owner";

/// 64 random bits: two installations never have the same, and it stays readable in HAProxy's `description`.
const RANDOM_BYTES: usize = 8;

/// The id in `dir`, if there is one that can be read. For those who only look.
pub fn owner_in(dir: &Path) -> Option<String> {
    find(dir).ok().flatten()
}

/// The id in `dir`; made, and on the disk, if there is none.
pub(super) fn find_or_make(dir: &Path) -> io::Result<String> {
    match find(dir)? {
        Some(owner) => Ok(owner),
        None => invent().and_then(|owner| keep(dir, &owner)),
    }
}

/// The id in `dir`, and true; or, where it can be neither read nor made, one that is made of what this place is known by.
pub(super) fn find_or_derive(dir: &Path) -> (String, bool) {
    match find_or_make(dir) {
        Ok(owner) => (owner, true),
        Err(_) => (derive(dir), false),
    }
}

/// The same at each start at the same place: a random id would turn our own HAProxy into a stranger's when supervisor
/// starts again before the disk is mended.
fn derive(dir: &Path) -> String {
    /// The offset and the prime of 64-bit FNV-1a: a hash that is the same in every version of every program.
    const FNV: (u64, u64) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let host = std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default();
    let dir = dir.as_os_str().as_encoded_bytes();
    let bytes = [&machine, host.as_slice(), dir].join(&0);
    let hash = bytes.iter().fold(FNV.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV.1));
    format!("{hash:016x}")
}

/// Puts `owner` into `dir` if there is none yet; answers with the one that is there. Whole and on the disk, or not at all:
/// half an id would be another id.
pub(super) fn keep(dir: &Path, owner: &str) -> io::Result<String> {
    if let Some(kept) = find(dir)? {
        return Ok(kept);
    }
    let mut file = tempfile::Builder::new().prefix(".owner").tempfile_in(dir)?;
    writeln!(file, "{owner}")?;
    file.as_file().sync_all()?;
    file.persist(dir.join(FILE)).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()?;
    Ok(owner.to_owned())
}

/// None when there is no id, or only rubbish. A file that cannot be read is an error: what it says must not be replaced.
fn find(dir: &Path) -> io::Result<Option<String>> {
    let file = match File::open(dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // One byte more than an id and its newline: a longer text is no id.
    file.take(2 * RANDOM_BYTES as u64 + 2).read_to_end(&mut bytes)?;
    let id = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let sound = id.len() == 2 * RANDOM_BYTES && id.iter().all(u8::is_ascii_hexdigit);
    Ok(sound.then(|| String::from_utf8_lossy(id).into_owned()))
}

fn invent() -> io::Result<String> {
    let mut bytes = [0; RANDOM_BYTES];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let made = find_or_make(dir.path()).unwrap();
        assert_eq!(made.len(), 16);
        assert_eq!(find_or_make(dir.path()).unwrap(), made);
        assert_eq!(keep(dir.path(), "0123456789abcdef").unwrap(), made, "an id is never replaced");
        let other = tempfile::tempdir().unwrap();
        assert_ne!(find_or_make(other.path()).unwrap(), made);
    }

    #[test]
    fn a_damaged_id_is_replaced_by_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in ["", "0123", "zzzzzzzzzzzzzzzz", "0123456789abcdef0123", "\u{0}\u{0}\u{0}\u{0}"] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let made = find_or_make(dir.path()).unwrap();
            assert_eq!(made.len(), 16, "after {damaged:?}");
            assert_eq!(find(dir.path()).unwrap(), Some(made));
        }
    }

    #[test]
    fn where_nothing_can_be_kept_the_id_is_that_of_the_place() {
        let (owner, kept) = find_or_derive(Path::new("/sys/kernel"));
        assert_eq!((owner.len(), kept), (16, false));
        assert_eq!(find_or_derive(Path::new("/sys/kernel")).0, owner);
        assert_ne!(find_or_derive(Path::new("/sys/module")).0, owner);
    }
}
