//! One file by itself: its syntax, its keys and its types, all mistakes at once.
//!
//! serde stops at the first mistake. So each one is noted with its line, *struck out* of the parsed tree, and the rest is
//! looked at again until nothing is left to say.

use super::examples;
use super::key::Key;
use super::problem::{PROBLEMS_MAX, Place, Problem};
use super::raw::Raw;
use super::source::Document;
use serde::Deserialize;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A file that was looked at.
pub(crate) struct Strict<'a> {
    /// What is left of it.
    pub(crate) table: DeTable<'a>,
    /// What was wrong.
    pub(crate) problems: Vec<Problem>,
    /// The keys that were struck out.
    pub(crate) struck: Vec<Key>,
    /// Its syntax is broken: what is left says nothing about what was meant.
    pub(crate) broken: bool,
}

/// Turns byte offsets of one text into lines and columns.
pub(crate) struct Lines<'a> {
    path: &'a Path,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(crate) fn of(document: &'a Document) -> Lines<'a> {
        let breaks = document.text.match_indices('\n').map(|(at, _)| at + 1);
        Lines {
            path: &document.path,
            text: &document.text,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    pub(crate) fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.get(start..offset).unwrap_or("");
        Place::File { path: self.path.to_owned(), line: Some(line), column: Some(before.chars().count() + 1) }
    }
}

/// Looks at one file.
pub(crate) fn look(document: &Document) -> Strict<'_> {
    let lines = Lines::of(document);
    let (root, syntax) = DeTable::parse_recoverable(&document.text);
    let mut strict =
        Strict { table: root.into_inner(), problems: Vec::new(), struck: Vec::new(), broken: false };
    if !syntax.is_empty() {
        strict.broken = true;
        strict.problems =
            syntax.iter().take(PROBLEMS_MAX).map(|error| syntax_problem(&lines, error)).collect();
        return strict;
    }
    strike_lists(&mut strict, &lines);
    while strict.problems.len() < PROBLEMS_MAX {
        let rest = Spanned::new(0..document.text.len(), strict.table.clone());
        let Err(error) = Raw::deserialize(toml::Deserializer::from(rest)) else { break };
        let found = error.span().and_then(|span| find(&strict.table, &span));
        let Some((key, span)) = found else {
            strict.problems.push(Problem::of_file(&document.path, error.message()));
            strict.broken = true;
            break;
        };
        strict.problems.push(explain(lines.place(span.start), &key, error.message()));
        let neighbours = unknown_neighbours(&strict.table, &key, error.message());
        remove(&mut strict.table, &key.segments());
        strict.struck.push(key);
        for (key, span) in neighbours {
            if strict.problems.len() < PROBLEMS_MAX {
                strict.problems.push(explain(lines.place(span.start), &key, error.message()));
            }
            remove(&mut strict.table, &key.segments());
            strict.struck.push(key);
        }
    }
    strict
}

fn syntax_problem(lines: &Lines<'_>, error: &toml::de::Error) -> Problem {
    let place = lines.place(error.span().map_or(0, |span| span.start));
    let column = match &place {
        Place::File { column: Some(column), .. } => format!("no TOML, at character {column}: "),
        _ => "no TOML: ".to_owned(),
    };
    let message = column + &error.message().replace('\n', ", ");
    Problem { place, key: String::new(), message, example: None }
}

/// A list where a table belongs: serde would take its elements for the table's values, by position.
fn strike_lists(strict: &mut Strict<'_>, lines: &Lines<'_>) {
    let mut lists = Vec::new();
    walk(&strict.table, &Key::root(), &mut |key, name, value| {
        if matches!(value.get_ref(), DeValue::Array(_)) && !examples::is_list(key) {
            lists.push((key.clone(), name.span()));
        }
    });
    for (key, span) in lists.into_iter().take(PROBLEMS_MAX) {
        let message = "a list cannot stand here".to_owned();
        let example = examples::of(&key).map(str::to_owned);
        strict.problems.push(Problem {
            place: lines.place(span.start),
            key: key.to_string(),
            message,
            example,
        });
        remove(&mut strict.table, &key.segments());
        strict.struck.push(key);
    }
}

