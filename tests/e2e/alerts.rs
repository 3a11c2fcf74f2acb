//! Who is told when a person stops on-prem: through Alertmanager, and directly where Alertmanager is stopped or frozen.
//! Mails are counted: one for the beginning, one for the end, whatever Alertmanager does.
//!
//! (An Alertmanager that answers 500, is another program, or forgets: tests/it/daemon/alertmanager.rs.)

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;

use crate::support::alerts::{self, Mail, POOL_DOWN, Path};
use crate::support::docker::{self, Engine};
use crate::support::load::{Load, Plan};
use crate::support::measure;
use crate::support::stack::{self, ALERTMANAGER, CLOUD, ONPREM};
use crate::support::supervisor::{self, Incident};
use crate::support::wait::{self, Seen};
use crate::world::{Failed, Needs, failures, on_stack};

/// What has to happen at once happens by then, also on a machine that is busy.
const AT_ONCE: Duration = Duration::from_secs(10);

/// `group_wait` of alertmanager/alertmanager.yml.
const GROUP_WAIT: Duration = Duration::from_secs(30);

/// `group_interval` of alertmanager/alertmanager.yml.
const GROUP_INTERVAL: Duration = Duration::from_secs(60);

/// `alerts.fallback_after` of compose/supervisor.toml.
const FALLBACK_AFTER: Duration = Duration::from_secs(30);

/// `services.api.failback.after` of compose/supervisor.toml.
const FAILBACK_AFTER: Duration = Duration::from_secs(3);

/// `for` of the rule `ServerDown` in prometheus/rules/servers.yml.
const PROMETHEUS_WAITS: Duration = Duration::from_secs(60);

/// Two looks of Prometheus, five seconds apart, and a mail's way.
const SLACK: Duration = Duration::from_secs(15);

/// README's and docs/alerts.md's walk-through, word for word.
#[test]
fn a_person_stops_onprem_and_everybody_hears_of_it_once() -> Result<(), Failed> {
    const DEADLINE: Duration = Duration::from_secs(330);
    on_stack(Needs::Everything, DEADLINE, |engine| async move {
        let known = alerts::until_all_is_told().await?;
        let seq = supervisor::last_seq().await?;
        let load = Load::start(Plan::new(stack::TRAFFIC_URL, DEADLINE))?;

        let (stopped, at) = (Instant::now(), Timestamp::now());
        docker(&["stop", ONPREM.container]).await?;
        let cloud =
            load.watch(stopped, AT_ONCE, |r| measure::first_finished_from(r, CLOUD.site, stopped)).await;
        println!("cloud answers {:?} after the stop", cloud.context("cloud does not answer")? - stopped);
        let respected =
            |event: &supervisor::Event| event.words.starts_with("api-onprem was stopped by an operator");
        let said = supervisor::told(seq, "the operator's stop", AT_ONCE, respected).await?;
        ensure!(said.words.contains("nothing is started"), "{said:?}");

        let ours = until_alertmanager_has(POOL_DOWN, AT_ONCE).await?;
        ensure!(ours.receivers == ["email-notifications"], "{ours:?}");
        let firing =
            alerts::until_mailed(known, "[FIRING:1] PoolDown", GROUP_WAIT.max(GROUP_INTERVAL) + SLACK)
                .await?;
        println!("{:?} after the stop: {firing:?}", firing.after(at));

        let server_down = until_prometheus_fires(PROMETHEUS_WAITS + SLACK).await?;
        let shown = stopped.elapsed();
        println!("Prometheus shows {} as firing {shown:?} after the stop", server_down.label("alertname"));
        ensure!(shown >= PROMETHEUS_WAITS, "not after a minute, but after {shown:?}");
        // Its copy is shown and mailed to nobody: supervisor's own alert is the page.
        let theirs = until_alertmanager_has("ServerDown", AT_ONCE).await?;
        ensure!(theirs.receivers == ["no-mail"], "{theirs:?}");

        let held = supervisor::container_named(ONPREM.container).await?;
        ensure!(held.phase == "held" && held.words.contains("stopped by an operator"), "{held:?}");
        ensure!(!engine.inspect(ONPREM.container).await?.running, "supervisor started it");
        let events = supervisor::events_after(seq).await?;
        ensure!(!events.iter().any(|event| ["heals", "healed"].contains(&event.code.as_str())), "{events:?}");

        let (started, at) = (Instant::now(), Timestamp::now());
        docker(&["start", ONPREM.container]).await?;
        let back = load.watch(started, AT_ONCE, |r| measure::first_from(r, ONPREM.site, started)).await;
        let back = back.context("onprem does not get its traffic back")? - started;
        println!("onprem answers {back:?} after the start");
        ensure!(back >= FAILBACK_AFTER, "back after {back:?}: sooner than the failback time");
        let resolved = alerts::until_mailed(known, "[RESOLVED] PoolDown", GROUP_INTERVAL + SLACK).await?;
        println!("{:?} after the start: {resolved:?}", resolved.after(at));

        told_once(known, &Path::Alertmanager).await?;
        let (records, _) = load.stop().await?;
        let lost = failures(&records);
        ensure!(lost.is_empty(), "{} requests failed: {lost:?}", lost.len());
        Ok(())
    })
}

