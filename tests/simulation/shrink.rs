//! A plan that fails is made small: what is not needed for it to fail in the same way is left out.

use crate::plan::Plan;
use crate::world::World;

/// More tries than these are not worth the wait.
const TRIES_MAX: usize = 400;

/// A smaller plan in which the same thing goes wrong.
pub(crate) fn shrink(plan: &Plan) -> Plan {
    let Some(wrong) = World::play(plan).violation else { return plan.clone() };
    let mut shrinking = Shrinking { best: plan.clone(), kind: kind_of(&wrong), tries: 0 };
    shrinking.leave_out_faults();
    shrinking.leave_out_cast();
    shrinking.leave_out_faults();
    shrinking.shorten();
    shrinking.best
}

struct Shrinking {
    best: Plan,
    kind: String,
    tries: usize,
}

/// What is wrong, without when and where.
fn kind_of(words: &str) -> String {
    let what = words.split_once(" s: ").map_or(words, |(_, what)| what);
    what.split_whitespace().take(3).filter(|word| !word.contains('-')).collect::<Vec<_>>().join(" ")
}

impl Shrinking {
    fn accept(&mut self, plan: Plan) -> bool {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            return false;
        }
        let same = World::play(&plan).violation.is_some_and(|words| kind_of(&words) == self.kind);
        if same {
            self.best = plan;
        }
        same
    }

    /// Halves, quarters, and so on, down to single ones.
    fn leave_out_faults(&mut self) {
        let mut size = self.best.faults.len().div_ceil(2);
        while size >= 1 {
            let mut at = 0;
            while at < self.best.faults.len() {
                let mut plan = self.best.clone();
                plan.faults.drain(at..(at + size).min(plan.faults.len()));
                if !self.accept(plan) {
                    at += size;
                }
            }
            if size == 1 {
                return;
            }
            size = size.div_ceil(2);
        }
    }

    fn leave_out_cast(&mut self) {
        for quirk in self.best.cast.quirks.clone() {
            let mut plan = self.best.clone();
            plan.cast.quirks.remove(&quirk);
            self.accept(plan);
        }
        for less in [
            (|plan| plan.cast.proxies = 1) as fn(&mut Plan),
            |plan| plan.cast.peers = 0,
            |plan| plan.cast.relays = 0,
            |plan| plan.cast.recipients = 1,
            |plan| plan.cast.engines_by_site = false,
            |plan| plan.cast.services.truncate(1),
            |plan| plan.cast.services.truncate(2),
            |plan| plan.cast.services.iter_mut().flatten().for_each(|count| *count = 1),
            |plan| plan.cast.restart = vec![supervisor::domain::event::DockersPolicy::No],
            |plan| plan.cast.failback = [60, 300, 2, 600],
            |plan| plan.cast.interval = 1_000,
        ] {
            let mut plan = self.best.clone();
            less(&mut plan);
            if plan != self.best {
                self.accept(plan);
            }
        }
    }

    /// What lasts, lasts shorter; the whole ends sooner.
    fn shorten(&mut self) {
        let last = self.best.faults.iter().map(|(at, fault)| at + fault.lasts).max().unwrap_or(0);
        let mut plan = self.best.clone();
        plan.ends = plan.ends.min(last + 1_000);
        self.accept(plan);
        for number in 0..self.best.faults.len() {
            for part in [8, 2] {
                let mut plan = self.best.clone();
                plan.faults[number].1.lasts /= part;
                if self.accept(plan) {
                    break;
                }
            }
        }
    }
}
