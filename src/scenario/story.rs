//! A run as a story: when, what happened, what supervisor decided and why, where traffic is. The words about decisions
//! are those of [`present`]; here is only the page, 80 columns wide.

use super::happened::{announced, happened};
use super::script::{Line, Script};
use super::world::{BEGINNING, By, End, RunError, Step, What, play};
use crate::domain::action::Action;
use crate::domain::decide::Decision;
use crate::domain::event::Event;
use crate::domain::explain;
use crate::domain::id::{ServiceId, SiteId};
use crate::domain::policy::ServicePolicy;
use crate::domain::reason::Reason;
use crate::domain::state::State;
use crate::domain::time::{Boot, Now, Span, Wall};
use crate::domain::witness::ProbeOutcome;
use crate::present::{self, Level, wrapped};
use std::collections::BTreeMap;

/// What stands in front of what is decided: as wide as a time and two blanks.
const INDENT: &str = "             ";

/// The story of a script.
///
/// # Errors
///
/// When the run ends early; the story so far is lost, because it would be about a world that cannot be.
pub fn story(script: &Script) -> Result<String, RunError> {
    let mut page = Page { text: String::new(), lines: &script.lines, traffic: BTreeMap::new() };
    page.head(script);
    let End { state, now } = play(script, |step| page.step(&step))?;
    page.comments(usize::MAX);
    page.end(&state, now);
    Ok(page.text)
}

struct Page<'a> {
    text: String,
    /// The lines of the script that were not told yet.
    lines: &'a [Line],
    /// Where each service's traffic went when that was told last.
    traffic: BTreeMap<ServiceId, SiteId>,
}

impl Page<'_> {
    /// What the script is about, and who is in it.
    fn head(&mut self, script: &Script) {
        let title = script.title();
        if !title.is_empty() {
            self.text.push_str(&wrapped("", &title));
            self.text.push('\n');
        }
        for (id, service) in &script.policy.services {
            self.text.push_str(&wrapped("  ", &format!("{id}: {}", sites(service))));
        }
        let settings: Vec<&str> = script
            .lines
            .iter()
            .take_while(|line| !begins(line))
            .filter_map(|line| line.text.trim().strip_prefix("set "))
            .collect();
        if !settings.is_empty() {
            self.text.push_str(&wrapped("  ", &format!("set: {}", settings.join(", "))));
        }
        self.text.push('\n');
        // What comes before the first line that happens is told.
        let told = self.lines.iter().take_while(|line| line.text.starts_with('#')).count();
        self.lines = self.lines.get(told..).unwrap_or_default();
    }

    /// The comments before line `number`, as they stand.
    fn comments(&mut self, number: usize) {
        let before = self.lines.iter().take_while(|line| line.number < number).count();
        let (told, rest) = self.lines.split_at(before);
        let words: Vec<&str> =
            told.iter().filter_map(|line| line.text.trim().strip_prefix('#')).map(str::trim).collect();
        if !words.is_empty() {
            self.text.push_str(&format!("\n{}\n", wrapped("", &words.join(" "))));
        }
        self.lines = rest;
    }

    fn step(&mut self, step: &Step<'_>) -> Result<(), RunError> {
        const TEXT_MAX: usize = 16 << 20;
        self.comments(step.line);
        let words = match &step.what {
            // Only what came of it is of interest.
            What::Heard(_) if step.by == By::Until && step.decision.reasons.is_empty() => return Ok(()),
            What::Heard(event) => happened(event, step.state, step.now),
            What::Unheard(event) => format!("(nobody hears it) {}", announced(event, step.state)),
            What::Asked(service) => format!("somebody asks about {service}"),
            What::Aside(words) => words.clone(),
        };
        self.text.push_str(&wrapped(&format!("{:>11}  ", time(step.at)), &words));
        for reason in step.decision.reasons.iter().chain(&step.standing) {
            let mark = if present::log_level(reason) == Level::Warn { '!' } else { '-' };
            self.beneath(mark, &present::reason(reason));
        }
        if let What::Heard(event) = &step.what {
            self.so_far(event, step);
            for words in step.decision.actions.iter().filter_map(|action| done(action, event)) {
                self.beneath('>', &words);
            }
        }
        if let Some(missed) = step.missed {
            let words = format!("a deadline at {} was passed by: `until` wakes at each", time(missed));
            self.beneath('~', &words);
        }
        self.moved(step.state);
        if self.text.len() > TEXT_MAX {
            let why = format!("the story has more than {TEXT_MAX} bytes by now");
            return Err(RunError::Impossible { line: step.line, why });
        }
        Ok(())
    }

    fn beneath(&mut self, mark: char, words: &str) {
        self.text.push_str(&wrapped(&format!("{INDENT}{mark} "), &since_beginning(words)));
    }

    /// Where nothing was decided about a probe that failed: how far it has come.
    fn so_far(&mut self, event: &Event, step: &Step<'_>) {
        let Event::Probed(probed) = event else { return };
        if !step.decision.reasons.is_empty() || !matches!(probed.outcome, ProbeOutcome::Failed(_)) {
            return;
        }
        let of_it = |reason: &Reason| match reason {
            Reason::ServerFailing { server, .. }
            | Reason::PathContradicted { server, .. }
            | Reason::ServerIsDown { server, .. } => *server == probed.server,
            _ => false,
        };
        let standing = explain(step.state, probed.server.service, step.now);
        if let Some(reason) = standing.iter().find(|reason| of_it(reason)) {
            self.beneath('.', &present::reason(reason));
        }
    }

    /// Where traffic is, when that is new.
    fn moved(&mut self, state: &State) {
        for (id, service) in &state.services {
            let Some(site) = service.placement.site() else { continue };
            if self.traffic.insert(*id, site) != Some(site) {
                let goes = if state.nobody_hears(*id) { "is to go" } else { "goes" };
                self.beneath('=', &format!("traffic of {id} {goes} to {site}"));
            }
        }
    }

    /// How everything stands.
    fn end(&mut self, state: &State, now: Now) {
        let at = now.boot.since(Boot(BEGINNING));
        self.text.push_str(&format!("\nIn the end ({}):\n", time(at)));
        for id in state.services.keys() {
            for reason in explain(state, *id, now) {
                self.text.push_str(&wrapped("  - ", &since_beginning(&present::reason(&reason))));
            }
        }
        for incident in state.incidents.values().filter(|incident| incident.ended.is_none()) {
            self.text.push_str(&wrapped("  - open: ", &present::trouble(&incident.trouble)));
        }
    }
}

