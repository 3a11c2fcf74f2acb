//! What people order: traffic moves without a loss, and what must not be done is denied with the reason.

use std::time::Duration;

use anyhow::Result;

use crate::support::docker;
use crate::support::faults::Fault;
use crate::support::stack::{CLOUD, ONPREM, SUPERVISOR};
use crate::support::wait::{self, Seen};
use crate::support::{measure, supervisor};
use crate::world::{Failed, Needs, failures, on_stack, traffic};

const DEADLINE: Duration = Duration::from_secs(90);

/// Traffic moves within milliseconds of an order; a busy machine gets some patience.
const MOVE_DEADLINE: Duration = Duration::from_secs(5);

#[test]
fn a_dry_run_says_what_the_order_then_does_and_moves_nothing() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |_| async {
        let load = traffic()?;
        let dry = supervisor::command(&["failover", "api", "--to", CLOUD.site, "--dry-run"]).await?;
        assert_eq!(dry.code, 0, "{dry:?}");
        assert!(dry.stdout.contains(ONPREM.site) && dry.stdout.contains(CLOUD.site), "{}", dry.stdout);
        let moved = load
            .watch(dry.began, Duration::from_secs(1), |records| {
                measure::first_finished_from(records, CLOUD.site, dry.began)
            })
            .await;
        assert_eq!(moved, None, "a dry run moved traffic");
        assert_eq!(supervisor::service_named("api").await?.serving, ONPREM.site);
        let (records, _) = load.stop().await?;
        assert_eq!(failures(&records).len(), 0);
        Ok(())
    })
}

#[test]
fn a_failover_by_hand_under_200_requests_a_second_loses_none() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |_| async {
        let load = traffic()?;
        for (order, to) in [
            (["failover", "api", "--to", CLOUD.site].as_slice(), CLOUD.site),
            (["failback", "api"].as_slice(), ONPREM.site),
        ] {
            let ran = supervisor::command(order).await?;
            assert_eq!(ran.code, 0, "{order:?}: {ran:?}");
            let first = load
                .watch(ran.began, MOVE_DEADLINE, |records| {
                    measure::first_finished_from(records, to, ran.began)
                })
                .await;
            let first =
                first.unwrap_or_else(|| panic!("{order:?}: no answer from {to} in {MOVE_DEADLINE:?}"));
            println!("{order:?}: first answer from {to} after {:?}", first.duration_since(ran.began));
            wait::until("the status to agree", MOVE_DEADLINE, || async {
                let serving = supervisor::service_named("api").await?.serving;
                Ok(if serving == to { Seen::Yes(()) } else { Seen::NotYet(format!("{serving} serves")) })
            })
            .await?;
        }
        let (records, _) = load.stop().await?;
        assert_eq!(failures(&records).len(), 0, "{:?}", failures(&records));
        Ok(())
    })
}

#[test]
fn a_server_that_is_drained_and_put_back_under_200_requests_a_second_loses_none() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |_| async {
        let load = traffic()?;
        for how in ["drain", "maint"] {
            let ran = supervisor::command(&[how, ONPREM.container, "--reason", "kernel update"]).await?;
            assert_eq!(ran.code, 0, "{how}: {ran:?}");
            let first = load
                .watch(ran.began, MOVE_DEADLINE, |records| {
                    measure::first_finished_from(records, CLOUD.site, ran.began)
                })
                .await;
            let first = first.unwrap_or_else(|| panic!("{how}: no answer from cloud in {MOVE_DEADLINE:?}"));
            println!("{how}: first answer from cloud after {:?}", first.duration_since(ran.began));
            assert!(supervisor::service_named("api").await?.servers.iter().any(|server| server.out));
            let ran = supervisor::command(&["ready", ONPREM.container]).await?;
            assert_eq!(ran.code, 0, "{how}: {ran:?}");
            // By itself it goes back when the failback time is over.
            let ran = supervisor::command(&["failback", "api"]).await?;
            assert_eq!(ran.code, 0, "{how}: {ran:?}");
            wait::until("on-prem to serve again", MOVE_DEADLINE, || async {
                let api = supervisor::service_named("api").await?;
                let back = api.serving == ONPREM.site && api.servers.iter().all(|server| !server.out);
                Ok(if back { Seen::Yes(()) } else { Seen::NotYet(api.in_short()) })
            })
            .await?;
        }
        let (records, _) = load.stop().await?;
        assert_eq!(failures(&records).len(), 0, "{:?}", failures(&records));
        Ok(())
    })
}

#[test]
fn an_order_to_a_site_that_does_not_exist_is_denied_and_names_those_that_do() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |_| async {
        let ran = supervisor::command(&["failover", "api", "--to", "moon"]).await?;
        assert_ne!(ran.code, 0, "{ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        for word in ["moon", ONPREM.site, CLOUD.site] {
            assert!(said.contains(word), "{word:?} is missing: {said}");
        }
        assert_eq!(supervisor::service_named("api").await?.serving, ONPREM.site);
        Ok(())
    })
}

#[test]
fn an_order_to_a_sick_site_is_denied_with_why_it_is_sick() -> Result<(), Failed> {
    on_stack(Needs::Everything, DEADLINE, |engine| async move {
        let load = traffic()?;
        Fault::Http500.apply(&engine, &CLOUD).await?;
        wait::until("supervisor to see cloud down", Duration::from_secs(15), || async {
            let api = supervisor::service_named("api").await?;
            let down = api.health_at(CLOUD.site) == "down";
            Ok(if down { Seen::Yes(()) } else { Seen::NotYet(api.in_short()) })
        })
        .await?;
        let ran = supervisor::command(&["failover", "api", "--to", CLOUD.site]).await?;
        assert_ne!(ran.code, 0, "{ran:?}");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(CLOUD.site) && said.contains("500"), "{said}");
        assert_eq!(supervisor::service_named("api").await?.serving, ONPREM.site);
        let (records, _) = load.stop().await?;
        assert!(records.iter().all(|record| record.site() == Some(ONPREM.site)));
        Ok(())
    })
}

#[test]
fn of_two_operators_at_the_same_moment_one_moves_traffic_and_the_other_is_told_why_not() -> Result<(), Failed>
{
    on_stack(Needs::Everything, DEADLINE, |_| async {
        let load = traffic()?;
        // In one shell inside the container, so that nothing but the scheduler separates them.
        let script = "for n in 1 2; do \
                          (said=$(supervisor failover api --to cloud 2>&1); echo \"$?|$said\" | tr '\\n' ' '; echo) & \
                      done; wait";
        let ran = docker::docker(&["exec", SUPERVISOR, "sh", "-c", script], b"", DEADLINE).await?;
        let answers: Vec<(&str, &str)> = ran.stdout.lines().filter_map(|line| line.split_once('|')).collect();
        assert_eq!(answers.len(), 2, "{ran:?}");
        assert!(answers.iter().any(|(code, _)| *code == "0"), "nobody was obeyed: {answers:?}");
        assert!(answers.iter().all(|(_, said)| !said.trim().is_empty()), "one was told nothing: {answers:?}");
        assert_ne!(answers[0].1, answers[1].1, "both were told that they moved it");
        let (records, _) = load.stop().await?;
        assert_eq!(failures(&records).len(), 0, "{:?}", failures(&records));
        assert_eq!(supervisor::service_named("api").await?.serving, CLOUD.site);
        Ok(())
    })
}
