//! The scenes: a fault and its mending; a move ordered by a person. Each measures what the clients saw and notes what
//! it should have seen and did not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::show::Show;
use crate::support::docker::Engine;
use crate::support::faults::{self, Fault};
use crate::support::load::{CLIENT_TIMEOUT, Load};
use crate::support::measure::{self, Record, Window};
use crate::support::stack::{self, CLOUD, ONPREM, Server};
use crate::support::supervisor::{self, Event};

/// The stretch after a fault that is counted: every fault is detected and escaped well within it.
const COUNTED: Duration = Duration::from_secs(3);

/// Traffic that has not moved by then does not move.
pub(crate) const MOVE_DEADLINE: Duration = Duration::from_secs(10);

/// What supervisor did is in its events by then: a start of a container takes about a second, on a busy machine more.
pub(crate) const TOLD_DEADLINE: Duration = Duration::from_secs(15);

/// On-prem must be healthy for the failback time of compose/supervisor.toml first; a container must start.
const RETURN_DEADLINE: Duration = Duration::from_secs(40);

/// What the clients saw of one scene, and what was missing from it.
pub(crate) struct Act {
    /// Its name in the summary.
    pub(crate) name: String,
    /// From the fault or the order to the first answer of the other site.
    pub(crate) moved_after: Option<Duration>,
    /// The longest time without a success.
    pub(crate) silence: Duration,
    /// Requests of the whole scene, the way back included.
    pub(crate) sent: usize,
    /// Those that failed.
    pub(crate) failed: usize,
    /// From the mending, the order, or the end of what was counted, to the first answer of on-prem.
    pub(crate) back_after: Option<Duration>,
    /// What should have happened and did not.
    pub(crate) missing: Vec<String>,
}

/// What a scene needs.
pub(crate) struct Stage {
    /// Where it is told.
    pub(crate) show: Show,
    /// Where it happens.
    pub(crate) engine: Engine,
    /// The clients.
    pub(crate) load: Load,
}

impl Stage {
    /// Breaks on-prem in one way, waits for the move, mends it, waits for the return.
    pub(crate) async fn fault(&self, number: usize, fault: Fault) -> Result<Act> {
        let show = self.show;
        let name = fault.to_string();
        let mut missing = Vec::new();
        let seen_before = supervisor::last_seq().await.context("supervisor's events cannot be read")?;
        show.scene(&format!("{number} of {}", Fault::ALL.len()), &name, in_words(fault));
        show.typed(&fault.by_hand(&ONPREM));

        let broken = fault.apply(&self.engine, &ONPREM).await?.began;
        show.at(Duration::ZERO, "the on-prem API is broken");
        let moved = self.first_from(&CLOUD, broken, MOVE_DEADLINE).await;
        let moved_after = moved.map(|at| at.duration_since(broken));
        match moved_after {
            Some(after) => show.moved(after, "cloud answers"),
            None => missing.push(format!("{name}: no answer from cloud within {MOVE_DEADLINE:?}")),
        }
        // What is counted must be finished: each of its requests has had its time.
        let counted = broken + COUNTED;
        tokio::time::sleep_until((counted + CLIENT_TIMEOUT).into()).await;
        let first = measure::window(&self.load.records(), broken, counted);
        show.at(COUNTED, &counts(&first));
        if moved.is_some()
            && !only_from(&self.load.records(), &CLOUD, counted - Duration::from_secs(1), counted)
        {
            missing.push(format!("{name}: after {COUNTED:?} not all traffic was on cloud"));
        }
        match told(seen_before, "a failover to cloud", |event| event.code == "failover").await {
            Ok(words) => show.said(&words),
            Err(error) => missing.push(format!("{name}: {error:#}")),
        }

        let back_after = if is_healed(fault) {
            // A start that failed is told by the same code, and loudly.
            let started = |event: &Event| event.code == "healed" && event.level == "info";
            match told(seen_before, "a container that was started", started).await {
                Ok(words) => show.said(&words),
                Err(error) => missing.push(format!("{name}: {error:#}")),
            }
            show.at(COUNTED, "nobody mends it; it must stay healthy for a while before it gets traffic");
            self.returned(&name, counted, &mut missing).await
        } else {
            show.typed(&fault.mended_by_hand(&ONPREM));
            let mended = Instant::now();
            faults::mend(&self.engine, &ONPREM).await?;
            show.at(Duration::ZERO, "mended; it must stay healthy for a while before it gets traffic");
            self.returned(&name, mended, &mut missing).await
        };
        Ok(self.act(name, broken, moved_after, back_after, missing))
    }

