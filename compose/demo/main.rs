//! The driver of `make demo`: shows on the running stack what supervisor is for.
//!
//! Constant traffic goes through HAProxy while the on-prem API is broken in five ways and mended again; then a person
//! moves the traffic; then a person stops on-prem while Alertmanager is stopped, and people are told. It prints what happens as it happens and a summary, leaves the stack whole and running, and ends
//! with 1 when anything that it shows did not happen. It measures, it does not act for supervisor: what moves traffic
//! here is the stack.

#[path = "../../tests/support/mod.rs"]
mod support;

mod scenes;
mod show;
mod telling;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::scenes::{Act, Stage};
use crate::show::Show;
use crate::support::docker::Engine;
use crate::support::faults::Fault;
use crate::support::load::{Load, Plan};
use crate::support::{guard, stack};

/// The whole demo. Five faults of some 12 s each, the move by hand, and telling people need about 2.5 minutes.
const DEADLINE: Duration = Duration::from_secs(420);

/// How long the stack may take until it is well: containers that have just started, probes that must rise.
const READY_DEADLINE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let show = Show::on_stdout();
    match run(show) {
        Ok(missing) if missing.is_empty() => ExitCode::SUCCESS,
        Ok(missing) => {
            show.missing(&missing);
            ExitCode::FAILURE
        }
        Err(error) => {
            show.missing(&[format!("{error:#}")]);
            ExitCode::FAILURE
        }
    }
}

/// What did not happen; nothing, if all is well.
fn run(show: Show) -> Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::connect()?;
        let _lease = stack::lease(Duration::ZERO).await?;
        stack::require_up(&engine).await?;
        guard::run(DEADLINE, demo(show, engine.clone()), stack::put_right(&engine, READY_DEADLINE)).await
    })
}

async fn demo(show: Show, engine: Engine) -> Result<Vec<String>> {
    show.opening();
    stack::put_right(&engine, READY_DEADLINE).await.context("the stack does not become healthy")?;
    stack::until_onprem_serves(READY_DEADLINE).await.context("the stack does not become healthy")?;

    let load = Load::start(Plan::new(stack::TRAFFIC_URL, DEADLINE))?;
    let stage = Stage { show, engine, load };
    let mut acts: Vec<Act> = Vec::new();
    for (number, fault) in Fault::ALL.into_iter().enumerate() {
        acts.push(stage.fault(number + 1, fault).await?);
    }
    acts.push(stage.by_hand().await?);
    acts.push(stage.telling().await?);

    let (records, _) = stage.load.stop().await?;
    let lost = records.iter().filter(|record| record.site().is_none()).count();
    show.summary(&acts, records.len(), lost);
    show.closing();
    Ok(acts.into_iter().flat_map(|act| act.missing).collect())
}
