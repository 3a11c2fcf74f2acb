//! `make bench-core`: what an event costs the core, `decide` and `apply`, with 10 to 10,000 services.
//!
//! ```text
//! for each size: a simulated world makes events, each checked against the invariants    world.rs, mix.rs, kinds.rs
//! for each round, each size: the same events once more, timed and unchecked             recording.rs
//! table, target/bench/core.json, verdicts                                               report.rs
//! ```
//!
//! `SIZES=10,1000 ROUNDS=5 EVENTS=20000 SEED=7` choose, ONLY=mix leaves the kinds out; the seed is printed. Sizes take turns within each round, so that a
//! machine that is busy for a while is busy for all of them. Time is wall time on one thread: noise only adds to it, so
//! bounds are judged by the best round. It exits 1 when what it measured is not what it says, and when a bound is missed
//! (not with BOUNDS=report).
//!
//! Where time is too noisy, instructions are not. `replay` is what is timed:
//!
//! ```text
//! export CARGO_PROFILE_BENCH_STRIP=none CARGO_PROFILE_BENCH_DEBUG=line-tables-only
//! cargo bench --bench core --no-run
//! SIZES=1000 ROUNDS=1 ONLY=mix BOUNDS=report valgrind --tool=callgrind \
//!     --collect-atstart=no --toggle-collect='core::recording::replay' target/release/deps/core-HASH --bench
//! ```

mod kinds;
mod mix;
mod recording;
mod report;
mod world;

use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::report::Measured;

/// Services: each at two sites, with one server and one container at each.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

/// Enough for a median, in less than a minute.
const ROUNDS: usize = 15;

/// Of the mix, per round: some hundred failovers.
const EVENTS: usize = 100_000;

/// A world that can be seen again.
const SEED: u64 = 20_260_118;

fn main() -> ExitCode {
    // `cargo bench` passes --bench. Test runners that list or run every target must not start a measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bench-core: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures; whether every bound held.
fn run() -> Result<bool> {
    let sizes = variable("SIZES")?.map_or(SIZES.to_vec(), |List(sizes)| sizes);
    let rounds = variable("ROUNDS")?.unwrap_or(ROUNDS);
    let events = variable("EVENTS")?.unwrap_or(EVENTS);
    let seed = variable("SEED")?.unwrap_or(SEED);
    let only_mix = match variable::<String>("ONLY")?.as_deref() {
        None => false,
        Some("mix") => true,
        Some(other) => bail!("ONLY={other}: only ONLY=mix is known"),
    };
    ensure!(rounds > 0, "ROUNDS=0 measures nothing; ROUNDS=1 is the least");
    ensure!(!sizes.is_empty() && !sizes.contains(&0), "SIZES wants numbers of services, as in SIZES=10,1000");
    say(&format!("SEED={seed}, {rounds} rounds of {events} events of the mix, services: {sizes:?}"));

    let mut measured = Vec::new();
    for size in sizes {
        let mix = mix::record(size, events, seed).with_context(|| format!("the mix of {size} services"))?;
        let kinds = (!only_mix).then(|| kinds::record(size, seed)).transpose();
        let kinds = kinds.with_context(|| format!("each kind with {size} services"))?;
        say(&format!("{size} services are recorded; the invariants held at every step"));
        measured.push(Measured::new(size, mix, kinds));
    }
    report::check(&measured)?;
    for _ in 0..rounds {
        measured.iter_mut().try_for_each(Measured::measure)?;
    }

    say(&report::table(&measured));
    let path = report::write_json(seed, &measured)?;
    say(&format!("all figures are in {}", path.display()));
    let verdicts = report::verdicts(&measured);
    for verdict in &verdicts {
        say(&verdict.to_string());
    }
    // A busy machine misses bounds without a fault of ours: CI takes the figures and leaves the verdict to people.
    let judged = std::env::var("BOUNDS").as_deref() != Ok("report");
    Ok(!judged || verdicts.iter().all(|verdict| verdict.held))
}

/// A list as in `SIZES=10,100`.
struct List(Vec<usize>);

impl FromStr for List {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<List, Self::Err> {
        text.split(',').map(|word| word.trim().replace('_', "").parse()).collect::<Result<_, _>>().map(List)
    }
}

/// Reads a variable; an empty one counts as not set, as `make` passes them.
fn variable<T: FromStr>(name: &str) -> Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => text.parse().map(Some).with_context(|| format!("{name}={text}")),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => bail!("{name}: {error}"),
    }
}

/// One line for people, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
