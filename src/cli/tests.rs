use super::args::{Cli, Command, FailoverArgs, Format, Global, OnceArgs};
use super::output::{Output, wrapped};
use super::through::Came;
use super::*;
use crate::control::{self, Client, ControlSocket};
use crate::daemon::{Move, MoveKind};
use crate::domain::ByName;
use crate::domain::action::Action;
use crate::domain::change::Change;
use crate::domain::command::{Command as Ordered, CommandId};
use crate::domain::event::{Event, ProxyIdentity, ProxySeen, Routed};
use crate::domain::health::Health;
use crate::domain::id::{NameError, ServerId};
use crate::domain::maintenance::AdminSeen;
use crate::domain::policy::{FailbackPolicy, Policy, ServerPolicy, ServicePolicy};
use crate::domain::state::{Placement, Route};
use crate::domain::time::{Boot, Now, Span, Wall};
use crate::domain::witness::{Cause, ProbeFault, ProbeOutcome};
use crate::domain::{Order, Reason, State, decide};
use crate::status::{
    self, EventLine, EventSource, LastProbe, MailView, Meta, Metrics, RecipientView, Sources, View,
};
use clap::Parser;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Long enough for a machine with two busy cores; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(20);

fn parse(words: &str) -> Result<(Global, Command), String> {
    let arguments = std::iter::once("supervisor").chain(words.split_whitespace());
    let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
    cli.into_command().map_err(|error| error.to_string())
}

#[test]
fn the_definition_of_the_arguments_is_sound() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn once_is_a_flag_of_the_program_and_takes_format_and_apply() {
    let (global, command) = parse("--once --format json").unwrap();
    assert_eq!((global.format, command), (Format::Json, Command::Once(OnceArgs { apply: false })));
    let (_, command) = parse("--once --apply --config x.toml").unwrap();
    assert_eq!(command, Command::Once(OnceArgs { apply: true }));
    let (_, command) = parse("once --apply").unwrap();
    assert_eq!(command, Command::Once(OnceArgs { apply: true }));
}

#[test]
fn settings_socket_and_format_can_stand_on_either_side_of_the_command() {
    for words in
        ["--config a.toml --socket s --format json status", "status --config a.toml --socket s --format json"]
    {
        let (global, _) = parse(words).unwrap();
        assert_eq!(global.config, Path::new("a.toml"));
        assert_eq!(global.socket.as_deref(), Some(Path::new("s")));
        assert_eq!(global.format, Format::Json);
    }
}

#[test]
fn orders_are_parsed_with_everything_they_take() {
    let (_, command) =
        parse("failover api --to cloud --dry-run --force --for 2h --pin --reason upgrade").unwrap();
    let Command::Failover(FailoverArgs { service, to, force, ends, pin, how }) = command else {
        panic!("{command:?}")
    };
    assert_eq!((service.as_str(), to.as_str(), force), ("api", "cloud", true));
    assert_eq!((ends.lasts, pin), (Some(crate::domain::time::Span::seconds(7200)), true));
    assert_eq!((how.dry_run, how.reason.as_deref()), (true, Some("upgrade")));
    for words in [
        "failback api --dry-run",
        "pause api --for 30m --reason upgrade",
        "drain api-onprem --for 2h --force --dry-run --reason upgrade",
        "maint api/api-onprem --until 18:00",
        "ready api/api-onprem --reason done",
        "pause --site onprem",
        "pause --all",
        "outbox --limit 5",
        "test-alert --reason x",
        "resume --all --dry-run",
        "containers",
        "containers api-onprem",
        "explain api",
        "status --watch",
        "events --follow --limit 5",
        "run --take-over",
        "scenario night.scn",
        "scenario --check a.scn b.scn",
        "scenario --golden -",
        "replay",
        "replay --since 2h --until 18:00 --all",
        "replay --from night.jsonl --config other.toml",
        "replay --state-dir /srv/supervisor --since 2026-08-21T18:00",
        "journal export",
        "journal export --since 24h --output night.jsonl",
    ] {
        assert!(parse(words).is_ok(), "{words}");
    }
}

/// The words of a line of a shell: only double quotes are known.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn every_command_that_the_docs_show_can_be_typed() {
    let (readme, docs) = (include_str!("../../README.md"), include_str!("../../docs/cli.md"));
    let replay = include_str!("../../docs/replay.md");
    let blocks = readme.split("```").filter_map(|block| block.strip_prefix("sh\n"));
    let shown = blocks
        .flat_map(str::lines)
        .chain(docs.lines().chain(replay.lines()).filter_map(|line| line.strip_prefix("    $ ")));
    let typed = shown.filter(|line| line.starts_with("supervisor "));
    let commands = typed.filter_map(|line| line.split(" # ").next());
    let mut count = 0;
    for line in commands {
        let cli = Cli::try_parse_from(words(line)).map_err(|error| error.to_string());
        assert!(cli.is_ok_and(|cli| cli.into_command().is_ok()), "{line}");
        count += 1;
    }
    assert!(count > 15, "{count} commands only");
}

#[test]
fn what_cannot_be_meant_ends_with_64() {
    let wrong = [
        "",
        "frobnicate",
        "failover api",
        "failover --to cloud",
        "failover a;b --to cloud",
        "explain",
        "journal",
        "replay --since",
        "replay --since tomorrow",
        "replay --from a --state-dir b",
        "journal export --all",
        "events --limit 5000",
        "drain",
        "drain api/a/b",
        "ready a1 --for 2h",
        "maint a1 --for 0s",
        "status --format yaml",
        "--apply",
        "--once status",
        "scenario",
        "scenario --check --golden night.scn",
        "scenario --golden --format json night.scn",
        "scenario /nonexistent/night.scn",
    ];
    for words in wrong {
        let arguments = std::iter::once("supervisor").chain(words.split_whitespace());
        assert_eq!(run(arguments.map(OsString::from)), Exit::Usage, "{words:?}");
    }
    assert_eq!(run(["supervisor", "--version"].map(OsString::from)), Exit::Ok);
}

