//! `supervisor replay`: the journal's decisions made again, or what other settings would have decided.

mod compared;

use super::args::{Format, Global, ReplayArgs};
use super::output::{Output, wrapped};
use super::source::{self, Source};
use super::{Exit, Usage};
use crate::daemon::replay::{
    Because, Difference, Intervals, Told, Unreadable, Verified, Verifier, WhatIf, Window,
};
use crate::domain::{ServerId, State};
use crate::present::{self, Level};
use crate::scenario::happened;
use crate::settings::Settings;
use crate::store::{Gap, Record, SnapshotInfo};
use jiff::Zoned;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What stands in front of what is decided: as wide as a time and two blanks.
const INDENT: &str = "              ";

pub(super) fn run(global: &Global, args: &ReplayArgs) -> anyhow::Result<Exit> {
    let now = Zoned::now();
    let window = source::window(&args.part, &now)?;
    let other = match global.config_is_typed {
        true => Some(Settings::load_for_command(&global.config)?),
        false => None,
    };
    let source = match &args.from {
        Some(path) => source::file(path)?,
        None => source::store(global, &args.part, window)?,
    };
    let mut output = Output::standard();
    match other {
        None => verify(&mut output, global.format, args.all, window, source),
        Some(settings) => {
            let name = global.config.file_name().map_or("--config".into(), |name| name.to_string_lossy());
            let quiet_until = source::quiet_until(&source, &now);
            let intervals = intervals(&settings);
            let mut what_if = WhatIf::new(window, settings.policy, intervals);
            for item in source {
                what_if.feed(item?)?;
                if what_if.is_over() {
                    break;
                }
            }
            let compared = what_if.end(quiet_until)?;
            if compared.span.is_none() {
                return Err(Usage("nothing of the journal can be replayed in that time".to_owned()).into());
            }
            match global.format {
                Format::Text => output.text(&compared::page(&compared, &name))?,
                Format::Json => compared::json(&compared).iter().try_for_each(|line| output.json(line))?,
            }
            Ok(Exit::Ok)
        }
    }
}

/// How often the settings ask each server.
fn intervals(settings: &Settings) -> BTreeMap<ServerId, Intervals> {
    let of = |server: &crate::settings::ServerSettings| Intervals {
        ready: server.ready.interval,
        ready_fast: server.ready.fast_interval,
        live: server.live.interval,
    };
    settings.servers.iter().map(|(id, server)| (*id, of(server))).collect()
}

/// Makes every decision again.
pub(super) fn verify(
    output: &mut Output,
    format: Format,
    all: bool,
    window: Window,
    source: Source,
) -> anyhow::Result<Exit> {
    let mut verifier = Verifier::new(window);
    let mut page = Page { output, format, all, day: String::new(), unreadable: 0 };
    for item in source {
        verifier.feed(item?, &mut |told, state| page.tell(&told, state))?;
        if verifier.is_over() {
            break;
        }
    }
    let verified = verifier.end(&mut |told, state| page.tell(&told, state))?;
    page.end(&verified)?;
    let well = verified.differences == 0 && page.unreadable == 0;
    Ok(if well { Exit::Ok } else { Exit::DIFFERENT })
}

struct Page<'a> {
    output: &'a mut Output,
    format: Format,
    all: bool,
    /// The day of what was told last.
    day: String,
    unreadable: u64,
}

