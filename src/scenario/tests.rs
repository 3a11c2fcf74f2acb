use super::forms::GROUPS;
use super::setting::KEYS;
use super::*;
use crate::domain::incident::Trouble;
use crate::domain::policy::ContainerRef;
use proptest::prelude::*;

/// Everybody that the examples speak of, and something to wait for.
const CAST: &str = "\
service api onprem cloud
service shop onprem cloud
container alertmanager
alertmanagers am1
set mail true
at 0s start
at 0s haproxy sees api=onprem
at 0s docker lists
at 0s probe api-cloud ok
at 0s probe api-cloud ok
at 0s docker api-onprem died 1
at 0s order test alert
";

/// The lines that come before anybody is introduced.
const FIRST: [&str; 2] = ["proxies ", "engine "];

fn examples() -> Vec<&'static str> {
    let forms = GROUPS.iter().flat_map(|group| group.forms).map(|form| form.example);
    forms.chain(KEYS.iter().map(|key| key.example)).collect()
}

#[test]
fn every_example_is_read_and_played() {
    for example in examples() {
        let script = match FIRST.iter().any(|word| example.starts_with(word)) {
            true => format!("{example}\nservice api onprem cloud\nat 0s start\n"),
            false => format!("{CAST}{example}\n"),
        };
        let script = Script::parse(&script).unwrap_or_else(|problems| panic!("{example}: {problems:?}"));
        told(&script).unwrap_or_else(|error| panic!("{example}: {error}"));
        story(&script).unwrap_or_else(|error| panic!("{example}: {error}"));
    }
}

#[test]
fn every_form_begins_like_its_example() {
    for form in GROUPS.iter().flat_map(|group| group.forms) {
        let fixed = |text: &'static str| text.split(' ').next().unwrap();
        assert_eq!(fixed(form.form), fixed(form.example), "{}", form.form);
        let words: Vec<&str> = form.example.split(' ').collect();
        assert!(forms::example(&words).is_some(), "{}", form.example);
    }
    for key in &KEYS {
        assert!(key.example.starts_with(&format!("set {} ", key.key)), "{}", key.example);
        assert_eq!(forms::example(&["set", key.key, "?"]), Some(key.example));
    }
}

#[test]
fn what_a_key_is_without_a_word_is_what_the_page_says() {
    let usual = Script::parse("service api onprem cloud\nat 0s start\n").unwrap().policy;
    let wordless = ["prefer", "proxies", "container"];
    for key in KEYS.iter().filter(|key| !wordless.contains(&key.key)) {
        let text = format!("service api onprem cloud\nset {} {}\nat 0s start\n", key.key, key.usual);
        assert_eq!(Script::parse(&text).unwrap().policy, usual, "{}", key.key);
    }
}

#[test]
fn every_alert_can_be_called_by_its_name() {
    let (service, site) = ("api".parse().unwrap(), "onprem".parse().unwrap());
    let (proxy, engine) = ("haproxy".parse().unwrap(), "local".parse().unwrap());
    let container = ContainerRef { engine, name: crate::domain::ContainerName("c".to_owned()) };
    for trouble in [
        Trouble::ServiceDown { service },
        Trouble::PoolDown { service, site },
        Trouble::ContainerDown { container },
        Trouble::ProxyLost { proxy },
        Trouble::RouteLags { service, proxy },
        Trouble::RouteContested { service, proxy },
        Trouble::ConfigRefused { proxy },
        Trouble::EngineLost { engine },
        Trouble::StoreDegraded,
        Trouble::CutOff,
        Trouble::OwnResources,
        Trouble::Test,
    ] {
        let text = format!("{CAST}at 1s alertmanager am1 answers {}=active\n", trouble.name());
        assert!(Script::parse(&text).is_ok(), "{}", trouble.name());
    }
}

#[test]
fn a_script_has_a_bound() {
    let longest = "#".repeat(BYTES_MAX);
    assert!(Script::parse(&longest).is_ok());
    assert_eq!(Script::parse(&format!("{longest}#")).unwrap_err().len(), 1);
    assert!(Script::parse(&"\n".repeat(LINES_MAX)).is_ok());
    assert_eq!(Script::parse(&"\n".repeat(LINES_MAX + 1)).unwrap_err().len(), 1);
    assert_eq!(Script::parse(&"?\n".repeat(100)).unwrap_err().len(), 50, "nobody reads more");
    let services: String = (0..33).map(|number| format!("service s{number} a\n")).collect();
    assert_eq!(Script::parse(&services).unwrap_err().len(), 1);
    for crowd in
        ["service api a*33", "service api a*32 b*32 c*32 d*32 e*32 f*32 g*32 h*32 i", "service api a a"]
    {
        assert_eq!(Script::parse(crowd).unwrap_err().len(), 1, "{crowd}");
    }
}

#[test]
fn a_wait_without_an_end_ends() {
    // A container that is never read and never found keeps its engine's next look due for ever.
    let text = "\
service api onprem cloud
set heal.slow_retry 1ms
set heal.backoff_first 1ms
set heal.restarts 1
at 0s start
at 0s docker lists
at 1s docker api-onprem died 1
at 1s docker lost
until 300d wake
";
    let error = told(&Script::parse(text).unwrap()).unwrap_err();
    assert!(error.is_the_scripts(), "{error}");
    assert_eq!((error.line(), error.to_string().as_str()), (9, "a script has 10000 wakes at most"));
}

#[test]
fn a_run_has_a_bound() {
    let text = format!("service api onprem*32\nat 0s start\n{}", "at 1s probe all ok\n".repeat(1_600));
    let error = told(&Script::parse(&text).unwrap()).unwrap_err();
    assert_eq!(
        (error.is_the_scripts(), error.to_string().as_str()),
        (true, "a script has 50000 steps at most")
    );
}

fn word() -> impl Strategy<Value = String> {
    let known: Vec<String> = examples().iter().flat_map(|line| line.split(' ')).map(str::to_owned).collect();
    prop_oneof![
        8 => proptest::sample::select(known),
        1 => "[0-9]{1,20}(ms|s|m|h|d)?",
        1 => "[a-z]{1,3}=[a-z0-9:]{0,5}",
        1 => "\\PC{1,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_it_panic(text in "(\\PC|\n){0,200}") {
        let _ = Script::parse(&text);
    }

    #[test]
    fn no_words_make_it_panic(lines in proptest::collection::vec((0..5_u8, proptest::collection::vec(word(), 1..8)), 1..30)) {
        let mut script = CAST.to_owned();
        let mut at = 1_000;
        for (kind, words) in lines {
            at += u32::from(kind) * 700;
            let words = words.join(" ");
            match kind {
                0 => script.push_str(&format!("{words}\n")),
                1 => script.push_str("wake\n"),
                _ => script.push_str(&format!("at {at}ms {words}\n")),
            }
            // What cannot be read is left out, so that the rest is played.
            if Script::parse(&script).is_err() {
                script.truncate(script.trim_end().rfind('\n').map_or(0, |end| end + 1));
            }
        }
        let script = Script::parse(&script).unwrap();
        // What breaks an invariant is the core's to answer for; here it ends the run, as it should.
        if let Ok(golden) = told(&script) {
            prop_assert_eq!(told(&Script::parse(&golden).unwrap()).unwrap(), golden);
            story(&script).unwrap();
        }
    }
}
