//! Against replies recorded from HAProxy 2.6.12 (Debian 12), 3.0.11 (Debian 13) and 3.2.26 (Debian testing), and against noise.

use super::stat::csv;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A recorded reply without the line ends that close it, as the client gives it.
macro_rules! recorded {
    ($version:literal, $name:literal) => {
        include_str!(concat!("fixtures/", $version, "/", $name, ".txt")).trim_end()
    };
}

macro_rules! each {
    ($name:literal) => {
        [recorded!("26", $name), recorded!("30", $name), recorded!("32", $name)]
    };
}

#[test]
fn show_info_tells_version_process_and_description() {
    for (reply, version, full) in [
        (recorded!("26", "show_info"), Version { major: 2, minor: 6 }, "2.6.12-1+deb12u4"),
        (recorded!("30", "show_info"), Version { major: 3, minor: 0 }, "3.0.11-1+deb13u3"),
        (recorded!("32", "show_info"), Version { major: 3, minor: 2 }, "3.2.26-1"),
    ] {
        let info = info(reply).unwrap();
        assert_eq!((info.version, info.full_version.as_str()), (version, full));
        assert_eq!(info.description.as_deref(), Some("supervisor=abc rev=123"));
        assert!(info.pid > 0 && info.started > 1_700_000_000 && !info.stopping);
        assert_eq!(version >= Version::ANSWERS_RELOAD, version.major == 3);
    }
    for reply in each!("old_worker_info") {
        assert!(info(reply).unwrap().stopping);
    }
    assert!(info("").is_err() && info("Unknown command").is_err());
}

#[test]
fn show_proc_tells_the_workers_apart_and_counts_failures() {
    for reply in each!("show_proc") {
        let seen = processes(reply).unwrap();
        assert_eq!(
            (seen.master.reloads, seen.failed, seen.workers.len(), seen.old_workers.len()),
            (0, 0, 1, 0)
        );
    }
    for (before, after) in each!("show_proc").into_iter().zip(each!("show_proc_old_worker")) {
        let (before, after) = (processes(before).unwrap(), processes(after).unwrap());
        assert_eq!(after.master.reloads, 1);
        assert_eq!(after.old_workers[0].pid, before.workers[0].pid);
        assert_ne!(after.workers[0].pid, before.workers[0].pid);
    }
    for (good, bad) in each!("show_proc_old_worker").into_iter().zip(each!("show_proc_failed")) {
        let (good, bad) = (processes(good).unwrap(), processes(bad).unwrap());
        assert_eq!((bad.master.reloads, bad.failed), (2, 1));
        let pids = |of: &[Process]| of.iter().map(|worker| worker.pid).collect::<Vec<_>>();
        assert_eq!(pids(&bad.workers), pids(&good.workers), "a failed reload keeps the worker");
        assert_eq!(pids(&bad.old_workers), pids(&good.old_workers));
    }
    for (reply, failed) in each!("show_proc_bind_conflict").into_iter().zip([2, 2, 1]) {
        let seen = processes(reply).unwrap();
        assert_eq!(seen.failed, failed, "up to 3.0 failures add up until a reload succeeds");
        assert_eq!((seen.workers.len(), seen.old_workers.len()), (1, 1));
    }
    // Only 3.1 and later say anything while a reload goes on.
    let loading = processes(recorded!("32", "show_proc_loading")).unwrap();
    assert_eq!((loading.failed, loading.workers.len(), loading.old_workers.len()), (0, 1, 2));
    assert!(processes("").is_err());
}

#[test]
fn maps_and_backends_are_read() {
    for reply in each!("show_map") {
        let entries = map_entries(reply).unwrap();
        assert_eq!(entries, BTreeMap::from([("api".to_owned(), "api__onprem".to_owned())]));
    }
    assert_eq!(map_entries("").unwrap(), BTreeMap::new());
    for reply in each!("get_map_found") {
        assert_eq!(map_value(reply).unwrap().as_deref(), Some("api__onprem"));
    }
    for reply in each!("get_map_missing") {
        assert_eq!(map_value(reply).unwrap(), None);
    }
    for reply in each!("show_map_unknown") {
        assert!(is_unknown_map(&map_entries(reply).unwrap_err()));
        assert!(is_unknown_map(&map_value(reply).unwrap_err()));
    }
    for reply in each!("show_backend") {
        assert_eq!(backends(reply).unwrap().into_iter().collect::<Vec<_>>(), ["api__cloud", "api__onprem"]);
    }
    for reply in each!("prepare_map") {
        assert_eq!(prepared(reply).unwrap(), 1);
    }
}

#[test]
fn only_known_successes_are_successes() {
    for reply in each!("set_map").into_iter().chain(each!("add_map")).chain(each!("state_ready")) {
        done("x", reply).unwrap();
    }
    for reply in
        each!("health_down").into_iter().chain(each!("shutdown_sessions")).chain(each!("clear_map_version"))
    {
        done("x", reply).unwrap();
    }
    for reply in each!("set_map_missing").into_iter().chain(each!("no_server")).chain(each!("no_backend")) {
        assert!(done("x", reply).unwrap_err().to_string().contains(reply), "HAProxy's own words are shown");
    }
    for reply in each!("commit_map_wrong") {
        assert!(done("commit map", reply).is_err() && prepared(reply).is_err());
    }
    for reply in each!("health_tracking") {
        assert!(is_tracking(&done("set server health", reply).unwrap_err()));
    }
    for reply in each!("old_worker_set_server").into_iter().chain(each!("old_worker_shutdown")) {
        assert!(is_stopped_proxy(&done("x", reply).unwrap_err()));
    }
    for reply in each!("old_worker_set_map") {
        done("set map", reply).unwrap();
    }
}

