use super::*;
use crate::domain::action::{Action, ActionId, Deed, Evacuation};
use crate::domain::command::{Denial, Operator, Order, Pause, Scope, Verdict};
use crate::domain::delivery::{MailId, MailKind, WhyDirect};
use crate::domain::event::{ComposeService, ContainerStatus, MailEnd};
use crate::domain::failover::{Outlook, Override, Stay};
use crate::domain::id::{ContainerName, ServerId, ServiceId, SiteId};
use crate::domain::incident::{IncidentId, Trouble};
use crate::domain::maintenance::{Admin, Maintenance};
use crate::domain::policy::ContainerRef;
use crate::domain::reason::Then;
use crate::domain::repair::depends::{NetworkLoss, Unkept};
use crate::domain::repair::{Ender, Ending, HealWait, Phase, Stands};
use crate::domain::time::{Boot, Span, Wall};
use crate::domain::witness::{Cause, ContainerFault, ProbeFault, ProbeOutcome, Strain};
use crate::domain::{Decision, Reason};
use std::collections::BTreeSet;

const API: &str = "api";
const AT: Wall = Wall(1_787_300_102_123);

fn api() -> ServiceId {
    API.parse().unwrap()
}

fn onprem() -> SiteId {
    "onprem".parse().unwrap()
}

fn cloud() -> SiteId {
    "cloud".parse().unwrap()
}

fn api_onprem() -> ServerId {
    ServerId { service: api(), server: "api-onprem".parse().unwrap() }
}

fn the_container() -> ContainerRef {
    ContainerRef { engine: "docker".parse().unwrap(), name: ContainerName("api-onprem".to_owned()) }
}

fn name(text: &str) -> ContainerName {
    ContainerName(text.to_owned())
}

fn waits_for(stands: Stands) -> Reason {
    let why = HealWait::Dependency { on: name("db"), stands };
    Reason::HealWaits { container: the_container(), why, left: None }
}

fn unkept(why: Unkept) -> Reason {
    Reason::DependencyUnkept { container: the_container(), on: name("db"), why }
}

fn shop_api() -> ComposeService {
    ComposeService { project: "shop".to_owned(), service: "api".to_owned() }
}

fn pool_down() -> Trouble {
    Trouble::PoolDown { service: api(), site: onprem() }
}

fn ending(who: Ender, exit: Option<i32>) -> Ending {
    Ending { who, exit, oom: false, at: Boot(0), wall: AT }
}

fn alice() -> Operator {
    Operator { uid: 1000, pid: Some(7), name: Some("alice".to_owned()) }
}

fn killed() -> Cause {
    Cause::Container(ContainerFault::Died { exit: Some(137) })
}

fn silent() -> Cause {
    Cause::Probe(ProbeFault::Silent)
}

fn next(outlook: Outlook) -> Reason {
    Reason::ComesNext { service: api(), site: cloud(), outlook }
}

fn stays(stay: Stay, left: Option<u64>) -> Reason {
    Reason::Stays { service: api(), site: Some(cloud()), stay, left: left.map(Span) }
}

