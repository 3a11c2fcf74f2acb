use super::*;
use crate::domain::policy::{OnKill, Role};

const NOW: Boot = Boot(10_000_000);

fn policy() -> ContainerPolicy {
    let (on_kill, grace, role) = (OnKill::Respect, Span::seconds(30), Role::Servers);
    ContainerPolicy { heal: None, on_kill, site: None, grace, role }
}

fn limits() -> HealLimits {
    crate::domain::testing::heal_limits()
}

/// Something to make rules of.
struct Given {
    policy: ContainerPolicy,
    limits: HealLimits,
    facts: Facts,
    now: Boot,
}

impl Default for Given {
    fn default() -> Given {
        Given { policy: policy(), limits: limits(), facts: Facts::default(), now: NOW }
    }
}

impl Given {
    fn rules(&self) -> Rules<'_> {
        let Given { policy, limits, facts, now } = self;
        Rules { policy, limits, facts, seed: 1, now: *now, at: *now, engine_time: 0, wall: Wall(0) }
    }

    fn later(&mut self, span: Span) {
        self.now = self.now + span;
    }
}

fn ending(who: Ender) -> Ending {
    Ending { who, exit: Some(1), oom: false, at: Boot(NOW.0 - 100), wall: Wall(0) }
}

fn in_phase(phase: Phase) -> Repair {
    Repair { id: "c1".into(), phase, heard: Boot(NOW.0 - 100), ..Repair::default() }
}

/// Every phase; those with a deadline are past it.
fn phases() -> [Phase; 14] {
    let past = Boot(NOW.0 - 1);
    let since = Boot(NOW.0 - 60_000);
    let action = ActionId(7);
    [
        Phase::Unseen,
        Phase::Runs { since },
        Phase::Ailing { since, at: past, spent: false },
        Phase::Judging { ending: ending(Ender::Kill), until: past },
        Phase::Stopping { ending: ending(Ender::Stop), until: past },
        Phase::Held { since: Boot(NOW.0 - 1_000) },
        Phase::WithEngine,
        Phase::Docker { until: past },
        Phase::Due { at: past },
        Phase::Acting { action, deed: Deed::Start, since },
        Phase::Acting { action, deed: Deed::Restart { stop_timeout: Span::seconds(10) }, since },
        Phase::GivenUp { next: past },
        Phase::Left,
        Phase::Gone,
    ]
}

