//! The configuration: whose it is, whether it is the one of the settings, whether HAProxy would take that, and what it lacks.

use super::super::apply::BindCheck;
use super::super::binds;
use super::super::complaint::{bad_certificates, complaint};
use super::super::files::read_if_there;
use super::super::template::{Rendered, parse_description};
use super::super::validate::Validation;
use super::Patient;
use super::sockets::Seen;
use crate::chain::chain;
use crate::finding::Finding;

pub(super) async fn examine(patient: &Patient, seen: &Seen, findings: &mut Vec<Finding>) {
    let path = patient.files.config.clone();
    let on_disk = tokio::task::spawn_blocking(move || read_if_there(&path)).await;
    let on_disk = on_disk.ok().and_then(Result::ok).flatten();
    let on_disk = on_disk.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    loaded(patient, seen, findings);
    if patient.external {
        findings.extend(directives(patient, on_disk.as_deref()));
        return;
    }
    let rendered = match &patient.rendered {
        Ok(rendered) => rendered,
        Err(why) => {
            findings.push(Finding::error(
                "template",
                why.clone(),
                "mend the template or the settings; HAProxy goes on with what it has",
            ));
            return;
        }
    };
    let in_force = revision(patient, seen, rendered, findings);
    findings.extend(directives(patient, Some(&rendered.text)));
    if !in_force {
        findings.push(would_load(patient, rendered).await);
        findings.extend(bind_conflict(patient, on_disk.as_deref(), rendered).await);
    }
}

/// Whether HAProxy was started with the file that we write. It says so by its own path, which may be relative.
fn loaded(patient: &Patient, seen: &Seen, findings: &mut Vec<Finding>) {
    let wanted = patient.config_path.to_string_lossy();
    let absolute = |file: &&String| file.starts_with('/');
    if patient.external || seen.loaded.is_empty() || !seen.loaded.iter().all(|file| absolute(&file)) {
        return;
    }
    // A directory that was named is there file by file.
    if !seen.loaded.iter().any(|file| *file == *wanted) {
        findings.push(Finding::error(
            "config_path",
            format!("HAProxy was started with {}, not with {wanted}", seen.loaded.join(", ")),
            "write what HAProxy was started with (`-f`) into config_path, and what it is called here into config_file",
        ));
    }
}

/// Whether HAProxy runs what the settings lead to.
fn revision(patient: &Patient, seen: &Seen, rendered: &Rendered, findings: &mut Vec<Finding>) -> bool {
    let Some(worker) = &seen.worker else { return false };
    let described = worker.description.as_deref().and_then(parse_description);
    let finding = match (described, patient.owner.as_deref()) {
        (Some((_, revision)), Some(_)) if worker.description.as_deref() == Some(&rendered.description) => {
            Finding::ok(
                "revision",
                format!("HAProxy runs the configuration of the settings (rev {revision})"),
            )
        }
        (Some((owner, _)), Some(ours)) if owner != ours => Finding::error(
            "revision",
            format!("HAProxy belongs to another supervisor ({owner}; this one is {ours})"),
            "stop the other one and start this one with `supervisor run --take-over`",
        ),
        (Some((owner, _)), None) => Finding::warning(
            "revision",
            format!(
                "HAProxy belongs to a supervisor ({owner}), and none has run on this state directory yet"
            ),
            "set state_dir to the one that it has, or start with `supervisor run --take-over`",
        ),
        (Some((_, revision)), Some(_)) => Finding::warning(
            "revision",
            format!("HAProxy runs rev {revision}, and the settings lead to {}", rendered.revision),
            "a daemon loads it within seconds, unless it was refused or is held (`supervisor status`); `supervisor render \
             --diff` shows the difference",
        ),
        (None, _) => Finding::warning(
            "revision",
            "HAProxy runs a configuration that supervisor has not written",
            "`supervisor run` replaces it, and keeps it beside as .before-supervisor; look first with `supervisor render \
             --diff`, or set config = \"external\"",
        ),
    };
    let in_force = finding.fix.is_none();
    findings.push(finding);
    in_force
}

