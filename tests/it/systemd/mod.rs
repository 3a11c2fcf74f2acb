//! The unit under a real systemd: `systemd/supervisor.service`, installed by the README's own commands.

mod machine;
mod traffic;

use crate::haproxy::lab;
use machine::{Machine, said};
use std::time::{Duration, Instant};
use traffic::Traffic;

/// Shorter than the unit's, which is 10 s: a test waits for it. The unit's own was tried by hand (docs/service.md).
const WATCHDOG: Duration = Duration::from_secs(3);

/// What a stop may take: the process promises two seconds.
const STOPS_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_steps_install_it_and_its_start_ends_after_the_first_observation() {
    let machine = Machine::boot("install").await;
    // HAProxy's directories may be HAProxy's: that is what the one capability is for.
    machine.do_so("install -d -o haproxy -g haproxy -m 0755 /var/lib/haproxy/maps").await;
    // Probes of this server are over when their time is: a second.
    machine.cloud.hang(true);
    let took = machine.install(&machine.settings()).await;
    assert!(took >= Duration::from_secs(1), "started after {took:?}");
    let view = machine.view().await.unwrap();
    let servers = &view.services[0].servers;
    assert!(servers.iter().all(|server| server.evidence.is_some()), "{servers:?}");
    assert!(lab::get(machine.port).await.is_ok(), "what is ordered after it finds HAProxy routed");
    assert_eq!(machine.property("StatusText").await, "degraded: api on onprem");
    assert_eq!(machine.do_so("systemctl is-enabled supervisor").await.trim(), "enabled");
    machine.cloud.hang(false);
    let status = "well: api on onprem";
    lab::until(&format!("the status line is {status:?}"), async || {
        machine.property("StatusText").await == status
    })
    .await;

    // What is taken away from it does not hinder it.
    machine.until("Docker answers", |view| view.engines[0].up == Some(true)).await;
    machine.until("a container is seen", |view| view.containers[0].phase == "runs").await;
    machine.do_so("test -s /var/lib/supervisor/supervisor.db && test -S /run/supervisor/control.sock").await;
    assert!(machine.do_so("supervisor events").await.contains("HAProxy haproxy answers"));
    machine.do_so("supervisor failover api --to cloud").await;
    machine.until_served_from("cloud").await;
    machine.do_so("supervisor failback api").await;
    machine.until_served_from("onprem").await;
    // HAProxy's worker is not root's.
    let worker = machine.view().await.unwrap().proxies[0].pid.unwrap();
    let owner = machine.do_so(&format!("stat --format %U /proc/{worker}")).await;
    assert_eq!(owner.trim(), "haproxy");
    // Of 100; 22 when this was written, of which most is that it runs as root.
    machine.do_so("systemd-analyze security --no-pager --threshold=25 supervisor.service").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_good_settings_over_and_fails_for_bad_ones_which_change_nothing() {
    let machine = Machine::with_supervisor("reload", "").await;
    let process = machine.property("MainPID").await;
    let good =
        machine.settings().replace(r#"prefer = ["onprem", "cloud"]"#, r#"prefer = ["cloud", "onprem"]"#);
    machine.set(&good).await;
    machine.do_so("systemctl reload supervisor").await;
    machine.until_logged("the settings were read again, as asked, and are good").await;
    machine.until_served_from("cloud").await;

    machine.set(&good.replace("interval = \"200ms\"", "interval = \"200\"")).await;
    let reload = machine.run("systemctl reload supervisor").await;
    assert!(!reload.status.success(), "{}", said(&reload));
    machine.until_logged("services.api.ready.interval: \"200\" has no unit").await;
    lab::until("the status line says it", async || {
        machine.property("StatusText").await.contains("new settings refused, the old ones stay in force")
    })
    .await;
    assert_eq!(machine.property("ActiveState").await, "active");
    assert_eq!(lab::get(machine.port).await.as_deref(), Ok("cloud"));

    machine.set(&good).await;
    machine.do_so("systemctl reload supervisor").await;
    lab::until("the status line forgets it", async || {
        machine.property("StatusText").await == "well: api on cloud"
    })
    .await;
    assert_eq!(machine.property("MainPID").await, process);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_process_is_replaced_by_the_watchdog_and_no_request_is_lost() {
    let drop_in = format!("[Service]\nWatchdogSec={}s\n", WATCHDOG.as_secs());
    let machine = Machine::with_supervisor("watchdog", &drop_in).await;
    let worker = machine.view().await.unwrap().proxies[0].pid;
    let frozen = machine.property("MainPID").await;
    let traffic = Traffic::start(machine.port);
    let begun = Instant::now();
    machine.do_so(&format!("kill -STOP {frozen}")).await;
    // At the latest systemd's time after the last word, then a second until the restart, then the start itself.
    lab::until_within(WATCHDOG + Duration::from_secs(20), "it was restarted", async || {
        machine.property("NRestarts").await == "1" && machine.property("ActiveState").await == "active"
    })
    .await;
    let took = begun.elapsed();
    machine.until_well().await;
    let answered = traffic.lost_nothing().await;
    println!("ready again {took:?} after it was frozen; {answered} requests answered");
    assert!(took < WATCHDOG + Duration::from_secs(10), "{took:?}");
    assert_ne!(machine.property("MainPID").await, frozen);
    let journal = machine.journal().await;
    for words in ["Watchdog timeout (limit 3s)!", "Failed with result 'watchdog'"] {
        assert!(journal.contains(words), "{words:?}: {journal}");
    }
    // HAProxy was left as it was: the next one adopts.
    assert_eq!(machine.view().await.unwrap().proxies[0].pid, worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_and_a_restart_lose_no_request() {
    let machine = Machine::with_supervisor("stop", "").await;
    let worker = machine.view().await.unwrap().proxies[0].pid;
    let traffic = Traffic::start(machine.port);
    machine.do_so("systemctl restart supervisor").await;
    machine.until_well().await;
    let took = stop(&machine).await;
    machine.do_so("systemctl start supervisor").await;
    machine.until_well().await;
    let answered = traffic.lost_nothing().await;
    println!("stopped in {took:?}; {answered} requests answered");
    assert_eq!(machine.view().await.unwrap().proxies[0].pid, worker, "HAProxy was not reloaded");

    // Whoever is gone cannot fail over; HAProxy can.
    stop(&machine).await;
    machine.onprem.close().await;
    machine.until_served_from("cloud").await;
}

async fn stop(machine: &Machine) -> Duration {
    let begun = Instant::now();
    machine.do_so("systemctl stop supervisor").await;
    let took = begun.elapsed();
    assert!(took < STOPS_WITHIN, "{took:?}");
    let ended = (machine.property("ActiveState").await, machine.property("Result").await);
    assert_eq!(ended, ("inactive".to_owned(), "success".to_owned()));
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_a_credential_and_bad_settings_are_no_reason_to_try_again() {
    let machine = Machine::with_supervisor("credential", "").await;
    let mail = "[mail]\nfrom = \"a@b.example\"\nto = [\"c@d.example\"]\n[mail.relays.main]\nhost = \"127.0.0.1\"\n\
                user = \"a\"\npassword_credential = \"smtp-password\"\n";
    machine.set(&format!("{}\n{mail}", machine.settings())).await;
    let start = machine.run("systemctl restart supervisor").await;
    assert!(!start.status.success(), "it started without its password");
    machine.until_logged("the unit needs LoadCredential=smtp-password:").await;
    // 64: it is not started again until somebody mends that. `auto-restart` would be the alternative.
    assert_eq!(machine.property("SubState").await, "failed");

    machine.do_so("umask 077; echo hunter2 >/etc/supervisor/smtp-password").await;
    machine.drop_in("[Service]\nLoadCredential=smtp-password:/etc/supervisor/smtp-password\n").await;
    machine.do_so("systemctl start supervisor").await;
    machine.until_well().await;
    // Also where no credential is given: in a shell, and before a reload.
    machine.do_so("supervisor check-config && systemctl reload supervisor").await;
    assert!(!machine.journal().await.contains("hunter2"));
}
