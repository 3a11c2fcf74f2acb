//! Default, bounds and the reason for them, of every number and duration. The reason is part of the message when somebody
//! oversteps.

use crate::domain::repair::STARTS_MAX;
use crate::domain::state::FAILBACKS_MAX;
use crate::domain::time::Span;

/// A duration's default and bounds.
pub(crate) struct SpanLimit {
    pub(crate) default: Span,
    pub(crate) min: Span,
    pub(crate) max: Span,
    pub(crate) why: &'static str,
}

/// A number's default and bounds.
pub(crate) struct NumberLimit {
    pub(crate) default: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
    pub(crate) why: &'static str,
}

const fn span(default: u64, min: u64, max: u64, why: &'static str) -> SpanLimit {
    SpanLimit { default: Span(default), min: Span(min), max: Span(max), why }
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;

/// Five seconds: a first round of default probes, with their retries, takes less than four.
pub(crate) const STARTUP_GRACE: SpanLimit =
    span(5 * SECOND, 0, 5 * MINUTE, "for that long after a start, a silent server is not left");

/// Two seconds: an overloaded machine delays a result by less; a frozen one by more.
pub(crate) const LATENESS: SpanLimit = span(
    2 * SECOND,
    100,
    MINUTE,
    "shorter, every busy moment voids results; longer, our own freezes count as theirs",
);

/// Thirty seconds: events tell the news, this finds what an event was lost for.
pub(crate) const RESYNC: SpanLimit = span(
    30 * SECOND,
    5 * SECOND,
    10 * MINUTE,
    "shorter loads the engine; longer keeps a lost event unnoticed",
);

/// One second, as HAProxy's template has it: a hang is noticed in about four.
pub(crate) const READY_INTERVAL: SpanLimit =
    span(SECOND, 50, 10 * MINUTE, "shorter is a load of its own on the server; longer is no protection");

/// One second: a health page that takes longer is not healthy for clients that wait two.
pub(crate) const READY_TIMEOUT: SpanLimit = span(
    SECOND,
    10,
    MINUTE,
    "shorter fails on a slow network; longer delays the failover by as much, several times",
);

/// A quarter of a second: failures in a row must come fast, and one dropped packet (200 ms) must not be two of them.
pub(crate) const FAST_INTERVAL: SpanLimit =
    span(250, 10, MINUTE, "shorter is a burst on a server that may be overloaded already");

/// Off. A GET that a hung server holds is then answered only after HAProxy's `timeouts.server`.
pub(crate) const RETRY_READS_AFTER: SpanLimit = span(
    0,
    100,
    10 * MINUTE,
    "shorter asks busy servers again and again; longer than your clients wait helps nobody",
);

/// Ten seconds: a restart is the last cure and need not come first.
pub(crate) const LIVE_INTERVAL: SpanLimit = span(10 * SECOND, 100, 10 * MINUTE, READY_INTERVAL.why);

/// Two seconds for a connect: one lost SYN costs one.
pub(crate) const LIVE_TIMEOUT: SpanLimit = span(2 * SECOND, 10, MINUTE, READY_TIMEOUT.why);

/// A minute: Alertmanager's own group wait is half of one, and three tries of each peer fit into it.
pub(crate) const FALLBACK_AFTER: SpanLimit = span(
    MINUTE,
    5 * SECOND,
    HOUR,
    "shorter mails when Alertmanager only restarts; longer leaves people asleep for as long",
);

/// A minute and a half: Alertmanager's group wait (30 s), the waits of a cluster (15 s for each peer), and its own mail.
pub(crate) const NOTIFY_GRACE: SpanLimit = span(
    90 * SECOND,
    10 * SECOND,
    HOUR,
    "shorter than Alertmanager's group wait, a restart of it within that time would tell nobody",
);

/// Thirty days: a monthly report still finds it.
pub(crate) const JOURNAL_AGE: SpanLimit = span(
    30 * 24 * HOUR,
    HOUR,
    3650 * 24 * HOUR,
    "the newest hour is always kept; `supervisor journal export` keeps what is to last",
);

/// 256 MiB: nobody's disk fills up because of us, and it is weeks of a busy site.
pub(crate) const JOURNAL_BYTES: u64 = 256 << 20;

/// See [`JOURNAL_BYTES`].
pub(crate) const JOURNAL_BYTES_MIN: u64 = 16 << 20;

/// See [`JOURNAL_BYTES`].
pub(crate) const JOURNAL_BYTES_MAX: u64 = 64 << 30;

/// A port, as TCP has them.
pub(crate) const PORT: NumberLimit =
    NumberLimit { default: 25, min: 1, max: 65_535, why: "it is the number of a TCP port" };

/// Half a minute: a service that starts slowly must not be killed for it, again and again.
pub(crate) const HEAL_GRACE: SpanLimit = span(
    30 * SECOND,
    0,
    HOUR,
    "shorter restarts what is still starting; longer leaves a dead process for as long",
);

/// Five within the window: what does not stay up after five starts does not stay up.
pub(crate) const RESTARTS: NumberLimit = NumberLimit {
    default: 5,
    min: 1,
    max: STARTS_MAX as u32 / 2,
    why: "more is a loop, not a cure; for none at all, mode = \"notify\"",
};

/// Twenty within the window: a whole site that crashes together is not cured by starting it all over and over.
pub(crate) const SITE_RESTARTS: NumberLimit = NumberLimit {
    default: 20,
    min: 1,
    max: 1000,
    why: "more is a storm on a site that is in trouble already",
};

/// Ten minutes, as the kubelet: what ran for so long begins to count anew.
pub(crate) const HEAL_WINDOW: SpanLimit = span(
    10 * MINUTE,
    MINUTE,
    24 * HOUR,
    "shorter makes the budgets no budgets; longer remembers what is over",
);

/// One second before the second start in a row.
pub(crate) const BACKOFF_FIRST: SpanLimit =
    span(SECOND, 100, 10 * MINUTE, "shorter hammers; longer leaves a service down that a start would cure");

/// A minute, as Docker itself.
pub(crate) const BACKOFF_LONGEST: SpanLimit = span(MINUTE, 100, HOUR, BACKOFF_FIRST.why);

/// Five minutes: a cause from outside that passes is noticed, and nothing is hammered.
pub(crate) const SLOW_RETRY: SpanLimit =
    span(5 * MINUTE, 10 * SECOND, 24 * HOUR, "shorter is no giving up; for never, stop the container");

/// Ten percent keeps a hundred probers from beating in step, and hardly delays any.
pub(crate) const JITTER_PERCENT: NumberLimit =
    NumberLimit { default: 10, min: 0, max: 50, why: "more than half of the interval is no interval" };

/// Two: one good answer in a row of bad ones is no recovery.
pub(crate) const RISE: NumberLimit =
    NumberLimit { default: 2, min: 1, max: 100, why: "with 0 a server would be up without an answer" };

/// Three, as HAProxy: two lost packets on a long line move no traffic. A crash is hard evidence and does not wait for it.
pub(crate) const FALL: NumberLimit =
    NumberLimit { default: 3, min: 1, max: 100, why: "with 0 a server would be down without a failure" };

/// 64 KiB hold every health page; a body without end is cut here.
pub(crate) const BODY_DEFAULT: u64 = 64 << 10;

/// The largest body that a probe reads; a thousand probes at once must fit in memory.
pub(crate) const BODY_MAX: u64 = 1 << 20;

/// A minute without a failure: a service that crashes in a loop is rarely up for so long.
pub(crate) const FAILBACK_AFTER: SpanLimit = span(
    MINUTE,
    SECOND,
    24 * HOUR,
    "shorter returns to a server that is still starting; for never, mode = \"manual\"",
);

/// Five minutes: a failover and a failback are two disturbances, and more than two in that time help nobody.
pub(crate) const HOLD_DOWN: SpanLimit =
    span(5 * MINUTE, 0, 24 * HOUR, "longer than a day is a person's decision: mode = \"manual\"");

/// Two in ten minutes: a third says that returning is not the cure.
pub(crate) const FAILBACK_LIMIT: NumberLimit = NumberLimit {
    default: 2,
    min: 1,
    max: FAILBACKS_MAX as u32,
    why: "more are not remembered; for none at all, mode = \"manual\"",
};

/// See [`FAILBACK_LIMIT`].
pub(crate) const LIMIT_WINDOW: SpanLimit =
    span(10 * MINUTE, MINUTE, 24 * HOUR, "shorter limits nothing; longer outlives the trouble");

/// One: a service that has several servers at a site for their number says so.
pub(crate) const MIN_SERVERS: NumberLimit =
    NumberLimit { default: 1, min: 1, max: 1000, why: "with 0 a site without a server would be healthy" };

/// Ten seconds: a container that is restarted is back within them, and moved sessions are no cure for that.
pub(crate) const THIN_GRACE: SpanLimit = span(
    10 * SECOND,
    0,
    HOUR,
    "shorter moves all traffic for every restart of one server; longer leaves too few servers alone",
);

/// None: HAProxy gives a server its whole share at once.
pub(crate) const SLOW_START: SpanLimit =
    span(0, 0, HOUR, "a server that needs longer to get warm is better brought back by hand");

/// Three within about a half-life: a crash and a deployment are two.
pub(crate) const FLAPPING_FALLS: NumberLimit = NumberLimit {
    default: 3,
    min: 0,
    max: 100,
    why: "0 trusts every server again at once, however often it fell",
};

/// Five minutes: trusted again some eight minutes after the third of three falls in a row.
pub(crate) const FLAPPING_HALF_LIFE: SpanLimit =
    span(5 * MINUTE, SECOND, 24 * HOUR, "shorter forgets before it can count; longer remembers what is over");

/// A server's slow and bad answers are forgotten with a half-life of so many of its probes' intervals: three in a row, or
/// every third of many, make it degraded.
pub(crate) const STRAIN_INTERVALS: u64 = 5;

/// See [`STRAIN_INTERVALS`].
pub(crate) const STRAIN_TIMES: u16 = 3;

/// 4096: enough for the demo and for most, within the usual 8192 descriptors (two for each connection).
pub(crate) const PROXY_MAXCONN: NumberLimit = NumberLimit {
    default: 4096,
    min: 10,
    max: 1_000_000,
    why: "HAProxy needs two descriptors and some 33 KiB for each connection",
};

/// No default: without a limit nothing queues.
pub(crate) const SERVER_MAXCONN: NumberLimit =
    NumberLimit { default: 0, min: 1, max: 1_000_000, why: "for no limit, leave it out" };

/// A group id, as Linux has them.
pub(crate) const GID: NumberLimit = NumberLimit {
    default: 0,
    min: 1,
    max: u32::MAX - 1,
    why: "it is the number of a group; leave it out for none",
};

/// Ten seconds: a reload takes under one; a worker that is not there after ten will not come.
pub(crate) const RELOAD_TIMEOUT: SpanLimit = span(
    10 * SECOND,
    SECOND,
    2 * MINUTE,
    "shorter undoes reloads that were fine; longer leaves a failed one standing",
);

/// Two seconds: a storm of changes becomes one reload, and old workers do not pile up.
pub(crate) const RELOAD_INTERVAL: SpanLimit =
    span(2 * SECOND, 100, 10 * MINUTE, "shorter piles up old workers; longer keeps changes waiting");

/// One second: a lost first packet is sent again after one; by then another server has answered.
pub(crate) const TIMEOUT_CONNECT: SpanLimit =
    span(SECOND, 50, MINUTE, "shorter fails on a slow network; longer keeps clients waiting for the dead");

/// One second: a client that waits two is better served elsewhere after one.
pub(crate) const TIMEOUT_QUEUE: SpanLimit = span(
    SECOND,
    10,
    5 * MINUTE,
    "shorter refuses what would have been served; longer keeps clients in a dead queue",
);

/// Half a minute of a client's silence.
pub(crate) const TIMEOUT_CLIENT: SpanLimit =
    span(30 * SECOND, SECOND, 24 * HOUR, "shorter cuts off slow clients; longer keeps dead connections");

/// Fifteen seconds for an answer; retries on a hung server wait that long when supervisor is not there.
pub(crate) const TIMEOUT_SERVER: SpanLimit =
    span(15 * SECOND, 100, 24 * HOUR, "shorter cuts off slow answers; longer keeps clients on a hung server");
