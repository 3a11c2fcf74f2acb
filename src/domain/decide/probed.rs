//! A probe ended.

use super::Draft;
use super::leaving::is_leaving;
use super::repair;
use super::verdict::{News, follow, judge, learn_all};
use crate::domain::change::Change;
use crate::domain::event::{Event, Probed};
use crate::domain::health::{Bar, CONTRARY_HOLDS, Health, PathView};
use crate::domain::id::ServerId;
use crate::domain::reason::Reason;
use crate::domain::state::{ProxyLink, Server, State};
use crate::domain::time::{Boot, Now, Span};
use crate::domain::witness::{Evidence, ProbeOutcome, Strain};

/// HAProxy is looked at each second: the check that ends a `check_age` after our first failure is seen within this.
const LOOKED_AT_EVERY: Span = Span::seconds(1);

/// Most probes of most days: a server that is up answers, and nothing was counted or asked. Nothing follows from that, and
/// the server need not be looked at to know it.
pub(super) fn is_no_news(state: &State, event: &Event, now: Now) -> bool {
    let (probed, is_life) = if let Event::Probed(probed) = event {
        (probed, false)
    } else if let Event::Lived(probed) = event {
        (probed, true)
    } else {
        return false;
    };
    let took = match probed.outcome {
        ProbeOutcome::Healthy { took, .. } | ProbeOutcome::Connected { took } => took,
        ProbeOutcome::Failed(_) => return false,
    };
    let is_awaited =
        if is_life { state.is_life_awaited(probed.server) } else { state.is_awaited(probed.server, took) };
    !is_awaited && !state.cut_off && lateness(state, probed, now).is_none()
}

pub(super) fn probed(draft: &mut Draft<'_>, probed: &Probed) {
    let server = probed.server;
    if draft.server(server).is_none() {
        return;
    }
    let late_by = lateness(draft.state, probed, draft.now);
    let evidence = match late_by {
        Some(_) => Evidence::Void,
        None => probed.outcome.evidence(),
    };
    if evidence == Evidence::Untried {
        return untried(draft);
    }
    let reached = !matches!(evidence, Evidence::Path(_) | Evidence::Void);
    let was_asked = reached && answered(draft, server, probed.started);
    let news = if reached { end_cut_off(draft) } else { Vec::new() };
    believe(draft, probed, evidence, late_by);
    // Only now: what this probe says counts, before anything moves to where it was.
    follow(draft, &news);
    // An escape may have waited for the answer; what it said counts first.
    if was_asked {
        draft.settle(server.service);
    }
}

/// What a probe found, against what was believed of its server.
fn believe(draft: &mut Draft<'_>, probed: &Probed, evidence: Evidence, late_by: Option<Span>) {
    let server = probed.server;
    // What was counted while we were cut off is void by now.
    let Some(before) = draft.health(server) else { return };
    let strain = match late_by {
        Some(_) => None,
        None => probed.outcome.strain(slow_after(draft, server)),
    };
    // The answer was news, if somebody asked; to the verdict it adds nothing.
    if matches!((before, evidence, strain), (Health::Up { bad: None, .. }, Evidence::Good, None)) {
        return;
    }
    // A good answer to a probe that began before the server went down is an answer from before.
    if let (Health::Down { since, .. }, Evidence::Good) = (before, evidence)
        && probed.started < since
    {
        return;
    }
    // That it answers is known: it is out for its restart.
    if evidence == Evidence::Good && is_leaving(draft, server) {
        return;
    }
    if let (Some(by), true) = (late_by, before.is_unsettled()) {
        draft.tell(Reason::Late { server, by });
    }
    let bar = bar(draft, server, before, evidence);
    judge(draft, server, before.after(evidence, probed.ended, bar));
    if let Some(strain) = strain {
        strained(draft, server, strain, probed.ended);
    }
}

fn slow_after(draft: &Draft<'_>, server: ServerId) -> Option<Span> {
    draft.server_policy(server)?.slow_after
}

/// A server that is up answered badly or slowly: done too often, it is degraded.
fn strained(draft: &mut Draft<'_>, server: ServerId, strain: Strain, at: Boot) {
    let Some(before) = draft.server(server).filter(|server| server.health.is_up()) else { return };
    let Some(policy) = draft.server_policy(server) else { return };
    let after = before.strain.again(at, policy.strain);
    draft.push(Change::Strain { server, strain: after });
    if let (None, Some(until)) = (before.strain.until, after.until) {
        let left = until.since(draft.now.boot);
        draft.tell(Reason::ServerDegraded { server, site: policy.site, strain, left });
    }
    if before.strain.until != after.until {
        draft.settle(server.service);
    }
}

/// A probe of `server` that began at `started` got through: whether that was the question. It is answered then.
fn answered(draft: &mut Draft<'_>, server: ServerId, started: Boot) -> bool {
    let asked = draft.server(server).and_then(|server| server.asked);
    let was_asked = asked.is_some_and(|since| started >= since);
    if was_asked {
        draft.ask(server, None);
    }
    was_asked
}

/// A prober gave no result for too long. What is not heard is no evidence: its server has no verdict until it is heard again.
pub(super) fn silent(draft: &mut Draft<'_>, server: ServerId, since: Boot) {
    let Some(before) = draft.health(server) else { return };
    draft.tell(Reason::ProberSilent { server, lasts: draft.now.boot.since(since) });
    if !before.is_down() {
        judge(draft, server, Health::default());
    }
}

/// A probe could not be made for want of something of ours. That is our trouble, and nobody else's: the incident says it.
fn untried(draft: &mut Draft<'_>) {
    /// What repeats itself with every probe is not written down each time.
    const NOTED_EVERY: Span = Span::seconds(30);
    if draft.state.untried.is_none_or(|last| draft.now.boot.since(last) >= NOTED_EVERY) {
        draft.push(Change::Untried { at: draft.now.boot });
    }
}

