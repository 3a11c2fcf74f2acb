use super::*;
use crate::actuator::haproxy::reply::Process;

fn seen(reloads: u32, failed: u32, workers: &[u32]) -> Processes {
    Processes {
        master: Process { pid: 1, reloads },
        failed,
        workers: workers.iter().map(|&pid| Process { pid, reloads: 0 }).collect(),
        old_workers: Vec::new(),
    }
}

#[test]
fn a_reload_is_judged_by_what_changed_in_show_proc() {
    let before = seen(4, 0, &[10]);
    let after_failures = seen(4, 2, &[10]);
    let after_failure_of_31 = seen(4, 1, &[10]);
    let restarted = Processes { master: Process { pid: 2, reloads: 0 }, ..seen(0, 0, &[11]) };
    for (before, now, judged, what) in [
        (&before, seen(4, 0, &[10]), Judged::NotYet, "nothing happened yet"),
        (&before, seen(5, 0, &[11]), Judged::Loaded, "a good reload"),
        (&before, seen(5, 1, &[10]), Judged::Failed, "a bad reload"),
        (&before, seen(5, 0, &[10]), Judged::NotYet, "counted, but the new worker is not listed yet"),
        (&before, seen(5, 0, &[]), Judged::NotYet, "between two workers"),
        (&after_failures, seen(5, 3, &[10]), Judged::Failed, "failures add up"),
        (&after_failures, seen(5, 0, &[11]), Judged::Loaded, "a good reload clears them"),
        (&after_failures, seen(4, 2, &[10]), Judged::NotYet, "old failures are not ours"),
        (
            &after_failure_of_31,
            seen(5, 0, &[11]),
            Judged::Loaded,
            "or a worker is being loaded: it is asked next",
        ),
        (&after_failure_of_31, seen(5, 1, &[10]), Judged::Failed, "3.1 and later count no further than 1"),
        (&before, restarted, Judged::Loaded, "HAProxy was started anew"),
    ] {
        assert_eq!(judge(before, &now), judged, "{what}");
    }
}
