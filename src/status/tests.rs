use super::*;
use crate::domain::ByName;
use crate::domain::action::{Action, ActionId, Evacuation};
use crate::domain::change::Change;
use crate::domain::command::{Command, CommandId, Denial, Operator, Order};
use crate::domain::delivery::{AlertPolicy, MailId, MailKey, Peer, PeerLink, Telling};
use crate::domain::event::{
    ConfigSeen, ContainerSeen, ContainerStatus, Event, Facts, Probed, ProxyIdentity, StoreHealth,
};
use crate::domain::explain::Grade;
use crate::domain::failover::Override;
use crate::domain::health::Health;
use crate::domain::id::{ContainerName, ServerId};
use crate::domain::incident::{Incident, IncidentId, Trouble};
use crate::domain::maintenance::{Admin, Maintenance, Out};
use crate::domain::policy::{
    ContainerPolicy, ContainerRef, FailbackPolicy, OnKill, Policy, Role, ServerPolicy, ServicePolicy,
};
use crate::domain::repair::{Ender, Ending, Phase, Repair};
use crate::domain::state::{Placement, ProxyLink, Route};
use crate::domain::time::{Boot, Now, Span, Wall};
use crate::domain::witness::{Cause, ContainerFault, ProbeFault, ProbeOutcome};
use crate::domain::{Decision, Reason, State};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Long enough for a machine with two busy cores; a test that needs it has failed.
const LONG: Duration = Duration::from_secs(10);

const NOW: Now = Now { boot: Boot(1_000_000), wall: Wall(1_787_300_102_123) };

fn name<T: std::str::FromStr<Err = crate::domain::id::NameError>>(text: &str) -> T {
    text.parse().unwrap()
}

fn server(text: &str) -> ServerId {
    ServerId { service: name("api"), server: name(text) }
}

fn policy() -> Policy {
    let at = |site: &str, container: Option<&str>| {
        let engine = name("docker");
        let container =
            container.map(|container| ContainerRef { engine, name: ContainerName(container.to_owned()) });
        ServerPolicy { container, ..ServerPolicy::at(name(site)) }
    };
    let (after, hold_down) = (Span::seconds(5), Span::seconds(60));
    let servers =
        [(name("api-onprem"), at("onprem", Some("api-onprem"))), (name("api-cloud"), at("cloud", None))];
    let prefer = vec![name("onprem"), name("cloud")];
    let service = ServicePolicy {
        failback: FailbackPolicy { after, hold_down, ..FailbackPolicy::auto() },
        ..ServicePolicy::of([name("edge")].into(), prefer, servers)
    };
    let container = service.servers.values().find_map(|server| server.container.clone());
    let looked_after = ContainerPolicy {
        heal: None,
        on_kill: OnKill::Respect,
        site: Some(name("onprem")),
        grace: Span::seconds(30),
        role: Role::Servers,
    };
    Policy {
        containers: container.into_iter().map(|container| (container, looked_after.clone())).collect(),
        heal: crate::domain::testing::heal_limits(),
        alerts: AlertPolicy { peers: BTreeSet::from([name("am1")]), ..AlertPolicy::default() },
        services: ByName::from([(name("api"), service)]),
        proxies: BTreeSet::from([name("edge")]),
        engines: BTreeSet::from([name("docker")]),
        ..Policy::default()
    }
}

