//! `supervisor --once`: one look, what would be done, and why. Beside a daemon it shows the daemon's state next to its own
//! findings, and what is to be done goes through the daemon.

use super::args::{Format, Global, OnceArgs};
use super::context::Context;
use super::output::wrapped;
use super::through::{self, Ordered};
use super::{Exit, status, wait_for};
use crate::chain::chain;
use crate::control::ClientError;
use crate::daemon::{self, Findings};
use crate::domain::explain::Grade;
use crate::present;
use crate::settings::Settings;
use crate::status::View;
use crate::store::Lock;
use serde::Serialize;

/// The document of `--format json` (docs/cli.md).
#[derive(Serialize)]
struct Document<'a> {
    /// What this look found.
    found: &'a View,
    /// What would be done, or was done.
    would_do: Vec<String>,
    /// Whether all of it is done, by this command or by the daemon.
    applied: bool,
    /// What became of each move that was taken through the daemon.
    orders: &'a [Ordered],
    /// The daemon's own state, if one runs.
    daemon: Option<&'a View>,
}

/// The daemon, as far as it can be asked.
enum Beside {
    /// There is none.
    Nobody,
    Daemon(Box<View>),
    /// There is one, it seems, and it does not tell.
    Silent(ClientError),
}

/// What was done about the findings.
#[derive(Default)]
struct Did {
    applied: bool,
    orders: Vec<Ordered>,
}

pub(super) fn run(global: &Global, args: &OnceArgs) -> anyhow::Result<Exit> {
    let settings = Settings::load_for_command(&global.config)?;
    wait_for(async {
        let mut context = Context::new(global)?;
        let (findings, beside) = tokio::join!(daemon::look(&settings), ask_daemon(&context));
        let findings = findings?;
        let moves = findings.moves();
        let (did, daemon) = match (beside, args.apply && !moves.is_empty()) {
            (Beside::Nobody, false) => (Did::default(), None),
            (Beside::Nobody, true) => {
                let applied = apply(&settings, &findings).await?;
                (Did { applied, orders: Vec::new() }, None)
            }
            (Beside::Daemon(view), false) => (Did::default(), Some(*view)),
            (Beside::Daemon(_), true) => {
                let orders = through::apply(&context, &moves).await?;
                let applied = orders.iter().all(|order| order.came.is_so());
                // What counts is how things are now.
                let after: View = context.client.get("/api/v1/status").await?;
                (Did { applied, orders }, Some(after))
            }
            // A second pair of hands beside a daemon that we cannot ask would only fight it.
            (Beside::Silent(error), true) => return Err(error.into()),
            (Beside::Silent(error), false) => {
                context.output.note(&format!("supervisor: the daemon cannot be asked: {}", chain(&error)))?;
                (Did::default(), None)
            }
        };
        let would_do: Vec<String> = findings.would_do.iter().map(present::reason).collect();
        match global.format {
            Format::Json => context.output.json(&Document {
                found: &findings.view,
                would_do,
                applied: did.applied,
                orders: &did.orders,
                daemon: daemon.as_ref(),
            })?,
            Format::Text => {
                let text = told(&findings, &would_do, &did, daemon.as_ref(), context.output.colour);
                context.output.text(&text)?;
            }
        }
        Ok(exit(&findings, daemon.as_ref()))
    })
}

async fn ask_daemon(context: &Context) -> Beside {
    match context.client.get("/api/v1/status").await {
        Ok(view) => Beside::Daemon(Box::new(view)),
        Err(ClientError::Missing { .. } | ClientError::Refused { .. }) => Beside::Nobody,
        Err(error) => Beside::Silent(error),
    }
}

async fn apply(settings: &Settings, findings: &Findings) -> anyhow::Result<bool> {
    // Held until the end: a daemon that starts meanwhile waits outside.
    let _lock = Lock::acquire(&settings.state_dir)?;
    let late = findings.apply().await;
    if late.is_empty() {
        return Ok(true);
    }
    let names: Vec<String> = late.iter().map(ToString::to_string).collect();
    anyhow::bail!(
        "HAProxy {} did not confirm the routes in time; look again with `supervisor --once`",
        names.join(", ")
    )
}

fn told(findings: &Findings, would_do: &[String], did: &Did, daemon: Option<&View>, colour: bool) -> String {
    let mut text = status::page(&findings.view, colour);
    text.push('\n');
    let head = match (did.applied, daemon) {
        (true, None) => "done:",
        (_, Some(_)) => "alone, supervisor would do:",
        (false, None) => "would do:",
    };
    match would_do {
        [] => text.push_str(&format!("{head} nothing\n")),
        steps => {
            text.push_str(&format!("{head}\n"));
            steps.iter().for_each(|step| text.push_str(&wrapped("  ", step)));
        }
    }
    if !did.orders.is_empty() {
        text.push_str("\nthrough the daemon:\n");
        did.orders.iter().for_each(|order| text.push_str(&wrapped("  ", &order.line())));
    }
    if let Some(view) = daemon {
        text.push_str("\nthe daemon that runs here says:\n");
        for service in &view.services {
            let line = format!("{}: {}", status::headline(service, colour), service.reason);
            text.push_str(&wrapped("  ", &line));
            text.push_str(&status::out_of_service(service));
        }
    }
    text
}

/// The worst of what was found; beside a daemon, the worst of what the daemon knows. 69 when nobody could look.
fn exit(findings: &Findings, daemon: Option<&View>) -> Exit {
    if let Some(view) = daemon {
        return status::exit(view.grade);
    }
    if findings.unreachable().next().is_some() && findings.view.grade != Grade::Down {
        return Exit::Unavailable;
    }
    status::exit(findings.view.grade)
}
