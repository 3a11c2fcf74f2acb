//! The one rendering of decisions into words: CLI, page, log and mail all say what is said here.
//!
//! The core gives reasons as codes with data ([`Reason`]); this room turns them into sentences a colleague would write.
//! Plain ASCII, the words of ARCHITECTURE.md ("Words"), one line each, no full stop at the end. It decides nothing, reads
//! no clock, and never shows the name of one of our types.
//!
//! - [`reason`], [`log_level`]: what changed or stands.
//! - [`cause`], [`site_is_down`]: why a server, or a site, does not serve.
//! - [`denial`], [`verdict`], [`plan`]: what a person is told about an order.
//! - [`evidence`], [`container`], [`operator`], [`time`]: the small pieces.
//! - [`wrapped`]: sentences in lines.

mod heal;
mod incident;
mod order;
mod page;
mod pieces;

pub use heal::how as ending;
pub use incident::{trouble, why_direct};
pub use order::{denial, plan, verdict};
pub use page::{WIDTH, wrapped};
pub use pieces::{cause, container, evidence, operator, server, site_is_down, time};

use crate::domain::Reason;
use crate::domain::event::MailEnd;
use crate::domain::failover::{Outlook, Override, Stay};
use crate::domain::id::{ServiceId, SiteId};
use crate::domain::repair::Ender;
use crate::domain::time::Span;
use crate::domain::witness::Cause;
use serde::{Deserialize, Serialize};

/// How loudly a transition is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Of interest to somebody who looks for something.
    Debug,
    /// A transition, as the journal keeps it.
    Info,
    /// Worth waking someone.
    Warn,
}