#[test]
fn the_documented_exit_codes_are_these() {
    let codes = [
        Exit::Ok,
        Exit::Degraded,
        Exit::DENIED,
        Exit::Down,
        Exit::Usage,
        Exit::Unavailable,
        Exit::Bug,
        Exit::NotYet,
    ];
    assert_eq!(codes.map(|exit| exit as u8), [0, 1, 1, 2, 64, 69, 70, 75]);
    let documented = include_str!("../../docs/cli.md");
    for exit in codes {
        assert!(documented.contains(&format!("| {} |", exit as u8)), "{exit:?} is not in docs/cli.md");
    }
}

#[test]
fn no_daemon_is_69_and_a_reader_that_hangs_up_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let arguments = ["supervisor", "status", "--socket", socket.to_str().unwrap()];
    assert_eq!(run(arguments.map(OsString::from)), Exit::Unavailable);
    let hung_up = anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
    assert_eq!(exit_of(&hung_up), Exit::Ok);
    assert_eq!(exit_of(&anyhow::anyhow!("odd")), Exit::Bug);
}

#[test]
fn the_socket_is_found_in_settings_that_have_other_errors() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("supervisor.toml");
    assert_eq!(context::named_in(&config, "control_socket"), None);
    std::fs::write(&config, "control_socket = \"/x/y.sock\"\nnonsense = 1\n").unwrap();
    assert_eq!(context::named_in(&config, "control_socket"), Some(PathBuf::from("/x/y.sock")));
    std::fs::write(&config, "control_socket = [").unwrap();
    assert_eq!(context::named_in(&config, "control_socket"), None);
    assert_eq!(context::named_in(directory.path(), "control_socket"), None, "a directory");
}

#[test]
fn long_lines_are_wrapped_behind_their_mark() {
    let text = "word ".repeat(40);
    let lines = wrapped("  - ", text.trim());
    assert!(lines.lines().all(|line| line.chars().count() <= 80), "{lines}");
    assert!(lines.lines().skip(1).all(|line| line.starts_with("    word")), "{lines}");
}

// Below: the commands against a real socket, a real API and the real core; only HAProxy is played.

fn name<T: std::str::FromStr<Err = NameError>>(text: &str) -> T {
    text.parse().unwrap()
}

fn now() -> Now {
    Now { boot: Boot(1_000_000), wall: Wall(1_787_300_102_123) }
}

/// api, served from onprem (generation 1), both sites healthy; shop has a cloud that is down.
fn world() -> State {
    let service = |prefix: &str| {
        let at = |site: &str| ServerPolicy { rise: 1, fall: 1, ..ServerPolicy::at(name(site)) };
        let servers = ["onprem", "cloud"].map(|site| (name(&format!("{prefix}-{site}")), at(site)));
        let (after, hold_down) = (Span::seconds(5), Span::seconds(60));
        let failback = FailbackPolicy { after, hold_down, ..FailbackPolicy::auto() };
        let prefer = vec![name("onprem"), name("cloud")];
        ServicePolicy { failback, ..ServicePolicy::of([name("edge")].into(), prefer, servers) }
    };
    let mut state = State::new(Policy {
        services: ByName::from([(name("api"), service("api")), (name("shop"), service("shop"))]),
        proxies: BTreeSet::from([name("edge")]),
        ..Policy::default()
    });
    for id in ["api", "shop"] {
        let service = name(id);
        let route = Route {
            site: name("onprem"),
            generation: 1,
            since: Boot(940_000),
            since_wall: Wall(1_787_300_042_123),
            by: None,
            pending: BTreeMap::new(),
        };
        let up = Health::Up { since: Boot(0), bad: None };
        let cause = Cause::Probe(ProbeFault::Refused);
        let cloud = if id == "api" { up } else { Health::Down { since: Boot(990_000), cause, good: 0 } };
        let server = |site: &str| ServerId { service, server: name(&format!("{id}-{site}")) };
        state.apply(&[
            Change::Placed { service, placement: Placement::On(route) },
            Change::Health { server: server("onprem"), health: up },
            Change::Health { server: server("cloud"), health: cloud },
        ]);
    }
    state
}

fn view(state: &State) -> View {
    let outcome = ProbeOutcome::Healthy { status: 200, took: Span(3) };
    let probe = LastProbe { outcome, ended: Boot(999_880) };
    let server = ServerId { service: name("api"), server: name("api-onprem") };
    let meta = Meta { version: "0.1.0".to_owned(), node: "node-1".to_owned(), ..Meta::default() };
    View::of(state, now(), &BTreeMap::from([(server, probe)]), &meta)
}

/// The journal, in memory.
#[derive(Default)]
struct Journal(Mutex<Vec<EventLine>>);

impl EventSource for Journal {
    fn tail(&self, limit: usize, after: Option<u64>) -> Result<Vec<EventLine>, String> {
        let lines = self.0.lock().unwrap();
        Ok(match after {
            Some(after) => lines.iter().filter(|line| line.seq > after).take(limit).cloned().collect(),
            None => lines[lines.len().saturating_sub(limit)..].to_vec(),
        })
    }

    fn mails(&self, _limit: usize) -> Result<Vec<MailView>, String> {
        Ok(vec![mail()])
    }
}

