//! One virtual clock, one queue: what happens is a closure with a time, and of two with the same time the first that was
//! put there happens first. Nothing else moves the world, so the same seed gives the same world.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Milliseconds since the world began.
pub(crate) type Ms = i64;

/// What happens.
type Happening<W> = Box<dyn FnOnce(&mut W)>;

struct Entry<W> {
    at: Ms,
    order: u64,
    happening: Happening<W>,
}

/// What is to happen, soonest first.
pub(crate) struct Clockwork<W> {
    now: Ms,
    order: u64,
    queue: BinaryHeap<Entry<W>>,
}

impl<W> Clockwork<W> {
    pub(crate) fn new() -> Clockwork<W> {
        Clockwork { now: 0, order: 0, queue: BinaryHeap::new() }
    }

    pub(crate) fn now(&self) -> Ms {
        self.now
    }

    /// Lets something happen `after` from now; at once, if that is not positive.
    pub(crate) fn after(&mut self, after: Ms, happening: impl FnOnce(&mut W) + 'static) {
        self.order += 1;
        let (at, order) = (self.now + after.max(0), self.order);
        self.queue.push(Entry { at, order, happening: Box::new(happening) });
    }

    /// Takes what happens next, up to `until`; time is then that of it.
    pub(crate) fn next(&mut self, until: Ms) -> Option<Happening<W>> {
        if self.queue.peek().is_none_or(|next| next.at > until) {
            self.now = self.now.max(until);
            return None;
        }
        let entry = self.queue.pop()?;
        self.now = entry.at;
        Some(entry.happening)
    }
}

/// The heap gives the greatest first: the soonest is the greatest.
impl<W> Ord for Entry<W> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl<W> PartialOrd for Entry<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> PartialEq for Entry<W> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<W> Eq for Entry<W> {}

/// A stream of chance of its own for each part of the world: what one part draws changes nothing for another.
pub(crate) fn chance(seed: u64, part: &str) -> fastrand::Rng {
    // FNV-1a: each letter counts.
    let hash = part.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    fastrand::Rng::with_seed(seed.rotate_left(17) ^ hash)
}
