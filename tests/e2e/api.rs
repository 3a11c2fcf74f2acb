//! The demo API in its container, and the tools of these tests themselves: they must be able to see and to break.

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::support::faults::{self, Fault};
use crate::support::load::{Connections, Load, Plan};
use crate::support::stack::{self, CLOUD, ONPREM};
use crate::support::wait::{self, Seen};
use crate::support::{haproxy, measure};
use crate::world::{Failed, Needs, failures, on_stack};

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn each_server_names_its_site_as_the_first_word_of_its_root() -> Result<(), Failed> {
    on_stack(Needs::Servers, DEADLINE, |_| async {
        for server in [ONPREM, CLOUD] {
            let root = stack::get_ok(&format!("{}/", server.url)).await?;
            assert_eq!(root.split_whitespace().next(), Some(server.site), "{root}");
        }
        Ok(())
    })
}

#[test]
fn http500_fails_health_and_leaves_items_working() -> Result<(), Failed> {
    on_stack(Needs::Servers, DEADLINE, |engine| async move {
        Fault::Http500.apply(&engine, &CLOUD).await?;
        let health = stack::get_ok(&format!("{}/health", CLOUD.url)).await;
        assert!(health.is_err(), "{health:?}");
        stack::get_ok(&format!("{}/items", CLOUD.url)).await?;
        faults::mend(&engine, &CLOUD).await?;
        stack::get_ok(&format!("{}/health", CLOUD.url)).await?;
        Ok(())
    })
}

#[test]
fn every_fault_takes_a_server_down_and_mending_brings_it_back() -> Result<(), Failed> {
    on_stack(Needs::Servers, DEADLINE, |engine| async move {
        for fault in Fault::ALL {
            fault.apply(&engine, &CLOUD).await?;
            wait::until(&format!("{fault} to show"), Duration::from_secs(5), || async {
                let health = stack::get_ok(&format!("{}/health", CLOUD.url)).await;
                Ok(if health.is_err() { Seen::Yes(()) } else { Seen::NotYet("healthy".into()) })
            })
            .await?;
            faults::mend(&engine, &CLOUD).await?;
            let health = stack::get_ok(&format!("{}/health", CLOUD.url)).await;
            health.with_context(|| format!("after mending {fault}"))?;
        }
        Ok(())
    })
}

#[test]
fn the_load_generator_alone_loses_nothing_and_keeps_its_schedule() -> Result<(), Failed> {
    on_stack(Needs::Servers, DEADLINE, |_| async {
        for connections in [Connections::Fresh, Connections::KeepAlive] {
            // Straight to a server: what is measured here is the generator.
            let url = format!("{}/items", CLOUD.url);
            let plan = Plan { connections, ..Plan::new(&url, Duration::from_secs(3)) };
            let load = Load::start(plan)?;
            tokio::time::sleep(Duration::from_secs(4)).await;
            let (records, keeping) = load.stop().await?;
            assert_eq!(records.len(), 600, "{connections:?}");
            assert_eq!(failures(&records).len(), 0, "{connections:?}: {:?}", failures(&records));
            assert!(records.iter().all(|record| record.site() == Some(CLOUD.site)));
            // A third of a core would be too much beside what it measures.
            let share = keeping.cpu.as_secs_f64() / keeping.ran.as_secs_f64();
            assert!(share < 0.33, "{connections:?}: {share:.2} of a core");
            println!("{connections:?}: {share:.3} of a core, at most {:?} late", keeping.worst_lag);
        }
        Ok(())
    })
}

#[test]
fn a_slow_server_delays_no_request_after_it() -> Result<(), Failed> {
    on_stack(Needs::Servers, DEADLINE, |engine| async move {
        let url = format!("{}/items", CLOUD.url);
        let load = Load::start(Plan::new(&url, Duration::from_secs(10)))?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let applied = Fault::Freeze.apply(&engine, &CLOUD).await?;
        let end = applied.began + Duration::from_secs(3);
        tokio::time::sleep_until(end.into()).await;
        let (records, _) = load.stop().await?;
        let seen = measure::window(&records, applied.began, end);
        // All that were due in three seconds were sent, and each failed on its own: the loop is open. What was on its way
        // at the fault counts as well; on a busy machine that is more than a few.
        assert!(seen.sent >= 599 && seen.failed >= 590 && !seen.recovered, "{seen:?}");
        Ok(())
    })
}

#[test]
fn haproxy_answers_its_runtime_socket_and_accepts_its_configuration() -> Result<(), Failed> {
    on_stack(Needs::Servers, DEADLINE, |_| async {
        haproxy::check().await?;
        let info = haproxy::runtime("show info").await?;
        if !info.lines().any(|line| line.starts_with("Version: ")) {
            bail!("show info names no version: {info}");
        }
        Ok(())
    })
}
