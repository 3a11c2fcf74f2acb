//! What HAProxy shows: `haproxy …` and `route`.

use super::cast::Cast;
use super::happening::Happening;
use super::words::{Words, Wrong, one_of, pair};
use crate::domain::event::ConfigSeen;
use crate::domain::id::{ProxyId, ServerId, ServiceId, SiteId};

/// What one look shows that an earlier one did not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// The map's entries that are different; none: it has no such entry.
    pub(super) routes: Vec<(ServiceId, Option<SiteId>)>,
    /// HAProxy's own checks, and whether it would use the server.
    pub(super) checks: Vec<(ServerId, Check)>,
    /// Where the answers came from since the look before.
    pub(super) serving: Vec<(ServiceId, SiteId)>,
    /// Whose HAProxy it is from now on.
    pub(super) owner: Option<Owner>,
}

/// What HAProxy's check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Check {
    /// The right answer.
    Layer7,
    /// A connection, and nothing more was asked.
    Layer4,
    /// HAProxy holds it to be down.
    Down,
}

/// Whose HAProxy it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    Us,
    Nobody,
    Other(String),
}

/// What follows `haproxy`.
pub(super) fn read(cast: &Cast, words: &mut Words<'_>, proxy: ProxyId) -> Result<Happening, Wrong> {
    Ok(match words.next("what HAProxy does")? {
        "sees" => Happening::Looks { proxy, look: look(cast, words)?, anew: false },
        "restarts" => Happening::Looks { proxy, look: look(cast, words)?, anew: true },
        "lost" => Happening::ProxyLost(proxy),
        "belongs" => {
            words.expect("to")?;
            let owner = match words.next("whose it is")? {
                "us" => Owner::Us,
                "nobody" => Owner::Nobody,
                other => Owner::Other(other.to_owned()),
            };
            Happening::Looks { proxy, look: Look { owner: Some(owner), ..Look::default() }, anew: false }
        }
        "routes" => routed(cast, words, proxy)?,
        "config" => {
            let config = match words.next("how its configuration stands")? {
                "loaded" => ConfigSeen::InForce { revision: words.next("its revision")?.to_owned() },
                "refused" => ConfigSeen::Refused { message: words.some_text("why")? },
                "contested" => ConfigSeen::Contested { message: words.some_text("what is loaded")? },
                "unproven" => ConfigSeen::Unproven { message: words.some_text("what was seen")? },
                word => {
                    return Err(Wrong::new(
                        word,
                        "known here: loaded REVISION, refused WORDS, contested WORDS, unproven WORDS",
                    ));
                }
            };
            Happening::Configured { proxy, config }
        }
        word => {
            let known = "sees, restarts, routes, lost, belongs to, config";
            return Err(Wrong::new(word, format!("known here: {known}")));
        }
    })
}

/// The services whose routes were taken; none: all.
pub(super) fn routed(cast: &Cast, words: &mut Words<'_>, proxy: ProxyId) -> Result<Happening, Wrong> {
    let mut services = Vec::new();
    while !words.is_empty() {
        services.push(cast.service_named(words.next("a service")?)?);
    }
    Ok(Happening::Routed { proxy, services })
}

/// `[SERVICE=SITE…] [check SERVER=WORD…] [serving SERVICE=SITE…]`.
fn look(cast: &Cast, words: &mut Words<'_>) -> Result<Look, Wrong> {
    enum Part {
        Routes,
        Checks,
        Serving,
    }
    let mut look = Look::default();
    let mut part = Part::Routes;
    while !words.is_empty() {
        match words.next("what it shows")? {
            "check" => part = Part::Checks,
            "serving" => part = Part::Serving,
            word => {
                let (name, value) = pair(word)?;
                match part {
                    Part::Routes if value == "none" => look.routes.push((cast.service_named(name)?, None)),
                    Part::Routes => {
                        look.routes.push((cast.service_named(name)?, Some(cast.site_named(value)?)));
                    }
                    Part::Checks => {
                        let known = [("L7OK", Check::Layer7), ("L4OK", Check::Layer4), ("down", Check::Down)];
                        look.checks.push((cast.server(name)?, one_of(value, &known)?));
                    }
                    Part::Serving => look.serving.push((cast.service_named(name)?, cast.site_named(value)?)),
                }
            }
        }
    }
    Ok(look)
}
