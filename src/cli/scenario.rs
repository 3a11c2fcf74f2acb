//! `supervisor scenario`: what supervisor would decide in a story of which every line is written. Nothing is reached: no
//! daemon, no HAProxy, no engine.

use super::args::{Format, Global, ScenarioArgs};
use super::output::Output;
use super::{Exit, Usage};
use crate::scenario::{self, BYTES_MAX, Problem, Record, RunError, Script};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The name that stands for standard input.
const STDIN: &str = "-";

pub(super) fn run(global: &Global, args: &ScenarioArgs) -> anyhow::Result<Exit> {
    all(&mut Output::standard(), global.format, args)
}

/// Every script; what is wrong with one does not keep the others from being looked at. Ends as the worst of them.
pub(super) fn all(output: &mut Output, format: Format, args: &ScenarioArgs) -> anyhow::Result<Exit> {
    if args.golden && format == Format::Json {
        return Err(Usage("--golden prints a script, so leave --format json out".to_owned()).into());
    }
    let is_story = !args.golden && !args.check && format == Format::Text;
    let mut worst = Exit::Ok;
    for path in &args.files {
        if is_story && args.files.len() > 1 {
            output.line(&format!("== {}\n", path.display()))?;
        }
        let exit = one(output, format, args, path)?;
        worst = if exit as u8 > worst as u8 { exit } else { worst };
    }
    Ok(worst)
}

fn one(output: &mut Output, format: Format, args: &ScenarioArgs, path: &Path) -> anyhow::Result<Exit> {
    let text = read(path)?;
    let script = match Script::parse(&text) {
        Ok(script) => script,
        Err(problems) => {
            problems.iter().try_for_each(|problem| wrong(output, format, path, problem))?;
            return Ok(Exit::Usage);
        }
    };
    match show(output, format, args, path, &script, &text) {
        Ok(exit) => Ok(exit),
        Err(error) => match error.downcast_ref::<RunError>() {
            Some(ended) => {
                broken_off(output, format, path, ended)?;
                Ok(if ended.is_the_scripts() { Exit::Usage } else { Exit::Bug })
            }
            None => Err(error),
        },
    }
}

fn show(
    output: &mut Output,
    format: Format,
    args: &ScenarioArgs,
    path: &Path,
    script: &Script,
    text: &str,
) -> anyhow::Result<Exit> {
    match (args.golden, args.check, format) {
        (true, ..) => output.text(&scenario::told(script)?)?,
        (_, true, _) => return compare(output, format, path, &scenario::told(script)?, text),
        (.., Format::Text) => output.text(&scenario::story(script)?)?,
        (.., Format::Json) => {
            scenario::play(script, |step| output.json(&Record::of(&step)))?;
        }
    }
    Ok(Exit::Ok)
}

/// A script, if it is one and not too long.
fn read(path: &Path) -> anyhow::Result<String> {
    let name = path.display();
    let source: Box<dyn Read> = if path == Path::new(STDIN) {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| Usage(format!("{name} cannot be read: {error}")))?)
    };
    let mut bytes = Vec::new();
    // One more than is taken: what is longer is told from what just fits.
    let most = u64::try_from(BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    source
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| Usage(format!("{name} cannot be read: {error}")))?;
    let text = String::from_utf8(bytes);
    Ok(text.map_err(|_| {
        Usage(format!("{name} is no script: it is not UTF-8, or longer than {BYTES_MAX} bytes"))
    })?)
}

fn wrong(output: &mut Output, format: Format, path: &Path, problem: &Problem) -> anyhow::Result<()> {
    let (file, line) = (path.display(), problem.line);
    match format {
        Format::Text => Ok(output.note(&format!("{file}:{line}: {problem}"))?),
        Format::Json => output.json(&json!({
            "file": file.to_string(),
            "line": line,
            "problem": problem.why,
            "word": problem.word,
            "example": problem.example,
        })),
    }
}

fn broken_off(output: &mut Output, format: Format, path: &Path, ended: &RunError) -> anyhow::Result<()> {
    let (file, line) = (path.display(), ended.line());
    match format {
        Format::Text => Ok(output.note(&format!("{file}:{line}: {ended}"))?),
        Format::Json => {
            output.json(&json!({ "file": file.to_string(), "line": line, "problem": ended.to_string() }))
        }
    }
}

fn compare(output: &mut Output, format: Format, path: &Path, told: &str, text: &str) -> anyhow::Result<Exit> {
    let file = path.display();
    let difference = scenario::difference(told, text);
    let exit = if difference.is_some() { Exit::DIFFERENT } else { Exit::Ok };
    match (format, difference) {
        (Format::Json, difference) => {
            let (file, ok) = (file.to_string(), difference.is_none());
            output.json(&json!({ "file": file, "ok": ok, "difference": difference }))?;
        }
        (Format::Text, None) => output.line(&format!("{file}: decides as written"))?,
        (Format::Text, Some(difference)) => {
            let line =
                |text: Option<String>| text.map_or("nothing".to_owned(), |text| text.trim().to_owned());
            output.line(&format!("{file}:{}: decides otherwise than written", difference.line))?;
            output.line(&format!("  decided: {}", line(difference.decided)))?;
            output.line(&format!("  written: {}", line(difference.written)))?;
        }
    }
    Ok(exit)
}
