//! Constant traffic: N GETs a second on a fixed schedule, each with its own deadline.
//!
//! The loop is *open*: request `i` is due at `start + i/N` whatever became of the ones before it, so a server that
//! hangs for a second costs N failures and not one (no coordinated omission). The deadline counts from the due time.
//!
//! One thread with its own single-threaded runtime sends everything, so that what the rest of the program does (a slow
//! `docker` call, printing) cannot delay the schedule. Bounds: requests in all ([`Plan::lasts_at_most`]), requests in
//! flight ([`Plan::in_flight_at_most`]), bytes of a body ([`BODY_MAX_BYTES`]).
//!
//! It must never retry, follow a redirect or use a proxy of the environment: one request is one record.

use std::io::ErrorKind;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::measure::{Failure, Outcome, Record};

/// The header in which the API names the site that answered.
const SITE_HEADER: &str = "x-site";

/// More than any answer of the demo API; a body that does not end must not fill the memory.
const BODY_MAX_BYTES: usize = 64 * 1024;

/// Half of what is possible: before every ordinary process, behind what the system itself puts first.
const RULER_NICE: i32 = -10;

/// The traffic of the issue: 200 GETs a second, each with 2 s to be answered.
pub(crate) const RATE_PER_S: u32 = 200;
/// See [`RATE_PER_S`].
pub(crate) const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether requests share connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connections {
    /// A connection per request: every request is an independent client, none inherits another's dead connection.
    Fresh,
    /// A pool, as a browser or a gateway has.
    KeepAlive,
}

/// What to send.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The address of every GET.
    pub(crate) url: String,
    /// Requests per second.
    pub(crate) rate_per_s: u32,
    /// A request without a complete 2xx this long after its due time has failed.
    pub(crate) timeout: Duration,
    /// Whether requests share connections.
    pub(crate) connections: Connections,
    /// No request is due later than this after the start, stopped or not.
    pub(crate) lasts_at_most: Duration,
}

impl Plan {
    /// The traffic of the issue, on `url`, for at most `lasts_at_most`.
    pub(crate) fn new(url: &str, lasts_at_most: Duration) -> Self {
        Self {
            url: url.to_owned(),
            rate_per_s: RATE_PER_S,
            timeout: CLIENT_TIMEOUT,
            connections: Connections::Fresh,
            lasts_at_most,
        }
    }

    /// When request `i` is due, after the start.
    fn due(&self, i: u32) -> Duration {
        Duration::from_secs(1) * i / self.rate_per_s
    }

    /// Twice what can be in flight when nothing at all answers: reaching it means the generator itself is stuck.
    fn in_flight_at_most(&self) -> usize {
        (f64::from(self.rate_per_s) * self.timeout.as_secs_f64() * 2.0) as usize
    }
}

/// How well the generator kept its own promise; a bad one makes a measurement void.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keeping {
    /// The longest time by which a request left later than due.
    pub(crate) worst_lag: Duration,
    /// Processor time the sending thread used.
    pub(crate) cpu: Duration,
    /// How long it ran.
    pub(crate) ran: Duration,
}

/// Traffic that is running. Dropping it stops the sending.
pub(crate) struct Load {
    records: Arc<Mutex<Vec<Record>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<Keeping>>>,
}

