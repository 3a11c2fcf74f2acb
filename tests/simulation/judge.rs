//! What must hold: after every step, when faults are over, and in the end.

use crate::alerts::message_id;
use crate::clockwork::Ms;
use crate::docker::Ended;
use crate::fault::Kind;
use crate::plan::{Quirk, service_id, site_id};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use supervisor::daemon::Step;
use supervisor::domain::action::{Action, Deed};
use supervisor::domain::change::Change;
use supervisor::domain::delivery::{MailKey, MailKind, PeerLink, Telling};
use supervisor::domain::event::StoreHealth;
use supervisor::domain::incident::{IncidentId, Trouble};
use supervisor::domain::policy::{ContainerRef, FailbackMode};
use supervisor::domain::reason::Reason;
use supervisor::domain::repair::Phase;
use supervisor::domain::state::{Placement, ProxyLink};
use supervisor::domain::{Boot, CommandId, ServerId, SiteId, Span, State, Verdict, Wall};
use supervisor::store::Stored;

/// HAProxy's real state is the decided one within 5 s, or an alarm; a look comes each second, and a turn of the loop follows.
const STRAYS_AT_MOST: Ms = 8_000;

/// A person's word is known after this: the events of a `docker stop` have arrived, and a start that was decided before them
/// has begun.
const STOP_IS_KNOWN: Ms = 3_000;

/// A deadline that came is seen to at the next turn, and what there is much of within a few.
const OVERDUE_AT_MOST: Ms = 3_000;

/// Turns in a row without any time in between: the core does a batch at a time, and a world is small.
const TURNS_AT_ONCE: u32 = 200;

#[derive(Default)]
pub(crate) struct Judge {
    pub(crate) violation: Option<String>,
    /// What is decided is put into one number, which costs time.
    pub(crate) hashes: bool,
    hash: Fnv,
    /// The last record that somebody was told is on the disk.
    promised: u64,
    /// The last record that was decided.
    decided: u64,
    /// What was told while the disk failed, a process that began later did not know.
    forgot: bool,
    /// When this process began.
    began: Ms,
    at_once: (Ms, u32),
    mails: BTreeMap<MailKey, Decided>,
    /// Of each incident, by its number and its beginning: since when, until when, by the world's clock.
    incidents: BTreeMap<(IncidentId, Wall), (Trouble, Ms, Option<Ms>)>,
    /// The Message-IDs that were sent.
    sent: BTreeSet<String>,
    /// When each container was started or restarted by us.
    starts: BTreeMap<ContainerRef, Vec<Ms>>,
}

/// A mail that was decided.
struct Decided {
    kind: MailKind,
    about: Vec<(IncidentId, Wall)>,
}

/// FNV-1a over what is written into it.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Judge {
    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }
}

impl World {
    /// Something is as it must not be. The first one counts.
    pub(crate) fn violate(&mut self, what: impl Into<String>) {
        let now = self.clock.now();
        if self.judge.violation.is_none() {
            self.judge.violation = Some(format!("at {} s: {}", now as f64 / 1_000.0, what.into()));
        }
    }

