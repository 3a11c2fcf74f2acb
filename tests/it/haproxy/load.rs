//! Constant traffic through a thousand switches and many reloads, in which nothing may fail.
//!
//! It needs the machine for itself, so it is run by itself: by CI and `make soak-haproxy`, both through `tests/haproxy/load.sh`.

use super::handoff::Pair;
use super::lab::{KeepAlive, get, until_within};
use super::reconcile::to;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

/// GETs a second: half of them over a connection each, half over kept ones.
const RATE: u32 = 2_000;

/// Kept connections that are used all the time, and the pause of each between two requests.
const BUSY: u32 = 50;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Kept connections that are idle most of the time: a reload finds them so. Within HAProxy's `timeout http-keep-alive` (10 s), after
/// which it closes, and within five reloads (`mworker-max-reloads`), after which it ends an old worker.
const IDLE: u32 = 20;
const IDLE_PAUSE: Duration = Duration::from_secs(2);

const SWITCHES: u32 = 1_000;

/// Enough for what is asked of CI; `make soak-haproxy` has ten times as many.
const RELOADS: u32 = 20;

/// How long it takes: 20 reloads in less than a minute, and no faster than a second each, as the shortest interval of the settings.
const LASTS: Duration = Duration::from_secs(40);
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// Whatever happens, the traffic ends by then.
const LASTS_AT_MOST: Duration = Duration::from_secs(900);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes 40 s and both cores: CI and `make soak-haproxy` run it by itself"]
async fn a_thousand_switches_and_many_reloads_under_2000_requests_a_second_fail_none() {
    let reloads = std::env::var("RELOADS").map_or(RELOADS, |text| text.parse().unwrap());
    let mut pair = Pair::start().await;
    let version = pair.lab.runtime().info().await.unwrap().version;
    let load = Load::start(pair.lab.port);
    until_within(Duration::from_secs(10), "the traffic flows", async || load.answered() > u64::from(RATE))
        .await;

    let lasts = LASTS.max(RELOAD_INTERVAL * reloads);
    let (begun, every) = (Instant::now(), SWITCHES / reloads);
    let mut took = Vec::new();
    for switch in 1..=SWITCHES {
        sleep_until(begun + lasts * switch / SWITCHES).await;
        let site = if switch % 2 == 0 { "onprem" } else { "cloud" };
        let (reload, number) = (switch % every == 0, switch / every);
        // Every other reload begins right before a switch, the others right after one.
        if reload && number % 2 == 0 {
            pair.reconfigure(1);
        }
        let ordered = Instant::now();
        pair.driver.desired.send(to(site, u64::from(switch))).unwrap();
        pair.driver.routed(u64::from(switch)).await;
        took.push(ordered.elapsed());
        if reload {
            if number % 2 == 1 {
                pair.reconfigure(1);
            }
            pair.in_force().await;
            pair.until_looked().await;
        }
        assert_eq!(pair.lab.site().await, site, "switch {switch}");
    }
    // While its clients go on: each is told once to open another connection.
    until_within(Duration::from_secs(15), "no old worker is left", async || {
        pair.lab.runtime().processes().await.is_ok_and(|seen| seen.old_workers.is_empty())
    })
    .await;
    assert_eq!(pair.lab.running().len(), 2, "a master and a worker run, and nobody else");
    let done = pair.lab.runtime().processes().await.unwrap();
    assert_eq!((done.master.reloads, done.failed), (reloads, 0));

    let tally = load.stop();
    took.sort_unstable();
    let at = |percent: usize| took[took.len() * percent / 100];
    eprintln!(
        "HAProxy {version}: {SWITCHES} switches (p50 {:?}, p99 {:?}), {reloads} reloads, {} GETs over new connections, {} over kept \
         ones, {:.0} a second, slowest {:?}, {} failed",
        at(50),
        at(99),
        tally.fresh,
        tally.kept,
        tally.rate(),
        tally.slowest,
        tally.failed.len()
    );
    assert!(tally.failed.is_empty(), "{:?}", &tally.failed[..tally.failed.len().min(20)]);
    assert!(
        tally.rate() > 0.95 * f64::from(RATE),
        "the machine is too slow: {:.0} GETs a second",
        tally.rate()
    );
}

