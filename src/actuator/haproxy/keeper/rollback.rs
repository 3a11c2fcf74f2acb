//! Going back to a configuration that HAProxy ran, and staying there: until the settings, or the template, lead to another one
//! than when it was ordered, or somebody orders `resume`.

use super::super::difference::unified;
use super::super::files::read_config;
use super::super::history::{self, History, Hold, IfRefused};
use super::super::template::Rendered;
use super::Wanted;
use crate::chain::chain;
use crate::clock::wall_now;
use crate::control::{Answer, Reply};
use crate::domain::Operator;
use crate::domain::event::BackStep;
use std::path::Path;

/// An order, and what it is judged by.
pub(super) struct Asked<'a> {
    /// What the settings lead to.
    pub(super) rendered: &'a Rendered,
    /// The revision that HAProxy runs, if it answers and runs one of ours.
    pub(super) running: Option<String>,
    pub(super) by: Operator,
    pub(super) because: Option<String>,
    pub(super) dry_run: bool,
}

/// What is held in place of `rendered`, if anything is. A hold that was in place of another one has ended, and is removed; one
/// of another supervisor is none of our business.
///
/// # Errors
///
/// When the files cannot be read: nobody may take that for leave to load something else.
pub(super) async fn held(wanted: &Wanted, rendered: &Rendered) -> Result<Option<(Rendered, Hold)>, String> {
    let (file, owner) = (wanted.target.config_file.clone(), wanted.model.proxy.owner.to_string());
    let (revision, take_over) = (rendered.revision.clone(), wanted.take_over);
    on_disk(move || {
        let Some(hold) = history::held(&file).map_err(|error| chain(&error))? else { return Ok(None) };
        if hold.owner != owner && !take_over {
            return Ok(None);
        }
        let kept = history::list(&file).map_err(|error| chain(&error))?;
        let entry = kept.iter().find(|entry| entry.revision == hold.revision);
        let text = entry.map(|entry| history::read(entry, &owner)).transpose().map_err(|error| chain(&error))?;
        match text.flatten() {
            Some(text) if hold.instead_of == revision => return Ok(Some((text, hold))),
            Some(_) => tracing::info!(
                held = hold.revision,
                now = revision,
                "the settings or the template have changed: the configuration that was gone back to is held no longer"
            ),
            None => tracing::warn!(
                held = hold.revision,
                "the configuration that was gone back to is no longer kept: what the settings lead to is loaded"
            ),
        }
        history::release(&file).map_err(|error| chain(&error))?;
        Ok(None)
    })
    .await
}

/// HAProxy runs what is held: whatever refuses it later, it stays held.
pub(super) async fn proved(wanted: &Wanted, hold: &Hold) {
    if hold.if_refused == IfRefused::KeepHolding {
        return;
    }
    let file = wanted.target.config_file.clone();
    let hold = Hold { if_refused: IfRefused::KeepHolding, ..hold.clone() };
    if let Err(error) = on_disk(move || history::hold(&file, &hold).map_err(|error| chain(&error))).await {
        // Tried again at the next look, in some seconds: not for the log of a production machine.
        tracing::debug!(error, "it is not on the disk that HAProxy has run what is held");
    }
}

/// HAProxy does not take what is held: what was held before is held again, or nothing.
pub(super) async fn give_up(wanted: &Wanted, hold: &Hold) -> Result<(), String> {
    let (file, refused) = (wanted.target.config_file.clone(), hold.clone());
    on_disk(move || {
        let done = match refused.if_refused {
            IfRefused::Release | IfRefused::KeepHolding => history::release(&file).map(|_| ()),
            IfRefused::HoldAgain(before) => history::hold(&file, &before),
        };
        done.map_err(|error| chain(&error))
    })
    .await
}

