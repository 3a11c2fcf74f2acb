use super::*;
use crate::domain::damping::Damper;
use crate::domain::id::{ServerId, ServiceId};
use crate::domain::policy::{AllDown, FailbackMode};
use crate::domain::time::Span;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;

const SMALLEST: &str = include_str!("fixtures/smallest.toml");
const SAMPLE: &str = include_str!("../../docs/supervisor.sample.toml");
const DEMO: &str = include_str!("../../compose/supervisor.toml");

/// A directory with `supervisor.toml`, drop-ins, and an environment.
struct Site {
    dir: tempfile::TempDir,
    environment: Vec<(OsString, OsString)>,
}

impl Site {
    fn with(text: &str) -> Site {
        let site = Site { dir: tempfile::tempdir().unwrap(), environment: Vec::new() };
        fs::write(site.path(), text).unwrap();
        site
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("supervisor.toml")
    }

    fn drop_in(self, name: &str, text: &str) -> Site {
        let dir = self.dir.path().join("supervisor.d");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Site {
        self.environment.push((name.into(), value.into()));
        self
    }

    fn load(&self) -> Result<Settings, Problems> {
        Settings::load_with(&self.path(), self.environment.clone())
    }

    fn settings(&self) -> Settings {
        self.load().unwrap_or_else(|problems| panic!("refused:\n{problems}"))
    }

    /// The problems as an operator sees them, in the directory of the file.
    fn problems(&self) -> Vec<String> {
        let problems = self.load().expect_err("taken");
        let dir = format!("{}/", self.dir.path().display());
        problems.to_string().lines().map(|line| line.replace(&dir, "")).collect()
    }
}

/// The smallest settings with `from` replaced; `from` must be there.
fn smallest(from: &str, to: &str) -> String {
    assert!(SMALLEST.contains(from), "{from:?} is not in the fixture");
    SMALLEST.replacen(from, to, 1)
}

/// The smallest settings with more keys for the service.
fn service(keys: &str) -> String {
    smallest("bind = \"*:8080\"", &format!("bind = \"*:8080\"\n{keys}"))
}

fn id(service: &str, server: &str) -> ServerId {
    ServerId { service: service.parse().unwrap(), server: server.parse().unwrap() }
}

#[test]
fn the_smallest_settings_have_under_20_lines_and_the_documented_defaults() {
    assert!(SMALLEST.lines().count() < 20);
    let settings = Site::with(SMALLEST).settings();
    let api: ServiceId = "api".parse().unwrap();
    let policy = &settings.policy.services[&api];
    assert_eq!(policy.prefer.iter().map(|site| site.as_str()).collect::<Vec<_>>(), ["onprem", "cloud"]);
    assert_eq!(policy.proxies, settings.policy.proxies);
    assert!(!policy.stateful);
    assert_eq!(policy.failback.mode, FailbackMode::Auto);
    assert_eq!((policy.failback.after, policy.failback.hold_down), (Span::seconds(60), Span::seconds(300)));
    assert_eq!((policy.failback.limit, policy.failback.limit_window), (2, Span::seconds(600)));
    let onprem = &policy.servers[&"api-onprem".parse().unwrap()];
    assert_eq!((onprem.rise, onprem.fall), (2, 3));
    let container = onprem.container.as_ref().unwrap();
    assert_eq!((container.engine.as_str(), container.name.0.as_str()), ("local", "api-onprem"));
    assert_eq!(settings.policy.startup_grace, Span::seconds(5));
    assert_eq!(settings.policy.lateness, Span::seconds(2));

    let server = &settings.servers[&id("api", "api-onprem")];
    assert_eq!(server.address.to_string(), "api-onprem:5000");
    assert_eq!(server.maxconn, None);
    let Check::Http(ready) = &server.ready.check else { panic!("ready is {:?}", server.ready.check) };
    assert_eq!((ready.path.as_str(), ready.status.to_string().as_str()), ("/health", "200-299"));
    assert_eq!((ready.max_body, ready.keep_alive, ready.contains.as_ref()), (65_536, false, None));
    assert_eq!((server.ready.interval, server.ready.timeout), (Span(1000), Span(1000)));
    assert_eq!(server.ready.fast_interval, Span(250));
    assert_eq!(server.live.check, Check::Connect);
    assert_eq!(server.live.interval, Span::seconds(10));

    let proxy = settings.proxies.values().next().unwrap();
    assert_eq!(proxy.container_name().unwrap().0, "haproxy-server");
    assert_eq!(proxy.resolvers, ["127.0.0.11:53".parse().unwrap()]);
    assert_eq!((proxy.config, proxy.observe), (ConfigMode::Managed, Observe::Layer4));
    assert_eq!(proxy.map_path, PathBuf::from("/var/lib/haproxy/maps/routes.map"));
    let engine = settings.engines.values().next().unwrap();
    assert_eq!(engine.address, EngineAddress::Unix("/var/run/docker.sock".into()));
    assert_eq!(settings.state_dir, PathBuf::from("/var/lib/supervisor"));
    assert_eq!(settings.control_socket, PathBuf::from("/run/supervisor/control.sock"));
    assert_eq!(settings.status_listen, "127.0.0.1:9480".parse().unwrap());
    assert_eq!(settings.log, LogSettings { format: LogFormat::Auto, level: LogLevel::Info });
}

#[test]
fn the_documentation_shows_the_smallest_settings_as_they_are() {
    assert!(include_str!("../../docs/settings.md").contains(&format!("```toml\n{SMALLEST}```")));
}

#[test]
fn the_sample_loads_and_says_the_defaults_where_it_says_so() {
    let sample = Site::with(SAMPLE).settings();
    let smallest = Site::with(SMALLEST).settings();
    let (server, default) =
        (&sample.servers[&id("api", "api-onprem")], &smallest.servers[&id("api", "api-onprem")]);
    assert_eq!(server.ready.interval, default.ready.interval);
    assert_eq!(server.ready.timeout, default.ready.timeout);
    assert_eq!(server.ready.fast_interval, default.ready.fast_interval);
    assert_eq!((server.ready.rise, server.ready.fall), (default.ready.rise, default.ready.fall));
    assert_eq!(server.ready.jitter_percent, default.ready.jitter_percent);
    assert_eq!((server.live.interval, server.live.timeout), (default.live.interval, default.live.timeout));
    let api = "api".parse().unwrap();
    assert_eq!(sample.policy.services[&api].failback, smallest.policy.services[&api].failback);
    assert_eq!(
        (sample.policy.startup_grace, sample.policy.lateness),
        (smallest.policy.startup_grace, smallest.policy.lateness)
    );
    let (proxy, default) =
        (sample.proxies.values().next().unwrap(), smallest.proxies.values().next().unwrap());
    assert_eq!(sample.policy.heal, smallest.policy.heal);
    assert_eq!(sample.journal, smallest.journal);
    let told = ProxySettings {
        metrics_bind: None,
        admin_gid: None,
        user: None,
        group: None,
        snippets: ProxySnippets::default(),
        ..proxy.clone()
    };
    assert_eq!(&told, default);
    assert_eq!(sample.needs_restart(&smallest), Vec::<&str>::new());
}

#[test]
fn the_sample_names_every_key_that_has_an_example() {
    for key in include_str!("examples.rs").lines().filter_map(|line| line.trim().strip_prefix('"')) {
        let key = key.split('"').next().unwrap();
        let written = |line: &str| {
            let line = line.trim_start_matches("# ");
            line.starts_with(&format!("{key} = ")) || line.trim_end_matches(']').ends_with(&format!(".{key}"))
        };
        assert!(SAMPLE.lines().any(written), "{key} is not in the sample");
    }
}

#[test]
fn the_demo_notices_a_hang_within_the_second_that_it_promises() {
    let demo = Site::with(DEMO).settings();
    for server in demo.servers.values() {
        let ready = &server.ready;
        let retries = u64::from(ready.fall - 1) * (ready.fast_interval.0 + ready.timeout.0);
        let jitter = ready.interval.0 * u64::from(ready.jitter_percent) / 100;
        assert!(ready.interval.0 + jitter + ready.timeout.0 + retries < 1000);
    }
    assert_eq!(demo.status_listen, "0.0.0.0:9480".parse().unwrap());
}

#[test]
fn a_duration_without_a_unit_is_explained_word_for_word() {
    let site = Site::with(&service("ready = { interval = \"5\" }"));
    let expected = "supervisor.toml:6: services.api.ready.interval: \"5\" has no unit; \
                    write for example interval = \"1s\"";
    assert_eq!(site.problems(), [expected]);
}

/// Ten kinds and more, each with the file and line of the mistake, the key, and an example or what is known.
#[test]
fn each_kind_of_mistake_is_named_with_its_line_and_an_example() {
    let table: &[(&str, String, &str)] = &[
        ("syntax", smallest("bind = \"*:8080\"", "bind = "), "supervisor.toml:5: no TOML, at character 8: "),
        (
            "a key twice",
            service("bind = \"*:81\""),
            "supervisor.toml:6: no TOML, at character 1: duplicate key",
        ),
        (
            "an unknown key",
            smallest("bind", "bimd"),
            "supervisor.toml:5: services.api.bimd: unknown key; did you mean \"bind\"? (known here: bind, tls, mode, host, path, \
             prefer, proxies, stateful, group, min_servers, thin_grace, slow_start, all_down, flapping, maintenance_page, snippets, retry_reads_after, ready, live, failback, servers); write for example bind = \"*:8080\"",
        ),
        (
            "an unknown key in a probe",
            service("ready = { pth = \"/\" }"),
            "supervisor.toml:6: services.api.ready.pth: unknown key; did you mean \"path\"?",
        ),
        (
            "a type",
            service("stateful = \"yes\""),
            "supervisor.toml:6: services.api.stateful: string \"yes\", expected a boolean; write for example stateful = true",
        ),
        (
            "a bare number",
            service("ready = { timeout = 5 }"),
            "supervisor.toml:6: services.api.ready.timeout: the number 5, expected a duration with its unit in quotes; \
             write for example timeout = \"1s\"",
        ),
        (
            "no duration",
            service("failback = { after = \"soon\" }"),
            "supervisor.toml:6: services.api.failback.after: \"soon\" is no duration (a number and ms, s, m or h); \
             write for example after = \"60s\"",
        ),
        (
            "out of bounds",
            service("ready = { interval = \"1ms\" }"),
            "supervisor.toml:6: services.api.ready.interval: 1 ms is not within 50 ms and 10 min: shorter is a load",
        ),
        (
            "zero",
            service("ready = { rise = 0 }"),
            "supervisor.toml:6: services.api.ready.rise: 0 is not within 1 and 100: with 0 a server would be up",
        ),
        (
            "too many failbacks",
            service("failback = { limit = 33 }"),
            "supervisor.toml:6: services.api.failback.limit: 33 is not within 1 and 32: more are not remembered",
        ),
        (
            "hold-down",
            service("failback = { hold_down = \"30h\" }"),
            "supervisor.toml:6: services.api.failback.hold_down: 30 h is not within 0 ms and 24 h",
        ),
        (
            "a site without a server",
            smallest("\"cloud\"]", "\"cloud\", \"moon\"]"),
            "supervisor.toml:6: services.api.prefer: the service has no server at site \"moon\" (it has some at cloud, \
             onprem); write for example prefer = [\"onprem\", \"cloud\"]",
        ),
        (
            "a site twice",
            smallest("[\"onprem\", ", "[\"onprem\", \"onprem\", "),
            "supervisor.toml:6: services.api.prefer: \"onprem\" is there twice",
        ),
        (
            "an address without a port",
            smallest("api-onprem:5000", "api-onprem"),
            "supervisor.toml:10: services.api.servers.api-onprem.address: \"api-onprem\" has no port; \
             write for example address = \"api-onprem:5000\"",
        ),
        (
            "an address without a host",
            smallest("api-onprem:5000", ":5000"),
            "supervisor.toml:10: services.api.servers.api-onprem.address: the host is missing",
        ),
        (
            "a URL for an address",
            smallest("api-onprem:5000", "http://api-onprem:5000"),
            "supervisor.toml:10: services.api.servers.api-onprem.address: \"http://api-onprem:5000\" is a URL",
        ),
        (
            "a probe's path",
            service("ready = { path = \"health\" }"),
            "supervisor.toml:6: services.api.ready.path: \"health\" does not begin with '/'; \
             write for example path = \"/health\"",
        ),
        (
            "a probe's URL",
            service("ready = { path = \"http:///health\" }"),
            "supervisor.toml:6: services.api.ready.path: \"http:///health\" is a URL; only its path belongs here",
        ),
        (
            "a probe's host",
            service("ready = { host = \"api:80/x\" }"),
            "supervisor.toml:6: services.api.ready.host: \"api:80/x\" is no host",
        ),
        (
            "no status",
            service("ready = { status = [] }"),
            "supervisor.toml:6: services.api.ready.status: no status is good",
        ),
        (
            "a bad status",
            service("ready = { status = [200, \"300-2\"] }"),
            "supervisor.toml:6: services.api.ready.status: \"300-2\" is no status (100 to 599) or range of them",
        ),
        (
            "an unknown proxy",
            service("proxies = [\"haproxy\"]"),
            "supervisor.toml:6: services.api.proxies: there is no proxy \"haproxy\" (known: haproxy-server)",
        ),
        (
            "an unknown engine",
            smallest("container = \"api-cloud\"", "container = \"api-cloud\"\nengine = \"aws\""),
            "supervisor.toml:17: services.api.servers.api-cloud.engine: there is no engine \"aws\" (known: none)",
        ),
        (
            "a word",
            service("mode = \"htp\""),
            "supervisor.toml:6: services.api.mode: \"htp\" is unknown; it is \"http\" or \"tcp\"; write for example mode = \"http\"",
        ),
        (
            "a bind",
            smallest("\"*:8080\"", "\"web:8080\""),
            "supervisor.toml:5: services.api.bind: \"web\" is no IP address; for all of them write '*'",
        ),
        (
            "a missing key",
            smallest("site = \"onprem\"\n", ""),
            "supervisor.toml:8: services.api.servers.api-onprem.site: is missing: at which site does the server stand?; \
             write for example site = \"onprem\"",
        ),
        (
            "a service without servers",
            "[proxies.p]\n[services.a]\nbind = \"*:80\"\n".to_owned(),
            "supervisor.toml:2: services.a.servers: the service has no server",
        ),
        (
            "a list for a table",
            "services = []\n[proxies.p]\n".to_owned(),
            "supervisor.toml:1: services: a list cannot stand here; write for example [services.api]",
        ),
        (
            "a list for a probe",
            service("ready = [\"/health\"]"),
            "supervisor.toml:6: services.api.ready: a list cannot stand here; write for example ready = { path",
        ),
        (
            "a path for HAProxy",
            smallest("container = \"haproxy-server\"", "map_file = \"/maps/a b.map\""),
            "supervisor.toml:2: proxies.haproxy-server.map_file: ' ' cannot stand in a path in HAProxy's configuration",
        ),
        (
            "a relative path",
            format!("state_dir = \"state\"\n{SMALLEST}"),
            "supervisor.toml:1: state_dir: \"state\" is no absolute path; write for example state_dir = \"/var/lib/supervisor\"",
        ),
        (
            "a socket too long",
            format!("control_socket = \"/{}\"\n{SMALLEST}", "x".repeat(107)),
            "supervisor.toml:1: control_socket: the path of a socket has at most 107 bytes, this one has 108",
        ),
        (
            "keep-alive with a long interval",
            service("ready = { keep_alive = true, interval = \"10s\", fast_interval = \"1s\" }"),
            "supervisor.toml:6: services.api.ready.keep_alive: needs an interval of at most 4 s, not 10 s",
        ),
        (
            "more servers needed than a site has",
            service("min_servers = 2"),
            "supervisor.toml:6: services.api.min_servers: is 2, but onprem has only 1: it could never serve",
        ),
        (
            "hours that are none",
            service("failback = { hours = [\"2-5\"] }"),
            "supervisor.toml:6: services.api.failback.hours: \"2\" is no time of day",
        ),
        (
            "the mode hours without hours",
            service("failback = { mode = \"hours\" }"),
            "supervisor.toml:6: services.api.failback.hours: is empty or missing",
        ),
        (
            "hours with another mode",
            service("failback = { mode = \"auto\", hours = [\"02:00-05:00\"] }"),
            "supervisor.toml:6: services.api.failback.hours: says nothing with mode = \"auto\"",
        ),
        (
            "a time zone that is none",
            service("failback = { hours = [\"02:00-05:00\"], time_zone = \"Mars/Olympus\" }"),
            "supervisor.toml:6: services.api.failback.time_zone: \"Mars/Olympus\" is no time zone",
        ),
        (
            "slower than the timeout",
            service("ready = { slow_after = \"2s\" }"),
            "supervisor.toml:6: services.api.ready.slow_after: 2 s is not within 1 ms and 1 s",
        ),
        (
            "a live probe's slowness",
            service("live = { slow_after = \"1s\" }"),
            "supervisor.toml:6: services.api.live.slow_after: says nothing to a live probe",
        ),
        (
            "fast retries that are slow",
            service("ready = { fast_interval = \"2s\" }"),
            "supervisor.toml:6: services.api.ready.fast_interval: 2 s is longer than interval (1 s)",
        ),
        (
            "TLS without certificates",
            service("tls = {}"),
            "supervisor.toml:6: services.api.tls.certificates: is missing: where does HAProxy find its certificates?; write for \
             example certificates = \"/etc/haproxy/certs\"",
        ),
        (
            "a version of TLS that is broken",
            service("tls = { certificates = \"/certs\", min_version = \"TLSv1.1\" }"),
            "supervisor.toml:6: services.api.tls.min_version: \"TLSv1.1\" is unknown; it is \"TLSv1.2\" or \"TLSv1.3\"",
        ),
        (
            "certificates that HAProxy's configuration cannot name",
            service("tls = { certificates = \"/a b\" }"),
            "supervisor.toml:6: services.api.tls.certificates: HAProxy's configuration takes letters",
        ),
        (
            "a redirection for connections",
            service("mode = \"tcp\"\ntls = { certificates = \"/certs\", redirect_from = \"*:80\" }"),
            "supervisor.toml:7: services.api.tls.redirect_from: a TCP service has no redirections",
        ),
        (
            "an engine's address",
            format!("{SMALLEST}[engines.local]\naddress = \"ssh://root@host\"\n"),
            "supervisor.toml:18: engines.local.address: ssh:// is not spoken",
        ),
    ];
    for (what, text, expected) in table {
        let problems = Site::with(text).problems();
        assert_eq!(problems.len(), 1, "{what}: {problems:#?}");
        assert!(problems[0].starts_with(expected), "{what}:\n  {}\nis not\n  {expected}", problems[0]);
    }
}

#[test]
fn a_server_at_a_site_that_is_not_preferred_would_never_serve() {
    let problems = Site::with(&smallest(", \"cloud\"", "")).problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with(
        "supervisor.toml:14: services.api.servers.api-cloud.site: \"cloud\" is not in prefer, so the server would never serve"
    ));
}