impl Load {
    /// Starts the traffic of `plan` at once.
    pub(crate) fn start(plan: Plan) -> Result<Self> {
        let client = client(&plan)?;
        let records = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&records);
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || {
                // The schedule is the ruler, so it goes before what it measures where we may say so (root). It needs
                // under a tenth of a core. On Linux this is the thread's own priority: setpriority(2), "BUGS".
                let _ = rustix::process::setpriority_process(None, RULER_NICE);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(send_all(plan, client, shared, stopped))
            })
            .context("cannot start the thread of the load generator")?;
        Ok(Self { records, stop: Some(stop), thread: Some(thread) })
    }

    /// A copy of what is finished so far, in order of finishing.
    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at what finished at `after` or later until `find` answers or `deadline` has passed.
    pub(crate) async fn watch<T>(
        &self,
        after: Instant,
        deadline: Duration,
        mut find: impl FnMut(&[Record]) -> Option<T>,
    ) -> Option<T> {
        // Two requests' worth: fine enough to be prompt, and the times themselves come from the records.
        const STEP: Duration = Duration::from_millis(10);
        let end = Instant::now() + deadline;
        loop {
            let found = {
                let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
                // In order of finishing: one thread takes the time and appends, with nothing in between.
                find(&records[records.partition_point(|record| record.finished < after)..])
            };
            if found.is_some() || Instant::now() >= end {
                return found;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Stops sending, waits for what is in flight (each has its deadline) and hands everything over.
    pub(crate) async fn stop(mut self) -> Result<(Vec<Record>, Keeping)> {
        drop(self.stop.take());
        let thread = self.thread.take().context("the load generator was already stopped")?;
        let keeping = tokio::task::spawn_blocking(move || thread.join())
            .await
            .context("cannot wait for the load generator")?
            .map_err(|_| anyhow!("the load generator panicked"))??;
        Ok((self.records(), keeping))
    }
}

fn client(plan: &Plan) -> Result<reqwest::Client> {
    reqwest::Client::builder()
        // Plain HTTP on loopback: without this, building fails where no CA store is installed.
        .tls_certs_only([])
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .tcp_nodelay(true)
        .pool_max_idle_per_host(match plan.connections {
            Connections::Fresh => 0,
            Connections::KeepAlive => 64,
        })
        // Under HAProxy's `timeout http-keep-alive` (10 s), so that no request meets a connection about to close.
        .pool_idle_timeout(Duration::from_secs(5))
        .build()
        .context("cannot build the HTTP client of the load generator")
}

async fn send_all(
    plan: Plan,
    client: reqwest::Client,
    records: Arc<Mutex<Vec<Record>>>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<Keeping> {
    let url: reqwest::Url = plan.url.parse().with_context(|| format!("{:?} is no URL", plan.url))?;
    let start = Instant::now();
    let mut in_flight = JoinSet::new();
    let mut worst_lag = Duration::ZERO;
    for i in 0.. {
        let due = plan.due(i);
        if due >= plan.lasts_at_most {
            break;
        }
        let due = start + due;
        tokio::select! {
            // Both sides may be dropped at any time: a timer and a flag.
            _ = &mut stopped => break,
            () = tokio::time::sleep_until(due.into()) => {}
        }
        worst_lag = worst_lag.max(due.elapsed());
        while in_flight.try_join_next().is_some() {}
        if in_flight.len() >= plan.in_flight_at_most() {
            push(
                &records,
                Record { due, finished: Instant::now(), outcome: Outcome::Failed(Failure::NotSent) },
            );
            continue;
        }
        let (client, url, records, timeout) =
            (client.clone(), url.clone(), Arc::clone(&records), plan.timeout);
        in_flight.spawn(async move {
            let outcome = tokio::time::timeout_at((due + timeout).into(), get(&client, url))
                .await
                .unwrap_or(Outcome::Failed(Failure::Timeout));
            push(&records, Record { due, finished: Instant::now(), outcome });
        });
    }
    while in_flight.join_next().await.is_some() {}
    Ok(Keeping { worst_lag, cpu: thread_cpu(), ran: start.elapsed() })
}

fn push(records: &Mutex<Vec<Record>>, record: Record) {
    records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
}

/// One GET, read to the end of its body: headers alone are no answer.
async fn get(client: &reqwest::Client, url: reqwest::Url) -> Outcome {
    let mut response = match client.get(url).send().await {
        Ok(response) => response,
        Err(error) => return Outcome::Failed(failure(&error)),
    };
    let status = response.status();
    let site = response
        .headers()
        .get(SITE_HEADER)
        .and_then(|value| value.to_str().ok())
        .map_or_else(|| "unnamed".into(), Into::into);
    let mut left = BODY_MAX_BYTES;
    loop {
        match response.chunk().await {
            Ok(None) => break,
            Ok(Some(chunk)) if chunk.len() <= left => left -= chunk.len(),
            Ok(Some(_)) => return Outcome::Failed(Failure::BodyTooLong),
            Err(error) => return Outcome::Failed(failure(&error)),
        }
    }
    if status.is_success() {
        Outcome::Answered { site }
    } else {
        Outcome::Failed(Failure::Status(status.as_u16()))
    }
}

/// Reqwest's own text hides the cause; the I/O error at the root says which failure it was.
fn failure(error: &reqwest::Error) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return match io.kind() {
                ErrorKind::ConnectionRefused => Failure::Refused,
                ErrorKind::TimedOut => Failure::Timeout,
                _ => Failure::Broken,
            };
        }
        cause = error.source();
    }
    Failure::Broken
}

/// Processor time of the calling thread.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