/// One that is on its way to one of its two recipients.
fn mail() -> MailView {
    let to = |address: &str, state: &str, reply: &str, next: Option<&str>| RecipientView {
        address: address.to_owned(),
        state: state.to_owned(),
        relay: Some("main".to_owned()),
        reply: Some(reply.to_owned()),
        attempts: 1,
        next: next.map(str::to_owned),
    };
    MailView {
        id: 7,
        at: "2026-01-02T03:04:05.000Z".to_owned(),
        kind: Some("firing".to_owned()),
        state: "staged".to_owned(),
        about: vec!["api has no healthy server at onprem".to_owned()],
        why: Some("no Alertmanager takes alerts".to_owned()),
        message_id: Some("<1.firing.7.2@node-1>".to_owned()),
        recipients: vec![
            to("a@example.org", "accepted", "250 2.0.0 Ok: queued as 4C1", None),
            to("b@example.org", "deferred", "450 4.2.0 greylisted", Some("2026-01-02T03:05:05.000Z")),
        ],
    }
}

/// How HAProxy takes a route.
#[derive(Clone, Copy, PartialEq)]
enum Edge {
    Confirms,
    Silent,
}

struct World {
    _directory: TempDir,
    socket: PathBuf,
    stop: CancellationToken,
    journal: Arc<Journal>,
    live: broadcast::Sender<Arc<EventLine>>,
    patience: Duration,
}

impl World {
    async fn start(edge: Edge) -> World {
        World::of(world(), edge).await
    }

    async fn of(mut state: State, edge: Edge) -> World {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let (views, seen) = watch::channel(Arc::new(view(&state)));
        let (live, _) = broadcast::channel(16);
        let (journal, stop) = (Arc::new(Journal::default()), CancellationToken::new());
        let past: Arc<dyn EventSource> = Arc::<Journal>::clone(&journal);
        let sources = Sources::new(seen, live.clone(), past, Arc::new(Metrics::default()), stop.clone());
        let (commands, mut lane) = mpsc::channel::<control::Request>(4);
        let listener = ControlSocket::bind(&socket).await.unwrap();
        let reads = status::api::router(sources.clone()).merge(status::mails::router(sources));
        tokio::spawn(control::serve(listener, commands, reads, stop.clone()));
        let written = Arc::clone(&journal);
        tokio::spawn(async move {
            let mut seq = 0;
            while let Some(request) = lane.recv().await {
                let control::Request { order, because, by, dry_run, reply } = request;
                let event = Event::Commanded(Ordered { id: CommandId(1), by, because, order: order.clone() });
                let decision = decide(&state, &event, now());
                if !dry_run {
                    state.apply(&decision.changes);
                    seq += 1;
                    written.0.lock().unwrap().extend(EventLine::from_record(seq, now(), &decision.reasons));
                    views.send(Arc::new(view(&state))).unwrap();
                }
                let _ = reply.send(status::answer(&order, dry_run, &decision).unwrap());
                let routes: BTreeMap<_, _> = decision.actions.iter().filter_map(route).collect();
                if !dry_run && edge == Edge::Confirms && !routes.is_empty() {
                    let routed = Routed { proxy: name("edge"), generations: routes, took: Span(2) };
                    state.apply(&decide(&state, &Event::Routed(routed), now()).changes);
                    views.send(Arc::new(view(&state))).unwrap();
                }
                if !dry_run && edge == Edge::Confirms && matches!(order, Order::Maintain { .. }) {
                    let seen = shown_by_haproxy(&state);
                    state.apply(&decide(&state, &Event::Proxy(seen), now()).changes);
                    views.send(Arc::new(view(&state))).unwrap();
                }
            }
        });
        let patience = if edge == Edge::Silent { Duration::from_millis(200) } else { LONG };
        World { _directory: directory, socket, stop, journal, live, patience }
    }

    /// Runs a command; returns its exit, what it printed and what it noted.
    async fn run(&self, words: &str) -> (Exit, String, String) {
        let (global, command) = parse(words).unwrap();
        let (out, err) = (Sink::default(), Sink::default());
        let mut context = Context {
            client: Client::new(&self.socket).unwrap(),
            format: global.format,
            output: Output::to(Box::new(out.clone()), Box::new(err.clone())),
            patience: self.patience,
        };
        let ran = async {
            match &command {
                Command::Status(args) => status_command(&mut context, args).await,
                Command::Explain(args) => explain::run(&mut context, args).await,
                Command::Failover(args) => order::failover(&mut context, args).await,
                Command::Failback(args) => order::failback(&mut context, args).await,
                Command::Drain(args) => maintain::out(&mut context, Admin::Drain, args).await,
                Command::Maint(args) => maintain::out(&mut context, Admin::Maint, args).await,
                Command::Ready(args) => maintain::ready(&mut context, args).await,
                Command::Events(args) => events::run(&mut context, args).await,
                Command::Outbox(args) => outbox::run(&mut context, args).await,
                Command::TestAlert(args) => test_alert::run(&mut context, args).await,
                other => panic!("{other:?} is not for the socket"),
            }
        };
        let exit = match timeout(LONG, ran).await.unwrap() {
            Ok(exit) => exit,
            Err(error) => {
                let exit = exit_of(&error);
                err.clone().write_all(chain(error.as_ref()).as_bytes()).unwrap();
                exit
            }
        };
        (exit, out.text(), err.text())
    }
}