/// Every reason, with the sentence for it and its loudness.
fn golden_reasons() -> Vec<(Reason, Level, &'static str)> {
    let (service, server, by) = (api(), api_onprem(), alice());
    let proxy = "edge".parse().unwrap();
    let engine = "docker".parse().unwrap();
    let (better, until) = (onprem(), Boot(0));
    let preference = Override {
        site: cloud(),
        by: alice(),
        because: Some("db upgrade".to_owned()),
        at: AT,
        until: None,
        pin: false,
        reminded: Boot(0),
        forced: false,
    };
    vec![
        (
            Reason::ServerUp { server, site: onprem(), good: 2, after: Some(Span(42_000)) },
            Level::Info,
            "api-onprem (onprem) is up again, after 42 s: 2 good probes in a row",
        ),
        (
            Reason::ServerUp { server, site: onprem(), good: 1, after: None },
            Level::Info,
            "api-onprem (onprem) is up: 1 good probe",
        ),
        (
            Reason::ServerDown { server, site: onprem(), cause: silent(), bad: 2, took: Span(310) },
            Level::Warn,
            "api-onprem (onprem) is down: connected, but no answer in time, 2 times in a row within 310 ms",
        ),
        (
            Reason::ServerDown { server, site: onprem(), cause: killed(), bad: 1, took: Span(0) },
            Level::Warn,
            "api-onprem (onprem) is down: its container was killed (exit 137)",
        ),
        (
            Reason::ServerIsDown { server, site: onprem(), cause: silent(), lasts: Span(61_000) },
            Level::Info,
            "api-onprem (onprem) has been down for 1 min 1 s: connected, but no answer in time",
        ),
        (
            Reason::ServerDead { server, site: onprem(), cause: silent() },
            Level::Warn,
            "api-onprem (onprem) runs, but does not live: connected, but no answer in time; a restart would be justified",
        ),
        (Reason::ServerLives { server, site: onprem() }, Level::Info, "api-onprem (onprem) lives again"),
        (
            Reason::ServerFailing {
                server,
                site: onprem(),
                cause: Cause::Probe(ProbeFault::Status(500)),
                bad: 1,
                fall: 2,
            },
            Level::Debug,
            "api-onprem (onprem) fails its probes, 1 of 2 so far: its health check answers with status 500",
        ),
        (
            Reason::PathContradicted {
                server,
                site: onprem(),
                cause: Cause::Probe(ProbeFault::ConnectTimeout),
            },
            Level::Info,
            "api-onprem (onprem) counts as up: our own probe fails (no connection in time), but HAProxy reaches it, \
             so the fault is on our path",
        ),
        (
            Reason::CutOff { servers: 4 },
            Level::Warn,
            "supervisor itself seems cut off: no probe reaches any of the 4 servers, at any site; nothing is moved",
        ),
        (Reason::Reconnected, Level::Info, "supervisor reaches servers again"),
        (
            Reason::Failover { service, from: onprem(), to: cloud(), cause: killed() },
            Level::Warn,
            "api: traffic moves from onprem to cloud: onprem's container was killed (exit 137)",
        ),
        (
            Reason::Failover { service, from: onprem(), to: cloud(), cause: silent() },
            Level::Warn,
            "api: traffic moves from onprem to cloud: onprem is down (connected, but no answer in time)",
        ),
        (
            Reason::Failback { service, from: cloud(), to: onprem(), healthy: Span(30_000) },
            Level::Info,
            "api: traffic moves back from cloud to onprem: onprem has been healthy for 30 s",
        ),
        (
            Reason::SiteRemoved { service, from: onprem(), to: cloud() },
            Level::Warn,
            "api: traffic moves from onprem to cloud: the settings no longer name servers at onprem",
        ),
        (
            Reason::Switchover {
                service,
                from: onprem(),
                to: cloud(),
                by: by.clone(),
                because: Some("db upgrade".to_owned()),
                forced: false,
            },
            Level::Info,
            "api: traffic moves from onprem to cloud by order of alice: db upgrade",
        ),
        (
            Reason::Switchover {
                service,
                from: onprem(),
                to: cloud(),
                by: Operator { name: None, ..alice() },
                because: None,
                forced: true,
            },
            Level::Info,
            "api: traffic moves from onprem to cloud by order of user 1000, although cloud was not healthy",
        ),
        (
            Reason::PreferenceSet { service, site: cloud(), by: by.clone(), because: None },
            Level::Info,
            "api: traffic is on cloud already; an override of alice prefers it from now on",
        ),
        (
            Reason::PreferenceDropped { service, site: cloud(), by: by.clone(), because: None },
            Level::Info,
            "api: alice ended the override that preferred cloud",
        ),
        (
            Reason::Adopted { service, site: cloud() },
            Level::Info,
            "api: traffic is on cloud, as HAProxy had it; nothing was changed",
        ),
        (
            Reason::Placed { service, site: onprem() },
            Level::Info,
            "api: traffic goes to onprem: HAProxy had no route for it yet",
        ),
        (
            Reason::Reasserted { service, site: cloud(), found: Some(onprem()) },
            Level::Warn,
            "api: traffic was set to cloud again: HAProxy was sending it to onprem",
        ),
        (
            Reason::Reasserted { service, site: cloud(), found: None },
            Level::Warn,
            "api: traffic was set to cloud again: HAProxy had lost its route",
        ),
        (
            Reason::RouteInForce { service, site: cloud(), proxy, took: Span(4) },
            Level::Info,
            "api: edge sends traffic to cloud, 4 ms after the decision",
        ),
        (
            Reason::ContainerEnded {
                container: the_container(),
                ending: ending(Ender::Stop, Some(143)),
                then: Then::Hold,
            },
            Level::Info,
            "api-onprem was stopped by an operator: nothing is started; `docker start api-onprem` ends the hold",
        ),
        (
            Reason::ContainerEnded {
                container: the_container(),
                ending: ending(Ender::Kill, Some(137)),
                then: Then::Hold,
            },
            Level::Info,
            "api-onprem was killed by an operator (docker kill): nothing is started; `docker start api-onprem` ends the hold",
        ),
        (
            Reason::ContainerEnded {
                container: the_container(),
                ending: ending(Ender::Crash, Some(1)),
                then: Then::Start { pause: Span::ZERO },
            },
            Level::Warn,
            "api-onprem crashed (exit 1): it is started again at once",
        ),
        (
            Reason::ContainerEnded {
                container: the_container(),
                ending: Ending { oom: true, ..ending(Ender::Crash, Some(137)) },
                then: Then::Docker { wait: Span::seconds(5) },
            },
            Level::Warn,
            "api-onprem ran out of memory and was killed: Docker's restart policy goes first; supervisor starts it if it \
             is still down in 5 s",
        ),
        (
            Reason::ContainerEnded {
                container: the_container(),
                ending: ending(Ender::Unseen, Some(0)),
                then: Then::Nothing,
            },
            Level::Warn,
            "api-onprem ended while nobody watched (exit 0): that may have been an operator, so it stays as it is; \
             `docker start api-onprem` if it was not",
        ),
        (
            Reason::ContainerEnded {
                container: the_container(),
                ending: ending(Ender::Engine, Some(143)),
                then: Then::Docker { wait: Span::seconds(5) },
            },
            Level::Warn,
            "api-onprem went down with its Docker engine: its engine may start it; supervisor does in 5 s",
        ),
        (
            Reason::Heals {
                container: the_container(),
                deed: Deed::Start,
                attempt: 2,
                limit: 5,
                window: Span::seconds(600),
            },
            Level::Info,
            "api-onprem is started (start 2 of at most 5 within 10 min)",
        ),
        (
            Reason::Heals {
                container: the_container(),
                deed: Deed::Restart { stop_timeout: Span::seconds(10) },
                attempt: 1,
                limit: 5,
                window: Span::seconds(600),
            },
            Level::Info,
            "api-onprem runs but is dead, and is restarted (start 1 of at most 5 within 10 min)",
        ),
        (
            Reason::Healed { container: the_container(), deed: Deed::Start, failed: None },
            Level::Info,
            "api-onprem was started by supervisor",
        ),
        (
            Reason::Healed {
                container: the_container(),
                deed: Deed::Start,
                failed: Some("no such image\n".to_owned()),
            },
            Level::Warn,
            "api-onprem could not be started: no such image",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::SiteBudget { site: onprem() },
                left: Some(Span::seconds(40)),
            },
            Level::Warn,
            "api-onprem is not started yet: too many containers of onprem were; the next start is possible in 40 s",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::Together { dead: 2, of: 3 },
                left: Some(Span::seconds(10)),
            },
            Level::Warn,
            "api-onprem is not restarted: 2 of 3 servers of its service are dead together, so it is something they have \
             in common",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::Spent,
                left: Some(Span::seconds(300)),
            },
            Level::Warn,
            "api-onprem was restarted too often and is dead all the same: a person is needed; it is tried again in 5 min",
        ),
        (
            waits_for(Stands::Down),
            Level::Warn,
            "api-onprem waits for db, on which it depends and which does not run: it is healed when db runs",
        ),
        (
            waits_for(Stands::Held),
            Level::Warn,
            "api-onprem is not healed: it depends on db, which an operator stopped; `docker start db` lets both run",
        ),
        (
            waits_for(Stands::Unseen),
            Level::Warn,
            "api-onprem is not healed: it depends on db, which was not started yet; `docker start db` lets both run",
        ),
        (
            waits_for(Stands::Gone),
            Level::Warn,
            "api-onprem is not healed: it depends on db, which does not exist",
        ),
        (
            waits_for(Stands::Unwatched),
            Level::Warn,
            "api-onprem is not healed: it uses the network of db, which does not run and is not looked after; \
             `docker start db` lets both run",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::NetworkGone { of: name("gateway"), compose: Some(shop_api()) },
                left: None,
            },
            Level::Warn,
            "api-onprem cannot be healed: it uses the network of gateway, and that container was removed; in the \
             directory of its project, `docker compose -p shop up -d --force-recreate api` creates it anew",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::NetworkGone { of: name("gateway"), compose: None },
                left: None,
            },
            Level::Warn,
            "api-onprem cannot be healed: it uses the network of gateway, and that container was removed; \
             `docker rm -f api-onprem`, then create it anew as it was, on the network of the container that has taken that \
             one's place",
        ),
        (
            Reason::NetworkLost {
                container: the_container(),
                loss: NetworkLoss::Restarted { of: name("gateway"), at: 1 },
            },
            Level::Warn,
            "api-onprem has no network: it uses that of gateway, which was started anew after it; a restart gives it the new \
             one",
        ),
        (
            Reason::NetworkLost {
                container: the_container(),
                loss: NetworkLoss::Gone { of: name("gateway"), compose: Some(shop_api()) },
            },
            Level::Warn,
            "api-onprem has no network: it uses that of gateway, and that container was removed; in the directory of its \
             project, `docker compose -p shop up -d --force-recreate api` creates it anew",
        ),
        (
            Reason::HealLabelUnknown { container: the_container(), value: "ture".to_owned() },
            Level::Warn,
            "api-onprem has the label supervisor.heal=\"ture\", which is none of auto, always, notify and never: it is healed \
             as if it had none; correct the label",
        ),
        (
            unkept(Unkept::Itself),
            Level::Warn,
            "api-onprem names itself in its label supervisor.depends-on: that is not waited for",
        ),
        (
            unkept(Unkept::Unwatched),
            Level::Warn,
            "api-onprem names db in its label supervisor.depends-on, and supervisor looks after no such container: it is not \
             waited for; name it as [containers.db], or correct the label",
        ),
        (
            unkept(Unkept::Circle),
            Level::Warn,
            "api-onprem names db in its label supervisor.depends-on, and db depends on api-onprem: it is not waited for, \
             since neither would ever be started; correct one of the labels",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::LastServing,
                left: Some(Span::seconds(10)),
            },
            Level::Warn,
            "api-onprem is not restarted although it seems dead: it answers, and nothing else can take over from it",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::TrafficLeaves,
                left: Some(Span::seconds(2)),
            },
            Level::Warn,
            "api-onprem is restarted when its traffic has left it, in 2 s at the earliest",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::BeingEnded,
                left: Some(Span::seconds(14)),
            },
            Level::Warn,
            "api-onprem runs but is dead, and is not restarted: somebody is ending it; looked at again in 14 s",
        ),
        (
            Reason::GaveUp {
                container: the_container(),
                starts: 5,
                window: Span::seconds(600),
                next: Span::seconds(300),
            },
            Level::Warn,
            "api-onprem was started 5 times within 10 min and did not stay: a person is needed; it is tried again in 5 min",
        ),
        (
            Reason::GaveUp {
                container: the_container(),
                starts: 1,
                window: Span::seconds(600),
                next: Span::seconds(300),
            },
            Level::Warn,
            "api-onprem was started once within 10 min and did not stay: a person is needed; it is tried again in 5 min",
        ),
        (
            Reason::HoldLifted { container: the_container() },
            Level::Info,
            "api-onprem was started by somebody: it is looked after again",
        ),
        (
            Reason::ContainerStands {
                container: the_container(),
                phase: Phase::GivenUp { next: Boot(0) },
                last: Some(ending(Ender::Crash, Some(1))),
                waits: None,
                left: Some(Span::seconds(90)),
            },
            Level::Info,
            "api-onprem crashed (exit 1) again and again: a person is needed; it is tried again in 1 min 30 s",
        ),
        (
            Reason::ContainerStands {
                container: the_container(),
                phase: Phase::Due { at: Boot(0) },
                last: Some(ending(Ender::Crash, Some(1))),
                waits: None,
                left: Some(Span::seconds(8)),
            },
            Level::Info,
            "api-onprem crashed (exit 1): it is started in 8 s, after a pause that grows with each start in a row",
        ),
        (
            Reason::ContainerStands {
                container: the_container(),
                phase: Phase::Due { at: Boot(0) },
                last: Some(ending(Ender::Crash, Some(1))),
                waits: Some(HealWait::SiteBudget { site: onprem() }),
                left: Some(Span::seconds(40)),
            },
            Level::Info,
            "api-onprem crashed (exit 1), and is not started yet: too many containers of onprem were; the next start is \
             possible in 40 s",
        ),
        (
            Reason::ContainerStands {
                container: the_container(),
                phase: Phase::Ailing { since: Boot(0), at: Boot(0), spent: false },
                last: None,
                waits: Some(HealWait::Paused { scope: Scope::All }),
                left: None,
            },
            Level::Info,
            "api-onprem runs but is dead, and is not healed: everything is paused",
        ),
        (
            Reason::ContainerGone { container: the_container() },
            Level::Warn,
            "api-onprem does not exist in Docker: supervisor starts containers, but creates none",
        ),
        (
            Reason::HealUnknown {
                container: the_container(),
                deed: Deed::Start,
                words: "no answer within 10 s\n".to_owned(),
            },
            Level::Warn,
            "nobody knows yet whether Docker started api-onprem: no answer within 10 s; what became of it is looked at \
             next",
        ),
        (
            Reason::HealUnknown {
                container: the_container(),
                deed: Deed::Restart { stop_timeout: Span::seconds(10) },
                words: "no answer".to_owned(),
            },
            Level::Warn,
            "nobody knows yet whether Docker restarted api-onprem: no answer; what became of it is looked at next",
        ),
        (
            Reason::Heals {
                container: the_container(),
                deed: Deed::Start,
                attempt: 3,
                limit: 2,
                window: Span::seconds(600),
            },
            Level::Info,
            "api-onprem is started once more: its 2 starts within 10 min are used up, so this is a slow try",
        ),
        (
            Reason::Heals {
                container: the_container(),
                deed: Deed::Start,
                attempt: 2,
                limit: 1,
                window: Span::seconds(600),
            },
            Level::Info,
            "api-onprem is started once more: its 1 start within 10 min is used up, so this is a slow try",
        ),
        (
            Reason::ContainerEnded {
                container: the_container(),
                ending: ending(Ender::Crash, Some(1)),
                then: Then::Waits,
            },
            Level::Warn,
            "api-onprem crashed (exit 1): it is to be started again when nothing holds that back",
        ),
        (
            Reason::TestOrdered { by: alice(), because: Some("new relay".into()) },
            Level::Info,
            "a test of the alerts was ordered by alice: new relay",
        ),
        (
            Reason::IncidentOpened { incident: IncidentId(3), trouble: pool_down() },
            Level::Info,
            "incident opened: api has no healthy server at onprem",
        ),
        (
            Reason::IncidentEnded {
                incident: IncidentId(3),
                trouble: pool_down(),
                lasted: Span::seconds(90),
            },
            Level::Info,
            "incident ended after 1 min 30 s: api has no healthy server at onprem",
        ),
        (
            Reason::ToldByAlertmanager { incident: IncidentId(3), trouble: Trouble::ServiceDown { service } },
            Level::Info,
            "Alertmanager tells of it: api is down: no site serves it",
        ),
        (
            Reason::TellsByMail {
                mail: MailId(7),
                kind: MailKind::Firing,
                incidents: 1,
                why: WhyDirect::Unreachable {
                    peers: vec![("am1".parse().unwrap(), "connection refused".into())],
                },
            },
            Level::Warn,
            "supervisor mails an incident itself: no Alertmanager takes alerts: am1 (connection refused)",
        ),
        (
            Reason::TellsByMail {
                mail: MailId(8),
                kind: MailKind::Resolved,
                incidents: 3,
                why: WhyDirect::Owed,
            },
            Level::Warn,
            "supervisor mails the end of 3 incidents itself: the beginning was mailed directly, so the end is as well",
        ),
        (
            Reason::Mailed { mail: MailId(7), end: MailEnd::Accepted { recipients: 2 } },
            Level::Info,
            "mail 7 was taken for 2 recipients",
        ),
        (
            Reason::Mailed { mail: MailId(7), end: MailEnd::Deferred { words: "450 try later\r\n".into() } },
            Level::Warn,
            "mail 7 waits in the outbox and is tried again: 450 try later",
        ),
        (
            Reason::Mailed {
                mail: MailId(7),
                end: MailEnd::Dead { words: "550 no such user".into(), reached: false },
            },
            Level::Warn,
            "mail 7 is given up, see `supervisor outbox`: 550 no such user",
        ),
        (
            Reason::Mailed {
                mail: MailId(7),
                end: MailEnd::Dead { words: "550 no such user".into(), reached: true },
            },
            Level::Warn,
            "mail 7 does not reach all: others have it, the rest is given up, see `supervisor outbox`: 550 no such user",
        ),
        (
            Reason::Mailed { mail: MailId(7), end: MailEnd::NotNeeded },
            Level::Info,
            "mail 7 was not sent: Alertmanager has its incidents after all",
        ),
        (Reason::PeerFound { peer: "am1".parse().unwrap() }, Level::Info, "Alertmanager am1 takes alerts"),
        (
            Reason::PeerLost { peer: "am1".parse().unwrap(), words: "503 from it".into() },
            Level::Warn,
            "Alertmanager am1 does not take alerts: 503 from it",
        ),
        (
            Reason::PreferenceExpired { service, site: cloud() },
            Level::Info,
            "api: the override that preferred cloud ended: its time was over",
        ),
        (
            Reason::Paused {
                scope: Scope::Site(onprem()),
                by: alice(),
                because: Some("power works".to_owned()),
                lasts: Some(Span::seconds(1800)),
            },
            Level::Info,
            "the site onprem was paused for 30 min by alice: power works",
        ),
        (
            Reason::Resumed { scope: Scope::Service(api()), by: Some(alice()), because: None },
            Level::Info,
            "the service api is acted on again, by order of alice",
        ),
        (
            Reason::Resumed { scope: Scope::All, by: None, because: None },
            Level::Info,
            "everything is acted on again: the pause's time was over",
        ),
        (
            Reason::PauseHolds {
                scope: Scope::Service(api()),
                pause: Pause { by: alice(), because: None, at: AT, until: None },
                left: None,
            },
            Level::Info,
            "the service api is paused by alice since 2026-08-21T08:15:02.123Z: observed and alerted, not acted on; \
             no expiry, `supervisor resume api` ends it",
        ),
        (
            Reason::HealWaits {
                container: the_container(),
                why: HealWait::Paused { scope: Scope::All },
                left: None,
            },
            Level::Warn,
            "api-onprem is not healed: everything is paused",
        ),
        (
            stays(Stay::Pinned { cause: Some(killed()) }, None),
            Level::Warn,
            "api stays on cloud, though it does not serve: an override pins it there; `supervisor failback api` ends it; \
             cloud's container was killed (exit 137)",
        ),
        (
            stays(Stay::Pinned { cause: None }, None),
            Level::Warn,
            "api stays on cloud, though it does not serve: an override pins it there; `supervisor failback api` ends it; \
             every server of cloud is out of service by order",
        ),
        (
            stays(Stay::Paused { to: onprem() }, None),
            Level::Warn,
            "api stays on cloud, though it would move to onprem: a person has paused that; `supervisor resume` ends it",
        ),
        (
            stays(Stay::Flapping { better, until }, Some(300_000)),
            Level::Info,
            "api stays on cloud: onprem is healthy again, but goes up and down too often; failback in 5 min, if it stays up",
        ),
        (
            stays(Stay::BetterSiteDegraded { better, until }, Some(9_000)),
            Level::Info,
            "api stays on cloud: onprem is up, but answers slowly or not always; failback in 9 s, if that ends",
        ),
        (
            stays(Stay::OutOfHours { better, until }, Some(3_600_000)),
            Level::Info,
            "api stays on cloud: onprem is healthy, but traffic returns only in the hours that the settings name; \
             failback in 1 h, or at once with `supervisor failback api`",
        ),
        (
            stays(Stay::Thin { up: 1, of: 2, until: Some(until) }, Some(10_000)),
            Level::Warn,
            "api stays on cloud, with only 1 of the 2 servers up that it needs: it moves in 10 s to a site that has enough",
        ),
        (
            stays(Stay::Thin { up: 1, of: 2, until: None }, None),
            Level::Warn,
            "api stays on cloud, with only 1 of the 2 servers up that it needs: no other site has enough, or a person \
             wants it here",
        ),
        (
            stays(Stay::TakenOut, None),
            Level::Warn,
            "api stays on cloud, though every server there is out of service by order: no other site serves",
        ),
        (
            stays(Stay::Divided { cause: silent() }, None),
            Level::Warn,
            "api stays on cloud: one of the services that move together is down there, and no other site serves all of \
             them; cloud is down (connected, but no answer in time)",
        ),
        (
            stays(Stay::Scattered { most: onprem() }, None),
            Level::Warn,
            "api stays on cloud, apart from the services that it moves with: onprem, where most of them are, \
             is not healthy for all of them",
        ),
        (
            Reason::IncidentMerged {
                incident: IncidentId(4),
                trouble: pool_down(),
                into: Trouble::SiteDown { site: onprem() },
            },
            Level::Info,
            "incident is part of a larger one now: api has no healthy server at onprem; larger: nothing serves at onprem \
             any more: every service there is down",
        ),
        (
            Reason::InvariantBroken { breach: "I1: api was routed away".to_owned() },
            Level::Warn,
            "supervisor broke a rule of its own, which is a bug: I1: api was routed away",
        ),
        (
            Reason::ServerFlaps { server, site: onprem(), left: Span::seconds(480) },
            Level::Warn,
            "api-onprem (onprem) goes up and down too often: it is trusted again in 8 min, if it stays up",
        ),
        (
            Reason::ServerSteady { server, site: onprem() },
            Level::Info,
            "api-onprem (onprem) has stayed up for long enough: it is trusted again",
        ),
        (
            Reason::ServerDegraded {
                server,
                site: onprem(),
                strain: Strain::Slow { took: Span(800) },
                left: Span::seconds(12),
            },
            Level::Warn,
            "api-onprem (onprem) is up, but degraded: it answers slowly (800 ms); traffic is not moved for that; \
             it counts as sound again in 12 s, if it answers well",
        ),
        (
            Reason::ServerDegraded {
                server,
                site: onprem(),
                strain: Strain::Bad(ProbeFault::Status(500)),
                left: Span::seconds(12),
            },
            Level::Warn,
            "api-onprem (onprem) is up, but degraded: it fails again and again (its health check answers with status 500); \
             traffic is not moved for that; it counts as sound again in 12 s, if it answers well",
        ),
        (
            Reason::ServerSound { server, site: onprem() },
            Level::Info,
            "api-onprem (onprem) has answered well for long enough: it is no longer degraded",
        ),
        (
            Reason::Relief { service, from: onprem(), to: cloud(), up: 1, of: 2 },
            Level::Warn,
            "api: traffic moves from onprem to cloud: onprem has only 1 of the 2 servers up that the service needs",
        ),
        (
            Reason::LeftTakenOut { service, from: onprem(), to: cloud() },
            Level::Info,
            "api: traffic moves from onprem to cloud: every server at onprem is out of service by order",
        ),
        (
            Reason::MovedTogether { service, from: onprem(), to: cloud() },
            Level::Warn,
            "api: traffic moves from onprem to cloud: the services that it moves with are there",
        ),
        (
            Reason::MovedToFirst { service, from: cloud(), to: onprem(), cause: silent() },
            Level::Warn,
            "api: traffic moves from cloud to onprem, the preferred site, because every site is down: \
             cloud is down (connected, but no answer in time)",
        ),
        (
            Reason::TakenOut {
                server,
                admin: Admin::Drain,
                by: alice(),
                because: Some("kernel update".to_owned()),
                lasts: Some(Span::seconds(3600)),
            },
            Level::Info,
            "api-onprem was drained (no new clients) for 1 h by alice: kernel update",
        ),
        (
            Reason::PutBack { server, by: Some(alice()), because: Some("new kernel".to_owned()) },
            Level::Info,
            "api-onprem is in service again, by order of alice: new kernel",
        ),
        (
            Reason::PutBack { server, by: None, because: None },
            Level::Info,
            "api-onprem is in service again: the time it was taken out for is over",
        ),
        (
            Reason::MaintenanceHolds {
                server,
                maintenance: Maintenance {
                    admin: Admin::Maint,
                    by: alice(),
                    because: Some("kernel update".to_owned()),
                    at: AT,
                    until: None,
                },
                left: None,
            },
            Level::Info,
            "api-onprem was taken out of service by alice at 2026-08-21T08:15:02.123Z (kernel update); no expiry, \
             `supervisor ready api/api-onprem` puts it back",
        ),
        (
            Reason::AdminInForce { server, admin: Admin::Drain, proxy, took: Span(12) },
            Level::Info,
            "api-onprem is drained (no new clients) in HAProxy edge, after 12 ms",
        ),
        (
            Reason::AdminReasserted { server, admin: Admin::Maint, proxy, found: Admin::Ready },
            Level::Warn,
            "api-onprem was to be out of service in HAProxy edge, which had it in service: it is set again",
        ),
        (
            Reason::AdminLags { server, admin: Admin::Ready, proxy },
            Level::Warn,
            "api-onprem is to be in service, and is not yet in HAProxy edge, which is told again every second",
        ),
        (
            Reason::Evacuated { server, failed: None },
            Level::Info,
            "api-onprem: the requests it held were freed",
        ),
        (
            Reason::Evacuated { server, failed: Some("No such server.\n".to_owned()) },
            Level::Warn,
            "api-onprem: the requests it held could not be freed: No such server",
        ),
        (
            Reason::Stays { service, site: None, stay: Stay::Unmanaged, left: None },
            Level::Info,
            "api: supervisor does not know where its traffic goes: it has seen no HAProxy that it may steer; \
             nothing is moved until it has",
        ),
        (stays(Stay::Preferred, None), Level::Info, "api stays on cloud: it is the preferred site"),
        (stays(Stay::Unmanaged, None), Level::Info, "api stays on cloud: HAProxy has not been seen yet"),
        (
            stays(Stay::BetterSiteDown { better }, None),
            Level::Info,
            "api stays on cloud: onprem is preferred, but is not healthy",
        ),
        (
            stays(Stay::NotStableYet { better, until }, Some(9_000)),
            Level::Info,
            "api stays on cloud: onprem is healthy again, but not for long enough; failback in 9 s",
        ),
        (
            stays(Stay::HoldDown { better, until }, Some(42_000)),
            Level::Info,
            "api stays on cloud: onprem is healthy again, but the last failover is recent; failback in 42 s",
        ),
        (
            stays(Stay::FailbackLimit { better, until }, Some(300_000)),
            Level::Warn,
            "api stays on cloud: onprem is healthy again, but traffic went to and fro too often; failback in 5 min, \
             or at once with `supervisor failback api`",
        ),
        (
            stays(Stay::FailbackManual { better }, None),
            Level::Info,
            "api stays on cloud: onprem is healthy, but a person decides about failback: `supervisor failback api`",
        ),
        (
            stays(Stay::AllDown { cause: silent() }, None),
            Level::Warn,
            "api stays on cloud, though it does not serve: no other site serves either; \
             cloud is down (connected, but no answer in time)",
        ),
        (
            stays(Stay::NoneProven { cause: silent() }, None),
            Level::Warn,
            "api stays on cloud, though it does not serve: no other site has proved yet that it is healthy; \
             cloud is down (connected, but no answer in time)",
        ),
        (
            stays(Stay::Stateful { cause: Some(killed()) }, None),
            Level::Warn,
            "api stays on cloud, though it does not serve: the service is stateful, so a person decides: \
             `supervisor failover api --to SITE`; cloud's container was killed (exit 137)",
        ),
        (
            stays(Stay::Forced, None),
            Level::Info,
            "api stays on cloud, though it is not healthy: an override forced it there; \
             `supervisor failback api` ends it",
        ),
        (
            Reason::Unserved { service, site: cloud(), since: AT, age: Span(192_000) },
            Level::Warn,
            "api goes to cloud, for 3 min 12 s (since 2026-08-21T08:15:02.123Z), and nobody serves it there",
        ),
        (
            Reason::Serving { service, site: cloud(), since: AT, age: Span(192_000) },
            Level::Info,
            "api is served from cloud, for 3 min 12 s (since 2026-08-21T08:15:02.123Z)",
        ),
        (
            Reason::PreferenceHolds {
                service,
                preference: preference.clone(),
                left: Some(Span::seconds(7_199)),
            },
            Level::Info,
            "api: an override of alice prefers cloud since 2026-08-21T08:15:02.123Z (db upgrade); it ends by itself in \
             1 h 59 min, `supervisor failback api` ends it",
        ),
        (next(Outlook::Refuge { to: onprem() }), Level::Info, "if cloud fails, api goes to onprem at once"),
        (
            next(Outlook::NoRefuge),
            Level::Info,
            "if cloud fails, api has nowhere to go: no other site is healthy",
        ),
        (
            next(Outlook::ReturnsAfter {
                better,
                healthy: Span::seconds(60),
                hold_down: Some(Span::seconds(299)),
            }),
            Level::Info,
            "api returns when onprem has been healthy for 1 min, in 4 min 59 s at the earliest",
        ),
        (next(Outlook::FirstHealthy), Level::Info, "api goes to the first site that is healthy again"),
        (
            Reason::PreferenceHolds { service, preference, left: None },
            Level::Info,
            "api: an override of alice prefers cloud since 2026-08-21T08:15:02.123Z (db upgrade); no expiry, \
             `supervisor failback api` ends it",
        ),
        (
            Reason::ServedElsewhere { service, proxy, site: onprem(), serving: cloud() },
            Level::Warn,
            "api: the route goes to onprem, but cloud gives the answers: the safety net of HAProxy edge is at work",
        ),
        (
            Reason::RouteLags { service, site: cloud(), proxy },
            Level::Warn,
            "api: edge has not taken the route to cloud, and goes on as before; it is told again every second",
        ),
        (
            Reason::RouteContested {
                service,
                site: cloud(),
                proxy,
                found: Some(onprem()),
                rests: Span::seconds(600),
            },
            Level::Warn,
            "api: somebody or something else takes its route in HAProxy edge from cloud again and again: it is left so for 10 min; \
             end what does that, or agree with it: `supervisor failover api --to onprem`",
        ),
        (
            Reason::RouteWaits { service, site: cloud(), proxy },
            Level::Warn,
            "api: HAProxy edge does not answer and goes on as before; it is sent to cloud when it answers again",
        ),
        (
            Reason::PreferenceVoid { service, site: cloud() },
            Level::Info,
            "api: the override that preferred cloud ended: the settings no longer name servers there",
        ),
        (
            Reason::Denied { by, denial: Denial::NobodyServes },
            Level::Info,
            "an order of alice was not carried out: no site of the service is healthy, \
             so there is nowhere to fail back to",
        ),
        (Reason::ProxyFound { proxy }, Level::Info, "HAProxy edge answers"),
        (
            Reason::ProxyLost { proxy },
            Level::Warn,
            "HAProxy edge does not answer on its sockets: traffic stays as it was set last",
        ),
        (
            Reason::ProxyReplaced { proxy, pid: 4711 },
            Level::Info,
            "HAProxy edge was restarted or reloaded: process 4711 answers now",
        ),
        (
            Reason::ProxyForeign { proxy, owner: "f00d".to_owned() },
            Level::Warn,
            "HAProxy edge belongs to another supervisor (f00d): nothing is touched; \
             `supervisor run --take-over` claims it",
        ),
        (
            Reason::ConfigInForce { proxy, revision: "a1b2".to_owned() },
            Level::Info,
            "HAProxy edge runs the configuration of the settings (rev a1b2)",
        ),
        (
            Reason::ConfigHeld {
                proxy,
                revision: "a1b2".to_owned(),
                instead_of: "c3d4".to_owned(),
                by: Operator { uid: 1000, pid: None, name: Some("ada".to_owned()) },
                because: Some("it worked".to_owned()),
            },
            Level::Info,
            "HAProxy edge is held at rev a1b2 by ada (it worked), in place of c3d4 of the settings: until they or the \
             template change, or `supervisor haproxy resume`",
        ),
        (
            Reason::RollbackOrdered {
                proxy,
                revision: "a1b2".to_owned(),
                left: Some("c3d4".to_owned()),
                by: Operator { uid: 1000, pid: None, name: Some("ada".to_owned()) },
                because: Some("it worked".to_owned()),
            },
            Level::Info,
            "HAProxy edge is ordered back to rev a1b2, in place of c3d4 by ada (it worked)",
        ),
        (
            Reason::RollbackRefused {
                proxy,
                revision: "a1b2".to_owned(),
                by: Operator { uid: 1000, pid: None, name: Some("ada".to_owned()) },
                because: Some("it worked".to_owned()),
                message: "[ALERT] line 3\n  unknown keyword".to_owned(),
            },
            Level::Warn,
            "HAProxy edge goes on with what it ran: rev a1b2, which ada went back to (it worked), was refused: [ALERT] line 3; \
             unknown keyword",
        ),
        (
            Reason::ConfigResumed {
                proxy,
                revision: "c3d4".to_owned(),
                held: Some("a1b2".to_owned()),
                by: Operator { uid: 1000, pid: None, name: Some("ada".to_owned()) },
                because: None,
            },
            Level::Info,
            "HAProxy edge is ordered to the configuration of the settings (rev c3d4), in place of a1b2, which was held, by ada",
        ),
        (
            Reason::ConfigResumed {
                proxy,
                revision: "c3d4".to_owned(),
                held: None,
                by: Operator { uid: 1000, pid: None, name: Some("ada".to_owned()) },
                because: None,
            },
            Level::Info,
            "HAProxy edge is ordered to the configuration of the settings (rev c3d4), which is tried again, by ada",
        ),
        (
            Reason::ConfigRefused { proxy, message: "[ALERT] line 3\n  unknown keyword".to_owned() },
            Level::Warn,
            "HAProxy edge goes on with its old configuration, the new one was refused: [ALERT] line 3; unknown keyword",
        ),
        (
            Reason::ConfigContested { proxy, message: "it is left so for 10 min".to_owned() },
            Level::Warn,
            "HAProxy edge: somebody or something else loads another configuration: it is left so for 10 min",
        ),
        (
            Reason::ConfigUnproven { proxy, message: "no new worker".to_owned() },
            Level::Warn,
            "HAProxy edge: nobody could prove which configuration it runs now: no new worker",
        ),
        (Reason::EngineFound { engine }, Level::Info, "Docker engine docker answers"),
        (
            Reason::EngineLost { engine },
            Level::Warn,
            "Docker engine docker does not answer: its containers are judged by probes alone",
        ),
        (
            Reason::PolicyChanged { added: vec![api()], removed: vec!["shop".parse().unwrap()] },
            Level::Info,
            "new settings are in force; new services: api; removed services: shop",
        ),
        (Reason::PolicyChanged { added: vec![], removed: vec![] }, Level::Info, "new settings are in force"),
        (
            Reason::Store { durable: false },
            Level::Warn,
            "what is decided no longer reaches the disk in time: traffic is still moved, orders are not durable",
        ),
        (Reason::Store { durable: true }, Level::Info, "what is decided reaches the disk in time again"),
        (
            Reason::Late { server, by: Span(2_400) },
            Level::Debug,
            "api-onprem: a probe's result came 2.4 s late and was not counted: supervisor was held up",
        ),
        (
            Reason::ProberSilent { server, lasts: Span(12_000) },
            Level::Warn,
            "api-onprem: its prober gave no result for 12 s and was started anew: nothing is known of the server until it answers",
        ),
    ]
}

