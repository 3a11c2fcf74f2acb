//! Every (health, evidence) pair, then random evidence.

use super::*;
use crate::domain::testing::assert_table;
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

/// The same as a table without a gap: of a verdict, `+` is a good piece of evidence in a row, `-` a bad one, `~` one on the
/// way.
#[test]
fn no_pair_of_health_and_evidence_is_left_out() {
    let table = "
          good     hard       full        path        void
unknown   unknown+ newly_down unknown-    unknown~    unknown
up        up       newly_down up-         up~         up
unknown-  unknown+ newly_down unknown--   unknown--   unknown
up-       up       newly_down up--        up--        up
unknown-- unknown+ newly_down newly_down! newly_down! unknown
up--      up       newly_down newly_down! newly_down! up
unknown~~ unknown+ newly_down newly_down! newly_down! unknown
up~~      up       newly_down newly_down! newly_down! up
unknown+  newly_up newly_down unknown-    unknown~    unknown
down      down+    down       down        down        down
down+     newly_up down       down        down        down
";
    let name = |health: Health| {
        let run = |bad: Option<Run>| {
            let of = |run: Run| if run.path_only { "~" } else { "-" }.repeat(usize::from(run.count));
            bad.map(of).unwrap_or_default()
        };
        match health {
            Health::Unknown { good, bad } => format!("unknown{}{}", "+".repeat(usize::from(good)), run(bad)),
            Health::Up { since, bad } => {
                format!("{}up{}", if since == NOW { "newly_" } else { "" }, run(bad))
            }
            Health::Down { since, good, cause } => {
                let new = if since == NOW { "newly_" } else { "" };
                let cause = if cause == HARD { "" } else { "!" };
                format!("{new}down{cause}{}", "+".repeat(usize::from(good)))
            }
        }
    };
    let healths: Vec<Health> = [None, Some(run(1, false)), Some(run(2, false)), Some(run(2, true))]
        .into_iter()
        .flat_map(|bad| [Health::Unknown { good: 0, bad }, Health::Up { since: T0, bad }])
        .chain([Health::Unknown { good: 1, bad: None }])
        .chain([0, 1].map(|good| Health::Down { since: T0, cause: HARD, good }))
        .collect();
    let evidence = [
        ("good", Evidence::Good),
        ("hard", Evidence::Hard(HARD)),
        ("full", Evidence::Full(FULL)),
        ("path", Evidence::Path(PATH)),
        ("void", Evidence::Void),
    ];
    let names: Vec<String> = healths.iter().map(|health| name(*health)).collect();
    let states: Vec<&str> = names.iter().map(String::as_str).collect();
    assert_table(table, &evidence.map(|(word, _)| word), &states, |word, state| {
        let health = healths[names.iter().position(|name| name == state).unwrap()];
        let heard = evidence.iter().find(|(name, _)| *name == word).unwrap().1;
        name(health.after(heard, NOW, BAR))
    });
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

/// HAProxy's own check, heard of by every health: does it reach the server, and did it begin after our failure?
#[test]
fn a_check_of_haproxys_speaks_only_about_a_server_that_is_up_and_fails_on_the_way() {
    let table = "
                         unknown unknown_fails up answers_badly fails_on_the_way fails_enough  down
reached,contradicted     .       .             .  .             contrary=true    contrary=true .
not_reached,credible     .       .             .  .             .                down          .
not_reached,witness_due  .       .             .  .             .                .             .
not_reached,contradicted .       .             .  .             .                .             .
not_reached,others_due   .       .             .  .             .                .             .
not_reached,cut_off      .       .             .  .             .                .             .
";
    let states =
        ["unknown", "unknown_fails", "up", "answers_badly", "fails_on_the_way", "fails_enough", "down"];
    let health = |state: &str| match state {
        "unknown" => Health::default(),
        "unknown_fails" => Health::Unknown { good: 0, bad: Some(run(3, true)) },
        "up" => Health::Up { since: T0, bad: None },
        "answers_badly" => Health::Up { since: T0, bad: Some(run(2, false)) },
        "fails_on_the_way" => Health::Up { since: T0, bad: Some(run(2, true)) },
        "fails_enough" => Health::Up { since: T0, bad: Some(run(3, true)) },
        _ => Health::Down { since: T0, cause: HARD, good: 1 },
    };
    let views = [
        ("credible", PathView::Credible),
        ("witness_due", PathView::WitnessDue),
        ("contradicted", PathView::Contradicted),
        ("others_due", PathView::OthersDue),
        ("cut_off", PathView::CutOff),
    ];
    // That it reaches the server is what contradicts us.
    let not_reached = views.iter().map(|(view, _)| format!("not_reached,{view}"));
    let inputs: Vec<String> = ["reached,contradicted".to_owned()].into_iter().chain(not_reached).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    assert_table(table, &states, &inputs, |state, input| {
        let (reached, view) = input.split_once(',').unwrap();
        let path = views.iter().find(|(name, _)| *name == view).unwrap().1;
        let before = health(state);
        let after = before.after_check(reached == "reached", NOW, Bar { path, ..BAR });
        match after {
            same if same == before => ".".to_owned(),
            Health::Down { .. } => "down".to_owned(),
            Health::Unknown { .. } | Health::Up { .. } => {
                format!("contrary={}", after.run().and_then(|run| run.contrary) == Some(NOW))
            }
        }
    });
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

#[test]
fn each_verdict_has_a_word_and_each_change_on_its_way_is_unsettled() {
    let table = [
        (Health::Unknown { good: 0, bad: None }, "unknown", true),
        (Health::Up { since: T0, bad: None }, "up", false),
        (Health::Up { since: T0, bad: Some(run(1, false)) }, "up", true),
        (Health::Down { since: T0, cause: HARD, good: 0 }, "down", false),
        (Health::Down { since: T0, cause: HARD, good: 1 }, "down", true),
    ];
    for (health, word, unsettled) in table {
        assert_eq!((health.word(), health.is_unsettled()), (word, unsettled), "{health:?}");
    }
}