/// HAProxy as it is wanted.
fn shown_by_haproxy(state: &State) -> ProxySeen {
    let wanted = state.desired(name("edge"));
    let out = wanted.servers.iter().filter(|(_, server)| server.admin != Admin::Ready);
    let shown =
        |admin| AdminSeen { drain: admin == Admin::Drain, maint: admin == Admin::Maint, disabled: false };
    ProxySeen {
        proxy: name("edge"),
        at: now().boot,
        identity: ProxyIdentity { pid: 1, started: 1 },
        master: None,
        owner: Some("me".to_owned()),
        ours: true,
        routes: wanted.routes.iter().map(|(service, route)| (*service, route.site)).collect(),
        checks: BTreeMap::new(),
        serving: BTreeMap::new(),
        out: Some(out.map(|(id, server)| (*id, shown(server.admin))).collect()),
    }
}

async fn status_command(context: &mut Context, args: &args::StatusArgs) -> anyhow::Result<Exit> {
    super::status::run(context, args).await
}

fn route(action: &Action) -> Option<(crate::domain::ServiceId, u64)> {
    match action {
        Action::Route { service, generation, .. } => Some((*service, *generation)),
        _ => None,
    }
}

#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn status_reads_well_in_80_columns_and_ends_with_the_grade() {
    let world = World::start(Edge::Confirms).await;
    let (exit, out, err) = world.run("status").await;
    assert_eq!((exit, err.as_str()), (Exit::Degraded, ""));
    let expected = "\
supervisor on node-1: DEGRADED, as of 2026-08-21T08:15:02.123Z

api: well, served from onprem for 1 min
  api stays on onprem: it is the preferred site
  SERVER      SITE    HEALTH  FOR          LAST PROBE               CONTAINER
  api-cloud   cloud   up      16 min 40 s  none yet                 -
  api-onprem  onprem  up      16 min 40 s  200 in 3 ms, 120 ms ago  -

shop: DEGRADED, served from onprem for 1 min
  shop stays on onprem: it is the preferred site
  SERVER       SITE    HEALTH  FOR          LAST PROBE  CONTAINER
  shop-cloud   cloud   DOWN    10 s         none yet    -
  shop-onprem  onprem  up      16 min 40 s  none yet    -

! HAProxy edge has not been seen yet
";
    assert_eq!(out, expected, "got:\n{out}");
    let (exit, out, _) = world.run("status --format json").await;
    let view: View = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, view.services.len(), out.lines().count()), (Exit::Degraded, 2, 1));
}

#[tokio::test]
async fn a_failover_says_exactly_what_the_dry_run_said_and_how_long_it_took() {
    let world = World::start(Edge::Confirms).await;
    let (exit, out, err) = world.run("failover api --to cloud --dry-run").await;
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Ok, "would move api from onprem to cloud\n", ""));
    let (exit, out, err) = world.run("failover api --to cloud --reason upgrade").await;
    assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
    assert!(out.starts_with("moved api from onprem to cloud in ") && out.ends_with("s\n"), "{out}");
    let (exit, out, _) = world.run("failover api --to cloud").await;
    assert_eq!(
        (exit, out.as_str()),
        (Exit::Ok, "api is on cloud already, and it is preferred; nothing to do\n")
    );

    let (_, out, _) = world.run("explain api").await;
    assert!(out.contains("api is served from cloud"), "{out}");
    assert!(out.contains("prefers cloud since"), "{out}");
    assert!(out.contains("lately:") && out.contains("from onprem to cloud by order of"), "{out}");
    let (exit, out, _) = world.run("failback api --format json").await;
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, Exit::Ok);
    assert_eq!((&json["verdict"], &json["in_force"]), (&"accepted".into(), &true.into()), "{json}");
    assert!(json["took_ms"].is_u64(), "{json}");
}

#[tokio::test]
async fn what_is_denied_is_said_with_the_reason_and_ends_with_1() {
    let world = World::start(Edge::Confirms).await;
    let denials = [
        (
            "failover api --to mars",
            "denied: the service has no servers at mars; it has some at onprem, cloud",
        ),
        ("failover mail --to cloud", "denied: there is no service mail; there is api, shop"),
        ("failover shop --to cloud", "denied: cloud is down: the connection is refused"),
    ];
    for (words, expected) in denials {
        let (exit, out, err) = world.run(words).await;
        assert_eq!((exit, out.as_str()), (Exit::DENIED, ""), "{words}");
        assert!(err.starts_with(expected), "{words}: {err}");
        let (exit, out, _) = world.run(&format!("{words} --dry-run")).await;
        assert_eq!(exit, Exit::DENIED, "{words}");
        assert!(out.starts_with(&format!("would be {expected}")), "{words}: {out}");
    }
    let (exit, _, err) = world.run("explain mail").await;
    assert_eq!(exit, Exit::Usage);
    assert!(err.contains("there is api, shop"), "{err}");
}

