//! `observe layer4 error-limit N`: how much a crash costs clients, and what a shortage of our own does to servers that are well. The
//! template's number is chosen by what this prints: `cargo test --test it -- --ignored haproxy::error_limit --nocapture`.

use super::alone::is_alone;
use super::lab::{Lab, get, get_from, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use supervisor::actuator::haproxy::template::{DEFAULT_TEMPLATE, render};
use supervisor::actuator::haproxy::{BindCheck, Outcome, apply, observe};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// What is tried.
const LIMITS: [u32; 3] = [1, 2, 3];

/// Each as often: the middle one counts.
const RUNS: usize = 5;

/// GETs a second.
const RATE: u32 = 200;

/// How long nobody gets a port for a new connection.
const SHORT_FOR: Duration = Duration::from_millis(300);

/// The lab with this limit, and checks as the settings' defaults have them.
async fn lab(limit: u32) -> Lab {
    let lab = Lab::start(|model| {
        let check = &mut model.services[0].check;
        (check.interval, check.timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    })
    .await;
    let written = "observe layer4 error-limit 1 ";
    assert!(DEFAULT_TEMPLATE.contains(written));
    let template = DEFAULT_TEMPLATE.replace(written, &format!("observe layer4 error-limit {limit} "));
    // Each request needs a connection to a server: what is idle and can be used again hides a shortage of them.
    assert!(template.contains("http-reuse safe"));
    let template = template.replace("http-reuse safe", "http-reuse never");
    // A reload, also where nothing else differs.
    let mut model = lab.model.clone();
    model.proxy.maxconn += 1;
    let outcome = apply(&lab.target(BindCheck::Local), &render(&model, &template).unwrap()).await.unwrap();
    assert!(matches!(outcome, Outcome::Applied { .. }), "{outcome:?}");
    until("both servers are well", async || usable(&lab).await == (true, true)).await;
    lab
}

async fn usable(lab: &Lab) -> (bool, bool) {
    let seen = observe(&lab.runtime(), &lab.map()).await.unwrap();
    let checked = |backend: &str, server: &str| {
        let line = &seen.servers[&(backend.to_owned(), server.to_owned())];
        line.usable && line.check_status.as_deref() == Some("L7OK")
    };
    (checked("api__onprem", "api-onprem"), checked("api__cloud", "api-cloud"))
}

fn middle<T: Ord + Copy>(mut of: Vec<T>) -> T {
    of.sort_unstable();
    of[of.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_crash_by_limit() {
    for limit in LIMITS {
        let (mut failed, mut slowest, mut gap) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let lab = lab(limit).await;
            let (port, begun, mut requests) = (lab.port, Instant::now(), JoinSet::new());
            for n in 0..2 * RATE {
                sleep_until(begun + Duration::from_secs(1) * n / RATE).await;
                if n == RATE {
                    lab.onprem.close().await;
                }
                requests.spawn(async move {
                    let at = Instant::now();
                    (get(port).await.is_ok(), at.elapsed(), Instant::now())
                });
            }
            let mut ended = requests.join_all().await;
            ended.sort_by_key(|(.., at)| *at);
            failed.push(ended.iter().filter(|(well, ..)| !well).count());
            slowest.push(ended.iter().map(|(_, took, _)| *took).max().unwrap());
            let well: Vec<Instant> = ended.iter().filter(|(well, ..)| *well).map(|(.., at)| *at).collect();
            gap.push(well.windows(2).map(|two| two[1] - two[0]).max().unwrap());
        }
        eprintln!(
            "crash, error-limit {limit}: failed {failed:?} of {}, middle of {RUNS}: slowest {:?}, gap {:?}",
            2 * RATE,
            middle(slowest),
            middle(gap)
        );
    }
}

/// Samples which servers HAProxy would use.
struct Watch {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Seen>,
}

/// For how long a server was not to be used, and both sites' at once.
#[derive(Debug, Default)]
struct Seen {
    onprem: Duration,
    both: Duration,
}

impl Watch {
    fn start(lab: &Lab) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, runtime, map) = (Arc::clone(&stop), lab.runtime(), lab.map());
        let task = tokio::spawn(async move {
            let (mut seen, mut last) = (Seen::default(), Instant::now());
            while !stopped.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(10)).await;
                let now = observe(&runtime, &map).await.unwrap();
                let down = |backend: &str, server: &str| {
                    !now.servers[&(backend.to_owned(), server.to_owned())].usable
                };
                let (onprem, cloud) = (down("api__onprem", "api-onprem"), down("api__cloud", "api-cloud"));
                let passed = last.elapsed();
                last = Instant::now();
                seen.onprem += if onprem { passed } else { Duration::ZERO };
                seen.both += if onprem && cloud { passed } else { Duration::ZERO };
            }
            seen
        });
        Watch { stop, task }
    }

    async fn stop(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap()
    }
}

#[test]
#[ignore = "a measurement"]
fn a_shortage_of_our_own_ports_by_limit() {
    const NAME: &str = "haproxy::error_limit::a_shortage_of_our_own_ports_by_limit";
    if is_alone(NAME, &["--net"], "ip link set lo up") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap().block_on(shortage());
    }
}

/// Of this network namespace, which the test has to itself.
fn ports_for_connections(range: &str) {
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).unwrap();
}

/// Nobody who connects gets a port while this lives: the only two there are, are taken.
struct Shortage(#[expect(dead_code, reason = "held")] [std::net::TcpListener; 2]);

impl Shortage {
    fn begin() -> Shortage {
        let taken = [40_000, 40_001].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
        ports_for_connections("40000 40001");
        Shortage(taken)
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        ports_for_connections("42000 60999");
    }
}

#[expect(clippy::print_stderr, reason = "a measurement tells its figures")]
async fn shortage() {
    for limit in LIMITS {
        let (mut failed, mut onprem, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            ports_for_connections("42000 60999");
            let lab = lab(limit).await;
            let watch = Watch::start(&lab);
            let (port, begun, mut requests) = (lab.port, Instant::now(), JoinSet::new());
            let mut shortage = None;
            for n in 0..5 * RATE {
                sleep_until(begun + Duration::from_secs(1) * n / RATE).await;
                if n == RATE {
                    shortage = Some((Shortage::begin(), Instant::now()));
                }
                if shortage.as_ref().is_some_and(|(_, since)| since.elapsed() >= SHORT_FOR) {
                    shortage = None;
                }
                // Each client has a port of its own: they are not to be short of any.
                let from = (std::net::Ipv4Addr::new(127, 0, 1, 1), 1_024 + u16::try_from(n).unwrap());
                requests.spawn(async move { get_from(from.into(), port).await.is_ok() });
            }
            failed.push(requests.join_all().await.iter().filter(|well| !**well).count());
            let seen = watch.stop().await;
            onprem.push(seen.onprem);
            both.push(seen.both);
        }
        eprintln!(
            "no ports for {SHORT_FOR:?}, error-limit {limit}: failed {failed:?} of {}, middle of {RUNS}: the server is down for {:?}, \
             both sites' for {:?}",
            5 * RATE,
            middle(onprem),
            middle(both)
        );
    }
}
