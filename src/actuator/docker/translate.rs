//! From Docker's words to ours. Total: what this version does not know is no evidence, and no error.

use crate::domain::event::{
    BorrowedNetwork, ComposeService, ContainerSign, ContainerStatus, DEPENDS_ON_MAX, DockersCheck,
    DockersPolicy, Facts, LABEL_MAX, Lender,
};
use crate::domain::id::ContainerName;
use crate::domain::policy::HealMode;
use crate::domain::time::Span;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum as Status, EventMessage,
    EventMessageTypeEnum, HealthConfig, HealthStatusEnum, RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::{BTreeSet, HashMap};

/// An event about a container, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Which event it is.
    pub key: Key,
    /// The container's name.
    pub name: ContainerName,
    /// The name it had, if it was renamed.
    pub old_name: Option<ContainerName>,
    /// What the core is told; none when only the list has to be read anew.
    pub sign: Option<ContainerSign>,
}

/// What makes an event the same event when it comes twice: a stream that begins at a time repeats what happened in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// When it happened, by the engine's clock: nanoseconds since the Unix epoch.
    pub nanoseconds: i64,
    /// The container's id.
    pub id: String,
    /// What happened, in Docker's word.
    pub action: String,
}

/// The event, if it is about a container's life. Filters given to the engine are a courtesy: it ignores those it does
/// not know.
pub(super) fn heard(message: EventMessage) -> Option<Heard> {
    if message.typ != Some(EventMessageTypeEnum::CONTAINER) {
        return None;
    }
    let action = message.action?;
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    let number = |key: &str| attributes.get(key).and_then(|text| text.parse().ok());
    let sign = match action.as_str() {
        "start" => Some(ContainerSign::Started),
        "die" => Some(ContainerSign::Died { exit: number("exitCode") }),
        "oom" => Some(ContainerSign::OutOfMemory),
        "kill" => Some(ContainerSign::Killed { signal: number("signal") }),
        "stop" => Some(ContainerSign::Stopped),
        "pause" => Some(ContainerSign::Paused),
        "unpause" => Some(ContainerSign::Unpaused),
        "destroy" => Some(ContainerSign::Destroyed),
        "health_status: healthy" => Some(ContainerSign::Checked(DockersCheck::Healthy)),
        "health_status: unhealthy" => Some(ContainerSign::Checked(DockersCheck::Unhealthy)),
        "create" | "rename" => None,
        // `exec_*`, `attach`, `top`, `restart` (which follows its `start`), and whatever comes.
        _ => return None,
    };
    let name =
        |key: &str| attributes.get(key).map(|name| ContainerName(name.trim_start_matches('/').to_owned()));
    let key = Key { nanoseconds: message.time_nano.unwrap_or(0), id: actor.id.unwrap_or_default(), action };
    Some(Heard { key, name: name("name")?, old_name: name("oldName"), sign })
}

/// A container's status, with what Docker tells about its end.
pub(super) fn status(state: &ContainerState) -> ContainerStatus {
    match state.status {
        Some(Status::RUNNING) => ContainerStatus::Running,
        Some(Status::PAUSED) => ContainerStatus::Paused,
        Some(Status::RESTARTING) => ContainerStatus::Restarting,
        Some(Status::CREATED) => ContainerStatus::Created,
        Some(Status::EXITED) => ContainerStatus::Exited {
            exit: state.exit_code.and_then(|code| i32::try_from(code).ok()),
            oom: state.oom_killed.unwrap_or(false),
        },
        Some(Status::REMOVING | Status::DEAD) => ContainerStatus::Dead,
        Some(Status::STOPPING | Status::EMPTY) | None => ContainerStatus::Unknown,
    }
}

