//! What a container's repair is after something was heard of it: a table of phases and inputs, written out.

use super::{
    AMBIGUOUS_EXITS, ENGINE_STARTS, End, Ender, Ending, FACTS_ARRIVE, Input, KILL_TOLD_WITHIN, PAST_ARRIVES,
    Phase, Repair, Rules, SIGNAL_WORKS, STOP_CERTAIN, STOP_FOLLOWS, Signal,
};
use crate::domain::action::Deed;
use crate::domain::policy::{HealMode, OnKill};
use crate::domain::time::{Boot, Span};

impl Signal {
    /// Whether it is one that ends containers, and came shortly before what happens now.
    pub(super) fn is_at_work(self, rules: Rules<'_>) -> bool {
        ends(self.number, rules) && self.ago(rules) <= rules.facts.stop_timeout + SIGNAL_WORKS
    }

    /// How long before what happens now it was sent. We may have been frozen between the two and heard of the second late: that
    /// is known by the engine's clock; or that one was set: that is known by ours.
    fn ago(self, rules: Rules<'_>) -> Span {
        let ours = rules.at.since(self.at);
        if self.engine_time == 0 || rules.engine_time == 0 {
            return ours;
        }
        let engines = u64::try_from(rules.engine_time.saturating_sub(self.engine_time) / 1_000_000);
        engines.map_or(ours, |engines| ours.min(Span(engines)))
    }
}

/// Whether a signal is one that ends containers.
fn ends(signal: i32, rules: Rules<'_>) -> bool {
    const SIGKILL: i32 = 9;
    signal == SIGKILL || signal == rules.facts.stop_signal
}

impl Repair {
    /// What it is after `input`.
    #[must_use]
    pub fn after(&self, input: Input, rules: Rules<'_>) -> Repair {
        match input {
            Input::Began => self.began(),
            Input::Signal(number) => self.heard(rules).signalled(number, rules),
            Input::OutOfMemory => match self.explained_by_memory(rules.at) {
                Some(last) => Repair { last: Some(Ending { oom: true, ..last }), ..self.heard(rules) },
                None => Repair { oom: Some(rules.at), ..self.heard(rules) },
            },
            Input::Died { exit, oom } => self.heard(rules).died(exit, oom, rules),
            Input::Stop => self.heard(rules).stop(rules),
            Input::Start => self.heard(rules).started(rules),
            // Nothing new: it is listed as missing again.
            Input::Removed if self.phase == Phase::Gone && self.id.is_empty() => self.clone(),
            Input::Removed => Repair { phase: Phase::Gone, heard: rules.at, ..Repair::default() },
            Input::SeenRunning { at } if at >= self.heard => self.seen_running(rules),
            Input::SeenRestarting { at } if at >= self.heard => self.seen_restarting(rules),
            Input::SeenEnded { at, exit, oom, engine_was_lost } if at >= self.heard => {
                self.seen_ended(exit, oom, engine_was_lost, rules)
            }
            Input::SeenCreated { at } if at >= self.heard && self.phase == Phase::Gone => {
                self.with(Phase::Unseen)
            }
            // Events are newer than the list; and what was never started is nobody's loss.
            Input::SeenRunning { .. }
            | Input::SeenRestarting { .. }
            | Input::SeenCreated { .. }
            | Input::SeenEnded { .. } => self.clone(),
            Input::EndedWithEngine { exit, oom } => self.heard(rules).ended_with_engine(exit, oom, rules),
            Input::EngineLost { ending_since } => self.engine_lost(ending_since),
            Input::Dead { others_within } => self.dead(others_within, rules),
            Input::NetworkLost => self.network_lost(rules),
            Input::Alive => self.alive(),
            Input::Finished(end) => self.finished(end, rules),
            Input::Tick => self.ticked(rules),
        }
    }

    fn with(&self, phase: Phase) -> Repair {
        Repair { phase, waits: None, meanwhile: None, ..self.clone() }
    }

    fn heard(&self, rules: Rules<'_>) -> Repair {
        Repair { heard: rules.at, ..self.clone() }
    }

    fn signalled(&self, number: i32, rules: Rules<'_>) -> Repair {
        let before = self.signal.filter(|before| before.is_at_work(rules));
        let first = before.map_or(rules.at, |before| before.first);
        // A harmless one takes nothing back of one that ends it.
        let signal = match before.filter(|_| !ends(number, rules)) {
            Some(before) => before,
            None => Signal { number, at: rules.at, first, engine_time: rules.engine_time },
        };
        let signalled = Repair { signal: Some(signal), ..self.clone() };
        match self.explained_by(number, rules) {
            Some(ending) => signalled.with(Phase::Judging { ending, until: rules.now + STOP_FOLLOWS }),
            None => signalled,
        }
    }

