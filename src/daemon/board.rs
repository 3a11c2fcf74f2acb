//! What is wrong with what supervisor itself stands on, for people: the settings, the listeners.

use std::collections::BTreeMap;
use tokio::sync::watch;

/// The problems, by what they are about. Cheap to clone; all clones are one board.
#[derive(Debug, Clone)]
pub(super) struct Board(watch::Sender<BTreeMap<&'static str, Vec<String>>>);

/// What the loop sees of it.
#[derive(Debug)]
pub(super) struct Posted(watch::Receiver<BTreeMap<&'static str, Vec<String>>>);

impl Board {
    /// An empty one.
    pub(super) fn new() -> (Board, Posted) {
        let (board, posted) = watch::channel(BTreeMap::new());
        (Board(board), Posted(posted))
    }

    /// What is wrong with `about` now; empty when nothing is.
    pub(super) fn post(&self, about: &'static str, problems: Vec<String>) {
        self.0.send_if_modified(|board| match problems.is_empty() {
            true => board.remove(about).is_some(),
            false => board.insert(about, problems.clone()).as_ref() != Some(&problems),
        });
    }
}

impl Posted {
    /// Waits for a change. False when nobody can post any more. Dropping the wait loses nothing.
    pub(super) async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// All of it.
    pub(super) fn read(&mut self) -> Vec<String> {
        self.0.borrow_and_update().values().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn what_is_mended_goes_and_the_rest_stays() {
        let (board, mut posted) = Board::new();
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        board.post("settings", words(&["a", "b"]));
        board.post("listener", words(&["c"]));
        assert_eq!(posted.changed().now_or_never(), Some(true));
        assert_eq!(posted.read(), ["c", "a", "b"]);
        board.post("settings", words(&["a", "b"]));
        assert_eq!(posted.changed().now_or_never(), None, "nothing new");
        board.post("settings", Vec::new());
        assert_eq!(posted.read(), ["c"]);
    }
}