fn begins(line: &Line) -> bool {
    line.step.as_ref().is_some_and(|(when, _)| *when != super::script::When::Now)
}

/// "onprem (api-onprem-1, api-onprem-2), then cloud (api-cloud)".
fn sites(service: &ServicePolicy) -> String {
    let of_site = |site: &SiteId| {
        let servers: Vec<String> = service.servers_at(*site).map(|name| name.to_string()).collect();
        format!("{site} ({})", servers.join(", "))
    };
    service.prefer.iter().map(of_site).collect::<Vec<_>>().join(", then ")
}

/// What is done besides what the reasons say.
fn done(action: &Action, event: &Event) -> Option<String> {
    match action {
        Action::Evacuate(_) => {
            let alone = Decision { actions: vec![action.clone()], ..Decision::default() };
            present::plan(&alone).into_iter().next()
        }
        Action::Mail(mail) => {
            let about: Vec<String> =
                mail.incidents.iter().map(|told| present::trouble(&told.trouble)).collect();
            let about = if about.is_empty() { "a test".to_owned() } else { about.join("; ") };
            Some(format!("mail {} ({}): {about}", mail.id.0, mail.kind.as_str()))
        }
        Action::Answer { verdict, .. } => match (event, verdict) {
            // That it was denied is a reason.
            (_, crate::domain::Verdict::Denied(_)) => None,
            (Event::Commanded(command), verdict) => {
                Some(format!("answer: {}", present::verdict(&command.order, verdict)))
            }
            _ => None,
        },
        Action::Route { .. } | Action::Pace { .. } | Action::Heal(_) => None,
    }
}

/// A time since the script's beginning: "+3.2 s", and after some minutes "+0:12:05".
fn time(Span(ms): Span) -> String {
    const IN_SECONDS: u64 = 10 * 60_000;
    let fraction = format!(".{:03}", ms % 1000);
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    let seconds = ms / 1000;
    if ms < IN_SECONDS {
        return format!("+{seconds}{fraction} s");
    }
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("+{hours}:{minutes:02}:{seconds:02}{fraction}")
}

/// `words` with every wall time as a time since the script's beginning.
fn since_beginning(words: &str) -> String {
    let relative = |word: &str| {
        let bare = word.trim_matches(|c: char| "(),;:.".contains(c));
        let wall = bare.parse::<jiff::Timestamp>().ok().filter(|_| bare.ends_with('Z'))?;
        let Wall(beginning) = Wall(BEGINNING);
        let since = u64::try_from(wall.as_millisecond().saturating_sub(beginning)).ok()?;
        Some(word.replace(bare, &time(Span(since))))
    };
    let words: Vec<String> =
        words.split(' ').map(|word| relative(word).unwrap_or_else(|| word.to_owned())).collect();
    words.join(" ")
}