#[tokio::test]
async fn a_server_is_taken_out_and_put_back_and_it_is_said_how_long_that_took() {
    let world = World::start(Edge::Confirms).await;
    let (exit, out, err) = world.run("drain api-onprem --dry-run").await;
    let would = "would drain api-onprem: no new clients\nwould move api from onprem to cloud\n";
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Ok, would, ""));
    let (exit, out, err) = world.run("drain api-onprem --for 2h --reason kernel").await;
    assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
    let (first, rest) = out.split_once('\n').unwrap();
    assert!(first.starts_with("api-onprem is drained (no new clients) for 2 h; in force after "), "{out}");
    assert_eq!(rest, "moved api from onprem to cloud\n");

    let (_, out, _) = world.run("status").await;
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "api-onprem was drained (no new clients) by",
        "at 2026-08-21T08:15:02.123Z (kernel); it comes back in 2 h, `supervisor ready api/api-onprem` puts it back",
        "api-onprem onprem up, drain 16 min",
    ] {
        assert!(flat.contains(part), "{part:?} is missing: {out}");
    }
    let (_, out, _) = world.run("explain api").await;
    assert!(out.contains("- api-onprem was drained"), "{out}");
    let (_, out, _) = world.run("status --format json").await;
    let view: View = serde_json::from_str(&out).unwrap();
    let server = view.services[0].servers.iter().find(|server| server.admin == "drain").unwrap();
    let order = server.out.as_ref().unwrap();
    assert_eq!((order.because.as_deref(), order.left_ms), (Some("kernel"), Some(7_200_000)));
    assert_eq!(order.until.as_deref(), Some("2026-08-21T10:15:02.123Z"));

    let (exit, out, _) = world.run("maint api/api-onprem").await;
    assert_eq!(exit, Exit::Ok);
    assert!(out.starts_with("api-onprem is taken out of service; in force after "), "{out}");
    let (exit, out, _) = world.run("maint api/api-onprem").await;
    assert_eq!(
        (exit, out.as_str()),
        (Exit::Ok, "api-onprem is taken out of service already; nothing to do\n")
    );
    let (exit, out, _) = world.run("ready api-onprem --format json").await;
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, Exit::Ok);
    assert_eq!((&json["verdict"], &json["in_force"]), (&"accepted".into(), &true.into()), "{json}");
    assert_eq!(
        json["server"],
        serde_json::json!({"server": "api/api-onprem", "admin": "ready", "generation": 3})
    );
    let (_, out, _) = world.run("status").await;
    assert!(!out.contains("drain") && !out.contains("maint"), "{out}");
}

#[tokio::test]
async fn a_server_that_is_not_taken_out_is_said_with_the_reason() {
    let world = World::start(Edge::Confirms).await;
    for (words, exit, expected) in [
        ("drain shop-onprem", Exit::DENIED, "denied: shop-onprem is the last server of shop that serves"),
        (
            "maint api/api-mars",
            Exit::DENIED,
            "denied: api has no server api-mars; it has api-cloud, api-onprem",
        ),
        ("ready mail/m1", Exit::DENIED, "denied: there is no service mail; there is api, shop"),
        (
            "drain api-mars",
            Exit::Usage,
            "there is no server api-mars; there is api/api-cloud, api/api-onprem, shop/shop-cloud, shop/shop-onprem",
        ),
    ] {
        let (came, out, err) = world.run(words).await;
        assert_eq!((came, out.as_str()), (exit, ""), "{words}");
        assert!(err.starts_with(expected), "{words}: {err}");
    }
    let (exit, out, _) = world.run("drain shop-onprem --dry-run").await;
    assert!(out.starts_with("would be denied: ") && exit == Exit::DENIED, "{out}");
    // One name in two services.
    let mut policy = self::world().policy;
    for service in policy.services.values_mut() {
        service.servers.insert(name("s1"), ServerPolicy::at(name("onprem")));
    }
    let world = World::of(State::new(policy), Edge::Confirms).await;
    let (exit, _, err) = world.run("ready s1").await;
    let expected = "several services have a server s1: name one of api/s1, shop/s1";
    assert_eq!((exit, err.as_str()), (Exit::Usage, expected));
}

#[tokio::test]
async fn an_order_about_a_server_that_is_not_in_force_in_time_ends_with_75() {
    let world = World::start(Edge::Silent).await;
    let (exit, out, err) = world.run("maint api-cloud").await;
    assert_eq!((exit, out.as_str()), (Exit::NotYet, ""));
    assert!(
        err.starts_with("ordered, but not in force after 200 ms: HAProxy edge has not confirmed it"),
        "{err}"
    );
    let (_, out, _) = world.run("status").await;
    assert!(out.contains("HAProxy edge has not confirmed yet that api-cloud is out of service"), "{out}");
    // Given again, it is waited for again.
    let (exit, ..) = world.run("maint api-cloud").await;
    assert_eq!(exit, Exit::NotYet);
}

#[test]
fn the_help_of_drain_says_what_becomes_of_clients_that_are_connected() {
    use clap::CommandFactory;
    let mut program = Cli::command();
    let drain = program.find_subcommand_mut("drain").unwrap();
    let help = drain.render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for part in
        ["requests in flight are answered", "a connection that the client keeps", "TCP: connections stay"]
    {
        assert!(help.contains(part), "{part:?} is missing: {help}");
    }
}

#[tokio::test]
async fn a_second_operator_hears_of_the_first() {
    let world = World::start(Edge::Confirms).await;
    let client = Client::new(&world.socket).unwrap();
    let (exit, ..) = world.run("failover api --to cloud").await;
    assert_eq!(exit, Exit::Ok);
    // Somebody who still looks at generation 1.
    let order = control::protocol::OrderBody::Failback { service: name("api"), seen: Some(1), force: false };
    let late = control::CommandBody { order, because: None, dry_run: false };
    let reply = client.command(&late).await.unwrap();
    assert_eq!(reply.verdict, control::Answer::Denied);
    assert!(reply.words.contains("moved the traffic to cloud at"), "{}", reply.words);
}

#[tokio::test]
async fn an_order_that_does_not_come_into_force_ends_with_75_and_names_the_haproxy() {
    let world = World::start(Edge::Silent).await;
    let (exit, out, err) = world.run("failover api --to cloud").await;
    assert_eq!((exit, out.as_str()), (Exit::NotYet, ""));
    assert!(err.contains("HAProxy edge has not confirmed it"), "{err}");
    assert!(err.contains("not in force after 200 ms"), "{err}");
}

