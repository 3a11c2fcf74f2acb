//! `supervisor render`: the HAProxy configuration that the settings lead to, or how it differs from the one that is there.

use super::args::{Format, Global, RenderArgs};
use super::output::Output;
use super::{Exit, Usage, wait_for};
use crate::daemon;
use crate::domain::id::ProxyId;
use crate::settings::Settings;
use serde_json::json;

pub(super) fn run(global: &Global, args: &RenderArgs) -> anyhow::Result<Exit> {
    let settings = Settings::load_for_command(&global.config)?;
    let proxy = meant(&settings, args.proxy)?;
    let mut output = Output::standard();
    wait_for(async {
        if !args.diff {
            let text = daemon::render(&settings, proxy).await?;
            output.text(&text)?;
            return Ok(Exit::Ok);
        }
        let difference = daemon::difference(&settings, proxy, None).await?;
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
pub(super) fn meant(settings: &Settings, named: Option<ProxyId>) -> Result<ProxyId, Usage> {
    let names = || settings.proxies.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match named {
        Some(name) if settings.proxies.contains_key(&name) => Ok(name),
        Some(name) => Err(Usage(format!("the settings have no HAProxy {name}; they have {}", names()))),
        None => match settings.proxies.keys().collect::<Vec<_>>().as_slice() {
            [only] => Ok(**only),
            _ => Err(Usage(format!("say which HAProxy: --proxy with one of {}", names()))),
        },
    }
}
