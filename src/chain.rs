//! An error with its causes as one text. Our errors keep the cause out of their own text (`#[source]`), so whoever shows
//! one to a person shows the chain.

use std::error::Error;

/// The error and its causes, outermost first, joined by colons. A cause that the text before it ends with already (some
/// libraries do that) is not said twice.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}