#[test]
fn every_reason_reads_as_written_here() {
    for (given, level, words) in golden_reasons() {
        assert_eq!(reason(&given), words);
        assert_eq!(log_level(&given), level, "{words}");
    }
}

#[test]
fn the_table_has_every_reason_there_is() {
    // The codes in the source of `Reason::code`: a new variant cannot be forgotten here.
    let source = include_str!("../domain/reason.rs");
    let codes: BTreeSet<&str> =
        source.lines().filter_map(|line| line.split_once("=> \"")?.1.strip_suffix("\",")).collect();
    assert!(codes.len() > 30, "the source of the codes was not understood: {codes:?}");
    let golden: BTreeSet<&str> = golden_reasons().iter().map(|(reason, ..)| reason.code()).collect();
    assert_eq!(golden, codes);
}

#[test]
fn words_are_plain_ascii_on_one_line_and_never_name_our_types() {
    let words = golden_reasons().into_iter().map(|(given, ..)| reason(&given));
    for words in words.chain(golden_denials().into_iter().map(|(given, _)| denial(&given))) {
        assert!(words.is_ascii() && !words.contains('\n'), "{words}");
        assert!(!words.contains("::") && !words.contains("Span") && !words.ends_with('.'), "{words}");
    }
}

/// Every denial, with the sentence for it.
fn golden_denials() -> Vec<(Denial, &'static str)> {
    let at = AT;
    vec![
        (
            Denial::UnknownService {
                service: "shopp".parse().unwrap(),
                known: vec![api(), "shop".parse().unwrap()],
            },
            "there is no service shopp; there is api, shop",
        ),
        (
            Denial::UnknownService { service: api(), known: vec![] },
            "there is no service api; the settings name none",
        ),
        (
            Denial::UnknownSite { site: "mars".parse().unwrap(), known: vec![onprem(), cloud()] },
            "the service has no servers at mars; it has some at onprem, cloud",
        ),
        (
            Denial::ProxyUnseen,
            "HAProxy has not been seen yet, so nobody knows where traffic is; \
             try again when `supervisor status` shows it",
        ),
        (
            Denial::NotOwner,
            "HAProxy belongs to another supervisor; give the order there, \
             or claim it with `supervisor run --take-over`",
        ),
        (
            Denial::TargetDown { site: cloud(), cause: Cause::Probe(ProbeFault::Refused) },
            "cloud is down: the connection is refused, so nothing listens there; \
             --force moves traffic there all the same",
        ),
        (
            Denial::TargetUnknown { site: cloud() },
            "cloud has not proved yet that it is healthy; --force moves traffic there all the same",
        ),
        (
            Denial::TargetThin { site: cloud(), up: 1, of: 2 },
            "cloud has only 1 of the 2 servers up that the service needs; --force moves traffic there all the same",
        ),
        (
            Denial::TargetOut { site: cloud() },
            "every server at cloud is out of service by order; `supervisor ready SERVER` puts one back",
        ),
        (
            Denial::UnknownServer {
                server: ServerId { service: api(), server: "api-mars".parse().unwrap() },
                known: vec!["api-cloud".parse().unwrap(), "api-onprem".parse().unwrap()],
            },
            "api has no server api-mars; it has api-cloud, api-onprem",
        ),
        (
            Denial::External { proxy: "edge".parse().unwrap() },
            "HAProxy edge runs a configuration that is not supervisor's (`config = \"external\"`), so its servers are not \
             touched; there: `set server BACKEND/SERVER state drain|maint|ready`",
        ),
        (
            Denial::LastServing { server: api_onprem() },
            "api-onprem is the last server of api that serves: nobody could take over; --force takes it out all the same",
        ),
        (
            Denial::ChangedSince { site: cloud(), at, by: Some(alice()) },
            "alice moved the traffic to cloud at 2026-08-21T08:15:02.123Z, after you looked; \
             look again and repeat the order if it still stands",
        ),
        (
            Denial::ChangedSince { site: cloud(), at, by: None },
            "supervisor moved the traffic to cloud at 2026-08-21T08:15:02.123Z, after you looked; \
             look again and repeat the order if it still stands",
        ),
        (
            Denial::InProgress { to: cloud(), since: Span(7), by: Some(alice()) },
            "an order of alice, given 7 ms ago, is still moving the traffic to cloud; \
             try again when that is done",
        ),
        (Denial::NobodyServes, "no site of the service is healthy, so there is nowhere to fail back to"),
        (
            Denial::Paused { scope: Scope::Site(onprem()), by: alice() },
            "the site onprem is paused by alice; `supervisor resume --site onprem` ends that, and --force moves traffic \
             all the same",
        ),
        (
            Denial::NoSuchSite { site: "mars".parse().unwrap(), known: vec![cloud(), onprem()] },
            "no service has servers at mars; there is cloud, onprem",
        ),
        (
            Denial::NobodyToTell,
            "there is nobody to tell: the settings have neither [alerts.alertmanagers] nor [mail]",
        ),
    ]
}

