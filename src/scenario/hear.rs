//! What a line says that happens, as the event that it comes to in the world at that moment.

use super::happening::Happening;
use super::telling::{About, Round};
use super::world::{BEGINNING, RunError, What, World};
use crate::domain::action::{ActionId, Finished, Heal, Outcome, Target};
use crate::domain::command::{Command, CommandId, Operator, Order};
use crate::domain::delivery::Word;
use crate::domain::event::{Configured, Event, Mailed, PeerResult, PeerSeen, Probed, Routed};
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::silence::{Matcher, Silence};
use crate::domain::state::State;
use crate::domain::time::{Boot, Now, Span, Wall};
use std::collections::BTreeMap;

impl World {
    /// What a happening comes to in this world at this moment.
    pub(super) fn hear(&mut self, happening: &Happening) -> Result<What, RunError> {
        let now = self.now();
        let at = now.boot;
        let event = match happening {
            Happening::Start { empty } => {
                if *empty {
                    self.state = State::new(self.state.policy.clone());
                }
                Event::Started
            }
            Happening::Probe { server, live, outcome, took, late } => {
                let Some(server) = *server else {
                    return Err(self.impossible("there is no server to probe"));
                };
                let ended = at - *late;
                let started = ended - *took;
                let probed = Probed { server, due: started, started, ended, outcome: *outcome };
                if *live { Event::Lived(probed) } else { Event::Probed(probed) }
            }
            Happening::ProberSilent { server, lasts } => {
                Event::ProberSilent { server: *server, since: at - *lasts }
            }
            Happening::Docker { container, sign, heard } => {
                let event = self.outside.happens(container, *sign, *heard, now);
                match heard {
                    true => Event::Container(event),
                    false => return Ok(What::Unheard(event)),
                }
            }
            Happening::Lists { engine, found } => {
                Event::Containers(self.outside.list(*engine, found, &self.state, now))
            }
            Happening::EngineLost(engine) => {
                Event::EngineLost { engine: *engine, last: self.outside.last_signs(*engine) }
            }
            Happening::Forgets { engine, until } => {
                self.outside.forget(*engine, until.map(|until| Boot(BEGINNING) + until));
                return Ok(What::Aside(match until {
                    None => format!("Docker engine {engine} is started anew: it remembers nothing"),
                    Some(_) => format!("Docker engine {engine} has forgotten what was long ago"),
                }));
            }
            Happening::LiveRestore(engine) => {
                self.outside.outlive(*engine);
                return Ok(What::Aside(format!("containers outlive Docker engine {engine} (live-restore)")));
            }
            Happening::Facts { container, facts, words } => {
                self.outside.learn(container, facts);
                return Ok(What::Aside(format!("Docker knows of {}: {words}", container.name)));
            }
            Happening::Looks { proxy, look, anew } => {
                Event::Proxy(self.outside.look(*proxy, look, *anew, &self.state, now))
            }
            Happening::ProxyLost(proxy) => Event::ProxyLost { proxy: *proxy },
            Happening::Configured { proxy, config } => {
                Event::Configured(Configured { proxy: *proxy, config: config.clone(), reload: None })
            }
            Happening::Routed { proxy, services } => {
                let desired = self.state.desired(*proxy);
                let taken =
                    desired.routes.iter().filter(|(id, _)| services.is_empty() || services.contains(id));
                let mut generations = BTreeMap::new();
                for (id, route) in taken {
                    self.outside.route(*proxy, *id, route.site);
                    generations.insert(*id, route.generation);
                }
                Event::Routed(Routed { proxy: *proxy, generations, took: Span(1) })
            }
            Happening::Healed { container, outcome } => {
                let Some(Heal { id, container, deed, .. }) = self.heals.get(container).cloned() else {
                    return Err(self.impossible(format!("{} was not started by supervisor", container.name)));
                };
                let of = Target::Container { container, deed };
                Event::Finished(Finished { action: id, of, outcome: outcome.clone() })
            }
            Happening::Evacuated { server, outcome } => {
                let Some(action) = self.evacuations.get(server).copied() else {
                    return Err(self.impossible(format!("the requests of {server} were not to be freed")));
                };
                self.finished(action, Target::Server(*server), outcome)
            }
            Happening::Peer { peer, round } => {
                let (result, silences) = match round {
                    Round::Fails(words) => (PeerResult::Failed(words.clone()), None),
                    Round::Answers(given) => {
                        let silences = self.outside.silences(*peer, now);
                        (PeerResult::Answered(self.words(given, &silences)?), Some(silences))
                    }
                    Round::Silences { labels, lasts } => {
                        self.outside.silence(*peer, silence(labels, *lasts, now));
                        let silences = self.outside.silences(*peer, now);
                        (PeerResult::Answered(self.words(&[], &silences)?), Some(silences))
                    }
                };
                Event::Peer(PeerSeen { peer: *peer, result, silences })
            }
            Happening::Mail { number, end } => {
                let mail = match number {
                    Some(number) => self.mails.get(number).copied(),
                    None => self.latest_mail,
                };
                let Some(mail) = mail else {
                    return Err(self.impossible("there is no such mail: none was to be sent yet"));
                };
                Event::Mailed(Mailed { mail, end: end.clone() })
            }
            Happening::Order { by, because, order } => self.commanded(by, because.clone(), order),
            Happening::Reload(policy) => Event::PolicyChanged(policy.clone()),
            Happening::Store(health) => Event::Store(*health),
            Happening::Wake => Event::Woke,
            Happening::Explain(service) => return Ok(What::Asked(*service)),
            Happening::Clock(by) => {
                self.wall = self.wall.saturating_add(*by);
                let far = Span(by.unsigned_abs());
                let to = if *by < 0 { "back" } else { "ahead" };
                return Ok(What::Aside(format!("the wall clock is set {to} by {far}")));
            }
        };
        Ok(What::Heard(Box::new(event)))
    }