/// On-prem was killed 3 s ago, cloud serves, and alice had asked for on-prem because of `<script>`.
fn failed_over() -> State {
    let mut state = State::new(policy());
    let killed = Cause::Container(ContainerFault::Died { exit: Some(137) });
    let route = Route {
        site: name("cloud"),
        generation: 3,
        since: Boot(997_000),
        since_wall: Wall(NOW.wall.0 - 3_000),
        by: None,
        pending: BTreeMap::from([(name("edge"), crate::domain::state::Pending::since(Boot(0)))]),
    };
    let alice = Operator { uid: 1000, pid: Some(7), name: Some("alice".to_owned()) };
    let preference = Override {
        site: name("onprem"),
        by: alice,
        because: Some("<script>alert(\"1\")</script> & co".to_owned()),
        at: Wall(NOW.wall.0 - 60_000),
        until: None,
        pin: false,
        reminded: Boot(0),
        forced: false,
    };
    let seen = ContainerSeen {
        id: "f00d".to_owned(),
        status: ContainerStatus::Exited { exit: Some(137), oom: false },
        facts: Facts::default(),
    };
    let ending = Ending {
        who: Ender::Kill,
        exit: Some(137),
        oom: false,
        at: Boot(997_000),
        wall: Wall(NOW.wall.0 - 3_000),
    };
    let container = state.policy.containers.keys().next().unwrap().clone();
    let repair = Repair {
        id: "f00d".to_owned(),
        phase: Phase::Held { since: Boot(997_000) },
        starts: vec![Boot(900_000)],
        last: Some(ending),
        ..Repair::default()
    };
    let incident = Incident {
        trouble: Trouble::PoolDown { service: name("api"), site: name("onprem") },
        opened: Boot(997_000),
        opened_wall: Wall(NOW.wall.0 - 3_000),
        ended: None,
        part_of: None,
        trusted_from: None,
        story: Vec::new(),
        telling: Telling::ByMail { mail: MailKey { id: MailId(9), at: Wall(0) }, reached: true, again: None },
        wake: None,
    };
    let down = PeerLink::Down { since: Boot(990_000), why: "connection refused".to_owned() };
    state.apply(&[
        Change::Repair { container, repair: Box::new(repair) },
        Change::Incident { id: IncidentId(7), incident: Some(Box::new(incident)) },
        Change::Peer {
            peer: name("am1"),
            seen: Peer { link: down, failures: Vec::new(), silences: Vec::new() },
        },
        Change::Health {
            server: server("api-onprem"),
            health: Health::Down { since: Boot(997_000), cause: killed, good: 0 },
        },
        Change::Health { server: server("api-cloud"), health: Health::Up { since: Boot(10_000), bad: None } },
        Change::Placed { service: name("api"), placement: Placement::On(route) },
        Change::Preference { service: name("api"), preference: Some(preference) },
        Change::Proxy { proxy: name("edge"), link: ProxyLink::Ours },
        Change::ProxyIdentity { proxy: name("edge"), identity: ProxyIdentity { pid: 42, started: 1 } },
        Change::Engine { engine: name("docker"), found: Some(true) },
        Change::Container {
            engine: name("docker"),
            name: ContainerName("api-onprem".to_owned()),
            seen: Some(seen),
        },
    ]);
    state
}

fn view_of(state: &State) -> View {
    let refused = ProbeOutcome::Failed(ProbeFault::Refused);
    let healthy = ProbeOutcome::Healthy { status: 200, took: Span(3) };
    let probes = BTreeMap::from([
        (server("api-onprem"), LastProbe { outcome: refused, ended: Boot(999_950) }),
        (server("api-cloud"), LastProbe { outcome: healthy, ended: Boot(999_880) }),
    ]);
    let meta = Meta {
        version: "0.1.0".to_owned(),
        node: "node-1".to_owned(),
        started: Wall(NOW.wall.0 - 600_000),
        problems: vec![],
    };
    View::of(state, NOW, &probes, &meta)
}

