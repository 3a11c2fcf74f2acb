//! Grafana's dashboard keeps to the rules that make one usable everywhere. That its queries are valid and have data is
//! checked by `prometheus/check.sh`, which needs promtool.

use serde_json::Value;
use std::collections::BTreeSet;

fn dashboard() -> Value {
    let text = include_str!("../../grafana/provisioning/dashboards/supervisor.json");
    serde_json::from_str(text).expect("the dashboard is JSON")
}

/// The panels that show something: rows are only headings.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    let all = dashboard["panels"].as_array().expect("the dashboard has panels");
    all.iter().filter(|panel| panel["type"] != "row")
}

fn text<'a>(of: &'a Value, key: &str) -> &'a str {
    of[key].as_str().unwrap_or_default()
}

#[test]
fn it_can_be_linked_to_and_is_changed_only_in_the_file() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "supervisor");
    assert_eq!(dashboard["editable"], false);
    // Grafana gives it a number; one in the file would be another dashboard's somewhere else.
    assert!(dashboard.get("id").is_none());
}

#[test]
fn every_panel_says_what_it_shows_in_which_unit() {
    let dashboard = dashboard();
    let mut titles = BTreeSet::new();
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert!(
            titles.insert(title) && !title.is_empty(),
            "a title that is missing or there twice: {title:?}"
        );
        assert!(text(panel, "description").ends_with('.'), "{title}: no sentence as its description");
        assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{title}: no unit");
    }
    assert!(titles.len() > 10);
}

#[test]
fn every_query_goes_to_the_data_source_that_is_chosen_and_to_what_is_chosen() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().expect("the dashboard has variables");
    let names: Vec<_> = variables.iter().map(|variable| text(variable, "name")).collect();
    assert_eq!(names, ["datasource", "job", "instance", "service"]);
    assert_eq!(variables[0]["label"], "Data Source");
    for variable in &variables[1..] {
        // 2: whenever the time range changes, so that a service that is new can be chosen.
        assert_eq!(variable["refresh"], 2, "{}", text(variable, "name"));
    }
    for panel in panels(&dashboard) {
        let title = text(panel, "title");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let targets = panel["targets"].as_array().expect("a panel has targets");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            let query = text(target, "expr");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            assert!(!text(target, "legendFormat").is_empty(), "{title}: {query} has no legend");
            if query.contains("supervisor_") {
                assert!(query.contains(r#"job=~"$job", instance=~"$instance""#), "{title}: {query}");
            }
            if query.contains("haproxy_") {
                assert!(query.contains(r#"service=~"$service""#), "{title}: {query}");
            }
        }
    }
}

#[test]
fn counters_are_shown_as_rates_over_the_interval_that_fits() {
    let dashboard = dashboard();
    let mut counters = 0;
    for query in panels(&dashboard).flat_map(|panel| panel["targets"].as_array().expect("targets")) {
        let query = text(query, "expr");
        if query.contains("_total{") || query.contains("_bucket{") {
            counters += 1;
            assert!(query.contains("rate(") || query.contains("increase("), "{query}");
            assert!(query.contains("[$__rate_interval]"), "{query}");
        }
    }
    assert!(counters > 5);
}

#[test]
fn no_panel_lies_on_another() {
    let dashboard = dashboard();
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = text(panel, "title");
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "{title}: its id is there twice");
        let side = |name| panel["gridPos"][name].as_u64().unwrap_or_else(|| panic!("{title} has no {name}"));
        assert!(side("x") + side("w") <= 24, "{title} is wider than the page");
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(cells.insert((x, y)), "{title} covers another panel at {x},{y}");
            }
        }
    }
}