/// What `inspect` tells about healing.
pub(super) fn facts(found: &ContainerInspectResponse) -> Facts {
    let usual = Facts::default();
    let host = found.host_config.as_ref();
    let policy = host.and_then(|host| host.restart_policy.as_ref());
    let config = found.config.as_ref();
    let seconds =
        config.and_then(|config| config.stop_timeout).and_then(|seconds| u64::try_from(seconds).ok());
    let signal = config.and_then(|config| config.stop_signal.as_deref()).and_then(signal_number);
    let check = found.state.as_ref().and_then(|state| state.health.as_ref()?.status);
    let labels = config.and_then(|config| config.labels.as_ref());
    let (heal, heal_unknown) = match labels.map(heal_mode) {
        Some(Ok(mode)) => (mode, None),
        Some(Err(value)) => (None, Some(value)),
        None => (None, None),
    };
    Facts {
        restart: policy.map_or(usual.restart, dockers_policy),
        restarts: found.restart_count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0),
        stop_signal: signal.unwrap_or(usual.stop_signal),
        stop_timeout: seconds.map_or(usual.stop_timeout, Span::seconds),
        check: match check {
            Some(HealthStatusEnum::STARTING) => Some(DockersCheck::Starting),
            Some(HealthStatusEnum::HEALTHY) => Some(DockersCheck::Healthy),
            Some(HealthStatusEnum::UNHEALTHY) => Some(DockersCheck::Unhealthy),
            Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => None,
        },
        check_takes: config
            .and_then(|config| config.healthcheck.as_ref())
            .map_or(usual.check_takes, check_takes),
        heal,
        heal_unknown,
        started: started(found),
        depends_on: labels.map(depends_on).unwrap_or_default(),
        network: network_of(found).map(|of| BorrowedNetwork { of, name: None, lender: Lender::Unknown }),
        compose: labels.and_then(compose_service),
        guessed: false,
    }
}

/// When a container's process was started last; none if it never was, which Docker writes as the year 1.
pub(super) fn started(found: &ContainerInspectResponse) -> Option<i64> {
    let at = found.state.as_ref()?.started_at.as_deref()?.parse::<jiff::Timestamp>().ok()?;
    i64::try_from(at.as_nanosecond()).ok().filter(|at| *at > 0)
}

/// The container whose network it uses (`HostConfig.NetworkMode` is `container:ID`): the engine's name for it, as long as an
/// id or a name is.
fn network_of(found: &ContainerInspectResponse) -> Option<String> {
    let mode = found.host_config.as_ref()?.network_mode.as_deref()?;
    let of = mode.strip_prefix("container:")?;
    (of.len() <= CONTAINER_NAME_MAX && is_name(of)).then(|| of.to_owned())
}

/// The container whose network another one uses, as it was found.
pub(super) fn lender(found: &ContainerInspectResponse) -> (Option<ContainerName>, Lender) {
    let name = found.name.as_deref().map(|name| ContainerName(name.trim_start_matches('/').to_owned()));
    let runs = found
        .state
        .as_ref()
        .is_some_and(|state| matches!(status(state), ContainerStatus::Running | ContainerStatus::Paused));
    (name, Lender::There { runs, started: started(found) })
}

/// The names in the label. What is no name stays, up to a length: the core tells people that there is no such container.
fn depends_on(labels: &HashMap<String, String>) -> BTreeSet<ContainerName> {
    let Some(value) = labels.get(DEPENDS_ON_LABEL) else { return BTreeSet::new() };
    // The last piece is all that is beyond the bound.
    let pieces = value.splitn(DEPENDS_ON_MAX + 1, ',').map(|piece| piece.trim().trim_start_matches('/'));
    let bounded = |piece: &str| ContainerName(piece.chars().take(CONTAINER_NAME_MAX).collect());
    pieces.filter(|piece| !piece.is_empty()).map(bounded).collect()
}

/// Where Docker Compose has a container from. It goes into a command that a person types, so only plain names do.
fn compose_service(labels: &HashMap<String, String>) -> Option<ComposeService> {
    let label = |key: &str| {
        let value = labels.get(key).filter(|value| value.len() <= CONTAINER_NAME_MAX && is_name(value))?;
        Some(value.clone())
    };
    let project = label("com.docker.compose.project")?;
    Some(ComposeService { project, service: label("com.docker.compose.service")? })
}

/// Docker's rule for names (`[a-zA-Z0-9][a-zA-Z0-9_.-]+`): nothing else may enter a URL's path.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain)
}

/// The interval and the timeout of a health check; Docker gives nanoseconds, and 0 for its default.
fn check_takes(check: &HealthConfig) -> Span {
    const DEFAULT: Span = Span::seconds(30);
    let span = |nanoseconds: Option<i64>| {
        let set = nanoseconds.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        set.map_or(DEFAULT, |n| Span(n.div_ceil(1_000_000)))
    };
    span(check.interval) + span(check.timeout)
}