#[test]
fn names_that_could_inject_something_are_refused_and_shown_on_one_line() {
    for name in ["a b", "a\\\"b", "a\\nb", "a;b", "a__b", "-a", "", "a/b", "ü"] {
        let site = Site::with(&SMALLEST.replace("services.api", &format!("services.\"{name}\"")));
        let problems = site.problems();
        assert_eq!(problems.len(), 1, "{name}: {problems:#?}");
        assert!(problems[0].starts_with("supervisor.toml:4: services."), "{}", problems[0]);
        assert!(problems[0].contains("; write for example [services.api]"), "{}", problems[0]);
        assert!(!problems[0].contains(char::is_control));
    }
    let site = Site::with(&smallest("container = \"api-onprem\"", "container = \"api onprem; rm\""));
    assert!(
        site.problems()[0].starts_with("supervisor.toml:11: services.api.servers.api-onprem.container: ")
    );
}

#[test]
fn all_mistakes_of_all_layers_are_named_at_once() {
    let text = include_str!("fixtures/wrong.toml");
    let site = Site::with(text)
        .drop_in("50-more.toml", "[services.api.failback]\nlimit = 0\nhold_dwn = \"1s\"\n")
        .variable("SUPERVISOR__STATUS__LISTEN", "localhost")
        .variable("SUPERVISOR__SERVICES__API__READY__RISE", "two");
    assert_eq!(site.problems().join("\n") + "\n", include_str!("fixtures/wrong.txt"));
}

