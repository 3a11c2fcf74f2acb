//! `supervisor render`: the HAProxy configuration that the settings lead to.

use super::args::{Global, RenderArgs};
use super::output::Output;
use super::{Exit, Usage, wait_for};
use crate::daemon;
use crate::settings::Settings;

pub(super) fn run(global: &Global, args: &RenderArgs) -> anyhow::Result<Exit> {
    let settings = Settings::load_for_command(&global.config)?;
    let names = || settings.proxies.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let proxy = match args.proxy {
        Some(name) if settings.proxies.contains_key(&name) => name,
        Some(name) => {
            return Err(Usage(format!("the settings have no HAProxy {name}; they have {}", names())).into());
        }
        None => match settings.proxies.keys().collect::<Vec<_>>().as_slice() {
            [only] => **only,
            _ => return Err(Usage(format!("say which HAProxy: --proxy with one of {}", names())).into()),
        },
    };
    wait_for(async {
        let text = daemon::render(&settings, proxy).await?;
        Output::standard().text(&text)?;
        Ok(Exit::Ok)
    })
}