#[test]
fn the_view_is_the_documented_json() {
    let json = serde_json::to_value(view_of(&failed_over())).unwrap();
    let expected = serde_json::json!({
        "version": "0.1.0",
        "node": "node-1",
        "started": "2026-08-21T08:05:02.123Z",
        "at": "2026-08-21T08:15:02.123Z",
        "grade": "degraded",
        "services": [{
            "name": "api",
            "grade": "degraded",
            "serving": "cloud",
            "preferred": "onprem",
            "generation": 3,
            "since": "2026-08-21T08:14:59.123Z",
            "since_ms": 3000,
            "by": null,
            "pending": ["edge"],
            "override": {
                "site": "onprem",
                "by": "alice",
                "because": "<script>alert(\"1\")</script> & co",
                "at": "2026-08-21T08:14:02.123Z",
                "forced": false
            },
            "out_generation": 0,
            "reason": "api stays on cloud: onprem is preferred, but is not healthy",
            "reasons": [
                {
                    "code": "serving",
                    "words": "api is served from cloud, for 3 s (since 2026-08-21T08:14:59.123Z)",
                    "service": "api", "site": "cloud", "since": 1_787_300_099_123_i64, "age": 3000
                },
                {
                    "code": "stays",
                    "words": "api stays on cloud: onprem is preferred, but is not healthy",
                    "service": "api", "site": "cloud", "stay": {"better_site_down": {"better": "onprem"}},
                    "left": null
                },
                {
                    "code": "comes_next",
                    "words": "api returns when onprem has been healthy for 5 s",
                    "service": "api", "site": "cloud",
                    "outlook": {"returns_after": {"better": "onprem", "healthy": 5000, "hold_down": null}}
                },
                {
                    "code": "comes_next",
                    "words": "if cloud fails, api has nowhere to go: no other site is healthy",
                    "service": "api", "site": "cloud", "outlook": "no_refuge"
                },
                {
                    "code": "preference_holds",
                    "words": "api: an override of alice prefers onprem since 2026-08-21T08:14:02.123Z \
                              (<script>alert(\"1\")</script> & co); no expiry, `supervisor failback api` ends it",
                    "service": "api",
                    "preference": {
                        "site": "onprem",
                        "by": {"uid": 1000, "pid": 7, "name": "alice"},
                        "because": "<script>alert(\"1\")</script> & co",
                        "at": 1_787_300_042_123_i64,
                        "until": null, "pin": false, "reminded": 0,
                        "forced": false
                    },
                    "left": null
                },
                {
                    "code": "container_stands",
                    "words": "api-onprem was killed by an operator (docker kill): nothing is started; \
                              `docker start api-onprem` ends the hold",
                    "container": "docker/api-onprem", "phase": {"held": {"since": 997_000}},
                    "last": {"who": "kill", "exit": 137, "oom": false, "at": 997_000, "wall": 1_787_300_099_123_i64},
                    "waits": null, "left": null
                },
                {
                    "code": "server_is_down",
                    "words": "api-onprem (onprem) has been down for 3 s: its container was killed (exit 137)",
                    "server": "api/api-onprem", "site": "onprem",
                    "cause": {"container": {"died": {"exit": 137}}}, "lasts": 3000
                }
            ],
            "servers": [
                {
                    "name": "api-cloud", "site": "cloud", "health": "up", "life": "unknown", "since_ms": 990_000, "cause": null,
                    "evidence": "200 in 3 ms, 120 ms ago", "container": null,
                    "admin": "ready", "out": null, "pending": []
                },
                {
                    "name": "api-onprem", "site": "onprem", "health": "down", "life": "unknown", "since_ms": 3000,
                    "cause": "container_died",
                    "evidence": "the connection is refused, so nothing listens there, 50 ms ago",
                    "container": "exited (137)",
                    "admin": "ready", "out": null, "pending": []
                }
            ]
        }],
        "proxies": [{"name": "edge", "link": "ours", "pid": 42, "owner": null, "lost_ms": null,
                     "config": {"state": "untried", "revision": null, "words": null}}],
        "containers": [{
            "name": "api-onprem", "engine": "docker", "site": "onprem", "heal": "auto", "status": "exited (137)",
            "phase": "held",
            "notes": [], "words": "api-onprem was killed by an operator (docker kill): nothing is started; \
                      `docker start api-onprem` ends the hold",
            "last": "was killed by an operator (docker kill)", "starts": 1, "starts_max": 5, "next_ms": null
        }],
        "incidents": [{
            "id": 7, "name": "PoolDown", "severity": "warning", "words": "api has no healthy server at onprem",
            "service": "api", "since": "2026-08-21T08:14:59.123Z", "since_ms": 3000, "told_by": "mail"
        }],
        "alertmanagers": [{"name": "am1", "up": false, "why": "connection refused"}],
        "engines": [{"name": "docker", "up": true}],
        "store": "durable",
        "cut_off": false,
        "problems": []
    });
    assert_eq!(json, expected, "got:\n{json:#}");
    let back: View = serde_json::from_value(expected.clone()).unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), expected, "what is written can be read again");
}

/// carol has taken api-cloud out for an hour, and HAProxy does not show it yet.
fn taken_out() -> State {
    let mut state = failed_over();
    let by = Operator { uid: 1001, pid: None, name: Some("carol".to_owned()) };
    let until = Some(NOW.boot + Span::seconds(3600));
    let because = Some("<b>kernel</b>".to_owned());
    let held = Maintenance { admin: Admin::Maint, by, because, at: Wall(NOW.wall.0 - 1_000), until };
    let pending = crate::domain::state::Pending::since(Boot(999_000));
    let out = Out {
        admin: Admin::Maint,
        generation: 4,
        since: Boot(999_000),
        ours: [Admin::Maint].into(),
        pending: [(name("edge"), pending)].into(),
    };
    let server = server("api-cloud");
    state.apply(&[
        Change::Maintenance { server, maintenance: Some(held) },
        Change::Out { server, out: Some(out) },
    ]);
    state
}

#[tokio::test]
async fn a_server_that_is_out_of_service_says_so_everywhere() {
    let view = view_of(&taken_out());
    assert_eq!(view.services[0].out_generation, 4);
    let shown = serde_json::to_value(&view.services[0].servers[0]).unwrap();
    assert_eq!(
        (&shown["name"], &shown["admin"], &shown["pending"], &shown["out"]),
        (
            &"api-cloud".into(),
            &"maint".into(),
            &serde_json::json!(["edge"]),
            &serde_json::json!({
                "by": "carol", "because": "<b>kernel</b>", "at": "2026-08-21T08:15:01.123Z",
                "until": "2026-08-21T09:15:02.123Z", "left_ms": 3_600_000
            })
        )
    );
    let page = Page::start(Ok(vec![])).await;
    page.views.send(Arc::new(view)).unwrap();
    let (_, body) = page.get("/").await;
    for part in [
        "<span class=\"health out\">maint</span>",
        "HAProxy edge has not confirmed yet that api-cloud is out of service",
        "api-cloud was taken out of service by carol at 2026-08-21T08:15:01.123Z (&lt;b&gt;kernel&lt;/b&gt;); it comes back in 1 h",
    ] {
        assert!(body.contains(part), "{part} is missing in:\n{body}");
    }
    let (_, metrics) = page.get("/metrics").await;
    let gauge = "supervisor_server_admin{service=\"api\",server=\"api-cloud\",state=\"maint\"} 1";
    assert!(metrics.lines().any(|line| line == gauge), "{metrics}");
}

