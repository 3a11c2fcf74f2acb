//! Foreign text (labels, summaries, replies of a relay) on its way into a line of ours.

/// One line, at most `max` bytes: what could break it, or turn the reading direction of what follows, becomes a blank.
pub(super) fn line(text: &str, max: usize) -> String {
    clip(&clean(text), max)
}

/// The same for a mail header. An encoded word (RFC 2047) that somebody put into a label would be decoded by the reader's
/// program and show what is not there, so its beginning is broken up.
pub(super) fn header(text: &str, max: usize) -> String {
    clip(&clean(text).replace("=?", "= ?"), max)
}

/// At most `max` bytes, cut between characters; what was cut is marked.
pub(super) fn clip(text: &str, max: usize) -> String {
    const MARK: &str = "...";
    if text.len() <= max {
        return text.to_owned();
    }
    let mut end = max.saturating_sub(MARK.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{MARK}", &text[..end])
}

fn clean(text: &str) -> String {
    let blanked: String = text.chars().map(|c| if breaks_a_line(c) { ' ' } else { c }).collect();
    blanked.trim().to_owned()
}

/// Control characters, Unicode's own line ends, and the marks that embed or override the reading direction (UAX #9).
fn breaks_a_line(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line() {
        assert_eq!(line("a\r\nBcc: b\u{0}\u{85}\u{2028}\u{202e}c\t", 100), "a  Bcc: b    c");
        assert_eq!(header("=?utf-8?q?=0D=0A?=", 100), "= ?utf-8?q?=0D=0A?=");
    }

    #[test]
    fn what_is_cut_is_marked_and_cut_between_characters() {
        assert_eq!(line("äöü", 6), "äöü");
        assert_eq!(line("äöüß", 7), "äö...");
        assert_eq!(line("äöüß", 6), "ä...");
        assert_eq!(line("abcdef", 2), "...", "the mark says that something was there");
    }
}