    /// A person moves the traffic to cloud and back, and asks first what that would do.
    pub(crate) async fn by_hand(&self) -> Result<Act> {
        let show = self.show;
        let name = "by hand".to_owned();
        let mut missing = Vec::new();
        show.scene("and", "by hand", "nothing is broken: a person wants on-prem free, for maintenance");

        let dry = ["failover", "api", "--to", CLOUD.site, "--dry-run"];
        show.typed(&typed(&dry));
        let ran = supervisor::command(&dry).await?;
        show.printed(&ran.stdout);
        if ran.code != 0 {
            missing.push(format!("{name}: the dry run ended with {}: {}", ran.code, ran.stderr.trim()));
        }
        let still = only_from(&self.load.records(), &ONPREM, ran.began, ran.began + ran.took);
        if !still {
            missing.push(format!("{name}: traffic moved during the dry run"));
        }

        let order = &dry[..4];
        show.typed(&typed(order));
        let ran = supervisor::command(order).await?;
        show.printed(&ran.stdout);
        if ran.code != 0 {
            missing.push(format!("{name}: failover ended with {}: {}", ran.code, ran.stderr.trim()));
        }
        let ordered = ran.began;
        let moved = self.first_from(&CLOUD, ordered, MOVE_DEADLINE).await;
        let moved_after = moved.map(|at| at.duration_since(ordered));
        match moved_after {
            Some(after) => show.moved(after, "cloud answers, counted from starting the command"),
            None => missing.push(format!("{name}: no answer from cloud within {MOVE_DEADLINE:?}")),
        }
        let counted = ordered + COUNTED;
        tokio::time::sleep_until((counted + CLIENT_TIMEOUT).into()).await;
        show.at(COUNTED, &counts(&measure::window(&self.load.records(), ordered, counted)));

        let back = ["failback", "api"];
        show.typed(&typed(&back));
        let ran = supervisor::command(&back).await?;
        show.printed(&ran.stdout);
        if ran.code != 0 {
            missing.push(format!("{name}: failback ended with {}: {}", ran.code, ran.stderr.trim()));
        }
        let back_after = self.returned(&name, ran.began, &mut missing).await;
        Ok(self.act(name, ordered, moved_after, back_after, missing))
    }

    /// The first answer of `server` after a moment. What was due before but answered after counts: a request that
    /// the fault caught and the other site answered is the first that was saved.
    pub(crate) async fn first_from(
        &self,
        server: &Server,
        after: Instant,
        deadline: Duration,
    ) -> Option<Instant> {
        self.load
            .watch(after, deadline, |records| measure::first_finished_from(records, server.site, after))
            .await
    }

    /// Waits until on-prem serves everything again and supervisor is content.
    pub(crate) async fn returned(
        &self,
        name: &str,
        since: Instant,
        missing: &mut Vec<String>,
    ) -> Option<Duration> {
        // Due after the mending: a process that wakes up answers what it was asked before it slept.
        let first = |records: &[Record]| measure::first_from(records, ONPREM.site, since);
        let Some(back) = self.load.watch(since, RETURN_DEADLINE, first).await else {
            missing.push(format!("{name}: on-prem did not get its traffic back within {RETURN_DEADLINE:?}"));
            return None;
        };
        let after = back.duration_since(since);
        self.show.moved(after, "on-prem answers again");
        if let Err(error) = stack::until_supervisor_is_content(RETURN_DEADLINE).await {
            missing.push(format!("{name}: {error:#}"));
        }
        Some(after)
    }

    pub(crate) fn act(
        &self,
        name: String,
        from: Instant,
        moved_after: Option<Duration>,
        back_after: Option<Duration>,
        missing: Vec<String>,
    ) -> Act {
        let seen = measure::window(&self.load.records(), from, Instant::now());
        Act {
            name,
            moved_after,
            silence: seen.gap,
            sent: seen.sent,
            failed: seen.failed,
            back_after,
            missing,
        }
    }
}

/// Whether supervisor mends it. What a person does on purpose (`docker kill`, `docker pause`) it leaves to that person, and
/// what still runs it restarts only after longer than a scene lasts.
fn is_healed(fault: Fault) -> bool {
    match fault {
        Fault::Crash => true,
        Fault::Kill | Fault::Freeze | Fault::Hang | Fault::Http500 => false,
    }
}

/// The fault for somebody who has never seen one.
fn in_words(fault: Fault) -> &'static str {
    match fault {
        Fault::Crash => "the API's process dies, as from a bug or lack of memory",
        Fault::Kill => "somebody kills the container; supervisor leaves it alone, as it was somebody's wish",
        Fault::Freeze => "the container is frozen: it takes connections and never answers",
        Fault::Hang => "every process in the container hangs; Docker still says \"running\"",
        Fault::Http500 => "the API says that it is sick: /health answers 500, the rest still works",
    }
}

fn typed(args: &[&str]) -> String {
    format!("docker exec supervisor supervisor {}", args.join(" "))
}

fn counts(window: &Window) -> String {
    let mut text = format!(
        "{} requests sent, {} failed; longest silence {} ms",
        window.sent,
        window.failed,
        window.gap.as_millis()
    );
    for (failure, n) in &window.failures {
        text.push_str(&format!("; {failure} {n}"));
    }
    text
}

/// Whether there were successes due in the stretch and all came from `server`.
fn only_from(records: &[Record], server: &Server, from: Instant, to: Instant) -> bool {
    let mut sites =
        records.iter().filter(|r| r.due >= from && r.due < to).filter_map(Record::site).peekable();
    sites.peek().is_some() && sites.all(|site| site == server.site)
}

/// What supervisor said of the first event that is as `wanted`, in its own words; waits for it.
pub(crate) async fn told(seen_before: u64, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<String> {
    Ok(supervisor::told(seen_before, what, TOLD_DEADLINE, wanted).await?.words)
}