#[test]
fn an_order_about_a_server_is_answered_with_its_number() {
    let order =
        Order::Maintain { server: server("api-onprem"), admin: Admin::Drain, lasts: None, force: false };
    let by = Operator { uid: 0, pid: None, name: None };
    let command = Command { id: CommandId(1), by, because: None, order: order.clone() };
    let decision = crate::domain::decide(&taken_out(), &Event::Commanded(command), NOW);
    let reply = answer(&order, false, &decision).unwrap();
    let ordered = reply.server.unwrap();
    assert_eq!((ordered.server, ordered.admin, ordered.generation), (server("api-onprem"), Admin::Drain, 5));
    assert_eq!(reply.plan, ["drain api-onprem: no new clients"]);
}

#[test]
fn what_we_cannot_reach_makes_a_well_world_degraded() {
    let mut state = failed_over();
    let up = Health::Up { since: Boot(0), bad: None };
    let home = Route {
        site: name("onprem"),
        generation: 4,
        since: Boot(0),
        since_wall: Wall(0),
        by: None,
        pending: BTreeMap::new(),
    };
    state.apply(&[
        Change::Health { server: server("api-onprem"), health: up },
        Change::Placed { service: name("api"), placement: Placement::On(home) },
    ]);
    assert_eq!(view_of(&state).grade, Grade::Well);
    let troubles = [
        Change::Proxy { proxy: name("edge"), link: ProxyLink::Lost { since: Boot(0) } },
        Change::Proxy { proxy: name("edge"), link: ProxyLink::Foreign { owner: "x".to_owned() } },
        Change::ProxyConfig { proxy: name("edge"), config: ConfigSeen::Refused { message: "x".to_owned() } },
        Change::ProxyConfig { proxy: name("edge"), config: ConfigSeen::Unproven { message: "x".to_owned() } },
        Change::Engine { engine: name("docker"), found: Some(false) },
        Change::Store(StoreHealth::Degraded),
        Change::CutOff(true),
    ];
    for trouble in troubles {
        let mut troubled = state.clone();
        troubled.apply(std::slice::from_ref(&trouble));
        assert_eq!(view_of(&troubled).grade, Grade::Degraded, "{trouble:?}");
    }
}

#[test]
fn a_new_state_has_a_view_without_guesses() {
    let view = View::of(&State::new(policy()), NOW, &BTreeMap::new(), &Meta::default());
    let service = &view.services[0];
    assert_eq!((service.serving, service.grade), (None, Grade::Degraded));
    assert!(service.reason.contains("does not know where"), "{}", service.reason);
    assert_eq!(service.servers[0].health, "unknown");
    assert_eq!(service.servers[1].container.as_deref(), Some("not known yet"));
}

#[test]
fn a_record_becomes_one_line_per_reason() {
    let reasons = [
        Reason::Reconnected,
        Reason::ServerDown {
            server: server("api-onprem"),
            site: name("onprem"),
            cause: Cause::Probe(ProbeFault::Silent),
            bad: 2,
            took: Span(310),
        },
    ];
    let lines = EventLine::from_record(7, NOW, &reasons);
    assert_eq!(lines.iter().map(|line| (line.seq, line.index)).collect::<Vec<_>>(), [(7, 0), (7, 1)]);
    assert_eq!(
        serde_json::to_value(&lines[1]).unwrap(),
        serde_json::json!({
            "seq": 7, "index": 1, "at": "2026-08-21T08:15:02.123Z", "code": "server_down", "service": "api",
            "level": "warn",
            "words": "api-onprem (onprem) is down: connected, but no answer in time, 2 times in a row within 310 ms"
        })
    );
}

