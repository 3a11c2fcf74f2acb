//! Puts the layers on each other with the config crate: the file, its drop-ins, the environment. The last one wins.
//!
//! Each file has been looked at by itself before ([`strict`]), because config neither knows lines nor refuses `"yes"`
//! for a switch. From the environment everything is text, and there config's conversions are what we want. Its
//! own environment source is not used: it lower-cases names, so that `API_ONPREM` would make a second server beside
//! `api-onprem`.

use super::examples;
use super::key::Key;
use super::problem::{Place, Problem};
use super::raw::Raw;
use super::source::Document;
use super::strict::{self, Lines, Strict};
use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// The beginning of the environment variables that set a key. Two underscores, because Kubernetes sets
/// `SUPERVISOR_PORT` and the like for a service of our name, and an unknown key is refused.
pub const ENVIRONMENT_PREFIX: &str = "SUPERVISOR__";

/// The longest value of a variable: as long as the longest text that any key takes, with room.
const VARIABLE_MAX: usize = 4096;

/// All layers as one, and where each part came from.
pub(crate) struct Layered {
    /// What they say together.
    pub(crate) raw: Raw,
    /// What was wrong with each of them.
    pub(crate) problems: Vec<Problem>,
    /// A layer is missing from `raw`, so that what is missing in `raw` says nothing.
    pub(crate) incomplete: bool,
    struck: Vec<Key>,
    main: PathBuf,
    places: BTreeMap<Key, Place>,
    elements: BTreeMap<(Key, usize), Place>,
}

impl Layered {
    /// Where `key` was set last; for a key that is not there, where the table is that lacks it.
    pub(crate) fn place(&self, key: &Key) -> Place {
        let mut key = Some(key.clone());
        while let Some(at) = key {
            if let Some(place) = self.places.get(&at) {
                return place.clone();
            }
            key = at.parent();
        }
        Place::file(&self.main)
    }

    /// Where an element of the list `key` was set.
    pub(crate) fn place_of_element(&self, key: &Key, index: usize) -> Place {
        self.elements.get(&(key.clone(), index)).cloned().unwrap_or_else(|| self.place(key))
    }

    /// Whether what was struck out may be what a complaint about `key` misses: `key` itself, a neighbour (perhaps `key`
    /// misspelt), a whole server of the service, or a whole named thing.
    pub(crate) fn is_doubtful(&self, key: &Key) -> bool {
        let parent = key.parent();
        let servers = key.thing().at("servers");
        self.struck.iter().any(|struck| {
            struck.is_within(key)
                || key.is_within(struck)
                || struck.parent() == parent
                || is_whole_thing(struck)
                || struck.parent().as_ref() == Some(&servers)
        })
    }

    fn note_places(&mut self, lines: &Lines<'_>, table: &DeTable<'_>) {
        strict::walk(table, &Key::root(), &mut |key, name, value| {
            let place = lines.place(name.span().start);
            if let DeValue::Table(_) = value.get_ref() {
                // A table is where it was first opened, though drop-ins open it again.
                self.places.entry(key.clone()).or_insert(place);
                return;
            }
            self.elements.retain(|(list, _), _| list != key);
            if let DeValue::Array(elements) = value.get_ref() {
                for (i, element) in elements.iter().enumerate() {
                    self.elements.insert((key.clone(), i), lines.place(element.span().start));
                }
            }
            self.places.insert(key.clone(), place);
        });
    }

    fn refuse_variable(&mut self, variable: &str, message: &str) {
        let place = Place::Environment { variable: variable.to_owned() };
        self.problems.push(Problem { place, key: String::new(), message: message.to_owned(), example: None });
        self.incomplete = true;
    }
}