#[test]
fn what_hangs_on_a_mistake_is_not_a_second_mistake() {
    // The site is unreadable; that `prefer` names a site without a server is then unknown.
    let problems = Site::with(&smallest("site = \"cloud\"", "sight = \"cloud\"")).problems();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].starts_with("supervisor.toml:14: services.api.servers.api-cloud.sight: unknown key"));
}

#[test]
fn services_share_a_bind_only_by_host_and_path() {
    let second = |keys: &str| {
        format!(
            "{SMALLEST}\n[services.web]\n{keys}\n[services.web.servers.w]\nsite = \"onprem\"\naddress = \"w:80\"\n"
        )
    };
    let refused = [
        (
            "bind = \"*:8080\"",
            "services.web.host: the services api (services.api.host) and web are both on *:8080: for the same requests; give \
             them different hosts, paths or ports",
        ),
        (
            "bind = \"*:8081\"\npath = \"/web/\"",
            "services.web.path: \"/web/\" ends with '/'; leave that out: all below is meant; write for example path = \"/api\"",
        ),
        (
            "bind = \"*:8081\"\nmode = \"tcp\"\npath = \"/web\"",
            "services.web.path: a TCP service has no path",
        ),
        (
            "bind = \"*:8080\"\nmode = \"tcp\"",
            "services.web.bind: the services api (services.api.bind) and web are both on *:8080: a TCP service",
        ),
        (
            "bind = \"*:8080\"\nhost = \"web.example\"\ntls = { certificates = \"/certs\" }",
            "services.web.tls: the services api (services.api.tls) and web are both on *:8080: clients there either speak TLS \
             or do not",
        ),
        (
            "bind = \"*:443\"\ntls = { certificates = \"/certs\", redirect_from = \"127.0.0.1:8080\" }",
            "services.web.tls.redirect_from: 127.0.0.1:8080 overlaps *:8080, which is the bind of the service api",
        ),
        (
            "bind = \"*:443\"\ntls = { certificates = \"/certs\", redirect_from = \"*:443\" }",
            "services.web.tls.redirect_from: *:443 is the bind of the service web",
        ),
        (
            "bind = \"127.0.0.1:8080\"",
            "services.web.bind: the services api (services.api.bind) and web are both on 127.0.0.1:8080: one of",
        ),
    ];
    for (keys, expected) in refused {
        let problems = Site::with(&second(keys)).problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(expected), "{}", problems[0]);
    }
    let both = |web: &str| {
        let text = second(&format!("bind = \"*:8080\"\n{web}"));
        Site::with(&text.replacen(
            "bind = \"*:8080\"",
            "bind = \"*:8080\"\nhost = \"a.b\"\npath = \"/shop\"",
            1,
        ))
    };
    let problems = both("host = \"A.B\"\npath = \"/shop\"").problems();
    assert!(
        problems.len() == 1
            && problems[0]
                .contains("services.web.path: the services api (services.api.path) and web are both on"),
        "{problems:#?}"
    );
    for web in ["host = \"a.b\"", "path = \"/shop\"", "host = \"a.b\"\npath = \"/Shop\""] {
        both(web).settings();
    }
    for keys in [
        "bind = \"*:8080\"\nhost = \"web.example\"",
        "bind = \"*:8080\"\npath = \"/web\"",
        "bind = \"*:8081\"",
        "bind = \"[::1]:8080\"",
    ] {
        Site::with(&second(keys)).settings();
    }
    let apart = "proxies = [\"other\"]\nbind = \"*:8080\"";
    let other = "[proxies.other]\nconfig_file = \"/o/c\"\nmap_file = \"/o/m\"\nstate_file = \"/o/s\"\n\
                 master_socket = \"/o/ms\"\nadmin_socket = \"/o/as\"\n";
    let api = service("proxies = [\"haproxy-server\"]");
    Site::with(&second(apart).replace(SMALLEST, &format!("{api}\n{other}"))).settings();
}