    /// The death that seemed to be its own, and was the work of this signal, which is told only now.
    fn explained_by(&self, signal: i32, rules: Rules<'_>) -> Option<Ending> {
        let last = self.last.filter(|last| last.who == Ender::Crash)?;
        last.exit.filter(|exit| signal.checked_add(128) == Some(*exit))?;
        let is_open = matches!(
            self.phase,
            Phase::Docker { .. } | Phase::Due { .. } | Phase::Acting { deed: Deed::Start, .. } | Phase::Left
        );
        let explains = is_open && ends(signal, rules) && rules.at.since(last.at) <= KILL_TOLD_WITHIN;
        explains.then_some(Ending { who: Ender::Kill, ..last })
    }

    /// A person's hold and what was decided outlive a start of ours; what was being found out begins anew with the list. What
    /// it waited for may have ended meanwhile: that is looked at anew.
    fn began(&self) -> Repair {
        match self.phase {
            Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Left
            | Phase::GivenUp { .. }
            | Phase::Due { .. } => {
                let waits = self.waits.clone().filter(|why| !why.is_woken());
                Repair { waits, ..self.clone() }
            }
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Docker { .. }
            | Phase::Acting { .. }
            | Phase::Gone => Repair { signal: None, ..self.with(Phase::Unseen) },
        }
    }