/// A `live` probe ended. Its verdict is kept and told; what to do about a dead process is healing's business.
pub(super) fn lived(draft: &mut Draft<'_>, probed: &Probed) {
    let server = probed.server;
    let Some(wanted) = draft.server_policy(server) else { return };
    let (site, fall) = (wanted.site, wanted.live_fall);
    let known = draft.before(server.service).and_then(|(service, _)| service.servers.get(&server.server));
    let Some(known) = known else { return };
    let before = known.life;
    // What is told of the process before, or of one that was frozen, is not about this one.
    if known.lives_from.is_some_and(|at| probed.started < at) {
        return;
    }
    let evidence = match lateness(draft.state, probed, draft.now) {
        Some(_) => Evidence::Void,
        None => probed.outcome.evidence(),
    };
    if evidence == Evidence::Untried {
        return untried(draft);
    }
    let path = if draft.state.cut_off { PathView::CutOff } else { PathView::Credible };
    let bar = Bar { rise: 1, fall, ..plain_bar(draft, server, path) };
    let after = before.after(evidence, probed.ended, bar);
    draft.set_life(server, after);
    let container = draft.server_policy(server).and_then(|wanted| wanted.container.clone());
    // A container whose start was not heard is dead by its old verdict until it answers: asked again with each result.
    if let (Some(container), true) = (container, after.is_down() || before.differs_in_verdict(&after)) {
        repair::consider(draft, &container);
    }
    if before.differs_in_verdict(&after) {
        match (before, after) {
            // Where Docker says that nothing runs, a silent process is no news.
            (_, Health::Down { cause, .. }) if draft.state.runs(server) => {
                draft.tell(Reason::ServerDead { server, site, cause });
            }
            (_, Health::Down { .. }) => {}
            (Health::Down { .. }, Health::Up { .. }) => draft.tell(Reason::ServerLives { server, site }),
            (_, Health::Unknown { .. } | Health::Up { .. }) => {}
        }
    }
}

/// By how much a result is too late to be true: against its plan, or on its way to us.
fn lateness(state: &State, probed: &Probed, now: Now) -> Option<Span> {
    let late = probed.started.since(probed.due).max(now.boot.since(probed.ended));
    (late > state.policy.lateness).then_some(late)
}

/// We reach something again. Gives the news of that, for [`follow`].
fn end_cut_off(draft: &mut Draft<'_>) -> Vec<News> {
    if !draft.state.cut_off {
        return Vec::new();
    }
    draft.push(Change::CutOff(false));
    draft.tell(Reason::Reconnected);
    // What was counted while we were cut off was about us: it must not become a verdict about them now.
    let counted: Vec<(ServerId, Health)> = draft
        .state
        .services
        .iter()
        .flat_map(|(service, known)| {
            known
                .servers
                .iter()
                .map(|(name, server)| (ServerId { service: *service, server: *name }, server.health))
        })
        .filter(|(_, health)| health.run().is_some_and(|run| run.path_only))
        .collect();
    let voided = |(server, health): (ServerId, Health)| {
        let bar = plain_bar(draft, server, PathView::CutOff);
        (server, health.after(Evidence::Void, draft.now.boot, bar))
    };
    // A move may have waited for the end of a doubt.
    let voided: Vec<(ServerId, Health)> = counted.into_iter().map(voided).collect();
    learn_all(draft, &voided)
}

/// What it takes for evidence about `server` to become a verdict.
fn bar(draft: &mut Draft<'_>, server: ServerId, before: Health, evidence: Evidence) -> Bar {
    let path = match evidence {
        Evidence::Path(_) => path_view(draft, server, before),
        Evidence::Good | Evidence::Hard(_) | Evidence::Full(_) | Evidence::Void | Evidence::Untried => {
            PathView::Credible
        }
    };
    plain_bar(draft, server, path)
}

pub(super) fn plain_bar(draft: &Draft<'_>, server: ServerId, path: PathView) -> Bar {
    let (rise, fall) = draft.server_policy(server).map_or((1, 1), |server| (server.rise, server.fall));
    let grace = draft.now.boot < draft.state.began + draft.state.policy.startup_grace;
    Bar { rise, fall, grace, path }
}

/// What the rest of the world makes of a path error of `server`.
fn path_view(draft: &mut Draft<'_>, server: ServerId, before: Health) -> PathView {
    let now = draft.now.boot;
    let run = before.run();
    let (not_down, mut failing) = draft.state.path_runs();
    if run.is_none() && !before.is_down() {
        failing += 1;
    }
    // One failing server is no pattern; two or more, and not one that answers, is.
    if failing >= 2 && failing == not_down {
        if !draft.state.cut_off {
            draft.push(Change::CutOff(true));
            draft.tell(Reason::CutOff { servers: failing });
        }
        return PathView::CutOff;
    }
    let first = run.map_or(now, |run| run.first);
    if run.and_then(|run| run.contrary).is_some_and(|at| now.since(at) <= CONTRARY_HOLDS) {
        return PathView::Contradicted;
    }
    let Some((service, policy)) = draft.service(server.service) else { return PathView::Credible };
    let looked_at = |proxy| draft.state.proxies.get(proxy).is_some_and(|proxy| proxy.link == ProxyLink::Ours);
    if policy.proxies.iter().any(looked_at) && now.since(first) < policy.check_age + LOOKED_AT_EVERY {
        return PathView::WitnessDue;
    }
    let due = |other: &Server| other.is_asked() && other.health.path_run().is_none();
    if service.servers.iter().any(|(name, other)| *name != server.server && due(other)) {
        return PathView::OthersDue;
    }
    PathView::Credible
}
