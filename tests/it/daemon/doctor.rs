//! `supervisor doctor` in front of a real HAProxy: nothing is wrong, and each thing that can be.

use super::world::{World, said};
use crate::haproxy::lab::{free_port, until};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The findings as `CHECK LEVEL: words | fix | lines`, and the exit code.
fn findings(world: &World) -> (Vec<String>, i32) {
    let output = world.command(&["doctor", "--format", "json"]);
    let document: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let parts = document["parts"].as_array().unwrap().iter();
    let all = parts
        .flat_map(|part| part["findings"].as_array().unwrap().iter().map(move |finding| (part, finding)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = all.map(|(part, finding)| {
        format!(
            "{}: {} {}: {} | {} | {}",
            text(&part["about"]),
            text(&finding["check"]),
            text(&finding["level"]),
            text(&finding["words"]),
            text(&finding["fix"]),
            finding["lines"],
        )
    });
    (lines.collect(), output.status.code().unwrap())
}

/// The findings that are not right.
fn wrong(world: &World) -> (Vec<String>, i32) {
    let (all, code) = findings(world);
    (all.into_iter().filter(|line| !line.contains(" ok: ")).collect(), code)
}

/// Exactly one thing is wrong, with these words, and with this exit code; perhaps after HAProxy has checked its servers.
async fn only(world: &World, words: &[&str], expected: i32) {
    let mut found = wrong(world);
    let ends = Instant::now() + Duration::from_secs(10);
    while found.0.len() != 1 && Instant::now() < ends {
        sleep(Duration::from_millis(50)).await;
        found = wrong(world);
    }
    let (wrong, code) = found;
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    for word in words {
        assert!(wrong[0].contains(word), "{word:?} is not in {}", wrong[0]);
    }
    assert_eq!(code, expected, "{wrong:#?}");
}

/// Everything below, with names, contents and times.
fn everything(dir: &Path) -> Vec<(String, u64, std::time::SystemTime)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    // HAProxy writes its log when it likes: that an old worker has ended, say.
    let entries = entries.filter(|entry| entry.file_name() != "log");
    let mut seen: Vec<_> = entries
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            (entry.file_name().to_string_lossy().into_owned(), meta.len(), meta.modified().unwrap())
        })
        .collect();
    seen.sort();
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_is_wrong_it_says_so_and_leaves_everything_as_it_is() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    // What the daemon writes behind the route.
    let config = || std::fs::read_to_string(world.path("haproxy.cfg.last-good")).unwrap_or_default();
    until("all files are written", async || !config().is_empty() && wrong(&world).1 == 0).await;
    let (all, code) = findings(&world);
    assert_eq!(code, 0, "{all:#?}");
    for word in [
        "version ok",
        "admin_level ok",
        "master_socket ok",
        "revision ok",
        "map_file ok",
        "checks ok",
        "state_dir ok",
    ] {
        assert!(all.iter().any(|line| line.contains(word)), "{word} is not in {all:#?}");
    }
    // For people: no line is wider than a terminal.
    let output = world.command(&["doctor"]);
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.lines().all(|line| line.chars().count() <= 80 || !line.contains(' ')), "{page}");
    assert!(page.ends_with("nothing is wrong\n"), "{page}");
    assert_eq!(output.status.code(), Some(0));

    daemon.stop().await;
    let (before, worker) = (everything(world.dir.path()), world.worker().await);
    assert_eq!(wrong(&world), (Vec::new(), 0));
    assert_eq!((everything(world.dir.path()), world.worker().await), (before, worker), "it only looks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_first_start_it_says_what_that_would_do() {
    let world = World::new().await;
    let (all, code) = wrong(&world);
    assert_eq!(code, 1, "{all:#?}");
    let about = |check: &str| all.iter().any(|line| line.contains(check));
    assert!(
        about("revision warning: HAProxy runs a configuration that supervisor has not written"),
        "{all:#?}"
    );
    assert!(about("map warning") && about("backends warning"), "{all:#?}");
    assert!(!all.iter().any(|line| line.contains("haproxy_check")), "HAProxy would load it: {all:#?}");
    assert!(!world.path("routes.map").exists() && !world.path("state").exists(), "it only looks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_missing_stale_or_too_low_is_named_with_what_to_do() {
    let mut world = World::new().await;
    let mut daemon = world.running().await;
    daemon.stop().await;
    let settings = world.settings();

    // The master is elsewhere: HAProxy says where.
    world.write(&settings.replace("/master.sock", "/other.sock"));
    let place = world.path("master.sock").display().to_string();
    only(
        &world,
        &["master_socket error: there is no socket", "HAProxy's own word for it is unix@", &place],
        2,
    )
    .await;
    world.write(&settings);

    // A level too low, in a configuration of somebody else's.
    let config = std::fs::read_to_string(world.path("haproxy.cfg")).unwrap();
    let operator = config.replace("level admin", "level operator").replace("supervisor=", "by=");
    std::fs::write(world.path("haproxy.cfg"), operator).unwrap();
    world.stop_haproxy();
    world.start_haproxy().await;
    world.write(&settings.replace("[proxies.edge]", "[proxies.edge]\nconfig = \"external\""));
    only(&world, &["admin_level error", "has level operator", "level admin"], 2).await;
    world.write(&settings);

    // HAProxy is gone, and its sockets are left.
    world.stop_haproxy();
    for (socket, check) in [("admin.sock", "admin_socket"), ("master.sock", "master_socket")] {
        let _ = std::fs::remove_file(world.path(socket));
        std::os::unix::net::UnixListener::bind(world.path(socket)).map(drop).unwrap();
        let (all, code) = wrong(&world);
        let wanted = format!("{check} error: nobody listens at");
        assert!(code == 2 && all.iter().any(|line| line.contains(&wanted)), "{all:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_written_or_are_other_ones_are_named() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    until("the map is written", async || wrong(&world).1 == 0).await;
    daemon.stop().await;
    let settings = world.settings();

    // A directory that is not there.
    let dir = world.dir.path().display();
    let (ours, theirs) =
        (format!("map_file = \"{dir}/routes.map\""), format!("map_path = \"{dir}/routes.map\""));
    world.write(&settings.replace(&ours, &format!("map_file = \"{dir}/no/routes.map\"\n{theirs}")));
    let (all, _) = wrong(&world);
    let is_told =
        |line: &String| line.contains("map_file error: there is no directory") && line.contains("install -d");
    assert!(all.iter().any(is_told), "{all:#?}");
    world.write(&settings);

    // What the next start would begin with is not what HAProxy does.
    std::fs::write(world.path("routes.map"), "api api__cloud\n").unwrap();
    only(&world, &["map_file warning", "differs from what HAProxy does for api"], 1).await;
    std::fs::write(world.path("routes.map"), "api api__onprem\n").unwrap();

    // Another file than HAProxy was started with.
    std::fs::copy(world.path("haproxy.cfg"), world.path("copy.cfg")).unwrap();
    world.write(&settings.replace("/haproxy.cfg\"", "/copy.cfg\""));
    only(&world, &["config_path error", "HAProxy was started with", "haproxy.cfg"], 2).await;
    world.write(&settings);

    // HAProxy's user may not read what we write.
    let stranger = 4_242_424;
    std::os::unix::fs::chown(world.path("admin.sock"), Some(stranger), Some(stranger)).unwrap();
    std::fs::set_permissions(world.dir.path(), std::fs::Permissions::from_mode(0o750)).unwrap();
    let (all, code) = wrong(&world);
    assert!(
        code == 2 && all.iter().any(|line| line.contains("may not read") && line.contains("chmod o+x")),
        "{all:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_haproxy_would_not_load_is_told_with_its_own_words() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    until("the map is written", async || wrong(&world).1 == 0).await;
    daemon.stop().await;
    let settings = world.settings();

    let template = world.path("own.tera");
    let own = supervisor::actuator::haproxy::template::DEFAULT_TEMPLATE;
    std::fs::write(&template, format!("{own}\nbackend broken from http\n    frobnicate\n")).unwrap();
    let with_own =
        settings.replace("[proxies.edge]", &format!("[proxies.edge]\ntemplate = \"{}\"", template.display()));
    world.write(&with_own);
    let (all, code) = wrong(&world);
    assert!(
        code == 2
            && all.iter().any(|line| line.contains("haproxy_check error") && line.contains("frobnicate")),
        "{all:#?}"
    );
    std::fs::write(&template, "global\n  {{ proxy.nothing }}\n").unwrap();
    only(&world, &["template error", ":2:", "proxy.nothing"], 2).await;

    let certificates = world.path("certs.pem");
    let with_tls = format!("[services.api]\ntls = {{ certificates = \"{}\" }}", certificates.display());
    world.write(&settings.replace("[services.api]", &with_tls));
    let (all, code) = wrong(&world);
    assert!(
        code == 2
            && all.iter().any(|line| line.contains("haproxy_check error")
                && line.contains("certs.pem")
                && line.contains("where services.api.tls.certificates says")),
        "{all:#?}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    world.write(
        &settings.replace("[proxies.edge]", &format!("[proxies.edge]\nmetrics_bind = \"127.0.0.1:{port}\"")),
    );
    let (all, code) = wrong(&world);
    let wanted = format!("bind error: 127.0.0.1:{port} cannot be bound");
    assert!(
        code == 2 && all.iter().any(|line| line.contains(&wanted) && line.contains("ss -ltnp")),
        "{all:#?}"
    );

    world.write(&settings);
    assert_eq!(wrong(&world), (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_of_somebody_elses_is_told_the_lines_that_it_lacks() {
    let world = World::new().await;
    world.write(&world.settings().replace("[proxies.edge]", "[proxies.edge]\nconfig = \"external\""));
    let (all, code) = wrong(&world);
    assert_eq!(code, 2, "{all:#?}");
    let about =
        |check: &str, line: &str| all.iter().any(|found| found.contains(check) && found.contains(line));
    assert!(about("map error", "use_backend %[str(api),map_str("), "{all:#?}");
    assert!(about("backends error", "backend api__cloud"), "{all:#?}");
    assert!(about("hard_stop_after warning", "hard-stop-after 60s"), "{all:#?}");
    assert!(!all.iter().any(|line| line.contains("revision")), "whose it is, is no question: {all:#?}");
}

/// As a user who may neither write where HAProxy reads, nor open its sockets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_permission_is_told_whose_it_is() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    daemon.stop().await;
    // The program may be in a place that others cannot enter.
    let program = world.path("supervisor");
    std::fs::copy(super::world::SUPERVISOR, &program).unwrap();
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    open(world.dir.path());
    open(&program);
    let nobody = 65_534;
    let output = Command::new(&program)
        .args(["doctor", "--config"])
        .arg(world.config())
        .uid(nobody)
        .gid(nobody)
        .output()
        .expect("this test is for root: it becomes another user");
    let text = said(&output).replace("\n           ", " ").replace("     ", "");
    for words in [
        "admin.sock has mode 660 and belongs to user 0 and group 0; user 65534 in the groups 65534",
        "run supervisor in group 0",
        "cannot be written to: Permission denied",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert_eq!(output.status.code(), Some(2), "{text}");
}

/// The others that supervisor needs: each is asked, and nobody is told anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_alertmanager_and_relays_are_asked_too() {
    let world = World::new().await;
    let mut daemon = world.running().await;
    until("the map is written", async || wrong(&world).1 == 0).await;
    daemon.stop().await;
    let (nobody, stranger) = (free_port(), world.onprem.port);
    world.write(&format!(
        "{}\n[engines.away]\naddress = \"unix:///no/such/docker.sock\"\n[engines.real]\naddress = \"unix://{}\"\n\
         [containers.supervisor-test-never-made]\nengine = \"real\"\n\
         [alerts.alertmanagers.away]\nurl = \"http://127.0.0.1:{nobody}\"\n\
         [alerts.alertmanagers.stranger]\nurl = \"http://127.0.0.1:{stranger}\"\n\
         [mail]\nfrom = \"supervisor@example.org\"\nto = [\"oncall@example.org\"]\nhelo = \"node.example.org\"\n\
         [mail.relays.main]\nhost = \"127.0.0.1\"\nport = {nobody}\ntls = \"none\"\n",
        world.settings(),
        crate::docker::socket().display(),
    ));
    let (all, code) = findings(&world);
    assert_eq!(code, 2, "{all:#?}");
    for words in [
        "docker away: engine error: docker engine unix:///no/such/docker.sock cannot be reached",
        "docker real: engine ok: ",
        "docker real: container error: there is no container supervisor-test-never-made",
        "alertmanager away: alertmanager error: ",
        "alertmanager stranger: alertmanager error: ",
        "mail: relay error: main at 127.0.0.1:",
    ] {
        assert!(all.iter().any(|line| line.starts_with(words)), "{words:?} is not in {all:#?}");
    }
}
