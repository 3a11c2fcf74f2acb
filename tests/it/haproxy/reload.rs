//! Reloads that meet trouble: an HAProxy that is slow, refuses, dies, or is cut off in the middle, and a file that cannot be
//! replaced.

use super::alone::is_alone;
use super::gate::{Cut, Gate};
use super::lab::{Lab, until};
use std::fmt::Write as _;
use std::process::Command as Program;
use std::time::Duration;
use supervisor::actuator::haproxy::template::{DEFAULT_TEMPLATE, Rendered, render};
use supervisor::actuator::haproxy::{
    ApplyError, BindCheck, Client, Command, FileError, Outcome, Recipient, Runtime, Stage, Target, apply,
};

/// HAProxy loads so many in 0.1 to 0.3 s: long enough for something to happen meanwhile.
const FILLERS: u32 = 6_000;

/// A configuration that takes HAProxy long to load; another one for each `number`.
fn slow(lab: &Lab, number: u32) -> Rendered {
    let mut template = DEFAULT_TEMPLATE.to_owned();
    for filler in 0..FILLERS {
        let _ = write!(template, "\nbackend filler-{filler} from http\n    server s 127.0.0.1:9\n");
    }
    let mut model = lab.model.clone();
    model.proxy.maxconn += number;
    render(&model, &template).unwrap()
}

fn on_disk(lab: &Lab, file: &str) -> String {
    std::fs::read_to_string(lab.dir.path().join(file)).unwrap()
}

async fn reloads(lab: &Lab) -> u32 {
    let mut reloads = 0;
    // It may begin anew in this moment.
    until("the master answers", async || {
        let seen = lab.runtime().processes().await;
        reloads = seen.as_ref().map_or(0, |seen| seen.master.reloads);
        seen.is_ok()
    })
    .await;
    reloads
}

async fn in_force(lab: &Lab, rendered: &Rendered) {
    until("the new configuration is in force", async || {
        let info = lab.runtime().info().await;
        info.is_ok_and(|info| info.description.as_ref() == Some(&rendered.description))
    })
    .await;
}

/// The reload is about to be sent, or is sent already.
async fn in_place(lab: &Lab, rendered: &Rendered) {
    until("the new file is in place", async || on_disk(lab, "haproxy.cfg") == rendered.text).await;
}

#[tokio::test]
async fn a_slow_reload_is_unknown_when_its_time_is_over_and_is_not_sent_again() {
    let lab = Lab::start(|_| {}).await;
    let before = reloads(&lab).await;
    let (new, patient) = (slow(&lab, 1), lab.target(BindCheck::Local));
    let impatient = Target { deadline: Duration::from_millis(20), ..patient.clone() };
    let outcome = apply(&impatient, &new).await.unwrap();
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    assert_eq!(on_disk(&lab, "haproxy.cfg"), new.text, "HAProxy may load it yet, and its binary accepted it");
    in_force(&lab, &new).await;
    assert_eq!(apply(&patient, &new).await.unwrap(), Outcome::Unchanged);
    assert_eq!(reloads(&lab).await, before + 1);
    assert_eq!(on_disk(&lab, "state"), "1\n", "states are not left behind");
    assert_eq!(lab.site().await, "onprem");

    let outcome = apply(&patient, &slow(&lab, 2)).await.unwrap();
    let Outcome::Applied { took, .. } = outcome else { panic!("{outcome:?}") };
    assert!(took > impatient.deadline, "{took:?}: this is no slow reload");
}

/// While a 2.6 or 3.0 master begins anew it refuses every connection; later ones say that they are busy.
#[tokio::test]
async fn a_reload_beside_somebody_elses_is_applied_all_the_same() {
    let lab = Lab::start(|_| {}).await;
    let target = lab.target(BindCheck::Local);
    let outcome = apply(&target, &slow(&lab, 1)).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    for (round, pause) in [0, 0, 10, 30].map(Duration::from_millis).into_iter().enumerate() {
        let new = slow(&lab, 2 + u32::try_from(round).unwrap());
        let (wanted, ours) = (new.clone(), target.clone());
        let applying = tokio::spawn(async move { apply(&ours, &wanted).await });
        if round > 0 {
            in_place(&lab, &new).await;
        }
        tokio::time::sleep(pause).await;
        let master = lab.runtime().master().unwrap().clone();
        // What it says is not for us.
        let _ = master.raw(Recipient::Owner, &Command::reload()).await;
        let outcome = applying.await.unwrap().unwrap();
        assert!(matches!(outcome, Outcome::Applied { .. }), "round {round}: {outcome:?}");
        in_force(&lab, &new).await;
        assert_eq!(lab.site().await, "onprem");
        until("all reloads are over", async || {
            lab.runtime().processes().await.is_ok_and(|seen| seen.failed == 0 && seen.old_workers.is_empty())
        })
        .await;
    }
}

