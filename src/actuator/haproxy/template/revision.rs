//! The revision, and the description that carries it.

/// `OWNER` and `HASH` of a description that a supervisor wrote.
pub fn parse_description(description: &str) -> Option<(&str, &str)> {
    let (owner, revision) = description.trim().strip_prefix("supervisor=")?.split_once(" rev=")?;
    let plain = |text: &str| !text.is_empty() && !text.contains(char::is_whitespace);
    (plain(owner) && plain(revision)).then_some((owner, revision))
}

/// The hash of a configuration without its `description` line: FNV-1a with 128 bits, in hexadecimal. It tells
/// configurations apart and is the same in every build; it need not withstand an adversary, who could write the file.
pub fn revision(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("description "));
    let bytes = lines.flat_map(|line| line.bytes().chain([b'\n']));
    format!("{:032x}", fnv1a(bytes))
}

/// The published constants of the 128-bit variant (draft-eastlake-fnv).
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one_and_tells_lines_apart() {
        // The published test value.
        assert_eq!(fnv1a(b"a".iter().copied()), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_ne!(revision("a\nb"), revision("ab"));
    }

    #[test]
    fn descriptions_of_others_are_not_ours() {
        for other in [
            "",
            "my proxy",
            "supervisor=",
            "supervisor=a",
            "supervisor=a rev=",
            "supervisor=a rev=b c",
            "rev=b",
        ] {
            assert_eq!(parse_description(other), None, "{other:?}");
        }
    }
}