/// Orders a configuration that HAProxy ran.
pub(super) async fn go_back(
    wanted: &Wanted,
    asked: Asked<'_>,
    to: Option<String>,
) -> (Reply, Option<BackStep>) {
    let (file, owner) = (wanted.target.config_file.clone(), wanted.model.proxy.owner.to_string());
    let Asked { rendered, running, by, because, dry_run } = asked;
    let (instead_of, take_over) = (rendered.revision.clone(), wanted.take_over);
    let answer = on_disk(move || {
        let kept = history::list(&file).map_err(|error| chain(&error))?;
        let held = ours(history::held(&file).map_err(|error| chain(&error))?, &owner, take_over)?
            .filter(|held| held.instead_of == instead_of);
        // An HAProxy that does not answer will run what was kept last.
        let now = running.or_else(|| kept.first().map(|entry| entry.revision.clone()));
        let mut left: Vec<String> = held.iter().flat_map(|held| held.left.clone()).collect();
        left.extend(now.clone());
        let entry = history::choose(&kept, to.as_deref(), &left).map_err(|error| error.to_string())?;
        let revision = entry.revision.clone();
        let is_wanted = match &held {
            Some(held) => held.revision == revision,
            None => revision == instead_of,
        };
        if is_wanted && now.as_deref() == Some(&revision) {
            let words = format!("{revision} is what it runs already");
            let reply = Reply::plain(Answer::AlreadySo, words, dry_run);
            return Ok((Reply { config: Some(revision), ..reply }, None));
        }
        let Some(text) = history::read(entry, &owner).map_err(|error| chain(&error))? else {
            return Err(format!("{revision} is not whole, or another supervisor wrote it: it is not loaded"));
        };
        // What the settings lead to needs no holding.
        let ends = match revision == instead_of {
            true => "it is what the settings lead to",
            false => "it is held until the settings or the template change, or `supervisor haproxy resume`",
        };
        let words = format!("HAProxy goes back to {revision}: {ends}");
        let plan = vec![format!(
            "load {revision} in place of {}",
            now.clone().unwrap_or_else(|| "what is there".to_owned())
        )];
        let mut reply = Reply { plan, ..Reply::plain(Answer::Accepted, words, dry_run) };
        if dry_run {
            reply.difference = Some(compared(&file, &text.text, &format!("revision {revision}"))?);
        } else if revision == instead_of {
            history::release(&file).map_err(|error| chain(&error))?;
        } else {
            left.retain(|known| *known != revision);
            let more = left.len().saturating_sub(history::KEPT);
            left.drain(..more);
            let if_refused = match held {
                Some(held) if held.revision == revision => held.if_refused,
                // One that never ran is nothing to go on with.
                Some(Hold {
                    if_refused: before @ (IfRefused::Release | IfRefused::HoldAgain(_)), ..
                }) => before,
                Some(held) => IfRefused::HoldAgain(Box::new(held)),
                None => IfRefused::Release,
            };
            let (revision, at) = (revision.clone(), wall_now());
            let hold = Hold { owner, revision, instead_of, by, because, at, left, if_refused };
            history::hold(&file, &hold).map_err(|error| chain(&error))?;
        }
        reply.config = Some(revision.clone());
        Ok((reply, Some(BackStep::Ordered { revision, left: now })))
    });
    answer.await.unwrap_or_else(|words| (Reply::plain(Answer::Denied, words, dry_run), None))
}

/// Orders what the settings lead to.
pub(super) async fn resume(wanted: &Wanted, asked: Asked<'_>) -> (Reply, Option<BackStep>) {
    let (file, owner) = (wanted.target.config_file.clone(), wanted.model.proxy.owner.to_string());
    let Asked { rendered, running, dry_run, .. } = asked;
    let (rendered, take_over) = (rendered.clone(), wanted.take_over);
    let answer = on_disk(move || {
        let revision = rendered.revision;
        let held = ours(history::held(&file).map_err(|error| chain(&error))?, &owner, take_over)?;
        if held.is_none() && running.as_ref() == Some(&revision) {
            let words = "nothing is held: it runs what the settings lead to";
            let reply = Reply::plain(Answer::AlreadySo, words, dry_run);
            return Ok((Reply { config: Some(revision), ..reply }, None));
        }
        let held = held.map(|held| held.revision);
        let left = held.clone().or(running).unwrap_or_else(|| "what is there".to_owned());
        let words = match &held {
            Some(held) => {
                format!("HAProxy gets what the settings lead to ({revision}), in place of {held}")
            }
            None => format!("nothing is held: what the settings lead to ({revision}) is tried again"),
        };
        let plan = vec![format!("load {revision} in place of {left}")];
        let mut reply =
            Reply { plan, config: Some(revision.clone()), ..Reply::plain(Answer::Accepted, words, dry_run) };
        match dry_run {
            true => reply.difference = Some(compared(&file, &rendered.text, "the settings")?),
            false => {
                history::release(&file).map_err(|error| chain(&error))?;
            }
        }
        Ok((reply, Some(BackStep::Resumed { revision, held })))
    });
    answer.await.unwrap_or_else(|words| (Reply::plain(Answer::Denied, words, dry_run), None))
}

/// What is kept, and what runs.
pub(super) async fn told(wanted: &Wanted) -> Reply {
    let description = wanted.target.runtime.info().await.ok().and_then(|info| info.description);
    let file = wanted.target.config_file.clone();
    let read = on_disk(move || {
        let history = History::read(&file, description.as_deref()).map_err(|error| chain(&error))?;
        serde_json::to_value(history).map_err(|error| error.to_string())
    });
    match read.await {
        Ok(history) => {
            let reply = Reply::plain(Answer::AlreadySo, "what is kept", false);
            Reply { history: Some(history), ..reply }
        }
        Err(words) => Reply::plain(Answer::Denied, words, false),
    }
}

/// What is held, unless another supervisor holds it.
fn ours(held: Option<Hold>, owner: &str, take_over: bool) -> Result<Option<Hold>, String> {
    match held {
        Some(held) if held.owner != owner && !take_over => Err(format!(
            "another supervisor ({}) holds {} here: stop it, and start this one with `supervisor run --take-over`",
            held.owner, held.revision
        )),
        held => Ok(held),
    }
}

/// How the file would change.
fn compared(file: &Path, text: &str, name: &str) -> Result<String, String> {
    let there = read_config(file).map_err(|error| chain(&error))?;
    Ok(unified(&there, &file.display().to_string(), text, name))
}

/// Disks may hang: not on the threads that move traffic.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("the program ends".to_owned()))
}