#[test]
fn every_denial_reads_as_written_here() {
    let mut seen = BTreeSet::new();
    for (given, words) in golden_denials() {
        assert_eq!(denial(&given), words);
        // Written out, so that a new denial does not compile until it has a number, and then has no golden words.
        seen.insert(match given {
            Denial::UnknownService { .. } => 0,
            Denial::UnknownSite { .. } => 1,
            Denial::ProxyUnseen => 2,
            Denial::NotOwner => 3,
            Denial::TargetDown { .. } => 4,
            Denial::TargetUnknown { .. } => 5,
            Denial::ChangedSince { .. } => 6,
            Denial::InProgress { .. } => 7,
            Denial::NobodyServes => 8,
            Denial::Paused { .. } => 9,
            Denial::NoSuchSite { .. } => 10,
            Denial::NobodyToTell => 11,
            Denial::TargetThin { .. } => 12,
            Denial::TargetOut { .. } => 13,
            Denial::UnknownServer { .. } => 14,
            Denial::LastServing { .. } => 15,
            Denial::External { .. } => 16,
        });
    }
    assert_eq!(seen.len(), 17);
}

#[test]
fn every_probe_fault_and_exit_code_has_its_own_words() {
    use ProbeFault::*;
    let faults =
        [Refused, Status(503), Body, Broken, Silent, Tls, ConnectTimeout, Unreachable, Dns, OwnResources];
    let words: BTreeSet<String> = faults.iter().map(|fault| cause(Cause::Probe(*fault))).collect();
    assert_eq!(words.len(), faults.len());

    let exits = [None, Some(0), Some(1), Some(130), Some(134), Some(137), Some(139), Some(143)];
    let said = exits.map(|exit| cause(Cause::Container(ContainerFault::Died { exit })));
    assert_eq!(
        said,
        [
            "its container died",
            "its container ended without an error (exit 0)",
            "its container died (exit 1)",
            "its container was ended by signal 2 (exit 130)",
            "its container aborted (exit 134)",
            "its container was killed (exit 137)",
            "its container crashed with a segmentation fault (exit 139)",
            "its container was told to stop (exit 143)",
        ]
    );
}

