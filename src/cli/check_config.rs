//! `supervisor check-config`: every error in the settings at once, or what they come to.

use super::Exit;
use super::args::{Format, Global};
use super::output::Output;
use crate::settings::Settings;
use serde_json::json;

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let mut output = Output::standard();
    let path = global.config.display();
    match (Settings::load_for_command(&global.config), global.format) {
        (Ok(settings), Format::Text) => {
            let (services, servers) = (settings.services.len(), settings.servers.len());
            let proxies = settings.proxies.len();
            output
                .line(&format!("{path}: good ({services} services, {servers} servers, {proxies} HAProxy)"))?;
            Ok(Exit::Ok)
        }
        (Ok(_), Format::Json) => {
            output.json(&json!({ "ok": true, "problems": [] }))?;
            Ok(Exit::Ok)
        }
        (Err(problems), Format::Text) => {
            for problem in problems.iter() {
                output.line(&problem.to_string())?;
            }
            Ok(Exit::Usage)
        }
        (Err(problems), Format::Json) => {
            let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
            output.json(&json!({ "ok": false, "problems": words }))?;
            Ok(Exit::Usage)
        }
    }
}
