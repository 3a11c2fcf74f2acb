//! Whose good probes may be news.
//!
//! Nearly all servers are up, and nearly all probes say so again: the core hears thousands of them in a second, of which
//! nothing follows. That is known here without a look at the server, in one step, however many servers there are. Each
//! server has its place among as many as there are servers, and a place counts those of its servers that are awaited: where
//! nobody is, no good probe is news. Two servers may share a place; then one is looked at in vain while the other is awaited,
//! which costs a moment and changes nothing.

use super::index::Way;
use crate::domain::id::ServerId;

/// Which servers are awaited, or share the place of one that is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Awaited {
    /// How many are, by place; a power of two of them. Without any, everybody counts as awaited.
    counts: Vec<u32>,
    /// The same as one bit each: so small that it stays in the nearest cache.
    bits: Vec<u64>,
}

impl Awaited {
    /// Room for so many servers, none of which is awaited.
    pub(super) fn new(servers: usize) -> Awaited {
        let places = servers.next_power_of_two();
        Awaited { counts: vec![0; places], bits: vec![0; places.div_ceil(64)] }
    }

    /// Puts in a server, or takes it out, if it is awaited.
    pub(super) fn count(&mut self, server: ServerId, is_awaited: bool, way: Way) {
        if !is_awaited {
            return;
        }
        let place = self.place(server);
        if let (Some(count), Some(bits)) = (self.counts.get_mut(place), self.bits.get_mut(place / 64)) {
            *count = count.saturating_add_signed(way.by());
            let bit = 1 << (place % 64);
            *bits = if *count > 0 { *bits | bit } else { *bits & !bit };
        }
    }

    /// Whether `server` is awaited; or another one with the same place.
    pub(super) fn may_be(&self, server: ServerId) -> bool {
        let place = self.place(server);
        self.bits.get(place / 64).is_none_or(|bits| bits & 1 << (place % 64) != 0)
    }

    fn place(&self, server: ServerId) -> usize {
        let last = self.counts.len().saturating_sub(1);
        server.mixed() as usize & last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::testing::server;

    #[test]
    fn nobody_is_missed_and_few_are_looked_at_in_vain() {
        let servers: Vec<ServerId> = (0..1_000).map(|n| server(&format!("api-{n}/api-{n}-onprem"))).collect();
        let mut awaited = Awaited::new(servers.len());
        let some = || servers.iter().step_by(100);
        some().for_each(|server| awaited.count(*server, true, Way::In));
        assert!(some().all(|server| awaited.may_be(*server)));
        let in_vain = servers.iter().filter(|server| awaited.may_be(**server)).count() - some().count();
        assert!(in_vain < 50, "{in_vain} of 1,000 are looked at in vain");
        servers.iter().for_each(|server| awaited.count(*server, false, Way::Out));
        some().for_each(|server| awaited.count(*server, true, Way::Out));
        assert_eq!(awaited, Awaited::new(servers.len()), "nothing is left of those who were");
    }

    #[test]
    fn before_it_is_built_everybody_is_looked_at() {
        assert!(Awaited::default().may_be(server("api/api-onprem")));
    }
}