/// Merges what `source` read and what the environment says.
pub(crate) fn merge(
    main: &Path,
    documents: &[Document],
    unreadable: Vec<Problem>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Layered {
    let mut layered = Layered {
        raw: Raw::default(),
        incomplete: !unreadable.is_empty(),
        problems: unreadable,
        struck: Vec::new(),
        main: main.to_owned(),
        places: BTreeMap::new(),
        elements: BTreeMap::new(),
    };
    let mut builder = Config::builder();
    for document in documents {
        let Strict { table, problems, struck, broken } = strict::look(document);
        layered.problems.extend(problems);
        layered.struck.extend(struck);
        layered.incomplete |= broken;
        if !broken {
            layered.note_places(&Lines::of(document), &table);
            builder = builder.add_source(Layer(value_of_table(&table)));
        }
    }
    let files = match builder.build() {
        Ok(files) => files,
        Err(error) => return give_up(layered, &error),
    };
    let mut builder = Config::builder().add_source(files.clone());
    let mut seen: BTreeMap<Key, String> = BTreeMap::new();
    for (variable, key, value) in variables(&mut layered, &files, environment) {
        if let Some(first) = seen.get(&key) {
            layered.refuse_variable(&variable, &format!("sets {key}, and so does {first}; keep one"));
            continue;
        }
        let layer = Layer(nested(&key, value));
        let place = Place::Environment { variable: variable.clone() };
        if let Err(error) =
            Config::builder().add_source(layer.clone()).build().and_then(Config::try_deserialize::<Raw>)
        {
            layered.problems.push(strict::explain(place, &key, &said(&error)));
            layered.struck.push(key);
            continue;
        }
        builder = builder.add_source(layer);
        layered.places.insert(key.clone(), place);
        seen.insert(key, variable);
    }
    match builder.build().and_then(Config::try_deserialize::<Raw>) {
        Ok(raw) => Layered { raw, ..layered },
        Err(error) => give_up(layered, &error),
    }
}

/// Whether `key` is all of `[services.api]`, of all services, or of a table that nobody knows.
fn is_whole_thing(key: &Key) -> bool {
    match key.segments().as_slice() {
        [unknown] => examples::of(&Key::root().at(unknown)).is_none_or(|example| example.starts_with('[')),
        ["engines" | "sites" | "proxies" | "services", _] => true,
        _ => false,
    }
}

/// Every layer passed by itself, but not all together. No input is known that does this; it is no reason to panic.
fn give_up(mut layered: Layered, error: &ConfigError) -> Layered {
    let problem = Problem::of_file(&layered.main, format!("cannot be merged with its drop-ins: {error}"));
    layered.problems.push(problem);
    layered.incomplete = true;
    layered
}

/// The variables that are ours, by name, each with the key that it sets.
fn variables(
    layered: &mut Layered,
    files: &Config,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(String, Key, Value)> {
    let mut ours: Vec<(OsString, OsString)> = environment
        .into_iter()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(ENVIRONMENT_PREFIX.as_bytes()))
        .collect();
    ours.sort();
    let mut variables = Vec::new();
    for (name, value) in ours {
        let shown = name.to_string_lossy().into_owned();
        let (Some(name), Some(text)) = (name.to_str(), value.to_str()) else {
            layered.refuse_variable(&shown, "is not UTF-8");
            continue;
        };
        if text.len() > VARIABLE_MAX {
            layered.refuse_variable(&shown, &format!("has more than {VARIABLE_MAX} bytes"));
            continue;
        }
        let path: Vec<&str> = name[ENVIRONMENT_PREFIX.len()..].split("__").collect();
        if path.iter().any(|part| part.is_empty()) {
            let example = "names no key; SUPERVISOR__STATUS__LISTEN, for example, sets status.listen";
            layered.refuse_variable(&shown, example);
            continue;
        }
        match value_of_text(text) {
            Ok(value) => variables.push((shown, resolve(&path, &files.cache), value)),
            Err(message) => layered.refuse_variable(&shown, &message),
        }
    }
    variables
}

/// The key that a variable means. Its parts are compared without regard to case and to the difference between `_`, `-`
/// and `.`, which shells do not admit in names; what matches no key of the files is taken in lower case.
fn resolve(path: &[&str], files: &Value) -> Key {
    let fold = |text: &str| text.to_ascii_lowercase().replace(['-', '.'], "_");
    let mut key = Key::root();
    let mut here = Some(files);
    for part in path {
        let table = match here.map(|value| &value.kind) {
            Some(ValueKind::Table(table)) => Some(table),
            _ => None,
        };
        let mut alike: Vec<&String> = table
            .into_iter()
            .flat_map(|table| table.keys())
            .filter(|name| fold(name) == fold(part))
            .collect();
        alike.sort();
        let name = match alike.as_slice() {
            [] => part.to_ascii_lowercase(),
            // Of several that fold alike, the one that is spelled so, else the first: the other one needs a file.
            [first, ..] => alike.iter().find(|name| name.as_str() == *part).unwrap_or(first).to_string(),
        };
        here = table.and_then(|table| table.get(&name));
        key = key.at(&name);
    }
    key
}

/// Text is text, but for a list (`["cloud", "onprem"]`) or a table (`{ path = "/health" }`), which are TOML.
fn value_of_text(text: &str) -> Result<Value, String> {
    let trimmed = text.trim_start();
    if !trimmed.starts_with(['[', '{']) {
        return Ok(Value::new(None, text));
    }
    match DeValue::parse(trimmed) {
        Ok(value) => Ok(value_of(value.get_ref())),
        Err(error) => {
            let said = error.message().replace('\n', ", ");
            Err(format!("begins with '{}' and is no TOML: {said}", &trimmed[..1]))
        }
    }
}

fn nested(key: &Key, value: Value) -> Map<String, Value> {
    let segments = key.segments();
    let (first, rest) = segments.split_first().map_or(("", &[][..]), |(first, rest)| (*first, rest));
    let inner = rest.iter().rev().fold(value, |inner, segment| {
        Value::new(None, ValueKind::Table(Map::from_iter([((*segment).to_owned(), inner)])))
    });
    Map::from_iter([(first.to_owned(), inner)])
}

fn value_of_table(table: &DeTable<'_>) -> Map<String, Value> {
    table.iter().map(|(name, value)| (name.get_ref().to_string(), value_of(value.get_ref()))).collect()
}

fn value_of(value: &DeValue<'_>) -> Value {
    let kind = match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| ValueKind::String(number.to_string()), ValueKind::I64),
        DeValue::Boolean(switch) => ValueKind::Boolean(*switch),
        DeValue::Array(elements) => {
            ValueKind::Array(elements.iter().map(|element| value_of(element.get_ref())).collect())
        }
        DeValue::Table(table) => ValueKind::Table(value_of_table(table)),
        // No key takes these; as text they are refused by what reads them.
        DeValue::Float(number) => ValueKind::String(number.to_string()),
        DeValue::Datetime(moment) => ValueKind::String(moment.to_string()),
    };
    Value::new(None, kind)
}

/// What config says, without its own account of key and origin.
fn said(error: &ConfigError) -> String {
    let text = match error {
        ConfigError::At { error, .. } => return said(error),
        ConfigError::Type { unexpected, expected, .. } => format!("{unexpected}, expected {expected}"),
        other => other.to_string(),
    };
    text.split(" for key `").next().unwrap_or_default().to_owned()
}

/// One layer, as config takes it.
#[derive(Debug, Clone)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}