/// What serde says about `key`, in our words.
pub(crate) fn explain(place: Place, key: &Key, said: &str) -> Problem {
    let (message, example) = match known_keys(said) {
        Some(known) => {
            let near = nearest(key.leaf(), &known);
            let example = near.and_then(|name| examples::of(&key.parent().unwrap_or_default().at(name)));
            let meant = near.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
            (format!("unknown key{meant} (known here: {})", known.join(", ")), example)
        }
        None => {
            let said =
                said.strip_prefix("invalid type: ").or(said.strip_prefix("invalid value: ")).unwrap_or(said);
            let said = said
                .replace("integer `", "the number `")
                .replace("i64", "a whole number")
                .replace("an integer", "a whole number");
            let said =
                said.replace(", expected struct ", ", expected a table of settings, not ").replace('`', "");
            (said.split(", not Raw").next().unwrap_or_default().to_owned(), examples::of(key))
        }
    };
    Problem { place, key: key.to_string(), message, example: example.map(str::to_owned) }
}

/// The known key that differs from `name` in at most a third of its letters.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    let name: String = name.chars().take(40).collect();
    let near =
        known.iter().map(|known| (distance(&name.to_ascii_lowercase().replace('-', "_"), known), *known));
    near.filter(|(distance, known)| *distance <= known.len().max(3) / 3).min().map(|(_, known)| known)
}

/// Letters to insert, remove or replace (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// Visits each entry, tables before what is in them.
pub(crate) fn walk<'t, 'i>(
    table: &'t DeTable<'i>,
    at: &Key,
    visit: &mut impl FnMut(&Key, &'t Spanned<std::borrow::Cow<'i, str>>, &'t Spanned<DeValue<'i>>),
) {
    for (name, value) in table {
        let key = at.at(name.get_ref());
        visit(&key, name, value);
        if let DeValue::Table(inner) = value.get_ref() {
            walk(inner, &key, visit);
        }
    }
}

/// The other unknown keys beside `key`, if it was refused for being one: so that a table full of them takes one pass and
/// not one for each.
fn unknown_neighbours(table: &DeTable<'_>, key: &Key, said: &str) -> Vec<(Key, Range<usize>)> {
    let Some(known) = known_keys(said) else { return Vec::new() };
    let parent = key.parent().unwrap_or_default();
    let mut here = Some(table);
    for segment in parent.segments() {
        here = here.and_then(|table| match table.get(segment)?.get_ref() {
            DeValue::Table(inner) => Some(inner),
            _ => None,
        });
    }
    let names = here.into_iter().flat_map(|table| table.keys());
    let unknown =
        names.filter(|name| name.get_ref() != key.leaf() && !known.contains(&name.get_ref().as_ref()));
    unknown.map(|name| (parent.at(name.get_ref()), name.span())).collect()
}

/// The keys that serde would have taken in place of an unknown one.
fn known_keys(said: &str) -> Option<Vec<&str>> {
    // The unknown key itself may hold anything, a backtick too; what follows the last "expected" is ours.
    said.starts_with("unknown field `").then(|| {
        let known = said.rsplit_once(", expected ").map_or("", |(_, known)| known);
        known.split('`').skip(1).step_by(2).collect()
    })
}

/// The entry that an error at `span` is about: the smallest key or value that holds it.
fn find(table: &DeTable<'_>, span: &Range<usize>) -> Option<(Key, Range<usize>)> {
    let mut best: Option<(usize, Key, Range<usize>)> = None;
    walk(table, &Key::root(), &mut |key, name, value| {
        for candidate in [name.span(), value.span()] {
            let holds = candidate.start <= span.start && span.end <= candidate.end;
            if holds && best.as_ref().is_none_or(|(length, _, _)| candidate.len() <= *length) {
                let at = if candidate == name.span() { name.span() } else { span.clone() };
                best = Some((candidate.len(), key.clone(), at));
            }
        }
    });
    best.map(|(_, key, at)| (key, at))
}

fn remove(table: &mut DeTable<'_>, key: &[&str]) {
    let Some((first, rest)) = key.split_first() else { return };
    if rest.is_empty() {
        table.remove(*first);
        return;
    }
    for (name, value) in table.iter_mut() {
        if let (true, DeValue::Table(inner)) = (name.get_ref() == first, value.get_mut()) {
            remove(inner, rest);
        }
    }
}
