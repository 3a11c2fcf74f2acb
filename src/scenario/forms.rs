//! The language as a list: every form of a line, what it says, and an example. The errors of the parser and the tables of
//! docs/scenarios.md are made of it, and a test reads each example.

use super::setting::KEYS;
use std::fmt::Write;

/// One form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// The form: words as they are, and in capitals what stands for something.
    pub form: &'static str,
    /// What it says.
    pub says: &'static str,
    /// A line of this form.
    pub example: &'static str,
}

/// Forms that belong together: a table of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// The name of the table.
    pub name: &'static str,
    /// Its rows.
    pub forms: &'static [Form],
}

const fn form(form: &'static str, says: &'static str, example: &'static str) -> Form {
    Form { form, says, example }
}

/// Every table of the page but that of the settings.
pub const GROUPS: [Group; 8] = [
    Group {
        name: "cast",
        forms: &[
            form(
                "service NAME SITE…",
                "a service and its sites, best first, with one server `NAME-SITE` at each, in a container of the same \
                 name; `SITE*2`: two servers there, `NAME-SITE-1` and `NAME-SITE-2`",
                "service api onprem*2 cloud",
            ),
            form(
                "set KEY VALUE [for NAME]",
                "a setting, [below](#settings); for all, or for a service, a site, a server or a container",
                "set failback.after 10s for api",
            ),
            form(
                "container NAME [at SITE] [runs HAPROXY] [FACT=VALUE…]",
                "a container that is kept running besides those of servers; or [what Docker knows](#docker) of any",
                "container haproxy-server runs haproxy restart=always",
            ),
            form(
                "alertmanagers NAME…",
                "who is told of incidents; without it nobody is",
                "alertmanagers am1 am2",
            ),
            form(
                "proxies NAME…",
                "the HAProxy instances, before any service; without it there is one, `haproxy`",
                "proxies edge-1 edge-2",
            ),
            form(
                "engine NAME at SITE…",
                "the Docker engine of these sites, before any service; the others have `local`",
                "engine docker-2 at cloud",
            ),
            form("remove NAME", "a service or a container that the settings no longer name", "remove shop"),
        ],
    },
    Group {
        name: "time",
        forms: &[
            form("at TIME …", "something happens, so long after the script's beginning", "at 1m30s start"),
            form("wake", "time passes until supervisor's next deadline", "wake"),
            form(
                "until TIME wake",
                "time passes until then, and supervisor wakes at each deadline",
                "until 90s wake",
            ),
            form("at TIME wake", "a deadline comes at this very time", "at 70.2s wake"),
            form(
                "at TIME explain SERVICE",
                "somebody asks why a service is where it is; nothing happens",
                "at 30s explain api",
            ),
            form(
                "clock jumps [back] TIME",
                "the wall clock is set; deadlines run on another one",
                "clock jumps back 1h",
            ),
        ],
    },
    Group {
        name: "supervisor",
        forms: &[
            form("at TIME start", "supervisor begins to watch, with what it remembers", "at 0s start"),
            form("at TIME start empty", "the same, and it has forgotten everything", "at 60s start empty"),
            form(
                "at TIME reload",
                "the settings are read anew: `set`, `service`, `remove` and so on since then are in force from now on",
                "at 30s reload",
            ),
            form(
                "at TIME store degraded",
                "decisions do not reach the disk in time",
                "at 20s store degraded",
            ),
            form("at TIME store durable", "they do again", "at 25s store durable"),
        ],
    },
    Group {
        name: "probes",
        forms: &[
            form(
                "at TIME probe SERVER ok [TOOK]",
                "a `ready` probe found the server well, after so long; `all`: each of them did",
                "at 1s probe api-onprem ok 800ms",
            ),
            form(
                "at TIME probe SERVER status N",
                "it answered with a status that is not expected",
                "at 1s probe api-onprem status 503",
            ),
            form(
                "at TIME probe SERVER FAULT [TOOK]",
                "it failed: `refused`, `silent` (connected, no answer in time), `body` (not the expected one), `broken` \
                 (in the middle of the answer), `tls`; or on the way: `connect-timeout`, `unreachable`, `dns`; \
                 or was not made: `own-resources` (supervisor has no descriptor left)",
                "at 1s probe api-onprem silent",
            ),
            form(
                "at TIME probe SERVER connected",
                "a probe that only connects did",
                "at 1s probe api-cloud connected",
            ),
            form(
                "at TIME probe SERVER OUTCOME late TIME",
                "the result reaches supervisor so late: one of the two was frozen",
                "at 9s probe api-onprem silent late 3s",
            ),
            form(
                "at TIME live SERVER OUTCOME",
                "the same for a `live` probe, which moves nothing and may justify a restart",
                "at 1s live api-onprem silent",
            ),
            form(
                "at TIME prober SERVER silent for TIME",
                "a prober of ours gives no results",
                "at 40s prober api-onprem silent for 30s",
            ),
        ],
    },
    Group {
        name: "docker",
        forms: &[
            form(
                "at TIME docker lists [CONTAINER=STATE…]",
                "the engine answers, and lists its containers as they are: `running`, `paused`, `restarting`, \
                 `created`, `exited:N`, `exited:137:oom`, `dead`, `missing`; `running:new`: another of the same name",
                "at 5s docker lists api-onprem=exited:137 api-cloud=missing",
            ),
            form(
                "at TIME docker CONTAINER started",
                "`start` is announced",
                "at 5s docker api-onprem started",
            ),
            form(
                "at TIME docker CONTAINER died [N]",
                "`die`, with its exit code",
                "at 5s docker api-onprem died 137",
            ),
            form(
                "at TIME docker CONTAINER killed N",
                "`kill`: a signal was sent to it",
                "at 5s docker api-onprem killed 15",
            ),
            form(
                "at TIME docker CONTAINER stopped",
                "`stop`, the end of a `docker stop`",
                "at 5s docker api-onprem stopped",
            ),
            form("at TIME docker CONTAINER oom", "`oom`: no memory was left", "at 5s docker api-onprem oom"),
            form("at TIME docker CONTAINER paused", "`pause`, `unpause`", "at 5s docker api-onprem unpaused"),
            form(
                "at TIME docker CONTAINER destroyed",
                "`destroy`; the next `started` is of a new container",
                "at 5s docker api-onprem destroyed",
            ),
            form(
                "at TIME docker CONTAINER check WORD",
                "`health_status` of its image's check: `starting`, `healthy`, `unhealthy`",
                "at 5s docker api-onprem check unhealthy",
            ),
            form(
                "at TIME docker CONTAINER … unheard",
                "it happens, and supervisor is not there to hear it; the engine remembers it",
                "at 5s docker api-onprem died 1 unheard",
            ),
            form("at TIME docker lost", "the engine no longer answers", "at 6s docker lost"),
            form(
                "at TIME docker forgets [until TIME]",
                "the engine was started anew, and remembers nothing; or only what came after that time",
                "at 7s docker forgets until 6s",
            ),
            form(
                "at TIME docker live-restore",
                "from now on its containers outlive it",
                "at 7s docker live-restore",
            ),
            form("at TIME engine NAME …", "the same of one of several engines", "at 8s engine local lists"),
        ],
    },
    Group {
        name: "haproxy",
        forms: &[
            form(
                "at TIME haproxy sees [SERVICE=SITE…]",
                "HAProxy is looked at; its map is as before, but for these; `SERVICE=none`: no entry",
                "at 1s haproxy sees api=onprem",
            ),
            form(
                "at TIME haproxy sees check SERVER=WORD…",
                "its own check of a server: `L7OK`, `L4OK`, `down`",
                "at 1s haproxy sees check api-onprem=L7OK api-cloud=down",
            ),
            form(
                "at TIME haproxy sees serving SERVICE=SITE…",
                "where its answers came from since the look before",
                "at 9s haproxy sees serving api=cloud",
            ),
            form(
                "at TIME haproxy restarts [SERVICE=SITE…]",
                "another process answers; its map is read from the file, but for these",
                "at 9s haproxy restarts api=none",
            ),
            form("at TIME haproxy lost", "its sockets do not answer", "at 9s haproxy lost"),
            form(
                "at TIME haproxy belongs to NAME",
                "another supervisor owns it; or `nobody`; or `us` again",
                "at 9s haproxy belongs to node-2",
            ),
            form(
                "at TIME haproxy config loaded REVISION",
                "it runs the configuration of the settings; or `refused WORDS`; or others load another one, `contested WORDS`; or nobody can tell, `unproven WORDS`",
                "at 9s haproxy config refused line 3: unknown keyword",
            ),
            form(
                "at TIME route [SERVICE…]",
                "HAProxy takes the routes, and they are read back",
                "at 2s route",
            ),
            form(
                "at TIME haproxy routes [SERVICE…]",
                "the same of one of several: every form can name its HAProxy",
                "at 2s haproxy haproxy routes api",
            ),
            form(
                "at TIME evacuated SERVER",
                "the requests that a server held were freed; or `evacuation failed SERVER WORDS`, or `superseded`",
                "at 2s evacuation failed api-onprem no such server",
            ),
        ],
    },
    Group {
        name: "people",
        forms: &[
            form(
                "at TIME order failover SERVICE SITE [force] [pin] [for TIME] [seen N]",
                "Ada moves traffic, and prefers that site from now on; `seen`: the route's generation when she looked",
                "at 9s order failover api cloud for 2h pin because upgrade of the database",
            ),
            form(
                "at TIME order failback SERVICE [force]",
                "she ends that; force: although it is paused",
                "at 9s order failback api",
            ),
            form(
                "at TIME order pause SCOPE [for TIME]",
                "`all`, `service/NAME` or `site/NAME` is observed, and not acted on",
                "at 9s order pause service/api for 1h",
            ),
            form("at TIME order resume SCOPE", "she ends that", "at 9s order resume all"),
            form(
                "at TIME order drain SERVER [force] [for TIME]",
                "a server gets no new clients; `maint`: it gets nothing",
                "at 9s order drain api/api-cloud for 1h",
            ),
            form("at TIME order ready SERVER", "it is back in service", "at 9s order ready api/api-cloud"),
            form(
                "at TIME order test alert",
                "she wants to see whether alerts arrive",
                "at 9s order test alert",
            ),
            form(
                "at TIME order … because WORDS",
                "she says why",
                "at 9s order pause site/cloud because new switch",
            ),
            form("at TIME by NAME order …", "somebody else orders it", "at 9s by bob order failback api"),
        ],
    },
    Group {
        name: "healing and telling",
        forms: &[
            form("at TIME healed CONTAINER", "Docker has started or restarted it", "at 6s healed api-onprem"),
            form(
                "at TIME heal failed CONTAINER [WORDS]",
                "it could not; or `unasked`: Docker could not be asked, and nothing was done; or `unknown`: nobody knows; or `superseded`: somebody else was first",
                "at 6s heal failed api-onprem no such image",
            ),
            form(
                "at TIME alertmanager NAME answers [ALERT=WORD…]",
                "it has what it was told of, but for these: `active`, `suppressed`, `absent`, `resolved`, `rejected`",
                "at 6s alertmanager am1 answers PoolDown/api/onprem=absent",
            ),
            form(
                "at TIME alertmanager NAME fails WORDS",
                "it does not take part",
                "at 6s alertmanager am1 fails connection refused",
            ),
            form(
                "at TIME alertmanager NAME silences LABEL=VALUE… for TIME",
                "it answers, and somebody has silenced this there",
                "at 6s alertmanager am1 silences service=api for 1h",
            ),
            form(
                "at TIME mail [NUMBER] accepted [N]",
                "a relay took the latest mail for so many; or `deferred WORDS`, `dead WORDS`, `partly dead WORDS` \
                 (others have it), `unneeded` (Alertmanager has its incidents after all)",
                "at 6s mail deferred 451 greylisted",
            ),
        ],
    },
];