#[test]
fn a_bind_that_redirects_leads_to_one_place() {
    let secure = |name: &str, bind: &str, from: &str| {
        format!(
            "[services.{name}]\nbind = \"{bind}\"\nhost = \"{name}.example\"\n\
             tls = {{ certificates = \"/certs\", redirect_from = \"{from}\" }}\n\
             [services.{name}.servers.s]\nsite = \"onprem\"\naddress = \"s:80\"\n"
        )
    };
    let with = |one: String, other: String| Site::with(&format!("{SMALLEST}\n{one}{other}"));
    let same = with(secure("web", "*:443", "*:80"), secure("www", "*:443", "*:80")).settings();
    assert_eq!(same.services[&"web".parse().unwrap()].tls, same.services[&"www".parse().unwrap()].tls);
    assert_eq!(same.services[&"web".parse().unwrap()].tls.as_ref().unwrap().min_version, TlsVersion::V1_2);
    let problems = with(secure("web", "*:443", "*:80"), secure("www", "*:444", "*:80")).problems();
    assert!(
        problems.len() == 1
            && problems[0]
                .contains("services.www.tls.redirect_from: *:80 leads to *:443 already, for the service web"),
        "{problems:#?}"
    );
}

#[test]
fn snippets_are_taken_as_they_are_but_for_what_supervisor_lives_by() {
    let with = |keys: &str, proxy: &str| {
        Site::with(
            &service(keys)
                .replace("[proxies.haproxy-server]\n", &format!("[proxies.haproxy-server]\n{proxy}\n")),
        )
    };
    let text = "  # server: no word of ours\n\n\tbalance \"leastconn\"\n";
    let good = with(
        &format!("snippets = {{ backend = \"\"\"{text}\"\"\", frontend = \" \" }}"),
        "snippets = { global = \"tune.ssl.cachesize 50000\\nlog 10.0.0.1 local0\" }",
    )
    .settings();
    let service = &good.services[&"api".parse().unwrap()];
    let expected = Snippet { key: "services.api.snippets.backend".to_owned(), text: text.to_owned() };
    assert_eq!(service.snippets, ServiceSnippets { frontend: None, backend: Some(expected) });
    let proxy = good.proxies.values().next().unwrap();
    assert_eq!(proxy.snippets.global.as_ref().unwrap().key, "proxies.haproxy-server.snippets.global");

    let frontend = |text: &str| with(&format!("snippets = {{ frontend = \"{text}\" }}"), "").problems();
    let backend = |text: &str| with(&format!("snippets = {{ backend = \"{text}\" }}"), "").problems();
    let global = |text: &str| with("", &format!("snippets = {{ global = \"{text}\" }}")).problems();
    let defaults = |text: &str| with("", &format!("snippets = {{ defaults_tcp = \"{text}\" }}")).problems();
    for (problems, key, words) in [
        (
            backend("balance source\\n  server s 10.0.0.1:80"),
            "services.api.snippets.backend",
            "line 2: \"server\" cannot",
        ),
        (backend("listen x"), "services.api.snippets.backend", "line 1: \"listen\" begins a section"),
        (
            backend("namespace_list"),
            "services.api.snippets.backend",
            "line 1: \"namespace_list\" begins a section",
        ),
        (
            backend("option tcp-check"),
            "services.api.snippets.backend",
            "line 1: \"option tcp-check\" cannot stand here",
        ),
        (
            backend("default-server inter 2s disabled"),
            "services.api.snippets.backend",
            "line 1: \"disabled\" cannot stand here",
        ),
        (
            backend("'user'list users"),
            "services.api.snippets.backend",
            "line 1: \"userlist\" begins a section",
        ),
        (backend("a\\u0000b"), "services.api.snippets.backend", "line 1: '\\0' cannot stand in HAProxy's"),
        (backend("a\\rserver"), "services.api.snippets.backend", "line 1: '\\r' cannot stand in HAProxy's"),
        (frontend(".if defined(X)"), "services.api.snippets.frontend", "line 1: conditions (.if)"),
        (
            frontend("use_backend x if TRUE"),
            "services.api.snippets.frontend",
            "line 1: \"use_backend\" cannot",
        ),
        (
            global("description mine"),
            "proxies.haproxy-server.snippets.global",
            "line 1: \"description\" cannot",
        ),
        (global("stats socket /x"), "proxies.haproxy-server.snippets.global", "line 1: \"stats\" cannot"),
        (
            global("server-state-file /x"),
            "proxies.haproxy-server.snippets.global",
            "line 1: \"server-state-file\" cannot",
        ),
        (global("\\nno maxconn 1"), "proxies.haproxy-server.snippets.global", "line 2: \"maxconn\" cannot"),
        (
            defaults("timeout  client 5s"),
            "proxies.haproxy-server.snippets.defaults_tcp",
            "line 1: \"timeout client\" cannot",
        ),
    ] {
        assert!(
            problems.len() == 1 && problems[0].contains(&format!("{key}: {words}")),
            "{key}: {words}: {problems:#?}"
        );
    }
    assert!(
        !backend("server tops3cret 10.0.0.1:80")[0].contains("tops3cret"),
        "the rest of a line is not shown"
    );
}