fn dockers_policy(policy: &RestartPolicy) -> DockersPolicy {
    match policy.name {
        Some(RestartPolicyNameEnum::ALWAYS) => DockersPolicy::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => DockersPolicy::UnlessStopped,
        Some(RestartPolicyNameEnum::ON_FAILURE) => {
            let most = policy.maximum_retry_count.and_then(|most| u32::try_from(most).ok()).unwrap_or(0);
            DockersPolicy::OnFailure { most }
        }
        Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) | None => DockersPolicy::No,
    }
}

/// `SIGTERM`, `TERM` or `15` (Docker takes all three).
fn signal_number(text: &str) -> Option<i32> {
    let text = text.trim();
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    Some(match name {
        "HUP" => libc::SIGHUP,
        "INT" => libc::SIGINT,
        "QUIT" => libc::SIGQUIT,
        "KILL" => libc::SIGKILL,
        "USR1" => libc::SIGUSR1,
        "USR2" => libc::SIGUSR2,
        "TERM" => libc::SIGTERM,
        "CONT" => libc::SIGCONT,
        "STOP" => libc::SIGSTOP,
        "WINCH" => libc::SIGWINCH,
        "PWR" => libc::SIGPWR,
        // systemd as the first process: SIGRTMIN+3.
        _ => {
            let beyond = name.strip_prefix("RTMIN+").map_or(Some(0), |text| text.parse::<i32>().ok())?;
            return name.starts_with("RTMIN").then(|| libc::SIGRTMIN() + beyond);
        }
    })
}

/// What the labels ask for: ours, else those of autoheal and deunhealth, which others use already. An error is the value of
/// ours that nobody knows, up to a length: a misspelt label must not be passed over in silence.
pub(super) fn heal_mode(labels: &HashMap<String, String>) -> Result<Option<HealMode>, String> {
    if let Some(value) = labels.get(HEAL_LABEL) {
        return match value.as_str() {
            "auto" => Ok(Some(HealMode::Auto)),
            "always" => Ok(Some(HealMode::Always)),
            "notify" => Ok(Some(HealMode::Notify)),
            "never" => Ok(Some(HealMode::Never)),
            other => Err(other.chars().take(LABEL_MAX).collect()),
        };
    }
    let says =
        |label: &str, word: &str| labels.get(label).is_some_and(|value| value.eq_ignore_ascii_case(word));
    if says("autoheal.restart.enable", "false") || says("autoheal", "false") {
        return Ok(Some(HealMode::Notify));
    }
    let on = ["autoheal", "deunhealth.restart.on.unhealthy"].iter().any(|label| says(label, "true"));
    Ok(on.then_some(HealMode::Auto))
}

/// How a container asks to be healed.
const HEAL_LABEL: &str = "supervisor.heal";

/// The containers that are to run before a container is started: their names, with commas between them.
const DEPENDS_ON_LABEL: &str = "supervisor.depends-on";

/// Every label that is ours.
pub(super) const OUR_LABELS: [&str; 2] = [HEAL_LABEL, DEPENDS_ON_LABEL];

