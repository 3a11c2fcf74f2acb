//! When the state is stored whole. A snapshot copies the state, in the loop: it must stay rare, also when the disk is slow.

use crate::domain::{Boot, Span};

/// How often the state is stored whole, so that a replay never has more than this to go through.
const EVERY: Span = Span::seconds(3600);

/// How often a snapshot that the store wants, and had no room for, is offered again. The store takes the next one when it
/// has written the last, which at its slowest is a matter of seconds; a copy of 10,000 servers' state takes milliseconds.
const AGAIN: Span = Span::seconds(1);

/// When the last one was offered, and whether the store wanted one at the last look.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    last: Option<Boot>,
    wanted: bool,
}

impl Snapshots {
    /// Whether to offer one now. `wanted`: the store asks for one.
    pub(super) fn due(&mut self, wanted: bool, now: Boot) -> bool {
        let anew = wanted && !self.wanted;
        self.wanted = wanted;
        let pause = if wanted { AGAIN } else { EVERY };
        anew || self.last.is_none_or(|last| now.since(last) >= pause)
    }

    /// One was offered, whatever the store made of it.
    pub(super) fn taken(&mut self, now: Boot) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are offered within `span`, by a loop that flushes every 10 ms.
    fn offered(snapshots: &mut Snapshots, wanted: bool, from: Boot, span: Span) -> u64 {
        let mut count = 0;
        for ms in (0..span.0).step_by(10) {
            let now = from + Span(ms);
            if snapshots.due(wanted, now) {
                count += 1;
                snapshots.taken(now);
            }
        }
        count
    }

    #[test]
    fn one_that_is_wanted_comes_at_once_and_one_that_finds_no_room_again_only_after_a_while() {
        let mut snapshots = Snapshots::default();
        assert!(snapshots.due(false, Boot(0)), "the first");
        snapshots.taken(Boot(0));
        assert!(!snapshots.due(false, Boot(5)));
        assert!(snapshots.due(true, Boot(10)), "at once");
        snapshots.taken(Boot(10));
        // The store is full: it goes on wanting.
        assert_eq!(offered(&mut snapshots, true, Boot(20), Span::seconds(10)), 10);
        // It took one, and wants the next: at once again.
        assert!(!snapshots.due(false, Boot(10_020)));
        assert!(snapshots.due(true, Boot(10_030)));
    }

    #[test]
    fn without_being_asked_one_an_hour_is_enough() {
        let mut snapshots = Snapshots::default();
        snapshots.taken(Boot(0));
        assert_eq!(offered(&mut snapshots, false, Boot(10), Span::seconds(2 * 3600)), 2);
    }
}