#[test]
fn an_accepted_order_is_answered_with_its_plan_and_its_route() {
    let mut state = failed_over();
    let up = Health::Up { since: Boot(0), bad: None };
    state.apply(&[
        Change::Health { server: server("api-onprem"), health: up },
        Change::Confirmed { service: name("api"), proxy: name("edge") },
    ]);
    let order = Order::Failover {
        service: name("api"),
        to: name("onprem"),
        force: false,
        seen: Some(3),
        lasts: None,
        pin: false,
    };
    let by = Operator { uid: 0, pid: None, name: None };
    let command = Command { id: CommandId(1), by, because: None, order: order.clone() };
    let decision = crate::domain::decide(&state, &Event::Commanded(command.clone()), NOW);
    let reply = answer(&order, true, &decision).unwrap();
    assert_eq!(reply.verdict, crate::control::Answer::Accepted);
    assert_eq!(reply.plan, ["move api from cloud to onprem"]);
    assert_eq!(reply.route.map(|route| (route.site, route.generation)), Some((name("onprem"), 4)));
    assert_eq!((reply.dry_run, reply.durable), (true, Some(true)));

    let order = Order::Failover {
        service: name("api"),
        to: name("mars"),
        force: false,
        seen: None,
        lasts: None,
        pin: false,
    };
    let denied = Command { order: order.clone(), ..command };
    let decision = crate::domain::decide(&state, &Event::Commanded(denied), NOW);
    let reply = answer(&order, false, &decision).unwrap();
    assert_eq!(reply.verdict, crate::control::Answer::Denied);
    assert_eq!(reply.words, "the service has no servers at mars; it has some at onprem, cloud");
    let denial: Denial = serde_json::from_value(reply.denial.unwrap()).unwrap();
    assert!(matches!(denial, Denial::UnknownSite { .. }));
    assert!(answer(&order, false, &Decision::default()).is_none(), "no answer is invented");
}

/// The past, as a list; or a disk that has gone.
struct Past(Result<Vec<EventLine>, String>);

impl EventSource for Past {
    fn tail(&self, limit: usize, after: Option<u64>) -> Result<Vec<EventLine>, String> {
        let lines = self.0.clone()?;
        Ok(match after {
            Some(after) => lines.into_iter().filter(|line| line.seq > after).take(limit).collect(),
            None => lines[lines.len().saturating_sub(limit)..].to_vec(),
        })
    }

    fn mails(&self, _limit: usize) -> Result<Vec<MailView>, String> {
        self.0.clone().map(|_| Vec::new())
    }
}

/// The status listener on a free port.
struct Page {
    address: SocketAddr,
    views: watch::Sender<Arc<View>>,
    live: broadcast::Sender<Arc<EventLine>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    server: JoinHandle<io::Result<()>>,
}

impl Page {
    async fn start(past: Result<Vec<EventLine>, String>) -> Page {
        let (views, seen) = watch::channel(Arc::new(view_of(&failed_over())));
        let (live, _) = broadcast::channel(2);
        let (metrics, stop) = (Arc::new(Metrics::default()), CancellationToken::new());
        let past = Arc::new(Past(past));
        let sources = Sources::new(seen, live.clone(), past, Arc::clone(&metrics), stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, sources));
        Page { address, views, live, metrics, stop, server }
    }

    /// Status, head and body of the answer to one request.
    async fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LONG, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (status, _, body) = self.ask("GET", path).await;
        (status, body)
    }
}

fn lines(count: u64) -> Vec<EventLine> {
    (1..=count).flat_map(|seq| EventLine::from_record(seq, NOW, &[Reason::Reconnected])).collect()
}

#[tokio::test]
async fn the_page_shows_the_view_and_escapes_what_people_wrote() {
    let page = Page::start(Ok(vec![])).await;
    let (status, head, body) = page.ask("GET", "/").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    for shown in
        ["served from cloud", "api-onprem", "degraded", "exited (137)", "node-1", "200 in 3 ms, 120 ms ago"]
    {
        assert!(body.contains(shown), "{shown} is missing in:\n{body}");
    }
    assert!(!body.contains("<script>alert"), "a reason became markup:\n{body}");
    assert!(body.contains("&lt;script&gt;alert"), "{body}");
    for asset in ["/status.css", "/status.js"] {
        assert!(body.contains(asset));
        assert_eq!(page.get(asset).await.0, 200);
    }
    // Every part of the page for a world in which everything is wrong.
    let mut view = view_of(&State::new(policy()));
    (view.cut_off, view.store) = (true, StoreHealth::Degraded);
    view.services[0].servers[0].evidence = None;
    view.problems = vec!["line 3: <b>".to_owned()];
    view.proxies[0].link = Link::Foreign;
    view.proxies[0].owner = Some("<i>".to_owned());
    let mut other = view.services[0].clone();
    other.name = name("shop");
    view.services.push(other);
    page.views.send(Arc::new(view)).unwrap();
    let (status, body) = page.get("/").await;
    assert_eq!(status, 200);
    // Where there are several services, one line shows how each is, and leads there.
    assert!(body.contains("<a href=\"#service-shop\">") && body.contains("id=\"service-shop\""), "{body}");
    assert!(body.contains("line 3: &lt;b&gt;") && body.contains("another supervisor (&lt;i&gt;)"), "{body}");
    assert!(body.contains("not known yet where it is served") && body.contains("none yet"), "{body}");
    assert!(body.contains("Docker engine docker: not tried yet"), "{body}");
}

