//! A time zone's name, as a rule that the core can reckon with.
//!
//! A file of the zone database ends with the zone's POSIX rule for the time after its last entry (RFC 8536, section 3.3):
//! that is how its clock goes now and from now on. It is read when the settings are; the core needs no file then.

use crate::domain::window::Zone;
use std::path::Path;

/// Where Linux has its zones (tzset(3)).
const ZONES: &str = "/usr/share/zoneinfo";

/// The largest file that is read; the largest zone has 4 KiB.
const FILE_MAX: u64 = 64 << 10;

/// `UTC`, the name of a zone that this machine knows (`Europe/Berlin`), or a POSIX rule (`CET-1CEST,M3.5.0,M10.5.0/3`).
pub(crate) fn zone(name: &str) -> Result<Zone, String> {
    if name == "UTC" {
        return Ok(Zone::utc());
    }
    let by_rule = Zone { name: name.to_owned(), rule: name.to_owned() };
    let is_name = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+-".contains(&byte))
    };
    if !name.split('/').all(is_name) {
        return if by_rule.is_known() { Ok(by_rule) } else { Err(format!("{name:?} is no time zone")) };
    }
    match rule_of(&Path::new(ZONES).join(name)) {
        Some(rule) => Ok(Zone { name: name.to_owned(), rule }),
        None if by_rule.is_known() => Ok(by_rule),
        None => Err(format!(
            "{name:?} is no time zone that this machine knows; is the package tzdata installed? \
             A rule such as \"CET-1CEST,M3.5.0,M10.5.0/3\" needs none"
        )),
    }
}

/// The rule at the end of a zone's file.
fn rule_of(path: &Path) -> Option<String> {
    use std::io::Read;
    let file =
        std::fs::File::open(path).ok().filter(|file| file.metadata().is_ok_and(|data| data.is_file()))?;
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).ok()?;
    let text = bytes.strip_suffix(b"\n").filter(|_| bytes.starts_with(b"TZif"))?;
    let begins = text.iter().rposition(|byte| *byte == b'\n')? + 1;
    let rule = String::from_utf8(text.get(begins..)?.to_vec()).ok()?;
    let zone = Zone { name: String::new(), rule };
    zone.is_known().then_some(zone.rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_found_by_its_name_or_is_its_own_rule() {
        assert_eq!(zone("UTC").unwrap(), Zone::utc());
        let rule = "CET-1CEST,M3.5.0,M10.5.0/3";
        assert_eq!(zone(rule).unwrap().rule, rule);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("zone");
        std::fs::write(&file, format!("TZif2\0\0whatever\nmore\n{rule}\n")).unwrap();
        assert_eq!(rule_of(&file).as_deref(), Some(rule));
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for name in ["", "/etc/passwd", "../../etc/passwd", "Europe/", "Mars/Olympus", "Europe/Berlin\n"] {
            assert!(zone(name).is_err(), "{name:?} was taken");
        }
        let dir = tempfile::tempdir().unwrap();
        for (content, what) in [("", "empty"), ("TZif2\n\n", "no rule"), ("x\nUTC0\n", "no zone file")] {
            let file = dir.path().join("zone");
            std::fs::write(&file, content).unwrap();
            assert_eq!(rule_of(&file), None, "{what}");
        }
        assert_eq!(rule_of(dir.path()), None, "a directory");
    }
}
