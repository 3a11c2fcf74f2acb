//! HAProxy, and what watches and tells: started again when they exited, left running while they run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::support::docker;
use crate::support::faults;
use crate::support::stack::{ALERTMANAGER, HAPROXY};
use crate::support::supervisor;
use crate::world::{Failed, Needs, on_stack};

const DEADLINE: Duration = Duration::from_secs(90);

#[test]
fn an_alertmanager_that_crashed_and_that_docker_leaves_dead_is_started_by_supervisor() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |engine| async move {
        let seq = supervisor::last_seq().await?;
        // A reload as people do it; after it, Docker takes the container for one that was stopped by hand, and its
        // `unless-stopped` no longer holds.
        docker::docker(&["kill", "-s", "HUP", ALERTMANAGER], b"", Duration::from_secs(15)).await?.ok()?;
        let pid = engine.inspect(ALERTMANAGER).await?.pid.context("Alertmanager does not run")?;
        faults::send(&[pid], Signal::KILL)?;
        // Docker would go first, for five seconds.
        let done = |event: &supervisor::Event| event.code == "healed" && event.words.contains(ALERTMANAGER);
        let healed =
            supervisor::told(seq, "the start of Alertmanager", Duration::from_secs(20), done).await?;
        ensure!(healed.level == "info", "it failed: {healed:?}");
        let now = engine.inspect(ALERTMANAGER).await?;
        ensure!(now.running && now.pid != Some(pid), "{now:?}");
        Ok(())
    })
}

#[test]
fn a_haproxy_that_hangs_is_told_of_and_not_restarted() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |engine| async move {
        let seq = supervisor::last_seq().await?;
        let before = engine.inspect(HAPROXY).await?;
        let processes = engine.processes(HAPROXY).await?;
        faults::send(&processes, Signal::STOP)?;
        let hung = told_and_left_alone(seq).await;
        faults::send(&processes, Signal::CONT)?;
        hung?;
        let after = engine.inspect(HAPROXY).await?;
        ensure!(after.running && after.pid == before.pid, "before {before:?}, after {after:?}");
        Ok(())
    })
}

async fn told_and_left_alone(seq: u64) -> Result<()> {
    let lost = |event: &supervisor::Event| event.code == "proxy_lost";
    supervisor::told(seq, "a HAProxy that does not answer", Duration::from_secs(30), lost).await?;
    // Long enough for what would follow at once.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let events = supervisor::events_after(seq).await?;
    let restart = events.iter().find(|event| ["heals", "healed"].contains(&event.code.as_str()));
    ensure!(restart.is_none(), "{restart:?}");
    Ok(())
}
