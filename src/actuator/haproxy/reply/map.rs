//! Maps, and the backends that their values name.

use super::{ReplyError, malformed, number, refused};
use std::collections::{BTreeMap, BTreeSet};

/// `show backend`: the names of all backends.
pub fn backends(reply: &str) -> Result<BTreeSet<String>, ReplyError> {
    let mut lines = reply.lines();
    if lines.next().map(str::trim) != Some("# name") {
        return Err(refused("show backend", reply));
    }
    Ok(lines.map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// `show map FILE`: its entries. Of a key that is there twice HAProxy uses the first, so that is the one given.
pub fn map_entries(reply: &str) -> Result<BTreeMap<String, String>, ReplyError> {
    let mut entries = BTreeMap::new();
    for line in reply.lines().filter(|line| !line.is_empty()) {
        // `0x5640ce745e50 key value`: the first word names the entry.
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(reference), Some(key), value) if reference.starts_with("0x") => {
                entries.entry(key.to_owned()).or_insert_with(|| value.unwrap_or_default().to_owned());
            }
            _ => return Err(refused("show map", reply)),
        }
    }
    Ok(entries)
}

/// `get map FILE KEY`: the value, or none if the key is not there.
pub fn map_value(reply: &str) -> Result<Option<String>, ReplyError> {
    let command = "get map";
    let line = reply.lines().next().unwrap_or_default();
    if !line.starts_with("type=") {
        return Err(refused(command, reply));
    }
    if line.contains("found=no") {
        return Ok(None);
    }
    let value = line.split_once("value=\"").and_then(|(_, rest)| rest.split_once('"'));
    value.map(|(value, _)| Some(value.to_owned())).ok_or_else(|| malformed(command, "no value", reply))
}

/// Whether HAProxy uses this map at all.
pub fn is_unknown_map(error: &ReplyError) -> bool {
    matches!(error, ReplyError::Refused { reply, .. } if reply.starts_with("Unknown map identifier"))
}

/// `prepare map`: the number of the new version.
pub fn prepared(reply: &str) -> Result<u32, ReplyError> {
    reply
        .strip_prefix("New version created:")
        .and_then(|rest| number(rest.trim()))
        .ok_or_else(|| refused("prepare map", reply))
}
