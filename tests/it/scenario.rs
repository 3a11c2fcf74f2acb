//! Scenario scripts: what happens, and beneath each line what the core decides. A script is its own golden file. Their
//! language is docs/scenarios.md, whose scripts and tables are tested here, too.
//!
//! `UPDATE=1 cargo test --test it scenario` writes what is decided into the scripts and the page; read the diff.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use supervisor::scenario::{self, Script, forms};

pub(crate) fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn is_update() -> bool {
    std::env::var_os("UPDATE").is_some()
}

/// What is told of a script, or everything that is wrong with it.
fn told(path: &str, text: &str) -> String {
    let script = Script::parse(text).unwrap_or_else(|problems| {
        let all: Vec<String> = problems.iter().map(|it| format!("{path}:{}: {it}", it.line)).collect();
        panic!("{}", all.join("\n"))
    });
    scenario::told(&script).unwrap_or_else(|error| panic!("{path}:{}: {error}", error.line()))
}

/// Whole at any time: other tests read it meanwhile.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

#[test]
fn every_scenario_decides_as_written() {
    let mut paths: Vec<_> =
        fs::read_dir(root("tests/scenarios")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 100, "only {} scenarios found in tests/scenarios", paths.len());
    let mut different = Vec::new();
    for path in &paths {
        let (name, text) = (path.display().to_string(), fs::read_to_string(path).unwrap());
        let told = told(&name, &text);
        let script = Script::parse(&text).unwrap();
        assert!(scenario::story(&script).unwrap().lines().all(|line| line.chars().count() <= 80), "{name}");
        if is_update() {
            write(path, &told);
        } else if let Some(it) = scenario::difference(&told, &text) {
            different.push(format!(
                "{name}:{}\n  decided: {:?}\n  written: {:?}",
                it.line, it.decided, it.written
            ));
        }
    }
    assert!(different.is_empty(), "decided otherwise than written:\n{}", different.join("\n"));
}

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_line_and_a_line_that_is_right() {
    let table = [
        ("hello", "\"hello\": a line begins with alertmanagers, at, "),
        (
            "service api",
            "the line ends where a site is missing; right is for example: service api onprem*2 cloud",
        ),
        ("service a;b onprem", "\"a;b\": a name has letters"),
        ("service api onprem*0", "\"0\": a whole number from 1 to 32"),
        ("service api a-b\nservice api-a b", "\"b\": another service has the server api-a-b"),
        ("set failback.after 5s", "\"failback.after\": there is nothing yet to set this for"),
        ("service api a\nset failback.after 5", "\"5\": a time has a unit: 250ms, 1.5s"),
        ("service api a\nset failback.afer 5s", "\"failback.afer\": no key has this name; known: prefer, "),
        ("service api a\nset failback.limit 33", "\"33\": a whole number from 1 to 32"),
        (
            "service api a\nset stateful yes",
            "\"yes\": known here: true, false; right is for example: set stateful",
        ),
        ("service api a\nset lateness 1s for api", "\"api\": lateness is the same for all"),
        ("service api a b\nset prefer b for api", "\"b\": these are not the sites"),
        ("service api a\nset container x for mars", "\"mars\": a server's name is expected"),
        ("service api a\nproxies x", "\"x\": HAProxy instances come before"),
        ("at 1s\n", "the line ends where what happens is missing; right is for example: at 1"),
        (
            "at 1 start",
            "\"1\": a time has a unit: 250ms, 1.5s, 1m30s, 2h, 1d; right is for example: at 0s start",
        ),
        ("at 2s start\nat 1s start", "\"1s\": time does not go back"),
        ("at 367d start", "\"367d\": a script has a year at most"),
        ("at 0s start now", "\"now\": nothing more is expected here"),
        ("at 0s begin", "\"begin\": known here: alertmanager, by, docker, "),
        ("service api a\nat 0s probe api-b ok", "\"api-b\": no server has this name; known: api-a"),
        ("service api a\nat 0s probe api-a great", "\"great\": known here: ok, connected, status N, refused"),
        ("service api a\nat 0s probe api-a status 99", "\"99\": a whole number from 100 to 599"),
        ("service api a\nat 0s live api-a silent late", "the line ends where how late is missing"),
        ("service api a\nat 0s docker api-a exploded", "\"exploded\": known here: started, died [N]"),
        ("service api a\nat 0s docker lists api-a", "\"api-a\": two names with = between them"),
        ("service api a\nat 0s docker lists api-a=gone", "\"gone\": known here: running"),
        ("service api a\nat 0s haproxy sees api", "\"api\": two names with = between them"),
        ("service api a\nat 0s haproxy sees api=b", "\"b\": no site has this name; known: a"),
        ("service api a\nat 0s haproxy sees check api-a=ok", "\"ok\": known here: L7OK, L4OK, down"),
        (
            "proxies x y\nservice api a\nat 0s haproxy lost",
            "\"lost\": there are several HAProxy instances, so which one? x, y",
        ),
        (
            "engine e at b\nservice api a b\nat 0s docker lost",
            "\"docker\": there are several engines: write `engine e`",
        ),
        (
            "engine e at b\nservice api a b\nat 0s engine e lists api-a=dead",
            "\"api-a\": it runs on engine local",
        ),
        ("service api a\nat 0s order fallback api", "\"fallback\": known here: failover, failback, pause"),
        ("service api a\nat 0s order pause api", "\"api\": \"api\" is not all, service/NAME or site/NAME"),
        ("service api a\nat 0s order pause all for 0s", "\"0s\": what lasts no time"),
        ("at 0s alertmanager am1 answers", "\"am1\": no Alertmanager has this name: there is none yet"),
        (
            "alertmanagers am1\nat 0s alertmanager am1 answers Down=active",
            "\"Down\": no alert has this name; known: all",
        ),
        ("at 0s mail lost", "\"lost\": known here: accepted [N], deferred WORDS"),
        ("container x colour=red", "\"colour\": Docker knows no such thing"),
        ("remove x", "\"x\": no service, and no container of its own"),
        ("# \u{1b}[2J", "\"\\u{1b}\": a script has no control characters"),
        ("until 5s sleep", "\"sleep\": \"wake\" is expected here; right is for example: until 90s wake"),
    ];
    let mut other = Vec::new();
    for (script, expected) in table {
        let said = match Script::parse(script) {
            Ok(_) => String::new(),
            Err(problems) => problems.iter().map(|it| format!("{it}\n")).collect(),
        };
        if !said.starts_with(expected) || said.lines().count() != 1 {
            other.push(format!("{script}\n  said: {said}"));
        }
    }
    assert!(other.is_empty(), "{}", other.join("\n"));
}