#[tokio::test]
async fn the_listener_only_reads() {
    let page = Page::start(Ok(vec![])).await;
    assert_eq!(page.ask("POST", "/api/v1/commands").await.0, 404);
    for path in ["/", "/health", "/metrics", "/api/v1/status", "/api/v1/explain/api", "/api/v1/events"] {
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(page.ask(method, path).await.0, 405, "{method} {path}");
        }
    }
    let (status, body) = page.get("/api/v1/nothing").await;
    assert_eq!((status, body.contains("docs/api.md")), (404, true));
}

#[tokio::test]
async fn status_and_explain_are_the_view() {
    let page = Page::start(Ok(vec![])).await;
    let (status, body) = page.get("/api/v1/status").await;
    assert_eq!(status, 200);
    let got: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(got, serde_json::to_value(view_of(&failed_over())).unwrap());
    let (_, body) = page.get("/api/v1/explain/api").await;
    let got: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(got["serving"], "cloud");
    let (status, body) = page.get("/api/v1/explain/shop").await;
    assert_eq!((status, body.contains("there is api")), (404, true), "{body}");
}

#[tokio::test]
async fn health_is_the_loops_and_not_the_services() {
    let page = Page::start(Ok(vec![])).await;
    assert_eq!(page.get("/health").await.0, 200, "though a service is degraded");
    let mut view = view_of(&failed_over());
    view.made = Instant::now().checked_sub(Duration::from_secs(12)).unwrap();
    page.views.send(Arc::new(view)).unwrap();
    let (status, body) = page.get("/health").await;
    assert_eq!((status, body.contains("has not reported for 12 s")), (503, true), "{body}");
}

#[tokio::test]
async fn mails_name_people_and_are_not_shown_to_whoever_reaches_the_port() {
    let page = Page::start(Ok(Vec::new())).await;
    let (status, _, _) = page.ask("GET", "/api/v1/outbox").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn past_events_are_bounded_and_can_be_paged() {
    let page = Page::start(Ok(lines(1500))).await;
    let seqs = |body: String| -> Vec<u64> {
        let list: EventList = serde_json::from_str(&body).unwrap();
        list.events.iter().map(|line| line.seq).collect()
    };
    assert_eq!(seqs(page.get("/api/v1/events?limit=2").await.1), [1499, 1500]);
    assert_eq!(seqs(page.get("/api/v1/events?limit=2&after=7").await.1), [8, 9]);
    assert_eq!(seqs(page.get("/api/v1/events?limit=1000000").await.1).len(), 1000);
    assert_eq!(seqs(page.get("/api/v1/events").await.1).len(), 100);
    for wrong in ["limit=x", "limit=-1", "since=3"] {
        let (status, body) = page.get(&format!("/api/v1/events?{wrong}")).await;
        assert_eq!(status, 400, "{wrong}: {body}");
    }
}

#[tokio::test]
async fn a_journal_that_cannot_be_read_is_said_and_the_rest_goes_on() {
    let page = Page::start(Err("the disk is gone".to_owned())).await;
    let (status, body) = page.get("/api/v1/events").await;
    assert_eq!((status, body.contains("the disk is gone")), (503, true), "{body}");
    assert_eq!(page.get("/").await.0, 200);
}

/// Reads from `stream` until `text` came.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut got = String::new();
    let mut buffer = [0; 4096];
    while !got.contains(text) {
        let bytes = timeout(LONG, stream.read(&mut buffer)).await.unwrap().unwrap();
        assert!(bytes > 0, "the stream ended before {text:?}: {got}");
        got.push_str(&String::from_utf8_lossy(&buffer[..bytes]));
    }
    got
}