#[test]
fn two_proxies_never_write_one_file() {
    let problems =
        Site::with(&format!("{SMALLEST}\n[proxies.second]\nconfig_file = \"/etc/second.cfg\"\n")).problems();
    let all = problems.join("\n");
    assert!(all.contains("proxies.second.map_file: /var/lib/haproxy/maps/routes.map is proxies.haproxy-server.map_file already"), "{all}");
    assert_eq!(problems.len(), 4, "{all}");
}

#[test]
fn haproxys_sockets_may_be_reached_over_tcp() {
    let with = |keys: &str| SMALLEST.replace("[services.api]", &format!("{keys}\n[services.api]"));
    let proxy = |keys: &str| Site::with(&with(keys)).settings().proxies.into_values().next().unwrap();
    let both = proxy("admin_socket = \"tcp://10.0.0.5:9999\"\nmaster_socket = \"tcp://haproxy:9998\"");
    assert_eq!(both.admin_socket.to_string(), "tcp://10.0.0.5:9999");
    assert_eq!(both.admin_path, both.admin_socket);
    assert_eq!(both.master_socket.to_string(), "tcp://haproxy:9998");
    let apart = proxy("admin_socket = \"tcp://haproxy:9999\"\nadmin_path = \"tcp://[::]:9999\"");
    assert_eq!(apart.admin_path.to_string(), "tcp://[::]:9999");
    assert_eq!(apart.admin_socket.to_string(), "tcp://haproxy:9999");
    // Whoever writes that configuration knows what it binds.
    proxy("admin_socket = \"tcp://haproxy:9999\"\nconfig = \"external\"");
    for (keys, expected) in [
        (
            "admin_socket = \"tcp://haproxy:9999\"",
            "admin_path: \"haproxy\" is no IP address, and HAProxy must bind one",
        ),
        ("admin_path = \"tcp://haproxy:9999\"", "admin_path: \"haproxy\" is no IP address"),
        ("admin_socket = \"tcp://10.0.0.5\"", "admin_socket: \"10.0.0.5\" has no port"),
        (
            "admin_socket = \"http://10.0.0.5:1\"",
            "admin_socket: http:// is not spoken; a path and tcp:// are",
        ),
        (
            "admin_socket = \"/run/a b\"",
            "admin_socket: ' ' cannot stand in a path in HAProxy's configuration",
        ),
        (
            "admin_socket = \"tcp://127.0.0.1:9\"\nmaster_socket = \"tcp://127.0.0.1:9\"",
            "admin_socket: tcp://127.0.0.1:9 is proxies.haproxy-server.master_socket already",
        ),
    ] {
        let problems = Site::with(&with(keys)).problems();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].contains(expected), "{}", problems[0]);
    }
}

#[test]
fn a_service_on_several_engines_must_say_which() {
    let two = format!("{SMALLEST}\n[engines.a]\n[engines.b]\n");
    let problems = Site::with(&two).problems();
    assert_eq!(problems.len(), 3, "{problems:#?}");
    assert!(problems[0].contains("its container may be on any of several engines (a, b)"), "{}", problems[0]);
    let sites = "[sites.onprem]\nengine = \"a\"\n[sites.cloud]\nengine = \"b\"\n";
    let said = format!("{two}{sites}").replacen("container", "engine = \"a\"\ncontainer", 1);
    let settings = Site::with(&said).settings();
    let policy = settings.policy.server(id("api", "api-cloud")).unwrap();
    assert_eq!(policy.container.as_ref().unwrap().engine.as_str(), "b");
    assert_eq!(settings.engines.len(), 2);
}

#[test]
fn the_last_layer_wins_and_is_blamed() {
    let ready = |interval: &str| format!("[services.api.ready]\ninterval = \"{interval}\"\n");
    let interval = |site: &Site| site.settings().servers[&id("api", "api-cloud")].ready.interval;
    let site = Site::with(&format!("{SMALLEST}\n{}", ready("2s")));
    assert_eq!(interval(&site), Span(2000));
    let site = site.drop_in("20-b.toml", &ready("4s")).drop_in("10-a.toml", &ready("3s"));
    assert_eq!(interval(&site), Span(4000), "drop-ins are taken by name");
    let site = site.drop_in("99.toml.bak", &ready("9s")).drop_in(".99.toml", &ready("9s"));
    assert_eq!(interval(&site), Span(4000), "other files are not");
    let site = site.variable("SUPERVISOR__SERVICES__API__READY__INTERVAL", "5s");
    assert_eq!(interval(&site), Span(5000), "the environment comes last");

    let site = Site::with(&format!("{SMALLEST}\n{}", ready("2s"))).drop_in("10-a.toml", &ready("1h"));
    let problems = site.problems();
    assert!(
        problems[0].starts_with("supervisor.d/10-a.toml:2: services.api.ready.interval: 1 h is"),
        "{}",
        problems[0]
    );
    let site = site.variable("SUPERVISOR__SERVICES__API__READY__INTERVAL", "5");
    let expected = "environment SUPERVISOR__SERVICES__API__READY__INTERVAL: services.api.ready.interval: \"5\" has no unit; \
                    write for example interval = \"1s\"";
    assert_eq!(site.problems(), [expected]);
}

#[test]
fn a_list_in_a_later_layer_replaces_the_earlier_one() {
    let site = Site::with(SMALLEST).drop_in("1.toml", "[services.api]\nprefer = [\"cloud\", \"onprem\"]\n");
    let first = |site: &Site| site.settings().policy.services[&"api".parse().unwrap()].prefer[0].to_string();
    assert_eq!(first(&site), "cloud");
    let site = site.variable("SUPERVISOR__SERVICES__API__PREFER", "[\"onprem\", \"cloud\"]");
    assert_eq!(first(&site), "onprem");
}