    /// After each step that led to something.
    pub(crate) fn judge_step(&mut self, step: &Step) {
        let record = &step.record;
        self.judge.decided = record.seq;
        if let Some(breach) = step.breaches.first() {
            self.violate(format!("{breach}, after {:?}", record.event));
        }
        let now = self.clock.now();
        for reason in &record.decision.reasons {
            if let Reason::GaveUp { container, starts, window, .. } = reason {
                let from = now - Ms::try_from(window.0).unwrap_or(0);
                let known = self.judge.starts.get(container);
                let counted = known.map_or(0, |all| all.iter().filter(|at| **at > from).count());
                // A new boot leaves moments the time that they had left, and does not count how long it took.
                if counted < usize::from(*starts) && !self.injected.contains_key(&Kind::Reboot) {
                    self.violate(format!("I6: {container} is given up after {counted} starts of {starts}"));
                }
            }
            self.note(|| format!("{} - {}", record.seq, supervisor::present::reason(reason)));
        }
        if self.judge.hashes {
            let _ = write!(self.judge.hash, "{:?}{:?}", record.now, record.decision);
        }
        for action in &record.decision.actions {
            let reasons = || record.decision.reasons.iter();
            let has_reason = match action {
                Action::Heal(heal) => {
                    self.judge.starts.entry(heal.container.clone()).or_default().push(now);
                    reasons().any(|reason| {
                        matches!(reason, Reason::Heals { container, .. } if *container == heal.container)
                    })
                }
                Action::Mail(mail) => {
                    let about = mail.incidents.iter().map(|told| (told.incident, told.opened)).collect();
                    let decided = Decided { kind: mail.kind, about };
                    self.judge.mails.insert(MailKey::of(mail), decided);
                    reasons().any(
                        |reason| matches!(reason, Reason::TellsByMail { mail: id, .. } if *id == mail.id),
                    )
                }
                Action::Route { .. } | Action::Evacuate(_) | Action::Pace { .. } | Action::Answer { .. } => {
                    true
                }
            };
            if !has_reason {
                self.violate(format!("no reason for {action:?}"));
            }
        }
        for change in &record.decision.changes {
            let Change::Incident { id, incident: Some(incident) } = change else { continue };
            let known = self
                .judge
                .incidents
                .entry((*id, incident.opened_wall))
                .or_insert_with(|| (incident.trouble.clone(), now, None));
            // It goes on, where a larger one of which it was a part is over.
            known.2 = incident.ended.map(|_| known.2.unwrap_or(now));
        }
    }

    /// After each turn of the loop; `next`: it makes the next one after this.
    pub(crate) fn judge_turn(&mut self, next: Span) {
        let now = self.clock.now();
        let (at, count) = &mut self.judge.at_once;
        if *at != now || next != Span::ZERO {
            (*at, *count) = (now, 0);
            return;
        }
        *count += 1;
        if *count > TURNS_AT_ONCE {
            self.violate("the loop does not come to rest: a deadline that came is still due");
        }
    }

    /// What was decided once more must have been decided as before.
    pub(crate) fn judge_replay(&mut self) {
        if let Some(words) = self.disk.differs.take() {
            self.violate(words);
        }
    }

    /// A process begins with what was stored.
    pub(crate) fn judge_load(&mut self, stored: Option<&Stored>) {
        if let Err(words) = self.disk.replay(None) {
            self.violate(words);
        }
        let found = stored.map_or(0, |stored| stored.seq);
        if found < self.judge.decided && self.disk.died_degraded {
            self.judge.forgot = true;
        }
        self.judge.decided = found;
        if found < self.judge.promised {
            let promised = self.judge.promised;
            self.violate(format!(
                "record {promised} was told to be on the disk, and {found} is the last there"
            ));
        }
    }

    pub(crate) fn judge_begin(&mut self) {
        let now = self.clock.now();
        self.judge.began = now;
        for proxy in &mut self.proxies {
            proxy.strays_since.clear();
        }
    }

    pub(crate) fn judge_torn(&mut self, torn: u64) {
        self.judge.promised = self.judge.promised.min(torn.saturating_sub(1));
    }

    /// A person is told what became of an order.
    pub(crate) fn judge_answer(&mut self, command: CommandId, seq: u64, verdict: &Verdict, durable: bool) {
        if *verdict != (Verdict::Accepted { durable: true }) || !durable {
            return;
        }
        if self.disk.tip < seq {
            self.violate(format!("I4: order {} is told to be on the disk, and is not", command.0));
        }
        self.judge.promised = self.judge.promised.max(seq);
    }

    /// Docker is about to be asked to start or restart a container.
    pub(crate) fn judge_heal(&mut self, number: usize, seq: u64, decided: Ms, deed: Deed) {
        let now = self.clock.now();
        let degraded = self.supervisor.as_ref().is_none_or(|of| of.state().store == StoreHealth::Degraded);
        if self.disk.tip < seq && !degraded && now - decided < 500 {
            self.violate("I4: a container is started before that is on the disk");
        }
        let container = &self.containers[number];
        let engine = &self.engines[container.engine];
        let Ended::Person { at, kill, unheard: false } = container.ended else { return };
        // What an engine that goes down does looks the same.
        let engine_turned = (engine.turned - at).abs() < 20_000;
        let wanted = kill && self.cast().has(Quirk::HealKills);
        if deed == Deed::Start && !wanted && !engine_turned && decided > at + STOP_IS_KNOWN {
            let (name, ago) = (container.name.clone(), decided - at);
            self.violate(format!(
                "I3: {name} is started, which a person ended {ago} ms before that was decided"
            ));
        }
    }

