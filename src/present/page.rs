//! Text for people in lines that fit everywhere.

/// Lines for people are at most this wide: it fits every terminal, mail and ticket.
pub const WIDTH: usize = 80;

/// `text` in lines of at most [`WIDTH`], the first one behind `first`, the others behind as many blanks.
pub fn wrapped(first: &str, text: &str) -> String {
    let indent = first.chars().count();
    let mut lines = String::from(first);
    let mut used = indent;
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && used + 1 + length > WIDTH {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            used = indent;
        } else if index > 0 {
            lines.push(' ');
            used += 1;
        }
        lines.push_str(word);
        used += length;
    }
    lines.push('\n');
    lines
}