/// What a line can begin with.
pub(super) fn first_words() -> Vec<&'static str> {
    let mut words: Vec<&str> = all().filter_map(|form| form.form.split(' ').next()).collect();
    words.dedup();
    words.sort_unstable();
    words.dedup();
    words
}

/// What can follow `at TIME`.
pub(super) fn events() -> Vec<&'static str> {
    let mut words: Vec<&str> =
        all().filter_map(|form| event(form.form)).filter(|word| *word != "…").collect();
    words.sort_unstable();
    words.dedup();
    words
}

fn all() -> impl DoubleEndedIterator<Item = &'static Form> {
    GROUPS.iter().flat_map(|group| group.forms)
}

fn event(form: &'static str) -> Option<&'static str> {
    form.strip_prefix("at TIME ")?.split(' ').next()
}

/// A line that is right, and as much like the one with these words as possible.
pub(super) fn example(words: &[&str]) -> Option<&'static str> {
    if let ["set", key, ..] = words
        && let Some(known) = KEYS.iter().find(|known| known.key == *key)
    {
        return Some(known.example);
    }
    let event_of = match words {
        ["at", _, word, ..] if events().contains(word) => Some(*word),
        _ => None,
    };
    let fits = |form: &&Form| {
        form.example.split(' ').next() == words.first().copied()
            && event_of.is_none_or(|word| event(form.form) == Some(word))
    };
    let shared = |form: &&Form| {
        let known: Vec<&str> = form.form.split(' ').chain(form.example.split(' ')).collect();
        words.iter().filter(|word| known.contains(*word)).count()
    };
    // Of several that are as much like it, the first: it is the most usual.
    Some(all().rev().filter(fits).max_by_key(shared)?.example)
}

/// The rows of a table of the page, as they stand there.
pub fn table(group: &Group) -> String {
    let mut text = String::from("| line | says | for example |\n|---|---|---|\n");
    for form in group.forms {
        let _ =
            writeln!(text, "| `{}` | {} | `{}` |", form.form.replace('|', "\\|"), form.says, form.example);
    }
    text
}

/// The same for the settings.
pub fn settings_table() -> String {
    let mut text = String::from("| key | values | else | says | for example |\n|---|---|---|---|---|\n");
    for key in &KEYS {
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | `{}` |",
            key.key, key.value, key.usual, key.says, key.example
        );
    }
    text
}