    /// A mail is about to be handed to a relay.
    pub(crate) fn judge_sending(&mut self, message: &[u8]) {
        let id = message_id(message);
        if id.is_empty() {
            return self.violate("a mail has no Message-ID");
        }
        if !self.judge.sent.insert(id.clone()) {
            return;
        }
        let staged = self.disk.outbox.iter().filter_map(|row| row.staged.as_ref());
        let kept = staged.into_iter().any(|staged| staged.message == message);
        let warned = String::from_utf8_lossy(message).contains("may be a duplicate");
        if !kept && !warned {
            self.violate(format!("I4: mail {id} leaves, and neither is it on the disk nor does it say so"));
        }
    }

    /// Each second: whether HAProxy goes where it is decided.
    pub(crate) fn watch_traffic(&mut self) {
        let now = self.clock.now();
        for number in 0..self.proxies.len() {
            let answers = self.proxies[number].answers(now) && now >= self.proxies[number].foreign_until;
            let watches = self
                .supervisor
                .as_ref()
                .is_some_and(|of| of.frozen_until <= now && now - self.judge.began > STRAYS_AT_MOST);
            for service in 0..self.plan.cast.services.len() {
                self.watch_route(number, service, answers && watches);
            }
        }
        self.watch_deadlines();
        self.clock.after(1_000, World::watch_traffic);
    }

    /// Nothing that time alone changes is left lying when its time has come.
    fn watch_deadlines(&mut self) {
        let (now, boot) = (self.clock.now(), self.now().boot);
        let Some(supervisor) = self.supervisor.as_ref().filter(|of| of.frozen_until + OVERDUE_AT_MOST <= now)
        else {
            return;
        };
        if now - self.judge.began <= OVERDUE_AT_MOST {
            return;
        }
        let late = |at: Boot| at + Span(OVERDUE_AT_MOST.unsigned_abs()) < boot;
        let state = supervisor.state();
        let mut overdue = None;
        for (id, service) in &state.services {
            let ends = service.preference.as_ref().and_then(|over| over.until);
            let held = service.maintenance.values().filter_map(|held| held.until);
            if service.wake.into_iter().chain(ends).chain(held).any(late) {
                overdue = Some(format!("something of {id}: {:?}", service.wake));
            }
        }
        for (container, repair) in &state.repairs {
            if repair.deadline().is_some_and(late) {
                overdue = Some(format!("{container}: {:?}", repair.phase));
            }
        }
        for (scope, pause) in &state.pauses {
            if pause.until.is_some_and(late) {
                overdue = Some(format!("the pause of {scope}"));
            }
        }
        for incident in state.incidents.values() {
            if incident.wake.is_some_and(late) {
                overdue = Some(format!("{incident:?}"));
            }
        }
        if let Some(what) = overdue {
            self.violate(format!("a deadline has passed, and nothing was done: {what}"));
        }
    }

    fn watch_route(&mut self, number: usize, service: usize, watched: bool) {
        let now = self.clock.now();
        let id = service_id(service);
        let decided = self.supervisor.as_ref().and_then(|of| {
            let (service, _) = of.state().service(id)?;
            service.placement.route().map(|route| (route.site, route.generation, route.since))
        });
        let proxy = &mut self.proxies[number];
        let (Some((site, _, since)), true) = (decided, watched) else {
            proxy.strays_since.remove(&id);
            return;
        };
        if proxy.map.get(&id) == Some(&site) {
            proxy.strays_since.remove(&id);
            return;
        }
        let decided_at = since.0 + self.booted;
        let strays = *proxy.strays_since.entry(id).or_insert(now);
        if now - strays.max(decided_at) <= STRAYS_AT_MOST {
            return;
        }
        let proxy = proxy.id;
        let troubles =
            [Trouble::RouteLags { service: id, proxy }, Trouble::RouteContested { service: id, proxy }];
        let told = self.supervisor.as_ref().is_some_and(|of| {
            let all = troubles.iter().filter_map(|trouble| of.state().incident_of(trouble));
            let mut open = all.filter_map(|id| of.state().incidents.get(&id));
            open.any(|incident| incident.ended.is_none())
        });
        if !told {
            let (proxy, shown) = (self.proxies[number].id, self.proxies[number].map.get(&id).copied());
            self.violate(format!(
                "I8: {proxy} routes {id} to {shown:?}, {site} is decided, and nobody is told"
            ));
        }
    }

