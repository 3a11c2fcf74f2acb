//! What the bench says: a table, `target/bench/core.json`, and whether the core kept its bounds.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::recording::{Kind, Recording};

/// Events of the mix that one thread is to decide in a second, with this many services.
const EVENTS_PER_SECOND: (usize, f64) = (1_000, 500_000.0);

/// How much dearer an event of the mix may be with the most services than with the fewest.
const DEARER_AT_MOST: f64 = 1.3;

/// One size, and what was measured of it.
pub(crate) struct Measured {
    size: usize,
    mix: Recording,
    /// None if only the mix is wanted.
    kinds: Option<Recording>,
    /// Nanoseconds per event of the mix, by round.
    mix_rounds: Vec<f64>,
    /// The same of each kind by itself; per service for what costs as much as there are.
    kind_rounds: BTreeMap<Kind, Vec<f64>>,
}

impl Measured {
    pub(crate) fn new(size: usize, mix: Recording, kinds: Option<Recording>) -> Measured {
        Measured { size, mix, kinds, mix_rounds: Vec::new(), kind_rounds: BTreeMap::new() }
    }

    /// One more round. What is measured must be what was recorded.
    pub(crate) fn measure(&mut self) -> Result<()> {
        let (took, end) = self.mix.replay_all();
        ensure!(end == self.mix.end, "the mix of {} services ended otherwise than recorded", self.size);
        self.mix_rounds.push(took.each());
        let Some(kinds) = &self.kinds else { return Ok(()) };
        let (all, end) = kinds.replay_each();
        ensure!(end == kinds.end, "the kinds of {} services ended otherwise than recorded", self.size);
        for (kind, took) in all {
            let each = if kind.is_per_service() { took.each() / self.size as f64 } else { took.each() };
            self.kind_rounds.entry(kind).or_default().push(each);
        }
        Ok(())
    }

    fn share(&self, kind: Kind) -> f64 {
        let count = self.mix.steps.iter().filter(|step| step.kind == kind).count();
        count as f64 / self.mix.steps.len().max(1) as f64
    }
}

/// Whether the recordings are what the table will call them.
pub(crate) fn check(all: &[Measured]) -> Result<()> {
    for measured in all {
        let size = measured.size;
        for kind in Kind::ALL.into_iter().filter(|_| measured.kinds.is_some()) {
            let found = measured.kinds.iter().flat_map(|kinds| &kinds.steps).any(|step| step.kind == kind);
            ensure!(found, "{size} services: no event turned out to be {kind:?}");
        }
        let mut steps = measured.mix.steps.iter().chain(measured.kinds.iter().flat_map(|kinds| &kinds.steps));
        let other = steps.find(|step| step.kind == Kind::Other);
        ensure!(other.is_none(), "{size} services: {:?} has no row", other.map(|step| &step.event));
        let quiet = measured.share(Kind::Quiet) + measured.share(Kind::Lived);
        ensure!((0.85..0.97).contains(&quiet), "{size} services: {quiet:.3} of the mix is quiet");
        let failing = measured.share(Kind::RunBegins);
        ensure!((0.01..0.05).contains(&failing), "{size} services: {failing:.3} of the mix begin to fail");
        let failovers = measured.share(Kind::Failover) + measured.share(Kind::DiedFailover);
        ensure!(failovers > 0.0001, "{size} services: {failovers:.5} of the mix are failovers");
        ensure!(
            measured.share(Kind::Failback) > 0.0001,
            "{size} services: traffic does not return in the mix"
        );
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_per_service()) {
            ensure!(measured.share(kind) == 0.0, "{size} services: {kind:?} does not belong in the mix");
        }
    }
    Ok(())
}