#[tokio::test]
async fn live_events_arrive_and_an_open_stream_does_not_hold_the_stop() {
    let page = Page::start(Ok(vec![])).await;
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    stream.write_all(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    page.live.send(Arc::new(lines(1).remove(0))).unwrap();
    let got = read_until(&mut stream, "\n\n").await;
    assert!(got.contains("event: transition") && got.contains("id: 1-0"), "{got}");
    assert!(got.contains("\"words\":\"supervisor reaches servers again\""), "{got}");
    page.stop.cancel();
    timeout(LONG, page.server).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_how_much_it_missed() {
    let page = Page::start(Ok(vec![])).await;
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    stream.write_all(b"GET /api/v1/events/stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    // The channel holds two, and this test's single thread does not let the stream run in between.
    for line in lines(5) {
        page.live.send(Arc::new(line)).unwrap();
    }
    let got = read_until(&mut stream, "id: 5-0").await;
    assert!(got.contains("event: gap") && got.contains("{\"missed\":3}"), "{got}");
}

fn probed(name: &str, outcome: ProbeOutcome) -> Event {
    let (started, ended) = (Boot(10_000), Boot(10_007));
    Event::Probed(Probed { server: server(name), due: started, started, ended, outcome })
}

#[tokio::test]
async fn the_metrics_have_their_documented_names_and_labels() {
    let page = Page::start(Ok(vec![])).await;
    let nothing = Decision::default();
    page.metrics.record(&probed("api-cloud", ProbeOutcome::Healthy { status: 200, took: Span(7) }), &nothing);
    page.metrics.record(&probed("api-onprem", ProbeOutcome::Failed(ProbeFault::Silent)), &nothing);
    let (service, from, to) = (name("api"), name("onprem"), name("cloud"));
    let cause = Cause::Probe(ProbeFault::Silent);
    let by = Operator { uid: 0, pid: None, name: None };
    let reasons = vec![
        Reason::Failover { service, from, to, cause },
        Reason::Failback { service, from: to, to: from, healthy: Span(1) },
        Reason::Switchover { service, from, to, by, because: None, forced: false },
    ];
    page.metrics.record(&Event::Woke, &Decision { reasons, ..Decision::default() });
    page.metrics.breached(2);
    let (status, head, body) = page.ask("GET", "/metrics").await;
    assert_eq!(status, 200);
    assert!(head.contains("application/openmetrics-text"), "{head}");
    let expected = [
        "supervisor_build_info{version=\"0.1.0\"} 1",
        "supervisor_service_grade{service=\"api\"} 1",
        "supervisor_service_serving{service=\"api\",site=\"cloud\"} 1",
        "supervisor_service_serving{service=\"api\",site=\"onprem\"} 0",
        "supervisor_server_up{service=\"api\",server=\"api-cloud\",site=\"cloud\"} 1",
        "supervisor_server_up{service=\"api\",server=\"api-onprem\",site=\"onprem\"} 0",
        "supervisor_server_admin{service=\"api\",server=\"api-cloud\",state=\"ready\"} 1",
        "supervisor_server_admin{service=\"api\",server=\"api-cloud\",state=\"drain\"} 0",
        "supervisor_server_admin{service=\"api\",server=\"api-cloud\",state=\"maint\"} 0",
        "supervisor_proxy_up{proxy=\"edge\"} 1",
        "supervisor_engine_up{engine=\"docker\"} 1",
        "supervisor_store_durable 1",
        "supervisor_cut_off 0",
        "supervisor_failovers_total{service=\"api\",from=\"onprem\",to=\"cloud\"} 1",
        "supervisor_failbacks_total{service=\"api\",from=\"cloud\",to=\"onprem\"} 1",
        "supervisor_switchovers_total{service=\"api\",from=\"onprem\",to=\"cloud\"} 1",
        "supervisor_probes_total{service=\"api\",server=\"api-cloud\",outcome=\"healthy\"} 1",
        "supervisor_probes_total{service=\"api\",server=\"api-onprem\",outcome=\"silent\"} 1",
        "supervisor_probe_duration_seconds_count{service=\"api\",server=\"api-cloud\"} 1",
        "supervisor_probe_duration_seconds_bucket{le=\"0.01\",service=\"api\",server=\"api-cloud\"} 1",
        "supervisor_events_total{kind=\"probed\",effect=\"none\"} 2",
        "supervisor_events_total{kind=\"woke\",effect=\"change\"} 1",
        "supervisor_invariant_breaches_total 2",
        "# EOF",
    ];
    for line in expected {
        assert!(body.lines().any(|got| got == line), "{line} is missing in:\n{body}");
    }
    let documented = include_str!("../../docs/api.md");
    for line in body.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let family = line.split(' ').next().unwrap();
        assert!(documented.contains(family), "{family} is not in docs/api.md");
    }
}

#[tokio::test]
async fn reloads_switches_and_drift_are_counted_by_haproxy_and_service() {
    use crate::domain::event::{BackStep, Configured, MasterSeen, ProxySeen, ReloadSeen, WentBack};
    let page = Page::start(Ok(vec![])).await;
    let (proxy, nothing) = (name("edge"), Decision::default());
    let configured = |config, reload| Event::Configured(Configured { proxy, config, reload });
    let in_force = || ConfigSeen::InForce { revision: "r".to_owned() };
    let refused = || ConfigSeen::Refused { message: "line 3".to_owned() };
    page.metrics.record(&configured(in_force(), Some(ReloadSeen::Loaded { took: Span(150) })), &nothing);
    page.metrics.record(&configured(in_force(), None), &nothing);
    page.metrics.record(&configured(refused(), Some(ReloadSeen::Failed)), &nothing);
    let (service, site) = (name("api"), name("cloud"));
    let reasons = vec![
        Reason::ConfigRefused { proxy, message: "line 3".to_owned() },
        Reason::RouteInForce { service, site, proxy, took: Span(3) },
        Reason::Reasserted { service, site, found: Some(name("onprem")) },
        Reason::Reasserted { service, site, found: None },
    ];
    page.metrics.record(&configured(refused(), None), &Decision { reasons, ..Decision::default() });
    page.metrics.record(&configured(refused(), None), &nothing);
    // One that a person ordered counts as any other.
    let by = crate::domain::Operator { uid: 0, pid: None, name: None };
    let (revision, message) = ("r".to_owned(), "line 3".to_owned());
    let step = BackStep::Refused { revision, message, reload: Some(ReloadSeen::Failed) };
    page.metrics.record(&Event::WentBack(WentBack { proxy, by, because: None, step }), &nothing);
    let seen = |master| {
        Event::Proxy(ProxySeen {
            proxy,
            at: Boot(0),
            identity: ProxyIdentity { pid: 1, started: 1 },
            master,
            owner: None,
            ours: true,
            routes: BTreeMap::new(),
            checks: BTreeMap::new(),
            serving: BTreeMap::new(),
            out: None,
        })
    };
    page.metrics.record(&seen(Some(MasterSeen { old_workers: 2, failed_reloads: 1 })), &nothing);
    let (_, body) = page.get("/metrics").await;
    for line in [
        "supervisor_haproxy_reloads_total{proxy=\"edge\",outcome=\"loaded\"} 1",
        "supervisor_haproxy_reloads_total{proxy=\"edge\",outcome=\"failed\"} 2",
        "supervisor_haproxy_reloads_total{proxy=\"edge\",outcome=\"refused\"} 1",
        "supervisor_haproxy_reload_duration_seconds_count{proxy=\"edge\"} 1",
        "supervisor_haproxy_reload_duration_seconds_bucket{le=\"0.2\",proxy=\"edge\"} 1",
        "supervisor_haproxy_old_workers{proxy=\"edge\"} 2",
        "supervisor_haproxy_failed_reloads{proxy=\"edge\"} 1",
        "supervisor_haproxy_config{proxy=\"edge\",state=\"in_force\"} 0",
        "supervisor_switch_duration_seconds_count{proxy=\"edge\"} 1",
        "supervisor_drifts_total{service=\"api\",what=\"route\"} 1",
    ] {
        assert!(body.lines().any(|got| got == line), "{line} is missing in:\n{body}");
    }
    page.metrics.record(&seen(None), &nothing);
    let (_, body) = page.get("/metrics").await;
    assert!(!body.contains("haproxy_old_workers{"), "what nobody tells is not shown: {body}");
}

#[tokio::test]
async fn a_target_that_is_gone_takes_its_samples_with_it() {
    let page = Page::start(Ok(vec![])).await;
    let nothing = Decision::default();
    for name in ["api-cloud", "api-onprem"] {
        page.metrics.record(&probed(name, ProbeOutcome::Failed(ProbeFault::Silent)), &nothing);
    }
    let mut smaller = policy();
    for service in smaller.services.values_mut() {
        service.servers.remove(&name("api-onprem"));
    }
    let container = smaller.containers.keys().next().unwrap().clone();
    smaller.containers.remove(&container);
    let deed = crate::domain::action::Deed::Start;
    let healed = Reason::Healed { container, deed, failed: None };
    page.metrics.record(&Event::Woke, &Decision { reasons: vec![healed], ..Decision::default() });
    assert!(page.get("/metrics").await.1.contains("supervisor_heals_total{engine=\"docker\""));
    let mut state = failed_over();
    state.apply(&[Change::Policy(Box::new(smaller.clone()))]);
    page.metrics.record(&Event::PolicyChanged(Box::new(smaller)), &nothing);
    page.views.send(Arc::new(view_of(&state))).unwrap();
    let (_, body) = page.get("/metrics").await;
    assert!(!body.contains("api-onprem"), "{body}");
    assert!(body.contains("supervisor_probes_total{service=\"api\",server=\"api-cloud\""), "{body}");
}

#[test]
fn an_evacuation_is_a_step_of_the_plan() {
    let evacuation = Evacuation {
        id: ActionId(1),
        proxy: name("edge"),
        server: server("api-onprem"),
        site: name("onprem"),
        refuge: None,
        epoch: 1,
        generation: 1,
    };
    let decision = Decision { actions: vec![Action::Evacuate(evacuation)], ..Decision::default() };
    let steps = crate::present::plan(&decision);
    assert_eq!(steps, ["free the requests that api-onprem still holds in HAProxy edge"]);
}