/// What became of one move that `--once --apply` took through the daemon.
async fn through_daemon(world: &World, service: &str, to: &str, kind: MoveKind) -> (Came, String) {
    let context = Context {
        client: Client::new(&world.socket).unwrap(),
        format: Format::Text,
        output: Output::to(Box::new(io::sink()), Box::new(io::sink())),
        patience: world.patience,
    };
    let wanted = Move { service: name(service), from: None, to: name(to), kind };
    let ordered = timeout(LONG, through::apply(&context, &[wanted])).await.unwrap().unwrap().remove(0);
    (ordered.came, ordered.line())
}

/// [`world`], in which the daemon itself holds onprem to be down, and has not moved anything yet.
fn onprem_down() -> State {
    let mut state = world();
    let cause = Cause::Probe(ProbeFault::Refused);
    for id in ["api", "shop"] {
        let server = ServerId { service: name(id), server: name(&format!("{id}-onprem")) };
        let health = Health::Down { since: Boot(999_000), cause, good: 0 };
        state.apply(&[Change::Health { server, health }]);
    }
    state
}

#[tokio::test]
async fn once_with_apply_orders_what_the_daemon_too_holds_to_be_necessary() {
    let world = World::of(onprem_down(), Edge::Confirms).await;
    let (came, line) = through_daemon(&world, "api", "cloud", MoveKind::Escape).await;
    assert_eq!(came, Came::Done, "{line}");
    assert!(line.starts_with("api to cloud: done: moved in "), "{line}");
    assert!(line.ends_with("; `supervisor failback api` ends the override that this made"), "{line}");
    let journal = world.journal.0.lock().unwrap().clone();
    let words: Vec<&str> = journal.iter().map(|line| line.words.as_str()).collect();
    assert!(words.iter().any(|words| words.ends_with(": supervisor --once --apply")), "{words:#?}");
    // And once more: there is nothing to do.
    let (came, line) = through_daemon(&world, "api", "cloud", MoveKind::Escape).await;
    assert_eq!(
        (came, line.as_str()),
        (Came::AlreadySo, "api to cloud: already so: the daemon sends it there, generation 2")
    );
}

#[tokio::test]
async fn once_with_apply_forces_nothing_that_the_daemon_denies() {
    let mut state = onprem_down();
    state.apply(&[Change::Placed { service: name("api"), placement: Placement::Unmanaged { last: None } }]);
    let world = World::of(state, Edge::Confirms).await;
    let (came, line) = through_daemon(&world, "api", "cloud", MoveKind::Escape).await;
    assert_eq!(came, Came::Denied);
    assert!(line.starts_with("api to cloud: denied: HAProxy has not been seen yet"), "{line}");
}

#[tokio::test]
async fn once_with_apply_says_when_an_order_is_not_in_force_in_time() {
    let world = World::of(onprem_down(), Edge::Silent).await;
    let (came, line) = through_daemon(&world, "api", "cloud", MoveKind::Escape).await;
    assert_eq!(came, Came::NotYet);
    assert!(line.contains("HAProxy edge has not confirmed it after 200 ms"), "{line}");
}

#[tokio::test]
async fn once_with_apply_leaves_to_the_daemon_what_the_daemon_knows_better() {
    let world = World::start(Edge::Confirms).await;
    let cases = [
        (
            "api",
            MoveKind::Escape,
            "the daemon does not hold onprem to be down: api-onprem is up (200 in 3 ms, 120 ms ago)",
        ),
        ("api", MoveKind::Return, "the daemon decides when to go back: api stays on onprem"),
        ("api", MoveKind::Set, "the daemon sends it to onprem, and tells HAProxy so by itself"),
        ("mail", MoveKind::Escape, "the daemon has no such service: it runs with other settings"),
    ];
    for (service, kind, words) in cases {
        let (came, line) = through_daemon(&world, service, "cloud", kind).await;
        assert_eq!(came, Came::NotOrdered, "{line}");
        assert!(line.starts_with(&format!("{service} to cloud: not ordered: {words}")), "{line}");
    }
    // Down at every site.
    let mut state = onprem_down();
    let crowded = World::of(state.clone(), Edge::Confirms).await;
    let (came, line) = through_daemon(&crowded, "shop", "cloud", MoveKind::Escape).await;
    assert_eq!(came, Came::NotOrdered);
    assert!(
        line.contains("the daemon decided otherwise: shop stays on onprem, though it does not serve"),
        "{line}"
    );
    // A person's override stays, whatever else holds.
    let by = crate::domain::Operator { uid: 1000, pid: None, name: Some("alice".to_owned()) };
    let over = crate::domain::failover::Override {
        site: name("onprem"),
        by,
        because: None,
        at: Wall(0),
        until: None,
        pin: false,
        reminded: crate::domain::Boot(0),
        forced: true,
    };
    state.apply(&[Change::Preference { service: name("api"), preference: Some(over) }]);
    let world = World::of(state, Edge::Confirms).await;
    let (came, line) = through_daemon(&world, "api", "cloud", MoveKind::Escape).await;
    assert_eq!(came, Came::NotOrdered);
    assert!(
        line.contains("the override of alice prefers onprem; `supervisor failback api` ends it"),
        "{line}"
    );
    assert!(world.journal.0.lock().unwrap().is_empty(), "nothing was ordered");
}