/// One reason, as one sentence.
pub fn reason(reason: &Reason) -> String {
    match reason {
        Reason::ServerUp { server: id, site, good, after } => {
            let again = after.map(|span| format!(" again, after {span}")).unwrap_or_default();
            format!("{} ({site}) is up{again}: {}", server(*id), in_a_row(*good, "good probe"))
        }
        Reason::ServerDown { server: id, site, cause: why, bad, took } => {
            let run = if *bad > 1 { format!(", {bad} times in a row within {took}") } else { String::new() };
            format!("{} ({site}) is down: {}{run}", server(*id), cause(*why))
        }
        Reason::ServerIsDown { server: id, site, cause: why, lasts } => {
            format!("{} ({site}) has been down for {lasts}: {}", server(*id), cause(*why))
        }
        Reason::ServerDead { server: id, site, cause: why } => {
            format!("{} ({site}) runs, but does not live: {}; a restart would be justified", server(*id), cause(*why))
        }
        Reason::ServerLives { server: id, site } => format!("{} ({site}) lives again", server(*id)),
        Reason::ServerFailing { server: id, site, cause: why, bad, fall } => {
            format!("{} ({site}) fails its probes, {bad} of {fall} so far: {}", server(*id), cause(*why))
        }
        Reason::ServerFlaps { server: id, site, left } => format!(
            "{} ({site}) goes up and down too often: it is trusted again in {left}, if it stays up",
            server(*id)
        ),
        Reason::ServerSteady { server: id, site } => {
            format!("{} ({site}) has stayed up for long enough: it is trusted again", server(*id))
        }
        Reason::ServerDegraded { server: id, site, strain, left } => format!(
            "{} ({site}) is up, but degraded: {}; traffic is not moved for that; it counts as sound again in {left}, if it answers well",
            server(*id),
            pieces::strain(*strain)
        ),
        Reason::ServerSound { server: id, site } => {
            format!("{} ({site}) has answered well for long enough: it is no longer degraded", server(*id))
        }
        Reason::PathContradicted { server: id, site, cause: why } => format!(
            "{} ({site}) counts as up: our own probe fails ({}), but HAProxy reaches it, so the fault is on our path",
            server(*id),
            cause(*why)
        ),
        Reason::CutOff { servers } => format!(
            "supervisor itself seems cut off: no probe reaches any of the {servers} servers, at any site; nothing is moved"
        ),
        Reason::Reconnected => "supervisor reaches servers again".to_owned(),
        Reason::Failover { service, from, to, cause } => {
            format!("{service}: traffic moves from {from} to {to}: {}", site_is_down(*from, *cause))
        }
        Reason::Failback { service, from, to, healthy } => {
            format!("{service}: traffic moves back from {from} to {to}: {to} has been healthy for {healthy}")
        }
        Reason::SiteRemoved { service, from, to } => {
            format!("{service}: traffic moves from {from} to {to}: the settings no longer name servers at {from}")
        }
        Reason::Relief { service, from, to, up, of } => format!(
            "{service}: traffic moves from {from} to {to}: {from} has only {up} of the {of} servers up that the service needs"
        ),
        Reason::LeftTakenOut { service, from, to } => {
            format!("{service}: traffic moves from {from} to {to}: every server at {from} is out of service by order")
        }
        Reason::MovedTogether { service, from, to } => {
            format!("{service}: traffic moves from {from} to {to}: the services that it moves with are there")
        }
        Reason::MovedToFirst { service, from, to, cause } => format!(
            "{service}: traffic moves from {from} to {to}, the preferred site, because every site is down: {}",
            site_is_down(*from, *cause)
        ),
        Reason::Switchover { service, from, to, by, because, forced } => {
            let force = if *forced { format!(", although {to} was not healthy") } else { String::new() };
            let words = why(because);
            format!("{service}: traffic moves from {from} to {to} by order of {}{force}{words}", operator(by))
        }
        Reason::PreferenceSet { service, site, by, because } => format!(
            "{service}: traffic is on {site} already; an override of {} prefers it from now on{}",
            operator(by),
            why(because)
        ),
        Reason::PreferenceVoid { service, site } => {
            format!("{service}: the override that preferred {site} ended: the settings no longer name servers there")
        }
        Reason::PreferenceDropped { service, site, by, because } => {
            format!("{service}: {} ended the override that preferred {site}{}", operator(by), why(because))
        }
        Reason::PreferenceExpired { service, site } => {
            format!("{service}: the override that preferred {site} ended: its time was over")
        }
        Reason::Paused { scope, by, because, lasts } => {
            let until = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            let words = why(because);
            format!("{} was paused{until} by {}{words}", order::scope(*scope), operator(by))
        }
        Reason::Resumed { scope, by: Some(by), because } => {
            format!("{} is acted on again, by order of {}{}", order::scope(*scope), operator(by), why(because))
        }
        Reason::Resumed { scope, by: None, .. } => {
            format!("{} is acted on again: the pause's time was over", order::scope(*scope))
        }
        Reason::TestOrdered { by, because } => {
            format!("a test of the alerts was ordered by {}{}", operator(by), why(because))
        }
        Reason::PauseHolds { scope, pause, left } => {
            let words =
                pause.because.as_deref().map(|text| format!(" ({})", pieces::one_line(text))).unwrap_or_default();
            let end = match left {
                Some(left) => format!("it ends in {left}"),
                None => format!("no expiry, `supervisor resume {}` ends it", order::argument(*scope)),
            };
            format!(
                "{} is paused by {} since {}{words}: observed and alerted, not acted on; {end}",
                order::scope(*scope),
                operator(&pause.by),
                time(pause.at)
            )
        }
        Reason::TakenOut { server: id, admin, by, because, lasts } => {
            let until = lasts.map(|lasts| format!(" for {lasts}")).unwrap_or_default();
            let words = why(because);
            format!("{} was {}{until} by {}{words}", server(*id), order::taken_out(*admin), operator(by))
        }
        Reason::PutBack { server: id, by: Some(by), because } => {
            format!("{} is in service again, by order of {}{}", server(*id), operator(by), why(because))
        }
        Reason::PutBack { server: id, by: None, .. } => {
            format!("{} is in service again: the time it was taken out for is over", server(*id))
        }
        Reason::MaintenanceHolds { server: id, maintenance, left } => {
            let words = maintenance.because.as_deref();
            let words = words.map(|text| format!(" ({})", pieces::one_line(text))).unwrap_or_default();
            let end = match left {
                Some(left) => format!("it comes back in {left}"),
                None => "no expiry".to_owned(),
            };
            format!(
                "{} was {} by {} at {}{words}; {end}, `supervisor ready {id}` puts it back",
                server(*id),
                order::taken_out(maintenance.admin),
                operator(&maintenance.by),
                time(maintenance.at)
            )
        }
        Reason::AdminInForce { server: id, admin, proxy, took } => {
            format!("{} is {} in HAProxy {proxy}, after {took}", server(*id), order::standing(*admin))
        }
        Reason::AdminReasserted { server: id, admin, proxy, found } => format!(
            "{} was to be {} in HAProxy {proxy}, which had it {}: it is set again",
            server(*id),
            order::standing(*admin),
            order::standing(*found)
        ),
        Reason::AdminLags { server: id, admin, proxy } => format!(
            "{} is to be {}, and is not yet in HAProxy {proxy}, which is told again every second",
            server(*id),
            order::standing(*admin)
        ),
        Reason::Adopted { service, site } => {
            format!("{service}: traffic is on {site}, as HAProxy had it; nothing was changed")
        }
        Reason::Placed { service, site } => {
            format!("{service}: traffic goes to {site}: HAProxy had no route for it yet")
        }
        Reason::Reasserted { service, site, found } => match found {
            Some(found) => {
                format!("{service}: traffic was set to {site} again: HAProxy was sending it to {found}")
            }
            None => format!("{service}: traffic was set to {site} again: HAProxy had lost its route"),
        },
        Reason::RouteInForce { service, site, proxy, took } => {
            format!("{service}: {proxy} sends traffic to {site}, {took} after the decision")
        }
        Reason::RouteLags { service, site, proxy } => {
            format!("{service}: {proxy} has not taken the route to {site}, and goes on as before; it is told again every second")
        }
        Reason::RouteContested { service, site, proxy, found, rests } => {
            let agree = match found {
                Some(found) => format!(", or agree with it: `supervisor failover {service} --to {found}`"),
                None => String::new(),
            };
            format!(
                "{service}: somebody or something else takes its route in HAProxy {proxy} from {site} again and again: it is left so \
                 for {rests}; end what does that{agree}"
            )
        }
        Reason::RouteWaits { service, site, proxy } => format!(
            "{service}: HAProxy {proxy} does not answer and goes on as before; it is sent to {site} when it answers again"
        ),
        Reason::ContainerEnded { container, ending, then } => heal::ended(container, ending, *then),
        Reason::Heals { container, deed, attempt, limit, window } => {
            heal::heals(container, *deed, *attempt, *limit, *window)
        }
        Reason::Healed { container, deed, failed } => heal::healed(container, *deed, failed.as_deref()),
        Reason::ContainerGone { container } => {
            format!("{} does not exist in Docker: supervisor starts containers, but creates none", container.name)
        }
        Reason::HealUnknown { container, deed, words } => heal::unknown(container, *deed, words),
        Reason::HealWaits { container, why, left } => heal::waits(container, why, *left),
        Reason::DependencyUnkept { container, on, why } => heal::unkept(container, on, *why),
        Reason::HealLabelUnknown { container, value } => heal::label_unknown(container, value),
        Reason::NetworkLost { container, loss } => heal::network_lost(container, loss),
        Reason::GaveUp { container, starts, window, next } => format!(
            "{} was started {} within {window} and did not stay: a person is needed; it is tried again in {next}",
            container.name,
            times(*starts)
        ),
        Reason::HoldLifted { container } => {
            format!("{} was started by somebody: it is looked after again", container.name)
        }
        Reason::ContainerStands { container, phase, last, waits, left } => {
            heal::stands(container, phase, last.as_ref(), waits.as_ref(), *left)
        }
        Reason::IncidentOpened { incident: _, trouble: what } => format!("incident opened: {}", trouble(what)),
        Reason::IncidentEnded { incident: _, trouble: what, lasted } => {
            format!("incident ended after {lasted}: {}", trouble(what))
        }
        Reason::IncidentMerged { incident: _, trouble: what, into } => {
            format!("incident is part of a larger one now: {}; larger: {}", trouble(what), trouble(into))
        }
        Reason::InvariantBroken { breach } => {
            format!("supervisor broke a rule of its own, which is a bug: {}", pieces::one_line(breach))
        }
        Reason::ToldByAlertmanager { incident: _, trouble: what } => {
            format!("Alertmanager tells of it: {}", trouble(what))
        }
        Reason::TellsByMail { mail: _, kind, incidents, why } => incident::tells_by_mail(*kind, *incidents, why),
        Reason::Mailed { mail, end } => incident::mailed(*mail, end),
        Reason::PeerFound { peer } => format!("Alertmanager {peer} takes alerts"),
        Reason::PeerLost { peer, words } => {
            format!("Alertmanager {peer} does not take alerts: {}", pieces::one_line(words))
        }
        Reason::Evacuated { server: id, failed: None } => {
            format!("{}: the requests it held were freed", server(*id))
        }
        Reason::Evacuated { server: id, failed: Some(words) } => {
            format!("{}: the requests it held could not be freed: {}", server(*id), pieces::one_line(words))
        }
        Reason::Stays { service, site, stay: why, left } => stay(*service, *site, *why, *left),
        Reason::ComesNext { service, site, outlook } => comes_next(*service, *site, *outlook),
        Reason::Serving { service, site, since, age } => {
            format!("{service} is served from {site}, for {age} (since {})", time(*since))
        }
        Reason::Unserved { service, site, since, age } => {
            format!("{service} goes to {site}, for {age} (since {}), and nobody serves it there", time(*since))
        }
        Reason::PreferenceHolds { service, preference, left } => preference_holds(*service, preference, *left),
        Reason::ServedElsewhere { service, proxy, site, serving } => format!(
            "{service}: the route goes to {site}, but {serving} gives the answers: the safety net of HAProxy {proxy} is at work"
        ),
        Reason::Denied { by, denial: why } => {
            format!("an order of {} was not carried out: {}", operator(by), denial(why))
        }
        Reason::ProxyFound { proxy } => format!("HAProxy {proxy} answers"),
        Reason::ProxyLost { proxy } => {
            format!("HAProxy {proxy} does not answer on its sockets: traffic stays as it was set last")
        }
        Reason::ProxyReplaced { proxy, pid } => {
            format!("HAProxy {proxy} was restarted or reloaded: process {pid} answers now")
        }
        Reason::ProxyForeign { proxy, owner } => format!(
            "HAProxy {proxy} belongs to another supervisor ({}): nothing is touched; `supervisor run --take-over` claims it",
            pieces::one_line(owner)
        ),
        Reason::ConfigInForce { proxy, revision } => {
            format!("HAProxy {proxy} runs the configuration of the settings (rev {revision})")
        }
        Reason::ConfigHeld { proxy, revision, instead_of, by, because } => {
            let words = because.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
            format!(
                "HAProxy {proxy} is held at rev {revision} by {}{words}, in place of {instead_of} of the settings: until \
                 they or the template change, or `supervisor haproxy resume`",
                operator(by)
            )
        }
        Reason::RollbackOrdered { proxy, revision, left, by, because } => {
            let words = because.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
            let left = left.as_ref().map(|left| format!(", in place of {left}")).unwrap_or_default();
            format!("HAProxy {proxy} is ordered back to rev {revision}{left} by {}{words}", operator(by))
        }
        Reason::RollbackRefused { proxy, revision, by, because, message } => {
            let words = because.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
            format!(
                "HAProxy {proxy} goes on with what it ran: rev {revision}, which {} went back to{words}, was refused: {}",
                operator(by),
                one_line(message)
            )
        }
        Reason::ConfigResumed { proxy, revision, held, by, because } => {
            let words = because.as_ref().map(|words| format!(" ({words})")).unwrap_or_default();
            let held = match held {
                Some(held) => format!("in place of {held}, which was held"),
                None => "which is tried again".to_owned(),
            };
            format!(
                "HAProxy {proxy} is ordered to the configuration of the settings (rev {revision}), {held}, by {}{words}",
                operator(by)
            )
        }
        Reason::ConfigRefused { proxy, message } => format!(
            "HAProxy {proxy} goes on with its old configuration, the new one was refused: {}",
            one_line(message)
        ),
        Reason::ConfigContested { proxy, message } => {
            format!("HAProxy {proxy}: somebody or something else loads another configuration: {}", one_line(message))
        }
        Reason::ConfigUnproven { proxy, message } => format!(
            "HAProxy {proxy}: nobody could prove which configuration it runs now: {}",
            one_line(message)
        ),
        Reason::EngineFound { engine } => format!("Docker engine {engine} answers"),
        Reason::EngineLost { engine } => {
            format!("Docker engine {engine} does not answer: its containers are judged by probes alone")
        }
        Reason::PolicyChanged { added, removed } => policy_changed(added, removed),
        Reason::Store { durable: true } => "what is decided reaches the disk in time again".to_owned(),
        Reason::Store { durable: false } => {
            "what is decided no longer reaches the disk in time: traffic is still moved, orders are not durable".to_owned()
        }
        Reason::Late { server: id, by } => {
            format!("{}: a probe's result came {by} late and was not counted: supervisor was held up", server(*id))
        }
        Reason::ProberSilent { server: id, lasts } => format!(
            "{}: its prober gave no result for {lasts} and was started anew: nothing is known of the server until it answers",
            server(*id)
        ),
    }
}

