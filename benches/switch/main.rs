//! `make bench-switch`: how long a switch takes, from the event at the loop to the first answer of the other pool, beside a bare
//! `set map` in the same run.
//!
//! ```text
//!   Docker's `die` ─► loop: decide, publish ─► driver: look, set map, read back ─► loop: Routed ─► GET     ours
//!   set map … ─────────────────────────────────────────────────────────────────────────────────► GET     bare
//! ```
//!
//! The loop is the daemon's own turns around the real core (looping.rs), the driver its task, HAProxy a real one (the machine's, or
//! HAPROXY), the events those of containers that crash and come back (world.rs). They take turns, each for a service of its own in the
//! same HAProxy. Then an engine lists a thousand services' containers as dead, and all are switched in one commit.
//!
//! `ROUNDS=2000 SERVICES=1000 COMMITS=20` choose. It exits 1 when something other than that happened, and when a bound is missed (not
//! with BOUNDS=report).

// The lab of the tests; what this does not need of it is not missed.
#[path = "../../tests/it/haproxy/lab.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is the tests'")]
mod lab;
mod looping;
mod world;

use crate::lab::{Lab, free_port};
use crate::looping::Running;
use crate::world::World;
use anyhow::{Context, Result, bail, ensure};
use std::io::Write as _;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};
use supervisor::actuator::haproxy::template::{Model, ServiceModel};
use supervisor::actuator::haproxy::{Command, Worker, naming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// Enough for a 99th percentile that does not hang on a handful; some ten seconds.
const ROUNDS: usize = 2_000;

/// Switched in one commit.
const SERVICES: usize = 1_000;
const COMMITS: usize = 20;

/// Not counted: caches, and the machine's own start.
const WARM_UP: usize = 20;

/// How much longer than a bare one a switch may take, at the 99th percentile.
const LONGER_AT_MOST: f64 = 2.0;

/// How long a thousand services may take.
const COMMIT_MAX: Duration = Duration::from_millis(50);

/// Between two switches: what follows one (old workers, the map's file) is over by the next.
const PAUSE: Duration = Duration::from_millis(3);

/// An exchange takes a millisecond; a longer wait is for something that does not come.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    // `cargo bench` passes --bench. Test runners that list or run every target must not start a measurement.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    match runtime.context("no runtime").and_then(|runtime| runtime.block_on(run())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("bench-switch: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool> {
    let rounds = variable("ROUNDS")?.unwrap_or(ROUNDS);
    let (services, commits) =
        (variable("SERVICES")?.unwrap_or(SERVICES), variable("COMMITS")?.unwrap_or(COMMITS));
    ensure!(
        rounds >= 100 && services > 0 && commits > 0,
        "ROUNDS=100, SERVICES=1 and COMMITS=1 are the least"
    );
    let (ours, bare) = one_by_one(rounds).await?;
    let ratio = ours.at(99).as_secs_f64() / bare.at(99).as_secs_f64();
    say(&format!("{rounds} switches each    p50        p99        slowest"));
    say(&format!("event to answer     {ours}"));
    say(&format!("bare set map + GET  {bare}"));
    say(&format!(
        "ratio               {:<10.2} {ratio:<10.2}",
        ours.at(50).as_secs_f64() / bare.at(50).as_secs_f64()
    ));
    let (many, with_haproxy) = all_at_once(services, commits).await?;
    say(&format!("{services} services in one commit, {commits} times:"));
    say(&format!("event to answer     {many}"));
    say(&format!("driver and HAProxy  {with_haproxy}"));

    let mut well = true;
    let mut judge = |held: bool, text: String| {
        say(&format!("{} {text}", if held { "held  " } else { "MISSED" }));
        well &= held;
    };
    judge(
        ratio <= LONGER_AT_MOST,
        format!("p99 of a switch is {ratio:.2} times that of a bare one, at most {LONGER_AT_MOST}"),
    );
    if services == SERVICES {
        judge(
            many.at(50) < COMMIT_MAX,
            format!("{services} services in {:?} (median), less than {COMMIT_MAX:?}", many.at(50)),
        );
    }
    // A busy machine misses bounds without a fault of ours: CI takes the figures and leaves the verdict to people.
    Ok(well || std::env::var("BOUNDS").as_deref() == Ok("report"))
}