#[test]
fn what_cannot_happen_ends_the_run_at_its_line() {
    let cast = "service api onprem cloud\nalertmanagers am1\nat 0s start\nat 0s docker lists\n";
    let table = [
        ("at 1s healed api-onprem", "api-onprem was not started by supervisor"),
        ("at 1s evacuated api-onprem", "the requests of api/api-onprem were not to be freed"),
        ("at 1s mail accepted", "there is no such mail: none was to be sent yet"),
        ("at 1s alertmanager am1 answers PoolDown=absent", "there is no such incident at this moment"),
        ("wake", "supervisor has no deadline: nothing is waited for"),
        (
            "at 1s docker api-onprem died 0\nset failback.after 1h\nat 2s order pause all for 1h\nwake\nat 3s start",
            "`wake` has brought the time to 1 h already",
        ),
    ];
    for (lines, expected) in table {
        let script = format!("{cast}{lines}\n");
        let error = scenario::told(&Script::parse(&script).unwrap()).unwrap_err();
        assert_eq!(error.to_string(), expected, "{lines}");
        assert_eq!(error.line(), script.lines().count(), "{lines}");
        assert!(error.is_the_scripts());
    }
}

#[test]
fn ten_scenarios_are_told_in_the_words_that_are_written() {
    let mut paths: Vec<_> =
        fs::read_dir(root("tests/stories")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "only {} stories found in tests/stories", paths.len());
    let mut different = Vec::new();
    for path in &paths {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(root(&format!("tests/scenarios/{name}.scn"))).unwrap();
        let story = scenario::story(&Script::parse(&text).unwrap()).unwrap();
        let written = fs::read_to_string(path).unwrap();
        if is_update() {
            fs::write(path, &story).unwrap();
        } else if story != written {
            let line = story.lines().zip(written.lines()).position(|(told, known)| told != known);
            let line = line.unwrap_or_else(|| story.lines().count().min(written.lines().count()));
            let of = |text: &str| text.lines().nth(line).unwrap_or("(its end)").to_owned();
            different.push(format!(
                "{name}:{}\n  told:    {}\n  written: {}",
                line + 1,
                of(&story),
                of(&written)
            ));
        }
    }
    assert!(different.is_empty(), "told otherwise than written:\n{}", different.join("\n"));
}

