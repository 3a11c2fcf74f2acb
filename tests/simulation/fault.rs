//! What can go wrong, each with a name and a rate.

use crate::clockwork::Ms;
use crate::plan::Cast;
use serde::{Deserialize, Serialize};

/// One fault: what, to whom, for how long, how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// To which of those that it can happen to; counted on and on.
    pub(crate) whom: usize,
    /// For so long, where it lasts.
    pub(crate) lasts: Ms,
    /// As the kind has it: a code, a percentage, a number of milliseconds.
    pub(crate) much: u32,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $rate:literal,)*) => {
        /// Kinds of faults.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub(crate) enum Kind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl Kind {
            pub(crate) fn all() -> impl Iterator<Item = Kind> {
                [$(Kind::$kind),*].into_iter()
            }

            /// As it is counted and printed.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Kind::$kind => $name,)* }
            }

            /// How often it comes, against the others that a seed has.
            pub(crate) fn rate(self) -> u32 {
                match self { $(Kind::$kind => $rate,)* }
            }
        }
    };
}

kinds! {
    /// A process ends with an error.
    Crash "crash" 12,
    /// It ends by itself, without one.
    CleanExit "clean exit" 2,
    /// The kernel kills it for want of memory.
    OutOfMemory "out of memory" 3,
    /// It dies soon after each start.
    CrashLoop "crash loop" 4,
    /// Starts fail.
    StartFails "start fails" 3,
    /// It accepts connections and says nothing.
    Hang "hang" 8,
    /// It answers with an error.
    Sick "sick" 6,
    /// It answers slowly.
    Slow "slow" 3,
    /// Somebody freezes it.
    Pause "pause" 4,
    /// Probes of a server find what is not so.
    ProbeLies "probe lies" 4,
    /// Probes end late.
    ProbeLate "probe late" 3,
    /// No descriptor is left for probes.
    OwnResources "own resources" 1,
    /// A prober falls silent.
    ProberSilent "prober silent" 2,
    /// A person stops a container.
    Stop "docker stop" 8,
    /// A person kills one.
    Kill "docker kill" 4,
    /// A person sends a harmless signal.
    Hangup "docker kill -s HUP" 3,
    /// A person starts one that does not run.
    StartByHand "docker start" 4,
    /// A person restarts one.
    Restart "docker restart" 4,
    /// A person creates one anew.
    Recreate "container created anew" 3,
    /// Events of an engine are lost.
    EventLost "event lost" 3,
    /// Events come twice.
    EventDoubled "event doubled" 3,
    /// Events come late, and pass each other.
    EventReordered "event reordered" 3,
    /// The stream is dead, and the connection is not.
    StreamDead "stream dead" 3,
    /// An engine is shut down, and started again.
    EngineDown "engine down" 4,
    /// It is killed.
    EngineKilled "engine killed" 3,
    /// It answers no more, for a while.
    EngineHangs "engine hangs" 3,
    /// It remembers little of the past.
    EngineForgets "engine forgets" 2,
    /// An HAProxy is restarted.
    ProxyRestart "haproxy restarted" 4,
    /// It is away for a while.
    ProxyDown "haproxy down" 3,
    /// Somebody else reloads it.
    ProxyReload "haproxy reloaded" 4,
    /// Its binary refuses the next configuration.
    ProxyRefuses "haproxy refuses configuration" 3,
    /// Somebody edits its map.
    ProxyEdit "haproxy map edited" 4,
    /// Somebody takes a server out in it by hand.
    ProxyAdmin "haproxy server set by hand" 3,
    /// Another supervisor owns it for a while.
    ProxyForeign "haproxy foreign" 2,
    /// Its sockets do not answer, and traffic flows.
    ProxyDeaf "haproxy deaf" 3,
    /// It says yes to a route and does not take it.
    RouteNotTaken "route not taken" 3,
    /// The map's file is not written.
    MapFileLost "map file lost" 2,
    /// An Alertmanager is away.
    PeerDown "alertmanager down" 6,
    /// It answers nothing.
    PeerHangs "alertmanager hangs" 3,
    /// It says yes and keeps nothing.
    PeerLoses "alertmanager loses" 3,
    /// It refuses alerts.
    PeerRejects "alertmanager rejects" 2,
    /// It restarts, and forgets.
    PeerRestart "alertmanager restarts" 3,
    /// Somebody silences a service there.
    PeerSilences "alertmanager silences" 2,
    /// A relay is away.
    RelayDown "relay down" 4,
    /// It says "later".
    RelayDefers "relay defers" 3,
    /// It refuses a recipient.
    RelayRefuses "relay refuses" 2,
    /// It takes a mail, and its answer is lost.
    RelayLosesReply "relay's answer lost" 4,
    /// It is too busy for anybody, or has no room.
    RelayDeclines "relay declines" 3,
    /// It says nothing after the greeting.
    RelaySilent "relay silent" 2,
    /// Commits take long.
    DiskSlow "disk slow" 4,
    /// Commits fail.
    DiskFull "disk full" 4,
    /// A commit hangs.
    DiskHangs "disk hangs" 3,
    /// A record is torn: what comes later cannot be read.
    RecordTorn "record torn" 1,
    /// The process is killed, and started again.
    ProcessKilled "process killed" 10,
    /// It is killed right after its next decision: after the act, before the commit, in between.
    KilledInStep "process killed in a step" 8,
    /// Another one begins at once: what the old one had begun ends while the new one runs.
    Overlap "supervisors overlap" 4,
    /// It is frozen.
    ProcessFrozen "process frozen" 4,
    /// The machine starts anew, with another clock.
    Reboot "reboot" 3,
    /// The wall clock is set.
    ClockJumps "clock jumps" 3,
    /// Nobody reaches a site but what is in it.
    SiteCut "site cut off" 5,
    /// We reach nothing; HAProxy does.
    WeAreCut "we are cut off" 4,
    /// We do not reach one site; HAProxy does.
    PathCut "our path cut" 4,
    /// A site has no power.
    SiteDead "site dead" 4,
    /// A person moves traffic.
    OrderFailover "order failover" 6,
    /// A person ends that.
    OrderFailback "order failback" 4,
    /// A person pauses something.
    OrderPause "order pause" 4,
    /// A person ends a pause.
    OrderResume "order resume" 3,
    /// A person takes a server out, or back.
    OrderMaintain "order maintain" 5,
    /// A person wants to see an alert.
    OrderTest "order test" 2,
    /// Two people order at once.
    TwoAtOnce "two orders at once" 3,
    /// The settings change.
    PolicyReload "policy reload" 4,
}

impl Fault {
    /// One of `kind`; `left`: so long until all faults end.
    pub(crate) fn draw(kind: Kind, cast: &Cast, rng: &mut fastrand::Rng, left: Ms) -> Fault {
        let servers = cast.servers().len().max(1);
        let whom = rng.usize(..servers * 6);
        // Most are short; what lasts meets the next one.
        let longest = [2_000, 10_000, 30_000, 90_000, 240_000][rng.usize(..5)];
        let lasts = rng.i64(50..=longest).min(left);
        let much = match kind {
            Kind::Crash | Kind::CrashLoop => [1, 2, 134, 139, 255][rng.usize(..5)],
            Kind::ProbeLies | Kind::EventLost | Kind::EventDoubled | Kind::EventReordered => rng.u32(10..=90),
            Kind::ProbeLate | Kind::DiskSlow | Kind::Slow => rng.u32(100..=5_000),
            _ => rng.u32(..1_000),
        };
        Fault { kind, whom, lasts, much }
    }
}