    fn died(&self, exit: Option<i32>, oom: bool, rules: Rules<'_>) -> Repair {
        match self.phase {
            // Our own restart: it dies before it starts. Or somebody else's doing, if ours does nothing.
            Phase::Acting { deed: Deed::Restart { .. }, .. } => {
                let who = if self.was_signalled(rules) { Ender::Kill } else { Ender::Crash };
                let ending = Ending { who, exit, oom, at: rules.at, wall: rules.wall };
                Repair { meanwhile: Some(ending), ..self.clone() }
            }
            // It ended by a person already. Told twice, or in another order, that is no crash; and if a start of it was
            // missed, the next list finds it running or leaves it theirs. What a person stopped is not started on a guess.
            Phase::Stopping { .. } | Phase::Held { .. } => self.clone(),
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::Judging { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::Acting { deed: Deed::Start, .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => {
                let who = if self.was_signalled(rules) { Ender::Kill } else { Ender::Crash };
                let ending = Ending { who, exit, oom, at: rules.at, wall: rules.wall };
                let ran = self.rested(rules);
                match who {
                    Ender::Kill => ran.with(Phase::Judging { ending, until: rules.now + STOP_FOLLOWS }),
                    // It died as soon as it was created: whether Docker itself starts it is about to be read.
                    Ender::Crash if rules.facts.guessed => {
                        ran.with(Phase::Judging { ending, until: rules.now + FACTS_ARRIVE })
                    }
                    Ender::Crash | Ender::Stop | Ender::Engine | Ender::Unseen => ran.ended(ending, rules),
                }
            }
        }
    }

    /// Whether a signal that ends containers came shortly before now.
    fn was_signalled(&self, rules: Rules<'_>) -> bool {
        self.signal.is_some_and(|signal| signal.is_at_work(rules))
    }

    /// Having run for long, it begins to count anew.
    fn rested(&self, rules: Rules<'_>) -> Repair {
        let (Phase::Runs { since } | Phase::Ailing { since, .. }) = self.phase else { return self.clone() };
        if rules.at.since(since) < rules.limits.window {
            return self.clone();
        }
        Repair { attempt: 0, starts: Vec::new(), ..self.clone() }
    }

    fn stop(&self, rules: Rules<'_>) -> Repair {
        let heard = |ending: Ending| {
            let ending = Ending { who: Ender::Stop, ..ending };
            self.with(Phase::Stopping { ending, until: rules.now + STOP_CERTAIN })
        };
        match self.phase {
            Phase::Judging { ending, .. } => heard(ending),
            Phase::Acting { deed: Deed::Restart { .. }, .. } => {
                let meanwhile = self.meanwhile.map(|ending| Ending { who: Ender::Stop, ..ending });
                Repair { meanwhile, ..self.clone() }
            }
            Phase::Stopping { .. } | Phase::Held { .. } => self.clone(),
            // Between two starts of Docker's own policy, `stop` comes alone; and a person may stop what we are about to
            // start.
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::Acting { deed: Deed::Start, .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => {
                let last = self.last.filter(|last| last.who == Ender::Crash);
                let (exit, oom) = last.map_or((None, false), |last| (last.exit, last.oom));
                heard(Ending { who: Ender::Stop, exit, oom, at: rules.at, wall: rules.wall })
            }
        }
    }

    fn started(&self, rules: Rules<'_>) -> Repair {
        let runs = Phase::Runs { since: rules.at };
        match self.phase {
            // Told late: that was before what is being done now.
            Phase::Acting { since, .. } if rules.at < since => self.clone(),
            // Docker's own start, or ours: the count goes on. Ours has two ways to us, the engine's answer and its event, and
            // either may be the first; and what runs cannot be started by anybody else.
            Phase::Acting { .. } | Phase::Docker { .. } | Phase::Runs { .. } | Phase::Ailing { .. } => {
                Repair { signal: None, ..self.with(runs) }
            }
            // Somebody's: they vouch for it.
            Phase::Unseen
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Due { .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => Repair { attempt: 0, starts: Vec::new(), signal: None, ..self.with(runs) },
        }
    }

    fn seen_running(&self, rules: Rules<'_>) -> Repair {
        match self.phase {
            Phase::Runs { .. } | Phase::Ailing { .. } | Phase::Acting { .. } => self.clone(),
            Phase::Unseen
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => self.with(Phase::Runs { since: rules.now }),
        }
    }

    fn seen_restarting(&self, rules: Rules<'_>) -> Repair {
        match self.phase {
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::Judging { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::Left
            | Phase::Gone => self.with(Phase::Docker { until: rules.now + rules.dockers_time() }),
            Phase::Stopping { .. } | Phase::Held { .. } | Phase::Acting { .. } | Phase::GivenUp { .. } => {
                self.clone()
            }
        }
    }

    fn seen_ended(&self, exit: Option<i32>, oom: bool, engine_was_lost: bool, rules: Rules<'_>) -> Repair {
        let ending = |who| Ending { who, exit, oom, at: rules.now, wall: rules.wall };
        match self.phase {
            // It ran when we last looked.
            Phase::Runs { .. } | Phase::Ailing { .. } if engine_was_lost => {
                self.with(Phase::Judging { ending: ending(Ender::Engine), until: rules.now + PAST_ARRIVES })
            }
            Phase::Unseen | Phase::Runs { .. } | Phase::Ailing { .. } | Phase::Gone => {
                self.with(Phase::Judging { ending: ending(Ender::Unseen), until: rules.now + PAST_ARRIVES })
            }
            Phase::WithEngine => self.ended(ending(Ender::Engine), rules),
            Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Held { .. }
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::Acting { .. }
            | Phase::GivenUp { .. }
            | Phase::Left => self.clone(),
        }
    }

    fn ended_with_engine(&self, exit: Option<i32>, oom: bool, rules: Rules<'_>) -> Repair {
        let ending = Ending { who: Ender::Engine, exit, oom, at: rules.at, wall: rules.wall };
        // A person was stopping it when the engine was killed.
        if self.was_signalled(rules) {
            let ending = Ending { who: Ender::Stop, ..ending };
            return Repair { last: Some(ending), ..self.with(Phase::Held { since: ending.at }) };
        }
        match self.phase {
            // How our own action ended is about to be known.
            Phase::Acting { .. } => self.clone(),
            // Nobody saw it start, but it did: it was ended.
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => self.ended(ending, rules),
        }
    }

    /// An engine that goes down stops all its containers; that was nobody's wish about this one.
    fn engine_lost(&self, ending_since: Option<Boot>) -> Repair {
        let Some(ending_since) = ending_since else { return self.clone() };
        let ended = match self.phase {
            Phase::Judging { ending, .. } | Phase::Stopping { ending, .. } => Some(ending.at),
            Phase::Held { since } => Some(since),
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Ailing { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::Acting { .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => None,
        };
        // Between two starts of Docker's own policy it is not signalled.
        let signalled = ended.map(|ended| self.signal.map_or(ended, |signal| signal.first));
        let with_engine = signalled.is_some_and(|at| at >= ending_since);
        if with_engine { self.with(Phase::WithEngine) } else { self.clone() }
    }

    fn dead(&self, others_within: Span, rules: Rules<'_>) -> Repair {
        let Phase::Runs { since } = self.phase else { return self.clone() };
        let at = (since + rules.policy.grace).max(rules.now + others_within);
        self.with(Phase::Ailing { since, at, spent: false })
    }

    /// That is certain, unlike what probes say of a container that has just begun: it waits for no grace.
    fn network_lost(&self, rules: Rules<'_>) -> Repair {
        match self.phase {
            Phase::Runs { since } => self.with(Phase::Ailing { since, at: rules.now, spent: false }),
            // What it was restarted too often for, it is restarted for slowly still.
            Phase::Ailing { since, at, spent: false } if at > rules.now && self.waits.is_none() => {
                self.with(Phase::Ailing { since, at: rules.now, spent: false })
            }
            Phase::Ailing { .. }
            | Phase::Unseen
            | Phase::Judging { .. }
            | Phase::Stopping { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Docker { .. }
            | Phase::Due { .. }
            | Phase::Acting { .. }
            | Phase::GivenUp { .. }
            | Phase::Left
            | Phase::Gone => self.clone(),
        }
    }

    fn alive(&self) -> Repair {
        let Phase::Ailing { since, .. } = self.phase else { return self.clone() };
        self.with(Phase::Runs { since })
    }

    fn finished(&self, end: End, rules: Rules<'_>) -> Repair {
        let Phase::Acting { deed, since, .. } = self.phase else { return self.clone() };
        // What did not work is a reason still.
        let rejoined = self.rejoined.filter(|_| end == End::Done);
        let ended = Repair { rejoined, ..self.clone() };
        // Nothing was done: what was heard meanwhile was somebody else's doing, or its own.
        if let (End::Superseded | End::NotBegun, Some(ending)) = (end, self.meanwhile) {
            return match ending.who {
                Ender::Stop => ended.with(Phase::Stopping { ending, until: rules.now + STOP_CERTAIN }),
                Ender::Kill => ended.with(Phase::Judging { ending, until: rules.now + STOP_FOLLOWS }),
                Ender::Crash | Ender::Engine | Ender::Unseen => {
                    ended.with(Phase::Unseen).ended(ending, rules)
                }
            };
        }
        let again = rules.now + rules.pause(self.attempt.max(1));
        ended.with(match (end, deed) {
            (End::Done, _) => Phase::Runs { since: rules.now },
            // It runs on, as far as anybody knows.
            (End::NotBegun, Deed::Restart { .. }) => Phase::Ailing { since, at: again, spent: false },
            (End::NotBegun, Deed::Start) | (End::Failed, _) => Phase::Due { at: again },
            // Somebody else is at it: Docker, or a person. The list that follows says what became of it.
            (End::Superseded, _) => Phase::Unseen,
            // The engine may be at it still; if nothing comes of it, it is our turn.
            (End::Unknown, _) => Phase::Docker { until: rules.now + rules.dockers_time() },
        })
    }

    fn ticked(&self, rules: Rules<'_>) -> Repair {
        if self.phase.deadline().is_none_or(|at| at > rules.now) {
            return self.clone();
        }
        match self.phase {
            Phase::Judging { ending, .. } => self.ended(ending, rules),
            Phase::Stopping { ending, .. } => {
                Repair { last: Some(ending), ..self.with(Phase::Held { since: ending.at }) }
            }
            Phase::Docker { .. } => self.with(Phase::Due { at: rules.now }),
            Phase::Acting { .. } => self.finished(End::Unknown, rules),
            // What is due is done by whoever holds the budgets.
            Phase::Due { .. } | Phase::Ailing { .. } | Phase::GivenUp { .. } => self.clone(),
            Phase::Unseen
            | Phase::Runs { .. }
            | Phase::Held { .. }
            | Phase::WithEngine
            | Phase::Left
            | Phase::Gone => self.clone(),
        }
    }

    /// It is known who ended it.
    pub(super) fn ended(&self, ending: Ending, rules: Rules<'_>) -> Repair {
        let after = Repair { last: Some(ending), ..self.clone() };
        let healed = match (ending.who, rules.mode()) {
            (_, HealMode::Never | HealMode::Notify) => false,
            (Ender::Stop, HealMode::Auto | HealMode::Always) => {
                return after.with(Phase::Held { since: ending.at });
            }
            (Ender::Kill, HealMode::Auto | HealMode::Always) => match rules.policy.on_kill {
                OnKill::Respect => return after.with(Phase::Held { since: ending.at }),
                OnKill::Heal => true,
            },
            (_, HealMode::Always) => true,
            // It has done its work, as far as anybody can tell.
            (Ender::Crash, HealMode::Auto) => {
                ending.exit != Some(0) || ending.oom || rules.dockers_turn(ending.exit)
            }
            (Ender::Engine, HealMode::Auto) => true,
            (Ender::Unseen, HealMode::Auto) => {
                ending.oom || ending.exit.is_some_and(|exit| !AMBIGUOUS_EXITS.contains(&exit))
            }
        };
        if !healed {
            return after.with(Phase::Left);
        }
        let pause = match ending.who {
            Ender::Engine | Ender::Unseen => Some(ENGINE_STARTS.max(rules.dockers_time())),
            Ender::Crash | Ender::Kill | Ender::Stop => {
                rules.dockers_turn(ending.exit).then(|| rules.dockers_time())
            }
        };
        after.with(match pause {
            Some(pause) => Phase::Docker { until: rules.now + pause },
            None => Phase::Due { at: rules.now + rules.pause(self.attempt) },
        })
    }
}