#[test]
fn the_environment_finds_names_that_shells_cannot_write() {
    let site = Site::with(SMALLEST)
        .variable("SUPERVISOR__SERVICES__API__SERVERS__API_ONPREM__MAXCONN", "32")
        .variable("SUPERVISOR__SERVICES__API__STATEFUL", "true")
        .variable("SUPERVISOR__PROXIES__HAPROXY_SERVER__OBSERVE", "off")
        .variable("SUPERVISOR__SERVICES__API__READY__CONTAINS", "007")
        .variable("SUPERVISOR__LOG", "{ format = \"json\" }")
        .variable("SUPERVISOR_PORT", "tcp://10.0.0.1:80");
    let settings = site.settings();
    assert_eq!(settings.servers.len(), 2);
    let server = &settings.servers[&id("api", "api-onprem")];
    assert_eq!(server.maxconn, Some(32));
    assert!(matches!(&server.ready.check, Check::Http(http) if http.contains.as_deref() == Some("007")));
    assert!(settings.policy.services[&"api".parse().unwrap()].stateful);
    assert_eq!(settings.proxies.values().next().unwrap().observe, Observe::Off);
    assert_eq!(settings.log.format, LogFormat::Json);
}

#[test]
fn names_differing_in_case_or_with_dots_stay_apart() {
    let text = format!(
        "{SMALLEST}\n{}",
        SMALLEST.replace("services.api", "services.\"API.v2\"").replace("8080", "8081")
    );
    let text = text.replacen("[proxies.haproxy-server]\ncontainer = \"haproxy-server\"\n", "", 2)
        + "[proxies.\"P.1\"]\n";
    let settings = Site::with(&text).settings();
    assert_eq!(settings.services.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["API.v2", "api"]);
    assert!(settings.proxies.contains_key(&"P.1".parse().unwrap()), "an empty table is there");
}

#[test]
fn mistakes_in_the_environment_are_named_by_variable() {
    let site = Site::with(SMALLEST)
        .variable("SUPERVISOR__SERVICES__API__BIMD", "*:80")
        .variable("SUPERVISOR__SERVICES__API__READY__RISE", "two")
        .variable("SUPERVISOR__", "x")
        .variable("SUPERVISOR__LOG__LEVEL", "loud")
        .variable("SUPERVISOR__SERVICES__API__PREFER", "[oops");
    let problems = site.problems();
    let begins = [
        "environment SUPERVISOR__: names no key",
        "environment SUPERVISOR__LOG__LEVEL: log.level: \"loud\" is unknown; it is \"error\" or",
        "environment SUPERVISOR__SERVICES__API__BIMD: services.api.bimd: unknown key; did you mean \"bind\"?",
        "environment SUPERVISOR__SERVICES__API__PREFER: begins with '[' and is no TOML",
        "environment SUPERVISOR__SERVICES__API__READY__RISE: services.api.ready.rise: ",
    ];
    assert_eq!(problems.len(), begins.len(), "{problems:#?}");
    for (problem, begin) in problems.iter().zip(begins) {
        assert!(problem.starts_with(begin), "{problem}\nis not\n{begin}");
    }
}

#[test]
fn two_variables_for_one_key_are_refused() {
    let site = Site::with(SMALLEST)
        .variable("SUPERVISOR__LOG__LEVEL", "info")
        .variable("SUPERVISOR__log__level", "warn");
    assert_eq!(
        site.problems(),
        ["environment SUPERVISOR__log__level: sets log.level, and so does SUPERVISOR__LOG__LEVEL; keep one"]
    );
}

#[test]
fn single_values_are_read_as_people_write_them_and_nothing_else_is() {
    let spans = [
        ("1s", 1000),
        ("250ms", 250),
        ("1m 30s", 90_000),
        ("1.5s", 1500),
        (" 2h ", 7_200_000),
        ("1 hour", 3_600_000),
    ];
    for (text, ms) in spans {
        assert_eq!(value::span(text), Ok(Span(ms)), "{text}");
    }
    for text in
        ["", "5", "1e3", "-5s", "5 s ago", "1:30:00", "soon", "5 parsecs", "inf", "99999999999999999999h"]
    {
        assert!(value::span(text).is_err(), "{text} was taken");
    }
    assert_eq!(
        (value::size("64KiB"), value::size("1 MiB"), value::size("7B")),
        (Ok(65_536), Ok(1 << 20), Ok(7))
    );
    for text in ["", "64", "64KB", "-1B", "1.5MiB", "KiB", "99999999999999999999B"] {
        assert!(value::size(text).is_err(), "{text} was taken");
    }
    for text in ["api:5000", "10.0.0.1:80", "[::1]:80", "my_api.example.:65535"] {
        assert_eq!(value::address(text).unwrap().to_string(), text);
    }
    for text in [
        "api",
        "api:",
        "api:0",
        "api:65536",
        "api:+80",
        ":80",
        "::1",
        "a b:80",
        "a..b:80",
        "[::1:80",
        "a/b:80",
        "a@b:80",
    ] {
        assert!(value::address(text).is_err(), "{text} was taken");
    }
    for (text, shown) in
        [("*:80", "*:80"), (":80", "*:80"), ("[::]:80", "[::]:80"), ("127.0.0.1:1", "127.0.0.1:1")]
    {
        assert_eq!(value::bind(text).unwrap().to_string(), shown);
    }
    let statuses = |parts: &[&str]| {
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        value::statuses(&parts).map(|set| set.to_string())
    };
    assert_eq!(statuses(&["304", "200-299", "250-300", "301"]), Ok("200-301,304".to_owned()));
    for parts in [&["99"][..], &["600"], &["2xx"], &["299-200"], &[""], &["200-"], &[]] {
        assert!(statuses(parts).is_err(), "{parts:?} was taken");
    }
    assert_eq!(
        value::engine("tcp://h:2375"),
        Ok(EngineAddress::Tcp(Address { host: "h".into(), port: 2375 }))
    );
    for text in
        ["", "/var/run/docker.sock", "unix://run/docker.sock", "npipe:////./pipe", "tcp://h", "tcp://h:1/x"]
    {
        assert!(value::engine(text).is_err(), "{text} was taken");
    }
}

#[test]
fn files_that_cannot_be_settings_are_refused_by_what_they_are() {
    let site = Site::with("");
    assert!(site.problems().join("\n").contains("supervisor.toml: services: no service is named"));
    fs::write(site.path(), b"# \xff\n").unwrap();
    assert_eq!(site.problems(), ["supervisor.toml:1: is not UTF-8 here; save the file as UTF-8"]);
    fs::write(site.path(), vec![b'#'; 10 << 20]).unwrap();
    assert!(
        site.problems()[0]
            .starts_with("supervisor.toml: has 10485760 bytes; settings have at most 1048576 (1 MiB)")
    );
    fs::remove_file(site.path()).unwrap();
    assert!(
        site.problems()[0].starts_with("supervisor.toml: cannot be read: there is no such file; create it")
    );
    fs::create_dir(site.path()).unwrap();
    assert!(site.problems()[0].starts_with("supervisor.toml: is a directory; name the file"));
    fs::remove_dir(site.path()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", site.path()).unwrap();
    assert_eq!(site.problems(), ["supervisor.toml: is no regular file"]);
    let site = Site::with(SMALLEST).drop_in("1.toml", "\0");
    assert!(site.problems()[0].starts_with("supervisor.d/1.toml:1: no TOML, at character 1: "));
}

#[test]
fn a_swapped_symbolic_link_loads_the_new_file() {
    let site = Site::with("");
    fs::remove_file(site.path()).unwrap();
    for (version, bind) in [("v1", "*:8080"), ("v2", "*:8081")] {
        let dir = site.dir.path().join(version);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("supervisor.toml"), smallest("*:8080", bind)).unwrap();
        let next = site.dir.path().join("..next");
        std::os::unix::fs::symlink(version, &next).unwrap();
        fs::rename(&next, site.dir.path().join("..data")).unwrap();
        if version == "v1" {
            std::os::unix::fs::symlink("..data/supervisor.toml", site.path()).unwrap();
        }
        assert_eq!(site.settings().services.values().next().unwrap().bind.to_string(), bind);
    }
}

