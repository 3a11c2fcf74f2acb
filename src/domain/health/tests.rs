//! Every (health, evidence) pair, then random evidence.

use super::*;
use crate::domain::witness::{ContainerFault, ProbeFault};
use proptest::prelude::*;

const BAR: Bar = Bar { rise: 2, fall: 3, grace: false, path: PathView::Credible };
const HARD: Cause = Cause::Container(ContainerFault::Paused);
const FULL: Cause = Cause::Probe(ProbeFault::Silent);
const PATH: Cause = Cause::Probe(ProbeFault::ConnectTimeout);
const T0: Boot = Boot(0);
const NOW: Boot = Boot(1_000);

fn run(count: u16, path_only: bool) -> Run {
    let cause = if path_only { PATH } else { FULL };
    Run { count, first: T0, cause, path_only, contrary: None }
}

fn new_run(cause: Cause, path_only: bool) -> Option<Run> {
    Some(Run { count: 1, first: NOW, cause, path_only, contrary: None })
}

#[test]
fn every_health_has_an_answer_to_every_kind_of_evidence() {
    let unknown = |good, bad| Health::Unknown { good, bad };
    let up = |bad| Health::Up { since: T0, bad };
    let down = |good| Health::Down { since: T0, cause: HARD, good };
    let newly_up = Health::Up { since: NOW, bad: None };
    let newly_down = |cause| Health::Down { since: NOW, cause, good: 0 };
    let (good, hard, full, path, void) =
        (Evidence::Good, Evidence::Hard(HARD), Evidence::Full(FULL), Evidence::Path(PATH), Evidence::Void);
    let table = [
        (unknown(0, None), good, unknown(1, None)),
        (unknown(1, None), good, newly_up),
        (unknown(0, Some(run(1, false))), good, unknown(1, None)),
        (unknown(1, None), hard, newly_down(HARD)),
        (unknown(1, None), full, unknown(0, new_run(FULL, false))),
        (unknown(0, Some(run(2, false))), full, newly_down(FULL)),
        (unknown(1, None), path, unknown(0, new_run(PATH, true))),
        (unknown(0, Some(run(2, true))), path, newly_down(PATH)),
        (unknown(1, Some(run(1, false))), void, unknown(0, None)),
        (up(None), good, up(None)),
        (up(Some(run(2, false))), good, up(None)),
        (up(None), hard, newly_down(HARD)),
        (up(None), full, up(new_run(FULL, false))),
        (up(Some(run(1, false))), full, up(Some(run(2, false)))),
        (up(Some(run(2, false))), full, newly_down(FULL)),
        (up(None), path, up(new_run(PATH, true))),
        (up(Some(run(2, true))), path, newly_down(PATH)),
        (up(Some(run(2, false))), void, up(None)),
        (down(0), good, down(1)),
        (down(1), good, newly_up),
        (down(1), hard, down(0)),
        (down(1), full, down(0)),
        (down(1), path, down(0)),
        (down(1), void, down(0)),
        (unknown(1, None), Evidence::Untried, unknown(1, None)),
        (unknown(0, Some(run(2, true))), Evidence::Untried, unknown(0, Some(run(2, true)))),
        (up(Some(run(2, false))), Evidence::Untried, up(Some(run(2, false)))),
        (down(1), Evidence::Untried, down(1)),
    ];
    for (before, evidence, after) in table {
        assert_eq!(before.after(evidence, NOW, BAR), after, "{before:?} and {evidence:?}");
    }
}

#[test]
fn the_grace_holds_back_everything_but_hard_evidence() {
    let bar = Bar { grace: true, ..BAR };
    let mut health = Health::default();
    for _ in 0..10 {
        health = health.after(Evidence::Full(FULL), NOW, bar).after(Evidence::Path(PATH), NOW, bar);
    }
    assert!(!health.is_down());
    assert!(health.after(Evidence::Hard(HARD), NOW, bar).is_down());
    assert!(
        health.after(Evidence::Full(FULL), NOW, BAR).is_down(),
        "once the grace is over, what was counted counts"
    );
}

#[test]
fn path_errors_act_only_when_nobody_contradicts() {
    let failing = Health::Up { since: T0, bad: Some(run(2, true)) };
    for (path, acts) in [
        (PathView::Credible, true),
        (PathView::WitnessDue, false),
        (PathView::Contradicted, false),
        (PathView::CutOff, false),
    ] {
        let after = failing.after(Evidence::Path(PATH), NOW, Bar { path, ..BAR });
        assert_eq!(after.is_down(), acts, "{path:?}");
    }
}

#[test]
fn one_answer_among_path_errors_makes_the_run_count_fully() {
    let mixed = Health::Up { since: T0, bad: Some(run(2, true)) };
    let bar = Bar { path: PathView::CutOff, ..BAR };
    assert!(mixed.after(Evidence::Full(FULL), NOW, bar).is_down());
}

#[test]
fn haproxy_reaching_the_server_holds_the_verdict_and_its_failing_check_brings_it() {
    let failing = Health::Up { since: T0, bad: Some(run(3, true)) };
    let contradicted = failing.after_check(true, NOW, Bar { path: PathView::Contradicted, ..BAR });
    assert_eq!(contradicted.run().and_then(|run| run.contrary), Some(NOW));
    assert!(failing.after_check(false, NOW, BAR).is_down());
    let answered = Health::Up { since: T0, bad: Some(run(2, false)) };
    assert_eq!(answered.after_check(true, NOW, BAR), answered, "an answer outweighs HAProxy's word");
}

fn evidence() -> impl Strategy<Value = Evidence> {
    prop_oneof![
        4 => Just(Evidence::Good),
        1 => Just(Evidence::Hard(HARD)),
        3 => Just(Evidence::Full(FULL)),
        2 => Just(Evidence::Path(PATH)),
        1 => Just(Evidence::Void),
        1 => Just(Evidence::Untried),
    ]
}

proptest! {
    #[test]
    fn a_verdict_needs_its_count_in_a_row(
        sequence in proptest::collection::vec(evidence(), 0..60), rise in 1u16..4, fall in 1u16..4,
    ) {
        let bar = Bar { rise, fall, ..BAR };
        let mut health = Health::default();
        let (mut good, mut bad) = (0u16, 0u16);
        for (step, evidence) in sequence.into_iter().enumerate() {
            let at = Boot(i64::try_from(step).unwrap());
            let before = health;
            health = health.after(evidence, at, bar);
            let hard = matches!(evidence, Evidence::Hard(_));
            match evidence {
                Evidence::Good => (good, bad) = (good + 1, 0),
                Evidence::Void => (good, bad) = (0, 0),
                Evidence::Untried => {}
                Evidence::Hard(_) | Evidence::Full(_) | Evidence::Path(_) => (good, bad) = (0, bad + 1),
            }
            if health.is_up() && !before.is_up() {
                prop_assert!(good >= rise);
            }
            if health.is_down() && !before.is_down() {
                prop_assert!(hard || bad >= fall);
            }
            if good >= rise {
                prop_assert!(health.is_up());
            }
            if bad >= fall || hard {
                prop_assert!(health.is_down());
            }
        }
    }
}