/// One service is switched by us, another one by hand, in turn.
async fn one_by_one(rounds: usize) -> Result<(Times, Times)> {
    let bare_port = free_port();
    let lab = Lab::start(|model| {
        let service = another(model, "bare", &format!("127.0.0.1:{bare_port}"), None);
        model.services.push(service);
    })
    .await;
    let version = lab.runtime().info().await?.full_version;
    say(&format!("HAProxy {version}, one service"));
    let (map, bare) = (lab.map(), lab::ident("bare"));
    let add = Command::add_map(&map, &bare, &naming::pool_backend("bare", "onprem")?);
    lab.runtime().order(Worker::Current, &add).await?;

    let world = World::new(&["api".to_owned()])?;
    let mut running = Running::start(&lab, &world).await?;
    let (mut ours, mut theirs) = (Times::default(), Times::default());
    for round in 0..rounds + WARM_UP {
        let (from, to) = if round % 2 == 0 { ("onprem", "cloud") } else { ("cloud", "onprem") };
        let began = Instant::now();
        running.happens(world.died(0, from)?).await?;
        running.routed(1, to).await.with_context(|| format!("switch {round}"))?;
        answers(lab.port, "api", to).await?;
        let took = began.elapsed();
        running.recovers(&world, from).await?;
        tokio::time::sleep(PAUSE).await;

        let began = Instant::now();
        set_map(&lab, &format!("set map {map} bare {}\n", naming::pool_backend("bare", to)?)).await?;
        answers(bare_port, "bare", to).await?;
        let bare_took = began.elapsed();
        tokio::time::sleep(PAUSE).await;
        if round >= WARM_UP {
            ours.0.push(took);
            theirs.0.push(bare_took);
        }
    }
    running.end().await?;
    Ok((ours.sorted(), theirs.sorted()))
}

/// All services are switched by one event, there and back again.
async fn all_at_once(services: usize, commits: usize) -> Result<(Times, Times)> {
    let names: Vec<String> = (0..services).map(|number| format!("service-{number}")).collect();
    let port = free_port();
    let lab = Lab::start(|model| {
        for name in &names {
            let service = another(model, name, &format!("127.0.0.1:{port}"), Some(format!("{name}.example")));
            model.services.push(service);
        }
    })
    .await;
    let world = World::new(&names)?;
    let mut running = Running::start(&lab, &world).await?;
    let last = format!("{}.example", names[names.len() - 1]);
    let (mut times, mut with_haproxy) = (Times::default(), Times::default());
    for round in 0..=commits {
        let (from, to) = if round % 2 == 0 { ("onprem", "cloud") } else { ("cloud", "onprem") };
        let began = Instant::now();
        running.happens(world.all_dead(from)?).await?;
        let took = running.routed(services, to).await.with_context(|| format!("commit {round}"))?;
        answers(port, &last, to).await?;
        // The first one adds the entries.
        if round > 0 {
            times.0.push(began.elapsed());
            with_haproxy.0.push(took);
        }
        running.recovers(&world, from).await?;
        // So long a look at so many servers takes; none is to be under way at the next event.
        tokio::time::sleep(PAUSE * 50).await;
    }
    running.end().await?;
    Ok((times.sorted(), with_haproxy.sorted()))
}

/// A service like the lab's, with another name, which HAProxy does not check: that is no part of this.
fn another(model: &Model, name: &str, bind: &str, host: Option<String>) -> ServiceModel {
    let mut service = model.services[0].clone();
    service.name = lab::ident(name);
    bind.clone_into(&mut service.bind);
    service.host = host;
    service.check.interval = Duration::from_secs(60);
    service
}

/// As by hand: one connection, one command, its reply to the end.
async fn set_map(lab: &Lab, command: &str) -> Result<()> {
    let exchange = async {
        let mut stream = UnixStream::connect(lab.dir.path().join("admin.sock")).await?;
        stream.write_all(command.as_bytes()).await?;
        stream.shutdown().await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        anyhow::Ok(reply)
    };
    let reply = tokio::time::timeout(PATIENCE, exchange).await.context("no reply to set map")??;
    ensure!(reply == "\n", "HAProxy says {reply:?} to {command:?}");
    Ok(())
}

/// One GET over a connection of its own, which `site` must answer.
async fn answers(port: u16, host: &str, site: &str) -> Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(PATIENCE, exchange).await.context("no answer")??;
    ensure!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{site}")),
        "{host}: not {site} answered but: {answer}"
    );
    Ok(())
}

/// How long each took, the shortest first.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn sorted(mut self) -> Times {
        self.0.sort_unstable();
        self
    }

    fn at(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| format!("{:.3} ms", time.as_secs_f64() * 1_000.0);
        write!(f, "{:<10} {:<10} {:<10}", ms(self.at(50)), ms(self.at(99)), ms(self.at(100)))
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
