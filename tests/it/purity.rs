//! The core is kept pure by reading it: what clippy's bans cannot name is looked for in the text.

use std::fs;
use std::path::{Path, PathBuf};

/// What must not stand in `src/domain/`, and why.
const FORBIDDEN: [(&str, &str); 19] = [
    ("async ", "the core is synchronous"),
    (".await", "the core is synchronous"),
    ("tokio", "the core has no runtime"),
    ("reqwest", "the core does no HTTP"),
    ("bollard", "the core does not know Docker's client"),
    ("rusqlite", "the core does not know the store"),
    ("axum", "the core serves nothing"),
    ("tracing", "the core does not log: reasons are data"),
    ("println!", "the core prints nothing"),
    ("std::fs", "the core does no I/O"),
    ("std::io", "the core does no I/O"),
    ("std::net", "the core does no I/O"),
    ("std::env", "the core reads no environment"),
    ("std::process", "the core starts nothing"),
    ("std::thread", "the core has no threads"),
    ("Instant", "time comes in as `Now`"),
    ("SystemTime", "time comes in as `Now`"),
    ("HashMap", "its order is random"),
    ("HashSet", "its order is random"),
];

/// The floors of ARCHITECTURE.md: a room imports from its own and from lower floors only.
const FLOORS: [(&str, u8); 15] = [
    ("domain", 1),
    ("clock", 2),
    ("settings", 2),
    ("store", 2),
    ("control", 2),
    ("present", 2),
    ("probe", 3),
    ("actuator/haproxy", 3),
    ("actuator/docker", 3),
    ("alert", 3),
    ("scenario", 3),
    ("status", 3),
    ("telemetry", 3),
    ("daemon", 4),
    ("cli", 5),
];

#[test]
fn the_core_is_pure() {
    let mut found = Vec::new();
    for path in sources(&root().join("src/domain")) {
        found.extend(impurities(&path.display().to_string(), &fs::read_to_string(&path).unwrap()));
    }
    assert!(found.is_empty(), "src/domain/ is no longer pure:\n{}", found.join("\n"));
}

#[test]
fn an_impure_line_is_found() {
    for (word, _) in FORBIDDEN {
        let text = format!("//! About {word} one may talk.\nfn f() {{ {word} }}\n");
        assert_eq!(impurities("x.rs", &text).len(), 1, "{word}");
    }
    assert_eq!(
        impurities("x.rs", "use crate::settings::Settings;").len(),
        1,
        "an import from a higher floor"
    );
    assert_eq!(impurities("x.rs", "use super::state::State;").len(), 0);
}

#[test]
fn rooms_import_only_from_lower_floors() {
    let src = root().join("src");
    let mut found = Vec::new();
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap().to_string_lossy().replace(".rs", "");
        let Some((room, floor)) = room_of(&inside) else { continue };
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text) {
            for import in line.split("crate::").skip(1) {
                let path_text = import.replace("::", "/");
                let Some((target, target_floor)) = room_of(&path_text) else { continue };
                if target != room && target_floor >= floor {
                    found.push(format!(
                        "{}:{number}: {room} (floor {floor}) imports {target} (floor {target_floor})",
                        path.display()
                    ));
                }
            }
        }
    }
    assert!(found.is_empty(), "imports against the floors of ARCHITECTURE.md:\n{}", found.join("\n"));
}

/// A scenario is played with nothing at hand: not even the settings or the store of this machine.
#[test]
fn scenarios_know_the_core_and_the_words_only() {
    for path in sources(&root().join("src/scenario")) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text) {
            let imported = line.split("crate::").skip(1);
            let known =
                |import: &str| matches!(room_of(&import.replace("::", "/")), Some(("domain" | "present", _)));
            assert!(imported.into_iter().all(known), "{}:{number}: {line}", path.display());
            for (word, why) in FORBIDDEN.iter().filter(|(word, _)| word.starts_with("std::")) {
                assert!(!line.contains(word), "{}:{number}: {word:?}: {why}", path.display());
            }
        }
    }
}

fn room_of(path: &str) -> Option<(&'static str, u8)> {
    let inside = |room: &str| {
        path == room
            || path.starts_with(room)
                && !path[room.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
    };
    FLOORS.into_iter().find(|(room, _)| inside(room))
}

fn impurities(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in code(text) {
        for (word, why) in FORBIDDEN {
            if line.contains(word) {
                found.push(format!("{path}:{number}: {word:?}: {why}"));
            }
        }
        if line.contains("crate::") && !line.contains("crate::domain") && !line.contains("pub(crate)") {
            found.push(format!("{path}:{number}: the lowest floor imports from no other room"));
        }
    }
    found
}

/// The lines of code: without comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    lines.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