/// HAProxy's own word on a configuration that it does not run.
async fn would_load(patient: &Patient, rendered: &Rendered) -> Finding {
    let (map, state) = (patient.files.map.clone(), patient.files.state.clone());
    let there =
        tokio::task::spawn_blocking(move || (map.exists(), state.exists())).await.unwrap_or((true, true));
    let text = self_sufficient(&rendered.text, patient.map_path.as_str(), there);
    let said = |words: &str| one_line(&complaint(&text, words));
    match patient.validator.validate_text(&text).await {
        Ok(Validation::Accepted { warnings }) if warnings.is_empty() => Finding::ok(
            "haproxy_check",
            "HAProxy would load the configuration of the settings (`haproxy -c`)",
        ),
        Ok(Validation::Accepted { warnings }) => Finding::warning(
            "haproxy_check",
            format!("HAProxy would load the configuration of the settings, and warns: {}", said(&warnings)),
            "change what it names in the settings or the template",
        ),
        Ok(Validation::Refused { message }) => Finding::error(
            "haproxy_check",
            format!("HAProxy would not load the configuration of the settings: {}", said(&message)),
            match bad_certificates(&text, &message) {
                Some(key) => format!(
                    "put a PEM file with certificate, chain and key there, or a directory of such files, \
                     where {key} says, on HAProxy's own machine or in its container; it must be readable there for HAProxy, and \
                     for the user that runs `haproxy -c`: on this machine supervisor's"
                ),
                None => "mend what it names in the settings or the template".to_owned(),
            },
        ),
        Err(error) => Finding::error(
            "haproxy_check",
            chain(&error),
            "set haproxy_binary, or the container that HAProxy runs in",
        ),
    }
}

/// Files that `supervisor run` makes before it asks HAProxy, and that a look must not make, are done without.
fn self_sufficient(text: &str, map: &str, (has_map, has_state): (bool, bool)) -> String {
    let about_state = |line: &&str| has_state || !line.contains("server-state-f");
    let lines = text.lines().filter(about_state).map(|line| match has_map {
        true => line.to_owned(),
        false => line.replace(&format!("map_str({map},"), "map_str(/dev/null,"),
    });
    lines.map(|line| line + "\n").collect()
}

async fn bind_conflict(patient: &Patient, on_disk: Option<&str>, rendered: &Rendered) -> Option<Finding> {
    if patient.binds == BindCheck::Skip {
        return None;
    }
    let (old, new) = (on_disk.unwrap_or_default().to_owned(), rendered.text.clone());
    let conflict = tokio::task::spawn_blocking(move || binds::conflict(&old, &new)).await.ok()?;
    conflict.map(|(address, error)| {
        Finding::error(
            "bind",
            format!("{address} cannot be bound: {error}"),
            format!("`ss -ltnp 'sport = :{}'` names who has it; end that, or change `bind`", address.port()),
        )
    })
}

/// The directives of `global` that old workers end by.
fn directives(patient: &Patient, text: Option<&str>) -> Option<Finding> {
    let Some(text) = text else {
        return Some(
            Finding::warning(
                "hard_stop_after",
                format!(
                    "{} cannot be read here, so nobody knows whether old workers ever end",
                    patient.files.config.display()
                ),
                "see that `global` has these lines, or share the file with supervisor",
            )
            .with_lines(vec!["    hard-stop-after 60s".to_owned(), "    mworker-max-reloads 5".to_owned()]),
        );
    };
    let has = |word: &str| text.lines().any(|line| line.split_whitespace().next() == Some(word));
    let wanted = [
        ("hard-stop-after", "    hard-stop-after 60s"),
        ("mworker-max-reloads", "    mworker-max-reloads 5"),
    ];
    let missing: Vec<String> =
        wanted.iter().filter(|(word, _)| !has(word)).map(|(_, line)| (*line).to_owned()).collect();
    if missing.is_empty() {
        return Some(Finding::ok("hard_stop_after", "old workers end after a time (hard-stop-after)"));
    }
    let words =
        "an old worker with a client that never leaves stays for ever, with stale routes and its memory";
    Some(Finding::warning("hard_stop_after", words, "put into `global`:").with_lines(missing))
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_is_done_without() {
        let text = "global\n    server-state-file /s\n  use_backend %[str(a),map_str(/m,a__x)]\n  load-server-state-from-file global\n";
        assert_eq!(self_sufficient(text, "/m", (true, true)), text);
        let without = "global\n  use_backend %[str(a),map_str(/dev/null,a__x)]\n";
        assert_eq!(self_sufficient(text, "/m", (false, false)), without);
    }
}