#[test]
fn with_alertmanager_stopped_people_get_the_same_two_mails_directly_and_none_when_it_is_back()
-> Result<(), Failed> {
    on_stack(Needs::Everything, Duration::from_secs(300), |engine| async move {
        let known = alerts::until_all_is_told().await?;
        docker(&["stop", ALERTMANAGER]).await?;
        mailed_directly(known, &engine).await?;

        docker(&["start", ALERTMANAGER]).await?;
        alerts::until_handed_over(GROUP_WAIT).await?;
        // What Alertmanager has to mail, it mails by then.
        tokio::time::sleep(GROUP_WAIT + AT_ONCE).await;
        alerts::until_handed_over(AT_ONCE).await?;
        let mails = alerts::about_a_pool(known).await?;
        ensure!(mails.len() == 1, "while it lasts there is one mail: {mails:?}");

        ended_directly(known, &engine).await
    })
}

#[test]
fn with_alertmanager_frozen_people_get_the_same_two_mails_directly_and_none_when_it_is_back()
-> Result<(), Failed> {
    on_stack(Needs::Everything, Duration::from_secs(300), |engine| async move {
        let known = alerts::until_all_is_told().await?;
        engine.pause(ALERTMANAGER).await?;
        mailed_directly(known, &engine).await?;

        engine.unpause(ALERTMANAGER).await?;
        alerts::until_handed_over(GROUP_WAIT).await?;
        ended_directly(known, &engine).await
    })
}

/// Stops on-prem; its mail comes directly, as soon as it may.
#[expect(clippy::print_stdout, reason = "a run shows how long it took")]
async fn mailed_directly(known: usize, engine: &Engine) -> Result<()> {
    engine.stop(ONPREM.container).await?;
    let opened = until_open(AT_ONCE).await?.since.context("an incident without a beginning")?;
    let firing = alerts::until_mailed(known, "[FIRING:1] PoolDown", FALLBACK_AFTER + SLACK).await?;
    println!("{:?} after the opening: {firing:?}", firing.after(opened));
    ensure!(firing.after(opened) >= FALLBACK_AFTER, "too early: {:?}", firing.after(opened));
    wait::until("supervisor to know that it told", AT_ONCE, || async {
        let open = supervisor::incidents().await?;
        let told = open.iter().any(|incident| incident.name == POOL_DOWN && incident.told_by == "mail");
        Ok(if told { Seen::Yes(()) } else { Seen::NotYet(format!("{open:?}")) })
    })
    .await
}

/// Starts on-prem again; the mail about it comes directly too, and those two are all.
#[expect(clippy::print_stdout, reason = "a run shows how long it took")]
async fn ended_directly(known: usize, engine: &Engine) -> Result<()> {
    let at = Timestamp::now();
    engine.start(ONPREM.container).await?;
    let resolved = alerts::until_mailed(known, "[RESOLVED] PoolDown", SLACK).await?;
    println!("{:?} after the start: {resolved:?}", resolved.after(at));
    stack::until_onprem_serves(SLACK).await?;
    told_once(known, &Path::Supervisor).await
}

/// One mail of the beginning, then one of the end, both through `path`.
async fn told_once(known: usize, path: &Path) -> Result<()> {
    let mails = alerts::about_a_pool(known).await?;
    let one_each = matches!(mails.as_slice(), [first, second] if first.fires() && !second.fires());
    ensure!(
        one_each && mails.iter().all(|mail: &Mail| mail.path == *path),
        "not one each by {path}: {mails:?}"
    );
    Ok(())
}

async fn until_open(deadline: Duration) -> Result<Incident> {
    wait::until("the pool's incident to open", deadline, || async {
        let open = supervisor::incidents().await?;
        let found = open.iter().find(|incident| incident.name == POOL_DOWN).cloned();
        Ok(found.map_or_else(|| Seen::NotYet(format!("{open:?}")), Seen::Yes))
    })
    .await
}

/// Waits until Alertmanager has an alert of this name that nobody mailed for it.
async fn until_alertmanager_has(name: &str, deadline: Duration) -> Result<alerts::Alert> {
    wait::until(&format!("Alertmanager to have {name}"), deadline, || async {
        let alerts = alerts::at_alertmanager(name).await?;
        // What was mailed for it stays on its page for up to two minutes after the end.
        let found = alerts.iter().find(|alert| alert.label("delivered_by").is_empty());
        Ok(found.map_or_else(|| Seen::NotYet(format!("{alerts:?}")), |alert| Seen::Yes(alert.clone())))
    })
    .await
}

async fn until_prometheus_fires(deadline: Duration) -> Result<alerts::Alert> {
    wait::until("Prometheus to show ServerDown as firing", deadline, || async {
        let shown = alerts::at_prometheus("ServerDown").await?;
        let found = shown.iter().find(|alert| alert.state == "firing" && alert.label("site") == ONPREM.site);
        Ok(found.map_or_else(|| Seen::NotYet(format!("{shown:?}")), |alert| Seen::Yes(alert.clone())))
    })
    .await
}

/// What a person types.
async fn docker(args: &[&str]) -> Result<()> {
    docker::docker(args, b"", Duration::from_secs(20)).await?.ok()?;
    Ok(())
}
