//! HAProxy without supervisor: it goes on serving, fails over by itself, and is found as it is afterwards.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::support::faults::Fault;
use crate::support::stack::{self, CLOUD, ONPREM, SUPERVISOR};
use crate::support::wait::{self, Seen};
use crate::support::{haproxy, measure, supervisor};
use crate::world::{Failed, Needs, WHOLE_DEADLINE, failures, on_stack, traffic};

/// Moments at which supervisor is killed.
const KILLS: u32 = 10;

/// `docker exec` needs some 100 ms before the order arrives, the switch a few: this is spread over both.
const LATEST_KILL_MS: u64 = 400;

#[test]
fn supervisor_killed_in_the_middle_of_a_switch_agrees_with_haproxy_afterwards() -> Result<(), Failed> {
    on_stack(Needs::Everything, Duration::from_secs(240), |engine| async move {
        let seed = std::env::var("SEED")
            .ok()
            .and_then(|seed| seed.parse().ok())
            .unwrap_or_else(|| fastrand::u64(..));
        println!("SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for kill in 0..KILLS {
            let load = traffic()?;
            let to =
                if supervisor::service_named("api").await?.serving == ONPREM.site { CLOUD } else { ONPREM };
            let order =
                tokio::spawn(async move { supervisor::command(&["failover", "api", "--to", to.site]).await });
            let after = Duration::from_millis(random.u64(0..LATEST_KILL_MS));
            tokio::time::sleep(after).await;
            engine.kill(SUPERVISOR).await?;
            // Cut off or carried out, both are right: what counts is what is true afterwards.
            let _ = order.await?;
            engine.start(SUPERVISOR).await?;
            wait::until("state, map and traffic to agree", WHOLE_DEADLINE, agreement).await?;
            let (records, _) = load.stop().await?;
            let failed = failures(&records);
            ensure!(
                failed.is_empty(),
                "kill {kill}, {after:?} after the order: {} failed: {failed:?}",
                failed.len()
            );
        }
        Ok(())
    })
}

#[test]
fn haproxy_alone_fails_over_and_the_returning_supervisor_adopts_it_without_a_blip() -> Result<(), Failed> {
    on_stack(Needs::Everything, Duration::from_secs(120), |engine| async move {
        engine.kill(SUPERVISOR).await?;
        let load = traffic()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let crash = Fault::Crash.apply(&engine, &ONPREM).await?.began;
        let first = load
            .watch(crash, Duration::from_secs(5), |r| measure::first_finished_from(r, CLOUD.site, crash))
            .await;
        let first = first.expect("HAProxy alone did not fail over within 5 s");
        println!("cloud answers {:?} after the crash", first.duration_since(crash));
        // The crash itself may cost the request it met; what comes after it may cost nothing.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let returned = Instant::now();
        engine.start(SUPERVISOR).await?;
        wait::until("supervisor to report that cloud serves", WHOLE_DEADLINE, || async {
            let api = supervisor::service_named("api").await?;
            let adopted = api.serving == CLOUD.site && api.health_at(ONPREM.site) == "down";
            Ok(if adopted { Seen::Yes(()) } else { Seen::NotYet(api.in_short()) })
        })
        .await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (records, _) = load.stop().await?;
        let crash_cost = measure::window(&records, crash, returned);
        assert!(crash_cost.failed <= 1, "HAProxy alone: {crash_cost:?}");
        let blip: Vec<_> = failures(&records).into_iter().filter(|record| record.due >= returned).collect();
        assert!(blip.is_empty(), "the return cost {} requests: {blip:?}", blip.len());
        let moved = measure::first_from(&records, ONPREM.site, returned);
        assert_eq!(moved, None, "the dead site answered");
        Ok(())
    })
}

/// Supervisor's state, HAProxy's map and what clients get name the same site.
async fn agreement() -> Result<Seen<()>> {
    let api = supervisor::service_named("api").await?;
    let map = haproxy::live_map().await?;
    let pool = map.get("api").cloned().unwrap_or_default();
    let answers = stack::serving_site().await?;
    let agree = api.servers_up() && api.pending == 0 && answers == api.serving && pool.contains(&api.serving);
    let found = format!("{}; the map says {pool:?}; {answers} answers", api.in_short());
    Ok(if agree { Seen::Yes(()) } else { Seen::NotYet(found) })
}
