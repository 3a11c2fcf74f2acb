//! What an engine announced last, by which it is judged when its events end. Pure.

use super::translate::Heard;
use crate::domain::event::{ContainerSign, LastSigns};
use crate::domain::time::{Boot, Span};
use std::collections::HashMap;

/// Who was signalled and has not ended, and what came last: of all the engine's containers, since it is the engine that is
/// judged by it.
#[derive(Debug, Default)]
pub struct Signs {
    /// When each was given its first signal.
    signalled: HashMap<String, Boot>,
    last: LastSigns,
}

/// For how long a signal may be what an engine or a person ends a container with: a minute of patience is long
/// (`docker stop` gives ten seconds).
const SIGNAL_AT_WORK: Span = Span::seconds(90);

/// How many signalled containers are remembered: those that live on (`kill -s HUP`) stay among them.
const SIGNALLED_MAX: usize = 4096;

impl Signs {
    /// What came last.
    pub fn last(&self) -> LastSigns {
        self.last
    }

    /// Notes an event that came at `at`.
    pub fn note(&mut self, at: Boot, heard: &Heard) {
        let id = &heard.key.id;
        match heard.sign {
            Some(ContainerSign::Killed { .. }) => {
                // One that was signalled long ago and lives on (`kill -s HUP`) is signalled for the first time again.
                let lately = |first: &Boot| at.since(*first) <= SIGNAL_AT_WORK;
                match self.signalled.get(id).filter(|first| lately(first)) {
                    Some(_) => {}
                    None if self.signalled.len() >= SIGNALLED_MAX && !self.signalled.contains_key(id) => {}
                    None => {
                        self.signalled.insert(id.clone(), at);
                    }
                }
            }
            Some(ContainerSign::Died { .. }) => {
                self.last.signalled = self.last.signalled.max(self.signalled.remove(id));
                self.last.ended = Some(at);
            }
            Some(ContainerSign::Stopped) => self.last.ended = Some(at),
            Some(ContainerSign::Started | ContainerSign::Destroyed) => {
                self.signalled.remove(id);
            }
            Some(
                ContainerSign::OutOfMemory
                | ContainerSign::Paused
                | ContainerSign::Unpaused
                | ContainerSign::Checked(_),
            )
            | None => {}
        }
    }
}
