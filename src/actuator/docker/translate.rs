//! From Docker's words to ours. Total: what this version does not know is no evidence, and no error.

use crate::domain::event::{ContainerSign, ContainerStatus};
use crate::domain::id::ContainerName;
use bollard::models::{
    ContainerState, ContainerStateStatusEnum as Status, EventMessage, EventMessageTypeEnum,
};

/// An event about a container, as far as it concerns us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub key: Key,
    pub name: ContainerName,
    /// The name it had, if it was renamed.
    pub old_name: Option<ContainerName>,
    /// What the core is told; none when only the list has to be read anew.
    pub sign: Option<ContainerSign>,
}

/// What makes an event the same event when it comes twice: a stream that begins at a time repeats what happened in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub nanoseconds: i64,
    pub id: String,
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
        "create" | "rename" => None,
        // `exec_*`, `health_status`, `attach`, `top`, `restart` (which follows its `start`), and whatever comes.
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
            r#"{"Type":"container","Action":"health_status: healthy","Actor":{"ID":"a","Attributes":{"name":"api"}}}"#,
            r#"{"Type":"container","Action":"fly","Actor":{"ID":"a","Attributes":{"name":"api"}}}"#,
        ];
        for json in ignored {
            assert_eq!(heard(message(json)), None, "{json}");
        }
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