/// Traffic on a thread of its own, so that what it measures does not hold it up.
struct Load {
    stop: Stop,
    answered: Arc<AtomicU64>,
    thread: JoinHandle<Tally>,
}

/// Ends the traffic when it is dropped: also with a test that fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What became of it.
#[derive(Default)]
struct Tally {
    fresh: u64,
    kept: u64,
    slowest: Duration,
    lasted: Duration,
    failed: Vec<String>,
}

impl Tally {
    fn rate(&self) -> f64 {
        (self.fresh + self.kept) as f64 / self.lasted.as_secs_f64()
    }

    fn add(&mut self, other: Tally) {
        self.fresh += other.fresh;
        self.kept += other.kept;
        self.slowest = self.slowest.max(other.slowest);
        self.failed.extend(other.failed);
    }
}

impl Load {
    fn start(port: u16) -> Load {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(send(port, stopped, counted))
        });
        Load { stop: Stop(stop), answered, thread }
    }

    fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    fn stop(self) -> Tally {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

async fn send(port: u16, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) -> Tally {
    let begun = Instant::now();
    let (mut tally, mut tasks) = (Tally::default(), JoinSet::new());
    for (count, pause) in [(BUSY, BUSY_PAUSE), (IDLE, IDLE_PAUSE)] {
        for n in 0..count {
            tasks.spawn(keep(port, pause, pause * n / count, Arc::clone(&stop), Arc::clone(&answered)));
        }
    }
    // On a schedule, whatever became of those before.
    let per_second = RATE - BUSY * 1_000 / u32::try_from(BUSY_PAUSE.as_millis()).unwrap();
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) && begun.elapsed() < LASTS_AT_MOST {
        while begun + Duration::from_secs(1) * sent / per_second <= Instant::now() {
            sent += 1;
            let answered = Arc::clone(&answered);
            tasks.spawn(async move {
                let at = Instant::now();
                let failed = get(port).await.err().map(|error| format!("new connection: {error}"));
                answered.fetch_add(1, Ordering::SeqCst);
                Tally {
                    fresh: 1,
                    slowest: at.elapsed(),
                    failed: failed.into_iter().collect(),
                    ..Tally::default()
                }
            });
        }
        while let Some(ended) = tasks.try_join_next() {
            tally.add(ended.unwrap());
        }
        sleep(Duration::from_millis(2)).await;
    }
    tally.lasted = begun.elapsed();
    while let Some(ended) = tasks.join_next().await {
        tally.add(ended.unwrap());
    }
    tally
}

/// One client with one connection, and the next one when HAProxy says that it closes it.
async fn keep(
    port: u16,
    pause: Duration,
    first: Duration,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
) -> Tally {
    let (mut tally, mut due) = (Tally::default(), Instant::now() + first);
    let mut connection: Option<KeepAlive> = None;
    while !stop.load(Ordering::SeqCst) && tally.lasted < LASTS_AT_MOST {
        sleep_until(due).await;
        let at = Instant::now();
        let got = async {
            let mut open = match connection.take() {
                Some(open) => open,
                None => KeepAlive::open(port).await?,
            };
            open.get().await?;
            Ok::<_, String>(Some(open).filter(|open| !open.closed()))
        };
        match got.await {
            Ok(open) => connection = open,
            Err(error) => tally.failed.push(format!("kept connection: {error}")),
        }
        answered.fetch_add(1, Ordering::SeqCst);
        tally.kept += 1;
        tally.slowest = tally.slowest.max(at.elapsed());
        // A late answer is no reason to send less.
        due += pause;
        tally.lasted += pause;
    }
    tally.lasted = Duration::ZERO;
    tally
}
