//! `ready = { … }` and `live = { … }`: raw → checked. A server's own keys stand over its service's.

use super::checker::Checker;
use super::key::Key;
use super::limits::{self, SpanLimit};
use super::model::{Check, HttpCheck, Mode, ProbeSettings, Scheme, StatusSet};
use super::raw::{RawProbe, RawSize, RawStatus};
use super::value;
use crate::domain::time::Span;

/// With keep-alive a probe must come again before servers close idle connections (Node and uvicorn: 5 s), or every
/// other one fails for nothing.
const KEEP_ALIVE_INTERVAL_MAX: Span = Span::seconds(4);

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Moves traffic.
    Ready,
    /// Justifies a restart.
    Live,
}

impl Kind {
    /// As its key.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Ready => "ready",
            Kind::Live => "live",
        }
    }
}

/// A probe as a server and its service have it.
pub(crate) struct Layers<'r> {
    pub(crate) own: Option<(Key, &'r RawProbe)>,
    pub(crate) base: (Key, &'r RawProbe),
}

impl<'r> Layers<'r> {
    pub(crate) fn of_service(key: &Key, raw: &'r RawProbe) -> Layers<'r> {
        Layers { own: None, base: (key.clone(), raw) }
    }

    /// The value that counts, and the key that set it.
    fn pick<T>(&self, name: &str, get: impl Fn(&'r RawProbe) -> Option<T>) -> (Key, Option<T>) {
        let own = self.own.as_ref().and_then(|(key, raw)| Some((key.at(name), get(raw)?)));
        match own {
            Some((key, value)) => (key, Some(value)),
            None => (self.base.0.at(name), get(self.base.1)),
        }
    }

    /// The first key that only means something to an HTTP probe.
    fn http_key(&self) -> Option<Key> {
        let set = |name: &str, is_set: fn(&RawProbe) -> bool| {
            let (key, found) = self.pick(name, |raw| is_set(raw).then_some(()));
            found.map(|()| key)
        };
        set("path", |raw| raw.path.is_some())
            .or_else(|| set("status", |raw| raw.status.is_some()))
            .or_else(|| set("contains", |raw| raw.contains.is_some()))
            .or_else(|| set("scheme", |raw| raw.scheme.is_some()))
            .or_else(|| set("host", |raw| raw.host.is_some()))
            .or_else(|| set("max_body", |raw| raw.max_body.is_some()))
            .or_else(|| set("keep_alive", |raw| raw.keep_alive.is_some()))
    }
}

/// One probe.
pub(crate) fn probe(
    checker: &mut Checker<'_>,
    kind: Kind,
    mode: Mode,
    service_host: Option<&str>,
    layers: &Layers<'_>,
) -> ProbeSettings {
    let (interval_limit, timeout_limit) = match kind {
        Kind::Ready => (&limits::READY_INTERVAL, &limits::READY_TIMEOUT),
        Kind::Live => (&limits::LIVE_INTERVAL, &limits::LIVE_TIMEOUT),
    };
    let (interval_key, interval) = layers.pick("interval", |raw| raw.interval.as_ref());
    let interval = checker.span(&interval_key, interval, interval_limit);
    let (key, timeout) = layers.pick("timeout", |raw| raw.timeout.as_ref());
    let timeout = checker.span(&key, timeout, timeout_limit);
    let slow_after = slow_after(checker, kind, layers, timeout);
    let fast_interval = fast_interval(checker, layers, interval);
    let (key, jitter) = layers.pick("jitter_percent", |raw| raw.jitter_percent);
    let jitter = checker.number(&key, jitter, &limits::JITTER_PERCENT);
    let (key, rise) = layers.pick("rise", |raw| raw.rise);
    let rise = checker.number(&key, rise, &limits::RISE);
    let (key, fall) = layers.pick("fall", |raw| raw.fall);
    let fall = checker.number(&key, fall, &limits::FALL);
    let check = check(checker, kind, mode, layers);
    let check =
        if check { Check::Http(http(checker, mode, service_host, layers, interval)) } else { Check::Connect };
    ProbeSettings {
        check,
        interval,
        timeout,
        fast_interval,
        jitter_percent: u8::try_from(jitter).unwrap_or(u8::MAX),
        rise: u16::try_from(rise).unwrap_or(u16::MAX),
        fall: u16::try_from(fall).unwrap_or(u16::MAX),
        slow_after,
    }
}

/// Half of the timeout, unless it is written: what comes so near to failing is worth a word.
fn slow_after(checker: &mut Checker<'_>, kind: Kind, layers: &Layers<'_>, timeout: Span) -> Span {
    let (key, raw) = layers.pick("slow_after", |raw| raw.slow_after.as_ref());
    if kind == Kind::Live && raw.is_some() {
        checker.unfit(&key, "says nothing to a live probe: only `ready` knows slow answers");
    }
    let why = "a slower answer has failed already; with the timeout itself, no answer is slow";
    let limit = SpanLimit { default: Span(timeout.0 / 2), min: Span(1), max: timeout, why };
    checker.span(&key, raw, &limit)
}

/// Not longer than `interval`: the default follows a short interval, a written one must fit.
fn fast_interval(checker: &mut Checker<'_>, layers: &Layers<'_>, interval: Span) -> Span {
    let default = limits::FAST_INTERVAL.default.min(interval);
    let (key, raw) = layers.pick("fast_interval", |raw| raw.fast_interval.as_ref());
    let limit = SpanLimit { default, ..limits::FAST_INTERVAL };
    let fast = checker.span(&key, raw, &limit);
    if fast > interval {
        checker.unfit(
            &key,
            format!("{fast} is longer than interval ({interval}), and retries in doubt must be faster"),
        );
    }
    fast
}

/// Whether it is HTTP. What is not written follows from the rest: a path makes it HTTP.
fn check(checker: &mut Checker<'_>, kind: Kind, mode: Mode, layers: &Layers<'_>) -> bool {
    let (key, word) = layers.pick("check", |raw| raw.check.as_ref());
    match checker.word(&key, word, &[("http", true), ("connect", false)]) {
        Some(false) => {
            if let Some(key) = layers.http_key() {
                checker.unfit(&key, "says nothing to a probe with check = \"connect\"; write check = \"http\" or leave it out");
            }
            false
        }
        Some(true) => true,
        None => layers.http_key().is_some() || (kind == Kind::Ready && mode == Mode::Http),
    }
}

fn http(
    checker: &mut Checker<'_>,
    mode: Mode,
    service_host: Option<&str>,
    layers: &Layers<'_>,
    interval: Span,
) -> HttpCheck {
    let schemes = [("http", Scheme::Http), ("https", Scheme::Https)];
    let (key, scheme) = layers.pick("scheme", |raw| raw.scheme.as_ref());
    let scheme = checker.word(&key, scheme, &schemes).unwrap_or(Scheme::Http);
    if scheme == Scheme::Https && mode == Mode::Http {
        checker.unfit(
            &key,
            "HAProxy speaks plain HTTP to the servers of an HTTP service; for TLS servers set mode = \"tcp\"",
        );
    }
    let (keep_key, keep_alive) = layers.pick("keep_alive", |raw| raw.keep_alive);
    if keep_alive == Some(true) && interval > KEEP_ALIVE_INTERVAL_MAX {
        let message = format!(
            "needs an interval of at most {KEEP_ALIVE_INTERVAL_MAX}, not {interval}: servers close idle connections after 5 s, \
             and the next probe would fail for nothing"
        );
        checker.unfit(&keep_key, message);
    }
    let (host_key, host) = layers.pick("host", |raw| raw.host.as_ref());
    let host = checker.parse(&host_key, host, value::host).or_else(|| service_host.map(str::to_owned));
    let (path_key, path) = layers.pick("path", |raw| raw.path.as_ref());
    let path = checker.parse(&path_key, path, value::url_path).unwrap_or_else(|| "/health".to_owned());
    let (contains_key, contains) = layers.pick("contains", |raw| raw.contains.as_ref());
    HttpCheck {
        scheme,
        host,
        path,
        status: status(checker, layers),
        contains: checker.parse(&contains_key, contains, value::body_text),
        max_body: max_body(checker, layers),
        keep_alive: keep_alive.unwrap_or(false),
    }
}

fn status(checker: &mut Checker<'_>, layers: &Layers<'_>) -> StatusSet {
    let (key, raw) = layers.pick("status", |raw| raw.status.as_ref());
    match raw.map(|RawStatus(parts)| value::statuses(parts)) {
        None => StatusSet::success(),
        Some(Ok(statuses)) => statuses,
        Some(Err(message)) => {
            checker.wrong(&key, message);
            StatusSet::success()
        }
    }
}

fn max_body(checker: &mut Checker<'_>, layers: &Layers<'_>) -> u64 {
    let (key, raw) = layers.pick("max_body", |raw| raw.max_body.as_ref());
    let size = checker.parse(&key, raw.map(|RawSize(text)| text), value::size);
    let size = size.unwrap_or(limits::BODY_DEFAULT);
    if !(1..=limits::BODY_MAX).contains(&size) {
        checker.wrong(&key, format!("{size} bytes are not within 1 B and 1 MiB: a health page is short"));
    }
    size
}