    /// Whether a site of a service has served without a break for some time: a server of it works, and is in service.
    fn serves_for(&self, state: &State, service: usize, site: SiteId, lasts: Ms) -> usize {
        let now = self.clock.now();
        let Some((known, _)) = state.service(service_id(service)) else { return 0 };
        let all = self.servers_of(service);
        let works = |(server, place, container): &(ServerId, usize, usize)| {
            let container = &self.containers[*container];
            let since = [container.ready, container.hangs_until, container.sick_until, container.started];
            site_id(*place) == site
                && container.serves(now)
                && since.iter().all(|at| *at + lasts <= now)
                && !known.maintenance.contains_key(&server.server)
        };
        all.iter().filter(|server| works(server)).count()
    }

    /// Faults are over for a while: what can be done at once is done.
    pub(crate) fn judge_settled(&mut self) {
        let now = self.clock.now();
        let Some(supervisor) = &self.supervisor else {
            return self.violate("I5: no process of supervisor runs");
        };
        let state = supervisor.state().clone();
        // It may have begun just now, or wait for the lists.
        if now - self.judge.began < 25_000 {
            return;
        }
        for service in 0..self.plan.cast.services.len() {
            let id = service_id(service);
            let Some((known, policy)) = state.service(id) else { continue };
            let Placement::On(route) = &known.placement else {
                self.violate(format!("I5: nobody knows where {id} goes"));
                return;
            };
            let kept = policy.stateful
                || known.paused
                || policy.group.is_some()
                || known.preference.as_ref().is_some_and(|over| over.pin || over.forced);
            let here = self.serves_for(&state, service, route.site, 0);
            let there = policy
                .prefer
                .iter()
                .filter(|site| **site != route.site)
                .find(|site| self.serves_for(&state, service, **site, 25_000) >= policy.needed());
            if let (0, Some(site), false) = (here, there, kept) {
                let words = format!("I5: {id} goes to {}, where nothing serves; {site} does", route.site);
                return self.violate(words);
            }
            for number in 0..self.proxies.len() {
                let proxy = &self.proxies[number];
                let (name, shown) = (proxy.id, proxy.map.get(&id).copied());
                let contested =
                    known.contests.get(&name).is_some_and(|contest| contest.rests_until.is_some());
                if proxy.up
                    && !contested
                    && shown != Some(route.site)
                    && route.since.0 + self.booted + 5_000 < now
                {
                    let words = format!("I5: {name} routes {id} to {shown:?}, {} is decided", route.site);
                    return self.violate(words);
                }
            }
        }
    }

    /// All is over, and was cleared up: nothing is left of it.
    pub(crate) fn judge_calm(&mut self) {
        if self.judge.violation.is_some() {
            return;
        }
        let Some(supervisor) = &self.supervisor else {
            return self.violate("in the end no process of supervisor runs");
        };
        let state = supervisor.state().clone();
        if let Err(words) = self.disk.replay(None) {
            return self.violate(words);
        }
        if let Err(words) = self.is_calm(&state).and_then(|()| self.is_told(&state)) {
            self.violate(words);
        }
    }

    /// Whether nothing is left to wait for.
    pub(crate) fn is_all_calm(&self) -> bool {
        let state = self.supervisor.as_ref().map(|of| of.state());
        state.is_some_and(|state| self.is_calm(state).and_then(|()| self.is_told(state)).is_ok())
    }

