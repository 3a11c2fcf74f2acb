//! Docker engines, and which container is on which.

use super::checker::{Checker, list};
use super::key::Key;
use super::limits;
use super::model::{EngineAddress, EngineSettings};
use super::raw::Raw;
use super::value;
use crate::domain::id::{ContainerName, EngineId};
use crate::domain::policy::ContainerRef;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The engine that is meant when a container is named and no engine is.
const IMPLIED_ENGINE: &str = "local";

/// Where its socket is by default.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// The engines, while containers are being given to them.
pub(crate) struct Engines<'a> {
    raw: &'a Raw,
    named: BTreeSet<EngineId>,
}

impl<'a> Engines<'a> {
    pub(crate) fn new(raw: &'a Raw) -> Engines<'a> {
        Engines { raw, named: BTreeSet::new() }
    }

    /// The container that the thing at `key` runs in: on its own engine, else on its site's, else on the only one.
    pub(crate) fn container(
        &mut self,
        checker: &mut Checker<'_>,
        key: &Key,
        container: Option<&String>,
        engine: Option<&String>,
        site: Option<&String>,
    ) -> Option<ContainerRef> {
        let Some(container) = container else {
            if engine.is_some() {
                checker.unfit(
                    &key.at("engine"),
                    "an engine without a container says nothing; name the container too",
                );
            }
            return None;
        };
        let name: Option<ContainerName> =
            checker.parse(&key.at("container"), Some(container), value::container);
        let of_site = site.and_then(|site| self.raw.sites.get(site)?.engine.as_ref());
        let engine = match (engine, of_site) {
            (Some(engine), _) => self.known(checker, &key.at("engine"), engine),
            // A wrong one is reported where the site names it.
            (None, Some(engine)) => engine.parse().ok(),
            (None, None) => self.only(checker, key),
        };
        let reference = ContainerRef { engine: engine?, name: name? };
        self.named.insert(reference.engine);
        Some(reference)
    }

    /// `engine`, if there is one of that name.
    pub(crate) fn known(&self, checker: &mut Checker<'_>, key: &Key, engine: &str) -> Option<EngineId> {
        let implied = self.raw.engines.is_empty() && engine == IMPLIED_ENGINE;
        if !implied && !self.raw.engines.contains_key(engine) {
            let known = list(self.raw.engines.keys());
            checker.unfit(key, format!("there is no engine {engine:?} (known: {known})"));
            return None;
        }
        engine.parse().ok()
    }

    fn only(&self, checker: &mut Checker<'_>, key: &Key) -> Option<EngineId> {
        let mut names = self.raw.engines.keys();
        match (names.next(), names.next()) {
            (None, _) => IMPLIED_ENGINE.parse().ok(),
            (Some(only), None) => only.parse().ok(),
            (Some(_), Some(_)) => {
                let known = list(self.raw.engines.keys());
                checker.unfit(
                    &key.at("engine"),
                    format!("its container may be on any of several engines ({known}); name one, here or for its site"),
                );
                None
            }
        }
    }

    /// All that were declared, or else the one that was implied by a container.
    pub(crate) fn settings(&self, checker: &mut Checker<'_>) -> BTreeMap<EngineId, EngineSettings> {
        let default = || EngineAddress::Unix(PathBuf::from(DOCKER_SOCKET));
        let implied = EngineSettings { address: default(), resync: limits::RESYNC.default };
        let mut engines: BTreeMap<_, _> = self.named.iter().map(|id| (*id, implied.clone())).collect();
        for (name, raw) in &self.raw.engines {
            let key = Key::root().at("engines").at(name);
            let address = checker.parse(&key.at("address"), raw.address.as_ref(), value::engine);
            let resync = checker.span(&key.at("resync"), raw.resync.as_ref(), &limits::RESYNC);
            if let Some(id) = checker.name(&key, name) {
                engines.insert(id, EngineSettings { address: address.unwrap_or_else(default), resync });
            }
        }
        engines
    }
}