#[test]
fn a_server_carries_its_service_only_where_its_name_does_not_say_it() {
    assert_eq!(server(api_onprem()), "api-onprem");
    assert_eq!(server(ServerId { service: api(), server: "s1".parse().unwrap() }), "api/s1");
}

#[test]
fn the_last_probe_reads_as_evidence() {
    assert_eq!(evidence(ProbeOutcome::Healthy { status: 200, took: Span(3) }), "200 in 3 ms");
    assert_eq!(evidence(ProbeOutcome::Connected { took: Span(1) }), "connected in 1 ms");
    assert_eq!(evidence(ProbeOutcome::Failed(ProbeFault::Silent)), "connected, but no answer in time");
    assert_eq!(container(ContainerStatus::Exited { exit: Some(137), oom: false }), "exited (137)");
}

#[test]
fn foreign_text_stays_one_bounded_line() {
    let nasty = format!("a\nb\u{1b}[31m{}", "x".repeat(1000));
    let words = reason(&Reason::Evacuated { server: api_onprem(), failed: Some(nasty) });
    assert!(!words.chars().any(char::is_control), "{words:?}");
    assert!(words.len() < 400, "{} bytes", words.len());
}

#[test]
fn a_plan_tells_the_steps_of_an_order_and_nothing_else() {
    let decision = Decision {
        reasons: vec![
            Reason::Switchover {
                service: api(),
                from: onprem(),
                to: cloud(),
                by: alice(),
                because: None,
                forced: false,
            },
            Reason::ServerFailing { server: api_onprem(), site: onprem(), cause: silent(), bad: 1, fall: 2 },
        ],
        actions: vec![
            Action::Route { service: api(), site: cloud(), generation: 2 },
            Action::Evacuate(Evacuation {
                id: ActionId(1),
                proxy: "edge".parse().unwrap(),
                server: api_onprem(),
                site: onprem(),
                refuge: Some(cloud()),
                epoch: 1,
                generation: 2,
            }),
        ],
        changes: vec![],
    };
    assert_eq!(
        plan(&decision),
        [
            "move api from onprem to cloud",
            "free the requests that api-onprem still holds in HAProxy edge, and send them to cloud",
        ]
    );
}

#[test]
fn verdicts_say_what_was_ordered_and_whether_it_is_kept() {
    let to_cloud =
        Order::Failover { service: api(), to: cloud(), force: false, seen: None, lasts: None, pin: false };
    let back = Order::Failback { service: api(), seen: None, force: false };
    let said = [
        verdict(&to_cloud, &Verdict::Accepted { durable: true }),
        verdict(&to_cloud, &Verdict::AlreadySo),
        verdict(&back, &Verdict::Accepted { durable: false }),
        verdict(&back, &Verdict::AlreadySo),
        verdict(&back, &Verdict::Denied(Denial::NobodyServes)),
    ];
    assert_eq!(
        said,
        [
            "api goes to cloud, and an override prefers it from now on",
            "api is on cloud already, and it is preferred; nothing to do",
            "api goes back to its best healthy site (not durable: the disk is behind, \
             so a crash now would forget the order)",
            "api has no override to end, and no better site to go back to; nothing to do",
            "no site of the service is healthy, so there is nowhere to fail back to",
        ]
    );
}