/// Docker bounds no name; a hostname, which it makes of one, has 63 characters, an id 64, a name in DNS 255.
const CONTAINER_NAME_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(json: &str) -> EventMessage {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn every_sign_is_read_with_its_number() {
        let table = [
            ("start", "", ContainerSign::Started),
            ("die", r#","exitCode":"137""#, ContainerSign::Died { exit: Some(137) }),
            ("die", "", ContainerSign::Died { exit: None }),
            ("die", r#","exitCode":"many""#, ContainerSign::Died { exit: None }),
            ("oom", "", ContainerSign::OutOfMemory),
            ("kill", r#","signal":"15""#, ContainerSign::Killed { signal: Some(15) }),
            ("stop", "", ContainerSign::Stopped),
            ("pause", "", ContainerSign::Paused),
            ("unpause", "", ContainerSign::Unpaused),
            ("destroy", "", ContainerSign::Destroyed),
            ("health_status: healthy", "", ContainerSign::Checked(DockersCheck::Healthy)),
            ("health_status: unhealthy", "", ContainerSign::Checked(DockersCheck::Unhealthy)),
        ];
        for (action, more, sign) in table {
            let json = format!(
                r#"{{"Type":"container","Action":"{action}","timeNano":7,
                    "Actor":{{"ID":"abc","Attributes":{{"name":"api"{more}}}}}}}"#
            );
            let heard = heard(message(&json)).unwrap();
            assert_eq!((heard.name.0.as_str(), heard.sign), ("api", Some(sign)), "{json}");
            assert_eq!(heard.key, Key { nanoseconds: 7, id: "abc".to_owned(), action: action.to_owned() });
        }
    }

    #[test]
    fn what_is_not_about_a_containers_life_is_ignored() {
        let ignored = [
            r#"{}"#,
            r#"{"Type":"network","Action":"destroy","Actor":{"ID":"a","Attributes":{"name":"api"}}}"#,
            r#"{"Type":"container","Action":"die"}"#,
            r#"{"Type":"container","Action":"die","Actor":{"ID":"a","Attributes":{}}}"#,
            r#"{"Type":"container","Action":"exec_create: sh","Actor":{"ID":"a","Attributes":{"name":"api"}}}"#,
            r#"{"Type":"container","Action":"health_status: running","Actor":{"ID":"a","Attributes":{"name":"api"}}}"#,
            r#"{"Type":"container","Action":"fly","Actor":{"ID":"a","Attributes":{"name":"api"}}}"#,
        ];
        for json in ignored {
            assert_eq!(heard(message(json)), None, "{json}");
        }
    }

    #[test]
    fn an_inspect_tells_how_the_container_is_healed() {
        let json = r#"{"RestartCount": 3, "State": {"Health": {"Status": "unhealthy"}},
            "HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 5}},
            "Config": {"Healthcheck": {"Interval": 500000000, "Timeout": 0}, "StopSignal": "SIGUSR1", "StopTimeout": 3, "Labels": {"supervisor.heal": "always"}}}"#;
        let expected = Facts {
            restart: DockersPolicy::OnFailure { most: 5 },
            restarts: 3,
            stop_signal: 10,
            stop_timeout: Span::seconds(3),
            check: Some(DockersCheck::Unhealthy),
            check_takes: Span(30_500),
            heal: Some(HealMode::Always),
            ..Facts::default()
        };
        assert_eq!(facts(&serde_json::from_str(json).unwrap()), expected);
        assert_eq!(facts(&ContainerInspectResponse::default()), Facts::default());
    }

    /// What an inspect with this `State`, `HostConfig` and these labels tells.
    fn inspected(state: &str, host: &str, labels: &str) -> Facts {
        let json = format!(
            r#"{{"State": {{{state}}}, "HostConfig": {{{host}}}, "Config": {{"Labels": {{{labels}}}}}}}"#
        );
        facts(&serde_json::from_str(&json).unwrap())
    }

    #[test]
    fn the_start_of_a_process_is_a_number_of_nanoseconds() {
        let table = [
            (r#""StartedAt": "2026-08-21T08:14:02.123456789Z""#, Some(1_787_300_042_123_456_789)),
            (r#""StartedAt": "2026-08-21T10:14:02+02:00""#, Some(1_787_300_042_000_000_000)),
            (r#""StartedAt": "0001-01-01T00:00:00Z""#, None),
            (r#""StartedAt": "soon""#, None),
            ("", None),
        ];
        for (state, expected) in table {
            assert_eq!(inspected(state, "", "").started, expected, "{state}");
        }
    }

    #[test]
    fn a_borrowed_network_is_read_and_any_other_mode_is_none() {
        let id = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2";
        let table = [
            (format!("container:{id}"), Some(id)),
            ("container:gateway".to_owned(), Some("gateway")),
            ("bridge".to_owned(), None),
            ("host".to_owned(), None),
            ("container:".to_owned(), None),
            ("container:../../x".to_owned(), None),
            (format!("container:{}", "a".repeat(256)), None),
        ];
        for (mode, of) in table {
            let network = inspected("", &format!(r#""NetworkMode": "{mode}""#), "").network;
            let unread = |of: &str| BorrowedNetwork { of: of.into(), name: None, lender: Lender::Unknown };
            assert_eq!(network, of.map(unread), "{mode}");
        }
        let lent = |json: &str| lender(&serde_json::from_str(json).unwrap());
        let name = Some(ContainerName("gateway".into()));
        assert_eq!(
            lent(
                r#"{"Name": "/gateway", "State": {"Status": "running", "StartedAt": "1970-01-01T00:00:01Z"}}"#
            ),
            (name.clone(), Lender::There { runs: true, started: Some(1_000_000_000) })
        );
        assert_eq!(
            lent(r#"{"Name": "/gateway", "State": {"Status": "exited"}}"#),
            (name, Lender::There { runs: false, started: None })
        );
    }

    #[test]
    fn the_label_names_dependencies_within_bounds() {
        let names = |value: &str| -> Vec<String> {
            let label = format!(r#""supervisor.depends-on": "{value}""#);
            inspected("", "", &label).depends_on.into_iter().map(|name| name.0).collect()
        };
        assert_eq!(names("db, /cache,,db ,"), ["cache", "db"]);
        assert_eq!(names(""), Vec::<String>::new());
        assert_eq!(names("no name!"), ["no name!"], "people are told that there is none");
        let many: Vec<String> = (0..40).map(|n| format!("c{n:02}")).collect();
        let bounded = names(&many.join(","));
        assert_eq!(bounded.len(), DEPENDS_ON_MAX + 1);
        assert!(
            bounded.contains(&many[DEPENDS_ON_MAX..].join(",")),
            "what is beyond is told as it is: {bounded:?}"
        );
        assert_eq!(names(&"x".repeat(100_000)), ["x".repeat(CONTAINER_NAME_MAX)]);
    }

    #[test]
    fn composes_labels_are_read_if_a_person_may_type_them() {
        let compose = |project: &str, service: &str| {
            let labels = format!(
                r#""com.docker.compose.project": "{project}", "com.docker.compose.service": "{service}",
                   "com.docker.compose.depends_on": "db:service_started:false""#
            );
            inspected("", "", &labels)
        };
        let read = compose("shop", "vpn-client");
        let expected = ComposeService { project: "shop".into(), service: "vpn-client".into() };
        assert_eq!(read.compose, Some(expected));
        assert!(read.depends_on.is_empty(), "Compose's own order is for Compose");
        assert_eq!(compose("shop", "a; reboot").compose, None);
        assert_eq!(compose("", "a").compose, None);
    }

    #[test]
    fn signals_are_read_as_docker_writes_them() {
        let table = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGUSR1", Some(10)),
            ("SIGRTMIN+3", Some(libc::SIGRTMIN() + 3)),
            ("RTMIN", Some(libc::SIGRTMIN())),
            ("SIGNONSENSE", None),
            ("0", None),
            ("-9", None),
            ("", None),
        ];
        for (text, number) in table {
            assert_eq!(signal_number(text), number, "{text:?}");
        }
    }

    #[test]
    fn labels_of_others_are_understood_and_misspelt_ones_of_ours_refused() {
        let table = [
            (&[("supervisor.heal", "notify"), ("autoheal", "true")][..], Ok(Some(HealMode::Notify))),
            (&[("autoheal", "true")], Ok(Some(HealMode::Auto))),
            (&[("autoheal", "True"), ("autoheal.restart.enable", "false")], Ok(Some(HealMode::Notify))),
            (&[("deunhealth.restart.on.unhealthy", "true")], Ok(Some(HealMode::Auto))),
            (&[("other", "true")], Ok(None)),
        ];
        for (labels, mode) in table {
            let map = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(heal_mode(&map), mode, "{labels:?}");
        }
        let wrong = HashMap::from([("supervisor.heal".to_owned(), "ture".to_owned())]);
        assert_eq!(heal_mode(&wrong), Err("ture".to_owned()));
        let long = HashMap::from([("supervisor.heal".to_owned(), "ä".repeat(1_000))]);
        assert_eq!(heal_mode(&long), Err("ä".repeat(LABEL_MAX)));
        let read = inspected("", "", r#""supervisor.heal": "ture", "autoheal": "true""#);
        assert_eq!((read.heal, read.heal_unknown.as_deref()), (None, Some("ture")));
    }

    #[test]
    fn a_renamed_container_tells_both_names() {
        let json = r#"{"Type":"container","Action":"rename",
            "Actor":{"ID":"a","Attributes":{"name":"new","oldName":"/old"}}}"#;
        let heard = heard(message(json)).unwrap();
        assert_eq!(
            (heard.name.0, heard.old_name.map(|name| name.0)),
            ("new".to_owned(), Some("old".to_owned()))
        );
        assert_eq!(heard.sign, None);
    }
}
