//! Jitter without chance: a hash of who waits and for the how-manieth time. The same on every machine and after every
//! restart, so that a test or a replay meets the same times.

use std::time::Duration;

/// A number for `text`: FNV-1a, finished. Stable across builds, which the standard library's hashes do not promise to be.
pub fn seed(text: &str) -> u64 {
    mixed(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// The number of one attempt of `seed`.
pub fn attempt(seed: u64, attempt: u64) -> u64 {
    mixed(seed ^ mixed(attempt))
}

/// The pause before try number `tries` (from 0): doubled from `first` up to `longest`, and of that, between a half and
/// all of it.
pub fn backoff(seed: u64, tries: u32, first: Duration, longest: Duration) -> Duration {
    let whole = first.saturating_mul(1_u32.checked_shl(tries).unwrap_or(u32::MAX)).min(longest);
    let half = whole / 2;
    let milliseconds = u64::try_from(half.as_millis()).unwrap_or(u64::MAX - 1);
    half + Duration::from_millis(attempt(seed, u64::from(tries)) % (milliseconds + 1))
}

/// The finaliser of SplitMix64: FNV leaves neighbours (`api-1`, `api-2`) close together.
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 from 0 begins with that number (`splitmix64.c`), and FNV-1a of `a` is 0xaf63dc4c8601ec8c.
    #[test]
    fn the_hash_is_the_one_that_it_says() {
        assert_eq!(mixed(0x9e37_79b9_7f4a_7c15), 0xe220_a839_7b1d_cdaf);
        assert_eq!(seed("a"), mixed(0xaf63_dc4c_8601_ec8c));
        assert_eq!(seed("a"), 0x02c0_bdbf_4814_20f8);
    }

    #[test]
    fn the_shortest_pauses_have_their_bounds_too() {
        for whole in 0..5 {
            let whole = Duration::from_millis(whole);
            let pause = backoff(seed("a"), 0, whole, whole);
            assert!(whole / 2 <= pause && pause <= whole, "{pause:?} of {whole:?}");
        }
    }

    #[test]
    fn backoff_grows_to_its_bound_and_stays_there() {
        let (first, longest) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut whole = first;
        for tries in 0..100 {
            let pause = backoff(seed("onprem"), tries, first, longest);
            assert!(whole / 2 <= pause && pause <= whole, "{tries}: {pause:?} of {whole:?}");
            whole = (whole * 2).min(longest);
        }
        assert_ne!(
            backoff(seed("onprem"), 50, first, longest),
            backoff(seed("cloud"), 50, first, longest),
            "two that failed together do not come back together"
        );
    }
}
