//! Seeds are played: all kept ones, fresh ones, one.

use crate::fault::Kind;
use crate::plan::Plan;
use crate::script::script;
use crate::shrink::shrink;
use crate::world::{Outcome, World};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// As many fresh seeds as a run has where nobody says otherwise: some seconds of an unoptimised build.
const SEEDS: u64 = 24;

/// More failures than these help nobody, unless somebody wants to see what kinds there are (`NOSHRINK=1`).
const FAILURES_MAX: usize = 5;

fn failures_max() -> usize {
    if variable("NOSHRINK").is_some() { usize::MAX } else { FAILURES_MAX }
}

/// A plan that once failed.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The bug that it showed, in words.
    bug: String,
    /// Its bug is not mended yet: this is what it shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    known: Option<String>,
    plan: Plan,
}

/// What a run came to.
#[derive(Default)]
struct Total {
    seeds: u64,
    lasted: i64,
    steps: u64,
    injected: BTreeMap<Kind, u64>,
    failed: Vec<(u64, String)>,
}

impl Total {
    fn add(&mut self, seed: u64, outcome: Outcome) {
        self.seeds += 1;
        self.lasted += outcome.lasted;
        self.steps += outcome.steps;
        for (kind, count) in outcome.injected {
            *self.injected.entry(kind).or_default() += count;
        }
        self.failed.extend(outcome.violation.map(|words| (seed, words)));
    }
}

#[test]
fn kept_seeds_hold() {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/simulation/corpus");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let mut failed = Vec::new();
    for path in &paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept: Kept = serde_json::from_str(&std::fs::read_to_string(path).unwrap())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let violation = World::play(&kept.plan).violation;
        match (violation, kept.known) {
            (None, None) => {}
            (Some(words), None) => failed.push(format!("{name} ({}): {words}", kept.bug)),
            (Some(words), Some(known)) if words.contains(&known) => {
                say(&format!("{name}: known and not mended: {known}"));
            }
            (found, Some(known)) => {
                failed.push(format!("{name} is said to show {known:?}, and shows {found:?}"));
            }
        }
    }
    say(&format!("{} kept seeds", paths.len()));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_decisions() {
    for seed in 0..6 {
        let plan = Plan::of(seed);
        let (one, other) = (World::play_and_hash(&plan), World::play_and_hash(&plan));
        assert_eq!(one, other, "SEED={seed}");
    }
}

#[test]
fn fresh_seeds_hold() {
    if let Some(seed) = variable("SEED") {
        return tell(seed);
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let base = variable("BASE").unwrap_or_else(|| u64::try_from(clock.as_micros()).unwrap_or(0));
    let hours = variable("HOURS");
    let seeds = variable("SEEDS").unwrap_or(if hours.is_some() { u64::MAX } else { SEEDS });
    let enough =
        hours.map_or(i64::MAX, |hours| i64::try_from(hours).unwrap_or(i64::MAX).saturating_mul(3_600_000));
    say(&format!("BASE={base}"));
    let began = Instant::now();
    let total = play_all(base, seeds, enough);
    for (seed, words) in total.failed.iter().take(failures_max()) {
        say(&format!("\nSEED={seed} cargo test --release --test simulation fresh\n  {words}"));
        if variable("NOSHRINK").is_some() {
            continue;
        }
        let plan = shrink(&Plan::of(*seed));
        let kept = Kept { bug: "name it".to_owned(), known: None, plan };
        say(&format!(
            "  shrunk to {} faults: {}",
            kept.plan.faults.len(),
            World::play(&kept.plan).violation.unwrap_or_default()
        ));
        say(&serde_json::to_string(&kept).unwrap());
        match script(&kept.plan.cast, words, &World::overhear(&kept.plan)) {
            Ok(text) => say(&format!("as a scenario:\n{text}")),
            Err(why) => say(&format!("  no scenario: {why}")),
        }
    }
    let each = total.injected.iter().map(|(kind, count)| format!("{} {count}", kind.name()));
    say(&format!("faults: {}", each.collect::<Vec<_>>().join(", ")));
    let took = began.elapsed().as_secs_f64();
    say(&format!(
        "simulated {:.1} hours in {} seeds from {base} with {} faults and {} events in {took:.0} s: {} violations",
        total.lasted as f64 / 3_600_000.0,
        total.seeds,
        total.injected.values().sum::<u64>(),
        total.steps,
        total.failed.len(),
    ));
    assert!(total.failed.is_empty(), "{:?}", total.failed.first());
}

/// Plays seeds from `base` on, on all cores, until there are `seeds` of them or they have lasted `enough` milliseconds.
fn play_all(base: u64, seeds: u64, enough: i64) -> Total {
    let total = Mutex::new(Total::default());
    let (next, most) = (AtomicU64::new(0), failures_max());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            {
                let total = total.lock().unwrap();
                if number >= seeds || total.lasted >= enough || total.failed.len() >= most {
                    return;
                }
            }
            let seed = base.wrapping_add(number);
            let outcome = World::play(&Plan::of(seed));
            total.lock().unwrap().add(seed, outcome);
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(8);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    total.into_inner().unwrap()
}

/// Plays one seed and tells what happens in it.
fn tell(seed: u64) {
    let plan = match std::env::var("PLAN") {
        Ok(path) => {
            let text = std::fs::read_to_string(path).unwrap();
            serde_json::from_str::<Kept>(&text).unwrap().plan
        }
        Err(_) => Plan::of(seed),
    };
    say(&format!("{:?}", plan.cast));
    let outcome = World::tell(&plan, say);
    say(&format!("{:?}", outcome.violation));
    assert_eq!(outcome.violation, None);
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A line for whoever runs it; not captured.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
