//! `supervisor --once`: one look, what would be done, and why. Beside a daemon it only reads, and shows the daemon's state
//! next to its own findings.

use super::args::{Format, Global, OnceArgs};
use super::context::Context;
use super::output::{Output, wrapped};
use super::{Exit, status, wait_for};
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
    /// Whether it was done.
    applied: bool,
    /// The daemon's own state, if one runs.
    daemon: Option<&'a View>,
}

pub(super) fn run(global: &Global, args: &OnceArgs) -> anyhow::Result<Exit> {
    let settings = Settings::load(&global.config)?;
    wait_for(async {
        let mut context = Context::new(global)?;
        let (findings, daemon) = tokio::join!(daemon::look(&settings), ask_daemon(&context));
        let findings = findings?;
        let applied = match (args.apply && findings.changes_routes(), &daemon) {
            // The daemon decides for itself; a second pair of hands would only fight it.
            (true, Some(_)) | (false, _) => false,
            (true, None) => apply(&settings, &findings).await?,
        };
        let would_do: Vec<String> = findings.would_do.iter().map(present::reason).collect();
        match global.format {
            Format::Json => context.output.json(&Document {
                found: &findings.view,
                would_do,
                applied,
                daemon: daemon.as_ref(),
            })?,
            Format::Text => tell(&mut context.output, &findings, &would_do, applied, daemon.as_ref())?,
        }
        Ok(exit(&findings, daemon.as_ref()))
    })
}

/// The daemon's state; none when there is no daemon. A daemon that cannot be asked is said, not taken for none.
async fn ask_daemon(context: &Context) -> Option<View> {
    match context.client.get("/api/v1/status").await {
        Ok(view) => Some(view),
        Err(ClientError::Missing { .. } | ClientError::Refused { .. }) => None,
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the daemon cannot be asked");
            None
        }
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

fn tell(
    output: &mut Output,
    findings: &Findings,
    would_do: &[String],
    applied: bool,
    daemon: Option<&View>,
) -> anyhow::Result<()> {
    let mut text = status::page(&findings.view, output.colour);
    text.push('\n');
    let head = match (applied, daemon) {
        (true, _) => "done:",
        (false, Some(_)) => "alone, supervisor would do:",
        (false, None) => "would do:",
    };
    match would_do {
        [] => text.push_str(&format!("{head} nothing\n")),
        steps => {
            text.push_str(&format!("{head}\n"));
            steps.iter().for_each(|step| text.push_str(&wrapped("  ", step)));
        }
    }
    if let Some(view) = daemon {
        text.push_str("\nthe daemon that runs here says:\n");
        for service in &view.services {
            text.push_str(&wrapped(
                "  ",
                &format!("{}: {}", status::headline(service, output.colour), service.reason),
            ));
        }
    }
    Ok(output.text(&text)?)
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
