//! Silences of an Alertmanager, kept for the time in which it cannot be asked: what a person silenced there is handled.
//!
//! What is not understood to the last letter silences nothing: a mail too many is better than none.

use super::time::Wall;
use regex::RegexBuilder;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How much memory a silence's pattern may take: thousands of alternatives. It comes from outside.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// One silence (Alertmanager API v2, `gettableSilence`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// All of them must match; never empty.
    pub matchers: Vec<Matcher>,
    /// From when, by Alertmanager's clock.
    pub starts: Wall,
    /// Until when.
    pub ends: Wall,
}

/// What a label must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matcher {
    /// The label's name. One that an alert lacks is empty.
    pub name: String,
    /// The value, or the pattern that matches the whole of it (RE2).
    pub value: String,
    /// It is a pattern.
    pub is_regex: bool,
    /// It must match; else it must not.
    pub is_equal: bool,
}

impl Silence {
    /// Whether it silences an alert with these labels at `now`.
    pub fn covers(&self, labels: &BTreeMap<String, String>, now: Wall) -> bool {
        let lasts = self.starts <= now && now < self.ends;
        // The patterns last: they cost the most, and mostly something else does not fit.
        let (patterns, values): (Vec<&Matcher>, Vec<&Matcher>) =
            self.matchers.iter().partition(|matcher| matcher.is_regex);
        let fit = |matchers: Vec<&Matcher>| matchers.into_iter().all(|matcher| matcher.fits(labels));
        lasts && !self.matchers.is_empty() && fit(values) && fit(patterns)
    }
}

impl Matcher {
    fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.name).map(String::as_str).unwrap_or_default();
        if !self.is_regex {
            return (value == self.value) == self.is_equal;
        }
        let whole = format!("^(?:{})$", self.value);
        let pattern = RegexBuilder::new(&whole).size_limit(PATTERN_BYTES_MAX).build();
        pattern.is_ok_and(|pattern| pattern.is_match(value) == self.is_equal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(name: &str, value: &str, is_regex: bool, is_equal: bool) -> Matcher {
        Matcher { name: name.to_owned(), value: value.to_owned(), is_regex, is_equal }
    }

    fn covers(matchers: Vec<Matcher>) -> bool {
        let labels = [("alertname", "PoolDown"), ("service", "api"), ("site", "onprem")];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Silence { matchers, starts: Wall(0), ends: Wall(100) }.covers(&labels, Wall(50))
    }

    #[test]
    fn every_matcher_must_fit() {
        for (name, value, is_regex, is_equal, fits) in [
            ("service", "api", false, true, true),
            ("service", "ap", false, true, false),
            ("service", "api", false, false, false),
            ("service", "shop", false, false, true),
            ("service", "a.i|shop", true, true, true),
            // The whole value, as in Alertmanager.
            ("service", "a", true, true, false),
            ("service", "a|b", true, false, true),
            ("service", "api", true, false, false),
            // A label that is not there is empty.
            ("team", "", false, true, true),
            ("team", ".+", true, true, false),
            ("team", ".+", true, false, true),
            // What is no pattern silences nothing, either way.
            ("service", "a(", true, true, false),
            ("service", "a(", true, false, false),
            ("service", "(?:(?:a{1000}){1000}){1000}", true, false, false),
        ] {
            assert_eq!(
                covers(vec![matcher(name, value, is_regex, is_equal)]),
                fits,
                "{name} {value} {is_equal}"
            );
        }
        let both = |site| vec![matcher("service", "api", false, true), matcher("site", site, false, true)];
        assert!(covers(both("onprem")) && !covers(both("cloud")));
        assert!(!covers(Vec::new()), "one without matchers would silence everything");
    }

    #[test]
    fn it_lasts_from_its_beginning_until_its_end() {
        let silence =
            Silence { matchers: vec![matcher("a", "", false, true)], starts: Wall(10), ends: Wall(20) };
        let at = |now| silence.covers(&BTreeMap::new(), Wall(now));
        assert_eq!([9, 10, 19, 20].map(at), [false, true, true, false]);
    }
}
