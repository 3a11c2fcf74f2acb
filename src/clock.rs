//! The machine's clocks. What is read here labels observations; the [`Now`](crate::domain::Now) that reaches
//! [`decide`](crate::domain::decide()) is put together by `daemon.rs` alone.

use crate::domain::time::{Boot, Wall};
use std::time::{SystemTime, UNIX_EPOCH};

/// This moment on the boot clock: monotonic, and it goes on while the machine sleeps.
///
/// # Panics
///
/// When the kernel has no `CLOCK_BOOTTIME`, which every Linux since 2.6.39 has.
pub fn boot_now() -> Boot {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[expect(
        unsafe_code,
        reason = "neither std nor tokio reads CLOCK_BOOTTIME; `time` is ours and lives long enough"
    )]
    let status = unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
    assert_eq!(status, 0, "the kernel has no CLOCK_BOOTTIME");
    Boot(time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000))
}

/// This moment on the wall clock; the Unix epoch when the clock stands before it.
pub fn wall_now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_is_the_kernels_uptime_in_milliseconds() {
        let before = uptime();
        let Boot(now) = boot_now();
        let after = uptime();
        assert!(before - 10 <= now && now <= after + 10, "{before} <= {now} <= {after}");
    }

    /// `/proc/uptime` counts the same clock, in hundredths of a second (proc(5)).
    fn uptime() -> i64 {
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        (seconds * 1000.0) as i64
    }
}
