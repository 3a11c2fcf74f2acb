//! The operator's own lines, and the marks around them by which a line of the configuration is traced back to the settings.

use super::Snippet;

const BEGIN: &str = "# snippet ";
const END: &str = "# end of snippet ";

/// The lines between their marks.
pub(super) fn marked(snippet: &Snippet) -> String {
    let Snippet { key, text } = snippet;
    format!("    {BEGIN}{key}\n{}\n    {END}{key}", text.trim_end())
}

/// The settings key that the line with this number, from 1, came from, and which of its lines it is.
pub fn snippet_of(config: &str, number: usize) -> Option<(&str, usize)> {
    let mut within = None;
    for (at, line) in config.lines().enumerate().take(number) {
        let line = line.trim();
        if let Some(key) = line.strip_prefix(BEGIN) {
            within = Some((key, at));
        } else if line.starts_with(END) {
            within = None;
        }
    }
    let (key, mark) = within?;
    // The mark itself is ours.
    Some((key, number.checked_sub(mark + 1)?)).filter(|(_, line)| *line > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_snippet_is_traced_back_and_others_are_nobodys() {
        let one = marked(&Snippet { key: "a.one".to_owned(), text: "\n  first\n\tsecond\n\n".to_owned() });
        let two = marked(&Snippet { key: "a.two".to_owned(), text: "only".to_owned() });
        let config = format!("global\n{one}\n    maxconn 5\n{two}\n    spread-checks 5\n");
        let traced: Vec<_> = (1..=config.lines().count()).map(|number| snippet_of(&config, number)).collect();
        let one = |line| Some(("a.one", line));
        assert_eq!(
            traced,
            [None, None, one(1), one(2), one(3), None, None, None, Some(("a.two", 1)), None, None]
        );
        assert_eq!((snippet_of(&config, 0), snippet_of("", 7)), (None, None));
    }
}