    fn is_calm(&self, state: &State) -> Result<(), String> {
        let now = self.clock.now();
        for container in &self.containers {
            if !container.serves(now) {
                return Err(format!(
                    "in the end {} is {:?} ({:?})",
                    container.name,
                    container.status,
                    state.repairs.get(&container.name)
                ));
            }
        }
        for (id, service) in &state.services {
            let Some(policy) = state.policy.services.get(id) else { continue };
            for (name, server) in &service.servers {
                if !server.health.is_up() {
                    return Err(format!("in the end {id}/{name} is {:?}", server.health));
                }
            }
            let Placement::On(route) = &service.placement else {
                return Err(format!("in the end nobody knows where {id} goes"));
            };
            let by_itself = !policy.stateful && policy.failback.mode == FailbackMode::Auto;
            if by_itself && Some(&route.site) != policy.prefer.first() {
                return Err(format!(
                    "in the end {id} goes to {}: {:?}",
                    route.site,
                    state.plan(*id, self.now())
                ));
            }
            if !route.pending.is_empty() {
                return Err(format!("in the end the route of {id} waits for {:?}", route.pending));
            }
            for proxy in &self.proxies {
                if proxy.map.get(id) != Some(&route.site) {
                    let shown = proxy.map.get(id);
                    return Err(format!(
                        "in the end {} routes {id} to {shown:?}, not {}",
                        proxy.id, route.site
                    ));
                }
            }
            if !service.out.is_empty() || !service.maintenance.is_empty() || service.preference.is_some() {
                let (out, held, over) = (&service.out, &service.maintenance, &service.preference);
                return Err(format!("in the end something is ordered of {id}: {out:?} {held:?} {over:?}"));
            }
        }
        if !state.pauses.is_empty() {
            return Err(format!("in the end something is paused: {:?}", state.pauses));
        }
        if let Some((proxy, known)) = state.proxies.iter().find(|(_, known)| known.link != ProxyLink::Ours) {
            return Err(format!("in the end {proxy} is {:?}", known.link));
        }
        if let Some((engine, known)) = state.engines.iter().find(|(_, known)| known.found != Some(true)) {
            return Err(format!("in the end {engine} is {:?}", known.found));
        }
        if let Some((peer, known)) = state.peers.iter().find(|(_, known)| known.link != PeerLink::Up) {
            return Err(format!("in the end {peer} is {:?}", known.link));
        }
        if let Some((container, repair)) =
            state.repairs.iter().find(|(_, repair)| !matches!(repair.phase, Phase::Runs { .. }))
        {
            return Err(format!("in the end {container} is {:?}", repair.phase));
        }
        if state.store != StoreHealth::Durable || state.cut_off {
            return Err(format!("in the end the store is {:?}, cut off {}", state.store, state.cut_off));
        }
        Ok(())
    }

    /// Whoever had to be told was told, and heard of the end.
    fn is_told(&self, state: &State) -> Result<(), String> {
        for incident in state.incidents.values() {
            if incident.ended.is_none() || !matches!(incident.telling, Telling::Over { .. }) {
                let direct = state.policy.alerts.direct || !state.policy.alerts.peers.is_empty();
                if incident.ended.is_none() || direct {
                    return Err(format!("in the end an incident is left: {incident:?}"));
                }
            }
        }
        if let Some(row) = self.disk.open_mails().first() {
            return Err(format!("in the end a mail is not finished: {row:?}"));
        }
        if !self.postman_is_idle() {
            return Err("in the end the sender waits for something".to_owned());
        }
        if !self.judge.forgot {
            self.is_told_in_order()?;
        }
        self.is_told_at_all(state)?;
        // Who heard of a beginning hears of its end.
        let delivered: BTreeSet<(&str, &str)> =
            self.mailbox.iter().map(|mail| (mail.message_id.as_str(), mail.to.as_str())).collect();
        let mut firing: BTreeMap<((IncidentId, Wall), &str), Ms> = BTreeMap::new();
        let mut resolved: BTreeSet<((IncidentId, Wall), &str)> = BTreeSet::new();
        for (message_id, to) in delivered {
            let Some((_, decided)) = self.judge.mails.iter().find(|(key, _)| names(message_id, **key)) else {
                return Err(format!("a mail was sent that nobody decided: {message_id}"));
            };
            for about in &decided.about {
                match decided.kind {
                    MailKind::Firing => {
                        firing.insert((*about, to), 0);
                    }
                    MailKind::Resolved => {
                        resolved.insert((*about, to));
                    }
                    MailKind::Test => {}
                }
            }
        }
        let refused = self.injected.contains_key(&Kind::RelayRefuses);
        let forgot = self.judge.forgot || self.injected.contains_key(&Kind::RecordTorn);
        for (about, to) in firing.keys() {
            if !resolved.contains(&(*about, *to)) && !refused && !forgot {
                let known = self.judge.incidents.get(about);
                return Err(format!("{to} was told of {known:?}, and not of its end"));
            }
        }
        Ok(())
    }
}