impl Page<'_> {
    fn tell(&mut self, told: &Told, state: &State) -> anyhow::Result<()> {
        match told {
            Told::Began { info, because } => self.began(info, *because),
            Told::Decided { record, difference } => self.decided(record, difference.as_ref(), state),
            Told::StateDiffers { info, difference } => {
                let what = format!("the state that was stored after record {}", info.seq);
                self.differs(&what, info.seq, difference)
            }
            Told::Gap(gap) => self.note(&json!({ "gap": gap }), &gap_words(gap)),
            Told::Unreadable(unreadable) => {
                self.unreadable += 1;
                let Unreadable { seq, what, why } = unreadable;
                let words = unreadable_words(unreadable);
                self.note(&json!({ "unreadable": { "seq": seq, "what": what, "why": why } }), &words)
            }
        }
    }

    fn began(&mut self, info: &SnapshotInfo, because: Because) -> anyhow::Result<()> {
        let ours = info.binary_version == env!("CARGO_PKG_VERSION");
        if because == Because::Start && ours && !self.all {
            return Ok(());
        }
        let version = match ours {
            true => String::new(),
            false => {
                format!(", by supervisor {}; this is {}", info.binary_version, env!("CARGO_PKG_VERSION"))
            }
        };
        let why = match because {
            Because::First => "the replay begins",
            Because::Start => "supervisor was started",
            Because::Gap => "the replay begins anew",
        };
        let words = format!(
            "{why}, with the state after record {}, of {}{version}",
            info.seq,
            present::time(info.at.wall)
        );
        let because = match because {
            Because::First => "first",
            Because::Start => "start",
            Because::Gap => "gap",
        };
        self.note(&json!({ "began": { "snapshot": info, "because": because } }), &words)
    }

    fn decided(
        &mut self,
        record: &Record,
        difference: Option<&Difference>,
        state: &State,
    ) -> anyhow::Result<()> {
        let reasons = &record.decision.reasons;
        let told = reasons.iter().any(|reason| present::log_level(reason) > Level::Debug);
        if !told && !self.all && difference.is_none() {
            return Ok(());
        }
        let happened = happened(&record.event, state, record.now);
        let at = present::time(record.now.wall);
        if self.format == Format::Json {
            let reasons: Vec<Value> = reasons
                .iter()
                .map(|reason| {
                    let (level, words) = (present::log_level(reason), present::reason(reason));
                    json!({ "code": reason.code(), "service": reason.service(), "level": level, "words": words })
                })
                .collect();
            let line = json!({ "seq": record.seq, "at": at, "happened": happened, "reasons": reasons,
                "difference": difference });
            return self.output.json(&line);
        }
        // RFC 3339: the day, a T, the time, a Z.
        let (day, time) = at.trim_end_matches('Z').split_once('T').unwrap_or((&at, ""));
        let mut text = String::new();
        if day != self.day {
            text.push_str(&format!("{day} (UTC)\n"));
            day.clone_into(&mut self.day);
        }
        text.push_str(&wrapped(&format!("{time:>12}  "), &happened));
        for reason in reasons {
            let mark = if present::log_level(reason) == Level::Warn { '!' } else { '-' };
            text.push_str(&wrapped(&format!("{INDENT}{mark} "), &present::reason(reason)));
        }
        self.output.text(&text)?;
        match difference {
            Some(difference) => self.differs(&format!("record {}", record.seq), record.seq, difference),
            None => Ok(()),
        }
    }

    /// A difference: where, and what.
    fn differs(&mut self, what: &str, seq: u64, difference: &Difference) -> anyhow::Result<()> {
        if self.format == Format::Json {
            return self.output.json(&json!({ "state_differs": { "seq": seq, "difference": difference } }));
        }
        let Difference { part, byte, journal, replay } = difference;
        let mut text = wrapped("DIFFERS: ", &format!("{what}, {part}, from byte {byte} on"));
        text.push_str(&wrapped("  journal: ", journal));
        text.push_str(&wrapped("  replay:  ", replay));
        Ok(self.output.text(&text)?)
    }

    fn note(&mut self, line: &Value, words: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Json => self.output.json(line),
            Format::Text => Ok(self.output.text(&wrapped("-- ", words))?),
        }
    }

    fn end(&mut self, verified: &Verified) -> anyhow::Result<()> {
        let Verified { decided, shown, states, differences, skipped, span, versions } = verified;
        let (first, last) = match span {
            Some((first, last)) => (Some(present::time(first.wall)), Some(present::time(last.wall))),
            None => (None, None),
        };
        if self.format == Format::Json {
            return self.output.json(&json!({ "summary": {
                "decided": decided, "in_window": shown, "states": states, "differences": differences,
                "skipped": skipped, "unreadable": self.unreadable, "first": first, "last": last,
                "versions": versions, "version": env!("CARGO_PKG_VERSION"),
            }}));
        }
        let mut text = match (&first, &last) {
            (Some(first), Some(last)) => {
                wrapped("", &format!("{shown} decisions in the time asked for, from {first} to {last}"))
            }
            _ => wrapped("", "nothing was decided in the time asked for"),
        };
        let sum = match differences {
            0 => "all are byte for byte those of the journal".to_owned(),
            1 => "1 differs".to_owned(),
            many => format!("{many} differ"),
        };
        text.push_str(&wrapped(
            "",
            &format!("{decided} decisions made again, {states} stored states compared: {sum}"),
        ));
        if *skipped > 0 {
            let words = format!("{skipped} records were passed over: no snapshot before them can be used");
            text.push_str(&wrapped("", &words));
        }
        text.push_str(&other_versions(versions.iter()));
        Ok(self.output.text(&text)?)
    }
}

/// Who else wrote the journal, if somebody did.
fn other_versions<'a>(versions: impl Iterator<Item = &'a String>) -> String {
    let ours = env!("CARGO_PKG_VERSION");
    let others: Vec<&str> = versions.map(String::as_str).filter(|version| *version != ours).collect();
    match others.as_slice() {
        [] => String::new(),
        others => wrapped(
            "",
            &format!(
                "written in part by supervisor {}; this is {ours}, and may decide otherwise where that was changed",
                others.join(", ")
            ),
        ),
    }
}

fn gap_words(gap: &Gap) -> String {
    let Gap { first, last, why, .. } = gap;
    match last - first {
        0 => format!("record {first} is missing: {why}"),
        _ => format!("records {first} to {last} are missing: {why}"),
    }
}

fn unreadable_words(unreadable: &Unreadable) -> String {
    let Unreadable { seq, what, why } = unreadable;
    format!("{what} {seq} cannot be read by this version: {why}")
}
