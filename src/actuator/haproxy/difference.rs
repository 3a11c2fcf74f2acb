//! How two configurations differ, for people.

use similar::TextDiff;
use std::time::Duration;

/// Lines around each change, as `diff -u` shows them.
const CONTEXT: usize = 3;

/// How long the shortest difference is looked for; after that a longer one will do. Files of 10,000 servers that differ in some
/// lines take milliseconds; two that have little in common could take minutes.
const SEARCH_MAX: Duration = Duration::from_millis(500);

/// How much of a difference is shown: more is read by nobody, and is one configuration in place of another.
const SHOWN_MAX: usize = 1 << 20;

/// `old` and `new` compared as `diff -u` does; empty if they are the same.
pub fn unified(old: &str, old_name: &str, new: &str, new_name: &str) -> String {
    if old == new {
        return String::new();
    }
    let diff = TextDiff::configure().timeout(SEARCH_MAX).diff_lines(old, new);
    let mut text = diff.unified_diff().context_radius(CONTEXT).header(old_name, new_name).to_string();
    if text.len() > SHOWN_MAX {
        let whole =
            text.as_bytes()[..SHOWN_MAX].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        text.truncate(whole);
        text.push_str("… the rest is not shown: the two have little in common\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn two_long_files_with_nothing_in_common_are_compared_in_bounded_time_and_room() {
        let long = |salt: usize| -> String {
            // Lines that recur in another order: the worst case of a search for the shortest difference.
            (0..60_000_usize).map(|n| format!("line {}\n", n.wrapping_mul(salt) % 30_011)).collect()
        };
        let begun = Instant::now();
        let text = unified(&long(7_919), "a", &long(104_729), "b");
        // A debug build on a busy machine; without a deadline it takes minutes.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(text.starts_with("--- a\n+++ b\n"), "{}", &text[..40]);
        assert!(text.len() < SHOWN_MAX + 100 && text.ends_with("little in common\n"), "{}", text.len());
    }

    #[test]
    fn what_is_the_same_has_no_difference() {
        assert_eq!(unified("x\n", "a", "x\n", "b"), "");
        assert_eq!(unified("x\n", "a", "y\n", "b"), "--- a\n+++ b\n@@ -1 +1 @@\n-x\n+y\n");
    }
}