impl World {
    fn decided_of(&self, message_id: &str) -> Option<(MailKey, &Decided)> {
        let mut all = self.judge.mails.iter();
        all.find(|(key, _)| names(message_id, **key)).map(|(key, decided)| (*key, decided))
    }

    /// Nobody hears that something is over before they heard of it, and nobody hears anything twice but where SMTP itself, or a
    /// crash of ours, cannot tell.
    fn is_told_in_order(&self) -> Result<(), String> {
        // Where a larger one of which it was a part is over, it goes on, and that is told after its end.
        let mut over: BTreeMap<(IncidentId, Wall, &str), (MailKey, Ms)> = BTreeMap::new();
        let mut copies: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for mail in &self.mailbox {
            *copies.entry((&mail.message_id, &mail.to)).or_default() += 1;
            let Some((key, decided)) = self.decided_of(&mail.message_id) else { continue };
            for (incident, opened) in &decided.about {
                let about = (*incident, *opened, mail.to.as_str());
                match decided.kind {
                    MailKind::Resolved => {
                        over.entry(about).or_insert((key, mail.at));
                    }
                    // One that comes once more, because nobody knew that it had come, is no news.
                    MailKind::Firing if copies[&(mail.message_id.as_str(), mail.to.as_str())] == 1 => {
                        if let Some((_, at)) = over.get(&about).filter(|(end, _)| key < *end) {
                            let words = format!(
                                "{about:?} was told to be over at {at}, and to be wrong at {}",
                                mail.at
                            );
                            return Err(words);
                        }
                    }
                    MailKind::Firing | MailKind::Test => {}
                }
            }
        }
        let unsure = [
            Kind::RelayLosesReply,
            Kind::ProcessKilled,
            Kind::KilledInStep,
            Kind::Overlap,
            Kind::RecordTorn,
            Kind::Reboot,
            Kind::DiskFull,
            Kind::DiskHangs,
            Kind::DiskSlow,
            Kind::ProcessFrozen,
        ];
        if unsure.iter().any(|kind| self.injected.contains_key(kind)) {
            return Ok(());
        }
        match copies.iter().find(|(_, count)| **count > 1) {
            Some((mail, count)) => Err(format!("{mail:?} came {count} times")),
            None => Ok(()),
        }
    }

    /// What lasted for long, while no Alertmanager was there to tell it, was mailed.
    fn is_told_at_all(&self, state: &State) -> Result<(), String> {
        let alerts = &state.policy.alerts;
        if !alerts.direct || !alerts.peers.is_empty() || self.injected.contains_key(&Kind::RecordTorn) {
            return Ok(());
        }
        // Ten mails in ten minutes, then a digest.
        let long = i64::try_from((alerts.fallback_after + alerts.notify_grace).0).unwrap_or(0) + 11 * 60_000;
        let told: BTreeSet<(IncidentId, Wall)> =
            self.judge.mails.values().flat_map(|decided| decided.about.iter().copied()).collect();
        let kept = self.judge.incidents.iter().filter(|(about, _)| !told.contains(about));
        for (_, (trouble, opened, ended)) in kept {
            let lasted = ended.unwrap_or(self.clock.now()) - opened;
            if lasted > long && *opened > self.judge.began {
                return Err(format!("{trouble:?} lasted {} s, and nobody was told", lasted / 1_000));
            }
        }
        Ok(())
    }
}

/// Whether a Message-ID is that of a mail: its number and its moment are in it.
fn names(message_id: &str, key: MailKey) -> bool {
    let end = format!(".{}.{}@node.example.org", key.id.0, key.at.0);
    message_id.ends_with(&end)
}