#[tokio::test]
async fn events_are_shown_once_and_followed() {
    let world = World::start(Edge::Confirms).await;
    let line = |seq| EventLine::from_record(seq, now(), &[Reason::Reconnected]).remove(0);
    world.journal.0.lock().unwrap().extend([line(1), line(2)]);
    let (exit, out, _) = world.run("events --limit 1 --format json").await;
    let shown: EventLine = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, shown.seq), (Exit::Ok, 2));
    let (_, out, _) = world.run("events").await;
    assert_eq!(out.lines().next(), Some("2026-08-21T08:15:02.123Z   supervisor reaches servers again"));

    let out = Sink::default();
    let mut context = Context {
        client: Client::new(&world.socket).unwrap(),
        format: Format::Json,
        output: Output::to(Box::new(out.clone()), Box::new(io::sink())),
        patience: LONG,
    };
    let args = args::EventsArgs { follow: true, limit: 10 };
    let follower =
        tokio::spawn(async move { events::run(&mut context, &args).await.map_err(|e| e.to_string()) });
    until(&out, 2).await;
    world.live.send(Arc::new(line(2))).unwrap();
    world.live.send(Arc::new(line(3))).unwrap();
    until(&out, 3).await;
    let seqs: Vec<u64> =
        out.text().lines().map(|line| serde_json::from_str::<EventLine>(line).unwrap().seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
    follower.abort();
    world.stop.cancel();
}