/// HAProxy speaks in several lines; a reason is one.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// How loudly `reason` is logged. [`Level::Warn`] asks: is it worth waking someone?
pub fn log_level(reason: &Reason) -> Level {
    match reason {
        Reason::ServerDown { .. }
        | Reason::ServerDead { .. }
        | Reason::CutOff { .. }
        | Reason::InvariantBroken { .. }
        | Reason::ServerFlaps { .. }
        | Reason::ServerDegraded { .. }
        | Reason::Failover { .. }
        | Reason::Relief { .. }
        | Reason::Unserved { .. }
        | Reason::MovedTogether { .. }
        | Reason::MovedToFirst { .. }
        | Reason::SiteRemoved { .. }
        | Reason::Reasserted { .. }
        | Reason::AdminReasserted { .. }
        | Reason::AdminLags { .. }
        | Reason::Evacuated { failed: Some(_), .. }
        | Reason::Healed { failed: Some(_), .. }
        | Reason::HealUnknown { .. }
        | Reason::ContainerGone { .. }
        | Reason::HealWaits { .. }
        | Reason::DependencyUnkept { .. }
        | Reason::HealLabelUnknown { .. }
        | Reason::NetworkLost { .. }
        | Reason::GaveUp { .. }
        | Reason::TellsByMail { .. }
        | Reason::PeerLost { .. }
        | Reason::Mailed { end: MailEnd::Deferred { .. } | MailEnd::Dead { .. }, .. }
        | Reason::ServedElsewhere { .. }
        | Reason::RouteLags { .. }
        | Reason::RouteContested { .. }
        | Reason::RouteWaits { .. }
        | Reason::ProberSilent { .. }
        | Reason::ProxyLost { .. }
        | Reason::ProxyForeign { .. }
        | Reason::ConfigRefused { .. }
        | Reason::RollbackRefused { .. }
        | Reason::ConfigUnproven { .. }
        | Reason::ConfigContested { .. }
        | Reason::EngineLost { .. }
        | Reason::Store { durable: false } => Level::Warn,
        Reason::Stays { stay, .. } => match stay {
            Stay::AllDown { .. }
            | Stay::NoneProven { .. }
            | Stay::Stateful { .. }
            | Stay::Pinned { .. }
            | Stay::Paused { .. }
            | Stay::Thin { .. }
            | Stay::TakenOut
            | Stay::Scattered { .. }
            | Stay::Divided { .. }
            | Stay::FailbackLimit { .. } => Level::Warn,
            Stay::Preferred
            | Stay::Unmanaged
            | Stay::BetterSiteDown { .. }
            | Stay::NotStableYet { .. }
            | Stay::HoldDown { .. }
            | Stay::Flapping { .. }
            | Stay::BetterSiteDegraded { .. }
            | Stay::OutOfHours { .. }
            | Stay::FailbackManual { .. }
            | Stay::Forced => Level::Info,
        },
        // A person knows of what they did themselves.
        Reason::ContainerEnded { ending, .. } => match ending.who {
            Ender::Crash | Ender::Engine | Ender::Unseen => Level::Warn,
            Ender::Stop | Ender::Kill => Level::Info,
        },
        Reason::ServerUp { .. }
        | Reason::Heals { .. }
        | Reason::Healed { failed: None, .. }
        | Reason::HoldLifted { .. }
        | Reason::IncidentOpened { .. }
        | Reason::IncidentEnded { .. }
        | Reason::IncidentMerged { .. }
        | Reason::ToldByAlertmanager { .. }
        | Reason::Mailed { end: MailEnd::Accepted { .. } | MailEnd::NotNeeded, .. }
        | Reason::PeerFound { .. }
        | Reason::ContainerStands { .. }
        | Reason::ServerIsDown { .. }
        | Reason::ServerLives { .. }
        | Reason::ServerSteady { .. }
        | Reason::ServerSound { .. }
        | Reason::TakenOut { .. }
        | Reason::PutBack { .. }
        | Reason::MaintenanceHolds { .. }
        | Reason::AdminInForce { .. }
        | Reason::LeftTakenOut { .. }
        | Reason::PathContradicted { .. }
        | Reason::Reconnected
        | Reason::Failback { .. }
        | Reason::Switchover { .. }
        | Reason::PreferenceSet { .. }
        | Reason::PreferenceVoid { .. }
        | Reason::PreferenceDropped { .. }
        | Reason::PreferenceExpired { .. }
        | Reason::Paused { .. }
        | Reason::Resumed { .. }
        | Reason::TestOrdered { .. }
        | Reason::PauseHolds { .. }
        | Reason::Adopted { .. }
        | Reason::Placed { .. }
        | Reason::RouteInForce { .. }
        | Reason::Evacuated { failed: None, .. }
        | Reason::Serving { .. }
        | Reason::ComesNext { .. }
        | Reason::PreferenceHolds { .. }
        | Reason::Denied { .. }
        | Reason::ProxyFound { .. }
        | Reason::ProxyReplaced { .. }
        | Reason::ConfigInForce { .. }
        | Reason::ConfigHeld { .. }
        | Reason::RollbackOrdered { .. }
        | Reason::ConfigResumed { .. }
        | Reason::EngineFound { .. }
        | Reason::PolicyChanged { .. }
        | Reason::Store { durable: true } => Level::Info,
        Reason::ServerFailing { .. } | Reason::Late { .. } => Level::Debug,
    }
}

