//! HAProxy itself dies.

use std::time::Duration;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::docker::docker;
use crate::support::stack;
use crate::support::wait::{self, Seen};
use crate::world::{Failed, Needs, on_stack};

const DEADLINE: Duration = Duration::from_secs(120);

/// Docker tries again after 0.1, 0.2, 0.4 … s, and supervisor looks at an HAProxy that does not answer every second.
const BACK_WITHIN: Duration = Duration::from_secs(30);

const FILE: &str = "/etc/haproxy/haproxy.cfg";

#[test]
fn an_haproxy_that_would_die_of_its_file_comes_back_with_the_last_good_one() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |engine| async move {
        in_supervisor(&format!("echo nonsense > {FILE}")).await?;
        for pid in engine.processes("haproxy-server").await? {
            // One that ended with its master is gone already.
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
        wait::until("HAProxy to serve again", BACK_WITHIN, || async {
            stack::get_ok(stack::TRAFFIC_URL).await.map(Seen::Yes)
        })
        .await?;
        let loaded = in_supervisor(&format!("cat {FILE}")).await?;
        assert!(loaded.contains("supervisor=") && !loaded.contains("nonsense"), "{loaded}");
        Ok(())
    })
}

async fn in_supervisor(command: &str) -> Result<String> {
    docker(&["exec", "supervisor", "sh", "-c", command], b"", Duration::from_secs(10)).await?.ok()
}
