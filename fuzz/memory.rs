//! Counts what a reader allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A byte of a reply may lead to so many bytes of memory: the shortest row of `show stat` (a comma for each column that is needed)
/// becomes a record of some 300 bytes, in a list that doubles.
const FACTOR: usize = 128;

/// And so many whatever the reply: messages, empty tables.
const BASE: usize = 64 << 10;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn more(size: usize) {
    let now = NOW.fetch_add(size, Ordering::Relaxed) + size;
    MOST.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call is the system allocator's, with what it was given.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        more(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `read` and looks how much memory it had at once. The targets have one thread.
pub(crate) fn bounded(input: usize, read: impl FnOnce()) {
    let before = NOW.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    read();
    let most = MOST.load(Ordering::Relaxed) - before;
    assert!(most <= FACTOR * input + BASE, "{most} bytes of memory for {input} bytes of a reply");
}