/// A part of the page between `begin` and `end`, as it is to be.
fn rewrite(page: &str, begin: &str, end: &str, mut text: impl FnMut(&str) -> String) -> String {
    let mut parts = page.split(begin);
    let mut all = parts.next().unwrap().to_owned();
    for part in parts {
        let (inside, rest) = part.split_once(end).unwrap_or_else(|| panic!("no {end:?} after {begin:?}"));
        all.push_str(&format!("{begin}{}{end}{rest}", text(inside)));
    }
    all
}

/// docs/faults.md says of each fault what shows it: that must be there, and no number may be written twice for two scripts.
#[test]
fn whatever_shows_a_fault_is_there() {
    let page = fs::read_to_string(root("docs/faults.md")).unwrap();
    let mut numbers = BTreeSet::new();
    for script in fs::read_dir(root("tests/scenarios")).unwrap() {
        let name = script.unwrap().file_name().into_string().unwrap();
        let number = name.split_once('-').unwrap().0.trim_start_matches('0').to_owned();
        assert!(numbers.insert(number), "{name} has the number of another script");
    }
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.ends_with("| shown by |"));
    let mut faults = 0;
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let named: Vec<&str> = shown.split([',', '·', ';']).map(str::trim).collect();
        assert!(named.iter().all(|one| !one.is_empty()), "nothing shows it: {row}");
        for one in named {
            match one.strip_prefix('`').and_then(|path| path.strip_suffix('`')) {
                Some(path) => assert!(root(path).exists(), "there is no {path}: {row}"),
                None => assert!(numbers.contains(one), "there is no script {one}: {row}"),
            }
        }
        faults += 1;
    }
    assert!(faults > 60, "only {faults} faults found");
}

#[test]
fn the_pages_scripts_decide_as_written_and_its_tables_are_the_languages() {
    const PAGE: &str = "docs/scenarios.md";
    let page = fs::read_to_string(root(PAGE)).unwrap();
    let mut scripts = Vec::new();
    let mut new = rewrite(&page, "```scenario\n", "```\n", |script| {
        scripts.push(script.to_owned());
        told(PAGE, script)
    });
    assert!(scripts.len() >= 6, "only {} scripts found", scripts.len());
    let mut stories = scripts.iter().map(|script| scenario::story(&Script::parse(script).unwrap()).unwrap());
    new = rewrite(&new, "```story\n", "```\n", |_| stories.next().unwrap());
    for group in &forms::GROUPS {
        let begin = format!("<!-- table: {} -->\n", group.name);
        assert_eq!(new.matches(&begin).count(), 1, "{begin}");
        new = rewrite(&new, &begin, "<!-- end -->\n", |_| format!("\n{}\n", forms::table(group)));
    }
    new = rewrite(&new, "<!-- table: settings -->\n", "<!-- end -->\n", |_| {
        format!("\n{}\n", forms::settings_table())
    });
    if is_update() {
        fs::write(root(PAGE), &new).unwrap();
    } else if new != page {
        let line = new.lines().zip(page.lines()).position(|(one, other)| one != other).unwrap_or_default();
        panic!(
            "{PAGE}:{}\n  is to be: {:?}\n  is:       {:?}",
            line + 1,
            new.lines().nth(line),
            page.lines().nth(line)
        );
    }
}