/// Why traffic stays where it is.
fn stay(service: ServiceId, site: Option<SiteId>, stay: Stay, left: Option<Span>) -> String {
    let Some(site) = site else {
        return format!(
            "{service}: supervisor does not know where its traffic goes: it has seen no HAProxy that it may steer; nothing is moved until it has"
        );
    };
    let wait = match left {
        Some(left) => format!("; failback in {left}"),
        None => String::new(),
    };
    match stay {
        Stay::Preferred => format!("{service} stays on {site}: it is the preferred site"),
        Stay::Unmanaged => format!("{service} stays on {site}: HAProxy has not been seen yet"),
        Stay::BetterSiteDown { better } => {
            format!("{service} stays on {site}: {better} is preferred, but is not healthy")
        }
        Stay::NotStableYet { better, .. } => {
            format!("{service} stays on {site}: {better} is healthy again, but not for long enough{wait}")
        }
        Stay::HoldDown { better, .. } => {
            format!(
                "{service} stays on {site}: {better} is healthy again, but the last failover is recent{wait}"
            )
        }
        Stay::FailbackLimit { better, .. } => format!(
            "{service} stays on {site}: {better} is healthy again, but traffic went to and fro too often{wait}, \
             or at once with `supervisor failback {service}`"
        ),
        Stay::Flapping { better, .. } => format!(
            "{service} stays on {site}: {better} is healthy again, but goes up and down too often{wait}, if it stays up"
        ),
        Stay::BetterSiteDegraded { better, .. } => format!(
            "{service} stays on {site}: {better} is up, but answers slowly or not always{wait}, if that ends"
        ),
        Stay::OutOfHours { better, .. } => format!(
            "{service} stays on {site}: {better} is healthy, but traffic returns only in the hours that the settings name{wait}, \
             or at once with `supervisor failback {service}`"
        ),
        Stay::Thin { up, of, .. } => {
            let next = match left {
                Some(left) => format!("it moves in {left} to a site that has enough"),
                None => "no other site has enough, or a person wants it here".to_owned(),
            };
            format!("{service} stays on {site}, with only {up} of the {of} servers up that it needs: {next}")
        }
        Stay::TakenOut => format!(
            "{service} stays on {site}, though every server there is out of service by order: no other site serves"
        ),
        Stay::Divided { cause } => format!(
            "{service} stays on {site}: one of the services that move together is down there, and no other site serves \
             all of them; {}",
            site_is_down(site, cause)
        ),
        Stay::Scattered { most } => format!(
            "{service} stays on {site}, apart from the services that it moves with: {most}, where most of them are, \
             is not healthy for all of them"
        ),
        Stay::FailbackManual { better } => format!(
            "{service} stays on {site}: {better} is healthy, but a person decides about failback: \
             `supervisor failback {service}`"
        ),
        Stay::AllDown { cause } => format!(
            "{service} stays on {site}, though it does not serve: no other site serves either; {}",
            site_is_down(site, cause)
        ),
        Stay::NoneProven { cause } => format!(
            "{service} stays on {site}, though it does not serve: no other site has proved yet that it is healthy; {}",
            site_is_down(site, cause)
        ),
        Stay::Stateful { cause } => format!(
            "{service} stays on {site}, though it does not serve: the service is stateful, so a person decides: \
             `supervisor failover {service} --to SITE`; {}",
            site_does_not_serve(site, cause)
        ),
        Stay::Pinned { cause } => format!(
            "{service} stays on {site}, though it does not serve: an override pins it there; \
             `supervisor failback {service}` ends it; {}",
            site_does_not_serve(site, cause)
        ),
        Stay::Paused { to } => format!(
            "{service} stays on {site}, though it would move to {to}: a person has paused that; `supervisor resume` ends it"
        ),
        Stay::Forced => format!(
            "{service} stays on {site}, though it is not healthy: an override forced it there; \
             `supervisor failback {service}` ends it"
        ),
    }
}