/// Nanoseconds per event in the best round, a column per size; and how many events of the mix that is in a second.
pub(crate) fn table(all: &[Measured]) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let sizes = all.iter().map(|measured| format!("{}\nservices", grouped(measured.size)));
    let head = ["ns per event".to_owned(), "of mix".to_owned()].into_iter().chain(sizes);
    table.set_header(head.chain(["last to\nfirst".to_owned()]));
    let mut row = |name: String, share: String, cost: &dyn Fn(&Measured) -> f64| {
        let cells = all.iter().map(|measured| figure(cost(measured)));
        let ratio =
            all.first().zip(all.last()).map(|(first, last)| format!("{:.2}", cost(last) / cost(first)));
        table.add_row([name, share].into_iter().chain(cells).chain(ratio));
    };
    row("the mix".to_owned(), String::new(), &|measured| best(&measured.mix_rounds));
    for kind in Kind::ALL.into_iter().filter(|_| all.iter().all(|measured| measured.kinds.is_some())) {
        let share = all.last().map_or(0.0, |measured| 100.0 * measured.share(kind));
        let (name, share) = match kind.is_per_service() {
            true => (format!("{kind}, per service"), "–".to_owned()),
            false => (kind.to_string(), format!("{share:.2} %")),
        };
        row(name, share, &|measured| measured.kind_rounds.get(&kind).map_or(f64::NAN, |rounds| best(rounds)));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let rates = all.iter().map(|measured| {
        let rate = |ns: f64| grouped((1e9 / ns) as usize);
        let (best, median) = (rate(best(&measured.mix_rounds)), rate(median(&measured.mix_rounds)));
        format!(
            "{} services: {best} events/s of the mix, {median} in the median round",
            grouped(measured.size)
        )
    });
    format!("{table}\n{}", rates.collect::<Vec<_>>().join("\n"))
}

/// One figure of one size, as the JSON file has it.
#[derive(Serialize)]
struct Row {
    services: usize,
    /// `mix`, or the kind.
    what: String,
    seed: u64,
    /// Of the mix.
    share: f64,
    best_ns: f64,
    median_ns: f64,
}

/// Writes all rows; the path it wrote.
pub(crate) fn write_json(seed: u64, all: &[Measured]) -> Result<PathBuf> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "target", "bench", "core.json"].iter().collect();
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    let mut lines = Vec::new();
    for measured in all {
        let mix = ("mix".to_owned(), 1.0, &measured.mix_rounds);
        let kinds = measured.kind_rounds.iter();
        let kinds = kinds.map(|(kind, rounds)| (kind.to_string(), measured.share(*kind), rounds));
        for (what, share, rounds) in std::iter::once(mix).chain(kinds) {
            let (best_ns, median_ns) = (best(rounds), median(rounds));
            let row = Row { services: measured.size, what, seed, share, best_ns, median_ns };
            lines.push(serde_json::to_string(&row)?);
        }
    }
    std::fs::write(&path, format!("[\n{}\n]\n", lines.join(",\n")))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// One bound and whether it held.
pub(crate) struct Verdict {
    text: String,
    pub(crate) held: bool,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.held { "held  " } else { "MISSED" }, self.text)
    }
}

/// The bounds that can be judged from what was measured.
pub(crate) fn verdicts(all: &[Measured]) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    let (size, least) = EVENTS_PER_SECOND;
    if let Some(measured) = all.iter().find(|measured| measured.size == size) {
        let rate = 1e9 / best(&measured.mix_rounds);
        let (shown, wanted) = (grouped(rate as usize), grouped(least as usize));
        let text = format!("{} services: {shown} events/s, at least {wanted}", grouped(size));
        verdicts.push(Verdict { text, held: rate >= least });
    }
    if let [first, .., last] = all {
        let ratio = best(&last.mix_rounds) / best(&first.mix_rounds);
        let (few, many) = (grouped(first.size), grouped(last.size));
        let text = format!(
            "{many} services: an event costs {ratio:.2} times what it does with {few}, at most {DEARER_AT_MOST}"
        );
        verdicts.push(Verdict { text, held: ratio <= DEARER_AT_MOST });
    }
    verdicts
}

fn best(rounds: &[f64]) -> f64 {
    rounds.iter().copied().fold(f64::INFINITY, f64::min)
}

fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three digits are more than noise leaves.
fn figure(ns: f64) -> String {
    if ns < 10.0 { format!("{ns:.1}") } else { grouped(ns.round() as usize) }
}

/// 1437 → "1,437".
fn grouped(n: usize) -> String {
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
