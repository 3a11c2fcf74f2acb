//! What the bench says: a line per run, two tables of medians, `target/bench/failover.json`, and whether supervisor
//! kept its bounds.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::peers::Peer;
use crate::selection::{Case, Selection};
use crate::support::faults::Fault;
use crate::support::load::Keeping;
use crate::support::measure::{Window, median};

/// One run, as the JSON file has it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Who was in front.
    pub(crate) peer: Peer,
    /// What happened.
    pub(crate) fault: Case,
    /// Which of the runs, from 1.
    pub(crate) run: u32,
    /// The longest time between two successive successes from the fault on; the time to the window's end when not
    /// recovered.
    pub(crate) gap_ms: u64,
    /// Requests in flight at the fault or due in the window.
    pub(crate) sent: usize,
    /// Those without a 2xx within the client's 2 s.
    pub(crate) failed: usize,
    /// Whether requests were served at the window's end.
    pub(crate) recovered: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, fault, run, gap_ms, sent, failed, recovered } = self;
        let gap = shown_gap(*gap_ms, *recovered);
        write!(f, "{peer:<20} {fault:<14} {run}: gap {gap:>11}, {failed:>4} of {sent} failed")
    }
}

/// What a person wants to know beside the row: where the failures come from, and whether the generator kept time.
pub(crate) fn note(seen: &Window, elsewhere: Option<Duration>, keeping: &Keeping) -> String {
    let mut parts = Vec::new();
    if let Some(after) = elsewhere {
        parts.push(format!("cloud after {} ms", after.as_millis()));
    }
    parts.extend(seen.by_site.iter().map(|(site, n)| format!("{site} {n}")));
    parts.extend(seen.failures.iter().map(|(failure, n)| format!("{failure} {n}")));
    let load = 100.0 * keeping.cpu.as_secs_f64() / keeping.ran.as_secs_f64().max(f64::EPSILON);
    parts.push(format!("generator late {} ms at most, {load:.0} % cpu", keeping.worst_lag.as_millis()));
    format!("\n    {}", parts.join("; "))
}

/// Writes all rows; the path it wrote.
pub(crate) fn write_json(rows: &[Row]) -> Result<PathBuf> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "target", "bench", "failover.json"].iter().collect();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    // One row per line: diffs and greps of two runs work.
    let lines: Vec<String> = rows.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
    let text = format!("[\n{}\n]\n", lines.join(",\n"));
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// The medians of gap and of failed requests, a column per peer.
pub(crate) fn tables(rows: &[Row], selection: &Selection) -> String {
    let gaps = table(rows, selection, |rows| {
        let recovered = rows.iter().filter(|row| row.recovered).count() * 2 > rows.len();
        let gap_ms = median(&rows.iter().map(|row| row.gap_ms).collect::<Vec<_>>())?;
        // Without the seconds of a row: five peers fit 80 columns.
        Some(if recovered { shown_gap(gap_ms, true) } else { "never".to_owned() })
    });
    let failed = table(rows, selection, |rows| {
        Some(grouped(median(&rows.iter().map(|row| row.failed).collect::<Vec<_>>())? as u64))
    });
    format!(
        "\nLongest time without a success (median of {n})\n{gaps}\n\n\
         Failed requests of 200/s over the window (median of {n})\n{failed}\n",
        n = selection.runs
    )
}

fn table(rows: &[Row], selection: &Selection, cell: impl Fn(&[&Row]) -> Option<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    // Two lines of head: the names are wider than the figures, and the whole must fit 80 columns.
    let head = selection.peers.iter().map(|peer| peer.to_string().replacen('-', "\n", 1));
    table.set_header(std::iter::once("fault".to_owned()).chain(head));
    for case in &selection.cases {
        let cells = selection.peers.iter().map(|peer| {
            let these: Vec<&Row> = rows.iter().filter(|r| r.peer == *peer && r.fault == *case).collect();
            cell(&these).unwrap_or_else(|| "–".to_owned())
        });
        table.add_row(std::iter::once(case.to_string()).chain(cells));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One bound of supervisor's and whether it held.
pub(crate) struct Verdict {
    /// The bound with what was measured.
    pub(crate) text: String,
    /// Whether it held.
    pub(crate) held: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.held { "held  " } else { "MISSED" }, self.text)
    }
}

/// How much worse than HAProxy alone a median may be: the noise between two peers on a machine of two processors.
const TOLERANCE_MS: u64 = 20;

/// What the settings of compose/supervisor.toml promise for a hang: interval 200 ms + timeout 250 ms + one fast retry
/// of 50 ms + 250 ms.
const HANG_BOUND_MS: u64 = 750;

/// The bounds that can be judged from these rows.
pub(crate) fn verdicts(rows: &[Row]) -> Vec<Verdict> {
    let gap = |peer, case| median_of(rows, peer, case, |row| row.gap_ms);
    let failed = |peer, case| median_of(rows, peer, case, |row| row.failed as u64);
    let mut verdicts = Vec::new();
    let mut judge = |text: String, held: bool| verdicts.push(Verdict { text, held });
    for case in Case::ALL {
        let ours = Peer::Supervisor;
        let (Some(gap_ms), Some(lost)) = (gap(ours, case), failed(ours, case)) else { continue };
        judge(format!("{case}: {lost} failed, none allowed"), lost == 0);
        let bound_ms = match case.fault {
            Fault::Crash | Fault::Kill | Fault::Freeze => 100,
            Fault::Hang => HANG_BOUND_MS,
            // Items work all the time: what counts is that moving them loses none.
            Fault::Http500 => continue,
        };
        judge(format!("{case}: gap {gap_ms} ms, under {bound_ms} ms"), gap_ms < bound_ms);
        if bound_ms > 100 {
            continue;
        }
        if let Some(script_ms) = gap(Peer::Script, case) {
            let text = format!("{case}: the script's gap is {script_ms} ms, at least 50 times ours");
            judge(text, script_ms >= 50 * gap_ms);
        }
        if let Some(alone_ms) = gap(Peer::HaproxyTuned, case) {
            let text = format!("{case}: HAProxy alone has {alone_ms} ms, {TOLERANCE_MS} ms of tolerance");
            judge(text, gap_ms <= alone_ms + TOLERANCE_MS);
        }
    }
    if let Some(gap_ms) = gap(Peer::SupervisorNoobserve, Case::plain(Fault::Crash)) {
        judge(format!("crash without observe: gap {gap_ms} ms, under 300 ms"), gap_ms < 300);
    }
    verdicts
}

fn median_of(rows: &[Row], peer: Peer, case: Case, value: impl Fn(&Row) -> u64) -> Option<u64> {
    let values: Vec<u64> =
        rows.iter().filter(|row| row.peer == peer && row.fault == case).map(value).collect();
    median(&values)
}

fn shown_gap(gap_ms: u64, recovered: bool) -> String {
    if recovered { format!("{} ms", grouped(gap_ms)) } else { format!("never ({} s)", gap_ms / 1000) }
}

/// 1437 → "1,437".
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