    fn finished(&self, action: ActionId, of: Target, outcome: &Outcome) -> Event {
        Event::Finished(Finished { action, of, outcome: outcome.clone() })
    }

    fn commanded(&mut self, by: &str, because: Option<String>, order: &Order) -> Event {
        /// The first number of a person on most systems (login.defs(5), `UID_MIN`).
        const FIRST_PERSON: u32 = 1000;
        self.commands += 1;
        if !self.people.iter().any(|known| known == by) {
            self.people.push(by.to_owned());
        }
        let index = self.people.iter().position(|known| known == by).unwrap_or(0);
        let uid = FIRST_PERSON.saturating_add(u32::try_from(index).unwrap_or(u32::MAX));
        let by = Operator { uid, pid: None, name: Some(by.to_owned()) };
        Event::Commanded(Command { id: CommandId(self.commands), by, because, order: order.clone() })
    }

    /// What an Alertmanager says of each incident: it has what lasts, and took the end of what is over.
    fn words(
        &self,
        given: &[(About, Word)],
        silences: &[Silence],
    ) -> Result<BTreeMap<IncidentId, Word>, RunError> {
        let now = self.now();
        let is_last = |(id, incident): &(&IncidentId, &Incident)| {
            self.state.incident_of(&incident.trouble) == Some(**id)
        };
        let mut words = BTreeMap::new();
        let mut used = vec![false; given.len()];
        for (id, incident) in self.state.incidents.iter().filter(is_last) {
            let labels = incident.trouble.labels();
            let usual = match incident.ended {
                Some(_) => Word::Resolved,
                None if silences.iter().any(|silence| silence.covers(&labels, now.wall)) => Word::Suppressed,
                None => Word::Active,
            };
            let mut word = usual;
            for ((about, other), used) in given.iter().zip(&mut used) {
                if is_about(about, incident, &labels) {
                    (word, *used) = (other.clone(), true);
                }
            }
            words.insert(*id, word);
        }
        match used.iter().all(|used| *used) {
            true => Ok(words),
            false => Err(self.impossible("there is no such incident at this moment")),
        }
    }
}

fn is_about(about: &About, incident: &Incident, labels: &BTreeMap<String, String>) -> bool {
    match about {
        About::All => true,
        About::Named { alert, of } => {
            incident.trouble.name() == alert
                && of.iter().all(|part| labels.values().any(|value| value == part))
        }
    }
}

fn silence(labels: &[(String, String)], lasts: Span, now: Now) -> Silence {
    let matcher = |(name, value): &(String, String)| Matcher {
        name: name.clone(),
        value: value.clone(),
        is_regex: false,
        is_equal: true,
    };
    let ends = now.wall.0.saturating_add(i64::try_from(lasts.0).unwrap_or(i64::MAX));
    Silence { matchers: labels.iter().map(matcher).collect(), starts: now.wall, ends: Wall(ends) }
}
