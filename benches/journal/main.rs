//! `make bench-journal`: how much a quiet day of 10, 1,000 and 10,000 servers adds to the store.
//!
//! The real core on a clock of its own, the real writer on the real disk. On a quiet day nothing moves: every server is
//! asked each second, one of 100,000 answers is lost and the next one comes, HAProxy is looked at, engines list their
//! containers, an Alertmanager answers, and every hour the state is stored whole. It exits 1 when the day of 1,000
//! servers is not under [`DAY_MAX`].
//!
//! `SIZES=10,1000 SEED=7 LOST=100000` choose.

mod world;

use crate::world::World;
use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use supervisor::domain::Span;
use supervisor::store::{Options, Record, Store};

/// Servers: each in a container, two to a service, one at each site.
const SIZES: [usize; 3] = [10, 1_000, 10_000];

/// Of the bound, 1,000 servers: what the journal of a quiet day may have.
const BOUND_SIZE: usize = 1_000;

/// Three weeks of such days are in the default bound of 256 MiB.
const DAY_MAX: u64 = 10_000_000;

/// One probe of so many gets no answer on a quiet day.
const LOST: u64 = 100_000;

/// A day that can be seen again.
const SEED: u64 = 20_260_118;

/// How long the writer may take for an hour's records.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    // `cargo bench` passes --bench. Test runners that list or run every target must not start a measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bench-journal: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let sizes = match std::env::var("SIZES") {
        Ok(text) if !text.is_empty() => {
            text.split(',').map(|word| word.trim().parse()).collect::<Result<Vec<usize>, _>>()?
        }
        _ => SIZES.to_vec(),
    };
    let (seed, lost) = (variable("SEED")?.unwrap_or(SEED), variable("LOST")?.unwrap_or(LOST));
    ensure!(lost > 0 && sizes.iter().all(|size| *size >= 2), "SIZES=2 and LOST=1 are the least");
    say(&format!("SEED={seed}, one probe of {lost} is lost"));
    say(
        "servers | records | their bytes | snapshots | their bytes | one as JSON | the day, on disk | slowest snapshot",
    );
    let mut well = true;
    for size in sizes {
        let day = measure(size, lost, seed).with_context(|| format!("{size} servers"))?;
        say(&format!(
            "{size:>7} | {:>7} | {:>8} KB | {:>9} | {:>8} KB | {:>8} KB | {:>12} KB | {:>13} ms",
            day.records,
            day.record_bytes / 1000,
            day.snapshots,
            day.snapshot_bytes / 1000,
            day.state_bytes / 1000,
            day.file_bytes / 1000,
            day.longest.as_millis(),
        ));
        if size == BOUND_SIZE && day.file_bytes >= DAY_MAX {
            say(&format!("missed: {} bytes are not under {DAY_MAX}", day.file_bytes));
            well = false;
        }
    }
    Ok(well)
}

/// What a day has added.
struct Day {
    records: u64,
    record_bytes: u64,
    snapshots: u64,
    snapshot_bytes: u64,
    state_bytes: usize,
    file_bytes: u64,
    longest: Duration,
}

fn measure(size: usize, lost: u64, seed: u64) -> Result<Day> {
    let dir = tempfile::tempdir()?;
    let (store, loaded) = Store::open(dir.path(), "bench", Options::default())?;
    let mut world = World::new(size / 2, loaded.next_seq, lost, seed)?;
    let mut longest = Duration::ZERO;
    // The start is no part of the day: what it stored is counted before.
    snapshot(&store, &world)?;
    submit(&store, world.boot()?)?;
    snapshot(&store, &world)?;
    let before = sizes(dir.path())?;
    for _ in 0..24 {
        submit(&store, world.pass_an_hour()?)?;
        longest = longest.max(snapshot(&store, &world)?);
    }
    ensure!(store.close(PATIENCE), "the store did not end");
    let after = sizes(dir.path())?;
    let mut state = world.state().clone();
    state.policy = supervisor::domain::Policy::default();
    Ok(Day {
        records: after.records - before.records,
        record_bytes: after.record_bytes - before.record_bytes,
        snapshots: after.snapshots - before.snapshots,
        snapshot_bytes: after.snapshot_bytes - before.snapshot_bytes,
        state_bytes: serde_json::to_vec(&state)?.len(),
        file_bytes: after.file_bytes.saturating_sub(before.file_bytes),
        longest,
    })
}

/// Stores `records`, in batches that the queue has room for.
fn submit(store: &Store, records: Vec<Record>) -> Result<()> {
    let committed = store.committed();
    for batch in records.chunks(1_000) {
        store.submit(batch.to_vec())?;
        let last = batch.last().map_or(0, |record| record.seq);
        until("the records are stored", || *committed.borrow() >= last)?;
    }
    Ok(())
}

/// Stores the state; how long that took.
fn snapshot(store: &Store, world: &World) -> Result<Duration> {
    let begun = Instant::now();
    let commits = store.status().commits;
    store.snapshot(Arc::new(world.state().clone()), world.now(), world.last_seq())?;
    until("the state is stored", || store.status().commits > commits)?;
    Ok(begun.elapsed())
}

fn until(what: &str, is: impl Fn() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is() {
        ensure!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// What is in a store.
struct Sizes {
    records: u64,
    record_bytes: u64,
    snapshots: u64,
    snapshot_bytes: u64,
    file_bytes: u64,
}

fn sizes(dir: &Path) -> Result<Sizes> {
    let conn = Connection::open(dir.join(supervisor::store::FILE))?;
    let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let pages = number("SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count")?;
    Ok(Sizes {
        records: number("SELECT count(*) FROM journal")?,
        record_bytes: number(
            "SELECT coalesce(sum(length(event) + length(changes) + length(actions) + length(reasons)), 0) FROM journal",
        )?,
        snapshots: number("SELECT count(*) FROM snapshot")?,
        snapshot_bytes: number("SELECT coalesce(sum(length(packed)), 0) FROM snapshot")?,
        file_bytes: pages * number("SELECT page_size FROM pragma_page_size")?,
    })
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
        Err(error) => anyhow::bail!("{name}: {error}"),
    }
}

/// An hour on the clock of the core.
pub(crate) const HOUR: Span = Span::seconds(3600);

/// One line for people, at once.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