#[tokio::test]
async fn a_master_that_refuses_is_waited_for_and_without_it_nothing_is_touched() {
    let lab = Lab::start(|_| {}).await;
    let target = lab.target(BindCheck::Local);
    let (old, new) = (on_disk(&lab, "haproxy.cfg"), lab.rendered(|model| model.proxy.maxconn += 1));
    let (socket, aside) = (lab.dir.path().join("master.sock"), lab.dir.path().join("aside"));
    std::fs::rename(&socket, &aside).unwrap();
    let Err(error) = apply(&target, &new).await else { panic!("nobody could be told to reload") };
    assert!(matches!(error, ApplyError::NotReachable(_)), "{error}");
    assert_eq!(on_disk(&lab, "haproxy.cfg"), old);

    let (wanted, ours) = (new.clone(), target.clone());
    let applying = tokio::spawn(async move { apply(&ours, &wanted).await });
    // Longer than HAProxy refuses at a reload of an ordinary configuration.
    tokio::time::sleep(Duration::from_millis(300)).await;
    std::fs::rename(&aside, &socket).unwrap();
    let outcome = applying.await.unwrap().unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    assert_eq!(reloads(&lab).await, 1);
}

#[tokio::test]
async fn a_haproxy_that_dies_during_its_reload_and_is_started_again_runs_the_new_configuration() {
    for (round, pause) in [0, 15, 40, 80].map(Duration::from_millis).into_iter().enumerate() {
        let mut lab = Lab::start(|_| {}).await;
        let new = slow(&lab, 1);
        let (wanted, target) = (new.clone(), lab.target(BindCheck::Local));
        let applying = tokio::spawn(async move { apply(&target, &wanted).await });
        in_place(&lab, &new).await;
        // Into each part of the reload.
        tokio::time::sleep(pause).await;
        lab.kill();
        until("nobody of the dead HAProxy is left", async || lab.running().is_empty()).await;
        lab.start_again().await;
        let outcome = applying.await.unwrap().unwrap();
        assert!(matches!(outcome, Outcome::Applied { .. }), "round {round}: {outcome:?}");
        in_force(&lab, &new).await;
        assert_eq!(on_disk(&lab, "haproxy.cfg"), new.text);
        assert_eq!(lab.site().await, "onprem");
        until("a master and a worker run", async || lab.running().len() == 2).await;
    }
}

#[tokio::test]
async fn half_a_reply_proves_neither_a_good_nor_a_bad_reload() {
    for (word, cuts) in [("reload", 1), ("show proc", 5)] {
        let lab = Lab::start(|_| {}).await;
        let mut target = lab.target(BindCheck::Skip);
        let through = |cuts| {
            let gate = Gate::before(&lab.dir.path().join("master.sock"), word, cuts, Cut::Half);
            let admin = Client::unix(lab.dir.path().join("admin.sock"));
            (Runtime::new(admin, Some(Client::unix(&gate.path))), gate)
        };
        let gate;
        (target.runtime, gate) = through(cuts);
        let good = lab.rendered(|model| model.proxy.maxconn += 1);
        let outcome = apply(&target, &good).await.unwrap();
        assert!(matches!(outcome, Outcome::Applied { .. }), "{word}: {outcome:?}");
        assert_eq!((gate.cuts_left(), reloads(&lab).await), (0, 1), "{word}");

        std::fs::remove_file(&gate.path).unwrap();
        let gate;
        (target.runtime, gate) = through(cuts);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken_at = taken.local_addr().unwrap().to_string();
        let bad = lab.rendered(|model| model.proxy.metrics_bind = Some(taken_at));
        let outcome = apply(&target, &bad).await.unwrap();
        assert!(matches!(outcome, Outcome::Rejected { stage: Stage::Reload, .. }), "{word}: {outcome:?}");
        assert_eq!((gate.cuts_left(), reloads(&lab).await), (0, 2), "{word}");
        assert_eq!(on_disk(&lab, "haproxy.cfg"), good.text);
        assert_eq!(lab.site().await, "onprem");
    }
}

/// A file that is mounted into a container by itself cannot be replaced by rename (EBUSY).
#[test]
fn a_configuration_that_is_mounted_as_a_single_file_is_left_alone_and_the_mount_is_told() {
    const NAME: &str = "haproxy::reload::a_configuration_that_is_mounted_as_a_single_file_is_left_alone_and_the_mount_is_told";
    if is_alone(NAME, &["--mount", "--propagation", "private"], "true") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(mounted_as_a_single_file());
    }
}

async fn mounted_as_a_single_file() {
    let lab = Lab::start(|_| {}).await;
    let (old, pid) = (on_disk(&lab, "haproxy.cfg"), lab.runtime().info().await.unwrap().pid);
    let file = lab.config_file();
    let mounted = Program::new("mount").arg("--bind").args([&file, &file]).status().unwrap();
    assert!(mounted.success());
    let new = lab.rendered(|model| model.proxy.maxconn += 1);
    let error = apply(&lab.target(BindCheck::Local), &new).await.unwrap_err();
    assert!(matches!(&error, ApplyError::File(FileError::Mounted(path)) if *path == file), "{error:?}");
    assert!(error.to_string().contains("mount its directory instead"), "{error}");
    assert_eq!(on_disk(&lab, "haproxy.cfg"), old);
    assert_eq!(on_disk(&lab, "state"), "1\n", "states are not left behind");
    let left: Vec<String> = std::fs::read_dir(lab.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".new"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!((lab.runtime().info().await.unwrap().pid, reloads(&lab).await), (pid, 0));
    assert_eq!(lab.site().await, "onprem");
}
