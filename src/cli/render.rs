//! `supervisor render`: the HAProxy configuration that the settings lead to, or how it differs from the one that is there.

use super::args::{Format, Global, RenderArgs};
use super::output::Output;
use super::{Exit, Usage, wait_for};
use crate::daemon;
use crate::domain::id::ProxyId;
use crate::settings::Settings;
use serde_json::json;

pub(super) fn run(global: &Global, args: &RenderArgs) -> anyhow::Result<Exit> {
    let mut output = Output::standard();
    if args.template {
        output.text(daemon::DEFAULT_TEMPLATE)?;
        return Ok(Exit::Ok);
    }
    let settings = Settings::load_for_command(&global.config)?;
    let proxy = meant(&settings, args.proxy)?;
    wait_for(async {
        if !args.diff {
            let text = daemon::render(&settings, proxy).await?;
            output.text(&text)?;
            return Ok(Exit::Ok);
        }
        let difference = daemon::difference(&settings, proxy).await?;
        match global.format {
            Format::Json => {
                let (there, text) = (&difference.there, &difference.text);
                output.json(&json!({ "same": text.is_empty(), "there": there, "diff": text }))?;
            }
            Format::Text => output.text(&difference.text)?,
        }
        if let Some(note) = &difference.note {
            output.note(note)?;
        }
        Ok(if difference.text.is_empty() { Exit::Ok } else { Exit::DIFFERENT })
    })
}

/// The one HAProxy that is meant.
fn meant(settings: &Settings, named: Option<ProxyId>) -> Result<ProxyId, Usage> {
    one_of(&settings.proxies.keys().copied().collect::<Vec<_>>(), named, "the settings")
}

/// The one of `known` that is meant; `whose` they are.
pub(super) fn one_of(known: &[ProxyId], named: Option<ProxyId>, whose: &str) -> Result<ProxyId, Usage> {
    let names = || known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (named, known) {
        (Some(name), known) if known.contains(&name) => Ok(name),
        (Some(name), _) => Err(Usage(format!("{whose} have no HAProxy {name}; they have {}", names()))),
        (None, [only]) => Ok(*only),
        (None, _) => Err(Usage(format!("say which HAProxy: --proxy with one of {}", names()))),
    }
}