/// A person's words about an order, at the end of a sentence about it.
fn why(because: &Option<String>) -> String {
    because.as_deref().map(|text| format!(": {}", pieces::one_line(text))).unwrap_or_default()
}

/// Why a site does not serve: its servers are down for `cause`, or people have taken them out.
fn site_does_not_serve(site: SiteId, cause: Option<Cause>) -> String {
    match cause {
        Some(cause) => site_is_down(site, cause),
        None => format!("every server of {site} is out of service by order"),
    }
}

/// What comes next.
fn comes_next(service: ServiceId, site: SiteId, outlook: Outlook) -> String {
    match outlook {
        Outlook::Refuge { to } => format!("if {site} fails, {service} goes to {to} at once"),
        Outlook::NoRefuge => {
            format!("if {site} fails, {service} has nowhere to go: no other site is healthy")
        }
        Outlook::ReturnsAfter { better, healthy, hold_down } => {
            let earliest = hold_down.map(|left| format!(", in {left} at the earliest")).unwrap_or_default();
            format!("{service} returns when {better} has been healthy for {healthy}{earliest}")
        }
        Outlook::FirstHealthy => format!("{service} goes to the first site that is healthy again"),
    }
}

fn preference_holds(service: ServiceId, preference: &Override, left: Option<Span>) -> String {
    let words = preference
        .because
        .as_deref()
        .map(|text| format!(" ({})", pieces::one_line(text)))
        .unwrap_or_default();
    let pinned = if preference.pin { " and pins" } else { "" };
    let end = match (left, preference.until) {
        (Some(left), _) => format!("it ends by itself in {left}"),
        (None, Some(_)) => "it ends by itself".to_owned(),
        (None, None) => "no expiry".to_owned(),
    };
    format!(
        "{service}: an override of {} prefers{pinned} {} since {}{words}; {end}, `supervisor failback {service}` ends it",
        operator(&preference.by),
        preference.site,
        time(preference.at)
    )
}

fn policy_changed(added: &[ServiceId], removed: &[ServiceId]) -> String {
    let part = |what: &str, names: &[ServiceId]| {
        if names.is_empty() { String::new() } else { format!("; {what}: {}", pieces::list(names)) }
    };
    format!("new settings are in force{}{}", part("new services", added), part("removed services", removed))
}

fn times(count: u16) -> String {
    match count {
        1 => "once".to_owned(),
        _ => format!("{count} times"),
    }
}

fn in_a_row(count: u16, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s in a row"),
    }
}

#[cfg(test)]
mod tests;