/// Waits until `lines` lines were printed.
async fn until(out: &Sink, lines: usize) {
    let printed = async {
        while out.text().lines().count() < lines {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(timeout(LONG, printed).await.is_ok(), "{}", out.text());
}

#[test]
fn containers_show_policy_state_and_who_ended_them_within_80_columns() {
    let container = |name: &str, phase: &str, words: &str| crate::status::ContainerView {
        name: name.to_owned(),
        engine: "local".parse().unwrap(),
        site: Some("onprem".parse().unwrap()),
        heal: crate::domain::policy::HealMode::Auto,
        status: "exited (137)".to_owned(),
        phase: phase.to_owned(),
        words: words.to_owned(),
        notes: Vec::new(),
        last: None,
        starts: 2,
        starts_max: 5,
        next_ms: None,
    };
    let held = container(
        "api-onprem",
        "held",
        "api-onprem was stopped by an operator: nothing is started; `docker start api-onprem` ends the hold",
    );
    let runs = container("customer-notification-preferences-api", "runs", "it runs");
    let mut waits = container("worker", "due", "worker crashed: it is started in 5 s");
    waits.notes = vec!["worker names nobody in its label".to_owned()];
    let text = containers::page(&[&held, &runs, &waits], false);
    assert!(text.contains("\n! worker names nobody"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    for part in
        ["api-onprem", "held", "auto", "exited (137)", "2/5", "stopped by an operator", "docker start"]
    {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
    assert!(!text.contains("it runs"), "what runs needs no sentence: {text}");
    assert!(containers::page(&[], false).contains("[containers.NAME]"));
}

#[tokio::test]
async fn the_outbox_shows_what_each_mail_tells_and_who_has_it() {
    let world = World::start(Edge::Confirms).await;
    let (exit, out, err) = world.run("outbox").await;
    assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    for part in [
        "mail 7  2026-01-02T03:04:05.000Z  firing  staged",
        "api has no healthy server at onprem",
        "no Alertmanager takes alerts",
        "a@example.org: accepted at main: 250 2.0.0 Ok",
        "b@example.org: deferred at main: 450 4.2.0 greylisted; tried again at",
    ] {
        assert!(out.contains(part), "{part:?} is missing: {out}");
    }
    let (_, out, _) = world.run("outbox --format json --limit 3").await;
    let list: status::MailList = serde_json::from_str(&out).unwrap();
    assert_eq!(list.mails, [mail()]);
    assert!(outbox::page(&[]).contains("Alertmanager"));
}

#[test]
fn a_test_of_the_alerts_says_what_became_of_each_way() {
    let arrived = |state: &str, stored: Option<bool>, up: Option<bool>| {
        let recipients = mail().recipients.into_iter().take(1).collect();
        let why = up.is_some_and(|up| !up).then(|| "connection refused".to_owned());
        let peer = status::PeerView { name: name("am1"), up, why };
        test_alert::Arrived {
            mailed: true,
            mail: Some(MailView { state: state.to_owned(), recipients, ..mail() }),
            alertmanagers: stored.map(|_| peer).into_iter().collect(),
            stored,
        }
    };
    let accepted = "mail 7: a@example.org: accepted at main: 250 2.0.0 Ok";
    for (arrived, exit, said) in [
        (arrived("done", Some(true), Some(true)), Exit::Ok, "has the alert SupervisorTest"),
        (arrived("done", None, None), Exit::Ok, "none, the settings name none"),
        (
            arrived("done", Some(false), Some(false)),
            Exit::Degraded,
            "am1: does not take alerts: connection refused",
        ),
        (
            arrived("done", Some(false), Some(true)),
            Exit::NotYet,
            "am1: takes alerts, and does not have this one yet",
        ),
        (arrived("staged", Some(true), Some(true)), Exit::NotYet, "has the alert"),
        (arrived("dead", Some(true), Some(true)), Exit::Degraded, "has the alert"),
        // Two of them, and one is away.
        (
            arrived("done", Some(true), Some(false)),
            Exit::Degraded,
            "am1: does not take alerts: connection refused",
        ),
    ] {
        let text = test_alert::page(&arrived);
        assert!(text.contains(accepted) && text.contains(said), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert_eq!(arrived.exit(), exit, "{text}");
    }
    // The disk does not show it: that is no success.
    let unseen = test_alert::Arrived { mail: None, ..arrived("done", None, None) };
    assert_eq!(unseen.exit(), Exit::NotYet);
    assert!(test_alert::page(&unseen).contains("not in the outbox yet"));
    let none = test_alert::Arrived { mailed: false, ..unseen };
    assert_eq!(none.exit(), Exit::Ok);
}

#[tokio::test]
async fn a_test_of_the_alerts_is_denied_where_nobody_can_be_told() {
    let world = World::start(Edge::Confirms).await;
    let (exit, out, err) = world.run("test-alert").await;
    assert_eq!((exit, out.as_str()), (Exit::DENIED, ""));
    assert!(err.contains("denied: there is nobody to tell"), "{err}");
}

/// `supervisor scenario WORDS` in a folder with `script` in night.scn.
fn scenario(words: &str, script: &str) -> (Exit, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("night.scn"), script).unwrap();
    let (global, command) = parse(&format!("scenario {words}")).unwrap();
    let Command::Scenario(mut args) = command else { panic!("{command:?}") };
    args.files = args.files.iter().map(|file| folder.path().join(file)).collect();
    let (out, err) = (Sink::default(), Sink::default());
    let mut output = Output::to(Box::new(out.clone()), Box::new(err.clone()));
    let exit = super::scenario::all(&mut output, global.format, &args).unwrap();
    let folder = format!("{}/", folder.path().display());
    (exit, out.text().replace(&folder, ""), err.text().replace(&folder, ""))
}

const NIGHT: &str = "\
# A crash at night.
service api onprem cloud
at 0s start
at 0s haproxy sees api=onprem
  > proxy_found proxy=haproxy
  > adopted service=api site=onprem
  ! route: generation=1 service=api site=onprem
at 5s docker api-onprem paused
  > server_down bad=1 cause: container=paused server=api/api-onprem site=onprem took=0
  > stays service=api site=onprem stay: none_proven: cause: container=paused
  > incident_opened incident=0 trouble: pool_down: service=api site=onprem
";

#[test]
fn a_scenario_is_told_as_a_story_as_its_own_golden_file_and_line_by_line() {
    let story = "\
A crash at night.

  api: onprem (api-onprem), then cloud (api-cloud)

       +0 s  supervisor starts
       +0 s  HAProxy answers (process 10): api goes to onprem
             - HAProxy haproxy answers
             - api: traffic is on onprem, as HAProxy had it; nothing was changed
             = traffic of api goes to onprem
       +5 s  Docker: api-onprem was paused
             ! api-onprem (onprem) is down: its container is paused
             ! api stays on onprem, though it does not serve: no other site has
               proved yet that it is healthy; onprem's container is paused
             - incident opened: api has no healthy server at onprem

In the end (+5 s):
  - api goes to onprem, for 5 s (since +0 s), and nobody serves it there
  - api stays on onprem, though it does not serve: no other site has proved yet
    that it is healthy; onprem's container is paused
  - api goes to the first site that is healthy again
  - api-onprem (onprem) has been down for 0 ms: its container is paused
  - open: api has no healthy server at onprem
";
    let (exit, out, err) = scenario("night.scn", NIGHT);
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Ok, story, ""), "got:\n{out}");
    let only_what_happens: String =
        NIGHT.lines().filter(|line| !line.starts_with("  ")).map(|line| format!("{line}\n")).collect();
    let (exit, out, err) = scenario("--golden night.scn", &only_what_happens);
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Ok, NIGHT, ""));
    let (exit, out, _) = scenario("--format json night.scn", NIGHT);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((exit, lines.len()), (Exit::Ok, 3));
    assert_eq!((&lines[2]["line"], &lines[2]["at_ms"]), (&8.into(), &5000.into()));
    assert_eq!(lines[2]["reasons"][0]["reason"]["code"], "server_down");
    assert_eq!(lines[2]["routes"]["api"], "onprem");
}

#[test]
fn a_scenario_that_decides_otherwise_than_written_ends_with_1_and_names_the_line() {
    let (exit, out, err) = scenario("--check night.scn", NIGHT);
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Ok, "night.scn: decides as written\n", ""));
    let other = NIGHT.replace("  > stays service=api", "  > failover service=api");
    let (exit, out, err) = scenario("--check night.scn", &other);
    assert_eq!((exit, err.as_str()), (Exit::Degraded, ""));
    assert!(out.starts_with("night.scn:10: decides otherwise than written\n  decided: > stays"), "{out}");
    let (exit, out, _) = scenario("--check --format json night.scn night.scn", &other);
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((exit, &first["difference"]["line"]), (Exit::Degraded, &10.into()));
    let missing = NIGHT.replace("  ! route: generation=1 service=api site=onprem\n", "");
    let (_, out, _) = scenario("--check night.scn", &missing);
    assert!(out.contains("night.scn:7: ") && out.contains("  written: nothing\n"), "{out}");
}

#[test]
fn everything_that_is_wrong_with_a_scenario_is_said_at_once() {
    let (exit, out, err) =
        scenario("--check night.scn", "service api onprem\nat 5 start\nat 5s probe api ok\n");
    assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines[0].starts_with("night.scn:2: \"5\": a time has a unit"), "{err}");
    assert!(
        lines[1].starts_with("night.scn:3: \"api\": no server has this name; known: api-onprem"),
        "{err}"
    );
    assert!(lines.iter().all(|line| line.contains("; right is for example: at ")), "{err}");
    let (exit, out, _) = scenario("--format json night.scn", "at 0s healed x\n");
    let problem: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &problem["line"], &problem["word"]), (Exit::Usage, &1.into(), &"x".into()));
    let (exit, _, err) = scenario("night.scn", "service api onprem\nat 0s healed api-onprem\n");
    assert_eq!(exit, Exit::Usage);
    assert_eq!(err, "night.scn:2: api-onprem was not started by supervisor\n");
}
