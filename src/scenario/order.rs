//! What people order: `order …`, `by NAME order …`.

use super::happening::Happening;
use super::words::{Words, Wrong, name};
use crate::domain::command::{Order, Scope};
use crate::domain::id::ServerId;
use crate::domain::maintenance::Admin;

/// Who orders where a line names nobody.
pub(super) const USUAL: &str = "ada";

/// What follows `order`. Names of services and sites may be wrong here: that is what the answer is about.
pub(super) fn read(words: &mut Words<'_>, by: &str) -> Result<Happening, Wrong> {
    let order = match words.next("what is ordered")? {
        "failover" => failover(words)?,
        "failback" => {
            let (service, force) = (words.name("the service")?, words.take("force"));
            Order::Failback { service, seen: seen(words)?, force }
        }
        "pause" => {
            let scope = scope(words)?;
            Order::Pause { scope, lasts: words.lasts()? }
        }
        "resume" => Order::Resume { scope: scope(words)? },
        "drain" => maintain(words, Admin::Drain)?,
        "maint" => maintain(words, Admin::Maint)?,
        "ready" => maintain(words, Admin::Ready)?,
        "test" => {
            words.expect("alert")?;
            Order::TestAlert
        }
        word => {
            return Err(Wrong::new(
                word,
                "known here: failover, failback, pause, resume, drain, maint, ready, test alert",
            ));
        }
    };
    let because = match words.take("because") {
        true => Some(words.some_text("why")?),
        false => None,
    };
    Ok(Happening::Order { by: by.to_owned(), because, order })
}

/// `SERVICE SITE [force] [pin] [for TIME] [seen N]`, the latter in any order.
fn failover(words: &mut Words<'_>) -> Result<Order, Wrong> {
    let (service, to) = (words.name("the service")?, words.name("the site")?);
    let (mut force, mut pin, mut lasts, mut known) = (false, false, None, None);
    loop {
        match words.peek() {
            Some("force") => force = words.take("force"),
            Some("pin") => pin = words.take("pin"),
            Some("for") => lasts = words.lasts()?,
            Some("seen") => known = seen(words)?,
            Some(_) | None => break,
        }
    }
    Ok(Order::Failover { service, to, force, seen: known, lasts, pin })
}

/// `SERVICE/SERVER [force] [for TIME]`.
fn maintain(words: &mut Words<'_>, admin: Admin) -> Result<Order, Wrong> {
    let word = words.next("the server, as SERVICE/SERVER")?;
    let parts = word.split_once('/').ok_or_else(|| Wrong::new(word, "a server is SERVICE/SERVER"))?;
    let server = ServerId { service: name(parts.0)?, server: name(parts.1)? };
    let force = admin != Admin::Ready && words.take("force");
    let lasts = if admin == Admin::Ready { None } else { words.lasts()? };
    Ok(Order::Maintain { server, admin, lasts, force })
}

/// The route's generation that the person looked at.
fn seen(words: &mut Words<'_>) -> Result<Option<u64>, Wrong> {
    match words.take("seen") {
        true => Ok(Some(words.number("the generation", 0..=1_000_000)?)),
        false => Ok(None),
    }
}

fn scope(words: &mut Words<'_>) -> Result<Scope, Wrong> {
    let word = words.next("what it is about")?;
    word.parse().map_err(|error: String| Wrong::new(word, error))
}
