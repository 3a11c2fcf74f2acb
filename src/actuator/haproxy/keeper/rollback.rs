//! Going back to a configuration that HAProxy ran, and staying there: until the settings, or the template, lead to another one
//! than when it was ordered, or somebody orders `resume`.

use super::super::history::{self, Hold};
use super::super::template::Rendered;
use super::Wanted;
use crate::chain::chain;
use crate::clock::wall_now;
use crate::control::{Answer, Reply};
use crate::domain::Operator;

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

/// What is held in place of `rendered`, if anything is. A hold that was in place of another one has ended, and is removed.
///
/// # Errors
///
/// When the files cannot be read: nobody may take that for leave to load something else.
pub(super) async fn held(wanted: &Wanted, rendered: &Rendered) -> Result<Option<(Rendered, Hold)>, String> {
    let (file, owner) = (wanted.target.config_file.clone(), wanted.model.proxy.owner.to_string());
    let revision = rendered.revision.clone();
    on_disk(move || {
        let Some(hold) = history::held(&file).map_err(|error| chain(&error))? else { return Ok(None) };
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

/// Orders a configuration that HAProxy ran.
pub(super) async fn go_back(wanted: &Wanted, asked: Asked<'_>, to: Option<String>) -> Reply {
    let (file, owner) = (wanted.target.config_file.clone(), wanted.model.proxy.owner.to_string());
    let Asked { rendered, running, by, because, dry_run } = asked;
    let instead_of = rendered.revision.clone();
    let answer = on_disk(move || {
        let kept = history::list(&file).map_err(|error| chain(&error))?;
        let held = history::held(&file).map_err(|error| chain(&error))?;
        // An HAProxy that does not answer will run what was kept last.
        let now = running.or_else(|| kept.first().map(|entry| entry.revision.clone()));
        let entry =
            history::choose(&kept, to.as_deref(), now.as_deref()).map_err(|error| error.to_string())?;
        let revision = entry.revision.clone();
        let is_held = held.is_some_and(|held| held.revision == revision && held.instead_of == instead_of);
        if is_held || (revision == instead_of && now.as_deref() == Some(&revision)) {
            let words = format!("{revision} is what it runs already");
            return Ok(Reply { config: Some(revision), ..Reply::plain(Answer::AlreadySo, words, dry_run) });
        }
        if history::read(entry, &owner).map_err(|error| chain(&error))?.is_none() {
            return Err(format!("{revision} is not whole, or another supervisor wrote it: it is not loaded"));
        }
        // What the settings lead to needs no holding.
        let ends = match revision == instead_of {
            true => "it is what the settings lead to",
            false => "it is held until the settings or the template change, or `supervisor haproxy resume`",
        };
        let words = format!("HAProxy goes back to {revision}: {ends}");
        let plan = vec![format!(
            "load {revision} in place of {}",
            now.unwrap_or_else(|| "what is there".to_owned())
        )];
        if !dry_run {
            match revision == instead_of {
                true => {
                    history::release(&file).map_err(|error| chain(&error))?;
                }
                false => {
                    let at = wall_now();
                    let hold = Hold { revision: revision.clone(), instead_of, by, because, at };
                    history::hold(&file, &hold).map_err(|error| chain(&error))?;
                }
            }
        }
        Ok(Reply { plan, config: Some(revision), ..Reply::plain(Answer::Accepted, words, dry_run) })
    });
    answer.await.unwrap_or_else(|words| Reply::plain(Answer::Denied, words, dry_run))
}

/// Orders what the settings lead to.
pub(super) async fn resume(wanted: &Wanted, asked: Asked<'_>) -> Reply {
    let file = wanted.target.config_file.clone();
    let Asked { rendered, by, dry_run, .. } = asked;
    let revision = rendered.revision.clone();
    let answer = on_disk(move || {
        let Some(held) = history::held(&file).map_err(|error| chain(&error))? else {
            let words = "nothing is held: it runs what the settings lead to";
            return Ok(Reply { config: Some(revision), ..Reply::plain(Answer::AlreadySo, words, dry_run) });
        };
        if !dry_run {
            history::release(&file).map_err(|error| chain(&error))?;
            let by = by.name.unwrap_or_else(|| by.uid.to_string());
            tracing::info!(
                by,
                held = held.revision,
                "the configuration that was gone back to is held no longer"
            );
        }
        let words =
            format!("HAProxy gets what the settings lead to ({revision}), in place of {}", held.revision);
        let plan = vec![format!("load {revision} in place of {}", held.revision)];
        Ok(Reply { plan, config: Some(revision), ..Reply::plain(Answer::Accepted, words, dry_run) })
    });
    answer.await.unwrap_or_else(|words| Reply::plain(Answer::Denied, words, dry_run))
}

/// Disks may hang: not on the threads that move traffic.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err("the program ends".to_owned()))
}
