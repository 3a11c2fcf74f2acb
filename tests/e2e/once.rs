//! `supervisor --once`: one look, what it would do and why, an exit code by the worst state.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::support::docker::Ran;
use crate::support::faults::Fault;
use crate::support::measure::median;
use crate::support::stack::{CLOUD, ONPREM};
use crate::support::supervisor;
use crate::support::wait::{self, Seen};
use crate::world::{Failed, Needs, on_stack};

const DEADLINE: Duration = Duration::from_secs(90);

#[test]
fn once_names_the_serving_site_and_each_servers_health_with_its_evidence() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |_| async {
        let ran = supervisor::command(&["--once"]).await?;
        assert_eq!(ran.code, 0, "{ran:?}");
        for word in ["api", ONPREM.site, CLOUD.site, "up", "200"] {
            assert!(ran.stdout.contains(word), "{word:?} is missing:\n{}", ran.stdout);
        }
        let ran = supervisor::command(&["--once", "--format", "json"]).await?;
        let found: serde_json::Value =
            serde_json::from_str(&ran.stdout).context("--format json prints no JSON")?;
        let text = found.to_string();
        assert!(text.contains(ONPREM.site) && text.contains(CLOUD.site), "{text}");
        Ok(())
    })
}

#[test]
fn once_is_quick_when_all_answer() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |_| async {
        // `docker exec` alone costs as much: its share is measured with a command that does nothing.
        let nothing = typical(&["--version"]).await?;
        let once = typical(&["--once"]).await?;
        println!("--once {once:?}, of which docker exec {nothing:?}");
        assert!(once.saturating_sub(nothing) < Duration::from_secs(1), "{once:?}, of which exec {nothing:?}");
        Ok(())
    })
}

#[test]
fn once_ends_with_1_when_another_site_serves_and_with_2_when_none_does() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |engine| async move {
        Fault::Kill.apply(&engine, &ONPREM).await?;
        let ran = until_code(1).await?;
        assert!(ran.stdout.contains(CLOUD.site), "{}", ran.stdout);
        Fault::Kill.apply(&engine, &CLOUD).await?;
        until_code(2).await?;
        Ok(())
    })
}

async fn typical(args: &[&str]) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..5 {
        let ran = supervisor::command(args).await?;
        assert_eq!(ran.code, 0, "{ran:?}");
        times.push(ran.took);
    }
    median(&times).context("no run")
}

async fn until_code(code: i32) -> Result<Ran> {
    wait::until(&format!("--once to end with {code}"), Duration::from_secs(15), || async {
        let ran = supervisor::command(&["--once"]).await?;
        Ok(if ran.code == code { Seen::Yes(ran) } else { Seen::NotYet(format!("{ran:?}")) })
    })
    .await
}
