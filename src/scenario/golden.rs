//! The script as its own golden file: beneath each line what is decided, as codes and data.

use super::script::{Script, is_decided};
use super::world::{By, RunError, Step, play};
use crate::domain::action::Action;
use crate::domain::time::Span;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The most text that a run may come to: far more than anybody reads.
const TOLD_MAX: usize = 16 << 20;

/// The script with what is decided beneath each line.
///
/// # Errors
///
/// When the run ends early.
pub fn told(script: &Script) -> Result<String, RunError> {
    let mut answers: BTreeMap<usize, String> = BTreeMap::new();
    let mut size = 0;
    play(script, |step| {
        let text = decided(&step);
        size += text.len();
        if size > TOLD_MAX {
            let why = format!("what is decided has more than {TOLD_MAX} bytes by now");
            return Err(RunError::Impossible { line: step.line, why });
        }
        answers.entry(step.line).or_default().push_str(&text);
        Ok(())
    })?;
    let mut told = String::new();
    for line in &script.lines {
        let _ = writeln!(told, "{}", line.text);
        told.push_str(answers.get(&line.number).map_or("", String::as_str));
    }
    Ok(told)
}

/// The first line that is decided otherwise than it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Which, from 1.
    pub line: usize,
    /// What is decided; none: nothing more.
    pub decided: Option<String>,
    /// What is written; none: nothing more.
    pub written: Option<String>,
}

/// Compares what is told of a script with the script.
pub fn difference(told: &str, script: &str) -> Option<Difference> {
    let (mut decided, mut written) = (told.lines(), script.lines());
    let mut line = 0;
    loop {
        line += 1;
        match (decided.next(), written.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            // A line of the script where something is decided otherwise: nothing is decided, or written, there.
            (one, other) => {
                let only = |text: Option<&str>| text.filter(|text| is_decided(text)).map(str::to_owned);
                return Some(Difference { line, decided: only(one), written: only(other) });
            }
        }
    }
}

/// The lines beneath one step.
fn decided(step: &Step<'_>) -> String {
    let mut text = String::new();
    let reasons = step.decision.reasons.iter().chain(&step.standing);
    let loud = |action: &&Action| !matches!(action, Action::Pace { .. });
    let actions = step.decision.actions.iter().filter(loud);
    let lines: Vec<String> = reasons
        .map(|reason| format!("  > {}", shown(reason)))
        .chain(actions.map(|action| format!("  ! {}", of_action(action))))
        .collect();
    if step.by == By::Wake || (step.by == By::Until && !lines.is_empty()) {
        let _ = writeln!(text, "  @ {}", time(step.at));
    }
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

/// A time as scripts write it: `70.6s`.
fn time(Span(ms): Span) -> String {
    let fraction = format!("{:03}", ms % 1000);
    let text = format!("{}.{}", ms / 1000, fraction);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

fn of_action(action: &Action) -> String {
    let Action::Mail(mail) = action else { return shown(action) };
    // Its story is told where it happened.
    let about: Vec<String> = mail.incidents.iter().map(|told| shown(&told.trouble)).collect();
    let about = if about.is_empty() { "nothing".to_owned() } else { about.join(", ") };
    format!("mail: id={} kind={} why: {} about: {about}", mail.id.0, mail.kind.as_str(), shown(&mail.why))
}

/// A reason or an action as `code key=value …`: short enough to read, complete enough to be golden.
fn shown<T: Serialize>(thing: &T) -> String {
    let value = serde_json::to_value(thing).unwrap_or_default();
    let mut flat = String::new();
    flatten(&value, "", &mut flat);
    flat.trim().to_owned()
}

fn flatten(value: &Value, key: &str, into: &mut String) {
    match value {
        Value::Object(fields) => {
            if !key.is_empty() {
                let _ = write!(into, " {key}:");
            }
            if let Some(code) = fields.get("code").and_then(Value::as_str) {
                let _ = write!(into, " {code}");
            }
            for (name, value) in fields.iter().filter(|(name, _)| *name != "code") {
                flatten(value, name, into);
            }
        }
        Value::Null => {}
        Value::String(text) if key.is_empty() => into.push_str(text),
        Value::String(text) => {
            let _ = write!(into, " {key}={text}");
        }
        other => {
            let _ = write!(into, " {key}={other}");
        }
    }
}
