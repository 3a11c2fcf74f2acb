//! `supervisor doctor`: what would keep supervisor from its work, and what mends it. It changes nothing.

use super::args::{Format, Global};
use super::context::Context;
use super::output::wrapped;
use super::{Exit, wait_for};
use crate::control::ClientError;
use crate::daemon;
use crate::finding::{Examined, Finding, Level, worst};
use crate::settings::Settings;
use crate::status::View;
use serde::Serialize;

/// The document of `--format json`.
#[derive(Serialize)]
struct Document<'a> {
    errors: usize,
    warnings: usize,
    parts: &'a [Examined],
}

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let settings = Settings::load_for_command(&global.config)?;
    wait_for(async {
        let mut context = Context::new(global)?;
        let (beside, mut parts) = tokio::join!(beside(&context), daemon::examine(&settings));
        parts.insert(0, Examined { about: "daemon".to_owned(), findings: beside });
        match global.format {
            Format::Json => {
                let (errors, warnings) = (count(&parts, Level::Error), count(&parts, Level::Warning));
                context.output.json(&Document { errors, warnings, parts: &parts })?;
            }
            Format::Text => context.output.text(&page(&parts, context.output.colour))?,
        }
        Ok(exit(worst(&parts)))
    })
}

pub(super) fn exit(worst: Level) -> Exit {
    match worst {
        Level::Ok => Exit::Ok,
        Level::Warning => Exit::WARNED,
        Level::Error => Exit::BROKEN,
    }
}

/// The daemon, if one runs: its version, and what it says of its own footing.
async fn beside(context: &Context) -> Vec<Finding> {
    let view: View = match context.client.get("/api/v1/status").await {
        Ok(view) => view,
        Err(ClientError::Missing { .. } | ClientError::Refused { .. }) => {
            return vec![Finding::ok("daemon", "no daemon runs here; this is what one would find")];
        }
        Err(error) => {
            let fix = "see its log (journalctl -u supervisor, docker logs)";
            return vec![Finding::error("daemon", crate::chain::chain(&error), fix)];
        }
    };
    let mut findings = vec![match view.version == env!("CARGO_PKG_VERSION") {
        true => Finding::ok("daemon", format!("supervisor {} runs since {}", view.version, view.started)),
        false => Finding::warning(
            "daemon",
            format!("a daemon of version {} runs, and this is {}", view.version, env!("CARGO_PKG_VERSION")),
            "start it anew: HAProxy goes on meanwhile",
        ),
    }];
    findings.extend(view.problems.iter().map(|problem| {
        Finding::error("daemon", problem.clone(), "mend it; the daemon tries again by itself")
    }));
    findings
}

/// A line for what is right, two for what is not, and a last one with the sum.
pub(super) fn page(parts: &[Examined], colour: bool) -> String {
    let mut text = String::new();
    for Examined { about, findings } in parts {
        text.push_str(&format!("{about}\n"));
        for finding in findings {
            let (word, code) = match finding.level {
                Level::Ok => ("ok", 32),
                Level::Warning => ("WARNING", 33),
                Level::Error => ("ERROR", 31),
            };
            let line = wrapped(&format!("  {word:<8} "), &finding.words);
            text.push_str(&match colour {
                true => line.replacen(word, &format!("\u{1b}[1;{code}m{word}\u{1b}[0m"), 1),
                false => line,
            });
            if let Some(fix) = &finding.fix {
                text.push_str(&wrapped("           fix: ", fix));
            }
            // As they are, also beyond the width: they are to be copied.
            finding.lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
    }
    let sum = match (count(parts, Level::Error), count(parts, Level::Warning)) {
        (0, 0) => "nothing is wrong".to_owned(),
        (errors, warnings) => format!("{}, {}", several(errors, "error"), several(warnings, "warning")),
    };
    text.push_str(&format!("{sum}\n"));
    text
}

fn count(parts: &[Examined], level: Level) -> usize {
    parts.iter().flat_map(|part| &part.findings).filter(|finding| finding.level == level).count()
}

fn several(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