#[test]
fn a_flood_of_mistakes_is_cut_off() {
    let text: String = (0..500).map(|i| format!("nonsense_{i} = 1\n")).collect();
    let problems = Site::with(&text).load().unwrap_err();
    assert_eq!(problems.iter().count(), 50);
}

#[test]
fn a_megabyte_of_nonsense_is_refused_in_bounded_time() {
    let mut text: String = (0..100_000).map(|i| format!("k{i}=1\n")).collect();
    text.truncate(source::FILE_MAX as usize);
    let site = Site::with(&text);
    let start = std::time::Instant::now();
    assert_eq!(site.load().unwrap_err().iter().count(), 50);
    // One pass; one for each mistake took six seconds here.
    assert!(start.elapsed() < std::time::Duration::from_secs(20), "{:?}", start.elapsed());
}

/// What a message tells people to write must itself be right.
#[test]
fn each_example_would_be_taken() {
    let keys: Vec<&str> = include_str!("examples.rs")
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>").map(|(key, _)| key))
        .collect();
    assert!(keys.len() > 50, "{keys:?}");
    let tables = [
        vec![],
        vec!["status"],
        vec!["log"],
        vec!["journal"],
        vec!["engines", "local"],
        vec!["sites", "onprem"],
        vec!["proxies", "haproxy-server"],
        vec!["proxies", "haproxy-server", "timeouts"],
        vec!["services", "api"],
        vec!["services", "api", "ready"],
        vec!["services", "api", "failback"],
        vec!["services", "api", "servers", "api-onprem"],
    ];
    let top =
        ["state_dir", "control_socket", "startup_grace", "lateness", "listen", "format", "level", "engine"];
    let mut tried = 0;
    for table in tables {
        let table = table.iter().fold(key::Key::root(), |key, segment| key.at(segment));
        for name in keys.iter().chain(&top) {
            let Some(example) = examples::of(&table.at(name)).filter(|example| !example.starts_with('['))
            else {
                continue;
            };
            let header = if table == key::Key::root() { String::new() } else { format!("[{table}]\n") };
            let site = Site::with(SMALLEST).drop_in("1.toml", &format!("{header}{example}\n"));
            site.settings();
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn what_decides_about_a_move_is_read() {
    let text = service(
        "min_servers = 1\nthin_grace = \"20s\"\nslow_start = \"30s\"\nall_down = \"first\"\ngroup = \"shop\"\n\
         flapping = { falls = 4, half_life = \"1m\" }\nready = { timeout = \"800ms\" }\n\
         failback = { hours = [\"sat-sun 02:00-05:00\"], time_zone = \"CET-1CEST,M3.5.0,M10.5.0/3\" }",
    );
    let settings = Site::with(&text).settings();
    let policy = &settings.policy.services[&"api".parse().unwrap()];
    assert_eq!((policy.thin_grace, policy.slow_start), (Span::seconds(20), Span::seconds(30)));
    assert_eq!(policy.all_down, AllDown::First);
    assert_eq!(policy.group, Some("shop".parse().unwrap()));
    assert_eq!(policy.flapping, Damper::nth(4, Span::seconds(60)));
    let onprem = &policy.servers[&"api-onprem".parse().unwrap()];
    assert_eq!(onprem.slow_after, Some(Span(400)), "half of the timeout");
    assert_eq!(onprem.strain, Damper::nth(3, Span::seconds(5)), "three within five intervals");
    let FailbackMode::Hours(hours) = &policy.failback.mode else { panic!("{:?}", policy.failback.mode) };
    assert_eq!(hours.to_string(), "sat-sun 02:00-05:00 CET-1CEST,M3.5.0,M10.5.0/3");
}

#[test]
fn how_much_history_is_kept_has_units_and_bounds() {
    let with = |text: &str| Site::with(SMALLEST).drop_in("1.toml", &format!("[journal]\n{text}\n"));
    let kept = with("max_age = \"90d\"\nmax_size = \"1024MiB\"").settings().journal;
    assert_eq!(kept, JournalSettings { max_age: Span::seconds(90 * 24 * 3600), max_bytes: 1 << 30 });
    assert_eq!(with("max_age = \"36h\"").settings().journal.max_age, Span::seconds(36 * 3600));
    for (text, words) in [
        ("max_age = \"30\"", "\"30\" has no unit; write for example max_age = \"30d\""),
        ("max_age = \"1min\"", "1 min is not within 1 h and 87600 h"),
        ("max_age = \"a d\"", "is no duration (a number and ms, s, m, h or d)"),
        ("max_size = \"1MiB\"", "1048576 bytes are not within 16 MiB and 65536 MiB"),
        ("max_size = 5", "a size with its unit in quotes"),
    ] {
        let problems = with(text).problems();
        assert!(problems.len() == 1 && problems[0].contains(words), "{text}: {problems:?}");
    }
}

#[test]
fn services_of_a_group_agree_on_where_and_when() {
    let second = "[services.web]\nbind = \"*:8081\"\nprefer = [\"cloud\", \"onprem\"]\ngroup = \"shop\"\n\
        failback = { mode = \"manual\" }\n\
        [services.web.servers.web-onprem]\nsite = \"onprem\"\naddress = \"web-onprem:5000\"\n\
        [services.web.servers.web-cloud]\nsite = \"cloud\"\naddress = \"web-cloud:5000\"\n";
    let problems = Site::with(&service("group = \"shop\"")).drop_in("1.toml", second).problems();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].contains("services.web.prefer: is not as api has it (onprem, cloud)"),
        "{problems:#?}"
    );
    assert!(problems[1].contains("services.web.failback: is not as api has it"), "{problems:#?}");
}

#[test]
fn a_reload_says_which_changes_need_a_restart() {
    let old = Site::with(SMALLEST).settings();
    let new = Site::with(&smallest("*:8080", "*:81")).variable("SUPERVISOR__STATE_DIR", "/srv/s").settings();
    assert_eq!(old.needs_restart(&new), ["state_dir"]);
    assert_eq!(old.needs_restart(&old), Vec::<&str>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic(text in ".{0,400}") {
        let _ = Site::with(&text).load();
    }

    /// Lines of good settings, mixed and mutilated: gets much deeper than noise.
    #[test]
    fn no_mixture_of_lines_makes_it_panic(
        lines in prop::collection::vec((prop::sample::select(SAMPLE.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>()), 0usize..60, any::<bool>()), 0..40),
        value in "[ -~]{0,12}",
    ) {
        let text: Vec<String> = lines.into_iter().map(|(line, cut, replace)| match line.split_once(" = ") {
            Some((key, _)) if replace => format!("{key} = {value:?}"),
            _ if cut < line.len() && cut > 50 => line[..cut].to_owned(),
            _ => line.to_owned(),
        }).collect();
        let site = Site::with(&text.join("\n")).variable("SUPERVISOR__SERVICES__API__READY", &value);
        if let Err(problems) = site.load() {
            prop_assert!(problems.iter().count() > 0);
            prop_assert!(problems.iter().all(|problem| !problem.to_string().contains(char::is_control)));
        }
    }
}

/// The smallest settings with more tables behind them.
fn with(tables: &str) -> String {
    format!("{SMALLEST}\n{tables}")
}

#[test]
fn alerts_go_to_every_alertmanager_and_mails_to_everybody_named() {
    let text = with(
        "[alerts]\nfallback_after = \"20s\"\n[alerts.alertmanagers.am1]\nurl = \"http://am1:9093/\"\n\
         [alerts.alertmanagers.am2]\nurl = \"https://am2/prefix\"\n\
         [mail]\nfrom = \"s@example.com\"\nto = [\"a@example.com\", \"b@example.com\"]\n\
         [mail.relays.main]\nhost = \"mx1\"\n[mail.relays.second]\nhost = \"10.0.0.1\"\ntls = \"none\"\n",
    );
    let settings = Site::with(&text).settings();
    let alerts = &settings.policy.alerts;
    assert_eq!(alerts.peers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["am1", "am2"]);
    assert!(alerts.direct);
    assert_eq!((alerts.fallback_after, alerts.notify_grace), (Span::seconds(20), Span::seconds(90)));
    let urls: Vec<&str> = settings.alertmanagers.values().map(|peer| peer.url.as_str()).collect();
    assert_eq!(urls, ["http://am1:9093", "https://am2/prefix"]);
    let mail = settings.mail.unwrap();
    assert_eq!(mail.to.len(), 2);
    let relays: Vec<(String, RelayTls)> =
        mail.relays.iter().map(|relay| (relay.address.to_string(), relay.tls)).collect();
    assert_eq!(
        relays,
        [("mx1:465".to_owned(), RelayTls::Implicit), ("10.0.0.1:25".to_owned(), RelayTls::None)]
    );
    let smallest = Site::with(SMALLEST).settings();
    assert!(!smallest.policy.alerts.direct && smallest.mail.is_none() && smallest.alertmanagers.is_empty());
}

#[test]
fn mistakes_about_alerts_are_named_and_no_secret_is_shown() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hunter2\n").unwrap();
    let file = secret.path().display();
    let am = |keys: &str| with(&format!("[alerts.alertmanagers.am1]\n{keys}\n"));
    let relay = |keys: &str| {
        with(&format!(
            "[mail]\nfrom = \"s@example.com\"\nto = [\"a@example.com\"]\n[mail.relays.main]\nhost = \"mx\"\n{keys}\n"
        ))
    };
    let table = [
        (am(""), "alerts.alertmanagers.am1.url: is missing"),
        (am("url = \"am1:9093\""), "neither http nor https"),
        (am("url = \"http://me:hunter2@am1\""), "a user or password does not belong into the URL"),
        (am("url = \"http://am1/?a=b\""), "has a query or a fragment"),
        (am("url = \"http://am1\"\nuser = \"me\""), "has no password"),
        (am(&format!("url = \"http://am1\"\npassword_file = \"{file}\"")), "whose password is it"),
        (am("url = \"http://am1\"\ntoken_file = \"/nowhere/token\""), "/nowhere/token cannot be read"),
        (am(&format!("url = \"http://am1\"\nca_file = \"{file}\"")), "holds no certificate in PEM form"),
        (with("[mail]\n"), "mail.from: is missing"),
        (with("[mail]\n"), "mail.to: is missing"),
        (with("[mail]\n"), "mail.relays: is missing"),
        (relay("port = 70000"), "mail.relays.main.port: 70000 is not within 1 and 65535"),
        (relay("tls = \"yes\""), "it is \"implicit\" or \"starttls\" or \"none\""),
        (
            relay(&format!("tls = \"none\"\nuser = \"me\"\npassword_file = \"{file}\"")),
            "would send the password in the clear",
        ),
        (relay("user = \"me\"\npassword_credential = \"smtp\""), "the unit needs LoadCredential=smtp:"),
        (
            with(
                "[mail]\nfrom = \"nobody\"\nto = [\"a@b\", \"a@b\", \"x y@b\"]\n[mail.relays.m]\nhost = \"mx\"\n",
            ),
            "\"a@b\" is there twice",
        ),
    ];
    for (text, expected) in table {
        let problems = Site::with(&text).problems();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected:?}: {problems:#?}");
        assert!(!problems.iter().any(|problem| problem.contains("hunter2")), "{problems:#?}");
    }
    let good = relay(&format!("user = \"me\"\npassword_file = \"{file}\""));
    let settings = Site::with(&good).settings();
    assert!(!format!("{settings:?}").contains("hunter2"), "a secret in Debug");
    let login = settings.mail.unwrap().relays[0].login.clone().unwrap();
    assert_eq!(login.password.expose(), "hunter2", "without the line feed of the file");
}

#[test]
fn healing_is_set_for_all_for_one_and_for_containers_of_their_own() {
    use crate::domain::policy::{ContainerRef, HealMode, OnKill, Role};
    let text = with(
        "[heal]\non_kill = \"heal\"\nrestarts = 3\n[containers.alertmanager]\nsite = \"cloud\"\nheal = { mode = \"always\" }\n\
         [services.api.servers.api-onprem.heal]\nmode = \"notify\"\ngrace = \"5s\"\n",
    );
    let settings = Site::with(&text).settings();
    let engine = "local".parse().unwrap();
    let of = |name: &str| {
        let name = crate::domain::ContainerName(name.to_owned());
        &settings.policy.containers[&ContainerRef { engine, name }]
    };
    assert_eq!(settings.policy.heal.restarts, 3);
    assert_eq!((of("api-onprem").heal, of("api-onprem").grace), (Some(HealMode::Notify), Span::seconds(5)));
    assert_eq!((of("api-cloud").heal, of("api-cloud").on_kill), (None, OnKill::Heal));
    assert_eq!((of("alertmanager").heal, of("alertmanager").role), (Some(HealMode::Always), Role::Other));
    assert_eq!(of("alertmanager").site.map(|site| site.to_string()).as_deref(), Some("cloud"));
    assert!(matches!(of("haproxy-server").role, Role::Proxy(_)));
    let wrong = [
        ("[heal]\nmode = \"maybe\"\n", "heal.mode: \"maybe\" is unknown"),
        ("[heal]\nrestarts = 33\n", "heal.restarts: 33 is not within 1 and 32"),
        ("[containers.api-cloud]\n", "is the container of a server: write its `heal` there"),
        ("[containers.x]\nsite = \"moon\"\n", "no server stands at \"moon\""),
        ("[containers.\"../x\"]\n", "containers.\"../x\""),
    ];
    for (tables, expected) in wrong {
        let problems = Site::with(&with(tables)).problems();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected:?}: {problems:#?}");
    }
}
