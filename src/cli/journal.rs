//! `supervisor journal`: the journal as a file.

use super::args::{ExportArgs, Global, JournalArgs, JournalCommand};
use super::source::{self, DASH, Source};
use super::{Exit, Usage};
use crate::daemon::replay::Window;
use crate::domain::Wall;
use crate::store::{Exporter, Item};
use anyhow::Context as _;
use jiff::Zoned;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

pub(super) fn run(global: &Global, args: &JournalArgs) -> anyhow::Result<Exit> {
    match &args.command {
        JournalCommand::Export(args) => export(global, args),
    }
}

fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<Exit> {
    let window = source::window(&args.part, &Zoned::now())?;
    let source = source::store(global, &args.part, window)?;
    let path = &args.output;
    if path == Path::new(DASH) {
        copy(source, window, BufWriter::new(io::stdout().lock()))?;
        return Ok(Exit::Ok);
    }
    // The journal names people and machines: nobody else is to read it. What is there already is not overwritten.
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let file = made.map_err(|error| Usage(format!("{} cannot be written: {error}", path.display())))?;
    let file =
        copy(source, window, BufWriter::new(file)).with_context(|| format!("writing {}", path.display()))?;
    file.into_inner().map_err(|error| error.into_error())?.sync_all()?;
    Ok(Exit::Ok)
}

/// Writes what a replay of the window needs: from the snapshot before it, without those that only repeat what the records say.
fn copy<W: Write>(source: Source, window: Window, out: W) -> anyhow::Result<W> {
    let mut exporter = Exporter::new(out);
    let mut thin = Thin::default();
    for item in source {
        let item = item?;
        if is_after(&item, window.until) {
            break;
        }
        thin.pass(item).into_iter().try_for_each(|item| exporter.write(item))?;
    }
    thin.rest().into_iter().try_for_each(|item| exporter.write(item))?;
    Ok(exporter.finish()?)
}

fn is_after(item: &Item, until: Option<Wall>) -> bool {
    match (item, until) {
        (Item::Record(record), Some(until)) => record.now.wall > until,
        (Item::Snapshot(_) | Item::Gap(_) | Item::Damaged { .. }, Some(_)) | (_, None) => false,
    }
}

/// Leaves out the hourly snapshots: 1,000 servers have 1 MB each. The first one stays, those that a process began with (an event
/// `started` follows, perhaps behind one about the store), and those behind what is missing.
#[derive(Default)]
struct Thin {
    begun: bool,
    broken: bool,
    held: Vec<Item>,
}

impl Thin {
    fn pass(&mut self, item: Item) -> Vec<Item> {
        match &item {
            Item::Snapshot(_) if !self.begun || self.broken => {
                (self.begun, self.broken) = (true, false);
                vec![item]
            }
            Item::Snapshot(_) => {
                let before = self.rest();
                self.held = vec![item];
                before
            }
            Item::Gap(_) | Item::Damaged { .. } => {
                self.broken = true;
                let mut before = self.rest();
                before.push(item);
                before
            }
            Item::Record(_) if self.held.is_empty() => vec![item],
            Item::Record(record) => {
                let started = record.event == "\"started\"";
                let may_come = self.held.len() == 1 && record.event.starts_with("{\"store\":");
                self.held.push(item);
                match (started, may_come) {
                    (true, _) => std::mem::take(&mut self.held),
                    (false, true) => Vec::new(),
                    (false, false) => self.rest(),
                }
            }
        }
    }

    /// What is held, without the snapshot.
    fn rest(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.held).into_iter().filter(|item| !matches!(item, Item::Snapshot(_))).collect()
    }
}
