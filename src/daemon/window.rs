//! What the loop shows: the log, the view, the event lines, the metrics.

use super::core::{Core, Step};
use crate::domain::event::{Event, Probed};
use crate::domain::{Boot, Decision, Now, ServerId, Span, State};
use crate::present::{self, Level};
use crate::status::{EventLine, LastProbe, Meta, Metrics, View};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// The view is made anew at most this often while things change: faster than anybody reads, and its cost (it grows with the
/// number of services) stays bounded.
const VIEW_AT_MOST_EVERY: Span = Span(100);

/// The view is made anew at least this often: it holds ages, and its own age is what `/health` judges the loop by.
const VIEW_AT_LEAST_EVERY: Span = Span(1_000);

/// The loop's window.
pub(super) struct Window {
    view: watch::Sender<Arc<View>>,
    live: broadcast::Sender<Arc<EventLine>>,
    metrics: Arc<Metrics>,
    meta: Meta,
    probes: BTreeMap<ServerId, LastProbe>,
    made: Boot,
    stale: bool,
}

impl Window {
    pub(super) fn new(
        view: watch::Sender<Arc<View>>,
        live: broadcast::Sender<Arc<EventLine>>,
        metrics: Arc<Metrics>,
        meta: Meta,
    ) -> Window {
        Window { view, live, metrics, meta, probes: BTreeMap::new(), made: Boot(i64::MIN), stale: true }
    }

    /// Notes what a probe found. False if its server is no longer in the settings: the result was in flight when they
    /// changed, nothing can follow from it, and view and metrics must not show the server again.
    pub(super) fn note(&mut self, event: &Event, state: &State) -> bool {
        if let Event::Probed(Probed { server, outcome, ended, .. }) = event {
            if state.policy.server(*server).is_none() {
                return false;
            }
            self.probes.insert(*server, LastProbe { outcome: *outcome, ended: *ended });
        }
        true
    }

    /// Counts an event from which nothing followed.
    pub(super) fn uneventful(&self, event: &Event) {
        self.metrics.record(event, &Decision::default());
    }

    /// Tells what followed from an event: to the log, to those who follow, to the metrics.
    pub(super) fn tell(&mut self, step: &Step) {
        let record = &step.record;
        self.metrics.record(&record.event, &record.decision);
        self.metrics.breached(step.breaches.len());
        for breach in &step.breaches {
            tracing::error!(seq = record.seq, "broken invariant, please report this: {breach}");
        }
        for (line, reason) in EventLine::from_record(record.seq, record.now, &record.decision.reasons)
            .into_iter()
            .zip(&record.decision.reasons)
        {
            let service = line.service.map(|service| service.to_string()).unwrap_or_default();
            let (code, words, seq) = (&line.code, &line.words, line.seq);
            match present::log_level(reason) {
                Level::Warn => tracing::warn!(code, service, seq, "{words}"),
                Level::Info => tracing::info!(code, service, seq, "{words}"),
                Level::Debug => tracing::debug!(code, service, seq, "{words}"),
            }
            // Nobody follows: nothing is lost, the journal has it.
            let _ = self.live.send(Arc::new(line));
        }
        if let Event::PolicyChanged(policy) = &record.event {
            self.probes.retain(|server, _| policy.server(*server).is_some());
        }
        self.stale = true;
    }

    /// What is wrong with the settings on the disk and with the listeners; empty when nothing is.
    pub(super) fn set_problems(&mut self, problems: Vec<String>) {
        self.meta.problems = problems;
        self.stale = true;
    }

    /// When the view wants to be made anew if nothing happens.
    pub(super) fn next_view(&self, now: Boot) -> Span {
        let due = self.made + if self.stale { VIEW_AT_MOST_EVERY } else { VIEW_AT_LEAST_EVERY };
        due.since(now)
    }

    /// Makes the view anew if it is time.
    pub(super) fn refresh(&mut self, core: &Core, now: Now) {
        if self.next_view(now.boot) == Span::ZERO {
            self.view.send_replace(Arc::new(View::of(core.state(), now, &self.probes, &self.meta)));
            self.made = now.boot;
            self.stale = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::witness::ProbeOutcome;

    #[test]
    fn a_result_that_was_in_flight_when_its_server_was_removed_leaves_no_trace() {
        let meta = Meta::default();
        let state = State::default();
        let now = Now::default();
        let (view, _seen) = watch::channel(Arc::new(View::of(&state, now, &BTreeMap::new(), &meta)));
        let metrics = Arc::new(Metrics::default());
        let mut window = Window::new(view, broadcast::Sender::new(1), Arc::clone(&metrics), meta);
        let server = ServerId { service: "api".parse().unwrap(), server: "api-gone".parse().unwrap() };
        let outcome = ProbeOutcome::Healthy { status: 200, took: Span(3) };
        let (due, started, ended) = (Boot(0), Boot(0), Boot(3));
        let event = Event::Probed(Probed { server, due, started, ended, outcome });
        assert!(!window.note(&event, &state), "nobody is to hear of it");
        assert!(window.probes.is_empty(), "{:?}", window.probes);
    }
}