#[test]
fn an_address_is_set_also_when_nothing_had_to_change() {
    let good = [each!("addr_changed"), each!("addr_same"), each!("addr_only_ip"), each!("addr_only_port")];
    for reply in good.into_iter().flatten() {
        addr_set(reply).unwrap_or_else(|error| panic!("{error}"));
    }
    for reply in ["", "Invalid addr 'foo.example' by 'stats socket command'", "No such server."] {
        assert!(addr_set(reply).is_err(), "{reply:?} was taken");
    }
}

#[test]
fn show_servers_state_tells_address_and_admin_state() {
    for reply in each!("show_servers_state") {
        let servers = servers_state(reply).unwrap();
        assert_eq!(servers.len(), 5);
        let rescue = servers.iter().find(|s| s.server == "r_cloud").unwrap();
        assert_eq!(rescue.addr, Some("192.0.2.1".parse().unwrap()));
        assert!(rescue.admin.maint(), "a disabled server is in maintenance");
        assert!(!rescue.admin.forced_drain() && !rescue.admin.unresolved());
        let cloud = servers.iter().find(|s| s.server == "cloud").unwrap();
        assert_eq!((cloud.backend.as_str(), cloud.port, cloud.admin), ("api__cloud", 19082, AdminBits(0)));
    }
    assert!(servers_state("").is_err());
    assert!(servers_state("2\n# be_id\n").is_err(), "another version of the format is not guessed at");
}

#[test]
fn show_stat_is_read_by_column_names() {
    for reply in each!("show_stat") {
        let rows = stat(reply).unwrap();
        let row =
            |proxy: &str, kind: StatKind| rows.iter().find(|r| r.proxy == proxy && r.kind == kind).unwrap();
        let down = row("api__onprem", StatKind::Server("onprem".into()));
        assert_eq!((down.status.as_str(), down.check_status.as_deref()), ("DOWN", Some("L4CON")));
        assert_eq!(down.addr, Some("127.0.0.1:19081".parse().unwrap()));
        assert!(!down.backup && !down.usable());
        let cloud = row("api__cloud", StatKind::Server("cloud".into()));
        assert!(cloud.usable() && !cloud.backup, "{cloud:?}");
        let backup = row("api__onprem", StatKind::Server("x_cloud".into()));
        assert!(backup.usable() && backup.backup, "{backup:?}");
        assert!(down.last_change_secs.is_some());
        assert_eq!(row("api__onprem", StatKind::Server("r_cloud".into())).status, "MAINT");
        assert_eq!(row("api__onprem", StatKind::Backend).queued, 0);
        assert_eq!(row("fe", StatKind::Frontend).status, "OPEN");
    }
    assert!(stat("No such proxy.").is_err());
}

#[test]
fn csv_fields_may_hold_commas_and_quotes() {
    assert_eq!(csv(r#"a,"b,""c""",,d"#), ["a", r#"b,"c""#, "", "d"]);
}

#[test]
fn the_reply_to_reload_is_told_apart() {
    assert_eq!(reload(recorded!("26", "reload_good")), ReloadReply::Silent);
    assert_eq!(reload(recorded!("26", "reload_bad_syntax")), ReloadReply::Silent);
    assert_eq!(reload(recorded!("26", "reload_bind_conflict")), ReloadReply::Silent);
    for reply in [recorded!("30", "reload_good"), recorded!("32", "reload_good")] {
        assert_eq!(reload(reply), ReloadReply::Loaded);
    }
    for (reply, words) in [
        (recorded!("30", "reload_bad_syntax"), "unknown keyword 'nonsense'"),
        (recorded!("32", "reload_bad_syntax"), "unknown keyword 'nonsense'"),
        (recorded!("30", "reload_bind_conflict"), "Address already in use"),
        (recorded!("32", "reload_bind_conflict"), "Address already in use"),
    ] {
        let ReloadReply::Failed(log) = reload(reply) else { panic!("not failed: {reply}") };
        assert!(log.contains(words), "{log}");
    }
    assert_eq!(reload(recorded!("32", "reload_busy")), ReloadReply::Busy);
    assert_eq!(
        reload("Can't connect to the target CLI!\n"),
        ReloadReply::Other("Can't connect to the target CLI!".into())
    );
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        every_parser(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn no_damage_to_a_real_reply_makes_a_parser_panic(
        which in 0..6_usize, cut in 0..4000_usize, at in 0..4000_usize, noise in "[\\PC\n,\"#]{0,12}",
    ) {
        let replies = [
            recorded!("26", "show_info"), recorded!("30", "show_proc_old_worker"), recorded!("26", "show_map"),
            recorded!("30", "show_servers_state"), recorded!("32", "show_stat"), recorded!("30", "get_map_found"),
        ];
        let mut text: String = replies[which].chars().take(cut).collect();
        let at = text.char_indices().map(|(i, _)| i).nth(at).unwrap_or(text.len());
        text.insert_str(at, &noise);
        every_parser(&text);
    }
}

fn every_parser(text: &str) {
    let _ = (info(text), processes(text), backends(text), map_entries(text), map_value(text));
    let _ = (done("x", text), prepared(text), addr_set(text), servers_state(text), stat(text));
    let _ = (reload(text), csv(text));
}
