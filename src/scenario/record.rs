//! One step for programs: a line of `supervisor scenario --format json`.

use super::happened::{announced, happened};
use super::world::{Step, What};
use crate::domain::action::Action;
use crate::domain::event::{ContainerEvent, Event};
use crate::domain::id::{ServiceId, SiteId};
use crate::domain::reason::Reason;
use crate::present::{self, Level};
use serde::Serialize;
use std::collections::BTreeMap;

/// One step.
#[derive(Debug, Serialize)]
pub struct Record<'a> {
    /// The line of the script, from 1.
    pub line: usize,
    /// Milliseconds since the script's beginning.
    pub at_ms: u64,
    /// What happened, in words.
    pub happened: String,
    /// The event, as the journal has it; none: supervisor heard of nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<&'a Event>,
    /// What happened and was not heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unheard: Option<&'a ContainerEvent>,
    /// What was decided, or stands, and why.
    pub reasons: Vec<ReasonRecord<'a>>,
    /// What is done.
    pub actions: Vec<&'a Action>,
    /// Where each service's traffic goes after it.
    pub routes: BTreeMap<ServiceId, SiteId>,
}

/// One reason.
#[derive(Debug, Serialize)]
pub struct ReasonRecord<'a> {
    /// In words.
    pub words: String,
    /// How loudly it is logged.
    pub level: Level,
    /// As data.
    pub reason: &'a Reason,
}

impl<'a> Record<'a> {
    /// The record of a step.
    pub fn of(step: &'a Step<'_>) -> Record<'a> {
        let (words, event, unheard) = match &step.what {
            What::Heard(event) => (happened(event, step.state, step.now), Some(event.as_ref()), None),
            What::Unheard(event) => (announced(event, step.state), None, Some(event)),
            What::Asked(service) => (format!("somebody asks about {service}"), None, None),
            What::Aside(words) => (words.clone(), None, None),
        };
        let reasons = step.decision.reasons.iter().chain(&step.standing);
        let reasons = reasons.map(|reason| ReasonRecord {
            words: present::reason(reason),
            level: present::log_level(reason),
            reason,
        });
        let routes =
            step.state.services.iter().filter_map(|(id, service)| Some((*id, service.placement.site()?)));
        Record {
            line: step.line,
            at_ms: step.at.0,
            happened: words,
            event,
            unheard,
            reasons: reasons.collect(),
            actions: step.decision.actions.iter().collect(),
            routes: routes.collect(),
        }
    }
}