/// Every input, and the phase after it for each of [`phases`], in that order.
const TABLE: [(&str, Input, [&str; 14]); 25] = {
    const AT: Boot = NOW;
    const CODE: Option<i32> = Some(1);
    [
        //                    unseen   runs     ailing     judging    stopping    held        with_eng      docker    due       start     restart   given_up    left       gone
        (
            "began",
            Input::Began,
            [
                "unseen",
                "unseen",
                "unseen",
                "unseen",
                "unseen",
                "held",
                "with_engine",
                "unseen",
                "due",
                "unseen",
                "unseen",
                "given_up",
                "left",
                "unseen",
            ],
        ),
        (
            "signal",
            Input::Signal(15),
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "out of memory",
            Input::OutOfMemory,
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "died",
            Input::Died { exit: CODE, oom: false },
            [
                "due", "due", "due", "due", "stopping", "held", "due", "due", "due", "due", "acting", "due",
                "due", "due",
            ],
        ),
        (
            "stop",
            Input::Stop,
            [
                "stopping", "stopping", "stopping", "stopping", "stopping", "held", "stopping", "stopping",
                "stopping", "stopping", "acting", "stopping", "stopping", "stopping",
            ],
        ),
        ("start", Input::Start, ["runs"; 14]),
        ("removed", Input::Removed, ["gone"; 14]),
        (
            "seen running",
            Input::SeenRunning { at: AT },
            [
                "runs", "runs", "ailing", "runs", "runs", "runs", "runs", "runs", "runs", "acting", "acting",
                "runs", "runs", "runs",
            ],
        ),
        (
            "seen restarting",
            Input::SeenRestarting { at: AT },
            [
                "docker", "docker", "docker", "docker", "stopping", "held", "docker", "docker", "docker",
                "acting", "acting", "given_up", "docker", "docker",
            ],
        ),
        (
            "seen ended",
            Input::SeenEnded { at: AT, exit: CODE, oom: false, engine_was_lost: false },
            [
                "judging", "judging", "judging", "judging", "stopping", "held", "docker", "docker", "due",
                "acting", "acting", "given_up", "left", "judging",
            ],
        ),
        (
            "seen ended, engine was lost",
            Input::SeenEnded { at: AT, exit: CODE, oom: false, engine_was_lost: true },
            [
                "judging", "judging", "judging", "judging", "stopping", "held", "docker", "docker", "due",
                "acting", "acting", "given_up", "left", "judging",
            ],
        ),
        (
            "seen running long ago",
            Input::SeenRunning { at: Boot(0) },
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "seen created",
            Input::SeenCreated { at: NOW },
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "unseen",
            ],
        ),
        (
            "ended with engine",
            Input::EndedWithEngine { exit: Some(137), oom: false },
            [
                "docker", "docker", "docker", "docker", "docker", "docker", "docker", "docker", "docker",
                "acting", "acting", "docker", "docker", "docker",
            ],
        ),
        (
            "engine went down",
            Input::EngineLost { ending_since: Some(Boot(0)) },
            [
                "unseen",
                "runs",
                "ailing",
                "with_engine",
                "with_engine",
                "with_engine",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "engine lost",
            Input::EngineLost { ending_since: None },
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "dead",
            Input::Dead { others_within: Span::ZERO },
            [
                "unseen",
                "ailing",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "network lost",
            Input::NetworkLost,
            [
                "unseen",
                "ailing",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "alive",
            Input::Alive,
            [
                "unseen",
                "runs",
                "runs",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "done",
            Input::Finished(End::Done),
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "runs",
                "runs",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "failed",
            Input::Finished(End::Failed),
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "due",
                "due",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "not begun",
            Input::Finished(End::NotBegun),
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "due",
                "ailing",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "superseded",
            Input::Finished(End::Superseded),
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "unseen",
                "unseen",
                "given_up",
                "left",
                "gone",
            ],
        ),
        (
            "unknown",
            Input::Finished(End::Unknown),
            [
                "unseen",
                "runs",
                "ailing",
                "judging",
                "stopping",
                "held",
                "with_engine",
                "docker",
                "due",
                "docker",
                "docker",
                "given_up",
                "left",
                "gone",
            ],
        ),
        // What is due is done by whoever holds the budgets; an action has its time still.
        (
            "tick",
            Input::Tick,
            [
                "unseen",
                "runs",
                "ailing",
                "held",
                "held",
                "held",
                "with_engine",
                "due",
                "due",
                "acting",
                "acting",
                "given_up",
                "left",
                "gone",
            ],
        ),
    ]
};

#[test]
fn every_phase_answers_every_input_as_written() {
    let given = Given::default();
    let mut wrong = Vec::new();
    for (name, input, expected) in TABLE {
        for (phase, expected) in phases().into_iter().zip(expected) {
            let after = in_phase(phase.clone()).after(input, given.rules());
            if after.phase.word() != expected {
                wrong.push(format!("{}, {name}: {} instead of {expected}", phase.word(), after.phase.word()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_signal_explains_a_death_only_for_the_stop_timeout_and_a_little() {
    // Docker's ten seconds and five more.
    for (signal, after, by_person) in
        [(15, 14_999, true), (15, 15_001, false), (9, 14_999, true), (1, 10, false), (10, 10, false)]
    {
        let mut given = Given::default();
        let signalled = in_phase(Phase::Runs { since: Boot(0) }).after(Input::Signal(signal), given.rules());
        given.later(Span(after));
        let died = signalled.after(Input::Died { exit: Some(137), oom: false }, given.rules());
        let expected = if by_person { "judging" } else { "due" };
        assert_eq!(died.phase.word(), expected, "signal {signal}, {after} ms before");
    }
    // HAProxy's image stops with SIGUSR1.
    let given = Given { facts: Facts { stop_signal: 10, ..Facts::default() }, ..Given::default() };
    let signalled = in_phase(Phase::Runs { since: Boot(0) }).after(Input::Signal(10), given.rules());
    assert_eq!(
        signalled.after(Input::Died { exit: Some(0), oom: false }, given.rules()).phase.word(),
        "judging"
    );
}

#[test]
fn what_follows_an_end_is_as_policy_and_witnesses_say() {
    use DockersPolicy::{Always, No, OnFailure, UnlessStopped};
    let auto = HealMode::Auto;
    let crash = Ender::Crash;
    let table = [
        (auto, No, crash, Some(1), "due"),
        (auto, No, crash, Some(139), "due"),
        (auto, No, crash, None, "due"),
        (auto, No, crash, Some(0), "left"),
        (HealMode::Always, No, crash, Some(0), "due"),
        (HealMode::Notify, No, crash, Some(1), "left"),
        (HealMode::Never, No, crash, Some(1), "left"),
        (auto, Always, crash, Some(1), "docker"),
        (auto, Always, crash, Some(0), "docker"),
        (auto, UnlessStopped, crash, Some(1), "docker"),
        (auto, OnFailure { most: 0 }, crash, Some(1), "docker"),
        (auto, OnFailure { most: 3 }, crash, Some(1), "due"),
        (auto, OnFailure { most: 0 }, crash, Some(0), "left"),
        (auto, No, Ender::Engine, Some(143), "docker"),
        (auto, No, Ender::Unseen, Some(1), "docker"),
        (auto, No, Ender::Unseen, Some(0), "left"),
        (auto, No, Ender::Unseen, Some(137), "left"),
        (auto, No, Ender::Unseen, Some(143), "left"),
        (HealMode::Always, No, Ender::Unseen, Some(143), "docker"),
        (auto, No, Ender::Kill, Some(137), "held"),
        (HealMode::Always, No, Ender::Kill, Some(137), "held"),
        (HealMode::Always, Always, Ender::Stop, Some(0), "held"),
        (HealMode::Never, No, Ender::Stop, Some(0), "left"),
    ];
    for (mode, restart, who, exit, expected) in table {
        let mut given =
            Given { facts: Facts { restart, restarts: 3, ..Facts::default() }, ..Given::default() };
        given.policy.heal = Some(mode);
        let after = in_phase(Phase::Unseen).ended(Ending { exit, ..ending(who) }, given.rules());
        assert_eq!(after.phase.word(), expected, "{mode:?} {restart:?} {who:?} {exit:?}");
    }
    let mut given = Given::default();
    given.policy.on_kill = OnKill::Heal;
    assert_eq!(in_phase(Phase::Unseen).ended(ending(Ender::Kill), given.rules()).phase.word(), "due");
    let oom = Ending { exit: Some(0), oom: true, ..ending(Ender::Crash) };
    assert_eq!(in_phase(Phase::Unseen).ended(oom, given.rules()).phase.word(), "due");
}

#[test]
fn the_settings_speak_before_the_label_and_the_label_before_the_default() {
    let labelled = Facts { heal: Some(HealMode::Never), ..Facts::default() };
    let mut given = Given { facts: labelled, ..Given::default() };
    assert_eq!(given.rules().mode(), HealMode::Never);
    given.policy.heal = Some(HealMode::Always);
    assert_eq!(given.rules().mode(), HealMode::Always);
    assert_eq!(Given::default().rules().mode(), HealMode::Auto);
}

#[test]
fn pauses_grow_from_none_to_the_longest_and_running_long_ends_them() {
    let mut given = Given::default();
    assert_eq!(given.rules().pause(0), Span::ZERO);
    let pauses: Vec<u64> = (1..20).map(|attempt| given.rules().pause(attempt).0).collect();
    assert!((500..=1000).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses[18] >= 30_000 && pauses.iter().all(|pause| *pause <= 60_000), "{pauses:?}");

    let mut repair = in_phase(Phase::Runs { since: NOW });
    repair.attempt = 4;
    repair.starts = vec![NOW];
    given.later(Span(599_999));
    let died = repair.after(Input::Died { exit: Some(1), oom: false }, given.rules());
    assert_eq!(died.attempt, 4, "not long enough");
    given.later(Span(1));
    let died = repair.after(Input::Died { exit: Some(1), oom: false }, given.rules());
    assert_eq!((died.attempt, died.starts), (0, Vec::new()));
    assert_eq!(died.phase, Phase::Due { at: given.now });
}

#[test]
fn somebody_elses_start_vouches_for_the_container_and_our_own_does_not() {
    let given = Given::default();
    for phase in phases() {
        let mut repair = in_phase(phase.clone());
        repair.attempt = 3;
        repair.starts = vec![NOW];
        let started = repair.after(Input::Start, given.rules());
        let known = matches!(phase, Phase::Runs { .. } | Phase::Ailing { .. });
        let ours = known || matches!(phase, Phase::Acting { .. } | Phase::Docker { .. });
        assert_eq!(started.attempt, if ours { 3 } else { 0 }, "{}", phase.word());
    }
}

#[test]
fn our_start_counts_whether_the_answer_or_the_event_comes_first() {
    let given = Given::default();
    let acting = Phase::Acting { action: ActionId(7), deed: Deed::Start, since: NOW };
    let starting = Repair { attempt: 1, starts: vec![NOW], ..in_phase(acting) };
    for inputs in [[Input::Finished(End::Done), Input::Start], [Input::Start, Input::Finished(End::Done)]] {
        let [first, second] = inputs;
        let after = starting.after(first, given.rules()).after(second, given.rules());
        assert_eq!((after.phase.word(), after.attempt, after.starts.len()), ("runs", 1, 1));
    }
}

#[test]
fn starts_are_counted_within_the_window_and_remembered_within_a_bound() {
    let mut given = Given::default();
    let mut repair = in_phase(Phase::Due { at: NOW });
    for number in 1..=4 {
        repair = repair.acting(ActionId(number), Deed::Start, given.rules());
        assert!(!repair.is_spent(given.rules()), "{number} of 5");
    }
    repair = repair.acting(ActionId(5), Deed::Start, given.rules());
    assert!(repair.is_spent(given.rules()));
    given.later(Span::seconds(600));
    assert!(!repair.is_spent(given.rules()), "a window later");
    for number in 0..200 {
        repair = repair.acting(ActionId(number), Deed::Start, given.rules());
    }
    assert_eq!(repair.starts.len(), STARTS_MAX);
}

#[test]
fn dockers_own_policy_is_waited_for_as_long_as_its_pauses_last() {
    for (restarts, at_least, at_most) in [(0, 5_000, 5_000), (5, 6_400, 6_400), (30, 120_000, 120_000)] {
        let facts = Facts { restart: DockersPolicy::Always, restarts, ..Facts::default() };
        let given = Given { facts, ..Given::default() };
        let Phase::Docker { until } =
            in_phase(Phase::Unseen).ended(ending(Ender::Crash), given.rules()).phase
        else {
            panic!("not Docker's turn")
        };
        let wait = until.since(NOW).0;
        assert!((at_least..=at_most).contains(&wait), "{restarts}: {wait}");
    }
}

#[test]
fn an_action_that_never_reports_its_end_is_taken_for_unknown() {
    let mut given = Given::default();
    let acting = in_phase(Phase::Acting { action: ActionId(1), deed: Deed::Start, since: NOW });
    given.later(ACTING_AT_MOST);
    assert_eq!(acting.after(Input::Tick, given.rules()).phase.word(), "docker");
}

#[test]
fn a_restart_of_a_dead_container_waits_for_its_grace() {
    let given = Given::default();
    let young = in_phase(Phase::Runs { since: Boot(NOW.0 - 10_000) });
    let Phase::Ailing { at, .. } =
        young.after(Input::Dead { others_within: Span::ZERO }, given.rules()).phase
    else {
        panic!("not ailing")
    };
    assert_eq!(at.since(NOW), Span::seconds(20));
}

#[test]
fn a_lost_network_waits_for_no_grace() {
    let given = Given::default();
    let at = |repair: &Repair| {
        let Phase::Ailing { at, .. } = repair.phase else { panic!("{}", repair.phase.word()) };
        at
    };
    let young = in_phase(Phase::Runs { since: Boot(NOW.0 - 10_000) });
    let lost = young.after(Input::NetworkLost, given.rules());
    assert_eq!(at(&lost), NOW);
    let doubted = young.after(Input::Dead { others_within: Span::ZERO }, given.rules());
    assert!(at(&doubted) > NOW);
    assert_eq!(at(&doubted.after(Input::NetworkLost, given.rules())), NOW);
    // What waits for something else goes on waiting.
    let waits = Repair { waits: Some(HealWait::LastServing), ..doubted };
    assert_eq!(waits.after(Input::NetworkLost, given.rules()), waits);
    // And what is restarted slowly is not hurried.
    let spent = in_phase(Phase::Ailing { since: NOW, at: Boot(NOW.0 + 1), spent: true });
    assert_eq!(spent.after(Input::NetworkLost, given.rules()), spent);
}

#[test]
fn a_restart_that_did_not_work_is_no_answer_to_a_lost_network() {
    let given = Given::default();
    let deed = Deed::Restart { stop_timeout: Span::seconds(10) };
    let acting = in_phase(Phase::Acting { action: ActionId(7), deed, since: NOW });
    let acting = Repair { rejoined: Some(5), ..acting };
    for (end, rejoined) in [
        (End::Done, Some(5)),
        (End::Failed, None),
        (End::NotBegun, None),
        (End::Superseded, None),
        (End::Unknown, None),
    ] {
        assert_eq!(acting.after(Input::Finished(end), given.rules()).rejoined, rejoined, "{end:?}");
    }
}

#[test]
fn what_ended_during_a_restart_that_did_nothing_was_not_ours() {
    let given = Given::default();
    let deed = Deed::Restart { stop_timeout: Span::seconds(10) };
    let acting = in_phase(Phase::Acting { action: ActionId(7), deed, since: NOW });
    let heard = |inputs: &[Input]| {
        inputs.iter().fold(acting.clone(), |repair, input| repair.after(*input, given.rules()))
    };
    let died = Input::Died { exit: Some(143), oom: false };
    for (inputs, superseded, not_begun) in [
        (vec![Input::Signal(15), died, Input::Stop], "stopping", "stopping"),
        (vec![Input::Signal(9), died], "judging", "judging"),
        (vec![died], "due", "due"),
        (Vec::new(), "unseen", "ailing"),
    ] {
        let after = |end| heard(&inputs).after(Input::Finished(end), given.rules());
        assert_eq!(after(End::Superseded).phase.word(), superseded, "{inputs:?}");
        assert_eq!(after(End::NotBegun).phase.word(), not_begun, "{inputs:?}");
        assert_eq!(after(End::Done).phase.word(), "runs", "it was our own restart");
        assert_eq!(after(End::Failed).phase.word(), "due", "ours may have ended it");
        assert_eq!(after(End::Superseded).meanwhile, None);
    }
}

#[test]
fn a_start_that_is_told_late_is_not_that_of_the_restart_under_way() {
    let given = Given::default();
    let deed = Deed::Restart { stop_timeout: Span::seconds(10) };
    let acting = in_phase(Phase::Acting { action: ActionId(7), deed, since: NOW });
    for (at, after) in [(NOW - Span(1), "acting"), (NOW, "runs")] {
        assert_eq!(acting.after(Input::Start, Rules { at, ..given.rules() }).phase.word(), after);
    }
}

#[test]
fn a_harmless_signal_takes_nothing_back_of_a_kill() {
    let given = Given::default();
    let runs = in_phase(Phase::Runs { since: Boot(0) });
    let died = Input::Died { exit: Some(137), oom: false };
    for (signals, after) in [(&[9, 1][..], "judging"), (&[1, 9], "judging"), (&[1], "due")] {
        let signalled = signals
            .iter()
            .fold(runs.clone(), |repair, signal| repair.after(Input::Signal(*signal), given.rules()));
        assert_eq!(signalled.after(died, given.rules()).phase.word(), after, "{signals:?}");
    }
}

#[test]
fn what_is_heard_late_was_not_long_ago_by_the_engines_clock() {
    let given = Given::default();
    let runs = in_phase(Phase::Runs { since: Boot(0) });
    let second = 1_000_000_000;
    let signalled = runs.after(Input::Signal(9), Rules { engine_time: 50 * second, ..given.rules() });
    // We were frozen for half a minute between the two.
    let later = NOW + Span::seconds(30);
    let after = |engine_time| {
        let rules = Rules { at: later, now: later, engine_time, ..given.rules() };
        signalled.after(Input::Died { exit: Some(137), oom: false }, rules).phase.word()
    };
    assert_eq!(after(50 * second + 3_000_000), "judging", "a person killed it");
    assert_eq!(after(80 * second), "due", "it was long ago by both clocks");
    assert_eq!(after(0), "due", "nobody knows when it happened");
    assert_eq!(after(second), "due", "that clock was set");
}

#[test]
fn a_kill_that_is_told_after_the_death_was_its_cause() {
    let died = |exit| Input::Died { exit: Some(exit), oom: false };
    // Docker's own policy goes first, so that there is time to hear of it.
    let given =
        Given { facts: Facts { restart: DockersPolicy::Always, ..Facts::default() }, ..Given::default() };
    let runs = in_phase(Phase::Runs { since: Boot(0) });
    let after = |exit, signal, later| {
        let died = runs.after(died(exit), given.rules());
        assert_eq!(died.phase.word(), "docker");
        died.after(Input::Signal(signal), Rules { at: NOW + later, now: NOW + later, ..given.rules() })
    };
    let told = after(137, 9, Span(40));
    let Phase::Judging { ending, .. } = told.phase else { panic!("{:?}", told.phase) };
    assert_eq!((ending.who, ending.at), (Ender::Kill, NOW));
    assert_eq!(after(143, 15, Span(40)).phase.word(), "judging");
    // It ended otherwise; the signal ends nothing; that was long ago.
    for (exit, signal, later) in [(1, 9, Span(40)), (129, 1, Span(40)), (137, 9, Span::seconds(3))] {
        assert_eq!(after(exit, signal, later).phase.word(), "docker", "{exit} {signal}");
    }
}

#[test]
fn every_moment_moves_with_the_clock() {
    for phase in phases() {
        let mut repair = in_phase(phase);
        repair.starts = vec![Boot(5)];
        repair.signal = Some(Signal { number: 9, at: Boot(6), first: Boot(4), engine_time: 7 });
        repair.oom = Some(Boot(7));
        repair.last = Some(ending(Ender::Crash));
        let before = repair.phase.deadline();
        repair.shift(1_000);
        assert_eq!(repair.phase.deadline(), before.map(|at| at.shift(1_000)));
        assert_eq!(repair.starts, [Boot(1_005)]);
        let moved = Signal { number: 9, at: Boot(1_006), first: Boot(1_004), engine_time: 7 };
        assert_eq!(repair.signal, Some(moved));
        assert_eq!((repair.oom, repair.heard), (Some(Boot(1_007)), Boot(NOW.0 + 900)));
        assert_eq!(repair.last.map(|last| last.at), Some(Boot(NOW.0 + 900)));
    }
}

#[test]
fn who_ended_what_a_list_shows_ended_depends_on_whether_its_engine_was_lost() {
    let given = Given::default();
    let running = in_phase(Phase::Runs { since: Boot(NOW.0 - 60_000) });
    for (engine_was_lost, who) in [(true, Ender::Engine), (false, Ender::Unseen)] {
        let seen = Input::SeenEnded { at: NOW, exit: Some(1), oom: false, engine_was_lost };
        let Phase::Judging { ending, until } = running.after(seen, given.rules()).phase else {
            panic!("not being found out")
        };
        assert_eq!((ending.who, until), (who, NOW + PAST_ARRIVES), "{engine_was_lost}");
    }
}

#[test]
fn a_stop_is_certain_a_little_later() {
    let given = Given::default();
    for phase in [Phase::Judging { ending: ending(Ender::Kill), until: NOW }, Phase::Due { at: NOW }] {
        let Phase::Stopping { ending, until } = in_phase(phase).after(Input::Stop, given.rules()).phase
        else {
            panic!("not being stopped")
        };
        assert_eq!((ending.who, until), (Ender::Stop, NOW + STOP_CERTAIN));
    }
}

#[test]
fn want_of_memory_explains_a_crash_that_was_just_heard_of_and_nothing_else() {
    for (who, oom, after, explained) in [
        (Ender::Crash, false, 2_000, true),
        (Ender::Crash, false, 2_001, false),
        (Ender::Crash, true, 0, false),
        (Ender::Stop, false, 0, false),
        (Ender::Kill, false, 0, false),
    ] {
        let last = Some(Ending { oom, at: NOW, ..ending(who) });
        let repair = Repair { last, ..in_phase(Phase::Left) };
        let found = repair.explained_by_memory(NOW + Span(after));
        assert_eq!(found.is_some(), explained, "{who:?}, oom {oom}, {after} ms after");
    }
}

#[test]
fn a_list_from_before_what_was_heard_says_nothing() {
    let given = Given::default();
    for phase in phases() {
        let repair = in_phase(phase);
        let at = repair.heard.shift(-1);
        let (exit, oom, engine_was_lost) = (Some(1), false, false);
        for seen in [
            Input::SeenRunning { at },
            Input::SeenRestarting { at },
            Input::SeenCreated { at },
            Input::SeenEnded { at, exit, oom, engine_was_lost },
        ] {
            assert_eq!(repair.after(seen, given.rules()), repair, "{seen:?}");
        }
    }
}

#[test]
fn a_signal_from_before_a_start_explains_no_later_death() {
    let given = Given::default();
    for phase in phases() {
        let signal = Some(Signal { number: 9, at: NOW, first: NOW, engine_time: 0 });
        let started = Repair { signal, ..in_phase(phase.clone()) }.after(Input::Start, given.rules());
        assert_eq!(started.signal, None, "{}", phase.word());
    }
}

#[test]
fn a_stop_between_two_starts_ends_what_crashed_before_and_nothing_else() {
    let given = Given::default();
    for (who, exit) in [(Ender::Crash, Some(1)), (Ender::Kill, None)] {
        let docker = Repair { last: Some(ending(who)), ..in_phase(Phase::Docker { until: NOW }) };
        let Phase::Stopping { ending, .. } = docker.after(Input::Stop, given.rules()).phase else {
            panic!("not being stopped")
        };
        assert_eq!((ending.who, ending.exit), (Ender::Stop, exit));
    }
}

#[test]
fn what_was_stored_before_a_phase_knew_that_the_budget_was_spent_is_read() {
    let ailing = Repair {
        waits: Some(HealWait::Spent),
        ..in_phase(Phase::Ailing { since: NOW, at: NOW, spent: true })
    };
    assert!(ailing.is_given_up());
    let mut stored = serde_json::to_value(&ailing).unwrap();
    // As it was written then.
    stored["spent"] = true.into();
    stored["phase"]["ailing"].as_object_mut().unwrap().remove("spent").unwrap();
    let read: Repair = serde_json::from_value(stored).unwrap();
    assert_eq!(read, Repair { phase: Phase::Ailing { since: NOW, at: NOW, spent: false }, ..ailing });
    // It says so again when its time comes: its starts are counted still.
    assert_eq!(read.deadline(), Some(NOW));
}

#[test]
fn what_is_missing_again_is_no_news() {
    let mut given = Given::default();
    let gone = in_phase(Phase::Runs { since: NOW }).after(Input::Removed, given.rules());
    given.later(Span::seconds(30));
    assert_eq!(gone.after(Input::Removed, given.rules()), gone);
    let known = Repair { id: "c1".into(), ..gone.clone() };
    assert_ne!(known.after(Input::Removed, given.rules()), known, "one that was seen since is gone anew");
}

#[test]
fn a_list_that_finds_it_restarting_leaves_docker_its_time() {
    let given = Given::default();
    let seen = Input::SeenRestarting { at: NOW };
    let Phase::Docker { until } = in_phase(Phase::Unseen).after(seen, given.rules()).phase else {
        panic!("not Docker's")
    };
    assert_eq!(until.since(NOW), DOCKERS_LEAST);
}

#[test]
fn a_stop_under_way_when_the_engine_was_killed_is_how_it_ended() {
    let given = Given::default();
    let signal = Some(Signal { number: 15, at: NOW, first: NOW, engine_time: 0 });
    let stopped = Repair { signal, ..in_phase(Phase::Runs { since: Boot(0) }) };
    let held = stopped.after(Input::EndedWithEngine { exit: Some(137), oom: false }, given.rules());
    assert_eq!(held.phase, Phase::Held { since: NOW });
    assert_eq!(held.last.map(|last| (last.who, last.exit)), Some((Ender::Stop, Some(137))));
}

#[test]
fn what_it_waited_for_is_over_in_another_phase() {
    let given = Given::default();
    let why = HealWait::Paused { scope: crate::domain::command::Scope::All };
    for phase in phases() {
        for (name, input, _) in TABLE {
            let before = Repair { waits: Some(why.clone()), ..in_phase(phase.clone()) };
            let after = before.after(input, given.rules());
            let moved = after.phase.word() != before.phase.word();
            assert!(!moved || after.waits.is_none(), "{} {name}: {:?}", phase.word(), after.phase);
        }
    }
}
