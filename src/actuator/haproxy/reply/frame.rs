//! Where one reply ends and the next begins.

/// The replies in `text`, or how many there are when that is not `expected`.
///
/// A reply ends with an empty line; one without text is only that empty line.
pub(crate) fn split(text: &str, expected: usize) -> Result<Vec<String>, usize> {
    if expected == 1 {
        // A single reply may have empty lines inside (error logs do); then only the last one counts.
        return match text.strip_suffix('\n') {
            Some(body) if body.is_empty() || body.ends_with('\n') => Ok(vec![body.trim_end().to_owned()]),
            _ => Err(0),
        };
    }
    let mut replies = Vec::with_capacity(expected);
    let mut reply = String::new();
    let mut rest = text;
    while let Some((line, after)) = rest.split_once('\n') {
        rest = after;
        if line.is_empty() {
            if replies.len() == expected {
                // However many more there are.
                return Err(expected + 1);
            }
            replies.push(std::mem::take(&mut reply).trim_end().to_owned());
        } else {
            reply.push_str(line);
            reply.push('\n');
        }
    }
    let whole = rest.is_empty() && reply.is_empty();
    if whole && replies.len() == expected { Ok(replies) } else { Err(replies.len()) }
}
